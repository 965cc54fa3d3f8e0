//! The life of `ferryd`: listeners, control socket, signals, drain.
//!
//! A reload makes everything new before it changes anything; a fault leaves the old in force and says so.
//! It replaces users, rules, hooks, limits, listeners, host keys, log level and audit file. Sessions live on
//! with the rules that they began with, except those whose account is gone or switched off: they are cut.
//! A stop takes no new connection and no new file, waits for the transfers that run, at most the drain
//! time, and then cuts. One daemon owns a data folder, by a lock file in it.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind, Result};
use session_core::registry::{PATIENCE, SessionRegistry};
use session_core::script::Engine;
use session_core::session::{Actor, Ending, Session};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Listener, ListenerProtocol};
use crate::control::{ControlState, serve as serve_control};
use crate::listen::{self, Bound, Identities, Servers};
use crate::log::{Journal, Logging, parse_level};
use crate::site::FerrySite;

/// How often parked uploads are looked through.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a draining session with nothing to do is left, so that a client can rename what it sent.
const GRACE: Duration = Duration::from_millis(500);

/// Reads the configuration anew.
pub type Reload = Arc<dyn Fn() -> Result<Config> + Send + Sync>;

/// What a reload replaces of the listeners.
struct Serving {
    bound: Vec<Bound>,
    identities: Identities,
    /// Stops the accepting with the options of this generation.
    generation: CancellationToken,
}

