//! An open file of the local store: positional reads and writes on one descriptor.
//!
//! A read is tried from the page cache first (`preadv2` with `RWF_NOWAIT`), on the caller's thread; a
//! device whose filesystem refuses that is remembered. What would wait goes by the rule of [`super::pool`].
//!
//! A plain file is written in place: `abort` cannot bring old content back, it removes the file if this
//! handle made it (and its path still leads to it). A size that `commit` did not expect leaves what
//! arrived in place. A staged file (see [`super::stage`]) is committed here only in the sense of "checked
//! and complete"; `publish` gives it its name, and flushes.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustix::fs::{FileType as Kind, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use tokio::sync::Notify;

use super::attrs::{self, Attached, Target};
use super::resolve::Want;
use super::unnamed::WORTH;
use super::{FsyncPolicy, Store, sys};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{CommitOptions, File, Lent, LentAccount, OpenOptions, StageId, Unfinished};
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

/// The most that one read gives, in bytes: a bound on memory, not a promise.
const MAX_READ: usize = 4 << 20;

/// Where an open file comes from.
pub(super) enum Origin {
    /// A path; `made` by this handle.
    Plain { path: VPath, made: bool },
    /// The staging area.
    Staged(StageId),
}

/// An open file.
pub(super) struct LocalFile(Arc<Shared>);

struct Shared {
    store: Arc<Store>,
    fd: Arc<OwnedFd>,
    origin: Origin,
    /// A restart would find it.
    kept: AtomicBool,
    read: bool,
    write: bool,
    device: (u32, u32),
    /// The page cache may be asked.
    cached: AtomicBool,
    calls: Calls,
}

/// Calls in flight, and whether the end was said.
#[derive(Default)]
struct Calls {
    state: AtomicUsize,
    quiet: Notify,
}

const ENDED: usize = 1 << (usize::BITS - 1);

fn closed() -> Error {
    Error::new(ErrorKind::Closed)
}

impl Calls {
    fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::SeqCst) == ENDED | 1 {
            self.quiet.notify_waiters();
        }
    }

    /// Lets nothing new in and waits for what is in flight; `Closed` if somebody was first.
    async fn end(&self) -> Result<()> {
        if self.state.fetch_or(ENDED, Ordering::SeqCst) & ENDED != 0 {
            return Err(closed());
        }
        loop {
            let notified = self.quiet.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.state.load(Ordering::SeqCst) == ENDED {
                return Ok(());
            }
            notified.await;
        }
    }
}

/// A call in flight; lives as long as its work, also on the pool.
struct Call(Arc<Shared>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.leave();
    }
}

impl LocalFile {
    /// Wraps an open descriptor.
    pub(super) fn new(
        store: &Arc<Store>,
        fd: Arc<OwnedFd>,
        origin: Origin,
        (read, write): (bool, bool),
        device: (u32, u32),
    ) -> Self {
        LocalFile(Arc::new(Shared {
            cached: AtomicBool::new(store.asks_cache(device)),
            store: Arc::clone(store),
            fd,
            kept: AtomicBool::new(!matches!(origin, Origin::Staged(_))),
            origin,
            read,
            write,
            device,
            calls: Calls::default(),
        }))
    }

    fn enter(&self) -> Result<Call> {
        if self.0.calls.state.fetch_add(1, Ordering::SeqCst) & ENDED != 0 {
            self.0.calls.leave();
            return Err(closed());
        }
        Ok(Call(Arc::clone(&self.0)))
    }

    fn not_open_for(&self, what: &'static str) -> Error {
        Error::new(ErrorKind::PermissionDenied).with_detail(what)
    }
}

