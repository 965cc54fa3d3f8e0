//! From a request to its answer: who sends it, what must hold, which method.
//!
//! Who shows no credentials is told how to, or is the account of strangers, where there is one; that account is
//! asked for credentials again as soon as something is refused to it.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method as HttpMethod, Request, Response};
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind};
use session_core::fs::Filesystem as _;
use session_core::gate::SessionFs;
use session_core::net::http::{
    Client, Connection, Handler, HttpOptions, InFlight, Intake, Sessions, Working,
};
use session_core::reason::Reason;
use session_core::session::{Argument, Session};

use super::digest::Digest;
use super::options::WebdavServerOptions;
use super::respond::{Answer, Body, Failure, empty, set};
use super::table::{ALLOW, Method, Row};
use super::{guard, locks, propfind, proppatch, read, tree, write};
use crate::wire::KEEPS_PROPERTIES;
use crate::wire::href::{self, Target};

/// What all connections share.
pub(super) struct Service {
    pub(super) options: Arc<WebdavServerOptions>,
    pub(super) http: Arc<HttpOptions>,
    pub(super) site: Arc<dyn Site>,
    pub(super) sessions: Arc<Sessions>,
    /// `None` where Digest is not offered.
    pub(super) digest: Option<Digest>,
}

/// One request, as methods see it.
pub(super) struct Call {
    pub(super) fs: SessionFs,
    pub(super) options: Arc<WebdavServerOptions>,
    pub(super) headers: HeaderMap,
    pub(super) target: Target,
    /// The host that the request was made to.
    pub(super) host: String,
    pub(super) body: Intake,
    pub(super) flight: InFlight,
}

impl Call {
    /// A field, if it is text.
    pub(super) fn field(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref())?.to_str().ok()
    }

    /// A path as clients know it.
    pub(super) fn href(&self, path: &session_core::path::VPath, is_dir: bool) -> String {
        href::write(path, is_dir, &self.options.prefix)
    }
}

impl Service {
    pub(super) fn new(
        options: WebdavServerOptions,
        http: Arc<HttpOptions>,
        site: Arc<dyn Site>,
        sessions: Arc<Sessions>,
    ) -> Arc<Self> {
        let digest = options.digest.then(|| Digest::new(&sessions, options.nonce_time));
        Arc::new(Service { options: Arc::new(options), http, site, sessions, digest })
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
        let (head, body) = request.into_parts();
        let waits = head.headers.contains_key(header::EXPECT);
        let body = Intake::new(body, waits, self.options.data_time, self.options.minimum_rate);
        let client = match self.enter(connection, &head.method, &head.uri, &head.headers).await {
            Ok(client) => client,
            Err(response) => return *response,
        };
        connection.belongs_to(&client);
        let session = Arc::clone(&client.session);
        let row = Row::find(head.method.as_str());
        let path = head.uri.path();
        let target = if path == "*" && head.method == HttpMethod::OPTIONS {
            href::parse(&self.options.prefix, &self.options.prefix)
        } else {
            href::parse(path, &self.options.prefix)
        };
        let argument = match &target {
            Ok(target) => Argument::Path(target.path.clone()),
            Err(_) => Argument::Text(path.chars().take(256).collect::<String>().into()),
        };
        let running = session.begin_command(row.map_or("(unknown)", |r| r.name), argument);
        let flight = InFlight::new(connection, &client, working, running);
        let host = head.uri.authority().map(|a| a.to_string());
        let host = host.or_else(|| head.headers.get(header::HOST)?.to_str().ok().map(str::to_owned));
        let answered = match (row, target) {
            (None, _) => {
                let e = Error::new(ErrorKind::Unsupported).with_detail("this method is not known here");
                Err(Failure::with_code(e.because(Reason::CommandDenied), 501))
            }
            (_, Err(e)) => Err(e.into()),
            (Some(row), Ok(target)) => {
                let call = Call {
                    fs: client.fs.clone(),
                    options: Arc::clone(&self.options),
                    headers: head.headers,
                    target,
                    host: host.unwrap_or_default(),
                    body,
                    flight,
                };
                self.call(row, call, &session).await
            }
        };
        let mut response = answered.unwrap_or_else(|failure| {
            // The gate has told of what failed behind it.
            if failure.error.operation().is_none() {
                session.note_error(&failure.error);
            }
            self.failed(connection, &client, &failure)
        });
        if response.status() == hyper::StatusCode::METHOD_NOT_ALLOWED {
            set(&mut response, header::ALLOW, ALLOW);
        }
        set(&mut response, header::SERVER, &client.software);
        session.note_status(u32::from(response.status().as_u16()));
        response
    }
}

impl Service {
    /// A stranger who is refused may be somebody.
    fn failed(&self, connection: &Connection, client: &Client, failure: &Failure) -> Response<Body> {
        let refused = matches!(failure.error.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied);
        let stranger = self.options.anonymous.as_deref();
        if refused && stranger.is_some_and(|s| *client.session.requested_user() == *s) {
            return self.challenge(connection, failure.response(), false);
        }
        failure.response()
    }

    async fn call(&self, row: &Row, mut call: Call, session: &Arc<Session>) -> Answer {
        if row.operation.is_none() {
            session.command(row.name, &call.target.path.display()).await?;
        }
        call.fs = guard::tokens(&call).await?;
        match row.method {
            Method::Copy => tree::copy(call).await,
            Method::Delete => tree::delete(call).await,
            Method::Get => read::get(call, true).await,
            Method::Head => read::get(call, false).await,
            Method::Lock => locks::lock(call).await,
            Method::Mkcol => tree::make(call).await,
            Method::Move => tree::rename(call).await,
            Method::Options => Ok(offer(&call)),
            Method::Propfind => propfind::find(call).await,
            Method::Proppatch => proppatch::patch(call).await,
            Method::Put => write::put(call).await,
            Method::Unlock => locks::unlock(call).await,
        }
    }
}

/// What OPTIONS says.
fn offer(call: &Call) -> Response<Body> {
    let mut response = empty(200);
    set(&mut response, HeaderName::from_static("dav"), &call.classes());
    set(&mut response, header::ALLOW, ALLOW);
    // Explorer takes WebDAV only from who says so.
    set(&mut response, HeaderName::from_static("ms-author-via"), "DAV");
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    response
}

impl Call {
    /// Whether locks are kept here.
    pub(super) fn locks(&self) -> bool {
        self.fs.capabilities().locks
    }

    /// What of WebDAV is spoken here (RFC 4918, section 10.1).
    pub(super) fn classes(&self) -> String {
        let classes = if self.locks() { "1, 2, 3, extended-mkcol" } else { "1, 3, extended-mkcol" };
        if self.fs.capabilities_at(&self.target.path).properties {
            // Our own client asks nobody else what a place keeps.
            return format!("{classes}, <{KEEPS_PROPERTIES}>");
        }
        classes.to_owned()
    }
}
