//! `sync`, `plan`, `apply` and `diff`.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use session_core::batch::{Resume, TransferOptions};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::{VPath, display_bytes};

use super::sync_jobs::{self, APPLY, Listed, Run, SYNC};
use super::{Context, transfer};
use crate::cli::exit;
use crate::cli::lines;
use crate::cli::places::Place;
use crate::cli::progress::Drawn;
use crate::cli::render::{Out, complain, error_json, files, left_alone, size};
use crate::cli::sync_args::{self, Alike, Apply, CaseArg, Comparison, Copying, Diff, Sync};
use crate::live::{Live, What};
use crate::mask::{FileMask, Filter};
use crate::sync::plan::{self, Header, Plan, difference_json};
use crate::sync::{
    Action, BaseFile, CaseRule, Check, Difference, Differences, Direction, MaxDelete, Note, Operation,
    Outcome, Runner, Side, Sides, SyncOptions, SyncReport, compare,
};

pub(super) async fn sync(cx: &mut Context, a: &Sync) -> Result<()> {
    let (sides, places) = open(cx, &a.left, &a.right).await?;
    let mut options = options(cx, &a.alike, &places).await?;
    options.transfer = transfer_options(&a.copying);
    options.make_root = true;
    options.conflict = a.conflict.into();
    let state = match &a.state {
        Some(path) => {
            let (path, left, right) = (path.clone(), reopened(&places.0), reopened(&places.1));
            let opened = blocking(move || BaseFile::open(&path, &left, &right)).await?;
            options.base = Some(Arc::new(opened.1));
            options.check()?;
            Some(opened.0)
        }
        None => None,
    };
    if a.dry_run {
        let found = compare(&sides, &options).await?;
        show(cx, &found, false);
        return Ok(());
    }
    let header = Header {
        left: reopened(&places.0),
        right: reopened(&places.1),
        direction: options.direction,
        backup_dir: options.backup_dir.clone(),
    };
    let (direction, transfer) = (options.direction, options.transfer.clone());
    let runner = Runner::new(sides, options, cx.places.decider(), Check::Target)?;
    let what = what(SYNC, &header.left, &header.right, direction);
    let began = Instant::now();
    let found = attended(cx, &runner, direction, what.clone(), None, runner.compare()).await?.0?;
    let receipts = a.copying.proving.receipts.as_deref();
    let listed = Listed {
        command: SYNC,
        header: &header,
        places: &places,
        options: &transfer,
        text: a.copying.ascii_mask.as_ref(),
        receipts,
        state: state.as_ref(),
    };
    let kept = if a.no_journal { None } else { listed.keep(cx, &found) };
    let run = Run { what, direction, found, kept, state, receipts };
    let mut report = sync_jobs::apply(cx, &runner, run).await?;
    report.elapsed = began.elapsed();
    tell(cx, &report, false);
    Ok(())
}

pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(|_| ErrorKind::Internal)?
}

pub(super) async fn plan(cx: &mut Context, a: &sync_args::Plan) -> Result<()> {
    let (sides, places) = open(cx, &a.left, &a.right).await?;
    let mut options = options(cx, &a.alike, &places).await?;
    options.make_root = true;
    let found = compare(&sides, &options).await?;
    let header = Header {
        left: reopened(&places.0),
        right: reopened(&places.1),
        direction: options.direction,
        backup_dir: options.backup_dir,
    };
    let mut text = Vec::new();
    plan::write(&mut text, &header, &found)?;
    let mut out = Out::new();
    out.raw(&text);
    out.flush();
    if !cx.global.quiet {
        eprintln!("{}", summary_of(&found));
        for line in notes_lines(&found.notes) {
            eprintln!("{line}");
        }
    }
    failures(cx, &found.failures, false);
    Ok(())
}

pub(super) async fn apply(cx: &mut Context, a: &Apply) -> Result<()> {
    let input: Box<dyn Read + Send> = if a.plan.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(&a.plan)?)
    };
    let Plan { header, differences: found, .. } = blocking(move || plan::read(BufReader::new(input))).await?;
    let (sides, places) = open(cx, &header.left, &header.right).await?;
    let transfer = transfer_options(&a.copying);
    let options = SyncOptions {
        direction: header.direction,
        backup_dir: header.backup_dir.clone(),
        transfer: transfer.clone(),
        ..SyncOptions::default()
    };
    let runner = Runner::new(sides, options, cx.places.decider(), Check::Both)?;
    if a.dry_run {
        let report = runner.rehearse(found).await;
        tell(cx, &report, true);
        return Ok(());
    }
    let what = what(APPLY, &header.left, &header.right, header.direction);
    let receipts = a.copying.proving.receipts.as_deref();
    let listed = Listed {
        command: APPLY,
        header: &header,
        places: &places,
        options: &transfer,
        text: a.copying.ascii_mask.as_ref(),
        receipts,
        state: None,
    };
    let kept = if a.no_journal { None } else { listed.keep(cx, &found) };
    let run = Run { what, direction: header.direction, found, kept, state: None, receipts };
    let report = sync_jobs::apply(cx, &runner, run).await?;
    tell(cx, &report, false);
    Ok(())
}

