//! What a certificate says of itself, for people: names and dates (RFC 5280, section 4.1).
//!
//! Only for showing; nothing is decided by it. What cannot be read is empty.

use std::time::SystemTime;

use jiff::tz::TimeZone;

/// What is shown.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) validity: Option<(SystemTime, SystemTime)>,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// Takes one element off the head: its tag and its content.
fn take<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let len = if first < 0x80 {
        usize::from(first)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        rest = after;
        digits.iter().fold(0, |n, d| n << 8 | usize::from(*d))
    };
    let (content, after) = rest.split_at_checked(len)?;
    *input = after;
    Some((tag, content))
}

fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    take(input).filter(|(t, _)| *t == tag).map(|(_, content)| content)
}

/// Reads a certificate in DER form.
pub(super) fn read(certificate: &[u8]) -> Facts {
    try_read(certificate).unwrap_or_default()
}

fn try_read(mut certificate: &[u8]) -> Option<Facts> {
    let mut outer = expect(&mut certificate, SEQUENCE)?;
    let mut body = expect(&mut outer, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        take(&mut body)?;
    }
    take(&mut body)?; // serial number
    take(&mut body)?; // signature algorithm
    let issuer = name(expect(&mut body, SEQUENCE)?);
    let mut dates = expect(&mut body, SEQUENCE)?;
    let validity = time(take(&mut dates)?).zip(time(take(&mut dates)?));
    let subject = name(expect(&mut body, SEQUENCE)?);
    Some(Facts { subject, issuer, validity })
}

fn name(mut parts: &[u8]) -> String {
    let mut out: Vec<String> = Vec::new();
    while let Some(mut set) = expect(&mut parts, SET) {
        while let Some(mut pair) = expect(&mut set, SEQUENCE) {
            let Some(oid) = expect(&mut pair, OID) else { break };
            let Some((_, value)) = take(&mut pair) else { break };
            let key = match oid {
                [0x55, 4, 3] => "CN",
                [0x55, 4, 6] => "C",
                [0x55, 4, 7] => "L",
                [0x55, 4, 8] => "ST",
                [0x55, 4, 10] => "O",
                [0x55, 4, 11] => "OU",
                _ => continue,
            };
            if out.len() < 16 {
                let value = value.get(..256).unwrap_or(value);
                out.push(format!("{key}={}", String::from_utf8_lossy(value)));
            }
        }
    }
    out.join(", ")
}

fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let day = jiff::civil::Date::new(year, part(0)?, part(2)?).ok()?;
    let at = jiff::civil::Time::new(part(4)?, part(6)?, part(8).unwrap_or(0), 0).ok()?;
    Some(day.to_datetime(at).to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_names_and_dates() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["h.example".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "h.example");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Ferry & Co");
        params.not_before = rcgen::date_time_ymd(2020, 1, 2);
        params.not_after = rcgen::date_time_ymd(2120, 1, 2);
        let made = params.self_signed(&key).unwrap();
        let facts = read(made.der());
        assert!(
            facts.subject.contains("CN=h.example") && facts.subject.contains("O=Ferry & Co"),
            "{facts:?}"
        );
        assert_eq!(facts.issuer, facts.subject);
        let (from, to) = facts.validity.unwrap();
        let days = to.duration_since(from).unwrap().as_secs() / 86_400;
        assert_eq!(days, 36_524);
    }

    #[test]
    fn anything_else_is_shown_as_nothing() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["h".to_owned()]).unwrap().self_signed(&key).unwrap();
        for cut in 0..made.der().len() {
            read(&made.der()[..cut]);
        }
        assert_eq!(read(b"\x30\xff\xff\xff\xff\xff"), Facts::default());
    }
}
