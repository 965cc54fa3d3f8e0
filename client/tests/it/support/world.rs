//! Our own servers on loopback, over any store, for tests of the client; and a proxy that cuts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proto_ftp::server::{FtpServer, FtpServerOptions};
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::{HostKeys, SshServer, SshServerOptions};
use session_core::auth::*;
use session_core::error::Result;
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::net::server_tls::{ServerTls, ServerTlsOptions, self_signed};
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Anybody may log in with the password `secret`.
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn methods(&self, _: &Arc<Session>, _: &str) -> Vec<Method> {
        vec![Method::Password]
    }

    async fn questions(&self, _: &Arc<Session>, _: &str) -> Vec<Question> {
        vec![]
    }

    async fn verify(&self, _: &Arc<Session>, user: &str, credential: &Credential, _: &[Method]) -> Proof {
        match credential {
            Credential::Password(p) if p.expose() == "secret" => Proof::Complete(Account::named(user)),
            _ => Proof::Rejected("no".into()),
        }
    }

    async fn vouched(&self, _: &Arc<Session>, _: &str) -> Option<Account> {
        None
    }
}

/// Cuts the session that moves the byte after each so many.
pub struct Cutter {
    pub every: u64,
    pub moved: AtomicU64,
    pub cuts: AtomicU64,
}

impl Cutter {
    pub fn every(bytes: u64) -> Arc<Self> {
        Arc::new(Cutter { every: bytes, moved: AtomicU64::new(0), cuts: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Interceptor for Cutter {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Read, OperationKind::Write])
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<()> {
        let bytes = match operation {
            Operation::Read(r) => r.len,
            Operation::Write(w) => w.len,
            _ => 0,
        } as u64;
        let before = self.moved.fetch_add(bytes, Ordering::SeqCst);
        if before / self.every != (before + bytes) / self.every {
            self.cuts.fetch_add(1, Ordering::SeqCst);
            cx.session.cut(Ending::new("cut by the test", Actor::Admin("test".into())));
        }
        Ok(())
    }
}

struct TestSite {
    store: Arc<dyn Filesystem>,
    links: Vec<Arc<dyn Interceptor>>,
    registry: Arc<SessionRegistry>,
}

#[async_trait]
impl Site for TestSite {
    fn name(&self) -> Arc<str> {
        "test".into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        let mut setup = Setup::new(protocol, "test");
        setup.peer = Some(peer);
        setup.local = Some(local);
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::new(Anybody)
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        session.guard(identity, Arc::clone(&self.store), Chain::new(self.links.clone()))
    }
}

/// A server.
pub struct World {
    pub port: u16,
    /// Of SSH: the fingerprint that a URL can carry.
    pub host_key: Option<String>,
    /// Of TLS: the fingerprint of the certificate.
    pub certificate: Option<String>,
    _stop: DropGuard,
}

impl World {
    pub async fn sftp(store: Arc<dyn Filesystem>, links: Vec<Arc<dyn Interceptor>>) -> Self {
        let (listener, stop, site) = Self::site(store, links).await;
        let port = listener.local_addr().unwrap().port();
        let keys = HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap();
        let shown = keys.fingerprints().remove(0);
        let server = SshServer::new(SshServerOptions::new(keys), site).unwrap();
        let token = stop.clone();
        tokio::spawn(async move { server.serve(listener, token).await });
        let host_key = Some(shown.split(' ').nth(1).unwrap().to_owned());
        World { port, host_key, certificate: None, _stop: stop.drop_guard() }
    }

    pub async fn ftp(store: Arc<dyn Filesystem>, links: Vec<Arc<dyn Interceptor>>) -> Self {
        Self::ftp_with(store, links, None).await
    }

    /// FTP that turns to TLS, where data connections must resume the control connection's session.
    pub async fn ftpes(store: Arc<dyn Filesystem>, links: Vec<Arc<dyn Interceptor>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = vec![self_signed(dir.path(), &["localhost".to_owned()]).unwrap()];
        let tls = ServerTls::new(ServerTlsOptions { certificates, ..ServerTlsOptions::default() }).unwrap();
        Self::ftp_with(store, links, Some(tls)).await
    }

    async fn ftp_with(
        store: Arc<dyn Filesystem>,
        links: Vec<Arc<dyn Interceptor>>,
        tls: Option<Arc<ServerTls>>,
    ) -> Self {
        let (listener, stop, site) = Self::site(store, links).await;
        let port = listener.local_addr().unwrap().port();
        let certificate = tls.as_ref().map(|tls| tls.fingerprint());
        // As from the network: what is sent is not read ahead.
        let options = FtpServerOptions { tls, sendfile_to_neighbours: true, ..FtpServerOptions::default() };
        let server = FtpServer::new(options, site).unwrap();
        let token = stop.clone();
        tokio::spawn(async move { server.serve(listener, token).await });
        World { port, host_key: None, certificate, _stop: stop.drop_guard() }
    }

    async fn site(
        store: Arc<dyn Filesystem>,
        links: Vec<Arc<dyn Interceptor>>,
    ) -> (TcpListener, CancellationToken, Arc<dyn Site>) {
        let registry = SessionRegistry::new(Caps::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener, CancellationToken::new(), Arc::new(TestSite { store, links, registry }))
    }
}

/// Passes bytes on, and cuts each connection after it has moved so many in both directions together.
pub struct Proxy {
    pub port: u16,
    pub cuts: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
    after: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl Proxy {
    pub async fn cutting(to: u16, after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, passed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = CancellationToken::new();
        let after = Arc::new(AtomicU64::new(after));
        let (counted, moved, token) = (Arc::clone(&cuts), Arc::clone(&passed), stop.clone());
        let most = Arc::clone(&after);
        tokio::spawn(async move {
            loop {
                let (client, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = token.cancelled() => return,
                };
                let after = most.load(Ordering::SeqCst);
                tokio::spawn(pass(client, to, after, Arc::clone(&counted), Arc::clone(&moved)));
            }
        });
        Proxy { port, cuts, passed, after, _stop: stop.drop_guard() }
    }

    /// Cuts the connections that begin from now on after so many bytes.
    pub fn cut_from_now_on(&self, after: u64) {
        self.after.store(after, Ordering::SeqCst);
    }

    /// How many bytes came so far, in both directions.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, to: u16, after: u64, cuts: Arc<AtomicU64>, passed: Arc<AtomicU64>) {
    let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
    let left = Arc::new(Mutex::new(after));
    let (cr, cw) = client.into_split();
    let (sr, sw) = server.into_split();
    let one = |mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf| {
        let (left, cuts, passed) = (Arc::clone(&left), Arc::clone(&cuts), Arc::clone(&passed));
        async move {
            let mut buf = vec![0; 16 << 10];
            loop {
                let n = match from.read(&mut buf).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => n,
                };
                passed.fetch_add(n as u64, Ordering::SeqCst);
                let cut = {
                    let mut left = left.lock().unwrap();
                    *left = left.saturating_sub(n as u64);
                    *left == 0
                };
                if cut {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if to.write_all(&buf[..n]).await.is_err() {
                    return;
                }
            }
        }
    };
    // Whichever ends first takes both directions with it.
    tokio::select! {
        () = one(cr, sw) => {}
        () = one(sr, cw) => {}
    }
}
