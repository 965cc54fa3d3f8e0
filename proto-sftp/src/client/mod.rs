//! The client half: [`SftpRemote`], a [`session_core::fs::Filesystem`] over SFTP.
//!
//! - [`machine`]: ids, expectations, the greeting. Pure.
//! - [`driver`]: two tasks over any pair of byte streams, callers with bounded queues.
//! - [`remote`]: the filesystem; `file`, `listing` and `refine` are its parts.
//! - [`pipeline`]: bulk transfers over any `File`, with a window that grows with delay × rate.
//!
//! The calls are cheap in round trips: a small download is OPEN, then READ; a small upload is OPEN, then
//! WRITE, FSETSTAT, FSTAT and CLOSE sent together. `PROTOCOL.md`, section "Client half", has the details.

pub mod driver;
mod file;
mod listing;
pub mod machine;
pub mod pipeline;
mod refine;
pub mod remote;
pub mod scp;
mod told;

pub use driver::{Client, Config, Incoming, Messages, Outgoing, Reading, Writing};
pub use machine::Negotiated;
pub use remote::SftpRemote;
pub use scp::ScpRemote;
