//! A file that is being written: an `scp -t`, or a `cat` where a file is continued.
//!
//! SCP wants the size before the content. A small file is kept until it is committed and goes in one piece. A larger one
//! whose size was told flows while it is written, and its last piece waits for the commit; one whose size nobody knows
//! goes through `cat` where there is a shell, and is refused where there is none. Bytes go in order: a call ahead of its
//! turn waits a moment for those before it; a gap or a step back is `Unsupported`, as is changing a file in place.
//!
//! `scp` begins every file anew. Where there is a shell, `cat` adds to one: at the end that the file had when it was
//! opened, and if it has another one by then nothing is added (`Corrupt`); or, opened for appending, wherever its end is.
//!
//! Content is sent only when the other side has taken the line before it, because an `scp` that has refused a file
//! would take its content for lines. `commit` is the other side's last word, then modes and times, and a look at the
//! size. `park`, a drop and `abort` close the channel; `abort` removes a new file that is there all the same.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Follow, OpenOptions};
use session_core::in_order::{InOrder, broken};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::shell::quoted;
use tokio::sync::{Mutex, OnceCell};

use super::read::{ReadFile, malformed};
use super::remote::Remote;
use super::shell::Transfer;
use super::words::{error_of, scp_said};
use crate::ssh::exec::Exit;
use crate::wire::scp::{Arrived, Control, Malformed};

/// A file up to this many bytes is kept until it is committed.
const HOLD: u64 = 256 << 10;
/// The same where a size must be known and nobody can be told to wait.
const HOLD_BARE: u64 = 16 << 20;
/// What a command ends with where a file is not as it was when it was opened to be continued.
const CHANGED: u32 = 75;
/// What is sent at once.
const PIECE: usize = 256 << 10;

/// Content under way.
struct Flow {
    transfer: Transfer,
    errors: Vec<u8>,
    /// Of `scp`: what it answered, the size that was told, and the last piece, which waits for the commit.
    told: Option<(Arrived, u64, Bytes)>,
}

impl Flow {
    /// The next answer of `scp`. Errors: its words, typed.
    async fn answer(&mut self) -> Result<()> {
        let Some((arrived, ..)) = &mut self.told else { return Ok(()) };
        loop {
            match arrived.control().map_err(malformed)? {
                Some(Control::Ok) => return Ok(()),
                Some(Control::Warning(words) | Control::Fatal(words)) => return Err(scp_said(&words)),
                Some(_) => return Err(malformed(Malformed("an answer that is none"))),
                None => match self.transfer.next(&mut self.errors).await? {
                    Some(piece) => arrived.push(&piece),
                    None => return Err(self.broke_off()),
                },
            }
        }
    }

    fn broke_off(&self) -> Error {
        match self.transfer.exit() {
            Some(Exit::Code(CHANGED)) if self.told.is_none() => changed(),
            Some(Exit::Code(code)) if !self.errors.trim_ascii().is_empty() => error_of(code, &self.errors),
            Some(Exit::Code(127)) => error_of(127, &self.errors),
            _ => Error::new(ErrorKind::Disconnected).with_detail("the server ended the upload"),
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE));
            if let Err(e) = self.transfer.send(piece).await {
                if e.kind() != ErrorKind::Disconnected {
                    return Err(e);
                }
                // It has said why, if it had the time.
                while let Ok(Some(_)) = self.transfer.next(&mut self.errors).await {}
                return Err(self.broke_off());
            }
        }
        Ok(())
    }
}

enum State {
    /// Nothing was sent.
    Held(BytesMut),
    /// Content flows.
    Open(Box<Flow>),
    /// It failed, or a write was given up half way: what arrived is not known.
    Broken,
    /// Committed, parked, aborted or failed.
    Ended,
}

struct Inner {
    state: State,
    /// Where the next byte goes.
    at: u64,
    owed: Attributes,
    /// A commit failed; an abort may follow.
    failed: bool,
    /// Something of ours may be there.
    touched: bool,
}

