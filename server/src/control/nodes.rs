//! The sessions of all nodes: this one's table, and what the others answer from theirs.
//!
//! A question goes to every node that is alive, at the moment when it is asked; what a node does not answer in time
//! is not waited for, and said. An end is carried out, told and audited by the node that has the session, in the
//! name of who asked for it and where. One that was not answered is carried out all the same if its node is heard of
//! within a minute. Handlers may see what the others had a second ago, so that they can look at every login.
//!
//! Deliberately absent: how nodes are reached (`crate::shared`), filters (`super::select`), changes as a stream
//! (`super::watch` tells of this node).

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
use crate::shared::{Others, Said};

/// How long others are waited for who are asked what they have.
const LOOK: Duration = Duration::from_secs(2);

/// The same for an end: the other node waits until it is quiet there.
const ENDS: Duration = Duration::from_secs(4);

/// How long an end may be carried out.
const LASTS: Duration = Duration::from_secs(60);

/// How old what handlers see of the others may be.
const FRESH: Duration = Duration::from_secs(1);

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
    List { query: Vec<(String, String)> },
    History { query: Vec<(String, String)> },
    Find { id: String },
    End { which: Which, reason: String, by: Option<String> },
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
struct Row {
    session: Snapshot,
    shown: Value,
}

impl Row {
    fn of(shown: Value) -> Option<Row> {
        Some(Row { session: Snapshot::deserialize(&shown).ok()?, shown })
    }
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
    others: OnceLock<Arc<dyn Others>>,
    /// What handlers were shown of the others, and when.
    seen: Mutex<Option<(Instant, Arc<Vec<Snapshot>>)>>,
}

