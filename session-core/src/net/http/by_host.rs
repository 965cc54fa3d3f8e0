//! `ByHost`: several sites behind one listener, told apart by the host that a request is made to (RFC 9110, section
//! 7.2).
//!
//! A request to a host that is not known goes to the listener's own site, as one without a host does. What belongs
//! to connections (TLS, their number, their times) is the listener's, whatever site their requests are for.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, Uri, header};

use super::connection::{Connection, Working};
use super::listen::Handler;
use super::respond::Body;

/// A handler for each site.
pub struct ByHost<H> {
    own: Arc<H>,
    named: HashMap<String, Arc<H>>,
    below: bool,
}

impl<H> ByHost<H> {
    /// The listener's own, for every host.
    pub fn new(own: Arc<H>) -> Self {
        ByHost { own, named: HashMap::new(), below: false }
    }

    /// A handler for these hosts, names without a port.
    pub fn add(&mut self, names: &[String], handler: &Arc<H>) {
        for name in names {
            self.named.insert(name.to_ascii_lowercase(), Arc::clone(handler));
        }
    }

    /// What stands before the name of a host is that host's, too: `bucket.s3.example.org`.
    pub fn and_below(mut self) -> Self {
        self.below = true;
        self
    }

    fn of(&self, uri: &Uri, headers: &HeaderMap) -> &Arc<H> {
        if self.named.is_empty() {
            return &self.own;
        }
        let field = headers.get(header::HOST).and_then(|f| f.to_str().ok());
        let host = uri.authority().map(|a| a.as_str()).or(field).unwrap_or_default();
        let host = bare(host).to_ascii_lowercase();
        let mut name = host.as_str();
        loop {
            if let Some(found) = self.named.get(name) {
                return found;
            }
            name = match name.split_once('.') {
                Some((_, rest)) if self.below => rest,
                _ => return &self.own,
            };
        }
    }
}

/// A host without its port, and without the dot that may end it.
fn bare(host: &str) -> &str {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[async_trait]
impl<H: Handler> Handler for ByHost<H> {
    async fn answer(
        &self,
        connection: &Arc<Connection>,
        working: Working,
        request: Request<Incoming>,
    ) -> Response<Body> {
        self.of(request.uri(), request.headers()).answer(connection, working, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(by_host: &'a ByHost<&'static str>, uri: &str, host: Option<&str>) -> &'a str {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        by_host.of(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn a_host_has_its_site_and_any_other_is_the_listeners() {
        let mut by_host = ByHost::new(Arc::new("own"));
        by_host.add(&["Two.example".into(), "two".into()], &Arc::new("two"));
        for (uri, host, due) in [
            ("/", Some("two.example"), "two"),
            ("/", Some("TWO.Example.:8080"), "two"),
            ("/", Some("a.two.example"), "own"),
            ("https://two:1/", Some("else"), "two"),
            ("/", Some("[::1]:80"), "own"),
            ("/", None, "own"),
        ] {
            assert_eq!(asked(&by_host, uri, host), due, "{uri} {host:?}");
        }
        let by_host = by_host.and_below();
        assert_eq!(asked(&by_host, "/", Some("a.b.two.example")), "two");
        assert_eq!(asked(&by_host, "/", Some("xtwo.example")), "own");
    }
}
