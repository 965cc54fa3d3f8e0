//! A server of HTTP/1.1 whose answers a test writes.
//!
//! Here is what its answers look like; the server itself is every test's.

pub mod keeping;

use std::ops::Deref;
use std::sync::Arc;

use proto_s3::client::{S3ConnectOptions, S3Login, S3Remote, connect};
use session_core::auth::Secret;
use session_core::batch::Decider;
pub use session_core::testing::http::{Answer, Request, Script, answer};
pub use session_core::testing::p;

pub trait Signed {
    /// The region that it is signed for.
    fn region(&self) -> &str;
}

impl Signed for Request {
    fn region(&self) -> &str {
        self.header("authorization").split('/').nth(2).unwrap_or_default()
    }
}

/// An error of S3.
pub fn error(status: u16, code: &str, headers: &[&str]) -> Answer {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words of it</Message></Error>");
    answer(status, &[&["Content-Type: application/xml"], headers].concat(), body)
}

/// A page of a listing: the objects with their sizes, and the common prefixes.
pub fn listing(objects: &[(&str, usize)], prefixes: &[&str], next: Option<&str>) -> Answer {
    let mut body = "<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType>".to_owned();
    body.push_str(&format!("<IsTruncated>{}</IsTruncated>", next.is_some()));
    for (key, size) in objects {
        body.push_str(&format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>&quot;{key}&quot;</ETag>\
             <LastModified>2026-11-21T17:00:00.000Z</LastModified></Contents>"
        ));
    }
    for prefix in prefixes {
        body.push_str(&format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"));
    }
    if let Some(next) = next {
        body.push_str(&format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    }
    body.push_str("</ListBucketResult>");
    answer(200, &["Content-Type: application/xml"], body)
}

/// The head of an object, without its content.
pub fn head(size: usize, etag: &str) -> Answer {
    Answer::Bytes(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: \"{etag}\"\r\n\
             Last-Modified: Sat, 21 Nov 2026 17:00:00 GMT\r\n\r\n"
        )
        .into_bytes(),
    )
}

/// A server whose answers a test writes.
pub struct Scripted(Script);

impl Deref for Scripted {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.0
    }
}

impl Scripted {
    /// Answers every request so.
    pub async fn new(answers: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Scripted {
        Scripted(Script::new(answers).await)
    }

    /// The lines of what was asked, without queries that tell nothing.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Request::line).collect()
    }

    pub fn options(&self) -> S3ConnectOptions {
        let mut options = S3ConnectOptions::new("127.0.0.1", self.address.port());
        options.secure = false;
        options.home = p("/bucket");
        options.login = S3Login::Key { id: "AKIATEST".into(), secret: Secret::new("s3cr3t"), token: None };
        options
    }

    pub async fn remote(&self) -> S3Remote {
        connect(self.options(), decider()).await.unwrap()
    }
}

/// Nobody is there to answer.
pub fn decider() -> Arc<dyn Decider> {
    Arc::new(session_core::batch::Unattended)
}
