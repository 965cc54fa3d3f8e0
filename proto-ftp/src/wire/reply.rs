//! Replies: a code and lines of text (RFC 959, section 4.2), as a server writes them.
//!
//! No text can break out of its reply: CR, LF and NUL become spaces, a byte 255 is doubled as Telnet asks.
//! How a client reads replies is `reply_parser.rs`'s.

use bytes::{BufMut, Bytes, BytesMut};

/// A reply: one line, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 100 to 599 (631–633 of RFC 2228 are not used).
    pub code: u16,
    /// The lines; a reply without one has an empty line.
    pub lines: Vec<Bytes>,
}

impl Reply {
    /// A reply of one line.
    pub fn new(code: u16, text: impl Into<Bytes>) -> Self {
        Reply { code, lines: vec![text.into()] }
    }

    /// A reply of several lines: the first and the last stand beside the code, those between are indented
    /// by a space.
    pub fn lines(code: u16, lines: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        Reply { code, lines: lines.into_iter().map(Into::into).collect() }
    }

    /// Writes it.
    pub fn encode(&self, out: &mut BytesMut) {
        let Some((last, before)) = self.lines.split_last() else {
            head(out, self.code, b' ');
            out.put_slice(b"\r\n");
            return;
        };
        for (n, line) in before.iter().enumerate() {
            if n == 0 {
                head(out, self.code, b'-');
            } else {
                out.put_u8(b' ');
            }
            text(out, line);
        }
        head(out, self.code, b' ');
        text(out, last);
    }
}

fn head(out: &mut BytesMut, code: u16, then: u8) {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.put_slice(&[digit(code / 100), digit(code / 10), digit(code), then]);
}

fn text(out: &mut BytesMut, line: &[u8]) {
    out.reserve(line.len() + 2);
    for &b in line {
        match b {
            b'\r' | b'\n' | 0 => out.put_u8(b' '),
            255 => out.put_slice(&[255, 255]),
            b => out.put_u8(b),
        }
    }
    out.put_slice(b"\r\n");
}

/// A path as 257 shows it: in quotes, quotes within doubled (RFC 959, appendix II).
pub fn quoted(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 2);
    out.push(b'"');
    for &b in path {
        if b == b'"' {
            out.push(b'"');
        }
        out.push(b);
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply) -> Vec<u8> {
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        out.to_vec()
    }

    #[test]
    fn one_line_and_several() {
        assert_eq!(encoded(&Reply::new(200, "ok")), b"200 ok\r\n");
        let feat = Reply::lines(211, ["Features:", "UTF8", "End"]);
        assert_eq!(encoded(&feat), b"211-Features:\r\n UTF8\r\n211 End\r\n");
        assert_eq!(encoded(&Reply { code: 200, lines: vec![] }), b"200 \r\n");
    }

    #[test]
    fn no_name_can_forge_a_reply() {
        let reply = Reply::new(250, &b"a\r\n230 Logged in\0\xff"[..]);
        assert_eq!(encoded(&reply), b"250 a  230 Logged in \xff\xff\r\n");
        assert_eq!(quoted(b"/a\"b"), b"\"/a\"\"b\"");
    }
}
