//! Time stamps as FTP writes them: `YYYYMMDDHHMMSS`, with `.sss` where there is more, always in UTC (RFC
//! 3659, section 2.3); and the calendar beneath.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment by the calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Milliseconds.
    pub millis: u16,
}

/// Seconds since 1970 with milliseconds beside them, also before 1970.
fn since_epoch(time: SystemTime) -> (i64, u16) {
    let whole = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(d) => (whole(d), d.subsec_millis() as u16),
        Err(e) => {
            let d = e.duration();
            match d.subsec_millis() as u16 {
                0 => (-whole(d), 0),
                ms => (-whole(d) - 1, 1000 - ms),
            }
        }
    }
}

impl Civil {
    /// The moment of `time`.
    pub fn of(time: SystemTime) -> Self {
        let (seconds, millis) = since_epoch(time);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years that begin in March: the leap day is their last.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month: month as u8,
            day: day as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            millis,
        }
    }

    /// The time; `None` for a date that no calendar has, or one before the year 1601 or after 9999.
    pub fn time(self) -> Option<SystemTime> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let last = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let fits = (1601..=9999).contains(&self.year)
            && (1..=last).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
            && self.millis < 1000;
        if !fits {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let from_march = (i64::from(self.month) + 9) % 12;
        let of_year = (153 * from_march + 2) / 5 + i64::from(self.day) - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * 146_097 + of_era - 719_468;
        let seconds = days * 86_400
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second);
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
        base?.checked_add(Duration::from_millis(u64::from(self.millis)))
    }
}

/// `n` in decimal with at least `width` digits.
pub(super) fn digits(out: &mut Vec<u8>, n: u64, width: usize) {
    let mut text = [b'0'; 20];
    let mut left = n;
    let mut used = 0;
    for slot in text.iter_mut().rev() {
        *slot = b'0' + (left % 10) as u8;
        left /= 10;
        used += 1;
        if left == 0 && used >= width {
            break;
        }
    }
    out.extend_from_slice(text.get(text.len() - used..).unwrap_or_default());
}

/// Writes the stamp of `time`, with milliseconds where there are some and `fraction` is set.
pub fn write(out: &mut Vec<u8>, time: SystemTime, fraction: bool) {
    let c = Civil::of(time);
    digits(out, c.year.clamp(0, 9999).unsigned_abs(), 4);
    for n in [c.month, c.day, c.hour, c.minute, c.second] {
        digits(out, u64::from(n), 2);
    }
    if fraction && c.millis != 0 {
        out.push(b'.');
        digits(out, u64::from(c.millis), 3);
    }
}

/// Reads a stamp; `None` for what is none. More than three digits of a fraction are cut.
pub fn parse(text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 14 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to)?.parse::<u8>().ok();
    let millis: String = fraction.chars().chain("00".chars()).take(3).collect();
    let civil = Civil {
        year: whole.get(..4)?.parse().ok()?,
        month: part(4, 6)?,
        day: part(6, 8)?,
        hour: part(8, 10)?,
        minute: part(10, 12)?,
        second: part(12, 14)?,
        millis: millis.parse().ok()?,
    };
    civil.time()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(time: SystemTime) -> String {
        let mut out = Vec::new();
        write(&mut out, time, true);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(text(UNIX_EPOCH), "19700101000000");
        assert_eq!(text(UNIX_EPOCH + Duration::from_millis(951_782_400_250)), "20000229000000.250");
        assert_eq!(text(UNIX_EPOCH - Duration::from_millis(1)), "19691231235959.999");
        assert_eq!(parse(b"20240229235959"), Some(UNIX_EPOCH + Duration::from_secs(1_709_251_199)));
        assert_eq!(parse(b"20240101000000.5"), parse(b"20240101000000.500"));
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for stamp in [
            "20230229000000",
            "20240132000000",
            "20241301000000",
            "20240101240000",
            "20240101006000",
            "20240101000060",
            "00000101000000",
            "2024010100000",
            "+2024010100000",
            "20240101000000.",
            "20240101000000.x",
            "",
            "99999999999999",
        ] {
            assert_eq!(parse(stamp.as_bytes()), None, "{stamp}");
        }
    }

    proptest! {
        #[test]
        fn a_stamp_survives_the_way(seconds in -11_000_000_000i64..250_000_000_000, millis in 0u64..1000) {
            let whole = Duration::from_secs(seconds.unsigned_abs());
            let base = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
            let time = base + Duration::from_millis(millis);
            prop_assert_eq!(parse(text(time).as_bytes()), Some(time));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
