//! Walks sources and copies what it finds, with bounds on files and bytes in flight.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use session_core::batch::{
    Answer, Decider, ItemOutcome, Overwrite, Query, TransferItem, TransferOptions, TransferReport,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::path::VPath;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::copy::{Copy, Existing};
use super::tracker::Tracker;

/// Small files in flight for each of `TransferOptions::parallel`: they wait for answers, not for bytes.
pub(super) const SMALL_PER_SLOT: usize = 8;

/// A file of at least this size takes a whole slot of `TransferOptions::parallel`.
pub(super) const LARGE: u64 = 1 << 20;

/// One source and where it goes.
#[derive(Clone, Debug)]
pub struct Job {
    /// A file or a directory.
    pub from: VPath,
    /// Its path at the target.
    pub to: VPath,
}

/// A batch between two filesystems. Dropping its future stops it; finished files stay.
pub struct Batch {
    pub(super) source: SessionFs,
    pub(super) target: SessionFs,
    pub(super) options: TransferOptions,
    pub(super) decider: Arc<dyn Decider>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: TransferReport,
    /// Directories with the times to give them when their content is complete, deepest last.
    directories: BTreeMap<VPath, Metadata>,
    /// An answer that stands for the rest of the batch.
    overwrite_all: Option<bool>,
    /// Whether the target's directories may be looked at, each asked once.
    hidden: HashMap<VPath, Arc<OnceCell<bool>>>,
    aborted: bool,
}

impl Batch {
    /// A batch that has not begun.
    pub fn new(
        source: SessionFs,
        target: SessionFs,
        options: TransferOptions,
        decider: Arc<dyn Decider>,
    ) -> Arc<Self> {
        let slots = options.parallel.clamp(1, 64) * SMALL_PER_SLOT;
        Arc::new(Batch {
            source,
            target,
            options,
            decider,
            tracker: Tracker::new(),
            slots: Arc::new(Semaphore::new(slots)),
            stop: CancellationToken::new(),
            state: Mutex::default(),
        })
    }

    /// Its progress.
    pub fn tracker(&self) -> &Arc<Tracker> {
        &self.tracker
    }

    /// Stops it: files in work are given up.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs all jobs and reports. Never an error of its own: what failed stands in the report.
    pub async fn run(self: &Arc<Self>, jobs: Vec<Job>) -> TransferReport {
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for job in jobs {
            match self.source.stat(&job.from, Follow::Yes).await {
                Ok(m) if m.is_dir() && !self.options.recursive => self.fail(
                    None,
                    Error::new(ErrorKind::IsADirectory)
                        .with_hint("give -r to copy directories")
                        .at(session_core::operation::OperationKind::Open, Some(&job.from)),
                ),
                Ok(m) => self.dispatch(&mut tasks, job.from, job.to, m).await,
                Err(e) => self.fail(None, e),
            }
        }
        while let Some(found) = tasks.join_next().await {
            match found {
                Ok(entries) => {
                    for (from, to, metadata) in entries {
                        self.dispatch(&mut tasks, from, to, metadata).await;
                    }
                }
                Err(e) if e.is_panic() => {
                    self.fail(None, Error::new(ErrorKind::Internal).with_detail("a transfer task failed"));
                }
                Err(_) => {}
            }
        }
        self.tracker.scanned();
        self.finish_directories().await;
        let mut state = self.state();
        if self.stop.is_cancelled() && state.report.failures.is_empty() {
            state.report.failures.push(Error::new(ErrorKind::Canceled));
        }
        let mut report = std::mem::take(&mut state.report);
        report.elapsed = began.elapsed();
        report
    }

