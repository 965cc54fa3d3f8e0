//! The database of accounts in SQLite: one file, one thread that owns it.
//!
//! A change is one transaction that is on disk (`synchronous = FULL`, with a write-ahead log) before it is
//! answered, so that a process killed at any moment leaves all of it or nothing. What an older program wrote
//! is brought up to date in one step, after a copy was put beside it; what a newer one wrote is refused. The
//! file is made with the first change, readable by its owner alone.
//!
//! The file belongs to one process (the lock of the data folder sees to that). Deliberately absent: what the
//! records mean.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};

use super::rows::{Kind, Row};
use super::{AccountStore, Change, Contents, Revision};

/// How a file of ours is known: "Ferr".
const APPLICATION: i64 = 0x4665_7272;

/// Each brings the database from the version before it to the next. They are never changed, only added to.
const STEPS: &[&str] = &[
    "
CREATE TABLE users (
    site TEXT NOT NULL, name TEXT NOT NULL,
    record TEXT NOT NULL CHECK (json_valid(record)), changed INTEGER NOT NULL,
    PRIMARY KEY (site, name)) STRICT, WITHOUT ROWID;
CREATE TABLE groups (
    site TEXT NOT NULL, name TEXT NOT NULL,
    record TEXT NOT NULL CHECK (json_valid(record)), changed INTEGER NOT NULL,
    PRIMARY KEY (site, name)) STRICT, WITHOUT ROWID;
CREATE TABLE secrets (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY, record TEXT NOT NULL CHECK (json_valid(record))) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE sites (
    name TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL CHECK (json_valid(record)), changed INTEGER NOT NULL) STRICT, WITHOUT ROWID;
",
];

/// Work that waits for the thread.
const QUEUE: usize = 64;

/// How long a file is waited for that another program holds.
const BUSY: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// A database and its thread, which ends with the last handle.
pub(crate) struct SqliteStore {
    jobs: mpsc::Sender<Job>,
}

impl SqliteStore {
    /// Touches no file yet. Errors: `Internal` where no thread can be made.
    pub(crate) fn new(path: PathBuf) -> Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            let mut database = Database { path, connection: None };
            while let Some(job) = waiting.blocking_recv() {
                job(&mut database);
            }
        };
        std::thread::Builder::new().name("accounts".into()).spawn(work)?;
        Ok(SqliteStore { jobs })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::new(ErrorKind::Internal).with_detail("the thread of the accounts is gone");
        let (answer, result) = oneshot::channel();
        let job = move |database: &mut Database| {
            let _ = answer.send(work(database));
        };
        self.jobs.send(Box::new(job)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl AccountStore for SqliteStore {
    async fn load(&self) -> Result<(Contents, Revision)> {
        let all = self
            .run(|database| if database.path.exists() { database.load() } else { Ok(Contents::default()) });
        Ok((all.await?, 0))
    }

    async fn apply(&self, changes: Vec<Change>, seen: Revision, _: &str) -> Result<Revision> {
        self.run(move |database| database.apply(&changes)).await.map(|()| seen)
    }
}

/// What a database file holds, for who only looks: nothing is made or brought up to date, and what an older program
/// wrote is read as it is. A file that is not there holds nothing. Blocks. Errors: as of a load.
pub(crate) fn read_file(path: &Path) -> Result<Contents> {
    if !path.exists() {
        return Ok(Contents::default());
    }
    let said = |e| failed(path, e);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(said)?;
    connection.busy_timeout(BUSY).map_err(said)?;
    match version_of(&connection, path)? {
        0 => Ok(Contents::default()),
        version => contents(&connection, path, version),
    }
}

fn failed(path: &Path, e: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as C;
    let kind = match e.sqlite_error_code() {
        Some(C::DatabaseCorrupt | C::NotADatabase) => ErrorKind::Corrupt,
        Some(C::DiskFull) => ErrorKind::NoSpace,
        Some(C::DatabaseBusy | C::DatabaseLocked) => ErrorKind::Locked,
        Some(C::PermissionDenied | C::ReadOnly | C::CannotOpen) => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal,
    };
    Error::new(kind).with_detail(format!("the accounts in {} cannot be used", path.display())).with_source(e)
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt).with_detail(format!("{}: {what} is damaged", path.display()))
}

/// How many steps were taken. Errors: a file that is another program's, or a newer one's.
fn version_of(connection: &Connection, path: &Path) -> Result<usize> {
    let number =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| failed(path, e));
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let empty = application == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
    if !empty && application != APPLICATION {
        return Err(Error::new(ErrorKind::Corrupt)
            .with_detail(format!("{} is not a database of ferryd", path.display())));
    }
    let version = usize::try_from(version).map_err(|_| damaged(path, "the version"))?;
    if version > STEPS.len() {
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail(format!("{} was written by a newer ferryd", path.display()))
            .with_hint("use that one, or put the copy back that it left beside the file"));
    }
    Ok(version)
}

