//! A user's keys: in files (any format of [`keyfile`](super::keyfile), encrypted or not) and in an agent.
//!
//! A key is offered by its public half first; its phrase is asked for only when the server would take
//! it. A certificate (`KEY-cert.pub`, OpenSSH's `PROTOCOL.certkeys`) is offered before its key. A file with a
//! public key only, or of which only `KEY.pub` is there, chooses among the agent's keys. Decoding and
//! unlocking run on the blocking pool. Secrets are neither logged nor shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use tokio::net::UnixStream;

use super::keyfile::{Fault, UserKey, public_of};

/// The largest key file that is read, bytes.
const LARGEST: u64 = 1 << 20;
/// How often a phrase is asked for.
const PHRASES: u32 = 3;
/// How long an agent may take to list its keys.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where to look for an agent.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Agent {
    /// At `SSH_AUTH_SOCK`, where that is set.
    #[default]
    Environment,
    /// Nowhere.
    Off,
    /// At this socket.
    Socket(PathBuf),
}

impl Agent {
    fn socket(&self) -> Option<PathBuf> {
        match self {
            Agent::Environment => std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty()).map(Into::into),
            Agent::Off => None,
            Agent::Socket(path) => Some(path.clone()),
        }
    }

    /// The agent, the plain keys and the certificates it holds; `None` where there is no agent, or it does
    /// not answer.
    pub(crate) async fn keys(&self) -> Option<(AgentClient<UnixStream>, Vec<PublicKey>, Vec<Certificate>)> {
        let socket = self.socket()?;
        let asked = async {
            let mut agent = AgentClient::connect_uds(&socket).await?;
            let identities = agent.request_identities().await?;
            Ok::<_, russh::keys::Error>((agent, identities))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok((agent, identities))) => {
                let (mut keys, mut certificates) = (Vec::new(), Vec::new());
                for identity in identities {
                    match identity {
                        AgentIdentity::PublicKey { key, .. } => keys.push(key),
                        AgentIdentity::Certificate { certificate, .. } => certificates.push(certificate),
                    }
                }
                Some((agent, keys, certificates))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the agent cannot be asked");
                None
            }
            Err(_) => {
                tracing::debug!("the agent does not answer");
                None
            }
        }
    }
}

/// A key file, opened as far as it can be without asking.
pub(crate) struct KeyFile {
    name: String,
    /// `None` where only the public half is there.
    text: Option<Secret>,
    public: Option<PublicKey>,
    private: Option<Arc<PrivateKey>>,
    /// What stands beside it.
    pub(crate) certificates: Vec<Certificate>,
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(format!("the key file '{}' {why}", path.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))
}

fn read(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| {
        let words = format!("cannot read the key file '{}': {e}", path.display());
        Error::from(e).with_detail(words)
    };
    if std::fs::metadata(path).map_err(failed)?.len() > LARGEST {
        return Err(unusable(path, "is too large for a key"));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| unusable(path, "holds no text"))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl KeyFile {
    /// Reads a key file and the certificate beside it. Errors: those of reading; `InvalidArgument` if it holds
    /// no key, `Corrupt` if it is damaged, `Unsupported` for kinds that are not known.
    pub(crate) async fn load(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        blocking(move || Self::load_now(&path)).await
    }

    /// A key that was given as text.
    pub(crate) async fn of_text(text: Secret) -> Result<Self> {
        blocking(move || Self::parse("the given key".to_owned(), text, None)).await
    }

    fn load_now(path: &Path) -> Result<Self> {
        let mut file = match read(path).map(Secret::new) {
            Ok(text) => Self::parse(path.display().to_string(), text, Some(path))?,
            // The agent may hold the rest.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                match PublicKey::read_openssh_file(beside(path, ".pub")) {
                    Ok(key) => Self::public_only(path, key),
                    Err(_) => return Err(e),
                }
            }
            Err(e) => return Err(e),
        };
        match load_certificate(&beside(path, "-cert.pub")) {
            Ok(certificate) => file.certificates.push(certificate),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "a certificate is passed over"),
        }
        Ok(file)
    }

    fn public_only(path: &Path, key: PublicKey) -> Self {
        let name = path.display().to_string();
        KeyFile { name, text: None, public: Some(key), private: None, certificates: Vec::new() }
    }

    fn parse(name: String, text: Secret, path: Option<&Path>) -> Result<Self> {
        let (public, private) = match UserKey::decode(text.expose(), None) {
            Ok(key) => {
                let key = key.into_inner();
                (Some(key.public_key().clone()), Some(Arc::new(key)))
            }
            Err(Fault::Encrypted) => {
                let stands_beside = || PublicKey::read_openssh_file(beside(path?, ".pub")).ok();
                (public_of(text.expose()).or_else(stands_beside), None)
            }
            Err(Fault::NotAKey) if path.is_some() => {
                let key =
                    PublicKey::from_openssh(text.expose().trim()).map_err(|_| Fault::NotAKey.of(&name))?;
                return Ok(Self::public_only(path.unwrap_or(Path::new("")), key));
            }
            Err(fault) => return Err(fault.of(&name)),
        };
        Ok(KeyFile { name, text: Some(text), public, private, certificates: Vec::new() })
    }

    /// The public half, where it can be known without the phrase.
    pub(crate) fn public(&self) -> Option<&PublicKey> {
        self.public.as_ref()
    }

    /// The name for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is more than a public half.
    pub(crate) fn can_sign(&self) -> bool {
        self.text.is_some()
    }

    /// The private key; tries `given` and then asks for its phrase where it has one. Errors:
    /// `Unauthenticated` without the right phrase; `Corrupt` for a file that is damaged.
    pub(crate) async fn unlock(
        &mut self,
        given: Option<&Secret>,
        decider: &dyn Decider,
    ) -> Result<Arc<PrivateKey>> {
        if let Some(key) = &self.private {
            return Ok(Arc::clone(key));
        }
        let Some(text) = self.text.clone() else {
            return Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("of the key '{}' there is only the public half", self.name)));
        };
        let mut given = given.cloned();
        let mut asked = 0;
        while asked < PHRASES {
            let phrase = match given.take() {
                Some(phrase) => phrase,
                None => {
                    asked += 1;
                    match decider.decide(Query::Passphrase { key: self.name.clone() }).await {
                        Answer::Secret(phrase) => phrase,
                        _ => return Err(Fault::Encrypted.of(&self.name)),
                    }
                }
            };
            let text = text.clone();
            let decoded = blocking(move || Ok(UserKey::decode(text.expose(), Some(&phrase)))).await?;
            match decoded {
                Ok(key) => {
                    let key = Arc::new(key.into_inner());
                    self.public = Some(key.public_key().clone());
                    self.private = Some(Arc::clone(&key));
                    return Ok(key);
                }
                Err(Fault::WrongPhrase) => {}
                Err(fault) => return Err(fault.of(&self.name)),
            }
        }
        Err(Fault::WrongPhrase.of(&self.name))
    }
}

