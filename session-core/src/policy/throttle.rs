//! `Throttle`: content moves at no more than so many bytes per second.
//!
//! A token bucket per interceptor, so per whatever it is given to: one for a session, or one shared by all
//! sessions of an account. Reads and writes draw from the same bucket. It may go into debt: a chunk passes
//! in whole and the next one waits until the debt is paid, so order among waiters is the order of arrival
//! and a chunk larger than the bucket does not wait for ever. A wait ends with the session (the gate drops
//! it). Absent: listings and control bytes are not counted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::intercept::{Cx, Interceptor};
use crate::operation::{Operation, OperationKind, OperationSet};

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

    /// Takes `bytes` and says from when they may move.
    fn take(&self, bytes: usize, now: Instant) -> Instant {
        let seconds = bytes as f64 / self.bytes_per_second.max(1) as f64;
        // A day bounds what absurd settings could ask for.
        let cost = Duration::from_secs_f64(seconds.min(86_400.0));
        let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(BURST).unwrap_or(now);
        let start = paid.map_or(floor, |p| p.max(floor));
        *paid = Some(start + cost);
        start
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
        let start = self.take(bytes, Instant::now());
        tokio::time::sleep_until(start).await;
        Ok(())
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

    #[test]
    fn without_a_limit_it_is_not_asked() {
        assert_eq!(Throttle::new(0).interests(), OperationSet::NONE);
        assert!(Throttle::new(1).interests().contains(OperationKind::Write));
    }
}
