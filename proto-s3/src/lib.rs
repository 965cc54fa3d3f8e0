//! S3, client and server half (the AWS S3 API over any filesystem).
//!
//! - `client`: a remote as a filesystem.
//! - [`keyspace`]: keys of objects as virtual paths, reversibly. `status`: error codes and kinds.
//! - `server`: the S3 API over any guarded filesystem.
//! - `wire`: what of the bytes is read here.
//!
//! `PROTOCOL.md` beside this crate says what is supported, what is tolerated, and what differs.

#[cfg(feature = "client")]
pub mod client;
pub mod keyspace;
#[cfg(feature = "server")]
pub mod server;
pub mod status;
pub mod wire;
