//! `[[directories]]`: who vouches for accounts that are neither in the file nor in the database: servers of LDAP,
//! hooks over HTTP, and PAM.
//!
//! They are asked in turn, after the accounts of this server: with a password, or about a name where they can be. What a
//! directory's accounts may do is said by groups of this server. A password is told to nobody in the clear, unless
//! that is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::fault::{Fault, Source, Step};
use super::values;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DirectoryTable {
    /// Its name in the log.
    #[serde(deserialize_with = "values::user_name")]
    pub name: String,
    /// `ldaps://host`, `ldap://host` (which turns to TLS), `https://host/path` of a hook, or `pam://SERVICE`.
    pub url: String,
    /// PAM: the program that asks; `ferryd-pam` beside this one without it.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// LDAP: authorities as PEM, beside the system's.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
    /// Passwords may be read on the way.
    #[serde(default)]
    pub allow_clear: bool,
    /// Groups of this server that all its accounts are in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// LDAP: their groups, by name or whole name, and ours.
    #[serde(default)]
    pub group_map: BTreeMap<String, String>,
    /// LDAP: who logs in, as a whole name with `%u`; without it that is searched for.
    #[serde(default)]
    pub bind: Option<String>,
    /// LDAP: where accounts are searched.
    #[serde(default)]
    pub base: String,
    /// LDAP: how, with `%u`.
    #[serde(default = "filter")]
    pub filter: String,
    /// LDAP: who searches; nobody in particular without it.
    #[serde(default)]
    pub reader: Option<String>,
    /// The name of the secret that is the reader's password; of a hook, the token that it is shown.
    #[serde(default)]
    pub password_secret: Option<String>,
    /// LDAP: where groups are searched; they are not without it.
    #[serde(default)]
    pub group_base: Option<String>,
    /// LDAP: how, with `%d` for the account's whole name and `%u` for what was typed.
    #[serde(default = "group_filter")]
    pub group_filter: String,
    /// LDAP: what a group's name is.
    #[serde(default = "group_attribute")]
    pub group_attribute: String,
    /// LDAP: an attribute of the account that lists its groups.
    #[serde(default)]
    pub member_attribute: Option<String>,
    /// LDAP: an attribute of the account that holds its public keys, a line of OpenSSH's each.
    #[serde(default)]
    pub key_attribute: Option<String>,
    /// A hook: it is asked about who shows no password, too.
    #[serde(default)]
    pub keys: bool,
    /// How long a good password is remembered; zero: not at all.
    #[serde(default = "cache", deserialize_with = "values::duration")]
    pub cache: Duration,
    /// The most time of one question.
    #[serde(default = "time", deserialize_with = "values::duration")]
    pub time: Duration,
    /// Questions at once.
    #[serde(default = "connections")]
    pub connections: usize,
}

fn filter() -> String {
    "(uid=%u)".into()
}

fn group_filter() -> String {
    "(member=%d)".into()
}

fn group_attribute() -> String {
    "cn".into()
}

fn cache() -> Duration {
    Duration::from_secs(60)
}

fn time() -> Duration {
    Duration::from_secs(10)
}

fn connections() -> usize {
    8
}

impl DirectoryTable {
    /// The scheme of its URL.
    pub fn scheme(&self) -> &str {
        self.url.split_once("://").map_or("", |(scheme, _)| scheme)
    }
}

/// Faults between values.
pub(super) fn check(all: &[DirectoryTable], source: &Source<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, directory) in all.iter().enumerate() {
        let mut wrong = |k: &str, words: &str| {
            let at = [Step::Key("directories".into()), Step::Index(i), Step::Key(k.into())];
            faults.push(source.fault_at(&at, words));
        };
        if all.iter().take(i).any(|d| d.name == directory.name) {
            wrong("name", "there is another directory of this name");
        }
        if let Err(words) = crate::users::external::check_url(&directory.url) {
            wrong("url", &words);
        }
        match directory.scheme() {
            "ldap" | "ldaps" => {
                match &directory.bind {
                    Some(bind) if !bind.contains("%u") => {
                        wrong("bind", "it does not say where the name goes: %u")
                    }
                    Some(_) => {}
                    None if directory.base.is_empty() => {
                        wrong("url", "who logs in is said by 'bind', or searched below 'base'");
                    }
                    None if !directory.filter.contains("%u") => {
                        wrong("filter", "it does not say where the name goes: %u");
                    }
                    None => {}
                }
                if directory.reader.is_some() != directory.password_secret.is_some() {
                    let k = if directory.reader.is_some() { "reader" } else { "password_secret" };
                    wrong(k, "who searches logs in: 'reader' and 'password_secret'");
                }
                for (k, filter) in [("filter", &directory.filter), ("group_filter", &directory.group_filter)]
                {
                    if !crate::users::external::is_filter(filter) {
                        wrong(k, "this is no filter (RFC 4515)");
                    }
                }
            }
            "http" if !directory.allow_clear => {
                wrong("url", "passwords could be read on the way: https, or 'allow_clear = true'");
            }
            "pam" if directory.authorities.is_some() => wrong("authorities", "PAM is on this machine"),
            "pam" if directory.password_secret.is_some() => {
                wrong("password_secret", "PAM is shown no secret")
            }
            "pam" => {}
            _ if directory.authorities.is_some() => {
                wrong("authorities", "a hook is vouched for by the system's authorities");
            }
            _ => {}
        }
        let is_ldap = matches!(directory.scheme(), "ldap" | "ldaps");
        match &directory.key_attribute {
            Some(_) if !is_ldap => wrong("key_attribute", "only accounts of LDAP have attributes"),
            Some(_) if directory.base.is_empty() => {
                wrong("key_attribute", "who shows a key is searched for below 'base'");
            }
            _ => {}
        }
        if directory.keys && !matches!(directory.scheme(), "http" | "https") {
            wrong("keys", "this is for hooks: of LDAP it is 'key_attribute'");
        }
        if directory.program.is_some() && directory.scheme() != "pam" {
            wrong("program", "only PAM is asked by a program");
        }
        if directory.time.is_zero() {
            wrong("time", "this takes some time");
        }
        if directory.connections == 0 {
            wrong("connections", "nobody could ask");
        }
    }
    faults
}

/// Makes paths absolute.
pub(super) fn complete(all: &mut [DirectoryTable], join: impl Fn(&Path) -> PathBuf) {
    for directory in all {
        directory.authorities = directory.authorities.take().map(|f| join(&f));
        directory.program = directory.program.take().map(|f| join(&f));
    }
}
