//! The audit as W3C extended log (the draft that IIS writes by), with the fields of IIS FTP.
//!
//! One line for each finished thing: a connection, a login, an operation, a transfer. `cs-method` is FTP's
//! verb for it, whatever the protocol; `sc-status` FTP's reply code; `sc-win32-status` the nearest code of
//! Windows; `sc-substatus` the reason's number, as IIS numbers them. Times are UTC. Bytes that are no
//! printable ASCII, spaces and `%` are written `%XX`, as is a first character with which a spreadsheet
//! would begin a formula (`=`, `+`, `-`, `@`); an empty field is `-`: no name forges a field or a line.
//! Beyond IIS: `x-target` of a rename, `x-event`, `x-info` (reasons, verdicts, changes), and at the end
//! the record's number and its chain value.

use serde_json::Value;
use session_core::error::{Error, ErrorKind};
use session_core::event::{Direction, Event, TransferEnd, What, timestamp};
use session_core::operation::{OperationKind, Record};

use super::chain::{OPENED, Said};
use crate::journal::Told;

/// What the columns are.
const FIELDS: &str = "date time c-ip c-port cs-username s-sitename s-ip s-port cs-method cs-uri-stem x-target \
     sc-status sc-win32-status sc-substatus sc-bytes cs-bytes time-taken x-session x-protocol x-event x-info \
     x-sequence x-chain";

/// The lines that a file begins with.
pub(super) fn head(time: &str) -> String {
    format!("#Software: Ferry\n#Version: 1.0\n#Date: {}\n#Fields: {FIELDS}\n", time.replace('T', " "))
}

/// Whether a line is one of those, as this version writes them.
pub(super) fn is_directive(line: &str) -> bool {
    match line.split_once(": ") {
        Some(("#Fields", fields)) => fields == FIELDS,
        Some(("#Software" | "#Version" | "#Date", _)) => true,
        _ => false,
    }
}

/// A record's number, and what an opening record says.
pub(super) fn read(body: &str) -> Option<Said> {
    let fields: Vec<&str> = body.split(' ').collect();
    // All but the chain value.
    let [.., event, info, sequence] = fields.as_slice() else { return None };
    if fields.len() != FIELDS.split(' ').count() - 1 {
        return None;
    }
    let opened = || {
        let (previous, torn) = info.split_once('/')?;
        Some((previous.to_string(), torn.parse().ok()?))
    };
    let opened = if *event == OPENED { Some(opened()?) } else { None };
    Some(Said { sequence: sequence.parse().ok()?, opened })
}

/// A field that cannot end early, and that no spreadsheet takes for a formula.
fn field(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    let mut out = String::with_capacity(bytes.len());
    for (n, b) in bytes.iter().enumerate() {
        match b {
            b'%' | ..=b' ' | 0x7f.. => out.push_str(&format!("%{b:02X}")),
            b'=' | b'+' | b'-' | b'@' if n == 0 => out.push_str(&format!("%{b:02X}")),
            _ => out.push(char::from(*b)),
        }
    }
    out
}

/// The columns that differ from line to line.
#[derive(Default)]
struct Row {
    method: &'static str,
    path: Vec<u8>,
    target: Vec<u8>,
    status: Option<u16>,
    windows: u32,
    reason: u32,
    sent: Option<u64>,
    received: Option<u64>,
    milliseconds: Option<u128>,
    event: &'static str,
    info: String,
}

impl Row {
    fn failed(mut self, e: &Error) -> Self {
        self.status = Some(proto_ftp::status::code(e.kind()));
        self.windows = windows(e.kind());
        self.reason = e.reason().number().into();
        self.info = e.peer_words().to_string();
        self
    }
}

