//! What two ends of `scp` say to each other: control lines and answers, bytes ↔ values.
//!
//! Promises: parsing never panics, keeps nothing beyond [`MAX_LINE`] bytes of a line, and takes no name
//! that is more than one segment of a path. The content of a file is no line; who reads it counts it.
//!
//! Deliberately absent: what a line means, and when it may come.
//! Standard: none; the behaviour is that of OpenSSH's `scp -O` (scp.c), as rcp had it before.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use session_core::path::check_name;

/// The longest line, with its end.
pub const MAX_LINE: usize = 8192;

/// One line, or one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// All is well: one zero byte.
    Ok,
    /// Something went wrong, and the next may come.
    Warning(Bytes),
    /// Something went wrong, and nothing else will come.
    Fatal(Bytes),
    /// A file follows.
    File {
        /// Permission bits.
        mode: u32,
        /// Bytes of content that follow the answer.
        size: u64,
        /// One segment of a path.
        name: Bytes,
    },
    /// A directory begins.
    Directory {
        /// Permission bits.
        mode: u32,
        /// One segment of a path.
        name: Bytes,
    },
    /// The directory is complete.
    End,
    /// The times of what comes next.
    Times {
        /// Last change.
        modified: SystemTime,
        /// Last access.
        accessed: SystemTime,
    },
}

/// A line that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

fn digits(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if plain { u64::from_str_radix(text, radix).ok() } else { None }
}

fn time(seconds: &[u8], micros: &[u8]) -> Result<SystemTime, Malformed> {
    let bad = Malformed("a time that is none");
    // Times before 1970 are a matter of a minus sign, and of nobody.
    let micros = digits(micros, 10).filter(|n| *n < 1_000_000).ok_or(bad)?;
    let seconds = digits(seconds, 10).ok_or(bad)?;
    let since = Duration::from_secs(seconds) + Duration::from_micros(micros);
    UNIX_EPOCH.checked_add(since).filter(|_| seconds < 1 << 40).ok_or(bad)
}

/// `MODE SIZE NAME`.
fn entry(line: &Bytes) -> Result<(u32, u64, Bytes), Malformed> {
    let mut parts = line.splitn(3, |b| *b == b' ');
    let (mode, size) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let name = parts.next().ok_or(Malformed("a line without a name"))?;
    let mode = digits(mode, 8).filter(|m| *m <= 0o7777 && (4..=5).contains(&mode.len()));
    let mode = mode.and_then(|m| u32::try_from(m).ok()).ok_or(Malformed("a mode that is none"))?;
    let size = digits(size, 10).filter(|n| i64::try_from(*n).is_ok());
    let size = size.ok_or(Malformed("a size that is none"))?;
    check_name(name).map_err(|_| Malformed("a name that is none"))?;
    Ok((mode, size, line.slice_ref(name)))
}

/// Takes a line apart, without its end.
fn parse(line: &Bytes) -> Result<Control, Malformed> {
    let rest = line.slice(1..);
    Ok(match line.first() {
        Some(1) => Control::Warning(rest),
        Some(2) => Control::Fatal(rest),
        Some(b'C') => {
            let (mode, size, name) = entry(&rest)?;
            Control::File { mode, size, name }
        }
        Some(b'D') => {
            let (mode, _, name) = entry(&rest)?;
            Control::Directory { mode, name }
        }
        Some(b'E') if rest.is_empty() => Control::End,
        Some(b'T') => {
            let parts: Vec<&[u8]> = rest.split(|b| *b == b' ').collect();
            let [m, mu, a, au] = parts[..] else { return Err(Malformed("times that are none")) };
            Control::Times { modified: time(m, mu)?, accessed: time(a, au)? }
        }
        _ => return Err(Malformed("a line of no known kind")),
    })
}

fn since(t: SystemTime) -> u64 {
    t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Control {
    /// Appends it as it stands on the wire. Line ends in words become spaces; a name must have none.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut said = |kind: u8, words: &Bytes| {
            out.extend_from_slice(&[kind]);
            let room = MAX_LINE.saturating_sub(2).min(words.len());
            out.extend(words.iter().take(room).map(|b| if *b == b'\n' { b' ' } else { *b }));
        };
        match self {
            Control::Ok => return out.extend_from_slice(&[0]),
            Control::Warning(words) => said(1, words),
            Control::Fatal(words) => said(2, words),
            Control::File { mode, size, name } => {
                out.extend_from_slice(format!("C{mode:04o} {size} ").as_bytes());
                out.extend_from_slice(name);
            }
            Control::Directory { mode, name } => {
                out.extend_from_slice(format!("D{mode:04o} 0 ").as_bytes());
                out.extend_from_slice(name);
            }
            Control::End => out.extend_from_slice(b"E"),
            Control::Times { modified, accessed } => {
                let (modified, accessed) = (since(*modified), since(*accessed));
                out.extend_from_slice(format!("T{modified} 0 {accessed} 0").as_bytes());
            }
        }
        out.extend_from_slice(b"\n");
    }
}

