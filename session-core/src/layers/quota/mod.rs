//! `Metered`: a store whose content is counted and bounded, exactly.
//!
//! It stands directly around a store, below staging: only there is it known what is published, what an upload
//! takes up and what is replaced. Everything that changes the count is one step against everything else that
//! does: a change of one name holds that name, a rename or a change of a published file in place holds all.
//! An upload that is staged is promised what it needs beyond the file it will replace, byte by byte as it comes,
//! parked ones too; a hard limit refuses the byte that does not fit, a soft one the next beginning. Every name
//! counts with the whole size of its file. What others change in the store is found by [`Metered::rescan`].
//!
//! Several servers may count together what each of them has in stores of its own ([`share`]).
//!
//! Absent: directories do not count; several servers on one store.

mod book;
mod file;
pub mod share;
#[cfg(test)]
mod tests;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

pub use self::book::{Account, Book, Limits, Report, Usage};
use self::file::{InPlace, StagedFile};
use super::staged::finish::finish;
use crate::error::{ErrorKind, Result};
use crate::fs::*;
use crate::layer::Layer;
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

/// How many names may change at a time, at most.
const NAMES: usize = 64;

struct Inner {
    store: Arc<dyn Filesystem>,
    account: Account,
    /// Written by who may change anything, read by who changes one name.
    whole: Arc<RwLock<()>>,
    names: Vec<Arc<Mutex<()>>>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Metered(Arc<Inner>);

/// One name, or all of them, kept from others.
enum Held {
    Name { _whole: OwnedRwLockReadGuard<()>, _name: OwnedMutexGuard<()> },
    Whole { _whole: OwnedRwLockWriteGuard<()> },
}

/// What a published entry counts for: bytes.
fn bytes_of(metadata: &Metadata) -> u64 {
    if metadata.is_file() { metadata.size } else { 0 }
}

/// The same of a file in all its names; nothing of one that has none any more.
fn weight(metadata: &Metadata) -> i128 {
    i128::from(bytes_of(metadata)) * i128::from(metadata.links.unwrap_or(1))
}

impl Metered {
    /// `store`, counted in `account`. What it holds is not looked at before [`Metered::rescan`], but for the
    /// uploads that it keeps.
    pub async fn new(store: Arc<dyn Filesystem>, account: Account) -> Result<Self> {
        if store.capabilities().atomic_commit {
            for upload in store.staged().await? {
                account.found(&upload.id, upload.size);
            }
        }
        let names = (0..NAMES).map(|_| Arc::default()).collect();
        Ok(Metered(Arc::new(Inner { store, account, whole: Arc::default(), names })))
    }

    /// Its account.
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    /// Counts what is there, while nothing is published or removed. What was counted before, and what is.
    pub async fn rescan(&self) -> Result<(Usage, Usage)> {
        let _held = self.hold_all().await;
        let mut found = Usage::default();
        let mut left = vec![VPath::root()];
        while let Some(dir) = left.pop() {
            let mut pages = match self.0.store.list(&dir, &ListOptions::default()).await {
                Ok(pages) => pages,
                // A directory may be removed meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound && !dir.is_root() => continue,
                Err(e) => return Err(e),
            };
            while let Some(page) = pages.next_page().await? {
                for entry in page {
                    if entry.metadata.is_dir() {
                        left.push(dir.join(&entry.name)?);
                    } else {
                        found.files += 1;
                        found.bytes = found.bytes.saturating_add(bytes_of(&entry.metadata));
                    }
                }
            }
        }
        let before = self.0.account.published();
        self.0.account.set_published(found);
        Ok((before, found))
    }

    /// What was counted by a former run holds.
    pub fn restore(&self, published: Usage) {
        self.0.account.set_published(published);
    }

    async fn hold(&self, path: &VPath) -> Held {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let whole = Arc::clone(&self.0.whole).read_owned().await;
        let at = usize::try_from(hasher.finish() % NAMES as u64).unwrap_or(0);
        let name = self.0.names.get(at).map(Arc::clone).unwrap_or_default();
        Held::Name { _whole: whole, _name: name.lock_owned().await }
    }

    async fn hold_all(&self) -> Held {
        Held::Whole { _whole: Arc::clone(&self.0.whole).write_owned().await }
    }

