//! `Hooks`: the interceptor that runs handlers at their events.
//!
//! For one event, handlers bound to the session's user run before the server-wide ones, each group in
//! ascending priority. In an awaited event a refusal or a failure ends the round. What is not awaited is
//! queued with a frozen copy of its paths and runs in order, session by session.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::aliases::Aliases;
use super::engine::{Engine, ScriptError};
use super::events::{EVENTS, EventSpec, Veto, event};
use super::grants::{Grant, Grants};
use super::invocation::{Content, Effects, Invocation, Subject};
use super::modules::ScriptFolder;
use super::services::{Services, Traced};
use super::worker::Handler;
use crate::auth::{Credential, Question};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Direction, TransferEnd, TransferRecord};
use crate::intercept::{Cx, Interceptor};
use crate::lifecycle::{ChannelKind, Lifecycle, Verdict};
use crate::operation::{Operation, OperationKind, OperationSet, Outcome, Record};
use crate::path::VPath;
use crate::session::{Actor, Session, SessionId};
use crate::verdict::{Finding, Upload};

/// How long the end of a session waits for what it has queued.
const SETTLE: Duration = Duration::from_secs(60);

/// How long it waits for files that the session has open, and how often it looks.
const LET_GO: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

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
    /// Its own limit of time; `None`: the engine's, or what the event's table says.
    pub time: Option<Duration>,
    /// What it may do besides deciding.
    pub grants: Grants,
    /// Where it is a module: the scripts folder, and the file's path in it.
    pub module: Option<(ScriptFolder, String)>,
}

impl Binding {
    /// A server-wide binding of a classic script without grants.
    pub fn new(event: impl Into<String>, name: impl Into<String>, source: impl Into<String>) -> Self {
        Binding {
            event: event.into(),
            name: name.into(),
            source: source.into(),
            users: Vec::new(),
            priority: 0,
            on_error: OnError::default(),
            time: None,
            grants: Grants::NONE,
            module: None,
        }
    }
}

pub(super) struct Bound {
    pub(super) event: &'static EventSpec,
    handler: Arc<Handler>,
    users: Vec<String>,
    on_error: OnError,
    time: Duration,
    grants: Grants,
}

impl Bound {
    /// Compiles. Errors: `InvalidArgument` for an event that there is not, and for a script that does not compile,
    /// with file and line.
    pub(super) fn new(engine: &Engine, b: Binding) -> Result<Self> {
        let event = known_event(&b.event)?;
        let module = b.module.as_ref().map(|(folder, path)| (path.as_str(), folder.clone()));
        let handler = engine.compile(&b.name, &b.source, module)?;
        let time = b.time.or(engine.limits().time).unwrap_or(event.budget);
        Ok(Bound { event, handler, users: b.users, on_error: b.on_error, time, grants: b.grants })
    }

    fn is_for(&self, user: &str) -> bool {
        self.users.is_empty() || self.users.iter().any(|u| u == user)
    }

    pub(super) fn invocation(
        &self,
        engine: &Engine,
        services: &Services,
        session: Option<Arc<Session>>,
        subject: Subject,
    ) -> Invocation {
        Invocation::new(
            self.event,
            session,
            subject,
            Instant::now() + self.time,
            engine.limits().output,
            Arc::clone(&self.handler.name),
            self.grants,
            services.clone(),
        )
    }

    /// Runs the handler; what it logged of its own failure is without secrets.
    pub(super) async fn run(
        &self,
        engine: &Engine,
        mut invocation: Invocation,
    ) -> (std::result::Result<(), ScriptError>, Effects) {
        let tracer = match (&invocation.services.tracer, &invocation.session) {
            (Some(tracer), Some(session)) if tracer.follows(session.id()) => {
                Some((Arc::clone(tracer), session.id().clone()))
            }
            _ => None,
        };
        invocation.traced = tracer.is_some();
        let began = Instant::now();
        let invocation = Arc::new(invocation);
        let result = engine.run(&self.handler, &invocation).await;
        let result = result.map_err(|e| match e {
            ScriptError::Threw(words) => ScriptError::Threw(invocation.without_secrets(&words)),
            other => other,
        });
        let effects = std::mem::take(&mut *invocation.effects());
        let elapsed = began.elapsed();
        let outcome = match (&result, &effects.quarantined, &effects.blocked) {
            (Err(_), _, _) => "failed",
            (Ok(()), Some(_), _) => "quarantined",
            (Ok(()), None, Some(_)) => "blocked",
            (Ok(()), None, None) => "passed",
        };
        engine.tally.add(self.event.name, &self.handler.name, outcome, elapsed);
        if let Some((tracer, session)) = tracer {
            let words = match &result {
                Err(e) => e.to_string(),
                Ok(()) => {
                    effects.quarantined.as_ref().or(effects.blocked.as_ref()).cloned().unwrap_or_default()
                }
            };
            tracer.ran(&session, self.traced(&invocation.subject, outcome, words, &effects, elapsed));
        }
        (result, effects)
    }
}

