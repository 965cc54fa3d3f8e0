//! What became of an operation whose outcome was never written: its intent is compared with the store.
//!
//! A [`Clue`] is taken before the operation: what stood at its paths. Compared with what stands there now it
//! tells one of three things: it happened, it did not, or nobody can know; only the second is not told. An
//! upload whose content is still kept for its owner was not published: the staging journal says so.

use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{Filesystem, Follow, OpenOptions};
use session_core::intercept::Cx;
use session_core::metadata::Metadata;
use session_core::operation::{Operation, OperationKind};
use session_core::path::VPath;

use super::{Intent, Outcome};

/// What is known of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    /// Nothing stands there.
    Nothing,
    /// This does, in words that are only compared.
    Entry(String),
    /// It could not be looked at.
    Unknown,
}

impl Mark {
    fn of(found: Result<Metadata, Error>) -> Mark {
        match found {
            Ok(m) => {
                let modified = m.modified.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
                let nanos = modified.map_or_else(String::new, |d| d.as_nanos().to_string());
                let mode = m.mode.map_or_else(String::new, |mode| format!("{mode:o}"));
                Mark::Entry(format!("{} {} {nanos} {mode}", m.file_type.name(), m.size))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Mark::Nothing,
            Err(_) => Mark::Unknown,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Mark::Nothing => Value::Null,
            Mark::Entry(words) => words.as_str().into(),
            Mark::Unknown => false.into(),
        }
    }

    fn from_json(value: Option<&Value>) -> Mark {
        match value {
            Some(Value::Null) => Mark::Nothing,
            Some(Value::String(words)) => Mark::Entry(words.clone()),
            _ => Mark::Unknown,
        }
    }

    fn is_entry(&self) -> bool {
        matches!(self, Mark::Entry(_))
    }
}

/// What the store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happened {
    No,
    Unknown,
    Yes,
}

fn encode(path: &VPath) -> Value {
    STANDARD.encode(path.as_bytes()).into()
}

fn decode(value: Option<&Value>) -> Option<VPath> {
    let bytes = STANDARD.decode(value?.as_str()?).ok()?;
    VPath::absolute(bytes.as_slice()).ok()
}

/// What stands at an operation's paths before it.
pub(crate) async fn clue(cx: &Cx<'_>, operation: &Operation<'_>, user: &str) -> Value {
    let record = operation.to_record();
    let path = record.path();
    let mut clue = json!({ "operation": record.kind().name(), "user": user, "path": encode(path) });
    let look = async |path: &VPath| match record.kind() {
        // Its own upload is seen there, or what it only reads.
        OperationKind::Commit | OperationKind::Open => Mark::Unknown,
        _ => Mark::of(cx.peek.stat(path).await),
    };
    let was = look(path).await.to_json();
    let target = match record.target() {
        Some(target) => Some((encode(target), look(target).await.to_json())),
        None => None,
    };
    if let Some(map) = clue.as_object_mut() {
        map.insert("was".into(), was);
        if let Some((target, was)) = target {
            map.insert("target".into(), target);
            map.insert("target_was".into(), was);
        }
    }
    clue
}

/// Whose files an intent is about.
pub(crate) fn user_of(intent: &Intent) -> &str {
    intent.clue.get("user").and_then(Value::as_str).unwrap_or_default()
}

/// What became of it; `files` are those of its user, below the gate, where they can be had. `keeps` says
/// whether an upload that is not published is kept.
pub(crate) async fn outcome(intent: &Intent, files: Option<&dyn Filesystem>, keeps: bool) -> Outcome {
    let happened = match files {
        Some(files) => judge(intent, files, keeps).await,
        None => Happened::Unknown,
    };
    let words = match happened {
        Happened::No => return Outcome::Nothing,
        Happened::Yes => "done",
        Happened::Unknown => "unknown",
    };
    let mut body = intent.body.clone();
    if let Some(map) = body.as_object_mut() {
        map.insert("recovered".into(), true.into());
        map.insert("outcome".into(), words.into());
    }
    Outcome::Happened(body)
}

async fn judge(intent: &Intent, files: &dyn Filesystem, keeps: bool) -> Happened {
    let clue = &intent.clue;
    let operation = clue.get("operation").and_then(Value::as_str).unwrap_or_default();
    let kind = OperationKind::ALL.iter().copied().find(|k| k.name() == operation);
    let (Some(kind), Some(path)) = (kind, decode(clue.get("path"))) else { return Happened::Unknown };
    let found = files.stat(&path, Follow::No).await;
    let size = found.as_ref().ok().map(|m| m.size);
    let is = Mark::of(found);
    let was = Mark::from_json(clue.get("was"));
    if matches!(kind, OperationKind::Commit | OperationKind::Open) {
        let parked =
            files.open(&path, &OpenOptions::read()).await.is_err_and(|e| e.kind() == ErrorKind::Locked);
        let whole = keeps && size.is_some() && size == intent.body.get("size").and_then(Value::as_u64);
        return uploaded(&intent.event, parked, whole);
    }
    let (target, target_was) = match decode(clue.get("target")) {
        Some(target) => {
            let is = Mark::of(files.stat(&target, Follow::No).await);
            (is, Mark::from_json(clue.get("target_was")))
        }
        None => (Mark::Unknown, Mark::Unknown),
    };
    changed(kind, (&was, &is), (&target_was, &target))
}

