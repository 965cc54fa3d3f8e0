//! Synchronising two trees: compare, review, apply.
//!
//! [`compare`] walks both sides at once, a bounded number of directories at a time, and gives the
//! [`Differences`]; a [`Runner`] does what they say. The sides are called left
//! and right: any two filesystems. In WinSCP's words the left one is local, the right one remote.
//!
//! What it promises: what a mask leaves out is neither copied nor removed; nothing is removed after a
//! listing that failed, nor more than [`MaxDelete`] allows; nothing is replaced or removed that is no longer
//! what was compared; each operation is reported once, and each failure once.
//!
//! Not here: contents that changed while their size and time stayed unless checksums are a criterion, composed
//! against decomposed letters in names.

mod apply;
mod backup;
pub mod base;
mod beside;
pub mod decide;
mod difference;
mod pair;
pub mod plan;
mod rehearse;
mod renames;
mod resumed;
mod scan;
mod within;

use std::ops::BitOr;
use std::sync::Arc;

use session_core::batch::TransferOptions;
use session_core::error::{Error, ErrorKind, Result};
use session_core::gate::SessionFs;
use session_core::path::VPath;

use crate::mask::{FileMask, Filter};

pub use apply::{Check, Operation, Outcome, Runner, SyncReport};
pub use base::{Base, BaseFile, Conflict};
pub use decide::{Action, Facts};
pub use difference::{Difference, Differences, Note};
pub(crate) use scan::is_unfinished;
pub use scan::{compare, expand};
pub use within::Within;

/// A side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The first place; WinSCP's local side.
    Left,
    /// The second place; WinSCP's remote side.
    Right,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        }
    }

    /// The name in plans and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Side::Left => "left",
            Side::Right => "right",
        }
    }
}

/// Where things go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Either way: the newer one wins, what is missing is copied, nothing is removed.
    Both,
    /// To this side, which becomes like the other.
    To(Side),
}

impl Direction {
    /// The name in plans and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Both => "both",
            Direction::To(side) => side.name(),
        }
    }
}

/// What makes two files different; several with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Criteria {
    /// The time of the last change.
    pub time: bool,
    /// The size.
    pub size: bool,
    /// The content, by digest.
    pub checksum: bool,
}

impl Criteria {
    /// Only what is missing is copied.
    pub const NONE: Criteria = Criteria { time: false, size: false, checksum: false };
    /// The time of the last change.
    pub const TIME: Criteria = Criteria { time: true, ..Criteria::NONE };
    /// The size.
    pub const SIZE: Criteria = Criteria { size: true, ..Criteria::NONE };
    /// The content.
    pub const CHECKSUM: Criteria = Criteria { checksum: true, ..Criteria::NONE };
    /// Time or size.
    pub const EITHER: Criteria = Criteria { time: true, size: true, checksum: false };

    /// Parses a list with commas: `none`, `time`, `size`, `checksum`, `either`. Errors: `InvalidArgument`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut criteria = Criteria::NONE;
        for word in text.split(',') {
            criteria = criteria
                | match word.trim().to_ascii_lowercase().as_str() {
                    "none" => Criteria::NONE,
                    "time" => Criteria::TIME,
                    "size" => Criteria::SIZE,
                    "checksum" => Criteria::CHECKSUM,
                    "either" => Criteria::EITHER,
                    _ => {
                        return Err(Error::new(ErrorKind::InvalidArgument)
                            .with_detail(format!("'{word}' is not a criterion"))
                            .with_hint("known are: none, time, size, checksum, either"));
                    }
                };
        }
        Ok(criteria)
    }
}

impl BitOr for Criteria {
    type Output = Criteria;

    fn bitor(self, other: Criteria) -> Criteria {
        Criteria {
            time: self.time || other.time,
            size: self.size || other.size,
            checksum: self.checksum || other.checksum,
        }
    }
}

/// Whether names that differ only in case are the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaseRule {
    /// They are where one of the sides cannot tell them apart.
    #[default]
    Auto,
    /// They always are (WinSCP's rule).
    Ignore,
    /// They never are.
    Tell,
}

/// How much may be removed from one side in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxDelete {
    /// A tenth of what was seen there, or a hundred entries, whichever is more; nothing where the other
    /// side is empty.
    #[default]
    Guarded,
    /// So many entries.
    Entries(u64),
    /// So many of a hundred of what was seen there.
    Percent(u8),
    /// Whatever is to be removed.
    Unlimited,
}

impl MaxDelete {
    /// Parses `100`, `10%` or `unlimited`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is no bound of what may be removed"))
                .with_hint("give a number of entries, a share such as 10%, or 'unlimited'")
        };
        if text == "unlimited" {
            return Ok(MaxDelete::Unlimited);
        }
        if let Some(share) = text.strip_suffix('%') {
            return share.parse().ok().filter(|n| *n <= 100).map(MaxDelete::Percent).ok_or_else(bad);
        }
        text.parse().map(MaxDelete::Entries).map_err(|_| bad())
    }

    /// How many entries may be removed of `seen`, where the other side holds `other`.
    pub fn allows(self, seen: u64, other: u64) -> u64 {
        match self {
            MaxDelete::Guarded if other == 0 => 0,
            MaxDelete::Guarded => (seen / 10).max(100),
            MaxDelete::Entries(n) => n,
            MaxDelete::Percent(n) => seen.saturating_mul(u64::from(n)) / 100,
            MaxDelete::Unlimited => u64::MAX,
        }
    }
}

