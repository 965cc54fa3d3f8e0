//! A webhook or a command: how it is called, and what its answer means.
//!
//! A webhook is a POST of the event, signed; any status of 200 to 299 is success. A command reads the event
//! from its standard input; exit code 0 is success. Who is asked may refuse: a webhook by answering an object
//! whose `verdict` is `block`, with a `reason` for the client, a command by exit code 1, its reason the first
//! line that it prints. Everything else is a failure, and every call is bounded in time, size and output.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::hooks::exec::Programs;
use client::hooks::{field, http};
use serde_json::{Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, Result};
use session_core::path::display_bytes;

use super::signature::{Key, signatures};
use crate::config::{Command, Webhook};

/// The longest reason, characters.
const REASON: usize = 300;

/// How much of a command's output is kept, bytes.
const OUTPUT: usize = 4096;

/// What somebody who was asked says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Pass,
    /// With words for the client.
    Block(String),
}

/// A call without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Why, in words for an operator.
    pub(crate) words: String,
    /// How long the receiver wants to be left alone.
    pub(crate) pause: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Failure { words: words.into(), pause: None }
    }
}

enum How {
    Webhook { url: String, keys: Vec<Key>, http: http::Client },
    Command { arguments: Vec<String>, programs: Programs },
}

/// Somebody who is told.
pub(crate) struct Receiver {
    /// `site/name`.
    pub(crate) name: String,
    how: How,
    time: Duration,
}

impl Receiver {
    /// Errors: those of the secrets.
    pub(crate) fn webhook(site: &str, webhook: &Webhook, secrets: Vec<Secret>) -> Result<Self> {
        let named = |e: Error| {
            let detail = format!("the secret of the webhook '{}': {e}", webhook.name);
            Error::new(e.kind()).with_detail(detail)
        };
        let keys = secrets.iter().map(Key::of).collect::<Result<Vec<_>>>().map_err(named)?;
        let http = http::Client::new(webhook.networks.clone());
        Ok(Receiver {
            name: format!("{site}/{}", webhook.name),
            how: How::Webhook { url: webhook.url.as_str().to_owned(), keys, http },
            time: webhook.time,
        })
    }

    pub(crate) fn command(site: &str, command: &Command) -> Self {
        let programs: [(String, PathBuf); 1] = [(command.name.clone(), command.program.clone())];
        let programs = Programs::new(programs.into(), command.time, OUTPUT);
        Receiver {
            name: format!("{site}/{}", command.name),
            how: How::Command { arguments: command.arguments.clone(), programs },
            time: command.time,
        }
    }

    /// Tells of an event. Dropped, it leaves nothing running.
    pub(crate) async fn call(&self, id: &str, body: &str) -> std::result::Result<Reply, Failure> {
        // The program's own bound comes first: it tells more.
        let most = self.time + Duration::from_secs(1);
        match &self.how {
            How::Webhook { url, keys, http } => {
                let work = post(url, keys, http, id, body);
                match tokio::time::timeout(self.time, work).await {
                    Ok(answer) => answer,
                    Err(_) => Err(Failure::new("it did not answer in time")),
                }
            }
            How::Command { arguments, programs } => {
                let name = self.name.rsplit('/').next().unwrap_or_default();
                let asked =
                    json!({ "program": name, "arguments": arguments, "input": STANDARD.encode(body) });
                match tokio::time::timeout(most, programs.run(&asked, None)).await {
                    Ok(Ok(answer)) => ended(&answer),
                    Ok(Err(e)) => Err(Failure::new(format!("{e:#}"))),
                    Err(_) => Err(Failure::new("it did not end in time")),
                }
            }
        }
    }
}

async fn post(
    url: &str,
    keys: &[Key],
    http: &http::Client,
    id: &str,
    body: &str,
) -> std::result::Result<Reply, Failure> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let request = json!({
        "url": url,
        "method": "POST",
        "headers": [
            ["Content-Type", "application/json"],
            ["webhook-id", id],
            ["webhook-timestamp", seconds.to_string()],
            ["webhook-signature", signatures(keys, id, seconds, body)],
        ],
        "body": STANDARD.encode(body),
    });
    let answer = http.fetch(&request).await.map_err(|e| Failure::new(format!("{e:#}")))?;
    let status = field(&answer, "status").as_u64().unwrap_or(0);
    if !(200..300).contains(&status) {
        return Err(Failure { words: format!("it answered {status}"), pause: retry_after(&answer) });
    }
    let text = STANDARD.decode(field(&answer, "body").as_str().unwrap_or_default()).unwrap_or_default();
    verdict(&text)
}

