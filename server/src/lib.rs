//! The server library and the daemon `ferryd`: listeners, users, permissions, staging, hooks and live
//! sessions, composed over the model of `session-core` and the protocols' server halves.
//!
//! Not here yet: accounts in a database, WebDAV and S3.

pub mod accounts;
pub mod chain;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod first_run;
pub mod gateway;
mod hooks;
mod listen;
pub mod log;
pub mod protector;
pub mod quotas;
pub mod site;
pub mod stores;
pub mod users;
