//! The client: reaches a server, makes sure that it is the right one, logs in, opens channels.
//!
//! Trust is decided before anything else is said: a pinned fingerprint, else `known_hosts` with its
//! authorities and revocations, else the policy. No answer is a no. Time that a person takes to answer
//! does not count against the time-out.
//!
//! The way there is `route`'s, the keys are [`super::keys`]', the values [`ConnectOptions`].

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use russh::client::{self, DisconnectReason, Handle, Handler};
use russh::keys::PublicKeyOrCertificate;
use russh::{ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Disconnect};
use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};
use session_core::talk::Talk;
use session_core::trust::HostKey;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::algorithms::spoken;
use super::channel::{self, ChannelReader, ChannelStream, ChannelWriter, Flow};
use super::known_hosts::KnownHosts;
use super::login::ClientLogin;
pub use super::options::{ConnectOptions, Family, HostKeyPolicy};
use super::route;
use super::stream::{CutStream, Stall};
use super::trust::{Trust, host_key};
use crate::client::scp::ScpRemote;
use crate::client::{Config, SftpRemote};

/// How long a good-bye may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// How much of a banner is kept, bytes.
const BANNER: usize = 16 * 1024;

/// What a connection's parts share.
pub(crate) struct Shared {
    fate: watch::Sender<Option<Error>>,
    asking: AtomicUsize,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    refusal: Option<Error>,
    cipher: String,
    server: String,
    banner: String,
    host_key: Option<HostKey>,
    delay: Duration,
}

/// While it lives, somebody is being asked, and time does not count.
pub(crate) struct Asking<'a>(&'a Shared);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Shared {
            fate: watch::Sender::new(None),
            asking: AtomicUsize::new(0),
            facts: Mutex::default(),
        })
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_delay(&self, delay: Duration) {
        self.facts().delay = delay;
    }

    pub(crate) fn asking(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Ordering::SeqCst);
        Asking(self)
    }

    /// Why the connection ended, once it has.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.fate.borrow().clone()
    }

    /// Waits until the connection has ended, and says why.
    pub(crate) async fn fate(&self) -> Error {
        let mut fate = self.fate.subscribe();
        let ended = fate.wait_for(Option::is_some).await;
        ended.ok().and_then(|e| e.clone()).unwrap_or_else(|| Error::new(ErrorKind::Disconnected))
    }

    fn end(&self, e: Error) {
        self.fate.send_if_modified(|fate| {
            let first = fate.is_none();
            fate.get_or_insert(e);
            first
        });
    }

    /// Waits for `work` at most `time`, not counting the time in which somebody is being asked.
    pub(crate) async fn bounded<T>(&self, time: Duration, work: impl Future<Output = T>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        let mut by = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep_until(by) => {
                    if self.asking.load(Ordering::SeqCst) == 0 {
                        return Err(Error::new(ErrorKind::TimedOut).with_detail("the server does not answer"));
                    }
                    by = Instant::now() + time;
                }
            }
        }
    }

    /// A failure of russh, put into our words; the reason of a refusal or an end stands before it.
    pub(crate) fn error_of(&self, e: russh::Error) -> Error {
        if let Some(refusal) = self.facts().refusal.clone() {
            return refusal;
        }
        self.ended().unwrap_or_else(|| error_of(e))
    }
}

fn error_of(e: russh::Error) -> Error {
    use russh::Error as E;
    match e {
        E::NoCommonAlgo { ref kind, ref theirs, .. } => {
            let offers = display_bytes(theirs.join(", ").as_bytes());
            let cure = spoken::only_if_named(theirs).map_or_else(String::new, |(keyword, name)| {
                format!(
                    "; what is broken is spoken with this host if ssh_config says '{keyword} +{name}' for it"
                )
            });
            Error::new(ErrorKind::Unsupported)
                .with_detail(format!("the server and we have no {kind:?} algorithm in common"))
                .with_hint(format!("the server offers {offers}{cure}"))
        }
        E::IO(e) => Error::from(e),
        E::Disconnect | E::HUP | E::SendError | E::RecvError => {
            Error::new(ErrorKind::Disconnected).with_source(e)
        }
        E::KeepaliveTimeout => {
            Error::new(ErrorKind::Disconnected).with_detail("the server does not answer any more")
        }
        E::ConnectionTimeout | E::InactivityTimeout => Error::new(ErrorKind::TimedOut).with_source(e),
        E::Join(_) => Error::new(ErrorKind::Internal).with_source(e),
        _ => Error::new(ErrorKind::PeerMisbehaved).with_source(e),
    }
}

