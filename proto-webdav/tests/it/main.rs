//! WebDAV: the server over the wire, the client against servers that are scripted.
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

mod client_chunks;
mod client_locks;
mod client_pair;
mod client_refused;
mod client_scripted;
mod client_times;
mod scripted;
mod server_corpus;
mod server_live;
mod server_logins;
mod server_sessions;
mod server_transcripts;
mod support;
