//! `Session` itself: its life, its properties, its events. The operations stand in the files beside it.
//!
//! Cheap to clone, and any number of calls may run at once from any task; each clone is the same session.
//! `abort` may be called from anywhere at any time: calls in flight end with `Canceled`, and the session
//! stays unusable. After `close` it may be opened again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Snapshot};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::decide::SessionDecider;
use super::event::{Event, Hub, Subscription};
use super::options::SessionOptions;
use crate::connect::{Connected, Executor, RequestLimit, open_local, open_url};
use crate::live::{Live, Registered, Table, What};
use crate::log::SessionLog;

/// How often progress is told, if the caller does not say.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long a lost connection is waited for, if the caller does not say.
const RECONNECT: Duration = Duration::from_secs(120);

/// A session with one server. See the module's header.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    hub: Arc<Hub>,
    state: Mutex<State>,
    progress: Mutex<Duration>,
    reconnect: Mutex<Duration>,
    around: Mutex<Arc<Chain>>,
    requests: Mutex<Option<Arc<RequestLimit>>>,
    log: Mutex<Option<SessionLog>>,
    live: Mutex<Option<Arc<Table>>>,
    abort: CancellationToken,
}

enum State {
    Aborted,
    Closed,
    Open(Arc<Open>),
    Opening,
}

/// What stands while a session is open.
pub(super) struct Open {
    pub(super) fs: SessionFs,
    pub(super) home: VPath,
    pub(super) local: Connected,
    pub(super) options: SessionOptions,
    pub(super) decider: Arc<dyn Decider>,
    /// What runs commands.
    pub(super) executor: Executor,
    /// The store, where it is one of S3.
    #[cfg(feature = "s3")]
    pub(super) s3: Option<Arc<proto_s3::client::S3Remote>>,
    /// The server, where it is one of WebDAV.
    #[cfg(feature = "webdav")]
    pub(super) webdav: Option<Arc<proto_webdav::client::WebdavRemote>>,
    /// Whether a shell and SFTP see the same tree; found out when it matters.
    pub(super) same_tree: OnceCell<bool>,
    /// Taken by who closes it.
    line: Mutex<Option<Connected>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the state back if `open` is dropped or fails.
struct Opening<'a>(&'a Inner);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::Opening) {
            *state = State::Closed;
        }
    }
}

impl Open {
    /// A path on the server, for people.
    pub(super) fn shown(&self, path: &VPath) -> String {
        format!("{}:{path}", self.options.shown_name())
    }
}

fn aborted() -> Error {
    Error::new(ErrorKind::Canceled).with_detail("the session was aborted")
}

