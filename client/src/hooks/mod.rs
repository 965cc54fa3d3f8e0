//! Handlers in JavaScript around what a client does: the same scripts, events and `Session` as on a server.
//!
//! They are asked about every operation on a remote by the gate that all of them pass, and at the steps of a
//! connection's life that a client has ([`ABSENT`] names the others, with their reasons). An awaited handler that
//! refuses or fails refuses the operation (fail closed, unless its binding says otherwise). What reaches beyond the
//! session needs a grant of the binding, and then only what [`Reach`] lists.
//!
//! The disk of this machine has no handlers: of a copy, the remote's side is seen. Absent: quarantine, the sessions
//! of others, events of a connection that is had again. The engine is `session_core::script`; a server shares
//! [`exec`], [`http`], [`pgp`], [`read`] and [`secrets`].

pub mod exec;
pub mod http;
pub mod pgp;
mod secrets;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use serde_json::Value;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File;
use session_core::intercept::{Chain, Interceptor};
pub use session_core::script::{
    Binding, EVENTS, EngineLimits, EventSpec, Grant, Grants, OnError, Secrets, Traced, Tracer, types,
};
use session_core::script::{
    Engine, Fingerprint, Host, HostFunction, Inflow, Outflow, PgpTask, ScriptFolder, Services, known_event,
};

pub use secrets::secrets;

/// Variables of this prefix are secrets of the handlers of `ferry`, by the rest of their name in small letters.
pub const SECRET_VARIABLES: &str = "FERRY_SECRET_";

const NOBODY_CONNECTS: &str = "nobody connects to a client";
const SERVER_JUDGES: &str = "the server judges what is offered at a login";
const NO_PROTECTOR: &str = "a client keeps no block list";
const NOT_ASKED_FOR: &str = "a client asks for no shell and no tunnel here";

/// Events that a client never has, and why.
pub const ABSENT: &[(&str, &str)] = &[
    ("BeforeOpenClientFwd", NOT_ASKED_FOR),
    ("BeforeOpenServerFwd", NOT_ASKED_FOR),
    ("BeforeOpenShell", NOT_ASKED_FOR),
    ("BeforeSendSoftwareID", NOBODY_CONNECTS),
    ("OnAuthInteractive", SERVER_JUDGES),
    ("OnAuthInteractiveSetQuestions", SERVER_JUDGES),
    ("OnAuthPKI", SERVER_JUDGES),
    ("OnAuthPassword", SERVER_JUDGES),
    ("OnBlocklistAdd", NO_PROTECTOR),
    ("OnBlocklistHit", NO_PROTECTOR),
    ("OnNewConnection", NOBODY_CONNECTS),
    ("OnProtectorStrike", NO_PROTECTOR),
];

/// The events that a client has.
pub fn events() -> impl Iterator<Item = &'static EventSpec> {
    EVENTS.iter().filter(|e| !ABSENT.iter().any(|(name, _)| *name == e.name))
}

/// What handlers reach beyond their session, if they have the grant for it.
#[derive(Clone)]
pub struct Reach {
    /// Programs that `Exec` may run, by name.
    pub programs: BTreeMap<String, PathBuf>,
    /// The most time of a program.
    pub program_time: Duration,
    /// The most bytes of a program's output, and of its errors.
    pub program_output: usize,
    /// Networks that `fetch` may reach besides public ones.
    pub networks: Vec<IpNet>,
    /// What `GetSecret` knows.
    pub secrets: Secrets,
    /// Bounds of every handler.
    pub limits: EngineLimits,
    /// The GnuPG that `PGP` uses; `None` for none.
    pub pgp: Option<pgp::Settings>,
    /// Who is told of each run, with what it logged.
    pub tracer: Option<Arc<dyn Tracer>>,
}

impl Default for Reach {
    fn default() -> Self {
        Reach {
            programs: BTreeMap::new(),
            program_time: Duration::from_secs(30),
            program_output: 64 << 10,
            networks: Vec::new(),
            secrets: Secrets::default(),
            limits: EngineLimits::default(),
            pgp: None,
            tracer: None,
        }
    }
}

/// Compiled handlers, for any number of sessions. Cheap to clone.
#[derive(Clone)]
pub struct Handlers(Arc<Chain>);

impl Handlers {
    /// Compiles and binds. Blocks. Errors: `InvalidArgument` for an event that there is not, or that a client never
    /// has, for a script that does not compile, with file and line, and for a home of PGP that cannot be used.
    pub fn new(bindings: Vec<Binding>, reach: Reach) -> Result<Self> {
        bindings.iter().try_for_each(|b| not_absent(&b.event))?;
        let host = ClientHost {
            programs: exec::Programs::new(reach.programs, reach.program_time, reach.program_output),
            http: http::Client::new(reach.networks),
            pgp: reach.pgp.map(|settings| pgp::Pgp::new(settings, Arc::default())).transpose()?,
        };
        let services = Services {
            secrets: reach.secrets,
            host: Some(Arc::new(host)),
            tracer: reach.tracer,
            on_client: true,
            ..Services::default()
        };
        let hooks = session_core::script::Hooks::with(Engine::new(reach.limits), services, bindings)?;
        Ok(Handlers(Chain::new(vec![hooks as Arc<dyn Interceptor>])))
    }

