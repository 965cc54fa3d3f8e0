//! A file of SQLite. Each statement has a connection of its own, on a thread that may wait.
//!
//! Neither `ATTACH` nor `VACUUM INTO` reaches another file, and no extension is loaded. A statement that nobody
//! waits for any more is stopped within some thousand steps.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::limits::Limit;
use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use session_core::error::{Error, ErrorKind, Result};

use super::super::invalid;
use super::{Answer, BYTES, Parameter, bytes, count, real, whole};

/// Steps of the virtual machine between two looks at the clock.
const STEPS: i32 = 5000;

pub(super) struct File {
    path: PathBuf,
    write: bool,
}

/// Tells the thread, when dropped, that nobody waits.
struct Waiter(Arc<AtomicBool>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn failed(e: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as C;
    let kind = match e.sqlite_error_code() {
        Some(C::OperationInterrupted | C::DatabaseBusy | C::DatabaseLocked) => ErrorKind::TimedOut,
        Some(C::ReadOnly | C::AuthorizationForStatementDenied) => ErrorKind::Refused,
        Some(C::CannotOpen) => ErrorKind::NotFound,
        Some(C::TooBig | C::OutOfMemory) => ErrorKind::TooLarge,
        Some(C::DiskFull) => ErrorKind::NoSpace,
        Some(C::DatabaseCorrupt | C::NotADatabase) => ErrorKind::Corrupt,
        Some(C::SystemIoFailure) => ErrorKind::Internal,
        _ => ErrorKind::InvalidArgument,
    };
    Error::new(kind).with_detail(format!("the database: {e}"))
}

fn cell(parameter: Parameter) -> Result<Cell> {
    Ok(match parameter {
        Parameter::Bytes(b) => Cell::Blob(b),
        Parameter::Plain(Value::Null) => Cell::Null,
        Parameter::Plain(Value::Bool(b)) => Cell::Integer(b.into()),
        Parameter::Plain(Value::String(s)) => Cell::Text(s),
        Parameter::Plain(Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Cell::Integer(n),
            (None, Some(n)) => Cell::Real(n),
            _ => return Err(invalid("this is no parameter")),
        },
        Parameter::Plain(_) => return Err(invalid("this is no parameter")),
    })
}

fn told(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => whole(n),
        ValueRef::Real(n) => real(n),
        ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned().into(),
        ValueRef::Blob(b) => bytes(b),
    }
}

impl File {
    pub(super) fn new(path: PathBuf, write: bool) -> Self {
        File { path, write }
    }

    pub(super) async fn ask(
        &self,
        text: &str,
        parameters: Vec<Parameter>,
        rows: usize,
        time: Duration,
    ) -> Result<Answer> {
        let given_up = Arc::new(AtomicBool::new(false));
        let _waiter = Waiter(Arc::clone(&given_up));
        let (path, write, text) = (self.path.clone(), self.write, text.to_owned());
        let parameters = parameters.into_iter().map(cell).collect::<Result<Vec<_>>>()?;
        let deadline = Instant::now() + time;
        let asking = tokio::task::spawn_blocking(move || {
            let mode =
                if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
            let mut database =
                Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
            database.busy_timeout(time).map_err(failed)?;
            let largest = i32::try_from(BYTES).unwrap_or(i32::MAX);
            for (limit, most) in [(Limit::SQLITE_LIMIT_ATTACHED, 0), (Limit::SQLITE_LIMIT_LENGTH, largest)] {
                database.set_limit(limit, most).map_err(failed)?;
            }
            let is_over = move || given_up.load(Ordering::Relaxed) || Instant::now() >= deadline;
            database.progress_handler(STEPS, Some(is_over)).map_err(failed)?;
            run(&database, &text, &parameters, rows)
        });
        asking.await.map_err(|_| ErrorKind::Internal)?
    }
}