pub(super) async fn diff(cx: &mut Context, a: &Diff) -> Result<()> {
    let (sides, _) = open(cx, &a.left, &a.right).await?;
    // A mirror with everything allowed has each difference once.
    let options = SyncOptions {
        criteria: a.criteria,
        delete: true,
        mirror: true,
        max_delete: MaxDelete::Unlimited,
        collapse: true,
        ..compared(&a.comparison)?
    };
    let found = compare(&sides, &options).await?;
    show(cx, &found, true);
    if !found.items.is_empty() && cx.failed.is_none() {
        cx.failed = Some(exit::DIFFERENT);
    }
    Ok(())
}

pub(super) async fn open(cx: &mut Context, left: &str, right: &str) -> Result<(Sides, (Place, Place))> {
    let left = cx.places.open(left).await?;
    let right = cx.places.open(right).await?;
    if left.key == right.key && (left.path.starts_with(&right.path) || right.path.starts_with(&left.path)) {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{}' and '{}' overlap", left.shown, right.shown)));
    }
    let sides = Sides::new((left.fs.clone(), left.path.clone()), (right.fs.clone(), right.path.clone()));
    Ok((sides, (left, right)))
}

/// How a place is named so that it is found again from anywhere.
pub(super) fn reopened(place: &Place) -> String {
    if place.remote {
        place.shown.clone()
    } else {
        String::from_utf8_lossy(place.path.as_bytes()).into_owned()
    }
}

/// What stands in a filter file.
pub(super) fn filter_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let words = format!("the filter file '{}' cannot be read: {e}", path.display());
        Error::from(e).with_detail(words)
    })
}

fn compared(c: &Comparison) -> Result<SyncOptions> {
    let filter = match &c.filter_from {
        Some(path) => Some(Filter::parse(&filter_text(path)?)?),
        None => None,
    };
    Ok(SyncOptions {
        mask: c.mask.clone(),
        filter,
        case: match c.case {
            CaseArg::Auto => CaseRule::Auto,
            CaseArg::Ignore => CaseRule::Ignore,
            CaseArg::Tell => CaseRule::Tell,
        },
        shift: c.time_shift,
        ignore_hour: c.ignore_dst,
        ..SyncOptions::default()
    })
}

pub(super) async fn options(cx: &mut Context, a: &Alike, places: &(Place, Place)) -> Result<SyncOptions> {
    let direction = Direction::from(a.direction);
    let backup_dir = match (&a.backup_dir, direction) {
        (None, _) => None,
        (Some(dir), Direction::To(side)) => {
            let target = if side == Side::Left { &places.0 } else { &places.1 };
            Some(backup(cx, dir, target).await?)
        }
        (Some(_), Direction::Both) => {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("a backup directory is on the side that changes, and both do"));
        }
    };
    let options = SyncOptions {
        direction,
        criteria: a.criteria,
        delete: a.delete,
        mirror: a.mirror,
        existing_only: a.existing,
        max_delete: a.max_delete.unwrap_or_default(),
        marker: a.marker.clone(),
        renames: a.renames.into(),
        backup_dir,
        ..compared(&a.comparison)?
    };
    options.check()?;
    Ok(options)
}

/// The backup directory: a URL or a path of the target's side.
async fn backup(cx: &mut Context, text: &str, target: &Place) -> Result<VPath> {
    let path = if target.remote && !text.contains("://") {
        VPath::parse(&target.path.parent().unwrap_or_else(VPath::root), text.as_bytes())?
    } else {
        let place = cx.places.open(text).await?;
        if place.key != target.key {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is not on the side that changes"))
                .with_hint("give a path, or a URL of the same server"));
        }
        place.path
    };
    if target.path.starts_with(&path) {
        return Err(
            Error::new(ErrorKind::InvalidArgument).with_detail("the backup directory holds the place itself")
        );
    }
    Ok(path)
}

