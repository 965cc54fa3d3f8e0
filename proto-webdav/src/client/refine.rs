//! Status codes and what they mean as kinds of errors: the way back of `status.rs`.
//!
//! A code says less than a kind: 409 is whatever stood in the way, 405 and 412 what is there already or is
//! not what it should be. Those get the kind that is likeliest; where a caller's next step depends on it,
//! [`super::remote`] looks. A condition in the body (RFC 4918, section 16) is more exact than the code. The
//! server's words are kept, never acted on.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use quick_xml::Reader;
use quick_xml::events::Event;
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::path::display_bytes;

use super::call::Answered;
use super::props;
use crate::status;
use crate::wire::multistatus_reader::{Answer, Property};

/// Events of an error's body that are looked at.
const MOST: usize = 200;
/// The longest words that are kept.
const WORDS: usize = 300;
/// The longest wait that a server is believed to mean.
const LONGEST: Duration = Duration::from_secs(3600);

/// The kind that a code is likeliest to mean to a client.
pub(super) fn kind_of(code: u16) -> ErrorKind {
    match code {
        // What is in the way is a directory that is not there, more often than not (RFC 4918, section 9).
        409 => ErrorKind::NotFound,
        414 => ErrorKind::InvalidPath,
        // Another part of the same request failed, and with it this one.
        424 => ErrorKind::Canceled,
        code => status::kind(code),
    }
}

/// What a condition's name says better than the code.
fn kind_of_condition(name: &str) -> Option<ErrorKind> {
    Some(match name {
        "lock-token-submitted" | "no-conflicting-lock" => ErrorKind::Locked,
        "quota-not-exceeded" => ErrorKind::QuotaExceeded,
        "sufficient-disk-space" => ErrorKind::NoSpace,
        "resource-must-be-null" => ErrorKind::AlreadyExists,
        "cannot-modify-protected-property" => ErrorKind::Unsupported,
        _ => return None,
    })
}

fn error(status: u16, condition: Option<&str>, words: &str) -> Error {
    let kind = condition.and_then(kind_of_condition).unwrap_or_else(|| kind_of(status));
    let text = if words.is_empty() {
        StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default()
    } else {
        words
    };
    let e = Error::new(kind).with_wire(u32::from(status), text);
    let e = if words.is_empty() { e } else { e.with_detail(format!("the server says: {words}")) };
    match status {
        // The server has somebody else behind it who is away: it is not our connection that is lost.
        502 | 504 => e.with_retry(Retry::Later(None)),
        _ => e,
    }
}

/// The error that an answer is, with the words in its body.
pub(super) async fn refused(answered: Answered) -> Error {
    let status = answered.status.as_u16();
    let wait = answered.header(RETRY_AFTER).and_then(|v| wait_of(v, SystemTime::now()));
    let kind = answered.header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let body = answered.body.beginning().await;
    let (condition, words) = if kind.contains("xml") {
        xml_words(&body)
    } else if kind.starts_with("text/plain") {
        (None, shown(body.split(|b| *b == b'\n').next().unwrap_or_default()))
    } else {
        (None, String::new())
    };
    let e = error(status, condition.as_deref(), &words);
    match status {
        429 | 503 => e.with_retry(Retry::Later(wait)),
        _ => e,
    }
}

/// What an answer within a multistatus failed with, if it did.
pub(super) fn failure(answer: &Answer) -> Result<()> {
    match answer.status {
        Some(status) if !(200..300).contains(&status) => {
            Err(error(status, answer.conditions.first().map(String::as_str), &answer.description))
        }
        _ => Ok(()),
    }
}

/// What a property was refused with, if it was.
pub(super) fn refusal(answer: &Answer, property: &Property) -> Result<()> {
    if (200..300).contains(&property.status) {
        return Ok(());
    }
    Err(error(property.status, answer.conditions.first().map(String::as_str), &answer.description))
}

