//! A site over a store in memory, a server of S3 for it on loopback, and a client that speaks text and signs.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use proto_s3::server::{S3Server, S3ServerOptions, Sessions};
use session_core::auth::*;
use session_core::error::Result;
use session_core::event::{Event, EventSink};
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use session_core::locks::{LockTable, Locks};
use session_core::net::server_tls::{ServerTls, ServerTlsOptions, self_signed};
use session_core::path::VPath;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::{Identity, Protocol, Session, Setup};
use session_core::store::memory::{MemoryOptions, MemoryStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use self::sign::Signer;

pub mod sign;

/// `demo` and `other`, each with a key of its name, and `guest` for strangers. Counts how often it is asked.
#[derive(Default)]
pub struct Users {
    pub asked: AtomicUsize,
    /// Another secret than [`SECRET`].
    pub secret: Mutex<Option<String>>,
    /// Whether keys are good for anything.
    pub barred: AtomicBool,
}

/// The secret of every key.
pub const SECRET: &str = "a secret that is long enough";

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::AccessKey]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        Vec::new()
    }

    async fn access_key(&self, id: &str) -> Option<AccessKey> {
        let user = id.strip_prefix("KEY-").filter(|u| ["demo", "other"].contains(u))?;
        let secret = self.secret.lock().unwrap().clone().unwrap_or_else(|| SECRET.into());
        Some(AccessKey { user: user.into(), secret: Secret::new(secret) })
    }

    async fn verify(
        &self,
        _session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        _passed: &[Method],
    ) -> Proof {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match (user, credential) {
            _ if self.barred.load(Ordering::SeqCst) => Proof::Rejected("barred".into()),
            ("demo" | "other", Credential::AccessKey(id)) if **id == format!("KEY-{user}") => {
                Proof::Complete(Account::named(user))
            }
            ("guest", Credential::Password(_)) => {
                let mut account = Account::named("guest");
                account.anonymous = true;
                account.shared = true;
                Proof::Complete(account)
            }
            _ => Proof::Rejected("wrong".into()),
        }
    }

    async fn vouched(&self, _session: &Arc<Session>, _user: &str) -> Option<Account> {
        None
    }
}

/// Keeps every event.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<Event>>);

impl EventSink for Notes {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// The moment at which it always is.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

pub struct TestSite {
    pub registry: Arc<SessionRegistry>,
    pub store: Arc<dyn Filesystem>,
    pub area: Arc<StagingArea>,
    pub locks: Arc<LockTable>,
    pub users: Mutex<Arc<Users>>,
    pub notes: Arc<Notes>,
    /// Asked at every step, before and after login.
    pub links: Mutex<Vec<Arc<dyn Interceptor>>>,
}

impl TestSite {
    pub fn over(store: Arc<dyn Filesystem>) -> Arc<Self> {
        let area = StagingArea::new(Arc::clone(&store), StagingPolicy::default(), Arc::new(then)).unwrap();
        Arc::new(TestSite {
            registry: SessionRegistry::new(Caps::default()),
            store,
            area,
            locks: Arc::default(),
            users: Mutex::default(),
            notes: Arc::default(),
            links: Mutex::default(),
        })
    }

    /// Where it is always the same moment.
    pub fn in_memory() -> Arc<Self> {
        let options = MemoryOptions { clock: Arc::new(then), ..MemoryOptions::default() };
        Self::over(Arc::new(MemoryStore::with(options)))
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
        setup.chain = Chain::new(self.links.lock().unwrap().clone());
        setup.sink = Some(Arc::clone(&self.notes) as Arc<dyn EventSink>);
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.users.lock().unwrap()) as Arc<dyn Authenticator>
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let account = identity.account();
        let owner = if account.shared {
            Owner::session(session.id().as_str())
        } else {
            Owner::account(Arc::clone(&account.name))
        };
        let staged = Staged::new(owner, Arc::clone(&self.area));
        let locks = Locks::new(Arc::clone(&self.locks), Arc::clone(&account.name), Duration::from_secs(600));
        let mut links = self.links.lock().unwrap().clone();
        links.insert(0, Arc::clone(&locks) as Arc<dyn Interceptor>);
        Ok(session.guard(identity, Arc::new(staged), Chain::new(links))?.locking(locks))
    }
}

