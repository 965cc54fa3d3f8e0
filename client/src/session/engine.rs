//! The engine's options, made of a session's: the one place where WinSCP's words become [`connect::Options`].
//!
//! Numbers and switches mean what WinSCP's documentation of raw settings says; [`super::raw`] has checked their
//! values. What the engine cannot do is refused here by name. A jump host (`Tunnel…`) is entered with what is
//! said of it and with nothing that is meant for the target. What gives up security (any host key) counts for
//! the target only.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use session_core::auth::Secret;
use session_core::error::Result;
use session_core::net::dial::{Family, bare};
use session_core::net::proxy::{Endpoint, Login, Proxy};

use super::options::{FtpMode, FtpSecure, Protocol, SessionOptions, SshHostKeyPolicy, bad, not_yet};
use super::{algorithms, fingerprint, raw};
use crate::connect;
use crate::encrypted::FileKey;
use crate::url::Url;

impl SessionOptions {
    /// The engine's options. Errors: those of [`check`](Self::check); `Unsupported`, with the reason, for what the
    /// engine cannot do.
    pub(crate) fn to_connect(&self) -> Result<connect::Options> {
        self.check()?;
        let scheme = match (self.protocol, self.ftp_secure) {
            (Protocol::Sftp, _) => "sftp",
            (Protocol::Ftp, FtpSecure::None) => "ftp",
            (Protocol::Ftp, FtpSecure::Explicit) => "ftpes",
            (Protocol::Ftp, FtpSecure::Implicit) => "ftps",
            (Protocol::Scp, _) => "scp",
            (Protocol::Webdav, _) if self.secure => "davs",
            (Protocol::Webdav, _) => "dav",
            (Protocol::S3, _) if self.secure => "s3",
            (Protocol::S3, _) => "s3plain",
        };
        let url = Url {
            scheme: scheme.into(),
            user: self.user_name.clone(),
            password: self.password.clone(),
            fingerprint: None,
            host: self.host_name.clone(),
            port: Some(self.port_or_default()),
            path: self.root_path.as_deref().unwrap_or("/").as_bytes().to_vec(),
        };
        let options = connect::Options::from_url(&url)?
            .timeout(self.timeout)
            .family(match self.number("AddressFamily") {
                1 => Some(Family::V4),
                2 => Some(Family::V6),
                _ => None,
            })
            .source(self.set("SourceAddress").and_then(|text| text.parse().ok()))
            .after_login(self.after_login()?)
            .file_key(self.set("EncryptKey").map(FileKey::parse).transpose()?.map(Arc::new))
            .proxy(self.proxy()?);
        match self.protocol {
            Protocol::Sftp | Protocol::Scp => self.over_ssh(options),
            #[cfg(feature = "s3")]
            Protocol::S3 => Ok(self.over_tls(options)?.s3(|_| self.s3())),
            _ => self.over_tls(options),
        }
    }

    /// Whether directories are gone into to which symbolic links lead. What is not resolved is not known to lead to one.
    pub(super) fn follows_links(&self) -> bool {
        self.number("FollowDirectorySymlinks") == 1 && self.resolves_links()
    }

    /// Whether what is asked of a link is what it leads to.
    pub(super) fn resolves_links(&self) -> bool {
        self.number("ResolveSymlinks") == 1
    }

    /// Whether files are encrypted before they leave.
    pub(crate) fn encrypts(&self) -> bool {
        self.set("EncryptKey").is_some()
    }

    /// What a raw setting says, if it says anything.
    fn set(&self, name: &str) -> Option<&str> {
        self.raw_setting(name).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str) -> u64 {
        let default = || raw::find(name).map_or("", |s| s.default);
        self.raw_setting(name).unwrap_or_else(default).parse().unwrap_or(0)
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        self.set(name).map(Secret::new)
    }

    /// The commands that are run after the login, one a line. Errors: `Unsupported` where nobody runs any.
    fn after_login(&self) -> Result<Vec<Vec<u8>>> {
        let lines = self.set("PostLoginCommands").unwrap_or_default().lines().map(str::trim);
        let lines: Vec<Vec<u8>> = lines.filter(|l| !l.is_empty()).map(|l| l.as_bytes().to_vec()).collect();
        if !lines.is_empty() && !self.is_ssh() && self.protocol != Protocol::Ftp {
            return Err(not_yet("'PostLoginCommands': over WebDAV and S3 there is nobody to run them"));
        }
        Ok(lines)
    }

