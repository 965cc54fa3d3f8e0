//! `SessionOptions`: everything that says how a session is opened, in WinSCP's names and with its rules.
//!
//! A value that cannot be is refused when it is assigned; what only shows in combination is refused by
//! [`SessionOptions::check`], which opening calls first. What Ferry cannot do is refused by name and never
//! ignored. Secrets have a type that does not print.
//!
//! Not here: SCP can be described, parsed and checked; no session can be opened to it yet.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::{algorithms, fingerprint, raw};

/// A protocol, by WinSCP's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// FTP, with [`FtpSecure`] over TLS.
    Ftp,
    /// S3.
    S3,
    /// SCP.
    Scp,
    /// SFTP, and nothing else where a server has none.
    #[default]
    Sftp,
    /// WebDAV.
    Webdav,
}

impl Protocol {
    pub(super) fn is_ssh(self) -> bool {
        matches!(self, Protocol::Sftp | Protocol::Scp)
    }
}

/// What to do about a server's host key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SshHostKeyPolicy {
    /// A key that is not on record is put there; one that differs from the record is refused.
    AcceptNew,
    /// The pinned fingerprint decides, else the record of known hosts, else the decider; no answer is a no.
    #[default]
    Check,
    /// Any key is taken: whoever sits in between reads and changes everything.
    GiveUpSecurityAndAcceptAny,
}

/// Who opens FTP's data connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FtpMode {
    /// The server.
    Active,
    /// The client.
    #[default]
    Passive,
}

/// How FTP is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FtpSecure {
    /// TLS after a greeting in the clear, or nothing.
    Explicit,
    /// TLS from the first byte.
    Implicit,
    /// Not at all.
    #[default]
    None,
}

/// The host that stands for S3 where none is named.
const S3_HOST: &str = "s3.amazonaws.com";

/// How a session is opened.
#[derive(Clone, PartialEq)]
pub struct SessionOptions {
    pub(crate) protocol: Protocol,
    pub(crate) host_name: String,
    pub(crate) port_number: u16,
    pub(crate) user_name: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) new_password: Option<Secret>,
    pub(crate) timeout: Duration,
    pub(crate) name: Option<String>,
    pub(crate) root_path: Option<String>,
    pub(crate) secure: bool,
    pub(crate) ssh_host_key_fingerprint: Option<String>,
    pub(crate) ssh_host_key_policy: SshHostKeyPolicy,
    pub(crate) ssh_private_key_path: Option<PathBuf>,
    pub(crate) ssh_private_key: Option<Secret>,
    pub(crate) private_key_passphrase: Option<Secret>,
    pub(crate) ftp_mode: FtpMode,
    pub(crate) ftp_secure: FtpSecure,
    pub(crate) tls_host_certificate_fingerprint: Option<String>,
    pub(crate) accept_any_certificate: bool,
    pub(crate) tls_client_certificate_path: Option<PathBuf>,
    pub(crate) raw: Vec<(String, String)>,
    pub(crate) known_hosts: Option<PathBuf>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            protocol: Protocol::default(),
            host_name: String::new(),
            port_number: 0,
            user_name: None,
            password: None,
            new_password: None,
            timeout: Duration::from_secs(15),
            name: None,
            root_path: None,
            secure: false,
            ssh_host_key_fingerprint: None,
            ssh_host_key_policy: SshHostKeyPolicy::default(),
            ssh_private_key_path: None,
            ssh_private_key: None,
            private_key_passphrase: None,
            ftp_mode: FtpMode::default(),
            ftp_secure: FtpSecure::default(),
            tls_host_certificate_fingerprint: None,
            accept_any_certificate: false,
            tls_client_certificate_path: None,
            raw: Vec::new(),
            known_hosts: None,
        }
    }
}

pub(super) fn bad(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

pub(super) fn not_yet(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported).with_detail(words.into())
}

impl SessionOptions {
    /// SFTP to nowhere yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// SFTP to this host.
    pub fn sftp(host: impl Into<String>) -> Self {
        SessionOptions { host_name: host.into(), ..Self::default() }
    }