/// Of an upload, by whether its content is kept unpublished, or stands there whole.
fn uploaded(event: &str, parked: bool, whole: bool) -> Happened {
    match (event, parked) {
        ("AfterFileParked", true) => Happened::Yes,
        ("AfterFileParked", false) | ("AfterFileUpload" | "AfterFileAborted", true) => Happened::No,
        ("AfterFileUpload", false) if whole => Happened::Yes,
        _ => Happened::Unknown,
    }
}

/// Of what changes names, by what stood at its paths and what stands there.
fn changed(kind: OperationKind, (was, is): (&Mark, &Mark), (target_was, target): (&Mark, &Mark)) -> Happened {
    use OperationKind as K;
    if [was, is].contains(&&Mark::Unknown) {
        return Happened::Unknown;
    }
    let made = |was: &Mark, is: &Mark| match (was, is) {
        (_, Mark::Nothing) if *was == Mark::Nothing => Happened::No,
        (Mark::Nothing, Mark::Entry(_)) => Happened::Yes,
        // It stood there before: it was refused, or something else came.
        _ if was == is => Happened::No,
        _ => Happened::Unknown,
    };
    match kind {
        K::CreateDir | K::Symlink => made(was, is),
        K::RemoveDir | K::RemoveFile => match (was, is) {
            (Mark::Entry(_), Mark::Nothing) => Happened::Yes,
            _ if was == is => Happened::No,
            _ => Happened::Unknown,
        },
        K::Rename => match (was.is_entry(), is) {
            (true, Mark::Nothing) if target.is_entry() => Happened::Yes,
            (true, Mark::Entry(_)) if was == is && target == target_was && *target != Mark::Unknown => {
                Happened::No
            }
            (false, Mark::Nothing) => Happened::No,
            _ => Happened::Unknown,
        },
        K::Copy | K::HardLink => match (target_was, target) {
            (Mark::Unknown, _) | (_, Mark::Unknown) => Happened::Unknown,
            // A copy may give what stood there the same size and time.
            (Mark::Entry(_), Mark::Entry(_)) if target_was == target => Happened::Unknown,
            _ => made(target_was, target),
        },
        // What was set may be what stood there.
        K::SetAttributes if was != is => Happened::Yes,
        _ => Happened::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OperationKind as K;

    fn entry(words: &str) -> Mark {
        Mark::Entry(words.into())
    }

    #[test]
    fn what_the_store_shows_is_told_apart() {
        let (none, a, b) = (Mark::Nothing, entry("a"), entry("b"));
        let one = |kind, was: &Mark, is: &Mark| changed(kind, (was, is), (&Mark::Unknown, &Mark::Unknown));
        for kind in [K::CreateDir, K::Symlink] {
            assert_eq!(one(kind, &none, &a), Happened::Yes);
            assert_eq!(one(kind, &none, &none), Happened::No);
            assert_eq!(one(kind, &a, &a), Happened::No);
        }
        for kind in [K::RemoveFile, K::RemoveDir] {
            assert_eq!(one(kind, &a, &none), Happened::Yes);
            assert_eq!(one(kind, &a, &a), Happened::No);
            assert_eq!(one(kind, &none, &none), Happened::No);
            // Somebody made another one meanwhile: it may have happened.
            assert_eq!(one(kind, &a, &b), Happened::Unknown);
        }
        let rename = |was: &Mark, is: &Mark, target_was: &Mark, target: &Mark| {
            changed(K::Rename, (was, is), (target_was, target))
        };
        assert_eq!(rename(&a, &none, &none, &a), Happened::Yes);
        assert_eq!(rename(&a, &a, &none, &none), Happened::No);
        assert_eq!(rename(&a, &a, &b, &b), Happened::No);
        assert_eq!(rename(&none, &none, &none, &none), Happened::No);
        // Moved, and both removed by somebody.
        assert_eq!(rename(&a, &none, &none, &none), Happened::Unknown);
        assert_eq!(rename(&a, &b, &none, &a), Happened::Unknown);
        let copy = |target_was: &Mark, target: &Mark| changed(K::Copy, (&a, &a), (target_was, target));
        assert_eq!(copy(&none, &a), Happened::Yes);
        assert_eq!(copy(&none, &none), Happened::No);
        assert_eq!(copy(&a, &a), Happened::Unknown);
        assert_eq!(one(K::SetAttributes, &a, &b), Happened::Yes);
        assert_eq!(one(K::SetAttributes, &a, &a), Happened::Unknown);
        for kind in [K::CreateDir, K::RemoveFile, K::Rename, K::SetAttributes] {
            assert_eq!(one(kind, &Mark::Unknown, &a), Happened::Unknown, "{kind:?}");
        }
    }

    #[test]
    fn an_upload_that_is_kept_was_not_published() {
        assert_eq!(uploaded("AfterFileUpload", true, true), Happened::No);
        assert_eq!(uploaded("AfterFileUpload", false, true), Happened::Yes);
        assert_eq!(uploaded("AfterFileUpload", false, false), Happened::Unknown);
        assert_eq!(uploaded("AfterFileParked", true, false), Happened::Yes);
        assert_eq!(uploaded("AfterFileParked", false, true), Happened::No);
        assert_eq!(uploaded("AfterFileAborted", true, false), Happened::No);
        assert_eq!(uploaded("AfterFileDownload", false, false), Happened::Unknown);
    }

    #[test]
    fn a_mark_survives_the_disk() {
        for mark in [Mark::Nothing, Mark::Unknown, entry("file 3 5 644")] {
            assert_eq!(Mark::from_json(Some(&mark.to_json())), mark);
        }
        assert_eq!(Mark::from_json(None), Mark::Unknown);
    }
}
