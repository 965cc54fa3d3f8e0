//! A site as it stands in the file: settings in the open, secrets sealed.
//!
//! The session URL carries what a URL can, raw settings included; the rest has a key each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::Site;
use super::vault::Key;
use crate::session::{FtpMode, SessionOptions, SshHostKeyPolicy, raw};

/// What to do about host keys, where it is not as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    AcceptAny,
    AcceptNew,
}

/// A site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Entry {
    pub(super) name: String,
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_hosts: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_key_policy: Option<Policy>,
    #[serde(default, skip_serializing_if = "is_false")]
    accept_any_certificate: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    active: bool,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secrets: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(yes: &bool) -> bool {
    !*yes
}

fn text_of(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("the path '{}' is not UTF-8 and cannot be stored", path.display()))
    })
}

/// What is sealed, by name.
fn secrets_of(o: &SessionOptions) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |name: &str, secret: &Option<Secret>| {
        if let Some(secret) = secret {
            all.insert(name.to_owned(), secret.expose().into());
        }
    };
    put("password", &o.password);
    put("new-password", &o.new_password);
    put("private-key", &o.ssh_private_key);
    put("passphrase", &o.private_key_passphrase);
    for (name, value) in o.raw.iter().filter(|(name, _)| raw::is_secret(name)) {
        all.insert(format!("x-{name}"), value.as_str().into());
    }
    all
}

pub(super) fn has_secrets(o: &SessionOptions) -> bool {
    !secrets_of(o).is_empty()
}

impl Entry {
    /// Seals what is secret. Errors: `Unauthenticated` for secrets without a key.
    pub(super) fn of(site: &Site, key: Option<&Key>) -> Result<Self> {
        let o = &site.options;
        let path = |p: &Option<PathBuf>| p.as_deref().map(text_of).transpose();
        let nameless = SessionOptions { name: None, ..o.clone() };
        let mut entry = Entry {
            name: site.name.clone(),
            url: nameless.to_url(),
            directory: site.directory.clone(),
            private_key: path(&o.ssh_private_key_path)?,
            client_certificate: path(&o.tls_client_certificate_path)?,
            known_hosts: path(&o.known_hosts)?,
            host_key_policy: match o.ssh_host_key_policy {
                SshHostKeyPolicy::AcceptNew => Some(Policy::AcceptNew),
                SshHostKeyPolicy::Check => None,
                SshHostKeyPolicy::GiveUpSecurityAndAcceptAny => Some(Policy::AcceptAny),
            },
            accept_any_certificate: o.accept_any_certificate,
            active: o.ftp_mode == FtpMode::Active,
            timeout: Some(o.timeout.as_secs()).filter(|t| *t != 15),
            secrets: None,
        };
        // What is written can be read.
        entry.plain()?;
        let secrets = secrets_of(o);
        if !secrets.is_empty() {
            let key = key.ok_or_else(|| {
                Error::new(ErrorKind::Unauthenticated)
                    .with_detail("secrets are stored under a passphrase, and there is none")
            })?;
            let plain = Value::Object(secrets).to_string();
            entry.secrets = Some(key.seal(plain.as_bytes(), &entry.context())?);
        }
        Ok(entry)
    }

    /// What decides to whom secrets are given.
    fn context(&self) -> Vec<u8> {
        let bound =
            (&self.name, &self.url, &self.known_hosts, &self.host_key_policy, self.accept_any_certificate);
        serde_json::json!(["ferry site", bound]).to_string().into_bytes()
    }

    /// The site without its secrets. Errors: `InvalidArgument`, `Unsupported` for settings that make no sense.
    pub(super) fn plain(&self) -> Result<Site> {
        let mut o = SessionOptions::parse_url(&self.url)?;
        o.name.get_or_insert_with(|| self.name.clone());
        if let Some(path) = &self.private_key {
            o = o.ssh_private_key_path(path);
        }
        if let Some(path) = &self.client_certificate {
            o = o.tls_client_certificate_path(path);
        }
        if let Some(path) = &self.known_hosts {
            o = o.known_hosts(path);
        }
        if let Some(policy) = self.host_key_policy {
            o = o.ssh_host_key_policy(match policy {
                Policy::AcceptAny => SshHostKeyPolicy::GiveUpSecurityAndAcceptAny,
                Policy::AcceptNew => SshHostKeyPolicy::AcceptNew,
            });
        }
        if self.accept_any_certificate {
            o = o.give_up_security_and_accept_any_tls_host_certificate(true);
        }
        if self.active {
            o = o.ftp_mode(FtpMode::Active);
        }
        if let Some(seconds) = self.timeout {
            o = o.timeout(Duration::from_secs(seconds))?;
        }
        let site = Site::new(self.name.as_str(), o)?;
        Ok(Site { directory: self.directory.clone(), ..site })
    }

    /// The site with what was sealed. Errors: `Corrupt` where it does not fit the settings.
    pub(super) fn with_secrets(&self, sealed: &str, key: &Key) -> Result<Site> {
        let changed = || {
            Error::new(ErrorKind::Corrupt)
                .with_detail(format!("the secrets of the site '{}' do not belong to its settings", self.name))
                .with_hint(
                    "if its settings were changed by hand, store them again: 'ferry sites add --replace'",
                )
        };
        let plain = key.open(sealed, &self.context()).map_err(|_| changed())?;
        let all: Map<String, Value> = serde_json::from_slice(&plain).map_err(|_| changed())?;
        let mut site = self.plain()?;
        for (name, value) in &all {
            let value = value.as_str().ok_or_else(changed)?;
            let o = site.options;
            site.options = match name.as_str() {
                "password" => o.password(value),
                "new-password" => o.new_password(value),
                "private-key" => o.ssh_private_key(value),
                "passphrase" => o.private_key_passphrase(value),
                other => o.add_raw_setting(other.strip_prefix("x-").ok_or_else(changed)?, value)?,
            };
        }
        Ok(site)
    }
}
