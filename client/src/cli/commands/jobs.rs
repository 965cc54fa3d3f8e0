//! `jobs`: what runs, what was interrupted, what ended lately.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use session_core::error::Result;
use session_core::event::timestamp;

use super::Context;
use crate::cli::args::{Jobs as Args, JobsCommand};
use crate::cli::render::{Out, date, size};
use crate::jobs::{Jobs, Listed, Standing};

pub(super) fn jobs(cx: &Context, a: &Args) -> Result<()> {
    let jobs = Jobs::of_user()?;
    if let Some(JobsCommand::Forget { jobs: names }) = &a.what {
        return names.iter().try_for_each(|name| jobs.forget(name));
    }
    let mut out = Out::new();
    for job in jobs.list()? {
        if cx.global.json { out.json(&as_json(&job)) } else { out.line(&as_line(&job)) }
    }
    Ok(())
}

fn standing(job: &Listed) -> String {
    match &job.standing {
        Standing::Running(pid) => format!("running ({pid})"),
        Standing::Interrupted => "interrupted".into(),
        Standing::Ended(outcome) => outcome.clone(),
    }
}

fn as_line(job: &Listed) -> String {
    let t = &job.tally;
    let since = date(UNIX_EPOCH + Duration::from_secs(job.since));
    let what = match &job.spec {
        Some(spec) => {
            let first = spec.jobs.first();
            let place = |side: String, path: Option<String>| format!("{side}{}", path.unwrap_or_default());
            let more = match spec.jobs.len() {
                0 | 1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            format!(
                "{} {}{more} to {}",
                spec.command,
                place(spec.source.shown(), first.map(|j| j.from.display())),
                place(spec.target.shown(), first.map(|j| j.to.display())),
            )
        }
        None => "of another version, or damaged".into(),
    };
    format!(
        "{:<20} {:<16} {since}  {}/{} files  {}/{}  {what}",
        job.id,
        standing(job),
        t.files_done,
        t.files_total,
        size(t.bytes_done),
        size(t.bytes_total),
    )
}

fn as_json(job: &Listed) -> serde_json::Value {
    let (name, pid) = match &job.standing {
        Standing::Running(pid) => ("running", Some(*pid)),
        Standing::Interrupted => ("interrupted", None),
        Standing::Ended(outcome) => (outcome.as_str(), None),
    };
    let t = &job.tally;
    json!({
        "job": job.id,
        "standing": name,
        "pid": pid,
        "since": timestamp(UNIX_EPOCH + Duration::from_secs(job.since)),
        "files_done": t.files_done,
        "files_total": t.files_total,
        "bytes_done": t.bytes_done,
        "bytes_total": t.bytes_total,
        "failed": t.failed,
        "command": job.spec.as_ref().map(|s| s.command.as_str()),
        "source": job.spec.as_ref().map(|s| s.source.shown()),
        "target": job.spec.as_ref().map(|s| s.target.shown()),
        "paths": job.spec.as_ref().map(|s| {
            s.jobs.iter().map(|j| json!([j.from.display(), j.to.display()])).collect::<Vec<_>>()
        }),
    })
}