pub(super) fn unknown(id: &str) -> Error {
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
    pub(crate) fn new(registry: &Arc<SessionRegistry>) -> Arc<Self> {
        Arc::new(Nodes { registry: Arc::clone(registry), others: OnceLock::new(), seen: Mutex::default() })
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

    /// Ends one session, on whichever node it is. Errors: `NotFound` where all nodes say that there is none, or
    /// more than one.
    pub(super) async fn end(self: &Arc<Self>, id: &str, reason: &str, by: &By<'_>) -> Result<Value> {
        let mut far = id.to_string();
        let mut own = exactly(&self.registry, id);
        if own.is_none() && id.len() != WHOLE {
            let heard = self.ask(Order::Find { id: id.into() }, LOOK, LOOK, &Selection::default()).await;
            let mut near = beginning(&self.registry, id);
            match (near.pop(), near.is_empty(), heard.sessions.as_slice()) {
                (Some(one), true, []) => own = Some(one),
                (None, _, [one]) => {
                    let whole = one.get("sessionId").and_then(Value::as_str);
                    far = whole.ok_or(ErrorKind::Internal)?.into();
                }
                _ => return Err(missed(id, &heard.incomplete)),
            }
        }
        if let Some(session) = own {
            let ended = terminate(vec![session], reason, by.actor(), self.named()).await;
            return Ok(answer("terminated", ended, Vec::new()));
        }
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
    async fn recently(&self) -> Arc<Vec<Snapshot>> {
        let mut seen = self.seen.lock().await;
        if let Some((when, there)) = &*seen
            && when.elapsed() < FRESH
        {
            return Arc::clone(there);
        }
        let heard = self.ask(Order::List { query: Vec::new() }, LOOK, LOOK, &Selection::default()).await;
        let read = |shown: &Value| Snapshot::deserialize(shown).ok();
        let there: Arc<Vec<_>> = Arc::new(heard.sessions.iter().filter_map(read).collect());
        *seen = Some((Instant::now(), Arc::clone(&there)));
        there
    }

    /// `Sessions` of handlers: a list as the API's, or an end by a handler. Errors: those of the filter, `NotFound`
    /// for an id that no session has.
    pub(crate) async fn for_handlers(self: &Arc<Self>, arguments: &Value) -> Result<Value> {
        let filter = arguments.get("filter").and_then(Value::as_object).into_iter().flatten();
        let text = |v: &Value| v.as_str().map(str::to_string);
        let query: Vec<_> = filter.filter_map(|(k, v)| Some((k.clone(), text(v)?))).collect();
        if arguments.get("what").and_then(Value::as_str) == Some("list") {
            let selection = Selection::parse(&query, LIVE)?;
            let mut found = match self.others.get() {
                Some(_) if !selection.is_only_on(self.registry.node()) => {
                    self.recently().await.iter().filter(|s| selection.matches(s)).cloned().collect()
                }
                _ => Vec::new(),
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
mod tests {
    use super::*;
    use crate::shared::Answer;
    use session_core::auth::Account;
    use session_core::registry::Caps;
    use session_core::session::{Protocol, Setup};

    /// The others of one node, in the same process.
    #[derive(Default)]
    struct Wire(Vec<(&'static str, Option<Arc<Nodes>>)>, std::sync::atomic::AtomicUsize);

    #[async_trait::async_trait]
    impl Others for Wire {
        async fn ask(&self, order: Value, _: Duration, _: Duration) -> Result<Vec<Answer>> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut all = Vec::new();
            for (name, node) in &self.0 {
                // As over the line: text.
                let order = serde_json::from_str(&order.to_string()).unwrap();
                let said = match node {
                    None => Said::Nothing,
                    Some(node) => match node.carry_out(order).await {
                        Ok(done) => Said::Done(done),
                        Err(e) => Said::Failed(e.to_string()),
                    },
                };
                all.push(Answer { node: (*name).into(), said });
            }
            Ok(all)
        }
    }

    fn node(name: &str, users: &[&str]) -> (Arc<SessionRegistry>, Arc<Nodes>) {
        let registry = SessionRegistry::new(Caps::default());
        registry.set_node(name);
        for user in users {
            let mut setup = Setup::new(Protocol::Sftp, "s");
            setup.peer = Some(([192, 0, 2, 1], 1000).into());
            registry.open(setup).unwrap().log_in(Account::named(*user), vec!["password"]).unwrap();
        }
        let nodes = Nodes::new(&registry);
        (registry, nodes)
    }

    struct World {
        a: Arc<Nodes>,
        own: Arc<SessionRegistry>,
        far: Arc<SessionRegistry>,
        wire: Arc<Wire>,
    }

    fn world(silent: bool) -> World {
        let ((own, a), (far, b)) = (node("a", &["alice", "bob"]), node("b", &["alice", "carol"]));
        let mut others = vec![("b", Some(b))];
        if silent {
            others.push(("c", None));
        }
        let wire = Arc::new(Wire(others, Default::default()));
        a.join(Arc::clone(&wire) as _);
        World { a, own, far, wire }
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn pairs(answer: &Value) -> Vec<(String, String)> {
        let text = |s: &Value, key: &str| s[key].as_str().unwrap().to_string();
        answer["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (text(s, "node"), text(s, "userName")))
            .collect()
    }

    fn owned(all: &[(&str, &str)]) -> Vec<(String, String)> {
        query(all)
    }

    #[tokio::test]
    async fn a_list_is_of_all_nodes_filtered_and_ordered_as_one() {
        let w = world(false);
        let list = async |q: &[(&str, &str)]| w.a.list(&query(q)).await.unwrap();
        let all = list(&[("order", "-user")]).await;
        assert_eq!(pairs(&all), owned(&[("b", "carol"), ("a", "bob"), ("b", "alice"), ("a", "alice")]));
        assert!(all.get("incomplete").is_none());
        assert_eq!(pairs(&list(&[("user", "carol")]).await), owned(&[("b", "carol")]));
        assert_eq!(pairs(&list(&[("node", "b"), ("order", "user")]).await).len(), 2);
        let asked = w.wire.1.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(pairs(&list(&[("node", "a")]).await).len(), 2);
        assert_eq!(w.wire.1.load(std::sync::atomic::Ordering::Relaxed), asked, "nobody else can tell of it");
        // Nothing in between changes the order of time.
        let ids: Vec<_> = list(&[]).await["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["sessionId"].to_string())
            .collect();
        assert!(ids.is_sorted() && ids.len() == 4);
        assert!(w.a.list(&query(&[("colour", "red")])).await.is_err());
    }

    #[tokio::test]
    async fn who_does_not_answer_is_named() {
        let w = world(true);
        let all = w.a.list(&[]).await.unwrap();
        assert_eq!(pairs(&all).len(), 4);
        assert_eq!(all["incomplete"], json!([{ "node": "c", "why": "it did not answer in time" }]));
        assert!(w.a.list(&query(&[("node", "b")])).await.unwrap().get("incomplete").is_none());
        let e = w.a.show("ffff").await.err().unwrap();
        assert!(
            e.kind() == ErrorKind::NotFound && e.to_string().contains("not every node answered: c"),
            "{e}"
        );
        // Perhaps it is there: nobody says that there is none.
        let ended = w.a.end(&"f".repeat(32), "r", &By::Admin("x")).await.unwrap();
        assert_eq!((&ended["terminated"], &ended["incomplete"][0]["node"]), (&json!([]), &json!("c")));
    }

    #[tokio::test]
    async fn one_session_is_found_and_ended_wherever_it_is() {
        let w = world(false);
        let far = w.far.list().remove(1);
        let shown = w.a.show(far.id().as_str()).await.unwrap();
        assert_eq!((&shown["userName"], &shown["node"]), (&json!("carol"), &json!("b")));
        let short = &far.id().as_str()[..31];
        assert_eq!(w.a.show(short).await.unwrap()["sessionId"], json!(far.id().as_str()));
        // The beginning of all of them is nobody's.
        assert!(w.a.show("0").await.is_err() && w.a.end("0", "r", &By::Admin("x")).await.is_err());
        assert!(w.a.end("", "r", &By::Admin("x")).await.is_err());
        let ended = w.a.end(short, "enough", &By::Admin("uid 0")).await.unwrap();
        assert_eq!(
            ended["terminated"][0],
            json!({ "sessionId": far.id().as_str(), "node": "b", "inFlight": 0 })
        );
        let ending = far.ending().unwrap();
        assert_eq!((&*ending.reason, ending.actor.to_string()), ("enough", "admin uid 0 on a".into()));
        let gone = w.a.end(far.id().as_str(), "r", &By::Admin("x")).await;
        assert_eq!(gone.err().unwrap().kind(), ErrorKind::NotFound);
        let own = w.own.list().remove(0);
        w.a.end(own.id().as_str(), "bye", &By::Admin("uid 0")).await.unwrap();
        assert_eq!(own.ending().unwrap().actor.to_string(), "admin uid 0");
        assert_eq!((w.own.len(), w.far.len()), (1, 1));
    }

    #[tokio::test]
    async fn a_query_ends_sessions_on_every_node() {
        let w = world(false);
        for wide in [&[][..], &[("node", "b")]] {
            assert!(Nodes::to_end(&query(wide)).is_err());
        }
        let end = async |q: &[(&str, &str)]| {
            let q = query(q);
            w.a.end_all(&Nodes::to_end(&q).unwrap(), &q, "r", &By::Admin("x")).await.unwrap()
        };
        let ended = end(&[("user", "alice"), ("node", "b")]).await;
        assert_eq!(ended["terminated"].as_array().unwrap().len(), 1);
        assert_eq!((w.own.len(), w.far.len()), (2, 1));
        let ended = end(&[("address", "192.0.2.0/24")]).await;
        assert_eq!(ended["terminated"].as_array().unwrap().len(), 3);
        assert!(w.own.is_empty() && w.far.is_empty());
        // Remembered where they were, and told of together.
        for (registry, seconds) in [(&w.own, 0), (&w.far, 60)] {
            let mut setup = Setup::new(Protocol::Sftp, "s");
            setup.clock = Arc::new(move || std::time::SystemTime::now() + Duration::from_secs(seconds));
            registry.open(setup).unwrap().close(Ending::new("bye", Actor::Server)).await;
        }
        let past = w.a.history(&[]).await.unwrap();
        assert_eq!(past["sessions"].as_array().unwrap().len(), 2, "{past}");
        assert_eq!(past["sessions"][0]["node"], "b", "the last one first");
        assert_eq!(
            w.a.history(&query(&[("limit", "1")])).await.unwrap()["sessions"].as_array().unwrap().len(),
            1
        );
    }

    #[tokio::test]
    async fn handlers_see_and_end_those_of_all_nodes() {
        let w = world(false);
        let ask = async |arguments: Value| w.a.for_handlers(&arguments).await;
        let listed = ask(json!({ "what": "list", "filter": { "user": "alice" } })).await.unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 2);
        let asked = || w.wire.1.load(std::sync::atomic::Ordering::Relaxed);
        let before = asked();
        ask(json!({ "what": "list" })).await.unwrap();
        assert_eq!(asked(), before, "what is that fresh is not asked for again");
        let far = w.far.list().remove(1);
        let id = far.id().as_str();
        assert_eq!(ask(json!({ "what": "end", "filter": { "id": id } })).await.unwrap(), json!(1));
        assert_eq!(far.ending().unwrap().actor.to_string(), "hook");
        let again = ask(json!({ "what": "end", "filter": { "id": id } })).await;
        assert_eq!(again.err().unwrap().kind(), ErrorKind::NotFound);
        let all = ask(json!({ "what": "end", "filter": { "user": "alice" }, "reason": "r" })).await.unwrap();
        assert_eq!((all, w.own.len(), w.far.len()), (json!(2), 1, 0));
        assert!(ask(json!({ "what": "end", "filter": {} })).await.is_err());
    }
}
