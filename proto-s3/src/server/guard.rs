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

/// Whether the region of a signature is no name of one that the library takes: s3cmd begins with `US`, and signs
/// anew for the region that it is told.
pub(super) fn has_odd_region(headers: &HeaderMap) -> bool {
    let region = || {
        let field = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let credential = field.split(['=', ',', ' ']).skip_while(|w| *w != "Credential").nth(1)?;
        credential.split('/').rev().nth(2)
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    region().is_some_and(|region| !region.bytes().all(plain))
}

/// Refuses what is not signed as it should be.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> S3Result<Signed> {
    let query = uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        query.split('&').find_map(|p| {
            let (key, value) = p.split_once('=').unwrap_or((p, ""));
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (field, more) = (fields.next(), fields.next());
    let in_query = parameter("X-Amz-Signature").is_some();
    let old = parameter("AWSAccessKeyId").is_some() || parameter("Signature").is_some();
    if more.is_some() || (field.is_some() && (in_query || old)) {
        return Err(refuse(S3ErrorCode::InvalidArgument, "only one way to sign a request is allowed"));
    }
    let version_2 = || refuse(S3ErrorCode::InvalidRequest, "requests are signed with AWS4-HMAC-SHA256");
    if old {
        return Err(version_2());
    }
    if in_query {
        let names = parameter("X-Amz-SignedHeaders").unwrap_or_default();
        let names = percent_encoding::percent_decode_str(names).decode_utf8_lossy();
        covered(&names, headers)?;
        return Ok(Signed::Query);
    }
    let Some(field) = field else { return Ok(Signed::Not) };
    let malformed =
        || refuse(S3ErrorCode::AuthorizationHeaderMalformed, "the Authorization field is not understood");
    let field = field.to_str().map_err(|_| malformed())?;
    let Some(rest) = field.strip_prefix("AWS4-HMAC-SHA256") else { return Err(version_2()) };
    let names =
        rest.split(',').find_map(|p| p.trim().strip_prefix("SignedHeaders=")).ok_or_else(malformed)?;
    covered(names, headers)?;
    Ok(Signed::Head)
}

/// The host and every `x-amz-` field must be among the signed ones, and every signed one in the request.
fn covered(names: &str, headers: &HeaderMap) -> Result<(), S3Error> {
    let signed: Vec<&str> = names.split(';').collect();
    let is_signed = |name: &str| signed.iter().any(|s| s.eq_ignore_ascii_case(name));
    if !is_signed("host") {
        return Err(refuse(S3ErrorCode::AccessDenied, "the host is not signed"));
    }
    let open = |name: &str| name.starts_with("x-amz-") && !HARMLESS.contains(&name) && !is_signed(name);
    if headers.keys().any(|name| open(name.as_str())) {
        let words = "there were fields in the request which were not signed";
        return Err(refuse(S3ErrorCode::AccessDenied, words));
    }
    let absent = |name: &str| !name.eq_ignore_ascii_case("host") && !headers.contains_key(name);
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
    fn regions_are_words_in_lower_case() {
        let odd = |region: &str| {
            let field = HEAD.replace("/r/", &format!("/{region}/"));
            let mut headers = HeaderMap::new();
            headers.insert("authorization", field.parse().unwrap());
            has_odd_region(&headers)
        };
        assert!(odd("US") && odd("eu_1"));
        assert!(!odd("us-east-1") && !odd("garage") && !has_odd_region(&HeaderMap::new()));
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
