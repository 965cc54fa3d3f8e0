//! FTP and FTPS: machines, sessions, both halves against each other.
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

mod client_corpus;
mod client_fxp;
mod client_machine;
mod client_pair;
mod client_proxy;
mod client_scripted;
mod client_sites;
mod client_suppaftp;
#[path = "../../../session-core/tests/support/proxy.rs"]
mod proxy;
mod server_attacks;
mod server_corpus;
mod server_live;
mod server_machine;
mod server_session;
mod server_tls;
mod server_transcripts;
mod support;
