//! Kinds of errors and reply codes: which code a client gets (RFC 959, section 4.2; RFC 1123, section 4.1).
//!
//! A kind whose word depends on what was asked has the word of file operations here; what went wrong with
//! the data connection itself (425, 426, 522) is no kind and is chosen where that connection is made. The
//! way back is the client's (`client/refine.rs`), since 550 proves nothing.

use session_core::error::{Error, ErrorKind};

use crate::wire::reply::Reply;

/// The code that a client gets for `kind`.
pub fn code(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::AlreadyExists
        | ErrorKind::CrossDevice
        | ErrorKind::IsADirectory
        | ErrorKind::LinkLoop
        | ErrorKind::NotADirectory
        | ErrorKind::NotEmpty
        | ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::PreconditionFailed
        | ErrorKind::Refused => 550,
        ErrorKind::Canceled | ErrorKind::TimedOut => 426,
        ErrorKind::Closed | ErrorKind::Corrupt | ErrorKind::Disconnected | ErrorKind::Internal => 451,
        ErrorKind::InvalidArgument => 501,
        ErrorKind::InvalidPath => 553,
        ErrorKind::Locked | ErrorKind::Throttled => 450,
        ErrorKind::NoSpace => 452,
        ErrorKind::OutOfRange => 554,
        ErrorKind::PeerMisbehaved => 501,
        ErrorKind::QuotaExceeded | ErrorKind::TooLarge => 552,
        ErrorKind::Unauthenticated => 530,
        ErrorKind::Unsupported => 504,
    }
}

/// The reply for `e`: its code, and its words and hint as far as they are for a client.
pub fn reply(e: &Error) -> Reply {
    with_code(code(e.kind()), e)
}

/// The same with a code that the place knows better.
pub fn with_code(code: u16, e: &Error) -> Reply {
    let words = e.peer_words();
    match e.hint() {
        Some(hint) => Reply::new(code, format!("{words} ({hint})")),
        None => Reply::new(code, words.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_failure_that_an_ftp_server_may_send() {
        for kind in ErrorKind::ALL {
            let code = code(kind);
            assert!(
                (421..=426).contains(&code) || (450..=452).contains(&code) || (500..=554).contains(&code)
            );
            // What a retry may mend says so by its first digit (RFC 959, section 4.2).
            let transient = code < 500;
            let e = Error::new(kind);
            if e.retry() == session_core::error::Retry::Never {
                assert!(
                    !transient
                        || matches!(
                            kind,
                            ErrorKind::NoSpace
                                | ErrorKind::Canceled
                                | ErrorKind::Closed
                                | ErrorKind::Corrupt
                                | ErrorKind::Internal
                        ),
                    "{kind:?}"
                );
            }
        }
    }

    #[test]
    fn words_of_a_refusal_reach_the_client_and_causes_do_not() {
        let e = Error::refused("no uploads on Sunday").with_source(std::io::Error::other("/real/path"));
        assert_eq!(reply(&e), Reply::new(550, "no uploads on Sunday"));
    }
}
