//! Does what differences say: directories first, then files, then removals, the deepest directories last.
//!
//! Before anything is replaced or removed, the entry is looked at again: one that is no longer what was
//! compared is left alone and reported (`PreconditionFailed`). Between that look and the change another
//! writer can still come first, where the store has no conditional changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use session_core::batch::{Answer, Decider, Given, Observer, Query, TransferOptions};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, Replace};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backup::{Backup, Kept};
use super::base::{Base, Conflict, counts};
use super::decide::{Action, Facts};
use super::difference::{Difference, Differences, Note};
use super::{Direction, Recycle, Root, Side, Sides, SyncOptions, above, compare, expand};
use crate::batch::{Batch, Limiter, Tracker, recycle};
use crate::journal::Journal;

/// Why a conflict is left alone.
pub(super) const CONFLICT: &str = "it has changed on both sides";

/// Operations at work or waiting for their turn.
const AT_ONCE: usize = 256;

/// What is looked at again before an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// What it would replace or remove; and that what it removes is still missing on the other side. A
    /// source that has changed is copied as it is now.
    #[default]
    Target,
    /// Its source, too, and that what it removes is still there: the differences were reviewed, perhaps long
    /// ago.
    Both,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; bytes that crossed.
    Done(u64),
    /// Not tried, and why.
    Skipped(&'static str),
    /// Not done; the number of the failure in the report's list.
    Failed(usize),
}

/// An operation with its outcome.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What was to be done.
    pub difference: Difference,
    /// What became of it.
    pub outcome: Outcome,
    /// Time and permissions that a file was given which was copied.
    pub given: Option<Box<Given>>,
}

/// The result: every operation, and every failure exactly once. A failure of the comparison stands in the
/// list alone.
#[derive(Clone, Debug, Default)]
pub struct SyncReport {
    /// Every operation, in the order of the differences.
    pub operations: Vec<Operation>,
    /// What was left alone by the comparison, and why.
    pub notes: Vec<Note>,
    /// Every failure.
    pub failures: Vec<Error>,
    /// How many entries were compared on the left and on the right.
    pub seen: (u64, u64),
    /// What both sides have in common now, where the options have a base; to be kept for the next run.
    pub base: Option<Base>,
    /// From begin to end.
    pub elapsed: Duration,
}

impl SyncReport {
    /// Whether nothing failed.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// The first failure as an error.
    pub fn check(&self) -> Result<()> {
        self.failures.first().map_or(Ok(()), |e| Err(e.clone()))
    }

    fn done(&self) -> impl Iterator<Item = (&Difference, u64)> {
        self.operations.iter().filter_map(|o| match o.outcome {
            Outcome::Done(bytes) => Some((&o.difference, bytes)),
            _ => None,
        })
    }

    /// How many files were copied to a side.
    pub fn copied_to(&self, side: Side) -> usize {
        let copied =
            |d: &Difference| d.action.side() == side && is_copy(d.action) && !d.is_dir() && d.moved.is_none();
        self.done().filter(|(d, _)| copied(d)).count()
    }

    /// How many entries were removed.
    pub fn removed(&self) -> usize {
        self.done().filter(|(d, _)| matches!(d.action, Action::Delete(_))).count()
    }

    /// How many files were renamed.
    pub fn moved(&self) -> usize {
        self.done().filter(|(d, _)| d.moved.is_some()).count()
    }

    /// How many entries were removed from a side.
    pub fn removed_from(&self, side: Side) -> usize {
        self.done().filter(|(d, _)| d.action == Action::Delete(side)).count()
    }

    /// How many operations were not tried.
    pub fn skipped(&self) -> usize {
        self.operations.iter().filter(|o| matches!(o.outcome, Outcome::Skipped(_))).count()
    }

    /// How many files have changed on both sides and were left alone for that.
    pub fn conflicts(&self) -> usize {
        let left = |o: &&Operation| matches!(o.outcome, Outcome::Skipped(CONFLICT));
        self.operations.iter().filter(left).count() + self.notes.iter().filter(|n| n.why == CONFLICT).count()
    }

