//! What a phrase opens: PBES2 (RFC 8018, section 6.2), PKCS#12's schemes and their derivation (RFC 7292, appendices
//! B and C), and OpenSSL's for the older PEM (MD5, one round, the first eight bytes of the vector as salt).
//!
//! None of them but GCM seals: a wrong phrase shows by its padding, and by what comes out being no key.

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt as _, KeyInit, KeyIvInit as _};
use md5::Md5;
use pkcs5::EncryptionScheme;
use pkcs5::pbes2::Kdf;
use sha1::{Digest, Sha1};

use super::Fault;
use crate::net::der::{OCTET_STRING, OID, SEQUENCE, expect, take};

pub(super) const INTEGER: u8 = 0x02;

/// Rounds of a derivation at most: ten times what anybody advises.
const ROUNDS: u32 = 10_000_000;
/// Memory of a derivation at most, bytes.
const MEMORY: u64 = 256 << 20;

/// PKCS#5, and in it PBES2: 1.2.840.113549.1.5.13.
const PKCS5: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5];
const PBES2: u8 = 13;
/// PKCS#12's schemes: 1.2.840.113549.1.12.1.
const PKCS12: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1];

/// A phrase in both forms that derivations want.
pub(super) struct Phrase<'a> {
    text: &'a str,
    /// UTF-16, the higher byte first, with a zero at its end.
    pub(super) wide: Vec<u8>,
}

impl<'a> Phrase<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Phrase { text, wide: text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect() }
    }

    /// No phrase at all, which is not the same as an empty one.
    pub(super) fn none() -> Self {
        Phrase { text: "", wide: Vec::new() }
    }
}

impl Drop for Phrase<'_> {
    fn drop(&mut self) {
        self.wide.fill(0);
        std::hint::black_box(&self.wide);
    }
}

/// An `EncryptedPrivateKeyInfo` (RFC 5958, section 3).
pub(super) fn key(mut info: &[u8], phrase: &Phrase<'_>) -> Result<Vec<u8>, Fault> {
    let parts = expect(&mut info, SEQUENCE).and_then(|mut inside| {
        let algorithm = whole(&mut inside)?;
        Some((algorithm, expect(&mut inside, OCTET_STRING)?))
    });
    let (algorithm, data) = parts.ok_or(Fault::Damaged("its key is cut off"))?;
    let key = by(algorithm, data, phrase)?;
    if is_key(&key) { Ok(key) } else { Err(Fault::WrongPhrase) }
}

/// Takes one element off the head, with its tag and length.
pub(super) fn whole<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let before = *input;
    take(input)?;
    before.get(..before.len() - input.len())
}

/// Whether it has the outer form of a key: a sequence, to the last byte, that begins with a version.
fn is_key(mut der: &[u8]) -> bool {
    expect(&mut der, SEQUENCE)
        .is_some_and(|mut inside| der.is_empty() && expect(&mut inside, INTEGER).is_some())
}

/// Decrypts `data` as an `AlgorithmIdentifier` says.
pub(super) fn by(algorithm: &[u8], data: &[u8], phrase: &Phrase<'_>) -> Result<Vec<u8>, Fault> {
    let mut outer = algorithm;
    let mut inside = expect(&mut outer, SEQUENCE).ok_or(Fault::Damaged("how it is encrypted is not said"))?;
    let id = expect(&mut inside, OID).ok_or(Fault::Damaged("how it is encrypted is not said"))?;
    match id.split_last() {
        Some((&PBES2, family)) if family == PKCS5 => pbes2(algorithm, data, phrase),
        Some((&scheme, family)) if family == PKCS12 => pkcs12(scheme, inside, data, phrase),
        Some((_, family)) if family == PKCS5 => {
            Err(Fault::Unsupported("it is encrypted with DES or RC2 in PKCS#5's first scheme"))
        }
        _ => Err(Fault::Unsupported("it is encrypted in a way that is not known")),
    }
}

fn pbes2(algorithm: &[u8], data: &[u8], phrase: &Phrase<'_>) -> Result<Vec<u8>, Fault> {
    let unknown = || Fault::Unsupported("it is encrypted in a way that is not known");
    let scheme = EncryptionScheme::try_from(algorithm).map_err(|_| unknown())?;
    let Some(parameters) = scheme.pbes2() else { return Err(unknown()) };
    let costs = match &parameters.kdf {
        Kdf::Pbkdf2(p) => (1..=ROUNDS).contains(&p.iteration_count),
        Kdf::Scrypt(p) => {
            let n = p.cost_parameter;
            let memory = n.saturating_mul(128).saturating_mul(u64::from(p.block_size));
            n.is_power_of_two() && n > 1 && memory <= MEMORY && (1..=16).contains(&p.parallelization)
        }
        _ => return Err(unknown()),
    };
    if !costs {
        return Err(Fault::Unsupported("opening it would cost more than is spent on it"));
    }
    scheme.decrypt(phrase.text, data).map_err(|e| match e {
        pkcs5::Error::DecryptFailed => Fault::WrongPhrase,
        _ => unknown(),
    })
}

