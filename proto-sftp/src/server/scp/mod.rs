//! SCP and the checksum commands: what runs where a client asks for a command, over a guarded filesystem.
//!
//! Promises: no shell and no program is ever run; every file that is read or written passes the gate; an
//! upload appears under its name when it is complete and its size is right, and one that breaks off is
//! parked; a name that a client sends is one segment of a path. Memory does not grow with files, and
//! depth is bounded.
//!
//! Deliberately absent: `scp -3` and `-R` (matters of the client), braces in patterns, other commands.
//! Source: the behaviour of OpenSSH's `scp -O`; of GNU's `sha256sum` and its kin.

mod command;
mod sink;
mod source;
mod sums;
mod words;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, StreamExt as _};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs_ext::FilesystemExt as _;
use session_core::gate::SessionFs;
use session_core::metadata::FileType;
use session_core::path::VPath;

use self::command::Command;
use self::words::Word;
use super::Outgoing;
use crate::wire::scp::{Arrived, Control};

/// How deep a tree may be.
const MAX_DEPTH: usize = 256;
/// The most files that one pattern stands for.
const MAX_MATCHES: usize = 100_000;

/// Where a command's output goes, and its words for people.
pub trait Terminal: Outgoing {
    /// Sends all of `words` as standard error. Errors: `Disconnected`.
    fn complain(&mut self, words: Bytes) -> impl Future<Output = Result<()>> + Send;
}

/// A command that is built in, and may be run.
#[derive(Clone, Debug)]
pub struct Builtin(Command);

impl Builtin {
    /// Reads a command line. Errors: `Unsupported`, with words for the client why it is not run.
    pub fn parse(line: &[u8]) -> Result<Self> {
        command::parse(line).map(Builtin).map_err(|why| Error::new(ErrorKind::Unsupported).with_detail(why))
    }

    /// Whether it copies files; otherwise it reads them for their sums.
    pub fn is_copy(&self) -> bool {
        !matches!(self.0, Command::Sums(..))
    }

    /// Runs it to its end; the answer is its exit status: 0 if all went well, 1 if something did not and
    /// the client was told.
    ///
    /// Errors: `Disconnected` where the client vanished, `PeerMisbehaved` where it broke the protocol (it
    /// was told), `Canceled` where the session was cut. Dropped midway, a file that was being written is
    /// parked.
    pub async fn run<I, O>(self, fs: SessionFs, incoming: I, outgoing: O) -> Result<u32>
    where
        I: Stream<Item = Result<Bytes>> + Unpin + Send,
        O: Terminal,
    {
        let cut = fs.session().cancel_token().clone();
        let home = fs.session().identity().map_or_else(VPath::root, |i| i.account().home.clone());
        let mut peer =
            Peer { fs: fs.clone(), home, incoming, outgoing, arrived: Arrived::default(), errors: 0 };
        let work = async {
            match self.0 {
                Command::Sink(flags, target) => sink::run(&mut peer, flags, target).await,
                Command::Source(flags, sources) => source::run(&mut peer, flags, sources).await,
                Command::Sums(algorithm, name, files) => sums::run(&mut peer, algorithm, name, files).await,
            }?;
            Ok(u32::from(peer.errors > 0))
        };
        tokio::select! {
            biased;
            () = cut.cancelled() => Err(Error::new(ErrorKind::Canceled)),
            done = work => done,
        }
    }
}

/// The client at the other end of a command.
struct Peer<I, O> {
    fs: SessionFs,
    home: VPath,
    incoming: I,
    outgoing: O,
    arrived: Arrived,
    /// What went wrong so far, on either end.
    errors: u64,
}

/// What the other end makes of something.
enum Answer {
    Good,
    /// Not this one, but the next perhaps.
    Bad,
    /// Nothing more.
    Over,
}

fn vanished() -> Error {
    Error::new(ErrorKind::Disconnected).with_detail("the client left in the midst of it")
}