/// What arrived and was not taken: lines and content, cut anywhere.
#[derive(Debug, Default)]
pub struct Arrived {
    buffer: BytesMut,
}

impl Arrived {
    /// Takes in what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line or answer; `None` until all of it is here.
    pub fn control(&mut self) -> Result<Option<Control>, Malformed> {
        if self.buffer.first() == Some(&0) {
            let _ = self.buffer.split_to(1);
            return Ok(Some(Control::Ok));
        }
        let end = self.buffer.iter().take(MAX_LINE).position(|b| *b == b'\n');
        let Some(end) = end else {
            return if self.buffer.len() < MAX_LINE {
                Ok(None)
            } else {
                Err(Malformed("a line without end"))
            };
        };
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(end);
        if line.is_empty() {
            return Err(Malformed("an empty line"));
        }
        parse(&line.freeze()).map(Some)
    }

    /// At most `most` bytes of content; empty where nothing is here.
    pub fn content(&mut self, most: u64) -> Bytes {
        let n = usize::try_from(most).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.split_to(n).freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Result<Option<Control>, Malformed> {
        let mut arrived = Arrived::default();
        arrived.push(bytes);
        arrived.control()
    }

    #[test]
    fn lines_are_what_openssh_sends() {
        let file = |mode, size, name: &'static str| Control::File { mode, size, name: name.into() };
        assert_eq!(one(b"C0644 12 a b.txt\n"), Ok(Some(file(0o644, 12, "a b.txt"))));
        assert_eq!(one(b"C4755 0 x\n"), Ok(Some(file(0o4755, 0, "x"))));
        assert_eq!(
            one(b"D0755 0 folder\n"),
            Ok(Some(Control::Directory { mode: 0o755, name: "folder".into() }))
        );
        assert_eq!(one(b"E\n"), Ok(Some(Control::End)));
        assert_eq!(one(b"\x01scp: no\n"), Ok(Some(Control::Warning("scp: no".into()))));
        assert_eq!(one(b"\x02\n"), Ok(Some(Control::Fatal("".into()))));
        let at = |s, us| UNIX_EPOCH + Duration::from_secs(s) + Duration::from_micros(us);
        let times = Control::Times { modified: at(1_700_000_000, 5), accessed: at(3, 0) };
        assert_eq!(one(b"T1700000000 5 3 0\n"), Ok(Some(times)));
        assert_eq!(one(b"\0C06"), Ok(Some(Control::Ok)));
        assert_eq!(one(b"C0644 12 a"), Ok(None));
    }

    #[test]
    fn what_leads_elsewhere_or_means_nothing_is_refused() {
        for line in [
            "C0644 1 ../x",
            "C0644 1 ..",
            "C0644 1 .",
            "C0644 1 ",
            "C0644 1 a/b",
            "C0644 1 a\0b",
            "C0644 1",
            "C0644 -1 a",
            "C0644 +1 a",
            "C0644 99999999999999999999 a",
            "C0644 9223372036854775808 a",
            "C0648 1 a",
            "C10000 1 a",
            "C 1 a",
            "C00644000 1 a",
            "Ex",
            "T1 0 2",
            "T1 1000000 2 0",
            "T1 0 99999999999999999 0",
            "Z",
            "",
        ] {
            assert!(one(format!("{line}\n").as_bytes()).is_err(), "{line:?}");
        }
        assert!(one(&[b'C'; MAX_LINE]).is_err(), "a line without end");
    }

    #[test]
    fn content_is_not_a_line_and_nothing_is_lost_between() {
        let mut arrived = Arrived::default();
        for byte in b"C0644 3 x\nab\n\0E\n" {
            // One byte at a time: a line is there when its end is.
            arrived.push(&[*byte]);
        }
        assert!(matches!(arrived.control(), Ok(Some(Control::File { size: 3, .. }))));
        assert_eq!(arrived.content(3), "ab\n");
        assert_eq!(arrived.control(), Ok(Some(Control::Ok)));
        assert_eq!(arrived.control(), Ok(Some(Control::End)));
        assert_eq!(arrived.control(), Ok(None));
    }

    #[test]
    fn words_never_end_a_line_early() {
        let mut out = BytesMut::new();
        Control::Warning("a\nC0644 1 b".into()).encode(&mut out);
        assert_eq!(&out[..], b"\x01a C0644 1 b\n");
    }
}
