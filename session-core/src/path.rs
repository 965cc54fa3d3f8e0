//! `VPath`, the virtual path.
//!
//! A `VPath` is absolute, normalised, made of bytes, and holds no `.`, no `..`, no empty segment and
//! no NUL. It is built only by parsing at a protocol's edge ([`VPath::parse`]) or by joining a checked
//! name; code deeper down cannot receive a bad path. It says nothing of what a store can hold: a name
//! too long for a store is that store's `InvalidPath`.
//!
//! Deliberately absent: a working directory (a protocol machine owns it), any idea of a real path,
//! and case folding.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;

use crate::error::{Error, ErrorKind, Result};

/// The longest path that [`VPath::parse`] accepts, in bytes (Linux's `PATH_MAX`).
pub const MAX_PATH: usize = 4096;

/// An absolute, normalised virtual path. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VPath(Arc<[u8]>);

impl VPath {
    /// The root, `/`.
    pub fn root() -> Self {
        VPath(Arc::from(&b"/"[..]))
    }

    /// Parses what a peer or a user sent, relative to `cwd` where it does not begin with a slash.
    ///
    /// `.` and empty segments vanish, `..` goes up and stays at the root (as in a `chroot`), a
    /// trailing slash means nothing. Errors: `InvalidPath` for a NUL byte or more than [`MAX_PATH`]
    /// bytes.
    pub fn parse(cwd: &VPath, raw: &[u8]) -> Result<Self> {
        if raw.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidPath).with_detail("the path holds a NUL byte"));
        }
        let mut out: Vec<u8> = if raw.first() == Some(&b'/') || cwd.is_root() {
            Vec::with_capacity(raw.len() + 1)
        } else {
            cwd.0.to_vec()
        };
        for segment in raw.split(|b| *b == b'/') {
            match segment {
                b"" | b"." => {}
                b".." => {
                    let up = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
                    out.truncate(up);
                }
                name => {
                    out.push(b'/');
                    out.extend_from_slice(name);
                }
            }
        }
        if out.len() > MAX_PATH {
            return Err(Error::new(ErrorKind::InvalidPath)
                .with_detail(format!("the path is longer than {MAX_PATH} bytes")));
        }
        if out.is_empty() {
            return Ok(Self::root());
        }
        Ok(VPath(out.into()))
    }

    /// Parses an absolute path, or one relative to the root.
    pub fn absolute(raw: impl AsRef<[u8]>) -> Result<Self> {
        Self::parse(&Self::root(), raw.as_ref())
    }

    /// The path of the entry called `name` below this directory.
    ///
    /// Errors: `InvalidPath` unless `name` is exactly one segment.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self> {
        let name = name.as_ref();
        check_name(name)?;
        let mut out = Vec::with_capacity(self.0.len() + name.len() + 1);
        if !self.is_root() {
            out.extend_from_slice(&self.0);
        }
        out.push(b'/');
        out.extend_from_slice(name);
        if out.len() > MAX_PATH {
            return Err(Error::new(ErrorKind::InvalidPath)
                .with_detail(format!("the path is longer than {MAX_PATH} bytes")));
        }
        Ok(VPath(out.into()))
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        if cut == 0 {
            return Some(Self::root());
        }
        self.0.get(..cut).map(|p| VPath(p.into()))
    }

    /// The last segment; empty for the root.
    pub fn name(&self) -> &[u8] {
        let cut = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.0.get(cut + 1..).unwrap_or_default()
    }

    /// The segments from the root down.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|s| !s.is_empty())
    }

    /// How many segments there are; 0 for the root.
    pub fn depth(&self) -> usize {
        self.segments().count()
    }

    /// Whether this path is `other` or lies below it.
    pub fn starts_with(&self, other: &VPath) -> bool {
        other.is_root()
            || self
                .0
                .strip_prefix(&*other.0)
                .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    }

    /// What follows `base`, without a leading slash; `None` where this path is not at or below it.
    pub fn strip(&self, base: &VPath) -> Option<&[u8]> {
        if !self.starts_with(base) {
            return None;
        }
        let skip = if base.is_root() { 1 } else { base.0.len() };
        let rest = self.0.get(skip..).unwrap_or_default();
        Some(rest.strip_prefix(b"/").unwrap_or(rest))
    }

    /// The path with `from` at its head replaced by `to`; `None` where it does not start with `from`.
    pub fn rebase(&self, from: &VPath, to: &VPath) -> Option<Self> {
        let rest = self.strip(from)?;
        let mut out = if to.is_root() { Vec::new() } else { to.0.to_vec() };
        if !rest.is_empty() {
            out.push(b'/');
            out.extend_from_slice(rest);
        }
        if out.is_empty() { Some(Self::root()) } else { Some(VPath(out.into())) }
    }

    /// The bytes, beginning with a slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for people: bytes that are not UTF-8 are shown as `\xNN`, control characters escaped.
    pub fn display(&self) -> String {
        display_bytes(&self.0)
    }

    /// The lossless text of a script: UTF-16 in which a byte that is not UTF-8 is a lone surrogate
    /// U+DC80–U+DCFF.
    pub fn to_utf16(&self) -> Vec<u16> {
        bytes_to_utf16(&self.0)
    }

    /// The base64 of the bytes where they are not UTF-8, for JSON's `path_b64` beside a lossy `path`.
    pub fn base64_if_lossy(&self) -> Option<String> {
        std::str::from_utf8(&self.0)
            .is_err()
            .then(|| base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

/// Checks that `name` is one segment: not empty, not `.` or `..`, no slash, no NUL.
pub fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::new(ErrorKind::InvalidPath)
            .with_detail(format!("'{}' is not a file name", display_bytes(name))));
    }
    Ok(())
}

