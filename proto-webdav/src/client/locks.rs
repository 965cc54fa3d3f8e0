//! Locks (RFC 4918, sections 6, 7, 9.10 and 9.11): asked for, kept alive, shown, given back.
//!
//! What a connection has locked it holds: every request of it that changes something there says so in `If`, and the
//! lock is refreshed at half of its time, for as long as the connection lives. Closing the connection gives its
//! locks back, but those that shall stay ([`WebdavRemote::keep_lock`]) or came from another connection
//! ([`WebdavRemote::hold_lock`]); one that is only dropped leaves them to their time.
//!
//! A lock that was lost (the server refuses to refresh it) is shown all the same until it is given back: then what
//! was to be done under it is refused, and not done without it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderName;
use session_core::error::{Error, ErrorKind, Result};
use session_core::locks::{Lock, LockRequest};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::task::AbortHandle;

use super::call::{Answered, Ask};
use super::place::encode;
use super::refine::{self, status_of};
use super::remote::{Remote, WebdavRemote};
use crate::wire::lock;

const IF: HeaderName = HeaderName::from_static("if");
const LOCK_TOKEN: HeaderName = HeaderName::from_static("lock-token");
const TIMEOUT: HeaderName = HeaderName::from_static("timeout");

/// The shortest pause before a lock is refreshed.
const SOONEST: Duration = Duration::from_secs(1);
/// The longest: servers forget what they called infinite.
const LATEST: Duration = Duration::from_secs(600);
/// The largest answer to LOCK.
const ANSWER: usize = 256 << 10;

/// A lock as another connection with the same login can hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLock {
    /// What it was made for.
    pub root: VPath,
    /// What proves that one has it.
    pub token: Arc<str>,
    /// It covers all below.
    pub deep: bool,
    /// The server names its root as a directory.
    pub directory: bool,
}

struct Held {
    root: VPath,
    deep: bool,
    /// Its root as it stands in `If`: an encoded path.
    tag: String,
    /// Closing the connection leaves it to the server.
    stays: bool,
    keeper: Option<AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

impl Held {
    /// Whether a change at `path` may need it: of what it covers, of a tree that it lies in, or of the names in a
    /// directory that it covers.
    fn concerns(&self, path: &VPath) -> bool {
        self.root.starts_with(path)
            || (self.deep && path.starts_with(&self.root))
            || path.parent().as_ref() == Some(&self.root)
    }
}

/// The locks of a connection, by their tokens.
#[derive(Default)]
pub(super) struct HeldLocks(Mutex<BTreeMap<Arc<str>, Held>>);

impl HeldLocks {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Arc<str>, Held>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `If` says in a request for `target` that changes something at these paths; `None` for nothing. Every
    /// list names its resource but where it is that of the request: servers judge it wherever it stands, and the
    /// token counts as shown for all of the request.
    fn shown(&self, target: &VPath, paths: &[&VPath], origin: &str) -> Option<String> {
        self.with(|held| {
            let concerned: Vec<_> =
                held.iter().filter(|(_, h)| paths.iter().any(|path| h.concerns(path))).collect();
            match concerned.as_slice() {
                [] => None,
                [(token, one)] if one.root == *target => Some(format!("(<{token}>)")),
                all => {
                    let lists = all.iter().map(|(token, h)| format!("<{origin}{}> (<{token}>)", h.tag));
                    Some(lists.collect::<Vec<_>>().join(" "))
                }
            }
        })
    }
}

/// How a time is asked for.
fn timeout(time: Option<Duration>) -> String {
    match time {
        Some(time) => format!("Second-{}", time.as_secs().max(1)),
        None => "Infinite".to_owned(),
    }
}

/// When a lock that still lasts so long is to be refreshed.
fn pause(left: Duration) -> Duration {
    (left / 2).clamp(SOONEST, LATEST)
}

impl Remote {
    /// The request, with the locks that it may need for what it changes at `paths`; the first is its own.
    pub(super) fn under_locks(&self, ask: Ask, paths: &[&VPath]) -> Result<Ask> {
        let Some(target) = paths.first() else { return Ok(ask) };
        match self.locks.shown(target, paths, &self.wire.lines.place().origin()) {
            Some(shown) => ask.with(IF, &shown),
            None => Ok(ask),
        }
    }

