//! EPLF, NetWare, and lines that are in every dialect.

use std::time::{Duration, UNIX_EPOCH};

use session_core::metadata::FileType;

use super::dates::{clock, date, day, month, without_year, year};
use super::{Context, Made, listed, number, words};
use jiff::civil::Time;

/// `+i8388621.29609,m824255902,/,\tdev`: facts, a tab, the name. Times are UTC.
pub(super) fn eplf(line: &[u8], _: &Context) -> Made {
    let Some(rest) = line.strip_prefix(b"+") else { return Made::Foreign };
    let Some(tab) = rest.iter().position(|b| *b == b'\t') else { return Made::Foreign };
    let (facts, name) = (rest.get(..tab).unwrap_or_default(), rest.get(tab + 1..).unwrap_or_default());
    let (mut kind, mut size, mut modified, mut mode) = (FileType::Other, 0, None, None);
    for fact in facts.split(|b| *b == b',').filter(|f| !f.is_empty()) {
        let value = fact.get(1..).unwrap_or_default();
        match fact.first() {
            Some(b'/') => kind = FileType::Directory,
            Some(b'r') => kind = FileType::File,
            Some(b's') => size = number(value).unwrap_or(0),
            Some(b'm') => {
                modified = number(value).and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s)));
            }
            Some(b'u') if value.starts_with(b"p") => {
                let digits = std::str::from_utf8(value.get(1..).unwrap_or_default()).unwrap_or_default();
                mode = u32::from_str_radix(digits, 8).ok().map(|m| m & 0o7777);
            }
            _ => {}
        }
    }
    match listed(name, kind, size, None, false) {
        Made::Entry(mut l) => {
            l.entry.metadata.modified = modified;
            l.entry.metadata.mode = mode;
            Made::Entry(l)
        }
        other => other,
    }
}

/// `d [R----F--] supervisor            512       Jan 16 18:53    login`.
pub(super) fn netware(line: &[u8], context: &Context) -> Made {
    try_netware(line, context).unwrap_or(Made::Foreign)
}

fn try_netware(line: &[u8], context: &Context) -> Option<Made> {
    let words = words(line);
    let word = |n: usize| words.get(n).map(|(_, w)| *w);
    let kind = match word(0)? {
        b"d" => FileType::Directory,
        b"-" => FileType::File,
        _ => return None,
    };
    let rights = word(1)?;
    if rights.first() != Some(&b'[') || rights.last() != Some(&b']') {
        return None;
    }
    let size = number(word(3)?)?;
    let (month, day) = (month(word(4)?)?, day(word(5)?)?);
    let (local, timed) = match clock(word(6)?) {
        Some(at) => (without_year(month, day, at, context.now)?, true),
        None => (date(year(word(6)?)?, month, day)?.to_datetime(Time::midnight()), false),
    };
    let (from, _) = words.get(7)?;
    Some(listed(line.get(*from..)?, kind, size, Some(local), timed))
}

/// `total 12`, in whatever language; lines of blanks.
pub(super) fn noise(line: &[u8], _: &Context) -> Made {
    let words = words(line);
    match words.as_slice() {
        [] => Made::Nothing,
        [(0, word), (_, n)]
            if number(n.strip_suffix(b"k").unwrap_or(n)).is_some()
                && word.iter().all(|b| b.is_ascii_alphabetic() || *b >= 0x80 || *b == b':') =>
        {
            Made::Nothing
        }
        _ => Made::Foreign,
    }
}
