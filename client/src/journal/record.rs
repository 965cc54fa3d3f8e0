//! Records of a journal as lines: `1 9f3a2b1c {…}`, that is the version of the form, the CRC-32 of what
//! follows it, and JSON.
//!
//! A line that is torn, or whose sum is wrong, ends the journal: what stands behind it was never promised.
//! A version that is not known is an error and not an end, so that an older program ruins nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;
use session_core::path::VPath;

use crate::batch::Segment;
use crate::jobs::{bytes_json, path_of};

const VERSION: &str = "1";
/// Finished files that are remembered one by one.
pub(super) const MOST_DONE: usize = 1_000_000;
/// Longer than any line that is written.
const LONGEST: usize = 16 << 20;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// What the job is. The first record, once.
    Job(Value),
    /// A process took it up.
    Begin { pid: u32, boot: String, at: u64 },
    /// A file has a temporary file.
    Open { key: u64, size: u64 },
    /// The target has everything of it before this offset.
    At { key: u64, offset: u64 },
    /// Of a segment of it, the target has everything before this offset.
    Segment { key: u64, segment: Segment },
    /// The target keeps an unfinished upload to this path, by these words; without words, no more.
    Upload { key: u64, to: VPath, words: Option<String> },
    /// A file is in place.
    Done { key: u64 },
    /// How far the whole is, for who looks.
    Progress(Tally),
    /// The job ended by itself.
    End { outcome: String, at: u64 },
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files in place.
    pub files_done: u64,
    /// Files known.
    pub files_total: u64,
    /// Bytes moved.
    pub bytes_done: u64,
    /// Bytes known.
    pub bytes_total: u64,
    /// Files that failed.
    pub failed: u64,
}

fn sum(text: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Crc32);
    hasher.update(text);
    session_core::digest::hex(&hasher.finish())
}

impl Record {
    fn to_json(&self) -> Value {
        match self {
            Record::Job(spec) => json!({ "t": "job", "spec": spec }),
            Record::Begin { pid, boot, at } => json!({ "t": "begin", "pid": pid, "boot": boot, "at": at }),
            Record::Open { key, size } => json!({ "t": "open", "k": format!("{key:016x}"), "n": size }),
            Record::At { key, offset } => json!({ "t": "at", "k": format!("{key:016x}"), "n": offset }),
            Record::Segment { key, segment: s } => {
                json!({ "t": "segment", "k": format!("{key:016x}"), "n": [s.begin, s.end, s.known] })
            }
            Record::Upload { key, to, words } => json!({
                "t": "upload", "k": format!("{key:016x}"), "to": bytes_json(to.as_bytes()), "w": words,
            }),
            Record::Done { key } => json!({ "t": "done", "k": format!("{key:016x}") }),
            Record::Progress(p) => json!({
                "t": "progress",
                "n": [p.files_done, p.files_total, p.bytes_done, p.bytes_total, p.failed],
            }),
            Record::End { outcome, at } => json!({ "t": "end", "outcome": outcome, "at": at }),
        }
    }

    fn from_json(v: &Value) -> Option<Self> {
        let key = || u64::from_str_radix(v.get("k")?.as_str()?, 16).ok();
        let n = || v.get("n")?.as_u64();
        let several = || -> Option<Vec<u64>> {
            v.get("n")?.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()
        };
        let at = || v.get("at")?.as_u64();
        let text = |name: &str| v.get(name)?.as_str().map(str::to_owned);
        Some(match v.get("t")?.as_str()? {
            "job" => Record::Job(v.get("spec")?.clone()),
            "begin" => Record::Begin {
                pid: u32::try_from(v.get("pid")?.as_u64()?).ok()?,
                boot: text("boot")?,
                at: at()?,
            },
            "open" => Record::Open { key: key()?, size: n()? },
            "at" => Record::At { key: key()?, offset: n()? },
            "segment" => {
                let n = several()?;
                let [begin, end, known] = *n.as_slice() else { return None };
                Record::Segment { key: key()?, segment: Segment { begin, end, known } }
            }
            "upload" => Record::Upload { key: key()?, to: path_of(v.get("to")?)?, words: text("w") },
            "done" => Record::Done { key: key()? },
            "progress" => {
                let n = several()?;
                let [files_done, files_total, bytes_done, bytes_total, failed] = *n.as_slice() else {
                    return None;
                };
                Record::Progress(Tally { files_done, files_total, bytes_done, bytes_total, failed })
            }
            "end" => Record::End { outcome: text("outcome")?, at: at()? },
            _ => return None,
        })
    }

