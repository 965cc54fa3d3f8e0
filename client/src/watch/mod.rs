//! Keeps two places alike: what changes is synchronised shortly after.
//!
//! A watch is a synchronisation of what changed, done again and again by `sync`, with its rules and its
//! guards. Changes on a disk of this machine are told by the system and compared once they have settled;
//! anywhere else both places are compared now and then, where that is asked for. What failed is tried again,
//! less and less often; what was refused is not. The bound of removals is one for all that happens within a
//! minute of another removal, so that a tree that is emptied bit by bit meets it, too.
//!
//! Not here: a base of both sides (both ways, nothing is removed); changes of what links lead to; renames.

mod dirty;
mod disk;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use session_core::batch::{Decider, Observer, Progress};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::dirty::Dirty;
use self::disk::{Chosen, Disk};
use crate::batch::Limiter;
use crate::sync::{Check, Direction, Runner, Side, Sides, SyncOptions, SyncReport, Within};

/// Changes that go on settle after this many times the time that they are given.
const UNSETTLED: u32 = 20;

/// Removals less far apart than this share one bound.
const LATELY: Duration = Duration::from_secs(60);

/// Pauses before what failed is tried again: the first, each twice the one before, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How two places are kept alike.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// How they are made alike. No base; the root of the target is made at the beginning at most.
    pub sync: SyncOptions,
    /// Where the left root is on a disk of this machine, if its changes are to be listened to.
    pub left_disk: Option<PathBuf>,
    /// The same for the right root.
    pub right_disk: Option<PathBuf>,
    /// Changes are left alone until nothing more has changed for so long (WinSCP's half second).
    pub settle: Duration,
    /// Compare everything after each so long a time.
    pub poll: Option<Duration>,
    /// Begin with making both places alike. Without it what differs already is left, until something changes
    /// where it is, or a comparison is due.
    pub initial: bool,
}

impl WatchOptions {
    /// Keeps the target like this; nothing is listened to yet.
    pub fn new(sync: SyncOptions) -> Self {
        WatchOptions {
            sync,
            left_disk: None,
            right_disk: None,
            settle: Duration::from_millis(500),
            poll: None,
            initial: true,
        }
    }

    /// Refuses what cannot be meant. Errors: `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        self.sync.check()?;
        let bad = |why: &str| Error::new(ErrorKind::InvalidArgument).with_detail(why.to_owned());
        if self.sync.base.is_some() || self.sync.within.is_some() || self.sync.collapse {
            return Err(bad("a watch compares parts of two trees by itself"));
        }
        if self.poll.is_some_and(|every| every.is_zero()) {
            return Err(bad("the time between two comparisons is zero"));
        }
        let sources: &[Side] = match self.sync.direction {
            Direction::Both => &[Side::Left, Side::Right],
            Direction::To(Side::Right) => &[Side::Left],
            Direction::To(Side::Left) => &[Side::Right],
        };
        let deaf = sources.iter().find(|side| self.disk(**side).is_none());
        match deaf {
            Some(side) if self.poll.is_none() => {
                Err(bad(&format!("nobody tells of changes on the {} side", side.name()))
                    .with_hint("have both places compared now and then: --poll SECONDS"))
            }
            _ => Ok(()),
        }
    }

    fn disk(&self, side: Side) -> Option<&PathBuf> {
        match side {
            Side::Left => self.left_disk.as_ref(),
            Side::Right => self.right_disk.as_ref(),
        }
    }
}

/// What a watch tells as it goes.
#[derive(Debug)]
pub enum Event {
    /// Changes were lost: everything is compared.
    Lost,
    /// Both places were made alike once, and what is listened to is heard from before that on.
    Ready,
    /// What changed was synchronised; what failed stands in the report.
    Round(Box<SyncReport>),
    /// Both places could not be compared.
    Failed(Error),
    /// What failed is tried again after this time.
    Waiting(Duration),
}

/// What a watch has done, in all.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How often something was synchronised.
    pub rounds: u64,
    /// Files copied.
    pub copied: u64,
    /// Entries removed.
    pub removed: u64,
    /// Bytes that crossed.
    pub bytes: u64,
    /// What failed in the last round that failed, and was not made good since.
    pub outstanding: Vec<Error>,
}

/// A watch.
pub struct Watch {
    sides: Sides,
    options: WatchOptions,
    decider: Arc<dyn Decider>,
    limiter: Arc<Limiter>,
    observer: OnceLock<Arc<dyn Observer>>,
    stop: CancellationToken,
    /// The round under way.
    runner: Mutex<Option<Arc<Runner>>>,
}

