//! Aliases of uploads that a handler sent elsewhere: clients look at what they have uploaded, under the
//! name that they gave it, and set its times.
//!
//! For a short while and in that session, the old name stands for the new one when attributes are read or
//! set; the policies are asked about the new one. Nothing else goes through an alias: a client cannot
//! rename, read or remove by it what a handler has put out of its reach.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::operation::Operation;
use crate::path::VPath;
use crate::session::SessionId;

/// How long an alias lasts.
const LASTS: Duration = Duration::from_secs(60);

/// How many a session has; the oldest goes.
const MOST: usize = 16;

struct Alias {
    old: VPath,
    new: VPath,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Aliases {
    sessions: Mutex<HashMap<SessionId, VecDeque<Alias>>>,
    /// How many sessions have one; looked at without the lock.
    count: AtomicUsize,
}

impl Aliases {
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, VecDeque<Alias>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, session: &SessionId, old: VPath, new: VPath, now: Instant) {
        let mut sessions = self.sessions();
        let all = sessions.entry(session.clone()).or_default();
        all.retain(|a| a.old != old && a.until > now);
        if all.len() >= MOST {
            all.pop_front();
        }
        all.push_back(Alias { old, new, until: now + LASTS });
        self.count.store(sessions.len(), Ordering::Release);
    }

    /// Lets a look at an old name, or attributes set there, go to the new one.
    pub(super) fn apply(&self, session: &SessionId, operation: &mut Operation<'_>, now: Instant) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let path = match operation {
            Operation::SetAttributes(r) => &mut r.path,
            Operation::Stat(r) => &mut r.path,
            _ => return,
        };
        let sessions = self.sessions();
        let known = sessions.get(session).into_iter().flatten();
        if let Some(alias) = known.into_iter().find(|a| a.old == *path && a.until > now) {
            *path = alias.new.clone();
        }
    }

    pub(super) fn forget(&self, session: &SessionId) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut sessions = self.sessions();
        sessions.remove(session);
        self.count.store(sessions.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Follow;
    use crate::operation::{RemoveFile, Stat};

    #[test]
    fn an_alias_is_of_its_session_for_its_time_and_for_looks() {
        let (aliases, now) = (Aliases::default(), Instant::now());
        let p = |path: &str| VPath::absolute(path).unwrap();
        let (mine, other) = (SessionId::generate(), SessionId::generate());
        aliases.add(&mine, p("/a"), p("/b"), now);
        let stat = |session: &SessionId, now| {
            let mut record = Stat { path: p("/a"), follow: Follow::Yes };
            aliases.apply(session, &mut Operation::Stat(&mut record), now);
            record.path.display()
        };
        assert_eq!(stat(&mine, now), "/b");
        assert_eq!(stat(&other, now), "/a");
        assert_eq!(stat(&mine, now + LASTS), "/a");
        let mut record = RemoveFile { path: p("/a") };
        aliases.apply(&mine, &mut Operation::RemoveFile(&mut record), now);
        assert_eq!(record.path, p("/a"));
        for n in 0..MOST {
            aliases.add(&mine, p(&format!("/{n}")), p("/x"), now);
        }
        assert_eq!(stat(&mine, now), "/a");
        aliases.forget(&mine);
        assert!(aliases.sessions().is_empty());
    }
}
