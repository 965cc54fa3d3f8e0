//! The frames of `aws-chunked` bodies (Signature Version 4, "Signature calculations for the authorization header:
//! transferring payload in multiple chunks", and "with trailing headers"), looked at on their way to the library
//! that verifies them.
//!
//! The library holds a chunk in memory until it has all of it. Chunks that are signed one by one are therefore
//! bounded here, and those that are not are handed on in pieces as they come: clients send gigabytes as one chunk.
//! A body that ends before its last chunk, or that holds more or less than was announced, is refused here: what
//! the library still refuses is a wrong signature.
//!
//! Deliberately absent: signatures and trailing fields.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use session_core::error::{Error, ErrorKind, Result};

/// The largest chunk with a signature of its own, bytes.
pub const MAX_SIGNED: u64 = 16 << 20;
/// The longest line before a chunk, bytes.
const MAX_LINE: usize = 256;
/// What may follow the last chunk, bytes.
const MAX_TRAILER: usize = 16 << 10;

enum State {
    /// The line before a chunk, as far as it has come.
    Line(Vec<u8>),
    /// In a chunk of which so much is to come.
    Chunk(u64),
    /// The line end behind a chunk, of which so many bytes have come.
    After(usize),
    /// Behind the last chunk, so many bytes.
    Trailer(usize),
}

/// A body in chunks, piece by piece.
pub struct Chunked {
    state: State,
    /// Chunks have signatures, and are left as they are.
    signed: bool,
    /// What the chunks hold that are still to come.
    left: u64,
}

fn broken() -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail("the body is not in chunks as announced")
}

fn incomplete() -> Error {
    Error::new(ErrorKind::Corrupt).with_detail("the body does not have the size that was announced")
}

impl Chunked {
    /// Chunks that hold `length` bytes in all.
    pub fn new(signed: bool, length: u64) -> Self {
        Chunked { state: State::Line(Vec::new()), signed, left: length }
    }

