//! LIST as servers write it, read by a table of dialects.
//!
//! No standard says what LIST looks like. Each dialect is a row: a name and a function that says what a line
//! is. The row that understood the last line is asked first. A line that no row understands is kept raw and
//! counted, and is never fatal; a line whose name is no single segment is no entry. Times are those of the
//! server's clock, whose zone the line does not tell ([`Listed::local`]).
//!
//! Formats by: RFC 1127 and practice (Unix), IIS (DOS), the manuals of OpenVMS, z/OS, IBM i and NetWare,
//! D. J. Bernstein's description of EPLF. A corpus of lines is in `tests/corpus`.

mod dates;
mod dos;
mod mainframe;
mod small;
mod unix;

use bytes::Bytes;
use jiff::civil::DateTime;
use session_core::metadata::{DirEntry, FileType, Metadata};
use session_core::path::check_name;

/// The longest line that is looked at.
pub const MAX_LINE: usize = 16 * 1024;
/// Raw lines that are kept.
const KEPT: usize = 32;

/// An entry as a line told it. `metadata.modified` is only set where the line told it in UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Name and what else is known.
    pub entry: DirEntry,
    /// When it was last changed, by the server's clock.
    pub local: Option<DateTime>,
    /// The time of day is known, not only the date.
    pub timed: bool,
    /// Of a symbolic link: its name, ` -> ` and what it holds, as the line had it.
    pub link: Option<Bytes>,
}

/// What a dialect makes of a line.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly every line is an entry, and none is kept")]
enum Made {
    /// An entry.
    Entry(Listed),
    /// A line of this dialect that is no entry: a heading, a total, the directory itself.
    Nothing,
    /// The beginning of an entry that the next line continues.
    More,
    /// Not of this dialect.
    Foreign,
}

struct Dialect {
    name: &'static str,
    read: fn(&[u8], &Context) -> Made,
}

/// What a line is read with.
#[derive(Clone, Copy, Debug)]
struct Context {
    /// Now, roughly, by the server's clock: tells which year is meant where none is written.
    now: DateTime,
    /// The columns of a z/OS listing are those of members, not of data sets.
    members: bool,
}

const DIALECTS: [Dialect; 8] = [
    Dialect { name: "EPLF", read: small::eplf },
    Dialect { name: "Unix", read: unix::read },
    Dialect { name: "DOS", read: dos::read },
    Dialect { name: "NetWare", read: small::netware },
    Dialect { name: "VMS", read: mainframe::vms },
    Dialect { name: "AS/400", read: mainframe::as400 },
    Dialect { name: "MVS", read: mainframe::mvs },
    Dialect { name: "none", read: small::noise },
];

/// Reads a listing line by line.
#[derive(Debug)]
pub struct ListParser {
    context: Context,
    last: Option<usize>,
    begun: Vec<u8>,
    /// Lines that nobody understood.
    skipped: u64,
    kept: Vec<Bytes>,
}

impl ListParser {
    /// For a server whose clock shows about `now`.
    pub fn new(now: DateTime) -> Self {
        ListParser {
            context: Context { now, members: false },
            last: None,
            begun: Vec::new(),
            skipped: 0,
            kept: Vec::new(),
        }
    }

    /// Reads one line, without its end.
    pub fn line(&mut self, line: &[u8]) -> Option<Listed> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        if line.len() > MAX_LINE {
            self.skip(line.get(..256).unwrap_or_default());
            return None;
        }
        let joined = if self.begun.is_empty() {
            None
        } else {
            let mut joined = std::mem::take(&mut self.begun);
            joined.push(b' ');
            joined.extend_from_slice(line);
            Some(joined)
        };
        if let Some(whole) = joined {
            match self.read(&whole) {
                Some(Made::Entry(listed)) => return Some(listed),
                Some(Made::Nothing) => return None,
                _ => self.skip(whole.get(..whole.len() - line.len() - 1).unwrap_or_default()),
            }
        }
        if line.starts_with(b" Name ") && line.windows(5).any(|w| w == b"VV.MM") {
            self.context.members = true;
            self.last = DIALECTS.iter().position(|d| d.name == "MVS");
            return None;
        }
        match self.read(line) {
            Some(Made::Entry(listed)) => Some(listed),
            Some(Made::More) => {
                self.begun = line.to_vec();
                None
            }
            Some(Made::Nothing) => None,
            _ => {
                self.skip(line);
                None
            }
        }
    }

    fn read(&mut self, line: &[u8]) -> Option<Made> {
        let first = self.last.into_iter();
        for n in first.chain(0..DIALECTS.len()) {
            let dialect = DIALECTS.get(n)?;
            let made = (dialect.read)(line, &self.context);
            match &made {
                Made::Foreign => continue,
                Made::Entry(listed) => {
                    if matches!(&listed.entry.name[..], b"." | b"..") {
                        return Some(Made::Nothing);
                    }
                    if check_name(&listed.entry.name).is_err() {
                        return Some(Made::Foreign);
                    }
                    self.last = Some(n);
                }
                Made::Nothing | Made::More => {}
            }
            return Some(made);
        }
        None
    }

    fn skip(&mut self, line: &[u8]) {
        self.skipped += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Bytes::copy_from_slice(line));
        }
    }

    /// How many lines nobody understood.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The first of them, raw.
    pub fn kept(&self) -> &[Bytes] {
        &self.kept
    }

    /// The dialect of the last entry.
    pub fn dialect(&self) -> Option<&'static str> {
        self.last.and_then(|n| DIALECTS.get(n)).map(|d| d.name)
    }
}

/// Words of a line, with where each begins.
fn words(line: &[u8]) -> Vec<(usize, &[u8])> {
    let mut out = Vec::new();
    let mut begin = None;
    for (at, b) in line.iter().enumerate() {
        match (b.is_ascii_whitespace(), begin) {
            (false, None) => begin = Some(at),
            (true, Some(from)) => {
                out.push((from, line.get(from..at).unwrap_or_default()));
                begin = None;
            }
            _ => {}
        }
    }
    if let Some(from) = begin {
        out.push((from, line.get(from..).unwrap_or_default()));
    }
    out
}

fn number(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn listed(name: &[u8], kind: FileType, size: u64, local: Option<DateTime>, timed: bool) -> Made {
    let size = if kind == FileType::Directory { 0 } else { size };
    let entry = DirEntry { name: Bytes::copy_from_slice(name), metadata: Metadata::new(kind, size) };
    Made::Entry(Listed { entry, local, timed, link: None })
}

/// Entry for fuzzing: any listing.
pub fn fuzz(data: &[u8]) {
    let mut parser = ListParser::new(jiff::civil::DateTime::constant(2026, 6, 15, 12, 0, 0, 0));
    let mut lines = 0_u64;
    for line in data.split(|b| *b == b'\n') {
        lines += 1;
        if let Some(listed) = parser.line(line) {
            assert!(check_name(&listed.entry.name).is_ok());
        }
    }
    assert!(parser.skipped() <= lines && parser.kept().len() <= KEPT);
}
