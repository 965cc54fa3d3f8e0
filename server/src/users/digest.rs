//! What an account keeps for Digest (RFC 7616): `REALM:HASH`, the hash of `NAME:REALM:PASSWORD` by MD5 or SHA-256, in
//! hexadecimal digits. A line of htdigest without its name is one.
//!
//! It is as good as the password where Digest is spoken, and belongs to one password: whoever changes that takes
//! it away. A hash of a password cannot answer Digest, so it is there only for accounts for which it was asked.

use std::fmt;

use session_core::auth::Secret;
use session_core::digest::Hasher;
use session_core::fs::Algorithm;

/// One of them. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestKey {
    /// What it logs in to.
    pub realm: String,
    /// The hash.
    pub hash: Secret,
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DigestKey({:?}, …)", self.realm)
    }
}

const MD5: usize = 32;
const SHA256: usize = 64;

impl DigestKey {
    /// Reads one. The error says what is wrong, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.rsplit_once(':') {
            Some((realm, hash)) if matches!(hash.len(), MD5 | SHA256) && hash.bytes().all(digit) => {
                Ok(DigestKey { realm: realm.to_owned(), hash: Secret::new(hash) })
            }
            _ => Err("this is no REALM:HASH with 32 or 64 hexadecimal digits of lower case: \
                      `ferryd user set NAME --digest` makes them"
                .into()),
        }
    }

    /// Those of a password: by SHA-256 and by MD5, as text.
    pub(crate) fn make(user: &str, realm: &str, password: &Secret) -> [String; 2] {
        [Algorithm::Sha256, Algorithm::Md5].map(|algorithm| {
            let mut hasher = Hasher::new(algorithm);
            for part in [user, ":", realm, ":", password.expose()] {
                hasher.update(part.as_bytes());
            }
            let hash: String = hasher.finish().iter().map(|b| format!("{b:02x}")).collect();
            format!("{realm}:{hash}")
        })
    }

    /// By MD5.
    pub(crate) fn is_md5(&self) -> bool {
        self.hash.expose().len() == MD5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_htdigest() {
        let [sha256, md5] = DigestKey::make("Mufasa", "testrealm@host.com", &Secret::new("Circle Of Life"));
        // RFC 2617, section 3.5.
        assert_eq!(md5, "testrealm@host.com:939e7578ed9e3c518a452acee763bce9");
        let read = DigestKey::parse(&md5).unwrap();
        assert!(read.is_md5() && !DigestKey::parse(&sha256).unwrap().is_md5());
        assert_eq!(read.realm, "testrealm@host.com");
        assert!(!format!("{read:?}").contains("939e"));
        assert_eq!(DigestKey::parse(&format!("a:b:{}", "0".repeat(32))).unwrap().realm, "a:b");
        for bad in ["", "realm", "realm:", "realm:abc", &format!("r:{}", "A".repeat(32)), &"0".repeat(32)] {
            assert!(DigestKey::parse(bad).is_err(), "{bad}");
        }
    }
}
