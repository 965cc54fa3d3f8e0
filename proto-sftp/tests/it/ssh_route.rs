//! The way to a server: through proxies that really connect, over other servers, by a command; and user
//! certificates and PuTTY's keys on arrival.
#![cfg(all(feature = "client", feature = "server"))]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::proxy::TestProxy;
use crate::support::site::*;
use proto_sftp::client::Config as SftpConfig;
use proto_sftp::ssh::connect::host_key_of;
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::keys::Agent;
use proto_sftp::ssh::{ConnectOptions, HostKeyPolicy, HostKeys, SshConnection, connect};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, HashAlg, PrivateKey, key::safe_rng};
use russh::server::{Auth, ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};
use session_core::auth::Secret;
use session_core::batch::{Query, Unattended};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{Filesystem, OpenOptions};
use session_core::net::proxy::{Proxy, ProxyError, Side};
use session_core::path::VPath;
use session_core::trust::Fingerprint;

fn no(result: Result<SshConnection, Error>) -> Error {
    match result {
        Ok(_) => panic!("let in"),
        Err(e) => e,
    }
}

/// Moves a file both ways over a connection.
async fn works(connection: &SshConnection) {
    let remote = connection.sftp(&SftpConfig::default()).await.unwrap();
    let path = VPath::absolute("/file").unwrap();
    let data = bytes::Bytes::from(vec![7; 3 << 20]);
    let file = remote.open(&path, &OpenOptions::create()).await.unwrap();
    file.write_at(0, data.clone()).await.unwrap();
    file.commit(&Default::default()).await.unwrap();
    let file = remote.open(&path, &OpenOptions::read()).await.unwrap();
    let mut back = bytes::BytesMut::new();
    while back.len() < data.len() {
        let had = back.len();
        back = file.read_into(had as u64, 1 << 20, back).await.unwrap();
        assert!(back.len() > had);
    }
    assert!(back == data);
}

async fn server() -> Running {
    let server = start(options()).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    server
}

