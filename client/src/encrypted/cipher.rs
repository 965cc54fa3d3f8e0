//! AES-256 in counter mode over names and content, as WinSCP has it.
//!
//! The salt is the first counter block, which counts up as one number of 128 bits, big endian; what `openssl enc
//! -aes-256-ctr -iv SALT` computes is the same. Nothing here proves that a text is whole or of whom it is: who can
//! write to the server can change bits of it unseen, and a wrong key opens it to nonsense. See the module above for
//! the format.

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::{check_name, display_bytes};

/// Bytes of a block, and of a salt.
pub(super) const BLOCK: usize = 16;
/// The first bytes of content.
const MAGIC: &[u8; BLOCK] = b"aesctr..........";
/// Bytes before the content.
pub(super) const HEADER: usize = 2 * BLOCK;
/// How names of encrypted entries end.
const SUFFIX: &[u8] = b".aesctr.enc";
/// The longest name whose sealed form has 255 bytes.
pub(super) const LONGEST: usize = 167;

/// What a text begins its count with.
pub(super) type Salt = [u8; BLOCK];

/// A key for files and their names.
pub struct FileKey(EncryptingKey);

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKey(…)")
    }
}

fn failed() -> Error {
    Error::new(ErrorKind::Internal).with_detail("the cipher does not work")
}

/// A new salt. Errors: `Internal` where the system gives no random numbers.
pub(super) fn salt() -> Result<Salt> {
    let mut salt = Salt::default();
    aws_lc_rs::rand::fill(&mut salt)
        .map_err(|_| Error::new(ErrorKind::Internal).with_detail("the system gives no random numbers"))?;
    Ok(salt)
}

/// What stands before content.
pub(super) fn header(salt: &Salt) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (to, from) in header.iter_mut().zip(MAGIC.iter().chain(salt)) {
        *to = *from;
    }
    header
}

/// The salt of a header. Errors: `Corrupt` for what is none.
pub(super) fn salt_of(header: &[u8]) -> Result<Salt> {
    let salt = header.strip_prefix(MAGIC).and_then(|rest| Salt::try_from(rest).ok());
    salt.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt)
            .with_detail("its name says that it is encrypted, and its content begins otherwise")
    })
}

/// Whether a stored name says that its entry is encrypted.
pub(super) fn is_sealed(stored: &[u8]) -> bool {
    stored.len() > SUFFIX.len() && stored.ends_with(SUFFIX)
}

impl FileKey {
    /// A key as 64 hexadecimal digits. Errors: `InvalidArgument`, without the text.
    pub fn parse(text: &str) -> Result<FileKey> {
        let bad = || {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail("a key for files has 64 hexadecimal digits")
                .with_hint("'openssl rand -hex 32' makes one; without it nothing can be read again")
        };
        let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut key = [0u8; 32];
        let digits: Option<Vec<u8>> = text.trim().as_bytes().iter().map(digit).collect();
        let digits = digits.filter(|d| d.len() == 2 * key.len()).ok_or_else(bad)?;
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        let key = UnboundCipherKey::new(&AES_256, &key).map_err(|_| failed())?;
        EncryptingKey::ctr(key).map(FileKey).map_err(|_| failed())
    }

    /// Encrypts what stands at `offset` of a text, or decrypts it: the same.
    pub(super) fn apply(&self, salt: &Salt, offset: u64, data: &mut [u8]) -> Result<()> {
        let (block, into) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
        let (torn, whole) = data.split_at_mut(data.len().min((BLOCK - into) % BLOCK));
        if !torn.is_empty() {
            let mut stream = [0; BLOCK];
            self.run(salt, block, &mut stream)?;
            torn.iter_mut().zip(stream.iter().skip(into)).for_each(|(byte, key)| *byte ^= key);
        }
        self.run(salt, block + u64::from(into > 0), whole)
    }

