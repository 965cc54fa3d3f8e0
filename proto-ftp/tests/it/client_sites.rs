//! Several sites behind one address (HOST, `user@site`, the name in TLS), and logins by certificate: our
//! client, our server.
#![cfg(all(feature = "client", feature = "server"))]

use std::path::Path;
use std::sync::Arc;

use crate::support::authority::Authority;
use crate::support::pair::*;
use crate::support::*;
use bytes::Bytes;
use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security, connect};
use proto_ftp::server::{FtpServerOptions, Hosts};
use session_core::auth::Site;
use session_core::batch::{Answer, Query, Unattended};
use session_core::error::{ErrorKind, Result};
use session_core::fs_ext::FilesystemExt as _;
use session_core::net::client_tls::{ClientCertificate, TlsVersion};
use session_core::net::server_tls::{
    CertificateFiles, ClientCertificates, ServerTls, ServerTlsOptions, self_signed,
};
use session_core::trust::{CertificateFingerprint, TrustDecision};

/// Sites by name.
struct Named(Vec<(&'static str, Arc<TestSite>)>);

impl Hosts for Named {
    fn site(&self, name: &str) -> Option<Arc<dyn Site>> {
        let found = self.0.iter().find(|(n, _)| *n == name)?;
        Some(Arc::clone(&found.1) as Arc<dyn Site>)
    }
}

/// A site with one file, which says which site it is.
async fn site(name: &'static str) -> Arc<TestSite> {
    let site = TestSite::named(name, Arc::new(session_core::store::memory::MemoryStore::new()));
    site.store.write_all(&p("/who"), Bytes::from_static(name.as_bytes())).await.unwrap();
    site
}

async fn who(remote: &FtpRemote) -> String {
    String::from_utf8(remote.read_to_vec(&p("/who"), 100).await.unwrap()).unwrap()
}

/// A server of three sites: its own, and two by name.
async fn three(options: FtpServerOptions) -> Running {
    let named = Named(vec![("blue.example", site("blue").await), ("localhost", site("green").await)]);
    let options = FtpServerOptions { hosts: Some(Arc::new(named)), ..options };
    start_site(options, site("own").await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_found_by_host_and_by_the_users_name() {
    let server = three(options()).await;
    let named = |user: &str, host: Option<&str>| {
        let mut options = to(&server, Security::Plain);
        options.user = user.to_owned();
        options.host_name = host.map(str::to_owned);
        options
    };
    for (user, host, site) in [
        ("demo", None, "own"),
        ("demo", Some("blue.example"), "blue"),
        // A name is a name in letters of either case, also with the dot at its end.
        ("demo", Some("BLUE.example."), "blue"),
        ("demo@blue.example", None, "blue"),
        ("blue.example|demo", None, "blue"),
        ("demo@localhost", Some("blue.example"), "green"),
    ] {
        let remote = enter_with(named(user, host)).await;
        assert_eq!(who(&remote).await, site, "{user} {host:?}");
        // Further connections of the login go there too.
        let both = tokio::join!(who(&remote), who(&remote));
        assert_eq!(both, (site.to_owned(), site.to_owned()));
        remote.close().await;
    }
    for (user, host, code) in [("demo", Some("red.example"), 504), ("demo@red.example", None, 530)] {
        let e = connect(named(user, host), Arc::new(Unattended)).await.unwrap_err();
        assert_eq!(e.wire().map(|w| w.code), Some(code), "{user} {host:?}: {e:#}");
    }
}

fn files(dir: &Path, name: &str) -> CertificateFiles {
    self_signed(&dir.join(name), &[name.to_owned()]).unwrap()
}

/// What a client that is asked about the certificate gets to see.
async fn shown(options: FtpConnectOptions) -> (FtpRemote, String) {
    let told = Told::new(Answer::Trust(TrustDecision::Accept));
    let remote = connect(options, Arc::clone(&told) as Arc<_>).await.unwrap_or_else(|e| panic!("{e:#}"));
    let asked = told.1.lock().unwrap().clone();
    let [Query::Certificate { certificate }] = asked.as_slice() else { panic!("{asked:?}") };
    (remote, certificate.fingerprint())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_tls_chooses_the_certificate_and_the_site() {
    let dir = tempfile::tempdir().unwrap();
    let (own, green) = (files(dir.path(), "own.example"), files(dir.path(), "localhost"));
    let alone = |files: &CertificateFiles| {
        let certificates = vec![files.clone()];
        ServerTls::new(ServerTlsOptions { certificates, ..Default::default() }).unwrap().fingerprint()
    };
    let expected = [alone(&own), alone(&green)];
    let options = ServerTlsOptions { certificates: vec![own, green], ..Default::default() };
    let tls = ServerTls::new(options).unwrap();
    for implicit_tls in [false, true] {
        let options =
            FtpServerOptions { tls: Some(Arc::clone(&tls)), implicit_tls, ..crate::support::options() };
        let server = three(options).await;
        let security = if implicit_tls { Security::Implicit } else { Security::Explicit };
        // An address is no name: TLS asks for none, and the first certificate comes.
        let (remote, print) = shown(to(&server, security)).await;
        assert_eq!((who(&remote).await, &print), ("own".to_owned(), &expected[0]));
        for version in [TlsVersion::V12, TlsVersion::V13] {
            let mut options = to(&server, security);
            options.host = "localhost".into();
            (options.tls.minimum, options.tls.maximum) = (version, version);
            let (remote, print) = shown(options.clone()).await;
            assert_eq!((who(&remote).await, &print), ("green".to_owned(), &expected[1]));
            // HOST comes after TLS and has the last word.
            options.host_name = Some("blue.example".into());
            let (remote, _) = shown(options).await;
            assert_eq!(who(&remote).await, "blue");
        }
    }
}

/// A server that asks for certificates of this authority.
async fn asking(client_certificates: ClientCertificates) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let certificates = vec![files(dir.path(), "localhost")];
    let options = ServerTlsOptions { certificates, client_certificates, ..Default::default() };
    let tls = Some(ServerTls::new(options).unwrap());
    start(FtpServerOptions { tls, ..crate::support::options() }).await
}

fn with(server: &Running, user: &str, certificate: &ClientCertificate) -> FtpConnectOptions {
    let mut options = to(server, Security::Explicit);
    options.user = user.to_owned();
    options.password = None;
    options.tls.certificate = Some(certificate.clone());
    options
}

/// Nobody is there to be asked for a password; the server's certificate was seen before.
async fn alone(server: &Running, mut options: FtpConnectOptions) -> Result<FtpRemote> {
    let print = server_print(server).await;
    options.tls.fingerprints = CertificateFingerprint::parse_list(&print).unwrap();
    connect(options, Arc::new(Unattended)).await
}

async fn server_print(server: &Running) -> String {
    let told = Told::new(Answer::Trust(TrustDecision::Reject));
    let _ = connect(to(server, Security::Explicit), Arc::clone(&told) as Arc<_>).await;
    let asked = told.1.lock().unwrap().clone();
    let [Query::Certificate { certificate }] = asked.as_slice() else { panic!("{asked:?}") };
    certificate.fingerprint()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_logs_its_owner_in_without_a_password() {
    let authority = Authority::new();
    let carol = authority.vouches("carol", None, |_| {});
    let server = asking(ClientCertificates::Allow(authority.file())).await;
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut options = with(&server, "carol", &carol);
        (options.tls.minimum, options.tls.maximum) = (version, version);
        let remote = alone(&server, options).await.unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(remote.methods(), ["certificate"]);
        remote.write_all(&p("/f"), Bytes::from(vec![1; 100_000])).await.unwrap();
        assert_eq!(remote.read_to_vec(&p("/f"), 1 << 20).await.unwrap().len(), 100_000);
        let sessions = server.site.registry.list();
        assert!(sessions.iter().any(|s| &*s.user_id() == "carol"));
        remote.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_worth_nothing_to_anybody_else() {
    let authority = Authority::new();
    let carol = authority.vouches("carol", None, |_| {});
    let server = asking(ClientCertificates::Allow(authority.file())).await;
    for user in ["demo", "both", "nobody", "carol2", "anonymous"] {
        let e = alone(&server, with(&server, user, &carol)).await.map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{user}: {e:#}");
        assert!(e.to_string().contains("password"), "{user}: {e:#}");
    }
    // With a password it does no harm.
    let mut options = with(&server, "demo", &carol);
    options.password = Some(session_core::auth::Secret::new("demo"));
    assert_eq!(alone(&server, options).await.unwrap().methods(), ["password"]);
    // One that has expired, or whose authority is another one, does not even come to a login.
    let expired = authority.vouches("carol", None, |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert!(alone(&server, with(&server, "carol", &expired)).await.is_err());
    let stranger = Authority::new();
    let other = stranger.vouches("carol", None, |_| {});
    assert!(alone(&server, with(&server, "carol", &other)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_may_be_the_first_of_two_factors() {
    let authority = Authority::new();
    let both = authority.vouches("someone", Some("both@example.org"), |_| {});
    let server = asking(ClientCertificates::Require(authority.file())).await;
    let mut options = with(&server, "both", &both);
    let print = server_print_with(&server, &both).await;
    options.tls.fingerprints = CertificateFingerprint::parse_list(&print).unwrap();
    // Without the second one there is no login.
    let e = connect(options.clone(), Arc::new(Unattended)).await.map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    for (password, works) in [("wrong", false), ("demo", true)] {
        options.password = Some(session_core::auth::Secret::new(password));
        assert_eq!(connect(options.clone(), Arc::new(Unattended)).await.is_ok(), works, "{password}");
    }
}

async fn server_print_with(server: &Running, certificate: &ClientCertificate) -> String {
    let told = Told::new(Answer::Trust(TrustDecision::Reject));
    let _ = connect(with(server, "both", certificate), Arc::clone(&told) as Arc<_>).await;
    let asked = told.1.lock().unwrap().clone();
    let [Query::Certificate { certificate }] = asked.as_slice() else { panic!("{asked:?}") };
    certificate.fingerprint()
}
