//! Where a thing is: a local path or a URL.
//!
//! `sftp://[user[:password][;fingerprint=…]@]host[:port]/path`, percent-encoded (RFC 3986), the host in
//! brackets where it is an IPv6 address; the fingerprint may also stand before the password. The path is
//! absolute; `/~/x` is relative to the login folder (as in curl and OpenSSH's `sftp`). `site://NAME/path` is a
//! stored site ([`crate::sites`]): NAME is percent-encoded, so `%2F` stands for the slash between its folders;
//! without a path it is where the site begins. The other schemes are WinSCP's: `ftp` is FTP in the clear, `ftpes`
//! turns to TLS or fails, `ftps` is TLS from the first byte; `dav` and `http` are WebDAV in the clear, `davs` and
//! `https` over TLS; `s3` is S3 over TLS, `s3plain` in the clear: `s3://[key[:secret]@]host[:port]/bucket/path`. A
//! host of S3 without a dot and a port is the name of a bucket at AWS, as in AWS's own tools: `s3://bucket/path`.
//! Everything else is a local path, as is `file:///x`.

use std::fmt;
use std::path::PathBuf;

use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

/// A place.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// On this machine.
    Local(PathBuf),
    /// Behind a protocol.
    Remote(Url),
}

/// A URL taken apart.
#[derive(Clone, PartialEq)]
pub struct Url {
    /// The scheme, lower case: one that this build knows.
    pub scheme: String,
    /// The user, decoded.
    pub user: Option<String>,
    /// The password, decoded.
    pub password: Option<Secret>,
    /// The pinned host key or certificate, from `;fingerprint=`.
    pub fingerprint: Option<String>,
    /// The host, without brackets.
    pub host: String,
    /// The port, where one is given.
    pub port: Option<u16>,
    /// The path, decoded, beginning with a slash; of a site it may be empty.
    pub path: Vec<u8>,
}

/// The scheme of stored sites; the host is then the site's name.
pub const SITE: &str = "site";

/// The schemes that this build can open.
pub const SCHEMES: &[&str] = &[
    #[cfg(feature = "webdav")]
    "dav",
    #[cfg(feature = "webdav")]
    "davs",
    #[cfg(feature = "ftp")]
    "ftp",
    #[cfg(feature = "ftp")]
    "ftpes",
    #[cfg(feature = "ftp")]
    "ftps",
    #[cfg(feature = "webdav")]
    "http",
    #[cfg(feature = "webdav")]
    "https",
    #[cfg(feature = "s3")]
    "s3",
    #[cfg(feature = "s3")]
    "s3plain",
    #[cfg(feature = "sftp")]
    "scp",
    #[cfg(feature = "sftp")]
    "sftp",
];

/// AWS's S3, in whatever region.
const AWS: &str = "s3.amazonaws.com";

/// Every scheme, also of what this build leaves out.
const ALL: &[&str] =
    &["dav", "davs", "ftp", "ftpes", "ftps", "http", "https", "s3", "s3plain", "scp", "sftp"];

impl Location {
    /// Parses what a user wrote. Errors: `InvalidArgument` for a URL that makes no sense, `Unsupported`
    /// for a scheme that is not known.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Location::Local(PathBuf::from(text)));
        };
        let looks_like_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !looks_like_scheme {
            return Ok(Location::Local(PathBuf::from(text)));
        }
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(bad(text, "a file URL has no host: file:///path"));
            }
            use std::os::unix::ffi::OsStringExt;
            return Ok(Location::Local(PathBuf::from(std::ffi::OsString::from_vec(decode(path, text)?))));
        }
        if scheme == SITE {
            return Url::parse_site(rest, text).map(Location::Remote);
        }
        if !SCHEMES.contains(&scheme.as_str()) {
            let e = Error::new(ErrorKind::Unsupported)
                .with_detail(format!("the scheme '{scheme}' is not known"))
                .with_hint(format!("this build opens: {}", SCHEMES.join(", ")));
            return Err(if ALL.contains(&scheme.as_str()) {
                Error::new(ErrorKind::Unsupported)
                    .with_detail(format!("'{scheme}' is not in this build"))
                    .with_hint(format!("this build opens: {}", SCHEMES.join(", ")))
            } else {
                e
            });
        }
        Url::parse_rest(scheme, rest, text).map(Location::Remote)
    }
}

