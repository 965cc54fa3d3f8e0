//! The grammar of pinned fingerprints, checked when they are assigned.
//!
//! Host keys: `[type (space or -)] [bits space] value`, the value an MD5 (16 octets in hexadecimal with
//! colons or dashes) or a SHA-256 in either base64 alphabet; OpenSSH's `SHA256:…` and `MD5:…` are taken
//! too. Certificates: SHA-1 or SHA-256 in hexadecimal octets. Alternatives are set apart by semicolons.
//!
//! See WinSCP's documentation of `SshHostKeyFingerprint` and `TlsHostCertificateFingerprint`.

use session_core::error::{Error, ErrorKind, Result};
use session_core::trust::{CertificateFingerprint, Fingerprint};

/// The types of keys that the grammar knows, and one more that has come since.
const TYPES: [&str; 7] = [
    "ssh-rsa",
    "ssh-dss",
    "ssh-ed25519",
    "ssh-ed448",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// Host keys, at least one. Errors: `InvalidArgument` for what does not follow the grammar, `Unsupported`
/// for keys that no connection of ours accepts.
pub(super) fn host_keys(text: &str) -> Result<Vec<Fingerprint>> {
    text.split(';').map(host_key).collect()
}

fn host_key(text: &str) -> Result<Fingerprint> {
    let whole = text.trim();
    let bad = || {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{whole}' is not a host key fingerprint"))
            .with_hint("give it as 'ssh-ed25519 256 …' or 'SHA256:…'; several are set apart by semicolons")
    };
    if whole.starts_with("SHA256:") || whole.starts_with("MD5:") {
        return Fingerprint::parse(whole).map_err(|_| bad());
    }
    let (kind, rest) = TYPES
        .iter()
        .find_map(|kind| {
            let rest = whole.strip_prefix(kind)?;
            Some((Some(*kind), rest.strip_prefix([' ', '-'])?))
        })
        .unwrap_or((None, whole));
    if kind == Some("ssh-dss") {
        return Err(Error::new(ErrorKind::Unsupported).with_detail("keys of type ssh-dss are not accepted"));
    }
    let (bits, value) = if is_value(rest) {
        (None, rest)
    } else {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (bits, value) = rest.split_at_checked(digits).ok_or_else(bad)?;
        // A URL has a dash where a text has a blank.
        (Some(bits), value.strip_prefix([' ', '-']).ok_or_else(bad)?)
    };
    if !is_value(value) || bits.is_some_and(str::is_empty) {
        return Err(bad());
    }
    let words: Vec<&str> = kind.into_iter().chain(bits).chain([value]).collect();
    Fingerprint::parse(&words.join(" ")).map_err(|_| bad())
}

/// MD5 in pairs, or 43 characters of base64.
fn is_value(text: &str) -> bool {
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let is_pair = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
    if pairs.len() == 16 && pairs.iter().all(is_pair) {
        return true;
    }
    let digest = text.strip_suffix('=').unwrap_or(text);
    digest.len() == 43 && digest.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(&b))
}

/// Certificates, at least one. Errors: `InvalidArgument`.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateFingerprint>> {
    text.split(';').map(CertificateFingerprint::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "0a:1b:2c:3d:4e:5f:60:71:82:93:a4:b5:c6:d7:e8:f9";
    const SHA: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO-8";

    #[test]
    fn host_keys_follow_the_grammar() {
        let dashes = MD5.replace(':', "-");
        for good in [
            MD5.to_string(),
            dashes.clone(),
            SHA.to_string(),
            format!("{SHA}="),
            format!("ssh-rsa {MD5}"),
            format!("ssh-rsa-{dashes}"),
            format!("ssh-rsa 2048 {MD5}"),
            format!("ssh-ed25519 256 {SHA}"),
            format!("ssh-ed25519-256-{SHA}"),
            format!("ecdsa-sha2-nistp256 256 {SHA}="),
            format!("2048 {MD5}"),
            format!("SHA256:{SHA}"),
            format!("MD5:{MD5}"),
        ] {
            assert_eq!(host_keys(&good).map(|k| k.len()).unwrap_or_default(), 1, "{good}");
        }
        assert_eq!(host_keys(&format!("{MD5}; ssh-rsa {MD5}")).unwrap().len(), 2);
        for bad in [
            String::new(),
            "*".into(),
            format!("{MD5};"),
            format!("{MD5}:00"),
            format!("ssh-rsa{MD5}"),
            format!("ssh-foo {MD5}"),
            format!("ssh-rsa  {MD5}"),
            format!("{SHA}=="),
            format!("{SHA}A"),
            format!("SHA1:{SHA}"),
            format!("ssh-rsa 20a8 {MD5}"),
            "ssh-rsa 2048".into(),
        ] {
            let kind = host_keys(&bad).map(|_| ()).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidArgument, "{bad}");
        }
        let old = host_keys(&format!("ssh-dss 1024 {MD5}")).map(|_| ()).unwrap_err();
        assert_eq!(old.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn certificates_are_octets_in_two_lengths() {
        for (octets, between) in [(20, ":"), (20, "-"), (32, ":"), (32, "-")] {
            assert_eq!(certificates(&vec!["a1"; octets].join(between)).unwrap().len(), 1);
        }
        for bad in ["", "a1:a1", "*", SHA] {
            assert!(certificates(bad).is_err(), "{bad}");
        }
    }
}
