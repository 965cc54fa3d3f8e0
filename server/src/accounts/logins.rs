//! What programs log a user in by: what Digest needs, and tokens. Each changes the user's record and says in the
//! answer what is to be known.

use serde_json::{Map, Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::desk::{bad, moment, text};
use super::seconds_now;
use crate::config::{Config, Record, parse_duration};
use crate::users::digest::DigestKey;
use crate::users::password::{Memory, PasswordHash};
use crate::users::token::UserToken;

/// Keeps what Digest needs, of the password that is there already. Blocks. Errors: `InvalidArgument` for another
/// one, and for a user without.
pub(super) fn digest(
    record: &mut Record,
    answer: &mut Map<String, Value>,
    config: &Config,
    name: &str,
    body: &Record,
) -> Result<()> {
    let password = Secret::new(text(body, "password")?);
    let kept = record.get("password").and_then(Value::as_str);
    let kept = kept.ok_or_else(|| bad("the user has no password"))?;
    if !PasswordHash::parse(kept).map_err(bad)?.verify(&password, &Memory::default()) {
        return Err(bad("this is not the password of the user"));
    }
    record.insert("digest".into(), json!(DigestKey::make(name, &config.webdav.realm, &password)));
    if !config.webdav.digest {
        let words = "nobody is offered Digest before `digest` of [webdav] is true";
        answer.insert("warning".into(), words.into());
    }
    Ok(())
}

/// What was kept for Digest is of the old password.
pub(super) fn no_digest(record: &mut Record, answer: &mut Map<String, Value>) {
    if record.remove("digest").is_some() {
        let words = "the user logs in by Digest no more; \
                     `ferryd user set NAME --digest` lets it do so with the new password";
        answer.insert("warning".into(), words.into());
    }
}

/// One token more. Errors: `InvalidArgument`, `Internal`.
pub(super) fn token(record: &mut Record, answer: &mut Map<String, Value>, body: &Record) -> Result<()> {
    let word = |key: &str| match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(body, key).map(Some),
    };
    let expires = match word("time")? {
        None => None,
        Some(time) => Some(seconds_now() + parse_duration(time).map_err(bad)?.as_secs()),
    };
    let (token, secret) = UserToken::make(word("name")?.unwrap_or_default(), expires.map(moment))?;
    answer.insert("id".into(), token.id.as_str().into());
    answer.insert("token".into(), secret.expose().into());
    answer.insert("expires".into(), token.expires.as_deref().into());
    let mut tokens = record.get("tokens").and_then(Value::as_array).cloned().unwrap_or_default();
    tokens.push(serde_json::to_value(token).map_err(|_| Error::from(ErrorKind::Internal))?);
    record.insert("tokens".into(), tokens.into());
    Ok(())
}
