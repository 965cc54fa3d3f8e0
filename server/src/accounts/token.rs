//! Tokens of the API: `ferry_ID_SECRET`.
//!
//! How they are made and compared: [`crate::users::token`]. A token says what its bearer may do, and may end by
//! itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use session_core::auth::Secret;
use session_core::error::Result;

use super::desk::{Plan, Touched, bad, moment, text};
use super::{Change, seconds_now};
use crate::config::{Record, is_user_name, parse_duration};
use crate::users::token;

/// What somebody may do through the API; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// See everything but secrets.
    Read,
    /// End sessions, block addresses, reload, drain.
    Operate,
    /// Accounts, secrets and tokens.
    Admin,
}

impl Role {
    /// Its word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// Who it was made for.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// SHA-256 of its secret, hexadecimal.
    pub(crate) hash: String,
    /// Seconds since 1970.
    pub(crate) made: u64,
    pub(crate) expires: Option<u64>,
}

const PREFIX: &str = "ferry_";

impl Token {
    /// A new one: its id, what is kept, and the text that is shown once.
    pub(crate) fn make(
        name: &str,
        role: Role,
        expires: Option<u64>,
        now: u64,
    ) -> Result<(String, Token, Secret)> {
        let token::Made { id, hash, text } = token::make(PREFIX)?;
        let token = Token { name: name.into(), role, hash, made: now, expires };
        Ok((id, token, text))
    }

    /// Whether it is good no more.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// The token that this text is, if it is one that is good.
pub(crate) fn find<'a>(
    tokens: &'a BTreeMap<String, Token>,
    text: &str,
    now: u64,
) -> Option<(&'a str, &'a Token)> {
    let (id, secret) = token::split(PREFIX, text)?;
    let (id, kept) = tokens.get_key_value(id)?;
    let same = token::opens(secret, &kept.hash);
    (same && !kept.is_over(now)).then_some((id.as_str(), kept))
}

/// One more. Errors: `InvalidArgument`, `Internal`.
pub(super) fn plan_token(body: &Record) -> Result<Plan> {
    let name = text(body, "name")?;
    if !is_user_name(name) {
        return Err(bad("a token's name is letters, digits and '.', '_', '@', '-'"));
    }
    let role: Role = serde_json::from_value(body.get("role").cloned().unwrap_or_default())
        .map_err(|_| bad("a role is read, operate or admin"))?;
    let now = seconds_now();
    let expires = match body.get("time") {
        None | Some(Value::Null) => None,
        Some(time) => {
            let time = time.as_str().ok_or_else(|| bad("a time is text, as 90d"))?;
            Some(now + parse_duration(time).map_err(bad)?.as_secs())
        }
    };
    let (id, token, text) = Token::make(name, role, expires, now)?;
    let answer = Map::from_iter([
        ("id".into(), id.as_str().into()),
        ("token".into(), text.expose().into()),
        ("role".into(), role.name().into()),
        ("expires".into(), expires.map(moment).into()),
    ]);
    let words = format!("added token {id} '{name}', which may {}", role.name());
    Ok(Plan { changes: vec![Change::Token(id, Some(token))], touched: Touched::Nothing, answer, words })
}

/// Without its secret.
pub(super) fn show_token(id: &str, token: &Token) -> Value {
    json!({
        "id": id, "name": token.name, "role": token.role.name(), "made": moment(token.made),
        "expires": token.expires.map(moment), "expired": token.is_over(seconds_now()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_whole_text_and_while_it_is_good() {
        let (id, token, text) = Token::make("ci", Role::Read, Some(100), 0).unwrap();
        let (other, second, _) = Token::make("ci", Role::Admin, None, 0).unwrap();
        assert!(!format!("{token:?}").contains(text.expose().rsplit('_').next().unwrap()));
        let tokens = BTreeMap::from([(id.clone(), token), (other.clone(), second)]);
        let good = |text: &str, now| find(&tokens, text, now).map(|(_, t)| t.role);
        assert_eq!(good(text.expose(), 99), Some(Role::Read));
        assert_eq!(good(text.expose(), 100), None);
        let mut cut = text.expose().to_string();
        cut.pop();
        for bad in [cut.as_str(), "", "ferry_", &format!("ferry_{id}_"), &text.expose().replace(&id, &other)]
        {
            assert_eq!(good(bad, 0), None, "{bad}");
        }
        assert!(Role::Read < Role::Operate && Role::Operate < Role::Admin);
    }
}