    /// Its line, with the end of line.
    pub(super) fn line(&self) -> Vec<u8> {
        let text = self.to_json().to_string();
        format!("{VERSION} {} {text}\n", sum(text.as_bytes())).into_bytes()
    }

    /// A line without its end; `None` for one that is damaged.
    fn parse(line: &[u8]) -> Result<Option<Self>> {
        let mut parts = line.splitn(3, |b| *b == b' ');
        let (Some(version), Some(sum_of), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(None);
        };
        if sum_of != sum(text).as_bytes() {
            return Ok(None);
        }
        if version != VERSION.as_bytes() {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("the journal was written by another version of this program"));
        }
        Ok(serde_json::from_slice(text).ok().and_then(|v| Self::from_json(&v)))
    }
}

/// What a journal amounts to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) spec: Option<Value>,
    /// Who had it last, in which run of the machine, since when.
    pub(crate) begin: Option<(u32, String, u64)>,
    pub(crate) done: HashSet<u64>,
    /// More were done than are remembered.
    pub(crate) overflow: bool,
    /// Files with a temporary file: their size, and what the target has.
    pub(crate) open: HashMap<u64, (u64, u64)>,
    /// The segments of those that have some, by where they begin.
    pub(crate) segments: HashMap<u64, BTreeMap<u64, Segment>>,
    /// Unfinished uploads that targets keep: where they go, and their words.
    pub(crate) uploads: BTreeMap<u64, (VPath, Arc<str>)>,
    pub(crate) tally: Tally,
    pub(crate) end: Option<(String, u64)>,
}

