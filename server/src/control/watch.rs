//! Live sessions as a stream: what is there, then what changes, on all nodes.
//!
//! Each line is `{"event", "session"}`: `there` for those of the beginning, then `opened`, `changed` and
//! `closed`; the last has the reason and who did it, while it is remembered. This node's table is looked at twice a
//! second, those of others are asked once a second, so what comes and goes between two looks is only in the history.
//! While a node does not answer nothing is told of its sessions, and a line `{"event":"incomplete","incomplete":[…]}`
//! says which it is, and an empty one when there is none any more; those of a node that is not heard of are closed.
//! While nothing happens a line `{"event":"alive"}` now and then finds out who has gone away. A reader who is slow is
//! told less often, and one whose token is good no more is told nothing more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use session_core::session::Snapshot;
use tokio::task::JoinHandle;

use super::nodes::{Nodes, Recent};
use super::select::Selection;

/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// Looks without a change until a sign of life.
const QUIET: u32 = 20;
/// Looks until a session is told of as closed whose end is not known; of those of other nodes.
const LOOKS: u32 = 20;
const FAR_LOOKS: u32 = 5;

struct Watch {
    nodes: Arc<Nodes>,
    selection: Selection,
    own: Table,
    far: Far,
    quiet: u32,
}

/// What has happened since the last look, as lines; a look every `pause`.
pub(super) fn changes(
    nodes: Arc<Nodes>,
    selection: Selection,
    pause: Duration,
    may: impl Fn() -> bool,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let (own, far) = (Table::new(LOOKS), Far::new());
    let watch = Watch { nodes, selection, own, far, quiet: 0 };
    let may = Arc::new(may);
    futures_util::stream::unfold(watch, move |mut watch| {
        let may = Arc::clone(&may);
        async move {
            while may() {
                if watch.own.begun {
                    tokio::time::sleep(pause).await;
                }
                if let Some(lines) = watch.look().await {
                    return Some((Ok(Frame::data(Bytes::from(lines))), watch));
                }
            }
            None
        }
    })
}

/// A session without what every moment changes.
fn still(mut session: Value) -> Value {
    if let Some(map) = session.as_object_mut() {
        map.retain(|key, _| !matches!(key.as_str(), "ageSeconds" | "idleSeconds"));
    }
    session
}

fn line(lines: &mut String, said: &Value) {
    lines.push_str(&said.to_string());
    lines.push('\n');
}

/// What was told of some sessions.
struct Table {
    known: HashMap<String, Value>,
    /// Gone, and not in the history yet: in how many looks.
    leaving: HashMap<String, (Value, u32)>,
    /// How many looks are waited for that.
    looks: u32,
    begun: bool,
}

impl Table {
    fn new(looks: u32) -> Self {
        Table { known: HashMap::new(), leaving: HashMap::new(), looks, begun: false }
    }

    /// Tells what is other than before.
    fn look(
        &mut self,
        there: impl IntoIterator<Item = (String, Value)>,
        ended: impl Fn(&str) -> Option<Value>,
        lines: &mut String,
    ) {
        let mut tell =
            |event: &str, session: &Value| line(lines, &json!({ "event": event, "session": session }));
        let mut gone = std::mem::take(&mut self.known);
        for (id, value) in there {
            let kept = still(value.clone());
            match gone.remove(&id) {
                None => tell(if self.begun { "opened" } else { "there" }, &value),
                Some(before) if before != kept => tell("changed", &value),
                Some(_) => {}
            }
            if let Entry::Vacant(place) = self.known.entry(id) {
                place.insert(kept);
            }
        }
        // A session leaves the table before its handlers of the end have run, and comes into the history after.
        self.leaving.extend(gone.into_iter().map(|(id, last)| (id, (last, 0))));
        let most = self.looks;
        self.leaving.retain(|id, (last, looks)| {
            let ended = ended(id);
            *looks += 1;
            let waits = ended.is_none() && *looks < most;
            if !waits {
                tell("closed", &ended.unwrap_or_else(|| last.take()));
            }
            waits
        });
        self.begun = true;
    }
}

