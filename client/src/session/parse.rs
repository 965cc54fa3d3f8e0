//! Session URLs, both ways: `scheme://[user[:password][;fingerprint=…][;x-name=…][;x-Setting=…]@]host[:port][/path]`.
//!
//! The library's rules ([`SessionOptions::parse_url`]): a path only for WebDAV and S3, where it is the root.
//! The scripts' rules ([`parse_script_url`]): a path is where the session begins. Parts are percent-decoded;
//! the host begins after the last at-sign before the first slash.
//!
//! Not here: names of stored sites; see [`crate::sites`].

use std::fmt::Write as _;

use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::options::{FtpSecure, Protocol, SessionOptions};
use crate::url::{decode_text, split_port};

/// Hosts whose `http` URLs mean S3.
const S3_HOSTS: [&str; 5] = [
    "amazonaws.com",
    "digitaloceanspaces.com",
    "storage.googleapis.com",
    "r2.cloudflarestorage.com",
    "oraclecloud.com",
];

/// Schemes, as URLs name them: protocol, TLS.
const SCHEMES: [(&str, Protocol, FtpSecure, bool); 11] = [
    ("sftp", Protocol::Sftp, FtpSecure::None, false),
    ("scp", Protocol::Scp, FtpSecure::None, false),
    ("ftp", Protocol::Ftp, FtpSecure::None, false),
    ("ftps", Protocol::Ftp, FtpSecure::Implicit, false),
    ("ftpes", Protocol::Ftp, FtpSecure::Explicit, false),
    ("dav", Protocol::Webdav, FtpSecure::None, false),
    ("http", Protocol::Webdav, FtpSecure::None, false),
    ("davs", Protocol::Webdav, FtpSecure::None, true),
    ("https", Protocol::Webdav, FtpSecure::None, true),
    ("s3", Protocol::S3, FtpSecure::None, true),
    ("s3plain", Protocol::S3, FtpSecure::None, false),
];

fn bad(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument)
        .with_detail(format!("this is not a session URL: {}", words.into()))
        .with_hint("write it as 'sftp://user:password@host:22'")
}

impl SessionOptions {
    /// Options from a session URL. Errors: `InvalidArgument` with what is wrong, never with the password;
    /// `Unsupported` for a raw setting that cannot apply.
    pub fn parse_url(url: &str) -> Result<Self> {
        Self::default().with_url(url)
    }

    /// These options with what a session URL says; user, password, fingerprints, policies, port and root
    /// path are reset first, as WinSCP does.
    pub fn with_url(self, url: &str) -> Result<Self> {
        let (mut options, path) = self.take_url(url)?;
        if let Some(path) = path.filter(|p| p != "/") {
            if !matches!(options.protocol, Protocol::S3 | Protocol::Webdav) {
                return Err(bad("a path is for WebDAV and S3 only"));
            }
            options = options.root_path(path)?;
        }
        Ok(options)
    }

