//! TLS over sockets: who may resume what, versions, certificates.
#![cfg(feature = "server")]

use std::sync::Arc;

use crate::support::*;
use proto_ftp::server::FtpServerOptions;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use session_core::error::ErrorKind;
use session_core::fs::Follow;
use session_core::net::server_tls::{ClientCertificates, ServerTls, ServerTlsOptions, self_signed};
use session_core::session::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn connector(version: &'static SupportedProtocolVersion) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A client that shows a certificate of this authority.
fn with_certificate(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>) -> TlsConnector {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsConnector::from(Arc::new(config))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

type Secure = Client<TlsStream<TcpStream>>;

async fn secure(server: &Running, tls: &TlsConnector) -> Secure {
    let mut plain = server.connect().await;
    plain.command("AUTH TLS", 234).await;
    let stream = tls.connect(name(), plain.stream).await.unwrap();
    Client::new(stream)
}

async fn log_in(server: &Running, tls: &TlsConnector) -> Secure {
    let mut client = secure(server, tls).await;
    client.log_in().await;
    client.command("PBSZ 0", 200).await;
    client.command("PROT P", 200).await;
    client
}

/// The end of a stream, whether it was said or not.
async fn drained(mut data: TlsStream<TcpStream>) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let clean = data.read_to_end(&mut all).await.is_ok();
    (all, clean)
}

#[tokio::test]
async fn data_resumes_the_session_of_its_control_connection() {
    for version in VERSIONS {
        let server = start(FtpServerOptions { tls: Some(tls()), ..options() }).await;
        let tls = connector(version);
        let mut client = log_in(&server, &tls).await;
        let content = vec![42; 300_000];
        for n in 0..3 {
            let data = client.data().await;
            client.command(&format!("STOR f{n}"), 150).await;
            let mut data = tls.connect(name(), data).await.unwrap();
            data.write_all(&content).await.unwrap();
            data.shutdown().await.unwrap();
            client.expect(226).await;
            let data = client.data().await;
            client.command(&format!("RETR f{n}"), 150).await;
            let data = tls.connect(name(), data).await.unwrap();
            assert_eq!(data.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
            assert!(drained(data).await == (content.clone(), true));
            client.expect(226).await;
        }
        let session = server.session();
        assert_eq!(session.protocol(), Protocol::Ftps);
        client.command("QUIT", 221).await;
    }
}

// Attack 5.
#[tokio::test]
async fn data_of_nobody_or_of_somebody_else_is_refused() {
    for version in VERSIONS {
        let server = start(FtpServerOptions { tls: Some(tls()), ..options() }).await;
        let (ours, theirs) = (connector(version), connector(version));
        let mut client = log_in(&server, &ours).await;
        client.command("MKD d", 257).await;
        let other = log_in(&server, &theirs).await;
        for stranger in [&connector(version), &theirs] {
            let data = client.data().await;
            client.command("LIST", 150).await;
            let data = stranger.connect(name(), data).await.unwrap();
            assert!(drained(data).await.0.is_empty());
            assert!(client.expect(522).await.contains("session reuse"));
        }
        // And after all this the right one is served.
        let data = client.data().await;
        client.command("LIST", 150).await;
        let data = ours.connect(name(), data).await.unwrap();
        assert!(!drained(data).await.0.is_empty());
        client.expect(226).await;
        drop(other);
    }
}

#[tokio::test]
async fn clients_that_cannot_resume_are_served_where_they_may_be() {
    let options = FtpServerOptions { tls: Some(tls()), require_session_reuse: false, ..options() };
    let server = start(options).await;
    let tls = connector(&rustls::version::TLS13);
    let mut client = log_in(&server, &tls).await;
    let data = client.data().await;
    client.command("LIST", 150).await;
    let data = connector(&rustls::version::TLS12).connect(name(), data).await.unwrap();
    assert!(drained(data).await.1);
    client.expect(226).await;
}

// Attack 1.
#[tokio::test]
async fn what_was_sent_in_the_clear_does_not_act_under_tls() {
    let server = start(FtpServerOptions { tls: Some(tls()), ..options() }).await;
    let mut plain = server.connect().await;
    plain.send("AUTH TLS\r\nUSER demo\r\nPASS demo\r\n").await;
    plain.expect(234).await;
    let stream = connector(&rustls::version::TLS13).connect(name(), plain.stream).await.unwrap();
    let mut client = Client::new(stream);
    client.command("PASS demo", 503).await;
    assert!(server.session().identity().is_none());
    assert_eq!(&*server.session().requested_user(), "");
}

// Attack 2.
#[tokio::test]
async fn nothing_is_served_without_the_tls_that_is_required() {
    let server = start(FtpServerOptions { tls: Some(tls()), ..options() }).await;
    let mut plain = server.connect().await;
    plain.command("USER demo", 530).await;
    plain.command("PASS demo", 530).await;
    plain.command("LIST", 534).await;
    drop(plain);
    let mut client = secure(&server, &connector(&rustls::version::TLS13)).await;
    client.log_in().await;
    client.command("PBSZ 0", 200).await;
    client.command("PROT C", 534).await;
    client.data().await;
    client.command("LIST", 521).await;
}

#[tokio::test]
async fn an_end_that_was_not_confirmed_is_parked_where_that_is_asked() {
    for (strict, code) in [(false, 226), (true, 451)] {
        let options = FtpServerOptions { tls: Some(tls()), strict_tls_eof: strict, ..options() };
        let server = start(options).await;
        let tls = connector(&rustls::version::TLS13);
        let mut client = log_in(&server, &tls).await;
        let data = client.data().await;
        client.command("STOR f", 150).await;
        let mut data = tls.connect(name(), data).await.unwrap();
        data.write_all(b"content").await.unwrap();
        data.flush().await.unwrap();
        // The ticket is read, else the system resets what it would have sent.
        let mut some = [0; 1];
        let _ = tokio::time::timeout(std::time::Duration::from_millis(100), data.read(&mut some)).await;
        drop(data);
        client.expect(code).await;
        assert_eq!(server.site.area.parked().len(), usize::from(strict));
    }
}

#[tokio::test]
async fn implicit_tls_and_a_reload_under_way() {
    let config = tls();
    let options = FtpServerOptions { tls: Some(Arc::clone(&config)), implicit_tls: true, ..options() };
    let server = start(options).await;
    let tls = connector(&rustls::version::TLS13);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut client = Client::new(tls.connect(name(), stream).await.unwrap());
    client.expect(220).await;
    client.log_in().await;
    // The files are gone; what is there goes on.
    assert!(config.reload().is_err());
    let data = client.data().await;
    client.command("MLSD", 150).await;
    let data = tls.connect(name(), data).await.unwrap();
    assert!(drained(data).await.1);
    client.expect(226).await;
}

#[tokio::test]
async fn clients_show_the_same_certificate_on_both_connections() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let files = self_signed(dir.path(), &["localhost".to_owned()]).unwrap();
    let with = |client_certificates| {
        let options =
            ServerTlsOptions { certificates: vec![files.clone()], client_certificates, ..Default::default() };
        let tls = Some(ServerTls::new(options).unwrap());
        FtpServerOptions { tls, require_session_reuse: false, ..crate::support::options() }
    };

    let server = start(with(ClientCertificates::Require(file.clone()))).await;
    let mut plain = server.connect().await;
    plain.command("AUTH TLS", 234).await;
    // Of TLS 1.3 a client learns only afterwards that it was refused.
    if let Ok(stream) = connector(&rustls::version::TLS13).connect(name(), plain.stream).await {
        assert!(Client::new(stream).line().await.is_none());
    }
    let (ours, theirs) = (with_certificate(&issuer), with_certificate(&issuer));
    let mut client = log_in(&server, &ours).await;
    client.command("MKD d", 257).await;
    for (connector, code) in [(&ours, 226), (&theirs, 522)] {
        let data = client.data().await;
        client.command("LIST", 150).await;
        let data = connector.connect(name(), data).await.unwrap();
        assert_eq!(drained(data).await.0.is_empty(), code != 226);
        client.expect(code).await;
    }

    let server = start(with(ClientCertificates::Allow(file))).await;
    let nobody = connector(&rustls::version::TLS13);
    let mut client = log_in(&server, &nobody).await;
    let data = client.data().await;
    client.command("LIST", 150).await;
    let _ = theirs.connect(name(), data).await.map(drained);
    client.expect(522).await;
}

#[tokio::test]
async fn another_server_is_let_in_only_if_it_was_named() {
    let options = FtpServerOptions { tls: Some(tls()), foreign_data: true, ..options() };
    let server = start(options).await;
    for version in VERSIONS {
        let stranger = connector(version);
        let mut client = log_in(&server, &stranger).await;
        // Nobody was named: there is not even a handshake.
        client.command("SSCN ON", 200).await;
        let _data = client.data().await;
        client.command("STOR f", 150).await;
        client.expect(522).await;
        // Somebody was, and somebody else comes.
        client.command("SSCN OFF", 200).await;
        client.command(&format!("OPTS SSCN {}", "0f".repeat(32)), 200).await;
        let data = client.data().await;
        client.command("STOR f", 150).await;
        if let Ok(mut data) = stranger.connect(name(), data).await {
            let _ = data.write_all(b"forged").await;
            let _ = drained(data).await;
        }
        client.expect(522).await;
        let e = server.site.store.stat(&p("/f"), Follow::No).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        // Taken back, the client's own connections are what they were.
        client.command("OPTS SSCN", 200).await;
        let data = client.data().await;
        client.command("MLSD", 150).await;
        assert!(drained(stranger.connect(name(), data).await.unwrap()).await.1);
        client.expect(226).await;
    }
}
