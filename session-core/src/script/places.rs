//! Places that a handler opens besides its user's files: what the host opened, and what an invocation holds.
//!
//! The host decides what may be opened and bounds it; an invocation holds a few at a time, and lets go of all
//! of them when it ends, however it ends. A folder of this machine is opened once for one invocation.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::grants::Grant;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Filesystem;
use crate::path::VPath;

/// Places that one invocation may have open at a time.
const MOST: usize = 16;

/// A place that the host opened.
pub struct Opened {
    /// What is there; it keeps whatever bounds the host sets.
    pub fs: Arc<dyn Filesystem>,
    /// Where relative paths begin.
    pub base: VPath,
    /// Dropped when the handler lets go of the place, which ends it.
    pub held: Box<dyn Send + Sync>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("base", &self.base).finish_non_exhaustive()
    }
}

/// What a request to open a place asks for, as a handler's grant.
pub(super) fn grant_of(request: &Value) -> Result<Grant> {
    match request.get("kind").and_then(Value::as_str) {
        Some("disk") => Ok(Grant::Local),
        // Nothing is reached; it is the handler's own, as its variables are.
        Some("memory") => Ok(Grant::Files),
        Some("remote") => Ok(Grant::Remotes),
        _ => Err(Error::new(ErrorKind::InvalidArgument).with_detail("there is no such kind of place")),
    }
}

struct Held {
    opened: Arc<Opened>,
    /// What asked for it, where it may be shared.
    request: Option<Value>,
}

/// The places of an invocation, by number from 1.
#[derive(Default)]
pub(super) struct Places(Mutex<Vec<Option<Held>>>);

impl Places {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may be opened. Errors: `TooLarge`.
    pub(super) fn has_room(&self) -> Result<()> {
        if self.lock().iter().flatten().count() < MOST {
            return Ok(());
        }
        let words = format!("a handler has at most {MOST} places open at a time");
        Err(Error::new(ErrorKind::TooLarge).with_detail(words))
    }

    /// The folder that this very request has opened.
    pub(super) fn known(&self, request: &Value) -> Option<usize> {
        let held = self.lock();
        let is = |h: &Option<Held>| h.as_ref().is_some_and(|h| h.request.as_ref() == Some(request));
        held.iter().position(is).map(|n| n + 1)
    }

    pub(super) fn hold(&self, opened: Opened, request: Option<Value>) -> usize {
        let mut held = self.lock();
        let one = Some(Held { opened: Arc::new(opened), request });
        match held.iter().position(Option::is_none) {
            Some(free) => {
                if let Some(slot) = held.get_mut(free) {
                    *slot = one;
                }
                free + 1
            }
            None => {
                held.push(one);
                held.len()
            }
        }
    }

    /// Errors: `Closed` for one that was let go of.
    pub(super) fn at(&self, number: usize) -> Result<Arc<Opened>> {
        let held = self.lock();
        let there = number.checked_sub(1).and_then(|n| held.get(n)?.as_ref());
        there
            .map(|h| Arc::clone(&h.opened))
            .ok_or_else(|| Error::new(ErrorKind::Closed).with_detail("this place is not open"))
    }

    /// Lets go of all of them: the handler is done.
    pub(super) fn clear(&self) {
        let held = std::mem::take(&mut *self.lock());
        drop(held);
    }

    /// Whether it was open.
    pub(super) fn let_go(&self, number: usize) -> bool {
        let mut held = self.lock();
        let there = number.checked_sub(1).and_then(|n| held.get_mut(n)).and_then(Option::take);
        drop(held);
        there.is_some()
    }
}
