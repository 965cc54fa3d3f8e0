//! `Hooks`: the interceptor that runs handlers at their events.
//!
//! For one event, handlers bound to the session's user run before the server-wide ones, each group in
//! ascending priority. In an awaited event a refusal or a failure ends the round. What is not awaited is
//! queued with a frozen copy of its paths and runs in order, session by session.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::engine::{Effects, Engine, Handler, Invocation, ScriptError};
use super::events::{EventSpec, event};
use crate::auth::{Credential, Question};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Direction, TransferEnd, TransferRecord};
use crate::intercept::{Cx, Interceptor};
use crate::lifecycle::{ChannelKind, Lifecycle, Verdict};
use crate::operation::{Operation, OperationKind, OperationSet, Outcome, Record};
use crate::path::VPath;
use crate::session::{Session, SessionId};

/// How many events that nobody waits for may be queued in one server.
const QUEUED: usize = 10_000;

/// What a handler's failure means in an awaited event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// What was asked is refused.
    #[default]
    Block,
    /// It goes on as if the handler had said nothing.
    Pass,
}

/// A handler bound to an event.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The event's name.
    pub event: String,
    /// The handler's name in messages: its file.
    pub name: String,
    /// Its source.
    pub source: String,
    /// Only for these users; empty means server-wide.
    pub users: Vec<String>,
    /// Lower runs earlier.
    pub priority: i32,
    /// What a failure means.
    pub on_error: OnError,
    /// Its own limit of time.
    pub time: Option<Duration>,
}

struct Bound {
    handler: Arc<Handler>,
    users: Vec<String>,
    on_error: OnError,
    time: Duration,
}

/// The interceptor that runs handlers.
pub struct Hooks {
    engine: Arc<Engine>,
    bound: HashMap<&'static str, Vec<Arc<Bound>>>,
    interests: OperationSet,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    sessions: Mutex<HashMap<SessionId, VecDeque<After>>>,
    length: AtomicUsize,
    dropped: AtomicU64,
    drained: Notify,
}

