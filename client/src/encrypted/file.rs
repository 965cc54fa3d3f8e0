//! An open file whose content is encrypted: what is asked of it is moved behind the header.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Lent, Sealed, Unfinished};
use session_core::in_order::{InOrder, broken};
use session_core::layer::FileLayer;
use session_core::metadata::{Attributes, Metadata};
use session_core::operation::OperationKind;
use tokio::sync::{Mutex, OnceCell};

use super::cipher::{self, FileKey, HEADER, Salt};

/// How many bytes of plain text a stored file of so many holds. An empty one has no header.
pub(super) fn plain_size(stored: u64) -> u64 {
    stored.saturating_sub(HEADER as u64)
}

/// How many bytes are stored for so many.
pub(super) fn stored_size(plain: u64) -> u64 {
    if plain == 0 { 0 } else { plain.saturating_add(HEADER as u64) }
}

pub(super) fn plain_metadata(stored: Metadata) -> Metadata {
    Metadata { size: if stored.is_file() { plain_size(stored.size) } else { stored.size }, ..stored }
}

/// See the module's header.
pub(super) struct SealedFile {
    inner: Arc<dyn File>,
    key: Arc<FileKey>,
    /// Known from the beginning of one that is written anew; of others once the header was read.
    salt: OnceCell<Salt>,
    order: InOrder,
    /// How much plain text was written; `None` while a write is under way, and after one that did not end.
    written: Mutex<Option<u64>>,
    /// It is written anew; else it is read only.
    anew: bool,
    ended: AtomicBool,
}

impl SealedFile {
    /// One that is there.
    pub(super) fn there(inner: Arc<dyn File>, key: Arc<FileKey>) -> SealedFile {
        let order = InOrder::new("a file that is encrypted");
        let (written, ended) = (Mutex::new(Some(0)), AtomicBool::new(false));
        SealedFile { inner, key, salt: OnceCell::new(), order, written, anew: false, ended }
    }

    /// One that is written anew, and holds nothing.
    pub(super) fn anew(inner: Arc<dyn File>, key: Arc<FileKey>) -> Result<SealedFile> {
        let salt = OnceCell::new_with(Some(cipher::salt()?));
        Ok(SealedFile { salt, anew: true, ..SealedFile::there(inner, key) })
    }

    /// The salt of what is there; `None` where there is nothing.
    async fn salt(&self) -> Result<Option<Salt>> {
        let read = || async {
            let mut header = BytesMut::new();
            while header.len() < HEADER {
                let had = header.len();
                header = self.inner.read_into(had as u64, HEADER - had, header).await.map_err(Some)?;
                if header.len() == had {
                    break;
                }
            }
            // An empty file has no header, and may be written yet.
            if header.is_empty() { Err(None) } else { cipher::salt_of(&header).map_err(Some) }
        };
        match self.salt.get_or_try_init(read).await {
            Ok(salt) => Ok(Some(*salt)),
            Err(None::<Error>) => Ok(None),
            Err(Some(e)) => Err(e),
        }
    }

    fn options(options: &CommitOptions) -> Result<CommitOptions> {
        if options.attributes.size.is_some() {
            return Err(no_size());
        }
        let expected_size = options.expected_size.map(stored_size);
        Ok(CommitOptions { expected_size, attributes: options.attributes.clone() })
    }
}

pub(super) fn no_size() -> Error {
    Error::unsupported(OperationKind::SetAttributes)
        .with_detail("a file that is encrypted is written anew, not cut or extended")
}

#[async_trait]
impl FileLayer for SealedFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        let Some(salt) = self.salt().await? else { return Ok(buf) };
        let had = buf.len();
        let at = offset.checked_add(HEADER as u64).ok_or(ErrorKind::InvalidArgument)?;
        let mut buf = self.inner.read_into(at, len, buf).await?;
        if let Some(read) = buf.get_mut(had..) {
            self.key.apply(&salt, offset, read)?;
        }
        Ok(buf)
    }

    /// In order, and once: what is written twice under one salt could be compared.
    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if self.ended.load(Ordering::Acquire) {
            return Err(ErrorKind::Closed.into());
        }
        if !self.anew {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let mut written =
            self.order.turn(&self.written, offset, |at| at.map(Some).ok_or_else(broken)).await?;
        let salt = *self.salt.get().ok_or(ErrorKind::Internal)?;
        let first = offset == 0;
        let mut out = BytesMut::with_capacity(data.len() + if first { HEADER } else { 0 });
        if first {
            out.extend_from_slice(&cipher::header(&salt));
        }
        let begin = out.len();
        out.extend_from_slice(&data);
        if let Some(text) = out.get_mut(begin..) {
            self.key.apply(&salt, offset, text)?;
        }
        *written = None;
        let done = self.inner.write_at(if first { 0 } else { offset + HEADER as u64 }, out.freeze()).await;
        if done.is_ok() {
            *written = Some(offset + data.len() as u64);
        }
        drop(written);
        self.order.moves();
        done
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.inner.metadata().await.map(plain_metadata)
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        if attributes.size.is_some() {
            return Err(no_size());
        }
        self.inner.set_attributes(attributes).await
    }

    /// With another salt the same text is another one: nothing can be gone on with.
    async fn keep(&self) -> Result<Option<Unfinished>> {
        Ok(None)
    }

    async fn lend(&self, _range: Range<u64>) -> Result<Option<Lent>> {
        Ok(None)
    }

    async fn seal(&self, options: &CommitOptions) -> Result<Sealed> {
        Ok(match self.inner.seal(&Self::options(options)?).await? {
            Sealed::Content(inner) => Sealed::Content(Arc::new(SealedFile {
                salt: self.salt.clone(),
                ..SealedFile::there(inner, Arc::clone(&self.key))
            })),
            Sealed::Done(metadata) => Sealed::Done(plain_metadata(metadata)),
            Sealed::Open => Sealed::Open,
        })
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        let done = self.inner.commit(&Self::options(options)?).await;
        if done.is_ok() {
            self.ended.store(true, Ordering::Release);
        }
        done.map(plain_metadata)
    }

    async fn park(&self) -> Result<()> {
        self.ended.store(true, Ordering::Release);
        self.inner.park().await
    }

    async fn abort(&self) -> Result<()> {
        self.ended.store(true, Ordering::Release);
        self.inner.abort().await
    }
}
