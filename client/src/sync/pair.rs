//! Which entry of one listing belongs to which of the other: by name, with or without regard to case.
//!
//! Without regard to case, names that are equal byte for byte belong together first; what is left of one
//! spelling belongs to what is left of another only where there is one of each. Names are compared as they
//! are: composed and decomposed letters are different.

use bytes::Bytes;

use super::Side;
use super::decide::Facts;

/// An entry of a listing.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: Bytes,
    pub(super) facts: Facts,
    /// The masks leave it out.
    pub(super) excluded: bool,
}

/// Entries of one name.
#[derive(Debug)]
pub(super) enum Pair {
    Both(Seen, Seen),
    One {
        on: Side,
        seen: Seen,
        /// The other side has an entry whose name differs only in case.
        other_has: bool,
        /// So has this side.
        this_has: bool,
    },
}

/// Pairs two listings by the bytes of their names.
pub(super) fn exact(mut left: Vec<Seen>, mut right: Vec<Seen>, mut each: impl FnMut(Pair)) {
    for side in [&mut left, &mut right] {
        if !side.is_sorted_by(|a, b| a.name <= b.name) {
            side.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
    }
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let one = |on, seen| Pair::One { on, seen, other_has: false, this_has: false };
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(l), Some(r)) => l.name.cmp(&r.name),
        };
        let l = if order.is_le() { left.next() } else { None };
        let r = if order.is_ge() { right.next() } else { None };
        match (l, r) {
            (Some(l), Some(r)) => each(Pair::Both(l, r)),
            (Some(l), None) => each(one(Side::Left, l)),
            (None, Some(r)) => each(one(Side::Right, r)),
            (None, None) => return,
        }
    }
}

/// The name with its case taken away. What is not UTF-8 has no case.
fn folded(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => name.to_vec(),
    }
}

/// Pairs two listings without regard to case.
pub(super) fn folding(left: Vec<Seen>, right: Vec<Seen>, mut each: impl FnMut(Pair)) {
    let keyed = |on: Side, seen: Seen| (folded(&seen.name), on, seen);
    let mut all: Vec<_> = left.into_iter().map(|s| keyed(Side::Left, s)).collect();
    all.extend(right.into_iter().map(|s| keyed(Side::Right, s)));
    all.sort_by(|a, b| (&a.0, &a.2.name).cmp(&(&b.0, &b.2.name)));
    let mut all = all.into_iter().peekable();
    while let Some((key, on, first)) = all.next() {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut put = |on, seen| if on == Side::Left { left.push(seen) } else { right.push(seen) };
        put(on, first);
        while let Some((_, on, seen)) = all.next_if(|(k, ..)| *k == key) {
            put(on, seen);
        }
        group(left, right, &mut each);
    }
}

fn group(left: Vec<Seen>, right: Vec<Seen>, each: &mut impl FnMut(Pair)) {
    let counts = (left.len(), right.len());
    let (mut left_only, mut right_only) = (Vec::new(), Vec::new());
    exact(left, right, |pair| match pair {
        Pair::One { on: Side::Left, seen, .. } => left_only.push(seen),
        Pair::One { on: Side::Right, seen, .. } => right_only.push(seen),
        both => each(both),
    });
    if left_only.len() == 1
        && right_only.len() == 1
        && let (Some(l), Some(r)) = (left_only.pop(), right_only.pop())
    {
        return each(Pair::Both(l, r));
    }
    for (on, rest, this, other) in
        [(Side::Left, left_only, counts.0, counts.1), (Side::Right, right_only, counts.1, counts.0)]
    {
        for seen in rest {
            each(Pair::One { on, seen, other_has: other > 0, this_has: this > 1 });
        }
    }
}

#[cfg(test)]
mod tests {
    use session_core::metadata::FileType;

    use super::*;

    fn listing(names: &[&'static str]) -> Vec<Seen> {
        let facts = Facts { kind: FileType::File, size: 0, modified: None, mode: None };
        let seen = |name: &&'static str| Seen {
            name: Bytes::from_static(name.as_bytes()),
            facts: facts.clone(),
            excluded: false,
        };
        names.iter().map(seen).collect()
    }

    /// `a=A` a pair, `<a` and `>a` alone, `!` where the other side has its like, `+` where its own has.
    fn shown(left: &[&'static str], right: &[&'static str], fold: bool) -> String {
        let mut out = Vec::new();
        let text = |s: &Seen| String::from_utf8_lossy(&s.name).into_owned();
        let each = |pair: Pair| {
            out.push(match pair {
                Pair::Both(l, r) => format!("{}={}", text(&l), text(&r)),
                Pair::One { on, seen, other_has, this_has } => format!(
                    "{}{}{}{}",
                    if on == Side::Left { "<" } else { ">" },
                    text(&seen),
                    if other_has { "!" } else { "" },
                    if this_has { "+" } else { "" }
                ),
            });
        };
        if fold {
            folding(listing(left), listing(right), each)
        } else {
            exact(listing(left), listing(right), each)
        }
        out.join(" ")
    }

    #[test]
    fn by_bytes_and_without_case() {
        assert_eq!(shown(&["c", "a", "B"], &["b", "a", "d"], false), "<B a=a >b <c >d");
        assert_eq!(shown(&["c", "a", "B"], &["b", "a", "d"], true), "a=a B=b <c >d");
        assert_eq!(shown(&["Ä"], &["ä"], true), "Ä=ä");
        assert_eq!(shown(&["A", "a"], &["a"], true), "a=a <A!+");
        assert_eq!(shown(&["A", "a"], &["A", "a"], true), "A=A a=a");
        assert_eq!(shown(&["A", "a"], &[], true), "<A+ <a+");
        assert_eq!(shown(&["Aa", "aA"], &["AA"], true), "<Aa!+ <aA!+ >AA!");
        assert_eq!(shown(&["Aa", "aa"], &["aa", "AA"], true), "aa=aa Aa=AA");
        assert_eq!(shown(&[], &[], true), "");
    }
}
