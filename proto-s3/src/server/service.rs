//! From a request to its answer: what may be signed, the body, the library, what the answer must have.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Request, Response};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::S3ServiceBuilder;
use s3s::validation::NameValidation;
use s3s::{S3Error, S3Result};
use session_core::auth::{Method, Site};
use session_core::error::{Error, ErrorKind};
use session_core::net::http::{
    Body, Connection, FailedLogin, Handler, HttpOptions, InFlight, Intake, Sessions, Working, empty, full,
    set,
};

use super::cors;
use super::exchange::{Api, Exchange, said};
use super::guard;
use super::list::Walks;
use super::options::S3ServerOptions;
use super::post;
use crate::keyspace;
use crate::wire::chunked::Chunked;
use crate::wire::signing;

/// What all connections share.
pub(super) struct Service {
    pub(super) options: S3ServerOptions,
    pub(super) http: Arc<HttpOptions>,
    pub(super) site: Arc<dyn Site>,
    pub(super) sessions: Arc<Sessions>,
    /// Listings that go on.
    pub(super) walks: Walks,
    config: Arc<StaticConfigProvider>,
    this: std::sync::Weak<Service>,
}

impl Service {
    pub(super) fn new(
        options: S3ServerOptions,
        http: Arc<HttpOptions>,
        site: Arc<dyn Site>,
        sessions: Arc<Sessions>,
    ) -> Arc<Self> {
        let mut config = S3Config::default();
        config.xml_max_body_size = options.max_body;
        config.presigned_url_max_skew_time_secs = u32::try_from(options.skew.as_secs()).unwrap_or(u32::MAX);
        let config = Arc::new(StaticConfigProvider::new(Arc::new(config)));
        Arc::new_cyclic(|this| Service {
            options,
            http,
            site,
            sessions,
            walks: Walks::default(),
            config,
            this: this.clone(),
        })
    }

    /// A login failed on this connection: too many end it.
    pub(super) fn strike(&self, connection: &Connection) {
        if connection.failed() >= self.options.tries {
            connection.finish.cancel();
        }
    }

    async fn handle(&self, exchange: &Arc<Exchange>, request: Request<Incoming>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let waits = head.headers.contains_key(header::EXPECT);
        let intake = Intake::new(body, waits, self.options.data_time, self.options.minimum_rate);
        let frames = match frames(&head.headers) {
            Ok(frames) => frames,
            Err(e) => return response(said(&e)),
        };
        if is_form(&head.headers) {
            // The library would take all of it into memory before it asks who sends it.
            let hosts = Hosts(self.options.domains.clone());
            return post::post(exchange, head, intake, &hosts).await.unwrap_or_else(response);
        }
        head.extensions.clear();
        let body = match intake.is_empty() && frames.is_none() {
            // The library wants to know that nothing comes.
            true => s3s::Body::empty(),
            false => {
                let body = arriving(intake, frames, Arc::clone(exchange));
                s3s::Body::http_body_unsync(StreamBody::new(body))
            }
        };
        let request = Request::from_parts(head, body);
        let api = Api(Arc::clone(exchange));
        let mut builder = S3ServiceBuilder::new(api.clone());
        builder.set_config(Arc::clone(&self.config) as _);
        builder.set_auth(api.clone());
        builder.set_access(api);
        builder.set_host(Hosts(self.options.domains.clone()));
        builder.set_validation(Names);
        match builder.build().call(request).await {
            // The library calls a body that did not arrive a fault of its own.
            Ok(answer) if answer.status() == 500 => match exchange.take_broken() {
                Some(e) => response(e),
                None => answer.map(|body| body.map_err(io::Error::other).boxed_unsync()),
            },
            Ok(answer) => answer.map(|body| body.map_err(io::Error::other).boxed_unsync()),
            Err(e) => {
                tracing::error!(error = %io::Error::other(e), "an answer of S3 could not be written");
                empty(500)
            }
        }
    }

    /// A failed login is told to the site, as one of any protocol. What we call ourselves then.
    async fn tell(&self, exchange: &Exchange, code: u16) -> Option<String> {
        let (user, words) = exchange.failed_login(code)?;
        let failed =
            FailedLogin { user: &user, method: Method::AccessKey, words, software: &exchange.software };
        let ours = self.sessions.reject(&self.site, &self.http, &exchange.connection, failed).await;
        self.strike(&exchange.connection);
        ours
    }
}

