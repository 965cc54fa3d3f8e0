//! What is not in the configuration file: sites, users, groups, secrets and the tokens of the API.
//!
//! A database is the truth, and a running server holds all of it in memory as well: a login never waits for
//! it, a name that nobody has costs what any name costs, and a database that fails lets those in who are known;
//! one that nodes share only for as long as `[database]` says. A change is kept, whole or not at all, before it
//! counts, and before whoever asked hears of it; what other nodes change is taken up as they tell it.
//!
//! The file wins: what it declares is not in the database, commands refuse to make a double, and a double
//! that comes about later is told and does not count; one of a site is a fault of the file. There is no database
//! until something is put there.
//!
//! `sqlite` or `postgres` keeps it as `rows`, `desk` answers the API and the commands, `follow` takes up what
//! others change, `commands` are those, `bundle` is export and import. Deliberately absent: what an account is
//! (`crate::config`), logins.

mod bundle;
mod commands;
mod desk;
mod follow;
mod logins;
mod postgres;
mod rows;
mod site_commands;
mod sites;
mod sqlite;
#[cfg(test)]
mod tests;
mod token;
mod views;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

pub(crate) use self::commands::{Commands, run};
pub(crate) use self::desk::{Asked, Desk, InForce, Touched, filters};
use self::postgres::PostgresStore;
use self::sqlite::{SqliteStore, read_file};
pub(crate) use self::token::{Role, Token};
use crate::config::{Config, Group, Record, SiteFault, User, group};
use crate::shared::{Follow, Hub};

/// The database in a data folder.
pub const FILE: &str = "accounts.db";

/// A site and a name there.
pub(crate) type Key = (String, String);

/// A user, a group or a site as it is kept.
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
    pub(crate) sites: BTreeMap<String, Arc<Stored>>,
    /// By what stands in a token before its secret.
    pub(crate) tokens: BTreeMap<String, Token>,
}

