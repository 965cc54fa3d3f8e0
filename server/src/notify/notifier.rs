//! `Notifier`: the interceptor that asks and tells receivers of a site's events.
//!
//! It stands behind the scripts in both chains and sees what they left. Who is asked is asked in order, and
//! the first that refuses ends the round; then the event is told to those who only want to know. An operation
//! that somebody is told of afterwards is written to the outbox before it begins, as the last thing before the
//! store; where that cannot be written it is refused, unless the receiver's `on_error` is `pass`.
//!
//! What tells of a refusal (`OnQuotaHit`, what the protector does) has no operation before which it could be written:
//! it is written before the refusal is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Direction, OperationId, TransferEnd, TransferRecord};
use session_core::intercept::{Cx, Interceptor};
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::operation::{Operation, OperationKind, OperationSet, Outcome, Record};
use session_core::script::{
    EventSpec, after_name, before_name, event, events_of, step_name, unruled, user_of,
};
use session_core::session::{Actor, Session, SessionId};
use session_core::verdict::{Finding, Upload};

use super::event::{About, body, new_id};
use super::receiver::{Receiver, Reply};
use crate::config::OnError;
use crate::outbox::{self, Intent, Outbox, recover};

/// How long the end of a session waits for files that it has open, and how often it looks.
const LET_GO: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// The line of events without a session.
const SERVER: &str = "";

/// A receiver as it is bound.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) events: Vec<String>,
    /// Empty: of all.
    pub(crate) users: Vec<String>,
    pub(crate) priority: i32,
    /// The client waits for it, where it waits at all.
    pub(crate) waits: bool,
    pub(crate) on_error: OnError,
}

impl Subscriber {
    fn is_for(&self, user: &str) -> bool {
        self.users.is_empty() || self.users.iter().any(|u| u == user)
    }

    fn is_asked(&self, event: &EventSpec) -> bool {
        self.waits && event.awaited
    }
}

/// An event that was written before its operation.
struct Promise {
    id: String,
    event: &'static EventSpec,
}

/// The interceptor that asks and tells receivers.
pub(crate) struct Notifier {
    site: Arc<str>,
    by_event: HashMap<&'static str, Vec<Subscriber>>,
    outbox: Arc<Outbox>,
    interests: OperationSet,
    promises: Mutex<HashMap<(SessionId, OperationId), Vec<Promise>>>,
}

/// What is told of a file when it is closed.
const OF_FILES: [&str; 3] = ["AfterFileAborted", "AfterFileDownload", "AfterFileParked"];