pub(super) fn transfer_options(a: &Copying) -> TransferOptions {
    TransferOptions {
        resume: if a.no_resume { Resume::Off } else { Resume::Auto },
        preserve_modes: !a.no_modes,
        temporary_names: !a.no_temporary,
        parallel: usize::from(a.parallel),
        limit: a.limit.rate,
        timetable: a.limit.timetable.clone(),
        verify: a.proving.verify.into(),
        digest: a.proving.digest,
        fail_fast: a.fail_fast,
        text: a.ascii_mask.clone().map(FileMask::selection),
        ..TransferOptions::default()
    }
}

/// What a run is, for who looks.
pub(super) fn what(command: &str, left: &str, right: &str, direction: Direction) -> What {
    let (source, target) = if direction == Direction::To(Side::Left) { (right, left) } else { (left, right) };
    What { command: command.into(), source: source.into(), target: target.into() }
}

/// Runs with progress drawn; the first Ctrl-C stops it in good order. Gives what came of it, and whether it was
/// stopped.
pub(super) async fn attended<T>(
    cx: &Context,
    runner: &Arc<Runner>,
    direction: Direction,
    what: What,
    job: Option<String>,
    run: impl Future<Output = T>,
) -> Result<(T, bool)> {
    let wanted = !cx.global.quiet && !cx.global.json;
    // Both ways, what goes right is drawn.
    let side = if direction == Direction::To(Side::Left) { Side::Left } else { Side::Right };
    let _drawn = Drawn::new(runner.tracker(side), wanted);
    let mut running = transfer::Running::begin()?;
    let live: Arc<dyn Live> = Arc::<Runner>::clone(runner);
    let _registered = cx.enter(job, what, live);
    tokio::pin!(run);
    let mut stopped = false;
    loop {
        tokio::select! {
            done = &mut run => return Ok((done, stopped)),
            () = running.interrupted(), if !stopped => {
                stopped = true;
                runner.cancel();
            }
        }
    }
}

/// One line of a preview.
pub(super) fn line(d: &Difference) -> String {
    let side = d.action.side();
    let slash = if d.is_dir() { "/" } else { "" };
    if let Some(old) = &d.moved {
        let (from, to) = (display_bytes(old.path(side)), display_bytes(d.path(side)));
        return format!("{:<7} {:<5} {from} to {to}", "rename", side.name());
    }
    let bytes = if matches!(d.action, Action::Delete(_)) || d.is_dir() {
        String::new()
    } else {
        format!("  ({})", size(d.bytes()))
    };
    format!("{:<7} {:<5} {}{slash}{bytes}", d.action.name(), side.name(), display_bytes(d.path(side)))
}

/// One line of `diff`: `<` only in A, `>` only in B, `!` in both.
fn diff_line(d: &Difference) -> String {
    let slash = if d.is_dir() { "/" } else { "" };
    let sign = match (&d.left, &d.right) {
        (Some(_), None) => '<',
        (None, Some(_)) => '>',
        _ => '!',
    };
    let path = display_bytes(d.path(if d.left.is_some() { Side::Left } else { Side::Right }));
    let mut text = format!("{sign} {path}{slash}");
    if let (Some(l), Some(r)) = (&d.left, &d.right) {
        let shown = |f: &crate::sync::Facts| {
            let time = f.modified.map_or_else(|| "no time".into(), session_core::event::timestamp);
            format!("{} bytes, {time}", f.size)
        };
        text.push_str(&format!("  ({} | {})", shown(l), shown(r)));
    }
    text
}

pub(super) fn note_line(note: &Note) -> String {
    format!("skipped '{}': {}", display_bytes(&note.path), note.why)
}

/// Notes as people read them; all of them are in the JSON and in a preview.
fn notes_lines(notes: &[Note]) -> Vec<String> {
    left_alone(notes.iter().map(|note| (display_bytes(&note.path), note.why)))
}

pub(super) fn note_json(note: &Note) -> Value {
    json!({ "path": String::from_utf8_lossy(&note.path), "why": note.why })
}

fn summary_of(found: &Differences) -> String {
    let count = |f: fn(&Difference) -> bool| found.items.iter().filter(|d| f(d)).count();
    let copies = count(|d| !d.is_dir() && !matches!(d.action, Action::Delete(_)) && d.moved.is_none());
    let renames = match count(|d| d.moved.is_some()) {
        0 => String::new(),
        n => format!("{n} to rename, "),
    };
    let removals = count(|d| matches!(d.action, Action::Delete(_)));
    let bytes: u64 = found.items.iter().map(Difference::bytes).sum();
    format!("{copies} files to copy, {}, {renames}{removals} to remove", size(bytes))
}

