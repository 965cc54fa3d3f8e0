//! rclone.conf: a section for each remote; `sftp`, `ftp`, `webdav` and `s3` become sites.
//!
//! Passwords are obscured, not encrypted: AES-256 in counter mode under a key that stands in rclone's source, the
//! first block is the counter. A file that is encrypted as a whole is refused.

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use session_core::error::{Error, ErrorKind, Result};

use super::ini::{Section, sections};
use super::{Imported, words_of};
use crate::session::{FtpSecure, Protocol, SessionOptions};

/// The key that every rclone has.
const KEY: [u8; 32] = [
    0x9c, 0x93, 0x5b, 0x48, 0x73, 0x0a, 0x55, 0x4d, 0x6b, 0xfd, 0x7c, 0x63, 0xc8, 0x86, 0xa9, 0x2b, 0xd3,
    0x90, 0x19, 0x8e, 0xb8, 0x12, 0x8a, 0xfb, 0xf4, 0xde, 0x16, 0x2b, 0x8b, 0x95, 0xf6, 0x38,
];

/// Reads the text of an rclone.conf. Errors: `Unsupported` for one that is encrypted.
pub fn rclone(text: &str) -> Result<Imported> {
    if text.lines().any(|l| l.trim().starts_with("RCLONE_ENCRYPT_V")) {
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail("this rclone.conf is encrypted")
            .with_hint("decrypt a copy of it: rclone config show > FILE"));
    }
    let mut out = Imported::default();
    for section in sections(text).iter().filter(|s| !s.name.is_empty()) {
        match section.get("type").unwrap_or_default() {
            "sftp" => one(&mut out, section, SessionOptions::new()),
            "ftp" => one(&mut out, section, SessionOptions::new().protocol(Protocol::Ftp)),
            "webdav" => webdav(&mut out, section),
            "s3" => s3(&mut out, section),
            other => {
                out.note(section.name, format!("the remote is left out: type '{other}' is not taken over"))
            }
        }
    }
    Ok(out)
}

fn one(out: &mut Imported, section: &Section<'_>, mut o: SessionOptions) {
    let (name, ssh) = (section.name, o.protocol == Protocol::Sftp);
    let yes = |key: &str| section.get(key).is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1");
    if !ssh {
        o = o.ftp_secure(match (yes("tls"), yes("explicit_tls")) {
            (true, _) => FtpSecure::Implicit,
            (_, true) => FtpSecure::Explicit,
            _ => FtpSecure::None,
        });
    }
    for (key, value) in section.values.iter().filter(|(_, value)| !value.is_empty()) {
        let what = format!("{key} = {value}");
        o = match (*key, ssh) {
            ("type", _) | ("tls" | "explicit_tls", false) => o,
            ("host", _) => o.host_name(*value),
            ("user", _) => o.user_name(*value),
            ("port", _) => out.apply(name, &what, o, |o| o.add_raw_setting("PortNumber", value)),
            ("pass", _) => hidden(out, name, "pass", value, o, |o, plain| o.password(plain)),
            ("key_file", true) => o.ssh_private_key_path(tilde(value)),
            ("key_file_pass", true) => {
                hidden(out, name, "key_file_pass", value, o, |o, plain| o.private_key_passphrase(plain))
            }
            ("key_pem", true) => o.ssh_private_key(value.replace("\\n", "\n")),
            ("known_hosts_file", true) => o.known_hosts(tilde(value)),
            ("socks_proxy", _) => out.apply(name, "socks_proxy", o, |o| proxy(o, "2", value, "1080")),
            ("http_proxy", _) => out.apply(name, "http_proxy", o, |o| proxy(o, "3", value, "80")),
            // It says how the password may be had, and Ferry asks where it has none.
            ("ask_password" | "key_use_agent", _) => o,
            _ => unknown(out, name, key, o),
        };
    }
    o.raw.retain(|(name, _)| name != "PortNumber");
    taken(out, name, o);
}

/// A remote of WebDAV: its `url` is where the tree begins.
fn webdav(out: &mut Imported, section: &Section<'_>) {
    let name = section.name;
    // Without the URL, which may hold a secret.
    let mut o = match SessionOptions::parse_url(section.get("url").unwrap_or_default()) {
        Ok(o) if o.protocol == Protocol::Webdav => o,
        Ok(_) => return out.note(name, "the remote is left out: its url is none of WebDAV"),
        Err(e) => return out.note(name, format!("the remote is left out: url: {}", words_of(&e))),
    };
    for (key, value) in section.values.iter().filter(|(_, value)| !value.is_empty()) {
        o = match *key {
            // What a server can is found out.
            "type" | "url" | "vendor" => o,
            "user" => o.user_name(*value),
            "pass" => hidden(out, name, "pass", value, o, |o, plain| o.password(plain)),
            _ => unknown(out, name, key, o),
        };
    }
    taken(out, name, o);
}

