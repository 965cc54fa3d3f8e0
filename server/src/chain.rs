//! The order of interceptors, in one place.
//!
//! Cheap refusals first, user code last, so that a script never sees an operation that a policy refuses;
//! the limits of speed after the refusals, so that what is refused waits for nothing. `after` runs in reverse.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use session_core::error::{Error, ErrorKind, Result};
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::locks::Locks;
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::policy::{Filter, Filters, Permissions, ReadOnly, Rule};
use session_core::script::Hooks;
use session_core::session::Session;

use crate::journal::{Journal, Recorded};
use crate::notify::Notifier;
use crate::protector::Guard;
use crate::scan::Scan;
use crate::speeds::Directed;
use crate::stores::Stores;
use crate::transfers::Counted;

/// What stands between a user and the files.
pub struct Parts {
    /// What must be recorded before it is done, if it must.
    pub journal: Arc<Journal>,
    /// Everything that writes is refused.
    pub read_only: bool,
    /// What is allowed where; without a rule nothing is.
    pub rules: Vec<Rule>,
    /// Names that are allowed where.
    pub filters: Vec<Filter>,
    /// What somebody has locked.
    pub locks: Arc<Locks>,
    /// How much may move.
    pub(crate) counted: Option<Arc<Counted>>,
    /// How fast.
    pub(crate) speeds: Vec<Arc<Directed>>,
    /// The site's handlers.
    pub hooks: Option<Arc<Hooks>>,
    /// Who outside is asked and told, after the handlers.
    pub(crate) notifier: Option<Arc<Notifier>>,
    /// Who looks at uploads, after the handlers have.
    pub scan: Vec<Arc<Scan>>,
}

/// The chain of a logged-in user.
pub fn of_user(parts: Parts) -> Arc<Chain> {
    let mut links: Vec<Arc<dyn Interceptor>> = vec![Arc::new(Leaving)];
    if parts.journal.must_record() {
        links.push(Arc::new(Recorded(parts.journal)));
    }
    if parts.read_only {
        links.push(Arc::new(ReadOnly));
    }
    links.push(Arc::new(Permissions::new(parts.rules)));
    if !parts.filters.is_empty() {
        links.push(Arc::new(Filters::new(parts.filters)));
    }
    links.push(parts.locks);
    if let Some(counted) = parts.counted {
        links.push(counted);
    }
    links.extend(parts.speeds.into_iter().map(|s| s as Arc<dyn Interceptor>));
    if let Some(hooks) = parts.hooks {
        links.push(hooks);
    }
    if let Some(notifier) = parts.notifier {
        links.push(notifier);
    }
    links.extend(parts.scan.into_iter().map(|s| s as Arc<dyn Interceptor>));
    Chain::new(links)
}

/// The chain of a connection's life: the protector, the handlers, receivers outside, then the tidying at its end.
pub(crate) fn of_front(
    guard: Guard,
    hooks: Option<&Arc<Hooks>>,
    notifier: Option<&Arc<Notifier>>,
    stores: &Arc<Stores>,
) -> Arc<Chain> {
    let mut links: Vec<Arc<dyn Interceptor>> = vec![Arc::new(guard)];
    if let Some(hooks) = hooks {
        links.push(Arc::clone(hooks) as Arc<dyn Interceptor>);
    }
    if let Some(notifier) = notifier {
        links.push(Arc::clone(notifier) as Arc<dyn Interceptor>);
    }
    links.push(Arc::new(Farewell(Arc::downgrade(stores))));
    Chain::new(links)
}

/// Refuses new files while the session is draining; what is open may be finished and renamed.
struct Leaving;

#[async_trait]
impl Interceptor for Leaving {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Open])
    }

    async fn before(&self, cx: &Cx<'_>, _: Operation<'_>) -> Result<(), Error> {
        if cx.session.is_draining() {
            return Err(Error::new(ErrorKind::Throttled).with_detail("the server is shutting down"));
        }
        Ok(())
    }
}

/// Throws away what a session of a shared account parked, when the session ends.
struct Farewell(Weak<Stores>);

#[async_trait]
impl Interceptor for Farewell {
    fn interests(&self) -> OperationSet {
        OperationSet::NONE
    }

    async fn decide(&self, session: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        if let (Lifecycle::Close(_), Some(session), Some(stores)) = (step, session, self.0.upgrade()) {
            stores.forget(session);
        }
        Verdict::Pass
    }
}
