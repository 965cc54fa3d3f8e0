//! The part of two trees that is compared when it is known where something has changed.
//!
//! The way from the roots down to each part is compared, too, so that what takes no part, is spelled otherwise on
//! the other side, or is missing there is treated by the same rules as in a whole comparison; what stands
//! beside the way is left alone. What is bounded by a share of the whole is told how much that is.

use std::collections::{BTreeMap, HashSet};

use super::above;

/// Some directories of two trees, by their paths below the roots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Within {
    /// Directories to look into, and whether also below them.
    parts: BTreeMap<Box<[u8]>, bool>,
    /// Those above.
    way: HashSet<Box<[u8]>>,
    /// How many entries the whole of each side holds, as far as is known.
    pub(super) seen: (u64, u64),
    /// How many entries were removed lately from each side: they count with those that would be.
    pub(super) removed: (u64, u64),
}

impl Within {
    /// These directories; `true` for those that are compared with all that is below. `seen` are the entries
    /// of the whole on the left and on the right, `removed` those that were removed lately.
    pub fn new(
        parts: impl IntoIterator<Item = (Box<[u8]>, bool)>,
        seen: (u64, u64),
        removed: (u64, u64),
    ) -> Self {
        let parts: BTreeMap<Box<[u8]>, bool> = parts.into_iter().collect();
        let way = parts.keys().flat_map(|path| above(path)).map(Box::from).collect();
        Within { parts, way, seen, removed }
    }

    /// Whether what is in a directory that is on both sides is synchronised, and not only what leads further.
    pub(super) fn heeds(&self, path: &[u8]) -> bool {
        self.parts.contains_key(path) || above(path).any(|dir| self.parts.get(dir) == Some(&true))
    }

    /// Whether an entry is a part or leads to one.
    pub(super) fn leads(&self, path: &[u8]) -> bool {
        self.way.contains(path) || self.parts.contains_key(path)
    }

    /// Whether a directory is looked into that is on both sides.
    pub(super) fn enters(&self, path: &[u8]) -> bool {
        self.way.contains(path) || self.heeds(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_down_is_entered_and_what_is_beside_it_is_not() {
        let part = |path: &[u8], deep| (Box::from(path), deep);
        let within = Within::new([part(b"a/b", false), part(b"c", true)], (0, 0), (0, 0));
        for (path, wanted) in [
            ("", true),
            ("a", true),
            ("a/b", true),
            ("a/b/c", false),
            ("a/x", false),
            ("ab", false),
            ("c", true),
            ("c/d/e", true),
            ("cd", false),
        ] {
            assert_eq!(within.enters(path.as_bytes()), wanted, "{path}");
        }
        assert!(within.heeds(b"a/b") && within.heeds(b"c/d") && !within.heeds(b"a") && !within.heeds(b""));
        assert!(within.leads(b"a") && within.leads(b"a/b") && !within.leads(b"a/x") && !within.leads(b"c/d"));
        assert!(Within::new([part(b"", true)], (0, 0), (0, 0)).enters(b"x/y"));
    }
}
