//! `Staged`: uploads are staged. What is being written shows under its name only once it is committed.
//!
//! One [`StagingArea`] per store, one `Staged` per identity around the store, below `Rooted` and the
//! gate. An open that creates or truncates is staged; one that changes an existing file in place writes
//! through, is refused, or works on a copy ([`InPlace`]). Until the last handle's commit everybody else
//! sees the old content or nothing; the owner sees what has arrived. What ends without a commit is parked
//! for its owner to continue. A replaced file's mode, ACL and attributes are kept, unless mode or owner
//! were set on the upload on purpose.
//!
//! An upload that is whole or nothing ([`OpenOptions::apart`]) is seen by nobody and thrown away without a commit,
//! unless it lasts: then it is parked unseen, as bounded as the others, until its owner opens it by its name.
//!
//! An upload that is judged is sealed first ([`File::seal`]): its content stands still, nobody joins it, and
//! no path is held, so that a judge may still rename or remove it. A kill at any point leaves it parked.
//!
//! Absent: digests at sealing (whoever judges makes its own); a reflink for `InPlace::Copy` (the primitives
//! of a store cannot copy into a staged file, so the bytes are moved); names that differ only by case.

mod area;
pub(in crate::layers) mod finish;
mod handle;
mod listing;
mod names;
mod open;
mod progress;
mod table;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::area::View;
pub use self::area::{Clock, ParkedUpload, StagingArea, Swept};
use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::layer::Layer;
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

/// Whose an upload is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    name: Arc<str>,
    shared: bool,
}

impl Owner {
    /// An account: its uploads are its own in all of its sessions, and after a restart.
    pub fn account(name: impl Into<Arc<str>>) -> Self {
        Owner { name: name.into(), shared: false }
    }

    /// One session of an anonymous or shared account. Its parked overwrites are discarded, and with
    /// [`StagingArea::forget`] the rest when it ends.
    pub fn session(id: impl Into<Arc<str>>) -> Self {
        Owner { name: id.into(), shared: true }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", if self.shared { "session" } else { "account" }, self.name)
    }
}

/// What happens to an open that would change a published file in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InPlace {
    /// It writes through, unstaged.
    #[default]
    Allow,
    /// It works on a staged copy of the content.
    Copy,
    /// It is `Refused`.
    Refuse,
}

/// What happens to an upload that ends without a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parking {
    /// It is thrown away.
    Discard,
    /// It is kept for its owner to continue.
    #[default]
    Keep,
    /// What arrived is published, as servers without staging do. Not if nothing arrived.
    Publish,
}

/// How uploads are staged and kept.
#[derive(Clone, Debug)]
pub struct StagingPolicy {
    /// Folders in and below which nothing is staged; `/` switches staging off in whole.
    pub off: Vec<VPath>,
    /// Changes in place.
    pub in_place: InPlace,
    /// Uploads without a commit.
    pub parking: Parking,
    /// How long a parked upload is kept.
    pub keep: Duration,
    /// How long one hides the published file that it would replace, from its owner; then it is discarded.
    pub keep_overwrites: Duration,
    /// The most bytes of parked uploads, over all owners.
    pub max_parked_bytes: u64,
    /// The most parked uploads, over all owners.
    pub max_parked: usize,
}

impl Default for StagingPolicy {
    /// Kept for three days, overwrites for one hour, at most 10,000 uploads and 64 GiB.
    fn default() -> Self {
        StagingPolicy {
            off: Vec::new(),
            in_place: InPlace::default(),
            parking: Parking::default(),
            keep: Duration::from_secs(3 * 24 * 3600),
            keep_overwrites: Duration::from_secs(3600),
            max_parked_bytes: 64 << 30,
            max_parked: 10_000,
        }
    }
}

impl StagingPolicy {
    fn is_off(&self, path: &VPath) -> bool {
        self.off.iter().any(|folder| path.starts_with(folder))
    }
}

/// The store of an area as one owner sees it. Cheap to clone.
#[derive(Clone)]
pub struct Staged {
    owner: Owner,
    area: Arc<StagingArea>,
}

impl Staged {
    /// `area`'s store for `owner`.
    pub fn new(owner: Owner, area: Arc<StagingArea>) -> Self {
        Staged { owner, area }
    }

    fn store(&self) -> &dyn Filesystem {
        &*self.area.store
    }

    fn view(&self, path: &VPath) -> Option<View> {
        self.area.view(&self.owner, path)
    }

    /// Refuses to make something where the owner sees an upload.
    fn free(&self, path: &VPath) -> Result<()> {
        match self.view(path) {
            Some(_) => Err(Error::new(ErrorKind::AlreadyExists)),
            None => Ok(()),
        }
    }

    /// Refuses to use an upload as if it were published.
    fn finished(&self, path: &VPath) -> Result<()> {
        match self.view(path) {
            Some(_) => Err(unfinished()),
            None => Ok(()),
        }
    }
}

fn unfinished() -> Error {
    Error::new(ErrorKind::Locked)
        .with_detail("the upload of this file is not finished")
        .with_hint("continue the upload, or remove the file and send it again")
}

#[async_trait]
impl Layer for Staged {
    fn inner(&self) -> &dyn Filesystem {
        self.store()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { whole_files: true, ..self.store().capabilities() }
    }

    fn capabilities_at(&self, path: &VPath) -> Capabilities {
        Capabilities { whole_files: true, ..self.store().capabilities_at(path) }
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        match self.view(path) {
            Some(view) => self.area.describe(view).await,
            None => self.store().stat(path, follow).await,
        }
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        self.merged(dir, options).await
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        if options.write {
            self.open_for_writing(path, options).await
        } else {
            self.open_for_reading(path, options).await
        }
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.free(path)?;
        self.store().create_dir(path, attributes).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.remove_staged_file(path).await
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.remove_unstaged_dir(path).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.rename_staged(from, to, replace).await
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        self.set_staged_attributes(path, attributes, follow).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.copy_published(from, to, replace).await
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        self.free(at)?;
        self.store().symlink(target, at).await
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        self.finished(from)?;
        self.free(to)?;
        self.store().hard_link(from, to).await
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        match self.view(path) {
            Some(_) => Err(Error::new(ErrorKind::InvalidArgument).with_detail("not a symbolic link")),
            None => self.store().read_link(path).await,
        }
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        match self.store().canonicalize(path).await {
            // An upload's path went through the gate when it was opened: it holds no link.
            Err(e) if e.kind() == ErrorKind::NotFound && self.view(path).is_some() => Ok(path.clone()),
            answer => answer,
        }
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        match self.store().space(path).await {
            // An upload takes its room where it will be published.
            Err(e) if e.kind() == ErrorKind::NotFound && self.view(path).is_some() => match path.parent() {
                Some(dir) => self.store().space(&dir).await,
                None => Err(e),
            },
            answer => answer,
        }
    }

    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        if self.store().capabilities().checksums {
            self.finished(path)?;
        }
        self.store().checksum(path, algorithm, range).await
    }
}