/// What other nodes answered to one question: what they have, and the ends that are known of those they had.
type Answer = (Arc<Recent>, HashMap<String, Value>);

/// The sessions of other nodes. Asked beside the looks, which wait for nobody.
struct Far {
    table: Table,
    asked: Option<JoinHandle<Answer>>,
    incomplete: Vec<Value>,
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

async fn ask(nodes: Arc<Nodes>, gone: Vec<String>) -> Answer {
    let recent = nodes.recently().await;
    let over = nodes.over(gone).await.into_iter().map(|e| (text(&e, "sessionId").to_owned(), e)).collect();
    (recent, over)
}

impl Far {
    fn new() -> Self {
        Far { table: Table::new(FAR_LOOKS), asked: None, incomplete: Vec::new() }
    }

    async fn look(&mut self, nodes: &Arc<Nodes>, selection: &Selection, lines: &mut String) {
        if !nodes.has_others(selection) {
            return;
        }
        if let Some(asked) = self.asked.take_if(|asked| asked.is_finished())
            && let Ok((recent, over)) = asked.await
        {
            self.take(&recent, &over, selection, lines);
        }
        if self.asked.is_none() {
            let gone = self.table.leaving.keys().cloned().collect();
            self.asked = Some(tokio::spawn(ask(Arc::clone(nodes), gone)));
        }
    }