impl Url {
    /// The place in a stored site. The whole authority is its name, at-signs and colons too.
    fn parse_site(rest: &str, text: &str) -> Result<Self> {
        let (name, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let host = decode_text(name, text)?;
        if host.is_empty() {
            return Err(bad(text, "there is no site's name"));
        }
        let path = decode(path, text)?;
        if path.contains(&0) {
            return Err(bad(text, "the path holds a NUL byte"));
        }
        Ok(Url { path, ..Url::of_site(host) })
    }

    /// The place where a stored site begins.
    pub fn of_site(name: impl Into<String>) -> Self {
        Url {
            scheme: SITE.into(),
            user: None,
            password: None,
            fingerprint: None,
            host: name.into(),
            port: None,
            path: Vec::new(),
        }
    }

    /// The name of the stored site that this is a place of.
    pub fn site(&self) -> Option<&str> {
        (self.scheme == SITE).then_some(&self.host)
    }

    fn parse_rest(scheme: String, rest: &str, text: &str) -> Result<Self> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        // The last at-sign: an unencoded one in a password is a common mistake that does no harm.
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let (mut user, mut password, mut fingerprint) = (None, None, None);
        if let Some(login) = login {
            let (name, secret) = match login.split_once(':') {
                // `fingerprint=SHA256:…` holds a colon of its own.
                Some((name, secret)) if !name.contains(";fingerprint=") => (name, Some(secret)),
                _ => match login.split_once(";fingerprint=") {
                    Some((_, fp)) => match split_fingerprint(fp) {
                        Some(cut) => (login.get(..login.len() - cut.len() - 1).unwrap_or(login), Some(cut)),
                        None => (login, None),
                    },
                    None => (login, None),
                },
            };
            let (secret, pinned) = match secret.and_then(|secret| secret.rsplit_once(";fingerprint=")) {
                Some((secret, pinned)) => (Some(secret), Some(pinned)),
                None => (secret, None),
            };
            fingerprint = pinned.map(|pinned| decode_text(pinned, text)).transpose()?;
            let mut parts = name.split(';');
            let name = parts.next().unwrap_or_default();
            for part in parts {
                match part.split_once('=') {
                    Some(("fingerprint", value)) => fingerprint = Some(decode_text(value, text)?),
                    _ => return Err(bad(text, &format!("the parameter '{part}' is not known"))),
                }
            }
            if !name.is_empty() {
                user = Some(decode_text(name, text)?);
            }
            password = secret.map(|s| decode_text(s, text)).transpose()?.map(Secret::new);
        }
        let (mut host, port) = split_port(host, text)?;
        let mut path = std::borrow::Cow::Borrowed(path);
        if matches!(scheme.as_str(), "s3" | "s3plain") && port.is_none() && is_bucket(&host) {
            if !host.is_empty() {
                path = format!("/{host}{path}").into();
            }
            host = AWS.to_owned();
        }
        if host.is_empty() {
            return Err(bad(text, "there is no host"));
        }
        let host = decode_text(&host, text)?;
        let path = decode(&path, text)?;
        if path.contains(&0) {
            return Err(bad(text, "the path holds a NUL byte"));
        }
        Ok(Url { scheme, user, password, fingerprint, host, port, path })
    }

    /// The port, or the scheme's own.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(match self.scheme.as_str() {
            "ftp" | "ftpes" => 21,
            "ftps" => 990,
            "dav" | "http" | "s3plain" => 80,
            "davs" | "https" | "s3" => 443,
            _ => 22,
        })
    }

    /// The path below the root; `home` is where `/~/` begins.
    pub fn vpath(&self, home: &VPath) -> Result<VPath> {
        match self.path.strip_prefix(b"/~") {
            Some(rest) if rest.is_empty() || rest.first() == Some(&b'/') => {
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                VPath::parse(home, rest)
            }
            _ => VPath::absolute(&self.path),
        }
    }

    /// Whether the path begins at the login folder.
    pub fn is_relative_to_home(&self) -> bool {
        self.path == b"/~" || self.path.starts_with(b"/~/")
    }
}

/// Whether what stands for a host is a bucket at AWS, or nothing, which is AWS.
fn is_bucket(host: &str) -> bool {
    !host.eq_ignore_ascii_case("localhost") && !host.contains(['.', ':'])
}

/// A password that follows a fingerprint: what comes after its digest and a colon. A certificate's
/// digest is pairs of hexadecimal digits with colons or dashes between them: 20 of them or 32.
fn split_fingerprint(text: &str) -> Option<&str> {
    for pairs in [32, 20] {
        let digest = text.get(..pairs * 3 - 1).filter(|digest| is_pairs(digest));
        if digest.is_some() && text.as_bytes().get(pairs * 3 - 1).is_none_or(|b| *b == b':') {
            return text.get(pairs * 3..);
        }
    }
    let digest_at = text.find("SHA256:").map(|at| at + 7).or_else(|| text.find("MD5:").map(|at| at + 4 + 47));
    let rest = text.get(digest_at?..)?;
    rest.split_once(':').map(|(_, password)| password)
}

