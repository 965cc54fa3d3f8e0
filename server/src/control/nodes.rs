//! The sessions of all nodes: this one's table, and what the others answer from theirs.
//!
//! A question goes to every node that is alive, at the moment when it is asked; what a node does not answer in time
//! is not waited for, and said. An end is carried out, told and audited by the node that has the session, in the
//! name of who asked for it and where. One that was not answered is carried out all the same if its node is heard of
//! within a minute. Handlers, and who watches, see what the others had a second ago, so that they can look at every
//! login, and all of them together ask once.
//!
//! Deliberately absent: how nodes are reached (`crate::shared`), filters (`super::select`), changes as a stream
//! (`super::watch`).

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::registry::{PATIENCE, SessionRegistry};
use session_core::session::{Actor, Ending, Session, Snapshot};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::select::{END, LIVE, OVER, Selection};
use crate::hooks::Traces;
use crate::shared::{Others, Said};

/// How long others are waited for who are asked what they have.
const LOOK: Duration = Duration::from_secs(2);

/// The same for an end: the other node waits until it is quiet there.
const ENDS: Duration = Duration::from_secs(4);

/// How long an end may be carried out.
const LASTS: Duration = Duration::from_secs(60);

/// How old what handlers and watchers see of the others may be, and the time between two questions about a trace.
const FRESH: Duration = Duration::from_secs(1);

/// How long who follows a session of another node waits for a line.
const TRACE: Duration = Duration::from_secs(5);

/// The lines of a trace that a node tells at once, at most.
const LINES: usize = 100;

/// The sessions that a node tells of at once, at most.
const MOST: usize = 5000;

/// The length of a whole id.
const WHOLE: usize = 32;

/// What a filter is, as it came.
type Query = [(String, String)];

/// What one node asks of another.
#[derive(Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
enum Order {
    List {
        query: Vec<(String, String)>,
    },
    History {
        query: Vec<(String, String)>,
    },
    Find {
        id: String,
    },
    /// What became of sessions that were there.
    Over {
        ids: Vec<String>,
    },
    /// What handlers did in a session, from a line on.
    Trace {
        id: String,
        after: u64,
    },
    End {
        which: Which,
        reason: String,
        by: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Which {
    /// A whole one.
    Id(String),
    Query(Vec<(String, String)>),
}

/// What a node answers: sessions that live or were ended, sessions that are over, and how many more there are.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Told {
    sessions: Vec<Value>,
    over: Vec<Value>,
    left: usize,
}

/// What all others answered, and what is missing in it.
#[derive(Default)]
struct Heard {
    sessions: Vec<Value>,
    over: Vec<Value>,
    incomplete: Vec<Value>,
}

/// A session as it is ordered, and as it is shown.
pub(super) struct Row {
    pub(super) session: Snapshot,
    pub(super) shown: Value,
}

impl Row {
    fn of(shown: Value) -> Option<Row> {
        Some(Row { session: Snapshot::deserialize(&shown).ok()?, shown })
    }
}

/// What the others had a moment ago, and what is missing in it.
#[derive(Default)]
pub(super) struct Recent {
    pub(super) rows: Vec<Row>,
    pub(super) incomplete: Vec<Value>,
}

/// Where a session is.
enum Place {
    Here(Arc<Session>),
    /// On another node, by its whole id; or nowhere.
    There(String),
}

/// Who ends sessions.
pub(super) enum By<'a> {
    Admin(&'a str),
    Hook,
}

impl By<'_> {
    fn actor(&self) -> Actor {
        match self {
            By::Admin(who) => Actor::Admin((*who).into()),
            By::Hook => Actor::Hook,
        }
    }

    /// As another node is told.
    fn on(&self, node: &str) -> Option<String> {
        match self {
            By::Admin(who) => Some(format!("{who} on {node}")),
            By::Hook => None,
        }
    }
}

/// The tables of all nodes, seen from this one.
pub(crate) struct Nodes {
    registry: Arc<SessionRegistry>,
    traces: Arc<Traces>,
    others: OnceLock<Arc<dyn Others>>,
    /// What was shown of the others, and when.
    seen: Mutex<Option<(Instant, Arc<Recent>)>>,
}

