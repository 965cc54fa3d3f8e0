//! One pattern: `*`, `?`, sets and literal characters, matched against bytes without regard to case.

use super::MaskError;

/// A character of a mask's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) c: char,
    /// Where it begins in the text.
    pub(super) at: usize,
    /// It was doubled, so that it separates nothing.
    pub(super) doubled: bool,
}

impl Token {
    /// Whether this is the separator `c`.
    pub(super) fn separates(&self, c: char) -> bool {
        self.c == c && !self.doubled
    }

    /// Where it ends in the text.
    pub(super) fn end(&self) -> usize {
        self.at + self.c.len_utf8() * if self.doubled { 2 } else { 1 }
    }
}

/// What separates the parts of a mask, and is literal when doubled.
pub(super) const SEPARATORS: [char; 5] = [';', ',', '|', '<', '>'];

/// Whether `c` is ignored around parts.
pub(super) fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let doubled = SEPARATORS.contains(&c) && chars.next_if(|(_, next)| *next == c).is_some();
        out.push(Token { c, at, doubled });
    }
    out
}

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Element {
    /// `?`: one character.
    AnyOne,
    /// `*`: any run of characters.
    AnyRun,
    /// This byte, which is part of no character. In no mask's text.
    Byte(u8),
    /// This character, in either case.
    Literal(char),
    /// One character of these ranges, or (negated) of none of them.
    Set { negated: bool, ranges: Vec<(char, char)> },
    /// A slash or a backslash.
    Slash,
}

/// A sequence of elements.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pattern(pub(super) Vec<Element>);

/// A character of a name, or a byte that is none.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Byte(u8),
    Char(char),
}

impl Pattern {
    pub(super) fn elements(tokens: &[Token]) -> Result<Vec<Element>, MaskError> {
        let mut out = Vec::new();
        let mut rest = tokens;
        while let [token, more @ ..] = rest {
            rest = more;
            let element = match token.c {
                '*' => Element::AnyRun,
                '?' => Element::AnyOne,
                '/' | '\\' => Element::Slash,
                '[' => {
                    let close = more.iter().position(|t| t.c == ']');
                    let Some(close) = close else {
                        let end = tokens.last().map_or(token.end(), Token::end);
                        return Err(MaskError::new(token.at..end, "the set is not closed"));
                    };
                    let (inner, after) = more.split_at(close);
                    rest = after.get(1..).unwrap_or_default();
                    let at = token.at..after.first().map_or(token.end(), Token::end);
                    set(inner).map_err(|why| MaskError::new(at, why))?
                }
                c => Element::Literal(c),
            };
            let repeats = matches!(element, Element::AnyRun | Element::Slash) && out.last() == Some(&element);
            if !repeats {
                out.push(element);
            }
        }
        Ok(out)
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.count(text).0
    }

    /// The answer and the number of steps that it took: a mismatch gives one more character to the last
    /// run, earlier runs are never reconsidered.
    pub(super) fn count(&self, text: &[u8]) -> (bool, usize) {
        let (mut p, mut n, mut steps) = (0, 0, 0);
        let mut run: Option<(usize, usize)> = None;
        loop {
            steps += 1;
            let (element, unit) = (self.0.get(p), unit(text, n));
            match (element, unit) {
                (None, None) => return (true, steps),
                (Some(Element::AnyRun), _) => {
                    run = Some((p, n));
                    p += 1;
                }
                (Some(element), Some((c, len))) if element.takes(c) => (p, n) = (p + 1, n + len),
                _ => match run.and_then(|(at, from)| Some((at, from + self::unit(text, from)?.1))) {
                    Some((at, from)) => {
                        run = Some((at, from));
                        (p, n) = (at + 1, from);
                    }
                    None => return (false, steps),
                },
            }
        }
    }

