//! The file of the outbox: SQLite with a write-ahead log, used by one thread.
//!
//! An event is written as an *intent* before its operation and gets its *place* with its outcome; each receiver
//! it is for then has a *delivery*. The deliveries of one session to one receiver are a line: only its head has
//! a time when it is due, so that order holds and nothing is searched. A delivery that is given up is a dead
//! letter, and the line goes on.
//!
//! Times are milliseconds since 1970. Functions run within the caller's transaction.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

/// How a file of ours is known: "FerO".
const APPLICATION: i64 = 0x4665_724f;

/// The version of what is below.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY, session TEXT NOT NULL, site TEXT NOT NULL, event TEXT NOT NULL,
    receivers TEXT NOT NULL, body TEXT NOT NULL, clue TEXT NOT NULL, made INTEGER NOT NULL,
    place INTEGER) STRICT;
CREATE INDEX intents ON events (made) WHERE place IS NULL;
CREATE TABLE deliveries (
    receiver TEXT NOT NULL, id TEXT NOT NULL, session TEXT NOT NULL, place INTEGER NOT NULL,
    due INTEGER, dead INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    first INTEGER, words TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (receiver, id)) STRICT, WITHOUT ROWID;
CREATE INDEX of_event ON deliveries (id);
CREATE INDEX lines ON deliveries (receiver, session, place) WHERE dead = 0;
CREATE INDEX due ON deliveries (receiver, due) WHERE due IS NOT NULL;
CREATE INDEX soonest ON deliveries (due) WHERE due IS NOT NULL;
CREATE INDEX dead ON deliveries (place) WHERE dead = 1;
CREATE TABLE tally (events INTEGER NOT NULL, dead INTEGER NOT NULL, next INTEGER NOT NULL) STRICT;
INSERT INTO tally VALUES (0, 0, 1);
CREATE TRIGGER more AFTER INSERT ON events BEGIN UPDATE tally SET events = events + 1; END;
CREATE TRIGGER fewer AFTER DELETE ON events BEGIN UPDATE tally SET events = events - 1; END;
CREATE TRIGGER died AFTER UPDATE OF dead ON deliveries WHEN new.dead <> old.dead BEGIN
    UPDATE tally SET dead = dead + new.dead - old.dead; END;
CREATE TRIGGER buried AFTER DELETE ON deliveries WHEN old.dead = 1 BEGIN
    UPDATE tally SET dead = dead - 1; END;
CREATE TRIGGER told AFTER DELETE ON deliveries
    WHEN NOT EXISTS (SELECT 1 FROM deliveries WHERE id = old.id) BEGIN
    DELETE FROM events WHERE id = old.id; END;
";

/// An event before its operation.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) id: String,
    /// Whose line it stands in.
    pub(crate) session: String,
    pub(crate) site: String,
    pub(crate) event: String,
    /// Whom it is for.
    pub(crate) receivers: Vec<String>,
    /// What is told if nobody knows more.
    pub(crate) body: Value,
    /// What helps to find out later whether the operation was carried out.
    pub(crate) clue: Value,
}

/// What became of an intent.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It happened, and this is told.
    Happened(Value),
    /// Nothing is told.
    Nothing,
}

/// A delivery that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) receiver: String,
    pub(super) id: String,
    pub(super) body: String,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// When it was first tried.
    pub(super) first: Option<i64>,
}

/// Which deliveries an administrator means.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) ids: Vec<String>,
    pub(crate) receiver: Option<String>,
    pub(crate) session: Option<String>,
    /// Only dead letters, or only others.
    pub(crate) dead: Option<bool>,
}

pub(super) fn failed(e: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as C;
    let kind = match e.sqlite_error_code() {
        Some(C::DatabaseCorrupt | C::NotADatabase) => ErrorKind::Corrupt,
        Some(C::DiskFull) => ErrorKind::NoSpace,
        Some(C::DatabaseBusy | C::DatabaseLocked) => ErrorKind::Locked,
        Some(C::PermissionDenied | C::ReadOnly | C::CannotOpen) => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal,
    };
    Error::new(kind).with_detail("the outbox cannot be used").with_source(e)
}

