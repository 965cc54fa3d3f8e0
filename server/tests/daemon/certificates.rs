//! Logins by certificates of TLS: by fingerprint and by name, of accounts that say so.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security, connect};
use rcgen::DnType;
use server::users::totp::TotpKey;
use session_core::auth::Secret;
use session_core::batch::Unattended;
use session_core::error::{ErrorKind, Result};
use session_core::net::client_tls::{ClientCertificate, TlsVersion};
use session_core::trust::CertificateFingerprint;
use sha2::{Digest as _, Sha256};

use crate::authority::Authority;
use crate::support::*;

/// SHA-256 as tools print it.
fn print(certificate: &ClientCertificate) -> String {
    let pairs: Vec<_> =
        Sha256::digest(certificate.chain().next().unwrap()).iter().map(|b| format!("{b:02X}")).collect();
    pairs.join(":")
}

fn config(authority: &Path, rest: &str) -> String {
    format!(
        "listeners = [{{ protocol = \"ftp\", port = 0 }}, {{ protocol = \"ftps\", port = 0 }}]\n\
         [tls]\nclient_certificates = \"allow\"\nclient_authorities = '{}'\n{rest}",
        authority.display()
    )
}

fn to(s: &Server, security: Security, user: &str, certificate: &ClientCertificate) -> FtpConnectOptions {
    let protocol = if security == Security::Implicit { "ftps" } else { "ftp" };
    let port = s.port_of("ferry", protocol);
    let mut options = FtpConnectOptions::new("127.0.0.1", port, user);
    options.security = security;
    options.tls.fingerprints = CertificateFingerprint::parse_list(&s.fingerprint_at(port)).unwrap();
    options.tls.certificate = Some(certificate.clone());
    options
}

async fn enter(s: &Server, user: &str, certificate: &ClientCertificate) -> Result<FtpRemote> {
    connect(to(s, Security::Explicit, user, certificate), Arc::new(Unattended)).await
}

async fn enter_with(
    s: &Server,
    user: &str,
    certificate: &ClientCertificate,
    password: &str,
) -> Result<FtpRemote> {
    let mut options = to(s, Security::Explicit, user, certificate);
    options.password = Some(Secret::new(password));
    connect(options, Arc::new(Unattended)).await
}

