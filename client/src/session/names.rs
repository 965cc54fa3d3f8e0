//! Names in arguments: what the last part of a source means, and how its copies are called.
//!
//! A remote source names entries by `*`, `?` and sets in its last part, in any case, and by bounds of size and
//! time; a local one by `*` and `?`. The last part of a target is an operation mask. Names are bytes; what is
//! not UTF-8 is matched byte by byte.
//!
//! Not here: the grammars of [`crate::mask`].

use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::DirEntry;
use session_core::path::VPath;

use crate::mask::{FileMask, OperationMask, Subject, Wildcard};

/// Which entries of a directory a source names.
#[derive(Debug)]
pub(super) enum Mask {
    /// Those that bounds of size and time hold, too.
    Bounded(FileMask),
    /// By their names.
    Names(Wildcard),
}

impl Mask {
    /// Whether an entry of `dir` is one of them.
    pub(super) fn takes(&self, dir: &VPath, entry: &DirEntry) -> bool {
        match self {
            // Bounds hold files only; else a mask of file names would take every directory.
            Mask::Bounded(mask) => {
                let subject = Subject::inside(dir, &entry.name, dir, &entry.metadata);
                !subject.directory && mask.matches(&subject)
            }
            Mask::Names(names) => names.matches(&entry.name),
        }
    }
}

/// What the last part of a source means.
#[derive(Debug)]
pub(super) enum Last {
    /// Entries that fit.
    Mask(Mask),
    /// This entry.
    Name(Vec<u8>),
}

/// Reads the last part of a remote source. Errors: `InvalidArgument` for bounds that are none.
pub(super) fn remote_last(name: &[u8]) -> Result<Last> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        plain.push(*first);
        if matches!(first, b'<' | b'>') {
            match tail.strip_prefix(&[*first]) {
                Some(after) => rest = after,
                None => {
                    let bad = |_| Error::new(ErrorKind::InvalidArgument).with_detail("a mask is UTF-8 text");
                    let mask = FileMask::parse(std::str::from_utf8(name).map_err(bad)?)?;
                    return Ok(Last::Mask(Mask::Bounded(mask)));
                }
            }
        }
    }
    if plain.iter().any(|b| b"*?[".contains(b)) {
        return Ok(Last::Mask(Mask::Names(Wildcard::new(&plain))));
    }
    Ok(Last::Name(plain))
}

/// Reads the last part of a local source: only `*` and `?` mean anything.
pub(super) fn local_last(name: &[u8]) -> Last {
    if !name.iter().any(|b| b"*?".contains(b)) {
        return Last::Name(name.to_vec());
    }
    let mut escaped = Vec::with_capacity(name.len());
    for b in name {
        match b {
            b'[' => escaped.extend_from_slice(b"[[]"),
            b => escaped.push(*b),
        }
    }
    Last::Mask(Mask::Names(Wildcard::new(&escaped)))
}

/// The name that an operation mask gives to an entry. Errors: `InvalidArgument` for a mask that is none,
/// `InvalidPath` where nothing is left.
pub(super) fn renamed(mask: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(mask).map_err(|_| {
        Error::new(ErrorKind::InvalidArgument).with_detail("the last part of a target is UTF-8 text")
    })?;
    let out = OperationMask::parse(text)?.apply(name);
    session_core::path::check_name(&out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_fit() {
        for (mask, name, fits) in [
            ("*", "", true),
            ("*.txt", "A.TXT", true),
            ("*.txt", "a.txt.bak", false),
            ("?", "é", true),
            ("?", "", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbX", false),
            ("[a-c]x", "Bx", true),
            ("[!a-c]x", "bx", false),
            ("[*]", "*", true),
            ("[*]", "x", false),
            ("[[]x]", "[x]", true),
            ("[]x]", "]", true),
            ("[x", "[x", true),
            ("*.*", "nodot", true),
            ("*.", "nodot", true),
            ("*.", "a.b", false),
        ] {
            assert_eq!(Wildcard::new(mask.as_bytes()).matches(name.as_bytes()), fits, "{mask} {name}");
        }
        assert!(Wildcard::new(b"a?").matches(b"a\xff"));
        let odd = Wildcard::new(b"\xfe*");
        assert!(odd.matches(b"\xfe") && odd.matches(b"\xfex") && !odd.matches(b"\xffx"));
        assert!(matches!(local_last(b"[x]"), Last::Name(n) if n == b"[x]"));
        assert!(
            matches!(local_last(b"[x]*"), Last::Mask(Mask::Names(w)) if w.matches(b"[x]y") && !w.matches(b"xy"))
        );
        assert!(matches!(remote_last(b"a<<b").unwrap(), Last::Name(n) if n == b"a<b"));
        assert!(matches!(remote_last(b"*>1M").unwrap(), Last::Mask(Mask::Bounded(_))));
        assert_eq!(remote_last(b"*>lots").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn targets_name_copies() {
        assert_eq!(renamed(b"*.bak", b"a.txt").unwrap(), b"a.bak");
        assert_eq!(renamed(b"", b"a\xff").unwrap(), b"a\xff");
        assert_eq!(renamed(b"?", b"").unwrap_err().kind(), ErrorKind::InvalidPath);
        assert_eq!(renamed(b"a\\", b"x").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    proptest! {
        #[test]
        fn an_escaped_name_fits_itself_and_stays_itself(name in "[a-zA-Z0-9.<>*?\\[\\]é ]{1,12}") {
            let mask = super::super::remote_path::escape_file_mask(&name);
            match remote_last(mask.as_bytes()).unwrap() {
                Last::Mask(Mask::Names(mask)) => prop_assert!(mask.matches(name.as_bytes())),
                Last::Mask(Mask::Bounded(_)) => prop_assert!(false, "an escaped sign is no bound"),
                Last::Name(n) => prop_assert_eq!(n, name.as_bytes().to_vec()),
            }
            prop_assume!(name != "." && name != ".." && !name.ends_with('.'));
            let mask = super::super::remote_path::escape_operation_mask(&name);
            prop_assert_eq!(renamed(mask.as_bytes(), b"x.y").unwrap(), name.into_bytes());
        }
    }
}
