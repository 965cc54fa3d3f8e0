//! How a batch works: the options of a transfer and what selects the entries that take part.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::names::InvalidChars;
use super::{Timetable, Verify};
use crate::fs::Algorithm;
use crate::metadata::Metadata;
use crate::path::VPath;

/// What a file that exists at the target means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Ask the decider; unattended: as `Never`.
    Ask,
    /// Replace it.
    #[default]
    Always,
    /// Replace it if the source is newer.
    Newer,
    /// Leave it; the item is skipped.
    Never,
    /// Where it is smaller than the source, send what it lacks, under its own name and without a look at
    /// what it holds; else replace it (WinSCP's `OverwriteMode.Resume`). A target that cannot be continued
    /// is written anew.
    Continue,
    /// Add the whole source to its end (WinSCP's `OverwriteMode.Append`). `Unsupported` where the target
    /// has no appending.
    Append,
}

impl Overwrite {
    /// Every value, for what is written down and read back.
    pub const ALL: [Overwrite; 6] = [
        Overwrite::Ask,
        Overwrite::Always,
        Overwrite::Newer,
        Overwrite::Never,
        Overwrite::Continue,
        Overwrite::Append,
    ];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Overwrite::Ask => "ask",
            Overwrite::Always => "always",
            Overwrite::Newer => "newer",
            Overwrite::Never => "never",
            Overwrite::Continue => "resume",
            Overwrite::Append => "append",
        }
    }
}

/// Whether an interrupted file is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Resume {
    /// Continue what a temporary file holds, if it looks like a beginning of the source.
    #[default]
    Auto,
    /// The same, once the decider has said so ([`Query::Resume`](super::Query::Resume)). What this very job began is
    /// continued without asking.
    Ask,
    /// Start anew.
    Off,
}

/// What becomes of names on their way to the target (WinSCP's `FileNameCase`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NameCase {
    /// Nothing.
    #[default]
    Keep,
    /// Upper case.
    Upper,
    /// Lower case.
    Lower,
    /// The first letter in upper case, the others in lower case.
    FirstUpper,
    /// Lower case for names of at most twelve characters that are all upper case (8.3).
    LowerShort,
}

impl NameCase {
    /// Every value.
    pub const ALL: [NameCase; 5] =
        [NameCase::Keep, NameCase::Upper, NameCase::Lower, NameCase::FirstUpper, NameCase::LowerShort];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            NameCase::Keep => "keep",
            NameCase::Upper => "upper",
            NameCase::Lower => "lower",
            NameCase::FirstUpper => "first-upper",
            NameCase::LowerShort => "lower-short",
        }
    }

    /// `name` as it is called at the target. What is not UTF-8 has no case and stays.
    pub fn apply(self, name: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(name) else { return name.to_vec() };
        let changed = match self {
            NameCase::Keep => return name.to_vec(),
            NameCase::Upper => text.to_uppercase(),
            NameCase::Lower => text.to_lowercase(),
            NameCase::FirstUpper => {
                let mut letters = text.chars();
                let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
                first + &letters.as_str().to_lowercase()
            }
            NameCase::LowerShort if text.chars().count() <= 12 && text.to_uppercase() == text => {
                text.to_lowercase()
            }
            NameCase::LowerShort => return name.to_vec(),
        };
        changed.into_bytes()
    }
}

/// An entry that may take part.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its path at the source.
    pub path: &'a VPath,
    /// The source that was named and under which it was found; the entry itself where it was named.
    pub root: &'a VPath,
    /// What it is.
    pub metadata: &'a Metadata,
}

