//! Lines of a script: parameters and variables filled in, then cut into words.
//!
//! `%1%`, `%2%`, … are parameters, `%NAME%` variables of the environment, `%TIMESTAMP±nU#format%` the local
//! time. What is not defined stays as it is written, for a percent sign may belong to a URL. Words are set
//! apart by blanks; quotes hold blanks, and a doubled quote inside quotes is one. What is filled in inside
//! quotes has its quotes doubled, so that it cannot end them.

use std::fmt::Write as _;

use jiff::{Span, Zoned};
use session_core::error::{Error, ErrorKind, Result};

/// What is filled in.
pub struct Variables<'a> {
    /// `%1%` and on.
    pub parameters: &'a [String],
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The time.
    pub now: &'a Zoned,
}

/// Fills a line in. Errors: `InvalidArgument` for a time that makes no sense.
pub fn expand(line: &str, variables: &Variables<'_>) -> Result<String> {
    let mut out = String::with_capacity(line.len());
    let mut quoted = false;
    let mut rest = line;
    while let Some(at) = rest.find(['%', '"']) {
        let (head, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(head);
        if let Some(after) = tail.strip_prefix('"') {
            quoted = !quoted;
            out.push('"');
            rest = after;
            continue;
        }
        let after = tail.strip_prefix('%').unwrap_or(tail);
        let found = after.find('%').and_then(|end| after.split_at_checked(end));
        let value = match found {
            Some((name, _)) => value(name, variables)?,
            None => None,
        };
        match (value, found) {
            (Some(value), Some((_, end))) => {
                if quoted {
                    out.push_str(&value.replace('"', "\"\""));
                } else {
                    out.push_str(&value);
                }
                rest = end.strip_prefix('%').unwrap_or(end);
            }
            _ => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(name: &str, variables: &Variables<'_>) -> Result<Option<String>> {
    if let Some(rest) = name.strip_prefix("TIMESTAMP").or_else(|| name.strip_prefix("timestamp")) {
        return timestamp(rest, variables.now);
    }
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        let n = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        return Ok(n.and_then(|n| variables.parameters.get(n)).cloned());
    }
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_()".contains(c));
    Ok(is_name.then(|| (variables.environment)(name)).flatten())
}

/// `[±nU]#format`: years, days, hours, minutes (`N`) or seconds from now.
fn timestamp(rest: &str, now: &Zoned) -> Result<Option<String>> {
    let Some((shift, format)) = rest.split_once('#') else { return Ok(None) };
    let bad = || {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'%TIMESTAMP{shift}#…%' is no time"))
            .with_hint("write a sign, a number and Y, D, H, N or S: %TIMESTAMP-1D#yyyy-mm-dd%")
    };
    let mut time = now.clone();
    if !shift.is_empty() {
        let (unit_at, unit) = shift.char_indices().next_back().ok_or_else(bad)?;
        let number = shift.get(..unit_at).unwrap_or_default();
        if !number.starts_with(['+', '-']) {
            return Err(bad());
        }
        let n: i64 = number.parse().map_err(|_| bad())?;
        let span = match unit.to_ascii_uppercase() {
            'Y' => Span::new().try_years(n),
            'D' => Span::new().try_days(n),
            'H' => Span::new().try_hours(n),
            'N' => Span::new().try_minutes(n),
            'S' => Span::new().try_seconds(n),
            _ => return Err(bad()),
        };
        time = span.and_then(|span| time.checked_add(span)).map_err(|_| bad())?;
    }
    Ok(Some(formatted(&time, format)))
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time in the letters that WinSCP's formats have: `yyyy`, `mm`, `dd`, `hh`, `nn`, `ss`, `zzz`; `mm` after
/// hours are minutes; text in quotes stays.
fn formatted(time: &Zoned, format: &str) -> String {
    let mut out = String::new();
    let chars: Vec<char> = format.chars().collect();
    let mut at = 0;
    let mut hours = false;
    while let Some(c) = chars.get(at) {
        if matches!(c, '\'' | '"') {
            let text = chars.get(at + 1..).unwrap_or_default();
            let end = text.iter().position(|e| e == c).unwrap_or(text.len());
            out.extend(text.get(..end).unwrap_or_default());
            at += end + 2;
            continue;
        }
        let run =
            chars.get(at..).unwrap_or_default().iter().take_while(|e| e.eq_ignore_ascii_case(c)).count();
        let name = |names: &[&str], n: usize| (*names.get(n).unwrap_or(&"")).to_string();
        let short = |text: String| text.chars().take(3).collect::<String>();
        let month = usize::try_from(time.month() - 1).unwrap_or(0);
        let day = usize::try_from(time.weekday().to_sunday_zero_offset()).unwrap_or(0);
        let number = |n: i64, width: usize| format!("{n:0width$}");
        let letter = c.to_ascii_lowercase();
        let minutes = letter == 'n' || (letter == 'm' && hours && run <= 2);
        let text = match (letter, run) {
            ('y', 1 | 2) => Some(number(i64::from(time.year()) % 100, 2)),
            ('y', _) => Some(number(i64::from(time.year()), 4)),
            (_, _) if minutes => Some(number(i64::from(time.minute()), run.min(2))),
            ('m', 1 | 2) => Some(number(i64::from(time.month()), run)),
            ('m', 3) => Some(short(name(&MONTHS, month))),
            ('m', _) => Some(name(&MONTHS, month)),
            ('d', 1 | 2) => Some(number(i64::from(time.day()), run)),
            ('d', 3) => Some(short(name(&DAYS, day))),
            ('d', _) => Some(name(&DAYS, day)),
            ('h', _) => Some(number(i64::from(time.hour()), run.min(2))),
            ('s', _) => Some(number(i64::from(time.second()), run.min(2))),
            ('z', _) => Some(number(i64::from(time.millisecond()), run.min(3))),
            _ => None,
        };
        match text {
            Some(text) => {
                hours = letter == 'h';
                out.push_str(&text);
            }
            None => out.extend(chars.get(at..at + run).unwrap_or_default()),
        }
        at += run;
    }
    out
}

/// Cuts a line into words. Errors: `InvalidArgument` for a quote that is not closed.
pub fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                word.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        let mut shown = String::new();
        let _ =
            write!(shown, "a quote is not closed: {}", line.split_whitespace().next().unwrap_or_default());
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail(shown));
    }
    words.extend(word);
    Ok(words)
}

/// A word as it is written in a line.
pub fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains([' ', '\t', '"']) {
        format!("\"{}\"", word.replace('"', "\"\""))
    } else {
        word.to_string()
    }
}

