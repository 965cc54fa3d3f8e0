//! The control plane: HTTP and JSON over a Unix socket, apart from every data listener.
//!
//! `serve` answers, `client` asks, `commands` are the subcommands of `ferryd` that ask. The socket belongs
//! to its owner alone (mode 0600): who may open it may do everything. The API is versioned by its path
//! and later serves a web page as well.

mod bans;
pub mod client;
pub mod commands;
mod select;
mod serve;

pub use bans::{Bans, bans};
pub use serve::{ControlState, serve};