    /// Starts the work on one entry: a task that copies a file, or one that lists a directory and gives
    /// back what it found.
    async fn dispatch(
        self: &Arc<Self>,
        tasks: &mut JoinSet<Vec<(VPath, VPath, Metadata)>>,
        from: VPath,
        to: VPath,
        metadata: Metadata,
    ) {
        if self.stop.is_cancelled() {
            return;
        }
        let me = Arc::clone(self);
        let weight = match metadata.file_type {
            FileType::File if metadata.size >= LARGE => SMALL_PER_SLOT,
            _ => 1,
        };
        if metadata.is_file() {
            self.tracker.found(metadata.size);
        }
        // The bound on tasks: nothing more is dispatched before there is room.
        let permits = u32::try_from(weight).unwrap_or(1);
        let Ok(permit) = Arc::clone(&self.slots).acquire_many_owned(permits).await else { return };
        tasks.spawn(async move {
            let _permit = permit;
            let stop = me.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => Vec::new(),
                found = me.entry(from, to, metadata) => found,
            }
        });
    }

    async fn entry(&self, from: VPath, to: VPath, metadata: Metadata) -> Vec<(VPath, VPath, Metadata)> {
        match metadata.file_type {
            FileType::Directory => match self.directory(&from, &to, &metadata).await {
                Ok(found) => return found,
                Err(e) => self.fail(None, e),
            },
            FileType::File => self.file(from, to, metadata).await,
            FileType::Symlink => match self.source.stat(&from, Follow::Yes).await {
                Ok(m) if m.is_file() => {
                    self.tracker.found(m.size);
                    self.file(from, to, m).await;
                }
                Ok(_) => self.skip(item(&from, &to, 0), "a symbolic link to a directory"),
                Err(e) => self.fail(Some(item(&from, &to, 0)), e),
            },
            FileType::Other => self.skip(item(&from, &to, 0), "not a regular file"),
        }
        Vec::new()
    }

    async fn directory(
        &self,
        from: &VPath,
        to: &VPath,
        metadata: &Metadata,
    ) -> Result<Vec<(VPath, VPath, Metadata)>> {
        let mut attributes = Attributes::none();
        let keeps_mode = self.options.preserve_modes && self.target.capabilities().set_mode;
        if keeps_mode && !self.is_hidden(to.parent().unwrap_or_else(VPath::root)).await {
            // The owner must be able to fill it.
            attributes.mode = metadata.mode.map(|m| (m & 0o777) | 0o700);
        }
        match self.target.create_dir(to, &attributes).await {
            Ok(()) => {
                let mut done = item(from, to, 0);
                done.directory = true;
                self.state().report.items.push((done, ItemOutcome::Done(0)));
            }
            Err(e) => match self.target.stat(to, Follow::Yes).await {
                Ok(m) if m.is_dir() => {}
                _ => return Err(e),
            },
        }
        self.state().directories.insert(to.clone(), metadata.clone());
        let mut found = Vec::new();
        let mut pages = self.source.list(from, &ListOptions::default()).await?;
        while let Some(page) = pages.next_page().await? {
            for entry in page {
                found.push((from.join(&entry.name)?, to.join(&entry.name)?, entry.metadata));
            }
        }
        Ok(found)
    }

    async fn file(&self, from: VPath, to: VPath, metadata: Metadata) {
        let record = item(&from, &to, metadata.size);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let existing = match self.may_write(&to, &metadata).await {
                Ok(Some(existing)) => existing,
                Ok(None) => return self.skip(record, "the target exists"),
                Err(e) => return self.fail(Some(record), e),
            };
            let tracked = self.tracker.begin(to.display(), metadata.size);
            let copy = Copy {
                source: &self.source,
                from: &from,
                metadata: &metadata,
                target: &self.target,
                to: &to,
                existing,
                options: &self.options,
                item: &tracked,
            };
            let error = match copy.run().await {
                Ok(bytes) => {
                    self.state().report.items.push((record, ItemOutcome::Done(bytes)));
                    return;
                }
                Err(e) => e,
            };
            match self.decider.decide(Query::Retry { error: error.clone(), attempts }).await {
                Answer::Yes if attempts < 10 => {}
                answer => {
                    self.fail(Some(record), error);
                    if answer == Answer::Abort {
                        self.abort();
                    }
                    return;
                }
            }
        }
    }

    /// Whether the account may put files into `dir` at most, and see none of them.
    async fn is_hidden(&self, dir: VPath) -> bool {
        let asked = Arc::clone(self.state().hidden.entry(dir.clone()).or_default());
        *asked
            .get_or_init(|| async {
                let seen = self.target.stat(&dir, Follow::Yes).await;
                seen.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
            })
            .await
    }

    /// Whether the target may be written: `None` for no; else what is known of it.
    async fn may_write(&self, to: &VPath, metadata: &Metadata) -> Result<Option<Existing>> {
        if self.is_hidden(to.parent().unwrap_or_else(VPath::root)).await {
            return Ok(Some(Existing::Hidden));
        }
        if self.options.overwrite == Overwrite::Always {
            return Ok(Some(Existing::Unknown));
        }
        let existing = match self.target.stat(to, Follow::Yes).await {
            Ok(m) => m,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(Existing::Missing)),
            Err(e) => return Err(e),
        };
        let yes = match self.options.overwrite {
            Overwrite::Always => true,
            Overwrite::Never => false,
            Overwrite::Newer => match (metadata.modified, existing.modified) {
                (Some(ours), Some(theirs)) => {
                    // What the target cannot express is no difference.
                    ours > theirs + self.target.capabilities().mtime_granularity
                }
                _ => true,
            },
            Overwrite::Ask => {
                let standing = self.state().overwrite_all;
                match standing {
                    Some(all) => all,
                    None => {
                        let query = Query::Overwrite {
                            target: to.clone(),
                            source: (metadata.size, metadata.modified),
                            existing: (existing.size, existing.modified),
                        };
                        match self.decider.decide(query).await {
                            Answer::Yes => true,
                            Answer::YesToAll => {
                                self.state().overwrite_all = Some(true);
                                true
                            }
                            Answer::NoToAll => {
                                self.state().overwrite_all = Some(false);
                                false
                            }
                            Answer::Abort => {
                                self.abort();
                                false
                            }
                            _ => false,
                        }
                    }
                }
            }
        };
        Ok(yes.then_some(Existing::There))
    }

    fn abort(&self) {
        self.state().aborted = true;
        self.stop.cancel();
    }

    fn skip(&self, item: TransferItem, why: &'static str) {
        self.state().report.items.push((item, ItemOutcome::Skipped(why)));
    }

    fn fail(&self, item: Option<TransferItem>, error: Error) {
        let mut state = self.state();
        let number = state.report.failures.len();
        state.report.failures.push(error);
        if let Some(item) = item {
            state.report.items.push((item, ItemOutcome::Failed(number)));
        }
        if self.options.fail_fast {
            self.stop.cancel();
        }
    }

    /// Times and modes of directories, which their content changed while it was written: deepest first.
    async fn finish_directories(&self) {
        if self.stop.is_cancelled() {
            return;
        }
        let directories = std::mem::take(&mut self.state().directories);
        let capabilities = self.target.capabilities();
        for (path, metadata) in directories.into_iter().rev() {
            let mut attributes = Attributes::none();
            if self.options.preserve_times && capabilities.set_times {
                attributes.modified = metadata.modified;
                attributes.accessed = metadata.accessed.or(metadata.modified);
            }
            if self.options.preserve_modes && capabilities.set_mode {
                attributes.mode = metadata.mode.map(|m| m & 0o777).filter(|m| m & 0o700 != 0o700);
            }
            if attributes.is_empty() {
                continue;
            }
            match self.target.set_attributes(&path, &attributes, Follow::Yes).await {
                // A server that sets none for directories (FTP) has no failure to tell of.
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::PermissionDenied && self.is_hidden(path).await => {}
                Err(e) => self.fail(None, e),
            }
        }
    }
}

fn item(from: &VPath, to: &VPath, size: u64) -> TransferItem {
    TransferItem { source: from.clone(), target: to.clone(), size, directory: false }
}
