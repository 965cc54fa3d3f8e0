//! Walks sources and copies what it finds, with bounds on files and bytes in flight.
//!
//! A file whose connection was lost is continued while there is patience for it (`TransferOptions::reconnect`),
//! provided that the source is still what it was. What a journal says is done is looked at and left alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use session_core::batch::{
    Answer, Candidate, Decider, Ended, ItemOutcome, Observer, Overwrite, Query, Receipt, Resume,
    TransferItem, TransferOptions, TransferReport,
};
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::metadata::{FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::copy::{Copied, Copy, Existing, is_text_at};
use super::limit::Limiter;
use super::links::Trail;
use super::part::{Kept, is_lost};
use super::queue::{Finds, Look, Pair, Queue, Waiting};
use super::tracker::{Item, Tracker};
use super::verify::{Verifier, is_local};
use crate::journal::{Entry, Journal, Key};
use crate::reconnect::{Patience, SystemTimer, Timer};

/// Small files in flight for each of `TransferOptions::parallel`: they wait for answers, not for bytes.
pub(super) const SMALL_PER_SLOT: usize = 8;

/// Directories that are looked into at a time.
const LOOKS: usize = 64;

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
    source: SessionFs,
    pub(super) target: SessionFs,
    pub(super) options: TransferOptions,
    decider: Arc<dyn Decider>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    verifier: Verifier,
    limiter: OnceLock<Arc<Limiter>>,
    pub(super) observer: OnceLock<Arc<dyn Observer>>,
    journal: OnceLock<Arc<Journal>>,
    timer: OnceLock<Arc<dyn Timer>>,
    bin: OnceLock<VPath>,
    rehearses: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) report: TransferReport,
    /// Directories with the times to give them when their content is complete, deepest last.
    pub(super) directories: BTreeMap<VPath, Metadata>,
    /// An answer that stands for the rest of the batch.
    overwrite_all: Option<bool>,
    /// What was copied, by number, where it is going to be removed at the source.
    copied: Option<HashSet<Key>>,
    /// Whether the target's directories may be looked at, each asked once.
    hidden: HashMap<VPath, Arc<OnceCell<bool>>>,
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
            decider,
            tracker: Tracker::new(),
            slots: Arc::new(Semaphore::new(slots)),
            stop: CancellationToken::new(),
            verifier: Verifier::new(options.verify, options.digest),
            limiter: OnceLock::new(),
            observer: OnceLock::new(),
            journal: OnceLock::new(),
            timer: OnceLock::new(),
            bin: OnceLock::new(),
            rehearses: AtomicBool::new(false),
            state: Mutex::default(),
            options,
        })
    }

    /// Shares a speed limit with other batches, instead of one of its own. Before it runs; the first one
    /// stands.
    pub fn share_limiter(&self, limiter: Arc<Limiter>) {
        let _ = self.limiter.set(limiter);
    }

    /// Its speed limit, which may be changed while it runs.
    pub fn limiter(&self) -> &Arc<Limiter> {
        self.limiter.get_or_init(|| Arc::new(Limiter::of(&self.options)))
    }

    /// Tells `observer` of each item. Before it runs; the first one stands.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    /// Keeps account of what is done, and leaves alone what was. Before it runs; the first one stands.
    pub fn keep_journal(&self, journal: Arc<Journal>) {
        let _ = self.journal.set(journal);
    }

    /// Files that are replaced go to this directory of the target, under a name that says when. Before it runs; the
    /// first one stands.
    pub fn recycle_to(&self, bin: VPath) {
        let _ = self.bin.set(bin);
    }

    /// Another clock than this machine's. Before it runs; the first one stands.
    pub fn set_timer(&self, timer: Arc<dyn Timer>) {
        let _ = self.timer.set(timer);
    }

    /// Looks and decides, and changes nothing: the report says what would be done, and `Done` is what would be
    /// copied. Whether there is room, or the right to write, it does not know. Before it runs.
    pub fn rehearse(&self) {
        self.rehearses.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_rehearsal(&self) -> bool {
        self.rehearses.load(Ordering::Relaxed)
    }

    fn timer(&self) -> &Arc<dyn Timer> {
        self.timer.get_or_init(|| Arc::new(SystemTimer))
    }

    /// Its progress.
    pub fn tracker(&self) -> &Arc<Tracker> {
        &self.tracker
    }

    /// Stops it: files in work are given up.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs all jobs and reports. Never an error of its own: what failed stands in the report.
    pub async fn run(self: &Arc<Self>, jobs: Vec<Job>) -> TransferReport {
        let began = Instant::now();
        self.work(jobs).await;
        self.tracker.scanned();
        self.finish_directories().await;
        self.sweep().await;
        let mut state = self.state();
        if self.stop.is_cancelled() && state.report.failures.is_empty() {
            state.report.failures.push(Error::new(ErrorKind::Canceled));
        }
        let mut report = std::mem::take(&mut state.report);
        report.elapsed = began.elapsed();
        report
    }

    /// Walks and moves until nothing is left, or the batch is stopped.
    async fn work(self: &Arc<Self>, jobs: Vec<Job>) {
        let mut queue = Queue::of(jobs);
        let lookers = Arc::new(Semaphore::new(LOOKS));
        let mut tasks = JoinSet::new();
        let (tell, mut told) = mpsc::unbounded_channel();
        while !self.stop.is_cancelled() {
            if tasks.is_empty() && queue.is_empty() {
                // A look that is over has told all that it found.
                match told.try_recv() {
                    Ok(found) => {
                        self.found(&mut queue, found);
                        continue;
                    }
                    Err(_) => break,
                }
            }
            // Nobody looks for more: totals are final.
            if !queue.has_looks() && tell.strong_count() == 1 && told.is_empty() {
                self.tracker.scanned();
            }
            tokio::select! {
                biased;
                Some(found) = told.recv() => self.found(&mut queue, found),
                Some(over) = tasks.join_next() => self.over(over),
                Ok(permit) = Arc::clone(&lookers).acquire_owned(), if queue.may_look() => {
                    let Some(look) = queue.look() else { continue };
                    let (me, tell) = (Arc::clone(self), tell.clone());
                    self.start(&mut tasks, permit, async move { me.look(look, &tell).await });
                }
                Ok(permit) = Arc::clone(&self.slots).acquire_many_owned(queue.weight().unwrap_or(1)),
                    if queue.weight().is_some() =>
                {
                    let Some(file) = queue.file() else { continue };
                    let (me, tell) = (Arc::clone(self), file.may_lead().then(|| tell.clone()));
                    self.start(&mut tasks, permit, async move { me.entry(&file, tell).await });
                }
            }
        }
        while let Some(over) = tasks.join_next().await {
            self.over(over);
        }
    }

    /// Takes in what a look found, and counts it.
    fn found(&self, queue: &mut Queue, found: Finds) {
        for size in found.files.iter().filter_map(Waiting::size) {
            self.tracker.found(size);
        }
        queue.add(found);
    }

    fn over(&self, over: std::result::Result<(), JoinError>) {
        if over.is_err_and(|e| e.is_panic()) {
            self.fail(None, Error::new(ErrorKind::Internal).with_detail("a transfer task failed"));
        }
    }

    /// Starts a task that ends with the batch.
    fn start(
        &self,
        tasks: &mut JoinSet<()>,
        permit: OwnedSemaphorePermit,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        tasks.spawn(async move {
            let _permit = permit;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Looks at what was named, or into a directory, and tells what it finds.
    async fn look(&self, look: Look, tell: &UnboundedSender<Finds>) {
        let looked = match &look.metadata {
            Some(metadata) => self.directory(&look, metadata, tell).await,
            None => self.named(look, tell).await,
        };
        if let Err(e) = looked {
            self.fail(None, e);
        }
    }

    /// Moves one entry that is no directory.
    /// `tell` hears of the directory to which a link leads.
    async fn entry(&self, entry: &Waiting, tell: Option<UnboundedSender<Finds>>) {
        let (from, to, metadata) = match entry.whole() {
            Ok(whole) => whole,
            Err(e) => return self.fail(None, e),
        };
        match metadata.file_type {
            FileType::File => self.file(from, to, metadata, entry.within()).await,
            FileType::Symlink => match self.source.stat(&from, Follow::Yes).await {
                // What it leads to was not known when it was found.
                Ok(m) if tell.is_some() && !self.takes(&from, &entry.within().root, &m) => {}
                Ok(m) if m.is_file() => {
                    self.tracker.found(m.size);
                    self.file(from, to, m, entry.within()).await;
                }
                Ok(m)
                    if m.is_dir()
                        && let Some(tell) = tell =>
                {
                    self.lead((from, to), m, entry.within(), &tell).await;
                }
                Ok(_) => self.skip(item(&from, &to, 0), "a symbolic link to a directory"),
                Err(e) => self.fail(Some(item(&from, &to, 0)), e),
            },
            FileType::Directory | FileType::Other => {
                self.skip(item(&from, &to, 0), "not a regular file");
            }
        }
    }

    /// A source as it was named: a link is what it leads to.
    async fn named(&self, look: Look, tell: &UnboundedSender<Finds>) -> Result<()> {
        let Look { from, to, root, .. } = look;
        let metadata = self.source.stat(&from, Follow::Yes).await?;
        if metadata.is_dir() && !self.options.recursive {
            return Err(Error::new(ErrorKind::IsADirectory)
                .with_hint("give -r to copy directories")
                .at(OperationKind::Open, Some(&from)));
        }
        if !self.takes(&from, &from, &metadata) {
            return Ok(());
        }
        let mut found = Finds::default();
        if metadata.is_dir() {
            let trail = match self.options.follow_links {
                true => Some(Trail::begin(&self.source, &from).await?),
                false => None,
            };
            found.looks.push(Look { from, to, root, within: None, metadata: Some(metadata), trail });
        } else {
            let parent = |path: &VPath| path.parent().unwrap_or_else(VPath::root);
            let within = Pair::there(parent(&from), parent(&to));
            found.files.push(Waiting::new(&within, from.name(), to.name(), &metadata));
        }
        // Whoever listens is there until this task is over.
        let _ = tell.send(found);
        Ok(())
    }

    fn takes(&self, path: &VPath, root: &VPath, metadata: &Metadata) -> bool {
        let candidate = Candidate { path, root, metadata };
        self.options.selection.as_ref().is_none_or(|s| s.0.takes(&candidate))
    }

    /// Whether a file is moved as text: it is one, and one side can tell.
    pub(crate) fn is_text(&self, from: &VPath, to: &VPath, metadata: &Metadata) -> bool {
        let candidate = Candidate { path: from, root: from, metadata };
        self.options.text.as_ref().is_some_and(|s| s.0.takes(&candidate))
            && (is_text_at(&self.source, from) || is_text_at(&self.target, to))
    }

    async fn directory(
        &self,
        Look { from, to, root, within, trail, .. }: &Look,
        metadata: &Metadata,
        tell: &UnboundedSender<Finds>,
    ) -> Result<()> {
        let within = Arc::new(Pair {
            from: from.clone(),
            to: to.clone(),
            root: root.clone(),
            above: within.clone(),
            trail: trail.clone(),
            metadata: Some(metadata.clone()),
            made: OnceCell::new(),
        });
        if !self.options.exclude_empty_directories {
            self.make(&within).await?;
        }
        let mut pages = self.source.list(from, &ListOptions::default()).await?;
        while let Some(page) = pages.next_page().await? {
            let mut found = Finds::default();
            for entry in page {
                if self.options.exclude_hidden && entry.name.first() == Some(&b'.') {
                    continue;
                }
                let path = from.join(&entry.name)?;
                // What a link is that is followed shows when it is looked at.
                let later = trail.is_some() && entry.metadata.is_symlink();
                if !later && !self.takes(&path, root, &entry.metadata) {
                    continue;
                }
                let name = self.name_at_target(&entry.name);
                if entry.metadata.is_dir() {
                    let (to, metadata) = (to.join(name)?, Some(entry.metadata));
                    let within = Some(Arc::clone(&within));
                    let (root, trail) = (root.clone(), trail.clone());
                    found.looks.push(Look { from: path, to, root, within, metadata, trail });
                } else {
                    found.files.push(Waiting::new(&within, &entry.name, &name, &entry.metadata));
                }
            }
            let _ = tell.send(found);
        }
        Ok(())
    }

    /// A name as it is at the target.
    fn name_at_target(&self, name: &[u8]) -> Vec<u8> {
        let name = self.options.name_case.apply(name);
        match &self.options.invalid_chars {
            Some(invalid) if is_local(&self.target) => invalid.to_local(&name),
            Some(invalid) if is_local(&self.source) => invalid.to_remote(&name),
            _ => name,
        }
    }

    /// Moves one file that was found in a directory.
    async fn file(&self, from: VPath, to: VPath, metadata: Metadata, within: &Arc<Pair>) {
        let record = item(&from, &to, metadata.size);
        let new = match self.make(within).await {
            Ok(new) => new,
            Err(e) => return self.fail(Some(record), e),
        };
        let entry = self.entry_of(&from, &to, &metadata);
        if let Some(entry) = &entry
            && self.was_done(entry, &from, &to, &metadata).await
        {
            self.tracker.was_there(metadata.size);
            entry.done().await;
            self.note_copied(&from, &to, &metadata);
            return self.skip(record, "it was moved before the job was interrupted");
        }
        // What this job began it was allowed to write, whatever stands there now.
        let begun = entry.is_some_and(|e| e.was_begun()) && self.options.overwrite != Overwrite::Continue;
        let may = if begun { Ok(Some(Existing::Unknown)) } else { self.may_write(&to, &metadata).await };
        let existing = match may {
            // Any may be replaced, and there is none.
            Ok(Some(Existing::Unknown)) if new && !begun => Existing::Missing,
            Ok(Some(existing)) => existing,
            Ok(None) => {
                self.tracker.was_there(metadata.size);
                return self.skip(record, "it exists");
            }
            Err(e) => return self.fail(Some(record), e),
        };
        if self.is_rehearsal() {
            let mut state = self.state();
            state.report.counts.done += 1;
            state.report.counts.bytes += metadata.size;
            if self.options.details {
                state.report.items.push((record, ItemOutcome::Done(metadata.size)));
            }
            return;
        }
        match self.transfer(&from, &to, &metadata, existing).await {
            Ok(receipt) => {
                self.note_copied(&from, &to, &metadata);
                self.moved(record, receipt);
            }
            Err(e) => self.note(Some(record), e),
        }
    }

    pub(super) fn source(&self) -> &SessionFs {
        &self.source
    }

    /// Whether an earlier run of this job was interrupted.
    pub(super) fn is_taken_up(&self) -> bool {
        self.journal.get().is_some_and(|j| j.is_taken_up())
    }

    /// From now on what was copied is remembered.
    pub(super) fn remember_copied(&self) {
        self.state().copied = Some(HashSet::new());
    }

    pub(super) fn take_copied(&self) -> HashSet<Key> {
        self.state().copied.take().unwrap_or_default()
    }

    fn note_copied(&self, from: &VPath, to: &VPath, metadata: &Metadata) {
        if let Some(copied) = &mut self.state().copied {
            copied.insert(Key::of(from, to, metadata.size, metadata.modified));
        }
    }

    /// The journal's account of a file.
    fn entry_of(&self, from: &VPath, to: &VPath, metadata: &Metadata) -> Option<Entry> {
        let key = || Key::of(from, to, metadata.size, metadata.modified);
        self.journal.get().map(|journal| journal.entry(key(), metadata.size))
    }

    /// Moves one file, with all the patience there is, and tells the observer of it.
    pub(super) async fn transfer(
        &self,
        from: &VPath,
        to: &VPath,
        metadata: &Metadata,
        existing: Existing,
    ) -> Result<Receipt> {
        self.limiter().unpaused().await;
        let record = item(from, to, metadata.size);
        let entry = self.entry_of(from, to, metadata);
        if let Some(observer) = self.observer.get() {
            observer.began(&record);
        }
        let tracked = self.tracker.begin(to.display(), metadata.size);
        let began = self.target.session().now();
        let copy = Copy {
            source: &self.source,
            from,
            metadata,
            target: &self.target,
            to,
            existing,
            text: self.is_text(from, to, metadata),
            options: &self.options,
            decider: &*self.decider,
            verifier: &self.verifier,
            limiter: self.limiter(),
            item: &tracked,
            entry: entry.as_ref(),
            bin: self.bin.get(),
        };
        let known = entry.as_ref().and_then(|e| e.known(is_local(&self.target)));
        let unfinished = if copy.options.resume != Resume::Off { entry.as_ref() } else { None };
        let upload = unfinished.and_then(Entry::unfinished);
        let mut kept = Kept { known, upload, ..Kept::default() };
        let mut attempts = 0;
        let (copied, breaks) = loop {
            attempts += 1;
            let error = match self.patiently(&copy, &mut kept, &tracked).await {
                Ok(done) => break done,
                Err(e) => e,
            };
            match self.decider.decide(Query::Retry { error: error.clone(), attempts }).await {
                Answer::Yes if attempts < 10 => {}
                answer => {
                    if answer == Answer::Abort {
                        self.stop.cancel();
                    }
                    if let Some(observer) = self.observer.get() {
                        observer.ended(&record, Ended::Failed(&error));
                    }
                    return Err(error);
                }
            }
        };
        if let Some(note) = kept.note {
            self.state().report.notes.push((to.clone(), note));
        }
        let text = copy.text;
        if let Some(entry) = &entry {
            entry.done().await;
        }
        let (source, target) = (self.source.session(), self.target.session());
        let receipt = Receipt {
            source: from.clone(),
            source_site: source.site(),
            target: to.clone(),
            target_site: target.site(),
            size: copied.size,
            sent: tracked.sent(),
            text,
            digest: copied.digest,
            proof: copied.proof,
            guarantee: copied.guarantee,
            given: copied.given,
            breaks,
            session: target.id().clone(),
            operation: copied.operation,
            began,
            ended: target.now(),
        };
        if let Some(observer) = self.observer.get() {
            observer.ended(&record, Ended::Moved(&receipt));
        }
        Ok(receipt)
    }

    /// One copy, continued when the connection was lost and there is one again. Gives it with how often
    /// that was.
    async fn patiently(&self, copy: &Copy<'_>, kept: &mut Kept, tracked: &Item) -> Result<(Copied, u32)> {
        let mut patience = Patience::new(self.options.reconnect);
        let mut breaks = 0;
        loop {
            tracked.at(0);
            let e = match copy.run(kept).await {
                Ok(copied) => return Ok((copied, breaks)),
                Err(e) if may_go_on(&e) => e,
                Err(e) => return Err(e),
            };
            if copy.existing == Existing::Hidden || self.options.overwrite == Overwrite::Append {
                // What arrived of it cannot be seen: doing it again could do it twice.
                return Err(e);
            }
            let timer = self.timer();
            let Some(pause) = patience.lost(timer.now(), tracked.furthest(), timer.chance()) else {
                return Err(e);
            };
            breaks += 1;
            timer.sleep(pause).await;
            match self.source.stat(copy.from, Follow::Yes).await {
                Ok(m) if (m.size, m.modified) == (copy.metadata.size, copy.metadata.modified) => {}
                Ok(_) => {
                    return Err(Error::new(ErrorKind::Corrupt)
                        .with_detail("the source changed while the connection was lost")
                        .with_source(e));
                }
                Err(e) if may_go_on(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether an interrupted run of this job moved the file, and it is still there.
    async fn was_done(&self, entry: &Entry, from: &VPath, to: &VPath, metadata: &Metadata) -> bool {
        let (done, begun) = (entry.was_done(), entry.was_begun());
        if !done && !begun {
            return false;
        }
        let Ok(there) = self.target.stat(to, Follow::Yes).await else {
            // Who may not look has only the journal.
            return done && self.is_hidden(to.parent().unwrap_or_else(VPath::root)).await.unwrap_or(false);
        };
        let capabilities = self.target.capabilities();
        let timed =
            self.options.preserve_times && capabilities.set_times && !self.options.ignore_attribute_errors;
        let same_time = match (there.modified, metadata.modified) {
            (Some(theirs), Some(ours)) => {
                let apart = theirs.duration_since(ours).or_else(|_| ours.duration_since(theirs));
                apart.is_ok_and(|apart| apart <= capabilities.mtime_granularity)
            }
            _ => false,
        };
        // What was done is told by the journal; what was only begun, by its time.
        there.is_file()
            && (there.size == metadata.size || self.is_text(from, to, metadata))
            && if done { !timed || same_time } else { timed && same_time }
    }

    fn moved(&self, record: TransferItem, receipt: Receipt) {
        let mut state = self.state();
        let report = &mut state.report;
        report.counts.done += 1;
        report.counts.bytes += receipt.sent;
        report.counts.verified += u64::from(receipt.proof.is_digest());
        if self.options.details {
            report.items.push((record, ItemOutcome::Done(receipt.sent)));
            report.receipts.push(receipt);
        }
    }

    /// The caller has seen what is in a directory of the target: nobody asks whether that can be seen.
    pub(crate) fn has_seen(&self, dir: VPath) {
        self.state().hidden.insert(dir, Arc::new(OnceCell::new_with(Some(false))));
    }

    /// Whether the account may put files into `dir` at most, and see none of them.
    /// Errors: a lost connection.
    pub(super) async fn is_hidden(&self, dir: VPath) -> Result<bool> {
        let asked = Arc::clone(self.state().hidden.entry(dir.clone()).or_default());
        let look = || async {
            match self.target.stat(&dir, Follow::Yes).await {
                Err(e) if is_lost(&e) => Err(e),
                seen => Ok(seen.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)),
            }
        };
        asked.get_or_try_init(look).await.copied()
    }

    /// Whether the target may be written: `None` for no; else what is known of it.
    async fn may_write(&self, to: &VPath, metadata: &Metadata) -> Result<Option<Existing>> {
        if self.is_hidden(to.parent().unwrap_or_else(VPath::root)).await? {
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
            Overwrite::Always | Overwrite::Continue | Overwrite::Append => true,
            Overwrite::Never => false,
            Overwrite::Newer => match (metadata.modified, existing.modified) {
                (Some(ours), Some(theirs)) => {
                    // What the target cannot express is no difference.
                    ours > theirs + self.target.capabilities().mtime_granularity
                }
                _ => true,
            },
            Overwrite::Ask => return Ok(self.ask(to, metadata, &existing).await),
        };
        Ok(yes.then_some(Existing::There(existing.size)))
    }

    async fn ask(&self, to: &VPath, metadata: &Metadata, existing: &Metadata) -> Option<Existing> {
        let there = Existing::There(existing.size);
        let standing = self.state().overwrite_all;
        if let Some(all) = standing {
            return all.then_some(there);
        }
        let query = Query::Overwrite {
            target: to.clone(),
            source: (metadata.size, metadata.modified),
            existing: (existing.size, existing.modified),
        };
        let answer = self.decider.decide(query).await;
        match answer {
            Answer::YesToAll | Answer::NoToAll => {
                self.state().overwrite_all = Some(answer == Answer::YesToAll);
            }
            Answer::Abort => self.stop.cancel(),
            _ => {}
        }
        match answer {
            Answer::Yes | Answer::YesToAll => Some(there),
            Answer::Continue => Some(Existing::Beginning(existing.size)),
            _ => None,
        }
    }

    pub(super) fn skip(&self, item: TransferItem, why: &'static str) {
        if let Some(observer) = self.observer.get() {
            observer.ended(&item, Ended::Skipped(why));
        }
        let mut state = self.state();
        state.report.counts.skipped += 1;
        state.report.items.push((item, ItemOutcome::Skipped(why)));
    }

    pub(super) fn fail(&self, item: Option<TransferItem>, error: Error) {
        if let Some(observer) = self.observer.get() {
            match &item {
                Some(item) => observer.ended(item, Ended::Failed(&error)),
                None => observer.failed(&error),
            }
        }
        self.note(item, error);
    }

    /// Puts a failure into the report.
    fn note(&self, item: Option<TransferItem>, error: Error) {
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

    /// Throws away what the target keeps of files that are not what they were, or are no more. Only after
    /// everything was seen.
    async fn sweep(&self) {
        let Some(journal) = self.journal.get() else { return };
        if self.stop.is_cancelled() || !self.state().report.is_success() {
            return;
        }
        for (key, to, words) in journal.orphans() {
            let note = match super::copy::throw_away(&self.target, &to, words).await {
                Ok(()) => {
                    journal.ended(key, &to).await;
                    "its source has changed or is gone: what had been sent of it was thrown away"
                }
                // The journal still knows it.
                Err(_) => {
                    "its source has changed or is gone, and what was sent of it could not be thrown away"
                }
            };
            self.state().report.notes.push((to, note));
        }
    }
}

/// Whether the connection broke and another one is there, or will be.
fn may_go_on(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut)
        && matches!(e.retry(), Retry::Later(Some(_)))
}

pub(super) fn item(from: &VPath, to: &VPath, size: u64) -> TransferItem {
    TransferItem { source: from.clone(), target: to.clone(), size, directory: false }
}
