//! Who outside the server is told of events: webhooks and commands.
//!
//! `receiver` is how one is called, `event` what it is told, `signature` what proves it. `notifier` is the
//! interceptor beside that of the scripts: where the client waits for an event receivers are asked and may
//! refuse; everything else is told through the outbox, which outlives the process. Events and their names
//! are those of `session_core::script`.
//!
//! Deliberately absent: an own list of events; what an event changes besides a refusal (scripts do that).

pub(crate) mod event;
mod notifier;
pub(crate) mod receiver;
mod signature;

use std::sync::Arc;

use session_core::error::{Error, ErrorKind, Result};
use session_core::script::Secrets;

pub(crate) use self::notifier::{Notifier, Subscriber};
pub(crate) use self::receiver::Receiver;
use crate::config::Config;

/// The receivers of a site's configuration, in the order in which they are asked: those of some users before
/// those of all, each in ascending priority. Errors: `InvalidArgument` for a secret that there is not.
pub(crate) fn load(config: &Config, secrets: &Secrets) -> Result<Vec<Subscriber>> {
    let secret = |of: &str, name: &str| {
        secrets.get(name).cloned().ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!(
                    "the webhook '{of}' is signed with the secret '{name}', which there is not"
                ))
                .with_hint("put it into the file of secrets, or `ferryd secret set` it")
        })
    };
    let mut all = Vec::new();
    for w in &config.webhooks {
        let mut signs = vec![secret(&w.name, &w.secret)?];
        if let Some(old) = &w.old_secret {
            signs.push(secret(&w.name, old)?);
        }
        all.push(Subscriber {
            receiver: Arc::new(Receiver::webhook(&config.site, w, signs)?),
            events: w.events.clone(),
            users: w.users.clone(),
            priority: w.priority,
            waits: w.wait,
            on_error: w.on_error,
        });
    }
    for c in &config.commands {
        all.push(Subscriber {
            receiver: Arc::new(Receiver::command(&config.site, c)),
            events: c.events.clone(),
            users: c.users.clone(),
            priority: c.priority,
            waits: c.wait,
            on_error: c.on_error,
        });
    }
    all.sort_by_key(|s| (s.users.is_empty(), s.priority));
    Ok(all)
}