    /// FTP to this host, in the clear until [`ftp_secure`](Self::ftp_secure) says otherwise.
    pub fn ftp(host: impl Into<String>) -> Self {
        SessionOptions { protocol: Protocol::Ftp, host_name: host.into(), ..Self::default() }
    }

    /// The protocol. S3 without a host names Amazon's, with TLS.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        if protocol == Protocol::S3 && self.host_name.is_empty() {
            self.host_name = S3_HOST.into();
            self.secure = true;
        }
        self
    }

    /// The host: a name or an address, without brackets.
    pub fn host_name(mut self, host: impl Into<String>) -> Self {
        self.host_name = host.into();
        self
    }

    /// The port; 0 is the protocol's own.
    pub fn port_number(mut self, port: u16) -> Self {
        self.port_number = port;
        self
    }

    /// Who logs in; S3: the key's id.
    pub fn user_name(mut self, user: impl Into<String>) -> Self {
        self.user_name = Some(user.into());
        self
    }

    /// The password; S3: the secret of the key.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Secret::new(password));
        self
    }

    /// The password to change to at login, where the server asks for one.
    pub fn new_password(mut self, password: impl Into<String>) -> Self {
        self.new_password = Some(Secret::new(password));
        self
    }

    /// How long the server may take to answer; whole seconds, at least one. Errors: `InvalidArgument`.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self> {
        if timeout < Duration::from_secs(1) {
            return Err(bad("the time-out is at least a second"));
        }
        self.timeout = Duration::from_secs(timeout.as_secs());
        Ok(self)
    }

    /// A name to show; else it is `user@host`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// WebDAV and S3: where the tree begins. Errors: `InvalidArgument` unless it begins with a slash.
    pub fn root_path(mut self, path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        if !path.starts_with('/') {
            return Err(bad("the root path begins with a slash"));
        }
        self.root_path = Some(path);
        Ok(self)
    }

    /// WebDAV and S3: over TLS.
    pub fn secure(mut self, yes: bool) -> Self {
        self.secure = yes;
        self
    }

    /// The host key, or several set apart by semicolons. Errors: `InvalidArgument` for what does not
    /// follow the grammar.
    pub fn ssh_host_key_fingerprint(mut self, text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        fingerprint::host_keys(&text)?;
        self.ssh_host_key_fingerprint = Some(text);
        Ok(self)
    }

    /// What to do about the host key.
    pub fn ssh_host_key_policy(mut self, policy: SshHostKeyPolicy) -> Self {
        self.ssh_host_key_policy = policy;
        self
    }

    /// The file of the private key.
    pub fn ssh_private_key_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.ssh_private_key_path = Some(path.into());
        self
    }

    /// The content of the private key.
    pub fn ssh_private_key(mut self, content: impl Into<String>) -> Self {
        self.ssh_private_key = Some(Secret::new(content));
        self
    }

    /// What opens the private key or the client certificate.
    pub fn private_key_passphrase(mut self, phrase: impl Into<String>) -> Self {
        self.private_key_passphrase = Some(Secret::new(phrase));
        self
    }

    /// Who opens FTP's data connections.
    pub fn ftp_mode(mut self, mode: FtpMode) -> Self {
        self.ftp_mode = mode;
        self
    }

    /// How FTP is protected.
    pub fn ftp_secure(mut self, secure: FtpSecure) -> Self {
        self.ftp_secure = secure;
        self
    }

    /// The server's certificate, or several set apart by semicolons. Errors: `InvalidArgument`.
    pub fn tls_host_certificate_fingerprint(mut self, text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        fingerprint::certificates(&text)?;
        self.tls_host_certificate_fingerprint = Some(text);
        Ok(self)
    }

    /// Any certificate is taken: whoever sits in between reads and changes everything.
    pub fn give_up_security_and_accept_any_tls_host_certificate(mut self, yes: bool) -> Self {
        self.accept_any_certificate = yes;
        self
    }

    /// The file of the client's certificate.
    pub fn tls_client_certificate_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_client_certificate_path = Some(path.into());
        self
    }

    /// The record of known hosts; else the user's own and the system's.
    pub fn known_hosts(mut self, file: impl Into<PathBuf>) -> Self {
        self.known_hosts = Some(file.into());
        self
    }

    /// A raw setting by WinSCP's name; see [`raw::SETTINGS`]. Errors: `InvalidArgument` for a name that is
    /// not known, that was given before, or a value that is none; `Unsupported` with the reason for what
    /// cannot apply.
    pub fn add_raw_setting(self, name: &str, value: &str) -> Result<Self> {
        if self.raw.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return Err(bad(format!("the raw setting '{name}' was given before")));
        }
        let setting = raw::check(name, value)?;
        let mut options = self.typed(setting.name, value)?;
        options.raw.push((setting.name.replace("Bug…", name), value.to_string()));
        Ok(options)
    }

    /// Sets the typed option that a raw setting stands for.
    fn typed(mut self, name: &str, value: &str) -> Result<Self> {
        match name {
            "HostName" => self.host_name = value.into(),
            "PortNumber" => self.port_number = value.parse().unwrap_or(0),
            "UserName" => self.user_name = Some(value.into()),
            "Timeout" => self.timeout = Duration::from_secs(value.parse().unwrap_or(15)),
            "PublicKeyFile" => self.ssh_private_key_path = Some(value.into()),
            "TlsCertificateFile" => self.tls_client_certificate_path = Some(value.into()),
            "FtpPasvMode" if value == "0" => self.ftp_mode = FtpMode::Active,
            "FtpPasvMode" => self.ftp_mode = FtpMode::Passive,
            "Ftps" => {
                self.ftp_secure = match value {
                    "0" => FtpSecure::None,
                    "1" => FtpSecure::Implicit,
                    "3" => FtpSecure::Explicit,
                    _ => return Err(not_yet("'Ftps=2', explicit SSL, is older than TLS and gone")),
                }
            }
            "SourceAddress" if !value.is_empty() && value.parse::<std::net::IpAddr>().is_err() => {
                return Err(bad(format!("the raw setting 'SourceAddress': '{value}' is not an address")));
            }
            "TunnelHostKey" if !value.is_empty() => {
                fingerprint::host_keys(value)?;
            }
            "Cipher" | "HostKey" | "KEX" if !value.is_empty() => {
                algorithms::list(name, value)?;
            }
            "RekeyBytes" if !value.is_empty() => {
                algorithms::rekey_bytes(value)?;
            }
            "LogicalHostName" if value.contains(':') => {
                return Err(not_yet("the raw setting 'LogicalHostName' is a name without a port"));
            }
            _ => {}
        }
        Ok(self)
    }

    /// What a raw setting was set to.
    pub fn raw_setting(&self, name: &str) -> Option<&str> {
        self.raw.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The name to show: the given one, else `user@host`, else the host.
    pub fn shown_name(&self) -> String {
        match (&self.name, &self.user_name) {
            (Some(name), _) => name.clone(),
            (None, Some(user)) => format!("{user}@{}", self.host_name),
            (None, None) => self.host_name.clone(),
        }
    }

    /// The port that is connected to.
    pub fn port_or_default(&self) -> u16 {
        match (self.port_number, self.protocol) {
            (0, Protocol::Ftp) if self.ftp_secure == FtpSecure::Implicit => 990,
            (0, Protocol::Ftp) => 21,
            (0, Protocol::Scp | Protocol::Sftp) => 22,
            (0, Protocol::S3 | Protocol::Webdav) if self.secure => 443,
            (0, Protocol::S3 | Protocol::Webdav) => 80,
            (port, _) => port,
        }
    }

    /// Whether SSH is spoken.
    pub(super) fn is_ssh(&self) -> bool {
        self.protocol.is_ssh()
    }

    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self) -> bool {
        match self.protocol {
            Protocol::Ftp => self.ftp_secure != FtpSecure::None,
            Protocol::S3 | Protocol::Webdav => self.secure,
            Protocol::Scp | Protocol::Sftp => false,
        }
    }

    /// Whether all this can be meant together. Errors: `InvalidArgument` with what contradicts.
    pub fn check(&self) -> Result<()> {
        let ssh = self.protocol.is_ssh();
        let http = matches!(self.protocol, Protocol::S3 | Protocol::Webdav);
        let pinned = self.ssh_host_key_fingerprint.is_some();
        let policy = self.ssh_host_key_policy;
        let key = self.ssh_private_key_path.is_some() || self.ssh_private_key.is_some();
        let faults = [
            (self.host_name.is_empty(), "there is no host name"),
            (self.password.is_some() && self.user_name.is_none(), "there is a password and no user name"),
            (self.new_password.is_some() && !ssh, "a new password is set over SSH only"),
            (self.new_password.is_some() && self.password.is_none(), "a new password needs the old one"),
            (self.root_path.is_some() && !http, "a root path is for WebDAV and S3"),
            (self.secure && !http, "'secure' is for WebDAV and S3; FTP has FtpSecure"),
            (pinned && !ssh, "a host key fingerprint is for SFTP and SCP"),
            (policy != SshHostKeyPolicy::Check && !ssh, "a host key policy is for SFTP and SCP"),
            (
                pinned && policy == SshHostKeyPolicy::AcceptNew,
                "to accept new host keys and to pin one are not meant together",
            ),
            (key && !ssh, "a private key is for SFTP and SCP"),
            (
                self.ssh_private_key_path.is_some() && self.ssh_private_key.is_some(),
                "a private key is given by its file or by its content",
            ),
            (
                self.private_key_passphrase.is_some() && !key && self.tls_client_certificate_path.is_none(),
                "there is a passphrase and nothing that it opens",
            ),
            (self.protocol != Protocol::Ftp && self.ftp_secure != FtpSecure::None, "FtpSecure is for FTP"),
            (
                self.tls_host_certificate_fingerprint.is_some() && !self.is_tls(),
                "a certificate fingerprint needs TLS",
            ),
            (self.accept_any_certificate && !self.is_tls(), "accepting any certificate needs TLS"),
            (self.tls_client_certificate_path.is_some() && !self.is_tls(), "a client certificate needs TLS"),
        ];
        match faults.iter().find(|(is_fault, _)| *is_fault) {
            Some((_, words)) => Err(bad(*words)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for SessionOptions {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<Secret>| secret.as_ref().map(|_| "***");
        let raw: Vec<_> = self
            .raw
            .iter()
            .map(|(name, value)| (name.as_str(), if raw::is_secret(name) { "***" } else { value.as_str() }))
            .collect();
        f.debug_struct("SessionOptions")
            .field("protocol", &self.protocol)
            .field("host_name", &self.host_name)
            .field("port_number", &self.port_number)
            .field("user_name", &self.user_name)
            .field("password", &hidden(&self.password))
            .field("new_password", &hidden(&self.new_password))
            .field("timeout", &self.timeout)
            .field("name", &self.name)
            .field("root_path", &self.root_path)
            .field("secure", &self.secure)
            .field("ssh_host_key_fingerprint", &self.ssh_host_key_fingerprint)
            .field("ssh_host_key_policy", &self.ssh_host_key_policy)
            .field("ssh_private_key_path", &self.ssh_private_key_path)
            .field("ssh_private_key", &hidden(&self.ssh_private_key))
            .field("private_key_passphrase", &hidden(&self.private_key_passphrase))
            .field("ftp_mode", &self.ftp_mode)
            .field("ftp_secure", &self.ftp_secure)
            .field("tls_host_certificate_fingerprint", &self.tls_host_certificate_fingerprint)
            .field("accept_any_certificate", &self.accept_any_certificate)
            .field("tls_client_certificate_path", &self.tls_client_certificate_path)
            .field("raw", &raw)
            .field("known_hosts", &self.known_hosts)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "0a:1b:2c:3d:4e:5f:60:71:82:93:a4:b5:c6:d7:e8:f9";
    const SHA1: &str = "0a:1b:2c:3d:4e:5f:60:71:82:93:a4:b5:c6:d7:e8:f9:0a:1b:2c:3d";

    fn sftp() -> SessionOptions {
        SessionOptions::sftp("h")
    }

    fn ftp() -> SessionOptions {
        SessionOptions::ftp("h")
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        use SshHostKeyPolicy::*;
        for (options, word) in [
            (SessionOptions::new(), "no host name"),
            (sftp().password("p"), "no user name"),
            (ftp().user_name("u").password("p").new_password("q"), "over SSH only"),
            (sftp().user_name("u").new_password("q"), "needs the old one"),
            (sftp().root_path("/").unwrap(), "WebDAV and S3"),
            (sftp().secure(true), "'secure'"),
            (ftp().ssh_host_key_fingerprint(MD5).unwrap(), "host key fingerprint"),
            (ftp().ssh_host_key_policy(AcceptNew), "host key policy"),
            (
                sftp().ssh_host_key_fingerprint(MD5).unwrap().ssh_host_key_policy(AcceptNew),
                "not meant together",
            ),
            (ftp().ssh_private_key_path("k"), "private key"),
            (sftp().ssh_private_key_path("k").ssh_private_key("k"), "by its file or by its content"),
            (sftp().private_key_passphrase("p"), "nothing that it opens"),
            (sftp().ftp_secure(FtpSecure::Explicit), "for FTP"),
            (ftp().tls_host_certificate_fingerprint(SHA1).unwrap(), "needs TLS"),
            (ftp().give_up_security_and_accept_any_tls_host_certificate(true), "needs TLS"),
            (ftp().tls_client_certificate_path("c"), "needs TLS"),
        ] {
            let e = options.check().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(e.to_string().contains(word), "{word}: {e}");
        }
        let good = ftp().ftp_secure(FtpSecure::Explicit).tls_host_certificate_fingerprint(SHA1).unwrap();
        good.check().unwrap();
    }

    #[test]
    fn values_are_refused_when_they_are_assigned() {
        assert!(sftp().ssh_host_key_fingerprint("*").is_err());
        assert!(sftp().tls_host_certificate_fingerprint("*").is_err());
        assert!(sftp().root_path("x").is_err());
        assert!(sftp().timeout(Duration::from_millis(900)).is_err());
        assert_eq!(sftp().timeout(Duration::from_millis(1900)).unwrap().timeout.as_secs(), 1);
        let twice = sftp().add_raw_setting("PingType", "1").unwrap().add_raw_setting("pingtype", "1");
        assert!(twice.unwrap_err().to_string().contains("before"));
        for (name, value) in
            [("SourceAddress", "eth0"), ("TunnelHostKey", "*"), ("LogicalHostName", "h:2022")]
        {
            assert!(sftp().add_raw_setting(name, value).is_err(), "{name}");
            assert!(sftp().add_raw_setting(name, "").is_ok(), "{name}");
        }
        assert_eq!(SessionOptions::new().protocol(Protocol::S3).host_name, S3_HOST);
        let named = SessionOptions::sftp("h").protocol(Protocol::S3);
        assert_eq!((named.host_name.as_str(), named.secure), ("h", false));
    }

    #[test]
    fn raw_settings_are_other_names_of_typed_options() {
        let o = sftp()
            .add_raw_setting("portnumber", "2022")
            .and_then(|o| o.add_raw_setting("UserName", "u"))
            .and_then(|o| o.add_raw_setting("Timeout", "33"))
            .and_then(|o| o.add_raw_setting("PublicKeyFile", "/k"))
            .unwrap();
        assert_eq!((o.port_number, o.user_name.as_deref(), o.timeout.as_secs()), (2022, Some("u"), 33));
        assert_eq!(o.ssh_private_key_path, Some("/k".into()));
        let o = ftp().add_raw_setting("Ftps", "3").unwrap();
        assert_eq!(o.ftp_secure, FtpSecure::Explicit);
        assert!(ftp().add_raw_setting("Ftps", "2").is_err());
        assert_eq!(sftp().user_name("u").shown_name(), "u@h");
    }
}
