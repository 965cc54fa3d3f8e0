//! The life of `ferryd`: listeners, control socket, signals, drain.
//!
//! A reload makes everything new before it changes anything; a fault leaves the old in force and says so.
//! It replaces sites, users, rules, hooks, limits, listeners, host keys, log level and audit file. Sessions
//! live on with the rules that they began with, except those whose account or site is gone or switched off:
//! they are cut.
//! A stop takes no new connection and no new file, waits for the transfers that run, at most the drain
//! time, and then cuts. One daemon owns a data folder, by a lock file in it.

mod admission;
mod differences;
mod keeping;
mod making;
mod reload;
mod telling;

use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};
use proto_webdav::server::Sessions;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::server_tls::ServerTls;
use session_core::reason::Reason;
use session_core::registry::PATIENCE;
use session_core::session::{Actor, Ending, Session, system_clock};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(crate) use self::admission::Admission;
use self::making::Ready;
use self::reload::Anew;
use crate::accounts::{Accounts, Contents, Desk, InForce, Touched};
use crate::config::{Config, ListenerProtocol};
use crate::control::{ControlState, serve as serve_control, serve_network};
use crate::hooks::declared_secrets;
use crate::journal::Journal;
use crate::listen::{self, Bound, Identities, Servers};
use crate::log::Logging;
use crate::protector::{self, Protector, Shared};
use crate::shared::{Hub, Orders};
use crate::site::{Common, FerrySite};

/// How often parked uploads are looked through, and accounts for whether their time is over.
const SWEEP: Duration = Duration::from_secs(60);

/// Where the counts of quotas are kept between two runs, in the data folder.
const QUOTAS: &str = "quotas.json";

/// Where what comes too early for a gateway waits, in the data folder.
const SPOOL: &str = "spool";

/// Where it is kept what was transferred.
const TRANSFERS: &str = "transfers.json";

/// Reads the configuration anew.
pub type Reload = Arc<dyn Fn() -> Result<Config> + Send + Sync>;

/// What a reload replaces of the listeners.
struct Serving {
    bound: Vec<Bound>,
    /// By site.
    identities: HashMap<String, Identities>,
    /// Stops the accepting with the options of this generation.
    generation: CancellationToken,
}

/// What is served.
struct Served {
    config: Arc<Config>,
    /// In the order of the configuration; at least one.
    sites: Vec<Arc<FerrySite>>,
}

impl Served {
    fn site(&self, name: &str) -> Option<&Arc<FerrySite>> {
        self.sites.iter().find(|s| s.config().site == name)
    }
}

/// A running server.
pub struct Daemon {
    common: Arc<Common>,
    served: RwLock<Arc<Served>>,
    journal: Arc<Journal>,
    logging: Option<Arc<Logging>>,
    reload: Reload,
    serving: Mutex<Serving>,
    control: PathBuf,
    /// Ends the control socket and the sweeping, after the last session: until then sessions are seen and ended.
    shutdown: CancellationToken,
    /// No session is taken any more.
    stopping: CancellationToken,
    /// Where the API is answered over the network.
    admin: Option<(SocketAddr, Option<Arc<ServerTls>>)>,
    /// What other nodes share with this one.
    hub: Option<Arc<Hub>>,
    /// What others ask of this one, and it of them.
    orders: Option<Arc<Orders>>,
    started: Instant,
    /// The sessions of HTTP, which outlive their connections and every reload.
    http: Arc<Sessions>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Held for its lock.
    _owned: File,
}

/// The listener of the API.
struct Admin {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
}

impl Admin {
    /// `None` where it is not asked for. Errors: the address is taken, or not ours; those of the certificate.
    async fn open(config: &Config) -> Result<Option<Self>> {
        let asked = &config.admin;
        if !asked.enabled {
            return Ok(None);
        }
        let tls = asked.tls.then(|| listen::tls(config, &[])).transpose()?;
        let at = SocketAddr::new(asked.address, asked.port);
        let cannot =
            |e: std::io::Error| Error::from(e).with_detail(format!("the API cannot be answered on {at}"));
        let socket = TcpListener::bind(at).await.map_err(cannot)?;
        let address = socket.local_addr().map_err(cannot)?;
        Ok(Some(Admin { socket, address, tls }))
    }
}

