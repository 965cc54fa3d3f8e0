//! `Patience`: whether a lost connection is tried again, and after which pause. Pure: time and chance are
//! arguments.
//!
//! The budget begins with the first loss and begins anew whenever bytes have moved since the last one. The
//! first pause after progress is short, later ones double up to [`LONGEST`], each with jitter of a half, so
//! that many clients of one server do not come back together.

use std::time::{Duration, Instant};

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(200);
/// The longest one; WinSCP always waits for 5 s.
const LONGEST: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug)]
pub struct Patience {
    budget: Duration,
    since: Option<Instant>,
    moved: u64,
    pause: Duration,
}

impl Patience {
    /// Tries again for `budget` after the last progress; zero never does.
    pub fn new(budget: Duration) -> Self {
        Patience { budget, since: None, moved: 0, pause: SHORTEST }
    }

    /// The connection was lost at `now`, when `moved` bytes had moved in all: the budget runs.
    pub fn begins(&mut self, now: Instant, moved: u64) {
        if moved > self.moved || self.since.is_none() {
            self.moved = moved;
            self.since = Some(now);
            self.pause = SHORTEST;
        }
    }

    /// It failed at `now`, when `moved` bytes had moved in all. How long to wait before the next attempt;
    /// `None` when the budget is used up. `chance` is between 0 and 1.
    pub fn lost(&mut self, now: Instant, moved: u64, chance: f64) -> Option<Duration> {
        self.begins(now, moved);
        let since = self.since.unwrap_or(now);
        let left =
            self.budget.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero())?;
        let wait = self.pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.pause = (self.pause * 2).min(LONGEST);
        Some(wait.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_end_with_the_budget() {
        let mut patience = Patience::new(Duration::from_secs(20));
        let begin = Instant::now();
        let mut now = begin;
        let mut pauses = Vec::new();
        while let Some(pause) = patience.lost(now, 0, 1.0) {
            pauses.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 3800]);
        assert_eq!(now - begin, Duration::from_secs(20));
    }

    #[test]
    fn progress_begins_the_budget_anew() {
        let mut patience = Patience::new(Duration::from_secs(1));
        let begin = Instant::now();
        assert_eq!(patience.lost(begin, 0, 0.0), Some(SHORTEST / 2));
        assert_eq!(patience.lost(begin + Duration::from_secs(9), 1, 1.0), Some(SHORTEST));
        assert_eq!(patience.lost(begin + Duration::from_secs(10), 1, 1.0), None);
    }

    #[test]
    fn without_a_budget_nothing_is_tried_again() {
        assert_eq!(Patience::new(Duration::ZERO).lost(Instant::now(), 5, 0.5), None);
    }
}
