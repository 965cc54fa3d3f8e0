//! Lines of `ls -l`, as the shells of other hosts print them in the locale C.
//!
//! Promises: linear time, no panic; a name is one segment of a path or the line is foreign. Columns differ (names of
//! groups with spaces, no group, devices with two numbers for a size, times in five forms), so the date is looked for:
//! the first place where one follows a number. The name is all that stands one space behind it.
//!
//! Deliberately absent: months in other languages (the locale was set), listings of other systems (`proto-ftp` has
//! them). POSIX.1-2017, `ls`, STDOUT; GNU coreutils, BusyBox, FreeBSD and macOS as they are.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use session_core::metadata::{FileType, Metadata};
use session_core::path::check_name;

use super::longname::{MONTHS, civil, unix};

/// How the other side's `ls` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// FreeBSD and macOS: `-b -T`. Seconds and years; odd bytes of names as escapes, spaces not.
    Bsd,
    /// BusyBox with `--full-time`: seconds and years; names as they are.
    Full,
    /// GNU coreutils: `-b --full-time`. All of it, and spaces in names as escapes too.
    Gnu,
    /// What POSIX promises: minutes in the last half year, days before.
    Plain,
}

impl Dialect {
    /// What is asked for beside `-l`.
    pub fn options(self) -> &'static str {
        match self {
            Dialect::Bsd => "-b -T",
            Dialect::Full => "--full-time",
            Dialect::Gnu => "-b --full-time",
            Dialect::Plain => "",
        }
    }

    /// The finest step of its times.
    pub fn granularity(self) -> Duration {
        if self == Dialect::Plain { Duration::from_secs(60) } else { Duration::from_secs(1) }
    }

    fn escapes(self) -> bool {
        matches!(self, Dialect::Bsd | Dialect::Gnu)
    }
}

/// What a line is.
#[allow(clippy::large_enum_variant, reason = "read one at a time, and most are entries")]
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// An entry.
    Entry {
        /// One segment of a path.
        name: Bytes,
        /// What it is; of a link, the link itself.
        metadata: Metadata,
        /// What a link holds.
        target: Option<Bytes>,
    },
    /// The directory itself, or the one above it.
    Dots,
    /// A sum, an empty line.
    Nothing,
    /// None that is understood.
    Foreign,
}

/// Reads a line, without its end.
pub fn read(line: &[u8], dialect: Dialect, now: SystemTime) -> Line {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.starts_with(b"total ") {
        return Line::Nothing;
    }
    let Some((metadata, name)) = columns(line, now) else { return Line::Foreign };
    let Some((name, target)) = names(name, &metadata, dialect) else { return Line::Foreign };
    match &name[..] {
        b"." | b".." => Line::Dots,
        _ if check_name(&name).is_err() => Line::Foreign,
        _ => Line::Entry { name, metadata, target },
    }
}

/// Reads a line of which the name is known: what it tells, whatever stands behind the date.
pub fn read_known(line: &[u8], now: SystemTime) -> Option<Metadata> {
    columns(line, now).map(|(metadata, _)| metadata)
}

/// A word and where it ends.
type Word<'a> = (usize, &'a [u8]);

fn words(line: &[u8]) -> Vec<Word<'_>> {
    let mut out = Vec::new();
    let mut from = None;
    for (at, byte) in line.iter().enumerate() {
        match (*byte == b' ', from) {
            (false, None) => from = Some(at),
            (true, Some(begin)) => {
                out.push((at, line.get(begin..at).unwrap_or_default()));
                from = None;
                // The date begins within these, or nowhere.
                if out.len() == 24 {
                    return out;
                }
            }
            _ => {}
        }
    }
    if let Some(begin) = from {
        out.push((line.len(), line.get(begin..).unwrap_or_default()));
    }
    out
}

fn number(word: &[u8]) -> Option<u64> {
    let plain = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| plain)?.parse().ok()
}

