//! Which algorithms are spoken, on either end, strongest and quickest first.
//!
//! A server has one list. Key exchange is post-quantum first, with curve25519 for older peers, always strict
//! (Terrapin). AES-GCM stands before ChaCha20 because it is up to twice as fast where the processor helps. MACs are
//! encrypt-then-MAC only. RSA signs with SHA-2 only (RFC 8332). A configuration can take away from the list and
//! reorder it, never add to it.
//!
//! A client has to do with the servers that there are: behind these it offers NIST's curves, finite fields and MACs of
//! SHA-2 (RFC 5656, 8268, 6668), which is all that some that keep to FIPS 140 have. What has been broken since, SHA-1
//! and CBC, it offers only where somebody named it, which a configuration does for one host (`HostKeyAlgorithms
//! +ssh-rsa`). Deliberately absent on both: DSA, RC4, DES and Blowfish, zlib.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};
use session_core::error::{Error, ErrorKind, Result};

const KEX: &[kex::Name] = &[kex::MLKEM768X25519_SHA256, kex::CURVE25519, kex::CURVE25519_PRE_RFC_8731];

/// What a client offers besides.
const USUAL_KEX: &[kex::Name] = &[
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
];

/// What it may be told to offer.
const OLD_KEX: &[kex::Name] = &[kex::DH_GEX_SHA1, kex::DH_G14_SHA1, kex::DH_G1_SHA1];

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

const OLD_CIPHERS: &[cipher::Name] = &[cipher::AES_256_CBC, cipher::AES_192_CBC, cipher::AES_128_CBC];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

const USUAL_MACS: &[mac::Name] = &[mac::HMAC_SHA256, mac::HMAC_SHA512];

const OLD_MACS: &[mac::Name] = &[mac::HMAC_SHA1_ETM, mac::HMAC_SHA1];

const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

const OLD_KEYS: &[Algorithm] = &[Algorithm::Rsa { hash: None }];

/// The algorithms of one end, in order of preference.
#[derive(Clone, Debug)]
pub struct Algorithms {
    /// It may be told to speak what a client may.
    client: bool,
    kex: Vec<kex::Name>,
    ciphers: Vec<cipher::Name>,
    macs: Vec<mac::Name>,
    keys: Vec<Algorithm>,
    certificates: Vec<Algorithm>,
}

impl Algorithms {
    /// What a server speaks.
    pub fn server() -> Self {
        Algorithms {
            client: false,
            kex: KEX.to_vec(),
            ciphers: CIPHERS.to_vec(),
            macs: MACS.to_vec(),
            keys: KEYS.to_vec(),
            certificates: Vec::new(),
        }
    }

    /// What a client offers where nobody says anything else.
    pub fn client() -> Self {
        Algorithms {
            client: true,
            kex: [KEX, USUAL_KEX].concat(),
            macs: [MACS, USUAL_MACS].concat(),
            ..Algorithms::server()
        }
    }

    /// Only these key exchanges, in this order. Errors: `InvalidArgument` for one that is not spoken.
    pub fn with_kex(mut self, names: &[&str]) -> Result<Self> {
        let all = if self.client { [KEX, USUAL_KEX, OLD_KEX].concat() } else { KEX.to_vec() };
        self.kex = choose("key exchange", &all, names)?;
        Ok(self)
    }

    /// Only these ciphers, in this order. Errors: `InvalidArgument` for one that is not spoken.
    pub fn with_ciphers(mut self, names: &[&str]) -> Result<Self> {
        let all = if self.client { [CIPHERS, OLD_CIPHERS].concat() } else { CIPHERS.to_vec() };
        self.ciphers = choose("cipher", &all, names)?;
        Ok(self)
    }

    /// Only these MACs, in this order. Errors: `InvalidArgument` for one that is not spoken.
    pub fn with_macs(mut self, names: &[&str]) -> Result<Self> {
        let all = if self.client { [MACS, USUAL_MACS, OLD_MACS].concat() } else { MACS.to_vec() };
        self.macs = choose("MAC", &all, names)?;
        Ok(self)
    }

    /// Only host keys of these kinds, in this order; certificates of hosts follow their key's kind. Errors:
    /// `InvalidArgument` for one that is not spoken.
    pub fn with_keys(mut self, names: &[&str]) -> Result<Self> {
        let all = if self.client { [KEYS, OLD_KEYS].concat() } else { KEYS.to_vec() };
        let all: Vec<Named> = all.into_iter().map(Named).collect();
        self.keys = choose("kind of host key", &all, names)?.into_iter().map(|n| n.0).collect();
        Ok(self)
    }

