//! `scp -t`: the client sends files and trees.
//!
//! Each file is answered after it was published, so a client that was told "good" can rely on it. What
//! cannot be written is read to its end and thrown away, and the client is told.

use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::Stream;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File as _, Filesystem as _, Follow, OpenOptions};
use session_core::metadata::Attributes;
use session_core::path::VPath;
use session_core::session::Argument;

use super::command::Flags;
use super::words::Word;
use super::{Answer, MAX_DEPTH, Peer, Terminal, is_dir};
use crate::wire::scp::Control;

/// Last change, last access.
type Times = (SystemTime, SystemTime);

/// A directory that is being filled.
struct Open {
    path: VPath,
    /// To be set when it is complete.
    attributes: Attributes,
}

/// One entry as the client announced it.
struct Entry {
    path: VPath,
    mode: u32,
    times: Option<Times>,
}

pub(super) async fn run<I, O>(peer: &mut Peer<I, O>, flags: Flags, target: Word) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let text = target.text();
    let top = match top(peer, flags, target).await {
        Ok(top) => top,
        Err(e) => return peer.fail(&text, e).await,
    };
    peer.good().await?;
    let mut open: Vec<Open> = Vec::new();
    let mut times = None;
    while let Some(control) = peer.control().await? {
        match control {
            Control::Times { modified, accessed } => {
                times = Some((modified, accessed));
                peer.good().await?;
            }
            Control::File { mode, size, name } => {
                let path = place(&top, &open, &name)?;
                file(peer, flags, Entry { path, mode, times: times.take() }, size).await?;
            }
            Control::Directory { mode, name } => {
                if !flags.recursive {
                    return Err(peer.broken("a directory where none was asked for").await);
                }
                let path = place(&top, &open, &name)?;
                let deep = open.len() >= MAX_DEPTH;
                let entry = Entry { path, mode, times: times.take() };
                let entered = if deep { Err(too_deep()) } else { enter(peer, flags, &entry).await };
                match entered {
                    Ok(()) => {
                        let attributes = peer.kept(flags, &entry);
                        open.push(Open { path: entry.path, attributes });
                        peer.good().await?;
                    }
                    // The client skips the whole directory.
                    Err(e) => peer.fail(entry.path.as_bytes(), e).await?,
                }
            }
            Control::End => {
                let Some(done) = open.pop() else {
                    return Err(peer.broken("an end without a beginning").await);
                };
                let set = if done.attributes.is_empty() {
                    Ok(())
                } else {
                    peer.fs.set_attributes(&done.path, &done.attributes, Follow::Yes).await
                };
                match set {
                    Ok(()) => peer.good().await?,
                    Err(e) => peer.fail(done.path.as_bytes(), e).await?,
                }
            }
            // The client could not read one of its own.
            Control::Warning(_) => peer.errors += 1,
            Control::Fatal(_) => {
                peer.errors += 1;
                return Ok(());
            }
            Control::Ok => return Err(peer.broken("an answer to no question").await),
        }
    }
    Ok(())
}

fn too_deep() -> Error {
    Error::new(ErrorKind::TooLarge).with_detail("the tree is too deep")
}

/// Where things go: the target, and whether it is a directory that is there. Errors: `NotADirectory`
/// where the client needs one.
async fn top<I, O>(peer: &mut Peer<I, O>, flags: Flags, target: Word) -> Result<(VPath, bool)>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let path = peer.one(target)?;
    let there = peer.fs.stat(&path, Follow::Yes).await;
    let is_directory = there.as_ref().is_ok_and(|m| is_dir(m.file_type));
    if flags.directory && !is_directory {
        there?;
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok((path, is_directory))
}

fn place(top: &(VPath, bool), open: &[Open], name: &[u8]) -> Result<VPath> {
    match (open.last(), top) {
        (Some(open), _) => open.path.join(name),
        (None, (path, true)) => path.join(name),
        (None, (path, false)) => Ok(path.clone()),
    }
}

impl<I, O> Peer<I, O> {
    /// What is kept of an entry, as far as the store can.
    fn kept(&self, flags: Flags, entry: &Entry) -> Attributes {
        let can = self.fs.capabilities_at(&entry.path);
        let times = entry.times.filter(|_| can.set_times);
        Attributes {
            mode: (flags.preserve && can.set_mode).then_some(entry.mode),
            modified: times.map(|t| t.0),
            accessed: times.map(|t| t.1),
            ..Attributes::none()
        }
    }

    /// What is new gets the client's mode; without `-p` the rights of others are taken off, as the
    /// usual umask does.
    fn new_mode(&self, flags: Flags, entry: &Entry) -> Attributes {
        match (self.fs.capabilities_at(&entry.path).set_mode, flags.preserve) {
            (false, _) => Attributes::none(),
            (true, true) => Attributes::mode(entry.mode),
            (true, false) => Attributes::mode(entry.mode & 0o777 & !0o022),
        }
    }
}

/// Makes a directory, unless it is there.
async fn enter<I, O>(peer: &mut Peer<I, O>, flags: Flags, entry: &Entry) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let session = peer.fs.session().clone();
    let _running = session.begin_command("scp -t", Argument::Path(entry.path.clone()));
    match peer.fs.stat(&entry.path, Follow::Yes).await {
        Ok(there) if is_dir(there.file_type) => Ok(()),
        Ok(_) => Err(ErrorKind::NotADirectory.into()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let mut attributes = peer.new_mode(flags, entry);
            // It is about to be filled.
            attributes.mode = attributes.mode.map(|mode| mode | 0o700);
            peer.fs.create_dir(&entry.path, &attributes).await
        }
        Err(e) => Err(e),
    }
}

/// Takes one file in. Errors: only those with which everything is over.
async fn file<I, O>(peer: &mut Peer<I, O>, flags: Flags, entry: Entry, size: u64) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let session = peer.fs.session().clone();
    let _running = session.begin_command("scp -t", Argument::Path(entry.path.clone()));
    let at = entry.path.as_bytes();
    let options = OpenOptions {
        size_hint: Some(size),
        attributes: peer.new_mode(flags, &entry),
        ..OpenOptions::create()
    };
    let file = match peer.fs.open_file(&entry.path, &options).await {
        Ok(file) => file,
        Err(e) => return peer.fail(at, e).await,
    };
    peer.good().await?;
    let mut failed = None;
    let mut offset = 0;
    while offset < size {
        // A client that vanishes here leaves the file to be parked.
        let piece = peer.content(size - offset).await?;
        let n = piece.len() as u64;
        if failed.is_none() {
            failed = file.write_at(offset, piece).await.err();
        }
        offset += n;
    }
    match peer.answer().await? {
        Answer::Good => {}
        // The client could not read its file to the end: what came is not the file.
        Answer::Bad | Answer::Over => {
            let _ = file.abort().await;
            return peer.good().await;
        }
    }
    let done = match failed {
        Some(e) => {
            let _ = file.abort().await;
            Err(e)
        }
        None => {
            let attributes = peer.kept(flags, &entry);
            file.commit(&CommitOptions { expected_size: Some(size), attributes }).await
        }
    };
    match done {
        Ok(_) => peer.good().await,
        Err(e) => peer.fail(at, e).await,
    }
}