    /// Bytes that crossed.
    pub fn bytes(&self) -> u64 {
        self.done().map(|(_, bytes)| bytes).sum()
    }
}

/// Makes two trees alike.
pub struct Runner {
    pub(super) sides: Sides,
    pub(super) options: SyncOptions,
    to_left: Arc<Batch>,
    to_right: Arc<Batch>,
    decider: Arc<dyn Decider>,
    backup: Option<Backup>,
    check: Check,
    stop: CancellationToken,
    pub(super) journal: OnceLock<Arc<Journal>>,
}

impl Runner {
    /// A run that has not begun. Errors: `InvalidArgument` for options that contradict each other.
    pub fn new(
        sides: Sides,
        options: SyncOptions,
        decider: Arc<dyn Decider>,
        check: Check,
    ) -> Result<Arc<Self>> {
        options.check()?;
        let times =
            options.transfer.preserve_times || options.criteria.time || options.direction == Direction::Both;
        // Half a file under the final name would be newer than its source, and stay.
        let transfer =
            TransferOptions { preserve_times: times, temporary_from: 0, ..options.transfer.clone() };
        let (left, right) = (sides.left.fs.clone(), sides.right.fs.clone());
        let to_right = Batch::new(left.clone(), right.clone(), transfer.clone(), Arc::clone(&decider));
        let to_left = Batch::new(right, left, transfer.clone(), Arc::clone(&decider));
        let backup = match (options.direction, &options.backup_dir) {
            (Direction::To(side), Some(dir)) => Some(Backup::new(sides.get(side).fs.clone(), dir.clone())),
            _ => None,
        };
        if let Some(Recycle { side, bin, replaced: true, .. }) = &options.recycle {
            let to = if *side == Side::Left { &to_left } else { &to_right };
            to.recycle_to(bin.clone());
        }
        let options = SyncOptions { transfer, ..options };
        let stop = CancellationToken::new();
        let journal = OnceLock::new();
        Ok(Arc::new(Runner { sides, options, to_left, to_right, decider, backup, check, stop, journal }))
    }

    /// Shares a speed limit with others, instead of one of its own for both sides. Before it runs; the first
    /// one stands.
    pub fn share_limiter(&self, limiter: &Arc<Limiter>) {
        self.to_right.share_limiter(Arc::clone(limiter));
        self.to_left.share_limiter(Arc::clone(limiter));
    }

    /// Tells `observer` of each file that is copied. Before it runs; the first one stands.
    pub fn observe(&self, observer: &Arc<dyn Observer>) {
        self.to_left.observe(Arc::clone(observer));
        self.to_right.observe(Arc::clone(observer));
    }

    /// The speed limit of both sides together, which may be changed while it runs.
    pub fn limiter(&self) -> &Arc<Limiter> {
        let limiter = self.to_right.limiter();
        self.to_left.share_limiter(Arc::clone(limiter));
        limiter
    }

    /// The progress of what is copied to a side.
    pub fn tracker(&self, to: Side) -> &Arc<Tracker> {
        self.batch(to).tracker()
    }

    pub(super) fn batch(&self, to: Side) -> &Arc<Batch> {
        match to {
            Side::Left => &self.to_left,
            Side::Right => &self.to_right,
        }
    }

    /// Stops it: files in work are given up, what was not begun is skipped.
    pub fn cancel(&self) {
        self.stop.cancel();
        self.to_left.cancel();
        self.to_right.cancel();
    }

    /// Compares and applies. Errors: those of [`compare`]; everything after it stands in the report.
    pub async fn run(self: &Arc<Self>) -> Result<SyncReport> {
        let began = Instant::now();
        let found = self.compare().await?;
        let mut report = self.apply(found).await;
        report.elapsed = began.elapsed();
        Ok(report)
    }

