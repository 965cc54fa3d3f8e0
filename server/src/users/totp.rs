//! One-time codes: six digits by the clock (RFC 6238, with SHA-1, 30 seconds), and recovery codes.
//!
//! A code is good in its half minute and the ones beside it, and once only. A recovery code is good once
//! for ever: the configuration holds the hashes of all of them, and those that were used stand in a file
//! that is on disk before the code is accepted. Both are judged only after another factor was good, so that
//! nothing tells strangers who has codes. Where there are other nodes, what is taken here must not have been
//! taken there (`Once`).
//!
//! Deliberately absent: other digests, lengths and periods, codes by counter.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// How long a code is good, seconds.
const STEP: u64 = 30;
/// The digits of a code.
const DIGITS: usize = 6;
/// The bytes of a secret that is made here.
const SECRET: usize = 20;
/// The characters of a recovery code, five bits each.
const RECOVERY: usize = 16;
/// How many recovery codes are made.
const RECOVERIES: usize = 10;

/// RFC 4648, section 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The secret that codes are made from.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpKey(Vec<u8>);

impl std::fmt::Debug for TotpKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpKey(…)")
    }
}

impl TotpKey {
    /// Reads base32, in any case, with or without spaces and padding. The error does not repeat it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let bad = || "this is no secret of one-time codes: 16 characters of base32 or more".to_string();
        let (mut bits, mut held, mut out) = (0u32, 0u32, Vec::new());
        for c in text.bytes().filter(|c| !matches!(c, b' ' | b'=' | b'-')) {
            let value = BASE32.iter().position(|b| *b == c.to_ascii_uppercase()).ok_or_else(bad)?;
            bits = ((bits << 5) | u32::try_from(value).unwrap_or(0)) & 0xfff;
            held += 5;
            if held >= 8 {
                held -= 8;
                out.push(u8::try_from((bits >> held) & 0xff).unwrap_or(0));
            }
        }
        if out.len() < 10 { Err(bad()) } else { Ok(TotpKey(out)) }
    }

    /// The code of this moment.
    pub fn code_at(&self, now: SystemTime) -> String {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("{:06}", self.code(now / STEP))
    }

    /// The code of a step of time.
    fn code(&self, step: u64) -> u32 {
        let mac = hmac::<Sha1>(&self.0, &step.to_be_bytes());
        // Dynamic truncation, RFC 4226, section 5.3.
        let at = usize::from(mac.last().copied().unwrap_or(0) & 0x0f);
        let four = mac.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).unwrap_or_default();
        (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000
    }

    /// The step that `code` is good for around `now`.
    fn step_of(&self, code: u32, now: u64) -> Option<u64> {
        let here = now / STEP;
        // All of them are made, whichever fits.
        let fits = [here.wrapping_sub(1), here, here + 1].map(|s| (self.code(s) == code).then_some(s));
        fits.into_iter().flatten().max()
    }
}

/// RFC 2104, with a digest of blocks of 64 bytes: SHA-1 or SHA-256.
pub(crate) fn hmac<D: Digest>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    let short: Vec<u8> = if key.len() > block.len() { D::digest(key).to_vec() } else { key.to_vec() };
    block.iter_mut().zip(&short).for_each(|(b, k)| *b = *k);
    let pad = |with: u8| block.map(|b| b ^ with);
    let inner = D::new().chain_update(pad(0x36)).chain_update(message).finalize();
    D::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// The hash of a recovery code as it stands in the configuration: SHA-256, hexadecimal. The code is random
/// and long enough to need no salt.
pub fn recovery_hash(code: &str) -> String {
    Sha256::digest(plain(code).as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether this is such a hash.
pub fn is_recovery_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// What a code that was taken is known by from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// The step of time that it was good for: no later one is good any more.
    Step(u64),
    /// The hash of a recovery code.
    Recovery(String),
}

/// What all nodes know of used codes.
#[async_trait]
pub(crate) trait Once: Send + Sync {
    /// Whether nobody took it before, here or elsewhere; from now on somebody has. Errors: it cannot be told.
    async fn take(&self, site: &str, user: &str, used: &Used) -> Result<bool>;
}

/// What was used and is not good again: of one site, through every reload.
#[derive(Default)]
pub struct Spent {
    /// The last step of each user.
    steps: Mutex<HashMap<String, u64>>,
    /// Hashes of recovery codes.
    codes: Mutex<HashSet<String>>,
    file: Option<PathBuf>,
    /// The site, and who knows what other nodes have taken.
    elsewhere: Option<(String, Arc<dyn Once>)>,
}

impl Spent {
    /// With the recovery codes that `file` holds. Blocks. Errors: a file that is there and cannot be read.
    pub fn load(file: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => {
                return Err(Error::from(e).with_detail(format!("{} cannot be read", file.display())));
            }
        };
        let codes = text.lines().map(str::to_string).collect();
        Ok(Spent { codes: Mutex::new(codes), file: Some(file.to_path_buf()), ..Spent::default() })
    }

    /// The same, of a site that other nodes have too.
    pub(crate) fn among(self, site: &str, nodes: Arc<dyn Once>) -> Self {
        Spent { elsewhere: Some((site.to_owned(), nodes)), ..self }
    }

    /// Whether what was taken here was not taken on another node. Errors: that cannot be told.
    pub(crate) async fn is_first(&self, user: &str, used: &Used) -> Result<bool> {
        match &self.elsewhere {
            Some((site, nodes)) => nodes.take(site, user, used).await,
            None => Ok(true),
        }
    }

    /// Takes a code of `user`, or one of the recovery codes of these hashes; what is taken is good no more on
    /// this node. Blocks where a recovery code is written down.
    pub fn take(
        &self,
        user: &str,
        key: &TotpKey,
        recovery: &[String],
        answer: &Secret,
        now: SystemTime,
    ) -> std::result::Result<Used, &'static str> {
        let answer = plain(answer.expose());
        if answer.len() != DIGITS || !answer.bytes().all(|b| b.is_ascii_digit()) {
            let hash = recovery_hash(&answer);
            return self.take_recovery(recovery, &hash).map(|()| Used::Recovery(hash));
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let code = answer.parse().unwrap_or(u32::MAX);
        let step = key.step_of(code, now).ok_or("wrong one-time code")?;
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match steps.get(user) {
            Some(last) if *last >= step => Err("this one-time code, or a later one, was used"),
            _ => {
                steps.insert(user.to_string(), step);
                Ok(Used::Step(step))
            }
        }
    }

    fn take_recovery(&self, recovery: &[String], hash: &str) -> std::result::Result<(), &'static str> {
        if !recovery.iter().any(|r| r == hash) {
            return Err("wrong one-time code");
        }
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.contains(hash) {
            return Err("this recovery code was used");
        }
        if let Some(file) = &self.file {
            if let Some(folder) = file.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            let mut open = std::fs::OpenOptions::new();
            let written =
                open.append(true).create(true).mode(0o600).open(file).and_then(|mut f| {
                    f.write_all(format!("{hash}\n").as_bytes()).and_then(|()| f.sync_data())
                });
            if let Err(e) = written {
                tracing::error!("{} cannot be written: {e}", file.display());
                return Err("the recovery code cannot be written down");
            }
        }
        codes.insert(hash.to_string());
        Ok(())
    }
}

