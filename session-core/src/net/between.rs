//! TLS between two servers that a third party introduces (FTP's copies from server to server).
//!
//! Neither knows the other; the third party, which each of them knows, tells each the SHA-256 of the other's
//! certificate, and both show their own: whoever else connects is refused, in either role. Without that word
//! the connection is encrypted and nobody knows for whom. Nothing is resumed.
//!
//! Deliberately absent: who may ask for such a connection, and names and authorities, of which neither
//! server has any for the other.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use sha2::{Digest as _, Sha256};

/// The TLS of such a connection, in either role.
#[derive(Clone, Debug)]
pub struct Between {
    /// For the one that waits for a hello.
    pub server: Arc<ServerConfig>,
    /// For the one that says it.
    pub client: Arc<ClientConfig>,
}

impl Between {
    /// With a certificate of its own; with `peer`, the other one must show the certificate of this SHA-256.
    pub(super) fn new(
        key: Arc<CertifiedKey>,
        peer: Option<[u8; 32]>,
        versions: &[&'static SupportedProtocolVersion],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let key = Arc::new(SingleCertAndKey::from(key));
        let pin = Arc::new(Pin { peer, provider: Arc::clone(provider) });
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
        let builder = match peer {
            Some(_) => builder.with_client_cert_verifier(Arc::clone(&pin) as Arc<dyn ClientCertVerifier>),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(Arc::clone(&key) as Arc<_>);
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(pin)
            .with_client_cert_resolver(key);
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Between { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// Believes one certificate; any, where none was named. That its key is the other's is checked either way.
#[derive(Debug)]
struct Pin {
    peer: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    fn judge(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let sha256: [u8; 32] = Sha256::digest(shown).into();
        match self.peer {
            Some(peer) if peer != sha256 => {
                Err(rustls::CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(()),
        }
    }
}

/// What a verifier of either side says of signatures: as the provider does.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(shown).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Pin {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(shown).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::server_tls::{ServerTls, ServerTlsOptions, self_signed};
    use super::*;

    fn server(name: &str) -> (Arc<ServerTls>, [u8; 32]) {
        let dir = tempfile::tempdir().unwrap();
        let files = self_signed(dir.path(), &[name.to_owned()]).unwrap();
        let options = ServerTlsOptions { certificates: vec![files], ..ServerTlsOptions::default() };
        let tls = ServerTls::new(options).unwrap();
        let print = tls.fingerprint();
        let bytes: Vec<u8> = print.split(':').map(|p| u8::from_str_radix(p, 16).unwrap()).collect();
        (tls, bytes.try_into().unwrap())
    }

    /// Whether each side came to a connection: the one that waits, the one that says hello.
    async fn shake(waits: &Between, says: &Between) -> (bool, bool) {
        let (a, b) = tokio::io::duplex(16 * 1024);
        let name = ServerName::try_from("peer.invalid").unwrap();
        let acceptor = TlsAcceptor::from(Arc::clone(&waits.server));
        let connector = TlsConnector::from(Arc::clone(&says.client));
        let (waited, said) = tokio::join!(acceptor.accept(a), connector.connect(name, b));
        (waited.is_ok(), said.is_ok())
    }

    #[tokio::test]
    async fn each_believes_the_one_that_was_named_and_nobody_else() {
        let ((a, of_a), (b, of_b), (c, _)) = (server("a"), server("b"), server("c"));
        let between = |tls: &ServerTls, peer| tls.between(None, peer).unwrap();
        assert_eq!(shake(&between(&a, Some(of_b)), &between(&b, Some(of_a))).await, (true, true));
        // A third one, in either role.
        assert!(!shake(&between(&a, Some(of_b)), &between(&c, Some(of_a))).await.0);
        assert!(!shake(&between(&c, Some(of_b)), &between(&b, Some(of_a))).await.1);
        assert_eq!(shake(&between(&a, None), &between(&b, None)).await, (true, true));
    }
}
