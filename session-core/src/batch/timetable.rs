//! Speed limits by the time of the week, in rclone's manner: `08:00,512K 18:00,off`,
//! `Mon-08:00,1M Fri-23:00,off`.
//!
//! An entry stands until the next one, round the week; one without a day is for every day. Rates are bytes
//! per second with K, M, G (powers of 1024), or `off` for no limit. Pure: what the time is, and in which
//! zone, is the caller's.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u16 = 24 * 60;
const WEEK: u16 = 7 * DAY;

/// The longest text.
const MAX_TEXT: usize = 4096;

/// A number of bytes: `1000`, `500K`, `2M`, `1G`, in powers of 1024; `None` for anything else.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let cut = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(cut.len()..)?.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    cut.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// See the module. At least one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// By the minute of the week, which begins on Monday.
    entries: BTreeMap<u16, u64>,
}

impl Timetable {
    /// Parses a timetable. Errors: `InvalidArgument` with the entry that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let wrong = |entry: &str, why: &str| {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{entry}' is no entry of a timetable: {why}"))
                .with_hint("as '08:00,512K 18:00,off', or with days as 'Mon-08:00,1M Fri-18:00,off'")
        };
        if text.len() > MAX_TEXT {
            return Err(wrong("…", "the text is too long"));
        }
        for entry in text.split_ascii_whitespace() {
            let (time, rate) = entry.split_once(',').ok_or_else(|| wrong(entry, "a comma is missing"))?;
            let (day, time) = match time.split_once('-') {
                Some((day, time)) => {
                    let day = day.to_ascii_lowercase();
                    let known = DAYS.iter().position(|d| *d == day);
                    (Some(known.ok_or_else(|| wrong(entry, "that is no day"))?), time)
                }
                None => (None, time),
            };
            let minute = minute(time).ok_or_else(|| wrong(entry, "that is no time"))?;
            let rate = if rate.eq_ignore_ascii_case("off") { Some(0) } else { parse_bytes(rate) };
            let rate = rate.ok_or_else(|| wrong(entry, "that is no rate"))?;
            for n in (0..7u16).filter(|n| day.is_none_or(|day| day == usize::from(*n))) {
                if entries.insert(n * DAY + minute, rate).is_some() {
                    return Err(wrong(entry, "that time stands there already"));
                }
            }
        }
        if entries.is_empty() {
            return Err(wrong("", "there is none"));
        }
        Ok(Timetable { entries })
    }

    /// The limit at a minute of the week (0 is Monday 00:00), bytes per second; 0 is none.
    pub fn at(&self, minute: u16) -> u64 {
        let minute = minute % WEEK;
        let before = self.entries.range(..=minute).next_back();
        before.or_else(|| self.entries.last_key_value()).map_or(0, |(_, rate)| *rate)
    }

    /// In how many minutes the next entry begins, 1 to those of a week.
    pub fn next(&self, minute: u16) -> u16 {
        let minute = minute % WEEK;
        match self.entries.range(minute + 1..).next() {
            Some((next, _)) => next - minute,
            None => self.entries.first_key_value().map_or(WEEK, |(first, _)| first + WEEK - minute),
        }
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, most: u16| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|n| digits && *n < most)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

impl fmt::Display for Timetable {
    /// What [`parse`](Self::parse) reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (minute, rate)) in self.entries.iter().enumerate() {
            let day = DAYS.get(usize::from(minute / DAY)).copied().unwrap_or_default();
            let (hour, minute) = (minute % DAY / 60, minute % 60);
            let blank = if n > 0 { " " } else { "" };
            write!(f, "{blank}{day}-{hour:02}:{minute:02},")?;
            if *rate == 0 { f.write_str("off")? } else { write!(f, "{rate}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stands_until_the_next_one_round_the_week() {
        let table = Timetable::parse("08:00,512K 18:30,off").unwrap();
        for day in 0..7 {
            let at = |hour: u16, minute: u16| table.at(day * DAY + hour * 60 + minute);
            assert_eq!([at(0, 0), at(7, 59), at(8, 0), at(18, 29), at(18, 30)], [0, 0, 524_288, 524_288, 0]);
        }
        assert_eq!((table.next(0), table.next(8 * 60), table.next(WEEK - 1)), (480, 630, 481));
        let week = Timetable::parse("Mon-08:00,1M fri-23:59,off").unwrap();
        assert_eq!((week.at(0), week.at(8 * 60), week.at(4 * DAY + 23 * 60 + 58)), (0, 1 << 20, 1 << 20));
        assert_eq!((week.at(5 * DAY), week.next(5 * DAY)), (0, 2 * DAY + 480));
        let one = Timetable::parse("12:00,10").unwrap();
        assert_eq!((one.at(0), one.at(12 * 60), one.next(12 * 60)), (10, 10, DAY));
        assert_eq!(Timetable::parse("sun-00:00,1").unwrap().next(6 * DAY), WEEK);
    }

    #[test]
    fn what_is_no_timetable_is_refused_and_the_rest_comes_back() {
        for text in [
            "",
            "  ",
            "8,1",
            "24:00,1",
            "08:60,1",
            "08:00",
            "08:00,",
            "08:00,x",
            "08:00,1T",
            "Mo-08:00,1",
            "08:00,1 08:00,2",
            "08:00,1 Tue-8:00,2",
            "008:00,1",
            "+8:00,1",
            "08:00,10M:1M",
            "08:00;1",
        ] {
            let e = Timetable::parse(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{text}");
        }
        for text in ["08:00,512K 18:00,off", "Mon-8:05,1m Sat-00:00,OFF", "00:00,1G"] {
            let table = Timetable::parse(text).unwrap();
            assert_eq!(Timetable::parse(&table.to_string()).unwrap(), table, "{table}");
        }
        assert_eq!(parse_bytes("18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_bytes("18446744073709551615K"), None);
        assert_eq!((parse_bytes("é"), parse_bytes("K"), parse_bytes("-1")), (None, None, None));
    }
}