    /// What asks them.
    pub(crate) fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handlers(…)")
    }
}

/// A handler for one event, or for every one that a client has, from its file; a module where it ends in `.mjs`,
/// which imports from its own folder. The bindings have no grants and no limits of their own. Blocks. Errors: those
/// of reading; `InvalidArgument` for an event that there is not.
pub fn bind(file: &Path, events: Option<&[&str]>) -> Result<Vec<Binding>> {
    let whole = std::path::absolute(file)?;
    let (source, module) = read(&whole, whole.parent().unwrap_or(Path::new("/")))?;
    let names: Vec<&str> = match events {
        Some(names) => names.to_vec(),
        None => self::events().map(|e| e.name).collect(),
    };
    for name in &names {
        known_event(name)?;
    }
    let bind = |name: &str| Binding {
        module: module.clone(),
        ..Binding::new(name, file.display().to_string(), source.as_str())
    };
    Ok(names.into_iter().map(bind).collect())
}

/// What is wrong with a handler, as it would be bound to these events, or to every one that a client has: events that
/// there are not, or that a client never has; syntax, imports, members that there are not, as `file:line: …`. Blocks.
pub fn check(file: &Path, events: Option<&[&str]>) -> Vec<String> {
    let mut faults = Vec::new();
    for name in events.unwrap_or_default() {
        let known = known_event(name).and_then(|_| not_absent(name));
        faults.extend(known.err().map(|e| match e.hint() {
            Some(hint) => format!("{}: {e} ({hint})", file.display()),
            None => format!("{}: {e}", file.display()),
        }));
    }
    // The text is the same for every event.
    match bind(file, Some(&["BeforeCommand"])) {
        Ok(bindings) => {
            let engine = Engine::new(EngineLimits::default());
            faults.extend(bindings.into_iter().flat_map(|b| session_core::script::faults(&engine, b)));
        }
        Err(e) => faults.push(e.to_string()),
    }
    faults
}

/// Errors: `InvalidArgument` for an event that a client never has.
fn not_absent(event: &str) -> Result<()> {
    match ABSENT.iter().find(|(name, _)| *name == event) {
        Some((name, why)) => Err(invalid(format!("'{name}' is an event of servers: {why}"))),
        None => Ok(()),
    }
}

/// A script's text; of a module, also the folder and its place there. Blocks. Errors: those of reading, and a
/// module outside the folder.
pub fn read(file: &Path, folder: &Path) -> Result<(String, Option<(ScriptFolder, String)>)> {
    let unread = |e: Error| {
        Error::new(e.kind()).with_detail(format!("the hook {} cannot be read: {e}", file.display()))
    };
    if file.extension().is_none_or(|e| e != "mjs") {
        let text = std::fs::read_to_string(file).map_err(|e| unread(e.into()))?;
        return Ok((text, None));
    }
    let place = file.strip_prefix(folder).ok().and_then(Path::to_str).ok_or_else(|| {
        invalid(format!("the module {} is not in the scripts folder {}", file.display(), folder.display()))
    })?;
    let folder = ScriptFolder::open(folder).map_err(unread)?;
    let text = folder.read(place).map_err(unread)?;
    Ok((text, Some((folder, place.to_string()))))
}

/// A field of an object; null where there is none.
pub fn field<'a>(object: &'a Value, key: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    object.get(key).unwrap_or(&NONE)
}

fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

/// The functions of the host.
struct ClientHost {
    programs: exec::Programs,
    http: http::Client,
    pgp: Option<pgp::Pgp>,
}

#[async_trait]
impl Host for ClientHost {
    async fn call(
        &self,
        function: HostFunction,
        arguments: Value,
        input: Option<Arc<dyn File>>,
    ) -> Result<Value> {
        match function {
            HostFunction::Exec => self.programs.run(&arguments, input).await,
            HostFunction::Fetch => self.http.fetch(&arguments).await,
            HostFunction::Mail | HostFunction::Sql => Err(Error::new(ErrorKind::Unsupported)
                .with_detail("mail and databases are for handlers of a server")),
            HostFunction::Sessions => Err(Error::new(ErrorKind::Unsupported)
                .with_detail("a client has no list of sessions: see `ferry jobs`")),
            HostFunction::Report | HostFunction::Run => Err(Error::new(ErrorKind::Unsupported)
                .with_detail("that is for test files: see `ferryd hooks test`")),
        }
    }

    async fn pgp(&self, task: &PgpTask, from: Inflow, to: &mut Outflow) -> Result<Vec<Fingerprint>> {
        match &self.pgp {
            Some(pgp) => pgp.run(task, from, to).await,
            None => Err(invalid("there is no PGP here: `--hooks-pgp` names its home")),
        }
    }
}
