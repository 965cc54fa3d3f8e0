//! The stores behind the homes: each opened once, with the staging of its uploads.
//!
//! There is one staging area for a home however many users share it. A home that is missing is made (mode
//! 0750) when its user first comes. What a former run left unfinished is taken up before anybody reaches
//! the home. A store stays as it was opened: staging and fsync settings of an open home change at the next
//! start. Two homes of which one lies in the other are two stores.
//!
//! Virtual folders are stores like homes, mounted in the tree of whoever has them. One that cannot be had
//! takes nothing else away: whatever is asked of it fails, and it is never an empty folder.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use session_core::auth::Account;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::*;
use session_core::layers::mounts::{Mount, Mounts};
use session_core::layers::quota::{Account as Counted, Limits, Metered};
use session_core::layers::staged::{Owner, Staged, StagingArea};
use session_core::locks::{LockTable, Locks};
use session_core::metadata::Metadata;
use session_core::path::VPath;
use session_core::session::{Session, SessionId};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;
use tokio::sync::OnceCell;

use crate::config::{Config, Folder, InPlace, Quota, Store, User, far_path};
use crate::gateway::{Gateways, Settings};
use crate::quarantine::is_apart;
use crate::quotas::Quotas;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Folder(PathBuf),
    /// Of this gateway; whether it is made where it is missing.
    Gateway(String, VPath, bool),
    /// Of this site, of this user.
    Memory(String, String),
}

struct Home {
    store: Arc<dyn Filesystem>,
    locks: Arc<LockTable>,
    metered: Option<Metered>,
    area: Option<Arc<StagingArea>>,
}

/// The open stores of one server.
#[derive(Default)]
pub struct Stores {
    homes: Mutex<HashMap<Place, Arc<OnceCell<Home>>>>,
    /// The gateways that hold some of them.
    pub gateways: Gateways,
    /// What they hold, where that is bounded.
    pub quotas: Quotas,
}

