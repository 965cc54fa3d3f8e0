//! What a certificate says of itself: names and dates (RFC 5280, sections 4.1 and 4.2.1.6).
//!
//! Subject, issuer and dates are for showing; what cannot be read is empty. The names that a person may be
//! known by are told exactly or not at all: one common name, and alternative names that are text without
//! control characters. Whether the certificate may be believed is decided elsewhere, before.

use std::time::SystemTime;

use jiff::tz::TimeZone;

/// What is shown.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) validity: Option<(SystemTime, SystemTime)>,
    /// The common name, if there is exactly one.
    pub(super) common_name: Option<String>,
    /// Mail addresses and user principal names.
    pub(super) names: Vec<String>,
}

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const BOOLEAN: u8 = 0x01;
pub(super) const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// userPrincipalName: 1.3.6.1.4.1.311.20.2.3.
const UPN: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x14, 2, 3];
const OTHER_NAME: u8 = 0xa0;
const EXPLICIT: u8 = 0xa0;
const MAIL: u8 = 0x81;
/// Alternative names that are looked at.
const MAX_NAMES: usize = 32;

/// Takes one element off the head: its tag and its content.
pub(super) fn take<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
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

/// The same, where it has this tag: its content.
pub(super) fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
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
    let subject = expect(&mut body, SEQUENCE)?;
    let mut names = Vec::new();
    while let Some((tag, content)) = take(&mut body) {
        if tag == EXTENSIONS {
            names = alternative_names(content).unwrap_or_default();
        }
    }
    Some(Facts { subject: name(subject), issuer, validity, common_name: common_name(subject), names })
}

/// Whose a certificate is, and who made it, in DER form.
#[cfg(feature = "certificates")]
pub(super) fn parties(mut certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = expect(&mut certificate, SEQUENCE)?;
    let mut body = expect(&mut outer, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        take(&mut body)?;
    }
    take(&mut body)?; // serial number
    take(&mut body)?; // signature algorithm
    let issuer = expect(&mut body, SEQUENCE)?;
    take(&mut body)?; // validity
    Some((expect(&mut body, SEQUENCE)?, issuer))
}

/// A name that somebody may be known by: text that is what it looks like.
fn exact(tag: u8, value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let known = matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING);
    let plain = !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control);
    (known && plain).then(|| text.to_owned())
}

/// The common name, if there is exactly one: of several nobody knows which one was vouched for.
fn common_name(mut parts: &[u8]) -> Option<String> {
    let mut found = None;
    while let Some(mut set) = expect(&mut parts, SET) {
        while let Some(mut pair) = expect(&mut set, SEQUENCE) {
            if expect(&mut pair, OID)? != COMMON_NAME {
                continue;
            }
            let (tag, value) = take(&mut pair)?;
            if found.replace(exact(tag, value)?).is_some() {
                return None;
            }
        }
    }
    found
}

fn alternative_names(mut outer: &[u8]) -> Option<Vec<String>> {
    let mut extensions = expect(&mut outer, SEQUENCE)?;
    let mut out = Vec::new();
    while let Some(mut extension) = expect(&mut extensions, SEQUENCE) {
        if expect(&mut extension, OID)? != SUBJECT_ALT_NAME {
            continue;
        }
        if extension.first() == Some(&BOOLEAN) {
            take(&mut extension)?;
        }
        let mut value = expect(&mut extension, OCTET_STRING)?;
        let mut names = expect(&mut value, SEQUENCE)?;
        while let Some((tag, content)) = take(&mut names) {
            let name = match tag {
                MAIL => exact(IA5_STRING, content),
                OTHER_NAME => principal(content),
                _ => None,
            };
            out.extend(name.filter(|_| out.len() < MAX_NAMES));
        }
    }
    Some(out)
}

fn principal(mut content: &[u8]) -> Option<String> {
    if expect(&mut content, OID)? != UPN {
        return None;
    }
    let mut value = expect(&mut content, EXPLICIT)?;
    let (tag, text) = take(&mut value)?;
    exact(tag, text)
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

    fn certificate(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn persons_are_known_by_exact_names_only() {
        use rcgen::{DnType, SanType};
        let alice = certificate(|p| {
            p.distinguished_name.push(DnType::OrganizationName, "Example");
            p.distinguished_name.push(DnType::CommonName, "alice");
            p.subject_alt_names = vec![
                SanType::Rfc822Name("alice@example.org".try_into().unwrap()),
                SanType::DnsName("host.example.org".try_into().unwrap()),
                SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "alice@realm".into())),
                SanType::OtherName((vec![1, 2, 3], "mallory".into())),
            ];
        });
        let facts = read(&alice);
        assert_eq!(facts.common_name.as_deref(), Some("alice"));
        assert_eq!(facts.names, ["alice@example.org", "alice@realm"]);
        // What a comparison could be fooled with is no name.
        for cn in ["al\0ice", "", "al\nice"] {
            let der = certificate(|p| p.distinguished_name.push(DnType::CommonName, cn));
            assert_eq!(read(&der).common_name, None, "{cn:?}");
        }
        let none = certificate(|p| p.distinguished_name.push(DnType::OrganizationName, "Example"));
        assert_eq!((read(&none).common_name, read(&none).names.len()), (None, 0));
        // Two of them: the second is a copy of the first, byte by byte.
        let mut two = vec![SET, 12, SEQUENCE, 10, OID, 3, 0x55, 4, 3, UTF8_STRING, 3, b'b', b'o', b'b'];
        assert_eq!(common_name(&two).as_deref(), Some("bob"));
        two.extend_from_within(..);
        assert_eq!(common_name(&two), None);
        for cut in 0..alice.len() {
            read(&alice[..cut]);
        }
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
