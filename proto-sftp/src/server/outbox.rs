//! Replies on their way out, joined into few large pieces.
//!
//! Small replies are written one after the other into one buffer. The buffer of a READ is cut from the
//! same memory right behind them ([`Outbox::room`]), so that content read into it joins what stands
//! before it without being copied; a buffer that comes back late or out of place goes out as a piece of
//! its own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The size at which a piece goes out on its own.
pub const PIECE: usize = 256 * 1024;
/// Up to this, copying is cheaper than another piece.
const SMALL: usize = 16 * 1024;
/// The memory that a quiet session begins with.
const FIRST: usize = 64 * 1024;

/// Bytes to be sent, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    full: VecDeque<Bytes>,
    open: BytesMut,
    spare: BytesMut,
    len: usize,
    step: usize,
}

impl Outbox {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes a reply.
    pub fn write(&mut self, f: impl FnOnce(&mut BytesMut)) {
        let had = self.open.len();
        self.reclaim();
        f(&mut self.open);
        self.len += self.open.len() - had;
        self.cut_if_large();
    }

    /// An empty buffer with room for `size` bytes, right behind what was written where there is room.
    pub fn room(&mut self, size: usize) -> BytesMut {
        self.reclaim();
        let used = self.open.len();
        let mut room = if self.open.capacity() >= used + size {
            self.open.split_off(used)
        } else if self.spare.capacity() >= size {
            // An earlier buffer is still away.
            std::mem::take(&mut self.spare)
        } else {
            // Grows with use, so that a session that reads a little holds a little.
            self.step = (self.step * 2).clamp(FIRST, PIECE + SMALL);
            BytesMut::with_capacity(size.max(self.step))
        };
        if room.capacity() > size {
            self.spare = room.split_off(size);
        }
        room
    }

    /// Gives memory back; for a session that has nothing to do.
    pub fn relax(&mut self) {
        if self.len == 0 {
            *self = Outbox::default();
        }
    }

    /// Adds a finished packet, written into a buffer from [`Outbox::room`] or any other.
    pub fn push(&mut self, packet: BytesMut) {
        if packet.is_empty() {
            return;
        }
        self.len += packet.len();
        let behind = self.open.as_ptr().wrapping_add(self.open.len()) == packet.as_ptr();
        if self.open.is_empty() || (behind && self.open.capacity() == self.open.len()) {
            if self.open.is_empty() {
                self.open = packet;
            } else {
                self.open.unsplit(packet);
            }
        } else if packet.len() <= SMALL {
            self.reclaim();
            self.open.extend_from_slice(&packet);
        } else {
            self.cut();
            self.open = packet;
        }
        self.cut_if_large();
    }

    /// The next piece to send.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.full.is_empty() {
            self.cut();
        }
        let piece = self.full.pop_front()?;
        self.len -= piece.len();
        Some(piece)
    }

    /// Gets back the room behind the last buffer, if that buffer came back full.
    fn reclaim(&mut self) {
        if self.spare.capacity() > 0
            && self.open.capacity() == self.open.len()
            && self.open.as_ptr().wrapping_add(self.open.len()) == self.spare.as_ptr()
        {
            self.open.unsplit(std::mem::take(&mut self.spare));
        }
    }

    fn cut_if_large(&mut self) {
        if self.open.len() >= PIECE {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if !self.open.is_empty() {
            self.full.push_back(self.open.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(outbox: &mut Outbox) -> Vec<Bytes> {
        std::iter::from_fn(|| outbox.take()).collect()
    }

    #[test]
    fn reads_join_what_stands_before_them_without_a_copy() {
        let mut outbox = Outbox { step: PIECE, ..Outbox::default() };
        let mut places = Vec::new();
        for _ in 0..7 {
            let mut room = outbox.room(32 * 1024 + 13);
            room.resize(32 * 1024 + 13, 7);
            places.push(room.as_ptr() as usize);
            outbox.push(room);
        }
        let pieces = all(&mut outbox);
        assert_eq!(pieces.len(), 1, "one piece");
        let start = pieces[0].as_ptr() as usize;
        for (i, place) in places.iter().enumerate() {
            assert_eq!(*place, start + i * (32 * 1024 + 13), "buffer {i} was sent where it was read");
        }
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_buffer_holds_no_more_than_it_was_asked_for() {
        let mut outbox = Outbox::default();
        let room = outbox.room(100);
        assert_eq!(room.capacity(), 100);
    }

    #[test]
    fn small_contents_share_a_piece_though_much_was_asked_for() {
        let mut outbox = Outbox::default();
        for _ in 0..20 {
            let mut room = outbox.room(255 * 1024);
            room.resize(4109, 1);
            outbox.push(room);
        }
        assert_eq!(all(&mut outbox).len(), 1);
    }

    #[test]
    fn a_quiet_outbox_holds_nothing() {
        let mut outbox = Outbox::default();
        let mut room = outbox.room(10);
        room.resize(10, 1);
        outbox.push(room);
        outbox.relax();
        assert_eq!(outbox.len(), 10, "not while something waits");
        outbox.take();
        outbox.relax();
        assert_eq!(outbox.open.capacity() + outbox.spare.capacity(), 0);
    }

    proptest! {
        /// Whatever the order in which buffers come back, each arrives whole and the count is right.
        #[test]
        fn nothing_is_lost_or_torn(steps in proptest::collection::vec((0u8..4, 1usize..70_000, any::<u8>()), 1..60)) {
            let mut outbox = Outbox::default();
            let mut late: Vec<(BytesMut, usize, u8)> = Vec::new();
            let mut want: Vec<(usize, u8)> = Vec::new();
            let mut got = Vec::new();
            let fill = |mut b: BytesMut, n: usize, v: u8| { b.resize(n, v); b };
            for (what, size, value) in steps {
                match what {
                    0 => { let n = size % 100 + 1; outbox.write(|b| b.resize(b.len() + n, value)); want.push((n, value)); }
                    1 => { let r = outbox.room(size); outbox.push(fill(r, size, value)); want.push((size, value)); }
                    // Comes back later, and shorter than it was asked for.
                    2 => { let r = outbox.room(size); late.push((r, size / 2 + 1, value)); }
                    _ => {
                        if let Some((r, n, v)) = late.pop() { outbox.push(fill(r, n, v)); want.push((n, v)); }
                        if value % 3 == 0 && let Some(p) = outbox.take() { got.extend_from_slice(&p); }
                    }
                }
            }
            for p in all(&mut outbox) { got.extend_from_slice(&p); }
            let want: Vec<u8> = want.iter().flat_map(|(n, v)| std::iter::repeat_n(*v, *n)).collect();
            prop_assert_eq!(outbox.len(), 0);
            prop_assert!(got == want, "{} bytes instead of {}", got.len(), want.len());
        }
    }
}
