//! `ls -l` in its varieties.
//!
//! Columns differ (no group, names of groups with spaces, numbers for names, devices with two numbers in
//! place of a size, more numbers before the size), so the date is looked for: the first place where a date
//! follows a number. The name is what stands one space behind it, whatever it holds.

use session_core::metadata::FileType;

use super::dates::{clock, day, iso, month, without_year, year};
use super::{Context, Listed, Made, listed, number, words};
use jiff::civil::{DateTime, Time};

pub(super) fn read(line: &[u8], context: &Context) -> Made {
    let words = words(line);
    let Some((0, head)) = words.first().copied() else { return Made::Foreign };
    let Some((kind, mode)) = permissions(head) else { return Made::Foreign };
    for at in 2..words.len().min(16) {
        let before = words.get(at - 1).map(|(_, w)| *w).unwrap_or_default();
        let Some(size) = number(before) else { continue };
        let Some((local, timed, used)) = date(words.get(at..).unwrap_or_default(), context) else { continue };
        let Some((from, last)) = words.get(at + used - 1) else { continue };
        // One space ends the date; the others are the name's.
        let Some(name) = line.get(from + last.len() + 1..).filter(|n| !n.is_empty()) else {
            return Made::Foreign;
        };
        let major = at >= 2 && words.get(at - 2).is_some_and(|(_, w)| w.last() == Some(&b','));
        let (name, link) = match (kind, find(name, b" -> ")) {
            (FileType::Symlink, Some(arrow)) => (name.get(..arrow).unwrap_or(name), Some(name)),
            _ => (name, None),
        };
        let size = if kind == FileType::Other || major { 0 } else { size };
        let made = listed(name, kind, size, Some(local), timed);
        let owners = words.get(1..at - 1).unwrap_or_default();
        return match made {
            Made::Entry(mut l) => {
                l.entry.metadata.mode = mode;
                l.link = link.map(bytes::Bytes::copy_from_slice);
                owner(&mut l, owners, major);
                Made::Entry(l)
            }
            other => other,
        };
    }
    Made::Foreign
}

/// Links, owner and group, where the columns are the usual ones.
fn owner(l: &mut Listed, columns: &[(usize, &[u8])], device: bool) {
    let columns =
        if device { columns.get(..columns.len().saturating_sub(1)).unwrap_or_default() } else { columns };
    let [(_, links), (_, owner), rest @ ..] = columns else { return };
    let Some(links) = number(links) else { return };
    l.entry.metadata.links = Some(links);
    let text = |w: &[u8]| std::str::from_utf8(w).ok().map(std::sync::Arc::from);
    match number(owner) {
        Some(uid) => l.entry.metadata.uid = u32::try_from(uid).ok(),
        None => l.entry.metadata.owner = text(owner),
    }
    if let [(_, group)] = rest {
        match number(group) {
            Some(gid) => l.entry.metadata.gid = u32::try_from(gid).ok(),
            None => l.entry.metadata.group = text(group),
        }
    }
}

/// The first column: a letter for the kind and nine for the bits, and a mark for more (`+`, `.`, `@`).
fn permissions(word: &[u8]) -> Option<(FileType, Option<u32>)> {
    let (&letter, rest) = word.split_first()?;
    let kind = match letter {
        b'-' | b'f' | b'C' | b'm' | b'n' => FileType::File,
        b'd' | b'D' => FileType::Directory,
        b'l' => FileType::Symlink,
        b'b' | b'c' | b'p' | b's' | b'w' => FileType::Other,
        _ => return None,
    };
    let bits = rest.get(..9)?;
    if rest.len() > 10 || rest.get(9).is_some_and(|b| !matches!(b, b'+' | b'.' | b'@' | b't' | b' ')) {
        return None;
    }
    let mut mode = 0_u32;
    for (n, b) in bits.iter().enumerate() {
        let (bit, third) = (1 << (8 - n), n % 3 == 2);
        let special = match n / 3 {
            0 => 0o4000,
            1 => 0o2000,
            _ => 0o1000,
        };
        match (b, third) {
            (b'-', _) => {}
            (b'r', _) if n % 3 == 0 => mode |= bit,
            (b'w', _) if n % 3 == 1 => mode |= bit,
            (b'x', true) => mode |= bit,
            (b's' | b't', true) => mode |= bit | special,
            (b'S' | b'T' | b'l' | b'L', true) => mode |= special,
            _ => return None,
        }
    }
    Some((kind, Some(mode)))
}

/// A date at the head of `words`: when, whether with a time of day, and how many words it takes.
fn date(words: &[(usize, &[u8])], context: &Context) -> Option<(DateTime, bool, usize)> {
    let word = |n: usize| words.get(n).map(|(_, w)| *w);
    let first = word(0)?;
    if let Some(date) = iso(first) {
        return match word(1).and_then(clock) {
            Some(at) => {
                // `--full-time` adds the zone, which is not needed: the clock is the server's.
                let zone = word(2).is_some_and(|w| {
                    w.len() == 5
                        && matches!(w.first(), Some(b'+' | b'-'))
                        && number(w.get(1..).unwrap_or_default()).is_some()
                });
                Some((date.to_datetime(at), true, if zone { 3 } else { 2 }))
            }
            None => Some((date.to_datetime(Time::midnight()), false, 1)),
        };
    }
    // Month and day in either order.
    let second = word(1)?;
    let (month, day) = match (month(first), day(second)) {
        (Some(month), Some(day)) => (month, day),
        _ => (month(second)?, day(first)?),
    };
    let third = word(2)?;
    if let Some(at) = clock(third) {
        // Some write the year behind the time (`ls -T`).
        if third.iter().filter(|b| **b == b':').count() == 2
            && let Some(year) = word(3).filter(|w| w.len() == 4).and_then(year)
        {
            return Some((super::dates::date(year, month, day)?.to_datetime(at), true, 4));
        }
        return Some((without_year(month, day, at, context.now)?, true, 3));
    }
    let year = year(third).filter(|_| third.len() >= 4)?;
    Some((super::dates::date(year, month, day)?.to_datetime(Time::midnight()), false, 3))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
