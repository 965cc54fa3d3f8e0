//! Proxies: SOCKS 4, 4a (the protocol's memos by Koblas and by Lee) and 5 (RFC 1928, login by RFC 1929),
//! HTTP CONNECT (RFC 9110, section 9.3.6; login by RFC 7617), and a command whose input and output are the
//! connection.
//!
//! [`socks`] and [`http`] make requests and read answers without I/O; `negotiate` speaks them, reads exactly
//! the proxy's answer and not a byte of what follows. What fails says on which side ([`Side`]): a proxy's own
//! no is not the server's. Secrets stand in no `Debug` and no error.
//!
//! Deliberately absent: TLS to the proxy, GSSAPI, Digest and NTLM logins, BIND and UDP, telnet.

pub mod command;
pub mod environment;
pub mod http;
pub mod socks;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Where a proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Endpoint {
    /// This host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Endpoint { host: host.into(), port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who uses a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// The way to a server.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Proxy {
    /// None: straight there.
    #[default]
    Direct,
    /// SOCKS 4, or 4a where names go to the proxy.
    Socks4 {
        /// The proxy.
        at: Endpoint,
        /// The user's name, for its log; may be empty.
        user: String,
        /// Names are resolved by the proxy (4a).
        names_by_proxy: bool,
    },
    /// SOCKS 5; names are resolved by the proxy.
    Socks5 {
        /// The proxy.
        at: Endpoint,
        /// Who uses it, where it asks.
        login: Option<Login>,
    },
    /// HTTP CONNECT; names are resolved by the proxy.
    Http {
        /// The proxy.
        at: Endpoint,
        /// Who uses it.
        login: Option<Login>,
    },
    /// A command that the user's shell runs; its input and output are the connection. `%h`, `%p`, `%r`, `%n`
    /// and `%%` stand for host, port, user, the host as written, and a percent sign (ssh_config(5)).
    Command(String),
}

impl Proxy {
    /// Whether there is none.
    pub fn is_direct(&self) -> bool {
        *self == Proxy::Direct
    }

    /// Reads `socks4://`, `socks4a://`, `socks5://` (`socks5h://` is the same), `http://`, each with
    /// `[user[:password]@]host[:port]`; `command:LINE`; `none`. What has no scheme is an HTTP proxy. The port
    /// is 1080 for SOCKS and 80 for HTTP where none is given. Errors: `InvalidArgument`, without a secret in
    /// its words; `Unsupported` for TLS to the proxy.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |words: &str| {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("that is not a proxy: {words}"))
                .with_hint("give it as socks5://user:password@host:1080, http://host:3128 or none")
        };
        let text = text.trim();
        if text.eq_ignore_ascii_case("none") || text.eq_ignore_ascii_case("direct") {
            return Ok(Proxy::Direct);
        }
        if let Some(line) = text.strip_prefix("command:") {
            if line.trim().is_empty() {
                return Err(bad("the command is empty"));
            }
            return Ok(Proxy::Command(line.trim().to_owned()));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => 1080,
            "https" => {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail("TLS to a proxy is not built; http:// tunnels TLS all the same"));
            }
            _ => return Err(bad("its scheme is not known")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(bad("it has no path"));
        }
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let port = |p: &str| p.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(|| bad("its port is none"));
        let (host, port) = if let Some(inner) = place.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or_else(|| bad("a bracket is missing"))?;
            match after.strip_prefix(':') {
                Some(p) => (host, port(p)?),
                None if after.is_empty() => (host, default_port),
                None => return Err(bad("only a port may follow the address")),
            }
        } else {
            match place.rsplit_once(':') {
                Some((name, _)) if name.contains(':') => {
                    return Err(bad("an IPv6 address is written in brackets"));
                }
                Some((host, p)) => (host, port(p)?),
                None => (place, default_port),
            }
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(bad("it has no host"));
        }
        let at = Endpoint::new(host, port);
        let login = match login {
            None => None,
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let text =
                    |t| decode(t).ok_or_else(|| bad("a percent sign is followed by two hexadecimal digits"));
                Some(Login { user: text(user)?, password: Secret::new(text(password)?) })
            }
        };
        Ok(match scheme.as_str() {
            "http" => Proxy::Http { at, login },
            "socks4" | "socks4a" => Proxy::Socks4 {
                at,
                user: login.map(|l| l.user).unwrap_or_default(),
                names_by_proxy: scheme == "socks4a",
            },
            _ => Proxy::Socks5 { at, login },
        })
    }
}

impl fmt::Display for Proxy {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proxy::Direct => f.write_str("none"),
            Proxy::Socks4 { at, names_by_proxy: false, .. } => write!(f, "socks4://{at}"),
            Proxy::Socks4 { at, .. } => write!(f, "socks4a://{at}"),
            Proxy::Socks5 { at, .. } => write!(f, "socks5://{at}"),
            Proxy::Http { at, .. } => write!(f, "http://{at}"),
            Proxy::Command(_) => f.write_str("a command"),
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16));
        out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Where a proxy is to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name, and a port.
    Name(String, u16),
}

