//! The API's answering side.
//!
//! ```text
//! GET  /v1/status
//! GET  /v1/sessions?user=&address=&protocol=&site=&state=&path=&order=
//! GET  /v1/sessions/{id}                         one that is over too, while it is remembered
//! GET  /v1/history?user=&address=&protocol=&site=&path=&reason=&actor=&order=&limit=
//! POST /v1/sessions/{id}/terminate               {"reason": "…"}
//! POST /v1/sessions/terminate?user=|address=|site=   {"reason": "…"}
//! GET  /v1/bans
//! POST /v1/bans/add                              {"network": "…", "time": "…", "reason": "…"}
//! POST /v1/bans/remove                           {"network": "…"}
//! POST /v1/reload
//! ```
//!
//! Several filters mean all of them. A failure is `{"error": {"kind", "message", "hint"}}`; the kinds are
//! those of [`ErrorKind`]. Connections, heads, bodies and times are bounded.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::registry::{PATIENCE, SessionRegistry};
use session_core::session::{Actor, Ending, Session};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::bans;
use super::select::{self, Selection};
use crate::protector::Protector;

/// The largest body, bytes.
const MAX_BODY: usize = 64 << 10;

/// Time for a request's head, and for its body.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// Connections at once; more wait in the socket's queue.
const CONNECTIONS: usize = 32;

/// Time for answers under way when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What the API can reach.
#[derive(Clone)]
pub struct ControlState {
    /// The live table.
    pub registry: Arc<SessionRegistry>,
    /// The block list.
    pub protector: Arc<Protector>,
    /// The answer to `/v1/status`.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Reads the configuration anew.
    pub reload: Arc<dyn Fn() -> BoxFuture<'static, Result<Value>> + Send + Sync>,
}

/// Opens the socket and answers on it until `shutdown` fires; then its file is removed. A socket that
/// nobody answers on is replaced; one that answers is another server's, and what is no socket is left
/// alone. Errors: `AlreadyExists`, and those of the file system.
pub async fn serve(path: PathBuf, state: ControlState, shutdown: CancellationToken) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    make_way(&path).await?;
    let cannot = |e: io::Error| {
        Error::from(e).with_detail(format!("the control socket {} cannot be made", path.display()))
    };
    let listener = UnixListener::bind(&path).map_err(cannot)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    let made = std::fs::symlink_metadata(&path).map_err(cannot)?;
    let file = SocketFile { path, device: made.dev(), inode: made.ino() };
    let owner = made.uid();
    tokio::spawn(async move {
        // Dropped before the listener: while the file is there, somebody answers.
        let listener = listener;
        let _file = file;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = async {
                    let slot = Arc::clone(&slots).acquire_owned().await;
                    (slot, listener.accept().await)
                } => accepted,
            };
            let (Ok(slot), Ok((socket, _))) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let uid = socket.peer_cred().ok().map(|c| c.uid());
            // Between bind and chmod the mode is the umask's.
            if uid.is_some_and(|uid| !admits(owner, uid)) {
                tracing::warn!(uid, "a control connection of another user was refused");
                continue;
            }
            let actor = uid.map(|uid| format!("uid {uid}")).unwrap_or_default();
            let (state, shutdown) = (state.clone(), shutdown.clone());
            tokio::spawn(async move {
                converse(socket, state, actor, shutdown).await;
                drop(slot);
            });
        }
    });
    Ok(())
}

/// Root and the server's own user administer it.
fn admits(owner: u32, uid: u32) -> bool {
    uid == owner || uid == 0
}

/// Removes what a dead server left at `path`, and nothing else.
async fn make_way(path: &Path) -> Result<()> {
    let taken = |words: String| Error::new(ErrorKind::AlreadyExists).with_detail(words);
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(taken(format!("{} is there and is no socket", path.display()))
                .with_hint("name another path for the control socket, or move that file away"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        // Nobody listens: its server is dead. Any other failure may be a server that is busy.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(taken(format!("another ferryd answers on {}", path.display()))
            .with_hint("stop it, or give this one another data folder or --control")),
        Err(e) => Err(taken(format!("{} may belong to another ferryd", path.display())).with_source(e)),
    }
}

