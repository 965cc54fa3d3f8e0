//! An open file on the server.
//!
//! Reads are pipelined: a long one is cut into requests of the negotiated length that fly together, and
//! any number of callers may read at once. Writes are sent behind: `write_at` returns when its content
//! is queued within the window, and an error of the server shows at a later call; `sync` and `commit`
//! tell the truth about everything before them.
//!
//! Endings: `commit` waits for every write, sets attributes, compares the size, closes. `park` closes,
//! since SFTP knows no other way to let go. `abort` removes what this open created or emptied, and
//! closes. What is dropped without an ending is closed in the background. A server without staging
//! shows the content while it is written and cannot bring back what was replaced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, OpenOptions};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use tokio::sync::{OwnedSemaphorePermit, RwLock};

use super::driver::{Call, Client, Writes};
use super::machine::unexpected;
use super::refine::{not_published, settable};
use crate::wire::{Attrs, Extended, Extension, Reply, Request};

/// Requests of one read that fly together, whatever their length.
const FLYING: usize = 512;
/// A server that gives less than asked is not asked for less than this.
const LEAST_READ: u32 = 4096;
const UNKNOWN: u64 = u64::MAX;

const OPEN: u8 = 0;
/// An ending was begun and did not succeed (yet): only `abort` is left.
const FAILED: u8 = 1;
const ENDED: u8 = 2;

/// See the module's header.
pub(super) struct SftpFile {
    client: Client,
    handle: Bytes,
    path: Bytes,
    options: OpenOptions,
    /// Attributes of the open that no OPEN carries; set at the end.
    owed: Attributes,
    /// What a READ may ask for: the negotiated length, or less once the server gave less.
    read_len: AtomicU32,
    /// The size when it was opened, as far as it is known.
    size: Option<u64>,
    /// Where a short read ended exactly at the known size: the end of file, good for one answer.
    end_seen: AtomicU64,
    /// Where the furthest write ended.
    written: AtomicU64,
    writes: Arc<Writes>,
    /// Held for reading by each write, for writing by an ending, which so waits for calls in flight.
    calls: RwLock<()>,
    state: AtomicU8,
    closed: AtomicBool,
    /// The CLOSE was answered with *ok*: what stands under the name is what was written here.
    published: AtomicBool,
    /// The server may stage, and the name stood for older content when this was opened.
    replaces: bool,
}

impl SftpFile {
    /// Wraps a handle that was just opened and counted.
    pub(super) fn new(
        client: Client,
        handle: Bytes,
        path: Bytes,
        options: &OpenOptions,
        owed: Attributes,
        size: Option<u64>,
        replaces: bool,
    ) -> Self {
        let writes = client.writes();
        let read_len = AtomicU32::new(client.negotiated().read_len);
        SftpFile {
            client,
            handle,
            path,
            options: options.clone(),
            owed,
            read_len,
            size,
            end_seen: AtomicU64::new(UNKNOWN),
            written: AtomicU64::new(0),
            writes,
            calls: RwLock::new(()),
            state: AtomicU8::new(OPEN),
            closed: AtomicBool::new(false),
            published: AtomicBool::new(false),
            replaces,
        }
    }

