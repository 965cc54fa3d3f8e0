//! The journal of a run over differences: taken up after its process was killed, it goes on with its list.
//!
//! An operation is *begun* before it touches anything and *done* when it is over. What was done is not looked at
//! again. What was begun may have been done without anybody having noted it: where a side holds just what the
//! operation would have left, it counts as done; else it is checked and done like every other one, that is, left
//! alone where a side is not what was compared. Files are continued by the same journal, as the batch does it.

use std::sync::Arc;

use session_core::error::Result;
use session_core::fs::Filesystem as _;
use session_core::path::VPath;

use super::Side;
use super::apply::{Runner, look};
use super::decide::{Action, Clocks, Facts, Newer};
use super::difference::Difference;
use crate::journal::{Entry, Journal, Key};

impl Runner {
    /// Keeps account of what is done, and leaves alone what was. For the same differences each time, without
    /// conflicts and without a base. Before it applies; the first one stands.
    pub fn keep_journal(&self, journal: &Arc<Journal>) {
        for side in [Side::Left, Side::Right] {
            self.batch(side).keep_journal(Arc::clone(journal));
        }
        let _ = self.journal.set(Arc::clone(journal));
    }

    /// The journal's account of an operation.
    pub(super) fn entry(&self, d: &Difference) -> Option<Entry> {
        let journal = self.journal.get()?;
        let what = if d.moved.is_some() { "rename" } else { d.action.name() };
        let parts = [what, d.action.side().name()].map(str::as_bytes);
        let key = Key::of_parts(parts.into_iter().chain([d.path(Side::Left), d.path(Side::Right)]));
        Some(journal.entry(key, d.bytes()))
    }

    /// Counts what was done before as there.
    pub(super) fn was_done(&self, d: &Difference) {
        if !d.is_dir() && d.moved.is_none() && !matches!(d.action, Action::Delete(_)) {
            self.batch(d.action.side()).tracker().was_there(d.bytes());
        }
    }

    /// Whether the target holds a copy of the source that it did not hold when the two were compared. What looked
    /// the same before it was copied tells nothing.
    pub(super) async fn was_copied(
        &self,
        d: &Difference,
        target: Side,
        to: &VPath,
        source: &Facts,
    ) -> Result<bool> {
        let Some(now) = look(self.sides.get(target), to).await? else { return Ok(false) };
        let was = d.facts(target).is_some_and(|was| self.is_copy(source, was, target));
        Ok(!was && self.is_copy(source, &now, target))
    }

    /// Whether what was to be renamed at the target has its new name already.
    pub(super) async fn was_renamed(&self, d: &Difference, old: &Difference, target: Side) -> Result<bool> {
        let root = self.sides.get(target);
        if look(root, &old.place(target, &self.sides)?).await?.is_some() {
            return Ok(false);
        }
        let Some(now) = look(root, &d.place(target, &self.sides)?).await? else { return Ok(false) };
        let same = |facts: &Facts| self.is_copy(facts, &now, target);
        // With its old time, or the one that it was to get.
        Ok(old.facts(target).is_some_and(same) || d.facts(target.other()).is_some_and(same))
    }

    /// Whether a file of a side looks like the copy of one of the other.
    pub(super) fn is_copy(&self, source: &Facts, copy: &Facts, target: Side) -> bool {
        let step = |side| self.sides.get(side).fs.capabilities().mtime_granularity;
        let clocks = Clocks { left: step(target.other()), right: step(target), ..Clocks::default() };
        let newer = clocks.compare(source.modified, copy.modified, true);
        source.kind == copy.kind && source.size == copy.size && newer == Some(Newer::Same)
    }
}
