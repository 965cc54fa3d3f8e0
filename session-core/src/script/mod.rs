//! Hooks in JavaScript: the engine, the built-ins that every handler gets, and the interceptor that runs
//! handlers at their events.
//!
//! A handler is a classic script, compiled once for each worker as the body of a strict function, and
//! called with `Session`, `Log`, `CtxRelPath`, `CtxRelTargetPath`, `ExtractExt`, `Sleep` and `Exit`.
//! Intrinsics and globals are frozen: nothing survives a call. An invocation owns a runtime and its
//! thread until it ends, so a handler that sleeps delays nobody else. Time, memory, stack, output and the
//! number of threads are bounded; what goes over a bound ends the script, not the server, and in an
//! awaited event refuses what was asked (fail closed) unless its binding says otherwise.
//!
//! Not here yet: modules and `import`, awaiting promises, capabilities (files, HTTP, mail, processes).

mod builtins;
mod engine;
mod events;
mod hooks;

pub use engine::{Engine, EngineLimits, ScriptError};
pub use events::{EVENTS, EventSpec, event};
pub use hooks::{Binding, Hooks, OnError};
