//! Line ends of TYPE A (RFC 959, section 3.1.1.1): CR LF on the wire, LF at both ends.
//!
//! What comes out does not depend on how the bytes are cut into pieces. A CR that no LF follows stays, and a
//! LF that has its CR already gets no second one.

use bytes::BytesMut;

/// Towards the wire.
#[derive(Debug, Default)]
pub struct ToWire {
    after_cr: bool,
}

impl ToWire {
    /// LF becomes CR LF; one that has its CR keeps it.
    pub fn change(&mut self, piece: &[u8]) -> BytesMut {
        let mut out = BytesMut::with_capacity(piece.len() + piece.len() / 16 + 16);
        for part in piece.split_inclusive(|b| *b == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(line) => {
                    out.extend_from_slice(line);
                    let has_cr = if line.is_empty() { self.after_cr } else { line.ends_with(b"\r") };
                    out.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
                    self.after_cr = false;
                }
                None => {
                    out.extend_from_slice(part);
                    self.after_cr = part.ends_with(b"\r");
                }
            }
        }
        out
    }
}

/// From the wire.
#[derive(Debug, Default)]
pub struct FromWire {
    held_cr: bool,
}

impl FromWire {
    /// Appends what `piece` holds: CR LF becomes LF, a CR alone stays. A CR at the end waits for what follows.
    pub fn change(&mut self, piece: &[u8], out: &mut BytesMut) {
        out.reserve(piece.len() + 1);
        for part in piece.split_inclusive(|b| *b == b'\r') {
            if std::mem::take(&mut self.held_cr) && part.first() != Some(&b'\n') {
                out.extend_from_slice(b"\r");
            }
            match part.strip_suffix(b"\r") {
                Some(line) => {
                    out.extend_from_slice(line);
                    self.held_cr = true;
                }
                None => out.extend_from_slice(part),
            }
        }
    }

    /// The end of input: whether a CR is still held, which then stands alone.
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.held_cr)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from_wire(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut change, mut out) = (FromWire::default(), BytesMut::new());
        for piece in pieces {
            change.change(piece, &mut out);
        }
        if change.end() {
            out.extend_from_slice(b"\r");
        }
        out.to_vec()
    }

    fn to_wire(pieces: &[&[u8]]) -> Vec<u8> {
        let mut change = ToWire::default();
        pieces.iter().flat_map(|p| change.change(p)).collect()
    }

    #[test]
    fn line_ends_are_changed_and_single_ones_stay() {
        assert_eq!(to_wire(&[b"a\nb\r\nc\r\n\n\rd"]), b"a\r\nb\r\nc\r\n\r\n\rd");
        assert_eq!(to_wire(&[b"a\r", b"\nb\r", b"c\n"]), b"a\r\nb\rc\r\n");
        assert_eq!(from_wire(&[b"a\r\nb\rc\r\r\n\n"]), b"a\nb\rc\r\n\n");
        assert_eq!(from_wire(&[b"a\r", b"", b"\nb\r", b"c\r"]), b"a\nb\rc\r");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..60),
            cut in 0usize..60,
        ) {
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(to_wire(&[a, b]), to_wire(&[&bytes]));
            prop_assert_eq!(from_wire(&[a, b]), from_wire(&[&bytes]));
        }

        #[test]
        fn text_survives_both_ways(text in "[a-z\n]{0,60}") {
            prop_assert_eq!(from_wire(&[&to_wire(&[text.as_bytes()])]), text.as_bytes());
        }
    }
}
