//! Kinds of errors and status codes, both ways (RFC 9110, section 15; RFC 4918, section 11).
//!
//! A kind whose word depends on what was asked has the word of most methods here; the places that know
//! better (a missing parent, MKCOL on what is there, 304 for reads) choose their own. Back from a code comes
//! the kind that it most likely was.

use session_core::error::ErrorKind;

/// The code that a client gets for `kind`.
pub fn code(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::AlreadyExists | ErrorKind::PreconditionFailed => 412,
        ErrorKind::Canceled => 503,
        ErrorKind::Closed | ErrorKind::Internal => 500,
        ErrorKind::Corrupt
        | ErrorKind::InvalidArgument
        | ErrorKind::InvalidPath
        | ErrorKind::PeerMisbehaved => 400,
        ErrorKind::CrossDevice | ErrorKind::Disconnected => 502,
        ErrorKind::IsADirectory => 405,
        ErrorKind::LinkLoop => 508,
        ErrorKind::Locked => 423,
        ErrorKind::NoSpace | ErrorKind::QuotaExceeded => 507,
        ErrorKind::NotADirectory | ErrorKind::NotEmpty => 409,
        ErrorKind::NotFound => 404,
        ErrorKind::OutOfRange => 416,
        ErrorKind::PermissionDenied | ErrorKind::Refused => 403,
        ErrorKind::Throttled => 429,
        ErrorKind::TimedOut => 504,
        ErrorKind::TooLarge => 413,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::Unsupported => 501,
    }
}

/// What a failure with this code most likely was.
pub fn kind(code: u16) -> ErrorKind {
    match code {
        // Our requests are well formed: what a server finds bad in one is its path.
        400 | 414 => ErrorKind::InvalidPath,
        415 | 422 | 431 => ErrorKind::InvalidArgument,
        401 | 407 => ErrorKind::Unauthenticated,
        403 | 451 => ErrorKind::PermissionDenied,
        404 | 410 => ErrorKind::NotFound,
        405 | 501 => ErrorKind::Unsupported,
        408 | 504 => ErrorKind::TimedOut,
        409 => ErrorKind::NotADirectory,
        412 => ErrorKind::PreconditionFailed,
        413 => ErrorKind::TooLarge,
        416 => ErrorKind::OutOfRange,
        423 | 424 => ErrorKind::Locked,
        429 | 503 => ErrorKind::Throttled,
        502 => ErrorKind::Disconnected,
        507 => ErrorKind::NoSpace,
        508 => ErrorKind::LinkLoop,
        500..=599 => ErrorKind::Internal,
        _ => ErrorKind::PeerMisbehaved,
    }
}

/// The words of a code, for status lines inside bodies.
pub fn words(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        423 => "Locked",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_failure_with_words() {
        for kind in ErrorKind::ALL {
            assert!((400..600).contains(&code(kind)), "{kind:?}");
            assert_ne!(words(code(kind)), "Status", "{kind:?}");
        }
    }

    #[test]
    fn kinds_with_a_code_of_their_own_come_back() {
        for there in [
            ErrorKind::NotFound,
            ErrorKind::PermissionDenied,
            ErrorKind::Unauthenticated,
            ErrorKind::PreconditionFailed,
            ErrorKind::OutOfRange,
            ErrorKind::Locked,
            ErrorKind::Throttled,
            ErrorKind::TimedOut,
            ErrorKind::TooLarge,
            ErrorKind::NoSpace,
            ErrorKind::LinkLoop,
            ErrorKind::Disconnected,
            ErrorKind::Unsupported,
            ErrorKind::Internal,
        ] {
            assert_eq!(kind(code(there)), there);
        }
        for number in 0..1000 {
            let _ = kind(number);
        }
    }
}