    fn live(&self) -> Result<()> {
        if self.state.load(Ordering::Acquire) != OPEN || self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed));
        }
        Ok(())
    }

    /// Every byte of the content is ours: it began empty.
    fn began_empty(&self) -> bool {
        self.options.truncate || self.options.exclusive
    }

    fn ordered(&self) -> bool {
        self.client.negotiated().ordered
    }

    /// The CLOSE, once.
    fn close_request(&self) -> Option<Request> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.client.handle_closes();
        Some(Request::Close { handle: self.handle.clone() })
    }

    fn close_in_background(&self) {
        if let Some(close) = self.close_request() {
            self.client.send_forgotten(close);
        }
    }

    async fn ask(&self, offset: u64, len: u32, permit: OwnedSemaphorePermit) -> Result<Flying> {
        let request = Request::Read { handle: self.handle.clone(), offset, len };
        let call = self.client.send(request).await?.holding(permit);
        Ok(Flying { offset, len, call })
    }

    /// One READ; nothing at the end of the file.
    async fn read_one(&self, offset: u64, len: u32) -> Result<Bytes> {
        let permit = self.client.budget(len).await?;
        self.ask(offset, len, permit).await?.content().await
    }

    /// What a request may ask for at most.
    fn most(&self) -> u32 {
        self.read_len.load(Ordering::Relaxed).max(1)
    }

    /// What the next of several requests asks for when `left` bytes are wanted.
    fn piece(&self, left: usize) -> u32 {
        let most = self.most();
        u32::try_from(even(left, most as usize)).unwrap_or(most)
    }

    /// Whether a read that fell short at `at` ended where the file does.
    fn ends_at(&self, at: u64) -> bool {
        let ends = self.size == Some(at) && !self.options.write;
        if ends {
            self.end_seen.store(at, Ordering::Relaxed);
        }
        ends
    }

    async fn read_long(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        let end = offset.saturating_add(len as u64);
        let mut next = offset;
        let mut flying: VecDeque<Flying> = VecDeque::new();
        loop {
            while next < end && flying.len() < FLYING {
                let len = self.piece(usize::try_from(end - next).unwrap_or(usize::MAX));
                let permit = if flying.is_empty() {
                    self.client.budget(len).await?
                } else if self.size.is_some_and(|size| next >= size) {
                    break; // probably nothing there: only if all before it was full
                } else {
                    // Waiting while holding would let two long reads wait for each other.
                    let Some(permit) = self.client.try_budget(len) else { break };
                    permit
                };
                flying.push_back(self.ask(next, len, permit).await?);
                next += u64::from(len);
            }
            let Some(first) = flying.pop_front() else { return Ok(buf) };
            let (start, until) = (first.offset, first.offset.saturating_add(u64::from(first.len)));
            let data = first.content().await?;
            if data.is_empty() {
                return Ok(buf);
            }
            let mut at = start.saturating_add(data.len() as u64);
            buf.extend_from_slice(&data);
            while at < until {
                // Short: the end of the file, or a server that gives less than it is asked for.
                if self.ends_at(at) {
                    return Ok(buf);
                }
                let gave = u32::try_from(at - start).unwrap_or(u32::MAX);
                let rest = self.piece(usize::try_from(until - at).unwrap_or(usize::MAX));
                let rest = self.read_one(at, rest).await?;
                if rest.is_empty() {
                    return Ok(buf);
                }
                self.read_len.fetch_min(gave.max(LEAST_READ), Ordering::Relaxed);
                at = at.saturating_add(rest.len() as u64);
                buf.extend_from_slice(&rest);
            }
        }
    }

    /// Sets what is owed, asks what it became, closes: sent together behind the writes.
    async fn finish(&self, options: &CommitOptions) -> Result<Metadata> {
        let attributes = options.attributes.clone().over(self.owed.clone());
        if !self.ordered() {
            self.writes.settled().await?;
        }
        if let Some(expected) = options.expected_size
            && (self.written.load(Ordering::Acquire) != expected || self.options.append)
        {
            // Other handles may have written too; a server that stages must not publish another size.
            self.writes.settled().await?;
            differs(self.stat().await?.size, expected)?;
        }
        self.writes.check()?;
        let set = if attributes.is_empty() {
            None
        } else {
            let known = if needs_known(&attributes) { Some(self.stat().await?) } else { None };
            let attrs = Attrs::asking(&attributes, known.as_ref());
            Some(self.client.send(Request::Fsetstat { handle: self.handle.clone(), attrs }).await?)
        };
        let stat = self.client.send(Request::Fstat { handle: self.handle.clone() }).await?;
        let Some(close) = self.close_request() else { return Err(Error::new(ErrorKind::Closed)) };
        let close = self.client.send(close).await?;
        let written = self.writes.settled().await;
        let set = match set {
            Some(set) => set.await.map(|_| ()),
            None => Ok(()),
        };
        let stat = stat.await.and_then(metadata);
        let close = close.await;
        self.published.store(close.is_ok(), Ordering::Release);
        written?;
        set?;
        close.map_err(|e| not_published(e, &self.path))?;
        let metadata = match stat {
            // Where a user may put and not look, the upload has succeeded all the same: what is told is
            // what was sent.
            Err(e) if e.kind() == ErrorKind::PermissionDenied && self.began_empty() => {
                Metadata::new(FileType::File, self.written.load(Ordering::Acquire))
            }
            stat => stat?,
        };
        if let Some(expected) = options.expected_size {
            differs(metadata.size, expected)?;
        }
        Ok(metadata)
    }

    async fn stat(&self) -> Result<Metadata> {
        self.client.call(Request::Fstat { handle: self.handle.clone() }).await.and_then(metadata)
    }
}

/// A READ under way, with its share of the budget.
struct Flying {
    offset: u64,
    len: u32,
    call: Call,
}

