//! The client half of SCP: [`ScpRemote`], a [`session_core::fs::Filesystem`] over commands of an SSH server.
//!
//! - [`remote`]: the filesystem; `read` and `write` are its files, whose bytes go by `scp -f` and `scp -t`.
//! - `shell`: shells that stay open on channels of their own, and what they are asked; `manage` and `list` do by
//!   them what SCP cannot: list, look, remove, rename, make, link, set, sum.
//! - `bare`: what is left where there is no shell, as on servers that run `scp` and nothing else.
//! - `words`: what is said on errors → kinds.
//!
//! No byte of a name is ever read by a shell as anything but a name ([`session_core::shell`]), and no name that the
//! server sends is used for what is stored here ([`crate::wire::fetch`]). `PROTOCOL.md`, section "SCP", has the rest.

mod bare;
mod list;
mod manage;
mod read;
pub mod remote;
mod shell;
mod words;
mod write;

pub use remote::ScpRemote;