#[async_trait]
impl Handler for Service {
    async fn answer(
        &self,
        connection: &Arc<Connection>,
        working: Working,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let Some(this) = self.this.upgrade() else { return empty(503) };
        let id = number();
        let origin = cors::allowed(&self.options.cors, request.headers());
        if cors::is_preflight(request.method(), request.headers()) {
            return cors::preflight(origin.as_deref(), request.headers()).unwrap_or_else(response);
        }
        let judged = guard::check(request.uri(), request.headers());
        let signed = judged.as_ref().copied().unwrap_or(guard::Signed::Not);
        let software = request.headers().get(header::USER_AGENT).and_then(|f| f.to_str().ok());
        let software = software.unwrap_or_default().to_owned();
        let chunks_signed = matches!(frames(request.headers()), Ok(Some((true, _))));
        let exchange = Exchange::new(&this, connection, working, software, id, signed, chunks_signed);
        // Who waits for a word before it sends nothing gets none. botocore takes the next answer on that connection
        // for the same one.
        let waits_for_nothing = request.version() == hyper::Version::HTTP_11
            && request.headers().contains_key(header::EXPECT)
            && request.body().is_end_stream();
        let mut answer = match judged {
            Ok(_) if has_odd_region(request.headers()) => elsewhere(&self.options.region),
            Ok(_) => self.handle(&exchange, request).await,
            Err(e) => response(e),
        };
        let code = answer.status().as_u16();
        exchange.settled(code);
        let told = self.tell(&exchange, code).await;
        set(&mut answer, HeaderName::from_static("x-amz-request-id"), &exchange.id);
        let ours = exchange.client().map(|client| client.software.as_str()).or(told.as_deref());
        set(&mut answer, header::SERVER, ours.unwrap_or("Ferry"));
        if let Some(origin) = origin {
            cors::mark(&mut answer, &origin);
        }
        if waits_for_nothing {
            set(&mut answer, header::CONNECTION, "close");
        }
        match exchange.take_flight() {
            Some(flight) => answer.map(|body| Sent { body, _flight: flight }.boxed_unsync()),
            None => answer,
        }
    }
}

/// A body whose request is under way until it is sent.
struct Sent {
    body: Body,
    _flight: InFlight,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    // Known sizes stay known: without them everything would go in chunks.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A refusal without the library.
fn response(e: S3Error) -> Response<Body> {
    match e.to_http_response() {
        Ok(answer) => answer.map(|body| body.map_err(io::Error::other).boxed_unsync()),
        Err(_) => empty(500),
    }
}

/// Whether the region of a signature is no name of one that the library takes: s3cmd begins with `US`, and signs
/// anew for the region that it is told.
fn has_odd_region(headers: &HeaderMap) -> bool {
    let field = headers.get(header::AUTHORIZATION).and_then(|f| f.to_str().ok());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    field.and_then(signing::region).is_some_and(|region| !region.bytes().all(plain))
}

/// The signature is for another region than this one.
fn elsewhere(region: &str) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AuthorizationHeaderMalformed</Code><Message>the \
         region is wrong; expecting '{region}'</Message><Region>{region}</Region></Error>"
    );
    let mut answer = empty(400);
    *answer.body_mut() = full(xml.into());
    set(&mut answer, header::CONTENT_TYPE, "application/xml");
    answer
}

/// The number of a request, for the logs of both sides.
fn number() -> String {
    let mut random = [0u8; 8];
    // Without randomness they are all the same, which nobody depends on.
    let _ = getrandom::fill(&mut random);
    random.iter().map(|b| format!("{b:02X}")).collect()
}

/// Whether the body is a form of POST, with a file in it.
fn is_form(headers: &HeaderMap) -> bool {
    let field = headers.get(header::CONTENT_TYPE).map(|f| f.as_bytes().trim_ascii_start());
    let kind = field.and_then(|f| f.split(|b| *b == b'/').next());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart"))
}

/// Whether the body comes in chunks: with signatures of their own, and how much they hold. Errors:
/// `InvalidArgument` where that is not said.
fn frames(headers: &HeaderMap) -> Result<Option<(bool, u64)>, Error> {
    let field = |name: &str| headers.get(name).and_then(|f| f.to_str().ok());
    let Some(how) = field("x-amz-content-sha256").and_then(|f| f.strip_prefix("STREAMING-")) else {
        return Ok(None);
    };
    let length = field("x-amz-decoded-content-length").and_then(|f| f.parse().ok()).ok_or_else(|| {
        let words = "the length of the content is to be in x-amz-decoded-content-length";
        Error::new(ErrorKind::InvalidArgument).with_detail(words)
    })?;
    Ok(Some((how.starts_with("AWS4-"), length)))
}

