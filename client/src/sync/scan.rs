//! Walks two trees at once and compares them.
//!
//! A directory is one task that lists both sides at the same time and pairs what it finds; a bounded number
//! of tasks run, the last directory found first, so that memory is bound by the largest directories and by
//! what differs, not by the trees. An entry that takes no part leaves nothing behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, iter};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, Filesystem, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::metadata::{DirEntry, FileType};
use session_core::path::{VPath, display_bytes};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::apply::CONFLICT;
use super::base::{self, Base, Conflict, counts};
use super::decide::{Action, Clocks, Facts, Newer, Rules, Verdict, decide};
use super::difference::{Difference, Differences, Note, below};
use super::pair::{Pair, Seen, exact, folding};
use super::{CaseRule, Direction, Renames, Root, Side, Sides, SyncOptions};
use crate::mask::Subject;

/// Directories that are listed at once.
const PARALLEL: usize = 24;

/// Links that are looked at, and files that are hashed, at once in one directory.
const LOOKS: usize = 8;

/// The most entries of one directory.
const MAX_ENTRIES: usize = 4_000_000;

/// Listings like those of `ls` tell the minute of what is younger than half a year.
const RECENT: Duration = Duration::from_secs(180 * 24 * 3600);

/// Unfinished files take no part.
pub(crate) fn is_unfinished(name: &[u8]) -> bool {
    name.ends_with(b".filepart")
}

/// A directory to be compared: its path below each root, as far as it is there.
struct Dir {
    left: Option<Box<[u8]>>,
    right: Option<Box<[u8]>>,
}

impl Dir {
    fn get(&self, side: Side) -> Option<&[u8]> {
        match side {
            Side::Left => self.left.as_deref(),
            Side::Right => self.right.as_deref(),
        }
    }

    /// Its path, if only one side has it: it may be one that is to be removed.
    fn alone(&self) -> Option<Box<[u8]>> {
        match (&self.left, &self.right) {
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            _ => None,
        }
    }

    /// The path of `name` below the root of `side`, made of the other side's where this one has no such
    /// directory yet.
    fn join(&self, side: Side, name: &[u8]) -> Box<[u8]> {
        let dir = self.get(side).or(self.get(side.other())).unwrap_or_default();
        let mut out = Vec::with_capacity(dir.len() + name.len() + 1);
        out.extend_from_slice(dir);
        if !dir.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(name);
        out.into()
    }
}

/// What a directory gave.
#[derive(Default)]
struct Found {
    items: Vec<Difference>,
    notes: Vec<Note>,
    failures: Vec<Error>,
    deeper: Vec<Dir>,
    seen: (u64, u64),
    /// Directories that would be removed and hold something that stays.
    kept: Vec<Box<[u8]>>,
    /// Directories that would be removed and hold something that is copied to the other side.
    needed: Vec<Box<[u8]>>,
    /// What both sides have in common, or had; for the next base.
    agreed: Vec<Agreed>,
}

/// A path below the left root, and what both sides tell of it.
type Agreed = (Box<[u8]>, (Facts, Facts));

/// What needs a look at the contents.
enum Undecided {
    /// If they differ, this is done.
    Digest(Difference),
    /// If they differ, it is a conflict.
    Conflict(Difference),
}

/// What every task needs.
pub(super) struct Scan {
    pub(super) sides: Sides,
    pub(super) options: SyncOptions,
    rules: Rules,
    fold: bool,
    /// Whether each side tells names apart that differ only in case.
    sensitive: (bool, bool),
    digests: OnceCell<Algorithm>,
}

/// Compares two trees. Dropped, it stops listing; nothing was changed.
///
/// Errors: `InvalidArgument` for options that contradict each other; those of looking at the roots, which
/// must be there (but see [`SyncOptions::make_root`]) and must be directories; `PreconditionFailed` where a root lacks
/// the [`SyncOptions::marker`]. A listing that fails below
/// them is a failure of the result.
pub async fn compare(sides: &Sides, options: &SyncOptions) -> Result<Differences> {
    options.check()?;
    let scan = Arc::new(Scan::new(sides, options));
    let (root, first) = scan.roots().await?;
    if let Some(marker) = &options.marker {
        marked(&sides.left, marker).await?;
        marked(&sides.right, marker).await?;
    }
    Ok(walk(&scan, root, first).await)
}

