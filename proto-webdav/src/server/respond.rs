//! Answers: how they are built, and what becomes of a failure.

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use session_core::error::{Error, ErrorKind};

use crate::status;
use crate::wire::multistatus;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// What a method comes to.
pub(super) type Answer = Result<Response<Body>, Failure>;

pub(super) const XML: &str = "application/xml; charset=\"utf-8\"";
const TEXT: &str = "text/plain; charset=utf-8";

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Where the place knows a better one than the kind's.
    pub(super) code: Option<u16>,
    /// The condition of RFC 4918, section 16, that did not hold, and the resources that it is about.
    pub(super) condition: Option<(&'static str, Vec<String>)>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, code: None, condition: None }
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Error::new(kind).into()
    }
}

impl Failure {
    pub(super) fn new(code: u16, kind: ErrorKind, words: &'static str) -> Self {
        Failure { code: Some(code), ..Error::new(kind).with_detail(words).into() }
    }

    pub(super) fn with_code(error: Error, code: u16) -> Self {
        Failure { code: Some(code), ..error.into() }
    }

    pub(super) fn about(self, condition: &'static str, hrefs: Vec<String>) -> Self {
        Failure { condition: Some((condition, hrefs)), ..self }
    }

    pub(super) fn code(&self) -> u16 {
        self.code.unwrap_or_else(|| status::code(self.error.kind()))
    }

    /// The answer. What a cause says is for the log; the words are for the client.
    pub(super) fn response(&self) -> Response<Body> {
        let words = match self.error.hint() {
            Some(hint) => format!("{} ({hint})", self.error.peer_words()),
            None => self.error.peer_words().to_owned(),
        };
        let mut response = match &self.condition {
            Some((condition, hrefs)) => {
                let body = multistatus::error(condition, hrefs, &words);
                with_body(self.code(), XML, body)
            }
            None => with_body(self.code(), TEXT, format!("{words}\n")),
        };
        if let session_core::error::Retry::Later(Some(wait)) = self.error.retry() {
            set(&mut response, header::RETRY_AFTER, &wait.as_secs().max(1).to_string());
        }
        response
    }
}

/// An answer without a body.
pub(super) fn empty(code: u16) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// An answer with this text.
pub(super) fn with_body(code: u16, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = empty(code);
    *response.body_mut() = full(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body that is here.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes in pieces. An error among them breaks the connection: the client sees that it has not all.
pub(super) fn streamed(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    use futures_util::StreamExt as _;
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Sets a field; one that cannot be written is left out.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// An error in the midst of a body.
pub(super) fn broken(e: Error) -> io::Error {
    io::Error::other(e)
}
