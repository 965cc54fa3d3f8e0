//! Logins by Digest (RFC 7616): challenges, and whether an answer to one is good.
//!
//! A nonce is made under a key of this process and good for a while, so that none need be kept before it was
//! answered. Each count of a nonce is taken once: those that were answered are kept with the counts that came,
//! so many of them; what falls out takes all older ones with it. Whoever knows the password and comes too late,
//! or once more, is told so (`stale`) and may answer anew; nobody else hears that.
//!
//! Deliberately absent: `auth-int` (a body would be judged before it came), hashed names, `rspauth`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use session_core::auth::{DigestKeys, Secret};
use session_core::digest::Hasher;
use session_core::fs;
use session_core::net::http::Sessions;
use tokio::time::Instant;

use crate::wire::digest::{Algorithm, Credentials};

/// Nonces that were answered and are kept.
const KEPT: usize = 4096;
/// How far behind the highest count another one may come: requests overtake each other.
const BEHIND: u32 = 64;

/// What is kept between requests.
pub(super) struct Seen {
    begun: Instant,
    next: AtomicU64,
    table: Mutex<Table>,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { begun: Instant::now(), next: AtomicU64::new(1), table: Mutex::default() }
    }
}

#[derive(Default)]
struct Table {
    counts: BTreeMap<u64, Counts>,
    /// Nonces up to this one were forgotten.
    forgotten: u64,
}

/// Which counts of a nonce have come.
struct Counts {
    issued: u64,
    highest: u32,
    /// The highest and those below it, one bit each.
    came: u64,
}

impl Counts {
    /// Whether this count has not come before, as far as is known.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let further = count - self.highest;
            self.came = if further < BEHIND { self.came << further | 1 } else { 1 };
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let bit = 1u64.checked_shl(behind).filter(|_| behind < BEHIND).unwrap_or(0);
        let is_new = bit != 0 && self.came & bit == 0;
        self.came |= bit;
        is_new
    }
}

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Made with the password, for this request, now.
    Good(Secret),
    /// Made with the password, and too late or not for the first time.
    Stale,
    /// Not made with the password.
    Wrong,
}

/// Makes challenges and judges answers.
pub(super) struct Digest {
    sessions: Arc<Sessions>,
    seen: Arc<Seen>,
    life: Duration,
}

impl Digest {
    pub(super) fn new(sessions: &Arc<Sessions>, life: Duration) -> Digest {
        Digest { sessions: Arc::clone(sessions), seen: sessions.shared(), life }
    }

    /// The challenges, the stronger one first: clients take the first that they know.
    pub(super) fn challenges(&self, realm: &str, stale: bool) -> [String; 2] {
        let nonce = self.nonce();
        let stale = if stale { ", stale=true" } else { "" };
        ["SHA-256", "MD5"].map(|algorithm| {
            format!(
                "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\", \
                 charset=UTF-8{stale}"
            )
        })
    }

    fn now(&self) -> u64 {
        self.seen.begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    fn nonce(&self) -> String {
        let serial = self.seen.next.fetch_add(1, Ordering::Relaxed);
        let mut nonce = Vec::with_capacity(32);
        nonce.extend(self.now().to_be_bytes());
        nonce.extend(serial.to_be_bytes());
        let mark = self.mark(&nonce);
        nonce.extend(mark);
        URL_SAFE_NO_PAD.encode(nonce)
    }

    fn mark(&self, nonce: &[u8]) -> [u8; 16] {
        let whole = self.sessions.mark(nonce);
        std::array::from_fn(|n| whole.get(n).copied().unwrap_or_default())
    }

    /// When a nonce of ours was made, and which one it is.
    fn read(&self, nonce: &str) -> Option<(u64, u64)> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (head, mark) = bytes.split_at_checked(16)?;
        let (issued, serial) = head.split_at_checked(8)?;
        if !same(mark, &self.mark(head)) {
            return None;
        }
        Some((u64::from_be_bytes(issued.try_into().ok()?), u64::from_be_bytes(serial.try_into().ok()?)))
    }

