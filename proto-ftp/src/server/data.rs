//! Data connections: a port kept for the client, or a connection made to it; who may be at the other end;
//! TLS on it.
//!
//! A session has at most one port. Where the client used it and there are ports enough, the same one serves
//! its next transfers, which saves five system calls each; whoever else connects is turned away and the
//! port goes on waiting. A connection that is dropped before its transfer went well is reset, so that no
//! client takes what arrived for the whole.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::poll_immediate;
use ipnet::IpNet;
use rustls::pki_types::{CertificateDer, ServerName};
use session_core::error::{Error, ErrorKind};
use session_core::net::proxy_header;
use session_core::session::Session;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::control::Counted;
use super::machine::{Fault, Foreign};
use super::options::{FtpServerOptions, PassiveAddress};

/// Clients that knock at a data port at once.
const BACKLOG: u32 = 8;
/// Ports that are tried before the range counts as full.
const ATTEMPTS: u32 = 256;
/// How long a port is kept after its use.
const KEEP: Duration = Duration::from_secs(10);
/// What is read of a connection that is not wanted, bytes.
const DISMISSED: usize = 4 << 20;
/// What is read ahead of an upload under TLS, bytes: its library asks for one record at a time, and four of them
/// cost the system little more than one.
const AHEAD: usize = 64 * 1024;
/// How long a looked-up address is good.
const FRESH: Duration = Duration::from_secs(60);

/// The passive ports of a server, shared by its sessions.
#[derive(Debug)]
pub(super) struct Ports {
    range: Option<RangeInclusive<u16>>,
    held: AtomicUsize,
    looked_up: std::sync::Mutex<Vec<(String, Ipv4Addr, std::time::Instant)>>,
}

impl Ports {
    pub(super) fn new(range: Option<RangeInclusive<u16>>) -> Arc<Self> {
        Arc::new(Ports { range, held: AtomicUsize::new(0), looked_up: std::sync::Mutex::default() })
    }

    /// Whether a port may be kept for a session that does not need it now.
    fn plenty(&self) -> bool {
        let size = self.range.as_ref().map_or(4096, ExactSizeIterator::len);
        self.held.load(Ordering::Relaxed) * 2 <= size
    }

    fn listen(self: &Arc<Self>, address: IpAddr) -> io::Result<Port> {
        let listener = match &self.range {
            None => bind(SocketAddr::new(address, 0))?,
            Some(range) => self.search(address, range)?,
        };
        let at = listener.local_addr()?;
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Port { listener, at, ports: Arc::clone(self), used: None })
    }

    /// From a random place on, so that nobody can tell which is next.
    fn search(&self, address: IpAddr, range: &RangeInclusive<u16>) -> io::Result<TcpListener> {
        let size = range.len() as u32;
        let start = u32::from_le_bytes(random().map_err(io::Error::other)?) % size;
        for n in 0..size.min(ATTEMPTS) {
            let port = range.start().saturating_add(((start + n) % size) as u16);
            match bind(SocketAddr::new(address, port)) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    async fn look_up(&self, name: &str) -> Option<Ipv4Addr> {
        let known = || self.looked_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fresh = known().iter().find(|k| k.0 == name && k.2.elapsed() < FRESH).map(|k| k.1);
        if fresh.is_some() {
            return fresh;
        }
        let found = tokio::net::lookup_host((name, 0)).await.ok()?;
        let ip = found.into_iter().find_map(|a| match a.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })?;
        let mut known = known();
        known.retain(|k| k.0 != name && k.2.elapsed() < FRESH);
        known.push((name.to_owned(), ip, std::time::Instant::now()));
        Some(ip)
    }
}

/// Bytes that nobody can tell beforehand.
pub(super) fn random<const N: usize>() -> session_core::error::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(ErrorKind::Internal).with_detail(format!("no randomness: {e}")))?;
    Ok(bytes)
}

fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// A port that a session holds.
struct Port {
    listener: TcpListener,
    at: SocketAddr,
    ports: Arc<Ports>,
    /// When it was last needed.
    used: Option<Instant>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How the next data connection comes about.
enum Next {
    None,
    Active(SocketAddr),
    Passive(Instant),
}

/// What protects data connections.
#[derive(Clone)]
pub(super) struct Guard {
    /// The one of the control connection's bond for what follows it.
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) reuse: bool,
    /// The name that the client asked for.
    pub(super) name: Option<String>,
    /// What the client showed on the control connection.
    pub(super) certificate: Option<CertificateDer<'static>>,
}

/// The data connections of a session.
pub(super) struct Data {
    options: Arc<FtpServerOptions>,
    ports: Arc<Ports>,
    session: Arc<Session>,
    /// The addresses of the control connection, as its socket has them and as they really are.
    socket: (SocketAddr, SocketAddr),
    peer: SocketAddr,
    local: SocketAddr,
    port: Option<Port>,
    next: Next,
}

