//! What is written down of uploads in parts, so that a server that begins again knows them: one file for each, a
//! line of JSON for each thing that happened.
//!
//! A line is written before its client is answered. It survives the process as soon as it is written; a power cut
//! may take the last ones, and with them content that was never flushed, so parts of a former run are compared with
//! their digests before they are published (`multipart`). A line that did not get whole is dropped with what follows.
//!
//! Deliberately absent: the content, which the staging of the store keeps; a bound of its own, since there are as
//! many files as uploads.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind as IoKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3s::dto::Checksum;
use serde::{Deserialize, Serialize};
use session_core::error::{Error, ErrorKind, Result};

use super::digest::hex;
use super::object::Kept;

/// What an upload begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) site: String,
    pub(super) account: String,
    pub(super) bucket: String,
    pub(super) key: String,
    content_type: Option<String>,
    fields: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    started: u64,
}

impl Opening {
    pub(super) fn new(
        (site, account): (&str, &str),
        (bucket, key): (&str, &str),
        kept: &Kept,
        started: SystemTime,
    ) -> Self {
        Opening {
            site: site.to_owned(),
            account: account.to_owned(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            content_type: kept.content_type.clone(),
            fields: kept.fields.clone(),
            started: nanos(started),
        }
    }

    pub(super) fn kept(&self) -> Kept {
        Kept { content_type: self.content_type.clone(), fields: self.fields.clone() }
    }

    pub(super) fn started(&self) -> SystemTime {
        time(self.started)
    }
}

/// A part that has arrived, and its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Arrived {
    pub(super) number: i32,
    pub(super) at: u64,
    pub(super) size: u64,
    /// How much room there is at its place.
    pub(super) room: u64,
    /// What a part may take up where parts have one size, and whether all that come stand behind the others.
    pub(super) slot: Option<u64>,
    pub(super) behind: bool,
    /// In hexadecimal digits.
    md5: String,
    /// By their names.
    sums: BTreeMap<String, String>,
    modified: u64,
}

impl Arrived {
    /// Of this content, at no place yet.
    pub(super) fn new(number: i32, size: u64, md5: &[u8; 16], sums: &Checksum, modified: SystemTime) -> Self {
        let sums = [
            ("crc32", &sums.checksum_crc32),
            ("crc32c", &sums.checksum_crc32c),
            ("crc64nvme", &sums.checksum_crc64nvme),
            ("sha1", &sums.checksum_sha1),
            ("sha256", &sums.checksum_sha256),
        ];
        let sums = sums.into_iter().filter_map(|(name, sum)| Some((name.to_owned(), sum.clone()?))).collect();
        let (md5, modified) = (hex(md5), nanos(modified));
        Arrived { number, at: 0, size, room: size, slot: None, behind: false, md5, sums, modified }
    }

    /// `None` for what is none.
    pub(super) fn md5(&self) -> Option<[u8; 16]> {
        let digit = |n: usize| u8::from_str_radix(self.md5.get(2 * n..2 * n + 2)?, 16).ok();
        let digits: Option<Vec<u8>> = (0..16).map(digit).collect();
        digits?.try_into().ok().filter(|_| self.md5.len() == 32)
    }

    pub(super) fn sums(&self) -> Checksum {
        let sum = |name: &str| self.sums.get(name).cloned();
        Checksum {
            checksum_crc32: sum("crc32"),
            checksum_crc32c: sum("crc32c"),
            checksum_crc64nvme: sum("crc64nvme"),
            checksum_sha1: sum("sha1"),
            checksum_sha256: sum("sha256"),
            ..Checksum::default()
        }
    }

    pub(super) fn modified(&self) -> SystemTime {
        time(self.modified)
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Begun(Opening),
    Part(Arrived),
    /// The part of this number is being written anew.
    Gone(i32),
}

/// What is known of one upload.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) opening: Opening,
    pub(super) parts: BTreeMap<i32, Arrived>,
    /// How long ago the last line was written.
    pub(super) age: Duration,
}

/// A folder of such files. Calls block.
#[derive(Clone, Debug)]
pub(super) struct Ledger(Arc<Path>);

fn nanos(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).unwrap_or(UNIX_EPOCH)
}

fn text(line: &Line) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
    text.push(b'\n');
    Ok(text)
}

impl Ledger {
    pub(super) fn new(folder: &Path) -> Self {
        Ledger(folder.into())
    }

    fn file(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.upload"))
    }

