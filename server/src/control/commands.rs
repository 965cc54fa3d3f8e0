//! `ferryd sessions`, `status` and `reload`: the commands that ask a running server.
//!
//! What clients said of themselves is shown to a terminal with control characters escaped; `--json` is
//! the API's answer as it is. A reader that goes away (`| head`) ends a command quietly.
#![allow(clippy::print_stderr, reason = "this is where the program speaks")]

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::Control;
use super::table::{counted, headed};

/// `ferryd sessions`.
#[derive(Args)]
pub struct Sessions {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    /// Only this user's
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only from this address or network
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Only over this protocol
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// Only of this site
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Only on this node, where several servers share a database
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only in this state: connecting, greeted, authenticating, ready, draining
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only with a file in use there or below
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only with this tag, which a handler gave, or with this value of it
    #[arg(long, value_name = "NAME[=VALUE]")]
    tag: Option<String>,
    /// Ordered by id, user, address, protocol, site, node, state, command, up, down, age or idle; -up the other way
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    order: Option<String>,
    /// One JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// Draw anew every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = pause)]
    watch: Option<Duration>,
}

/// What to do with sessions besides listing them.
#[derive(Subcommand)]
enum SessionsCommand {
    /// Everything about one session
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Sessions that are over, the last one first: why they ended, and who ended them
    History(History),
    /// End sessions, whatever they are doing
    Kill(Kill),
}

/// `ferryd sessions history`.
#[derive(Args)]
struct History {
    /// Only this user's
    #[arg(long, value_name = "NAME", id = "history-user")]
    user: Option<String>,
    /// Only from this address or network
    #[arg(long, value_name = "ADDRESS", id = "history-address")]
    address: Option<String>,
    /// Only over this protocol
    #[arg(long, value_name = "NAME", id = "history-protocol")]
    protocol: Option<String>,
    /// Only of this site
    #[arg(long, value_name = "NAME", id = "history-site")]
    site: Option<String>,
    /// Only on this node
    #[arg(long, value_name = "NAME", id = "history-node")]
    node: Option<String>,
    /// Only with this tag, or with this value of it
    #[arg(long, value_name = "NAME[=VALUE]", id = "history-tag")]
    tag: Option<String>,
    /// Only ended for this reason, by name or number
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only ended by: admin, client, hook, server
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
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
    /// All sessions of this site
    #[arg(long, value_name = "NAME", id = "kill-site")]
    site: Option<String>,
}

