//! One pattern for names in arguments, where nothing separates anything and no text is wrong: a bracket that
//! is never closed is one, and what is not UTF-8 is matched byte by byte.

use super::Name;
use super::pattern::{Element, Pattern, Unit, units};

/// One pattern of `*`, `?` and `[…]`.
#[derive(Clone, Debug)]
pub struct Wildcard(Name);

impl Wildcard {
    /// Parses a pattern. `*.*` is everything, `*.` what has no dot.
    pub fn new(pattern: &[u8]) -> Self {
        match pattern {
            b"" | b"*" | b"*.*" => return Wildcard(Name::Any),
            b"*." => return Wildcard(Name::NoDot),
            _ => {}
        }
        let units = units(pattern);
        let mut rest = units.as_slice();
        let mut elements = Vec::new();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            elements.push(match first {
                Unit::Char('*') => Element::AnyRun,
                Unit::Char('?') => Element::AnyOne,
                Unit::Char('[') => match set(tail) {
                    Some((set, after)) => {
                        rest = after;
                        set
                    }
                    None => Element::Literal('['),
                },
                Unit::Char(c) => Element::Literal(*c),
                Unit::Byte(b) => Element::Byte(*b),
            });
        }
        elements.dedup_by(|a, b| *a == Element::AnyRun && *b == Element::AnyRun);
        Wildcard(Name::Like(Pattern(elements)))
    }

    /// Whether a name fits. Takes time in proportion to the product of both lengths at most.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.0.takes(name)
    }
}

/// A set after its opening bracket, and what follows it. A byte that is no character is never a member.
fn set(text: &[Unit]) -> Option<(Element, &[Unit])> {
    let (negated, body) = match text {
        [Unit::Char('!'), body @ ..] => (true, body),
        body => (false, body),
    };
    // A bracket that comes first is a member.
    let end = body.iter().skip(1).position(|u| matches!(u, Unit::Char(']')))? + 1;
    let (members, after) = (body.get(..end)?, body.get(end + 1..)?);
    let mut ranges = Vec::new();
    let mut rest = members;
    loop {
        rest = match rest {
            [] => return Some((Element::Set { negated, ranges }, after)),
            [Unit::Char(low), Unit::Char('-'), Unit::Char(high), tail @ ..] => {
                ranges.push((*low, *high));
                tail
            }
            [Unit::Char(one), tail @ ..] => {
                ranges.push((*one, *one));
                tail
            }
            [Unit::Byte(_), tail @ ..] => tail,
        };
    }
}