    /// What is spoken over SSH.
    fn spoken(&self) -> Result<connect::SshSpoken> {
        let list = |name: &str| self.set(name).map(|value| algorithms::list(name, value)).transpose();
        let minutes = self.raw_setting("RekeyTime").map(|_| self.number("RekeyTime"));
        Ok(connect::SshSpoken {
            ciphers: list("Cipher")?,
            kex: list("KEX")?,
            host_keys: list("HostKey")?,
            rekey_bytes: self.set("RekeyBytes").map(algorithms::rekey_bytes).transpose()?,
            rekey_time: minutes.map(|minutes| Duration::from_secs(minutes * 60)),
            sftp_server: self.set("SftpServer").map(str::to_owned),
        })
    }

    /// The alternatives of a list with semicolons.
    fn alternatives(text: Option<&str>) -> Vec<String> {
        text.into_iter().flat_map(|t| t.split(';')).map(|t| t.trim().to_string()).collect()
    }

    fn over_ssh(&self, options: connect::Options) -> Result<connect::Options> {
        let every = Duration::from_secs(self.number("PingIntervalSecs"));
        self.time_offset()?;
        let keepalive = match self.raw_setting("PingType") {
            Some("0") => Some(None),
            Some(_) => Some(Some(every)),
            // Ferry asks a silent server by itself; only how often may be said.
            None => self.raw_setting("PingIntervalSecs").map(|_| Some(every)),
        };
        let mut options = options
            .accept_new(self.ssh_host_key_policy == SshHostKeyPolicy::AcceptNew)
            .identities(self.ssh_private_key_path.clone().into_iter().collect())
            .keys(self.ssh_private_key.clone().into_iter().collect())
            .phrase(self.private_key_passphrase.clone())
            .user_certificates(self.set("DetachedCertificate").map(Into::into).into_iter().collect())
            .no_questions(self.raw_setting("AuthKI") == Some("0"))
            .host_key_alias(self.set("LogicalHostName").map(Into::into))
            .spoken(self.spoken()?)
            .keepalive(keepalive, None);
        #[cfg(feature = "sftp")]
        {
            if self.raw_setting("TryAgent") == Some("0") {
                options = options.agent(connect::Agent::Off);
            }
            options =
                options.jump(self.tunnel()?.map(|hop| vec![hop])).new_password(self.new_password.clone());
        }
        if self.ssh_host_key_policy == SshHostKeyPolicy::GiveUpSecurityAndAcceptAny {
            // Neither a record nor a pin may say no.
            return Ok(options.known_hosts(Some("/dev/null".into())));
        }
        let keys = Self::alternatives(self.ssh_host_key_fingerprint.as_deref());
        let keys = keys.iter().flat_map(|k| fingerprint::host_keys(k)).flatten();
        let keys: Vec<String> = keys.map(|k| k.to_string()).collect();
        Ok(options.host_keys(&keys)?.known_hosts(self.known_hosts.clone()))
    }

    /// What only S3 asks for.
    #[cfg(feature = "s3")]
    fn s3(&self) -> connect::S3Options {
        use connect::{S3Options, S3Role, UrlStyle};
        let text = |name| self.set(name).map(str::to_owned);
        let by_environment = self.number("S3CredentialsEnv") == 1;
        S3Options {
            environment: by_environment,
            profile: text("S3Profile").filter(|_| by_environment),
            session_token: self.secret("S3SessionToken"),
            role: text("S3RoleArn").map(|arn| S3Role {
                arn,
                session_name: text("S3RoleSessionName"),
                external_id: None,
            }),
            region: text("S3DefaultRegion"),
            style: match self.raw_setting("S3UrlStyle") {
                Some("0") => UrlStyle::Virtual,
                Some("1") => UrlStyle::Path,
                _ => UrlStyle::Auto,
            },
            requester_pays: self.number("S3RequesterPays") == 1,
            // Asked for by its usual number, or left to the store.
            page: (self.raw_setting("S3MaxKeys") == Some("0")).then_some(1000),
            ..S3Options::default()
        }
    }

