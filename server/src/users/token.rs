//! Tokens: random words that programs show as they are, `PREFIX ID _ SECRET`.
//!
//! The secret is 256 random bits, so its SHA-256 keeps it and needs no salt. The id tells which token is meant, so
//! that nothing is searched by the secret; the hashes are compared in a time that does not depend on where they
//! differ.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};

use super::hours;

/// What the tokens of accounts begin with.
const PREFIX: &str = "ferryu_";

/// A new token.
pub(crate) struct Made {
    pub(crate) id: String,
    /// SHA-256 of its secret, hexadecimal.
    pub(crate) hash: String,
    /// The whole of it, which is shown once.
    pub(crate) text: Secret,
}

/// A new token that begins with `prefix`. Errors: `Internal`, without randomness.
pub(crate) fn make(prefix: &str) -> Result<Made> {
    let mut bytes = [0u8; 38];
    getrandom::fill(&mut bytes).map_err(|_| Error::new(ErrorKind::Internal))?;
    let (id, secret) = bytes.split_at(6);
    let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let text = Secret::new(format!("{prefix}{id}_{secret}"));
    Ok(Made { hash: hash(&secret), id, text })
}

/// The id of a token that begins with `prefix`, and its secret.
pub(crate) fn split<'a>(prefix: &str, text: &'a str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(prefix)?.split_once('_')
}

fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether this is the secret of which `kept` is the hash.
pub(crate) fn opens(secret: &str, kept: &str) -> bool {
    let shown = hash(secret);
    let pairs = shown.bytes().zip(kept.bytes());
    let difference = pairs.fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    std::hint::black_box(difference) == 0 && kept.len() == shown.len()
}

/// A token of an account, as it is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserToken {
    /// What it is known by.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// SHA-256 of its secret, hexadecimal.
    #[serde(deserialize_with = "digits")]
    pub hash: String,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Until when it is good, as `2030-12-31` or with a time.
    #[serde(default, deserialize_with = "end", skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl UserToken {
    /// A new one, and the text of it, which is shown once. Errors: `Internal`.
    pub(crate) fn make(name: &str, expires: Option<String>) -> Result<(UserToken, Secret)> {
        let Made { id, hash, text } = make(PREFIX)?;
        Ok((UserToken { id, hash, name: name.to_owned(), expires }, text))
    }

    /// The id that a text names, if it is a token of an account at all.
    pub(crate) fn id_of(text: &str) -> Option<&str> {
        split(PREFIX, text).map(|(id, _)| id)
    }

    /// Whether `text` is this token, and it is good still.
    pub(crate) fn is(&self, text: &str, now: SystemTime) -> bool {
        let Some((id, secret)) = split(PREFIX, text) else { return false };
        let over = self.expires.as_deref().is_some_and(|end| moment(end).is_none_or(|end| end <= now));
        opens(secret, &self.hash) && id == self.id && !over
    }
}

fn moment(text: &str) -> Option<SystemTime> {
    hours::moment(&text.parse().ok()?).ok()
}

fn id<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<String, D::Error> {
    let id = String::deserialize(d)?;
    match (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        true => Ok(id),
        false => Err(D::Error::custom("the id of a token is 1 to 64 letters and digits")),
    }
}

fn digits<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(d)?;
    match text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        true => Ok(text),
        false => {
            Err(D::Error::custom("the hash of a token is its SHA-256, 64 hexadecimal digits of lower case"))
        }
    }
}

fn end<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    match moment(&text) {
        Some(_) => Ok(Some(text)),
        None => Err(D::Error::custom("a token expires at a date, \"2030-12-31\", or a moment, as text")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_token_of_an_account_is_its_whole_text_until_it_ends() {
        let (token, text) = UserToken::make("ci", Some("1970-01-02T00:00:00Z".into())).unwrap();
        let (other, second) = UserToken::make("", None).unwrap();
        let day = UNIX_EPOCH + Duration::from_secs(24 * 3600);
        assert!(token.is(text.expose(), UNIX_EPOCH) && !token.is(text.expose(), day));
        assert!(other.is(second.expose(), day) && !other.is(text.expose(), UNIX_EPOCH));
        assert_eq!(UserToken::id_of(text.expose()), Some(token.id.as_str()));
        assert_eq!(UserToken::id_of("ferry_0123_x"), None);
        let mut cut = second.expose().to_string();
        cut.pop();
        for bad in [cut.as_str(), "", PREFIX, &second.expose().replace(&other.id, &token.id)] {
            assert!(!other.is(bad, UNIX_EPOCH), "{bad}");
        }
        let kept = serde_json::to_string(&token).unwrap();
        assert!(!kept.contains(text.expose().rsplit('_').next().unwrap()));
        assert_eq!(serde_json::from_str::<UserToken>(&kept).unwrap(), token);
        for (key, bad) in [("id", "a/b"), ("hash", "short"), ("expires", "soon")] {
            let mut value = serde_json::to_value(&token).unwrap();
            value[key] = bad.into();
            assert!(serde_json::from_value::<UserToken>(value).is_err(), "{key}");
        }
    }
}
