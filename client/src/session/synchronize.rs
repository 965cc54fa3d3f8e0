//! Synchronising and comparing a local and a remote directory: WinSCP's two methods over `sync`.
//!
//! Both directories must be there. What a mask leaves out is neither copied nor removed; nothing is removed
//! after a listing that failed, nor more than `max_delete` allows. The batch goes on after a failure. Dropped
//! in the middle, what was done stays done; a file in work has its old content or none under its name.
//!
//! Not here: state between runs, backups of what is replaced: see `sync`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use session_core::batch::TransferOptions;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;
use tokio_util::sync::CancellationToken;

use super::core::{Open, Session};
use super::event::{Event, TransferProgress};
use super::result::{Outcome, Removal, Side, SynchronizationResult, Transfer};
use crate::live::{Live, What};
use crate::mask::FileMask;
use crate::sync::{
    self, Action, Check, Criteria, Difference, Differences, Direction, MaxDelete, Note, Runner, Sides,
    SyncOptions, SyncReport, compare,
};
use crate::watch::{self, Watch, WatchOptions};

/// Which directory changes. (`SynchronizationMode`)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynchronizationMode {
    /// Both: the newer file wins, what is missing is copied, nothing is removed.
    Both,
    /// The local one.
    Local,
    /// The remote one.
    Remote,
}

/// How two directories are compared and made alike.
#[derive(Clone, Debug)]
pub struct SynchronizationOptions {
    /// Which one changes.
    pub mode: SynchronizationMode,
    /// What the other side does not have is removed.
    pub remove_files: bool,
    /// What is newer in the directory that changes is replaced, too.
    pub mirror: bool,
    /// What makes two files different.
    pub criteria: Criteria,
    /// What takes part.
    pub mask: FileMask,
    /// How much may be removed.
    pub max_delete: MaxDelete,
    /// How files are copied.
    pub transfer: TransferOptions,
}

impl SynchronizationOptions {
    /// By time, nothing removed.
    pub fn new(mode: SynchronizationMode) -> Self {
        SynchronizationOptions {
            mode,
            remove_files: false,
            mirror: false,
            criteria: Criteria::TIME,
            mask: FileMask::all(),
            max_delete: MaxDelete::default(),
            transfer: TransferOptions::default(),
        }
    }

    fn to_sync(&self, reconnect: Duration, open: &Open) -> Result<SyncOptions> {
        if open.options.follows_links() || self.transfer.follow_links {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("a synchronisation does not go behind links ('FollowDirectorySymlinks')"));
        }
        Ok(SyncOptions {
            recycle: super::remove::bin(open)?,
            direction: match self.mode {
                SynchronizationMode::Both => Direction::Both,
                SynchronizationMode::Local => Direction::To(sync::Side::Left),
                SynchronizationMode::Remote => Direction::To(sync::Side::Right),
            },
            criteria: self.criteria,
            delete: self.remove_files,
            mirror: self.mirror,
            mask: self.mask.clone(),
            max_delete: self.max_delete,
            transfer: TransferOptions { recursive: true, details: true, reconnect, ..self.transfer.clone() },
            ..SyncOptions::default()
        })
    }
}

/// What a comparison found, and the means to settle it. (`ComparisonDifferenceCollection`)
pub struct Comparison {
    session: Session,
    runner: Arc<Runner>,
    sides: Sides,
    /// Every difference; a directory that is missing on one side is one, with all it holds.
    pub differences: Vec<Difference>,
    /// What is left alone and why.
    pub notes: Vec<Note>,
}

impl Comparison {
    /// Where a difference lies on a side, also where it would lie.
    pub fn path(&self, difference: &Difference, side: Side) -> Result<VPath> {
        difference.place(to_sync(side), &self.sides)
    }

    /// Settles one difference as its action says, with all below it. Whatever has changed since the comparison is
    /// left alone and reported. (`Resolve`) Dropped, what was done stays done; a file in work has its old content
    /// or none under its name.
    pub async fn resolve(&self, difference: &Difference) -> Result<SynchronizationResult> {
        let report = self.session.told(self.runner.resolve(difference).await)?;
        Ok(self.session.reported(report, &self.sides))
    }
}

fn to_sync(side: Side) -> sync::Side {
    match side {
        Side::Local => sync::Side::Left,
        Side::Remote => sync::Side::Right,
    }
}

