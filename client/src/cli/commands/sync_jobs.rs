//! `sync` and `apply` as jobs: the list of what is to be done is kept beside the journal, and `ferry resume` goes on
//! with it after a kill.
//!
//! Where there is a state, what it will hold is kept beside the list, too: what both sides had in common when they
//! were compared. A list of a state that was written since is refused. The masks of texts are kept as words.

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
use crate::mask::FileMask;
use crate::sync::plan::{self, Header, Plan};
use crate::sync::{Base, BaseFile, Check, Differences, Direction, Runner, Side, SyncOptions, SyncReport};

/// The commands whose jobs have a list.
pub(super) const SYNC: &str = "sync";
pub(super) const APPLY: &str = "apply";
/// In what is kept of a job: it goes both ways.
const BOTH: &str = "both";

/// A list to be done, as it is kept.
pub(super) struct Listed<'a> {
    pub(super) command: &'static str,
    pub(super) header: &'a Header,
    pub(super) places: &'a (Place, Place),
    pub(super) options: &'a TransferOptions,
    /// What is text, which the options hold as code.
    pub(super) text: Option<&'a FileMask>,
    pub(super) receipts: Option<&'a Path>,
    pub(super) state: Option<&'a BaseFile>,
}

impl Listed<'_> {
    /// A journal for the list, where it can be written; else the user is told.
    pub(super) fn keep(&self, cx: &Context, found: &Differences) -> Option<Kept> {
        if found.items.is_empty() {
            return None;
        }
        let both = self.header.direction == Direction::Both;
        let (source, target) = match self.header.direction {
            Direction::To(Side::Left) => (&self.places.1, &self.places.0),
            Direction::To(Side::Right) | Direction::Both => (&self.places.0, &self.places.1),
        };
        let receipts = self.receipts.and_then(|file| std::path::absolute(file).ok());
        let masks = Masks { text: self.text.map(FileMask::to_string), ..Masks::default() };
        let mut extra = extra(&cx.global, receipts.as_deref(), &masks);
        if let Some(map) = extra.as_object_mut() {
            map.insert(BOTH.into(), both.into());
        }
        let spec = Spec {
            command: self.command.to_owned(),
            source: source.side.clone(),
            target: target.side.clone(),
            jobs: vec![Job { from: source.path.clone(), to: target.path.clone() }],
            options: self.options.clone(),
            extra,
        };
        let write = |kept: &Kept| tokio::task::block_in_place(|| self.write(kept, found));
        Kept::anew(cx, &spec, write)
    }

    fn write(&self, kept: &Kept, found: &Differences) -> Result<()> {
        if let (Some(state), Some(base)) = (self.state, &found.base) {
            state.set_aside(&kept.base(), base)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(kept.list())?;
        let mut out = BufWriter::new(file);
        plan::write(&mut out, self.header, found)?;
        out.flush()?;
        Ok(out.get_ref().sync_data()?)
    }
}

/// What is applied, and what is kept of it.
pub(super) struct Run<'a> {
    pub(super) what: What,
    pub(super) direction: Direction,
    pub(super) found: Differences,
    pub(super) kept: Option<Kept>,
    pub(super) state: Option<BaseFile>,
    pub(super) receipts: Option<&'a Path>,
}

/// Applies a list, with its journal if it has one, and saves the state if it has one.
pub(super) async fn apply(cx: &Context, runner: &Arc<Runner>, run: Run<'_>) -> Result<SyncReport> {
    let Run { what, direction, found, kept, state, receipts } = run;
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
    let compared = found.failures.len();
    let run = runner.apply(found);
    let attended = attended(cx, runner, direction, what, job, run).await;
    if let Some(ticking) = ticking {
        ticking.abort();
    }
    let (mut report, stopped) = attended?;
    note_stop(stopped, &mut report.failures);
    report.failures.extend(receipts.and_then(|receipts| receipts.failure()));
    // What could not be compared is not on the list: going on with it would not help.
    let mut done = report.failures.len() == compared;
    if let (Some(state), Some(base)) = (state, report.base.take()) {
        let aside = kept.as_ref().map(Kept::base);
        if let Err(e) = blocking(move || save(state, &base, aside.as_deref(), done)).await {
            report.failures.push(e);
            done = false;
        }
    }
    if let Some(kept) = kept {
        // Whoever ended it, it can be gone on with.
        let stopped = report.failures.iter().any(|e| e.kind() == ErrorKind::Canceled);
        kept.journal.progress(tally(&runner.progress(), report.failures.len() as u64)).await;
        let id = kept.id.clone();
        kept.end(done, report.elapsed, stopped).await;
        if stopped && !cx.global.quiet && !cx.global.json {
            eprintln!("go on with: ferry resume {id}");
        }
    }
    Ok(report)
}

/// Saves the state. What is kept of it beside the list goes with that when all is done; else who goes on with the list
/// goes on from what is saved now.
fn save(mut state: BaseFile, base: &Base, aside: Option<&Path>, done: bool) -> Result<()> {
    state.save(base)?;
    match aside {
        Some(aside) if done => Ok(std::fs::remove_file(aside)?),
        Some(aside) => state.set_aside(aside, base),
        None => Ok(()),
    }
}

/// Whether a job has a list.
pub(super) fn has_list(spec: &Spec) -> bool {
    [SYNC, APPLY].contains(&spec.command.as_str())
}

/// Whether what a job uploads may have gone to either side.
pub(super) fn goes_both_ways(spec: &Spec) -> bool {
    spec.extra.get(BOTH).and_then(Value::as_bool).unwrap_or(false)
}

/// Goes on with a job that was taken up.
pub(super) async fn go_on(cx: &mut Context, kept: Kept, spec: Spec) -> Result<()> {
    let file = kept.list();
    let read = blocking(move || plan::read(BufReader::new(std::fs::File::open(file)?))).await;
    let Plan { header, mut differences, complete } = read.map_err(|e| {
        Error::new(ErrorKind::Corrupt)
            .with_detail(format!("the list of the job '{}' is not whole", kept.id))
            .with_hint("it was killed before it did anything: begin anew, and 'ferry jobs forget' it")
            .with_source(e)
    })?;
    let (aside, places) = (kept.base(), (header.left.clone(), header.right.clone()));
    let state = blocking(move || match aside.try_exists()? {
        true => BaseFile::take_up(&aside, &places.0, &places.1).map(Some),
        false => Ok(None),
    });
    let (state, base) = state.await?.unzip();
    let (sides, _) = open(cx, &header.left, &header.right).await?;
    let options = SyncOptions {
        direction: header.direction,
        backup_dir: header.backup_dir,
        base: base.as_ref().map(|_| Arc::default()),
        transfer: spec.options,
        ..SyncOptions::default()
    };
    differences.base = base;
    if !complete {
        differences.failures.push(
            Error::new(ErrorKind::PreconditionFailed)
                .with_detail("the comparison that this list is of was not complete")
                .with_hint("what is on the list is done; for the rest, compare again"),
        );
    }
    let check = if spec.command == APPLY { Check::Both } else { Check::Target };
    let runner = Runner::new(sides, options, cx.places.decider(), check)?;
    let what = what(&spec.command, &header.left, &header.right, header.direction);
    let receipts = spec.extra.get("receipts").and_then(Value::as_str).map(PathBuf::from);
    let (direction, found, receipts) = (header.direction, differences, receipts.as_deref());
    let report =
        apply(cx, &runner, Run { what, direction, found, kept: Some(kept), state, receipts }).await?;
    tell(cx, &report, false);
    Ok(())
}
