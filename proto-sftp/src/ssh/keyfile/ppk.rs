//! PuTTY's private keys, versions 2 and 3 (PuTTY's manual, appendix C), read and written.
//!
//! Own code, because what `ssh-key` has for it allocates what a file tells it to, refuses Ed25519 keys that
//! begin with a zero, does not tell a wrong phrase from damage, and cannot write.
//!
//! The check sum (a MAC) covers everything and is always checked. In an encrypted file it fails for a wrong
//! phrase and for damage alike; then what was decrypted tells: sense means that the phrase was right. What
//! a file asks of memory and time for its key derivation is bounded.

use argon2::{Algorithm as ArgonAlgorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::ssh_key::Cipher;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::Fault;

const HEADER: &str = "PuTTY-User-Key-File-";
const MAC_KEY: &[u8] = b"putty-private-key-file-mac-key";
/// Memory of a key derivation at most, KiB.
const MOST_MEMORY: u32 = 1 << 20;
/// Memory times passes at most, KiB: minutes of work.
const MOST_WORK: u64 = 1 << 26;
/// What PuTTY takes where it does not measure.
const MEMORY: u32 = 8192;
const PASSES: u32 = 21;
/// Base64 lines of a key at most.
const MOST_LINES: usize = 1024;

/// Whether a text is of this format, in any version.
pub fn is_ppk(text: &str) -> bool {
    text.trim_start().starts_with(HEADER)
}

struct Derivation {
    algorithm: ArgonAlgorithm,
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
}

/// A file, read but not unlocked.
pub struct Ppk {
    version: u8,
    algorithm: String,
    encrypted: bool,
    comment: String,
    public: Vec<u8>,
    key: Option<PublicKey>,
    private: Vec<u8>,
    derivation: Option<Derivation>,
    mac: Vec<u8>,
}

fn damaged(why: &str) -> Fault {
    Fault::Damaged(why.to_owned())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.filter(|d| d.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|p| p.iter().fold(0, |n, d| n << 4 | d)).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Ppk {
    /// Reads a file. Errors: `Damaged`, `Unsupported` (other versions, kinds and ciphers), `NotAKey`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut lines = text.trim_start().lines();
        let first = lines.next().and_then(|l| l.strip_prefix(HEADER)).ok_or(Fault::NotAKey)?;
        let (version, algorithm) = first.split_once(": ").ok_or_else(|| damaged("its first line"))?;
        let version = match version {
            "2" => 2,
            "3" => 3,
            other => {
                return Err(Fault::Unsupported(format!("version {} of PuTTY's format", safe(other))));
            }
        };
        let mut field = |name: &'static str| {
            let line = lines.next().ok_or_else(|| damaged("it ends too early"))?;
            let value = line.strip_prefix(name).and_then(|l| l.strip_prefix(": "));
            // A comment may be empty, and its blank gone.
            let value = value.or_else(|| line.strip_prefix(name).filter(|l| *l == ":").map(|_| ""));
            value.map(str::to_owned).ok_or_else(|| damaged(&format!("'{name}' is missing")))
        };
        let encryption = field("Encryption")?;
        let encrypted = match encryption.as_str() {
            "none" => false,
            "aes256-cbc" => true,
            other => return Err(Fault::Unsupported(format!("the cipher '{}'", safe(other)))),
        };
        let comment = field("Comment")?;
        let count = field("Public-Lines")?;
        let public = block(&mut lines, &count)?;
        let mut field = |name: &'static str| {
            let line = lines.next().ok_or_else(|| damaged("it ends too early"))?;
            let value = line.strip_prefix(name).and_then(|l| l.strip_prefix(": "));
            value.map(str::to_owned).ok_or_else(|| damaged(&format!("'{name}' is missing")))
        };
        let mut derivation = None;
        if version == 3 && encrypted {
            let algorithm = match field("Key-Derivation")?.as_str() {
                "Argon2id" => ArgonAlgorithm::Argon2id,
                "Argon2i" => ArgonAlgorithm::Argon2i,
                "Argon2d" => ArgonAlgorithm::Argon2d,
                other => return Err(Fault::Unsupported(format!("the key derivation '{}'", safe(other)))),
            };
            let mut number =
                |name| field(name)?.parse::<u32>().map_err(|_| damaged(&format!("'{name}' is no number")));
            let (memory, passes, lanes) =
                (number("Argon2-Memory")?, number("Argon2-Passes")?, number("Argon2-Parallelism")?);
            if memory > MOST_MEMORY || u64::from(memory) * u64::from(passes) > MOST_WORK || lanes > 64 {
                return Err(Fault::Unsupported(
                    "its key derivation asks for more memory or time than is given".into(),
                ));
            }
            let salt = unhex(&field("Argon2-Salt")?).filter(|s| (8..=256).contains(&s.len()));
            let salt = salt.ok_or_else(|| damaged("its salt"))?;
            derivation = Some(Derivation { algorithm, memory, passes, lanes, salt });
        }
        let count = field("Private-Lines")?;
        let private = block(&mut lines, &count)?;
        let mac = lines.next().and_then(|l| l.strip_prefix("Private-MAC: "));
        let mac = mac.and_then(|m| unhex(m.trim())).ok_or_else(|| damaged("its check sum is missing"))?;
        if mac.len() != if version == 2 { 20 } else { 32 } {
            return Err(damaged("its check sum has a wrong length"));
        }
        if encrypted && (private.is_empty() || private.len() % 16 != 0) {
            return Err(damaged("its private half has a wrong length"));
        }
        let mut reader = Reader(&public);
        if reader.string().is_none_or(|name| name != algorithm.as_bytes()) {
            return Err(damaged("its public half is of another kind"));
        }
        if !matches!(algorithm, "ssh-ed25519" | "ssh-rsa") && !algorithm.starts_with("ecdsa-sha2-nistp") {
            return Err(Fault::Unsupported(format!("a key of the kind '{}'", safe(algorithm))));
        }
        let mut key = PublicKey::from_bytes(&public).map_err(|_| damaged("its public half"))?;
        key.set_comment(comment.clone());
        let algorithm = algorithm.to_owned();
        Ok(Ppk { version, algorithm, encrypted, comment, public, key: Some(key), private, derivation, mac })
    }

    /// Whether a phrase is needed.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The public half.
    pub(crate) fn public(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }

    /// Checks the file, and decrypts it where it is encrypted. Blocks.
    pub(crate) fn unlock(&self, phrase: Option<&str>) -> Result<PrivateKey, Fault> {
        let phrase = match (self.encrypted, phrase) {
            (true, None) => return Err(Fault::Encrypted),
            (true, Some(phrase)) => Some(phrase),
            // PuTTY's tools ask for none, and a phrase that was given for others does no harm.
            (false, _) => None,
        };
        let keys = Keys::derive(self.version, phrase, self.derivation.as_ref())?;
        let mut private = self.private.clone();
        if self.encrypted {
            Cipher::Aes256Cbc
                .decrypt(&keys.cipher, &keys.iv, &mut private, None)
                .map_err(|_| damaged("its private half cannot be decrypted"))?;
        }
        let encryption = if self.encrypted { "aes256-cbc" } else { "none" };
        let mac = keys.mac(self.version, &self.algorithm, encryption, &self.comment, &self.public, &private);
        let good =
            mac.len() == self.mac.len() && mac.iter().zip(&self.mac).fold(0, |d, (a, b)| d | (a ^ b)) == 0;
        let key = keypair(&self.algorithm, &self.public, &private);
        let sense = key.is_some() || makes_sense(&self.algorithm, &private);
        wipe(&mut private);
        if !good {
            return Err(if self.encrypted && !sense {
                Fault::WrongPhrase
            } else {
                damaged("its check sum is wrong")
            });
        }
        let key = key.ok_or_else(|| damaged("its two halves do not belong together"))?;
        PrivateKey::new(key, self.comment.clone()).map_err(|e| Fault::Damaged(e.to_string()))
    }
}

