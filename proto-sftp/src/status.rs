//! Kinds of errors ↔ SFTP status codes: one `match` per direction, and nowhere else.
//!
//! Version 3 has seven codes for a peer (draft section 7). A kind without a code of its own is
//! *failure* with words; *no connection* (6) and *connection lost* (7) are a client's own and never
//! sent. Codes of later versions are understood, since some servers send them in version 3.

use russh_sftp::protocol::StatusCode;
use session_core::error::{Error, ErrorKind};

use crate::wire::Reply;

/// The code that a peer gets for `kind`.
pub fn code(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::LinkLoop | ErrorKind::NotADirectory | ErrorKind::NotFound => StatusCode::NoSuchFile,
        ErrorKind::PermissionDenied | ErrorKind::Refused | ErrorKind::Unauthenticated => {
            StatusCode::PermissionDenied
        }
        ErrorKind::OutOfRange => StatusCode::Eof,
        ErrorKind::PeerMisbehaved => StatusCode::BadMessage,
        ErrorKind::Unsupported => StatusCode::OpUnsupported,
        ErrorKind::AlreadyExists
        | ErrorKind::Canceled
        | ErrorKind::Closed
        | ErrorKind::Corrupt
        | ErrorKind::CrossDevice
        | ErrorKind::Disconnected
        | ErrorKind::Internal
        | ErrorKind::InvalidArgument
        | ErrorKind::InvalidPath
        | ErrorKind::IsADirectory
        | ErrorKind::Locked
        | ErrorKind::NoSpace
        | ErrorKind::NotEmpty
        | ErrorKind::PreconditionFailed
        | ErrorKind::QuotaExceeded
        | ErrorKind::Throttled
        | ErrorKind::TimedOut
        | ErrorKind::TooLarge => StatusCode::Failure,
    }
}

/// The kind that a peer's code means; `None` for *ok*. A code that nobody defined is `Internal`.
pub fn kind(code: u32) -> Option<ErrorKind> {
    Some(match code {
        0 => return None,
        1 => ErrorKind::OutOfRange,
        2 | 10 | 13 => ErrorKind::NotFound, // no such file, no such path, no media
        3 | 12 | 22 => ErrorKind::PermissionDenied, // also: write protected, cannot delete
        4 => ErrorKind::Internal,           // a failure that says nothing
        5 => ErrorKind::PeerMisbehaved,
        6 | 7 => ErrorKind::Disconnected,
        8 => ErrorKind::Unsupported,
        9 => ErrorKind::Closed, // invalid handle
        11 => ErrorKind::AlreadyExists,
        14 => ErrorKind::NoSpace,
        15 => ErrorKind::QuotaExceeded,
        17 | 25 | 26 | 27 => ErrorKind::Locked, // locks of the file or a range, delete pending
        18 => ErrorKind::NotEmpty,
        19 => ErrorKind::NotADirectory,
        20 => ErrorKind::InvalidPath,
        21 => ErrorKind::LinkLoop,
        16 | 23 | 29 | 30 | 31 => ErrorKind::InvalidArgument, // unknown owners and groups, parameters
        24 => ErrorKind::IsADirectory,
        28 => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    })
}

/// The STATUS that a peer gets for `e`: its code, and its words as far as they are for a peer.
pub fn reply(e: &Error) -> Reply {
    Reply::status(code(e.kind()) as u32, e.peer_words())
}

/// STATUS *ok*.
pub fn ok() -> Reply {
    Reply::status(StatusCode::Ok as u32, "ok")
}

/// STATUS *end of file*.
pub fn eof() -> Reply {
    Reply::status(StatusCode::Eof as u32, "end of file")
}

/// The error that a peer's STATUS means; `None` for *ok*. The peer's words are kept, shown only where
/// the kind says less.
pub fn error(code: u32, message: &[u8]) -> Option<Error> {
    let kind = kind(code)?;
    let text = String::from_utf8_lossy(message);
    let mut e = Error::new(kind).with_wire(code, text.trim_end());
    if kind == ErrorKind::Internal {
        e = e.with_detail("the server reports a failure");
    }
    Some(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_that_a_server_may_send() {
        for kind in ErrorKind::ALL {
            let code = code(kind) as u32;
            assert!((1..=8).contains(&code) && code != 6 && code != 7, "{kind:?} is {code}");
        }
    }

    #[test]
    fn kinds_with_a_code_of_their_own_survive_the_wire() {
        use ErrorKind::*;
        for k in [NotFound, PermissionDenied, OutOfRange, PeerMisbehaved, Unsupported] {
            assert_eq!(kind(code(k) as u32), Some(k));
        }
        // The rest arrive as the closest of these or as a failure.
        for k in ErrorKind::ALL {
            let back = kind(code(k) as u32).unwrap();
            assert_eq!(code(back), code(k), "{k:?} comes back as {back:?}");
        }
    }

    #[test]
    fn every_number_means_something() {
        assert_eq!(kind(0), None);
        for code in 1..200 {
            assert!(kind(code).is_some());
        }
        // The codes of versions 4 to 6 that the table of errors names.
        for (code, k) in [
            (11, ErrorKind::AlreadyExists),
            (14, ErrorKind::NoSpace),
            (15, ErrorKind::QuotaExceeded),
            (17, ErrorKind::Locked),
            (18, ErrorKind::NotEmpty),
            (19, ErrorKind::NotADirectory),
            (20, ErrorKind::InvalidPath),
            (21, ErrorKind::LinkLoop),
            (23, ErrorKind::InvalidArgument),
            (24, ErrorKind::IsADirectory),
        ] {
            assert_eq!(kind(code), Some(k));
        }
    }

    #[test]
    fn words_of_a_refusal_reach_the_peer_and_causes_do_not() {
        let e = Error::refused("no uploads on Sunday").with_source(std::io::Error::other("/real/path"));
        let Reply::Status { code, message, .. } = reply(&e) else { panic!("not a status") };
        assert_eq!((code, &message[..]), (3, &b"no uploads on Sunday"[..]));
    }
}
