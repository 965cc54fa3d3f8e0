//! Masks: which files an operation takes ([`FileMask`]) and how their copies are called
//! ([`OperationMask`]).
//!
//! The grammar is WinSCP's: `include;include|exclude;exclude`, `*`, `?`, sets, path masks, directory masks
//! with a slash at the end, bounds of size and time. Matching ignores case and takes at most the product
//! of mask and name in steps. Relative times are fixed when a mask is parsed; what runs for days parses
//! anew.
//!
//! A mask that includes only directories below a folder does not include that folder: what is not entered
//! is not searched. An entry whose size or time is not known lies within no bounds.
//!
//! [`Wildcard`] is one pattern alone, for names in arguments. [`Filter`] is for those who prefer the lines of a
//! `.gitignore`. Not here: masks that tell case apart.

mod bounds;
mod filter;
mod operation;
mod pattern;
#[cfg(test)]
mod tests;
mod wildcard;

use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use jiff::Zoned;
use session_core::batch::{Candidate, Selection};
use session_core::error::{Error, ErrorKind};
use session_core::metadata::Metadata;
use session_core::path::{VPath, display_bytes};

pub use bounds::{Bounds, moment};
pub use filter::Filter;
pub use operation::OperationMask;
use pattern::{Element, Pattern, Token, blank, tokens};
pub use wildcard::Wildcard;

/// What is text where nothing else is said: WinSCP's own list.
pub const TEXTS: &str = "*.*html; *.htm; *.txt; *.php; *.php3; *.cgi; *.c; *.cpp; *.h; *.pas; *.bas; *.tex; \
                         *.pl; *.js; .htaccess; *.xtml; *.css; *.cfg; *.ini; *.sh; *.xml";

/// The longest mask, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// Why a text is no mask, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskError {
    /// The whole text.
    pub text: String,
    /// Where it is wrong, in bytes of the text.
    pub at: Range<usize>,
    /// What is wrong.
    pub why: &'static str,
}

impl MaskError {
    fn new(at: Range<usize>, why: &'static str) -> Self {
        MaskError { text: String::new(), at, why }
    }

    fn of(mut self, text: &str) -> Self {
        self.text = text.to_string();
        self
    }
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.text.get(..self.at.start).unwrap_or_default().chars().count() + 1;
        write!(f, "'{}' is not a mask: ", display_bytes(self.text.as_bytes()))?;
        match self.text.get(self.at.clone()) {
            Some(wrong) if !wrong.is_empty() => {
                write!(f, "{}, at character {column}: '{}'", self.why, display_bytes(wrong.as_bytes()))
            }
            _ => write!(f, "{}, at character {column}", self.why),
        }
    }
}

impl std::error::Error for MaskError {}

impl From<MaskError> for Error {
    fn from(e: MaskError) -> Self {
        Error::new(ErrorKind::InvalidArgument).with_detail(e.to_string())
    }
}

/// An entry as a mask sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The directory that holds it: absolute, no slash at the end (the root itself is `/`).
    pub parent: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
    /// The root of the operation on this side, where `./` begins.
    pub root: &'a VPath,
    /// It is a directory. A link is not, whatever it points to.
    pub directory: bool,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// When it was last changed.
    pub modified: Option<SystemTime>,
}

impl<'a> Subject<'a> {
    /// The entry at `path`.
    pub fn new(path: &'a VPath, root: &'a VPath, metadata: &Metadata) -> Self {
        let (parent, name) = split_last(path.as_bytes());
        Self::entry(parent, name, root, metadata)
    }

    /// The entry called `name` in `dir`.
    pub fn inside(dir: &'a VPath, name: &'a [u8], root: &'a VPath, metadata: &Metadata) -> Self {
        Self::entry(dir.as_bytes(), name, root, metadata)
    }

    fn entry(parent: &'a [u8], name: &'a [u8], root: &'a VPath, metadata: &Metadata) -> Self {
        let directory = metadata.is_dir();
        let size = metadata.is_file().then_some(metadata.size);
        Subject { parent, name, root, directory, size, modified: metadata.modified }
    }
}

/// `/a/b` as `/a` and `b`; `/a` as `/` and `a`.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => (b"/", path.get(1..).unwrap_or_default()),
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"/", path),
    }
}

/// Which names a part takes.
#[derive(Clone, Debug, PartialEq)]
enum Name {
    /// `*`, `*.*` or nothing.
    Any,
    /// `*.`: without a dot.
    NoDot,
    /// Others.
    Like(Pattern),
}

