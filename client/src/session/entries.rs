//! Changing entries: directories, names, links, permissions, owners, times.
//!
//! Each call is one operation of the server, or several of them in a row where a mask names several
//! entries. Dropped, a single operation has happened or not; of several, the first ones have.

use std::time::SystemTime;

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, Replace};
use session_core::fs_ext::FilesystemExt;
use session_core::metadata::Attributes;
use session_core::operation::OperationKind;
use session_core::path::{VPath, display_bytes};

use super::core::{Open, Session};
use super::names::renamed;
use super::result::FilePermissions;
use super::source::{remote_source, target};

impl Session {
    /// Makes one directory. Dropped, it is there or not. Errors: `AlreadyExists`, `NotFound` (the parent),
    /// `PermissionDenied`.
    pub async fn create_directory(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.each(path, |open, path| async move { open.fs.create_dir(&path, &Attributes::none()).await })
            .await
    }

    /// Makes a directory with those above it; one that is there is fine. Dropped, the first of them may be there.
    /// Errors: `NotADirectory`.
    pub async fn create_directories(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.each(path, |open, path| async move { open.fs.create_dir_all(&path).await }).await
    }

    /// Removes a directory only if it is empty. Dropped, it is gone or not. Errors: `NotEmpty`, `NotADirectory`,
    /// `NotFound`.
    pub async fn remove_empty_directory(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.each(path, |open, path| async move { open.fs.remove_dir(&path).await }).await
    }

    /// Renames or moves, and never replaces anything. The source may be a mask; a target that ends in a slash is
    /// a directory to move into, else its last part is an operation mask. Gives what moved where. Dropped, those
    /// before the one at hand have moved, and that one has or has not; S3, which copies and removes, may have it
    /// in both places. Errors: `NotFound` where nothing fits, `AlreadyExists`, `InvalidArgument` for a move into
    /// itself or onto what it lies in; of several, those before the error have moved.
    pub async fn move_file(
        &self,
        source: impl AsRef<[u8]>,
        target: impl AsRef<[u8]>,
    ) -> Result<Vec<(VPath, VPath)>> {
        self.told(self.masked(source.as_ref(), target.as_ref(), Which::Move).await)
    }

    /// Copies a file inside the server, and never replaces anything. The target's last part is an operation
    /// mask. Dropped or broken off, the server may have finished the copy. Errors: `Unsupported` where the
    /// server cannot, `AlreadyExists`, `NotFound`, `IsADirectory`.
    pub async fn duplicate_file(
        &self,
        source: impl AsRef<[u8]>,
        target: impl AsRef<[u8]>,
    ) -> Result<Vec<(VPath, VPath)>> {
        let result = async {
            let open = self.opened_now()?;
            let source = Session::remote(&open, source.as_ref())?;
            renamings(&open, vec![source], target.as_ref(), Which::Copy).await
        };
        self.told(result.await)
    }

    /// As [`duplicate_file`](Self::duplicate_file), the source being a mask: what scripts call `cp`. Dropped,
    /// those before the one at hand are copied.
    pub async fn duplicate_files(
        &self,
        source: impl AsRef<[u8]>,
        target: impl AsRef<[u8]>,
    ) -> Result<Vec<(VPath, VPath)>> {
        self.told(self.masked(source.as_ref(), target.as_ref(), Which::Copy).await)
    }

    async fn masked(&self, source: &[u8], to: &[u8], which: Which) -> Result<Vec<(VPath, VPath)>> {
        let open = self.opened_now()?;
        let found = remote_source(&open, source, self.hub()).await?.found;
        if found.is_empty() {
            return Err(Error::new(ErrorKind::NotFound)
                .with_detail(format!("'{}' not found", display_bytes(source)))
                .at(which.kind(), None));
        }
        renamings(&open, found, to, which).await
    }

