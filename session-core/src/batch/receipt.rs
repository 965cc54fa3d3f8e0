//! `Receipt`: what became of one file of a batch, who checked it and how, and what its publishing promised.
//!
//! A receipt exists only for a file that is in place with the right size, or, of a text, that both sides have
//! taken to its end: nothing less counts as moved. Beyond that it claims what was seen and no more: [`Proof`] names
//! the strongest check that was made, [`Guarantee`] what a reader of the target could have met meanwhile. The JSON
//! form has a versioned schema, [`SCHEMA`]; fields may be added to it, never changed.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::Error;
use crate::event::{OperationId, timestamp};
use crate::fs::Algorithm;
use crate::path::VPath;
use crate::session::SessionId;

/// The name of the JSON form.
pub const SCHEMA: &str = "ferry.receipt/1";

/// How hard a batch looks at what it moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verify {
    /// By digest where a side computes one itself and nothing is moved a second time; else by size.
    Auto,
    /// By digest of what is at the target, computed there or read back; `Unsupported` where neither can
    /// be had, as of texts, and then the file counts as failed.
    Strict,
    /// The published file is looked at once more, and has the right size.
    #[default]
    Size,
    /// What the end of the upload answered has to do: it holds the size that was sent, no more is asked.
    None,
}

/// The strongest check that a file passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Both sides said that this was all. Of texts, whose sizes and digests differ with their line ends.
    Reply,
    /// What was written was read back and has the digest of what was sent.
    Reread,
    /// The size agrees.
    Size,
    /// The source's side computed the digest of its file, and it is that of what arrived.
    SourceDigest,
    /// The target's side computed the digest of what it holds, and it is that of what was sent.
    TargetDigest,
}

impl Proof {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Proof::Reply => "reply",
            Proof::Reread => "reread",
            Proof::Size => "size",
            Proof::SourceDigest => "source-digest",
            Proof::TargetDigest => "target-digest",
        }
    }

    /// Whether content was compared, and not its size alone.
    pub fn is_digest(self) -> bool {
        !matches!(self, Proof::Reply | Proof::Size)
    }
}

/// What a reader of the target could have met while the file came to its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Under its own name, in a place that shows a file only whole: always a whole file, old or new.
    AtomicCommit,
    /// A temporary name, then a rename that replaces in one step: always a whole file, old or new.
    AtomicRename,
    /// Written under its own name: a part of it could be read.
    InPlace,
    /// A temporary name, then a rename to a name that was free: nothing, then the whole file.
    RenameNew,
    /// A temporary name; the old file stepped aside for it: for a moment there was no file.
    RenameWindow,
}

impl Guarantee {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Guarantee::AtomicCommit => "atomic-commit",
            Guarantee::AtomicRename => "atomic-rename",
            Guarantee::InPlace => "in-place",
            Guarantee::RenameNew => "rename-new",
            Guarantee::RenameWindow => "rename-window",
        }
    }
}

/// A digest with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// The digest.
    pub value: Bytes,
}

/// What a file was given beside its content.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The time of its last change; `None` where the target's own was left.
    pub modified: Option<SystemTime>,
    /// Why it did not take that, where this is no failure of the file (`ignore_attribute_errors`).
    pub modified_error: Option<Error>,
    /// Its permission bits; `None` where the target's own, or those of the file that it replaced, were left.
    pub mode: Option<u32>,
    /// Why it did not take those, as above.
    pub mode_error: Option<Error>,
}

/// One file that is in place.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// From here.
    pub source: VPath,
    /// The source's host, or `local`.
    pub source_site: Arc<str>,
    /// To there.
    pub target: VPath,
    /// The target's host, or `local`.
    pub target_site: Arc<str>,
    /// Bytes of the whole file; of a text, as many as it has with LF at the end of each line.
    pub size: u64,
    /// Bytes that crossed: less than the size where it was continued, more where a part went twice.
    pub sent: u64,
    /// It was moved as text.
    pub text: bool,
    /// The digest of the content, where one was wanted.
    pub digest: Option<Digest>,
    /// Who checked it and how.
    pub proof: Proof,
    /// What its publishing promised.
    pub guarantee: Guarantee,
    /// Time and permissions that it was given; not in the JSON form.
    pub given: Given,
    /// Connections that were lost on the way.
    pub breaks: u32,
    /// The session at the target, whose events tell of it.
    pub session: SessionId,
    /// The operation in that session that opened it.
    pub operation: OperationId,
    /// When work on it began.
    pub began: SystemTime,
    /// When it was in place, and checked.
    pub ended: SystemTime,
}

fn path_into(value: &mut Value, key: &str, path: &VPath) {
    if let Some(map) = value.as_object_mut() {
        map.insert(key.into(), String::from_utf8_lossy(path.as_bytes()).into());
        if let Some(b64) = path.base64_if_lossy() {
            map.insert(format!("{key}_b64"), b64.into());
        }
    }
}

impl Receipt {
    /// One JSON object; paths that are not UTF-8 have a `…_b64` beside them.
    pub fn to_json(&self) -> Value {
        let mut v = json!({
            "schema": SCHEMA,
            "source_site": &*self.source_site,
            "target_site": &*self.target_site,
            "size": self.size,
            "sent": self.sent,
            "proof": self.proof.name(),
            "guarantee": self.guarantee.name(),
            "breaks": self.breaks,
            "session": self.session.as_str(),
            "operation": self.operation.0,
            "began": timestamp(self.began),
            "ended": timestamp(self.ended),
        });
        if let (true, Some(map)) = (self.text, v.as_object_mut()) {
            map.insert("text".into(), true.into());
        }
        path_into(&mut v, "source", &self.source);
        path_into(&mut v, "target", &self.target);
        if let (Some(digest), Some(map)) = (&self.digest, v.as_object_mut()) {
            let hex: String = digest.value.iter().map(|b| format!("{b:02x}")).collect();
            map.insert("digest".into(), json!({ "algorithm": digest.algorithm.name(), "value": hex }));
        }
        v
    }
}
