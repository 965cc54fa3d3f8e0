//! `ls` and `tree`.

use serde_json::json;
use session_core::error::Result;
use session_core::fs::{Filesystem, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::metadata::DirEntry;
use session_core::path::{VPath, display_bytes};

use super::Context;
use crate::cli::args::{Ls, Tree};
use crate::cli::lines;
use crate::cli::render::{Out, entry_json, long_line};

pub(super) async fn ls(cx: &mut Context, a: &Ls) -> Result<()> {
    let mut out = Out::new();
    let titled = a.places.len() > 1 || a.recursive;
    for text in &a.places {
        let place = match cx.places.open(text).await {
            Ok(place) => place,
            Err(e) => {
                cx.complain(&e);
                continue;
            }
        };
        let mut todo = vec![place.path.clone()];
        let mut first = true;
        while let Some(dir) = todo.pop() {
            let shown = if first { place.shown.clone() } else { dir.display() };
            match one(cx, a, &place.fs, &dir, &shown, titled, first, &mut out).await {
                Ok(mut deeper) => {
                    deeper.reverse();
                    todo.append(&mut deeper);
                }
                Err(e) => {
                    out.flush();
                    cx.complain(&e);
                }
            }
            first = false;
        }
    }
    Ok(())
}

/// Lists one directory; gives the directories in it where they are wanted.
#[allow(clippy::too_many_arguments, reason = "the state of one loop")]
async fn one(
    cx: &Context,
    a: &Ls,
    fs: &SessionFs,
    dir: &VPath,
    shown: &str,
    titled: bool,
    named: bool,
    out: &mut Out,
) -> Result<Vec<VPath>> {
    let mut pages = match fs.list(dir, &ListOptions::default()).await {
        Ok(pages) => pages,
        Err(e) if named && e.kind() == session_core::error::ErrorKind::NotADirectory => {
            let metadata = fs.stat(dir, Follow::No).await?;
            let entry = DirEntry { name: bytes::Bytes::copy_from_slice(dir.name()), metadata };
            print(cx, a, shown, &entry, out);
            return Ok(Vec::new());
        }
        // Some servers say of a file only that it cannot be listed.
        Err(e) if named => match fs.stat(dir, Follow::No).await {
            Ok(metadata) if !metadata.is_dir() => {
                let entry = DirEntry { name: bytes::Bytes::copy_from_slice(dir.name()), metadata };
                print(cx, a, shown, &entry, out);
                return Ok(Vec::new());
            }
            _ => return Err(e),
        },
        Err(e) => return Err(e),
    };
    if titled && !cx.global.json && !cx.global.quiet {
        out.line(&format!("{shown}:"));
    }
    let mut deeper = Vec::new();
    let mut held = Vec::new();
    while let Some(page) = pages.next_page().await? {
        for entry in page {
            if !a.all && entry.name.starts_with(b".") {
                continue;
            }
            if a.recursive && entry.metadata.is_dir() {
                deeper.push(dir.join(&entry.name)?);
            }
            if a.unsorted {
                print(cx, a, shown, &entry, out);
            } else {
                held.push(entry);
            }
        }
    }
    held.sort_unstable_by(|x, y| x.name.cmp(&y.name));
    deeper.sort_unstable();
    for entry in &held {
        print(cx, a, shown, entry, out);
    }
    Ok(deeper)
}

fn print(cx: &Context, a: &Ls, shown: &str, entry: &DirEntry, out: &mut Out) {
    if cx.global.json {
        out.json(&lines::ENTRY, entry_json(shown, &entry.name, &entry.metadata));
    } else if a.long {
        out.line(&long_line(&entry.name, &entry.metadata));
    } else {
        out.line(&display_bytes(&entry.name));
    }
}

pub(super) async fn tree(cx: &mut Context, a: &Tree) -> Result<()> {
    let mut out = Out::new();
    let place = cx.places.open(&a.place).await?;
    if !cx.global.json {
        out.line(&place.shown);
    }
    let (mut directories, mut files) = (0u64, 0u64);
    // Each frame is what remains of one directory.
    let mut stack =
        vec![(place.path.clone(), entries(&place.fs, &place.path, a.all).await?.into_iter().peekable())];
    let mut prefix = Vec::<bool>::new();
    while let Some((dir, rest)) = stack.last_mut() {
        let Some(entry) = rest.next() else {
            stack.pop();
            prefix.pop();
            continue;
        };
        let last = rest.peek().is_none();
        let path = dir.join(&entry.name)?;
        if cx.global.json {
            out.json(&lines::ENTRY, entry_json(&path.display(), &entry.name, &entry.metadata));
        } else {
            let indent: String = prefix.iter().map(|more| if *more { "│   " } else { "    " }).collect();
            let branch = if last { "└── " } else { "├── " };
            out.line(&format!("{indent}{branch}{}", display_bytes(&entry.name)));
        }
        if !entry.metadata.is_dir() {
            files += 1;
            continue;
        }
        directories += 1;
        if a.depth.is_some_and(|d| prefix.len() + 1 >= d) {
            continue;
        }
        match entries(&place.fs, &path, a.all).await {
            Ok(found) => {
                prefix.push(!last);
                stack.push((path, found.into_iter().peekable()));
            }
            Err(e) => {
                out.flush();
                cx.complain(&e);
            }
        }
    }
    if cx.global.json {
        out.json(&lines::TREE, json!({ "directories": directories, "files": files }));
    } else if !cx.global.quiet {
        out.line(&format!("\n{directories} directories, {files} files"));
    }
    Ok(())
}

async fn entries(fs: &SessionFs, dir: &VPath, all: bool) -> Result<Vec<DirEntry>> {
    let mut found = Vec::new();
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    while let Some(page) = pages.next_page().await? {
        found.extend(page.into_iter().filter(|e| all || !e.name.starts_with(b".")));
    }
    found.sort_unstable_by(|x, y| x.name.cmp(&y.name));
    Ok(found)
}
