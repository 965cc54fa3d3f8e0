//! Both SSH edges against each other on loopback: logins, trust, the cut in every state.
#![cfg(all(feature = "client", feature = "server"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use proto_sftp::client::{Config, SftpRemote};
use proto_sftp::ssh::connect::{ConnectOptions, HostKeyPolicy, SshConnection, connect};
use proto_sftp::ssh::hostkey;
use proto_sftp::ssh::listen::{SshServer, SshServerOptions};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, PrivateKey};
use session_core::auth::*;
use session_core::batch::{Answer, Decider, Query, Unattended};
use session_core::error::{ErrorKind, Result};
use session_core::fs::*;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::path::VPath;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::*;
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::trust::Fingerprint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// `alice` has a password and a key; `bob` needs both; `carol` answers a question; an authority vouches
/// for `dora`.
struct Users {
    key: String,
    authority: String,
    verified: AtomicUsize,
}

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _: &Arc<Session>, _: &str) -> Vec<Method> {
        vec![Method::PublicKey, Method::Password, Method::Interactive]
    }

    async fn questions(&self, _: &Arc<Session>, _: &str) -> Vec<Question> {
        let q = |prompt: &str, answer: &str| Question {
            prompt: prompt.into(),
            echo: true,
            check: Check::Equals(Secret::new(answer)),
        };
        vec![q("Colour? ", "blue"), q("Number? ", "7")]
    }

    async fn verify(
        &self,
        _: &Arc<Session>,
        user: &str,
        credential: &Credential,
        passed: &[Method],
    ) -> Proof {
        self.verified.fetch_add(1, Ordering::SeqCst);
        let good = match (user, credential) {
            ("alice" | "bob", Credential::Password(p)) => p.expose() == "secret",
            ("alice" | "bob", Credential::Key(k)) => k.certificate.is_none() && k.openssh == self.key,
            ("carol", Credential::Answers(a)) => {
                !a.is_empty() && a.iter().all(|(q, a)| q.check == Check::Equals(a.clone()))
            }
            ("dora", Credential::Key(k)) => k.certificate.as_ref().is_some_and(|c| {
                c.authority == self.authority
                    && c.principals.iter().any(|p| p == "dora")
                    && c.unknown_critical.is_empty()
            }),
            _ => false,
        };
        match (good, user) {
            (false, _) => Proof::Rejected("no".into()),
            (true, "bob") if passed.is_empty() => Proof::More(vec![Method::PublicKey, Method::Password]),
            (true, _) => Proof::Complete(Account::named(user)),
        }
    }

    async fn vouched(&self, _: &Arc<Session>, _: &str) -> Option<Account> {
        None
    }
}

struct TestSite {
    users: Arc<Users>,
    registry: Arc<SessionRegistry>,
    root: PathBuf,
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
        Arc::clone(&self.users) as Arc<dyn Authenticator>
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let store = LocalStore::open(&self.root, LocalOptions::default())?;
        session.guard(identity, Arc::new(store), Arc::new(Chain::default()))
    }
}

struct World {
    dir: tempfile::TempDir,
    registry: Arc<SessionRegistry>,
    address: SocketAddr,
    fingerprint: String,
    users: Arc<Users>,
    key: PrivateKey,
    authority: PrivateKey,
    _stop: tokio_util::sync::DropGuard,
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
}

fn line(key: &PrivateKey) -> String {
    let mut key = key.public_key().clone();
    key.set_comment("");
    key.to_openssh().unwrap().trim().to_string()
}

async fn world_with(change: impl FnOnce(&mut SshServerOptions)) -> World {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    let (host_key, _) = hostkey::load_or_create(&dir.path().join("host")).unwrap();
    let fingerprint = hostkey::fingerprint(&host_key);
    let (key, authority) = (new_key(), new_key());
    let users =
        Arc::new(Users { key: line(&key), authority: line(&authority), verified: AtomicUsize::new(0) });
    let registry = SessionRegistry::new(Caps::default());
    let site = Arc::new(TestSite {
        users: Arc::clone(&users),
        registry: Arc::clone(&registry),
        root: dir.path().join("root"),
    });
    let mut options = SshServerOptions { keys: vec![host_key], ..SshServerOptions::default() };
    change(&mut options);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(SshServer::new(site, options).unwrap().serve(listener, stop.clone()));
    World { dir, registry, address, fingerprint, users, key, authority, _stop: stop.drop_guard() }
}

