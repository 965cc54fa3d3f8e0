//! What two places had in common after their last run: the base of a two-way synchronisation.
//!
//! With it, what is missing on one side was removed there and not made on the other, and what changed on
//! both sides is a conflict and not simply older. It is a file of JSON lines, replaced in one step; a lock
//! beside it keeps a second run away. Without a base nothing is removed: losing the file is safe.
//!
//! Not here: where such a file is best kept; merging contents.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use session_core::digest::{Hasher, hex};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;
use session_core::metadata::FileType;

use super::Side;
use super::decide::{Action, Clocks, Facts, Newer, Rules, Verdict, special};
use super::plan::{bytes_into, facts_json, path_of, read_facts};

/// The schema of this version.
const SCHEMA: &str = "ferry.base/1";

/// The longest line, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// What is done about a file that has changed on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// Ask which one is to stay; where nobody answers, it is left alone.
    Ask,
    /// Keep both: the right one under a name of its own, on both sides.
    Both,
    /// The left one stays.
    Left,
    /// The newer one stays; left alone where that cannot be told.
    Newer,
    /// The right one stays.
    Right,
    /// Leave it alone and say so.
    #[default]
    Skip,
}

/// Entries that both sides had in common: path below the left root, what either side told of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    pub(super) entries: HashMap<Box<[u8]>, (Facts, Facts)>,
}

impl Base {
    /// A base that knows nothing: of the first run.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What is to be done about a name, given what both sides had in common. Never a removal of what has
/// changed since: that comes back to the other side.
pub fn decide(
    left: Option<&Facts>,
    right: Option<&Facts>,
    base: Option<&(Facts, Facts)>,
    rules: &Rules,
) -> Verdict {
    let clocks = &rules.clocks;
    match (left, right) {
        (Some(left), Some(right)) => {
            if let Some(why) = special(left).or(special(right)) {
                return Verdict::Skip(why);
            }
            match (left.is_dir(), right.is_dir()) {
                (true, true) => return Verdict::Descend,
                (false, false) => {}
                _ => return Verdict::Skip("a file on one side and a directory on the other"),
            }
            let changed = base.map(|(l, r)| (!l.still(left, clocks.left), !r.still(right, clocks.right)));
            match changed {
                Some((false, false)) => Verdict::Same,
                Some((true, false)) => Verdict::Act(Action::Update(Side::Right)),
                Some((false, true)) => Verdict::Act(Action::Update(Side::Left)),
                // The first run takes for the same what looks the same. Later, changes on both sides are
                // rare, and the contents tell: perhaps a run whose end was not recorded made them.
                None if alike(left, right, clocks) => Verdict::Same,
                Some((true, true)) | None => Verdict::Conflict,
            }
        }
        (Some(one), None) => alone(one, Side::Left, base.map(|(l, _)| l), clocks),
        (None, Some(one)) => alone(one, Side::Right, base.map(|(_, r)| r), clocks),
        (None, None) => Verdict::Same,
    }
}

fn alike(left: &Facts, right: &Facts, clocks: &Clocks) -> bool {
    left.size == right.size && clocks.compare(left.modified, right.modified, true) == Some(Newer::Same)
}

fn alone(one: &Facts, on: Side, base: Option<&Facts>, clocks: &Clocks) -> Verdict {
    if let Some(why) = special(one) {
        return Verdict::Skip(why);
    }
    let step = if on == Side::Left { clocks.left } else { clocks.right };
    if base.is_some_and(|b| b.still(one, step)) {
        Verdict::Act(Action::Delete(on))
    } else {
        Verdict::Act(Action::New(on.other()))
    }
}

/// A base in a file, locked for as long as this lives.
pub struct BaseFile {
    path: PathBuf,
    places: (String, String),
    /// Of what the file holds: whether another run has written it since is seen by it. Empty where there is none.
    digest: String,
    /// Holds the lock.
    _lock: File,
}

/// What a file of a base holds.
struct Held {
    head: Value,
    base: Base,
    digest: String,
}

impl BaseFile {
    /// Opens the file of these two places, and gives what it holds; a file that is missing holds nothing.
    /// Blocks. Errors: `Locked` while another run has it; `InvalidArgument` for a file of other places, or
    /// one that is damaged; those of the disk.
    pub fn open(path: &Path, left: &str, right: &str) -> Result<(Self, Base)> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, ".lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Locked)
                    .with_detail(format!("'{}' is used by another run", path.display())));
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(e.into()),
        }
        let places = (left.into(), right.into());
        let mut file = BaseFile { path: path.into(), places, digest: String::new(), _lock: lock };
        let base = match File::open(path) {
            Ok(open) => {
                let held = read(path, &file.places, BufReader::new(open))?;
                file.digest = held.digest;
                held.base
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Base::new(),
            Err(e) => return Err(e.into()),
        };
        Ok((file, base))
    }

    /// Puts `base` in the place of what the file held, in one step. Blocks. Errors: those of the disk; the
    /// old base stays then.
    pub fn save(&mut self, base: &Base) -> Result<()> {
        self.digest = write(&self.path, self.head(), base)?;
        Ok(())
    }

    fn head(&self) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("schema".into(), SCHEMA.into());
        head.insert("left".into(), self.places.0.clone().into());
        head.insert("right".into(), self.places.1.clone().into());
        head
    }

    /// Writes down, in another file, what is to be saved here when the run that this is opened for has come to its
    /// end, for one that takes it up. Blocks. Errors: those of the disk, and `InvalidArgument` where this file has a
    /// path that cannot be written down.
    pub(crate) fn set_aside(&self, at: &Path, base: &Base) -> Result<()> {
        let mut head = self.head();
        let path = std::path::absolute(&self.path)?.into_os_string().into_string();
        let path = path.map_err(|path| {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("the path '{}' cannot be written down", path.display()))
        })?;
        head.insert("state".into(), path.into());
        head.insert("digest".into(), self.digest.clone().into());
        write(at, head, base).map(|_| ())
    }

    /// The file that a base was set aside for, and that base. Blocks. Errors: those of [`Self::open`];
    /// `PreconditionFailed` where the file was written since.
    pub(crate) fn take_up(at: &Path, left: &str, right: &str) -> Result<(Self, Base)> {
        let held = read(at, &(left.into(), right.into()), BufReader::new(File::open(at)?))?;
        let text = |key: &str| held.head.get(key).and_then(Value::as_str).unwrap_or_default();
        let (file, _) = Self::open(Path::new(text("state")), left, right)?;
        if file.digest != text("digest") {
            return Err(Error::new(ErrorKind::PreconditionFailed)
                .with_detail(format!("'{}' was written since: the list is out of date", text("state")))
                .with_hint("run 'ferry sync' again, and 'ferry jobs forget' this job"));
        }
        Ok((file, held.base))
    }
}

