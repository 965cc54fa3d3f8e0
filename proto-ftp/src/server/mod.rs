//! The server half.
//!
//! ```text
//! bytes → lines → machine → call → driver ─┬ calls → SessionFs
//!                                          └ transfer → data connection ⇄ SessionFs
//! ```
//!
//! The machine knows the dialogue and nothing else; the driver owns the sockets; bulk data passes neither,
//! but a straight-line task per transfer.

mod arguments;
mod calls;
mod control;
mod data;
mod driver;
mod listen;
mod login;
pub mod machine;
mod options;
mod pump;
pub mod table;
mod transfer;
mod verbs;
mod words;

pub use self::listen::FtpServer;
pub use self::options::{
    ControlPolicy, DataPolicy, FtpServerOptions, Hosts, Messages, PassiveAddress, PassiveOptions,
};
