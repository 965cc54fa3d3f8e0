//! The alphabet of the wire: integers, strings, frames (draft section 3 and RFC 4251 section 5).
//!
//! [`Frames`] cuts a stream of chunks into packets: a packet that lies within one chunk is a slice of
//! it, one that spans chunks is joined by one copy into a buffer of its announced length. [`Reader`]
//! takes a packet apart; [`Frame`] puts one together.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use session_core::error::{Error, ErrorKind};

/// The longest packet accepted, without its length field: 256 KiB of data and room for the header, as
/// OpenSSH's.
pub const MAX_FRAME: usize = 256 * 1024 + 1024;

/// What a peer sent is no SFTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The request it belongs to, where that could still be read. Without one the connection is lost.
    pub id: Option<u32>,
    /// What is wrong.
    pub what: &'static str,
}

impl Malformed {
    /// A fault in a packet whose request is not known (yet).
    pub fn new(what: &'static str) -> Self {
        Malformed { id: None, what }
    }

    /// The same fault, in the packet of request `id`.
    pub fn of(self, id: u32) -> Self {
        Malformed { id: Some(id), ..self }
    }
}

impl From<Malformed> for Error {
    fn from(m: Malformed) -> Error {
        Error::new(ErrorKind::PeerMisbehaved).with_detail(m.what)
    }
}

/// Takes one packet apart. Strings are slices of it.
#[derive(Clone, Debug)]
pub struct Reader(Bytes);

const SHORT: Malformed = Malformed { id: None, what: "the packet ends in the middle of a field" };

impl Reader {
    /// Reads from `frame`.
    pub fn new(frame: Bytes) -> Self {
        Reader(frame)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    /// A 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    /// A 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| SHORT)
    }

    /// A string: bytes with their length in front.
    pub fn string(&mut self) -> Result<Bytes, Malformed> {
        let len = self.u32()? as usize;
        if len > self.0.len() {
            return Err(Malformed::new("a string is longer than its packet"));
        }
        Ok(self.0.split_to(len))
    }

    /// All that is left.
    pub fn rest(self) -> Bytes {
        self.0
    }
}

/// Appends a string. What is longer than a length field can say is cut; frames are far shorter.
pub fn put_string(out: &mut BytesMut, s: &[u8]) {
    let len = u32::try_from(s.len()).unwrap_or(u32::MAX);
    out.put_u32(len);
    out.put_slice(s.get(..len as usize).unwrap_or(s));
}

/// A packet being written at the end of a buffer; [`Frame::end`] fills in its length.
#[must_use = "a frame without its length is no packet"]
pub struct Frame<'a> {
    out: &'a mut BytesMut,
    start: usize,
}

impl<'a> Frame<'a> {
    /// Begins a packet of this type.
    pub fn begin(out: &'a mut BytesMut, kind: u8) -> Self {
        let start = out.len();
        out.put_u32(0);
        out.put_u8(kind);
        Frame { out, start }
    }

    /// Appends one byte.
    pub fn u8(self, v: u8) -> Self {
        self.out.put_u8(v);
        self
    }

    /// Appends a 32-bit number.
    pub fn u32(self, v: u32) -> Self {
        self.out.put_u32(v);
        self
    }

    /// Appends a 64-bit number.
    pub fn u64(self, v: u64) -> Self {
        self.out.put_u64(v);
        self
    }

    /// Appends a string.
    pub fn string(self, s: &[u8]) -> Self {
        put_string(self.out, s);
        self
    }

    /// Appends bytes as they are.
    pub fn raw(self, s: &[u8]) -> Self {
        self.out.put_slice(s);
        self
    }

    /// Appends what `f` writes.
    pub fn with(self, f: impl FnOnce(&mut BytesMut)) -> Self {
        f(self.out);
        self
    }

    /// Ends the packet.
    pub fn end(self) {
        self.end_before(0);
    }

    /// Ends a packet whose last `more` bytes are sent separately.
    pub fn end_before(self, more: usize) {
        let len = (self.out.len() - self.start - 4).saturating_add(more);
        let len = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.out.get_mut(self.start..self.start + 4) {
            place.copy_from_slice(&len);
        }
    }
}

/// Cuts a stream into packets.
///
/// After an error the stream has lost its frame and nothing more comes out of it.
#[derive(Debug)]
pub struct Frames {
    max: usize,
    chunks: VecDeque<Bytes>,
    buffered: usize,
    head: [u8; 4],
    head_len: usize,
    joined: Option<(usize, BytesMut)>,
    failed: Option<Malformed>,
}

