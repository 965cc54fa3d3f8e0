//! What the cells stand on: a store with each account's view of it, and a server over it on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security};
use proto_ftp::server::{ControlPolicy, DataPolicy, FtpServer, FtpServerOptions};
use proto_s3::client::{S3ConnectOptions, S3Login, S3Remote};
use proto_s3::server::{S3Server, S3ServerOptions};
use proto_sftp::client::Config;
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::keys::Agent;
use proto_sftp::ssh::{ConnectOptions, HostKeys, SshConnection, SshServer, SshServerOptions, connect};
use proto_webdav::client::{WebdavConnectOptions, WebdavRemote};
use proto_webdav::server::{Sessions, WebdavServer, WebdavServerOptions};
use session_core::auth::*;
use session_core::batch::Unattended;
use session_core::conformance::Profile;
use session_core::error::Result;
use session_core::event::{Event, EventSink, What};
use session_core::fs::{Filesystem, OpenOptions};
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use session_core::metadata::Attributes;
use session_core::net::server_tls::{ServerTls, ServerTlsOptions, self_signed};
use session_core::path::VPath;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::*;
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;
use session_core::trust::{CertificateFingerprint, Fingerprint};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is served: each account's view of one content.
#[derive(Clone)]
pub enum Store {
    Bare(Arc<dyn Filesystem>),
    Staged(Arc<StagingArea>),
}

impl Store {
    pub fn memory() -> Self {
        Store::Bare(Arc::new(MemoryStore::new()))
    }

    pub fn local(dir: &tempfile::TempDir) -> Self {
        Store::Bare(Arc::new(LocalStore::open(dir.path(), LocalOptions::default()).unwrap()))
    }

    /// This content under a staging layer.
    pub fn staged(self) -> Self {
        let Store::Bare(store) = self else { panic!("staged already") };
        let clock = Arc::new(SystemTime::now);
        Store::Staged(StagingArea::new(store, StagingPolicy::default(), clock).unwrap())
    }

    pub fn is_staged(&self) -> bool {
        matches!(self, Store::Staged(_))
    }

    pub fn view(&self, account: &str) -> Arc<dyn Filesystem> {
        match self {
            Store::Bare(store) => Arc::clone(store),
            Store::Staged(area) => Arc::new(Staged::new(Owner::account(account), Arc::clone(area))),
        }
    }
}

/// Anybody may log in with the password `secret`, or an access key of this secret that is called as they are.
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn methods(&self, _: &Arc<Session>, _: &str) -> Vec<Method> {
        vec![Method::Password, Method::AccessKey]
    }

    async fn questions(&self, _: &Arc<Session>, _: &str) -> Vec<Question> {
        vec![]
    }

    async fn verify(&self, _: &Arc<Session>, user: &str, credential: &Credential, _: &[Method]) -> Proof {
        match credential {
            Credential::Password(p) if p.expose() == "secret" => Proof::Complete(Account::named(user)),
            // Whoever has one has signed with its secret.
            Credential::AccessKey(id) if **id == *user => Proof::Complete(Account::named(user)),
            _ => Proof::Rejected("no".into()),
        }
    }

    async fn access_key(&self, id: &str) -> Option<AccessKey> {
        Some(AccessKey { user: id.into(), secret: Secret::new("secret") })
    }

    async fn vouched(&self, _: &Arc<Session>, _: &str) -> Option<Account> {
        None
    }
}

/// Keeps all events.
#[derive(Default)]
pub struct EventLog(Mutex<Vec<Event>>);