    /// How FTP lists. Errors: `Unsupported` for what only FTP does; `InvalidArgument`.
    fn listing(&self) -> Result<connect::FtpListing> {
        let is_ftp = self.protocol == Protocol::Ftp;
        let without_resumption = self.raw_setting("SslSessionReuse") == Some("0");
        if without_resumption && !is_ftp {
            return Err(not_yet("'SslSessionReuse': only FTP's connections can go without"));
        }
        Ok(connect::FtpListing {
            time_offset: self.time_offset()?.filter(|_| is_ftp),
            without_facts: self.raw_setting("FtpUseMlsd") == Some("1"),
            without_resumption,
        })
    }

    /// Seconds from the server's local times to UTC, where they are not found out: WinSCP counts the days to the times of
    /// this machine. Errors: `Unsupported` over what lists no local times; `InvalidArgument`.
    fn time_offset(&self) -> Result<Option<i32>> {
        let days = self.set("TimeDifference").unwrap_or("0");
        let days = days.parse::<f64>().ok().filter(|days| days.abs() <= 2.0);
        let days = days.ok_or_else(|| bad("'TimeDifference' takes days, as 0.25 for six hours"))?;
        let found_out = self.raw_setting("TimeDifferenceAuto").map_or(days == 0.0, |auto| auto == "1");
        if found_out {
            return Ok(None);
        }
        if self.protocol != Protocol::Ftp {
            return Err(not_yet("'TimeDifference': only FTP's listings hold local times"));
        }
        let minutes = (days * 1440.0).round() as i32;
        Ok(Some(minutes * 60 - jiff::Zoned::now().offset().seconds()))
    }

    /// FTP, S3 and WebDAV, over TLS or not.
    fn over_tls(&self, options: connect::Options) -> Result<connect::Options> {
        if self.raw_setting("Tunnel") == Some("1") {
            return Err(not_yet("a tunnel carries SFTP only: the others need further connections"));
        }
        let every = Duration::from_secs(self.number("FtpPingInterval"));
        let keepalive = match (self.number("FtpPingType"), self.raw_setting("FtpPingInterval")) {
            (0, _) => Some(None),
            (_, Some(_)) => Some(Some(every)),
            _ => None,
        };
        let mut options = options
            .keepalive(keepalive, None)
            .active(self.ftp_mode == FtpMode::Active)
            .account(self.secret("FtpAccount"))
            .virtual_host(self.raw_setting("FtpHost") == Some("0"))
            .named_address(self.raw_setting("FtpForcePasvIp2") == Some("1"))
            .ftp_listing(self.listing()?)
            .client_certificate(self.tls_client_certificate_path.clone())
            .phrase(self.private_key_passphrase.clone());
        #[cfg(feature = "ftp")]
        {
            use connect::TlsVersion::{V12, V13};
            let version = |name| if self.number(name) == 13 { V13 } else { V12 };
            let (oldest, newest) = (version("MinTlsVersion"), version("MaxTlsVersion"));
            if oldest > newest {
                return Err(bad("MinTlsVersion is above MaxTlsVersion"));
            }
            options = options.tls_versions(oldest, newest);
        }
        if !self.accept_any_certificate {
            let pins = Self::alternatives(self.tls_host_certificate_fingerprint.as_deref());
            options = options.certificates(&pins)?;
        }
        Ok(options)
    }

    /// The host to go over. Errors: `InvalidArgument` without its name.
    #[cfg(feature = "sftp")]
    fn tunnel(&self) -> Result<Option<connect::Hop>> {
        if self.raw_setting("Tunnel") != Some("1") {
            return Ok(None);
        }
        let host = self.set("TunnelHostName").ok_or_else(|| bad("'Tunnel=1' needs a TunnelHostName"))?;
        let pins = Self::alternatives(self.set("TunnelHostKey"));
        let mut fingerprints = Vec::new();
        for pin in &pins {
            fingerprints.extend(fingerprint::host_keys(pin)?);
        }
        Ok(Some(connect::Hop {
            host: bare(host).to_owned(),
            user: self.set("TunnelUserName").map(Into::into),
            port: u16::try_from(self.number("TunnelPortNumber")).ok().filter(|p| *p != 0),
            login: Some(connect::HopLogin {
                password: self.secret("TunnelPasswordPlain"),
                identities: self.set("TunnelPublicKeyFile").map(Into::into).into_iter().collect(),
                phrase: self.secret("TunnelPassphrasePlain"),
                fingerprints,
            }),
        }))
    }