/// What `run` remembers.
struct Course {
    wake: Arc<Notify>,
    disks: Vec<Disk>,
    /// What failed, and when it is tried again.
    failed: Dirty,
    retry: Option<Instant>,
    pause: Duration,
    poll: Option<Instant>,
    /// Entries of the whole, as of the last time that it was compared.
    seen: (u64, u64),
    /// Removals that share one bound, and the last of them.
    removed: (u64, u64),
    last_removal: Option<Instant>,
    summary: Summary,
}

impl Watch {
    /// A watch that has not begun. Errors: `InvalidArgument` for options that contradict each other.
    pub fn new(sides: Sides, options: WatchOptions, decider: Arc<dyn Decider>) -> Result<Arc<Self>> {
        options.check()?;
        let limiter = Arc::new(Limiter::of(&options.sync.transfer));
        let stop = CancellationToken::new();
        let (observer, runner) = (OnceLock::new(), Mutex::default());
        Ok(Arc::new(Watch { sides, options, decider, limiter, observer, stop, runner }))
    }

    /// Ends it: files in work are given up, what was not begun is left.
    pub fn cancel(&self) {
        self.stop.cancel();
        if let Some(runner) = self.running().as_ref() {
            runner.cancel();
        }
    }

    /// Tells `observer` of each file that is copied. Before it runs; the first one stands.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    /// Its speed limit, which may be changed while it runs.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    /// How far the round under way is, as far as it copies to that side.
    pub fn progress(&self, to: Side) -> Option<Progress> {
        self.running().as_ref().map(|runner| runner.tracker(to).progress())
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Runner>>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes both places alike and keeps them so until [`cancel`](Self::cancel). Errors: those of the first
    /// comparison, and what ends the listening (the watched directory is gone); later failures are told and
    /// tried again. Dropped, it stops; what was done stays done.
    pub async fn run(self: &Arc<Self>, tell: &mut (dyn FnMut(&Event) + Send)) -> Result<Summary> {
        let mut course = self.begin().await?;
        // Nothing at all is compared for the sake of the roots: both must be there.
        let mut dirty = if self.options.initial { Dirty::all() } else { Dirty::default() };
        let mut first = true;
        loop {
            let whole = dirty.is_all();
            let round = self.round(&dirty, first, &course).await;
            if self.stop.is_cancelled() {
                if let Ok(mut report) = round {
                    // That it was ended is no failure.
                    report.failures.retain(|e| e.kind() != ErrorKind::Canceled);
                    course.sum_up(&report);
                    tell(&Event::Round(Box::new(report)));
                }
                return Ok(course.summary);
            }
            let failures = match round {
                Ok(report) => {
                    course.note(&report, whole);
                    let failures = report.failures.clone();
                    tell(&Event::Round(Box::new(report)));
                    failures
                }
                Err(e) if first => return Err(e),
                Err(e) => {
                    let failures = vec![e.clone()];
                    tell(&Event::Failed(e));
                    failures
                }
            };
            if std::mem::take(&mut first) {
                tell(&Event::Ready);
            }
            if whole || course.poll.is_none() {
                course.poll = self.options.poll.map(|every| Instant::now() + every);
            }
            if let Some(pause) = course.ended(&dirty, failures) {
                tell(&Event::Waiting(pause));
            }
            match self.next(&mut course, tell).await? {
                Some(next) => dirty = next,
                None => return Ok(course.summary),
            }
        }
    }

    async fn begin(&self) -> Result<Course> {
        let wake = Arc::new(Notify::new());
        let mut disks = Vec::new();
        for side in [Side::Left, Side::Right] {
            let heeded = self.options.sync.direction != Direction::To(side);
            if let Some(path) = self.options.disk(side).filter(|_| heeded) {
                let chosen = Chosen {
                    mask: self.options.sync.mask.clone(),
                    filter: self.options.sync.filter.clone(),
                    root: self.sides.get(side).path.clone(),
                };
                disks.push(Disk::listen(path, chosen, Arc::clone(&wake)).await?);
            }
        }
        Ok(Course {
            wake,
            disks,
            failed: Dirty::default(),
            retry: None,
            pause: PAUSES.0,
            poll: None,
            seen: (0, 0),
            removed: (0, 0),
            last_removal: None,
            summary: Summary::default(),
        })
    }

    /// Synchronises what is dirty.
    async fn round(&self, dirty: &Dirty, first: bool, course: &Course) -> Result<SyncReport> {
        let parts: Vec<(Box<[u8]>, bool)> = if dirty.is_all() {
            vec![(Box::default(), true)]
        } else {
            dirty.dirs().iter().map(|(dir, deep)| (dir.clone(), *deep)).collect()
        };
        let lately = course.last_removal.is_some_and(|at| at.elapsed() < LATELY);
        let removed = if lately { course.removed } else { (0, 0) };
        let options = SyncOptions {
            within: Some(Arc::new(Within::new(parts, course.seen, removed))),
            // A root that goes later is a failure and not a wish.
            make_root: first && self.options.sync.make_root,
            ..self.options.sync.clone()
        };
        let runner = Runner::new(self.sides.clone(), options, Arc::clone(&self.decider), Check::Target)?;
        runner.share_limiter(&self.limiter);
        if let Some(observer) = self.observer.get() {
            runner.observe(observer);
        }
        *self.running() = Some(Arc::clone(&runner));
        if self.stop.is_cancelled() {
            runner.cancel();
        }
        let report = runner.run().await;
        *self.running() = None;
        report
    }

    /// Waits for what is to be done next; `None` for the end.
    async fn next(
        &self,
        course: &mut Course,
        tell: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<Option<Dirty>> {
        let at = |time: Option<Instant>| async move {
            match time {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        loop {
            if course.disks.iter().any(Disk::has_heard) {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(None),
                    () = self.settled(&course.wake) => {}
                }
                let mut dirty = Dirty::default();
                for disk in &course.disks {
                    let heard = disk.take().await?;
                    if heard.lost {
                        tell(&Event::Lost);
                    }
                    dirty.merge(&heard.dirty);
                }
                if !dirty.is_empty() {
                    return Ok(Some(dirty));
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                () = course.wake.notified() => {}
                () = at(course.poll) => return Ok(Some(Dirty::all())),
                () = at(course.retry) => {
                    course.retry = None;
                    return Ok(Some(std::mem::take(&mut course.failed)));
                }
            }
        }
    }

    /// Waits until nothing more is heard for a while, or that takes too long.
    async fn settled(&self, wake: &Notify) {
        let latest = Instant::now() + self.options.settle * UNSETTLED;
        loop {
            let quiet = (Instant::now() + self.options.settle).min(latest);
            tokio::select! {
                biased;
                () = sleep_until(quiet) => return,
                () = wake.notified() => {}
            }
        }
    }
}

impl Course {
    fn sum_up(&mut self, report: &SyncReport) {
        let summary = &mut self.summary;
        let idle = report.operations.is_empty() && report.failures.is_empty();
        summary.rounds += u64::from(!idle);
        summary.copied += (report.copied_to(Side::Left) + report.copied_to(Side::Right)) as u64;
        summary.removed += report.removed() as u64;
        summary.bytes += report.bytes();
    }

    fn note(&mut self, report: &SyncReport, whole: bool) {
        self.sum_up(report);
        if whole && report.failures.is_empty() {
            self.seen = report.seen;
        }
        let (left, right) = (report.removed_from(Side::Left) as u64, report.removed_from(Side::Right) as u64);
        if left + right > 0 {
            if self.last_removal.is_none_or(|at| at.elapsed() >= LATELY) {
                self.removed = (0, 0);
            }
            self.removed = (self.removed.0 + left, self.removed.1 + right);
            self.last_removal = Some(Instant::now());
        }
    }

    /// A round over `dirty` ended so; gives the pause until it is tried again, where it is.
    fn ended(&mut self, dirty: &Dirty, failures: Vec<Error>) -> Option<Duration> {
        if failures.is_empty() {
            if dirty.is_all() {
                // What failed was among it.
                self.failed = Dirty::default();
                self.retry = None;
            }
            if self.retry.is_none() {
                self.pause = PAUSES.0;
                self.summary.outstanding.clear();
            }
            return None;
        }
        let again = failures.iter().any(may_pass);
        self.summary.outstanding = failures;
        if !again {
            return None;
        }
        self.failed.merge(dirty);
        let pause = self.pause;
        self.retry = Some(Instant::now() + pause);
        self.pause = (pause * 2).min(PAUSES.1);
        Some(pause)
    }
}

/// Whether a failure may be none when it is tried again.
fn may_pass(e: &Error) -> bool {
    !matches!(
        e.kind(),
        ErrorKind::Canceled
            | ErrorKind::CrossDevice
            | ErrorKind::InvalidArgument
            | ErrorKind::InvalidPath
            | ErrorKind::IsADirectory
            | ErrorKind::LinkLoop
            | ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::Refused
            | ErrorKind::TooLarge
            | ErrorKind::Unauthenticated
            | ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests;
