//! `CutStream`: the transport of a session, which ends the instant it is cut.
//!
//! Once its token is cancelled every read and write answers `ConnectionAborted`, and one that waits is
//! woken: a peer that reads nothing cannot keep a session alive. It counts `wire_in` and `wire_out`.
//!
//! While a write cannot proceed, it reads ahead, within a bound. russh reads nothing while it writes; two
//! peers of that kind which both send much would otherwise wait for each other for ever. With a bound of
//! at least the windows that were granted, whatever the peer may send has room.
//!
//! Deliberately absent: time-outs; [`Stall`] says how long a write has been waiting, others judge.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use session_core::session::Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How much is read ahead at a time.
const AHEAD_STEP: usize = 16 * 1024;

/// How long the peer has taken nothing of what is being sent.
#[derive(Debug)]
pub struct Stall {
    begun: Instant,
    /// Milliseconds after `begun`, plus one; 0 while no write waits.
    since: AtomicU64,
}

impl Stall {
    fn new() -> Arc<Self> {
        Arc::new(Stall { begun: Instant::now(), since: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn waits(&self) {
        let _ = self.since.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn moves(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// For how long a write has been waiting; zero if none is.
    pub fn elapsed(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.now().saturating_sub(since)),
        }
    }
}

/// What sees the bytes that arrive, before anybody else.
pub(crate) type Watcher = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// A stream that can be cut; see the module's header.
pub struct CutStream<S> {
    inner: S,
    session: Arc<Session>,
    reading: Pin<Box<WaitForCancellationFutureOwned>>,
    writing: Pin<Box<WaitForCancellationFutureOwned>>,
    cut: CancellationToken,
    ahead: BytesMut,
    ahead_end: Option<io::Result<()>>,
    ahead_limit: usize,
    stall: Arc<Stall>,
    watcher: Option<Watcher>,
    greeted: bool,
}

fn arrived(session: &Session, watcher: &mut Option<Watcher>, bytes: &[u8]) {
    session.stats().wire_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    if let Some(watch) = watcher
        && !watch(bytes)
    {
        *watcher = None;
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the session has ended")
}

impl<S: AsyncRead + AsyncWrite + Unpin> CutStream<S> {
    /// A stream over `inner` that counts for `session` and ends with `cut`. At most `ahead` bytes are
    /// read while a write waits.
    pub fn new(inner: S, session: Arc<Session>, cut: CancellationToken, ahead: usize) -> Self {
        CutStream {
            inner,
            session,
            reading: Box::pin(cut.clone().cancelled_owned()),
            writing: Box::pin(cut.clone().cancelled_owned()),
            cut,
            ahead: BytesMut::new(),
            ahead_end: None,
            ahead_limit: ahead,
            stall: Stall::new(),
            watcher: None,
            greeted: false,
        }
    }

    /// Shows what arrives to `watcher`, until it answers `false`.
    #[cfg(feature = "server")]
    pub(crate) fn watched(mut self, watcher: Watcher) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// How long a write has been waiting.
    pub fn stall(&self) -> Arc<Stall> {
        Arc::clone(&self.stall)
    }

    /// Takes what is there, so that a peer which waits for us to read can go on. Registers the task for
    /// more.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while self.ahead_end.is_none() && self.ahead.len() < self.ahead_limit {
            let had = self.ahead.len();
            self.ahead.resize(had + AHEAD_STEP, 0);
            let mut buf = ReadBuf::new(self.ahead.get_mut(had..).unwrap_or_default());
            let polled = Pin::new(&mut self.inner).poll_read(cx, &mut buf);
            let n = buf.filled().len();
            self.ahead.truncate(had + n);
            match polled {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if n == 0 => self.ahead_end = Some(Ok(())),
                Poll::Ready(Ok(())) => {
                    let seen = self.ahead.get(had..).unwrap_or_default();
                    arrived(&self.session, &mut self.watcher, seen);
                }
                Poll::Ready(Err(e)) => self.ahead_end = Some(Err(e)),
            }
        }
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for CutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cut.is_cancelled() || this.reading.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(aborted()));
        }
        if !this.ahead.is_empty() {
            let n = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..n).unwrap_or_default());
            this.ahead.advance(n);
            if this.ahead.is_empty() {
                this.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = this.ahead_end.take() {
            return Poll::Ready(end);
        }
        let had = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        arrived(&this.session, &mut this.watcher, buf.filled().get(had..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for CutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.cut.is_cancelled() || this.writing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(aborted()));
        }
        match Pin::new(&mut this.inner).poll_write(cx, buf) {
            Poll::Pending => {
                this.stall.waits();
                this.read_ahead(cx);
                Poll::Pending
            }
            Poll::Ready(result) => {
                this.stall.moves();
                if let Ok(n) = &result {
                    this.session.stats().wire_out.fetch_add(*n as u64, Ordering::Relaxed);
                    if !this.greeted {
                        this.greeted = true;
                        this.session.greeted();
                    }
                }
                Poll::Ready(result)
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

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::session::{Protocol, Setup};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    fn session() -> Arc<Session> {
        Session::new(Setup::new(Protocol::Sftp, "test"))
    }

    #[tokio::test]
    async fn a_cut_wakes_a_read_and_a_write_that_wait() {
        let cut = CancellationToken::new();
        let (ours, _theirs) = duplex(16);
        let stream = CutStream::new(ours, session(), cut.clone(), 0);
        let stall = stream.stall();
        let (mut r, mut w) = split(stream);
        let read = tokio::spawn(async move { r.read_u8().await.unwrap_err().kind() });
        let write = tokio::spawn(async move { w.write_all(&[0; 64]).await.unwrap_err().kind() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(stall.elapsed() >= Duration::from_millis(10));
        cut.cancel();
        assert_eq!(read.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(write.await.unwrap(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn two_peers_that_both_write_first_come_through() {
        // Neither reads before it has written everything, and the pipe holds little of it.
        let (a, b) = duplex(1024);
        let (sa, sb) = (session(), session());
        let task = |io, s: Arc<Session>| {
            tokio::spawn(async move {
                let mut stream = CutStream::new(io, s, CancellationToken::new(), 1 << 20);
                stream.write_all(&vec![7; 500_000]).await.unwrap();
                let mut back = vec![0; 500_000];
                stream.read_exact(&mut back).await.unwrap();
                assert!(back.iter().all(|b| *b == 7));
            })
        };
        let both = [task(a, Arc::clone(&sa)), task(b, Arc::clone(&sb))];
        for t in both {
            tokio::time::timeout(Duration::from_secs(5), t).await.expect("both wait for ever").unwrap();
        }
        for s in [sa, sb] {
            assert_eq!(s.stats().wire_in.load(Ordering::Relaxed), 500_000);
            assert_eq!(s.stats().wire_out.load(Ordering::Relaxed), 500_000);
        }
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_bounded_and_ends_where_the_peer_ended() {
        let (a, b) = duplex(1 << 20);
        let mut stream = CutStream::new(a, session(), CancellationToken::new(), 100_000);
        let (mut br, mut bw) = split(b);
        bw.write_all(&vec![3; 600_000]).await.unwrap();
        let much = vec![1; 2 << 20];
        let blocked = tokio::time::timeout(Duration::from_millis(50), stream.write_all(&much));
        assert!(blocked.await.is_err());
        assert!(stream.ahead.len() < 100_000 + AHEAD_STEP, "{}", stream.ahead.len());
        bw.shutdown().await.unwrap();
        let mut all = Vec::new();
        let drain = tokio::spawn(async move {
            let mut sink = vec![0; 65536];
            while br.read(&mut sink).await.unwrap_or(0) > 0 {}
        });
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 600_000);
        drop(stream);
        drain.await.unwrap();
    }
}
