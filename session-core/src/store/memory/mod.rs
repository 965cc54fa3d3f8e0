//! The memory store: a whole filesystem in memory, the reference model of the others.
//!
//! It does what [`crate::fs`] says in the plainest way: one lock, no waiting, every call in one step. It
//! never follows a symbolic link. Content written by path goes in place, as on a disk; what must appear in
//! one step is staged and published. Files are sparse: only what was written takes room.
//!
//! Deliberately absent: checks of permission bits (everybody is the owner), access times on reading,
//! names of owners, digests, canonical paths, locks; anything that outlives the process.

mod content;
mod file;
mod tree;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::metadata::{Attributes, FileType, Metadata};
use crate::path::VPath;
use tree::{Body, Staged, Tree};

/// Where a store takes its time from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How a [`MemoryStore`] works.
#[derive(Clone)]
pub struct MemoryOptions {
    /// The most bytes of content that are kept; beyond is `NoSpace`. `None`: no bound.
    pub limit: Option<u64>,
    /// Numeric owner and group of what is made.
    pub owner: (u32, u32),
    /// The clock of every time stamp. Asked under the store's lock: it must not call the store.
    pub clock: Clock,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions { limit: None, owner: (0, 0), clock: Arc::new(SystemTime::now) }
    }
}

/// A filesystem in memory. Cheap to clone; clones share the content.
#[derive(Clone)]
pub struct MemoryStore(Arc<Store>);

struct Store {
    tree: Mutex<Tree>,
    clock: Clock,
}

impl Store {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> SystemTime {
        (self.clock)()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with(MemoryOptions::default())
    }

    /// An empty store that works as `options` say.
    pub fn with(options: MemoryOptions) -> Self {
        let tree = Mutex::new(Tree::new(options.limit, options.owner, (options.clock)()));
        MemoryStore(Arc::new(Store { tree, clock: options.clock }))
    }

