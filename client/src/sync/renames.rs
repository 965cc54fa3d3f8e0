//! Files that were moved: one that is new and one that is to be removed, with the same content, are one that is
//! to be renamed.
//!
//! By digest, where both sides give one without moving the content (a disk of this machine, a server that
//! computes digests), or by the base of both sides: the new file has size and time of the old one as it was
//! there. Where two files could be meant, the one that kept its name is, else the first by path. What is not
//! sure is copied and removed.
//!
//! Not here: directories as such (what is in them is renamed, file by file), empty files.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, iter};
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::metadata::FileType;
use session_core::session::Protocol;

use super::decide::Action;
use super::difference::{Difference, Differences};
use super::scan::Scan;
use super::{Renames, Side};

/// Files that are hashed at once.
const HASHED: usize = 4;

/// Times that tell less than this say too little of a file.
const FINE: Duration = Duration::from_secs(1);

/// Whether a digest of a file costs no more than reading it where it is.
fn is_near(fs: &SessionFs) -> bool {
    fs.session().protocol() == Protocol::Local || fs.capabilities().checksums
}

/// Makes renames of what was moved.
pub(super) async fn detect(scan: &Scan, found: &mut Differences) {
    if scan.options.renames == Renames::Off || scan.options.collapse {
        return;
    }
    for target in [Side::Left, Side::Right] {
        if scan.sides.get(target).fs.capabilities().rename {
            on_side(scan, found, target).await;
        }
    }
}

/// New and removed files of one size, as numbers of items.
#[derive(Default)]
struct Alike {
    new: Vec<usize>,
    gone: Vec<usize>,
}

async fn on_side(scan: &Scan, found: &mut Differences, target: Side) {
    let mut by_size: BTreeMap<u64, Alike> = BTreeMap::new();
    for (n, d) in found.items.iter().enumerate() {
        let file = |side| d.facts(side).filter(|f| f.kind == FileType::File && f.size > 0);
        match d.action {
            Action::New(side) if side == target => {
                if let Some(facts) = file(target.other()) {
                    by_size.entry(facts.size).or_default().new.push(n);
                }
            }
            Action::Delete(side) if side == target => {
                if let Some(facts) = file(target) {
                    by_size.entry(facts.size).or_default().gone.push(n);
                }
            }
            _ => {}
        }
    }
    by_size.retain(|_, alike| !alike.new.is_empty() && !alike.gone.is_empty());
    let digests = match scan.options.renames {
        Renames::Digest => digests(scan, found, target, &by_size).await,
        Renames::Base | Renames::Off => HashMap::new(),
    };
    // Of each that goes, what it becomes.
    let mut becomes: Vec<(usize, usize)> = Vec::new();
    for alike in by_size.values() {
        let mut gone = alike.gone.clone();
        // Those that kept their names are paired first.
        for same_name in [true, false] {
            for new in &alike.new {
                if becomes.iter().any(|(n, _)| n == new) {
                    continue;
                }
                let Some(item) = found.items.get(*new) else { continue };
                let is_it = |old: &usize| {
                    let Some(old_item) = found.items.get(*old) else { return false };
                    (!same_name || name(item, target) == name(old_item, target))
                        && match scan.options.renames {
                            Renames::Digest => {
                                let of = |n: &usize| digests.get(n);
                                of(new).is_some() && of(new) == of(old)
                            }
                            _ => was_there(scan, item, old_item, target),
                        }
                };
                if let Some(at) = gone.iter().position(is_it) {
                    becomes.push((*new, gone.remove(at)));
                }
            }
        }
    }
    becomes.sort_unstable();
    let mut gone: Vec<Option<Difference>> = std::mem::take(&mut found.items).into_iter().map(Some).collect();
    for (new, old) in becomes {
        let old = gone.get_mut(old).and_then(Option::take);
        if let (Some(Some(item)), Some(old)) = (gone.get_mut(new), old) {
            item.moved = Some(Box::new(old));
        }
    }
    found.items = gone.into_iter().flatten().collect();
}

fn name(d: &Difference, side: Side) -> &[u8] {
    d.path(side).rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// Whether the base knows the old file as one that the new one is, by size and time.
fn was_there(scan: &Scan, new: &Difference, old: &Difference, target: Side) -> bool {
    let source = target.other();
    let Some((left, right)) = scan.options.base.as_ref().and_then(|b| b.entries.get(old.path(Side::Left)))
    else {
        return false;
    };
    let then = if source == Side::Left { left } else { right };
    let step = scan.sides.get(source).fs.capabilities().mtime_granularity;
    // Coarser times are those of many.
    step <= FINE && new.facts(source).is_some_and(|now| then.modified.is_some() && then.still(now, step))
}

/// The digests of all that may be moved, by number. What cannot be had was not moved.
async fn digests(
    scan: &Scan,
    found: &Differences,
    target: Side,
    by_size: &BTreeMap<u64, Alike>,
) -> HashMap<usize, Bytes> {
    let (from, to) = (&scan.sides.get(target.other()).fs, &scan.sides.get(target).fs);
    if !is_near(from) || !is_near(to) {
        return HashMap::new();
    }
    let place = |n: usize, side| found.items.get(n)?.place(side, &scan.sides).ok();
    let first = by_size.values().next();
    let first = first.and_then(|alike| alike.new.first().copied().zip(alike.gone.first().copied()));
    let Some((new, gone)) = first.and_then(|(new, gone)| place(new, target.other()).zip(place(gone, target)))
    else {
        return HashMap::new();
    };
    let algorithm = scan.algorithm_for(&[(target.other(), &new), (target, &gone)]).await;
    let mut wanted: Vec<(usize, Side)> = Vec::new();
    for alike in by_size.values() {
        wanted.extend(alike.new.iter().map(|n| (*n, target.other())));
        wanted.extend(alike.gone.iter().map(|n| (*n, target)));
    }
    let hashed = iter(wanted).map(|(n, side)| async move {
        let digest = crate::hash::digest(&scan.sides.get(side).fs, &place(n, side)?, algorithm).await.ok()?;
        Some((n, digest.0))
    });
    hashed.buffer_unordered(HASHED).filter_map(std::future::ready).collect().await
}
