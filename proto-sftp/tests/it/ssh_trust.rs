//! Whether the server is the right one: pins, `known_hosts`, authorities, policies.
#![cfg(all(feature = "client", feature = "server"))]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::site::*;
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::{ConnectOptions, HostKeyPolicy, HostKeys, SshConnection, connect};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, PrivateKey, key::safe_rng};
use session_core::batch::{Answer, Query, Unattended};
use session_core::error::{Error, ErrorKind};
use session_core::trust::{Known, TrustDecision};

struct Bench {
    server: Running,
    dir: tempfile::TempDir,
    file: PathBuf,
}

async fn bench(options: proto_sftp::ssh::SshServerOptions) -> Bench {
    let server = start(options).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_hosts");
    Bench { server, dir, file }
}

impl Bench {
    fn client(&self, policy: HostKeyPolicy) -> ConnectOptions {
        let mut options = self.server.with_password("ann", "right");
        options.fingerprints.clear();
        options.known_hosts = Some(vec![self.file.clone(), self.dir.path().join("system")]);
        options.policy = policy;
        options
    }

    fn host(&self) -> String {
        format!("[127.0.0.1]:{}", self.server.port)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap_or_default()
    }
}

fn no(result: Result<SshConnection, Error>) -> Error {
    match result {
        Ok(_) => panic!("trusted"),
        Err(e) => e,
    }
}

fn stranger() -> String {
    HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap().public_lines().remove(0)
}

#[tokio::test]
async fn unattended_an_unknown_host_is_refused_and_nothing_is_sent() {
    let b = bench(options()).await;
    for policy in [HostKeyPolicy::Ask, HostKeyPolicy::Strict] {
        let e = no(connect(b.client(policy), Arc::new(Unattended)).await);
        assert_eq!(e.kind(), ErrorKind::Unauthenticated);
        assert!(e.to_string().contains("is not known") && e.to_string().contains("SHA256:"), "{e}");
        assert!(e.hint().is_some());
    }
    b.server.over().await;
    assert!(b.server.failures().is_empty() && b.text().is_empty());
}

#[tokio::test]
async fn what_was_accepted_is_on_record_and_not_asked_again() {
    let b = bench(options()).await;
    let script = Script::new([Answer::Trust(TrustDecision::Accept)]);
    connect(b.client(HostKeyPolicy::Ask), Arc::clone(&script) as _).await.unwrap();
    assert!(b.text().is_empty(), "this time only");
    assert!(matches!(&script.asked.lock().unwrap()[..], [Query::HostKey { key, known: Known::Unknown }]
            if b.server.fingerprint().matches(key) && key.host == "127.0.0.1"));
    let script = Script::new([Answer::Trust(TrustDecision::AcceptAndRemember)]);
    connect(b.client(HostKeyPolicy::Ask), script).await.unwrap();
    assert_eq!(b.text(), format!("{} {}\n", b.host(), b.server.keys.public_lines()[0]));
    connect(b.client(HostKeyPolicy::Strict), Arc::new(Unattended)).await.unwrap();
    // Anything that is not about trust is a no.
    std::fs::remove_file(&b.file).unwrap();
    no(connect(b.client(HostKeyPolicy::Ask), Script::new([Answer::Yes])).await);
}

#[tokio::test]
async fn accept_new_records_strangers_hashed_if_wanted_and_never_a_change() {
    let b = bench(options()).await;
    let mut client = b.client(HostKeyPolicy::AcceptNew);
    client.hash_names = true;
    connect(client, Arc::new(Unattended)).await.unwrap();
    assert!(b.text().starts_with("|1|"));
    connect(b.client(HostKeyPolicy::Strict), Arc::new(Unattended)).await.unwrap();

    std::fs::write(&b.file, format!("# mine\n{} {}\n", b.host(), stranger())).unwrap();
    let yes = Script::new([Answer::Trust(TrustDecision::Accept)]);
    for policy in [HostKeyPolicy::AcceptNew, HostKeyPolicy::Ask, HostKeyPolicy::Strict] {
        let e = no(connect(b.client(policy), Arc::clone(&yes) as _).await);
        assert_eq!(e.kind(), ErrorKind::Unauthenticated);
        assert!(e.to_string().contains("has changed"), "{e}");
        let place = format!("{}:2", b.file.display());
        assert!(e.hint().unwrap().ends_with(&place), "{:?}", e.hint());
    }
    assert!(yes.asked.lock().unwrap().is_empty(), "a change is never offered for acceptance");
}

