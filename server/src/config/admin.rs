//! `[admin]`: the API over the network.
//!
//! Off unless it is asked for. Who asks there shows a token (`ferryd token add`), and what others can reach
//! speaks TLS, with the certificate of `[tls]`.

use std::net::IpAddr;

use serde::Deserialize;

use super::fault::{Fault, Source, Step};

/// Where the API is answered besides the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// Whether it is.
    pub enabled: bool,
    /// The address.
    pub address: IpAddr,
    /// The port; 0 for any free one.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { enabled: false, address: [127, 0, 0, 1].into(), port: 2080, tls: false }
    }
}

impl Admin {
    /// Faults between values.
    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Fault> {
        if !self.enabled || self.tls || self.address.is_loopback() {
            return Vec::new();
        }
        let at = [Step::Key("admin".into()), Step::Key("address".into())];
        let mut fault = source.fault_at(&at, "tokens would cross the network in the clear");
        fault.hint = Some("tls = true, or an address of this machine alone".into());
        vec![fault]
    }
}
