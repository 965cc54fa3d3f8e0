//! `Pinned`: a filesystem in which one path is a given file, for whoever looks at it.
//!
//! A handler that judges an upload reads it under its own path, and reads that upload, whatever else its
//! owner has open there. Only looking is pinned: what changes the path goes to the filesystem below.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::fs::{File, Filesystem, Follow, OpenOptions};
use crate::layer::Layer;
use crate::metadata::Metadata;
use crate::path::VPath;

/// See the module's header.
pub struct Pinned {
    inner: Arc<dyn Filesystem>,
    path: VPath,
    content: Arc<dyn File>,
}

impl Pinned {
    /// `inner` with `content` at `path`.
    pub fn new(inner: Arc<dyn Filesystem>, path: VPath, content: Arc<dyn File>) -> Self {
        Pinned { inner, path, content }
    }
}

#[async_trait]
impl Layer for Pinned {
    fn inner(&self) -> &dyn Filesystem {
        &*self.inner
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        match *path == self.path {
            true => self.content.metadata().await,
            false => self.inner.stat(path, follow).await,
        }
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        match *path == self.path && !options.write {
            true => Ok(Arc::clone(&self.content)),
            false => self.inner.open(path, options).await,
        }
    }
}
