//! TLS of a server: certificates from files, chosen by the name that the client asks for, reloaded while
//! it runs.
//!
//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) by rustls with aws-lc-rs; the provider is passed along, nothing is
//! installed for the process. Sessions are resumed by encrypted tickets, so that idle clients cost no
//! memory; the ticket key outlives a reload, and with it what was begun before. A [`Bond`] tells which
//! connections belong together: only what it gave out itself resumes under it. A reload that fails leaves
//! everything as it was. A server without a certificate makes itself one at first start.
//!
//! Deliberately absent: sockets, revocation of client certificates, ACME.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert, StoresServerSessions,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{CommonState, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use sha2::{Digest as _, Sha256};

use super::between::Between;
use super::der;
use crate::auth::TlsCertificate;
use crate::error::{Error, ErrorKind, Result};
use crate::path::display_bytes;

/// Tickets given to a client with its first connection: some clients use each only once.
const TICKETS: usize = 4;
/// Tickets given with each connection that follows.
const TICKETS_LATER: usize = 1;

/// A certificate with its key, as files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those above it, without the root.
    pub chain: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC 1).
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They may; one that does not chain to an authority in this PEM file ends the handshake.
    Allow(PathBuf),
    /// They must, and it must chain to an authority in this PEM file.
    Require(PathBuf),
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinimumTls {
    /// TLS 1.2.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

/// How a server speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTlsOptions {
    /// The certificates. A client gets the first one that is good for the name it asks for (SNI), else
    /// the first of all. At least one.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show theirs.
    pub client_certificates: ClientCertificates,
    /// The oldest version.
    pub minimum: MinimumTls,
}

/// Sessions of TLS 1.2 clients without tickets that a bond remembers.
const REMEMBERED: usize = 4;

/// The TLS of connections that belong together: FTP's control connection and its data connections. A
/// data connection that resumed (`handshake_kind` says so) was made by whoever made the first one. Holds
/// the certificates of its beginning, whatever is reloaded meanwhile.
#[derive(Clone, Debug)]
pub struct Bond {
    /// For the connection that begins it. It may resume what any bond of this server gave out.
    pub first: Arc<ServerConfig>,
    /// For those that follow. They resume what this bond gave out, or nothing.
    pub later: Arc<ServerConfig>,
}

/// Tickets with the mark of a bond in them.
struct Marked {
    tickets: Arc<dyn ProducesTickets>,
    mark: [u8; 16],
    /// Tickets with another mark are none.
    strict: bool,
}

impl std::fmt::Debug for Marked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marked").field("strict", &self.strict).finish_non_exhaustive()
    }
}

impl ProducesTickets for Marked {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(&[&self.mark, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.tickets.decrypt(cipher)?;
        let (mark, content) = plain.split_first_chunk::<16>()?;
        (!self.strict || *mark == self.mark).then(|| content.to_vec())
    }
}

/// Sessions by their id, for clients of TLS 1.2 that take no tickets: those of one bond.
#[derive(Default)]
struct Own(Mutex<Vec<(Vec<u8>, Vec<u8>)>>);

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Own(…)")
    }
}

impl StoresServerSessions for Own {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= REMEMBERED {
            sessions.remove(0);
        }
        sessions.push((key, value));
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().find(|s| s.0 == key).map(|s| s.1.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sessions.iter().position(|s| s.0 == key)?;
        Some(sessions.remove(at).1)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// What was read last.
struct Current {
    config: Arc<ServerConfig>,
    keys: Arc<ByName>,
    /// Who judges clients, where they are asked.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Of the certificate that comes first.
    fingerprint: String,
}

/// The TLS of a server. Shared by whatever listens with it.
pub struct ServerTls {
    options: ServerTlsOptions,
    provider: Arc<CryptoProvider>,
    ticketer: Arc<dyn ProducesTickets>,
    current: RwLock<Current>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("options", &self.options).finish_non_exhaustive()
    }
}

fn invalid(words: String) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

impl ServerTls {
    /// Reads the files. Errors: `InvalidArgument`, naming the file, for one that cannot be read or does
    /// not fit the other.
    pub fn new(options: ServerTlsOptions) -> Result<Arc<Self>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let ticketer = aws_lc_rs::Ticketer::new().map_err(|e| {
            Error::new(ErrorKind::Internal).with_detail("cannot make a key for tickets").with_source(e)
        })?;
        let current = RwLock::new(read(&options, &provider, &ticketer)?);
        Ok(Arc::new(ServerTls { options, provider, ticketer, current }))
    }

