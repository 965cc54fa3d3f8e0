//! `jobs`: what runs, what was interrupted, what ended lately; and what is asked of those that run.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use session_core::error::Result;
use session_core::event::timestamp;

use super::changes::{Became, Teller, with};
use super::resume::throw_away;
use super::{Context, transfer};
use crate::cli::args::{Jobs as Args, JobsCommand};
use crate::cli::lines;
use crate::cli::render::{Out, date, size};
use crate::jobs::{Jobs, Listed, Standing};
use crate::live::{self, Request, Seen, ask};

pub(super) async fn jobs(cx: &mut Context, a: &Args) -> Result<()> {
    let (command, names, request) = match &a.what {
        None => return list(cx).await,
        Some(JobsCommand::Forget { jobs: names, force }) => return forget(cx, names, *force).await,
        Some(JobsCommand::Kill { jobs }) => ("jobs kill", jobs, Request::Kill),
        Some(JobsCommand::Limit { rate, jobs }) => ("jobs limit", jobs, Request::Limit(*rate)),
        Some(JobsCommand::Pause { jobs }) => ("jobs pause", jobs, Request::Pause),
        Some(JobsCommand::Resume { jobs }) => ("jobs resume", jobs, Request::Resume),
    };
    let dir = live::directory()?;
    let mut teller = Teller::new(command);
    for name in names {
        let mut fields = of_job(name);
        if let Request::Limit(rate) = request {
            fields = with(fields, "rate", rate);
        }
        let told = ask::tell(&dir, name, &request).await;
        teller.tell(cx, fields, told.map(|_| Became::Done));
    }
    Ok(())
}

/// Forgets jobs, and has thrown away what their targets keep for them: nobody else would know it.
async fn forget(cx: &mut Context, names: &[String], force: bool) -> Result<()> {
    let jobs = Jobs::of_user()?;
    let mut teller = Teller::new("jobs forget");
    for name in names {
        let left = match force {
            true => Ok(()),
            false => throw_away(cx, &jobs, name).await.map_err(|e| {
                e.with_hint("--force forgets it all the same; what its target keeps of it stays there")
            }),
        };
        let forgotten = left.and_then(|()| jobs.forget(name));
        teller.tell(cx, of_job(name), forgotten.map(|()| Became::Done));
    }
    Ok(())
}

/// The fields of a change of a job.
fn of_job(name: &str) -> Map<String, Value> {
    with(Map::new(), "job", name)
}

async fn list(cx: &Context) -> Result<()> {
    let known = Jobs::of_user()?.list()?;
    let mut live = match live::directory() {
        Ok(dir) => ask::list(&dir).await?,
        Err(_) => Vec::new(),
    };
    let mut out = Out::new();
    let mut all = Vec::new();
    for job in known {
        let seen = live.iter().position(|seen| seen.job == job.id).map(|at| live.swap_remove(at));
        all.push(if cx.global.json {
            lines::line(&lines::JOB, as_json(&job, seen.as_ref())).to_string()
        } else {
            as_line(&job, seen.as_ref())
        });
    }
    // What keeps no journal is listed while it runs, and first.
    for seen in live {
        all.insert(
            0,
            if cx.global.json {
                lines::line(&lines::JOB, seen_json(&seen)).to_string()
            } else {
                seen_line(&seen)
            },
        );
    }
    for line in all {
        out.line(&line);
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

fn line(
    id: &str,
    standing: &str,
    since: &str,
    files: (u64, u64),
    bytes: (u64, u64),
    speed: &str,
    what: &str,
) -> String {
    format!(
        "{id:<20} {standing:<16} {since}  {}/{} files  {}/{}{speed}  {what}",
        files.0,
        files.1,
        size(bytes.0),
        size(bytes.1),
    )
}

fn as_line(job: &Listed, seen: Option<&Seen>) -> String {
    if let Some(seen) = seen {
        return seen_line(seen);
    }
    let t = &job.tally;
    let since = date(UNIX_EPOCH + Duration::from_secs(job.since));
    let what = match &job.spec {
        Some(spec) => {
            let what = transfer::what(spec);
            let kept = match job.unfinished {
                0 => String::new(),
                n => format!(" ({n} unfinished at the target)"),
            };
            format!("{} {} to {}{kept}", what.command, what.source, what.target)
        }
        None => "of another version, or damaged".into(),
    };
    let (files, bytes) = ((t.files_done, t.files_total), (t.bytes_done, t.bytes_total));
    line(&job.id, &standing(job), &since, files, bytes, "", &what)
}

fn seen_line(seen: &Seen) -> String {
    let standing = format!("{} ({})", if seen.is_paused() { "paused" } else { "running" }, seen.pid);
    let since = seen.text("since").get(..16).map(|t| t.replace('T', " ")).unwrap_or_default();
    let mut speed = format!("  {}/s", size(seen.rate()));
    if seen.limit() > 0 {
        speed.push_str(&format!(" of {}/s", size(seen.limit())));
    }
    if let Some(left) = seen.left().filter(|_| !seen.is_paused()) {
        speed.push_str(&format!("  {} s left", left.as_secs()));
    }
    let what = format!("{} {} to {}", seen.text("command"), seen.text("source"), seen.text("target"));
    line(&seen.job, &standing, &since, seen.files(), seen.bytes(), &speed, &what)
}

fn as_json(job: &Listed, seen: Option<&Seen>) -> Value {
    let (name, pid) = match &job.standing {
        Standing::Running(pid) => ("running", Some(*pid)),
        Standing::Interrupted => ("interrupted", None),
        Standing::Ended(outcome) => (outcome.as_str(), None),
    };
    let t = &job.tally;
    let mut v = json!({
        "job": job.id,
        "standing": name,
        "pid": pid,
        "since": timestamp(UNIX_EPOCH + Duration::from_secs(job.since)),
        "files_done": t.files_done,
        "files_total": t.files_total,
        "bytes_done": t.bytes_done,
        "bytes_total": t.bytes_total,
        "failed": t.failed,
        "unfinished": job.unfinished,
        "command": job.spec.as_ref().map(|s| s.command.as_str()),
        "source": job.spec.as_ref().map(|s| s.source.shown()),
        "target": job.spec.as_ref().map(|s| s.target.shown()),
        "paths": job.spec.as_ref().map(|s| {
            s.jobs.iter().map(|j| json!([j.from.display(), j.to.display()])).collect::<Vec<_>>()
        }),
    });
    if let (Some(seen), Some(map)) = (seen, v.as_object_mut()) {
        // The process knows better than its journal how far it is; what it is stands in the journal.
        let told = ["files_done", "files_total", "bytes_done", "bytes_total"];
        for key in told.into_iter().chain(LIVE) {
            if let Some(value) = seen.told.get(key) {
                map.insert(key.into(), value.clone());
            }
        }
        map.insert("seconds_left".into(), seen.left().map(|left| left.as_secs()).into());
    }
    v
}

/// What only a running transfer has to tell.
const LIVE: [&str; 6] = ["current", "limit", "paused", "rate", "scanning", "seconds"];

fn seen_json(seen: &Seen) -> Value {
    let mut v = seen.told.clone();
    if let Some(map) = v.as_object_mut() {
        map.insert("standing".into(), "running".into());
        map.insert("pid".into(), seen.pid.into());
        map.insert("seconds_left".into(), seen.left().map(|left| left.as_secs()).into());
    }
    v
}