impl Name {
    fn takes(&self, name: &[u8]) -> bool {
        match self {
            Name::Any => true,
            Name::NoDot => !name.contains(&b'.'),
            Name::Like(pattern) => pattern.matches(name),
        }
    }
}

/// Which parent directories a part takes.
#[derive(Clone, Debug, PartialEq)]
enum Parent {
    /// By their whole path.
    Absolute(Pattern),
    /// By their path below the root of the operation, which is empty or begins with a slash.
    Below(Pattern),
}

/// One part between separators.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    parent: Option<Parent>,
    name: Name,
    bounds: Bounds,
}

/// The parts on one side of the bar, by what they judge.
#[derive(Clone, Debug, Default, PartialEq)]
struct Parts {
    files: Vec<Part>,
    directories: Vec<Part>,
}

/// Which files and directories an operation takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileMask {
    include: Parts,
    exclude: Parts,
}

impl FileMask {
    /// The mask that takes everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether it takes everything.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Parses a mask; relative times are reckoned from now, all times are local ones.
    pub fn parse(text: &str) -> Result<Self, MaskError> {
        Self::parse_at(text, &Zoned::now())
    }

    /// Parses a mask at a moment and in a zone of the caller's.
    pub fn parse_at(text: &str, now: &Zoned) -> Result<Self, MaskError> {
        Self::read(text, now).map_err(|e| e.of(text))
    }

    fn read(text: &str, now: &Zoned) -> Result<Self, MaskError> {
        if text.len() > MAX_TEXT {
            return Err(MaskError::new(MAX_TEXT..MAX_TEXT, "it is too long"));
        }
        let tokens = tokens(text);
        let mut mask = FileMask::default();
        for (n, side) in tokens.split(|t| t.separates('|')).enumerate() {
            let parts = match n {
                0 => &mut mask.include,
                1 => &mut mask.exclude,
                _ => {
                    let second = tokens.iter().filter(|t| t.separates('|')).nth(1);
                    let at = second.map_or(0..0, |t| t.at..t.at + 1);
                    return Err(MaskError::new(at, "there is a second '|'"));
                }
            };
            for part in side.split(|t| t.separates(';') || t.separates(',')) {
                let part = trim(part);
                if !part.is_empty() {
                    let (part, directory) = Part::read(part, now)?;
                    if directory { parts.directories.push(part) } else { parts.files.push(part) }
                }
            }
        }
        Ok(mask)
    }

    /// Whether the entry is taken. Directories above it are not looked at, except by directory masks of
    /// the include side, which take everything below what they name.
    pub fn matches(&self, entry: &Subject<'_>) -> bool {
        let (include, exclude) = if entry.directory {
            (&self.include.directories, &self.exclude.directories)
        } else {
            (&self.include.files, &self.exclude.files)
        };
        if exclude.iter().any(|part| part.matches(entry)) {
            return false;
        }
        if include.is_empty() || include.iter().any(|part| part.matches(entry)) {
            return true;
        }
        let mut above = *entry;
        while entry.directory && above.parent != b"/" {
            (above.parent, above.name) = split_last(above.parent);
            if include.iter().any(|part| part.matches(&above)) {
                return true;
            }
        }
        false
    }

    /// The mask as a batch takes it; `./` in it is the directory that holds what was named.
    pub fn selection(self) -> Selection {
        Selection::new(move |c: &Candidate<'_>| {
            let root = c.root.parent().unwrap_or_else(VPath::root);
            self.matches(&Subject::new(c.path, &root, c.metadata))
        })
    }

    /// The last part of `path` with what means something in a mask taken literally (WinSCP's
    /// `EscapeFileMask`).
    pub fn escape(path: &str) -> String {
        let (dir, name) = path.split_at(path.rfind('/').map_or(0, |at| at + 1));
        let mut out = dir.to_string();
        for c in name.chars() {
            match c {
                '[' | '*' | '?' => out.extend(['[', c, ']']),
                '<' | '>' => out.extend([c, c]),
                _ => out.push(c),
            }
        }
        out
    }
}

fn trim(mut part: &[Token]) -> &[Token] {
    while let [first, rest @ ..] = part
        && blank(first.c)
    {
        part = rest;
    }
    while let [rest @ .., last] = part
        && blank(last.c)
    {
        part = rest;
    }
    part
}

