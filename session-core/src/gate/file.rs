//! `SessionFile`: an open file behind the gate, counted as it moves and ended once.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;

use super::{Owed, SessionFs, nothing, or_cut};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Direction, OperationId, TransferEnd, TransferRecord};
use crate::fs::*;
use crate::intercept::Interceptor;
use crate::metadata::{Attributes, Metadata};
use crate::operation::{self as op, Done, OperationKind, Reified};
use crate::path::VPath;
use crate::session::{Session, Transfer};
use crate::verdict::Upload;

/// An open file behind the gate.
pub struct SessionFile {
    fs: SessionFs,
    inner: Arc<dyn File>,
    transfer: Arc<Transfer>,
    writes: bool,
    ended: AtomicBool,
    quota_told: AtomicBool,
    reads_asked: bool,
    writes_asked: bool,
}

impl SessionFs {
    /// What `opened` has opened, as a transfer of the session.
    pub(super) fn file(&self, id: OperationId, opened: op::Open, inner: Arc<dyn File>) -> Arc<SessionFile> {
        let writes = opened.options.write;
        let direction = if writes { Direction::Upload } else { Direction::Download };
        Arc::new(SessionFile {
            fs: self.clone(),
            transfer: self.0.session.begin_transfer(opened.path, direction, id),
            inner,
            writes,
            ended: AtomicBool::new(false),
            quota_told: AtomicBool::new(false),
            reads_asked: self.0.chain.interests().contains(OperationKind::Read),
            writes_asked: self.0.chain.interests().contains(OperationKind::Write),
        })
    }
}

impl SessionFile {
    /// Its path now; a rename through the same session moves it.
    pub fn path(&self) -> VPath {
        self.transfer.path()
    }

    /// Whether it was opened for writing.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// The operation of its session that opened it.
    pub fn operation(&self) -> OperationId {
        self.transfer.opened_by
    }

    fn session(&self) -> &Arc<Session> {
        &self.fs.0.session
    }

