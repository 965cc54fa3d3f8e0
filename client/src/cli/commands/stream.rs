//! `put - TARGET` and `get SOURCE… -`: the standard input and output as one side of a transfer.
//!
//! A stream is sent once, from its beginning to its end: it is not continued, not asked about and not compared with
//! what was there before. Its end is taken for its end: who must know that the program before it has failed, asks
//! the shell (`set -o pipefail`).

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use session_core::batch::{Overwrite, TransferOptions, Verify};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow};

use super::{Context, entries, transfer};
use crate::batch::{Flow, write_stream};
use crate::cli::args::Transfer;
use crate::cli::lines;
use crate::cli::places::{Place, shown};
use crate::cli::render::{Out, complain, error_json, size};
use crate::live::What;

/// What stands for the standard input or output.
pub(super) const DASH: &str = "-";

fn bad(words: impl Into<String>, hint: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into()).with_hint(hint)
}

/// What is asked for and a stream does not have. Errors: `InvalidArgument`, with its name.
fn refused(a: &Transfer) -> Result<()> {
    let never = [
        ("--recursive", a.recursive),
        ("--mask", a.mask.is_some()),
        ("--filter-from", a.filter_from.is_some()),
        ("--ascii-mask", a.ascii_mask.is_some()),
        ("--ask-resume", a.ask_resume),
        ("--receipts", a.proving.receipts.is_some()),
        ("--digest", a.proving.digest.is_some()),
    ];
    match never.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(bad(format!("a stream has no {flag}"), "name a file instead of '-'")),
        None => Ok(()),
    }
}

/// What became of the stream that was sent.
enum Sent {
    Done(u64),
    Skipped(&'static str),
}

/// Sends the standard input to a file.
pub(super) async fn put(cx: &mut Context, a: &Transfer, target: &str) -> Result<()> {
    let options = transfer::options(a, cx.global.reconnect);
    refused(a)?;
    if !matches!(options.overwrite, Overwrite::Always | Overwrite::Never) {
        return Err(bad("a stream is not compared with what is there", "--overwrite always, or never"));
    }
    if options.verify == Verify::Strict {
        return Err(bad(
            "a stream cannot be read a second time to be proved",
            "ask for less than --verify=strict",
        ));
    }
    let place = cx.places.open(target).await?;
    if !place.remote {
        return Err(bad("'put' sends to a remote", "the shell writes files of this machine: … > FILE"));
    }
    let began = Instant::now();
    let sent = send(cx, &place, a, &options).await;
    tell(cx, a, &place, &sent, began.elapsed());
    if let Err(e) = &sent {
        cx.count(e);
    }
    Ok(())
}

async fn send(cx: &Context, place: &Place, a: &Transfer, options: &TransferOptions) -> Result<Sent> {
    let there = place.fs.stat(&place.path, Follow::Yes).await;
    if place.slash || there.as_ref().is_ok_and(|m| m.is_dir()) {
        return Err(bad(
            format!("'{}' is a directory, and a stream has no name", place.shown),
            "name the file that is to be written",
        ));
    }
    match there {
        Ok(_) if options.overwrite == Overwrite::Never => return Ok(Sent::Skipped("it exists")),
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Err(e),
        _ => {}
    }
    if a.dry_run {
        // How much it would be, only reading it would tell.
        return Ok(Sent::Done(0));
    }
    let input = tokio::fs::File::from_std(std::io::stdin().as_fd().try_clone_to_owned()?.into());
    let flow = Flow::new(options);
    let _shown = cx.enter(None, what("put", DASH, &place.shown), Arc::clone(&flow) as _);
    let mut running = transfer::Running::begin()?;
    let write = write_stream(&place.fs, input, &place.path, options, &flow, None);
    tokio::pin!(write);
    loop {
        tokio::select! {
            written = &mut write => return written.map(|(size, _)| Sent::Done(size)),
            () = running.interrupted(), if !flow.stop.is_cancelled() => flow.stop.cancel(),
        }
    }
}

fn tell(cx: &Context, a: &Transfer, place: &Place, sent: &Result<Sent>, elapsed: Duration) {
    let mut out = Out::new();
    if cx.global.json {
        let (outcome, bytes, why) = match sent {
            Ok(Sent::Done(bytes)) => ("done", Some(*bytes), None),
            Ok(Sent::Skipped(why)) => ("skipped", None, Some(*why)),
            Err(_) => ("failed", None, None),
        };
        let mut item = json!({
            "source": DASH, "target": place.path.display(), "size": bytes, "outcome": outcome,
        });
        if let Some(map) = item.as_object_mut() {
            map.extend(bytes.map(|bytes| ("bytes".into(), bytes.into())));
            map.extend(why.map(|why| ("why".into(), why.into())));
            map.extend(sent.is_err().then(|| ("failure".into(), 0.into())));
        }
        let is = |name: &str| u64::from(outcome == name);
        let summary = json!({
            "done": is("done"), "skipped": is("skipped"), "failed": is("failed"), "verified": 0,
            "bytes": bytes.unwrap_or(0), "seconds": elapsed.as_secs_f64(),
            "failures": sent.as_ref().err().map(error_json).into_iter().collect::<Vec<_>>(),
        });
        out.json(&lines::ITEM, lines::rehearsed(item, a.dry_run));
        out.json(&lines::TRANSFERRED, lines::rehearsed(summary, a.dry_run));
        return;
    }
    match sent {
        Err(e) => complain(e, false),
        Ok(_) if cx.global.quiet => {}
        Ok(Sent::Skipped(why)) => out.line(&format!("skipped '{}': {why}", place.shown)),
        Ok(Sent::Done(_)) if a.dry_run => {
            out.line(&format!("would write the standard input to '{}'", place.shown));
        }
        Ok(Sent::Done(bytes)) => {
            let rate = transfer::rate(*bytes, elapsed);
            out.line(&format!("1 file, {}, {}/s", size(*bytes), size(rate)));
        }
    }
}

/// Writes files to the standard output, one after the other.
pub(super) async fn get(cx: &mut Context, a: &Transfer, sources: &[String]) -> Result<()> {
    refused(a)?;
    if a.dry_run {
        return Err(bad("what is written to the standard output changes nothing", "leave --dry-run out"));
    }
    let flow = Flow::new(&transfer::options(a, cx.global.reconnect));
    let named = sources.iter().filter_map(|text| shown(text)).collect::<Vec<_>>().join(" ");
    let _shown = cx.enter(None, what("get", &named, DASH), Arc::clone(&flow) as _);
    let mut out = Out::new();
    for text in sources {
        if let Err(e) = entries::cat_one(cx, text, &mut out, Some(&flow)).await {
            out.flush();
            cx.complain(&e);
        }
        if flow.stop.is_cancelled() {
            break;
        }
    }
    Ok(())
}

/// What a stream is, for who looks.
fn what(command: &str, source: &str, target: &str) -> What {
    What { command: command.into(), source: source.into(), target: target.into() }
}
