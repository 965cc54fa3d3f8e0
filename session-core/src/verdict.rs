//! The verdict on an upload: what is shown of it to those who judge, and what they found.
//!
//! The gate seals an upload (its size stands, its content changes no more), asks each interceptor that
//! judges, in the chain's order, and publishes only if none objects. Until then nobody but the owner sees the
//! content, over any protocol; the client waits for the answer. How long a judge may take is the judge's own
//! bound. An objection of policy (`Refused`, `Corrupt`, …) throws the upload away; a judge that could not
//! judge answers with a fault (`Disconnected`), and the upload is parked for its owner to try again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::Result;
use crate::fs::{Algorithm, File};
use crate::path::VPath;
use crate::session::Session;

/// An upload that is complete and not published.
pub struct Upload<'a> {
    /// The path that it will have.
    pub path: &'a VPath,
    /// Its bytes.
    pub size: u64,
    /// Its content, as it will be published. `None` where the store holds nothing back (no staging, or a
    /// change in place): others see it already.
    pub content: Option<&'a Arc<dyn File>>,
    /// What was found before.
    pub findings: &'a [Finding],
}

/// What somebody who looked at an upload said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Who.
    pub by: Arc<str>,
    /// What, in words: `clean`.
    pub words: Arc<str>,
    /// The digest of the content, where one was made on the way.
    pub digest: Option<(Algorithm, Bytes)>,
}

impl Finding {
    /// Without a digest.
    pub fn new(by: impl Into<Arc<str>>, words: impl Into<Arc<str>>) -> Self {
        Finding { by: by.into(), words: words.into(), digest: None }
    }

    /// `sha256:0123…`; empty without a digest.
    pub fn digest_words(&self) -> String {
        let hex = |bytes: &Bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        self.digest.as_ref().map(|(a, d)| format!("{}:{}", a.name(), hex(d))).unwrap_or_default()
    }

    /// As in events and in the audit.
    pub fn to_json(&self) -> Value {
        match self.digest {
            Some(_) => json!({ "by": &*self.by, "verdict": &*self.words, "digest": self.digest_words() }),
            None => json!({ "by": &*self.by, "verdict": &*self.words }),
        }
    }
}

/// Keeps what must not be published, where no user reaches it.
#[async_trait]
pub trait Quarantine: Send + Sync {
    /// Takes a copy of an upload in, with who sent it and why it is there; the answer is its name. Errors:
    /// those of writing it, and `Unsupported` where the content is not held back.
    async fn keep(&self, session: &Session, upload: &Upload<'_>, why: &str) -> Result<String>;
}
