//! Paths of URLs and virtual paths (RFC 3986; RFC 4918, section 8.3).
//!
//! A slash that came encoded would change where a segment ends: it is refused, never decoded. The prefix
//! under which the files stand is taken away before anything is resolved. Bytes that are not UTF-8 go both
//! ways.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

/// What stands for itself in a path that we write.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'!')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b'@');

/// What a URL points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path.
    pub path: VPath,
    /// It was written as a collection's.
    pub slash: bool,
}

fn bad(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidPath).with_detail(words)
}

/// The path part of a URL, below `prefix` (`""`, or `/…` without a slash at its end). Errors: `NotFound`
/// outside the prefix, `InvalidPath`.
pub fn parse(raw: &str, prefix: &str) -> Result<Target> {
    let inside = raw.strip_prefix(prefix).ok_or(ErrorKind::NotFound)?;
    if !inside.is_empty() && !inside.starts_with('/') {
        return Err(ErrorKind::NotFound.into());
    }
    let bytes = inside.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'%') {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad("a percent sign needs two hexadecimal digits behind it"));
        }
        if digits.eq_ignore_ascii_case(b"2f") {
            return Err(bad("a name holds no slash"));
        }
    }
    let decoded: Vec<u8> = percent_decode(bytes).collect();
    Ok(Target { path: VPath::absolute(decoded)?, slash: inside.ends_with('/') || inside.is_empty() })
}

/// A path as we write it, below `prefix`; a collection's ends in a slash.
pub fn write(path: &VPath, is_dir: bool, prefix: &str) -> String {
    let mut out = prefix.to_owned();
    out.extend(percent_encode(path.as_bytes(), KEPT));
    if is_dir && !path.is_root() {
        out.push('/');
    }
    out
}

/// One segment as we write it.
pub fn segment(name: &[u8]) -> String {
    percent_encode(name, KEPT).to_string()
}

/// A URL of this server, as `Destination` and `If` hold them: absolute, or a path alone. `host` is the one
/// that the request was made to; whether it says `http` or `https` does not matter, since what stands before
/// us may speak another one. Errors: `CrossDevice` for another server; those of [`parse`], with `CrossDevice`
/// outside the prefix.
pub fn parse_url(url: &str, host: &str, prefix: &str) -> Result<Target> {
    let elsewhere = || Error::new(ErrorKind::CrossDevice).with_detail("that is on another server");
    let path = match url.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
                return Err(elsewhere());
            }
            let at = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(at);
            if !same_host(authority, host) {
                return Err(elsewhere());
            }
            if path.is_empty() { "/" } else { path }
        }
        _ if url.starts_with('/') && !url.starts_with("//") => url,
        _ => return Err(bad("that is neither a URL nor a path")),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    parse(path, prefix).map_err(|e| if e.kind() == ErrorKind::NotFound { elsewhere() } else { e })
}

/// The usual ports are said or not.
fn same_host(a: &str, b: &str) -> bool {
    let bare = |host: &str| {
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase();
        let usual = host.strip_suffix(":80").or_else(|| host.strip_suffix(":443"));
        usual.map(str::to_owned).unwrap_or(host)
    };
    !b.is_empty() && bare(a) == bare(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(raw: &str) -> String {
        parse(raw, "").unwrap().path.display()
    }

    #[test]
    fn paths_stay_below_their_root_and_slashes_are_not_smuggled() {
        assert_eq!(path("/a%20b/%C3%A4"), "/a b/ä");
        assert_eq!(path("/../../etc/%2e%2e/x"), "/x");
        assert_eq!(path("/a//b/./c"), "/a/b/c");
        assert!(parse("/a/", "").unwrap().slash && !parse("/a", "").unwrap().slash);
        for bad in ["/a%2fb", "/a%2Fb", "/%", "/%4", "/%zz", "/a%00b"] {
            assert_eq!(parse(bad, "").unwrap_err().kind(), ErrorKind::InvalidPath, "{bad}");
        }
        assert_eq!(parse("/dav/x", "/dav").unwrap().path.display(), "/x");
        assert!(parse("/dav", "/dav").unwrap().path.is_root());
        for outside in ["/davx", "/x", "/"] {
            assert_eq!(parse(outside, "/dav").unwrap_err().kind(), ErrorKind::NotFound, "{outside}");
        }
        assert_eq!(write(&VPath::absolute("/a&b/c d").unwrap(), true, "/dav"), "/dav/a%26b/c%20d/");
        assert_eq!(write(&VPath::root(), true, ""), "/");
    }

    #[test]
    fn a_destination_is_on_this_server() {
        let to = |url: &str| {
            parse_url(url, "h.example:80", "/dav").map(|t| t.path.display()).map_err(|e| e.kind())
        };
        assert_eq!(to("http://h.example/dav/x"), Ok("/x".into()));
        assert_eq!(to("https://H.EXAMPLE:443/dav/x%20y?q#f"), Ok("/x y".into()));
        assert_eq!(to("/dav/x"), Ok("/x".into()));
        for elsewhere in [
            "http://other/dav/x",
            "http://h.example:8080/dav/x",
            "http://h.example.evil/dav/x",
            "ftp://h.example/dav/x",
            "http://h.example/secret",
            "/davx",
        ] {
            assert_eq!(to(elsewhere), Err(ErrorKind::CrossDevice), "{elsewhere}");
        }
        for bad in ["", "x", "//h.example/dav/x", "/dav/a%2fb"] {
            assert_eq!(to(bad), Err(ErrorKind::InvalidPath), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(raw in proptest::collection::vec(any::<u8>(), 0..60), dir: bool) {
            let Ok(path) = VPath::absolute(raw) else { return Ok(()) };
            let url = write(&path, dir, "/p");
            let back = parse(&url, "/p").unwrap();
            prop_assert_eq!(&back.path, &path);
            prop_assert!(path.is_root() || back.slash == dir);
            prop_assert!(url.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
