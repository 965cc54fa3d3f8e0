//! `FerrySite`: what protocol servers are given — sessions, logins and each user's filesystem.
//!
//! Several of them may stand beside each other in one server: they share what is in [`Common`].
//! What a reload changes stands in one value, `Live`, that is exchanged as a whole: sessions that are
//! there keep the chain they were guarded with, new ones get the new rules. The homes are `stores`' business.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use client::hooks::pgp::Agents;
use session_core::auth::{Account, Authenticator, Site};
use session_core::error::{Error, ErrorKind, Result};
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::reason::Reason;
use session_core::registry::SessionRegistry;
use session_core::script::{Engine, Hooks, Values};
use session_core::session::{Actor, Ending, Identity, Protocol, Session, SessionId, Setup, system_clock};

use crate::accounts::Accounts;
use crate::chain;
use crate::config::{self, Config, User};
use crate::control::Nodes;
use crate::gateway::{self, Settings};
use crate::hooks;
use crate::journal::{Journal, Origin, Recorded};
use crate::notify::{self, Notifier};
use crate::outbox::{self, Outbox};
use crate::protector::{Guard, Protector, Strike};
use crate::quarantine::Quarantine;
use crate::rates::Rates;
use crate::rights::UserRights;
use crate::scan::Scan;
use crate::shared::Leases;
use crate::speeds::Speeds;
use crate::stores::{self, Stores};
use crate::transfers::{Counted, Transfers};
use crate::users::directory::{Directory, Hashing, Room, bars};
use crate::users::external::{External, Remembered};
use crate::users::totp::{Once, Spent};

/// Where the recovery codes that were used stand, in the data folder.
pub(crate) const SPENT: &str = "spent_codes";

/// The file in a site's data folder that says that it is paused.
const PAUSED: &str = "paused";

/// What a reload exchanges.
struct Live {
    config: Arc<Config>,
    directory: Arc<Directory>,
    hooks: Option<Arc<Hooks>>,
    notifier: Option<Arc<Notifier>>,
    front: Arc<Chain>,
    /// The server's, or its own.
    protector: Arc<Protector>,
    scan: Vec<Arc<Scan>>,
    gateways: HashMap<String, Settings>,
}

/// A configuration made ready, not in force yet.
pub struct Prepared(Live);

/// What all sites of a server share.
pub struct Common {
    /// The live table.
    pub registry: Arc<SessionRegistry>,
    /// The sessions of all nodes.
    pub(crate) nodes: Arc<Nodes>,
    /// Runs the handlers.
    pub engine: Arc<Engine>,
    /// Where events go.
    pub journal: Arc<Journal>,
    /// Who may not connect, where a site does not say so itself.
    pub protector: Arc<Protector>,
    /// The open homes: a folder that two sites name is one home.
    pub stores: Arc<Stores>,
    /// What the file does not have.
    pub accounts: Arc<Accounts>,
    /// Who follows sessions.
    pub(crate) traces: Arc<hooks::Traces>,
    /// What PGP of handlers leaves running.
    pub(crate) agents: Arc<Agents>,
    /// What others are to be told.
    pub(crate) outbox: Arc<Outbox>,
    /// How much was moved.
    pub(crate) transfers: Arc<Transfers>,
    /// How fast content moves.
    pub(crate) speeds: Speeds,
    /// How many connections arrive.
    pub(crate) rates: Rates,
    /// What passwords are hashed with.
    hashing: Arc<Hashing>,
    /// One-time codes that were used, by site.
    spent: Mutex<HashMap<String, Arc<Spent>>>,
    /// Accounts of other directories that were here, by site.
    remembered: Mutex<HashMap<String, Arc<Remembered>>>,
    /// What is counted on all nodes: one-time codes, sessions of accounts.
    together: OnceLock<(Arc<dyn Once>, Arc<dyn Room>)>,
    /// This node's parts of quotas, where there are several.
    pub(crate) leases: OnceLock<Arc<Leases>>,
}

