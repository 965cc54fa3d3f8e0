//! Dates in listings: months in several languages, years of two digits, years that are left out.

use jiff::civil::{Date, DateTime, Time};

/// Names of months, lower case, without accents and dots where a server may leave them out; a name matches
/// from its beginning. Each row is a month.
const MONTHS: [&[&str]; 12] = [
    &["jan", "ene", "gen", "янв", "led", "sty", "tam", "oca", "ιαν"],
    &["feb", "fev", "fév", "fvr", "фев", "uno", "úno", "lut", "hel", "şub", "φεβ"],
    &["mar", "mär", "mrz", "maa", "мар", "bre", "bře", "mrt", "μαρ"],
    &["apr", "avr", "abr", "апр", "dub", "kwi", "huh", "nis", "απρ"],
    &["may", "mai", "mag", "maj", "mei", "май", "мая", "kve", "kvě", "tou", "μαϊ", "μάι"],
    &["jun", "juin", "giu", "июн", "cze", "kes", "haz", "ιουν"],
    &["jul", "juil", "lug", "июл", "lip", "hei", "tem", "ιουλ"],
    &["aug", "aou", "aoû", "ago", "авг", "srp", "sie", "elo", "ağu", "αυγ"],
    &["sep", "set", "сен", "zar", "zář", "wrz", "syy", "eyl", "σεπ"],
    &["oct", "okt", "ott", "out", "окт", "rij", "říj", "paz", "paź", "lok", "eki", "οκτ"],
    &["nov", "ноя", "lis", "mar.", "kas", "νοε", "νοέ"],
    &["dec", "dez", "dic", "des", "déc", "дек", "pro", "gru", "jou", "ara", "δεκ"],
];

/// The month that `word` names.
pub(super) fn month(word: &[u8]) -> Option<i8> {
    let text = match std::str::from_utf8(word) {
        Ok(text) => text.to_lowercase(),
        // ISO 8859-1 and its neighbours: enough for the accents above.
        Err(_) => word.iter().map(|b| char::from(*b)).collect::<String>().to_lowercase(),
    };
    let text = text.trim_end_matches(['.', ',']);
    if let Some(n) = text.strip_suffix('月') {
        return n.parse().ok().filter(|n| (1..=12).contains(n));
    }
    if text.chars().count() < 3 || text.chars().count() > 12 || !text.chars().all(char::is_alphabetic) {
        return None;
    }
    // The longest name that fits: "juin" and "juil" begin alike.
    let fits =
        |names: &&[&str]| names.iter().filter(|n| text.starts_with(**n)).map(|n| n.len()).max().unwrap_or(0);
    let best =
        MONTHS.iter().enumerate().map(|(n, names)| (fits(names), n)).max_by_key(|(len, n)| (*len, 12 - n))?;
    (best.0 > 0).then(|| i8::try_from(best.1 + 1).unwrap_or(1))
}

/// A day of the month: `5`, `05`, `5.`, `5,`, `5日`.
pub(super) fn day(word: &[u8]) -> Option<i8> {
    let text = std::str::from_utf8(word).ok()?;
    let text = text.trim_end_matches(['.', ',']).trim_end_matches('日');
    if text.len() > 2 {
        return None;
    }
    text.parse().ok().filter(|d| (1..=31).contains(d))
}

/// A year: four digits, or two (of 1970 to 2069).
pub(super) fn year(word: &[u8]) -> Option<i16> {
    let text = std::str::from_utf8(word).ok()?.trim_end_matches('年');
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: i16 = text.parse().ok()?;
    match text.len() {
        2 => Some(if n < 70 { 2000 + n } else { 1900 + n }),
        4 if (1900..=2200).contains(&n) => Some(n),
        _ => None,
    }
}

