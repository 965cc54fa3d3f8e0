//! The answering side: a socket for each process, one line asked and one line answered.
//!
//! ```text
//! {"schema":"ferry.live/1","do":"list"}                      {"pid":1,"jobs":[…]}
//! {"schema":"ferry.live/1","do":"pause","job":"…"}           {"ok":true}
//! {"schema":"ferry.live/1","do":"limit","job":"…","rate":0}  {"error":{"kind":"…","message":"…"}}
//! ```
//!
//! Only the user whose process it is (and root) is answered, whatever the modes of the files are. Lines, time
//! and connections are bounded.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::{Request, SCHEMA, Table};

/// The longest question.
const MAX_LINE: u64 = 4096;

/// Time for a question, and for taking its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time for a transfer to end that was asked to.
pub(super) const ENDING: Duration = Duration::from_secs(30);

/// Connections at once.
const CONNECTIONS: usize = 8;

/// A socket that answers as long as this lives.
pub(super) struct Served {
    path: PathBuf,
    file: (u64, u64),
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        // Before the listener goes: while the file is there, somebody answers.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
        self.task.abort();
    }
}

/// The socket of each table of this process, while there is one.
#[derive(Default)]
pub(super) struct Socket(Mutex<Weak<Served>>);

pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Makes the directory of sockets, or makes sure that it is nobody else's. Errors: `PermissionDenied`, those
/// of the disk.
fn private(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let m = std::fs::symlink_metadata(dir)?;
    if !m.is_dir() || m.uid() != own_uid() || m.mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::PermissionDenied)
            .with_detail(format!("'{}' may be changed by others", dir.display()))
            .with_hint("it must be a directory of yours with mode 0700"));
    }
    Ok(())
}

impl Served {
    /// The socket of a table; the one that there is, or a new one. Errors: those of the disk.
    pub(super) fn begin(table: &Arc<Table>) -> Result<Arc<Self>> {
        let mut socket = table.socket.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(served) = socket.upgrade() {
            return Ok(served);
        }
        let dir = table.dir();
        let cannot = |e: io::Error| {
            let words = format!("nobody can ask for this transfer: no socket in '{}'", dir.display());
            Error::from(e).with_detail(words)
        };
        private(dir)?;
        let path = dir.join(format!("{}.sock", std::process::id()));
        // One of an earlier process of this number, or of this table; another table of this process has
        // another directory.
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot(e)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(cannot)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        let made = std::fs::symlink_metadata(&path).map_err(cannot)?;
        let task = tokio::spawn(accept(listener, Arc::downgrade(table))).abort_handle();
        let served = Arc::new(Served { path, file: (made.dev(), made.ino()), task });
        *socket = Arc::downgrade(&served);
        Ok(served)
    }
}

async fn accept(listener: UnixListener, table: Weak<Table>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let known = socket.peer_cred().is_ok_and(|c| c.uid() == own_uid() || c.uid() == 0);
        let Some(table) = table.upgrade().filter(|_| known) else { continue };
        tokio::spawn(async move {
            let _ = converse(socket, &table).await;
            drop(slot);
        });
    }
}

async fn converse(mut socket: UnixStream, table: &Table) -> io::Result<()> {
    let (read, mut write) = socket.split();
    let mut line = Vec::new();
    let mut bounded = BufReader::new(read.take(MAX_LINE));
    tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
    let answer = match answer(&line, table).await {
        Ok(answer) => answer,
        Err(e) => json!({ "error": { "kind": e.kind().name(), "message": e.to_string() } }),
    };
    tokio::time::timeout(PATIENCE, write.write_all(format!("{answer}\n").as_bytes())).await?
}

async fn answer(line: &[u8], table: &Table) -> Result<Value> {
    let wrong = |why: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(why);
    if line.last() != Some(&b'\n') {
        return Err(wrong("the question has no end"));
    }
    let v: Value = serde_json::from_slice(line).map_err(|_| wrong("the question is no JSON"))?;
    if v.get("schema").and_then(Value::as_str) != Some(SCHEMA) {
        return Err(Error::new(ErrorKind::Unsupported).with_detail("the question is of another version"));
    }
    if v.get("do").and_then(Value::as_str) == Some("list") {
        return Ok(json!({ "pid": std::process::id(), "jobs": table.list() }));
    }
    let request = Request::from_json(&v).ok_or_else(|| wrong("the question is not known"))?;
    let job = v.get("job").and_then(Value::as_str).ok_or_else(|| wrong("no job is named"))?;
    tokio::time::timeout(ENDING, table.answer(job, &request))
        .await
        .map_err(|_| Error::new(ErrorKind::TimedOut).with_detail("the transfer has not ended yet"))??;
    Ok(json!({ "ok": true }))
}
