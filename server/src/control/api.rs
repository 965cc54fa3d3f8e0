//! The answers of the API, the same over the control socket and over the network.
//!
//! `super::paths` says what there is. Several filters mean all of them. A failure is
//! `{"error": {"kind", "message", "hint"}}`; the kinds are those of [`ErrorKind`]. Bodies are JSON, and they
//! and their times are bounded. There are no cookies, and nothing that a browser sends by itself is a proof
//! of who asks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::registry::SessionRegistry;
use session_core::script::Runs;

use super::nodes::{By, Nodes};
use super::paths::{Call, Miss, decode, description, find};
use super::select::{self, Selection};
use super::{bans, lists, metrics, outbox, quotas, watch};
use crate::accounts::{Asked, Desk, Role};
use crate::daemon::Admission;
use crate::metrics::Tallies;
use crate::outbox::Outbox;
use crate::protector::Protector;
use crate::shared::Leases;
use crate::stores::Stores;

/// The format of [`metrics`].
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The largest body, bytes.
pub(super) const MAX_BODY: usize = 64 << 10;
/// The largest import.
const MAX_IMPORT: usize = 64 << 20;

/// Time for a request's head, and for its body.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time for the body of an import.
const IMPORT_TIME: Duration = Duration::from_secs(60);

/// Reads the configuration anew, for somebody.
pub(super) type Reload = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// What becomes of new sessions at a site, or at all of them.
type Admit = Arc<dyn Fn(Option<&str>, Admission, &str) -> Result<Value> + Send + Sync>;

/// What the API can reach.
#[derive(Clone)]
pub struct ControlState {
    /// The live table.
    pub registry: Arc<SessionRegistry>,
    /// The tables of all nodes.
    pub(crate) nodes: Arc<Nodes>,
    /// The block list.
    pub protector: Arc<Protector>,
    /// What homes and folders hold.
    pub stores: Arc<Stores>,
    /// What others are to be told.
    pub(crate) outbox: Arc<Outbox>,
    /// This node's parts of quotas, where there are several nodes.
    pub(crate) leases: Option<Arc<Leases>>,
    /// The accounts.
    pub(crate) desk: Arc<Desk>,
    /// What accounts and groups have moved, where that is bounded.
    pub transfers: Arc<dyn Fn() -> Value + Send + Sync>,
    /// The answer to `/v1/status`.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Reads the configuration anew.
    pub reload: Reload,
    /// Begins to stop; answers nothing.
    pub drain: Arc<dyn Fn() + Send + Sync>,
    /// Pauses, resumes or drains a site, or all of them, for somebody.
    pub(crate) admit: Admit,
    /// What the events of sessions come to.
    pub(crate) tallies: Arc<Tallies>,
    /// How often handlers ran.
    pub(crate) runs: Arc<dyn Fn() -> Vec<Runs> + Send + Sync>,
    /// Whether new sessions are taken.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// As the log and the reasons of ends name it.
    pub(super) actor: String,
    pub(super) role: Role,
    /// The id of its token; none over the control socket.
    pub(super) token: Option<String>,
}

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn respond(status: StatusCode, kind: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn reply(status: StatusCode, value: &Value) -> Answer {
    respond(status, "application/json", Full::new(Bytes::from(value.to_string())).boxed_unsync())
}

pub(super) fn problem(e: &Error) -> Answer {
    let status = match e.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidArgument | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
        ErrorKind::AlreadyExists | ErrorKind::NotEmpty => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::Throttled => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut error = json!({ "kind": e.kind().name(), "message": e.to_string() });
    if let (Some(map), Some(hint)) = (error.as_object_mut(), e.hint()) {
        map.insert("hint".into(), hint.into());
    }
    let mut answer = reply(status, &json!({ "error": error }));
    let more = match status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "60")),
        _ => None,
    };
    if let Some((name, value)) = more {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Answers a request. `who` is asked once the path is known to need somebody.
pub(super) async fn answer(
    state: &ControlState,
    who: impl FnOnce(&Request<Incoming>) -> Result<Caller>,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path().to_string();
    let found = find(request.method(), &path);
    let open = matches!(&found, Ok((entry, _)) if entry.role.is_none());
    let caller = if open { None } else { Some(who(&request)) };
    let caller = match caller.transpose() {
        Ok(caller) => caller,
        Err(e) => return problem(&e),
    };
    let (entry, name) = match found {
        Ok(found) => found,
        Err(Miss::Path) => {
            return problem(&Error::new(ErrorKind::NotFound).with_detail(format!("no such path: {path}")));
        }
        Err(Miss::Method(methods)) => return not_allowed(&methods),
    };
    let Some(caller) = caller else { return health(state, entry.call) };
    if entry.role.is_none_or(|role| caller.role < role) {
        let needed = entry.role.map_or("admin", Role::name);
        let e = Error::new(ErrorKind::PermissionDenied);
        return problem(&e.with_detail(format!("this takes a token of the role {needed}")));
    }
    match route(state, &caller, entry.call, &name, request).await {
        Ok(Routed::Value(value)) => reply(StatusCode::OK, &value),
        Ok(Routed::Whole(answer)) => answer,
        Err(e) => problem(&e),
    }
}

/// Who drains lives: nobody shall end it for that.
fn health(state: &ControlState, call: Call) -> Answer {
    match (state.ready)() {
        true => reply(StatusCode::OK, &json!({ "status": "ready" })),
        false if call == Call::Health => reply(StatusCode::OK, &json!({ "status": "draining" })),
        false => reply(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "draining" })),
    }
}