/// Errors: `PreconditionFailed` where the marker is not there; `InvalidPath` where it is no name; those of looking.
async fn marked(root: &Root, marker: &str) -> Result<()> {
    match root.fs.stat(&root.path.join(marker)?, Follow::Yes).await {
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::new(ErrorKind::PreconditionFailed)
            .with_detail(format!("'{}' has no '{}'", root.path.display(), display_bytes(marker.as_bytes())))
            .with_hint("is it the right place, and mounted? if it is, make that file there")),
        looked => looked.map(|_| ()),
    }
}

/// The differences below one that stands for a whole tree, itself included; settled as its action says,
/// whatever the direction of the options is. Errors: as of [`compare`].
pub async fn expand(sides: &Sides, options: &SyncOptions, tree: &Difference) -> Result<Differences> {
    let target = tree.action.side();
    let options = SyncOptions {
        direction: Direction::To(target),
        delete: matches!(tree.action, Action::Delete(_)),
        existing_only: false,
        collapse: false,
        base: None,
        renames: Renames::Off,
        within: None,
        ..options.clone()
    };
    options.check()?;
    let scan = Arc::new(Scan::new(sides, &options));
    let at = |side: Side| tree.facts(side).map(|_| Box::from(tree.path(side)));
    let dir = Dir { left: at(Side::Left), right: at(Side::Right) };
    Ok(walk(&scan, dir, vec![Difference { tree: false, ..tree.clone() }]).await)
}

async fn walk(scan: &Arc<Scan>, first: Dir, items: Vec<Difference>) -> Differences {
    let mut all = Found { items, ..Found::default() };
    let mut left = vec![first];
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < PARALLEL
            && let Some(dir) = left.pop()
        {
            let scan = Arc::clone(scan);
            tasks.spawn(async move { scan.directory(dir).await });
        }
        let Some(found) = tasks.join_next().await else { break };
        match found {
            Ok(mut found) => {
                all.items.append(&mut found.items);
                all.notes.append(&mut found.notes);
                all.failures.append(&mut found.failures);
                all.kept.append(&mut found.kept);
                all.needed.append(&mut found.needed);
                all.agreed.append(&mut found.agreed);
                all.seen.0 += found.seen.0;
                all.seen.1 += found.seen.1;
                left.append(&mut found.deeper);
            }
            Err(_) => {
                all.failures.push(Error::new(ErrorKind::Internal).with_detail("a comparing task failed"));
            }
        }
    }
    let mut differences = all.finish(scan.options.base.as_deref());
    super::renames::detect(scan, &mut differences).await;
    differences.guard(scan.options.max_delete, &scan.sides, scan.options.within.as_deref());
    differences
}

impl Found {
    fn finish(mut self, base: Option<&Base>) -> Differences {
        // A directory goes only with all that is in it, and comes back with what comes back in it.
        let (kept, needed) = (with_above(&self.kept), with_above(&self.needed));
        let (notes, items) = (&mut self.notes, &mut self.items);
        items.retain_mut(|d| {
            let (Action::Delete(side), true) = (d.action, d.is_dir()) else { return true };
            if needed.contains(d.path(side)) {
                d.action = d.action.reverse();
                return true;
            }
            let stays = kept.contains(d.path(side));
            if stays {
                notes.push(Note { path: d.path(side).into(), why: "it holds what is not removed" });
            }
            !stays
        });
        self.items.sort_by(|a, b| a.path.split(|b| *b == b'/').cmp(b.path.split(|b| *b == b'/')));
        self.notes.sort_by(|a, b| a.path.cmp(&b.path));
        let base = base.map(|old| {
            // What was not seen is gone on both sides, unless something could not be looked at.
            let entries = if self.failures.is_empty() { HashMap::new() } else { old.entries.clone() };
            Base { entries: entries.into_iter().chain(self.agreed).collect() }
        });
        Differences { items: self.items, notes: self.notes, failures: self.failures, seen: self.seen, base }
    }
}

