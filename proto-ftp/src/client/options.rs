//! How to reach, trust and enter a server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use session_core::auth::Secret;
use session_core::net::client_tls::ClientTlsOptions;
pub use session_core::net::dial::Family;
use session_core::net::dial::{Dial, bare};
use session_core::net::proxy::Proxy;
use session_core::net::reach::Reach;
use session_core::session::Session;

/// Whether and how TLS protects the connections. What is asked for is kept: never silently less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Security {
    /// No TLS: password and content can be read on the way (`ftp://`).
    Plain,
    /// AUTH TLS before the login (RFC 4217; `ftpes://`); without it there is no login.
    #[default]
    Explicit,
    /// TLS from the first byte (`ftps://`, port 990).
    Implicit,
}

/// Who opens data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DataMode {
    /// The server does, to us (PORT, EPRT).
    Active,
    /// We do, to the server (EPSV, else PASV).
    #[default]
    Passive,
}

/// How names stand on the wire. In the model a name is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encoding {
    /// The bytes as they are; UTF-8 is asked for where the server knows it (RFC 2640).
    #[default]
    Bytes,
    /// UTF-8 in the model, ISO 8859-1 on the wire. Names it cannot hold are `InvalidPath`.
    Latin1,
}

/// A line is long where the server takes at least so long to answer.
pub const LONG_LINE: Duration = Duration::from_millis(8);

/// How to reach, trust and enter a server.
#[derive(Clone)]
pub struct FtpConnectOptions {
    /// The host: a name or an address, an IPv6 address with or without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Which addresses.
    pub family: Family,
    /// The address of this machine from which to connect.
    pub source: Option<IpAddr>,
    /// Which addresses may be connected to, by control and by data connections.
    pub reach: Reach,
    /// By which way: for the control connections and the data connections, which are then passive. Not a
    /// command.
    pub proxy: Proxy,
    /// Who logs in.
    pub user: String,
    /// The password; where it is `None` and the server wants one, the decider is asked.
    pub password: Option<Secret>,
    /// The account (ACCT), for servers that want one.
    pub account: Option<Secret>,
    /// Lines that each connection says when it is logged in, before anything else; one that is refused fails the login.
    /// None of those that move data.
    pub after_login: Vec<Vec<u8>>,
    /// The virtual host (HOST, RFC 7151), sent where the server knows the verb.
    pub host_name: Option<String>,
    /// TLS or not.
    pub security: Security,
    /// Pinned certificates, versions, the user's own certificate.
    pub tls: ClientTlsOptions,
    /// Who opens data connections.
    pub mode: DataMode,
    /// Connect where PASV says, if that is a public address; else always to the server's own address.
    pub trust_passive_address: bool,
    /// Control connections at most; each carries one transfer at a time. At least 1.
    pub connections: usize,
    /// The same over a long line ([`LONG_LINE`]), where many files wait for answers rather than for bytes. Less
    /// than `connections` changes nothing. A server that takes fewer is left with fewer.
    pub far_connections: usize,
    /// How long each step may take: reaching the host, each reply, opening a data connection; also how
    /// long a data connection may stand still.
    pub timeout: Duration,
    /// How often an idle connection says that it is still there.
    pub keepalive: Option<Duration>,
    /// What to add to the server's local times (LIST) to get UTC, seconds; where it is `None`, it is found
    /// by asking for the time of one listed file.
    pub time_offset: Option<i32>,
    /// Data connections resume the TLS session of their login, which many servers demand. Without, each shakes hands by
    /// itself.
    pub resume_tls: bool,
    /// Listings in facts (MLSD) where the server has them.
    pub facts: bool,
    /// Compress data (MODE Z) where the server can.
    pub compress: bool,
    /// Names on the wire.
    pub encoding: Encoding,
    /// Two servers that cannot make sure of each other may copy between themselves under TLS: what they send
    /// is encrypted, and nobody knows for whom.
    pub unverified_copies: bool,
    /// The session that counts and cuts; one is made where none is given. Cutting it ends all sockets at
    /// once.
    pub session: Option<Arc<Session>>,
}

impl std::fmt::Debug for FtpConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FtpConnectOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("security", &self.security)
            .finish_non_exhaustive()
    }
}

impl FtpConnectOptions {
    /// The usual, for this host and user: explicit TLS.
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>) -> Self {
        FtpConnectOptions {
            host: host.into(),
            port,
            family: Family::default(),
            source: None,
            reach: Reach::default(),
            proxy: Proxy::Direct,
            user: user.into(),
            password: None,
            account: None,
            after_login: Vec::new(),
            host_name: None,
            security: Security::default(),
            tls: ClientTlsOptions::default(),
            mode: DataMode::default(),
            trust_passive_address: false,
            connections: 8,
            far_connections: 16,
            timeout: Duration::from_secs(20),
            keepalive: Some(Duration::from_secs(30)),
            time_offset: None,
            resume_tls: true,
            facts: true,
            compress: false,
            encoding: Encoding::default(),
            unverified_copies: false,
            session: None,
        }
    }

    /// Anonymous: with an address as password that leads nowhere.
    pub fn anonymous(host: impl Into<String>, port: u16) -> Self {
        let mut options = Self::new(host, port, "anonymous");
        options.password = Some(Secret::new("anonymous@ferry.invalid"));
        options
    }

    /// Whether the login is an anonymous one.
    pub fn is_anonymous(&self) -> bool {
        self.user.eq_ignore_ascii_case("anonymous") || self.user.eq_ignore_ascii_case("ftp")
    }

    /// The host without the brackets that a URL puts around an address.
    pub(super) fn bare_host(&self) -> &str {
        bare(&self.host)
    }

    /// How to reach this host and port.
    pub(super) fn dial(&self, host: impl Into<String>, port: u16) -> Dial {
        Dial {
            user: self.user.clone(),
            family: self.family,
            source: self.source,
            reach: self.reach.clone(),
            proxy: self.proxy.clone(),
            timeout: self.timeout,
            ..Dial::new(host, port)
        }
    }
}
