//! The API's answering side.
//!
//! ```text
//! GET  /v1/status
//! GET  /v1/sessions?user=&address=&protocol=
//! GET  /v1/sessions/{id}
//! POST /v1/sessions/{id}/terminate               {"reason": "…"}
//! POST /v1/sessions/terminate?user=|address=     {"reason": "…"}
//! POST /v1/reload
//! ```

use std::convert::Infallible;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::registry::{PATIENCE, SessionRegistry};
use session_core::session::{Actor, Ending, Session};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The largest body, bytes.
const MAX_BODY: usize = 64 << 10;

/// Time for a request's head, and for its body.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// What the API can reach.
#[derive(Clone)]
pub struct ControlState {
    /// The live table.
    pub registry: Arc<SessionRegistry>,
    /// The answer to `/v1/status`.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Reads the configuration anew.
    pub reload: Arc<dyn Fn() -> BoxFuture<'static, Result<Value>> + Send + Sync>,
}

/// Opens the socket and answers on it until `shutdown` fires. A socket that nobody answers on is replaced;
/// one that answers is another server's. Errors: `AlreadyExists`, and those of the file system.
pub async fn serve(path: PathBuf, state: ControlState, shutdown: CancellationToken) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    if UnixStream::connect(&path).await.is_ok() {
        return Err(Error::new(ErrorKind::AlreadyExists)
            .with_detail(format!("another ferryd answers on {}", path.display()))
            .with_hint("stop it, or give this one another data folder or --control"));
    }
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|e| {
        Error::from(e).with_detail(format!("the control socket {} cannot be made", path.display()))
    })?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let actor = socket.peer_cred().map(|c| format!("uid {}", c.uid())).unwrap_or_default();
            let state = state.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let (state, actor) = (state.clone(), actor.clone());
                    async move { Ok::<_, Infallible>(answer(&state, &actor, request).await) }
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(hyper_util::rt::TokioTimer::new())
                    .header_read_timeout(REQUEST_TIME)
                    .max_buf_size(64 << 10)
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
                if let Err(e) = served {
                    tracing::debug!(error = %e, "a control connection ended");
                }
            });
        }
    });
    Ok(())
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
        ErrorKind::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut error = json!({ "kind": e.kind().name(), "message": e.to_string() });
    if let (Some(map), Some(hint)) = (error.as_object_mut(), e.hint()) {
        map.insert("hint".into(), hint.into());
    }
    reply(status, &json!({ "error": error }))
}

async fn answer(state: &ControlState, actor: &str, request: Request<Incoming>) -> Answer {
    match route(state, actor, request).await {
        Ok(value) => reply(StatusCode::OK, &value),
        Err(e) => problem(&e),
    }
}

async fn route(state: &ControlState, actor: &str, request: Request<Incoming>) -> Result<Value> {
    let path = request.uri().path().to_string();
    let query = parse_query(request.uri().query().unwrap_or_default())?;
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let get = request.method() == Method::GET;
    let post = request.method() == Method::POST;
    match segments.as_slice() {
        ["v1", "status"] if get => Ok((state.status)()),
        ["v1", "sessions"] if get => {
            let found = matching(state, &query, &["user", "address", "protocol"])?;
            let sessions: Vec<_> = found.iter().map(|s| s.snapshot()).collect();
            Ok(json!({ "sessions": sessions }))
        }
        ["v1", "sessions", "terminate"] if post => {
            if query.is_empty() {
                return Err(Error::new(ErrorKind::InvalidArgument)
                    .with_detail("name a user or an address: everybody at once is not ended by mistake"));
            }
            let found = matching(state, &query, &["user", "address"])?;
            terminate(&found, reason(request).await?, actor).await
        }
        ["v1", "sessions", id] if get => {
            let session = find(state, id)?;
            serde_json::to_value(session.snapshot())
                .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))
        }
        ["v1", "sessions", id, "terminate"] if post => {
            let session = find(state, id)?;
            terminate(&[session], reason(request).await?, actor).await
        }
        ["v1", "reload"] if post => (state.reload)().await,
        ["v1", "status" | "reload" | "sessions"]
        | ["v1", "sessions", _]
        | ["v1", "sessions", _, "terminate"] => {
            Err(Error::new(ErrorKind::Unsupported).with_detail("this method is not for this path"))
        }
        _ => Err(Error::new(ErrorKind::NotFound).with_detail(format!("no such path: {path}"))),
    }
}

fn find(state: &ControlState, id: &str) -> Result<Arc<Session>> {
    state.registry.find(id).ok_or_else(|| {
        Error::new(ErrorKind::NotFound)
            .with_detail(format!("no live session '{id}'"))
            .with_hint("'ferryd sessions' lists them; an id may be shortened as long as it is the only one")
    })
}

fn matching(state: &ControlState, query: &[(String, String)], known: &[&str]) -> Result<Vec<Arc<Session>>> {
    if let Some((key, _)) = query.iter().find(|(k, _)| !known.contains(&k.as_str())) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail(format!("'{key}' is no filter")));
    }
    let is = |s: &Session, key: &str, value: &str| match key {
        "user" => *s.user_id() == *value,
        "address" => s.peer_address().is_some_and(|a| a.to_string() == value),
        _ => s.protocol().name().eq_ignore_ascii_case(value),
    };
    let all = state.registry.list();
    Ok(all.into_iter().filter(|s| query.iter().all(|(k, v)| is(s, k, v))).collect())
}

async fn terminate(sessions: &[Arc<Session>], reason: String, actor: &str) -> Result<Value> {
    let ends = sessions.iter().map(|s| async {
        let ending = Ending::new(reason.as_str(), Actor::Admin(actor.into()));
        let left = s.terminate(ending, PATIENCE).await;
        tracing::info!(session = %s.id(), user = %s.user_id(), reason, actor, "a session was ended");
        json!({ "sessionId": s.id().as_str(), "inFlight": left.in_flight })
    });
    Ok(json!({ "terminated": join_all(ends).await }))
}

/// The reason of a body; none is "ended by an administrator".
async fn reason(request: Request<Incoming>) -> Result<String> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = tokio::time::timeout(REQUEST_TIME, body)
        .await
        .map_err(|_| Error::new(ErrorKind::TimedOut).with_detail("the body did not come in time"))?
        .map_err(|_| Error::new(ErrorKind::TooLarge).with_detail("the body is too large"))?
        .to_bytes();
    if body.is_empty() {
        return Ok("ended by an administrator".into());
    }
    let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
    let value: Value = serde_json::from_slice(&body).map_err(|_| bad("the body is not JSON"))?;
    match value.get("reason") {
        None => Ok("ended by an administrator".into()),
        Some(Value::String(s)) if s.len() <= 1000 => Ok(s.clone()),
        Some(_) => Err(bad("a reason is a string of at most 1000 bytes")),
    }
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
    use session_core::session::{Protocol, Setup};

    struct World {
        dir: tempfile::TempDir,
        registry: Arc<SessionRegistry>,
        control: Control,
        _stop: tokio_util::sync::DropGuard,
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
}