struct After {
    event: &'static EventSpec,
    session: Arc<Session>,
    path: Option<VPath>,
    target: Option<VPath>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hooks {
    /// Compiles and binds. Errors: `InvalidArgument` for an unknown event or a script that does not
    /// compile, with file and line.
    pub fn new(engine: Arc<Engine>, mut bindings: Vec<Binding>) -> Result<Arc<Self>> {
        bindings.sort_by_key(|b| (b.users.is_empty(), b.priority));
        let mut bound: HashMap<&'static str, Vec<Arc<Bound>>> = HashMap::new();
        for b in bindings {
            let spec = event(&b.event).ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument)
                    .with_detail(format!("'{}' is not an event", b.event))
                    .with_hint(closest(&b.event))
            })?;
            let handler = engine.compile(&b.name, &b.source)?;
            let time = b.time.unwrap_or(engine.limits().time);
            let b = Bound { handler, users: b.users, on_error: b.on_error, time };
            bound.entry(spec.name).or_default().push(Arc::new(b));
        }
        let kinds: Vec<OperationKind> = OperationKind::ALL
            .iter()
            .copied()
            .filter(|k| {
                EVENTS_OF.iter().any(|(kind, names)| kind == k && names.iter().any(|n| bound.contains_key(n)))
            })
            .collect();
        let interests = OperationSet::of(&kinds);
        Ok(Arc::new(Hooks { engine, bound, interests, queue: Arc::default() }))
    }

    /// Events that were dropped because too many were queued.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    fn handlers(&self, spec: &EventSpec, user: &str) -> Vec<Arc<Bound>> {
        let all = self.bound.get(spec.name).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|b| b.users.is_empty() || b.users.iter().any(|u| u == user)).cloned().collect()
    }

    /// Runs an awaited event; the error refuses what was asked.
    async fn ask(&self, name: &str, session: Option<&Arc<Session>>, what: Subject) -> Result<Effects> {
        let mut told = Effects::default();
        let Some(spec) = event(name) else { return Ok(told) };
        if !self.bound.contains_key(name) {
            return Ok(told);
        }
        let user = session.map(|s| user_of(s)).unwrap_or_default();
        for b in self.handlers(spec, &user) {
            let (result, effects) = run(&self.engine, &b, spec, session.cloned(), &what).await;
            if let Err(e) = result {
                failed(&b, spec, session, &e);
                if spec.veto && b.on_error == OnError::Block {
                    return Err(Error::refused("refused: a rule of this server failed"));
                }
                continue;
            }
            if let Some(words) = effects.blocked {
                return Err(Error::refused(words));
            }
            told.hidden.extend(effects.hidden);
            told.questions.extend(effects.questions);
            told.authenticated |= effects.authenticated;
        }
        Ok(told)
    }

    /// Queues an event that nobody waits for.
    fn tell(&self, name: &str, session: &Arc<Session>, path: Option<&VPath>, target: Option<&VPath>) {
        let Some(spec) = event(name) else { return };
        if self.handlers(spec, &user_of(session)).is_empty() {
            return;
        }
        if self.queue.length.fetch_add(1, Ordering::SeqCst) >= QUEUED {
            self.queue.length.fetch_sub(1, Ordering::SeqCst);
            let n = self.queue.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_power_of_two() {
                tracing::error!(target: "hook", dropped = n, "events are dropped: handlers are too slow");
            }
            return;
        }
        let after =
            After { event: spec, session: Arc::clone(session), path: path.cloned(), target: target.cloned() };
        let mut sessions = lock(&self.queue.sessions);
        if let Some(queue) = sessions.get_mut(session.id()) {
            queue.push_back(after);
            return;
        }
        sessions.insert(session.id().clone(), VecDeque::from([after]));
        drop(sessions);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            lock(&self.queue.sessions).remove(session.id());
            self.queue.length.fetch_sub(1, Ordering::SeqCst);
            return;
        };
        let (engine, queue, id) = (Arc::clone(&self.engine), Arc::clone(&self.queue), session.id().clone());
        let bound: HashMap<_, _> = self.bound.iter().map(|(k, v)| (*k, v.clone())).collect();
        runtime.spawn(drain(engine, bound, queue, id));
    }

    /// Waits until the queued events of a session have run, at most as long as one handler may take.
    async fn settle(&self, id: &SessionId) {
        let wait = async {
            loop {
                let drained = self.queue.drained.notified();
                tokio::pin!(drained);
                drained.as_mut().enable();
                if !lock(&self.queue.sessions).contains_key(id) {
                    return;
                }
                drained.await;
            }
        };
        let _ = tokio::time::timeout(self.engine.limits().time, wait).await;
    }
}

/// Runs what a session has queued, one after the other.
async fn drain(
    engine: Arc<Engine>,
    bound: HashMap<&'static str, Vec<Arc<Bound>>>,
    queue: Arc<Queue>,
    id: SessionId,
) {
    loop {
        let after = {
            let mut sessions = lock(&queue.sessions);
            match sessions.get_mut(&id).and_then(VecDeque::pop_front) {
                Some(after) => after,
                None => {
                    sessions.remove(&id);
                    break;
                }
            }
        };
        let user = user_of(&after.session);
        let what = Subject { path: after.path, target: after.target };
        for b in bound.get(after.event.name).into_iter().flatten() {
            if b.users.is_empty() || b.users.iter().any(|u| *u == *user) {
                let (result, _) = run(&engine, b, after.event, Some(Arc::clone(&after.session)), &what).await;
                if let Err(e) = result {
                    failed(b, after.event, Some(&after.session), &e);
                }
            }
        }
        queue.length.fetch_sub(1, Ordering::SeqCst);
    }
    queue.drained.notify_waiters();
}

#[derive(Default)]
struct Subject {
    path: Option<VPath>,
    target: Option<VPath>,
}

async fn run(
    engine: &Engine,
    b: &Bound,
    spec: &'static EventSpec,
    session: Option<Arc<Session>>,
    what: &Subject,
) -> (Result<(), ScriptError>, Effects) {
    let invocation = Arc::new(Invocation {
        event: spec,
        session: if spec.session { session } else { None },
        path: what.path.clone(),
        target: what.target.clone(),
        deadline: Instant::now() + b.time,
        output: engine.limits().output,
        handler: b.handler.name.clone(),
        abandoned: AtomicBool::new(false),
        logged: AtomicUsize::new(0),
        exited: AtomicBool::new(false),
        effects: Mutex::default(),
    });
    let result = engine.run(&b.handler, &invocation).await;
    let effects = std::mem::take(&mut *invocation.effects());
    (result, effects)
}