impl Common {
    /// With an empty table and no open homes. Errors: `Internal`.
    pub fn new(
        config: &Config,
        journal: Arc<Journal>,
        protector: Arc<Protector>,
        accounts: Arc<Accounts>,
    ) -> Result<Arc<Self>> {
        let engine = Engine::new(config.scripts.limits());
        let outbox = Outbox::new(&config.data, config.outbox.clone())?;
        let (registry, stores, spent) = (Arc::<SessionRegistry>::default(), Arc::default(), Mutex::default());
        registry.set_node(&config.database.node());
        let (traces, hashing) = (Arc::default(), Arc::default());
        let nodes = Nodes::new(&registry, &traces);
        Ok(Arc::new(Common {
            registry,
            nodes,
            engine,
            journal,
            protector,
            stores,
            accounts,
            traces,
            agents: Arc::default(),
            outbox,
            transfers: Arc::default(),
            speeds: Speeds::default(),
            rates: Rates::default(),
            hashing,
            spent,
            remembered: Mutex::default(),
            together: OnceLock::new(),
            leases: OnceLock::new(),
        }))
    }

    /// Counts together with other nodes, at every site that is made from now on.
    pub(crate) fn count_together(&self, codes: Arc<dyn Once>, room: Arc<dyn Room>) {
        let _ = self.together.set((codes, room));
    }

    /// Those of one site, through every reload. Errors: `Internal`.
    fn remembered(&self, config: &Config) -> Result<Arc<Remembered>> {
        let mut all = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = all.get(&config.site) {
            return Ok(Arc::clone(there));
        }
        let remembered = Arc::new(Remembered::new()?);
        all.insert(config.site.clone(), Arc::clone(&remembered));
        Ok(remembered)
    }

    /// Those of one site, through every reload. Blocks. Errors: those of its file.
    fn spent(&self, config: &Config) -> Result<Arc<Spent>> {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = all.get(&config.site) {
            return Ok(Arc::clone(there));
        }
        let spent = Spent::load(&config.data.join(SPENT))?;
        let spent = Arc::new(match self.together.get() {
            Some((codes, _)) => spent.among(&config.site, Arc::clone(codes)),
            None => spent,
        });
        all.insert(config.site.clone(), Arc::clone(&spent));
        Ok(spent)
    }
}

/// A site that `ferryd` serves.
pub struct FerrySite {
    common: Arc<Common>,
    /// What handlers share; outlives a reload.
    values: Arc<Values>,
    live: RwLock<Arc<Live>>,
    /// Nobody is admitted any more.
    closed: AtomicBool,
    /// Nobody is admitted for now; who is there goes on.
    paused: AtomicBool,
}

impl FerrySite {
    /// A site of this configuration, which is that of one site; nothing outside knows of it yet. Errors: those of its
    /// users and handlers.
    pub fn new(config: Config, common: Arc<Common>) -> Result<Arc<Self>> {
        let values = Arc::<Values>::default();
        let live = Live::new(config, &common, &values)?;
        let paused = live.config.data.join(PAUSED).exists();
        if paused {
            tracing::warn!(site = live.config.site, "the site is paused, as it was before: 'ferryd resume'");
        }
        Ok(Arc::new(FerrySite {
            common,
            values,
            live: RwLock::new(Arc::new(live)),
            closed: AtomicBool::new(false),
            paused: AtomicBool::new(paused),
        }))
    }

    /// It is served from now on: what is told of its events is told to those whom it names.
    pub(crate) fn announce(&self) {
        self.live().announce(&self.common);
    }

    /// Makes ready what a configuration comes to, and changes nothing. Reads files and compiles scripts:
    /// blocks. Errors: those of users and handlers.
    pub fn prepare(&self, config: Config) -> Result<Prepared> {
        Live::new(config, &self.common, &self.values).map(Prepared)
    }

    /// Puts it in force. Sessions of users that are gone or switched off are cut; the answer is how many.
    pub fn replace(&self, prepared: Prepared) -> usize {
        self.put(prepared.0, &Actor::Server)
    }

    /// Takes up what has changed of the stored accounts: of these names, or of all. Sessions of users that
    /// are gone or switched off are cut; the answer is how many. The caller sees to it that nothing else is
    /// put in force meanwhile. Blocks. Errors: `Internal`.
    pub(crate) fn renew(&self, names: Option<&[String]>, actor: &Actor) -> Result<usize> {
        let live = self.live();
        let (config, accounts) = (&live.config, &self.common.accounts);
        let names: BTreeSet<String> = match names {
            Some(names) => names.iter().cloned().collect(),
            None => {
                let there = live.directory.names().into_iter().map(String::from);
                accounts.contents().names(&config.site).into_iter().chain(there).collect()
            }
        };
        // What the file declares stands as it was read.
        let stored = names.into_iter().filter(|n| !config.users.iter().any(|u| u.name == *n));
        let changes = stored.map(|name| {
            let user = accounts.user(config, &name);
            (name, user)
        });
        let directory = live.directory.changed(changes.collect())?;
        let next = Live {
            config: Arc::clone(config),
            directory: Arc::new(directory),
            hooks: live.hooks.clone(),
            notifier: live.notifier.clone(),
            front: Arc::clone(&live.front),
            protector: Arc::clone(&live.protector),
            scan: live.scan.clone(),
            gateways: live.gateways.clone(),
        };
        Ok(self.put(next, actor))
    }

