//! One connection: whose it is, how it ends, and its bytes, counted and not allowed to stand still.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::sessions::Client;
use crate::session::{Protocol, Session};

/// What is known of a connection.
pub struct Connection {
    pub(super) id: u64,
    protocol: Protocol,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Where it came to.
    pub local: SocketAddr,
    /// The protection, in words; `None` for none.
    pub tls: Option<String>,
    /// Ends it at once.
    pub cut: CancellationToken,
    /// Ends it after what it is doing.
    pub finish: CancellationToken,
    failures: AtomicU32,
    known: AtomicBool,
    requests: AtomicUsize,
    clients: Mutex<Vec<Weak<Client>>>,
    wire: Arc<Wire>,
}

/// Bytes moved since somebody asked.
#[derive(Default)]
pub(super) struct Wire {
    came: AtomicU64,
    went: AtomicU64,
}

impl Connection {
    pub(super) fn new(
        id: u64,
        protocol: Protocol,
        (peer, local): (SocketAddr, SocketAddr),
        tls: Option<String>,
        wire: Arc<Wire>,
    ) -> Arc<Self> {
        Arc::new(Connection {
            id,
            protocol,
            peer,
            local,
            tls,
            cut: CancellationToken::new(),
            finish: CancellationToken::new(),
            failures: AtomicU32::new(0),
            known: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            clients: Mutex::default(),
            wire,
        })
    }

    /// What is spoken on it.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether what is said on it can be read on the way.
    pub fn is_clear(&self) -> bool {
        self.tls.is_none() && !self.peer.ip().to_canonical().is_loopback()
    }

    /// Somebody logged in on it.
    pub fn belongs_to(&self, client: &Arc<Client>) {
        self.known.store(true, Ordering::Release);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|c| c.strong_count() > 0);
        if !clients.iter().any(|c| c.as_ptr() == Arc::as_ptr(client)) {
            clients.push(Arc::downgrade(client));
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// A login failed on it; how many did.
    pub fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A request is under way until this is dropped.
    pub fn busy(self: &Arc<Self>) -> Working {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Working(Arc::clone(self))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }

    /// Counts what moved for `session`, whose request it was.
    pub fn count(&self, session: &Session) {
        let stats = session.stats();
        stats.wire_in.fetch_add(self.wire.came.swap(0, Ordering::AcqRel), Ordering::Relaxed);
        stats.wire_out.fetch_add(self.wire.went.swap(0, Ordering::AcqRel), Ordering::Relaxed);
    }

    /// It is over.
    pub(super) fn over(&self) {
        let clients = std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner));
        for client in clients.iter().filter_map(Weak::upgrade) {
            self.count(&client.session);
            client.leave(self.id);
        }
    }
}

/// A request under way on a connection.
pub struct Working(Arc<Connection>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream with TLS or without.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A stream that is counted, and that breaks where the other side takes nothing for too long.
pub(super) struct Stream {
    transport: Transport,
    wire: Arc<Wire>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(super) fn new(transport: Transport, wire: Arc<Wire>, patience: Duration) -> Self {
        Stream { transport, wire, patience, stalled: None }
    }

    /// A write that has to wait, for so long and no longer.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let patience = self.patience;
        let sleep =
            self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }

    fn went(&mut self, n: usize) {
        self.stalled = None;
        self.wire.went.fetch_add(n as u64, Ordering::AcqRel);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        };
        self.wire.came.fetch_add((buf.filled().len() - before) as u64, Ordering::AcqRel);
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        };
        match wrote {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Ok(n)) => {
                self.went(n);
                Poll::Ready(Ok(n))
            }
            failed => failed,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        };
        match wrote {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Ok(n)) => {
                self.went(n);
                Poll::Ready(Ok(n))
            }
            failed => failed,
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        };
        match flushed {
            Poll::Pending => self.wait(cx),
            done => {
                self.stalled = None;
                done
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
