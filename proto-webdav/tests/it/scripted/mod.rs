//! A server of HTTP/1.1 whose answers a test writes.
//!
//! Here is what its answers look like; the server itself is every test's.

use std::ops::Deref;
use std::sync::Arc;

use proto_webdav::client::{WebdavConnectOptions, WebdavRemote, connect};
use session_core::batch::Decider;
pub use session_core::testing::http::{Answer, Request, Script, answer};
pub use session_core::testing::p;

/// A multistatus with these responses: href, and the properties that are told.
pub fn multistatus(responses: &[(&str, &str)]) -> Answer {
    multistatus_of(&[], responses)
}

/// The same from a server that has more fields to tell.
pub fn multistatus_of(fields: &[&str], responses: &[(&str, &str)]) -> Answer {
    let mut body = "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">".to_owned();
    for (href, properties) in responses {
        body.push_str(&format!(
            "<D:response><D:href>{href}</D:href><D:propstat><D:prop>{properties}</D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        ));
    }
    body.push_str("</D:multistatus>");
    answer(207, &[&["Content-Type: application/xml"], fields].concat(), body)
}

/// Properties of a directory.
pub const DIRECTORY: &str = "<D:resourcetype><D:collection/></D:resourcetype>";

/// Properties of a file.
pub fn file(size: usize) -> String {
    format!("<D:resourcetype/><D:getcontentlength>{size}</D:getcontentlength>")
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

    /// The lines of what was asked, but for what every login asks: a PROPFIND, or more where OPTIONS is the last.
    pub fn lines(&self) -> Vec<String> {
        let all = self.seen();
        let login = all.iter().position(|r| r.method == "OPTIONS").unwrap_or(0);
        all.iter().skip(login + 1).map(Request::line).collect()
    }

    pub fn options(&self) -> WebdavConnectOptions {
        let mut options = WebdavConnectOptions::new("127.0.0.1", self.address.port());
        options.secure = false;
        options
    }

    pub async fn remote(&self) -> WebdavRemote {
        connect(self.options(), decider()).await.unwrap()
    }
}

/// Nobody is there to answer.
pub fn decider() -> Arc<dyn Decider> {
    Arc::new(session_core::batch::Unattended)
}

/// What every server says at first: the root is a directory; and of files, how large they are.
pub fn usual(r: &Request, files: &[(&str, usize)]) -> Answer {
    match r.method.as_str() {
        "OPTIONS" => answer(200, &["DAV: 1, 2", "Allow: GET, PUT"], ""),
        "PROPFIND" if r.target == "/" => multistatus(&[("/", DIRECTORY)]),
        "PROPFIND" => match files.iter().find(|(path, _)| *path == r.target) {
            Some((path, size)) => multistatus(&[(path, &file(*size))]),
            None => answer(404, &[], ""),
        },
        _ => answer(405, &[], ""),
    }
}

/// Content in which every byte tells where it is.
pub fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 251 + n) as u8).collect()
}

/// A range of the content, as it was asked for; the whole where none was.
pub fn ranged(r: &Request, content: &[u8], etag: &str) -> Answer {
    let etag = format!("ETag: {etag}");
    let Some(from) = r.header("range").strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')) else {
        return answer(200, &[&etag], content);
    };
    let from: usize = from.parse().unwrap();
    if from >= content.len() {
        return answer(416, &[&format!("Content-Range: bytes */{}", content.len())], "");
    }
    let range = format!("Content-Range: bytes {from}-{}/{}", content.len() - 1, content.len());
    answer(206, &[&etag, &range], &content[from..])
}
