//! Single files that somebody else has decided on: synchronisation knows both sides already.
//!
//! The file goes the way of every other one (temporary name, resume, verification, times, retries as the
//! decider says), within the same bounds; an observer hears of it, the report of [`Batch::run`] does not.

use session_core::batch::Receipt;
use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::Metadata;
use session_core::path::VPath;

use super::copy::Existing;
use super::run::{Batch, LARGE, SMALL_PER_SLOT};

impl Batch {
    /// Counts files to come among the totals of the progress.
    pub fn announce(&self, sizes: impl IntoIterator<Item = u64>) {
        for size in sizes {
            self.tracker.found(size);
        }
        self.tracker.scanned();
    }

    /// Copies one file that was announced and gives its receipt. `replaces`: there is one at the
    /// target. Waits for its turn.
    ///
    /// Errors: those of either side; `Corrupt` where sizes or digests do not agree in the end; `Canceled`.
    /// Dropped in the middle, it leaves at most a temporary file.
    pub async fn copy_one(
        &self,
        from: &VPath,
        to: &VPath,
        metadata: &Metadata,
        replaces: bool,
    ) -> Result<Receipt> {
        let permits = if metadata.size >= LARGE { SMALL_PER_SLOT } else { 1 };
        let permits = u32::try_from(permits).unwrap_or(1);
        let _permit = self.slots.acquire_many(permits).await.map_err(|_| Error::new(ErrorKind::Canceled))?;
        let existing = if replaces { Existing::Unknown } else { Existing::Missing };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ErrorKind::Canceled.into()),
            moved = self.transfer(from, to, metadata, existing) => moved,
        }
    }
}
