//! FTP and FTPS: wire, client half, server half (RFC 959, 1123, 2228, 2389, 2428, 2640, 3659, 4217, 7151).
//!
//! The server half is a pure machine over lines, a thin driver, and data connections pumped outside the
//! machine; it serves a guarded filesystem and nothing else. The client half makes an FTP server a
//! [`session_core::fs::Filesystem`]. What is tolerated and what deviates stands in `PROTOCOL.md`.

#[cfg(feature = "client")]
pub mod client;
pub mod listing;
#[cfg(feature = "server")]
pub mod server;
pub mod status;
pub mod text;
pub mod wire;
