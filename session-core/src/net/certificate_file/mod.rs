//! A certificate of one's own and its key, as files hold them: PEM (RFC 7468) or PKCS#12 (RFC 7292).
//!
//! The key may stand under a phrase: PKCS#8 under PBES2 (RFC 8018: PBKDF2 or scrypt; AES, triple DES) or under
//! PKCS#12's schemes, the older PEM with `DEK-Info` (RFC 1421, OpenSSL's derivation; AES, triple DES). A wrong
//! phrase is told from a damaged file wherever the format allows it. What opening costs is bounded: a file that
//! asks for more is refused. Opening costs time on purpose: call it where blocking is allowed.
//!
//! Deliberately absent: DES and RC4, PKCS#12 sealed to public keys or by PBMAC1 (RFC 9579), who asks for phrases.

mod decrypt;
mod pem;
mod pkcs12;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use super::client_tls::ClientCertificate;
use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};

/// The largest file that is read, bytes.
const LARGEST: u64 = 1 << 20;

/// Why a file does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is encrypted, and no phrase was given.
    Encrypted,
    /// The phrase is not the one.
    WrongPhrase,
    /// It is broken, whatever the phrase.
    Damaged(&'static str),
    /// What it says is known, and is not read.
    Unsupported(&'static str),
    /// Something that has to be in it is not.
    Missing(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Encrypted => f.write_str("is encrypted and no phrase was given"),
            Fault::WrongPhrase => f.write_str("is not opened by that phrase"),
            Fault::Damaged(why) => write!(f, "is damaged: {why}"),
            Fault::Unsupported(what) => write!(f, "cannot be used: {what}"),
            Fault::Missing(what) => write!(f, "holds no {what}"),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// As an error about a file. Kinds: `Unauthenticated` for the phrase, `Corrupt` for damage, `Unsupported`,
    /// `InvalidArgument`.
    pub fn of(self, name: &str) -> Error {
        let kind = match &self {
            Fault::Encrypted | Fault::WrongPhrase => ErrorKind::Unauthenticated,
            Fault::Damaged(_) => ErrorKind::Corrupt,
            Fault::Unsupported(_) => ErrorKind::Unsupported,
            Fault::Missing(_) => ErrorKind::InvalidArgument,
        };
        Error::new(kind).with_detail(format!("the certificate file '{name}' {self}"))
    }
}

/// What is in a file.
enum Form {
    Pem { chain: Vec<Vec<u8>>, key: pem::Key },
    Pkcs12(Vec<u8>),
}

/// A file that was read and may be locked. What prints it prints its name.
pub struct CertificateFile {
    name: String,
    form: Form,
}

impl fmt::Debug for CertificateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl CertificateFile {
    /// Reads a file. A PEM file without a key has it beside it, in the one of the same name that ends in `.key`.
    /// Blocks. Errors: those of reading; those of [`Fault::of`] but for the phrase.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = bytes_of(path)?;
        if pkcs12::is(&bytes) {
            return Ok(CertificateFile { name, form: Form::Pkcs12(bytes) });
        }
        let fault = |fault: Fault| fault.of(&name);
        let found = pem::read(&bytes).map_err(fault)?;
        if found.chain.is_empty() {
            return Err(Fault::Missing("certificate, neither in PEM form nor as PKCS#12").of(&name));
        }
        let beside = path.with_extension("key");
        let (name, key) = match found.key {
            Some(key) => (name, key),
            None if beside.is_file() => {
                let name = beside.display().to_string();
                let key = pem::read(&bytes_of(&beside)?).map_err(|fault| fault.of(&name))?.key;
                let key = key.ok_or_else(|| Fault::Missing("private key").of(&name))?;
                (name, key)
            }
            None => {
                return Err(Fault::Missing("private key, and there is none beside it").of(&name).with_hint(
                    "append the key to the file, or put it beside it under the same name, ending in .key",
                ));
            }
        };
        Ok(CertificateFile { name, form: Form::Pem { chain: found.chain, key } })
    }

    /// The file that a phrase would open.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens it; without a phrase only what stands under none, or under an empty one. Blocks.
    pub fn open(&self, phrase: Option<&Secret>) -> std::result::Result<ClientCertificate, Fault> {
        let (chain, key) = match &self.form {
            Form::Pem { chain, key } => (chain.clone(), key.open(phrase.map(Secret::expose))?),
            Form::Pkcs12(bytes) => pkcs12::open(bytes, phrase.map(Secret::expose))?,
        };
        ClientCertificate::from_der(self.name.as_str(), chain, key)
            .map_err(|_| Fault::Unsupported("its key is of no kind that TLS knows"))
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let failed = |e: std::io::Error| {
        let words = format!("cannot read the certificate '{}': {e}", path.display());
        Error::from(e).with_detail(words)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{}' is too large for a certificate", path.display())));
    }
    Ok(bytes)
}