pub(super) fn refused(code: u16, kind: ErrorKind, words: &'static str) -> Fault {
    Fault::with_code(code, Error::new(kind).with_detail(words))
}

impl Data {
    pub(super) fn new(
        options: Arc<FtpServerOptions>,
        ports: Arc<Ports>,
        session: Arc<Session>,
        socket: (SocketAddr, SocketAddr),
        (peer, local): (SocketAddr, SocketAddr),
    ) -> Self {
        Data { options, ports, session, socket, peer, local, port: None, next: Next::None }
    }

    /// Keeps a port for the client: where it shall connect to.
    pub(super) async fn passive(&mut self, extended: bool, family: Option<u8>) -> Result<SocketAddr, Fault> {
        let ours = self.socket.1.ip().to_canonical();
        let is_v4 = ours.is_ipv4();
        if family.is_some_and(|f| (f == 1) != is_v4) {
            let words = if is_v4 { "use (1)" } else { "use (2)" };
            return Err(refused(522, ErrorKind::Unsupported, words));
        }
        let told = if extended { ours } else { IpAddr::V4(self.address(ours).await?) };
        self.discard().await;
        let port = match self.port.take() {
            Some(port) => port,
            None => self.ports.listen(self.socket.1.ip()).map_err(|e| {
                let busy = Error::new(ErrorKind::Throttled).with_detail("no port is free, try again");
                Fault::with_code(425, busy.with_source(e))
            })?,
        };
        let at = SocketAddr::new(told, port.at.port());
        self.port = Some(port);
        self.next = Next::Passive(Instant::now());
        Ok(at)
    }

    /// The address that PASV tells.
    async fn address(&self, ours: IpAddr) -> Result<Ipv4Addr, Fault> {
        let passive = &self.options.passive;
        let client = self.peer.ip().to_canonical();
        let fits = |net: &IpNet| net.contains(&client);
        let special = passive.addresses.iter().filter(|a| fits(&a.0)).max_by_key(|a| a.0.prefix_len());
        let chosen = special.map_or(passive.address.as_ref(), |a| a.1.as_ref());
        match chosen {
            Some(PassiveAddress::Ip(ip)) => return Ok(*ip),
            Some(PassiveAddress::Name(name)) => {
                let unknown = || refused(425, ErrorKind::Internal, "our address is not known now, use EPSV");
                return self.ports.look_up(name).await.ok_or_else(unknown);
            }
            None => {}
        }
        // Behind a proxy, the address that the client connected to is the proxy's.
        match (self.local.ip().to_canonical(), ours) {
            (IpAddr::V4(ip), _) | (_, IpAddr::V4(ip)) => Ok(ip),
            _ => Err(refused(425, ErrorKind::Unsupported, "PASV has no room for such an address, use EPSV")),
        }
    }

    /// Notes where the client listens.
    pub(super) fn active(&mut self, to: SocketAddr) -> Result<(), Fault> {
        if !self.is_peer(to.ip()) {
            return Err(refused(501, ErrorKind::Refused, "not to another address than yours"));
        }
        self.port = None;
        self.next = Next::Active(to);
        Ok(())
    }

    /// Fails where what was prepared is gone.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match self.next {
            Next::None => Err(refused(425, ErrorKind::TimedOut, "the port was given up, ask anew")),
            _ => Ok(()),
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn options(&self) -> &FtpServerOptions {
        &self.options
    }

    fn is_peer(&self, address: IpAddr) -> bool {
        self.options.foreign_data || address.to_canonical() == self.peer.ip().to_canonical()
    }

    /// What was prepared is not wanted: whoever has connected already is let go.
    pub(super) async fn discard(&mut self) {
        self.next = Next::None;
        if let Some(port) = &self.port {
            while let Some(Ok(_)) = poll_immediate(port.listener.accept()).await {}
        }
    }

    /// Gives a port back that waits for nobody, or for too long.
    pub(super) fn expire(&mut self) {
        let waits = match self.next {
            Next::Passive(since) => since.elapsed() < self.options.passive.time,
            _ => self.port.as_ref().is_some_and(|p| p.used.is_some_and(|u| u.elapsed() < KEEP)),
        };
        if !waits {
            self.port = None;
            if matches!(self.next, Next::Passive(_)) {
                self.next = Next::None;
            }
        }
    }

    /// When to look at [`Data::expire`] next.
    pub(super) fn expires(&self) -> Option<Duration> {
        self.port.as_ref()?;
        Some(if matches!(self.next, Next::Passive(_)) { self.options.passive.time } else { KEEP })
    }

