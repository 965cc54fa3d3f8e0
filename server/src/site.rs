//! `FerrySite`: what protocol servers are given — sessions, logins and each user's filesystem.
//!
//! What a reload changes stands in one value, `Live`, that is exchanged as a whole: sessions that are
//! there keep the chain they were guarded with, new ones get the new rules. Stores and their staging areas
//! are kept for the life of the server, one for each home.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use session_core::auth::{Authenticator, Site};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::layers::staged::{Owner, Staged, StagingArea};
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::policy::Throttle;
use session_core::registry::SessionRegistry;
use session_core::script::{Binding, Engine, EngineLimits, Hooks, OnError};
use session_core::session::{Actor, Ending, Identity, Protocol, Session, Setup, system_clock};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;

use crate::chain;
use crate::config::{self, Config, Store, User};
use crate::log::Journal;
use crate::users::directory::Directory;

/// What a reload exchanges.
struct Live {
    config: Arc<Config>,
    directory: Arc<Directory>,
    hooks: Option<Arc<Hooks>>,
    front: Arc<Chain>,
    /// By user; shared by the user's sessions.
    throttles: HashMap<String, Arc<Throttle>>,
}

/// The site that `ferryd` serves.
pub struct FerrySite {
    registry: Arc<SessionRegistry>,
    engine: Arc<Engine>,
    journal: Arc<Journal>,
    live: RwLock<Arc<Live>>,
    areas: Mutex<HashMap<Home, Arc<StagingArea>>>,
}

/// What one store serves.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Home {
    Disk(PathBuf),
    Memory(String),
}

impl FerrySite {
    /// A site of this configuration. Errors: those of its users and handlers.
    pub fn new(
        config: Config,
        registry: Arc<SessionRegistry>,
        engine: Arc<Engine>,
        journal: Arc<Journal>,
    ) -> Result<Arc<Self>> {
        let live = Live::new(config, &engine)?;
        Ok(Arc::new(FerrySite {
            registry,
            engine,
            journal,
            live: RwLock::new(Arc::new(live)),
            areas: Mutex::default(),
        }))
    }

    /// Exchanges the configuration; on an error the old one stays. Sessions of users that are gone or
    /// switched off are cut; the answer is how many.
    pub fn reload(&self, config: Config) -> Result<usize> {
        let live = Arc::new(Live::new(config, &self.engine)?);
        self.registry.set_caps(live.config.limits.caps());
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&live);
        let mut ended = 0;
        for session in self.registry.list() {
            let Some(identity) = session.identity() else { continue };
            let stays = live.user(&identity.account().name).is_some_and(|u| u.enabled);
            if !stays && session.cut(Ending::new("the account was removed or switched off", Actor::Server)) {
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.live().config)
    }

    /// The live table.
    pub fn registry(&self) -> &Arc<SessionRegistry> {
        &self.registry
    }

    fn areas(&self) -> MutexGuard<'_, HashMap<Home, Arc<StagingArea>>> {
        self.areas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store of a user with its staging area, made at the first login.
    async fn area(&self, config: &Config, user: &User) -> Result<Arc<StagingArea>> {
        let key = match user.store {
            Store::Local => Home::Disk(user.home.clone()),
            Store::Memory => Home::Memory(user.name.clone()),
        };
        if let Some(area) = self.areas().get(&key) {
            return Ok(Arc::clone(area));
        }
        let store: Arc<dyn Filesystem> = match &key {
            Home::Memory(_) => Arc::new(MemoryStore::new()),
            Home::Disk(home) => {
                std::fs::create_dir_all(home)?;
                let options = LocalOptions { fsync: config.fsync.policy(), ..LocalOptions::default() };
                Arc::new(LocalStore::open(home, options)?)
            }
        };
        let area = StagingArea::new(store, config.staging.policy(), system_clock())?;
        // Two first logins at once: the area that is in the table is the one that counts, and only it
        // looks at what an earlier run has left.
        let area = Arc::clone(self.areas().entry(key).or_insert(area));
        area.recover().await?;
        Ok(area)
    }

    /// Throws away what was parked for too long.
    pub async fn sweep(&self) {
        let areas: Vec<_> = self.areas().values().cloned().collect();
        for area in areas {
            area.sweep(std::time::SystemTime::now()).await;
        }
    }
}

/// Builds what a start would build of `config`, and throws it away. Errors: those of users and handlers.
pub fn check(config: Config) -> Result<()> {
    Live::new(config, &Engine::new(EngineLimits::default())).map(|_| ())
}

impl Live {
    fn new(config: Config, engine: &Arc<Engine>) -> Result<Self> {
        let directory = Arc::new(Directory::new(&config)?);
        let mut bindings = Vec::new();
        for hook in &config.hooks {
            let source = std::fs::read_to_string(&hook.file).map_err(|e| {
                Error::from(e).with_detail(format!("the hook {} cannot be read", hook.file.display()))
            })?;
            bindings.push(Binding {
                event: hook.event.clone(),
                name: hook.file.display().to_string(),
                source,
                users: hook.users.clone(),
                priority: hook.priority,
                on_error: match hook.on_error {
                    config::OnError::Block => OnError::Block,
                    config::OnError::Pass => OnError::Pass,
                },
                time: hook.time,
            });
        }
        let hooks = if bindings.is_empty() { None } else { Some(Hooks::new(Arc::clone(engine), bindings)?) };
        let throttles = config
            .users
            .iter()
            .filter(|u| u.speed_limit > 0)
            .map(|u| (u.name.clone(), Arc::new(Throttle::new(u.speed_limit))))
            .collect();
        let front = chain::of_front(hooks.as_ref());
        Ok(Live { config: Arc::new(config), directory, hooks, front, throttles })
    }

    fn user(&self, name: &str) -> Option<&User> {
        self.config.users.iter().find(|u| u.name == name)
    }
}

#[async_trait]
impl Site for FerrySite {
    fn name(&self) -> Arc<str> {
        self.live().config.site.as_str().into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        let live = self.live();
        if let Verdict::Refuse(e) = live.front.decide(None, Lifecycle::Connect { peer, local }).await {
            return Err(e);
        }
        let mut setup = Setup::new(protocol, live.config.site.as_str());
        setup.peer = Some(peer);
        setup.local = Some(local);
        setup.chain = Arc::clone(&live.front);
        let address = peer.ip().to_canonical().to_string();
        setup.sink = Some(self.journal.sink(address, protocol.name()));
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.live().directory) as Arc<dyn Authenticator>
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let live = self.live();
        let account = identity.account();
        let user = live.user(&account.name).filter(|u| u.enabled).ok_or(ErrorKind::Unauthenticated)?;
        let area = self.area(&live.config, user).await?;
        let owner = if user.shared || user.anonymous {
            Owner::session(session.id().as_str())
        } else {
            Owner::account(Arc::clone(&account.name))
        };
        let chain = chain::of_user(chain::Parts {
            read_only: user.read_only,
            rules: user.permissions.clone(),
            throttle: live.throttles.get(&user.name).cloned(),
            hooks: live.hooks.clone(),
        });
        session.guard(identity, Arc::new(Staged::new(owner, area)), chain)
    }
}
