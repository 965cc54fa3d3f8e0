//! Connections to one server, opened on demand and used again.
//!
//! Over HTTP/1.1 a connection carries one exchange at a time; over HTTP/2, where TLS agrees on it, one
//! carries all. A request that a connection did not take any more goes to another one; whether a request that
//! was taken may be sent again is its sender's business. The transport is ours (see [`Dial`]) because it
//! carries what the HTTP library's own cannot: every kind of proxy, who is trusted, the count of bytes, the
//! cut of a session.
//!
//! Readers give their places up between two calls when others wait ([`Places`]) and go on later; writers, which
//! cannot, never have all of them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::rt::Executor;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::{ClientTls, Refused, TlsLogin, words_of};
use session_core::net::counted::{Counted, Duplex};
use session_core::net::dial::{Dial, Stream};
use session_core::net::places::Places;
use session_core::session::Session;
use session_core::talk;
use session_core::trust::TrustDecision;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{In, Out};
use super::options::WebdavConnectOptions;
use super::place::Place;

/// Unused for longer, a connection may have been closed by the server while a request is on its way; what
/// must not be sent twice goes over a fresher one.
const FRESH: Duration = Duration::from_secs(2);
/// Unused for longer, a connection is not used again.
const STALE: Duration = Duration::from_secs(55);
/// How long a connection may take to be ready for another exchange.
const READY: Duration = Duration::from_secs(1);
/// How many connections that were used before are tried for one request.
const TRIES: usize = 8;
/// Exchanges side by side over one connection of HTTP/2, beside those that HTTP/1.1 may have.
const MULTIPLEXED: usize = 24;

/// Runs tasks until the cut, which drops them and with them the connection that they hold.
#[derive(Clone)]
struct UntilCut(CancellationToken);

impl<F> Executor<F> for UntilCut
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        let cut = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                _ = work => {}
            }
        });
    }
}

/// A request without its body.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) method: Method,
    /// Path and query, encoded.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    /// It must reach the server once at most.
    pub(super) once: bool,
}

struct Idle {
    sender: http1::SendRequest<Out>,
    since: Instant,
}

/// A connection that is one's for one exchange.
enum Line {
    One { sender: http1::SendRequest<Out>, used: bool },
    Many(http2::SendRequest<Out>),
}

