//! The server: accepts connections, supervises each to its end.
//!
//! One task per connection owns its session. Whatever happens (the client leaves, a time is over, a hook
//! or an administrator ends it, something of ours panics), the transport is dead within a tenth of a
//! second of the cut, and `Session::close` has been called exactly once. The client is told why, if it
//! still reads. Times are measured by the session's idle clock and by this task, never by russh's own,
//! which stands still while it writes.
//!
//! Deliberately absent: binding of sockets, PROXY protocol, limits on sessions (the site's `admit`).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use russh::server::{self, Handle, RunningSession};
use russh::{Disconnect, Limits, SshId};
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind, Result};
use session_core::lifecycle::Lifecycle;
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Protocol, Session};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::algorithms::Algorithms;
use super::greeting::{Greeting, Learnt};
use super::handler::{Connection, Fault, Shared};
use super::hostkey::HostKeys;
use super::stream::{CutStream, Stall, Watcher};

/// How long a client has to hear why the connection ends.
const FAREWELL: Duration = Duration::from_millis(50);
/// How often idle times and the like are looked at, at least.
const TICK: Duration = Duration::from_secs(5);
/// How long the words of a refusal may take.
const REFUSAL: Duration = Duration::from_secs(1);
/// How long to wait when the system has no more descriptors.
const BREATHER: Duration = Duration::from_millis(100);

/// How a server of SSH behaves.
#[derive(Clone, Debug)]
pub struct SshServerOptions {
    /// Its keys; at least one.
    pub host_keys: HostKeys,
    /// What it speaks.
    pub algorithms: Algorithms,
    /// Failed attempts to log in before the connection ends.
    pub tries: u32,
    /// How long a client may take to log in, from its connection on.
    pub login_time: Duration,
    /// How long a refused attempt takes at least, so that time tells nothing. Longer than the slowest
    /// password hash in use.
    pub rejection_time: Duration,
    /// How long a logged-in client may do nothing.
    pub idle: Option<Duration>,
    /// How often a silent client is asked whether it is there; `login_time` if that is longer.
    pub keepalive: Option<Duration>,
    /// How often it may fail to answer. Also, times `keepalive`, how long it may take nothing of what is
    /// sent.
    pub keepalive_max: usize,
    /// Bytes in either direction after which keys are exchanged anew.
    pub rekey_bytes: u64,
    /// Time after which keys are exchanged anew.
    pub rekey_time: Duration,
    /// Shown before the login.
    pub banner: Option<String>,
    /// The identification: `SSH-2.0-`, then printable characters; a hook may change it.
    pub software_id: String,
    /// The largest packet a client may send, 32 to 64 KiB.
    pub max_packet: u32,
    /// What a client may send on a channel before it is granted more, bytes. A grant, not a buffer.
    pub window: u32,
    /// Channels of one connection at once.
    pub max_channels: usize,
    /// Whether SCP and checksum commands are served (`server::scp`); without them there is SFTP only.
    pub commands: bool,
}

impl SshServerOptions {
    /// The usual, with these keys.
    pub fn new(host_keys: HostKeys) -> Self {
        SshServerOptions {
            host_keys,
            algorithms: Algorithms::server(),
            tries: 6,
            login_time: Duration::from_secs(60),
            rejection_time: Duration::from_millis(400),
            idle: Some(Duration::from_secs(3600)),
            keepalive: Some(Duration::from_secs(30)),
            keepalive_max: 3,
            rekey_bytes: 1 << 30,
            rekey_time: Duration::from_secs(3600),
            banner: None,
            software_id: "SSH-2.0-Ferry".to_owned(),
            max_packet: 64 * 1024 - 1,
            window: 2 << 20,
            max_channels: 16,
            commands: true,
        }
    }

    fn config(&self, software_id: String) -> server::Config {
        let rekey = usize::try_from(self.rekey_bytes).unwrap_or(usize::MAX).clamp(1 << 20, 1 << 30);
        server::Config {
            server_id: SshId::Standard(software_id.into()),
            keys: self.host_keys.keys.clone(),
            certificates: self.host_keys.certificates.clone(),
            preferred: self.algorithms.preferred(),
            // Ours counts failures. This bounds what never reaches us: probes, unknown methods, bad signatures.
            max_auth_attempts: 64 + self.tries as usize,
            auth_rejection_time: self.rejection_time,
            auth_rejection_time_initial: Some(Duration::ZERO),
            inactivity_timeout: None,
            // Not before the login can be over: OpenSSH's client takes such a question, while its user
            // still types, for an offence and leaves.
            keepalive_interval: self.keepalive.map(|k| k.max(self.login_time)),
            keepalive_max: self.keepalive_max,
            limits: Limits::new(rekey, rekey, self.rekey_time),
            window_size: self.window.clamp(64 * 1024, 64 << 20),
            maximum_packet_size: self.max_packet.clamp(32 * 1024, 64 * 1024 - 1),
            channel_buffer_size: 32,
            nodelay: true,
            ..server::Config::default()
        }
    }
}

