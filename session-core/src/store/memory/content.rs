//! The content of a file in memory, sparse: what was never written costs nothing.
//!
//! Chunks of 64 KiB by number; a chunk is as long as what was written into it. What lies between is zero.

use std::collections::BTreeMap;

use bytes::BytesMut;

const CHUNK: u64 = 64 * 1024;

/// The bytes of one file.
#[derive(Clone, Default)]
pub(super) struct Content {
    size: u64,
    chunks: BTreeMap<u64, Vec<u8>>,
}

/// The chunk of a position, and the place in it.
fn split(at: u64) -> (u64, usize) {
    (at / CHUNK, (at % CHUNK) as usize)
}

/// How far the pieces of `start..end` reach: for each chunk its number and the range within it.
fn pieces(start: u64, end: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (number, from) = split(at);
        let n = (CHUNK - from as u64).min(end - at);
        at += n;
        Some((number, from, from + n as usize))
    })
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that are really kept.
    pub(super) fn used(&self) -> u64 {
        self.chunks.values().map(|c| c.len() as u64).sum()
    }

    /// By how much `used` grows when `len` bytes are written at `offset`. The end must not overflow.
    pub(super) fn growth(&self, offset: u64, len: usize) -> u64 {
        pieces(offset, offset + len as u64)
            .map(|(number, _, to)| to.saturating_sub(self.chunks.get(&number).map_or(0, Vec::len)) as u64)
            .sum()
    }

    /// Writes `data` at `offset`. The end must not overflow.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        let mut left = data;
        for (number, from, to) in pieces(offset, end) {
            let (head, tail) = left.split_at_checked(to - from).unwrap_or((left, &[]));
            let chunk = self.chunks.entry(number).or_default();
            if chunk.len() < to {
                chunk.resize(to, 0);
            }
            if let Some(place) = chunk.get_mut(from..to) {
                place.copy_from_slice(head);
            }
            left = tail;
        }
        if !data.is_empty() {
            self.size = self.size.max(end);
        }
    }

    /// Appends what lies at `offset`, at most `len` bytes, to `out`.
    pub(super) fn read(&self, offset: u64, len: usize, out: &mut BytesMut) {
        let end = offset.saturating_add(len as u64).min(self.size);
        for (number, from, to) in pieces(offset, end) {
            let start = out.len();
            if let Some(chunk) = self.chunks.get(&number) {
                out.extend_from_slice(chunk.get(from..to.min(chunk.len())).unwrap_or_default());
            }
            out.resize(start + (to - from), 0);
        }
    }

    /// Cuts or extends with zeros.
    pub(super) fn resize(&mut self, size: u64) {
        if size < self.size {
            let (number, within) = split(size);
            self.chunks.split_off(&(number + u64::from(within > 0)));
            if within > 0
                && let Some(chunk) = self.chunks.get_mut(&number)
            {
                chunk.truncate(within);
            }
        }
        self.size = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(content: &Content) -> Vec<u8> {
        let mut out = BytesMut::new();
        content.read(0, usize::MAX, &mut out);
        out.to_vec()
    }

    #[test]
    fn a_hole_costs_nothing() {
        let mut content = Content::default();
        content.write(5 << 30, b"end");
        assert_eq!(content.size(), (5 << 30) + 3);
        assert!(content.used() <= CHUNK);
        let mut out = BytesMut::new();
        content.read((5 << 30) - 2, 100, &mut out);
        assert_eq!(&out[..], b"\0\0end");
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector(steps in proptest::collection::vec(
            (any::<bool>(), 0u64..200_000, proptest::collection::vec(any::<u8>(), 0..300)), 1..20)) {
            let (mut content, mut model) = (Content::default(), Vec::<u8>::new());
            for (write, at, data) in steps {
                if write {
                    let before = content.used();
                    let growth = content.growth(at, data.len());
                    content.write(at, &data);
                    prop_assert_eq!(content.used(), before + growth);
                    if !data.is_empty() {
                        let end = at as usize + data.len();
                        model.resize(model.len().max(end), 0);
                        model[at as usize..end].copy_from_slice(&data);
                    }
                } else {
                    content.resize(at);
                    model.resize(at as usize, 0);
                }
                prop_assert_eq!(content.size(), model.len() as u64);
            }
            prop_assert_eq!(all(&content), model);
        }
    }
}
