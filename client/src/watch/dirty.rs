//! Where something has changed since it was looked at last: a bounded set of directories.
//!
//! What is told of a path marks the directory that holds it; what came into being or was moved may be a tree
//! and is marked with all below it. Too many directories are all of them.

use std::collections::BTreeMap;

/// More directories than these are all.
const MOST: usize = 10_000;

/// See the module. Paths are below the root.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Dirty {
    all: bool,
    /// Whether with all below.
    dirs: BTreeMap<Box<[u8]>, bool>,
}

impl Dirty {
    /// Everything.
    pub(super) fn all() -> Self {
        Dirty { all: true, dirs: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.dirs.is_empty()
    }

    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    /// The directories, and whether with all below.
    pub(super) fn dirs(&self) -> &BTreeMap<Box<[u8]>, bool> {
        &self.dirs
    }

    /// An entry has changed, or went.
    pub(super) fn changed(&mut self, path: &[u8]) {
        let holder = path.iter().rposition(|b| *b == b'/').and_then(|cut| path.get(..cut));
        self.mark(holder.unwrap_or_default(), false);
    }

    /// An entry has come: it may be a tree.
    pub(super) fn came(&mut self, path: &[u8]) {
        self.changed(path);
        self.mark(path, true);
    }

    /// Anything may have changed.
    pub(super) fn everything(&mut self) {
        *self = Self::all();
    }

    fn mark(&mut self, dir: &[u8], deep: bool) {
        if self.all {
            return;
        }
        if let Some(known) = self.dirs.get_mut(dir) {
            *known |= deep;
        } else if self.dirs.len() >= MOST {
            self.everything();
        } else {
            self.dirs.insert(dir.into(), deep);
        }
    }

    /// What the other one has, too.
    pub(super) fn merge(&mut self, other: &Dirty) {
        if other.all {
            self.everything();
        }
        for (dir, deep) in &other.dirs {
            self.mark(dir, *deep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(dirty: &Dirty) -> String {
        let mut shown = Vec::new();
        for (dir, deep) in dirty.dirs() {
            shown.push(format!("{}{}", String::from_utf8_lossy(dir), if *deep { "/**" } else { "/" }));
        }
        if dirty.is_all() { "all".into() } else { shown.join(" ") }
    }

    #[test]
    fn what_holds_a_change_is_marked_and_trees_with_all_below() {
        let mut dirty = Dirty::default();
        assert!(dirty.is_empty());
        dirty.changed(b"a");
        dirty.changed(b"d/e/f");
        dirty.came(b"d/new");
        dirty.changed(b"d/new/x");
        assert_eq!(shown(&dirty), "/ d/ d/e/ d/new/**");
        let mut other = Dirty::default();
        other.came(b"d/e");
        other.merge(&dirty);
        assert_eq!(shown(&other), "/ d/ d/e/** d/new/**");
        other.merge(&Dirty::all());
        assert_eq!(shown(&other), "all");
        assert!(!other.is_empty() && other.is_all());
    }

    #[test]
    fn too_many_are_all() {
        let mut dirty = Dirty::default();
        for n in 0..MOST {
            dirty.changed(format!("{n}/x").as_bytes());
        }
        assert!(!dirty.is_all());
        dirty.changed(b"0/y");
        assert!(!dirty.is_all());
        dirty.changed(b"one more/x");
        assert!(dirty.is_all() && dirty.dirs().is_empty());
    }
}
