//! `Session`: identity, state, statistics, custom data and tags of one connection, beside the filesystem.
//!
//! The same type serves both ends. It answers every attribute of IIS's live sessions and every member of
//! Syncplify's `Session` on any protocol. Decisions on the points that those leave open: the id is a
//! UUID of version 7 (unique, sorts by start); the address has no port, the port is a value of its own;
//! `uploaded` is content from the client to the server and `downloaded` the other way, on both ends,
//! counted when the gate hands it over; IIS's `bytesReceived` is `uploaded` and `bytesSent` is
//! `downloaded`; listings and control bytes are in `wire_in` and `wire_out`; the last command is as the
//! client sent it with secrets masked; errors are empty until one happens.
//!
//! Terminate has two steps. *Cut*: no operation begins, no publish takes effect, the transport is dead.
//! *Quiet*: the calls in flight have ended. Deliberately absent: sockets, users, a list of sessions.

mod hooked;
mod names;
mod snapshot;
mod tags;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::hooked::HookFiles;
pub use self::hooked::{Quota, Rights};
pub use self::names::{Actor, Ending, Identity, Protocol, SessionId, State};
pub use self::snapshot::{Snapshot, TransferSnapshot};
use crate::auth::Account;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Direction, Event, EventSink, OperationId, TransferRecord, What};
use crate::gate::SessionFs;
use crate::intercept::Chain;
use crate::lease::Leases;
use crate::lifecycle::{Lifecycle, Verdict};
use crate::path::{VPath, display_bytes};
use crate::reason::Reason;
use crate::registry::SessionRegistry;
use crate::talk::Talk;

/// A clock, given from outside so that tests own the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The clock of the operating system.
pub fn system_clock() -> Clock {
    Arc::new(SystemTime::now)
}

/// What a new session is made of.
pub struct Setup {
    /// Its protocol.
    pub protocol: Protocol,
    /// The other side, where there is one.
    pub peer: Option<SocketAddr>,
    /// Our side.
    pub local: Option<SocketAddr>,
    /// The site's name; on a client, the remote's host.
    pub site: Arc<str>,
    /// Interceptors until login; a site gives others to [`Session::guard`].
    pub chain: Arc<Chain>,
    /// Where events go.
    pub sink: Option<Arc<dyn EventSink>>,
    /// The time.
    pub clock: Clock,
    /// Where a client tells what is said.
    pub talk: Talk,
}

impl Setup {
    /// A session of this protocol with no interceptors, no sink and the system's clock.
    pub fn new(protocol: Protocol, site: impl Into<Arc<str>>) -> Self {
        Setup {
            protocol,
            peer: None,
            local: None,
            site: site.into(),
            chain: Arc::default(),
            sink: None,
            clock: system_clock(),
            talk: Talk::default(),
        }
    }
}

/// Counters. See the module's header for what each counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Content from the client to the server, bytes.
    pub uploaded: AtomicU64,
    /// Content from the server to the client, bytes.
    pub downloaded: AtomicU64,
    /// Bytes received on the wire.
    pub wire_in: AtomicU64,
    /// Bytes sent on the wire.
    pub wire_out: AtomicU64,
    /// Operations begun, chunks not counted.
    pub operations: AtomicU64,
    /// Operations failed.
    pub errors: AtomicU64,
}

/// A file in use, for the live view.
#[derive(Debug)]
pub struct Transfer {
    path: Mutex<VPath>,
    /// Opened for writing.
    pub direction: Direction,
    /// The operation that opened it.
    pub opened_by: OperationId,
    /// Bytes moved.
    pub bytes: AtomicU64,
    /// When it was opened.
    pub since: Instant,
}

impl Transfer {
    /// Its path now: a rename moves it.
    pub fn path(&self) -> VPath {
        lock(&self.path).clone()
    }
}

/// A command as the client sent it.
#[derive(Clone, Debug)]
struct Command {
    verb: &'static str,
    argument: Argument,
}

