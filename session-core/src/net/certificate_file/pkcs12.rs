//! PKCS#12 files (RFC 7292), in DER and, as some programs write them, in BER with lengths that are not said.
//!
//! The seal is checked before anything is opened; a file without one opens by what is in it. Of several keys the
//! first counts, and the certificate that bears its id; then come those that vouch, in their order, as far as the
//! file has them. Passed over: revocation lists, secrets, names.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::Fault;
use super::decrypt::{self, INTEGER, Phrase, SEAL, derive, rounds, whole};
use crate::net::der::{OCTET_STRING, OID, SEQUENCE, SET, expect, parties, take};

/// Elements within elements at most.
const DEPTH: usize = 32;
/// Certificates that are looked at.
const BAGS: usize = 64;

const CONSTRUCTED: u8 = 0x20;
/// [0], with elements in it.
const FIRST: u8 = 0xa0;
/// [0], with bytes in it.
const FIRST_BYTES: u8 = 0x80;

/// PKCS#7: 1.2.840.113549.1.7.
const PKCS7: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7];
const DATA: u8 = 1;
const ENCRYPTED: u8 = 6;
/// Bags: 1.2.840.113549.1.12.10.1.
const BAG: [u8; 10] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];
/// X.509: 1.2.840.113549.1.9.22.1.
const X509: [u8; 10] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
/// localKeyId: 1.2.840.113549.1.9.21.
const LOCAL_KEY_ID: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 21];
const SHA1: [u8; 5] = [0x2b, 0x0e, 3, 2, 0x1a];
/// SHA-2: 2.16.840.1.101.3.4.2.
const SHA2: [u8; 8] = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
/// PBMAC1: 1.2.840.113549.1.5.14.
const PBMAC1: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 14];

const CUT: Fault = Fault::Damaged("it is cut off, or no PKCS#12");

/// A value, and the id that binds keys and certificates.
struct Bag {
    value: Vec<u8>,
    id: Option<Vec<u8>>,
}

#[derive(Default)]
struct Bags {
    key: Option<Bag>,
    certificates: Vec<Bag>,
}

/// Whether the bytes look like such a file: a sequence that begins with the number 3.
pub(super) fn is(bytes: &[u8]) -> bool {
    let inside = match bytes {
        [SEQUENCE, 0x80, rest @ ..] => Some(rest),
        mut other => expect(&mut other, SEQUENCE),
    };
    inside.is_some_and(|inside| inside.starts_with(&[INTEGER, 1, 3]))
}

/// The certificate with those above it, and the key.
pub(super) fn open(bytes: &[u8], phrase: Option<&str>) -> Result<(Vec<Vec<u8>>, Vec<u8>), Fault> {
    let bags = match phrase {
        Some(text) if !text.is_empty() => bags(bytes, &Phrase::new(text)),
        // Programs differ in what no phrase is.
        _ => bags(bytes, &Phrase::new("")).or_else(|e| match e {
            Fault::WrongPhrase => bags(bytes, &Phrase::none()),
            other => Err(other),
        }),
    };
    let bags = bags.map_err(|e| match e {
        Fault::WrongPhrase if phrase.is_none() => Fault::Encrypted,
        other => other,
    })?;
    let key = bags.key.ok_or(Fault::Missing("private key"))?;
    Ok((chain(bags.certificates, key.id.as_deref())?, key.value))
}

fn bags(bytes: &[u8], phrase: &Phrase<'_>) -> Result<Bags, Fault> {
    let file = definite(bytes).ok_or(CUT)?;
    let mut outer = file.as_slice();
    let mut inside = expect(&mut outer, SEQUENCE).ok_or(CUT)?;
    if expect(&mut inside, INTEGER) != Some(&[3]) {
        return Err(CUT);
    }
    let (kind, mut content) = content_info(&mut inside).ok_or(CUT)?;
    if kind != DATA {
        return Err(Fault::Unsupported("it is sealed to a public key"));
    }
    let safe = expect(&mut content, OCTET_STRING).ok_or(CUT)?;
    let seal = expect(&mut inside, SEQUENCE);
    if let Some(seal) = seal {
        check(seal, safe, phrase)?;
    }
    let safe = definite(safe).ok_or(CUT)?;
    let mut outer = safe.as_slice();
    let mut contents = expect(&mut outer, SEQUENCE).ok_or(CUT)?;
    let mut out = Bags::default();
    while !contents.is_empty() {
        let (kind, mut content) = content_info(&mut contents).ok_or(CUT)?;
        match kind {
            DATA => unpack(expect(&mut content, OCTET_STRING).ok_or(CUT)?, phrase, &mut out, 0)?,
            ENCRYPTED => {
                let (algorithm, data) = encrypted(content).ok_or(CUT)?;
                let bags = decrypt::by(algorithm, &data, phrase)?;
                unpack(&bags, phrase, &mut out, 0).map_err(|e| match e {
                    // Nobody has said that the phrase is the one.
                    Fault::Damaged(_) if seal.is_none() => Fault::WrongPhrase,
                    other => other,
                })?;
            }
            _ => return Err(Fault::Unsupported("a part of it is encrypted to a public key")),
        }
    }
    Ok(out)
}

