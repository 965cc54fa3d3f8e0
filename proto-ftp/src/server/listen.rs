//! The server: accepts connections and serves each to its end.
//!
//! One task per connection owns its session. Whatever happens (the client leaves, a time is over, a hook
//! or an administrator ends it, something of ours panics), the sockets are dead within a tenth of a second
//! of the cut, and `Session::close` has been called exactly once. The client is told why, if it still
//! reads.
//!
//! Deliberately absent: binding of sockets, limits on sessions (the site's `admit`).

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use session_core::auth::Site;
use session_core::error::{Error, Result};
use session_core::net::proxy_header;
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Protocol};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Control;
use super::data::Ports;
use super::driver::{Driver, Setting, farewell};
use super::options::FtpServerOptions;
use crate::status;

/// How long a client has to hear why the connection ends.
const FAREWELL: Duration = Duration::from_millis(50);
/// How long the words of a refusal may take.
const REFUSAL: Duration = Duration::from_secs(1);
/// How long to wait when the system has no more descriptors.
const BREATHER: Duration = Duration::from_millis(100);
/// How long a trusted proxy may take to say who is behind it.
const PROXY: Duration = Duration::from_secs(5);

/// A server of FTP and FTPS for one site. Cheap to clone.
#[derive(Clone)]
pub struct FtpServer {
    site: Arc<dyn Site>,
    options: Arc<FtpServerOptions>,
    ports: Arc<Ports>,
}

impl FtpServer {
    /// A server. Errors: `InvalidArgument` for options that make no sense.
    pub fn new(options: FtpServerOptions, site: Arc<dyn Site>) -> Result<Self> {
        options.check()?;
        let ports = Ports::new(options.passive.ports.clone());
        Ok(FtpServer { site, options: Arc::new(options), ports })
    }

    /// Accepts connections until `shutdown`, then waits for those that are there: whoever shuts down
    /// drains and cuts their sessions. Dropping the future stops accepting and leaves them running.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(self.clone().serve_connection(stream));
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

    /// Serves one connection to its end.
    pub async fn serve_connection(self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        // ABOR may come as urgent data; its last byte must stay in its line.
        let _ = rustix::net::sockopt::set_socket_oobinline(&stream, true);
        let trusted = &self.options.trusted_proxies;
        let (peer, local) = match proxy_header::accept(&mut stream, trusted, PROXY).await {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(%error, "a proxy's connection without a header");
                return;
            }
        };
        let protocol = if self.options.implicit_tls { Protocol::Ftps } else { Protocol::Ftp };
        let session = match self.site.admit(protocol, peer, local).await {
            Ok(session) => session,
            Err(e) => return self.refuse(stream, peer, &e).await,
        };
        let setting = Setting {
            session: Arc::clone(&session),
            site: Arc::clone(&self.site),
            options: Arc::clone(&self.options),
            ports: Arc::clone(&self.ports),
            addresses: (peer, local),
        };
        let work = AssertUnwindSafe(self.supervise(setting, stream)).catch_unwind();
        let ending = work.await.unwrap_or_else(|_| {
            tracing::error!(session = %session.id(), "a connection's task panicked");
            Ending::new("internal error", Actor::Server)
        });
        session.close(ending).await;
    }

    async fn supervise(&self, setting: Setting, stream: TcpStream) -> Ending {
        let session = Arc::clone(&setting.session);
        let mut control = Control::new(stream, &session);
        let ended = || Ending::new("the session was ended", Actor::Server);
        let mut driver = match Driver::new(setting, &control) {
            Ok(driver) => driver,
            Err(_) => {
                return Ending::new("the client left", Actor::Client).because(Reason::ConnectionFailed);
            }
        };
        let login_by = tokio::time::Instant::now() + self.options.login_time;
        let (ending, ours) = {
            let mut run = Box::pin(driver.run(&mut control));
            let mut by = Some(login_by);
            loop {
                let late = async {
                    match by {
                        Some(by) => tokio::time::sleep_until(by).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = session.cancel_token().cancelled() => {
                        break (session.ending().unwrap_or_else(ended), true);
                    }
                    ending = &mut run => break (ending, false),
                    () = late => {
                        if session.identity().is_none() {
                            let ending = Ending::new("the login took too long", Actor::Server);
                            break (ending.because(Reason::LoginTimeout), true);
                        }
                        by = None;
                    }
                }
            }
        };
        session.cut(ending.clone());
        // The data connection, the port and the files end with it.
        drop(driver);
        if ours {
            farewell(&mut control, &ending.reason, FAREWELL).await;
        } else {
            let _ = tokio::time::timeout(REFUSAL, control.finish()).await;
        }
        ending
    }

    /// Refuses in words where they can be understood: not under implicit TLS, before a handshake.
    async fn refuse(&self, mut stream: TcpStream, peer: SocketAddr, e: &Error) {
        tracing::debug!(%peer, error = %e, "a connection was refused");
        if self.options.implicit_tls {
            return;
        }
        let mut out = BytesMut::new();
        let limit = &self.options.messages.limit;
        let words = if limit.is_empty() { e.clone() } else { e.clone().with_detail(limit.clone()) };
        status::with_code(421, &words).encode(&mut out);
        let _ = tokio::time::timeout(REFUSAL, async {
            stream.write_all(&out).await?;
            stream.shutdown().await
        })
        .await;
    }
}