/// The argument of a command; put into words only when somebody looks.
#[derive(Clone, Debug)]
pub enum Argument {
    /// None.
    None,
    /// A path.
    Path(VPath),
    /// Two paths.
    Paths(VPath, VPath),
    /// Words, secrets masked.
    Text(Arc<str>),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb)?;
        match &self.argument {
            Argument::None => Ok(()),
            Argument::Path(p) => write!(f, " {p}"),
            Argument::Paths(a, b) => write!(f, " {a} {b}"),
            Argument::Text(t) => write!(f, " {}", display_bytes(t.as_bytes())),
        }
    }
}

struct Mutable {
    protocol: Protocol,
    site: Arc<str>,
    chain: Arc<Chain>,
    state: State,
    requested_user: Arc<str>,
    auth_methods: Vec<&'static str>,
    client_version: Arc<str>,
    tls: Option<Arc<str>>,
    current: Option<Command>,
    running: u32,
    previous: Option<Command>,
    command_started: Option<SystemTime>,
    last_error: Option<(Arc<str>, SystemTime, Reason)>,
    last_status: u32,
    custom: Vec<String>,
    tags: BTreeMap<Box<str>, Box<str>>,
    block_next: Option<Arc<str>>,
    hook_files: Option<HookFiles>,
    rights: Option<Arc<dyn Rights>>,
    speed_limit: Option<Arc<crate::policy::Throttle>>,
    transfers: BTreeMap<u64, Weak<Transfer>>,
    next_transfer: u64,
}

/// One connection, on either end. Shared as `Arc<Session>`.
pub struct Session {
    id: SessionId,
    ends: OnceLock<(Option<SocketAddr>, Option<SocketAddr>)>,
    started: SystemTime,
    started_at: Instant,
    stats: Stats,
    leases: Arc<Leases>,
    cancel: CancellationToken,
    sink: Option<Arc<dyn EventSink>>,
    clock: Clock,
    talk: Talk,
    sequence: Mutex<u64>,
    next_operation: AtomicU64,
    epoch: AtomicU64,
    active_at: AtomicU64,
    blocked: AtomicBool,
    closed: AtomicBool,
    registry: Weak<SessionRegistry>,
    mutable: Mutex<Mutable>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is left of a session that was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Terminated {
    /// Calls still in flight when the wait was over; 0 means quiet.
    pub in_flight: usize,
}

impl Session {
    /// A session that stands in no live table.
    pub fn new(setup: Setup) -> Arc<Self> {
        Self::registered(setup, Weak::new())
    }

    pub(crate) fn registered(setup: Setup, registry: Weak<SessionRegistry>) -> Arc<Self> {
        let session = Arc::new(Session {
            id: SessionId::generate(),
            ends: match (setup.peer, setup.local) {
                (None, None) => OnceLock::new(),
                ends => OnceLock::from(ends),
            },
            started: (setup.clock)(),
            started_at: Instant::now(),
            stats: Stats::default(),
            leases: Leases::new(),
            cancel: CancellationToken::new(),
            sink: setup.sink,
            clock: setup.clock,
            talk: setup.talk,
            sequence: Mutex::new(0),
            next_operation: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            active_at: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            registry,
            mutable: Mutex::new(Mutable {
                protocol: setup.protocol,
                site: setup.site,
                chain: setup.chain,
                state: State::Connecting,
                requested_user: "".into(),
                auth_methods: Vec::new(),
                client_version: "".into(),
                tls: None,
                current: None,
                running: 0,
                previous: None,
                command_started: None,
                last_error: None,
                last_status: 0,
                custom: Vec::new(),
                tags: BTreeMap::new(),
                block_next: None,
                hook_files: None,
                rights: None,
                speed_limit: None,
                transfers: BTreeMap::new(),
                next_transfer: 0,
            }),
        });
        session.emit(What::Connected);
        session
    }

    // ---- facts

    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Its protocol now (`FTP` may become `FTPS`).
    pub fn protocol(&self) -> Protocol {
        lock(&self.mutable).protocol
    }

