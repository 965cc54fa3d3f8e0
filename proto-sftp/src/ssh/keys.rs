//! A user's keys: in files (OpenSSH, PKCS#8, PKCS#1; encrypted or not) and in an agent.
//!
//! A key is offered by its public half first; its phrase is asked for only when the server would take
//! it. Decoding and unlocking run on the blocking pool. Secrets are neither logged nor shown.
//!
//! Places left, no stubs: PuTTY's PPK files are refused with a way out; client certificates
//! (`…-cert.pub`) would be loaded beside the key in `KeyFile::load` and offered before it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use tokio::net::UnixStream;

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

    /// The agent and the plain keys it holds; `None` where there is no agent, or it does not answer.
    pub(crate) async fn keys(&self) -> Option<(AgentClient<UnixStream>, Vec<PublicKey>)> {
        let socket = self.socket()?;
        let asked = async {
            let mut agent = AgentClient::connect_uds(&socket).await?;
            let identities = agent.request_identities().await?;
            Ok::<_, russh::keys::Error>((agent, identities))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok((agent, identities))) => {
                let keys = identities.into_iter().filter_map(|i| match i {
                    AgentIdentity::PublicKey { key, .. } => Some(key),
                    AgentIdentity::Certificate { .. } => None,
                });
                Some((agent, keys.collect()))
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
    path: PathBuf,
    text: Secret,
    public: Option<PublicKey>,
    private: Option<Arc<PrivateKey>>,
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(format!("the key file '{}' {why}", path.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))
}

impl KeyFile {
    /// Reads a key file. Errors: those of reading; `InvalidArgument` if it holds no private key;
    /// `Unsupported` for PuTTY's format.
    pub(crate) async fn load(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        blocking(move || Self::load_now(path)).await
    }

    fn load_now(path: PathBuf) -> Result<Self> {
        let failed = |e: std::io::Error| {
            let words = format!("cannot read the key file '{}': {e}", path.display());
            Error::from(e).with_detail(words)
        };
        if std::fs::metadata(&path).map_err(failed)?.len() > LARGEST {
            return Err(unusable(&path, "is too large for a key"));
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        let text = Secret::new(String::from_utf8(bytes).map_err(|_| unusable(&path, "holds no text"))?);
        if text.expose().trim_start().starts_with("PuTTY-User-Key-File-") {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail(format!("the key file '{}' is in PuTTY's format", path.display()))
                .with_hint("puttygen KEY.ppk -O private-openssh -o KEY makes one that can be read"));
        }
        let (public, private) = match russh::keys::decode_secret_key(text.expose(), None) {
            Ok(key) => (Some(key.public_key().clone()), Some(Arc::new(key))),
            Err(_) if is_encrypted(text.expose()) => (public_half(&path, text.expose()), None),
            Err(e) => return Err(unusable(&path, format!("holds no usable private key: {e}"))),
        };
        Ok(KeyFile { path, text, public, private })
    }

    /// The public half, where it can be known without the phrase.
    pub(crate) fn public(&self) -> Option<&PublicKey> {
        self.public.as_ref()
    }

    /// The name for messages.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The private key; asks for its phrase where it has one. Errors: `Unauthenticated` without the
    /// right phrase; `InvalidArgument` for a file that is broken.
    pub(crate) async fn unlock(&mut self, decider: &dyn Decider) -> Result<Arc<PrivateKey>> {
        if let Some(key) = &self.private {
            return Ok(Arc::clone(key));
        }
        for _ in 0..PHRASES {
            let Answer::Secret(phrase) = decider.decide(Query::Passphrase { key: self.name() }).await else {
                return Err(Error::new(ErrorKind::Unauthenticated).with_detail(format!(
                    "the key file '{}' is encrypted and no phrase was given",
                    self.name()
                )));
            };
            let text = self.text.clone();
            let decoded = blocking(move || {
                Ok(russh::keys::decode_secret_key(text.expose(), Some(phrase.expose())).ok())
            });
            if let Some(key) = decoded.await? {
                let key = Arc::new(key);
                self.public = Some(key.public_key().clone());
                self.private = Some(Arc::clone(&key));
                return Ok(key);
            }
        }
        Err(Error::new(ErrorKind::Unauthenticated)
            .with_detail(format!("the phrase does not open the key file '{}'", self.name())))
    }
}

fn is_encrypted(text: &str) -> bool {
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("4,ENCRYPTED")
        || PrivateKey::from_openssh(text).is_ok_and(|k| k.is_encrypted())
}

/// The public half of an encrypted key: in OpenSSH's format it stands in the clear, else beside it.
fn public_half(path: &Path, text: &str) -> Option<PublicKey> {
    if let Ok(key) = PrivateKey::from_openssh(text) {
        return Some(key.public_key().clone());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    PublicKey::read_openssh_file(PathBuf::from(beside)).ok()
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
    Agent(&'a mut AgentClient<UnixStream>),
    File(&'a mut KeyFile, &'a dyn Decider),
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
            Signing::Agent(agent) => Ok(agent.sign_request(key, hash, data).await.map_err(|e| {
                Error::new(ErrorKind::Unauthenticated).with_detail("the agent did not sign").with_source(e)
            })?),
            Signing::File(file, decider) => {
                let key = file.unlock(*decider).await?;
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
