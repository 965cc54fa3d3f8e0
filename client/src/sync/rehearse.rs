//! What applying differences would do, looked at and not done.

use std::time::Instant;

use futures_util::stream::{StreamExt as _, iter};
use session_core::error::Result;

use super::apply::{CONFLICT, Operation, Outcome, Runner, SyncReport};
use super::base::Conflict;
use super::difference::{Difference, Differences};
use super::{Side, decide::Action};

/// Differences that are looked at at once.
const AT_ONCE: usize = 64;

impl Runner {
    /// Looks at both sides of each difference again and says what [`Runner::apply`] would do now: `Done` is what
    /// both sides still allow, with the bytes that would cross, `Failed` what has changed since it was compared,
    /// `Skipped` a conflict that would be asked about. Changes nothing and asks nothing. Whether there is room, or
    /// the right to do it, it does not know.
    pub async fn rehearse(&self, found: Differences) -> SyncReport {
        let began = Instant::now();
        let mut report = SyncReport {
            notes: found.notes,
            failures: found.failures,
            seen: found.seen,
            ..SyncReport::default()
        };
        let looked = |difference: Difference| async move {
            let outcome = self.would(&difference).await;
            (difference, outcome)
        };
        let mut all = iter(found.items).map(looked).buffered(AT_ONCE);
        while let Some((difference, outcome)) = all.next().await {
            let outcome = outcome.unwrap_or_else(|e| {
                report.failures.push(e);
                Outcome::Failed(report.failures.len() - 1)
            });
            report.operations.push(Operation { difference, outcome, given: None });
        }
        report.elapsed = began.elapsed();
        report
    }

    async fn would(&self, d: &Difference) -> Result<Outcome> {
        for side in [Side::Left, Side::Right] {
            self.unchanged(d, side).await?;
            if let Some(old) = &d.moved {
                self.unchanged(old, side).await?;
            }
        }
        Ok(match (d.conflict, d.action) {
            (Some(Conflict::Ask), _) => Outcome::Skipped(CONFLICT),
            (_, Action::Delete(_)) => Outcome::Done(0),
            _ if d.is_dir() || d.moved.is_some() => Outcome::Done(0),
            _ => Outcome::Done(d.bytes()),
        })
    }
}
