//! A login by a hook over HTTP: it is shown name and password as JSON, and answers with the account's record.
//!
//! `POST` of `{ user, password, address, protocol, site }`; 200 with a record (`{ "groups": ["staff"] }`, keys as of
//! a stored account) or 204 for a yes, 401, 403 and 404 for a no; anything else is a failure, which is no yes. A
//! token in `Authorization` tells the hook who asks.
//!
//! One that is asked about keys gets `{ user, key, … }` without a password, and answers who that is: the record holds
//! the account's `keys`, and that the one at hand is among them is judged here.

use async_trait::async_trait;
use serde_json::{Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::script::Secrets;

use super::{About, Found, Vouch, Word};
use crate::config::{DirectoryTable, Record};
use crate::hooks::{post_json, secret_named};

pub(super) struct Hook {
    url: String,
    token: Option<Secret>,
    groups: Vec<String>,
    keys: bool,
}

impl Hook {
    /// Errors: `InvalidArgument` for a secret that is missing.
    pub(super) fn new(table: &DirectoryTable, secrets: &Secrets) -> Result<Self> {
        let who = format!("the directory '{}'", table.name);
        let token = table.password_secret.as_ref().map(|name| secret_named(secrets, name, &who));
        Ok(Hook {
            url: table.url.clone(),
            token: token.transpose()?,
            groups: table.groups.clone(),
            keys: table.keys,
        })
    }
}

impl Hook {
    /// The record of who shows this; `None` for nobody. Errors: those of asking.
    async fn record(
        &self,
        user: &str,
        (key, shown): (&str, Option<&str>),
        about: About<'_>,
    ) -> Result<Option<Record>> {
        let mut body = json!({
            "user": user, "address": about.address, "protocol": about.protocol, "site": about.site,
        });
        if let (Some(body), Some(shown)) = (body.as_object_mut(), shown) {
            body.insert(key.to_owned(), shown.into());
        }
        let (status, answer) = post_json(&self.url, &body, self.token.as_ref()).await?;
        let mut record = match status {
            200 => match serde_json::from_slice(&answer) {
                Ok(Value::Object(record)) => record,
                // What it said may hold what it was told.
                _ => return Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("the answer is no record")),
            },
            204 => Record::new(),
            401 | 403 | 404 => return Ok(None),
            status => {
                let words = format!("the hook answers {status}");
                return Err(Error::new(ErrorKind::PeerMisbehaved).with_detail(words));
            }
        };
        if !record.contains_key("groups") {
            record.insert("groups".to_owned(), self.groups.clone().into());
        }
        Ok(Some(record))
    }
}

#[async_trait]
impl Vouch for Hook {
    async fn ask(&self, user: &str, password: &Secret, about: About<'_>) -> Result<Word> {
        Ok(self.record(user, ("password", Some(password.expose())), about).await?.into())
    }

    async fn find(&self, user: &str, key: Option<&str>, about: About<'_>) -> Result<Found> {
        if !self.keys {
            return Ok(Found::Silent);
        }
        Ok(self.record(user, ("key", key), about).await?.map_or(Found::Nobody, Found::Is))
    }
}