    /// The connection that was prepared, under TLS with `guard`. Errors have their codes: 425, 522.
    pub(super) async fn connect(
        &mut self,
        guard: Option<&Guard>,
        foreign: Option<Foreign>,
        upload: bool,
    ) -> Result<DataStream, Fault> {
        let stream = match std::mem::replace(&mut self.next, Next::None) {
            Next::None => return Err(refused(425, ErrorKind::TimedOut, "the port was given up, ask anew")),
            Next::Active(to) => self.make(to).await?,
            Next::Passive(_) => {
                let stream = self.accept().await;
                if let Some(port) = &mut self.port {
                    port.used = Some(Instant::now());
                }
                if !self.ports.plenty() {
                    self.port = None;
                }
                stream?
            }
        };
        let counted = Counted::new(stream, Arc::clone(&self.session));
        let Some(guard) = guard else { return Ok(DataStream::new(Inner::Plain(counted))) };
        let _ = counted.stream().set_nodelay(true);
        if let Some(foreign) = foreign {
            return self.shake_hands(counted, guard, foreign).await;
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&guard.config));
        let shake = acceptor.accept(Holding::new(counted, upload));
        let tls = tokio::time::timeout(self.options.data_time, shake)
            .await
            .map_err(|_| refused(425, ErrorKind::TimedOut, "the TLS handshake of the data took too long"))?
            .map_err(|e| {
                let words = "the TLS handshake of the data failed";
                Fault::with_code(425, Error::new(ErrorKind::PeerMisbehaved).with_detail(words).with_source(e))
            })?;
        let connection = tls.get_ref().1;
        // Resumed means: by a ticket, or under an id, of this very control connection (see `Bond`).
        if guard.reuse && connection.handshake_kind() != Some(rustls::HandshakeKind::Resumed) {
            let e = Error::refused("the data connection does not resume the TLS session of this connection")
                .with_hint("switch session reuse on in your client");
            dismiss(tls).await;
            return Err(Fault::with_code(522, e));
        }
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        if guard.certificate.as_ref() != shown {
            let words = "the data connection shows another certificate";
            dismiss(tls).await;
            return Err(refused(522, ErrorKind::Refused, words));
        }
        Ok(DataStream::new(Inner::Tls(Box::new(tls))))
    }

    /// TLS with another server, which has no session of ours to resume: who it is, its certificate tells.
    async fn shake_hands(
        &self,
        stream: Counted,
        guard: &Guard,
        foreign: Foreign,
    ) -> Result<DataStream, Fault> {
        if guard.reuse && foreign.peer.is_none() {
            let e = Error::refused("nobody told us the certificate of the other server: OPTS SSCN");
            return Err(Fault::with_code(522, e));
        }
        let Some(tls) = &self.options.tls else {
            return Err(refused(425, ErrorKind::Internal, "there is no TLS"));
        };
        let between = tls.between(guard.name.as_deref(), foreign.peer)?;
        let shake = async {
            if foreign.begins {
                // A name must stand here; it is neither sent nor checked.
                let name = ServerName::from(self.peer.ip());
                let connector = TlsConnector::from(between.client);
                Ok(Inner::Begun(Box::new(connector.connect(name, stream).await?)))
            } else {
                let acceptor = TlsAcceptor::from(between.server);
                Ok(Inner::Tls(Box::new(acceptor.accept(Holding::new(stream, false)).await?)))
            }
        };
        match tokio::time::timeout(self.options.data_time, shake).await {
            Ok(Ok(inner)) => Ok(DataStream::new(inner)),
            Ok(Err(e)) => {
                let e: io::Error = e;
                let words = "the TLS handshake with the other server failed";
                Err(Fault::with_code(522, Error::new(ErrorKind::Refused).with_detail(words).with_source(e)))
            }
            Err(_) => Err(refused(425, ErrorKind::TimedOut, "the TLS handshake of the data took too long")),
        }
    }

    async fn make(&self, to: SocketAddr) -> Result<TcpStream, Fault> {
        let failed = |e: io::Error| {
            let words = "cannot connect to your port";
            Fault::with_code(425, Error::new(ErrorKind::Disconnected).with_detail(words).with_source(e))
        };
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
        let ours = self.socket.1.ip().to_canonical();
        if ours.is_ipv4() == to.is_ipv4() {
            socket.bind(SocketAddr::new(ours, 0)).map_err(failed)?;
        }
        match tokio::time::timeout(self.options.passive.time, socket.connect(to)).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// The first that is the client; others are turned away.
    async fn accept(&self) -> Result<TcpStream, Fault> {
        let Some(port) = &self.port else {
            return Err(refused(425, ErrorKind::TimedOut, "the port was given up, ask anew"));
        };
        let work = async {
            loop {
                let (mut stream, _) = port.listener.accept().await?;
                let trusted = &self.options.trusted_proxies;
                let from = proxy_header::accept(&mut stream, trusted, Duration::from_secs(5)).await;
                match from {
                    Ok((peer, _)) if self.is_peer(peer.ip()) => return Ok(stream),
                    Ok((peer, _)) => {
                        tracing::warn!(session = %self.session.id(), %peer, "a stranger at a data port");
                    }
                    Err(error) => {
                        tracing::warn!(session = %self.session.id(), %error, "no PROXY header at a data port");
                    }
                }
                let _ = stream.set_zero_linger();
            }
        };
        match tokio::time::timeout(self.options.passive.time, work).await {
            Ok(done) => done.map_err(|e: io::Error| {
                Fault::with_code(425, Error::new(ErrorKind::Disconnected).with_source(e))
            }),
            Err(_) => Err(refused(425, ErrorKind::TimedOut, "nobody came to the data port")),
        }
    }
}

