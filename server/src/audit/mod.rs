//! The audit: what happened, apart from the log, for those who must prove it later.
//!
//! One stream of records, as JSON lines or W3C extended log (`w3c`), each with a number and a chain value
//! (`chain`), in files that are rotated (`file`). Whoever tells something never waits: records go through
//! a bounded queue to one thread. What does not fit, or what the disk does not take, is counted, and the
//! number is a record of its own as soon as there is room: nothing is lost silently. Where it must not be lost
//! at all, `full = "refuse"` refuses what is asked of the server while records cannot be written.

mod chain;
mod file;
mod w3c;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use session_core::error::Result;

pub use self::chain::{Problem, Verified, verify};
use self::file::AuditFile;
pub use crate::config::{Audit as AuditSettings, AuditFormat, Full, Rotate};
use crate::journal::Told;

/// Records that may wait for the thread.
const QUEUED: usize = 16_384;

/// How often a disk that took nothing is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A record on its way.
pub(crate) enum Entry {
    /// Of a session.
    Event(Box<Told>),
    /// Of the server: when, what, and what it says of itself.
    Note(SystemTime, &'static str, Value),
    /// Nothing to write: the thread looks at its orders.
    Wake,
    /// Answered with the chain value of the last record.
    Flush(SyncSender<String>),
}

/// The stream. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: SyncSender<Entry>,
    orders: Arc<Orders>,
}

/// What reaches the thread past a full queue, and what it says.
#[derive(Default)]
struct Orders {
    dropped: AtomicU64,
    reopen: AtomicBool,
    change: Mutex<Option<AuditSettings>>,
    /// The disk takes nothing, or records were dropped and that is not written yet.
    behind: AtomicBool,
}

impl Audit {
    /// Opens the file and starts the thread. Blocks. Errors: those of opening it.
    pub fn start(settings: &AuditSettings) -> Result<Audit> {
        let file = AuditFile::open(settings)?;
        let (queue, entries) = sync_channel(QUEUED);
        let orders = Arc::<Orders>::default();
        let theirs = Arc::clone(&orders);
        std::thread::Builder::new().name("audit".into()).spawn(move || write(&entries, file, &theirs))?;
        Ok(Audit { queue, orders })
    }

