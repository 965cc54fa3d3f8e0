//! The gate: `SessionFs` and `SessionFile`, the one place of before and after.
//!
//! A `SessionFs` comes only from [`Session::guard`] and is the only filesystem that engines accept, so
//! hooks cannot be forgotten. Each call becomes a typed record, passes the chain, runs under a lease of
//! its session and is reported once. The gate follows symbolic links: a store answers with the link it
//! met, and the whole chain is asked again for the new path, so every path that a store opens is one the
//! policies saw. Errors leave here with operation and virtual path.
//!
//! The gate is not a [`crate::layer::Layer`]: an operation added to `Filesystem` is refused through
//! every session until somebody gives it a record here. Staging primitives do not pass it. A cut session
//! begins nothing and every call in flight answers `Canceled`.

mod file;
mod locking;
mod pages;

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use self::file::SessionFile;
#[cfg(feature = "script")]
pub(crate) use self::pages::matches_pattern;
use self::pages::{GuardedPages, sorted};
use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Link, Result};
use crate::event::{OperationId, What};
use crate::fs::*;
use crate::intercept::{Chain, Cx, Interceptor, Peek};
use crate::lease::Lease;
use crate::locks::Locks;
use crate::metadata::{Attributes, Metadata};
use crate::operation::{self as op, Done, Operation, OperationKind, OperationSet, Outcome, Record, Reified};
use crate::path::VPath;
use crate::session::Session;

/// How many symbolic links one operation follows before it answers `LinkLoop`.
pub const MAX_LINKS: u32 = 40;

/// A filesystem behind the gate of one login. Cheap to clone.
#[derive(Clone)]
pub struct SessionFs(Arc<Inner>);

struct Inner {
    session: Arc<Session>,
    epoch: u64,
    fs: Arc<dyn Filesystem>,
    chain: Arc<Chain>,
    /// Where locks are kept, if they are.
    locks: Option<Arc<Locks>>,
    /// Tokens of locks that the client has shown.
    tokens: Arc<[Arc<str>]>,
}

/// What `before` was asked and `after` is owed.
struct Asked {
    id: OperationId,
    started: Instant,
    hop: u32,
}

impl SessionFs {
    /// The gate sorts for a store that cannot, follows links and keeps locks for all, and stages for nobody.
    fn behind_a_gate(&self, mut capabilities: Capabilities) -> Capabilities {
        capabilities.ordered_list = true;
        capabilities.follows_links = true;
        capabilities.locks = self.0.locks.is_some();
        capabilities
    }

    pub(crate) fn new(session: Arc<Session>, epoch: u64, fs: Arc<dyn Filesystem>, chain: Arc<Chain>) -> Self {
        SessionFs(Arc::new(Inner { session, epoch, fs, chain, locks: None, tokens: Arc::default() }))
    }

    /// The session whose gate this is.
    pub fn session(&self) -> &Arc<Session> {
        &self.0.session
    }

