//! How many connections may arrive in a second, at the server and at each of its sites.
//!
//! A bucket each: what came in the last second counts against what may, so that a burst of one second's worth
//! passes and no more. Asked before anything is read from a connection and before any script runs. The rate of
//! one address is the protector's business.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use session_core::error::{Error, ErrorKind, Result};

/// A bucket of connections. In thousandths, so that nothing is lost between two looks.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Connections a second; 0 for no limit.
    rate: u32,
    left: u64,
    looked: Instant,
}

impl Bucket {
    fn new(rate: u32, now: Instant) -> Self {
        Bucket { rate, left: u64::from(rate) * 1000, looked: now }
    }

    /// What is in it now; looking takes nothing.
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.looked).as_millis();
        let rate = u64::from(self.rate);
        let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(rate);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(rate * 1000);
            self.looked = now;
        }
    }

    fn has_one(&self) -> bool {
        self.rate == 0 || self.left >= 1000
    }

    fn take(&mut self) {
        self.left = self.left.saturating_sub(1000);
    }
}

struct Buckets {
    server: Bucket,
    sites: HashMap<Arc<str>, Bucket>,
}

/// The rates of a server.
pub(crate) struct Rates(Mutex<Buckets>);

impl Default for Rates {
    fn default() -> Self {
        let server = Bucket::new(0, Instant::now());
        Rates(Mutex::new(Buckets { server, sites: HashMap::new() }))
    }
}

impl Rates {
    /// Puts rates in force: that of the server, and those of sites besides. What stays the same goes on.
    pub(crate) fn set(&self, server: u32, sites: impl IntoIterator<Item = (Arc<str>, u32)>, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.server.rate != server {
            all.server = Bucket::new(server, now);
        }
        let mut before = std::mem::take(&mut all.sites);
        all.sites = sites
            .into_iter()
            .map(|(site, rate)| {
                let kept = before.remove(&site).filter(|b| b.rate == rate);
                (site, kept.unwrap_or_else(|| Bucket::new(rate, now)))
            })
            .collect();
    }

    /// Counts a connection to a site. Errors: `Throttled`; then it does not count.
    pub(crate) fn admit(&self, site: &str, now: Instant) -> Result<()> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { server, sites } = &mut *all;
        let mut both: Vec<&mut Bucket> = std::iter::once(server).chain(sites.get_mut(site)).collect();
        both.iter_mut().for_each(|b| b.fill(now));
        if !both.iter().all(|b| b.has_one()) {
            return Err(Error::new(ErrorKind::Throttled)
                .with_detail("too many connections at the moment")
                .with_hint("try again in a second"));
        }
        both.iter_mut().for_each(|b| b.take());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_second_holds_so_many_and_no_time_is_lost() {
        let (rates, start) = (Rates::default(), Instant::now());
        let admitted = |at: u64, n: usize| {
            let now = start + Duration::from_millis(at);
            (0..n).filter(|_| rates.admit("a", now).is_ok()).count()
        };
        assert_eq!(admitted(0, 50), 50, "without a rate there is no limit");
        rates.set(3, [], start);
        assert_eq!(admitted(0, 10), 3);
        assert_eq!(admitted(300, 10), 0);
        // Looked at in small steps: 333 ms make one.
        for at in (301..334).chain(335..400) {
            assert!(admitted(at, 1) == 0 || at >= 334);
        }
        assert_eq!(admitted(100_000, 10), 3, "nothing is saved up");
    }

    #[test]
    fn a_site_has_its_own_within_that_of_the_server_and_what_is_refused_does_not_count() {
        let (rates, now) = (Rates::default(), Instant::now());
        rates.set(5, [("a".into(), 2), ("b".into(), 0)], now);
        let admitted = |site: &str, n: usize| (0..n).filter(|_| rates.admit(site, now).is_ok()).count();
        assert_eq!((admitted("a", 9), admitted("b", 9)), (2, 3));
        rates.set(5, [("a".into(), 2)], now);
        assert_eq!(admitted("a", 9), 0, "a reload gives nothing back");
        rates.set(6, [("a".into(), 2)], now);
        assert_eq!((admitted("a", 9), admitted("c", 9)), (0, 6));
    }
}