/// What russh tells us, and what it asks us about the server.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    session: Arc<Session>,
    /// Host and port, for messages.
    place: (String, u16),
    /// `None`: the key is noted and not accepted.
    trust: Option<Trust>,
}

impl Watch {
    async fn judge(&self, offered: &PublicKeyOrCertificate) -> Result<()> {
        let key = host_key(&self.place.0, self.place.1, &offered.public_key())?;
        self.shared.facts().host_key = Some(key);
        match &self.trust {
            Some(trust) => trust.judge(&self.shared, offered).await,
            None => Err(Error::new(ErrorKind::Canceled).with_detail("only the key was wanted")),
        }
    }
}

/// russh's error is ours, with its words kept.
#[derive(Debug)]
pub(crate) struct Fault(russh::Error);

impl From<russh::Error> for Fault {
    fn from(e: russh::Error) -> Self {
        Fault(e)
    }
}

impl Handler for Watch {
    type Error = Fault;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        match self.judge(offered).await {
            Ok(()) => Ok(true),
            Err(e) => {
                self.shared.facts().refusal = Some(e);
                Ok(false)
            }
        }
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        names: &russh::Names,
        ssh: &mut client::Session,
    ) -> Result<(), Fault> {
        let mut facts = self.shared.facts();
        names.cipher.as_ref().clone_into(&mut facts.cipher);
        facts.server = display_bytes(ssh.remote_sshid().get(..255).unwrap_or(ssh.remote_sshid()));
        drop(facts);
        self.session.set_tls(names.cipher.as_ref());
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _ssh: &mut client::Session) -> Result<(), Fault> {
        let mut facts = self.shared.facts();
        let room = BANNER.saturating_sub(facts.banner.len());
        let lines = banner.lines().map(|l| display_bytes(l.as_bytes())).collect::<Vec<_>>().join("\n");
        facts.banner.extend(lines.chars().take(room / 4));
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Fault>) -> Result<(), Fault> {
        self.shared.end(match reason {
            DisconnectReason::ReceivedDisconnect(info) => Error::new(ErrorKind::Disconnected).with_detail(
                format!("the server ended the connection: {}", display_bytes(info.message.as_bytes())),
            ),
            DisconnectReason::Error(Fault(e)) => error_of(e),
        });
        Ok(())
    }

    // A server opens nothing here. russh would accept these two.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: russh::Channel<client::Msg>,
        _address: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _ssh: &mut client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: russh::Channel<client::Msg>,
        _path: &str,
        reply: client::ChannelOpenHandle,
        _ssh: &mut client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}

struct Inner {
    handle: Handle<Watch>,
    shared: Arc<Shared>,
    flow: Arc<Flow>,
    session: Arc<Session>,
    transport: CancellationToken,
    _dead_at_last: DropGuard,
    methods: Vec<&'static str>,
    timeout: Duration,
    sftp_server: Option<String>,
    talk: Talk,
}

/// A connection that is logged in. Cheap to clone; dropping the last clone cuts it, its channels with it.
#[derive(Clone)]
pub struct SshConnection(Arc<Inner>);

/// Connects, checks the server's key and logs in.
///
/// Errors: `NotFound` (no such host), `Disconnected` (refused, lost, ended by the server with its words),
/// `TimedOut`, `Unauthenticated` (the host key, with the reason and where it stands; the login, with
/// what was tried), `Unsupported` (nothing in common), `PeerMisbehaved`, `Canceled`. Dropping the future
/// gives up.
pub async fn connect(options: ConnectOptions, decider: Arc<dyn Decider>) -> Result<SshConnection> {
    let session = match &options.session {
        Some(session) => Arc::clone(session),
        None => Session::new(Setup::new(Protocol::Sftp, options.host.as_str())),
    };
    let canceled = session.cancel_token().clone();
    tokio::select! {
        biased;
        () = canceled.cancelled() => Err(Error::new(ErrorKind::Canceled)),
        connected = enter(options, session, decider) => connected,
    }
}

