//! The server half.
//!
//! ```text
//! connection → request → who sends it: a session, remembered by its credential
//!                      → what must hold: If, If-Match, …
//!                      → method → SessionFs → response, streamed
//! ```
//!
//! HTTP keeps nothing between requests, so nothing here is a machine: a method is a function of a request and
//! a guarded filesystem.

mod digest;
mod enter;
mod guard;
mod listen;
mod locks;
mod options;
mod page;
mod properties;
mod propfind;
mod proppatch;
mod read;
mod respond;
mod service;
pub mod table;
mod tree;
mod write;

pub use self::listen::{Hosted, WebdavServer};
pub use self::options::{Clear, WebdavServerOptions, is_prefix, is_realm};
pub use session_core::net::http::Sessions;
