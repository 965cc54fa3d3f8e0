//! Shells of the other side that stay open, and the channels of a connection.
//!
//! Whatever the login shell is, it is asked for `/bin/sh` and no more; scripts go in by standard input, so that nothing
//! passes two kinds of quoting. A script's output ends at a mark that nobody can know in advance, with the exit status
//! behind it, on both outputs. What a login prints before the first mark is skipped. Aliases, functions and what
//! the environment says of the format of listings are unset, the locale is C, and the time zone UTC.
//!
//! All channels of a connection share its stream, and one whose output nobody takes holds up the others. So who waits for
//! long asks readers that stand still to give way; they go on later where they were. A shell or a channel does not answer
//! when nothing arrives for any channel any more, and not while others fill the line.
//!
//! Promises: a call that is dropped half way takes its shell with it; output and the number of channels are bounded.
//! A server that grants too few channels (`MaxSessions`) is given back those that are idle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::words::error_of;
use crate::ssh::connect::SshConnection;
use crate::ssh::exec::{Exit, Piece, Running};

/// Shells at a time.
const SHELLS: usize = 3;
/// Files under way at a time. Both together stay below the ten channels that sshd grants.
const TRANSFERS: usize = 6;
/// The most that a script may say at once, and what a login may say before it.
const MOST: usize = 16 << 20;
/// How much of what is said on errors is kept.
const ERRORS: usize = 64 << 10;
/// How long a channel goes unused before somebody else may have it.
pub(super) const IDLE: Duration = Duration::from_millis(300);
/// How long a server that refuses a channel is asked again, and how often.
const REFUSED: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);
/// How long a file waits for others to be done.
const PATIENCE: Duration = Duration::from_secs(60);

const BEGIN: &str = "unalias -a 2>/dev/null
unset -f ls cat chgrp chmod chown cp df head ln mkdir mv readlink rm rmdir scp tail touch 2>/dev/null
unset LANGUAGE LS_COLORS LS_OPTIONS QUOTING_STYLE TIME_STYLE BLOCK_SIZE BLOCKSIZE LS_BLOCK_SIZE 2>/dev/null
unset DF_BLOCK_SIZE DU_BLOCK_SIZE COLUMNS CDPATH POSIXLY_CORRECT VERSION_CONTROL 2>/dev/null
LC_ALL=C; TZ=UTC0; export LC_ALL TZ
";

/// What a script came to.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) out: Bytes,
    pub(super) errors: Bytes,
    pub(super) code: u32,
}

impl Done {
    /// Its output, if it ended well.
    pub(super) fn good(self) -> Result<Bytes> {
        if self.code == 0 { Ok(self.out) } else { Err(error_of(self.code, &self.errors)) }
    }
}

/// A shell.
pub(super) struct Shell {
    running: Running,
    lines: Weak<Lines>,
    mark: String,
    out: BytesMut,
    errors: BytesMut,
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn ended() -> Error {
    Error::new(ErrorKind::Disconnected).with_detail("the server's shell ended")
}

impl Shell {
    /// A new one, with what it said until it was ready thrown away. Errors: those of opening a channel; `Unsupported`
    /// where there is no shell, with the server's words; `TimedOut`.
    async fn begin(running: Running, lines: &Arc<Lines>) -> Result<Shell> {
        let mark = lines.mark.clone();
        let weak = Arc::downgrade(lines);
        let mut shell = Shell { running, lines: weak, mark, out: BytesMut::new(), errors: BytesMut::new() };
        let beginning = async {
            let sent = shell.run(BEGIN.as_bytes()).await;
            sent.map_err(|e| match e.kind() {
                ErrorKind::Unsupported | ErrorKind::Disconnected => {
                    let words = session_core::path::display_bytes(shell.errors.trim_ascii());
                    let e = Error::new(ErrorKind::Unsupported).with_source(e);
                    if words.is_empty() { e } else { e.with_detail(format!("the server says: {words}")) }
                }
                _ => e,
            })
        };
        let begun = lines.connection.flow().answered(lines.time, beginning).await;
        begun.ok_or_else(|| {
            Error::new(ErrorKind::TimedOut).with_detail("the server's shell does not answer")
        })??;
        Ok(shell)
    }

    /// Begins a script of whole lines.
    pub(super) async fn start(&mut self, script: &[u8]) -> Result<()> {
        self.out.clear();
        self.errors.clear();
        let mark = &self.mark;
        let end =
            format!("\n}} </dev/null\nferry=$?\necho; echo {mark} $ferry; {{ echo; echo {mark}; }} >&2\n");
        self.running.send([b"{ :\n", script, end.as_bytes()].concat().into()).await
    }

