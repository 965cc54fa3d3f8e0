//! The hash chain of an audit file, and its verification.
//!
//! Each record ends with the SHA-256 of the chain value before it and of the record's own text up to there.
//! A record that is changed, taken out, put in or moved breaks every value after it. The first record of a
//! file names the value that it continues, so files that follow each other are one chain. What a chain
//! cannot show is that its end was cut off, or that all of it was written anew: for that the last value
//! (the head) is told to the log at every change of file and at the end, and `--expect` compares.
//!
//! A crash may leave a record torn; whoever opens the file next says in its first record how long it was.

use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use session_core::digest::{Hasher, hex};
use session_core::error::{Error, Result};
use session_core::fs::Algorithm;

use super::AuditFormat;

/// What stands before the chain value of a JSON record, and after it.
const JSON: (&str, &str) = (",\"chain\":\"", "\"}");

/// The name of the record that begins a file, or a run of the server.
pub(super) const OPENED: &str = "audit-opened";

/// The longest record that is read.
const LONGEST: u64 = 4 << 20;

/// Where a chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of the last record; 0 before the first.
    pub(super) sequence: u64,
    /// Its chain value, in hexadecimal.
    pub(super) value: String,
}

impl Default for Head {
    /// Before the first record of all.
    fn default() -> Self {
        Head { sequence: 0, value: "0".repeat(64) }
    }
}

impl Head {
    /// The next record: its text so far, which names its number, becomes a whole line.
    pub(super) fn seal(&mut self, format: AuditFormat, body: &str) -> String {
        self.sequence += 1;
        self.value = value(&self.value, body);
        match format {
            AuditFormat::Json => format!("{body}{}{}{}\n", JSON.0, self.value, JSON.1),
            AuditFormat::W3c => format!("{body} {}\n", self.value),
        }
    }
}

fn value(before: &str, body: &str) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(before.as_bytes());
    hasher.update(body.as_bytes());
    hex(&hasher.finish())
}

/// A line taken apart: its text and its chain value.
pub(super) fn open(line: &str) -> Option<(&str, &str)> {
    let (body, value) = match line.strip_suffix(JSON.1) {
        Some(rest) => rest.rsplit_once(JSON.0)?,
        None => line.rsplit_once(' ')?,
    };
    let is_value = value.len() == 64 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_value.then_some((body, value))
}

/// What a record says of itself, as far as the chain is concerned.
pub(super) struct Said {
    pub(super) sequence: u64,
    /// Of a record that opens: the value that it continues, and the bytes of a torn record before it.
    pub(super) opened: Option<(String, u64)>,
}

/// Reads the body of a record.
pub(super) fn read(body: &str) -> Option<Said> {
    if !body.starts_with('{') {
        return super::w3c::read(body);
    }
    let object: Value = serde_json::from_str(&format!("{body}}}")).ok()?;
    let field = |name: &str| object.get(name);
    let opened = || {
        let previous = field("previous")?.as_str()?.to_string();
        Some((previous, field("torn").and_then(Value::as_u64).unwrap_or_default()))
    };
    let is_opened = field("event").and_then(Value::as_str) == Some(OPENED);
    Some(Said { sequence: field("seq")?.as_u64()?, opened: if is_opened { Some(opened()?) } else { None } })
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which file.
    pub file: PathBuf,
    /// Which line, from 1.
    pub line: u64,
    /// What.
    pub words: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records that are in the chain.
    pub records: u64,
    /// The last chain value; empty where there is no record.
    pub head: String,
    /// Records that a crash has torn, each told of by the one after it.
    pub torn: u64,
    /// What is wrong; nothing where the chain is whole.
    pub problems: Vec<Problem>,
}

/// The most problems that are told.
const MOST: usize = 100;

/// Follows the chain through `files`, the oldest first. Blocks. Errors: those of reading them.
pub fn verify(files: &[PathBuf]) -> Result<Verified> {
    let mut walk = Walk::default();
    for file in files {
        walk.file(file)?;
    }
    let head = walk.head.map(|h| h.value).unwrap_or_default();
    Ok(Verified { head, ..walk.found })
}

#[derive(Default)]
struct Walk {
    found: Verified,
    head: Option<Head>,
    /// A line that is no record: where, how long.
    odd: Option<(u64, u64)>,
}

impl Walk {
    fn problem(&mut self, file: &Path, line: u64, words: impl Into<String>) {
        if self.found.problems.len() < MOST {
            self.found.problems.push(Problem { file: file.to_path_buf(), line, words: words.into() });
        }
    }

    fn file(&mut self, file: &Path) -> Result<()> {
        let unread =
            |e: std::io::Error| Error::from(e).with_detail(format!("{} cannot be read", file.display()));
        let mut reader = BufReader::new(std::fs::File::open(file).map_err(unread)?);
        let (mut number, mut first) = (0, true);
        loop {
            let mut bytes = Vec::new();
            let n = (&mut reader).take(LONGEST).read_until(b'\n', &mut bytes).map_err(unread)?;
            if n == 0 {
                break;
            }
            number += 1;
            let whole = bytes.last() == Some(&b'\n');
            if whole {
                bytes.pop();
            }
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            if super::w3c::is_directive(text) {
                continue;
            }
            match open(text).and_then(|(body, value)| Some((body, value, read(body)?))).filter(|_| whole) {
                Some((body, value, said)) => self.record(file, number, (body, value, said), first),
                None => self.odd_line(file, number, bytes.len() as u64),
            }
            first = false;
        }
        if let Some((line, _)) = self.odd.take() {
            self.problem(file, line, "this is no whole record, and nothing after it says so");
        }
        Ok(())
    }

    fn odd_line(&mut self, file: &Path, line: u64, len: u64) {
        if let Some((before, _)) = self.odd.replace((line, len)) {
            self.problem(file, before, "this is no record");
        }
    }

    fn record(&mut self, file: &Path, line: u64, (body, value, said): (&str, &str, Said), first: bool) {
        let odd = self.odd.take();
        match (&said.opened, &self.head) {
            (Some((previous, _)), Some(head)) if *previous != head.value => {
                self.problem(file, line, "this does not continue what came before: records are missing");
            }
            (None, None) => {
                self.problem(file, line, "the chain does not begin here: records before it are missing");
            }
            (None, Some(_)) if first => {
                self.problem(file, line, "the file does not begin with its opening record");
            }
            _ => {}
        }
        match (odd, &said.opened) {
            (Some((_, len)), Some((_, torn))) if len == *torn => self.found.torn += 1,
            (Some((at, _)), _) => self.problem(file, at, "this is no record"),
            (None, Some((_, torn))) if *torn > 0 => {
                self.problem(file, line, "the torn record that this tells of is gone");
            }
            (None, _) => {}
        }
        let before = match (&said.opened, &self.head) {
            (Some((previous, _)), _) => previous.clone(),
            (None, Some(head)) => head.value.clone(),
            (None, None) => String::new(),
        };
        if !before.is_empty() && self::value(&before, body) != *value {
            self.problem(file, line, "the record is not the one that was written here");
        }
        if let Some(head) = &self.head
            && said.sequence != head.sequence + 1
        {
            let words = format!("record {} stands after record {}", said.sequence, head.sequence);
            self.problem(file, line, words);
        }
        self.found.records += 1;
        self.head = Some(Head { sequence: said.sequence, value: value.to_string() });
    }
}