fn from_sync(side: sync::Side) -> Side {
    match side {
        sync::Side::Left => Side::Local,
        sync::Side::Right => Side::Remote,
    }
}

fn sides(open: &Open, local: &Path, remote: &[u8]) -> Result<Sides> {
    let local = VPath::parse(open.local.home(), local.as_os_str().as_bytes())?;
    let remote = Session::remote(open, remote)?;
    Ok(Sides::new((open.local.fs().clone(), local), (open.fs.clone(), remote)))
}

/// For who looks at what runs.
fn what(command: &str, open: &Open, sides: &Sides, mode: SynchronizationMode) -> What {
    let (local, remote) = (sides.left.path.display(), open.shown(&sides.right.path));
    let (source, target) = match mode {
        SynchronizationMode::Local => (remote, local),
        SynchronizationMode::Both | SynchronizationMode::Remote => (local, remote),
    };
    What { command: command.into(), source, target }
}

impl Session {
    /// Makes directories alike; see the module's header. Dropped, what was done stays done; a file in work has
    /// its old content or none under its name. Errors of its own: `Closed`, `InvalidArgument` for options that
    /// contradict each other, `NotFound` for a directory that is not there; everything else stands in the result.
    pub async fn synchronize_directories(
        &self,
        local: impl AsRef<Path>,
        remote: impl AsRef<[u8]>,
        options: &SynchronizationOptions,
    ) -> Result<SynchronizationResult> {
        let result = async {
            let open = self.opened_now()?;
            let sides = sides(&open, local.as_ref(), remote.as_ref())?;
            let decider = Arc::clone(&open.decider);
            let runner = Runner::new(
                sides.clone(),
                options.to_sync(self.reconnect_time(), &open)?,
                decider,
                Check::Target,
            )?;
            let what = what("synchronize", &open, &sides, options.mode);
            let _entered = self.enter(what, Arc::clone(&runner) as Arc<dyn Live>);
            Ok((sides, self.run_watched(&runner).await?))
        };
        let (sides, report) = self.told(result.await)?;
        Ok(self.reported(report, &sides))
    }

    /// Keeps a remote directory like a local one until `stop`: what changes locally is sent shortly after,
    /// directory by directory, and removed there where the options say so. What differs already is left
    /// (WinSCP's `keepuptodate`). Each time something was done, `tell` has it. Errors of its own: as of
    /// [`synchronize_directories`](Self::synchronize_directories), `InvalidArgument` for another direction, and
    /// `NotFound` when the local directory goes. Dropped in the middle, what was done stays done.
    pub async fn keep_remote_directory_up_to_date(
        &self,
        local: impl AsRef<Path>,
        remote: impl AsRef<[u8]>,
        options: &SynchronizationOptions,
        stop: &CancellationToken,
        tell: &mut (dyn FnMut(SynchronizationResult) + Send),
    ) -> Result<()> {
        let result = async {
            let open = self.opened_now()?;
            let sides = sides(&open, local.as_ref(), remote.as_ref())?;
            if options.mode != SynchronizationMode::Remote {
                return Err(Error::new(ErrorKind::InvalidArgument)
                    .with_detail("only a remote directory is kept up to date"));
            }
            let disk = OsString::from_vec(sides.left.path.as_bytes().to_vec());
            let watching = WatchOptions {
                left_disk: Some(disk.into()),
                initial: false,
                ..WatchOptions::new(options.to_sync(self.reconnect_time(), &open)?)
            };
            let watch = Watch::new(sides.clone(), watching, Arc::clone(&open.decider))?;
            let what = what("keepuptodate", &open, &sides, options.mode);
            let _entered = self.enter(what, Arc::clone(&watch) as Arc<dyn Live>);
            let mut each = |event: &watch::Event| {
                let report = match event {
                    watch::Event::Round(report) => (**report).clone(),
                    watch::Event::Failed(e) => SyncReport { failures: vec![e.clone()], ..Default::default() },
                    _ => return,
                };
                if !report.operations.is_empty() || !report.failures.is_empty() {
                    tell(self.reported(report, &sides));
                }
            };
            let run = watch.run(&mut each);
            tokio::pin!(run);
            tokio::select! {
                biased;
                ended = &mut run => return ended.map(|_| ()),
                () = stop.cancelled() => watch.cancel(),
            }
            run.await.map(|_| ())
        };
        self.told(result.await)
    }

