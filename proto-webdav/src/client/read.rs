//! A file that is being read: a GET stays open behind it.
//!
//! Reads that follow each other continue the answer; calls that are made side by side are served in the order
//! of their offsets. A step forward reads over what lies between if it is small; any other jump costs one
//! request for a range (RFC 9110, section 14). A server that knows no ranges is read over from the beginning.
//! Between two reads the place is given up if somebody else needs it.
//!
//! Every further answer must be of the same file: validators and size are compared with those of the first,
//! and with a strong validator the range is asked for under it (If-Range). A file that changed is `Corrupt`,
//! never a mixture. A body that ends before the size that was told is an error, never a short file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use hyper::Method;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File};
use session_core::in_order::Readers;
use session_core::metadata::{Attributes, Metadata};
use session_core::net::places::Yields;
use session_core::path::VPath;

use super::body::In;
use super::call::{Answered, Ask};
use super::place::encode;
use super::props;
use super::remote::Remote;

/// A gap up to this is read over.
const SKIP: u64 = 512 << 10;
/// A read gives back what it has once it has this much.
const ENOUGH: usize = 256 << 10;
/// What an answer may give, bytes, before it makes room for others: beginning anew has its price.
const SHARE: u64 = 8 << 20;
const UNKNOWN: u64 = u64::MAX;

/// What an answer says of the file, to know it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Identity {
    /// The validator, strong or weak, without the mark of weakness.
    etag: Option<String>,
    modified: Option<String>,
    size: Option<u64>,
}

impl Identity {
    /// Whether both may be the same file: what both tell is the same.
    fn fits(&self, other: &Identity) -> bool {
        fn same<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        same(self.etag.as_ref(), other.etag.as_ref())
            && same(self.modified.as_ref(), other.modified.as_ref())
            && same(self.size.as_ref(), other.size.as_ref())
    }
}

/// The answer that is open, and where it stands.
struct Active {
    body: In,
    /// What came and was not asked for yet.
    left: Bytes,
    from: u64,
    at: u64,
}

impl Active {
    /// Appends up to `len` bytes of content; 0 at the end.
    async fn next(&mut self, buf: &mut BytesMut, len: usize) -> Result<usize> {
        let n = self.fill(len).await?;
        buf.extend_from_slice(&self.left.split_to(n));
        Ok(n)
    }

    /// Goes over up to `len` bytes.
    async fn skip(&mut self, len: u64) -> Result<usize> {
        let n = self.fill(usize::try_from(len).unwrap_or(usize::MAX)).await?;
        self.left.advance(n);
        Ok(n)
    }

    async fn fill(&mut self, len: usize) -> Result<usize> {
        if self.left.is_empty() {
            match self.body.next().await? {
                Some(bytes) => self.left = bytes,
                None => return Ok(0),
            }
        }
        let n = len.min(self.left.len());
        self.at += n as u64;
        Ok(n)
    }
}

pub(super) struct ReadFile {
    remote: Arc<Remote>,
    path: VPath,
    known: Option<Metadata>,
    identity: Mutex<Option<Identity>>,
    /// The validator under which ranges are asked for, as sent.
    strong: Mutex<Option<String>>,
    stream: tokio::sync::Mutex<Option<Active>>,
    readers: Readers,
    end: AtomicU64,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn changed() -> Error {
    Error::new(ErrorKind::Corrupt)
        .with_detail("the file changed while it was read")
        .with_hint("run the command again when nothing writes to it")
}

impl ReadFile {
    /// Of a file that was looked at.
    pub(super) fn of(remote: Arc<Remote>, path: VPath, known: Metadata) -> Arc<ReadFile> {
        let end = AtomicU64::new(if known.size == 0 { 0 } else { UNKNOWN });
        Self::new(remote, path, Some(known), end)
    }

