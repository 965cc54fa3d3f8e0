//! Our client against our server over loopback: every way in, and every way not in.
#![cfg(all(feature = "client", feature = "server"))]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::site::*;
use proto_sftp::ssh::{SshConnection, connect};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, key::safe_rng};
use session_core::auth::Method;
use session_core::batch::{Answer, Query, Unattended};
use session_core::error::{Error, ErrorKind};
use session_core::session::Actor;

fn key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), algorithm).unwrap()
}

fn line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap()
}

fn file(dir: &tempfile::TempDir, name: &str, key: &PrivateKey) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub(crate) fn no(result: Result<SshConnection, Error>) -> Error {
    match result {
        Ok(_) => panic!("let in"),
        Err(e) => e,
    }
}

#[tokio::test]
async fn a_password_opens_a_filesystem_and_the_session_shows_it() {
    let server = start(options()).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    server.site.store.put("/hello", b"content");
    let c = connect(server.with_password("ann", "right"), Arc::new(Unattended)).await.unwrap();
    assert_eq!(c.methods(), ["password"]);
    assert!(c.delay() > Duration::ZERO && c.delay() < Duration::from_secs(1));
    let remote = c.sftp(&Default::default()).await.unwrap();
    let fs: &dyn session_core::fs::Filesystem = &remote;
    let m = fs.stat(&crate::support::p("/hello"), session_core::fs::Follow::Yes).await.unwrap();
    assert_eq!(m.size, 7);

    let session = server.session().await;
    let shown = session.snapshot();
    assert_eq!((shown.user_name.as_str(), &*shown.state, &*shown.protocol), ("ann", "ready", "SFTP"));
    assert_eq!(shown.client_version, "SSH-2.0-Ferry");
    assert_eq!(shown.cipher, "aes128-gcm@openssh.com");
    assert_eq!(c.cipher(), shown.cipher);
    assert_eq!(shown.auth_methods, ["password"]);
    assert!(shown.wire_in > 1000 && shown.wire_out > 1000);
    c.close().await;
    assert_eq!(server.over().await.actor, Actor::Client);
    assert_eq!(server.site.notes.closes.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_and_last_the_same() {
    let mut o = options();
    o.rejection_time = Duration::from_millis(200);
    let server = start(o).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    let mut seen = Vec::new();
    for user in ["ann", "bob"] {
        let begun = Instant::now();
        let e = no(connect(server.with_password(user, "wrong"), Arc::new(Unattended)).await);
        assert_eq!(e.kind(), ErrorKind::Unauthenticated);
        seen.push((e.to_string().replace(user, "X"), begun.elapsed()));
    }
    assert_eq!(seen[0].0, seen[1].0);
    assert_eq!(
        seen[0].0,
        "login as 'X' failed; tried: password, keyboard-interactive; \
         the server takes: publickey, password, keyboard-interactive"
    );
    let apart = seen[0].1.abs_diff(seen[1].1);
    assert!(apart < Duration::from_millis(150), "{apart:?}");
    assert!(seen.iter().all(|s| s.1 >= Duration::from_millis(400)), "two refusals of 200 ms each");
}

#[tokio::test]
async fn the_probe_is_answered_at_once() {
    let mut o = options();
    o.rejection_time = Duration::from_secs(5);
    let server = start(o).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    let begun = Instant::now();
    connect(server.with_password("ann", "right"), Arc::new(Unattended)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_password_is_asked_for_when_none_is_given_and_again_when_it_is_wrong() {
    let server = start(options()).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    let script = Script::new([secret("wrong"), secret("right")]);
    connect(server.client("ann"), Arc::clone(&script) as _).await.unwrap();
    let asked = script.asked.lock().unwrap();
    assert!(
        matches!(&asked[..], [Query::Password { who }, Query::Password { .. }] if who == "ann@127.0.0.1")
    );
}

#[tokio::test]
async fn tries_are_bounded_and_the_end_is_said() {
    let mut o = options();
    o.tries = 3;
    let server = start(o).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    let script = Script::new(std::iter::repeat_n(secret("wrong"), 10));
    let mut client = server.client("ann");
    client.password = Some(session_core::auth::Secret::new("also wrong"));
    let e = no(connect(client, Arc::clone(&script) as _).await);
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    assert!(format!("{e:#}").contains("too many failed logins"), "{e:#}");
    assert_eq!(server.over().await.reason.as_ref(), "too many failed logins");
    assert_eq!(server.failures().len(), 3);
}

#[tokio::test]
async fn keys_of_every_kind_open_and_rsa_signs_with_sha2() {
    let server = start(options()).await;
    let dir = tempfile::tempdir().unwrap();
    let rsa = PrivateKey::from(RsaKeypair::random(&mut safe_rng(), 2048).unwrap());
    let kinds = [
        ("ed25519", key(Algorithm::Ed25519)),
        ("p256", key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })),
        ("p384", key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 })),
        ("rsa", rsa),
    ];
    for (name, key) in kinds {
        server.user("ann", User { keys: vec![line(&key)], ..User::default() });
        let mut client = server.client("ann");
        client.identities = vec![file(&dir, name, &key)];
        let c = connect(client, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!(c.methods(), ["publickey"], "{name}");
        // PKCS#8, too.
        if name != "p384" {
            let mut pem = Vec::new();
            russh::keys::encode_pkcs8_pem(&key, &mut pem).unwrap();
            let path = dir.path().join(format!("{name}.pem"));
            std::fs::write(&path, pem).unwrap();
            let mut client = server.client("ann");
            client.identities = vec![path];
            connect(client, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{name} PKCS#8: {e:#}"));
        }
    }
}

#[tokio::test]
async fn a_key_that_is_offered_opens_nothing_and_others_are_tried() {
    let server = start(options()).await;
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
    server.user("ann", User { keys: vec![line(&good)], ..User::default() });
    let mut client = server.client("ann");
    client.identities = vec![file(&dir, "bad", &bad)];
    let e = no(connect(client.clone(), Arc::new(Unattended)).await);
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.failures()[0], ("publickey".to_owned(), "wrong".to_owned()));
    client.identities.push(file(&dir, "good", &good));
    connect(client, Arc::new(Unattended)).await.unwrap();

    // Who has only the public half is told that the key is worth a try, and no more.
    struct Thief;
    impl russh::Signer for Thief {
        type Error = russh::SendError;
        async fn auth_sign(
            &mut self,
            _: &russh::keys::agent::AgentIdentity,
            _: Option<HashAlg>,
            mut data: Vec<u8>,
        ) -> Result<Vec<u8>, russh::SendError> {
            let other = key(Algorithm::Ed25519);
            let signature = russh::keys::signature::Signer::try_sign(other.key_data(), &data).unwrap();
            let blob = Vec::<u8>::try_from(signature).unwrap();
            data.extend((blob.len() as u32).to_be_bytes());
            data.extend(blob);
            Ok(data)
        }
    }
    let mut raw = raw_client(server.port).await;
    let result = raw.authenticate_publickey_with("ann", good.public_key().clone(), None, &mut Thief).await;
    assert!(!result.unwrap().success());
}

struct Blind;

impl russh::client::Handler for Blind {
    type Error = russh::Error;
    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn raw_client(port: u16) -> russh::client::Handle<Blind> {
    let config = Arc::new(russh::client::Config::default());
    russh::client::connect(config, ("127.0.0.1", port), Blind).await.unwrap()
}

#[tokio::test]
async fn rsa_with_sha1_is_refused_and_with_sha2_accepted() {
    let server = start(options()).await;
    let rsa = Arc::new(PrivateKey::from(RsaKeypair::random(&mut safe_rng(), 2048).unwrap()));
    server.user("ann", User { keys: vec![line(&rsa)], ..User::default() });
    for (hash, yes) in [(None, false), (Some(HashAlg::Sha256), true), (Some(HashAlg::Sha512), true)] {
        let mut raw = raw_client(server.port).await;
        let key = russh::keys::PrivateKeyWithHashAlg::new(Arc::clone(&rsa), hash);
        assert_eq!(raw.authenticate_publickey("ann", key).await.unwrap().success(), yes, "{hash:?}");
    }
}

#[tokio::test]
async fn the_phrase_of_a_key_is_asked_for_only_when_the_server_wants_the_key() {
    let server = start(options()).await;
    let dir = tempfile::tempdir().unwrap();
    let plain = key(Algorithm::Ed25519);
    server.user("ann", User { keys: vec![line(&plain)], ..User::default() });
    let locked = plain.encrypt(&mut safe_rng(), "phrase").unwrap();
    let mut client = server.client("ann");
    client.identities = vec![file(&dir, "locked", &locked)];
    let script = Script::new([secret("not it"), secret("phrase")]);
    connect(client.clone(), Arc::clone(&script) as _).await.unwrap();
    assert_eq!(script.asked.lock().unwrap().len(), 2);
    let e = no(connect(client.clone(), Arc::new(Unattended)).await);
    assert!(format!("{e:#}").contains("is encrypted and no phrase was given"), "{e:#}");
    // An encrypted PKCS#8 file does not show its public half.
    let mut pem = Vec::new();
    russh::keys::encode_pkcs8_pem_encrypted(&plain, b"phrase", 1000, &mut pem).unwrap();
    client.identities = vec![dir.path().join("locked.pem")];
    std::fs::write(&client.identities[0], pem).unwrap();
    connect(client, Script::new([secret("phrase")])).await.unwrap();
}

#[tokio::test]
async fn a_key_file_that_cannot_be_used_is_named() {
    let server = start(options()).await;
    let dir = tempfile::tempdir().unwrap();
    for (content, words) in [
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "is damaged: it ends too early"),
        ("PuTTY-User-Key-File-1: ssh-rsa\n", "version 1 of PuTTY's format"),
        ("nonsense", "holds no private key"),
    ] {
        let path = dir.path().join("k");
        std::fs::write(&path, content).unwrap();
        let mut client = server.client("ann");
        client.identities = vec![path];
        let e = no(connect(client, Arc::new(Unattended)).await);
        assert!(format!("{e:#}").contains(words), "{e:#}");
    }
}

#[tokio::test]
async fn questions_are_asked_one_by_one_and_judged_together() {
    let server = start(options()).await;
    let questions = vec![("Password: ", "right"), ("Code: ", "123"), ("Name of the cat: ", "tom")];
    server.user("ann", User { questions, ..User::default() });
    let answers = |all: [&str; 2]| all.map(|a| Answer::Answers(vec![session_core::auth::Secret::new(a)]));
    // The given password answers the lone prompt that hides its input.
    let script = Script::new(answers(["123", "tom"]));
    let c = connect(server.with_password("ann", "right"), Arc::clone(&script) as _).await.unwrap();
    assert_eq!(c.methods(), ["keyboard-interactive"]);
    let asked = std::mem::take(&mut *script.asked.lock().unwrap());
    assert!(
        matches!(&asked[..], [Query::Interactive { prompts: a, .. }, Query::Interactive { prompts: b, .. }]
            if a == &[("Code: ".to_owned(), false)] && b == &[("Name of the cat: ".to_owned(), true)]),
        "{asked:?}"
    );
    // One wrong answer is told at the end, not where it was given.
    let script = Script::new(answers(["999", "tom"]));
    let e = no(connect(server.with_password("ann", "right"), Arc::clone(&script) as _).await);
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    assert!(script.asked.lock().unwrap().len() >= 2);
}

#[tokio::test]
async fn two_factors_must_both_be_passed() {
    let server = start(options()).await;
    let dir = tempfile::tempdir().unwrap();
    let k = key(Algorithm::Ed25519);
    let user = User {
        password: Some("right"),
        keys: vec![line(&k)],
        questions: vec![("Code: ", "123")],
        factors: vec![Method::PublicKey, Method::Password],
        ..User::default()
    };
    server.user("ann", user.clone());
    let mut client = server.with_password("ann", "right");
    client.identities = vec![file(&dir, "k", &k)];
    let c = connect(client.clone(), Arc::new(Unattended)).await.unwrap();
    assert_eq!(c.methods(), ["publickey", "password"]);
    assert_eq!(server.session().await.auth_methods(), ["publickey", "password"]);
    drop(c);

    client.password = None;
    let e = no(connect(client.clone(), Arc::new(Unattended)).await);
    let words = e.to_string();
    assert!(words.contains("passed: publickey") && words.ends_with("the server takes: password"), "{words}");
    let e = no(connect(server.with_password("ann", "right"), Arc::new(Unattended)).await);
    assert!(e.to_string().contains("passed: password"), "{e}");

    server.user("ann", User { factors: vec![Method::PublicKey, Method::Interactive], ..user });
    client.password = Some(session_core::auth::Secret::new("123"));
    let c = connect(client, Arc::new(Unattended)).await.unwrap();
    assert_eq!(c.methods(), ["publickey", "keyboard-interactive"]);
}

fn certificate(
    ca: &PrivateKey,
    subject: &PrivateKey,
    change: impl Fn(&mut Builder),
) -> russh::keys::Certificate {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let public = subject.public_key().key_data().clone();
    let mut builder = Builder::new_with_random_nonce(&mut safe_rng(), public, now - 60, now + 600).unwrap();
    builder.key_id("id").unwrap();
    change(&mut builder);
    builder.sign(ca).unwrap()
}

#[tokio::test]
async fn a_certificate_opens_only_for_its_principals_in_its_time_and_from_its_authority() {
    let server = start(options()).await;
    let (ca, other, subject) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519), key(Algorithm::Ed25519));
    server.user("ann", User { authority: Some(line(&ca)), ..User::default() });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let user = |b: &mut Builder| {
        b.cert_type(CertType::User).unwrap();
        b.valid_principal("ann").unwrap();
    };
    let cases: Vec<(&str, bool, russh::keys::Certificate)> = vec![
        ("good", true, certificate(&ca, &subject, user)),
        ("another authority", false, certificate(&other, &subject, user)),
        (
            "another principal",
            false,
            certificate(&ca, &subject, |b| {
                b.cert_type(CertType::User).unwrap();
                b.valid_principal("bob").unwrap();
            }),
        ),
        (
            "for a host",
            false,
            certificate(&ca, &subject, |b| {
                b.cert_type(CertType::Host).unwrap();
                b.valid_principal("ann").unwrap();
            }),
        ),
        (
            "an unknown condition",
            false,
            certificate(&ca, &subject, |b| {
                user(b);
                b.critical_option("moon@example", "full").unwrap();
            }),
        ),
        (
            "from here",
            true,
            certificate(&ca, &subject, |b| {
                user(b);
                b.critical_option("source-address", "127.0.0.1").unwrap();
            }),
        ),
        (
            "from elsewhere",
            false,
            certificate(&ca, &subject, |b| {
                user(b);
                b.critical_option("source-address", "10.0.0.1").unwrap();
            }),
        ),
    ];
    for (name, yes, cert) in cases {
        let mut raw = raw_client(server.port).await;
        let result = raw.authenticate_openssh_cert("ann", Arc::new(subject.clone()), cert).await.unwrap();
        assert_eq!(result.success(), yes, "{name}");
    }
    // The session's clock decides, whatever the machine's says.
    *server.site.clock.lock().unwrap() = at(now + 10_000);
    let mut raw = raw_client(server.port).await;
    let cert = certificate(&ca, &subject, user);
    assert!(!raw.authenticate_openssh_cert("ann", Arc::new(subject.clone()), cert).await.unwrap().success());
    assert!(server.failures().contains(&("publickey".into(), "the certificate has expired".into())));
}

