//! The server half.
//!
//! ```text
//! bytes → lines → machine → call → driver ─┬ calls → SessionFs
//!                                          └ transfer → data connection ⇄ SessionFs
//! ```
//!
//! The machine knows the dialogue and nothing else; the driver owns the sockets; bulk data passes neither,
//! but a straight-line task per transfer.

mod listen;
mod options;

pub use self::listen::FtpServer;
pub use self::options::{
    ControlPolicy, DataPolicy, FtpServerOptions, Hosts, Messages, PassiveAddress, PassiveOptions,
};
