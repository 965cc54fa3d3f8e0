//! `get`, `put` and `cp`: one engine.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use session_core::batch::{
    Candidate, Ended, ItemOutcome, NameCase, Observer, Overwrite, Progress, Resume, Selection, TransferItem,
    TransferOptions, TransferReport, Verify,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::gate::SessionFs;
use session_core::path::VPath;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Context, stream};
use crate::batch::{Batch, Job, Limiter};
use crate::cli::args::{NameCaseArg, OverwriteArg, Transfer};
use crate::cli::exit;
use crate::cli::lines;
use crate::cli::places::Place;
use crate::cli::progress::Drawn;
use crate::cli::render::{Out, error_json, files, left_alone, size, warn};
use crate::jobs::{Jobs, Spec};
use crate::journal::{Journal, Tally};
use crate::live::{Live, What};
use crate::mask::{FileMask, Filter};

/// A job that was done in less time leaves nothing to list.
const SHORT: Duration = Duration::from_secs(10);

/// The command of a job that removes what it has copied.
const MOVE: &str = "mv";

/// Which command it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Copy,
    Get,
    Put,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Copy => "cp",
            Kind::Get => "get",
            Kind::Put => "put",
        }
    }
}

static RUNNING: AtomicBool = AtomicBool::new(false);

/// While it lives, the command takes Ctrl-C itself: every one from its beginning on, looked for or not.
pub(super) struct Running(Signal);

impl Running {
    /// Errors: those of the system, which has no room for a signal.
    pub(super) fn begin() -> Result<Self> {
        let interrupts = signal(SignalKind::interrupt())?;
        RUNNING.store(true, Ordering::SeqCst);
        Ok(Running(interrupts))
    }

    /// The next Ctrl-C. Cancel: none is lost.
    pub(super) async fn interrupted(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
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
    match kind {
        Kind::Put if sources == [stream::DASH] => return stream::put(cx, a, target).await,
        Kind::Get if target == stream::DASH => return stream::get(cx, a, sources).await,
        _ => {}
    }
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
    // Whoever was told what is there, or that nothing is, sees what is in the directory.
    let looked = match &existing {
        Ok(m) if m.is_dir() => Some(target.path.clone()),
        Ok(_) => target.path.parent(),
        Err(e) if e.kind() == ErrorKind::NotFound => target.path.parent(),
        Err(_) => None,
    };
    if (opened.len() > 1 || target.slash) && !is_dir {
        return Err(Error::new(ErrorKind::NotADirectory)
            .with_detail(format!("'{}' is not a directory", target.shown))
            .with_hint("make it with 'ferry mkdir'"));
    }
    let masks = Masks {
        text: a.ascii_mask.clone(),
        mask: a.mask.clone(),
        filter: a.filter_from.as_deref().map(super::sync::filter_text).transpose()?,
    };
    let options = masks.put_into(options(a, cx.global.reconnect))?;
    let receipts = match &a.proving.receipts {
        Some(file) => Some(std::path::absolute(file)?),
        None => None,
    };
    for (_, group) in groups(opened) {
        let Some(first) = group.first() else { continue };
        let mut jobs = Vec::new();
        for source in &group {
            let to = if is_dir {
                target.path.join(options.name_case.apply(name(source)?))?
            } else {
                target.path.clone()
            };
            if source.key == target.key && to.starts_with(&source.path) {
                cx.complain(
                    &Error::new(ErrorKind::InvalidArgument)
                        .with_detail(format!("'{}' cannot be copied onto or into itself", source.shown)),
                );
                continue;
            }
            jobs.push(Job { from: source.path.clone(), to });
        }
        if jobs.is_empty() {
            continue;
        }
        if a.dry_run {
            let options = TransferOptions { details: true, ..options.clone() };
            let batch = Batch::new(first.fs.clone(), target.fs.clone(), options, cx.places.decider());
            batch.rehearse();
            let report = batch.run(jobs).await;
            tell(cx, &report, true);
            continue;
        }
        let spec = Spec {
            command: kind.name().to_owned(),
            source: first.side.clone(),
            target: target.side.clone(),
            jobs,
            options: options.clone(),
            extra: super::resume::extra(&cx.global, receipts.as_deref(), &masks),
        };
        // What is appended cannot be told from what was there: a second run could append it twice.
        let once = a.no_journal || options.overwrite == Overwrite::Append;
        let journal = if once { None } else { Kept::begin(cx, &spec) };
        let work = Work {
            source: first.fs.clone(),
            target: target.fs.clone(),
            spec,
            receipts: receipts.clone(),
            looked: looked.clone(),
        };
        run(cx, work, journal).await?;
    }
    Ok(())
}

/// A batch to be run.
pub(super) struct Work {
    pub(super) source: SessionFs,
    pub(super) target: SessionFs,
    pub(super) spec: Spec,
    pub(super) receipts: Option<PathBuf>,
    /// A directory of the target in which the account is known to see what is there.
    pub(super) looked: Option<VPath>,
}

/// The journal of a batch, with the job's name.
pub(super) struct Kept {
    pub(super) jobs: Jobs,
    pub(super) id: String,
    pub(super) journal: Arc<Journal>,
    /// It was there before: also a short job is kept when it is done.
    pub(super) taken_up: bool,
}

impl Kept {
    /// A journal for a new job; without one the transfer works all the same, and the user is told. Where an
    /// earlier run of just this job has left unfinished uploads, which nothing but its journal knows, it is gone
    /// on with.
    fn begin(cx: &Context, spec: &Spec) -> Option<Self> {
        let made = Jobs::of_user().and_then(|jobs| {
            let again = if spec.options.resume != Resume::Off { jobs.like(spec)? } else { None };
            if let Some(id) = again
                // Another process may have been faster.
                && let Ok((_, journal)) = jobs.take_up(&id)
            {
                if !cx.global.quiet && !cx.global.json {
                    eprintln!("going on with the job {id}, which was interrupted");
                }
                return Ok(Kept { jobs, id, journal, taken_up: true });
            }
            let (id, journal) = jobs.create(spec)?;
            Ok(Kept { jobs, id, journal, taken_up: false })
        });
        Self::made(cx, made)
    }

