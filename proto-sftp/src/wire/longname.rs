//! The `longname` of NAME packets: a line as `ls -l` prints it (draft section 7).
//!
//! For people and for old clients that read owner names from it. Times are UTC; "now" is an argument,
//! as nothing here reads a clock. Newlines and other control bytes of the name are kept: the line is
//! not the place where a client learns the name.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use session_core::metadata::{FileType, Metadata};

pub(crate) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Half a year: an older time is shown with its year, as `ls` does.
const RECENT: i64 = 182 * 86_400;

/// Appends the line of the entry called `name`.
pub fn write(out: &mut BytesMut, name: &[u8], m: &Metadata, now: SystemTime) {
    out.put_slice(&mode(m));
    let links = m.links.unwrap_or(1);
    out.put_slice(format!(" {links:>4} ").as_bytes());
    column(out, m.owner.as_deref(), m.uid);
    column(out, m.group.as_deref(), m.gid);
    out.put_slice(format!("{:>12} ", m.size).as_bytes());
    out.put_slice(date(m.modified.unwrap_or(UNIX_EPOCH), now).as_bytes());
    out.put_u8(b' ');
    out.put_slice(name);
}

/// The line as a value of its own.
pub fn longname(name: &[u8], m: &Metadata, now: SystemTime) -> BytesMut {
    let mut out = BytesMut::with_capacity(64 + name.len());
    write(&mut out, name, m, now);
    out
}

fn column(out: &mut BytesMut, name: Option<&str>, id: Option<u32>) {
    let text = match (name, id) {
        (Some(name), _) => format!("{name:<8} "),
        (None, Some(id)) => format!("{id:<8} "),
        (None, None) => format!("{:<8} ", "-"),
    };
    out.put_slice(text.as_bytes());
}

fn mode(m: &Metadata) -> [u8; 10] {
    let (kind, usual) = match m.file_type {
        FileType::Directory => (b'd', 0o755),
        FileType::File => (b'-', 0o644),
        FileType::Symlink => (b'l', 0o777),
        FileType::Other => (b'?', 0o644),
    };
    let bits = m.mode.unwrap_or(usual);
    let has = |bit: u32, c: u8| if bits & bit != 0 { c } else { b'-' };
    let exec = |bit: u32, special: u32, both: u8, alone: u8| match (bits & bit != 0, bits & special != 0) {
        (true, true) => both,
        (false, true) => alone,
        (true, false) => b'x',
        (false, false) => b'-',
    };
    [
        kind,
        has(0o400, b'r'),
        has(0o200, b'w'),
        exec(0o100, 0o4000, b's', b'S'),
        has(0o040, b'r'),
        has(0o020, b'w'),
        exec(0o010, 0o2000, b's', b'S'),
        has(0o004, b'r'),
        has(0o002, b'w'),
        exec(0o001, 0o1000, b't', b'T'),
    ]
}

/// `Nov 21 04:54`, or `Nov 21  2019` where it is more than half a year away.
fn date(t: SystemTime, now: SystemTime) -> String {
    let (t, now) = (unix(t), unix(now));
    let (year, month, day) = civil(t.div_euclid(86_400));
    let month = MONTHS.get(usize::from(month) - 1).unwrap_or(&"???");
    if (now - t).abs() < RECENT {
        let s = t.rem_euclid(86_400);
        format!("{month} {day:>2} {:02}:{:02}", s / 3600, s / 60 % 60)
    } else {
        format!("{month} {day:>2} {year:>5}")
    }
}

pub(crate) fn unix(t: SystemTime) -> i64 {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4),
        Err(e) => -(i64::try_from(e.duration().as_secs()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)),
    }
}

/// Year, month and day of a day counted from 1970, in the proleptic Gregorian calendar. Years are
/// counted from March, so that the leap day is the last of its year.
pub(crate) fn civil(days: i64) -> (i64, u8, u8) {
    let shifted = days + 719_468; // from 0000-03-01
    let era = shifted.div_euclid(146_097); // 400 years
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(s)
    }

    fn line(m: &Metadata, now: u64) -> String {
        String::from_utf8(longname(b"name", m, at(now)).to_vec()).unwrap()
    }

    #[test]
    fn looks_as_ls_prints_it() {
        let mut m = Metadata::new(FileType::File, 1234);
        m.mode = Some(0o4640);
        m.uid = Some(1000);
        m.group = Some("staff".into());
        m.modified = Some(at(1_700_000_000)); // 2023-11-14 22:13:20
        assert_eq!(
            line(&m, 1_700_000_100),
            "-rwSr-----    1 1000     staff            1234 Nov 14 22:13 name"
        );
        assert_eq!(
            line(&m, 1_800_000_000),
            "-rwSr-----    1 1000     staff            1234 Nov 14  2023 name"
        );
        let dir = Metadata::new(FileType::Directory, 0);
        assert_eq!(line(&dir, 0), "drwxr-xr-x    1 -        -                   0 Jan  1 00:00 name");
    }

    #[test]
    fn the_calendar_is_right_around_leap_days_and_centuries() {
        for (day, want) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(day), want, "day {day}");
        }
    }
}
