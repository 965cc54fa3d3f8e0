//! A site over a store in memory, a server of WebDAV for it on loopback, and a client that speaks text.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use proto_webdav::server::{Sessions, WebdavServer, WebdavServerOptions};
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

/// `demo` and `other` with the password `demo`, and `guest` with any. Counts how often it is asked.
#[derive(Default)]
pub struct Users {
    pub asked: AtomicUsize,
    /// Another password than `demo`.
    pub password: Mutex<Option<String>>,
}

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::Password]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        Vec::new()
    }

    async fn verify(
        &self,
        _session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        _passed: &[Method],
    ) -> Proof {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let password = self.password.lock().unwrap().clone().unwrap_or_else(|| "demo".into());
        match (user, credential) {
            ("demo" | "other", Credential::Password(p)) if p.expose() == password => {
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
pub fn options() -> WebdavServerOptions {
    WebdavServerOptions { rejection_time: Duration::from_millis(5), ..WebdavServerOptions::default() }
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

pub async fn start(options: WebdavServerOptions) -> Running {
    start_site(options, TestSite::in_memory()).await
}

pub async fn start_site(options: WebdavServerOptions, site: Arc<TestSite>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let sessions = Sessions::new().unwrap();
    let server = WebdavServer::new(options, Arc::clone(&site) as Arc<dyn Site>, sessions).unwrap();
    let token = shutdown.clone();
    let serving = tokio::spawn(async move { server.serve(listener, token).await });
    Running { site, address, shutdown, serving }
}

pub fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
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
}

pub struct Client<S> {
    pub stream: S,
    buf: Vec<u8>,
    pub login: Option<String>,
}

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Client { stream, buf: Vec::new(), login: Some(basic("demo", "demo")) }
    }

    /// Who it says it is.
    pub fn is(mut self, user: &str, password: &str) -> Self {
        self.login = Some(basic(user, password));
        self
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// A request with these lines of fields.
    pub async fn ask(&mut self, line: &str, fields: &[&str], body: &[u8]) -> Reply {
        self.begin(line, fields, Some(body)).await;
        self.reply(line.starts_with("HEAD ")).await.unwrap_or_else(|| panic!("no answer to {line}"))
    }

    /// Sends a request; without a body, its end is the caller's.
    pub async fn begin(&mut self, line: &str, fields: &[&str], body: Option<&[u8]>) {
        let mut head = format!("{line} HTTP/1.1\r\nHost: dav.test\r\n");
        if let Some(login) = &self.login {
            head += &format!("Authorization: {login}\r\n");
        }
        for field in fields {
            head += &format!("{field}\r\n");
        }
        match body {
            Some(body) if !body.is_empty() => head += &format!("Content-Length: {}\r\n", body.len()),
            _ => {}
        }
        head += "\r\n";
        self.send(head).await;
        if let Some(body) = body {
            self.send(body).await;
        }
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