    /// Reads the files again. Connections that are there go on; after an error everything is as before.
    /// Errors: as those of [`ServerTls::new`].
    pub fn reload(&self) -> Result<()> {
        let fresh = read(&self.options, &self.provider, &self.ticketer)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What it was made with.
    pub fn options(&self) -> &ServerTlsOptions {
        &self.options
    }

    /// The SHA-256 of the first certificate, in pairs of hexadecimal digits with colons between them.
    pub fn fingerprint(&self) -> String {
        self.current.read().unwrap_or_else(PoisonError::into_inner).fingerprint.clone()
    }

    /// For connections of their own.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// The certificate that the client of this connection showed, as a proof of who it is. Judged again,
    /// now and by the authorities of now: a session that was resumed brings its certificate along unjudged.
    /// `None` where there is none, or none that holds.
    pub fn client_certificate(&self, connection: &CommonState) -> Option<TlsCertificate> {
        let (shown, between) = connection.peer_certificates()?.split_first()?;
        let judge = self.current.read().unwrap_or_else(PoisonError::into_inner).clients.clone()?;
        judge.verify_client_cert(shown, between, UnixTime::now()).ok()?;
        let facts = der::read(shown);
        Some(TlsCertificate {
            subject: display_bytes(facts.subject.as_bytes()),
            issuer: display_bytes(facts.issuer.as_bytes()),
            common_name: facts.common_name,
            names: facts.names,
            sha256: Sha256::digest(shown).into(),
        })
    }

    /// For a connection to another server, with the certificate that a client gets that asks for `name`. With
    /// `peer`, the other server must show the certificate of this SHA-256. Errors: `Internal`.
    pub fn between(&self, name: Option<&str>, peer: Option<[u8; 32]>) -> Result<Between> {
        let key = self.current.read().unwrap_or_else(PoisonError::into_inner).keys.choose(name);
        Between::new(key, peer, versions(&self.options), &self.provider)
            .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))
    }

    /// For connections that belong together. Errors: `Internal`, without randomness.
    pub fn bond(&self) -> Result<Bond> {
        let mut mark = [0; 16];
        self.provider
            .secure_random
            .fill(&mut mark)
            .map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness"))?;
        let sessions = Arc::new(Own::default());
        let config = self.config();
        let make = |strict: bool, tickets: usize| {
            let mut config = (*config).clone();
            config.ticketer = Arc::new(Marked { tickets: Arc::clone(&self.ticketer), mark, strict });
            config.session_storage = Arc::clone(&sessions) as Arc<dyn StoresServerSessions>;
            config.send_tls13_tickets = tickets;
            Arc::new(config)
        };
        Ok(Bond { first: make(false, TICKETS), later: make(true, TICKETS_LATER) })
    }
}

