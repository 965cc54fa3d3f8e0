//! Open files of a counted store: those that are staged, and those that are changed in place.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::book::Account;
use super::{Metered, bytes_of, resize};
use crate::error::Result;
use crate::fs::{CommitOptions, File, StageId};
use crate::layer::FileLayer;
use crate::layers::staged::finish::finish;
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

/// A staged file: promised what it needs before it takes it. What a failed write left of it stays promised
/// until the upload ends.
pub(super) struct StagedFile {
    pub(super) inner: Arc<dyn File>,
    pub(super) account: Account,
    pub(super) id: StageId,
}

#[async_trait]
impl FileLayer for StagedFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if !data.is_empty() {
            self.account.grow(&self.id, offset.saturating_add(data.len() as u64)).await?;
        }
        self.inner.write_at(offset, data).await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let Some(size) = attributes.size else { return self.inner.set_attributes(attributes).await };
        self.account.grow(&self.id, size).await?;
        self.inner.set_attributes(attributes).await?;
        self.account.cut(&self.id, size);
        Ok(())
    }
}

/// A published file that is changed in place. Each change that may move its end is one step against all others.
pub(super) struct InPlace {
    pub(super) inner: Arc<dyn File>,
    pub(super) metered: Metered,
    pub(super) path: VPath,
    pub(super) append: bool,
}

impl InPlace {
    /// A change after which the file has this size, or more.
    async fn change<T: Send + 'static>(
        &self,
        size: impl FnOnce(u64) -> u64 + Send + 'static,
        work: impl AsyncWork<T>,
    ) -> Result<T> {
        let held = self.metered.hold_all().await;
        let (metered, inner) = (self.metered.clone(), Arc::clone(&self.inner));
        finish(async move {
            let _held = held;
            let before = inner.metadata().await?;
            let size = size(before.size);
            let mut done = None;
            let change = async {
                done = Some(work(Arc::clone(&inner)).await?);
                Ok(())
            };
            let after = async { inner.metadata().await };
            resize(metered.account(), &before, Some(size), change, after).await?;
            done.ok_or_else(|| crate::error::ErrorKind::Internal.into())
        })
        .await
    }
}

/// Work on an open file that may outlive its caller.
trait AsyncWork<T>:
    FnOnce(Arc<dyn File>) -> futures_util::future::BoxFuture<'static, Result<T>> + Send + 'static
{
}

impl<T, F> AsyncWork<T> for F where
    F: FnOnce(Arc<dyn File>) -> futures_util::future::BoxFuture<'static, Result<T>> + Send + 'static
{
}

#[async_trait]
impl FileLayer for InPlace {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return self.inner.write_at(offset, data).await;
        }
        let (append, len) = (self.append, data.len() as u64);
        let end = move |size: u64| {
            let at = if append { size } else { offset };
            size.max(at.saturating_add(len))
        };
        self.change(end, move |file| Box::pin(async move { file.write_at(offset, data).await })).await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let Some(size) = attributes.size else { return self.inner.set_attributes(attributes).await };
        let attributes = attributes.clone();
        self.change(
            move |_| size,
            move |file| Box::pin(async move { file.set_attributes(&attributes).await }),
        )
        .await
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        let Some(size) = options.attributes.size else { return self.inner.commit(options).await };
        let options = options.clone();
        self.change(move |_| size, move |file| Box::pin(async move { file.commit(&options).await })).await
    }

    async fn abort(&self) -> Result<()> {
        let held = self.metered.hold_all().await;
        let (metered, inner, path) = (self.metered.clone(), Arc::clone(&self.inner), self.path.clone());
        finish(async move {
            let _held = held;
            let before = metered.entry(&path).await?;
            let aborted = inner.abort().await;
            // A store removes what was made for this file.
            if let Some(before) = before {
                let after = metered.entry(&path).await?;
                let bytes = i128::from(after.as_ref().map_or(0, bytes_of)) - i128::from(bytes_of(&before));
                metered.account().correct(bytes, -i128::from(after.is_none()));
            }
            aborted
        })
        .await
    }
}
