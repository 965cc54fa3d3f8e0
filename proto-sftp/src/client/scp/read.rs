//! A file that is being read: an `scp -f` stays open behind it.
//!
//! Reads that follow each other continue it; calls that are made side by side are served in the order of their offsets.
//! A step forward reads over what lies between if it is small. Any other jump begins anew: where there is a shell, with
//! `tail -c` behind a look that the file is still the same; else from the beginning, whose first bytes are read
//! over. A channel that nobody uses is given up to who needs one.
//!
//! The size that was announced is what the file has: a source that ends before it, or says behind it that something was
//! wrong, is an error and never a short file. A file that changed between two beginnings is `Corrupt`.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Follow};
use session_core::in_order::Readers;
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::path::VPath;
use session_core::shell::quoted;
use tokio::time::Instant;

use super::remote::Remote;
use super::shell::{IDLE, Transfer, Yields};
use super::words::{error_of, scp_said};
use crate::ssh::exec::Exit;
use crate::wire::fetch::{ACKNOWLEDGED, Event, Fetch, Head};
use crate::wire::scp::Malformed;

/// A gap up to this is read over.
const SKIP: u64 = 512 << 10;
/// A read gives back what it has once it has this much.
const ENOUGH: usize = 256 << 10;

/// What is open, and where it stands.
struct Active {
    transfer: Transfer,
    errors: Vec<u8>,
    /// Of `scp -f`; the rest of a file is nothing but bytes.
    fetch: Option<Fetch>,
    left: Bytes,
    at: u64,
    used: Instant,
}

pub(super) fn malformed(e: Malformed) -> Error {
    Error::new(ErrorKind::PeerMisbehaved).with_detail(format!("the server's scp sends {}", e.0))
}

fn changed() -> Error {
    Error::new(ErrorKind::Corrupt)
        .with_detail("the file changed while it was read")
        .with_hint("run the command again when nothing writes to it")
}

fn broke_off(errors: &[u8]) -> Error {
    if errors.trim_ascii().is_empty() {
        return Error::new(ErrorKind::Disconnected)
            .with_detail("the server's answer ends before the file does");
    }
    error_of(1, errors)
}

impl Active {
    /// The next event of `scp`.
    async fn event(&mut self) -> Result<Option<Event>> {
        let Some(fetch) = &mut self.fetch else { return Ok(None) };
        loop {
            if let Some(event) = fetch.next_event().map_err(malformed)? {
                return Ok(Some(event));
            }
            match self.transfer.next(&mut self.errors).await? {
                Some(piece) => fetch.push(piece),
                None => return Err(broke_off(&self.errors)),
            }
        }
    }

    /// Fills `left`, if it is empty; `false` at the end.
    async fn fill(&mut self) -> Result<bool> {
        if !self.left.is_empty() {
            return Ok(true);
        }
        if self.fetch.is_none() {
            return match self.transfer.next(&mut self.errors).await? {
                Some(piece) => {
                    self.left = piece;
                    Ok(true)
                }
                None => match self.transfer.exit() {
                    Some(Exit::Code(0)) | None => Ok(false),
                    Some(Exit::Code(code)) => Err(error_of(code, &self.errors)),
                    Some(Exit::Signal(_)) => Err(broke_off(&self.errors)),
                },
            };
        }
        match self.event().await? {
            Some(Event::Content(bytes)) => {
                self.left = bytes;
                Ok(true)
            }
            Some(Event::Complete) | None => Ok(false),
            Some(Event::Failed(words)) => Err(scp_said(&words)),
            Some(Event::Begins(_)) => Err(malformed(Malformed("another file"))),
        }
    }

    fn take(&mut self, most: u64) -> Bytes {
        let n = usize::try_from(most).unwrap_or(usize::MAX).min(self.left.len());
        self.at += n as u64;
        self.left.split_to(n)
    }
}

pub(super) struct ReadFile {
    remote: Arc<Remote>,
    path: VPath,
    head: Head,
    stream: tokio::sync::Mutex<Option<Active>>,
    /// The end was reached, and the source said that all was well.
    proved: std::sync::atomic::AtomicBool,
    readers: Readers,
}

/// The rest of a file as it is, by a program that writes it.
async fn plain(remote: &Remote, program: &str, path: &VPath, at: u64) -> Result<Active> {
    let command = [program.as_bytes(), b" ", &quoted(path.as_bytes())].concat();
    let transfer = remote.transfer(&command).await?;
    Ok(Active { transfer, errors: Vec::new(), fetch: None, left: Bytes::new(), at, used: Instant::now() })
}

/// Begins to fetch a file: what it is, and its content behind it.
async fn fetch(remote: &Remote, path: &VPath) -> Result<(Head, Active)> {
    if !remote.has_scp() {
        let found = remote.look(path, Follow::Yes).await?;
        if !found.is_file() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        let times = found.modified.map(|modified| (modified, found.accessed.unwrap_or(modified)));
        let head = Head { mode: found.mode.unwrap_or(0o644), size: found.size, times };
        return Ok((head, plain(remote, "cat", path, 0).await?));
    }
    let command = [b"scp -p -f ", &quoted(path.as_bytes())[..]].concat();
    let transfer = remote.transfer(&command).await?;
    // It comes to the same whether the answers wait for their questions; the line need not be crossed for each.
    transfer.send(Bytes::from_static(ACKNOWLEDGED)).await?;
    let mut active = Active {
        transfer,
        errors: Vec::new(),
        fetch: Some(Fetch::default()),
        left: Bytes::new(),
        at: 0,
        used: Instant::now(),
    };
    match active.event().await? {
        Some(Event::Begins(head)) => Ok((head, active)),
        Some(Event::Failed(words)) => Err(scp_said(&words)),
        _ => Err(malformed(Malformed("something else than a file"))),
    }
}

