//! `[[webhooks]]`, `[[commands]]` and `[outbox]`: who outside is told of events, and what is kept for them.
//!
//! Both are bound to events as `[[hooks]]` are. Where the client waits for an event they are asked, and may
//! refuse; with `wait = false`, and for everything that is told afterwards, they are told through the outbox.
//! A webhook is signed, speaks TLS and stays out of private networks, unless told otherwise.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use session_core::script::{EVENTS, event};

use super::fault::{Fault, Source, Step, nearest};
use super::{OnError, Parking, Staging, values};

/// A URL that is called. What stands behind its host may be a secret, and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_clear(&self) -> bool {
        self.0.starts_with("http://")
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        write!(f, "\"{scheme}://{}/…\"", rest.split(['/', '?', '#']).next().unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // Its text is not repeated: it may hold a secret.
        let bad = |words: &str| serde::de::Error::custom(words.to_owned());
        let text = String::deserialize(d)?;
        let uri: Uri = text.parse().map_err(|_| bad("this is no URL: https://host/path"))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err(bad("a webhook is called over https, or http"));
        }
        match uri.authority() {
            Some(a) if a.as_str().contains('@') => {
                Err(bad("a URL with a password in it is refused: webhooks are signed"))
            }
            Some(a) if !a.host().is_empty() => Ok(Target(text)),
            _ => Err(bad("the URL names no host")),
        }
    }
}

/// A URL that is told of events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Webhook {
    /// Its name here.
    #[serde(deserialize_with = "values::user_name")]
    pub name: String,
    /// Where it is.
    pub url: Target,
    /// Of which events.
    pub events: Vec<String>,
    /// Of whose; empty: of all.
    #[serde(default)]
    pub users: Vec<String>,
    /// Lower is asked earlier.
    #[serde(default)]
    pub priority: i32,
    /// The name of the secret that signs.
    pub secret: String,
    /// The name of the one before it: while there is one, both sign.
    #[serde(default)]
    pub old_secret: Option<String>,
    /// Whether a client waits for the answer, where it may.
    #[serde(default = "yes")]
    pub wait: bool,
    /// What a failure means where somebody waits, or where the outbox takes nothing.
    #[serde(default)]
    pub on_error: OnError,
    /// Time for a call.
    #[serde(default = "time", deserialize_with = "values::duration")]
    pub time: Duration,
    /// Private networks where it may be.
    #[serde(default, deserialize_with = "values::networks")]
    pub networks: Vec<IpNet>,
    /// What is told may be read on the way.
    #[serde(default)]
    pub allow_clear: bool,
}

/// A program that is told of events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Command {
    /// Its name here.
    #[serde(deserialize_with = "values::user_name")]
    pub name: String,
    /// The program, by its whole path.
    pub program: PathBuf,
    /// Its arguments, as they are.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Of which events.
    pub events: Vec<String>,
    /// Of whose; empty: of all.
    #[serde(default)]
    pub users: Vec<String>,
    /// Lower is asked earlier.
    #[serde(default)]
    pub priority: i32,
    /// Whether a client waits for it, where it may.
    #[serde(default = "yes")]
    pub wait: bool,
    /// What a failure means where somebody waits, or where the outbox takes nothing.
    #[serde(default)]
    pub on_error: OnError,
    /// Time for a run.
    #[serde(default = "time", deserialize_with = "values::duration")]
    pub time: Duration,
}

fn yes() -> bool {
    true
}

fn time() -> Duration {
    Duration::from_secs(10)
}

/// What is kept for those who are told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Outbox {
    /// Whether what is kept survives a loss of power, not only of the process: each group of records costs a
    /// flush of the disk then. Changes with the next start.
    pub fsync: bool,
    /// The most events that are kept; more are taken once some are told.
    pub most: usize,
    /// The most dead letters; the oldest go.
    pub dead: usize,
    /// How many at once are told to one receiver.
    pub connections: usize,
    /// The pause after the first failure; it doubles.
    #[serde(deserialize_with = "values::duration")]
    pub retry: Duration,
    /// The longest pause.
    #[serde(deserialize_with = "values::duration")]
    pub longest: Duration,
    /// How long it is tried before it is a dead letter.
    #[serde(deserialize_with = "values::duration")]
    pub give_up: Duration,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox {
            fsync: true,
            most: 100_000,
            dead: 10_000,
            connections: 4,
            retry: Duration::from_secs(1),
            longest: Duration::from_secs(3600),
            give_up: Duration::from_secs(3 * 86_400),
        }
    }
}

