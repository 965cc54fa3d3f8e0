//! WinSCP.ini, as its export writes it: a section `Sessions\…` for each site, names and texts percent-encoded.
//!
//! Every setting goes through the table of raw settings. Passwords are unscrambled (a fixed mask over the bytes,
//! with user and host before them), unless a master password encrypts them. Paths of Windows are mapped by the
//! drives that are given. Commands of Windows as a proxy are not taken over.

use session_core::error::Error;

use super::ini::{Section, sections};
use super::{Imported, percent};
use crate::script::Drives;
use crate::session::{FtpSecure, Protocol, SessionOptions, raw};

/// Settings of WinSCP's windows, which mean nothing to a session.
const WINDOWS: [&str; 18] = [
    "Color",
    "CustomParam1",
    "CustomParam2",
    "Description",
    "Font",
    "IsWorkspace",
    "Link",
    "LocalDirectory",
    "Note",
    "OtherLocalDirectory",
    "PuttyProtocol",
    "PuttySettings",
    "ResolvePathsUsingMapping",
    "ReuseDirectories",
    "Special",
    "SynchronizeBrowsing",
    "UpdateDirectories",
    "WinTitle",
];

/// Reads the text of a WinSCP.ini.
pub fn winscp(text: &str, drives: &Drives) -> Imported {
    let mut out = Imported::default();
    let all = sections(text);
    let master = all.iter().any(|s| {
        s.name.eq_ignore_ascii_case("Configuration\\Security") && s.get("UseMasterPassword") == Some("1")
    });
    if all.iter().any(|s| s.name.eq_ignore_ascii_case("SshHostKeys")) {
        out.note("", "the host keys that WinSCP knows: a key that is not on record here is asked about");
    }
    for section in &all {
        let Some(name) = section.name.strip_prefix("Sessions\\").map(percent) else { continue };
        let name = name.trim_start_matches('\u{feff}');
        if name == "Default Settings" || section.values.is_empty() {
            continue;
        }
        if section.get("IsWorkspace") == Some("1") {
            out.note(name, "a workspace is no site");
            continue;
        }
        one(&mut out, section, name, drives, master);
    }
    out
}

fn one(out: &mut Imported, section: &Section<'_>, name: &str, drives: &Drives, master: bool) {
    let text = |key: &str| section.get(key).map(percent).filter(|v| !v.is_empty());
    let mut o = SessionOptions::new();
    // SFTP with SCP in reserve is what WinSCP takes where nothing is said.
    let tls = matches!(section.get("Ftps"), Some("1" | "3"));
    o = match section.get("FSProtocol").unwrap_or("1") {
        "0" => o.protocol(Protocol::Scp),
        "1" | "2" => o.protocol(Protocol::Sftp),
        "5" => o.protocol(Protocol::Ftp).ftp_secure(FtpSecure::None),
        "6" => o.protocol(Protocol::Webdav).secure(tls),
        "7" => o.protocol(Protocol::S3).secure(tls),
        other => return out.note(name, format!("the site is left out: FSProtocol={other} is not known")),
    };
    let mut directory = None;
    for (key, value) in &section.values {
        let decoded = percent(value);
        let lower = key.to_ascii_lowercase();
        match lower.as_str() {
            "fsprotocol" => {}
            "ftps" if o.protocol != Protocol::Ftp => {}
            "remotedirectory" => directory = Some(decoded),
            "password" | "tunnelpassword" | "tunnelpassphrase" | "passphrase" | "proxypasswordenc"
            | "passwordplain" => o = secret(out, name, &lower, section, o, master),
            "proxymethod" if *value == "5" => {
                out.note(name, "ProxyMethod=5: a command of Windows is not run here");
            }
            "proxytelnetcommand" => {}
            "publickeyfile" | "tunnelpublickeyfile" | "tlscertificatefile" | "detachedcertificate" => {
                let what = format!("{key}={decoded}");
                o = out.apply(name, &what, o, |o| o.add_raw_setting(key, &drives.path(&decoded)?));
            }
            _ if WINDOWS.iter().any(|w| w.eq_ignore_ascii_case(key)) => {
                if lower == "localdirectory" {
                    out.note(name, format!("{key}={decoded}: a site here has no local directory"));
                }
            }
            _ => {
                let Some(setting) = raw::find(key) else {
                    out.note(name, format!("{key}: there is no such setting here"));
                    continue;
                };
                let value = if setting.kind == raw::Kind::Text { decoded } else { (*value).to_owned() };
                let shown = if raw::is_secret(key) { "…" } else { value.as_str() };
                let what = format!("{key}={shown}");
                o = out.apply(name, &what, o, |o| o.add_raw_setting(key, &value));
            }
        }
    }
    if o.host_name.is_empty() {
        o = o.host_name(text("HostName").unwrap_or_default());
    }
    out.take(name, tidy(o), directory);
}

