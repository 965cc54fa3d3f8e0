//! Our client half against our server half over loopback: the conformance suite over HTTP/1.1 in the clear and over
//! HTTP/2 under TLS (a minute of work, most of it large files), trust, and the end.
#![cfg(all(feature = "client", feature = "server"))]

use std::sync::{Arc, Mutex};

use crate::support::*;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use proto_webdav::client::{WebdavConnectOptions, WebdavRemote, certificate_of, connect};
use proto_webdav::server::WebdavServerOptions;
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query, Unattended};
use session_core::conformance::{self, Subject};
use session_core::error::ErrorKind;
use session_core::fs::{CommitOptions, Filesystem, Follow, OpenOptions};
use session_core::fs_ext::FilesystemExt as _;
use session_core::net::server_tls::ServerTls;
use session_core::session::{Actor, Ending};
use session_core::store::memory::MemoryStore;
use session_core::trust::{CertificateFingerprint, TrustDecision};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers as told, and remembers what was asked.
struct Told(Answer, Mutex<Vec<Query>>);

#[async_trait]
impl Decider for Told {
    async fn decide(&self, query: Query) -> Answer {
        self.1.lock().unwrap().push(query);
        self.0.clone()
    }
}

fn told(answer: Answer) -> Arc<Told> {
    Arc::new(Told(answer, Mutex::default()))
}

fn to(server: &Running) -> WebdavConnectOptions {
    let mut options = WebdavConnectOptions::new("127.0.0.1", server.address.port());
    options.secure = false;
    options.user = Some("demo".into());
    options.password = Some(Secret::new("demo"));
    // Cases run side by side, and each open file has a connection of its own.
    options.connections = 32;
    options
}

async fn enter(options: WebdavConnectOptions) -> WebdavRemote {
    connect(options, told(Answer::Trust(TrustDecision::Accept))).await.unwrap_or_else(|e| panic!("{e:#}"))
}