/// Opens the file and makes it where it is missing, readable by its owner alone. Errors: a file of somebody
/// else, or of a newer program; those of the disk.
pub(super) fn open(path: &Path, fsync: bool) -> Result<Connection> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let made = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map_err(|e| Error::from(e).with_detail(format!("{} cannot be opened", path.display())))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let empty = application == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
    let wrong =
        |words: &str| Error::new(ErrorKind::Corrupt).with_detail(format!("{} {words}", path.display()));
    if !empty && application != APPLICATION {
        return Err(wrong("is not an outbox of ferryd"));
    }
    if version > VERSION {
        return Err(wrong("was written by a newer ferryd"));
    }
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(wrong("is on a disk that cannot keep a write-ahead log"));
    }
    let level = if fsync { "FULL" } else { "NORMAL" };
    let settings = format!("PRAGMA synchronous = {level}; PRAGMA trusted_schema = OFF;");
    connection.execute_batch(&settings).map_err(failed)?;
    if empty {
        let all = format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        );
        connection.execute_batch(&all).map_err(failed)?;
    }
    Ok(connection)
}

fn text(value: &Value) -> String {
    value.to_string()
}

/// Writes what is about to happen; one that is there already is replaced. Errors: `NoSpace` where as many as
/// `most` are kept.
pub(super) fn intend(c: &Connection, intents: &[Intent], most: usize, now: i64) -> Result<()> {
    let (events, dead): (i64, i64) = c
        .prepare_cached("SELECT events, dead FROM tally")
        .and_then(|mut s| s.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(failed)?;
    // Dead letters have a bound of their own.
    let kept = usize::try_from(events - dead).unwrap_or(0);
    if kept + intents.len() > most {
        return Err(Error::new(ErrorKind::NoSpace).with_detail("the outbox is full"));
    }
    for i in intents {
        let receivers = text(&json!(i.receivers));
        c.prepare_cached(
            "INSERT INTO events (id, session, site, event, receivers, body, clue, made)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET body = excluded.body, clue = excluded.clue",
        )
        .and_then(|mut s| {
            s.execute(params![i.id, i.session, i.site, i.event, receivers, text(&i.body), text(&i.clue), now])
        })
        .map_err(failed)?;
    }
    Ok(())
}

/// Writes what became of an intent. One that is not there, or has its outcome, stays as it is.
pub(super) fn settle(c: &Connection, id: &str, outcome: &Outcome, now: i64) -> Result<()> {
    let body = match outcome {
        Outcome::Nothing => {
            let done = c
                .prepare_cached("DELETE FROM events WHERE id = ?1 AND place IS NULL")
                .and_then(|mut s| s.execute([id]));
            return done.map(|_| ()).map_err(failed);
        }
        Outcome::Happened(body) => text(body),
    };
    let found: Option<(String, String)> = c
        .prepare_cached("SELECT session, receivers FROM events WHERE id = ?1 AND place IS NULL")
        .and_then(|mut s| s.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(failed)?;
    let Some((session, receivers)) = found else { return Ok(()) };
    let receivers: Vec<String> = serde_json::from_str(&receivers).unwrap_or_default();
    let place: i64 = c
        .prepare_cached("UPDATE tally SET next = next + 1 RETURNING next")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(failed)?;
    c.prepare_cached("UPDATE events SET place = ?2, body = ?3, receivers = '', clue = '' WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id, place, body]))
        .map_err(failed)?;
    for receiver in receivers {
        // Behind the others of its line, if there are any.
        c.prepare_cached(
            "INSERT INTO deliveries (receiver, id, session, place, due)
             SELECT ?1, ?2, ?3, ?4, CASE WHEN EXISTS (
                 SELECT 1 FROM deliveries WHERE receiver = ?1 AND session = ?3 AND dead = 0)
             THEN NULL ELSE ?5 END",
        )
        .and_then(|mut s| s.execute(params![receiver, id, session, place, now]))
        .map_err(failed)?;
    }
    Ok(())
}

/// What has no outcome, in order.
pub(super) fn intents(c: &Connection) -> Result<Vec<Intent>> {
    let sql = "SELECT id, session, site, event, receivers, body, clue FROM events
               WHERE place IS NULL ORDER BY made, id";
    many(c, sql, [], intent)
}

/// One that has no outcome, if it is there.
pub(super) fn intent_of(c: &Connection, id: &str) -> Result<Option<Intent>> {
    let sql = "SELECT id, session, site, event, receivers, body, clue FROM events
               WHERE place IS NULL AND id = ?1";
    c.prepare_cached(sql).and_then(|mut s| s.query_row([id], intent).optional()).map_err(failed)
}

fn intent(row: &Row<'_>) -> rusqlite::Result<Intent> {
    let value = |n: usize| row.get::<_, String>(n).map(|t| serde_json::from_str(&t).unwrap_or(Value::Null));
    Ok(Intent {
        id: row.get(0)?,
        session: row.get(1)?,
        site: row.get(2)?,
        event: row.get(3)?,
        receivers: serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default(),
        body: value(5)?,
        clue: value(6)?,
    })
}

fn many<T>(
    c: &Connection,
    sql: &str,
    with: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = c.prepare_cached(sql).map_err(failed)?;
    let rows = statement.query_map(with, read).map_err(failed)?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed)
}

/// Who is told of something, now or later.
pub(super) fn receivers(c: &Connection) -> Result<Vec<String>> {
    many(c, "SELECT DISTINCT receiver FROM deliveries WHERE due IS NOT NULL", [], |row| row.get(0))
}

/// What one receiver is to be told by now, at most `most`.
pub(super) fn due(c: &Connection, receiver: &str, now: i64, most: usize) -> Result<Vec<Due>> {
    let sql =
        "SELECT d.receiver, d.id, e.body, d.attempts, d.first FROM deliveries d JOIN events e ON e.id = d.id
               WHERE d.receiver = ?1 AND d.due <= ?2 ORDER BY d.due, d.place LIMIT ?3";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    many(c, sql, params![receiver, now, most], |row| {
        Ok(Due {
            receiver: row.get(0)?,
            id: row.get(1)?,
            body: row.get(2)?,
            attempts: row.get(3)?,
            first: row.get(4)?,
        })
    })
}

