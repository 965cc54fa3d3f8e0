//! The server library and the daemon `ferryd`: listeners, users, permissions, staging, hooks and live
//! sessions, composed over the model of `session-core` and the protocols' server halves.

pub mod accounts;
pub mod audit;
pub mod chain;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod first_run;
pub mod gateway;
mod hooks;
pub mod journal;
mod listen;
pub mod log;
mod metrics;
mod notify;
mod outbox;
mod postgres;
pub mod protector;
pub mod quarantine;
pub mod quotas;
mod rates;
mod rights;
pub mod scan;
mod shared;
pub mod site;
mod speeds;
pub mod stores;
#[cfg(feature = "testing")]
pub mod testing;
mod transfers;
pub mod users;