async fn suite(remote: WebdavRemote) {
    let mut subject = Subject::new(Arc::new(remote.clone()));
    // Which file stands under a name, nobody tells.
    subject.profile.knows_files = false;
    // A request that is given up is torn, and its beginning thrown away.
    subject.profile.keeps_given_up = false;
    let report = conformance::run_all(&subject).await;
    assert!(report.failures().is_empty(), "{report}");
    assert!(report.passed() >= 100, "{report}");
    remote.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_in_the_clear() {
    let server = start_site(options(), TestSite::over(Arc::new(MemoryStore::new()))).await;
    suite(enter(to(&server)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_over_http_2() {
    let (_files, tls) = tls();
    let site = TestSite::over(Arc::new(MemoryStore::new()));
    let server = start_site(WebdavServerOptions { tls: Some(tls), ..options() }, site).await;
    let mut options = to(&server);
    options.secure = true;
    let remote = enter(options).await;
    assert!(remote.tls_words().is_some_and(|w| w.starts_with("TLSv1.3")));
    suite(remote).await;
}

#[tokio::test]
async fn trust_is_asked_for_or_pinned_and_never_assumed() {
    let (_files, tls) = tls();
    let server = start(WebdavServerOptions { tls: Some(Arc::clone(&tls)), ..options() }).await;
    let mut options = to(&server);
    options.secure = true;
    let e = connect(options.clone(), Arc::new(Unattended)).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    let no = told(Answer::Trust(TrustDecision::Reject));
    let e = connect(options.clone(), Arc::clone(&no) as Arc<dyn Decider>).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    assert!(matches!(no.1.lock().unwrap().as_slice(), [Query::Certificate { .. }]));
    // A password was never told.
    assert_eq!(server.site.users.lock().unwrap().asked.load(std::sync::atomic::Ordering::SeqCst), 0);
    let shown = certificate_of(options.clone()).await.unwrap();
    assert_eq!(shown.fingerprint().replace(':', ""), tls.fingerprint().replace(':', "").to_ascii_lowercase());
    options.tls.fingerprints = vec![CertificateFingerprint::Sha256(shown.sha256)];
    connect(options.clone(), Arc::new(Unattended)).await.unwrap();
    options.tls.fingerprints = vec![CertificateFingerprint::Sha256([1; 32])];
    let yes = told(Answer::Trust(TrustDecision::Accept));
    let e = connect(options, Arc::clone(&yes) as Arc<dyn Decider>).await.map(drop).unwrap_err();
    assert_eq!((e.kind(), yes.1.lock().unwrap().len()), (ErrorKind::Unauthenticated, 0));
}

/// The head of the first request that comes to a server of TLS, which lets nobody in.
async fn first_head(listener: TcpListener, tls: Arc<ServerTls>) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = TlsAcceptor::from(tls.config()).accept(stream).await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "no whole request came");
    }
    let answer =
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\", Bearer\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn over_tls_a_login_that_was_given_goes_with_the_first_request_and_once() {
    let (_files, tls) = tls();
    for (token, told) in [(false, "basic zgvtbzpkzw1v"), (true, "bearer the-token")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = WebdavConnectOptions::new("127.0.0.1", listener.local_addr().unwrap().port());
        options.user = Some("demo".into());
        options.password = Some(Secret::new("demo"));
        options.token = token.then(|| Secret::new("the-token"));
        options.tls.fingerprints = vec![CertificateFingerprint::parse(&tls.fingerprint()).unwrap()];
        let head = tokio::spawn(first_head(listener, Arc::clone(&tls)));
        let e = connect(options, Arc::new(Unattended)).await.map(drop).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
        let head = head.await.unwrap();
        assert!(head.contains(&format!("authorization: {told}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_password_is_asked_for_where_none_was_given() {
    let server = start(options()).await;
    let mut options = to(&server);
    options.password = None;
    let asked = told(Answer::Secret(Secret::new("demo")));
    connect(options.clone(), Arc::clone(&asked) as Arc<dyn Decider>).await.unwrap();
    assert!(
        matches!(asked.1.lock().unwrap().as_slice(), [Query::Password { who }] if who == "demo@127.0.0.1")
    );
    let e = connect(options, told(Answer::Secret(Secret::new("wrong")))).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
}

/// Content that is larger than anything is kept in between.
#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_both_ways_and_a_range_is_a_range() {
    let (_files, tls) = tls();
    let server = start(WebdavServerOptions { tls: Some(tls), ..options() }).await;
    let data: Vec<u8> = (0..5_000_000u32).map(|n| (n / 253 + n) as u8).collect();
    for secure in [false, true] {
        let plain;
        let mut options = if secure {
            to(&server)
        } else {
            plain = start(crate::support::options()).await;
            to(&plain)
        };
        options.secure = secure;
        let remote = enter(options).await;
        for hint in [Some(data.len() as u64), None] {
            let open = OpenOptions { size_hint: hint, ..OpenOptions::create() };
            let file = remote.open(&p("/f"), &open).await.unwrap();
            for (n, part) in data.chunks(300_000).enumerate() {
                file.write_at(n as u64 * 300_000, Bytes::copy_from_slice(part)).await.unwrap();
            }
            assert_eq!(file.commit(&CommitOptions::default()).await.unwrap().size, 5_000_000);
            assert!(remote.read_to_vec(&p("/f"), 8 << 20).await.unwrap() == data);
            let file = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
            let got = file.read_into(4_000_000, 1000, BytesMut::new()).await.unwrap();
            assert_eq!(got, data[4_000_000..4_000_000 + got.len()]);
        }
        remote.close().await;
        assert_eq!(remote.stat(&p("/f"), Follow::Yes).await.unwrap_err().kind(), ErrorKind::Canceled);
    }
}

#[tokio::test]
async fn a_session_that_is_cut_lets_nothing_through() {
    let server = start(options()).await;
    let remote = enter(to(&server)).await;
    let file = remote
        .open(&p("/f"), &OpenOptions { size_hint: Some(9_000_000), ..OpenOptions::create() })
        .await
        .unwrap();
    file.write_at(0, Bytes::from(vec![1; 400_000])).await.unwrap();
    remote.session().cut(Ending::new("enough", Actor::Client));
    let e = async {
        file.write_at(400_000, Bytes::from(vec![1; 8_600_000])).await?;
        file.commit(&CommitOptions::default()).await
    };
    assert!(e.await.is_err());
    // What arrived is kept for its owner, and for nobody else.
    let other = enter(WebdavConnectOptions { user: Some("other".into()), ..to(&server) }).await;
    assert_eq!(other.stat(&p("/f"), Follow::Yes).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}