    /// Opens for an engine that wants the gate's own file.
    pub async fn open_file(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<SessionFile>> {
        options.check()?;
        if options.text && !self.capabilities_at(path).text {
            return Err(Error::unsupported(OperationKind::Open)
                .at(OperationKind::Open, Some(path))
                .with_detail("there is no text here: files are kept as they are"));
        }
        let record = op::Open { path: path.clone(), options: options.clone() };
        let begun = self.begin(record.to_record())?;
        let id = begun.0.id;
        let mut opened = None;
        let result = self
            .run(begun, record, |fs, r| fs.open(&r.path, &r.options), |_| Done::default(), &mut opened)
            .await;
        let file = result?;
        let record = opened.unwrap_or_else(|| op::Open { path: path.clone(), options: options.clone() });
        Ok(self.file(id, record, file))
    }

    /// Whether both are the gate of one login to one filesystem.
    pub fn is_same(&self, other: &SessionFs) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Copies a file inside the store, and gives the operation. Errors: those of `copy`.
    pub async fn copy_file(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<OperationId> {
        let record = op::Copy { from: from.clone(), to: to.clone(), replace };
        let begun = self.begin(record.to_record())?;
        let id = begun.0.id;
        self.run(begun, record, |fs, r| fs.copy(&r.from, &r.to, r.replace), nothing, &mut None).await?;
        Ok(id)
    }

    /// What stands at `path`, where "nothing" is an answer and no failure: for who only wants to know what
    /// an operation will find. Errors: those of `stat`, but for `NotFound`.
    pub async fn look(&self, path: &VPath, follow: Follow) -> Result<Option<Metadata>> {
        self.pass(
            op::Stat { path: path.clone(), follow },
            |fs, r| {
                Box::pin(async move {
                    match fs.stat(&r.path, r.follow).await {
                        Ok(metadata) => Ok(Some(metadata)),
                        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                        Err(e) => Err(e),
                    }
                })
            },
            |m| Done { bytes: 0, metadata: m.clone() },
        )
        .await
    }

    /// Whether calls may begin: the session is not cut and the login is the one that was guarded.
    fn admit(&self) -> Result<Lease> {
        let lease = self.lease()?;
        self.logged_in()?;
        Ok(lease)
    }

    fn lease(&self) -> Result<Lease> {
        self.0.session.touch();
        self.0.session.leases().take()
    }

    fn logged_in(&self) -> Result<()> {
        if self.0.session.epoch() == self.0.epoch {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unauthenticated).with_detail("logged out"))
    }

    fn asked(&self) -> Asked {
        Asked { id: self.0.session.next_operation(), started: Instant::now(), hop: 0 }
    }

    /// An operation begins, unless the session is cut: then it does not, and nobody hears of it. The lease
    /// is held until `after` is told: the session is not quiet before.
    fn begin(&self, record: Record) -> Result<(Asked, Lease)> {
        let session = &self.0.session;
        let lease = self.lease().map_err(|e| e.at(record.kind(), Some(record.path())))?;
        let asked = self.asked();
        if session.has_sink() {
            session.emit(What::Started { id: asked.id, record });
        }
        Ok((asked, lease))
    }

    fn cx<'a>(&'a self, asked: &Asked) -> Cx<'a> {
        Cx {
            session: &self.0.session,
            id: asked.id,
            hop: asked.hop,
            peek: Peek(&*self.0.fs),
            tokens: &self.0.tokens,
        }
    }

    /// Asks the chain. On a refusal the links already asked are still owed their `after`.
    async fn before<R: Reified>(&self, asked: &Asked, record: &mut R) -> Result<()> {
        if let Some(refusal) = self.0.session.take_block() {
            return Err(refusal);
        }
        let chain = &self.0.chain;
        if !chain.interests().contains(R::KIND) {
            return Ok(());
        }
        let cx = self.cx(asked);
        let original = chain.rewrites().then(|| record.clone());
        let interested = |i: &&Arc<dyn Interceptor>| i.interests().contains(R::KIND);
        for link in chain.links().iter().filter(interested) {
            link.before(&cx, record.as_operation()).await?;
        }
        // A script must not move a user past the user's permissions by a rewrite.
        if original.is_some_and(|o| o != *record) {
            for link in chain.links().iter().filter(interested).filter(|i| !i.rewrites()) {
                link.before(&cx, record.as_operation()).await?;
            }
        }
        Ok(())
    }

    /// The one place of after: interceptors in reverse, the session's last error, the event.
    fn after(&self, asked: &Asked, record: Record, result: Result<Done>) {
        let session = &self.0.session;
        if let Err(e) = &result {
            session.note_error(e);
        }
        let outcome = Outcome { result, elapsed: asked.started.elapsed() };
        let chain = &self.0.chain;
        if chain.interests().contains(record.kind()) {
            let cx = self.cx(asked);
            for link in chain.links().iter().rev().filter(|i| i.interests().contains(record.kind())) {
                link.after(&cx, &record, &outcome);
            }
        }
        if session.has_sink() {
            session.emit(What::Ended {
                id: asked.id,
                record,
                error: outcome.result.err(),
                elapsed: outcome.elapsed,
            });
        }
    }

    /// One operation from begin to end.
    async fn pass<R, T>(
        &self,
        record: R,
        call: impl for<'a> Fn(&'a dyn Filesystem, &'a R) -> BoxFuture<'a, Result<T>> + Send + Sync,
        done: impl Fn(&T) -> Done + Send + Sync,
    ) -> Result<T>
    where
        R: Reified,
        T: Send,
    {
        let begun = self.begin(record.to_record())?;
        self.run(begun, record, call, done, &mut None).await
    }

    async fn run<R, T>(
        &self,
        (mut asked, lease): (Asked, Lease),
        mut record: R,
        call: impl for<'a> Fn(&'a dyn Filesystem, &'a R) -> BoxFuture<'a, Result<T>> + Send + Sync,
        done: impl Fn(&T) -> Done + Send + Sync,
        carried_out: &mut Option<R>,
    ) -> Result<T>
    where
        R: Reified,
        T: Send,
    {
        // Whatever way out is taken, a dropped future included, `after` is told exactly once.
        let mut owed = Owed { fs: self, asked: &mut asked, record: &mut record, settled: false };
        let result = match self.logged_in() {
            Ok(()) => {
                let work = lease.within(owed.attempt(&call));
                or_cut(&self.0.session, work).await
            }
            Err(e) => Err(e),
        };
        let result = result.map_err(|e| e.at(R::KIND, Some(owed.record.to_record().path())));
        owed.settle(result.as_ref().map(&done).map_err(Clone::clone));
        drop(owed);
        if let Some(e) = result.as_ref().err().cloned() {
            self.refused(&e, record.to_record()).await;
        }
        *carried_out = Some(record);
        result
    }

    /// What must be kept of a failure is, before its client is told.
    async fn refused(&self, e: &Error, record: Record) {
        if e.kind() == ErrorKind::QuotaExceeded {
            for link in self.0.chain.links().iter().rev() {
                link.quota_hit(&self.0.session, &record).await;
            }
        }
        self.0.session.written().await;
    }

    /// A chunk: only interested interceptors, no events.
    async fn chunk<R, T>(
        &self,
        asked_of_chain: bool,
        record: impl FnOnce() -> R + Send,
        call: impl Future<Output = Result<T>> + Send,
        bytes: impl Fn(&T) -> u64 + Send,
        path: impl Fn() -> VPath + Send,
    ) -> Result<T>
    where
        R: Reified,
        T: Send,
    {
        let lease = self.admit().map_err(|e| e.at(R::KIND, Some(&path())))?;
        let session = &self.0.session;
        if !asked_of_chain {
            let result = or_cut(session, lease.within(call)).await;
            return result.map_err(|e| {
                let e = e.at(R::KIND, Some(&path()));
                session.note_error(&e);
                e
            });
        }
        let asked = self.asked();
        let mut record = record();
        let result = or_cut(
            session,
            lease.within(async {
                self.before(&asked, &mut record).await?;
                call.await
            }),
        )
        .await
        .map_err(|e| e.at(R::KIND, Some(&path())));
        let told = result.as_ref().map(|t| Done { bytes: bytes(t), metadata: None }).map_err(Clone::clone);
        if let Err(e) = &told {
            session.note_error(e);
        }
        let outcome = Outcome { result: told, elapsed: asked.started.elapsed() };
        let record = record.to_record();
        let cx = self.cx(&asked);
        for link in self.0.chain.links().iter().rev().filter(|i| i.interests().contains(R::KIND)) {
            link.after(&cx, &record, &outcome);
        }
        result
    }
}