pub(super) struct WriteFile {
    remote: Arc<Remote>,
    path: VPath,
    options: OpenOptions,
    /// It was there before, or may have been.
    existed: bool,
    /// Its size when it was opened, where what is there stays and is added to.
    base: Option<u64>,
    /// Reads what is there, while nothing is added yet.
    reader: OnceCell<Arc<ReadFile>>,
    inner: Mutex<Inner>,
    turns: InOrder,
}

impl WriteFile {
    pub(super) async fn open(remote: Arc<Remote>, path: &VPath, options: &OpenOptions) -> Result<Arc<Self>> {
        remote.settable_at_open(&options.attributes)?;
        let refused = |detail: &'static str| {
            Err(Error::unsupported(OperationKind::Open).with_detail(detail).with_hint("write it anew"))
        };
        let adds = remote.adds();
        if options.append && !adds {
            return refused("without a shell SCP has no way to add to a file");
        }
        if options.if_match.is_some() {
            return refused("SCP knows no conditions");
        }
        let existed = match remote.look(path, Follow::Yes).await {
            Ok(_) if options.exclusive => return Err(Error::new(ErrorKind::AlreadyExists)),
            Ok(m) if m.is_dir() => return Err(Error::new(ErrorKind::IsADirectory)),
            Ok(_) if !options.truncate && !adds => {
                return refused(
                    "scp begins every file anew, and there is no shell: none is changed or continued",
                );
            }
            Ok(m) => Some(m.size),
            Err(e) if e.kind() == ErrorKind::NotFound && options.create => None,
            // Who may write and not look, and whose own upload was interrupted, finds out when it is sent; it may be
            // there.
            Err(e)
                if matches!(e.kind(), ErrorKind::Locked | ErrorKind::PermissionDenied)
                    && options.create
                    && options.truncate
                    && !options.exclusive =>
            {
                Some(0)
            }
            Err(e) => return Err(e),
        };
        let base = match existed {
            Some(size) => (!options.truncate).then_some(size),
            None => options.append.then_some(0),
        };
        let existed = existed.is_some();
        let mut touched = false;
        if options.exclusive && remote.shell().is_some() {
            // In one step: whoever comes second is told so by the shell.
            let path = quoted(path.as_bytes());
            remote.script(&[b"(set -C; : > ", &path[..], b")"].concat()).await?;
            touched = true;
        }
        let file = WriteFile {
            path: path.clone(),
            options: options.clone(),
            existed,
            base,
            reader: OnceCell::new(),
            inner: Mutex::new(Inner {
                state: State::Held(BytesMut::new()),
                at: base.unwrap_or(0),
                owed: if existed { Attributes::none() } else { options.attributes.clone() },
                failed: false,
                touched,
            }),
            turns: InOrder::new("SCP"),
            remote,
        };
        if let Some(size) = options.size_hint.filter(|size| *size > HOLD && base.is_none()) {
            let mut inner = file.inner.lock().await;
            let owed = inner.owed.clone();
            let flow = file.begin(&mut inner, Some(size), &owed).await?;
            inner.state = State::Open(flow);
        }
        Ok(Arc::new(file))
    }

    /// Begins to send. Where the size is known by `scp`, which has taken the file's line when this returns.
    async fn begin(&self, inner: &mut Inner, size: Option<u64>, owed: &Attributes) -> Result<Box<Flow>> {
        let path = quoted(self.path.as_bytes());
        let errors = Vec::new();
        let Some(size) = size.filter(|_| self.remote.has_scp() && self.base.is_none()) else {
            // Who asked for a mode wants nobody else to look meanwhile.
            let mask = if owed.mode.is_some() { "umask 077; " } else { "" };
            let adds = match self.base {
                None => "cat > \"$1\"".to_owned(),
                Some(_) if self.options.append => "cat >> \"$1\"".to_owned(),
                Some(size) => {
                    format!("[ \"$(($(wc -c < \"$1\")))\" -eq {size} ] || exit {CHANGED}; cat >> \"$1\"")
                }
            };
            let program = format!("/bin/sh -c '{mask}{adds}' sh ");
            let transfer = self.remote.transfer(&[program.as_bytes(), &path].concat()).await?;
            inner.touched = true;
            return Ok(Box::new(Flow { transfer, errors, told: None }));
        };
        let times = owed.modified.filter(|_| self.remote.shell().is_none());
        // `-p` sets the mode as it is told, which else the mask of the other side has a say in.
        let exact = self.remote.shell().is_none() && owed.mode.is_some();
        let command: &[u8] = if exact { b"scp -p -t " } else { b"scp -t " };
        let transfer = self.remote.transfer(&[command, &path].concat()).await?;
        inner.touched = true;
        let mut flow = Flow { transfer, errors, told: Some((Arrived::default(), size, Bytes::new())) };
        let mut line = BytesMut::new();
        if let Some(modified) = times {
            let accessed = owed.accessed.unwrap_or(modified);
            Control::Times { modified, accessed }.encode(&mut line);
        }
        let mode = owed.mode.unwrap_or(0o666) & 0o7777 | 0o200;
        // The target is named by the command; this name is only for a target that has become a directory.
        let name = self.path.name().iter().map(|b| if b.is_ascii_control() { b'_' } else { *b }).collect();
        Control::File { mode, size, name }.encode(&mut line);
        // The beginning and the times are taken as they are; what is wrong with them is told with the line.
        flow.transfer.send(line.freeze()).await?;
        for _ in 0..2 + u8::from(times.is_some()) {
            if let Err(e) = flow.answer().await {
                inner.touched = false;
                return Err(e);
            }
        }
        Ok(Box::new(flow))
    }

    /// Writes in turn; the guard is the turn.
    async fn put(&self, offset: u64, data: Bytes) -> Result<()> {
        let at = |inner: &mut Inner| match inner.state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            State::Broken => Err(broken()),
            _ => Ok((!data.is_empty() && !self.options.append).then_some(inner.at)),
        };
        let mut inner = self.turns.turn(&self.inner, offset, at).await?;
        if data.is_empty() {
            return Ok(());
        }
        let end = inner.at + data.len() as u64;
        // Taken out while it moves: a call that is dropped half way leaves a file that is broken.
        let state = std::mem::replace(&mut inner.state, State::Broken);
        inner.state = self.step(&mut inner, state, data, end).await?;
        inner.at = end;
        drop(inner);
        self.turns.moves();
        Ok(())
    }

    async fn step(&self, inner: &mut Inner, state: State, data: Bytes, end: u64) -> Result<State> {
        let bare = self.remote.shell().is_none();
        match state {
            State::Held(mut held)
                if (held.len() + data.len()) as u64 <= if bare { HOLD_BARE } else { HOLD } =>
            {
                held.extend_from_slice(&data);
                Ok(State::Held(held))
            }
            State::Held(_) if bare => Err(Error::unsupported(OperationKind::Write)
                .with_detail("SCP wants to know the size of a file before its content, and nobody told it")),
            State::Held(held) => {
                let owed = inner.owed.clone();
                let mut flow = self.begin(inner, None, &owed).await?;
                flow.send(held.freeze()).await?;
                flow.send(data).await?;
                Ok(State::Open(flow))
            }
            State::Open(mut flow) => {
                let due = match &mut flow.told {
                    Some((_, size, _)) if end > *size => {
                        return Err(Error::new(ErrorKind::Corrupt)
                            .with_detail("the file is longer than was said when it was opened"));
                    }
                    Some((.., last)) => std::mem::replace(last, data),
                    None => data,
                };
                flow.send(due).await?;
                Ok(State::Open(flow))
            }
            ended => Ok(ended),
        }
    }

    /// The end of content, and all that follows it.
    async fn finish(&self, inner: &mut Inner, options: &CommitOptions) -> Result<Metadata> {
        let attributes = options.attributes.clone().over(std::mem::take(&mut inner.owed));
        let size = inner.at;
        if let State::Broken = inner.state {
            return Err(broken());
        }
        let state = std::mem::replace(&mut inner.state, State::Ended);
        inner.failed = true;
        let announced = match &state {
            State::Open(flow) => flow.told.as_ref().map(|(_, told, _)| *told),
            _ => None,
        };
        if let Some(expected) = [options.expected_size, announced].into_iter().flatten().find(|e| *e != size)
        {
            drop(state);
            return Err(unlike(size, expected));
        }
        let (mut flow, held) = match state {
            State::Held(held) if held.is_empty() && self.existed && self.base.is_some() => {
                let metadata = self.remote.finish(&self.path, &attributes, size).await?;
                inner.failed = false;
                return Ok(metadata);
            }
            State::Held(held) => (self.begin(inner, Some(size), &attributes).await?, held.freeze()),
            State::Open(flow) => (flow, Bytes::new()),
            State::Broken | State::Ended => return Err(Error::new(ErrorKind::Closed)),
        };
        flow.send(held).await?;
        match &mut flow.told {
            Some((.., last)) => {
                let last = [&std::mem::take(last)[..], &[0]].concat();
                flow.send(last.into()).await?;
                flow.answer().await?;
            }
            None => {
                flow.transfer.finish().await?;
                while flow.transfer.next(&mut flow.errors).await?.is_some() {}
                match flow.transfer.exit() {
                    // Where nobody tells how it ended, the size does.
                    Some(Exit::Code(0)) | None => {}
                    Some(Exit::Code(CHANGED)) => return Err(changed()),
                    Some(Exit::Code(code)) => return Err(error_of(code, &flow.errors)),
                    Some(Exit::Signal(_)) => return Err(flow.broke_off()),
                }
            }
        }
        drop(flow);
        let metadata = self.remote.finish(&self.path, &attributes, size).await?;
        // Others may append, too.
        let is_whole = metadata.size == size || self.options.append && metadata.size > size;
        if !metadata.is_file() || !is_whole {
            return Err(unlike(metadata.size, size));
        }
        inner.failed = false;
        Ok(metadata)
    }

    /// Breaks it off, and sees to it that no half file stays where there was none.
    async fn give_up(&self, state: State, touched: bool, sent: u64) {
        drop(state);
        if !touched || self.existed || self.remote.shell().is_none() {
            return;
        }
        // Not what somebody else has put there meanwhile, as far as can be seen.
        if self.remote.look(&self.path, Follow::No).await.is_ok_and(|m| m.is_file() && m.size <= sent) {
            let _ = self.remote.script(&[b"rm -f ", &quoted(self.path.as_bytes())[..]].concat()).await;
        }
    }
}

