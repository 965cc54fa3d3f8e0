//! IIS and other servers that write as DIR does: date, time, `<DIR>` or size, name.

use session_core::metadata::FileType;

use super::dates::{clock, date, iso, three, year};
use super::{Context, Made, listed, number, words};

pub(super) fn read(line: &[u8], _: &Context) -> Made {
    try_read(line).unwrap_or(Made::Foreign)
}

fn try_read(line: &[u8]) -> Option<Made> {
    let words = words(line);
    let word = |n: usize| words.get(n).map(|(_, w)| *w);
    let day = match iso(word(0)?) {
        Some(date) => date,
        None => {
            let (first, second, third) = three(word(0)?)?;
            let year = year(third.as_bytes())?;
            let (first, second): (i8, i8) = (first.parse().ok()?, second.parse().ok()?);
            // Month first, as IIS has it, unless there is no such month.
            if first > 12 { date(year, second, first)? } else { date(year, first, second)? }
        }
    };
    // `03:45PM` or `03:45 PM`.
    let half = |w: &[u8]| w.eq_ignore_ascii_case(b"am") || w.eq_ignore_ascii_case(b"pm");
    let (at, next) = match word(2).filter(|w| half(w)) {
        Some(half) => (clock(&[word(1)?, half].concat())?, 3),
        None => (clock(word(1)?)?, 2),
    };
    let (from, what) = *words.get(next)?;
    let rest = line.get(from + what.len()..)?;
    let local = Some(day.to_datetime(at));
    if what.first() == Some(&b'<') {
        let name = rest.trim_ascii_start();
        // `name [target]` behind a link.
        let linked = what.eq_ignore_ascii_case(b"<SYMLINKD>") || what.eq_ignore_ascii_case(b"<JUNCTION>");
        let name = match name.windows(2).rposition(|w| w == b" [") {
            Some(cut) if linked && name.last() == Some(&b']') => name.get(..cut)?,
            _ => name,
        };
        let file = what.eq_ignore_ascii_case(b"<SYMLINK>");
        let kind = if file { FileType::File } else { FileType::Directory };
        return (!name.is_empty()).then(|| listed(name, kind, 0, local, true));
    }
    let digits: Vec<u8> = what.iter().copied().filter(|b| !matches!(b, b',' | b'.')).collect();
    let size = number(&digits)?;
    let name = rest.get(1..)?;
    (!name.is_empty()).then(|| listed(name, FileType::File, size, local, true))
}
