//! What stores of S3 were found not to have, beyond a connection: a directory with a file for each store.
//!
//! A file holds no secret and is believed for a week. One that is wrong does no harm: what it says is only what is not
//! asked for again ([`Lack`]). So nothing here fails: what cannot be read is not known, what cannot be written is found
//! out again. A directory holds a hundred stores at most; there the old ones are thrown away before a new one is noted.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use proto_s3::client::Lack;
use serde_json::{Value, json};
use session_core::digest::{Hasher, hex};
use session_core::fs::Algorithm;

use crate::journal::seconds;

/// How long it is believed, in seconds.
const AGE: u64 = 7 * 24 * 3600;
/// How many stores are known.
const STORES: usize = 100;
/// The largest file that is read, bytes.
const LARGEST: u64 = 4 << 10;

/// What can be lacking, as it is written down.
const NAMES: [(Lack, &str); 2] = [(Lack::Checksums, "checksums"), (Lack::ManyRemovals, "many-removals")];

/// One store in the directory.
#[derive(Clone, Debug)]
pub(super) struct Known {
    dir: PathBuf,
    /// Scheme, host and port.
    endpoint: String,
}

/// The file's content, while it is believed.
fn read(file: &Path) -> Option<Value> {
    let size = fs::metadata(file).ok()?.len();
    let said: Value = serde_json::from_slice(&(size <= LARGEST).then(|| fs::read(file).ok())??).ok()?;
    let since = said.get("since")?.as_u64()?;
    let is_fresh = seconds().checked_sub(since).is_some_and(|age| age <= AGE);
    (is_fresh && said.get("version")?.as_u64()? == 1).then_some(said)
}

impl Known {
    pub(super) fn new(dir: &Path, endpoint: String) -> Self {
        Known { dir: dir.to_path_buf(), endpoint }
    }

    fn file(&self) -> PathBuf {
        let mut digest = Hasher::new(Algorithm::Sha256);
        digest.update(self.endpoint.as_bytes());
        self.dir.join(hex(&digest.finish()))
    }

    /// What is known not to be there. Blocks shortly.
    pub(super) fn lacks(&self) -> Vec<Lack> {
        let said = read(&self.file()).filter(|said| said.get("store") == Some(&json!(self.endpoint)));
        let lacks = said.and_then(|said| said.get("lacks")?.as_array().cloned()).unwrap_or_default();
        NAMES.iter().filter(|(_, name)| lacks.contains(&json!(name))).map(|(lack, _)| *lack).collect()
    }

    /// Notes one more. Blocks shortly.
    pub(super) fn note(&self, lack: Lack) {
        let mut lacks = self.lacks();
        if !lacks.contains(&lack) {
            lacks.push(lack);
        }
        let _ = self.write(&lacks);
    }

    fn write(&self, lacks: &[Lack]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let file = self.file();
        let all: Vec<PathBuf> = fs::read_dir(&self.dir)?.flatten().map(|e| e.path()).collect();
        if all.len() >= STORES && !all.contains(&file) {
            let old: Vec<_> = all.iter().filter(|file| read(file).is_none()).collect();
            // Where all of them are believed, one has to go.
            for file in if old.is_empty() { all.iter().take(1).collect() } else { old } {
                fs::remove_file(file)?;
            }
        }
        let names: Vec<_> = NAMES.iter().filter(|(l, _)| lacks.contains(l)).map(|(_, name)| *name).collect();
        let said = json!({ "version": 1, "store": self.endpoint, "lacks": names, "since": seconds() });
        // Whoever reads meanwhile finds the old file or the new one.
        let new = file.with_extension(std::process::id().to_string());
        let mut options = fs::OpenOptions::new();
        let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        io::Write::write_all(&mut opened, said.to_string().as_bytes())?;
        fs::rename(&new, &file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_of_this_store_for_a_week() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("state/s3-stores");
        let (one, other) = (Known::new(&at, "s3://a:443".into()), Known::new(&at, "s3://a:444".into()));
        assert!(one.lacks().is_empty());
        one.note(Lack::ManyRemovals);
        one.note(Lack::Checksums);
        one.note(Lack::Checksums);
        assert_eq!(one.lacks(), [Lack::Checksums, Lack::ManyRemovals]);
        assert!(other.lacks().is_empty());
        assert_eq!(fs::read_dir(&at).unwrap().count(), 1);
        let text = fs::read_to_string(one.file()).unwrap();
        for (since, known) in [(seconds() - AGE - 1, false), (seconds() - AGE + 60, true), (u64::MAX, false)]
        {
            let mut said: Value = serde_json::from_str(&text).unwrap();
            said["since"] = json!(since);
            fs::write(one.file(), said.to_string()).unwrap();
            assert_eq!(!one.lacks().is_empty(), known, "{since}");
        }
        for bad in ["", "{", "[]", "{\"version\":1}", "null"] {
            fs::write(one.file(), bad).unwrap();
            assert!(one.lacks().is_empty(), "{bad}");
        }
        // Of another store, wherever it lies.
        fs::write(other.file(), &text).unwrap();
        assert!(other.lacks().is_empty());
    }

    #[test]
    fn stores_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..STORES + 20 {
            let known = Known::new(dir.path(), format!("s3://{n}:443"));
            known.note(Lack::Checksums);
            assert_eq!(known.lacks(), [Lack::Checksums]);
            if n == 50 {
                // Some are too old.
                for n in 0..40 {
                    fs::write(Known::new(dir.path(), format!("s3://{n}:443")).file(), "old").unwrap();
                }
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 80);
        assert_eq!(Known::new(dir.path(), "s3://50:443".into()).lacks(), [Lack::Checksums]);
        for n in 0..30 {
            Known::new(dir.path(), format!("s3://more{n}:443")).note(Lack::Checksums);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), STORES);
    }
}
