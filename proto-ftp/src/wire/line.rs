//! Lines from a stream: bounded, Telnet bytes removed (RFC 959, section 5.3; RFC 854).
//!
//! A line ends with LF; a CR before it goes with it. Telnet commands vanish wherever they stand (IP, DM
//! and the like, options with their byte, sub-negotiations); a doubled IAC is one byte 255. A line longer
//! than the bound is dropped to its end, in bounded memory, and reported once.
//!
//! Deliberately absent: what a line means, and when to stop reading.

use bytes::{Buf, Bytes, BytesMut};

const IAC: u8 = 255;
const SB: u8 = 250;
const SE: u8 = 240;
/// WILL, WONT, DO, DONT: an option follows.
const NEGOTIATES: std::ops::RangeInclusive<u8> = 251..=254;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telnet {
    Text,
    Iac,
    Option,
    Sub,
    SubIac,
}

/// What a stream holds next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its end.
    Text(Bytes),
    /// A line beyond the bound; its content is gone.
    TooLong,
}

/// Bytes in, lines out.
#[derive(Debug)]
pub struct Lines {
    clean: BytesMut,
    telnet: Telnet,
    max: usize,
    /// Bytes at the head that are known to hold no LF.
    searched: usize,
    /// The rest of a line that was too long is being dropped.
    dropping: bool,
}

impl Lines {
    /// Lines of at most `max` bytes, their end not counted.
    pub fn new(max: usize) -> Self {
        Lines { clean: BytesMut::new(), telnet: Telnet::Text, max, searched: 0, dropping: false }
    }

    /// Takes what arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.telnet == Telnet::Text && !bytes.contains(&IAC) {
            self.clean.extend_from_slice(bytes);
            return;
        }
        for &b in bytes {
            self.telnet = match (self.telnet, b) {
                (Telnet::Text, IAC) => Telnet::Iac,
                (Telnet::Text, _) => {
                    self.clean.extend_from_slice(&[b]);
                    Telnet::Text
                }
                (Telnet::Iac, IAC) => {
                    self.clean.extend_from_slice(&[IAC]);
                    Telnet::Text
                }
                (Telnet::Iac, SB) => Telnet::Sub,
                (Telnet::Iac, b) if NEGOTIATES.contains(&b) => Telnet::Option,
                (Telnet::Iac | Telnet::Option, _) => Telnet::Text,
                (Telnet::Sub, IAC) => Telnet::SubIac,
                (Telnet::SubIac, SE) => Telnet::Text,
                (Telnet::Sub | Telnet::SubIac, _) => Telnet::Sub,
            };
        }
    }

    /// The next line; `None` until there is more.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let fresh = self.clean.get(self.searched..).unwrap_or_default();
            let Some(end) = fresh.iter().position(|b| *b == b'\n').map(|at| at + self.searched) else {
                self.searched = self.clean.len();
                if self.dropping {
                    self.forget();
                } else if self.searched > self.max + 1 {
                    self.dropping = true;
                    self.forget();
                    return Some(Line::TooLong);
                }
                if self.clean.is_empty() {
                    // Nothing is kept for a client that is silent.
                    self.clean = BytesMut::new();
                }
                return None;
            };
            let mut line = self.clean.split_to(end);
            self.clean.advance(1);
            self.searched = 0;
            if std::mem::take(&mut self.dropping) {
                continue;
            }
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if line.len() > self.max {
                return Some(Line::TooLong);
            }
            return Some(Line::Text(line.freeze()));
        }
    }

    fn forget(&mut self) {
        self.clean.clear();
        self.searched = 0;
    }

    /// Whether a whole line waits whose first word, in any case, is `verb`.
    pub fn holds(&self, verb: &[u8]) -> bool {
        let whole = self.clean.iter().rposition(|b| *b == b'\n').unwrap_or(0);
        let lines = self.clean.get(..whole).unwrap_or_default().split(|b| *b == b'\n');
        lines.into_iter().any(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let word = line.split(|b| *b == b' ').next().unwrap_or_default();
            word.eq_ignore_ascii_case(verb)
        })
    }

    /// Whether the next line is whole and its first word, in any case, is `verb`, and its only one.
    pub fn begins_with(&self, verb: &[u8]) -> bool {
        let Some(end) = self.clean.iter().position(|b| *b == b'\n') else { return false };
        let line = self.clean.get(..end).unwrap_or_default();
        !self.dropping && line.strip_suffix(b"\r").unwrap_or(line).eq_ignore_ascii_case(verb)
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.clean.len()
    }

    /// Whether nothing waits, not even part of a line.
    pub fn is_empty(&self) -> bool {
        self.clean.is_empty() && !self.dropping
    }

    /// Throws away all that waits (RFC 4217, section 15.1: what was sent in the clear must not act later).
    pub fn discard(&mut self) {
        *self = Lines::new(self.max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<Line> {
        std::iter::from_fn(|| lines.next_line()).collect()
    }

    fn text(s: &[u8]) -> Line {
        Line::Text(Bytes::copy_from_slice(s))
    }

    #[test]
    fn telnet_bytes_vanish() {
        let mut lines = Lines::new(100);
        lines.receive(
            b"\xff\xf4\xff\xf2ABOR\r\nPWD\n\xff\xfb\x01CWD a\xff\xffb\r\n\xff\xfa\x18junk\xff\xf0QUIT\r\n",
        );
        assert_eq!(all(&mut lines), [text(b"ABOR"), text(b"PWD"), text(b"CWD a\xffb"), text(b"QUIT")]);
        assert!(lines.is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_costs_no_memory_and_is_reported_once() {
        let mut lines = Lines::new(16);
        let mut seen = Vec::new();
        for _ in 0..1024 {
            lines.receive(&[b'x'; 1024]);
            seen.extend(all(&mut lines));
            assert!(lines.len() <= 1024);
        }
        lines.receive(b"\r\nNOOP\r\n");
        seen.extend(all(&mut lines));
        assert_eq!(seen, [Line::TooLong, text(b"NOOP")]);
        lines.receive(b"0123456789abcdef\r\n0123456789abcdefg\r\n");
        assert_eq!(all(&mut lines), [text(b"0123456789abcdef"), Line::TooLong]);
    }

    #[test]
    fn a_verb_is_found_among_what_waits() {
        let mut lines = Lines::new(100);
        lines.receive(b"NOOP\r\nabor\r\nQUI");
        assert!(lines.holds(b"ABOR"));
        assert!(!lines.holds(b"QUIT") && !lines.holds(b"QUI") && !lines.holds(b"STAT"));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_arrive(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(255u8), Just(250), Just(240), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let mut whole = Lines::new(20);
            whole.receive(&bytes);
            let expected = all(&mut whole);
            let mut parts = Lines::new(20);
            let mut got = Vec::new();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut at = 0;
            for cut in cuts {
                parts.receive(&bytes[at..cut]);
                at = cut;
                got.extend(all(&mut parts));
            }
            prop_assert_eq!(got, expected);
        }
    }
}