/// Reads a certificate for a user. Errors: those of reading; `InvalidArgument` for anything else.
pub(crate) fn load_certificate(path: &Path) -> Result<Certificate> {
    use russh::keys::ssh_key::certificate::CertType;
    let text = read(path)?;
    let certificate =
        Certificate::from_openssh(text.trim()).map_err(|_| unusable(path, "holds no certificate"))?;
    if certificate.cert_type() != CertType::User {
        return Err(unusable(path, "holds a certificate that is not for a user"));
    }
    Ok(certificate)
}

/// The default key files, those that are there.
pub(crate) fn default_files() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").filter(|h| !h.is_empty()) else { return Vec::new() };
    let folder = PathBuf::from(home).join(".ssh");
    ["id_ed25519", "id_ecdsa", "id_rsa"].iter().map(|n| folder.join(n)).filter(|p| p.is_file()).collect()
}

/// Why something was not signed.
#[derive(Debug)]
pub(crate) enum NotSigned {
    /// The connection is gone.
    Lost,
    /// The key could not be used.
    Failed(Error),
}

impl From<russh::SendError> for NotSigned {
    fn from(_: russh::SendError) -> Self {
        NotSigned::Lost
    }
}

impl From<Error> for NotSigned {
    fn from(e: Error) -> Self {
        NotSigned::Failed(e)
    }
}

/// What signs for russh: a file or the agent.
pub(crate) enum Signing<'a> {
    /// With this key, whatever certificate it is for; else with what is asked for.
    Agent(&'a mut AgentClient<UnixStream>, Option<PublicKey>),
    /// With a phrase to try, and somebody to ask for it.
    File(&'a mut KeyFile, Option<&'a Secret>, &'a dyn Decider),
}

impl russh::Signer for Signing<'_> {
    type Error = NotSigned;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        match self {
            Signing::Agent(agent, own) => {
                let own = own.clone().map(AgentIdentity::from);
                let signed = agent.sign_request(own.as_ref().unwrap_or(key), hash, data).await;
                Ok(signed.map_err(|e| {
                    Error::new(ErrorKind::Unauthenticated)
                        .with_detail("the agent did not sign")
                        .with_source(e)
                })?)
            }
            Signing::File(file, given, decider) => {
                let key = file.unlock(*given, *decider).await?;
                Ok(sign(&key, hash, data)?)
            }
        }
    }
}

/// Signs `data`, and appends the signature to it as SSH wants it.
fn sign(key: &PrivateKey, hash: Option<HashAlg>, mut data: Vec<u8>) -> Result<Vec<u8>> {
    let failed = || Error::new(ErrorKind::Unauthenticated).with_detail("the key cannot sign");
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(rsa) => (rsa, hash).try_sign(&data),
        other => other.try_sign(&data),
    }
    .map_err(|e| failed().with_source(e))?;
    let blob = Vec::<u8>::try_from(signature).map_err(|e| failed().with_source(e))?;
    let len = u32::try_from(blob.len()).map_err(|e| failed().with_source(e))?;
    data.extend_from_slice(&len.to_be_bytes());
    data.extend_from_slice(&blob);
    Ok(data)
}

/// Whether a key is RSA, whose signature has to be chosen.
pub(crate) fn is_rsa(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::Rsa { .. })
}
