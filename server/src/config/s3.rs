//! What is configured of S3, and the access keys of accounts.
//!
//! A signature is verified by the very secret that it was made with, so the server must know it: it stands in the
//! account's table, or under a name among the secrets of `[scripts]` and of the accounts' database.
//!
//! Deliberately absent: reading certificates and opening sockets (`crate::listen`), finding the account of a key
//! (`crate::users::directory`).

use std::time::Duration;

use ipnet::IpNet;
use proto_s3::server as s3;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::values;

/// How S3 is served; see [`proto_s3::server::S3ServerOptions`] for what each comes to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct S3 {
    /// The region that buckets are said to be in.
    pub region: String,
    /// Names of this server before which buckets may stand.
    #[serde(deserialize_with = "values::hosts")]
    pub domains: Vec<String>,
    /// Origins whose pages may reach this server from a browser.
    pub cors: Vec<String>,
    /// The account of requests that are not signed; empty for none.
    pub anonymous: String,
    /// Proxies that must say, by the PROXY protocol, who is behind them.
    #[serde(deserialize_with = "values::networks")]
    pub proxies: Vec<IpNet>,
    /// Connections at a time.
    pub connections: usize,
    /// How long a session stays without a connection; zero for as long as `idle_time` says.
    #[serde(deserialize_with = "values::duration")]
    pub linger: Duration,
    /// How long it is believed that an account may still log in.
    #[serde(deserialize_with = "values::duration")]
    pub remember: Duration,
    /// How long the access key of a session that was ended is not taken.
    #[serde(deserialize_with = "values::duration")]
    pub hold: Duration,
    /// How far a client's clock may be off.
    #[serde(deserialize_with = "values::duration")]
    pub skew: Duration,
    /// How long nothing may move in the midst of a request.
    #[serde(deserialize_with = "values::duration")]
    pub data_time: Duration,
    /// The least bytes per second of an upload; 0 for none.
    pub minimum_rate: u64,
    /// How long a multipart upload is kept after its last part.
    #[serde(deserialize_with = "values::duration")]
    pub upload_time: Duration,
    /// Multipart uploads of one account at a time.
    pub uploads: usize,
}

impl Default for S3 {
    fn default() -> Self {
        let options = s3::S3ServerOptions::default();
        S3 {
            region: options.region,
            domains: Vec::new(),
            cors: Vec::new(),
            anonymous: String::new(),
            proxies: Vec::new(),
            connections: options.max_connections,
            linger: Duration::ZERO,
            remember: options.remember,
            hold: options.hold,
            skew: options.skew,
            data_time: options.data_time,
            minimum_rate: options.minimum_rate,
            upload_time: options.upload_time,
            uploads: options.max_uploads,
        }
    }
}

impl S3 {
    /// The server's options, as far as they are configured here.
    pub fn options(&self) -> s3::S3ServerOptions {
        s3::S3ServerOptions {
            region: self.region.clone(),
            domains: self.domains.clone(),
            cors: self.cors.clone(),
            anonymous: Some(self.anonymous.clone()).filter(|a| !a.is_empty()),
            trusted_proxies: self.proxies.clone(),
            max_connections: self.connections,
            linger: Some(self.linger).filter(|l| !l.is_zero()),
            remember: self.remember,
            hold: self.hold,
            skew: self.skew,
            data_time: self.data_time,
            minimum_rate: self.minimum_rate,
            upload_time: self.upload_time,
            max_uploads: self.uploads,
            ..s3::S3ServerOptions::default()
        }
    }

