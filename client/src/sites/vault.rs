//! What protects the secrets of sites: a key that Argon2id (RFC 9106) makes of a passphrase, and AES-256-GCM.
//!
//! Each secret is sealed with a nonce of its own and bound to a context that the caller names: what was sealed
//! for one context does not open for another. Costs are written down beside the salt and bounded when they are
//! read. Nothing here is kept on disk; keys are wiped when they are dropped.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

/// What the check of a passphrase seals, and its context.
const CHECK: (&[u8], &[u8]) = (b"ferry", b"ferry sites: check");
/// The most that a file may ask for: KiB, passes, lanes.
const MOST: (u32, u32, u32) = (1 << 20, 16, 16);

/// How the key is made, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    /// KiB of memory.
    memory: u32,
    passes: u32,
    lanes: u32,
    /// 16 bytes in base64.
    salt: String,
    /// A sealed text that is known: what opens it is the passphrase.
    check: String,
}

/// A key that opens and seals.
pub(super) struct Key(LessSafeKey);

fn broken(words: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt).with_detail(words)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Internal).with_detail("the system gives no random numbers"))?;
    Ok(bytes)
}

impl Lock {
    /// A new lock for a passphrase, and its key: 64 MiB, three passes. Blocks for as long as that takes. Errors:
    /// `InvalidArgument` for an empty passphrase.
    pub(super) fn new(phrase: &Secret) -> Result<(Lock, Key)> {
        Self::with_costs(phrase, 64 << 10, 3)
    }

    fn with_costs(phrase: &Secret, memory: u32, passes: u32) -> Result<(Lock, Key)> {
        if phrase.expose().is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the passphrase is empty"));
        }
        let mut lock =
            Lock { memory, passes, lanes: 1, salt: STANDARD.encode(random::<16>()?), check: String::new() };
        let key = lock.key(phrase)?;
        lock.check = key.seal(CHECK.0, CHECK.1)?;
        Ok((lock, key))
    }

    /// The key, if this is the passphrase. Blocks. Errors: `Unauthenticated` if it is not; `Corrupt` for costs and
    /// a salt that make no sense.
    pub(super) fn open(&self, phrase: &Secret) -> Result<Key> {
        let key = self.key(phrase)?;
        match key.open(&self.check, CHECK.1) {
            Ok(known) if known == CHECK.0 => Ok(key),
            _ => Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail("that is not the passphrase of the stored secrets")),
        }
    }

    fn key(&self, phrase: &Secret) -> Result<Key> {
        let senseless = || broken("the lock of the stored secrets makes no sense");
        let fits = self.memory <= MOST.0 && self.passes <= MOST.1 && self.lanes <= MOST.2;
        let salt = STANDARD.decode(&self.salt).ok().filter(|s| fits && s.len() >= 8).ok_or_else(senseless)?;
        let params = Params::new(self.memory, self.passes, self.lanes, Some(32)).map_err(|_| senseless())?;
        let mut bytes = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(phrase.expose().as_bytes(), &salt, &mut bytes)
            .map_err(|_| senseless())?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes);
        bytes.fill(0);
        std::hint::black_box(&bytes);
        Ok(Key(LessSafeKey::new(key.map_err(|_| senseless())?)))
    }
}

impl Key {
    /// Seals `plain` for a context: nonce and what it hides, in base64.
    pub(super) fn seal(&self, plain: &[u8], context: &[u8]) -> Result<String> {
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = plain.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| Error::new(ErrorKind::Internal).with_detail("the secret cannot be sealed"))?;
        let mut out = nonce.to_vec();
        out.append(&mut sealed);
        Ok(STANDARD.encode(out))
    }

    /// Opens what was sealed for this context. Errors: `Corrupt` for anything else.
    pub(super) fn open(&self, sealed: &str, context: &[u8]) -> Result<Vec<u8>> {
        let closed = || broken("a stored secret does not open");
        let mut bytes = STANDARD.decode(sealed).map_err(|_| closed())?;
        let (nonce, rest) = bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(closed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| closed())?;
        let plain = self.0.open_in_place(nonce, Aad::from(context), rest).map_err(|_| closed())?;
        Ok(plain.to_vec())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_and_only_for_its_context() {
        let phrase = Secret::new("correct horse");
        let (lock, key) = Lock::with_costs(&phrase, 64, 1).unwrap();
        let sealed = key.seal(b"hunter2", b"a").unwrap();
        assert_ne!(sealed, key.seal(b"hunter2", b"a").unwrap(), "a nonce is used once");
        let again = lock.open(&phrase).unwrap();
        assert_eq!(again.open(&sealed, b"a").unwrap(), b"hunter2");
        assert_eq!(again.open(&sealed, b"b").unwrap_err().kind(), ErrorKind::Corrupt);
        let e = lock.open(&Secret::new("battery staple")).map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unauthenticated);
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        for i in 0..bytes.len() {
            bytes[i] ^= 1;
            assert!(again.open(&STANDARD.encode(&bytes), b"a").is_err(), "byte {i}");
            bytes[i] ^= 1;
        }
        for bad in ["", "AAAA", "%"] {
            assert!(again.open(bad, b"a").is_err());
        }
        assert!(Lock::with_costs(&Secret::new(""), 64, 1).is_err());
    }

    #[test]
    fn costs_without_bounds_are_refused() {
        let phrase = Secret::new("p");
        let (lock, _) = Lock::with_costs(&phrase, 64, 1).unwrap();
        for wrong in [
            Lock { memory: u32::MAX, ..lock.clone() },
            Lock { passes: 1000, ..lock.clone() },
            Lock { lanes: 0, ..lock.clone() },
            Lock { memory: 1, ..lock.clone() },
            Lock { salt: "AA==".into(), ..lock.clone() },
        ] {
            assert_eq!(wrong.open(&phrase).map(|_| ()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
