//! What the events of all sessions come to, counted since the server began: by site and by what was spoken when a
//! session came. Nothing here waits and nothing is ever taken back; `control::metrics` is how it is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_core::error::ErrorKind;
use session_core::event::{Direction, TransferEnd, What};
use session_core::operation::OperationKind;
use session_core::reason::Reason;

/// A site, and a protocol.
pub(crate) type Key = (Arc<str>, &'static str);

/// What a server counts.
#[derive(Default)]
pub(crate) struct Tallies(Mutex<BTreeMap<Key, Arc<Tally>>>);

impl Tallies {
    /// Where a session counts.
    pub(crate) fn of(&self, site: &Arc<str>, protocol: &'static str) -> Arc<Tally> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((Arc::clone(site), protocol)).or_default())
    }

    /// All of it, by site and protocol.
    pub(crate) fn list(&self) -> Vec<(Key, Arc<Tally>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(key, tally)| (key.clone(), Arc::clone(tally))).collect()
    }
}

/// What the sessions of one site and protocol have done.
pub(crate) struct Tally {
    connections: AtomicU64,
    logins: AtomicU64,
    refused_logins: AtomicU64,
    /// By reason.
    closed: Vec<AtomicU64>,
    /// By operation and outcome: done, or what failed.
    operations: Vec<AtomicU64>,
    /// By operation, microseconds.
    times: Vec<AtomicU64>,
    /// By direction and end.
    files: Vec<AtomicU64>,
}

const OUTCOMES: usize = ErrorKind::ALL.len() + 1;
const DIRECTIONS: [Direction; 2] = [Direction::Upload, Direction::Download];
const ENDS: [TransferEnd; 3] = [TransferEnd::Done, TransferEnd::Parked, TransferEnd::Aborted];

fn zeros(n: usize) -> Vec<AtomicU64> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

fn place<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().position(|x| x == one).unwrap_or(all.len())
}

fn add(to: &[AtomicU64], at: usize, n: u64) {
    if let Some(count) = to.get(at) {
        count.fetch_add(n, Ordering::Relaxed);
    }
}

fn value(of: &[AtomicU64], at: usize) -> u64 {
    of.get(at).map_or(0, |n| n.load(Ordering::Relaxed))
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            connections: AtomicU64::new(0),
            logins: AtomicU64::new(0),
            refused_logins: AtomicU64::new(0),
            closed: zeros(Reason::ALL.len()),
            operations: zeros(OperationKind::ALL.len() * OUTCOMES),
            times: zeros(OperationKind::ALL.len()),
            files: zeros(DIRECTIONS.len() * ENDS.len()),
        }
    }
}

impl Tally {
    /// Counts an event.
    pub(crate) fn count(&self, what: &What) {
        match what {
            What::Connected => drop(self.connections.fetch_add(1, Ordering::Relaxed)),
            What::LoggedIn { .. } => drop(self.logins.fetch_add(1, Ordering::Relaxed)),
            What::LoginFailed { .. } => drop(self.refused_logins.fetch_add(1, Ordering::Relaxed)),
            What::Started { .. } => {}
            What::Ended { record, error, elapsed, .. } => {
                let kind = place(OperationKind::ALL, &record.kind());
                let outcome = error.as_ref().map_or(0, |e| place(&ErrorKind::ALL, &e.kind()) + 1);
                add(&self.operations, kind * OUTCOMES + outcome, 1);
                add(&self.times, kind, u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
            }
            What::Transfer(t) => {
                add(&self.files, place(&DIRECTIONS, &t.direction) * ENDS.len() + place(&ENDS, &t.end), 1);
            }
            What::Closed(ending) => add(&self.closed, place(Reason::ALL, &ending.code), 1),
        }
    }

    /// Sessions that began.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Logins by how they ended.
    pub(crate) fn logins(&self) -> [(&'static str, u64); 2] {
        [("ok", &self.logins), ("failed", &self.refused_logins)].map(|(k, n)| (k, n.load(Ordering::Relaxed)))
    }

    /// Sessions that ended, by the reason's name; those that there were.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Reason::ALL.iter().enumerate();
        all.map(|(at, reason)| (reason.name(), value(&self.closed, at))).filter(|(_, n)| *n > 0)
    }

    /// Operations by name and outcome (`ok` or the kind of the error); those that there were.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        OperationKind::ALL.iter().enumerate().flat_map(move |(at, kind)| {
            let outcomes = std::iter::once("ok").chain(ErrorKind::ALL.iter().map(|e| e.name()));
            let named = outcomes.enumerate();
            named
                .map(move |(n, outcome)| (kind.name(), outcome, value(&self.operations, at * OUTCOMES + n)))
                .filter(|(_, _, n)| *n > 0)
        })
    }

    /// How long they took together, by name; those that there were.
    pub(crate) fn times(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let all = OperationKind::ALL.iter().enumerate();
        all.map(|(at, kind)| (kind.name(), Duration::from_micros(value(&self.times, at))))
            .filter(|(_, time)| !time.is_zero())
    }

    /// Files by direction and end.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        DIRECTIONS.iter().enumerate().flat_map(move |(d, direction)| {
            let ends = ENDS.iter().enumerate();
            ends.map(move |(e, end)| (direction.name(), end.name(), value(&self.files, d * ENDS.len() + e)))
        })
    }
}
