//! Hooks in JavaScript: the engine, the built-ins that every handler gets, and the interceptor that runs
//! handlers at their events.
//!
//! A handler is a classic script, compiled once for each worker as the body of a strict function, or a
//! module whose default export is called. Intrinsics and globals are frozen: nothing survives a call. An
//! invocation owns a runtime and its thread until it ends, so a handler that sleeps delays nobody else.
//! Time, memory, stack, output and the number of threads are bounded; what goes over a bound ends the
//! script, not the server, and in an awaited event refuses what was asked (fail closed) unless its binding
//! says otherwise. What reaches beyond the session needs a grant.
//!
//! Deliberately absent: what mail, databases, PGP and other servers are, which is the host's to know.

mod aliases;
mod builtins;
mod engine;
mod events;
mod grants;
mod hooks;
mod invocation;
mod members;
mod modules;
mod offline;
mod outbound;
mod pgp;
mod places;
mod runs;
mod services;
mod values;
mod worker;

pub use engine::{Engine, EngineLimits, ScriptError};
pub use events::{EVENTS, EventSpec, Paths, Present, Veto, event, table as events_table};
pub use grants::{Grant, Grants};
pub use hooks::{
    Binding, Hooks, OnError, after_name, before_name, events_of, known_event, step_name, unruled, user_of,
};
pub use members::{Kind, MEMBERS, Member, Unknown, members, members_table, types, unknown_members};
pub use modules::ScriptFolder;
pub use offline::{Told, Trial, Try, faults};
pub use pgp::{Fingerprint, Inflow, Outflow, PgpTask};
pub use places::Opened;
pub use runs::Runs;
pub use services::{Host, HostFunction, Secrets, Services, Traced, Tracer};
pub use values::{ValueLimits, Values};
