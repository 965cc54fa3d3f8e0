//! Bodies of answers that are read from a file as they are sent.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;

use super::respond::{Body, broken, full, streamed};
use crate::fs::File as _;
use crate::gate::SessionFile;

/// How much is read at once: little at first, for files that are little.
const FIRST: usize = 64 * 1024;
const PIECE: usize = 256 * 1024;

/// A piece of a body.
pub enum Part {
    /// This range of the file, which is there.
    Content(Range<u64>),
    /// These bytes.
    Words(Bytes),
}

impl Part {
    /// How many bytes it is.
    pub fn size(&self) -> u64 {
        match self {
            Part::Content(range) => range.end - range.start,
            Part::Words(words) => words.len() as u64,
        }
    }
}

struct Sending<T> {
    file: Arc<SessionFile>,
    left: VecDeque<Part>,
    room: usize,
    _held: T,
}

impl<T> Sending<T> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(part) = self.left.front_mut() else { return Ok(None) };
        match part {
            Part::Words(words) => {
                let words = std::mem::take(words);
                self.left.pop_front();
                Ok(Some(words))
            }
            Part::Content(range) => {
                let want = usize::try_from(range.end - range.start).unwrap_or(self.room).min(self.room);
                let buf = BytesMut::with_capacity(want);
                let piece = self.file.read_into(range.start, want, buf).await.map_err(broken)?;
                if piece.is_empty() {
                    // The length is promised already.
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the file became shorter meanwhile",
                    ));
                }
                range.start += piece.len() as u64;
                if range.start >= range.end {
                    self.left.pop_front();
                }
                self.room = PIECE;
                Ok(Some(piece.freeze()))
            }
        }
    }
}

/// A body that reads as it is sent; `held` lives as long as it is.
pub fn send<T: Send + 'static>(file: Arc<SessionFile>, mut parts: VecDeque<Part>, held: T) -> Body {
    parts.retain(|p| p.size() > 0);
    if parts.is_empty() {
        return full(Bytes::new());
    }
    let sending = Sending { file, left: parts, room: FIRST, _held: held };
    streamed(stream::unfold(Some(sending), |sending| async move {
        let mut sending = sending?;
        match sending.next().await {
            Ok(Some(piece)) => {
                // The last piece ends the file's use, so that nothing of it outlives the answer.
                let rest = if sending.left.is_empty() { None } else { Some(sending) };
                Some((Ok(piece), rest))
            }
            Ok(None) => None,
            Err(e) => Some((Err(e), None)),
        }
    }))
}