async fn world() -> World {
    world_with(|_| {}).await
}

impl World {
    fn options(&self, user: &str) -> ConnectOptions {
        let mut o = ConnectOptions::new("127.0.0.1", self.address.port(), user);
        o.agent = false;
        o.known_hosts = vec![self.dir.path().join("known_hosts")];
        o.fingerprints = vec![Fingerprint::parse(&self.fingerprint).unwrap()];
        // Not the keys of whoever runs the tests.
        o.identities = vec![self.file("none", &new_key())];
        o
    }

    fn file(&self, name: &str, key: &PrivateKey) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        path
    }

    fn password(&self, user: &str) -> ConnectOptions {
        ConnectOptions { password: Some(Secret::new("secret")), ..self.options(user) }
    }

    async fn log_in(&self, options: &ConnectOptions) -> Result<(SshConnection, Arc<Session>)> {
        self.log_in_with(options, Arc::new(Unattended)).await
    }

    async fn log_in_with(
        &self,
        options: &ConnectOptions,
        decider: Arc<dyn Decider>,
    ) -> Result<(SshConnection, Arc<Session>)> {
        let session = Session::new(Setup::new(Protocol::Sftp, "client"));
        let connection = connect(options, &session, &decider).await?;
        Ok((connection, session))
    }

    async fn remote(&self) -> (SftpRemote, SshConnection, Arc<Session>) {
        let (connection, session) = self.log_in(&self.password("alice")).await.unwrap();
        let (reader, writer) = connection.open_sftp().await.unwrap();
        let remote = SftpRemote::connect(reader, writer, &Config::default()).await.unwrap();
        (remote, connection, session)
    }

    async fn gone(&self) {
        let begin = Instant::now();
        while !self.registry.is_empty() {
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "a session stays: {:?}",
                self.registry.list()[0].snapshot()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_there_and_back() {
    let w = world().await;
    let (fs, connection, _session) = w.remote().await;
    let content: Vec<u8> = (0..5_000_000u32).map(|i| (i / 7) as u8).collect();
    let file = fs.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    for (n, chunk) in content.chunks(100_000).enumerate() {
        file.write_at(n as u64 * 100_000, Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    file.commit(&CommitOptions::default()).await.unwrap();
    assert!(std::fs::read(w.dir.path().join("root/f")).unwrap() == content);
    let file = fs.open(&p("/f"), &OpenOptions::read()).await.unwrap();
    let mut back = BytesMut::new();
    loop {
        let had = back.len();
        back = file.read_into(had as u64, 1 << 20, back).await.unwrap();
        if back.len() == had {
            break;
        }
    }
    assert!(back == content);
    let live = w.registry.list()[0].snapshot();
    assert_eq!((live.bytes_received, live.user_name.as_str(), live.protocol), (5_000_000, "alice", "SFTP"));
    assert!(live.wire_in > 5_000_000 && live.client_version.starts_with("SSH-2.0-"), "{live:?}");
    drop(file);
    drop(fs);
    connection.close().await;
    w.gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_logs_in_and_nothing_else_does() {
    let w = world().await;
    let key = w.file("key", &w.key);
    assert_eq!(w.log_in(&w.password("alice")).await.unwrap().0.methods, ["password"]);
    let with_key = ConnectOptions { identities: vec![key.clone()], ..w.options("alice") };
    assert_eq!(w.log_in(&with_key).await.unwrap().0.methods, ["publickey"]);
    let both = ConnectOptions { identities: vec![key.clone()], ..w.password("bob") };
    assert_eq!(w.log_in(&both).await.unwrap().0.methods, ["publickey", "password"]);

    struct Answers(&'static [&'static str]);
    #[async_trait]
    impl Decider for Answers {
        async fn decide(&self, query: Query) -> Answer {
            match query {
                Query::Interactive { prompts, .. } => {
                    assert_eq!(prompts, [("Colour? ".to_string(), true), ("Number? ".to_string(), true)]);
                    Answer::Answers(self.0.iter().map(|a| Secret::new(*a)).collect())
                }
                other => other.unattended(),
            }
        }
    }
    let carol = w.options("carol");
    let logged = w.log_in_with(&carol, Arc::new(Answers(&["blue", "7"]))).await.unwrap();
    assert_eq!(logged.0.methods, ["keyboard-interactive"]);
    assert!(w.log_in_with(&carol, Arc::new(Answers(&["red", "7"]))).await.is_err());

    for wrong in [
        ConnectOptions { password: Some(Secret::new("wrong")), ..w.options("alice") },
        w.password("bob"),
        ConnectOptions { identities: vec![key.clone()], ..w.options("bob") },
        w.options("alice"),
        w.password("nobody"),
    ] {
        let e = w.log_in(&wrong).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_user_looks_like_a_known_one() {
    let w = world().await;
    let wrong = |user: &str| ConnectOptions { password: Some(Secret::new("wrong")), ..w.options(user) };
    let words = |e: session_core::error::Error| format!("{e:#}").replace("nobody", "alice");
    let known = w.log_in(&wrong("alice")).await.err().unwrap();
    let judged = w.users.verified.swap(0, Ordering::SeqCst);
    let unknown = w.log_in(&wrong("nobody")).await.err().unwrap();
    assert_eq!(words(known), words(unknown));
    assert_eq!(judged, w.users.verified.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_counts_only_if_all_of_it_is_right() {
    let w = world().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let make = |ca: &PrivateKey, kind, principal: &str, from: u64, to: u64, critical: bool| {
        let mut b = Builder::new_with_random_nonce(&mut safe_rng(), w.key.public_key(), from, to).unwrap();
        b.cert_type(kind).unwrap().valid_principal(principal).unwrap().key_id("id").unwrap();
        if critical {
            b.critical_option("force-command", "x").unwrap();
        }
        b.sign(ca).unwrap()
    };
    let try_one = |cert: russh::keys::Certificate| {
        let (address, key) = (w.address, w.key.clone());
        async move {
            struct Any;
            impl russh::client::Handler for Any {
                type Error = russh::Error;
                async fn check_server_key(
                    &mut self,
                    _: &russh::keys::PublicKeyOrCertificate,
                ) -> Result<bool, russh::Error> {
                    Ok(true)
                }
            }
            let mut handle = russh::client::connect(Arc::default(), address, Any).await.unwrap();
            handle.authenticate_openssh_cert("dora", Arc::new(key), cert).await.is_ok_and(|r| r.success())
        }
    };
    let (from, to) = (now - 60, now + 60);
    let user = || CertType::User;
    assert!(try_one(make(&w.authority, user(), "dora", from, to, false)).await);
    assert!(!try_one(make(&w.authority, user(), "alice", from, to, false)).await, "another principal");
    assert!(!try_one(make(&w.authority, user(), "dora", now - 60, now - 30, false)).await, "expired");
    assert!(!try_one(make(&w.authority, user(), "dora", now + 30, to, false)).await, "not yet valid");
    assert!(!try_one(make(&new_key(), user(), "dora", from, to, false)).await, "another authority");
    assert!(!try_one(make(&w.authority, CertType::Host, "dora", from, to, false)).await, "a host's");
    assert!(!try_one(make(&w.authority, user(), "dora", from, to, true)).await, "an option nobody knows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_are_bounded() {
    let w = world_with(|o| o.tries = 2).await;
    let mut o = w.options("alice");
    o.identities = (0..5).map(|n| w.file(&format!("k{n}"), &new_key())).collect();
    o.password = Some(Secret::new("secret"));
    let e = w.log_in(&o).await.err().unwrap();
    assert!(matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::Unauthenticated), "{e:?}");
    w.gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_host_is_refused_asked_or_put_on_record() {
    let w = world().await;
    let open = || ConnectOptions { fingerprints: vec![], ..w.password("alice") };
    assert_eq!(w.log_in(&open()).await.err().unwrap().kind(), ErrorKind::Unauthenticated);
    let strict = ConnectOptions { policy: HostKeyPolicy::Strict, ..open() };
    assert!(w.log_in(&strict).await.is_err());
    let accept = ConnectOptions { policy: HostKeyPolicy::AcceptNew, ..open() };
    w.log_in(&accept).await.unwrap();
    w.log_in(&strict).await.expect("it is on record now");
    // Another key under the same name: refused, whatever the policy.
    let other = line(&new_key());
    let known = w.dir.path().join("known_hosts");
    std::fs::write(&known, format!("[127.0.0.1]:{} {other}\n", w.address.port())).unwrap();
    let e = w.log_in(&accept).await.err().unwrap();
    assert!(e.to_string().contains("has changed") && e.hint().unwrap().contains("known_hosts:1"), "{e:#}");
    let wrong = ConnectOptions {
        fingerprints: vec![Fingerprint::parse(&format!("SHA256:{}", "A".repeat(43))).unwrap()],
        ..open()
    };
    assert!(w.log_in(&wrong).await.err().unwrap().to_string().contains("not the one that is pinned"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cut_ends_a_session_in_every_state() {
    let ending = || Ending::new("test", Actor::Server);
    let cut = |w: &World| {
        let session = w.registry.list().pop().expect("a live session");
        async move {
            let begin = Instant::now();
            let left = session.terminate(ending(), Duration::from_secs(1)).await;
            assert_eq!(left.in_flight, 0);
            assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
        }
    };
    async fn closed(socket: &mut tokio::net::TcpStream) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(2), socket.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the socket is still open");
    }
    let connected = |w: &World| {
        let address = w.address;
        async move { tokio::net::TcpStream::connect(address).await.unwrap() }
    };
    let live = |w: &World| {
        let registry = Arc::clone(&w.registry);
        async move {
            while registry.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    // Connected and silent; greeted and silent.
    for greeting in [&b""[..], b"SSH-2.0-test\r\n"] {
        let w = world().await;
        let mut socket = connected(&w).await;
        socket.write_all(greeting).await.unwrap();
        live(&w).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        cut(&w).await;
        closed(&mut socket).await;
        w.gone().await;
    }
    // Idle after login.
    let w = world().await;
    let (fs, _connection, _session) = w.remote().await;
    cut(&w).await;
    assert!(fs.stat(&p("/"), Follow::Yes).await.is_err());
    w.gone().await;
    // A client that asks for much and takes nothing.
    let w = world().await;
    std::fs::write(w.dir.path().join("root/big"), vec![7u8; 30 << 20]).unwrap();
    let (fs, _connection, _session) = w.remote().await;
    let file = fs.open(&p("/big"), &OpenOptions::read()).await.unwrap();
    let asking = tokio::spawn(async move {
        let reads = (0..100u64).map(|n| file.read_into(n * 256_000, 256_000, BytesMut::new()));
        futures_util::future::join_all(reads).await.into_iter().filter(|r| r.is_err()).count()
    });
    tokio::time::sleep(Duration::from_millis(3)).await;
    cut(&w).await;
    tokio::time::timeout(Duration::from_secs(5), asking).await.expect("every call has ended").unwrap();
    w.gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_log_in_in_time_is_sent_away() {
    let w = world_with(|o| o.login_time = Duration::from_millis(200)).await;
    for greeting in [&b""[..], b"SSH-2.0-test\r\n"] {
        let mut socket = tokio::net::TcpStream::connect(w.address).await.unwrap();
        socket.write_all(greeting).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(3), socket.read_to_end(&mut rest)).await;
        assert!(end.is_ok());
    }
    w.gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_reads_and_writes_in_flight_do_not_deadlock() {
    let w = world().await;
    let (fs, _connection, _session) = w.remote().await;
    let file = fs.open(&p("/f"), &OpenOptions { read: true, ..OpenOptions::create() }).await.unwrap();
    let work = async {
        let writes = (0..200u64).map(|n| file.write_at(n * 255_000, Bytes::from(vec![n as u8; 255_000])));
        for r in futures_util::future::join_all(writes).await {
            r.unwrap();
        }
        let reads = (0..200u64).map(|n| file.read_into(n * 255_000, 255_000, BytesMut::new()));
        for (n, r) in futures_util::future::join_all(reads).await.into_iter().enumerate() {
            assert!(r.unwrap().iter().all(|b| *b == n as u8));
        }
        file.commit(&CommitOptions::default()).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it stopped for good");
}
