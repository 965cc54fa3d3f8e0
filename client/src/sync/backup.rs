//! Keeps what is replaced or removed in a backup directory, under the path that it had.
//!
//! What is to be replaced is copied by the store itself where it can, so that the name is never without a
//! file; else it steps aside and comes back if the new one does not arrive. A name that the backup holds
//! already gets a number behind it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, Replace};
use session_core::fs_ext::FilesystemExt;
use session_core::gate::SessionFs;
use session_core::metadata::Attributes;
use session_core::path::VPath;

use super::decide::Facts;

/// The most backups of one name.
const MAX_NUMBER: u32 = 1000;

/// A backup directory.
pub(super) struct Backup {
    fs: SessionFs,
    dir: VPath,
    /// Directories that are known to be there.
    made: Mutex<HashSet<VPath>>,
}

/// How a file is kept while it is replaced.
pub(super) enum Kept {
    /// A copy of it; the original is in its place.
    Copied,
    /// It went there.
    Moved(VPath),
}

impl Backup {
    pub(super) fn new(fs: SessionFs, dir: VPath) -> Self {
        Backup { fs, dir, made: Mutex::default() }
    }

    /// Moves the file at `place`, whose path below the root is `path`, into the backup.
    pub(super) async fn take(&self, place: &VPath, path: &[u8], facts: &Facts) -> Result<VPath> {
        if !self.fs.capabilities().rename {
            let to = self.copy(place, path, facts).await?;
            self.fs.remove_file(place).await?;
            return Ok(to);
        }
        let wanted = self.wanted(path).await?;
        self.put(place, &wanted, How::Move).await
    }

    /// Keeps the file at `place`, which is about to be replaced.
    pub(super) async fn keep(&self, place: &VPath, path: &[u8], facts: &Facts) -> Result<Kept> {
        if self.fs.capabilities().server_copy {
            match self.copy(place, path, facts).await {
                Ok(_) => return Ok(Kept::Copied),
                Err(e) if e.kind() == ErrorKind::Unsupported && self.fs.capabilities().rename => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Kept::Moved(self.take(place, path, facts).await?))
    }

    /// Puts a file back that stepped aside and was not replaced.
    pub(super) async fn restore(&self, kept: &Kept, place: &VPath) {
        if let Kept::Moved(from) = kept {
            // Where this fails the file stays in the backup, and the failure that led here is told.
            let _ = self.fs.rename(from, place, Replace::No).await;
        }
    }

    async fn copy(&self, place: &VPath, path: &[u8], facts: &Facts) -> Result<VPath> {
        let wanted = self.wanted(path).await?;
        let to = self.put(place, &wanted, How::Copy).await?;
        let capabilities = self.fs.capabilities();
        let mut attributes = Attributes::none();
        attributes.modified = facts.modified.filter(|_| capabilities.set_times);
        attributes.mode = facts.mode.map(|m| m & 0o7777).filter(|_| capabilities.set_mode);
        if !attributes.is_empty() {
            self.fs.set_attributes(&to, &attributes, Follow::No).await?;
        }
        Ok(to)
    }

    /// Where a path goes; the directories above it are made.
    async fn wanted(&self, path: &[u8]) -> Result<VPath> {
        let wanted = VPath::parse(&self.dir, path)?;
        let parent = wanted.parent().unwrap_or_else(VPath::root);
        let known = |made: &Mutex<HashSet<VPath>>, path: &VPath| {
            made.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
        };
        if !known(&self.made, &parent) {
            self.fs.create_dir_all(&parent).await?;
            self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(parent);
        }
        Ok(wanted)
    }

    /// Brings the file at `place` to the first name that is free.
    async fn put(&self, place: &VPath, wanted: &VPath, how: How) -> Result<VPath> {
        let parent = wanted.parent().unwrap_or_else(VPath::root);
        let mut at = wanted.clone();
        for n in 1..MAX_NUMBER {
            // A server may replace without being asked to: the name is looked at first.
            if !self.fs.exists(&at).await? {
                let done = match how {
                    How::Copy => self.fs.copy(place, &at, Replace::No).await,
                    How::Move => self.fs.rename(place, &at, Replace::No).await,
                };
                match done {
                    Ok(()) => return Ok(at),
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e),
                }
            }
            let mut name = wanted.name().to_vec();
            name.extend_from_slice(format!(".~{n}~").as_bytes());
            at = parent.join(name)?;
        }
        Err(Error::new(ErrorKind::AlreadyExists).with_detail("the backup holds too many of this name"))
    }
}

#[derive(Clone, Copy)]
enum How {
    Copy,
    Move,
}
