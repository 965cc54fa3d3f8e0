//! What GnuPG says on its status descriptor (`doc/DETAILS` of GnuPG), and what follows from it.
//!
//! A call was good if the child ended well and everything that must be said was said, where it must be: the exit
//! code alone is good for a message that is only signed, and a good signature alone for content that nobody signed.
//! Lines that are not known say nothing.

use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::script::{Fingerprint, PgpTask};

/// The low bits of an error of libgpg-error.
const CODE: u64 = 0xffff;

/// Its code of a passphrase that opens nothing.
const BAD_PASSPHRASE: u64 = 11;

/// A signature that was looked at.
#[derive(Debug, Default)]
struct Signature {
    good: bool,
    /// Key and primary key, of a signature of content.
    by: Vec<String>,
    /// Why it is worth nothing.
    fault: Option<&'static str>,
    /// It stands in what was decrypted.
    inside: bool,
}

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Messages that were begun to decrypt, and that came to their end.
    begun: u32,
    ended: u32,
    /// Contents, and those that were not encrypted.
    contents: u32,
    bare: u32,
    opened: bool,
    decrypted: bool,
    untouched: bool,
    encrypted: bool,
    /// The kind of a signature that was made: `S` in a message, `D` apart.
    made: Option<char>,
    signatures: Vec<Signature>,
    /// What went wrong, the first that tells.
    fault: Option<(ErrorKind, String)>,
    /// What may have.
    no_key: bool,
    no_passphrase: bool,
}

impl Status {
    fn inside(&self) -> bool {
        self.begun > self.ended
    }

    fn failed(&mut self, kind: ErrorKind, words: impl Into<String>) {
        self.fault.get_or_insert_with(|| (kind, words.into()));
    }

    fn signature(&mut self, change: impl FnOnce(&mut Signature)) {
        let inside = self.inside();
        if self.signatures.is_empty() {
            self.signatures.push(Signature { inside, ..Signature::default() });
        }
        if let Some(last) = self.signatures.last_mut() {
            change(last);
        }
    }

