//! The outbox: what receivers outside are to be told, kept on disk until they were.
//!
//! What tells of an operation is written before it, as an intent, and again after it, with its outcome
//! (house rule: nothing that was done is untold). Writes of many sessions are one transaction, which is on
//! disk before any of them goes on; with `fsync` a loss of power does not take it either. At start, and for
//! what was cut off in the middle, an intent without an outcome is compared with the store ([`recover`]) and
//! told with `recovered: true`, under the same id, unless it is sure that nothing happened.
//!
//! A receiver is told at least once, of one session in order; what fails is tried again with growing pauses
//! and ends as a dead letter. Everything is bounded. The file belongs to one process.

mod database;
mod deliver;
pub(crate) mod recover;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

pub(crate) use self::database::{Filter, Intent, Outcome};
use crate::config::Outbox as Settings;
use crate::notify::Receiver;

/// The file in the data folder.
const FILE: &str = "outbox.db";

/// Writes that wait for the thread.
const QUEUE: usize = 1024;

/// Writes in one transaction.
const BATCH: usize = 256;

/// Events that nobody waits for and that are not written yet.
const SOON: usize = 10_000;

/// What is answered when a transaction is over: its fault, if it had one.
type Answer = Box<dyn FnOnce(Option<&Error>) + Send>;

/// Work on the file, or the news that there is none.
type Work = Box<dyn FnOnce(Result<&Connection>) -> Answer + Send>;

/// Receivers by name.
type Receivers = HashMap<String, Arc<Receiver>>;

/// The outbox of a server.
pub(crate) struct Outbox {
    path: PathBuf,
    jobs: mpsc::UnboundedSender<Work>,
    room: Semaphore,
    soon: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    settings: RwLock<Settings>,
    /// By site.
    receivers: RwLock<HashMap<String, Receivers>>,
    /// Something may be due.
    wake: Arc<Notify>,
    /// Intents that were cut off.
    unclear: Mutex<Vec<String>>,
    unclear_came: Notify,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Outbox {
    /// The outbox in a data folder; no file is touched before it is needed. Errors: `Internal` where no
    /// thread can be made.
    pub(crate) fn new(data: &Path, settings: Settings) -> Result<Arc<Self>> {
        let path = data.join(FILE);
        let (jobs, waiting) = mpsc::unbounded_channel();
        let (file, fsync) = (path.clone(), settings.fsync);
        std::thread::Builder::new().name("outbox".into()).spawn(move || serve(&file, fsync, waiting))?;
        Ok(Arc::new(Outbox {
            path,
            jobs,
            room: Semaphore::new(QUEUE),
            soon: Arc::default(),
            dropped: Arc::default(),
            settings: RwLock::new(settings),
            receivers: RwLock::default(),
            wake: Arc::default(),
            unclear: Mutex::default(),
            unclear_came: Notify::new(),
        }))
    }

    /// Whether something was ever kept there.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Puts other settings in force, but for `fsync`.
    pub(crate) fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.wake.notify_one();
    }

    fn settings(&self) -> Settings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who is told of the events of a site from now on.
    pub(crate) fn set_receivers(&self, site: &str, receivers: impl Iterator<Item = Arc<Receiver>>) {
        let of_site = receivers.map(|r| (r.name.clone(), r)).collect();
        let mut all = self.receivers.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(site.to_owned(), of_site);
    }

    fn receiver(&self, name: &str) -> Option<Arc<Receiver>> {
        let all = self.receivers.read().unwrap_or_else(PoisonError::into_inner);
        let (site, _) = name.rsplit_once('/')?;
        all.get(site)?.get(name).cloned()
    }

    /// Does `work` within a transaction that is on disk when this answers; it is undone where it fails.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::new(ErrorKind::Internal).with_detail("the thread of the outbox is gone");
        let _room = self.room.acquire().await.map_err(|_| gone())?;
        let (answer, result) = oneshot::channel();
        let job: Work = Box::new(move |connection| {
            let result = connection.and_then(|c| apart(c, work));
            Box::new(move |fault| {
                let _ = answer.send(match fault {
                    Some(e) => Err(e.clone()),
                    None => result,
                });
            })
        });
        self.jobs.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// The same, without an answer: a fault is logged.
    fn run_soon(&self, what: &'static str, work: impl FnOnce(&Connection) -> Result<()> + Send + 'static) {
        let wake = Arc::clone(&self.wake);
        let job: Work = Box::new(move |connection| {
            let result = connection.and_then(|c| apart(c, work));
            Box::new(move |fault| {
                if let Some(e) = fault.or(result.as_ref().err()) {
                    tracing::error!(target: "outbox", "{what} was not written: {e:#}");
                }
                wake.notify_one();
            })
        });
        // Fails only when the process ends.
        let _ = self.jobs.send(job);
    }

    /// Writes what is about to happen: on disk when this answers. Errors: `NoSpace` where the outbox is full;
    /// those of the disk.
    pub(crate) async fn intend(&self, intents: Vec<Intent>) -> Result<()> {
        let most = self.settings().most;
        self.run(move |c| database::intend(c, &intents, most, now())).await
    }

    /// Writes what became of an intent, soon: until then it stands without an outcome, which loses nothing.
    pub(crate) fn settle(&self, id: String, outcome: Outcome) {
        self.run_soon("an outcome", move |c| database::settle(c, &id, &outcome, now()));
    }

    /// Keeps an event that no operation waits for: on disk when this answers. Errors: as of [`Outbox::intend`].
    pub(crate) async fn tell(&self, event: Intent) -> Result<()> {
        let most = self.settings().most;
        self.run(move |c| told(c, event, most)).await?;
        self.wake.notify_one();
        Ok(())
    }

