//! A file that is being read: a GET stays open behind it.
//!
//! Reads that follow each other continue the answer; calls that are made side by side are served in the order
//! of their offsets. A step forward reads over what lies between if it is small; any other jump costs one
//! request for a range (RFC 9110, section 14). Every further answer must be of the object that was opened: it is
//! asked for under its etag (If-Match), and what it says of itself is compared. An object that changed is
//! `Corrupt`, never a mixture. A body that ends before the size that was told is an error, never a short file.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf as _, Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File};
use session_core::in_order::Readers;
use session_core::metadata::{Attributes, Metadata};

use super::refine;
use super::remote::settable;
use super::store::{Store, object, quoted, size_of};

/// A gap up to this is read over.
const SKIP: u64 = 512 << 10;
/// A read gives back what it has once it has this much.
const ENOUGH: usize = 256 << 10;

/// The answer that is open, and where it stands.
struct Active {
    body: ByteStream,
    /// What came and was not asked for yet.
    left: Bytes,
    at: u64,
}

impl Active {
    /// Makes sure of up to `len` bytes; 0 at the end of the body.
    async fn fill(&mut self, len: usize) -> Result<usize> {
        while self.left.is_empty() {
            match self.body.next().await {
                Some(Ok(bytes)) => self.left = bytes,
                Some(Err(e)) => {
                    return Err(
                        refine::ours(&e).unwrap_or_else(|| Error::new(ErrorKind::Corrupt).with_source(e))
                    );
                }
                None => return Ok(0),
            }
        }
        let n = len.min(self.left.len());
        self.at += n as u64;
        Ok(n)
    }
}

pub(super) struct ReadFile {
    store: Arc<Store>,
    bucket: String,
    key: String,
    known: Metadata,
    stream: tokio::sync::Mutex<Option<Active>>,
    readers: Readers,
}

fn changed() -> Error {
    Error::new(ErrorKind::Corrupt)
        .with_detail("the object changed while it was read")
        .with_hint("run the command again when nothing writes to it")
}

/// Asks for an object from `offset` on: what it is, and its content from there.
async fn get(
    store: &Store,
    (bucket, key): (&str, &str),
    offset: u64,
    etag: Option<&str>,
) -> Result<(Metadata, ByteStream)> {
    let told = store
        .call(Some(bucket), |c| {
            c.get_object()
                .bucket(bucket)
                .key(key)
                .set_range((offset > 0).then(|| format!("bytes={offset}-")))
                .set_if_match(etag.map(quoted))
                .set_request_payer(store.payer())
                .send()
        })
        .await?;
    let length = size_of(told.content_length())?;
    let size = match told.content_range() {
        Some(range) => {
            let (first, size) = range_of(range)?;
            if first != offset {
                return Err(Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail("the store answers with another range than was asked for"));
            }
            size
        }
        None if offset > 0 => {
            return Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the store answers with the whole object where a part was asked for"));
        }
        None => length,
    };
    if offset.checked_add(length) != Some(size) {
        return Err(Error::new(ErrorKind::PeerMisbehaved)
            .with_detail("the store answers with another part of the object than was asked for"));
    }
    let seen = object(size, told.last_modified(), told.e_tag());
    Ok((seen, told.body))
}

impl ReadFile {
    /// Of an object that was looked at.
    pub(super) fn of(store: Arc<Store>, place: (String, String), known: Metadata) -> Arc<ReadFile> {
        Self::new(store, place, known, None)
    }

    /// Of an object that is going to be read whole: asked for at once, and not looked at before. Errors:
    /// `NotFound`, also for a directory; those of the wire.
    pub(super) async fn begun(store: Arc<Store>, place: (String, String)) -> Result<Arc<ReadFile>> {
        let (known, body) = get(&store, (&place.0, &place.1), 0, None).await?;
        if known.size == 0 && place.1.ends_with('/') {
            return Err(ErrorKind::NotFound.into());
        }
        let active = Active { body, left: Bytes::new(), at: 0 };
        Ok(Self::new(store, place, known, Some(active)))
    }

    fn new(
        store: Arc<Store>,
        (bucket, key): (String, String),
        known: Metadata,
        active: Option<Active>,
    ) -> Arc<ReadFile> {
        Arc::new(ReadFile {
            store,
            bucket,
            key,
            known,
            stream: tokio::sync::Mutex::new(active),
            readers: Readers::default(),
        })
    }

    /// Asks for everything from `offset` on.
    async fn start(&self, offset: u64) -> Result<Active> {
        let etag = self.known.etag.as_deref();
        let (seen, body) =
            get(&self.store, (&self.bucket, &self.key), offset, etag).await.map_err(|e| match e.kind() {
                ErrorKind::PreconditionFailed | ErrorKind::OutOfRange => changed(),
                _ => e,
            })?;
        if seen.size != self.known.size || seen.etag != self.known.etag {
            return Err(changed());
        }
        Ok(Active { body, left: Bytes::new(), at: offset })
    }

    async fn read(&self, offset: u64, len: usize, buf: &mut BytesMut) -> Result<()> {
        let size = self.known.size;
        if offset >= size {
            return Ok(());
        }
        let at = |stream: &Option<Active>| stream.as_ref().map_or(0, |a| a.at);
        let mut stream = self.readers.turn(&self.stream, offset, at).await;
        // Taken out while it moves: a call that is dropped takes the answer with it.
        let goes_on = |a: &Active| (a.at..=a.at.saturating_add(SKIP)).contains(&offset);
        let mut active = match stream.take() {
            Some(active) if goes_on(&active) => active,
            other => {
                drop(other);
                self.start(offset).await?
            }
        };
        self.fill(&mut active, offset, len, buf).await?;
        if active.at < size {
            *stream = Some(active);
        } else if active.fill(1).await? != 0 {
            // The end of the body tells that all was right, and frees the connection.
            return Err(
                Error::new(ErrorKind::PeerMisbehaved).with_detail("the store sends more than it announced")
            );
        }
        Ok(())
    }

    /// Reads up to `len` bytes from `offset`, which is within the object.
    async fn fill(&self, active: &mut Active, offset: u64, len: usize, buf: &mut BytesMut) -> Result<()> {
        let short = || {
            Error::new(ErrorKind::Disconnected).with_detail("the store's answer ends before the object does")
        };
        while active.at < offset {
            let over = usize::try_from(offset - active.at).unwrap_or(usize::MAX);
            match active.fill(over).await? {
                0 => return Err(short()),
                n => active.left.advance(n),
            }
        }
        let mut got = 0;
        while got < len.min(ENOUGH) && active.at < self.known.size {
            match active.fill(len - got).await? {
                0 => return Err(short()),
                n => {
                    buf.extend_from_slice(&active.left.split_to(n));
                    got += n;
                }
            }
        }
        Ok(())
    }
}

/// The beginning of a range that was given, and the size of the whole.
fn range_of(field: &str) -> Result<(u64, u64)> {
    let parse = || {
        let (range, size) = field.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let size = size.trim().parse().ok()?;
        (first <= last && last < size).then_some((first, size))
    };
    parse().ok_or_else(|| {
        Error::new(ErrorKind::PeerMisbehaved).with_detail("the store does not say which range it gives")
    })
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
        Ok(self.known.clone())
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        settable(attributes)
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
        assert_eq!(range_of("bytes 5-9/10").unwrap(), (5, 10));
        for bad in ["", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "lines 1-2/3", "bytes 5-9/*"] {
            assert!(range_of(bad).is_err(), "{bad}");
        }
    }
}
