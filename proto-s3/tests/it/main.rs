//! S3: the server over the wire, the client against servers that are scripted.
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

mod client_about;
mod client_removals;
mod client_scripted;
mod client_sums;
mod scripted;
mod server_corpus;
mod server_cors;
mod server_forms;
mod server_lists;
mod server_multipart;
mod server_objects;
mod server_sessions;
mod server_unfinished;
mod support;
