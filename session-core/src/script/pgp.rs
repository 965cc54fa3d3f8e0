//! What handlers ask of PGP (`PGP.EncryptFile` and its kin), as the host is told: a task, where content comes from
//! and where it goes.
//!
//! Keys are named by whole fingerprints and in no other way: a shorter id, a name or an address may be somebody
//! else's key. Content is handed on in pieces. How a message is made or judged is the host's.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::de::{Deserialize, Deserializer, Error as _};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::File;

/// Bytes of a piece.
const CHUNK: usize = 256 << 10;

/// The fingerprint of a key: 40 hexadecimal digits (RFC 4880, 12.2), or 64 (RFC 9580, 5.5.4.3), in capitals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Digits in any case, with blanks between them. Errors: `InvalidArgument`.
    pub fn parse(text: &str) -> Result<Self> {
        let digits: String = text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_uppercase()).collect();
        if !matches!(digits.len(), 40 | 64) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("a key of PGP is named by its whole fingerprint: 40 or 64 hexadecimal digits"));
        }
        Ok(Fingerprint(digits))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Fingerprint::parse(&String::deserialize(d)?).map_err(|e| D::Error::custom(e.peer_words()))
    }
}

/// What is to be done with content.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(tag = "what", rename_all = "lowercase", deny_unknown_fields)]
pub enum PgpTask {
    /// A message for these, whole or not at all.
    Encrypt {
        /// Who can read it; never empty.
        recipients: Vec<Fingerprint>,
        /// Who signs it, inside.
        sign: Option<Fingerprint>,
        /// As text.
        armor: bool,
    },
    /// What is in a message.
    Decrypt {
        /// The key that is expected to open it, where its passphrase must be known.
        key: Option<Fingerprint>,
        /// One of these has signed it; nobody need have if there are none.
        signers: Vec<Fingerprint>,
    },
    /// A signature that stands apart.
    Sign {
        /// Who signs.
        key: Fingerprint,
        /// As text.
        armor: bool,
    },
    /// Whether such a signature is one of this content.
    Verify {
        /// By one of these; never empty.
        signers: Vec<Fingerprint>,
        /// The signature.
        #[serde(skip)]
        signature: Bytes,
    },
}

impl PgpTask {
    /// Errors: `InvalidArgument` for one that makes no sense.
    pub(super) fn check(&self) -> Result<()> {
        let words = match self {
            PgpTask::Encrypt { recipients, .. } if recipients.is_empty() => {
                "nobody could read it: name recipients"
            }
            PgpTask::Verify { signers, .. } if signers.is_empty() => "anybody may sign: name the signers",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidArgument).with_detail(words))
    }
}

enum From {
    Content(Bytes),
    File(Arc<dyn File>),
}

/// Where content comes from, in pieces.
pub struct Inflow {
    from: From,
    offset: u64,
}

impl Inflow {
    /// A file from its beginning.
    pub fn file(file: Arc<dyn File>) -> Self {
        Inflow { from: From::File(file), offset: 0 }
    }

    /// This.
    pub fn content(content: Bytes) -> Self {
        Inflow { from: From::Content(content), offset: 0 }
    }

    /// The next piece; empty at the end. Errors: those of reading.
    pub async fn next(&mut self) -> Result<Bytes> {
        let piece = match &mut self.from {
            From::Content(content) => content.split_to(content.len().min(CHUNK)),
            From::File(file) => {
                file.read_into(self.offset, CHUNK, BytesMut::with_capacity(CHUNK)).await?.freeze()
            }
        };
        self.offset += piece.len() as u64;
        Ok(piece)
    }
}

enum To {
    Content(Vec<u8>, usize),
    File(Arc<dyn File>),
    Nowhere,
}

/// Where content goes, in pieces. What is there after an error is worth nothing.
pub struct Outflow {
    to: To,
    written: u64,
}

impl Outflow {
    /// Into a file, from its beginning.
    pub fn file(file: Arc<dyn File>) -> Self {
        Outflow { to: To::File(file), written: 0 }
    }

    /// Into memory, at most so many bytes.
    pub fn content(most: usize) -> Self {
        Outflow { to: To::Content(Vec::new(), most), written: 0 }
    }

    /// Nothing comes.
    pub fn nowhere() -> Self {
        Outflow { to: To::Nowhere, written: 0 }
    }

    /// Takes a piece. Errors: those of writing; `TooLarge`.
    pub async fn take(&mut self, piece: Bytes) -> Result<()> {
        let length = piece.len() as u64;
        match &mut self.to {
            To::Content(all, most) if all.len() + piece.len() > *most => {
                let words = format!("a text has at most {} MiB", *most >> 20);
                return Err(Error::new(ErrorKind::TooLarge).with_detail(words));
            }
            To::Content(all, _) => all.extend_from_slice(&piece),
            To::File(file) => file.write_at(self.written, piece).await?,
            To::Nowhere => return Err(ErrorKind::Internal.into()),
        }
        self.written += length;
        Ok(())
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// What went into memory.
    pub(super) fn into_content(self) -> Vec<u8> {
        match self.to {
            To::Content(all, _) => all,
            To::File(_) | To::Nowhere => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_whole_fingerprint_or_not_at_all() {
        let whole = "85ACE7DDC7DC43AD213E57299472AE6F0FE8AD12";
        for text in [whole, &whole.to_lowercase(), "85AC E7DD C7DC 43AD 213E  5729 9472 AE6F 0FE8 AD12"] {
            assert_eq!(Fingerprint::parse(text).unwrap().as_str(), whole);
        }
        assert!(Fingerprint::parse(&"0".repeat(64)).is_ok());
        let longer = format!("{whole}0");
        for text in
            ["", "0FE8AD12", "9472AE6F0FE8AD12", "ada@example.com", &longer, &"é".repeat(20), &"x".repeat(40)]
        {
            assert!(Fingerprint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_task_that_makes_no_sense_is_none() {
        let read = |text: &str| -> bool {
            serde_json::from_str::<PgpTask>(text).is_ok_and(|task| task.check().is_ok())
        };
        let key = "85ACE7DDC7DC43AD213E57299472AE6F0FE8AD12";
        assert!(read(&format!(r#"{{"what":"encrypt","recipients":["{key}"],"sign":null,"armor":true}}"#)));
        assert!(read(r#"{"what":"decrypt","key":null,"signers":[]}"#));
        for bad in [
            r#"{"what":"encrypt","recipients":[],"sign":null,"armor":true}"#,
            r#"{"what":"encrypt","recipients":["ada"],"sign":null,"armor":true}"#,
            r#"{"what":"verify","signers":[]}"#,
            r#"{"what":"forge"}"#,
        ] {
            assert!(!read(bad), "{bad}");
        }
    }
}