    /// Of a file whose size the caller knows: read at once, looked at only if the answer has another size.
    /// Errors: `NotFound`, `IsADirectory`; those of the wire.
    pub(super) async fn begun(remote: Arc<Remote>, path: VPath, size: u64) -> Result<Arc<ReadFile>> {
        let file = Self::new(remote, path, None, AtomicU64::new(UNKNOWN));
        let active = file.start(0).await?;
        if lock(&file.identity).as_ref().and_then(|i| i.size) != Some(size) {
            // A directory may be answered with a page about it.
            drop(active);
            let known = file.remote.stat(&file.path).await?;
            if known.is_dir() {
                return Err(Error::new(ErrorKind::IsADirectory));
            }
            return Ok(Self::of(Arc::clone(&file.remote), file.path.clone(), known));
        }
        match active {
            Some(active) => *file.stream.lock().await = Some(active),
            None => file.end.store(0, Ordering::Release),
        }
        Ok(file)
    }

    fn new(remote: Arc<Remote>, path: VPath, known: Option<Metadata>, end: AtomicU64) -> Arc<ReadFile> {
        let file = Arc::new(ReadFile {
            remote,
            path,
            known,
            identity: Mutex::default(),
            strong: Mutex::default(),
            stream: tokio::sync::Mutex::new(None),
            readers: Readers::default(),
            end,
        });
        let weak: Weak<ReadFile> = Arc::downgrade(&file);
        file.remote.wire.lines.places.register(weak);
        file
    }

    /// Asks for everything from `offset` on; `None` where there is nothing.
    async fn start(&self, offset: u64) -> Result<Option<Active>> {
        let mut ask = Ask::new(Method::GET, encode(&self.path, false)).with(ACCEPT_ENCODING, "identity")?;
        if offset > 0 {
            ask = ask.with(RANGE, &format!("bytes={offset}-"))?;
            let strong = lock(&self.strong).clone();
            if let Some(strong) = strong {
                ask = ask.with(IF_RANGE, &strong)?;
            }
        }
        let answered = self.remote.wire.call(ask).await?;
        let (at, size) = match answered.status.as_u16() {
            200 => (0, answered.header(CONTENT_LENGTH).and_then(|v| v.trim().parse().ok())),
            206 => {
                let (at, size) = range_of(answered.header(CONTENT_RANGE).unwrap_or_default())?;
                if at != offset {
                    return Err(Error::new(ErrorKind::PeerMisbehaved)
                        .with_detail("the server answers with another range than was asked for"));
                }
                (at, size)
            }
            416 => {
                let told = answered.header(CONTENT_RANGE).and_then(|v| v.trim().strip_prefix("bytes */"));
                let size = told.and_then(|s| s.parse().ok());
                let known = lock(&self.identity).as_ref().and_then(|i| i.size);
                if known.is_some() && size.is_some() && known != size {
                    return Err(changed());
                }
                let _ = answered.body.beginning().await;
                if size.or(known).is_some_and(|size: u64| size > offset) {
                    return Err(Error::new(ErrorKind::PeerMisbehaved)
                        .with_detail("the server has the range and does not give it"));
                }
                return Ok(None);
            }
            412 => return Err(changed()),
            _ => {
                let failed = answered.success().await?;
                return Err(super::refine::no_webdav(failed.status));
            }
        };
        if answered.header(CONTENT_ENCODING).is_some_and(|e| !e.trim().eq_ignore_ascii_case("identity")) {
            return Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the server compresses what was asked for as it is"));
        }
        self.recognise(&answered, size)?;
        Ok(Some(Active { body: answered.body, left: Bytes::new(), from: at, at }))
    }

    /// Makes sure that the answer is of the file that was there at first.
    fn recognise(&self, answered: &Answered, size: Option<u64>) -> Result<()> {
        let raw = answered.header(ETAG).map(str::trim);
        let seen = Identity {
            etag: raw.map(|e| e.strip_prefix("W/").unwrap_or(e).to_owned()),
            modified: answered.header(LAST_MODIFIED).map(str::to_owned),
            size,
        };
        let mut identity = lock(&self.identity);
        match &*identity {
            Some(first) if !first.fits(&seen) => return Err(changed()),
            Some(_) => {}
            None => {
                *lock(&self.strong) = raw.filter(|e| props::etag(e).is_some()).map(str::to_owned);
                *identity = Some(seen);
            }
        }
        Ok(())
    }

    fn size(&self) -> Option<u64> {
        lock(&self.identity).as_ref().and_then(|i| i.size)
    }