    /// The names, in order of preference: key exchanges, kinds of host keys, ciphers, MACs.
    pub fn names(&self) -> [Vec<&str>; 4] {
        [
            self.kex.iter().map(AsRef::as_ref).collect(),
            self.keys.iter().map(Algorithm::as_str).collect(),
            self.ciphers.iter().map(AsRef::as_ref).collect(),
            self.macs.iter().map(AsRef::as_ref).collect(),
        ]
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

/// Names of what a client speaks, in our order: what it offers of itself, and all of it.
#[cfg(feature = "client")]
pub mod spoken {
    use super::*;

    fn names<N: AsRef<str>>(usual: &[&[N]], old: &[N]) -> (Vec<String>, Vec<String>) {
        let usual: Vec<String> = usual.iter().copied().flatten().map(|n| n.as_ref().to_owned()).collect();
        let all = usual.iter().cloned().chain(old.iter().map(|n| n.as_ref().to_owned())).collect();
        (usual, all)
    }

    /// Ciphers.
    pub fn ciphers() -> (Vec<String>, Vec<String>) {
        names(&[CIPHERS], OLD_CIPHERS)
    }

    /// Key exchanges.
    pub fn kex() -> (Vec<String>, Vec<String>) {
        names(&[KEX, USUAL_KEX], OLD_KEX)
    }

    /// Kinds of host keys.
    pub fn keys() -> (Vec<String>, Vec<String>) {
        let named = |keys: &[Algorithm]| keys.iter().cloned().map(Named).collect::<Vec<_>>();
        names(&[&named(KEYS)], &named(OLD_KEYS))
    }

    /// MACs.
    pub fn macs() -> (Vec<String>, Vec<String>) {
        names(&[MACS, USUAL_MACS], OLD_MACS)
    }

    /// Which of what a server offers could be spoken if somebody named it.
    pub(crate) fn only_if_named(theirs: &[String]) -> Option<(&'static str, String)> {
        let lists = [
            ("KexAlgorithms", kex()),
            ("HostKeyAlgorithms", keys()),
            ("Ciphers", ciphers()),
            ("MACs", macs()),
        ];
        lists.into_iter().find_map(|(keyword, (usual, all))| {
            let old = all.into_iter().find(|n| !usual.contains(n) && theirs.contains(n))?;
            Some((keyword, old))
        })
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
    fn a_server_takes_away_and_never_adds() {
        let a = Algorithms::server().with_ciphers(&["aes256-ctr", "aes128-gcm@openssh.com"]).unwrap();
        let names: Vec<String> = a.preferred().cipher.iter().map(|c| c.as_ref().to_owned()).collect();
        assert_eq!(names, ["aes256-ctr", "aes128-gcm@openssh.com"]);
        for bad in [&["aes128-cbc"][..], &["none"], &[]] {
            let e = Algorithms::server().with_ciphers(bad).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
        assert!(Algorithms::server().with_kex(&["diffie-hellman-group14-sha1"]).is_err());
        assert!(Algorithms::server().with_kex(&["ecdh-sha2-nistp256"]).is_err());
        assert!(Algorithms::server().with_macs(&["hmac-sha2-256"]).is_err());
        assert!(Algorithms::server().with_keys(&["ssh-rsa"]).is_err());
        assert!(Algorithms::server().preferred().mac.iter().all(|m| m.as_ref().contains("-etm@")));
    }

    #[test]
    fn nothing_broken_is_offered_unless_it_was_named() {
        for offered in [Algorithms::server(), Algorithms::client()] {
            let p = offered.preferred();
            let weak =
                |name: &str| name.ends_with("sha1") || name.contains("-sha1-") || name.ends_with("-cbc");
            assert!(!p.kex.iter().any(|n| weak(n.as_ref())));
            assert!(!p.cipher.iter().any(|n| weak(n.as_ref())));
            assert!(!p.mac.iter().any(|n| weak(n.as_ref())));
            assert!(!p.key.contains(&Algorithm::Rsa { hash: None }));
            assert_eq!(p.compression.len(), 1);
        }
        let named = Algorithms::client().with_keys(&["ssh-ed25519", "ssh-rsa"]).unwrap();
        assert!(named.preferred().key.contains(&Algorithm::Rsa { hash: None }));
        for never in ["ssh-dss", "3des-cbc", "arcfour", "none"] {
            assert!(Algorithms::client().with_keys(&[never]).is_err());
            assert!(Algorithms::client().with_ciphers(&[never]).is_err());
        }
    }
}
