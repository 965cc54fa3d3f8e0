//! The SDK's way to the network: our connections instead of its own.
//!
//! They carry what the SDK's cannot: every kind of proxy, who is trusted, which addresses may be reached, the
//! count of bytes, the cut of a session. HTTP/1.1; a connection carries one exchange at a time and is used
//! again when its answer was read to the end. A request that a kept connection did not take goes to another
//! one, and so does one that can be sent twice where the server had closed a connection that it thought idle.
//!
//! A step that does not come to its end in time is `TimedOut`: the beginning of an answer, and each piece of a
//! body in either direction. What a server does with a whole upload or copy may take fifteen times as long.
//!
//! Deliberately absent: redirects (they change what is signed), retries, HTTP/2 (S3 does not speak it).

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::{ClientTls, ClientTlsOptions, Refused, TlsLogin, words_of};
use session_core::net::counted::{Counted, Duplex};
use session_core::net::dial::{Dial, Stream, bare};
use session_core::path::display_bytes;
use session_core::session::Session;
use session_core::talk;
use session_core::trust::{Certificate, TrustDecision};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// Unused for longer, a connection may have been closed by the server while a request is on its way; what
/// must not be sent twice goes over a fresher one.
const FRESH: Duration = Duration::from_secs(2);
/// Unused for longer, a connection is not used again.
const STALE: Duration = Duration::from_secs(15);
/// How long a connection may take to be ready for another exchange.
const READY: Duration = Duration::from_secs(1);
/// How many connections that were used before are tried for one request.
const TRIES: usize = 4;
/// Exchanges at a time that wait for the beginning of their answer.
const MOST: usize = 64;
/// What of a request's body is handed to a connection at a time.
const PIECE: usize = 128 << 10;
/// Connections that are kept for one host.
const KEPT: usize = 32;

type Sender = http1::SendRequest<Sending>;

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A host as requests name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    secure: bool,
    name: String,
    port: u16,
}

impl Host {
    fn of(uri: &Uri) -> Result<Host> {
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad_request("it is neither HTTP nor HTTPS")),
        };
        let name = bare(uri.host().unwrap_or_default()).to_ascii_lowercase();
        if name.is_empty() {
            return Err(bad_request("it names no host"));
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Host { secure, name, port })
    }
}

fn bad_request(words: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(format!("that makes no request: {words}"))
}

struct Idle {
    sender: Sender,
    since: Instant,
}

/// How connections are made, whatever the host.
pub(super) struct Way {
    /// Host and port are those of each request.
    pub(super) dial: Dial,
    pub(super) tls: ClientTlsOptions,
    pub(super) timeout: Duration,
    /// To the store, and not to those who know who signs: the session tells of it.
    pub(super) to_store: bool,
}

struct Inner {
    way: Way,
    session: Arc<Session>,
    cut: CancellationToken,
    /// Who is asked about certificates while the first connections are made.
    decider: Mutex<Option<Arc<dyn Decider>>>,
    accepted: Mutex<Vec<Certificate>>,
    tls: tokio::sync::Mutex<HashMap<Host, (Arc<ClientTls>, TlsLogin)>>,
    tls_words: OnceLock<String>,
    server: OnceLock<String>,
    idle: Mutex<HashMap<Host, Vec<Idle>>>,
    slots: Semaphore,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

/// Connections to whatever hosts the SDK asks for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Inner>);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl HttpClient for Lines {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Lines {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let lines = self.clone();
        HttpConnectorFuture::new(async move {
            lines.exchange(request).await.map_err(|e| match e.kind() {
                ErrorKind::TimedOut => ConnectorError::timeout(Box::new(e)),
                ErrorKind::InvalidArgument => ConnectorError::user(Box::new(e)),
                _ => ConnectorError::io(Box::new(e)),
            })
        })
    }
}

impl Lines {
    /// Nothing is opened yet.
    pub(super) fn new(way: Way, session: Arc<Session>) -> Lines {
        Lines(Arc::new(Inner {
            way,
            cut: session.cancel_token().child_token(),
            session,
            decider: Mutex::default(),
            accepted: Mutex::default(),
            tls: tokio::sync::Mutex::default(),
            tls_words: OnceLock::new(),
            server: OnceLock::new(),
            idle: Mutex::default(),
            slots: Semaphore::new(MOST),
        }))
    }

