//! The same script on the client: what it sees, and what of the lists it is to see.

use std::sync::{Arc, Mutex};

use client::hooks::{ABSENT, Binding, Handlers, Reach, Traced, Tracer, events};
use session_core::session::SessionId;

use super::{OF_ONE_PROTOCOL, SCRIPT};

/// What the script says, in order.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Tracer for Seen {
    fn follows(&self, _: &SessionId) -> bool {
        true
    }

    fn ran(&self, _: &SessionId, traced: Traced) {
        assert_ne!(traced.outcome, "failed", "{traced:?}");
        let lines = traced.lines.iter().filter_map(|l| l.strip_prefix("@ "));
        self.0.lock().unwrap().extend(lines.map(|l| l.trim_end().to_string()));
    }
}

/// A client with the script.
pub(super) struct Client {
    pub(super) handlers: Handlers,
    seen: Arc<Seen>,
}

impl Client {
    pub(super) fn new() -> Self {
        let seen = Arc::new(Seen::default());
        let bound = events().filter(|e| !OF_ONE_PROTOCOL.contains(&e.name));
        let bindings = bound.map(|e| Binding::new(e.name, "all.js", SCRIPT)).collect();
        let reach = Reach { tracer: Some(Arc::clone(&seen) as Arc<dyn Tracer>), ..Reach::default() };
        Client { handlers: Handlers::new(bindings, reach).unwrap(), seen }
    }

    pub(super) fn mark(&self) -> usize {
        self.seen.0.lock().unwrap().len()
    }

    pub(super) fn seen(&self, from: usize) -> Vec<String> {
        self.seen.0.lock().unwrap()[from..].to_vec()
    }
}

/// The list without the events that a client has not.
pub(super) fn shown(events: &[String]) -> Vec<String> {
    let has = |line: &&String| !ABSENT.iter().any(|(name, _)| line.split(' ').next() == Some(*name));
    events.iter().filter(has).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_shows_what_the_lists_say() {
    super::all("sftp", Some(Client::new())).await;
}

#[test]
fn what_a_client_has_not_is_an_event_all_the_same_and_cannot_be_bound() {
    for (name, why) in ABSENT {
        assert!(session_core::script::event(name).is_some(), "{name}");
        let bound = Handlers::new(vec![Binding::new(*name, "x.js", "")], Reach::default());
        assert!(bound.unwrap_err().to_string().contains(why), "{name}");
    }
}