impl State {
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Job(spec) => self.spec = Some(spec.clone()),
            Record::Begin { pid, boot, at } => {
                self.begin = Some((*pid, boot.clone(), *at));
                self.end = None;
            }
            Record::Open { key, size } => {
                self.open.entry(*key).or_insert((*size, 0));
            }
            Record::At { key, offset } => {
                if let Some(open) = self.open.get_mut(key) {
                    open.1 = *offset;
                }
            }
            Record::Segment { key, segment } => {
                // Segments of an open file, and not more than a file can have: what overlaps is of another
                // plan.
                if self.open.contains_key(key) {
                    let all = self.segments.entry(*key).or_default();
                    all.retain(|_, s| s.end <= segment.begin || s.begin >= segment.end);
                    all.insert(segment.begin, *segment);
                }
            }
            Record::Upload { key, to, words: Some(words) } => {
                self.uploads.insert(*key, (to.clone(), words.as_str().into()));
            }
            Record::Upload { key, words: None, .. } => {
                self.uploads.remove(key);
            }
            Record::Done { key } => {
                self.open.remove(key);
                self.segments.remove(key);
                self.uploads.remove(key);
                if self.done.len() < MOST_DONE {
                    self.done.insert(*key);
                } else {
                    self.overflow = true;
                }
            }
            Record::Progress(tally) => self.tally = *tally,
            Record::End { outcome, at } => self.end = Some((outcome.clone(), *at)),
        }
    }

    /// Reads records up to the end or the first damage, and gives how many bytes were good. Errors: a
    /// version that is not known.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, usize)> {
        let mut state = State::default();
        let mut good = 0;
        while let Some(rest) = bytes.get(good..)
            && let Some(end) = rest.iter().take(LONGEST).position(|b| *b == b'\n')
            && let Some(line) = rest.get(..end)
        {
            let Some(record) = Record::parse(line)? else { break };
            state.apply(&record);
            good += end + 1;
        }
        Ok((state, good))
    }

    /// The shortest journal that amounts to this.
    pub(super) fn lines(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut add = |record: Record| out.extend_from_slice(&record.line());
        if let Some(spec) = &self.spec {
            add(Record::Job(spec.clone()));
        }
        if let Some((pid, boot, at)) = &self.begin {
            add(Record::Begin { pid: *pid, boot: boot.clone(), at: *at });
        }
        for key in &self.done {
            add(Record::Done { key: *key });
        }
        for (key, (size, offset)) in self.open.iter().collect::<BTreeMap<_, _>>() {
            add(Record::Open { key: *key, size: *size });
            add(Record::At { key: *key, offset: *offset });
            for segment in self.segments.get(key).into_iter().flat_map(BTreeMap::values) {
                add(Record::Segment { key: *key, segment: *segment });
            }
        }
        for (key, (to, words)) in &self.uploads {
            add(Record::Upload { key: *key, to: to.clone(), words: Some(words.to_string()) });
        }
        add(Record::Progress(self.tally));
        if let Some((outcome, at)) = &self.end {
            add(Record::End { outcome: outcome.clone(), at: *at });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(to: &str) -> VPath {
        VPath::absolute(to).unwrap()
    }

    fn all() -> Vec<Record> {
        vec![
            Record::Job(json!({ "a": "ü" })),
            Record::Begin { pid: 7, boot: "b".into(), at: 1 },
            Record::Open { key: u64::MAX, size: 9 },
            Record::At { key: u64::MAX, offset: 4 },
            Record::Segment { key: u64::MAX, segment: Segment { begin: 0, end: 5, known: 2 } },
            Record::Segment { key: u64::MAX, segment: Segment { begin: 5, end: 9, known: 5 } },
            Record::Segment { key: u64::MAX, segment: Segment { begin: 0, end: 5, known: 4 } },
            Record::Upload { key: 3, to: upload("/b/\u{e4}"), words: Some("1 x y".into()) },
            Record::Upload { key: 4, to: upload("/b/c"), words: Some("1 x z".into()) },
            Record::Upload { key: 5, to: upload("/b/d"), words: Some("1 x".into()) },
            Record::Upload { key: 5, to: upload("/b/d"), words: None },
            Record::Done { key: 3 },
            Record::Progress(Tally {
                files_done: 1,
                files_total: 2,
                bytes_done: 3,
                bytes_total: 4,
                failed: 5,
            }),
            Record::End { outcome: "done".into(), at: 2 },
        ]
    }

    #[test]
    fn a_journal_cut_anywhere_is_what_its_whole_records_say() {
        let lines: Vec<Vec<u8>> = all().iter().map(Record::line).collect();
        let whole = lines.concat();
        for cut in 0..=whole.len() {
            let (state, good) = State::read(&whole[..cut]).unwrap();
            let mut expected = State::default();
            let mut at = 0;
            for (record, line) in all().iter().zip(&lines) {
                if at + line.len() > cut {
                    break;
                }
                at += line.len();
                expected.apply(record);
            }
            assert_eq!((good, state), (at, expected), "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_ends_it_there() {
        let whole: Vec<u8> = all().iter().flat_map(Record::line).collect();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            match State::read(&bad) {
                Ok((_, good)) => assert!(good <= at, "byte {at}"),
                // The version alone is not under the sum: a good record of a version that is not known.
                Err(e) => assert_eq!((e.kind(), bad[at + 1]), (ErrorKind::Unsupported, b' ')),
            }
        }
    }

    #[test]
    fn the_short_form_amounts_to_the_same() {
        let mut state = State::default();
        all().iter().for_each(|r| state.apply(r));
        assert_eq!(State::read(&state.lines()).unwrap().0, state);
    }
}
