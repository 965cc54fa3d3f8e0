//! Files encrypted before they leave, over any store: WinSCP's `EncryptKey`.
//!
//! The format is WinSCP's, as its manual tells it (winscp.net/eng/docs/file_encryption) and its source writes it
//! (`TEncryption` in `source/core/Cryptography.cpp`). *Names* of new entries, directories too: a salt of 16 bytes and
//! the name encrypted under it, in Base64 with `_` for `/` and no padding, then `.aesctr.enc`. *Content* of files of
//! such names: `aesctr..........`, a salt of 16 bytes, the text encrypted under it; nothing where the file is empty.
//! Both by AES-256 in counter mode ([`FileKey`]).
//!
//! What is new is encrypted; what is there in plain stays so when it is written again, and is read as it is. A name that
//! this key does not open is shown as it is stored. Sizes are those of the plain text. A file is written anew and in
//! order, never changed in place or continued: two texts under one salt give each other away. Its content can be read
//! from any offset.
//!
//! What it does not do: prove that nothing was changed (the format has no means), hide sizes, times and the shape of
//! the tree, encrypt what links hold (none are made).

mod cipher;
mod file;
mod names;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::*;
use session_core::layer::Layer;
use session_core::metadata::{Attributes, DirEntry, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;

pub use cipher::FileKey;
use file::{SealedFile, no_size, plain_metadata, stored_size};
use names::{Found, Names, Seen};

/// How the temporary names of files that are written end, WinSCP's and ours.
const PART: &[u8] = b".filepart";

/// A store whose new entries are encrypted. See the module's header.
pub struct Encrypted {
    inner: Arc<dyn Filesystem>,
    key: Arc<FileKey>,
    names: Arc<Names>,
}

impl Encrypted {
    /// Around `inner`.
    pub fn new(inner: Arc<dyn Filesystem>, key: Arc<FileKey>) -> Encrypted {
        let names = Arc::new(Names::new(Arc::clone(&key)));
        Encrypted { inner, key, names }
    }

    /// An error of the store, with paths as they are called here.
    fn here(&self, e: Error) -> Error {
        e.map_path(|path| self.names.plain(path)).map_link(|path| self.names.plain(path))
    }

    async fn find(&self, path: &VPath) -> Result<Found> {
        self.names.find(&*self.inner, path).await.map_err(|e| self.here(e))
    }

    async fn is_there(&self, stored: &VPath) -> Result<bool> {
        match self.inner.stat(stored, Follow::No).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            // Who may put files and not look is told by the putting.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(false),
            Err(e) => Err(self.here(e)),
        }
    }

    /// Whether this is the temporary name of a file that is there in plain, and stays so.
    async fn replaces_plain(&self, path: &VPath) -> Result<bool> {
        let Some(name) = path.name().strip_suffix(PART).filter(|name| !name.is_empty()) else {
            return Ok(false);
        };
        match self.find(&path.parent().unwrap_or_else(VPath::root).join(name)?).await? {
            Found::Plain(there) => self.is_there(&there).await,
            Found::Sealed(_) => Ok(false),
        }
    }

    /// A name for a new entry beside where `plain` would be.
    fn sealed(&self, plain: &VPath, name: &[u8]) -> Result<VPath> {
        plain.parent().unwrap_or_else(VPath::root).join(self.key.seal_name(name)?)
    }

    /// Where an entry of this kind is to stand as `path`, and what stands there in the other form.
    async fn place(&self, path: &VPath, sealed: bool) -> Result<(VPath, Option<VPath>)> {
        if path.is_root() {
            return Err(Error::new(ErrorKind::AlreadyExists).with_detail("the root stays where it is"));
        }
        match (self.find(path).await?, sealed) {
            (Found::Sealed(there), true) => Ok((there, None)),
            (Found::Sealed(there), false) => {
                Ok((there.parent().unwrap_or_else(VPath::root).join(path.name())?, Some(there)))
            }
            (Found::Plain(there), true) => {
                let other = if self.is_there(&there).await? { Some(there.clone()) } else { None };
                Ok((self.sealed(&there, path.name())?, other))
            }
            (Found::Plain(there), false) => Ok((there, None)),
        }
    }

    /// Does what puts an entry at another path: where the other form stood it is removed afterwards.
    async fn put<F: Future<Output = Result<()>>>(
        &self,
        to: &VPath,
        sealed: bool,
        replace: Replace,
        work: impl FnOnce(VPath, Replace) -> F,
    ) -> Result<()> {
        let (at, other) = self.place(to, sealed).await?;
        if other.is_some() && replace == Replace::No {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let replace = if other.is_some() { Replace::No } else { replace };
        work(at.clone(), replace).await.map_err(|e| self.here(e))?;
        self.names.forget(to);
        self.names.note(&to.parent().unwrap_or_else(VPath::root), to.name(), sealed.then(|| at.name()));
        match other {
            Some(other) => self.inner.remove_file(&other).await.map_err(|e| self.here(e)),
            None => Ok(()),
        }
    }

    fn able(inner: Capabilities) -> Capabilities {
        Capabilities {
            random_write: false,
            continue_write: false,
            append: false,
            text: false,
            truncate: false,
            symlinks: false,
            hard_links: false,
            atomic_commit: false,
            checksums: false,
            ordered_list: false,
            max_name: inner.max_name.min(cipher::LONGEST),
            ..inner
        }
    }
}

#[async_trait]
impl Layer for Encrypted {
    fn inner(&self) -> &dyn Filesystem {
        &*self.inner
    }

    fn capabilities(&self) -> Capabilities {
        Encrypted::able(self.inner.capabilities())
    }

    fn capabilities_at(&self, path: &VPath) -> Capabilities {
        Encrypted::able(self.inner.capabilities_at(path))
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        let found = self.find(path).await?;
        let metadata = self.inner.stat(found.path(), follow).await.map_err(|e| self.here(e))?;
        Ok(if found.is_sealed() { plain_metadata(metadata) } else { metadata })
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let found = self.find(dir).await?;
        // An order of stored names is none.
        let options = ListOptions { properties: options.properties, ..ListOptions::default() };
        let begun = self.names.turn();
        let inner = self.inner.list(found.path(), &options).await.map_err(|e| self.here(e))?;
        Ok(Box::new(OpenedPages {
            inner,
            names: Arc::clone(&self.names),
            dir: dir.clone(),
            begun,
            seen: Some(Seen::new()),
        }))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let found = self.find(path).await?;
        let here = |e| self.here(e);
        let is_new = match &found {
            Found::Plain(there) => {
                options.create && !self.is_there(there).await? && !self.replaces_plain(path).await?
            }
            Found::Sealed(_) => false,
        };
        if !is_new && !found.is_sealed() {
            return self.inner.open(found.path(), options).await.map_err(here);
        }
        let sealed = if is_new { self.sealed(found.path(), path.name())? } else { found.path().clone() };
        let mut anew = is_new || options.truncate || options.exclusive;
        if options.append || options.attributes.size.is_some() {
            return Err(no_size());
        }
        if options.write && !anew {
            let there = self.inner.stat(&sealed, Follow::Yes).await.map_err(here)?;
            if there.is_file() && there.size > 0 {
                return Err(Error::unsupported(OperationKind::Write)
                    .with_detail("a file that is encrypted is written anew, not changed"));
            }
            anew = true;
        }
        let size_hint = options.size_hint.map(stored_size);
        let options = OpenOptions { size_hint, unfinished: None, ..options.clone() };
        let inner = self.inner.open(&sealed, &options).await.map_err(here)?;
        if is_new {
            self.names.note(&path.parent().unwrap_or_else(VPath::root), path.name(), Some(sealed.name()));
        }
        let key = Arc::clone(&self.key);
        let file = if anew { SealedFile::anew(inner, key)? } else { SealedFile::there(inner, key) };
        Ok(Arc::new(file))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        let found = self.find(path).await?;
        if found.is_sealed() || path.is_root() || self.is_there(found.path()).await? {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let sealed = self.sealed(found.path(), path.name())?;
        self.inner.create_dir(&sealed, attributes).await.map_err(|e| self.here(e))?;
        self.names.forget(path);
        self.names.note(&path.parent().unwrap_or_else(VPath::root), path.name(), Some(sealed.name()));
        Ok(())
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        let found = self.find(path).await?;
        self.inner.remove_file(found.path()).await.map_err(|e| self.here(e))?;
        self.names.forget(path);
        Ok(())
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        let found = self.find(path).await?;
        self.inner.remove_dir(found.path()).await.map_err(|e| self.here(e))?;
        self.names.forget(path);
        Ok(())
    }

    /// What is encrypted stays so, and what is not stays so. Over an entry of the other kind this is two steps: first
    /// both are there.
    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let found = self.find(from).await?;
        if from == to {
            return self.inner.rename(found.path(), found.path(), replace).await.map_err(|e| self.here(e));
        }
        let there = found.path();
        self.put(to, found.is_sealed(), replace, |at, replace| async move {
            self.inner.rename(there, &at, replace).await
        })
        .await?;
        self.names.forget(from);
        Ok(())
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let found = self.find(path).await?;
        if attributes.size.is_some() {
            return Err(no_size());
        }
        self.inner.set_attributes(found.path(), attributes, follow).await.map_err(|e| self.here(e))
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let found = self.find(from).await?;
        let there = found.path();
        self.put(to, found.is_sealed(), replace, |at, replace| async move {
            self.inner.copy(there, &at, replace).await
        })
        .await
    }

    async fn symlink(&self, _target: &[u8], _at: &VPath) -> Result<()> {
        Err(Error::unsupported(OperationKind::Symlink))
    }

    async fn hard_link(&self, _from: &VPath, _to: &VPath) -> Result<()> {
        Err(Error::unsupported(OperationKind::HardLink))
    }

    async fn read_link(&self, _path: &VPath) -> Result<Bytes> {
        Err(Error::unsupported(OperationKind::ReadLink))
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        let found = self.find(path).await?;
        let there = self.inner.canonicalize(found.path()).await.map_err(|e| self.here(e))?;
        self.names.plain(&there).ok_or_else(|| ErrorKind::InvalidPath.into())
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        let found = self.find(path).await?;
        self.inner.space(found.path()).await.map_err(|e| self.here(e))
    }

    /// What the server would compute is the digest of another text.
    async fn checksum(&self, _path: &VPath, _algorithm: Algorithm, _range: Range<u64>) -> Result<Bytes> {
        Err(Error::unsupported(OperationKind::Checksum))
    }

    // What is staged below would be published in plain.
    async fn stage(&self, _stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        Err(Error::unsupported(OperationKind::Open))
    }

    async fn publish(&self, _id: &StageId, _to: &VPath, _replace: Replace, _keep: bool) -> Result<Metadata> {
        Err(Error::unsupported(OperationKind::Commit))
    }

    async fn unstage(&self, _id: &StageId) -> Result<()> {
        Err(Error::unsupported(OperationKind::Abort))
    }

    async fn staged(&self) -> Result<Vec<StageEntry>> {
        Err(Error::unsupported(OperationKind::List))
    }
}

/// A listing with names and sizes as they are here. What it saw is known when it has ended.
struct OpenedPages {
    inner: Listing,
    names: Arc<Names>,
    dir: VPath,
    /// The turn in which it began.
    begun: u64,
    /// `None` at the end.
    seen: Option<Seen>,
}

#[async_trait]
impl Pages for OpenedPages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        loop {
            let page = self.inner.next_page().await;
            let page = page.map_err(|e| e.map_path(|path| self.names.plain(path)))?;
            let Some(page) = page else {
                if let Some(seen) = self.seen.take() {
                    self.names.learn(&self.dir, seen, self.begun);
                }
                return Ok(None);
            };
            let mut opened = Vec::with_capacity(page.len());
            for entry in page {
                let seen = self.seen.get_or_insert_default();
                let Some(name) = self.names.see(seen, &entry.name) else { continue };
                let is_sealed = *name != *entry.name;
                let metadata = if is_sealed { plain_metadata(entry.metadata) } else { entry.metadata };
                opened.push(DirEntry { name: name.into(), metadata });
            }
            if !opened.is_empty() {
                return Ok(Some(opened));
            }
        }
    }
}
