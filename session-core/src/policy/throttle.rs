//! `Throttle`: content moves at no more than so many bytes per second.
//!
//! A token bucket per interceptor, so per whatever it is given to: one for a session, or one shared by all
//! sessions of an account. Reads and writes draw from the same bucket. It may go into debt: a chunk passes
//! in whole and the next one waits until the debt is paid, so order among waiters is the order of arrival
//! and a chunk larger than the bucket does not wait for ever. A wait ends with the session (the gate drops
//! it). What a read asked for beyond the end of its file is given back. Absent: listings and control bytes
//! are not counted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::intercept::{Cx, Interceptor};
use crate::operation::{Operation, OperationKind, OperationSet, Outcome, Record};

/// How far ahead of its rate an idle bucket may run.
const BURST: Duration = Duration::from_millis(250);

/// The interceptor.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: u64,
    /// The instant until which the bytes granted so far use up the rate.
    paid_until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// At most `bytes_per_second` in both directions together; 0 means no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Throttle { bytes_per_second, paid_until: Mutex::new(None) }
    }

    fn cost(&self, bytes: u64) -> Duration {
        let seconds = bytes as f64 / self.bytes_per_second.max(1) as f64;
        // A day bounds what absurd settings could ask for.
        Duration::from_secs_f64(seconds.min(86_400.0))
    }

    /// Takes `bytes` and says from when they may move.
    fn take(&self, bytes: u64, now: Instant) -> Instant {
        let cost = self.cost(bytes);
        let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(BURST).unwrap_or(now);
        let start = paid.map_or(floor, |p| p.max(floor));
        *paid = Some(start + cost);
        start
    }

    /// Gives back what was taken and did not move.
    fn give_back(&self, bytes: u64) {
        let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = paid.and_then(|p| p.checked_sub(self.cost(bytes)));
    }
}

#[async_trait]
impl Interceptor for Throttle {
    fn interests(&self) -> OperationSet {
        if self.bytes_per_second == 0 {
            return OperationSet::NONE;
        }
        OperationSet::of(&[OperationKind::Read, OperationKind::Write])
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        let bytes = match operation {
            Operation::Read(r) => r.len,
            Operation::Write(r) => r.len,
            _ => return Ok(()),
        };
        let start = self.take(bytes as u64, Instant::now());
        tokio::time::sleep_until(start).await;
        Ok(())
    }

    fn after(&self, _: &Cx<'_>, record: &Record, outcome: &Outcome) {
        // Only after a success is it sure that `before` was asked.
        if let (Record::Read(r), Ok(done)) = (record, &outcome.result) {
            self.give_back((r.len as u64).saturating_sub(done.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_the_rate_and_no_more() {
        let throttle = Throttle::new(1000);
        let now = Instant::now();
        // Ten seconds' worth, all asked for at once: the last may begin when nine are paid, less the burst.
        let starts: Vec<_> = (0..10).map(|_| throttle.take(1000, now)).collect();
        assert!(starts[0] <= now);
        assert_eq!(starts[9], now - BURST + Duration::from_secs(9));
    }

    #[test]
    fn an_idle_bucket_saves_up_no_more_than_the_burst() {
        let throttle = Throttle::new(1000);
        let now = Instant::now();
        throttle.take(1000, now);
        let later = now + Duration::from_secs(3600);
        throttle.take(1000, later);
        assert_eq!(throttle.take(1, later), later - BURST + Duration::from_secs(1));
    }

    #[cfg(feature = "local")]
    #[tokio::test]
    async fn content_moves_at_the_rate_and_empty_reads_are_free() {
        use crate::fs::{Filesystem, OpenOptions};
        use crate::path::VPath;
        use crate::session::{Protocol, Session, Setup};
        use std::sync::Arc;

        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::local::LocalStore::open(dir.path(), Default::default()).unwrap();
        let session = Session::new(Setup::new(Protocol::Local, "test"));
        let identity = session.log_in(crate::auth::Account::named("u"), vec![]).unwrap();
        let chain = crate::intercept::Chain::new(vec![Arc::new(Throttle::new(100_000))]);
        let fs = session.guard(&identity, Arc::new(store), chain).unwrap();
        let options = OpenOptions { read: true, ..OpenOptions::create() };
        let file = fs.open(&VPath::absolute("/f").unwrap(), &options).await.unwrap();
        let begun = Instant::now();
        for n in 0..4u64 {
            file.write_at(n * 25_000, vec![0; 25_000].into()).await.unwrap();
        }
        // The burst, then a quarter of a second for each but the last.
        assert!(begun.elapsed() >= Duration::from_millis(490), "{:?}", begun.elapsed());
        let begun = Instant::now();
        for _ in 0..20 {
            let got = file.read_into(1_000_000, 100_000, Default::default()).await.unwrap();
            assert!(got.is_empty());
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn without_a_limit_it_is_not_asked() {
        assert_eq!(Throttle::new(0).interests(), OperationSet::NONE);
        assert!(Throttle::new(1).interests().contains(OperationKind::Write));
    }
}
