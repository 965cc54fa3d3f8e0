//! How a server of FTP behaves, with defaults that are safe (RFC 4217, RFC 2577).
//!
//! Deliberately absent: where it listens, who its users are, what they may do: the site's.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::server_tls::ServerTls;

/// Whether the control connection is protected. Without TLS in the options, it never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlPolicy {
    /// As the client likes.
    Allow,
    /// Nothing but what leads to TLS is served before it.
    #[default]
    Require,
    /// No name and no password is taken before it; an anonymous login needs none.
    RequireCredentials,
}

/// Whether data connections are protected. Without TLS in the options, they never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPolicy {
    /// As the client likes.
    Allow,
    /// They are in the clear.
    Deny,
    /// They are under TLS.
    #[default]
    Require,
}

/// The address that a client is told to connect to for data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassiveAddress {
    /// This one.
    Ip(Ipv4Addr),
    /// That of this name, looked up when it is needed and kept for a minute.
    Name(String),
}

impl FromStr for PassiveAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(ip) = text.parse() {
            return Ok(PassiveAddress::Ip(ip));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if text.is_empty() || !text.chars().all(fits) {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is neither an IPv4 address nor a host name")));
        }
        Ok(PassiveAddress::Name(text.to_owned()))
    }
}

/// Data connections that clients make.
#[derive(Clone, Debug)]
pub struct PassiveOptions {
    /// The ports; `None` leaves the choice to the system.
    pub ports: Option<RangeInclusive<u16>>,
    /// The address in answers to PASV; `None` is the one that the client's control connection came to.
    /// Answers to EPSV hold none.
    pub address: Option<PassiveAddress>,
    /// Other addresses for clients of these networks; the longest prefix counts. `None` is as above.
    pub addresses: Vec<(IpNet, Option<PassiveAddress>)>,
    /// How long a port is kept for a client that does not come.
    pub time: Duration,
}

impl Default for PassiveOptions {
    fn default() -> Self {
        PassiveOptions { ports: None, address: None, addresses: Vec::new(), time: Duration::from_secs(30) }
    }
}

/// What a server says beside its replies. Lines are separated by line feeds; these stand for something:
/// `%SessionID%`, `%SiteName%`, `%UserName%`, `%ClientAddress%`, `%Time%`, `%BytesReceived%` and
/// `%BytesSent%` (content, as the client sees it), `%%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    /// The greeting. A hook on the software's identification may change its first line.
    pub banner: String,
    /// After a login.
    pub welcome: String,
    /// After QUIT.
    pub exit: String,
    /// To a client for which there is no room; empty leaves it to the site's words.
    pub limit: String,
}

impl Default for Messages {
    fn default() -> Self {
        Messages {
            banner: "Ferry".to_owned(),
            welcome: "Logged in".to_owned(),
            exit: "Goodbye".to_owned(),
            limit: String::new(),
        }
    }
}

/// Other sites at the same address, by name: HOST (RFC 7151), `user@site`, `site|user`, or the name that a
/// TLS client asks for. The connection was admitted by the site of the server; logins and files are those
/// of the site found here, once it has welcomed the session.
pub trait Hosts: Send + Sync {
    /// The site of this name (in lower case, without a final dot), if there is one.
    fn site(&self, name: &str) -> Option<Arc<dyn Site>>;

    /// What is said to the clients of this site; `None` for what is said to all.
    fn messages(&self, name: &str) -> Option<Arc<Messages>> {
        let _ = name;
        None
    }
}