impl Bound {
    fn traced(
        &self,
        subject: &Subject,
        outcome: &'static str,
        words: String,
        effects: &Effects,
        elapsed: Duration,
    ) -> Traced {
        Traced {
            event: self.event.name,
            handler: Arc::clone(&self.handler.name),
            path: subject.path.clone(),
            target: subject.target.clone(),
            outcome,
            words,
            lines: effects.lines.clone(),
            elapsed,
        }
    }
}

/// Handlers by event, in the order in which they run.
type Table = HashMap<&'static str, Vec<Arc<Bound>>>;

/// The interceptor that runs handlers.
pub struct Hooks {
    engine: Arc<Engine>,
    services: Services,
    bound: Arc<Table>,
    interests: OperationSet,
    /// Some handler may limit a session's speed.
    paces: bool,
    aliases: Aliases,
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
    subject: Subject,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hooks {
    /// Compiles and binds, with no services. Errors: see [`Hooks::with`].
    pub fn new(engine: Arc<Engine>, bindings: Vec<Binding>) -> Result<Arc<Self>> {
        Self::with(engine, Services::default(), bindings)
    }

    /// Compiles and binds. Blocks. Errors: `InvalidArgument` for an event that there is not, or a script that does
    /// not compile, with file and line.
    pub fn with(engine: Arc<Engine>, services: Services, mut bindings: Vec<Binding>) -> Result<Arc<Self>> {
        bindings.sort_by_key(|b| (b.users.is_empty(), b.priority));
        let mut bound = Table::new();
        for b in bindings {
            let b = Bound::new(&engine, b)?;
            bound.entry(b.event.name).or_default().push(Arc::new(b));
        }
        let is_bound = |kind: &OperationKind| {
            EVENTS_OF.iter().any(|(k, names)| k == kind && names.iter().any(|n| bound.contains_key(n)))
        };
        let kinds: Vec<_> = OperationKind::ALL.iter().copied().filter(is_bound).collect();
        let mut interests = OperationSet::of(&kinds);
        let paces = bound.values().flatten().any(|b| b.grants.has(Grant::Speed));
        if paces {
            interests = interests.union(OperationSet::of(&[OperationKind::Read, OperationKind::Write]));
        }
        // An upload that was sent elsewhere is looked at under its old name.
        if bound.contains_key("BeforeFileUpload") {
            interests =
                interests.union(OperationSet::of(&[OperationKind::SetAttributes, OperationKind::Stat]));
        }
        Ok(Arc::new(Hooks {
            engine,
            services,
            bound: Arc::new(bound),
            interests,
            paces,
            aliases: Aliases::default(),
            queue: Arc::default(),
        }))
    }

    /// Events that were dropped because too many were queued.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Runs an awaited event; the error refuses what was asked.
    async fn ask(&self, name: &str, session: Option<&Arc<Session>>, what: Subject) -> Result<Effects> {
        let mut told = Effects::default();
        let Some(handlers) = self.bound.get(name) else { return Ok(told) };
        let user = session.map(|s| user_of(s)).unwrap_or_default();
        for b in handlers.iter().filter(|b| b.is_for(&user)) {
            let invocation = b.invocation(&self.engine, &self.services, session.cloned(), what.clone());
            let (result, effects) = b.run(&self.engine, invocation).await;
            if let Err(e) = result {
                failed(b, session, &e);
                if b.event.veto.refuses() && b.on_error == OnError::Block {
                    return Err(unruled(b.event, self.services.owner()));
                }
                continue;
            }
            if effects.quarantined.is_some() {
                return Ok(effects);
            }
            if let Some(words) = effects.blocked {
                return Err(Error::refused(words));
            }
            told.hidden.extend(effects.hidden);
            told.questions.extend(effects.questions);
            told.authenticated |= effects.authenticated;
            told.redirected = effects.redirected.or(told.redirected);
            told.software_id = effects.software_id.or(told.software_id);
        }
        Ok(told)
    }

    /// Queues an event that nobody waits for.
    fn tell(&self, name: &str, session: &Arc<Session>, subject: Subject) {
        let Some(handlers) = self.bound.get(name) else { return };
        let user = user_of(session);
        let Some(first) = handlers.iter().find(|b| b.is_for(&user)) else { return };
        if self.queue.length.fetch_add(1, Ordering::SeqCst) >= QUEUED {
            self.queue.length.fetch_sub(1, Ordering::SeqCst);
            let n = self.queue.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_power_of_two() {
                tracing::error!(target: "hook", dropped = n, "events are dropped: handlers are too slow");
            }
            return;
        }
        let after = After { event: first.event, session: Arc::clone(session), subject };
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
        let (engine, services, bound) =
            (Arc::clone(&self.engine), self.services.clone(), Arc::clone(&self.bound));
        runtime.spawn(drain(engine, services, bound, Arc::clone(&self.queue), session.id().clone()));
    }

    /// Waits until a session has let go of its files and its queued events have run, but not for ever: its
    /// close is the last that handlers hear of it.
    async fn settle(&self, session: &Session) {
        let let_go = async {
            while !session.transfers().is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(LET_GO, let_go).await;
        let id = session.id();
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
        let _ = tokio::time::timeout(SETTLE, wait).await;
    }
}

/// Runs what a session has queued, one after the other.
async fn drain(engine: Arc<Engine>, services: Services, bound: Arc<Table>, queue: Arc<Queue>, id: SessionId) {
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
        for b in bound.get(after.event.name).into_iter().flatten().filter(|b| b.is_for(&user)) {
            let _leave = engine.background().await;
            let session = Some(Arc::clone(&after.session));
            let invocation = b.invocation(&engine, &services, session, after.subject.clone());
            let (result, _) = b.run(&engine, invocation).await;
            if let Err(e) = result {
                failed(b, Some(&after.session), &e);
            }
        }
        queue.length.fetch_sub(1, Ordering::SeqCst);
    }
    queue.drained.notify_waiters();
}

/// What a client sees where a handler failed. An upload that could not be judged is not thrown away for it:
/// it is kept for its sender to try again.
pub fn unruled(event: &EventSpec, owner: &str) -> Error {
    let words = format!("refused: a rule of this {owner} failed");
    match event.veto {
        Veto::Commit => Error::new(ErrorKind::Internal).with_detail(words).with_hint("what arrived is kept"),
        _ => Error::refused(words),
    }
}

fn failed(b: &Bound, session: Option<&Arc<Session>>, e: &ScriptError) {
    let session = session.map(|s| s.id().to_string()).unwrap_or_default();
    tracing::error!(target: "hook", event = b.event.name, handler = %b.handler.name, %session, "{e}");
}

/// Who a handler's `users` are compared with: the account, or before login the name asked for.
pub fn user_of(session: &Session) -> Arc<str> {
    let user = session.user_id();
    if user.is_empty() { session.requested_user() } else { user }
}

/// The event of this name. Errors: `InvalidArgument`, which hints at the nearest one.
pub fn known_event(name: &str) -> Result<&'static EventSpec> {
    event(name).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{name}' is not an event"))
            .with_hint(closest(name))
    })
}

