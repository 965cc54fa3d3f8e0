//! What a client says to a server and what it hears, told line by line to `tracing`.
//!
//! Every protocol's client tells it here, and nowhere else, as events of one target ([`TARGET`]) with the fields
//! `line` (which connection) and `mark`: `>` said, `<` heard, `.` what became of the connection, `!` what went wrong.
//! Level `INFO` is what becomes of connections and what failed, `DEBUG` requests and answers, `TRACE` those that carry
//! content, and headers. They go where the session was told to send them, or to the subscriber of the program. Where
//! nobody listens, no text is made.
//!
//! No secret is in them: who tells leaves passwords, answers and keys out; of HTTP only the headers and the parameters
//! in the lists below are told with their values. Every text is one line, whatever a server sent.
//!
//! Deliberately absent: content of files, files to write to (a subscriber's).

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::{Dispatch, Level, dispatcher};

use crate::error::Error;
use crate::path::display_bytes;

/// The target of every event.
pub const TARGET: &str = "ferry::talk";

/// Bytes of one line at most.
const LONGEST: usize = 4096;

/// Where one connection tells what is said on it. Cheap to clone; a clone is the same connection.
#[derive(Clone, Default)]
pub struct Talk {
    to: Option<Dispatch>,
    line: u32,
    lines: Arc<AtomicU32>,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Talk({})", self.line)
    }
}

macro_rules! tell {
    ($self:ident, $level:expr, $mark:literal, $text:ident) => {
        if tracing::enabled!(target: TARGET, $level) {
            let text = $text();
            let text = cut(&text);
            tracing::event!(target: TARGET, $level, line = $self.line, mark = $mark, "{text}");
        }
    };
}

/// As much of a line as is told.
fn cut(text: &str) -> &str {
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end.min(text.len())).unwrap_or(text)
}

impl Talk {
    /// What is told goes there, and not to the subscriber of the program.
    pub fn to(dispatch: Dispatch) -> Talk {
        Talk { to: Some(dispatch), ..Talk::default() }
    }

    /// A further connection: told in the same place, under a number of its own.
    pub fn line(&self) -> Talk {
        let line = self.lines.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Talk { line, ..self.clone() }
    }

    fn there(&self, tell: impl FnOnce()) {
        match &self.to {
            Some(dispatch) => dispatcher::with_default(dispatch, tell),
            None => tell(),
        }
    }

    /// Whether anybody listens to requests and answers; `more`: also to those that carry content.
    pub fn tells(&self, more: bool) -> bool {
        let mut yes = false;
        self.there(|| {
            yes = match more {
                true => tracing::enabled!(target: TARGET, Level::TRACE),
                false => tracing::enabled!(target: TARGET, Level::DEBUG),
            };
        });
        yes
    }

    /// A request.
    pub fn sent(&self, text: impl FnOnce() -> String) {
        self.there(|| tell!(self, Level::DEBUG, ">", text));
    }

    /// A request that carries content, or what belongs to one and is long.
    pub fn sent_more(&self, text: impl FnOnce() -> String) {
        self.there(|| tell!(self, Level::TRACE, ">", text));
    }

    /// An answer.
    pub fn heard(&self, text: impl FnOnce() -> String) {
        self.there(|| tell!(self, Level::DEBUG, "<", text));
    }

    /// An answer that carries content, or what belongs to one and is long.
    pub fn heard_more(&self, text: impl FnOnce() -> String) {
        self.there(|| tell!(self, Level::TRACE, "<", text));
    }

    /// What becomes of the connection.
    pub fn note(&self, text: impl FnOnce() -> String) {
        self.there(|| tell!(self, Level::INFO, ".", text));
    }

    /// What went wrong.
    pub fn failed(&self, e: &Error) {
        let text = || display_bytes(format!("{e:#}").as_bytes());
        self.there(|| tell!(self, Level::INFO, "!", text));
    }
}

/// Parameters of URLs whose values say nothing secret.
const PARAMETERS: &[&str] = &[
    "acl",
    "attributes",
    "continuation-token",
    "delete",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "location",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "partNumber",
    "part-number-marker",
    "prefix",
    "start-after",
    "tagging",
    "upload-id-marker",
    "uploadId",
    "uploads",
    "version-id-marker",
    "versionId",
    "versioning",
    "versions",
    "x-id",
];

/// Headers whose values say nothing secret.
const HEADERS: &[&str] = &[
    "accept-ranges",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "dav",
    "depth",
    "destination",
    "etag",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "overwrite",
    "range",
    "retry-after",
    "server",
    "timeout",
    "transfer-encoding",
    "user-agent",
    "x-amz-bucket-region",
    "x-amz-copy-source",
    "x-amz-copy-source-range",
    "x-amz-id-2",
    "x-amz-request-id",
    "x-amz-storage-class",
    "x-amz-version-id",
    "x-oc-mtime",
];

/// The path and query of a URL: values of parameters that are not known to say nothing secret are left out (signatures
/// and tokens stand there).
pub fn target(path_and_query: &str) -> String {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let mut out = display_bytes(path.as_bytes());
    for (n, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        out.push(if n == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if !PARAMETERS.contains(&name) => {
                let _ = write!(out, "{}=***", display_bytes(name.as_bytes()));
            }
            _ => out.push_str(&display_bytes(pair.as_bytes())),
        }
    }
    out
}

/// Headers in one line: of those that are not known to say nothing secret, the names only.
pub fn headers<'a>(all: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut out = String::new();
    for (name, value) in all {
        let value = match HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            true => display_bytes(value),
            false => "***".to_owned(),
        };
        let _ = write!(out, "{}{name}: {value}", if out.is_empty() { "" } else { ", " });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_and_tokens_are_left_out() {
        let signed = "/b/k%20x?X-Amz-Credential=AK&X-Amz-Signature=5ec2e7&partNumber=2&uploads&token=abc";
        let told = target(signed);
        assert_eq!(told, "/b/k%20x?X-Amz-Credential=***&X-Amz-Signature=***&partNumber=2&uploads&token=***");
        assert_eq!(target("/a/b"), "/a/b");
        let told = headers([
            ("Authorization", &b"Basic c2VjcmV0"[..]),
            ("ETag", b"\"1\""),
            ("x-amz-security-token", b"t0k"),
            ("Cookie", b"c"),
            ("X-Evil", b"a\r\nb"),
        ]);
        assert_eq!(
            told,
            "Authorization: ***, ETag: \"1\", x-amz-security-token: ***, Cookie: ***, X-Evil: ***"
        );
    }

    #[test]
    fn a_line_has_an_end() {
        let long = "ä".repeat(LONGEST);
        assert_eq!(cut(&long).len(), LONGEST);
        assert_eq!(cut("ab"), "ab");
        assert_eq!(cut(""), "");
    }
}