    pub(crate) fn push(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.orders.dropped.fetch_add(1, Ordering::Relaxed);
            self.orders.behind.store(true, Ordering::Relaxed);
        }
    }

    /// Records that were dropped, and whose number is not written yet.
    pub fn dropped(&self) -> u64 {
        self.orders.dropped.load(Ordering::Relaxed)
    }

    /// Whether records are being lost, or wait for a disk that takes none.
    pub fn is_behind(&self) -> bool {
        self.orders.behind.load(Ordering::Relaxed)
    }

    /// Opens the file anew, after it was moved away. Never lost: what waits goes to the new file already.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
        // A full queue wakes the thread anyway.
        let _ = self.queue.try_send(Entry::Wake);
    }

    /// The same file with other settings; what waits is written by the old ones.
    pub fn change(&self, settings: AuditSettings) {
        *self.orders.change.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
        let _ = self.queue.try_send(Entry::Wake);
    }

    /// Waits until everything pushed so far is on the disk, at most `patience`, and gives the chain value of
    /// the last record. Blocks the thread.
    pub fn flush(&self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let (done, wait) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => entry = back,
                Err(_) => return None,
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

/// The files of an audit, the oldest first: those that were set aside, and the one that is written.
pub fn files(file: &Path) -> Vec<PathBuf> {
    let mut all = file::old_files(file);
    if file.exists() {
        all.push(file.to_path_buf());
    }
    all
}

/// A record of the server itself as a line without its chain value.
fn line_of(format: AuditFormat, number: u64, time: &str, name: &str, value: &Value) -> String {
    match format {
        AuditFormat::Json => {
            let mut object = json!({ "time": time, "event": name });
            if let (Some(all), Some(more)) = (object.as_object_mut(), value.as_object()) {
                all.extend(more.clone());
            }
            json_line(number, &object)
        }
        AuditFormat::W3c => format!("{} {number}", w3c::note(time, name, value)),
    }
}

/// A JSON object without its end, the number before everything else. Characters that a terminal acts upon,
/// or that hide others, are escaped as the controls of ASCII are by themselves.
fn json_line(number: u64, object: &Value) -> String {
    use std::fmt::Write as _;
    let text = object.to_string();
    let rest = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or_default();
    let mut out = format!("{{\"seq\":{number},");
    for c in rest.chars() {
        let hidden = matches!(c, '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        match hidden {
            // Writing to a string does not fail.
            true => drop(write!(out, "\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

fn write(entries: &Receiver<Entry>, mut file: AuditFile, orders: &Orders) {
    let mut said = false;
    loop {
        let entry = match entries.try_recv() {
            Ok(entry) => Some(entry),
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                settle(&mut file, orders, &mut said);
                match entries.recv_timeout(if file.is_behind() { AGAIN } else { Duration::MAX }) {
                    Ok(entry) => Some(entry),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        if let Some(settings) = orders.change.lock().unwrap_or_else(PoisonError::into_inner).take() {
            file.change(settings);
        }
        if orders.reopen.swap(false, Ordering::Acquire) {
            file.reopen();
        }
        match entry {
            Some(Entry::Flush(done)) => {
                settle(&mut file, orders, &mut said);
                // A file that cannot be forced to disk (a pipe) is as good as it gets.
                let _ = file.sync();
                let _ = done.send(file.head().to_string());
            }
            Some(entry) => {
                confess(&mut file, orders);
                if !put(&mut file, entry) {
                    orders.dropped.fetch_add(1, Ordering::Relaxed);
                    settle(&mut file, orders, &mut said);
                }
            }
            None => {}
        }
    }
    settle(&mut file, orders, &mut said);
    if let Err(e) = file.sync() {
        tracing::error!(error = %e, "the audit file cannot be written");
    }
    tracing::info!(head = file.head(), "the audit file is closed");
}

/// What was dropped is a record, before the next one.
fn confess(file: &mut AuditFile, orders: &Orders) {
    let lost = orders.dropped.swap(0, Ordering::Relaxed);
    if lost > 0 && !file.note("dropped", &json!({ "count": lost }), SystemTime::now()) {
        orders.dropped.fetch_add(lost, Ordering::Relaxed);
    }
}

/// Writes what waits; a disk that does not take it is told of once.
fn settle(file: &mut AuditFile, orders: &Orders, said: &mut bool) {
    confess(file, orders);
    match file.flush() {
        Ok(()) => {
            *said = false;
            confess(file, orders);
            let behind = file.flush().is_err() || orders.dropped.load(Ordering::Relaxed) > 0;
            orders.behind.store(behind, Ordering::Relaxed);
        }
        Err(e) => {
            orders.behind.store(true, Ordering::Relaxed);
            // Once per fault, or a full disk would fill the other log too.
            if !std::mem::replace(said, true) {
                tracing::error!(error = %e, "the audit file cannot be written");
            }
        }
    }
}

/// Whether there was room.
fn put(file: &mut AuditFile, entry: Entry) -> bool {
    match entry {
        Entry::Event(told) => match told.line(file.format()) {
            Some(line) => file.put(|n| line.with(n), told.event.time),
            None => true,
        },
        Entry::Note(time, name, value) => file.note(name, &value, time),
        Entry::Wake | Entry::Flush(_) => true,
    }
}

/// A record of a session, but for its number.
enum Line {
    Json(Value),
    W3c(String),
}

impl Line {
    fn with(&self, number: u64) -> String {
        match self {
            Line::Json(object) => json_line(number, object),
            Line::W3c(line) => format!("{line} {number}"),
        }
    }
}

impl Told {
    /// `None` where this form has no line for it.
    fn line(&self, format: AuditFormat) -> Option<Line> {
        match format {
            AuditFormat::Json => Some(Line::Json(self.to_json())),
            AuditFormat::W3c => w3c::event(self).map(Line::W3c),
        }
    }
}

#[cfg(test)]
mod tests;