/// How a server of FTP behaves.
#[derive(Clone)]
pub struct FtpServerOptions {
    /// The TLS that is offered; `None` for plain FTP only.
    pub tls: Option<Arc<ServerTls>>,
    /// TLS begins with the connection (port 990) rather than with AUTH.
    pub implicit_tls: bool,
    /// Whether the control connection must be protected.
    pub control_policy: ControlPolicy,
    /// Whether data connections must be protected.
    pub data_policy: DataPolicy,
    /// A protected data connection must resume the TLS session of its control connection: nobody else
    /// can have made it. Some old clients cannot.
    pub require_session_reuse: bool,
    /// Whether clients on this machine get files by `sendfile`, as those of the network do. What it hands over
    /// costs such a client more than what was read for it.
    pub sendfile_to_neighbours: bool,
    /// An upload under TLS whose end the client did not confirm (close_notify) is not published. Some
    /// clients never do.
    pub strict_tls_eof: bool,
    /// Data connections that clients make.
    pub passive: PassiveOptions,
    /// Whether the server makes data connections to clients (PORT, EPRT).
    pub active: bool,
    /// Whether the other end of a data connection may be another than that of the control connection
    /// (transfers between two servers). Opens the door to bounces: off.
    pub foreign_data: bool,
    /// Proxies in front of us, of which a PROXY header is required and believed, on control and data
    /// connections.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a client may take to log in, from its connection on.
    pub login_time: Duration,
    /// How long a logged-in client may do nothing.
    pub idle: Option<Duration>,
    /// How long nothing may move on a data connection.
    pub data_time: Duration,
    /// The least bytes per second of a transfer, measured over `data_time`; 0 for none.
    pub minimum_rate: u64,
    /// The longest line of a command, bytes.
    pub max_line: usize,
    /// Failed logins before the connection ends.
    pub tries: u32,
    /// How long a refused login takes at least, so that time tells nothing.
    pub rejection_time: Duration,
    /// What is said to people.
    pub messages: Messages,
    /// Whether compressed transfers (MODE Z) are offered. Off: clients such as lftp use it wherever it is,
    /// and it costs far more time than any but a slow line saves.
    pub mode_z: bool,
    /// Whether TYPE A changes line ends. Without, it is taken and files go as they are.
    pub ascii: bool,
    /// Other sites at the same address.
    pub hosts: Option<Arc<dyn Hosts>>,
}

impl Default for FtpServerOptions {
    /// Plain FTP, passive only. With `tls` set, TLS is required on both kinds of connections.
    fn default() -> Self {
        FtpServerOptions {
            tls: None,
            implicit_tls: false,
            control_policy: ControlPolicy::default(),
            data_policy: DataPolicy::default(),
            require_session_reuse: true,
            sendfile_to_neighbours: false,
            strict_tls_eof: false,
            passive: PassiveOptions::default(),
            active: false,
            foreign_data: false,
            trusted_proxies: Vec::new(),
            login_time: Duration::from_secs(60),
            idle: Some(Duration::from_secs(900)),
            data_time: Duration::from_secs(60),
            minimum_rate: 0,
            max_line: 4096,
            tries: 6,
            rejection_time: Duration::from_millis(400),
            messages: Messages::default(),
            mode_z: false,
            ascii: true,
            hosts: None,
        }
    }
}

impl std::fmt::Debug for FtpServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FtpServerOptions")
            .field("tls", &self.tls)
            .field("implicit_tls", &self.implicit_tls)
            .field("control_policy", &self.control_policy)
            .field("data_policy", &self.data_policy)
            .field("passive", &self.passive)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl FtpServerOptions {
    /// TLS on request (AUTH TLS), required by default.
    pub fn with_tls(tls: Arc<ServerTls>) -> Self {
        FtpServerOptions { tls: Some(tls), ..Self::default() }
    }

    /// Refuses what makes no sense: `InvalidArgument`.
    pub(super) fn check(&self) -> Result<()> {
        let bad = if self.implicit_tls && self.tls.is_none() {
            "implicit TLS needs TLS"
        } else if self.tries == 0 {
            "a server of FTP needs at least one try"
        } else if !(128..=64 * 1024).contains(&self.max_line) {
            "the longest line has 128 to 65536 bytes"
        } else if self.passive.ports.as_ref().is_some_and(|p| p.is_empty() || *p.start() == 0) {
            "the range of passive ports is empty"
        } else if self.data_time.is_zero() || self.passive.time.is_zero() {
            "times for data connections must be longer than nothing"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidArgument).with_detail(bad))
    }

    /// The policy of the control connection, as far as there is TLS at all.
    pub fn control(&self) -> ControlPolicy {
        if self.tls.is_some() { self.control_policy } else { ControlPolicy::Allow }
    }

    /// The policy of data connections, as far as there is TLS at all.
    pub fn data(&self) -> DataPolicy {
        if self.tls.is_some() { self.data_policy } else { DataPolicy::Deny }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_sense_are_refused() {
        assert!(FtpServerOptions::default().check().is_ok());
        let implicit = FtpServerOptions { implicit_tls: true, ..FtpServerOptions::default() };
        assert_eq!(implicit.check().unwrap_err().kind(), ErrorKind::InvalidArgument);
        let tries = FtpServerOptions { tries: 0, ..FtpServerOptions::default() };
        assert!(tries.check().is_err());
        assert_eq!("192.0.2.1".parse::<PassiveAddress>().unwrap(), PassiveAddress::Ip([192, 0, 2, 1].into()));
        assert!("ftp.example.org".parse::<PassiveAddress>().is_ok());
        assert!("a,b".parse::<PassiveAddress>().is_err());
    }
}
