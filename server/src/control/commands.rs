//! `ferryd sessions`, `status` and `reload`: the commands that ask a running server.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program speaks")]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::client::Control;

/// `ferryd sessions`.
#[derive(Args)]
pub struct Sessions {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    /// Only this user's
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only from this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// One JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// Draw anew every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    watch: Option<f64>,
}

/// What to do with sessions besides listing them.
#[derive(Subcommand)]
enum SessionsCommand {
    /// Everything about one session
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// End sessions, whatever they are doing
    Kill(Kill),
}

/// `ferryd sessions kill`.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Selector {
    /// The session's id, or the beginning of it
    id: Option<String>,
    /// All sessions of this user
    #[arg(long, value_name = "NAME", id = "kill-user")]
    user: Option<String>,
    /// All sessions from this address
    #[arg(long, value_name = "ADDRESS", id = "kill-address")]
    address: Option<String>,
}

#[derive(Args)]
struct Kill {
    #[command(flatten)]
    selector: Selector,
    /// Why; it stands in the log and in the closing event
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// The codes that these commands end with.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the arguments or the configuration make no sense
  3  no ferryd answers
  5  no such session";

/// Tells an error and gives its exit code.
pub fn failure(e: &Error) -> ExitCode {
    eprintln!("error: {e:#}");
    ExitCode::from(match e.kind() {
        ErrorKind::Disconnected | ErrorKind::TimedOut => 3,
        ErrorKind::NotFound => 5,
        ErrorKind::InvalidArgument => 2,
        _ => 1,
    })
}

/// Runs `ferryd sessions …`.
pub async fn sessions(control: PathBuf, args: Sessions) -> ExitCode {
    let control = Control::new(control);
    let result = match &args.command {
        None => list(&control, &args).await,
        Some(SessionsCommand::Show { id }) => show(&control, id, args.json).await,
        Some(SessionsCommand::Kill(kill)) => end(&control, kill, args.json).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failure(&e),
    }
}

/// Runs `ferryd status`.
pub async fn status(control: PathBuf, json: bool) -> ExitCode {
    match Control::new(control).get("/v1/status").await {
        Ok(v) if json => println!("{v}"),
        Ok(v) => print_pairs(&v),
        Err(e) => return failure(&e),
    }
    ExitCode::SUCCESS
}

/// Runs `ferryd reload`.
pub async fn reload(control: PathBuf) -> ExitCode {
    match Control::new(control).post("/v1/reload", &Value::Null).await {
        Ok(v) => {
            let ended = v.get("ended").and_then(Value::as_u64).unwrap_or(0);
            println!("the configuration was read anew; {ended} sessions were ended");
            for change in v.get("changes").and_then(Value::as_array).into_iter().flatten() {
                println!("  {}", change.as_str().unwrap_or_default());
            }
            ExitCode::SUCCESS
        }
        Err(e) => failure(&e),
    }
}

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

async fn list(control: &Control, args: &Sessions) -> Result<()> {
    let mut path = "/v1/sessions?".to_string();
    for (key, value) in [("user", &args.user), ("address", &args.address)] {
        if let Some(value) = value {
            path.push_str(&format!("{key}={}&", encode(value)));
        }
    }
    loop {
        let answer = control.get(&path).await?;
        let sessions = answer.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
        if args.watch.is_some() && !args.json && std::io::stdout().is_terminal() {
            print!("\x1b[H\x1b[2J");
        }
        if args.json {
            for s in &sessions {
                println!("{s}");
            }
        } else {
            println!("{}", table(&sessions));
        }
        let Some(seconds) = args.watch else { return Ok(()) };
        let pause = Duration::from_secs_f64(seconds.clamp(0.1, 3600.0));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn text<'a>(s: &'a Value, key: &str) -> &'a str {
    s.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn table(sessions: &[Value]) -> String {
    let mut t = Table::new();
    t.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    t.set_header(["ID", "USER", "PROTOCOL", "ADDRESS", "STATE", "COMMAND", "UP", "DOWN", "AGE", "IDLE"]);
    for s in sessions {
        let current = text(s, "currentCommand");
        let command =
            if current.is_empty() { format!("({})", text(s, "previousCommand")) } else { current.into() };
        let shown: String = if command == "()" { String::new() } else { command.chars().take(40).collect() };
        let number = |key: &str| s.get(key).and_then(Value::as_u64).unwrap_or(0);
        let seconds = |key: &str| s.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        t.add_row([
            text(s, "sessionId").to_string(),
            text(s, "userName").to_string(),
            text(s, "protocol").to_string(),
            text(s, "clientIp").to_string(),
            text(s, "state").to_string(),
            shown,
            size(number("bytesReceived")),
            size(number("bytesSent")),
            span(seconds("ageSeconds")),
            span(seconds("idleSeconds")),
        ]);
    }
    let lines: Vec<String> = t.to_string().lines().map(|l| l.trim_end().to_string()).collect();
    format!("{}\n\n{} sessions", lines.join("\n"), sessions.len())
}

fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut rest = 0;
    for unit in ["", "K", "M", "G", "T"] {
        if value < 1024 {
            return if unit.is_empty() {
                value.to_string()
            } else {
                format!("{value}.{}{unit}", rest * 10 / 1024)
            };
        }
        rest = value % 1024;
        value /= 1024;
    }
    format!("{value}P")
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shown to people")]
fn span(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
    }
}

/// IIS's ten attributes, in its order.
const FIRST: [&str; 10] = [
    "sessionId",
    "userName",
    "clientIp",
    "sessionStartTime",
    "currentCommand",
    "previousCommand",
    "commandStartTime",
    "bytesReceived",
    "bytesSent",
    "lastErrorStatus",
];

async fn show(control: &Control, id: &str, json: bool) -> Result<()> {
    let s = control.get(&format!("/v1/sessions/{}", encode(id))).await?;
    if json {
        println!("{s}");
    } else {
        print_pairs(&s);
    }
    Ok(())
}

fn print_pairs(v: &Value) {
    let Some(map) = v.as_object() else { return println!("{v}") };
    let rest = map.keys().filter(|k| !FIRST.contains(&k.as_str())).map(String::as_str);
    for key in FIRST.into_iter().filter(|k| map.contains_key(*k)).chain(rest) {
        let shown = match map.get(key) {
            Some(Value::String(s)) => s.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        println!("{key:18} {shown}");
    }
}

async fn end(control: &Control, kill: &Kill, json: bool) -> Result<()> {
    let body = match &kill.reason {
        Some(reason) => json!({ "reason": reason }),
        None => Value::Null,
    };
    let selector = &kill.selector;
    let path = match (&selector.id, &selector.user, &selector.address) {
        (Some(id), _, _) => format!("/v1/sessions/{}/terminate", encode(id)),
        (_, Some(user), _) => format!("/v1/sessions/terminate?user={}", encode(user)),
        (_, _, Some(address)) => format!("/v1/sessions/terminate?address={}", encode(address)),
        _ => return Err(Error::new(ErrorKind::InvalidArgument).with_detail("name what to end")),
    };
    let answer = control.post(&path, &body).await?;
    let ended = answer.get("terminated").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        println!("{answer}");
    } else {
        for e in &ended {
            let left = e.get("inFlight").and_then(Value::as_u64).unwrap_or(0);
            let note = if left > 0 { format!(" ({left} calls still end)") } else { String::new() };
            println!("ended {}{note}", text(e, "sessionId"));
        }
    }
    if ended.is_empty() {
        return Err(Error::new(ErrorKind::NotFound).with_detail("no live session matches"));
    }
    Ok(())
}
