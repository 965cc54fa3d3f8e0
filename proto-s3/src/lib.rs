//! S3, client and server half (the AWS S3 API over any filesystem).
//!
//! - [`keyspace`]: keys of objects as virtual paths, reversibly. `status`: error codes and kinds.
//!
//! `PROTOCOL.md` beside this crate says what is supported, what is tolerated, and what differs.

pub mod keyspace;
pub mod status;