    /// Whom to ask from now on about what is not known; nobody where it is `None`.
    pub(super) fn ask(&self, decider: Option<Arc<dyn Decider>>) {
        *lock(&self.0.decider) = decider;
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.0.session
    }

    /// TLS in words.
    pub(super) fn tls_words(&self) -> Option<&str> {
        self.0.tls_words.get().map(String::as_str)
    }

    /// How the server names itself.
    pub(super) fn server(&self) -> &str {
        self.0.server.get().map_or("", String::as_str)
    }

    /// Ends every connection.
    pub(super) fn close(&self) {
        self.0.slots.close();
        lock(&self.0.idle).clear();
        self.0.cut.cancel();
    }

    fn ended(&self) -> Error {
        Error::new(if self.0.session.is_cut() { ErrorKind::Canceled } else { ErrorKind::Closed })
    }

    /// Waits that long, unless the session ends before. Errors: `Canceled`, `Closed`.
    pub(super) async fn pause(&self, time: Duration) -> Result<()> {
        tokio::select! {
            biased;
            () = self.0.cut.cancelled() => Err(self.ended()),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    fn take_idle(&self, host: &Host, once: bool) -> Option<Sender> {
        let mut idle = lock(&self.0.idle);
        let kept = idle.get_mut(host)?;
        kept.retain(|i| !i.sender.is_closed() && i.since.elapsed() < STALE);
        // The one that was used last is the likeliest to stand.
        Some(kept.pop_if(|i| !once || i.since.elapsed() < FRESH)?.sender)
    }

    async fn line(&self, host: &Host, once: bool) -> Result<(Sender, bool)> {
        if self.0.cut.is_cancelled() {
            return Err(self.ended());
        }
        while let Some(mut sender) = self.take_idle(host, once) {
            if let Ok(Ok(())) = tokio::time::timeout(READY, sender.ready()).await {
                return Ok((sender, true));
            }
        }
        // A certificate, perhaps that of another machine behind the same name, is asked about twice at most.
        for _ in 0..2 {
            let refused = match self.enter(host).await {
                Ok(sender) => return Ok((sender, false)),
                Err(Refused::Error(e)) => return Err(e),
                Err(Refused::Certificate(certificate)) => certificate,
            };
            let decider = lock(&self.0.decider).clone();
            let (Some(decider), true) = (decider, self.0.way.tls.fingerprints.is_empty()) else {
                return Err(Refused::Certificate(refused).into());
            };
            match decider.decide(Query::Certificate { certificate: refused.clone() }).await {
                Answer::Trust(TrustDecision::Accept | TrustDecision::AcceptAndRemember) => {
                    // The same machine serves each bucket under a name of its own.
                    for (tls, _) in self.0.tls.lock().await.values() {
                        tls.accept(&refused);
                    }
                    lock(&self.0.accepted).push(*refused);
                }
                _ => return Err(Refused::Certificate(refused).into()),
            }
        }
        Err(Error::new(ErrorKind::Unauthenticated)
            .with_detail("the server shows another certificate each time"))
    }

    /// What TLS with a host needs.
    async fn login(&self, host: &Host) -> Result<TlsLogin> {
        let mut known = self.0.tls.lock().await;
        if let Some((_, login)) = known.get(host) {
            return Ok(login.clone());
        }
        let (name, port, options) = (host.name.clone(), host.port, self.0.way.tls.clone());
        // The authorities are files.
        let made = tokio::task::spawn_blocking(move || ClientTls::new(&name, port, &options)).await;
        let tls = Arc::new(made.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))??);
        for certificate in lock(&self.0.accepted).iter() {
            tls.accept(certificate);
        }
        let login = tls.login(None);
        known.insert(host.clone(), (tls, login.clone()));
        Ok(login)
    }

