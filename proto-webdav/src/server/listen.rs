//! The server: WebDAV over the connections that `session_core::net::http` accepts.
//!
//! Deliberately absent: binding of sockets; limits on sessions (the site's).

use std::sync::Arc;

use session_core::auth::Site;
use session_core::error::{Error, Result};
use session_core::net::http::{ByHost, HttpServer, Sessions};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::options::WebdavServerOptions;
use super::service::Service;

/// A server of WebDAV for one site, or for several by the host that is asked. Cheap to clone.
#[derive(Clone)]
pub struct WebdavServer(HttpServer<ByHost<Service>>);

/// Another site behind the same listener.
pub struct Hosted {
    /// The hosts that are its own, without a port.
    pub names: Vec<String>,
    /// How it behaves, but for connections: those are the listener's.
    pub options: WebdavServerOptions,
    /// Its users and files.
    pub site: Arc<dyn Site>,
}

impl WebdavServer {
    /// A server. `sessions` are those of the site, whatever its options become. Errors: `InvalidArgument` for
    /// options that make no sense.
    pub fn new(options: WebdavServerOptions, site: Arc<dyn Site>, sessions: Arc<Sessions>) -> Result<Self> {
        Self::with_hosts(options, site, &sessions, Vec::new())
    }

    /// The same, with other sites by the host that is asked; every other host is the first one's. Errors: as of
    /// [`new`](Self::new).
    pub fn with_hosts(
        options: WebdavServerOptions,
        site: Arc<dyn Site>,
        sessions: &Arc<Sessions>,
        others: Vec<Hosted>,
    ) -> Result<Self> {
        let tls = options.tls.clone();
        let service = |options: WebdavServerOptions, site: &Arc<dyn Site>| {
            options.check()?;
            let http = Arc::new(options.http());
            let service = Service::new(options, Arc::clone(&http), Arc::clone(site), Arc::clone(sessions));
            Ok::<_, Error>((http, service))
        };
        let (http, own) = service(options, &site)?;
        let mut by_host = ByHost::new(own);
        for other in others {
            // The protocol of its sessions is the listener's.
            let options = WebdavServerOptions { tls: tls.clone(), ..other.options.clone() };
            by_host.add(&other.names, &service(options, &other.site)?.1);
        }
        Ok(WebdavServer(HttpServer::new(http, site, Arc::new(by_host))?))
    }

    /// Accepts connections until `shutdown`; see [`HttpServer::serve`].
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        self.0.serve(listener, shutdown).await;
    }

    /// Serves one connection to its end; after `stop` it takes no new request.
    pub async fn serve_connection(&self, stream: TcpStream, stop: CancellationToken) {
        self.0.serve_connection(stream, stop).await;
    }
}
