//! `ferryd outbox`: what webhooks and commands are still to be told.
//!
//! Both sides of it: the subcommands, and what the API answers (`/v1/outbox`). Where no server runs, the
//! subcommands use the file themselves, and keep a server from starting meanwhile.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::client::Control;
use super::commands::{encode, put, session_failure, shown};
use super::table::{counted, headed};
use crate::config::Config;
use crate::outbox::{Filter, Outbox};

/// The filters of `GET /v1/outbox`.
pub(super) const FILTERS: &[&str] = &["state", "receiver", "session", "id", "limit", "after"];

/// The keys of the body of the others.
pub(super) const BODY: &[&str] = &["ids", "receiver", "session", "state", "all"];

/// Deliveries of one answer, where nobody says how many, and at most.
const PAGE: usize = 100;
const LARGEST: usize = 1000;

/// Ids of one call.
const IDS: usize = 1000;

/// `ferryd outbox`.
#[derive(Args)]
pub struct Outboxes {
    #[command(subcommand)]
    command: OutboxCommand,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum OutboxCommand {
    /// What is still to be told: what is due, what waits for it, and dead letters
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = PAGE)]
        limit: usize,
    },
    /// Try again at once, dead letters too
    Retry(Chosen),
    /// Tell it to nobody
    Drop(Chosen),
}

#[derive(Args)]
struct Which {
    /// Only for this receiver: SITE/NAME
    #[arg(long, value_name = "RECEIVER")]
    receiver: Option<String>,
    /// Only of this session, by its whole id
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only dead letters
    #[arg(long)]
    dead: bool,
}

#[derive(Args)]
struct Chosen {
    /// The ids of events
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Everything
    #[arg(long)]
    all: bool,
}

/// Who answers.
enum Way {
    Server(Control),
    /// No server runs, and while the file is locked none begins to.
    Here {
        outbox: Arc<Outbox>,
        _lock: File,
    },
}

impl Way {
    async fn find(control: PathBuf, config: impl FnOnce() -> Result<Config>) -> Result<Way> {
        let control = Control::new(control);
        if control.is_there().await {
            return Ok(Way::Server(control));
        }
        let config = config()?;
        let lock = crate::daemon::own(&config.data)?;
        Ok(Way::Here { outbox: Outbox::new(&config.data, config.outbox)?, _lock: lock })
    }

    async fn list(&self, query: &[(&str, String)]) -> Result<Value> {
        match self {
            Way::Server(control) => {
                let query: String = query.iter().map(|(k, v)| format!("{k}={}&", encode(v))).collect();
                control.get(&format!("/v1/outbox?{query}")).await
            }
            Way::Here { outbox, .. } => {
                let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
                show(outbox, &query).await
            }
        }
    }

    async fn change(&self, what: &str, body: &Value) -> Result<Value> {
        match self {
            Way::Server(control) => control.post(&format!("/v1/outbox/{what}"), body).await,
            Way::Here { outbox, .. } => {
                let actor = format!("uid {}", rustix::process::getuid().as_raw());
                apply(outbox, what, body, &actor).await
            }
        }
    }
}

/// Runs `ferryd outbox …`.
pub(crate) async fn outbox(
    control: PathBuf,
    args: Outboxes,
    config: impl FnOnce() -> Result<Config>,
) -> ExitCode {
    let work = async {
        let way = Way::find(control, config).await?;
        match &args.command {
            OutboxCommand::List { which, limit } => list(&way, which, *limit, args.json).await,
            OutboxCommand::Retry(chosen) => change(&way, "retry", chosen, args.json).await,
            OutboxCommand::Drop(chosen) => change(&way, "drop", chosen, args.json).await,
        }
    };
    work.await.map_or_else(|e| session_failure(&e), |()| ExitCode::SUCCESS)
}

async fn list(way: &Way, which: &Which, limit: usize, json: bool) -> Result<()> {
    let mut t = headed(["EVENT", "ID", "FOR", "STATE", "TRIED", "DUE", "PATH", "LAST FAILURE"]);
    let (mut after, mut left, mut count) = (String::new(), limit, 0);
    while left > 0 {
        let mut query = vec![("limit", left.min(LARGEST).to_string()), ("after", after.clone())];
        query.extend(which.receiver.clone().map(|r| ("receiver", r)));
        query.extend(which.session.clone().map(|s| ("session", s)));
        query.extend(which.dead.then(|| ("state", "dead".to_owned())));
        let page = way.list(&query).await?;
        let found = page.get("deliveries").and_then(Value::as_array).cloned().unwrap_or_default();
        (left, count) = (left - found.len().min(left), count + found.len());
        for d in &found {
            if json {
                if !put(&format!("{d}\n"))? {
                    return Ok(());
                }
                continue;
            }
            t.add_row([
                shown(d, "event"),
                shown(d, "id"),
                shown(d, "receiver"),
                shown(d, "state"),
                d.get("attempts").and_then(Value::as_u64).unwrap_or(0).to_string(),
                shown(d, "due"),
                d.get("told").map(|t| shown(t, "path")).unwrap_or_default(),
                shown(d, "lastFailure"),
            ]);
        }
        after = page.get("after").and_then(Value::as_str).unwrap_or_default().to_owned();
        if after.is_empty() {
            break;
        }
    }
    if json {
        return Ok(());
    }
    put(&format!("{}\n", counted(&t, count, "deliveries"))).map(|_| ())
}