/// The lines of a script file. Errors: as [`decoded`].
pub fn lines(bytes: &[u8]) -> Result<Vec<String>> {
    Ok(decoded(bytes)?.lines().map(str::to_string).collect())
}

/// The text of a file that Windows may have written: UTF-8, with or without its mark, or UTF-16 with it. Errors:
/// `InvalidArgument` for what is neither.
pub fn decoded(bytes: &[u8]) -> Result<String> {
    let bad = || Error::new(ErrorKind::InvalidArgument).with_detail("the file is neither UTF-8 nor UTF-16");
    let units = |from: fn([u8; 2]) -> u16, rest: &[u8]| {
        let units: Vec<u16> =
            rest.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(from).collect();
        String::from_utf16(&units).map_err(|_| bad())
    };
    Ok(match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => std::str::from_utf8(rest).map_err(|_| bad())?.to_string(),
        [0xFF, 0xFE, rest @ ..] => units(u16::from_le_bytes, rest)?,
        [0xFE, 0xFF, rest @ ..] => units(u16::from_be_bytes, rest)?,
        rest => std::str::from_utf8(rest).map_err(|_| bad())?.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(line: &str) -> Result<String> {
        let now: Zoned = "2026-03-01T04:05:06.789[UTC]".parse().unwrap();
        let parameters = ["one".to_string(), "a \"b".to_string()];
        let environment = |name: &str| (name == "HOME").then(|| "/base/u".to_string());
        expand(line, &Variables { parameters: &parameters, environment: &environment, now: &now })
    }

    #[test]
    fn lines_are_filled_in() {
        for (line, expected) in [
            ("get %1% \"%2%\"", "get one \"a \"\"b\""),
            ("%3% %HOME% %UNKNOWN% 100%", "%3% /base/u %UNKNOWN% 100%"),
            ("open sftp://u:p%40%40x@h", "open sftp://u:p%40%40x@h"),
            ("x%TIMESTAMP#yyyy-mm-dd_hh-nn-ss.zzz%y", "x2026-03-01_04-05-06.789y"),
            ("%TIMESTAMP-1D#yyyymmdd%", "20260228"),
            ("%TIMESTAMP+1Y#yy%", "27"),
            ("%TIMESTAMP-6H#dd hh%", "28 22"),
            ("%TIMESTAMP#hh:mm d.m.%", "04:05 1.3."),
            ("%TIMESTAMP#mmm ddd 'at' mmmm%", "Mar Sun at March"),
            ("%TIMESTAMP%", "%TIMESTAMP%"),
        ] {
            assert_eq!(filled(line).unwrap(), expected, "{line}");
        }
        for bad in ["%TIMESTAMP1D#y%", "%TIMESTAMP-D#y%", "%TIMESTAMP-1Q#y%", "%TIMESTAMP-99999999999999Y#y%"]
        {
            assert!(filled(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_cut_into_words() {
        for (line, expected) in [
            ("get a  b", vec!["get", "a", "b"]),
            ("get \"a b\" -x=\"c d\"", vec!["get", "a b", "-x=c d"]),
            ("\"a\"\"b\"", vec!["a\"b"]),
            ("a \"\"", vec!["a", ""]),
            ("", vec![]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert!(words("get \"a").is_err());
    }

    #[test]
    fn files_come_in_three_encodings() {
        assert_eq!(lines(b"a\r\nb").unwrap(), ["a", "b"]);
        assert_eq!(lines(b"\xEF\xBB\xBF\xC3\xA4\n").unwrap(), ["ä"]);
        assert_eq!(lines(b"\xFF\xFE\xE4\0\n\0").unwrap(), ["ä"]);
        assert!(lines(b"\xE4").is_err());
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_read_back(word in any::<String>()) {
            prop_assume!(!word.contains(['\n', '\r']));
            prop_assert_eq!(words(&quoted(&word)).unwrap(), vec![word]);
        }

        #[test]
        fn no_line_makes_it_stumble(line in "[%#\"TIMESA'yhn0-9+P-]{0,40}") {
            let _ = filled(&line).and_then(|line| words(&line).map(|_| ()));
        }
    }
}
