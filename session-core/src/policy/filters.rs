//! `Filters`: names that an account may not use, by pattern, below a directory.
//!
//! The most specific directory's filter decides about each segment of a path, files and directories alike,
//! so nothing below a refused directory is reached either. A name that `allow` matches is let through; else
//! one that `deny` matches is refused; else one is refused if `allow` holds anything at all. Refused names
//! may be hidden too: they are not listed, and what asks for them finds nothing; making them is refused
//! in words all the same. Patterns are the shell's (`*`, `?`, `[a-z]`, `[!a]`, `\` before a character), over
//! whole names, upper and lower case alike. Paths are judged as resolved: the gate asks again behind links.

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::intercept::{Cx, Interceptor, Visibility};
use crate::metadata::DirEntry;
use crate::operation::{Operation, OperationKind, OperationSet};
use crate::path::VPath;
use crate::reason::Reason;

/// The longest pattern, characters.
const LONGEST: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Any,
    Char(char),
    /// Ranges of characters, and whether those in it are meant or the others.
    Class(Vec<(char, char)>, bool),
    One,
}

/// A pattern over a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

impl Pattern {
    /// Reads a pattern. The error says what is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        if text.is_empty() || text.contains('/') {
            return Err("a pattern is about one name: it is not empty and holds no '/'");
        }
        let lower = text.to_lowercase();
        if lower.chars().count() > LONGEST {
            return Err("a pattern has at most 255 characters");
        }
        let mut chars = lower.chars().peekable();
        let mut parts = Vec::new();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Char(chars.next().ok_or("a pattern does not end with '\\'")?),
                '[' => {
                    let inside = chars.next_if(|c| *c == '!' || *c == '^').is_none();
                    let mut ranges = Vec::new();
                    loop {
                        let mut from = chars.next().ok_or("a '[' needs its ']'")?;
                        if from == ']' && !ranges.is_empty() {
                            break;
                        }
                        if from == '\\' {
                            from = chars.next().ok_or("a '[' needs its ']'")?;
                        }
                        let mut to = from;
                        if chars.next_if_eq(&'-').is_some() {
                            match chars.next().ok_or("a '[' needs its ']'")? {
                                // A '-' at the end means itself.
                                ']' => {
                                    ranges.extend([(from, from), ('-', '-')]);
                                    break;
                                }
                                c => to = c,
                            }
                        }
                        if to < from {
                            return Err("a range in a pattern runs upwards");
                        }
                        ranges.push((from, to));
                    }
                    Part::Class(ranges, inside)
                }
                c => Part::Char(c),
            });
        }
        parts.dedup_by(|a, b| *a == Part::Any && *b == Part::Any);
        Ok(Pattern(parts))
    }

    /// Whether the whole of `name` is what it says. The time is bounded by the product of both lengths.
    pub fn matches(&self, name: &[u8]) -> bool {
        let name: Vec<char> = String::from_utf8_lossy(name).to_lowercase().chars().collect();
        let (mut p, mut n) = (0, 0);
        // Where the last star stands, and how much it has taken.
        let mut star: Option<(usize, usize)> = None;
        loop {
            let fits = match (self.0.get(p), name.get(n)) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    star = Some((p, n));
                    p += 1;
                    continue;
                }
                (Some(Part::One), Some(_)) => true,
                (Some(Part::Char(c)), Some(is)) => c == is,
                (Some(Part::Class(ranges, inside)), Some(is)) => {
                    ranges.iter().any(|(from, to)| (from..=to).contains(&is)) == *inside
                }
                _ => false,
            };
            if fits {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            // The star takes one more.
            match &mut star {
                Some((at, taken)) if *taken < name.len() => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                _ => return false,
            }
        }
    }
}

/// What names may be used below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The directory; its own name is judged by the filter above it.
    pub path: VPath,
    /// Names that are let through; if there are any, others are not.
    pub allow: Vec<Pattern>,
    /// Names that are refused.
    pub deny: Vec<Pattern>,
    /// Whether refused names are not seen either.
    pub hide: bool,
}

impl Filter {
    fn refuses(&self, name: &[u8]) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches(name));
        !any(&self.allow) && (any(&self.deny) || !self.allow.is_empty())
    }
}

/// The interceptor.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// The longest path first, so that the first match is the most specific.
    filters: Vec<Filter>,
}

impl Filters {
    /// With these filters.
    pub fn new(mut filters: Vec<Filter>) -> Self {
        filters.sort_by_key(|f| std::cmp::Reverse(f.path.depth()));
        Filters { filters }
    }

