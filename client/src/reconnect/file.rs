//! Open files of a remote that may be connected to again.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Lent, OpenOptions, Unfinished};
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use super::{Patience, Reconnecting, is_lost, try_again};

/// From this size on it is worth a question what the file is, to know it again.
const KNOWN_FROM: u64 = 1 << 20;

/// What tells a file from one that took its place.
type Identity = (u64, Option<SystemTime>);

fn identity(m: &Metadata) -> Identity {
    (m.size, m.modified)
}

/// A file that is read.
pub(super) struct ReadFile {
    remote: Reconnecting,
    path: VPath,
    options: OpenOptions,
    /// `None` for a small file: it is read again from its beginning by whoever reads it.
    known: Option<Identity>,
    open: tokio::sync::Mutex<(u64, Arc<dyn File>)>,
}

impl ReadFile {
    pub(super) async fn open(remote: Reconnecting, path: VPath, options: OpenOptions) -> Result<Self> {
        let mut patience = Patience::new(remote.0.budget);
        loop {
            let line = remote.0.line();
            let opened = async {
                let file = line.fs.open(&path, &options).await?;
                let large = options.size_hint.is_none_or(|n| n >= KNOWN_FROM);
                let known = if large { Some(identity(&file.metadata().await?)) } else { None };
                Ok::<_, Error>((file, known))
            };
            match opened.await {
                Ok((file, known)) => {
                    let open = tokio::sync::Mutex::new((line.number, file));
                    return Ok(ReadFile { remote, path, options, known, open });
                }
                Err(e) if is_lost(&e) => remote.0.replace(line.number, e, &mut patience).await?,
                Err(e) => return Err(e),
            }
        }
    }

    /// The file on the connection that stands now, opened again if it is another than before; with the
    /// number of the connection that is meant, also where it fails. Errors: `Corrupt` if it is another file.
    async fn current(&self) -> (u64, Result<Arc<dyn File>>) {
        let mut open = self.open.lock().await;
        let line = self.remote.0.line();
        let Some(known) = self.known.filter(|_| open.0 != line.number) else {
            return (open.0, Ok(Arc::clone(&open.1)));
        };
        let opened = async {
            let file = line.fs.open(&self.path, &self.options).await?;
            if identity(&file.metadata().await?) == known {
                return Ok(file);
            }
            Err(Error::new(ErrorKind::Corrupt).with_detail("the file changed while the connection was lost"))
        };
        let opened = opened.await;
        if let Ok(file) = &opened {
            *open = (line.number, Arc::clone(file));
        }
        (line.number, opened)
    }

    /// After `e` on the connection `number`: waits for another connection. Errors: what cannot be gone on
    /// from.
    async fn go_on(&self, number: u64, e: Error, patience: &mut Patience) -> Result<()> {
        if !is_lost(&e) {
            return Err(e);
        }
        self.remote.0.replace(number, e.clone(), patience).await?;
        if self.known.is_some() { Ok(()) } else { Err(try_again(e)) }
    }
}

#[async_trait]
impl File for ReadFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        let mut patience = Patience::new(self.remote.0.budget);
        // What the buffer holds already must not go with a call that fails.
        let mut tail = buf.split_off(buf.len());
        loop {
            let (number, file) = self.current().await;
            let e = match file {
                Ok(file) => match file.read_into(offset, len, tail).await {
                    Ok(tail) => {
                        self.remote.0.advanced(tail.len() as u64);
                        buf.unsplit(tail);
                        return Ok(buf);
                    }
                    Err(e) => e,
                },
                Err(e) => e,
            };
            self.go_on(number, e, &mut patience).await?;
            tail = BytesMut::with_capacity(len.min(1 << 20));
        }
    }

    async fn metadata(&self) -> Result<Metadata> {
        let mut patience = Patience::new(self.remote.0.budget);
        loop {
            let (number, file) = self.current().await;
            let e = match file {
                Ok(file) => match file.metadata().await {
                    Ok(found) => return Ok(found),
                    Err(e) => e,
                },
                Err(e) => e,
            };
            self.go_on(number, e, &mut patience).await?;
        }
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.current().await.1?.set_attributes(attributes).await
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        self.metadata().await
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }
}

/// A file that is written: it lives and dies with its connection.
pub(super) struct WriteFile {
    remote: Reconnecting,
    inner: Arc<dyn File>,
}

impl WriteFile {
    pub(super) fn new(remote: Reconnecting, inner: Arc<dyn File>) -> Self {
        WriteFile { remote, inner }
    }
}

fn told<T>(result: Result<T>) -> Result<T> {
    result.map_err(|e| if is_lost(&e) { try_again(e) } else { e })
}

#[async_trait]
impl File for WriteFile {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        told(self.inner.read_into(offset, len, buf).await)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let len = data.len() as u64;
        told(self.inner.write_at(offset, data).await)?;
        self.remote.0.advanced(len);
        Ok(())
    }

    async fn metadata(&self) -> Result<Metadata> {
        told(self.inner.metadata().await)
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        told(self.inner.set_attributes(attributes).await)
    }

    async fn sync(&self) -> Result<()> {
        told(self.inner.sync().await)
    }

    async fn settle(&self) -> Result<()> {
        told(self.inner.settle().await)
    }

    async fn keep(&self) -> Result<Option<Unfinished>> {
        told(self.inner.keep().await)
    }

    async fn lend(&self, range: std::ops::Range<u64>) -> Result<Option<Lent>> {
        told(self.inner.lend(range).await)
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        told(self.inner.commit(options).await)
    }

    async fn park(&self) -> Result<()> {
        told(self.inner.park().await)
    }

    async fn abort(&self) -> Result<()> {
        told(self.inner.abort().await)
    }
}
