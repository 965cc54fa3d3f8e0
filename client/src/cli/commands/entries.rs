//! Commands on single entries.

use bytes::BytesMut;
use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File, Filesystem, Follow, ListOptions, OpenOptions, Replace};
use session_core::gate::SessionFs;
use session_core::metadata::{Attributes, FileType};
use session_core::path::{VPath, display_bytes};

use super::{Context, transfer};
use crate::cli::args::{Chmod, Hash, Ln, Mkdir, Mv, Paths, Rm};
use crate::cli::places::Place;
use crate::cli::render::{Out, date, entry_json, mode_text, size};
use crate::hash::digest;
use session_core::digest::hex;

pub(super) async fn stat(cx: &mut Context, a: &Paths) -> Result<()> {
    let mut out = Out::new();
    for text in &a.places {
        let found = match cx.places.open(text).await {
            Ok(place) => place.fs.stat(&place.path, Follow::No).await.map(|m| (place, m)),
            Err(e) => Err(e),
        };
        let (place, m) = match found {
            Ok(found) => found,
            Err(e) => {
                cx.complain(&e);
                continue;
            }
        };
        #[cfg(feature = "s3")]
        let known = match m.is_file() {
            true => super::s3::known(cx, &place).await.unwrap_or_else(|e| {
                cx.complain(&e);
                None
            }),
            false => None,
        };
        if cx.global.json {
            #[cfg_attr(not(feature = "s3"), allow(unused_mut, reason = "what only S3 adds"))]
            let mut entry = entry_json(&place.shown, place.path.name(), &m);
            #[cfg(feature = "s3")]
            if let (Some(known), Some(map)) = (known, entry.as_object_mut()) {
                map.insert("s3".into(), known.json());
            }
            out.json(&entry);
            continue;
        }
        out.line(&place.shown);
        out.line(&format!("  type      {}", m.file_type.name()));
        out.line(&format!("  size      {} ({})", m.size, size(m.size)));
        if let Some(mode) = m.mode {
            out.line(&format!("  mode      {mode:04o} ({})", mode_text(mode)));
        }
        if let (Some(uid), Some(gid)) = (m.uid, m.gid) {
            out.line(&format!("  owner     {uid}:{gid}"));
        }
        for (label, time) in [("modified", m.modified), ("accessed", m.accessed), ("created ", m.created)] {
            if let Some(time) = time {
                out.line(&format!("  {label}  {} UTC", date(time)));
            }
        }
        if m.file_type == FileType::Symlink
            && let Ok(target) = place.fs.read_link(&place.path).await
        {
            out.line(&format!("  target    {}", display_bytes(&target)));
        }
        #[cfg(feature = "s3")]
        for line in known.iter().flat_map(super::s3::Known::lines) {
            out.line(&line);
        }
    }
    Ok(())
}

pub(super) async fn cat(cx: &mut Context, a: &Paths) -> Result<()> {
    let mut out = Out::new();
    for text in &a.places {
        if let Err(e) = cat_one(cx, text, &mut out).await {
            out.flush();
            cx.complain(&e);
        }
    }
    Ok(())
}

async fn cat_one(cx: &mut Context, text: &str, out: &mut Out) -> Result<()> {
    use futures_util::stream::{FuturesOrdered, StreamExt};
    const CHUNK: usize = 256 << 10;
    const AHEAD: usize = 32;
    let place = cx.places.open(text).await?;
    let file = place.fs.open_file(&place.path, &OpenOptions::read()).await?;
    let mut ahead = FuturesOrdered::new();
    let mut next = 0u64;
    let read = |offset: u64| {
        let file = &file;
        async move {
            let mut buf = BytesMut::with_capacity(CHUNK);
            while buf.len() < CHUNK {
                let had = buf.len();
                buf = file.read_into(offset + had as u64, CHUNK - had, buf).await?;
                if buf.len() == had {
                    break;
                }
            }
            Ok::<_, Error>(buf)
        }
    };
    loop {
        while ahead.len() < AHEAD {
            ahead.push_back(read(next));
            next += CHUNK as u64;
        }
        let Some(chunk) = ahead.next().await else { return Ok(()) };
        let chunk = chunk?;
        out.raw(&chunk);
        if chunk.len() < CHUNK {
            return Ok(());
        }
    }
}

