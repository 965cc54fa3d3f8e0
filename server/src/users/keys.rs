//! `PublicKey`: one line of an `authorized_keys` file (sshd(8)), as far as accounts use it.
//!
//! Two keys are the same when type and blob are. Options before the key are refused, not ignored: each
//! of them restricts, and a restriction that is dropped silently is a hole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A public key in one-line form, the comment dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: String,
    blob: Vec<u8>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, STANDARD.encode(&self.blob))
    }
}

impl PublicKey {
    /// Reads `type base64 [comment]`. The error says what is wrong with the line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(text)) = (words.next(), words.next()) else {
            return Err("a public key is one line: its type, then base64".into());
        };
        let blob = STANDARD.decode(text).ok().filter(|blob| inner_kind(blob) == Some(kind.as_bytes()));
        let Some(blob) = blob else {
            return Err(if line.contains(" ssh-") || line.contains(" ecdsa-") || line.contains(" sk-") {
                "options before a public key are not supported; use the account's own settings".into()
            } else {
                "this is no public key: the type and the base64 do not fit together".into()
            });
        };
        Ok(PublicKey { kind: kind.into(), blob })
    }

    /// Reads the lines of a file; blank lines and comments are skipped. The error has the line's number.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, (usize, String)> {
        let mut keys = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                keys.push(PublicKey::parse(line).map_err(|words| (i + 1, words))?);
            }
        }
        Ok(keys)
    }
}

/// The type that the blob itself begins with (RFC 4253, section 6.6).
fn inner_kind(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn comments_do_not_matter_and_options_are_refused() {
        let plain = PublicKey::parse(KEY).unwrap();
        assert_eq!(PublicKey::parse(&format!("{KEY}  me@here now")).unwrap(), plain);
        assert!(PublicKey::parse(&format!("no-pty {KEY}")).unwrap_err().contains("options"));
        assert!(PublicKey::parse("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJdD").is_err());
        assert!(PublicKey::parse("").is_err());
        let file = format!("# mine\n\n{KEY} a\nrubbish here\n");
        assert_eq!(PublicKey::parse_all(&file).unwrap_err().0, 4);
    }
}
