//! What the arguments of transfers, removals and moves name: sources by name or mask, targets as a
//! directory and an operation mask.
//!
//! A source without a mask is itself, whether it exists or not; a mask is looked for in its directory, not
//! below. A slash at the end is dropped with a warning. The part of a target after the last slash is an
//! operation mask, empty to keep names.

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::path::{VPath, display_bytes};

use super::core::Open;
use super::event::Hub;
use super::names::{Last, Mask, local_last, remote_last};
use super::result::{Matching, RemoteFileInfo};

/// What a source names.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Entries, in the order of the listing.
    pub(super) found: Vec<VPath>,
    /// Links to directories that fit the mask: they are not entered.
    pub(super) links: Vec<VPath>,
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    path.split_at_checked(cut).unwrap_or((path, b""))
}

/// The path without the slash at its end; a warning where there was one.
fn without_slash<'a>(path: &'a [u8], hub: &Hub) -> &'a [u8] {
    let mut bare = path;
    while let [head @ .., b'/'] = bare
        && !head.is_empty()
    {
        bare = head;
    }
    if bare.len() != path.len() {
        hub.warn(format!(
            "'{}' names the directory itself; write '{}/*' for what is in it",
            display_bytes(path),
            display_bytes(bare)
        ));
    }
    bare
}

/// Reads a remote source. Errors: `InvalidArgument` for an empty one; those of listing, for a mask.
pub(super) async fn remote_source(open: &Open, path: &[u8], hub: &Hub) -> Result<Source> {
    let path = without_slash(path, hub);
    let (dir, name) = split(path);
    let last = remote_last(name)?;
    named(&open.fs, &open.home, (dir, last), path).await
}

/// Reads a local source. Errors: as for a remote one.
pub(super) async fn local_source(open: &Open, path: &[u8], hub: &Hub) -> Result<Source> {
    let path = without_slash(path, hub);
    let (dir, name) = split(path);
    named(open.local.fs(), open.local.home(), (dir, local_last(name)), path).await
}

async fn named(fs: &SessionFs, base: &VPath, (dir, last): (&[u8], Last), path: &[u8]) -> Result<Source> {
    if path.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a path is empty"));
    }
    match last {
        Last::Name(name) => {
            let path = VPath::parse(base, &[dir, &name].concat())?;
            Ok(Source { found: vec![path], ..Source::default() })
        }
        Last::Mask(mask) => {
            let dir = VPath::parse(base, dir)?;
            let mut source = Source::default();
            for info in fitting(fs, &dir, &mask).await? {
                let to_directory = info.metadata.is_symlink()
                    && fs.stat(&info.path, Follow::Yes).await.is_ok_and(|m| m.is_dir());
                if to_directory { source.links.push(info.path) } else { source.found.push(info.path) }
            }
            Ok(source)
        }
    }
}

/// The entries of a directory that fit.
async fn fitting(fs: &SessionFs, dir: &VPath, mask: &Mask) -> Result<Vec<RemoteFileInfo>> {
    let mut found = Vec::new();
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    while let Some(page) = pages.next_page().await? {
        for entry in page.into_iter().filter(|e| mask.takes(dir, e)) {
            found.push(RemoteFileInfo { path: dir.join(&entry.name)?, metadata: entry.metadata });
        }
    }
    Ok(found)
}

/// The entries that a remote path names, with what is known of them: see [`super::Matching`].
pub(super) async fn remote_entries(open: &Open, path: &[u8], hub: &Hub) -> Result<Matching> {
    let path = without_slash(path, hub);
    let (dir, name) = split(path);
    entries(&open.fs, &open.home, (dir, remote_last(name)?)).await
}

/// The same of a local path.
pub(super) async fn local_entries(open: &Open, path: &[u8], hub: &Hub) -> Result<Matching> {
    let path = without_slash(path, hub);
    let (dir, name) = split(path);
    entries(open.local.fs(), open.local.home(), (dir, local_last(name))).await
}

async fn entries(fs: &SessionFs, base: &VPath, (dir, last): (&[u8], Last)) -> Result<Matching> {
    match last {
        Last::Mask(mask) => {
            let directory = VPath::parse(base, dir)?;
            let mut files = fitting(fs, &directory, &mask).await?;
            files.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(Matching { masked: true, directory, files })
        }
        Last::Name(name) => {
            let path = VPath::parse(base, &[dir, &name].concat())?;
            let metadata = fs.stat(&path, Follow::Yes).await?;
            let directory = path.parent().unwrap_or_else(VPath::root);
            Ok(Matching { masked: false, directory, files: vec![RemoteFileInfo { path, metadata }] })
        }
    }
}

/// Reads a target: its directory, and the operation mask for names.
pub(super) fn target(base: &VPath, path: &[u8]) -> Result<(VPath, Vec<u8>)> {
    let (dir, mask) = split(path);
    // These name directories, whatever follows.
    if matches!(mask, b"." | b"..") {
        return Ok((VPath::parse(base, path)?, Vec::new()));
    }
    Ok((VPath::parse(base, dir)?, mask.to_vec()))
}
