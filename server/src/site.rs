//! `FerrySite`: what protocol servers are given — sessions, logins and each user's filesystem.
//!
//! What a reload changes stands in one value, `Live`, that is exchanged as a whole: sessions that are
//! there keep the chain they were guarded with, new ones get the new rules. The homes are `stores`' business.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use session_core::auth::{Authenticator, Site};
use session_core::error::{Error, ErrorKind, Result};
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::policy::Throttle;
use session_core::registry::SessionRegistry;
use session_core::script::{Engine, Hooks, Values};
use session_core::session::{Actor, Ending, Identity, Protocol, Session, Setup};

use crate::chain;
use crate::config::{Config, User};
use crate::hooks;
use crate::log::Journal;
use crate::stores::Stores;
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

/// A configuration made ready, not in force yet.
pub struct Prepared(Live);

/// The site that `ferryd` serves.
pub struct FerrySite {
    registry: Arc<SessionRegistry>,
    engine: Arc<Engine>,
    /// What handlers share; outlives a reload.
    values: Arc<Values>,
    journal: Arc<Journal>,
    live: RwLock<Arc<Live>>,
    stores: Arc<Stores>,
    /// Nobody is admitted any more.
    closed: AtomicBool,
}

impl FerrySite {
    /// A site of this configuration. Errors: those of its users and handlers.
    pub fn new(
        config: Config,
        registry: Arc<SessionRegistry>,
        engine: Arc<Engine>,
        journal: Arc<Journal>,
    ) -> Result<Arc<Self>> {
        let stores = Arc::<Stores>::default();
        let values = Arc::<Values>::default();
        let live = Live::new(config, &engine, &values, &stores)?;
        Ok(Arc::new(FerrySite {
            registry,
            engine,
            values,
            journal,
            live: RwLock::new(Arc::new(live)),
            stores,
            closed: AtomicBool::new(false),
        }))
    }

    /// Makes ready what a configuration comes to, and changes nothing. Reads files and compiles scripts:
    /// blocks. Errors: those of users and handlers.
    pub fn prepare(&self, config: Config) -> Result<Prepared> {
        Live::new(config, &self.engine, &self.values, &self.stores).map(Prepared)
    }

    /// Puts it in force. Sessions of users that are gone or switched off are cut; the answer is how many.
    pub fn replace(&self, prepared: Prepared) -> usize {
        let live = Arc::new(prepared.0);
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
        ended
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

    /// The open homes.
    pub fn stores(&self) -> &Arc<Stores> {
        &self.stores
    }

    /// Admits nobody any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// Builds what a start would build of `config`, and throws it away. Errors: those of users and handlers.
pub fn check(config: Config) -> Result<()> {
    let engine = Engine::new(config.scripts.limits());
    Live::new(config, &engine, &Arc::default(), &Arc::default()).map(|_| ())
}

impl Live {
    fn new(config: Config, engine: &Arc<Engine>, values: &Arc<Values>, stores: &Arc<Stores>) -> Result<Self> {
        let directory = Arc::new(Directory::new(&config)?);
        let hooks = hooks::load(&config, engine, values)?;
        let throttles = config
            .users
            .iter()
            .filter(|u| u.speed_limit > 0)
            .map(|u| (u.name.clone(), Arc::new(Throttle::new(u.speed_limit))))
            .collect();
        let front = chain::of_front(hooks.as_ref(), stores);
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
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Throttled).with_detail("the server is shutting down"));
        }
        let live = self.live();
        // Before any script runs: a flood must not reach the engine. `open` counts exactly.
        let total = live.config.limits.sessions;
        if total != 0 && self.registry.len() >= total {
            return Err(
                Error::new(ErrorKind::Throttled).with_detail("this server has as many sessions as it may")
            );
        }
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
        let files = self.stores.mount(&live.config, user, account, session).await?;
        let parts = |hooks| chain::Parts {
            read_only: user.read_only,
            rules: user.permissions.clone(),
            throttle: live.throttles.get(&user.name).cloned(),
            hooks,
        };
        let chain = chain::of_user(parts(live.hooks.clone()));
        if live.hooks.is_some() {
            session.lend_files(Arc::clone(&files), chain::of_user(parts(None)));
        }
        session.guard(identity, files, chain)
    }
}