struct Database {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Database {
    /// Opens what is not open yet.
    fn connection(&mut self) -> Result<&mut Connection> {
        match &mut self.connection {
            Some(open) => Ok(open),
            none => Ok(none.insert(open(&self.path, STEPS)?)),
        }
    }

    fn load(&mut self) -> Result<Contents> {
        let path = self.path.clone();
        contents(self.connection()?, &path, STEPS.len())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let path = self.path.clone();
        let said = |e| failed(&path, e);
        let transaction =
            self.connection()?.transaction_with_behavior(TransactionBehavior::Immediate).map_err(said)?;
        for change in changes {
            write(&transaction, change, &path)?;
        }
        transaction.commit().map_err(said)
    }
}

/// Opens the file, makes it where it is missing, and brings it up to date.
fn open(path: &Path, steps: &[&str]) -> Result<Connection> {
    let said = |e| failed(path, e);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(said)?;
    connection.busy_timeout(BUSY).map_err(said)?;
    // Read before anything is written: a file that is another's stays as it is.
    let version = version_of(&connection, path)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(said)?;
    if mode != "wal" {
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail(format!("{} is on a disk that cannot keep a write-ahead log", path.display())));
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON;
             PRAGMA secure_delete = ON;",
        )
        .map_err(said)?;
    bring_up_to_date(&mut connection, path, version, steps)?;
    Ok(connection)
}

/// Makes an empty file that nobody else reads, unless one is there. SQLite gives the files beside it its mode.
fn private(path: &Path) -> Result<()> {
    let made = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map(|_| ()).map_err(|e| Error::from(e).with_detail(format!("{} cannot be opened", path.display())))
}

/// Takes the steps that are missing, in one transaction, with a copy put aside before.
fn bring_up_to_date(connection: &mut Connection, path: &Path, version: usize, steps: &[&str]) -> Result<()> {
    let said = |e| failed(path, e);
    let missing = steps.get(version..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    if version > 0 {
        let copy = path.with_extension(format!("db.v{version}"));
        let beside = path.with_extension("db.new");
        let _ = std::fs::remove_file(&beside);
        private(&beside)?;
        connection.execute("VACUUM INTO ?1", params![beside.to_string_lossy()]).map_err(said)?;
        std::fs::File::open(&beside)?.sync_all()?;
        std::fs::rename(&beside, &copy)?;
        tracing::info!(copy = %copy.display(), "the accounts are brought up to date; a copy was put aside");
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(said)?;
    for step in missing {
        transaction.execute_batch(step).map_err(said)?;
    }
    let marks = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};", steps.len());
    transaction.execute_batch(&marks).map_err(said)?;
    transaction.commit().map_err(said)
}

fn write(connection: &Connection, change: &Change, path: &Path) -> Result<()> {
    let Row { kind, site, name, text, changed } = Row::of(change)?;
    let table = table_of(kind);
    let done = match (kind, text) {
        (Kind::Group | Kind::User, Some(text)) => connection.execute(
            &format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4)"),
            params![site, name, text, changed.cast_signed()],
        ),
        (Kind::Group | Kind::User, None) => connection
            .execute(&format!("DELETE FROM {table} WHERE site = ?1 AND name = ?2"), params![site, name]),
        (Kind::Site, Some(text)) => connection.execute(
            "INSERT OR REPLACE INTO sites VALUES (?1, ?2, ?3)",
            params![name, text, changed.cast_signed()],
        ),
        (Kind::Secret | Kind::Token, Some(text)) => connection
            .execute(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2)"), params![name, text]),
        (Kind::Secret | Kind::Site, None) => {
            connection.execute(&format!("DELETE FROM {table} WHERE name = ?1"), params![name])
        }
        (Kind::Token, None) => connection.execute("DELETE FROM tokens WHERE id = ?1", params![name]),
    };
    done.map(|_| ()).map_err(|e| failed(path, e))
}

fn table_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Group => "groups",
        Kind::Secret => "secrets",
        Kind::Site => "sites",
        Kind::Token => "tokens",
        Kind::User => "users",
    }
}

/// The version whose files have this kind.
fn since(kind: Kind) -> usize {
    match kind {
        Kind::Group | Kind::Secret | Kind::Token | Kind::User => 1,
        Kind::Site => 2,
    }
}

