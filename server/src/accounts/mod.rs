//! Accounts that are not in the configuration file: users, groups, secrets and the tokens of the API.
//!
//! A database is the truth, and a running server holds all of it in memory as well: a login never waits for
//! a disk, a name that nobody has costs what any name costs, and a database that fails lets those in who are
//! known. A change is on disk, whole or not at all, before it counts, and before whoever asked hears of it.
//!
//! The file wins: what it declares is not in the database, commands refuse to make a double, and a double
//! that comes about later is told and does not count. There is no database until something is put there.
//!
//! `sqlite` keeps it, `desk` answers the API and the commands, `commands` are those, `bundle` is export and
//! import. Deliberately absent: what an account is (`crate::config`), logins (`crate::users`).

mod bundle;
mod commands;
mod desk;
mod logins;
mod sqlite;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

pub(crate) use self::commands::{Commands, run};
pub(crate) use self::desk::{Asked, Desk, InForce, Touched, filters};
pub(crate) use self::sqlite::{SqliteStore, read_file};
pub(crate) use self::token::{Role, Token};
use crate::config::{Config, Group, Record, User, group};

/// The database in a data folder.
pub const FILE: &str = "accounts.db";

/// A site and a name there.
pub(crate) type Key = (String, String);

/// A user or a group as it is kept.
#[derive(Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// Seconds since 1970.
    pub(crate) changed: u64,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.record.keys()).finish()
    }
}

/// Everything that a database holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contents {
    pub(crate) users: BTreeMap<Key, Arc<Stored>>,
    pub(crate) groups: BTreeMap<Key, Arc<Stored>>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// By what stands in a token before its secret.
    pub(crate) tokens: BTreeMap<String, Token>,
}

/// One thing that is put in place of what has its name, or taken away.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    User(Key, Option<Arc<Stored>>),
    Group(Key, Option<Arc<Stored>>),
    Secret(String, Option<Secret>),
    Token(String, Option<Token>),
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

impl Contents {
    fn apply(&mut self, change: Change) {
        match change {
            Change::User(key, value) => set(&mut self.users, key, value),
            Change::Group(key, value) => set(&mut self.groups, key, value),
            Change::Secret(key, value) => set(&mut self.secrets, key, value),
            Change::Token(key, value) => set(&mut self.tokens, key, value),
        }
    }

    /// A group that is kept.
    pub(crate) fn group(&self, site: &str, name: &str) -> Option<Group> {
        let stored = self.groups.get(&(site.to_string(), name.to_string()))?;
        group(name, &stored.record).ok()
    }

    /// The account that is kept under `name`, as it is at this site.
    pub(crate) fn account(&self, config: &Config, name: &str) -> Option<Result<User, Vec<String>>> {
        let stored = self.users.get(&(config.site.clone(), name.to_string()))?;
        Some(config.account(name, &stored.record, &|group| self.group(&config.site, group)))
    }

    /// The names that are kept for a site.
    pub(crate) fn names(&self, site: &str) -> Vec<String> {
        let from = (site.to_string(), String::new());
        self.users.range(from..).map(|(k, _)| k).take_while(|k| k.0 == site).map(|k| k.1.clone()).collect()
    }
}

/// Where the contents are kept. Calls run to their end once begun, whoever gives up waiting.
#[async_trait]
pub(crate) trait AccountStore: Send + Sync {
    /// Everything. Errors: `Corrupt`, `Unsupported` for what a newer program wrote, those of the disk.
    async fn load(&self) -> Result<Contents>;

    /// All of these, or none. Errors: those of the disk; then nothing has changed.
    async fn apply(&self, changes: Vec<Change>) -> Result<()>;
}

/// What is kept, in memory and behind it.
pub struct Accounts {
    store: Option<Arc<dyn AccountStore>>,
    contents: RwLock<Contents>,
    /// One change at a time, from judging it to having it in force.
    turn: tokio::sync::Mutex<()>,
    /// What is read of the store and what is written come into memory in that order. Held for nothing else.
    order: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accounts(…)")
    }
}

impl Accounts {
    /// No accounts, and nowhere to keep any.
    pub fn none() -> Arc<Self> {
        Accounts::holding(Contents::default())
    }

    /// These, and nowhere to keep more.
    pub(crate) fn holding(contents: Contents) -> Arc<Self> {
        Arc::new(Accounts::with(None, contents))
    }

    fn with(store: Option<Arc<dyn AccountStore>>, contents: Contents) -> Self {
        let (turn, order) = Default::default();
        Accounts { store, contents: RwLock::new(contents), turn, order }
    }

    /// Those of the database in a data folder, of which there is one owner. Errors: as of a load.
    pub(crate) async fn open(data: &Path) -> Result<Arc<Self>> {
        Accounts::of(Arc::new(SqliteStore::new(data.join(FILE))?)).await
    }

    pub(crate) async fn of(store: Arc<dyn AccountStore>) -> Result<Arc<Self>> {
        let contents = store.load().await?;
        Ok(Arc::new(Accounts::with(Some(store), contents)))
    }

    /// Reads the database again: somebody may have put a copy back. Errors: as of a load; then nothing changes.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let _order = self.order.lock().await;
        if let Some(store) = &self.store {
            let fresh = store.load().await?;
            *self.contents.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    /// What is in force. Not held while anything waits.
    pub(crate) fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The accounts of a site that count: those of which the file has no double and which can be understood.
    /// What does not count is told in the log.
    pub(crate) fn users(&self, config: &Config) -> Vec<Arc<User>> {
        let contents = self.contents();
        let names = contents.names(&config.site);
        let declared: std::collections::HashSet<&str> =
            config.users.iter().map(|u| u.name.as_str()).collect();
        let mut users = Vec::with_capacity(names.len());
        for name in names {
            if declared.contains(name.as_str()) {
                tracing::warn!(
                    site = config.site,
                    user = name,
                    "the file's account stands before the stored one"
                );
                continue;
            }
            match contents.account(config, &name) {
                Some(Ok(user)) => users.push(Arc::new(user)),
                Some(Err(faults)) => {
                    let faults = faults.join("; ");
                    tracing::error!(
                        site = config.site,
                        user = name,
                        "a stored account is not usable: {faults}"
                    );
                }
                None => {}
            }
        }
        users
    }

    /// One of them; `None` where there is none that counts.
    pub(crate) fn user(&self, config: &Config, name: &str) -> Option<Arc<User>> {
        if config.users.iter().any(|u| u.name == name) {
            return None;
        }
        self.contents().account(config, name)?.ok().map(Arc::new)
    }

    /// The right to change; nobody else has it meanwhile.
    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Makes these changes, on disk first. The caller has its turn. Errors: those of the disk.
    async fn apply(&self, changes: Vec<Change>) -> Result<()> {
        let store = self.store.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported).with_detail("there is nowhere to keep accounts")
        })?;
        let _order = self.order.lock().await;
        store.apply(changes.clone()).await?;
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        changes.into_iter().for_each(|change| contents.apply(change));
        Ok(())
    }
}

/// Seconds since 1970.
pub(crate) fn seconds_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