    fn put(&self, live: Live, actor: &Actor) -> usize {
        live.announce(&self.common);
        self.common.stores.gateways.renew(&live.gateways);
        let live = Arc::new(live);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&live);
        let mut ended = 0;
        for session in self.sessions() {
            let Some(identity) = session.identity() else { continue };
            let stays = live.user(&identity.account().name).is_some_and(|u| u.enabled);
            if !stays && session.cut(gone(actor.clone())) {
                ended += 1;
            }
        }
        ended + self.enforce(SystemTime::now())
    }

    /// Cuts the sessions of accounts whose time is over; the answer is how many.
    pub fn enforce(&self, now: SystemTime) -> usize {
        let live = self.live();
        let mut ended = 0;
        for session in self.sessions() {
            let Some(identity) = session.identity() else { continue };
            let user = live.user(&identity.account().name);
            if let Some((code, words)) = user.and_then(|u| bars(&u, session.protocol(), now)) {
                ended += usize::from(session.cut(Ending::new(words, Actor::Server).because(code)));
            }
        }
        ended
    }

    /// Its accounts, with its configuration.
    pub(crate) fn accounts(&self) -> Vec<(Arc<Config>, Arc<User>)> {
        let live = self.live();
        live.directory.users().map(|u| (Arc::clone(&live.config), Arc::clone(u))).collect()
    }

    /// How many accounts there are.
    pub fn users(&self) -> usize {
        self.live().directory.users().count()
    }

    /// Its live sessions.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let name = self.name();
        let mut all = self.common.registry.list();
        all.retain(|s| s.site() == name);
        all
    }

    /// Admits nobody any more, and ends whoever is there; the answer is how many.
    pub fn abolish(&self) -> usize {
        self.close();
        let ending = Ending::new("the site is gone", Actor::Server).because(Reason::Reconfigured);
        self.sessions().iter().filter(|s| s.cut(ending.clone())).count()
    }

    /// What became of an operation whose outcome was never written, as its user's files show it.
    pub(crate) async fn look_back(&self, intent: &outbox::Intent) -> outbox::Outcome {
        let live = self.live();
        let files = async {
            let user = live.user(outbox::recover::user_of(intent))?;
            let account = Account {
                shared: user.shared,
                anonymous: user.anonymous,
                ..Account::named(user.name.as_str())
            };
            let session = SessionId::from(intent.session.as_str());
            let mounted =
                self.common.stores.mount(&live.config, &live.gateways, &user, &account, &session).await;
            Some(mounted.ok()?.0)
        };
        let files = files.await;
        let keeps = live.config.staging.enabled && live.config.staging.parking == config::Parking::Keep;
        outbox::recover::outcome(intent, files.as_deref(), keeps).await
    }

    /// Counts what is in the homes of a group that is bounded as a whole, and wherever somebody of `of` has set
    /// limits, before anybody comes there. What cannot be opened is in the log, and is not counted.
    pub(crate) async fn count(&self, of: &HashSet<String>) {
        let live = self.live();
        for user in live.directory.users() {
            let bounds = stores::bounds(&live.config, user);
            let is_wanted = !user.total_quotas.is_empty() || bounds.iter().any(|by| of.contains(by));
            // A home that nobody has come to yet holds nothing.
            if !is_wanted || user.gateway.is_some() || !user.home.exists() {
                continue;
            }
            let (account, session) = (Account::named(user.name.as_str()), SessionId::from("counting"));
            let mounted = self.common.stores.mount(&live.config, &live.gateways, user, &account, &session);
            let _ = mounted.await;
        }
    }

    /// Keeps what the protector did for receivers outside; whether there are any for it.
    pub(crate) fn keep(&self, step: &Lifecycle<'_>) -> bool {
        self.live().notifier.as_ref().is_some_and(|notifier| notifier.notice(step))
    }

    /// Shows its handlers what the protector did; waits for them.
    pub async fn notice(&self, step: Lifecycle<'_>) {
        self.live().front.decide(None, step).await;
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.live().config)
    }

    /// Admits nobody for now, or everybody again, through reloads and restarts. Blocks for a moment. Errors: of the
    /// file that says so to the next process; this one does as it was told.
    pub fn pause(&self, paused: bool) -> Result<()> {
        self.paused.store(paused, Ordering::SeqCst);
        let data = self.config().data.clone();
        let written = match paused {
            true => std::fs::create_dir_all(&data).and_then(|()| std::fs::write(data.join(PAUSED), "")),
            false => match std::fs::remove_file(data.join(PAUSED)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
        };
        written.map_err(|e| Error::from(e).with_detail("it holds, but not beyond a restart"))
    }

    /// Whether nobody is admitted for now.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Errors: `Throttled` where nobody is admitted.
    fn is_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closing());
        }
        match self.is_paused() {
            true => Err(Error::new(ErrorKind::Throttled)
                .with_detail("no session is taken here at the moment")
                .because(Reason::Stopping)),
            false => Ok(()),
        }
    }

    /// Admits nobody any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether somebody who was admitted at the door, which may be another site's, may be here. Errors: why not.
    async fn receive(&self, live: &Live, address: IpAddr) -> Result<()> {
        let received = live.protector.receive(address);
        if received.is_err() {
            live.protector.written().await;
        }
        received
    }

    /// Whether somebody may come in. Errors: why not.
    async fn meet(&self, peer: SocketAddr, local: SocketAddr) -> Result<()> {
        self.is_open()?;
        let live = self.live();
        Recorded(Arc::clone(&self.common.journal)).check()?;
        // Before any script runs: a flood must not reach the engine. `open` counts exactly.
        live.protector.admit(peer.ip())?;
        self.common.rates.admit(&live.config.site, Instant::now())?;
        if let Err(e) = self.common.registry.has_room(&live.config.site, peer.ip()) {
            if e.reason() == Reason::AddressLimit {
                live.protector.strike(peer.ip(), Strike::Limit);
            }
            return Err(e);
        }
        match live.front.decide(None, Lifecycle::Connect { peer, local }).await {
            Verdict::Refuse(e) => Err(e),
            _ => Ok(()),
        }
    }
}

