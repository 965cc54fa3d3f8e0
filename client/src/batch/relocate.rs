//! Moving directories within one store that can rename none (S3): the store copies what is in them, and only when all
//! of it is in place are the sources removed, so that at any moment one of the two trees is whole.
//!
//! What may be removed is what this job has copied, or its journal says so, and what is still of that size and time:
//! whatever came or changed meanwhile is left and told as a failure. A job that was interrupted copies what is
//! missing, and removes what is left; a source that is gone altogether was moved before.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{StreamExt, iter};
use session_core::batch::{ItemOutcome, TransferReport};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::run::{Batch, Job};
use crate::journal::Key;

/// Removals on their way at a time; a store may gather them into fewer requests.
const AT_ONCE: usize = 256;

/// A directory whose files are to be removed.
struct Leaving<'a> {
    job: &'a Job,
    copied: &'a HashSet<Key>,
    skipped: &'a HashSet<VPath>,
}

impl Batch {
    /// Copies directories to other places of the same filesystem, and removes them there where they were. Never an
    /// error of its own: what failed stands in the report, and then nothing of that directory was removed that is
    /// not at its new place.
    pub async fn run_move(self: &Arc<Self>, jobs: Vec<Job>) -> TransferReport {
        let began = Instant::now();
        let mut left = Vec::new();
        for job in jobs {
            let gone = self.is_taken_up()
                && matches!(self.source().stat(&job.from, Follow::No).await, Err(e) if e.kind() == ErrorKind::NotFound)
                && self.source().stat(&job.to, Follow::No).await.is_ok();
            if !gone {
                left.push(job);
            }
        }
        self.remember_copied();
        let mut report = self.run(left.clone()).await;
        if report.is_success() && !self.stop.is_cancelled() {
            let copied = self.take_copied();
            let skipped: HashSet<VPath> = report
                .items
                .iter()
                .filter(|(_, outcome)| matches!(outcome, ItemOutcome::Skipped(_)))
                .map(|(item, _)| item.source.clone())
                .collect();
            for job in &left {
                let leaving = Leaving { job, copied: &copied, skipped: &skipped };
                if let Err(e) = self.remove_source(&leaving, &mut report.failures).await {
                    report.failures.push(e);
                }
            }
        }
        report.elapsed = began.elapsed();
        report
    }

    /// Removes what was copied. Errors: a listing that failed; what could not be removed is added to `failures`.
    async fn remove_source(&self, leaving: &Leaving<'_>, failures: &mut Vec<Error>) -> Result<()> {
        let fs = self.source();
        let mut dirs = BTreeSet::from([leaving.job.from.clone()]);
        let mut todo = vec![leaving.job.from.clone()];
        while let Some(dir) = todo.pop() {
            let mut pages = fs.list(&dir, &ListOptions::default()).await?;
            while let Some(page) = pages.next_page().await? {
                let mut files = Vec::new();
                for entry in page {
                    let path = dir.join(&entry.name)?;
                    if entry.metadata.is_dir() {
                        dirs.insert(path.clone());
                        todo.push(path);
                        continue;
                    }
                    let to = path.rebase(&leaving.job.from, &leaving.job.to).ok_or(ErrorKind::Internal)?;
                    let m = &entry.metadata;
                    if leaving.copied.contains(&Key::of(&path, &to, m.size, m.modified)) {
                        files.push(path);
                    } else if !leaving.skipped.contains(&path) {
                        failures.push(
                            Error::new(ErrorKind::PreconditionFailed)
                                .with_detail("it came or changed while the rest was copied: it was left")
                                .at(OperationKind::RemoveFile, Some(&path)),
                        );
                    }
                }
                if self.stop.is_cancelled() {
                    return Err(ErrorKind::Canceled.into());
                }
                let removed = iter(files).map(|path| async move { fs.remove_file(&path).await });
                let removed: Vec<_> = removed.buffer_unordered(AT_ONCE).collect().await;
                failures.extend(removed.into_iter().filter_map(Result::err).filter(|e| !is_gone(e)));
            }
        }
        for dir in dirs.into_iter().rev() {
            match fs.remove_dir(&dir).await {
                // A directory that is not there by itself went with what it held; what was left keeps its own.
                Err(e) if !is_gone(&e) && e.kind() != ErrorKind::NotEmpty => failures.push(e),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_gone(e: &Error) -> bool {
    e.kind() == ErrorKind::NotFound
}
