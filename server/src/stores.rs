//! The stores behind the homes: each opened once, with the staging of its uploads.
//!
//! There is one staging area for a home however many users share it. A home that is missing is made (mode
//! 0750) when its user first comes. What a former run left unfinished is taken up before anybody reaches
//! the home. A store stays as it was opened: staging and fsync settings of an open home change at the next
//! start. Two homes of which one lies in the other are two stores.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use session_core::auth::Account;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Filesystem;
use session_core::layers::staged::{Owner, Staged, StagingArea};
use session_core::locks::{LockTable, Locks};
use session_core::session::Session;
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;
use tokio::sync::OnceCell;

use crate::config::{Config, Store, User};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Folder(PathBuf),
    /// Of this site, of this user.
    Memory(String, String),
}

struct Home {
    store: Arc<dyn Filesystem>,
    locks: Arc<LockTable>,
    area: Option<Arc<StagingArea>>,
}

/// The open stores of one server.
#[derive(Default)]
pub struct Stores {
    homes: Mutex<HashMap<Place, Arc<OnceCell<Home>>>>,
}

impl Stores {
    fn homes(&self) -> MutexGuard<'_, HashMap<Place, Arc<OnceCell<Home>>>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn areas(&self) -> Vec<Arc<StagingArea>> {
        self.homes().values().filter_map(|cell| cell.get()?.area.clone()).collect()
    }

    /// The files of `user` as `account` sees them in `session`, staged where that is switched on, and the locks
    /// on them. Errors: those of making and opening the home, without its path, which is in the log.
    pub async fn mount(
        &self,
        config: &Config,
        user: &User,
        account: &Account,
        session: &Session,
    ) -> Result<(Arc<dyn Filesystem>, Arc<Locks>)> {
        let place = match user.store {
            Store::Memory => Place::Memory(config.site.clone(), user.name.clone()),
            Store::Local => {
                let home = user.home.clone();
                let made = tokio::task::spawn_blocking(move || make(home)).await;
                let made = made.map_err(|_| Error::new(ErrorKind::Internal))?;
                Place::Folder(made.map_err(|e| private(&e, user))?)
            }
        };
        let cell = Arc::clone(self.homes().entry(place.clone()).or_default());
        let home = cell.get_or_try_init(|| open(place, config)).await.map_err(|e| private(&e, user))?;
        let longest = config.webdav.longest_lock(&config.limits);
        let locks = Locks::new(Arc::clone(&home.locks), name(config, account, session), longest);
        let files: Arc<dyn Filesystem> = match &home.area {
            Some(area) => Arc::new(Staged::new(owner(config, account, session), Arc::clone(area))),
            None => Arc::clone(&home.store),
        };
        Ok((files, locks))
    }

    /// The session of a shared account is over: nobody can continue what it parked.
    pub fn forget(&self, session: &Session) {
        let Some(identity) = session.identity() else { return };
        if is_shared(identity.account()) {
            let owner = Owner::session(session.id().as_str());
            for area in self.areas() {
                area.forget(&owner);
            }
        }
    }

    /// Throws away parked uploads that are too old or too many.
    pub async fn sweep(&self, now: SystemTime) {
        for area in self.areas() {
            let swept = area.sweep(now).await;
            if swept.discarded > 0 {
                tracing::info!(discarded = swept.discarded, kept = swept.kept, "parked uploads swept");
            }
        }
    }

    /// How many uploads are parked.
    pub fn parked(&self) -> usize {
        self.areas().iter().map(|a| a.parked().len()).sum()
    }
}

fn is_shared(account: &Account) -> bool {
    account.shared || account.anonymous
}

/// Whose what is parked or locked is. Accounts of two sites are two, also where both use one folder.
fn name(config: &Config, account: &Account, session: &Session) -> Arc<str> {
    match (is_shared(account), config.one_of_several) {
        (true, _) => session.id().as_str().into(),
        (false, false) => Arc::clone(&account.name),
        (false, true) => format!("{}@{}", account.name, config.site).into(),
    }
}

fn owner(config: &Config, account: &Account, session: &Session) -> Owner {
    let name = name(config, account, session);
    if is_shared(account) { Owner::session(name) } else { Owner::account(name) }
}

/// The words for a session: real paths stay in the log.
fn private(e: &Error, user: &User) -> Error {
    tracing::error!(user = %user.name, home = %user.home.display(), "the home cannot be opened: {e:#}");
    Error::new(e.kind()).with_detail("the home of this account cannot be opened")
}

