//! Removing: by name, by mask, whole trees, or into a recycle bin.
//!
//! A directory goes after all that was in it, and stays where anything in it could not be removed or its
//! listing was not complete. Links are removed, never followed. Dropped in the middle, what is gone is gone
//! and the rest stands.

use futures_util::stream::{StreamExt, iter};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::metadata::Metadata;
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::core::{Open, Session};
use super::result::{Removal, RemovalResult};
use super::source::remote_source;
use crate::batch::recycle;
use crate::sync::{Recycle, Side};

/// Files of one directory that are removed at once.
const AT_ONCE: usize = 32;

impl Session {
    /// Removes files and whole directories: a path, or one whose last part is a mask. A mask that nothing fits is
    /// a success with no removals; a path that does not exist is a failure. Where the options name a recycle bin,
    /// entries are moved there instead. Dropped, what is gone is gone and the rest stands. Errors of its own:
    /// `Closed`, and an argument that is none; everything else stands in the result.
    pub async fn remove_files(&self, path: impl AsRef<[u8]>) -> Result<RemovalResult> {
        let open = self.told(self.opened_now())?;
        let mut result = RemovalResult::default();
        match remote_source(&open, path.as_ref(), self.hub()).await {
            Ok(source) => {
                for path in source.found.into_iter().chain(source.links) {
                    entry(&open, &path, &mut result).await;
                }
            }
            Err(e) if e.kind() == ErrorKind::InvalidArgument => return self.told(Err(e)),
            Err(e) => drop(result.fail(e)),
        }
        result.failures.iter().for_each(|e| self.hub().failed(e));
        Ok(result)
    }

    /// Removes one file by its exact name. Dropped, it is gone or not. Errors: `IsADirectory`, `NotFound`,
    /// `InvalidArgument` for no name.
    pub async fn remove_file(&self, path: impl AsRef<[u8]>) -> Result<Removal> {
        let result = async {
            let open = self.opened_now()?;
            if path.as_ref().is_empty() {
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a path is empty"));
            }
            let path = Session::remote(&open, path.as_ref())?;
            if open.fs.stat(&path, Follow::No).await?.is_dir() {
                return Err(Error::new(ErrorKind::IsADirectory).at(OperationKind::RemoveFile, Some(&path)));
            }
            let mut removal = plain(path, false);
            match bin(&open)?.filter(|bin| bin.removed) {
                Some(bin) => removal.recycled = Some(recycle(&open.fs, &removal.path, &bin.bin).await?),
                None => open.fs.remove_file(&removal.path).await?,
            }
            Ok(removal)
        };
        self.told(result.await)
    }

    /// Removes one entry by its exact name, a directory with all that is in it. The result says what is gone.
    /// Dropped, what is gone is gone and the rest stands. Errors: as [`remove_files`](Self::remove_files).
    pub async fn remove_entry(&self, path: impl AsRef<[u8]>) -> Result<RemovalResult> {
        let open = self.told(self.opened_now())?;
        let path = self.told(Session::remote(&open, path.as_ref()))?;
        let mut result = RemovalResult::default();
        entry(&open, &path, &mut result).await;
        result.failures.iter().for_each(|e| self.hub().failed(e));
        Ok(result)
    }
}

fn plain(path: VPath, directory: bool) -> Removal {
    Removal { path, directory, recycled: None, failure: None, error: None }
}

/// Where entries of the server go instead of being lost, if the options say so. Errors: `InvalidArgument` for a bin
/// without a path.
pub(super) fn bin(open: &Open) -> Result<Option<Recycle>> {
    let is_set = |name| open.options.raw_setting(name) == Some("1");
    let (removed, replaced) = (is_set("DeleteToRecycleBin"), is_set("OverwrittenToRecycleBin"));
    if !removed && !replaced {
        return Ok(None);
    }
    let Some(path) = open.options.raw_setting("RecycleBinPath").filter(|p| !p.is_empty()) else {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("a recycle bin is asked for and RecycleBinPath is not set"));
    };
    // WinSCP's pattern at the end of the path is what it does anyway.
    let path = path.strip_suffix("*.*").unwrap_or(path);
    let bin = VPath::parse(&open.home, path.as_bytes())?;
    Ok(Some(Recycle { side: Side::Right, bin, removed, replaced }))
}

/// Removes one entry with all below it; what happened stands in the result.
async fn entry(open: &Open, path: &VPath, result: &mut RemovalResult) {
    let done = |result: &mut RemovalResult, mut removal: Removal, outcome: Result<()>| {
        if let Err(e) = outcome {
            removal.error = Some(e.clone());
            removal.failure = Some(result.fail(e));
        }
        let fine = removal.failure.is_none();
        result.removals.push(removal);
        fine
    };
    let found = match open.fs.stat(path, Follow::No).await {
        Ok(m) if m.is_dir() && path.is_root() => {
            Err(Error::new(ErrorKind::InvalidArgument).with_detail("the root is not removed"))
        }
        found => found,
    };
    let metadata: Metadata = match found {
        Ok(metadata) => metadata,
        Err(e) => {
            done(result, plain(path.clone(), false), Err(e));
            return;
        }
    };
    match bin(open).map(|bin| bin.filter(|bin| bin.removed)) {
        Ok(None) => {}
        Ok(Some(bin)) => {
            let mut removal = plain(path.clone(), metadata.is_dir());
            let outcome = recycle(&open.fs, path, &bin.bin).await.map(|to| removal.recycled = Some(to));
            done(result, removal, outcome);
            return;
        }
        Err(e) => {
            done(result, plain(path.clone(), false), Err(e));
            return;
        }
    }
    if !metadata.is_dir() {
        let outcome = open.fs.remove_file(path).await;
        done(result, plain(path.clone(), false), outcome);
        return;
    }
    // Down first, directories on the way back.
    let mut left = vec![(path.clone(), false)];
    // Directories in which something stays: they stay too, and are no failures of their own.
    let mut stay: Vec<VPath> = Vec::new();
    while let Some((dir, emptied)) = left.pop() {
        if emptied {
            if !stay.iter().any(|kept| kept.starts_with(&dir)) {
                let outcome = open.fs.remove_dir(&dir).await;
                if !done(result, plain(dir.clone(), true), outcome) {
                    stay.push(dir);
                }
            }
            continue;
        }
        left.push((dir.clone(), true));
        let (files, complete) = match scan(&open.fs, &dir, &mut left).await {
            Ok(files) => (files, true),
            Err(e) => {
                result.fail(e);
                (Vec::new(), false)
            }
        };
        let fs = &open.fs;
        let mut outcomes = iter(files)
            .map(|path| async move {
                let outcome = fs.remove_file(&path).await;
                (path, outcome)
            })
            .buffer_unordered(AT_ONCE);
        let mut all = complete;
        while let Some((path, outcome)) = outcomes.next().await {
            all &= done(result, plain(path, false), outcome);
        }
        if !all {
            stay.push(dir);
        }
    }
}

/// The files of a directory; its directories go onto the stack. Nothing is put there unless the listing is
/// complete.
async fn scan(fs: &SessionFs, dir: &VPath, left: &mut Vec<(VPath, bool)>) -> Result<Vec<VPath>> {
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    let (mut files, mut below) = (Vec::new(), Vec::new());
    while let Some(page) = pages.next_page().await? {
        for entry in page {
            let path = dir.join(&entry.name)?;
            if entry.metadata.is_dir() { below.push((path, false)) } else { files.push(path) }
        }
    }
    left.append(&mut below);
    Ok(files)
}