impl Shared {
    /// What is staged gets a name, so that a restart finds it.
    fn keep(&self) -> Result<()> {
        if let Origin::Staged(id) = &self.origin
            && !self.kept.load(Ordering::Relaxed)
        {
            self.store.area.keep(&self.store, id)?;
            self.kept.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Shared {
    /// What was neither published nor thrown away waits for somebody to continue it.
    fn drop(&mut self) {
        if let Err(e) = self.keep() {
            tracing::warn!(error = %e, "a staged file will not outlive this process");
        }
    }
}

/// Opens a regular file by `options`; see [`OpenOptions`].
pub(super) fn open(store: &Arc<Store>, path: &VPath, options: &OpenOptions) -> Result<LocalFile> {
    options.check()?;
    if options.create {
        attrs::check(&options.attributes, Kind::RegularFile, store.capabilities.properties)?;
    }
    if path.is_root() {
        return Err(Error::new(ErrorKind::IsADirectory));
    }
    let (fd, made) = open_or_make(store, path, options)?;
    let stat = attrs::look_at(&fd)?;
    match attrs::kind(&stat) {
        Kind::RegularFile => {}
        Kind::Directory => return Err(Error::new(ErrorKind::IsADirectory)),
        _ => return Err(Error::new(ErrorKind::PermissionDenied).with_detail("this is not a regular file")),
    }
    if let Some(wanted) = &options.if_match
        && attrs::etag(&stat) != *wanted
    {
        return Err(Error::new(ErrorKind::PreconditionFailed));
    }
    if options.truncate && !made && stat.stx_size > 0 {
        retry_on_intr(|| rustix::fs::ftruncate(&fd, 0))?;
    }
    let origin = Origin::Plain { path: path.clone(), made };
    let file =
        LocalFile::new(store, Arc::new(fd), origin, (options.read, options.write), attrs::device(&stat));
    if made && let Err(e) = set_new(&file.0, attrs::mode(&stat), &options.attributes) {
        let _ = discard(&file.0);
        return Err(e);
    }
    Ok(file)
}

/// Opens what is there or makes a new file, and says which. Whether the file is ours to remove again
/// must be certain, so making is always exclusive.
fn open_or_make(store: &Store, path: &VPath, options: &OpenOptions) -> Result<(OwnedFd, bool)> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    flags |= match (options.read, options.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    if options.append {
        flags |= OFlags::APPEND;
    }
    let want = if options.create { Want::New } else { Want::Existing };
    // Content that must have an etag must be there.
    if options.create && (options.if_match.is_none() || options.exclusive) {
        // A file without permission for its owner can still be written through the handle that made it.
        let mode = Mode::from_raw_mode(options.attributes.mode.unwrap_or(0o666) & 0o777);
        for _ in 0..16 {
            match store.root.open(path, flags | OFlags::CREATE | OFlags::EXCL, mode, want) {
                Ok(fd) => return Ok((fd, true)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && !options.exclusive => {}
                Err(e) => return Err(e),
            }
            match store.root.open(path, flags, Mode::empty(), want) {
                Ok(fd) => return Ok((fd, false)),
                // Removed between the two.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        return Err(Error::new(ErrorKind::Locked).with_detail("the file comes and goes"));
    }
    match store.root.open(path, flags, Mode::empty(), want) {
        Ok(fd) => Ok((fd, false)),
        Err(e) if e.kind() == ErrorKind::NotFound && options.if_match.is_some() => {
            Err(Error::new(ErrorKind::PreconditionFailed))
        }
        Err(e) => Err(e),
    }
}

/// Attributes of a file that was just made with `mode`.
fn set_new(file: &Shared, mode: u32, attributes: &Attributes) -> Result<()> {
    let mut left = attributes.clone();
    if left.mode == Some(mode) && left.uid.is_none() && left.gid.is_none() {
        left.mode = None;
    }
    attrs::apply(Target::Open(file.fd.as_fd()), &left)
}

/// What an open file is, with its properties.
fn describe(file: &Shared) -> Result<Metadata> {
    let mut metadata = attrs::metadata(&attrs::look_at(&file.fd)?);
    if file.store.capabilities.properties {
        metadata.properties = attrs::properties(&Attached::Open(file.fd.as_fd()));
    }
    Ok(metadata)
}

/// Removes what this handle made.
fn discard(file: &Shared) -> Result<()> {
    match &file.origin {
        Origin::Plain { made: false, .. } => Ok(()),
        Origin::Plain { path, made: true } => {
            let place = file.store.root.place(path, Want::Existing, ErrorKind::IsADirectory)?;
            let ours = attrs::look_at(&file.fd)?;
            match attrs::look(&place.dir, place.name) {
                Ok(there)
                    if there.stx_ino == ours.stx_ino && attrs::device(&there) == attrs::device(&ours) =>
                {
                    Ok(rustix::fs::unlinkat(&place.dir, place.name, rustix::fs::AtFlags::empty())?)
                }
                _ => Ok(()),
            }
        }
        Origin::Staged(id) => file.store.area.unstage(&file.store, id),
    }
}

fn write_all(fd: &OwnedFd, mut offset: u64, data: &[u8]) -> Result<()> {
    let mut left = data;
    while !left.is_empty() {
        let n = retry_on_intr(|| rustix::io::pwrite(fd, left, offset))?;
        if n == 0 {
            return Err(Error::new(ErrorKind::NoSpace));
        }
        left = left.get(n..).unwrap_or_default();
        offset += n as u64;
    }
    Ok(())
}

#[async_trait]
impl File for LocalFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        let call = self.enter()?;
        let file = &self.0;
        if !file.read {
            return Err(self.not_open_for("not opened for reading"));
        }
        let len = len.min(MAX_READ);
        if len == 0 || i64::try_from(offset).is_err() {
            return Ok(buf);
        }
        if file.cached.load(Ordering::Relaxed) {
            match sys::read_cached(file.fd.as_fd(), offset, len, &mut buf) {
                Ok(n) if n > 0 => return Ok(buf),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    file.cached.store(false, Ordering::Relaxed);
                    file.store.forget_cache(file.device);
                }
                // Nothing in the cache, the end of the file, or an error that the plain call repeats.
                _ => {}
            }
        }
        file.store
            .pool
            .quick(move |_| {
                sys::read(call.0.fd.as_fd(), offset, len, &mut buf)?;
                Ok(buf)
            })
            .await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let call = self.enter()?;
        if !self.0.write {
            return Err(self.not_open_for("not opened for writing"));
        }
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Error::new(ErrorKind::OutOfRange));
        }
        let is_worth = end.is_some_and(|end| end >= WORTH);
        let work = move |_: &crate::lease::Lease| {
            if is_worth {
                call.0.keep()?;
            }
            write_all(&call.0.fd, offset, &data)
        };
        self.0.store.pool.quick(work).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        let call = self.enter()?;
        self.0.store.pool.quick(move |_| describe(&call.0)).await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let call = self.enter()?;
        attrs::check(attributes, Kind::RegularFile, self.0.store.capabilities.properties)?;
        if attributes.size.is_some() && !self.0.write {
            return Err(self.not_open_for("not opened for writing"));
        }
        let attributes = attributes.clone();
        let pool = &self.0.store.pool;
        pool.quick(move |_| attrs::apply(Target::Open(call.0.fd.as_fd()), &attributes)).await
    }

    async fn sync(&self) -> Result<()> {
        let call = self.enter()?;
        let work = move |_: &crate::lease::Lease| {
            call.0.keep()?;
            Ok(retry_on_intr(|| rustix::fs::fsync(&call.0.fd))?)
        };
        self.0.store.pool.slow(work).await
    }

    /// What is staged is found again after a restart.
    async fn keep(&self) -> Result<Option<Unfinished>> {
        let call = self.enter()?;
        let Origin::Staged(id) = &self.0.origin else { return Ok(None) };
        self.0.store.pool.quick(move |_| call.0.keep()).await?;
        Ok(Some(Unfinished { words: Arc::clone(&id.0), spared: 0 }))
    }

    async fn lend(&self, range: Range<u64>) -> Result<Option<Lent>> {
        let call = self.enter()?;
        if !self.0.read {
            return Err(self.not_open_for("not opened for reading"));
        }
        let pool = &self.0.store.pool;
        let size = pool.quick(move |_| Ok(attrs::look_at(&call.0.fd)?.stx_size)).await?;
        let end = range.end.min(size);
        let range = range.start.min(end)..end;
        Ok(Some(Lent { fd: Arc::clone(&self.0.fd), range, account: Arc::new(Nobody) }))
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        attrs::check(&options.attributes, Kind::RegularFile, self.0.store.capabilities.properties)?;
        self.0.calls.end().await?;
        let (file, options) = (Arc::clone(&self.0), options.clone());
        let staged = matches!(file.origin, Origin::Staged(_));
        let flush = file.write && !staged && file.store.options.fsync != FsyncPolicy::Never;
        let verdict = move |lease: &crate::lease::Lease| {
            lease.unless_cut(|| {
                let size = attrs::look_at(&file.fd)?.stx_size;
                if let Some(expected) = options.expected_size
                    && expected != size
                {
                    return Err(Error::new(ErrorKind::Corrupt)
                        .with_detail(format!("{expected} bytes were expected, {size} arrived")));
                }
                attrs::apply(Target::Open(file.fd.as_fd()), &options.attributes)
            })?;
            if flush {
                retry_on_intr(|| rustix::fs::fsync(&file.fd))?;
                if let Origin::Plain { path, made: true } = &file.origin
                    && file.store.options.fsync == FsyncPolicy::Full
                {
                    let place = file.store.root.place(path, Want::Existing, ErrorKind::IsADirectory)?;
                    super::sync_dir(&place.dir)?;
                }
            }
            describe(&file)
        };
        let pool = &self.0.store.pool;
        if flush { pool.slow(verdict).await } else { pool.quick(verdict).await }
    }

    async fn park(&self) -> Result<()> {
        self.0.calls.end().await
    }

    async fn abort(&self) -> Result<()> {
        self.0.calls.end().await?;
        let file = Arc::clone(&self.0);
        self.0.store.pool.quick(move |lease| lease.unless_cut(|| discard(&file))).await
    }
}

/// The account of a store, which counts for nobody: the gate puts its own around it.
struct Nobody;

#[async_trait]
impl LentAccount for Nobody {
    async fn advance(&self, _: u64) -> Result<()> {
        Ok(())
    }
}
