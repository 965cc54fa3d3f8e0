//! A socket that ends the instant its session is cut, counts, and gives up on a peer that stands still.
//!
//! Once its token is cancelled every read and write answers `ConnectionAborted`, and one that waits is
//! woken; [`Sockets`] ends those that somebody holds and nobody reads. Bytes are counted as `wire_in` and `wire_out`.
//! TLS lies above it, so that the cut needs nobody's consent. A read or write that waits longer than `patience`
//! answers `TimedOut`; control connections set none and have their own time-outs.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use session_core::session::Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::login::Dialer;

/// The sockets of a remote. Whoever holds a file that is open keeps a socket that nothing looks at.
#[derive(Debug, Default)]
pub(super) struct Sockets(Mutex<Vec<Weak<OwnedFd>>>);

impl Sockets {
    /// Notes a socket, for as long as what it answers is kept.
    fn add(&self, socket: &TcpStream) -> io::Result<Arc<OwnedFd>> {
        let handle = Arc::new(socket.as_fd().try_clone_to_owned()?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|socket| socket.strong_count() > 0);
        }
        all.push(Arc::downgrade(&handle));
        Ok(handle)
    }

    /// Ends every socket, whoever holds it.
    pub(super) fn end(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for socket in all.iter().filter_map(Weak::upgrade) {
            // One that the peer has closed already needs no ending.
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
        }
    }
}

pub(super) struct CutStream {
    inner: TcpStream,
    /// What [`Sockets`] knows it by.
    _known: Arc<OwnedFd>,
    session: Arc<Session>,
    cut: CancellationToken,
    cutting: Pin<Box<WaitForCancellationFutureOwned>>,
    patience: Option<(Duration, Pin<Box<Sleep>>)>,
    waiting: bool,
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the session has ended")
}

impl CutStream {
    /// Errors: no descriptor is left.
    pub(super) fn new(inner: TcpStream, dialer: &Dialer, patience: Option<Duration>) -> io::Result<Self> {
        let cut = dialer.cut.clone();
        Ok(CutStream {
            _known: dialer.sockets.add(&inner)?,
            inner,
            session: Arc::clone(&dialer.session),
            cutting: Box::pin(cut.clone().cancelled_owned()),
            cut,
            patience: patience.map(|p| (p, Box::pin(tokio::time::sleep(p)))),
            waiting: false,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.inner
    }

    /// What a pending read or write comes to: the cut, the end of patience, or more waiting.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // One task uses one stream: a read and a write that wait share the wake-up.
        if self.cutting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(aborted()));
        }
        if let Some((patience, sleep)) = &mut self.patience {
            // A wait that was given up left an old alarm behind.
            let stale = Instant::now() > sleep.deadline() + Duration::from_secs(1);
            if !std::mem::replace(&mut self.waiting, true) || stale {
                sleep.as_mut().reset(Instant::now() + *patience);
            }
            if sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the data connection stands still",
                )));
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cut.is_cancelled() {
            return Poll::Ready(Err(aborted()));
        }
        let had = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Pending => this.wait(cx),
            Poll::Ready(done) => {
                this.waiting = false;
                let n = (buf.filled().len() - had) as u64;
                this.session.stats().wire_in.fetch_add(n, Ordering::Relaxed);
                Poll::Ready(done)
            }
        }
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.cut.is_cancelled() {
            return Poll::Ready(Err(aborted()));
        }
        match Pin::new(&mut this.inner).poll_write(cx, buf) {
            Poll::Pending => match this.wait(cx) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                _ => Poll::Pending,
            },
            Poll::Ready(done) => {
                this.waiting = false;
                if let Ok(n) = &done {
                    this.session.stats().wire_out.fetch_add(*n as u64, Ordering::Relaxed);
                }
                Poll::Ready(done)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
