//! `Fault`: what is wrong in a configuration, with its place; and the search for places.
//!
//! Places come from the parsed document, by the path of keys, so that a fault found after parsing (two
//! users of one name) has its line too.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which file.
    pub file: PathBuf,
    /// Line and column from 1, where they are known; the column counts characters.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub words: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    /// `file:line:column: words`, the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.words)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

pub(super) fn steps(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path as P;
    match path {
        P::Root => Vec::new(),
        P::Seq { parent, index } => {
            let mut s = steps(parent);
            s.push(Step::Index(*index));
            s
        }
        P::Map { parent, key } => {
            let mut s = steps(parent);
            s.push(Step::Key(key.clone()));
            s
        }
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => steps(parent),
    }
}

/// A text being read, for what needs its places.
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    /// Where the tables are that steps begin from.
    within: Vec<Step>,
    /// Faults name their keys: nobody sees lines of this text.
    unseen: bool,
}

impl<'a> Source<'a> {
    /// The text of a file.
    pub(super) fn of(file: &'a Path, text: &'a str) -> Self {
        Source { file, text, within: Vec::new(), unseen: false }
    }

    /// A text that was made of what stands elsewhere.
    pub(super) fn unseen(text: &'a str) -> Self {
        Source { unseen: true, ..Source::of(Path::new(""), text) }
    }
}

impl Source<'_> {
    /// The same text, with steps from this table on.
    pub(super) fn below(&self, steps: &[Step]) -> Source<'_> {
        Source {
            file: self.file,
            text: self.text,
            within: [&self.within, steps].concat(),
            unseen: self.unseen,
        }
    }

    /// Whether the text has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.has_at(&[Step::Key(key.into())])
    }

    /// Whether the text has what `steps` lead to.
    pub(super) fn has_at(&self, steps: &[Step]) -> bool {
        find(self.text, &[&self.within[..], steps].concat()).is_some()
    }

    /// The keys of each table of an array of tables, in order.
    pub(super) fn keys_of_each(&self, array: &str) -> Vec<HashSet<String>> {
        let Ok(document) = DeTable::parse(self.text) else { return Vec::new() };
        let steps = [&self.within[..], &[Step::Key(array.into())]].concat();
        let Some((_, DeValue::Array(tables))) = walk(document.get_ref(), &steps) else { return Vec::new() };
        let keys = |table: &DeTable<'_>| table.keys().map(|k| k.get_ref().to_string()).collect();
        let keys = |t: &Spanned<DeValue<'_>>| t.get_ref().as_table().map(keys).unwrap_or_default();
        tables.iter().map(keys).collect()
    }

    pub(super) fn fault(&self, span: Option<Range<usize>>, words: impl Into<String>) -> Fault {
        let place = span.map(|s| self.place(s.start));
        Fault { file: self.file.to_path_buf(), place, words: words.into(), hint: None }
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    /// A fault at the key or element that `steps` lead to, or as near to it as they go.
    pub(super) fn fault_at(&self, steps: &[Step], words: impl Into<String>) -> Fault {
        if self.unseen {
            return self.fault(None, format!("{}: {}", written(steps), words.into()));
        }
        self.fault(find(self.text, &[&self.within, steps].concat()), words)
    }
}

/// `listeners[1].port`; elements are counted from 0, as in JSON.
fn written(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => out.extend([".", key]),
            Step::Index(n) => out.push_str(&format!("[{n}]")),
        }
    }
    out
}

fn find(text: &str, steps: &[Step]) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    walk(document.get_ref(), steps).map(|(span, _)| span)
}

fn walk<'a, 'i>(table: &'a DeTable<'i>, steps: &[Step]) -> Option<(Range<usize>, &'a DeValue<'i>)> {
    let mut found = None;
    let mut here: Option<&DeValue<'_>> = None;
    for step in steps {
        let (span, next) = match (step, here) {
            (Step::Key(k), None) => entry(table, k),
            (Step::Key(k), Some(DeValue::Table(t))) => entry(t, k),
            (Step::Index(i), Some(DeValue::Array(a))) => a.get(*i).map(|v| (v.span(), v.get_ref())),
            _ => None,
        }?;
        found = Some((span, next));
        here = Some(next);
    }
    found
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<(Range<usize>, &'a DeValue<'i>)> {
    let named = |k: &Spanned<std::borrow::Cow<'_, str>>| k.get_ref().as_ref() == key;
    table.iter().find(|(k, _)| named(k)).map(|(k, v)| (k.span(), v.get_ref()))
}

/// The known word nearest to `word`, if it is near.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known.iter().map(|k| (distance(word, k), *k)).filter(|(d, _)| *d <= limit).min().map(|(_, k)| k)
}

/// Insertions, removals and changes between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (pair, cb) in row.windows(2).zip(&b) {
            let (diagonal, up) = match pair {
                [d, u] => (*d, *u),
                _ => (0, 0),
            };
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(ca != *cb)).min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