impl Flying {
    async fn content(self) -> Result<Bytes> {
        match self.call.await {
            Ok(Reply::Data(data)) => Ok(data),
            Ok(reply) => Err(unexpected(&reply)),
            Err(e) if e.kind() == ErrorKind::OutOfRange => Ok(Bytes::new()),
            Err(e) => Err(e),
        }
    }
}

/// The first of the pieces of at most `most` bytes that `left` bytes are cut into, about equal so that no
/// request goes for a crumb.
fn even(left: usize, most: usize) -> usize {
    let most = most.max(1);
    let pieces = left.div_ceil(most).max(1);
    left.div_ceil(pieces).next_multiple_of(4096).min(most).min(left)
}

/// Appends `data`; into an empty buffer without a copy, where the message held nothing else.
fn append(buf: &mut BytesMut, data: Bytes) {
    if !buf.is_empty() {
        buf.extend_from_slice(&data);
        return;
    }
    match data.try_into_mut() {
        Ok(data) => *buf = data,
        Err(data) => buf.extend_from_slice(&data),
    }
}

fn not_open_for(what: &'static str) -> Error {
    Error::new(ErrorKind::PermissionDenied).with_detail(what)
}

fn metadata(reply: Reply) -> Result<Metadata> {
    match reply {
        Reply::Attrs(attrs) => Ok(attrs.to_metadata()),
        reply => Err(unexpected(&reply)),
    }
}

/// Whether one half of a pair is set, which the wire can only carry with the other half.
pub(super) fn needs_known(a: &Attributes) -> bool {
    a.uid.is_some() != a.gid.is_some() || a.accessed.is_some() != a.modified.is_some()
}

fn differs(size: u64, expected: u64) -> Result<()> {
    if size == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt)
        .with_detail(format!("the file has {size} bytes on the server, {expected} were expected")))
}

