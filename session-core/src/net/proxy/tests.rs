//! Proxies spoken to over a pipe: every answer, cut anywhere, and those that mean harm.

use std::time::Duration;

use tokio::io::duplex;
use tokio::net::TcpListener;

use super::command::{Tokens, expand};
use super::environment::{choose, excludes};
use super::*;
use crate::net::dial::Dial;

fn login() -> Option<Login> {
    Some(Login { user: "ann".into(), password: Secret::new("hush") })
}

fn name(host: &str) -> Target {
    Target::parse(host, 22).unwrap()
}

#[test]
fn proxies_are_read_from_urls_and_show_no_secret() {
    let at = |host: &str, port| Endpoint::new(host, port);
    for (text, want) in [
        ("none", Proxy::Direct),
        ("socks5://h", Proxy::Socks5 { at: at("h", 1080), login: None }),
        ("SOCKS5H://ann:hush@h:9/", Proxy::Socks5 { at: at("h", 9), login: login() }),
        ("http://a%6en:h%75sh@[::1]:3128", Proxy::Http { at: at("::1", 3128), login: login() }),
        ("h:3128", Proxy::Http { at: at("h", 3128), login: None }),
        ("http://h", Proxy::Http { at: at("h", 80), login: None }),
        ("socks4://h", Proxy::Socks4 { at: at("h", 1080), user: String::new(), names_by_proxy: false }),
        ("socks4a://ann@h", Proxy::Socks4 { at: at("h", 1080), user: "ann".into(), names_by_proxy: true }),
        ("command: nc %h %p", Proxy::Command("nc %h %p".into())),
    ] {
        assert_eq!(Proxy::parse(text).unwrap(), want, "{text}");
    }
    for bad in [
        "",
        "socks5://",
        "gopher://h",
        "socks5://h:0",
        "socks5://::1",
        "http://u:hush@h/x",
        "command: ",
        "http://u:hush%zz@h",
        "socks5://[::1",
        "http://u:hush@h:port",
    ] {
        let e = Proxy::parse(bad).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}");
        assert!(!format!("{e:#}").contains("hush"), "{e:#}");
    }
    assert_eq!(Proxy::parse("https://h").unwrap_err().kind(), ErrorKind::Unsupported);
    let shown = format!("{:?} {0}", Proxy::parse("socks5://ann:hush@h").unwrap());
    assert!(!shown.contains("hush"), "{shown}");
    let mut dial = Dial::new("h", 1);
    dial.proxy = Proxy::Http { at: at("h", 1), login: login() };
    assert!(!format!("{dial:?}").contains("hush"));
    assert!(!format!("{:?}", http::request(&name("h"), login().as_ref())).contains("YW5uOmh1c2g"));
}

