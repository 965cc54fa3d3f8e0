//! `Journal`: what a job has done, so that it goes on after its process was killed.
//!
//! One append-only file for each job, locked while a process works on it. Records go to the file in the
//! order they are told, by a thread of their own, and survive a `kill -9` from the moment they are written.
//! *fsync*: when the job ends, and else within a second while there is something to sync; what a loss of
//! power takes beyond that costs sending again and nothing else, because nothing is continued
//! on the journal's word alone: source and target are looked at. A part on a local disk is not continued
//! at all after the machine went down, since what was written to it may not have reached the disk.
//!
//! The size is bounded: a journal that has doubled since it was last short is written anew; beyond a million
//! files, finished ones are told by size and time at the target. No secret is ever written.

mod record;

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;
use session_core::path::VPath;

pub use self::record::Tally;
pub(crate) use self::record::{Record, State};
use crate::batch::Segment;

/// Records that wait for the disk.
const WAITING: usize = 1024;
/// Between two syncs.
const SYNC: Duration = Duration::from_secs(1);
/// How long records are gathered into one write; what a kill takes with it is looked at again, no more.
const GATHER: Duration = Duration::from_millis(2);
/// A journal shorter than this is not written anew.
const SHORT: u64 = 4 << 20;
/// No journal is longer than this.
const LONGEST: u64 = 1 << 30;

/// The number of a file within its job: its paths, size and time. Another size or time is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of a copy.
    pub fn of(from: &VPath, to: &VPath, size: u64, modified: Option<SystemTime>) -> Self {
        let mut hasher = Self::hasher([from.as_bytes(), to.as_bytes()]);
        hasher.update(&size.to_le_bytes());
        if let Some(time) = modified {
            let (sign, span) = match time.duration_since(UNIX_EPOCH) {
                Ok(after) => (1, after),
                Err(before) => (0, before.duration()),
            };
            hasher.update(&[sign]);
            hasher.update(&span.as_nanos().to_le_bytes());
        }
        Self::number(hasher)
    }

    /// The key of something else that a job does, by what tells it from all others of the job.
    pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::number(Self::hasher(parts))
    }

    fn hasher<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Hasher {
        let mut hasher = Hasher::new(Algorithm::Blake3);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher
    }

    fn number(hasher: Hasher) -> Self {
        let digest = hasher.finish();
        Key(digest.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b)))
    }
}

/// What the thread is told.
enum Told {
    Record(Record),
    Sync(SyncSender<()>),
}

/// The journal of a job that this process works on.
pub struct Journal {
    told: Mutex<Option<SyncSender<Told>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    broken: Arc<AtomicBool>,
    /// Nobody wants it any more: it is not synced at its end.
    unwanted: Arc<AtomicBool>,
    before: State,
    same_boot: bool,
    /// Uploads from before that this run goes on with.
    taken: Mutex<HashSet<u64>>,
}

fn no(path: &Path, e: std::io::Error) -> Error {
    let words = format!("the journal '{}' cannot be used: {e}", path.display());
    Error::from(e).with_detail(words)
}

pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What changes whenever the machine starts; empty where nobody tells.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

fn open(path: &Path, new: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create_new(new).mode(0o600);
    let file = options.open(path).map_err(|e| no(path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(ErrorKind::Locked)
            .with_detail("a process is working on that job")
            .with_hint("'ferry jobs' tells which")),
        Err(TryLockError::Error(e)) => Err(no(path, e)),
    }
}

fn read(path: &Path, file: &mut File) -> Result<(State, u64)> {
    let mut bytes = Vec::new();
    Read::by_ref(file).take(LONGEST).read_to_end(&mut bytes).map_err(|e| no(path, e))?;
    let (state, good) = State::read(&bytes)?;
    Ok((state, good as u64))
}

/// What a journal says, without taking it; and whether a process has it.
pub(crate) fn look(path: &Path) -> Result<(State, bool)> {
    let mut file = File::open(path).map_err(|e| no(path, e))?;
    let running = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let _ = file.unlock();
    Ok((read(path, &mut file)?.0, running))
}

impl Journal {
    /// The journal of a new job. Errors: those of the disk.
    pub fn create(path: &Path, spec: Value) -> Result<Arc<Self>> {
        let file = open(path, true)?;
        Self::begin(path, file, State::default(), vec![Record::Job(spec)])
    }

