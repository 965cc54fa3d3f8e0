//! Transfers under way, of this process and of all others of this user: seen, paused, slowed, ended.
//!
//! Each process that moves files keeps a [`Table`] of what it does, and answers on a socket that only its user
//! can reach (`serve`); [`ask`] goes through the sockets of all of them. The directory is
//! `$XDG_RUNTIME_DIR/ferry`, or `ferry/live` beside the jobs. A transfer that is ended keeps its journal and can
//! be taken up again.
//!
//! Not here: what is not under way (see [`crate::jobs`]), and other users' transfers.

pub mod ask;
mod serve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use session_core::batch::{Progress, parse_bytes};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;
use tokio::sync::watch;

use crate::batch::{Batch, Flow, Limiter};
use crate::sync::{Runner, Side};
use crate::watch::Watch;

/// The schema of what is asked and answered.
pub const SCHEMA: &str = "ferry.live/1";

/// Files in work that are named in an answer.
const NAMED: usize = 16;

/// The longest name of a file in an answer, in characters.
const NAME: usize = 512;

/// Something under way.
pub trait Live: Send + Sync {
    /// How far it is.
    fn progress(&self) -> Progress;

    /// Its speed limit; a pause is part of it.
    fn limiter(&self) -> Arc<Limiter>;

    /// Ends it in good order: what can be continued is left so that it can.
    fn stop(&self);
}

impl Live for Batch {
    fn progress(&self) -> Progress {
        self.tracker().progress()
    }

    fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(Batch::limiter(self))
    }

    fn stop(&self) {
        self.cancel();
    }
}

impl Live for Runner {
    fn progress(&self) -> Progress {
        together([Side::Left, Side::Right].map(|side| self.tracker(side).progress()))
    }

    fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(Runner::limiter(self))
    }

    fn stop(&self) {
        self.cancel();
    }
}

impl Live for Watch {
    fn progress(&self) -> Progress {
        let sides = [Side::Left, Side::Right];
        together(sides.map(|side| Watch::progress(self, side).unwrap_or_default()))
    }

    fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(Watch::limiter(self))
    }

    fn stop(&self) {
        self.cancel();
    }
}

impl Live for Flow {
    fn progress(&self) -> Progress {
        self.tracker.progress()
    }

    fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(&self.limiter)
    }

    fn stop(&self) {
        self.stop.cancel();
    }
}

fn together([a, b]: [Progress; 2]) -> Progress {
    Progress {
        files_done: a.files_done + b.files_done,
        files_total: a.files_total + b.files_total,
        bytes_done: a.bytes_done.saturating_add(b.bytes_done),
        bytes_total: a.bytes_total.saturating_add(b.bytes_total),
        scanning: a.scanning || b.scanning,
        rate: a.rate + b.rate,
        elapsed: a.elapsed.max(b.elapsed),
        current: a.current.into_iter().chain(b.current).collect(),
    }
}

/// What a transfer is, for who looks at it.
#[derive(Clone, Debug)]
pub struct What {
    /// The command.
    pub command: String,
    /// From there; no secret.
    pub source: String,
    /// To there; no secret.
    pub target: String,
}

struct Entry {
    what: What,
    since: SystemTime,
    live: Arc<dyn Live>,
    /// Ends when the transfer has left the table.
    over: watch::Sender<()>,
}

/// The transfers of this process.
pub struct Table {
    dir: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    socket: serve::Socket,
}

/// A transfer stands in the table as long as this lives.
pub struct Registered {
    table: Arc<Table>,
    id: String,
    _served: Option<Arc<serve::Served>>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.table.entries().remove(&self.id);
    }
}

impl Registered {
    /// The name by which it is asked for.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What is asked about one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// End it; answered when it has ended.
    Kill,
    /// At most so many bytes per second from now on; 0 is no limit. A timetable ends with that.
    Limit(u64),
    /// Move nothing.
    Pause,
    /// Move again.
    Resume,
}

impl Request {
    fn name(&self) -> &'static str {
        match self {
            Request::Kill => "kill",
            Request::Limit(_) => "limit",
            Request::Pause => "pause",
            Request::Resume => "resume",
        }
    }

    fn to_json(&self, job: &str) -> Value {
        let mut v = json!({ "schema": SCHEMA, "do": self.name(), "job": job });
        if let (Request::Limit(rate), Some(map)) = (self, v.as_object_mut()) {
            map.insert("rate".into(), (*rate).into());
        }
        v
    }

    fn from_json(v: &Value) -> Option<Self> {
        Some(match v.get("do")?.as_str()? {
            "kill" => Request::Kill,
            "limit" => Request::Limit(v.get("rate")?.as_u64()?),
            "pause" => Request::Pause,
            "resume" => Request::Resume,
            _ => return None,
        })
    }
}

/// The directory of this user's sockets. Errors: `NotFound` where the environment names no place.
pub fn directory() -> Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    match runtime {
        Some(dir) => Ok(dir.join("ferry")),
        None => Ok(crate::jobs::state_dir()?.join("live")),
    }
}

