//! Entries for fuzzing: one for each parser that sees a peer. Each takes any bytes and must return.
//!
//! `fuzz/` holds the targets; the corpus in `fuzz/corpus/` also runs in `cargo test`.

use super::command::Command;
use super::line::{Line, Lines};
use super::reply::Reply;

/// What a client sends on the control connection, in chunks whose sizes come from the data itself: the same
/// lines come out as from one piece, and no reply that holds a line breaks out of itself.
pub fn from_client(data: &[u8]) {
    const MAX: usize = 64;
    let mut lines = Lines::new(MAX);
    let mut whole = Lines::new(MAX);
    let mut got = Vec::new();
    let mut sent = Vec::new();
    let mut rest = data;
    while let Some((first, later)) = rest.split_first() {
        let (chunk, later) = later.split_at(later.len().min(usize::from(*first)));
        rest = later;
        sent.extend_from_slice(chunk);
        lines.receive(chunk);
        got.extend(std::iter::from_fn(|| lines.next_line()));
        // What is kept never outgrows a line and the chunk that ended it.
        assert!(lines.len() <= MAX + 1 + usize::from(u8::MAX));
    }
    whole.receive(&sent);
    assert!(std::iter::from_fn(|| whole.next_line()).eq(got.iter().cloned()));
    for line in got {
        let Line::Text(line) = line else { continue };
        assert!(line.len() <= MAX);
        if let Ok(command) = Command::parse(&line) {
            assert!(!command.verb.as_str().is_empty());
            let mut out = bytes::BytesMut::new();
            Reply::new(250, command.argument).encode(&mut out);
            assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
            assert!(out.ends_with(b"\r\n"));
        }
        let _ = crate::listing::stamp::parse(&line);
    }
}
