//! `Journal`: what happened in all sessions and in the server, to the log what an operator wants to see, to
//! the audit everything, and to the counters (`metrics`) what it comes to.
//!
//! A failed login gives one stable line in the log (`login failed user=… address=… method=… session=…`), its
//! user name escaped so that it cannot forge a field. Secrets do not come here: their type does not print.
//! Nobody who tells something waits.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::Value;
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Event, EventSink, What};
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationSet};

use crate::audit::{Audit, AuditSettings, Entry, Full};
use crate::log::{AUTH, escape};
use crate::metrics::{Tallies, Tally};

/// Where a session comes from, as far as its events do not say it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address.
    pub address: Arc<str>,
    /// The client's port.
    pub port: u16,
    /// Where it came to.
    pub local: Option<SocketAddr>,
    /// What is spoken.
    pub protocol: &'static str,
    /// The site where it was admitted.
    pub site: Arc<str>,
}

/// An event, and what it does not say itself.
pub struct Told {
    /// Whose.
    pub(crate) origin: Arc<Origin>,
    /// Who was logged in when it happened.
    pub(crate) user: Option<Arc<str>>,
    /// What.
    pub(crate) event: Event,
}

impl Told {
    /// One object.
    pub fn to_json(&self) -> Value {
        let mut v = self.event.to_json();
        if let Some(map) = v.as_object_mut() {
            map.insert("address".into(), (*self.origin.address).into());
            map.insert("port".into(), self.origin.port.into());
            map.insert("protocol".into(), self.origin.protocol.into());
            map.insert("site".into(), (*self.origin.site).into());
            if let Some(user) = &self.user {
                // A failed login names the user that was asked for.
                map.entry("user").or_insert_with(|| (**user).into());
            }
        }
        v
    }
}

/// The events of all sessions and of the server.
#[derive(Default)]
pub struct Journal {
    live: Arc<RwLock<Live>>,
    tallies: Arc<Tallies>,
}

/// Read by every event, written by a reload.
#[derive(Default)]
struct Live {
    audit: Option<(AuditSettings, Audit)>,
}

impl Journal {
    /// Sets the audit, or none, for the sessions that are there too; the same one is opened anew. Blocks.
    /// Errors: those of opening it; then the old one stands.
    pub fn set_audit(&self, settings: Option<&AuditSettings>) -> Result<()> {
        let new = match (settings, self.current()) {
            (Some(new), Some((old, audit))) if *new == old => {
                audit.reopen();
                return Ok(());
            }
            (Some(new), Some((old, audit))) if new.file == old.file => {
                audit.change(new.clone());
                Some((new.clone(), audit))
            }
            (Some(new), _) => Some((new.clone(), Audit::start(new)?)),
            (None, _) => None,
        };
        self.live.write().unwrap_or_else(PoisonError::into_inner).audit = new;
        Ok(())
    }

    /// Waits until the audit has everything, at most `patience`; the chain value of its last record. Blocks the
    /// thread.
    pub fn flush(&self, patience: Duration) -> Option<String> {
        self.current().and_then(|(_, audit)| audit.flush(patience))
    }

    /// Records that were dropped and not yet reported.
    pub fn dropped(&self) -> u64 {
        self.current().map_or(0, |(_, audit)| audit.dropped())
    }

    /// Whether nothing may be done for now, because it could not be recorded and must be.
    pub fn refuses(&self) -> bool {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.audit.as_ref().is_some_and(|(s, audit)| s.full == Full::Refuse && audit.is_behind())
    }

    /// Whether what cannot be recorded is not to be done.
    pub fn must_record(&self) -> bool {
        self.current().is_some_and(|(settings, _)| settings.full == Full::Refuse)
    }

    fn current(&self) -> Option<(AuditSettings, Audit)> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).audit.clone()
    }

    /// Records something that belongs to no session: its name, and an object with the rest.
    pub fn note(&self, name: &'static str, value: Value) {
        if let Some((_, audit)) = &self.live.read().unwrap_or_else(PoisonError::into_inner).audit {
            audit.push(Entry::Note(SystemTime::now(), name, value));
        }
    }

    /// The sink of one session.
    pub fn sink(&self, origin: Origin) -> Arc<dyn EventSink> {
        let live = Arc::clone(&self.live);
        let tally = self.tallies.of(&origin.site, origin.protocol);
        Arc::new(SessionSink { origin: Arc::new(origin), user: Mutex::default(), live, tally })
    }

    /// What all events come to.
    pub(crate) fn tallies(&self) -> Arc<Tallies> {
        Arc::clone(&self.tallies)
    }
}

struct SessionSink {
    origin: Arc<Origin>,
    /// The last one who logged in.
    user: Mutex<Option<Arc<str>>>,
    live: Arc<RwLock<Live>>,
    tally: Arc<Tally>,
}

impl EventSink for SessionSink {
    fn emit(&self, event: Event) {
        self.tally.count(&event.what);
        let (session, address) = (&event.session, &self.origin.address);
        match &event.what {
            What::LoginFailed { user, method, reason, code } => {
                let (user, sub_status) = (escape(user), code.number());
                tracing::warn!(
                    target: AUTH, %user, %address, %method, %session, ?reason, sub_status, "login failed"
                );
            }
            What::LoggedIn { user, methods } => {
                *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(user));
                let (user, methods) = (escape(user), methods.join(","));
                tracing::info!(target: AUTH, %user, %address, %methods, %session, "logged in");
            }
            What::Closed(ending) => {
                let (reason, actor, sub_status) = (&*ending.reason, &ending.actor, ending.code.number());
                tracing::info!(%address, %session, ?reason, %actor, sub_status, "session closed");
            }
            What::Connected => tracing::debug!(%address, %session, "connected"),
            What::Started { .. } | What::Ended { .. } | What::Transfer(_) => {}
        }
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, audit)) = &live.audit {
            let user = self.user.lock().unwrap_or_else(PoisonError::into_inner).clone();
            audit.push(Entry::Event(Box::new(Told { origin: Arc::clone(&self.origin), user, event })));
        }
    }
}

/// Refuses everything while it cannot be recorded, where that is asked for.
pub struct Recorded(pub Arc<Journal>);

impl Recorded {
    /// Errors: `Throttled`.
    pub fn check(&self) -> Result<()> {
        match self.0.refuses() {
            true => Err(Error::new(ErrorKind::Throttled)
                .with_detail("what is done here must be recorded, and cannot be at the moment")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Interceptor for Recorded {
    fn interests(&self) -> OperationSet {
        OperationSet::without_chunks()
    }

    async fn before(&self, _: &Cx<'_>, _: Operation<'_>) -> Result<(), Error> {
        self.check()
    }
}

#[cfg(test)]
mod tests;