impl Outbox {
    /// Faults between values.
    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Fault> {
        let zero = [
            ("most", self.most == 0),
            ("connections", self.connections == 0),
            ("retry", self.retry.is_zero()),
            ("longest", self.longest < self.retry),
        ];
        let at = |key: &str| [Step::Key("outbox".into()), Step::Key(key.into())];
        let wrong = |key: &str| match key {
            "longest" => {
                let key = if source.has_at(&at(key)) { key } else { "retry" };
                source.fault_at(&at(key), "the longest pause is not below the first")
            }
            _ => source.fault_at(&at(key), "nobody would be told"),
        };
        zero.into_iter().filter(|(_, wrong)| *wrong).map(|(key, _)| wrong(key)).collect()
    }
}

/// What both kinds have in common, for their faults.
struct Bound<'a> {
    table: &'static str,
    index: usize,
    name: &'a str,
    events: &'a [String],
    wait: bool,
    time: Duration,
}

fn bound<'a>(
    webhooks: &'a [Webhook],
    commands: &'a [Command],
) -> impl Iterator<Item = Bound<'a>> + Clone + 'a {
    let webhook = |(index, w): (usize, &'a Webhook)| Bound {
        table: "webhooks",
        index,
        name: &w.name,
        events: &w.events,
        wait: w.wait,
        time: w.time,
    };
    let command = |(index, c): (usize, &'a Command)| Bound {
        table: "commands",
        index,
        name: &c.name,
        events: &c.events,
        wait: c.wait,
        time: c.time,
    };
    webhooks.iter().enumerate().map(webhook).chain(commands.iter().enumerate().map(command))
}

/// Whether somebody outside judges uploads.
fn judges(webhooks: &[Webhook], commands: &[Command]) -> bool {
    bound(webhooks, commands).any(|b| b.wait && b.events.iter().any(|e| e == "BeforeCommit"))
}

/// Faults between values.
pub(super) fn check(
    webhooks: &[Webhook],
    commands: &[Command],
    staging: &Staging,
    source: &Source<'_>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let key = |k: &str| Step::Key(k.into());
    let all = bound(webhooks, commands);
    for (n, b) in all.clone().enumerate() {
        let at = |k: &str| [key(b.table), Step::Index(b.index), key(k)];
        if all.clone().take(n).any(|earlier| earlier.name == b.name) {
            let words = format!("another webhook or command is called '{}'", b.name);
            faults.push(source.fault_at(&at("name"), words));
        }
        if b.events.is_empty() {
            faults.push(source.fault_at(&at("events"), "it is told of nothing"));
        }
        if b.time.is_zero() {
            faults.push(source.fault_at(&at("time"), "this takes some time"));
        }
        for (i, name) in b.events.iter().enumerate().filter(|(_, name)| event(name).is_none()) {
            let steps = [&at("events")[..], &[Step::Index(i)]].concat();
            let mut fault = source.fault_at(&steps, format!("'{name}' is not an event"));
            let names: Vec<_> = EVENTS.iter().map(|e| e.name).collect();
            fault.hint = nearest(name, &names).map(|n| format!("did you mean '{n}'?"));
            faults.push(fault);
        }
    }
    for (i, w) in webhooks.iter().enumerate().filter(|(_, w)| w.url.is_clear() && !w.allow_clear) {
        let at = [key("webhooks"), Step::Index(i), key("url")];
        let words = format!("what '{}' is told could be read on the way: use https", w.name);
        let mut fault = source.fault_at(&at, words);
        fault.hint = Some("or say allow_clear = true".into());
        faults.push(fault);
    }
    for (i, _) in commands.iter().enumerate().filter(|(_, c)| !c.program.is_absolute()) {
        let at = [key("commands"), Step::Index(i), key("program")];
        faults.push(source.fault_at(&at, "a program is named by its whole path"));
    }
    if staging.parking == Parking::Publish && judges(webhooks, commands) {
        let words = "uploads that break off would be published unseen: somebody is asked before a commit";
        faults.push(source.fault_at(&[key("staging"), key("parking")], words));
    }
    faults
}