async fn change(way: &Way, what: &str, chosen: &Chosen, json: bool) -> Result<()> {
    let which = &chosen.which;
    let state = which.dead.then_some("dead");
    let body = json!({
        "ids": chosen.ids, "receiver": which.receiver, "session": which.session, "state": state, "all": chosen.all,
    });
    let answer = way.change(what, &body).await?;
    let n = answer.get("deliveries").and_then(Value::as_u64).unwrap_or(0);
    put(&match (json, what) {
        (true, _) => format!("{answer}\n"),
        (false, "retry") => format!("{n} deliveries are tried again\n"),
        (false, _) => format!("{n} deliveries are dropped\n"),
    })?;
    match n {
        0 if !chosen.all => Err(Error::new(ErrorKind::NotFound).with_detail("nothing of that is kept")),
        _ => Ok(()),
    }
}

fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

fn is_dead(state: &str) -> Result<bool> {
    match state {
        "dead" => Ok(true),
        "pending" => Ok(false),
        other => Err(invalid(format!("there is no state '{other}': dead or pending"))),
    }
}

/// The answer to `GET /v1/outbox`.
pub(super) async fn show(outbox: &Outbox, query: &[(String, String)]) -> Result<Value> {
    let (mut filter, mut limit, mut after) = (Filter::default(), PAGE, None);
    for (key, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_str() {
            "state" => filter.dead = Some(is_dead(value)?),
            "receiver" => filter.receiver = Some(value.clone()),
            "session" => filter.session = Some(value.clone()),
            "id" => filter.ids.push(value.clone()),
            "limit" => {
                let bad = || invalid(format!("a limit is from 1 to {LARGEST}"));
                limit = value.parse().ok().filter(|n| (1..=LARGEST).contains(n)).ok_or_else(bad)?;
            }
            "after" => {
                let parts = value.split_once(' ');
                let parsed = parts.and_then(|(place, of)| Some((place.parse().ok()?, of.to_owned())));
                after = Some(parsed.ok_or_else(|| invalid("'after' is what an answer gave"))?);
            }
            other => return Err(invalid(format!("there is no filter '{other}'"))),
        }
    }
    if filter.ids.len() > IDS {
        return Err(invalid("too many ids"));
    }
    let found = outbox.list(filter, after, limit).await?;
    let last = found.last().filter(|_| found.len() == limit);
    let after = last.map(|d| format!("{} {}", d.get("place").unwrap_or(&Value::Null), raw(d, "receiver")));
    Ok(json!({ "deliveries": found, "after": after, "counts": outbox.counts().await? }))
}

fn raw<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Carries out `POST /v1/outbox/retry` and `drop`. Errors: `InvalidArgument` for a body that does not say what is
/// meant.
pub(super) async fn apply(outbox: &Outbox, what: &str, body: &Value, actor: &str) -> Result<Value> {
    let text = |key: &str| match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(invalid(format!("'{key}' is a string"))),
    };
    let ids = match body.get("ids") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) if ids.len() <= IDS => {
            let id = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| invalid("an id is a string"));
            ids.iter().map(id).collect::<Result<_>>()?
        }
        Some(_) => return Err(invalid(format!("ids are a list of at most {IDS} strings"))),
    };
    let dead = text("state")?.map(|s| is_dead(&s)).transpose()?;
    let filter = Filter { ids, receiver: text("receiver")?, session: text("session")?, dead };
    let named =
        !filter.ids.is_empty() || filter.receiver.is_some() || filter.session.is_some() || dead.is_some();
    match body.get("all") {
        None | Some(Value::Null | Value::Bool(false)) if !named => {
            return Err(invalid("say which: ids, a receiver, a session, a state, or all"));
        }
        None | Some(Value::Null | Value::Bool(_)) => {}
        Some(_) => return Err(invalid("'all' is true or false")),
    }
    let deliveries = match what {
        "retry" => outbox.retry(filter).await?,
        _ => outbox.drop(filter).await?,
    };
    tracing::info!(target: "outbox", actor, what, deliveries, "an administrator changed the outbox");
    Ok(json!({ "deliveries": deliveries }))
}
