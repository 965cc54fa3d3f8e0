//! The journal of a run over differences: taken up after its process was killed, it goes on with its list.
//!
//! An operation is *begun* before it touches anything and *done* when it is over. What was done is not done again,
//! and looked at only where a base wants to know what both sides hold. What was begun may have been done without
//! anybody having noted it: where a side holds just what the operation would have left, it counts as done; else it is
//! checked and done like every other one, that is, left alone where a side is not what was compared. A conflict that
//! was asked about is asked about again unless it has been settled. Files are continued by the same journal, as the
//! batch does it.

use std::sync::Arc;

use session_core::error::Result;
use session_core::fs::Filesystem as _;
use session_core::path::VPath;

use super::Side;
use super::apply::{Runner, look, metadata};
use super::decide::{Action, Clocks, Facts, Newer};
use super::difference::Difference;
use crate::journal::{Entry, Journal, Key};

impl Runner {
    /// Keeps account of what is done, and leaves alone what was. For the same differences each time, with the base
    /// that they were found with. Before it applies; the first one stands.
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

    /// What both sides have in common after an operation that was done before, where the next run wants to know.
    /// What is not sure, and what cannot be looked at, the next run compares.
    pub(super) async fn in_common_since(&self, d: &Difference) -> Option<(Facts, Facts)> {
        let side = d.action.side();
        if self.options.base.is_none() || matches!(d.action, Action::Delete(_)) {
            return None;
        }
        if d.is_dir() {
            return d.facts(side.other()).map(|f| (f.clone(), f.clone()));
        }
        // Who was asked may have chosen either.
        let either = [side, side.other()];
        for target in either.iter().take(if d.conflict.is_some() { 2 } else { 1 }) {
            let Some(copied) = d.facts(target.other()).cloned() else { continue };
            if let Ok(Some(both)) = self.in_common(d, *target, copied).await {
                return Some(both);
            }
        }
        None
    }

    /// The side that got the other's file when a conflict was settled before this run.
    pub(super) async fn was_settled(&self, d: &Difference) -> Result<Option<Side>> {
        for side in [Side::Right, Side::Left] {
            let Some(source) = d.facts(side.other()) else { continue };
            if self.unchanged(d, side.other()).await.is_ok() && self.was_copied(d, side, source).await? {
                return Ok(Some(side));
            }
        }
        Ok(None)
    }

    /// Whether the target holds a copy of the source that it did not hold when the two were compared. What looked
    /// the same before it was copied tells nothing.
    pub(super) async fn was_copied(&self, d: &Difference, target: Side, source: &Facts) -> Result<bool> {
        let (from, to) = (d.place(target.other(), &self.sides)?, d.place(target, &self.sides)?);
        let text = self.is_text(target, &from, &to, source);
        let Some(now) = look(self.sides.get(target), &to).await? else { return Ok(false) };
        let was = d.facts(target).is_some_and(|was| self.is_copy(source, was, target, text));
        Ok(!was && self.is_copy(source, &now, target, text))
    }

    /// Whether what was to be renamed at the target has its new name already.
    pub(super) async fn was_renamed(&self, d: &Difference, old: &Difference, target: Side) -> Result<bool> {
        let root = self.sides.get(target);
        if look(root, &old.place(target, &self.sides)?).await?.is_some() {
            return Ok(false);
        }
        let Some(now) = look(root, &d.place(target, &self.sides)?).await? else { return Ok(false) };
        let same = |facts: &Facts| self.is_copy(facts, &now, target, false);
        // With its old time, or the one that it was to get.
        Ok(old.facts(target).is_some_and(same) || d.facts(target.other()).is_some_and(same))
    }

    /// Whether a file gets other ends of line when it is copied to `target`, so that its size tells nothing.
    pub(super) fn is_text(&self, target: Side, from: &VPath, to: &VPath, facts: &Facts) -> bool {
        self.batch(target).is_text(from, to, &metadata(facts))
    }

    /// Whether a file of a side looks like the copy of one of the other.
    pub(super) fn is_copy(&self, source: &Facts, copy: &Facts, target: Side, text: bool) -> bool {
        let step = |side| self.sides.get(side).fs.capabilities().mtime_granularity;
        let clocks = Clocks { left: step(target.other()), right: step(target), ..Clocks::default() };
        let newer = clocks.compare(source.modified, copy.modified, true);
        source.kind == copy.kind && (text || source.size == copy.size) && newer == Some(Newer::Same)
    }
}