fn safe(text: &str) -> String {
    session_core::path::display_bytes(text.get(..text.len().min(40)).unwrap_or_default().as_bytes())
}

fn block(lines: &mut std::str::Lines<'_>, count: &str) -> Result<Vec<u8>, Fault> {
    let count = count.trim().parse::<usize>().ok().filter(|n| *n <= MOST_LINES);
    let count = count.ok_or_else(|| damaged("its count of lines"))?;
    let mut text = String::new();
    for _ in 0..count {
        text += lines.next().ok_or_else(|| damaged("it ends too early"))?.trim_end();
    }
    STANDARD.decode(text).map_err(|_| damaged("its base64"))
}

fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

struct Keys {
    cipher: [u8; 32],
    iv: [u8; 16],
    mac: Vec<u8>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        wipe(&mut self.cipher);
        wipe(&mut self.mac);
    }
}

impl Keys {
    fn derive(version: u8, phrase: Option<&str>, derivation: Option<&Derivation>) -> Result<Self, Fault> {
        let mut keys = Keys { cipher: [0; 32], iv: [0; 16], mac: Vec::new() };
        match (phrase, derivation) {
            (Some(phrase), Some(d)) => {
                let params = Params::new(d.memory, d.passes, d.lanes, Some(80))
                    .map_err(|e| Fault::Damaged(format!("its key derivation: {e}")))?;
                let mut out = [0; 80];
                Argon2::new(d.algorithm, Version::V0x13, params)
                    .hash_password_into(phrase.as_bytes(), &d.salt, &mut out)
                    .map_err(|e| Fault::Damaged(format!("its key derivation: {e}")))?;
                let (cipher, rest) = out.split_at(32);
                let (iv, mac) = rest.split_at(16);
                keys.cipher.copy_from_slice(cipher);
                keys.iv.copy_from_slice(iv);
                keys.mac = mac.to_vec();
                wipe(&mut out);
            }
            _ if version == 2 => {
                let phrase = phrase.unwrap_or_default().as_bytes();
                let half = |n: u8| Sha1::new().chain_update([0, 0, 0, n]).chain_update(phrase).finalize();
                let both = half(0).into_iter().chain(half(1));
                keys.cipher.iter_mut().zip(both).for_each(|(k, b)| *k = b);
                keys.mac = Sha1::new().chain_update(MAC_KEY).chain_update(phrase).finalize().to_vec();
            }
            _ => {}
        }
        Ok(keys)
    }

