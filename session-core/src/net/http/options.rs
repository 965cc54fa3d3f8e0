//! How a server of HTTP behaves, whatever is spoken over it.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::error::{Error, ErrorKind, Result};
use crate::net::server_tls::ServerTls;
use crate::session::Protocol;

/// How connections and sessions are treated.
#[derive(Clone)]
pub struct HttpOptions {
    /// What is spoken.
    pub protocol: Protocol,
    /// The TLS that connections begin with; `None` for none.
    pub tls: Option<Arc<ServerTls>>,
    /// The account of clients that show no credentials.
    pub anonymous: Option<String>,
    /// Proxies in front of us, of which a PROXY header is required and believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections that there may be at a time.
    pub max_connections: usize,
    /// How long a connection may take to log in, and to send the head of a request.
    pub login_time: Duration,
    /// How long a session may do nothing.
    pub idle: Option<Duration>,
    /// How long a session stays without a connection; `None` for as long as it may do nothing.
    pub linger: Option<Duration>,
    /// How long a verified credential is believed.
    pub remember: Duration,
    /// How long the credential of a session that was ended is not taken; zero for no time.
    pub hold: Duration,
    /// How long nothing may move in the midst of a request or an answer.
    pub data_time: Duration,
    /// The least bytes per second of an upload, measured over `data_time`; 0 for none.
    pub minimum_rate: u64,
    /// Failed logins before the connection ends.
    pub tries: u32,
    /// How long a refused login takes at least, so that time tells nothing.
    pub rejection_time: Duration,
}

impl HttpOptions {
    /// Refuses what makes no sense: `InvalidArgument`.
    pub(super) fn check(&self) -> Result<()> {
        let bad = if self.tries == 0 {
            "a server needs at least one try"
        } else if self.data_time.is_zero() || self.login_time.is_zero() {
            "times must be longer than nothing"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidArgument).with_detail(bad))
    }
}

impl std::fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions")
            .field("protocol", &self.protocol)
            .field("tls", &self.tls)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}
