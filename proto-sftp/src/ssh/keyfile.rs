//! A user's private key as text: made, read, written and converted, without files and without asking.
//!
//! Reads OpenSSH's format, PKCS#8 and PKCS#1 (through russh) and PuTTY's PPK 2 and 3 ([`ppk`]); writes
//! OpenSSH's and PPK. A wrong phrase is told from a damaged file ([`Fault`]) wherever the format allows it.
//! Unlocking costs time on purpose: call it where blocking is allowed.
//!
//! Deliberately absent: DSA, Ed448, keys that live in hardware (the agent has those), certificates in PPK.

pub mod ppk;

use std::fmt;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::private::{KeypairData, RsaKeypair};
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, PublicKey};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

/// Why a key cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is encrypted, and no phrase was given.
    Encrypted,
    /// The phrase is not the one.
    WrongPhrase,
    /// The text is broken, whatever the phrase.
    Damaged(String),
    /// A key, but of a kind that is not spoken here.
    Unsupported(String),
    /// No private key at all.
    NotAKey,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Encrypted => f.write_str("is encrypted and no phrase was given"),
            Fault::WrongPhrase => f.write_str("is not opened by that phrase"),
            Fault::Damaged(why) => write!(f, "is damaged: {why}"),
            Fault::Unsupported(what) => write!(f, "cannot be used: {what}"),
            Fault::NotAKey => f.write_str("holds no private key"),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// As an error about something that has a name. Kinds: `Unauthenticated` for the phrase, `Corrupt` for
    /// damage, `Unsupported`, `InvalidArgument`.
    pub fn of(self, name: &str) -> Error {
        let kind = match &self {
            Fault::Encrypted | Fault::WrongPhrase => ErrorKind::Unauthenticated,
            Fault::Damaged(_) => ErrorKind::Corrupt,
            Fault::Unsupported(_) => ErrorKind::Unsupported,
            Fault::NotAKey => ErrorKind::InvalidArgument,
        };
        Error::new(kind).with_detail(format!("the key file '{name}' {self}"))
    }
}

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenSSH's own; encrypted with AES-256-CTR under bcrypt.
    OpenSsh,
    /// PuTTY's version 2, for PuTTY before 0.75 and WinSCP before 5.18; its encryption is weak.
    Ppk2,
    /// PuTTY's version 3; encrypted with AES-256-CBC under Argon2id.
    Ppk3,
}

/// Which key to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ed25519.
    Ed25519,
    /// ECDSA over a NIST curve of 256, 384 or 521 bits.
    Ecdsa(u16),
    /// RSA of this many bits, 2048 to 8192.
    Rsa(u16),
}

/// A private key.
#[derive(Clone)]
pub struct UserKey(PrivateKey);

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserKey({})", self.fingerprint())
    }
}

impl From<PrivateKey> for UserKey {
    fn from(key: PrivateKey) -> Self {
        UserKey(key)
    }
}

fn internal(e: ssh_key::Error) -> Error {
    Error::new(ErrorKind::Internal).with_source(e)
}

impl UserKey {
    /// Makes a key. Blocks: RSA takes seconds. Errors: `InvalidArgument` for a size there is not.
    pub fn generate(kind: Kind, comment: &str) -> Result<Self> {
        let mut rng = safe_rng();
        let sizes = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
        let mut key = match kind {
            Kind::Ed25519 => PrivateKey::random(&mut rng, Algorithm::Ed25519),
            Kind::Ecdsa(bits) => {
                let curve = match bits {
                    256 => EcdsaCurve::NistP256,
                    384 => EcdsaCurve::NistP384,
                    521 => EcdsaCurve::NistP521,
                    _ => return Err(sizes("an ECDSA key has 256, 384 or 521 bits")),
                };
                PrivateKey::random(&mut rng, Algorithm::Ecdsa { curve })
            }
            Kind::Rsa(bits @ 2048..=8192) => RsaKeypair::random(&mut rng, usize::from(bits))
                .and_then(|k| PrivateKey::new(KeypairData::Rsa(k), "")),
            Kind::Rsa(_) => return Err(sizes("an RSA key has 2048 to 8192 bits")),
        }
        .map_err(internal)?;
        key.set_comment(comment);
        Ok(UserKey(key))
    }

    /// Whether a text looks like a private key that is encrypted.
    pub fn is_encrypted(text: &str) -> bool {
        if ppk::is_ppk(text) {
            return ppk::Ppk::parse(text).is_ok_and(|p| p.is_encrypted());
        }
        text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || text.contains("4,ENCRYPTED")
            || PrivateKey::from_openssh(text.trim()).is_ok_and(|k| k.is_encrypted())
    }

