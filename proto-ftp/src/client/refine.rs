//! Reply codes and what they mean as kinds of errors: the way back of `status.rs`.
//!
//! 550 proves nothing: it is `NotFound` unless the server's words are those of POSIX or of ours for
//! something else. That is a guess about a name, never an excuse to report success, and
//! `precise_errors` stays off. Where a caller's next step depends on the kind, [`super::remote`] asks again.

use session_core::error::{Error, ErrorKind, Retry};
use suppaftp::Status;

use super::machine::text_of;
use crate::wire::reply::Reply;

/// The error that a negative reply is. A positive one where none was due is the server's fault.
pub fn error_of(reply: &Reply) -> Error {
    let text = text_of(reply);
    let code = u32::from(reply.code);
    let e = Error::new(kind_of(code, &text)).with_wire(code, text.clone());
    let e = if text.is_empty() { e } else { e.with_detail(format!("the server says: {text}")) };
    match Status::from(code) {
        Status::CannotOpenDataConnection => e
            .with_retry(Retry::Later(None))
            .with_hint("the data connection did not come about; a firewall may be in between"),
        Status::TransferAborted => e.with_retry(Retry::AfterReconnect),
        Status::ActionAborted => e.with_retry(Retry::Later(None)),
        _ if code == 522 => {
            e.with_hint("the server wants data connections that resume the login's TLS session")
        }
        _ if matches!(code, 521 | 533..=536) => e.with_hint("the server wants TLS: use ftpes:// or ftps://"),
        _ => e,
    }
}

fn kind_of(code: u32, text: &str) -> ErrorKind {
    match Status::from(code) {
        Status::NotAvailable | Status::CannotOpenDataConnection | Status::TransferAborted => {
            ErrorKind::Disconnected
        }
        Status::InvalidCredentials | Status::NotLoggedIn => ErrorKind::Unauthenticated,
        Status::RequestFileActionIgnored => by_words(text).unwrap_or(ErrorKind::Locked),
        Status::ActionAborted => by_words(text).unwrap_or(ErrorKind::Internal),
        Status::RequestedActionNotTaken => ErrorKind::NoSpace,
        Status::BadCommand | Status::NotImplemented | Status::NotImplementedParameter => {
            ErrorKind::Unsupported
        }
        Status::BadArguments => ErrorKind::InvalidArgument,
        Status::StoringNeedAccount => ErrorKind::PermissionDenied,
        Status::FileUnavailable => by_words(text).unwrap_or(ErrorKind::NotFound),
        Status::PageTypeUnknown => ErrorKind::InvalidArgument,
        Status::ExceededStorage => ErrorKind::QuotaExceeded,
        Status::BadFilename => by_words(text).unwrap_or(ErrorKind::InvalidPath),
        Status::BadSequence => ErrorKind::PeerMisbehaved,
        _ => match code {
            434 | 431 => ErrorKind::Unsupported,
            521 | 522 | 533 => ErrorKind::PermissionDenied,
            534..=537 => ErrorKind::Unsupported,
            554 => ErrorKind::OutOfRange,
            555 => ErrorKind::InvalidArgument,
            400..=499 => ErrorKind::Throttled,
            500..=599 => ErrorKind::Internal,
            _ => ErrorKind::PeerMisbehaved,
        },
    }
}

/// What a server's words say where its code says little: the messages of POSIX and those of our kinds.
fn by_words(text: &str) -> Option<ErrorKind> {
    const WORDS: [(&str, ErrorKind); 18] = [
        ("no such", ErrorKind::NotFound),
        ("not found", ErrorKind::NotFound),
        ("permission denied", ErrorKind::PermissionDenied),
        ("access is denied", ErrorKind::PermissionDenied),
        ("not permitted", ErrorKind::PermissionDenied),
        ("read-only file system", ErrorKind::PermissionDenied),
        ("refused", ErrorKind::Refused),
        ("not empty", ErrorKind::NotEmpty),
        ("already exists", ErrorKind::AlreadyExists),
        ("file exists", ErrorKind::AlreadyExists),
        ("not a directory", ErrorKind::NotADirectory),
        ("is a directory", ErrorKind::IsADirectory),
        ("no space left", ErrorKind::NoSpace),
        ("quota", ErrorKind::QuotaExceeded),
        ("too many symbolic links", ErrorKind::LinkLoop),
        ("too many levels of symbolic links", ErrorKind::LinkLoop),
        ("name too long", ErrorKind::InvalidPath),
        ("precondition failed", ErrorKind::PreconditionFailed),
    ];
    let text = text.to_ascii_lowercase();
    WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, kind)| *kind)
}

/// The same reply under another kind.
pub(super) fn as_kind(e: &Error, kind: ErrorKind) -> Error {
    let refined = Error::new(kind);
    match e.wire() {
        Some(wire) => refined.with_wire(wire.code, wire.text.clone()),
        None => refined,
    }
}

/// Whether the server said that it does not know the command.
pub(super) fn is_unknown(reply: &Reply) -> bool {
    matches!(reply.code, 500 | 502 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_some_kind_and_keeps_the_words() {
        for code in 400..600 {
            let e = error_of(&Reply::new(code, "words"));
            assert_eq!(e.wire().map(|w| (w.code, w.text.as_str())), Some((u32::from(code), "words")));
        }
    }

    #[test]
    fn the_server_halfs_replies_come_back_as_what_they_were() {
        // Kinds whose code or words survive the wire.
        use ErrorKind as K;
        for kind in [
            K::AlreadyExists,
            K::InvalidArgument,
            K::InvalidPath,
            K::IsADirectory,
            K::LinkLoop,
            K::NoSpace,
            K::NotADirectory,
            K::NotEmpty,
            K::NotFound,
            K::OutOfRange,
            K::PermissionDenied,
            K::PreconditionFailed,
            K::QuotaExceeded,
            K::Refused,
            K::Unauthenticated,
            K::Unsupported,
        ] {
            let reply = crate::status::reply(&Error::new(kind));
            assert_eq!(error_of(&reply).kind(), kind, "{reply:?}");
        }
    }

    #[test]
    fn retries_are_hinted_at() {
        assert_eq!(error_of(&Reply::new(426, "x")).retry(), Retry::AfterReconnect);
        assert_eq!(error_of(&Reply::new(425, "x")).retry(), Retry::Later(None));
        assert_eq!(error_of(&Reply::new(450, "x")).retry(), Retry::Later(None));
        assert_eq!(error_of(&Reply::new(550, "x")).retry(), Retry::Never);
    }
}
