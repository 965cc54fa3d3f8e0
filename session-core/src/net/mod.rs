//! What protocols share of sockets, proxies and TLS. `dial` and `proxy` need no TLS (feature `dial`).
//!
//! Deliberately absent: protocols, sessions, who is trusted (see [`crate::trust`]).

#[cfg(feature = "net")]
pub mod between;
#[cfg(feature = "certificates")]
pub mod certificate_file;
#[cfg(feature = "net")]
pub mod client_tls;
#[cfg(feature = "net")]
pub mod counted;
#[cfg(feature = "net")]
mod der;
pub mod dial;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "net")]
pub mod places;
pub mod proxy;
#[cfg(feature = "net")]
pub mod proxy_header;
pub mod reach;
#[cfg(feature = "net")]
pub mod server_tls;
