//! What S3 has beside files: what is said of objects, tags, versions. Elsewhere all of it is `Unsupported`.
//!
//! Dropped, the store may have done what was asked. Handlers are not asked: nothing of this is a file's. WinSCP has
//! no counterpart.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_s3::client::{About, S3Remote, Version};
use session_core::error::Result;
use session_core::path::VPath;

use super::core::Session;
use crate::connect::Putting;

impl Session {
    /// What the store says of an object. Dropped, nothing has changed. Errors: `NotFound`, `IsADirectory`,
    /// `PermissionDenied`.
    pub async fn about(&self, path: impl AsRef<[u8]>) -> Result<About> {
        self.at_store(path, |remote, path| async move { remote.about(&path).await }).await
    }

    /// Changes what is said of an object, as far as `wanted` says anything, and takes the metadata of the names
    /// in `without` away; see [`S3Remote::alter`]. Dropped, some of what takes several requests may be done.
    pub async fn alter(&self, path: impl AsRef<[u8]>, wanted: &Putting, without: &[String]) -> Result<()> {
        self.at_store(path, |remote, path| async move { remote.alter(&path, wanted, without).await }).await
    }

    /// The tags of an object. Dropped, nothing has changed. Errors: `NotFound`, `PermissionDenied`.
    pub async fn tags(&self, path: impl AsRef<[u8]>) -> Result<BTreeMap<String, String>> {
        self.at_store(path, |remote, path| async move { remote.tags(&path).await }).await
    }

    /// Gives an object these tags and no others. Dropped, it has these or those of before. Errors: as
    /// [`tags`](Self::tags); `InvalidArgument`.
    pub async fn set_tags(&self, path: impl AsRef<[u8]>, tags: &BTreeMap<String, String>) -> Result<()> {
        self.at_store(path, |remote, path| async move { remote.set_tags(&path, tags).await }).await
    }

    /// The versions of an object, the newest first. Dropped, nothing has changed. Errors: `NotFound` where there
    /// never was one.
    pub async fn versions(&self, path: impl AsRef<[u8]>) -> Result<Vec<Version>> {
        self.at_store(path, |remote, path| async move { remote.versions(&path).await }).await
    }

    /// Makes an older version the newest, by a copy. Dropped, it is the newest or not; of a large one the store
    /// may keep an unfinished copy. Errors: `NotFound`, `InvalidArgument` for a removal.
    pub async fn restore_version(&self, path: impl AsRef<[u8]>, id: &str) -> Result<()> {
        self.at_store(path, |remote, path| async move { remote.restore(&path, id).await }).await
    }

    async fn at_store<T, F>(
        &self,
        path: impl AsRef<[u8]>,
        work: impl FnOnce(Arc<S3Remote>, VPath) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.beside(path.as_ref(), |open| open.s3.clone(), "that is for objects of S3", work).await
    }
}