/// When something is due next, after `now`.
pub(super) fn next_due(c: &Connection, now: i64) -> Result<Option<i64>> {
    c.prepare_cached("SELECT min(due) FROM deliveries WHERE due > ?1")
        .and_then(|mut s| s.query_row([now], |row| row.get(0)))
        .map_err(failed)
}

fn line_of(c: &Connection, receiver: &str, id: &str) -> Result<Option<String>> {
    c.prepare_cached("SELECT session FROM deliveries WHERE receiver = ?1 AND id = ?2")
        .and_then(|mut s| s.query_row([receiver, id], |row| row.get(0)).optional())
        .map_err(failed)
}

/// Lets the first of a line be told.
fn move_up(c: &Connection, receiver: &str, session: &str, now: i64) -> Result<()> {
    c.prepare_cached(
        "UPDATE deliveries SET due = ?3 WHERE receiver = ?1 AND due IS NULL AND dead = 0 AND id = (
             SELECT id FROM deliveries WHERE receiver = ?1 AND session = ?2 AND dead = 0
             ORDER BY place LIMIT 1)",
    )
    .and_then(|mut s| s.execute(params![receiver, session, now]))
    .map(|_| ())
    .map_err(failed)
}

/// It was told: it is forgotten, and the next of its line is due.
pub(super) fn delivered(c: &Connection, receiver: &str, id: &str, now: i64) -> Result<()> {
    let Some(session) = line_of(c, receiver, id)? else { return Ok(()) };
    c.prepare_cached("DELETE FROM deliveries WHERE receiver = ?1 AND id = ?2")
        .and_then(|mut s| s.execute([receiver, id]))
        .map_err(failed)?;
    move_up(c, receiver, &session, now)
}

/// It was not: it is tried again at `again`, or is a dead letter, of which `most_dead` are kept.
pub(super) fn undelivered(
    c: &Connection,
    (receiver, id): (&str, &str),
    words: &str,
    again: Option<i64>,
    most_dead: usize,
    now: i64,
) -> Result<()> {
    let Some(session) = line_of(c, receiver, id)? else { return Ok(()) };
    c.prepare_cached(
        "UPDATE deliveries SET due = ?3, dead = ?4, words = ?5, attempts = attempts + 1,
             first = coalesce(first, ?6) WHERE receiver = ?1 AND id = ?2",
    )
    .and_then(|mut s| s.execute(params![receiver, id, again, again.is_none(), words, now]))
    .map_err(failed)?;
    if again.is_some() {
        return Ok(());
    }
    bury(c, most_dead)?;
    move_up(c, receiver, &session, now)
}