    async fn read(&self, offset: u64, len: usize, buf: &mut BytesMut) -> Result<()> {
        let at = |stream: &Option<Active>| stream.as_ref().map_or(0, |a| a.at);
        let mut stream = self.readers.turn(&self.stream, offset, at).await;
        if self.end.load(Ordering::Acquire) <= offset {
            return Ok(());
        }
        // Taken out while it moves: a call that is dropped takes the answer with it.
        let goes_on = |a: &Active| (a.at..=a.at.saturating_add(SKIP)).contains(&offset);
        let active = match stream.take() {
            Some(active) if goes_on(&active) => Some(active),
            other => {
                drop(other);
                self.start(offset).await?
            }
        };
        let Some(mut active) = active else {
            // Nothing lies there; where the end is, only a size tells.
            if let Some(size) = self.size() {
                self.end.store(size, Ordering::Release);
            }
            return Ok(());
        };
        let mut ended = self.fill(&mut active, offset, len, buf).await?;
        if !ended && self.size() == Some(active.at) {
            // The end of the body tells that all was right, and frees the connection.
            ended = active.fill(1).await? == 0;
            if !ended {
                return Err(Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail("the server sends more than it announced"));
            }
        }
        if ended {
            if self.size().is_some_and(|size| active.at < size) {
                return Err(Error::new(ErrorKind::Disconnected)
                    .with_detail("the server's answer ends before the file does"));
            }
            self.end.store(active.at, Ordering::Release);
        } else if active.at - active.from < SHARE || !self.remote.wire.lines.places.is_wanted() {
            *stream = Some(active);
        }
        Ok(())
    }

    /// Reads up to `len` bytes from `offset`; `true` at the end of data.
    async fn fill(&self, active: &mut Active, offset: u64, len: usize, buf: &mut BytesMut) -> Result<bool> {
        while active.at < offset {
            if active.skip(offset - active.at).await? == 0 {
                return Ok(true);
            }
        }
        let mut got = 0;
        while got < len.min(ENOUGH) {
            let n = active.next(buf, len - got).await?;
            if n == 0 {
                return Ok(true);
            }
            got += n;
        }
        Ok(false)
    }
}

/// The beginning of a range that was given, and the size of the whole where it is told.
fn range_of(field: &str) -> Result<(u64, Option<u64>)> {
    let parse = || {
        let (range, size) = field.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let size = match size.trim() {
            "*" => None,
            size => Some(size.parse().ok()?),
        };
        (first <= last && size.is_none_or(|size| last < size)).then_some((first, size))
    };
    parse().ok_or_else(|| {
        Error::new(ErrorKind::PeerMisbehaved).with_detail("the server does not say which range it gives")
    })
}

impl Yields for ReadFile {
    fn give_up(&self) -> bool {
        match self.stream.try_lock() {
            Ok(mut stream) => stream.take().is_some(),
            Err(_) => false,
        }
    }
}

#[async_trait]
impl File for ReadFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        if len == 0 || i64::try_from(offset).is_err() {
            return Ok(buf);
        }
        let _call = self.readers.begin(offset);
        self.read(offset, len, &mut buf).await.map(|()| buf)
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<()> {
        Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for writing"))
    }

    async fn metadata(&self) -> Result<Metadata> {
        match &self.known {
            Some(known) => Ok(known.clone()),
            None => self.remote.stat(&self.path).await,
        }
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.remote.set(&self.path, attributes).await
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        self.metadata().await
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_or_refused() {
        assert_eq!(range_of("bytes 5-9/10").unwrap(), (5, Some(10)));
        assert_eq!(range_of("bytes 5-9/*").unwrap(), (5, None));
        for bad in ["", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "lines 1-2/3", "bytes -1-2/3"] {
            assert!(range_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_both_tell_must_agree() {
        let one = Identity { etag: Some("\"a\"".into()), modified: None, size: Some(5) };
        assert!(one.fits(&Identity { modified: Some("now".into()), ..one.clone() }));
        assert!(one.fits(&Identity::default()));
        assert!(!one.fits(&Identity { size: Some(6), ..one.clone() }));
        assert!(!one.fits(&Identity { etag: Some("\"b\"".into()), ..one.clone() }));
    }
}