    /// Whether a request that was refused with 412 showed a lock, which may be gone.
    pub(super) fn lost_lock(&self, path: &VPath, e: &Error) -> Option<Error> {
        let shown = status_of(e) == Some(412) && self.locks.shown(path, &[path], "").is_some();
        shown.then(|| {
            let words = "the server does not know the lock any more that was held here";
            Error::new(ErrorKind::PreconditionFailed).with_detail(words)
        })
    }

    async fn ask_lock(&self, path: &VPath, ask: Ask) -> Result<(Lock, String)> {
        let answered = self.wire.call(ask).await?.success().await.map_err(|e| match status_of(&e) {
            Some(405 | 501) => Error::unsupported(OperationKind::Lock),
            _ => e,
        })?;
        if answered.status == StatusCode::MULTI_STATUS {
            // Something below it is in the way (RFC 4918, section 9.10.9).
            for answer in answered.multistatus().await? {
                refine::failure(&answer)?;
            }
            return Err(ErrorKind::Locked.into());
        }
        read(path, answered).await
    }

    async fn refresh(&self, path: &VPath, token: &str, time: Option<Duration>) -> Result<Lock> {
        let ask = Ask::dav("LOCK", encode(path, false))?
            .with(IF, &format!("(<{token}>)"))?
            .with(TIMEOUT, &timeout(time))?;
        Ok(self.ask_lock(path, ask).await?.0)
    }

    async fn give_back(&self, path: &VPath, token: &str) -> Result<()> {
        let ask = Ask::dav("UNLOCK", encode(path, false))?.with(LOCK_TOKEN, &format!("<{token}>"))?.once();
        self.wire.call(ask).await?.done().await.map_err(|e| match status_of(&e) {
            Some(400 | 409 | 412) => refine::as_kind(&e, ErrorKind::PreconditionFailed),
            _ => e,
        })
    }
}

/// What an answer to LOCK tells of the lock, and how the server writes its root.
async fn read(path: &VPath, answered: Answered) -> Result<(Lock, String)> {
    let token = answered.header(LOCK_TOKEN).and_then(lock::parse_token);
    let body = answered.body.all(ANSWER).await?;
    let (found, root) = lock::read(&body, token.as_deref()).map_err(|e| {
        Error::new(ErrorKind::PeerMisbehaved)
            .with_detail("what the server tells of the lock cannot be understood")
            .with_source(e)
    })?;
    Ok((Lock { root: path.clone(), ..found }, root))
}

/// Refreshes a lock for as long as there is a connection, and the server knows the lock.
async fn keep(remote: Weak<Remote>, path: VPath, token: Arc<str>, time: Option<Duration>, left: Duration) {
    let (mut wait, mut failures) = (pause(left), 0);
    loop {
        tokio::time::sleep(wait).await;
        let Some(remote) = remote.upgrade() else { return };
        match remote.refresh(&path, &token, time).await {
            Ok(now) => (wait, failures) = (pause(now.left), 0),
            Err(e) if status_of(&e).is_some_and(|status| status < 500) => {
                tracing::warn!(%path, error = %e, "a lock was lost");
                return;
            }
            // There are a few more tries in the time that it has, and some servers keep it for longer.
            Err(_) => {
                failures += 1;
                wait = if failures < 4 { (wait / 4).max(SOONEST) } else { LATEST };
            }
        }
    }
}

impl WebdavRemote {
    /// Locks `path` against changes by others; where nothing is, most servers make an empty file of it. The lock is
    /// held until [`unlock`](Self::unlock) or [`close`](Self::close). `left` is what the server granted,
    /// [`Duration::MAX`] for no end. Errors: `Locked`, `NotFound` (the parent), `PermissionDenied`,
    /// `Unsupported`.
    pub async fn lock(&self, path: &VPath, request: &LockRequest) -> Result<Lock> {
        let depth = if request.deep { "infinity" } else { "0" };
        let ask = Ask::dav("LOCK", encode(path, false))?
            .depth(depth)
            .with(TIMEOUT, &timeout(request.time))?
            .xml(lock::request(request))
            .once();
        // A directory above may be locked by this connection.
        let ask = self.0.under_locks(ask, &[path])?;
        let (lock, root) = self.0.ask_lock(path, ask).await?;
        let keep =
            keep(Arc::downgrade(&self.0), path.clone(), Arc::clone(&lock.token), request.time, lock.left);
        let keeper = tokio::spawn(keep).abort_handle();
        let tag = encode(path, root.ends_with('/'));
        let held = Held { root: path.clone(), deep: request.deep, tag, stays: false, keeper: Some(keeper) };
        self.0.locks.with(|all| all.insert(Arc::clone(&lock.token), held));
        Ok(lock)
    }

