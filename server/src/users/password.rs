//! Password hashes: argon2id (RFC 9106, PHC strings), bcrypt (`$2*$`), SHA-crypt (`$5$`, `$6$`).
//!
//! New hashes are argon2id. A hash is checked when it is read, so that verifying cannot fail later, and its
//! cost is bounded. The libraries compare in constant time. Verifying takes as long as the hash was made
//! to take: call it where a thread may block. The memory of argon2 is lent by [`Memory`], so that threads of a
//! pool do not each keep their own. Absent: MD5-crypt, DES, plain text.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use argon2::password_hash::phc::{Output, PasswordHash as Phc};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, PasswordVerifier, Version};
use session_core::auth::Secret;
use sha_crypt::ShaCrypt;

/// The longest password that is looked at; a longer one is wrong. Bounds the work of SHA-crypt.
pub const MAX_PASSWORD: usize = 1024;

/// The most memory that a configured argon2 hash may ask for, KiB.
const MAX_MEMORY: u32 = 1 << 20;
/// The most passes of a configured argon2 hash.
const MAX_PASSES: u32 = 64;
/// The most rounds of a configured SHA-crypt hash.
const MAX_ROUNDS: u32 = 10_000_000;
/// The highest cost of a configured bcrypt hash.
const MAX_COST: u32 = 18;

/// Buffers of argon2 that are kept.
const KEPT: usize = 4;
/// The largest of them, bytes: that of a hash with unusual costs is given back.
const LARGEST_KEPT: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Argon2,
    Bcrypt,
    ShaCrypt,
}

/// A hash that was understood. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: Scheme,
    text: Secret,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({:?}, …)", self.scheme)
    }
}

impl PasswordHash {
    /// Reads a hash. The error says what is wrong, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scheme = if text.starts_with("$argon2") {
            check_argon2(text)?;
            Scheme::Argon2
        } else if text.starts_with("$2") {
            let parts: bcrypt::HashParts =
                text.parse().map_err(|_| "this bcrypt hash is damaged".to_string())?;
            if !(4..=MAX_COST).contains(&parts.get_cost()) {
                return Err(format!("the cost of this bcrypt hash is not in 4..={MAX_COST}"));
            }
            Scheme::Bcrypt
        } else if text.starts_with("$5$") || text.starts_with("$6$") {
            check_sha_crypt(text)?;
            Scheme::ShaCrypt
        } else {
            return Err("this is no password hash that is understood: use argon2id, bcrypt, $5$ or $6$; \
                        'ferryd hash-password' makes one"
                .into());
        };
        Ok(PasswordHash { scheme, text: Secret::new(text) })
    }

    /// Whether `password` is the one. Takes the hash's full time for any password; blocks.
    pub fn verify(&self, password: &Secret, memory: &Memory) -> bool {
        let too_long = password.expose().len() > MAX_PASSWORD;
        let password = if too_long { b"" } else { password.expose().as_bytes() };
        let text = self.text.expose();
        let good = match self.scheme {
            Scheme::Argon2 => verify_argon2(text, password, memory).unwrap_or(false),
            Scheme::Bcrypt => bcrypt::verify(password, text).unwrap_or(false),
            Scheme::ShaCrypt => {
                PasswordVerifier::<str>::verify_password(&ShaCrypt::default(), password, text).is_ok()
            }
        };
        good && !too_long
    }
}

/// Working memory of argon2, used again: it is large, and an allocator keeps what a thread gave back for that
/// thread. As many buffers are made as are in use at once; `KEPT` of them stay.
#[derive(Default)]
pub struct Memory {
    free: Mutex<Vec<Vec<Block>>>,
    made: AtomicUsize,
}