    /// A journal for a job that is new in any case, with what `write` puts beside it; without one the job works all
    /// the same, and the user is told.
    pub(super) fn anew(cx: &Context, spec: &Spec, write: impl FnOnce(&Self) -> Result<()>) -> Option<Self> {
        let made = Jobs::of_user().and_then(|jobs| {
            let (id, journal) = jobs.create(spec)?;
            let kept = Kept { jobs, id, journal, taken_up: false };
            write(&kept)?;
            Ok(kept)
        });
        Self::made(cx, made)
    }

    /// Where the list of the job stands.
    pub(super) fn list(&self) -> PathBuf {
        self.jobs.list_of(&self.id)
    }

    /// Where what the job will save of both sides stands.
    pub(super) fn base(&self) -> PathBuf {
        self.jobs.base_of(&self.id)
    }

    /// What was made; the user is told why it was not.
    fn made(cx: &Context, made: Result<Self>) -> Option<Self> {
        match made {
            Ok(kept) => Some(kept),
            Err(e) => {
                if !cx.global.quiet && !cx.global.json {
                    warn(&format!("{e}: what is interrupted cannot be continued with 'ferry resume'"), false);
                }
                None
            }
        }
    }

    /// The job is over: kept for a while if it took long or did not end well, else forgotten at once.
    pub(super) async fn end(self, success: bool, elapsed: Duration, stopped: bool) {
        if stopped {
            // Who stopped it may want to go on with it: it is interrupted.
            self.journal.leave().await;
        } else if !success {
            self.journal.end("failed").await;
        } else if self.taken_up || elapsed >= SHORT {
            self.journal.end("done").await;
        } else {
            self.journal.discard().await;
            let _ = self.jobs.forget(&self.id);
            return;
        }
        self.jobs.sweep();
    }
}

/// Appends each receipt to a file, in one write, so that what is there is whole. The first that cannot be written
/// is the last that is tried: a file with gaps tells nothing.
pub(super) struct Receipts {
    path: PathBuf,
    file: Mutex<std::result::Result<File, Error>>,
}

impl Receipts {
    pub(super) fn open(path: &Path) -> Result<Arc<Self>> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|e| unwritten(path, e))?;
        Ok(Arc::new(Receipts { path: path.to_owned(), file: Mutex::new(Ok(file)) }))
    }

    /// Why not every receipt was written.
    pub(super) fn failure(&self) -> Option<Error> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).as_ref().err().cloned()
    }
}

