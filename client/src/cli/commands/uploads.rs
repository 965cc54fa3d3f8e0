//! `uploads`: what was begun at a store of objects, or in chunks at a Nextcloud, and never ended.

use std::time::SystemTime;

#[cfg(feature = "s3")]
use proto_s3::client::S3Remote;
#[cfg(feature = "webdav")]
use proto_webdav::client::WebdavRemote;
use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;
#[cfg(feature = "webdav")]
use session_core::path::{VPath, display_bytes};

use super::Context;
use crate::cli::lines;
#[cfg(feature = "s3")]
use crate::cli::places::Place;
use crate::cli::render::{Out, date};
use crate::cli::uploads_args::Uploads;
#[cfg(feature = "webdav")]
use crate::jobs::Jobs;

pub(super) async fn uploads(cx: &mut Context, a: &Uploads) -> Result<()> {
    let place = cx.places.open(&a.place).await?;
    #[cfg(feature = "s3")]
    if let Some(remote) = cx.places.s3(&place.key).filter(|_| place.remote) {
        return of_bucket(cx, a, &place, &remote).await;
    }
    #[cfg(feature = "webdav")]
    if let Some(remote) = cx.places.webdav(&place.key).filter(|_| place.remote) {
        return in_chunks(cx, a, &remote).await;
    }
    Err(Error::new(ErrorKind::Unsupported)
        .with_detail(format!("'{}' keeps no list of uploads", place.shown))
        .with_hint("name a bucket, or the files of a Nextcloud"))
}

/// Whether it is as old as was asked for. Of what has no time nobody knows how old it is.
fn is_old(a: &Uploads, since: Option<SystemTime>) -> bool {
    let age = since.and_then(|since| SystemTime::now().duration_since(since).ok());
    a.older.is_none_or(|least| age.is_some_and(|age| age >= least))
}

#[cfg(feature = "s3")]
async fn of_bucket(cx: &mut Context, a: &Uploads, place: &Place, remote: &S3Remote) -> Result<()> {
    let mut out = Out::new();
    for upload in remote.uploads(&place.path).await?.into_iter().filter(|u| is_old(a, u.begun)) {
        if a.abort
            && let Err(e) = remote.abort_upload(&upload).await
        {
            out.flush();
            cx.complain(&e);
            continue;
        }
        if cx.global.json {
            out.json(
                &lines::UPLOAD,
                json!({
                    "bucket": upload.bucket, "key": upload.key, "id": upload.id,
                    "begun": upload.begun.map(timestamp), "aborted": a.abort,
                }),
            );
            continue;
        }
        let begun = upload.begun.map(date).unwrap_or_default();
        let done = if a.abort { "aborted " } else { "" };
        out.line(&format!("{begun:>16} {done}/{}/{} {}", upload.bucket, upload.key, upload.id));
    }
    Ok(())
}

/// Where they go the server does not tell: of those that `ferry` has begun here and can go on with, its jobs do.
#[cfg(feature = "webdav")]
async fn in_chunks(cx: &mut Context, a: &Uploads, remote: &WebdavRemote) -> Result<()> {
    let (known, mut out) = (of_jobs(), Out::new());
    for upload in remote.uploads().await?.into_iter().filter(|u| is_old(a, u.touched)) {
        let job = known.iter().find_map(|(path, words)| Some((path, upload.size_by(words)?)));
        if a.abort
            && let Err(e) = remote.abort_upload(&upload).await
        {
            out.flush();
            cx.complain(&e);
            continue;
        }
        let path = job.map(|(path, _)| display_bytes(path.as_bytes()));
        let size = job.map(|(_, size)| size);
        if cx.global.json {
            out.json(
                &lines::UPLOAD,
                json!({
                    "id": upload.id, "touched": upload.touched.map(timestamp), "held": upload.held,
                    "path": path, "size": size, "aborted": a.abort,
                }),
            );
            continue;
        }
        let touched = upload.touched.map(date).unwrap_or_default();
        let done = if a.abort { "aborted " } else { "" };
        let of = size.map(|size| format!(" of {size}")).unwrap_or_default();
        let path = path.map(|path| format!(" {path}")).unwrap_or_default();
        out.line(&format!(
            "{touched:>16} {done}{}{of}{path} {}",
            upload.held,
            display_bytes(upload.id.as_bytes())
        ));
    }
    Ok(())
}

/// Where unfinished uploads of this user's jobs go, and their words. What cannot be read is not known.
#[cfg(feature = "webdav")]
fn of_jobs() -> Vec<(VPath, std::sync::Arc<str>)> {
    let known = Jobs::of_user().and_then(|jobs| {
        let unfinished = jobs.list()?.into_iter().filter(|job| job.unfinished > 0);
        Ok(unfinished.filter_map(|job| jobs.unfinished(&job.id).ok()).flatten().collect())
    });
    known.unwrap_or_default()
}