    /// The end of a read file, or one of the three endings of a written one: told once.
    fn end(&self, end: TransferEnd) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        let record = TransferRecord {
            opened_by: self.transfer.opened_by,
            path: self.path(),
            direction: self.transfer.direction,
            bytes: self.transfer.bytes.load(Ordering::Relaxed),
            elapsed: self.transfer.since.elapsed(),
            end,
        };
        self.session().transferred(&self.fs.0.chain, record);
    }

    fn count(&self, direction: Direction, n: u64) {
        let stats = self.session().stats();
        match direction {
            Direction::Download => &stats.downloaded,
            Direction::Upload => &stats.uploaded,
        }
        .fetch_add(n, Ordering::Relaxed);
        if direction == self.transfer.direction {
            self.transfer.bytes.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The end of an upload: `before`, the verdict where somebody gives one, the store's commit.
    async fn publish(&self, options: &CommitOptions) -> Result<Metadata> {
        let mut record = op::Commit {
            path: self.path(),
            size: self.transfer.bytes.load(Ordering::Relaxed),
            replaces: None,
            attributes: options.attributes.clone(),
            early: false,
            findings: Vec::new(),
        };
        let fs = &self.fs;
        let (mut asked, lease) = fs.begin(record.to_record())?;
        let mut owed = Owed { fs, asked: &mut asked, record: &mut record, settled: false };
        let result = match fs.logged_in() {
            Ok(()) => {
                let work = lease.within(async {
                    owed.fs.before(owed.asked, owed.record).await?;
                    let attributes = owed.record.attributes.clone();
                    let options = CommitOptions { attributes, ..options.clone() };
                    match fs.0.chain.judges() {
                        true => judged(&mut owed, &self.inner, &options).await,
                        false => self.inner.commit(&options).await,
                    }
                });
                or_cut(self.session(), work).await
            }
            Err(e) => Err(e),
        };
        let result = result.map_err(|e| e.at(OperationKind::Commit, Some(&owed.record.path)));
        let done = |m: &Metadata| Done { bytes: m.size, metadata: Some(m.clone()) };
        owed.settle(result.as_ref().map(done).map_err(Clone::clone));
        result
    }

    /// `call` runs on the open file, whatever the record's path; links are not met here.
    async fn on_file<R, T>(
        &self,
        record: R,
        call: impl for<'a> Fn(&'a dyn File, &'a R) -> BoxFuture<'a, Result<T>> + Send + Sync,
        done: impl Fn(&T) -> Done + Send + Sync,
    ) -> Result<T>
    where
        R: Reified,
        T: Send,
    {
        let inner = &self.inner;
        let fs = &self.fs;
        let (mut asked, lease) = fs.begin(record.to_record())?;
        let mut record = record;
        let mut owed = Owed { fs, asked: &mut asked, record: &mut record, settled: false };
        let result = match fs.logged_in() {
            Ok(()) => {
                let work = lease.within(async {
                    owed.fs.before(owed.asked, owed.record).await?;
                    call(&**inner, owed.record).await
                });
                or_cut(self.session(), work).await
            }
            Err(e) => Err(e),
        };
        let result = result.map_err(|e| e.at(R::KIND, Some(owed.record.to_record().path())));
        owed.settle(result.as_ref().map(&done).map_err(Clone::clone));
        result
    }
}

/// Seals an upload, has it judged, publishes it.
async fn judged(
    owed: &mut Owed<'_, op::Commit>,
    file: &Arc<dyn File>,
    options: &CommitOptions,
) -> Result<Metadata> {
    let content = match file.seal(options).await? {
        Sealed::Done(metadata) => {
            owed.record.early = true;
            return Ok(metadata);
        }
        Sealed::Content(content) => Some(content),
        Sealed::Open => None,
    };
    if let Some(content) = &content {
        owed.record.size = content.metadata().await?.size;
    }
    let cx = owed.fs.cx(owed.asked);
    let judges = |i: &&Arc<dyn Interceptor>| i.judges() && i.interests().contains(OperationKind::Commit);
    for link in owed.fs.0.chain.links().iter().filter(judges) {
        let record = &owed.record;
        let upload = Upload {
            path: &record.path,
            size: record.size,
            content: content.as_ref(),
            findings: &record.findings,
        };
        let finding = link.judge(&cx, &upload).await?;
        owed.record.findings.extend(finding);
    }
    // What was sealed has its attributes already.
    let attributes = if content.is_some() { Attributes::none() } else { options.attributes.clone() };
    file.commit(&CommitOptions { attributes, ..options.clone() }).await
}

#[async_trait]
impl File for SessionFile {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        let had = buf.len();
        let result = self
            .fs
            .chunk(
                self.reads_asked,
                || op::Read { path: self.path(), offset, len },
                self.inner.read_into(offset, len, buf),
                |b: &BytesMut| (b.len() - had) as u64,
                || self.path(),
            )
            .await?;
        self.count(Direction::Download, (result.len() - had) as u64);
        Ok(result)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let len = data.len();
        let written = self
            .fs
            .chunk(
                self.writes_asked,
                || op::Write { path: self.path(), offset, len },
                self.inner.write_at(offset, data),
                |()| len as u64,
                || self.path(),
            )
            .await;
        if let Err(e) = &written
            && e.kind() == ErrorKind::QuotaExceeded
            && !self.quota_told.swap(true, Ordering::SeqCst)
        {
            self.fs.refused(e, op::Write { path: self.path(), offset, len }.into()).await;
        }
        written?;
        self.count(Direction::Upload, len as u64);
        Ok(())
    }

    async fn metadata(&self) -> Result<Metadata> {
        let record = op::Stat { path: self.path(), follow: Follow::No };
        self.on_file(record, |f, _| f.metadata(), |m| Done { bytes: 0, metadata: Some(m.clone()) }).await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let record =
            op::SetAttributes { path: self.path(), attributes: attributes.clone(), follow: Follow::No };
        self.on_file(record, |f, r| f.set_attributes(&r.attributes), nothing).await
    }

    async fn sync(&self) -> Result<()> {
        self.on_file(op::Sync { path: self.path() }, |f, _| f.sync(), nothing).await
    }

    async fn settle(&self) -> Result<()> {
        // Nothing is done, only waited for: no record, no event.
        let lease = self.fs.admit().map_err(|e| e.at(OperationKind::Write, Some(&self.path())))?;
        let settled = or_cut(self.session(), lease.within(self.inner.settle())).await;
        settled.map_err(|e| e.at(OperationKind::Write, Some(&self.path())))
    }

    async fn keep(&self) -> Result<Option<Unfinished>> {
        // What becomes of the content is told by its end; until then there is nothing to tell.
        let lease = self.fs.admit().map_err(|e| e.at(OperationKind::Write, Some(&self.path())))?;
        let kept = or_cut(self.session(), lease.within(self.inner.keep())).await;
        kept.map_err(|e| e.at(OperationKind::Write, Some(&self.path())))
    }

    async fn lend(&self, range: Range<u64>) -> Result<Option<Lent>> {
        if self.reads_asked {
            return Ok(None);
        }
        let lease = self.fs.admit()?;
        let Some(lent) = or_cut(self.session(), lease.within(self.inner.lend(range))).await? else {
            return Ok(None);
        };
        let account = Arc::new(Account {
            fs: self.fs.clone(),
            transfer: Arc::clone(&self.transfer),
            inner: Arc::clone(&lent.account),
        });
        Ok(Some(Lent { account, ..lent }))
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        if !self.writes {
            self.end(TransferEnd::Done);
            return self.inner.metadata().await;
        }
        if self.ended.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Closed).at(OperationKind::Commit, Some(&self.path())));
        }
        let result = self.publish(options).await;
        match &result {
            Ok(_) => self.end(TransferEnd::Done),
            Err(e) if e.kind() == ErrorKind::Closed => {}
            // A verdict against the content throws it away; the old content stands.
            Err(e) if is_verdict(e.kind()) => {
                let _ = self.inner.abort().await;
                self.end(TransferEnd::Aborted);
            }
            // A fault on the way (a full disk, a lost remote, the cut) leaves it to be parked at drop.
            Err(_) => {}
        }
        result
    }

    async fn park(&self) -> Result<()> {
        if !self.writes {
            self.end(TransferEnd::Done);
            return Ok(());
        }
        let size = self.transfer.bytes.load(Ordering::Relaxed);
        let result = self.on_file(op::Park { path: self.path(), size }, |f, _| f.park(), nothing).await;
        self.end(TransferEnd::Parked);
        result
    }

    async fn abort(&self) -> Result<()> {
        if !self.writes {
            self.end(TransferEnd::Done);
            return Ok(());
        }
        let size = self.transfer.bytes.load(Ordering::Relaxed);
        let result = self.on_file(op::Abort { path: self.path(), size }, |f, _| f.abort(), nothing).await;
        self.end(TransferEnd::Aborted);
        result
    }
}

fn is_verdict(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::AlreadyExists
            | ErrorKind::Corrupt
            | ErrorKind::PermissionDenied
            | ErrorKind::PreconditionFailed
            | ErrorKind::QuotaExceeded
            | ErrorKind::Refused
            | ErrorKind::TooLarge
    )
}

impl Drop for SessionFile {
    fn drop(&mut self) {
        self.end(if self.writes { TransferEnd::Parked } else { TransferEnd::Done });
    }
}

struct Account {
    fs: SessionFs,
    transfer: Arc<Transfer>,
    inner: Arc<dyn LentAccount>,
}

#[async_trait]
impl LentAccount for Account {
    async fn advance(&self, n: u64) -> Result<()> {
        let lease = self.fs.admit()?;
        or_cut(&self.fs.0.session, lease.within(self.inner.advance(n))).await?;
        self.fs.0.session.stats().downloaded.fetch_add(n, Ordering::Relaxed);
        self.transfer.bytes.fetch_add(n, Ordering::Relaxed);
        Ok(())
    }
}
