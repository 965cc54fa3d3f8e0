//! Certificates and keys as text (RFC 7468), with the headers of the older form (RFC 1421, section 4.6).
//!
//! Certificates are kept in their order; of keys the first counts. What else stands in a file is passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Fault, decrypt};

/// What a file holds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) key: Option<Key>,
}

/// A private key.
pub(super) enum Key {
    /// As it is.
    Plain(Vec<u8>),
    /// PKCS#8's own encryption.
    Pkcs8(Vec<u8>),
    /// The older form: what `DEK-Info` says, and the bytes.
    Older(String, Vec<u8>),
}

impl Key {
    pub(super) fn open(&self, phrase: Option<&str>) -> Result<Vec<u8>, Fault> {
        match self {
            Key::Plain(key) => Ok(key.clone()),
            Key::Pkcs8(info) => decrypt::key(info, &decrypt::Phrase::new(phrase.ok_or(Fault::Encrypted)?)),
            Key::Older(info, body) => decrypt::older(info, body, phrase.ok_or(Fault::Encrypted)?),
        }
    }
}

/// Errors: [`Fault::Damaged`]; [`Fault::Unsupported`] for keys of other kinds.
pub(super) fn read(bytes: &[u8]) -> Result<Found, Fault> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim);
    let mut found = Found::default();
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let (mut encrypted, mut info, mut body) = (false, None, String::new());
        loop {
            match lines.next() {
                None => return Err(Fault::Damaged("it ends within a section")),
                Some(line) if line == end => break,
                Some(line) => match line.split_once(':') {
                    Some(("Proc-Type", value)) => encrypted = value.trim() == "4,ENCRYPTED",
                    Some(("DEK-Info", value)) => info = Some(value.trim().to_owned()),
                    Some(_) => {}
                    None => body.push_str(line),
                },
            }
        }
        let is_certificate = matches!(label, "CERTIFICATE" | "X509 CERTIFICATE");
        if !is_certificate && (!label.ends_with("PRIVATE KEY") || found.key.is_some()) {
            continue;
        }
        let body = STANDARD.decode(body).map_err(|_| Fault::Damaged("it is not what its text should be"))?;
        match label {
            _ if is_certificate => found.chain.push(body),
            "ENCRYPTED PRIVATE KEY" => found.key = Some(Key::Pkcs8(body)),
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                found.key = Some(match (encrypted, info) {
                    (false, _) => Key::Plain(body),
                    (true, Some(info)) => Key::Older(info, body),
                    (true, None) => return Err(Fault::Damaged("how its key is encrypted is not said")),
                });
            }
            _ => return Err(Fault::Unsupported("its key is of no kind that TLS knows")),
        }
    }
    Ok(found)
}