/// Runs `work` until it is done or the session is cut; what is ready at once does not touch the token.
async fn or_cut<T>(session: &Session, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        result = work => result,
        () = session.cancel_token().cancelled() => {
            Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"))
        }
    }
}

struct Owed<'a, R: Reified> {
    fs: &'a SessionFs,
    asked: &'a mut Asked,
    record: &'a mut R,
    settled: bool,
}

impl<R: Reified> Owed<'_, R> {
    /// Chain, store, and again for each link that the store meets.
    async fn attempt<T>(
        &mut self,
        call: &(impl for<'c> Fn(&'c dyn Filesystem, &'c R) -> BoxFuture<'c, Result<T>> + Send + Sync),
    ) -> Result<T> {
        let mut named = None;
        loop {
            self.fs.before(self.asked, self.record).await?;
            let error = match call(&*self.fs.0.fs, self.record).await {
                Ok(value) => return Ok(value),
                Err(e) => e,
            };
            let Some(link) = error.as_link() else {
                return Err(match named {
                    // Nobody has named what is missing: they named the link.
                    Some(path) if error.kind() == ErrorKind::NotFound => error
                        .at(R::KIND, Some(&path))
                        .with_hint(format!("a link leads to '{}'", self.record.to_record().path())),
                    _ => error,
                });
            };
            if named.is_none() {
                named = Some(self.record.to_record().path().clone());
            }
            self.asked.hop += 1;
            if self.asked.hop > MAX_LINKS || !follow(link, &mut self.record.as_operation())? {
                return Err(Error::new(ErrorKind::LinkLoop));
            }
        }
    }

    fn settle(&mut self, result: Result<Done>) {
        self.settled = true;
        self.fs.after(self.asked, self.record.to_record(), result);
    }
}

impl<R: Reified> Drop for Owed<'_, R> {
    fn drop(&mut self) {
        if !self.settled {
            let e = Error::new(ErrorKind::Canceled).at(R::KIND, Some(self.record.to_record().path()));
            self.settle(Err(e));
        }
    }
}