fn is_identification(id: &str) -> bool {
    let printable = |b: u8| (0x20..0x7f).contains(&b);
    id.strip_prefix("SSH-2.0-").is_some_and(|s| !s.is_empty() && s.bytes().all(printable)) && id.len() <= 253
}

/// A server of SFTP over SSH for one site. Cheap to clone.
#[derive(Clone)]
pub struct SshServer {
    site: Arc<dyn Site>,
    options: Arc<SshServerOptions>,
    config: Arc<server::Config>,
}

impl SshServer {
    /// A server. Errors: `InvalidArgument` for options that make no sense.
    pub fn new(options: SshServerOptions, site: Arc<dyn Site>) -> Result<Self> {
        let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
        if options.host_keys.is_empty() {
            return Err(bad("a server of SSH needs a host key"));
        }
        if !is_identification(&options.software_id) {
            return Err(bad("the identification must be 'SSH-2.0-' and printable characters"));
        }
        if options.tries == 0 || options.max_channels == 0 {
            return Err(bad("a server of SSH needs at least one try and one channel"));
        }
        let config = Arc::new(options.config(options.software_id.clone()));
        Ok(SshServer { site, options: Arc::new(options), config })
    }

    /// Accepts connections until `shutdown`, then waits for those that are there: whoever shuts down
    /// drains and cuts their sessions. Dropping the future stops accepting and leaves them running.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(self.clone().serve_connection(stream));
                }
                // One that was gone before it was taken, or no descriptors left: neither ends the server.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// Serves one connection to its end.
    pub async fn serve_connection(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
        let session = match self.site.admit(Protocol::Sftp, peer, local).await {
            Ok(session) => session,
            Err(e) => return refuse(stream, &e).await,
        };
        let work = AssertUnwindSafe(self.supervise(&session, stream)).catch_unwind();
        let ending = work.await.unwrap_or_else(|_| {
            tracing::error!(session = %session.id(), "the supervisor of a connection panicked");
            Ending::new("internal error", Actor::Server)
        });
        session.close(ending).await;
    }

    /// The configuration of one connection: the common one, unless a hook changed the identification.
    async fn config(&self, session: &Arc<Session>) -> Arc<server::Config> {
        let mut id = self.options.software_id.clone();
        session.decide(Lifecycle::SoftwareId { id: &mut id }).await;
        if id == self.options.software_id || !is_identification(&id) {
            return Arc::clone(&self.config);
        }
        Arc::new(self.options.config(id))
    }

    async fn supervise(&self, session: &Arc<Session>, stream: TcpStream) -> Ending {
        let transport = CancellationToken::new();
        let _dead_at_last = transport.clone().drop_guard();
        let shared = Shared::new(
            Arc::clone(session),
            Arc::clone(&self.site),
            Arc::clone(&self.options),
            transport.clone(),
        );
        let ahead = 2 * self.options.window as usize;
        let stream = CutStream::new(stream, Arc::clone(session), transport.clone(), ahead)
            .watched(self.watcher(session));
        let stall = stream.stall();
        let login_by = Instant::now() + self.options.login_time;
        let too_slow = || Ending::new("the login took too long", Actor::Server).because(Reason::LoginTimeout);
        let ended = || Ending::new("the session was ended", Actor::Server);

        let begin = async {
            let config = self.config(session).await;
            server::run_stream(config, stream, Connection::new(Arc::clone(&shared))).await
        };
        let mut running = tokio::select! {
            biased;
            () = session.cancel_token().cancelled() => return ended(),
            begun = begin => match begun {
                Ok(running) => running,
                Err(fault) => return ending_of(&fault),
            },
            () = tokio::time::sleep_until(login_by) => return too_slow(),
        };
        let handle = running.handle();
        let ending = loop {
            let logged_in = shared.logged_in.load(Ordering::SeqCst);
            let wake = Instant::now() + self.tick();
            let wake = if logged_in { wake } else { wake.min(login_by) };
            tokio::select! {
                biased;
                () = session.cancel_token().cancelled() => {
                    break session.ending().unwrap_or_else(ended);
                }
                result = &mut running => {
                    return result.map_or_else(|f| ending_of(&f), |()| Ending::new("the client left", Actor::Client));
                }
                ending = shared.over() => break ending,
                () = tokio::time::sleep_until(wake) => {}
            }
            if !shared.logged_in.load(Ordering::SeqCst) {
                if Instant::now() >= login_by {
                    break too_slow();
                }
            } else if let Some(ending) = self.outlived(&shared, &stall) {
                break ending;
            }
        };
        session.cut(ending.clone());
        let left = farewell(&handle, &mut running, &ending).await;
        transport.cancel();
        if !left {
            // It ends by itself now; waited for, so that nothing of it is left when the session is closed.
            let _ = tokio::time::timeout(REFUSAL, &mut running).await;
        }
        ending
    }

    /// How long a client may take nothing.
    fn patience(&self) -> Option<Duration> {
        let max = u32::try_from(self.options.keepalive_max.max(1)).unwrap_or(3);
        self.options.keepalive.map(|k| k * max)
    }

    fn tick(&self) -> Duration {
        let shortest = self.options.idle.into_iter().chain(self.patience()).min();
        shortest.unwrap_or(TICK).clamp(Duration::from_millis(50), TICK)
    }

    /// Why a logged-in connection has to end now, if it has to.
    fn outlived(&self, shared: &Shared, stall: &Stall) -> Option<Ending> {
        let session = &shared.session;
        let server = |words: &'static str, code| Some(Ending::new(words, Actor::Server).because(code));
        if session.is_draining() && shared.channels.load(Ordering::SeqCst) == 0 {
            return server("the server is shutting down", Reason::Stopping);
        }
        if let Some(idle) = self.options.idle
            && session.idle() >= idle
            && session.leases().in_flight() == 0
        {
            return server("idle for too long", Reason::IdleTimeout);
        }
        if self.patience().is_some_and(|p| stall.elapsed() >= p) {
            return server("the client takes nothing", Reason::TooSlow);
        }
        None
    }

    /// Notes what the client says of itself before anything is encrypted.
    fn watcher(&self, session: &Arc<Session>) -> Watcher {
        let (session, options) = (Arc::clone(session), Arc::clone(&self.options));
        let mut greeting = Greeting::default();
        Box::new(move |bytes| {
            greeting.feed(bytes, |learnt| match learnt {
                Learnt::Ident(line) => session.set_client_version(&line),
                Learnt::Ciphers(theirs) => {
                    if let Some(cipher) = options.algorithms.cipher_for(&theirs) {
                        session.set_tls(cipher);
                    }
                }
            })
        })
    }
}

