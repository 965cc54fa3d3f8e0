//! Answers: how they are built, and what becomes of a failure.

use hyper::Response;
use hyper::header::{self, HeaderValue};
use session_core::error::{Error, ErrorKind};
pub(super) use session_core::net::http::{Body, broken, empty, full, set, streamed};

use crate::status;
use crate::wire::multistatus;

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

/// An answer with this text.
pub(super) fn with_body(code: u16, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = empty(code);
    *response.body_mut() = full(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