fn closest(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let by_case = EVENTS.iter().find(|e| e.name.eq_ignore_ascii_case(name));
    let near =
        by_case.or_else(|| EVENTS.iter().min_by_key(|e| distance(&e.name.to_ascii_lowercase(), &lower)));
    near.map(|e| format!("did you mean '{}'?", e.name)).unwrap_or_default()
}

/// Levenshtein's distance, over bytes.
pub(super) fn distance(a: &str, b: &str) -> usize {
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

/// The events that hang on operations of a kind. Those of a file that is closed are told by `transferred`.
pub fn events_of(kind: OperationKind) -> &'static [&'static str] {
    EVENTS_OF.iter().find(|(k, _)| *k == kind).map_or(&[], |(_, names)| names)
}

/// The event that decides about an operation, if there is one.
pub fn before_name(operation: &Operation<'_>) -> Option<&'static str> {
    Some(match operation {
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

/// The event that tells that an operation was carried out, if there is one.
pub fn after_name(record: &Record) -> Option<&'static str> {
    Some(match record {
        Record::Commit(r) if !r.early => "AfterFileUpload",
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

/// The event of a step in a connection's life.
pub fn step_name(step: &Lifecycle<'_>) -> &'static str {
    match step {
        Lifecycle::Connect { .. } => "OnNewConnection",
        Lifecycle::SoftwareId { .. } => "BeforeSendSoftwareID",
        Lifecycle::AuthRequest { .. } => "OnAuthRequest",
        Lifecycle::AuthRequestResult { allowed: true, .. } => "OnAuthRequestAllowed",
        Lifecycle::AuthRequestResult { allowed: false, .. } => "OnAuthRequestDenied",
        Lifecycle::AuthQuestions { .. } => "OnAuthInteractiveSetQuestions",
        Lifecycle::AuthStep { credential, .. } => match credential {
            Credential::Answers(_) => "OnAuthInteractive",
            // What is no word that a handler could compare with one.
            Credential::AccessKey(_)
            | Credential::Certificate(_)
            | Credential::Digest(_)
            | Credential::Key(_)
            | Credential::Token(_) => "OnAuthPKI",
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
        Lifecycle::BlockAdded(_) => "OnBlocklistAdd",
        Lifecycle::BlockHit(_) => "OnBlocklistHit",
        Lifecycle::Strike(_) => "OnProtectorStrike",
        Lifecycle::Close(_) => "OnConnectionClose",
    }
}

#[async_trait]
impl Interceptor for Hooks {
    fn interests(&self) -> OperationSet {
        self.interests
    }

    fn rewrites(&self) -> bool {
        // A listing is told which names to leave out; some operations may be sent elsewhere.
        EVENTS.iter().any(|e| {
            (e.changes.contains(&"RemoveFromListDir") || e.changes.contains(&"RedirectTo"))
                && self.bound.contains_key(e.name)
        })
    }

    async fn before(&self, cx: &Cx<'_>, mut operation: Operation<'_>) -> Result<(), Error> {
        if operation.kind().is_chunk() {
            return match cx.session.speed_limit().filter(|_| self.paces) {
                Some(throttle) => throttle.before(cx, operation).await,
                None => Ok(()),
            };
        }
        self.aliases.apply(cx.session.id(), &mut operation, Instant::now());
        let Some(name) = before_name(&operation) else { return Ok(()) };
        if !self.bound.contains_key(name) {
            return Ok(());
        }
        let told = self.ask(name, Some(cx.session), subject_of(&operation.to_record(), None)).await?;
        if let Some(to) = told.redirected {
            if let Operation::Open(open) = &operation
                && open.options.write
            {
                self.aliases.add(cx.session.id(), open.path.clone(), to.clone(), Instant::now());
            }
            redirect(&mut operation, to);
        }
        if let Operation::List(list) = operation {
            list.hide.extend(told.hidden.into_iter().map(Into::into));
        }
        Ok(())
    }

    fn judges(&self) -> bool {
        self.bound.contains_key("BeforeCommit") || self.bound.contains_key("AfterFileUpload")
    }

    async fn judge(&self, cx: &Cx<'_>, upload: &Upload<'_>) -> Result<Option<Finding>, Error> {
        let user = user_of(cx.session);
        if !self.bound.get("BeforeCommit").is_some_and(|all| all.iter().any(|b| b.is_for(&user))) {
            return Ok(None);
        }
        let subject = Subject {
            path: Some(upload.path.clone()),
            size: Some(upload.size),
            content: upload.content.map(|c| Content(Arc::clone(c))),
            findings: upload.findings.to_vec(),
            ..Subject::default()
        };
        let told = self.ask("BeforeCommit", Some(cx.session), subject).await?;
        let Some(why) = told.quarantined else { return Ok(Some(Finding::new("hooks", "passed"))) };
        match &self.services.quarantine {
            Some(quarantine) => {
                let kept = quarantine.keep(cx.session, upload, &why).await;
                kept.inspect_err(|e| tracing::error!(target: "hook", "nothing was put in quarantine: {e:#}"))
                    .ok();
            }
            None => tracing::error!(target: "hook", "there is no quarantine: the upload is thrown away"),
        }
        Err(Error::refused(why))
    }

    fn after(&self, cx: &Cx<'_>, record: &Record, outcome: &Outcome) {
        if record.kind().is_chunk() {
            if let Some(throttle) = cx.session.speed_limit().filter(|_| self.paces) {
                throttle.after(cx, record, outcome);
            }
            return;
        }
        if outcome.result.is_ok()
            && let Some(name) = after_name(record)
        {
            let published = outcome.result.as_ref().ok().and_then(|d| d.metadata.as_ref()).map(|m| m.size);
            self.tell(name, cx.session, subject_of(record, published));
        }
    }

    async fn quota_hit(&self, session: &Arc<Session>, record: &Record) {
        self.tell("OnQuotaHit", session, subject_of(record, None));
    }

    fn transferred(&self, session: &Arc<Session>, transfer: &TransferRecord) {
        let name = match (transfer.direction, transfer.end) {
            (Direction::Download, _) => "AfterFileDownload",
            (Direction::Upload, TransferEnd::Parked) => "AfterFileParked",
            (Direction::Upload, TransferEnd::Aborted) => "AfterFileAborted",
            // Told by the commit itself.
            (Direction::Upload, TransferEnd::Done) => return,
        };
        let path = Some(transfer.path.clone());
        self.tell(name, session, Subject { path, size: Some(transfer.bytes), ..Subject::default() });
    }

    async fn decide(&self, session: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        let name = step_name(&step);
        if let (Lifecycle::Close(ending), Some(session)) = (&step, session) {
            self.aliases.forget(session.id());
            self.settle(session).await;
            if ending.actor != Actor::Client {
                // Nothing is left that could be refused.
                let _ = self.ask("OnSessionTerminated", Some(session), Subject::default()).await;
            }
        }
        let (peer, facts) = match &step {
            Lifecycle::Connect { peer, .. } => (Some(peer.ip().to_canonical()), None),
            Lifecycle::BlockAdded(n) | Lifecycle::BlockHit(n) | Lifecycle::Strike(n) => {
                (Some(n.address.to_canonical()), Some(n.facts.clone()))
            }
            _ => (None, None),
        };
        let told = match self.ask(name, session, Subject { peer, facts, ..Subject::default() }).await {
            Ok(told) => told,
            Err(e) => return Verdict::Refuse(e),
        };
        match step {
            Lifecycle::SoftwareId { id } => {
                if let Some(new) = told.software_id {
                    *id = new;
                }
                Verdict::Pass
            }
            Lifecycle::AuthQuestions { questions, .. } => {
                place(questions, told.questions);
                Verdict::Pass
            }
            Lifecycle::AuthStep { .. } if told.authenticated => Verdict::Authenticated,
            _ => Verdict::Pass,
        }
    }
}

fn subject_of(record: &Record, published: Option<u64>) -> Subject {
    let size = match record {
        Record::Commit(r) => Some(published.unwrap_or(r.size)),
        Record::Abort(r) => Some(r.size),
        Record::Park(r) => Some(r.size),
        Record::Open(r) => r.options.size_hint,
        _ => None,
    };
    let findings = match record {
        Record::Commit(r) => r.findings.clone(),
        _ => Vec::new(),
    };
    let (path, target) = (Some(record.path().clone()), record.target().cloned());
    Subject { path, target, size, findings, ..Subject::default() }
}

/// Sends an operation elsewhere; of two paths, the target.
fn redirect(operation: &mut Operation<'_>, to: VPath) {
    match operation {
        Operation::Copy(r) => r.to = to,
        Operation::CreateDir(r) => r.path = to,
        Operation::HardLink(r) => r.to = to,
        Operation::List(r) => r.path = to,
        Operation::Open(r) => r.path = to,
        Operation::Rename(r) => r.to = to,
        Operation::Symlink(r) => r.path = to,
        // Their events do not offer it.
        _ => {}
    }
}

/// A hook's questions stand instead of the account's own, at their positions.
fn place(questions: &mut Vec<Question>, mut told: Vec<(usize, Question)>) {
    if !told.is_empty() {
        told.sort_by_key(|(position, _)| *position);
        *questions = told.into_iter().map(|(_, q)| q).collect();
    }
}
