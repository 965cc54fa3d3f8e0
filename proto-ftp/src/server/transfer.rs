//! One transfer: what a data connection is for is opened, then carried out.
//!
//! Opening comes before the connection, so that a file that is not there costs no connection. An upload is
//! not published here: whether its client is still there is the driver's to find out, between the last byte
//! and the verdict.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{
    CommitOptions, File as _, Filesystem as _, Follow, Lent, ListOptions, Listing, OpenOptions, Order,
};
use session_core::gate::{SessionFile, SessionFs};
use session_core::metadata::{DirEntry, FileType, Metadata};
use session_core::path::VPath;
use session_core::session::Session;
use tokio_util::sync::CancellationToken;

use super::data::{Data, Guard, random, refused};
use super::machine::{Done, Fault, Form, Show, Transfer, What};
use super::pump::{self, Inlet, Outlet, Pace};
use crate::listing::facts::Place;
use crate::listing::{facts, unix};

/// Names of our choice that are tried for STOU.
const UNIQUE: u32 = 16;
/// A listing is sent in pieces of about this many bytes.
const LISTED: usize = 64 * 1024;

/// What was opened.
pub(super) enum Source {
    Download { file: Arc<SessionFile>, lent: Option<Lent>, range: std::ops::Range<u64> },
    Listing(Box<Shown>),
    Upload { file: Arc<SessionFile>, offset: u64, expected: Option<u64> },
}

/// A transfer that may begin.
pub(super) struct Opened {
    pub(super) transfer: Transfer,
    pub(super) source: Source,
}

/// A finished upload before its verdict.
pub(super) struct Upload {
    pub(super) file: Arc<SessionFile>,
    /// Bytes of this transfer.
    pub(super) bytes: u64,
    /// Why it is to be kept rather than published.
    pub(super) doubt: Option<&'static str>,
}

/// How a transfer went.
pub(super) enum Moved {
    All(u64),
    Received(Upload),
}

fn out_of_range() -> Error {
    Error::new(ErrorKind::OutOfRange).with_detail("the file ends before that offset")
}

/// Opens what a transfer is about, and what the machine should know of it. A client on this machine gets
/// bytes that were read: no device takes them off the page cache, it copies them itself, and that costs it
/// half as much again while they are in no processor's cache.
pub(super) async fn open(fs: &SessionFs, transfer: Transfer, is_here: bool) -> Result<(Opened, Done)> {
    let (source, done) = match &transfer.what {
        What::Show(show) => {
            let shown = Shown::open(fs, show.clone()).await?;
            (Source::Listing(Box::new(shown)), Done::Opened { size: None, name: None })
        }
        What::Retrieve { path, range } => {
            let file = fs.open_file(path, &OpenOptions::read()).await?;
            if range.start > 0 && range.start > file.metadata().await?.size {
                return Err(out_of_range());
            }
            let direct = !is_here && !transfer.private && !transfer.ascii && transfer.level.is_none();
            let lent = if direct { file.lend(range.clone()).await? } else { None };
            let size = lent.as_ref().map(|l| l.range.end.saturating_sub(l.range.start));
            let source = Source::Download { file, lent, range: range.clone() };
            (source, Done::Opened { size, name: None })
        }
        What::Store { path, offset, append, unique, expected } => {
            let mut options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
            options.append = *append;
            options.truncate = !append && *offset == 0;
            options.size_hint = *expected;
            let (file, name) = if *unique {
                let (file, name) = open_unique(fs, path, &options).await?;
                (file, Some(name))
            } else {
                (fs.open_file(path, &options).await?, None)
            };
            if *offset > 0 && file.metadata().await?.size < *offset {
                // Nothing was written: what was there stays.
                file.park().await?;
                return Err(out_of_range());
            }
            let source = Source::Upload { file, offset: *offset, expected: *expected };
            (source, Done::Opened { size: None, name })
        }
    };
    Ok((Opened { transfer, source }, done))
}

async fn open_unique(
    fs: &SessionFs,
    path: &VPath,
    options: &OpenOptions,
) -> Result<(Arc<SessionFile>, VPath)> {
    let options = OpenOptions { exclusive: true, ..options.clone() };
    let mut name = path.clone();
    for _ in 0..UNIQUE {
        match fs.open_file(&name, &options).await {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => return Ok((other?, name)),
        }
        let number = u32::from_le_bytes(random()?);
        let mut raw = path.as_bytes().to_vec();
        raw.extend_from_slice(format!(".{number:08x}").as_bytes());
        name = VPath::absolute(raw)?;
    }
    Err(Error::new(ErrorKind::AlreadyExists).with_detail("no name is free"))
}

impl Opened {
    /// Nothing comes of it: there is no connection.
    async fn give_up(&mut self) {
        if let Source::Upload { file, offset, .. } = &self.source {
            let fresh = *offset == 0 && !matches!(self.transfer.what, What::Store { append: true, .. });
            // Of a file begun anew nothing has arrived; what was there before must not be hidden by it.
            let _ = if fresh { file.abort().await } else { file.park().await };
        }
    }