fn refused(outcome: Result<FtpRemote>, why: &str) {
    let e = outcome.map(|_| ()).expect_err(why);
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{why}: {e:#}");
}

/// A table of a user who has no password.
fn bare(name: &str) -> String {
    format!("\n[[users]]\nname = \"{name}\"\n")
}

#[tokio::test]
async fn a_certificate_logs_in_the_accounts_that_say_so_and_no_other() {
    let authority = Authority::new();
    let laptop = authority.vouches("laptop", None, |_| {});
    let named = authority.vouches("Some One", Some("named@example.org"), |_| {});
    let users = [
        bare("pinned"),
        format!("certificates = [\"{}\"]\n", print(&laptop)),
        "[[groups]]\nname = \"staff\"\ncertificate_names = [\"%u@example.org\"]\n".into(),
        user("named"),
        "groups = [\"staff\"]\n".into(),
        user("plain"),
        bare("laptop"),
    ];
    let s = Server::configured(&config(&authority.file(), &users.concat()), &[]);
    for security in [Security::Explicit, Security::Implicit] {
        for version in [TlsVersion::V12, TlsVersion::V13] {
            for (user, certificate) in [("named", &named), ("pinned", &laptop)] {
                let mut options = to(&s, security, user, certificate);
                (options.tls.minimum, options.tls.maximum) = (version, version);
                let remote = connect(options, Arc::new(Unattended)).await.unwrap();
                assert_eq!(remote.methods(), ["certificate"]);
                remote.close().await;
            }
        }
    }
    let line = s.logged(&["logged in", "named"]).await;
    assert_eq!(line["methods"], "publickey");
    // Not the one that is pinned, although the name is the account's.
    let twin = authority.vouches("twin", None, |p| p.distinguished_name.push(DnType::CommonName, "pinned"));
    for (user, certificate) in [
        ("pinned", &twin),
        ("pinned", &named),
        ("named", &laptop),
        ("plain", &named),
        ("laptop", &laptop),
        ("nobody", &named),
    ] {
        refused(enter(&s, user, certificate).await, user);
    }
    assert!(!s.log().contains("not a certificate of this account"), "what is not tried is no failure");
    // It does no harm to who has a password, and helps nobody with a wrong one.
    assert_eq!(enter_with(&s, "plain", &named, PASSWORD).await.unwrap().methods(), ["password"]);
    refused(enter_with(&s, "plain", &named, "wrong").await, "a wrong password");
    // A name that somebody gave who is not believed is none: TLS ends there.
    let stranger = Authority::new();
    let theirs = stranger.vouches("x", Some("named@example.org"), |_| {});
    assert!(enter(&s, "named", &theirs).await.is_err());
}

#[tokio::test]
async fn an_account_that_is_closed_stays_so_and_other_factors_stay_due() {
    let authority = Authority::new();
    let mine = authority.vouches("mine", None, |_| {});
    let names = "certificate_names = [\"mine\"]\n";
    let users = [
        format!("{}{names}enabled = false\n", bare("off")),
        format!("{}{names}expires = 2001-01-01\n", bare("old")),
        format!("{}{names}protocols = [\"sftp\"]\n", bare("ssh")),
        format!("{}{names}addresses = [\"10.0.0.0/8\"]\n", bare("far")),
        format!("{}{names}require = [\"publickey\", \"password\"]\n", user("first")),
        format!("{}{names}require = [\"password\", \"publickey\"]\n", user("last")),
        format!("{}{names}totp = \"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\"\n", bare("coded")),
    ];
    let s = Server::configured(&config(&authority.file(), &users.concat()), &[]);
    for (user, why) in [
        ("off", "the account is disabled"),
        ("old", "the account has expired"),
        ("ssh", "the account may not use this protocol"),
        ("far", "the account may not log in from this address"),
    ] {
        refused(enter(&s, user, &mine).await, user);
        s.logged(&["login failed", user, why]).await;
    }
    let other = authority.vouches("other", None, |_| {});
    for user in ["first", "last"] {
        refused(enter(&s, user, &mine).await, "the certificate alone");
        refused(enter_with(&s, user, &mine, "wrong").await, "a wrong password");
        refused(enter_with(&s, user, &other, PASSWORD).await, "the password alone");
        assert!(enter_with(&s, user, &mine, PASSWORD).await.is_ok(), "{user}");
    }
    // A code is due after the certificate, and asked for by the only word that FTP has.
    refused(enter(&s, "coded", &mine).await, "the certificate without a code");
    let mut options = to(&s, Security::Explicit, "coded", &mine);
    let key = TotpKey::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
    options.account = Some(Secret::new(key.code_at(SystemTime::now())));
    let remote = connect(options, Arc::new(Unattended)).await.unwrap();
    assert_eq!(remote.methods(), ["account"]);
}

#[tokio::test]
async fn names_of_another_sites_authority_lead_nowhere() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let site = |name: &str, authority: &Authority, listeners: &str, users: &str| {
        format!(
            "[[sites]]\nname = \"{name}\"\nlisteners = [{listeners}]\n[sites.tls]\n\
             client_certificates = \"allow\"\nclient_authorities = '{}'\n{}",
            authority.file().display(),
            users.replace("[[users]]", "[[sites.users]]"),
        )
    };
    let boss = theirs.vouches("boss", None, |_| {});
    let by_name = format!("{}certificate_names = [\"boss\"]\n", bare("boss"));
    let pinned = format!("{}certificates = [\"{}\"]\n", bare("boss"), print(&boss));
    let door = "{ protocol = \"ftp\", port = 0 }";
    let start = |authority: &Authority, users: &str| {
        let own = site("ferry", &theirs, door, &user("guest"));
        Server::configured(&format!("{own}{}", site("vault", authority, "", users)), &[])
    };
    let s = start(&ours, &by_name);
    refused(enter(&s, "boss@vault", &boss).await, "a name that another authority gave");
    for s in [start(&theirs, &by_name), start(&ours, &pinned)] {
        assert!(enter(&s, "boss@vault", &boss).await.is_ok());
    }
}

#[test]
fn certificates_that_nobody_asks_for_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("data = \".\"\n{}certificate_names = [\"x\"]\n", user("alice"));
    std::fs::write(dir.path().join("ferryd.toml"), text).unwrap();
    let (_, out, err) = ferryd(dir.path(), &["check"]);
    let told = format!("{out}{err}");
    assert!(told.contains("DATA/ferryd.toml:6:") && told.contains("nobody is asked for one"), "{told}");
}

/// The certificate and its authority are those of another program's file; between them stands one more, which the
/// server does not know.
#[tokio::test]
async fn a_certificate_under_a_phrase_logs_in_as_any_other() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../session-core/tests/certificates");
    let users = format!("{}certificate_names = [\"own\"]\n", bare("own"));
    let s = Server::configured(&config(&files.join("ca.crt"), &users), &[]);
    let port = s.port_of("ferry", "ftp");
    let open = |phrase: &str| {
        let url = format!("ftpes://own@127.0.0.1:{port}/");
        let client::url::Location::Remote(url) = client::url::Location::parse(&url).unwrap() else {
            panic!("{url}")
        };
        let options = client::connect::Options::from_url(&url)
            .unwrap()
            .certificates(&[s.fingerprint_at(port)])
            .unwrap()
            .client_certificate(Some(files.join("legacy.p12")))
            .phrase(Some(Secret::new(phrase)));
        client::connect::open_url(options, Arc::new(Unattended))
    };
    open("opens-it").await.unwrap().close().await;
    s.logged(&["logged in", "own"]).await;
    let e = open("another").await.map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    assert!(e.to_string().contains("legacy.p12"), "{e:#}");
}
