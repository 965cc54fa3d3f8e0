//! Replies as a client reads them: bytes in, replies out (RFC 959, section 4.2).
//!
//! A reply of several lines ends at a line that begins with its code and a space. The code and the dash
//! that some servers write before every line are taken off; other lines between are kept as they came, with
//! the space that stands before facts and features. Bounded: a line has at most 16 KiB, a reply 1 MiB.

use bytes::Bytes;

use super::line::{Line, Lines};
use super::reply::Reply;

/// The longest line.
pub const MAX_LINE: usize = 16 * 1024;
/// The longest reply, all its lines together.
pub const MAX_REPLY: usize = 1024 * 1024;

/// Why what a server sends is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A line that begins with no code.
    Code,
    /// A line or a reply beyond the bound.
    TooLong,
}

impl Malformed {
    /// What is wrong, in words.
    pub fn words(self) -> &'static str {
        match self {
            Malformed::Code => "the server's answer does not begin with a reply code",
            Malformed::TooLong => "the server's answer is longer than any answer should be",
        }
    }
}

/// Reads replies.
#[derive(Debug)]
pub struct ReplyParser {
    lines: Lines,
    open: Option<(u16, Vec<Bytes>)>,
    size: usize,
}

impl Default for ReplyParser {
    fn default() -> Self {
        ReplyParser { lines: Lines::new(MAX_LINE), open: None, size: 0 }
    }
}

/// The code at the head of a line, and what follows it.
fn code(line: &[u8]) -> Option<(u16, Option<u8>)> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    (100..700).contains(&code).then(|| (code, line.get(3).copied()))
}

impl ReplyParser {
    /// Takes what arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.lines.receive(bytes);
    }

    /// The next whole reply; `None` until there is more. After an error there is nothing more to ask.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, Malformed> {
        while let Some(line) = self.lines.next_line() {
            let Line::Text(line) = line else { return Err(Malformed::TooLong) };
            self.size += line.len() + 1;
            if self.size > MAX_REPLY {
                return Err(Malformed::TooLong);
            }
            let head = code(&line);
            let rest = line.slice(line.len().min(4)..);
            match (&mut self.open, head) {
                (None, Some((code, Some(b'-')))) => self.open = Some((code, vec![rest])),
                (None, Some((code, None | Some(b' ')))) => {
                    self.size = 0;
                    return Ok(Some(Reply { code, lines: vec![rest] }));
                }
                // An empty line between replies is noise.
                (None, _) if line.is_empty() => self.size = 0,
                (None, _) => return Err(Malformed::Code),
                (Some((open, lines)), Some((code, None | Some(b' ')))) if *open == code => {
                    lines.push(rest);
                    let lines = std::mem::take(lines);
                    self.open = None;
                    self.size = 0;
                    return Ok(Some(Reply { code, lines }));
                }
                (Some((open, lines)), Some((code, Some(b'-')))) if *open == code => lines.push(rest),
                (Some((_, lines)), _) => lines.push(line),
            }
        }
        Ok(None)
    }

    /// Whether nothing waits, not even part of a reply.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.lines.is_empty()
    }
}

/// Entry for fuzzing: any bytes, in chunks whose sizes come from the data itself.
pub fn fuzz(data: &[u8]) {
    let mut parser = ReplyParser::default();
    let mut rest = data;
    while let Some(first) = rest.first() {
        let (chunk, later) = rest.split_at(rest.len().min(1 + usize::from(*first)));
        parser.receive(chunk);
        rest = later;
        loop {
            match parser.next_reply() {
                Ok(Some(reply)) => assert!((100..700).contains(&reply.code) && !reply.lines.is_empty()),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    fn all(bytes: &[u8], step: usize) -> Vec<Reply> {
        let mut parser = ReplyParser::default();
        let mut out = Vec::new();
        for chunk in bytes.chunks(step) {
            parser.receive(chunk);
            while let Some(reply) = parser.next_reply().unwrap() {
                out.push(reply);
            }
        }
        assert!(parser.is_empty());
        out
    }

    #[test]
    fn replies_come_out_the_same_at_every_boundary() {
        let text = b"220-Hello\r\n 220 not the end\r\n220-still\r\n221 other\r\n\r\n220 End\r\n200 \r\n331\r\n211-F\n MLST a;\n211 E\n";
        let whole = all(text, text.len());
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0].code, 220);
        assert_eq!(whole[0].lines, ["Hello", " 220 not the end", "still", "221 other", "", "End"]);
        assert_eq!(whole[2], Reply::new(331, ""));
        assert_eq!(whole[3].lines, ["F", " MLST a;", "E"]);
        for step in 1..text.len() {
            assert_eq!(all(text, step), whole, "{step}");
        }
    }

    #[test]
    fn what_the_server_half_writes_is_read_back() {
        for reply in [
            Reply::new(200, "ok"),
            Reply::lines(211, ["Features:", "MLST type*;", "End"]),
            Reply::new(257, &b"\"/a\xff\" is here"[..]),
        ] {
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            let back = all(&out, 3).remove(0);
            assert_eq!(back.code, reply.code);
            assert_eq!(back.lines.first(), reply.lines.first());
            assert_eq!(back.lines.last(), reply.lines.last());
        }
    }

    #[test]
    fn nonsense_and_endless_answers_are_errors() {
        for bad in [&b"HTTP/1.1 400 Bad\r\n"[..], b"22\r\n", b"2200 x\r\n", b"099 x\r\n", b"SSH-2.0-x\r\n"] {
            let mut parser = ReplyParser::default();
            parser.receive(bad);
            assert_eq!(parser.next_reply(), Err(Malformed::Code), "{bad:?}");
        }
        let mut parser = ReplyParser::default();
        parser.receive(&[b'2'; MAX_LINE + 10]);
        assert_eq!(parser.next_reply(), Err(Malformed::TooLong));
        let mut parser = ReplyParser::default();
        parser.receive(b"211-begin\r\n");
        let ended = (0..2000).find_map(|_| {
            parser.receive(&[b'x'; 1000]);
            parser.receive(b"\r\n");
            parser.next_reply().err()
        });
        assert_eq!(ended, Some(Malformed::TooLong));
    }
}
