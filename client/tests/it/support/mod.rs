//! A server on loopback over a memory store, and sessions with it.
#![allow(dead_code, reason = "with fewer features some of it has no test")]

#[cfg(feature = "sftp")]
pub mod jump;
#[cfg(feature = "sftp")]
pub mod shell;
#[cfg(all(feature = "ftp", feature = "sftp"))]
pub mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use client::session::{FtpSecure, Session, SessionOptions};
use proto_ftp::server::{ControlPolicy, DataPolicy, FtpServer, FtpServerOptions};
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::{HostKeys, SshServer, SshServerOptions};
use session_core::auth::*;
use session_core::batch::Unattended;
use session_core::error::{Error, Result};
use session_core::fs::Filesystem;
use session_core::fs_ext::FilesystemExt;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::net::server_tls::{ServerTls, ServerTlsOptions, self_signed};
use session_core::operation::{Operation, OperationSet, Record};
use session_core::path::VPath;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::{Identity, Protocol, Session as Served, Setup};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The account that may log in, and its password.
pub const USER: (&str, &str) = ("u", "secret");

/// This folder behind a gate with these links.
pub fn local_with(dir: &Path, links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    let store = LocalStore::open(dir, LocalOptions::default()).unwrap();
    let session = Served::new(Setup::new(Protocol::Local, "local"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, Arc::new(store), Chain::new(links)).unwrap()
}

/// This folder, with nothing around it.
pub fn local(dir: &Path) -> SessionFs {
    local_with(dir, vec![])
}

/// Refuses what a test wants refused.
pub struct Refuse(pub fn(&Record) -> bool);

#[async_trait]
impl Interceptor for Refuse {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<()> {
        if (self.0)(&operation.to_record()) { Err(Error::refused("no")) } else { Ok(()) }
    }
}

/// Also with the keys that were allowed.
#[derive(Default)]
struct One(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Authenticator for One {
    async fn methods(&self, _: &Arc<Served>, _: &str) -> Vec<Method> {
        let keys = !self.0.lock().unwrap().is_empty();
        if keys { vec![Method::PublicKey, Method::Password] } else { vec![Method::Password] }
    }

    async fn questions(&self, _: &Arc<Served>, _: &str) -> Vec<Question> {
        vec![]
    }

    async fn verify(&self, _: &Arc<Served>, user: &str, credential: &Credential, _: &[Method]) -> Proof {
        match credential {
            Credential::Password(p) if (user, p.expose()) == USER => Proof::Complete(Account::named(user)),
            Credential::Key(k) if self.0.lock().unwrap().iter().any(|line| line.contains(&k.openssh)) => {
                Proof::Complete(Account::named(user))
            }
            _ => Proof::Rejected("no".into()),
        }
    }

    async fn vouched(&self, _: &Arc<Served>, _: &str) -> Option<Account> {
        None
    }
}

struct Place {
    store: Arc<dyn Filesystem>,
    chain: Arc<Chain>,
    registry: Arc<SessionRegistry>,
    keys: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Site for Place {
    fn name(&self) -> Arc<str> {
        "test".into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Served>> {
        let mut setup = Setup::new(protocol, "test");
        setup.peer = Some(peer);
        setup.local = Some(local);
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::new(One(Arc::clone(&self.keys)))
    }

    async fn mount(&self, session: &Arc<Served>, identity: &Identity) -> Result<SessionFs> {
        session.guard(identity, Arc::clone(&self.store), Arc::clone(&self.chain))
    }
}

/// A server.
pub struct World {
    pub store: Arc<dyn Filesystem>,
    pub port: u16,
    /// As WinSCP shows it: a host key or a certificate.
    pub fingerprint: String,
    tls: bool,
    keys: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

pub fn path(text: &str) -> VPath {
    VPath::absolute(text).unwrap()
}

impl World {
    pub async fn sftp() -> Self {
        Self::sftp_with(Vec::new()).await
    }

    /// A server of SFTP with interceptors.
    pub async fn sftp_with(links: Vec<Arc<dyn Interceptor>>) -> Self {
        let keys = HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap();
        let shown = keys.fingerprints().remove(0);
        let digest = shown.split("SHA256:").nth(1).unwrap().split(' ').next().unwrap();
        let fingerprint = format!("ssh-ed25519 {digest}");
        let mut options = SshServerOptions::new(keys);
        options.rejection_time = Duration::from_millis(1);
        let (site, listener, port) = place(links).await;
        let stop = CancellationToken::new();
        let (store, token, keys) = (Arc::clone(&site.store), stop.clone(), Arc::clone(&site.keys));
        let server = SshServer::new(options, site).unwrap();
        tokio::spawn(async move { server.serve(listener, token).await });
        World { store, port, fingerprint, tls: false, keys, _stop: stop.drop_guard() }
    }

    /// A server of FTP that demands TLS.
    pub async fn ftpes() -> Self {
        Self::ftpes_with(Vec::new()).await
    }

    /// The same with interceptors.
    pub async fn ftpes_with(links: Vec<Arc<dyn Interceptor>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = vec![self_signed(dir.path(), &["localhost".to_string()]).unwrap()];
        let tls = ServerTls::new(ServerTlsOptions { certificates, ..ServerTlsOptions::default() }).unwrap();
        let fingerprint = tls.fingerprint();
        let options = FtpServerOptions {
            control_policy: ControlPolicy::Require,
            data_policy: DataPolicy::Require,
            active: true,
            ..FtpServerOptions::with_tls(tls)
        };
        let (site, listener, port) = place(links).await;
        let stop = CancellationToken::new();
        let (store, token) = (Arc::clone(&site.store), stop.clone());
        let server = FtpServer::new(options, site).unwrap();
        tokio::spawn(async move { server.serve(listener, token).await });
        World { store, port, fingerprint, tls: true, keys: Arc::default(), _stop: stop.drop_guard() }
    }

    /// Lets everybody in who has the key of this line.
    pub fn allow(&self, line: &str) {
        self.keys.lock().unwrap().push(line.to_owned());
    }

    pub fn options(&self) -> SessionOptions {
        let options = if self.tls {
            SessionOptions::ftp("127.0.0.1")
                .ftp_secure(FtpSecure::Explicit)
                .tls_host_certificate_fingerprint(self.fingerprint.as_str())
        } else {
            SessionOptions::sftp("127.0.0.1")
                // Not the keys of whoever runs the tests.
                .ssh_private_key_path("/nonexistent")
                .ssh_host_key_fingerprint(self.fingerprint.as_str())
        };
        options.unwrap().port_number(self.port).user_name(USER.0).password(USER.1)
    }

    pub async fn open(&self) -> Session {
        let session = Session::new();
        session.open(self.options(), Arc::new(Unattended)).await.unwrap();
        session
    }

    pub async fn write(&self, at: &str, content: impl Into<Vec<u8>>) {
        let at = path(at);
        self.store.create_dir_all(&at.parent().unwrap()).await.unwrap();
        self.store.write_all(&at, content.into().into()).await.unwrap();
    }

    pub async fn read(&self, at: &str) -> Vec<u8> {
        self.store.read_to_vec(&path(at), 64 << 20).await.unwrap()
    }

    pub async fn has(&self, at: &str) -> bool {
        self.store.exists(&path(at)).await.unwrap()
    }

    /// Everything that is there, by path; directories end in a slash.
    pub async fn tree(&self) -> Vec<String> {
        let all = self.store.walk(&VPath::root(), Default::default()).await.unwrap();
        all.into_iter().map(|(p, m)| if m.is_dir() { format!("{p}/") } else { p.display() }).collect()
    }
}

async fn place(links: Vec<Arc<dyn Interceptor>>) -> (Arc<Place>, tokio::net::TcpListener, u16) {
    let site = Arc::new(Place {
        store: Arc::new(MemoryStore::new()),
        chain: Chain::new(links),
        registry: SessionRegistry::new(Caps::default()),
        keys: Arc::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (site, listener, port)
}