    /// The host that is connected to first.
    fn first_host(&self) -> &str {
        match self.raw_setting("Tunnel") {
            Some("1") => self.set("TunnelHostName").unwrap_or_default(),
            _ => &self.host_name,
        }
    }

    /// Reach the server by this way: as raw settings, which may not have been set before. Errors: those of
    /// [`add_raw_setting`](Self::add_raw_setting).
    pub fn with_proxy(mut self, proxy: &Proxy) -> Result<Self> {
        let mut set = Vec::new();
        let place = |at: &Endpoint| [("ProxyHost", at.host.clone()), ("ProxyPort", at.port.to_string())];
        match proxy {
            Proxy::Direct => set.push(("ProxyMethod", "0".to_owned())),
            Proxy::Socks4 { at, user, names_by_proxy } => {
                set.push(("ProxyMethod", "1".into()));
                set.extend(place(at));
                set.push(("ProxyUsername", user.clone()));
                set.push(("ProxyDNS", if *names_by_proxy { "0" } else { "2" }.into()));
            }
            Proxy::Socks5 { at, login } | Proxy::Http { at, login } => {
                set.push(("ProxyMethod", if matches!(proxy, Proxy::Http { .. }) { "3" } else { "2" }.into()));
                set.extend(place(at));
                if let Some(login) = login {
                    set.push(("ProxyUsername", login.user.clone()));
                    set.push(("ProxyPassword", login.password.expose().to_owned()));
                }
            }
            Proxy::Command(line) => {
                set.push(("ProxyMethod", "5".into()));
                set.push(("ProxyTelnetCommand", self.putty_command(line)?));
            }
        }
        for (name, value) in set.into_iter().filter(|(_, value)| !value.is_empty()) {
            self = self.add_raw_setting(name, &value)?;
        }
        Ok(self)
    }

    /// A command with our tokens, in PuTTY's form.
    fn putty_command(&self, line: &str) -> Result<String> {
        let mut out = String::new();
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match (c, if c == '%' { chars.next() } else { None }) {
                ('%', Some('h')) => out.push_str("%host"),
                ('%', Some('p')) => out.push_str("%port"),
                ('%', Some('%')) => out.push_str("%%"),
                ('%', Some('n')) => out.push_str(&self.host_name),
                ('%', Some('r')) => out.push_str(self.user_name.as_deref().unwrap_or_default()),
                ('%', other) => {
                    let token = other.map(String::from).unwrap_or_default();
                    return Err(bad(format!("a proxy command has no token '%{token}'")));
                }
                ('\\', _) => out.push_str("\\\\"),
                (c, _) => out.push(c),
            }
        }
        Ok(out)
    }

    /// Go over this host: as raw settings, which may not have been set before. Errors: those of
    /// [`add_raw_setting`](Self::add_raw_setting).
    #[cfg(feature = "sftp")]
    pub fn with_jump(mut self, hop: &connect::Hop) -> Result<Self> {
        let mut set = vec![("Tunnel", "1".to_owned()), ("TunnelHostName", hop.host.clone())];
        set.extend(hop.port.map(|port| ("TunnelPortNumber", port.to_string())));
        set.extend(hop.user.clone().map(|user| ("TunnelUserName", user)));
        if let Some(login) = &hop.login {
            let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose().to_owned());
            set.extend(secret(&login.password).map(|w| ("TunnelPasswordPlain", w)));
            set.extend(secret(&login.phrase).map(|w| ("TunnelPassphrasePlain", w)));
            set.extend(login.identities.first().map(|k| ("TunnelPublicKeyFile", k.display().to_string())));
            let pins: Vec<String> = login.fingerprints.iter().map(ToString::to_string).collect();
            if !pins.is_empty() {
                set.push(("TunnelHostKey", pins.join(";")));
            }
        }
        for (name, value) in set {
            self = self.add_raw_setting(name, &value)?;
        }
        Ok(self)
    }

    fn proxy(&self) -> Result<Option<Proxy>> {
        let method = self.number("ProxyMethod");
        let first = bare(self.first_host());
        let address = first.parse::<IpAddr>().ok();
        let is_here = first.eq_ignore_ascii_case("localhost") || address.is_some_and(|a| a.is_loopback());
        if method == 0 || (is_here && self.raw_setting("ProxyLocalhost") != Some("1")) {
            return Ok(None);
        }
        let user = self.set("ProxyUsername").unwrap_or_default();
        let port = u16::try_from(self.number("ProxyPort")).unwrap_or_default();
        let at = Endpoint::new(bare(self.set("ProxyHost").unwrap_or_default()), port);
        if method == 5 {
            let line = self.set("ProxyTelnetCommand").ok_or_else(|| bad("the proxy's command is empty"))?;
            return local_command(line, &at, user).map(Proxy::Command).map(Some);
        }
        if at.host.is_empty() || port == 0 {
            return Err(bad("'ProxyMethod' needs a ProxyHost and a ProxyPort"));
        }
        let by_us = self.raw_setting("ProxyDNS") == Some("1");
        if by_us && method != 1 && address.is_none() {
            return Err(not_yet("'ProxyDNS=1': names are resolved by the proxy, but for SOCKS 4"));
        }
        let login = (!user.is_empty()).then(|| Login {
            user: user.to_owned(),
            password: self.secret("ProxyPassword").unwrap_or_else(|| Secret::new("")),
        });
        Ok(Some(match method {
            1 => Proxy::Socks4 {
                at,
                user: user.to_owned(),
                names_by_proxy: self.raw_setting("ProxyDNS") == Some("0"),
            },
            2 => Proxy::Socks5 { at, login },
            _ => Proxy::Http { at, login },
        }))
    }
}

