//! A file that is being written: a STOR or APPE stays open behind it.
//!
//! Bytes go in order. A call ahead of its turn waits a moment for those before it; a gap or a step back is
//! `Unsupported`. An existing file that is not truncated is continued: at its end (APPE), or from a little
//! before it (REST and STOR). What overlaps is held until it reaches the end, so that the old content is
//! changed only by writes that go beyond it, and no server is left to choose what becomes of a tail.
//!
//! `commit` is the end of data, the server's final word, times and mode, and a look at the size: all of it,
//! or an error. `park` and a drop hang the control connection up first, so that a server that can tell
//! (ours) keeps what arrived; others take it for an end. `abort` says ABOR, then removes what a plain
//! server has put in place.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Follow, OpenOptions};
use session_core::in_order::{InOrder, broken};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::net::places::Yields as _;
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::sync::Mutex;

use super::machine::Command;
use super::pool::Lease;
use super::read::ReadFile;
use super::refine::error_of;
use super::remote::{Remote, settable};
use super::transfer::{Ask, Transfer, ask_ahead};
use crate::text::ToWire;
use crate::wire::reply::Reply;

/// How far before its end a file may be continued, bytes.
const OVERLAP: usize = 1 << 20;

enum State {
    /// Nothing was sent; the file stands as it was.
    Untouched,
    /// Nothing was sent; these bytes, of which the first goes to the offset, lie before the old end.
    Held(u64, BytesMut),
    /// Data flows.
    Open(Box<Transfer>),
    /// A write was given up half way: what arrived is not known.
    Broken,
    /// Committed, parked, aborted or failed.
    Ended,
}

struct Inner {
    state: State,
    /// Where the next byte goes; of a file opened for appending, counted from its first byte.
    at: u64,
    /// Line ends on the way out, for text.
    text: ToWire,
    /// Bytes that were there before.
    base: u64,
    owed: Attributes,
    /// A commit failed after the data had ended; an abort may follow.
    failed: bool,
}

pub(super) struct WriteFile {
    remote: Arc<Remote>,
    path: VPath,
    options: OpenOptions,
    /// The file was there before it was opened, as far as is known.
    existed: Option<bool>,
    inner: Mutex<Inner>,
    turns: InOrder,
    reads: Option<Arc<ReadFile>>,
}

impl WriteFile {
    /// Opens for writing. A file that begins empty is begun at once, so that a refusal is told here.
    pub(super) async fn open(remote: Arc<Remote>, path: &VPath, options: &OpenOptions) -> Result<Self> {
        settable(&remote, &options.attributes)?;
        let mut existed = None;
        let mut base = 0;
        let empties = options.truncate && !options.exclusive;
        if !empties {
            // An exclusive creation must not go through a link, wherever that leads.
            let follow = if options.exclusive { Follow::No } else { Follow::Yes };
            match remote.look(path, follow).await {
                Ok(m) if m.is_dir() && !options.exclusive => return Err(Error::new(ErrorKind::IsADirectory)),
                Ok(_) if options.exclusive => return Err(Error::new(ErrorKind::AlreadyExists)),
                Ok(m) => {
                    existed = Some(true);
                    base = if options.truncate { 0 } else { m.size };
                }
                Err(e) if e.kind() == ErrorKind::NotFound && options.create => existed = Some(false),
                Err(e) => return Err(e),
            }
        } else if !options.create {
            // Truncates what must be there.
            let m = remote.look(path, Follow::Yes).await?;
            if m.is_dir() {
                return Err(Error::new(ErrorKind::IsADirectory));
            }
            existed = Some(true);
        }
        let anew = options.truncate || existed == Some(false);
        let reads =
            (options.read && !anew).then(|| ReadFile::new(Arc::clone(&remote), path.clone(), options, None));
        let owed = if existed == Some(true) { Attributes::none() } else { options.attributes.clone() };
        let file = WriteFile {
            path: path.clone(),
            options: options.clone(),
            existed,
            inner: Mutex::new(Inner {
                state: State::Untouched,
                at: 0,
                text: ToWire::default(),
                base,
                owed,
                failed: false,
            }),
            turns: InOrder::new("FTP"),
            reads,
            remote,
        };
        if anew {
            let transfer = file.begin("STOR", 0).await?;
            let mut inner = file.inner.lock().await;
            // Attributes are those of a new file: what was there keeps its own.
            if transfer.probed().is_some_and(|r| r.code < 300) {
                inner.owed = Attributes::none();
            }
            inner.state = State::Open(transfer);
            drop(inner);
        } else if !options.append {
            file.inner.lock().await.at = base;
        }
        Ok(file)
    }