/// Bytes for people: what is not UTF-8 becomes `\xNN`, control characters are escaped, so that a name
/// cannot forge a log line or drive a terminal.
pub fn display_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// Bytes as lossless UTF-16; see [`VPath::to_utf16`].
pub fn bytes_to_utf16(bytes: &[u8]) -> Vec<u16> {
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.extend(chunk.valid().encode_utf16());
        out.extend(chunk.invalid().iter().map(|b| 0xDC00 | u16::from(*b)));
    }
    out
}

/// The inverse of [`bytes_to_utf16`]. A lone surrogate that stands for no byte becomes U+FFFD.
pub fn utf16_to_bytes(units: &[u16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(units.len());
    for item in char::decode_utf16(units.iter().copied()) {
        match item {
            Ok(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(e) => match e.unpaired_surrogate() {
                unit @ 0xDC80..=0xDCFF => out.push((unit & 0xFF) as u8),
                _ => out.extend_from_slice("\u{FFFD}".as_bytes()),
            },
        }
    }
    out
}

impl fmt::Display for VPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

impl fmt::Debug for VPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VPath({})", self.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p(s: &str) -> VPath {
        VPath::absolute(s).expect("a good path")
    }

    #[test]
    fn parses_relative_to_the_working_directory() {
        let cwd = p("/a/b");
        assert_eq!(VPath::parse(&cwd, b"c").unwrap(), p("/a/b/c"));
        assert_eq!(VPath::parse(&cwd, b"../c/").unwrap(), p("/a/c"));
        assert_eq!(VPath::parse(&cwd, b"/x//y/./z/..").unwrap(), p("/x/y"));
        assert_eq!(VPath::parse(&cwd, b"../../../..").unwrap(), VPath::root());
        assert_eq!(VPath::parse(&cwd, b"").unwrap(), cwd);
    }

    #[test]
    fn takes_paths_apart() {
        assert_eq!(p("/a/b").parent(), Some(p("/a")));
        assert_eq!(p("/a").parent(), Some(VPath::root()));
        assert_eq!(VPath::root().parent(), None);
        assert_eq!(p("/a/b").name(), b"b");
        assert!(p("/ab").starts_with(&VPath::root()));
        assert!(!p("/ab").starts_with(&p("/a")));
        assert_eq!(p("/a/b/c").strip(&p("/a")), Some(&b"b/c"[..]));
        assert_eq!(p("/a/b/c").rebase(&p("/a/b"), &VPath::root()), Some(p("/c")));
        assert_eq!(p("/a").rebase(&p("/a"), &VPath::root()), Some(VPath::root()));
        assert_eq!(p("/x").rebase(&VPath::root(), &p("/m")), Some(p("/m/x")));
    }

    #[test]
    fn refuses_what_is_no_name() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(VPath::root().join(bad).unwrap_err().kind(), ErrorKind::InvalidPath);
        }
        assert_eq!(VPath::absolute(b"/a\0b").unwrap_err().kind(), ErrorKind::InvalidPath);
        assert_eq!(VPath::absolute(vec![b'x'; MAX_PATH + 1]).unwrap_err().kind(), ErrorKind::InvalidPath);
    }

    #[test]
    fn shows_names_without_letting_them_forge_lines() {
        assert_eq!(VPath::absolute(b"/a\nb\xff\x1b[1m").unwrap().display(), "/a\\nb\\xff\\u{1b}[1m");
    }

    proptest! {
        #[test]
        fn parsing_always_yields_a_normal_path(cwd in "(/[a-c.]{0,3}){0,5}", raw in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..40)) {
            let cwd = VPath::absolute(cwd.as_bytes()).unwrap();
            if let Ok(path) = VPath::parse(&cwd, &raw) {
                prop_assert!(path.as_bytes().starts_with(b"/"));
                prop_assert!(path.is_root() || !path.as_bytes().ends_with(b"/"));
                for s in path.segments() {
                    prop_assert!(check_name(s).is_ok());
                }
                prop_assert_eq!(VPath::absolute(path.as_bytes()).unwrap(), path);
            } else {
                prop_assert!(raw.contains(&0));
            }
        }

        #[test]
        fn script_text_is_lossless(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(utf16_to_bytes(&bytes_to_utf16(&raw)), raw);
        }
    }
}