pub fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// TLS with a certificate of its own.
pub fn tls() -> (tempfile::TempDir, Arc<ServerTls>) {
    let dir = tempfile::tempdir().unwrap();
    let files = self_signed(dir.path(), &["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let options = ServerTlsOptions { certificates: vec![files], ..ServerTlsOptions::default() };
    (dir, ServerTls::new(options).unwrap())
}

/// Quick to refuse.
pub fn options() -> S3ServerOptions {
    S3ServerOptions { rejection_time: Duration::from_millis(5), ..S3ServerOptions::default() }
}

/// A server on loopback.
pub struct Running {
    pub site: Arc<TestSite>,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub serving: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub async fn start(options: S3ServerOptions) -> Running {
    start_site(options, TestSite::in_memory()).await
}

pub async fn start_site(options: S3ServerOptions, site: Arc<TestSite>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let sessions = Sessions::new().unwrap();
    let server = S3Server::new(options, Arc::clone(&site) as Arc<dyn Site>, sessions).unwrap();
    let token = shutdown.clone();
    let serving = tokio::spawn(async move { server.serve(listener, token).await });
    Running { site, address, shutdown, serving }
}

impl Running {
    pub async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// The only session there is.
    pub fn session(&self) -> Arc<Session> {
        let mut all = self.site.registry.list();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    pub async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let waits = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of every element of this name.
    pub fn all(&self, element: &str) -> Vec<String> {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let text = self.text();
        text.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned())).collect()
    }

    /// The text of the first one; empty without one.
    pub fn one(&self, element: &str) -> String {
        self.all(element).into_iter().next().unwrap_or_default()
    }

    /// Status and code of a failure.
    pub fn failure(&self) -> (u16, String) {
        (self.status, self.one("Code"))
    }
}

pub struct Client<S> {
    pub stream: S,
    buf: Vec<u8>,
    /// Whose key signs; `None` for nobody's.
    pub signer: Option<Signer>,
}

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Client { stream, buf: Vec::new(), signer: Some(Signer::new("KEY-demo")) }
    }

    /// Who it says it is.
    pub fn is(mut self, key: &str) -> Self {
        self.signer = Some(Signer::new(key));
        self
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// A request with these fields (`name: value`), signed with its content.
    pub async fn ask(&mut self, line: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let head = match &self.signer {
            Some(signer) => signer.head(line, fields, &sign::sha256(body)),
            None => sign::plain(line, fields),
        };
        let length = if body.is_empty() && !line.starts_with("PUT") && !line.starts_with("POST") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        self.send(format!("{head}{length}\r\n")).await;
        self.send(body).await;
        self.reply(line.starts_with("HEAD ")).await.unwrap_or_else(|| panic!("no answer to {line}"))
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    /// Must succeed.
    pub async fn put(&mut self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        let reply = self.ask(&format!("PUT {path}"), &[], body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buf));
        !matches!(read.await.expect("an answer in time"), Ok(0) | Err(_))
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buf.iter().position(|b| *b == b'\n') {
                let line: Vec<_> = self.buf.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buf.len() < n {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buf.drain(..n).collect())
    }

    /// The next answer; `None` where the connection is over, or breaks in the midst of it.
    pub async fn reply(&mut self, head_only: bool) -> Option<Reply> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, fields: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            reply.fields.push((name.to_owned(), value.trim().to_owned()));
        }
        if status == 100 {
            return Some(reply);
        }
        if reply.field("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
                let piece = self.take(size + 2).await?;
                reply.body.extend_from_slice(&piece[..size]);
                if size == 0 {
                    break;
                }
            }
        } else if !head_only && status != 304 && status != 204 {
            let length = reply.field("content-length").map_or(0, |n| n.parse().unwrap());
            reply.body = self.take(length).await?;
        }
        Some(reply)
    }

    /// Whether the connection is over.
    pub async fn is_over(&mut self) -> bool {
        self.buf.is_empty() && !self.fill().await
    }
}