    /// One new connection: a certificate that is not believed is handed to the caller.
    async fn enter(&self, host: &Host) -> std::result::Result<Sender, Refused> {
        let way = &self.0.way;
        let dial = Dial { host: host.name.clone(), port: host.port, ..way.dial.clone() };
        let login = if host.secure { Some(self.login(host).await.map_err(Refused::Error)?) } else { None };
        let stream = dial.open().await.map_err(Refused::Error)?;
        if let (true, true, Stream::Tcp(tcp)) = (way.to_store, way.dial.proxy.is_direct(), &stream)
            && let Ok(peer) = tcp.peer_addr()
        {
            self.0.session.reached(peer, tcp.local_addr().ok());
        }
        let counted = Counted::new(stream, Arc::clone(&self.0.session));
        let late =
            || Error::new(ErrorKind::TimedOut).with_detail("the server does not come to terms in time");
        let io: Box<dyn Duplex> = match login {
            None => Box::new(counted),
            Some(login) => {
                let secured = tokio::time::timeout(way.timeout, login.connect(counted)).await;
                let stream = secured.map_err(|_| Refused::Error(late()))??;
                if way.to_store {
                    let words = words_of(stream.get_ref().1);
                    self.0.session.talk().note(|| format!("TLS: {words}"));
                    self.0.session.set_tls(&words);
                    let _ = self.0.tls_words.set(words);
                }
                Box::new(stream)
            }
        };
        let shaken = http1::Builder::new().handshake(TokioIo::new(io)).await;
        let (sender, connection) = shaken.map_err(|e| Refused::Error(lost(e)))?;
        let cut = self.0.cut.clone();
        // Dropped at the cut, it closes the socket whoever holds the other end.
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                _ = connection => {}
            }
        });
        Ok(sender)
    }

    /// One request and the beginning of its answer.
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse> {
        let again = request.try_clone();
        let request = request.try_into_http1x().map_err(|e| bad_request(&e.to_string()))?;
        let host = Host::of(request.uri())?;
        // What must not be done twice: a second upload begun, a second one completed.
        let once = request.method() == Method::POST;
        // A server may be busy for long with what it has been told as a whole.
        let long = once || request.headers().contains_key("x-amz-copy-source");
        let patience = if long { self.0.way.timeout * 15 } else { self.0.way.timeout };
        let talk = self.0.session.talk().line();
        let told = |uri: &Uri| talk::target(uri.path_and_query().map_or("/", PathAndQuery::as_str));
        talk.sent(|| format!("{} {}{}", request.method(), host.name, told(request.uri())));
        talk.sent_more(|| {
            talk::headers(request.headers().iter().map(|(n, value)| (n.as_str(), value.as_bytes())))
        });
        let _slot = self.0.slots.acquire().await.map_err(|_| self.ended())?;
        let moves = Arc::new(AtomicU64::new(0));
        let mut asked = prepare(request, &moves)?;
        let mut spare = again.filter(|_| !once);
        let mut tries = 0;
        let (response, sender) = loop {
            let (mut sender, used) = self.line(&host, once).await?;
            match self.wait(sender.try_send_request(asked), &moves, patience).await? {
                Ok(response) => break (response, sender),
                Err(mut e) => {
                    tries += 1;
                    let kept = e.take_message();
                    if self.0.cut.is_cancelled() {
                        return Err(self.ended());
                    }
                    asked = match (kept, spare.as_ref().and_then(HttpRequest::try_clone)) {
                        // It was not taken: nothing of it has left.
                        (Some(kept), _) if used && tries < TRIES => kept,
                        // The server has closed a connection that it thought idle.
                        (None, Some(again)) if used && tries < TRIES => prepare(
                            again.try_into_http1x().map_err(|e| bad_request(&e.to_string()))?,
                            &moves,
                        )?,
                        _ => return Err(lost(e.into_error())),
                    };
                }
            }
        };
        talk.heard(|| response.status().to_string());
        talk.heard_more(|| {
            talk::headers(response.headers().iter().map(|(n, value)| (n.as_str(), value.as_bytes())))
        });
        // Held until the answer begins and no longer: who reads one while it writes another needs no place.
        drop(spare.take());
        if let Some(name) = response.headers().get(hyper::header::SERVER) {
            self.0.server.get_or_init(|| display_bytes(name.as_bytes()).chars().take(200).collect());
        }
        let response = response.map(|body| {
            let mut lease = Some((self.clone(), host, sender));
            if Body::is_end_stream(&body)
                && let Some((lines, host, sender)) = lease.take()
            {
                lines.give_back(host, sender);
            }
            let timer = Box::pin(tokio::time::sleep(patience));
            SdkBody::from_body_1_x(Receiving { body, lease, patience, timer })
        });
        HttpResponse::try_from(response).map_err(|e| {
            Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the server's answer has headers that are no text")
                .with_source(e)
        })
    }

    /// Waits for an answer as long as the request still moves.
    async fn wait<T>(
        &self,
        work: impl Future<Output = T>,
        moves: &AtomicU64,
        patience: Duration,
    ) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let seen = moves.load(Ordering::Relaxed);
            tokio::select! {
                biased;
                () = self.0.cut.cancelled() => return Err(self.ended()),
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(patience) => {}
            }
            if moves.load(Ordering::Relaxed) == seen {
                return Err(Error::new(ErrorKind::TimedOut).with_detail("the server does not answer in time"));
            }
        }
    }

    fn give_back(&self, host: Host, sender: Sender) {
        if sender.is_closed() || self.0.cut.is_cancelled() {
            return;
        }
        let mut idle = lock(&self.0.idle);
        let kept = idle.entry(host).or_default();
        if kept.len() < KEPT {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }
}