/// The line of an event without number and chain value; `None` for what is told by a later one.
pub(super) fn event(told: &Told) -> Option<String> {
    let event = &told.event;
    let row = row(event)?;
    let origin = &told.origin;
    let user = match &event.what {
        What::LoginFailed { user, .. } | What::LoggedIn { user, .. } => Some(user),
        _ => told.user.as_ref(),
    };
    let local = origin.local.map(|l| (l.ip().to_canonical().to_string(), l.port().to_string()));
    let (server, port) = local.unwrap_or_default();
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let columns = [
        field(origin.address.as_bytes()),
        field(origin.port.to_string().as_bytes()),
        field(user.map(|u| u.as_bytes()).unwrap_or_default()),
        field(origin.site.as_bytes()),
        field(server.as_bytes()),
        field(port.as_bytes()),
        field(row.method.as_bytes()),
        field(&row.path),
        field(&row.target),
        field(number(row.status.map(u64::from)).as_bytes()),
        row.windows.to_string(),
        row.reason.to_string(),
        field(number(row.sent).as_bytes()),
        field(number(row.received).as_bytes()),
        field(row.milliseconds.map(|n| n.to_string()).unwrap_or_default().as_bytes()),
        field(event.session.as_str().as_bytes()),
        field(origin.protocol.as_bytes()),
        field(row.event.as_bytes()),
        field(row.info.as_bytes()),
    ];
    Some(format!("{} {}", moment(&timestamp(event.time)), columns.join(" ")))
}

/// The same of something that belongs to no session: its name, and all that it says as JSON.
pub(super) fn note(time: &str, name: &str, value: &Value) -> String {
    let info = match name {
        OPENED => {
            let text = |k: &str| value.get(k).and_then(Value::as_str).unwrap_or_default();
            let torn = value.get("torn").and_then(Value::as_u64).unwrap_or_default();
            format!("{}/{torn}", text("previous"))
        }
        _ => value.to_string(),
    };
    let nothing = "- - - - - - - - - - 0 0 - - - - -";
    format!("{} {nothing} {} {}", moment(time), field(name.as_bytes()), field(info.as_bytes()))
}

/// Date and time as two fields, without what W3C has no room for.
fn moment(time: &str) -> String {
    let (date, clock) = time.split_once('T').unwrap_or(("-", "-"));
    format!("{date} {}", clock.trim_end_matches('Z'))
}

fn row(event: &Event) -> Option<Row> {
    Some(match &event.what {
        What::Connected => Row { method: "ControlChannelOpened", event: "connected", ..Row::default() },
        What::Closed(ending) => Row {
            method: "ControlChannelClosed",
            reason: ending.code.number().into(),
            event: "closed",
            info: format!("{} ({})", ending.reason, ending.actor),
            ..Row::default()
        },
        What::LoginFailed { method, reason, code, .. } => Row {
            method: "PASS",
            status: Some(530),
            windows: windows(ErrorKind::Unauthenticated),
            reason: code.number().into(),
            event: "login-failed",
            info: format!("{method}: {reason}"),
            ..Row::default()
        },
        What::LoggedIn { methods, .. } => Row {
            method: "PASS",
            status: Some(230),
            event: "logged-in",
            info: methods.join(","),
            ..Row::default()
        },
        What::Transfer(t) => {
            let download = t.direction == Direction::Download;
            let status = match t.end {
                TransferEnd::Done => 226,
                TransferEnd::Parked | TransferEnd::Aborted => 426,
            };
            Row {
                method: if download { "RETR" } else { "STOR" },
                path: t.path.as_bytes().to_vec(),
                status: Some(status),
                sent: Some(if download { t.bytes } else { 0 }),
                received: Some(if download { 0 } else { t.bytes }),
                milliseconds: Some(t.elapsed.as_millis()),
                event: "transfer",
                info: t.end.name().into(),
                ..Row::default()
            }
        }
        What::Started { .. } => return None,
        What::Ended { record, error, elapsed, .. } => {
            let (method, success) = verb(record);
            let row = Row {
                method,
                path: record.path().as_bytes().to_vec(),
                target: record.target().map(|t| t.as_bytes().to_vec()).unwrap_or_default(),
                status: Some(success),
                milliseconds: Some(elapsed.as_millis()),
                event: record.kind().name(),
                info: verdicts(record),
                ..Row::default()
            };
            match error {
                Some(e) => row.failed(e),
                // What succeeds is told by its transfer's line.
                None if record.kind() == OperationKind::Open => return None,
                None => row,
            }
        }
    })
}

fn verdicts(record: &Record) -> String {
    let Record::Commit(commit) = record else { return String::new() };
    let said = commit.findings.iter().map(|f| match f.digest_words() {
        d if d.is_empty() => format!("{}: {}", f.by, f.words),
        d => format!("{}: {} {d}", f.by, f.words),
    });
    said.collect::<Vec<_>>().join("; ")
}