impl<I, O> Peer<I, O>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    /// The next piece of input as it comes; `None` at its end.
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.incoming.next().await.transpose()
    }

    /// The next line or answer; `None` at the end of input.
    async fn control(&mut self) -> Result<Option<Control>> {
        loop {
            match self.arrived.control() {
                Ok(Some(control)) => return Ok(Some(control)),
                Ok(None) => match self.piece().await? {
                    Some(piece) => self.arrived.push(&piece),
                    None => return Ok(None),
                },
                Err(malformed) => return Err(self.broken(malformed.0).await),
            }
        }
    }

    /// The client broke the protocol: it is told, and that is the end.
    async fn broken(&mut self, what: &'static str) -> Error {
        let words = format!("scp: protocol error: {what}");
        let _ = self.say(&Control::Fatal(words.into())).await;
        Error::new(ErrorKind::PeerMisbehaved).with_detail(what)
    }

    /// At least one and at most `most` bytes of content.
    async fn content(&mut self, most: u64) -> Result<Bytes> {
        loop {
            let ready = self.arrived.content(most);
            if !ready.is_empty() {
                return Ok(ready);
            }
            let mut piece = self.piece().await?.ok_or_else(vanished)?;
            // Most pieces are content from end to end, and need not be copied.
            let fits = usize::try_from(most).unwrap_or(usize::MAX).min(piece.len());
            let rest = piece.split_off(fits);
            self.arrived.push(&rest);
            if !piece.is_empty() {
                return Ok(piece);
            }
        }
    }

    async fn say(&mut self, control: &Control) -> Result<()> {
        let mut out = BytesMut::new();
        control.encode(&mut out);
        self.outgoing.send(out.freeze()).await
    }

    async fn good(&mut self) -> Result<()> {
        self.fs.session().note_status(0);
        self.say(&Control::Ok).await
    }

    /// Tells the client what went wrong with a path; it goes on.
    async fn warn(&mut self, at: &[u8], words: &str) -> Result<()> {
        self.errors += 1;
        self.fs.session().note_status(1);
        let line = [b"scp: ", at, b": ", words.as_bytes()].concat();
        self.say(&Control::Warning(line.into())).await
    }

    /// Tells the client of an error of the filesystem, unless with it everything is over.
    async fn fail(&mut self, at: &[u8], error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Canceled {
            return Err(error);
        }
        let words = error.peer_words().to_owned();
        self.warn(at, &words).await
    }

    /// Waits for the client's answer.
    async fn answer(&mut self) -> Result<Answer> {
        match self.control().await? {
            Some(Control::Ok) => Ok(Answer::Good),
            Some(Control::Warning(_)) => {
                self.errors += 1;
                Ok(Answer::Bad)
            }
            Some(Control::Fatal(_)) => {
                self.errors += 1;
                Ok(Answer::Over)
            }
            Some(_) => Err(self.broken("an answer that is none").await),
            None => Err(vanished()),
        }
    }

    fn path(&self, text: &[u8], from_home: bool) -> Result<VPath> {
        if from_home && text.is_empty() {
            return Ok(self.home.clone());
        }
        VPath::parse(&self.home, text)
    }

    /// The one path that a word names. Errors: `InvalidArgument`.
    fn one(&self, word: Word) -> Result<VPath> {
        let bad = |why| Error::new(ErrorKind::InvalidArgument).with_detail(why);
        let (word, from_home) = word.tilde().map_err(bad)?;
        self.path(&word.text(), from_home)
    }

    /// The paths that a word stands for, in order of their names. A pattern that nothing matches is a
    /// name, as it is to a shell. Errors: those of listing; `TooLarge`.
    async fn all(&mut self, word: Word) -> Result<Vec<VPath>> {
        if !word.is_pattern() {
            return Ok(vec![self.one(word)?]);
        }
        let plain = word.clone();
        let bad = |why| Error::new(ErrorKind::InvalidArgument).with_detail(why);
        let (word, from_home) = word.tilde().map_err(bad)?;
        let (segments, rooted) = word.segments();
        let listed = segments.last().is_some_and(Word::is_pattern);
        let start = if rooted && !from_home { VPath::root() } else { self.home.clone() };
        let mut found = vec![start];
        for segment in segments {
            let mut next = Vec::new();
            for base in found {
                if !segment.is_pattern() {
                    next.push(VPath::parse(&base, &segment.text())?);
                    continue;
                }
                // Where one may not look, or where nothing can be, nothing matches.
                let entries = match self.fs.list_all(&base).await {
                    Ok(entries) => entries,
                    Err(e) if matches!(e.kind(), ErrorKind::Canceled | ErrorKind::TooLarge) => return Err(e),
                    Err(_) => continue,
                };
                for entry in entries.iter().filter(|entry| segment.matches(&entry.name)) {
                    next.push(base.join(&entry.name)?);
                }
                if next.len() > MAX_MATCHES {
                    return Err(Error::new(ErrorKind::TooLarge).with_detail("the pattern matches too much"));
                }
            }
            found = next;
        }
        if !listed {
            // Nobody has looked yet whether the last one is there.
            let mut there = Vec::new();
            for path in found {
                match self.fs.exists(&path).await {
                    Ok(true) => there.push(path),
                    Err(e) if e.kind() == ErrorKind::Canceled => return Err(e),
                    Ok(false) | Err(_) => {}
                }
            }
            found = there;
        }
        if found.is_empty() { Ok(vec![self.one(plain)?]) } else { Ok(found) }
    }
}

fn is_dir(kind: FileType) -> bool {
    kind == FileType::Directory
}