/// What stands before the name, and the name as it is written.
fn columns(line: &[u8], now: SystemTime) -> Option<(Metadata, &[u8])> {
    let words = words(line);
    let (_, head) = words.first()?;
    let (kind, mode) = permissions(head)?;
    if head.contains(&b'?') {
        // GNU's line for what it could not look at: nothing but the name is known.
        let (end, last) = words.get(5)?;
        let unknown = words.get(1..6)?.iter().all(|(_, word)| *word == b"?");
        return (unknown && *last == b"?")
            .then(|| (Metadata::new(kind, 0), line.get(end + 1..).unwrap_or_default()))
            .filter(|(_, name)| !name.is_empty());
    }
    for at in 2..words.len() {
        let (_, before) = words.get(at - 1)?;
        // Devices have two numbers, which some write as one word.
        let device = before.split(|b| *b == b',').collect::<Vec<_>>();
        let size = match device[..] {
            // FreeBSD writes one number for a device, in hexadecimal digits.
            [hex] if kind == FileType::Other && hex.starts_with(b"0x") => Some(0),
            [one] => number(one),
            [major, minor] if number(major).is_some() && number(minor).is_some() => Some(0),
            _ => None,
        };
        let Some(size) = size else { continue };
        let Some((modified, used)) = date(words.get(at..)?, now) else { continue };
        let (end, _) = words.get(at + used - 1)?;
        // One space ends the date; the others are the name's.
        let name = line.get(end + 1..).filter(|name| !name.is_empty())?;
        let two = at >= 2 && words.get(at - 2).is_some_and(|(_, word)| word.last() == Some(&b','));
        let owners = words.get(1..if two { at - 2 } else { at - 1 }).unwrap_or_default();
        let size = if kind == FileType::Other || two { 0 } else { size };
        let mut metadata = Metadata { mode, modified: Some(modified), ..Metadata::new(kind, size) };
        owner(&mut metadata, owners);
        return Some((metadata, name));
    }
    None
}

/// Links, owner and group, where the columns are the usual ones.
fn owner(m: &mut Metadata, columns: &[Word<'_>]) {
    let Some(((_, links), rest)) = columns.split_first() else { return };
    let Some(links) = number(links) else { return };
    m.links = Some(links);
    let text = |word: &[u8]| std::str::from_utf8(word).ok().map(std::sync::Arc::from);
    if let Some((_, owner)) = rest.first() {
        match number(owner) {
            Some(id) => m.uid = u32::try_from(id).ok(),
            None => m.owner = text(owner),
        }
    }
    if let [_, (_, group)] = rest {
        match number(group) {
            Some(id) => m.gid = u32::try_from(id).ok(),
            None => m.group = text(group),
        }
    }
}

/// The first column: a letter for the kind, nine for the bits, and at most one mark for more (`+`, `.`, `@`).
fn permissions(word: &[u8]) -> Option<(FileType, Option<u32>)> {
    let (letter, rest) = word.split_first()?;
    let kind = match letter {
        b'-' => FileType::File,
        b'd' => FileType::Directory,
        b'l' => FileType::Symlink,
        b'b' | b'c' | b'p' | b's' | b'D' | b'n' | b'w' | b'?' => FileType::Other,
        _ => return None,
    };
    let (bits, mark) = rest.split_at_checked(9)?;
    if !matches!(mark, [] | [b'+' | b'.' | b'@']) {
        return None;
    }
    if bits == b"?????????" {
        return Some((kind, None));
    }
    let mut mode = 0_u32;
    for (n, b) in bits.iter().enumerate() {
        let bit = 1 << (8 - n);
        let special = [0o4000, 0o2000, 0o1000].get(n / 3).copied().unwrap_or_default();
        mode |= match (b, n % 3) {
            (b'-', _) => 0,
            (b'r', 0) | (b'w', 1) | (b'x', 2) => bit,
            (b's', 2) if n < 8 => bit | special,
            (b'S', 2) if n < 8 => special,
            (b't', 2) if n == 8 => bit | special,
            (b'T', 2) if n == 8 => special,
            // Mandatory locking, as System V shows it.
            (b'l' | b'L', 2) if n == 5 => special,
            _ => return None,
        };
    }
    Some((kind, Some(mode)))
}

fn digits(word: &[u8], most: usize) -> Option<i64> {
    number(word).filter(|_| word.len() <= most).and_then(|n| i64::try_from(n).ok())
}

/// `21:05`, `21:05:20`, `21:05:20.123456789`: seconds of the day, and whether they were told.
fn clock(word: &[u8]) -> Option<(i64, bool)> {
    let mut parts = word.split(|b| *b == b':');
    let hour = digits(parts.next()?, 2).filter(|h| *h < 24)?;
    let minute = digits(parts.next()?, 2).filter(|m| *m < 60)?;
    let second = match parts.next() {
        None => None,
        Some(text) => {
            let mut text = text.splitn(2, |b| *b == b'.');
            let second = digits(text.next()?, 2).filter(|s| *s <= 60)?;
            if text.next().is_some_and(|rest| number(rest).is_none()) {
                return None;
            }
            Some(second)
        }
    };
    parts.next().is_none().then_some((hour * 3600 + minute * 60 + second.unwrap_or(0), second.is_some()))
}

/// `+0130`, as seconds.
fn zone(word: &[u8]) -> Option<i64> {
    let (sign, rest) = word.split_first()?;
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = rest.split_at_checked(2).filter(|_| rest.len() == 4)?;
    Some(sign * (digits(hours, 2)? * 3600 + digits(minutes, 2)? * 60))
}

fn month(word: &[u8]) -> Option<i64> {
    let at = MONTHS.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(word))?;
    i64::try_from(at + 1).ok()
}

