//! `Interceptor`: code before and after every operation, and at each step of a connection's life.
//!
//! Rule of thumb: needs only the operation → interceptor; changes what exists or how bytes look → layer.
//! The order of a chain is fixed where the chain is built: cheap refusals first, user code last.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::event::{OperationId, TransferRecord};
use crate::fs::{Filesystem, Follow};
use crate::lifecycle::{Lifecycle, Verdict};
use crate::metadata::{DirEntry, Metadata};
use crate::operation::{Operation, OperationKind, OperationSet, Outcome, Record};
use crate::path::VPath;
use crate::session::Session;
use crate::verdict::{Finding, Upload};

/// What an interceptor knows besides the operation.
pub struct Cx<'a> {
    /// The session whose operation it is.
    pub session: &'a Arc<Session>,
    /// The operation's number; the same in `before`, `entry` and `after`.
    pub id: OperationId,
    /// How many symbolic links were followed so far; `before` runs once for each path on the way.
    pub hop: u32,
    /// A look below the gate.
    pub peek: Peek<'a>,
    /// The tokens of locks that came with the request; see [`crate::locks`].
    pub tokens: &'a [Arc<str>],
}

/// Can only `stat` below the gate.
#[derive(Clone, Copy)]
pub struct Peek<'a>(pub(crate) &'a dyn Filesystem);

impl Peek<'_> {
    /// What `path` is, links not followed, unseen by any interceptor.
    pub async fn stat(&self, path: &VPath) -> Result<Metadata> {
        self.0.stat(path, Follow::No).await
    }
}

/// Whether an entry appears in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// It does not.
    Hide,
    /// It does.
    Keep,
}

/// Code around operations. Every method but `interests` has a default that does nothing.
#[async_trait]
pub trait Interceptor: Send + Sync {
    /// Which operations it is asked about. Chunks (`Read`, `Write`) cost every transfer, and keep
    /// descriptors from being lent.
    fn interests(&self) -> OperationSet;

    /// Whether `before` may rewrite a record; the interceptors that may not are asked again then.
    fn rewrites(&self) -> bool {
        false
    }

    /// Before the operation; awaited. An error refuses it and is what the client sees.
    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        let _ = (cx, operation);
        Ok(())
    }

    /// Whether it wants to judge uploads, or to know which close of one publishes it.
    fn judges(&self) -> bool {
        false
    }

    /// The verdict on an upload that is sealed (`judges`, and interest in `Commit`); awaited, after every
    /// `before` has passed. An error refuses to publish it: the old content stands. What was found is told
    /// to those who come later and to `after`.
    async fn judge(&self, cx: &Cx<'_>, upload: &Upload<'_>) -> Result<Option<Finding>, Error> {
        let _ = (cx, upload);
        Ok(None)
    }

    /// For each entry of a listing (interest in `List`).
    fn entry(&self, cx: &Cx<'_>, dir: &VPath, entry: &mut DirEntry) -> Visibility {
        let _ = (cx, dir, entry);
        Visibility::Keep
    }

    /// After the operation, with the record as it was carried out. Not awaited: it must not wait. Asked
    /// exactly once for each operation for which `before` was asked, refused or not.
    fn after(&self, cx: &Cx<'_>, record: &Record, outcome: &Outcome) {
        let _ = (cx, record, outcome);
    }

    /// A file's use is over (closed, published, parked, thrown away). It must not wait.
    fn transferred(&self, session: &Arc<Session>, transfer: &TransferRecord) {
        let _ = (session, transfer);
    }

    /// An operation failed because a quota is used up; awaited, before the client is told. Of writes the first one
    /// of each open file.
    async fn quota_hit(&self, session: &Arc<Session>, record: &Record) {
        let _ = (session, record);
    }

    /// Something failed in the session: an operation, a login, a command. Asked of the interceptors that
    /// stand before login, whoever is logged in. It must not wait.
    fn failed(&self, session: &Session, error: &Error) {
        let _ = (session, error);
    }

    /// What came of failures that were told of is kept where it must be; awaited before they are answered. Asked of
    /// the interceptors that stand before login.
    async fn written(&self) {}

    /// A step in the connection's life; awaited. `None` before there is a session.
    async fn decide(&self, session: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        let _ = (session, step);
        Verdict::Pass
    }
}

/// Interceptors in order, with what they care about added up.
#[derive(Clone, Default)]
pub struct Chain {
    links: Vec<Arc<dyn Interceptor>>,
    interests: OperationSet,
    rewrites: bool,
    judges: bool,
}

impl Chain {
    /// A chain that asks `links` in order.
    pub fn new(links: Vec<Arc<dyn Interceptor>>) -> Arc<Self> {
        let interests = links.iter().fold(OperationSet::NONE, |set, i| set.union(i.interests()));
        let rewrites = links.iter().any(|i| i.rewrites());
        let judges = links.iter().any(|i| i.judges() && i.interests().contains(OperationKind::Commit));
        Arc::new(Chain { links, interests, rewrites, judges })
    }

    /// What any link cares about.
    pub fn interests(&self) -> OperationSet {
        self.interests
    }

    /// Whether any link may rewrite a record.
    pub fn rewrites(&self) -> bool {
        self.rewrites
    }

    /// Whether uploads are sealed and judged before they are published.
    pub fn judges(&self) -> bool {
        self.judges
    }

    /// The links in order.
    pub fn links(&self) -> &[Arc<dyn Interceptor>] {
        &self.links
    }

    /// Asks every link in order; the first that does not pass decides. A step that cannot be refused is
    /// shown to all.
    pub async fn decide(&self, session: Option<&Arc<Session>>, mut step: Lifecycle<'_>) -> Verdict {
        let binding = step.can_be_refused();
        for link in &self.links {
            let verdict = link.decide(session, step.reborrow()).await;
            if binding && !matches!(verdict, Verdict::Pass) {
                return verdict;
            }
        }
        Verdict::Pass
    }
}