impl ReadFile {
    /// Errors: `NotFound`, `IsADirectory` (also for what is neither file nor directory), `PermissionDenied`.
    pub(super) async fn open(remote: Arc<Remote>, path: &VPath) -> Result<Arc<ReadFile>> {
        let (head, active) = fetch(&remote, path).await?;
        let file = Arc::new(ReadFile {
            remote,
            path: path.clone(),
            head,
            stream: tokio::sync::Mutex::new(Some(active)),
            proved: false.into(),
            readers: Readers::default(),
        });
        let weak: Weak<ReadFile> = Arc::downgrade(&file);
        file.remote.lines.register(weak);
        Ok(file)
    }

    /// Everything from `offset` on, or from a place before it.
    async fn start(&self, offset: u64) -> Result<Active> {
        if offset == 0 || !self.remote.can_tail() {
            let (head, active) = fetch(&self.remote, &self.path).await?;
            let same = |head: &Head| (head.size, head.times.map(|t| t.0));
            return if same(&head) == same(&self.head) { Ok(active) } else { Err(changed()) };
        }
        let now = self.remote.look(&self.path, Follow::Yes).await?;
        // A listing may tell less of a time than SCP does.
        let finest = self.remote.granularity();
        let near = |a: std::time::SystemTime, b: std::time::SystemTime| {
            a.duration_since(b).or_else(|_| b.duration_since(a)).is_ok_and(|apart| apart < finest)
        };
        let differs = self.head.times.zip(now.modified).is_some_and(|((then, _), now)| !near(then, now));
        if now.size != self.head.size || differs && finest.as_secs() <= 1 {
            return Err(changed());
        }
        plain(&self.remote, &format!("tail -c +{}", offset + 1), &self.path, offset).await
    }

    /// Reads what is due at `offset`, or enough of it.
    async fn fill(&self, active: &mut Active, offset: u64, due: u64, buf: &mut BytesMut) -> Result<()> {
        while active.at < offset {
            if !active.fill().await? {
                return Err(changed());
            }
            active.take(offset - active.at);
        }
        let mut got = 0;
        while got < due.min(ENOUGH as u64) {
            if !active.fill().await? {
                return Err(changed());
            }
            let bytes = active.take(due - got);
            got += bytes.len() as u64;
            buf.extend_from_slice(&bytes);
        }
        Ok(())
    }

    async fn read(&self, offset: u64, len: usize, buf: &mut BytesMut) -> Result<()> {
        use std::sync::atomic::Ordering::{Acquire, Release};
        let had = buf.len();
        loop {
            let at = |stream: &Option<Active>| stream.as_ref().map_or(0, |a| a.at);
            let mut stream = self.readers.turn(&self.stream, offset, at).await;
            if offset >= self.head.size && (self.proved.load(Acquire) || stream.is_none()) {
                return Ok(());
            }
            // Taken out while it moves: a call that is dropped takes the channel with it.
            let goes_on = |a: &Active| offset >= a.at && (offset - a.at <= SKIP || !self.remote.can_tail());
            let (mut active, is_new) = match stream.take() {
                // Whoever reads at the end has read all, or wants nothing.
                Some(active) if offset >= self.head.size && active.at < self.head.size => {
                    *stream = Some(active);
                    return Ok(());
                }
                Some(active) if goes_on(&active) => (active, false),
                other => {
                    drop(other);
                    (self.start(offset).await?, true)
                }
            };
            let from = active.at;
            let due = (len as u64).min(self.head.size.saturating_sub(offset));
            match self.fill(&mut active, offset, due, buf).await {
                // It was held back for long, while others waited: from here again. A new one that says so has not moved.
                Err(e) if e.kind() == ErrorKind::Throttled && (active.at > from || !is_new) => {
                    if buf.len() > had {
                        return Ok(());
                    }
                    continue;
                }
                filled => filled?,
            }
            if active.at >= self.head.size {
                // The last word on whether all of it was right. What a file grew by meanwhile is not of it.
                if active.fetch.is_some() && active.fill().await? {
                    return Err(malformed(Malformed("more than was announced")));
                }
                self.proved.store(true, Release);
            } else {
                active.used = Instant::now();
                *stream = Some(active);
            }
            return Ok(());
        }
    }
}

impl Yields for ReadFile {
    fn give_way(&self) {
        if let Ok(mut stream) = self.stream.try_lock()
            && stream.as_ref().is_some_and(|active| active.used.elapsed() >= IDLE)
        {
            *stream = None;
        }
    }
}

#[async_trait]
impl File for ReadFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        if len == 0 || i64::try_from(offset).is_err() {
            return Ok(buf);
        }
        let _call = self.readers.begin(offset);
        self.read(offset, len, &mut buf).await?;
        Ok(buf)
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<()> {
        Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for writing"))
    }

    async fn metadata(&self) -> Result<Metadata> {
        let (modified, accessed) = self.head.times.unzip();
        let mode = Some(self.head.mode);
        Ok(Metadata { mode, modified, accessed, ..Metadata::new(FileType::File, self.head.size) })
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.remote.set(&self.path, attributes, Follow::Yes).await
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        self.metadata().await
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }
}