    /// One line, without its prefix.
    pub(super) fn line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let word = |n: usize| rest.get(n).copied().unwrap_or_default();
        match keyword {
            "BEGIN_DECRYPTION" => self.begun += 1,
            "END_DECRYPTION" => self.ended += 1,
            "DECRYPTION_KEY" => self.opened = true,
            "DECRYPTION_OKAY" => self.decrypted = true,
            "GOODMDC" => self.untouched = true,
            "DECRYPTION_INFO" if word(0) == "0" && matches!(word(2), "" | "0") => {
                self.failed(ErrorKind::Refused, "the message is not protected against changes");
            }
            "BADMDC" => self.failed(ErrorKind::Corrupt, "the message was changed, or is broken"),
            "NODATA" => self.failed(ErrorKind::Corrupt, "this is no message of PGP, or not a whole one"),
            "UNEXPECTED" | "BADARMOR" => self.failed(ErrorKind::Corrupt, "the message is broken"),
            "PLAINTEXT" if self.inside() => self.contents += 1,
            "PLAINTEXT" => self.bare += 1,
            "END_ENCRYPTION" => self.encrypted = true,
            "SIG_CREATED" => self.made = word(0).chars().next(),
            "INV_RECP" => {
                let words = format!("it cannot be encrypted for {}: {}", shown(word(1)), reason(word(0)));
                self.failed(ErrorKind::InvalidArgument, words);
            }
            "INV_SGNR" => {
                let words = format!("{} cannot sign: {}", shown(word(1)), reason(word(0)));
                self.failed(ErrorKind::InvalidArgument, words);
            }
            "NO_SECKEY" => self.no_key = true,
            "NEED_PASSPHRASE" | "MISSING_PASSPHRASE" => self.no_passphrase = true,
            "ERROR" | "FAILURE" if word(1).parse::<u64>().is_ok_and(|code| code & CODE == BAD_PASSPHRASE) => {
                self.failed(ErrorKind::Unauthenticated, "the passphrase does not open the key");
            }
            "NEWSIG" => {
                let inside = self.inside();
                self.signatures.push(Signature { inside, ..Signature::default() });
            }
            "GOODSIG" => self.signature(|s| s.good = true),
            "VALIDSIG" => {
                // Of content, binary or text (RFC 4880, 5.2.1); a signature of a key signs no file.
                let is_of_content = matches!(word(8), "00" | "01");
                let by = [word(0), word(9)].map(str::to_owned);
                self.signature(|s| match is_of_content {
                    true => s.by = by.into(),
                    false => s.fault = Some("the signature is not one of content"),
                });
            }
            "BADSIG" => self.signature(|s| s.fault = Some("the signature is not one of this content")),
            "ERRSIG" => self.signature(|s| s.fault = Some("it is signed by a key that is not known here")),
            "EXPSIG" => self.signature(|s| s.fault = Some("the signature has expired")),
            "EXPKEYSIG" => self.signature(|s| s.fault = Some("the key that signed it has expired")),
            "REVKEYSIG" => self.signature(|s| s.fault = Some("the key that signed it was revoked")),
            _ => {}
        }
    }

    /// What the call came to; of those who were wanted, who has signed. Errors: see [`super::Pgp::run`].
    pub(super) fn judge(self, task: &PgpTask, ended_well: bool) -> Result<Vec<Fingerprint>> {
        let error = |kind: ErrorKind, words: &str| Err(Error::new(kind).with_detail(words.to_owned()));
        if let Some((kind, words)) = &self.fault {
            return error(*kind, words);
        }
        match task {
            PgpTask::Encrypt { sign, .. } => {
                let is_signed = sign.is_none() || self.made == Some('S');
                match ended_well && self.encrypted && is_signed {
                    true => Ok(Vec::new()),
                    false => self.unmade("it could not be encrypted"),
                }
            }
            PgpTask::Sign { .. } => match ended_well && self.made == Some('D') {
                true => Ok(Vec::new()),
                false => self.unmade("it could not be signed"),
            },
            PgpTask::Decrypt { signers, .. } => {
                let is_whole = self.decrypted && self.untouched && (self.begun, self.ended) == (1, 1);
                if !is_whole && !self.opened && self.no_key {
                    return error(ErrorKind::Unauthenticated, "no key here opens it");
                }
                if !is_whole {
                    return match self.no_passphrase {
                        true => self.unmade(""),
                        false => error(ErrorKind::Corrupt, "the message is broken, or is not encrypted"),
                    };
                }
                if (self.contents, self.bare) != (1, 0) {
                    return error(ErrorKind::Corrupt, "the message has not one content");
                }
                let signed_by = match signers.is_empty() {
                    true => Vec::new(),
                    false => self.signed_by(signers, true)?,
                };
                match ended_well {
                    true => Ok(signed_by),
                    false => error(ErrorKind::Corrupt, "the message is broken"),
                }
            }
            PgpTask::Verify { signers, .. } => {
                let signed_by = self.signed_by(signers, false)?;
                match ended_well && self.bare + self.contents + self.begun == 0 {
                    true => Ok(signed_by),
                    false => error(ErrorKind::Corrupt, "this is no signature that stands apart"),
                }
            }
        }
    }

    fn unmade(&self, words: &str) -> Result<Vec<Fingerprint>> {
        match self.no_passphrase {
            true => Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail("the key needs a passphrase: `passphrases` of [pgp]")),
            false => Err(Error::new(ErrorKind::Internal).with_detail(words.to_owned())),
        }
    }

    /// Which of these have signed. Errors: `Refused` where none has, and for any signature that is worth nothing.
    fn signed_by(&self, wanted: &[Fingerprint], inside: bool) -> Result<Vec<Fingerprint>> {
        if let Some(fault) = self.signatures.iter().find_map(|s| s.fault) {
            return Err(Error::refused(fault));
        }
        let good = |s: &&Signature| s.good && s.inside == inside;
        let by: Vec<&String> = self.signatures.iter().filter(good).flat_map(|s| &s.by).collect();
        let all: Vec<_> =
            wanted.iter().filter(|w| by.iter().any(|b| b.as_str() == w.as_str())).cloned().collect();
        match all.is_empty() {
            true => Err(Error::refused("it is not signed by one of those who were named")),
            false => Ok(all),
        }
    }
}

/// A word of the other side, for people.
fn shown(word: &str) -> String {
    display_bytes(word.as_bytes())
}