fn unknown(id: &str) -> Error {
    Error::new(ErrorKind::NotFound)
        .with_detail(format!("no session '{id}'"))
        .with_hint("'ferryd sessions' lists them; an id may be shortened as long as it is the only one")
}

fn bad(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

fn value(of: impl Serialize) -> Result<Value> {
    serde_json::to_value(of).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))
}

/// What is incomplete is said only where something is.
fn answer(key: &str, found: Vec<Value>, incomplete: Vec<Value>) -> Value {
    let mut all = Map::from_iter([(key.to_string(), Value::from(found))]);
    if !incomplete.is_empty() {
        all.insert("incomplete".into(), incomplete.into());
    }
    all.into()
}

fn live(registry: &SessionRegistry, selection: &Selection) -> Vec<Snapshot> {
    let mut found: Vec<_> = registry.list().iter().map(|s| s.snapshot()).collect();
    found.retain(|s| selection.matches(s));
    found
}

/// As a node tells others: in order, and not without end.
fn tell<T: Serialize>(mut found: Vec<T>) -> Result<Told> {
    let left = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    Ok(Told { sessions: found.iter().map(value).collect::<Result<_>>()?, left, ..Told::default() })
}

/// The sessions whose ids begin with this, two at most: more than one is not the one that is meant.
fn beginning(registry: &SessionRegistry, id: &str) -> Vec<Arc<Session>> {
    let fits = |s: &Arc<Session>| !id.is_empty() && s.id().as_str().starts_with(id);
    registry.list().into_iter().filter(fits).take(2).collect()
}

/// The session of exactly this id.
fn exactly(registry: &SessionRegistry, id: &str) -> Option<Arc<Session>> {
    registry.find(id).filter(|s| s.id().as_str() == id)
}

fn find(registry: &SessionRegistry, id: &str) -> Result<Told> {
    let sessions = beginning(registry, id);
    Ok(Told {
        sessions: sessions.iter().map(|s| value(s.snapshot())).collect::<Result<_>>()?,
        over: registry.find_ended(id).iter().map(|e| value(&**e)).collect::<Result<_>>()?,
        left: 0,
    })
}

/// Cuts all of them before it waits for any: a caller who hangs up leaves none of them alive. The node is named
/// where there are several.
async fn terminate(
    sessions: Vec<Arc<Session>>,
    reason: &str,
    actor: Actor,
    node: Option<&str>,
) -> Vec<Value> {
    let ending = Ending::new(reason, actor);
    for s in &sessions {
        if s.cut(ending.clone()) {
            let actor = ending.actor.to_string();
            tracing::info!(session = %s.id(), user = ?s.user_id(), reason, actor, "a session was ended");
        }
    }
    let ends = sessions.iter().map(|s| async {
        let left = s.terminate(ending.clone(), PATIENCE).await;
        let mut told = json!({ "sessionId": s.id().as_str(), "inFlight": left.in_flight });
        if let (Some(told), Some(node)) = (told.as_object_mut(), node) {
            told.insert("node".into(), node.into());
        }
        told
    });
    join_all(ends).await
}

impl Nodes {
    /// This node alone.
    pub(crate) fn new(registry: &Arc<SessionRegistry>, traces: &Arc<Traces>) -> Arc<Self> {
        Arc::new(Nodes {
            registry: Arc::clone(registry),
            traces: Arc::clone(traces),
            others: OnceLock::new(),
            seen: Mutex::default(),
        })
    }

    /// The table of this node.
    pub(super) fn registry(&self) -> &Arc<SessionRegistry> {
        &self.registry
    }

    /// Whether sessions of other nodes can be among these.
    pub(super) fn has_others(&self, of: &Selection) -> bool {
        self.others.get().is_some() && !of.is_only_on(self.registry.node())
    }

    /// From now on with these.
    pub(crate) fn join(&self, others: Arc<dyn Others>) {
        let _ = self.others.set(others);
    }

