//! When an account may be used: windows of the week, and the last day.
//!
//! `mon-fri 08:00-18:00`, `sat,sun 10:00-12:00`, `22:00-06:00` (every day; a window over midnight belongs to
//! the day on which it begins). Times are in UTC, or as far from it as is said behind: `… +02:00`.
//! Deliberately absent: names of time zones and the hour that summer brings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: i64 = 24 * 60;

/// A window of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// From Monday on.
    days: [bool; 7],
    /// Minutes of the day; `to` may be of the next one.
    from: i64,
    to: i64,
    /// Minutes east of Greenwich.
    offset: i64,
}

fn minutes(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |t: &str| (t.len() == 2).then(|| t.parse::<u8>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = i64::from(hours) * 60 + i64::from(minutes);
    (minutes < 60 && all <= DAY).then_some(all)
}

fn days(text: &str) -> Option<[bool; 7]> {
    let day = |d: &str| DAYS.iter().position(|n| n.eq_ignore_ascii_case(d));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (mut at, to) = (day(from)?, day(to)?);
        loop {
            *days.get_mut(at)? = true;
            if at == to {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}

impl Window {
    /// Reads a window. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad =
            || format!("'{text}' is no time of the week: write mon-fri 08:00-18:00, or 22:00-06:00 +01:00");
        let mut words: Vec<&str> = text.split_ascii_whitespace().collect();
        let offset = match words.last().filter(|w| w.starts_with(['+', '-'])) {
            Some(word) => {
                let sign = if word.starts_with('-') { -1 } else { 1 };
                let all = word.get(1..).and_then(minutes).filter(|m| *m <= 14 * 60).ok_or_else(bad)?;
                words.pop();
                sign * all
            }
            None => 0,
        };
        let (on, times) = match words.as_slice() {
            [times] => ([true; 7], *times),
            [on, times] => (days(on).ok_or_else(bad)?, *times),
            _ => return Err(bad()),
        };
        let (from, to) = times.split_once('-').ok_or_else(bad)?;
        let (from, to) = (minutes(from).ok_or_else(bad)?, minutes(to).ok_or_else(bad)?);
        if from == to || from == DAY {
            return Err(bad());
        }
        let to = if to < from { to + DAY } else { to };
        Ok(Window { days: on, from, to, offset })
    }

    /// Whether `now` is in it.
    pub fn contains(&self, now: SystemTime) -> bool {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let minutes = i64::try_from(seconds / 60).unwrap_or(0) + self.offset;
        let minute = minutes.rem_euclid(DAY);
        // The epoch was a Thursday.
        let today = (minutes.div_euclid(DAY) + 3).rem_euclid(7);
        let on = |day: i64| {
            usize::try_from(day.rem_euclid(7)).ok().and_then(|d| self.days.get(d).copied()).unwrap_or(false)
        };
        let within = |minute: i64| (self.from..self.to).contains(&minute);
        on(today) && within(minute) || on(today - 1) && within(minute + DAY)
    }
}

/// The end of a day of the calendar in UTC, or a moment: `2026-12-31`, `2026-12-31T18:00:00Z`.
pub fn moment(value: &toml::value::Datetime) -> Result<SystemTime, String> {
    let bad = || format!("'{value}' is no moment: write 2026-12-31, or 2026-12-31T18:00:00Z");
    let date = value.date.ok_or_else(bad)?;
    let days = days_since_epoch(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let seconds = match (&value.time, &value.offset) {
        // The day itself is good still.
        (None, _) => (days + 1) * 86_400,
        (Some(t), Some(offset)) => {
            let offset = match offset {
                toml::value::Offset::Z => 0,
                toml::value::Offset::Custom { minutes } => i64::from(*minutes),
            };
            let (hour, minute) = (i64::from(t.hour), i64::from(t.minute));
            days * 86_400 + hour * 3600 + (minute - offset) * 60 + t.second.map_or(0, i64::from)
        }
        (Some(_), None) => return Err(bad()),
    };
    let seconds = u64::try_from(seconds).map_err(|_| bad())?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(bad)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the day that comes and goes.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 was a Saturday.
    const SATURDAY: u64 = 20_778 * 86_400;

    fn in_window(text: &str, day: u64, hour: u64, minute: u64) -> bool {
        let now = UNIX_EPOCH + Duration::from_secs(SATURDAY + day * 86_400 + hour * 3600 + minute * 60);
        Window::parse(text).unwrap().contains(now)
    }

    #[test]
    fn windows_of_the_week() {
        assert!(!in_window("mon-fri 08:00-18:00", 0, 12, 0));
        assert!(in_window("mon-fri 08:00-18:00", 2, 8, 0) && !in_window("mon-fri 08:00-18:00", 2, 7, 59));
        assert!(in_window("mon-fri 08:00-18:00", 6, 17, 59) && !in_window("mon-fri 08:00-18:00", 6, 18, 0));
        assert!(in_window("fri-mon 00:00-24:00", 1, 23, 59) && !in_window("fri-mon 00:00-24:00", 3, 0, 0));
        assert!(in_window("SAT,tue 10:00-12:00", 0, 10, 0) && !in_window("sat,tue 10:00-12:00", 1, 10, 0));
        // Over midnight, of the day on which it begins.
        assert!(in_window("sat 22:00-06:00", 0, 22, 0) && in_window("sat 22:00-06:00", 1, 5, 59));
        assert!(!in_window("sat 22:00-06:00", 0, 5, 0) && !in_window("sat 22:00-06:00", 1, 22, 0));
        assert!(in_window("22:00-06:00", 4, 1, 0) && !in_window("22:00-06:00", 4, 12, 0));
        // Elsewhere it is later, or another day.
        assert!(in_window("sun 00:00-01:00 +02:00", 0, 22, 30) && !in_window("sun 00:00-01:00", 0, 22, 30));
        assert!(in_window("fri 23:00-24:00 -05:00", 0, 4, 30));
        for bad in [
            "",
            "mon",
            "08:00-08:00",
            "xyz 08:00-09:00",
            "8:00-9:00",
            "08:00-25:00",
            "08:60-09:00",
            "24:00-06:00",
        ] {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_and_moments() {
        let seconds = |text: &str| {
            let value = text.parse::<toml::value::Datetime>().unwrap();
            moment(&value).map(|t| t.duration_since(UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(seconds("1970-01-01"), Ok(86_400));
        assert_eq!(seconds("2026-11-20"), Ok(SATURDAY));
        assert_eq!(seconds("2000-02-29T00:00:00Z"), Ok(951_782_400));
        assert_eq!(seconds("2026-11-21T02:00:00+02:00"), Ok(SATURDAY));
        assert!(seconds("2026-11-21T02:00:00").is_err() && seconds("12:00:00").is_err());
    }
}
