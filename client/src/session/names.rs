//! Names in arguments: simple wildcards of sources, and operation masks of targets.
//!
//! A source names entries by `*`, `?` and sets in its last part, in any case; a target names what they are
//! called afterwards: `*` stands for the rest of the original part, `?` for one character of it, name and
//! extension apart, a backslash escapes. Names are bytes; what is not UTF-8 is matched byte by byte.
//!
//! Not here: lists, exclusions, sizes and times in a mask.

use session_core::error::{Error, ErrorKind, Result};

/// One pattern of `*`, `?` and `[…]`.
#[derive(Clone, Debug)]
pub struct Wildcard {
    tokens: Vec<Token>,
    /// `*.`: every name without a dot.
    dotless: bool,
}

#[derive(Clone, Debug)]
enum Token {
    Any,
    One,
    Same(char),
    /// A set: whether it is negated, and its ranges.
    Set(bool, Vec<(char, char)>),
}

/// Text to compare: UTF-8 in lower case, other bytes as characters that no text holds.
fn folded(name: &[u8]) -> Vec<char> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        out.extend(chunk.valid().chars().flat_map(char::to_lowercase));
        out.extend(chunk.invalid().iter().filter_map(|b| char::from_u32(0x0010_FF00 | u32::from(*b))));
    }
    out
}

impl Wildcard {
    /// Parses a pattern. `*.*` is everything, `*.` what has no dot.
    pub fn new(pattern: &[u8]) -> Self {
        let dotless = pattern == b"*.";
        if dotless || matches!(pattern, b"" | b"*.*") {
            return Wildcard { tokens: vec![Token::Any], dotless };
        }
        let mut tokens = Vec::new();
        let text = folded(pattern);
        let mut rest = text.as_slice();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            tokens.push(match first {
                '*' => Token::Any,
                '?' => Token::One,
                '[' => match set(tail) {
                    Some((token, after)) => {
                        rest = after;
                        token
                    }
                    // A bracket that is never closed is one.
                    None => Token::Same('['),
                },
                c => Token::Same(*c),
            });
        }
        Wildcard { tokens, dotless }
    }

    /// Whether a name fits. Takes time in proportion to both lengths at most.
    pub fn matches(&self, name: &[u8]) -> bool {
        if self.dotless && name.contains(&b'.') {
            return false;
        }
        let name = folded(name);
        let (mut at, mut token) = (0, 0);
        // Where the last star was met, and where its run ends now.
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = name.get(at) {
            let fits = match self.tokens.get(token) {
                Some(Token::Any) => {
                    star = Some((token, at));
                    token += 1;
                    continue;
                }
                Some(Token::One) => true,
                Some(Token::Same(same)) => same == c,
                Some(Token::Set(not, ranges)) => *not != ranges.iter().any(|(a, b)| (a..=b).contains(&c)),
                None => false,
            };
            if fits {
                at += 1;
                token += 1;
            } else if let Some((back, from)) = star {
                star = Some((back, from + 1));
                at = from + 1;
                token = back + 1;
            } else {
                return false;
            }
        }
        self.tokens.get(token..).unwrap_or_default().iter().all(|t| matches!(t, Token::Any))
    }
}

/// A set after its opening bracket, and what follows it.
fn set(text: &[char]) -> Option<(Token, &[char])> {
    let (not, body) = match text.strip_prefix(&['!']) {
        Some(body) => (true, body),
        None => (false, text),
    };
    // A bracket that comes first is a member.
    let end = body.iter().skip(1).position(|c| *c == ']')? + 1;
    let (members, after) = (body.get(..end)?, body.get(end + 1..)?);
    let mut ranges = Vec::new();
    let mut rest = members;
    loop {
        rest = match rest {
            [] => return Some((Token::Set(not, ranges), after)),
            [a, '-', b, tail @ ..] => {
                ranges.push((*a, *b));
                tail
            }
            [a, tail @ ..] => {
                ranges.push((*a, *a));
                tail
            }
        };
    }
}

/// What the last part of a source means.
#[derive(Debug)]
pub(super) enum Last {
    /// Entries that fit.
    Mask(Wildcard),
    /// This entry.
    Name(Vec<u8>),
}

/// Reads the last part of a remote source. Errors: `Unsupported` for a size or a time in it.
pub(super) fn remote_last(name: &[u8]) -> Result<Last> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        plain.push(*first);
        if matches!(first, b'<' | b'>') {
            rest = tail.strip_prefix(&[*first]).ok_or_else(|| {
                Error::new(ErrorKind::Unsupported)
                    .with_detail("sizes and times in the mask of a source are not built yet")
                    .with_hint("to name an entry with '<' or '>' in it, write the sign twice")
            })?;
        }
    }
    if plain.iter().any(|b| b"*?[".contains(b)) {
        return Ok(Last::Mask(Wildcard::new(&plain)));
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
    Last::Mask(Wildcard::new(&escaped))
}