    /// The text that parses into this pattern; blanks at an open end are put into brackets.
    pub(super) fn shown(&self, open_begin: bool, open_end: bool) -> String {
        let mut out = String::new();
        for (n, element) in self.0.iter().enumerate() {
            let at_end = (open_begin && n == 0) || (open_end && n + 1 == self.0.len());
            match element {
                Element::AnyOne => out.push('?'),
                Element::AnyRun => out.push('*'),
                Element::Slash => out.push('/'),
                Element::Byte(_) => out.push('?'),
                Element::Literal(c) if matches!(c, '[' | '*' | '?') || (at_end && blank(*c)) => {
                    out.extend(['[', *c, ']']);
                }
                Element::Literal(c) => push(&mut out, *c),
                Element::Set { negated, ranges } => {
                    out.push_str(if *negated { "[!" } else { "[" });
                    for (low, high) in ranges {
                        push(&mut out, *low);
                        if low != high {
                            out.push('-');
                            push(&mut out, *high);
                        }
                    }
                    out.push(']');
                }
            }
        }
        out
    }
}

fn push(out: &mut String, c: char) {
    out.push(c);
    if SEPARATORS.contains(&c) {
        out.push(c);
    }
}

/// What stands between brackets.
fn set(inner: &[Token]) -> Result<Element, &'static str> {
    let (negated, mut rest) = match inner {
        [first, rest @ ..] if first.c == '!' && !rest.is_empty() => (true, rest),
        _ => (false, inner),
    };
    let mut ranges = Vec::new();
    while let [low, more @ ..] = rest {
        match more {
            [dash, high, more @ ..] if dash.c == '-' => {
                if low.c > high.c {
                    return Err("the range runs backwards");
                }
                ranges.push((low.c, high.c));
                rest = more;
            }
            _ => {
                ranges.push((low.c, low.c));
                rest = more;
            }
        }
    }
    match ranges.as_slice() {
        [] => Err("the set is empty"),
        // A set of one character is how that character is written literally.
        [(low, high)] if low == high && !negated && !matches!(low, '/' | '\\') => Ok(Element::Literal(*low)),
        _ => Ok(Element::Set { negated, ranges }),
    }
}

/// The character at `at`, or the byte that is none, with its length.
fn unit(text: &[u8], at: usize) -> Option<(Unit, usize)> {
    let rest = text.get(at..)?;
    let first = *rest.first()?;
    if first.is_ascii() {
        return Some((Unit::Char(char::from(first)), 1));
    }
    // A character has at most four bytes.
    let head = rest.get(..4).unwrap_or(rest);
    match head.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
        Some(c) => Some((Unit::Char(c), c.len_utf8())),
        None => Some((Unit::Byte(first), 1)),
    }
}

/// All characters of a name, and the bytes that are none.
pub(super) fn units(text: &[u8]) -> Vec<Unit> {
    let mut at = 0;
    let next = || {
        let (unit, len) = unit(text, at)?;
        at += len;
        Some(unit)
    };
    std::iter::from_fn(next).collect()
}

/// The length in bytes of the first character, or of a byte that is none.
pub(super) fn first_len(text: &[u8]) -> usize {
    unit(text, 0).map_or(0, |(_, len)| len)
}

fn lower(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(l), None) => l,
        _ => c,
    }
}

fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(u), None) => u,
        _ => c,
    }
}

impl Element {
    fn takes(&self, unit: Unit) -> bool {
        match (self, unit) {
            (Element::AnyOne, _) => true,
            (Element::Literal(wanted), Unit::Char(c)) => *wanted == c || lower(*wanted) == lower(c),
            (Element::Slash, Unit::Char(c)) => c == '/',
            (Element::Byte(wanted), Unit::Byte(b)) => *wanted == b,
            (Element::Set { negated, .. }, Unit::Byte(_)) => *negated,
            (Element::Set { negated, ranges }, Unit::Char(c)) => {
                let among = |c: char| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                (among(c) || among(lower(c)) || among(upper(c))) != *negated
            }
            (Element::AnyRun | Element::Byte(_) | Element::Literal(_) | Element::Slash, _) => false,
        }
    }
}