/// FTP's verb for an operation, or a word of its kind, and the code of its success.
fn verb(record: &Record) -> (&'static str, u16) {
    match record {
        Record::Abort(_) => ("ABOR", 226),
        Record::Canonicalize(_) => ("PWD", 257),
        Record::Checksum(_) => ("HASH", 213),
        Record::Commit(_) => ("STOR", 226),
        Record::Copy(_) => ("SITE+COPY", 250),
        Record::CreateDir(_) => ("MKD", 257),
        Record::HardLink(_) => ("SITE+LINK", 250),
        Record::List(_) => ("LIST", 226),
        Record::Lock(_) => ("SITE+LOCK", 250),
        Record::Open(r) if r.options.write => ("STOR", 150),
        Record::Open(_) => ("RETR", 150),
        Record::Park(_) => ("STOR", 426),
        Record::Read(_) => ("RETR", 150),
        Record::ReadLink(_) => ("SITE+READLINK", 250),
        Record::RemoveDir(_) => ("RMD", 250),
        Record::RemoveFile(_) => ("DELE", 250),
        Record::Rename(_) => ("RNTO", 250),
        Record::SetAttributes(_) => ("MFF", 213),
        Record::Space(_) => ("AVBL", 213),
        Record::Stat(_) => ("MLST", 250),
        Record::Symlink(_) => ("SITE+SYMLINK", 250),
        Record::Sync(_) => ("SITE+SYNC", 250),
        Record::Unlock(_) => ("SITE+UNLOCK", 250),
        Record::Write(_) => ("STOR", 150),
    }
}

/// The nearest error code of Windows (`winerror.h`).
fn windows(kind: ErrorKind) -> u32 {
    match kind {
        ErrorKind::NotFound => 2,
        ErrorKind::NotADirectory => 3,
        ErrorKind::IsADirectory | ErrorKind::PermissionDenied | ErrorKind::Refused => 5,
        ErrorKind::Closed => 6,
        ErrorKind::CrossDevice => 17,
        ErrorKind::Internal => 31,
        ErrorKind::Locked => 32,
        ErrorKind::OutOfRange => 38,
        ErrorKind::Unsupported => 50,
        ErrorKind::Disconnected => 64,
        ErrorKind::InvalidArgument | ErrorKind::PeerMisbehaved => 87,
        ErrorKind::NoSpace => 112,
        ErrorKind::TimedOut => 121,
        ErrorKind::InvalidPath => 123,
        ErrorKind::NotEmpty => 145,
        ErrorKind::Throttled => 170,
        ErrorKind::AlreadyExists => 183,
        ErrorKind::TooLarge => 223,
        ErrorKind::PreconditionFailed => 1006,
        ErrorKind::Canceled => 1223,
        ErrorKind::Unauthenticated => 1326,
        ErrorKind::Corrupt => 1392,
        ErrorKind::QuotaExceeded => 1816,
        ErrorKind::LinkLoop => 1921,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_forges_a_field_or_a_line() {
        assert_eq!(field(b"plain/name.txt"), "plain/name.txt");
        assert_eq!(field(b"a b\r\n#Fields: x\t%41\xff\x7f"), "a%20b%0D%0A#Fields:%20x%09%2541%FF%7F");
        assert_eq!((field(b"").as_str(), field(b"-").as_str()), ("-", "%2D"));
        for (name, written) in [("=cmd|x", "%3Dcmd|x"), ("+1", "%2B1"), ("-1", "%2D1"), ("@a=b", "%40a=b")] {
            assert_eq!(field(name.as_bytes()), written);
        }
    }

    #[test]
    fn every_line_has_every_column() {
        let columns = FIELDS.split(' ').count();
        let line = note("2026-01-02T03:04:05.678Z", "reloaded", &serde_json::json!({ "changes": ["a b"] }));
        // Number and chain value come later.
        assert_eq!(line.split(' ').count(), columns - 2, "{line}");
        assert!(line.starts_with("2026-01-02 03:04:05.678 - "), "{line}");
        assert!(is_directive(&format!("#Fields: {FIELDS}")) && !is_directive("#Fields: date"));
    }
}