impl EventLog {
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

impl EventSink for EventLog {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub struct TestSite {
    store: Store,
    chain: Arc<Chain>,
    pub registry: Arc<SessionRegistry>,
    log: Arc<EventLog>,
}

impl TestSite {
    /// A session's view without a protocol.
    pub fn guarded(&self, account: &str) -> SessionFs {
        let mut setup = Setup::new(Protocol::Local, "test");
        setup.sink = Some(Arc::clone(&self.log) as Arc<dyn EventSink>);
        let session = Session::new(setup);
        let identity = session.log_in(Account::named(account), vec![]).unwrap();
        session.guard(&identity, self.store.view(account), Arc::clone(&self.chain)).unwrap()
    }
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
        setup.sink = Some(Arc::clone(&self.log) as Arc<dyn EventSink>);
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::new(Anybody)
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let view = self.store.view(&identity.account().name);
        session.guard(identity, view, Arc::clone(&self.chain))
    }
}

/// A server of FTP, and what is known of it.
fn ftp_options(way: Way) -> (FtpServerOptions, Known) {
    if way == Way::Ftp {
        // As from the network.
        let options = FtpServerOptions { sendfile_to_neighbours: true, ..FtpServerOptions::default() };
        return (options, Known::Nothing);
    }
    let (tls, known) = certified();
    let options = FtpServerOptions {
        implicit_tls: way == Way::Ftps,
        control_policy: ControlPolicy::Require,
        data_policy: DataPolicy::Require,
        ..FtpServerOptions::with_tls(tls)
    };
    (options, known)
}

/// How long a session of HTTP outlives its last connection: so short that its end can be waited for, and so long that
/// nobody is without one that long who wants more.
const LINGER: Option<Duration> = Some(Duration::from_millis(200));

/// A server of WebDAV, and what is known of it.
fn dav_options(way: Way) -> (WebdavServerOptions, Known) {
    let options = WebdavServerOptions { linger: LINGER, ..WebdavServerOptions::default() };
    if way == Way::Dav {
        return (options, Known::Nothing);
    }
    let (tls, known) = certified();
    (WebdavServerOptions { tls: Some(tls), ..options }, known)
}

/// A server of S3, and what is known of it.
fn s3_options(way: Way) -> (S3ServerOptions, Known) {
    let options = S3ServerOptions { linger: LINGER, ..S3ServerOptions::default() };
    if way == Way::S3 {
        return (options, Known::Nothing);
    }
    let (tls, known) = certified();
    (S3ServerOptions { tls: Some(tls), ..options }, known)
}

/// TLS with a certificate of its own.
fn certified() -> (Arc<ServerTls>, Known) {
    let dir = tempfile::tempdir().unwrap();
    let certificates = vec![self_signed(dir.path(), &["localhost".to_string()]).unwrap()];
    let tls = ServerTls::new(ServerTlsOptions { certificates, ..ServerTlsOptions::default() }).unwrap();
    let known = Known::Certificate(CertificateFingerprint::parse(&tls.fingerprint()).unwrap());
    (tls, known)
}

/// How clients reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// WebDAV in the clear, over HTTP/1.1.
    Dav,
    /// WebDAV over TLS, with HTTP/2.
    Davs,
    /// FTP in the clear.
    Ftp,
    /// FTP that turns to TLS.
    Ftpes,
    /// FTP over TLS from the first byte.
    Ftps,
    /// S3 in the clear.
    S3,
    /// S3 over TLS.
    S3s,
    /// SCP, and nothing else of a shell.
    Scp,
    Sftp,
}