/// A proxy's command in PuTTY's form (`%host`, `%port`, `%proxyhost`, `%proxyport`, `%user`, `\n`), in ours.
/// Errors: `Unsupported` for a password on a command line; `InvalidArgument` for what a shell would not take
/// for a word.
fn local_command(line: &str, at: &Endpoint, user: &str) -> Result<String> {
    let word = |what: &str, text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:@".contains(c);
        if text.is_empty() || text.starts_with('-') || !text.chars().all(plain) {
            return Err(bad(format!("{what} '{text}' cannot be given to a command: a shell would read it")));
        }
        Ok(text.to_owned())
    };
    let mut out = String::new();
    let mut rest = line;
    while let Some(at_sign) = rest.find(['%', '\\']) {
        let (before, from) = rest.split_at_checked(at_sign).unwrap_or((rest, ""));
        out.push_str(before);
        let lower = from.to_ascii_lowercase();
        let known = [
            "%host",
            "%port",
            "%proxyhost",
            "%proxyport",
            "%user",
            "%pass",
            "%%",
            "\\n",
            "\\r",
            "\\t",
            "\\\\",
        ];
        let Some(token) = known.iter().find(|t| lower.starts_with(**t)) else {
            // Neither is special where nothing follows that it could mean.
            out.push_str(if from.starts_with('%') { "%%" } else { "\\" });
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        out.push_str(&match *token {
            "%host" => "%h".to_owned(),
            "%port" => "%p".to_owned(),
            "%proxyhost" => word("the proxy's host", &at.host)?,
            "%proxyport" => at.port.to_string(),
            "%user" => word("the proxy's user", user)?,
            "%pass" => {
                return Err(not_yet("'%pass': everybody on this machine can read a command line"));
            }
            "%%" => "%%".to_owned(),
            "\\n" | "\\r" => "\n".to_owned(),
            "\\t" => "\t".to_owned(),
            _ => "\\".to_owned(),
        });
        rest = from.get(token.len()..).unwrap_or_default();
    }
    out.push_str(rest);
    let out = out.trim();
    if out.is_empty() || out.contains('\n') {
        return Err(bad("the proxy's command is one line"));
    }
    Ok(out.to_owned())
}

#[cfg(test)]
mod tests {
    use session_core::error::ErrorKind;

    use super::*;

    fn with(mut options: SessionOptions, settings: &[(&str, &str)]) -> SessionOptions {
        for (name, value) in settings {
            options = options.add_raw_setting(name, value).unwrap();
        }
        options
    }

    fn sftp(settings: &[(&str, &str)]) -> SessionOptions {
        with(SessionOptions::sftp("target.example"), settings)
    }

