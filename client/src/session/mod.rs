//! `Session`: what WinSCP's class of that name does, in process, concurrent and with typed errors.
//!
//! One [`Session`] is one login. Its calls run at once from any number of tasks; atomic calls return a
//! `Result`, batch calls a result that lists every operation, and in `failures()` every failure once. Paths
//! of the remote are relative to the login folder unless they begin with a slash. The table of WinSCP's
//! members, with what differs and why, is [`members`].
//!
//! Below it are `connect`, `pooled`, `batch`, `mask` and `sync`, and nothing of theirs is done here a second time.
//!
//! How servers are opened by name: [`crate::sites`].

mod algorithms;
mod command;
mod core;
mod decide;
mod engine;
mod entries;
mod event;
mod fingerprint;
mod list;
#[cfg(feature = "webdav")]
mod locking;
pub mod members;
mod names;
#[cfg(feature = "s3")]
mod objects;
mod options;
mod parse;
pub mod raw;
pub mod remote_path;
mod remove;
mod result;
mod scan;
mod source;
mod stream;
mod synchronize;
mod transfer;

pub use self::command::CommandResult;
pub use self::core::Session;
pub use self::event::{Event, Subscription, TransferProgress};
pub use self::list::EnumerationOptions;
pub use self::options::{FtpMode, FtpSecure, Protocol, SessionOptions, SshHostKeyPolicy};
pub use self::parse::parse_script_url;
pub use self::result::{
    Chmod, FilePermissions, Matching, Outcome, RemoteDirectoryInfo, RemoteFileInfo, Removal, RemovalResult,
    Side, SynchronizationResult, Touch, Transfer, TransferResult,
};
pub use self::stream::RemoteReader;
pub use self::synchronize::{Comparison, SynchronizationMode, SynchronizationOptions};
#[cfg(feature = "s3")]
pub use proto_s3::client::{About, Version};
#[cfg(feature = "webdav")]
pub use session_core::locks::{Lock, LockRequest};