    /// Values that make no sense, by key.
    pub(super) fn check(&self) -> Vec<(&'static str, &'static str)> {
        let mut wrong = Vec::new();
        if !s3::is_region(&self.region) {
            wrong.push(("region", "this is one word: us-east-1"));
        }
        if !self.domains.iter().all(|d| s3::is_domain(d)) {
            wrong.push(("domains", "these are names of hosts, without a port: s3.example.org"));
        }
        if !self.cors.iter().all(|o| s3::is_origin(o)) {
            wrong.push(("cors", "these are origins: https://app.example.org, https://*.example.org, or *"));
        }
        if self.connections == 0 {
            wrong.push(("connections", "there is at least one"));
        }
        if self.skew.is_zero() || self.skew > Duration::from_secs(3600) {
            wrong.push(("skew", "clocks differ by something, and by an hour at most"));
        }
        for (key, zero) in
            [("data_time", self.data_time.is_zero()), ("upload_time", self.upload_time.is_zero())]
        {
            if zero {
                wrong.push((key, "this takes some time"));
            }
        }
        wrong
    }
}

/// The shortest secret of an access key.
const SHORTEST: usize = 16;

/// A key that programs sign their requests with.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// What requests name it by.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// What they are signed with.
    #[serde(default, deserialize_with = "secret")]
    pub secret: Option<Secret>,
    /// The name of the secret that it is.
    #[serde(default)]
    pub key_secret: Option<String>,
}

impl AccessKey {
    /// A new id and its secret. Errors: `Internal`, without randomness.
    pub fn make() -> Result<(String, Secret)> {
        const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let word = |length: usize| {
            let mut bytes = vec![0u8; length];
            getrandom::fill(&mut bytes)
                .map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness"))?;
            let letter = |b: u8| LETTERS.get(usize::from(b & 31)).copied().map_or('A', char::from);
            Ok::<String, Error>(bytes.into_iter().map(letter).collect())
        };
        Ok((format!("FK{}", word(18)?), Secret::new(word(40)?)))
    }
}

fn id<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<String, D::Error> {
    let id = String::deserialize(d)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (3..=128).contains(&id.len()) && id.bytes().all(fits) {
        return Ok(id);
    }
    Err(D::Error::custom("the id of an access key is 3 to 128 letters, digits and '.', '_', '-'"))
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Option<Secret>, D::Error> {
    let secret = Secret::new(String::deserialize(d)?);
    if secret.expose().len() < SHORTEST {
        return Err(D::Error::custom(format!("a secret has {SHORTEST} characters at least")));
    }
    Ok(Some(secret))
}

/// Faults of the access keys of one account, in words.
pub(super) fn check_keys(keys: &[AccessKey]) -> Vec<String> {
    let mut faults = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        if key.secret.is_some() == key.key_secret.is_some() {
            faults.push(format!(
                "the key '{}' has either a 'secret' or the name of one in 'key_secret'",
                key.id
            ));
        }
        if keys.iter().take(n).any(|k| k.id == key.id) {
            faults.push(format!("the key '{}' is there twice", key.id));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_make_no_sense_are_told_by_key() {
        assert!(S3::default().check().is_empty());
        let wrong = S3 {
            region: "eu 1".into(),
            domains: vec!["a:80".into()],
            cors: vec!["https://a/".into()],
            connections: 0,
            skew: Duration::ZERO,
            data_time: Duration::ZERO,
            ..S3::default()
        };
        let keys: Vec<_> = wrong.check().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["region", "domains", "cors", "connections", "skew", "data_time"]);
    }

    #[test]
    fn a_key_has_one_secret() {
        let of = |text: &str| toml::from_str::<AccessKey>(text).map_err(|e| e.message().to_owned());
        let good = of("id = \"AKIA\"\nsecret = \"0123456789abcdef\"").unwrap();
        assert!(check_keys(std::slice::from_ref(&good)).is_empty());
        assert!(!format!("{good:?}").contains("0123456789abcdef"));
        assert!(check_keys(&[good.clone(), good.clone()])[0].contains("twice"));
        let none = of("id = \"AKIA\"").unwrap();
        assert!(check_keys(&[none])[0].contains("either"));
        let named = AccessKey { key_secret: Some("x".into()), ..good };
        assert!(check_keys(&[named])[0].contains("either"));
        for bad in ["id = \"a/b\"", "id = \"ab\"", "id = \"abc\"\nsecret = \"short\"", "id = \"abc\"\nx = 1"]
        {
            let words = of(bad).unwrap_err();
            assert!(!words.contains("short\""), "{words}");
        }
    }
}
