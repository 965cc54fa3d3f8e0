//! The client half: [`S3Remote`], a [`session_core::fs::Filesystem`] over S3.
//!
//! - `http`, `stream`: connections, and what moves over them, as the SDK's HTTP client.
//! - `login`: who signs. `refine`: answers as errors.
//! - `store`: the SDK's clients by region, and the calls that all make.
//! - [`remote`]: the filesystem; `list`, `read`, `write`, `upload`, `copy`, `remove`,
//!   `put` are its parts.
//! - [`about`], [`versions`], [`uploads`]: what S3 has beside files: what is said of objects, versions, URLs that
//!   others may use, uploads that were not finished.
//!
//! What of the SDK is used, and why not more, stands in `PROTOCOL.md`.

pub mod about;
mod copy;
mod http;
mod list;
mod login;
pub mod options;
mod put;
mod read;
mod refine;
pub mod remote;
mod remove;
mod scan;
mod store;
mod sums;
mod upload;
pub mod uploads;
pub mod versions;
mod write;

pub use about::{About, Granted};
pub use options::{Checksums, Lack, Learns, Putting, S3ConnectOptions, S3Login, S3Role, UrlStyle};
pub use remote::{S3Remote, connect};
pub use scan::certificate_of;
pub use uploads::Pending;
pub use versions::{Presign, Version};
