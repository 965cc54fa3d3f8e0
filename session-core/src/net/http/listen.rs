//! The server: accepts connections and serves each to its end (HTTP/1.1 and HTTP/2, RFC 9112 and 9113).
//!
//! The socket is dead within a tenth of a second after the session of a connection was cut. A connection on
//! which nobody logs in is closed in time, as is one that stands still. When the server stops, or goes on
//! with other options, connections finish what they do and are closed: clients come back.
//!
//! Deliberately absent: binding of sockets; limits on sessions (the site's).

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Stream, Transport, Wire, Working};
use super::options::HttpOptions;
use super::respond::{Body, empty};
use crate::auth::Site;
use crate::error::Result;
use crate::net::{proxy_header, server_tls};

/// How long to wait when the system has no more descriptors.
const BREATHER: Duration = Duration::from_millis(100);
/// How long a trusted proxy may take to say who is behind it.
const PROXY: Duration = Duration::from_secs(5);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Requests of one connection at a time (HTTP/2).
const STREAMS: u32 = 128;
/// The largest head of a request, bytes, and the most fields in it.
const HEAD: usize = 64 * 1024;
const FIELDS: usize = 100;

/// Numbers connections for their sessions.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What is spoken over HTTP.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; `working` is held for as long as the answer takes. What panics ends this request
    /// and nothing else.
    async fn answer(
        &self,
        connection: &Arc<Connection>,
        working: Working,
        request: Request<Incoming>,
    ) -> Response<Body>;
}

/// A server of HTTP for one site. Cheap to clone.
pub struct HttpServer<H> {
    handler: Arc<H>,
    options: Arc<HttpOptions>,
    site: Arc<dyn Site>,
    places: Arc<Semaphore>,
}

impl<H> Clone for HttpServer<H> {
    fn clone(&self) -> Self {
        HttpServer {
            handler: Arc::clone(&self.handler),
            options: Arc::clone(&self.options),
            site: Arc::clone(&self.site),
            places: Arc::clone(&self.places),
        }
    }
}

impl<H: Handler> HttpServer<H> {
    /// A server. Errors: `InvalidArgument` for options that make no sense.
    pub fn new(options: Arc<HttpOptions>, site: Arc<dyn Site>, handler: Arc<H>) -> Result<Self> {
        options.check()?;
        let places = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
        Ok(HttpServer { handler, options, site, places })
    }

    fn options(&self) -> &HttpOptions {
        &self.options
    }

    /// Accepts connections until `shutdown`, then waits for those that are there to finish their requests:
    /// whoever shuts down drains and cuts their sessions. Dropping the future stops accepting and leaves them
    /// running.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // One more than there may be is closed without a word: whoever sends floods reads none.
                    let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { continue };
                    let (server, stop) = (self.clone(), shutdown.clone());
                    connections.spawn(async move {
                        server.serve_connection(stream, stop).await;
                        drop(place);
                    });
                }
                // One that was gone before it was taken, or no descriptors left: neither ends the server.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// Serves one connection to its end; after `stop` it takes no new request.
    pub async fn serve_connection(&self, mut stream: TcpStream, stop: CancellationToken) {
        let _ = stream.set_nodelay(true);
        let accepted = proxy_header::accept(&mut stream, &self.options().trusted_proxies, PROXY).await;
        let (peer, local) = match accepted {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(%error, "a proxy's connection without a header");
                return;
            }
        };
        if let Err(e) = self.site.knock(peer, local).await {
            tracing::debug!(%peer, error = %e, "a connection was refused");
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.shutdown()).await;
            return;
        }
        let (transport, tls) = match self.secure(stream).await {
            Some(secured) => secured,
            None => return,
        };
        let wire = Arc::<Wire>::default();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(id, self.options.protocol, (peer, local), tls, Arc::clone(&wire));
        let stream = Stream::new(transport, wire, self.options().data_time);
        self.run(&connection, stream, stop).await;
        connection.over();
    }

    /// TLS, where it is spoken; `None` where it did not come about.
    async fn secure(&self, stream: TcpStream) -> Option<(Transport, Option<String>)> {
        let Some(tls) = &self.options().tls else { return Some((Transport::Plain(stream), None)) };
        let mut config = (*tls.config()).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let shake = TlsAcceptor::from(Arc::new(config)).accept(stream);
        match tokio::time::timeout(self.options().login_time, shake).await {
            Ok(Ok(stream)) => {
                let words = server_tls::describe(stream.get_ref().1);
                Some((Transport::Tls(Box::new(stream)), Some(words)))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no TLS");
                None
            }
            Err(_) => None,
        }
    }

    async fn run(&self, connection: &Arc<Connection>, stream: Stream, stop: CancellationToken) {
        let options = self.options();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(options.login_time)
            .max_buf_size(HEAD.max(256 * 1024))
            .max_headers(FIELDS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
            .keep_alive_interval(options.data_time)
            .keep_alive_timeout(options.data_time);
        let service = {
            let (handler, connection) = (Arc::clone(&self.handler), Arc::clone(connection));
            service_fn(move |request| {
                let (handler, connection) = (Arc::clone(&handler), Arc::clone(&connection));
                async move {
                    let working = connection.busy();
                    let answering = AssertUnwindSafe(handler.answer(&connection, working, request));
                    let answered = answering.catch_unwind().await;
                    Ok::<_, Infallible>(answered.unwrap_or_else(|_| {
                        tracing::error!(peer = %connection.peer, "a request panicked");
                        empty(500)
                    }))
                }
            })
        };
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        let mut serving = std::pin::pin!(serving);
        let begun = Instant::now();
        let mut busy_at = begun;
        let mut finishing = false;
        loop {
            tokio::select! {
                biased;
                () = connection.cut.cancelled() => return,
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = %connection.peer, %error, "a connection broke");
                    }
                    return;
                }
                () = stop.cancelled(), if !finishing => {
                    finishing = true;
                    serving.as_mut().graceful_shutdown();
                }
                () = connection.finish.cancelled(), if !finishing => {
                    finishing = true;
                    serving.as_mut().graceful_shutdown();
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = Instant::now();
            if connection.is_busy() {
                busy_at = now;
            }
            let quiet = now.duration_since(busy_at);
            if !connection.is_known() && begun.elapsed() >= options.login_time && !connection.is_busy() {
                return;
            }
            // What finishes has sent its last answer by now, or has nobody who reads it.
            if finishing && quiet >= options.data_time {
                return;
            }
            if options.idle.is_some_and(|idle| quiet >= idle) && !finishing {
                finishing = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}