fn failed(b: &Bound, spec: &EventSpec, session: Option<&Arc<Session>>, e: &ScriptError) {
    let session = session.map(|s| s.id().to_string()).unwrap_or_default();
    tracing::error!(target: "hook", event = spec.name, handler = %b.handler.name, %session, "{e}");
}

/// Who a handler's `users` are compared with: the account, or before login the name asked for.
fn user_of(session: &Session) -> Arc<str> {
    let user = session.user_id();
    if user.is_empty() { session.requested_user() } else { user }
}

fn closest(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let by_case = super::events::EVENTS.iter().find(|e| e.name.eq_ignore_ascii_case(name));
    let near = by_case.or_else(|| {
        super::events::EVENTS.iter().min_by_key(|e| distance(&e.name.to_ascii_lowercase(), &lower))
    });
    near.map(|e| format!("did you mean '{}'?", e.name)).unwrap_or_default()
}

/// Levenshtein's distance, over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let next = (corner + usize::from(x != y)).min(left + 1).min(*cell + 1);
            corner = *cell;
            *cell = next;
            left = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Which events hang on which operation.
const EVENTS_OF: &[(OperationKind, &[&str])] = &[
    (OperationKind::Abort, &["AfterFileAborted"]),
    (OperationKind::Commit, &["BeforeCommit", "AfterFileUpload", "OnQuotaHit"]),
    (OperationKind::Copy, &["BeforeFileCopy", "AfterFileCopy", "OnQuotaHit"]),
    (OperationKind::CreateDir, &["BeforeDirCreate", "AfterDirCreate", "OnQuotaHit"]),
    (OperationKind::HardLink, &["BeforeHardLink", "AfterHardLink"]),
    (OperationKind::List, &["OnDirList"]),
    (OperationKind::Open, &["BeforeFileDownload", "BeforeFileUpload", "OnQuotaHit"]),
    (OperationKind::RemoveDir, &["BeforeDirDelete", "AfterDirDelete"]),
    (OperationKind::RemoveFile, &["BeforeFileDelete", "AfterFileDelete"]),
    (OperationKind::Rename, &["BeforeFileRename", "AfterFileRename"]),
    (OperationKind::SetAttributes, &["BeforeSetAttributes", "AfterSetAttributes"]),
    (OperationKind::Symlink, &["BeforeSymlink", "AfterSymlink"]),
];

fn before_name(operation: &Operation<'_>) -> Option<&'static str> {
    Some(match operation {
        Operation::Commit(_) => "BeforeCommit",
        Operation::Copy(_) => "BeforeFileCopy",
        Operation::CreateDir(_) => "BeforeDirCreate",
        Operation::HardLink(_) => "BeforeHardLink",
        Operation::List(_) => "OnDirList",
        Operation::Open(o) if o.options.write => "BeforeFileUpload",
        Operation::Open(_) => "BeforeFileDownload",
        Operation::RemoveDir(_) => "BeforeDirDelete",
        Operation::RemoveFile(_) => "BeforeFileDelete",
        Operation::Rename(_) => "BeforeFileRename",
        Operation::SetAttributes(_) => "BeforeSetAttributes",
        Operation::Symlink(_) => "BeforeSymlink",
        _ => return None,
    })
}

fn after_name(record: &Record) -> Option<&'static str> {
    Some(match record {
        Record::Commit(_) => "AfterFileUpload",
        Record::Copy(_) => "AfterFileCopy",
        Record::CreateDir(_) => "AfterDirCreate",
        Record::HardLink(_) => "AfterHardLink",
        Record::RemoveDir(_) => "AfterDirDelete",
        Record::RemoveFile(_) => "AfterFileDelete",
        Record::Rename(_) => "AfterFileRename",
        Record::SetAttributes(_) => "AfterSetAttributes",
        Record::Symlink(_) => "AfterSymlink",
        _ => return None,
    })
}

