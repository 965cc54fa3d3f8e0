//! TLS of a client: who is believed, and sessions that are resumed.
//!
//! A pinned fingerprint decides alone; else the system's authorities do (rustls-platform-verifier); what
//! they do not believe ends the handshake with the certificate as a value, so that a person can be asked
//! *afterwards* and the exact certificate accepted with [`ClientTls::accept`]. Nothing is accepted by not
//! answering. The provider is passed along, nothing is installed for the process.
//!
//! Each login has a store of sessions of its own ([`ClientTls::login`]): a further connection of the same
//! login (FTP's data) resumes that login's session and no other's, which servers demand. Under TLS 1.3 a
//! ticket can be used once and rustls gives it away; [`TlsLogin::tickets`] tells how many are left.
//!
//! Deliberately absent: sockets, records of accepted certificates, revocation.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, SignatureScheme,
    SupportedProtocolVersion, version,
};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::der;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::path::display_bytes;
use crate::trust::{Certificate, CertificateFingerprint};

/// Tickets kept for one login.
const TICKETS: usize = 16;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

/// The user's own certificate and its key. What prints it does not print the key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    name: String,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl ClientCertificate {
    /// Of values in DER form: the certificate, then those above it, and the private key (PKCS#8, PKCS#1 or
    /// SEC 1). `name` is what messages call it. Whether they belong together is judged when they are used.
    /// Errors: `InvalidArgument` without a certificate or for a key that is none.
    pub fn from_der(name: impl Into<String>, chain: Vec<Vec<u8>>, key: Vec<u8>) -> Result<Self> {
        let name = name.into();
        if chain.is_empty() {
            return Err(invalid(format!("'{name}' holds no certificate")));
        }
        let key = PrivateKeyDer::try_from(key)
            .map_err(|_| invalid(format!("the private key in '{name}' is of no kind that is known")))?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Ok(ClientCertificate { name, chain, key: Arc::new(key) })
    }

    /// Of PEM files: the certificate, then those above it, and the private key, which is not encrypted; it may
    /// stand in the same file. Blocks. Errors: `InvalidArgument` for what cannot be read.
    pub fn from_pem_files(chain: &Path, key: &Path) -> Result<Self> {
        let name = chain.display().to_string();
        let read: Vec<_> = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect)
            .map_err(|e| invalid(format!("the certificate '{name}' cannot be read")).with_source(e))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|e| {
            invalid(format!("the private key '{}' cannot be read", key.display())).with_source(e)
        })?;
        Ok(ClientCertificate { name, chain: read, key: Arc::new(key) })
    }

    /// The certificate and those above it, in DER form.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(AsRef::as_ref)
    }
}

/// How a client speaks TLS.
#[derive(Clone, Debug)]
pub struct ClientTlsOptions {
    /// Believe one of these certificates and no other.
    pub fingerprints: Vec<CertificateFingerprint>,
    /// The oldest version.
    pub minimum: TlsVersion,
    /// The newest version.
    pub maximum: TlsVersion,
    /// What the server is shown if it asks.
    pub certificate: Option<ClientCertificate>,
    /// Authorities beside the system's, as PEM files.
    pub authorities: Vec<PathBuf>,
}

