//! Reaching a host: its addresses in turn, or through a proxy, within one bound of time.
//!
//! The only place of a client that opens a TCP connection. A name is resolved by whoever opens the last
//! leg: by us, or by the proxy (SOCKS 4a and 5, HTTP), which may know names that we do not. The choice of
//! the family and of the source address holds for the connection that we open ourselves.
//!
//! Deliberately absent: racing addresses against each other (RFC 8305); each gets its share of the time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::proxy::{self, Endpoint, Proxy, ProxyError, Side};
use super::reach::Reach;
use crate::error::{Error, ErrorKind, Result};

/// How many addresses of a name are tried.
const ADDRESSES: usize = 16;

/// Which addresses of a host are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Family {
    /// All, in the order in which the system names them.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    fn fits(self, address: &SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// Where to, and how.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The host: a name or an address, an IPv6 address with or without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who will log in: `%r` of a proxy command.
    pub user: String,
    /// The host as the user wrote it: `%n` of a proxy command; the host where it is `None`.
    pub written: Option<String>,
    /// Which addresses.
    pub family: Family,
    /// The address of this machine from which to connect.
    pub source: Option<IpAddr>,
    /// Which of the addresses that are found may be connected to.
    pub reach: Reach,
    /// By which way.
    pub proxy: Proxy,
    /// How long all of it may take.
    pub timeout: Duration,
    /// A stream that is dropped without having been shut down resets the connection (`SO_LINGER` 0), so
    /// that the other end cannot take a torn transfer for a finished one. A proxy may hide the difference.
    pub reset_on_drop: bool,
}

