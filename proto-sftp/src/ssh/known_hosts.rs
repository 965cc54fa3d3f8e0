//! OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): looked up, and appended to.
//!
//! Plain names with wildcards and negation, hashed names (`|1|salt|hash`), `[host]:port`,
//! `@cert-authority` and `@revoked` lines. A line that makes no sense is passed over. Files are only ever
//! appended to; what stands in them is kept.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::PublicKey;
use session_core::error::Result;
use session_core::trust::Known;
use sha1::{Digest, Sha1};

/// What is on record for a host.
#[derive(Debug, Default)]
pub struct Records {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    marker: Marker,
    /// `type base64` of the key.
    key: String,
    file: PathBuf,
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Authority,
    None,
    Revoked,
}

/// Where a conflicting record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl Records {
    /// Reads what the files say of `host`. A file that is missing says nothing. Errors: those of reading.
    pub fn read(files: &[PathBuf], host: &str, port: u16) -> Result<Self> {
        let name = lookup_name(host, port);
        let mut entries = Vec::new();
        for file in files {
            let text = match std::fs::read(file) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e.into()),
            };
            let text = String::from_utf8_lossy(&text);
            for (n, line) in text.lines().enumerate() {
                if let Some((marker, key)) = parse(line, &name) {
                    entries.push(Entry { marker, key, file: file.clone(), line: n + 1 });
                }
            }
        }
        Ok(Records { entries })
    }

    /// What is known of a plain host key, and where a conflict stands.
    pub fn judge(&self, key: &PublicKey) -> (Known, Option<Place>) {
        let wanted = key_text(key);
        let place = |e: &Entry| Some(Place { file: e.file.clone(), line: e.line });
        if let Some(e) = self.entries.iter().find(|e| e.marker == Marker::Revoked && e.key == wanted) {
            return (Known::Revoked, place(e));
        }
        let mut plain = self.entries.iter().filter(|e| e.marker == Marker::None).peekable();
        let Some(first) = plain.peek().copied() else { return (Known::Unknown, None) };
        if plain.any(|e| e.key == wanted) {
            return (Known::Matches, None);
        }
        // A record of the same type is a conflict; one of another type is one as well: a server that
        // suddenly has only a new kind of key is what an impostor looks like.
        let same = self
            .entries
            .iter()
            .find(|e| e.marker == Marker::None && e.key.split(' ').next() == wanted.split(' ').next());
        (Known::Changed, place(same.unwrap_or(first)))
    }

    /// Whether `authority` may vouch for this host.
    pub fn trusts_authority(&self, authority: &PublicKey) -> bool {
        let wanted = key_text(authority);
        let has = |marker| self.entries.iter().any(|e| e.marker == marker && e.key == wanted);
        has(Marker::Authority) && !has(Marker::Revoked)
    }

    /// Whether any authority is on record for this host.
    pub fn has_authorities(&self) -> bool {
        self.entries.iter().any(|e| e.marker == Marker::Authority)
    }

    /// The key types on record, so that the server can be asked for one of them first.
    pub fn key_types(&self) -> Vec<&str> {
        let plain = self.entries.iter().filter(|e| e.marker == Marker::None);
        plain.filter_map(|e| e.key.split(' ').next()).collect()
    }
}

/// Puts a key on record: one line, written in one call. The folder is made where it is missing.
pub fn append(file: &Path, host: &str, port: u16, key: &PublicKey) -> Result<()> {
    if let Some(dir) = file.parent()
        && !dir.as_os_str().is_empty()
    {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut line = format!("{} {}\n", lookup_name(host, port), key_text(key));
    // A last line without its end would swallow ours.
    if std::fs::read(file).is_ok_and(|t| t.last().is_some_and(|b| *b != b'\n')) {
        line.insert(0, '\n');
    }
    let mut out = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    out.write_all(line.as_bytes())?;
    out.sync_data()?;
    Ok(())
}

/// The name under which a host is on record.
fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

fn key_text(key: &PublicKey) -> String {
    let text = key.to_openssh().unwrap_or_default();
    let mut words = text.split_whitespace();
    format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// Marker and key of a line that is about `name`.
fn parse(line: &str, name: &str) -> Option<(Marker, String)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_whitespace();
    let mut first = words.next()?;
    let marker = match first {
        "@cert-authority" => Marker::Authority,
        "@revoked" => Marker::Revoked,
        other if other.starts_with('@') => return None,
        _ => Marker::None,
    };
    if marker != Marker::None {
        first = words.next()?;
    }
    let (kind, blob) = (words.next()?, words.next()?);
    STANDARD.decode(blob).ok()?;
    matches_host(first, name).then(|| (marker, format!("{kind} {blob}")))
}

fn matches_host(patterns: &str, name: &str) -> bool {
    if let Some(hashed) = patterns.strip_prefix("|1|") {
        return matches_hash(hashed, name);
    }
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if matches_pattern(&negated.to_ascii_lowercase(), name) => return false,
            Some(_) => {}
            None => found |= matches_pattern(&pattern.to_ascii_lowercase(), name),
        }
    }
    found
}

