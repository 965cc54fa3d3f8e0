//! `ferryd quota`: what homes and folders hold, what accounts transfer, and what both may.
//!
//! Both sides of it: the subcommands, and what the API answers (`/v1/quotas`). Only stores that are open are
//! shown: one that nobody has come to yet is counted when somebody does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::client::Control;
use super::commands::{failure, put, shown};
use super::table::{counted, headed};
use crate::shared::Leases;
use crate::stores::Stores;

/// `ferryd quota`.
#[derive(Args)]
pub struct Quota {
    #[command(subcommand)]
    command: QuotaCommand,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum QuotaCommand {
    /// What each place holds, what uploads under way need besides, and its limits
    Show,
    /// What accounts and groups have transferred in their period, and what they may
    Transfers,
    /// Count anew what is there, for what was changed without the server
    Rescan {
        /// Only this place, as `show` names it
        place: Option<String>,
    },
    /// What a node that does not come back held counts no more
    Forget {
        /// The node, as `[database]` named it
        node: String,
    },
}

/// Runs `ferryd quota …`.
pub async fn quota(control: PathBuf, args: Quota) -> ExitCode {
    let control = Control::new(control);
    let result = match &args.command {
        QuotaCommand::Show => list(&control, args.json).await,
        QuotaCommand::Transfers => transfers(&control, args.json).await,
        QuotaCommand::Rescan { place } => rescan(&control, place.as_deref(), args.json).await,
        QuotaCommand::Forget { node } => forget(&control, node, args.json).await,
    };
    result.map_or_else(|e| failure(&e), |()| ExitCode::SUCCESS)
}

fn number(of: &Value, path: &str) -> u64 {
    of.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

/// The smallest of the limits that are set.
fn limit(place: &Value, of: &str) -> String {
    let limits = place.get("limits").and_then(Value::as_object).into_iter().flatten();
    let least = limits.map(|(_, l)| number(l, of)).filter(|n| *n > 0).min();
    least.map_or_else(|| "-".into(), |n| n.to_string())
}

/// The bytes that others have of the same quota.
fn elsewhere(place: &Value) -> u64 {
    let all = place.get("elsewhere").and_then(Value::as_object).into_iter().flatten();
    all.map(|(_, used)| number(used, "/bytes")).max().unwrap_or(0)
}

fn lines(answer: &Value, key: &str) -> Vec<Value> {
    answer.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

async fn list(control: &Control, json: bool) -> Result<()> {
    let places = lines(&control.get("/v1/quotas").await?, "places");
    if json {
        let lines: String = places.iter().map(|p| format!("{p}\n")).collect();
        return put(&lines).map(|_| ());
    }
    let mut t = headed(["PLACE", "BYTES", "OF", "FILES", "OF", "UNDER WAY", "ELSEWHERE"]);
    for p in &places {
        t.add_row([
            shown(p, "place"),
            number(p, "/published/bytes").to_string(),
            limit(p, "/bytes"),
            number(p, "/published/files").to_string(),
            limit(p, "/files"),
            number(p, "/promised/bytes").to_string(),
            elsewhere(p).to_string(),
        ]);
    }
    put(&format!("{}\n", counted(&t, places.len(), "places"))).map(|_| ())
}

async fn transfers(control: &Control, json: bool) -> Result<()> {
    let all = lines(&control.get("/v1/quotas").await?, "transfers");
    if json {
        return put(&all.iter().map(|t| format!("{t}\n")).collect::<String>()).map(|_| ());
    }
    let limit = |of: &Value, key: &str| match number(of, key) {
        0 => "-".to_string(),
        n => n.to_string(),
    };
    let mut t = headed(["WHO", "PERIOD", "UP", "OF", "DOWN", "OF", "BOTH OF"]);
    for one in &all {
        t.add_row([
            shown(one, "who"),
            shown(one, "period"),
            (number(one, "/moved/upload") + number(one, "/elsewhere/upload")).to_string(),
            limit(one, "/limits/upload"),
            (number(one, "/moved/download") + number(one, "/elsewhere/download")).to_string(),
            limit(one, "/limits/download"),
            limit(one, "/limits/both"),
        ]);
    }
    put(&format!("{}\n", counted(&t, all.len(), "bounds"))).map(|_| ())
}

async fn rescan(control: &Control, place: Option<&str>, json: bool) -> Result<()> {
    let counted = lines(&control.post("/v1/quotas/rescan", &json!({ "place": place })).await?, "counted");
    let mut text = String::new();
    for c in &counted {
        text.push_str(&match json {
            true => format!("{c}\n"),
            false => format!(
                "{}: {} bytes in {} files (was {} in {})\n",
                shown(c, "place"),
                number(c, "/now/bytes"),
                number(c, "/now/files"),
                number(c, "/before/bytes"),
                number(c, "/before/files"),
            ),
        });
    }
    put(&text).map(|_| ())
}

async fn forget(control: &Control, node: &str, json: bool) -> Result<()> {
    let answer = control.post("/v1/quotas/forget", &json!({ "node": node })).await?;
    let text = match json {
        true => format!("{answer}\n"),
        false => format!("{} limits count without '{node}'\n", number(&answer, "/forgotten")),
    };
    put(&text).map(|_| ())
}

/// Carries out `POST /v1/quotas/forget`. Errors: `NotFound` for a node of which nothing is counted;
/// `PreconditionFailed` for one that is there; `Unsupported` where there are no others.
pub(super) async fn forget_node(leases: Option<&Leases>, body: &Value, actor: &str) -> Result<Value> {
    let Some(node) = body.get("node").and_then(Value::as_str) else {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("name a node"));
    };
    let alone =
        || Error::new(ErrorKind::Unsupported).with_detail("this server shares no database with others");
    match leases.ok_or_else(alone)?.forget(node).await? {
        0 => {
            Err(Error::new(ErrorKind::NotFound).with_detail(format!("nothing is counted of a node '{node}'")))
        }
        n => {
            tracing::info!(node, actor, limits = n, "what a node held counts no more");
            Ok(json!({ "forgotten": n }))
        }
    }
}

/// The answer to `GET /v1/quotas`.
pub(super) fn show(stores: &Stores, transfers: Value) -> Value {
    json!({ "places": stores.quotas.book.report(), "transfers": transfers })
}

/// Carries out `POST /v1/quotas/rescan`. Errors: `NotFound` for a place that nobody has come to.
pub(super) async fn apply(stores: &Stores, body: &Value, actor: &str) -> Result<Value> {
    let wanted = match body.get("place") {
        None | Some(Value::Null) => None,
        Some(Value::String(place)) => Some(place.as_str()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a place is a string")),
    };
    let mut counted = Vec::new();
    for metered in stores.metered() {
        let place = metered.account().place().to_owned();
        if wanted.is_some_and(|w| w != place) {
            continue;
        }
        let (before, now) = metered.rescan().await?;
        tracing::info!(place, actor, ?before, ?now, "a quota was counted anew");
        counted.push(json!({ "place": place, "before": before, "now": now }));
    }
    match wanted {
        Some(place) if counted.is_empty() => {
            Err(Error::new(ErrorKind::NotFound).with_detail(format!("nothing is counted at '{place}'")))
        }
        _ => Ok(json!({ "counted": counted })),
    }
}