/// A server that only forwards, to whom the password `hop` is enough.
struct Jump {
    port: u16,
    key: PrivateKey,
    reached: Arc<Mutex<Vec<String>>>,
    alive: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct JumpHandler {
    reached: Arc<Mutex<Vec<String>>>,
    forwards: bool,
    _alive: Option<Arc<Alive>>,
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl russh::server::Handler for JumpHandler {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let good = user == "hopper" && password == "hop";
        Ok(if good { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _ssh: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.reached.lock().unwrap().push(format!("{host}:{port}"));
        if !self.forwards {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let host = if host.ends_with(".test") { "127.0.0.1" } else { host };
        match tokio::net::TcpStream::connect((host, u16::try_from(port).unwrap())).await {
            Ok(mut out) => {
                reply.accept().await;
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut out).await;
                });
            }
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }
}

impl Jump {
    async fn start(forwards: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let config = Arc::new(russh::server::Config {
            keys: vec![key.clone()],
            auth_rejection_time: Duration::from_millis(10),
            auth_rejection_time_initial: Some(Duration::ZERO),
            nodelay: true,
            ..Default::default()
        });
        let (reached, alive) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (notes, count) = (Arc::clone(&reached), Arc::clone(&alive));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let handler = JumpHandler {
                    reached: Arc::clone(&notes),
                    forwards,
                    _alive: Some(Arc::new(Alive(Arc::clone(&count)))),
                };
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Ok(session) = russh::server::run_stream(config, stream, handler).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Jump { port, key, reached, alive }
    }

    fn hop(&self) -> ConnectOptions {
        let mut hop = ConnectOptions::new("127.0.0.1", self.port, "hopper");
        let shown = self.key.public_key().fingerprint(HashAlg::Sha256).to_string();
        hop.fingerprints = vec![Fingerprint::parse(&shown).unwrap()];
        hop.agent = Agent::Off;
        hop.default_identities = false;
        hop.password = Some(Secret::new("hop"));
        hop.timeout = Duration::from_secs(10);
        hop
    }
}

#[tokio::test]
async fn files_move_through_every_kind_of_proxy() {
    let server = server().await;
    let proxy = TestProxy::start(Some(("bea", "hush")), &[]).await;
    for scheme in ["socks4a://bea", "socks5://bea:hush", "http://bea:hush"] {
        let mut options = server.with_password("ann", "right");
        options.host = "server.test".into();
        options.proxy = Proxy::parse(&format!("{scheme}@127.0.0.1:{}", proxy.port)).unwrap();
        works(&connect(options, Arc::new(Unattended)).await.unwrap()).await;
    }
    assert!(
        proxy.asked().iter().all(|a| a.ends_with(&format!(" server.test:{}", server.port))),
        "{:?}",
        proxy.asked()
    );
    let mut options = server.with_password("ann", "right");
    options.proxy = Proxy::parse(&format!("socks5://127.0.0.1:{}", proxy.port)).unwrap();
    let e = no(connect(options, Arc::new(Unattended)).await);
    assert_eq!((e.kind(), ProxyError::of(&e).unwrap().side), (ErrorKind::Unauthenticated, Side::Proxy));
}

#[tokio::test]
async fn a_chain_of_jumps_checks_and_enters_each_host_and_ends_as_a_whole() {
    let server = server().await;
    let (first, second) = (Jump::start(true).await, Jump::start(true).await);
    let proxy = TestProxy::start(None, &[]).await;
    let mut far = first.hop();
    far.host = "first.test".into();
    far.proxy = Proxy::parse(&format!("socks5://127.0.0.1:{}", proxy.port)).unwrap();
    let mut near = second.hop();
    near.host = "second.test".into();
    near.jump = Some(Box::new(far));
    let mut options = server.with_password("ann", "right");
    options.host = "server.test".into();
    options.jump = Some(Box::new(near));
    let connection = connect(options, Arc::new(Unattended)).await.unwrap();
    works(&connection).await;
    assert_eq!(proxy.asked(), [format!("socks5 first.test:{}", first.port)]);
    assert_eq!(*first.reached.lock().unwrap(), [format!("second.test:{}", second.port)]);
    assert_eq!(*second.reached.lock().unwrap(), [format!("server.test:{}", server.port)]);
    assert_eq!((first.alive.load(Ordering::SeqCst), second.alive.load(Ordering::SeqCst)), (1, 1));
    connection.close().await;
    for jump in [&first, &second] {
        eventually("the end of the jumps", || (jump.alive.load(Ordering::SeqCst) == 0).then_some(())).await;
    }
    server.over().await;
}

#[tokio::test]
async fn a_connection_that_is_dropped_or_cut_takes_its_jumps_along() {
    let server = server().await;
    let jump = Jump::start(true).await;
    for cut in [false, true] {
        let mut options = server.with_password("ann", "right");
        options.jump = Some(Box::new(jump.hop()));
        let connection = connect(options, Arc::new(Unattended)).await.unwrap();
        assert_eq!(jump.alive.load(Ordering::SeqCst), 1);
        if cut {
            connection.session().cancel_token().cancel();
        }
        drop(connection);
        eventually("the end of the jump", || (jump.alive.load(Ordering::SeqCst) == 0).then_some(())).await;
    }
}

#[tokio::test]
async fn what_fails_on_the_way_says_where() {
    let server = server().await;
    let jump = Jump::start(true).await;
    let deaf = Jump::start(false).await;
    let by = |hop: ConnectOptions| {
        let mut options = server.with_password("ann", "right");
        options.jump = Some(Box::new(hop));
        options
    };
    // The key of a host in between is checked like any other, and nobody answers for it.
    let mut stranger = jump.hop();
    stranger.fingerprints.clear();
    stranger.known_hosts = Some(vec!["/dev/null".into()]);
    stranger.policy = HostKeyPolicy::Strict;
    let mut wrong = jump.hop();
    wrong.password = Some(Secret::new("no"));
    let mut gone = by(jump.hop());
    gone.port = 1;
    for (options, kind, words) in [
        (by(stranger), ErrorKind::Unauthenticated, "is not known"),
        (by(wrong), ErrorKind::Unauthenticated, "login as 'hopper'"),
        (by(deaf.hop()), ErrorKind::Refused, "does not forward"),
        (gone, ErrorKind::Disconnected, "cannot be reached from there"),
    ] {
        let e = no(connect(options, Arc::new(Unattended)).await);
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains("by way of '127.0.0.1'") && e.to_string().contains(words), "{e}");
    }
    assert!(server.failures().is_empty());
    let mut deep = jump.hop();
    for _ in 0..9 {
        let mut next = jump.hop();
        next.jump = Some(Box::new(deep));
        deep = next;
    }
    let e = no(connect(by(deep), Arc::new(Unattended)).await);
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_command_can_be_the_way() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("note");
    // What every machine with OpenSSH's client or Python has.
    let script = dir.path().join("way.py");
    std::fs::write(
        &script,
        "import os,socket,sys,threading\n\
         s=socket.create_connection(('127.0.0.1',int(sys.argv[2])))\n\
         def up():\n\
         \x20while True:\n\
         \x20 d=os.read(0,65536)\n\
         \x20 if not d: break\n\
         \x20 s.sendall(d)\n\
         \x20s.shutdown(1)\n\
         threading.Thread(target=up,daemon=True).start()\n\
         while True:\n\
         \x20d=s.recv(65536)\n\
         \x20if not d: break\n\
         \x20while d: d=d[os.write(1,d):]\n",
    )
    .unwrap();
    let mut options = server.with_password("ann", "right");
    options.host = "server.test".into();
    options.written = Some("alias".into());
    options.proxy = Proxy::Command(format!(
        "sh -c 'echo %h %p %r %n > {}; exec python3 {} %h %p'",
        note.display(),
        script.display()
    ));
    let connection = connect(options, Arc::new(Unattended)).await.unwrap();
    works(&connection).await;
    let noted = std::fs::read_to_string(&note).unwrap();
    assert_eq!(noted, format!("server.test {} ann alias\n", server.port));
    connection.close().await;
    server.over().await;
    // One that says nothing but why.
    let mut options = server.with_password("ann", "right");
    options.proxy = Proxy::Command("sh -c 'echo the bastion is closed >&2; exit 1'".into());
    let e = no(connect(options, Arc::new(Unattended)).await);
    assert!(format!("{e:#}").contains("the bastion is closed"), "{e:#}");
}

#[tokio::test]
async fn the_key_of_a_server_is_shown_without_trust_and_login() {
    let server = server().await;
    let mut options = server.client("nobody");
    options.fingerprints.clear();
    options.known_hosts = Some(vec!["/nonexistent/and/not/read".into()]);
    let key = host_key_of(&options, Arc::new(Unattended)).await.unwrap();
    assert!(server.fingerprint().matches(&key));
    assert!(key.winscp_fingerprint().starts_with("ssh-ed25519 255 "));
    assert!(Fingerprint::parse(&key.winscp_fingerprint()).unwrap().matches(&key));
    assert!(Fingerprint::parse(&key.md5_fingerprint()).unwrap().matches(&key));
    // A kind that the server has not.
    options.algorithms = options.algorithms.with_keys(&["rsa-sha2-512"]).unwrap();
    let e = host_key_of(&options, Arc::new(Unattended)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    assert!(server.failures().is_empty());
}

#[tokio::test]
async fn an_alias_is_what_the_key_is_recorded_under() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known");
    let mut options = server.with_password("ann", "right");
    options.fingerprints.clear();
    options.known_hosts = Some(vec![file.clone()]);
    options.policy = HostKeyPolicy::AcceptNew;
    options.host_key_alias = Some("the-cluster".into());
    connect(options.clone(), Arc::new(Unattended)).await.unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("the-cluster ssh-ed25519 "), "{text}");
    options.policy = HostKeyPolicy::Strict;
    connect(options.clone(), Arc::new(Unattended)).await.unwrap();
    let other = HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap().public_lines().remove(0);
    std::fs::write(&file, format!("the-cluster {other}\n")).unwrap();
    let e = no(connect(options, Arc::new(Unattended)).await);
    assert!(e.to_string().contains("has changed"), "{e}");
}