/// PKCS#12's schemes, by their number.
fn pkcs12(scheme: u8, mut inside: &[u8], data: &[u8], phrase: &Phrase<'_>) -> Result<Vec<u8>, Fault> {
    let parameters = expect(&mut inside, SEQUENCE).and_then(|mut p| {
        let salt = expect(&mut p, OCTET_STRING)?;
        Some((salt, rounds(expect(&mut p, INTEGER)?)?))
    });
    let (salt, rounds) = parameters.ok_or(Fault::Damaged("how it is encrypted is not said"))?;
    let rounds = rounds?;
    let made = |purpose: u8, length: usize| derive::<Sha1>(64, &phrase.wide, salt, purpose, rounds, length);
    let iv = made(IV, 8);
    match scheme {
        3 => unchained::<des::TdesEde3>(&made(KEY, 24), &iv, data),
        4 => unchained::<des::TdesEde2>(&made(KEY, 16), &iv, data),
        5 => unchained::<rc2::Rc2>(&made(KEY, 16), &iv, data),
        6 => unchained::<rc2::Rc2>(&made(KEY, 5), &iv, data),
        1 | 2 => Err(Fault::Unsupported("it is encrypted with RC4")),
        _ => Err(Fault::Unsupported("it is encrypted in a way that is not known")),
    }
}

/// A number of rounds. `None` for what is no number, an error inside for one that is not spent.
pub(super) fn rounds(digits: &[u8]) -> Option<Result<u32, Fault>> {
    if digits.is_empty() || digits.first().is_some_and(|d| *d >= 0x80) {
        return None;
    }
    let number = digits.iter().fold(0u64, |n, d| n.saturating_mul(256).saturating_add(u64::from(*d)));
    let spent = u32::try_from(number).ok().filter(|n| (1..=ROUNDS).contains(n));
    Some(spent.ok_or(Fault::Unsupported("opening it would cost more than is spent on it")))
}

/// What is derived: a key to encrypt with.
const KEY: u8 = 1;
/// A vector to begin with.
const IV: u8 = 2;
/// A key to seal with.
pub(super) const SEAL: u8 = 3;

/// RFC 7292, appendix B.2, with a hash of blocks of `block` bytes.
pub(super) fn derive<D: Digest>(
    block: usize,
    phrase: &[u8],
    salt: &[u8],
    purpose: u8,
    rounds: u32,
    length: usize,
) -> Vec<u8> {
    let filled = |text: &[u8]| -> Vec<u8> {
        text.iter().copied().cycle().take(text.len().div_ceil(block) * block).collect()
    };
    let mut state = filled(salt);
    state.extend(filled(phrase));
    let mut out = Vec::new();
    while out.len() < length {
        let mut hash = D::new().chain_update(vec![purpose; block]).chain_update(&state).finalize();
        for _ in 1..rounds {
            hash = D::digest(&hash);
        }
        out.extend_from_slice(&hash);
        let added: Vec<u8> = hash.iter().copied().cycle().take(block).collect();
        for block in state.chunks_mut(block) {
            // The two numbers and one, without what flows over.
            let mut carry = 1u16;
            for (digit, more) in block.iter_mut().zip(&added).rev() {
                let [over, sum] = (u16::from(*digit) + u16::from(*more) + carry).to_be_bytes();
                (*digit, carry) = (sum, u16::from(over));
            }
        }
    }
    out.truncate(length);
    out
}

/// The older PEM form: `info` is what `DEK-Info` says.
pub(super) fn older(info: &str, body: &[u8], phrase: &str) -> Result<Vec<u8>, Fault> {
    let parts = info.split_once(',').map(|(cipher, iv)| (cipher.trim(), hexadecimal(iv.trim())));
    let Some((cipher, Some(iv))) = parts else {
        return Err(Fault::Damaged("how its key is encrypted is not said"));
    };
    let salt = iv.get(..8).ok_or(Fault::Damaged("its vector is too short"))?;
    let made = |length: usize| {
        let (mut out, mut last) = (Vec::new(), Vec::new());
        while out.len() < length {
            last = Md5::new().chain_update(&last).chain_update(phrase).chain_update(salt).finalize().to_vec();
            out.extend_from_slice(&last);
        }
        out.truncate(length);
        out
    };
    let key = match cipher {
        "AES-128-CBC" => unchained::<aes::Aes128>(&made(16), &iv, body),
        "AES-192-CBC" => unchained::<aes::Aes192>(&made(24), &iv, body),
        "AES-256-CBC" => unchained::<aes::Aes256>(&made(32), &iv, body),
        "DES-EDE3-CBC" => unchained::<des::TdesEde3>(&made(24), &iv, body),
        "DES-CBC" => Err(Fault::Unsupported("its key is encrypted with DES")),
        _ => Err(Fault::Unsupported("its key is encrypted in a way that is not known")),
    }?;
    if is_key(&key) { Ok(key) } else { Err(Fault::WrongPhrase) }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    digits?
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

fn unchained<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, Fault> {
    let cipher = Decryptor::<C>::new_from_slices(key, iv)
        .map_err(|_| Fault::Damaged("its vector is of another length than its cipher's"))?;
    // All these ciphers have vectors as long as a block.
    if data.is_empty() || !data.len().is_multiple_of(iv.len()) {
        return Err(Fault::Damaged("what is encrypted is cut off"));
    }
    let mut buffer = data.to_vec();
    let length = cipher.decrypt_padded::<Pkcs7>(&mut buffer).map_err(|_| Fault::WrongPhrase)?.len();
    buffer.truncate(length);
    Ok(buffer)
}