/// What a user needs to begin with: made anew each time.
pub struct Enrolment {
    /// The secret, base32.
    pub secret: String,
    /// The codes for the day when the device is lost.
    pub recovery: Vec<String>,
}

impl Enrolment {
    /// Errors: `Internal` where the system gives no random bytes.
    pub fn make() -> Result<Self> {
        let word = |length: usize| {
            let mut bytes = vec![0u8; length];
            getrandom::fill(&mut bytes).map_err(|_| Error::new(ErrorKind::Internal))?;
            let character = |b: u8| BASE32.get(usize::from(b & 31)).copied().map_or('A', char::from);
            Ok::<String, Error>(bytes.into_iter().map(character).collect())
        };
        let recovery = (0..RECOVERIES).map(|_| word(RECOVERY)).collect::<Result<_>>()?;
        Ok(Enrolment { secret: word(SECRET * 8 / 5)?, recovery })
    }

    /// What an authenticator app reads.
    pub fn url(&self, site: &str, user: &str) -> String {
        let quote = |text: &str| -> String {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            text.bytes()
                .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
                .collect()
        };
        let (site, user) = (quote(site), quote(user));
        format!("otpauth://totp/{site}:{user}?secret={}&issuer={site}", self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// RFC 6238, appendix B, the last six of the eight digits.
    #[test]
    fn the_vectors_of_the_rfc() {
        let key = TotpKey(b"12345678901234567890".to_vec());
        for (time, code) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(key.code(time / STEP), code, "{time}");
        }
        assert_eq!(TotpKey::parse("gezd gnbv-GY3TQOJQGEZDGNBVGY3TQOJQ==").unwrap(), key);
        assert!(TotpKey::parse("GEZDGNBV").is_err() && TotpKey::parse("1111111111111111").is_err());
    }

    #[test]
    fn a_code_is_good_around_its_time_and_once() {
        let key = TotpKey(b"12345678901234567890".to_vec());
        let code = |time: u64| Secret::new(format!("{:06}", key.code(time / STEP)));
        let spent = Spent::default();
        let take = |time, now| spent.take("u", &key, &[], &code(time), at(now));
        assert!(take(1000, 1061).is_err(), "too late");
        assert!(take(1000, 1000).is_ok());
        assert!(take(1000, 1000).is_err(), "again");
        assert!(take(970, 1000).is_err(), "one before it");
        assert!(take(1030, 1001).is_ok(), "a clock that is ahead");
        assert!(spent.take("other", &key, &[], &code(1000), at(1000)).is_ok());
    }

    #[test]
    fn a_recovery_code_is_good_once_whatever_is_restarted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("spent");
        let made = Enrolment::make().unwrap();
        let key = TotpKey::parse(&made.secret).unwrap();
        let hashes: Vec<_> = made.recovery.iter().map(|c| recovery_hash(c)).collect();
        assert!(hashes.iter().all(|h| is_recovery_hash(h)));
        let take =
            |spent: &Spent, code: &str| spent.take("u", &key, &hashes, &Secret::new(code), at(0)).is_ok();
        let (first, second) = (&made.recovery[0], &made.recovery[1]);
        let spent = Spent::load(&file).unwrap();
        let spaced = format!("{} {}", &first[..8].to_lowercase(), &first[8..]);
        assert!(take(&spent, &spaced) && !take(&spent, first) && !take(&spent, "AAAAAAAAAAAAAAAA"));
        let spent = Spent::load(&file).unwrap();
        assert!(!take(&spent, first) && take(&spent, second));
        assert!(made.url("a b", "u@x").starts_with("otpauth://totp/a%20b:u%40x?secret="));
    }
}
