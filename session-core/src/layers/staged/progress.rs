//! What has arrived of an upload: the ranges that were written, and so how far it is whole.
//!
//! Writes are answered in any order, so the size of an unfinished upload may stand above a hole. A client
//! that resumes trusts the size that it is told; it is told the whole part from the start, never more.
//! Bounded: beyond [`MAX_RANGES`] holes the highest ranges are forgotten, which only makes a resume
//! begin earlier.

use std::ops::Range;

/// The most separate ranges remembered of one upload.
const MAX_RANGES: usize = 1024;

/// What has arrived.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Sorted, apart from each other, none empty.
    ranges: Vec<Range<u64>>,
    /// The end of the file.
    size: u64,
    /// Whether a client wrote, cut or set anything.
    pub(super) touched: bool,
    /// The disk was full once, or the quota.
    pub(super) lacked_room: bool,
    /// Mode or owner were set on purpose, so those of a replaced file are not taken over.
    pub(super) own_mode: bool,
}

impl Progress {
    /// A file that is whole up to `size`.
    pub(super) fn whole(size: u64) -> Self {
        let ranges = if size == 0 { Vec::new() } else { std::iter::once(0..size).collect() };
        Progress { ranges, size, ..Progress::default() }
    }

    /// `len` bytes arrived at `offset`.
    pub(super) fn wrote(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        self.touched = true;
        let mut new = offset..offset.saturating_add(len);
        self.size = self.size.max(new.end);
        let first = self.ranges.partition_point(|r| r.end < new.start);
        let last = self.ranges.partition_point(|r| r.start <= new.end);
        for r in self.ranges.get(first..last).unwrap_or_default() {
            new.start = new.start.min(r.start);
            new.end = new.end.max(r.end);
        }
        self.ranges.splice(first..last.max(first), [new]);
        self.ranges.truncate(MAX_RANGES);
    }

    /// The file was cut or extended to `size`; what an extension adds has not arrived.
    pub(super) fn resized(&mut self, size: u64) {
        self.touched = true;
        self.size = size;
        self.ranges.retain_mut(|r| {
            r.end = r.end.min(size);
            r.start < r.end
        });
    }

    /// The end of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How far the content is whole from its start.
    pub(super) fn arrived(&self) -> u64 {
        self.ranges.first().filter(|r| r.start == 0).map_or(0, |r| r.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hole_bounds_what_has_arrived() {
        let mut p = Progress::default();
        p.wrote(10, 10);
        assert_eq!((p.arrived(), p.size()), (0, 20));
        p.wrote(0, 5);
        assert_eq!(p.arrived(), 5);
        p.wrote(5, 5);
        assert_eq!(p.arrived(), 20);
        p.resized(30);
        assert_eq!((p.arrived(), p.size()), (20, 30));
        p.resized(7);
        assert_eq!((p.arrived(), p.size()), (7, 7));
    }

    proptest! {
        #[test]
        fn agrees_with_a_bitmap(ops in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..40)) {
            let mut p = Progress::default();
            let mut bits = [false; 100];
            let mut size = 0;
            for (write, at, len) in ops {
                if write {
                    p.wrote(at, len);
                    (at..at + len).for_each(|i| bits[i as usize] = true);
                    if len > 0 { size = size.max(at + len); }
                } else {
                    p.resized(at);
                    (at..100).for_each(|i| bits[i as usize] = false);
                    size = at;
                }
            }
            prop_assert_eq!(p.arrived(), bits.iter().position(|b| !b).unwrap() as u64);
            prop_assert_eq!(p.size(), size);
            prop_assert!(p.ranges.windows(2).all(|w| w[0].end < w[1].start));
        }
    }
}
