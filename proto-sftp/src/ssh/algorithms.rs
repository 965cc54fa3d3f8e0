//! Which algorithms are spoken, on either end: one list, strongest and quickest first.
//!
//! Key exchange is post-quantum first, with curve25519 for older peers, always strict (Terrapin). AES-GCM
//! stands before ChaCha20 because it is up to twice as fast where the processor helps. MACs are
//! encrypt-then-MAC only. RSA signs with SHA-2 only (RFC 8332). A configuration can take away from the
//! list and reorder it, never add to it. Deliberately absent: finite-field groups, CBC, SHA-1, zlib.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};
use session_core::error::{Error, ErrorKind, Result};

const KEX: &[kex::Name] = &[kex::MLKEM768X25519_SHA256, kex::CURVE25519, kex::CURVE25519_PRE_RFC_8731];

/// Not algorithms: what the first message says of extensions.
const MARKERS: &[kex::Name] = &[
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// The algorithms of one end, in order of preference.
#[derive(Clone, Debug)]
pub struct Algorithms {
    kex: Vec<kex::Name>,
    ciphers: Vec<cipher::Name>,
    macs: Vec<mac::Name>,
    keys: Vec<Algorithm>,
    certificates: Vec<Algorithm>,
}

impl Default for Algorithms {
    fn default() -> Self {
        Algorithms {
            kex: KEX.to_vec(),
            ciphers: CIPHERS.to_vec(),
            macs: MACS.to_vec(),
            keys: KEYS.to_vec(),
            certificates: Vec::new(),
        }
    }
}

impl Algorithms {
    /// Only these key exchanges, in this order. Errors: `InvalidArgument` for one that is not spoken.
    pub fn with_kex(mut self, names: &[&str]) -> Result<Self> {
        self.kex = choose("key exchange", KEX, names)?;
        Ok(self)
    }

    /// Only these ciphers, in this order. Errors: `InvalidArgument` for one that is not spoken.
    pub fn with_ciphers(mut self, names: &[&str]) -> Result<Self> {
        self.ciphers = choose("cipher", CIPHERS, names)?;
        Ok(self)
    }

    /// Only these MACs, in this order. Errors: `InvalidArgument` for one that is not spoken.
    pub fn with_macs(mut self, names: &[&str]) -> Result<Self> {
        self.macs = choose("MAC", MACS, names)?;
        Ok(self)
    }

    /// Only host keys of these kinds, in this order; certificates of hosts follow their key's kind. Errors:
    /// `InvalidArgument` for one that is not spoken.
    pub fn with_keys(mut self, names: &[&str]) -> Result<Self> {
        let spoken: Vec<Named> = KEYS.iter().cloned().map(Named).collect();
        self.keys = choose("kind of host key", &spoken, names)?.into_iter().map(|n| n.0).collect();
        Ok(self)
    }

    /// Puts the key algorithms that `first` says yes to before the others.
    #[cfg(feature = "client")]
    pub(crate) fn prefer_keys(mut self, first: impl Fn(&Algorithm) -> bool) -> Self {
        self.keys.sort_by_key(|k| !first(k));
        self
    }

    /// Asks a server for a host certificate, because an authority for it is known.
    #[cfg(feature = "client")]
    pub(crate) fn ask_for_certificates(mut self) -> Self {
        self.certificates = self.keys.clone();
        self
    }

    /// The cipher that a peer gets which prefers these, in its order (RFC 4253, section 7.1).
    #[cfg(feature = "server")]
    pub(crate) fn cipher_for(&self, theirs: &[String]) -> Option<&str> {
        theirs.iter().find_map(|t| self.ciphers.iter().map(AsRef::as_ref).find(|ours: &&str| ours == t))
    }

    pub(crate) fn preferred(&self) -> Preferred {
        let mut kex = self.kex.clone();
        kex.extend_from_slice(MARKERS);
        Preferred {
            kex: Cow::Owned(kex),
            key: Cow::Owned(self.keys.clone()),
            host_key_certificates: Cow::Owned(self.certificates.clone()),
            cipher: Cow::Owned(self.ciphers.clone()),
            mac: Cow::Owned(self.macs.clone()),
            compression: Cow::Borrowed(&[compression::NONE]),
        }
    }
}

#[derive(Clone)]
struct Named(Algorithm);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}

/// The names of all that is spoken, in our order.
pub mod spoken {
    fn names<N: AsRef<str>>(list: &[N]) -> Vec<String> {
        list.iter().map(|n| n.as_ref().to_owned()).collect()
    }

    /// Ciphers.
    pub fn ciphers() -> Vec<String> {
        names(super::CIPHERS)
    }

    /// Key exchanges.
    pub fn kex() -> Vec<String> {
        names(super::KEX)
    }

    /// Kinds of host keys.
    pub fn keys() -> Vec<String> {
        super::KEYS.iter().map(|k| k.as_str().to_owned()).collect()
    }

    /// MACs.
    pub fn macs() -> Vec<String> {
        names(super::MACS)
    }
}

fn choose<N: AsRef<str> + Clone>(what: &str, spoken: &[N], names: &[&str]) -> Result<Vec<N>> {
    let known = || spoken.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
    if names.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail(format!("no {what} is left")));
    }
    names
        .iter()
        .map(|name| {
            spoken.iter().find(|s| s.as_ref() == *name).cloned().ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument)
                    .with_detail(format!("'{name}' is not a {what} that is spoken here"))
                    .with_hint(format!("choose from {}", known()))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_takes_away_and_never_adds() {
        let a = Algorithms::default().with_ciphers(&["aes256-ctr", "aes128-gcm@openssh.com"]).unwrap();
        let names: Vec<String> = a.preferred().cipher.iter().map(|c| c.as_ref().to_owned()).collect();
        assert_eq!(names, ["aes256-ctr", "aes128-gcm@openssh.com"]);
        for bad in [&["aes128-cbc"][..], &["none"], &[]] {
            let e = Algorithms::default().with_ciphers(bad).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
        assert!(Algorithms::default().with_kex(&["diffie-hellman-group14-sha1"]).is_err());
        assert!(Algorithms::default().with_macs(&["hmac-sha2-256"]).is_err());
    }

    #[test]
    fn nothing_weak_is_offered() {
        let p = Algorithms::default().preferred();
        assert!(p.mac.iter().all(|m| m.as_ref().contains("-etm@")));
        assert!(!p.key.contains(&Algorithm::Rsa { hash: None }));
        assert_eq!(p.compression.len(), 1);
    }
}
