//! Staged files that have no name at all yet (`O_TMPFILE`), so that a small upload costs its target's
//! directory one entry and the staging folder none. They are made in the directory they are for: so they get
//! what it hands down (group, ACL, quota of a project), and lie where the disk puts its files.
//!
//! Such a file is published by a link to its target, where nothing stands there. It gets a name in the
//! staging folder, and its note, as soon as it matters what becomes of it: when it holds [`WORTH`] bytes,
//! is flushed, is left open by nobody, or replaces something. A server that is killed before that loses
//! it, as far as there is something to lose: it is smaller than what is worth continuing.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::attrs;
use crate::error::Result;
use crate::fs::{StageEntry, StageId};

/// From this size on an upload is worth continuing after a crash, bytes.
pub(super) const WORTH: u64 = 1 << 20;

/// What is known of the folder's filesystem; nothing, before the first file.
const YES: u8 = 1;
const NO: u8 = 2;

/// A file without a name, and the note that it gets with one.
#[derive(Clone)]
pub(super) struct Unnamed {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) note: Arc<[u8]>,
}

/// Those of a store.
#[derive(Default)]
pub(super) struct Nameless {
    files: Mutex<HashMap<Arc<str>, Unnamed>>,
    possible: AtomicU8,
}

impl Nameless {
    fn files(&self) -> MutexGuard<'_, HashMap<Arc<str>, Unnamed>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a file for `dir`; `None` where it must have a name from the start. The first one is linked
    /// to `key` in `folder` at once, to see whether that works here, and has a name then.
    pub(super) fn make(
        &self,
        dir: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        key: &str,
    ) -> Result<Option<Made>, Errno> {
        if self.possible.load(Ordering::Relaxed) == NO {
            return Ok(None);
        }
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = match retry_on_intr(|| rustix::fs::openat(dir, ".", flags, Mode::from_raw_mode(0o666))) {
            Ok(fd) => fd,
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE)) => return Err(e),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                self.possible.store(NO, Ordering::Relaxed);
                return Ok(None);
            }
            // The directory may be gone, or not ours to write to: a file with a name tells which.
            Err(_) => return Ok(None),
        };
        if self.possible.load(Ordering::Relaxed) == YES {
            return Ok(Some(Made::Unnamed(fd)));
        }
        match link(fd.as_fd(), folder, key.as_bytes()) {
            Ok(()) => {
                self.possible.store(YES, Ordering::Relaxed);
                Ok(Some(Made::Named(fd)))
            }
            Err(_) => {
                self.possible.store(NO, Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_possible(&self) -> bool {
        self.possible.load(Ordering::Relaxed) == YES
    }

    #[cfg(test)]
    pub(super) fn forbid(&self) {
        self.possible.store(NO, Ordering::Relaxed);
    }

    pub(super) fn put(&self, id: &StageId, file: Unnamed) {
        self.files().insert(Arc::clone(&id.0), file);
    }

    pub(super) fn take(&self, id: &StageId) -> Option<Unnamed> {
        self.files().remove(&id.0)
    }

    pub(super) fn get(&self, id: &StageId) -> Option<Unnamed> {
        self.files().get(&id.0).cloned()
    }

    /// Lets `name` give a file a name, if it has none. In one step for all others: whoever throws the file away finds
    /// it here or under its name, and never on the way between them.
    pub(super) fn named(&self, id: &StageId, name: impl FnOnce(&Unnamed) -> Result<()>) -> Result<()> {
        let mut files = self.files();
        if let Some(file) = files.get(&id.0) {
            name(file)?;
            files.remove(&id.0);
        }
        Ok(())
    }

    /// All of them, as far as they can be looked at.
    pub(super) fn entries(&self) -> Vec<StageEntry> {
        let files = self.files();
        let entry = |(id, file): (&Arc<str>, &Unnamed)| {
            let metadata = attrs::metadata(&attrs::look_at(&file.fd).ok()?);
            Some(StageEntry {
                id: StageId(Arc::clone(id)),
                note: Bytes::copy_from_slice(&file.note),
                size: metadata.size,
                modified: metadata.modified,
            })
        };
        files.iter().filter_map(entry).collect()
    }
}

/// A new file.
pub(super) enum Made {
    Unnamed(OwnedFd),
    Named(OwnedFd),
}

/// Gives an open file a name where nothing has it.
pub(super) fn link(file: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::linkat(CWD, attrs::magic(file), dir, name, AtFlags::SYMLINK_FOLLOW))
}
