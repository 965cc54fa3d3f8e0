//! Kinds of errors and S3's error codes with their HTTP statuses, both ways (Amazon S3 API Reference, "Error
//! responses").
//!
//! A kind whose word depends on what was asked has the word of an object here; the places that know better
//! (a bucket, an upload, a read under a condition) choose their own. Back from an answer its code counts; a
//! code that is not known, and an answer without one (HEAD has no body), is what its status says. Words that
//! S3 lacks (directories, room) have the nearest.

use session_core::error::ErrorKind;

/// The HTTP status and the S3 code that a client gets for `kind`.
pub fn code(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::AlreadyExists | ErrorKind::PreconditionFailed => (412, "PreconditionFailed"),
        // A client that was slow itself is told 400 RequestTimeout.
        ErrorKind::Canceled | ErrorKind::Disconnected | ErrorKind::TimedOut => (503, "ServiceUnavailable"),
        ErrorKind::Closed | ErrorKind::Internal => (500, "InternalError"),
        ErrorKind::Corrupt => (400, "BadDigest"),
        ErrorKind::CrossDevice | ErrorKind::Unsupported => (501, "NotImplemented"),
        ErrorKind::InvalidArgument | ErrorKind::NotADirectory => (400, "InvalidArgument"),
        ErrorKind::InvalidPath => (400, "InvalidURI"),
        ErrorKind::IsADirectory | ErrorKind::LinkLoop | ErrorKind::NotFound => (404, "NoSuchKey"),
        ErrorKind::Locked => (409, "OperationAborted"),
        ErrorKind::NoSpace => (507, "InsufficientStorage"),
        ErrorKind::NotEmpty => (409, "BucketNotEmpty"),
        ErrorKind::OutOfRange => (416, "InvalidRange"),
        ErrorKind::PeerMisbehaved => (400, "InvalidRequest"),
        ErrorKind::PermissionDenied | ErrorKind::Refused | ErrorKind::Unauthenticated => {
            (403, "AccessDenied")
        }
        ErrorKind::QuotaExceeded => (403, "QuotaExceeded"),
        ErrorKind::Throttled => (503, "SlowDown"),
        ErrorKind::TooLarge => (400, "EntityTooLarge"),
    }
}

/// What an answer with this status and this S3 code most likely was; `code` is empty where there is none.
pub fn kind(status: u16, code: &str) -> ErrorKind {
    kind_of_code(code).unwrap_or_else(|| kind_of_status(status))
}

/// What a code of S3 means, where it is known.
pub fn kind_of_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "BucketAlreadyExists" | "BucketAlreadyOwnedByYou" | "ObjectAlreadyExists" => ErrorKind::AlreadyExists,
        "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => {
            ErrorKind::Corrupt
        }
        "BucketNotEmpty" => ErrorKind::NotEmpty,
        "AccessDenied"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "InvalidObjectState"
        | "InvalidPayer"
        | "MethodNotAllowed"
        | "ObjectLockConfigurationNotFoundError"
        | "AccessForbidden"
        | "Forbidden" => ErrorKind::PermissionDenied,
        "AuthFailure"
        | "AuthorizationHeaderMalformed"
        | "AuthorizationQueryParametersError"
        | "ExpiredToken"
        | "InvalidAccessKeyId"
        | "InvalidSecurity"
        | "InvalidToken"
        | "MissingAuthenticationToken"
        | "MissingSecurityHeader"
        | "NotSignedUp"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "TokenRefreshRequired"
        | "UnauthorizedAccess" => ErrorKind::Unauthenticated,
        "InvalidBucketName" | "InvalidURI" | "KeyTooLongError" | "KeyTooLong" | "XMinioInvalidObjectName" => {
            ErrorKind::InvalidPath
        }
        "EntityTooSmall"
        | "InvalidArgument"
        | "InvalidPart"
        | "InvalidPartOrder"
        | "InvalidRequest"
        | "InvalidStorageClass"
        | "InvalidTag"
        | "InvalidDigest"
        | "MetadataTooLarge" => ErrorKind::InvalidArgument,
        "NotImplemented" | "UnsupportedOperation" => ErrorKind::Unsupported,
        "NoSuchBucket" | "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" | "NotFound" => ErrorKind::NotFound,
        "InsufficientStorage" | "XMinioStorageFull" => ErrorKind::NoSpace,
        "QuotaExceeded" | "TooManyBuckets" | "ServiceQuotaExceededException" => ErrorKind::QuotaExceeded,
        "EntityTooLarge" | "MaxMessageLengthExceeded" | "MaxPostPreDataLengthExceededError" => {
            ErrorKind::TooLarge
        }
        "PreconditionFailed" => ErrorKind::PreconditionFailed,
        "InvalidRange" => ErrorKind::OutOfRange,
        "OperationAborted" | "ConditionalRequestConflict" | "RestoreAlreadyInProgress" => ErrorKind::Locked,
        "BandwidthLimitExceeded"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "ServiceUnavailable"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "XMinioServerNotInitialized" => ErrorKind::Throttled,
        "RequestTimeout" => ErrorKind::TimedOut,
        "InternalError" => ErrorKind::Internal,
        _ => return None,
    })
}

/// What a status without a code that is known means.
pub fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        304 | 412 => ErrorKind::PreconditionFailed,
        401 | 407 => ErrorKind::Unauthenticated,
        403 | 405 | 451 => ErrorKind::PermissionDenied,
        404 | 410 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::TimedOut,
        409 => ErrorKind::Locked,
        411 | 415 | 422 | 431 => ErrorKind::InvalidArgument,
        413 => ErrorKind::TooLarge,
        414 => ErrorKind::InvalidPath,
        416 => ErrorKind::OutOfRange,
        429 | 503 => ErrorKind::Throttled,
        501 => ErrorKind::Unsupported,
        502 => ErrorKind::Disconnected,
        507 => ErrorKind::NoSpace,
        // Our requests are well formed: what is wrong with one is what it was told to carry.
        400 => ErrorKind::InvalidArgument,
        500..=599 => ErrorKind::Internal,
        _ => ErrorKind::PeerMisbehaved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_failure_with_a_code_that_is_known() {
        for there in ErrorKind::ALL {
            let (status, word) = code(there);
            assert!((400..600).contains(&status), "{there:?}");
            assert!(kind_of_code(word).is_some(), "{there:?}: {word}");
        }
    }

    #[test]
    fn kinds_with_a_word_of_their_own_come_back() {
        for there in [
            ErrorKind::Corrupt,
            ErrorKind::Internal,
            ErrorKind::InvalidArgument,
            ErrorKind::InvalidPath,
            ErrorKind::Locked,
            ErrorKind::NoSpace,
            ErrorKind::NotEmpty,
            ErrorKind::NotFound,
            ErrorKind::OutOfRange,
            ErrorKind::PermissionDenied,
            ErrorKind::PreconditionFailed,
            ErrorKind::QuotaExceeded,
            ErrorKind::Throttled,
            ErrorKind::TooLarge,
            ErrorKind::Unsupported,
        ] {
            let (status, word) = code(there);
            assert_eq!(kind(status, word), there);
        }
    }

    #[test]
    fn a_status_alone_says_what_it_can() {
        assert_eq!(kind(404, ""), ErrorKind::NotFound);
        assert_eq!(kind(403, "SomethingNew"), ErrorKind::PermissionDenied);
        assert_eq!(kind(403, "SignatureDoesNotMatch"), ErrorKind::Unauthenticated);
        assert_eq!(kind(400, "EntityTooLarge"), ErrorKind::TooLarge);
        for status in 0..1000 {
            let _ = kind(status, "");
        }
    }
}