    /// Which sessions a query ends. Errors: `InvalidArgument` for one that is too wide, and those of filters.
    pub(super) fn to_end(query: &Query) -> Result<Selection> {
        if query.iter().all(|(key, _)| key == "node") {
            return Err(bad("name a user, an address or a site: everybody at once is not ended by mistake"));
        }
        Selection::parse(query, END)
    }

    /// What the others answer, as far as they may have anything to do with `selection`.
    async fn ask(&self, order: Order, patience: Duration, lasts: Duration, of: &Selection) -> Heard {
        let mut heard = Heard::default();
        let Some(others) = self.others.get().filter(|_| !of.is_only_on(self.registry.node())) else {
            return heard;
        };
        let answers = match value(order) {
            Ok(order) => others.ask(order, patience, lasts).await,
            Err(e) => Err(e),
        };
        let mut miss = |node: Option<&str>, why: String| {
            heard.incomplete.push(json!({ "node": node, "why": why }));
        };
        let answers = match answers {
            Ok(answers) => answers,
            Err(e) => {
                miss(None, e.to_string());
                return heard;
            }
        };
        for answer in answers.into_iter().filter(|a| of.may_be_on(&a.node)) {
            let node = Some(&*answer.node);
            match answer.said {
                Said::Done(told) => match serde_json::from_value::<Told>(told) {
                    Ok(told) => {
                        if told.left > 0 {
                            miss(node, format!("{} more are there", told.left));
                        }
                        heard.sessions.extend(told.sessions);
                        heard.over.extend(told.over);
                    }
                    Err(_) => miss(node, "its answer is not understood".into()),
                },
                Said::Failed(words) => miss(node, words),
                Said::Nothing => miss(node, "it did not answer in time".into()),
            }
        }
        heard
    }

    /// The same, to its end, whether or not somebody waits for it.
    async fn order(self: &Arc<Self>, order: Order, patience: Duration, of: Selection) -> Heard {
        let nodes = Arc::clone(self);
        let work = tokio::spawn(async move { nodes.ask(order, patience, LASTS, &of).await });
        work.await.unwrap_or_default()
    }

    /// `{"sessions": […]}`. Errors: those of the filters.
    pub(super) async fn list(&self, query: &Query) -> Result<Value> {
        let selection = Selection::parse(query, LIVE)?;
        let heard = self.ask(Order::List { query: query.to_vec() }, LOOK, LOOK, &selection).await;
        let own = live(&self.registry, &selection).into_iter();
        let own = own.map(|session| Ok(Row { shown: value(&session)?, session }));
        let mut rows = own.collect::<Result<Vec<_>>>()?;
        rows.extend(heard.sessions.into_iter().filter_map(Row::of));
        rows.sort_by(|a, b| a.session.session_id.cmp(&b.session.session_id));
        selection.arrange(&mut rows, |row| &row.session);
        Ok(answer("sessions", rows.into_iter().map(|row| row.shown).collect(), heard.incomplete))
    }

    /// `{"sessions": […]}` of those that are over. Errors: those of the filters.
    pub(super) async fn history(&self, query: &Query) -> Result<Value> {
        let selection = Selection::parse(query, OVER)?;
        let heard = self.ask(Order::History { query: query.to_vec() }, LOOK, LOOK, &selection).await;
        let own = self.registry.ended().into_iter().filter(|e| selection.matches_ended(e));
        let own = own.map(|e| Ok(Row { shown: value(&*e)?, session: e.session.clone() }));
        let mut rows = own.collect::<Result<Vec<_>>>()?;
        if !heard.sessions.is_empty() {
            rows.extend(heard.sessions.into_iter().filter_map(Row::of));
            let ended = |row: &Row| row.shown.get("endedAt").map(Value::to_string);
            rows.sort_by_cached_key(|row| std::cmp::Reverse(ended(row)));
        }
        selection.arrange(&mut rows, |row| &row.session);
        Ok(answer("sessions", rows.into_iter().map(|row| row.shown).collect(), heard.incomplete))
    }