/// Says which entries take part. A directory that does not is not entered. Must not wait.
pub trait Select: Send + Sync {
    /// Whether this one does.
    fn takes(&self, candidate: &Candidate<'_>) -> bool;
}

impl<F: Fn(&Candidate<'_>) -> bool + Send + Sync> Select for F {
    fn takes(&self, candidate: &Candidate<'_>) -> bool {
        self(candidate)
    }
}

/// A selection that is shared. Cheap to clone.
#[derive(Clone)]
pub struct Selection(pub Arc<dyn Select>);

impl Selection {
    /// Wraps a predicate.
    pub fn new(select: impl Select + 'static) -> Self {
        Selection(Arc::new(select))
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selection(…)")
    }
}

/// How a batch works.
#[derive(Clone, Debug)]
pub struct TransferOptions {
    /// Existing targets.
    pub overwrite: Overwrite,
    /// Interrupted files.
    pub resume: Resume,
    /// Set the source's modification time on files at the target.
    pub preserve_times: bool,
    /// Set the source's modification time on directories, too, when their content is complete.
    pub directory_times: bool,
    /// Set the source's permission bits on the target.
    pub preserve_modes: bool,
    /// Set these permission bits on files, instead of the source's.
    pub permissions: Option<u32>,
    /// Directories get `permissions`, too, with the right to enter wherever there is the right to read.
    pub add_x_to_directories: bool,
    /// A target that sets neither times nor permission bits is no failure.
    pub ignore_attribute_errors: bool,
    /// Write to a temporary name and rename when complete, where the target does not stage by itself.
    pub temporary_names: bool,
    /// Files of at least this many bytes: smaller ones are written under their own name, since a rename
    /// would cost more than it protects. WinSCP's threshold is the same, 100 KiB.
    pub temporary_from: u64,
    /// Go into directories.
    pub recursive: bool,
    /// Go into directories to which symbolic links lead, below the name that was given. A link that leads back to a
    /// directory on the way to it is left.
    pub follow_links: bool,
    /// Leave names that begin with a dot.
    pub exclude_hidden: bool,
    /// Leave directories out under which no file takes part.
    pub exclude_empty_directories: bool,
    /// What becomes of names below the one that was given.
    pub name_case: NameCase,
    /// Characters that names on a disk here shall not have, below the name that was given: replaced in what is fetched,
    /// put back in what is sent.
    pub invalid_chars: Option<InvalidChars>,
    /// A file that nobody may write at its source is read-only here, where permission bits are not kept otherwise.
    pub preserve_read_only: bool,
    /// Take the byte order mark of UTF-8 away from texts that are sent.
    pub remove_bom: bool,
    /// Take one `^Z` at the end away from texts that are sent.
    pub remove_ctrl_z: bool,
    /// What takes part; everything where nothing is said.
    pub selection: Option<Selection>,
    /// Which files are text, whose lines end as each side likes, where a side can do that
    /// ([`Capabilities::text`](crate::capability::Capabilities::text)); everything is moved as it is where
    /// nothing is said. The file itself stands for the root of its candidate. A text is never continued, and
    /// neither sizes nor digests of the two sides say anything of each other.
    pub text: Option<Selection>,
    /// How many files at once.
    pub parallel: usize,
    /// In how many segments at once a large file goes, at most; one or none: in one piece.
    pub segments: usize,
    /// Bytes that a segment has at least.
    pub segment_size: u64,
    /// Bytes per second for the batch as a whole; 0 is no limit.
    pub limit: u64,
    /// The same by the time of the week, in the zone of this machine; instead of `limit`.
    pub timetable: Option<Timetable>,
    /// Stop at the first failure.
    pub fail_fast: bool,
    /// How hard to look at what was moved.
    pub verify: Verify,
    /// A digest that each receipt shall have, whatever is verified.
    pub digest: Option<Algorithm>,
    /// Whether the report lists every item and receipt, some hundred bytes for each. An observer gets
    /// them in any case.
    pub details: bool,
    /// How long a lost connection is waited for; begins anew whenever bytes have moved. Zero: not at all.
    /// Of effect where the remote is opened so that it connects again.
    pub reconnect: Duration,
}

impl Default for TransferOptions {
    fn default() -> Self {
        TransferOptions {
            overwrite: Overwrite::default(),
            resume: Resume::default(),
            preserve_times: true,
            directory_times: true,
            preserve_modes: true,
            permissions: None,
            add_x_to_directories: true,
            ignore_attribute_errors: false,
            temporary_names: true,
            temporary_from: 100 << 10,
            recursive: false,
            follow_links: false,
            exclude_hidden: false,
            exclude_empty_directories: false,
            invalid_chars: None,
            preserve_read_only: false,
            remove_bom: false,
            remove_ctrl_z: false,
            name_case: NameCase::default(),
            selection: None,
            text: None,
            parallel: 8,
            segments: 1,
            segment_size: 32 << 20,
            limit: 0,
            timetable: None,
            fail_fast: false,
            verify: Verify::default(),
            digest: None,
            details: true,
            reconnect: Duration::from_secs(120),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_of_names() {
        let all = |name: &str| {
            NameCase::ALL.map(|case| String::from_utf8(case.apply(name.as_bytes())).unwrap()).join(" ")
        };
        assert_eq!(all("READ.ME"), "READ.ME READ.ME read.me Read.me read.me");
        assert_eq!(all("Read.Me"), "Read.Me READ.ME read.me Read.me Read.Me");
        assert_eq!(
            all("VERY-LONG-NAME"),
            "VERY-LONG-NAME VERY-LONG-NAME very-long-name Very-long-name VERY-LONG-NAME"
        );
        assert_eq!(all("ärger"), "ärger ÄRGER ärger Ärger ärger");
        assert_eq!(NameCase::Upper.apply(b"a\xff"), b"a\xff");
    }
}
