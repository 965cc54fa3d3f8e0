//! One request: its login, its redirects, its answer.
//!
//! A challenge is answered once. A redirect is followed only to another path of the same server in the same
//! way (scheme, host and port), with the same method; anything else is refused, because names and passwords
//! would go elsewhere. A body that flows cannot be sent again: what would need it fails, and says so.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use hyper::{Method, StatusCode};
use session_core::error::{Error, ErrorKind, Result, Retry};
use tokio::sync::OwnedSemaphorePermit;

use super::body::{In, Out};
use super::lines::Lines;
use super::login::{Login, Way};
use super::place::Sent;
use super::refine;
use crate::wire::multistatus_reader::{Answer, MultistatusReader};

/// Redirects that are followed, one after the other.
const REDIRECTS: usize = 5;
/// The longest answer that is read into memory: a multistatus about one thing.
const SMALL: usize = 1 << 20;

/// What is asked.
pub(super) struct Ask {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Content,
    patience: Option<Duration>,
    once: bool,
}

enum Content {
    Whole(Bytes),
    /// With the place it has.
    Flow(Out, OwnedSemaphorePermit),
}

impl Ask {
    /// A request that may be sent again if its answer was lost.
    pub(super) fn new(method: Method, target: String) -> Ask {
        let body = Content::Whole(Bytes::new());
        Ask { method, target, headers: HeaderMap::new(), body, patience: None, once: false }
    }

    /// A request by a method of WebDAV.
    pub(super) fn dav(method: &'static str, target: String) -> Result<Ask> {
        let method = Method::from_bytes(method.as_bytes());
        Ok(Ask::new(method.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?, target))
    }

    /// A field. Errors: `InvalidArgument` for a value that cannot be sent.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Result<Ask> {
        let value = HeaderValue::from_str(value)
            .map_err(|e| Error::new(ErrorKind::InvalidArgument).with_source(e))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn depth(mut self, depth: &'static str) -> Ask {
        self.headers.insert("depth", HeaderValue::from_static(depth));
        self
    }

    /// A body of XML.
    pub(super) fn xml(mut self, body: impl Into<Bytes>) -> Ask {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
        self.body(body.into())
    }

    pub(super) fn body(mut self, body: Bytes) -> Ask {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        self.body = Content::Whole(body);
        self
    }

    pub(super) fn flow(mut self, body: Out, slot: OwnedSemaphorePermit) -> Ask {
        self.body = Content::Flow(body, slot);
        self
    }

    /// It must not be sent twice: what it does would be taken for somebody else's doing.
    pub(super) fn once(mut self) -> Ask {
        self.once = true;
        self
    }

    /// The answer may take this long.
    pub(super) fn patience(mut self, patience: Duration) -> Ask {
        self.patience = Some(patience);
        self
    }
}

/// The beginning of an answer.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: In,
}

impl Answered {
    /// A field, if it is text.
    pub(super) fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The answer if it is a success, else the error that it is.
    pub(super) async fn success(self) -> Result<Answered> {
        if self.status.is_success() { Ok(self) } else { Err(refine::refused(self).await) }
    }

    /// A success whose body says nothing more; a multistatus is looked through for what failed.
    pub(super) async fn done(self) -> Result<()> {
        let answered = self.success().await?;
        if answered.status != StatusCode::MULTI_STATUS {
            // Read to its end, so that the connection can be used again.
            let _ = answered.body.beginning().await;
            return Ok(());
        }
        for answer in answered.multistatus().await? {
            refine::failure(&answer)?;
        }
        Ok(())
    }

    /// All answers of a multistatus that is about one thing, or about what failed. Errors: `Unsupported` for
    /// a success without one: whoever answers speaks no WebDAV.
    pub(super) async fn multistatus(self) -> Result<Vec<Answer>> {
        Ok(self.multistatus_and_body().await?.0)
    }

