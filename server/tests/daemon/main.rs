//! The real `ferryd` as a process: driven over SFTP by the client library, by its own commands and by signals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[path = "../../../proto-ftp/tests/it/support/authority.rs"]
mod authority;
#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod ftp;
#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod support;

mod accounts;
mod admin;
mod admission;
mod attacks;
mod audit;
mod bans;
mod black_hole;
mod certificates;
mod codes;
mod config;
mod directories;
mod everywhere;
mod folders;
mod gateways;
mod hook_tools;
mod hooks;
mod life;
mod limits;
mod notices;
mod outbound;
mod permissions;
mod quotas;
mod reload;
mod rules;
mod s3;
mod scan;
mod sessions;
mod sites;
mod soak;
mod ssh;
mod stored_sites;
mod testing;
mod webdav;
mod webhooks;
