//! What is configured of WebDAV.
//!
//! Deliberately absent: reading certificates and opening sockets (`crate::listen`).

use std::time::Duration;

use ipnet::IpNet;
use proto_webdav::server as dav;
use serde::Deserialize;

use super::{Limits, values};

words! {
    /// Whether passwords are taken on connections without TLS.
    Clear {
        /// From everywhere: something in front protects them.
        Allow,
        /// From this machine alone, and from everywhere by Digest.
        Digest,
        /// From this machine alone.
        #[default]
        Loopback,
    }
}

/// How WebDAV is served; see [`proto_webdav::server::WebdavServerOptions`] for what each comes to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Webdav {
    /// Whether passwords are taken without TLS.
    pub clear: Clear,
    /// The path under which the files stand: `/dav`.
    pub prefix: String,
    /// The account of clients that show no credentials; empty for none.
    pub anonymous: String,
    /// What clients are told to log in to.
    pub realm: String,
    /// Whether Digest is offered, to the accounts that keep what it needs.
    pub digest: bool,
    /// Whether a one-time code may stand behind the password of Basic.
    pub append_code: bool,
    /// Proxies that must say, by the PROXY protocol, who is behind them.
    #[serde(deserialize_with = "values::networks")]
    pub proxies: Vec<IpNet>,
    /// Connections at a time.
    pub connections: usize,
    /// How long a session stays without a connection; zero for as long as `idle_time` says.
    #[serde(deserialize_with = "values::duration")]
    pub linger: Duration,
    /// How long a credential that was good is believed.
    #[serde(deserialize_with = "values::duration")]
    pub remember: Duration,
    /// How long the credential of a session that was ended is not taken.
    #[serde(deserialize_with = "values::duration")]
    pub hold: Duration,
    /// The longest lock; one never outlives its session.
    #[serde(deserialize_with = "values::duration")]
    pub lock_time: Duration,
    /// How long nothing may move in the midst of a request.
    #[serde(deserialize_with = "values::duration")]
    pub data_time: Duration,
    /// The least bytes per second of an upload; 0 for none.
    pub minimum_rate: u64,
    /// Whether people get a page for a directory.
    pub pages: bool,
}

impl Default for Webdav {
    fn default() -> Self {
        let options = dav::WebdavServerOptions::default();
        Webdav {
            clear: Clear::default(),
            prefix: options.prefix,
            anonymous: String::new(),
            realm: options.realm,
            digest: options.digest,
            append_code: false,
            proxies: Vec::new(),
            connections: options.max_connections,
            linger: Duration::ZERO,
            remember: options.remember,
            hold: options.hold,
            lock_time: Duration::from_secs(3600),
            data_time: options.data_time,
            minimum_rate: options.minimum_rate,
            pages: options.pages,
        }
    }
}

impl Webdav {
    /// The server's options, as far as they are configured here.
    pub fn options(&self) -> dav::WebdavServerOptions {
        dav::WebdavServerOptions {
            clear: match self.clear {
                Clear::Allow => dav::Clear::Allow,
                Clear::Digest => dav::Clear::Digest,
                Clear::Loopback => dav::Clear::Loopback,
            },
            prefix: self.prefix.clone(),
            anonymous: Some(self.anonymous.clone()).filter(|a| !a.is_empty()),
            realm: self.realm.clone(),
            digest: self.digest,
            trusted_proxies: self.proxies.clone(),
            max_connections: self.connections,
            linger: Some(self.linger).filter(|l| !l.is_zero()),
            remember: self.remember,
            hold: self.hold,
            data_time: self.data_time,
            minimum_rate: self.minimum_rate,
            pages: self.pages,
            ..dav::WebdavServerOptions::default()
        }
    }

    /// Values that make no sense, by key.
    pub(super) fn check(&self) -> Vec<(&'static str, &'static str)> {
        let mut wrong = Vec::new();
        if self.data_time.is_zero() {
            wrong.push(("data_time", "this takes some time"));
        }
        if self.connections == 0 {
            wrong.push(("connections", "there is at least one"));
        }
        if !dav::is_prefix(&self.prefix) {
            wrong.push(("prefix", "this is empty, or a path without a slash at its end: /dav"));
        }
        if !dav::is_realm(&self.realm) {
            wrong.push(("realm", "this is plain text without quotation marks"));
        }
        if self.clear == Clear::Digest && !self.digest {
            wrong.push(("clear", "logins by Digest alone need digest = true"));
        }
        wrong
    }

    /// The longest lock that a session surely outlives.
    pub fn longest_lock(&self, limits: &Limits) -> Duration {
        let ends = [self.lock_time, self.linger, limits.idle_time];
        ends.into_iter().filter(|t| !t.is_zero()).min().unwrap_or(self.lock_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_told_by_its_key() {
        assert!(Webdav::default().check().is_empty());
        let wrong = Webdav {
            prefix: "/dav/".into(),
            realm: "a\"b".into(),
            connections: 0,
            data_time: Duration::ZERO,
            ..Webdav::default()
        };
        let keys: Vec<_> = wrong.check().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["data_time", "connections", "prefix", "realm"]);
        let by_digest = |digest| Webdav { clear: Clear::Digest, digest, ..Webdav::default() };
        assert!(by_digest(true).check().is_empty());
        assert_eq!(by_digest(false).check().first().map(|(key, _)| *key), Some("clear"));
    }

    #[test]
    fn a_lock_ends_before_its_session_can() {
        let limits = |idle| Limits { idle_time: Duration::from_secs(idle), ..Limits::default() };
        let dav = |linger| Webdav { linger: Duration::from_secs(linger), ..Webdav::default() };
        assert_eq!(dav(0).longest_lock(&limits(900)), Duration::from_secs(900));
        assert_eq!(dav(60).longest_lock(&limits(900)), Duration::from_secs(60));
        assert_eq!(dav(0).longest_lock(&limits(0)), Duration::from_secs(3600));
    }
}
