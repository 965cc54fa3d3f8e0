//! `watch`: makes two places alike and keeps them so until Ctrl-C or SIGTERM.
//!
//! The end that was asked for is no failure: the exit code tells whether anything is left undone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use session_core::error::Result;
use tokio::signal::unix::{SignalKind, signal};

use super::sync::{
    line, note_json, note_line, open, operation_json, options, reopened, transfer_options, what,
};
use super::{Context, transfer};
use crate::cli::lines;
use crate::cli::places::Place;
use crate::cli::render::{Out, complain, error_json, files, size};
use crate::cli::sync_args::Watch as Args;
use crate::live::Live;
use crate::sync::{Outcome, Side, SyncReport};
use crate::watch::{Event, Summary, Watch, WatchOptions};

/// Notes that were told are not told again, as long as there are not too many.
const TOLD: usize = 10_000;

pub(super) async fn watch(cx: &mut Context, a: &Args) -> Result<()> {
    let (sides, places) = open(cx, &a.left, &a.right).await?;
    let mut sync = options(cx, &a.alike, &places).await?;
    sync.transfer = transfer_options(&a.copying);
    sync.make_root = !a.no_initial;
    let options = WatchOptions {
        left_disk: disk(&places.0),
        right_disk: disk(&places.1),
        settle: Duration::from_millis(a.settle.into()),
        poll: a.poll.map(Duration::from_secs),
        initial: !a.no_initial,
        ..WatchOptions::new(sync)
    };
    let what = what("watch", &reopened(&places.0), &reopened(&places.1), options.sync.direction);
    let watch = Watch::new(sides, options, cx.places.decider())?;
    let receipts = a.copying.proving.receipts.as_deref().map(transfer::Receipts::open).transpose()?;
    if let Some(receipts) = &receipts {
        watch.observe(Arc::clone(receipts) as _);
    }
    let mut teller = Teller { receipts, ..Teller::new(cx) };
    teller.begin(&places);
    let mut terminated = signal(SignalKind::terminate())?;
    let summary = {
        let mut running = transfer::Running::begin()?;
        let live: Arc<dyn Live> = Arc::<Watch>::clone(&watch);
        let _registered = cx.enter(None, what, live);
        let mut tell = |event: &Event| teller.tell(event);
        let run = watch.run(&mut tell);
        tokio::pin!(run);
        let mut stopped = false;
        loop {
            tokio::select! {
                ended = &mut run => break ended?,
                () = running.interrupted(), if !stopped => stopped = true,
                _ = terminated.recv(), if !stopped => stopped = true,
            }
            watch.cancel();
        }
    };
    teller.end(&summary);
    if !summary.outstanding.is_empty() || teller.unrecorded {
        cx.fail_with(crate::cli::exit::FAILED);
    }
    Ok(())
}

/// Where a place is on a disk of this machine.
fn disk(place: &Place) -> Option<PathBuf> {
    (!place.remote).then(|| OsString::from_vec(place.path.as_bytes().to_vec()).into())
}

/// Tells what happens, as it happens.
struct Teller {
    json: bool,
    quiet: bool,
    told: BTreeSet<Box<[u8]>>,
    receipts: Option<Arc<transfer::Receipts>>,
    /// A receipt was not written, which is told once.
    unrecorded: bool,
}

impl Teller {
    fn new(cx: &Context) -> Self {
        Teller {
            json: cx.global.json,
            quiet: cx.global.quiet,
            told: BTreeSet::new(),
            receipts: None,
            unrecorded: false,
        }
    }

    fn begin(&self, places: &(Place, Place)) {
        let mut out = Out::new();
        let (left, right) = (reopened(&places.0), reopened(&places.1));
        if self.json {
            out.json(&lines::WATCHING, json!({ "left": left, "right": right }));
        }
    }

    fn tell(&mut self, event: &Event) {
        // Each event is seen at once: whoever reads this may read it for days.
        let mut out = Out::new();
        match event {
            Event::Ready if self.json => out.json(&lines::READY, json!({})),
            Event::Ready if !self.quiet => out.line("watching"),
            Event::Lost if self.json => out.json(&lines::LOST, json!({})),
            Event::Lost if !self.quiet => out.line("changes were lost: everything is compared"),
            Event::Waiting(pause) if self.json => {
                out.json(&lines::WAITING, json!({ "seconds": pause.as_secs_f64() }));
            }
            Event::Waiting(pause) if !self.quiet => {
                out.line(&format!("trying again in {} s", pause.as_secs()));
            }
            Event::Failed(e) if self.json => {
                out.json(&lines::FAILED, json!({ "error": error_json(e) }));
            }
            Event::Failed(e) => complain(e, false),
            Event::Round(report) => {
                self.round(&mut out, report);
                let lost = self.receipts.as_ref().and_then(|receipts| receipts.failure());
                if let Some(e) = lost.filter(|_| !self.unrecorded) {
                    complain(&e, self.json);
                    self.unrecorded = true;
                }
            }
            Event::Ready | Event::Lost | Event::Waiting(_) => {}
        }
    }

    fn round(&mut self, out: &mut Out, report: &SyncReport) {
        if self.json {
            for operation in &report.operations {
                out.json(&lines::OPERATION, operation_json(operation));
            }
            for note in &report.notes {
                out.json(&lines::NOTE, note_json(note));
            }
            out.json(
                &lines::ROUND,
                json!({
                    "copied_left": report.copied_to(Side::Left),
                    "copied_right": report.copied_to(Side::Right),
                    "removed": report.removed(),
                    "skipped": report.skipped() + report.notes.len(),
                    "bytes": report.bytes(),
                    "seconds": report.elapsed.as_secs_f64(),
                    "failures": report.failures.iter().map(error_json).collect::<Vec<_>>(),
                }),
            );
            return;
        }
        if !self.quiet {
            for operation in &report.operations {
                if matches!(operation.outcome, Outcome::Done(_)) {
                    out.line(&line(&operation.difference));
                }
            }
            for note in &report.notes {
                if self.told.len() < TOLD && self.told.insert(note.path.clone()) {
                    out.line(&note_line(note));
                }
            }
        }
        out.flush();
        for e in &report.failures {
            complain(e, false);
        }
    }

    fn end(&self, summary: &Summary) {
        let mut out = Out::new();
        if self.json {
            out.json(
                &lines::WATCHED,
                json!({
                    "rounds": summary.rounds,
                    "copied": summary.copied,
                    "removed": summary.removed,
                    "bytes": summary.bytes,
                    "failures": summary.outstanding.iter().map(error_json).collect::<Vec<_>>(),
                }),
            );
        } else if !self.quiet {
            out.line(&format!(
                "{} copied, {}, {} removed",
                files(summary.copied),
                size(summary.bytes),
                summary.removed
            ));
        }
    }
}
