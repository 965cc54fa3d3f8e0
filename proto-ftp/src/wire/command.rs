//! Commands: a verb and its argument (RFC 959, section 5.3).
//!
//! A verb has up to eight letters, in any case. The argument is everything behind one space, bytes as they
//! are: a name may begin or end with spaces. CR and NUL stand in no argument; what holds one is refused
//! before anybody sees it.

use bytes::Bytes;

/// The longest verb.
pub const MAX_VERB: usize = 8;

/// A verb in capitals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word {
    bytes: [u8; MAX_VERB],
    len: usize,
}

impl Word {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Letters and digits only, by construction.
        std::str::from_utf8(self.bytes.get(..self.len).unwrap_or_default()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It does not begin with a verb.
    Verb,
    /// Its argument holds CR or NUL.
    Argument,
}

/// A verb and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The verb.
    pub verb: Word,
    /// The argument; empty where there is none.
    pub argument: Bytes,
}

impl Command {
    /// Reads a line without its end.
    pub fn parse(line: &Bytes) -> Result<Self, Malformed> {
        let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
        let word = line.get(..end).unwrap_or_default();
        if word.is_empty() || word.len() > MAX_VERB || !word.iter().all(u8::is_ascii_alphanumeric) {
            return Err(Malformed::Verb);
        }
        let mut bytes = [0; MAX_VERB];
        for (to, from) in bytes.iter_mut().zip(word) {
            *to = from.to_ascii_uppercase();
        }
        let argument = line.slice(line.len().min(end + 1)..);
        if argument.iter().any(|b| matches!(b, b'\r' | 0)) {
            return Err(Malformed::Argument);
        }
        Ok(Command { verb: Word { bytes, len: word.len() }, argument })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &'static [u8]) -> Result<(String, Vec<u8>), Malformed> {
        let c = Command::parse(&Bytes::from_static(line))?;
        Ok((c.verb.as_str().to_owned(), c.argument.to_vec()))
    }

    #[test]
    fn verbs_and_arguments_are_told_apart() {
        assert_eq!(parse(b"retr  a b ").unwrap(), ("RETR".into(), b" a b ".to_vec()));
        assert_eq!(parse(b"NOOP").unwrap(), ("NOOP".into(), b"".to_vec()));
        assert_eq!(parse(b"XSHA256 f").unwrap().0, "XSHA256");
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for line in [&b""[..], b" RETR a", b"RE\x00R a", b"GET/ HTTP/1.1", b"ABCDEFGHI x", b"\xff\xfe"] {
            assert_eq!(parse(line), Err(Malformed::Verb), "{line:?}");
        }
        assert_eq!(parse(b"RETR a\rDELE b"), Err(Malformed::Argument));
        assert_eq!(parse(b"RETR a\0b"), Err(Malformed::Argument));
    }
}
