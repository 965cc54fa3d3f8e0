//! Operation masks: what a copy is called, made of the name of its source.
//!
//! Mask and name are split at their last dot. In each half `*` stands for the rest of the original, `?` for
//! one original character at its position, any other character takes the place of one; a backslash takes
//! the next character literally. A name that begins with its only dot has no extension; an empty extension
//! drops the dot. `*.*`, `*` and nothing leave a name as it is.

use std::fmt;

use super::MaskError;
use super::pattern::first_len;

/// How copies are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationMask(Option<Halves>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Halves {
    name: Vec<Step>,
    extension: Option<Vec<Step>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// This character in the place of an original one.
    Char(char),
    /// One original character.
    One,
    /// The rest of the original.
    Rest,
}

impl OperationMask {
    /// The mask that changes nothing.
    pub fn unchanged() -> Self {
        Self::default()
    }

    /// Whether it changes nothing.
    pub fn is_unchanged(&self) -> bool {
        self.0.is_none()
    }

    /// Parses a mask. Refused is what can stand in no name (a slash, a NUL), and a backslash at the end.
    pub fn parse(text: &str) -> Result<Self, MaskError> {
        if let Some(at) = text.find(['/', '\0']) {
            return Err(MaskError::new(at..at + 1, "a name holds no such character").of(text));
        }
        if text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
            let at = text.len() - 1;
            return Err(MaskError::new(at..at + 1, "nothing follows the backslash").of(text));
        }
        if text.is_empty() {
            return Ok(Self::unchanged());
        }
        let (name, extension) = match text.rsplit_once('.') {
            Some((name, extension)) => (name, Some(extension)),
            None => (text, None),
        };
        let halves = Halves { name: steps(name), extension: extension.map(steps) };
        let unchanged =
            halves.name == [Step::Rest] && halves.extension.as_deref().is_none_or(|e| e == [Step::Rest]);
        Ok(OperationMask((!unchanged).then_some(halves)))
    }

    /// The name of the copy of `name`. It may be empty, which is no name.
    pub fn apply(&self, name: &[u8]) -> Vec<u8> {
        let Some(mask) = &self.0 else { return name.to_vec() };
        let Some(extension) = &mask.extension else { return half(&mask.name, name) };
        let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0);
        let (base, old) = match dot {
            Some(at) => (name.get(..at).unwrap_or(name), name.get(at + 1..).unwrap_or_default()),
            None => (name, &b""[..]),
        };
        let mut out = half(&mask.name, base);
        let new = half(extension, old);
        if !new.is_empty() {
            out.push(b'.');
            out.extend_from_slice(&new);
        }
        out
    }

    /// The last part of `path` so that it stands for itself (WinSCP's `EscapeOperationMask`).
    pub fn escape(path: &str) -> String {
        let (dir, name) = path.split_at(path.rfind('/').map_or(0, |at| at + 1));
        let mut out = dir.to_string();
        for c in name.chars() {
            escaped(&mut out, c);
        }
        out
    }
}

fn escaped(out: &mut String, c: char) {
    if matches!(c, '\\' | '*' | '?') {
        out.push('\\');
    }
    out.push(c);
}

fn steps(text: &str) -> Vec<Step> {
    let mut literal = false;
    let mut out = Vec::new();
    for c in text.chars() {
        let step = match c {
            _ if literal => Step::Char(c),
            '\\' => {
                literal = true;
                continue;
            }
            '*' => Step::Rest,
            '?' => Step::One,
            c => Step::Char(c),
        };
        literal = false;
        out.push(step);
    }
    out
}

fn half(steps: &[Step], original: &[u8]) -> Vec<u8> {
    let mut rest = original;
    let mut out = Vec::with_capacity(original.len() + steps.len());
    for step in steps {
        let len = if *step == Step::Rest { rest.len() } else { first_len(rest) };
        let (taken, left) = rest.split_at_checked(len).unwrap_or((rest, b""));
        match step {
            Step::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Step::One | Step::Rest => out.extend_from_slice(taken),
        }
        rest = left;
    }
    out
}

impl fmt::Display for OperationMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mask) = &self.0 else { return f.write_str("*.*") };
        let mut out = String::new();
        for (n, steps) in [Some(&mask.name), mask.extension.as_ref()].into_iter().flatten().enumerate() {
            if n > 0 {
                out.push('.');
            }
            for step in steps {
                match step {
                    Step::Char(c) => escaped(&mut out, *c),
                    Step::One => out.push('?'),
                    Step::Rest => out.push('*'),
                }
            }
        }
        f.write_str(&out)
    }
}