    /// Compares directories and changes nothing. Dropped, nothing has changed. Errors: as
    /// [`synchronize_directories`](Self::synchronize_directories), and the first listing that failed.
    pub async fn compare_directories(
        &self,
        local: impl AsRef<Path>,
        remote: impl AsRef<[u8]>,
        options: &SynchronizationOptions,
    ) -> Result<Comparison> {
        let result = async {
            let open = self.opened_now()?;
            let sides = sides(&open, local.as_ref(), remote.as_ref())?;
            let options = SyncOptions { collapse: true, ..options.to_sync(self.reconnect_time(), &open)? };
            options.check()?;
            let found: Differences = compare(&sides, &options).await?;
            if let Some(e) = found.failures.first() {
                return Err(e.clone());
            }
            let resolving = SyncOptions { collapse: false, ..options };
            let runner = Runner::new(sides.clone(), resolving, Arc::clone(&open.decider), Check::Both)?;
            let session = self.clone();
            Ok(Comparison { session, runner, sides, differences: found.items, notes: found.notes })
        };
        self.told(result.await)
    }

    async fn run_watched(&self, runner: &Arc<Runner>) -> Result<SyncReport> {
        let cancel = CancellationToken::new();
        let tell = || {
            for (to, side) in [(sync::Side::Right, Side::Local), (sync::Side::Left, Side::Remote)] {
                let progress = runner.tracker(to).progress();
                if progress.files_total > 0 {
                    let cancel = cancel.clone();
                    self.hub().emit(Event::Progress(TransferProgress { side, progress, cancel }));
                }
            }
        };
        let mut tick = tokio::time::interval(self.progress_interval());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let run = runner.run();
        tokio::pin!(run);
        let mut canceled = false;
        loop {
            tokio::select! {
                biased;
                report = &mut run => {
                    tell();
                    return report;
                }
                () = cancel.cancelled(), if !canceled => {
                    canceled = true;
                    runner.cancel();
                }
                _ = tick.tick() => tell(),
            }
        }
    }

    /// A report in WinSCP's shape; its events are told.
    fn reported(&self, report: SyncReport, sides: &Sides) -> SynchronizationResult {
        let mut result =
            SynchronizationResult { failures: report.failures, notes: report.notes, ..Default::default() };
        for operation in report.operations {
            let d = &operation.difference;
            let side = d.action.side();
            let (source, target) = match (d.place(side.other(), sides), d.place(side, sides)) {
                (Ok(source), Ok(target)) => (source, target),
                // Nothing was done at a path that cannot be.
                _ => continue,
            };
            let (outcome, failure) = match operation.outcome {
                sync::Outcome::Done(bytes) => (Outcome::Done(bytes), None),
                sync::Outcome::Skipped(why) => (Outcome::Skipped(why), None),
                sync::Outcome::Failed(n) => (Outcome::Failed, Some(n)),
            };
            let error: Option<Error> = failure.and_then(|n| result.failures.get(n)).cloned();
            match d.action {
                Action::Delete(_) => {
                    if matches!(outcome, Outcome::Skipped(_)) {
                        continue;
                    }
                    let directory = d.is_dir();
                    result.removals.push(Removal { path: target, directory, recycled: None, failure, error });
                }
                Action::New(_) | Action::Update(_) if d.is_dir() => {
                    if matches!(outcome, Outcome::Done(_)) {
                        result.directories.push((from_sync(side), target));
                    }
                }
                Action::New(_) | Action::Update(_) => {
                    let transfer = Transfer {
                        side: from_sync(side.other()),
                        source,
                        destination: target,
                        length: d.facts(side.other()).map_or(0, |f| f.size),
                        outcome,
                        failure,
                        error,
                        touch: None,
                        chmod: None,
                        removal: None,
                    };
                    let transfer = match &operation.given {
                        Some(given) => transfer.with(given),
                        None => transfer,
                    };
                    self.hub().emit(Event::FileTransferred(transfer.clone()));
                    match side {
                        sync::Side::Left => result.downloads.push(transfer),
                        sync::Side::Right => result.uploads.push(transfer),
                    }
                }
            }
        }
        result.failures.iter().for_each(|e| self.hub().failed(e));
        result
    }
}
