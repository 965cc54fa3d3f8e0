//! Commands that tell of single entries: `stat`, `cat`, `df`, `hash`.

use std::sync::Arc;

use bytes::BytesMut;
use serde_json::json;
use session_core::error::{Error, Result};
use session_core::fs::{File, Filesystem, Follow, OpenOptions};
use session_core::metadata::FileType;
use session_core::path::display_bytes;

use super::Context;
use crate::batch::Flow;
use crate::cli::args::{Hash, Paths};
use crate::cli::lines;
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
            out.json(&lines::ENTRY, entry);
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
        if let Err(e) = cat_one(cx, text, &mut out, None).await {
            out.flush();
            cx.complain(&e);
        }
    }
    Ok(())
}

/// Writes a file to the output, with others looking at `flow` where there is one.
pub(super) async fn cat_one(
    cx: &mut Context,
    text: &str,
    out: &mut Out,
    flow: Option<&Arc<Flow>>,
) -> Result<()> {
    use futures_util::stream::{FuturesOrdered, StreamExt};
    const CHUNK: usize = 256 << 10;
    const AHEAD: usize = 32;
    let place = cx.places.open(text).await?;
    let file = place.fs.open_file(&place.path, &OpenOptions::read()).await?;
    let item = flow.map(|flow| flow.begin(place.path.display()));
    let mut ahead = FuturesOrdered::new();
    let mut next = 0u64;
    let read = |offset: u64, len: usize| {
        let file = &file;
        async move {
            let mut buf = BytesMut::with_capacity(len);
            while buf.len() < len {
                let had = buf.len();
                buf = file.read_into(offset + had as u64, len - had, buf).await?;
                if buf.len() == had {
                    break;
                }
            }
            let ended = buf.len() < len;
            Ok::<_, Error>((buf, ended))
        }
    };
    loop {
        // The limit may change on the way.
        let (len, times) = flow.map_or((CHUNK, AHEAD), |flow| flow.ahead(CHUNK, AHEAD));
        while ahead.len() < times {
            ahead.push_back(read(next, len));
            next += len as u64;
        }
        let Some(chunk) = ahead.next().await else { return Ok(()) };
        let (chunk, ended) = chunk?;
        if let (Some(flow), Some(item)) = (flow, &item) {
            flow.pass(chunk.len()).await?;
            item.moved(chunk.len() as u64);
        }
        out.raw(&chunk);
        if ended {
            return Ok(());
        }
    }
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
            Ok((place, s)) if cx.global.json => out.json(
                &lines::SPACE,
                json!({
                    "place": place.shown, "total": s.total, "free": s.free, "available": s.available,
                    "entries": s.entries, "entries_free": s.entries_free, "read_only": s.read_only,
                }),
            ),
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
            Ok((place, (digest, proof))) if cx.global.json => out.json(&lines::DIGEST, json!({
                "place": place.shown, "algorithm": a.algorithm.name(), "digest": hex(&digest), "proof": proof.name(),
            })),
            Ok((place, (digest, _))) => out.line(&format!("{}  {}", hex(&digest), place.shown)),
        }
    }
    Ok(())
}
