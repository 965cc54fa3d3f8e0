//! The arguments of `lock` and `unlock`, and the locks that this user keeps beyond one command.
//!
//! One file for each lock in the state directory, readable by its owner only, named by a digest of the token. Every
//! command that opens the same server by the same login shows them until their time is over. What a server
//! forgets earlier stays here until `ferry unlock`, so that nothing is done without the lock by accident.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use proto_webdav::client::KeptLock;
use serde_json::{Value, json};
use session_core::digest::{Hasher, hex};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;

use crate::jobs::{bytes_json, path_of, state_dir};
use crate::journal::seconds;

/// The largest file that is read, bytes.
const LARGEST: u64 = 64 << 10;
/// How many locks are looked at.
const MOST: usize = 10_000;

/// `lock`.
#[derive(Args)]
pub(super) struct LockPlaces {
    /// Let others have such a lock, too
    #[arg(long)]
    pub(super) shared: bool,
    /// With all that is below a directory
    #[arg(long)]
    pub(super) deep: bool,
    /// For how long: 90s, 15m, 12h, 7d; as long as the server allows where it is not given
    #[arg(long = "for", value_name = "TIME", value_parser = super::args::time_span)]
    pub(super) time: Option<Duration>,
    /// URLs of WebDAV
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `unlock`.
#[derive(Args)]
pub(super) struct Unlock {
    /// The lock to give back, where another program asked for it
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<String>,
    /// URLs of WebDAV
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// The directory of locks.
pub(super) struct Kept(PathBuf);

impl Kept {
    /// This user's. Errors: `NotFound` where the environment names no home.
    pub(super) fn of_user() -> Result<Self> {
        Ok(Kept(state_dir()?.join("locks")))
    }

    fn path(&self, token: &str) -> PathBuf {
        let mut digest = Hasher::new(Algorithm::Sha256);
        digest.update(token.as_bytes());
        self.0.join(hex(&digest.finish()))
    }

    /// Those of a server and login whose time is not over. What cannot be read is no lock. Blocks the thread.
    pub(super) fn of(&self, place: &str) -> Vec<KeptLock> {
        let all = std::fs::read_dir(&self.0).into_iter().flatten().flatten().take(MOST);
        all.filter_map(|entry| read(&entry.path(), place)).collect()
    }

    /// Keeps a lock. Errors: those of the disk.
    pub(super) fn keep(&self, place: &str, lock: &KeptLock, left: Duration) -> Result<()> {
        let said = json!({
            "version": 1, "place": place, "path": bytes_json(lock.root.as_bytes()), "token": &*lock.token,
            "deep": lock.deep, "directory": lock.directory,
            "ends": (left != Duration::MAX).then(|| seconds().saturating_add(left.as_secs())),
        });
        let written = (|| {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(self.path(&lock.token))?;
            file.write_all(said.to_string().as_bytes())
        })();
        written.map_err(|e| {
            Error::from(e).with_detail(format!("the lock cannot be kept in '{}'", self.0.display()))
        })
    }

    /// Keeps it no longer.
    pub(super) fn forget(&self, token: &str) {
        let _ = std::fs::remove_file(self.path(token));
    }
}

/// The lock in a file, if it is one of this place and not over. One that is over is thrown away.
fn read(file: &Path, place: &str) -> Option<KeptLock> {
    let size = std::fs::metadata(file).ok()?.len();
    let said: Value = serde_json::from_slice(&(size <= LARGEST).then(|| std::fs::read(file).ok())??).ok()?;
    if said.get("version")?.as_u64()? != 1 || said.get("place")?.as_str()? != place {
        return None;
    }
    if said.get("ends").and_then(Value::as_u64).is_some_and(|ends| ends < seconds()) {
        let _ = std::fs::remove_file(file);
        return None;
    }
    let token =
        said.get("token")?.as_str().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic()))?;
    Some(KeptLock {
        root: path_of(said.get("path")?)?,
        token: Arc::from(token),
        deep: said.get("deep")?.as_bool()?,
        directory: said.get("directory")?.as_bool()?,
    })
}

/// Those that this user keeps of a server and login.
pub(super) async fn kept(place: &str) -> Vec<KeptLock> {
    let place = place.to_owned();
    let read = move || Kept::of_user().map(|kept| kept.of(&place)).unwrap_or_default();
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// What a place has that is not open by WebDAV.
pub(super) fn elsewhere(shown: &str) -> Error {
    Error::new(ErrorKind::Unsupported)
        .with_detail(format!("'{shown}' cannot be locked"))
        .with_hint("locks are WebDAV's: dav:// or davs://")
}

#[cfg(test)]
mod tests {
    use session_core::path::VPath;

    use super::*;

    #[test]
    fn locks_are_kept_for_their_server_until_their_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept(dir.path().join("locks"));
        assert_eq!(kept.of("dav://u@h:1"), []);
        let lock = |name: &[u8], token: &str| {
            let root = VPath::absolute([b"/".as_slice(), name].concat()).unwrap();
            KeptLock { root, token: token.into(), deep: true, directory: false }
        };
        let (one, two) = (lock(b"d \xff", "urn:1"), lock(b"e", "urn:2"));
        kept.keep("dav://u@h:1", &one, Duration::from_secs(60)).unwrap();
        kept.keep("dav://u@h:2", &two, Duration::MAX).unwrap();
        assert_eq!(kept.of("dav://u@h:1"), [one]);
        assert_eq!(kept.of("dav://u@h:2"), std::slice::from_ref(&two));
        assert!(kept.keep("dav://u@h:2", &two, Duration::MAX).is_err(), "a token twice");
        kept.forget("urn:2");
        assert_eq!(kept.of("dav://u@h:2"), []);
        let over = json!({
            "version": 1, "place": "p", "path": "/a", "token": "urn:3", "deep": false, "directory": false,
            "ends": seconds() - 1,
        });
        std::fs::write(kept.path("urn:3"), over.to_string()).unwrap();
        for bad in [
            "",
            "{",
            "{\"version\":1,\"place\":\"p\",\"token\":\"a\\nb\",\"path\":\"/a\",\"deep\":true,\
            \"directory\":true}",
        ] {
            std::fs::write(kept.path(bad), bad).unwrap();
        }
        assert_eq!(kept.of("p"), []);
        assert!(!kept.path("urn:3").exists());
    }
}
