//! Single files that somebody else has decided on: synchronisation knows both sides already.
//!
//! The file goes the way of every other one (temporary name, resume, times, sizes that agree, retries as
//! the decider says), within the same bounds; it does not stand in the report of [`Batch::run`].

use session_core::batch::{Answer, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::Metadata;
use session_core::path::VPath;

use super::copy::{Copy, Existing};
use super::run::{Batch, LARGE, SMALL_PER_SLOT};

impl Batch {
    /// Counts files to come among the totals of the progress.
    pub fn announce(&self, sizes: impl IntoIterator<Item = u64>) {
        for size in sizes {
            self.tracker.found(size);
        }
        self.tracker.scanned();
    }

    /// Copies one file that was announced and gives the bytes that crossed. `replaces`: there is one at the
    /// target. Waits for its turn.
    ///
    /// Errors: those of either side; `Corrupt` where sizes do not agree in the end; `Canceled`. Dropped in the
    /// middle, it leaves at most a temporary file.
    pub async fn copy_one(
        &self,
        from: &VPath,
        to: &VPath,
        metadata: &Metadata,
        replaces: bool,
    ) -> Result<u64> {
        let permits = if metadata.size >= LARGE { SMALL_PER_SLOT } else { 1 };
        let permits = u32::try_from(permits).unwrap_or(1);
        let _permit = self.slots.acquire_many(permits).await.map_err(|_| Error::new(ErrorKind::Canceled))?;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ErrorKind::Canceled.into()),
            copied = self.try_one(from, to, metadata, replaces) => copied,
        }
    }

    async fn try_one(&self, from: &VPath, to: &VPath, metadata: &Metadata, replaces: bool) -> Result<u64> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let tracked = self.tracker.begin(to.display(), metadata.size);
            let copy = Copy {
                source: &self.source,
                from,
                metadata,
                target: &self.target,
                to,
                existing: if replaces { Existing::There } else { Existing::Missing },
                options: &self.options,
                item: &tracked,
            };
            let error = match copy.run().await {
                Ok(bytes) => return Ok(bytes),
                Err(e) => e,
            };
            match self.decider.decide(Query::Retry { error: error.clone(), attempts }).await {
                Answer::Yes if attempts < 10 => {}
                answer => {
                    if answer == Answer::Abort {
                        self.cancel();
                    }
                    return Err(error);
                }
            }
        }
    }
}
