//! `ferryd ban`: the block list of a running server.
//!
//! Both sides of it: the subcommands, and what the API answers (`/v1/bans`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::reason::Reason;
use session_core::registry::SessionRegistry;
use session_core::session::{Actor, Ending};

use super::client::Control;
use super::commands::{failure, put, shown};
use super::entry::{self, Entry, Network, until};
use super::table::{counted, headed};
use crate::protector::{Ban, Protector};

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
    Add(Entry),
    /// Let it in again, at every site
    Remove(Network),
}

/// Runs `ferryd ban …`.
pub async fn bans(control: PathBuf, args: Bans) -> ExitCode {
    let control = Control::new(control);
    let result = match &args.command {
        BansCommand::List => list(&control, args.json).await,
        BansCommand::Add(entry) => change(&control, "add", &entry.body(), args.json).await,
        BansCommand::Remove(network) => change(&control, "remove", &network.body(), args.json).await,
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
    let mut t = headed(["NETWORK", "SITE", "SINCE", "UNTIL", "HITS", "BY", "REASON"]);
    for b in &bans {
        let hits = b.get("hits").and_then(Value::as_u64).unwrap_or(0).to_string();
        t.add_row([
            shown(b, "network"),
            shown(b, "site"),
            shown(b, "since"),
            until(b),
            hits,
            shown(b, "by"),
            shown(b, "reason"),
        ]);
    }
    put(&format!("{}\n", counted(&t, bans.len(), "bans"))).map(|_| ())
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

/// The answer to `GET /v1/bans`.
pub(super) fn show(protector: &Protector) -> Value {
    let shown = |(site, ban): (Option<Arc<str>>, Ban)| {
        let mut shown = ban.to_json();
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("site".into(), site.as_deref().into());
        }
        shown
    };
    json!({ "bans": protector.bans().into_iter().map(shown).collect::<Vec<_>>() })
}

/// Carries out `POST /v1/bans/add` and `/remove`.
pub(super) async fn apply(
    protector: &Arc<Protector>,
    registry: &SessionRegistry,
    what: &str,
    body: &Value,
    actor: &str,
) -> Result<Value> {
    let network = entry::network(body)?;
    let (protector, tells) = (Arc::clone(protector), protector);
    if what == "remove" {
        let who = format!("admin {actor}");
        let work = tokio::task::spawn_blocking(move || protector.remove(&network, &who));
        let ban = work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
        tracing::info!(%network, actor, "a ban was removed");
        return Ok(json!({ "ban": ban.to_json() }));
    }
    let (time, reason) = entry::terms(body)?;
    let by = format!("admin {actor}");
    let work = tokio::task::spawn_blocking(move || protector.add(network, time, reason, by));
    let ban = work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
    tells.written().await;
    tracing::info!(%network, actor, "a ban was added");
    let ending = Ending::new("connections from this address are not taken", Actor::Admin(actor.into()));
    let ending = ending.because(Reason::Banned);
    let inside = |a: std::net::IpAddr| ban.network.contains(&a);
    let mut sessions = registry.list();
    sessions.retain(|s| s.peer_address().is_some_and(inside) && s.cut(ending.clone()));
    Ok(json!({ "ban": ban.to_json(), "ended": sessions.len() }))
}