/// The request as it goes over a connection.
fn prepare(mut request: Request<SdkBody>, moves: &Arc<AtomicU64>) -> Result<Request<Sending>> {
    let uri = std::mem::take(request.uri_mut());
    if let Some(authority) = uri.authority()
        && !request.headers().contains_key(HOST)
    {
        // What is signed is the host, and the port only where it is not the usual one.
        let usual = if uri.scheme_str() == Some("https") { ":443" } else { ":80" };
        let host = authority.as_str().strip_suffix(usual).unwrap_or(authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|e| bad_request(&e.to_string()))?;
        request.headers_mut().insert(HOST, host);
    }
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() =
        target.parse().map_err(|e: hyper::http::uri::InvalidUri| bad_request(&e.to_string()))?;
    Ok(request.map(|body| Sending { body, rest: Bytes::new(), moves: Arc::clone(moves) }))
}

/// A request's body, which tells that it moves.
struct Sending {
    body: SdkBody,
    /// What came of it and is not sent yet.
    rest: Bytes,
    moves: Arc<AtomicU64>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        this.moves.fetch_add(1, Ordering::Relaxed);
        if this.rest.is_empty() {
            match ready!(Body::poll_frame(Pin::new(&mut this.body), cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        // A part is one piece of memory: in small ones it can be seen to move.
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before the first piece was taken, when nothing is left over.
        Body::size_hint(&self.body)
    }
}

/// An answer's body: it moves, or it fails. Read to its end, it gives the connection back.
struct Receiving {
    body: Incoming,
    lease: Option<(Lines, Host, Sender)>,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.timer.as_mut().poll(cx));
                this.lease = None;
                return Poll::Ready(Some(Err(
                    Error::new(ErrorKind::TimedOut).with_detail("the server's answer stands still")
                )));
            }
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let by = Instant::now() + this.patience;
                this.timer.as_mut().reset(by);
                Some(Ok(frame))
            }
            Some(Err(e)) => {
                let lease = this.lease.take();
                let is_cut = lease.is_some_and(|(lines, _, _)| lines.0.session.is_cut());
                Some(Err(if is_cut { Error::new(ErrorKind::Canceled) } else { lost(e) }))
            }
            None => {
                if let Some((lines, host, sender)) = this.lease.take() {
                    lines.give_back(host, sender);
                }
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        // Only polled to its end it gives the connection back.
        self.lease.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that failed.
fn lost(e: hyper::Error) -> Error {
    let kind = if e.is_parse() {
        ErrorKind::PeerMisbehaved
    } else if e.is_timeout() {
        ErrorKind::TimedOut
    } else {
        ErrorKind::Disconnected
    };
    let error = Error::new(kind);
    let error = match kind {
        ErrorKind::PeerMisbehaved => error.with_detail("the server does not speak HTTP"),
        _ => error,
    };
    error.with_source(e)
}