fn read(path: &Path, places: &(String, String), mut input: impl BufRead) -> Result<Held> {
    let wrong = |why: &str| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{}' {why}", path.display()))
            .with_hint("without that file nothing is taken for removed: take it away to begin anew")
    };
    let mut base = Base::new();
    let mut hasher = Hasher::new(Algorithm::Blake3);
    let mut line = Vec::new();
    let mut head = None;
    loop {
        line.clear();
        input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        hasher.update(&line);
        let value: Value = serde_json::from_slice(&line).map_err(|_| wrong("is damaged"))?;
        let Some(head) = &head else {
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("schema") != SCHEMA {
                return Err(wrong("is no base of a synchronisation"));
            }
            if (text("left"), text("right")) != (places.0.as_str(), places.1.as_str()) {
                let others = (text("left"), text("right"));
                return Err(wrong(&format!("belongs to other places: '{}' and '{}'", others.0, others.1)));
            }
            head = Some(value);
            continue;
        };
        if let Some(count) = value.get("items").and_then(Value::as_u64) {
            if count != base.len() as u64 {
                return Err(wrong("is damaged"));
            }
            return Ok(Held { head: head.clone(), base, digest: hex(&hasher.finish()) });
        }
        let facts = |key: &str| value.get(key).and_then(read_facts);
        let entry = path_of(&value, "path").zip(facts("left").zip(facts("right")));
        let (path, entry) = entry.ok_or_else(|| wrong("is damaged"))?;
        base.entries.insert(path, entry);
    }
}

