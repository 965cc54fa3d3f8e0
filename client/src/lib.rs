//! The client library of Ferry: open a place by URL, copy between any two, ask what must be asked.
//!
//! What is opened is a guarded filesystem ([`connect::Connected`]); there is no local side: a transfer has a
//! source and a target. The CLI `ferry` is [`cli`]; it uses nothing that a program could not use.
//!
//! [`session`] is WinSCP's `Session` over that, [`script`] its scripts; [`sync`] compares and synchronises trees,
//! [`watch`] keeps them alike, [`mask`] chooses files, [`sites`] keeps how servers are opened.

pub mod batch;
pub mod cli;
pub mod connect;
pub mod hash;
pub mod jobs;
pub mod journal;
pub mod live;
pub mod mask;
pub mod pooled;
pub mod reconnect;
pub mod script;
pub mod session;
pub mod sites;
pub mod sync;
pub mod url;
pub mod watch;