/// A body as it arrives, in bounds. Why it does not is put aside: the library keeps no causes.
fn arriving(
    intake: Intake,
    frames: Option<(bool, u64)>,
    exchange: Arc<Exchange>,
) -> impl Stream<Item = Result<Frame<Bytes>, io::Error>> + Send {
    let chunked = frames.map(|(signed, length)| Chunked::new(signed, length));
    stream::unfold(Some((intake, chunked, VecDeque::new(), 0)), move |state| {
        let exchange = Arc::clone(&exchange);
        async move {
            let (mut intake, mut chunked, mut ready, mut came) = state?;
            let next = loop {
                if let Some(piece) = ready.pop_front() {
                    break Ok(Some(piece));
                }
                match (intake.next().await, &mut chunked) {
                    (Ok(Some(piece)), Some(chunked)) => {
                        if let Err(e) = chunked.push(piece, &mut ready) {
                            break Err(e);
                        }
                    }
                    (Ok(None), Some(chunked)) => break chunked.end().map(|()| None),
                    (next, _) => break next,
                }
            };
            let next =
                next.and_then(|piece: Option<Bytes>| {
                    came += piece.as_ref().map_or(0, |p| p.len() as u64);
                    match came > exchange.most() {
                        true => Err(Error::new(ErrorKind::TooLarge)
                            .with_detail("the body of the request is too large")),
                        false => Ok(piece),
                    }
                });
            match next {
                Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some((intake, chunked, ready, came)))),
                Ok(None) => None,
                Err(e) => {
                    *exchange.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    Some((Err(io::Error::other("the body did not arrive")), None))
                }
            }
        }
    })
}

/// Where the bucket stands in the name of the host.
pub(super) struct Hosts(Vec<String>);

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        for domain in &self.0 {
            let at = name.len().checked_sub(domain.len() + 1);
            let Some((bucket, rest)) = at.and_then(|at| name.split_at_checked(at)) else { continue };
            if rest.strip_prefix('.').is_some_and(|rest| rest.eq_ignore_ascii_case(domain)) {
                return Ok(VirtualHost::new(domain.as_str()).with_bucket(bucket));
            }
        }
        // By whatever other name we are called, the bucket is in the path.
        Ok(VirtualHost::new(host))
    }
}

/// What buckets may be called.
struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        keyspace::is_bucket_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_stand_before_the_host() {
        let hosts = Hosts(vec!["s3.example.org".into(), "localhost".into()]);
        for (host, bucket) in [
            ("data.s3.example.org", Some("data")),
            ("data.S3.Example.Org:9000", Some("data")),
            ("a.b.s3.example.org", Some("a.b")),
            ("s3.example.org", None),
            ("data.localhost:80", Some("data")),
            ("localhost:80", None),
            ("xs3.example.org", None),
            ("elsewhere.example", None),
        ] {
            assert_eq!(hosts.parse_host_header(host).unwrap().bucket(), bucket, "{host}");
        }
    }

    #[test]
    fn regions_are_words_in_lower_case() {
        let odd = |region: &str| {
            let field =
                format!("AWS4-HMAC-SHA256 Credential=K/20260101/{region}/s3/aws4_request, Signature=00");
            let mut headers = HeaderMap::new();
            headers.insert("authorization", field.parse().unwrap());
            has_odd_region(&headers)
        };
        assert!(odd("US") && odd("eu_1"));
        assert!(!odd("us-east-1") && !odd("garage") && !has_odd_region(&HeaderMap::new()));
    }

    #[test]
    fn chunks_say_how_much_they_hold() {
        let of = |sha: &str, length: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-content-sha256", sha.parse().unwrap());
            if let Some(length) = length {
                headers.insert("x-amz-decoded-content-length", length.parse().unwrap());
            }
            frames(&headers).map_err(|e| e.kind())
        };
        assert_eq!(of("UNSIGNED-PAYLOAD", None), Ok(None));
        assert_eq!(of("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", Some("5")), Ok(Some((true, 5))));
        assert_eq!(of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Some("5")), Ok(Some((false, 5))));
        assert_eq!(of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", None), Err(ErrorKind::InvalidArgument));
        assert_eq!(of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Some("-1")), Err(ErrorKind::InvalidArgument));
    }
}
