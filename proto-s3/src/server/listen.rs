//! The server: S3 over the connections that `session_core::net::http` accepts.
//!
//! Deliberately absent: binding of sockets; limits on sessions (the site's).

use std::sync::Arc;

use session_core::auth::Site;
use session_core::error::Result;
use session_core::net::http::{HttpServer, Sessions};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::options::S3ServerOptions;
use super::service::Service;

/// A server of S3 for one site. Cheap to clone.
#[derive(Clone)]
pub struct S3Server(HttpServer<Service>);

impl S3Server {
    /// A server. `sessions` are those of the site, whatever its options become. Errors: `InvalidArgument` for
    /// options that make no sense.
    pub fn new(options: S3ServerOptions, site: Arc<dyn Site>, sessions: Arc<Sessions>) -> Result<Self> {
        options.check()?;
        let http = Arc::new(options.http());
        let service = Service::new(options, Arc::clone(&http), Arc::clone(&site), sessions);
        Ok(S3Server(HttpServer::new(http, site, service)?))
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