impl Default for ClientTlsOptions {
    fn default() -> Self {
        ClientTlsOptions {
            fingerprints: Vec::new(),
            minimum: TlsVersion::V12,
            maximum: TlsVersion::V13,
            certificate: None,
            authorities: Vec::new(),
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(words: String) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

/// The TLS of a client towards one server. Shared by all its logins.
#[derive(Debug)]
pub struct ClientTls {
    base: ClientConfig,
    verifier: Arc<Verifier>,
    name: ServerName<'static>,
    minimum: TlsVersion,
}

impl ClientTls {
    /// Reads the files that are named. Blocks for as long as that takes. Errors: `InvalidArgument` for a
    /// host that cannot be in a certificate, versions in the wrong order, a file that cannot be read.
    pub fn new(host: &str, port: u16, options: &ClientTlsOptions) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| invalid(format!("'{host}' cannot be the name of a server with a certificate")))?;
        if options.minimum > options.maximum {
            return Err(invalid("the oldest version of TLS is newer than the newest".into()));
        }
        let system = if options.fingerprints.is_empty() {
            authorities(options, &provider)?
        } else {
            Err("only the pinned certificate is believed".to_owned())
        };
        let verifier = Arc::new(Verifier {
            host: host.to_owned(),
            port,
            pins: options.fingerprints.clone(),
            system,
            accepted: Mutex::default(),
            refused: Mutex::default(),
            provider: Arc::clone(&provider),
        });
        let both = [&version::TLS13, &version::TLS12];
        let wanted = |v: &&&'static SupportedProtocolVersion| {
            let v =
                if v.version == rustls::ProtocolVersion::TLSv1_3 { TlsVersion::V13 } else { TlsVersion::V12 };
            (options.minimum..=options.maximum).contains(&v)
        };
        let versions: Vec<&'static SupportedProtocolVersion> = both.iter().filter(wanted).copied().collect();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
        let base = match &options.certificate {
            None => builder.with_no_client_auth(),
            Some(own) => {
                builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).map_err(|e| {
                    invalid(format!("the certificate in '{}' cannot be used", own.name)).with_source(e)
                })?
            }
        };
        Ok(ClientTls { base, verifier, name, minimum: options.minimum })
    }

    /// For a library that makes its own connections: it judges by the same rules.
    pub fn config(&self) -> ClientConfig {
        self.base.clone()
    }

    /// Believes exactly this certificate from now on, whatever the authorities say.
    pub fn accept(&self, certificate: &Certificate) {
        lock(&self.verifier.accepted).insert(certificate.sha256);
    }

    /// Offers these protocols in the handshake (ALPN, RFC 7301), the one that is liked best first.
    pub fn offering(mut self, protocols: &[&[u8]]) -> Self {
        self.base.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        self
    }

    /// What one login needs: a configuration with a store of sessions of its own. `newest` lowers the
    /// newest version for this login, where the options allow it.
    pub fn login(&self, newest: Option<TlsVersion>) -> TlsLogin {
        let store = Arc::new(Sessions::default());
        let mut config = self.base.clone();
        config.resumption = Resumption::store(Arc::clone(&store) as Arc<dyn ClientSessionStore>);
        if newest == Some(TlsVersion::V12) && self.minimum == TlsVersion::V12 {
            store.lock().only_tls12 = true;
            if let Ok(builder) = ClientConfig::builder_with_provider(Arc::clone(self.base.crypto_provider()))
                .with_protocol_versions(&[&version::TLS12])
            {
                let mut old = builder
                    .dangerous()
                    .with_custom_certificate_verifier(
                        Arc::clone(&self.verifier) as Arc<dyn ServerCertVerifier>
                    )
                    .with_client_cert_resolver(Arc::clone(&config.client_auth_cert_resolver));
                old.resumption = config.resumption;
                old.alpn_protocols = config.alpn_protocols;
                config = old;
            }
        }
        TlsLogin {
            connector: TlsConnector::from(Arc::new(config)),
            verifier: Arc::clone(&self.verifier),
            name: self.name.clone(),
            store,
        }
    }
}

type System = std::result::Result<rustls_platform_verifier::Verifier, String>;

fn authorities(options: &ClientTlsOptions, provider: &Arc<CryptoProvider>) -> Result<System> {
    let mut more = Vec::new();
    for file in &options.authorities {
        let words = || format!("the authorities in '{}' cannot be read", file.display());
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        more.extend(read.map_err(|e| invalid(words()).with_source(e))?);
    }
    // Without authorities nobody is believed, and whoever is asked is told why.
    Ok(rustls_platform_verifier::Verifier::new_with_extra_roots(more, Arc::clone(provider))
        .map_err(|e| format!("this system names no authorities ({e})")))
}

/// Decides whether a server is believed.
#[derive(Debug)]
struct Verifier {
    host: String,
    port: u16,
    pins: Vec<CertificateFingerprint>,
    system: System,
    accepted: Mutex<HashSet<[u8; 32]>>,
    refused: Mutex<Option<Certificate>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<(), Box<(Certificate, rustls::Error)>> {
        let sha1: [u8; 20] = Sha1::digest(shown.as_ref()).into();
        let sha256: [u8; 32] = Sha256::digest(shown.as_ref()).into();
        if self.pins.iter().any(|pin| pin.matches(&sha1, &sha256)) || lock(&self.accepted).contains(&sha256) {
            return Ok(());
        }
        let (why, error) = if self.pins.is_empty() {
            match &self.system {
                Ok(system) => match system.verify_server_cert(shown, between, name, ocsp, now) {
                    Ok(_) => return Ok(()),
                    Err(e) => (words(&e), e),
                },
                Err(why) => (why.clone(), rustls::CertificateError::UnknownIssuer.into()),
            }
        } else {
            let e = rustls::CertificateError::ApplicationVerificationFailure;
            ("it is not the pinned one".to_owned(), e.into())
        };
        let facts = der::read(shown.as_ref());
        let certificate = Certificate {
            host: self.host.clone(),
            port: self.port,
            subject: display_bytes(facts.subject.as_bytes()),
            issuer: display_bytes(facts.issuer.as_bytes()),
            validity: facts.validity,
            sha1,
            sha256,
            why,
        };
        Err(Box::new((certificate, error)))
    }
}