    async fn begin(&self, verb: &'static str, from: u64) -> Result<Box<Transfer>> {
        if let Some(reads) = &self.reads {
            // Its stream would only be in the way.
            reads.give_up();
        }
        let command = Command::with(verb, self.remote.wire_path(&self.path)?);
        let asks = verb == "STOR" && self.existed.is_none() && !self.options.attributes.is_empty();
        let look = if self.remote.facts().lists_facts() { "MLST" } else { "SIZE" };
        let probe = if asks { Some(Command::with(look, self.remote.wire_path(&self.path)?)) } else { None };
        let ask = Ask { from, text: self.options.text, probe, uploads: true, ..Ask::new(command) };
        match Transfer::open(&self.remote.pool, &ask).await {
            Err(e) => Err(self.remote.why_not_stored(&self.path, e).await),
            begun => begun.map(Box::new),
        }
    }

    /// Writes in turn; the guard is the turn.
    async fn put(&self, offset: u64, data: &[u8]) -> Result<()> {
        let at = |inner: &mut Inner| {
            match inner.state {
                State::Ended => return Err(Error::new(ErrorKind::Closed)),
                State::Broken => return Err(broken()),
                _ if data.is_empty() => return Ok(None),
                _ => {}
            }
            if matches!(inner.state, State::Untouched) && !self.options.append && offset < inner.base {
                self.may_go_back(offset, inner.base)?;
                inner.state = State::Held(offset, BytesMut::new());
                inner.at = offset;
            }
            Ok((!self.options.append).then_some(inner.at))
        };
        let mut inner = self.turns.turn(&self.inner, offset, at).await?;
        if data.is_empty() {
            return Ok(());
        }
        let end = inner.at + data.len() as u64;
        let base = inner.base;
        if let State::Held(_, held) = &mut inner.state
            && end < base
        {
            held.extend_from_slice(data);
            inner.at = end;
            drop(inner);
            self.turns.moves();
            return Ok(());
        }
        // Taken out while it moves: a call that is dropped half way leaves a file that is broken.
        let mut transfer = match std::mem::replace(&mut inner.state, State::Broken) {
            State::Open(transfer) => transfer,
            State::Untouched => match self.resume_at_end().await {
                Ok(transfer) => transfer,
                Err(e) => {
                    inner.state = State::Untouched;
                    return Err(e);
                }
            },
            State::Held(from, held) => match self.begin("STOR", from).await {
                Ok(mut transfer) => {
                    transfer.write(&held).await?;
                    transfer
                }
                Err(e) => {
                    inner.state = State::Held(from, held);
                    return Err(e);
                }
            },
            other => {
                inner.state = other;
                return Err(Error::new(ErrorKind::Closed));
            }
        };
        if self.options.text {
            let wire = inner.text.change(data);
            transfer.write(&wire).await?;
        } else {
            transfer.write(data).await?;
        }
        inner.at = end;
        inner.state = State::Open(transfer);
        drop(inner);
        self.turns.moves();
        Ok(())
    }

    /// Whether a file can be continued that far before its end.
    fn may_go_back(&self, offset: u64, end: u64) -> Result<()> {
        let hint = "continue it at its end, or write it anew";
        let facts = self.remote.facts();
        if self.options.text {
            return Err(text_has_no_offsets());
        }
        if end - offset > OVERLAP as u64 {
            return Err(self.turns.refused("a file is continued where it ends").with_hint(hint));
        }
        // From the very beginning it is a STOR like any other.
        if offset > 0 && !facts.value("REST").to_ascii_uppercase().contains("STREAM") {
            return Err(self
                .turns
                .refused("this server continues a file only where it ends")
                .with_hint(hint));
        }
        Ok(())
    }

    /// Goes on where the file ends.
    async fn resume_at_end(&self) -> Result<Box<Transfer>> {
        // How long the text is on this side nobody knows, so nobody can know what is missing.
        if self.options.text && !self.options.append {
            return Err(text_has_no_offsets());
        }
        self.begin("APPE", 0).await
    }

