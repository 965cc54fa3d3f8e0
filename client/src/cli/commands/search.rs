//! `find` and `du`.

use std::collections::BTreeMap;

use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::metadata::{DirEntry, FileType, Metadata};
use session_core::path::VPath;
use tokio::task::JoinSet;

use super::Context;
use crate::cli::lines;
use crate::cli::places::Place;
use crate::cli::render::{Out, entry_json, size};
use crate::cli::sync_args::{Du, Find, KindArg};
use crate::mask::{FileMask, Subject};

/// Directories that are listed at once.
const PARALLEL: usize = 24;

/// Walks below `root`, directories in parallel, each in one piece and in order; `each` sees every entry with
/// its directory and depth (from 1) and says whether to enter it. Listings that fail are told, and the rest
/// goes on. Links are not entered.
async fn walk(
    cx: &mut Context,
    fs: &SessionFs,
    root: &VPath,
    mut each: impl FnMut(&VPath, &DirEntry, usize) -> bool,
) {
    let mut todo = vec![(root.clone(), 1)];
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < PARALLEL
            && let Some((dir, depth)) = todo.pop()
        {
            let fs = fs.clone();
            tasks.spawn(async move {
                let listed = list(&fs, &dir).await;
                (dir, depth, listed)
            });
        }
        let Some(ended) = tasks.join_next().await else { return };
        let Ok((dir, depth, listed)) = ended else {
            cx.complain(&Error::new(ErrorKind::Internal).with_detail("a listing task failed"));
            continue;
        };
        match listed {
            Err(e) => cx.complain(&e),
            Ok(entries) => {
                for entry in entries {
                    if each(&dir, &entry, depth)
                        && entry.metadata.is_dir()
                        && let Ok(path) = dir.join(&entry.name)
                    {
                        todo.push((path, depth + 1));
                    }
                }
            }
        }
    }
}

async fn list(fs: &SessionFs, dir: &VPath) -> Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    while let Some(page) = pages.next_page().await? {
        entries.extend(page);
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The path of an entry as the user would name it.
fn shown(place: &Place, path: &VPath) -> Vec<u8> {
    let rest = path.strip(&place.path).unwrap_or_default();
    let mut out = place.shown.trim_end_matches('/').as_bytes().to_vec();
    if !rest.is_empty() {
        out.push(b'/');
        out.extend_from_slice(rest);
    }
    out
}

pub(super) async fn find(cx: &mut Context, a: &Find) -> Result<()> {
    let json = cx.global.json;
    for text in &a.places {
        let place = match cx.places.open(text).await {
            Ok(place) => place,
            Err(e) => {
                cx.complain(&e);
                continue;
            }
        };
        let mut out = Out::new();
        let fs = place.fs.clone();
        let each = |dir: &VPath, entry: &DirEntry, depth: usize| {
            let subject = Subject::inside(dir, &entry.name, &place.path, &entry.metadata);
            if !a.mask.matches(&subject) {
                return false;
            }
            if wanted(a, &subject, &entry.metadata)
                && let Ok(path) = dir.join(&entry.name)
            {
                let path = shown(&place, &path);
                if json {
                    out.json(
                        &lines::ENTRY,
                        entry_json(&String::from_utf8_lossy(&path), &entry.name, &entry.metadata),
                    );
                } else if a.print0 {
                    out.raw(&path);
                    out.raw(b"\0");
                } else {
                    out.line(&session_core::path::display_bytes(&path));
                }
            }
            a.max_depth.is_none_or(|max| depth < max)
        };
        walk(cx, &fs, &place.path, each).await;
    }
    Ok(())
}

fn wanted(a: &Find, subject: &Subject<'_>, metadata: &Metadata) -> bool {
    let kind = a.kind.is_none_or(|kind| match kind {
        KindArg::File => metadata.file_type == FileType::File,
        KindArg::Directory => metadata.file_type == FileType::Directory,
        KindArg::Link => metadata.file_type == FileType::Symlink,
    });
    // The name of a directory is looked for like any other.
    let named = |mask: &FileMask| mask.matches(&Subject { directory: false, ..*subject });
    let bounds = [&a.size, &a.newer, &a.older];
    kind && a.name.as_ref().is_none_or(named)
        && bounds.into_iter().flatten().all(|b| b.hold(subject.size, subject.modified))
}

/// Bytes, files and directories.
#[derive(Clone, Copy, Default)]
struct Sum {
    bytes: u64,
    files: u64,
    directories: u64,
}

pub(super) async fn du(cx: &mut Context, a: &Du) -> Result<()> {
    for text in &a.places {
        let place = match cx.places.open(text).await {
            Ok(place) => place,
            Err(e) => {
                cx.complain(&e);
                continue;
            }
        };
        let mut sums: BTreeMap<VPath, Sum> = BTreeMap::new();
        let fs = place.fs.clone();
        match fs.stat(&place.path, Follow::Yes).await {
            Ok(m) if m.is_dir() => {
                sums.insert(place.path.clone(), Sum::default());
                let each = |dir: &VPath, entry: &DirEntry, depth: usize| {
                    if !a.mask.matches(&Subject::inside(dir, &entry.name, &place.path, &entry.metadata)) {
                        return false;
                    }
                    let is_dir = entry.metadata.is_dir();
                    let mut add = |at: &VPath| {
                        let sum = sums.entry(at.clone()).or_default();
                        if is_dir {
                            sum.directories += 1;
                        } else {
                            sum.files += 1;
                            sum.bytes += entry.metadata.size;
                        }
                    };
                    // Every directory above it that is shown.
                    let mut at = Some((dir.clone(), depth - 1));
                    while let Some((path, level)) = at {
                        if level <= a.depth {
                            add(&path);
                        }
                        at = level.checked_sub(1).and_then(|up| Some((path.parent()?, up)));
                    }
                    if is_dir
                        && depth <= a.depth
                        && let Ok(path) = dir.join(&entry.name)
                    {
                        sums.entry(path).or_default();
                    }
                    true
                };
                walk(cx, &fs, &place.path, each).await;
            }
            Ok(m) => {
                sums.insert(place.path.clone(), Sum { bytes: m.size, files: 1, directories: 0 });
            }
            Err(e) => {
                cx.complain(&e);
                continue;
            }
        }
        let mut out = Out::new();
        for (path, sum) in &sums {
            let path = shown(&place, path);
            if cx.global.json {
                out.json(
                    &lines::SUM,
                    json!({
                        "place": String::from_utf8_lossy(&path),
                        "bytes": sum.bytes,
                        "files": sum.files,
                        "directories": sum.directories,
                    }),
                );
            } else {
                let bytes = if a.bytes { sum.bytes.to_string() } else { size(sum.bytes) };
                let path = session_core::path::display_bytes(&path);
                out.line(&format!("{bytes:>12} {:>9} files  {path}", sum.files));
            }
        }
    }
    Ok(())
}