/// Builds what a start would build of `config`, and throws it away. Errors: those of users and handlers, and of
/// the database.
pub async fn check(config: Config) -> Result<()> {
    let protector = Protector::new(config.protector.clone(), None, system_clock())?;
    let accounts = Accounts::look(&config).await?;
    let (config, wrong) = accounts.contents().with_sites(&config);
    if let Some(fault) = wrong.first() {
        let kind = if fault.double { ErrorKind::AlreadyExists } else { ErrorKind::InvalidArgument };
        return Err(Error::new(kind).with_detail(fault.to_string()));
    }
    let common = Common::new(&config, Arc::default(), protector, accounts)?;
    config.each_site().into_iter().try_for_each(|site| {
        stores::check(&site)?;
        Live::new(site, &common, &Arc::default()).map(|_| ())
    })
}

fn gone(actor: Actor) -> Ending {
    Ending::new("the account was removed or switched off", actor).because(Reason::AccountClosed)
}

impl Live {
    fn new(config: Config, common: &Common, values: &Arc<Values>) -> Result<Self> {
        let stored = common.accounts.users(&config);
        let secrets = common.accounts.contents().secrets.clone();
        let named = hooks::secrets_of(&config.scripts, secrets.clone())?;
        let external = match config.directories.is_empty() {
            true => None,
            false => External::new(&config, &common.accounts, &named, common.remembered(&config)?)?,
        };
        let (spent, hashing) = (common.spent(&config)?, Arc::clone(&common.hashing));
        let directory = Directory::with(&config, stored, spent, hashing, named)?.and(external);
        let room = common.together.get().map(|(_, room)| Arc::clone(room));
        let directory = directory.believing(Arc::clone(&common.accounts), &config).counting(room);
        let directory = Arc::new(directory);
        let gateways = gateway::read(&config, secrets.clone())?;
        let quarantine = Quarantine::new(config.scan.quarantine.clone(), config.scan.quarantine_size);
        let scan = Scan::all(&config.scan, &(Arc::clone(&quarantine) as _))?;
        let reach = hooks::Reach {
            stored: secrets.clone(),
            values: Arc::clone(values),
            quarantine,
            nodes: Arc::clone(&common.nodes),
            traces: Arc::clone(&common.traces),
            agents: Arc::clone(&common.agents),
        };
        let hooks = hooks::load(&config, &common.engine, reach)?;
        let subscribers = match config.webhooks.is_empty() && config.commands.is_empty() {
            true => Vec::new(),
            false => notify::load(&config, &hooks::secrets_of(&config.scripts, secrets)?)?,
        };
        let notifier = Notifier::new(&config.site, subscribers, Arc::clone(&common.outbox));
        let protector = match config.guards_itself {
            true => common.protector.of_site(&config.site, &config.data)?,
            false => Arc::clone(&common.protector),
        };
        let front = chain::of_front(
            Guard::new(Arc::clone(&protector), &common.registry),
            hooks.as_ref(),
            notifier.as_ref(),
            &common.stores,
        );
        let config = Arc::new(config);
        Ok(Live { config, directory, hooks, notifier, front, protector, scan, gateways })
    }

