//! An open file of the memory store.
//!
//! Every call happens in one step under the store's lock, so none is ever in flight when another one
//! looks. A plain file is written in place: `abort` cannot bring old content back, it removes the file if
//! this handle made it and its path still leads to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::Store;
use super::tree::{self, Tree};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{CommitOptions, File, OpenOptions, Unfinished};
use crate::metadata::{Attributes, FileType, Metadata};
use crate::path::VPath;

/// The most that one read gives, in bytes: a bound on memory, not a promise.
const MAX_READ: usize = 4 << 20;

/// Where an open file comes from.
pub(super) enum Origin {
    /// A path; `made` by this handle.
    Plain { path: VPath, made: bool },
    /// The staging area.
    Staged(u64),
}

/// An open file. Holds its node.
pub(super) struct MemoryFile {
    store: Arc<Store>,
    node: u64,
    origin: Origin,
    read: bool,
    write: bool,
    append: bool,
    /// Read and written under the store's lock only.
    ended: AtomicBool,
}

/// Throws a staged file away; missing is fine.
pub(super) fn unstage(tree: &mut Tree, node: u64) {
    if tree.staged.remove(&node).is_some() {
        tree.release(node);
    }
}

fn denied(words: &'static str) -> Error {
    Error::new(ErrorKind::PermissionDenied).with_detail(words)
}

impl MemoryFile {
    /// Wraps a node that the caller has marked as held.
    pub(super) fn new(store: &Arc<Store>, node: u64, origin: Origin, options: &OpenOptions) -> Self {
        MemoryFile {
            store: Arc::clone(store),
            node,
            origin,
            read: options.read,
            write: options.write,
            append: options.append,
            ended: AtomicBool::new(false),
        }
    }

    fn enter(&self) -> Result<std::sync::MutexGuard<'_, Tree>> {
        let tree = self.store.tree();
        if self.ended.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Closed));
        }
        Ok(tree)
    }

    fn end(&self) -> Result<std::sync::MutexGuard<'_, Tree>> {
        let tree = self.enter()?;
        self.ended.store(true, Ordering::Relaxed);
        Ok(tree)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.store.tree().release(self.node);
    }
}

#[async_trait]
impl File for MemoryFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        let tree = self.enter()?;
        if !self.read {
            return Err(denied("not opened for reading"));
        }
        tree.read(self.node, offset, len.min(MAX_READ), &mut buf)?;
        Ok(buf)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let mut tree = self.enter()?;
        if !self.write {
            return Err(denied("not opened for writing"));
        }
        if data.is_empty() {
            return Ok(());
        }
        let offset = if self.append { tree.node(self.node)?.size() } else { offset };
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Error::new(ErrorKind::OutOfRange));
        }
        tree.write(self.node, offset, &data, self.store.now())
    }

    async fn metadata(&self) -> Result<Metadata> {
        Ok(self.enter()?.node(self.node)?.metadata(self.node))
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let mut tree = self.enter()?;
        tree::check(attributes, FileType::File)?;
        if attributes.size.is_some() && !self.write {
            return Err(denied("not opened for writing"));
        }
        tree.apply(self.node, attributes, self.store.now())
    }

    /// Nothing outlives the process; what was written is as safe as it will ever be.
    async fn sync(&self) -> Result<()> {
        self.enter().map(drop)
    }

    /// What is staged is there for as long as the store.
    async fn keep(&self) -> Result<Option<Unfinished>> {
        drop(self.enter()?);
        let Origin::Staged(node) = &self.origin else { return Ok(None) };
        Ok(Some(Unfinished { words: format!("memory-{node}").into(), spared: 0 }))
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        tree::check(&options.attributes, FileType::File)?;
        let mut tree = self.end()?;
        let size = tree.node(self.node)?.size();
        if let Some(expected) = options.expected_size
            && expected != size
        {
            return Err(Error::new(ErrorKind::Corrupt)
                .with_detail(format!("{expected} bytes were expected, {size} arrived")));
        }
        tree.apply(self.node, &options.attributes, self.store.now())?;
        Ok(tree.node(self.node)?.metadata(self.node))
    }

    async fn park(&self) -> Result<()> {
        self.end().map(drop)
    }

    async fn abort(&self) -> Result<()> {
        let mut tree = self.end()?;
        match &self.origin {
            Origin::Plain { made: false, .. } => Ok(()),
            Origin::Plain { path, made: true } => {
                match tree.discard(path, self.node, self.store.now()) {
                    // Its directory is gone or moved: there is nothing of ours at this path.
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
                    done => done,
                }
            }
            Origin::Staged(node) => {
                unstage(&mut tree, *node);
                Ok(())
            }
        }
    }
}
