//! The edge to the SSH library (RFC 4251 to 4254), on both ends: transport, logins, channels.
//!
//! It promises that a session can be cut in any state, because the socket stands in a stream of our own;
//! that the task which drains a channel never waits on writing to it; and that a login is decided from
//! the key that signed. It does not speak SFTP: that is `server` and `client`, which get bytes.
//!
//! Deliberately absent: shells, forwarding, compression, SHA-1.

mod algorithms;
pub mod channel;
#[cfg(feature = "server")]
pub mod hostkey;
#[cfg(feature = "server")]
pub mod listen;
pub mod stream;