    /// Changes the protocol's name, when TLS begins or a channel shows what it is.
    pub fn set_protocol(&self, protocol: Protocol) {
        lock(&self.mutable).protocol = protocol;
    }

    /// The other side; on a client known once it was reached, and never where a proxy reaches it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.ends.get().and_then(|ends| ends.0)
    }

    /// A client reached its server. Only the first call counts, and none where the setup said it.
    pub fn reached(&self, peer: SocketAddr, local: Option<SocketAddr>) {
        let _ = self.ends.set((Some(peer), local));
    }

    /// The other side's address, an IPv4 address mapped into IPv6 shown as IPv4.
    pub fn peer_address(&self) -> Option<IpAddr> {
        self.peer().map(|p| p.ip().to_canonical())
    }

    /// Our side.
    pub fn local(&self) -> Option<SocketAddr> {
        self.ends.get().and_then(|ends| ends.1)
    }

    /// The name of the site that serves it now.
    pub fn site(&self) -> Arc<str> {
        Arc::clone(&lock(&self.mutable).site)
    }

    /// When it began.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// The session's clock.
    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Where what is said to the server is told, on a client.
    pub fn talk(&self) -> &Talk {
        &self.talk
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The interceptors that stand before login.
    pub fn chain(&self) -> Arc<Chain> {
        Arc::clone(&lock(&self.mutable).chain)
    }

    /// Another site takes the session over, with its own interceptors, before anybody is logged in (FTP's
    /// `HOST`, `user@site`, a name in TLS). Errors: `Throttled` where that site has as many sessions as it
    /// may, `Canceled` after the cut, `Refused` while somebody is logged in; then nothing has changed.
    pub fn move_to(&self, site: impl Into<Arc<str>>, chain: Arc<Chain>) -> Result<()> {
        let site = site.into();
        let mut m = lock(&self.mutable);
        match m.state {
            State::Closed(..) => {
                return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"));
            }
            _ if m.state.identity().is_some() => return Err(Error::refused("somebody is logged in already")),
            _ => {}
        }
        if let Some(registry) = self.registry.upgrade() {
            registry.relocate(&self.id, &site)?;
        }
        (m.site, m.chain) = (site, chain);
        Ok(())
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        lock(&self.mutable).state.clone()
    }

    /// Who is logged in.
    pub fn identity(&self) -> Option<Identity> {
        lock(&self.mutable).state.identity().cloned()
    }

    /// The account's name; empty while nobody is logged in.
    pub fn user_id(&self) -> Arc<str> {
        self.identity().map_or_else(|| "".into(), |i| Arc::clone(&i.account.name))
    }

    /// The name that was asked for at login, known before it is proven.
    pub fn requested_user(&self) -> Arc<str> {
        Arc::clone(&lock(&self.mutable).requested_user)
    }

    pub(crate) fn set_requested_user(&self, user: &str) {
        lock(&self.mutable).requested_user = user.into();
    }

    /// The methods that the login passed, in order.
    pub fn auth_methods(&self) -> Vec<&'static str> {
        lock(&self.mutable).auth_methods.clone()
    }

    /// What the client said of itself (SSH banner, `CLNT`, `User-Agent`); empty if nothing.
    pub fn client_version(&self) -> Arc<str> {
        Arc::clone(&lock(&self.mutable).client_version)
    }

    /// Notes what the client said of itself, at most 255 bytes of it.
    pub fn set_client_version(&self, version: &[u8]) {
        let cut = version.get(..255).unwrap_or(version);
        lock(&self.mutable).client_version = display_bytes(cut).into();
    }

    /// Names the cipher that protects the connection.
    pub fn set_tls(&self, words: &str) {
        lock(&self.mutable).tls = Some(words.into());
    }

    // ---- life

    /// The greeting was sent.
    pub fn greeted(&self) {
        self.advance(|s| matches!(s, State::Connecting), State::Greeted);
    }

