//! Entries for fuzzing: one for each parser that sees a peer. Each takes any bytes and must return.
//!
//! `fuzz/` holds the targets; the corpus in `fuzz/corpus/` also runs in `cargo test`.

use std::collections::VecDeque;

use bytes::Bytes;
use session_core::error::Result;

use super::chunked::Chunked;
use super::form::{Fields, FormReader, Piece};
use super::signing::{self, Signing};
use crate::keyspace::{MAX_KEY, Place, path_of};

/// Bodies in chunks, whole and in pieces of the length that the second byte says: the same comes of both. The first
/// byte says whether chunks are signed, the third how much they hold.
pub fn chunks(data: &[u8]) {
    let [signed, piece, length, body @ ..] = data else { return };
    let through = |n: usize| -> Result<Vec<u8>> {
        let mut chunked = Chunked::new(signed % 2 == 1, u64::from(*length));
        let mut out = VecDeque::new();
        for piece in body.chunks(n) {
            chunked.push(Bytes::copy_from_slice(piece), &mut out)?;
        }
        chunked.end()?;
        Ok(out.into_iter().flatten().collect())
    };
    let (whole, pieces) = (through(body.len().max(1)), through(usize::from(*piece).max(1)));
    assert_eq!(whole.is_ok(), pieces.is_ok());
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        // Chunks without signatures are cut where pieces end; what they hold is the same.
        assert_eq!(content(&whole), content(&pieces));
        assert_eq!(content(&whole).map(|c| c.len()), Some(usize::from(*length)));
    }
}

/// What chunks hold.
fn content(mut framed: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = framed.windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(framed.get(..end)?).ok()?;
        let n = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        framed = framed.get(end + 2..)?;
        if n == 0 {
            return Some(all);
        }
        all.extend_from_slice(framed.get(..n)?);
        framed = framed.get(n + 2..)?;
    }
}

/// A form, whole and in pieces of the length that the first byte says: the same comes of both.
pub fn forms(data: &[u8]) {
    let [piece, body @ ..] = data else { return };
    if body.len() > 16 << 10 {
        // Where it is too much, it matters when that is seen.
        return;
    }
    let through = |n: usize| -> Result<(Fields, Vec<u8>, bool)> {
        let mut reader = FormReader::new("multipart/form-data; boundary=b")?;
        let (mut fields, mut content) = (Fields::default(), Vec::new());
        for piece in body.chunks(n) {
            reader.push(piece);
            while let Some(piece) = reader.next_piece()? {
                match piece {
                    Piece::Fields(all) => fields = all,
                    Piece::Content(bytes) => content.extend_from_slice(&bytes),
                    Piece::End => {}
                }
            }
        }
        Ok((fields, content, reader.is_over()))
    };
    let (whole, pieces) = (through(body.len().max(1)), through(usize::from(*piece).max(1)));
    assert_eq!(whole.ok(), pieces.ok());
}

/// A query, and `Authorization` fields, one a line.
pub fn signatures(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let fields: Vec<&[u8]> = lines.collect();
    if let Ok(Signing::Head(names) | Signing::Query(names)) = signing::of(&query, fields.iter().copied()) {
        assert!(names.iter().all(|name| !name.contains(';')));
    }
    for field in fields {
        let _ = std::str::from_utf8(field).map(signing::region);
    }
}

/// Keys: what is a key has one path, and that path one key.
pub fn keys(data: &[u8]) {
    let Ok(key) = std::str::from_utf8(data) else { return };
    if key.len() > MAX_KEY {
        return;
    }
    if let Ok(path) = path_of("bucket", key) {
        assert_eq!(
            Place::of(&path).ok(),
            Some(Place::Object { bucket: "bucket".to_owned(), key: key.to_owned() })
        );
    }
}
