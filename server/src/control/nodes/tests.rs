//! Nodes in one process, which ask each other over a wire of text.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::shared::Answer;
use session_core::auth::Account;
use session_core::registry::Caps;
use session_core::script::{Traced, Tracer as _};
use session_core::session::{Protocol, Setup};

/// The others of one node, in the same process.
#[derive(Default)]
pub(in crate::control) struct Wire {
    nodes: Vec<(&'static str, Option<Arc<Nodes>>)>,
    asked: AtomicUsize,
    silent: AtomicBool,
}

impl Wire {
    /// From now on nobody answers, or those who can do again.
    pub(in crate::control) fn silence(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl Others for Wire {
    async fn ask(&self, order: Value, _: Duration, _: Duration) -> Result<Vec<Answer>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut all = Vec::new();
        for (name, node) in &self.nodes {
            // As over the line: text.
            let order = serde_json::from_str(&order.to_string()).unwrap();
            let said = match node.as_ref().filter(|_| !self.silent.load(Ordering::Relaxed)) {
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

fn node(name: &str, users: &[&str], traces: &Arc<Traces>) -> (Arc<SessionRegistry>, Arc<Nodes>) {
    let registry = SessionRegistry::new(Caps::default());
    registry.set_node(name);
    for user in users {
        let mut setup = Setup::new(Protocol::Sftp, "s");
        setup.peer = Some(([192, 0, 2, 1], 1000).into());
        registry.open(setup).unwrap().log_in(Account::named(*user), vec!["password"]).unwrap();
    }
    let nodes = Nodes::new(&registry, traces);
    (registry, nodes)
}

pub(in crate::control) struct World {
    pub(in crate::control) a: Arc<Nodes>,
    pub(in crate::control) own: Arc<SessionRegistry>,
    pub(in crate::control) far: Arc<SessionRegistry>,
    pub(in crate::control) wire: Arc<Wire>,
    /// Those of the other node.
    traces: Arc<Traces>,
}

pub(in crate::control) fn world(silent: bool) -> World {
    let traces = Arc::default();
    let (own, a) = node("a", &["alice", "bob"], &Arc::default());
    let (far, b) = node("b", &["alice", "carol"], &traces);
    let mut others = vec![("b", Some(b))];
    if silent {
        others.push(("c", None));
    }
    let wire = Arc::new(Wire { nodes: others, ..Wire::default() });
    a.join(Arc::clone(&wire) as _);
    World { a, own, far, wire, traces }
}

fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn pairs(answer: &Value) -> Vec<(String, String)> {
    let text = |s: &Value, key: &str| s[key].as_str().unwrap().to_string();
    answer["sessions"].as_array().unwrap().iter().map(|s| (text(s, "node"), text(s, "userName"))).collect()
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
    let asked = w.wire.asked.load(Ordering::Relaxed);
    assert_eq!(pairs(&list(&[("node", "a")]).await).len(), 2);
    assert_eq!(w.wire.asked.load(Ordering::Relaxed), asked, "nobody else can tell of it");
    // Nothing in between changes the order of time.
    let ids: Vec<_> =
        list(&[]).await["sessions"].as_array().unwrap().iter().map(|s| s["sessionId"].to_string()).collect();
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
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("not every node answered: c"), "{e}");
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
    assert_eq!(ended["terminated"][0], json!({ "sessionId": far.id().as_str(), "node": "b", "inFlight": 0 }));
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
    let asked = || w.wire.asked.load(Ordering::Relaxed);
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

#[tokio::test]
async fn a_session_of_another_node_is_followed_to_its_end() {
    let w = world(false);
    let far = w.far.list().remove(1);
    let (a, short) = (Arc::clone(&w.a), far.id().as_str()[..31].to_string());
    let waits = tokio::spawn(async move { a.trace(&short, 0).await.unwrap() });
    while !w.traces.follows(far.id()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ran = |n: usize| {
        let traced = Traced {
            event: "OnDirList",
            handler: format!("{n}.js").into(),
            path: None,
            target: None,
            outcome: "passed",
            words: String::new(),
            lines: vec![],
            elapsed: Duration::ZERO,
        };
        w.traces.ran(far.id(), traced);
    };
    ran(0);
    let told = waits.await.unwrap();
    assert_eq!((&told["sessionId"], &told["next"]), (&json!(far.id().as_str()), &json!(1)));
    assert_eq!((told["lines"].as_array().unwrap().len(), &told["lines"][0]["handler"]), (1, &json!("0.js")));
    // As many as fit, and the rest when they are asked for, also after the end.
    (1..=LINES + 1).for_each(ran);
    let told = w.a.trace(far.id().as_str(), 1).await.unwrap();
    assert_eq!((told["lines"].as_array().unwrap().len(), &told["next"]), (LINES, &json!(LINES + 1)));
    far.close(Ending::new("bye", Actor::Server)).await;
    let told = w.a.trace(far.id().as_str(), LINES as u64 + 1).await.unwrap();
    assert_eq!((told["lines"].as_array().unwrap().len(), &told["next"]), (1, &json!(LINES + 2)));
    let over = w.a.trace(far.id().as_str(), LINES as u64 + 2).await;
    assert_eq!(over.err().unwrap().kind(), ErrorKind::NotFound);
}