    /// A login begins.
    pub fn authenticating(&self) {
        self.advance(|s| matches!(s, State::Connecting | State::Greeted), State::Authenticating);
    }

    fn advance(&self, from: impl Fn(&State) -> bool, to: State) {
        let mut m = lock(&self.mutable);
        if from(&m.state) {
            m.state = to;
        }
    }

    /// Logs `account` in: the one way to an [`Identity`]. On a server only [`crate::auth::Login`] calls
    /// it; on a client, a completed connection. Errors: `Canceled` after the cut, `Refused` if somebody
    /// is logged in already or the account has too many sessions.
    pub fn log_in(&self, account: Account, methods: Vec<&'static str>) -> Result<Identity> {
        let user = Arc::clone(&account.name);
        let mut m = lock(&self.mutable);
        match m.state {
            State::Connecting | State::Greeted | State::Authenticating => {}
            State::Closed(..) => {
                return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"));
            }
            _ => return Err(Error::refused("somebody is logged in already")),
        }
        // Counted under this session's lock: the cut cannot come between the check and the claim.
        if let Some(registry) = self.registry.upgrade() {
            registry.claim(&self.id, &user, account.max_sessions)?;
        }
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        let identity = Identity { account: Arc::new(account), session: self.id.clone(), epoch };
        m.state = State::Ready(identity.clone());
        m.auth_methods = methods.clone();
        drop(m);
        self.emit(What::LoggedIn { user, methods });
        Ok(identity)
    }

    /// Logs the user out and revokes what was guarded for it (FTP's `REIN`).
    pub fn log_out(&self) {
        let mut m = lock(&self.mutable);
        if matches!(m.state, State::Ready(_)) {
            m.state = State::Greeted;
            m.auth_methods.clear();
            m.hook_files = None;
            m.rights = None;
            self.epoch.fetch_add(1, Ordering::SeqCst);
            if let Some(registry) = self.registry.upgrade() {
                registry.release(&self.id);
            }
        }
    }