#[derive(Args)]
struct Kill {
    #[command(flatten)]
    selector: Selector,
    /// Of a user, an address or a site: only on this node
    #[arg(long, value_name = "NAME", id = "kill-node", conflicts_with = "id")]
    node: Option<String>,
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
  3  no ferryd answers, or not every one of several
  5  no such session, user, group, secret, token, delivery or site";

/// Tells an error and gives its exit code.
pub fn failure(e: &Error) -> ExitCode {
    tell(e, 1)
}

/// As [`failure`], of a command that names one thing: what is not found is that.
pub(crate) fn session_failure(e: &Error) -> ExitCode {
    tell(e, 5)
}

fn tell(e: &Error, not_found: u8) -> ExitCode {
    eprintln!("error: {e:#}");
    ExitCode::from(match e.kind() {
        ErrorKind::Disconnected | ErrorKind::TimedOut => 3,
        ErrorKind::NotFound => not_found,
        ErrorKind::InvalidArgument => 2,
        _ => 1,
    })
}

/// How often `--watch` draws anew.
fn pause(text: &str) -> std::result::Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("from 0.1 to 3600 seconds".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Writes to standard output. Answers whether somebody reads on.
pub(crate) fn put(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => {
            Err(Error::new(ErrorKind::Internal).with_detail("the output cannot be written").with_source(e))
        }
    }
}

/// One line.
fn say(line: &str) -> Result<bool> {
    put(&format!("{line}\n"))
}

/// Runs `ferryd sessions …`.
pub async fn sessions(control: PathBuf, args: Sessions) -> ExitCode {
    let control = Control::new(control);
    let result = match &args.command {
        None => list(&control, &args).await,
        Some(SessionsCommand::History(history)) => past(&control, history, args.json).await,
        Some(SessionsCommand::Show { id }) => show(&control, id, args.json).await,
        Some(SessionsCommand::Kill(kill)) => end(&control, kill, args.json).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => session_failure(&e),
    }
}

/// Runs `ferryd hooks trace`.
pub async fn trace(control: PathBuf, session: &str, json: bool) -> ExitCode {
    match follow(&Control::new(control), session, json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => session_failure(&e),
    }
}

async fn follow(control: &Control, session: &str, json: bool) -> Result<()> {
    // The beginning of an id may mean another session later.
    let first = control.get(&format!("/v1/sessions/{}/trace", encode(session))).await?;
    let id = first.get("sessionId").and_then(Value::as_str).unwrap_or(session).to_string();
    let mut answer = first;
    loop {
        for line in answer.get("lines").and_then(Value::as_array).into_iter().flatten() {
            if !say(&if json { line.to_string() } else { traced(line) })? {
                return Ok(());
            }
        }
        let next = answer.get("next").and_then(Value::as_u64).unwrap_or_default();
        answer = match control.get(&format!("/v1/sessions/{id}/trace?after={next}")).await {
            Ok(answer) => answer,
            // The session is over.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
    }
}

/// A run of a handler, for people.
fn traced(line: &Value) -> String {
    let micros = line.get("elapsedMicroseconds").and_then(Value::as_u64).unwrap_or_default();
    let mut out = format!("{}  {}", shown(line, "time"), shown(line, "event"));
    for key in ["path", "target"] {
        if line.get(key).is_some_and(Value::is_string) {
            out.push_str(&format!("  {}", shown(line, key)));
        }
    }
    out.push_str(&format!("  {}  {}", shown(line, "handler"), shown(line, "outcome")));
    match shown(line, "words") {
        words if words.is_empty() => {}
        words => out.push_str(&format!(": {words}")),
    }
    out.push_str(&format!("  {}.{:03} ms", micros / 1000, micros % 1000));
    for said in line.get("log").and_then(Value::as_array).into_iter().flatten() {
        out.push_str(&format!("\n    {}", display_bytes(said.as_str().unwrap_or_default().as_bytes())));
    }
    out
}

/// Runs `ferryd status`.
pub async fn status(control: PathBuf, json: bool) -> ExitCode {
    let said = match Control::new(control).get("/v1/status").await {
        Ok(v) if json => say(&v.to_string()),
        Ok(v) => put(&pairs(&v)),
        Err(e) => Err(e),
    };
    said.map_or_else(|e| failure(&e), |_| ExitCode::SUCCESS)
}

/// Runs `ferryd drain`, `pause` and `resume`.
pub async fn admit(control: PathBuf, what: &str, site: Option<&str>, json: bool) -> ExitCode {
    let work = async {
        let body = site.map_or(Value::Null, |site| json!({ "site": site }));
        let answer = Control::new(control).post(&format!("/v1/{what}"), &body).await?;
        if json {
            return say(&answer.to_string());
        }
        let of = site.map_or_else(String::new, |site| format!(" at '{}'", display_bytes(site.as_bytes())));
        match (what, site) {
            ("drain", None) => say("no session is taken any more; the server ends with its transfers"),
            ("drain", Some(_)) => {
                say(&format!("no session is taken{of}; those that are there end with their transfers"))
            }
            ("pause", _) => say(&format!("no session is taken{of}; those that are there go on")),
            _ => say(&format!("sessions are taken again{of}")),
        }
    };
    work.await.map_or_else(|e| session_failure(&e), |_| ExitCode::SUCCESS)
}

/// Runs `ferryd reload`.
pub async fn reload(control: PathBuf) -> ExitCode {
    let said = match Control::new(control).post("/v1/reload", &Value::Null).await {
        Ok(v) => {
            let ended = v.get("ended").and_then(Value::as_u64).unwrap_or(0);
            let mut words = format!("the configuration was read anew; {ended} sessions were ended\n");
            for change in v.get("changes").and_then(Value::as_array).into_iter().flatten() {
                words.push_str(&format!("  {}\n", change.as_str().unwrap_or_default()));
            }
            put(&words)
        }
        Err(e) => Err(e),
    };
    said.map_or_else(|e| failure(&e), |_| ExitCode::SUCCESS)
}

/// What may stand in any part of a URL.
pub(crate) fn encode(text: impl AsRef<[u8]>) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.as_ref()
        .iter()
        .copied()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

async fn interrupted(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn query(filters: &[(&str, &Option<String>)]) -> String {
    let set = filters.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    set.map(|(key, value)| format!("{key}={}&", encode(value))).collect()
}

async fn past(control: &Control, asked: &History, json: bool) -> Result<()> {
    let filters = query(&[
        ("user", &asked.user),
        ("address", &asked.address),
        ("protocol", &asked.protocol),
        ("site", &asked.site),
        ("node", &asked.node),
        ("tag", &asked.tag),
        ("reason", &asked.reason),
        ("actor", &asked.actor),
    ]);
    let answer = control.get(&format!("/v1/history?{filters}limit={}", asked.limit)).await?;
    let sessions = answer.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
    let view: String = match json {
        true => sessions.iter().map(|s| format!("{s}\n")).collect(),
        false => past_table(&sessions) + "\n",
    };
    put(&view)?;
    warn(&answer);
    Ok(())
}

/// Tells what an answer of several nodes does not hold; whether there is something.
fn warn(answer: &Value) -> bool {
    let missing = answer.get("incomplete").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for m in missing {
        match shown(m, "node") {
            node if node.is_empty() => eprintln!("other nodes were not asked: {}", shown(m, "why")),
            node => eprintln!("node '{node}': {}", shown(m, "why")),
        }
    }
    !missing.is_empty()
}

fn past_table(sessions: &[Value]) -> String {
    let digits = short(sessions);
    let several = several(sessions);
    let head = [
        "ID", "USER", "PROTOCOL", "ADDRESS", "SITE", "ENDED", "LASTED", "UP", "DOWN", "CODE", "BY", "REASON",
    ];
    let mut t = headed(head.into_iter().chain(several.then_some("NODE")));
    for s in sessions {
        let number = |key: &str| s.get(key).and_then(Value::as_u64).unwrap_or(0);
        let row = [
            shown(s, "sessionId").chars().take(digits).collect(),
            shown(s, "userName"),
            shown(s, "protocol"),
            shown(s, "clientIp"),
            shown(s, "site"),
            shown(s, "endedAt"),
            span(s.get("ageSeconds").and_then(Value::as_f64).unwrap_or(0.0)),
            size(number("bytesReceived")),
            size(number("bytesSent")),
            number("subStatus").to_string(),
            shown(s, "actor"),
            shown(s, "reason").chars().take(60).collect(),
        ];
        t.add_row(row.into_iter().chain(several.then(|| shown(s, "node"))));
    }
    counted(&t, sessions.len(), "sessions")
}

async fn list(control: &Control, args: &Sessions) -> Result<()> {
    let mut path = "/v1/sessions?".to_string();
    path.push_str(&query(&[
        ("user", &args.user),
        ("address", &args.address),
        ("protocol", &args.protocol),
        ("site", &args.site),
        ("node", &args.node),
        ("state", &args.state),
        ("path", &args.path),
        ("tag", &args.tag),
        ("order", &args.order),
    ]));
    // A watch ends well by Ctrl-C, also while the server is asked; a plain list dies of it.
    let mut interrupt = args.watch.map(|_| signal(SignalKind::interrupt())).transpose()?;
    loop {
        let answer = tokio::select! {
            answer = control.get(&path) => answer?,
            () = interrupted(&mut interrupt) => return Ok(()),
        };
        let sessions = answer.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut view = String::new();
        if args.json {
            for s in &sessions {
                view.push_str(&format!("{s}\n"));
            }
        } else {
            if args.watch.is_some() && io::stdout().is_terminal() {
                view.push_str("\x1b[H\x1b[2J");
            }
            view.push_str(&table(&sessions));
            view.push('\n');
        }
        let reads_on = put(&view)?;
        warn(&answer);
        let Some(pause) = args.watch.filter(|_| reads_on) else { return Ok(()) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = interrupted(&mut interrupt) => return Ok(()),
        }
    }
}

fn text<'a>(s: &'a Value, key: &str) -> &'a str {
    s.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// How many digits tell all these ids apart, and a few sessions more. Ids begin with the time, and those
/// of one millisecond differ late, so it is counted and not fixed.
fn short(sessions: &[Value]) -> usize {
    let mut ids: Vec<&str> = sessions.iter().map(|s| text(s, "sessionId")).collect();
    ids.sort_unstable();
    let common = |(a, b): (&&str, &&str)| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    ids.iter().zip(ids.iter().skip(1)).map(|pair| common(pair) + 1).max().unwrap_or(0).max(SHORTEST)
}

/// The digits of the time, in milliseconds, that an id begins with.
const SHORTEST: usize = 12;

/// Whether these are of more than one node.
fn several(sessions: &[Value]) -> bool {
    sessions.windows(2).any(|two| matches!(two, [a, b] if text(a, "node") != text(b, "node")))
}

/// A client's words as a terminal may have them.
pub(crate) fn shown(s: &Value, key: &str) -> String {
    display_bytes(text(s, key).as_bytes())
}

fn table(sessions: &[Value]) -> String {
    let digits = short(sessions);
    let several = several(sessions);
    let head = ["ID", "USER", "PROTOCOL", "ADDRESS", "STATE", "COMMAND", "UP", "DOWN", "AGE", "IDLE"];
    let mut t = headed(head.into_iter().chain(several.then_some("NODE")));
    for s in sessions {
        let command = match (shown(s, "currentCommand"), shown(s, "previousCommand")) {
            (current, _) if !current.is_empty() => current,
            (_, previous) if !previous.is_empty() => format!("({previous})"),
            _ => String::new(),
        };
        let number = |key: &str| s.get(key).and_then(Value::as_u64).unwrap_or(0);
        let seconds = |key: &str| s.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let row = [
            shown(s, "sessionId").chars().take(digits).collect(),
            shown(s, "userName"),
            shown(s, "protocol"),
            shown(s, "clientIp"),
            shown(s, "state"),
            command.chars().take(40).collect(),
            size(number("bytesReceived")),
            size(number("bytesSent")),
            span(seconds("ageSeconds")),
            span(seconds("idleSeconds")),
        ];
        t.add_row(row.into_iter().chain(several.then(|| shown(s, "node"))));
    }
    counted(&t, sessions.len(), "sessions")
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
        say(&s.to_string())?
    } else {
        put(&pairs(&s))?
    };
    Ok(())
}

pub(crate) fn pairs(v: &Value) -> String {
    let Some(map) = v.as_object() else { return format!("{v}\n") };
    let rest = map.keys().filter(|k| !FIRST.contains(&k.as_str())).map(String::as_str);
    let mut out = String::new();
    for key in FIRST.into_iter().filter(|k| map.contains_key(*k)).chain(rest) {
        let value = match map.get(key) {
            Some(Value::String(_)) => shown(v, key),
            Some(other) => display_bytes(other.to_string().as_bytes()),
            None => String::new(),
        };
        out.push_str(&format!("{key:18} {value}\n"));
    }
    out
}

async fn end(control: &Control, kill: &Kill, json: bool) -> Result<()> {
    let body = match &kill.reason {
        Some(reason) => json!({ "reason": reason }),
        None => Value::Null,
    };
    let selector = &kill.selector;
    let filters = query(&[
        ("user", &selector.user),
        ("address", &selector.address),
        ("site", &selector.site),
        ("node", &kill.node),
    ]);
    let path = match &selector.id {
        Some(id) => format!("/v1/sessions/{}/terminate", encode(id)),
        None if !filters.is_empty() => format!("/v1/sessions/terminate?{filters}"),
        None => return Err(Error::new(ErrorKind::InvalidArgument).with_detail("name what to end")),
    };
    let answer = control.post(&path, &body).await?;
    let ended = answer.get("terminated").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut view = String::new();
    if json {
        view = format!("{answer}\n");
    } else {
        for e in &ended {
            let left = e.get("inFlight").and_then(Value::as_u64).unwrap_or(0);
            let note = if left > 0 { format!(" ({left} calls still end)") } else { String::new() };
            let node = shown(e, "node");
            let on = if node.is_empty() { String::new() } else { format!(" on {node}") };
            view.push_str(&format!("ended {}{on}{note}\n", shown(e, "sessionId")));
        }
    }
    put(&view)?;
    if warn(&answer) {
        let words = "not every node answered; one that is heard of within a minute ends its sessions then";
        return Err(Error::new(ErrorKind::TimedOut).with_detail(words));
    }
    if ended.is_empty() {
        return Err(Error::new(ErrorKind::NotFound).with_detail("no live session matches"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        sessions: Sessions,
    }

    fn parse(words: &str) -> std::result::Result<Sessions, clap::Error> {
        Cli::try_parse_from(std::iter::once("t").chain(words.split_whitespace())).map(|c| c.sessions)
    }

    #[test]
    fn kill_takes_exactly_one_selector() {
        for good in ["kill 0192", "kill --user u", "kill --address ::1 --reason r --json"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["kill", "kill --reason r", "kill 0192 --user u", "kill --user u --address ::1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pause_is_within_reason() {
        let watch = |words: &str| parse(words).map(|s| s.watch);
        assert_eq!(watch("--watch").unwrap(), Some(Duration::from_secs(1)));
        assert_eq!(watch("--watch 2.5").unwrap(), Some(Duration::from_millis(2500)));
        assert_eq!(watch("").unwrap(), None);
        for bad in ["--watch nan", "--watch inf", "--watch 0", "--watch=-1", "--watch 1e9", "--watch x"] {
            assert!(watch(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exit_codes_say_what_was_not_found() {
        let e = |kind| Error::new(kind);
        assert_eq!(failure(&e(ErrorKind::NotFound)), ExitCode::from(1));
        assert_eq!(session_failure(&e(ErrorKind::NotFound)), ExitCode::from(5));
        assert_eq!(session_failure(&e(ErrorKind::Disconnected)), ExitCode::from(3));
        assert_eq!(failure(&e(ErrorKind::InvalidArgument)), ExitCode::from(2));
        assert_eq!(failure(&e(ErrorKind::PermissionDenied)), ExitCode::from(1));
    }

    fn session(id: &str, command: &str) -> Value {
        json!({
            "sessionId": id, "userName": "al\u{1b}[2Jice", "protocol": "SFTP", "clientIp": "192.0.2.1",
            "state": "ready", "currentCommand": "", "previousCommand": command,
            "bytesReceived": 1536, "bytesSent": 5, "ageSeconds": 3700.0, "idleSeconds": 61.5,
            "requestedUser": "al\u{9b}2Jice", "customData": ["\u{9b}2J"],
        })
    }

    #[test]
    fn ids_are_as_short_as_tells_them_apart() {
        let ids = |all: &[&str]| short(&all.iter().map(|id| session(id, "")).collect::<Vec<_>>());
        assert_eq!(ids(&[]), 12);
        assert_eq!(ids(&["019200000000711122223333aaaabbbb"]), 12);
        assert_eq!(ids(&["019200000000711122223333aaaabbbb", "0192000000017111aaaabbbbccccdddd"]), 12);
        let same_moment = ["0192000000007111222244", "0193", "0192000000007111222233"];
        assert_eq!(ids(&same_moment), 21);
    }

    #[test]
    fn a_table_and_a_view_give_a_terminal_no_commands() {
        let s = session("019200000000711122223333aaaabbbb", "OPEN /a");
        let table = table(std::slice::from_ref(&s));
        assert!(table.contains("019200000000 ") && table.contains("(OPEN /a)"), "{table}");
        assert!(table.contains("1.5K") && table.contains("1h01m") && table.contains("1m01s"), "{table}");
        assert!(table.ends_with("1 sessions"));
        let view = pairs(&s);
        assert!(view.starts_with("sessionId          0192") && view.contains("requestedUser"), "{view}");
        for text in [table, view] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}