fn read(
    options: &ServerTlsOptions,
    provider: &Arc<CryptoProvider>,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<Current> {
    let keys = options.certificates.iter().map(|files| certified(files, provider));
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let Some(default) = keys.first().cloned() else {
        return Err(invalid("TLS needs a certificate".to_owned()));
    };
    let digest = Sha256::digest(default.cert.first().map(|c| c.as_ref()).unwrap_or_default());
    let pairs: Vec<_> = digest.iter().map(|b| format!("{b:02x}")).collect();
    let fingerprint = pairs.join(":");
    let bad = |e: rustls::Error| invalid("this TLS cannot be spoken".to_owned()).with_source(e);
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions(options))
        .map_err(bad)?;
    let mut clients = None;
    let builder = match &options.client_certificates {
        ClientCertificates::Off => builder.with_no_client_auth(),
        ClientCertificates::Allow(file) | ClientCertificates::Require(file) => {
            let roots = Arc::new(authorities(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            let verifier = match options.client_certificates {
                ClientCertificates::Allow(_) => verifier.allow_unauthenticated().build(),
                _ => verifier.build(),
            };
            let verifier = verifier
                .map_err(|e| invalid(format!("'{}' cannot judge clients", file.display())).with_source(e))?;
            clients = Some(Arc::clone(&verifier));
            builder.with_client_cert_verifier(verifier)
        }
    };
    let keys = Arc::new(ByName { keys, default });
    let mut config = builder.with_cert_resolver(Arc::clone(&keys) as Arc<dyn ResolvesServerCert>);
    config.ticketer = Arc::clone(ticketer);
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Current { config: Arc::new(config), keys, clients, fingerprint })
}

static NEWEST: &[&SupportedProtocolVersion] = &[&version::TLS13];
static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

fn versions(options: &ServerTlsOptions) -> &'static [&'static SupportedProtocolVersion] {
    match options.minimum {
        MinimumTls::V12 => BOTH,
        MinimumTls::V13 => NEWEST,
    }
}

fn certified(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
    let chain = certificates(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| invalid(format!("'{}' holds no private key", files.key.display())).with_source(e))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|e| {
        let words = format!(
            "the key in '{}' does not serve the certificate in '{}'",
            files.key.display(),
            files.chain.display()
        );
        invalid(words).with_source(e)
    })?;
    Ok(Arc::new(certified))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |e| invalid(format!("'{}' holds no certificates", file.display())).with_source(e);
    let chain = CertificateDer::pem_file_iter(file).map_err(bad)?;
    let chain = chain.collect::<std::result::Result<Vec<_>, _>>().map_err(bad)?;
    if chain.is_empty() {
        return Err(invalid(format!("'{}' holds no certificate", file.display())));
    }
    Ok(chain)
}

fn authorities(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|e| {
            invalid(format!("'{}' holds what is no authority", file.display())).with_source(e)
        })?;
    }
    Ok(roots)
}

/// Chooses by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    keys: Vec<Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ByName {
    fn good_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
        let Some(certificate) = key.cert.first() else { return false };
        ParsedCertificate::try_from(certificate).is_ok_and(|c| verify_server_name(&c, name).is_ok())
    }
}

impl ByName {
    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        if self.keys.len() > 1
            && let Some(Ok(name)) = name.map(ServerName::try_from)
            && let Some(key) = self.keys.iter().find(|k| Self::good_for(k, &name))
        {
            return Arc::clone(key);
        }
        Arc::clone(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name()))
    }
}

/// The files of a certificate that vouches for itself, `tls.crt` and `tls.key` in `folder`: those that
/// are there, or new ones for `names` (host names or addresses; the first is the subject). The key is
/// readable by its owner only. Errors: `InvalidArgument` for a name that is none, or the disk's.
pub fn self_signed(folder: &Path, names: &[String]) -> Result<CertificateFiles> {
    let files = CertificateFiles { chain: folder.join("tls.crt"), key: folder.join("tls.key") };
    if files.chain.exists() && files.key.exists() {
        return Ok(files);
    }
    let bad = |e: rcgen::Error| invalid("a certificate cannot be made".to_owned()).with_source(e);
    let key = rcgen::KeyPair::generate().map_err(bad)?;
    let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(bad)?;
    let subject = names.first().map_or("localhost", String::as_str);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, subject);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(bad)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The key first: a start that fails in between leaves nothing that looks whole.
    write(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    write(&files.chain, certificate.pem().as_bytes(), 0o644)?;
    Ok(files)
}