    /// Reads a private key. Blocks where there is a phrase.
    pub fn decode(text: &str, phrase: Option<&Secret>) -> Result<Self, Fault> {
        if ppk::is_ppk(text) {
            return ppk::Ppk::parse(text)?.unlock(phrase.map(Secret::expose)).map(UserKey);
        }
        if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
            let key = PrivateKey::from_openssh(text.trim()).map_err(fault)?;
            if !key.is_encrypted() {
                return Ok(UserKey(key));
            }
            let phrase = phrase.ok_or(Fault::Encrypted)?;
            // What does not come out with its check number is not what went in.
            return key.decrypt(phrase.expose()).map(UserKey).map_err(|e| match e {
                ssh_key::Error::Encoding(_) | ssh_key::Error::Crypto => Fault::WrongPhrase,
                other => fault(other),
            });
        }
        if !text.contains("PRIVATE KEY-----") {
            return Err(Fault::NotAKey);
        }
        let encrypted = Self::is_encrypted(text);
        if encrypted && phrase.is_none() {
            return Err(Fault::Encrypted);
        }
        russh::keys::decode_secret_key(text, phrase.map(Secret::expose)).map(UserKey).map_err(|e| {
            // These formats have no other check than whether sense comes out.
            if encrypted { Fault::WrongPhrase } else { Fault::Damaged(e.to_string()) }
        })
    }

    /// The public half of a private key that may be encrypted, where its format shows it in the clear.
    pub fn public_half(text: &str) -> Option<String> {
        public_of(text).and_then(|key| key.to_openssh().ok())
    }

    /// Writes the key. Blocks where there is a phrase. Errors: `Unsupported` for a key that the format
    /// cannot hold.
    pub fn encode(&self, format: Format, phrase: Option<&Secret>) -> Result<Secret> {
        match format {
            Format::OpenSsh => {
                let encrypted;
                let key = match phrase {
                    Some(phrase) => {
                        encrypted = self.0.encrypt(&mut safe_rng(), phrase.expose()).map_err(internal)?;
                        &encrypted
                    }
                    None => &self.0,
                };
                Ok(Secret::new(key.to_openssh(LineEnding::LF).map_err(internal)?.to_string()))
            }
            Format::Ppk2 => ppk::write(&self.0, 2, phrase.map(Secret::expose)),
            Format::Ppk3 => ppk::write(&self.0, 3, phrase.map(Secret::expose)),
        }
    }

    /// The public key as it stands in `authorized_keys`: algorithm, blob, comment.
    pub fn public_line(&self) -> Result<String> {
        self.0.public_key().to_openssh().map_err(internal)
    }

    /// Its fingerprint: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// Its algorithm, SSH name.
    pub fn algorithm(&self) -> String {
        match self.0.algorithm() {
            Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
            other => other.as_str().to_owned(),
        }
    }

    /// Its comment.
    pub fn comment(&self) -> String {
        session_core::path::display_bytes(self.0.comment().as_bytes())
    }

    /// The same key under another comment.
    pub fn with_comment(mut self, comment: &str) -> Self {
        self.0.set_comment(comment);
        self
    }

    pub(crate) fn into_inner(self) -> PrivateKey {
        self.0
    }
}

/// A public key as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicLine {
    /// Algorithm, key and comment, without an end of line.
    pub line: String,
    /// The key in base64.
    pub blob: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

impl PublicLine {
    /// Reads the public keys of a file, one on each line. Errors: words, for anything else and for private keys.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, &'static str> {
        if text.contains("PRIVATE KEY-----") || ppk::is_ppk(text) {
            return Err("holds a private key, which nobody else should have");
        }
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let key = PublicKey::from_openssh(line).map_err(|_| "holds a line that is not a public key")?;
            let blob = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
            let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
            keys.push(PublicLine { line: line.to_owned(), blob, fingerprint });
        }
        if keys.is_empty() { Err("holds no public key") } else { Ok(keys) }
    }
}

pub(crate) fn public_of(text: &str) -> Option<PublicKey> {
    if ppk::is_ppk(text) {
        return ppk::Ppk::parse(text).ok()?.public().cloned();
    }
    PrivateKey::from_openssh(text.trim()).ok().map(|k| k.public_key().clone())
}

fn fault(e: ssh_key::Error) -> Fault {
    match e {
        ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
            Fault::Unsupported("its kind of key is not known".into())
        }
        other => Fault::Damaged(other.to_string()),
    }
}