/// Rewrites the paths of an operation that run over `link`. A target is read as in a `chroot`: absolute
/// means from the virtual root; a relative one that climbs out of the root is refused.
fn follow(link: &Link, operation: &mut Operation<'_>) -> Result<bool> {
    let base = link.at.parent().unwrap_or_else(VPath::root);
    if climbs_out(&base, &link.target) {
        return Err(Error::refused("the symbolic link points outside the root"));
    }
    let target = VPath::parse(&base, &link.target)?;
    let mut changed = false;
    for (path, follows_end) in operation.paths().into_iter().flatten() {
        if (*path != link.at || follows_end)
            && let Some(new) = path.rebase(&link.at, &target)
        {
            *path = new;
            changed = true;
        }
    }
    Ok(changed)
}

fn climbs_out(base: &VPath, target: &[u8]) -> bool {
    let mut depth = if target.first() == Some(&b'/') { 0 } else { base.depth() };
    for segment in target.split(|b| *b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

fn nothing<T>(_: &T) -> Done {
    Done::default()
}

#[async_trait]
impl Filesystem for SessionFs {
    fn capabilities(&self) -> Capabilities {
        self.behind_a_gate(self.0.fs.capabilities())
    }

    fn capabilities_at(&self, path: &VPath) -> Capabilities {
        self.behind_a_gate(self.0.fs.capabilities_at(path))
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        self.pass(
            op::Stat { path: path.clone(), follow },
            |fs, r| fs.stat(&r.path, r.follow),
            |m| Done { bytes: 0, metadata: Some(m.clone()) },
        )
        .await
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let record = op::List { path: dir.clone(), options: options.clone(), hide: Vec::new() };
        let mut carried_out = None;
        let begun = self.begin(record.to_record())?;
        let id = begun.0.id;
        let listing =
            self.run(begun, record, |fs, r| fs.list(&r.path, &r.options), nothing, &mut carried_out).await?;
        let (path, hide) = carried_out.map_or_else(|| (dir.clone(), Vec::new()), |r| (r.path, r.hide));
        let ordered = self.0.fs.capabilities_at(&path).ordered_list;
        let pages = GuardedPages {
            fs: self.clone(),
            id,
            filters: self
                .0
                .chain
                .links()
                .iter()
                .filter(|i| i.interests().contains(OperationKind::List))
                .cloned()
                .collect(),
            path,
            hide,
            inner: listing,
        };
        if options.order != Order::Any && !ordered {
            return sorted(Box::new(pages), options).await;
        }
        Ok(Box::new(pages))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        Ok(self.open_file(path, options).await?)
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        let record = op::CreateDir { path: path.clone(), attributes: attributes.clone() };
        self.pass(record, |fs, r| fs.create_dir(&r.path, &r.attributes), nothing).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.pass(op::RemoveFile { path: path.clone() }, |fs, r| fs.remove_file(&r.path), nothing).await
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.pass(op::RemoveDir { path: path.clone() }, |fs, r| fs.remove_dir(&r.path), nothing).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let record = op::Rename { from: from.clone(), to: to.clone(), replace };
        let begun = self.begin(record.to_record())?;
        let mut carried_out = None;
        self.run(begun, record, |fs, r| fs.rename(&r.from, &r.to, r.replace), nothing, &mut carried_out)
            .await?;
        if let Some(r) = carried_out {
            self.0.session.renamed(&r.from, &r.to);
        }
        Ok(())
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let record = op::SetAttributes { path: path.clone(), attributes: attributes.clone(), follow };
        self.pass(record, |fs, r| fs.set_attributes(&r.path, &r.attributes, r.follow), nothing).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.copy_file(from, to, replace).await.map(drop)
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        let record = op::Symlink { path: at.clone(), target: Bytes::copy_from_slice(target) };
        self.pass(record, |fs, r| fs.symlink(&r.target, &r.path), nothing).await
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let record = op::HardLink { from: from.clone(), to: to.clone() };
        self.pass(record, |fs, r| fs.hard_link(&r.from, &r.to), nothing).await
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        self.pass(op::ReadLink { path: path.clone() }, |fs, r| fs.read_link(&r.path), nothing).await
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        self.pass(op::Canonicalize { path: path.clone() }, |fs, r| fs.canonicalize(&r.path), nothing).await
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        self.pass(op::Space { path: path.clone() }, |fs, r| fs.space(&r.path), nothing).await
    }

    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        let record = op::Checksum { path: path.clone(), algorithm, range };
        self.pass(record, |fs, r| fs.checksum(&r.path, r.algorithm, r.range.clone()), nothing).await
    }
}

/// An interceptor that is interested in everything but chunks and refuses nothing, for measuring and
/// for the law of transparency.
pub struct Bystander;

#[async_trait]
impl Interceptor for Bystander {
    fn interests(&self) -> OperationSet {
        OperationSet::without_chunks()
    }
}
