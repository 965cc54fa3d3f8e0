//! Events: immutable records of what happened in a session, in order.
//!
//! Each event of a session has a sequence number without gaps. Every operation gives exactly one
//! `Started` and one `Ended`; chunks of a transfer (`Read`, `Write`) give none. A sink must not wait:
//! it queues, counts or writes to memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::operation::Record;
use crate::path::VPath;
use crate::reason::Reason;
use crate::session::{Ending, SessionId};
use crate::verdict::Finding;

/// The number of an operation within its session, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// Which way content moves. The same words on both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client.
    Download,
    /// From the client to the server.
    Upload,
}

impl Direction {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Download => "download",
            Direction::Upload => "upload",
        }
    }
}

/// How a file's use ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEnd {
    /// A read file was closed, or a written one published.
    Done,
    /// A written file was kept unfinished.
    Parked,
    /// A written file was thrown away, or its publishing refused.
    Aborted,
}

impl TransferEnd {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            TransferEnd::Done => "done",
            TransferEnd::Parked => "parked",
            TransferEnd::Aborted => "aborted",
        }
    }
}

/// A finished use of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferRecord {
    /// The operation that opened it.
    pub opened_by: OperationId,
    /// The file.
    pub path: VPath,
    /// Which way.
    pub direction: Direction,
    /// Bytes moved in that direction.
    pub bytes: u64,
    /// From open to end.
    pub elapsed: Duration,
    /// How it ended.
    pub end: TransferEnd,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A client connected; nothing is known of it yet.
    Connected,
    /// A login attempt failed.
    LoginFailed {
        /// The name asked for.
        user: Arc<str>,
        /// The method tried.
        method: &'static str,
        /// Why, in words for the log (never for the client).
        reason: Arc<str>,
        /// Why, as a number.
        code: Reason,
    },
    /// A login is complete.
    LoggedIn {
        /// The account.
        user: Arc<str>,
        /// The methods that were passed, in order.
        methods: Vec<&'static str>,
    },
    /// An operation begins.
    Started {
        /// Its number.
        id: OperationId,
        /// What is asked.
        record: Record,
    },
    /// An operation is over.
    Ended {
        /// Its number.
        id: OperationId,
        /// What was asked, as it was carried out.
        record: Record,
        /// The error, if it failed.
        error: Option<Error>,
        /// How long it took.
        elapsed: Duration,
    },
    /// A file's use is over.
    Transfer(TransferRecord),
    /// The session is over.
    Closed(Ending),
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its place in the session, from 1, without gaps.
    pub sequence: u64,
    /// Whose.
    pub session: SessionId,
    /// When.
    pub time: SystemTime,
    /// What.
    pub what: What,
}

/// Where events go. Must not wait.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// RFC 3339 in UTC with milliseconds, as in all JSON of the project.
pub fn timestamp(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(t) => format!("{t:.3}"),
        Err(_) => String::new(),
    }
}

fn path_into(value: &mut Value, key: &str, path: &VPath) {
    if let Some(map) = value.as_object_mut() {
        map.insert(key.into(), String::from_utf8_lossy(path.as_bytes()).into());
        if let Some(b64) = path.base64_if_lossy() {
            map.insert(format!("{key}_b64"), b64.into());
        }
    }
}

fn record_json(record: &Record) -> Value {
    let mut v = json!({ "operation": record.kind().name() });
    path_into(&mut v, "path", record.path());
    if let Some(target) = record.target() {
        path_into(&mut v, "target", target);
    }
    v
}

impl Event {
    /// The event as one JSON object; paths that are not UTF-8 have a `…_b64` beside them.
    pub fn to_json(&self) -> Value {
        let mut v = match &self.what {
            What::Connected => json!({ "event": "connected" }),
            What::LoginFailed { user, method, reason, code } => json!({
                "event": "login-failed", "user": &**user, "method": method, "reason": &**reason,
                "sub_status": code.number(),
            }),
            What::LoggedIn { user, methods } => {
                json!({ "event": "logged-in", "user": &**user, "methods": methods })
            }
            What::Started { id, record } => {
                let mut v = record_json(record);
                set(&mut v, "event", "started");
                set(&mut v, "id", id.0);
                v
            }
            What::Ended { id, record, error, elapsed } => {
                let mut v = record_json(record);
                set(&mut v, "event", "ended");
                set(&mut v, "id", id.0);
                set(&mut v, "elapsed_us", u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
                set(&mut v, "outcome", error.as_ref().map_or("ok", |e| e.kind().name()));
                if let Some(e) = error {
                    set(&mut v, "error", e.peer_words());
                }
                if let Record::Commit(commit) = record {
                    set(&mut v, "size", commit.size);
                    if commit.early {
                        set(&mut v, "early", true);
                    }
                    if !commit.findings.is_empty() {
                        let findings: Vec<Value> = commit.findings.iter().map(Finding::to_json).collect();
                        set(&mut v, "verdicts", findings);
                    }
                }
                v
            }
            What::Transfer(t) => {
                let mut v = json!({
                    "event": "transfer",
                    "id": t.opened_by.0,
                    "direction": t.direction.name(),
                    "bytes": t.bytes,
                    "elapsed_us": u64::try_from(t.elapsed.as_micros()).unwrap_or(u64::MAX),
                    "end": t.end.name(),
                });
                path_into(&mut v, "path", &t.path);
                v
            }
            What::Closed(ending) => json!({
                "event": "closed", "reason": &*ending.reason, "actor": ending.actor.to_string(),
                "sub_status": ending.code.number(),
            }),
        };
        set(&mut v, "session", self.session.as_str());
        set(&mut v, "sequence", self.sequence);
        set(&mut v, "time", timestamp(self.time));
        v
    }

    /// Whether this is the end of an operation that failed with `kind`.
    pub fn failed_with(&self, kind: ErrorKind) -> bool {
        matches!(&self.what, What::Ended { error: Some(e), .. } if e.kind() == kind)
    }
}

fn set(v: &mut Value, key: &str, to: impl Into<Value>) {
    if let Some(map) = v.as_object_mut() {
        map.insert(key.into(), to.into());
    }
}