impl Target {
    /// From a host without brackets. Errors: `InvalidArgument` for what could not stand in a request.
    pub fn parse(host: &str, port: u16) -> Result<Self> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Target::Address(SocketAddr::new(ip, port)));
        }
        if host.is_empty()
            || host.len() > 255
            || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@[]:%".contains(c))
        {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{}' is not a host", crate::path::display_bytes(host.as_bytes()))));
        }
        Ok(Target::Name(host.to_owned(), port))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Which side of a proxy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The proxy: not reachable, not willing, not a proxy.
    Proxy,
    /// What lies behind it.
    Target,
}

/// The source of an error that came about through a proxy.
#[derive(Clone, Debug)]
pub struct ProxyError {
    /// Where the proxy is.
    pub at: Endpoint,
    /// Who failed.
    pub side: Side,
}

impl ProxyError {
    pub(super) fn wrap(e: Error, at: &Endpoint, side: Side) -> Error {
        e.with_source(ProxyError { at: at.clone(), side })
    }

    /// What an error says of a proxy, if it came about through one.
    pub fn of(e: &Error) -> Option<&ProxyError> {
        std::error::Error::source(e)?.downcast_ref()
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Side::Proxy => write!(f, "this is the fault of the proxy '{}'", self.at),
            Side::Target => write!(f, "the proxy '{}' says so", self.at),
        }
    }
}

impl std::error::Error for ProxyError {}

/// A failure and whose it is.
pub type Failure = (Side, Error);

pub(crate) fn misbehaved(words: &'static str) -> Failure {
    (
        Side::Proxy,
        Error::new(ErrorKind::PeerMisbehaved).with_detail(words).with_hint("is it a proxy of this kind?"),
    )
}

fn lost(e: std::io::Error) -> Failure {
    let words = if e.kind() == std::io::ErrorKind::UnexpectedEof {
        "the proxy hung up instead of answering".to_owned()
    } else {
        format!("the proxy was lost: {e}")
    };
    (Side::Proxy, Error::new(ErrorKind::Disconnected).with_detail(words))
}

/// Asks the proxy at the other end of `stream` for a connection to `target`. Reads not a byte too many.
/// Unbounded in time: the caller bounds it.
pub(super) async fn negotiate<S>(proxy: &Proxy, stream: &mut S, target: &Target) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match proxy {
        Proxy::Direct | Proxy::Command(_) => Ok(()),
        Proxy::Socks4 { user, .. } => {
            let request = socks::request4(target, user).map_err(|e| (Side::Proxy, e))?;
            stream.write_all(&request).await.map_err(lost)?;
            let mut reply = [0; 8];
            stream.read_exact(&mut reply).await.map_err(lost)?;
            socks::reply4(&reply, target)
        }
        Proxy::Socks5 { login, .. } => {
            stream.write_all(socks::greeting5(login.as_ref())).await.map_err(lost)?;
            let mut chosen = [0; 2];
            stream.read_exact(&mut chosen).await.map_err(lost)?;
            if socks::wants_login5(chosen, login.is_some())?
                && let Some(login) = login
            {
                let request = socks::login5(login).map_err(|e| (Side::Proxy, e))?;
                stream.write_all(&request).await.map_err(lost)?;
                let mut answer = [0; 2];
                stream.read_exact(&mut answer).await.map_err(lost)?;
                socks::logged_in5(answer)?;
            }
            let request = socks::request5(target).map_err(|e| (Side::Proxy, e))?;
            stream.write_all(&request).await.map_err(lost)?;
            let mut head = [0; 4];
            // A proxy that says no may hang up at once.
            stream.read_exact(head.get_mut(..2).unwrap_or_default()).await.map_err(lost)?;
            socks::reply5([head[0], head[1]], target)?;
            stream.read_exact(head.get_mut(2..).unwrap_or_default()).await.map_err(lost)?;
            let rest = match socks::bound5(head[3])? {
                Some(known) => known,
                None => usize::from(stream.read_u8().await.map_err(lost)?) + 2,
            };
            let mut bound = [0; 257];
            stream.read_exact(bound.get_mut(..rest).unwrap_or_default()).await.map_err(lost)?;
            Ok(())
        }
        Proxy::Http { login, .. } => {
            let request = http::request(target, login.as_ref());
            stream.write_all(request.expose().as_bytes()).await.map_err(lost)?;
            stream.flush().await.map_err(lost)?;
            let mut head = http::Head::default();
            loop {
                // Byte by byte: what follows the head is the server's.
                let byte = stream.read_u8().await.map_err(lost)?;
                if head.push(byte)? {
                    return head.judge(target);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