    fn handle(&self, node: u64, origin: file::Origin, options: &OpenOptions) -> Arc<dyn File> {
        Arc::new(file::MemoryFile::new(&self.0, node, origin, options))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

fn number(id: &StageId) -> Option<u64> {
    id.0.strip_prefix("memory-")?.parse().ok()
}

fn not_staged() -> Error {
    Error::new(ErrorKind::NotFound).with_detail("there is no such staged file")
}

#[async_trait]
impl Filesystem for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
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
            symlinks: true,
            hard_links: true,
            empty_dirs: true,
            atomic_commit: true,
            conditional_write: true,
            server_copy: true,
            ordered_list: true,
            properties: true,
            space: true,
            precise_errors: true,
            mtime_granularity: Duration::from_nanos(1),
            max_name: tree::MAX_NAME,
            ..Capabilities::none()
        }
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        let tree = self.0.tree();
        let id = tree.find(path, follow)?;
        Ok(tree.node(id)?.metadata(id))
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let entries = self.0.tree().list(dir, options.order, options.after.as_deref())?;
        Ok(Box::new(ListingOf::new(entries)))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        if options.create {
            tree::check(&options.attributes, FileType::File)?;
        }
        let now = self.0.now();
        let mut tree = self.0.tree();
        let follow = if options.exclusive { Follow::No } else { Follow::Yes };
        let (id, made) = match tree.find(path, follow) {
            Ok(_) if options.exclusive => return Err(Error::new(ErrorKind::AlreadyExists)),
            Ok(id) => (id, false),
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            // Content that must have an etag must be there.
            Err(_) if options.if_match.is_some() => return Err(Error::new(ErrorKind::PreconditionFailed)),
            Err(_) if options.create => (tree.make_file(path, &options.attributes, now)?, true),
            Err(e) => return Err(e),
        };
        let node = tree.node_mut(id)?;
        if node.file_type() == FileType::Directory {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        if let Some(wanted) = &options.if_match
            && node.etag(id) != *wanted
        {
            return Err(Error::new(ErrorKind::PreconditionFailed));
        }
        node.held += 1;
        if options.truncate && !made && node.size() > 0 {
            tree.resize(id, 0, now)?;
        }
        drop(tree);
        Ok(self.handle(id, file::Origin::Plain { path: path.clone(), made }, options))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.0.tree().make_dir(path, attributes, self.0.now())
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.0.tree().remove_file(path, self.0.now())
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.0.tree().remove_dir(path, self.0.now())
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.0.tree().rename(from, to, replace, self.0.now())
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let mut tree = self.0.tree();
        let id = tree.find(path, follow)?;
        tree::check(attributes, tree.node(id)?.file_type())?;
        tree.apply(id, attributes, self.0.now())
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let now = self.0.now();
        let mut tree = self.0.tree();
        let id = tree.find(from, Follow::Yes)?;
        if tree.node(id)?.file_type() == FileType::Directory {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        let copy = tree.duplicate(id, now)?;
        tree.publish(copy, to, replace, false, now).inspect_err(|_| tree.forget(copy))
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        self.0.tree().make_link(at, target, self.0.now())
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        self.0.tree().hard_link(from, to, self.0.now())
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        let tree = self.0.tree();
        match &tree.node(tree.find(path, Follow::No)?)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(Error::new(ErrorKind::InvalidArgument).with_detail("this is no symbolic link")),
        }
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        let tree = self.0.tree();
        tree.find(path, Follow::Yes)?;
        let (used, limit) = tree.used();
        let total = limit.unwrap_or(i64::MAX as u64);
        let free = total.saturating_sub(used);
        Ok(Space {
            block_size: 1,
            total,
            free,
            available: free,
            entries: 0,
            entries_free: 0,
            max_name: tree::MAX_NAME as u64,
            read_only: false,
        })
    }

    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        let now = self.0.now();
        let mut tree = self.0.tree();
        let (id, node) = match stage {
            Stage::New { near, note } => {
                if near.is_root() {
                    return Err(Error::new(ErrorKind::IsADirectory));
                }
                let parent = tree.find(&near.parent().unwrap_or_else(VPath::root), Follow::Yes)?;
                if tree.node(parent)?.file_type() != FileType::Directory {
                    return Err(Error::new(ErrorKind::NotADirectory));
                }
                let node = tree.insert(Body::File(content::Content::default()), 0o644, now);
                // The staging area's own hold.
                tree.node_mut(node)?.held += 1;
                tree.staged.insert(node, Staged { node, note: note.clone() });
                (StageId(format!("memory-{node}").into()), node)
            }
            Stage::Reopen(id) => {
                let staged = number(id).and_then(|n| tree.staged.get(&n)).ok_or_else(not_staged)?;
                (id.clone(), staged.node)
            }
        };
        tree.node_mut(node)?.held += 1;
        drop(tree);
        Ok((id.clone(), self.handle(node, file::Origin::Staged(node), &OpenOptions::update())))
    }

    async fn publish(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        let mut tree = self.0.tree();
        let node = number(id).and_then(|n| tree.staged.get(&n)).ok_or_else(not_staged)?.node;
        tree.publish(node, to, replace, keep, self.0.now())?;
        tree.staged.remove(&node);
        tree.release(node);
        Ok(tree.node(node)?.metadata(node))
    }

    async fn unstage(&self, id: &StageId) -> Result<()> {
        if let Some(node) = number(id) {
            file::unstage(&mut self.0.tree(), node);
        }
        Ok(())
    }

    async fn staged(&self) -> Result<Vec<StageEntry>> {
        let tree = self.0.tree();
        let entry = |(id, staged): (&u64, &Staged)| {
            let node = tree.node(staged.node)?;
            Ok(StageEntry {
                id: StageId(format!("memory-{id}").into()),
                note: staged.note.clone(),
                size: node.size(),
                modified: Some(node.modified),
            })
        };
        tree.staged.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs_ext::FilesystemExt as _;

    fn p(path: &str) -> VPath {
        VPath::absolute(path).unwrap()
    }

    fn limited(limit: u64) -> MemoryStore {
        MemoryStore::with(MemoryOptions { limit: Some(limit), ..MemoryOptions::default() })
    }

    #[tokio::test]
    async fn a_full_store_refuses_whole_writes_and_frees_what_is_removed() {
        let store = limited(10);
        store.write_all(&p("/f"), Bytes::from_static(b"12345678")).await.unwrap();
        let full = store.write_all(&p("/g"), Bytes::from_static(b"abc")).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::NoSpace);
        assert!(!store.exists(&p("/g")).await.unwrap());
        assert_eq!(store.copy(&p("/f"), &p("/h"), Replace::No).await.unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(store.space(&p("/")).await.unwrap().free, 2);
        let open = store.open(&p("/f"), &OpenOptions::read()).await.unwrap();
        store.remove_file(&p("/f")).await.unwrap();
        assert_eq!(store.space(&p("/")).await.unwrap().free, 2, "an open file keeps its content");
        drop(open);
        assert_eq!(store.space(&p("/")).await.unwrap().free, 10);
        store.write_all(&p("/g"), Bytes::from_static(b"0123456789")).await.unwrap();
        store.set_attributes(&p("/g"), &Attributes::size(4), Follow::Yes).await.unwrap();
        assert_eq!(store.space(&p("/")).await.unwrap().free, 6);
    }

    #[tokio::test]
    async fn a_staged_file_counts_until_it_is_thrown_away() {
        let store = limited(10);
        let stage = Stage::New { near: p("/f"), note: Bytes::new() };
        let (id, file) = store.stage(&stage).await.unwrap();
        file.write_at(0, Bytes::from_static(b"12345")).await.unwrap();
        drop(file);
        assert_eq!(store.space(&p("/")).await.unwrap().free, 5);
        store.unstage(&id).await.unwrap();
        assert_eq!(store.space(&p("/")).await.unwrap().free, 10);
    }

    #[tokio::test]
    async fn time_stamps_come_from_the_clock_given() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let clock: Clock = Arc::new(move || then);
        let store = MemoryStore::with(MemoryOptions { clock, ..MemoryOptions::default() });
        let metadata = store.write_all(&p("/f"), Bytes::from_static(b"x")).await.unwrap();
        assert_eq!((metadata.modified, metadata.created), (Some(then), Some(then)));
        assert_eq!(store.stat(&p("/"), Follow::Yes).await.unwrap().modified, Some(then));
    }
}
