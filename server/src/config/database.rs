//! `[database]`: where what several nodes have in common is kept.
//!
//! Without a URL it is a file of this server alone. A server of PostgreSQL is spoken to under TLS as soon as
//! what is said leaves the machine, or where authorities are named; its password is a secret of `[scripts]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::fault::{Fault, Source, Step};
use super::{is_user_name, values};
use crate::postgres;

/// What nodes share, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Shared {
    /// A server of PostgreSQL: `postgres://user@host:port/database`, without a password.
    pub url: Option<String>,
    /// The name of the secret that is the password.
    pub password_secret: Option<String>,
    /// Authorities as PEM, beside the system's.
    pub authorities: Option<PathBuf>,
    /// What is asked and answered may be read on the way.
    pub allow_clear: bool,
    /// How this server is called among the others; empty: as its machine.
    pub node: String,
    /// The most time of a question, and of connecting.
    #[serde(deserialize_with = "values::duration")]
    pub time: Duration,
    /// How often it is looked whether others have changed something, besides being told.
    #[serde(deserialize_with = "values::duration")]
    pub poll: Duration,
    /// How long accounts are believed while the database cannot be reached.
    #[serde(deserialize_with = "values::duration")]
    pub remember: Duration,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            url: None,
            password_secret: None,
            authorities: None,
            allow_clear: false,
            node: String::new(),
            time: Duration::from_secs(10),
            poll: Duration::from_secs(5),
            remember: Duration::from_secs(3600),
        }
    }
}

impl Shared {
    /// How this server is called among the others.
    pub fn node(&self) -> String {
        if !self.node.is_empty() {
            return self.node.clone();
        }
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Some(machine.trim()).filter(|name| is_user_name(name)).unwrap_or("node").into()
    }

    /// Whether what is said is kept private.
    pub(crate) fn is_private(&self, url: &tokio_postgres::Config) -> bool {
        !self.allow_clear && (!postgres::is_near(url) || self.authorities.is_some())
    }

    /// Faults between values.
    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut wrong = |key: &str, words: &str| {
            let at = [Step::Key("database".into()), Step::Key(key.into())];
            faults.push(source.fault_at(&at, words));
        };
        match self.url.as_deref().map(postgres::url) {
            Some(Err(words)) => wrong("url", &words),
            None if self.password_secret.is_some() => {
                wrong("password_secret", "'url' says where it is shown")
            }
            _ => {}
        }
        if self.allow_clear && self.authorities.is_some() {
            wrong("authorities", "there is nobody to vouch for in the clear");
        }
        if !self.node.is_empty() && !is_user_name(&self.node) {
            wrong("node", "a node's name is letters, digits and '.', '_', '@', '-'");
        }
        for (key, time) in [("time", self.time), ("poll", self.poll)] {
            if time.is_zero() {
                wrong(key, "this takes some time");
            }
        }
        faults
    }

    pub(super) fn complete(&mut self, join: impl Fn(&Path) -> PathBuf) {
        self.authorities = self.authorities.take().map(|f| join(&f));
    }
}
