//! `ferryd ban`: the block list of a running server.
//!
//! Both sides of it: the subcommands, and what the API answers (`/v1/bans`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::reason::Reason;
use session_core::registry::SessionRegistry;
use session_core::session::{Actor, Ending};

use super::client::Control;
use super::commands::{failure, put, shown};
use crate::config::{parse_duration, parse_network};
use crate::protector::Protector;

/// `ferryd ban`.
#[derive(Args)]
pub struct Bans {
    #[command(subcommand)]
    command: BansCommand,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum BansCommand {
    /// Who may not connect, why, and until when
    List,
    /// Keep an address or a network out, and end its sessions
    Add {
        /// An address, or a network as 192.0.2.0/24
        network: String,
        /// For how long: 30m, 12h, 3d; without it until it is removed
        #[arg(long, value_name = "TIME")]
        time: Option<String>,
        /// Why; it stands in the list
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Let it in again
    Remove {
        /// As it stands in the list
        network: String,
    },
}

/// Runs `ferryd ban …`.
pub async fn bans(control: PathBuf, args: Bans) -> ExitCode {
    let control = Control::new(control);
    let result = match &args.command {
        BansCommand::List => list(&control, args.json).await,
        BansCommand::Add { network, time, reason } => {
            let body = json!({ "network": network, "time": time, "reason": reason });
            change(&control, "add", &body, args.json).await
        }
        BansCommand::Remove { network } => {
            change(&control, "remove", &json!({ "network": network }), args.json).await
        }
    };
    result.map_or_else(|e| failure(&e), |()| ExitCode::SUCCESS)
}

async fn list(control: &Control, json: bool) -> Result<()> {
    let answer = control.get("/v1/bans").await?;
    let bans = answer.get("bans").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        let lines: String = bans.iter().map(|b| format!("{b}\n")).collect();
        return put(&lines).map(|_| ());
    }
    let mut t = Table::new();
    t.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    t.set_header(["NETWORK", "SINCE", "UNTIL", "HITS", "BY", "REASON"]);
    for b in &bans {
        let until =
            if b.get("until").is_some_and(Value::is_string) { shown(b, "until") } else { "removed".into() };
        let hits = b.get("hits").and_then(Value::as_u64).unwrap_or(0).to_string();
        t.add_row([shown(b, "network"), shown(b, "since"), until, hits, shown(b, "by"), shown(b, "reason")]);
    }
    let lines: Vec<String> = t.to_string().lines().map(|l| l.trim_end().to_string()).collect();
    put(&format!("{}\n\n{} bans\n", lines.join("\n"), bans.len())).map(|_| ())
}

async fn change(control: &Control, what: &str, body: &Value, json: bool) -> Result<()> {
    let answer = control.post(&format!("/v1/bans/{what}"), body).await?;
    if json {
        return put(&format!("{answer}\n")).map(|_| ());
    }
    let ban = answer.get("ban").cloned().unwrap_or_default();
    let ended = answer.get("ended").and_then(Value::as_u64).unwrap_or(0);
    let words = match what {
        "add" => format!("blocked {}; {ended} sessions were ended\n", shown(&ban, "network")),
        _ => format!("no longer blocked: {}\n", shown(&ban, "network")),
    };
    put(&words).map(|_| ())
}

pub(super) fn bad(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

pub(super) fn text<'a>(body: &'a Value, key: &str) -> Result<Option<&'a str>> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) if s.len() <= 1000 => Ok(Some(s)),
        Some(_) => Err(bad(format!("{key} is a string of at most 1000 bytes"))),
    }
}

/// The answer to `GET /v1/bans`.
pub(super) fn show(protector: &Protector) -> Value {
    json!({ "bans": protector.bans().iter().map(|b| b.to_json()).collect::<Vec<_>>() })
}

/// Carries out `POST /v1/bans/add` and `/remove`.
pub(super) async fn apply(
    protector: &Arc<Protector>,
    registry: &SessionRegistry,
    what: &str,
    body: &Value,
    actor: &str,
) -> Result<Value> {
    let network = text(body, "network")?.ok_or_else(|| bad("name an address or a network"))?;
    let network = parse_network(network).map_err(bad)?;
    let protector = Arc::clone(protector);
    if what == "remove" {
        let who = format!("admin {actor}");
        let work = tokio::task::spawn_blocking(move || protector.remove(&network, &who));
        let ban = work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
        tracing::info!(%network, actor, "a ban was removed");
        return Ok(json!({ "ban": ban.to_json() }));
    }
    let time = text(body, "time")?.map(parse_duration).transpose().map_err(bad)?;
    let reason = text(body, "reason")?.unwrap_or_default().to_string();
    let by = format!("admin {actor}");
    let work = tokio::task::spawn_blocking(move || protector.add(network, time, reason, by));
    let ban = work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
    tracing::info!(%network, actor, "a ban was added");
    let ending = Ending::new("connections from this address are not taken", Actor::Admin(actor.into()));
    let ending = ending.because(Reason::Banned);
    let inside = |a: std::net::IpAddr| ban.network.contains(&a);
    let mut sessions = registry.list();
    sessions.retain(|s| s.peer_address().is_some_and(inside) && s.cut(ending.clone()));
    Ok(json!({ "ban": ban.to_json(), "ended": sessions.len() }))
}
