//! The asking side: goes through the sockets of a directory.
//!
//! A socket on which nobody listens, whose process is gone, is removed. What is no answer of this version is
//! passed over in a list, and an error where one transfer was asked for.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::serve::{ENDING, own_uid};
use super::{Request, SCHEMA, Seen};

/// The longest answer.
const MAX_ANSWER: u64 = 1 << 20;

/// Time for an answer that needs no more than a look.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sockets that are looked at.
const MOST: usize = 1000;

/// Every transfer under way of the processes whose sockets are in `dir`, by name. Errors: those of reading
/// the directory.
pub async fn list(dir: &Path) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for (pid, path) in sockets(dir)? {
        let question = json!({ "schema": SCHEMA, "do": "list" });
        let Ok(answer) = ask(&path, pid, &question, PATIENCE).await else { continue };
        for told in answer.get("jobs").and_then(Value::as_array).into_iter().flatten() {
            if let Some(job) = told.get("job").and_then(Value::as_str) {
                all.push(Seen { job: job.to_owned(), pid, told: told.clone() });
            }
        }
    }
    all.sort_by(|a, b| a.job.cmp(&b.job));
    Ok(all)
}

/// Asks for something about one transfer. Errors: `NotFound` where it is not under way; `TimedOut`; those of
/// the other process.
pub async fn tell(dir: &Path, job: &str, request: &Request) -> Result<()> {
    let seen = list(dir).await?.into_iter().find(|seen| seen.job == job);
    let pid = seen.map(|seen| seen.pid).ok_or_else(|| {
        Error::new(ErrorKind::NotFound)
            .with_detail(format!("the job '{job}' is not under way"))
            .with_hint("'ferry jobs' lists them; 'ferry resume' goes on with one that was interrupted")
    })?;
    let path = dir.join(format!("{pid}.sock"));
    let answer = ask(&path, pid, &request.to_json(job), ENDING + PATIENCE).await;
    match answer {
        // It ended before it could say so.
        Err(e) if *request == Request::Kill && e.kind() == ErrorKind::Disconnected => Ok(()),
        Err(e) => Err(e),
        Ok(answer) => match answer.get("error") {
            None => Ok(()),
            Some(error) => {
                let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
                let kind = ErrorKind::ALL.into_iter().find(|k| k.name() == text("kind"));
                Err(Error::new(kind.unwrap_or(ErrorKind::Internal)).with_detail(text("message").to_owned()))
            }
        },
    }
}

fn sockets(dir: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for entry in entries.take(MOST) {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_suffix(".sock")).and_then(|n| n.parse::<u32>().ok());
        // Whoever could put another's socket here could do anything else, too; it costs nothing to look.
        let ours = |m: std::fs::Metadata| m.file_type().is_socket() && m.uid() == own_uid();
        if let Some(pid) = pid.filter(|_| std::fs::symlink_metadata(entry.path()).is_ok_and(ours)) {
            found.push((pid, entry.path()));
        }
    }
    Ok(found)
}

async fn ask(path: &Path, pid: u32, question: &Value, patience: Duration) -> Result<Value> {
    let asked = async {
        let mut socket = match UnixStream::connect(path).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && is_gone(pid) => {
                let _ = std::fs::remove_file(path);
                return Err(e.into());
            }
            connected => connected?,
        };
        socket.write_all(format!("{question}\n").as_bytes()).await?;
        let mut line = Vec::new();
        BufReader::new(socket.take(MAX_ANSWER)).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Err(Error::new(ErrorKind::Disconnected).with_detail("the process gave no answer"));
        }
        serde_json::from_slice(&line)
            .map_err(|_| Error::new(ErrorKind::PeerMisbehaved).with_detail("the answer is no JSON"))
    };
    tokio::time::timeout(patience, asked)
        .await
        .map_err(|_| Error::new(ErrorKind::TimedOut).with_detail("the process gave no answer"))?
}

/// Whether there is surely no such process on this machine.
fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}
