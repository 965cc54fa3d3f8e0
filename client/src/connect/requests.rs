//! `RequestLimit`: at most so many operations a second at remotes, over all places that share it.
//!
//! Everything that a place is asked passes its gate, and there it waits for its turn: listings, looks, opened files,
//! each change. Turns are given in the order of asking, so that nobody waits for ever beside many others. What is in
//! files does not count: how much of it moves is what a limit of bytes is for. One operation may be more than one
//! request of its protocol (a listing in pages, a file that is published by a rename), and commands that servers run
//! are none. A wait ends with the session.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use session_core::error::Result;
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationKind, OperationSet};
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct RequestLimit {
    /// Between two turns.
    step: Duration,
    /// When the next turn is.
    next: Mutex<Option<Instant>>,
}

impl RequestLimit {
    /// At most so many operations a second.
    pub fn new(per_second: NonZeroU32) -> Self {
        RequestLimit { step: Duration::from_secs(1) / per_second.get(), next: Mutex::new(None) }
    }

    /// The next turn. Nothing is saved up while nobody asks.
    fn turn(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.step);
        turn
    }
}

#[async_trait]
impl Interceptor for RequestLimit {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL.except(OperationKind::Read).except(OperationKind::Write)
    }

    async fn before(&self, cx: &Cx<'_>, _: Operation<'_>) -> Result<()> {
        // Asked again for each link on the way, it is still one operation.
        if cx.hop == 0 {
            tokio::time::sleep_until(self.turn(Instant::now())).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_as_far_apart_as_the_limit_says_and_none_are_saved_up() {
        let limit = RequestLimit::new(NonZeroU32::new(10).unwrap());
        let now = Instant::now();
        let turns: Vec<_> = (0..4).map(|_| limit.turn(now)).collect();
        assert_eq!(turns, (0..4).map(|n| now + Duration::from_millis(100) * n).collect::<Vec<_>>());
        let later = now + Duration::from_secs(3600);
        assert_eq!(limit.turn(later), later);
        assert_eq!(limit.turn(later), later + Duration::from_millis(100));
    }

    #[test]
    fn what_is_in_files_is_not_counted() {
        let interests = RequestLimit::new(NonZeroU32::MIN).interests();
        assert!(interests.contains(OperationKind::List) && interests.contains(OperationKind::Open));
        assert!(!interests.contains(OperationKind::Read) && !interests.contains(OperationKind::Write));
    }
}