    /// Connects and moves the data. `abort` gives it up; `gone`, only as long as nobody has connected.
    pub(super) async fn run(
        mut self,
        data: &mut Data,
        guard: Option<Guard>,
        (time, rate): (Duration, u64),
        abort: CancellationToken,
        gone: CancellationToken,
    ) -> Result<Moved, Fault> {
        let work = async {
            let upload = matches!(self.source, Source::Upload { .. });
            let guard = guard.as_ref().filter(|_| self.transfer.private);
            let connecting = data.connect(guard, self.transfer.foreign, upload);
            let connected = tokio::select! {
                biased;
                connected = connecting => connected,
                () = gone.cancelled() => Err(refused(425, ErrorKind::Disconnected, "the client is gone")),
            };
            let mut stream = match connected {
                Ok(stream) => stream,
                Err(fault) => {
                    self.give_up().await;
                    return Err(fault);
                }
            };
            let mut pace = Pace::new(time, rate);
            let (ascii, level) = (self.transfer.ascii, self.transfer.level);
            let moved = match &mut self.source {
                Source::Download { file, lent, range } => {
                    let bytes = match lent {
                        Some(lent) => pump::send_lent(&stream, lent, data.session(), &mut pace).await?,
                        None => {
                            let mut outlet = Outlet::new(ascii, level);
                            pump::send_file(&mut stream, file, range.clone(), &mut outlet, &mut pace).await?
                        }
                    };
                    Moved::All(bytes)
                }
                Source::Listing(shown) => {
                    let mut outlet = Outlet::new(false, level);
                    let mut sent = 0;
                    loop {
                        let piece = shown.next().await?;
                        let last = piece.is_empty();
                        sent += piece.len() as u64;
                        outlet.send(&mut stream, piece, last, &mut pace).await?;
                        if last {
                            break Moved::All(sent);
                        }
                    }
                }
                Source::Upload { file, offset, expected } => {
                    let mut inlet = Inlet::new(ascii, level.is_some());
                    let received = pump::receive(&mut stream, file, *offset, &mut inlet, &mut pace).await;
                    let received = match received {
                        Ok(received) => received,
                        Err(fault) => {
                            let _ = file.park().await;
                            return Err(fault);
                        }
                    };
                    // ALLO speaks of the whole file or of what is still to come.
                    let fits = |n: u64| n == received.bytes || n == received.bytes + *offset;
                    let doubt = if expected.is_some_and(|n| !fits(n)) {
                        Some("the size is not the one that ALLO announced")
                    } else if !received.confirmed && data.options().strict_tls_eof {
                        Some("the end of the data was not confirmed")
                    } else {
                        None
                    };
                    Moved::Received(Upload { file: Arc::clone(file), bytes: received.bytes, doubt })
                }
            };
            // The farewell under TLS; a client that is gone already has all it wanted.
            let _ = tokio::time::timeout(time, stream.finish()).await;
            Ok(moved)
        };
        let done = tokio::select! {
            biased;
            done = work => Some(done),
            () = abort.cancelled() => None,
        };
        match done {
            Some(done) => done,
            None => {
                if let Source::Upload { file, .. } = &self.source {
                    let _ = file.abort().await;
                }
                data.discard().await;
                Err(Fault::with_code(
                    426,
                    Error::new(ErrorKind::Canceled).with_detail("aborted as you asked"),
                ))
            }
        }
    }
}

/// A listing under way.
pub(super) struct Shown {
    fs: SessionFs,
    show: Show,
    entries: Entries,
    now: SystemTime,
    /// What is written before the entries.
    head: Option<Metadata>,
}

enum Entries {
    One(Option<Box<DirEntry>>),
    Pages(Listing),
}

impl Shown {
    pub(super) async fn open(fs: &SessionFs, show: Show) -> Result<Self> {
        let order = match show.form {
            Form::Facts(_) => Order::Any,
            Form::Long | Form::Names => Order::Name,
        };
        let options = ListOptions { order, ..ListOptions::default() };
        let mut head = None;
        let entries = if show.itself {
            Entries::One(Some(Self::alone(fs, &show.path).await?))
        } else {
            match fs.list(&show.path, &options).await {
                Ok(pages) => {
                    if matches!(show.form, Form::Facts(_)) {
                        head = fs.stat(&show.path, Follow::Yes).await.ok();
                    }
                    Entries::Pages(pages)
                }
                // LIST and NLST of a file show that file; MLSD of a file is an error (RFC 3659, 7.2.1).
                Err(e)
                    if e.kind() == ErrorKind::NotADirectory
                        && !matches!(show.form, Form::Facts(_))
                        && show.pattern.is_none() =>
                {
                    Entries::One(Some(Self::alone(fs, &show.path).await?))
                }
                Err(e) => return Err(e),
            }
        };
        Ok(Shown { fs: fs.clone(), show, entries, now: fs.session().now(), head })
    }