/// A success of the wrong kind.
pub(super) fn no_webdav(status: StatusCode) -> Error {
    Error::new(ErrorKind::Unsupported)
        .with_detail("the server speaks no WebDAV there")
        .with_wire(u32::from(status.as_u16()), status.canonical_reason().unwrap_or_default())
        .with_hint("look for the path of WebDAV in the server's manual: /dav/, /webdav/, /remote.php/dav/files/USER/")
}

/// The same answer under another kind.
pub(super) fn as_kind(e: &Error, kind: ErrorKind) -> Error {
    let refined = Error::new(kind);
    match e.wire() {
        Some(wire) => refined.with_wire(wire.code, wire.text.clone()),
        None => refined,
    }
}

/// The code that an error came with.
pub(super) fn status_of(e: &Error) -> Option<u32> {
    e.wire().map(|w| w.code)
}

/// What `Retry-After` says (RFC 9110, section 10.2.3): seconds, or a date.
fn wait_of(value: &str, now: SystemTime) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => props::time(value)?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(LONGEST))
}

fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    display_bytes(bytes.get(..WORDS).unwrap_or(bytes))
}

/// The first condition and the words of an error's body, of which nothing is certain but that it is short.
fn xml_words(body: &[u8]) -> (Option<String>, String) {
    let text = String::from_utf8_lossy(body);
    let mut reader = Reader::from_str(&text);
    let (mut depth, mut condition, mut words, mut within) = (0usize, None, String::new(), false);
    for _ in 0..MOST {
        match reader.read_event() {
            Ok(Event::Start(e)) => {
                depth += 1;
                let name = e.local_name().as_ref().to_owned();
                within = matches!(name.as_str(), "message" | "responsedescription" | "human-readable");
                if depth == 2 && condition.is_none() && kind_of_condition(&name).is_some() {
                    condition = Some(name);
                }
            }
            Ok(Event::Empty(e)) if depth == 1 && condition.is_none() => {
                let name = e.local_name().as_ref().to_owned();
                condition = kind_of_condition(&name).map(|_| name);
            }
            Ok(Event::Text(e)) if within && words.is_empty() => words = shown(e.as_bytes()),
            Ok(Event::End(_)) => {
                depth = depth.saturating_sub(1);
                within = false;
            }
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
    (condition, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_some_kind_and_is_kept() {
        for status in 300..600 {
            let e = error(status, None, "words");
            assert_eq!(e.wire().map(|w| (w.code, w.text.as_str())), Some((u32::from(status), "words")));
        }
    }

    #[test]
    fn retries_are_hinted_at() {
        let after = |status| error(status, None, "").retry();
        assert_eq!(after(423), Retry::Later(None));
        assert_eq!(after(429), Retry::Later(None));
        assert_eq!(after(503), Retry::Later(None));
        assert_eq!(after(502), Retry::Later(None));
        assert_eq!(after(507), Retry::Never);
        assert_eq!(after(404), Retry::Never);
        let now = props::time("Sat, 21 Nov 2026 17:00:00 GMT").unwrap();
        assert_eq!(wait_of("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait_of("Sat, 21 Nov 2026 17:01:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(wait_of("Sat, 21 Nov 2026 16:01:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait_of("99999999999", now), Some(LONGEST));
        assert_eq!(wait_of("soon", now), None);
    }

    #[test]
    fn a_body_says_more_than_a_code() {
        let body = br#"<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">
            <s:exception>X</s:exception><s:message>No room left</s:message><d:quota-not-exceeded/></d:error>"#;
        let (condition, words) = xml_words(body);
        assert_eq!((condition.as_deref(), words.as_str()), (Some("quota-not-exceeded"), "No room left"));
        assert_eq!(error(507, condition.as_deref(), &words).kind(), ErrorKind::QuotaExceeded);
        let (condition, _) = xml_words(
            b"<error xmlns='DAV:'><lock-token-submitted><href>/a</href></lock-token-submitted></error>",
        );
        assert_eq!(error(409, condition.as_deref(), "").kind(), ErrorKind::Locked);
        assert_eq!(xml_words(b"<<<"), (None, String::new()));
    }
}