/// These directories and those above them.
fn with_above(paths: &[Box<[u8]>]) -> HashSet<&[u8]> {
    let mut all: HashSet<&[u8]> = HashSet::new();
    for path in paths {
        let mut at = Some(&**path);
        while let Some(path) = at.filter(|path| all.insert(path)) {
            at = path.iter().rposition(|b| *b == b'/').and_then(|cut| path.get(..cut));
        }
    }
    all
}

/// The entries of one side, and how many there were.
type Listed = (Vec<Seen>, u64);

impl Scan {
    fn new(sides: &Sides, options: &SyncOptions) -> Self {
        let capabilities = (sides.left.fs.capabilities(), sides.right.fs.capabilities());
        let sensitive = (capabilities.0.case_sensitive, capabilities.1.case_sensitive);
        let clocks = Clocks {
            left: capabilities.0.mtime_granularity,
            right: capabilities.1.mtime_granularity,
            shift: options.shift,
            ignore_hour: options.ignore_hour,
            days_before: SystemTime::now().checked_sub(RECENT),
        };
        Scan {
            sides: sides.clone(),
            rules: Rules {
                direction: options.direction,
                criteria: options.criteria,
                delete: options.delete,
                mirror: options.mirror,
                existing_only: options.existing_only,
                clocks,
            },
            options: options.clone(),
            fold: match options.case {
                CaseRule::Auto => !(sensitive.0 && sensitive.1),
                CaseRule::Ignore => true,
                CaseRule::Tell => false,
            },
            sensitive,
            digests: OnceCell::new(),
        }
    }

    /// The roots, which must be there; what is to be done about them.
    async fn roots(&self) -> Result<(Dir, Vec<Difference>)> {
        let target = match self.options.direction {
            Direction::To(side) if self.options.make_root => Some(side),
            _ => None,
        };
        let (left, right) = futures_util::future::join(
            root(&self.sides.left, target == Some(Side::Left)),
            root(&self.sides.right, target == Some(Side::Right)),
        )
        .await;
        let (left, right) = (left?, right?);
        let here = |facts: &Option<Facts>| facts.as_ref().map(|_| Box::default());
        let dir = Dir { left: here(&left), right: here(&right) };
        let missing = target.filter(|side| dir.get(*side).is_none());
        let make = missing.map(|side| Difference {
            path: Box::default(),
            right_path: None,
            action: Action::New(side),
            left,
            right,
            tree: false,
            conflict: None,
            moved: None,
        });
        Ok((dir, make.into_iter().collect()))
    }

    async fn directory(&self, dir: Dir) -> Found {
        let mut found = Found::default();
        let (left, right) =
            futures_util::future::join(self.list(Side::Left, &dir), self.list(Side::Right, &dir)).await;
        let (left, right) = match (left, right) {
            (Ok(left), Ok(right)) => (left, right),
            (left, right) => {
                // Half of the truth is none: nothing is concluded of what is in here.
                found.failures.extend([left.err(), right.err()].into_iter().flatten());
                found.kept.extend(dir.alone());
                return found;
            }
        };
        found.seen = (left.1, right.1);
        let mut undecided = Vec::new();
        let each = |pair| self.pair(&dir, pair, &mut found, &mut undecided);
        if self.fold {
            folding(left.0, right.0, each)
        } else {
            exact(left.0, right.0, each)
        }
        let digested = iter(undecided).map(|u| async move {
            let (Undecided::Digest(d) | Undecided::Conflict(d)) = &u;
            let sizes = d.left.as_ref().map(|f| f.size) == d.right.as_ref().map(|f| f.size);
            let differs = if sizes { self.differ(d).await } else { Ok(true) };
            (differs, u)
        });
        for (differs, undecided) in digested.buffer_unordered(LOOKS).collect::<Vec<_>>().await {
            match (differs, undecided) {
                (Ok(true), Undecided::Digest(d)) => found.items.push(d),
                (Ok(true), Undecided::Conflict(d)) => self.conflict(d, &mut found),
                (Ok(false), Undecided::Conflict(d)) => {
                    found.agreed.extend(d.left.zip(d.right).map(|both| (d.path, both)));
                }
                (Ok(false), Undecided::Digest(_)) => {}
                (Err(e), _) => found.failures.push(e),
            }
        }
        found
    }