    fn mac(
        &self,
        version: u8,
        algorithm: &str,
        encryption: &str,
        comment: &str,
        public: &[u8],
        private: &[u8],
    ) -> Vec<u8> {
        let mut data = Vec::new();
        for part in [algorithm.as_bytes(), encryption.as_bytes(), comment.as_bytes(), public, private] {
            put(&mut data, part);
        }
        let mac =
            if version == 2 { hmac::<Sha1>(&self.mac, &data) } else { hmac::<Sha256>(&self.mac, &data) };
        wipe(&mut data);
        mac
    }
}

/// RFC 2104, for digests with blocks of 64 bytes and keys no longer than that.
fn hmac<D: Digest>(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    block.iter_mut().zip(key).for_each(|(b, k)| *b = *k);
    let inner = D::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(data).finalize();
    D::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn string(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (string, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(string)
    }

    /// A number that is not negative, without zeros before it.
    fn number(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|b| *b >= 0x80) {
            return None;
        }
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        bytes.get(zeros..)
    }

    /// Whether what is left is what encryption adds.
    fn ends(&self) -> bool {
        self.0.len() < 16
    }
}

/// A number as RFC 4251, section 5 writes it.
fn put_number(out: &mut Vec<u8>, number: &[u8]) {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    let number = number.get(zeros..).unwrap_or_default();
    let mut bytes = Vec::with_capacity(number.len() + 1);
    if number.first().is_some_and(|b| *b >= 0x80) {
        bytes.push(0);
    }
    bytes.extend_from_slice(number);
    put(out, &bytes);
    wipe(&mut bytes);
}

/// Whether a private half is what it should be, by its shape: noise has it once in a thousand million times.
fn makes_sense(algorithm: &str, private: &[u8]) -> bool {
    let mut private = Reader(private);
    let numbers = if algorithm == "ssh-rsa" { 4 } else { 1 };
    (0..numbers).all(|_| private.string().is_some_and(|n| !n.is_empty())) && private.ends()
}

/// Joins the halves; `None` if what was given makes no sense, or they do not belong together.
fn keypair(algorithm: &str, public: &[u8], private: &[u8]) -> Option<KeypairData> {
    let (mut public, mut private) = (Reader(public), Reader(private));
    public.string()?;
    match algorithm {
        "ssh-ed25519" => {
            let point = public.string()?;
            // A little-endian number: zeros at its end may be left out.
            let number = private.string().filter(|n| n.len() <= 32)?;
            let mut seed = [0; 32];
            seed.iter_mut().zip(number).for_each(|(s, n)| *s = *n);
            let pair = Ed25519Keypair::from_seed(&seed);
            wipe(&mut seed);
            (private.ends() && pair.public.0.as_slice() == point).then_some(KeypairData::Ed25519(pair))
        }
        "ssh-rsa" => {
            let (e, n) = (public.number()?, public.number()?);
            let (d, p, q, iqmp) =
                (private.number()?, private.number()?, private.number()?, private.number()?);
            let mut wire = Vec::new();
            for number in [n, e, d, iqmp, p, q] {
                put_number(&mut wire, number);
            }
            let pair = KeypairData::decode_as(&mut wire.as_slice(), Algorithm::Rsa { hash: None }).ok();
            wipe(&mut wire);
            pair.filter(|_| private.ends() && product_is(p, q, n))
        }
        _ => {
            let (curve, point) = (public.string()?, public.string()?);
            let size = match curve {
                b"nistp256" => 32,
                b"nistp384" => 48,
                b"nistp521" => 66,
                _ => return None,
            };
            let number = private.number().filter(|n| !n.is_empty() && n.len() <= size)?;
            let mut padded = vec![0; size - number.len()];
            padded.extend_from_slice(number);
            let mut wire = Vec::new();
            put(&mut wire, curve);
            put(&mut wire, point);
            put(&mut wire, &padded);
            wipe(&mut padded);
            let kind = Algorithm::new(algorithm).ok()?;
            let pair = KeypairData::decode_as(&mut wire.as_slice(), kind).ok();
            wipe(&mut wire);
            pair.filter(|_| private.ends())
        }
    }
}