    fn take_url(self, url: &str) -> Result<(Self, Option<String>)> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("there is no scheme"))?;
        let name = scheme.to_ascii_lowercase();
        let name = name.strip_prefix("winscp-").unwrap_or(&name);
        let found = SCHEMES.iter().find(|(known, ..)| *known == name);
        let (_, protocol, ftp_secure, secure) =
            found.ok_or_else(|| bad(format!("the scheme '{name}' is not known")))?;
        let mut options = SessionOptions {
            protocol: *protocol,
            ftp_secure: *ftp_secure,
            secure: *secure,
            user_name: None,
            password: None,
            ssh_host_key_fingerprint: None,
            ssh_host_key_policy: Default::default(),
            tls_host_certificate_fingerprint: None,
            accept_any_certificate: false,
            port_number: 0,
            root_path: None,
            ..self
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
            None => (rest, ""),
        };
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (login, host),
            None => ("", authority),
        };
        let (host, port) = split_host(host)?;
        options.host_name = host;
        options.port_number = port;
        let mut parts = login.split(';');
        let account = parts.next().unwrap_or_default();
        let (user, password) = match account.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (account, None),
        };
        if !user.is_empty() {
            options.user_name = Some(decode(user)?);
        }
        if let Some(password) = password {
            options.password = Some(Secret::new(decode(password)?));
        }
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| bad("a parameter is 'name=value'"))?;
            let (key, value) = (decode(key)?, decode(value)?);
            let lower = key.to_ascii_lowercase();
            options = match lower.strip_prefix("x-") {
                None if lower == "fingerprint" => options.pinned(&value)?,
                Some("name") => options.name(value),
                // The name as written: raw settings are found in any case.
                Some(_) => options.add_raw_setting(key.get(2..).unwrap_or_default(), &value)?,
                None => return Err(bad(format!("the parameter '{key}' is not known"))),
            };
        }
        if path.contains(';') {
            return Err(bad("no parameters follow the path"));
        }
        let path = if path.is_empty() { None } else { Some(decode(path)?) };
        Ok((options, path))
    }

    /// What is pinned: a host key or a certificate, as the protocol has it.
    pub(crate) fn pinned(self, text: &str) -> Result<Self> {
        match self.protocol {
            Protocol::Sftp | Protocol::Scp => self.ssh_host_key_fingerprint(text),
            Protocol::Ftp | Protocol::S3 | Protocol::Webdav => self.tls_host_certificate_fingerprint(text),
        }
    }

    /// The session URL of these options, without the password.
    pub fn to_url(&self) -> String {
        self.write_url(false)
    }

    /// The session URL with the password. Whoever sees it can log in.
    pub fn to_url_with_password(&self) -> String {
        self.write_url(true)
    }

    fn write_url(&self, with_password: bool) -> String {
        let found = SCHEMES.iter().find(|(_, protocol, ftp, secure)| {
            let tls = matches!(self.protocol, Protocol::S3 | Protocol::Webdav);
            *protocol == self.protocol && *ftp == self.ftp_secure && (!tls || *secure == self.secure)
        });
        let mut url = format!("{}://", found.map_or("sftp", |(name, ..)| name));
        let mut login = self.user_name.as_deref().map(encode).unwrap_or_default();
        if let Some(password) = self.password.as_ref().filter(|_| with_password) {
            let _ = write!(login, ":{}", encode(password.expose()));
        }
        let pin = self.ssh_host_key_fingerprint.as_ref().or(self.tls_host_certificate_fingerprint.as_ref());
        if let Some(pin) = pin {
            let _ = write!(login, ";fingerprint={}", encode(pin));
        }
        if let Some(name) = &self.name {
            let _ = write!(login, ";x-name={}", encode(name));
        }
        for (name, value) in &self.raw {
            if with_password || !super::raw::is_secret(name) {
                let _ = write!(login, ";x-{}={}", encode(name), encode(value));
            }
        }
        if !login.is_empty() {
            url.push_str(&login);
            url.push('@');
        }
        if self.host_name.contains(':') {
            let _ = write!(url, "[{}]", self.host_name.replace('%', "%25"));
        } else {
            url.push_str(&encode(&self.host_name));
        }
        if self.port_number != 0 {
            let _ = write!(url, ":{}", self.port_number);
        }
        match &self.root_path {
            Some(path) => url.extend(path.split_inclusive('/').map(|part| match part.strip_suffix('/') {
                Some(name) => format!("{}/", encode(name)),
                None => encode(part),
            })),
            None => url.push('/'),
        }
        url
    }
}

/// A URL as scripts and command lines have it: the options, and where the session begins. An `http` URL of
/// a host that is known for S3 means S3.
pub fn parse_script_url(url: &str) -> Result<(SessionOptions, Option<String>)> {
    let (mut options, path) = SessionOptions::default().take_url(url)?;
    let is_s3 = S3_HOSTS.iter().any(|known| {
        let rest = options.host_name.to_ascii_lowercase();
        rest.strip_suffix(known).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    });
    if options.protocol == Protocol::Webdav && is_s3 {
        options.protocol = Protocol::S3;
    }
    if matches!(options.protocol, Protocol::S3 | Protocol::Webdav) {
        if let Some(path) = path.filter(|p| p != "/") {
            options = options.root_path(path)?;
        }
        return Ok((options, None));
    }
    Ok((options, path))
}