fn is_pairs(text: &str) -> bool {
    text.split([':', '-']).all(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(crate) fn split_port(host: &str, text: &str) -> Result<(String, Option<u16>)> {
    let port = |p: &str| {
        p.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(|| bad(text, &format!("'{p}' is not a port")))
    };
    if let Some(rest) = host.strip_prefix('[') {
        let (address, rest) =
            rest.split_once(']').ok_or_else(|| bad(text, "the bracket after the address is missing"))?;
        return match rest.strip_prefix(':') {
            Some(p) => Ok((address.to_string(), Some(port(p)?))),
            None if rest.is_empty() => Ok((address.to_string(), None)),
            None => Err(bad(text, "only a port may follow the address")),
        };
    }
    match host.rsplit_once(':') {
        Some((name, _)) if name.contains(':') => {
            Err(bad(text, "an IPv6 address is written in brackets: sftp://[::1]/"))
        }
        Some((name, p)) => Ok((name.to_string(), Some(port(p)?))),
        None => Ok((host.to_string(), None)),
    }
}

fn bad(text: &str, words: &str) -> Error {
    let shown = match text.rsplit_once('@') {
        // Nobody wants a password in an error message.
        Some((_, rest)) => format!("…@{rest}"),
        None => text.to_string(),
    };
    Error::new(ErrorKind::InvalidArgument).with_detail(format!("'{shown}' is not a URL: {words}"))
}

fn decode(text: &str, whole: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digits = (bytes.next(), bytes.next());
        let value = match digits {
            (Some(h), Some(l)) => {
                (char::from(h).to_digit(16)).zip(char::from(l).to_digit(16)).map(|(h, l)| h * 16 + l)
            }
            _ => None,
        };
        let value = value.and_then(|v| u8::try_from(v).ok());
        out.push(value.ok_or_else(|| bad(whole, "a percent sign is followed by two hexadecimal digits"))?);
    }
    Ok(out)
}

pub(crate) fn decode_text(text: &str, whole: &str) -> Result<String> {
    String::from_utf8(decode(text, whole)?).map_err(|_| bad(whole, "user, password and host are UTF-8"))
}

impl fmt::Display for Url {
    /// Without password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(name) = self.site() {
            f.write_str(&name.replace('%', "%25").replace('/', "%2F"))?;
            return f.write_str(&session_core::path::display_bytes(&self.path));
        }
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&session_core::path::display_bytes(&self.path))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        match Location::parse(text).unwrap() {
            Location::Remote(url) => url,
            Location::Local(p) => panic!("{text} is local: {p:?}"),
        }
    }

    #[test]
    fn takes_urls_apart() {
        let u = url("sftp://al%40ice:p%3Aw@example.com:2022/a%20b/%ff");
        assert_eq!(u.user.as_deref(), Some("al@ice"));
        assert_eq!(u.password.as_ref().map(|p| p.expose().to_string()).as_deref(), Some("p:w"));
        assert_eq!((u.host.as_str(), u.port), ("example.com", Some(2022)));
        assert_eq!(u.path, b"/a b/\xff");
        let u = url("SFTP://[::1]");
        assert_eq!((u.host.as_str(), u.port_or_default(), u.path.as_slice()), ("::1", 22, &b"/"[..]));
        assert_eq!(url("sftp://u:a@b@h/").password.unwrap().expose(), "a@b");
    }

    #[test]
    fn knows_a_pinned_fingerprint() {
        let digest = "A".repeat(43);
        let u = url(&format!("sftp://u;fingerprint=SHA256:{digest}:pw@h/"));
        assert_eq!(u.fingerprint, Some(format!("SHA256:{digest}")));
        assert_eq!(u.password.unwrap().expose(), "pw");
        // WinSCP's order.
        let u = url(&format!("sftp://u:p;w;fingerprint=SHA256:{digest}@h/"));
        assert_eq!(u.fingerprint, Some(format!("SHA256:{digest}")));
        assert_eq!((u.user.as_deref(), u.password.unwrap().expose()), (Some("u"), "p;w"));
        let u = url(&format!("sftp://u;fingerprint=SHA256:{digest}@h/"));
        assert_eq!((u.fingerprint, u.password.is_none()), (Some(format!("SHA256:{digest}")), true));
    }

    #[test]
    #[cfg(feature = "ftp")]
    fn a_certificate_is_pinned_by_pairs_of_digits() {
        for (pairs, between) in [(32, ":"), (32, "-"), (20, ":"), (20, "-")] {
            let digest = vec!["a1"; pairs].join(between);
            let u = url(&format!("ftpes://u;fingerprint={digest}:p:w@h/"));
            assert_eq!(u.fingerprint.as_deref(), Some(digest.as_str()));
            assert_eq!((u.password.unwrap().expose(), u.port), ("p:w", None));
            let u = url(&format!("ftps://u;fingerprint={digest}@h/"));
            assert_eq!((u.fingerprint, u.password.is_none()), (Some(digest), true));
        }
        assert_eq!(url("ftps://h/").port_or_default(), 990);
        assert_eq!(url("ftpes://h/").port_or_default(), 21);
        assert_eq!(url("FTP://h/").port_or_default(), 21);
    }

    #[test]
    #[cfg(feature = "webdav")]
    fn webdav_has_the_names_that_winscp_gives_it() {
        for (text, port) in [("dav://h/x", 80), ("http://h/x", 80), ("davs://h/x", 443), ("HTTPS://h/x", 443)]
        {
            assert_eq!(url(text).port_or_default(), port, "{text}");
        }
        let digest = vec!["a1"; 32].join(":");
        let u = url(&format!("davs://u:p;fingerprint={digest}@h:8443/a%20b/"));
        assert_eq!(
            (u.fingerprint.as_deref(), u.port, u.path.as_slice()),
            (Some(digest.as_str()), Some(8443), &b"/a b/"[..])
        );
    }

    #[test]
    #[cfg(feature = "s3")]
    fn a_host_of_s3_may_be_a_bucket() {
        for (text, host, port, path) in [
            ("s3://photos/2024/a%20b", "s3.amazonaws.com", 443, "/photos/2024/a b"),
            ("s3://photos", "s3.amazonaws.com", 443, "/photos/"),
            ("s3:///photos/x", "s3.amazonaws.com", 443, "/photos/x"),
            ("s3://s3.eu-west-1.amazonaws.com/photos/", "s3.eu-west-1.amazonaws.com", 443, "/photos/"),
            ("s3://key:se%2Fcret@minio.example:9000/b/x", "minio.example", 9000, "/b/x"),
            ("s3plain://localhost/b", "localhost", 80, "/b"),
            ("s3plain://minio:9000/b", "minio", 9000, "/b"),
            ("s3://[::1]/b", "::1", 443, "/b"),
        ] {
            let u = url(text);
            assert_eq!(
                (u.host.as_str(), u.port_or_default(), u.path.as_slice()),
                (host, port, path.as_bytes()),
                "{text}"
            );
            // What is shown is understood in the same way.
            assert_eq!(url(&u.to_string()).host, u.host, "{text}");
        }
        assert_eq!(url("s3://key:se%2Fcret@h.example/").password.unwrap().expose(), "se/cret");
    }

    #[test]
    fn the_login_folder_is_a_tilde() {
        let home = VPath::absolute("/files/u").unwrap();
        assert_eq!(url("sftp://h/~/x/../y").vpath(&home).unwrap(), VPath::absolute("/files/u/y").unwrap());
        assert_eq!(url("sftp://h/~").vpath(&home).unwrap(), home);
        assert_eq!(url("sftp://h/~x").vpath(&home).unwrap(), VPath::absolute("/~x").unwrap());
    }

    #[test]
    fn what_is_no_url_is_local() {
        for local in ["a/b", "/a", "c:d", "1://x", "."] {
            assert!(matches!(Location::parse(local), Ok(Location::Local(_))), "{local}");
        }
        assert_eq!(Location::parse("file:///a%20b").unwrap(), Location::Local("/a b".into()));
    }

    #[test]
    fn a_stored_site_is_named_and_nothing_else_is_taken_for_one() {
        let u = url("site://Customers%2FACME web/a%20b/");
        assert_eq!((u.site(), u.path.as_slice()), (Some("Customers/ACME web"), &b"/a b/"[..]));
        assert_eq!(u.to_string(), "site://Customers%2FACME web/a b/");
        assert_eq!(url("SITE://me@host:22").site(), Some("me@host:22"));
        assert!(url("site://x").path.is_empty());
        assert_eq!(url("site://x/~/y").vpath(&VPath::absolute("/h").unwrap()).unwrap().display(), "/h/y");
        assert_eq!(url("sftp://x/").site(), None);
        for local in ["site:x", "site:/x", "site"] {
            assert!(matches!(Location::parse(local), Ok(Location::Local(_))), "{local}");
        }
        for bad in ["site://", "site:///x", "site://%zz", "site://x/%00"] {
            assert_eq!(Location::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong_and_never_show_a_password() {
        for (bad, word) in [
            ("sftp:///x", "no host"),
            ("sftp://u:secret@h:port/", "port"),
            ("sftp://h/%zz", "hexadecimal"),
            ("sftp://::1/", "brackets"),
            ("sftp://h:0/", "port"),
            ("sftp://h/%00", "NUL"),
            ("gopher://h/", "not known"),
        ] {
            let e = Location::parse(bad).unwrap_err().to_string();
            assert!(e.contains(word), "{bad}: {e}");
            assert!(!e.contains("secret"), "{e}");
        }
    }
}