fn run(database: &Connection, text: &str, parameters: &[Cell], most: usize) -> Result<Answer> {
    let mut statement = database.prepare(text).map_err(failed)?;
    count(statement.parameter_count(), parameters.len())?;
    for (n, parameter) in parameters.iter().enumerate() {
        statement.raw_bind_parameter(n + 1, parameter).map_err(failed)?;
    }
    let changes = !statement.readonly();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let width = columns.len();
    let mut answer = Answer::new(columns);
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(failed)? {
        let cells = (0..width).map(|n| row.get_ref(n).map(told)).collect::<rusqlite::Result<_>>();
        answer.push(cells.map_err(failed)?, most)?;
    }
    answer.affected = if changes { database.changes() } else { 0 };
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::sql::{Database, Databases, Kind};
    use serde_json::json;

    fn databases(dir: &std::path::Path) -> Databases {
        let file = dir.join("main.db");
        let setup = Connection::open(&file).unwrap();
        setup
            .execute_batch(
                "create table users (name text, age integer, key blob, score real);
                 insert into users values ('alice', 42, x'00ff', 1.5), ('bob', 9007199254740993, null, null);",
            )
            .unwrap();
        let one = |write, rows, time| Database {
            kind: Kind::Sqlite(File::new(file.clone(), write)),
            rows,
            time,
            permits: tokio::sync::Semaphore::new(2),
        };
        let (long, short) = (Duration::from_secs(20), Duration::from_millis(200));
        Databases(
            [
                ("read".to_owned(), one(false, 10, long)),
                ("write".to_owned(), one(true, 2, long)),
                ("quick".to_owned(), one(false, 10, short)),
            ]
            .into(),
        )
    }

    async fn ask(all: &Databases, name: &str, text: &str, parameters: Value) -> Result<Value> {
        all.ask(&json!({ "connection": name, "text": text, "parameters": parameters })).await
    }

    #[tokio::test]
    async fn rows_come_with_their_types_and_parameters_are_values() {
        let dir = tempfile::tempdir().unwrap();
        let all = databases(dir.path());
        let told = ask(&all, "read", "select * from users order by name", json!([])).await.unwrap();
        assert_eq!(
            told,
            json!({
                "Columns": ["name", "age", "key", "score"], "Affected": 0,
                "Rows": [
                    ["alice", 42, { "bytes": "AP8=" }, 1.5], ["bob", "9007199254740993", null, null],
                ],
            })
        );
        let hostile = "x' or 1=1; drop table users; --";
        let none = ask(&all, "write", "select * from users where name = ?", json!([hostile])).await.unwrap();
        assert_eq!(none["Rows"], json!([]));
        let typed = "select typeof(?), typeof(?), typeof(?), typeof(?), typeof(?)";
        let told = ask(&all, "read", typed, json!([1, 1.5, "1", null, { "bytes": "AA==" }])).await.unwrap();
        assert_eq!(told["Rows"], json!([["integer", "real", "text", "null", "blob"]]));
        let changed = "update users set age = age + ? where name = ? returning age";
        let told = ask(&all, "write", changed, json!([1, "alice"])).await.unwrap();
        assert_eq!((&told["Rows"], &told["Affected"]), (&json!([[43]]), &json!(1)));
    }

    #[tokio::test]
    async fn what_is_not_granted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let all = databases(dir.path());
        let beside = dir.path().join("beside.db").display().to_string();
        for (name, text, parameters) in [
            ("none", "select 1", json!([])),
            ("read", "delete from users", json!([])),
            ("read", "create table x (y)", json!([])),
            ("read", "select 1; select 2", json!([])),
            ("read", "select ?", json!([])),
            ("read", "select 1", json!([1])),
            ("read", "nonsense", json!([])),
            ("write", "attach ? as other", json!([beside])),
            ("write", "vacuum into ?", json!([beside])),
            ("write", "select load_extension('x')", json!([])),
            ("write", "select 1 union select 2 union select 3", json!([])),
            ("read", "select zeroblob(100000000)", json!([])),
        ] {
            let told = ask(&all, name, text, parameters).await;
            assert!(told.is_err(), "{name}: {text}: {told:?}");
        }
        assert!(!std::path::Path::new(&beside).exists());
        let told = ask(&all, "read", "select count(*) from users", json!([])).await.unwrap();
        assert_eq!(told["Rows"], json!([[2]]));
    }

    #[tokio::test]
    async fn a_query_without_end_ends_and_leaves_room() {
        let dir = tempfile::tempdir().unwrap();
        let all = databases(dir.path());
        let endless =
            "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
        for _ in 0..4 {
            let e = ask(&all, "quick", endless, json!([])).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::TimedOut);
        }
        assert_eq!(ask(&all, "quick", "select 1", json!([])).await.unwrap()["Rows"], json!([[1]]));
    }
}
