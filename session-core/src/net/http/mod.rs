//! What servers of HTTP share: connections, sessions over them, bodies of requests.
//!
//! ```text
//! connection → request → the protocol's handler → Sessions::enter → a session, remembered by its credential
//! ```
//!
//! HTTP keeps nothing between requests (RFC 9110, section 3.3): a session here is a credential from an address.
//!
//! Deliberately absent: methods, paths, what a credential looks like in a request (the protocols').

mod by_host;
mod connection;
mod intake;
mod listen;
mod options;
mod respond;
mod send;
mod sessions;

pub use self::by_host::ByHost;
pub use self::connection::{Connection, Working};
pub use self::intake::Intake;
pub use self::listen::{Handler, HttpServer};
pub use self::options::HttpOptions;
pub use self::respond::{Body, broken, empty, full, set, streamed};
pub use self::send::{Part, send};
pub use self::sessions::{Busy, Client, FailedLogin, Held, InFlight, Out, Sessions, Shown};
pub use crate::media_type::of as type_of;
