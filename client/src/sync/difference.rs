//! What a comparison finds.

use session_core::error::{Error, ErrorKind, Result};
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::base::{Base, Conflict};
use super::decide::{Action, Facts};
use super::{MaxDelete, Root, Side, Sides, Within};

/// One name about which something is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Below the left root: segments with slashes between; empty for the root itself.
    pub(super) path: Box<[u8]>,
    /// Below the right root, where it is spelled differently there.
    pub(super) right_path: Option<Box<[u8]>>,
    /// What is to be done.
    pub action: Action,
    /// What the left side holds.
    pub left: Option<Facts>,
    /// What the right side holds.
    pub right: Option<Facts>,
    /// A whole tree stands behind it: the comparison did not look below ([`super::SyncOptions::collapse`]).
    pub tree: bool,
    /// Both sides have changed, and this is how that is settled.
    pub conflict: Option<Conflict>,
    /// Of a new file: it is on the side that changes already, where it is to be removed, and is renamed.
    pub moved: Option<Box<Difference>>,
}

impl Difference {
    /// The path below the root of a side, without a slash at either end.
    pub fn path(&self, side: Side) -> &[u8] {
        match (side, &self.right_path) {
            (Side::Right, Some(path)) => path,
            _ => &self.path,
        }
    }

    /// What a side holds.
    pub fn facts(&self, side: Side) -> Option<&Facts> {
        match side {
            Side::Left => self.left.as_ref(),
            Side::Right => self.right.as_ref(),
        }
    }

    /// Whether it is about a directory.
    pub fn is_dir(&self) -> bool {
        self.left.as_ref().or(self.right.as_ref()).is_some_and(Facts::is_dir)
    }

    /// Bytes to be copied.
    pub fn bytes(&self) -> u64 {
        match self.action {
            _ if self.moved.is_some() => 0,
            Action::New(side) | Action::Update(side) => self.facts(side.other()).map_or(0, |f| f.size),
            Action::Delete(_) => 0,
        }
    }

    /// Where it is, or would be, on a side. Errors: `InvalidPath` where a path is too long there.
    pub fn place(&self, side: Side, sides: &Sides) -> Result<VPath> {
        below(sides.get(side), self.path(side))
    }

    /// Settles it the other way: what was to be copied is to be removed, what was to be removed is to be
    /// copied back, an update goes the other way. What was moved stays under both names then.
    pub fn reverse(&mut self) {
        self.moved = None;
        self.action = self.action.reverse();
    }

    /// How deep it lies below the root.
    pub(super) fn depth(&self) -> usize {
        if self.path.is_empty() { 0 } else { self.path.iter().filter(|b| **b == b'/').count() + 1 }
    }
}

pub(super) fn below(root: &Root, path: &[u8]) -> Result<VPath> {
    if path.is_empty() {
        return Ok(root.path.clone());
    }
    // Every segment was a checked name: there is no way up in it.
    VPath::parse(&root.path, path)
}

/// A name about which nothing is done although something would be to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Below the root of the side that holds it (the left one, where both do).
    pub path: Box<[u8]>,
    /// Why.
    pub why: &'static str,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// What is to be done, by path, a directory before what is in it.
    pub items: Vec<Difference>,
    /// What is left alone and why, by path.
    pub notes: Vec<Note>,
    /// What could not be compared: listings that failed. Nothing is removed then.
    pub failures: Vec<Error>,
    /// How many entries were seen on the left and on the right, taking part or not.
    pub seen: (u64, u64),
    /// What both sides have in common already, where the options have a base.
    pub base: Option<Base>,
}

impl Differences {
    /// Whether every listing was complete.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// Takes out what may not be removed: everything after a failure, and all of one side where that is
    /// more than is allowed there. Where only a part was compared, the whole is what shares are of, and what
    /// was removed lately counts, too.
    pub(super) fn guard(&mut self, max: MaxDelete, sides: &Sides, within: Option<&Within>) {
        for side in [Side::Left, Side::Right] {
            let moves = |d: &Difference| d.moved.is_some() && d.action.side() == side;
            let deletes = |d: &Difference| d.action == Action::Delete(side) || moves(d);
            let count = self.items.iter().filter(|d| deletes(d)).count() as u64;
            let of = |pair: (u64, u64)| if side == Side::Left { pair.0 } else { pair.1 };
            let whole = self.seen_on(side).max(within.map_or(0, |w| of(w.seen)));
            let lately = within.map_or(0, |w| of(w.removed));
            let allowed = max.allows(whole, self.seen_on(side.other()));
            let why = if count == 0 {
                continue;
            } else if !self.is_complete() {
                "nothing is removed after a failure"
            } else if count.saturating_add(lately) > allowed {
                let path = &sides.get(side).path;
                let more = if lately > 0 { format!(", {lately} were lately") } else { String::new() };
                self.failures.push(
                    Error::new(ErrorKind::Refused)
                        .with_detail(format!(
                            "{count} of {whole} entries would be removed{more}, {allowed} are allowed"
                        ))
                        .with_hint("look at the differences, then allow them with --max-delete")
                        .at(OperationKind::RemoveFile, Some(path)),
                );
                "more would be removed than is allowed"
            } else {
                continue;
            };
            let notes = &mut self.notes;
            self.items.retain_mut(|d| {
                // What would be renamed is copied, and stays where it was, too.
                let old = if moves(d) { d.moved.take() } else { None };
                let gone = old.as_deref().or(deletes(d).then_some(&*d));
                if let Some(gone) = gone {
                    notes.push(Note { path: gone.path(side).into(), why });
                }
                old.is_some() || !deletes(d)
            });
        }
    }

    /// How many entries were seen on a side.
    pub fn seen_on(&self, side: Side) -> u64 {
        match side {
            Side::Left => self.seen.0,
            Side::Right => self.seen.1,
        }
    }
}