    /// Whether this nonce with this count is good, once.
    fn take(&self, nonce: &str, count: u32) -> bool {
        let Some((issued, serial)) = self.read(nonce) else { return false };
        let (now, life) = (self.now(), u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX));
        let is_over = |issued: u64| now.saturating_sub(issued) >= life;
        if is_over(issued) {
            return false;
        }
        let mut table = self.seen.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = table.counts.get_mut(&serial) {
            return counts.take(count);
        }
        if serial <= table.forgotten {
            return false;
        }
        if table.counts.len() >= KEPT {
            table.counts.retain(|_, counts| !is_over(counts.issued));
        }
        if table.counts.len() >= KEPT
            && let Some((oldest, _)) = table.counts.pop_first()
        {
            table.forgotten = table.forgotten.max(oldest);
        }
        table.counts.insert(serial, Counts { issued, highest: count, came: 1 });
        true
    }

    /// Judges an answer to a challenge. Takes the same time whether there are keys or not.
    pub(super) fn judge(&self, shown: &Credentials, method: &str, keys: &DigestKeys) -> Judged {
        let key = match shown.algorithm {
            Algorithm::Md5 => keys.md5.as_ref(),
            Algorithm::Sha256 => keys.sha256.as_ref(),
        };
        let nobody = Secret::new("");
        let due = response(shown, method, key.unwrap_or(&nobody));
        let right = same(shown.response.to_ascii_lowercase().as_bytes(), due.as_bytes());
        match key {
            Some(key) if right => match self.take(&shown.nonce, shown.count) {
                true => Judged::Good(key.clone()),
                false => Judged::Stale,
            },
            _ => Judged::Wrong,
        }
    }
}

fn hash(algorithm: Algorithm, text: &str) -> String {
    let mut hasher = Hasher::new(match algorithm {
        Algorithm::Md5 => fs::Algorithm::Md5,
        Algorithm::Sha256 => fs::Algorithm::Sha256,
    });
    hasher.update(text.as_bytes());
    hasher.finish().iter().map(|b| format!("{b:02x}")).collect()
}

/// The answer that is due (RFC 7616, section 3.4.1).
fn response(shown: &Credentials, method: &str, key: &Secret) -> String {
    let Credentials { nonce, nc, cnonce, uri, algorithm, .. } = shown;
    let asked = hash(*algorithm, &format!("{method}:{uri}"));
    hash(*algorithm, &format!("{}:{nonce}:{nc}:{cnonce}:auth:{asked}", key.expose()))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    std::hint::black_box(differ) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::digest::parse;

    fn digest(life: u64) -> Digest {
        Digest::new(&Sessions::new().unwrap(), Duration::from_secs(life))
    }

    /// RFC 7616, section 3.9.1: `Mufasa` with the password `Circle of Life`.
    #[test]
    fn answers_are_those_of_the_standard() {
        let shown = |algorithm: &str, response: &str| {
            let field = format!(
                "username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\""
            );
            parse(field.as_bytes()).unwrap()
        };
        for (name, algorithm, due) in [
            ("MD5", Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                Algorithm::Sha256,
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let key = Secret::new(hash(algorithm, "Mufasa:http-auth@example.org:Circle of Life"));
            assert_eq!(response(&shown(name, due), "GET", &key), due);
            let keys = DigestKeys { md5: Some(key.clone()), sha256: Some(key) };
            // The answer is right, the challenge is none of ours.
            assert_eq!(digest(60).judge(&shown(name, due), "GET", &keys), Judged::Stale);
            assert_eq!(digest(60).judge(&shown(name, due), "PUT", &keys), Judged::Wrong);
            assert_eq!(digest(60).judge(&shown(name, due), "GET", &DigestKeys::default()), Judged::Wrong);
        }
    }

    #[test]
    fn every_count_of_a_nonce_is_good_once_and_in_any_order() {
        let digest = digest(60);
        let nonce = digest.nonce();
        for count in [1, 3, 2, 70, 7] {
            assert!(digest.take(&nonce, count), "{count}");
        }
        for count in [1, 2, 3, 7, 70, 6] {
            assert!(!digest.take(&nonce, count), "{count}");
        }
        assert!(digest.take(&nonce, u32::MAX) && !digest.take(&nonce, u32::MAX));
        let other = self::digest(60).nonce();
        assert!(!digest.take(&other, 1), "of another server");
        let mut forged = digest.nonce();
        forged.replace_range(..1, if forged.starts_with('B') { "C" } else { "B" });
        assert!(!digest.take(&forged, 1));
        assert!(!digest.take("", 1) && !digest.take("AAAA", 1));
    }

    #[test]
    fn a_nonce_grows_old_and_many_are_not_kept() {
        let old = digest(0);
        assert!(!old.take(&old.nonce(), 1));
        let digest = digest(600);
        let first = digest.nonce();
        assert!(digest.take(&first, 1));
        for _ in 0..KEPT + 1 {
            assert!(digest.take(&digest.nonce(), 1));
        }
        assert!(!digest.take(&first, 2), "forgotten, and not taken for new");
        assert!(digest.seen.table.lock().unwrap().counts.len() <= KEPT);
        assert!(digest.take(&digest.nonce(), 1));
    }
}