/// Why a certificate is not believed.
fn words(e: &rustls::Error) -> String {
    use rustls::CertificateError as C;
    let rustls::Error::InvalidCertificate(e) = e else { return e.to_string() };
    match e {
        C::Expired | C::ExpiredContext { .. } => "it has expired".into(),
        C::NotValidYet | C::NotValidYetContext { .. } => "it is not valid yet".into(),
        C::Revoked => "it was revoked".into(),
        C::UnknownIssuer => "nobody who is trusted vouches for it".into(),
        C::NotValidForName | C::NotValidForNameContext { .. } => "it was made for another name".into(),
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => "it vouches only for itself".into(),
        other => format!("{other}"),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match self.judge(shown, between, name, ocsp, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refused) => {
                let (certificate, error) = *refused;
                *lock(&self.refused) = Some(certificate);
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The sessions of one login. The name of the server is always the same and is not looked at.
#[derive(Default)]
struct Sessions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
    only_tls12: bool,
    seen_tls13: bool,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0)
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("tickets", &self.lock().tls13.len()).finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.lock().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.lock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.lock();
        kept.seen_tls13 = true;
        if kept.tls13.len() >= TICKETS {
            kept.tls13.pop_front();
        }
        kept.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().tls13.pop_back()
    }
}

/// The TLS of one login: its first connection, and those that resume it. Cheap to clone.
#[derive(Clone)]
pub struct TlsLogin {
    connector: TlsConnector,
    verifier: Arc<Verifier>,
    name: ServerName<'static>,
    store: Arc<Sessions>,
}

impl std::fmt::Debug for TlsLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsLogin")
            .field("name", &self.name)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum Refused {
    /// The server's certificate is not believed: a person may be asked.
    Certificate(Box<Certificate>),
    /// Anything else.
    Error(Error),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Error(e) => e,
            Refused::Certificate(c) => Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!(
                    "the certificate of '{}' is not trusted: {}; its SHA-256 is {}",
                    c.host,
                    c.why,
                    c.fingerprint()
                ))
                .with_hint("compare the fingerprint with the server's, then pin it"),
        }
    }
}

impl TlsLogin {
    /// The handshake over `stream`. Resumes a session of this login where there is one.
    pub async fn connect<S>(&self, stream: S) -> std::result::Result<TlsStream<S>, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connecting = self.connector.connect(self.name.clone(), stream);
        match connecting.await {
            Ok(stream) => Ok(stream),
            Err(e) => {
                let ours = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                let Some(tls) = ours else { return Err(Refused::Error(Error::from(e))) };
                if matches!(tls, rustls::Error::InvalidCertificate(_))
                    && let Some(certificate) = lock(&self.verifier.refused).take()
                {
                    return Err(Refused::Certificate(Box::new(certificate)));
                }
                Err(Refused::Error(failed(tls)))
            }
        }
    }

    /// How many sessions are left to be resumed under TLS 1.3; `None` where TLS 1.2 is spoken, whose
    /// session can be resumed as often as one likes.
    pub fn tickets(&self) -> Option<usize> {
        let kept = self.store.lock();
        (kept.tls12.is_none() && !kept.only_tls12 && kept.seen_tls13).then_some(kept.tls13.len())
    }
}

fn failed(e: &rustls::Error) -> Error {
    use rustls::{AlertDescription as A, PeerIncompatible, PeerMisbehaved};
    let words = format!("TLS failed: {e}");
    let kind = match e {
        rustls::Error::AlertReceived(A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity)
        | rustls::Error::PeerIncompatible(_) => ErrorKind::Unsupported,
        rustls::Error::AlertReceived(
            A::CertificateRequired
            | A::BadCertificate
            | A::UnknownCA
            | A::AccessDenied
            | A::CertificateUnknown
            | A::CertificateExpired
            | A::CertificateRevoked
            | A::UnsupportedCertificate,
        ) => ErrorKind::Unauthenticated,
        _ => ErrorKind::PeerMisbehaved,
    };
    let hint = match e {
        rustls::Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
        | rustls::Error::AlertReceived(A::ProtocolVersion) => {
            Some("the server and we have no version of TLS in common; TLS 1.2 or newer is needed")
        }
        rustls::Error::InvalidMessage(_)
        | rustls::Error::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec) => {
            Some("the other side may not speak TLS on this port")
        }
        _ => None,
    };
    let e = Error::new(kind).with_detail(words).with_source(e.clone()).with_retry(Retry::Never);
    match hint {
        Some(hint) => e.with_hint(hint),
        None => e,
    }
}

/// The SHA-256 of the certificate that the server has shown, in hexadecimal digits.
pub fn server_fingerprint(connection: &ClientConnection) -> Option<String> {
    let shown = connection.peer_certificates()?.first()?;
    Some(Sha256::digest(shown).iter().map(|b| format!("{b:02x}")).collect())
}

/// Version and cipher in words: `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
pub fn words_of(connection: &ClientConnection) -> String {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLS",
    };
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|s| s.suite().as_str()).unwrap_or("unknown");
    format!("{version} {suite}")
}
