//! How a place would be opened: what the URL, the caller, a site, `ssh_config` and the environment come to together.
//!
//! Nothing is connected to, nobody is asked, and no secret is told, but whether there is one.

use std::fmt::Display;

use session_core::error::Result;

#[cfg(feature = "ftp")]
use super::ftp;
#[cfg(feature = "s3")]
use super::s3;
#[cfg(feature = "webdav")]
use super::webdav;
use super::{Options, Scheme};

/// What one thing about a connection comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What.
    pub name: &'static str,
    /// What it comes to; several where the first that serves is taken, or all are.
    pub values: Vec<String>,
}

/// How a place would be opened.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    /// In the order in which they matter: where to, which way, whom to trust, how to log in, what is spoken.
    pub settings: Vec<Setting>,
    /// What is not understood, or not done.
    pub warnings: Vec<String>,
}

impl Explained {
    fn all<T: Display>(&mut self, name: &'static str, values: impl IntoIterator<Item = T>) {
        let values: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
        if !values.is_empty() {
            self.settings.push(Setting { name, values });
        }
    }

    fn one(&mut self, name: &'static str, value: impl Display) {
        self.all(name, [value]);
    }
}

/// How these options would open a place. Reads `ssh_config`. Errors: those of its files, and options that make no
/// sense together.
pub async fn explain(options: Options) -> Result<Explained> {
    let mut told = Explained::default();
    let named = match options.scheme {
        Scheme::Dav => "WebDAV in the clear",
        Scheme::Davs => "WebDAV over TLS",
        Scheme::Ftp => "FTP in the clear",
        Scheme::Ftpes => "FTP that turns to TLS",
        Scheme::Ftps => "FTP over TLS",
        Scheme::S3 => "S3 over TLS",
        Scheme::S3Plain => "S3 in the clear",
        Scheme::Scp => "SCP",
        Scheme::Sftp => "SFTP",
    };
    told.one("protocol", named);
    #[cfg(feature = "sftp")]
    if options.is_ssh() {
        ssh::settings(options, &mut told).await?;
        return Ok(told);
    }
    http_and_ftp(&options, &mut told)?;
    Ok(told)
}

/// What the protocols without SSH have in common.
fn http_and_ftp(options: &Options, told: &mut Explained) -> Result<()> {
    let (port, proxy) = match options.scheme {
        #[cfg(feature = "webdav")]
        Scheme::Dav | Scheme::Davs => {
            let made = webdav::options_of(options)?;
            (made.port, made.proxy)
        }
        #[cfg(feature = "s3")]
        Scheme::S3 | Scheme::S3Plain => {
            let made = s3::options_of(options)?;
            (made.port, made.proxy)
        }
        #[cfg(feature = "ftp")]
        _ => {
            let made = ftp::options_of(options)?;
            (made.port, made.proxy)
        }
        #[cfg(not(feature = "ftp"))]
        _ => return Err(session_core::error::ErrorKind::Unsupported.into()),
    };
    told.one("host", &options.host);
    told.one("port", port);
    told.one("proxy", proxy);
    told.all("from address", options.source);
    if let Some(family) = options.family {
        told.one("addresses", format!("{family:?}"));
    }
    let tls = !matches!(options.scheme, Scheme::Dav | Scheme::S3Plain | Scheme::Ftp);
    if tls {
        match options.certificates.is_empty() {
            true => told.one("trust", "the system's authorities"),
            false => told.all("trust only", &options.certificates),
        }
        told.all("client certificate", options.ftp.client_certificate.as_ref().map(|f| f.display()));
    }
    #[cfg(feature = "s3")]
    if matches!(options.scheme, Scheme::S3 | Scheme::S3Plain) {
        let only = &options.s3;
        let who = match &options.user {
            Some(id) => format!("the access key {id}"),
            None => match (&only.profile, only.environment) {
                (Some(profile), _) => format!("the profile {profile} of AWS's configuration"),
                (None, true) => "as AWS's environment says".to_owned(),
                (None, false) => "nobody".to_owned(),
            },
        };
        told.one("log in as", who);
        told.all("role", only.role.as_ref().map(|role| &role.arn));
        told.one("region", only.region.as_deref().unwrap_or("found out"));
        return Ok(());
    }
    told.one("user", options.user.as_deref().unwrap_or("anonymous"));
    told.one("password", known(options.password.is_some()));
    Ok(())
}

fn known(yes: bool) -> &'static str {
    if yes { "given" } else { "asked for" }
}

#[cfg(feature = "sftp")]
mod ssh {
    use std::path::PathBuf;

    use proto_sftp::ssh::connect::{ConnectOptions, HostKeyPolicy};
    use proto_sftp::ssh::keys::Agent;
    use session_core::auth::Method;
    use session_core::error::Result;

    use super::super::{Options, sftp};
    use super::{Explained, known};

    pub(super) async fn settings(options: Options, told: &mut Explained) -> Result<()> {
        let (ssh, warnings) = sftp::options_of(options).await?;
        told.warnings = warnings;
        told.one("host", &ssh.host);
        told.all("written as", ssh.written.as_ref().filter(|w| **w != ssh.host));
        told.one("port", ssh.port);
        told.one("user", &ssh.user);
        let mut over = Vec::new();
        let mut next = ssh.jump.as_deref();
        while let Some(hop) = next {
            over.insert(0, format!("{}@{}:{}", hop.user, hop.host, hop.port));
            next = hop.jump.as_deref();
        }
        told.all("over", over);
        told.one("proxy", &ssh.proxy);
        told.one("addresses", format!("{:?}", ssh.family));
        told.all("from address", ssh.source);
        told.one("time to connect", format!("{} s", ssh.timeout.as_secs()));
        trust(&ssh, told);
        login(&ssh, told);
        let [kex, keys, ciphers, macs] = ssh.algorithms.names();
        told.all("key exchange", kex);
        told.all("host key algorithms", keys);
        told.all("ciphers", ciphers);
        told.all("MACs", macs);
        Ok(())
    }

    fn trust(ssh: &ConnectOptions, told: &mut Explained) {
        if !ssh.fingerprints.is_empty() {
            told.all("trust only", &ssh.fingerprints);
            return;
        }
        told.all("known hosts", ssh.known_hosts_files().iter().map(|f| f.display()));
        told.all("recorded as", ssh.host_key_alias.as_ref());
        told.one(
            "unknown hosts",
            match ssh.policy {
                HostKeyPolicy::AcceptNew => "put on record without asking",
                HostKeyPolicy::Ask => "asked about",
                HostKeyPolicy::Strict => "refused",
            },
        );
    }

    fn login(ssh: &ConnectOptions, told: &mut Explained) {
        told.all("ways to log in", ssh.methods.iter().map(|method| method.name()));
        if ssh.methods.contains(&Method::PublicKey) {
            told.one(
                "agent",
                match &ssh.agent {
                    Agent::Environment => match std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty()) {
                        Some(at) => PathBuf::from(at).display().to_string(),
                        None => "none: SSH_AUTH_SOCK is not set".to_owned(),
                    },
                    Agent::Off => "none".to_owned(),
                    Agent::Socket(at) => at.display().to_string(),
                },
            );
            if ssh.identities_only {
                told.one("of its keys", "those alone that a file names");
            }
            let there = |file: &PathBuf| match file.exists() {
                true => file.display().to_string(),
                false => format!("{} (missing)", file.display()),
            };
            told.all("key files", ssh.key_files().iter().map(there));
            told.all("certificates", ssh.certificates.iter().map(there));
        }
        if ssh.methods.contains(&Method::Password) {
            told.one("password", known(ssh.password.is_some()));
        }
    }
}
