//! LOCK and UNLOCK (RFC 4918, sections 9.10 and 9.11).
//!
//! A name where nothing is gets an empty file with its lock. What a lock keeps others from is the site's to
//! see to, on every protocol.

use std::sync::Arc;

use hyper::header::HeaderName;
use session_core::error::{Error, ErrorKind};
use session_core::fs::{CommitOptions, File as _, OpenOptions};
use session_core::locks::{Lock, LockRequest};

use super::respond::{Answer, Failure, XML, empty, set, with_body};
use super::service::Call;
use super::tree::Failures;
use super::{guard, tree};
use crate::wire::depth::Depth;
use crate::wire::if_header::If;
use crate::wire::lock as wire;

pub(super) async fn lock(mut call: Call) -> Answer {
    if !call.locks() {
        return Err(Failure::new(405, ErrorKind::Unsupported, "there are no locks here"));
    }
    let deep = match call.field("depth").map(Depth::parse) {
        None | Some(Some(Depth::Infinity)) => true,
        Some(Some(Depth::Zero)) => false,
        _ => return Err(Failure::new(400, ErrorKind::InvalidArgument, "a lock has depth 0 or infinity")),
    };
    let time = call.field("timeout").and_then(wire::parse_timeout);
    let body = tree::take(&mut call).await?;
    match wire::parse(&body, deep, time)? {
        Some(request) => new(call, &request).await,
        None => refresh(&call).await,
    }
}

async fn new(call: Call, request: &LockRequest) -> Answer {
    let path = call.target.path.clone();
    let there = guard::there(&call.fs, &path).await?;
    guard::check(&call, there.as_ref())?;
    let lock = match call.fs.lock(&path, request).await {
        Err(e) if e.kind() == ErrorKind::Locked => return not_locked(&call, request, e).await,
        made => made?,
    };
    if there.is_none()
        && let Err(e) = make(&call, &lock).await
    {
        let _ = call.fs.unlock(&path, &lock.token).await;
        return Err(match e.kind() {
            ErrorKind::NotFound => Failure::with_code(e, 409),
            _ => guard::locked(&call, &path, e),
        });
    }
    let mut response = with_body(if there.is_some() { 200 } else { 201 }, XML, shown(&call, &lock));
    set(&mut response, HeaderName::from_static("lock-token"), &format!("<{}>", lock.token));
    Ok(response)
}

/// Other locks stand in the way: of what is asked for or above it, or of what is below it, each of which is told
/// (RFC 4918, section 9.10.9).
async fn not_locked(call: &Call, request: &LockRequest, e: Error) -> Answer {
    let path = &call.target.path;
    let clashes = |lock: &Lock| request.exclusive || lock.exclusive;
    let here: Vec<_> = call.fs.locks_at(path).into_iter().filter(clashes).collect();
    let mut failures = Failures::default();
    if here.is_empty() && request.deep {
        let mut below: Vec<_> = call.fs.locks_below(path).into_iter().filter(clashes).collect();
        below.dedup_by(|a, b| a.root == b.root);
        for lock in &below {
            failures.in_the_way(call, lock, "no-conflicting-lock").await;
        }
    }
    if failures.is_empty() {
        let roots = here.iter().map(|l| call.href(&l.root, false)).collect();
        return Err(Failure::from(e).about("no-conflicting-lock", roots));
    }
    // What is locked below makes it a directory.
    failures.depends(call, path, true);
    Ok(failures.answer(207))
}

/// The empty file of a lock on a name. What is there already, unseen by who locks, stays as it is.
async fn make(call: &Call, lock: &Lock) -> Result<(), Error> {
    let mut tokens: Vec<Arc<str>> = vec![Arc::clone(&lock.token)];
    // A directory above may be locked, and the request has shown that token.
    let field = call.field("if").map(If::parse).transpose()?;
    tokens.extend(field.iter().flat_map(If::tokens).map(Arc::from));
    let fs = call.fs.holding(tokens.into());
    let options = OpenOptions { exclusive: true, ..OpenOptions::create() };
    let file = match fs.open_file(&call.target.path, &options).await {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
        opened => opened?,
    };
    match file.commit(&CommitOptions::default()).await {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done.map(drop),
    }
}

async fn refresh(call: &Call) -> Answer {
    let Some(field) = call.field("if") else {
        return Err(Failure::new(
            400,
            ErrorKind::InvalidArgument,
            "which lock is to last longer the If field says",
        ));
    };
    let time = call.field("timeout").and_then(wire::parse_timeout);
    let parsed = If::parse(field)?;
    // It holds: the service has judged it. The lock is the first one that covers the resource.
    let here = call.fs.locks_at(&call.target.path);
    let token = parsed.tokens().find(|t| here.iter().any(|l| *l.token == **t));
    let Some(token) = token else {
        let e = Error::new(ErrorKind::PreconditionFailed).with_detail("there is no such lock here");
        return Err(Failure::from(e).about("lock-token-matches-request-uri", Vec::new()));
    };
    let lock = call.fs.refresh_lock(&call.target.path, token, time).await?;
    Ok(with_body(200, XML, shown(call, &lock)))
}

fn shown(call: &Call, lock: &Lock) -> String {
    wire::answer(lock, |l| call.href(&l.root, false))
}

pub(super) async fn unlock(call: Call) -> Answer {
    if !call.locks() {
        return Err(Failure::new(405, ErrorKind::Unsupported, "there are no locks here"));
    }
    let Some(token) = call.field("lock-token").and_then(wire::parse_token) else {
        return Err(Failure::new(
            400,
            ErrorKind::InvalidArgument,
            "which lock is given back the Lock-Token field says",
        ));
    };
    match call.fs.unlock(&call.target.path, &token).await {
        Ok(()) => Ok(empty(204)),
        Err(e) if e.kind() == ErrorKind::PreconditionFailed => {
            Err(Failure::with_code(e, 409).about("lock-token-matches-request-uri", Vec::new()))
        }
        Err(e) => Err(e.into()),
    }
}
