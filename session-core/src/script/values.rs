//! `Values`: a small table of strings that handlers of all sessions share, with expiry.
//!
//! Every call is atomic. Entries, their sizes and their sum are bounded: what does not fit is refused,
//! and nothing is dropped for it before its time. Nothing of it survives the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueLimits {
    /// Entries.
    pub entries: usize,
    /// Bytes of one key and value.
    pub entry: usize,
    /// Bytes of all keys and values.
    pub bytes: usize,
}

impl Default for ValueLimits {
    fn default() -> Self {
        ValueLimits { entries: 100_000, entry: 64 << 10, bytes: 32 << 20 }
    }
}

struct Entry {
    value: String,
    until: Option<Instant>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<String, Entry>,
    bytes: usize,
}

/// The table.
#[derive(Default)]
pub struct Values {
    limits: ValueLimits,
    table: Mutex<Table>,
}

fn too_large(words: &'static str) -> Error {
    Error::new(ErrorKind::TooLarge).with_detail(words)
}

impl Table {
    fn remove(&mut self, key: &str) -> Option<String> {
        let entry = self.entries.remove(key)?;
        self.bytes = self.bytes.saturating_sub(key.len() + entry.value.len());
        Some(entry.value)
    }

    fn alive(&mut self, key: &str, now: Instant) -> Option<&mut Entry> {
        if self.entries.get(key).is_some_and(|e| e.until.is_some_and(|u| u <= now)) {
            self.remove(key);
        }
        self.entries.get_mut(key)
    }

    fn sweep(&mut self, now: Instant) {
        let mut freed = 0;
        self.entries.retain(|key, e| {
            let stays = e.until.is_none_or(|u| u > now);
            if !stays {
                freed += key.len() + e.value.len();
            }
            stays
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }
}

impl Values {
    /// A table with other bounds.
    pub fn new(limits: ValueLimits) -> Self {
        Values { limits, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value at `key`.
    pub fn get(&self, key: &str, now: Instant) -> Option<String> {
        self.table().alive(key, now).map(|e| e.value.clone())
    }

    /// Sets it; without `lasts` it stays. Errors: `TooLarge`.
    pub fn set(&self, key: &str, value: String, lasts: Option<Duration>, now: Instant) -> Result<()> {
        self.put(&mut self.table(), key, value, lasts.and_then(|l| now.checked_add(l)), now)
    }

    /// Sets it where nothing is; whether it did. Errors: `TooLarge`.
    pub fn add(&self, key: &str, value: String, lasts: Option<Duration>, now: Instant) -> Result<bool> {
        let mut table = self.table();
        if table.alive(key, now).is_some() {
            return Ok(false);
        }
        self.put(&mut table, key, value, lasts.and_then(|l| now.checked_add(l)), now)?;
        Ok(true)
    }

    /// Adds to the whole number at `key` (nothing is 0), and answers the sum. `lasts` counts from the
    /// first time: a window, not a wait. Errors: `InvalidArgument` where no whole number stands or the
    /// sum is beyond 2⁵³, `TooLarge`.
    pub fn increment(&self, key: &str, by: i64, lasts: Option<Duration>, now: Instant) -> Result<i64> {
        const MOST: i64 = 1 << 53;
        let mut table = self.table();
        let (old, until) = match table.alive(key, now) {
            Some(e) => {
                let old = e.value.parse::<i64>().map_err(|_| {
                    Error::new(ErrorKind::InvalidArgument).with_detail("the value is no whole number")
                })?;
                (old, e.until)
            }
            None => (0, lasts.and_then(|l| now.checked_add(l))),
        };
        let sum = old.checked_add(by).filter(|s| (-MOST..=MOST).contains(s)).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument).with_detail("the sum is beyond what a number holds")
        })?;
        self.put(&mut table, key, sum.to_string(), until, now)?;
        Ok(sum)
    }

    /// Removes it; whether it was there.
    pub fn delete(&self, key: &str, now: Instant) -> bool {
        let mut table = self.table();
        table.alive(key, now).is_some() && table.remove(key).is_some()
    }

    fn put(
        &self,
        table: &mut Table,
        key: &str,
        value: String,
        until: Option<Instant>,
        now: Instant,
    ) -> Result<()> {
        let size = key.len() + value.len();
        if size > self.limits.entry {
            return Err(too_large("the value is too large to be kept"));
        }
        let old = table.entries.get(key).map(|e| key.len() + e.value.len());
        let fits = |t: &Table| {
            t.bytes - old.unwrap_or(0) + size <= self.limits.bytes
                && t.entries.len() + usize::from(old.is_none()) <= self.limits.entries
        };
        if !fits(table) {
            table.sweep(now);
            // The old entry may have been swept: it is counted anew.
            let old = table.entries.get(key).map(|e| key.len() + e.value.len());
            if table.bytes - old.unwrap_or(0) + size > self.limits.bytes
                || table.entries.len() + usize::from(old.is_none()) > self.limits.entries
            {
                return Err(too_large("the shared values are full"));
            }
        }
        table.remove(key);
        table.bytes += size;
        table.entries.insert(key.to_string(), Entry { value, until });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_gone() {
        let (values, now) = (Values::default(), Instant::now());
        let second = Duration::from_secs(1);
        values.set("a", "1".into(), Some(second), now).unwrap();
        assert_eq!(values.get("a", now).as_deref(), Some("1"));
        assert!(!values.add("a", "2".into(), None, now).unwrap());
        assert_eq!(values.get("a", now + second), None);
        assert!(values.add("a", "2".into(), None, now + second).unwrap());
        assert!(values.delete("a", now) && !values.delete("a", now));
        assert_eq!(values.table().bytes, 0);
    }

    #[test]
    fn a_window_counts_from_the_first() {
        let (values, now) = (Values::default(), Instant::now());
        let (second, minute) = (Duration::from_secs(1), Some(Duration::from_secs(60)));
        assert_eq!(values.increment("n", 1, minute, now).unwrap(), 1);
        assert_eq!(values.increment("n", 2, minute, now + 59 * second).unwrap(), 3);
        assert_eq!(values.increment("n", 1, minute, now + 60 * second).unwrap(), 1);
        values.set("s", "x".into(), None, now).unwrap();
        assert!(values.increment("s", 1, None, now).is_err());
        values.set("m", (1i64 << 53).to_string(), None, now).unwrap();
        assert!(values.increment("m", 1, None, now).is_err());
    }

    #[test]
    fn it_is_bounded_and_makes_room_only_of_what_has_expired() {
        let values = Values::new(ValueLimits { entries: 2, entry: 10, bytes: 12 });
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        assert!(values.set("k", "x".repeat(10), None, now).is_err());
        values.set("a", "12345".into(), Some(second), now).unwrap();
        values.set("b", "1".into(), None, now).unwrap();
        assert!(values.set("c", String::new(), None, now).is_err());
        assert!(values.set("b", "123456".into(), None, now).is_err());
        assert_eq!(values.get("b", now).as_deref(), Some("1"));
        values.set("b", "12345678".into(), None, now + second).unwrap();
        values.set("c", "12".into(), None, now + second).unwrap();
        assert_eq!(values.table().bytes, 12);
    }
}
