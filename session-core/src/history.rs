//! `History`: sessions that are over, for a while.
//!
//! Bounded in number and in time: the oldest go first. Each is kept as it was at its very end, with why it
//! ended and who did it. Deliberately absent: keeping anything across a restart (the audit file does that),
//! connections that never became a session (they are in the log).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::event::timestamp;
use crate::session::{Ending, Session, Snapshot};

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// At most so many sessions; 0 remembers none.
    pub count: usize,
    /// For so long after their end; zero for as long as there is room.
    pub time: Duration,
}

impl Default for HistoryBounds {
    fn default() -> Self {
        HistoryBounds { count: 1000, time: Duration::from_secs(86_400) }
    }
}

/// A session that is over.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// What it was, at its end.
    #[serde(flatten)]
    pub session: Snapshot,
    /// Why, in the words that the client was told.
    pub reason: String,
    /// Why, as a name.
    pub reason_code: &'static str,
    /// Why, as a number: IIS's sub-status, or one of ours from 100 on.
    pub sub_status: u16,
    /// Who ended it.
    pub actor: String,
    /// When.
    pub ended_at: String,
    #[serde(skip)]
    at: SystemTime,
}

impl Ended {
    pub(crate) fn new(session: &Session, ending: &Ending) -> Self {
        let at = session.now();
        Ended {
            session: session.snapshot(),
            reason: ending.reason.to_string(),
            reason_code: ending.code.name(),
            sub_status: ending.code.number(),
            actor: ending.actor.to_string(),
            ended_at: timestamp(at),
            at,
        }
    }
}

#[derive(Default)]
struct Kept {
    /// The oldest first.
    ended: VecDeque<Arc<Ended>>,
    bounds: HistoryBounds,
}

impl Kept {
    fn tidy(&mut self, now: SystemTime) {
        while self.ended.len() > self.bounds.count {
            self.ended.pop_front();
        }
        let over = |e: &Ended| now.duration_since(e.at).is_ok_and(|age| age > self.bounds.time);
        while !self.bounds.time.is_zero() && self.ended.front().is_some_and(|e| over(e)) {
            self.ended.pop_front();
        }
    }
}

/// The sessions that are over.
#[derive(Default)]
pub(crate) struct History(Mutex<Kept>);

impl History {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_bounds(&self, bounds: HistoryBounds) {
        let mut kept = self.lock();
        kept.bounds = bounds;
        kept.tidy(SystemTime::now());
    }

    pub(crate) fn add(&self, ended: Ended) {
        let mut kept = self.lock();
        let now = ended.at;
        kept.ended.push_back(Arc::new(ended));
        kept.tidy(now);
    }

    pub(crate) fn list(&self) -> Vec<Arc<Ended>> {
        let mut kept = self.lock();
        kept.tidy(SystemTime::now());
        kept.ended.iter().rev().cloned().collect()
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Ended>> {
        let kept = self.lock();
        if let Some(e) = kept.ended.iter().find(|e| e.session.session_id == id) {
            return Some(Arc::clone(e));
        }
        let mut matching =
            kept.ended.iter().filter(|e| !id.is_empty() && e.session.session_id.starts_with(id));
        match (matching.next(), matching.next()) {
            (Some(e), None) => Some(Arc::clone(e)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;
    use crate::session::{Actor, Protocol, Setup};

    fn ended(age: u64) -> Ended {
        let mut setup = Setup::new(Protocol::Sftp, "s");
        setup.clock = Arc::new(move || SystemTime::now() - Duration::from_secs(age));
        let ending = Ending::new("too slow", Actor::Server).because(Reason::TooSlow);
        Ended::new(&Session::new(setup), &ending)
    }

    #[test]
    fn the_oldest_go_by_number_and_by_age() {
        let history = History::default();
        history.set_bounds(HistoryBounds { count: 3, time: Duration::from_secs(60) });
        let ids = || history.list().iter().map(|e| e.session.session_id.clone()).collect::<Vec<_>>();
        let all: Vec<_> = [50, 40, 30, 20].map(ended).into();
        let names: Vec<_> = all.iter().map(|e| e.session.session_id.clone()).collect();
        all.into_iter().for_each(|e| history.add(e));
        assert_eq!(ids(), [names[3].clone(), names[2].clone(), names[1].clone()], "the last one first");
        assert!(history.find(&names[0]).is_none());
        history.set_bounds(HistoryBounds { count: 3, time: Duration::from_secs(25) });
        assert_eq!(ids(), [names[3].clone()]);
        history.set_bounds(HistoryBounds { count: 0, time: Duration::ZERO });
        assert!(ids().is_empty());
    }

    #[test]
    fn an_ended_session_says_why() {
        let history = History::default();
        history.add(ended(0));
        let one = history.list().remove(0);
        let json = serde_json::to_value(&*one).unwrap();
        assert_eq!((&json["subStatus"], &json["reasonCode"]), (&50.into(), &"too-slow".into()));
        assert_eq!((&json["reason"], &json["actor"]), (&"too slow".into(), &"server".into()));
        assert_eq!(json["sessionId"], one.session.session_id);
    }
}
