//! `presign`, `uploads`, `versions`: what S3 has beside files.

use std::sync::Arc;
use std::time::SystemTime;

use proto_s3::client::{Presign, S3Remote};
use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;

use super::Context;
use crate::cli::places::Place;
use crate::cli::render::{Out, date};
use crate::cli::s3_args;

async fn open(cx: &mut Context, text: &str) -> Result<(Place, Arc<S3Remote>)> {
    let place = cx.places.open(text).await?;
    let remote = if place.remote { cx.places.s3(&place.key) } else { None };
    let remote = remote.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported)
            .with_detail(format!("'{}' is not in S3", place.shown))
            .with_hint("name an object: s3://bucket/path")
    })?;
    Ok((place, remote))
}

pub(super) async fn presign(cx: &mut Context, a: &s3_args::Presign) -> Result<()> {
    let mut out = Out::new();
    let what = if a.put { Presign::Put } else { Presign::Get };
    for text in &a.places {
        let made = match open(cx, text).await {
            Ok((place, remote)) => remote.presign(&place.path, what, a.expires).await.map(|url| (place, url)),
            Err(e) => Err(e),
        };
        match made {
            Err(e) => {
                out.flush();
                cx.complain(&e);
            }
            Ok((place, url)) if cx.global.json => out.json(&json!({
                "place": place.shown, "url": url, "method": if a.put { "PUT" } else { "GET" },
                "expires": a.expires.as_secs(),
            })),
            Ok((_, url)) => out.line(&url),
        }
    }
    Ok(())
}

pub(super) async fn versions(cx: &mut Context, a: &s3_args::Versions) -> Result<()> {
    let (place, remote) = open(cx, &a.place).await?;
    if let Some(id) = &a.restore {
        return remote.restore(&place.path, id).await;
    }
    let mut out = Out::new();
    for v in remote.versions(&place.path).await? {
        if cx.global.json {
            out.json(&json!({
                "id": v.id, "modified": v.modified.map(date), "size": v.size, "etag": v.etag.as_deref(),
                "latest": v.latest, "removed": v.removed,
            }));
            continue;
        }
        let mark = if v.latest { '*' } else { ' ' };
        let size = if v.removed { "removed".to_owned() } else { v.size.to_string() };
        out.line(&format!("{mark} {:>16} {size:>14} {}", v.modified.map(date).unwrap_or_default(), v.id));
    }
    Ok(())
}

pub(super) async fn uploads(cx: &mut Context, a: &s3_args::Uploads) -> Result<()> {
    let (place, remote) = open(cx, &a.place).await?;
    let mut out = Out::new();
    let now = SystemTime::now();
    for upload in remote.uploads(&place.path).await? {
        // Of what has no time nobody knows how old it is.
        let old = |least| {
            let age = upload.begun.and_then(|begun| now.duration_since(begun).ok());
            age.is_some_and(|age| age >= least)
        };
        if !a.older.is_none_or(old) {
            continue;
        }
        if a.abort
            && let Err(e) = remote.abort_upload(&upload).await
        {
            out.flush();
            cx.complain(&e);
            continue;
        }
        if cx.global.json {
            out.json(&json!({
                "bucket": upload.bucket, "key": upload.key, "id": upload.id,
                "begun": upload.begun.map(timestamp), "aborted": a.abort,
            }));
            continue;
        }
        let begun = upload.begun.map(date).unwrap_or_default();
        let done = if a.abort { "aborted " } else { "" };
        out.line(&format!("{begun:>16} {done}/{}/{} {}", upload.bucket, upload.key, upload.id));
    }
    Ok(())
}