    /// Settles a conflict as the options say, or leaves it alone.
    fn conflict(&self, mut d: Difference, found: &mut Found) {
        let settled = match self.options.conflict {
            Conflict::Left => Some((Side::Right, None)),
            Conflict::Right => Some((Side::Left, None)),
            how @ (Conflict::Ask | Conflict::Both) => Some((Side::Right, Some(how))),
            Conflict::Newer => {
                let modified = |f: &Option<Facts>| f.as_ref().and_then(|f| f.modified);
                match self.rules.clocks.compare(modified(&d.left), modified(&d.right), false) {
                    Some(Newer::On(side)) => Some((side.other(), None)),
                    _ => None,
                }
            }
            Conflict::Skip => None,
        };
        self.remember(&d.path, None, found);
        match settled {
            Some((side, conflict)) => {
                d.action = Action::Update(side);
                d.conflict = conflict;
                found.items.push(d);
            }
            None => found.notes.push(Note { path: d.path, why: CONFLICT }),
        }
    }

    /// Notes for the next base what both sides have in common; or what they had, where nothing is new.
    fn remember(&self, path: &[u8], both: Option<(&Facts, &Facts)>, found: &mut Found) {
        let Some(base) = &self.options.base else { return };
        let both = both.filter(|(l, r)| counts(l, r)).map(|(l, r)| (l.clone(), r.clone()));
        if let Some(both) = both.or_else(|| base.entries.get(path).cloned()) {
            found.agreed.push((path.into(), both));
        }
    }

    async fn list(&self, side: Side, dir: &Dir) -> Result<Listed> {
        let Some(path) = dir.get(side) else { return Ok((Vec::new(), 0)) };
        let root = self.sides.get(side);
        let at = below(root, path)?;
        let backup =
            self.options.backup_dir.as_ref().filter(|_| self.options.direction == Direction::To(side));
        let bin = self.options.recycle.as_ref().filter(|r| r.side == side).map(|r| &r.bin);
        let kept: Vec<&VPath> =
            backup.into_iter().chain(bin).filter(|kept| kept.parent().as_ref() == Some(&at)).collect();
        let mut entries = Vec::new();
        let mut links = Vec::new();
        let mut pages = root.fs.list(&at, &ListOptions::default()).await?;
        while let Some(page) = pages.next_page().await? {
            for entry in page {
                if entry.metadata.file_type == FileType::Symlink {
                    links.push(entry);
                    continue;
                }
                entries.push(self.seen(root, &at, entry, &kept));
            }
            if entries.len() + links.len() > MAX_ENTRIES {
                return Err(Error::new(ErrorKind::TooLarge)
                    .with_detail("the directory holds too many entries")
                    .at(session_core::operation::OperationKind::List, Some(&at)));
            }
        }
        let (at, fs) = (&at, &root.fs);
        let resolved = iter(links).map(|mut link| async move {
            // A link to a file is compared and copied as that file; any other stays a link.
            if let Ok(m) = fs.stat(&at.join(&link.name)?, Follow::Yes).await
                && m.is_file()
            {
                link.metadata = m;
            }
            Ok::<_, Error>(link)
        });
        for link in resolved.buffer_unordered(LOOKS).collect::<Vec<_>>().await {
            entries.push(self.seen(root, at, link?, &kept));
        }
        let count = entries.len() as u64;
        Ok((entries, count))
    }

