//! Whether short work that may turn out long can be done on the runtime's own thread.
//!
//! To send a piece of work to another thread and to wait for it costs more than the work, where that is a
//! cached read or an empty handler, and far more on a machine that has no thread to spare. Work of a kind
//! that has been quick is trusted; a kind that was slow (one piece above 50 ms, or many above 2 ms) goes to
//! other threads for a while. A clock cannot tell work that waits from a thread that had to wait for a
//! processor, so a few slow pieces among quick ones say nothing, and the while is short at first: it
//! doubles, up to 10 s, as long as the work is found slow again.
//!
//! It only decides; who asks does the work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

/// A piece of work that took longer counts against its kind.
const SLOW: Duration = Duration::from_millis(2);
/// One piece that took longer is enough.
const TOO_SLOW: Duration = Duration::from_millis(50);
/// What each slow piece counts for; a quick one takes one off.
const WEIGHT: u64 = 16;
/// At this score a kind is slow; at half of it, it is no longer trusted.
const LIMIT: u64 = 8 * WEIGHT;
/// Quick pieces before a kind is trusted.
pub(crate) const TRUST: u64 = 64;
/// For how long a slow kind goes elsewhere, at first and at most, milliseconds.
const PENALTY: u64 = 100;
const MOST: u64 = 10_000;
/// After so many quick pieces the next penalty is the first again.
const FORGIVEN: u64 = 4096;

/// What is known of one kind of work. Counters race without harm: they decide where work is done, never
/// what it does.
#[derive(Debug)]
pub(crate) struct InPlace {
    born: Instant,
    /// Milliseconds after `born`; until then the kind is slow.
    slow_until: AtomicU64,
    /// What the next penalty is, milliseconds.
    penalty: AtomicU64,
    /// How much speaks against the kind.
    score: AtomicU64,
    /// Quick pieces since it was last distrusted.
    run: AtomicU64,
}

impl Default for InPlace {
    fn default() -> Self {
        InPlace {
            born: Instant::now(),
            slow_until: AtomicU64::new(0),
            penalty: AtomicU64::new(PENALTY),
            score: AtomicU64::new(0),
            run: AtomicU64::new(0),
        }
    }
}

/// Whether this thread belongs to a runtime that has others.
pub(crate) fn is_possible(handle: &Handle) -> bool {
    handle.runtime_flavor() == RuntimeFlavor::MultiThread
}

impl InPlace {
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether it goes elsewhere for now.
    pub(crate) fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Ordering::Relaxed);
        until != 0 && self.now() < until
    }

    /// Whether it has been quick for long enough.
    pub(crate) fn is_trusted(&self) -> bool {
        self.run.load(Ordering::Relaxed) >= TRUST
    }

    /// What a piece took.
    pub(crate) fn note(&self, took: Duration) {
        if took <= SLOW {
            let run = self.run.fetch_add(1, Ordering::Relaxed) + 1;
            let score = self.score.load(Ordering::Relaxed);
            if score > 0 {
                self.score.store(score - 1, Ordering::Relaxed);
            } else if run.is_multiple_of(FORGIVEN) {
                self.penalty.store(PENALTY, Ordering::Relaxed);
            }
            return;
        }
        let score = self.score.fetch_add(WEIGHT, Ordering::Relaxed) + WEIGHT;
        if took > TOO_SLOW || score >= LIMIT {
            self.score.store(0, Ordering::Relaxed);
            self.run.store(0, Ordering::Relaxed);
            let penalty = self.penalty.load(Ordering::Relaxed);
            self.penalty.store((penalty * 2).min(MOST), Ordering::Relaxed);
            self.slow_until.store(self.now().saturating_add(penalty), Ordering::Relaxed);
        } else if score >= LIMIT / 2 {
            self.run.store(0, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(crate) fn was_found_slow(&self) -> bool {
        self.slow_until.load(Ordering::Relaxed) != 0
    }

    #[cfg(test)]
    pub(crate) fn make_slow(&self) {
        self.slow_until.store(u64::MAX, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Duration = Duration::from_millis(5);

    #[test]
    fn a_few_slow_pieces_are_nothing_and_many_are() {
        let work = InPlace::default();
        for _ in 1..LIMIT / WEIGHT {
            work.note(SOME);
            assert!(!work.was_found_slow());
        }
        work.note(SOME);
        assert!(work.was_found_slow());
        let work = InPlace::default();
        work.note(TOO_SLOW + SOME);
        assert!(work.was_found_slow());
    }

    #[test]
    fn slow_pieces_among_quick_ones_change_nothing() {
        let work = InPlace::default();
        for _ in 0..1000 {
            work.note(SOME);
            (0..2 * WEIGHT).for_each(|_| work.note(Duration::ZERO));
        }
        assert!(work.is_trusted() && !work.was_found_slow());
    }

    #[test]
    fn penalties_grow_and_are_forgiven() {
        let work = InPlace::default();
        let penalty = || work.penalty.load(Ordering::Relaxed);
        let mut last = 0;
        for _ in 0..3 {
            assert!(penalty() > last);
            last = penalty();
            work.note(TOO_SLOW * 2);
        }
        (0..20).for_each(|_| work.note(TOO_SLOW * 2));
        assert_eq!(penalty(), MOST);
        (0..FORGIVEN).for_each(|_| work.note(Duration::ZERO));
        assert_eq!(penalty(), PENALTY);
    }

    #[test]
    fn trust_is_earned_and_lost() {
        let work = InPlace::default();
        for _ in 0..TRUST {
            assert!(!work.is_trusted());
            work.note(Duration::ZERO);
        }
        assert!(work.is_trusted());
        (0..LIMIT / WEIGHT / 2).for_each(|_| work.note(SOME));
        assert!(!work.is_trusted());
    }
}