#[tokio::test]
async fn a_login_that_takes_too_long_is_ended() {
    let mut o = options();
    o.login_time = Duration::from_millis(300);
    let server = start(o).await;
    // Says nothing at all.
    let silent = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    assert_eq!(server.over().await.reason.as_ref(), "the login took too long");
    drop(silent);
    // Exchanges keys and then says nothing.
    let _raw = raw_client(server.port).await;
    let begun = Instant::now();
    let ending = server.over().await;
    assert_eq!((ending.reason.as_ref(), ending.actor), ("the login took too long", Actor::Server));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_refused_connection_is_told_why() {
    use tokio::io::AsyncReadExt as _;
    let server = start(options()).await;
    *server.site.refuse.lock().unwrap() = Some("not from there");
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "not from there\r\n");
    let e = no(connect(server.with_password("ann", "x"), Arc::new(Unattended)).await);
    assert_eq!(e.kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn a_hook_may_change_how_the_server_names_itself() {
    let server = start(options()).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    *server.site.notes.rename.lock().unwrap() = Some("SSH-2.0-Boat_7 here");
    let c = connect(server.with_password("ann", "right"), Arc::new(Unattended)).await.unwrap();
    assert_eq!(c.server_version(), "SSH-2.0-Boat_7 here");
    *server.site.notes.rename.lock().unwrap() = Some("nonsense\r\n");
    let c = connect(server.with_password("ann", "right"), Arc::new(Unattended)).await.unwrap();
    assert_eq!(c.server_version(), "SSH-2.0-Ferry");
}
