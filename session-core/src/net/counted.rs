//! A stream that counts what moves over it as `wire_in` and `wire_out` of its session. TLS lies above it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Stream;
use crate::session::Session;

/// What HTTP is spoken over.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream to a peer whose bytes are a session's.
pub struct Counted {
    inner: Stream,
    session: Arc<Session>,
}

impl Counted {
    /// What moves over `inner` is counted as `session`'s.
    pub fn new(inner: Stream, session: Arc<Session>) -> Self {
        Counted { inner, session }
    }

    fn sent(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &done {
            self.session.stats().wire_out.fetch_add(*n as u64, Ordering::Relaxed);
        }
        done
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let had = buf.filled().len();
        let done = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.session.stats().wire_in.fetch_add((buf.filled().len() - had) as u64, Ordering::Relaxed);
        done
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.sent(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = match &mut self.inner {
            Stream::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Stream::Command(_) => {
                let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| &**b);
                Pin::new(&mut self.inner).poll_write(cx, first)
            }
        };
        self.sent(done)
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.inner, Stream::Tcp(_))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
