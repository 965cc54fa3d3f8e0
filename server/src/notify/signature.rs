//! The signature of a webhook, as the Standard Webhooks specification has it: `webhook-id`,
//! `webhook-timestamp` (Unix seconds) and `webhook-signature`, which is `v1,` and the base64 of HMAC-SHA256
//! over `id.timestamp.body`; one for each secret in force, with a space between them.
//!
//! A secret that begins with `whsec_` is base64 behind it; any other is its own bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use sha2::Sha256;

use crate::users::totp::hmac;

/// What a secret of base64 begins with.
const PREFIX: &str = "whsec_";

/// The shortest key, bytes: what is guessed proves nothing.
const SHORTEST: usize = 16;

/// A key that signs. Never shown.
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Errors: `InvalidArgument` for what is too short or no base64.
    pub(super) fn of(secret: &Secret) -> Result<Key> {
        let bad = |words: String| Error::new(ErrorKind::InvalidArgument).with_detail(words);
        let key = match secret.expose().strip_prefix(PREFIX) {
            Some(text) => {
                STANDARD.decode(text).map_err(|_| bad(format!("what follows {PREFIX} is no base64")))?
            }
            None => secret.expose().as_bytes().to_vec(),
        };
        if key.len() < SHORTEST {
            return Err(bad(format!("a secret that signs has {SHORTEST} bytes at least")));
        }
        Ok(Key(key))
    }

    fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        let signed = format!("{id}.{seconds}.{body}");
        format!("v1,{}", STANDARD.encode(hmac::<Sha256>(&self.0, signed.as_bytes())))
    }
}

/// The value of `webhook-signature`.
pub(super) fn signatures(keys: &[Key], id: &str, seconds: u64, body: &str) -> String {
    keys.iter().map(|k| k.sign(id, seconds, body)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_specification() {
        let key = Key::of(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let (id, seconds) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        let signed = signatures(&[key], id, seconds, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn hmac_sha256_of_rfc_4231() {
        let hex = |b: Vec<u8>| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let made = hex(hmac::<Sha256>(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(made, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        // A key that is longer than a block.
        let made =
            hex(hmac::<Sha256>(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"));
        assert_eq!(made, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn weak_secrets_are_refused_and_each_of_two_signs() {
        assert!(Key::of(&Secret::new("short")).is_err());
        assert!(Key::of(&Secret::new("whsec_%%%%")).is_err());
        let keys = ["0123456789abcdef", "fedcba9876543210"].map(|k| Key::of(&Secret::new(k)).unwrap());
        let both = signatures(&keys, "i", 1, "b");
        let [one, two] = keys;
        let parts: Vec<_> = both.split(' ').collect();
        assert_eq!(parts, [signatures(&[one], "i", 1, "b"), signatures(&[two], "i", 1, "b")]);
        assert_ne!(parts[0], parts[1]);
    }
}