    /// The same from where nobody may wait: what the process had no time to write is lost with it.
    pub(crate) fn tell_soon(&self, event: Intent) {
        self.soon(event, self.settings().most);
    }

    /// The same for what strangers can bring about as often as they like: half of the room is for what is done.
    pub(crate) fn notice_soon(&self, event: Intent) {
        self.soon(event, self.settings().most.div_ceil(2));
    }

    fn soon(&self, event: Intent, most: usize) {
        if self.soon.fetch_add(1, Ordering::SeqCst) >= SOON {
            self.soon.fetch_sub(1, Ordering::SeqCst);
            lost(&self.dropped, "the disk is too slow");
            return;
        }
        let (soon, dropped) = (Arc::clone(&self.soon), Arc::clone(&self.dropped));
        self.run_soon("an event", move |c| {
            soon.fetch_sub(1, Ordering::SeqCst);
            match told(c, event, most) {
                Err(e) if e.kind() == ErrorKind::NoSpace => {
                    lost(&dropped, "the outbox is full");
                    Ok(())
                }
                done => done,
            }
        });
    }

    /// Nobody knows whether the operation of this intent was carried out: it is looked at soon.
    pub(crate) fn unclear(&self, id: String) {
        lock(&self.unclear).push(id);
        self.unclear_came.notify_one();
    }

    /// Waits for intents that were cut off, and gives them.
    pub(crate) async fn unclear_ones(&self) -> Vec<String> {
        loop {
            let came = self.unclear_came.notified();
            let found = std::mem::take(&mut *lock(&self.unclear));
            if !found.is_empty() {
                return found;
            }
            came.await;
        }
    }

    /// One that has no outcome, if it is there. Errors: those of the file.
    pub(crate) async fn intent_of(&self, id: String) -> Result<Option<Intent>> {
        self.run(move |c| database::intent_of(c, &id)).await
    }

    /// What has no outcome, in order. Errors: those of the file.
    pub(crate) async fn intents(&self) -> Result<Vec<Intent>> {
        self.run(database::intents).await
    }

    /// Waits until everything that was said is written. A fault is in the log.
    pub(crate) async fn written(&self) {
        let _ = self.run(|_| Ok(())).await;
    }

    /// The same where nothing may have been said, ever.
    pub(crate) async fn flush(&self) {
        if self.exists() {
            self.written().await;
        }
    }

    /// What is kept, and what was dropped. Errors: those of the file.
    pub(crate) async fn counts(&self) -> Result<Value> {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if !self.exists() {
            return Ok(json!({ "events": 0, "dead": 0, "open": 0, "dropped": dropped }));
        }
        let mut counts = self.run(database::counts).await?;
        if let Some(map) = counts.as_object_mut() {
            map.insert("dropped".into(), dropped.into());
        }
        Ok(counts)
    }

    /// Deliveries that are kept, in order, at most `most`; behind a place and a receiver of an earlier answer.
    pub(crate) async fn list(
        &self,
        filter: Filter,
        after: Option<(i64, String)>,
        most: usize,
    ) -> Result<Vec<Value>> {
        match self.exists() {
            true => self.run(move |c| database::list(c, &filter, after, most)).await,
            false => Ok(Vec::new()),
        }
    }

    /// Tries again, at once; how many.
    pub(crate) async fn retry(&self, filter: Filter) -> Result<usize> {
        if !self.exists() {
            return Ok(0);
        }
        let n = self.run(move |c| database::retry(c, &filter, now())).await?;
        self.wake.notify_one();
        Ok(n)
    }

    /// Forgets; how many.
    pub(crate) async fn drop(&self, filter: Filter) -> Result<usize> {
        if !self.exists() {
            return Ok(0);
        }
        let n = self.run(move |c| database::drop(c, &filter, now())).await?;
        self.wake.notify_one();
        Ok(n)
    }
}

/// Says that an event is dropped, more rarely the more there are.
fn lost(dropped: &AtomicU64, why: &str) {
    let n = dropped.fetch_add(1, Ordering::Relaxed) + 1;
    if n.is_power_of_two() {
        tracing::error!(target: "outbox", dropped = n, "events are dropped: {why}");
    }
}

/// An event that has its outcome already.
fn told(c: &Connection, event: Intent, most: usize) -> Result<()> {
    let (id, body) = (event.id.clone(), event.body.clone());
    database::intend(c, &[event], most, now())?;
    database::settle(c, &id, &Outcome::Happened(body), now())
}

/// All of `work` or nothing, whatever else is in the transaction.
fn apart<T>(c: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    c.execute_batch("SAVEPOINT job").map_err(database::failed)?;
    let result = work(c);
    let end = if result.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    c.execute_batch(end).map_err(database::failed)?;
    result
}

/// The thread of the file: ends with the last handle.
fn serve(path: &Path, fsync: bool, mut waiting: mpsc::UnboundedReceiver<Work>) {
    let mut open: Option<Connection> = None;
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        if open.is_none() {
            match database::open(path, fsync) {
                Ok(connection) => open = Some(connection),
                Err(e) => {
                    batch.into_iter().for_each(|work| work(Err(e.clone()))(None));
                    continue;
                }
            }
        }
        let Some(c) = &open else { continue };
        let begun = c.execute_batch("BEGIN IMMEDIATE").map_err(database::failed);
        let answers: Vec<Answer> =
            batch.into_iter().map(|work| work(begun.as_ref().map(|()| c).map_err(Clone::clone))).collect();
        let ended = begun.and_then(|()| c.execute_batch("COMMIT").map_err(database::failed));
        if ended.is_err() {
            let _ = c.execute_batch("ROLLBACK");
        }
        let fault = ended.err();
        answers.into_iter().for_each(|answer| answer(fault.as_ref()));
    }
}