#[async_trait]
impl Interceptor for Hooks {
    fn interests(&self) -> OperationSet {
        self.interests
    }

    fn rewrites(&self) -> bool {
        // A listing is told which names to leave out.
        self.bound.contains_key("OnDirList")
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        let Some(name) = before_name(&operation) else { return Ok(()) };
        if !self.bound.contains_key(name) {
            return Ok(());
        }
        let record = operation.to_record();
        let what = Subject { path: Some(record.path().clone()), target: record.target().cloned() };
        let told = self.ask(name, Some(cx.session), what).await?;
        if let Operation::List(list) = operation {
            list.hide.extend(told.hidden.into_iter().map(Into::into));
        }
        Ok(())
    }

    fn after(&self, cx: &Cx<'_>, record: &Record, outcome: &Outcome) {
        let name = match &outcome.result {
            Ok(_) => after_name(record),
            Err(e) if e.kind() == ErrorKind::QuotaExceeded => Some("OnQuotaHit"),
            Err(_) => None,
        };
        if let Some(name) = name {
            self.tell(name, cx.session, Some(record.path()), record.target());
        }
    }

    fn transferred(&self, session: &Arc<Session>, transfer: &TransferRecord) {
        let name = match (transfer.direction, transfer.end) {
            (Direction::Download, _) => "AfterFileDownload",
            (Direction::Upload, TransferEnd::Parked) => "AfterFileParked",
            (Direction::Upload, TransferEnd::Aborted) => "AfterFileAborted",
            // Told by the commit itself.
            (Direction::Upload, TransferEnd::Done) => return,
        };
        self.tell(name, session, Some(&transfer.path), None);
    }

    async fn decide(&self, session: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        let name = match &step {
            Lifecycle::Connect { .. } => "OnNewConnection",
            Lifecycle::SoftwareId { .. } => "BeforeSendSoftwareID",
            Lifecycle::AuthRequest { .. } => "OnAuthRequest",
            Lifecycle::AuthRequestResult { allowed: true, .. } => "OnAuthRequestAllowed",
            Lifecycle::AuthRequestResult { allowed: false, .. } => "OnAuthRequestDenied",
            Lifecycle::AuthQuestions { .. } => "OnAuthInteractiveSetQuestions",
            Lifecycle::AuthStep { credential, .. } => match credential {
                Credential::Answers(_) => "OnAuthInteractive",
                Credential::Certificate(_) | Credential::Key(_) => "OnAuthPKI",
                Credential::Password(_) => "OnAuthPassword",
            },
            Lifecycle::AuthResult { success: true, .. } => "OnAuthSuccess",
            Lifecycle::AuthResult { success: false, .. } => "OnAuthFail",
            Lifecycle::OpenChannel(kind) => match kind {
                ChannelKind::Sftp => "BeforeOpenSFTP",
                ChannelKind::Shell => "BeforeOpenShell",
                ChannelKind::Command => "BeforeOpenCmd",
                ChannelKind::ClientForward => "BeforeOpenClientFwd",
                ChannelKind::ServerForward => "BeforeOpenServerFwd",
            },
            Lifecycle::Command { .. } => "BeforeCommand",
            Lifecycle::Close(_) => "OnConnectionClose",
        };
        if let (Lifecycle::Close(_), Some(session)) = (&step, session) {
            self.settle(session.id()).await;
        }
        let told = match self.ask(name, session, Subject::default()).await {
            Ok(told) => told,
            Err(e) => return Verdict::Refuse(e),
        };
        match step {
            Lifecycle::AuthQuestions { questions, .. } => {
                place(questions, told.questions);
                Verdict::Pass
            }
            Lifecycle::AuthStep { .. } if told.authenticated => Verdict::Authenticated,
            _ => Verdict::Pass,
        }
    }
}

/// A hook's questions stand instead of the account's own, at their positions.
fn place(questions: &mut Vec<Question>, mut told: Vec<(usize, Question)>) {
    if !told.is_empty() {
        told.sort_by_key(|(position, _)| *position);
        *questions = told.into_iter().map(|(_, q)| q).collect();
    }
}