/// The events that may come of an operation, besides those of a failure.
fn promised(operation: &Operation<'_>) -> &'static [&'static str] {
    match operation {
        Operation::Open(o) if o.options.write => &["AfterFileAborted", "AfterFileParked"],
        Operation::Open(_) => &["AfterFileDownload"],
        Operation::Commit(_) => &["AfterFileUpload"],
        other => {
            let of = events_of(other.kind());
            let at = of.iter().position(|n| n.starts_with("After")).unwrap_or(of.len());
            match other {
                // It is told with the end of the file that was opened.
                Operation::Abort(_) => &[],
                _ => of.get(at..at + 1).unwrap_or_default(),
            }
        }
    }
}

impl Notifier {
    /// `None` where nobody is told of anything. `subscribers` are in the order in which they are asked.
    pub(crate) fn new(site: &str, subscribers: Vec<Subscriber>, outbox: Arc<Outbox>) -> Option<Arc<Self>> {
        let mut by_event: HashMap<&'static str, Vec<Subscriber>> = HashMap::new();
        for s in &subscribers {
            for spec in s.events.iter().filter_map(|name| event(name)) {
                by_event.entry(spec.name).or_default().push(s.clone());
            }
        }
        if by_event.is_empty() {
            return None;
        }
        let is_bound = |kind: &OperationKind| {
            events_of(*kind).iter().any(|n| by_event.contains_key(n))
                || *kind == OperationKind::Open && OF_FILES.iter().any(|n| by_event.contains_key(n))
        };
        let kinds: Vec<_> = OperationKind::ALL.iter().copied().filter(is_bound).collect();
        let interests = OperationSet::of(&kinds);
        Some(Arc::new(Notifier {
            site: site.into(),
            by_event,
            outbox,
            interests,
            promises: Mutex::default(),
        }))
    }

    /// Everybody who is told of something.
    pub(crate) fn receivers(&self) -> impl Iterator<Item = Arc<Receiver>> {
        self.by_event.values().flatten().map(|s| Arc::clone(&s.receiver))
    }

    fn promises(&self) -> MutexGuard<'_, HashMap<(SessionId, OperationId), Vec<Promise>>> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of an event who are only told, for a user.
    fn told<'a>(&'a self, spec: &EventSpec, user: &'a str) -> impl Iterator<Item = &'a Subscriber> {
        let awaited = spec.awaited;
        let of = self.by_event.get(spec.name).into_iter().flatten();
        of.filter(move |s| s.is_for(user) && !(s.waits && awaited))
    }

    fn intent(
        &self,
        id: String,
        spec: &EventSpec,
        session: Option<&Arc<Session>>,
        about: &About,
        clue: Value,
    ) -> Option<(Intent, OnError)> {
        let user = session.map(|s| user_of(s)).unwrap_or_default();
        let receivers: Vec<&Subscriber> = self.told(spec, &user).collect();
        // The strictest decides.
        let on_error = match receivers.iter().any(|s| s.on_error == OnError::Block) {
            true => OnError::Block,
            false => OnError::Pass,
        };
        if receivers.is_empty() {
            return None;
        }
        let intent = Intent {
            body: self.body(&id, spec, session, about),
            session: session.map_or(SERVER, |s| s.id().as_str()).to_owned(),
            site: (*self.site).to_owned(),
            event: spec.name.to_owned(),
            receivers: receivers.iter().map(|s| s.receiver.name.clone()).collect(),
            clue,
            id,
        };
        Some((intent, on_error))
    }

    fn body(&self, id: &str, spec: &EventSpec, session: Option<&Arc<Session>>, about: &About) -> Value {
        let now = session.map_or_else(std::time::SystemTime::now, |s| s.now());
        body(id, spec.name, &self.site, session.map(|s| &**s), about, now)
    }

    /// Asks everybody who is asked of an event, then tells everybody who is told.
    async fn ask(&self, name: &str, session: Option<&Arc<Session>>, about: &About) -> Result<()> {
        let Some((of, spec)) = self.by_event.get(name).zip(event(name)) else { return Ok(()) };
        let user = session.map(|s| user_of(s)).unwrap_or_default();
        for s in of.iter().filter(|s| s.is_for(&user) && s.is_asked(spec)) {
            let id = new_id();
            let words = self.body(&id, spec, session, about).to_string();
            match s.receiver.call(&id, &words).await {
                Ok(Reply::Pass) => {}
                Ok(Reply::Block(words)) => return Err(Error::refused(words)),
                Err(failure) => {
                    let session = session.map(|s| s.id().to_string()).unwrap_or_default();
                    let receiver = &s.receiver.name;
                    tracing::error!(target: "hook", event = name, receiver, %session, "{}", failure.words);
                    if spec.veto.refuses() && s.on_error == OnError::Block {
                        return Err(unruled(spec, "server"));
                    }
                }
            }
        }
        let Some((intent, on_error)) = self.intent(new_id(), spec, session, about, Value::Null) else {
            return Ok(());
        };
        match self.outbox.tell(intent).await {
            Ok(()) => Ok(()),
            Err(e) => match on_error {
                OnError::Block if spec.veto.refuses() => Err(untold(&e)),
                _ => {
                    tracing::error!(target: "outbox", event = name, "an event is lost: {e:#}");
                    Ok(())
                }
            },
        }
    }

    /// Tells of what cannot be refused any more and nobody waits for.
    fn tell_soon(&self, name: &str, session: &Arc<Session>, about: &About) {
        let Some(spec) = event(name).filter(|s| self.by_event.contains_key(s.name)) else { return };
        if let Some((intent, _)) = self.intent(new_id(), spec, Some(session), about, Value::Null) {
            self.outbox.tell_soon(intent);
        }
    }

    /// Has something that the protector did written, soon; whether anybody is to be told of it.
    pub(crate) fn notice(&self, step: &Lifecycle<'_>) -> bool {
        let (Lifecycle::BlockAdded(n) | Lifecycle::BlockHit(n) | Lifecycle::Strike(n)) = step else {
            return false;
        };
        let about = About { peer: Some(n.address), facts: Some(n.facts.clone()), ..About::default() };
        let Some(spec) = event(step_name(step)) else { return false };
        let intent = self.intent(new_id(), spec, None, &about, Value::Null);
        intent.map(|(intent, _)| self.outbox.notice_soon(intent)).is_some()
    }

    /// Writes what an operation may have to tell, before it begins.
    async fn promise(&self, cx: &Cx<'_>, operation: &Operation<'_>) -> Result<()> {
        let user = user_of(cx.session);
        let wanted: Vec<&'static EventSpec> = promised(operation)
            .iter()
            .filter_map(|name| event(name))
            .filter(|spec| self.told(spec, &user).next().is_some())
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let about = About::record(&operation.to_record(), None);
        let clue = recover::clue(cx, operation, &user).await;
        let key = (cx.session.id().clone(), cx.id);
        let mut strict = false;
        let mut intents = Vec::new();
        let mut made = Vec::new();
        for spec in wanted {
            // A link on the way leads here again: it is the same event.
            let known = self
                .promises()
                .get(&key)
                .and_then(|all| all.iter().find(|p| p.event.name == spec.name).map(|p| p.id.clone()));
            let id = known.clone().unwrap_or_else(new_id);
            let Some((intent, on_error)) =
                self.intent(id.clone(), spec, Some(cx.session), &about, clue.clone())
            else {
                continue;
            };
            strict |= on_error == OnError::Block;
            intents.push(intent);
            if known.is_none() {
                made.push(Promise { id, event: spec });
            }
        }
        // Remembered first: whoever gives this up leaves an intent that `after` settles.
        self.promises().entry(key.clone()).or_default().extend(made);
        match self.outbox.intend(intents).await {
            Ok(()) => Ok(()),
            Err(e) if strict => Err(untold(&e)),
            Err(e) => {
                tracing::error!(target: "outbox", "events will be lost: {e:#}");
                self.promises().remove(&key);
                Ok(())
            }
        }
    }

    /// Writes what became of the promises of an operation: `name` is what there is to tell.
    fn keep(&self, session: &Arc<Session>, id: OperationId, name: Option<&str>, about: impl Fn() -> About) {
        let promises = self.promises().remove(&(session.id().clone(), id)).unwrap_or_default();
        let mut kept = false;
        for Promise { id, event } in promises {
            let happened = name == Some(event.name);
            kept |= happened;
            self.outbox.settle(
                id.clone(),
                match happened {
                    true => outbox::Outcome::Happened(self.body(&id, event, Some(session), &about())),
                    false => outbox::Outcome::Nothing,
                },
            );
        }
        if let (false, Some(name)) = (kept, name) {
            // Nothing was written before: the disk was full, and that was allowed.
            self.tell_soon(name, session, &about());
        }
    }
}

/// What a client sees where the outbox takes nothing.
fn untold(e: &Error) -> Error {
    tracing::error!(target: "outbox", "what cannot be told is not done: {e:#}");
    Error::new(ErrorKind::Throttled)
        .with_detail("what is done here must be told to others, and cannot be at the moment")
}

#[async_trait]
impl Interceptor for Notifier {
    fn interests(&self) -> OperationSet {
        self.interests
    }

    fn rewrites(&self) -> bool {
        // It does not, but it stands behind who does: it need not be asked a second time.
        true
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if let Some(name) = before_name(&operation).filter(|n| self.by_event.contains_key(n)) {
            self.ask(name, Some(cx.session), &About::record(&operation.to_record(), None)).await?;
        }
        self.promise(cx, &operation).await
    }

    fn judges(&self) -> bool {
        self.by_event.contains_key("BeforeCommit") || self.by_event.contains_key("AfterFileUpload")
    }

    async fn judge(&self, cx: &Cx<'_>, upload: &Upload<'_>) -> Result<Option<Finding>, Error> {
        let Some((of, spec)) = self.by_event.get("BeforeCommit").zip(event("BeforeCommit")) else {
            return Ok(None);
        };
        let about = About {
            path: Some(upload.path.clone()),
            size: Some(upload.size),
            findings: upload.findings.to_vec(),
            ..About::default()
        };
        self.ask("BeforeCommit", Some(cx.session), &about).await?;
        let user = user_of(cx.session);
        let was_asked = of.iter().any(|s| s.is_for(&user) && s.is_asked(spec));
        Ok(was_asked.then(|| Finding::new("receivers", "passed")))
    }

    fn after(&self, cx: &Cx<'_>, record: &Record, outcome: &Outcome) {
        let about = || {
            let published = outcome.result.as_ref().ok().and_then(|d| d.metadata.as_ref()).map(|m| m.size);
            About::record(record, published)
        };
        match &outcome.result {
            // The end of the file decides.
            Ok(_) if record.kind() == OperationKind::Open => {}
            Ok(_) => self.keep(cx.session, cx.id, after_name(record), about),
            Err(e) if e.kind() == ErrorKind::Canceled && record.kind() != OperationKind::Open => {
                // Cut in the middle: the store may have done it.
                let promises = self.promises().remove(&(cx.session.id().clone(), cx.id));
                promises.into_iter().flatten().for_each(|p| self.outbox.unclear(p.id));
            }
            Err(_) => self.keep(cx.session, cx.id, None, about),
        }
    }

    async fn quota_hit(&self, session: &Arc<Session>, record: &Record) {
        // Nobody is asked: it is refused already.
        let _ = self.ask("OnQuotaHit", Some(session), &About::record(record, None)).await;
    }

    fn transferred(&self, session: &Arc<Session>, transfer: &TransferRecord) {
        let name = match (transfer.direction, transfer.end) {
            (Direction::Download, _) => Some("AfterFileDownload"),
            (Direction::Upload, TransferEnd::Parked) => Some("AfterFileParked"),
            (Direction::Upload, TransferEnd::Aborted) => Some("AfterFileAborted"),
            // Told by the commit itself.
            (Direction::Upload, TransferEnd::Done) => None,
        };
        let about =
            || About { path: Some(transfer.path.clone()), size: Some(transfer.bytes), ..About::default() };
        self.keep(session, transfer.opened_by, name, about);
    }

    async fn decide(&self, session: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        let name = step_name(&step);
        let mut about = About::default();
        match &step {
            Lifecycle::Connect { peer, local } => {
                about.peer = Some(peer.ip());
                about.facts = Some(json!({ "port": peer.port(), "local": local.to_string() }));
            }
            // Kept when it came about: `notice`.
            Lifecycle::BlockAdded(_) | Lifecycle::BlockHit(_) | Lifecycle::Strike(_) => return Verdict::Pass,
            Lifecycle::Command { verb, argument } => {
                about.facts = Some(json!({ "command": verb, "argument": argument }));
            }
            Lifecycle::AuthResult { method, .. } => {
                about.facts = Some(json!({ "method": method.name() }));
            }
            Lifecycle::Close(ending) => {
                about.facts = Some(json!({
                    "reason": &*ending.reason, "actor": ending.actor.to_string(),
                    "sub_status": ending.code.number(),
                }));
            }
            _ => {}
        }
        if let (Lifecycle::Close(ending), Some(session)) = (&step, session) {
            let last = ["OnConnectionClose", "OnSessionTerminated"];
            if last.iter().any(|n| self.by_event.contains_key(n)) {
                // What tells of its files comes before.
                let let_go = async {
                    while !session.transfers().is_empty() {
                        tokio::time::sleep(LOOK).await;
                    }
                };
                let _ = tokio::time::timeout(LET_GO, let_go).await;
            }
            if ending.actor != Actor::Client {
                // Nothing is left that could be refused.
                let _ = self.ask("OnSessionTerminated", Some(session), &about).await;
            }
        }
        match self.ask(name, session, &about).await {
            Ok(()) => Verdict::Pass,
            Err(e) => Verdict::Refuse(e),
        }
    }
}