/// The reasons of INV_RECP and INV_SGNR.
fn reason(code: &str) -> &'static str {
    match code {
        "1" => "the key is not in the home of [pgp]",
        "2" => "there is more than one such key",
        "3" => "the key is not for that",
        "4" => "the key was revoked",
        "5" => "the key has expired",
        "9" => "there is no secret key",
        "13" => "the key is switched off",
        "14" => "this is no name of a key",
        _ => "the key cannot be used",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "85ACE7DDC7DC43AD213E57299472AE6F0FE8AD12";
    const BOB: &str = "A9167095A641AA92FB2AA493442A836F61A3D95C";

    fn key(text: &str) -> Fingerprint {
        Fingerprint::parse(text).unwrap()
    }

    fn judged(lines: &str, task: &PgpTask, well: bool) -> Result<Vec<Fingerprint>> {
        let mut status = Status::default();
        lines.lines().for_each(|line| status.line(line.trim()));
        status.judge(task, well)
    }

    fn decrypt(signers: &[&str]) -> PgpTask {
        PgpTask::Decrypt { key: None, signers: signers.iter().map(|s| key(s)).collect() }
    }

    fn verify(signers: &[&str]) -> PgpTask {
        let signers = signers.iter().map(|s| key(s)).collect();
        PgpTask::Verify { signers, signature: Default::default() }
    }

    /// What GnuPG 2.2.40 says of a message that Bob signed.
    fn message(signature: &str) -> String {
        format!(
            "ENC_TO 16F33701248253D1 1 0\nDECRYPTION_KEY 87772EC5546B6A24E57A92BA16F33701248253D1 {ADA} u\n\
             ENC_TO F98A5ED5EC12B898 1 0\nNO_SECKEY F98A5ED5EC12B898\nBEGIN_DECRYPTION\nDECRYPTION_INFO 2 9 0\n\
             PLAINTEXT 62 1795335918 name\nPLAINTEXT_LENGTH 6\n{signature}DECRYPTION_OKAY\nGOODMDC\nEND_DECRYPTION\n"
        )
    }

    fn good(class: &str) -> String {
        format!(
            "NEWSIG\nGOODSIG 442A836F61A3D95C two <two@x>\n\
             VALIDSIG {BOB} 2026-11-22 1795335918 0 4 0 1 10 {class} {BOB}\n"
        )
    }

    #[test]
    fn a_message_is_good_by_all_that_must_be_said_and_nothing_less() {
        assert_eq!(judged(&message(""), &decrypt(&[]), true).unwrap(), []);
        assert_eq!(judged(&message(&good("00")), &decrypt(&[ADA, BOB]), true).unwrap(), [key(BOB)]);
        for needed in [
            "BEGIN_DECRYPTION",
            "PLAINTEXT 62 1795335918 name",
            "DECRYPTION_OKAY",
            "GOODMDC",
            "END_DECRYPTION",
        ] {
            let less = message("").replace(&format!("{needed}\n"), "");
            assert_eq!(
                judged(&less, &decrypt(&[]), true).unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{needed}"
            );
        }
        assert!(judged(&message(""), &decrypt(&[]), false).is_err());
        // A second content, in it or beside it; a second message.
        let plain = "PLAINTEXT 62 1 x\n";
        for more in
            [plain.to_owned() + &message(""), message("") + plain, message(plain), message("").repeat(2)]
        {
            assert!(judged(&more, &decrypt(&[]), true).is_err(), "{more}");
        }
    }

    #[test]
    fn a_signature_counts_where_it_stands_in_the_message_and_by_whom_it_is() {
        let refused = |lines: &str, signers: &[&str]| {
            let e = judged(lines, &decrypt(signers), true).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Refused, "{lines}");
            e.peer_words().to_owned()
        };
        refused(&message(""), &[BOB]);
        refused(&message(&good("00")), &[ADA]);
        // Beside the message: anybody can add that.
        refused(&(good("00") + &message("")), &[BOB]);
        refused(&(message("") + &good("00")), &[BOB]);
        // Of a key, not of content.
        refused(&message(&good("10")), &[BOB]);
        // What is said of one signature says nothing of another.
        let parted = "NEWSIG\nGOODSIG 1 x\nNEWSIG\nVALIDSIG ".to_owned()
            + &format!("{BOB} 2026-11-22 1 0 4 0 1 10 00 {BOB}\n");
        refused(&message(&parted), &[BOB]);
        for (word, told) in [
            ("BADSIG", "not one of this content"),
            ("ERRSIG", "not known here"),
            ("EXPSIG", "has expired"),
            ("EXPKEYSIG", "has expired"),
            ("REVKEYSIG", "was revoked"),
        ] {
            let bad = good("00").replace("GOODSIG", word);
            assert!(refused(&message(&bad), &[BOB]).contains(told), "{word}");
            assert!(refused(&message(&(good("00") + &bad)), &[BOB]).contains(told), "{word}");
        }
        // A name may say what it likes: it stands behind the key's id.
        let liar = "NEWSIG\nBADSIG 1 GOODSIG VALIDSIG\n";
        refused(&message(liar), &[BOB]);
    }

    #[test]
    fn what_went_wrong_is_told() {
        let told = |lines: &str, task: &PgpTask| {
            let e = judged(lines, task, false).unwrap_err();
            (e.kind(), e.peer_words().to_owned())
        };
        let (kind, _) = told(
            "ERROR pkdecrypt_failed 67108875\nBEGIN_DECRYPTION\nDECRYPTION_FAILED\nEND_DECRYPTION",
            &decrypt(&[]),
        );
        assert_eq!(kind, ErrorKind::Unauthenticated);
        let (kind, words) = told("NEED_PASSPHRASE 1 2 1 0\nINQUIRE_MAXLEN 100", &decrypt(&[]));
        assert!(kind == ErrorKind::Unauthenticated && words.contains("passphrases"), "{words}");
        let (kind, words) =
            told("NO_SECKEY 1\nBEGIN_DECRYPTION\nDECRYPTION_FAILED\nEND_DECRYPTION", &decrypt(&[]));
        assert!(kind == ErrorKind::Unauthenticated && words.contains("no key here"), "{words}");
        let old =
            message("").replace("DECRYPTION_INFO 2 9 0", "DECRYPTION_INFO 0 2 0").replace("GOODMDC\n", "");
        let e = judged(&old, &decrypt(&[]), true).unwrap_err();
        assert!(e.kind() == ErrorKind::Refused && e.peer_words().contains("not protected"), "{e}");
        // OCB of GnuPG 2.4 has no MDC and needs none.
        let new = message("").replace("DECRYPTION_INFO 2 9 0", "DECRYPTION_INFO 0 9 2");
        assert!(judged(&new, &decrypt(&[]), true).is_ok());
        assert_eq!(told("NODATA 2\nFAILURE decrypt 4294967295", &decrypt(&[])).0, ErrorKind::Corrupt);

        let encrypt = PgpTask::Encrypt { recipients: vec![key(ADA)], sign: Some(key(BOB)), armor: false };
        let (kind, words) = told(&format!("INV_RECP 5 {ADA}\nFAILURE encrypt 53"), &encrypt);
        assert!(kind == ErrorKind::InvalidArgument && words.contains("has expired"), "{words}");
        assert_eq!(told("FAILURE sign-encrypt 67108875", &encrypt).0, ErrorKind::Unauthenticated);
        let made = format!("SIG_CREATED S 1 10 00 1795335918 {BOB}\nBEGIN_ENCRYPTION 2 9\nEND_ENCRYPTION");
        assert!(judged(&made, &encrypt, true).is_ok());
        assert!(judged("BEGIN_ENCRYPTION 2 9\nEND_ENCRYPTION", &encrypt, true).is_err(), "not signed");
        assert!(judged(&format!("SIG_CREATED S 1 10 00 1 {BOB}"), &encrypt, true).is_err(), "not encrypted");
        let sign = PgpTask::Sign { key: key(BOB), armor: false };
        assert!(judged(&format!("SIG_CREATED D 1 10 00 1 {BOB}"), &sign, true).is_ok());
        assert!(judged(&format!("SIG_CREATED S 1 10 00 1 {BOB}"), &sign, true).is_err());
        assert!(judged("", &sign, true).is_err());

        assert_eq!(judged(&good("00"), &verify(&[BOB]), true).unwrap(), [key(BOB)]);
        assert!(judged(&good("00"), &verify(&[BOB]), false).is_err());
        assert!(judged(&good("00"), &verify(&[ADA]), true).is_err());
        // A signed message in place of a signature: what it signs is its own content.
        assert!(judged(&format!("PLAINTEXT 62 1 x\n{}", good("00")), &verify(&[BOB]), true).is_err());
    }
}