/// Everything that a file of this version holds, as of one moment.
fn contents(connection: &Connection, path: &Path, version: usize) -> Result<Contents> {
    let said = |e| failed(path, e);
    let snapshot = connection.unchecked_transaction().map_err(said)?;
    let mut all = Contents::default();
    for kind in Kind::ALL.into_iter().filter(|kind| since(*kind) <= version) {
        let sql = match kind {
            Kind::Group => "SELECT site, name, record, changed FROM groups",
            Kind::Secret => "SELECT '', name, value, 0 FROM secrets",
            Kind::Site => "SELECT '', name, record, changed FROM sites",
            Kind::Token => "SELECT '', id, record, 0 FROM tokens",
            Kind::User => "SELECT site, name, record, changed FROM users",
        };
        let mut statement = snapshot.prepare(sql).map_err(said)?;
        let row = |r: &rusqlite::Row<'_>| {
            let changed = u64::try_from(r.get::<_, i64>(3)?).unwrap_or(0);
            Ok(Row { kind, site: r.get(0)?, name: r.get(1)?, text: Some(r.get(2)?), changed })
        };
        for found in statement.query_map([], row).map_err(said)? {
            all.apply(found.map_err(said)?.change().map_err(|what| damaged(path, &what))?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::Stored;
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    fn user(name: &str) -> Change {
        let record = json!({ "home": "/x" }).as_object().unwrap().clone();
        Change::User(("s".into(), name.into()), Some(Arc::new(Stored { record, changed: 7 })))
    }

    fn version(path: &Path) -> i64 {
        let c = Connection::open(path).unwrap();
        c.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap()
    }

    /// Every version that there was becomes the one that there is, in one step, with what it was beside it.
    #[test]
    fn a_file_of_every_version_is_brought_up_to_date_with_a_copy_beside_it() {
        for old in 1..STEPS.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("accounts.db");
            let c = open(&path, &STEPS[..old]).unwrap();
            write(&c, &user("a"), &path).unwrap();
            drop(c);
            assert_eq!(version(&path), i64::try_from(old).unwrap());
            // Who only looks changes nothing.
            assert_eq!(read_file(&path).unwrap().users.len(), 1);
            assert_eq!(version(&path), i64::try_from(old).unwrap());
            let mut database = Database { path: path.clone(), connection: None };
            let site = Arc::new(Stored { record: Default::default(), changed: 7 });
            database.apply(&[user("b"), Change::Site("shop".into(), Some(site.clone()))]).unwrap();
            let all = database.load().unwrap();
            assert_eq!((all.users.len(), all.sites.get("shop")), (2, Some(&site)));
            database.apply(&[Change::Site("shop".into(), None)]).unwrap();
            assert!(database.load().unwrap().sites.is_empty());
            drop(database);
            assert_eq!(version(&path), i64::try_from(STEPS.len()).unwrap());
            let copy = dir.path().join(format!("accounts.db.v{old}"));
            assert_eq!(
                (version(&copy), read_file(&copy).unwrap().users.len()),
                (i64::try_from(old).unwrap(), 1)
            );
            // Put back, it is what it was.
            std::fs::rename(&copy, &path).unwrap();
            for beside in ["accounts.db-wal", "accounts.db-shm"] {
                let _ = std::fs::remove_file(dir.path().join(beside));
            }
            let mut database = Database { path, connection: None };
            assert_eq!(database.load().unwrap().users.len(), 1);
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let mut database = Database { path: path.clone(), connection: None };
        database.apply(&[user("a"), user("b")]).unwrap();
        drop(database);
        let now = i64::try_from(STEPS.len()).unwrap();
        let second = "ALTER TABLE users ADD COLUMN note TEXT NOT NULL DEFAULT ''";
        let third = "UPDATE users SET note = 'old'";
        let wrong = [STEPS, &[second, "UPDATE nothing SET x = 1"]].concat();
        assert!(open(&path, &wrong).is_err());
        assert_eq!(version(&path), now);
        // Where no copy can be put aside, nothing is begun.
        let copy = dir.path().join(format!("accounts.db.v{now}"));
        std::fs::remove_file(&copy).unwrap();
        std::fs::create_dir_all(copy.join("in the way")).unwrap();
        assert!(open(&path, &[STEPS, &[second, third]].concat()).is_err());
        assert_eq!(version(&path), now);
        std::fs::remove_dir_all(&copy).unwrap();
        let c = open(&path, &[STEPS, &[second, third]].concat()).unwrap();
        let notes: i64 =
            c.query_row("SELECT count(*) FROM users WHERE note = 'old'", [], |r| r.get(0)).unwrap();
        assert_eq!((notes, version(&path)), (2, now + 2));
        drop(c);
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_file(&copy).unwrap().users.len(), 2);
        // This program is the older one now.
        let mut database = Database { path: path.clone(), connection: None };
        let e = database.load().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("newer"), "{e}");
        assert_eq!(version(&path), now + 2);
    }

    #[test]
    fn several_changes_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let mut database = Database { path: path.clone(), connection: None };
        database.apply(&[user("a")]).unwrap();
        database.connection().unwrap().execute_batch("CREATE TRIGGER t BEFORE INSERT ON users WHEN new.name = 'c' BEGIN SELECT RAISE(ABORT, 'no'); END").unwrap();
        assert!(database.apply(&[user("b"), user("c")]).is_err());
        assert_eq!(database.load().unwrap().users.len(), 1);
        database.apply(&[user("d")]).unwrap();
        drop(database);
        assert_eq!(read_file(&path).unwrap().names("s"), ["a", "d"]);
    }
}