impl Default for Frames {
    fn default() -> Self {
        Frames::new(MAX_FRAME)
    }
}

impl Frames {
    /// Cuts packets of at most `max` bytes, the length field not counted.
    pub fn new(max: usize) -> Self {
        Frames {
            max,
            chunks: VecDeque::new(),
            buffered: 0,
            head: [0; 4],
            head_len: 0,
            joined: None,
            failed: None,
        }
    }

    /// Adds what arrived.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && self.failed.is_none() {
            self.buffered += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes that arrived and are not part of a packet given out.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// The next whole packet, without its length field.
    ///
    /// Errors: a length of zero or above the maximum; then for good.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, Malformed> {
        if let Some(e) = self.failed {
            return Err(e);
        }
        loop {
            let Some(front) = self.chunks.front_mut() else { return Ok(None) };
            if front.is_empty() {
                self.chunks.pop_front();
                continue;
            }
            if let Some((want, joined)) = &mut self.joined {
                let part = front.split_to(front.len().min(*want - joined.len()));
                joined.extend_from_slice(&part);
                if joined.len() == *want {
                    self.buffered -= *want;
                    return Ok(self.joined.take().map(|(_, joined)| joined.freeze()));
                }
                continue;
            }
            let part = front.split_to(front.len().min(4 - self.head_len));
            for (place, byte) in self.head.iter_mut().skip(self.head_len).zip(part.iter()) {
                *place = *byte;
            }
            self.head_len += part.len();
            if self.head_len < 4 {
                continue;
            }
            self.head_len = 0;
            let len = u32::from_be_bytes(self.head) as usize;
            if len == 0 {
                return Err(self.fail("a packet of length 0"));
            }
            if len > self.max {
                return Err(self.fail("a packet longer than the limit"));
            }
            self.buffered -= 4;
            if front.len() >= len {
                self.buffered -= len;
                return Ok(Some(front.split_to(len)));
            }
            self.joined = Some((len, BytesMut::with_capacity(len)));
        }
    }

    fn fail(&mut self, what: &'static str) -> Malformed {
        let e = Malformed::new(what);
        self.failed = Some(e);
        self.chunks.clear();
        self.buffered = 0;
        e
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_within_a_chunk_is_a_slice_of_it() {
        let chunk = Bytes::from_static(b"\0\0\0\x02ab\0\0\0\x01c");
        let mut frames = Frames::default();
        frames.push(chunk.clone());
        let first = frames.next_frame().unwrap().unwrap();
        assert_eq!(first, &b"ab"[..]);
        assert_eq!(first.as_ptr(), chunk[4..].as_ptr());
        assert_eq!(frames.next_frame().unwrap().unwrap(), &b"c"[..]);
        assert_eq!(frames.next_frame().unwrap(), None);
        assert_eq!(frames.buffered(), 0);
    }

    #[test]
    fn zero_and_too_long_end_the_stream() {
        for head in [&b"\0\0\0\0"[..], b"\0\0\0\x09", b"\xff\xff\xff\xff"] {
            let mut frames = Frames::new(8);
            frames.push(Bytes::copy_from_slice(head));
            assert!(frames.next_frame().is_err());
            frames.push(Bytes::from_static(b"\0\0\0\x01a"));
            assert!(frames.next_frame().is_err(), "the stream stays lost");
            assert_eq!(frames.buffered(), 0);
        }
    }

    proptest! {
        #[test]
        fn frames_survive_any_splitting(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in proptest::collection::vec(0usize..12, 0..200),
        ) {
            let mut stream = Vec::new();
            for p in &packets {
                stream.extend_from_slice(&(p.len() as u32).to_be_bytes());
                stream.extend_from_slice(p);
            }
            let mut frames = Frames::default();
            let mut out = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                frames.push(Bytes::copy_from_slice(now));
                rest = later;
                while let Some(f) = frames.next_frame().unwrap() { out.push(f.to_vec()); }
            }
            frames.push(Bytes::copy_from_slice(rest));
            while let Some(f) = frames.next_frame().unwrap() { out.push(f.to_vec()); }
            prop_assert_eq!(out, packets);
            prop_assert_eq!(frames.buffered(), 0);
        }
    }
}