fn lock(m: &Mutex<Serving>) -> MutexGuard<'_, Serving> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Daemon {
    /// Starts everything that `config` asks for. Errors: what cannot be bound, read or made, by name;
    /// `AlreadyExists` where another daemon uses the data folder.
    pub async fn start(
        config: Config,
        journal: Arc<Journal>,
        logging: Option<Arc<Logging>>,
        reload: Reload,
    ) -> Result<Arc<Self>> {
        raise_descriptors();
        let owned = own(&config.data)?;
        let hub = Hub::new(&config)?;
        let own_lists = hub.is_none().then(|| config.data.clone());
        let protector = Protector::new(config.protector.clone(), own_lists, system_clock())?;
        let accounts = Accounts::open(&config, hub.as_ref()).await?;
        let common = Common::new(&config, Arc::clone(&journal), protector, accounts)?;
        common.stores.quotas.take(&config.data.join(QUOTAS))?;
        common.stores.gateways.set_spool(&config.data.join(SPOOL))?;
        common.transfers.load(&config.data.join(TRANSFERS));
        let shared_bans = match &hub {
            Some(hub) => {
                Some(Shared::open(Arc::clone(hub), &common.protector, &common.registry, &config.data).await?)
            }
            None => None,
        };
        let shutdown = CancellationToken::new();
        let orders = keeping::meet(hub.as_ref(), &common, &config, &shutdown).await?;
        let wanted = making::with_stored(&config, &common.accounts.contents(), None)?;
        let Ready { config, read, sites, sockets } =
            making::ready_without_unusable(&wanted, None, &[], &common).await?;
        let bound = sockets.into_iter().filter_map(|s| s.made).collect();
        let sites: Vec<_> = sites.into_iter().map(|(site, _)| site).collect();
        if let Some(shared) = &shared_bans {
            // Who is blocked at a site does not come in before that is known.
            shared.join_sites().await?;
        }
        sites.iter().for_each(|site| site.announce());
        let control = config.control.clone();
        let admin = Admin::open(&config).await?;
        let serving = Serving { bound, identities: read.identities(), generation: CancellationToken::new() };
        let http = Sessions::new()?;
        let servers = read.servers(&sites, &http)?;
        limit(&common, &config);
        telling::look_back(&common.outbox, &sites).await?;
        let stores = Arc::clone(&common.stores);
        let daemon = Arc::new(Daemon {
            common,
            served: RwLock::new(Arc::new(Served { config: Arc::new(config), sites })),
            journal,
            logging,
            reload,
            serving: Mutex::new(serving),
            control: control.clone(),
            shutdown: shutdown.clone(),
            stopping: CancellationToken::new(),
            admin: admin.as_ref().map(|a| (a.address, a.tls.clone())),
            hub,
            orders,
            started: Instant::now(),
            http,
            reloading: tokio::sync::Mutex::new(()),
            _owned: owned,
        });
        let weak = Arc::downgrade(&daemon);
        let sites = move || weak.upgrade().map(|d| d.served().sites.clone()).unwrap_or_default();
        let (journal, outbox) = (Arc::clone(&daemon.journal), Arc::clone(&daemon.common.outbox));
        protector::tell(&daemon.common.protector, journal, outbox, sites, shutdown.clone());
        let state = daemon.state();
        let (desk, until) = (Arc::clone(&state.desk), shutdown.clone());
        tokio::spawn(async move { until.run_until_cancelled(desk.follow()).await });
        if let Some(Admin { socket, tls, .. }) = admin {
            tokio::spawn(serve_network(socket, tls, state.clone(), shutdown.clone()));
        }
        serve_control(control, state, shutdown.clone()).await?;
        if let Some(orders) = &daemon.orders {
            daemon.common.nodes.join(Arc::clone(orders) as _);
            let nodes = Arc::clone(&daemon.common.nodes);
            tokio::spawn(keeping::orders(Arc::clone(orders), nodes, shutdown.clone()));
        }
        daemon.listen(&mut lock(&daemon.serving), &servers)?;
        let started = json!({ "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id() });
        daemon.journal.note("started", started);
        tokio::spawn(keeping::count(Arc::clone(&daemon.common), daemon.served().sites.clone()));
        let sites = Arc::downgrade(&daemon);
        tokio::spawn(Arc::clone(&daemon.common.outbox).deliver(shutdown.clone()));
        tokio::spawn(telling::keep_looking(Arc::clone(&daemon.common.outbox), Arc::downgrade(&daemon)));
        let transfers = daemon.served().config.data.join(TRANSFERS);
        tokio::spawn(keeping::transfers(Arc::clone(&daemon.common.transfers), transfers, shutdown.clone()));
        let protector = &daemon.common.protector;
        if shared_bans.is_none() {
            tokio::spawn(keeping::bans_of_sites(Arc::clone(protector), shutdown.clone()));
        }
        tokio::spawn(keeping::bans(Arc::clone(protector), shared_bans, shutdown.clone()));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(SWEEP) => {
                        let now = SystemTime::now();
                        sites.upgrade().into_iter().flat_map(|d| d.served().sites.clone()).for_each(|s| {
                            s.enforce(now);
                        });
                        stores.sweep(now).await;
                    }
                }
            }
        });
        Ok(daemon)
    }

    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Accepts on every bound socket with these servers, and no longer with the earlier ones.
    fn listen(&self, serving: &mut Serving, servers: &HashMap<String, Servers>) -> Result<()> {
        let mut sockets = Vec::new();
        for b in &serving.bound {
            if let Some(servers) = servers.get(&b.site) {
                sockets.push((servers, b.asked.protocol, b.listener()?));
            }
        }
        self.common.stores.gateways.set_own(serving.bound.iter().map(|b| b.address).collect());
        serving.generation.cancel();
        serving.generation = CancellationToken::new();
        for (servers, protocol, socket) in sockets {
            servers.serve(protocol, socket, serving.generation.clone());
        }
        Ok(())
    }

    /// What the API reaches.
    fn state(self: &Arc<Self>) -> ControlState {
        let weak = || Arc::downgrade(self);
        let (status, reload, drain, ready, admit, moved) = (weak(), weak(), weak(), weak(), weak(), weak());
        ControlState {
            registry: Arc::clone(&self.common.registry),
            nodes: Arc::clone(&self.common.nodes),
            protector: Arc::clone(&self.common.protector),
            desk: Desk::new(Arc::clone(&self.common.accounts), Arc::new(Behind(weak()))),
            stores: Arc::clone(&self.common.stores),
            outbox: Arc::clone(&self.common.outbox),
            leases: self.common.leases.get().cloned(),
            status: Arc::new(move || status.upgrade().map_or(Value::Null, |d| d.status())),
            reload: Arc::new(move |actor| {
                let daemon = reload.upgrade();
                Box::pin(async move {
                    match daemon {
                        Some(daemon) => daemon.reload(&actor).await,
                        None => Err(ErrorKind::Closed.into()),
                    }
                }) as BoxFuture<'static, Result<Value>>
            }),
            drain: Arc::new(move || {
                drain.upgrade().into_iter().for_each(|d| d.stopping.cancel());
            }),
            admit: Arc::new(move |site, admission, actor| {
                let daemon = admit.upgrade().ok_or(ErrorKind::Closed)?;
                daemon.admit(site, admission, actor)
            }),
            tallies: self.journal.tallies(),
            runs: {
                let engine = Arc::clone(&self.common.engine);
                Arc::new(move || engine.runs())
            },
            ready: Arc::new(move || ready.upgrade().is_some_and(|d| !d.stopping.is_cancelled())),
            transfers: Arc::new(move || {
                moved.upgrade().map_or(Value::Null, |d| {
                    let users: Vec<_> = d.served().sites.iter().flat_map(|s| s.accounts()).collect();
                    d.common.transfers.report(&users, SystemTime::now())
                })
            }),
        }
    }

    fn listeners(&self) -> Vec<Value> {
        let serving = lock(&self.serving);
        let listener = |b: &Bound| {
            let identities = serving.identities.get(&b.site);
            json!({
                "protocol": b.asked.protocol.name(),
                "address": b.address.to_string(),
                "host": b.address.ip().to_string(),
                "port": b.address.port(),
                "site": b.site,
                "fingerprints": identities.map(|i| i.of(b.asked.protocol)).unwrap_or_default(),
            })
        };
        serving.bound.iter().map(listener).collect()
    }

    /// Where the API is answered over the network; null where it is not.
    fn admin_url(&self) -> Value {
        let scheme = |tls: &Option<_>| if tls.is_some() { "https" } else { "http" };
        self.admin.as_ref().map(|(at, tls)| format!("{}://{at}", scheme(tls))).into()
    }

    /// The ready line: what a harness needs.
    pub fn ready(&self) -> Value {
        json!({
            "event": "ready",
            "listeners": self.listeners(),
            "control": self.control.display().to_string(),
            "admin": self.admin_url(),
            "pid": std::process::id(),
        })
    }

    /// The first listener of this protocol and what it is known by, for the words after a first start.
    pub fn first(&self, protocol: ListenerProtocol) -> Option<(SocketAddr, String)> {
        let serving = lock(&self.serving);
        let bound = serving.bound.iter().find(|b| b.asked.protocol == protocol)?;
        Some((bound.address, serving.identities.get(&bound.site)?.of(protocol).first()?.clone()))
    }

    /// Protocol and real address of each listener.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        lock(&self.serving).bound.iter().map(|b| (b.asked.protocol.name(), b.address)).collect()
    }

    /// What is shared, and with whom.
    fn database(&self) -> Value {
        let Some(hub) = &self.hub else { return Value::Null };
        let others = self.orders.iter().flat_map(|orders| orders.others());
        let others = others.map(|o| json!({ "node": o.name, "quietSeconds": o.quiet.as_secs() }));
        json!({ "node": hub.node(), "reached": hub.is_reached(), "others": others.collect::<Vec<_>>() })
    }

    fn status(&self) -> Value {
        let served = self.served();
        let config = &served.config;
        let sessions = self.common.registry.list();
        let site = |site: &Arc<FerrySite>| {
            let of = site.config();
            json!({
                "name": of.site, "hosts": of.hosts, "users": site.users(), "hooks": of.hooks.len(),
                "paused": site.is_paused(),
                "sessions": sessions.iter().filter(|s| *s.site() == *of.site).count(),
            })
        };
        let sum = |what: fn(&Config) -> usize| served.sites.iter().map(|s| what(&s.config())).sum::<usize>();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "sites": served.sites.iter().map(site).collect::<Vec<_>>(),
            "uptimeSeconds": self.started.elapsed().as_secs(),
            "listeners": self.listeners(),
            "control": self.control.display().to_string(),
            "admin": self.admin_url(),
            "node": self.common.registry.node(),
            "database": self.database(),
            "data": config.data.display().to_string(),
            "sessions": sessions.len(),
            "loggedIn": sessions.iter().filter(|s| s.identity().is_some()).count(),
            "transfers": sessions.iter().map(|s| s.transfers().len()).sum::<usize>(),
            "parkedUploads": self.common.stores.parked(),
            "auditDropped": self.journal.dropped(),
            "users": served.sites.iter().map(|s| s.users()).sum::<usize>(),
            "hooks": sum(|c| c.hooks.len()),
            "limits": {
                "sessions": config.limits.sessions, "perAddress": config.limits.per_address,
                "perUser": config.limits.per_user, "unauthenticated": config.limits.unauthenticated,
            },
        })
    }

    /// Puts in force what was changed of the accounts; the answer: how many sessions ended by it.
    async fn renew(&self, touched: Touched, actor: &str) -> Result<usize> {
        let mut ended = 0;
        {
            // What a reload prepares meanwhile was read before the change, or waits for this.
            let _one = self.reloading.lock().await;
            let sites = self.served().sites.clone();
            let (of, actor) = (touched.clone(), Actor::Admin(actor.into()));
            let work = tokio::task::spawn_blocking(move || {
                let names = |site: &str| match &of {
                    Touched::Users(keys) => {
                        Some(keys.iter().filter(|k| k.0 == site).map(|k| k.1.clone()).collect::<Vec<_>>())
                    }
                    // All of it is made anew.
                    Touched::Nothing | Touched::Sites => Some(Vec::new()),
                    Touched::AllUsers | Touched::Secrets => None,
                };
                let mut ended = 0;
                for site in sites {
                    let names = names(&site.config().site);
                    if names.as_ref().is_none_or(|n| !n.is_empty()) {
                        ended += site.renew(names.as_deref(), &actor)?;
                    }
                }
                Ok::<_, Error>(ended)
            });
            ended += work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
        }
        match touched {
            Touched::Secrets => drop(self.reload(actor).await?),
            Touched::Sites => {
                let _one = self.reloading.lock().await;
                ended += self.read_anew(Anew::Stored, actor).await?.1;
            }
            _ => {}
        }
        let (what, users) = match &touched {
            Touched::Users(keys) => ("users", keys.iter().map(|k| format!("{}/{}", k.0, k.1)).collect()),
            Touched::AllUsers => ("all users", Vec::new()),
            Touched::Secrets => ("secrets", Vec::new()),
            Touched::Sites => ("sites", Vec::new()),
            Touched::Nothing => ("nothing in force", Vec::new()),
        };
        let note = json!({ "actor": actor, "what": what, "users": users, "ended": ended });
        self.journal.note("accounts-changed", note);
        Ok(ended)
    }

    /// Serves until a signal ends it: SIGHUP reloads, SIGTERM and SIGINT drain. A second one ends at once.
    pub async fn run(self: &Arc<Self>) -> Result<()> {
        let Signals { mut reload, mut stop } = Signals::new()?;
        loop {
            tokio::select! {
                _ = reload.recv() => {
                    if let Err(e) = self.reload("signal").await {
                        tracing::error!("the configuration is not taken: {e:#}");
                    }
                }
                () = stop.recv() => break,
                () = self.stopping.cancelled() => break,
            }
        }
        self.finish(stop.recv()).await;
        Ok(())
    }

    /// Takes no new session, lets those that are there end as [`Daemon::drain`] says, but not once `at_once` is done,
    /// and stops.
    pub(crate) async fn finish(&self, at_once: impl Future<Output = ()>) {
        self.stopping.cancel();
        tracing::info!(sessions = self.common.registry.len(), "stopping");
        self.served().sites.iter().for_each(|s| s.close());
        lock(&self.serving).generation.cancel();
        lock(&self.serving).bound.clear();
        tokio::select! {
            () = self.drain() => {}
            () = at_once => {}
        }
        self.end().await;
    }

    /// Ends all sessions; how many there were.
    #[cfg(feature = "testing")]
    pub(crate) async fn end_sessions(&self, ending: Ending) -> usize {
        let sessions = self.common.registry.list();
        let ends = sessions.iter().map(|s| s.terminate(ending.clone(), PATIENCE));
        join_all(ends).await.len()
    }

    /// Lets transfers finish, within the configured time; ends each session that has nothing left to do.
    async fn drain(&self) {
        let budget = self.served().config.limits.drain;
        let sessions = || Some(self.common.registry.list());
        admission::drain(sessions, budget, stopping).await;
    }

    async fn end(&self) {
        let sessions = self.common.registry.list();
        let busy = sessions.iter().filter(|s| is_busy(s)).count();
        if busy > 0 {
            tracing::warn!(sessions = busy, "cut in the middle of what they did");
        }
        let ends = sessions.iter().map(|s| s.terminate(stopping(), PATIENCE));
        let left: usize = join_all(ends).await.iter().map(|left| left.in_flight).sum();
        let _ = tokio::time::timeout(PATIENCE, self.common.outbox.flush()).await;
        self.shutdown.cancel();
        keeping::leave(&self.common, self.orders.as_ref()).await;
        for saved in [self.common.protector.save(), self.common.protector.save_sites()] {
            saved.unwrap_or_else(|e| tracing::error!("{e:#}"));
        }
        if let Err(e) = self.common.transfers.save(&self.served().config.data.join(TRANSFERS)) {
            tracing::error!("{e:#}");
        }
        let agents = Arc::clone(&self.common.agents);
        let _ = tokio::task::spawn_blocking(move || agents.end()).await;
        // Closing events and their hooks, and the end of the control socket.
        tokio::time::sleep(Duration::from_millis(100)).await;
        // What is still under way may change the counts: then they are made anew.
        if left == 0 {
            let file = self.served().config.data.join(QUOTAS);
            if let Err(e) = self.common.stores.quotas.save(&file, &self.common.stores.metered()) {
                tracing::error!("{e:#}");
            }
        }
        self.journal.note("stopped", json!({ "pid": std::process::id() }));
        if let Some(head) = self.journal.flush(Duration::from_millis(500)) {
            tracing::info!(head, "the audit ends here");
        }
    }
}