    /// Only compares. Errors: those of [`compare`]; `Canceled`.
    pub async fn compare(&self) -> Result<Differences> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ErrorKind::Canceled.into()),
            found = compare(&self.sides, &self.options) => found,
        }
    }

    /// Settles one difference, with all below it where it stands for a tree.
    pub async fn resolve(self: &Arc<Self>, difference: &Difference) -> Result<SyncReport> {
        let all = if difference.tree {
            expand(&self.sides, &self.options, difference).await?
        } else {
            Differences { items: vec![difference.clone()], ..Differences::default() }
        };
        Ok(self.apply(all).await)
    }

    /// Does what the differences say, and nothing else. Dropped, it stops; what was done stays done.
    pub async fn apply(self: &Arc<Self>, found: Differences) -> SyncReport {
        let began = Instant::now();
        self.limiter();
        let mut work = Work {
            outcomes: vec![Outcome::Skipped("stopped"); found.items.len()],
            given: HashMap::new(),
            items: found.items.into_iter().map(Arc::new).collect(),
            failures: found.failures,
            broken: HashSet::new(),
            base: found.base,
        };
        for side in [Side::Left, Side::Right] {
            let copied = |d: &&Arc<Difference>| {
                !d.is_dir() && is_copy(d.action) && d.action.side() == side && d.moved.is_none()
            };
            self.batch(side).announce(work.items.iter().filter(copied).map(|d| d.bytes()));
        }
        let (mut directories, mut files, mut removed, mut emptied) = (vec![], vec![], vec![], vec![]);
        for (n, d) in work.items.iter().enumerate() {
            match (d.action, d.is_dir()) {
                (Action::Delete(_), true) => emptied.push(n),
                (Action::Delete(_), false) => removed.push(n),
                (_, true) => directories.push(n),
                (_, false) => files.push(n),
            }
        }
        let made = directories.clone();
        for level in levels(&work, directories) {
            self.all(&mut work, level).await;
        }
        self.all(&mut work, files).await;
        self.all(&mut work, removed).await;
        for level in levels(&work, emptied).into_iter().rev() {
            self.all(&mut work, level).await;
        }
        self.directory_times(&mut work, &made).await;
        if self.stop.is_cancelled() && work.failures.is_empty() {
            work.failures.push(Error::new(ErrorKind::Canceled));
        }
        let mut given = work.given;
        let operations = work.items.into_iter().map(Arc::unwrap_or_clone).zip(work.outcomes).enumerate();
        let operations = operations.map(|(n, (difference, outcome))| Operation {
            difference,
            outcome,
            given: given.remove(&n),
        });
        SyncReport {
            operations: operations.collect(),
            notes: found.notes,
            failures: work.failures,
            seen: found.seen,
            base: work.base,
            elapsed: began.elapsed(),
        }
    }

    /// Runs operations that may run at the same time.
    async fn all(self: &Arc<Self>, work: &mut Work, numbers: Vec<usize>) {
        let mut tasks: JoinSet<(usize, Result<Ended>)> = JoinSet::new();
        let mut numbers = numbers.into_iter();
        let mut panicked = 0;
        loop {
            while tasks.len() < AT_ONCE
                && !self.stop.is_cancelled()
                && let Some(n) = numbers.next()
            {
                let Some(item) = work.items.get(n).cloned() else { continue };
                if let Some(why) = work.hindered(&item) {
                    work.end(n, Outcome::Skipped(why));
                    continue;
                }
                let me = Arc::clone(self);
                tasks.spawn(async move { (n, me.one(&item).await) });
            }
            let Some(ended) = tasks.join_next().await else { break };
            match ended {
                Ok((n, Ok(ended))) => {
                    work.given.extend(ended.given.map(|given| (n, given)));
                    work.remember(n, ended.now);
                    work.end(n, ended.outcome);
                }
                // Somebody gave it all up: this run, its session, or who was asked.
                Ok((n, Err(e))) if e.kind() == ErrorKind::Canceled => {
                    self.cancel();
                    work.end(n, Outcome::Skipped("stopped"));
                }
                Ok((n, Err(e))) => self.failed(work, n, e),
                Err(_) => panicked += 1,
            }
        }
        for _ in 0..panicked {
            work.failures.push(Error::new(ErrorKind::Internal).with_detail("a transfer task failed"));
        }
    }

    fn failed(&self, work: &mut Work, n: usize, error: Error) {
        work.end(n, Outcome::Failed(work.failures.len()));
        work.failures.push(error);
        if self.options.transfer.fail_fast {
            self.cancel();
        }
    }

    async fn one(&self, d: &Difference) -> Result<Ended> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ErrorKind::Canceled.into()),
            () = self.limiter().unpaused() => {}
        }
        let entry = self.entry(d);
        let again = match &entry {
            Some(entry) if entry.was_done() => {
                self.was_done(d);
                return Ok(Ended::done(self.in_common_since(d).await));
            }
            Some(entry) => {
                entry.begun(0).await;
                entry.was_begun()
            }
            None => false,
        };
        let ended = self.settle(d, again).await?;
        if let (Some(entry), Outcome::Done(_)) = (&entry, ended.outcome) {
            entry.done().await;
        }
        Ok(ended)
    }

    /// Does one operation. `again`: it was begun before this run, and may have been done.
    async fn settle(&self, d: &Difference, again: bool) -> Result<Ended> {
        let settled = match d.conflict {
            Some(Conflict::Ask) => {
                let before = if again { self.was_settled(d).await? } else { None };
                let side = match before {
                    None => self.ask(d).await?,
                    before => before,
                };
                match side {
                    Some(side) => Difference { action: Action::Update(side), conflict: None, ..d.clone() },
                    None => return Ok(Ended { outcome: Outcome::Skipped(CONFLICT), ..Ended::done(None) }),
                }
            }
            _ => d.clone(),
        };
        let target = settled.action.side();
        match settled.action {
            Action::Delete(_) => {
                self.remove(d, target, again).await?;
                Ok(Ended::done(None))
            }
            Action::New(_) if d.is_dir() => {
                self.make_dir(d, target).await?;
                let both = d.facts(target.other()).map(|f| (f.clone(), f.clone()));
                Ok(Ended::done(both))
            }
            Action::New(_) | Action::Update(_) => {
                let did = match &settled.moved {
                    Some(old) => self.rename(&settled, old, target, again).await?,
                    None => self.copy(&settled, target, again).await?,
                };
                let now = self.in_common(&settled, target, did.facts).await?;
                Ok(Ended { outcome: Outcome::Done(did.bytes), now, given: did.given })
            }
        }
    }

    /// What both sides have in common after a copy, where the next run wants to know: the source as it was
    /// copied, the target as it is, if that is surely the copy. Else the next run compares contents.
    pub(super) async fn in_common(
        &self,
        d: &Difference,
        target: Side,
        copied: Facts,
    ) -> Result<Option<(Facts, Facts)>> {
        if self.options.base.is_none() {
            return Ok(None);
        }
        let to = d.place(target, &self.sides)?;
        let text = self.is_text(target, &d.place(target.other(), &self.sides)?, &to, &copied);
        let now = look(self.sides.get(target), &to).await?;
        Ok(now
            .filter(|now| self.is_copy(&copied, now, target, text))
            .map(|now| if target == Side::Right { (copied, now) } else { (now, copied) }))
    }

    /// Which side gets the other's file.
    async fn ask(&self, d: &Difference) -> Result<Option<Side>> {
        let known = |side| d.facts(side).map_or((0, None), |f| (f.size, f.modified));
        for side in [Side::Right, Side::Left] {
            let query = Query::Overwrite {
                target: d.place(side, &self.sides)?,
                source: known(side.other()),
                existing: known(side),
            };
            match self.decider.decide(query).await {
                Answer::Yes | Answer::YesToAll => return Ok(Some(side)),
                Answer::Abort => {
                    self.cancel();
                    return Ok(None);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    async fn make_dir(&self, d: &Difference, side: Side) -> Result<()> {
        let at = d.place(side, &self.sides)?;
        if self.check == Check::Both {
            self.unchanged(d, side.other()).await?;
        }
        let fs = &self.sides.get(side).fs;
        let mut attributes = Attributes::none();
        if self.options.transfer.preserve_modes && fs.capabilities().set_mode {
            // The owner must be able to fill it.
            let mode = d.facts(side.other()).and_then(|f| f.mode);
            attributes.mode = mode.map(|m| (m & 0o777) | 0o700);
        }
        match fs.create_dir(&at, &attributes).await {
            Ok(()) => Ok(()),
            // Somebody else made it: that is what was wanted.
            Err(e) => match fs.stat(&at, Follow::No).await {
                Ok(m) if m.is_dir() => Ok(()),
                _ => Err(e),
            },
        }
    }

    /// Copies, and says what crossed.
    async fn copy(&self, d: &Difference, target: Side, again: bool) -> Result<Did> {
        let source = target.other();
        let (from, to) = (d.place(source, &self.sides)?, d.place(target, &self.sides)?);
        // What is copied is what is there now; its size at the time of the comparison would cut it.
        let facts = match look(self.sides.get(source), &from).await? {
            Some(now) if self.check == Check::Target && now.kind == FileType::File => now,
            now => {
                self.same(d, source, &from, now.as_ref())?;
                now.ok_or(ErrorKind::Internal)?
            }
        };
        if d.conflict == Some(Conflict::Both) {
            return self.copy_beside(d, target, &facts, again).await.map(|bytes| Did::new(bytes, facts));
        }
        if again && self.was_copied(d, target, &facts).await? {
            self.was_done(d);
            return Ok(Did::new(0, facts));
        }
        // What was there is in the backup already.
        let backed = again && self.backup.is_some() && look(self.sides.get(target), &to).await?.is_none();
        if !backed {
            self.unchanged(d, target).await?;
        }
        let kept = match (&self.backup, d.facts(target)) {
            (Some(backup), Some(old)) if !backed => {
                Some((backup, backup.keep(&to, d.path(target), old).await?))
            }
            _ => None,
        };
        let replaces = d.facts(target).is_some() && !backed && !matches!(kept, Some((_, Kept::Moved(_))));
        let copied = self.batch(target).copy_one(&from, &to, &metadata(&facts), replaces).await;
        if let (Err(_), Some((backup, kept))) = (&copied, &kept) {
            backup.restore(kept, &to).await;
        }
        copied.map(|receipt| Did { given: Some(Box::new(receipt.given)), ..Did::new(receipt.sent, facts) })
    }

    /// Renames what was moved. Like a removal, it is done only while both sides are what was compared. Where the
    /// target cannot, after all, it is copied and then removed.
    async fn rename(&self, d: &Difference, old: &Difference, target: Side, again: bool) -> Result<Did> {
        let source = target.other();
        let renamed = again && self.was_renamed(d, old, target).await?;
        self.unchanged(old, source).await?;
        self.unchanged(d, source).await?;
        if !renamed {
            self.unchanged(d, target).await?;
            self.unchanged(old, target).await?;
        }
        let facts = d.facts(source).cloned().ok_or(ErrorKind::Internal)?;
        let fs = &self.sides.get(target).fs;
        let to = d.place(target, &self.sides)?;
        let done = match renamed {
            true => Ok(()),
            false => fs.rename(&old.place(target, &self.sides)?, &to, Replace::No).await,
        };
        match done {
            Err(e) if matches!(e.kind(), ErrorKind::CrossDevice | ErrorKind::Unsupported) => {
                self.batch(target).announce([facts.size]);
                let copied = self.copy(d, target, again).await?;
                self.remove(old, target, again).await?;
                return Ok(copied);
            }
            renamed => renamed?,
        }
        let capabilities = fs.capabilities();
        let was = old.facts(target);
        let mut attributes = Attributes::none();
        if self.options.transfer.preserve_times && capabilities.set_times {
            attributes = Attributes::times(facts.modified, facts.modified);
        }
        if self.options.transfer.preserve_modes && capabilities.set_mode {
            attributes.mode = facts.mode.filter(|m| was.and_then(|f| f.mode) != Some(*m)).map(|m| m & 0o777);
        }
        if !attributes.is_empty() {
            fs.set_attributes(&to, &attributes, Follow::No).await?;
        }
        Ok(Did::new(0, facts))
    }

    async fn remove(&self, d: &Difference, side: Side, again: bool) -> Result<()> {
        let at = d.place(side, &self.sides)?;
        let fs = &self.sides.get(side).fs;
        // It is removed because the other side does not have it.
        self.unchanged(d, side.other()).await?;
        // What is gone already is as it should be; what was reviewed is no longer what it was.
        let may_be_gone = again || self.check == Check::Target;
        if d.is_dir() {
            return match fs.remove_dir(&at).await {
                Err(e) if e.kind() == ErrorKind::NotFound && may_be_gone => Ok(()),
                Err(e) if e.kind() == ErrorKind::NotFound => self.same(d, side, &at, None),
                other => other,
            };
        }
        if may_be_gone && look(self.sides.get(side), &at).await?.is_none() {
            return Ok(());
        }
        self.unchanged(d, side).await?;
        match (&self.backup, d.facts(side)) {
            (Some(backup), Some(facts)) => backup.take(&at, d.path(side), facts).await.map(|_| ()),
            _ => match self.options.recycle.as_ref().filter(|r| r.removed && r.side == side) {
                Some(to) => recycle(fs, &at, &to.bin).await.map(|_| ()),
                None => fs.remove_file(&at).await,
            },
        }
    }

    /// Fails where a side no longer holds what was compared.
    pub(super) async fn unchanged(&self, d: &Difference, side: Side) -> Result<()> {
        let at = d.place(side, &self.sides)?;
        let now = look(self.sides.get(side), &at).await?;
        self.same(d, side, &at, now.as_ref())
    }

    fn same(&self, d: &Difference, side: Side, at: &VPath, now: Option<&Facts>) -> Result<()> {
        let why = match (d.facts(side), now) {
            (None, None) => return Ok(()),
            (None, Some(_)) => "it was missing when it was compared and is there now",
            (Some(_), None) => "it was there when it was compared and is missing now",
            (Some(then), Some(now)) => {
                if then.still(now, self.sides.get(side).fs.capabilities().mtime_granularity) {
                    return Ok(());
                }
                "it has changed since it was compared"
            }
        };
        Err(Error::new(ErrorKind::PreconditionFailed)
            .with_detail(why)
            .with_hint("compare again")
            .at(OperationKind::Stat, Some(at)))
    }

    /// The times of directories that were made, which their content changed while it was written.
    async fn directory_times(&self, work: &mut Work, made: &[usize]) {
        if !self.options.transfer.preserve_times || self.stop.is_cancelled() {
            return;
        }
        for n in made.iter().rev().copied() {
            let Some(d) = work.items.get(n).cloned() else { continue };
            let side = d.action.side();
            let fs = &self.sides.get(side).fs;
            let modified = d.facts(side.other()).and_then(|f| f.modified);
            let done = matches!(work.outcomes.get(n), Some(Outcome::Done(_)));
            if modified.is_none() || !done || !fs.capabilities().set_times {
                continue;
            }
            let set = match d.place(side, &self.sides) {
                Ok(at) => fs.set_attributes(&at, &Attributes::times(modified, modified), Follow::No).await,
                Err(e) => Err(e),
            };
            match set {
                // A server that sets none for directories (FTP) has no failure to tell of.
                Err(e) if e.kind() != ErrorKind::Unsupported => self.failed(work, n, e),
                _ => {}
            }
        }
    }
}

pub(super) fn metadata(facts: &Facts) -> Metadata {
    let mut metadata = Metadata::new(FileType::File, facts.size);
    metadata.modified = facts.modified;
    metadata.mode = facts.mode;
    metadata
}

/// How an operation ended.
struct Ended {
    outcome: Outcome,
    /// What both sides hold now.
    now: Option<(Facts, Facts)>,
    /// What a file was given.
    given: Option<Box<Given>>,
}

impl Ended {
    fn done(now: Option<(Facts, Facts)>) -> Self {
        Ended { outcome: Outcome::Done(0), now, given: None }
    }
}

/// What was copied or renamed.
struct Did {
    /// What crossed.
    bytes: u64,
    /// The source, as it was then.
    facts: Facts,
    given: Option<Box<Given>>,
}

impl Did {
    fn new(bytes: u64, facts: Facts) -> Self {
        Did { bytes, facts, given: None }
    }
}

/// Operations under way.
struct Work {
    items: Vec<Arc<Difference>>,
    outcomes: Vec<Outcome>,
    given: HashMap<usize, Box<Given>>,
    failures: Vec<Error>,
    /// Directories that could not be made, or that hold what was not removed.
    broken: HashSet<(Side, Box<[u8]>)>,
    base: Option<Base>,
}

impl Work {
    fn end(&mut self, n: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(n) {
            *slot = outcome;
        }
        let Some(item) = self.items.get(n).filter(|_| !matches!(outcome, Outcome::Done(_))) else { return };
        let side = item.action.side();
        let gone = match item.action {
            Action::Delete(_) => Some(&**item),
            _ => item.moved.as_deref(),
        };
        if let Some(gone) = gone {
            let above = above(gone.path(side)).map(|dir| (side, dir.into())).collect::<Vec<_>>();
            self.broken.extend(above);
        }
        match item.action {
            _ if item.is_dir() => {
                self.broken.insert((side, item.path(side).into()));
            }
            _ => {}
        }
    }

    /// Notes what an operation that was done has made the same.
    fn remember(&mut self, n: usize, now: Option<(Facts, Facts)>) {
        if let (Some(base), Some(item)) = (&mut self.base, self.items.get(n)) {
            if let Some(old) = &item.moved {
                base.entries.remove(old.path(Side::Left));
            }
            match now {
                Some(now) if counts(&now.0, &now.1) => {
                    base.entries.insert(item.path(Side::Left).into(), now);
                }
                _ if matches!(item.action, Action::Delete(_)) => {
                    base.entries.remove(item.path(Side::Left));
                }
                _ => {}
            }
        }
    }

    /// Why it cannot be done after what was not done before.
    fn hindered(&self, d: &Difference) -> Option<&'static str> {
        if self.broken.is_empty() {
            return None;
        }
        let side = d.action.side();
        let broken = |dir: &[u8]| self.broken.contains(&(side, dir.into()));
        if is_copy(d.action) {
            above(d.path(side)).any(broken).then_some("its directory could not be made")
        } else {
            (d.is_dir() && broken(d.path(side))).then_some("it holds what was not removed")
        }
    }
}

fn is_copy(action: Action) -> bool {
    matches!(action, Action::New(_) | Action::Update(_))
}

/// Operations by depth, the highest first.
fn levels(work: &Work, numbers: Vec<usize>) -> Vec<Vec<usize>> {
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for n in numbers {
        let depth = work.items.get(n).map_or(0, |d| d.depth());
        if levels.len() <= depth {
            levels.resize_with(depth + 1, Vec::new);
        }
        if let Some(level) = levels.get_mut(depth) {
            level.push(n);
        }
    }
    levels
}

/// What is there now, as a comparison sees it.
pub(super) async fn look(root: &Root, at: &VPath) -> Result<Option<Facts>> {
    let missing = |e: &Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let metadata = match root.fs.stat(at, Follow::No).await {
        Ok(m) => m,
        Err(e) if missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    if metadata.is_symlink()
        && let Ok(target) = root.fs.stat(at, Follow::Yes).await
        && target.is_file()
    {
        return Ok(Some(Facts::of(&target)));
    }
    Ok(Some(Facts::of(&metadata)))
}
