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
use session_core::batch::TransferOptions;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File, Filesystem, Follow, OpenOptions};
use session_core::gate::SessionFile;
use session_core::operation::OperationKind;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::core::Session;
use crate::batch::{Flow, write_stream};
use crate::live::What;

/// Bytes of one read, and how many are under way.
const READ: (usize, usize) = (128 << 10, 16);

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
    /// `io::Error` with the cause inside. Dropped, nothing has changed. Errors: `NotFound`, `IsADirectory`,
    /// `PermissionDenied`, `Closed`.
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
    /// arrived, where the server can rename files and the options have temporary names; else it is written in
    /// place. Broken off by an error of the stream, the old content stands; dropped, too, and beside it perhaps a
    /// `.filepart`; written in place, the file may hold a part. Errors: those of the stream and of the server.
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
        let flow = Flow::new(options);
        let bin = super::remove::bin(&open)?.filter(|bin| bin.replaced).map(|bin| bin.bin);
        let what = What { command: "put".into(), source: "-".into(), target: open.shown(&path) };
        let _shown = self.enter(what, Arc::clone(&flow) as _);
        let written = write_stream(&open.fs, content, &path, options, &flow, bin.as_ref()).await?;
        Ok(written.0)
    }
}
