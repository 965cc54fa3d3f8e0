//! Dates of HTTP (RFC 9110, section 5.6.7) and of properties (RFC 3339).
//!
//! The three forms of HTTP are read, the first is written. Whole seconds; what lies outside the years 1 to
//! 9999 is not written and not read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, fmt::strtime};

/// The form of HTTP: `Sun, 06 Nov 1994 08:49:37 GMT`.
const FIXED: &str = "%a, %d %b %Y %H:%M:%S GMT";
/// Older forms that are still read: that of RFC 850, and that of C's `asctime`.
const OBSOLETE: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let at = Timestamp::try_from(time).ok()?;
    // Rounded down, before 1970 too.
    let second = at.as_nanosecond().div_euclid(1_000_000_000);
    Timestamp::from_second(i64::try_from(second).ok()?).ok()
}

/// As HTTP writes it.
pub fn http(time: SystemTime) -> Option<String> {
    let at = timestamp(time)?;
    strtime::format(FIXED, &at.to_zoned(TimeZone::UTC)).ok().filter(|_| at.to_zoned(TimeZone::UTC).year() > 0)
}

/// As `creationdate` has it: `1994-11-06T08:49:37Z`.
pub fn internet(time: SystemTime) -> Option<String> {
    let at = timestamp(time)?;
    (at.to_zoned(TimeZone::UTC).year() > 0).then(|| at.to_string())
}

/// A date of HTTP.
pub fn parse_http(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let read = |form: &&str| DateTime::strptime(form, text).ok();
    let at = [FIXED].iter().chain(&OBSOLETE).find_map(read)?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

/// A date as properties hold it, with any offset and fraction.
pub fn parse_internet(text: &str) -> Option<SystemTime> {
    Some(text.trim().parse::<Timestamp>().ok()?.into())
}

/// Seconds since 1970, with a fraction perhaps: what `X-OC-Mtime` holds.
pub fn parse_seconds(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || whole.is_empty() || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds = whole.parse::<u64>().ok().filter(|s| *s <= 253_402_300_799)?;
    let nanos = format!("{fraction:0<9}").parse::<u32>().ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_http_are_one_time() {
        let at = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http(text), Some(at), "{text}");
        }
        assert_eq!(http(at).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http(at + Duration::from_millis(900)).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(internet(at).unwrap(), "1994-11-06T08:49:37Z");
        assert_eq!(parse_internet("1994-11-06T09:49:37.5+01:00"), Some(at + Duration::from_millis(500)));
        for bad in ["", "yesterday", "Sun, 06 Nov 1994", "Sun, 36 Nov 1994 08:49:37 GMT", "784111777"] {
            assert_eq!(parse_http(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_are_read_with_their_fraction() {
        assert_eq!(parse_seconds("1.25"), Some(UNIX_EPOCH + Duration::from_millis(1250)));
        assert_eq!(parse_seconds("784111777"), Some(UNIX_EPOCH + Duration::from_secs(784_111_777)));
        for bad in ["", "-1", "1e3", "1.2.3", "99999999999999999999", "253402300800", "1.1234567890"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }
}
