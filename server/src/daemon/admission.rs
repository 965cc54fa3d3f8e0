//! Who is taken and who is let go, while the server runs: a site is paused, resumed or drained.
//!
//! A paused site answers each connection that it takes nobody; its sessions go on. A drained one is paused, its
//! transfers may end within the configured time, and each session ends once it has nothing left to do. It stays
//! paused until it is resumed, also by the next process; resuming calls a drain off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Session};

use super::{Daemon, is_busy};
use crate::site::FerrySite;

/// How long a draining session with nothing to do is left, so that a client can rename what it sent.
const GRACE: Duration = Duration::from_millis(500);

/// How often sessions are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// What becomes of new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// They are not taken, and those that are there end.
    Drain,
    /// They are not taken.
    Pause,
    /// They are taken.
    Resume,
}

/// Lets transfers of `sessions` finish within `budget`; ends each that has nothing left to do. `None` calls it
/// off. Whoever is left in the end is the caller's business.
pub(super) async fn drain(
    sessions: impl Fn() -> Option<Vec<Arc<Session>>>,
    budget: Duration,
    ending: impl Fn() -> Ending,
) {
    let began = Instant::now();
    while began.elapsed() < budget {
        let Some(sessions) = sessions().filter(|s| !s.is_empty()) else { return };
        for session in sessions {
            session.drain();
            let idle = session.idle() >= GRACE || session.identity().is_none();
            if idle && !is_busy(&session) {
                session.cut(ending());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Daemon {
    /// Pauses, resumes or drains a site, or all of them. Errors: `NotFound` for a site that there is not; those of
    /// [`FerrySite::pause`].
    pub(crate) fn admit(&self, site: Option<&str>, admission: Admission, actor: &str) -> Result<Value> {
        let served = self.served();
        let sites: Vec<Arc<FerrySite>> = match site {
            None => served.sites.clone(),
            Some(name) => vec![Arc::clone(served.site(name).ok_or_else(|| {
                let names: Vec<_> = served.sites.iter().map(|s| s.config().site.clone()).collect();
                Error::new(ErrorKind::NotFound)
                    .with_detail(format!("there is no site '{name}'"))
                    .with_hint(format!("there are {}", names.join(", ")))
            })?)],
        };
        let mut told = Vec::new();
        for site in sites {
            site.pause(admission != Admission::Resume)?;
            let (name, sessions) = (site.config().site.clone(), site.sessions().len());
            tracing::info!(site = name, actor, ?admission, sessions, "new sessions");
            if admission == Admission::Drain {
                tokio::spawn(empty(site, actor.to_owned()));
            }
            told.push(
                json!({ "site": name, "paused": admission != Admission::Resume, "sessions": sessions }),
            );
        }
        let words = format!("{admission:?}").to_lowercase();
        self.journal.note("admission", json!({ "actor": actor, "what": words, "sites": told }));
        Ok(json!({ "sites": told }))
    }
}

/// Ends the sessions of a paused site.
async fn empty(site: Arc<FerrySite>, actor: String) {
    let ending =
        || Ending::new("the site is drained", Actor::Admin(actor.as_str().into())).because(Reason::Stopping);
    let sessions = || site.is_paused().then(|| site.sessions());
    drain(sessions, site.config().limits.drain, ending).await;
    // Whose time is over is cut in the middle of what it does.
    sessions().into_iter().flatten().for_each(|s| {
        s.cut(ending());
    });
}