/// HMAC-SHA1 of the name under the salt (RFC 2104).
fn matches_hash(hashed: &str, name: &str) -> bool {
    let Some((salt, digest)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(digest)) = (STANDARD.decode(salt), STANDARD.decode(digest)) else { return false };
    let mut block = [0u8; 64];
    if salt.len() > block.len() {
        return false;
    }
    for (b, s) in block.iter_mut().zip(&salt) {
        *b = *s;
    }
    let inner = Sha1::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(name).finalize();
    let outer = Sha1::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize();
    outer[..] == digest[..]
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    fn go(p: &[u8], n: &[u8]) -> bool {
        match (p.split_first(), n.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => go(rest, n) || n.split_first().is_some_and(|(_, n)| go(p, n)),
            (Some((b'?', p)), Some((_, n))) => go(p, n),
            (Some((a, p)), Some((b, n))) if a == b => go(p, n),
            _ => false,
        }
    }
    // Patterns come from the user's own file, but stars are bounded all the same.
    pattern.matches('*').count() <= 8 && go(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn judge(file: &str, host: &str, port: u16, k: &str) -> Known {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        std::fs::write(&path, file).unwrap();
        Records::read(&[path], host, port).unwrap().judge(&key(k)).0
    }

    #[test]
    fn names_match_as_in_openssh() {
        for (patterns, host, port, known) in [
            ("example.com", "example.com", 22, true),
            ("example.com", "EXAMPLE.com", 22, true),
            ("example.com", "example.com", 2022, false),
            ("[example.com]:2022", "example.com", 2022, true),
            ("*.example.com,!bad.example.com", "a.example.com", 22, true),
            ("*.example.com,!bad.example.com", "bad.example.com", 22, false),
            ("192.0.2.?", "192.0.2.1", 22, true),
            ("other,example.com", "example.com", 22, true),
        ] {
            let expected = if known { Known::Matches } else { Known::Unknown };
            assert_eq!(judge(&format!("{patterns} {A} comment\n"), host, port, A), expected, "{patterns}");
        }
    }

    #[test]
    fn hashed_names_match() {
        // Made by `ssh-keygen -H` from `example.com`.
        let salt = [1u8; 20];
        let mut block = [0u8; 64];
        block[..20].copy_from_slice(&salt);
        let inner = Sha1::new().chain_update(block.map(|b| b ^ 0x36)).chain_update("example.com").finalize();
        let outer = Sha1::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize();
        let line = format!("|1|{}|{} {A}\n", STANDARD.encode(salt), STANDARD.encode(outer));
        assert_eq!(judge(&line, "example.com", 22, A), Known::Matches);
        assert_eq!(judge(&line, "example.org", 22, A), Known::Unknown);
    }

    #[test]
    fn changed_and_revoked_keys_are_told() {
        assert_eq!(judge(&format!("h {A}\n"), "h", 22, B), Known::Changed);
        assert_eq!(judge(&format!("h {A}\nh {B}\n"), "h", 22, B), Known::Matches);
        assert_eq!(judge(&format!("h {A}\n@revoked * {A}\n"), "h", 22, A), Known::Revoked);
        assert_eq!(judge(&format!("@cert-authority h {A}\n"), "h", 22, B), Known::Unknown);
        assert_eq!(judge("h nonsense\n# comment\n\n@unknown h x y\n", "h", 22, A), Known::Unknown);
    }

    #[test]
    fn what_is_appended_is_found_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/known_hosts");
        append(&path, "h", 2022, &key(A)).unwrap();
        std::fs::write(&path, format!("{}other {B}", std::fs::read_to_string(&path).unwrap())).unwrap();
        append(&path, "h2", 22, &key(B)).unwrap();
        let files = [path];
        for (host, port, k) in [("h", 2022, A), ("other", 22, B), ("h2", 22, B)] {
            assert_eq!(Records::read(&files, host, port).unwrap().judge(&key(k)).0, Known::Matches, "{host}");
        }
    }
}