/// A running server.
pub struct Daemon {
    site: Arc<FerrySite>,
    journal: Arc<Journal>,
    logging: Option<Arc<Logging>>,
    reload: Reload,
    serving: Mutex<Serving>,
    control: PathBuf,
    /// Ends the control socket and the sweeping, after the last session: until then sessions are seen and ended.
    shutdown: CancellationToken,
    started: Instant,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Held for its lock.
    _owned: File,
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
        let registry = SessionRegistry::new(config.limits.caps());
        let engine = Engine::new(config.scripts.limits());
        let prepared = listen::prepare(&config)?;
        let mut bound = Vec::new();
        for listener in &config.listeners {
            bound.push(Bound::new(listener).await?);
        }
        let control = config.control.clone();
        let site = FerrySite::new(config, registry, engine, Arc::clone(&journal))?;
        let shutdown = CancellationToken::new();
        let identities = prepared.identities.clone();
        let serving = Serving { bound, identities, generation: CancellationToken::new() };
        let daemon = Arc::new(Daemon {
            site,
            journal,
            logging,
            reload,
            serving: Mutex::new(serving),
            control: control.clone(),
            shutdown: shutdown.clone(),
            started: Instant::now(),
            reloading: tokio::sync::Mutex::new(()),
            _owned: owned,
        });
        daemon.open_control(control).await?;
        let servers = prepared.servers(&daemon.site())?;
        daemon.listen(&mut lock(&daemon.serving), &servers)?;
        let sweeping = Arc::clone(&daemon.site);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(SWEEP) => sweeping.stores().sweep(SystemTime::now()).await,
                }
            }
        });
        Ok(daemon)
    }

    fn site(&self) -> Arc<dyn Site> {
        Arc::clone(&self.site) as Arc<dyn Site>
    }

    /// Accepts on every bound socket with these servers, and no longer with the earlier ones.
    fn listen(&self, serving: &mut Serving, servers: &Servers) -> Result<()> {
        let mut sockets = Vec::new();
        for b in &serving.bound {
            sockets.push((b.asked.protocol, b.listener()?));
        }
        serving.generation.cancel();
        serving.generation = CancellationToken::new();
        for (protocol, socket) in sockets {
            servers.serve(protocol, socket, serving.generation.clone());
        }
        Ok(())
    }

    async fn open_control(self: &Arc<Self>, path: PathBuf) -> Result<()> {
        let status = Arc::downgrade(self);
        let reload = Arc::downgrade(self);
        let state = ControlState {
            registry: Arc::clone(self.site.registry()),
            status: Arc::new(move || status.upgrade().map_or(Value::Null, |d| d.status())),
            reload: Arc::new(move || {
                let daemon = reload.upgrade();
                Box::pin(async move {
                    match daemon {
                        Some(daemon) => daemon.reload().await,
                        None => Err(ErrorKind::Closed.into()),
                    }
                }) as BoxFuture<'static, Result<Value>>
            }),
        };
        serve_control(path, state, self.shutdown.clone()).await
    }

    fn listeners(&self) -> Vec<Value> {
        let serving = lock(&self.serving);
        let listener = |b: &Bound| {
            json!({
                "protocol": b.asked.protocol.name(),
                "address": b.address.to_string(),
                "host": b.address.ip().to_string(),
                "port": b.address.port(),
                "fingerprints": serving.identities.of(b.asked.protocol),
            })
        };
        serving.bound.iter().map(listener).collect()
    }

    /// The ready line: what a harness needs.
    pub fn ready(&self) -> Value {
        json!({
            "event": "ready",
            "listeners": self.listeners(),
            "control": self.control.display().to_string(),
            "pid": std::process::id(),
        })
    }

    /// The first listener of this protocol and what it is known by, for the words after a first start.
    pub fn first(&self, protocol: ListenerProtocol) -> Option<(SocketAddr, String)> {
        let serving = lock(&self.serving);
        let bound = serving.bound.iter().find(|b| b.asked.protocol == protocol)?;
        Some((bound.address, serving.identities.of(protocol).first()?.clone()))
    }

    /// Protocol and real address of each listener.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        lock(&self.serving).bound.iter().map(|b| (b.asked.protocol.name(), b.address)).collect()
    }

    fn status(&self) -> Value {
        let config = self.site.config();
        let sessions = self.site.registry().list();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "site": config.site,
            "uptimeSeconds": self.started.elapsed().as_secs(),
            "listeners": self.listeners(),
            "control": self.control.display().to_string(),
            "data": config.data.display().to_string(),
            "sessions": sessions.len(),
            "loggedIn": sessions.iter().filter(|s| s.identity().is_some()).count(),
            "transfers": sessions.iter().map(|s| s.transfers().len()).sum::<usize>(),
            "parkedUploads": self.site.stores().parked(),
            "auditDropped": self.journal.dropped(),
            "users": config.users.len(),
            "hooks": config.hooks.len(),
            "limits": {
                "sessions": config.limits.sessions, "perAddress": config.limits.per_address,
                "perUser": config.limits.per_user, "unauthenticated": config.limits.unauthenticated,
            },
        })
    }

    /// Reads the configuration anew; a bad one changes nothing. The answer says what changed and how many
    /// sessions were ended, because their account is gone.
    pub async fn reload(&self) -> Result<Value> {
        let _one = self.reloading.lock().await;
        let (again, site) = (Arc::clone(&self.reload), Arc::clone(&self.site));
        let prepared = tokio::task::spawn_blocking(move || {
            let config = again()?;
            parse_level(&config.log.level)?;
            let listening = listen::prepare(&config)?;
            Ok::<_, Error>((config.clone(), listening, site.prepare(config)?))
        });
        let (new, listening, prepared) = prepared.await.map_err(|_| Error::from(ErrorKind::Internal))??;
        let kept = |asked: &Listener| lock(&self.serving).bound.iter().any(|b| b.asked == *asked);
        let mut fresh = Vec::new();
        for asked in new.listeners.iter().filter(|l| !kept(l)) {
            fresh.push(Bound::new(asked).await?);
        }
        let identities = listening.identities.clone();
        let servers = listening.servers(&self.site())?;
        // The last step that can fail for a fault of the configuration; nothing has changed before it.
        self.journal.set_audit(new.log.audit.as_deref())?;
        if let Some(logging) = &self.logging {
            logging.set_level(&new.log.level)?;
        }
        let mut changes = differences(&self.site.config(), &new);
        let ended = self.site.replace(prepared);
        {
            let mut serving = lock(&self.serving);
            let (stay, gone): (Vec<_>, Vec<_>) =
                serving.bound.drain(..).partition(|b| new.listeners.contains(&b.asked));
            changes.extend(gone.iter().map(|b| format!("no longer listening on {}", b.address)));
            changes.extend(fresh.iter().map(|b| format!("listening on {}", b.address)));
            serving.bound = stay;
            serving.bound.append(&mut fresh);
            if serving.identities != identities {
                changes.push("other host keys or certificates".into());
                serving.identities = identities;
            }
            self.listen(&mut serving, &servers)?;
        }
        tracing::info!(ended, changes = changes.join("; "), "the configuration was read anew");
        Ok(json!({ "reloaded": true, "ended": ended, "changes": changes }))
    }

    /// Serves until a signal ends it: SIGHUP reloads, SIGTERM and SIGINT drain. A second one ends at once.
    pub async fn run(self: &Arc<Self>) -> Result<()> {
        let Signals { mut reload, mut stop } = Signals::new()?;
        loop {
            tokio::select! {
                _ = reload.recv() => {
                    if let Err(e) = self.reload().await {
                        tracing::error!("the configuration is not taken: {e:#}");
                    }
                }
                () = stop.recv() => break,
            }
        }
        tracing::info!(sessions = self.site.registry().len(), "stopping");
        self.site.close();
        lock(&self.serving).generation.cancel();
        lock(&self.serving).bound.clear();
        tokio::select! {
            () = self.drain() => {}
            () = stop.recv() => {}
        }
        self.end().await;
        Ok(())
    }

    /// Lets transfers finish, within the configured time; ends each session that has nothing left to do.
    async fn drain(&self) {
        let began = Instant::now();
        let budget = self.site.config().limits.drain;
        while began.elapsed() < budget {
            let sessions = self.site.registry().list();
            if sessions.is_empty() {
                return;
            }
            for session in sessions {
                session.drain();
                let idle = session.idle() >= GRACE || session.identity().is_none();
                if idle && !is_busy(&session) {
                    session.cut(Ending::new("the server stops", Actor::Server));
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn end(&self) {
        let sessions = self.site.registry().list();
        let busy = sessions.iter().filter(|s| is_busy(s)).count();
        if busy > 0 {
            tracing::warn!(sessions = busy, "cut in the middle of what they did");
        }
        let ends =
            sessions.iter().map(|s| s.terminate(Ending::new("the server stops", Actor::Server), PATIENCE));
        join_all(ends).await;
        self.shutdown.cancel();
        // Closing events and their hooks, and the end of the control socket.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.journal.flush(Duration::from_millis(500));
    }
}

fn is_busy(session: &Session) -> bool {
    !session.transfers().is_empty() || session.leases().in_flight() > 0
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
fn own(data: &Path) -> Result<File> {
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

/// What an operator wants to read of a reload, and what it cannot change.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let mut out = Vec::new();
    let find = |config: &Config, name: &str| config.users.iter().find(|u| u.name == name).cloned();
    for user in &new.users {
        match find(old, &user.name) {
            None => out.push(format!("added user '{}'", user.name)),
            Some(before) if before != *user => out.push(format!("changed user '{}'", user.name)),
            Some(_) => {}
        }
    }
    let gone = old.users.iter().filter(|u| find(new, &u.name).is_none());
    out.extend(gone.map(|u| format!("removed user '{}'", u.name)));
    if old.hooks != new.hooks {
        out.push("other hooks".into());
    }
    if old.limits != new.limits {
        out.push("other limits".into());
    }
    let mut later = |differs: bool, what: &str| {
        if differs {
            out.push(format!("not before the next start: {what}"));
        }
    };
    later(old.staging != new.staging || old.fsync != new.fsync, "staging and fsync of homes in use");
    later(old.data != new.data || old.control != new.control, "data folder and control socket");
    later(old.log.format != new.log.format, "the format of the log");
    out
}