    /// One session, live or over. Errors: `NotFound` where there is none, or more than one.
    pub(super) async fn show(&self, id: &str) -> Result<Value> {
        if let Some(session) = exactly(&self.registry, id) {
            return value(session.snapshot());
        }
        if let Some(ended) = self.registry.find_ended(id).filter(|e| e.session.session_id == id) {
            return value(&*ended);
        }
        let heard = self.ask(Order::Find { id: id.into() }, LOOK, LOOK, &Selection::default()).await;
        let mut own = find(&self.registry, id)?;
        own.sessions.extend(heard.sessions);
        own.over.extend(heard.over);
        match (own.sessions.as_mut_slice(), own.over.as_mut_slice()) {
            ([one], _) | ([], [one]) => Ok(one.take()),
            _ => Err(missed(id, &heard.incomplete)),
        }
    }

    /// Where a session is that lives. Errors: `NotFound` where no node has one whose id begins so, or more than one.
    async fn place(&self, id: &str) -> Result<Place> {
        if let Some(session) = exactly(&self.registry, id) {
            return Ok(Place::Here(session));
        }
        if id.len() == WHOLE {
            return Ok(Place::There(id.to_string()));
        }
        let heard = self.ask(Order::Find { id: id.into() }, LOOK, LOOK, &Selection::default()).await;
        let mut near = beginning(&self.registry, id);
        match (near.pop(), near.is_empty(), heard.sessions.as_slice()) {
            (Some(one), true, []) => Ok(Place::Here(one)),
            (None, _, [one]) => {
                let whole = one.get("sessionId").and_then(Value::as_str);
                Ok(Place::There(whole.ok_or(ErrorKind::Internal)?.into()))
            }
            _ => Err(missed(id, &heard.incomplete)),
        }
    }

    /// What handlers do in a session from line `after` on, on whichever node it is; waits for a line for a while.
    /// Errors: `NotFound` where all nodes say that there is none, or nothing left of it.
    pub(super) async fn trace(&self, id: &str, after: u64) -> Result<Value> {
        let id = match self.place(id).await? {
            Place::Here(session) => {
                let followed = self.traces.follow(session.id(), after).await?;
                return Ok(traced(session.id().as_str(), followed));
            }
            Place::There(id) => id,
        };
        if let Some(left) = self.traces.left(&id, after) {
            return Ok(traced(&id, left));
        }
        let end = Instant::now() + TRACE;
        loop {
            let order = Order::Trace { id: id.clone(), after };
            let heard = self.ask(order, LOOK, LOOK, &Selection::default()).await;
            let is_late = Instant::now() >= end;
            let says =
                |told: &Value| told.get("lines").and_then(Value::as_array).is_some_and(|l| !l.is_empty());
            match heard.sessions.into_iter().next() {
                Some(told) if is_late || says(&told) => return Ok(told),
                None if heard.incomplete.is_empty() => return Err(unknown(&id)),
                // Perhaps one that does not answer has it: the next answer tells.
                None if is_late => {
                    let words = "no node that answers has this session, and not every node answers";
                    return Err(Error::new(ErrorKind::Disconnected).with_detail(words));
                }
                _ => tokio::time::sleep(FRESH).await,
            }
        }
    }

    /// Ends one session, on whichever node it is. Errors: `NotFound` where all nodes say that there is none, or
    /// more than one.
    pub(super) async fn end(self: &Arc<Self>, id: &str, reason: &str, by: &By<'_>) -> Result<Value> {
        let far = match self.place(id).await? {
            Place::Here(session) => {
                let ended = terminate(vec![session], reason, by.actor(), self.named()).await;
                return Ok(answer("terminated", ended, Vec::new()));
            }
            Place::There(far) => far,
        };
        let order = self.ending(Which::Id(far), reason, by);
        let heard = self.order(order, ENDS, Selection::default()).await;
        if heard.sessions.is_empty() && heard.incomplete.is_empty() {
            return Err(unknown(id));
        }
        Ok(answer("terminated", heard.sessions, heard.incomplete))
    }