    /// Waits for more of what it says.
    async fn more(&mut self) -> Result<()> {
        let next = self.running.next();
        let next = match self.lines.upgrade() {
            Some(lines) => lines.patiently(next).await?,
            None => next.await?,
        };
        match next {
            Some(Piece::Output(bytes)) => self.out.extend_from_slice(&bytes),
            Some(Piece::Error(bytes)) => {
                self.errors.extend_from_slice(&bytes);
                // The mark is at the end, the reason mostly at the beginning.
                if self.errors.len() > 2 * ERRORS {
                    let tail = self.errors.split_off(self.errors.len() - ERRORS / 2);
                    self.errors.truncate(ERRORS);
                    self.errors.extend_from_slice(&tail);
                }
            }
            None => return Err(ended()),
        }
        Ok(())
    }

    /// The next whole line of what the script says, without its end; `None` when it has said all.
    pub(super) async fn line(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(at) = self.out.iter().position(|b| *b == b'\n') {
                if self.out.starts_with(self.mark.as_bytes()) {
                    return Ok(None);
                }
                let line = self.out.split_to(at).freeze();
                self.out.advance(1);
                return Ok(Some(line));
            }
            if self.out.len() > MOST {
                return Err(too_much());
            }
            self.more().await?;
        }
    }

    /// How the script ended, after its last line.
    pub(super) async fn end(&mut self) -> Result<(u32, Bytes)> {
        let code = loop {
            if let Some(end) = self.out.iter().position(|b| *b == b'\n') {
                let line = self.out.get(self.mark.len()..end).unwrap_or_default();
                let code = std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok());
                break code.ok_or_else(|| {
                    Error::new(ErrorKind::PeerMisbehaved).with_detail("the shell tells no exit status")
                })?;
            }
            self.more().await?;
        };
        let mark = format!("\n{}\n", self.mark);
        loop {
            if let Some(at) = find(&self.errors, mark.as_bytes()) {
                return Ok((code, self.errors.split_to(at).freeze()));
            }
            self.more().await?;
        }
    }

    /// Runs a script of whole lines to its end.
    pub(super) async fn run(&mut self, script: &[u8]) -> Result<Done> {
        self.start(script).await?;
        let mark = format!("\n{} ", self.mark);
        let mut seen = 0_usize;
        let out = loop {
            let from = seen.saturating_sub(mark.len());
            if let Some(at) = find(self.out.get(from..).unwrap_or_default(), mark.as_bytes()) {
                let out = self.out.split_to(from + at).freeze();
                self.out.advance(1);
                break out;
            }
            seen = self.out.len();
            if seen > MOST {
                return Err(too_much());
            }
            self.more().await?;
        };
        let (code, errors) = self.end().await?;
        Ok(Done { out, errors, code })
    }
}

fn too_much() -> Error {
    Error::new(ErrorKind::TooLarge).with_detail("a command of the server says too much")
}

/// Whoever has a channel that he can do without for now.
pub(super) trait Yields: Send + Sync {
    /// Gives it back, if he has not used it for [`IDLE`].
    fn give_way(&self);
}

/// A connection's channels.
pub(super) struct Lines {
    connection: SshConnection,
    time: Duration,
    /// What ends the output of a script, and begins that of a command where a login may print before it.
    mark: String,
    idle: Mutex<Vec<Shell>>,
    /// The server has opened a channel before.
    granted: AtomicBool,
    shells: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    readers: Mutex<Vec<Weak<dyn Yields>>>,
}

/// A shell on loan. Given back by [`Lease::give_back`]; dropped, it is gone.
pub(super) struct Lease {
    lines: Arc<Lines>,
    shell: Option<Shell>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(super) fn shell(&mut self) -> Result<&mut Shell> {
        self.shell.as_mut().ok_or_else(|| Error::from(ErrorKind::Closed))
    }

