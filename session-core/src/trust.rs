//! Trust in a server: host keys and certificates as one decision.
//!
//! What is known decides first (a `known_hosts` file, a pinned fingerprint); only what is unknown is
//! asked. No answer never means yes: unattended use refuses. A changed or revoked key is never offered
//! for acceptance.

use std::fmt;
use std::time::SystemTime;

use base64::Engine as _;

use crate::error::{Error, ErrorKind, Result};

/// What is known of a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Another key is on record for this host: somebody may be in between.
    Changed,
    /// This key, or the authority that signed it, is on record.
    Matches,
    /// Marked as revoked.
    Revoked,
    /// Nothing is on record for this host.
    Unknown,
}

/// What to do about a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustDecision {
    /// Go on, this time.
    Accept,
    /// Go on, and put it on record.
    AcceptAndRemember,
    /// Break off.
    Reject,
}

/// A server's key as shown to whoever decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// The host as the user wrote it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The key's algorithm, SSH name.
    pub algorithm: String,
    /// Size in bits, where the algorithm has more than one.
    pub bits: Option<u32>,
    /// The public key blob (RFC 4253, section 6.6).
    pub blob: Vec<u8>,
    /// SHA-256 of the blob.
    pub sha256: [u8; 32],
    /// MD5 of the blob, for old fingerprints.
    pub md5: [u8; 16],
}

impl HostKey {
    /// OpenSSH's form: `SHA256:…` without padding.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(self.sha256))
    }

    /// OpenSSH's old form: `MD5:aa:bb:…`.
    pub fn md5_fingerprint(&self) -> String {
        format!("MD5:{}", colons(&self.md5))
    }

    /// WinSCP's form: `ssh-rsa 3072 …`, `ssh-ed25519 255 …` (PuTTY counts the bits of the curve's field).
    pub fn winscp_fingerprint(&self) -> String {
        let digest = base64::engine::general_purpose::STANDARD_NO_PAD.encode(self.sha256);
        let of_kind = match self.algorithm.as_str() {
            "ssh-ed25519" => Some(255),
            "ecdsa-sha2-nistp256" => Some(256),
            "ecdsa-sha2-nistp384" => Some(384),
            "ecdsa-sha2-nistp521" => Some(521),
            _ => None,
        };
        match self.bits.or(of_kind) {
            Some(bits) => format!("{} {bits} {digest}", self.algorithm),
            None => format!("{} {digest}", self.algorithm),
        }
    }
}

/// A pinned fingerprint, in OpenSSH's forms (`SHA256:…`, `MD5:aa:bb:…`) or WinSCP's
/// (`ssh-rsa 2048 …`, `ssh-ed25519 256 …`, with a base64 SHA-256 or a colon-separated MD5; algorithm and
/// bits may be left out). See WinSCP's documentation of `SessionOptions.SshHostKeyFingerprint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    algorithm: Option<String>,
    bits: Option<u32>,
    digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Digest {
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

impl Fingerprint {
    /// Parses either form. Errors: `InvalidArgument` with what is expected.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is not a host key fingerprint"))
                .with_hint("give it as 'SHA256:…', 'MD5:aa:bb:…' or 'ssh-ed25519 256 …'")
        };
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let digest = words.pop().ok_or_else(bad)?;
        let (mut algorithm, mut bits) = (None, None);
        for word in words {
            if let Ok(n) = word.parse::<u32>() {
                bits = Some(n);
            } else if algorithm.is_none() && bits.is_none() {
                algorithm = Some(word.to_string());
            } else {
                return Err(bad());
            }
        }
        let digest = parse_digest(digest).ok_or_else(bad)?;
        Ok(Fingerprint { algorithm, bits, digest })
    }

    /// Whether `key` is the one that was pinned.
    pub fn matches(&self, key: &HostKey) -> bool {
        let digest = match &self.digest {
            Digest::Md5(d) => *d == key.md5,
            Digest::Sha256(d) => *d == key.sha256,
        };
        digest
            && self.algorithm.as_ref().is_none_or(|a| *a == key.algorithm)
            && (self.bits.is_none() || key.bits.is_none() || self.bits == key.bits)
    }
}

/// A server's certificate as shown to whoever decides, because nobody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The host as the user wrote it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// For whom it was made, cleaned: `CN=…, O=…`; empty where it could not be read.
    pub subject: String,
    /// Who made it, cleaned in the same way.
    pub issuer: String,
    /// From when to when it is good; `None` where it could not be read.
    pub validity: Option<(SystemTime, SystemTime)>,
    /// SHA-1 of the certificate (DER), for old fingerprints.
    pub sha1: [u8; 20],
    /// SHA-256 of the certificate (DER).
    pub sha256: [u8; 32],
    /// Why it was not believed, in words.
    pub why: String,
}

impl Certificate {
    /// SHA-256 in pairs of digits with colons, as WinSCP, OpenSSL and browsers show it.
    pub fn fingerprint(&self) -> String {
        colons(&self.sha256)
    }

    /// SHA-1 in the same form.
    pub fn sha1_fingerprint(&self) -> String {
        colons(&self.sha1)
    }
}

fn colons(digest: &[u8]) -> String {
    let pairs: Vec<String> = digest.iter().map(|b| format!("{b:02x}")).collect();
    pairs.join(":")
}

