//! What a request touches, and which requests must wait for which.
//!
//! OpenSSH's server answers one request after the other, and clients rely on it: they send CLOSE and
//! RENAME in one segment. We run requests at once wherever nobody can tell the difference:
//!
//! - A request that changes names (close of a written handle, open that creates, rename, remove, mkdir,
//!   rmdir, attributes by path, links) waits for, and holds back, every request whose path is equal,
//!   above or below.
//! - FSETSTAT, fsync, READDIR and CLOSE are barriers on their handle.
//! - Overlapping writes keep their order; a read sees every earlier write of its handle and no later one.

use session_core::path::VPath;

/// What a request does with one handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Waits for everything before it on the handle, and holds back everything after it.
    Barrier,
    /// Reads this range.
    Read(u64, u64),
    /// Writes this range.
    Write(u64, u64),
}

impl Access {
    /// Reads `len` bytes from `offset`.
    pub fn read(offset: u64, len: u64) -> Self {
        Access::Read(offset, offset.saturating_add(len))
    }

    /// Writes `len` bytes at `offset`.
    pub fn write(offset: u64, len: u64) -> Self {
        Access::Write(offset, offset.saturating_add(len))
    }

    fn holds_back(self, later: Access) -> bool {
        match (self, later) {
            (Access::Barrier, _) | (_, Access::Barrier) => true,
            (Access::Read(..), Access::Read(..)) => false,
            // Also where they do not overlap: a write may move the end of file.
            (Access::Write(..), Access::Read(..)) => true,
            // Also behind the range: the hole up to it would turn the end of file into zeros.
            (Access::Read(start, _), Access::Write(_, end)) => start < end,
            (Access::Write(a, b), Access::Write(c, d)) => a < d && c < b,
        }
    }
}

/// All that a request touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Whether it changes names.
    pub changes: bool,
    /// The paths it is about.
    pub paths: Vec<VPath>,
    /// The handles it uses.
    pub handles: [Option<(u64, Access)>; 2],
}

impl Footprint {
    /// A request that looks at a path.
    pub fn looks_at(path: &VPath) -> Self {
        Footprint { paths: vec![path.clone()], ..Self::default() }
    }

    /// A request that changes names.
    pub fn changes(paths: &[&VPath]) -> Self {
        Footprint { changes: true, paths: paths.iter().map(|p| (*p).clone()).collect(), ..Self::default() }
    }

    /// A request on an open handle.
    pub fn uses(handle: u64, access: Access) -> Self {
        Footprint { handles: [Some((handle, access)), None], ..Self::default() }
    }

    /// Whether `later`, which arrived after this one, must wait for it.
    pub fn holds_back(&self, later: &Footprint) -> bool {
        let handles = self.handles.iter().flatten();
        if handles
            .clone()
            .any(|(h, a)| later.handles.iter().flatten().any(|(g, b)| h == g && a.holds_back(*b)))
        {
            return true;
        }
        (self.changes || later.changes)
            && self.paths.iter().any(|p| later.paths.iter().any(|q| related(p, q)))
    }
}

/// Whether one is equal to, above or below the other.
pub fn related(a: &VPath, b: &VPath) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &str) -> VPath {
        VPath::absolute(s).unwrap()
    }

    #[test]
    fn names_hold_back_what_is_equal_above_or_below() {
        let rename = Footprint::changes(&[&p("/d/a"), &p("/e")]);
        for (path, waits) in
            [("/d/a", true), ("/d", true), ("/d/a/x", true), ("/e/f", true), ("/d/b", false), ("/", true)]
        {
            assert_eq!(rename.holds_back(&Footprint::looks_at(&p(path))), waits, "{path}");
            assert_eq!(Footprint::looks_at(&p(path)).holds_back(&rename), waits, "{path}");
        }
        let stat = Footprint::looks_at(&p("/d"));
        assert!(!stat.holds_back(&stat), "two looks at one path run at once");
    }

    #[test]
    fn ranges_on_a_handle() {
        let on = |a| Footprint::uses(1, a);
        let w = |o, l| on(Access::write(o, l));
        let r = |o, l| on(Access::read(o, l));
        assert!(w(0, 10).holds_back(&w(5, 10)));
        assert!(!w(0, 10).holds_back(&w(10, 10)));
        assert!(w(100, 1).holds_back(&r(0, 10)), "the end of file may move");
        assert!(r(0, 10).holds_back(&w(5, 1)));
        assert!(r(0, 10).holds_back(&w(10, 1)), "a hole would turn the end of file into zeros");
        assert!(!r(10, 10).holds_back(&w(0, 10)));
        assert!(!r(0, 10).holds_back(&r(0, 10)));
        assert!(on(Access::Barrier).holds_back(&r(0, 1)) && r(0, 1).holds_back(&on(Access::Barrier)));
        assert!(!on(Access::Barrier).holds_back(&Footprint::uses(2, Access::Barrier)));
    }
}