/// A `ContentInfo`: its kind within PKCS#7, and its content.
fn content_info<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let mut info = expect(input, SEQUENCE)?;
    let (&kind, family) = expect(&mut info, OID)?.split_last()?;
    let content = expect(&mut info, FIRST)?;
    (family == PKCS7).then_some((kind, content))
}

/// An `EncryptedData` (RFC 5652, section 8): how, and what.
fn encrypted(mut content: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let mut data = expect(&mut content, SEQUENCE)?;
    expect(&mut data, INTEGER)?;
    let mut info = expect(&mut data, SEQUENCE)?;
    expect(&mut info, OID)?;
    let algorithm = whole(&mut info)?;
    match take(&mut info)? {
        (FIRST_BYTES, bytes) => Some((algorithm, bytes.to_vec())),
        (FIRST, mut pieces) => {
            let mut bytes = Vec::new();
            while !pieces.is_empty() {
                bytes.extend_from_slice(expect(&mut pieces, OCTET_STRING)?);
            }
            Some((algorithm, bytes))
        }
        _ => None,
    }
}

/// Checks the seal over `safe`.
fn check(mut seal: &[u8], safe: &[u8], phrase: &Phrase<'_>) -> Result<(), Fault> {
    let mut digest_info = expect(&mut seal, SEQUENCE).ok_or(CUT)?;
    let mut algorithm = expect(&mut digest_info, SEQUENCE).ok_or(CUT)?;
    let id = expect(&mut algorithm, OID).ok_or(CUT)?;
    let value = expect(&mut digest_info, OCTET_STRING).ok_or(CUT)?;
    let salt = expect(&mut seal, OCTET_STRING).ok_or(CUT)?;
    // One round where nothing is said.
    let rounds = match expect(&mut seal, INTEGER) {
        Some(digits) => rounds(digits).ok_or(CUT)??,
        None => 1,
    };
    let phrase = phrase.wide.as_slice();
    macro_rules! sealed {
        ($hash:ty, $block:expr, $length:expr) => {
            matches::<Hmac<$hash>>(&derive::<$hash>($block, phrase, salt, SEAL, rounds, $length), safe, value)
        };
    }
    let fits = match id.split_last() {
        _ if id == SHA1 => sealed!(Sha1, 64, 20),
        Some((1, family)) if family == SHA2 => sealed!(Sha256, 64, 32),
        Some((2, family)) if family == SHA2 => sealed!(Sha384, 128, 48),
        Some((3, family)) if family == SHA2 => sealed!(Sha512, 128, 64),
        Some((4, family)) if family == SHA2 => sealed!(Sha224, 64, 28),
        _ if id == PBMAC1 => return Err(Fault::Unsupported("it is sealed by PBMAC1")),
        _ => return Err(Fault::Unsupported("it is sealed in a way that is not known")),
    };
    if fits { Ok(()) } else { Err(Fault::WrongPhrase) }
}

fn matches<M: Mac + KeyInit>(key: &[u8], data: &[u8], value: &[u8]) -> bool {
    <M as KeyInit>::new_from_slice(key).is_ok_and(|m| m.chain_update(data).verify_slice(value).is_ok())
}