fn key_file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[tokio::test]
async fn a_certificate_beside_the_key_or_named_is_offered_before_the_key() {
    let server = start(options()).await;
    let ca = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    server.user("ann", User { authority: Some(ca.public_key().to_openssh().unwrap()), ..User::default() });
    let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let make = |kind: CertType| {
        let public = key.public_key().key_data().clone();
        let mut b = Builder::new_with_random_nonce(&mut safe_rng(), public, now - 60, now + 600).unwrap();
        b.key_id("ann's").unwrap();
        b.cert_type(kind).unwrap();
        b.valid_principal("ann").unwrap();
        b.sign(&ca).unwrap().to_openssh().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let text = key.to_openssh(LineEnding::LF).unwrap();
    let path = key_file(&dir, "id", &text);
    let client = |identities: Vec<PathBuf>, certificates: Vec<PathBuf>| {
        let mut options = server.client("ann");
        options.identities = identities;
        options.certificates = certificates;
        options
    };
    // The key alone is nobody's here.
    let e = no(connect(client(vec![path.clone()], vec![]), Arc::new(Unattended)).await);
    assert!(e.to_string().contains("publickey"), "{e}");
    // Named.
    let named = key_file(&dir, "elsewhere.pub", &make(CertType::User));
    connect(client(vec![path.clone()], vec![named.clone()]), Arc::new(Unattended)).await.unwrap();
    // Given as text, with a certificate.
    let mut by_text = client(vec![], vec![named]);
    by_text.keys = vec![Secret::new(text.to_string())];
    connect(by_text, Arc::new(Unattended)).await.unwrap();
    // Beside the key.
    key_file(&dir, "id-cert.pub", &make(CertType::User));
    let c = connect(client(vec![path.clone()], vec![]), Arc::new(Unattended)).await.unwrap();
    assert_eq!(c.methods(), ["publickey"]);
    // One that is for a host is none, and says so where it was named.
    let wrong = key_file(&dir, "host-cert.pub", &make(CertType::Host));
    std::fs::remove_file(dir.path().join("id-cert.pub")).unwrap();
    let e = no(connect(client(vec![path], vec![wrong]), Arc::new(Unattended)).await);
    assert!(format!("{e:#}").contains("not for a user"), "{e:#}");
}

#[tokio::test]
async fn puttys_keys_open_doors_with_the_phrase_that_was_given_or_asked_for() {
    let keys = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys"));
    let server = start(options()).await;
    let public = |name: &str| {
        let text = std::fs::read_to_string(keys.join(format!("{name}.pub"))).unwrap();
        text.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned()
    };
    let names =
        ["ed25519-v3", "ed25519-zero-head-v3", "ed25519-v3-locked", "rsa-v2-locked", "ecdsa521-v2-locked"];
    let lines: Vec<String> = names.iter().map(|n| public(n)).collect();
    server.user("ann", User { keys: lines, ..User::default() });
    for name in names {
        let mut options = server.client("ann");
        options.identities = vec![keys.join(format!("{name}.ppk"))];
        options.phrase = Some(Secret::new("correct horse"));
        let asked = Script::new([]);
        connect(options.clone(), Arc::clone(&asked) as _).await.unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(asked.asked.lock().unwrap().is_empty());
        if name.contains("locked") {
            options.phrase = Some(Secret::new("another"));
            let asked = Script::new([secret("wrong"), secret("correct horse")]);
            connect(options, Arc::clone(&asked) as _).await.unwrap();
            let asked = asked.asked.lock().unwrap();
            assert!(matches!(&asked[..], [Query::Passphrase { .. }, Query::Passphrase { .. }]), "{asked:?}");
        }
    }
}

#[tokio::test]
async fn methods_are_tried_in_the_order_that_was_asked_for() {
    use session_core::auth::Method;
    let server = server().await;
    let mut options = server.with_password("ann", "right");
    options.methods = vec![Method::Interactive];
    let e = no(connect(options.clone(), Arc::new(Unattended)).await);
    assert!(e.to_string().contains("tried: keyboard-interactive;"), "{e}");
    options.methods = vec![Method::Interactive, Method::Password];
    connect(options, Arc::new(Unattended)).await.unwrap();
}
