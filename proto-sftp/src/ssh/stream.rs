//! `CutStream`: a socket that a session's cut closes at once.
//!
//! The SSH library's own way to disconnect waits in its queue, which it does not read while the peer's
//! window is exhausted or keys are exchanged; a client that simply stops reading could not be ended that
//! way. Here every read and write answers `ConnectionAborted` as soon as the token has fired.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use session_core::session::Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A TCP stream that belongs to a session.
pub struct CutStream {
    socket: TcpStream,
    session: Arc<Session>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl CutStream {
    /// Ties `socket` to `session`, whose wire counters it feeds.
    pub fn new(socket: TcpStream, session: Arc<Session>) -> Self {
        let cut = Box::pin(session.cancel_token().clone().cancelled_owned());
        CutStream { socket, session, cut }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the session was ended")),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for CutStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let had = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        let n = buf.filled().len() - had;
        self.session.stats().wire_in.fetch_add(n as u64, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &result {
            self.session.stats().wire_out.fetch_add(*n as u64, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Also after the cut: the peer learns of the end.
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