    /// It stands at a mark, and others may have it.
    pub(super) fn give_back(mut self) {
        if let Some(shell) = self.shell.take() {
            lock(&self.lines.idle).push(shell);
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    /// Errors: `Internal` where there is no randomness.
    pub(super) fn new(connection: SshConnection, time: Duration) -> Result<Arc<Self>> {
        let mut random = [0_u8; 12];
        getrandom::fill(&mut random).map_err(|_| Error::from(ErrorKind::Internal))?;
        Ok(Arc::new(Lines {
            connection,
            time,
            mark: random.iter().fold("ferry-".to_owned(), |text, byte| format!("{text}{byte:02x}")),
            idle: Mutex::default(),
            granted: AtomicBool::new(false),
            shells: Arc::new(Semaphore::new(SHELLS)),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            readers: Mutex::default(),
        }))
    }

    /// Waits, and asks now and then for channels that nobody takes from.
    async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(IDLE, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let readers: Vec<_> = lock(&self.readers).iter().filter_map(Weak::upgrade).collect();
                    readers.iter().for_each(|reader| reader.give_way());
                }
            }
        }
    }

    /// Runs a command with input, on a channel of its own.
    async fn open(&self, command: &[u8]) -> Result<Running> {
        let by = Instant::now() + REFUSED;
        loop {
            match self.patiently(self.connection.converse(command)).await {
                // Who grants few has to see first that one is free again.
                Err(e) if e.kind() == ErrorKind::Refused && self.granted.load(Ordering::Relaxed) => {
                    let idle = lock(&self.idle).pop();
                    if let Some(shell) = idle {
                        shell.running.close().await;
                    }
                    if Instant::now() >= by {
                        return Err(e);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                opened => {
                    self.granted.fetch_or(opened.is_ok(), Ordering::Relaxed);
                    return opened;
                }
            }
        }
    }

    /// A shell, as soon as there is one.
    pub(super) async fn shell(self: &Arc<Self>) -> Result<Lease> {
        let permit = Arc::clone(&self.shells).acquire_owned().await;
        let permit = permit.map_err(|_| Error::from(ErrorKind::Closed))?;
        let idle = lock(&self.idle).pop();
        let shell = match idle {
            Some(shell) => shell,
            None => Shell::begin(self.open(b"exec /bin/sh").await?, self).await?,
        };
        Ok(Lease { lines: Arc::clone(self), shell: Some(shell), _permit: permit })
    }

    /// Runs a script of whole lines. Dropped midway, its shell is gone, and what the script was doing may be done or not.
    pub(super) async fn run(self: &Arc<Self>, script: &[u8]) -> Result<Done> {
        let mut lease = self.shell().await?;
        let done = lease.shell()?.run(script).await?;
        lease.give_back();
        Ok(done)
    }

    /// Whoever reads may be asked to make room.
    pub(super) fn register(&self, reader: Weak<dyn Yields>) {
        let mut readers = lock(&self.readers);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(reader);
    }

    /// Starts a command that moves a file. Behind a shell what a login prints is skipped, and the locale is C; `command`
    /// is one word of a program and words for it. Errors: `Throttled` where others keep all channels.
    pub(super) async fn transfer(self: &Arc<Self>, command: &[u8], shell: bool) -> Result<Transfer> {
        let busy = "too many files are open over this connection at once";
        let waiting = self.patiently(Arc::clone(&self.transfers).acquire_owned());
        let permit = tokio::time::timeout(PATIENCE, waiting).await;
        let permit = permit.map_err(|_| Error::new(ErrorKind::Throttled).with_detail(busy))?;
        let permit = permit.map_err(|_| Error::from(ErrorKind::Closed))?;
        let prefix = format!("echo {}; exec env LC_ALL=C ", self.mark);
        let prefix: &[u8] = if shell { prefix.as_bytes() } else { b"" };
        let running = self.open(&[prefix, command].concat()).await?;
        let noise = shell.then(BytesMut::new);
        Ok(Transfer { running, lines: Arc::clone(self), noise, _permit: permit })
    }
}

/// A command that moves a file.
pub(super) struct Transfer {
    running: Running,
    lines: Arc<Lines>,
    /// What came before the mark, while it is awaited.
    noise: Option<BytesMut>,
    _permit: OwnedSemaphorePermit,
}

impl Transfer {
    /// Gives it all of `bytes`. As [`Running::send`].
    pub(super) async fn send(&self, bytes: Bytes) -> Result<()> {
        self.lines.patiently(self.running.send(bytes)).await
    }

    /// No more input comes.
    pub(super) async fn finish(&self) -> Result<()> {
        self.running.finish().await
    }

    /// How it ended, once it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.running.exit()
    }

    /// What it says next on its output; what it says on errors is kept for its end.
    pub(super) async fn next(&mut self, errors: &mut Vec<u8>) -> Result<Option<Bytes>> {
        while let Some(piece) = self.lines.patiently(self.running.next()).await? {
            match (piece, &mut self.noise) {
                (Piece::Output(bytes), None) => return Ok(Some(bytes)),
                (Piece::Output(bytes), Some(noise)) => {
                    noise.extend_from_slice(&bytes);
                    let mark = format!("{}\n", self.lines.mark);
                    if let Some(at) = find(noise, mark.as_bytes()) {
                        let rest = noise.split_off(at + mark.len()).freeze();
                        self.noise = None;
                        if !rest.is_empty() {
                            return Ok(Some(rest));
                        }
                    } else if noise.len() > MOST {
                        return Err(too_much());
                    }
                }
                (Piece::Error(bytes), _) => {
                    let room = ERRORS.saturating_sub(errors.len()).min(bytes.len());
                    errors.extend_from_slice(bytes.get(..room).unwrap_or_default());
                }
            }
        }
        Ok(None)
    }
}
