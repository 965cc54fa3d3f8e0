//! Paths and the URLs that stand for them (RFC 3986).
//!
//! A virtual path is the path of the server's URLs: segments are percent-encoded byte by byte, whatever they
//! hold. An `href` of an answer is a name, never a place to go to: it may be absolute or not, must be of this
//! host, and is compared only after decoding, so that `~` and `%7E` are the same. What leads elsewhere is
//! refused.

use percent_encoding::percent_decode;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::{VPath, display_bytes};

use super::options::WebdavConnectOptions;
use crate::wire::href;

/// A server, by scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) secure: bool,
    host: String,
    port: u16,
}

/// Where an answer sends us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// To another URL of this server: its path, encoded.
    Here(String),
    /// To somebody else, or to the same in the clear.
    Elsewhere,
}

impl Place {
    pub(super) fn new(options: &WebdavConnectOptions) -> Place {
        let host = options.bare_host().to_ascii_lowercase();
        Place { secure: options.secure, host, port: options.port }
    }

    /// Host and port as they stand in a URL and in `Host`.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual_port(self.secure) { host } else { format!("{host}:{}", self.port) }
    }

    /// `https://host:port`.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }

    /// Where `location` leads, as an answer to a request for `asked` (an encoded path).
    pub(super) fn sent(&self, location: &str, asked: &str) -> Sent {
        let location = location.split('#').next().unwrap_or_default();
        if let Some((secure, authority, path)) = absolute(location) {
            let (host, port) = split_authority(authority, secure);
            let same =
                secure == self.secure && host.eq_ignore_ascii_case(&self.host) && port == Some(self.port);
            return if same { Sent::Here(rooted(path)) } else { Sent::Elsewhere };
        }
        if location.starts_with("//") || location.starts_with("/\\") {
            return Sent::Elsewhere;
        }
        if location.starts_with('/') {
            return Sent::Here(location.to_owned());
        }
        let base = asked.rfind('/').map_or("/", |at| asked.get(..=at).unwrap_or("/"));
        Sent::Here(format!("{base}{location}"))
    }

    /// The path that an `href` names. Errors: `PeerMisbehaved` for one of another host, one that goes up,
    /// and one with a name that cannot be.
    pub(super) fn path_of(&self, href: &[u8], dir: &VPath) -> Result<VPath> {
        let no = |words: &str| {
            Error::new(ErrorKind::PeerMisbehaved).with_detail(format!(
                "the server tells of '{}', {words}",
                display_bytes(href.get(..200).unwrap_or(href))
            ))
        };
        let text = String::from_utf8_lossy(href);
        let (mut path, relative) = match absolute(&text) {
            Some((secure, authority, _)) => {
                // A proxy in front may have taken the TLS off: only the host is looked at.
                if !split_authority(authority, secure).0.eq_ignore_ascii_case(&self.host) {
                    return Err(no("which is another server's"));
                }
                // The same bytes, undecoded.
                let skip = text.find("://").map_or(0, |at| at + 3) + authority.len();
                (href.get(skip..).unwrap_or_default(), false)
            }
            None => (href, href.first() != Some(&b'/')),
        };
        if let Some(at) = path.iter().position(|b| *b == b'#') {
            path = path.get(..at).unwrap_or_default();
        }
        let mut out = if relative { dir.clone() } else { VPath::root() };
        for segment in path.split(|b| *b == b'/') {
            let name: Vec<u8> = percent_decode(segment).collect();
            match name.as_slice() {
                b"" | b"." => {}
                b".." => return Err(no("which leads upwards")),
                name => out = out.join(name).map_err(|_| no("which is no name"))?,
            }
        }
        Ok(out)
    }
}

fn usual_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// The path of `path` on the wire; a directory's ends in a slash.
pub(super) fn encode(path: &VPath, directory: bool) -> String {
    href::write(path, directory, "")
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Scheme, authority and what follows them.
fn absolute(url: &str) -> Option<(bool, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    Some((secure, rest.get(..end)?, rest.get(end..)?))
}

fn split_authority(authority: &str, secure: bool) -> (&str, Option<u16>) {
    // Who is named in front of the host is nobody's business here.
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        let port = if rest.is_empty() {
            Some(usual_port(secure))
        } else {
            rest.strip_prefix(':').and_then(|p| p.parse().ok())
        };
        return (host, port);
    }
    match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (place, Some(usual_port(secure))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> Place {
        Place::new(&WebdavConnectOptions::new("Host", 8443))
    }

    fn dir() -> VPath {
        VPath::absolute("/dav/d").unwrap()
    }

    #[test]
    fn an_href_is_read_in_all_its_forms() {
        for href in [
            "/dav/d/a%20b",
            "https://host:8443/dav/d/a%20b/",
            "http://HOST/dav//d/./a%20b",
            "https://user@host/%64av/d/a b",
            "a%20b",
            "/dav/d/a%20b#part",
        ] {
            let path = place().path_of(href.as_bytes(), &dir()).unwrap();
            assert_eq!(path, VPath::absolute("/dav/d/a b").unwrap(), "{href}");
        }
        assert_eq!(place().path_of(b"/x%FF\xfe", &dir()).unwrap().as_bytes(), b"/x\xff\xfe");
    }

    #[test]
    fn an_href_of_somebody_else_is_refused() {
        for href in [&b"https://other/dav/d/a"[..], b"/dav/d/../e", b"/dav/%2e%2e/e", b"/a%2Fb", b"/a%00"] {
            let e = place().path_of(href, &dir()).map(drop).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::PeerMisbehaved, "{}", display_bytes(href));
        }
    }

    #[test]
    fn only_this_server_in_this_way_is_followed_to() {
        let here = |path: &str| Sent::Here(path.to_owned());
        for (location, sent) in [
            ("/dav/d/", here("/dav/d/")),
            ("https://HOST:8443/dav/d/?x=1", here("/dav/d/?x=1")),
            ("https://host:8443", here("/")),
            ("e/", here("/dav/e/")),
            ("http://host:8443/dav/d/", Sent::Elsewhere),
            ("https://host/dav/d/", Sent::Elsewhere),
            ("https://host.evil:8443/", Sent::Elsewhere),
            ("https://host:8443@evil/", Sent::Elsewhere),
            ("https://host:8443\\@evil/", Sent::Here("/\\@evil/".to_owned())),
            ("//evil/", Sent::Elsewhere),
            ("/\\evil/", Sent::Elsewhere),
        ] {
            assert_eq!(place().sent(location, "/dav/d"), sent, "{location}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..4)) {
            let mut path = VPath::root();
            for name in &names {
                if let Ok(deeper) = path.join(name) {
                    path = deeper;
                }
            }
            for directory in [false, true] {
                let wire = encode(&path, directory);
                prop_assert!(wire.is_ascii() && wire.starts_with('/'));
                prop_assert_eq!(&place().path_of(wire.as_bytes(), &dir()).unwrap(), &path);
            }
        }
    }
}
