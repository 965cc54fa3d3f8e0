//! The model from outside: stores under the conformance suite, the gate, staging, proxies, scripts.
//!
//! One program for all of them: a program apiece takes longer to link than its tests take to run.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod conformance;
mod gate;
mod login;
mod proxy;
mod script;
mod script_events;
mod script_in_place;
mod script_outbound;
mod staging;
mod verdict;