impl Table {
    /// An empty table of a process whose socket is in `dir`; it is made with the first transfer.
    pub fn new(dir: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Table { dir: dir.into(), entries: Mutex::default(), socket: serve::Socket::default() })
    }

    /// The directory of its socket.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a transfer under the name of its job, or one made for it, and answers for it. Where no socket
    /// can be had it is entered all the same, and the second part says why nobody can ask for it.
    pub fn enter(
        self: &Arc<Self>,
        job: Option<String>,
        what: What,
        live: Arc<dyn Live>,
    ) -> (Registered, Option<Error>) {
        let id = {
            let mut entries = self.entries();
            let since = SystemTime::now();
            let made = || {
                let seconds = since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
                let name = |n: usize| format!("{seconds:x}-{:x}-x{n}", std::process::id());
                (0..).map(name).find(|name| !entries.contains_key(name)).unwrap_or_default()
            };
            let id = job.unwrap_or_else(made);
            entries.insert(id.clone(), Entry { what, since, live, over: watch::Sender::new(()) });
            id
        };
        let (served, error) = match serve::Served::begin(self) {
            Ok(served) => (Some(served), None),
            Err(e) => (None, Some(e)),
        };
        (Registered { table: Arc::clone(self), id, _served: served }, error)
    }

    /// Every transfer, as it is now.
    fn list(&self) -> Vec<Value> {
        self.entries().iter().map(|(id, entry)| entry.to_json(id)).collect()
    }

    /// Does what is asked. Errors: `NotFound`.
    async fn answer(&self, job: &str, request: &Request) -> Result<()> {
        let (live, mut over) = {
            let entries = self.entries();
            let entry = entries.get(job).ok_or_else(|| {
                Error::new(ErrorKind::NotFound).with_detail(format!("the job '{job}' is not under way"))
            })?;
            (Arc::clone(&entry.live), entry.over.subscribe())
        };
        match request {
            Request::Kill => {
                live.stop();
                drop(live);
                // The sender goes with the entry.
                while over.changed().await.is_ok() {}
            }
            Request::Limit(rate) => live.limiter().set_rate(*rate),
            Request::Pause => live.limiter().pause(true),
            Request::Resume => live.limiter().pause(false),
        }
        Ok(())
    }
}

impl Entry {
    fn to_json(&self, id: &str) -> Value {
        let (p, limiter) = (self.live.progress(), self.live.limiter());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes per second")]
        let rate = p.rate.max(0.0) as u64;
        let name = |name: &str| name.chars().take(NAME).collect::<String>();
        json!({
            "job": id,
            "command": self.what.command,
            "source": self.what.source,
            "target": self.what.target,
            "since": timestamp(self.since),
            "files_done": p.files_done,
            "files_total": p.files_total,
            "bytes_done": p.bytes_done,
            "bytes_total": p.bytes_total,
            "scanning": p.scanning,
            "rate": rate,
            "seconds": p.elapsed.as_secs_f64(),
            "limit": limiter.rate(),
            "paused": limiter.is_paused(),
            "current": p.current.iter().take(NAMED).map(|(at, done, total)| {
                json!({ "target": name(at), "bytes_done": done, "bytes_total": total })
            }).collect::<Vec<_>>(),
        })
    }
}

/// A transfer of some process, as it answered.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The name of its job.
    pub job: String,
    /// Its process.
    pub pid: u32,
    /// All that was told of it.
    pub told: Value,
}

impl Seen {
    fn number(&self, name: &str) -> u64 {
        self.told.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    /// A text that was told.
    pub fn text(&self, name: &str) -> &str {
        self.told.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Files in place and known.
    pub fn files(&self) -> (u64, u64) {
        (self.number("files_done"), self.number("files_total"))
    }

    /// Bytes moved and known.
    pub fn bytes(&self) -> (u64, u64) {
        (self.number("bytes_done"), self.number("bytes_total"))
    }

    /// Bytes per second, over the last seconds.
    pub fn rate(&self) -> u64 {
        self.number("rate")
    }

    /// The speed limit; 0 is none.
    pub fn limit(&self) -> u64 {
        self.number("limit")
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.told.get("paused").and_then(Value::as_bool).unwrap_or_default()
    }

    /// What is left at the rate of the last seconds, where that can be told.
    pub fn left(&self) -> Option<Duration> {
        let scanning = self.told.get("scanning").and_then(Value::as_bool).unwrap_or(true);
        let ((done, total), rate) = (self.bytes(), self.rate());
        (!scanning && rate > 0).then(|| Duration::from_secs(total.saturating_sub(done).div_ceil(rate)))
    }
}

/// A rate as people write it: `500K`, `2M`, `off`. Errors: `InvalidArgument`.
pub fn parse_rate(text: &str) -> Result<u64> {
    let rate = if text.eq_ignore_ascii_case("off") { Some(0) } else { parse_bytes(text) };
    rate.ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{text}' is no rate"))
            .with_hint("as 500K or 2M a second, or off")
    })
}

#[cfg(test)]
mod tests;
