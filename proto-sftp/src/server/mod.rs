//! The server half: a pure machine and the driver that runs it over a guarded filesystem.
//!
//! ```text
//! bytes → Machine (frames, table, handles, order) → Call → Driver → SessionFs
//!                    ↑                        Done ←──────┘
//! bytes ← outbox ────┘
//! ```
//!
//! [`table`] says what each request is, [`machine`] what may run when and what is answered (its parts:
//! [`handles`], [`order`], [`outbox`]); [`driver`] runs the calls over a `SessionFs`.
//!
//! Nothing here knows SSH: the driver takes a stream of bytes and a place to send bytes to.

mod calls;
mod digest;
pub mod driver;
pub mod handles;
pub mod machine;
pub mod order;
pub mod outbox;
pub mod scp;
pub mod table;

pub use driver::{Driver, Outgoing};
pub use machine::{Bounds, Call, Done, Machine, Output, Token};
