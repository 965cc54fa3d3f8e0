//! The receiving end of `scp -f`, for one file that was asked for: what arrives → what it means.
//!
//! Promises: no name that the other side sends is ever used (CVE-2019-6111: a server may name another file than the
//! one that was asked for, or a directory; what is not one file is an error); exactly as many bytes are content as were
//! announced; what the source says of a failure is told as it is.
//!
//! Deliberately absent: answers. They are the same whatever comes ([`ACKNOWLEDGED`]), and may be sent at once.
//! Source: OpenSSH's scp.c, `source` and `sink`.

use std::time::SystemTime;

use bytes::Bytes;

use super::scp::{Arrived, Control, Malformed};

/// All that a source of one file waits for: that it may begin, that its times, its line, its content were taken.
pub const ACKNOWLEDGED: &[u8] = &[0; 4];

/// What is known of a file before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Permission bits.
    pub mode: u32,
    /// Bytes of content that follow.
    pub size: u64,
    /// Last change and last access.
    pub times: Option<(SystemTime, SystemTime)>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The file.
    Begins(Head),
    /// Content, at least one byte.
    Content(Bytes),
    /// All of it, and nothing went wrong.
    Complete,
    /// The source's words on what went wrong.
    Failed(Bytes),
}

#[derive(Clone, Debug)]
enum State {
    Head(Option<(SystemTime, SystemTime)>),
    Content(u64),
    Tail,
    Over,
}

/// Reads what a source sends. Feed it a piece, then ask until there is nothing more.
#[derive(Debug)]
pub struct Fetch {
    arrived: Arrived,
    /// Most pieces are content from end to end, and need not be copied.
    piece: Bytes,
    state: State,
}

impl Default for Fetch {
    fn default() -> Self {
        Fetch { arrived: Arrived::default(), piece: Bytes::new(), state: State::Head(None) }
    }
}

impl Fetch {
    /// Takes in what arrived, after [`Fetch::next_event`] had nothing more.
    pub fn push(&mut self, piece: Bytes) {
        if matches!(self.state, State::Content(_)) && self.piece.is_empty() {
            self.piece = piece;
        } else {
            self.arrived.push(&piece);
        }
    }

    /// The next event; `None` until more has arrived.
    pub fn next_event(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            match self.state {
                State::Head(times) => match self.arrived.control()? {
                    Some(Control::Times { modified, accessed }) if times.is_none() => {
                        self.state = State::Head(Some((modified, accessed)));
                    }
                    Some(Control::File { mode, size, .. }) => {
                        self.state = State::Content(size);
                        return Ok(Some(Event::Begins(Head { mode, size, times })));
                    }
                    Some(Control::Warning(words) | Control::Fatal(words)) => {
                        return Ok(Some(self.over(words)));
                    }
                    Some(_) => return Err(Malformed("something else than the file that was asked for")),
                    None => return Ok(None),
                },
                State::Content(0) => {
                    let rest = std::mem::take(&mut self.piece);
                    self.arrived.push(&rest);
                    self.state = State::Tail;
                }
                State::Content(left) => {
                    let mut bytes = self.arrived.content(left);
                    if bytes.is_empty() {
                        let most = usize::try_from(left).unwrap_or(usize::MAX);
                        bytes = self.piece.split_to(most.min(self.piece.len()));
                    }
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    self.state = State::Content(left - bytes.len() as u64);
                    return Ok(Some(Event::Content(bytes)));
                }
                State::Tail => match self.arrived.control()? {
                    Some(Control::Ok) => {
                        self.state = State::Over;
                        return Ok(Some(Event::Complete));
                    }
                    Some(Control::Warning(words) | Control::Fatal(words)) => {
                        return Ok(Some(self.over(words)));
                    }
                    Some(_) => return Err(Malformed("content goes on behind its end")),
                    None => return Ok(None),
                },
                State::Over => return Ok(None),
            }
        }
    }

    fn over(&mut self, words: Bytes) -> Event {
        self.state = State::Over;
        Event::Failed(words)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn run(wire: &[u8], step: usize) -> (Vec<Event>, Result<(), Malformed>) {
        let mut fetch = Fetch::default();
        let mut events: Vec<Event> = Vec::new();
        for piece in wire.chunks(step) {
            fetch.push(Bytes::copy_from_slice(piece));
            loop {
                match fetch.next_event() {
                    Ok(Some(Event::Content(more))) => match events.last_mut() {
                        Some(Event::Content(bytes)) => *bytes = [&bytes[..], &more[..]].concat().into(),
                        _ => events.push(Event::Content(more)),
                    },
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(e) => return (events, Err(e)),
                }
            }
        }
        (events, Ok(()))
    }

    #[test]
    fn a_file_comes_whole_however_it_is_cut() {
        let times = Some((UNIX_EPOCH + Duration::from_secs(7), UNIX_EPOCH + Duration::from_secs(9)));
        let due = vec![
            Event::Begins(Head { mode: 0o640, size: 5, times }),
            Event::Content("a\nb\0C".into()),
            Event::Complete,
        ];
        for step in 1..40 {
            assert_eq!(run(b"T7 0 9 0\nC0640 5 x\na\nb\0C\0", step), (due.clone(), Ok(())), "{step}");
        }
        let empty = vec![Event::Begins(Head { mode: 0o644, size: 0, times: None }), Event::Complete];
        assert_eq!(run(b"C0644 0 x\n\0", 100), (empty, Ok(())));
    }

    #[test]
    fn what_the_source_says_is_told_at_either_end() {
        assert_eq!(run(b"\x01scp: /x: No such\n", 3).0, vec![Event::Failed("scp: /x: No such".into())]);
        let (events, _) = run(b"C0644 1 x\n0\x01scp: /x: I/O\n", 3);
        assert_eq!(events.last(), Some(&Event::Failed("scp: /x: I/O".into())));
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        for wire in [
            &b"D0755 0 x\n"[..],
            b"E\n",
            b"\0",
            b"T1 0 1 0\nT1 0 1 0\n",
            b"C0644 1 ../x\n",
            b"C0644 1 x\naC0644 1 y\nb\0",
            b"C0644 1 x\na\nb",
        ] {
            assert!(run(wire, 64).1.is_err(), "{wire:?}");
        }
    }
}
