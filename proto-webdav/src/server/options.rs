//! How a server of WebDAV behaves, with defaults that are safe.
//!
//! Deliberately absent: where it listens, who its users are, what they may do: the site's.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::http::HttpOptions;
use session_core::net::server_tls::ServerTls;
use session_core::session::Protocol;

/// Whether passwords are taken on connections without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clear {
    /// From everywhere: something in front of us protects them.
    Allow,
    /// From this machine alone, and from everywhere by Digest.
    Digest,
    /// From this machine alone.
    #[default]
    Loopback,
}

/// How a server of WebDAV behaves.
#[derive(Clone)]
pub struct WebdavServerOptions {
    /// The TLS that connections begin with; `None` for none.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether passwords are taken without TLS.
    pub clear: Clear,
    /// The path under which the files stand: empty, or `/…` without a slash at its end.
    pub prefix: String,
    /// The account of clients that show no credentials.
    pub anonymous: Option<String>,
    /// What a client is told to log in to.
    pub realm: String,
    /// Whether Digest is offered, to the accounts that keep what it needs.
    pub digest: bool,
    /// How long a challenge of Digest can be answered.
    pub nonce_time: Duration,
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
    /// The largest body of XML, bytes.
    pub max_body: usize,
    /// Failed logins before the connection ends.
    pub tries: u32,
    /// How long a refused login takes at least, so that time tells nothing.
    pub rejection_time: Duration,
    /// Whether people get a page for a directory.
    pub pages: bool,
}

impl Default for WebdavServerOptions {
    fn default() -> Self {
        WebdavServerOptions {
            tls: None,
            clear: Clear::default(),
            prefix: String::new(),
            anonymous: None,
            realm: "Ferry".to_owned(),
            digest: false,
            nonce_time: Duration::from_secs(300),
            trusted_proxies: Vec::new(),
            max_connections: 2000,
            login_time: Duration::from_secs(60),
            idle: Some(Duration::from_secs(900)),
            linger: None,
            remember: Duration::from_secs(300),
            hold: Duration::from_secs(10),
            data_time: Duration::from_secs(60),
            minimum_rate: 0,
            max_body: 1 << 20,
            tries: 6,
            rejection_time: Duration::from_millis(400),
            pages: true,
        }
    }
}

impl std::fmt::Debug for WebdavServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebdavServerOptions")
            .field("tls", &self.tls)
            .field("clear", &self.clear)
            .field("prefix", &self.prefix)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

/// Whether it can stand in front of the files: empty, or `/…` of plain segments without a slash at its end.
pub fn is_prefix(prefix: &str) -> bool {
    let plain = |s: &str| {
        !s.is_empty()
            && s != "."
            && s != ".."
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
    };
    prefix.is_empty() || prefix.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain))
}

/// Whether it can be told to clients as what they log in to: plain text without quotation marks.
pub fn is_realm(realm: &str) -> bool {
    realm.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\')
}

impl WebdavServerOptions {
    /// What of them is of connections and sessions.
    pub(super) fn http(&self) -> HttpOptions {
        HttpOptions {
            protocol: if self.tls.is_some() { Protocol::Webdavs } else { Protocol::Webdav },
            tls: self.tls.clone(),
            anonymous: self.anonymous.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            max_connections: self.max_connections,
            login_time: self.login_time,
            idle: self.idle,
            linger: self.linger,
            remember: self.remember,
            hold: self.hold,
            data_time: self.data_time,
            minimum_rate: self.minimum_rate,
            tries: self.tries,
            rejection_time: self.rejection_time,
        }
    }

    /// Refuses what makes no sense: `InvalidArgument`.
    pub(super) fn check(&self) -> Result<()> {
        let bad = if !is_prefix(&self.prefix) {
            "the prefix is empty, or a path without a slash at its end: /dav"
        } else if !is_realm(&self.realm) {
            "the realm is plain text without quotation marks"
        } else if self.clear == Clear::Digest && !self.digest {
            "logins by Digest alone need Digest"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidArgument).with_detail(bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let with =
            |prefix: &str| WebdavServerOptions { prefix: prefix.into(), ..WebdavServerOptions::default() };
        for good in ["", "/dav", "/a/b-c_d.e~"] {
            assert!(with(good).check().is_ok(), "{good}");
        }
        for bad in ["/", "dav", "/dav/", "//", "/a b", "/%20", "/..", "/a/./b"] {
            assert!(with(bad).check().is_err(), "{bad}");
        }
        let realm = WebdavServerOptions { realm: "a\"b".into(), ..WebdavServerOptions::default() };
        assert!(realm.check().is_err());
        let digest =
            |on| WebdavServerOptions { clear: Clear::Digest, digest: on, ..WebdavServerOptions::default() };
        assert!(digest(true).check().is_ok() && digest(false).check().is_err());
    }
}