    /// Lets a lock last `time` from now on, whoever asked for it with our login. One that is held here is refreshed
    /// by itself. Errors: `PreconditionFailed` for one that is not there.
    pub async fn refresh_lock(&self, path: &VPath, token: &str, time: Option<Duration>) -> Result<Lock> {
        self.0.refresh(path, token, time).await
    }

    /// Gives a lock back, one of another connection too. It is not held any more, whatever the server answers.
    /// Errors: `PreconditionFailed` for one that is not there.
    pub async fn unlock(&self, path: &VPath, token: &str) -> Result<()> {
        self.0.locks.with(|all| all.remove(token));
        self.0.give_back(path, token).await
    }

    /// Closing this connection leaves the lock to the server from now on, for who shows what is given here. `None`
    /// for one that is not held.
    pub fn keep_lock(&self, token: &str) -> Option<KeptLock> {
        self.0.locks.with(|all| {
            let (token, _) = all.get_key_value(token)?;
            let token = Arc::clone(token);
            let held = all.get_mut(&token)?;
            held.stays = true;
            let directory = held.tag.ends_with('/');
            Some(KeptLock { root: held.root.clone(), token, deep: held.deep, directory })
        })
    }

    /// Shows a lock of another connection with whatever is changed under it from now on. It is neither refreshed nor
    /// given back by this connection.
    pub fn hold_lock(&self, lock: KeptLock) {
        let KeptLock { root, token, deep, directory } = lock;
        let tag = encode(&root, directory);
        let held = Held { root, deep, tag, stays: true, keeper: None };
        self.0.locks.with(|all| {
            all.entry(token).or_insert(held);
        });
    }

    /// Gives all back that is held, best effort: what cannot be given back ends with its time.
    pub(super) async fn give_back_all(&self) {
        let held = self.0.locks.with(std::mem::take);
        for (token, held) in held.into_iter().filter(|(_, held)| !held.stays) {
            let _ = self.0.give_back(&held.root, &token).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(path: &str) -> VPath {
        VPath::absolute(path).unwrap()
    }

    #[tokio::test]
    async fn a_lock_is_shown_where_it_may_be_needed() {
        let held = HeldLocks::default();
        let hold = |token: &str, root: &str, deep| {
            let lock = Held { root: p(root), deep, tag: encode(&p(root), deep), stays: false, keeper: None };
            held.with(|all| all.insert(token.into(), lock));
        };
        let shown = |path: &str| held.shown(&p(path), &[&p(path)], "http://h");
        assert_eq!(shown("/a"), None);
        hold("t:1", "/d", true);
        hold("t:2", "/e", false);
        assert_eq!(shown("/d").as_deref(), Some("(<t:1>)"));
        assert_eq!(shown("/d/x/y").as_deref(), Some("<http://h/d/> (<t:1>)"));
        assert_eq!(shown("/e/x").as_deref(), Some("<http://h/e> (<t:2>)"));
        assert_eq!(shown("/e/x/y"), None);
        assert_eq!(shown("/").as_deref(), Some("<http://h/d/> (<t:1>) <http://h/e> (<t:2>)"));
        let both = held.shown(&p("/d/x"), &[&p("/d/x"), &p("/e")], "http://h");
        assert_eq!(both.as_deref(), Some("<http://h/d/> (<t:1>) <http://h/e> (<t:2>)"));
    }

    #[test]
    fn a_lock_is_refreshed_before_it_runs_out() {
        assert_eq!(pause(Duration::from_secs(60)), Duration::from_secs(30));
        assert_eq!(pause(Duration::ZERO), SOONEST);
        assert_eq!(pause(Duration::MAX), LATEST);
        assert_eq!(timeout(None), "Infinite");
        assert_eq!(timeout(Some(Duration::from_millis(1))), "Second-1");
    }
}