    /// The end of data, and all that follows it.
    async fn finish(&self, inner: &mut Inner, options: &CommitOptions) -> Result<Metadata> {
        let attributes = options.attributes.clone().over(std::mem::take(&mut inner.owed));
        let size = if self.options.append { inner.base + inner.at } else { inner.at };
        let state = std::mem::replace(&mut inner.state, State::Ended);
        let transfer = match state {
            State::Open(transfer) => transfer,
            // Nothing is added, but what a server kept of an earlier upload is published.
            State::Untouched if self.options.create || self.remote.facts().stages() => {
                self.begin("APPE", 0).await?
            }
            State::Held(..) => {
                return Err(self
                    .turns
                    .refused("what lies behind the last byte cannot be kept")
                    .with_hint("write at least to where the file ended before"));
            }
            State::Untouched => {
                expect(inner.base, options.expected_size)?;
                if !attributes.is_empty() {
                    self.remote.set(&self.path, &attributes).await?;
                }
                return self.remote.look(&self.path, Follow::Yes).await;
            }
            State::Broken => {
                inner.state = State::Broken;
                return Err(broken());
            }
            State::Ended => return Err(Error::new(ErrorKind::Closed)),
        };
        if let Err(e) = expect(size, options.expected_size) {
            // Nothing is published: the transfer is broken off, not ended.
            self.give_up(transfer).await;
            return Err(e);
        }
        inner.failed = true;
        let (_, mut lease) = transfer.finish_writing().await?;
        let metadata = self.afterwards(&mut lease, &attributes, size).await;
        inner.failed = metadata.is_err();
        metadata
    }

    /// Times and mode, a look at what is there, and the port of the next transfer: one flight.
    async fn afterwards(&self, lease: &mut Lease, attributes: &Attributes, size: u64) -> Result<Metadata> {
        let path = self.remote.wire_path(&self.path)?;
        let mut set = Vec::new();
        for command in self.remote.setting(&path, attributes)? {
            set.push(lease.submit(&command)?);
        }
        let facts = self.remote.facts();
        let look = if facts.lists_facts() {
            Some(lease.submit(&Command::with("MLST", path))?)
        } else if facts.has("SIZE") {
            Some(lease.submit(&Command::with("SIZE", path))?)
        } else {
            None
        };
        ask_ahead(lease);
        let mut refused = None;
        for token in set {
            let reply = lease.answer(token).await?;
            if reply.code >= 300 {
                refused.get_or_insert(error_of(&reply));
            }
        }
        let mut metadata = Metadata::new(FileType::File, size);
        metadata.modified = attributes.modified;
        metadata.mode = attributes.mode;
        if let Some(token) = look {
            let mut reply = lease.answer(token).await?;
            if seen(&reply).is_some_and(|m| m.is_symlink()) {
                // It went through a link, of which SIZE tells where it leads.
                reply = lease.call(&Command::with("SIZE", self.remote.wire_path(&self.path)?)).await?;
            }
            if let Some(seen) = seen(&reply) {
                // Others may append too.
                let grew = self.options.append && seen.size > size;
                if !self.options.text && !grew {
                    expect(seen.size, Some(size))?;
                }
                metadata = if reply.code == 250 { seen } else { Metadata { size: seen.size, ..metadata } };
            } else if !matches!(reply.code, 550 | 500 | 502 | 504) {
                return Err(error_of(&reply));
            }
            // Where a user may put and not look, the server's final word stands.
        }
        if self.options.text {
            // Of text everybody counts the bytes of his own line ends.
            metadata.size = size;
        }
        match refused {
            Some(e) => Err(e),
            None => Ok(metadata),
        }
    }

    /// Breaks an upload off and sees to it that no half file stays.
    async fn give_up(&self, transfer: Box<Transfer>) {
        let (last, lease) = transfer.abort().await;
        let published = last.as_ref().is_some_and(|r| r.code < 300);
        // A server that stages has kept the old content, which is not ours to remove.
        let stages = self.remote.facts().stages();
        let ours =
            self.options.exclusive || self.existed == Some(false) || (self.options.truncate && !stages);
        if !(ours || published && self.options.truncate) {
            return;
        }
        let Ok(path) = self.remote.wire_path(&self.path) else { return };
        let lease = match lease {
            Some(lease) => Ok(lease),
            None => self.remote.pool.lease().await,
        };
        if let Ok(mut lease) = lease {
            let _ = lease.call(&Command::with("DELE", path)).await;
        }
    }
}