fn unwritten(path: &Path, e: std::io::Error) -> Error {
    let words = format!("the receipts '{}' cannot be written", path.display());
    Error::from(e).with_detail(words)
}

impl Observer for Receipts {
    fn ended(&self, _: &TransferItem, ended: Ended<'_>) {
        if let Ended::Moved(receipt) = ended {
            let line = format!("{}\n", receipt.to_json());
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let written = file.as_mut().map(|file| file.write_all(line.as_bytes()));
            if let Ok(Err(e)) = written {
                *file = Err(unwritten(&self.path, e));
            }
        }
    }
}

/// What a job is, for who looks.
pub(super) fn what(spec: &Spec) -> What {
    let first = spec.jobs.first();
    let place = |side: String, path: Option<String>| format!("{side}{}", path.unwrap_or_default());
    let more = match spec.jobs.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    What {
        command: spec.command.clone(),
        source: format!("{}{more}", place(spec.source.shown(), first.map(|j| j.from.display()))),
        target: place(spec.target.shown(), first.map(|j| j.to.display())),
    }
}

/// A batch that others may ask for. What they end is left to be taken up, as after Ctrl-C.
struct Transferring {
    batch: Arc<Batch>,
    killed: CancellationToken,
}

impl Live for Transferring {
    fn progress(&self) -> Progress {
        self.batch.tracker().progress()
    }

    fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(self.batch.limiter())
    }

    fn stop(&self) {
        self.killed.cancel();
    }
}

/// Runs a batch with bar, journal and receipts, and tells how it went.
pub(super) async fn run(cx: &mut Context, work: Work, journal: Option<Kept>) -> Result<()> {
    let what = what(&work.spec);
    let options = TransferOptions { details: cx.global.json, ..work.spec.options };
    let batch = Batch::new(work.source, work.target, options, cx.places.decider());
    if let Some(dir) = work.looked {
        batch.has_seen(dir);
    }
    let receipts = work.receipts.as_deref().map(Receipts::open).transpose()?;
    if let Some(receipts) = &receipts {
        batch.observe(Arc::<Receipts>::clone(receipts));
    }
    let ticking = journal.as_ref().map(|kept| {
        batch.keep_journal(Arc::clone(&kept.journal));
        let (tracker, journal) = (Arc::clone(batch.tracker()), Arc::clone(&kept.journal));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                journal.progress(tally(&tracker.progress(), 0)).await;
            }
        })
    });
    let drawn = Drawn::new(batch.tracker(), !cx.global.quiet && !cx.global.json);
    let mut running = Running::begin()?;
    let mut stopped = false;
    let killed = CancellationToken::new();
    let live = Arc::new(Transferring { batch: Arc::clone(&batch), killed: killed.clone() });
    let registered = cx.enter(journal.as_ref().map(|kept| kept.id.clone()), what, live);
    let mut report = {
        let jobs = work.spec.jobs;
        let run = async {
            match work.spec.command == MOVE {
                true => batch.run_move(jobs).await,
                false => batch.run(jobs).await,
            }
        };
        tokio::pin!(run);
        loop {
            tokio::select! {
                report = &mut run => break report,
                () = running.interrupted(), if !stopped => stopped = true,
                () = killed.cancelled(), if !stopped => stopped = true,
            }
            batch.cancel();
        }
    };
    drop(running);
    drop(drawn);
    if let Some(ticking) = ticking {
        ticking.abort();
    }
    note_stop(stopped, &mut report.failures);
    report.failures.extend(receipts.and_then(|receipts| receipts.failure()));
    let mut job = None;
    if let Some(kept) = journal {
        let mut told = tally(&batch.tracker().progress(), report.failures.len() as u64);
        // The tracker counts what is over, however it ended.
        told.files_done = (report.counts.done + report.counts.skipped).min(told.files_total);
        kept.journal.progress(told).await;
        if kept.journal.is_broken() && !cx.global.quiet {
            warn("the journal could not be written to its end", cx.global.json);
        }
        job = stopped.then(|| kept.id.clone());
        kept.end(report.is_success(), report.elapsed, stopped).await;
    }
    // Whoever ended it may take it up from here on.
    drop(registered);
    tell(cx, &report, false);
    if let Some(id) = job
        && !cx.global.quiet
        && !cx.global.json
    {
        eprintln!("go on with: ferry resume {id}");
    }
    Ok(())
}