/// What has an option of its own is not kept a second time.
fn tidy(mut o: SessionOptions) -> SessionOptions {
    o.raw.retain(
        |(name, _)| !matches!(raw::find(name), Some(s) if matches!(s.support, raw::Support::Typed(_))),
    );
    o
}

/// A password in one of WinSCP's forms.
fn secret(
    out: &mut Imported,
    name: &str,
    key: &str,
    section: &Section<'_>,
    o: SessionOptions,
    master: bool,
) -> SessionOptions {
    let text = |key: &str| section.get(key).map(percent).unwrap_or_default();
    let stored = text(key);
    if stored.is_empty() {
        return o;
    }
    // What stands before it is what it belongs to.
    let (owner, what) = match key {
        "tunnelpassword" => (text("TunnelUserName") + &text("TunnelHostName"), "the password of the tunnel"),
        "tunnelpassphrase" => (text("TunnelPublicKeyFile"), "the passphrase of the tunnel"),
        "passphrase" => (text("PublicKeyFile"), "the passphrase"),
        "proxypasswordenc" => (text("ProxyUsername") + &text("ProxyHost"), "the password of the proxy"),
        _ => (text("UserName") + &text("HostName"), "the password"),
    };
    let plain = match key {
        "passwordplain" => Some(stored),
        _ if master => {
            out.note(name, format!("{what}: a master password encrypts it"));
            return o;
        }
        _ => unscramble(&stored, &owner),
    };
    let Some(plain) = plain else {
        out.note(name, format!("{what}: it does not fit the user and host that it stands with"));
        return o;
    };
    out.apply(name, what, o, |o| {
        Ok::<_, Error>(match key {
            "tunnelpassword" => o.add_raw_setting("TunnelPasswordPlain", &plain)?,
            "tunnelpassphrase" => o.add_raw_setting("TunnelPassphrasePlain", &plain)?,
            "proxypasswordenc" => o.add_raw_setting("ProxyPassword", &plain)?,
            "passphrase" => o.private_key_passphrase(plain.as_str()),
            _ => o.password(plain.as_str()),
        })
    })
}

/// Takes WinSCP's mask off: pairs of hexadecimal digits, each the complement of a byte with 0xA3 laid over it. A
/// flag, perhaps a version, the length, how many bytes of filling follow, the filling, the text, filling. `None`
/// for what is not of that form, or does not begin with its owner.
pub(super) fn unscramble(text: &str, owner: &str) -> Option<String> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let mut bytes = digits.chunks_exact(2).map(|pair| match pair {
        [high, low] => !((high << 4 | low) ^ 0xA3),
        _ => 0,
    });
    let flag = bytes.next()?;
    let length = match flag {
        0xFF => match bytes.next()? {
            0 => usize::from(bytes.next()?),
            2 => usize::from(bytes.next()?) << 8 | usize::from(bytes.next()?),
            // Encrypted by something else.
            _ => return None,
        },
        length => usize::from(length),
    };
    let filling = usize::from(bytes.next()?);
    let plain: Vec<u8> = bytes.skip(filling).take(length).collect();
    let plain = String::from_utf8(plain).ok().filter(|p| p.len() == length)?;
    if flag == 0xFF { plain.strip_prefix(owner).map(str::to_owned) } else { Some(plain) }
}
