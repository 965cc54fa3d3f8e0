//! A file that is being read: a RETR stays open behind it.
//!
//! Reads that follow each other continue the stream; calls that are made side by side are served in the
//! order of their offsets. A step forward reads over what lies between if it is small; any other jump costs
//! one REST and RETR. Between two reads the connection is given up if somebody else needs it.
//!
//! Text (TYPE A) has the line ends of this side, and offsets count its bytes: it has no restart, so a jump
//! reads it from its beginning.
//!
//! The end of the file is told only after the server's final reply: a transfer that was cut short is an
//! error, never a short file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Follow, OpenOptions};
use session_core::in_order::Readers;
use session_core::metadata::Metadata;
use session_core::net::places::Yields;
use session_core::path::VPath;
use tokio::time::Instant;

use super::machine::Command;
use super::pool::AT_WORK;
use super::remote::Remote;
use super::transfer::{Ask, Transfer};
use crate::text::FromWire;

/// A gap up to this is read over.
const SKIP: u64 = 512 * 1024;
/// A read gives back what it has once it has this much.
const ENOUGH: usize = 256 * 1024;
/// What a stream may give, bytes, before it makes room for others: beginning anew has its price.
const SHARE: u64 = 8 << 20;
/// Text is read in pieces of this size.
const PIECE: usize = 64 * 1024;
const UNKNOWN: u64 = u64::MAX;

/// The stream that is open, and where it stands.
struct Active {
    transfer: Transfer,
    /// Where it began.
    from: u64,
    at: u64,
    text: Option<Text>,
}

/// What changes line ends on the way.
#[derive(Default)]
struct Text {
    ends: FromWire,
    /// What is changed already and nobody has asked for yet.
    ready: BytesMut,
}

impl Active {
    /// Appends up to `len` bytes of content; 0 at the end.
    async fn next(&mut self, buf: &mut BytesMut, len: usize) -> Result<usize> {
        let n = match &mut self.text {
            None => self.transfer.read(buf, len).await?,
            Some(text) => {
                while text.ready.is_empty() {
                    let mut raw = BytesMut::new();
                    if self.transfer.read(&mut raw, PIECE).await? == 0 {
                        if text.ends.end() {
                            text.ready.extend_from_slice(b"\r");
                        }
                        break;
                    }
                    text.ends.change(&raw, &mut text.ready);
                }
                let n = len.min(text.ready.len());
                buf.extend_from_slice(&text.ready.split_to(n));
                n
            }
        };
        self.at += n as u64;
        Ok(n)
    }
}

pub(super) struct ReadFile {
    remote: Arc<Remote>,
    path: VPath,
    text: bool,
    size: Option<u64>,
    known: Option<Metadata>,
    stream: tokio::sync::Mutex<Option<Active>>,
    readers: Readers,
    end: AtomicU64,
    /// When it was opened, or read last.
    touched: Mutex<Instant>,
}

impl ReadFile {
    /// `known` is what was learned at opening, if anything was.
    pub(super) fn new(
        remote: Arc<Remote>,
        path: VPath,
        options: &OpenOptions,
        known: Option<Metadata>,
    ) -> Arc<ReadFile> {
        let text = options.text;
        let size = known.as_ref().map(|m| m.size).or(options.size_hint);
        let file = Arc::new(ReadFile {
            remote,
            path,
            text,
            size: size.filter(|_| !text),
            known,
            stream: tokio::sync::Mutex::new(None),
            readers: Readers::default(),
            end: AtomicU64::new(UNKNOWN),
            touched: Mutex::new(Instant::now()),
        });
        let weak: Weak<ReadFile> = Arc::downgrade(&file);
        file.remote.pool.places.register(weak);
        file
    }

    async fn start(&self, offset: u64) -> Result<Active> {
        let from = if self.text { 0 } else { offset };
        let command = Command::with("RETR", self.remote.wire_path(&self.path)?);
        let ask = Ask { from, text: self.text, ..Ask::new(command) };
        let transfer = Transfer::open(&self.remote.pool, &ask).await?;
        Ok(Active { transfer, from, at: from, text: self.text.then(Text::default) })
    }

