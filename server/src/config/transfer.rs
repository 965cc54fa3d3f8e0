//! `transfer`: how much content may move in a day, a week or a month (UTC; a week begins on Monday).
//!
//! Of a user: what the account moves, in all of its sessions. `total_transfer` of a group: its accounts together.

use serde::Deserialize;

words! {
    /// When counting begins anew.
    Period {
        /// At midnight.
        #[default]
        Day,
        /// On the first.
        Month,
        /// On Monday.
        Week,
    }
}

impl Period {
    /// Its word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
            Period::Week => "week",
        }
    }

    /// The first day of the period that holds `day`; both since 1970-01-01, a Thursday.
    pub fn start(self, day: i64) -> i64 {
        match self {
            Period::Day => day,
            Period::Week => day - (day + 3).rem_euclid(7),
            Period::Month => day - i64::from(day_of_month(day)) + 1,
        }
    }
}

/// From 1, in the Gregorian calendar, by eras of 400 years that begin in March.
fn day_of_month(day: i64) -> u8 {
    let of_era = (day + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    u8::try_from(of_year - (153 * month + 2) / 5 + 1).unwrap_or(1)
}

/// How much may move; bytes, 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Transfer {
    /// In what time.
    pub period: Period,
    /// To the server.
    pub upload: u64,
    /// From the server.
    pub download: u64,
    /// In both directions together.
    pub both: u64,
}

impl Transfer {
    /// Whether it limits nothing.
    pub fn is_none(&self) -> bool {
        (self.upload, self.download, self.both) == (0, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_where_a_calendar_says() {
        // 2024-02-29, 2024-03-01 (a Friday), 2026-11-21 (a Saturday), 2026-11-23 (a Monday), 1970-01-01.
        for (day, of_month, monday) in [
            (19_782, 29, 19_779),
            (19_783, 1, 19_779),
            (20_778, 21, 20_773),
            (20_780, 23, 20_780),
            (0, 1, -3),
        ] {
            assert_eq!(i64::from(day_of_month(day)), of_month, "{day}");
            assert_eq!(Period::Month.start(day), day - of_month + 1);
            assert_eq!(Period::Week.start(day), monday);
            assert_eq!(Period::Day.start(day), day);
        }
    }
}