/// Puts what is in a `SafeContents` into its place.
fn unpack(safe: &[u8], phrase: &Phrase<'_>, out: &mut Bags, depth: usize) -> Result<(), Fault> {
    let safe = definite(safe).ok_or(CUT)?;
    let mut outer = safe.as_slice();
    let mut bags = expect(&mut outer, SEQUENCE).ok_or(CUT)?;
    while !bags.is_empty() {
        let mut bag = expect(&mut bags, SEQUENCE).ok_or(CUT)?;
        let id = expect(&mut bag, OID).ok_or(CUT)?;
        let mut value = expect(&mut bag, FIRST).ok_or(CUT)?;
        let kind = id.split_last().filter(|(_, family)| *family == BAG).map(|(kind, _)| *kind);
        let local = expect(&mut bag, SET).and_then(local_key_id);
        match kind {
            Some(1) if out.key.is_none() => {
                out.key = Some(Bag { value: whole(&mut value).ok_or(CUT)?.to_vec(), id: local });
            }
            Some(2) if out.key.is_none() => {
                let key = decrypt::key(whole(&mut value).ok_or(CUT)?, phrase)?;
                out.key = Some(Bag { value: key, id: local });
            }
            Some(3) if out.certificates.len() < BAGS => {
                out.certificates.extend(x509(value).map(|der| Bag { value: der.to_vec(), id: local }));
            }
            Some(6) if depth < DEPTH => {
                unpack(whole(&mut value).ok_or(CUT)?, phrase, out, depth + 1)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn x509(mut value: &[u8]) -> Option<&[u8]> {
    let mut bag = expect(&mut value, SEQUENCE)?;
    if expect(&mut bag, OID)? != X509 {
        return None;
    }
    let mut content = expect(&mut bag, FIRST)?;
    expect(&mut content, OCTET_STRING)
}

fn local_key_id(mut attributes: &[u8]) -> Option<Vec<u8>> {
    while let Some(mut attribute) = expect(&mut attributes, SEQUENCE) {
        if expect(&mut attribute, OID)? == LOCAL_KEY_ID {
            let mut values = expect(&mut attribute, SET)?;
            return expect(&mut values, OCTET_STRING).map(<[u8]>::to_vec);
        }
    }
    None
}

/// The key's certificate, and then each that vouches for the one before it.
fn chain(mut all: Vec<Bag>, id: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Fault> {
    if all.is_empty() {
        return Err(Fault::Missing("certificate"));
    }
    let own = all.iter().position(|bag| id.is_some() && bag.id.as_deref() == id).unwrap_or(0);
    let mut out = vec![all.remove(own).value];
    while let Some(issuer) = out.last().and_then(|last| {
        let (subject, issuer) = parties(last)?;
        (subject != issuer).then(|| issuer.to_vec())
    }) {
        let is_it = |bag: &Bag| parties(&bag.value).is_some_and(|(subject, _)| subject == issuer);
        let Some(at) = all.iter().position(is_it) else { break };
        out.push(all.remove(at).value);
    }
    Ok(out)
}

/// The same in DER as far as lengths and strings go: every length said, every octet string in one piece.
fn definite(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    rewrite(&mut bytes, &mut out, 0)?;
    Some(out)
}

/// Takes one element off the head and writes it. What is in primitive elements is none of its business.
fn rewrite(input: &mut &[u8], out: &mut Vec<u8>, depth: usize) -> Option<()> {
    let (&tag, rest) = input.split_first()?;
    if depth > DEPTH || tag & 0x1f == 0x1f {
        return None;
    }
    if tag & CONSTRUCTED == 0 {
        out.extend_from_slice(whole(input)?);
        return Some(());
    }
    let mut content = Vec::new();
    if rest.first() == Some(&0x80) {
        *input = rest.get(1..)?;
        while !input.starts_with(&[0, 0]) {
            rewrite(input, &mut content, depth + 1)?;
        }
        *input = input.get(2..)?;
    } else {
        let (_, mut inside) = take(input)?;
        while !inside.is_empty() {
            rewrite(&mut inside, &mut content, depth + 1)?;
        }
    }
    let mut tag = tag;
    if tag == OCTET_STRING | CONSTRUCTED {
        let (mut pieces, mut joined) = (content.as_slice(), Vec::new());
        while !pieces.is_empty() {
            joined.extend_from_slice(expect(&mut pieces, OCTET_STRING)?);
        }
        (tag, content) = (OCTET_STRING, joined);
    }
    out.push(tag);
    let length = content.len().to_be_bytes();
    match content.len() {
        short @ 0..0x80 => out.push(u8::try_from(short).ok()?),
        _ => {
            let digits: Vec<u8> = length.into_iter().skip_while(|d| *d == 0).collect();
            out.push(0x80 | u8::try_from(digits.len()).ok()?);
            out.extend_from_slice(&digits);
        }
    }
    out.append(&mut content);
    Some(())
}
