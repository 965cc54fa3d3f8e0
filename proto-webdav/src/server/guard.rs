//! What must hold before a method is carried out: `If`, and the conditions of HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Follow;
use session_core::gate::SessionFs;
use session_core::metadata::Metadata;
use session_core::path::VPath;

use super::respond::{Failure, empty, set};
use super::service::Call;
use crate::wire::conditions::{self, Conditions, Verdict};
use crate::wire::href;
use crate::wire::if_header::{Condition, If, What};

/// Judges the `If` field and gives the filesystem of whoever has shown its tokens (RFC 4918, section 10.4).
/// Errors: 412 where no list of it holds.
pub(super) async fn tokens(call: &Call) -> Result<SessionFs, Failure> {
    let Some(field) = call.headers.get("if") else { return Ok(call.fs.clone()) };
    let field = field.to_str().map_err(|_| {
        Error::new(ErrorKind::InvalidArgument).with_detail("the If field cannot be understood")
    })?;
    let parsed = If::parse(field)?;
    let mut known: HashMap<VPath, State> = HashMap::new();
    let mut holds = false;
    for list in &parsed.lists {
        let path = match &list.resource {
            None => call.target.path.clone(),
            // Of what is not here, nothing is known to hold.
            Some(url) => match href::parse_url(url, &call.host, &call.options.prefix) {
                Ok(target) => target.path,
                Err(_) => continue,
            },
        };
        if !known.contains_key(&path) {
            let state = State::of(&call.fs, &path, &list.conditions).await?;
            known.insert(path.clone(), state);
        }
        if known.get(&path).is_some_and(|state| list.conditions.iter().all(|c| state.holds(c))) {
            holds = true;
            break;
        }
    }
    if !holds {
        let e = Error::new(ErrorKind::PreconditionFailed)
            .with_detail("the condition of the If field does not hold");
        return Err(e.into());
    }
    let tokens: Arc<[Arc<str>]> = parsed.tokens().map(Arc::from).collect();
    Ok(call.fs.holding(tokens))
}

/// What conditions are held against.
struct State {
    tokens: Vec<Arc<str>>,
    etag: Option<String>,
}

impl State {
    async fn of(fs: &SessionFs, path: &VPath, conditions: &[Condition]) -> Result<Self> {
        let tokens = fs.locks_at(path).into_iter().map(|l| l.token).collect();
        let asked = conditions.iter().any(|c| matches!(c.what, What::Etag(_)));
        let there = if asked { there(fs, path).await? } else { None };
        Ok(State { tokens, etag: there.as_ref().and_then(conditions::etag) })
    }

    fn holds(&self, condition: &Condition) -> bool {
        let is = match &condition.what {
            What::Etag(tag) => self.etag.as_ref() == Some(tag),
            What::Token(token) => self.tokens.iter().any(|t| **t == **token),
        };
        is != condition.not
    }
}

/// What stands at `path`; `None` also for whoever may not know.
pub(super) async fn there(fs: &SessionFs, path: &VPath) -> Result<Option<Metadata>> {
    seen(fs.look(path, Follow::Yes).await)
}

/// The same, of a link itself.
pub(super) async fn itself(fs: &SessionFs, path: &VPath) -> Result<Option<Metadata>> {
    seen(fs.look(path, Follow::No).await)
}

fn seen(found: Result<Option<Metadata>>) -> Result<Option<Metadata>> {
    match found {
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::NotADirectory | ErrorKind::PermissionDenied | ErrorKind::Refused
            ) =>
        {
            Ok(None)
        }
        found => found,
    }
}

/// The conditions of HTTP that the request has.
pub(super) fn conditions(call: &Call) -> Conditions<'_> {
    Conditions {
        if_match: call.field("if-match"),
        if_none_match: call.field("if-none-match"),
        if_modified_since: call.field("if-modified-since"),
        if_unmodified_since: call.field("if-unmodified-since"),
    }
}

/// Judges them for a method that changes what is `there`.
pub(super) fn check(call: &Call, there: Option<&Metadata>) -> Result<(), Failure> {
    match conditions(call).judge(there, false) {
        Verdict::Go => Ok(()),
        _ => Err(ErrorKind::PreconditionFailed.into()),
    }
}

/// The same, looking only where there is something to judge.
pub(super) async fn check_target(call: &Call) -> Result<(), Failure> {
    if conditions(call).is_empty() {
        return Ok(());
    }
    let found = there(&call.fs, &call.target.path).await?;
    check(call, found.as_ref())
}

/// Judges them for GET and HEAD: an answer where there is nothing to send.
pub(super) fn check_read(
    call: &Call,
    there: &Metadata,
) -> Result<Option<hyper::Response<super::respond::Body>>, Failure> {
    match conditions(call).judge(Some(there), true) {
        Verdict::Go => Ok(None),
        Verdict::Failed => Err(ErrorKind::PreconditionFailed.into()),
        Verdict::NotModified => {
            let mut response = empty(304);
            if let Some(tag) = conditions::etag(there) {
                set(&mut response, hyper::header::ETAG, &tag);
            }
            Ok(Some(response))
        }
    }
}

/// A change that a lock forbids: says which lock (RFC 4918, section 16).
pub(super) fn locked(call: &Call, path: &VPath, e: Error) -> Failure {
    if e.kind() != ErrorKind::Locked {
        return e.into();
    }
    let mut roots: Vec<_> = call.fs.locks_at(path).into_iter().map(|l| call.href(&l.root, false)).collect();
    if let Some(parent) = path.parent().filter(|_| roots.is_empty()) {
        roots = call.fs.locks_at(&parent).into_iter().map(|l| call.href(&l.root, false)).collect();
    }
    if roots.is_empty() {
        // An unfinished upload is no lock that a token would open.
        return e.into();
    }
    Failure::from(e).about("lock-token-submitted", roots)
}