    fn takes(&self, entry: &Subject<'_>) -> bool {
        let options = &self.options;
        options.mask.matches(entry) && options.filter.as_ref().is_none_or(|f| f.matches(entry))
    }

    fn seen(&self, root: &Root, dir: &VPath, entry: DirEntry, kept: &[&VPath]) -> Seen {
        let excluded = kept.iter().any(|k| *k.name() == entry.name)
            || is_unfinished(&entry.name)
            || !self.takes(&Subject::inside(dir, &entry.name, &root.path, &entry.metadata));
        Seen { facts: Facts::of(&entry.metadata), name: entry.name, excluded }
    }

    /// Whether an entry is to be synchronised, where only a part of the trees is.
    fn heeds(&self, dir: &Dir, left: &[u8], right: &[u8]) -> bool {
        let Some(within) = &self.options.within else { return true };
        let known = |side| dir.get(side).is_some_and(|path| within.heeds(path));
        dir.left.is_some() != dir.right.is_some()
            || known(Side::Left)
            || known(Side::Right)
            || within.leads(left)
            || within.leads(right)
    }

    fn pair(&self, dir: &Dir, pair: Pair, found: &mut Found, undecided: &mut Vec<Undecided>) {
        let (left, right, clash) = match pair {
            Pair::Both(left, right) => (Some(left), Some(right), None),
            Pair::One { on: Side::Left, seen, other_has, this_has } => {
                (Some(seen), None, Some((other_has, this_has)))
            }
            Pair::One { on: Side::Right, seen, other_has, this_has } => {
                (None, Some(seen), Some((other_has, this_has)))
            }
        };
        let name = |side| match side {
            Side::Left => left.as_ref().or(right.as_ref()),
            Side::Right => right.as_ref().or(left.as_ref()),
        };
        let path = |side| dir.join(side, name(side).map_or(&b""[..], |s| &s.name));
        // What only one side leaves out would look missing there.
        let excluded = [&left, &right].into_iter().flatten().any(|s| s.excluded);
        let verdict = if excluded {
            Verdict::Same
        } else {
            let (l, r) = (left.as_ref().map(|s| &s.facts), right.as_ref().map(|s| &s.facts));
            let verdict = match &self.options.base {
                Some(base) => base::decide(l, r, base.entries.get(&path(Side::Left)), &self.rules),
                None => decide(l, r, &self.rules),
            };
            self.without_clash(verdict, clash)
        };
        let verdict = match verdict {
            Verdict::Descend => verdict,
            _ if self.heeds(dir, &path(Side::Left), &path(Side::Right)) => verdict,
            _ => Verdict::Same,
        };
        let difference = |action| {
            let (left_path, right_path) = (path(Side::Left), path(Side::Right));
            Difference {
                right_path: (left_path != right_path).then_some(right_path),
                path: left_path,
                action,
                left: left.as_ref().map(|s| s.facts.clone()),
                right: right.as_ref().map(|s| s.facts.clone()),
                tree: false,
                conflict: None,
                moved: None,
            }
        };
        let held = |side| match side {
            Side::Left => left.is_some(),
            Side::Right => right.is_some(),
        };
        let deeper = || Dir {
            left: held(Side::Left).then(|| path(Side::Left)),
            right: held(Side::Right).then(|| path(Side::Right)),
        };
        if self.options.base.is_some() && verdict != Verdict::Conflict {
            let both = left.as_ref().zip(right.as_ref()).map(|(l, r)| (&l.facts, &r.facts));
            let same = matches!(verdict, Verdict::Same | Verdict::Descend) && !excluded;
            self.remember(&path(Side::Left), both.filter(|_| same), found);
        }
        match verdict {
            Verdict::Act(action) => {
                if matches!(action, Action::New(_)) && found.needed.is_empty() {
                    // Both ways, the directory that holds it may be one that was to be removed.
                    found.needed.extend(dir.alone());
                }
                let mut difference = difference(action);
                if difference.is_dir() {
                    if self.options.collapse {
                        difference.tree = true;
                    } else {
                        found.deeper.push(deeper());
                    }
                }
                found.items.push(difference);
            }
            Verdict::Descend => {
                let within = self.options.within.as_ref();
                if within.is_none_or(|w| w.enters(&path(Side::Left)) || w.enters(&path(Side::Right))) {
                    found.deeper.push(deeper());
                }
            }
            Verdict::Digest(action) => undecided.push(Undecided::Digest(difference(action))),
            // The side is decided when the contents differ.
            Verdict::Conflict => {
                undecided.push(Undecided::Conflict(difference(Action::Update(Side::Right))));
            }
            Verdict::Same | Verdict::Skip(_) => {
                if let Verdict::Skip(why) = verdict {
                    let on = if held(Side::Left) { Side::Left } else { Side::Right };
                    found.notes.push(Note { path: path(on), why });
                }
                // It stays, and so does the directory that holds it.
                if found.kept.is_empty() {
                    found.kept.extend(dir.alone());
                }
            }
        }
    }