    fn of(&self, dir: &VPath) -> Option<&Filter> {
        self.filters.iter().find(|f| dir.starts_with(&f.path))
    }

    /// The filter that refuses a segment of `path`, the first one from the root.
    fn refusing(&self, path: &VPath) -> Option<&Filter> {
        let mut found = None;
        let mut here = path.clone();
        while let Some(dir) = here.parent() {
            found = self.of(&dir).filter(|f| f.refuses(here.name())).or(found);
            here = dir;
        }
        found
    }

    fn check(&self, path: &VPath, makes: bool) -> Result<()> {
        match self.refusing(path) {
            None => Ok(()),
            Some(f) if f.hide && !makes => Err(Error::new(ErrorKind::NotFound).because(Reason::HiddenName)),
            Some(_) => Err(Error::refused("permission denied: this name is not allowed here")
                .because(Reason::DeniedPattern)),
        }
    }
}

#[async_trait]
impl Interceptor for Filters {
    fn interests(&self) -> OperationSet {
        OperationSet::without_chunks()
            .except(OperationKind::Abort)
            .except(OperationKind::Commit)
            .except(OperationKind::Park)
            .except(OperationKind::Sync)
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<()> {
        let makes = match &operation {
            Operation::Open(r) => r.options.create,
            Operation::CreateDir(_) | Operation::Symlink(_) => true,
            _ => false,
        };
        let record = operation.to_record();
        let kind = record.kind();
        self.check(record.path(), makes)?;
        match record.target() {
            // What is made is the target.
            Some(target) => self.check(target, true).map_err(|e| e.at(kind, Some(target))),
            None => Ok(()),
        }
    }

    fn entry(&self, _: &Cx<'_>, dir: &VPath, entry: &mut DirEntry) -> Visibility {
        match self.of(dir) {
            Some(f) if f.hide && f.refuses(&entry.name) => Visibility::Hide,
            _ => Visibility::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn patterns_are_the_shells() {
        for (pattern, yes, no) in [
            ("*.exe", &["a.exe", ".EXE", "a.b.Exe"][..], &["a.exe.txt", "exe"][..]),
            ("a?c", &["abc", "AéC"], &["ac", "abbc"]),
            ("*", &["", "x"], &[]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
            ("[a-c]x", &["ax", "Cx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax"]),
            ("[]x]y", &["]y", "xy"], &["y"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("\\*", &["*"], &["a"]),
            ("ÄÖ*", &["äöü"], &["aou"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
        for bad in ["", "a/b", "[a", "[", "x\\", "[z-a]", &"x".repeat(256)] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        // No explosion of stars.
        let hard = "*a".repeat(100);
        assert!(!matches(&hard, &"a".repeat(99)) && matches(&hard, &"a".repeat(100)));
    }

    fn filter(path: &str, allow: &[&str], deny: &[&str], hide: bool) -> Filter {
        let of = |list: &[&str]| list.iter().map(|p| Pattern::parse(p).unwrap()).collect();
        Filter { path: VPath::absolute(path).unwrap(), allow: of(allow), deny: of(deny), hide }
    }

    #[test]
    fn the_nearest_directory_decides_and_every_segment_counts() {
        let filters = Filters::new(vec![
            filter("/", &[], &["*.exe", "secret"], false),
            filter("/in", &["*.txt", "sub"], &["bad*"], true),
        ]);
        let kind =
            |path: &str, makes| filters.check(&VPath::absolute(path).unwrap(), makes).err().map(|e| e.kind());
        assert_eq!(kind("/a.EXE", false), Some(ErrorKind::Refused));
        assert_eq!(kind("/a.txt", false), None);
        assert_eq!(kind("/secret/x/y", false), Some(ErrorKind::Refused));
        assert_eq!(kind("/", false), None);
        assert_eq!(kind("/in", false), None);
        assert_eq!(kind("/in/a.txt", false), None);
        assert_eq!(kind("/in/a.doc", false), Some(ErrorKind::NotFound));
        assert_eq!(kind("/in/a.doc", true), Some(ErrorKind::Refused));
        assert_eq!(kind("/in/bad.txt", false), None, "allowed is allowed");
        assert_eq!(kind("/in/sub/x.txt", false), None);
        assert_eq!(kind("/in/x.exe", false), Some(ErrorKind::NotFound), "the filter above does not count");
    }
}