fn stopping() -> Ending {
    Ending::new("the server stops", Actor::Server).because(Reason::Stopping)
}

/// The limits of the server, and of its sites.
fn limit(common: &Common, config: &Config) {
    let registry = &common.registry;
    registry.set_caps(config.limits.caps());
    registry.set_history(config.history.bounds());
    let several: Vec<_> = config.each_site().into_iter().filter(|c| c.one_of_several).collect();
    registry.set_site_caps(several.iter().map(|c| (c.site.as_str().into(), c.limits.caps())));
    let rates = several.iter().map(|c| (c.site.as_str().into(), c.limits.rate));
    common.rates.set(config.limits.rate, rates, Instant::now());
    common.speeds.set_total(config.limits.speed());
}

fn is_busy(session: &Session) -> bool {
    !session.transfers().is_empty() || session.leases().in_flight() > 0
}

/// What the accounts see of the daemon.
struct Behind(Weak<Daemon>);

#[async_trait]
impl InForce for Behind {
    fn file(&self) -> Arc<Config> {
        self.0.upgrade().map(|d| Arc::clone(&d.served().config)).unwrap_or_default()
    }

    async fn rehearse(&self, after: Contents, changed: Vec<String>) -> Result<()> {
        let daemon = self.0.upgrade().ok_or(ErrorKind::Closed)?;
        daemon.rehearse(&after, &changed).await
    }