/// A time of day: `9:05`, `09:05:07`, `09:05:07.25`, `03:45PM`, `3:45 a`.
pub(super) fn clock(word: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(word).ok()?.to_ascii_lowercase();
    let digits = text.trim_end_matches(['a', 'p', 'm']);
    let half = text.get(digits.len()..)?;
    let mut parts = digits.split(':');
    let hour: i8 = parts.next()?.parse().ok()?;
    let minute: i8 = parts.next()?.parse().ok()?;
    let second = match parts.next() {
        Some(s) => s.split('.').next()?.parse::<i8>().ok()?.min(59),
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    let hour = match half {
        "" => hour,
        "a" | "am" if hour == 12 => 0,
        "a" | "am" => hour,
        "p" | "pm" if hour == 12 => 12,
        "p" | "pm" => hour + 12,
        _ => return None,
    };
    Time::new(hour, minute, second, 0).ok()
}

/// A date.
pub(super) fn date(year: i16, month: i8, day: i8) -> Option<Date> {
    Date::new(year, month, day).ok()
}

/// The year that is meant where none is written: the last one in which the day is not in the future. A day
/// is granted for zones and clocks.
pub(super) fn without_year(month: i8, day: i8, at: Time, now: DateTime) -> Option<DateTime> {
    let limit = now.date().tomorrow().ok()?;
    let this = date(now.year(), month, day).filter(|d| *d <= limit);
    // 29 February is that of the last leap year.
    let found = this.or_else(|| (1..=8).find_map(|back| date(now.year() - back, month, day)))?;
    Some(found.to_datetime(at))
}

/// Numbers with `-`, `/` or `.` between: three of them.
pub(super) fn three(word: &[u8]) -> Option<(&str, &str, &str)> {
    let text = std::str::from_utf8(word).ok()?;
    let mut parts = text.split(['-', '/', '.']);
    let all = (parts.next()?, parts.next()?, parts.next()?);
    let short = |p: &str| (1..=4).contains(&p.len());
    (parts.next().is_none() && short(all.0) && short(all.1) && short(all.2)).then_some(all)
}

/// `2026-01-31`, `2026/01/31`.
pub(super) fn iso(word: &[u8]) -> Option<Date> {
    let (y, m, d) = three(word)?;
    if y.len() != 4 {
        return None;
    }
    date(year(y.as_bytes())?, m.parse().ok()?, d.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_known_by_many_names() {
        for (name, n) in [
            ("Jan", 1),
            ("JAN", 1),
            ("janv.", 1),
            ("Feb", 2),
            ("févr.", 2),
            ("Mär", 3),
            ("März", 3),
            ("Mrz", 3),
            ("mars", 3),
            ("avr.", 4),
            ("Mai", 5),
            ("May", 5),
            ("juin", 6),
            ("juil.", 7),
            ("août", 8),
            ("Ago", 8),
            ("Set", 9),
            ("Okt", 10),
            ("окт", 10),
            ("Dez", 12),
            ("12月", 12),
        ] {
            assert_eq!(month(name.as_bytes()), Some(n), "{name}");
        }
        assert_eq!(month(b"M\xe4r"), Some(3));
        for bad in ["", "J", "12", "total", "13月", "-rw"] {
            assert_eq!(month(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_year_that_is_left_out_is_not_in_the_future() {
        let now = DateTime::constant(2026, 3, 1, 12, 0, 0, 0);
        let at = Time::midnight();
        let year = |m, d| without_year(m, d, at, now).unwrap().year();
        assert_eq!(
            (year(2, 28), year(3, 2), year(3, 3), year(12, 31), year(2, 29)),
            (2026, 2026, 2025, 2025, 2024)
        );
    }

    #[test]
    fn clocks_of_both_kinds() {
        let hm = |t: &str| clock(t.as_bytes()).map(|t| (t.hour(), t.minute()));
        assert_eq!(hm("12:05AM"), Some((0, 5)));
        assert_eq!(hm("12:05PM"), Some((12, 5)));
        assert_eq!(hm("03:45pm"), Some((15, 45)));
        assert_eq!(hm("9:05:07.25"), Some((9, 5)));
        assert_eq!(hm("25:00"), None);
        assert_eq!(hm("2020"), None);
    }
}
