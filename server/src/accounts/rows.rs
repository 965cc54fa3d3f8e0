//! What is kept, as rows: the one place that says which text a site, a user, a group, a secret or a token is.
//!
//! Every database keeps these rows, each in tables of its own; reading them back gives the same [`Contents`].

use std::sync::Arc;

use serde::Serialize;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::{Change, Stored};

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Group,
    Secret,
    Site,
    Token,
    User,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] = [Kind::Group, Kind::Secret, Kind::Site, Kind::Token, Kind::User];

    /// Its word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Group => "group",
            Kind::Secret => "secret",
            Kind::Site => "site",
            Kind::Token => "token",
            Kind::User => "user",
        }
    }
}

/// One row. What belongs to no site has an empty one.
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) site: String,
    pub(super) name: String,
    /// JSON, of a secret the secret itself; `None` for what is taken away.
    pub(super) text: Option<String>,
    /// Seconds since 1970; 0 where nobody asks.
    pub(super) changed: u64,
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))
}

impl Row {
    /// What keeps a change.
    pub(super) fn of(change: &Change) -> Result<Row> {
        let row = |kind, site: &str, name: &str, text, changed| {
            Ok(Row { kind, site: site.to_owned(), name: name.to_owned(), text, changed })
        };
        let text = |stored: &Option<Arc<Stored>>| stored.as_ref().map(|s| json(&s.record)).transpose();
        let changed = |stored: &Option<Arc<Stored>>| stored.as_ref().map_or(0, |s| s.changed);
        match change {
            Change::Group((site, name), stored) => {
                row(Kind::Group, site, name, text(stored)?, changed(stored))
            }
            Change::Secret(name, secret) => {
                row(Kind::Secret, "", name, secret.as_ref().map(|s| s.expose().to_owned()), 0)
            }
            Change::Site(name, stored) => row(Kind::Site, "", name, text(stored)?, changed(stored)),
            Change::Token(id, token) => row(Kind::Token, "", id, token.as_ref().map(json).transpose()?, 0),
            Change::User((site, name), stored) => row(Kind::User, site, name, text(stored)?, changed(stored)),
        }
    }

    /// What it keeps. The error names what cannot be read.
    pub(super) fn change(self) -> Result<Change, String> {
        let Row { kind, site, name, text, changed } = self;
        let damaged = |name: &str| format!("the {} '{name}'", kind.name());
        Ok(match (kind, text) {
            (Kind::Group | Kind::Site | Kind::User, text) => {
                let record = text.map(|t| serde_json::from_str(&t)).transpose();
                let record = record.map_err(|_| damaged(&name))?;
                let stored = record.map(|record| Arc::new(Stored { record, changed }));
                match kind {
                    Kind::Group => Change::Group((site, name), stored),
                    Kind::Site => Change::Site(name, stored),
                    _ => Change::User((site, name), stored),
                }
            }
            (Kind::Secret, text) => Change::Secret(name, text.map(Secret::new)),
            (Kind::Token, text) => {
                let token = text.map(|t| serde_json::from_str(&t)).transpose().map_err(|_| damaged(&name))?;
                Change::Token(name, token)
            }
        })
    }
}