    /// Guards a filesystem for a logged-in user: the only way to a [`SessionFs`]. Errors:
    /// `Unauthenticated` for an identity of another session or of an earlier login.
    pub fn guard(
        self: &Arc<Self>,
        identity: &Identity,
        filesystem: Arc<dyn crate::fs::Filesystem>,
        chain: Arc<Chain>,
    ) -> Result<SessionFs> {
        if identity.session != self.id || identity.epoch != self.epoch() {
            return Err(Error::new(ErrorKind::Unauthenticated));
        }
        Ok(SessionFs::new(Arc::clone(self), identity.epoch, filesystem, chain))
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Asks the interceptors about a step.
    pub async fn decide(self: &Arc<Self>, mut step: Lifecycle<'_>) -> Verdict {
        // `BlockOperation` from an event that cannot be refused falls on the next thing asked.
        if step.can_be_refused()
            && let Some(e) = self.take_block()
        {
            return Verdict::Refuse(e);
        }
        self.chain().decide(Some(self), step.reborrow()).await
    }

    /// A wire verb that is no operation: noted, and asked of the interceptors. Errors: `Refused`.
    pub async fn command(self: &Arc<Self>, verb: &'static str, argument: &str) -> Result<()> {
        match self.decide(Lifecycle::Command { verb, argument }).await {
            Verdict::Refuse(e) => Err(e),
            _ => Ok(()),
        }
    }

    /// Notes a command as sent by the client, until the returned guard is dropped.
    pub fn begin_command(self: &Arc<Self>, verb: &'static str, argument: Argument) -> Running {
        self.touch();
        let now = self.now();
        let mut m = lock(&self.mutable);
        let earlier = m.current.replace(Command { verb, argument });
        if earlier.is_some() {
            m.previous = earlier;
        }
        m.command_started = Some(now);
        m.running += 1;
        Running(Arc::clone(self))
    }

    /// The protocol's own number of the last reply (FTP code, SFTP status, HTTP status).
    pub fn note_status(&self, code: u32) {
        lock(&self.mutable).last_status = code;
    }

    /// Notes a failure as the session's last error.
    pub fn note_error(&self, error: &Error) {
        self.stats.errors.fetch_add(1, Ordering::Relaxed);
        let words: Arc<str> = error.to_string().into();
        let now = self.now();
        let chain = {
            let mut m = lock(&self.mutable);
            m.last_error = Some((words, now, error.reason()));
            Arc::clone(&m.chain)
        };
        chain.links().iter().for_each(|link| link.failed(self, error));
    }

    /// Waits until what came of the failures so far is kept, where somebody keeps it: before they are answered.
    pub async fn written(&self) {
        let chain = Arc::clone(&lock(&self.mutable).chain);
        for link in chain.links() {
            link.written().await;
        }
    }

    /// The last error in words; empty until one happens.
    pub fn last_error(&self) -> Arc<str> {
        lock(&self.mutable).last_error.as_ref().map_or_else(|| "".into(), |e| Arc::clone(&e.0))
    }

    /// Why the last thing that failed did, as a number; `Done` until something does.
    pub fn last_reason(&self) -> Reason {
        lock(&self.mutable).last_error.as_ref().map_or(Reason::Done, |e| e.2)
    }

    /// When the last error happened.
    pub fn last_error_time(&self) -> Option<SystemTime> {
        lock(&self.mutable).last_error.as_ref().map(|e| e.1)
    }

    /// The last command begun, whether it still runs or not; empty before the first.
    pub fn last_command(&self) -> String {
        let m = lock(&self.mutable);
        m.current.as_ref().or(m.previous.as_ref()).map(ToString::to_string).unwrap_or_default()
    }

    /// When the last command began.
    pub fn last_command_time(&self) -> Option<SystemTime> {
        lock(&self.mutable).command_started
    }

    /// Something moved: the idle clock starts anew.
    pub fn touch(&self) {
        let ms = u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_at.store(ms, Ordering::Relaxed);
    }

    /// How long nothing moved.
    pub fn idle(&self) -> Duration {
        let active = Duration::from_millis(self.active_at.load(Ordering::Relaxed));
        self.started_at.elapsed().saturating_sub(active)
    }

    /// When something last moved.
    pub fn last_activity(&self) -> SystemTime {
        self.started + Duration::from_millis(self.active_at.load(Ordering::Relaxed))
    }

    // ---- custom data and blocking, for hooks

    /// Appends to the session's list of strings; at most 1,000 of them are kept.
    pub fn add_custom_data(&self, value: String) -> Result<()> {
        let mut m = lock(&self.mutable);
        if m.custom.len() >= 1000 {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("a session keeps 1000 custom strings"));
        }
        m.custom.push(value);
        Ok(())
    }

    /// The session's list of strings.
    pub fn custom_data(&self) -> Vec<String> {
        lock(&self.mutable).custom.clone()
    }

    /// Refuses the next operation that the client asks for, whatever it is.
    pub fn block_next(&self, words: &str) {
        lock(&self.mutable).block_next = Some(words.into());
        self.blocked.store(true, Ordering::Release);
    }

    pub(crate) fn take_block(&self) -> Option<Error> {
        if !self.blocked.swap(false, Ordering::AcqRel) {
            return None;
        }
        let words = lock(&self.mutable).block_next.take()?;
        Some(Error::refused(words.to_string()))
    }

    // ---- transfers

    pub(crate) fn begin_transfer(
        &self,
        path: VPath,
        direction: Direction,
        opened_by: OperationId,
    ) -> Arc<Transfer> {
        let transfer = Arc::new(Transfer {
            path: Mutex::new(path),
            direction,
            opened_by,
            bytes: AtomicU64::new(0),
            since: Instant::now(),
        });
        let mut m = lock(&self.mutable);
        let key = m.next_transfer;
        m.next_transfer += 1;
        m.transfers.insert(key, Arc::downgrade(&transfer));
        if key.is_multiple_of(64) {
            m.transfers.retain(|_, t| t.strong_count() > 0);
        }
        transfer
    }