#[tokio::test]
async fn a_revoked_key_is_refused_wherever_it_is_marked() {
    let b = bench(options()).await;
    let line = b.server.keys.public_lines().remove(0);
    std::fs::write(&b.file, format!("{} {line}\n", b.host())).unwrap();
    std::fs::write(b.dir.path().join("system"), format!("@revoked * {line}\n")).unwrap();
    let e = no(connect(b.client(HostKeyPolicy::AcceptNew), Arc::new(Unattended)).await);
    assert!(e.to_string().contains("is revoked"), "{e}");
    assert!(e.hint().unwrap().contains("system:1"));
}

#[tokio::test]
async fn a_pin_stands_above_records_and_a_wrong_one_above_all() {
    let b = bench(options()).await;
    std::fs::write(&b.file, format!("{} {}\n", b.host(), stranger())).unwrap();
    let mut client = b.client(HostKeyPolicy::Strict);
    client.fingerprints = vec![b.server.fingerprint()];
    connect(client.clone(), Arc::new(Unattended)).await.unwrap();
    let other = HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap().fingerprints().remove(0);
    client.fingerprints =
        vec![session_core::trust::Fingerprint::parse(other.split(' ').nth(1).unwrap()).unwrap()];
    let yes = Script::new([Answer::Trust(TrustDecision::Accept)]);
    let e = no(connect(client, Arc::clone(&yes) as _).await);
    assert!(e.kind() == ErrorKind::Unauthenticated && e.to_string().contains("is not the pinned one"), "{e}");
    assert!(yes.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_server_is_asked_for_the_type_of_key_that_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, _) = HostKeys::new().load_or_make(&dir.path().join("a"), HostKeyKind::Ed25519).unwrap();
    let (keys, _) = keys.load_or_make(&dir.path().join("b"), HostKeyKind::Ecdsa).unwrap();
    let mut o = options();
    o.host_keys = keys;
    let b = bench(o).await;
    std::fs::write(&b.file, format!("{} {}\n", b.host(), b.server.keys.public_lines()[1])).unwrap();
    let c = connect(b.client(HostKeyPolicy::Strict), Arc::new(Unattended)).await.unwrap();
    assert_eq!(c.host_key().unwrap().algorithm, "ecdsa-sha2-nistp256");
    // What is on record is of a type that the server no longer has: not a stranger, a change.
    std::fs::write(&b.file, format!("{} {}\n", b.host(), rsa_line())).unwrap();
    let e = no(connect(b.client(HostKeyPolicy::AcceptNew), Arc::new(Unattended)).await);
    assert!(e.to_string().contains("has changed"), "{e}");
}

fn rsa_line() -> String {
    use russh::keys::ssh_key::private::RsaKeypair;
    PrivateKey::from(RsaKeypair::random(&mut safe_rng(), 2048).unwrap()).public_key().to_openssh().unwrap()
}

