//! The local store: a directory of this machine as a [`Filesystem`] (Linux).
//!
//! It never leaves its root and never follows a symbolic link (`resolve.rs`): a path that runs over one is
//! answered with [`crate::error::Error::link`]. No runtime thread waits for the disk, and what the page
//! cache has costs no hop (`pool.rs`). Content written by path goes in place; what must appear in one step
//! is staged and published (`stage.rs`).
//!
//! Deliberately absent: names of owners, digests, ordered listings, canonical paths (nothing is followed),
//! quotas, locks. `if_match` is checked when a file is opened; another process can still change the file
//! after that. Mount points below the root are served.

mod attrs;
mod entries;
mod file;
mod list;
mod pool;
mod resolve;
mod stage;
mod sys;
#[cfg(test)]
mod tests;
mod unnamed;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags, Statx};
use rustix::io::{Errno, retry_on_intr};

use crate::capability::Capabilities;
use crate::error::Result;
use crate::fs::*;
use crate::lease::Lease;
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

/// When what was written is forced to the disk before a call succeeds. [`File::sync`] always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Never by ourselves: the kernel writes within seconds. After a power loss a file that was reported
    /// as complete may be missing or old. What OpenSSH, vsftpd and rsync do; the default.
    #[default]
    Never,
    /// The file, before it is published or its commit succeeds: what has its name has its content.
    OnCommit,
    /// As `OnCommit`, then the directory: what was reported as published or renamed is there after a
    /// power loss.
    Full,
}

/// How a [`LocalStore`] works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOptions {
    /// When to flush.
    pub fsync: FsyncPolicy,
    /// How many calls at a time may be made on runtime threads; the number of processors by default.
    /// Zero sends everything to the blocking pool.
    pub in_place: usize,
}

impl Default for LocalOptions {
    fn default() -> Self {
        LocalOptions {
            fsync: FsyncPolicy::default(),
            in_place: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// A directory of this machine. Cheap to clone.
#[derive(Clone)]
pub struct LocalStore(Arc<Store>);

/// What the store's files and listings share.
struct Store {
    root: resolve::Root,
    root_mount: Statx,
    options: LocalOptions,
    capabilities: Capabilities,
    pool: pool::Pool,
    area: stage::Area,
    /// Devices whose page cache cannot be asked.
    uncached: RwLock<Vec<(u32, u32)>>,
}

impl Store {
    fn asks_cache(&self, device: (u32, u32)) -> bool {
        !self.uncached.read().unwrap_or_else(PoisonError::into_inner).contains(&device)
    }

    fn forget_cache(&self, device: (u32, u32)) {
        let mut uncached = self.uncached.write().unwrap_or_else(PoisonError::into_inner);
        if !uncached.contains(&device) && uncached.len() < 64 {
            uncached.push(device);
        }
    }
}

/// Flushes a directory that is known by its handle. One that may not be read cannot be flushed.
fn sync_dir(dir: impl AsFd) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, ".", flags, Mode::empty()) {
        Ok(fd) => Ok(retry_on_intr(|| rustix::fs::fsync(&fd))?),
        Err(Errno::ACCESS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// `f_type` of filesystems that know less than the others (statfs(2)).
const MSDOS: i64 = 0x4d44;
const EXFAT: i64 = 0x2011_bab0;

fn capabilities(root: &resolve::Root) -> Result<Capabilities> {
    let f_type = rustix::fs::fstatfs(root.fd())?.f_type as i64;
    let max_name = rustix::fs::fstatvfs(root.fd())?.f_namemax;
    let fat = matches!(f_type, MSDOS | EXFAT);
    Ok(Capabilities {
        write: true,
        create_dir: true,
        remove: true,
        rename: true,
        rename_replaces: true,
        random_write: true,
        continue_write: true,
        append: true,
        truncate: true,
        set_times: true,
        set_mode: true,
        set_owner: true,
        symlinks: !fat,
        hard_links: !fat,
        empty_dirs: true,
        case_sensitive: !fat,
        atomic_commit: true,
        conditional_write: true,
        server_copy: true,
        properties: attrs::probe_properties(root.fd()),
        space: true,
        precise_errors: true,
        mtime_granularity: match f_type {
            MSDOS => Duration::from_secs(2),
            EXFAT => Duration::from_millis(10),
            _ => Duration::from_nanos(1),
        },
        max_name: usize::try_from(max_name).unwrap_or(255),
        ..Capabilities::none()
    })
}

impl LocalStore {
    /// Opens the directory `root` as a store. Its own path may run over links; nothing below does.
    ///
    /// Blocks for a few system calls. Errors: `NotFound`, `NotADirectory`, `PermissionDenied`.
    pub fn open(root: impl AsRef<Path>, options: LocalOptions) -> Result<LocalStore> {
        let root = resolve::Root::open_root(root.as_ref())?;
        Ok(LocalStore(Arc::new(Store {
            root_mount: stage::mount_and_stat(root.fd())?,
            capabilities: capabilities(&root)?,
            pool: pool::Pool::new(options.in_place),
            area: stage::Area::default(),
            uncached: RwLock::default(),
            options,
            root,
        })))
    }

    async fn quick<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Arc<Store>, &Lease) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.0);
        self.0.pool.quick(move |lease| call(&store, lease)).await
    }

    async fn slow<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Arc<Store>, &Lease) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.0);
        self.0.pool.slow(move |lease| call(&store, lease)).await
    }
}

