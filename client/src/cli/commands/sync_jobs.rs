//! `sync` and `apply` as jobs: the list of what is to be done is kept beside the journal, and `ferry resume` goes on
//! with it after a kill.
//!
//! Only lists that are whole and go one way: what goes both ways by a state is decided anew each time, and that is
//! what the state is for.

use std::fs::OpenOptions;
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use session_core::batch::TransferOptions;
use session_core::error::{Error, ErrorKind, Result};

use super::Context;
use super::resume::extra;
use super::sync::{attended, blocking, open, tell, what};
use super::transfer::{Kept, Masks, Receipts, note_stop, tally};
use crate::batch::Job;
use crate::cli::places::Place;
use crate::jobs::Spec;
use crate::live::{Live as _, What};
use crate::sync::plan::{self, Header};
use crate::sync::{Check, Differences, Direction, Runner, Side, SyncOptions, SyncReport};

/// The commands whose jobs have a list.
pub(super) const SYNC: &str = "sync";
pub(super) const APPLY: &str = "apply";

/// A list to be done, as it is kept.
pub(super) struct Listed<'a> {
    pub(super) command: &'static str,
    pub(super) header: &'a Header,
    pub(super) places: &'a (Place, Place),
    pub(super) options: &'a TransferOptions,
    pub(super) receipts: Option<&'a Path>,
}

impl Listed<'_> {
    /// A journal for the list, where it may have one and it can be written; else the user is told.
    pub(super) fn keep(&self, cx: &Context, found: &Differences) -> Option<Kept> {
        let Direction::To(side) = self.header.direction else { return None };
        // A mask of texts is code and is not written down.
        let writable = self.options.text.is_none() && found.base.is_none();
        if found.items.is_empty() || !found.is_complete() || !writable {
            return None;
        }
        let (source, target) = match side {
            Side::Left => (&self.places.1, &self.places.0),
            Side::Right => (&self.places.0, &self.places.1),
        };
        let receipts = self.receipts.and_then(|file| std::path::absolute(file).ok());
        let spec = Spec {
            command: self.command.to_owned(),
            source: source.side.clone(),
            target: target.side.clone(),
            jobs: vec![Job { from: source.path.clone(), to: target.path.clone() }],
            options: self.options.clone(),
            extra: extra(&cx.global, receipts.as_deref(), &Masks::default()),
        };
        let write = |kept: &Kept| tokio::task::block_in_place(|| self.write(&kept.list(), found));
        Kept::anew(cx, &spec, write)
    }

    fn write(&self, file: &Path, found: &Differences) -> Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        let mut out = BufWriter::new(file);
        plan::write(&mut out, self.header, found)?;
        out.flush()?;
        Ok(out.get_ref().sync_data()?)
    }
}

/// Applies a list, with its journal if it has one.
pub(super) async fn apply(
    cx: &Context,
    runner: &Arc<Runner>,
    what: What,
    direction: Direction,
    found: Differences,
    kept: Option<Kept>,
    receipts: Option<&Path>,
) -> Result<SyncReport> {
    let receipts = receipts.map(Receipts::open).transpose()?;
    if let Some(receipts) = &receipts {
        runner.observe(&(Arc::clone(receipts) as _));
    }
    let ticking = kept.as_ref().map(|kept| {
        runner.keep_journal(&kept.journal);
        let (runner, journal) = (Arc::clone(runner), Arc::clone(&kept.journal));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                journal.progress(tally(&runner.progress(), 0)).await;
            }
        })
    });
    let job = kept.as_ref().map(|kept| kept.id.clone());
    let run = runner.apply(found);
    let attended = attended(cx, runner, direction, what, job, run).await;
    if let Some(ticking) = ticking {
        ticking.abort();
    }
    let (mut report, stopped) = attended?;
    note_stop(stopped, &mut report.failures);
    report.failures.extend(receipts.and_then(|receipts| receipts.failure()));
    if let Some(kept) = kept {
        // Whoever ended it, it can be gone on with.
        let stopped = report.failures.iter().any(|e| e.kind() == ErrorKind::Canceled);
        kept.journal.progress(tally(&runner.progress(), report.failures.len() as u64)).await;
        let id = kept.id.clone();
        kept.end(report.is_success(), report.elapsed, stopped).await;
        if stopped && !cx.global.quiet && !cx.global.json {
            eprintln!("go on with: ferry resume {id}");
        }
    }
    Ok(report)
}

/// Whether a job has a list.
pub(super) fn has_list(spec: &Spec) -> bool {
    [SYNC, APPLY].contains(&spec.command.as_str())
}

/// Goes on with a job that was taken up.
pub(super) async fn go_on(cx: &mut Context, kept: Kept, spec: Spec) -> Result<()> {
    let file = kept.list();
    let read = blocking(move || plan::read(BufReader::new(std::fs::File::open(file)?))).await;
    let (header, found) = read.map_err(|e| {
        Error::new(ErrorKind::Corrupt)
            .with_detail(format!("the list of the job '{}' is not whole", kept.id))
            .with_hint("it was killed before it did anything: begin anew, and 'ferry jobs forget' it")
            .with_source(e)
    })?;
    let (sides, _) = open(cx, &header.left, &header.right).await?;
    let options = SyncOptions {
        direction: header.direction,
        backup_dir: header.backup_dir,
        transfer: spec.options,
        ..SyncOptions::default()
    };
    let check = if spec.command == APPLY { Check::Both } else { Check::Target };
    let runner = Runner::new(sides, options, cx.places.decider(), check)?;
    let what = what(&spec.command, &header.left, &header.right, header.direction);
    let receipts = spec.extra.get("receipts").and_then(Value::as_str).map(PathBuf::from);
    let direction = header.direction;
    let report = apply(cx, &runner, what, direction, found, Some(kept), receipts.as_deref()).await?;
    tell(cx, &report, false);
    Ok(())
}