    /// Sets permission bits. Dropped, they are set or not. Errors: `Unsupported` where the server has none,
    /// `NotFound`, `PermissionDenied`.
    pub async fn chmod(&self, path: impl AsRef<[u8]>, permissions: FilePermissions) -> Result<()> {
        self.attributes(path, Attributes::mode(permissions.numeric())).await
    }

    /// Sets owner and group by number; `None` leaves one as it is. Dropped, both are set or neither. Errors: as
    /// [`chmod`](Self::chmod).
    pub async fn chown(&self, path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.attributes(path, Attributes { uid, gid, ..Attributes::none() }).await
    }

    /// Sets the time of the last change; `None` for now. Dropped, it is set or not. Errors: as
    /// [`chmod`](Self::chmod).
    pub async fn touch(&self, path: impl AsRef<[u8]>, modified: Option<SystemTime>) -> Result<()> {
        let time = Some(modified.unwrap_or_else(SystemTime::now));
        self.attributes(path, Attributes::times(time, time)).await
    }

    async fn attributes(&self, path: impl AsRef<[u8]>, attributes: Attributes) -> Result<()> {
        self.each(
            path,
            |open, path| async move { open.fs.set_attributes(&path, &attributes, Follow::Yes).await },
        )
        .await
    }

    /// Makes a symbolic link at `link` that holds `target` as it is. Dropped, the link is there or not. Errors:
    /// `AlreadyExists`, `Unsupported`.
    pub async fn create_symbolic_link(&self, link: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Result<()> {
        let target = target.as_ref().to_vec();
        self.each(link, |open, link| async move { open.fs.symlink(&target, &link).await }).await
    }

    /// Makes `link` another name of a file. Dropped, the link is there or not. Errors: `AlreadyExists`,
    /// `NotFound`, `Unsupported`.
    pub async fn create_hard_link(&self, link: impl AsRef<[u8]>, file: impl AsRef<[u8]>) -> Result<()> {
        let file = file.as_ref().to_vec();
        self.each(link, |open, link| async move {
            let file = Session::remote(&open, &file)?;
            open.fs.hard_link(&file, &link).await
        })
        .await
    }

    /// What a symbolic link holds. Dropped, nothing has changed. Errors: `InvalidArgument` if it is none.
    pub async fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let result = async {
            let open = self.opened_now()?;
            Ok(open.fs.read_link(&Session::remote(&open, path.as_ref())?).await?.to_vec())
        };
        self.told(result.await)
    }

    /// The one way of all calls on one path.
    async fn each<F>(
        &self,
        path: impl AsRef<[u8]>,
        run: impl FnOnce(std::sync::Arc<Open>, VPath) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let result = async {
            let open = self.opened_now()?;
            let path = Session::remote(&open, path.as_ref())?;
            run(open, path).await
        };
        self.told(result.await)
    }
}

async fn renamings(open: &Open, found: Vec<VPath>, to: &[u8], which: Which) -> Result<Vec<(VPath, VPath)>> {
    let (dir, mask) = target(&open.home, to)?;
    let mut done = Vec::new();
    for from in found {
        let to = dir.join(renamed(&mask, from.name())?)?;
        let onto = |words: &'static str| {
            Err(Error::new(ErrorKind::InvalidArgument).with_detail(words).at(which.kind(), Some(&from)))
        };
        if from == to {
            return onto("source and target are the same");
        }
        if from.starts_with(&to) {
            return onto("the target is a directory that the source lies in");
        }
        if to.starts_with(&from) {
            return onto("the target lies in the source");
        }
        match which {
            Which::Copy => open.fs.copy(&from, &to, Replace::No).await?,
            Which::Move => open.fs.rename(&from, &to, Replace::No).await?,
        }
        done.push((from, to));
    }
    Ok(done)
}

#[derive(Clone, Copy)]
enum Which {
    Copy,
    Move,
}

impl Which {
    fn kind(self) -> OperationKind {
        match self {
            Which::Copy => OperationKind::Copy,
            Which::Move => OperationKind::Rename,
        }
    }
}