impl Dial {
    /// Directly, within 20 seconds.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Dial {
            host: host.into(),
            port,
            user: String::new(),
            written: None,
            family: Family::default(),
            source: None,
            reach: Reach::default(),
            proxy: Proxy::Direct,
            timeout: Duration::from_secs(20),
            reset_on_drop: false,
        }
    }

    /// Opens a stream by whatever way is asked for. Errors: as [`Dial::tcp`]; those of starting the command.
    /// Dropping the future gives up.
    pub async fn open(&self) -> Result<Stream> {
        match &self.proxy {
            Proxy::Command(line) => {
                let host = bare(&self.host);
                let tokens = proxy::command::Tokens {
                    host,
                    port: self.port,
                    user: &self.user,
                    written: self.written.as_deref().unwrap_or(host),
                };
                Ok(Stream::Command(Box::new(proxy::command::start(line, &tokens)?)))
            }
            _ => self.tcp().await.map(Stream::Tcp),
        }
    }

    /// Opens a TCP connection. Errors: `NotFound` (no such host), `Disconnected` (refused, not reachable),
    /// `TimedOut`, `InvalidArgument` (a host that is none), `Refused` (not within reach); through a proxy also
    /// `Unauthenticated` and `Refused` (the proxy's own no), `PeerMisbehaved` (it is no such proxy), and the source is a
    /// [`ProxyError`] that says which side failed; `Unsupported` for a proxy that is a command. Dropping the
    /// future gives up.
    pub async fn tcp(&self) -> Result<TcpStream> {
        let by = Instant::now() + self.timeout;
        let host = bare(&self.host);
        let (at, speak) = match &self.proxy {
            Proxy::Direct => return self.direct(host, self.port, by).await,
            Proxy::Command(_) => {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail("a proxy command carries one connection, and this protocol needs several")
                    .with_hint("use a SOCKS or HTTP proxy"));
            }
            Proxy::Socks4 { at, .. } | Proxy::Socks5 { at, .. } | Proxy::Http { at, .. } => (at, &self.proxy),
        };
        let mut target = proxy::Target::parse(host, self.port)?;
        if let (Proxy::Socks4 { names_by_proxy: false, .. }, proxy::Target::Name(name, port)) =
            (speak, &target)
        {
            // SOCKS 4 knows neither names nor IPv6.
            let found = resolve(name, *port, Family::V4, by).await?;
            target = found.first().map(|a| proxy::Target::Address(*a)).ok_or_else(|| no_address(name))?;
        }
        let blame = |e: Error, side| ProxyError::wrap(e, at, side);
        let mut stream = self.direct(&at.host, at.port, by).await.map_err(|e| {
            let words = format!("the proxy cannot be reached: {}", e.peer_words());
            blame(e.with_detail(words), Side::Proxy)
        })?;
        let talk = proxy::negotiate(speak, &mut stream, &target);
        match tokio::time::timeout_at(by, talk).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err((side, e))) => Err(blame(e, side)),
            Err(_) => {
                let words = format!("the proxy '{at}' does not answer in time");
                Err(blame(Error::new(ErrorKind::TimedOut).with_detail(words), Side::Proxy))
            }
        }
    }

    /// Opens a direct TCP connection to one of these addresses, whatever the host is called.
    pub async fn tcp_to(&self, addresses: &[SocketAddr]) -> Result<TcpStream> {
        let name = Endpoint::new(bare(&self.host), self.port).to_string();
        self.first_of(addresses, &name, Instant::now() + self.timeout).await
    }

    async fn direct(&self, host: &str, port: u16, by: Instant) -> Result<TcpStream> {
        let name = Endpoint::new(host, port).to_string();
        let found = resolve(host, port, self.family, by).await?;
        if found.is_empty() {
            return Err(no_address(host));
        }
        self.first_of(&found, &name, by).await
    }

    async fn first_of(&self, addresses: &[SocketAddr], name: &str, by: Instant) -> Result<TcpStream> {
        let usable = |a: &&SocketAddr| self.source.is_none_or(|s| s.is_ipv4() == a.is_ipv4());
        let addresses: Vec<&SocketAddr> = addresses.iter().filter(usable).collect();
        if !addresses.is_empty() && !addresses.iter().any(|a| self.reach.admits(**a)) {
            return Err(Error::refused(format!("'{name}' is where no connection may go")));
        }
        let addresses: Vec<_> = addresses.into_iter().filter(|a| self.reach.admits(**a)).collect();
        let mut last = Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{name}' has no address that can be reached from the source address"));
        for (i, address) in addresses.iter().enumerate() {
            let left = by.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
            match tokio::time::timeout(share, self.connect(**address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(e)) => {
                    let words = format!("'{name}' ({}) cannot be reached: {e}", address.ip());
                    last = Error::from(e).with_detail(words);
                }
                Err(_) => last = late(name),
            }
        }
        Err(last)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if self.reset_on_drop {
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        }
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0)).map_err(|e| {
                io::Error::new(e.kind(), format!("the source address {source} cannot be used: {e}"))
            })?;
        }
        socket.connect(address).await
    }
}

/// A host without the brackets that a URL puts around an address.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

fn late(name: &str) -> Error {
    Error::new(ErrorKind::TimedOut).with_detail(format!("'{name}' cannot be reached in time"))
}

fn no_address(host: &str) -> Error {
    Error::new(ErrorKind::NotFound)
        .with_detail(format!("the host '{host}' has no address of the kind that was asked for"))
}

async fn resolve(host: &str, port: u16, family: Family, by: Instant) -> Result<Vec<SocketAddr>> {
    let found = tokio::time::timeout_at(by, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| late(&Endpoint::new(host, port).to_string()))?
        .map_err(|e| {
            Error::new(ErrorKind::NotFound)
                .with_detail(format!("the host '{host}' cannot be found: {e}"))
                .with_hint("check its spelling and the name service")
        })?;
    Ok(found.filter(|a| family.fits(a)).take(ADDRESSES).collect())
}

/// What [`Dial::open`] opened.
#[derive(Debug)]
pub enum Stream {
    /// A connection.
    Tcp(TcpStream),
    /// A program; it is killed when the stream is dropped.
    Command(Box<proxy::command::CommandStream>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Command(s) => Pin::new(&mut **s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Command(s) => Pin::new(&mut **s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_flush(cx),
            Stream::Command(s) => Pin::new(&mut **s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Command(s) => Pin::new(&mut **s).poll_shutdown(cx),
        }
    }
}
