//! `[mail]` and `[sql.NAME]`: how handlers send mail, and which databases they may ask.
//!
//! What is secret stands in the secrets of `[scripts]` and is named here. Nothing is sent or asked in the clear
//! unless that is said, and no password of mail even then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::fault::{Fault, Source, Step};
use super::values;

words! {
    /// How the connection to a mail server is kept private.
    MailTls {
        /// It turns to TLS before anything is said, or nothing is.
        #[default]
        Starttls,
        /// From the first byte.
        Implicit,
        /// Not at all.
        Off,
    }
}

/// The server that takes mail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mail {
    /// `host:port`; without it nothing is sent.
    pub server: Option<String>,
    /// How the connection is kept private.
    pub tls: MailTls,
    /// Authorities as PEM, beside the system's.
    pub authorities: Option<PathBuf>,
    /// Who logs in; nobody without it.
    pub user: Option<String>,
    /// The name of the secret that is the password.
    pub password_secret: Option<String>,
    /// The sender, where a handler names none.
    pub from: Option<String>,
    /// The most time of one mail.
    #[serde(deserialize_with = "values::duration")]
    pub time: Duration,
    /// The most bytes of one mail's text and attachment.
    pub size: usize,
}

impl Default for Mail {
    fn default() -> Self {
        Mail {
            server: None,
            tls: MailTls::default(),
            authorities: None,
            user: None,
            password_secret: None,
            from: None,
            time: Duration::from_secs(30),
            size: 10 << 20,
        }
    }
}

impl Mail {
    /// Host and port, where there is a server. The error says what is wrong.
    pub fn address(&self) -> Result<Option<(String, u16)>, String> {
        let Some(server) = &self.server else { return Ok(None) };
        let usual = match self.tls {
            MailTls::Starttls => 587,
            MailTls::Implicit => 465,
            MailTls::Off => 25,
        };
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().ok().filter(|p| *p != 0).ok_or(format!("'{port}' is not a port"))?)
            }
            _ => (server.as_str(), usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return Err("this is no host".into());
        }
        Ok(Some((host.to_owned(), port)))
    }
}

/// A database: a file or a URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Database {
    /// A file of SQLite.
    pub file: Option<PathBuf>,
    /// A server of PostgreSQL: `postgres://user@host:port/database`, without a password.
    pub url: Option<String>,
    /// The name of the secret that is the password.
    pub password_secret: Option<String>,
    /// Authorities as PEM, beside the system's.
    pub authorities: Option<PathBuf>,
    /// What is asked and answered may be read on the way.
    pub allow_clear: bool,
    /// It may be changed.
    pub write: bool,
    /// The most rows of an answer.
    pub rows: usize,
    /// The most time of a query, and of connecting.
    #[serde(deserialize_with = "values::duration")]
    pub time: Duration,
    /// Connections at once.
    pub connections: usize,
}

impl Default for Database {
    fn default() -> Self {
        Database {
            file: None,
            url: None,
            password_secret: None,
            authorities: None,
            allow_clear: false,
            write: false,
            rows: 1000,
            time: Duration::from_secs(5),
            connections: 4,
        }
    }
}

/// Faults between values.
pub(super) fn check(mail: &Mail, sql: &BTreeMap<String, Database>, source: &Source<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let key = |k: &str| Step::Key(k.into());
    let mut wrong = |k: &str, words: &str| faults.push(source.fault_at(&[key("mail"), key(k)], words));
    if let Err(words) = mail.address() {
        wrong("server", &words);
    }
    if mail.user.is_some() != mail.password_secret.is_some() {
        let k = if mail.user.is_some() { "user" } else { "password_secret" };
        wrong(k, "a login is a user and a password: 'user' and 'password_secret'");
    }
    if mail.user.is_some() && mail.tls == MailTls::Off {
        wrong("tls", "the password would be read on the way");
    }
    if mail.time.is_zero() {
        wrong("time", "this takes some time");
    }
    for (name, database) in sql {
        let mut wrong = |k: &str, words: &str| {
            faults.push(source.fault_at(&[key("sql"), key(name), key(k)], words));
        };
        match (&database.file, &database.url) {
            (Some(_), None) => {}
            (None, Some(url)) => {
                if let Err(words) = crate::postgres::url(url) {
                    wrong("url", &words);
                }
            }
            _ => wrong("url", "a database is a 'file' or a 'url'"),
        }
        if database.allow_clear && database.password_secret.is_some() && database.authorities.is_some() {
            wrong("authorities", "there is nobody to vouch for in the clear");
        }
        if database.time.is_zero() {
            wrong("time", "this takes some time");
        }
        if database.connections == 0 {
            wrong("connections", "nobody could ask");
        }
    }
    faults
}

/// Makes paths absolute.
pub(super) fn complete(
    mail: &mut Mail,
    sql: &mut BTreeMap<String, Database>,
    join: impl Fn(&Path) -> PathBuf,
) {
    mail.authorities = mail.authorities.take().map(|f| join(&f));
    for database in sql.values_mut() {
        database.file = database.file.take().map(|f| join(&f));
        database.authorities = database.authorities.take().map(|f| join(&f));
    }
}