    /// The files in use.
    pub fn transfers(&self) -> Vec<Arc<Transfer>> {
        lock(&self.mutable).transfers.values().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn renamed(&self, from: &VPath, to: &VPath) {
        for t in self.transfers() {
            let mut path = lock(&t.path);
            if let Some(new) = path.rebase(from, to) {
                *path = new;
            }
        }
    }

    pub(crate) fn transferred(self: &Arc<Self>, chain: &Chain, record: TransferRecord) {
        for link in chain.links() {
            link.transferred(self, &record);
        }
        self.emit(What::Transfer(record));
    }

    // ---- operations, for the gate

    pub(crate) fn next_operation(&self) -> OperationId {
        self.stats.operations.fetch_add(1, Ordering::Relaxed);
        OperationId(self.next_operation.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn has_sink(&self) -> bool {
        self.sink.is_some()
    }

    /// Emits an event. Numbering and handing over are one step, so a sink sees them in order.
    pub(crate) fn emit(&self, what: What) {
        let Some(sink) = &self.sink else { return };
        let time = self.now();
        let mut sequence = lock(&self.sequence);
        *sequence += 1;
        sink.emit(Event { sequence: *sequence, session: self.id.clone(), time, what });
    }

    // ---- the end

    /// Fires when the session is cut. A transport gives up at once; a long wait selects on it.
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Who still works for it.
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.leases.is_cut()
    }

    /// Takes nothing new; what runs may finish.
    pub fn drain(&self) {
        let mut m = lock(&self.mutable);
        if !matches!(m.state, State::Closed(..)) {
            let identity = m.state.identity().cloned();
            m.state = State::Draining(identity);
        }
    }

    /// Whether it takes nothing new.
    pub fn is_draining(&self) -> bool {
        matches!(lock(&self.mutable).state, State::Draining(_))
    }

    /// *Cut*: from here on no operation begins and no publish takes effect; the session has left the
    /// live table. Only the first call counts; it answers whether this was it.
    pub fn cut(&self, ending: Ending) -> bool {
        {
            let mut m = lock(&self.mutable);
            if matches!(m.state, State::Closed(..)) {
                return false;
            }
            let identity = m.state.identity().cloned();
            m.state = State::Closed(identity, ending);
        }
        self.leases.cut();
        self.cancel.cancel();
        if let Some(registry) = self.registry.upgrade() {
            registry.remove(&self.id);
        }
        true
    }

    /// *Cut*, then waits for *quiet*, at most `patience`.
    pub async fn terminate(&self, ending: Ending, patience: Duration) -> Terminated {
        self.cut(ending);
        let _ = tokio::time::timeout(patience, self.leases.quiet()).await;
        Terminated { in_flight: self.leases.in_flight() }
    }

    /// Why it ended, once it has.
    pub fn ending(&self) -> Option<Ending> {
        match &lock(&self.mutable).state {
            State::Closed(_, ending) => Some(ending.clone()),
            _ => None,
        }
    }

    /// The end of the connection, called by every driver on every way out: cuts if nobody did, shows
    /// `Close` to the interceptors, and emits the last event. Once.
    pub async fn close(self: &Arc<Self>, ending: Ending) {
        self.cut(ending.clone());
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let ending = self.ending().unwrap_or(ending);
        self.chain().decide(Some(self), Lifecycle::Close(&ending)).await;
        if let Some(registry) = self.registry.upgrade() {
            registry.remember(self, &ending);
        }
        self.emit(What::Closed(ending));
    }
}

/// A command that runs; dropping it ends the command.
pub struct Running(Arc<Session>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut m = lock(&self.0.mutable);
        m.running = m.running.saturating_sub(1);
        if m.running == 0
            && let Some(c) = m.current.take()
        {
            m.previous = Some(c);
        }
    }
}