fn make(home: PathBuf) -> Result<PathBuf> {
    match std::fs::canonicalize(&home) {
        Ok(path) => return Ok(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&home)?;
    Ok(std::fs::canonicalize(&home)?)
}

async fn open(place: Place, config: &Config) -> Result<Home> {
    let store: Arc<dyn Filesystem> = match place {
        Place::Memory(..) => Arc::new(MemoryStore::new()),
        Place::Folder(path) => {
            let options = LocalOptions { fsync: config.fsync.policy(), ..LocalOptions::default() };
            let opened = tokio::task::spawn_blocking(move || LocalStore::open(path, options)).await;
            Arc::new(opened.map_err(|_| Error::new(ErrorKind::Internal))??)
        }
    };
    if !config.staging.enabled || !store.capabilities().atomic_commit {
        return Ok(Home { store, locks: Arc::default(), area: None });
    }
    let clock = Arc::new(SystemTime::now);
    let area = StagingArea::new(Arc::clone(&store), config.staging.policy(), clock)?;
    let found = area.recover().await?;
    if found > 0 {
        tracing::info!(parked = found, "unfinished uploads of a former run were taken up");
    }
    Ok(Home { store, locks: Arc::default(), area: Some(area) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::error::ErrorKind;
    use session_core::fs::{CommitOptions, Follow, OpenOptions};
    use session_core::path::VPath;
    use session_core::session::{Protocol, Setup};
    use std::os::unix::fs::PermissionsExt;

    fn config(dir: &std::path::Path, users: &str) -> Config {
        let file = dir.join("ferryd.toml");
        std::fs::write(&file, format!("data = \".\"\n{users}")).unwrap();
        Config::load_with(&file, &|_| None).unwrap().0
    }

    fn session(account: Account) -> (Arc<Session>, Account) {
        let session = Session::new(Setup::new(Protocol::Sftp, "s"));
        session.log_in(account.clone(), vec![]).unwrap();
        (session, account)
    }

    #[tokio::test]
    async fn two_names_of_one_folder_are_one_home_and_its_uploads_are_staged() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let users = "[[users]]\nname = \"a\"\nhome = \"real\"\n[[users]]\nname = \"b\"\nhome = \"link\"\n\
                     [[users]]\nname = \"c\"\nhome = \"new/%u\"\n";
        let config = config(dir.path(), users);
        let stores = Stores::default();
        let mut mounted = Vec::new();
        for user in &config.users {
            let (session, account) = session(Account::named(user.name.as_str()));
            mounted.push(stores.mount(&config, user, &account, &session).await.unwrap().0);
        }
        assert_eq!(stores.homes().len(), 2);
        let made = std::fs::metadata(dir.path().join("new/c")).unwrap().permissions().mode();
        assert_eq!(made & 0o777, 0o750);
        let path = VPath::absolute("/f").unwrap();
        let file = mounted[0].open(&path, &OpenOptions::create()).await.unwrap();
        file.write_at(0, "x".into()).await.unwrap();
        let unseen = mounted[1].stat(&path, Follow::No).await.unwrap_err();
        assert_eq!(unseen.kind(), ErrorKind::NotFound);
        file.commit(&CommitOptions::default()).await.unwrap();
        assert_eq!(mounted[1].stat(&path, Follow::No).await.unwrap().size, 1);
    }

    #[tokio::test]
    async fn what_a_shared_account_parked_goes_with_its_session() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "[[users]]\nname = \"a\"\nshared = true\n");
        let (user, stores) = (config.users.first().unwrap(), Stores::default());
        let (session, account) = session(Account { shared: true, ..Account::named("a") });
        let (files, _) = stores.mount(&config, user, &account, &session).await.unwrap();
        let path = VPath::absolute("/f").unwrap();
        let file = files.open(&path, &OpenOptions::create()).await.unwrap();
        file.write_at(0, "x".into()).await.unwrap();
        file.park().await.unwrap();
        assert_eq!(stores.parked(), 1);
        stores.forget(&session);
        assert_eq!(stores.parked(), 0);
    }

    #[tokio::test]
    async fn a_home_that_cannot_be_opened_does_not_tell_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let config = config(dir.path(), "[[users]]\nname = \"a\"\nhome = \"file/below\"\n");
        let (session, account) = session(Account::named("a"));
        let e = Stores::default().mount(&config, &config.users[0], &account, &session).await.err().unwrap();
        assert_eq!(format!("{e:#}"), "the home of this account cannot be opened");
    }
}