/// `Retry-After` in seconds; a date is not waited for.
fn retry_after(answer: &Value) -> Option<Duration> {
    let headers = field(answer, "headers").as_array()?;
    let of = |h: &Value, n: usize| h.get(n).and_then(Value::as_str).map(str::to_owned);
    let found = headers.iter().find(|h| of(h, 0).is_some_and(|n| n == "retry-after"))?;
    of(found, 1)?.trim().parse().ok().map(Duration::from_secs)
}

/// An object may hold a verdict; any other body says nothing against it.
fn verdict(body: &[u8]) -> std::result::Result<Reply, Failure> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else { return Ok(Reply::Pass) };
    match answer.get("verdict").map(Value::as_str) {
        None | Some(Some("pass")) => Ok(Reply::Pass),
        Some(Some("block")) => {
            Ok(Reply::Block(reason(answer.get("reason").and_then(Value::as_str).unwrap_or_default())))
        }
        // It wanted to say something that is not understood: that is no yes.
        Some(_) => Err(Failure::new("its verdict is neither 'pass' nor 'block'")),
    }
}

fn reason(words: &str) -> String {
    let words: String = display_bytes(words.trim().as_bytes()).chars().take(REASON).collect();
    if words.is_empty() { "refused".into() } else { words }
}

fn ended(answer: &Value) -> std::result::Result<Reply, Failure> {
    let first = |key: &str| {
        let text = field(answer, key).as_str().unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    match field(answer, "ExitCode").as_i64() {
        Some(0) => Ok(Reply::Pass),
        Some(1) => Ok(Reply::Block(reason(&first("Stdout")))),
        Some(code) => Err(Failure::new(format!("it ended with code {code}: {}", reason(&first("Stderr"))))),
        None if field(answer, "TimedOut").as_bool() == Some(true) => {
            Err(Failure::new("it did not end in time"))
        }
        None => Err(Failure::new("it was ended by a signal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_block_blocks_and_only_silence_or_a_pass_passes() {
        for passes in ["", "ok", "{}", "[1]", "{\"verdict\":\"pass\",\"x\":1}", "{\"reason\":\"x\"}"] {
            assert_eq!(verdict(passes.as_bytes()), Ok(Reply::Pass), "{passes}");
        }
        let block = verdict(b"{\"verdict\":\"block\",\"reason\":\" no \\u001b[2J \"}");
        assert_eq!(block, Ok(Reply::Block("no \\u{1b}[2J".into())));
        assert_eq!(verdict(b"{\"verdict\":\"block\"}"), Ok(Reply::Block("refused".into())));
        for odd in ["{\"verdict\":\"deny\"}", "{\"verdict\":null}", "{\"verdict\":true}"] {
            assert!(verdict(odd.as_bytes()).is_err(), "{odd}");
        }
        let long = format!("{{\"verdict\":\"block\",\"reason\":\"{}\"}}", "x".repeat(5000));
        assert!(matches!(verdict(long.as_bytes()), Ok(Reply::Block(words)) if words.len() == REASON));
    }

    fn command(script: &str, time: Duration) -> Receiver {
        Receiver::command(
            "s",
            &Command {
                name: "c".into(),
                program: "/bin/sh".into(),
                arguments: vec!["-c".into(), script.into()],
                events: Vec::new(),
                users: Vec::new(),
                priority: 0,
                wait: true,
                on_error: crate::config::OnError::Block,
                time,
            },
        )
    }

    #[tokio::test]
    async fn a_command_reads_the_event_and_answers_by_its_code() {
        let time = Duration::from_secs(20);
        let call = async |script: &str, time| command(script, time).call("i", "{\"a\":1}").await;
        assert_eq!(call("test \"$(cat)\" = '{\"a\":1}'", time).await, Ok(Reply::Pass));
        assert_eq!(call("echo not so; echo x; exit 1", time).await, Ok(Reply::Block("not so".into())));
        assert_eq!(call("exit 1", time).await, Ok(Reply::Block("refused".into())));
        let failed = call("echo why >&2; exit 2", time).await.unwrap_err();
        assert_eq!(failed.words, "it ended with code 2: why");
        assert_eq!(call("kill -9 $$", time).await.unwrap_err().words, "it was ended by a signal");
        let late = call("sleep 60", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(late.words, "it did not end in time");
    }

    #[test]
    fn a_pause_is_taken_in_seconds_only() {
        let answer = |value: &str| json!({ "headers": [["date", "x"], ["retry-after", value]] });
        assert_eq!(retry_after(&answer(" 120 ")), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(&answer("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(retry_after(&json!({})), None);
    }
}
