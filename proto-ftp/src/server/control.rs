//! The control connection's stream: in the clear, then perhaps under TLS, counted either way.
//!
//! Reads take no buffer that outlives them: an idle client costs none. What arrives is handed over as it
//! comes; nothing is ever read behind the bytes that were handed over, so that a handshake may begin at
//! once.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use session_core::session::Session;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How much is read at a time.
const STEP: usize = 2048;

/// A stream whose bytes count for a session.
pub(super) struct Counted {
    stream: TcpStream,
    session: Arc<Session>,
}

impl Counted {
    pub(super) fn new(stream: TcpStream, session: Arc<Session>) -> Self {
        Counted { stream, session }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let had = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let n = buf.filled().len() - had;
        self.session.stats().wire_in.fetch_add(n as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.session.stats().wire_out.fetch_add(n as u64, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.session.stats().wire_out.fetch_add(n as u64, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The control connection.
pub(super) enum Control {
    Plain(Counted),
    Tls(Box<TlsStream<Counted>>),
    /// A handshake has it, or had it and failed.
    Gone,
}

impl Control {
    pub(super) fn new(stream: TcpStream, session: &Arc<Session>) -> Self {
        Control::Plain(Counted::new(stream, Arc::clone(session)))
    }

    /// Takes the stream for a handshake; `None` if it had one.
    pub(super) fn take_plain(&mut self) -> Option<Counted> {
        match std::mem::replace(self, Control::Gone) {
            Control::Plain(stream) => Some(stream),
            other => {
                *self = other;
                None
            }
        }
    }

    /// What TLS knows of the connection, where there is TLS.
    pub(super) fn tls(&self) -> Option<&rustls::ServerConnection> {
        match self {
            Control::Tls(stream) => Some(stream.get_ref().1),
            _ => None,
        }
    }

    /// The addresses of the socket: theirs, ours.
    pub(super) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        let stream = match self {
            Control::Plain(stream) => stream.stream(),
            Control::Tls(stream) => stream.get_ref().0.stream(),
            Control::Gone => return Err(io::ErrorKind::NotConnected.into()),
        };
        Ok((stream.peer_addr()?, stream.local_addr()?))
    }

    /// Whether the system has something for us now, be it the end.
    pub(super) fn holds(&self) -> io::Result<bool> {
        use rustix::net::{RecvFlags, recv};
        let stream = match self {
            Control::Plain(stream) => stream.stream(),
            Control::Tls(stream) => stream.get_ref().0.stream(),
            Control::Gone => return Ok(true),
        };
        let mut byte = [0u8; 1];
        match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Control::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Control::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Control::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Waits for bytes and hands them to `take`; how many there were, 0 at the end. Loses nothing when it
    /// is dropped.
    pub(super) async fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            let mut step = [0; STEP];
            let mut buf = ReadBuf::new(&mut step);
            ready!(self.poll_inner(cx, &mut buf))?;
            take(buf.filled());
            let mut n = buf.filled().len();
            let mut whole = buf.filled().last().is_none_or(|b| *b == b'\n');
            // The system stops at urgent data (ABOR comes as such) and the reactor takes that for the end of
            // what is there: part of a line is a reason to ask again.
            while !whole && let Control::Plain(stream) = self {
                match rustix::net::recv(stream.stream(), &mut step, rustix::net::RecvFlags::DONTWAIT) {
                    Ok((_, 0)) | Err(_) => break,
                    Ok((_, more)) => {
                        let more = step.get(..more).unwrap_or_default();
                        stream.session.stats().wire_in.fetch_add(more.len() as u64, Ordering::Relaxed);
                        take(more);
                        n += more.len();
                        whole = more.last().is_none_or(|b| *b == b'\n');
                    }
                }
            }
            Poll::Ready(Ok(n))
        })
        .await
    }

    /// Sends all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Control::Plain(stream) => stream.write_all(bytes).await,
            Control::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Control::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn finish(&mut self) {
        let _ = match self {
            Control::Plain(stream) => stream.shutdown().await,
            Control::Tls(stream) => stream.shutdown().await,
            Control::Gone => Ok(()),
        };
    }
}