/// Whether the primes make the modulus, as far as their last 8 bytes and their lengths say: enough to tell
/// sense from noise, which is all that it is for.
fn product_is(p: &[u8], q: &[u8], n: &[u8]) -> bool {
    let low = |x: &[u8]| x.iter().rev().take(8).rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
    low(p).wrapping_mul(low(q)) == low(n) && (p.len() + q.len()).abs_diff(n.len()) <= 1
}

/// Writes a key in version 2 or 3. Errors: `Unsupported` for a kind that PuTTY's format has not, or that it
/// keeps elsewhere.
pub(crate) fn write(key: &PrivateKey, version: u8, phrase: Option<&str>) -> Result<Secret> {
    let no =
        || Error::new(ErrorKind::Unsupported).with_detail("PuTTY's format cannot hold a key of this kind");
    let mut private = Vec::new();
    match key.key_data() {
        KeypairData::Ed25519(pair) => {
            let mut seed = pair.private.to_bytes();
            put(&mut private, &seed);
            wipe(&mut seed);
        }
        KeypairData::Rsa(pair) => {
            let half = pair.private();
            for number in [half.d(), half.p(), half.q(), half.iqmp()] {
                put_number(&mut private, number.as_bytes());
            }
        }
        KeypairData::Ecdsa(pair) => put_number(&mut private, pair.private_key_bytes()),
        _ => return Err(no()),
    }
    let algorithm = match key.algorithm() {
        Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
        other => other.as_str().to_owned(),
    };
    let public = key.public_key().to_bytes().map_err(|e| no().with_source(e))?;
    let comment: String =
        String::from_utf8_lossy(key.comment().as_bytes()).chars().filter(|c| !c.is_control()).collect();

    let mut derivation = None;
    if version == 3 && phrase.is_some() {
        let mut salt = vec![0; 16];
        getrandom::fill(&mut salt)
            .map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness from the system"))?;
        let algorithm = ArgonAlgorithm::Argon2id;
        derivation = Some(Derivation { algorithm, memory: MEMORY, passes: PASSES, lanes: 1, salt });
    }
    let keys = Keys::derive(version, phrase, derivation.as_ref())
        .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
    let encryption = if phrase.is_some() { "aes256-cbc" } else { "none" };
    if phrase.is_some() {
        // As PuTTY does it: what fills the last block is not known beforehand.
        let filler = Sha1::digest(&private);
        let missing = private.len().next_multiple_of(16) - private.len();
        private.extend(filler.iter().take(missing));
    }
    let mac = keys.mac(version, &algorithm, encryption, &comment, &public, &private);
    if phrase.is_some() {
        Cipher::Aes256Cbc
            .encrypt(&keys.cipher, &keys.iv, &mut private)
            .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
    }
    let mut out = format!("{HEADER}{version}: {algorithm}\nEncryption: {encryption}\nComment: {comment}\n");
    lines(&mut out, "Public-Lines", &public);
    if let Some(d) = &derivation {
        out += &format!(
            "Key-Derivation: Argon2id\nArgon2-Memory: {}\nArgon2-Passes: {}\nArgon2-Parallelism: {}\nArgon2-Salt: {}\n",
            d.memory,
            d.passes,
            d.lanes,
            hex(&d.salt)
        );
    }
    lines(&mut out, "Private-Lines", &private);
    wipe(&mut private);
    out += &format!("Private-MAC: {}\n", hex(&mac));
    Ok(Secret::new(out))
}

fn lines(out: &mut String, name: &str, bytes: &[u8]) {
    let text = STANDARD.encode(bytes);
    let rows: Vec<&str> =
        (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
    *out += &format!("{name}: {}\n", rows.len());
    for row in rows {
        *out += row;
        out.push('\n');
    }
}