impl Stores {
    fn homes(&self) -> MutexGuard<'_, HashMap<Place, Arc<OnceCell<Home>>>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn areas(&self) -> Vec<Arc<StagingArea>> {
        self.homes().values().filter_map(|cell| cell.get()?.area.clone()).collect()
    }

    /// The files of `user` as `account` sees them in `session`, staged where that is switched on, and the locks
    /// on them. Errors: those of making and opening the home, without its path, which is in the log. `far` are
    /// the gateways of the configuration.
    pub async fn mount(
        &self,
        config: &Config,
        far: &HashMap<String, Settings>,
        user: &User,
        account: &Account,
        session: &SessionId,
    ) -> Result<(Arc<dyn Filesystem>, Arc<Locks>)> {
        let owner = owner(config, account, session);
        let home = async {
            let place = match (user.store, &user.gateway) {
                (_, Some(gateway)) => self.far(gateway, &user.home, user, far, true)?,
                (Store::Memory, None) => Place::Memory(config.site.clone(), user.name.clone()),
                (Store::Local, None) => folder(user.home.clone(), true, config).await?,
            };
            self.view(place, config, &VPath::root(), &owner, &of_home(config, user)).await
        };
        let (home, table) = home.await.map_err(|e| private(&e, user))?;
        let longest = config.webdav.longest_lock(&config.limits);
        let locks = Locks::new(table, name(config, account, session), longest);
        if user.folders.is_empty() {
            return Ok((home, locks));
        }
        let mut mounts = Vec::new();
        for virtual_folder in &user.folders {
            let fs = match self.virtual_folder(virtual_folder, user, config, far, &owner).await {
                Ok(fs) => fs,
                Err(e) => {
                    let Folder { path, folder, .. } = virtual_folder;
                    tracing::error!(user = %user.name, %path, folder = %folder.display(), "a virtual folder cannot be opened: {e:#}");
                    Arc::new(Away)
                }
            };
            let described = virtual_folder.gateway.is_none();
            mounts.push(Mount { at: virtual_folder.path.clone(), fs, described });
        }
        Ok((Arc::new(Mounts::new(home, mounts)?), locks))
    }

    async fn virtual_folder(
        &self,
        asked: &Folder,
        user: &User,
        config: &Config,
        far: &HashMap<String, Settings>,
        owner: &Owner,
    ) -> Result<Arc<dyn Filesystem>> {
        // What is only read is there already, or not at all.
        let makes = !asked.read_only;
        let place = match &asked.gateway {
            Some(gateway) => self.far(gateway, &asked.folder, user, far, makes)?,
            None => folder(asked.folder.clone(), makes, config).await?,
        };
        let bounds = Bounds { by: bounds_folder(config, asked), limits: asked.quota, groups: Vec::new() };
        Ok(self.view(place, config, &asked.path, owner, &bounds).await?.0)
    }

    /// A folder of a gateway. The gateway has its present settings from now on.
    fn far(
        &self,
        gateway: &str,
        path: &Path,
        user: &User,
        far: &HashMap<String, Settings>,
        makes: bool,
    ) -> Result<Place> {
        let invalid = |words: String| Error::new(ErrorKind::InvalidArgument).with_detail(words);
        let settings = far.get(gateway).ok_or_else(|| invalid(format!("there is no gateway '{gateway}'")))?;
        self.gateways.set(settings);
        Ok(Place::Gateway(gateway.to_owned(), far_path(path, &user.name).map_err(invalid)?, makes))
    }

    /// What an owner sees of a store, which is opened if nobody has done it. `at` is where it stands in the
    /// owner's tree.
    async fn view(
        &self,
        place: Place,
        config: &Config,
        at: &VPath,
        owner: &Owner,
        bounds: &Bounds,
    ) -> Result<(Arc<dyn Filesystem>, Arc<LockTable>)> {
        let cell = Arc::clone(self.homes().entry(place.clone()).or_default());
        let account = self.account(&place, bounds);
        let bounded = account.is_some();
        let home = cell.get_or_try_init(|| self.open(place, config, at, account)).await?;
        if bounded && home.metered.is_none() {
            tracing::warn!(by = %bounds.by, "a quota of a store that is open without one holds from the next start on");
        }
        let files: Arc<dyn Filesystem> = match &home.area {
            Some(area) => Arc::new(Staged::new(owner.clone(), Arc::clone(area))),
            None => Arc::clone(&home.store),
        };
        Ok((files, Arc::clone(&home.locks)))
    }

    /// Opens a store. `at` is where it stands in the tree of whoever comes first.
    async fn open(
        &self,
        place: Place,
        config: &Config,
        at: &VPath,
        account: Option<Counted>,
    ) -> Result<Home> {
        let store: Arc<dyn Filesystem> = match place {
            Place::Gateway(name, path, makes) => Arc::new(self.gateways.folder(&name, path, makes)?),
            Place::Memory(..) => Arc::new(MemoryStore::new()),
            Place::Folder(path) => {
                let options = LocalOptions { fsync: config.fsync.policy(), ..LocalOptions::default() };
                let opened = tokio::task::spawn_blocking(move || LocalStore::open(path, options)).await;
                Arc::new(opened.map_err(|_| Error::new(ErrorKind::Internal))??)
            }
        };
        let (store, metered) = match account {
            None => (store, None),
            Some(account) => {
                let metered = self.count(store, account).await?;
                (Arc::new(metered.clone()) as Arc<dyn Filesystem>, Some(metered))
            }
        };
        if !config.staging.enabled || !store.capabilities().atomic_commit {
            return Ok(Home { store, locks: Arc::default(), metered, area: None });
        }
        let clock = Arc::new(SystemTime::now);
        let mut policy = config.staging.policy();
        if config.scan.is_on() && config.staging.in_place == InPlace::Allow {
            // Written through, it would pass the scanner by.
            policy.in_place = session_core::layers::staged::InPlace::Copy;
        }
        policy.off = policy.off.iter().filter_map(|off| within(off, at)).collect();
        let area = StagingArea::new(Arc::clone(&store), policy, clock)?;
        let found = area.recover().await?;
        if found > 0 {
            tracing::info!(parked = found, "unfinished uploads of a former run were taken up");
        }
        Ok(Home { store, locks: Arc::default(), metered, area: Some(area) })
    }

    /// Where a place is counted; `None` where nothing bounds it.
    fn account(&self, place: &Place, bounds: &Bounds) -> Option<Counted> {
        let name = match place {
            Place::Folder(path) => format!("folder {}", path.display()),
            Place::Gateway(..) => return None,
            Place::Memory(site, user) => format!("memory {user} of {site}"),
        };
        if bounds.limits.is_none() && bounds.groups.is_empty() {
            return None;
        }
        Some(self.quotas.book.account(&name, &bounds.by, bounds.limits.limits(), &bounds.groups))
    }

    /// A store that is counted, from what a former run knew or from what is there.
    async fn count(&self, store: Arc<dyn Filesystem>, account: Counted) -> Result<Metered> {
        let place = account.place().to_owned();
        let metered = Metered::new(store, account).await?;
        match self.quotas.known(&place) {
            Some(usage) => metered.restore(usage),
            None => {
                metered.rescan().await?;
            }
        }
        if let Err(e) = metered.account().join().await {
            tracing::warn!(place, "other nodes do not know yet what is here: {e:#}");
        }
        Ok(metered)
    }

    /// The stores that are counted.
    pub fn metered(&self) -> Vec<Metered> {
        self.homes().values().filter_map(|cell| cell.get()?.metered.clone()).collect()
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
fn name(config: &Config, account: &Account, session: &SessionId) -> Arc<str> {
    match (is_shared(account), config.apart) {
        (true, _) => session.as_str().into(),
        (false, false) => Arc::clone(&account.name),
        (false, true) => format!("{}@{}", account.name, config.site).into(),
    }
}

fn owner(config: &Config, account: &Account, session: &SessionId) -> Owner {
    let name = name(config, account, session);
    if is_shared(account) { Owner::session(name) } else { Owner::account(name) }
}

/// The words for a session: real paths stay in the log.
fn private(e: &Error, user: &User) -> Error {
    tracing::error!(user = %user.name, home = %user.home.display(), "the home cannot be opened: {e:#}");
    Error::new(e.kind()).with_detail("the home of this account cannot be opened")
}

/// Who bounds a place, and how.
struct Bounds {
    by: String,
    limits: Quota,
    groups: Vec<(String, Limits)>,
}

/// Who sets the limits of a user's home, in the book of quotas.
pub(crate) fn bounds_home(config: &Config, user: &User) -> String {
    format!("user {} of {}", user.name, config.site)
}

/// The same of a folder. With its place on this machine: there may be one for each user.
fn bounds_folder(config: &Config, folder: &Folder) -> String {
    format!("folder {} at {} of {}", folder.path, folder.folder.display(), config.site)
}

/// Who sets the limits of whatever a user sees.
pub(crate) fn bounds(config: &Config, user: &User) -> Vec<String> {
    let folders = user.folders.iter().filter(|f| f.gateway.is_none()).map(|f| bounds_folder(config, f));
    folders.chain([bounds_home(config, user)]).collect()
}

fn of_home(config: &Config, user: &User) -> Bounds {
    let group = |(name, quota): &(String, Quota)| (format!("{name} of {}", config.site), quota.limits());
    Bounds {
        by: bounds_home(config, user),
        limits: user.quota,
        groups: user.total_quotas.iter().map(group).collect(),
    }
}

/// A folder of this machine, by its one name.
async fn folder(path: PathBuf, made: bool, config: &Config) -> Result<Place> {
    let quarantines: Vec<_> = config.quarantines.iter().chain([&config.scan.quarantine]).cloned().collect();
    let found = tokio::task::spawn_blocking(move || match std::fs::canonicalize(&path) {
        _ if quarantines.iter().any(|quarantine| !is_apart(quarantine, &path)) => {
            Err(std::io::Error::other("it and a quarantine lie one in the other"))
        }
        Err(e) if made && e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
            std::fs::canonicalize(&path)
        }
        found => found,
    });
    let found = found.await.map_err(|_| Error::new(ErrorKind::Internal))?;
    Ok(Place::Folder(found?))
}