/// The name that an operation mask gives to an entry. Errors: `InvalidPath` where nothing is left.
pub(super) fn renamed(mask: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    if matches!(mask, b"" | b"*" | b"*.*") {
        return Ok(name.to_vec());
    }
    let (name_stem, name_extension) = split(name, false);
    let (mask_stem, mask_extension) = split(mask, true);
    let mut out = fill(mask_stem, name_stem);
    let extension = match mask_extension {
        Some(mask) => fill(mask, name_extension.unwrap_or_default()),
        None => Vec::new(),
    };
    if !extension.is_empty() {
        out.push(b'.');
        out.extend_from_slice(&extension);
    }
    session_core::path::check_name(&out)?;
    Ok(out)
}

/// Stem and extension at the last dot; a dot at the beginning is none. In a mask, escaped ones are none.
fn split(name: &[u8], mask: bool) -> (&[u8], Option<&[u8]>) {
    let dot = (1..name.len()).rev().find(|at| {
        let escaped = mask && name.get(..*at).is_some_and(|head| head.ends_with(b"\\"));
        name.get(*at) == Some(&b'.') && !escaped
    });
    match dot.and_then(|at| name.get(..at).zip(name.get(at + 1..))) {
        Some((stem, extension)) => (stem, Some(extension)),
        None => (name, None),
    }
}

fn fill(mask: &[u8], part: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let text: Vec<&[u8]> = characters(part);
    let mut at = 0;
    let mut rest = mask;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' if !tail.is_empty() => {
                out.extend(tail.first());
                rest = tail.get(1..).unwrap_or_default();
                at += 1;
            }
            b'*' => {
                out.extend(text.get(at..).unwrap_or_default().concat());
                at = text.len();
            }
            b'?' => {
                out.extend_from_slice(text.get(at).copied().unwrap_or_default());
                at += 1;
            }
            b => {
                out.push(*b);
                // One character, however many bytes it has.
                at += usize::from(b & 0xC0 != 0x80);
            }
        }
    }
    out
}

/// The characters of a name; a byte that is none is one.
fn characters(name: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    for chunk in name.utf8_chunks() {
        let text = chunk.valid();
        out.extend(text.char_indices().filter_map(|(at, c)| text.as_bytes().get(at..at + c.len_utf8())));
        out.extend(chunk.invalid().chunks(1));
    }
    out
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
        assert!(matches!(local_last(b"[x]"), Last::Name(n) if n == b"[x]"));
        assert!(matches!(local_last(b"[x]*"), Last::Mask(w) if w.matches(b"[x]y") && !w.matches(b"xy")));
        assert!(matches!(remote_last(b"a<<b").unwrap(), Last::Name(n) if n == b"a<b"));
        assert_eq!(remote_last(b"*>1M").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn operation_masks_rename() {
        for (mask, name, expected) in [
            ("", "a.b", "a.b"),
            ("*", "a.b", "a.b"),
            ("*.*", "a", "a"),
            ("*.bak", "a.txt", "a.bak"),
            ("*.bak", "a", "a.bak"),
            ("*.", "a.txt", "a"),
            ("x*.*", "abc.txt", "xbc.txt"),
            ("????.*", "abcdef.txt", "abcd.txt"),
            ("?x?.*", "abc.txt", "axc.txt"),
            ("new.txt", "abc.c", "new.txt"),
            ("*.bak", "a.tar.gz", "a.tar.bak"),
            ("*-old.*", "a.txt", "a-old.txt"),
            (".x", "a.b", ".x"),
            ("*.b", ".hidden", ".hidden.b"),
            ("\\*.txt", "a.c", "*.txt"),
            ("a\\.b", "x.y", "a.b"),
        ] {
            let got = renamed(mask.as_bytes(), name.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), expected, "{mask} {name}");
        }
        assert!(renamed(b"?", b"").is_err());
    }

    proptest! {
        #[test]
        fn an_escaped_name_fits_itself_and_stays_itself(name in "[a-zA-Z0-9.<>*?\\[\\]é ]{1,12}") {
            let mask = super::super::remote_path::escape_file_mask(&name);
            match remote_last(mask.as_bytes()).unwrap() {
                Last::Mask(mask) => prop_assert!(mask.matches(name.as_bytes())),
                Last::Name(n) => prop_assert_eq!(n, name.as_bytes().to_vec()),
            }
            prop_assume!(name != "." && name != ".." && !name.ends_with('.'));
            let mask = super::super::remote_path::escape_operation_mask(&name);
            prop_assert_eq!(renamed(mask.as_bytes(), b"x.y").unwrap(), name.into_bytes());
        }
    }
}
