//! WebDAV: wire, client half, server half (RFC 4918, 4331, 5689, 7232, 7233, 9110).
//!
//! HTTP keeps nothing between requests, so there is no machine here: a request becomes operations on a
//! guarded filesystem, and what came of them a response. The client half makes a WebDAV server a
//! [`session_core::fs::Filesystem`]. What is tolerated and what deviates stands in `PROTOCOL.md`.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
pub mod status;
pub mod wire;
