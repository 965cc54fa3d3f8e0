//! `get`, `put` and `cp`: one engine.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use session_core::batch::{ItemOutcome, Overwrite, Resume, TransferOptions, TransferReport};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};

use super::Context;
use crate::batch::{Batch, Job};
use crate::cli::args::{OverwriteArg, Transfer};
use crate::cli::exit;
use crate::cli::places::Place;
use crate::cli::progress::Drawn;
use crate::cli::render::{Out, error_json, size};

/// Which command it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Copy,
    Get,
    Put,
}

static RUNNING: AtomicBool = AtomicBool::new(false);

/// While it lives, the command takes Ctrl-C itself.
pub(super) struct Running;

impl Running {
    pub(super) fn begin() -> Self {
        RUNNING.store(true, Ordering::SeqCst);
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::SeqCst);
    }
}

/// Whether a batch takes Ctrl-C itself.
pub(in crate::cli) fn is_running() -> bool {
    RUNNING.load(Ordering::SeqCst)
}

pub(super) async fn transfer(cx: &mut Context, a: &Transfer, kind: Kind) -> Result<()> {
    let (target, sources): (&str, &[String]) = match a.places.as_slice() {
        [only] if kind == Kind::Get => (".", std::slice::from_ref(only)),
        [_] => {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("a target is missing")
                .with_hint("give the sources, then the target"));
        }
        [sources @ .., target] => (target, sources),
        [] => return Ok(()),
    };
    let target = cx.places.open(target).await?;
    let mut opened = Vec::new();
    for text in sources {
        match cx.places.open(text).await {
            Ok(source) => opened.push(source),
            Err(e) => cx.complain(&e),
        }
    }
    check_sides(kind, &opened, &target)?;
    let existing = target.fs.stat(&target.path, Follow::Yes).await;
    let is_dir = match &existing {
        Ok(m) => m.is_dir(),
        // Where a user may put and not look, the one who names it knows what it is.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            target.slash || opened.len() > 1 || target.path.is_root()
        }
        Err(_) => false,
    };
    if (opened.len() > 1 || target.slash) && !is_dir {
        return Err(Error::new(ErrorKind::NotADirectory)
            .with_detail(format!("'{}' is not a directory", target.shown))
            .with_hint("make it with 'ferry mkdir'"));
    }
    let options = options(a);
    for (_, group) in groups(opened) {
        let Some(first) = group.first() else { continue };
        let mut jobs = Vec::new();
        for source in &group {
            let to = if is_dir { target.path.join(name(source)?)? } else { target.path.clone() };
            if source.key == target.key && to.starts_with(&source.path) {
                cx.complain(
                    &Error::new(ErrorKind::InvalidArgument)
                        .with_detail(format!("'{}' cannot be copied onto or into itself", source.shown)),
                );
                continue;
            }
            jobs.push(Job { from: source.path.clone(), to });
        }
        let batch = Batch::new(first.fs.clone(), target.fs.clone(), options.clone(), cx.places.decider());
        let drawn = Drawn::new(batch.tracker(), !cx.global.quiet && !cx.global.json);
        RUNNING.store(true, Ordering::SeqCst);
        let report = {
            let run = batch.run(jobs);
            tokio::pin!(run);
            let mut stopped = false;
            loop {
                tokio::select! {
                    report = &mut run => break report,
                    _ = tokio::signal::ctrl_c(), if !stopped => {
                        stopped = true;
                        batch.cancel();
                    }
                }
            }
        };
        RUNNING.store(false, Ordering::SeqCst);
        drop(drawn);
        tell(cx, &report);
    }
    Ok(())
}

fn check_sides(kind: Kind, sources: &[Place], target: &Place) -> Result<()> {
    let bad = |words: &'static str, hint: &'static str| {
        Err(Error::new(ErrorKind::InvalidArgument).with_detail(words).with_hint(hint))
    };
    match kind {
        Kind::Get if sources.iter().any(|s| !s.remote) || target.remote => {
            bad("'get' fetches from a remote to a local path", "use 'ferry cp' for any two places")
        }
        Kind::Put if sources.iter().any(|s| s.remote) || !target.remote => {
            bad("'put' sends local paths to a remote", "use 'ferry cp' for any two places")
        }
        _ => Ok(()),
    }
}