/// Ends a connection that is not wanted so that its client gets to read why on the control connection: a
/// reset while it sends would be all that it sees.
async fn dismiss(mut stream: TlsStream<Holding>) {
    let polite = async {
        stream.get_mut().0.release().await?;
        stream.shutdown().await?;
        let mut left = DISMISSED;
        let mut buf = vec![0; 16 * 1024];
        while left > 0 {
            match stream.read(&mut buf).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), polite).await;
}

/// The socket of a data connection below TLS. While a client uploads nothing is sent to it but the
/// handshake: tickets of TLS 1.3 wait for the end. Clients that only send close without reading, and the
/// system answers unread bytes with a reset that takes what is still on its way to us (RFC 2525, 2.17).
struct Holding {
    inner: BufReader<Counted>,
    /// Tickets that wait; `None` where nothing has to.
    held: Option<Vec<u8>>,
    /// Whether something was read since the last write: what is written next answers it.
    answers: bool,
}

/// The first byte of a record of TLS that is encrypted: behind an answer to the client's last flight, it can
/// only be a ticket (RFC 8446, sections 4.6.1 and 5.1).
const ENCRYPTED: u8 = 23;

impl Holding {
    fn new(inner: Counted, upload: bool) -> Self {
        // A buffer of one byte takes no part: whoever asks for more reads past it.
        let inner = BufReader::with_capacity(if upload { AHEAD } else { 1 }, inner);
        Holding { inner, held: upload.then(Vec::new), answers: false }
    }

    /// Sends what was held, and holds no more.
    async fn release(&mut self) -> io::Result<()> {
        match self.held.take() {
            Some(held) if !held.is_empty() => self.inner.write_all(&held).await,
            _ => Ok(()),
        }
    }

    /// Keeps `buf` if it has to wait.
    fn keeps(&mut self, buf: &[u8]) -> bool {
        let first = std::mem::take(&mut self.answers);
        let Some(held) = &mut self.held else { return false };
        let keeps = !held.is_empty() || first && buf.first() == Some(&ENCRYPTED);
        if keeps {
            held.extend_from_slice(buf);
        }
        keeps
    }
}

impl AsyncRead for Holding {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let had = buf.filled().len();
        let done = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.answers |= buf.filled().len() > had;
        done
    }
}

impl AsyncWrite for Holding {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.keeps(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.held.is_none() {
            return Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| b);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

enum Inner {
    Plain(Counted),
    Tls(Box<TlsStream<Holding>>),
    /// TLS of which we are the client.
    Begun(Box<tokio_rustls::client::TlsStream<Counted>>),
}

/// A data connection. Dropped before [`DataStream::finish`] it is reset.
pub(super) struct DataStream {
    inner: Inner,
    well: bool,
}

impl DataStream {
    fn new(inner: Inner) -> Self {
        DataStream { inner, well: false }
    }

    /// The socket itself, where nothing stands between.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match &self.inner {
            Inner::Plain(stream) => Some(stream.stream()),
            Inner::Tls(_) | Inner::Begun(_) => None,
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.inner {
            Inner::Plain(stream) => stream.stream(),
            Inner::Tls(stream) => stream.get_ref().0.inner.get_ref().stream(),
            Inner::Begun(stream) => stream.get_ref().0.stream(),
        }
    }

    /// All went well: under TLS this is said (close_notify).
    pub(super) async fn finish(mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Plain(_) => {}
            Inner::Tls(stream) => {
                stream.get_mut().0.release().await?;
                stream.shutdown().await?;
            }
            Inner::Begun(stream) => stream.shutdown().await?,
        }
        self.well = true;
        Ok(())
    }
}

impl Drop for DataStream {
    fn drop(&mut self) {
        if !self.well {
            let _ = self.socket().set_zero_linger();
        }
    }
}

impl AsyncRead for DataStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Begun(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for DataStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Inner::Begun(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Begun(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Begun(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