impl Session {
    /// A session that is not open. Listeners may be added before it is.
    pub fn new() -> Self {
        Session(Arc::new(Inner {
            hub: Hub::new(),
            state: Mutex::new(State::Closed),
            progress: Mutex::new(PROGRESS),
            reconnect: Mutex::new(RECONNECT),
            around: Mutex::default(),
            requests: Mutex::default(),
            log: Mutex::default(),
            live: Mutex::default(),
            abort: CancellationToken::new(),
        }))
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// Tells a failure, once, where a call ends with it. What the line told of its end when the session was aborted is
    /// `Canceled`.
    pub(super) fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| {
            let e = match e.kind() {
                ErrorKind::Disconnected if self.0.abort.is_cancelled() => aborted().with_source(e),
                _ => e,
            };
            self.0.hub.failed(&e);
            e
        })
    }

    /// What is open. Errors: `Closed`.
    pub(super) fn opened_now(&self) -> Result<Arc<Open>> {
        let words = match &*lock(&self.0.state) {
            State::Open(open) => return Ok(Arc::clone(open)),
            State::Aborted => "the session was aborted",
            State::Closed | State::Opening => "the session is not open",
        };
        Err(Error::new(ErrorKind::Closed).with_detail(words))
    }

    /// Connects and logs in. The decider is asked whatever the options do not answer; unattended, the
    /// answer is no. Errors: `Closed` for a session that is open or was aborted; those of
    /// [`SessionOptions::check`]; `Unsupported` for what cannot be opened; `Disconnected`, `TimedOut`,
    /// `Unauthenticated` (login and trust), `Refused`; `Canceled` by `abort`. Dropped, nothing stays open.
    pub async fn open(&self, options: SessionOptions, decider: Arc<dyn Decider>) -> Result<()> {
        let result = self.open_quietly(options, decider).await;
        self.told(result)
    }

    async fn open_quietly(&self, options: SessionOptions, decider: Arc<dyn Decider>) -> Result<()> {
        {
            let mut state = lock(&self.0.state);
            let words = match *state {
                State::Closed => None,
                State::Aborted => Some("the session was aborted"),
                State::Open(_) | State::Opening => Some("the session is open already"),
            };
            if let Some(words) = words {
                return Err(Error::new(ErrorKind::Closed).with_detail(words));
            }
            *state = State::Opening;
        }
        let _opening = Opening(&self.0);
        let around = Arc::clone(&*lock(&self.0.around));
        let connect = options.to_connect()?.reconnect(self.reconnect_time()).interceptors(around);
        let connect = connect.request_limit(lock(&self.0.requests).clone());
        let connect = connect.log(lock(&self.0.log).as_ref());
        let decider: Arc<dyn Decider> =
            Arc::new(SessionDecider::new(Arc::clone(&self.0.hub), decider, &options));
        let line = tokio::select! {
            biased;
            () = self.0.abort.cancelled() => return Err(aborted()),
            line = open_url(connect, Arc::clone(&decider)) => line?,
        };
        let open = Arc::new(Open {
            fs: line.fs().clone(),
            home: line.home().clone(),
            local: open_local()?,
            options,
            decider,
            executor: line.executor(),
            #[cfg(feature = "s3")]
            s3: line.s3().cloned(),
            #[cfg(feature = "webdav")]
            webdav: line.webdav().cloned(),
            same_tree: OnceCell::new(),
            line: Mutex::new(Some(line)),
        });
        {
            let mut state = lock(&self.0.state);
            if matches!(*state, State::Opening) {
                *state = State::Open(open);
                return Ok(());
            }
        }
        open.cut("aborted");
        Err(aborted())
    }

    /// Ends the session in good order; calls in flight end with `Canceled`. Errors: `Closed` if it is not
    /// open. Dropped in the middle, the connection is cut.
    pub async fn close(&self) -> Result<()> {
        let open = self.opened_now()?;
        let line = lock(&open.line).take();
        let mut closed = false;
        {
            let mut state = lock(&self.0.state);
            if matches!(&*state, State::Open(current) if Arc::ptr_eq(current, &open)) {
                *state = State::Closed;
                closed = true;
            }
        }
        if let Some(line) = line {
            line.close().await;
        }
        if closed { Ok(()) } else { Err(Error::new(ErrorKind::Closed)) }
    }

    /// Cuts the connection at once, from any task. Calls in flight end with `Canceled`; this object cannot be
    /// opened again. What a file looked like that was being written: see the call that wrote it.
    pub fn abort(&self) {
        self.0.abort.cancel();
        let before = std::mem::replace(&mut *lock(&self.0.state), State::Aborted);
        if let State::Open(open) = before {
            open.cut("aborted");
        }
    }

    /// Whether it is open. A connection that was lost stays open in this sense until it is closed.
    pub fn opened(&self) -> bool {
        matches!(*lock(&self.0.state), State::Open(_))
    }

    /// The login folder. Errors: `Closed`.
    pub fn home_path(&self) -> Result<VPath> {
        Ok(self.opened_now()?.home.clone())
    }

    /// The options it was opened with. Errors: `Closed`.
    pub fn options(&self) -> Result<SessionOptions> {
        Ok(self.opened_now()?.options.clone())
    }

    /// The guarded filesystem below, for what this type does not offer. Errors: `Closed`.
    pub fn filesystem(&self) -> Result<SessionFs> {
        Ok(self.opened_now()?.fs.clone())
    }

    /// Counters, protocol, last command and everything else that is known of the connection. Errors:
    /// `Closed`.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.opened_now()?.fs.session().snapshot())
    }

    /// How long a lost connection is waited for; zero: not at all. It begins anew whenever bytes have moved.
    /// Sessions that are open keep what they were opened with. (`ReconnectTime`)
    pub fn set_reconnect_time(&self, budget: Duration) {
        *lock(&self.0.reconnect) = budget;
    }

    /// See [`set_reconnect_time`](Self::set_reconnect_time).
    pub fn reconnect_time(&self) -> Duration {
        *lock(&self.0.reconnect)
    }

    /// How much may be asked of the remote in a second; nothing for no limit. Sessions that are given the same limit
    /// share it. Sessions that are open keep what they were opened with.
    pub fn set_request_limit(&self, limit: Option<Arc<RequestLimit>>) {
        *lock(&self.0.requests) = limit;
    }

    /// Where it is written down what is said to the server and what it answers; nothing for nowhere. Sessions that are
    /// given the same log share it. Sessions that are open keep what they were opened with. (`SessionLogPath`)
    pub fn set_log(&self, log: Option<SessionLog>) {
        *lock(&self.0.log) = log;
    }

    /// Who is asked about every operation on the remote and at the steps of the connection's life. Sessions that
    /// are open keep what they were opened with.
    pub fn set_interceptors(&self, chain: Arc<Chain>) {
        *lock(&self.0.around) = chain;
    }

    /// The same, for handlers in JavaScript.
    #[cfg(feature = "hooks")]
    pub fn set_handlers(&self, handlers: &crate::hooks::Handlers) {
        self.set_interceptors(handlers.chain());
    }

    /// Lets others see in this table what moves files, and pause, slow or end it, as `ferry jobs` does. What is
    /// under way is not entered later.
    pub fn show_in(&self, table: Arc<Table>) {
        *lock(&self.0.live) = Some(table);
    }

    /// Enters what moves files, where there is a table, as long as the result lives.
    pub(super) fn enter(&self, what: What, live: Arc<dyn Live>) -> Option<Registered> {
        let table = lock(&self.0.live).clone()?;
        let (registered, error) = table.enter(None, what, live);
        if let Some(e) = error {
            self.hub().warn(e.to_string());
        }
        Some(registered)
    }

    /// How often [`Event::Progress`] is told while files move; at least every 10 ms, at most.
    pub fn set_progress_interval(&self, interval: Duration) {
        *lock(&self.0.progress) = interval.max(Duration::from_millis(10));
    }

    pub(super) fn progress_interval(&self) -> Duration {
        *lock(&self.0.progress)
    }

    /// Everything that happens from now on, as a stream. It ends with the last clone of this session.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        self.0.hub.stream()
    }

    /// Calls back for everything that happens, on the task where it happens, as long as the subscription
    /// lives. The callback must be quick; it may call whatever is not `async`, `abort` too.
    pub fn on_event(&self, handler: impl Fn(&Event) + Send + Sync + 'static) -> Subscription {
        self.0.hub.on(Arc::new(handler))
    }

    /// Does what one protocol has beside files: with its own remote, where there is that. Errors: `Closed`,
    /// `InvalidPath`; `Unsupported`, in these words, elsewhere; those of the work.
    #[cfg(any(feature = "s3", feature = "webdav"))]
    pub(super) async fn beside<R, T, F>(
        &self,
        path: &[u8],
        own: impl FnOnce(&Open) -> Option<R>,
        elsewhere: &'static str,
        work: impl FnOnce(R, VPath) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let result = async {
            let open = self.opened_now()?;
            if open.options.encrypts() {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail("where names are encrypted ('EncryptKey') only files can be worked with"));
            }
            let path = Session::remote(&open, path)?;
            let unsupported = || Error::new(ErrorKind::Unsupported).with_detail(elsewhere);
            work(own(&open).ok_or_else(unsupported)?, path).await
        };
        self.told(result.await)
    }

    /// A remote path as an argument gives it, relative to the login folder.
    pub(super) fn remote(open: &Open, path: &[u8]) -> Result<VPath> {
        VPath::parse(&open.home, path)
    }
}

impl Open {
    fn cut(&self, reason: &'static str) {
        self.fs.session().cut(Ending::new(reason, Actor::Client));
        self.local.session().cut(Ending::new(reason, Actor::Client));
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &*lock(&self.0.state) {
            State::Aborted => "aborted",
            State::Closed => "closed",
            State::Open(_) => "open",
            State::Opening => "opening",
        };
        f.debug_struct("Session").field("state", &state).finish()
    }
}