/// What was ended before its end says so, whatever else has failed.
pub(super) fn note_stop(stopped: bool, failures: &mut Vec<Error>) {
    if stopped && !failures.iter().any(|e| e.kind() == ErrorKind::Canceled) {
        failures.push(ErrorKind::Canceled.into());
    }
}

/// Moves a directory within a store that cannot rename it, as a job.
pub(super) async fn move_dir(cx: &mut Context, source: &Place, to: VPath, no_clobber: bool) -> Result<()> {
    let spec = Spec {
        command: MOVE.to_owned(),
        source: source.side.clone(),
        target: source.side.clone(),
        jobs: vec![Job { from: source.path.clone(), to }],
        options: TransferOptions {
            overwrite: if no_clobber { Overwrite::Never } else { Overwrite::Always },
            recursive: true,
            verify: Verify::Size,
            reconnect: Duration::from_secs(cx.global.reconnect),
            ..TransferOptions::default()
        },
        extra: super::resume::extra(&cx.global, None, &Masks::default()),
    };
    let journal = Kept::begin(cx, &spec);
    run(
        cx,
        Work { source: source.fs.clone(), target: source.fs.clone(), spec, receipts: None, looked: None },
        journal,
    )
    .await
}

/// The job that did not come to its end in moving the source to one of these.
pub(super) fn interrupted_move(source: &Place, to: [&VPath; 2]) -> Option<String> {
    let jobs = Jobs::of_user().and_then(|jobs| jobs.list()).ok()?;
    let is_it = |spec: &Spec| {
        spec.command == MOVE
            && spec.source.is(&source.side)
            && spec.jobs.iter().any(|j| j.from == source.path && to.contains(&&j.to))
    };
    let found = jobs.into_iter().find(|j| j.standing.is_unfinished() && j.spec.as_ref().is_some_and(is_it));
    found.map(|j| j.id)
}

