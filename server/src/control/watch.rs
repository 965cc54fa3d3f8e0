//! Live sessions as a stream: what is there, then what changes.
//!
//! Each line is `{"event", "session"}`: `there` for those of the beginning, then `opened`, `changed` and
//! `closed`; the last has the reason and who did it, while it is remembered. The table is looked at twice a
//! second, so what comes and goes between two looks is only in the history. While nothing happens a line
//! `{"event":"alive"}` now and then finds out who has gone away. A reader who is slow is told less often, and
//! one whose token is good no more is told nothing more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use session_core::registry::SessionRegistry;

use super::select::Selection;

/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// Looks without a change until a sign of life.
const QUIET: u32 = 20;

struct Watch {
    registry: Arc<SessionRegistry>,
    selection: Selection,
    known: HashMap<String, Value>,
    /// Gone, and not in the history yet: in how many looks.
    leaving: HashMap<String, (Value, u32)>,
    begun: bool,
    quiet: u32,
}

/// What has happened since the last look, as lines; a look every `pause`.
pub(super) fn changes(
    registry: Arc<SessionRegistry>,
    selection: Selection,
    pause: Duration,
    may: impl Fn() -> bool,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let watch =
        Watch { registry, selection, known: HashMap::new(), leaving: HashMap::new(), begun: false, quiet: 0 };
    let may = Arc::new(may);
    futures_util::stream::unfold(watch, move |mut watch| {
        let may = Arc::clone(&may);
        async move {
            while may() {
                if watch.begun {
                    tokio::time::sleep(pause).await;
                }
                if let Some(lines) = watch.look() {
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

impl Watch {
    fn look(&mut self) -> Option<String> {
        let mut lines = String::new();
        let mut tell = |event: &str, session: &Value| {
            lines.push_str(&json!({ "event": event, "session": session }).to_string());
            lines.push('\n');
        };
        let mut gone = std::mem::take(&mut self.known);
        for session in self.registry.list() {
            let snapshot = session.snapshot();
            if !self.selection.matches(&snapshot) {
                continue;
            }
            let (id, Ok(value)) = (snapshot.session_id.to_string(), serde_json::to_value(&snapshot)) else {
                continue;
            };
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
        let registry = &self.registry;
        self.leaving.retain(|id, (last, looks)| {
            let ended = registry.find_ended(id).and_then(|e| serde_json::to_value(&*e).ok());
            *looks += 1;
            let waits = ended.is_none() && *looks < QUIET;
            if !waits {
                tell("closed", &ended.unwrap_or_else(|| last.take()));
            }
            waits
        });
        // The first look always says something: the reader knows that it is heard.
        let first = !std::mem::replace(&mut self.begun, true);
        if lines.is_empty() {
            self.quiet += 1;
            if !first && self.quiet < QUIET {
                return None;
            }
            lines.push_str("{\"event\":\"alive\"}\n");
        }
        self.quiet = 0;
        Some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use session_core::registry::Caps;
    use session_core::session::{Actor, Ending, Protocol, Setup};

    #[tokio::test]
    async fn what_comes_changes_and_goes_is_told() {
        let registry = SessionRegistry::new(Caps::default());
        let pause = Duration::from_millis(1);
        let mut lines = Box::pin(changes(Arc::clone(&registry), Selection::default(), pause, || true));
        let mut next = async || {
            let frame = lines.next().await.unwrap().unwrap();
            let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect::<Vec<_>>()
        };
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
