//! The native behind `GetCurrentVFS()`: the session's user's files, behind a gate of their own; and the same calls
//! on places that a handler has opened ([`super::places`]).
//!
//! What a script does with the user's files passes the same permissions, filters and quotas as what the user
//! does, and fires no events. A failure is an answer, not an exception; only the end of the handler's time and a
//! missing grant throw. Content of one call is bounded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use rquickjs::{Array, Ctx, Exception, Function, Object, Result};

use super::places::{Place, place_of};
use super::session::milliseconds;
use super::{Slot, Text, bytes, content, thrown};
use crate::error::{Error, ErrorKind, Result as Outcome};
use crate::fs::*;
use crate::fs_ext::{Bounds, FilesystemExt as _};
use crate::metadata::{Attributes, Metadata};
use crate::path::{VPath, utf16_to_bytes};
use crate::script::grants::Grant;

/// The most bytes that one call reads or writes.
const MOST: u64 = 4 << 20;

/// The most entries of one listing.
const ENTRIES: usize = 100_000;

pub(super) const CHUNK: usize = 256 << 10;

/// What a call asks for.
struct Request {
    what: String,
    path: VPath,
    target: Option<VPath>,
    numbers: Vec<f64>,
    content: Option<Bytes>,
}

/// What it is told.
pub(super) enum Answer {
    Content(Vec<u8>),
    Done,
    Entries(Vec<(Vec<u8>, Metadata)>),
    Size(u64),
}

pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "hasFiles",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<bool> {
            let invocation = s.get(&ctx)?;
            invocation.needs(Grant::Files).map_err(|e| thrown(&ctx, &e))?;
            Ok(invocation.files().is_some())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "files",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  place: usize,
                  what: String,
                  path: Vec<u16>,
                  target: Option<Vec<u16>>,
                  numbers: Vec<f64>,
                  data: Option<rquickjs::String<'js>>|
                  -> Result<Object<'js>> {
                let invocation = s.get(&ctx)?;
                let Place { fs, base } = match place_of(&ctx, &invocation, place)? {
                    Ok(place) => place,
                    Err(e) => return answer(&ctx, Err(e)),
                };
                let content = data.map(|d| content(&ctx, &d).map(Bytes::from)).transpose()?;
                let at =
                    |units: &[u16]| VPath::parse(&base, &utf16_to_bytes(units)).map_err(|e| thrown(&ctx, &e));
                let path = at(&path)?;
                let target = target.map(|t| at(&t)).transpose()?;
                let request = Request { what, path, target, numbers, content };
                let done = invocation.wait(carry_out(&*fs, request));
                if invocation.is_over() {
                    return Err(Exception::throw_message(&ctx, "interrupted"));
                }
                answer(&ctx, done)
            },
        )?,
    )
}

pub(super) fn answer<'js>(ctx: &Ctx<'js>, done: Outcome<Answer>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("ok", done.is_ok())?;
    object.set("error", done.as_ref().err().map(Error::peer_words).unwrap_or_default())?;
    object.set("size", 0)?;
    match done {
        Ok(Answer::Content(data)) => object.set("bytes", bytes(ctx, data)?)?,
        Ok(Answer::Entries(entries)) => {
            let all = Array::new(ctx.clone())?;
            for (n, (name, metadata)) in entries.into_iter().enumerate() {
                all.set(n, entry(ctx, name, &metadata)?)?;
            }
            object.set("entries", all)?;
        }
        Ok(Answer::Size(size)) => object.set("size", number(size))?,
        Ok(Answer::Done) | Err(_) => {}
    }
    Ok(object)
}

#[allow(clippy::cast_precision_loss, reason = "a script's number holds 2^53 bytes exactly")]
pub(super) fn number(n: u64) -> f64 {
    n as f64
}

fn entry<'js>(ctx: &Ctx<'js>, name: Vec<u8>, metadata: &Metadata) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("name", Text(name))?;
    object.set("type", metadata.file_type.name())?;
    object.set("size", number(metadata.size))?;
    object.set("mode", metadata.mode)?;
    object.set("time", metadata.modified.map(milliseconds))?;
    Ok(object)
}

pub(super) fn invalid(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge).with_detail(format!("a script moves at most {} MiB at once", MOST >> 20))
}

/// The whole number at `n`.
pub(super) fn at(numbers: &[f64], n: usize) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "the prelude lets only safe whole numbers pass")]
    numbers.get(n).map(|v| *v as i64)
}

fn time(milliseconds: i64) -> Outcome<SystemTime> {
    let span = Duration::from_millis(milliseconds.unsigned_abs());
    let time = if milliseconds < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
    time.ok_or_else(|| invalid("the time is out of range"))
}

fn unsigned<T: TryFrom<i64>>(n: Option<i64>) -> Outcome<Option<T>> {
    n.map(T::try_from).transpose().map_err(|_| invalid("the number is out of range"))
}

