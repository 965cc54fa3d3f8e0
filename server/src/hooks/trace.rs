//! `Traces`: what the handlers of a session do, for somebody who follows it live.
//!
//! A session is followed from the first question about it until nobody has asked for a while; meanwhile each
//! run of a handler is a line with a number. Bounded: of more lines than are kept the oldest go, which their
//! numbers show. While nobody follows anything, a run costs one look at a counter.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;
use session_core::script::{Traced, Tracer};
use session_core::session::SessionId;
use tokio::sync::Notify;

/// How long a session is followed after the last question.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines kept for each session.
const LINES: usize = 1000;

/// Sessions that are followed at once.
const FOLLOWED: usize = 100;

/// How long a question waits for a line.
const WAIT: Duration = Duration::from_secs(5);

struct Followed {
    lines: VecDeque<Value>,
    /// The number of the first of them.
    first: u64,
    asked: Instant,
}

/// See the module's header.
#[derive(Default)]
pub(crate) struct Traces {
    count: AtomicUsize,
    followed: Mutex<HashMap<SessionId, Followed>>,
    news: Notify,
}

impl Traces {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines from number `after` on, waited for a little if there is none; and the number to ask for next.
    /// Errors: `Throttled` where too many sessions are followed.
    pub(crate) async fn follow(&self, session: &SessionId, after: u64) -> Result<(Vec<Value>, u64)> {
        let end = Instant::now() + WAIT;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let (lines, next) = self.look(session, after, LINES)?;
            if !lines.is_empty() || tokio::time::timeout_at(end.into(), news).await.is_err() {
                return Ok((lines, next));
            }
        }
    }

    /// What was not asked for yet of a session that is over; `None` where there is nothing.
    pub(crate) fn left(&self, session: &str, after: u64) -> Option<(Vec<Value>, u64)> {
        let id = self.lock().keys().find(|id| id.as_str() == session)?.clone();
        self.look(&id, after, LINES).ok().filter(|(lines, _)| !lines.is_empty())
    }

    /// The lines from number `after` on, so many at most, and the number to ask for next. Errors: `Throttled` where
    /// too many sessions are followed.
    pub(crate) fn look(&self, session: &SessionId, after: u64, most: usize) -> Result<(Vec<Value>, u64)> {
        let now = Instant::now();
        let mut all = self.lock();
        all.retain(|id, f| id == session || now.duration_since(f.asked) < PATIENCE);
        if !all.contains_key(session) && all.len() >= FOLLOWED {
            return Err(Error::new(ErrorKind::Throttled).with_detail("too many sessions are followed"));
        }
        let fresh = || Followed { lines: VecDeque::new(), first: 0, asked: now };
        if !all.contains_key(session) {
            tracing::info!(target: "hook", %session, "a session is followed");
        }
        let one = all.entry(session.clone()).or_insert_with(fresh);
        one.asked = now;
        let skip =
            usize::try_from(after.saturating_sub(one.first)).unwrap_or(usize::MAX).min(one.lines.len());
        let lines: Vec<_> = one.lines.iter().skip(skip).take(most).cloned().collect();
        let next = one.first + (skip + lines.len()) as u64;
        self.count.store(all.len(), Ordering::Relaxed);
        Ok((lines, next))
    }
}

impl Tracer for Traces {
    fn follows(&self, session: &SessionId) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.lock().contains_key(session)
    }

    fn ran(&self, session: &SessionId, traced: Traced) {
        let mut all = self.lock();
        let Some(one) = all.get_mut(session) else { return };
        if one.lines.len() >= LINES {
            one.lines.pop_front();
            one.first += 1;
        }
        let text = |p: Option<session_core::path::VPath>| p.map(|p| p.display());
        one.lines.push_back(json!({
            "number": one.first + one.lines.len() as u64,
            "time": timestamp(SystemTime::now()),
            "event": traced.event,
            "handler": &*traced.handler,
            "path": text(traced.path),
            "target": text(traced.target),
            "outcome": traced.outcome,
            "words": traced.words,
            "log": traced.lines,
            "elapsedMicroseconds": u64::try_from(traced.elapsed.as_micros()).unwrap_or(u64::MAX),
        }));
        drop(all);
        self.news.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(n: usize) -> Traced {
        Traced {
            event: "OnDirList",
            handler: format!("{n}.js").into(),
            path: None,
            target: None,
            outcome: "passed",
            words: String::new(),
            lines: vec![],
            elapsed: Duration::ZERO,
        }
    }

    fn session() -> SessionId {
        use session_core::session::{Protocol, Session, Setup};
        Session::new(Setup::new(Protocol::Sftp, "s")).id().clone()
    }

    #[tokio::test]
    async fn lines_come_in_order_to_whoever_follows_and_to_nobody_else() {
        let traces = std::sync::Arc::new(Traces::default());
        let (one, other) = (session(), session());
        assert!(!traces.follows(&one));
        traces.ran(&one, ran(0));
        let follower = std::sync::Arc::clone(&traces);
        let id = one.clone();
        let waits = tokio::spawn(async move { follower.follow(&id, 0).await.unwrap() });
        while !traces.follows(&one) {
            tokio::task::yield_now().await;
        }
        assert!(!traces.follows(&other));
        traces.ran(&one, ran(1));
        let (lines, next) = waits.await.unwrap();
        assert_eq!((lines[0]["handler"].as_str(), lines.len(), next), (Some("1.js"), 1, 1));
        (0..LINES + 1).for_each(|n| traces.ran(&one, ran(n)));
        let (lines, next) = traces.follow(&one, next).await.unwrap();
        assert_eq!((lines.len(), next), (LINES, LINES as u64 + 2));
        assert_eq!(lines[0]["number"], 2);
        // In parts, none left out.
        let (lines, next) = traces.look(&one, 5, 10).unwrap();
        assert_eq!((lines.len(), &lines[0]["number"], next), (10, &json!(5), 15));
        assert_eq!(traces.look(&one, u64::MAX, 10).unwrap(), (vec![], LINES as u64 + 2));
    }
}
