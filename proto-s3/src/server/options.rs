//! How a server of S3 behaves, with defaults that are safe.
//!
//! Deliberately absent: where it listens, who its users are, what they may do: the site's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::http::HttpOptions;
use session_core::net::server_tls::ServerTls;
use session_core::session::Protocol;

use super::cors::is_origin;

/// How a server of S3 behaves.
#[derive(Clone)]
pub struct S3ServerOptions {
    /// The TLS that connections begin with; `None` for none. Secrets are never sent; content is.
    pub tls: Option<Arc<ServerTls>>,
    /// The region that buckets are said to be in.
    pub region: String,
    /// Names of this server below which buckets have names of their own: `s3.example.org` for
    /// `bucket.s3.example.org`. Paths that begin with the bucket are always understood.
    pub domains: Vec<String>,
    /// Origins whose pages may reach this server from a browser; see [`is_origin`](super::is_origin).
    pub cors: Vec<String>,
    /// The account of requests that are not signed.
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
    /// How long it is believed that an account may still log in.
    pub remember: Duration,
    /// How long the access key of a session that was ended is not taken; zero for no time.
    pub hold: Duration,
    /// How far a client's clock may be off.
    pub skew: Duration,
    /// How long nothing may move in the midst of a request or an answer.
    pub data_time: Duration,
    /// The least bytes per second of an upload, measured over `data_time`; 0 for none.
    pub minimum_rate: u64,
    /// How long a multipart upload is kept after its last part.
    pub upload_time: Duration,
    /// The folder, the server's own, in which it is written down which of them there are, so that they go on when it
    /// ends and begins again; `None`: they end with it.
    pub uploads_at: Option<PathBuf>,
    /// Multipart uploads of one account at a time.
    pub max_uploads: usize,
    /// The largest body of XML, bytes.
    pub max_body: usize,
    /// Failed logins before the connection ends.
    pub tries: u32,
    /// How long a refused login takes at least, so that time tells nothing.
    pub rejection_time: Duration,
}

impl Default for S3ServerOptions {
    fn default() -> Self {
        S3ServerOptions {
            tls: None,
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            cors: Vec::new(),
            anonymous: None,
            trusted_proxies: Vec::new(),
            max_connections: 2000,
            login_time: Duration::from_secs(60),
            idle: Some(Duration::from_secs(900)),
            linger: None,
            remember: Duration::from_secs(300),
            hold: Duration::from_secs(10),
            skew: Duration::from_secs(900),
            data_time: Duration::from_secs(60),
            minimum_rate: 0,
            upload_time: Duration::from_secs(24 * 3600),
            uploads_at: None,
            max_uploads: 100,
            // The list of 10,000 parts with all their checksums.
            max_body: 4 << 20,
            tries: 6,
            rejection_time: Duration::from_millis(400),
        }
    }
}

impl std::fmt::Debug for S3ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3ServerOptions")
            .field("tls", &self.tls)
            .field("region", &self.region)
            .field("domains", &self.domains)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

/// Whether it can be the name of a region.
pub fn is_region(region: &str) -> bool {
    (1..=63).contains(&region.len()) && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether it is a name of a host that buckets can stand before, without a port.
pub fn is_domain(domain: &str) -> bool {
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    domain.len() < 190 && domain.split('.').all(label) && domain.parse::<std::net::IpAddr>().is_err()
}

impl S3ServerOptions {
    /// What of them is of connections and sessions.
    pub(super) fn http(&self) -> HttpOptions {
        HttpOptions {
            protocol: Protocol::S3,
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
        let bad = if !is_region(&self.region) {
            "a region is one word: us-east-1"
        } else if !self.domains.iter().all(|d| is_domain(d)) {
            "a domain is the name of a host, without a port"
        } else if !self.cors.iter().all(|o| is_origin(o)) {
            "an origin is a scheme and a host, and a port or none: https://app.example.org"
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
        assert!(S3ServerOptions::default().check().is_ok());
        let with = |region: &str, domain: &str| S3ServerOptions {
            region: region.into(),
            domains: vec![domain.into()],
            ..S3ServerOptions::default()
        };
        assert!(with("eu-1", "s3.example.org").check().is_ok());
        assert!(with("garage", "localhost").check().is_ok());
        for (region, domain) in
            [("", "a"), ("eu 1", "a"), ("eu", ""), ("eu", "a..b"), ("eu", "a:80"), ("eu", "10.0.0.1")]
        {
            assert!(with(region, domain).check().is_err(), "{region} {domain}");
        }
    }
}