pub(super) fn tally(p: &Progress, failed: u64) -> Tally {
    Tally {
        files_done: p.files_done,
        files_total: p.files_total,
        bytes_done: p.bytes_done,
        bytes_total: p.bytes_total,
        failed,
    }
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

/// What a transfer selects by, as it was written, so that a job can be taken up with it.
#[derive(Default)]
pub(super) struct Masks {
    /// What is text.
    pub(super) text: Option<String>,
    /// What takes part.
    pub(super) mask: Option<String>,
    /// What takes part, too: the text of a filter file.
    pub(super) filter: Option<String>,
}

impl Masks {
    /// Options with these selections. Errors: `InvalidArgument` for what makes no sense.
    pub(super) fn put_into(&self, options: TransferOptions) -> Result<TransferOptions> {
        let mask = |text: &Option<String>| -> Result<Option<Selection>> {
            Ok(text.as_deref().map(FileMask::parse).transpose()?.map(FileMask::selection))
        };
        let filter = self.filter.as_deref().map(Filter::parse).transpose()?.map(Filter::selection);
        let selection = match (mask(&self.mask)?, filter) {
            (Some(mask), Some(filter)) => {
                Some(Selection::new(move |c: &Candidate<'_>| mask.0.takes(c) && filter.0.takes(c)))
            }
            (one, other) => one.or(other),
        };
        Ok(TransferOptions { text: mask(&self.text)?, selection, ..options })
    }
}

pub(super) fn options(a: &Transfer, reconnect: u64) -> TransferOptions {
    TransferOptions {
        overwrite: match a.overwrite {
            OverwriteArg::Append => Overwrite::Append,
            OverwriteArg::Resume => Overwrite::Continue,
            OverwriteArg::Always => Overwrite::Always,
            OverwriteArg::Ask => Overwrite::Ask,
            OverwriteArg::Newer => Overwrite::Newer,
            OverwriteArg::Never => Overwrite::Never,
        },
        resume: match (a.no_resume, a.ask_resume) {
            (true, _) => Resume::Off,
            (_, true) => Resume::Ask,
            _ => Resume::Auto,
        },
        preserve_times: !a.no_times,
        preserve_modes: !a.no_modes,
        temporary_names: !a.no_temporary,
        temporary_from: a.temporary_from,
        directory_times: !a.no_directory_times,
        permissions: a.permissions,
        ignore_attribute_errors: a.ignore_attribute_errors,
        follow_links: a.follow_links,
        exclude_hidden: a.exclude_hidden,
        exclude_empty_directories: a.exclude_empty_directories,
        name_case: match a.name_case {
            NameCaseArg::Keep => NameCase::Keep,
            NameCaseArg::Upper => NameCase::Upper,
            NameCaseArg::Lower => NameCase::Lower,
            NameCaseArg::FirstUpper => NameCase::FirstUpper,
            NameCaseArg::LowerShort => NameCase::LowerShort,
        },
        recursive: a.recursive,
        parallel: usize::from(a.parallel),
        segments: usize::from(a.segments),
        segment_size: a.segment_size,
        limit: a.limit.rate,
        timetable: a.limit.timetable.clone(),
        verify: a.proving.verify.into(),
        digest: a.proving.digest,
        fail_fast: a.fail_fast,
        reconnect: Duration::from_secs(reconnect),
        ..TransferOptions::default()
    }
}

/// Bytes per second.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shown to people"
)]
pub(super) fn rate(bytes: u64, elapsed: Duration) -> u64 {
    (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}

/// Tells what was done, or would be.
fn tell(cx: &mut Context, report: &TransferReport, dry_run: bool) {
    let mut out = Out::new();
    if cx.global.json {
        for (item, outcome) in report.items.iter().filter(|(i, _)| !i.directory) {
            let mut v = json!({
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
            out.json(&lines::ITEM, lines::rehearsed(v, dry_run));
        }
        for (target, words) in &report.notes {
            out.json(&lines::ITEM_NOTE, json!({ "target": target.display(), "words": words }));
        }
        let summary = json!({
                "done": report.done(),
                "skipped": report.skipped(),
                "failed": report.failures.len(),
                "verified": report.counts.verified,
                "bytes": report.bytes(),
                "seconds": report.elapsed.as_secs_f64(),
                "failures": report.failures.iter().map(error_json).collect::<Vec<_>>(),
        });
        out.json(&lines::TRANSFERRED, lines::rehearsed(summary, dry_run));
    } else if !cx.global.quiet {
        let skipped = report.items.iter().filter_map(|(item, outcome)| match outcome {
            ItemOutcome::Skipped(why) => Some((&item.source, *why)),
            ItemOutcome::Done(_) | ItemOutcome::Failed(_) => None,
        });
        left_alone(skipped).iter().for_each(|line| out.line(line));
        for (target, words) in &report.notes {
            out.line(&format!("note: '{target}': {words}"));
        }
        let mut line = if dry_run {
            for (item, bytes) in report.items.iter().filter_map(|(item, outcome)| match outcome {
                ItemOutcome::Done(bytes) => Some((item, *bytes)),
                ItemOutcome::Skipped(_) | ItemOutcome::Failed(_) => None,
            }) {
                out.line(&format!("would copy '{}' to '{}' ({})", item.source, item.target, size(bytes)));
            }
            format!("{} to copy, {}", files(report.counts.done), size(report.bytes()))
        } else {
            let rate = rate(report.bytes(), report.elapsed);
            format!("{}, {}, {}/s", files(report.counts.done), size(report.bytes()), size(rate))
        };
        if report.counts.verified > 0 {
            line.push_str(&format!(", {} verified", report.counts.verified));
        }
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
    cx.failed = exit::of_run(&report.failures, report.done() == 0).or(cx.failed);
}
