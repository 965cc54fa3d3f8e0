//! The values of single keys: durations, networks, names, permissions, hashes.
//!
//! Each is read from its text in one place and refuses what it does not understand, in words; serde puts
//! the line to them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error as _};
use session_core::auth::Method;
use session_core::path::VPath;
use session_core::policy::{Filter, Pattern, PermissionSet, Rule};
use session_core::session::Protocol;
use session_core::trust::CertificateFingerprint;

use super::fault::nearest;
use crate::users::digest::DigestKey;
use crate::users::hours;
use crate::users::keys::PublicKey;
use crate::users::password::PasswordHash;
use crate::users::totp::{TotpKey, is_recovery_hash};

fn each<'de, D: Deserializer<'de>, T>(
    d: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, D::Error> {
    Vec::<String>::deserialize(d)?.iter().map(|s| parse(s).map_err(D::Error::custom)).collect()
}

fn one<'de, D: Deserializer<'de>, T>(d: D, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, D::Error> {
    parse(&String::deserialize(d)?).map_err(D::Error::custom)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    one(d, parse_duration)
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    duration(d).map(Some)
}

pub(super) fn user_name<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    one(d, |s| if is_user_name(s) { Ok(s.to_string()) } else { Err(NAME_RULE.into()) })
}

pub(super) fn site_name<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    one(d, |s| {
        // It becomes a folder, and a part of `user@site` and `site|user`.
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=64).contains(&s.len()) && !s.starts_with('.') && s.bytes().all(fits) {
            return Ok(s.to_string());
        }
        Err("a site's name is 1 to 64 letters, digits and '.', '_', '-', and begins with no '.'".into())
    })
}

/// Names of hosts, in lower case.
pub(super) fn hosts<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    each(d, |s| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if s.is_empty() || s.len() > 253 || s.ends_with('.') || !s.bytes().all(fits) {
            return Err(format!("'{s}' is no name of a host"));
        }
        Ok(s.to_ascii_lowercase())
    })
}

pub(super) fn networks<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<IpNet>, D::Error> {
    each(d, parse_network)
}

pub(super) fn path<'de, D: Deserializer<'de>>(d: D) -> Result<VPath, D::Error> {
    one(d, parse_path)
}

pub(super) fn paths<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<VPath>, D::Error> {
    each(d, parse_path)
}

pub(super) fn methods<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Method>, D::Error> {
    each(d, |s| match Method::parse(s) {
        None | Some(Method::None) => {
            Err(format!("'{s}' is no factor: publickey, password or keyboard-interactive"))
        }
        Some(m) => Ok(m),
    })
}

pub(super) fn keys<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<PublicKey>, D::Error> {
    each(d, PublicKey::parse)
}

pub(super) fn certificates<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    each(d, |s| match CertificateFingerprint::parse(s) {
        Ok(print @ CertificateFingerprint::Sha256(_)) => Ok(print.to_string()),
        _ => Err(format!("'{s}' is no SHA-256 of a certificate: write aa:bb:…, 32 pairs of digits")),
    })
}

pub(super) fn certificate_names<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    each(d, |s| match s.trim() == s && !s.is_empty() {
        true => Ok(s.to_string()),
        false => Err(format!("'{s}' is no name in a certificate")),
    })
}

pub(super) fn hash<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PasswordHash>, D::Error> {
    one(d, PasswordHash::parse).map(Some)
}

pub(super) fn digest<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<DigestKey>, D::Error> {
    each(d, DigestKey::parse)
}

pub(super) fn permissions<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Rule>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Allowed {
        Word(String),
        List(Vec<String>),
    }
    let mut rules = Vec::new();
    for (path, allowed) in BTreeMap::<String, Allowed>::deserialize(d)? {
        let path = parse_path(&path).map_err(D::Error::custom)?;
        let words = match allowed {
            Allowed::Word(w) => vec![w],
            Allowed::List(l) => l,
        };
        let mut allow = PermissionSet::NONE;
        for w in &words {
            match PermissionSet::parse(w) {
                Some(more) => allow = allow.union(more),
                None => {
                    let known: Vec<_> = PermissionSet::words().collect();
                    let nearest = nearest(w, &known).map(|n| format!(" (did you mean '{n}'?)"));
                    let nearest = nearest.unwrap_or_default();
                    return Err(D::Error::custom(format!("'{w}' is not a permission{nearest}")));
                }
            }
        }
        if rules.iter().any(|r: &Rule| r.path == path) {
            return Err(D::Error::custom(format!("'{path}' has two sets of permissions")));
        }
        rules.push(Rule { path, allow });
    }
    Ok(rules)
}

