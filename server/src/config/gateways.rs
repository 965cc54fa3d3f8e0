//! `[[gateways]]`: other servers whose folders are homes and virtual folders here.
//!
//! What is secret stands in the secrets of `[scripts]` and is named here. A server must be known by its key or
//! certificate; FTP in the clear, which has none, must be asked for. Addresses that are not of the open
//! internet are reached only where that is said, so that a name cannot lead inside.

use std::time::Duration;

use client::url::{Location, Url};
use serde::Deserialize;

use super::fault::{Fault, Source, Step};
use super::values;

/// Another server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Gateway {
    /// Its name here.
    #[serde(deserialize_with = "values::user_name")]
    pub name: String,
    /// Where it is: `sftp://user@host/path`, `scp:`, `ftps:`, `ftpes:`, `ftp:`, `davs:`, `dav:`, `s3:`, `s3plain:`;
    /// without a password.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// The fingerprints of its host keys, one of which it must show.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// The fingerprints of its certificate.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// The name of the secret that is its password.
    #[serde(default)]
    pub password_secret: Option<String>,
    /// The name of the secret that is a private key.
    #[serde(default)]
    pub key_secret: Option<String>,
    /// The name of the secret that opens the private key.
    #[serde(default)]
    pub phrase_secret: Option<String>,
    /// It may be in a private network, or on this machine.
    #[serde(default)]
    pub allow_private: bool,
    /// Password and content may be read on the way.
    #[serde(default)]
    pub allow_clear: bool,
    /// Time to connect, and of each call.
    #[serde(default = "time", deserialize_with = "values::duration")]
    pub time: Duration,
}

fn time() -> Duration {
    Duration::from_secs(30)
}

fn url<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Url, D::Error> {
    use serde::de::Error as _;
    match Location::parse(&String::deserialize(d)?) {
        Ok(Location::Remote(url)) => Ok(url),
        Ok(Location::Local(_)) => Err(D::Error::custom("this is no URL: sftp://user@host/path")),
        Err(e) => Err(D::Error::custom(e.peer_words())),
    }
}

/// Faults between values.
pub(super) fn check(gateways: &[Gateway], source: &Source<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, gateway) in gateways.iter().enumerate() {
        let mut wrong = |k: &str, words: &str| {
            let at = [Step::Key("gateways".into()), Step::Index(i), Step::Key(k.into())];
            faults.push(source.fault_at(&at, words));
        };
        let url = &gateway.url;
        if gateways.iter().take(i).any(|g| g.name == gateway.name) {
            wrong("name", "there is another gateway of this name");
        }
        if url.password.is_some() {
            wrong("url", "a password does not stand here: name a secret with 'password_secret'");
        }
        if url.user.is_none() {
            wrong("url", "it does not say who logs in: sftp://user@host/path");
        }
        if gateway.time.is_zero() {
            wrong("time", "this takes some time");
        }
        let pinned = url.fingerprint.is_some();
        match url.scheme.as_str() {
            "scp" | "sftp" if gateway.host_keys.is_empty() && !pinned => {
                wrong("url", "the server must be known: 'host_keys' (see `ferry fingerprint`)");
            }
            "ftps" | "ftpes" if gateway.certificates.is_empty() && !pinned => {
                wrong("url", "the server must be known: 'certificates' (see `ferry fingerprint`)");
            }
            "ftp" if !gateway.allow_clear => {
                wrong("url", "FTP in the clear shows password and content: 'ftpes', or 'allow_clear = true'");
            }
            "dav" | "http" if !gateway.allow_clear => {
                wrong(
                    "url",
                    "WebDAV in the clear shows password and content: 'davs', or 'allow_clear = true'",
                );
            }
            "s3plain" if !gateway.allow_clear => {
                wrong("url", "S3 in the clear shows the content: 's3', or 'allow_clear = true'");
            }
            _ => {}
        }
        if matches!(url.scheme.as_str(), "scp" | "sftp")
            && gateway.password_secret.is_none()
            && gateway.key_secret.is_none()
        {
            wrong("url", "nothing to log in with: 'password_secret' or 'key_secret'");
        }
        if let Err(e) = crate::gateway::options(gateway) {
            wrong("url", e.peer_words());
        }
    }
    faults
}
