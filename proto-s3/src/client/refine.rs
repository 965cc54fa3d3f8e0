//! Answers of a store as errors: the way back of `status.rs`.
//!
//! The code decides, and where there is none (HEAD has no body) the status. The store's words are kept, never
//! acted on. What our own connections said comes back as it was. A region that an answer names is told apart:
//! a bucket is asked for where it lies.

use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use session_core::error::{Error, ErrorKind, Retry};
use session_core::path::display_bytes;

use crate::status;

/// The longest words that are kept.
const WORDS: usize = 300;
/// The longest wait that a store is believed to mean.
const LONGEST: Duration = Duration::from_secs(3600);

/// What an operation of the SDK failed with.
pub(super) type Failed<E> = SdkError<E, HttpResponse>;

/// The same as an error of ours.
pub(super) fn error<E>(e: Failed<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    if let Some(ours) = ours(&e) {
        return ours;
    }
    match &e {
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let code = service.err().code().unwrap_or_default();
            let words = service.err().message().unwrap_or_default();
            let wait = raw.headers().get("retry-after").and_then(|v| v.trim().parse().ok());
            answered(raw.status().as_u16(), code, words, wait.map(Duration::from_secs))
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let error = Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the store's answer cannot be read")
                .with_wire(u32::from(status), "");
            error.with_source(e)
        }
        SdkError::ConstructionFailure(_) => {
            Error::new(ErrorKind::InvalidArgument).with_detail("that makes no request").with_source(e)
        }
        SdkError::TimeoutError(_) => Error::new(ErrorKind::TimedOut).with_source(e),
        // Everything that our connections say is ours: what is left is about who signs.
        _ => Error::new(ErrorKind::Unauthenticated)
            .with_detail("the request could not be signed: no credentials were found, or they cannot be had")
            .with_source(e),
    }
}

/// The error of an answer with this status and this code.
pub(super) fn answered(code: u16, word: &str, words: &str, wait: Option<Duration>) -> Error {
    let kind = status::kind(code, word);
    let words = shown(words.as_bytes());
    let error = match (word.is_empty(), words.is_empty()) {
        (true, true) => Error::new(kind).with_wire(u32::from(code), ""),
        (_, true) => Error::new(kind).with_wire(u32::from(code), shown(word.as_bytes())),
        _ => Error::new(kind)
            .with_detail(format!("the store says: {words}"))
            .with_wire(u32::from(code), format!("{}: {words}", shown(word.as_bytes()))),
    };
    let error = match hint(word) {
        Some(hint) => error.with_hint(hint),
        None => error,
    };
    match (kind, code) {
        (ErrorKind::Throttled, _) => error.with_retry(Retry::Later(wait.map(|w| w.min(LONGEST)))),
        // The store has stumbled; it asks to be asked again. It is not our connection that is lost.
        (ErrorKind::Internal | ErrorKind::Disconnected, 500..=599) => error.with_retry(Retry::Later(None)),
        _ => error,
    }
}

fn hint(word: &str) -> Option<&'static str> {
    Some(match word {
        "RequestTimeTooSkewed" => "set the clock of this machine: a signature holds for some minutes only",
        "SignatureDoesNotMatch" => "check the secret of the key, and the region",
        "InvalidAccessKeyId" => "check the id of the key, and whether this store is the one that knows it",
        "ExpiredToken" | "TokenRefreshRequired" => "the credentials have run out: log in again",
        "InvalidObjectState" => "the object is archived: have it restored first",
        "NoSuchBucket" => "'ferry mkdir' makes a bucket where the first level of a path is missing",
        _ => return None,
    })
}

/// The region that an answer names, where the bucket lies elsewhere than the request was made for.
pub(super) fn region_told<E>(e: &Failed<E>) -> Option<String> {
    let raw = e.raw_response()?;
    if raw.status().is_success() {
        return None;
    }
    let header = raw.headers().get("x-amz-bucket-region").map(str::to_owned);
    let region = header.or_else(|| {
        let body = String::from_utf8_lossy(raw.body().bytes()?);
        element(&body, "Region").map(str::to_owned)
    })?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (!region.is_empty() && region.len() <= 64 && region.bytes().all(fits)).then_some(region)
}

/// Whether our clock was the reason. The SDK has seen the store's by now.
pub(super) fn is_skew<E: ProvideErrorMetadata>(e: &Failed<E>) -> bool {
    e.as_service_error().and_then(ProvideErrorMetadata::code) == Some("RequestTimeTooSkewed")
}

/// The text of the first element of this name. Enough for an error's body, of which nothing depends on it but
/// where to ask next.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once('<').map(|(text, _)| text.trim())
}

/// What our own connections said, wherever the SDK has put it.
pub(super) fn ours(e: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut at = Some(e);
    while let Some(e) = at {
        if let Some(ours) = e.downcast_ref::<Error>() {
            return Some(ours.clone());
        }
        at = e.source();
    }
    None
}

fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    display_bytes(bytes.get(..WORDS).unwrap_or(bytes))
}

/// The same answer under another kind.
pub(super) fn as_kind(e: &Error, kind: ErrorKind) -> Error {
    let refined = Error::new(kind);
    match e.wire() {
        Some(wire) => refined.with_wire(wire.code, wire.text.clone()),
        None => refined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_and_the_code_decides() {
        let e = answered(403, "SignatureDoesNotMatch", "no match", None);
        assert_eq!((e.kind(), e.retry()), (ErrorKind::Unauthenticated, Retry::Never));
        assert_eq!(e.wire().map(|w| w.text.as_str()), Some("SignatureDoesNotMatch: no match"));
        assert!(e.hint().is_some());
        assert_eq!(answered(404, "", "", None).kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_store_that_stumbles_may_be_asked_again() {
        let wait = Some(Duration::from_secs(7));
        assert_eq!(answered(503, "SlowDown", "", wait).retry(), Retry::Later(wait));
        assert_eq!(answered(500, "InternalError", "", None).retry(), Retry::Later(None));
        assert_eq!(answered(502, "", "", None).retry(), Retry::Later(None));
        assert_eq!(answered(501, "NotImplemented", "", None).retry(), Retry::Never);
        assert_eq!(answered(404, "NoSuchKey", "", None).retry(), Retry::Never);
    }

    #[test]
    fn a_region_is_found_in_a_body() {
        let body = "<Error><Code>X</Code><Region>garage</Region></Error>";
        assert_eq!(element(body, "Region"), Some("garage"));
        assert_eq!(element("<Error/>", "Region"), None);
        assert_eq!(element("<Region>x", "Region"), None);
    }
}