#[test]
fn requests_have_the_bytes_of_their_standards() {
    let v4 = name("10.1.2.3");
    assert_eq!(socks::request4(&v4, "u").unwrap(), [4, 1, 0, 22, 10, 1, 2, 3, b'u', 0]);
    assert_eq!(socks::request4(&name("h.x"), "").unwrap(), [4, 1, 0, 22, 0, 0, 0, 1, 0, b'h', b'.', b'x', 0]);
    assert_eq!(socks::request4(&name("::1"), "").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(socks::request4(&name("::ffff:1.2.3.4"), "").unwrap()[4..8], [1, 2, 3, 4]);
    assert_eq!(socks::request5(&v4).unwrap(), [5, 1, 0, 1, 10, 1, 2, 3, 0, 22]);
    assert_eq!(socks::request5(&name("h.x")).unwrap(), [5, 1, 0, 3, 3, b'h', b'.', b'x', 0, 22]);
    let six = socks::request5(&name("2001:db8::1")).unwrap();
    assert_eq!((six.len(), six[3], six[19]), (22, 4, 1));
    assert_eq!(socks::login5(&login().unwrap()).unwrap(), b"\x01\x03ann\x04hush");
    // The longest that fits, and one more.
    let long = |n| Login { user: "u".repeat(n), password: Secret::new("") };
    assert_eq!(socks::login5(&long(255)).unwrap().len(), 258);
    assert!(socks::login5(&long(256)).is_err() && socks::request4(&v4, &"u".repeat(256)).is_err());
    assert_eq!(socks::request5(&name(&"n".repeat(255))).unwrap().len(), 262);
    for bad in ["", "a b", "a\r\nHost: x", "a/b", "u@h", &"n".repeat(256), "%65"] {
        assert_eq!(Target::parse(bad, 22).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
    assert_eq!(
        http::request(&name("h.x"), login().as_ref()).expose(),
        "CONNECT h.x:22 HTTP/1.1\r\nHost: h.x:22\r\nProxy-Authorization: Basic YW5uOmh1c2g=\r\n\r\n"
    );
    assert!(http::request(&name("::1"), None).expose().starts_with("CONNECT [::1]:22 HTTP/1.1\r\n"));
}

/// What comes of a proxy that says exactly this and then hangs up; and how much of it was left.
async fn scripted(proxy: &str, says: &[u8]) -> (Result<(), Failure>, usize) {
    let proxy = Proxy::parse(proxy).unwrap();
    let (mut ours, mut theirs) = duplex(1 << 16);
    let says = says.to_vec();
    let talk = tokio::spawn(async move {
        theirs.write_all(&says).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut sink = Vec::new();
        let _ = theirs.read_to_end(&mut sink).await;
    });
    let result = negotiate(&proxy, &mut ours, &name("server.test")).await;
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).await.unwrap();
    drop(ours);
    talk.await.unwrap();
    (result, rest.len())
}

#[tokio::test]
async fn a_good_answer_is_read_to_its_last_byte_and_no_further() {
    for (proxy, says) in [
        ("socks4a://h", &b"\0\x5a\0\0\0\0\0\0SSH-"[..]),
        ("socks5://h", b"\x05\0\x05\0\0\x01\x01\x02\x03\x04\0\0SSH-"),
        ("socks5://h", b"\x05\0\x05\0\0\x04aaaabbbbccccdddd\0\0SSH-"),
        ("socks5://h", b"\x05\0\x05\0\0\x03\0\0\0SSH-"),
        ("socks5://h", b"\x05\0\x05\0\0\x03\x02ab\0\0SSH-"),
        ("socks5://u:p@h", b"\x05\x02\x01\0\x05\0\0\x01\x01\x02\x03\x04\0\0SSH-"),
        ("socks5://u:p@h", b"\x05\0\x05\0\0\x01\x01\x02\x03\x04\0\0SSH-"),
        ("http://h", b"HTTP/1.0 200 OK\r\n\r\nSSH-"),
        ("http://h", b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nSSH-"),
        ("http://h", b"HTTP/1.1 100 wait\r\n\r\nHTTP/1.1 299 x\nVia: y\n\nSSH-"),
    ] {
        let (result, left) = scripted(proxy, says).await;
        assert!(
            result.is_ok() && left == 4,
            "{proxy} {:?}: {result:?}, {left}",
            String::from_utf8_lossy(says)
        );
        // Wherever it breaks off, it is an error, and never a wait without end.
        for cut in 0..says.len() - 4 {
            let (result, _) = scripted(proxy, &says[..cut]).await;
            let (side, e) = result.unwrap_err();
            assert_eq!((side, e.kind()), (Side::Proxy, ErrorKind::Disconnected), "{proxy} {cut}");
        }
    }
}

#[tokio::test]
async fn every_no_says_whose_it_is() {
    use ErrorKind as K;
    let bound = |code: u8| [&[5, 0, 5, code, 0, 1][..], &[0; 6]].concat();
    let mut cases = vec![
        ("socks4a://h", b"\0\x5b\0\0\0\0\0\0".to_vec(), Side::Target, K::Disconnected),
        ("socks4a://h", b"\0\x5d\0\0\0\0\0\0".to_vec(), Side::Proxy, K::Unauthenticated),
        ("socks4a://h", b"\x05\x5a\0\0\0\0\0\0".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("socks5://h", b"\x05\xff".to_vec(), Side::Proxy, K::Unauthenticated),
        ("socks5://h", b"\x05\x02".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("socks5://h", b"\x04\0".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("socks5://h", b"HTTP/1.1 400 Bad\r\n\r\n".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("socks5://u:p@h", b"\x05\x02\x01\x01".to_vec(), Side::Proxy, K::Unauthenticated),
        ("socks5://u:p@h", b"\x05\x02\x09\0".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("socks5://h", b"\x05\0\x05\0\0\x02".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("http://h", b"SSH-2.0-x\r\n".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("http://h", b"HTTP/1.1 +20 OK\r\n\r\n".to_vec(), Side::Proxy, K::PeerMisbehaved),
        ("http://h", b"HTTP/1.1 407 x\r\n\r\n".to_vec(), Side::Proxy, K::Unauthenticated),
        ("http://h", b"HTTP/1.1 403 x\r\n\r\n".to_vec(), Side::Proxy, K::Refused),
        ("http://h", b"HTTP/1.1 502 x\r\n\r\n".to_vec(), Side::Target, K::Disconnected),
        ("http://h", b"HTTP/1.1 504 x\r\n\r\n".to_vec(), Side::Target, K::TimedOut),
        ("http://h", b"HTTP/1.1 302 x\r\nLocation: y\r\n\r\n".to_vec(), Side::Proxy, K::Refused),
        ("http://h", b"HTTP/1.1 100 x\r\n\r\n".repeat(9), Side::Proxy, K::PeerMisbehaved),
    ];
    for (code, side, kind) in [
        (1, Side::Proxy, K::Disconnected),
        (2, Side::Proxy, K::Refused),
        (3, Side::Target, K::Disconnected),
        (4, Side::Target, K::NotFound),
        (5, Side::Target, K::Disconnected),
        (6, Side::Target, K::TimedOut),
        (7, Side::Proxy, K::Unsupported),
        (8, Side::Proxy, K::Unsupported),
        (9, Side::Proxy, K::PeerMisbehaved),
    ] {
        cases.push(("socks5://h", bound(code), side, kind));
    }
    for (proxy, says, side, kind) in cases {
        let (result, _) = scripted(proxy, &says).await;
        let (s, e) = result.unwrap_err();
        assert_eq!((s, e.kind()), (side, kind), "{proxy} {:?}: {e}", String::from_utf8_lossy(&says));
        assert!(!e.to_string().contains("hush"));
    }
}

#[tokio::test]
async fn an_endless_head_is_cut_off() {
    let long = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; http::LARGEST]].concat();
    let (_, e) = scripted("http://h", &long).await.0.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PeerMisbehaved);
    // The longest that is taken.
    let mut head = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    head.resize(http::LARGEST - 4, b'a');
    head.extend(b"\r\n\r\n");
    assert!(scripted("http://h", &head).await.0.is_ok());
}

#[tokio::test]
async fn a_silent_proxy_and_one_that_is_not_there_are_told_from_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["socks4a", "socks5", "http"] {
        let mut dial = Dial::new("server.test", 22);
        dial.proxy = Proxy::parse(&format!("{scheme}://127.0.0.1:{port}")).unwrap();
        dial.timeout = Duration::from_millis(100);
        let e = dial.tcp().await.unwrap_err();
        assert_eq!((e.kind(), ProxyError::of(&e).unwrap().side), (ErrorKind::TimedOut, Side::Proxy), "{e}");
    }
    drop(listener);
    let mut dial = Dial::new("server.test", 22);
    dial.proxy = Proxy::parse(&format!("socks5://127.0.0.1:{port}")).unwrap();
    let e = dial.tcp().await.unwrap_err();
    assert_eq!((e.kind(), ProxyError::of(&e).unwrap().side), (ErrorKind::Disconnected, Side::Proxy));
    assert!(e.to_string().contains("the proxy cannot be reached"), "{e}");
    // Without a proxy nobody blames one.
    dial = Dial::new("127.0.0.1", port);
    assert!(ProxyError::of(&dial.tcp().await.unwrap_err()).is_none());
    dial.proxy = Proxy::parse("command:cat").unwrap();
    assert_eq!(dial.tcp().await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn the_source_address_and_the_family_are_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut dial = Dial::new("127.0.0.1", listener.local_addr().unwrap().port());
    dial.source = Some("127.0.0.9".parse().unwrap());
    let (ours, theirs) = tokio::join!(dial.tcp(), listener.accept());
    assert_eq!(theirs.unwrap().1.ip().to_string(), "127.0.0.9");
    drop(ours.unwrap());
    dial.source = Some("::1".parse().unwrap());
    assert_eq!(dial.tcp().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    dial.source = None;
    dial.family = crate::net::dial::Family::V6;
    let e = dial.tcp().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
}

#[test]
fn the_environment_is_read_as_curl_reads_it() {
    for (list, host, port, yes) in [
        ("*", "any", 1, true),
        ("example.com", "example.com", 22, true),
        ("example.com", "WWW.Example.COM.", 22, true),
        (".example.com", "example.com", 22, true),
        ("*.example.com", "a.example.com", 22, true),
        ("example.com", "notexample.com", 22, false),
        ("a.test, example.com", "example.com", 22, true),
        ("a.test example.com", "example.com", 22, true),
        ("example.com:22", "example.com", 22, true),
        ("example.com:23", "example.com", 22, false),
        ("10.0.0.0/8", "10.200.0.1", 22, true),
        ("10.0.0.0/8", "11.0.0.1", 22, false),
        ("10.0.0.0/8", "10.example", 22, false),
        ("192.168.1.1", "192.168.1.1", 22, true),
        ("192.168.1.1:22", "192.168.1.1", 22, true),
        ("1.1", "192.168.1.1", 22, false),
        ("::1", "[::1]", 22, true),
        ("[::1]", "::1", 22, true),
        ("[::1]:22", "::1", 22, true),
        ("fe80::/10", "fe80::1", 22, true),
        ("", "h", 22, false),
        (",,", "h", 22, false),
        ("localhost", "127.0.0.1", 22, false),
    ] {
        assert_eq!(excludes(list, host, port), yes, "{list:?} {host}:{port}");
    }
    let all = Some("socks5://p");
    assert_eq!(choose(None, Some("h"), "h", 22).unwrap(), Proxy::Direct);
    assert_eq!(choose(all, Some("h"), "h", 22).unwrap(), Proxy::Direct);
    assert_eq!(choose(all, Some("x"), "h", 22).unwrap().to_string(), "socks5://p:1080");
    assert!(choose(Some("nonsense://p"), None, "h", 22).is_err());
}

#[test]
fn a_shell_gets_nothing_from_a_host_that_it_could_read() {
    let tokens = |host, user| Tokens { host, port: 2022, user, written: "alias" };
    assert_eq!(expand("x %h %p %r %n %%", &tokens("h.x", "ann")).unwrap(), "x h.x 2022 ann alias %");
    assert_eq!(expand("nc %h", &tokens("fe80::1", "a")).unwrap(), "nc fe80::1");
    // What is not used harms nobody.
    assert_eq!(expand("nc %p", &tokens("$(x)", "`x`")).unwrap(), "nc 2022");
    for bad in ["$(x)", "`x`", "a;b", "a b", "a\nb", "-oX", "a|b", "a'b", "a\"b", "a\\b", "*"] {
        assert_eq!(expand("%h", &tokens(bad, "u")).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        assert_eq!(expand("%r", &tokens("h", bad)).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
    for bad in ["%x", "%"] {
        assert_eq!(expand(bad, &tokens("h", "u")).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
}

#[tokio::test]
async fn a_command_is_the_connection_and_dies_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut dial = Dial::new("server.test", 22);
    // The shell is replaced by what it runs, so the process is the one that is killed.
    dial.proxy = Proxy::Command(format!("sh -c 'echo $$ > {}; echo %h:%p; exec cat'", pid_file.display()));
    let mut stream = dial.open().await.unwrap();
    stream.write_all(b"and back").await.unwrap();
    let mut all = vec![0; "server.test:22\nand back".len()];
    stream.read_exact(&mut all).await.unwrap();
    assert_eq!(all, b"server.test:22\nand back");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(alive());
    drop(stream);
    while alive() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_command_that_fails_says_why() {
    let mut dial = Dial::new("server.test", 22);
    dial.proxy = Proxy::Command("sh -c 'echo no way >&2; exit 3'".into());
    let mut stream = dial.open().await.unwrap();
    let e = stream.read_u8().await.unwrap_err();
    assert!(e.to_string().contains("no way"), "{e}");
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}