#[async_trait]
impl File for SftpFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        self.live()?;
        if !self.options.read {
            return Err(not_open_for("not opened for reading"));
        }
        // Servers refuse an offset that no file can have; there is nothing at it.
        let most = usize::try_from((i64::MAX as u64).saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(most);
        if len == 0 {
            return Ok(buf);
        }
        if !self.writes.is_idle() {
            self.writes.settled().await?;
        }
        if self.end_seen.compare_exchange(offset, UNKNOWN, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Ok(buf);
        }
        let piece = self.piece(len);
        if (piece as usize) < len {
            return self.read_long(offset, len, buf).await;
        }
        // A read up to the known size asks for one byte more: if it does not come, the end is known too,
        // and whoever asks for it next needs no round trip.
        let until = offset.saturating_add(len as u64);
        let probes = self.size == Some(until) && !self.options.write && piece < self.most();
        let mut data = self.read_one(offset, piece + u32::from(probes)).await?;
        if data.len() > len {
            data.truncate(len);
        } else if !data.is_empty() && (data.len() < len || probes) {
            self.ends_at(offset.saturating_add(data.len() as u64));
        }
        append(&mut buf, data);
        Ok(buf)
    }

    async fn write_at(&self, offset: u64, mut data: Bytes) -> Result<()> {
        let _call = self.calls.read().await;
        self.live()?;
        if !self.options.write {
            return Err(not_open_for("not opened for writing"));
        }
        let Some(end) = offset.checked_add(data.len() as u64).filter(|end| i64::try_from(*end).is_ok())
        else {
            return Err(Error::new(ErrorKind::OutOfRange));
        };
        self.writes.check()?;
        if !self.ordered() && !self.writes.is_idle() && offset < self.written.load(Ordering::Acquire) {
            // A server that works side by side could let the older content win.
            self.writes.settled().await?;
        }
        self.written.fetch_max(end, Ordering::AcqRel);
        let most = self.client.negotiated().write_len as usize;
        let mut at = offset;
        while !data.is_empty() {
            let piece = data.split_to(even(data.len(), most));
            let len = piece.len();
            self.writes.room(len).await;
            let mut unsent = Unsent(Some((&self.writes, len)));
            let request = Request::Write { handle: self.handle.clone(), offset: at, data: piece };
            self.client.send_write(request, &self.writes, len).await?;
            unsent.0 = None;
            at += len as u64;
        }
        Ok(())
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.live()?;
        if !self.ordered() {
            self.writes.settled().await?;
        }
        self.stat().await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.live()?;
        settable(attributes)?;
        if attributes.size.is_some() && !self.options.write {
            return Err(not_open_for("not opened for writing"));
        }
        if !self.ordered() {
            self.writes.settled().await?;
        }
        let known = if needs_known(attributes) { Some(self.stat().await?) } else { None };
        let attrs = Attrs::asking(attributes, known.as_ref());
        self.client.call(Request::Fsetstat { handle: self.handle.clone(), attrs }).await.map(|_| ())
    }

    async fn sync(&self) -> Result<()> {
        self.live()?;
        self.writes.settled().await?;
        if !self.client.negotiated().has(Extension::Fsync) {
            return Err(Error::unsupported(OperationKind::Sync));
        }
        let request = Request::Extended(Extended::Fsync { handle: self.handle.clone() });
        self.client.call(request).await.map(|_| ())
    }

    async fn settle(&self) -> Result<()> {
        self.live()?;
        self.writes.settled().await
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        if !self.options.write {
            return self.metadata().await;
        }
        settable(&options.attributes)?;
        let _all = self.calls.write().await;
        self.live()?;
        self.state.store(FAILED, Ordering::Release);
        let metadata = self.finish(options).await?;
        self.state.store(ENDED, Ordering::Release);
        Ok(metadata)
    }

    async fn park(&self) -> Result<()> {
        if !self.options.write {
            return Ok(());
        }
        let _all = self.calls.write().await;
        self.live()?;
        self.state.store(FAILED, Ordering::Release);
        if !self.ordered() {
            let _ = self.writes.settled().await;
        }
        let Some(close) = self.close_request() else { return Ok(()) };
        let closed = self.client.call(close).await;
        self.writes.settled().await?;
        closed?;
        self.state.store(ENDED, Ordering::Release);
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        if !self.options.write {
            return Ok(());
        }
        let _all = self.calls.write().await;
        if self.state.swap(ENDED, Ordering::AcqRel) == ENDED {
            return Err(Error::new(ErrorKind::Closed));
        }
        let remove = || Request::Remove { path: self.path.clone() };
        let Some(close) = self.close_request() else {
            // A commit failed after its CLOSE. Where the CLOSE was refused, a server that stages kept
            // the old content, which must not be removed.
            let ours = self.options.exclusive || self.began_empty() && self.published.load(Ordering::Acquire);
            return if ours { gone(self.client.call(remove()).await) } else { Ok(()) };
        };
        if !self.began_empty() {
            return self.client.call(close).await.map(|_| ());
        }
        if self.replaces {
            // A write that cannot be: a server that stages as ours does then refuses the CLOSE and keeps
            // the old content. Where the CLOSE is accepted nothing was staged, and it is removed below.
            let offset = 1 << 63;
            let request =
                Request::Write { handle: self.handle.clone(), offset, data: Bytes::from_static(b"x") };
            let refused = self.client.send(request).await?;
            let closed = self.client.send(close).await?;
            let _ = refused.await;
            return match closed.await {
                Err(e) if e.wire().is_none() => Err(e),
                Err(_) => Ok(()),
                Ok(_) => gone(self.client.call(remove()).await),
            };
        }
        // Removed before it is closed, so that a server that stages publishes nothing. Where that finds
        // nothing, or may not be done to an open file, once more.
        let removed = self.client.send(remove()).await?;
        let closed = self.client.send(close).await?;
        let removed = removed.await;
        let _ = closed.await; // what failed to be written is gone with it
        match removed {
            Err(e) if e.wire().is_none() => Err(e),
            Err(_) => gone(self.client.call(remove()).await),
            Ok(_) => Ok(()),
        }
    }
}

/// A removal that found nothing has succeeded.
fn gone(removed: Result<Reply>) -> Result<()> {
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Gives the window back if the write is given up before it was sent.
struct Unsent<'a>(Option<(&'a Arc<Writes>, usize)>);

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some((writes, len)) = self.0 {
            writes.give_back(len);
        }
    }
}

impl Drop for SftpFile {
    fn drop(&mut self) {
        self.close_in_background();
    }
}

#[cfg(test)]
mod tests {
    use super::even;

    #[test]
    fn pieces_cover_everything_without_crumbs() {
        for most in [1, 5, 4096, 32_768, 261_120] {
            for len in [1, 2, 4095, 4096, 4097, 65_536, 262_144, 1_000_001] {
                let (mut left, mut pieces) = (len, 0);
                while left > 0 {
                    let piece = even(left, most);
                    assert!(piece >= 1 && piece <= most);
                    left -= piece;
                    pieces += 1;
                }
                assert_eq!(pieces, len.div_ceil(most), "{len} in {most}");
            }
        }
        assert_eq!(even(262_144, 261_120), 131_072);
    }
}