fn changed() -> Error {
    Error::new(ErrorKind::Corrupt)
        .with_detail("the file has changed since it was looked at; nothing was added")
}

fn unlike(size: u64, expected: u64) -> Error {
    Error::new(ErrorKind::Corrupt).with_detail(format!("the file has {size} bytes, {expected} were expected"))
}

#[async_trait]
impl File for WriteFile {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        if !self.options.read {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for reading"));
        }
        let inner = self.inner.lock().await;
        if self.existed && self.base == Some(inner.at) {
            drop(inner);
            let open = || ReadFile::open(Arc::clone(&self.remote), &self.path);
            return self.reader.get_or_try_init(open).await?.read_into(offset, len, buf).await;
        }
        Err(Error::unsupported(OperationKind::Read).with_detail("SCP cannot read a file while it is written"))
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Error::new(ErrorKind::OutOfRange));
        }
        self.put(offset, data).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        let inner = self.inner.lock().await;
        match inner.state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            _ => Ok(Metadata::new(FileType::File, inner.at)),
        }
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.remote.settable(attributes)?;
        let mut inner = self.inner.lock().await;
        if matches!(inner.state, State::Ended) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let owed = std::mem::take(&mut inner.owed);
        inner.owed = attributes.clone().over(owed);
        Ok(())
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        if !options.attributes.is_empty() {
            self.remote.settable(&options.attributes)?;
        }
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
        if matches!(state, State::Ended) { Err(Error::new(ErrorKind::Closed)) } else { Ok(()) }
    }

    async fn abort(&self) -> Result<()> {
        let mut inner = self.inner.lock().await;
        let state = std::mem::replace(&mut inner.state, State::Ended);
        self.turns.moves();
        if matches!(state, State::Ended) && !std::mem::take(&mut inner.failed) {
            return Err(Error::new(ErrorKind::Closed));
        }
        self.give_up(state, inner.touched, inner.at).await;
        Ok(())
    }
}