/// Writes a base in one step, and gives the digest of the file.
fn write(path: &Path, head: Map<String, Value>, base: &Base) -> Result<String> {
    let new = beside(path, ".new");
    let mut out = BufWriter::new(File::create(&new)?);
    let mut hasher = Hasher::new(Algorithm::Blake3);
    let mut put = |value: Value| {
        let line = format!("{value}\n");
        hasher.update(line.as_bytes());
        out.write_all(line.as_bytes())
    };
    put(head.into())?;
    for (path, (left, right)) in &base.entries {
        let mut v = json!({ "left": facts_json(left), "right": facts_json(right) });
        if let Some(map) = v.as_object_mut() {
            bytes_into(map, "path", path);
        }
        put(v)?;
    }
    put(json!({ "items": base.len() }))?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(hex(&hasher.finish()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The name under which a file of `side` is kept beside the other one: `a.conflict-right-2.txt`.
pub(super) fn kept_name(name: &[u8], side: Side, number: u32) -> Vec<u8> {
    let cut = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(cut);
    [stem, format!(".conflict-{}-{number}", side.name()).as_bytes(), extension].concat()
}

/// Whether facts are worth keeping: what is neither file nor directory takes no part.
pub(super) fn counts(left: &Facts, right: &Facts) -> bool {
    left.kind == right.kind && matches!(left.kind, FileType::File | FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::sync::{Criteria, Direction};

    fn file(seconds: u64, size: u64) -> Facts {
        let modified = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds));
        Facts { kind: FileType::File, size, modified, mode: None }
    }

    fn dir() -> Facts {
        Facts { kind: FileType::Directory, size: 0, modified: None, mode: None }
    }

    #[test]
    fn each_case_of_three() {
        use {Action::*, Side::*, Verdict::*};
        let rules = Rules {
            direction: Direction::Both,
            criteria: Criteria::TIME,
            delete: false,
            mirror: false,
            existing_only: false,
            clocks: Clocks::default(),
        };
        let (a, b, c) = (file(0, 1), file(10, 1), file(20, 2));
        let base = Some((&a, &a));
        for (left, right, base, wanted) in [
            // Nothing was known.
            (Some(&a), None, None, Act(New(Right))),
            (None, Some(&a), None, Act(New(Left))),
            (Some(&a), Some(&a), None, Same),
            (Some(&a), Some(&b), None, Conflict),
            // It was the same on both sides.
            (Some(&a), Some(&a), base, Same),
            (Some(&b), Some(&a), base, Act(Update(Right))),
            (Some(&a), Some(&b), base, Act(Update(Left))),
            // Older is a change, too.
            (Some(&a), Some(&b), Some((&b, &b)), Act(Update(Right))),
            (Some(&b), Some(&c), base, Conflict),
            (Some(&b), Some(&b), base, Conflict),
            (None, Some(&a), base, Act(Delete(Right))),
            (Some(&a), None, base, Act(Delete(Left))),
            // Removed here, changed there: the change stays.
            (None, Some(&b), base, Act(New(Left))),
            (Some(&b), None, base, Act(New(Right))),
            (None, None, base, Same),
            // The sides tell different times of the same content.
            (Some(&a), Some(&b), Some((&a, &b)), Same),
            (Some(&a), Some(&c), Some((&a, &b)), Act(Update(Left))),
            // Directories.
            (Some(&dir()), Some(&dir()), None, Descend),
            (Some(&dir()), None, Some((&dir(), &dir())), Act(Delete(Left))),
            (Some(&dir()), None, None, Act(New(Right))),
            // It was a file and is a directory now.
            (Some(&dir()), None, base, Act(New(Right))),
            (None, Some(&a), Some((&dir(), &dir())), Act(New(Left))),
        ] {
            let base = base.map(|(l, r): (&Facts, &Facts)| (l.clone(), r.clone()));
            assert_eq!(decide(left, right, base.as_ref(), &rules), wanted, "{left:?} {right:?} {base:?}");
        }
        assert!(matches!(decide(Some(&dir()), Some(&a), None, &rules), Skip(_)));
    }

    #[test]
    fn a_base_comes_back_and_belongs_to_its_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base");
        let (mut open, empty) = BaseFile::open(&path, "/a", "sftp://h/b").unwrap();
        assert!(empty.is_empty());
        let mut base = Base::new();
        base.entries.insert(b"d/\xff".as_slice().into(), (file(1, u64::MAX), file(2, 0)));
        base.entries.insert(b"d".as_slice().into(), (super::tests::dir(), super::tests::dir()));
        open.save(&base).unwrap();
        let e = BaseFile::open(&path, "/a", "sftp://h/b").err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Locked);
        drop(open);
        assert_eq!(BaseFile::open(&path, "/a", "sftp://h/b").unwrap().1, base);
        let e = BaseFile::open(&path, "/a", "/other").err().unwrap();
        assert!(e.to_string().contains("belongs to other places"), "{e}");
        // Set aside for the file as it is: once that is written anew, it is out of date.
        let aside = dir.path().join("aside");
        let (mut open, _) = BaseFile::open(&path, "/a", "sftp://h/b").unwrap();
        open.set_aside(&aside, &Base::new()).unwrap();
        drop(open);
        let taken = BaseFile::take_up(&aside, "/a", "sftp://h/b").unwrap();
        assert!(taken.1.is_empty());
        open = taken.0;
        open.save(&Base::new()).unwrap();
        drop(open);
        let e = BaseFile::take_up(&aside, "/a", "sftp://h/b").err().unwrap();
        assert_eq!(e.kind(), ErrorKind::PreconditionFailed);
        let (mut open, _) = BaseFile::open(&path, "/a", "sftp://h/b").unwrap();
        open.save(&base).unwrap();
        drop(open);
        let text = std::fs::read(&path).unwrap();
        for cut in 1..text.len() - 1 {
            std::fs::write(&path, &text[..cut]).unwrap();
            assert!(BaseFile::open(&path, "/a", "sftp://h/b").is_err(), "{cut}");
        }
    }

    #[test]
    fn kept_names_keep_their_extension() {
        let name = |name: &[u8]| String::from_utf8(kept_name(name, Side::Right, 2)).unwrap();
        assert_eq!(name(b"a.b.txt"), "a.b.conflict-right-2.txt");
        assert_eq!(name(b".profile"), ".profile.conflict-right-2");
        assert_eq!(name(b"a"), "a.conflict-right-2");
    }
}