    async fn read(&self, offset: u64, len: usize, buf: &mut BytesMut) -> Result<()> {
        let at = |stream: &Option<Active>| stream.as_ref().map_or(0, |a| a.at);
        let mut stream = self.readers.turn(&self.stream, offset, at).await;
        if self.end.load(Ordering::Acquire) <= offset {
            return Ok(());
        }
        // Taken out while it moves: a call that is dropped takes the stream with it.
        let mut active = match stream.take() {
            Some(active) if (active.at..=active.at.saturating_add(SKIP)).contains(&offset) => active,
            Some(jump) => {
                drop(jump);
                self.start(offset).await?
            }
            None => self.start(offset).await?,
        };
        let ended = self.fill(&mut active, offset, len, buf).await?;
        if ended || self.size == Some(active.at) && self.is_all(&mut active).await? {
            let end = active.at;
            active.transfer.finish().await?;
            // Only what the server vouched for.
            self.end.store(end, Ordering::Release);
        } else {
            // Others wait, and this one has had its share for now. Text would begin at its beginning.
            let spent = !self.text && active.at - active.from >= SHARE;
            if spent && self.remote.pool.places.is_wanted() {
                return Ok(());
            }
            *stream = Some(active);
        }
        Ok(())
    }

    /// Reads up to `len` bytes from `offset`; `true` at the end of data.
    async fn fill(&self, active: &mut Active, offset: u64, len: usize, buf: &mut BytesMut) -> Result<bool> {
        while active.at < offset {
            let mut skipped = BytesMut::new();
            let most = usize::try_from(offset - active.at).unwrap_or(usize::MAX).min(64 * 1024);
            if active.next(&mut skipped, most).await? == 0 {
                return Ok(true);
            }
        }
        let mut got = 0;
        while got < len.min(ENOUGH) {
            let n = active.next(buf, len - got).await?;
            if n == 0 {
                return Ok(true);
            }
            got += n;
        }
        Ok(false)
    }

    /// All that was expected has come: is that the end? Tells the verdict along with the last bytes, and
    /// frees the connection. A file that has grown goes on.
    async fn is_all(&self, active: &mut Active) -> Result<bool> {
        let mut more = BytesMut::new();
        // A byte cannot be put back: the stream stands behind it and a read before it restarts.
        Ok(active.next(&mut more, 1).await? == 0)
    }
}

impl Yields for ReadFile {
    fn give_up(&self) -> bool {
        match self.stream.try_lock() {
            Ok(mut stream) => stream.take().is_some(),
            Err(_) => false,
        }
    }

    fn is_at_work(&self) -> bool {
        let lately = self.touched.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < AT_WORK;
        lately && self.end.load(Ordering::Acquire) == UNKNOWN
    }
}

#[async_trait]
impl File for ReadFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        if len == 0 || i64::try_from(offset).is_err() {
            return Ok(buf);
        }
        let _call = self.readers.begin(offset);
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        match self.read(offset, len, &mut buf).await {
            Ok(()) => Ok(buf),
            // Servers refuse to begin behind the end.
            Err(e) if offset > 0 && e.wire().is_some_and(|w| matches!(w.code, 501 | 550 | 551 | 554)) => {
                let size = self.remote.look(&self.path, Follow::Yes).await?.size;
                if size <= offset { Ok(buf) } else { Err(e) }
            }
            Err(e) => Err(e),
        }
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<()> {
        Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for writing"))
    }

    async fn metadata(&self) -> Result<Metadata> {
        match &self.known {
            Some(known) => Ok(known.clone()),
            None => self.remote.look(&self.path, Follow::Yes).await,
        }
    }

    async fn set_attributes(&self, attributes: &session_core::metadata::Attributes) -> Result<()> {
        self.remote.set(&self.path, attributes).await
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        self.metadata().await
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }
}