/// A remote of S3: a store that is named by its `endpoint`, or AWS's.
fn s3(out: &mut Imported, section: &Section<'_>) {
    let name = section.name;
    let aws = section.get("provider").unwrap_or("AWS").eq_ignore_ascii_case("AWS");
    let endpoint = match section.get("endpoint").filter(|e| !e.is_empty()) {
        Some(endpoint) => endpoint,
        None if aws => "s3.amazonaws.com",
        None => return out.note(name, "the remote is left out: it names no endpoint"),
    };
    let (scheme, place) = match endpoint.split_once("://") {
        Some((scheme, place)) if scheme.eq_ignore_ascii_case("http") => ("s3plain", place),
        Some((_, place)) => ("s3", place),
        None => ("s3", endpoint),
    };
    let mut o = match SessionOptions::parse_url(&format!("{scheme}://{place}")) {
        Ok(o) => o,
        Err(e) => return out.note(name, format!("the remote is left out: endpoint: {}", words_of(&e))),
    };
    for (key, value) in section.values.iter().filter(|(_, value)| !value.is_empty()) {
        let mut raw = |o, setting: &str, value: &str| {
            out.apply(name, key, o, |o: SessionOptions| o.add_raw_setting(setting, value))
        };
        let yes = value.eq_ignore_ascii_case("true") || *value == "1";
        o = match *key {
            "type" | "provider" | "endpoint" => o,
            "access_key_id" => o.user_name(*value),
            "secret_access_key" => o.password(*value),
            "session_token" => raw(o, "S3SessionToken", value),
            "region" => raw(o, "S3DefaultRegion", value),
            "profile" => raw(o, "S3Profile", value),
            "role_arn" => raw(o, "S3RoleArn", value),
            "env_auth" => raw(o, "S3CredentialsEnv", if yes { "1" } else { "0" }),
            "requester_pays" => raw(o, "S3RequesterPays", if yes { "1" } else { "0" }),
            "force_path_style" => raw(o, "S3UrlStyle", if yes { "1" } else { "0" }),
            _ => unknown(out, name, key, o),
        };
    }
    taken(out, name, o);
}

/// Without its value, which may be a secret.
fn unknown(out: &mut Imported, site: &str, key: &str, o: SessionOptions) -> SessionOptions {
    out.note(site, format!("{key}: there is no such setting here"));
    o
}

/// Takes a site in. Where no user is named, rclone logs in as whoever runs it.
fn taken(out: &mut Imported, site: &str, mut o: SessionOptions) {
    if o.user_name.is_none() && o.password.is_some() {
        out.note(site, "pass: no user is named, so the password is left out");
        o.password = None;
    }
    out.take(site, o, None);
}

fn tilde(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}

/// `[scheme://][user[:password]@]host[:port]`.
fn proxy(mut o: SessionOptions, method: &str, value: &str, port: &str) -> Result<SessionOptions> {
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest).trim_end_matches('/');
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => (place, port),
    };
    o = o.add_raw_setting("ProxyMethod", method)?;
    o = o.add_raw_setting("ProxyHost", session_core::net::dial::bare(host))?;
    o = o.add_raw_setting("ProxyPort", port)?;
    if let Some(login) = login {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        o = o.add_raw_setting("ProxyUsername", user)?;
        if !password.is_empty() {
            o = o.add_raw_setting("ProxyPassword", password)?;
        }
    }
    Ok(o)
}

fn hidden(
    out: &mut Imported,
    site: &str,
    key: &str,
    value: &str,
    o: SessionOptions,
    set: impl FnOnce(SessionOptions, String) -> SessionOptions,
) -> SessionOptions {
    match reveal(value) {
        Some(plain) => set(o, plain),
        None => {
            out.note(site, format!("{key}: it is not obscured as rclone does it"));
            o
        }
    }
}

/// Takes rclone's cover off. `None` for what is not of its form.
pub(super) fn reveal(text: &str) -> Option<String> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (counter, body) = bytes.split_at_mut_checked(16)?;
    let counter: [u8; 16] = (&*counter).try_into().ok()?;
    let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, &KEY).ok()?).ok()?;
    let plain = key.decrypt(body, DecryptionContext::Iv128(FixedLength::from(counter))).ok()?;
    String::from_utf8(plain.to_vec()).ok()
}