/// The bytes of the text that `tokens` stand for.
fn span(tokens: &[Token]) -> Range<usize> {
    match tokens {
        [] => 0..0,
        [first, .., last] => first.at..last.end(),
        [only] => only.at..only.end(),
    }
}

impl Part {
    /// The part, and whether it judges directories.
    fn read(part: &[Token], now: &Zoned) -> Result<(Self, bool), MaskError> {
        let cut = part.iter().position(|t| t.separates('<') || t.separates('>')).unwrap_or(part.len());
        let (name, rest) = part.split_at(cut);
        let name = trim(name);
        let bounds = Bounds::read(rest, now)?;
        let mut elements = Pattern::elements(name)?;
        let directory = elements.last() == Some(&Element::Slash);
        while elements.last() == Some(&Element::Slash) {
            elements.pop();
        }
        if directory && elements.is_empty() {
            return Err(MaskError::new(span(name), "a directory mask needs a name"));
        }
        if directory && !bounds.is_empty() {
            return Err(MaskError::new(span(rest), "bounds of size and time are for files"));
        }
        let parent = elements.iter().rposition(|e| *e == Element::Slash).map(|at| {
            let last = elements.split_off(at + 1);
            let mut parent = std::mem::replace(&mut elements, last);
            if parent.len() > 1 {
                parent.pop();
            }
            match parent.as_slice() {
                [Element::Literal('.')] => Parent::Below(Pattern::default()),
                [Element::Literal('.'), Element::Slash, ..] => {
                    parent.remove(0);
                    Parent::Below(Pattern(parent))
                }
                _ => Parent::Absolute(Pattern(parent)),
            }
        });
        // By the text and not by its meaning: '*[.]' is a name that ends in a dot.
        let text: String = name.iter().map(|t| t.c).collect();
        let text = text.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
        let name = match text {
            "" | "*" | "*.*" => Name::Any,
            "*." => Name::NoDot,
            _ if elements == [Element::AnyRun] => Name::Any,
            _ => Name::Like(Pattern(elements)),
        };
        Ok((Part { parent, name, bounds }, directory))
    }

    fn matches(&self, entry: &Subject<'_>) -> bool {
        self.name.takes(entry.name)
            && self.bounds.hold(entry.size, entry.modified)
            && match &self.parent {
                None => true,
                Some(Parent::Absolute(pattern)) => pattern.matches(entry.parent),
                Some(Parent::Below(pattern)) => {
                    below(entry.parent, entry.root).is_some_and(|rest| pattern.matches(rest))
                }
            }
    }
}

/// `path` below `root`: empty, or beginning with a slash.
fn below<'a>(path: &'a [u8], root: &VPath) -> Option<&'a [u8]> {
    if root.is_root() {
        return Some(if path == b"/" { b"" } else { path });
    }
    let rest = path.strip_prefix(root.as_bytes())?;
    (rest.is_empty() || rest.first() == Some(&b'/')).then_some(rest)
}

impl fmt::Display for FileMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.include)?;
        if self.exclude != Parts::default() {
            let text = self.exclude.to_string();
            // A bar that is meant literally would be taken for the second half of a doubled one.
            let between = if text.starts_with('|') { "| " } else { "|" };
            write!(f, "{between}{text}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.iter().map(|p| (p, ""));
        let directories = self.directories.iter().map(|p| (p, "/"));
        for (n, (part, slash)) in files.chain(directories).enumerate() {
            let between = if n > 0 { "; " } else { "" };
            write!(f, "{between}{part}{slash}{}", part.bounds)?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    /// Parent and name; the bounds come after the slash of a directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parent {
            None => {}
            Some(Parent::Absolute(pattern)) if pattern.0 == [Element::Slash] => f.write_str("/")?,
            Some(Parent::Absolute(pattern)) => write!(f, "{}/", pattern.shown(true, false))?,
            Some(Parent::Below(pattern)) => write!(f, ".{}/", pattern.shown(false, false))?,
        }
        match &self.name {
            Name::Any => f.write_str("*"),
            Name::NoDot => f.write_str("*."),
            Name::Like(pattern) => match pattern.0.as_slice() {
                [Element::AnyRun, Element::Literal('.')] => f.write_str("*[.]"),
                [Element::AnyRun, Element::Literal('.'), Element::AnyRun] => f.write_str("*[.]*"),
                _ => f.write_str(&pattern.shown(self.parent.is_none(), true)),
            },
        }
    }
}