pub(super) async fn mkdir(cx: &mut Context, a: &Mkdir) -> Result<()> {
    let attributes = a.mode.map_or_else(Attributes::none, Attributes::mode);
    for text in &a.places {
        let result = match cx.places.open(text).await {
            Ok(p) if a.parents => parents(&p.fs, &p.path, &attributes).await,
            Ok(p) => p.fs.create_dir(&p.path, &attributes).await,
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            cx.complain(&e);
        }
    }
    Ok(())
}

async fn parents(fs: &SessionFs, path: &VPath, attributes: &Attributes) -> Result<()> {
    // Down from the first ancestor that is there.
    let mut missing = Vec::new();
    let mut at = Some(path.clone());
    while let Some(p) = at {
        match fs.stat(&p, Follow::Yes).await {
            Ok(m) if m.is_dir() => break,
            Ok(_) => {
                return Err(Error::new(ErrorKind::NotADirectory)
                    .at(session_core::operation::OperationKind::CreateDir, Some(&p)));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                at = p.parent();
                missing.push(p);
            }
            Err(e) => return Err(e),
        }
    }
    for (n, p) in missing.iter().rev().enumerate() {
        let last = n + 1 == missing.len();
        let attributes = if last { attributes.clone() } else { Attributes::none() };
        match fs.create_dir(p, &attributes).await {
            // Somebody else made it meanwhile.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

pub(super) async fn mv(cx: &mut Context, a: &Mv) -> Result<()> {
    let Some((target, sources)) = a.places.split_last() else { return Ok(()) };
    let target = cx.places.open(target).await?;
    let into = target.slash || target.fs.stat(&target.path, Follow::Yes).await.is_ok_and(|m| m.is_dir());
    if sources.len() > 1 && !into {
        return Err(Error::new(ErrorKind::NotADirectory)
            .with_detail(format!("'{}' is not a directory, and there are several sources", target.shown)));
    }
    for text in sources {
        let result = match cx.places.open(text).await {
            Ok(source) => mv_one(cx, &source, &target, into, a.no_clobber).await,
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            cx.complain(&e);
        }
    }
    Ok(())
}

async fn mv_one(
    cx: &mut Context,
    source: &Place,
    target: &Place,
    into: bool,
    no_clobber: bool,
) -> Result<()> {
    if source.key != target.key {
        return Err(Error::new(ErrorKind::CrossDevice)
            .with_detail("'mv' renames within one place")
            .with_hint("use 'ferry cp', and 'ferry rm' when it has succeeded"));
    }
    let to = if into { target.path.join(source.path.name())? } else { target.path.clone() };
    let capabilities = source.fs.capabilities_at(&source.path);
    // There a directory moves object by object.
    let by_objects = capabilities.server_copy && capabilities.whole_files;
    if by_objects && let Some(job) = transfer::interrupted_move(source, [&target.path, &to]) {
        return Err(Error::new(ErrorKind::Locked)
            .with_detail(format!("moving '{}' there did not come to its end", source.shown))
            .with_hint(format!("go on with: ferry resume {job}")));
    }
    let replace = if no_clobber { Replace::No } else { Replace::Yes };
    match source.fs.rename(&source.path, &to, replace).await {
        Err(e) if by_objects && e.kind() == ErrorKind::CrossDevice => {
            transfer::move_dir(cx, source, to, no_clobber).await
        }
        done => done,
    }
}

pub(super) async fn rm(cx: &mut Context, a: &Rm) -> Result<()> {
    for text in &a.places {
        let place = match cx.places.open(text).await {
            Ok(place) => place,
            Err(e) => {
                cx.complain(&e);
                continue;
            }
        };
        let result = rm_one(cx, &place.fs, &place.path, a.recursive).await;
        match result {
            Err(e) if a.force && e.kind() == ErrorKind::NotFound => {}
            Err(e) => cx.complain(&e),
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn rm_one(cx: &mut Context, fs: &SessionFs, path: &VPath, recursive: bool) -> Result<()> {
    let m = fs.stat(path, Follow::No).await?;
    if !m.is_dir() {
        return fs.remove_file(path).await;
    }
    if !recursive {
        return Err(Error::new(ErrorKind::IsADirectory)
            .with_hint("give -r to remove a directory with all it holds")
            .at(session_core::operation::OperationKind::RemoveFile, Some(path)));
    }
    if path.is_root() {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the root is not removed"));
    }
    // Down first, directories on the way back; a directory whose listing failed is not removed.
    let mut stack = vec![(path.clone(), false)];
    while let Some((dir, listed)) = stack.pop() {
        if listed {
            if let Err(e) = fs.remove_dir(&dir).await {
                cx.complain(&e);
            }
            continue;
        }
        stack.push((dir.clone(), true));
        let mut pages = fs.list(&dir, &ListOptions::default()).await?;
        let mut files = Vec::new();
        while let Some(page) = pages.next_page().await? {
            for entry in page {
                let path = dir.join(&entry.name)?;
                if entry.metadata.is_dir() {
                    stack.push((path, false));
                } else {
                    files.push(path);
                }
            }
        }
        use futures_util::stream::{StreamExt, iter};
        let results: Vec<_> = iter(files)
            .map(|p| async move { fs.remove_file(&p).await })
            .buffer_unordered(256)
            .collect()
            .await;
        for e in results.into_iter().filter_map(Result::err) {
            cx.complain(&e);
        }
    }
    Ok(())
}

pub(super) async fn ln(cx: &mut Context, a: &Ln) -> Result<()> {
    let link = cx.places.open(&a.link).await?;
    if a.symbolic {
        use std::os::unix::ffi::OsStrExt;
        let target = std::ffi::OsStr::new(&a.target).as_bytes();
        return link.fs.symlink(target, &link.path).await;
    }
    let target = cx.places.open(&a.target).await?;
    if target.key != link.key {
        return Err(Error::new(ErrorKind::CrossDevice).with_detail("a link stays within one place"));
    }
    link.fs.hard_link(&target.path, &link.path).await
}

pub(super) async fn chmod(cx: &mut Context, a: &Chmod) -> Result<()> {
    let attributes = Attributes::mode(a.mode);
    for text in &a.places {
        let place = match cx.places.open(text).await {
            Ok(place) => place,
            Err(e) => {
                cx.complain(&e);
                continue;
            }
        };
        let mut todo = vec![place.path.clone()];
        while let Some(path) = todo.pop() {
            if let Err(e) = place.fs.set_attributes(&path, &attributes, Follow::Yes).await {
                cx.complain(&e);
                continue;
            }
            if !a.recursive || !place.fs.stat(&path, Follow::No).await.is_ok_and(|m| m.is_dir()) {
                continue;
            }
            let mut pages = match place.fs.list(&path, &ListOptions::default()).await {
                Ok(pages) => pages,
                Err(e) => {
                    cx.complain(&e);
                    continue;
                }
            };
            while let Some(page) = pages.next_page().await? {
                for entry in page.iter().filter(|e| !e.metadata.is_symlink()) {
                    todo.push(path.join(&entry.name)?);
                }
            }
        }
    }
    Ok(())
}

pub(super) async fn df(cx: &mut Context, a: &Paths) -> Result<()> {
    let mut out = Out::new();
    if !cx.global.json && !cx.global.quiet {
        out.line(&format!("{:>12} {:>12} {:>12}  place", "size", "used", "available"));
    }
    for text in &a.places {
        let found = match cx.places.open(text).await {
            Ok(place) => place.fs.space(&place.path).await.map(|s| (place, s)),
            Err(e) => Err(e),
        };
        match found {
            Err(e) => {
                out.flush();
                cx.complain(&e);
            }
            Ok((place, s)) if cx.global.json => out.json(&json!({
                "place": place.shown, "total": s.total, "free": s.free, "available": s.available,
                "entries": s.entries, "entries_free": s.entries_free, "read_only": s.read_only,
            })),
            Ok((place, s)) => out.line(&format!(
                "{:>12} {:>12} {:>12}  {}",
                size(s.total),
                size(s.total.saturating_sub(s.free)),
                size(s.available),
                place.shown
            )),
        }
    }
    Ok(())
}

pub(super) async fn hash(cx: &mut Context, a: &Hash) -> Result<()> {
    let mut out = Out::new();
    for text in &a.places {
        let found = match cx.places.open(text).await {
            Ok(place) => digest(&place.fs, &place.path, a.algorithm).await.map(|d| (place, d)),
            Err(e) => Err(e),
        };
        match found {
            Err(e) => {
                out.flush();
                cx.complain(&e);
            }
            Ok((place, (digest, proof))) if cx.global.json => out.json(&json!({
                "place": place.shown, "algorithm": a.algorithm.name(), "digest": hex(&digest), "proof": proof.name(),
            })),
            Ok((place, (digest, _))) => out.line(&format!("{}  {}", hex(&digest), place.shown)),
        }
    }
    Ok(())
}