    fn take(
        &mut self,
        recent: &Recent,
        over: &HashMap<String, Value>,
        selection: &Selection,
        lines: &mut String,
    ) {
        // A node that says how much more it has is not silent; where nobody could be asked, all are.
        let answers = |node: &str| recent.rows.iter().any(|row| row.session.node == node);
        let is_silent = |node: &str| {
            let named = |missing: &Value| missing.get("node").is_none_or(|n| n.is_null() || n == node);
            !answers(node) && recent.incomplete.iter().any(named)
        };
        let known = self.table.known.iter().filter(|(_, session)| is_silent(text(session, "node")));
        let known: Vec<_> = known.map(|(id, session)| (id.clone(), session.clone())).collect();
        let fits = recent.rows.iter().filter(|row| selection.matches(&row.session));
        let there = fits.map(|row| (row.session.session_id.to_string(), row.shown.clone()));
        self.table.look(there.chain(known), |id| over.get(id).cloned(), lines);
        let incomplete: Vec<_> =
            recent.incomplete.iter().filter(|m| selection.may_be_on(text(m, "node"))).cloned().collect();
        if incomplete != self.incomplete {
            line(lines, &json!({ "event": "incomplete", "incomplete": incomplete }));
            self.incomplete = incomplete;
        }
    }
}

impl Watch {
    async fn look(&mut self) -> Option<String> {
        let mut lines = String::new();
        let first = !self.own.begun;
        let registry = self.nodes.registry();
        let sessions = registry.list();
        let snapshots = sessions.iter().map(|s| s.snapshot()).filter(|s| self.selection.matches(s));
        let shown = |s: Snapshot| Some((s.session_id.to_string(), serde_json::to_value(&s).ok()?));
        let ended = |id: &str| registry.find_ended(id).and_then(|e| serde_json::to_value(&*e).ok());
        self.own.look(snapshots.filter_map(shown), ended, &mut lines);
        self.far.look(&self.nodes, &self.selection, &mut lines).await;
        // The first look always says something: the reader knows that it is heard.
        if lines.is_empty() {
            self.quiet += 1;
            if !first && self.quiet < QUIET {
                return None;
            }
            line(&mut lines, &json!({ "event": "alive" }));
        }
        self.quiet = 0;
        Some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use session_core::registry::{Caps, SessionRegistry};
    use session_core::session::{Actor, Ending, Protocol, Setup};

    use crate::control::nodes::tests::world;

    /// The lines of one look that has some.
    async fn next(lines: &mut (impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Unpin)) -> Vec<Value> {
        let frame = lines.next().await.unwrap().unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect()
    }

    /// What is told next, but signs of life.
    async fn told(lines: &mut (impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Unpin)) -> Vec<Value> {
        loop {
            let said = next(lines).await;
            if said[0]["event"] != "alive" {
                return said;
            }
        }
    }

    #[tokio::test]
    async fn what_happens_on_other_nodes_is_told() {
        let w = world(false);
        let pause = Duration::from_millis(10);
        let mut lines = Box::pin(changes(Arc::clone(&w.a), Selection::default(), pause, || true));
        assert_eq!(next(&mut lines).await.len(), 2, "its own at once");
        let there = told(&mut lines).await;
        assert_eq!((there.len(), &there[0]["event"]), (2, &json!("there")));
        assert!(there.iter().all(|l| l["session"]["node"] == "b"));
        let far = w.far.list().remove(0);
        far.log_out();
        let changed = told(&mut lines).await;
        assert_eq!(
            (&changed[0]["event"], &changed[0]["session"]["userName"]),
            (&json!("changed"), &json!(""))
        );
        far.close(Ending::new("bye", Actor::Server)).await;
        let closed = told(&mut lines).await;
        let (event, session) = (&closed[0]["event"], &closed[0]["session"]);
        assert_eq!(
            (event, &session["reason"], &session["node"]),
            (&json!("closed"), &json!("bye"), &json!("b"))
        );
        // While b says nothing nothing is said of its sessions.
        w.wire.silence(true);
        let said = told(&mut lines).await;
        let silent = json!([{ "node": "b", "why": "it did not answer in time" }]);
        assert_eq!(
            (said.len(), &said[0]["event"], &said[0]["incomplete"]),
            (1, &json!("incomplete"), &silent)
        );
        w.far.open(Setup::new(Protocol::Sftp, "s")).unwrap();
        w.wire.silence(false);
        let said = told(&mut lines).await;
        assert_eq!((said.len(), &said[0]["event"]), (2, &json!("opened")), "{said:?}");
        assert_eq!(said[1], json!({ "event": "incomplete", "incomplete": [] }));
        // Nobody asks for what is only here.
        let only = Selection::parse(&[("node".into(), "a".into())], super::super::select::LIVE).unwrap();
        let mut lines = Box::pin(changes(Arc::clone(&w.a), only, pause, || true));
        assert_eq!(next(&mut lines).await.len(), 2);
        assert_eq!(next(&mut lines).await[0]["event"], "alive");
        assert!(!w.own.is_empty());
    }

    #[tokio::test]
    async fn what_comes_changes_and_goes_is_told() {
        let registry = SessionRegistry::new(Caps::default());
        let pause = Duration::from_millis(1);
        let nodes = Nodes::new(&registry, &Arc::default());
        let mut lines = Box::pin(changes(nodes, Selection::default(), pause, || true));
        let mut next = async || next(&mut lines).await;
        assert_eq!(next().await[0]["event"], "alive");
        let session = registry.open(Setup::new(Protocol::Sftp, "s")).unwrap();
        let opened = next().await;
        assert_eq!((opened.len(), &opened[0]["event"]), (1, &json!("opened")));
        assert_eq!(opened[0]["session"]["sessionId"], session.id().as_str());
        session.log_in(session_core::auth::Account::named("alice"), vec!["password"]).unwrap();
        let changed = next().await;
        assert_eq!(
            (&changed[0]["event"], &changed[0]["session"]["userName"]),
            (&json!("changed"), &json!("alice"))
        );
        session.close(Ending::new("bye", Actor::Server)).await;
        let closed = next().await;
        assert_eq!((&closed[0]["event"], &closed[0]["session"]["reason"]), (&json!("closed"), &json!("bye")));
        // One whose end nobody records is told in the end all the same.
        let session = registry.open(Setup::new(Protocol::Sftp, "s")).unwrap();
        assert_eq!(next().await[0]["event"], "opened");
        session.cut(Ending::new("bye", Actor::Server));
        let closed = next().await;
        assert_eq!((&closed[0]["event"], closed[0]["session"].get("reason")), (&json!("closed"), None));
        assert_eq!(next().await[0]["event"], "alive", "and nothing more");
    }
}
