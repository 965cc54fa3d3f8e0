//! Whole connections through a proxy that really connects.

#[path = "../support/proxy.rs"]
mod support;

use session_core::error::ErrorKind;
use session_core::net::dial::Dial;
use session_core::net::proxy::{Proxy, ProxyError, Side};
use support::TestProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that greets first, as SSH and FTP do, and then echoes.
async fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut s, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                s.write_all(b"220 hello\r\n").await.unwrap();
                let (mut r, mut w) = s.split();
                let _ = tokio::io::copy(&mut r, &mut w).await;
            });
        }
    });
    port
}

fn dial(host: &str, port: u16, proxy: &str, at: u16) -> Dial {
    let mut dial = Dial::new(host, port);
    dial.proxy = Proxy::parse(&format!("{proxy}127.0.0.1:{at}")).unwrap();
    dial
}

#[tokio::test]
async fn every_kind_carries_every_byte_and_resolves_names_itself() {
    let port = server().await;
    let proxy = TestProxy::start(None, &[]).await;
    let mut asked = Vec::new();
    for (scheme, host, noted) in [
        ("socks4://", "127.0.0.1", format!("socks4 127.0.0.1:{port}")),
        ("socks4://", "localhost", format!("socks4 127.0.0.1:{port}")),
        ("socks4a://", "server.test", format!("socks4a server.test:{port}")),
        ("socks5://", "server.test", format!("socks5 server.test:{port}")),
        ("socks5://", "127.0.0.1", format!("socks5 127.0.0.1:{port}")),
        ("http://", "server.test", format!("http server.test:{port}")),
    ] {
        let mut stream = dial(host, port, scheme, proxy.port).tcp().await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut all = [0; 15];
        stream.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"220 hello\r\nping");
        asked.push(noted);
    }
    assert_eq!(proxy.asked(), asked);
}

#[tokio::test]
async fn a_login_is_given_and_a_wrong_one_is_the_proxys_no() {
    let port = server().await;
    let proxy = TestProxy::start(Some(("ann", "hu:sh")), &[]).await;
    for scheme in ["socks5://ann:hu%3ash@", "http://ann:hu%3ash@", "socks4a://ann@"] {
        dial("server.test", port, scheme, proxy.port).tcp().await.unwrap();
    }
    for scheme in ["socks5://ann:no@", "socks5://", "http://ann:no@", "http://", "socks4a://bob@"] {
        let e = dial("server.test", port, scheme, proxy.port).tcp().await.unwrap_err();
        assert_eq!(
            (e.kind(), ProxyError::of(&e).unwrap().side),
            (ErrorKind::Unauthenticated, Side::Proxy),
            "{e}"
        );
    }
    assert_eq!(proxy.asked().len(), 3, "nothing is asked for without a login");
}

#[tokio::test]
async fn a_rule_of_the_proxy_is_told_from_a_server_that_is_not_there() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let proxy = TestProxy::start(None, &["secret.test"]).await;
    for scheme in ["socks5://", "http://"] {
        for (host, kind, side) in [
            ("secret.test", ErrorKind::Refused, Side::Proxy),
            ("server.test", ErrorKind::Disconnected, Side::Target),
        ] {
            let e = dial(host, gone, scheme, proxy.port).tcp().await.unwrap_err();
            assert_eq!((e.kind(), ProxyError::of(&e).unwrap().side), (kind, side), "{e}");
        }
    }
}
