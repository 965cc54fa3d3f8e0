//! Directories of a batch: made where they are missing, before anything goes into them; times and permission bits set
//! when all of it is there.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use session_core::batch::{Ended, ItemOutcome};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::metadata::{Attributes, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::queue::Pair;
use super::run::{Batch, item};

impl Batch {
    /// Sees to it that the directory is there to which this one goes. Gives whether this batch made it.
    pub(super) fn make<'a>(&'a self, pair: &'a Arc<Pair>) -> BoxFuture<'a, Result<bool>> {
        let make = move || async move {
            if let Some(above) = &pair.above {
                self.make(above).await?;
            }
            match &pair.metadata {
                Some(metadata) => self.make_one(&pair.from, &pair.to, metadata).await,
                None => Ok(false),
            }
        };
        Box::pin(async move { pair.made.get_or_try_init(make).await.copied() })
    }

    async fn make_one(&self, from: &VPath, to: &VPath, metadata: &Metadata) -> Result<bool> {
        if self.is_rehearsal() {
            return self.would_make(to).await;
        }
        let mut attributes = Attributes::none();
        let sets_modes = self.target.capabilities().set_mode;
        if sets_modes && !self.is_hidden(to.parent().unwrap_or_else(VPath::root)).await? {
            // The owner must be able to fill it.
            attributes.mode = self.directory_mode(metadata).map(|m| (m & 0o777) | 0o700);
        }
        let made = self.target.create_dir(to, &attributes).await;
        let fresh = made.is_ok();
        match made {
            Ok(()) => {
                let mut done = item(from, to, 0);
                done.directory = true;
                if let Some(observer) = self.observer.get() {
                    observer.ended(&done, Ended::Made);
                }
                if self.options.details {
                    self.state().report.items.push((done, ItemOutcome::Done(0)));
                }
            }
            Err(e) => match self.target.stat(to, Follow::Yes).await {
                Ok(m) if m.is_dir() => {}
                _ => return Err(e),
            },
        }
        self.state().directories.insert(to.clone(), metadata.clone());
        Ok(fresh)
    }

    /// Whether the directory would be made. Errors: `AlreadyExists`, where something else is there.
    async fn would_make(&self, to: &VPath) -> Result<bool> {
        match self.target.stat(to, Follow::Yes).await {
            Ok(m) if m.is_dir() => Ok(false),
            Ok(_) => Err(Error::new(ErrorKind::AlreadyExists).at(OperationKind::CreateDir, Some(to))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// The permission bits that a directory shall have.
    fn directory_mode(&self, metadata: &Metadata) -> Option<u32> {
        let readable_is_enterable = |mode: u32| mode | ((mode & 0o444) >> 2);
        match self.options.permissions {
            Some(mode) if self.options.add_x_to_directories => Some(readable_is_enterable(mode)),
            Some(mode) => Some(mode),
            None => metadata.mode.filter(|_| self.options.preserve_modes),
        }
    }

    /// Times and modes of directories, which their content changed while it was written: deepest first.
    pub(super) async fn finish_directories(&self) {
        if self.stop.is_cancelled() {
            return;
        }
        let directories = std::mem::take(&mut self.state().directories);
        let capabilities = self.target.capabilities();
        let times = self.options.preserve_times && self.options.directory_times && capabilities.set_times;
        for (path, metadata) in directories.into_iter().rev() {
            let mut attributes = Attributes::none();
            if times {
                attributes.modified = metadata.modified;
                attributes.accessed = metadata.accessed.or(metadata.modified);
            }
            if capabilities.set_mode {
                let exact = self.options.permissions.is_some();
                let wanted = self.directory_mode(&metadata).map(|m| m & 0o777);
                attributes.mode = wanted.filter(|m| exact || m & 0o700 != 0o700);
            }
            if attributes.is_empty() {
                continue;
            }
            match self.target.set_attributes(&path, &attributes, Follow::Yes).await {
                // A server that sets none for directories (FTP) has no failure to tell of.
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                Ok(()) => {}
                Err(_) if self.options.ignore_attribute_errors => {}
                Err(e)
                    if e.kind() == ErrorKind::PermissionDenied
                        && self.is_hidden(path).await.unwrap_or(false) => {}
                Err(e) => self.fail(None, e),
            }
        }
    }
}