async fn carry_out(files: &dyn Filesystem, request: Request) -> Outcome<Answer> {
    let Request { what, path, target, numbers, content } = request;
    let target = || target.clone().ok_or_else(|| invalid("there is no target"));
    let set = async |attributes: Attributes| {
        files.set_attributes(&path, &attributes, Follow::Yes).await.map(|()| Answer::Done)
    };
    let name = || path.name().to_vec();
    match what.as_str() {
        "stat" => Ok(Answer::Entries(vec![(name(), files.stat(&path, Follow::Yes).await?)])),
        "lstat" => Ok(Answer::Entries(vec![(name(), files.stat(&path, Follow::No).await?)])),
        "list" => list(files, &path).await,
        "mkdir" => files.create_dir(&path, &Attributes::none()).await.map(|()| Answer::Done),
        "mkdir-all" => files.create_dir_all(&path).await.map(|()| Answer::Done),
        "rmdir" => files.remove_dir(&path).await.map(|()| Answer::Done),
        "rename" => files.rename(&path, &target()?, Replace::Yes).await.map(|()| Answer::Done),
        "remove" => files.remove_file(&path).await.map(|()| Answer::Done),
        "remove-all" => match files.stat(&path, Follow::No).await?.is_dir() {
            true => files.remove_dir_all(&path).await.map(|()| Answer::Done),
            false => files.remove_file(&path).await.map(|()| Answer::Done),
        },
        "tree-size" => {
            let metadata = files.stat(&path, Follow::Yes).await?;
            if !metadata.is_dir() {
                return Ok(Answer::Size(metadata.size));
            }
            let all = files.walk(&path, Bounds::default()).await?;
            let sizes = all.iter().filter(|(_, m)| m.is_file()).map(|(_, m)| m.size);
            Ok(Answer::Size(sizes.fold(0, u64::saturating_add)))
        }
        "symlink" => files.symlink(path.as_bytes(), &target()?).await.map(|()| Answer::Done),
        "chown" => {
            let (uid, gid) = (unsigned(at(&numbers, 0))?, unsigned(at(&numbers, 1))?);
            set(Attributes { uid, gid, ..Attributes::none() }).await
        }
        "chmod" => set(Attributes { mode: unsigned(at(&numbers, 0))?, ..Attributes::none() }).await,
        "chtimes" => {
            let accessed = at(&numbers, 0).map(time).transpose()?;
            let modified = at(&numbers, 1).map(time).transpose()?;
            set(Attributes::times(accessed, modified)).await
        }
        "truncate" => set(Attributes { size: unsigned(at(&numbers, 0))?, ..Attributes::none() }).await,
        "read" => read(files, &path, &numbers).await.map(Answer::Content),
        "write" => write(files, &path, &numbers, content.unwrap_or_default()).await.map(|()| Answer::Done),
        _ => Err(Error::new(ErrorKind::Unsupported)),
    }
}

async fn list(files: &dyn Filesystem, dir: &VPath) -> Outcome<Answer> {
    let mut listing = files.list(dir, &ListOptions::default()).await?;
    let mut all = Vec::new();
    while let Some(page) = listing.next_page().await? {
        all.extend(page.into_iter().map(|e| (e.name.to_vec(), e.metadata)));
        if all.len() > ENTRIES {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("the directory has too many entries"));
        }
    }
    Ok(Answer::Entries(all))
}

/// Length (−1: to the end), offset and where that counts from: 0 and 1 from the start (no position is kept
/// between calls), 2 from the end backwards, so that offset 0 reads the last bytes.
async fn read(files: &dyn Filesystem, path: &VPath, numbers: &[f64]) -> Outcome<Vec<u8>> {
    let file = files.open(path, &OpenOptions::read()).await?;
    let size = file.metadata().await?.size;
    let offset: u64 = unsigned(at(numbers, 1))?.unwrap_or(0);
    let length = match at(numbers, 0).unwrap_or(-1) {
        n if n < 0 => None,
        n => Some(n.unsigned_abs()),
    };
    let (start, end) = match at(numbers, 2) {
        Some(2) => {
            let end = size.saturating_sub(offset);
            (length.map_or(0, |l| end.saturating_sub(l)), end)
        }
        Some(0 | 1) | None => {
            let start = offset.min(size);
            (start, length.map_or(size, |l| start.saturating_add(l).min(size)))
        }
        Some(_) => return Err(invalid("whence is FromStart, FromCurrent or FromEnd")),
    };
    if end - start > MOST {
        return Err(too_large());
    }
    let mut data = BytesMut::new();
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let had = data.len();
        data = file.read_into(at, want, data).await?;
        let got = data.len() - had;
        if got == 0 {
            break;
        }
        at += got as u64;
    }
    Ok(data.to_vec())
}

/// Without an offset the file is made anew and published whole; with one it is changed in place.
async fn write(files: &dyn Filesystem, path: &VPath, numbers: &[f64], data: Bytes) -> Outcome<()> {
    if data.len() as u64 > MOST {
        return Err(too_large());
    }
    let Some(offset) = at(numbers, 0) else {
        return files.write_all(path, data).await.map(|_| ());
    };
    let offset: u64 = unsigned(Some(offset))?.unwrap_or(0);
    let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let file = files.open(path, &options).await?;
    let start = match at(numbers, 1) {
        Some(2) => file.metadata().await?.size.saturating_sub(offset),
        Some(0 | 1) | None => offset,
        Some(_) => return Err(invalid("whence is FromStart, FromCurrent or FromEnd")),
    };
    let mut written = 0;
    while written < data.len() {
        let end = (written + CHUNK).min(data.len());
        file.write_at(start + written as u64, data.slice(written..end)).await?;
        written = end;
    }
    file.commit(&CommitOptions::default()).await.map(|_| ())
}