/// Appears whole or not at all.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    Ok(())
}

/// What protects a connection, for people: `TLSv1.3 AES_256_GCM_SHA384`. Empty before the handshake.
pub fn describe(connection: &CommonState) -> String {
    let Some(suite) = connection.negotiated_cipher_suite() else { return String::new() };
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLS",
    };
    let name = format!("{:?}", suite.suite());
    let name = name.strip_prefix("TLS13_").or_else(|| name.strip_prefix("TLS_")).unwrap_or(&name);
    format!("{version} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(files: Vec<CertificateFiles>) -> ServerTlsOptions {
        ServerTlsOptions { certificates: files, ..ServerTlsOptions::default() }
    }

    fn named(name: &str) -> Vec<String> {
        vec![name.to_owned()]
    }

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let files = self_signed(dir.path(), &named("ftp.example.org")).unwrap();
        let before = std::fs::read(&files.chain).unwrap();
        assert_eq!(self_signed(dir.path(), &named("other")).unwrap(), files);
        assert_eq!(std::fs::read(&files.chain).unwrap(), before);
        assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        ServerTls::new(serving(vec![files])).unwrap();
    }

    #[test]
    fn a_reload_takes_new_files_and_survives_bad_ones() {
        let dir = tempfile::tempdir().unwrap();
        let files = self_signed(dir.path(), &named("a.example")).unwrap();
        let tls = ServerTls::new(serving(vec![files.clone()])).unwrap();
        let first = tls.config();
        tls.reload().unwrap();
        let second = tls.config();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&files.chain, "nothing").unwrap();
        let e = tls.reload().unwrap_err();
        assert!(e.detail().unwrap().contains("tls.crt"), "{e}");
        assert!(Arc::ptr_eq(&second, &tls.config()));
        let other = tempfile::tempdir().unwrap();
        let theirs = self_signed(other.path(), &named("b.example")).unwrap();
        let mixed = CertificateFiles { chain: theirs.chain, key: files.key };
        assert_eq!(ServerTls::new(serving(vec![mixed])).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(ServerTls::new(serving(vec![])).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn tickets_of_another_bond_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let files = self_signed(dir.path(), &named("a.example")).unwrap();
        let tls = ServerTls::new(serving(vec![files])).unwrap();
        let (a, b) = (tls.bond().unwrap(), tls.bond().unwrap());
        let ticket = a.first.ticketer.encrypt(b"secret").unwrap();
        assert_eq!(a.later.ticketer.decrypt(&ticket).unwrap(), b"secret");
        assert_eq!(b.first.ticketer.decrypt(&ticket).unwrap(), b"secret");
        assert_eq!(b.later.ticketer.decrypt(&ticket), None);
        assert_eq!(a.later.ticketer.decrypt(b"junk"), None);
        a.first.session_storage.put(b"id".to_vec(), b"x".to_vec());
        assert_eq!(a.later.session_storage.get(b"id").unwrap(), b"x");
        assert_eq!(b.later.session_storage.get(b"id"), None);
        tls.reload().unwrap();
        assert_eq!(tls.bond().unwrap().first.ticketer.decrypt(&ticket).unwrap(), b"secret");
    }

    #[test]
    fn the_certificate_that_fits_the_name_is_chosen() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let provider = aws_lc_rs::default_provider();
        let key = |dir: &tempfile::TempDir, name: &str| {
            certified(&self_signed(dir.path(), &named(name)).unwrap(), &provider).unwrap()
        };
        let (a, b) = (key(&a, "a.example"), key(&b, "*.b.example"));
        let name = |n: &'static str| ServerName::try_from(n).unwrap();
        assert!(ByName::good_for(&a, &name("a.example")));
        assert!(!ByName::good_for(&a, &name("b.example")));
        assert!(ByName::good_for(&b, &name("x.b.example")));
    }
}
