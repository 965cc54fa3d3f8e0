//! Listings: facts of RFC 3659 and the many forms of LIST.

pub mod facts;
#[cfg(feature = "client")]
pub mod parse;
#[cfg(feature = "server")]
pub mod unix;