pub(super) fn totp<'de, D: Deserializer<'de>>(d: D) -> Result<Option<TotpKey>, D::Error> {
    one(d, TotpKey::parse).map(Some)
}

pub(super) fn recovery<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    each(d, |s| match is_recovery_hash(s) {
        true => Ok(s.to_string()),
        false => Err("this is no hash of a recovery code: 'ferryd totp' makes them".into()),
    })
}

pub(super) fn moment<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SystemTime>, D::Error> {
    let value = toml::value::Datetime::deserialize(d)?;
    hours::moment(&value).map(Some).map_err(D::Error::custom)
}

pub(super) fn hours<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<hours::Window>, D::Error> {
    each(d, hours::Window::parse)
}

pub(super) fn protocols<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Protocol>, D::Error> {
    const SERVED: [Protocol; 6] =
        [Protocol::Ftp, Protocol::Ftps, Protocol::S3, Protocol::Sftp, Protocol::Webdav, Protocol::Webdavs];
    each(d, |s| {
        let found = SERVED.into_iter().find(|p| p.name().eq_ignore_ascii_case(s));
        found.ok_or_else(|| {
            format!("'{s}' is no protocol that is served: ftp, ftps, s3, sftp, webdav or webdavs")
        })
    })
}

/// The same values where a key may be left out.
macro_rules! some {
    ($( $name:ident $of:path => $value:ty; )*) => { $(
        pub(super) fn $name<'de, D: Deserializer<'de>>(d: D) -> Result<Option<$value>, D::Error> {
            $of(d).map(Some)
        }
    )* };
}

some! {
    some_certificate_names certificate_names => Vec<String>;
    some_filters filters => Vec<Filter>;
    some_hours hours => Vec<hours::Window>;
    some_methods methods => Vec<Method>;
    some_networks networks => Vec<IpNet>;
    some_permissions permissions => Vec<Rule>;
    some_protocols protocols => Vec<Protocol>;
}

pub(super) fn filters<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Filter>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Raw {
        #[serde(default = "root")]
        path: String,
        #[serde(default)]
        allow: Vec<String>,
        #[serde(default)]
        deny: Vec<String>,
        #[serde(default)]
        hide: bool,
    }
    fn root() -> String {
        "/".into()
    }
    let patterns = |words: &[String]| -> Result<Vec<Pattern>, String> {
        words.iter().map(|w| Pattern::parse(w).map_err(|e| format!("'{w}': {e}"))).collect()
    };
    let mut filters: Vec<Filter> = Vec::new();
    for raw in Vec::<Raw>::deserialize(d)? {
        let path = parse_path(&raw.path).map_err(D::Error::custom)?;
        if filters.iter().any(|f| f.path == path) {
            return Err(D::Error::custom(format!("'{path}' has two filters")));
        }
        let allow = patterns(&raw.allow).map_err(D::Error::custom)?;
        let deny = patterns(&raw.deny).map_err(D::Error::custom)?;
        filters.push(Filter { path, allow, deny, hide: raw.hide });
    }
    Ok(filters)
}

const NAME_RULE: &str = "a user's name is 1 to 64 letters, digits and '.', '_', '@', '-'; not '.' or '..'";

/// Whether `name` is one plain path segment of harmless characters.
pub fn is_user_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

/// `500ms`, `30s`, `2m`, `1h30m`, `3d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is no duration: write 500ms, 30s, 2m, 12h or 3d");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    // What a timer can still hold.
    if total > Duration::from_secs(100 * 366 * 86_400) {
        return Err(bad());
    }
    Ok(total)
}

/// `10.0.0.0/8`, or one address.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("'{text}' is no network: write 10.0.0.0/8, 2001:db8::/32 or an address"))
}

pub(super) fn parse_path(text: &str) -> Result<VPath, String> {
    if !text.starts_with('/') || text.split('/').any(|s| s == ".." || s == ".") {
        return Err(format!("'{text}' is no virtual path: it begins with '/' and holds no '.' or '..'"));
    }
    VPath::absolute(text).map_err(|e| e.to_string())
}