    /// Who is told from now on, and how strict its own protector is.
    fn announce(&self, common: &Common) {
        if self.config.guards_itself {
            self.protector.set(self.config.protector.clone());
        }
        let receivers = self.notifier.iter().flat_map(|n| n.receivers());
        common.outbox.set_receivers(&self.config.site, receivers);
    }

    fn user(&self, name: &str) -> Option<Arc<User>> {
        self.directory.account(name)
    }
}

#[async_trait]
impl Site for FerrySite {
    fn name(&self) -> Arc<str> {
        self.live().config.site.as_str().into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        self.knock(peer, local).await?;
        self.begin(protocol, peer, local).await
    }

    async fn knock(&self, peer: SocketAddr, local: SocketAddr) -> Result<()> {
        let met = self.meet(peer, local).await;
        if met.is_err() {
            self.common.protector.written().await;
        }
        met
    }

    async fn begin(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        self.is_open()?;
        let live = self.live();
        self.receive(&live, peer.ip()).await?;
        let mut setup = Setup::new(protocol, live.config.site.as_str());
        setup.peer = Some(peer);
        setup.local = Some(local);
        setup.chain = Arc::clone(&live.front);
        let origin = Origin {
            address: peer.ip().to_canonical().to_string().into(),
            port: peer.port(),
            local: Some(local),
            protocol: protocol.name(),
            site: live.config.site.as_str().into(),
        };
        setup.sink = Some(self.common.journal.sink(origin));
        self.common.registry.open(setup)
    }

    async fn welcome(&self, session: &Arc<Session>) -> Result<()> {
        self.is_open()?;
        let live = self.live();
        if let Some(address) = session.peer_address() {
            self.receive(&live, address).await?;
        }
        session.move_to(live.config.site.as_str(), Arc::clone(&live.front))
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.live().directory) as Arc<dyn Authenticator>
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let live = self.live();
        let account = identity.account();
        let user = live.user(&account.name).filter(|u| u.enabled).ok_or(ErrorKind::Unauthenticated)?;
        let (files, locks) =
            self.common.stores.mount(&live.config, &live.gateways, &user, account, session.id()).await?;
        let parts = |hooks, notifier| chain::Parts {
            journal: Arc::clone(&self.common.journal),
            read_only: user.read_only,
            rules: config::rules(&user),
            filters: user.filters.clone(),
            locks: Arc::clone(&locks),
            counted: Counted::new(&self.common.transfers, &live.config, &user),
            speeds: self.common.speeds.of(&live.config, &user, session),
            hooks,
            notifier,
            scan: live.scan.clone(),
        };
        let chain = chain::of_user(parts(live.hooks.clone(), live.notifier.clone()));
        if live.hooks.is_some() {
            session.lend_files(Arc::clone(&files), chain::of_user(parts(None, None)));
            session.tell_rights(UserRights::of(&live.config, &user, &self.common.stores.quotas.book));
        }
        Ok(session.guard(identity, files, chain)?.locking(locks))
    }
}

fn closing() -> Error {
    Error::new(ErrorKind::Throttled).with_detail("the server is shutting down").because(Reason::Stopping)
}