impl Way {
    pub const ALL: [Way; 9] =
        [Way::Sftp, Way::Scp, Way::Ftp, Way::Ftpes, Way::Ftps, Way::Dav, Way::Davs, Way::S3, Way::S3s];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Way::Dav => "WebDAV",
            Way::Davs => "WebDAV over TLS",
            Way::Ftp => "FTP",
            Way::Ftpes => "FTP, explicit TLS",
            Way::Ftps => "FTP, implicit TLS",
            Way::S3 => "S3",
            Way::S3s => "S3 over TLS",
            Way::Scp => "SCP",
            Way::Sftp => "SFTP",
        }
    }

    /// Where files can be: the first level of S3 is buckets.
    pub fn base(self) -> VPath {
        VPath::absolute(if matches!(self, Way::S3 | Way::S3s) { "/bucket" } else { "/" }).unwrap()
    }

    /// Whether a session has as many connections as its clients open.
    pub fn is_http(self) -> bool {
        matches!(self, Way::Dav | Way::Davs | Way::S3 | Way::S3s)
    }

    /// Whether a name that is too long is told as one, before a store is asked.
    pub fn bounds_names(self) -> bool {
        !matches!(self, Way::S3 | Way::S3s | Way::Scp)
    }

    /// Whether a server sorts listings where its store does not.
    pub fn sorts(self) -> bool {
        matches!(self, Way::S3 | Way::S3s)
    }

    /// Whether a directory moves object by object.
    pub fn moves_in_steps(self) -> bool {
        matches!(self, Way::S3 | Way::S3s)
    }

    /// Whether nobody sees what is under way, its owner neither.
    pub fn hides_what_is_under_way(self) -> bool {
        matches!(self, Way::S3 | Way::S3s | Way::Scp)
    }

    /// Whether a call that is given up is torn, with what had not left yet.
    pub fn tears_what_is_given_up(self) -> bool {
        matches!(self, Way::Dav | Way::Davs | Way::S3 | Way::S3s | Way::Scp)
    }

    /// What differs between the protocols, beside what no protocol tells: which file is which, what is staged.
    pub fn says(self, profile: &mut Profile, staged: bool) {
        profile.staged = staged && !self.hides_what_is_under_way();
        profile.whole |= staged && self.hides_what_is_under_way();
        profile.stages = false;
        profile.keeps_given_up &= !self.tears_what_is_given_up();
        self.narrows(profile);
    }

    /// What is lost on this way of what the store tells.
    fn narrows(self, profile: &mut Profile) {
        profile.knows_files = false;
        match self {
            // Version 3 has one ending, CLOSE; attributes that do not tell files apart; and few codes of errors.
            Way::Sftp => {
                profile.infers_kinds = true;
                profile.close_only = true;
            }
            Way::Scp => {
                profile.line_ends = false;
                profile.link_times = false;
                profile.arrives_later = true;
                // Who looks first may look too early.
                profile.exclusive_creation = false;
                // Each file is a command of its own.
                profile.crowd = profile.crowd.min(60);
            }
            // Lines end names, and 550 stands for most errors.
            Way::Ftp | Way::Ftpes | Way::Ftps => {
                profile.infers_kinds = true;
                profile.line_ends = false;
                profile.link_times = false;
                profile.arrives_later = true;
                // STOR replaces; who looks first may look too early.
                profile.exclusive_creation = false;
            }
            Way::Dav | Way::Davs => {
                profile.link_times = false;
                profile.arrives_later = true;
                // Each file is a request, and many of them show no more.
                profile.crowd = profile.crowd.min(400);
            }
            Way::S3 | Way::S3s => {
                profile.link_times = false;
                profile.arrives_later = true;
                profile.byte_names = false;
                profile.whole_renames = false;
                // Each file is several requests, and each is signed.
                profile.crowd = profile.crowd.min(60);
            }
        }
    }

    /// What is lost where a gateway has this way to what it serves, staged here or not.
    pub fn lies_behind(self, profile: &mut Profile, staged: bool) {
        let close_only = profile.close_only;
        self.narrows(profile);
        // An ending of the gateway's own is behind it.
        profile.close_only = close_only;
        // Of S3 an object appears as a whole or not at all.
        profile.whole |= !staged && self.hides_what_is_under_way();
        profile.keeps_given_up &= staged || !self.tears_what_is_given_up();
        // Each file goes over two servers.
        profile.crowd = profile.crowd.min(200);
    }
}

/// A client's connection.
pub enum Connection {
    Dav(Arc<WebdavRemote>),
    Ftp(Arc<FtpRemote>),
    S3(Arc<S3Remote>),
    Ssh(SshConnection),
}

impl Connection {
    pub fn session(&self) -> &Arc<Session> {
        match self {
            Connection::Dav(remote) => remote.session(),
            Connection::Ftp(remote) => remote.session(),
            Connection::S3(remote) => remote.session(),
            Connection::Ssh(connection) => connection.session(),
        }
    }

    pub async fn close(&self) {
        match self {
            Connection::Dav(remote) => remote.close().await,
            Connection::Ftp(remote) => remote.close().await,
            Connection::S3(remote) => remote.close().await,
            Connection::Ssh(connection) => connection.close().await,
        }
    }
}

