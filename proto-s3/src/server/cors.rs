//! Pages of other origins, in browsers: which may read the answers, and what they are told before they ask (the Fetch
//! standard, section 3.3; S3's own words where nothing is allowed).
//!
//! One list for all buckets, of the configuration. Every method and every field that is asked for is allowed to an
//! origin of the list: what a request may do is said by its signature and the gate. Cookies and the like are never
//! allowed, since nothing here looks at them.

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response};
use s3s::{S3Error, S3ErrorCode};
use session_core::net::http::{Body, empty, set};

use super::exchange::refuse;

const METHODS: &str = "GET, HEAD, PUT, POST, DELETE";
/// How long a browser may remember what it was told, seconds. Chromium takes no more.
const AGE: &str = "7200";

/// Whether it can stand in the list: `*` for every origin, else a scheme, a host, in which one `*` may stand for a
/// part, and a port or none: `https://*.example.org`.
pub fn is_origin(origin: &str) -> bool {
    if origin == "*" {
        return true;
    }
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    ["http", "https"].contains(&scheme)
        && !host.is_empty()
        && host.bytes().all(|b| is_of_host(b) || b == b'*')
        && host.bytes().filter(|b| *b == b'*').count() <= 1
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_of_host(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'.' || b == b'-'
}

/// Whether `origin` is one of `pattern`. The part that `*` stands for is of a host, and not nothing.
fn is_of(pattern: &str, origin: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern.eq_ignore_ascii_case(origin) };
    let middle = origin
        .split_at_checked(before.len())
        .filter(|(head, _)| head.eq_ignore_ascii_case(before))
        .and_then(|(_, rest)| rest.split_at_checked(rest.len().checked_sub(after.len())?))
        .filter(|(_, tail)| tail.eq_ignore_ascii_case(after))
        .map(|(middle, _)| middle);
    middle.is_some_and(|m| !m.is_empty() && m.bytes().all(is_of_host))
}

/// What an answer says about whom it is for; `None` where the request is of no page of another origin, or of one that
/// is not in the list.
pub(super) fn allowed(origins: &[String], headers: &HeaderMap) -> Option<String> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    let pattern = origins.iter().find(|pattern| *pattern == "*" || is_of(pattern, origin))?;
    Some(if pattern == "*" { "*".to_owned() } else { origin.to_owned() })
}

/// Whether a browser asks if it may ask.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that. Errors: `AccessDenied` in S3's words, where it may not.
pub(super) fn preflight(allowed: Option<&str>, headers: &HeaderMap) -> Result<Response<Body>, S3Error> {
    let Some(origin) = allowed else {
        return Err(refuse(S3ErrorCode::AccessDenied, "CORSResponse: this CORS request is not allowed"));
    };
    let mut answer = empty(200);
    set(&mut answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    set(&mut answer, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(fields) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields.clone());
    }
    set(&mut answer, header::ACCESS_CONTROL_MAX_AGE, AGE);
    set(&mut answer, header::VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
    Ok(answer)
}

/// Lets a page of `origin` read an answer, with all its fields.
pub(super) fn mark(answer: &mut Response<Body>, origin: &str) {
    let named = answer.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    set(answer, header::ACCESS_CONTROL_EXPOSE_HEADERS, &named);
    set(answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    set(answer, header::VARY, "Origin");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for good in ["*", "https://a.example", "http://localhost:3000", "https://*.example.org", "https://*"]
        {
            assert!(is_origin(good), "{good}");
        }
        for bad in
            ["", "a.example", "ftp://a", "https://", "https://a/b", "https://*.*.org", "https://a:b", "null"]
        {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn only_what_is_in_the_list_is_allowed() {
        let of = |origins: &[&str], origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            allowed(&origins.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>(), &headers)
        };
        let list = ["https://app.example", "https://*.example.org", "http://localhost:3000"];
        for good in ["https://app.example", "https://a.b.example.org", "http://localhost:3000"] {
            assert_eq!(of(&list, good).as_deref(), Some(good));
        }
        for bad in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil",
            "https://.example.org.evil",
            "https://evil/.example.org",
            "https://.example.org",
            "https://example.org",
            "http://localhost",
            "null",
        ] {
            assert_eq!(of(&list, bad), None, "{bad}");
        }
        assert_eq!(of(&["*"], "null").as_deref(), Some("*"));
        assert_eq!(of(&[], "https://app.example"), None);
        assert_eq!(allowed(&["*".to_owned()], &HeaderMap::new()), None);
    }
}
