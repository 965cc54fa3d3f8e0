//! `ferryd safe` and `ferryd allow`: the lists of a running server of those who are never blocked, and of those who
//! alone may connect where `only_allowed` says so.
//!
//! Both sides of it, as those of the block list (`super::bans`): the subcommands, and what the API answers
//! (`/v1/safe`, `/v1/allow`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::client::Control;
use super::commands::{failure, put, shown};
use super::entry::{self, Entry, Network, until};
use super::table::{counted, headed};
use crate::protector::{List, Protector};

/// `ferryd safe` and `ferryd allow`.
#[derive(Args)]
pub struct Networks {
    #[command(subcommand)]
    command: NetworksCommand,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum NetworksCommand {
    /// Who is on the list, why, and until when; of the configuration too
    List,
    /// Put an address or a network on the list
    Add(Entry),
    /// Take it from the list; sessions that are there go on
    Remove(Network),
}

/// Runs `ferryd safe …` and `ferryd allow …`.
pub async fn networks(control: PathBuf, list: List, args: Networks) -> ExitCode {
    let control = Control::new(control);
    let result = match &args.command {
        NetworksCommand::List => show_list(&control, list, args.json).await,
        NetworksCommand::Add(entry) => change(&control, list, "add", &entry.body(), args.json).await,
        NetworksCommand::Remove(network) => {
            change(&control, list, "remove", &network.body(), args.json).await
        }
    };
    result.map_or_else(|e| failure(&e), |()| ExitCode::SUCCESS)
}

async fn show_list(control: &Control, list: List, json: bool) -> Result<()> {
    let answer = control.get(&format!("/v1/{}", list.name())).await?;
    let of = |key: &str| answer.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let (networks, declared) = (of("networks"), of("declared"));
    if json {
        let declared = declared.iter().map(|n| json!({ "network": n, "by": "configuration" }));
        let lines: String = networks.iter().cloned().chain(declared).map(|n| format!("{n}\n")).collect();
        return put(&lines).map(|_| ());
    }
    let mut t = headed(["NETWORK", "SINCE", "UNTIL", "BY", "REASON"]);
    for n in &networks {
        t.add_row([shown(n, "network"), shown(n, "since"), until(n), shown(n, "by"), shown(n, "reason")]);
    }
    for n in declared.iter().filter_map(Value::as_str) {
        t.add_row([n, "", "", "configuration", ""]);
    }
    let count = networks.len() + declared.len();
    let force = if answer.get("inForce") == Some(&Value::Bool(false)) { NOT_IN_FORCE } else { "" };
    put(&format!("{}{force}\n", counted(&t, count, "networks"))).map(|_| ())
}

const NOT_IN_FORCE: &str = "; everybody may connect: 'only_allowed' of [protector] is false";

async fn change(control: &Control, list: List, what: &str, body: &Value, json: bool) -> Result<()> {
    let answer = control.post(&format!("/v1/{}/{what}", list.name()), body).await?;
    if json {
        return put(&format!("{answer}\n")).map(|_| ());
    }
    let entry = answer.get("entry").cloned().unwrap_or_default();
    let force = if answer.get("inForce") == Some(&Value::Bool(false)) { NOT_IN_FORCE } else { "" };
    let words = if what == "add" { "on the list" } else { "no longer on the list" };
    put(&format!("{words}: {}{force}\n", shown(&entry, "network"))).map(|_| ())
}

/// The answer to `GET /v1/safe` and `/v1/allow`.
pub(super) fn show(protector: &Protector, list: List) -> Value {
    let (declared, in_force) = protector.declared(list);
    let declared: Vec<_> = declared.iter().map(ToString::to_string).collect();
    let networks: Vec<_> = protector.entries(list).iter().map(|b| b.to_json()).collect();
    json!({ "networks": networks, "declared": declared, "inForce": in_force })
}

/// Carries out `POST /v1/safe/add`, `/v1/allow/remove` and their kin.
pub(super) async fn apply(
    protector: &Arc<Protector>,
    list: List,
    what: &str,
    body: &Value,
    actor: &str,
) -> Result<Value> {
    let network = entry::network(body)?;
    let (time, reason) = entry::terms(body)?;
    let (by, works, adds) = (format!("admin {actor}"), Arc::clone(protector), what == "add");
    let work = tokio::task::spawn_blocking(move || match adds {
        true => works.add_to(list, network, time, reason, by),
        false => works.remove_from(list, &network, &by),
    });
    let entry = work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
    tracing::info!(list = list.name(), what, %network, actor, "a list was changed");
    Ok(json!({ "entry": entry.to_json(), "inForce": protector.declared(list).1 }))
}