    #[test]
    fn proxies_are_winscps_numbers() {
        let at = [("ProxyHost", "p"), ("ProxyPort", "1080"), ("ProxyUsername", "u"), ("ProxyPassword", "w")];
        let endpoint = || Endpoint::new("p", 1080);
        let login = || Some(Login { user: "u".into(), password: Secret::new("w") });
        let of = |more: &[(&str, &str)]| sftp(&[&at[..], more].concat()).proxy();
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[("ProxyMethod", "0")]).unwrap(), None);
        for (dns, names_by_proxy) in [("0", true), ("1", false), ("2", false)] {
            let want = Proxy::Socks4 { at: endpoint(), user: "u".into(), names_by_proxy };
            assert_eq!(of(&[("ProxyMethod", "1"), ("ProxyDNS", dns)]).unwrap(), Some(want));
        }
        let want = Proxy::Socks5 { at: endpoint(), login: login() };
        assert_eq!(of(&[("ProxyMethod", "2")]).unwrap(), Some(want));
        let want = Proxy::Http { at: endpoint(), login: login() };
        assert_eq!(of(&[("ProxyMethod", "3")]).unwrap(), Some(want));
        let e = of(&[("ProxyMethod", "3"), ("ProxyDNS", "1")]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        let e = sftp(&[("ProxyMethod", "2")]).proxy().unwrap_err();
        assert!(e.to_string().contains("ProxyHost"), "{e}");
        // This machine is reached straight, unless that is asked for.
        for here in ["localhost", "127.0.0.1", "::1"] {
            let o = with(SessionOptions::sftp(here), &[("ProxyMethod", "2"), ("ProxyHost", "p")]);
            assert_eq!(o.proxy().unwrap(), None, "{here}");
            assert!(with(o, &[("ProxyLocalhost", "1")]).proxy().unwrap().is_some(), "{here}");
        }
    }

    #[test]
    fn ways_are_settings_and_settings_are_ways() {
        for text in [
            "socks4://u@p:1080",
            "socks4a://p:1081",
            "socks5://u:w@p:1080",
            "http://p:3128",
            "command:nc -x a\\b %h %p 5%%",
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(sftp(&[]).with_proxy(&proxy).unwrap().proxy().unwrap(), Some(proxy), "{text}");
        }
        let line = Proxy::Command("ssh -l %r gate -W %n:%p".into());
        let o = sftp(&[]).user_name("me").with_proxy(&line).unwrap();
        assert_eq!(o.proxy().unwrap(), Some(Proxy::Command("ssh -l me gate -W target.example:%p".into())));
        assert!(sftp(&[]).with_proxy(&Proxy::Command("x %q".into())).is_err());
        assert_eq!(sftp(&[]).with_proxy(&Proxy::Direct).unwrap().proxy().unwrap(), None);
        #[cfg(feature = "sftp")]
        for text in ["u@gate:2022", "gate"] {
            let mut hop = connect::Hop::parse(text).unwrap().remove(0);
            hop.login = Some(connect::HopLogin::default());
            hop.port = hop.port.or(Some(22));
            assert_eq!(sftp(&[]).with_jump(&hop).unwrap().tunnel().unwrap(), Some(hop), "{text}");
        }
    }

    #[test]
    fn a_command_as_proxy_is_putty_s_and_no_shell_reads_more_than_words() {
        let at = Endpoint::new("gate", 8022);
        let of = |line: &str| local_command(line, &at, "me");
        assert_eq!(of("nc -x %proxyhost:%proxyport %host %port\\n").unwrap(), "nc -x gate:8022 %h %p");
        assert_eq!(
            of("ssh -l %user %PROXYHOST 100%% \\\\ 5% a\\b").unwrap(),
            "ssh -l me gate 100%% \\ 5%% a\\b"
        );
        assert_eq!(of("x %pass").unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(of("a\\nb").unwrap_err().kind(), ErrorKind::InvalidArgument);
        let odd = Endpoint::new("$(x)", 1);
        assert!(local_command("nc %proxyhost", &odd, "").unwrap_err().to_string().contains("shell"));
        assert!(local_command("nc %user", &at, "").is_err());
        let whole = sftp(&[("ProxyMethod", "5"), ("ProxyTelnetCommand", "nc %host %port")]);
        assert_eq!(whole.proxy().unwrap(), Some(Proxy::Command("nc %h %p".into())));
    }

    #[test]
    #[cfg(feature = "sftp")]
    fn a_tunnel_is_a_hop_with_its_own_login() {
        let pin = ["aa"; 16].join(":");
        let o = sftp(&[
            ("Tunnel", "1"),
            ("TunnelHostName", "gate"),
            ("TunnelPortNumber", "2022"),
            ("TunnelUserName", "g"),
            ("TunnelPasswordPlain", "w"),
            ("TunnelPublicKeyFile", "/k"),
            ("TunnelPassphrasePlain", "p"),
            ("TunnelHostKey", &pin),
            ("ProxyMethod", "2"),
            ("ProxyHost", "px"),
        ]);
        let hop = o.tunnel().unwrap().unwrap();
        assert_eq!((hop.host.as_str(), hop.user.as_deref(), hop.port), ("gate", Some("g"), Some(2022)));
        let login = hop.login.unwrap();
        assert_eq!((login.password, login.phrase), (Some(Secret::new("w")), Some(Secret::new("p"))));
        assert_eq!((login.identities, login.fingerprints.len()), (vec!["/k".into()], 1));
        assert!(o.to_connect().is_ok());
        assert!(!format!("{o:?}").contains("\"w\""), "{o:?}");
        assert_eq!(sftp(&[("TunnelHostName", "gate")]).tunnel().unwrap(), None);
        let nameless = sftp(&[("Tunnel", "1")]).to_connect().map(|_| ()).unwrap_err();
        assert!(nameless.to_string().contains("TunnelHostName"), "{nameless}");
        let ftp = with(SessionOptions::ftp("h"), &[("Tunnel", "1"), ("TunnelHostName", "g")]);
        assert_eq!(ftp.to_connect().map(|_| ()).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    #[cfg(feature = "ftp")]
    fn versions_of_tls_stand_in_order() {
        let ftps = || SessionOptions::ftp("h").ftp_secure(FtpSecure::Explicit);
        assert!(with(ftps(), &[("MinTlsVersion", "13")]).to_connect().is_ok());
        let o = with(ftps(), &[("MinTlsVersion", "13"), ("MaxTlsVersion", "12")]);
        let e = o.to_connect().map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        let locked = ftps().tls_client_certificate_path("/c").private_key_passphrase("0pens");
        let shown = format!("{:?}", locked.to_connect().unwrap());
        assert!(shown.contains("phrase: Some") && !shown.contains("0pens"), "{shown}");
    }

    #[test]
    #[cfg(feature = "s3")]
    fn settings_of_s3_are_those_of_the_remote() {
        use connect::UrlStyle;
        let s3 = || SessionOptions::new().protocol(Protocol::S3);
        let plain = s3().s3();
        assert!(!plain.environment && !plain.requester_pays);
        assert_eq!((plain.style, plain.region, plain.page), (UrlStyle::Auto, None, None));
        let set = with(
            s3(),
            &[
                ("S3DefaultRegion", "eu-north-1"),
                ("S3SessionToken", "t0ken"),
                ("S3RoleArn", "arn:aws:iam::1:role/r"),
                ("S3RoleSessionName", "me"),
                ("S3Profile", "work"),
                ("S3CredentialsEnv", "1"),
                ("S3UrlStyle", "1"),
                ("S3MaxKeys", "0"),
                ("S3RequesterPays", "1"),
            ],
        );
        let s = set.s3();
        assert_eq!((s.region.as_deref(), s.profile.as_deref()), (Some("eu-north-1"), Some("work")));
        assert_eq!((s.style, s.page), (UrlStyle::Path, Some(1000)));
        assert!(s.environment && s.requester_pays);
        assert_eq!(s.session_token, Some(Secret::new("t0ken")));
        assert_eq!(s.role.and_then(|r| r.session_name).as_deref(), Some("me"));
        // The environment is not looked at unless that is said.
        assert_eq!(with(s3(), &[("S3Profile", "work")]).s3().profile, None);
        let shown = format!("{:?}", set.to_connect().unwrap());
        assert!(!shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn a_new_password_is_passed_on_and_not_shown() {
        let options = SessionOptions::sftp("h").user_name("u").password("0ld").new_password("n3w");
        let shown = format!("{:?}", options.to_connect().unwrap());
        assert!(shown.contains("new_password: Some") && !shown.contains("n3w"), "{shown}");
    }
}
