//! `SqlQuery`: one statement of a handler on a database of `[sql]`.
//!
//! Parameters are bound, never part of the text; a text is one statement. Without `write` nothing can be changed:
//! a file is opened for reading, PostgreSQL is asked in a transaction that only reads. Rows, bytes, time and
//! connections are bounded, and what is given up is stopped over there too. A handler leaves nothing behind in a
//! connection for the next one.
//!
//! Deliberately absent: transactions over several statements.

mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::script::Secrets;
use tokio::sync::Semaphore;

use super::{field, invalid};
use crate::config;

/// The most bytes of values in an answer.
const BYTES: usize = 4 << 20;

/// The most bytes of a statement.
const TEXT: usize = 1 << 20;

/// The databases by name.
pub(super) struct Databases(BTreeMap<String, Database>);

struct Database {
    kind: Kind,
    rows: usize,
    time: Duration,
    permits: Semaphore,
}

enum Kind {
    Postgres(Box<postgres::Server>),
    Sqlite(sqlite::File),
}

/// A parameter.
enum Parameter {
    Bytes(Vec<u8>),
    Plain(Value),
}

/// What a statement came to.
struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    affected: u64,
    bytes: usize,
}

impl Answer {
    fn new(columns: Vec<String>) -> Self {
        Answer { columns, rows: Vec::new(), affected: 0, bytes: 0 }
    }

    /// One row more. Errors: `TooLarge`.
    fn push(&mut self, row: Vec<Value>, most: usize) -> Result<()> {
        let size = |v: &Value| match v {
            Value::String(s) => s.len(),
            Value::Object(o) => o.values().filter_map(Value::as_str).map(str::len).sum(),
            _ => 8,
        };
        self.bytes += row.iter().map(size).sum::<usize>();
        if self.rows.len() >= most || self.bytes > BYTES {
            let words = format!("the answer has more than {most} rows, or {} MiB", BYTES >> 20);
            return Err(Error::new(ErrorKind::TooLarge).with_detail(words).with_hint("LIMIT"));
        }
        self.rows.push(row);
        Ok(())
    }
}

/// Bytes as scripts are told them.
fn bytes(data: &[u8]) -> Value {
    json!({ "bytes": STANDARD.encode(data) })
}

/// A whole number: as a string where a script's number would not hold it exactly.
fn whole(n: i64) -> Value {
    if n.unsigned_abs() <= 1 << 53 { n.into() } else { n.to_string().into() }
}

/// A number, or the word for it where it is none.
fn real(n: f64) -> Value {
    serde_json::Number::from_f64(n).map_or_else(|| n.to_string().into(), Value::Number)
}

fn parameter(value: &Value) -> Result<Parameter> {
    match value {
        Value::Object(_) => {
            let text = field(value, "bytes").as_str().ok_or_else(|| invalid("this is no parameter"))?;
            STANDARD.decode(text).map(Parameter::Bytes).map_err(|_| invalid("this is no parameter"))
        }
        Value::Array(_) => Err(invalid("this is no parameter")),
        plain => Ok(Parameter::Plain(plain.clone())),
    }
}

impl Databases {
    /// Reaches nothing yet. Errors: `InvalidArgument` for a secret that is missing.
    pub(super) fn new(all: &BTreeMap<String, config::Database>, secrets: &Secrets) -> Result<Self> {
        let made = all.iter().map(|(name, asked)| {
            let kind = match &asked.file {
                Some(file) => Kind::Sqlite(sqlite::File::new(file.clone(), asked.write)),
                None => Kind::Postgres(Box::new(postgres::Server::new(name, asked, secrets)?)),
            };
            let permits = Semaphore::new(asked.connections);
            Ok((name.clone(), Database { kind, rows: asked.rows, time: asked.time, permits }))
        });
        made.collect::<Result<_>>().map(Databases)
    }

    /// Asks one. Errors: `NotFound` for a name that is not configured; `InvalidArgument` for a statement that the
    /// database does not understand; `Refused` where it may not be done; `TooLarge`, `TimedOut`, `Disconnected`.
    pub(super) async fn ask(&self, arguments: &Value) -> Result<Value> {
        let name = field(arguments, "connection").as_str().unwrap_or_default();
        let database = self.0.get(name).ok_or_else(|| {
            let name = display_bytes(name.as_bytes());
            Error::new(ErrorKind::NotFound).with_detail(format!("there is no database '{name}' in [sql]"))
        })?;
        let text = field(arguments, "text").as_str().unwrap_or_default();
        if text.len() > TEXT {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("the statement is too long"));
        }
        let given = field(arguments, "parameters").as_array().into_iter().flatten();
        let parameters = given.map(parameter).collect::<Result<Vec<_>>>()?;
        let asking = async {
            let _permit = database.permits.acquire().await.map_err(|_| ErrorKind::Closed)?;
            match &database.kind {
                Kind::Postgres(server) => server.ask(text, parameters, database.rows).await,
                Kind::Sqlite(file) => file.ask(text, parameters, database.rows, database.time).await,
            }
        };
        let late = |_| Error::new(ErrorKind::TimedOut).with_detail("the database takes too long");
        let answer = tokio::time::timeout(database.time, asking).await.map_err(late)??;
        Ok(json!({ "Columns": answer.columns, "Rows": answer.rows, "Affected": answer.affected }))
    }
}

fn count(wanted: usize, given: usize) -> Result<()> {
    if wanted == given {
        return Ok(());
    }
    Err(invalid(format!("the statement has {wanted} parameters, and {given} are given")))
}
