//! Which stored name stands for which: what was seen in directories, kept for a while.
//!
//! The stored form of a name has a salt of its own, so a path is found by listing the directories above it, each once.
//! What was found is believed until it is changed here; that something is *not* there, for [`FRESH`]: another client
//! may have put it there since. Where a name is there in both forms, the plain one counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::path::VPath;
use tokio::time::Instant;

use super::cipher::{FileKey, is_sealed};

/// For how long a name that was not seen is believed to be none.
const FRESH: Duration = Duration::from_secs(10);
/// Names that are kept at most.
const MOST: usize = 200_000;

/// An entry of the store below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has its own name, or is not there.
    Plain(VPath),
    /// It is there, under a name that is encrypted.
    Sealed(VPath),
}

impl Found {
    pub(super) fn path(&self) -> &VPath {
        match self {
            Found::Plain(path) | Found::Sealed(path) => path,
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(self, Found::Sealed(_))
    }
}

/// How a name is stored; `None` for one that is stored as it is.
type Stored = Option<Box<[u8]>>;

/// Stored names by plain ones.
pub(super) type Seen = HashMap<Box<[u8]>, Stored>;

/// What is known of a directory.
#[derive(Default)]
struct Known {
    /// When all of it was seen.
    whole: Option<Instant>,
    seen: Seen,
    /// What was changed here, and in which turn: a listing that began before does not know of it. `None`: removed.
    changed: HashMap<Box<[u8]>, (u64, Option<Stored>)>,
}

/// What was seen, by directories as they are called here.
pub(super) struct Names {
    key: Arc<FileKey>,
    dirs: Mutex<HashMap<VPath, Known>>,
    turn: AtomicU64,
}

impl Names {
    pub(super) fn new(key: Arc<FileKey>) -> Names {
        Names { key, dirs: Mutex::default(), turn: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VPath, Known>> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where `path` is in the store. Errors: those of looking, but for "missing" and "not allowed": what may not be
    /// looked at has its own name.
    pub(super) async fn find(&self, fs: &dyn Filesystem, path: &VPath) -> Result<Found> {
        let (mut here, mut found) = (VPath::root(), Found::Plain(VPath::root()));
        for name in path.segments() {
            found = self.step(fs, &here, found.path(), name).await?;
            here = here.join(name)?;
        }
        Ok(found)
    }

    /// Where the entry `name` of a directory is, which is `here` here and `there` in the store.
    async fn step(&self, fs: &dyn Filesystem, here: &VPath, there: &VPath, name: &[u8]) -> Result<Found> {
        let plain = there.join(name)?;
        let of = |stored: &Stored| match stored {
            Some(stored) => there.join(stored).map(Found::Sealed),
            None => Ok(Found::Plain(plain.clone())),
        };
        let fresh = {
            let dirs = self.lock();
            let known = dirs.get(here);
            if let Some(stored) = known.and_then(|k| k.seen.get(name)) {
                return of(stored);
            }
            known.is_some_and(|k| k.whole.is_some_and(|at| at.elapsed() < FRESH))
        };
        if fresh {
            return Ok(Found::Plain(plain));
        }
        // One look is cheaper than a listing, and on the way to most directories nothing is encrypted.
        if fs.stat(&plain, Follow::No).await.is_ok() {
            self.note(here, name, None);
            return Ok(Found::Plain(plain));
        }
        let begun = self.turn();
        let seen = match self.scan(fs, there).await {
            Ok(seen) => seen,
            Err(e) if is_nothing(&e) => return Ok(Found::Plain(plain)),
            Err(e) => return Err(e),
        };
        let found = seen.get(name).map_or_else(|| Ok(Found::Plain(plain.clone())), of);
        self.learn(here, seen, begun);
        found
    }

    async fn scan(&self, fs: &dyn Filesystem, there: &VPath) -> Result<Seen> {
        let mut seen = Seen::new();
        let mut pages = fs.list(there, &ListOptions::default()).await?;
        while let Some(page) = pages.next_page().await? {
            for entry in page {
                self.see(&mut seen, &entry.name);
            }
        }
        Ok(seen)
    }

    /// Takes in a stored name and gives the one that it stands for; `None` for one that another entry has.
    pub(super) fn see(&self, seen: &mut Seen, stored: &[u8]) -> Option<Vec<u8>> {
        let opened = if is_sealed(stored) { self.key.open_name(stored) } else { None };
        let (name, sealed) = match opened {
            Some(name) => (name, Some(Box::from(stored))),
            None => (stored.to_vec(), None),
        };
        let first = !seen.contains_key(&*name);
        if first || sealed.is_none() {
            seen.insert(name.clone().into(), sealed);
        }
        first.then_some(name)
    }

    /// When a listing begins.
    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// All of a directory was seen, by a listing that began in that turn.
    pub(super) fn learn(&self, here: &VPath, mut seen: Seen, begun: u64) {
        let mut dirs = self.lock();
        let mut changed = dirs.remove(here).unwrap_or_default().changed;
        changed.retain(|_, (turn, _)| *turn > begun);
        for (name, (_, change)) in &changed {
            match change {
                Some(stored) => drop(seen.insert(name.clone(), stored.clone())),
                None => drop(seen.remove(name)),
            }
        }
        if dirs.values().map(|k| k.seen.len() + k.changed.len() + 1).sum::<usize>() + seen.len() > MOST {
            dirs.clear();
        }
        if seen.len() <= MOST {
            dirs.insert(here.clone(), Known { whole: Some(Instant::now()), seen, changed });
        }
    }

    /// An entry is there from now on.
    pub(super) fn note(&self, here: &VPath, name: &[u8], stored: Option<&[u8]>) {
        let mut dirs = self.lock();
        let turn = self.turn.fetch_add(1, Ordering::AcqRel) + 1;
        let known = dirs.entry(here.clone()).or_default();
        if known.seen.len() < MOST {
            known.seen.insert(name.into(), stored.map(Box::from));
            known.changed.insert(name.into(), (turn, Some(stored.map(Box::from))));
        }
    }

    /// An entry is there no more, nor what was below it.
    pub(super) fn forget(&self, path: &VPath) {
        let mut dirs = self.lock();
        let turn = self.turn.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(parent) = path.parent() {
            let known = dirs.entry(parent).or_default();
            known.seen.remove(path.name());
            known.changed.insert(path.name().into(), (turn, None));
        }
        dirs.retain(|dir, _| !dir.starts_with(path));
    }

    /// A path of the store as it is called here.
    pub(super) fn plain(&self, stored: &VPath) -> Option<VPath> {
        stored.segments().try_fold(VPath::root(), |path, name| {
            let opened = if is_sealed(name) { self.key.open_name(name) } else { None };
            path.join(opened.as_deref().unwrap_or(name)).ok()
        })
    }
}

/// What tells that nothing can be seen in a directory.
fn is_nothing(e: &Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied | ErrorKind::Refused
    )
}

#[cfg(test)]
mod tests {
    use super::super::cipher::tests::KEY;
    use super::*;

    #[test]
    fn what_changed_during_a_listing_is_not_forgotten() {
        let names = Names::new(Arc::new(FileKey::parse(KEY).unwrap()));
        let root = VPath::root();
        let begun = names.turn();
        let mut listed = Seen::new();
        names.see(&mut listed, b"gone");
        names.note(&root, b"new", Some(b"stored"));
        names.note(&root, b"gone", None);
        names.forget(&VPath::absolute("/gone").unwrap());
        names.learn(&root, listed, begun);
        let known = |names: &Names| {
            let dirs = names.lock();
            let mut all: Vec<_> = dirs[&root].seen.keys().map(|n| n.to_vec()).collect();
            all.sort();
            all
        };
        assert_eq!(known(&names), [b"new".to_vec()]);
        // The next listing saw it all.
        names.learn(&root, Seen::new(), names.turn());
        assert!(known(&names).is_empty());
    }
}