impl Memory {
    /// How many buffers were made so far.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Lends `blocks` blocks, whatever they hold; `None` where there is no memory.
    fn lend<T>(&self, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> Option<T> {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = free().pop();
        let mut buffer = taken.unwrap_or_else(|| {
            self.made.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        });
        if buffer.len() < blocks {
            buffer.try_reserve_exact(blocks - buffer.len()).ok()?;
            buffer.resize(blocks, Block::new());
        }
        let done = buffer.get_mut(..blocks).map(work);
        let mut free = free();
        if free.len() < KEPT && buffer.len() * Block::SIZE <= LARGEST_KEPT {
            free.push(buffer);
        }
        done
    }
}

/// The tag is compared in constant time. `None` for what is no hash, which reading it has ruled out.
fn verify_argon2(text: &str, password: &[u8], memory: &Memory) -> Option<bool> {
    let phc = Phc::new(text).ok()?;
    let (salt, wanted) = (phc.salt.as_ref()?, phc.hash.as_ref()?);
    let version = match phc.version {
        Some(version) => Version::try_from(version).ok()?,
        None => Version::default(),
    };
    let params = Params::try_from(&phc).ok()?;
    let blocks = params.block_count();
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
    let mut tag = vec![0; wanted.len()];
    let hashed = memory.lend(blocks, |blocks| {
        argon2.hash_password_into_with_memory(password, salt, &mut tag, blocks).is_ok()
    });
    Some(hashed? && Output::new(&tag).ok()? == *wanted)
}

/// An argon2id hash (19 MiB, 2 passes, 1 lane) with a salt of its own. Blocks. Fails only where the system
/// has no random numbers or no memory, or the password is longer than [`MAX_PASSWORD`] bytes.
pub fn hash(password: &Secret) -> Result<String, String> {
    if password.expose().len() > MAX_PASSWORD {
        return Err(format!("a password has at most {MAX_PASSWORD} bytes"));
    }
    let params = Params::new(19_456, 2, 1, None).map_err(|e| e.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let made = argon2.hash_password(password.expose().as_bytes()).map_err(|e| e.to_string())?;
    Ok(made.to_string())
}

fn check_argon2(text: &str) -> Result<(), String> {
    let damaged = || "this argon2 hash is damaged".to_string();
    let phc = Phc::new(text).map_err(|_| damaged())?;
    if phc.algorithm.as_str() != "argon2id" {
        return Err("of the argon2 hashes only argon2id is taken".into());
    }
    if phc.salt.is_none() || phc.hash.is_none() {
        return Err(damaged());
    }
    let params = Params::try_from(&phc).map_err(|_| damaged())?;
    if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
        return Err(format!(
            "this argon2 hash asks for more than {MAX_MEMORY} KiB or more than {MAX_PASSES} passes"
        ));
    }
    Ok(())
}

/// `$6$[rounds=N$]salt$hash`.
fn check_sha_crypt(text: &str) -> Result<(), String> {
    let mut fields: Vec<&str> = text.split('$').skip(2).collect();
    if let Some(rounds) = fields.first().and_then(|f| f.strip_prefix("rounds=")) {
        let rounds: u32 = rounds.parse().unwrap_or(0);
        if !(1000..=MAX_ROUNDS).contains(&rounds) {
            return Err(format!("the rounds of this hash are not in 1000..={MAX_ROUNDS}"));
        }
        fields.remove(0);
    }
    let length = if text.starts_with("$5$") { 43 } else { 86 };
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
    match fields.as_slice() {
        [salt, hash]
            if (1..=16).contains(&salt.len()) && plain(salt) && hash.len() == length && plain(hash) =>
        {
            Ok(())
        }
        _ => Err("this SHA-crypt hash is damaged".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifies(hash: &str, password: &str) {
        let hash = PasswordHash::parse(hash).unwrap();
        let memory = Memory::default();
        assert!(hash.verify(&Secret::new(password), &memory), "{hash:?}");
        assert!(!hash.verify(&Secret::new(format!("{password}x")), &memory));
        assert!(!hash.verify(&Secret::new(""), &memory));
    }

    #[test]
    fn verifies_what_others_made() {
        // The published vectors of SHA-crypt, and of bcrypt (jBCrypt's list).
        verifies("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!");
        verifies(
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        );
        verifies(
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "Hello world!",
        );
        verifies("$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i", "abc");
    }

    #[test]
    fn what_it_makes_it_verifies_and_each_time_differently() {
        let (a, b) = (hash(&Secret::new("p")).unwrap(), hash(&Secret::new("p")).unwrap());
        assert!(a.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(a, b);
        verifies(&a, "p");
    }

    /// Small costs, and those of a vector of the reference implementation's test suite (version 0x13).
    #[test]
    fn one_buffer_serves_hashes_of_several_costs() {
        let memory = Memory::default();
        let vector = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let vector = PasswordHash::parse(vector).unwrap();
        let own = PasswordHash::parse(&hash(&Secret::new("p")).unwrap()).unwrap();
        for _ in 0..2 {
            assert!(vector.verify(&Secret::new("password"), &memory));
            assert!(!vector.verify(&Secret::new("passwore"), &memory));
            assert!(own.verify(&Secret::new("p"), &memory));
            assert!(!own.verify(&Secret::new("q"), &memory));
        }
        assert_eq!(memory.made(), 1);
        assert_eq!(memory.free.lock().unwrap().len(), 1);
    }

    #[test]
    fn as_many_buffers_are_made_as_are_in_use_and_few_are_kept() {
        let memory = Memory::default();
        let together = std::sync::Barrier::new(6);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| memory.lend(8, |_| together.wait()));
            }
        });
        assert_eq!((memory.made(), memory.free.lock().unwrap().len()), (6, KEPT));
        memory.lend(LARGEST_KEPT / Block::SIZE + 1, |blocks| assert_eq!(blocks.len(), 65_537)).unwrap();
        assert_eq!(memory.free.lock().unwrap().len(), KEPT - 1);
    }

    #[test]
    fn refuses_what_it_does_not_understand_without_repeating_it() {
        for bad in [
            "",
            "secret",
            "$1$abc$def",
            "$2a$31$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
            "$2a$06$short",
            "$6$rounds=1$salt$x",
            "$6$saltstring$tooshort",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHRzb21l$c29tZWhhc2hzb21laGFzaHNvbWVoYXNo",
        ] {
            let e = PasswordHash::parse(bad).unwrap_err();
            assert!(bad.is_empty() || !e.contains(bad), "{e}");
        }
        let shown = format!("{:?}", PasswordHash::parse(&hash(&Secret::new("p")).unwrap()).unwrap());
        assert!(!shown.contains("m=19456"));
    }

    #[test]
    fn a_password_that_is_too_long_is_wrong() {
        let long = "a".repeat(MAX_PASSWORD + 1);
        let empty = PasswordHash::parse(&bcrypt::hash("", 4).unwrap()).unwrap();
        assert!(empty.verify(&Secret::new(""), &Memory::default()));
        assert!(!empty.verify(&Secret::new(long.clone()), &Memory::default()));
        assert!(hash(&Secret::new(long)).is_err());
    }
}