/// The transport up to the end of the first key exchange.
struct Greeted {
    handle: Handle<Watch>,
    shared: Arc<Shared>,
    stall: Arc<Stall>,
    transport: CancellationToken,
    dead_at_last: DropGuard,
}

/// Reaches the server and exchanges keys; `judges` says whether the server's is judged or only noted.
async fn greet(
    options: &ConnectOptions,
    session: &Arc<Session>,
    decider: &Arc<dyn Decider>,
    judges: bool,
    noted: &Arc<Shared>,
) -> Result<Greeted> {
    let files = options.known_hosts_files();
    let record = files.first().cloned();
    // A pinned key needs no records, and is not stopped by one that cannot be read.
    let known = if judges && options.fingerprints.is_empty() {
        tokio::task::spawn_blocking(move || KnownHosts::load(&files))
            .await
            .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))?
    } else {
        KnownHosts::default()
    };
    let config = Arc::new(options.config(&known));
    let road = route::open(options, decider).await?;
    if let Some((peer, local)) = road.ends {
        session.reached(peer, Some(local));
    }

    let transport = session.cancel_token().child_token();
    let dead_at_last = transport.clone().drop_guard();
    if let Some(hop) = road.over {
        // What lies below goes when what it carries has gone.
        let gone = transport.clone();
        tokio::spawn(async move {
            gone.cancelled().await;
            hop.close().await;
        });
    }
    let ahead = config.window_size as usize + (4 << 20);
    let stream = CutStream::new(road.stream, Arc::clone(session), transport.clone(), ahead);
    let stall = stream.stall();
    let shared = Arc::clone(noted);
    let (name, port) = options.on_record();
    let trust = judges.then(|| Trust {
        host: options.bare_host().to_owned(),
        port: options.port,
        on_record: (name.to_owned(), port),
        fingerprints: options.fingerprints.clone(),
        known,
        record,
        policy: options.policy,
        hash_names: options.hash_names,
        session: Arc::clone(session),
        decider: Arc::clone(decider),
    });
    let place = (options.bare_host().to_owned(), options.port);
    let watch = Watch { shared: Arc::clone(&shared), session: Arc::clone(session), place, trust };
    let greet = client::connect_stream(config, stream, watch);
    let handle = shared.bounded(options.timeout, greet).await?.map_err(|Fault(e)| shared.error_of(e))?;
    Ok(Greeted { handle, shared, stall, transport, dead_at_last })
}

async fn enter(
    options: ConnectOptions,
    session: Arc<Session>,
    decider: Arc<dyn Decider>,
) -> Result<SshConnection> {
    let Greeted { mut handle, shared, stall, transport, dead_at_last } =
        greet(&options, &session, &decider, true, &Shared::new()).await?;
    let talk = session.talk().line();
    talk.note(|| {
        let facts = shared.facts();
        let key = facts.host_key.as_ref().map(|key| format!("{} {}", key.algorithm, key.fingerprint()));
        let (server, cipher) = (&facts.server, &facts.cipher);
        format!(
            "connected to {}:{}: {server}, {cipher}, key {}",
            options.host,
            options.port,
            key.unwrap_or_default()
        )
    });
    session.authenticating();
    let methods = ClientLogin::new(&mut handle, &shared, &options, decider, &talk).run().await?;
    talk.note(|| format!("logged in by {}", methods.join(", ")));

    let inner = Arc::new(Inner {
        handle,
        shared,
        flow: Arc::default(),
        session,
        transport,
        _dead_at_last: dead_at_last,
        methods,
        timeout: options.timeout,
        sftp_server: options.sftp_server.clone(),
        talk,
    });
    if let Some(keepalive) = options.keepalive {
        let max = u32::try_from(options.keepalive_max.max(1)).unwrap_or(3);
        tokio::spawn(guard(Arc::downgrade(&inner), stall, inner.transport.clone(), keepalive, max));
    }
    Ok(SshConnection(inner))
}