/// Throws the oldest dead letters away where there are too many.
fn bury(c: &Connection, most: usize) -> Result<()> {
    let dead: i64 = c.query_row("SELECT dead FROM tally", [], |row| row.get(0)).map_err(failed)?;
    let over = dead - i64::try_from(most).unwrap_or(i64::MAX);
    if over <= 0 {
        return Ok(());
    }
    tracing::error!(target: "outbox", dropped = over, "dead letters were dropped: there are too many");
    let oldest = "SELECT receiver, id FROM deliveries WHERE dead = 1 ORDER BY place LIMIT ?1";
    let oldest: Vec<(String, String)> = many(c, oldest, [over], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (receiver, id) in oldest {
        c.execute("DELETE FROM deliveries WHERE receiver = ?1 AND id = ?2", [receiver, id])
            .map_err(failed)?;
    }
    Ok(())
}

impl Filter {
    /// A condition over `d` (a delivery), and what it is about.
    fn sql(&self) -> (String, Vec<String>) {
        let mut parts = vec!["1".to_owned()];
        let mut with = Vec::new();
        for (column, value) in [("receiver", &self.receiver), ("session", &self.session)] {
            if let Some(value) = value {
                with.push(value.clone());
                parts.push(format!("d.{column} = ?{}", with.len()));
            }
        }
        if !self.ids.is_empty() {
            let marks = self.ids.iter().map(|id| {
                with.push(id.clone());
                format!("?{}", with.len())
            });
            let marks: Vec<_> = marks.collect();
            parts.push(format!("d.id IN ({})", marks.join(", ")));
        }
        if let Some(dead) = self.dead {
            parts.push(format!("d.dead = {}", u8::from(dead)));
        }
        (parts.join(" AND "), with)
    }
}

/// What is kept, in order, at most `most`; behind `after`, a place and a receiver.
pub(super) fn list(
    c: &Connection,
    filter: &Filter,
    after: Option<(i64, String)>,
    most: usize,
) -> Result<Vec<Value>> {
    let (condition, mut with) = filter.sql();
    let (place, receiver) = after.unwrap_or((0, String::new()));
    with.push(receiver);
    let behind = format!("(d.place > {place} OR (d.place = {place} AND d.receiver > ?{}))", with.len());
    let sql = format!(
        "SELECT d.place, d.receiver, d.id, d.session, d.due, d.dead, d.attempts, d.first, d.words, e.site, e.event, e.made, e.body
         FROM deliveries d JOIN events e ON e.id = d.id WHERE {condition} AND {behind}
         ORDER BY d.place, d.receiver LIMIT {most}"
    );
    many(c, &sql, rusqlite::params_from_iter(with), |row| {
        let (due, dead): (Option<i64>, bool) = (row.get(4)?, row.get(5)?);
        let state = match (dead, due) {
            (true, _) => "dead",
            (false, Some(_)) => "due",
            (false, None) => "waiting",
        };
        let body: String = row.get(12)?;
        Ok(json!({
            "place": row.get::<_, i64>(0)?, "receiver": row.get::<_, String>(1)?, "id": row.get::<_, String>(2)?,
            "session": row.get::<_, String>(3)?, "state": state, "due": due.map(stamp),
            "attempts": row.get::<_, i64>(6)?, "firstTried": row.get::<_, Option<i64>>(7)?.map(stamp),
            "lastFailure": row.get::<_, String>(8)?, "site": row.get::<_, String>(9)?,
            "event": row.get::<_, String>(10)?, "made": stamp(row.get(11)?),
            "told": serde_json::from_str::<Value>(&body).unwrap_or(Value::Null),
        }))
    })
}

/// How many events, dead letters, and events without an outcome there are.
pub(super) fn counts(c: &Connection) -> Result<Value> {
    let sql = "SELECT events, dead, (SELECT count(*) FROM events WHERE place IS NULL) FROM tally";
    c.query_row(sql, [], |row| {
        Ok(json!({
            "events": row.get::<_, i64>(0)?, "dead": row.get::<_, i64>(1)?, "open": row.get::<_, i64>(2)?,
        }))
    })
    .map_err(failed)
}

/// Whatever it means is due now, as if it had never failed; how many.
pub(super) fn retry(c: &Connection, filter: &Filter, now: i64) -> Result<usize> {
    let (condition, with) = filter.sql();
    // What waits for others of its line goes on waiting.
    let sql = format!(
        "UPDATE deliveries AS d SET due = {now}, dead = 0, attempts = 0, first = NULL
         WHERE (d.dead = 1 OR d.due IS NOT NULL) AND {condition}"
    );
    c.execute(&sql, rusqlite::params_from_iter(with)).map_err(failed)
}

/// Whatever it means is told to nobody; how many.
pub(super) fn drop(c: &Connection, filter: &Filter, now: i64) -> Result<usize> {
    let (condition, with) = filter.sql();
    let sql = format!("SELECT d.receiver, d.id FROM deliveries d WHERE {condition}");
    let found: Vec<(String, String)> =
        many(c, &sql, rusqlite::params_from_iter(with), |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (receiver, id) in &found {
        delivered(c, receiver, id, now)?;
    }
    Ok(found.len())
}

fn stamp(millis: i64) -> String {
    let millis = std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    session_core::event::timestamp(std::time::UNIX_EPOCH + millis)
}
