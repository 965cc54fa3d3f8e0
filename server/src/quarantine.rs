//! The quarantine: a folder outside every home, with what must not be published.
//!
//! Of each upload it has the content under a fresh name, not executable and for the server alone, and beside
//! it a note in JSON: who sent it, to where, why it is here, and its SHA-256. It is a copy, so it works for
//! every store. Bounded: what does not fit any more is not kept, which the log says; nothing is ever removed
//! from it by the server.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use session_core::digest::{Hasher, hex};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;
use session_core::fs::{Algorithm, File};
use session_core::session::Session;
use session_core::verdict::{self, Finding, Upload};

const CHUNK: usize = 256 << 10;

/// The folder and its bound.
pub struct Quarantine {
    folder: PathBuf,
    most: u64,
    /// One copy at a time, so that the bound holds.
    turn: tokio::sync::Mutex<()>,
}

impl Quarantine {
    /// Of at most `most` bytes. The folder is made when something first comes there.
    pub fn new(folder: PathBuf, most: u64) -> Arc<Self> {
        Arc::new(Quarantine { folder, most, turn: tokio::sync::Mutex::new(()) })
    }

    /// The content, into a file that is not there yet. Blocking work stands aside.
    async fn copy(&self, content: &Arc<dyn File>, to: PathBuf) -> Result<(u64, Bytes)> {
        let open = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&to)?;
        let mut under_way = Some((open, Hasher::new(Algorithm::Sha256)));
        let mut offset = 0;
        loop {
            let chunk = content.read_into(offset, CHUNK, BytesMut::with_capacity(CHUNK)).await?;
            let Some((mut file, mut hasher)) = under_way.take() else { return Err(gone()) };
            if chunk.is_empty() {
                let done = aside(move || file.sync_all().map_err(Error::from)).await;
                return done.map(|()| (offset, hasher.finish()));
            }
            offset += chunk.len() as u64;
            let back = aside(move || {
                file.write_all(&chunk)?;
                hasher.update(&chunk);
                Ok((file, hasher))
            });
            under_way = Some(back.await?);
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal)
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| gone())?
}

/// Makes the folder, and says how many bytes it holds.
fn prepare(folder: &Path) -> Result<u64> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut size = 0u64;
    for entry in std::fs::read_dir(folder)? {
        size = size.saturating_add(entry?.metadata()?.len());
    }
    Ok(size)
}

/// Removes what was begun, unless it was finished.
struct Begun(PathBuf);

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[async_trait]
impl verdict::Quarantine for Quarantine {
    async fn keep(&self, session: &Session, upload: &Upload<'_>, why: &str) -> Result<String> {
        let content = upload.content.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported).with_detail("the upload is not staged: it shows already")
        })?;
        let _turn = self.turn.lock().await;
        let folder = self.folder.clone();
        let there = aside(move || prepare(&folder)).await?;
        if there.saturating_add(upload.size) > self.most {
            return Err(Error::new(ErrorKind::NoSpace).with_detail("the quarantine is full"));
        }
        let name = uuid::Uuid::now_v7().simple().to_string();
        let mut begun = Begun(self.folder.join(format!("{name}.part")));
        let (size, sha256) = self.copy(content, begun.0.clone()).await?;
        let note = note(session, upload, why, size, &sha256);
        let (part, whole) = (begun.0.clone(), self.folder.join(&name));
        let beside = self.folder.join(format!("{name}.json"));
        aside(move || {
            let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(beside)?;
            file.write_all((note.to_string() + "\n").as_bytes())?;
            std::fs::rename(part, whole)?;
            Ok(())
        })
        .await?;
        begun.0.clear();
        tracing::warn!(session = %session.id(), path = %upload.path, %name, reason = why, "put in quarantine");
        Ok(name)
    }
}

fn note(session: &Session, upload: &Upload<'_>, why: &str, size: u64, sha256: &[u8]) -> Value {
    let findings: Vec<Value> = upload.findings.iter().map(Finding::to_json).collect();
    json!({
        "time": timestamp(SystemTime::now()),
        "site": &*session.site(),
        "session": session.id().as_str(),
        "user": &*session.user_id(),
        "address": session.peer_address().map(|a| a.to_string()),
        "protocol": session.protocol().name(),
        "path": String::from_utf8_lossy(upload.path.as_bytes()),
        "path_b64": upload.path.base64_if_lossy(),
        "size": size,
        "sha256": hex(sha256),
        "reason": why,
        "verdicts": findings,
    })
}

/// Whether a home and the quarantine are apart: neither lies in the other. Links in both are followed as far
/// as they are there. Blocks.
pub fn is_apart(quarantine: &Path, home: &Path) -> bool {
    let real = |path: &Path| {
        let mut missing = Vec::new();
        let mut there = path;
        loop {
            if let Ok(found) = std::fs::canonicalize(there) {
                return missing.iter().rev().fold(found, |all: PathBuf, name| all.join(name));
            }
            match (there.parent(), there.file_name()) {
                (Some(parent), Some(name)) => {
                    missing.push(name.to_owned());
                    there = parent;
                }
                _ => return path.to_path_buf(),
            }
        }
    };
    let (quarantine, home) = (real(quarantine), real(home));
    !quarantine.starts_with(&home) && !home.starts_with(&quarantine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_and_the_quarantine_lie_apart_whatever_leads_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("homes/a")).unwrap();
        std::os::unix::fs::symlink(at("homes"), at("link")).unwrap();
        assert!(is_apart(&at("q"), &at("homes/a")));
        assert!(is_apart(&at("homes/ab"), &at("homes/a")));
        for (q, home) in [("homes/a/q", "homes/a"), ("link/a/x/y", "homes/a"), ("q", "q/homes"), ("q", "q")] {
            assert!(!is_apart(&at(q), &at(home)), "{q} {home}");
        }
    }
}
