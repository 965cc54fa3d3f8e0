//! The server half: the S3 API over any filesystem, buckets as directories of the root.
//!
//! ```text
//! connection → request → what may be signed (`guard`) → body, bounded and in chunks (`wire::chunked`)
//!            → s3s: signature by the account's secret, route, XML
//!            → a session of the access key (`exchange`) → operation → SessionFs → answer, streamed
//! ```
//!
//! Routing, signatures and XML are those of the library `s3s`, but for forms (`post`); connections, sessions,
//! bounds and everything behind the gate are ours. An operation is a function of a request and a guarded
//! filesystem.

mod api;
mod buckets;
mod copy;
mod cors;
mod digest;
mod exchange;
mod guard;
mod ledger;
mod list;
mod listen;
mod multipart;
mod object;
mod options;
mod post;
mod read;
mod remove;
mod service;
pub mod table;
mod uploads;
mod walk;
mod write;

pub use session_core::net::http::Sessions;

pub use self::cors::is_origin;
pub use self::listen::{Hosted, S3Server};
pub use self::options::{S3ServerOptions, is_domain, is_region};
