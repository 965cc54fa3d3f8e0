//! What handlers reach beyond their session: secrets, shared values, and what the host offers.
//!
//! The host (server, client, test runner) gives its functions through one trait, so the engine knows no
//! process, no socket and no configuration file. A secret that was read in an invocation is taken out of
//! everything that this invocation writes to the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::grants::Grant;
use super::pgp::{Fingerprint, Inflow, Outflow, PgpTask};
use super::places::Opened;
use super::values::Values;
use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::File;
use crate::path::VPath;
use crate::session::SessionId;
use crate::verdict::Quarantine;

/// A function of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFunction {
    /// Runs a program of the allow-list: `{ program, arguments, input, time }`.
    Exec,
    /// Makes an HTTP request: `{ url, method, headers, body }`.
    Fetch,
    /// Sends a mail: `{ from, to, subject, body, attachment }`, the last its name.
    Mail,
    /// Tells a test runner how a test ended: `{ name, error }`.
    Report,
    /// Runs a handler, for a test runner: `{ file, … }`.
    Run,
    /// Lists or ends sessions: `{ what, filter, reason }`.
    Sessions,
    /// Asks a database: `{ connection, text, parameters }`.
    Sql,
}

impl HostFunction {
    /// The grant that it needs; `None` where only a test runner has it.
    pub fn grant(self) -> Option<Grant> {
        match self {
            HostFunction::Exec => Some(Grant::Exec),
            HostFunction::Fetch => Some(Grant::Http),
            HostFunction::Mail => Some(Grant::Mail),
            HostFunction::Sessions => Some(Grant::Sessions),
            HostFunction::Sql => Some(Grant::Sql),
            HostFunction::Report | HostFunction::Run => None,
        }
    }
}

/// What the host offers.
#[async_trait]
pub trait Host: Send + Sync {
    /// Calls a function; `input` is a file of the user that it may read instead of content that the script
    /// gives. Errors are thrown in the script with their words. Dropped, it leaves nothing
    /// running: the handler's time is over or its session was cut.
    async fn call(
        &self,
        function: HostFunction,
        arguments: Value,
        input: Option<Arc<dyn File>>,
    ) -> Result<Value>;

    /// Does what is asked of PGP, from one end to the other, and tells who has signed. An error says that what went
    /// into `to` is nothing to publish, with words for the script. Dropped, it leaves nothing running.
    async fn pgp(&self, task: &PgpTask, from: Inflow, to: &mut Outflow) -> Result<Vec<Fingerprint>> {
        let _ = (task, from, to);
        Err(Error::new(ErrorKind::Unsupported).with_detail("there is no PGP here"))
    }

    /// Opens a place: a folder of this machine (`{ kind: "disk", folder }`), memory (`{ kind: "memory" }`) or
    /// another server (`{ kind: "remote", url, … }`). Errors are told to the script with their words. Dropped,
    /// it leaves nothing open.
    async fn open(&self, request: &Value) -> Result<Opened> {
        let _ = request;
        Err(Error::new(ErrorKind::Unsupported).with_detail("nothing can be opened here"))
    }
}

/// One run of a handler, as somebody sees it who follows a session.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The event.
    pub event: &'static str,
    /// The handler.
    pub handler: Arc<str>,
    /// What the event is about.
    pub path: Option<VPath>,
    /// The second path of a rename, copy or link.
    pub target: Option<VPath>,
    /// `passed`, `blocked`, `quarantined` or `failed`.
    pub outcome: &'static str,
    /// Why; empty where it passed.
    pub words: String,
    /// What it logged.
    pub lines: Vec<String>,
    /// How long it ran.
    pub elapsed: Duration,
}

/// Who follows sessions. Must not wait.
pub trait Tracer: Send + Sync {
    /// Whether somebody follows this session.
    fn follows(&self, session: &SessionId) -> bool;

    /// A handler ran in it.
    fn ran(&self, session: &SessionId, traced: Traced);
}

/// Secrets by name.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, Secret>>);

impl Secrets {
    /// These.
    pub fn new(secrets: BTreeMap<String, Secret>) -> Self {
        Secrets(Arc::new(secrets))
    }

    /// The secret called `name`.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// All of it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Services {
    /// Secrets by name.
    pub secrets: Secrets,
    /// Values that sessions share; outlives a reload.
    pub values: Arc<Values>,
    /// What the host offers; `None` for nothing.
    pub host: Option<Arc<dyn Host>>,
    /// Who follows what handlers do.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// Where uploads go that must not be published; `None` where there is no such place.
    pub quarantine: Option<Arc<dyn Quarantine>>,
    /// Handlers run around what a client does; what they refuse is told in its words.
    pub on_client: bool,
}

impl Services {
    /// Whose rules the handlers are, in words.
    pub(super) fn owner(&self) -> &'static str {
        if self.on_client { "client" } else { "server" }
    }
}
