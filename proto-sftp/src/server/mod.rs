//! The server half: a pure machine and the driver that runs it over a guarded filesystem.
//!
//! ```text
//! bytes → Machine (frames, table, handles, order) → Call → Driver → SessionFs
//!                    ↑                        Done ←──────┘
//! bytes ← outbox ────┘
//! ```
//!
//! - [`table`]: one row per request: its packet, its name, its operation, how it is planned.
//! - [`machine`]: what may run when, and what is answered. No I/O, no clock, no filesystem.
//! - [`handles`], [`order`], [`outbox`]: the machine's parts.
//! - [`driver`]: runs calls concurrently over a `SessionFs`. [`calls`] and [`digest`] carry them out.
//!
//! Nothing here knows SSH: the driver takes a stream of bytes and a place to send bytes to.

pub mod calls;
pub mod digest;
pub mod driver;
pub mod handles;
pub mod machine;
pub mod order;
pub mod outbox;
pub mod table;

pub use driver::{Driver, Outgoing};
pub use machine::{Bounds, Call, Done, Machine, Output, Token};