/// The file of our socket: removed with this, unless another server has put its own there.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |m: std::fs::Metadata| m.dev() == self.device && m.ino() == self.inode;
        if std::fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn converse(socket: UnixStream, state: ControlState, actor: String, shutdown: CancellationToken) {
    let service = hyper::service::service_fn(move |request| {
        let (state, actor) = (state.clone(), actor.clone());
        async move { Ok::<_, Infallible>(answer(&state, &actor, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(e) = served {
        tracing::debug!(error = %e, "a control connection ended");
    }
}

type Answer = Response<Full<Bytes>>;

fn reply(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn problem(e: &Error) -> Answer {
    let status = match e.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut error = json!({ "kind": e.kind().name(), "message": e.to_string() });
    if let (Some(map), Some(hint)) = (error.as_object_mut(), e.hint()) {
        map.insert("hint".into(), hint.into());
    }
    reply(status, &json!({ "error": error }))
}

async fn answer(state: &ControlState, actor: &str, request: Request<Incoming>) -> Answer {
    if let Some(method) = method_of(request.uri().path())
        && *request.method() != method
    {
        let e = Error::new(ErrorKind::Unsupported).with_detail(format!("this path takes {method} only"));
        let mut refused = problem(&e);
        *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        if let Ok(value) = hyper::header::HeaderValue::from_str(method.as_str()) {
            refused.headers_mut().insert(hyper::header::ALLOW, value);
        }
        return refused;
    }
    match route(state, actor, request).await {
        Ok(value) => reply(StatusCode::OK, &value),
        Err(e) => problem(&e),
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|s| !s.is_empty()).collect()
}

/// The one method of each path; none for a path that is not there.
fn method_of(path: &str) -> Option<Method> {
    match segments(path).as_slice() {
        ["v1", "bans", "add" | "remove"]
        | ["v1", "reload"]
        | ["v1", "sessions", "terminate"]
        | ["v1", "sessions", _, "terminate"] => Some(Method::POST),
        ["v1", "bans" | "history" | "status" | "sessions"] | ["v1", "sessions", _] => Some(Method::GET),
        _ => None,
    }
}

async fn route(state: &ControlState, actor: &str, request: Request<Incoming>) -> Result<Value> {
    let path = request.uri().path().to_string();
    let query = parse_query(request.uri().query().unwrap_or_default())?;
    match segments(&path).as_slice() {
        ["v1", "status"] => Ok((state.status)()),
        ["v1", "bans"] => Ok(bans::show(&state.protector)),
        ["v1", "bans", what @ ("add" | "remove")] => {
            let what = (*what).to_string();
            let body = body(request).await?;
            bans::apply(&state.protector, &state.registry, &what, &body, actor).await
        }
        ["v1", "reload"] => (state.reload)().await,
        ["v1", "sessions"] => {
            let selection = Selection::parse(&query, select::LIVE)?;
            let mut found: Vec<_> = state.registry.list().iter().map(|s| s.snapshot()).collect();
            found.retain(|s| selection.matches(s));
            selection.arrange(&mut found, |s| s);
            Ok(json!({ "sessions": found }))
        }
        ["v1", "history"] => {
            let selection = Selection::parse(&query, select::OVER)?;
            let mut found = state.registry.ended();
            found.retain(|e| selection.matches_ended(e));
            selection.arrange(&mut found, |e| &e.session);
            let found: Vec<_> = found.iter().map(|e| &**e).collect();
            Ok(json!({ "sessions": found }))
        }
        ["v1", "sessions", "terminate"] => {
            if query.is_empty() {
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail(
                    "name a user, an address or a site: everybody at once is not ended by mistake",
                ));
            }
            let selection = Selection::parse(&query, select::END)?;
            let reason = reason(request).await?;
            let mut found = state.registry.list();
            found.retain(|s| selection.matches(&s.snapshot()));
            terminate(&found, &reason, actor).await
        }
        ["v1", "sessions", id] => {
            let shown = match (state.registry.find(id), state.registry.find_ended(id)) {
                (Some(live), _) => serde_json::to_value(live.snapshot()),
                (None, Some(ended)) => serde_json::to_value(&*ended),
                (None, None) => return Err(unknown(id)),
            };
            shown.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))
        }
        ["v1", "sessions", id, "terminate"] => {
            let session = find(state, id)?;
            terminate(&[session], &reason(request).await?, actor).await
        }
        _ => Err(Error::new(ErrorKind::NotFound).with_detail(format!("no such path: {path}"))),
    }
}

fn find(state: &ControlState, id: &str) -> Result<Arc<Session>> {
    state.registry.find(id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Error {
    Error::new(ErrorKind::NotFound)
        .with_detail(format!("no session '{id}'"))
        .with_hint("'ferryd sessions' lists them; an id may be shortened as long as it is the only one")
}

/// Cuts all of them before it waits for any: a caller who hangs up leaves none of them alive.
async fn terminate(sessions: &[Arc<Session>], reason: &str, actor: &str) -> Result<Value> {
    let ending = Ending::new(reason, Actor::Admin(actor.into()));
    for s in sessions {
        if s.cut(ending.clone()) {
            tracing::info!(session = %s.id(), user = ?s.user_id(), reason, actor, "a session was ended");
        }
    }
    let ends = sessions.iter().map(|s| async {
        let left = s.terminate(ending.clone(), PATIENCE).await;
        json!({ "sessionId": s.id().as_str(), "inFlight": left.in_flight })
    });
    Ok(json!({ "terminated": join_all(ends).await }))
}

/// The reason of a body; none is "ended by an administrator".
async fn reason(request: Request<Incoming>) -> Result<String> {
    let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
    match body(request).await?.get("reason") {
        None => Ok("ended by an administrator".into()),
        Some(Value::String(s)) if s.len() <= 1000 => Ok(s.clone()),
        Some(_) => Err(bad("a reason is a string of at most 1000 bytes")),
    }
}

/// A body of JSON; `null` for none.
async fn body(request: Request<Incoming>) -> Result<Value> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = tokio::time::timeout(REQUEST_TIME, body)
        .await
        .map_err(|_| Error::new(ErrorKind::TimedOut).with_detail("the body did not come in time"))?
        .map_err(|e| match e.downcast_ref::<LengthLimitError>() {
            Some(_) => Error::new(ErrorKind::TooLarge).with_detail("the body is too large"),
            None => Error::new(ErrorKind::Disconnected).with_detail("the body ended early"),
        })?
        .to_bytes();
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body)
        .map_err(|_| Error::new(ErrorKind::InvalidArgument).with_detail("the body is not JSON"))
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>> {
    let bad = || Error::new(ErrorKind::InvalidArgument).with_detail("the query is malformed");
    let decode = |text: &str| {
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(b) = bytes.next() {
            match b {
                b'%' => {
                    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                    let (high, low) =
                        (digit(bytes.next()).ok_or_else(bad)?, digit(bytes.next()).ok_or_else(bad)?);
                    out.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
                }
                b'+' => out.push(b' '),
                b => out.push(b),
            }
        }
        String::from_utf8(out).map_err(|_| bad())
    };
    let pairs = query.split('&').filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        // A filter without a value filters nothing.
        .filter(|r| !matches!(r, Ok((_, v)) if v.is_empty()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::Control;
    use session_core::auth::Account;
    use session_core::registry::Caps;
    use session_core::session::{Protocol, Setup, system_clock};

    struct World {
        dir: tempfile::TempDir,
        registry: Arc<SessionRegistry>,
        control: Control,
        _stop: tokio_util::sync::DropGuard,
    }

    fn protector() -> Arc<Protector> {
        Protector::new(crate::protector::Settings::default(), None, system_clock()).unwrap()
    }

    async fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let registry = SessionRegistry::new(Caps::default());
        for (user, port) in [("alice", 1), ("alice", 2), ("bob", 3)] {
            let mut setup = Setup::new(Protocol::Sftp, "s");
            setup.peer = Some(([192, 0, 2, port], 1000).into());
            registry.open(setup).unwrap().log_in(Account::named(user), vec!["password"]).unwrap();
        }
        let state = ControlState {
            registry: Arc::clone(&registry),
            protector: protector(),
            status: Arc::new(|| json!({ "ok": true })),
            reload: Arc::new(|| {
                Box::pin(async { Err(Error::new(ErrorKind::InvalidArgument).with_detail("line 7")) })
            }),
        };
        let stop = CancellationToken::new();
        let path = dir.path().join("run/control.sock");
        serve(path.clone(), state, stop.clone()).await.unwrap();
        World { dir, registry, control: Control::new(path), _stop: stop.drop_guard() }
    }

    #[tokio::test]
    async fn lists_shows_and_filters() {
        let w = world().await;
        assert_eq!(w.control.get("/v1/status").await.unwrap()["ok"], true);
        let count = |v: Value| v["sessions"].as_array().unwrap().len();
        assert_eq!(count(w.control.get("/v1/sessions").await.unwrap()), 3);
        assert_eq!(count(w.control.get("/v1/sessions?user=alice").await.unwrap()), 2);
        assert_eq!(count(w.control.get("/v1/sessions?address=192.0.2.3&protocol=sftp").await.unwrap()), 1);
        let id = w.registry.list()[0].id().to_string();
        let one = w.control.get(&format!("/v1/sessions/{id}")).await.unwrap();
        assert_eq!((one["sessionId"].as_str(), one["userName"].as_str()), (Some(id.as_str()), Some("alice")));
        let mode = std::fs::metadata(w.dir.path().join("run/control.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn ends_sessions_with_reason_and_actor() {
        let w = world().await;
        let session = w.registry.list().remove(0);
        let path = format!("/v1/sessions/{}/terminate", session.id());
        let done = w.control.post(&path, &json!({ "reason": "bye" })).await.unwrap();
        assert_eq!(done["terminated"][0]["inFlight"], 0);
        let ending = session.ending().unwrap();
        assert_eq!(&*ending.reason, "bye");
        assert!(ending.actor.to_string().starts_with("admin uid "), "{}", ending.actor);
        w.control.post("/v1/sessions/terminate?user=alice", &Value::Null).await.unwrap();
        assert_eq!(w.registry.list().len(), 1);
        w.control.post("/v1/sessions/terminate?address=192.0.2.3", &Value::Null).await.unwrap();
        assert!(w.registry.is_empty());
    }

    #[tokio::test]
    async fn bad_requests_get_clear_errors() {
        let w = world().await;
        let kind = |r: Result<Value>| r.err().unwrap().kind();
        assert_eq!(kind(w.control.get("/v1/sessions/nobody").await), ErrorKind::NotFound);
        assert_eq!(kind(w.control.get("/v2/x").await), ErrorKind::NotFound);
        assert_eq!(kind(w.control.get("/v1/reload").await), ErrorKind::Unsupported);
        assert_eq!(kind(w.control.get("/v1/sessions?colour=red").await), ErrorKind::InvalidArgument);
        assert_eq!(
            kind(w.control.post("/v1/sessions/terminate", &Value::Null).await),
            ErrorKind::InvalidArgument
        );
        let large = json!({ "reason": "x".repeat(MAX_BODY) });
        assert_eq!(kind(w.control.post("/v1/sessions/terminate?user=a", &large).await), ErrorKind::TooLarge);
        let e = w.control.post("/v1/reload", &Value::Null).await.err().unwrap();
        assert!(e.to_string().contains("line 7"), "{e}");
        assert_eq!(w.registry.list().len(), 3);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let w = world().await;
        let state = ControlState {
            registry: Arc::clone(&w.registry),
            protector: protector(),
            status: Arc::new(|| Value::Null),
            reload: Arc::new(|| Box::pin(async { Ok(Value::Null) })),
        };
        let live = w.dir.path().join("run/control.sock");
        let e = serve(live, state.clone(), CancellationToken::new()).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        let stale = w.dir.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        serve(stale.clone(), state, CancellationToken::new()).await.unwrap();
        assert!(Control::new(stale).get("/v1/status").await.is_ok());
        let nobody = Control::new(w.dir.path().join("none")).get("/v1/status").await.err().unwrap();
        assert_eq!(nobody.kind(), ErrorKind::Disconnected);
    }

    fn idle_state(registry: &Arc<SessionRegistry>) -> ControlState {
        ControlState {
            registry: Arc::clone(registry),
            protector: protector(),
            status: Arc::new(|| Value::Null),
            reload: Arc::new(|| Box::pin(async { Ok(Value::Null) })),
        }
    }

    /// What stands on the wire: status line and headers, and the body.
    async fn raw(w: &World, request: &str) -> (String, Value) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = UnixStream::connect(w.dir.path().join("run/control.sock")).await.unwrap();
        let request = format!("{request}Host: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), serde_json::from_str(body).unwrap())
    }

    #[tokio::test]
    async fn failures_have_their_status_and_shape() {
        let w = world().await;
        for (request, status, kind) in [
            ("GET /v1/sessions/none HTTP/1.1\r\n", "404", "not-found"),
            ("GET /v1/sessions?address=bob HTTP/1.1\r\n", "400", "invalid-argument"),
            ("GET /v1/sessions?user=%zz HTTP/1.1\r\n", "400", "invalid-argument"),
            ("POST /v1/sessions/terminate?user= HTTP/1.1\r\n", "400", "invalid-argument"),
            ("POST /v1/sessions/terminate?protocol=sftp HTTP/1.1\r\n", "400", "invalid-argument"),
            ("DELETE /v1/sessions HTTP/1.1\r\n", "405", "unsupported"),
        ] {
            let (head, body) = raw(&w, request).await;
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{request}: {head}");
            assert!(head.contains("content-type: application/json"), "{head}");
            assert_eq!(body["error"]["kind"], kind, "{request}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
            assert_eq!(head.contains("allow: get"), status == "405", "{head}");
        }
        let (head, _) = raw(&w, "GET /v1/reload HTTP/1.1\r\n").await;
        assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: post"), "{head}");
        assert_eq!(w.registry.len(), 3);
    }

    #[tokio::test]
    async fn an_address_is_compared_whatever_its_spelling() {
        let w = world().await;
        let count = |v: Value| v["sessions"].as_array().unwrap().len();
        assert_eq!(count(w.control.get("/v1/sessions?address=::ffff:192.0.2.1").await.unwrap()), 1);
        assert_eq!(count(w.control.get("/v1/sessions?address=0:0:0:0:0:ffff:c000:0202").await.unwrap()), 1);
        assert_eq!(count(w.control.get("/v1/sessions?address=192.0.2.9").await.unwrap()), 0);
    }

    #[tokio::test]
    async fn a_caller_who_hangs_up_leaves_no_session_alive() {
        let w = world().await;
        let sessions = w.registry.list();
        // Leases hold the sessions busy, so that the answer is a second away.
        let busy: Vec<_> = sessions.iter().map(|s| s.leases().take().unwrap()).collect();
        let work = w.control.post("/v1/sessions/terminate?user=alice", &Value::Null);
        assert!(tokio::time::timeout(Duration::from_millis(300), work).await.is_err());
        assert_eq!(w.registry.len(), 1);
        drop(busy);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let w = world().await;
        let file = w.dir.path().join("precious");
        std::fs::write(&file, "content").unwrap();
        let link = w.dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let stop = CancellationToken::new();
            let e = serve(path.clone(), idle_state(&w.registry), stop).await.err().unwrap();
            assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "content");
    }

    #[tokio::test]
    async fn the_file_goes_at_shutdown_unless_it_is_another_servers() {
        let w = world().await;
        let path = w.dir.path().join("made/here/c.sock");
        let gone = async |path: &Path| {
            for _ in 0..200 {
                if !path.exists() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        };
        let first = CancellationToken::new();
        serve(path.clone(), idle_state(&w.registry), first.clone()).await.unwrap();
        let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        let second = CancellationToken::new();
        serve(path.clone(), idle_state(&w.registry), second.clone()).await.unwrap();
        first.cancel();
        // The first no longer answers, and has not taken the second's file with it.
        let old = Control::new(path.with_extension("old"));
        while old.get("/v1/status").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(Control::new(path.clone()).get("/v1/status").await.is_ok());
        second.cancel();
        assert!(gone(&path).await);
    }

    #[tokio::test]
    async fn connections_are_bounded_and_their_slots_come_back() {
        let w = world().await;
        let path = w.dir.path().join("run/control.sock");
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        let more = w.control.get("/v1/status");
        assert!(tokio::time::timeout(Duration::from_millis(300), more).await.is_err());
        drop(silent);
        assert!(w.control.get("/v1/status").await.is_ok());
    }

    #[test]
    fn only_its_owner_and_root_administer() {
        assert!(admits(1000, 1000) && admits(1000, 0));
        assert!(!admits(1000, 1001) && !admits(0, 1000));
    }
}
