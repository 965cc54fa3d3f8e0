//! What of a request may be believed before its signature is looked at (Signature Version 4, "Create a canonical
//! request"; "Authenticating requests: using query parameters").
//!
//! The library verifies that what was signed was not changed; here it is made sure that what counts was signed.
//! Whoever holds a presigned URL could else add fields to it: `x-amz-copy-source` makes a copy of whatever the
//! signer may read out of an upload. Signature Version 2 is refused: it has no date that is looked at, so a
//! request that was overheard could be sent again for ever.

use hyper::Uri;
use hyper::header::{self, HeaderMap};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::exchange::refuse;
use crate::wire::signing::{self, Fault, Signing};

/// Fields that change nothing that is done: some clients add them after they have signed.
const HARMLESS: [&str; 2] = ["x-amz-content-sha256", "x-amz-user-agent"];

/// How a request is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    /// Not at all, or in a form of POST.
    Not,
    /// By its `Authorization` field.
    Head,
    /// By its URL.
    Query,
}

/// Refuses what is not signed as it should be.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> S3Result<Signed> {
    let fields = headers.get_all(header::AUTHORIZATION).iter().map(|field| field.as_bytes());
    let signing = signing::of(uri.query().unwrap_or_default(), fields).map_err(|fault| match fault {
        Fault::Twice => refuse(S3ErrorCode::InvalidArgument, "only one way to sign a request is allowed"),
        Fault::Old => refuse(S3ErrorCode::InvalidRequest, "requests are signed with AWS4-HMAC-SHA256"),
        Fault::Malformed => {
            refuse(S3ErrorCode::AuthorizationHeaderMalformed, "the Authorization field is not understood")
        }
    })?;
    match signing {
        Signing::Not => Ok(Signed::Not),
        Signing::Head(names) => covered(&names, headers).map(|()| Signed::Head),
        Signing::Query(names) => covered(&names, headers).map(|()| Signed::Query),
    }
}

/// The host and every `x-amz-` field must be among the signed ones, and every signed one in the request.
fn covered(signed: &[String], headers: &HeaderMap) -> Result<(), S3Error> {
    let is_signed = |name: &str| signed.iter().any(|s| s == name);
    if !is_signed("host") {
        return Err(refuse(S3ErrorCode::AccessDenied, "the host is not signed"));
    }
    let open = |name: &str| name.starts_with("x-amz-") && !HARMLESS.contains(&name) && !is_signed(name);
    if headers.keys().any(|name| open(name.as_str())) {
        let words = "there were fields in the request which were not signed";
        return Err(refuse(S3ErrorCode::AccessDenied, words));
    }
    let absent = |name: &str| name != "host" && !headers.contains_key(name);
    if signed.iter().any(|name| absent(name)) {
        return Err(refuse(S3ErrorCode::AccessDenied, "a field that was signed is not in the request"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(url: &str, fields: &[(&'static str, &str)]) -> Result<Signed, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        check(&url.parse().unwrap(), &headers).map_err(|e| e.code().as_str().to_owned())
    }

    const HEAD: &str = "AWS4-HMAC-SHA256 Credential=K/20260101/r/s3/aws4_request, \
                        SignedHeaders=host;x-amz-date, Signature=00";
    const QUERY: &str = "/b/k?X-Amz-SignedHeaders=host%3Brange&X-Amz-Signature=00";

    #[test]
    fn what_counts_is_signed() {
        let date = ("x-amz-date", "20260101T000000Z");
        assert_eq!(judged("/b/k", &[]), Ok(Signed::Not));
        assert_eq!(judged("/b/k", &[("authorization", HEAD), date]), Ok(Signed::Head));
        let sha = ("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        assert_eq!(judged("/b/k", &[("authorization", HEAD), date, sha]), Ok(Signed::Head));
        assert_eq!(judged(QUERY, &[("range", "bytes=0-1")]), Ok(Signed::Query));
        let copy = ("x-amz-copy-source", "/other/secret");
        for (url, fields) in [
            ("/b/k", vec![("authorization", HEAD), date, copy]),
            ("/b/k", vec![("authorization", HEAD)]),
            (QUERY, vec![("range", "x"), copy]),
            (QUERY, vec![]),
            ("/b/k?X-Amz-Signature=00", vec![]),
            ("/b/k?X-Amz-Signature=00&X-Amz-SignedHeaders=date", vec![("date", "x")]),
        ] {
            assert_eq!(judged(url, &fields), Err("AccessDenied".into()), "{url} {fields:?}");
        }
    }

    #[test]
    fn one_way_to_sign_and_no_old_one() {
        let date = ("x-amz-date", "20260101T000000Z");
        let two = judged(QUERY, &[("authorization", HEAD), date]);
        assert_eq!(two, Err("InvalidArgument".into()));
        let twice = judged("/", &[("authorization", HEAD), ("authorization", HEAD), date]);
        assert_eq!(twice, Err("InvalidArgument".into()));
        for (url, field) in [
            ("/b/k?AWSAccessKeyId=K&Expires=1&Signature=x", None),
            ("/b/k", Some("AWS K:x")),
            ("/b/k", Some("Basic eDp5")),
        ] {
            let fields: Vec<_> = field.iter().map(|f| ("authorization", *f)).collect();
            assert_eq!(judged(url, &fields), Err("InvalidRequest".into()), "{url}");
        }
        let odd = judged("/", &[("authorization", "AWS4-HMAC-SHA256 Credential=K")]);
        assert_eq!(odd, Err("AuthorizationHeaderMalformed".into()));
    }
}