    /// The entry at a path itself, if there is one that counts.
    async fn entry(&self, path: &VPath) -> Result<Option<Metadata>> {
        match self.0.store.stat(path, Follow::No).await {
            Ok(found) => Ok(Some(found).filter(|m| !m.is_dir())),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            // A link on the way: the call that follows meets it too.
            Err(e) if e.as_link().is_some() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes an entry of so many bytes, which must fit. To be called with the name held, from `finish`.
    async fn make(&self, bytes: u64, work: impl Future<Output = Result<()>>) -> Result<()> {
        let account = &self.0.account;
        account.begin()?;
        account.add(bytes.into(), 1).await?;
        let made = work.await;
        if made.is_err() {
            account.correct(-i128::from(bytes), -1);
        }
        made
    }

    async fn open_in_place(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let account = &self.0.account;
        // Of a link, what it leads to is opened, or the link is the answer.
        let before = self.0.store.stat(path, Follow::Yes).await.ok();
        let new = before.is_none() && options.create;
        if new || options.truncate {
            account.begin()?;
        }
        if new {
            account.add(0, 1).await?;
        }
        let opened = self.0.store.open(path, options).await;
        match opened {
            Ok(inner) => {
                let after = inner.metadata().await;
                let more = after.as_ref().map_or(0, weight) - before.as_ref().map_or(0, weight);
                account.correct(more, 0);
                let this = self.clone();
                Ok(Arc::new(InPlace { inner, metered: this, path: path.clone(), append: options.append }))
            }
            Err(e) => {
                if new {
                    account.correct(0, -1);
                }
                Err(e)
            }
        }
    }

    async fn set_size(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let Ok(before) = self.0.store.stat(path, follow).await else {
            return self.0.store.set_attributes(path, attributes, follow).await;
        };
        let change = self.0.store.set_attributes(path, attributes, follow);
        let after = async { self.0.store.stat(path, follow).await };
        resize(&self.0.account, &before, attributes.size, change, after).await
    }

    async fn copy_held(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let account = &self.0.account;
        let old = self.entry(to).await?;
        let size = self.0.store.stat(from, Follow::Yes).await.map_or(0, |m| bytes_of(&m));
        account.begin()?;
        let bytes = i128::from(size) - i128::from(old.as_ref().map_or(0, bytes_of));
        let files = i128::from(old.is_none());
        account.add(bytes, files).await?;
        match self.0.store.copy(from, to, replace).await {
            Ok(()) => {
                // The source may have changed until it was copied.
                let now = self.entry(to).await.ok().flatten().map_or(size, |m| bytes_of(&m));
                account.correct(i128::from(now) - i128::from(size), 0);
                Ok(())
            }
            Err(e) => {
                account.correct(-bytes, -files);
                Err(e)
            }
        }
    }

    async fn rename_held(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let old = if from == to { None } else { self.entry(to).await? };
        self.0.store.rename(from, to, replace).await?;
        if let Some(old) = old
            // Two names of one file: the system leaves both.
            && self.entry(from).await?.is_none()
        {
            self.0.account.correct(-i128::from(bytes_of(&old)), -1);
        }
        Ok(())
    }

    async fn remove_held(&self, path: &VPath) -> Result<()> {
        let old = self.entry(path).await?;
        self.0.store.remove_file(path).await?;
        if let Some(old) = old {
            self.0.account.correct(-i128::from(bytes_of(&old)), -1);
        }
        Ok(())
    }

    async fn stage_held(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        let account = &self.0.account;
        let replaces = match stage {
            Stage::New { near, .. } => {
                account.begin()?;
                self.entry(near).await?.map(|m| bytes_of(&m))
            }
            Stage::Reopen(_) => None,
        };
        let new = matches!(stage, Stage::New { .. }) && replaces.is_none();
        if new {
            account.add(0, 1).await?;
        }
        let staged = self.0.store.stage(stage).await;
        if new {
            // From now on the upload stands for it.
            account.correct(0, -1);
        }
        let (id, inner) = staged?;
        match stage {
            Stage::New { .. } => account.open(&id, replaces),
            Stage::Reopen(_) => account.found(&id, inner.metadata().await?.size),
        }
        let file = StagedFile { inner, account: account.clone(), id: id.clone() };
        Ok((id, Arc::new(file)))
    }

    async fn publish_held(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        let replaced = self.entry(to).await?.map(|m| bytes_of(&m));
        self.0.account.aim(id, replaced).await?;
        let published = self.0.store.publish(id, to, replace, keep).await?;
        self.0.account.publish(id, published.size, replaced);
        Ok(published)
    }
}

/// A change of a published file's size: what it grows by must fit, and what it grew by counts.
async fn resize(
    account: &Account,
    before: &Metadata,
    size: Option<u64>,
    change: impl Future<Output = Result<()>>,
    after: impl Future<Output = Result<Metadata>>,
) -> Result<()> {
    let had = weight(before);
    let wants = size.map_or(had, |size| weight(&Metadata { size, ..before.clone() }));
    let promised = (wants - had).max(0);
    account.add(promised, 0).await?;
    let changed = change.await;
    let has = after.await.as_ref().map_or(had, weight);
    account.correct(has - had - promised, 0);
    changed
}

#[async_trait]
impl Layer for Metered {
    fn inner(&self) -> &dyn Filesystem {
        &*self.0.store
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        if !options.write {
            return self.0.store.open(path, options).await;
        }
        let (this, held) = (self.clone(), self.hold_all().await);
        let (path, options) = (path.clone(), options.clone());
        finish(async move {
            let _held = held;
            this.open_in_place(&path, &options).await
        })
        .await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        let (this, held, path) = (self.clone(), self.hold(path).await, path.clone());
        finish(async move {
            let _held = held;
            this.remove_held(&path).await
        })
        .await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (this, held) = (self.clone(), self.hold_all().await);
        let (from, to) = (from.clone(), to.clone());
        finish(async move {
            let _held = held;
            this.rename_held(&from, &to, replace).await
        })
        .await
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        if attributes.size.is_none() {
            return self.0.store.set_attributes(path, attributes, follow).await;
        }
        let (this, held) = (self.clone(), self.hold_all().await);
        let (path, attributes) = (path.clone(), attributes.clone());
        finish(async move {
            let _held = held;
            this.set_size(&path, &attributes, follow).await
        })
        .await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (this, held) = (self.clone(), self.hold(to).await);
        let (from, to) = (from.clone(), to.clone());
        finish(async move {
            let _held = held;
            this.copy_held(&from, &to, replace).await
        })
        .await
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        let (this, held) = (self.clone(), self.hold(at).await);
        let (target, at) = (target.to_vec(), at.clone());
        finish(async move {
            let _held = held;
            this.make(0, this.0.store.symlink(&target, &at)).await
        })
        .await
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let (this, held) = (self.clone(), self.hold_all().await);
        let (from, to) = (from.clone(), to.clone());
        finish(async move {
            let _held = held;
            let bytes = this.entry(&from).await?.map_or(0, |m| bytes_of(&m));
            this.make(bytes, this.0.store.hard_link(&from, &to)).await
        })
        .await
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        let mut space = self.0.store.space(path).await?;
        let (bytes, files) = self.0.account.left();
        if let Some((left, limit)) = bytes {
            // Blocks would round away what is left of a small one.
            space.block_size = 1;
            space.total = space.total.min(limit);
            space.free = space.free.min(left);
            space.available = space.available.min(left);
        }
        if let Some((left, limit)) = files {
            let counted = space.entries > 0;
            space.entries = if counted { space.entries.min(limit) } else { limit };
            space.entries_free = if counted { space.entries_free.min(left) } else { left };
        }
        Ok(space)
    }

    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        let (this, stage) = (self.clone(), stage.clone());
        finish(async move { this.stage_held(&stage).await }).await
    }

    async fn publish(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        let (this, held) = (self.clone(), self.hold(to).await);
        let (id, to) = (id.clone(), to.clone());
        finish(async move {
            let _held = held;
            this.publish_held(&id, &to, replace, keep).await
        })
        .await
    }

    async fn unstage(&self, id: &StageId) -> Result<()> {
        let (this, id) = (self.clone(), id.clone());
        finish(async move {
            this.0.store.unstage(&id).await?;
            this.0.account.forget(&id);
            Ok(())
        })
        .await
    }
}
