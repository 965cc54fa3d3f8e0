//! WinSCP's lists of algorithms as those of SSH.
//!
//! WinSCP's names stand for groups of algorithms; what stands behind `WARN` would be asked about there and is not
//! spoken here. Of a group those are offered that sign and hash with SHA-2, whatever its name says; of one that is not
//! spoken at all (`3des`, `dsa`, …) nothing is, and a list of which nothing is left is refused: an order does not make a
//! login weaker than Ferry's own, unless it has `dh-group1-sha1`, which is nothing but broken, before `WARN`.

use session_core::error::{Error, ErrorKind, Result};

use super::options::bad;

/// WinSCP's names, and what of each is spoken.
type Names = &'static [(&'static str, &'static str)];

const CIPHERS: Names = &[
    ("aes", "aes256-ctr,aes192-ctr,aes128-ctr"),
    ("aesgcm", "aes256-gcm@openssh.com,aes128-gcm@openssh.com"),
    ("chacha20", "chacha20-poly1305@openssh.com"),
    ("3des", ""),
    ("arcfour", ""),
    ("blowfish", ""),
    ("des", ""),
];

const KEX: Names = &[
    ("mlkem-curve25519", "mlkem768x25519-sha256"),
    (
        "ecdh",
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521",
    ),
    ("dh-gex-sha1", "diffie-hellman-group-exchange-sha256"),
    ("dh-group1-sha1", "diffie-hellman-group1-sha1"),
    ("dh-group14-sha1", "diffie-hellman-group14-sha256"),
    ("dh-group15-sha512", ""),
    ("dh-group16-sha512", "diffie-hellman-group16-sha512"),
    ("dh-group17-sha512", ""),
    ("dh-group18-sha512", "diffie-hellman-group18-sha512"),
    ("mlkem-nist", ""),
    ("ntru-curve25519", ""),
    ("rsa", ""),
];

const HOST_KEYS: Names = &[
    ("ecdsa", "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521"),
    ("ed25519", "ssh-ed25519"),
    ("rsa", "rsa-sha2-512,rsa-sha2-256"),
    ("dsa", ""),
    ("ed448", ""),
];

/// A list of WinSCP's as one of ssh_config(5). Errors: `InvalidArgument` for a name that WinSCP does not know either;
/// `Unsupported` where nothing of it is spoken.
pub(super) fn list(setting: &str, value: &str) -> Result<String> {
    let names = match setting {
        "Cipher" => CIPHERS,
        "KEX" => KEX,
        _ => HOST_KEYS,
    };
    let mut spoken = Vec::new();
    let mut warned = false;
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if word.eq_ignore_ascii_case("WARN") {
            warned = true;
            continue;
        }
        let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        let Some((_, group)) = found else {
            let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            return Err(bad(format!("the raw setting '{setting}': '{word}' is not known"))
                .with_hint(format!("choose from {}", known.join(", "))));
        };
        if !warned && !group.is_empty() {
            spoken.push(*group);
        }
    }
    if spoken.is_empty() {
        let known = names.iter().filter(|(_, group)| !group.is_empty()).map(|(name, _)| *name);
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail(format!("the raw setting '{setting}': nothing of '{value}' is spoken here"))
            .with_hint(format!("name one of {known}, before WARN")));
    }
    Ok(spoken.join(","))
}

/// After how many bytes keys are exchanged anew: a number with K, M or G. Errors: `InvalidArgument` for what is none;
/// `Unsupported` for less than 1M, more than 1G, and never.
pub(super) fn rekey_bytes(value: &str) -> Result<u64> {
    let (digits, unit) = match value.trim().char_indices().last() {
        Some((at, c)) if c.is_ascii_alphabetic() => (value.trim().get(..at).unwrap_or_default(), c),
        _ => (value.trim(), 'B'),
    };
    let shift = match unit.to_ascii_uppercase() {
        'B' => 0,
        'K' => 10,
        'M' => 20,
        'G' => 30,
        _ => 64,
    };
    let bytes =
        digits.parse::<u64>().ok().zip(1_u64.checked_shl(shift)).and_then(|(n, unit)| n.checked_mul(unit));
    let bytes = bytes.ok_or_else(|| {
        bad(format!("the raw setting 'RekeyBytes': '{value}' is not a number of bytes such as 512M"))
    })?;
    if !(1 << 20..=1 << 30).contains(&bytes) {
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail("the raw setting 'RekeyBytes': keys are exchanged anew after 1M to 1G"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_groups_in_their_order() {
        for (setting, value, expected) in [
            (
                "Cipher",
                "aesgcm,AES,WARN,chacha20",
                "aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr",
            ),
            ("Cipher", "3des, chacha20", "chacha20-poly1305@openssh.com"),
            ("KEX", "dh-group14-sha1,rsa,WARN,dh-group1-sha1", "diffie-hellman-group14-sha256"),
            ("HostKey", "rsa,ed25519", "rsa-sha2-512,rsa-sha2-256,ssh-ed25519"),
        ] {
            assert_eq!(list(setting, value).unwrap(), expected, "{value}");
        }
        for (setting, value, kind) in [
            ("Cipher", "WARN,aes", ErrorKind::Unsupported),
            ("Cipher", "3des,des", ErrorKind::Unsupported),
            ("HostKey", "dsa", ErrorKind::Unsupported),
            ("KEX", "aes", ErrorKind::InvalidArgument),
        ] {
            assert_eq!(list(setting, value).unwrap_err().kind(), kind, "{value}");
        }
    }

    #[test]
    fn bytes_have_units_and_bounds() {
        for (value, bytes) in [("1G", 1 << 30), ("512m", 512 << 20), ("1048576", 1 << 20), ("2048K", 2 << 20)]
        {
            assert_eq!(rekey_bytes(value).unwrap(), bytes, "{value}");
        }
        for value in ["0", "1K", "2G"] {
            assert_eq!(rekey_bytes(value).unwrap_err().kind(), ErrorKind::Unsupported, "{value}");
        }
        for value in ["G", "1X", "x", "-1", "99999999999G"] {
            assert_eq!(rekey_bytes(value).unwrap_err().kind(), ErrorKind::InvalidArgument, "{value}");
        }
    }
}
