//! The order of interceptors, in one place.
//!
//! Cheap refusals first, user code last, so that a script never sees an operation that a policy refuses;
//! the throttle after the refusals, so that what is refused waits for nothing. `after` runs in reverse.

use std::sync::Arc;

use session_core::intercept::{Chain, Interceptor};
use session_core::policy::{Permissions, ReadOnly, Rule, Throttle};
use session_core::script::Hooks;

/// What stands between a user and the files.
pub struct Parts {
    /// Everything that writes is refused.
    pub read_only: bool,
    /// What is allowed where; without a rule nothing is.
    pub rules: Vec<Rule>,
    /// Shared by the user's sessions; `None` for no limit.
    pub throttle: Option<Arc<Throttle>>,
    /// The site's handlers.
    pub hooks: Option<Arc<Hooks>>,
}

/// The chain of a logged-in user.
pub fn of_user(parts: Parts) -> Arc<Chain> {
    let mut links: Vec<Arc<dyn Interceptor>> = Vec::new();
    if parts.read_only {
        links.push(Arc::new(ReadOnly));
    }
    links.push(Arc::new(Permissions::new(parts.rules)));
    if let Some(throttle) = parts.throttle {
        links.push(throttle);
    }
    if let Some(hooks) = parts.hooks {
        links.push(hooks);
    }
    Chain::new(links)
}

/// The chain before login: only the handlers.
pub fn of_front(hooks: Option<&Arc<Hooks>>) -> Arc<Chain> {
    Chain::new(hooks.map(|h| Arc::clone(h) as Arc<dyn Interceptor>).into_iter().collect())
}