    /// Takes a piece in and gives what goes on of it. Errors: `InvalidArgument`, `TooLarge`, `Corrupt`.
    pub fn push(&mut self, mut piece: Bytes, out: &mut VecDeque<Bytes>) -> Result<()> {
        while !piece.is_empty() {
            match &mut self.state {
                State::Line(line) => {
                    let end = piece.iter().position(|b| *b == b'\n').map(|at| at + 1);
                    line.extend_from_slice(&piece.split_to(end.unwrap_or(piece.len())));
                    if line.len() > MAX_LINE {
                        return Err(broken());
                    }
                    if end.is_some() {
                        let line = std::mem::take(line);
                        self.line(line, out)?;
                    }
                }
                State::Chunk(to_come) => {
                    let n = usize::try_from(*to_come).unwrap_or(usize::MAX).min(piece.len());
                    let data = piece.split_to(n);
                    *to_come -= n as u64;
                    if *to_come == 0 {
                        self.state = State::After(0);
                    }
                    if self.signed {
                        out.push_back(data);
                    } else {
                        out.push_back(format!("{n:x}\r\n").into());
                        out.push_back(data);
                        out.push_back(Bytes::from_static(b"\r\n"));
                    }
                }
                State::After(came) => {
                    if piece.get_u8() != if *came == 0 { b'\r' } else { b'\n' } {
                        return Err(broken());
                    }
                    *came += 1;
                    if *came == 2 {
                        self.state = State::Line(Vec::new());
                        if self.signed {
                            out.push_back(Bytes::from_static(b"\r\n"));
                        }
                    }
                }
                State::Trailer(came) => {
                    *came += piece.len();
                    if *came > MAX_TRAILER {
                        return Err(broken());
                    }
                    out.push_back(std::mem::take(&mut piece));
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: Vec<u8>, out: &mut VecDeque<Bytes>) -> Result<()> {
        let text = std::str::from_utf8(&line).ok().and_then(|l| l.strip_suffix("\r\n")).ok_or_else(broken)?;
        let (size, signature) = match text.split_once(';') {
            Some((size, rest)) => (size, Some(rest)),
            None => (text, None),
        };
        // Without signs and blanks, which a number may have elsewhere.
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(broken());
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| broken())?;
        if self.signed != signature.is_some() {
            return Err(broken());
        }
        if self.signed && size > MAX_SIGNED {
            let e = Error::new(ErrorKind::TooLarge);
            return Err(e.with_detail(format!("a chunk has {MAX_SIGNED} bytes at most")));
        }
        self.left = self.left.checked_sub(size).ok_or_else(incomplete)?;
        if size == 0 {
            if self.left > 0 {
                return Err(incomplete());
            }
            self.state = State::Trailer(0);
            out.push_back(line.into());
        } else {
            self.state = State::Chunk(size);
            if self.signed {
                out.push_back(line.into());
            }
        }
        Ok(())
    }

    /// The body is over. Errors: `Corrupt` if its last chunk did not come.
    pub fn end(&self) -> Result<()> {
        match self.state {
            State::Trailer(_) => Ok(()),
            _ => Err(incomplete()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of a body that arrives in pieces of `n` bytes.
    fn through(signed: bool, length: u64, body: &[u8], n: usize) -> Result<Vec<u8>> {
        let mut chunked = Chunked::new(signed, length);
        let mut out = VecDeque::new();
        for piece in body.chunks(n) {
            chunked.push(Bytes::copy_from_slice(piece), &mut out)?;
        }
        chunked.end()?;
        Ok(out.into_iter().flatten().collect())
    }

    /// The content of chunks, and what follows.
    fn content(mut framed: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut all = Vec::new();
        loop {
            let end = framed.windows(2).position(|w| w == b"\r\n").unwrap();
            let line = std::str::from_utf8(&framed[..end]).unwrap();
            let n = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
            framed = &framed[end + 2..];
            if n == 0 {
                return (all, framed.to_vec());
            }
            all.extend_from_slice(&framed[..n]);
            assert_eq!(&framed[n..n + 2], b"\r\n");
            framed = &framed[n + 2..];
        }
    }

    #[test]
    fn signed_chunks_pass_as_they_are() {
        let sig = "0".repeat(64);
        let body = format!("5;chunk-signature={sig}\r\nhello\r\n0;chunk-signature={sig}\r\n\r\n");
        for n in 1..body.len() {
            assert_eq!(through(true, 5, body.as_bytes(), n).unwrap(), body.as_bytes(), "{n}");
        }
    }

    #[test]
    fn a_chunk_without_a_signature_is_handed_on_as_it_comes() {
        let body = b"b\r\nhello world\r\n3\r\n!\r\n\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        for n in 1..body.len() {
            let out = through(false, 14, body, n).unwrap();
            let (all, rest) = content(&out);
            assert_eq!(all, b"hello world!\r\n", "{n}");
            assert_eq!(rest, b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        }
        let mut chunked = Chunked::new(false, 0xffff_ffff);
        let mut out = VecDeque::new();
        chunked.push(Bytes::from_static(b"ffffffff\r\nabc"), &mut out).unwrap();
        assert_eq!(out.into_iter().flatten().collect::<Vec<u8>>(), b"3\r\nabc\r\n");
    }

    #[test]
    fn bodies_that_are_not_as_announced_are_refused() {
        let kind = |signed, length, body: &[u8]| through(signed, length, body, 3).map_err(|e| e.kind()).err();
        for (length, body, wrong) in [
            (5, &b"5\r\nhello\r\n"[..], ErrorKind::Corrupt),
            (5, b"5\r\nhel", ErrorKind::Corrupt),
            (6, b"5\r\nhello\r\n0\r\n\r\n", ErrorKind::Corrupt),
            (4, b"5\r\nhello\r\n0\r\n\r\n", ErrorKind::Corrupt),
            (5, b"", ErrorKind::Corrupt),
            (5, b"5\r\nhello0\r\n\r\n", ErrorKind::InvalidArgument),
            (5, b"5\nhello\r\n0\r\n\r\n", ErrorKind::InvalidArgument),
            (5, b"+5\r\nhello\r\n0\r\n\r\n", ErrorKind::InvalidArgument),
            (5, b"\r\n", ErrorKind::InvalidArgument),
            (5, b"00000000000000005\r\nhello\r\n0\r\n\r\n", ErrorKind::InvalidArgument),
            (5, b"5;chunk-signature=0\r\nhello\r\n0\r\n\r\n", ErrorKind::InvalidArgument),
        ] {
            assert_eq!(kind(false, length, body), Some(wrong), "{}", body.escape_ascii());
        }
        assert_eq!(kind(true, 5, b"5\r\nhello\r\n0\r\n\r\n"), Some(ErrorKind::InvalidArgument));
        assert_eq!(kind(true, 1 << 40, b"1000001;x\r\n"), Some(ErrorKind::TooLarge));
        let trailer = [&b"0\r\n"[..], &vec![b'x'; MAX_TRAILER + 1]].concat();
        assert_eq!(kind(false, 0, &trailer), Some(ErrorKind::InvalidArgument));
        assert_eq!(kind(false, 0, &[b'0'; 300]), Some(ErrorKind::InvalidArgument));
    }
}
