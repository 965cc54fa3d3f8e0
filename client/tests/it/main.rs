//! The client as a library and as a program, against our own servers and servers that are scripted.
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

mod batch;
mod batch_faults;
mod batch_options;
mod batch_text;
mod blocking;
mod cli;
mod cli_trees;
mod completions;
mod encrypted;
mod examples;
mod exec;
#[path = "../../../proto-sftp/tests/it/support/folder.rs"]
mod folder;
mod hooks;
mod jobs;
mod keys;
mod lines;
mod links;
mod log;
#[path = "../../../session-core/tests/support/proxy.rs"]
mod proxy;
mod published;
mod raw_settings;
mod reconnect;
mod relocate;
mod s3;
mod scp;
mod script;
#[allow(dead_code, reason = "shared with proto-s3")]
#[path = "../../../proto-s3/tests/it/scripted/mod.rs"]
mod scripted;
mod segments;
mod session;
mod session_faults;
mod shell;
mod sites;
mod streams;
mod support;
mod sync;
mod sync_faults;
mod sync_jobs;
mod unfinished;
mod uploads;
mod watch;
mod ways;
