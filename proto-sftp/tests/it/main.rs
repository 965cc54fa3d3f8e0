//! SFTP, SCP and SSH: machines, sessions, both halves against each other and against OpenSSH.
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

mod client_flights;
mod client_machine;
mod client_openssh;
mod client_pair;
mod corpus;
mod driver;
mod local;
mod machine;
mod order;
mod peer;
#[path = "../../../session-core/tests/support/proxy.rs"]
mod proxy;
mod scp;
mod ssh_config;
mod ssh_login;
mod ssh_route;
mod ssh_session;
mod ssh_trust;
mod support;
mod transcripts;
mod user_keys;