    /// Ends all sessions of a query, on every node.
    pub(super) async fn end_all(
        self: &Arc<Self>,
        of: &Selection,
        query: &Query,
        reason: &str,
        by: &By<'_>,
    ) -> Result<Value> {
        let mut own = self.registry.list();
        own.retain(|s| of.matches(&s.snapshot()));
        let order = self.ending(Which::Query(query.to_vec()), reason, by);
        let far = Selection::parse(query, END)?;
        // The first one cuts before anything waits.
        let (mut ended, heard) =
            tokio::join!(terminate(own, reason, by.actor(), self.named()), self.order(order, ENDS, far));
        ended.extend(heard.sessions);
        Ok(answer("terminated", ended, heard.incomplete))
    }

    /// This node's name, where there may be others.
    fn named(&self) -> Option<&str> {
        self.others.get().map(|_| self.registry.node())
    }

    fn ending(&self, which: Which, reason: &str, by: &By<'_>) -> Order {
        Order::End { which, reason: reason.into(), by: by.on(self.registry.node()) }
    }

    /// What the others had a moment ago.
    pub(super) async fn recently(&self) -> Arc<Recent> {
        let mut seen = self.seen.lock().await;
        if let Some((when, there)) = &*seen
            && when.elapsed() < FRESH
        {
            return Arc::clone(there);
        }
        let heard = self.ask(Order::List { query: Vec::new() }, LOOK, LOOK, &Selection::default()).await;
        let rows = heard.sessions.into_iter().filter_map(Row::of).collect();
        let there = Arc::new(Recent { rows, incomplete: heard.incomplete });
        *seen = Some((Instant::now(), Arc::clone(&there)));
        there
    }

    /// What is known of the ends of sessions that the others had.
    pub(super) async fn over(&self, ids: Vec<String>) -> Vec<Value> {
        if ids.is_empty() {
            return Vec::new();
        }
        self.ask(Order::Over { ids }, LOOK, LOOK, &Selection::default()).await.over
    }

    /// `Sessions` of handlers: a list as the API's, or an end by a handler. Errors: those of the filter, `NotFound`
    /// for an id that no session has.
    pub(crate) async fn for_handlers(self: &Arc<Self>, arguments: &Value) -> Result<Value> {
        let filter = arguments.get("filter").and_then(Value::as_object).into_iter().flatten();
        let text = |v: &Value| v.as_str().map(str::to_string);
        let query: Vec<_> = filter.filter_map(|(k, v)| Some((k.clone(), text(v)?))).collect();
        if arguments.get("what").and_then(Value::as_str) == Some("list") {
            let selection = Selection::parse(&query, LIVE)?;
            let mut found = match self.has_others(&selection) {
                true => {
                    let recent = self.recently().await;
                    recent.rows.iter().map(|r| &r.session).filter(|s| selection.matches(s)).cloned().collect()
                }
                false => Vec::new(),
            };
            found.extend(live(&self.registry, &selection));
            found.sort_by(|a, b| a.session_id.cmp(&b.session_id));
            selection.arrange(&mut found, |s| s);
            return value(found);
        }
        let reason = match arguments.get("reason").and_then(Value::as_str) {
            None | Some("") => "ended by a hook".to_string(),
            Some(words) => display_bytes(words.as_bytes()),
        };
        // Cut, not waited for: one of them may be the handler's own.
        let ending = Ending::new(reason.as_str(), Actor::Hook);
        let (which, of) = match query.as_slice() {
            [] => return Err(bad("name a session, a user, an address or a site")),
            [(key, id)] if key == "id" => {
                if let Some(session) = self.registry.find(id) {
                    return Ok(usize::from(session.cut(ending)).into());
                }
                (Which::Id(id.clone()), Selection::default())
            }
            _ => (Which::Query(query.clone()), Self::to_end(&query)?),
        };
        let mut count = 0;
        if let Which::Query(_) = which {
            let own = self.registry.list().into_iter().filter(|s| of.matches(&s.snapshot()));
            count = own.filter(|s| s.cut(ending.clone())).count();
        }
        let is_one = matches!(which, Which::Id(_));
        let heard = self.order(self.ending(which, &reason, &By::Hook), LOOK, of).await;
        count += heard.sessions.len();
        if is_one && count == 0 && heard.incomplete.is_empty() {
            return Err(Error::new(ErrorKind::NotFound).with_detail("there is no such session"));
        }
        Ok(count.into())
    }