    async fn alone(fs: &SessionFs, path: &VPath) -> Result<Box<DirEntry>> {
        let metadata = fs.stat(path, Follow::No).await?;
        let name = if path.is_root() { &b"/"[..] } else { path.name() };
        Ok(Box::new(DirEntry { name: Bytes::copy_from_slice(name), metadata }))
    }

    /// The next piece; empty at the end.
    pub(super) async fn next(&mut self) -> Result<BytesMut> {
        let mut out = Vec::new();
        if let (Some(metadata), Form::Facts(wanted)) = (self.head.take(), self.show.form) {
            facts::write(&mut out, wanted, Place::Current, b".", &metadata, None);
            out.extend_from_slice(b"\r\n");
        }
        while out.len() < LISTED {
            let page = match &mut self.entries {
                Entries::One(entry) => entry.take().map(|e| vec![*e]),
                Entries::Pages(pages) => pages.next_page().await?,
            };
            let Some(page) = page else { break };
            out.reserve(page.len() * 96);
            for entry in page {
                write(&self.fs, &self.show, self.now, &mut out, &entry).await;
            }
        }
        Ok(out.as_slice().into())
    }
}

/// Writes one entry with its line end, if it is wanted.
async fn write(fs: &SessionFs, show: &Show, now: SystemTime, out: &mut Vec<u8>, entry: &DirEntry) {
    if show.pattern.as_ref().is_some_and(|p| !glob(p, &entry.name)) {
        return;
    }
    let mut link = None;
    if entry.metadata.file_type == FileType::Symlink && show.form != Form::Names {
        let at = if show.itself { Ok(show.path.clone()) } else { show.path.join(&entry.name) };
        if let Ok(at) = at {
            link = fs.read_link(&at).await.ok();
        }
    }
    match show.form {
        Form::Facts(wanted) => {
            facts::write(out, wanted, Place::Entry, &entry.name, &entry.metadata, link.as_deref());
        }
        Form::Long => unix::write(out, &entry.name, &entry.metadata, link.as_deref(), now),
        Form::Names => {
            out.extend_from_slice(&show.prefix);
            out.extend(entry.name.iter().map(|b| if matches!(b, b'\r' | b'\n' | 0) { b'?' } else { *b }));
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether `name` fits a pattern of `*`, `?` and `[…]`, in time that no pattern can blow up. Names that
/// begin with a dot want one in the pattern.
pub(super) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last star: one more byte is its own.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => Some(p + 1),
            (Some(b'['), Some(b)) => class(pattern, p, *b),
            (Some(b'\\'), Some(b)) if pattern.get(p + 1) == Some(b) => Some(p + 2),
            (Some(a), Some(b)) if a == b => Some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Behind a class at `at` that holds `b`; a bracket that is not closed stands for itself.
fn class(pattern: &[u8], at: usize, b: u8) -> Option<usize> {
    let inside = pattern.get(at + 1..).unwrap_or_default();
    let negated = matches!(inside.first(), Some(b'!' | b'^'));
    let skip = usize::from(negated);
    let Some(end) = inside.iter().skip(skip + 1).position(|c| *c == b']').map(|e| e + skip + 1) else {
        return (b == b'[').then_some(at + 1);
    };
    let set = inside.get(skip..end).unwrap_or_default();
    let mut holds = false;
    let mut i = 0;
    while let Some(first) = set.get(i) {
        match (set.get(i + 1), set.get(i + 2)) {
            (Some(b'-'), Some(last)) => {
                holds |= (*first..=*last).contains(&b);
                i += 3;
            }
            _ => {
                holds |= *first == b;
                i += 1;
            }
        }
    }
    (holds != negated).then_some(at + 1 + end + 1)
}

/// Sends nothing more to a session that is over.
pub(super) async fn commit(upload: &Upload) -> Result<u64> {
    upload.file.commit(&CommitOptions::default()).await?;
    Ok(upload.bytes)
}

/// What runs, for STAT.
pub(super) fn progress(session: &Session) -> Vec<Bytes> {
    let running = session.transfers().into_iter().map(|t| {
        let bytes = t.bytes.load(std::sync::atomic::Ordering::Relaxed);
        let seconds = t.since.elapsed().as_secs();
        Bytes::from(format!("{} {}: {bytes} bytes in {seconds} s", t.direction.name(), t.path()))
    });
    running.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::glob;

    #[test]
    fn patterns_fit_as_a_shell_has_them() {
        for (pattern, name, fits) in [
            ("*", "abc", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("?b?", "abc", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("*.t[xy]t", "a.b.txt", true),
            ("\\*", "*", true),
            ("", "", true),
            ("**", "a", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let pattern = b"*a".repeat(2000);
        let name = [&b"a".repeat(4000)[..], b"b"].concat();
        let begun = std::time::Instant::now();
        assert!(!glob(&pattern, &name));
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(pattern: Vec<u8>, name: Vec<u8>) {
            let _ = glob(&pattern, &name);
            prop_assert!(glob(b"*", b"x"));
        }
    }
}