    /// An upload begins. Errors: those of the disk.
    pub(super) fn begin(&self, id: &str, opening: Opening) -> Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let line = text(&Line::Begun(opening))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file(id))?;
        let written = file.write_all(&line);
        if written.is_err() {
            self.end(id);
        }
        Ok(written?)
    }

    /// Something happened to an upload that has begun. Errors: those of the disk.
    pub(super) fn add(&self, id: &str, line: &Line) -> Result<()> {
        let line = text(line)?;
        let mut file = OpenOptions::new().append(true).open(self.file(id))?;
        let had = file.metadata()?.len();
        let written = file.write_all(&line);
        if written.is_err() {
            // What follows must not stand behind half a line.
            let _ = file.set_len(had);
        }
        Ok(written?)
    }

    /// An upload is over.
    pub(super) fn end(&self, id: &str) {
        if let Err(e) = fs::remove_file(self.file(id))
            && e.kind() != IoKind::NotFound
        {
            tracing::warn!(upload = id, error = %e, "what is known of an upload that is over cannot be removed");
        }
    }

    /// All of them to which something happened within this time; the others are over. Errors: those of reading the
    /// folder.
    pub(super) fn load(&self, keep: Duration) -> Result<Vec<Known>> {
        let entries = match fs::read_dir(&self.0) {
            Err(e) if e.kind() == IoKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(id) = name.strip_suffix(".upload").filter(|id| !id.is_empty()) else { continue };
            match read(&path, id) {
                Ok(Some(known)) if known.age >= keep => self.end(id),
                Ok(Some(known)) => all.push(known),
                Ok(None) => {
                    tracing::warn!(upload = id, "nothing is known of an upload but that there was one");
                    self.end(id);
                }
                Err(e) => {
                    tracing::warn!(upload = id, error = %e, "what is known of an upload cannot be read")
                }
            }
        }
        Ok(all)
    }
}

/// `None` where not even its beginning is whole.
fn read(path: &Path, id: &str) -> Result<Option<Known>> {
    let content = fs::read(path)?;
    let modified = fs::metadata(path)?.modified()?;
    let (mut opening, mut parts, mut whole) = (None, BTreeMap::new(), 0);
    for line in content.split_inclusive(|b| *b == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let Ok(said) = serde_json::from_slice(line) else { break };
        match said {
            Line::Begun(begun) => opening = Some(begun),
            Line::Part(part) => drop(parts.insert(part.number, part)),
            Line::Gone(number) => drop(parts.remove(&number)),
        }
        whole += line.len() + 1;
    }
    if whole < content.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    Ok(opening.map(|opening| Known { id: id.to_owned(), opening, parts, age }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening() -> Opening {
        let mut kept = Kept { content_type: Some("text/odd".into()), ..Kept::default() };
        kept.put("x-amz-meta-a", Some("grün\n".into()));
        let at = UNIX_EPOCH + Duration::new(7, 8);
        Opening::new(("site", "ann"), ("bucket", "dir/ä"), &kept, at)
    }

    fn part(number: i32, size: u64) -> Arrived {
        let sums = Checksum { checksum_sha1: Some("abc=".into()), ..Checksum::default() };
        Arrived::new(number, size, &[0xa5; 16], &sums, UNIX_EPOCH + Duration::new(9, 1))
    }

    #[test]
    fn what_was_written_is_known_again_up_to_where_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&dir.path().join("new"));
        let load = || ledger.load(Duration::from_secs(60)).unwrap();
        assert!(load().is_empty(), "there is no folder yet");
        ledger.begin("one", opening()).unwrap();
        assert!(ledger.begin("one", opening()).is_err(), "there is one of each name");
        for line in [Line::Part(part(1, 5)), Line::Part(part(2, 6)), Line::Gone(1), Line::Part(part(2, 7))] {
            ledger.add("one", &line).unwrap();
        }
        assert!(ledger.add("two", &Line::Gone(1)).is_err(), "what has not begun does not go on");
        let known = load().pop().unwrap();
        assert_eq!((known.id.as_str(), &known.opening), ("one", &opening()));
        assert_eq!(known.opening.kept().meta().collect::<Vec<_>>(), [("a".to_owned(), "grün\n".to_owned())]);
        assert_eq!(known.opening.started(), UNIX_EPOCH + Duration::new(7, 8));
        let there = &known.parts[&2];
        assert_eq!((known.parts.len(), there.size, there.md5()), (1, 7, Some([0xa5; 16])));
        assert_eq!(there.sums().checksum_sha1.as_deref(), Some("abc="));
        assert_eq!(there.modified(), UNIX_EPOCH + Duration::new(9, 1));
        // Half a line, as after a power cut: it is as if it had not been written, and what follows is whole again.
        let file = dir.path().join("new/one.upload");
        let mut content = fs::read(&file).unwrap();
        let whole = content.clone();
        content.extend_from_slice(b"{\"part\":{\"numb");
        fs::write(&file, &content).unwrap();
        assert_eq!(load().len(), 1);
        assert_eq!(fs::read(&file).unwrap(), whole);
        // Nothing whole at all.
        fs::write(dir.path().join("new/two.upload"), "{\"begun\":").unwrap();
        fs::write(dir.path().join("new/README"), "not ours").unwrap();
        assert_eq!(load().len(), 1);
        assert!(!dir.path().join("new/two.upload").exists());
        ledger.end("one");
        ledger.end("one");
        assert!(load().is_empty());
    }

    #[test]
    fn a_digest_that_is_none_is_none() {
        for bad in ["", "a5", "zz".repeat(16).as_str(), "é".repeat(16).as_str(), "a5".repeat(17).as_str()] {
            assert_eq!(Arrived { md5: bad.to_owned(), ..part(1, 1) }.md5(), None, "{bad}");
        }
    }
}
