//! Batch operations as values: options, items, progress, questions and answers, reports.
//!
//! Only the types; the engine is `client::batch`. Everything that an engine can ask goes through one
//! [`Decider`], and each question says what unattended use gets: no answer never means yes.

mod names;
mod options;
mod receipt;
mod timetable;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

pub use self::names::InvalidChars;
pub use self::options::{Candidate, NameCase, Overwrite, Resume, Select, Selection, TransferOptions};
pub use self::receipt::{Digest, Given, Guarantee, Proof, Receipt, SCHEMA as RECEIPT_SCHEMA, Verify};
pub use self::timetable::{Timetable, parse_bytes};
use crate::auth::Secret;
use crate::error::{Error, Result};
use crate::path::VPath;
use crate::trust::{Certificate, HostKey, Known, TrustDecision};

/// What was to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferItem {
    /// From here.
    pub source: VPath,
    /// To there.
    pub target: VPath,
    /// Bytes, as the source said when it was listed.
    pub size: u64,
    /// A directory that was made, not a file.
    pub directory: bool,
}

/// What became of an item.
#[derive(Clone, Debug)]
pub enum ItemOutcome {
    /// Moved and in place; bytes that crossed (less than the size where it was resumed).
    Done(u64),
    /// Left alone, and why.
    Skipped(&'static str),
    /// Not done; the number of the failure in the report's list.
    Failed(usize),
}

/// Items by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files that were moved.
    pub done: u64,
    /// Items that were left alone.
    pub skipped: u64,
    /// Bytes that crossed.
    pub bytes: u64,
    /// Files whose content was compared by digest.
    pub verified: u64,
}

/// The result of a batch: every item, and every failure exactly once. A failure that belongs to no item
/// (a listing) stands in the list alone.
#[derive(Clone, Debug, Default)]
pub struct TransferReport {
    /// Every item with its outcome, in the order they were finished; only those that failed or were left
    /// alone where the options do not ask for details.
    pub items: Vec<(TransferItem, ItemOutcome)>,
    /// A receipt for each file that was moved, where the options ask for details.
    pub receipts: Vec<Receipt>,
    /// Every failure.
    pub failures: Vec<Error>,
    /// What is no failure and should be known, with the target that it is about.
    pub notes: Vec<(VPath, &'static str)>,
    /// How many of what; complete in any case.
    pub counts: Counts,
    /// From begin to end.
    pub elapsed: Duration,
}

impl TransferReport {
    /// Whether nothing failed.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// The first failure as an error.
    pub fn check(&self) -> Result<()> {
        self.failures.first().map_or(Ok(()), |e| Err(e.clone()))
    }

    /// How many files were moved.
    pub fn done(&self) -> usize {
        usize::try_from(self.counts.done).unwrap_or(usize::MAX)
    }

    /// How many items were left alone.
    pub fn skipped(&self) -> usize {
        usize::try_from(self.counts.skipped).unwrap_or(usize::MAX)
    }

    /// Bytes that crossed.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes
    }
}

/// What is being asked.
#[derive(Clone, Debug)]
pub enum Query {
    /// Is this the right server? Only ever asked for an unknown key. Unattended: `Trust(Reject)`.
    HostKey {
        /// The key.
        key: HostKey,
        /// What is known of it.
        known: Known,
    },
    /// Is this the right server? Asked about a certificate for which nobody vouches. Unattended:
    /// `Trust(Reject)`.
    Certificate {
        /// The certificate, and why it was not believed.
        certificate: Box<Certificate>,
    },
    /// The user's password. Unattended: `Abort`.
    Password {
        /// For whom, as shown: `user@host`.
        who: String,
    },
    /// The phrase that opens a key file. Unattended: `Abort`.
    Passphrase {
        /// The key file, as the user named it.
        key: String,
    },
    /// Questions of the server (RFC 4256). Unattended: `Abort`.
    Interactive {
        /// The server's title, cleaned.
        name: String,
        /// The server's instructions, cleaned.
        instructions: String,
        /// Each prompt, and whether typing is shown.
        prompts: Vec<(String, bool)>,
    },
    /// The target exists. Unattended: `Skip`.
    Overwrite {
        /// The target.
        target: VPath,
        /// Size and time of the source.
        source: (u64, Option<SystemTime>),
        /// Size and time of what is there.
        existing: (u64, Option<SystemTime>),
    },
    /// A part of the file is there, from an earlier transfer, and may be continued. Unattended: `Skip`, which begins
    /// anew.
    Resume {
        /// The target.
        target: VPath,
        /// Bytes of it that would not be moved again.
        there: u64,
        /// Its size.
        size: u64,
    },
    /// An item failed. Unattended: `Skip`, which is recorded as a failure.
    Retry {
        /// What happened.
        error: Error,
        /// How often it was tried.
        attempts: u32,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Give up the whole.
    Abort,
    /// Leave this one.
    Skip,
    /// Do it.
    Yes,
    /// Do it, and do not ask again in this batch.
    YesToAll,
    /// About a target that exists: it is a beginning of the source, and what it lacks goes to its end. Where it is not
    /// shorter, or the target cannot do that, it is replaced.
    Continue,
    /// Leave it, and do not ask again in this batch.
    NoToAll,
    /// About a host key or a certificate.
    Trust(TrustDecision),
    /// A password or phrase.
    Secret(Secret),
    /// Answers to prompts, in order.
    Answers(Vec<Secret>),
}

impl Query {
    /// The answer when nobody is there.
    pub fn unattended(&self) -> Answer {
        match self {
            Query::Certificate { .. } | Query::HostKey { .. } => Answer::Trust(TrustDecision::Reject),
            Query::Password { .. } | Query::Passphrase { .. } | Query::Interactive { .. } => Answer::Abort,
            Query::Overwrite { .. } | Query::Resume { .. } | Query::Retry { .. } => Answer::Skip,
        }
    }
}

/// Who answers questions: a terminal, a program, a policy.
#[async_trait]
pub trait Decider: Send + Sync {
    /// Answers one question. The default is the answer of unattended use.
    async fn decide(&self, query: Query) -> Answer {
        query.unattended()
    }
}

/// Nobody is there.
pub struct Unattended;

impl Decider for Unattended {}

/// Hears of each item of a batch as it goes: the events of a session, a file of receipts. Called from
/// wherever the work is done; must not wait.
pub trait Observer: Send + Sync {
    /// Work on a file begins.
    fn began(&self, item: &TransferItem) {
        let _ = item;
    }

    /// An item has its outcome.
    fn ended(&self, item: &TransferItem, ended: Ended<'_>) {
        let _ = (item, ended);
    }

    /// A failure that belongs to no item (a listing).
    fn failed(&self, error: &Error) {
        let _ = error;
    }
}

/// How an item ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    /// A file is in place.
    Moved(&'a Receipt),
    /// A directory was made.
    Made,
    /// It was left alone, and why.
    Skipped(&'static str),
    /// It failed; the same error stands in the report.
    Failed(&'a Error),
}

/// How far a batch is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Files finished.
    pub files_done: u64,
    /// Files known so far.
    pub files_total: u64,
    /// Bytes moved.
    pub bytes_done: u64,
    /// Bytes known so far.
    pub bytes_total: u64,
    /// Whether the source is still being listed, so that the totals grow.
    pub scanning: bool,
    /// Files in work: target, bytes done, bytes in all.
    pub current: Vec<(Arc<str>, u64, u64)>,
    /// Bytes per second over the last few seconds.
    pub rate: f64,
    /// Since the beginning.
    pub elapsed: Duration,
}
