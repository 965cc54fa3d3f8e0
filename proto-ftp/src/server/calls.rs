//! Calls of the machine that the guarded filesystem answers.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, CommitOptions, File as _, Filesystem as _, Follow, OpenOptions, Replace};
use session_core::gate::SessionFs;
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use super::machine::{Call, Done, Show};
use super::transfer::Shown;
use crate::listing::facts::{self, Facts, Place};

/// How much is read at once for a digest or a copy.
const PIECE: usize = 256 * 1024;
/// The longest listing in a reply, bytes.
const IN_REPLY: usize = 1 << 20;

/// Carries out a call. Those that the driver answers itself are `Internal` here.
pub(super) async fn carry_out(fs: &SessionFs, call: Call) -> Result<Done> {
    match call {
        Call::ChangeDir(path) => {
            if !fs.stat(&path, Follow::Yes).await?.is_dir() {
                return Err(Error::new(ErrorKind::NotADirectory));
            }
            Ok(Done::Ok)
        }
        Call::Copy { from, to } => copy(fs, &from, &to).await.map(|()| Done::Ok),
        Call::CreateDir(path) => fs.create_dir(&path, &Attributes::none()).await.map(|()| Done::Ok),
        Call::Digest { path, algorithm, range } => digest(fs, &path, algorithm, range).await,
        Call::Exists(path) => match fs.stat(&path, Follow::No).await {
            // Who may rename and not look is answered when the name is given, as over other protocols.
            Err(e) if !matches!(e.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied) => Err(e),
            _ => Ok(Done::Ok),
        },
        Call::Facts { path, facts } => entry(fs, &path, facts).await,
        Call::Modified(path) => match regular(fs, &path).await?.modified {
            Some(time) => Ok(Done::Time(time)),
            None => Err(Error::new(ErrorKind::Unsupported).with_detail("its time is not known")),
        },
        Call::RemoveDir(path) => fs.remove_dir(&path).await.map(|()| Done::Ok),
        Call::RemoveFile(path) => fs.remove_file(&path).await.map(|()| Done::Ok),
        Call::Rename { from, to } => rename(fs, &from, &to).await.map(|()| Done::Ok),
        Call::SetAttributes { path, attributes } => {
            fs.set_attributes(&path, &attributes, Follow::Yes).await.map(|()| Done::Ok)
        }
        Call::Show(show) => lines(fs, show).await,
        Call::Size(path) => regular(fs, &path).await.map(|m| Done::Number(m.size)),
        Call::Space(path) => fs.space(&path).await.map(|s| Done::Number(s.available)),
        Call::Symlink { target, at } => fs.symlink(&target, &at).await.map(|()| Done::Ok),
        _ => Err(Error::new(ErrorKind::Internal)),
    }
}

async fn regular(fs: &SessionFs, path: &VPath) -> Result<Metadata> {
    let metadata = fs.stat(path, Follow::Yes).await?;
    if metadata.is_dir() {
        return Err(Error::new(ErrorKind::IsADirectory));
    }
    Ok(metadata)
}

async fn entry(fs: &SessionFs, path: &VPath, wanted: Facts) -> Result<Done> {
    let metadata = fs.stat(path, Follow::No).await?;
    let link = if metadata.is_symlink() { fs.read_link(path).await.ok() } else { None };
    let mut out = Vec::new();
    facts::write(&mut out, wanted, Place::Entry, path.as_bytes(), &metadata, link.as_deref());
    Ok(Done::Lines(vec![out.into()]))
}

async fn lines(fs: &SessionFs, show: Show) -> Result<Done> {
    let mut shown = Shown::open(fs, show).await?;
    let mut all = BytesMut::new();
    loop {
        let piece = shown.next().await?;
        if piece.is_empty() {
            break;
        }
        all.extend_from_slice(&piece);
        if all.len() > IN_REPLY {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("too much for a reply, use LIST"));
        }
    }
    let all = all.freeze();
    let lines = all.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    Ok(Done::Lines(lines.filter(|l| !l.is_empty()).map(|l| all.slice_ref(l)).collect()))
}

/// As plain servers do: a file that is there is replaced. Across file systems a file is copied.
async fn rename(fs: &SessionFs, from: &VPath, to: &VPath) -> Result<()> {
    let replace = if fs.capabilities_at(to).rename_replaces { Replace::Yes } else { Replace::No };
    match fs.rename(from, to, replace).await {
        Err(e) if e.kind() == ErrorKind::CrossDevice => {
            if !fs.stat(from, Follow::No).await?.is_file() {
                return Err(e);
            }
            copy(fs, from, to).await?;
            fs.remove_file(from).await
        }
        done => done,
    }
}

async fn copy(fs: &SessionFs, from: &VPath, to: &VPath) -> Result<()> {
    if fs.capabilities_at(to).server_copy {
        return fs.copy(from, to, Replace::Yes).await;
    }
    let source = fs.open_file(from, &OpenOptions::read()).await?;
    let target = fs.open_file(to, &OpenOptions::create()).await?;
    let mut at = 0;
    loop {
        let piece = source.read_into(at, PIECE, BytesMut::with_capacity(PIECE)).await;
        let wrote = match piece {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => {
                let len = piece.len() as u64;
                target.write_at(at, piece.freeze()).await.map(|()| at += len)
            }
            Err(e) => Err(e),
        };
        if let Err(e) = wrote {
            let _ = target.abort().await;
            return Err(e);
        }
    }
    target.commit(&CommitOptions { expected_size: Some(at), ..CommitOptions::default() }).await.map(|_| ())
}

async fn digest(fs: &SessionFs, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Done> {
    let size = regular(fs, path).await?.size;
    if range.start > size {
        return Err(Error::new(ErrorKind::OutOfRange).with_detail("the file ends before that offset"));
    }
    let range = range.start..range.end.min(size);
    if fs.capabilities_at(path).checksums {
        let digest = fs.checksum(path, algorithm, range.clone()).await?;
        return Ok(Done::Digest { digest, range });
    }
    let file = fs.open_file(path, &OpenOptions::read()).await?;
    let digest = hash(&file, algorithm, range.clone()).await?;
    Ok(Done::Digest { digest, range })
}

/// In pieces on the blocking pool, so that no runtime thread is held.
async fn hash(
    file: &Arc<session_core::gate::SessionFile>,
    algorithm: Algorithm,
    range: Range<u64>,
) -> Result<Bytes> {
    let mut hasher = Hasher::new(algorithm);
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
        let piece = file.read_into(at, want, BytesMut::with_capacity(want)).await?;
        if piece.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt).with_detail("the file became shorter meanwhile"));
        }
        at += piece.len() as u64;
        let work = tokio::task::spawn_blocking(move || {
            hasher.update(&piece);
            hasher
        });
        hasher = work
            .await
            .map_err(|e| Error::new(ErrorKind::Internal).with_detail("a digest failed").with_source(e))?;
    }
    Ok(hasher.finish())
}