    fn run(&self, salt: &Salt, block: u64, data: &mut [u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let counter = u128::from_be_bytes(*salt).wrapping_add(u128::from(block)).to_be_bytes();
        let context = EncryptionContext::Iv128(FixedLength::from(counter));
        self.0.less_safe_encrypt(data, context).map(|_| ()).map_err(|_| failed())
    }

    /// A name as it is stored, another one each time. Errors: `InvalidPath` for one that is not UTF-8 or has more than
    /// [`LONGEST`] bytes.
    pub(super) fn seal_name(&self, name: &[u8]) -> Result<Vec<u8>> {
        if std::str::from_utf8(name).is_err() || name.len() > LONGEST {
            return Err(Error::new(ErrorKind::InvalidPath).with_detail(format!(
                "the name '{}' cannot be encrypted: it has to be UTF-8 of {LONGEST} bytes at most",
                display_bytes(name)
            )));
        }
        self.seal_name_with(&salt()?, name)
    }

    fn seal_name_with(&self, salt: &Salt, name: &[u8]) -> Result<Vec<u8>> {
        let mut text = name.to_vec();
        self.apply(salt, 0, &mut text)?;
        let mut stored = STANDARD_NO_PAD.encode([&salt[..], &text].concat()).replace('/', "_").into_bytes();
        stored.extend_from_slice(SUFFIX);
        Ok(stored)
    }

    /// The name that a stored one stands for; `None` for one that is not of this key and form.
    pub(super) fn open_name(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(stored.strip_suffix(SUFFIX)?).ok()?;
        let mut bytes = STANDARD_NO_PAD.decode(text.replace('_', "/")).ok()?;
        let (salt, name) = bytes.split_at_mut_checked(BLOCK)?;
        let salt = Salt::try_from(&*salt).ok()?;
        self.apply(&salt, 0, name).ok()?;
        // What somebody else put there, or another key, must not lead anywhere.
        let fits = check_name(name).is_ok() && std::str::from_utf8(name).is_ok();
        fits.then(|| name.to_vec())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The key of NIST SP 800-38A, F.5.5.
    pub(crate) const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn salt_from(text: &str) -> Salt {
        hex(text).try_into().unwrap()
    }

    #[test]
    fn texts_are_those_that_openssl_makes() {
        let key = FileKey::parse(KEY).unwrap();
        // `openssl enc -aes-256-ctr -K KEY -iv SALT`.
        for (salt, plain, sealed) in [
            (
                "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
                "The quick brown fox jumps over the lazy dog, twice over.\n",
                "5fb718d128627f5035bae967a717ab223c0111bd391474762713e94aea175be073a40cf0601b747d69e4b18f17fabd0b4a33c1a71f50449fb4",
            ),
            (
                "ffffffffffffffffffffffffffffffff",
                "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCC",
                "7a7d6860891b659fdb87478f2c5c218da72ab4c3d68d3494550f0e820152ea16d2565d1e",
            ),
        ] {
            let (salt, sealed) = (salt_from(salt), hex(sealed));
            // From any beginning, in pieces of any size.
            for piece in [1, 3, 15, 16, 17, 40, 100] {
                let mut text = plain.as_bytes().to_vec();
                for (n, part) in text.chunks_mut(piece).enumerate() {
                    key.apply(&salt, (n * piece) as u64, part).unwrap();
                }
                assert_eq!(text, sealed, "pieces of {piece}");
            }
        }
        // NIST SP 800-38A, F.5.5.
        let nist = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let mut text = nist;
        key.apply(&salt_from("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"), 0, &mut text).unwrap();
        assert_eq!(text, hex("601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"));
    }

    #[test]
    fn names_are_those_that_openssl_and_base64_make() {
        let key = FileKey::parse(KEY).unwrap();
        for (salt, name, stored) in [
            (
                "000102030405060708090a0b0c0d0e0f",
                "Grüße (1).txt",
                "AAECAwQFBgcICQoLDA0OD_DN+eE3puz9v8HTuZ+2Ww.aesctr.enc",
            ),
            ("fbeffbefbeffffffffffffffff3fff0f", "a", "++_7777__________z__D4g.aesctr.enc"),
        ] {
            let sealed = key.seal_name_with(&salt_from(salt), name.as_bytes()).unwrap();
            assert_eq!(key.open_name(&sealed).as_deref(), Some(name.as_bytes()));
            let sealed = String::from_utf8(sealed).unwrap();
            assert!(!sealed.contains(['/', '=']));
            assert_eq!(key.open_name(stored.as_bytes()).as_deref(), Some(name.as_bytes()), "{sealed}");
            assert_eq!(sealed, stored);
        }
        assert_ne!(key.seal_name(b"a").unwrap(), key.seal_name(b"a").unwrap());
        assert_eq!(key.seal_name(&[b'x'; LONGEST]).unwrap().len(), 255);
        for bad in [&b"\xff"[..], &[b'x'; LONGEST + 1]] {
            assert_eq!(key.seal_name(bad).unwrap_err().kind(), ErrorKind::InvalidPath);
        }
    }

    #[test]
    fn what_others_put_there_leads_nowhere() {
        let key = FileKey::parse(KEY).unwrap();
        for name in ["../x", "a/b", "..", ".", "a\0b", ""] {
            let sealed = key.seal_name_with(&[7; BLOCK], name.as_bytes()).unwrap();
            assert!(is_sealed(&sealed) && key.open_name(&sealed).is_none(), "{name}");
        }
        for stored in ["x", ".aesctr.enc", "!!.aesctr.enc", "AAAA.aesctr.enc", "a=.aesctr.enc"] {
            assert!(key.open_name(stored.as_bytes()).is_none(), "{stored}");
        }
    }

    #[test]
    fn keys_have_64_digits_and_are_not_shown() {
        assert!(!format!("{:?}", FileKey::parse(KEY).unwrap()).contains("603d"));
        for bad in ["", "60", &KEY.replace('6', "g"), &format!("{KEY}00")] {
            let e = FileKey::parse(bad).unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidArgument && !format!("{e:#}").contains("deb"), "{e:#}");
        }
    }
}