    fn declared_secrets(&self) -> Vec<String> {
        self.0.upgrade().map(|d| declared_secrets(&d.served().config.scripts)).unwrap_or_default()
    }

    async fn renew(&self, touched: Touched, actor: &str) -> Result<usize> {
        let daemon = self.0.upgrade().ok_or(ErrorKind::Closed)?;
        daemon.renew(touched, actor).await
    }
}

/// What a server listens to.
struct Signals {
    reload: Signal,
    stop: Stop,
}

struct Stop {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Signals {
            reload: signal(SignalKind::hangup())?,
            stop: Stop { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? },
        })
    }
}

impl Stop {
    async fn recv(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }
}

/// One daemon for a data folder: two would take each other's unfinished uploads for their own.
pub(crate) fn own(data: &Path) -> Result<File> {
    let named = |e: std::io::Error| {
        Error::from(e).with_detail(format!("the data folder {} cannot be used", data.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(named)?;
    let mut open = File::options();
    open.write(true).create(true).truncate(false).mode(0o600);
    let file = open.open(data.join("ferryd.lock")).map_err(named)?;
    file.try_lock().map_err(|_| {
        Error::new(ErrorKind::AlreadyExists)
            .with_detail(format!("another ferryd uses the data folder {}", data.display()))
            .with_hint("stop it, or give this one a folder of its own: --data DIR")
    })?;
    Ok(file)
}

/// As many open files as the system lets us have.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