    /// Looks at this node's table for another: of thousands of sessions that takes its time.
    async fn look(
        &self,
        work: impl FnOnce(&SessionRegistry) -> Result<Told> + Send + 'static,
    ) -> Result<Value> {
        let registry = Arc::clone(&self.registry);
        let told = tokio::task::spawn_blocking(move || work(&registry)).await;
        value(told.map_err(|_| Error::from(ErrorKind::Internal))??)
    }

    /// Does what another node asks for. Errors: those of filters; `Unsupported` for what a newer one asks.
    pub(crate) async fn carry_out(&self, order: Value) -> Result<Value> {
        let order = serde_json::from_value(order).map_err(|_| {
            Error::new(ErrorKind::Unsupported).with_detail("it is another version and does not know this")
        })?;
        match order {
            Order::List { query } => {
                let selection = Selection::parse(&query, LIVE)?;
                self.look(move |registry| {
                    let mut found = live(registry, &selection);
                    selection.arrange(&mut found, |s| s);
                    tell(found)
                })
                .await
            }
            Order::History { query } => {
                let selection = Selection::parse(&query, OVER)?;
                self.look(move |registry| {
                    let mut found = registry.ended();
                    found.retain(|e| selection.matches_ended(e));
                    selection.arrange(&mut found, |e| &e.session);
                    tell(found.iter().map(|e| &**e).collect())
                })
                .await
            }
            Order::Find { id } => self.look(move |registry| find(registry, &id)).await,
            Order::Over { ids } => {
                self.look(move |registry| {
                    let ended = ids.iter().take(MOST).filter_map(|id| registry.find_ended(id));
                    let over = ended.map(|e| value(&*e)).collect::<Result<_>>()?;
                    Ok(Told { over, ..Told::default() })
                })
                .await
            }
            Order::Trace { id, after } => {
                let told = match exactly(&self.registry, &id) {
                    Some(session) => Some(self.traces.look(session.id(), after, LINES)?),
                    None => self.traces.left(&id, after),
                };
                let sessions = told.into_iter().map(|told| traced(&id, told)).collect();
                value(Told { sessions, ..Told::default() })
            }
            Order::End { which, reason, by } => {
                let sessions = match which {
                    Which::Id(id) => exactly(&self.registry, &id).into_iter().collect(),
                    Which::Query(query) => {
                        let of = Self::to_end(&query)?;
                        let mut found = self.registry.list();
                        found.retain(|s| of.matches(&s.snapshot()));
                        found
                    }
                };
                let actor = by.map_or(Actor::Hook, |who| Actor::Admin(who.into()));
                let node = Some(self.registry.node());
                let sessions = terminate(sessions, &reason, actor, node).await;
                value(Told { sessions, ..Told::default() })
            }
        }
    }
}

/// The lines of a trace, and the number to ask for next.
fn traced(id: &str, (lines, next): (Vec<Value>, u64)) -> Value {
    json!({ "sessionId": id, "lines": lines, "next": next })
}

/// Nothing, or too much, was found by those who answered.
fn missed(id: &str, incomplete: &[Value]) -> Error {
    let named = |missing: &Value| missing.get("node").and_then(Value::as_str).map(str::to_string);
    let silent: BTreeSet<String> = incomplete.iter().filter_map(named).collect();
    if silent.is_empty() {
        return unknown(id);
    }
    let silent = silent.into_iter().collect::<Vec<_>>().join(", ");
    Error::new(ErrorKind::NotFound)
        .with_detail(format!("no session '{id}'; not every node answered: {silent}"))
}

#[cfg(test)]
pub(super) mod tests;