    /// Names that differ only in case stand in each other's way.
    fn without_clash(&self, verdict: Verdict, clash: Option<(bool, bool)>) -> Verdict {
        const WHY: &str = "its name differs only in case from another";
        match (verdict, clash) {
            (Verdict::Act(Action::New(side)), Some((other_has, this_has))) => {
                let sensitive = if side == Side::Left { self.sensitive.0 } else { self.sensitive.1 };
                if !sensitive && (other_has || this_has) { Verdict::Skip(WHY) } else { verdict }
            }
            (Verdict::Act(Action::Delete(_)), Some((true, _))) => Verdict::Skip(WHY),
            _ => verdict,
        }
    }

    /// Whether the contents differ.
    async fn differ(&self, difference: &Difference) -> Result<bool> {
        let (left, right) =
            (difference.place(Side::Left, &self.sides)?, difference.place(Side::Right, &self.sides)?);
        let (l, r) = (&self.sides.left.fs, &self.sides.right.fs);
        let algorithm = self.algorithm_for(&[(Side::Left, &left), (Side::Right, &right)]).await;
        let (left, right) = futures_util::future::join(
            crate::hash::digest(l, &left, algorithm),
            crate::hash::digest(r, &right, algorithm),
        )
        .await;
        Ok(left?.0 != right?.0)
    }

    /// The algorithm for all files, found out with the first of them.
    pub(super) async fn algorithm_for(&self, asked: &[(Side, &VPath)]) -> Algorithm {
        *self.digests.get_or_init(|| async { self.algorithm(asked).await }).await
    }

    /// SHA-256, unless a side that has digests of its own knows only SHA-1.
    async fn algorithm(&self, asked: &[(Side, &VPath)]) -> Algorithm {
        let mut known = true;
        for (side, path) in asked {
            let fs = &self.sides.get(*side).fs;
            if !fs.capabilities().checksums {
                continue;
            }
            known = known
                && (knows(fs, path, Algorithm::Sha256).await || !knows(fs, path, Algorithm::Sha1).await);
        }
        if known { Algorithm::Sha256 } else { Algorithm::Sha1 }
    }
}

async fn knows(fs: &SessionFs, path: &VPath, algorithm: Algorithm) -> bool {
    let asked = fs.checksum(path, algorithm, 0..1).await;
    !asked.is_err_and(|e| e.kind() == ErrorKind::Unsupported)
}

/// What a root is; `None` where it is missing and may be.
async fn root(root: &Root, may_be_missing: bool) -> Result<Option<Facts>> {
    match root.fs.stat(&root.path, Follow::Yes).await {
        Ok(m) if m.is_dir() => Ok(Some(Facts::of(&m))),
        Ok(_) => Err(Error::new(ErrorKind::NotADirectory)
            .at(session_core::operation::OperationKind::List, Some(&root.path))),
        Err(e) if may_be_missing && e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