fn not_allowed(methods: &[&'static hyper::Method]) -> Answer {
    let list = methods.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", ");
    let e = Error::new(ErrorKind::Unsupported).with_detail(format!("this path takes {list} only"));
    let mut refused = problem(&e);
    *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    if let Ok(value) = HeaderValue::from_str(&list) {
        refused.headers_mut().insert(header::ALLOW, value);
    }
    refused
}

enum Routed {
    Value(Value),
    Whole(Answer),
}

async fn route(
    state: &ControlState,
    caller: &Caller,
    call: Call,
    name: &str,
    request: Request<Incoming>,
) -> Result<Routed> {
    let query = parse_query(request.uri().query().unwrap_or_default())?;
    let actor = &caller.actor;
    let value = match call {
        Call::Health | Call::Ready => return Ok(Routed::Whole(health(state, call))),
        Call::Metrics => {
            let page = Full::new(Bytes::from(metrics::page(state).await?)).boxed_unsync();
            return Ok(Routed::Whole(respond(StatusCode::OK, METRICS, page)));
        }
        Call::Description => description(),
        Call::Status => (state.status)(),
        Call::Bans => bans::show(&state.protector),
        Call::AddBan | Call::RemoveBan => {
            let what = if call == Call::AddBan { "add" } else { "remove" };
            let body = body(request, MAX_BODY, REQUEST_TIME).await?;
            bans::apply(&state.protector, &state.registry, what, &body, actor).await?
        }
        Call::List(list) => lists::show(&state.protector, list),
        Call::AddTo(list) | Call::RemoveFrom(list) => {
            let what = if matches!(call, Call::AddTo(_)) { "add" } else { "remove" };
            let body = body(request, MAX_BODY, REQUEST_TIME).await?;
            lists::apply(&state.protector, list, what, &body, actor).await?
        }
        Call::Quotas => quotas::show(&state.stores, (state.transfers)()),
        Call::Rescan => {
            let body = body(request, MAX_BODY, REQUEST_TIME).await?;
            quotas::apply(&state.stores, &body, actor).await?
        }
        Call::ForgetNode => {
            let body = body(request, MAX_BODY, REQUEST_TIME).await?;
            quotas::forget_node(state.leases.as_deref(), &body, actor).await?
        }
        Call::Outbox => outbox::show(&state.outbox, &query).await?,
        Call::OutboxRetry | Call::OutboxDrop => {
            let what = if call == Call::OutboxRetry { "retry" } else { "drop" };
            let body = body(request, MAX_BODY, REQUEST_TIME).await?;
            outbox::apply(&state.outbox, what, &body, actor).await?
        }
        Call::Reload => (state.reload)(actor.clone()).await?,
        Call::Pause | Call::Resume => {
            let body = body(request, MAX_BODY, REQUEST_TIME).await?;
            let admission = if call == Call::Pause { Admission::Pause } else { Admission::Resume };
            (state.admit)(site_of(&body)?, admission, actor)?
        }
        Call::Drain => {
            let body = body(request, MAX_BODY, REQUEST_TIME).await?;
            if let Some(site) = site_of(&body)? {
                return (state.admit)(Some(site), Admission::Drain, actor).map(Routed::Value);
            }
            tracing::info!(actor, "asked to drain");
            (state.drain)();
            json!({ "draining": true })
        }
        Call::Sessions => state.nodes.list(&query).await?,
        Call::Watch => {
            let selection = Selection::parse(&query, select::LIVE)?;
            let (desk, token) = (Arc::clone(&state.desk), caller.token.clone());
            let may = move || token.as_ref().is_none_or(|id| desk.takes(id));
            let lines = watch::changes(Arc::clone(&state.nodes), selection, watch::PAUSE, may);
            let body = StreamBody::new(lines).boxed_unsync();
            return Ok(Routed::Whole(respond(StatusCode::OK, "application/x-ndjson", body)));
        }
        Call::History => state.nodes.history(&query).await?,
        Call::TerminateMany => {
            let selection = Nodes::to_end(&query)?;
            let reason = reason(request).await?;
            state.nodes.end_all(&selection, &query, &reason, &By::Admin(actor)).await?
        }
        Call::Session => state.nodes.show(name).await?,
        Call::Trace => {
            let bad = || Error::new(ErrorKind::InvalidArgument).with_detail("ask as ?after=NUMBER");
            let after = match query.as_slice() {
                [] => 0,
                [(key, n)] if key == "after" => n.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            };
            state.nodes.trace(name, after).await?
        }
        Call::Terminate => {
            let reason = reason(request).await?;
            state.nodes.end(name, &reason, &By::Admin(actor)).await?
        }
        Call::Accounts(asked) => {
            let (most, time) = match asked {
                Asked::Import => (MAX_IMPORT, IMPORT_TIME),
                _ => (MAX_BODY, REQUEST_TIME),
            };
            let body = body(request, most, time).await?;
            state.desk.answer(asked, name, query, body, actor).await?
        }
    };
    Ok(Routed::Value(value))
}