/// One thing that is put in place of what has its name, or taken away.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    User(Key, Option<Arc<Stored>>),
    Group(Key, Option<Arc<Stored>>),
    Secret(String, Option<Secret>),
    Site(String, Option<Arc<Stored>>),
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
            Change::Site(key, value) => set(&mut self.sites, key, value),
            Change::Token(key, value) => set(&mut self.tokens, key, value),
        }
    }

    /// What has to be put in force where `fresh` takes the place of this.
    fn difference(&self, fresh: &Contents) -> Touched {
        if self.secrets != fresh.secrets {
            return Touched::Secrets;
        }
        if self.sites != fresh.sites {
            return Touched::Sites;
        }
        if self.groups != fresh.groups {
            return Touched::AllUsers;
        }
        let changed = self.users.iter().filter(|(key, user)| fresh.users.get(*key) != Some(*user));
        let added = fresh.users.keys().filter(|key| !self.users.contains_key(*key));
        let keys: Vec<Key> = changed.map(|(key, _)| key).chain(added).cloned().collect();
        if keys.is_empty() { Touched::Nothing } else { Touched::Users(keys) }
    }

    /// A configuration with the sites that are kept in place of those that it had of here; beside it, what is wrong
    /// with those that are left out.
    pub(crate) fn with_sites(&self, file: &Config) -> (Config, Vec<SiteFault>) {
        file.with_stored(self.sites.iter().map(|(name, stored)| (name.as_str(), &stored.record)))
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

/// How often what is shared was changed; always the same where nobody else changes it.
pub(crate) type Revision = u64;

/// What others have done to the contents.
pub(crate) enum News {
    /// This is everything now.
    All(Contents, Revision),
    /// These changes, and who made the last one.
    Changes(Vec<Change>, Revision, String),
}

/// Where the contents are kept. Calls run to their end once begun, whoever gives up waiting.
#[async_trait]
pub(crate) trait AccountStore: Send + Sync {
    /// Everything. Errors: `Corrupt`, `Unsupported` for what a newer program wrote, those of the database.
    async fn load(&self) -> Result<(Contents, Revision)>;

    /// All of these, or none. Errors: `PreconditionFailed` where others have changed something since `seen`,
    /// those of the database; then nothing has changed, unless a line broke at the last moment.
    async fn apply(&self, changes: Vec<Change>, seen: Revision, actor: &str) -> Result<Revision>;

    /// What others have done since. Errors: as of a load.
    async fn news(&self, _seen: Revision) -> Result<Option<News>> {
        Ok(None)
    }

    /// Waits with who follows others; `None` where there are none.
    fn follow(&self) -> Option<Follow> {
        None
    }
}

/// What others have changed.
pub(crate) struct Changed {
    pub(crate) touched: Touched,
    pub(crate) by: String,
}

/// What is kept, in memory and behind it.
pub struct Accounts {
    store: Option<Arc<dyn AccountStore>>,
    contents: RwLock<Contents>,
    /// One change at a time, from judging it to having it in force.
    turn: tokio::sync::Mutex<()>,
    /// What is read of the store and what is written come into memory in that order. Held for nothing else.
    order: tokio::sync::Mutex<Revision>,
    /// How long the contents are believed without having been seen in the store: when they were last.
    belief: Option<(Duration, Mutex<Option<Instant>>)>,
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
        Arc::new(Accounts::with(None, (contents, 0), None))
    }

    fn with(
        store: Option<Arc<dyn AccountStore>>,
        (contents, revision): (Contents, Revision),
        believed: Option<Duration>,
    ) -> Self {
        Accounts {
            store,
            contents: RwLock::new(contents),
            turn: Default::default(),
            order: tokio::sync::Mutex::new(revision),
            belief: believed.map(|time| (time, Mutex::new(Some(Instant::now())))),
        }
    }

    /// Those of the database that a configuration names: the one that nodes share, or the one in the data
    /// folder, of which there is one owner. Errors: as of a load.
    pub(crate) async fn open(config: &Config, hub: Option<&Arc<Hub>>) -> Result<Arc<Self>> {
        match hub {
            Some(hub) => {
                let store = Arc::new(PostgresStore::new(Arc::clone(hub)));
                Accounts::of(store, Some(config.database.remember)).await
            }
            None => Accounts::of(Arc::new(SqliteStore::new(config.data.join(FILE))?), None).await,
        }
    }

    /// What is kept, for who only looks. Blocks, where it is a file. Errors: as of a load.
    pub(crate) async fn look(config: &Config) -> Result<Arc<Self>> {
        match Hub::new(config)? {
            Some(hub) => Ok(Accounts::holding(PostgresStore::new(hub).load().await?.0)),
            None => Ok(Accounts::holding(read_file(&config.data.join(FILE))?)),
        }
    }

    /// Those of a store; `believed` is for how long, where others change it as well.
    pub(crate) async fn of(store: Arc<dyn AccountStore>, believed: Option<Duration>) -> Result<Arc<Self>> {
        let contents = store.load().await?;
        Ok(Arc::new(Accounts::with(Some(store), contents, believed)))
    }

    /// Reads the database again: somebody may have put a copy back. What is shared is followed all the time.
    /// Errors: as of a load; then nothing changes.
    pub(crate) async fn refresh(&self) -> Result<()> {
        if self.belief.is_some() {
            return Ok(());
        }
        let mut order = self.order.lock().await;
        if let Some(store) = &self.store {
            let (fresh, revision) = store.load().await?;
            *self.contents.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            *order = revision;
        }
        Ok(())
    }

    /// Takes up what others have changed. The caller has its turn, and puts it in force. Errors: as of a load;
    /// then nothing changes.
    async fn catch_up(&self) -> Result<Option<Changed>> {
        let Some(store) = &self.store else { return Ok(None) };
        let mut order = self.order.lock().await;
        let news = store.news(*order).await?;
        self.confirm();
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let changed = match news {
            None => return Ok(None),
            Some(News::All(fresh, revision)) => {
                *order = revision;
                if *contents == fresh {
                    return Ok(None);
                }
                let touched = contents.difference(&fresh);
                *contents = fresh;
                Changed { touched, by: "another node".into() }
            }
            Some(News::Changes(changes, revision, by)) => {
                *order = revision;
                let touched = Touched::by(&changes);
                changes.into_iter().for_each(|change| contents.apply(change));
                Changed { touched, by }
            }
        };
        Ok(Some(changed))
    }

    /// Waits with who follows other nodes; `None` where there are none.
    fn follow(&self) -> Option<Follow> {
        self.store.as_ref()?.follow()
    }

    fn confirm(&self) {
        if let Some((_, seen)) = &self.belief {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// Whether the contents are good for logins: what is shared was seen in the database not too long ago.
    pub(crate) fn is_believed(&self) -> bool {
        self.belief.as_ref().is_none_or(|(time, seen)| {
            let seen = *seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.is_some_and(|seen| seen.elapsed() <= *time)
        })
    }

    /// The contents were not seen in the database for too long.
    #[cfg(test)]
    pub(crate) fn doubt(&self) {
        if let Some((_, seen)) = &self.belief {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Those of a store that nodes share, without one.
    #[cfg(test)]
    pub(crate) fn shared_by_nobody() -> Arc<Self> {
        Arc::new(Accounts::with(None, (Contents::default(), 0), Some(Duration::from_secs(3600))))
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

    /// Makes these changes, in the database first. The caller has its turn. Errors: as of the store.
    async fn apply(&self, changes: Vec<Change>, actor: &str) -> Result<()> {
        let store = self.store.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported).with_detail("there is nowhere to keep accounts")
        })?;
        let mut order = self.order.lock().await;
        *order = store.apply(changes.clone(), *order, actor).await?;
        self.confirm();
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        changes.into_iter().for_each(|change| contents.apply(change));
        Ok(())
    }
}

/// Seconds since 1970.
pub(crate) fn seconds_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
