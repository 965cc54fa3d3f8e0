//! `hooks`: handlers are checked, and described to an editor; no remote is opened.

use serde_json::{Map, json};
use session_core::error::{Error, ErrorKind, Result};

use super::Context;
use super::changes::{Became, Teller, with};
use crate::cli::exit;
use crate::cli::hooks::{Hooks, HooksCommand, parts};
use crate::cli::lines;
use crate::cli::render::Out;
use crate::hooks::{check, types};

pub(super) async fn hooks(cx: &mut Context, a: &Hooks) -> Result<()> {
    match &a.command {
        HooksCommand::Check { files } => faults(cx, files).await,
        HooksCommand::Types { file: Some(file) } => {
            let failed = |e: std::io::Error| {
                let words = format!("cannot write '{}': {e}", file.display());
                Error::from(e).with_detail(words)
            };
            tokio::fs::write(file, types()).await.map_err(failed)?;
            let fields = with(Map::new(), "place", file.display().to_string());
            Teller::new("hooks types").tell(cx, fields, Ok(Became::Done));
            Ok(())
        }
        HooksCommand::Types { file: None } => {
            Out::new().raw(types().as_bytes());
            Ok(())
        }
    }
}

async fn faults(cx: &mut Context, files: &[String]) -> Result<()> {
    let all = files.to_vec();
    let work = move || {
        let one = |text: String| {
            let (events, file) = parts(&text);
            let faults = check(file, events.as_deref());
            (file.display().to_string(), faults)
        };
        all.into_iter().map(one).collect::<Vec<_>>()
    };
    let checked = tokio::task::spawn_blocking(work).await;
    let checked = checked.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
    let good = checked.iter().all(|(_, faults)| faults.is_empty());
    let mut out = Out::new();
    for (file, faults) in &checked {
        if cx.global.json {
            out.json(&lines::CHECKED, json!({ "file": file, "good": faults.is_empty(), "faults": faults }));
            continue;
        }
        for fault in faults {
            out.line(fault);
        }
    }
    if !good {
        cx.fail_with(exit::FAILED);
    } else if !cx.global.json && !cx.global.quiet {
        out.line(&format!("{} checked: good", checked.len()));
    }
    Ok(())
}