/// The site that a body names; none for all of them.
fn site_of(body: &Value) -> Result<Option<&str>> {
    match body.get("site") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(site)) => Ok(Some(site)),
        Some(_) => Err(Error::new(ErrorKind::InvalidArgument).with_detail("a site is a string")),
    }
}

/// The reason of a body; none is "ended by an administrator".
async fn reason(request: Request<Incoming>) -> Result<String> {
    let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
    match body(request, MAX_BODY, REQUEST_TIME).await?.get("reason") {
        None => Ok("ended by an administrator".into()),
        Some(Value::String(s)) if s.len() <= 1000 => Ok(s.clone()),
        Some(_) => Err(bad("a reason is a string of at most 1000 bytes")),
    }
}

/// A body of JSON; `null` for none. It says that it is JSON: what a form of a web page can send does not.
async fn body(request: Request<Incoming>, most: usize, time: Duration) -> Result<Value> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = kind.and_then(|k| k.split(';').next()).map(str::trim).map(str::to_ascii_lowercase);
    let body = Limited::new(request.into_body(), most).collect();
    let body = tokio::time::timeout(time, body)
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
    if kind.as_deref() != Some("application/json") {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("a body is JSON and says so: Content-Type: application/json"));
    }
    serde_json::from_slice(&body)
        .map_err(|_| Error::new(ErrorKind::InvalidArgument).with_detail("the body is not JSON"))
}

/// What the API would answer of the accounts, without a server. `target` is a path and a query.
pub(crate) async fn ask_desk(
    desk: &Arc<Desk>,
    method: &hyper::Method,
    target: &str,
    body: Value,
    actor: &str,
) -> Result<Value> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match find(method, path) {
        Ok((entry, name)) => match entry.call {
            Call::Accounts(asked) => desk.answer(asked, &name, parse_query(query)?, body, actor).await,
            _ => Err(ErrorKind::Unsupported.into()),
        },
        Err(_) => Err(Error::new(ErrorKind::NotFound).with_detail(format!("no such path: {path}"))),
    }
}

pub(super) fn parse_query(query: &str) -> Result<Vec<(String, String)>> {
    let bad = || Error::new(ErrorKind::InvalidArgument).with_detail("the query is malformed");
    let part = |text: &str| decode(&text.replace('+', " ")).ok_or_else(bad);
    let pairs = query.split('&').filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((part(key)?, part(value)?))
        })
        // A filter without a value filters nothing.
        .filter(|r| !matches!(r, Ok((_, v)) if v.is_empty()))
        .collect()
}