pub(super) struct Lines {
    dial: Dial,
    place: Place,
    timeout: Duration,
    pub(super) session: Arc<Session>,
    pub(super) cut: CancellationToken,
    tls: Option<(Arc<ClientTls>, TlsLogin)>,
    /// The certificates are pinned: nobody is asked about others.
    pinned: bool,
    /// Who is asked while the first connection is made.
    decider: Mutex<Option<Arc<dyn Decider>>>,
    idle: Mutex<Vec<Idle>>,
    most_idle: usize,
    multiplexed: Mutex<Option<http2::SendRequest<Out>>>,
    multiplexes: AtomicBool,
    opening: tokio::sync::Mutex<()>,
    peer: OnceLock<IpAddr>,
    tls_words: OnceLock<String>,
    pub(super) places: Places,
    writers: Arc<Semaphore>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl Lines {
    /// Nothing is opened yet. Errors: those of [`ClientTls::new`].
    pub(super) async fn new(options: &WebdavConnectOptions, session: Arc<Session>) -> Result<Arc<Lines>> {
        let tls = if options.secure {
            let (host, port, tls) = (options.bare_host().to_owned(), options.port, options.tls.clone());
            let protocols: &[&[u8]] = if options.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
            // The authorities are files.
            let made = tokio::task::spawn_blocking(move || {
                ClientTls::new(&host, port, &tls).map(|tls| tls.offering(protocols))
            });
            let tls = Arc::new(made.await.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))??);
            let login = tls.login(None);
            Some((tls, login))
        } else {
            None
        };
        let most = options.connections.clamp(2, 64);
        let cut = session.cancel_token().child_token();
        Ok(Arc::new(Lines {
            dial: options.dial(),
            place: Place::new(options),
            timeout: options.timeout,
            session,
            tls,
            pinned: !options.tls.fingerprints.is_empty(),
            decider: Mutex::default(),
            idle: Mutex::default(),
            most_idle: most,
            multiplexed: Mutex::default(),
            multiplexes: AtomicBool::new(false),
            opening: tokio::sync::Mutex::default(),
            peer: OnceLock::new(),
            tls_words: OnceLock::new(),
            places: Places::new(most, cut.clone(), options.timeout * 3),
            cut,
            writers: Arc::new(Semaphore::new(most - 1)),
        }))
    }

    /// Whom to ask from now on about what is not known; nobody where it is `None`.
    pub(super) fn ask(&self, decider: Option<Arc<dyn Decider>>) {
        *lock(&self.decider) = decider;
    }

    pub(super) fn decider(&self) -> Option<Arc<dyn Decider>> {
        lock(&self.decider).clone()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// TLS in words.
    pub(super) fn tls_words(&self) -> Option<&str> {
        self.tls_words.get().map(String::as_str)
    }

    /// Whether what is sent can be read on the way: no TLS, and another machine at the other end.
    pub(super) fn is_in_the_clear(&self) -> bool {
        let here = self.dial.proxy.is_direct() && self.peer.get().is_some_and(IpAddr::is_loopback);
        !self.place.secure && !here
    }

    fn ended(&self) -> Error {
        Error::new(if self.session.is_cut() { ErrorKind::Canceled } else { ErrorKind::Closed })
    }

    // ---- places

    /// The right to write, which comes before the place to write in.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let turn = self.places.wait(Arc::clone(&self.writers).acquire_owned()).await;
        turn.map_err(|e| e.or(|| self.ended()))?.map_err(|_| self.ended())
    }

    /// A place for one exchange.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit> {
        self.places.take().await.map_err(|e| e.or(|| self.ended()))
    }

    // ---- connections

    fn take_idle(&self, once: bool) -> Option<http1::SendRequest<Out>> {
        let mut idle = lock(&self.idle);
        idle.retain(|i| !i.sender.is_closed() && i.since.elapsed() < STALE);
        // The one that was used last is the likeliest to stand.
        let newest = idle.pop_if(|i| !once || i.since.elapsed() < FRESH)?;
        Some(newest.sender)
    }

    fn take_multiplexed(&self) -> Option<http2::SendRequest<Out>> {
        let mut kept = lock(&self.multiplexed);
        if kept.as_ref().is_some_and(http2::SendRequest::is_closed) {
            *kept = None;
        }
        kept.clone()
    }

    async fn line(self: &Arc<Self>, once: bool) -> Result<Line> {
        if self.cut.is_cancelled() {
            return Err(self.ended());
        }
        while let Some(mut sender) = self.take_idle(once) {
            if let Ok(Ok(())) = tokio::time::timeout(READY, sender.ready()).await {
                return Ok(Line::One { sender, used: true });
            }
        }
        if !self.multiplexes.load(Ordering::Acquire) {
            return self.open().await;
        }
        let _one = self.opening.lock().await;
        match self.take_multiplexed() {
            Some(sender) => Ok(Line::Many(sender)),
            None => self.open().await,
        }
    }

    /// A new connection; a certificate that nobody vouches for is asked about while there is somebody to ask.
    async fn open(self: &Arc<Self>) -> Result<Line> {
        // A certificate, perhaps that of another machine behind the same name, is asked about twice at most.
        for _ in 0..2 {
            match self.enter().await {
                Ok(line) => return Ok(line),
                Err(Refused::Error(e)) => return Err(e),
                Err(Refused::Certificate(certificate)) => {
                    let (Some((tls, _)), Some(decider), false) = (&self.tls, self.decider(), self.pinned)
                    else {
                        return Err(Refused::Certificate(certificate).into());
                    };
                    match decider.decide(Query::Certificate { certificate: certificate.clone() }).await {
                        Answer::Trust(TrustDecision::Accept | TrustDecision::AcceptAndRemember) => {
                            tls.accept(&certificate);
                        }
                        _ => return Err(Refused::Certificate(certificate).into()),
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Unauthenticated)
            .with_detail("the server shows another certificate each time"))
    }

    /// One try: a certificate that is not believed is handed to the caller.
    async fn enter(self: &Arc<Self>) -> std::result::Result<Line, Refused> {
        let stream = self.dial.open().await.map_err(Refused::Error)?;
        if let Stream::Tcp(tcp) = &stream
            && let Ok(peer) = tcp.peer_addr()
        {
            let _ = self.peer.set(peer.ip());
            if self.dial.proxy.is_direct() {
                self.session.reached(peer, tcp.local_addr().ok());
            }
        }
        let counted = Counted::new(stream, Arc::clone(&self.session));
        let late =
            || Error::new(ErrorKind::TimedOut).with_detail("the server does not come to terms in time");
        let (io, multiplexed): (Box<dyn Duplex>, bool) = match &self.tls {
            None => (Box::new(counted), false),
            Some((_, login)) => {
                let secured = tokio::time::timeout(self.timeout, login.connect(counted));
                let stream = secured.await.map_err(|_| Refused::Error(late()))??;
                let words = words_of(stream.get_ref().1);
                self.session.talk().note(|| format!("TLS: {words}"));
                self.session.set_tls(&words);
                let _ = self.tls_words.set(words);
                let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Box::new(stream), agreed)
            }
        };
        let shaken = tokio::time::timeout(self.timeout, self.shake_hands(io, multiplexed));
        shaken.await.map_err(|_| Refused::Error(late()))?.map_err(|e| Refused::Error(lost(e)))
    }

    async fn shake_hands(self: &Arc<Self>, io: Box<dyn Duplex>, multiplexed: bool) -> hyper::Result<Line> {
        let io = TokioIo::new(io);
        let cut = self.cut.clone();
        if !multiplexed {
            let (sender, connection) = http1::Builder::new().handshake(io).await?;
            // Dropped at the cut, it closes the socket whoever holds the other end.
            tokio::spawn(async move {
                tokio::select! {
                    () = cut.cancelled() => {}
                    _ = connection => {}
                }
            });
            return Ok(Line::One { sender, used: false });
        }
        // The library drives a connection of HTTP/2 in tasks of its own, which go on while requests are under way.
        let mut builder = http2::Builder::new(UntilCut(cut.clone()));
        builder.initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
        let (sender, connection) = builder.handshake(io).await?;
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                _ = connection => {}
            }
        });
        *lock(&self.multiplexed) = Some(sender.clone());
        if !self.multiplexes.swap(true, Ordering::AcqRel) {
            self.places.add(MULTIPLEXED);
            self.writers.add_permits(MULTIPLEXED);
        }
        Ok(Line::Many(sender))
    }

    /// Sends a request in a place that one has, gives the beginning of its answer. `patience`: for how long it
    /// is waited for; for as long as it takes where it is `None`, and then the sender keeps the time. Errors: those
    /// of connecting; `Disconnected`, `TimedOut`, `PeerMisbehaved`.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        head: Head,
        mut body: Out,
        patience: Option<Duration>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Response<In>> {
        let talk = self.session.talk().line();
        talk.sent(|| format!("{} {}", head.method, talk::target(&head.target)));
        talk.sent_more(|| {
            talk::headers(head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
        });
        let mut tries = 0;
        let (response, sender) = loop {
            let line = self.line(head.once).await?;
            let spare = if head.once { None } else { body.again() };
            let (sent, sender, used) = match line {
                Line::One { mut sender, used } => {
                    let request = self.request(&head, body, false)?;
                    let sent = in_time(patience, sender.try_send_request(request)).await;
                    (sent, Some(sender), used)
                }
                Line::Many(mut sender) => {
                    let request = self.request(&head, body, true)?;
                    (in_time(patience, sender.try_send_request(request)).await, None, true)
                }
            };
            self.places.moves();
            let Some(sent) = sent else {
                return Err(Error::new(ErrorKind::TimedOut).with_detail("the server does not answer in time"));
            };
            match sent {
                Ok(response) => break (response, sender),
                Err(mut e) => {
                    tries += 1;
                    match e.take_message() {
                        _ if self.cut.is_cancelled() => return Err(self.ended()),
                        // It was not taken: nothing of it has left.
                        Some(request) if used && tries < TRIES => body = request.into_body(),
                        // The server has closed a connection that it thought idle.
                        None if used && tries < TRIES && spare.is_some() => {
                            body = spare.unwrap_or(Out::Whole(None));
                        }
                        _ => return Err(lost(e.into_error())),
                    }
                }
            }
        };
        talk.heard(|| response.status().to_string());
        talk.heard_more(|| {
            talk::headers(response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
        });
        let lease = Lease { lines: Arc::clone(self), sender, slot: Some(slot) };
        let timeout = self.timeout;
        Ok(response.map(|incoming| In::new(incoming, lease, timeout)))
    }

    fn request(&self, head: &Head, body: Out, multiplexed: bool) -> Result<Request<Out>> {
        let bad =
            |e: String| Error::new(ErrorKind::InvalidPath).with_detail(format!("that makes no request: {e}"));
        let uri =
            if multiplexed { format!("{}{}", self.place.origin(), head.target) } else { head.target.clone() };
        let uri: Uri = uri.parse().map_err(|e| bad(format!("{e}")))?;
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = head.headers.clone();
        if !multiplexed {
            let host = HeaderValue::from_str(&self.place.authority()).map_err(|e| bad(format!("{e}")))?;
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }

    /// Ends every connection.
    pub(super) fn close(&self) {
        self.places.close();
        self.writers.close();
        lock(&self.idle).clear();
        *lock(&self.multiplexed) = None;
        self.cut.cancel();
    }
}

/// Within a time, where there is one.
async fn in_time<T>(patience: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, work).await.ok(),
        None => Some(work.await),
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

/// An exchange under way: a place, and over HTTP/1.1 a connection. Dropped, it closes the connection.
pub(super) struct Lease {
    lines: Arc<Lines>,
    sender: Option<http1::SendRequest<Out>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// The answer was read to its end: the connection is others' to use.
    pub(super) fn give_back(mut self) {
        self.lines.places.moves();
        if let Some(sender) = self.sender.take().filter(|s| !s.is_closed()) {
            let mut idle = lock(&self.lines.idle);
            if idle.len() < self.lines.most_idle {
                idle.push(Idle { sender, since: Instant::now() });
            }
        }
    }

    /// Gives the place to others and keeps the connection.
    pub(super) fn free(&mut self) {
        self.slot = None;
    }

    pub(super) fn moved(&self) {
        self.lines.places.moves();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.lines.cut.is_cancelled()
    }
}
