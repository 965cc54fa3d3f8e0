//! The open files of a staged entry: `Handle` writes and ends, `Reader` only reads.
//!
//! An ending waits for the calls in flight on its handle; the first one that succeeds wins and all later
//! calls answer `Closed`. A change whose caller gave up goes on in the store; publishing and reopening wait
//! for it, parking does not. A commit that fails ends nothing: the handle can be aborted, parked, committed
//! again, or is parked at its drop. A reader holds nothing back: the file is sealed without it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};

use super::area::{Closing, Leave, StagingArea, unlike};
use super::finish::finish;
use super::table::{Body, Serial};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::layer::FileLayer;
use crate::metadata::{Attributes, Metadata};
use crate::operation::OperationKind;

/// A handle that was opened for writing.
pub(super) struct Handle {
    area: Arc<StagingArea>,
    serial: Serial,
    body: Arc<Body>,
    read: bool,
    append: bool,
    /// Read by calls in flight, written by an ending.
    door: Arc<RwLock<()>>,
    over: Arc<AtomicBool>,
}

fn discarded() -> Error {
    Error::new(ErrorKind::Canceled).with_detail("the upload was thrown away through another handle")
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed)
}

impl Handle {
    /// Takes over one of the entry's counted handles.
    pub(super) fn new(
        area: Arc<StagingArea>,
        serial: Serial,
        body: Arc<Body>,
        options: &OpenOptions,
    ) -> Self {
        let (read, append) = (options.read, options.append);
        Handle { area, serial, body, read, append, door: Arc::default(), over: Arc::default() }
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    async fn call(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let inside = self.door.read().await;
        if self.over.load(Ordering::SeqCst) { Err(closed()) } else { Ok(inside) }
    }

    /// The end of a handle whose path was removed.
    async fn removed(&self) -> Result<Metadata> {
        let received = self.body.file.metadata().await?;
        self.over.store(true, Ordering::SeqCst);
        self.area.leave(self.serial, Leave::Committed);
        Ok(received)
    }

    async fn shut(&self) -> Result<OwnedRwLockWriteGuard<()>> {
        let alone = Arc::clone(&self.door).write_owned().await;
        if self.over.load(Ordering::SeqCst) { Err(closed()) } else { Ok(alone) }
    }
}

#[async_trait]
impl File for Handle {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        let _inside = self.call().await?;
        if !self.read {
            return Err(not_for_reading());
        }
        self.body.file.read_into(offset, len, buf).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let _inside = self.call().await?;
        if data.is_empty() {
            return Ok(());
        }
        self.body.write((!self.append).then_some(offset), data).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        let _inside = self.call().await?;
        self.body.file.metadata().await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let _inside = self.call().await?;
        self.body.set_attributes(attributes).await
    }

    async fn sync(&self) -> Result<()> {
        let _inside = self.call().await?;
        self.body.file.sync().await
    }

    async fn keep(&self) -> Result<Option<Unfinished>> {
        let _inside = self.call().await?;
        Ok(self.area.name_of(self.serial).map(|words| Unfinished { words, spared: 0 }))
    }

    async fn lend(&self, range: Range<u64>) -> Result<Option<Lent>> {
        let _inside = self.call().await?;
        if !self.read {
            return Ok(None);
        }
        self.body.file.lend(range).await
    }

    async fn seal(&self, options: &CommitOptions) -> Result<Sealed> {
        let _alone = self.shut().await?;
        if !options.attributes.is_empty() {
            self.body.set_attributes(&options.attributes).await?;
        }
        loop {
            match self.area.sealing(self.serial, &self.body, options.expected_size) {
                Closing::Early => {
                    let received = self.body.file.metadata().await?;
                    if self.area.leave_early(self.serial) {
                        self.over.store(true, Ordering::SeqCst);
                        return Ok(Sealed::Done(received));
                    }
                }
                Closing::Removed => return self.removed().await.map(Sealed::Done),
                Closing::Discarded => return Err(discarded()),
                Closing::Seal(_) => break,
            }
        }
        self.body.still().await;
        // Nobody need look at what will not be published.
        if let Some(expected) = options.expected_size {
            let size = self.body.file.metadata().await?.size;
            if size != expected {
                self.body.seal(false);
                return Err(unlike(size, expected));
            }
        }
        Ok(Sealed::Content(Arc::new(Reader(Arc::clone(&self.body)))))
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        let mut alone = self.shut().await?;
        if !options.attributes.is_empty() {
            self.body.set_attributes(&options.attributes).await?;
        }
        loop {
            match self.area.closing(self.serial, options.expected_size) {
                Closing::Early => {
                    let received = self.body.file.metadata().await?;
                    if self.area.leave_early(self.serial) {
                        self.over.store(true, Ordering::SeqCst);
                        return Ok(received);
                    }
                }
                Closing::Removed => return self.removed().await,
                Closing::Discarded => return Err(discarded()),
                Closing::Seal(path) => {
                    let hold = self.area.hold(vec![path.clone()]).await;
                    if !self.area.begin_seal(self.serial, &path) {
                        continue;
                    }
                    let (area, serial, body) = (Arc::clone(&self.area), self.serial, Arc::clone(&self.body));
                    let over = Arc::clone(&self.over);
                    let (result, back) = finish(async move {
                        let result = area.seal(serial, &body).await;
                        match result {
                            Ok(_) => over.store(true, Ordering::SeqCst),
                            // It may be changed, and is judged anew before it is published.
                            Err(_) => body.seal(false),
                        }
                        drop(hold);
                        (result, alone)
                    })
                    .await;
                    alone = back;
                    drop(alone);
                    return result;
                }
            }
        }
    }

    async fn park(&self) -> Result<()> {
        let _alone = self.shut().await?;
        self.over.store(true, Ordering::SeqCst);
        self.area.leave(self.serial, Leave::Parked);
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        let alone = self.shut().await?;
        self.over.store(true, Ordering::SeqCst);
        self.area.leave(self.serial, Leave::Aborted);
        drop(alone);
        // The room is free when the answer comes, unless somebody else is freeing it already.
        finish(Arc::clone(&self.area).chores()).await;
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            self.area.leave(self.serial, Leave::Parked);
        }
    }
}

/// The owner's view of an upload under way.
pub(super) struct Reader(pub(super) Arc<Body>);

#[async_trait]
impl FileLayer for Reader {
    fn inner(&self) -> &dyn File {
        &*self.0.file
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<()> {
        Err(not_for_writing())
    }

    async fn set_attributes(&self, _: &Attributes) -> Result<()> {
        Err(not_for_writing())
    }

    async fn seal(&self, _: &CommitOptions) -> Result<Sealed> {
        Err(Error::unsupported(OperationKind::Commit))
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        Err(Error::unsupported(OperationKind::Commit))
    }

    async fn park(&self) -> Result<()> {
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }
}

fn not_for_reading() -> Error {
    Error::new(ErrorKind::PermissionDenied).with_detail("the file is not open for reading")
}

fn not_for_writing() -> Error {
    Error::new(ErrorKind::PermissionDenied).with_detail("the file is not open for writing")
}
