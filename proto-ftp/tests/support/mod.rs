//! A site over a store in memory (or any other), a server of FTP for it on loopback, and a client that
//! speaks lines.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(feature = "client")]
pub mod pair;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proto_ftp::server::{FtpServer, FtpServerOptions};
use session_core::auth::*;
use session_core::error::Result;
use session_core::event::{Event, EventSink};
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use session_core::net::server_tls::{ServerTls, ServerTlsOptions, self_signed};
use session_core::path::VPath;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::{Identity, Protocol, Session, Setup, system_clock};
use session_core::store::memory::MemoryStore;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// `demo` with the password `demo`, `twice` with one question more, and anybody.
pub struct Users;

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::Password, Method::Interactive]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        vec![Question { prompt: "Code".to_owned(), echo: true, check: Check::Equals(Secret::new("123456")) }]
    }

    async fn verify(
        &self,
        _session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        passed: &[Method],
    ) -> Proof {
        match (user, credential) {
            ("demo" | "other", Credential::Password(p)) if p.expose() == "demo" => {
                Proof::Complete(Account::named(user))
            }
            ("twice", Credential::Password(p)) if p.expose() == "demo" => {
                Proof::More(vec![Method::Interactive])
            }
            ("twice", Credential::Answers(pairs))
                if passed == [Method::Password]
                    && pairs.iter().all(|(q, a)| matches!(&q.check, Check::Equals(s) if s == a)) =>
            {
                Proof::Complete(Account::named(user))
            }
            ("anonymous" | "ftp", Credential::Password(_)) => {
                let mut account = Account::named("anonymous");
                account.anonymous = true;
                account.shared = true;
                Proof::Complete(account)
            }
            ("carol", Credential::Certificate(c)) if c.is_for("carol") => {
                Proof::Complete(Account::named("carol"))
            }
            ("both", Credential::Certificate(c)) if c.is_for("both@example.org") => {
                Proof::More(vec![Method::Password])
            }
            ("both", Credential::Password(p)) if p.expose() == "demo" && passed == [Method::PublicKey] => {
                Proof::Complete(Account::named("both"))
            }
            _ => Proof::Rejected("wrong".into()),
        }
    }

    async fn takes_certificate(
        &self,
        _session: &Arc<Session>,
        user: &str,
        certificate: &TlsCertificate,
    ) -> bool {
        match user {
            "carol" => certificate.is_for("carol"),
            "both" => certificate.is_for("both@example.org"),
            _ => false,
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

pub struct TestSite {
    pub name: &'static str,
    pub registry: Arc<SessionRegistry>,
    pub store: Arc<dyn Filesystem>,
    pub area: Arc<StagingArea>,
    pub notes: Arc<Notes>,
    /// Asked at every step, before and after login.
    pub links: Mutex<Vec<Arc<dyn Interceptor>>>,
    pub refuse: Mutex<Option<&'static str>>,
}

impl TestSite {
    pub fn over(name: &'static str, store: Arc<dyn Filesystem>) -> Arc<Self> {
        let area = StagingArea::new(Arc::clone(&store), StagingPolicy::default(), system_clock()).unwrap();
        Arc::new(TestSite {
            name,
            registry: SessionRegistry::new(Caps::default()),
            store,
            area,
            notes: Arc::default(),
            links: Mutex::default(),
            refuse: Mutex::default(),
        })
    }

    pub fn in_memory() -> Arc<Self> {
        Self::over("test", Arc::new(MemoryStore::new()))
    }
}

#[async_trait]
impl Site for TestSite {
    fn name(&self) -> Arc<str> {
        self.name.into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        if let Some(words) = *self.refuse.lock().unwrap() {
            return Err(session_core::error::Error::refused(words));
        }
        let mut setup = Setup::new(protocol, self.name);
        setup.peer = Some(peer);
        setup.local = Some(local);
        setup.chain = Chain::new(self.links.lock().unwrap().clone());
        setup.sink = Some(Arc::clone(&self.notes) as Arc<dyn EventSink>);
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::new(Users)
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let account = identity.account();
        let owner = if account.shared {
            Owner::session(session.id().as_str())
        } else {
            Owner::account(Arc::clone(&account.name))
        };
        let staged = Staged::new(owner, Arc::clone(&self.area));
        session.guard(identity, Arc::new(staged), Chain::new(self.links.lock().unwrap().clone()))
    }
}

pub fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// TLS with a certificate of its own, in a folder that lives as long as the test's process needs it.
pub fn tls() -> Arc<ServerTls> {
    let dir = tempfile::tempdir().unwrap();
    let files = self_signed(dir.path(), &["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    ServerTls::new(ServerTlsOptions { certificates: vec![files], ..ServerTlsOptions::default() }).unwrap()
}

/// Quick to refuse.
pub fn options() -> FtpServerOptions {
    FtpServerOptions {
        rejection_time: Duration::from_millis(10),
        mode_z: true,
        ..FtpServerOptions::default()
    }
}

/// A server on loopback.
pub struct Running {
    pub site: Arc<TestSite>,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub async fn start(options: FtpServerOptions) -> Running {
    start_site(options, TestSite::in_memory()).await
}

pub async fn start_site(options: FtpServerOptions, site: Arc<TestSite>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = FtpServer::new(options, Arc::clone(&site) as Arc<dyn Site>).unwrap();
    let token = shutdown.clone();
    tokio::spawn(async move { server.serve(listener, token).await });
    Running { site, address, shutdown }
}

impl Running {
    /// A client that has read the greeting.
    pub async fn connect(&self) -> Client<TcpStream> {
        let mut client = Client::new(TcpStream::connect(self.address).await.unwrap());
        client.expect(220).await;
        client
    }

    /// A client that is logged in, in image mode.
    pub async fn log_in(&self) -> Client<TcpStream> {
        let mut client = self.connect().await;
        client.log_in().await;
        client
    }

    /// The only session there is.
    pub fn session(&self) -> Arc<Session> {
        let mut all = self.site.registry.list();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

/// The control connection of a client.
pub struct Client<S> {
    pub stream: S,
    buf: Vec<u8>,
}

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Client { stream, buf: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// One line; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buf.iter().position(|b| *b == b'\n') {
                let line: Vec<_> = self.buf.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let read = self.stream.read_buf(&mut self.buf);
            match tokio::time::timeout(PATIENCE, read).await.expect("a reply in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// One reply: its code and its lines.
    pub async fn reply(&mut self) -> Option<(u16, Vec<String>)> {
        let first = self.line().await?;
        let code: u16 = first[..3].parse().unwrap();
        let mut lines = vec![first.clone()];
        if first.as_bytes()[3] == b'-' {
            loop {
                let line = self.line().await?;
                let last = line.starts_with(&format!("{code} "));
                lines.push(line);
                if last {
                    break;
                }
            }
        }
        Some((code, lines))
    }

    /// The reply, which must have this code.
    pub async fn expect(&mut self, code: u16) -> String {
        let (got, lines) = self.reply().await.expect("a reply");
        let text = lines.join("\n");
        assert_eq!(got, code, "{text}");
        text
    }

    pub async fn command(&mut self, line: &str, code: u16) -> String {
        self.send(format!("{line}\r\n")).await;
        let (got, lines) = self.reply().await.unwrap_or_else(|| panic!("no reply to {line}"));
        let text = lines.join("\n");
        assert_eq!(got, code, "{line}: {text}");
        text
    }

    pub async fn log_in(&mut self) {
        self.command("USER demo", 331).await;
        self.command("PASS demo", 230).await;
        self.command("TYPE I", 200).await;
    }

    /// A data port.
    pub async fn epsv(&mut self) -> u16 {
        let text = self.command("EPSV", 229).await;
        text.split('|').nth(3).unwrap().parse().unwrap()
    }

    /// A plain data connection.
    pub async fn data(&mut self) -> TcpStream {
        let port = self.epsv().await;
        TcpStream::connect(("127.0.0.1", port)).await.unwrap()
    }

    pub async fn get(&mut self, command: &str) -> Vec<u8> {
        let mut data = self.data().await;
        self.command(command, 150).await;
        let mut all = Vec::new();
        tokio::time::timeout(PATIENCE, data.read_to_end(&mut all)).await.unwrap().unwrap();
        self.expect(226).await;
        all
    }

    pub async fn put(&mut self, command: &str, content: &[u8]) {
        let mut data = self.data().await;
        self.command(command, 150).await;
        data.write_all(content).await.unwrap();
        drop(data);
        self.expect(226).await;
    }
}