/// Host and port, decoded; 0 where no port is named.
fn split_host(text: &str) -> Result<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        // The port may be encoded too.
        Some((host, port)) if !port.contains(']') => (host, format!(":{}", decode(port)?)),
        _ => (text, String::new()),
    };
    let (host, port) = split_port(&format!("{host}{port}"), "…").map_err(|_| bad("host or port are none"))?;
    let host = decode(&host)?;
    if host.is_empty() {
        return Err(bad("there is no host"));
    }
    Ok((host, port.unwrap_or(0)))
}

fn decode(text: &str) -> Result<String> {
    decode_text(text, "…").map_err(|_| bad("a percent sign is followed by two hexadecimal digits of UTF-8"))
}

/// Percent-encoding of everything that is not unreserved (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{FtpMode, SshHostKeyPolicy};

    fn parse(url: &str) -> SessionOptions {
        SessionOptions::parse_url(url).unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    #[test]
    fn schemes_say_protocol_and_protection() {
        for (url, protocol, secure, ftp, port) in [
            ("sftp://h", Protocol::Sftp, false, FtpSecure::None, 22),
            ("SFTP://h/", Protocol::Sftp, false, FtpSecure::None, 22),
            ("winscp-sftp://h", Protocol::Sftp, false, FtpSecure::None, 22),
            ("scp://h", Protocol::Scp, false, FtpSecure::None, 22),
            ("ftp://h", Protocol::Ftp, false, FtpSecure::None, 21),
            ("ftps://h", Protocol::Ftp, false, FtpSecure::Implicit, 990),
            ("ftpes://h", Protocol::Ftp, false, FtpSecure::Explicit, 21),
            ("dav://h", Protocol::Webdav, false, FtpSecure::None, 80),
            ("http://h", Protocol::Webdav, false, FtpSecure::None, 80),
            ("davs://h", Protocol::Webdav, true, FtpSecure::None, 443),
            ("https://h", Protocol::Webdav, true, FtpSecure::None, 443),
            ("s3://h", Protocol::S3, true, FtpSecure::None, 443),
            ("s3plain://h", Protocol::S3, false, FtpSecure::None, 80),
        ] {
            let o = parse(url);
            assert_eq!((o.protocol, o.secure, o.ftp_secure), (protocol, secure, ftp), "{url}");
            assert_eq!(o.port_or_default(), port, "{url}");
        }
    }

    #[test]
    fn every_part_is_decoded() {
        let o = parse("sftp://al%40ice:p%3A%2Fw%3B@ex%61mple.com:%32022");
        assert_eq!((o.user_name.as_deref(), o.host_name.as_str()), (Some("al@ice"), "example.com"));
        assert_eq!((o.password.unwrap().expose(), o.port_number), ("p:/w;", 2022));
        // The last at-sign before the first slash.
        let o = parse("sftp://u:a@b@h:22/");
        assert_eq!((o.password.unwrap().expose(), o.host_name.as_str()), ("a@b", "h"));
        let o = parse("sftp://[fe80::1%25eth0]:2022/");
        assert_eq!((o.host_name.as_str(), o.port_number), ("fe80::1%eth0", 2022));
        assert_eq!(parse("sftp://[::1]").host_name, "::1");
        assert_eq!(parse("sftp://u@h").password, None);
    }

    #[test]
    fn parameters_pin_and_set() {
        let md5 = ["aa"; 16].join("-");
        let o = parse(&format!("sftp://u:p;fingerprint=ssh-rsa-{md5};x-name=My%20site;x-SFTPMaxVersion=3@h"));
        assert_eq!(o.ssh_host_key_fingerprint, Some(format!("ssh-rsa-{md5}")));
        assert_eq!((o.name.as_deref(), o.raw_setting("SFTPMaxVersion")), (Some("My site"), Some("3")));
        assert_eq!(o.password.unwrap().expose(), "p");
        let sha1 = ["0f"; 20].join(":");
        let o = parse(&format!("ftpes://u;fingerprint={sha1};x-FtpPasvMode=0@h"));
        assert_eq!(o.tls_host_certificate_fingerprint, Some(sha1));
        assert_eq!(o.ftp_mode, FtpMode::Active);
    }

    #[test]
    fn what_was_set_is_reset() {
        let before = SessionOptions::sftp("old")
            .user_name("u")
            .password("p")
            .port_number(1)
            .ssh_host_key_policy(SshHostKeyPolicy::AcceptNew)
            .timeout(std::time::Duration::from_secs(40))
            .unwrap();
        let o = before.with_url("sftp://new").unwrap();
        assert_eq!((o.user_name, o.password, o.port_number), (None, None, 0));
        assert_eq!((o.ssh_host_key_policy, o.timeout.as_secs()), (SshHostKeyPolicy::Check, 40));
    }

    #[test]
    fn what_is_no_session_url_says_why_and_shows_no_password() {
        for (url, word) in [
            ("host", "no scheme"),
            ("gopher://u:secret@h", "'gopher' is not known"),
            ("sftp://u:secret@", "no host"),
            ("sftp://u:secret@h:x", "none"),
            ("sftp://u:secret@h:70000", "none"),
            ("sftp://u:secret@h/path", "WebDAV and S3"),
            ("sftp://u:secret@h/;save", "no parameters"),
            ("sftp://u:secret;color=1@h", "'color' is not known"),
            ("sftp://u:secret;x-Color=1@h", "'Color' is not known"),
            ("sftp://u:secret;fingerprint=x@h", "fingerprint"),
            ("sftp://u:secret%zz@h", "percent"),
        ] {
            let e = SessionOptions::parse_url(url).map(|_| ()).unwrap_err().to_string();
            assert!(e.contains(word), "{url}: {e}");
            assert!(!e.contains("secret"), "{e}");
        }
    }

    #[test]
    fn a_path_is_a_root_or_a_beginning() {
        assert_eq!(parse("davs://h/a%20b/").root_path.as_deref(), Some("/a b/"));
        assert_eq!(parse("sftp://h/").root_path, None);
        let (o, path) = parse_script_url("sftp://u@h/a%20b/").unwrap();
        assert_eq!((o.root_path, path.as_deref()), (None, Some("/a b/")));
        for (url, protocol) in [
            ("https://bucket.s3.amazonaws.com/x", Protocol::S3),
            ("https://x.r2.cloudflarestorage.com/", Protocol::S3),
            ("https://notamazonaws.com/", Protocol::Webdav),
        ] {
            assert_eq!(parse_script_url(url).unwrap().0.protocol, protocol, "{url}");
        }
    }

    #[test]
    fn urls_are_written_as_they_are_read() {
        let sha1 = ["0f"; 20].join(":");
        for url in [
            "sftp://h/".to_string(),
            "sftp://al%40ice:p%3A%2F@h:2022/".into(),
            format!("ftpes://u:p;fingerprint={};x-name=a%20b;x-FtpPasvMode=0@h/", sha1.replace(':', "%3A")),
            "s3plain://k:s@h/bucket/a%20b".into(),
            "sftp://u@[fe80::1%25eth0]:22/".into(),
        ] {
            let o = parse(&url);
            assert_eq!(o.to_url_with_password(), url);
            assert_eq!(parse(&o.to_url_with_password()), o);
            assert_eq!(parse(&o.to_url()).password, None);
        }
        let debug = format!("{:?}", parse("sftp://u:hunter2@h"));
        assert!(debug.contains("***") && !debug.contains("hunter2"), "{debug}");
    }
}