#[tokio::test]
async fn an_authority_vouches_for_hosts_by_name_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k");
    let (keys, _) = HostKeys::new().load_or_make(&path, HostKeyKind::Ed25519).unwrap();
    let host = PrivateKey::from_openssh(std::fs::read_to_string(&path).unwrap()).unwrap();
    let ca = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let cases = [
        ("good", "127.0.0.?", now - 60, now + 600, CertType::Host, true),
        ("another name", "other", now - 60, now + 600, CertType::Host, false),
        ("expired", "127.0.0.1", now - 600, now - 60, CertType::Host, false),
        ("for a user", "127.0.0.1", now - 60, now + 600, CertType::User, false),
    ];
    for (name, principal, after, before, kind, yes) in cases {
        let public = host.public_key().key_data().clone();
        let mut builder = Builder::new_with_random_nonce(&mut safe_rng(), public, after, before).unwrap();
        builder.cert_type(kind).unwrap().key_id("host").unwrap().valid_principal(principal).unwrap();
        let file = dir.path().join("cert");
        std::fs::write(&file, builder.sign(&ca).unwrap().to_openssh().unwrap()).unwrap();
        let mut o = options();
        o.host_keys = keys.clone().load_certificate(&file).unwrap();
        let b = bench(o).await;
        let line = ca.public_key().to_openssh().unwrap();
        std::fs::write(
            &b.file,
            format!("@cert-authority 127.* {line}\n@cert-authority [127.0.0.1]:* {line}\n"),
        )
        .unwrap();
        let result = connect(b.client(HostKeyPolicy::Strict), Arc::new(Unattended)).await;
        assert_eq!(result.is_ok(), yes, "{name}: {:?}", result.err());
        if yes {
            let revoked = format!("{}@revoked * {line}\n", b.text());
            std::fs::write(&b.file, revoked).unwrap();
            let e = no(connect(b.client(HostKeyPolicy::AcceptNew), Arc::new(Unattended)).await);
            assert!(e.to_string().contains("authority") && e.to_string().contains("revoked"), "{e}");
        }
    }
    let _ = ca.to_openssh(LineEnding::LF).unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_the_connection() {
    let b = bench(options()).await;
    std::fs::create_dir(&b.file).unwrap();
    no(connect(b.client(HostKeyPolicy::AcceptNew), Arc::new(Unattended)).await);
}

#[tokio::test]
async fn a_host_that_is_not_there_is_told_from_one_that_refuses() {
    let b = bench(options()).await;
    let mut client = b.client(HostKeyPolicy::Strict);
    client.host = "no-such-host.invalid".into();
    assert_eq!(no(connect(client, Arc::new(Unattended)).await).kind(), ErrorKind::NotFound);
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut client = b.client(HostKeyPolicy::Strict);
    client.port = free;
    let e = no(connect(client, Arc::new(Unattended)).await);
    assert!(e.kind() == ErrorKind::Disconnected && e.to_string().contains("cannot be reached"), "{e}");
    // Accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = b.client(HostKeyPolicy::Strict);
    client.port = silent.local_addr().unwrap().port();
    client.timeout = std::time::Duration::from_millis(200);
    assert_eq!(no(connect(client, Arc::new(Unattended)).await).kind(), ErrorKind::TimedOut);
    // Speaks something else.
    use tokio::io::AsyncWriteExt as _;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = b.client(HostKeyPolicy::Strict);
    client.port = other.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut s, _) = other.accept().await.unwrap();
        s.write_all(b"SSH-2.0-x\r\n\x00\x00\x00\x05garbage and more garbage").await.unwrap();
        s.shutdown().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    });
    let e = no(connect(client, Arc::new(Unattended)).await);
    assert!(matches!(e.kind(), ErrorKind::PeerMisbehaved | ErrorKind::Disconnected), "{e:?}");
}

#[tokio::test]
async fn nothing_in_common_is_said_with_what_the_server_offers() {
    let mut o = options();
    o.algorithms = o.algorithms.with_ciphers(&["aes256-ctr"]).unwrap();
    let b = bench(o).await;
    let mut client = b.client(HostKeyPolicy::AcceptNew);
    client.algorithms = client.algorithms.with_ciphers(&["aes128-gcm@openssh.com"]).unwrap();
    let e = no(connect(client, Arc::new(Unattended)).await);
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
    assert!(e.hint().unwrap().contains("aes256-ctr"), "{:?}", e.hint());
}
