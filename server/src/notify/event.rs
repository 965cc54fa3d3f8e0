//! What a receiver is told: one JSON object, with the words of the audit.
//!
//! Made when the event fires and not changed afterwards, but for what a restart has to say of it. Secrets,
//! passwords and answers do not come here.

use std::net::IpAddr;
use std::time::SystemTime;

use serde_json::{Map, Value};
use session_core::event::timestamp;
use session_core::operation::Record;
use session_core::path::VPath;
use session_core::script::user_of;
use session_core::session::Session;
use session_core::verdict::Finding;

/// What an event is about, as it was when it fired.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) path: Option<VPath>,
    pub(crate) target: Option<VPath>,
    /// Bytes of content.
    pub(crate) size: Option<u64>,
    /// What was found by those who judged.
    pub(crate) findings: Vec<Finding>,
    /// The client, in events without a session.
    pub(crate) peer: Option<IpAddr>,
    /// What the server tells of itself, the wire command, why a session ended.
    pub(crate) facts: Option<Value>,
}

impl About {
    /// An operation; `published` is the size of what a commit published.
    pub(crate) fn record(record: &Record, published: Option<u64>) -> Self {
        let (size, findings) = match record {
            Record::Commit(r) => (Some(published.unwrap_or(r.size)), r.findings.clone()),
            Record::Abort(r) => (Some(r.size), Vec::new()),
            Record::Park(r) => (Some(r.size), Vec::new()),
            Record::Open(r) => (r.options.size_hint, Vec::new()),
            _ => (None, Vec::new()),
        };
        let (path, target) = (Some(record.path().clone()), record.target().cloned());
        About { path, target, size, findings, ..About::default() }
    }
}

/// A name for an event that is never used again; later ones are greater.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// The event as it is told.
pub(crate) fn body(
    id: &str,
    name: &str,
    site: &str,
    session: Option<&Session>,
    about: &About,
    now: SystemTime,
) -> Value {
    let mut v = Map::new();
    let mut set = |key: &str, value: Value| v.insert(key.to_owned(), value);
    set("id", id.into());
    set("event", name.into());
    set("time", timestamp(now).into());
    set("site", site.into());
    if let Some(session) = session {
        set("session", session.id().as_str().into());
        set("protocol", session.protocol().name().into());
        set("user", (*user_of(session)).into());
        if let Some(peer) = session.peer() {
            set("address", peer.ip().to_canonical().to_string().into());
            set("port", peer.port().into());
        }
    } else if let Some(peer) = about.peer {
        set("address", peer.to_canonical().to_string().into());
    }
    for (key, path) in [("path", &about.path), ("target", &about.target)] {
        let Some(path) = path else { continue };
        set(key, String::from_utf8_lossy(path.as_bytes()).into());
        if let Some(b64) = path.base64_if_lossy() {
            set(&format!("{key}_b64"), b64.into());
        }
    }
    if let Some(size) = about.size {
        set("size", size.into());
    }
    if !about.findings.is_empty() {
        set("verdicts", about.findings.iter().map(Finding::to_json).collect::<Vec<_>>().into());
    }
    if let Some(facts) = &about.facts {
        set("facts", facts.clone());
    }
    Value::Object(v)
}