/// Shows a comparison.
fn show(cx: &mut Context, found: &Differences, as_diff: bool) {
    let mut out = Out::new();
    for d in &found.items {
        if cx.global.json {
            out.json(&lines::DIFFERENCE, difference_json(d));
        } else {
            out.line(&if as_diff { diff_line(d) } else { line(d) });
        }
    }
    for note in &found.notes {
        if cx.global.json {
            out.json(&lines::NOTE, note_json(note));
        } else if !cx.global.quiet {
            out.line(&note_line(note));
        }
    }
    if cx.global.json {
        out.json(
            &lines::COMPARED,
            json!({
                "differences": found.items.len(),
                "left": found.seen.0,
                "right": found.seen.1,
                "complete": found.is_complete(),
                "failures": found.failures.iter().map(error_json).collect::<Vec<_>>(),
            }),
        );
    } else if !cx.global.quiet && !as_diff {
        out.line(&summary_of(found));
    }
    out.flush();
    failures(cx, &found.failures, false);
}

/// An operation with its outcome, as one object.
pub(super) fn operation_json(operation: &Operation) -> Value {
    let mut v = difference_json(&operation.difference);
    if let Some(map) = v.as_object_mut() {
        match operation.outcome {
            Outcome::Done(bytes) => {
                map.insert("outcome".into(), "done".into());
                map.insert("bytes".into(), bytes.into());
            }
            Outcome::Skipped(why) => {
                map.insert("outcome".into(), "skipped".into());
                map.insert("why".into(), why.into());
            }
            Outcome::Failed(n) => {
                map.insert("outcome".into(), "failed".into());
                map.insert("failure".into(), n.into());
            }
        }
    }
    v
}

/// Tells what was done, or would be.
pub(super) fn tell(cx: &mut Context, report: &SyncReport, dry_run: bool) {
    let mut out = Out::new();
    if cx.global.json {
        for operation in &report.operations {
            out.json(&lines::OPERATION, lines::rehearsed(operation_json(operation), dry_run));
        }
        for note in &report.notes {
            out.json(&lines::NOTE, note_json(note));
        }
        let summary = json!({
                "left": report.seen.0,
                "right": report.seen.1,
                "copied_left": report.copied_to(Side::Left),
                "copied_right": report.copied_to(Side::Right),
                "moved": report.moved(),
                "removed": report.removed(),
                "skipped": report.skipped() + report.notes.len(),
                "failed": report.failures.len(),
                "bytes": report.bytes(),
                "seconds": report.elapsed.as_secs_f64(),
                "failures": report.failures.iter().map(error_json).collect::<Vec<_>>(),
        });
        out.json(&lines::ALIKE, lines::rehearsed(summary, dry_run));
    } else if !cx.global.quiet {
        notes_lines(&report.notes).iter().for_each(|line| out.line(line));
        if dry_run {
            let would = report.operations.iter().filter(|o| matches!(o.outcome, Outcome::Done(_)));
            would.for_each(|o| out.line(&line(&o.difference)));
        }
        let copied = report.copied_to(Side::Left) + report.copied_to(Side::Right);
        let done = |did: &'static str, will: &'static str| if dry_run { will } else { did };
        let mut line = format!(
            "{} {}, {}, {}{} {}",
            files(copied as u64),
            done("copied", "to copy"),
            size(report.bytes()),
            match report.moved() {
                0 => String::new(),
                n => format!("{n} {}, ", done("renamed", "to rename")),
            },
            report.removed(),
            done("removed", "to remove"),
        );
        if !dry_run {
            line.push_str(&format!(", {} compared", report.seen.0.max(report.seen.1)));
        }
        let skipped = report.skipped() + report.notes.len();
        if skipped > 0 {
            line.push_str(&format!(", {skipped} skipped"));
        }
        if !report.failures.is_empty() {
            line.push_str(&format!(", {} failed", report.failures.len()));
        }
        out.line(&line);
    }
    out.flush();
    let nothing = !report.operations.iter().any(|o| matches!(o.outcome, Outcome::Done(_)));
    if report.conflicts() > 0 {
        // Not everything was done.
        cx.failed = Some(exit::FAILED);
    }
    failures(cx, &report.failures, nothing);
}

/// Tells failures and sets the exit code.
fn failures(cx: &mut Context, failures: &[Error], nothing_done: bool) {
    if !cx.global.json {
        for e in failures {
            complain(e, false);
        }
    }
    cx.failed = exit::of_run(failures, nothing_done).or(cx.failed);
}