/// A virtual folder that cannot be had.
struct Away;

impl Away {
    fn told<T>(&self) -> Result<T> {
        Err(Error::new(ErrorKind::Disconnected).with_detail("this folder is not available"))
    }
}

#[async_trait]
impl Filesystem for Away {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }

    async fn stat(&self, _: &VPath, _: Follow) -> Result<Metadata> {
        self.told()
    }

    async fn list(&self, _: &VPath, _: &ListOptions) -> Result<Listing> {
        self.told()
    }

    async fn open(&self, _: &VPath, _: &OpenOptions) -> Result<Arc<dyn File>> {
        self.told()
    }
}

/// What can be told of virtual folders before anybody needs them. Blocks. Errors: `InvalidArgument` for one
/// that is no folder, and one that is only read and is not there.
pub fn check(config: &Config) -> Result<()> {
    for user in &config.users {
        for Folder { path, folder, read_only, .. } in user.folders.iter().filter(|f| f.gateway.is_none()) {
            let wrong = match std::fs::metadata(folder) {
                Ok(there) if there.is_dir() => continue,
                Ok(_) => "is no folder".to_owned(),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && !read_only => continue,
                Err(e) => e.to_string(),
            };
            let words = format!("'{}' of '{}': {}: {wrong}", path, user.name, folder.display());
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
        }
    }
    Ok(())
}

/// A folder of the whole tree as a store at `at` has it, if it has it.
fn within(path: &VPath, at: &VPath) -> Option<VPath> {
    match at.starts_with(path) {
        true => Some(VPath::root()),
        false => path.rebase(at, &VPath::root()),
    }
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
            mounted
                .push(stores.mount(&config, &HashMap::new(), user, &account, session.id()).await.unwrap().0);
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
        let (files, _) = stores.mount(&config, &HashMap::new(), user, &account, session.id()).await.unwrap();
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
        let e = Stores::default()
            .mount(&config, &HashMap::new(), &config.users[0], &account, session.id())
            .await
            .err()
            .unwrap();
        assert_eq!(format!("{e:#}"), "the home of this account cannot be opened");
    }
}
