//! `scp -f`: the client fetches files and trees.
//!
//! Links are followed, as `scp` does; a link to a directory that leads back to where one came from is
//! named and left out. What a listing told of a file or a directory is not asked for again; its size, and whether a
//! directory is a link by now, is. A file that became shorter meanwhile is filled up and reported, for its size was
//! promised.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::Stream;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File as _, Filesystem as _, Follow, ListOptions, OpenOptions};
use session_core::gate::{SessionFile, SessionFs};
use session_core::metadata::{FileType, Metadata};
use session_core::path::VPath;
use session_core::session::Argument;

use super::command::Flags;
use super::words::Word;
use super::{Answer, MAX_DEPTH, Peer, Terminal, is_dir};
use crate::wire::scp::Control;

/// How much is read at once.
const STEP: usize = 256 * 1024;
/// What the root is called where it needs a name.
const ROOT: &[u8] = b"root";

/// How many links to directories may lie on one way.
const MAX_LINKS: usize = 16;

/// A directory that is being sent.
struct Above {
    real: VPath,
    /// Links on the way to it.
    links: usize,
}

/// Whether more may be sent.
type More = bool;

pub(super) async fn run<I, O>(peer: &mut Peer<I, O>, flags: Flags, sources: Vec<Word>) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    if !matches!(peer.answer().await?, Answer::Good) {
        return Ok(());
    }
    for source in sources {
        let text = source.text();
        let paths = match peer.all(source).await {
            Ok(paths) => paths,
            Err(e) => {
                peer.fail(&text, e).await?;
                continue;
            }
        };
        for path in paths {
            if !entry(peer, flags, &path, None, &mut Vec::new()).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Sends what is at `path`. `listed` is what a listing told of it, `above` are the directories that it was reached
/// through.
fn entry<'a, I, O>(
    peer: &'a mut Peer<I, O>,
    flags: Flags,
    path: &'a VPath,
    listed: Option<Metadata>,
    above: &'a mut Vec<Above>,
) -> BoxFuture<'a, Result<More>>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    Box::pin(async move {
        let name = if path.is_root() { ROOT } else { path.name() };
        if name.contains(&b'\n') {
            peer.warn(path.as_bytes(), "a name with a line end cannot be sent by SCP").await?;
            return Ok(true);
        }
        let name = Bytes::copy_from_slice(name);
        let found = match listed.filter(|listed| says_all(flags, listed)) {
            Some(listed) => Ok(listed),
            None => peer.fs.stat(path, Follow::Yes).await,
        };
        match found {
            Ok(found) if is_dir(found.file_type) => {
                if flags.recursive {
                    directory(peer, flags, path, name, &found, above).await
                } else {
                    peer.warn(path.as_bytes(), "not a regular file").await?;
                    Ok(true)
                }
            }
            Ok(found) if found.file_type == FileType::File => file(peer, flags, path, name, &found).await,
            Ok(_) => {
                peer.warn(path.as_bytes(), "not a regular file").await?;
                Ok(true)
            }
            Err(e) => {
                peer.fail(path.as_bytes(), e).await?;
                Ok(true)
            }
        }
    })
}

/// Whether a listing tells of an entry what the client will be told. Of a link it does not.
fn says_all(flags: Flags, listed: &Metadata) -> bool {
    matches!(listed.file_type, FileType::Directory | FileType::File)
        && (!flags.preserve || listed.modified.is_some())
}

/// Where a directory lies as far as its last link tells, unless that is above where one came from. What
/// loops in a way that this does not see ends with the bound of links.
async fn without_links(fs: &SessionFs, path: &VPath, above: &[Above]) -> Result<Above> {
    let links = above.last().map_or(0, |above| above.links);
    let real = match above.last() {
        Some(parent) if is_link(fs, path).await? => {
            let at = VPath::parse(&parent.real, &fs.read_link(path).await?)?;
            Above { real: at, links: links + 1 }
        }
        Some(parent) => Above { real: parent.real.join(path.name())?, links },
        None => Above { real: path.clone(), links },
    };
    if real.links > MAX_LINKS || above.iter().any(|above| above.real.starts_with(&real.real)) {
        return Err(Error::new(ErrorKind::LinkLoop).with_detail("the link leads back to where one came from"));
    }
    if above.len() >= MAX_DEPTH {
        return Err(Error::new(ErrorKind::TooLarge).with_detail("the tree is too deep"));
    }
    Ok(real)
}

async fn is_link(fs: &SessionFs, path: &VPath) -> Result<bool> {
    Ok(fs.stat(path, Follow::No).await?.is_symlink())
}

