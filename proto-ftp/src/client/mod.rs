//! The client half: [`FtpRemote`], a [`session_core::fs::Filesystem`] over FTP and FTPS.
//!
//! - [`machine`]: the dialogue over lines. Pure.
//! - `control`, `login`, `pool`: the driver of a control connection, the way to one that is logged in, and
//!   those that a remote has side by side.
//! - `data`, `transfer`: data connections, and a command with one.
//! - [`remote`]: the filesystem; `read`, `write`, `list`, `refine` are its parts. [`fxp`]: server to server.
//!
//! What is tolerated in servers and why the dialogue is ours stands in `PROTOCOL.md`, section "Client".

mod control;
mod data;
pub mod features;
pub mod fxp;
mod list;
mod login;
pub mod machine;
pub mod options;
mod passive;
mod pool;
mod raw;
mod read;
mod refine;
pub mod remote;
pub mod scan;
mod stream;
mod transfer;
mod write;

pub use fxp::copy_between;
pub use options::{DataMode, Encoding, Family, FtpConnectOptions, LONG_LINE, Security};
pub use refine::error_of as error_of_reply;
pub use remote::{FtpRemote, connect};
pub use scan::certificate_of;