/// The key that a server shows, without trusting it and without a login; where `options.algorithms` leave
/// several kinds, the one that it prefers. Hosts to jump over are trusted and entered as ever. Errors: as
/// [`connect`]; nothing is asked about the server itself.
pub async fn host_key_of(options: &ConnectOptions, decider: Arc<dyn Decider>) -> Result<HostKey> {
    let session = match &options.session {
        Some(session) => Arc::clone(session),
        None => Session::new(Setup::new(Protocol::Sftp, options.host.as_str())),
    };
    let noted = Shared::new();
    let greeted = greet(options, &session, &decider, false, &noted).await;
    let seen = noted.facts().host_key.clone();
    match (seen, greeted) {
        (Some(key), _) => Ok(key),
        (None, Err(e)) => Err(e),
        (None, Ok(_)) => Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("the server shows no key")),
    }
}

/// Asks a silent server whether it is there, and cuts the connection when it does not answer, or takes
/// nothing.
async fn guard(
    inner: Weak<Inner>,
    stall: Arc<Stall>,
    transport: CancellationToken,
    keepalive: Duration,
    max: u32,
) {
    let (mut heard, mut missed) = (0, 0);
    loop {
        tokio::select! {
            () = transport.cancelled() => return,
            () = tokio::time::sleep(keepalive) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let now = inner.session.stats().wire_in.load(Ordering::Relaxed);
        missed = if now == heard { missed + 1 } else { 0 };
        heard = now;
        let words = if missed > max {
            "the server does not answer any more"
        } else if stall.elapsed() >= keepalive * max {
            "the server takes nothing any more"
        } else {
            // What cannot even be queued is not answered either, and counts as that.
            let _ = tokio::time::timeout(keepalive, inner.handle.send_keepalive(true)).await;
            continue;
        };
        inner.shared.end(Error::new(ErrorKind::Disconnected).with_detail(words));
        transport.cancel();
        return;
    }
}

impl SshConnection {
    /// Opens a channel with the subsystem `sftp` on it, or the command that serves it. Several may be open at once. Errors: `Refused` if
    /// the server opens no (more) channel, `TimedOut`, `Disconnected`; from the reader, `Unsupported` if it
    /// has no such subsystem.
    pub async fn open_sftp(&self) -> Result<(ChannelReader, ChannelWriter<client::Msg>)> {
        let inner = &*self.0;
        let opening = async {
            let (read, write) = self.open_session().await?;
            // What is sent next is in order behind the request: a refusal ends the reader, and nothing waits.
            let asked = match &inner.sftp_server {
                Some(command) => write.exec(true, command.as_bytes()).await,
                None => write.request_subsystem(true, "sftp").await,
            };
            asked.map_err(|e| inner.shared.error_of(e))?;
            Ok::<_, Error>((read, write))
        };
        let (read, write) = self.opened(opening).await?;
        let (reader, writer, _) = channel::begin(read, write, &inner.flow, inner.transport.clone());
        Ok((reader, writer))
    }

    /// A channel that carries nothing yet.
    async fn open_session(&self) -> Result<(ChannelReadHalf, ChannelWriteHalf<client::Msg>)> {
        let opened = self.0.handle.channel_open_session().await;
        let channel = opened.map_err(|e| match e {
            russh::Error::ChannelOpenFailure(why) => {
                Error::refused(format!("the server opens no channel: {why:?}"))
            }
            other => self.0.shared.error_of(other),
        })?;
        Ok(channel.split())
    }

    /// Waits for a channel to be open. Errors: its own; `TimedOut`.
    async fn opened<T>(&self, opening: impl Future<Output = Result<T>>) -> Result<T> {
        let opened = self.0.flow.opened(self.0.timeout, opening).await;
        opened
            .unwrap_or_else(|| Err(Error::new(ErrorKind::TimedOut).with_detail("the server does not answer")))
    }

    /// Opens a channel and asks for a command on it, with or without input.
    pub(super) async fn open_command(
        &self,
        command: &[u8],
        input: bool,
    ) -> Result<(ChannelReadHalf, ChannelWriteHalf<client::Msg>)> {
        let inner = &*self.0;
        let opening = async {
            let (read, write) = self.open_session().await?;
            write.exec(true, command).await.map_err(|e| inner.shared.error_of(e))?;
            if !input {
                write.eof().await.map_err(|e| inner.shared.error_of(e))?;
            }
            Ok::<_, Error>((read, write))
        };
        self.opened(opening).await
    }

    pub(crate) fn flow(&self) -> &Arc<Flow> {
        &self.0.flow
    }

    /// Where its commands tell what is said.
    pub(super) fn talk(&self) -> &Talk {
        &self.0.talk
    }

    pub(super) fn transport(&self) -> &CancellationToken {
        &self.0.transport
    }

    /// Opens a connection from the server to `host` and `port` (RFC 4254, section 7.2). Errors: `Refused` if
    /// the server does not forward, `Disconnected` if it does not reach the host, `TimedOut`.
    pub async fn open_tcp(&self, host: &str, port: u16) -> Result<ChannelStream> {
        use ChannelOpenFailure as F;
        let inner = &*self.0;
        let opening = async {
            let opened = inner.handle.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0).await;
            let channel = opened.map_err(|e| match e {
                russh::Error::ChannelOpenFailure(F::ConnectFailed) => Error::new(ErrorKind::Disconnected)
                    .with_detail(format!("'{host}:{port}' cannot be reached from there")),
                russh::Error::ChannelOpenFailure(why) => {
                    Error::refused(format!("the server does not forward connections: {why:?}"))
                }
                other => inner.shared.error_of(other),
            })?;
            Ok::<_, Error>(channel.split())
        };
        let (read, write) = self.opened(opening).await?;
        let (reader, writer, _) = channel::begin(read, write, &inner.flow, inner.transport.clone());
        Ok(ChannelStream::new(reader, writer))
    }

    /// A filesystem over a channel of its own.
    pub async fn sftp(&self, config: &Config) -> Result<SftpRemote> {
        let (reader, writer) = self.open_sftp().await?;
        SftpRemote::connect_telling(reader, writer, config, self.0.talk.line()).await
    }

    /// The files of the server by SCP, and by its shell where it has one. Errors: those of [`ScpRemote::connect`].
    pub async fn scp(&self) -> Result<ScpRemote> {
        ScpRemote::connect(self.clone(), self.0.timeout).await
    }

    /// Waits until the connection has ended, and says why.
    pub async fn disconnected(&self) -> Error {
        tokio::select! {
            biased;
            ended = self.0.shared.fate() => ended,
            () = self.0.transport.cancelled() => {
                self.0.shared.ended().unwrap_or_else(|| Error::new(ErrorKind::Disconnected))
            }
        }
    }

    /// Says good-bye, then cuts; ends the session with it. Queued output is given half a second.
    pub async fn close(&self) {
        let inner = &*self.0;
        let bye = async {
            let sent = inner.handle.disconnect(Disconnect::ByApplication, "", "").await;
            if sent.is_ok() {
                self.disconnected().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, bye).await;
        inner.transport.cancel();
        inner.session.close(Ending::new("closed", Actor::Client)).await;
    }

    /// The session that counts its bytes; cutting it cuts the connection.
    pub fn session(&self) -> &Arc<Session> {
        &self.0.session
    }

    /// The methods that the login passed, in order.
    pub fn methods(&self) -> &[&'static str] {
        &self.0.methods
    }

    /// The server's key.
    pub fn host_key(&self) -> Option<HostKey> {
        self.0.shared.facts().host_key.clone()
    }

    /// How long the probe of the login took: two round trips at most, and the server's thinking.
    pub fn delay(&self) -> Duration {
        self.0.shared.facts().delay
    }

    /// How the server names itself.
    pub fn server_version(&self) -> String {
        self.0.shared.facts().server.clone()
    }

    /// The cipher.
    pub fn cipher(&self) -> String {
        self.0.shared.facts().cipher.clone()
    }

    /// What the server said before the login, cleaned; empty if nothing.
    pub fn banner(&self) -> String {
        self.0.shared.facts().banner.clone()
    }
}
