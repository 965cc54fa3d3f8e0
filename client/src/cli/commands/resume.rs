//! `resume`: goes on with a job that was interrupted, as it was begun.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::transfer::{Kept, Masks, Work, run};
use super::{Context, sync_jobs};
use crate::cli::args::{Global, Resume};
use crate::cli::places::Place;
use crate::jobs::{Jobs, Side, Standing};

/// What is needed to log in again in the same way, what is selected, and where receipts go. No secret.
pub(super) fn extra(global: &Global, receipts: Option<&Path>, masks: &Masks) -> Value {
    let absolute = |p: &PathBuf| std::path::absolute(p).unwrap_or_else(|_| p.clone());
    let text = |p: PathBuf| p.into_os_string().into_string().ok();
    let mut extra = json!({
        "identity": global.identity.iter().map(absolute).filter_map(text).collect::<Vec<_>>(),
        "host_key": global.host_key,
        "certificate": global.certificate,
        "limit_requests": global.limit_requests.0,
        "known_hosts": global.known_hosts.as_ref().map(absolute).and_then(text),
        "ascii_mask": masks.text,
        "mask": masks.mask,
        "filter": masks.filter,
        "receipts": receipts.map(Path::to_path_buf).and_then(text),
    });
    #[cfg(feature = "s3")]
    if let (Some(map), Some(s3)) = (extra.as_object_mut(), global.s3.to_json()) {
        map.insert("s3".into(), s3);
    }
    extra
}

/// What the user says now goes before what was said then.
fn recall(global: &mut Global, extra: &Value) {
    let texts = |name: &str| -> Vec<String> {
        let all = extra.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if global.identity.is_empty() {
        global.identity = texts("identity").into_iter().map(PathBuf::from).collect();
    }
    if global.host_key.is_empty() {
        global.host_key = texts("host_key");
    }
    if global.certificate.is_empty() {
        global.certificate = texts("certificate");
    }
    #[cfg(feature = "s3")]
    if let Some(s3) = extra.get("s3") {
        global.s3.recall(s3);
    }
    if global.limit_requests.0.is_none() {
        let number = extra.get("limit_requests").and_then(Value::as_u64);
        global.limit_requests.0 = number.and_then(|n| u32::try_from(n).ok()).and_then(NonZeroU32::new);
    }
    if global.known_hosts.is_none() {
        global.known_hosts = extra.get("known_hosts").and_then(Value::as_str).map(PathBuf::from);
    }
}

/// Throws away what the target keeps for a job. Errors: those of reaching it.
pub(super) async fn throw_away(cx: &mut Context, jobs: &Jobs, id: &str) -> Result<()> {
    let unfinished = jobs.unfinished(id)?;
    if unfinished.is_empty() {
        return Ok(());
    }
    let listed = jobs.list()?.into_iter().find(|j| j.id == id);
    let Some(spec) = listed.and_then(|j| j.spec) else { return Err(ErrorKind::NotFound.into()) };
    recall(cx.places.global_mut(), &spec.extra);
    let mut places = vec![open(cx, &spec.target).await?];
    if sync_jobs::goes_both_ways(&spec) {
        // Only places that are reached over a network keep unfinished uploads.
        places.push(open(cx, &spec.source).await?);
        places.retain(|place| place.remote);
    }
    for (to, words) in unfinished {
        let mut thrown = Err(Error::new(ErrorKind::NotFound).with_detail("its target is not known any more"));
        for place in &places {
            // What one place does not know may be the other's.
            let done = crate::batch::throw_away(&place.fs, &to, Arc::clone(&words)).await;
            thrown = if thrown.is_ok() { thrown } else { done };
        }
        thrown?;
    }
    Ok(())
}

/// The one job that was interrupted.
fn only(jobs: &Jobs) -> Result<String> {
    let all = jobs.list()?;
    let mut interrupted = all.into_iter().filter(|j| j.standing == Standing::Interrupted);
    match (interrupted.next(), interrupted.next()) {
        (Some(one), None) => Ok(one.id),
        (None, _) => Err(Error::new(ErrorKind::NotFound).with_detail("no job was interrupted")),
        (Some(_), Some(_)) => Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("several jobs were interrupted")
            .with_hint("name one of those that 'ferry jobs' lists")),
    }
}

pub(super) async fn resume(cx: &mut Context, a: &Resume) -> Result<()> {
    let jobs = Jobs::of_user()?;
    let id = match &a.job {
        Some(id) => id.clone(),
        None => only(&jobs)?,
    };
    let (mut spec, journal) = jobs.take_up(&id)?;
    let text = |name: &str| spec.extra.get(name).and_then(Value::as_str).map(str::to_owned);
    let masks = Masks { text: text("ascii_mask"), mask: text("mask"), filter: text("filter") };
    spec.options = masks.put_into(spec.options)?;
    recall(cx.places.global_mut(), &spec.extra);
    let kept = Kept { jobs, id, journal, taken_up: true };
    if sync_jobs::has_list(&spec) {
        return sync_jobs::go_on(cx, kept, spec).await;
    }
    let source = open(cx, &spec.source).await?;
    let target = open(cx, &spec.target).await?;
    let receipts = spec.extra.get("receipts").and_then(Value::as_str).map(PathBuf::from);
    run(cx, Work { source: source.fs, target: target.fs, spec, receipts, looked: None }, Some(kept)).await
}

async fn open(cx: &mut Context, side: &Side) -> Result<Place> {
    match side {
        Side::Local => cx.places.open("/").await,
        Side::Remote(url) => cx.places.open_remote((**url).clone()).await,
    }
}
