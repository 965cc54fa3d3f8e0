//! A network on a list (of those who are blocked, never blocked, or let in alone): the arguments that name one, and how
//! the body of a request does.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::commands::shown;
use crate::config::{parse_duration, parse_network};

/// A network and what is said of it.
#[derive(Args)]
pub(super) struct Entry {
    /// An address, or a network as 192.0.2.0/24
    network: String,
    /// For how long: 30m, 12h, 3d; without it until it is removed
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Why; it stands in the list
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// A network that is on it.
#[derive(Args)]
pub(super) struct Network {
    /// As it stands in the list
    network: String,
}

impl Entry {
    /// The body of the request that puts it there.
    pub(super) fn body(&self) -> Value {
        json!({ "network": self.network, "time": self.time, "reason": self.reason })
    }
}

impl Network {
    /// The body of the request that takes it away.
    pub(super) fn body(&self) -> Value {
        json!({ "network": self.network })
    }
}

/// Until when an entry holds, for a table.
pub(super) fn until(entry: &Value) -> String {
    match entry.get("until") {
        Some(Value::String(_)) => shown(entry, "until"),
        _ => "removed".into(),
    }
}

/// The network that a body names. Errors: `InvalidArgument`.
pub(super) fn network(body: &Value) -> Result<IpNet> {
    let network = text(body, "network")?.ok_or_else(|| bad("name an address or a network"))?;
    parse_network(network).map_err(bad)
}

/// For how long, and why. Errors: `InvalidArgument`.
pub(super) fn terms(body: &Value) -> Result<(Option<Duration>, String)> {
    let time = text(body, "time")?.map(parse_duration).transpose().map_err(bad)?;
    Ok((time, text(body, "reason")?.unwrap_or_default().to_string()))
}

fn bad(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

fn text<'a>(body: &'a Value, key: &str) -> Result<Option<&'a str>> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) if s.len() <= 1000 => Ok(Some(s)),
        Some(_) => Err(bad(format!("{key} is a string of at most 1000 bytes"))),
    }
}
