//! What protocols share of sockets and TLS.
//!
//! Deliberately absent: protocols, sessions, who is trusted (see [`crate::trust`]).

pub mod between;
pub mod client_tls;
mod der;
pub mod proxy_header;
pub mod server_tls;
