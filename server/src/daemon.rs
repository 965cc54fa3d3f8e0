//! The life of `ferryd`: listeners, control socket, signals, drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use proto_sftp::ssh::hostkey::{HostKeyKind, HostKeys};
use proto_sftp::ssh::listen::{SshServer, SshServerOptions};
use serde_json::{Value, json};
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind, Result};
use session_core::registry::{PATIENCE, SessionRegistry};
use session_core::script::{Engine, EngineLimits};
use session_core::session::{Actor, Ending};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ListenerProtocol};
use crate::control::{ControlState, serve as serve_control};
use crate::log::Journal;
use crate::site::FerrySite;

/// How often parked uploads are looked through.
const SWEEP: Duration = Duration::from_secs(60);

/// Reads the configuration anew.
pub type Reload = Arc<dyn Fn() -> Result<Config> + Send + Sync>;

/// A running server.
pub struct Daemon {
    site: Arc<FerrySite>,
    journal: Arc<Journal>,
    reload: Reload,
    /// Protocol and address as it really is, for each listener.
    addresses: Vec<(&'static str, SocketAddr)>,
    fingerprints: Vec<String>,
    control: PathBuf,
    shutdown: CancellationToken,
    started: Instant,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl Daemon {
    /// Starts everything that `config` asks for. Errors: what cannot be bound, read or made, by name.
    pub async fn start(config: Config, journal: Arc<Journal>, reload: Reload) -> Result<Arc<Self>> {
        let registry = SessionRegistry::new(config.limits.caps());
        let engine = Engine::new(EngineLimits::default());
        let keys = host_keys(&config)?;
        // `SHA256:…` alone: what `--host-key` and other clients take.
        let bare = |f: String| f.split(' ').next_back().unwrap_or_default().to_string();
        let fingerprints = keys.fingerprints().into_iter().map(bare).collect();
        let limits = config.limits.clone();
        let control = config.control.clone();
        let wanted = config.listeners.clone();
        let site = FerrySite::new(config, registry, engine, Arc::clone(&journal))?;
        let shutdown = CancellationToken::new();
        let mut addresses = Vec::new();
        for listener in wanted {
            let address = SocketAddr::new(listener.address, listener.port);
            let socket = TcpListener::bind(address).await.map_err(|e| {
                Error::from(e)
                    .with_detail(format!("cannot listen on {address}"))
                    .with_hint("another program may have the port; choose another one, or 0 for any")
            })?;
            let real = socket.local_addr()?;
            match listener.protocol {
                ListenerProtocol::Sftp => {
                    let options = SshServerOptions {
                        tries: limits.tries,
                        login_time: limits.login_time,
                        idle: Some(limits.idle_time).filter(|t| !t.is_zero()),
                        ..SshServerOptions::new(keys.clone())
                    };
                    let ssh = SshServer::new(options, Arc::clone(&site) as Arc<dyn Site>)?;
                    let stop = shutdown.clone();
                    tokio::spawn(async move { ssh.serve(socket, stop).await });
                    addresses.push(("sftp", real));
                }
            }
        }
        let daemon = Arc::new(Daemon {
            site,
            journal,
            reload,
            addresses,
            fingerprints,
            control: control.clone(),
            shutdown: shutdown.clone(),
            started: Instant::now(),
            reloading: tokio::sync::Mutex::new(()),
        });
        daemon.open_control(control).await?;
        let sweeping = Arc::clone(&daemon.site);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(SWEEP) => sweeping.stores().sweep(std::time::SystemTime::now()).await,
                }
            }
        });
        Ok(daemon)
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

    /// The ready line and `/v1/status`: what a harness needs.
    pub fn ready(&self) -> Value {
        let listeners: Vec<Value> = self
            .addresses
            .iter()
            .map(|(protocol, address)| {
                json!({
                    "protocol": protocol,
                    "address": address.to_string(),
                    "host": address.ip().to_string(),
                    "port": address.port(),
                    "fingerprints": self.fingerprints,
                })
            })
            .collect();
        json!({
            "event": "ready",
            "listeners": listeners,
            "control": self.control.display().to_string(),
            "pid": std::process::id(),
        })
    }

    /// The first SFTP listener and its host key, for the words after a first start.
    pub fn first(&self) -> Option<(SocketAddr, &str)> {
        let (_, address) = self.addresses.first()?;
        Some((*address, self.fingerprints.first()?))
    }

    /// Protocol and real address of each listener.
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    fn status(&self) -> Value {
        let mut v = self.ready();
        if let Some(map) = v.as_object_mut() {
            map.remove("event");
            map.insert("version".into(), env!("CARGO_PKG_VERSION").into());
            map.insert("uptimeSeconds".into(), self.started.elapsed().as_secs().into());
            map.insert("sessions".into(), self.site.registry().len().into());
            map.insert("site".into(), self.site.config().site.clone().into());
        }
        v
    }

    /// Reads the configuration anew; a bad one changes nothing. Listeners and host keys stay until the
    /// next start.
    pub async fn reload(&self) -> Result<Value> {
        let _one = self.reloading.lock().await;
        let config = (self.reload)()?;
        let kept = config.listeners != self.site.config().listeners;
        let ended = self.site.reload(config)?;
        self.journal.set_audit(self.site.config().log.audit.as_deref())?;
        tracing::info!(ended, "the configuration was read anew");
        if kept {
            tracing::warn!("listeners have changed: they take effect at the next start");
        }
        Ok(json!({ "reloaded": true, "ended": ended, "listenersNeedRestart": kept }))
    }

    /// Serves until a signal ends it: SIGHUP reloads, SIGTERM and SIGINT drain. A second one ends at once.
    pub async fn run(self: &Arc<Self>) -> Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    if let Err(e) = self.reload().await {
                        tracing::error!("the configuration is not taken: {e:#}");
                    }
                }
                _ = term.recv() => break,
                _ = int.recv() => break,
            }
        }
        tracing::info!("stopping");
        tokio::select! {
            () = self.drain() => {}
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        self.end().await;
        Ok(())
    }

    /// Takes nothing new and lets transfers finish, within the configured time.
    async fn drain(&self) {
        self.shutdown.cancel();
        let deadline = Instant::now() + self.site.config().limits.drain;
        while Instant::now() < deadline {
            let sessions = self.site.registry().list();
            let mut busy = false;
            for session in sessions {
                if session.transfers().is_empty() && session.leases().in_flight() == 0 {
                    session.cut(Ending::new("the server stops", Actor::Server));
                } else {
                    busy = true;
                }
            }
            if !busy {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn end(&self) {
        self.shutdown.cancel();
        let sessions = self.site.registry().list();
        let ends =
            sessions.iter().map(|s| s.terminate(Ending::new("the server stops", Actor::Server), PATIENCE));
        join_all(ends).await;
        // Closing events and their hooks.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = std::fs::remove_file(&self.control);
        self.journal.flush(Duration::from_millis(500));
    }
}

fn host_keys(config: &Config) -> Result<HostKeys> {
    let own = config.data.join("host_ed25519");
    let mut keys = HostKeys::new();
    for path in &config.host_keys {
        // Only our own key is made where it is missing: a named one that is missing is a mistake.
        if *path == own {
            std::fs::create_dir_all(&config.data)?;
            let (more, made) = keys.load_or_make(path, HostKeyKind::Ed25519)?;
            keys = more;
            if made {
                tracing::info!("a host key was made: {}", path.display());
            }
        } else {
            keys = keys.load(path)?;
        }
    }
    Ok(keys)
}