    /// The same, with the document.
    pub(super) async fn multistatus_and_body(self) -> Result<(Vec<Answer>, Bytes)> {
        if self.status != StatusCode::MULTI_STATUS {
            return Err(refine::no_webdav(self.status));
        }
        let body = self.body.all(SMALL).await?;
        let mut reader = MultistatusReader::new();
        let answers = reader.feed(&body)?;
        reader.end()?;
        Ok((answers, body))
    }
}

/// Requests to one server.
pub(super) struct Wire {
    pub(super) lines: std::sync::Arc<Lines>,
    login: Login,
    timeout: Duration,
}

impl Wire {
    pub(super) fn new(lines: std::sync::Arc<Lines>, login: Login, timeout: Duration) -> Wire {
        Wire { lines, login, timeout }
    }

    /// How the login went.
    pub(super) fn method(&self) -> &'static str {
        match self.login.maker().way {
            Way::Basic | Way::Digest => "password",
            Way::Token => "token",
            Way::Nobody => "none",
        }
    }

    /// Whether what flows may be refused for a login that has grown old (Digest).
    pub(super) fn may_grow_stale(&self) -> bool {
        self.login.maker().way == Way::Digest
    }

    /// Asks. What the server answers is given as it is, refusals too. Errors: those of connecting; of the
    /// login; `Refused` for a redirect that is not followed; `Disconnected`, `TimedOut`.
    pub(super) async fn call(&self, ask: Ask) -> Result<Answered> {
        let Ask { method, mut target, headers, body, patience, once } = ask;
        let flows = matches!(body, Content::Flow(..));
        // Whoever feeds a body keeps the time.
        let patience = if flows { None } else { Some(patience.unwrap_or(self.timeout)) };
        let mut body = Some(body);
        let (mut challenges, mut redirects) = (0, 0);
        loop {
            let maker = self.login.maker();
            let head = maker.head(&method, &target, &headers, once || flows).await?;
            let told = head.headers.contains_key(AUTHORIZATION);
            let (out, slot, spare) = match body.take() {
                Some(Content::Whole(bytes)) => {
                    (Out::whole(bytes.clone()), self.lines.slot().await?, Some(Content::Whole(bytes)))
                }
                Some(Content::Flow(out, slot)) => (out, slot, None),
                None => return Err(again()),
            };
            let (parts, incoming) = self.lines.exchange(head, out, patience, slot).await?.into_parts();
            self.lines.session.note_status(u32::from(parts.status.as_u16()));
            let answered = Answered { status: parts.status, headers: parts.headers, body: incoming };
            match answered.status.as_u16() {
                401 => {
                    challenges += 1;
                    self.login.answer(&answered.headers, &maker, &self.lines).await?;
                    if challenges > 2 {
                        return Err(refine::refused(answered).await);
                    }
                    tracing::trace!(told, "the server asks for a login");
                }
                301 | 302 | 307 | 308 => {
                    let location = answered.header(LOCATION).unwrap_or_default();
                    if spare.is_none() {
                        return Err(elsewhere(location));
                    }
                    match self.lines.place().sent(location, &target) {
                        _ if location.is_empty() => return Err(refine::refused(answered).await),
                        Sent::Here(path) if redirects < REDIRECTS && path != target => target = path,
                        Sent::Here(_) => {
                            return Err(Error::new(ErrorKind::PeerMisbehaved)
                                .with_detail("the server sends us in circles"));
                        }
                        Sent::Elsewhere => return Err(elsewhere(location)),
                    }
                    redirects += 1;
                }
                _ => return Ok(answered),
            }
            let _ = answered.body.beginning().await;
            body = spare;
        }
    }
}

/// A body that has flowed would have to flow again.
fn again() -> Error {
    Error::new(ErrorKind::Disconnected)
        .with_detail("the server wants the upload once more, from its beginning")
        .with_retry(Retry::Later(Some(Duration::ZERO)))
}

fn elsewhere(location: &str) -> Error {
    let shown =
        session_core::path::display_bytes(location.as_bytes().get(..200).unwrap_or(location.as_bytes()));
    Error::new(ErrorKind::Refused)
        .with_detail(format!("the server sends us to '{shown}', which is not followed"))
        .with_hint("if that is the right server, give its URL instead")
}