async fn directory<I, O>(
    peer: &mut Peer<I, O>,
    flags: Flags,
    path: &VPath,
    name: Bytes,
    found: &Metadata,
    above: &mut Vec<Above>,
) -> Result<More>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let session = peer.fs.session().clone();
    let running = session.begin_command("scp -f", Argument::Path(path.clone()));
    let real = match without_links(&peer.fs, path, above).await {
        Ok(real) => real,
        Err(e) => {
            peer.fail(path.as_bytes(), e).await?;
            return Ok(true);
        }
    };
    drop(running);
    let mode = found.mode.unwrap_or(0o755) & 0o7777;
    match announce(peer, flags, found, &Control::Directory { mode, name }).await? {
        Answer::Good => {}
        Answer::Bad => return Ok(true),
        Answer::Over => return Ok(false),
    }
    above.push(real);
    let more = children(peer, flags, path, above).await?;
    above.pop();
    if !more {
        return Ok(false);
    }
    peer.say(&Control::End).await?;
    Ok(!matches!(peer.answer().await?, Answer::Over))
}

/// Sends what is in a directory. It is looked into only now, when the client wants it: who may not do that is told so
/// of a directory that is there.
async fn children<I, O>(
    peer: &mut Peer<I, O>,
    flags: Flags,
    path: &VPath,
    above: &mut Vec<Above>,
) -> Result<More>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let session = peer.fs.session().clone();
    let running = session.begin_command("scp -f", Argument::Path(path.clone()));
    let mut listing = match peer.fs.list(path, &ListOptions::default()).await {
        Ok(listing) => listing,
        Err(e) => {
            peer.fail(path.as_bytes(), e).await?;
            return Ok(true);
        }
    };
    drop(running);
    loop {
        match listing.next_page().await {
            Ok(Some(page)) => {
                for child in page {
                    let at = path.join(&child.name)?;
                    if !entry(peer, flags, &at, Some(child.metadata), above).await? {
                        return Ok(false);
                    }
                }
            }
            Ok(None) => return Ok(true),
            Err(e) => {
                peer.fail(path.as_bytes(), e).await?;
                return Ok(true);
            }
        }
    }
}

/// Announces an entry, with its times where they are wanted.
async fn announce<I, O>(
    peer: &mut Peer<I, O>,
    flags: Flags,
    found: &Metadata,
    what: &Control,
) -> Result<Answer>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    if flags.preserve {
        let modified = found.modified.unwrap_or(UNIX_EPOCH);
        let accessed = found.accessed.unwrap_or(modified);
        peer.say(&Control::Times { modified, accessed }).await?;
        match peer.answer().await? {
            Answer::Good => {}
            other => return Ok(other),
        }
    }
    peer.say(what).await?;
    peer.answer().await
}

async fn file<I, O>(
    peer: &mut Peer<I, O>,
    flags: Flags,
    path: &VPath,
    name: Bytes,
    found: &Metadata,
) -> Result<More>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let session = peer.fs.session().clone();
    let _running = session.begin_command("scp -f", Argument::Path(path.clone()));
    let opened = match peer.fs.open_file(path, &OpenOptions::read()).await {
        // The size of what is open: the name may have another owner by now.
        Ok(file) => file.metadata().await.map(|m| (file, m.size)),
        Err(e) => Err(e),
    };
    let (file, size) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            peer.fail(path.as_bytes(), e).await?;
            return Ok(true);
        }
    };
    let mode = found.mode.unwrap_or(0o644) & 0o7777;
    match announce(peer, flags, found, &Control::File { mode, size, name }).await? {
        Answer::Good => {}
        Answer::Bad => return Ok(true),
        Answer::Over => return Ok(false),
    }
    match content(peer, &file, size).await? {
        Ok(()) => peer.good().await?,
        Err(e) => peer.fail(path.as_bytes(), e).await?,
    }
    Ok(!matches!(peer.answer().await?, Answer::Over))
}

/// A piece of a file; empty at its end.
async fn read(file: Arc<SessionFile>, offset: u64, end: u64) -> Result<Bytes> {
    let want = usize::try_from(end - offset).unwrap_or(STEP).min(STEP);
    if want == 0 {
        return Ok(Bytes::new());
    }
    Ok(file.read_into(offset, want, BytesMut::with_capacity(want)).await?.freeze())
}

/// Sends `size` bytes, whatever the file holds by now; the next piece is read while one is on its way.
/// The inner error is the file's.
async fn content<I, O>(peer: &mut Peer<I, O>, file: &Arc<SessionFile>, size: u64) -> Result<Result<()>>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let mut sent = 0;
    let mut piece = read(Arc::clone(file), 0, size).await;
    let failed = loop {
        let now = match piece {
            Ok(now) => now,
            Err(e) => break e,
        };
        if now.is_empty() {
            if sent == size {
                return Ok(Ok(()));
            }
            break Error::new(ErrorKind::Corrupt).with_detail("the file became shorter meanwhile");
        }
        sent += now.len() as u64;
        let (done, next) = tokio::join!(peer.outgoing.send(now), read(Arc::clone(file), sent, size));
        done?;
        piece = next;
    };
    let zeros = Bytes::from_static(&[0; 8192]);
    while sent < size {
        let n = (size - sent).min(zeros.len() as u64);
        peer.outgoing.send(zeros.slice(..usize::try_from(n).unwrap_or_default())).await?;
        sent += n;
    }
    Ok(Err(failed))
}
