//! OpenVMS, IBM i (AS/400) and z/OS (MVS).

use session_core::metadata::FileType;

use super::dates::{clock, date, iso, month, three, year};
use super::{Context, Made, listed, number, words};
use jiff::civil::Time;

/// Bytes in a block of OpenVMS.
const BLOCK: u64 = 512;

/// `NAME.TXT;1   2/4   12-MAR-2020 10:11:12  [GROUP,OWNER]  (RWED,RWED,RE,)`; a long name stands on a line of
/// its own. The version is left off, `.DIR` is a directory, the size is that of the blocks.
pub(super) fn vms(line: &[u8], _: &Context) -> Made {
    let words = words(line);
    let Some((_, name)) = words.first().copied() else { return Made::Foreign };
    if matches!(name, b"Directory" | b"Total") && words.len() > 1 {
        // A heading or the sum; no file of VMS is named so, without a version.
        let heading = line.windows(2).any(|w| w == b":[" || w == b"of") || line.contains(&b'[');
        return if heading { Made::Nothing } else { Made::Foreign };
    }
    let Some(cut) = name.iter().rposition(|b| *b == b';') else { return Made::Foreign };
    let (file, version) = (name.get(..cut).unwrap_or_default(), name.get(cut + 1..).unwrap_or_default());
    if number(version).is_none() || file.is_empty() {
        return Made::Foreign;
    }
    if words.len() == 1 {
        return Made::More;
    }
    let rest = words.get(1..).unwrap_or_default();
    let (file, kind) = match file.len().checked_sub(4).and_then(|at| file.split_at_checked(at)) {
        Some((stem, tail)) if tail.eq_ignore_ascii_case(b".DIR") => (stem, FileType::Directory),
        _ => (file, FileType::File),
    };
    // Without the right to look closer there is the name and words of regret.
    let Some(at) = rest.iter().position(|(_, w)| vms_date(w).is_some()) else {
        let regret = line
            .windows(13)
            .any(|w| w.eq_ignore_ascii_case(b"no privilege ") || w.eq_ignore_ascii_case(b"insufficient "));
        return if regret { listed(file, kind, 0, None, false) } else { Made::Foreign };
    };
    let day = rest.get(at).and_then(|(_, w)| vms_date(w));
    let blocks = rest
        .get(..at)
        .unwrap_or_default()
        .last()
        .and_then(|(_, w)| number(w.split(|b| *b == b'/').next().unwrap_or_default()));
    let time = rest.get(at + 1).and_then(|(_, w)| clock(w));
    let local = day.map(|d| d.to_datetime(time.unwrap_or_else(Time::midnight)));
    listed(file, kind, blocks.unwrap_or(0).saturating_mul(BLOCK), local, time.is_some())
}

fn vms_date(word: &[u8]) -> Option<jiff::civil::Date> {
    let mut parts = word.split(|b| *b == b'-');
    let (d, m, y) = (parts.next()?, parts.next()?, parts.next()?);
    let d: i8 = std::str::from_utf8(d).ok()?.parse().ok()?;
    date(year(y)?, month(m)?, d)
}

/// `QSYS            77824 02/23/00 15:09:55 *DIR       QOpenSys/`; members may come without size and date.
pub(super) fn as400(line: &[u8], _: &Context) -> Made {
    try_as400(line).unwrap_or(Made::Foreign)
}

fn try_as400(line: &[u8]) -> Option<Made> {
    let words = words(line);
    let at = words.iter().take(6).position(|(_, w)| w.len() > 2 && w.first() == Some(&b'*'))?;
    if at == 0 {
        return None;
    }
    let (from, kind) = *words.get(at)?;
    let (begin, _) = *words.get(at + 1)?;
    if begin < from + kind.len() {
        return None;
    }
    let name = line.get(begin..)?.trim_ascii_end();
    // Libraries, files of members and directories hold others; a member is shown with what holds it.
    let holds = name.last() == Some(&b'/') || matches!(kind, b"*DIR" | b"*LIB" | b"*FLR" | b"*DDIR");
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let name = if kind == b"*MEM" { name.rsplit(|b| *b == b'/').next()? } else { name };
    let kind = if holds { FileType::Directory } else { FileType::File };
    if at == 1 {
        return Some(listed(name, kind, 0, None, false));
    }
    let [.., (_, size), (_, day), (_, time)] = words.get(..at)? else { return None };
    let (a, b, c) = three(day)?;
    let order = |y: &str, m: &str, d: &str| date(year(y.as_bytes())?, m.parse().ok()?, d.parse().ok()?);
    // Month first where that makes a date, as on machines of the United States; else day, else year first.
    let day = order(c, a, b).or_else(|| order(c, b, a)).or_else(|| order(a, b, c))?;
    Some(listed(name, kind, number(size)?, Some(day.to_datetime(clock(time)?)), true))
}

/// Data sets (`WYOSPT 3420   2003/05/21  1  200  FB      80  8053  PS  48.FILE`) and members of a library
/// (`MEMBER    01.03 2002/09/12 2002/10/11 09:37    11    11     0 KIL001`).
pub(super) fn mvs(line: &[u8], context: &Context) -> Made {
    try_mvs(line, context).unwrap_or(Made::Foreign)
}

fn try_mvs(line: &[u8], context: &Context) -> Option<Made> {
    let words = words(line);
    let word = |n: usize| words.get(n).map(|(_, w)| *w);
    if word(0)? == b"Volume" && words.last()?.1 == b"Dsname" {
        return Some(Made::Nothing);
    }
    if word(0)?.eq_ignore_ascii_case(b"Name") && word(1).is_some_and(|w| w == b"VV.MM" || w == b"Size") {
        return Some(Made::Nothing);
    }
    if let (Some(vv), Some(_), Some(changed), Some(time)) =
        (word(1), word(2).and_then(iso), word(3).and_then(iso), word(4).and_then(clock))
        && vv.len() == 5
        && vv.get(2) == Some(&b'.')
    {
        // The size counts lines: how many bytes they are is not told.
        return Some(listed(word(0)?, FileType::File, 0, Some(changed.to_datetime(time)), true));
    }
    if context.members {
        // A member without statistics; of load modules the columns are others.
        let named = word(0).filter(|w| w.len() <= 8 && w.iter().all(|b| is_name(*b)))?;
        return Some(listed(named, FileType::File, 0, None, false));
    }
    let name = words.last()?.1;
    let name = name.strip_prefix(b"'").and_then(|n| n.strip_suffix(b"'")).unwrap_or(name);
    let dotted = name.iter().all(|b| is_name(*b) || *b == b'.') && !name.is_empty();
    if !dotted {
        return None;
    }
    if matches!(word(0)?, b"Migrated" | b"ARCIVE" | b"MIGRAT") && words.len() >= 2 {
        return Some(listed(name, FileType::File, 0, None, false));
    }
    let organised = words.get(words.len().checked_sub(2)?)?.1;
    let kind = match organised {
        b"PO" | b"PO-E" | b"POE" => FileType::Directory,
        b"PS" | b"PS-E" | b"PSE" | b"DA" | b"VS" | b"VSAM" | b"HFS" | b"PATH" | b"GDG" => FileType::File,
        _ => return None,
    };
    if words.len() < 4 && !matches!(organised, b"VSAM" | b"PATH" | b"GDG") {
        return None;
    }
    let local = word(2).and_then(iso).map(|d| d.to_datetime(Time::midnight()));
    Some(listed(name, kind, 0, local, false))
}

fn is_name(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'@' | b'#' | b'$' | b'-')
}