/// A pinned certificate: SHA-1 (20 octets) or SHA-256 (32) in hexadecimal, octets set apart by colons or
/// dashes or not at all (WinSCP's `SessionOptions.TlsHostCertificateFingerprint`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFingerprint {
    /// SHA-1 of the DER form.
    Sha1([u8; 20]),
    /// SHA-256 of the DER form.
    Sha256([u8; 32]),
}

impl CertificateFingerprint {
    /// Parses one. Errors: `InvalidArgument` with what is expected.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is not a certificate fingerprint"))
                .with_hint("give SHA-256 or SHA-1 as 'aa:bb:…'")
        };
        let plain = text.trim();
        let octets: Option<Vec<u8>> = if plain.contains([':', '-']) {
            let octet = |p: &str| {
                let two = p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
                two.then(|| u8::from_str_radix(p, 16).ok()).flatten()
            };
            plain.split([':', '-']).map(octet).collect()
        } else if plain.bytes().all(|b| b.is_ascii_hexdigit()) && plain.len().is_multiple_of(2) {
            let digits: Vec<u8> = plain.bytes().collect();
            digits
                .chunks(2)
                .map(|p| std::str::from_utf8(p).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
                .collect()
        } else {
            None
        };
        let octets = octets.ok_or_else(bad)?;
        if let Ok(sha1) = octets.as_slice().try_into() {
            return Ok(CertificateFingerprint::Sha1(sha1));
        }
        octets.try_into().map(CertificateFingerprint::Sha256).map_err(|_| bad())
    }

    /// Parses alternatives set apart by semicolons.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        text.split(';').map(str::trim).filter(|t| !t.is_empty()).map(Self::parse).collect()
    }

    /// Whether a certificate with these digests is the one that was pinned.
    pub fn matches(&self, sha1: &[u8; 20], sha256: &[u8; 32]) -> bool {
        match self {
            CertificateFingerprint::Sha1(pinned) => pinned == sha1,
            CertificateFingerprint::Sha256(pinned) => pinned == sha256,
        }
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateFingerprint::Sha1(d) => f.write_str(&colons(d)),
            CertificateFingerprint::Sha256(d) => f.write_str(&colons(d)),
        }
    }
}

fn parse_digest(text: &str) -> Option<Digest> {
    let plain = text.strip_prefix("MD5:").unwrap_or(text);
    let pairs: Vec<&str> = plain.split([':', '-']).collect();
    if pairs.len() == 16 && pairs.iter().all(|p| p.len() == 2) {
        let bytes: Option<Vec<u8>> = pairs.iter().map(|p| u8::from_str_radix(p, 16).ok()).collect();
        return bytes?.try_into().ok().map(Digest::Md5);
    }
    let plain = text.strip_prefix("SHA256:").unwrap_or(text).trim_end_matches('=');
    // WinSCP also prints the URL-safe alphabet.
    let plain = plain.replace('-', "+").replace('_', "/");
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(plain).ok()?;
    bytes.try_into().ok().map(Digest::Sha256)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(a) = &self.algorithm {
            write!(f, "{a} ")?;
        }
        if let Some(b) = &self.bits {
            write!(f, "{b} ")?;
        }
        match &self.digest {
            Digest::Md5(d) => {
                let hex: Vec<String> = d.iter().map(|b| format!("{b:02x}")).collect();
                write!(f, "MD5:{}", hex.join(":"))
            }
            Digest::Sha256(d) => {
                write!(f, "SHA256:{}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(d))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey {
            host: "h".into(),
            port: 22,
            algorithm: "ssh-ed25519".into(),
            bits: Some(256),
            blob: vec![1, 2, 3],
            sha256: [7; 32],
            md5: [0xab; 16],
        }
    }

    #[test]
    fn both_families_of_forms_match() {
        let k = key();
        for text in [
            k.fingerprint(),
            k.winscp_fingerprint(),
            format!("{}=", k.winscp_fingerprint()),
            format!("MD5:{}", ["ab"; 16].join(":")),
            ["ab"; 16].join(":"),
            format!("ssh-ed25519 256 {}", ["ab"; 16].join(":")),
        ] {
            assert!(Fingerprint::parse(&text).unwrap().matches(&k), "{text}");
        }
        let other = k.winscp_fingerprint().replace("ssh-ed25519", "ssh-rsa");
        assert!(!Fingerprint::parse(&other).unwrap().matches(&k));
        for bad in ["", "SHA256:", "hello", "ssh-rsa 2048", "a b c d"] {
            assert_eq!(Fingerprint::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn certificates_are_pinned_in_both_digests_with_and_without_colons() {
        let (sha1, sha256) = ([0x1f; 20], [0xe0; 32]);
        for text in [["1f"; 20].join(":"), ["1F"; 20].join("-"), ["e0"; 32].join(":"), "E0".repeat(32)] {
            let pin = CertificateFingerprint::parse(&text).unwrap();
            assert!(pin.matches(&sha1, &sha256), "{text}");
            assert!(!pin.matches(&[0; 20], &[0; 32]), "{text}");
            assert_eq!(CertificateFingerprint::parse(&pin.to_string()).unwrap(), pin);
        }
        for bad in ["", "*", "aa:bb", "1:2", "zz", &"+f".repeat(20), &["+f"; 20].join(":")] {
            let e = CertificateFingerprint::parse(bad).map(|_| ()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}");
        }
        let two = format!("{};{}", ["1f"; 20].join(":"), ["e0"; 32].join(":"));
        assert_eq!(CertificateFingerprint::parse_list(&two).unwrap().len(), 2);
    }
}
