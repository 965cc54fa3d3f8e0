//! How often handlers ran, how that ended and how long it took, since their engine was made. Not here: which session
//! they ran for (`Tracer`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The runs of one handler at one event that ended alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// The event.
    pub event: &'static str,
    /// The handler's name: its file.
    pub handler: Arc<str>,
    /// `passed`, `blocked`, `quarantined` or `failed`.
    pub outcome: &'static str,
    /// How many.
    pub count: u64,
    /// All of them together, waiting for a thread included.
    pub time: Duration,
}

type Key = (&'static str, Arc<str>, &'static str);

#[derive(Default)]
pub(super) struct Tally(Mutex<BTreeMap<Key, (u64, Duration)>>);

impl Tally {
    pub(super) fn add(&self, event: &'static str, handler: &Arc<str>, outcome: &'static str, time: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, sum) = all.entry((event, Arc::clone(handler), outcome)).or_default();
        *count += 1;
        *sum = sum.saturating_add(time);
    }

    pub(super) fn list(&self) -> Vec<Runs> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = |((event, handler, outcome), (count, time)): (&Key, &(u64, Duration))| Runs {
            event,
            handler: Arc::clone(handler),
            outcome,
            count: *count,
            time: *time,
        };
        all.iter().map(runs).collect()
    }
}