fn name(source: &Place) -> Result<&[u8]> {
    match source.path.name() {
        b"" => Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("the root has no name at the target")
            .with_hint("name a target that does not exist, to be made from it")),
        name => Ok(name),
    }
}

/// Sources by filesystem, in the order in which they were named.
fn groups(sources: Vec<Place>) -> Vec<(String, Vec<Place>)> {
    let mut groups: Vec<(String, Vec<Place>)> = Vec::new();
    for source in sources {
        match groups.iter_mut().find(|(key, _)| *key == source.key) {
            Some((_, group)) => group.push(source),
            None => groups.push((source.key.clone(), vec![source])),
        }
    }
    groups
}

fn options(a: &Transfer) -> TransferOptions {
    TransferOptions {
        overwrite: match a.overwrite {
            OverwriteArg::Always => Overwrite::Always,
            OverwriteArg::Ask => Overwrite::Ask,
            OverwriteArg::Newer => Overwrite::Newer,
            OverwriteArg::Never => Overwrite::Never,
        },
        resume: if a.no_resume { Resume::Off } else { Resume::Auto },
        preserve_times: !a.no_times,
        preserve_modes: !a.no_modes,
        temporary_names: !a.no_temporary,
        recursive: a.recursive,
        parallel: usize::from(a.parallel),
        fail_fast: a.fail_fast,
        ..TransferOptions::default()
    }
}

fn tell(cx: &mut Context, report: &TransferReport) {
    let mut out = Out::new();
    if cx.global.json {
        for (item, outcome) in report.items.iter().filter(|(i, _)| !i.directory) {
            let mut v = json!({
                "event": "item",
                "source": item.source.display(),
                "target": item.target.display(),
                "size": item.size,
            });
            if let Some(map) = v.as_object_mut() {
                match outcome {
                    ItemOutcome::Done(bytes) => {
                        map.insert("outcome".into(), "done".into());
                        map.insert("bytes".into(), (*bytes).into());
                    }
                    ItemOutcome::Skipped(why) => {
                        map.insert("outcome".into(), "skipped".into());
                        map.insert("why".into(), (*why).into());
                    }
                    ItemOutcome::Failed(n) => {
                        map.insert("outcome".into(), "failed".into());
                        map.insert("failure".into(), (*n).into());
                    }
                }
            }
            out.json(&v);
        }
        out.json(&json!({
            "event": "summary",
            "done": report.done(),
            "skipped": report.skipped(),
            "failed": report.failures.len(),
            "bytes": report.bytes(),
            "seconds": report.elapsed.as_secs_f64(),
            "failures": report.failures.iter().map(error_json).collect::<Vec<_>>(),
        }));
    } else if !cx.global.quiet {
        for (item, outcome) in &report.items {
            if let ItemOutcome::Skipped(why) = outcome {
                out.line(&format!("skipped '{}': {why}", item.source));
            }
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "shown to people"
        )]
        let rate = (report.bytes() as f64 / report.elapsed.as_secs_f64().max(0.001)) as u64;
        let mut line = format!("{} files, {}, {}/s", report.done(), size(report.bytes()), size(rate));
        if report.skipped() > 0 {
            line.push_str(&format!(", {} skipped", report.skipped()));
        }
        if !report.failures.is_empty() {
            line.push_str(&format!(", {} failed", report.failures.len()));
        }
        out.line(&line);
    }
    out.flush();
    for e in &report.failures {
        if !cx.global.json {
            crate::cli::render::complain(e, false);
        }
    }
    if let Some(first) = report.failures.first() {
        // Part of a batch: 1, unless nothing at all was done and all failed alike.
        let alike = report.done() == 0
            && report.failures.iter().all(|e| exit::of(e.kind()) == exit::of(first.kind()));
        cx.failed = Some(if alike { exit::of(first.kind()) } else { exit::FAILED });
    }
}
