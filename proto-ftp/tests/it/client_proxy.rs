//! FTP through proxies that really connect: control and data connections, in the clear and under TLS.
#![cfg(all(feature = "client", feature = "server"))]

use std::sync::Arc;
use std::time::Duration;

use crate::proxy::TestProxy;
use crate::support::*;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use proto_ftp::client::{DataMode, FtpConnectOptions, Security, connect};
use proto_ftp::server::{ControlPolicy, DataPolicy, FtpServerOptions};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::ErrorKind;
use session_core::fs::{Filesystem, OpenOptions};
use session_core::net::proxy::{Proxy, ProxyError, Side};
use session_core::trust::TrustDecision;

struct Trusting;

#[async_trait]
impl Decider for Trusting {
    async fn decide(&self, _query: Query) -> Answer {
        Answer::Trust(TrustDecision::Accept)
    }
}

fn through(server: &Running, security: Security, proxy: &str) -> FtpConnectOptions {
    let mut options = FtpConnectOptions::new("server.test", server.address.port(), "demo");
    options.password = Some(Secret::new("demo"));
    options.security = security;
    options.proxy = Proxy::parse(proxy).unwrap();
    options.timeout = Duration::from_secs(10);
    options
}

#[tokio::test]
async fn both_kinds_of_connection_go_through_the_proxy() {
    let (control_policy, data_policy) = (ControlPolicy::Allow, DataPolicy::Allow);
    let server = start(FtpServerOptions { control_policy, data_policy, ..pair::secured() }).await;
    let proxy = TestProxy::start(Some(("bea", "hush")), &[]).await;
    for (scheme, security) in [
        ("socks5://bea:hush", Security::Plain),
        ("http://bea:hush", Security::Explicit),
        ("socks4a://bea", Security::Explicit),
    ] {
        let before = proxy.asked().len();
        let way = format!("{scheme}@127.0.0.1:{}", proxy.port);
        let remote = connect(through(&server, security, &way), Arc::new(Trusting)).await.unwrap();
        let fs: &dyn Filesystem = &remote;
        let data = Bytes::from(vec![b'x'; 300_000]);
        let file = fs.open(&p("/file"), &OpenOptions::create()).await.unwrap();
        file.write_at(0, data.clone()).await.unwrap();
        file.commit(&Default::default()).await.unwrap();
        let file = fs.open(&p("/file"), &OpenOptions::read()).await.unwrap();
        let mut back = BytesMut::new();
        while back.len() < data.len() {
            let had = back.len();
            back = file.read_into(had as u64, 1 << 20, back).await.unwrap();
            assert!(back.len() > had);
        }
        assert!(back == data);
        drop(file);
        remote.close().await;
        // The control connection and, for each transfer, a data connection: all to the server's name, which
        // only the proxy can resolve.
        let asked = proxy.asked().split_off(before);
        assert!(asked.len() >= 3, "{asked:?}");
        let protocol = scheme.split(':').next().unwrap();
        assert!(asked.iter().all(|a| a.starts_with(&format!("{protocol} server.test:"))), "{asked:?}");
        let ports: std::collections::BTreeSet<&str> =
            asked.iter().filter_map(|a| a.rsplit(':').next()).collect();
        assert!(ports.len() >= 2, "{asked:?}");
    }
}

#[tokio::test]
async fn the_proxys_no_is_told_and_active_mode_is_refused_beforehand() {
    let server = start(options()).await;
    let proxy = TestProxy::start(None, &["server.test"]).await;
    let way = format!("http://127.0.0.1:{}", proxy.port);
    let enter =
        |o: FtpConnectOptions| async { connect(o, Arc::new(Trusting)).await.map(|_| ()).unwrap_err() };
    let e = enter(through(&server, Security::Plain, &way)).await;
    assert_eq!((e.kind(), ProxyError::of(&e).unwrap().side), (ErrorKind::Refused, Side::Proxy), "{e}");
    let mut active = through(&server, Security::Plain, &way);
    active.mode = DataMode::Active;
    assert_eq!(enter(active).await.kind(), ErrorKind::InvalidArgument);
    let e = enter(through(&server, Security::Plain, "command:cat")).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    assert_eq!(proxy.asked().len(), 1);
}
