//! Files as streams, both ways, on every protocol.
//!
//! Reading runs ahead within a bound and may jump. Writing is bounded too; the content gets its name only
//! when all of it has arrived, wherever the server can rename over a file.

use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use session_core::batch::TransferOptions;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Filesystem, Follow, OpenOptions, Replace};
use session_core::gate::SessionFile;
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, ReadBuf};

use super::core::Session;

/// Bytes of one read, and how many are under way.
const READ: (usize, usize) = (128 << 10, 16);

/// Bytes of one write, and how many are under way.
const WRITE: (usize, usize) = (256 << 10, 16);

/// The longest name that gets `.filepart` at its end.
const LONGEST: usize = 240;

type Chunk = BoxFuture<'static, Result<Bytes>>;

/// A remote file being read. Dropping it ends the reading.
pub struct RemoteReader {
    file: Arc<SessionFile>,
    size: u64,
    /// Of the next byte that is given out.
    position: u64,
    /// Of the next byte that is asked for.
    next: u64,
    chunk: Bytes,
    /// Reads under way, in order, with their lengths.
    ahead: VecDeque<(usize, Chunk)>,
    /// Results of reads that were polled out of order are kept by the reads themselves.
    ended: bool,
}

impl RemoteReader {
    /// The size of the file when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn ask(&mut self, len: usize) {
        let (file, offset) = (Arc::clone(&self.file), self.next);
        let read = async move {
            let mut buf = BytesMut::with_capacity(len);
            while buf.len() < len {
                let had = buf.len();
                buf = file.read_into(offset + had as u64, len - had, buf).await?;
                if buf.len() == had {
                    break;
                }
            }
            Ok(buf.freeze())
        };
        // A task, so that the reads behind the first one go on while nobody polls them.
        let task = tokio::spawn(read);
        let read = Box::pin(async move {
            let mut task = AbortOnDrop(task);
            (&mut task.0).await.unwrap_or_else(|_| Err(ErrorKind::Canceled.into()))
        });
        self.ahead.push_back((len, read));
        self.next += len as u64;
    }

    fn fill(&mut self) {
        while self.ahead.len() < READ.1 && self.next < self.size {
            let left = usize::try_from(self.size - self.next).unwrap_or(READ.0);
            self.ask(READ.0.min(left));
        }
        // Beyond the size that was told: one careful look for more.
        if self.ahead.is_empty() && !self.ended {
            self.ask(READ.0);
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AsyncRead for RemoteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.chunk.has_remaining() {
                let n = self.chunk.len().min(buf.remaining());
                buf.put_slice(&self.chunk.split_to(n));
                self.position += n as u64;
                return Poll::Ready(Ok(()));
            }
            if self.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            self.fill();
            let Some((len, read)) = self.ahead.front_mut() else { return Poll::Ready(Ok(())) };
            let (len, outcome) = (*len, ready!(read.as_mut().poll(cx)));
            self.ahead.pop_front();
            match outcome {
                Ok(chunk) => {
                    if chunk.len() < len {
                        self.ended = true;
                        self.ahead.clear();
                    }
                    self.chunk = chunk;
                }
                Err(e) => {
                    self.ended = true;
                    self.ahead.clear();
                    return Poll::Ready(Err(io::Error::other(e)));
                }
            }
        }
    }
}

impl AsyncSeek for RemoteReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        let at =
            at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the file"))?;
        if at != self.position {
            self.ahead.clear();
            self.chunk = Bytes::new();
            self.position = at;
            self.next = at;
        }
        self.ended = false;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

impl Session {
    /// Opens a remote file to be read as a stream that can jump. What goes wrong while it is read is an
    /// `io::Error` with the cause inside. Errors: `NotFound`, `IsADirectory`, `PermissionDenied`, `Closed`.
    pub async fn get_file(&self, path: impl AsRef<[u8]>) -> Result<RemoteReader> {
        let result = async {
            let open = self.opened_now()?;
            let path = Session::remote(&open, path.as_ref())?;
            let metadata = open.fs.stat(&path, Follow::Yes).await?;
            if metadata.is_dir() {
                return Err(Error::new(ErrorKind::IsADirectory).at(OperationKind::Open, Some(&path)));
            }
            let options = OpenOptions { size_hint: Some(metadata.size), ..OpenOptions::read() };
            let file = open.fs.open_file(&path, &options).await?;
            Ok(RemoteReader {
                file,
                size: metadata.size,
                position: 0,
                next: 0,
                chunk: Bytes::new(),
                ahead: VecDeque::new(),
                ended: false,
            })
        };
        self.told(result.await)
    }

    /// Writes a remote file from a stream, and gives its size. Existing content is replaced when all has
    /// arrived, where the server can rename over a file and the options have temporary names; else it is
    /// written in place. Dropped or broken off, the old content stands, and beside it perhaps a `.filepart`;
    /// written in place, the file may hold a part. Errors: those of the stream and of the server.
    pub async fn put_file(
        &self,
        content: impl AsyncRead + Send + Unpin,
        path: impl AsRef<[u8]>,
        options: &TransferOptions,
    ) -> Result<u64> {
        self.told(self.written(content, path.as_ref(), options).await)
    }

    async fn written(
        &self,
        content: impl AsyncRead + Send + Unpin,
        path: &[u8],
        options: &TransferOptions,
    ) -> Result<u64> {
        let open = self.opened_now()?;
        let path = Session::remote(&open, path)?;
        let capabilities = open.fs.capabilities();
        let apart = options.temporary_names
            && capabilities.rename
            && capabilities.rename_replaces
            && path.name().len() <= LONGEST;
        let written = if apart { temporary(&path)? } else { path.clone() };
        let file = open.fs.open_file(&written, &OpenOptions::create()).await?;
        let size = match pump(content, &*file).await {
            Ok(size) => size,
            Err(e) => {
                // The first error is the one to tell.
                if file.abort().await.is_err() && apart {
                    let _ = open.fs.remove_file(&written).await;
                }
                return Err(e);
            }
        };
        file.commit(&CommitOptions { expected_size: Some(size), ..CommitOptions::default() }).await?;
        if apart {
            open.fs.rename(&written, &path, Replace::Yes).await?;
        }
        Ok(size)
    }
}

/// The temporary name of a target, beside it.
fn temporary(path: &VPath) -> Result<VPath> {
    path.parent().unwrap_or_else(VPath::root).join([path.name(), b".filepart"].concat())
}

/// Writes go on while more of the content is waited for.
async fn pump(mut content: impl AsyncRead + Send + Unpin, file: &dyn File) -> Result<u64> {
    let mut offset = 0;
    let mut writes = FuturesUnordered::new();
    loop {
        let mut chunk = BytesMut::with_capacity(WRITE.0);
        let mut ended = false;
        while chunk.len() < WRITE.0 && !ended {
            tokio::select! {
                biased;
                Some(written) = writes.next(), if !writes.is_empty() => written?,
                read = content.read_buf(&mut chunk) => ended = read.map_err(broken)? == 0,
            }
        }
        if !chunk.is_empty() {
            let len = chunk.len() as u64;
            writes.push(file.write_at(offset, chunk.freeze()));
            offset += len;
        }
        while writes.len() >= WRITE.1 || (ended && !writes.is_empty()) {
            if let Some(written) = writes.next().await {
                written?;
            }
        }
        if ended {
            return Ok(offset);
        }
    }
}

/// What a stream of the caller failed with; an error of ours inside keeps its kind.
fn broken(e: io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) => Error::from(e).at(OperationKind::Read, None),
    }
}