/// Refuses in words: a server may say something before its identification (RFC 4253, section 4.2).
async fn refuse(mut stream: TcpStream, e: &Error) {
    let words: String = e.peer_words().chars().filter(|c| !c.is_control()).take(200).collect();
    let _ = tokio::time::timeout(REFUSAL, async {
        stream.write_all(format!("{words}\r\n").as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// Tells the client why, if it listens; answers whether the connection is over.
async fn farewell(handle: &Handle, running: &mut RunningSession<Connection>, ending: &Ending) -> bool {
    let words = ending.reason.to_string();
    tokio::time::timeout(FAREWELL, async {
        if handle.disconnect(Disconnect::ByApplication, words, String::new()).await.is_err() {
            return false;
        }
        let _ = running.await;
        true
    })
    .await
    .unwrap_or(false)
}

/// What ended a connection that ended by itself.
fn ending_of(fault: &Fault) -> Ending {
    use russh::Error as E;
    match fault {
        Fault::Ours(e) => Ending::new(e.peer_words(), Actor::Server).because(e.reason()),
        Fault::Ssh(E::KeepaliveTimeout) => {
            Ending::new("the client does not answer", Actor::Server).because(Reason::ConnectionFailed)
        }
        Fault::Ssh(E::Disconnect | E::HUP | E::IO(_)) => {
            Ending::new("the connection was lost", Actor::Client).because(Reason::ConnectionFailed)
        }
        Fault::Ssh(E::Join(_)) => {
            tracing::error!("a connection of SSH panicked");
            Ending::new("internal error", Actor::Server)
        }
        Fault::Ssh(e @ E::NoCommonAlgo { .. }) => {
            Ending::new(e.to_string(), Actor::Client).because(Reason::WeakCipher)
        }
        Fault::Ssh(e) => Ending::new(format!("the client broke the protocol: {e}"), Actor::Client)
            .because(Reason::ProtocolBroken),
    }
}
