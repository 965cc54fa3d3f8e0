//! The reference: what both sides are to hold after an undisturbed run, by the plainest reading of the rules.

use std::collections::BTreeMap;

use client::sync::{Direction, Side, SyncOptions};

/// An entry of the model: a directory has no content.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub content: Option<String>,
    pub seconds: u64,
}

pub type Tree = BTreeMap<String, Entry>;

/// Contents alone: what a run is to bring about.
pub fn contents(tree: &Tree) -> BTreeMap<String, Option<String>> {
    tree.iter().map(|(path, e)| (path.clone(), e.content.clone())).collect()
}

/// Whether two told times can be the same moment, less than two seconds apart: tried out by the quarter of
/// a second.
pub fn same_time(a: u64, a_step: u64, b: u64, b_step: u64) -> bool {
    if a.abs_diff(b) > a_step + b_step + 2 {
        return false;
    }
    let moments = |told: u64, step: u64| told * 4..told * 4 + if step > 1 { step * 4 } else { 1 };
    moments(a, a_step).any(|a| moments(b, b_step).any(|b| a.abs_diff(b) < 8))
}

pub struct Setting {
    pub options: SyncOptions,
    /// Seconds of a step, left and right; one second is a point.
    pub steps: (u64, u64),
    pub excluded: fn(&str, bool) -> bool,
}

/// What a name is, on the way from `source` to `target`, by the plainest reading of the rules.
pub fn wins(setting: &Setting, source: &Entry, target: &Entry, steps: (u64, u64)) -> bool {
    let o = &setting.options;
    let length = |e: &Entry| e.content.as_ref().map_or(0, String::len);
    if o.criteria.time && !same_time(source.seconds, steps.0, target.seconds, steps.1) {
        return source.seconds > target.seconds || o.mirror;
    }
    (o.criteria.size && length(source) != length(target))
        || (o.criteria.checksum && source.content != target.content)
}

/// What both sides hold after an undisturbed run.
pub fn expected(setting: &Setting, left: &Tree, right: &Tree) -> (Tree, Tree) {
    let mut out = (left.clone(), right.clone());
    let o = &setting.options;
    // A path takes part unless it or a directory above it is left out, or kinds differ on the way.
    let takes_part = |path: &str| {
        let mut at = path;
        loop {
            let kinds =
                (left.get(at).map(|e| e.content.is_none()), right.get(at).map(|e| e.content.is_none()));
            let clash = matches!(kinds, (Some(l), Some(r)) if l != r);
            if (setting.excluded)(at, kinds.0.or(kinds.1) == Some(true)) || clash {
                return false;
            }
            match at.rfind('/') {
                Some(cut) => at = &at[..cut],
                None => return true,
            }
        }
    };
    let paths: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for path in paths.iter().copied().filter(|p| takes_part(p)) {
        let (l, r) = (left.get(path), right.get(path));
        let both_files = |l: &Entry, r: &Entry| l.content.is_some() && r.content.is_some();
        match (o.direction, l, r) {
            (Direction::Both, Some(l), Some(r))
                if both_files(l, r) && !same_time(l.seconds, setting.steps.0, r.seconds, setting.steps.1) =>
            {
                let newer = if l.seconds > r.seconds { l } else { r };
                out.0.insert(path.clone(), newer.clone());
                out.1.insert(path.clone(), newer.clone());
            }
            (Direction::Both, Some(one), None) if !o.existing_only => {
                out.1.insert(path.clone(), one.clone());
            }
            (Direction::Both, None, Some(one)) if !o.existing_only => {
                out.0.insert(path.clone(), one.clone());
            }
            (Direction::To(Side::Right), Some(l), Some(r))
                if both_files(l, r) && wins(setting, l, r, setting.steps) =>
            {
                out.1.insert(path.clone(), l.clone());
            }
            (Direction::To(Side::Left), Some(l), Some(r))
                if both_files(l, r) && wins(setting, r, l, (setting.steps.1, setting.steps.0)) =>
            {
                out.0.insert(path.clone(), r.clone());
            }
            (Direction::To(Side::Right), Some(one), None) if !o.existing_only => {
                out.1.insert(path.clone(), one.clone());
            }
            (Direction::To(Side::Left), None, Some(one)) if !o.existing_only => {
                out.0.insert(path.clone(), one.clone());
            }
            (Direction::To(Side::Right), None, Some(e)) if o.delete => {
                remove(&mut out.1, right, path, e, &takes_part)
            }
            (Direction::To(Side::Left), Some(e), None) if o.delete => {
                remove(&mut out.0, left, path, e, &takes_part)
            }
            _ => {}
        }
    }
    out
}

/// A directory goes only with all that is in it.
pub fn remove(out: &mut Tree, all: &Tree, path: &str, entry: &Entry, takes_part: &dyn Fn(&str) -> bool) {
    let inside = format!("{path}/");
    let whole = all.keys().filter(|p| p.starts_with(&inside)).all(|p| takes_part(p));
    if entry.content.is_some() || whole {
        out.remove(path);
    }
}