/// By what the server is known.
enum Known {
    Certificate(CertificateFingerprint),
    HostKey(Fingerprint),
    Nothing,
}

/// A server over a store.
pub struct World {
    pub site: Arc<TestSite>,
    pub way: Way,
    pub port: u16,
    known: Known,
    _stop: DropGuard,
}

impl World {
    pub async fn new(way: Way, store: Store, chain: Arc<Chain>) -> Self {
        if !way.base().is_root() {
            store.view("nobody").create_dir(&way.base(), &Attributes::none()).await.unwrap();
        }
        let site = Arc::new(TestSite {
            store,
            chain,
            registry: SessionRegistry::new(Caps::default()),
            log: Arc::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let (server_site, token) = (Arc::clone(&site) as Arc<dyn Site>, stop.clone());
        let known = match way {
            Way::Sftp | Way::Scp => {
                let keys = HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap();
                let shown = keys.fingerprints().remove(0);
                let server = SshServer::new(SshServerOptions::new(keys), server_site).unwrap();
                tokio::spawn(async move { server.serve(listener, token).await });
                Known::HostKey(Fingerprint::parse(shown.split(' ').nth(1).unwrap()).unwrap())
            }
            Way::Dav | Way::Davs => {
                let (options, known) = dav_options(way);
                let server = WebdavServer::new(options, server_site, Sessions::new().unwrap()).unwrap();
                tokio::spawn(async move { server.serve(listener, token).await });
                known
            }
            Way::S3 | Way::S3s => {
                let (options, known) = s3_options(way);
                let server = S3Server::new(options, server_site, Sessions::new().unwrap()).unwrap();
                tokio::spawn(async move { server.serve(listener, token).await });
                known
            }
            Way::Ftp | Way::Ftpes | Way::Ftps => {
                let (options, known) = ftp_options(way);
                let server = FtpServer::new(options, server_site).unwrap();
                tokio::spawn(async move { server.serve(listener, token).await });
                known
            }
        };
        World { site, way, port, known, _stop: stop.drop_guard() }
    }

    pub async fn log_in(&self, user: &str) -> (Arc<dyn Filesystem>, Connection) {
        match self.way {
            Way::Sftp | Way::Scp => self.log_in_over_ssh(user).await,
            Way::Dav | Way::Davs => self.log_in_over_dav(user).await,
            Way::S3 | Way::S3s => self.log_in_over_s3(user).await,
            Way::Ftp | Way::Ftpes | Way::Ftps => self.log_in_over_ftp(user).await,
        }
    }

    async fn log_in_over_ssh(&self, user: &str) -> (Arc<dyn Filesystem>, Connection) {
        let mut options = ConnectOptions::new("127.0.0.1", self.port, user);
        if let Known::HostKey(fingerprint) = &self.known {
            options.fingerprints = vec![fingerprint.clone()];
        }
        // Not the keys of whoever runs the tests.
        options.agent = Agent::Off;
        options.identities = vec!["/nonexistent".into()];
        options.password = Some(Secret::new("secret"));
        let connection = connect(options, Arc::new(Unattended)).await.unwrap();
        let remote: Arc<dyn Filesystem> = match self.way {
            Way::Scp => Arc::new(connection.scp().await.unwrap()),
            _ => Arc::new(connection.sftp(&Config::default()).await.unwrap()),
        };
        (remote, Connection::Ssh(connection))
    }

    async fn log_in_over_s3(&self, user: &str) -> (Arc<dyn Filesystem>, Connection) {
        let mut options = S3ConnectOptions::new("127.0.0.1", self.port);
        options.secure = self.way == Way::S3s;
        options.home = self.way.base();
        options.login = S3Login::Key { id: user.to_owned(), secret: Secret::new("secret"), token: None };
        // Small, so that there are pages.
        options.page = Some(50);
        if let Known::Certificate(fingerprint) = &self.known {
            options.tls.fingerprints = vec![fingerprint.clone()];
        }
        let remote = Arc::new(proto_s3::client::connect(options, Arc::new(Unattended)).await.unwrap());
        (Arc::clone(&remote) as Arc<dyn Filesystem>, Connection::S3(remote))
    }

    async fn log_in_over_dav(&self, user: &str) -> (Arc<dyn Filesystem>, Connection) {
        let mut options = WebdavConnectOptions::new("127.0.0.1", self.port);
        options.secure = self.way == Way::Davs;
        options.user = Some(user.to_owned());
        options.password = Some(Secret::new("secret"));
        // Cases run side by side, and each open file has a connection of its own.
        options.connections = 64;
        // What is under way is looked at.
        options.hold = 0;
        if let Known::Certificate(fingerprint) = &self.known {
            options.tls.fingerprints = vec![fingerprint.clone()];
        }
        let remote = Arc::new(proto_webdav::client::connect(options, Arc::new(Unattended)).await.unwrap());
        (Arc::clone(&remote) as Arc<dyn Filesystem>, Connection::Dav(remote))
    }

    async fn log_in_over_ftp(&self, user: &str) -> (Arc<dyn Filesystem>, Connection) {
        let mut options = FtpConnectOptions::new("127.0.0.1", self.port, user);
        options.password = Some(Secret::new("secret"));
        // Cases run side by side, and each open file has a connection of its own.
        options.connections = 64;
        options.security = match self.way {
            Way::Ftpes => Security::Explicit,
            Way::Ftps => Security::Implicit,
            _ => Security::Plain,
        };
        if let Known::Certificate(fingerprint) = &self.known {
            options.tls.fingerprints = vec![fingerprint.clone()];
        }
        let remote = Arc::new(proto_ftp::client::connect(options, Arc::new(Unattended)).await.unwrap());
        (Arc::clone(&remote) as Arc<dyn Filesystem>, Connection::Ftp(remote))
    }

    /// The fingerprint of its host key, where it has one.
    pub fn host_key(&self) -> Option<String> {
        match &self.known {
            Known::HostKey(fingerprint) => Some(fingerprint.to_string()),
            Known::Certificate(_) | Known::Nothing => None,
        }
    }

    /// The events up to now.
    pub fn events(&self) -> Vec<Event> {
        self.site.log.events()
    }

    /// A connection that is lost in the midst of an upload. Done when the server has ended its session.
    pub async fn loses_an_upload(&self, user: &str, path: &VPath, content: Bytes) {
        let (remote, connection) = self.log_in(user).await;
        let file = remote.open(path, &OpenOptions::create()).await.unwrap();
        let size = content.len() as u64;
        file.write_at(0, content).await.unwrap();
        let has_all = |s: &Arc<Session>| {
            let arrived = |t: &Arc<Transfer>| t.bytes.load(std::sync::atomic::Ordering::SeqCst);
            s.transfers().iter().any(|t| t.path() == *path && arrived(t) == size)
        };
        let uploads = || self.site.registry.list().into_iter().find(&has_all);
        self.until("the content at the server", || uploads().is_some()).await;
        let session = uploads().unwrap();
        let id = session.id().clone();
        // Before the handle goes, so that nobody closes it.
        connection.session().cut(Ending::new("lost", Actor::Client));
        let is_over = || !session.transfers().iter().any(|t| t.path() == *path);
        self.until("the end of an upload that was lost", is_over).await;
        if self.way.is_http() {
            // The session is that of the account's other connections, too.
            return;
        }
        self.until("the end of a lost session", || {
            self.events().iter().any(|e| e.session == id && matches!(e.what, What::Closed(_)))
        })
        .await;
    }

    pub async fn until(&self, what: &str, there: impl Fn() -> bool) {
        let begin = Instant::now();
        while !there() {
            let left = || self.site.registry.list().iter().map(|s| s.snapshot()).collect::<Vec<_>>();
            assert!(begin.elapsed() < Duration::from_secs(10), "{what} does not come: {:#?}", left());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every session is over.
    pub async fn all_closed(&self) {
        self.until("the end of all sessions", || {
            let (mut begun, mut closed) = (0, 0);
            for event in self.events() {
                begun += usize::from(matches!(event.what, What::Connected));
                closed += usize::from(matches!(event.what, What::Closed(_)));
            }
            begun == closed
        })
        .await;
    }
}