/// How it is found that a file was moved, so that it is renamed instead of copied and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renames {
    /// Not at all.
    #[default]
    Off,
    /// By the base of both sides: size and time. Of effect where there is a base.
    Base,
    /// By digests, where both sides have them without moving the content.
    Digest,
}

/// A bin for what would be lost on one side: each goes there under a name that says when (WinSCP's recycle bin).
#[derive(Clone, Debug)]
pub struct Recycle {
    /// On which side it is.
    pub side: Side,
    /// The directory, which is there. Inside of the tree it takes no part.
    pub bin: VPath,
    /// Files that are removed go there; directories do not, once they are empty.
    pub removed: bool,
    /// Files that are replaced go there.
    pub replaced: bool,
}

/// How two trees are made alike.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    /// Where things go.
    pub direction: Direction,
    /// What makes a difference.
    pub criteria: Criteria,
    /// What the source does not have is removed from the target.
    pub delete: bool,
    /// What is newer at the target is replaced, too.
    pub mirror: bool,
    /// Nothing new is made.
    pub existing_only: bool,
    /// What takes part.
    pub mask: FileMask,
    /// What of that takes no part, after a filter file.
    pub filter: Option<Filter>,
    /// Names that differ only in case.
    pub case: CaseRule,
    /// How much may be removed.
    pub max_delete: MaxDelete,
    /// A name that must stand directly below both roots, so that a place that is not mounted, or the wrong one, is not
    /// taken for one that is empty.
    pub marker: Option<String>,
    /// Where what is replaced or removed goes: a directory on the side that changes, best outside of the
    /// tree (inside of it, it takes no part). One-way only.
    pub backup_dir: Option<VPath>,
    /// A bin for what is replaced or removed on one of the sides.
    pub recycle: Option<Recycle>,
    /// Seconds to be added to the right side's times.
    pub shift: i64,
    /// Times that differ by exactly one hour are the same where sizes are.
    pub ignore_hour: bool,
    /// A tree that is missing on one side is compared by its top directory alone, as WinSCP shows it; for
    /// reading; [`expand`] looks below it.
    pub collapse: bool,
    /// The root of the target may be missing and is made.
    pub make_root: bool,
    /// What both sides had in common after the last run: both ways, what was removed on one side since is
    /// removed from the other, and what has changed on both is a conflict.
    pub base: Option<Arc<Base>>,
    /// What is done about conflicts, where there is a base.
    pub conflict: Conflict,
    /// What was moved on the side that is followed is renamed on the other. It counts among what may be removed.
    pub renames: Renames,
    /// Only this part of both trees is compared, and what is on the way to it; all where nothing is said.
    pub within: Option<Arc<Within>>,
    /// How files are copied. Times are kept wherever time is a criterion.
    pub transfer: TransferOptions,
}

impl Default for SyncOptions {
    fn default() -> Self {
        SyncOptions {
            direction: Direction::To(Side::Right),
            criteria: Criteria::TIME,
            delete: false,
            mirror: false,
            existing_only: false,
            mask: FileMask::all(),
            filter: None,
            case: CaseRule::Auto,
            max_delete: MaxDelete::Guarded,
            marker: None,
            backup_dir: None,
            recycle: None,
            shift: 0,
            ignore_hour: false,
            collapse: false,
            make_root: false,
            base: None,
            conflict: Conflict::Skip,
            renames: Renames::Off,
            within: None,
            transfer: TransferOptions::default(),
        }
    }
}

impl SyncOptions {
    /// Refuses what cannot be meant. Errors: `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        let both = self.direction == Direction::Both;
        let bad = if both && self.delete {
            "both ways nothing is removed: what is missing on one side may be new on the other"
        } else if both && self.mirror {
            "a mirror has one direction"
        } else if both && self.criteria != Criteria::TIME {
            "both ways only the time tells which one is newer"
        } else if both && self.backup_dir.is_some() {
            "a backup directory is on the side that changes, and both do"
        } else if !both && self.base.is_some() {
            "a base is for both ways"
        } else if self.base.is_some() && (self.existing_only || self.collapse) {
            "with a base, every entry of both sides takes part"
        } else if self.base.is_some() && self.within.is_some() {
            "a base is of the whole"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidArgument).with_detail(bad))
    }
}

/// The directories above a path below a root, the root among them.
pub(crate) fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let cuts = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    (!path.is_empty()).then_some(0).into_iter().chain(cuts).filter_map(|at| path.get(..at))
}

/// A directory in a filesystem.
#[derive(Clone)]
pub struct Root {
    /// The filesystem.
    pub fs: SessionFs,
    /// The directory.
    pub path: VPath,
}

/// The two sides.
#[derive(Clone)]
pub struct Sides {
    /// The first place.
    pub left: Root,
    /// The second place.
    pub right: Root,
}

impl Sides {
    /// Two places.
    pub fn new(left: (SessionFs, VPath), right: (SessionFs, VPath)) -> Self {
        let root = |(fs, path)| Root { fs, path };
        Sides { left: root(left), right: root(right) }
    }

    /// One of them.
    pub fn get(&self, side: Side) -> &Root {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }
}