    /// Takes up a job that was interrupted, and cuts off what is torn at its end. Errors: `Locked` where a
    /// process works on it, `Unsupported` for another version's, `Corrupt` without a beginning, those of
    /// the disk.
    pub fn take_up(path: &Path) -> Result<(Arc<Self>, Value)> {
        let mut file = open(path, false)?;
        let (state, good) = read(path, &mut file)?;
        let Some(spec) = state.spec.clone() else {
            return Err(Error::new(ErrorKind::Corrupt)
                .with_detail(format!("the journal '{}' has no beginning", path.display())));
        };
        file.set_len(good).map_err(|e| no(path, e))?;
        Ok((Self::begin(path, file, state, Vec::new())?, spec))
    }

    fn begin(path: &Path, file: File, state: State, mut first: Vec<Record>) -> Result<Arc<Self>> {
        let boot = boot();
        let same_boot = !boot.is_empty() && state.begin.as_ref().is_some_and(|b| b.1 == boot);
        first.push(Record::Begin { pid: std::process::id(), boot, at: seconds() });
        let mut log = Log {
            path: path.to_owned(),
            file,
            state: state.clone(),
            short: 0,
            unsynced: None,
            unwanted: Arc::default(),
            named: false,
        };
        log.append(&first).map_err(|e| no(path, e))?;
        let (told, incoming) = sync_channel(WAITING);
        let broken = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&broken);
        let unwanted: Arc<AtomicBool> = Arc::default();
        log.unwanted = Arc::clone(&unwanted);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                if log.run(&incoming).is_err() {
                    seen.store(true, Ordering::Relaxed);
                }
            })
            .map_err(|e| no(path, e))?;
        Ok(Arc::new(Journal {
            told: Mutex::new(Some(told)),
            thread: Mutex::new(Some(thread)),
            broken,
            unwanted,
            before: state,
            same_boot,
            taken: Mutex::default(),
        }))
    }

    /// Whether it can be written no more (a full disk): the job goes on and could not be taken up exactly
    /// where it stops.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether the job was begun by another process, or before.
    pub fn is_taken_up(&self) -> bool {
        self.before.begin.is_some()
    }

    /// The account of one copy.
    pub fn entry(self: &Arc<Self>, key: Key, size: u64) -> Entry {
        Entry { journal: Arc::clone(self), key: key.0, size }
    }

    /// Unfinished uploads from before that no file of this run goes on with: what to, and their words.
    pub(crate) fn orphans(&self) -> Vec<(u64, VPath, Arc<str>)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.before.uploads.iter().filter(|(key, _)| !taken.contains(key));
        left.map(|(key, (to, words))| (*key, to.clone(), Arc::clone(words))).collect()
    }

    /// An unfinished upload is no more.
    pub(crate) async fn ended(&self, key: u64, to: &VPath) {
        self.tell(Told::Record(Record::Upload { key, to: to.clone(), words: None })).await;
    }

    /// Notes how far the whole is.
    pub async fn progress(&self, tally: Tally) {
        self.tell(Told::Record(Record::Progress(tally))).await;
    }

    /// The job ended by itself; on the disk when this returns. The lock is given back.
    pub async fn end(&self, outcome: &str) {
        self.tell(Told::Record(Record::End { outcome: outcome.to_owned(), at: seconds() })).await;
        self.leave().await;
    }

    /// The job ended and shall not be remembered: the lock is given back, nothing is synced. Who asks
    /// removes it.
    pub async fn discard(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
        self.leave().await;
    }

    /// The job is left to be taken up again; on the disk when this returns. The lock is given back.
    pub async fn leave(&self) {
        let thread = {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Waits until everything told so far is on the disk.
    pub async fn synced(&self) {
        let (done, wait) = sync_channel(1);
        self.tell(Told::Sync(done)).await;
        let _ = tokio::task::spawn_blocking(move || wait.recv()).await;
    }

    async fn tell(&self, mut what: Told) {
        loop {
            let Some(told) = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
            match told.try_send(what) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => what = back,
            }
            // The disk is behind: so are we.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Journal {
    /// What was told is still written; the lock goes with the thread.
    fn drop(&mut self) {
        self.told.get_mut().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The account of one copy within a job.
pub struct Entry {
    journal: Arc<Journal>,
    key: u64,
    size: u64,
}

impl Entry {
    /// It was in place when the job was interrupted.
    pub fn was_done(&self) -> bool {
        self.journal.before.done.contains(&self.key)
    }

    /// It was begun, or may have been done, when the job was interrupted.
    pub fn was_begun(&self) -> bool {
        self.journal.before.overflow || self.journal.before.open.contains_key(&self.key)
    }

    /// What the target had of it when the job was interrupted, where it was begun. `fragile`: the target
    /// forgets what was not synced when this machine goes down.
    pub fn known(&self, fragile: bool) -> Option<u64> {
        let (_, offset) = self.journal.before.open.get(&self.key)?;
        Some(if fragile && !self.journal.same_boot { 0 } else { *offset })
    }

    /// The segments of a file that was begun in some, as far as the target had them when the job was
    /// interrupted. `fragile` as above.
    pub(crate) fn segments(&self, fragile: bool) -> Vec<Segment> {
        if fragile && !self.journal.same_boot {
            return Vec::new();
        }
        let all = self.journal.before.segments.get(&self.key);
        all.into_iter().flat_map(BTreeMap::values).copied().collect()
    }

    /// The unfinished upload of it that the target kept when the job was interrupted. From now on it is this
    /// file's business.
    pub(crate) fn unfinished(&self) -> Option<Arc<str>> {
        let (_, words) = self.journal.before.uploads.get(&self.key)?;
        self.journal.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(self.key);
        Some(Arc::clone(words))
    }

    /// The target keeps an unfinished upload of it by these words, or none.
    pub(crate) async fn keeps(&self, to: &VPath, words: Option<&str>) {
        let words = words.map(str::to_owned);
        self.journal.tell(Told::Record(Record::Upload { key: self.key, to: to.clone(), words })).await;
    }

    pub(crate) async fn segment(&self, segment: &Segment) {
        self.journal.tell(Told::Record(Record::Segment { key: self.key, segment: *segment })).await;
    }

    pub(crate) async fn begun(&self, begin: u64) {
        self.journal.tell(Told::Record(Record::Open { key: self.key, size: self.size })).await;
        self.reached(begin).await;
    }

    pub(crate) async fn reached(&self, offset: u64) {
        self.journal.tell(Told::Record(Record::At { key: self.key, offset })).await;
    }

    pub(crate) async fn done(&self) {
        self.journal.tell(Told::Record(Record::Done { key: self.key })).await;
    }
}

/// The file, on its thread.
struct Log {
    path: PathBuf,
    file: File,
    state: State,
    /// Its length when it was last as short as can be.
    short: u64,
    unsynced: Option<Instant>,
    unwanted: Arc<AtomicBool>,
    /// Its name is on the disk, too.
    named: bool,
}

impl Log {
    fn run(&mut self, incoming: &Receiver<Told>) -> std::io::Result<()> {
        loop {
            let wait =
                self.unsynced.map_or(Duration::from_secs(3600), |since| SYNC.saturating_sub(since.elapsed()));
            let first = match incoming.recv_timeout(wait) {
                Ok(told) => told,
                Err(RecvTimeoutError::Timeout) => {
                    self.sync()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            };
            let (mut records, mut waiting) = (Vec::new(), Vec::new());
            // Nobody waits for a record, and a write for each would wake this thread for each.
            if matches!(first, Told::Record(_)) {
                std::thread::sleep(GATHER);
            }
            for told in std::iter::once(first).chain(incoming.try_iter().take(WAITING)) {
                match told {
                    Told::Record(record) => records.push(record),
                    Told::Sync(done) => waiting.push(done),
                }
            }
            self.append(&records)?;
            if !waiting.is_empty() || self.unsynced.is_some_and(|since| since.elapsed() >= SYNC) {
                self.sync()?;
            }
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            // What is not remembered is not written either: the length is bounded.
            let forgotten = matches!(record, Record::Done { .. }) && self.state.overflow;
            self.state.apply(record);
            if !forgotten {
                lines.extend_from_slice(&record.line());
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.file.write_all(&lines)?;
        self.unsynced.get_or_insert_with(Instant::now);
        let len = self.file.seek(SeekFrom::End(0))?;
        if len > SHORT.max(self.short * 2) { self.shorten() } else { Ok(()) }
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.unsynced = None;
        if self.unwanted.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.file.sync_data()?;
        if !std::mem::replace(&mut self.named, true)
            && let Some(dir) = self.path.parent()
        {
            // Where a directory cannot be synced, its file system does it by itself.
            let _ = File::open(dir).and_then(|d| d.sync_all());
        }
        Ok(())
    }

    /// Writes the journal anew, as short as can be: beside it, then over it in one step.
    fn shorten(&mut self) -> std::io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.try_lock().map_err(std::io::Error::from)?;
        let lines = self.state.lines();
        file.write_all(&lines)?;
        file.sync_data()?;
        std::fs::rename(&beside, &self.path)?;
        self.file = file;
        self.short = lines.len() as u64;
        self.named = false;
        self.sync()
    }
}

#[cfg(test)]
mod tests;