fn seen(reply: &Reply) -> Option<Metadata> {
    match reply.code {
        213 => {
            let size = std::str::from_utf8(reply.lines.last()?).ok()?.trim().parse().ok()?;
            Some(Metadata::new(FileType::File, size))
        }
        250 => reply.lines.get(1).and_then(crate::listing::facts_parser::metadata),
        _ => None,
    }
}

fn expect(size: u64, expected: Option<u64>) -> Result<()> {
    match expected {
        Some(expected) if expected != size => Err(Error::new(ErrorKind::Corrupt)
            .with_detail(format!("the file has {size} bytes on the server, {expected} were expected"))),
        _ => Ok(()),
    }
}

fn text_has_no_offsets() -> Error {
    Error::unsupported(OperationKind::Write)
        .with_detail("a file that is sent as text can only be written from its beginning")
        .with_hint("send it as it is (binary) to continue it")
}

#[async_trait]
impl File for WriteFile {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        if !self.options.read {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for reading"));
        }
        let inner = self.inner.lock().await;
        match (&self.reads, &inner.state) {
            (_, State::Ended) => Err(Error::new(ErrorKind::Closed)),
            (Some(reads), State::Untouched) => {
                drop(inner);
                reads.read_into(offset, len, buf).await
            }
            _ => Err(Error::unsupported(OperationKind::Read)
                .with_detail("FTP cannot read a file while it is written")),
        }
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Error::new(ErrorKind::OutOfRange));
        }
        self.put(offset, &data).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        let inner = self.inner.lock().await;
        match inner.state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            State::Untouched | State::Held(..) => {
                drop(inner);
                self.remote.look(&self.path, Follow::Yes).await
            }
            _ => {
                let size = if self.options.append { inner.base + inner.at } else { inner.at };
                Ok(Metadata::new(FileType::File, size))
            }
        }
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        settable(&self.remote, attributes)?;
        let mut inner = self.inner.lock().await;
        if matches!(inner.state, State::Ended) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let owed = std::mem::take(&mut inner.owed);
        inner.owed = attributes.clone().over(owed);
        Ok(())
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        settable(&self.remote, &options.attributes)?;
        let mut inner = self.inner.lock().await;
        if matches!(inner.state, State::Ended) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let done = self.finish(&mut inner, options).await;
        self.turns.moves();
        done
    }

    async fn park(&self) -> Result<()> {
        let mut inner = self.inner.lock().await;
        let state = std::mem::replace(&mut inner.state, State::Ended);
        self.turns.moves();
        match state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            State::Open(transfer) => {
                transfer.hang_up();
                Ok(())
            }
            State::Untouched | State::Held(..) | State::Broken => Ok(()),
        }
    }

    async fn abort(&self) -> Result<()> {
        let mut inner = self.inner.lock().await;
        let state = std::mem::replace(&mut inner.state, State::Ended);
        self.turns.moves();
        match state {
            State::Open(transfer) => {
                self.give_up(transfer).await;
                Ok(())
            }
            State::Untouched | State::Held(..) => Ok(()),
            State::Broken => {
                // The connection went with the call that was given up; on a plain server a part stays.
                let stages = self.remote.facts().stages();
                if self.options.exclusive || self.existed == Some(false) || self.options.truncate && !stages {
                    let _ = self.remote.remove(&self.path).await;
                }
                Ok(())
            }
            State::Ended if std::mem::take(&mut inner.failed) => {
                if self.options.exclusive || self.existed == Some(false) {
                    let _ = self.remote.remove(&self.path).await;
                }
                Ok(())
            }
            State::Ended => Err(Error::new(ErrorKind::Closed)),
        }
    }
}

impl Drop for WriteFile {
    fn drop(&mut self) {
        if let State::Open(transfer) = std::mem::replace(&mut self.inner.get_mut().state, State::Ended) {
            transfer.hang_up();
        }
    }
}