/// The day, counted from 1970, of a date that exists.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let year_of_era = shifted.rem_euclid(400);
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = era * 146_097 + of_era - 719_468;
    (civil(days) == (year, u8::try_from(month).ok()?, u8::try_from(day).ok()?)).then_some(days)
}

fn moment(days: i64, seconds: i64) -> Option<SystemTime> {
    let since = days * 86_400 + seconds;
    let by = Duration::from_secs(since.unsigned_abs());
    if since < 0 { UNIX_EPOCH.checked_sub(by) } else { UNIX_EPOCH.checked_add(by) }
}

/// A date at the head of `words`: when, and how many of them it takes.
fn date(words: &[Word<'_>], now: SystemTime) -> Option<(SystemTime, usize)> {
    let word = |n: usize| words.get(n).map(|(_, word)| *word);
    let first = word(0)?;
    let parts: Vec<_> = first.split(|b| *b == b'-').collect();
    if let [year, month, day] = parts[..]
        && year.len() == 4
    {
        let day = days(digits(year, 4)?, digits(month, 2)?, digits(day, 2)?)?;
        let (at, _) = clock(word(1)?)?;
        return match word(2).and_then(zone) {
            Some(zone) => Some((moment(day, at - zone)?, 3)),
            None => Some((moment(day, at)?, 2)),
        };
    }
    let second = word(1)?;
    // Some write the day first.
    let (month, day) = match month(first) {
        Some(month) => (month, digits(second, 2)?),
        None => (month(second)?, digits(first, 2)?),
    };
    let third = word(2)?;
    if let Some((at, exact)) = clock(third) {
        if exact && let Some(year) = word(3).filter(|w| w.len() == 4).and_then(|w| digits(w, 4)) {
            return Some((moment(days(year, month, day)?, at)?, 4));
        }
        return Some((moment(without_year(month, day, now)?, at)?, 3));
    }
    let year = digits(third, 4).filter(|_| third.len() == 4)?;
    Some((moment(days(year, month, day)?, 0)?, 3))
}

/// The last such day that is not in the future; a day is granted for clocks that differ.
fn without_year(month: i64, day: i64, now: SystemTime) -> Option<i64> {
    let today = unix(now).div_euclid(86_400);
    let (year, ..) = civil(today);
    // The 29th of February is that of the last leap year, eight years ago at most.
    (-1..=8).filter_map(|back| days(year - back, month, day)).find(|found| *found <= today + 1)
}

/// Name and link target of what stands behind the date.
fn names(text: &[u8], metadata: &Metadata, dialect: Dialect) -> Option<(Bytes, Option<Bytes>)> {
    const ARROW: &[u8] = b" -> ";
    let plain = |text: &[u8]| -> Option<Bytes> {
        Some(match dialect.escapes() {
            true => Bytes::from(unescape(text)?.into_owned()),
            false => Bytes::copy_from_slice(text),
        })
    };
    if !metadata.is_symlink() {
        return Some((plain(text)?, None));
    }
    if dialect == Dialect::Gnu {
        // Its spaces are escaped: the first arrow is the one.
        let at = text.windows(ARROW.len()).position(|w| w == ARROW)?;
        let (name, rest) = text.split_at_checked(at)?;
        return Some((plain(name)?, Some(plain(rest.get(ARROW.len()..)?)?)));
    }
    let text = plain(text)?;
    // The size of a link is the length of what it holds.
    let by_size = usize::try_from(metadata.size)
        .ok()
        .and_then(|size| text.len().checked_sub(size)?.checked_sub(ARROW.len()))
        .filter(|at| text.get(*at..at + ARROW.len()) == Some(ARROW));
    let at = by_size.or_else(|| text.windows(ARROW.len()).position(|w| w == ARROW))?;
    Some((text.slice(..at), Some(text.slice(at + ARROW.len()..))))
}

/// Takes the escapes of `ls -b` back.
fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.contains(&b'\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            same @ (b'\\' | b' ' | b'"' | b'\'') => same,
            high @ b'0'..=b'3' => {
                let digit = |b: u8| char::from(b).to_digit(8).and_then(|d| u8::try_from(d).ok());
                let (middle, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                digit(high)? * 64 + middle * 8 + low
            }
            _ => return None,
        });
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::longname::longname;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// 2026-11-21 21:05:20.
    fn now() -> SystemTime {
        at(1_795_295_120)
    }

    fn entry(line: &str, dialect: Dialect) -> (Vec<u8>, Metadata, Option<Vec<u8>>) {
        match read(line.as_bytes(), dialect, now()) {
            Line::Entry { name, metadata, target } => (name.to_vec(), metadata, target.map(|t| t.to_vec())),
            other => panic!("{line}: {other:?}"),
        }
    }

    /// Dialect, line, name, kind, size, mode, time.
    type Row = (Dialect, &'static str, &'static [u8], FileType, u64, u32, u64);

    /// Lines as programs printed them.
    #[test]
    fn lines_of_real_programs_are_read() {
        use Dialect::{Bsd, Full, Gnu, Plain};
        use FileType::{Directory, File, Other, Symlink};
        #[rustfmt::skip]
        let corpus: &[Row] = &[
            // GNU coreutils 9.1 (Debian 12).
            (Gnu, r"-rw-r--r-- 1 root root 5 2026-11-21 21:05:20.123456789 +0000 a\ b", b"a b", File, 5, 0o644, 1_795_295_120),
            (Gnu, r"-rw-r--r--. 1 u g 0 2020-02-29 00:00:00.000000000 +0000 \303\244\n\\x", "ä\n\\x".as_bytes(), File, 0, 0o644, 1_582_934_400),
            (Gnu, "drwxrwxrwt  9 root root 4096 2026-11-21 21:05:20.000000000 +0100 tmp", b"tmp", Directory, 4096, 0o1777, 1_795_291_520),
            (Gnu, "brw-rw---- 1 root disk 254, 0 2026-11-21 20:19:56.860000000 +0000 vda", b"vda", Other, 0, 0o660, 1_795_292_396),
            (Gnu, "-rwsr-xr-x+ 1 root Domain Users 54256 2023-03-23 12:40:35.000000000 +0000 passwd", b"passwd", File, 54256, 0o4755, 1_679_575_235),
            (Gnu, "-rw-r--r-- 1 u g 4294967296 1969-12-31 23:59:59.000000000 +0000 -old", b"-old", File, 1 << 32, 0o644, u64::MAX),
            // BusyBox 1.36, with and without --full-time.
            (Full, "-rw-r--r--    1 root     root             5 2026-11-21 21:05:20 +0000  two", b" two", File, 5, 0o644, 1_795_295_120),
            (Plain, "drwxr-xr-x    2 root     root          4096 Nov 21 21:05 d", b"d", Directory, 4096, 0o755, 1_795_295_100),
            (Plain, "crw-rw-rw-    1 root     root        1,   3 Nov 21 20:19 null", b"null", Other, 0, 0o666, 1_795_292_340),
            (Plain, "-rw-r--r--    1 1000     100            5 Jan  1  2020 x", b"x", File, 5, 0o644, 1_577_836_800),
            // macOS 14 and FreeBSD 14: -b -T.
            (Bsd, "-rw-r--r--@ 1 me  staff  5 Nov 21 21:05:20 2026 a b", b"a b", File, 5, 0o644, 1_795_295_120),
            (Bsd, r"-rw-r--r--  1 root  wheel  5 Nov 21 21:05:20 2026 a\nb\303\244", "a\nbä".as_bytes(), File, 5, 0o644, 1_795_295_120),
            (Bsd, "crw-rw-rw-  1 root  wheel  0x1d Nov 21 21:05:20 2026 null", b"null", Other, 0, 0o666, 1_795_295_120),
            // Solaris, and a listing without a group.
            (Plain, "-rw-r-lr--   1 root     sys         5 Dec 30 10:00 f", b"f", File, 5, 0o2644, 1_767_088_800),
            (Plain, "-rw-r--r--   1 root     5 30 Dec 10:00 f", b"f", File, 5, 0o644, 1_767_088_800),
            (Plain, "lrwxrwxrwx 1 root root 1 Feb 29 10:00 x -> y", b"x", Symlink, 1, 0o777, 1_709_200_800),
            // dropbear's hosts have BusyBox or toybox: the latter writes long-iso.
            (Plain, "-rw-r--r-- 1 root root 5 2026-11-21 21:05 x", b"x", File, 5, 0o644, 1_795_295_100),
        ];
        for (dialect, line, name, kind, size, mode, time) in corpus {
            let (found, m, _) = entry(line, *dialect);
            assert_eq!(
                (&found[..], m.file_type, m.size, m.mode),
                (*name, *kind, *size, Some(*mode)),
                "{line}"
            );
            let time = if *time == u64::MAX { UNIX_EPOCH - Duration::from_secs(1) } else { at(*time) };
            assert_eq!(m.modified, Some(time), "{line}");
        }
        let (_, m, _) = entry("-rw-r--r-- 3 alice staff 5 Nov 21 21:05 x", Plain);
        assert_eq!(
            (m.links, m.owner.as_deref(), m.group.as_deref()),
            (Some(3), Some("alice"), Some("staff"))
        );
        let (_, m, _) = entry("-rw-r--r-- 3 1000 100 5 Nov 21 21:05 x", Plain);
        assert_eq!((m.uid, m.gid), (Some(1000), Some(100)));
    }

    #[test]
    fn links_are_split_where_they_are_and_not_where_they_look_like_it() {
        let link = |line, dialect| {
            let (name, _, target) = entry(line, dialect);
            (String::from_utf8(name).unwrap(), String::from_utf8(target.unwrap()).unwrap())
        };
        let same = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            link(r"lrwxrwxrwx 1 r r 8 2026-11-21 21:05:20.0 +0000 a\ ->\ b -> c\ ->\ d", Dialect::Gnu),
            same("a -> b", "c -> d")
        );
        assert_eq!(link("lrwxrwxrwx 1 r r 1 Nov 21 21:05 a -> b -> c", Dialect::Plain), same("a -> b", "c"));
        assert_eq!(link("lrwxrwxrwx 1 r r 6 Nov 21 21:05 a -> b -> c", Dialect::Plain), same("a", "b -> c"));
        // In /proc links have no size.
        assert_eq!(link("lrwxrwxrwx 1 r r 0 Nov 21 21:05 a -> b", Dialect::Full), same("a", "b"));
    }

    #[test]
    fn what_could_not_be_looked_at_has_a_name_and_no_more() {
        let (name, m, _) = entry("-????????? ? ?    ?         ?            ? f g", Dialect::Full);
        assert_eq!((&name[..], m.mode, m.modified), (&b"f g"[..], None, None));
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let line = |text: &str| read(text.as_bytes(), Dialect::Gnu, now());
        assert_eq!(line("total 0"), Line::Nothing);
        assert_eq!(line(""), Line::Nothing);
        for name in [".", ".."] {
            assert_eq!(line(&format!("drwxr-xr-x 2 r r 6 2026-11-21 21:05:20.0 +0000 {name}")), Line::Dots);
        }
        for bad in [
            "hello",
            "-rw-r--r-- 1 r r 5 2026-11-21 21:05:20.0 +0000",
            "-rw-r--r-- 1 r r 5 2026-11-21 21:05:20.0 +0000 ../x",
            "-rw-r--r-- 1 r r 5 2026-11-21 21:05:20.0 +0000 a/b",
            "-rw-r--r-- 1 r r 5 2026-02-30 21:05:20.0 +0000 x",
            "-rw-r--r-- 1 r r 5 2026-11-21 25:05:20.0 +0000 x",
            r"-rw-r--r-- 1 r r 5 2026-11-21 21:05:20.0 +0000 x\",
            r"-rw-r--r-- 1 r r 5 2026-11-21 21:05:20.0 +0000 x\q",
            r"-rw-r--r-- 1 r r 5 2026-11-21 21:05:20.0 +0000 a\057b",
            "-rw-r--r-- 1 r r 5 2026-11-21 21:05:20.0 +0000 a\0b",
            "-rwxrwxrwz 1 r r 5 2026-11-21 21:05:20.0 +0000 x",
            "-rw-r--r--xy 1 r r 5 2026-11-21 21:05:20.0 +0000 x",
        ] {
            assert_eq!(line(bad), Line::Foreign, "{bad}");
        }
    }

    #[test]
    fn a_year_that_is_left_out_is_the_last_that_can_be() {
        let year = |line: &str| {
            let (_, m, _) = entry(line, Dialect::Plain);
            civil(unix(m.modified.unwrap()).div_euclid(86_400)).0
        };
        assert_eq!(year("-rw-r--r-- 1 r r 5 Nov 22 23:05 x"), 2026, "a clock that is ahead");
        assert_eq!(year("-rw-r--r-- 1 r r 5 Nov 23 00:05 x"), 2025);
        assert_eq!(year("-rw-r--r-- 1 r r 5 Feb 29 00:05 x"), 2024);
    }

    proptest! {
        #[test]
        fn what_our_server_prints_is_read_back(
            name in "[^/\u{0}\u{1}-\u{1f}]{1,20}", size: u32, mode in 0_u32..0o10000, back in 0_u64..15_000_000
        ) {
            let modified = at(1_795_295_120 - back);
            let m = Metadata { mode: Some(mode), modified: Some(modified), ..Metadata::new(FileType::File, size.into()) };
            let line = longname(name.as_bytes(), &m, now());
            let (found, read, _) = match read(&line, Dialect::Plain, now()) {
                Line::Entry { name, metadata, target } => (name, metadata, target),
                Line::Dots if name == "." || name == ".." => return Ok(()),
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert_eq!(&found[..], name.as_bytes());
            prop_assert_eq!((read.size, read.mode), (u64::from(size), Some(mode)));
            let minute = |t: SystemTime| unix(t).div_euclid(60);
            prop_assert_eq!(read.modified.map(minute), Some(minute(modified)));
        }

        #[test]
        fn any_line_is_survived(line: Vec<u8>, nth in 0_usize..4) {
            let dialect = [Dialect::Bsd, Dialect::Full, Dialect::Gnu, Dialect::Plain][nth];
            if let Line::Entry { name, .. } = read(&line, dialect, now()) {
                prop_assert!(check_name(&name).is_ok());
            }
        }
    }
}
