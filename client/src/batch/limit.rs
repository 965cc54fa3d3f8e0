//! `Limiter`: bytes per second over all files of one batch, or of several that share it.
//!
//! One account of time, paid in the order of asking. A file asks for one chunk at a time, so files take
//! turns and a large one does not keep small ones out. A chunk passes whole and the next one waits until it
//! is paid for. The rate may be changed while it is in use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How far ahead of its rate it may run after a rest.
const BURST: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug, Default)]
pub struct Limiter {
    rate: AtomicU64,
    paid_until: Mutex<Option<Instant>>,
}

impl Limiter {
    /// At most `bytes_per_second`; 0 is no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Limiter { rate: AtomicU64::new(bytes_per_second), paid_until: Mutex::default() }
    }

    /// The rate, bytes per second; 0 is no limit.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Changes the rate, for what is asked from now on.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Waits until `bytes` may move. Dropped while it waits, the bytes stay paid for.
    pub(super) async fn pass(&self, bytes: usize) {
        if let Some(start) = self.take(bytes, Instant::now()) {
            tokio::time::sleep_until(start).await;
        }
    }

    /// The length of a chunk under this limit: small enough that waiting is smooth.
    pub(super) fn chunk(&self, most: usize) -> usize {
        match self.rate() {
            0 => most,
            rate => usize::try_from(rate / 8).unwrap_or(most).clamp(4096, most),
        }
    }

    fn take(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = self.rate();
        if rate == 0 {
            return None;
        }
        #[allow(clippy::cast_precision_loss, reason = "a duration")]
        let cost = Duration::from_secs_f64((bytes as f64 / rate as f64).min(86_400.0));
        let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(BURST).unwrap_or(now);
        let start = paid.map_or(floor, |p| p.max(floor));
        *paid = Some(start + cost);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_the_rate_in_the_order_of_asking() {
        let limiter = Limiter::new(1000);
        let now = Instant::now();
        let starts: Vec<_> = (0..10).filter_map(|_| limiter.take(1000, now)).collect();
        assert_eq!(starts[9] - starts[0], Duration::from_secs(9));
        assert!(starts.windows(2).all(|w| w[0] < w[1]));
        // After a rest only the burst is saved up.
        let later = now + Duration::from_secs(3600);
        assert_eq!(limiter.take(1, later), Some(later - BURST));
        limiter.set_rate(0);
        assert_eq!(limiter.take(1 << 40, later), None);
    }

    #[test]
    fn chunks_fit_the_rate() {
        assert_eq!(Limiter::new(0).chunk(100_000), 100_000);
        assert_eq!(Limiter::new(80_000).chunk(100_000), 10_000);
        assert_eq!(Limiter::new(1).chunk(100_000), 4096);
    }
}