impl std::fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalStore").field("options", &self.0.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl Filesystem for LocalStore {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities.clone()
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        let path = path.clone();
        self.quick(move |store, _| entries::stat(store, &path, follow)).await
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let (dir, options) = (dir.clone(), options.clone());
        Ok(Box::new(self.quick(move |store, _| list::open(store, &dir, &options)).await?))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let (path, options) = (path.clone(), options.clone());
        Ok(Arc::new(self.quick(move |store, _| file::open(store, &path, &options)).await?))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        let (path, attributes) = (path.clone(), attributes.clone());
        self.quick(move |store, lease| entries::create_dir(store, lease, &path, &attributes)).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        let path = path.clone();
        self.quick(move |store, lease| entries::remove_file(store, lease, &path)).await
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        let path = path.clone();
        self.quick(move |store, lease| entries::remove_dir(store, lease, &path)).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        let flush = self.0.options.fsync == FsyncPolicy::Full;
        let call =
            move |store: &Arc<Store>, lease: &Lease| entries::rename(store, lease, &from, &to, replace);
        if flush { self.slow(call).await } else { self.quick(call).await }
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let (path, attributes) = (path.clone(), attributes.clone());
        self.quick(move |store, lease| entries::set_attributes(store, lease, &path, &attributes, follow))
            .await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        let given_up = Arc::new(AtomicBool::new(false));
        let _dropped = entries::GiveUp(Arc::clone(&given_up));
        self.slow(move |store, lease| entries::copy(store, lease, &from, &to, replace, &given_up)).await
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        let (target, at) = (Bytes::copy_from_slice(target), at.clone());
        self.quick(move |store, lease| entries::symlink(store, lease, &target, &at)).await
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.quick(move |store, lease| entries::hard_link(store, lease, &from, &to)).await
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        let path = path.clone();
        self.quick(move |store, _| entries::read_link(store, &path)).await
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        let path = path.clone();
        self.quick(move |store, _| entries::space(store, &path)).await
    }

    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        let stage = stage.clone();
        let (id, file) = self.quick(move |store, _| store.area.stage(store, &stage)).await?;
        Ok((id, Arc::new(file)))
    }

    async fn publish(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        let (id, to) = (id.clone(), to.clone());
        let flush = self.0.options.fsync != FsyncPolicy::Never;
        let call = move |store: &Arc<Store>, lease: &Lease| {
            store.area.publish(store, lease, &id, &to, replace, keep)
        };
        if flush { self.slow(call).await } else { self.quick(call).await }
    }

    async fn unstage(&self, id: &StageId) -> Result<()> {
        let id = id.clone();
        self.quick(move |store, lease| lease.unless_cut(|| store.area.unstage(store, &id))).await
    }

    async fn staged(&self) -> Result<Vec<StageEntry>> {
        self.slow(|store, _| store.area.staged(store)).await
    }
}
