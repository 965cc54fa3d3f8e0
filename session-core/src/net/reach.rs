//! `Reach`: which addresses may be connected to, for whoever did not choose the host.
//!
//! A name is judged by the addresses that it leads to when the connection is opened, so that nobody is led
//! inside by a name that changes. Through a proxy only the proxy is judged.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use ipnet::IpNet;

/// Whether an address is one of the open internet: not loopback, private, link-local or otherwise special.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(a) => {
            let [first, second, third, _] = a.octets();
            !(a.is_private()
                || a.is_loopback()
                || a.is_link_local()
                || a.is_broadcast()
                || a.is_documentation()
                || a.is_multicast()
                || first == 0
                || first >= 240
                || (first == 100 && (64..128).contains(&second))
                || (first == 192 && second == 0 && third == 0)
                || (first == 198 && (second == 18 || second == 19)))
        }
        IpAddr::V6(a) => {
            let [first, second, ..] = a.segments();
            // Only global unicast; of it not the documentation, and nothing that carries IPv4 inside.
            first & 0xe000 == 0x2000
                && !(first == 0x2001 && (second == 0x0db8 || second < 0x0200))
                && first != 0x2002
        }
    }
}

/// See the module. By default everything may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Only the open internet.
    pub public_only: bool,
    /// And these networks besides.
    pub allowed: Arc<[IpNet]>,
    /// Never these, whatever else holds; one with an unspecified address stands for every address of this
    /// machine.
    pub never: Arc<[SocketAddr]>,
}

impl Reach {
    /// Whether this may be connected to.
    pub fn admits(&self, at: SocketAddr) -> bool {
        let address = at.ip().to_canonical();
        let is_never = |n: &SocketAddr| {
            let never = n.ip().to_canonical();
            n.port() == at.port() && (never == address || never.is_unspecified() && is_ours(address))
        };
        let is_allowed = || self.allowed.iter().any(|n| n.contains(&address));
        (!self.public_only || is_public(address) || is_allowed()) && !self.never.iter().any(is_never)
    }
}

/// Whether this machine has the address: only then can a socket have it.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn private_addresses_are_reached_only_where_they_may_be() {
        let public = Reach { public_only: true, ..Reach::default() };
        for inside in
            ["127.0.0.1:22", "10.1.2.3:22", "[::1]:22", "[::ffff:192.168.0.1]:22", "169.254.169.254:80"]
        {
            assert!(!public.admits(at(inside)), "{inside}");
            assert!(Reach::default().admits(at(inside)), "{inside}");
        }
        assert!(public.admits(at("9.9.9.9:22")) && public.admits(at("[2620:fe::fe]:22")));
        let some = Reach { allowed: ["10.1.0.0/16".parse().unwrap()].into(), ..public };
        assert!(some.admits(at("10.1.2.3:22")) && some.admits(at("[::ffff:10.1.2.3]:22")));
        assert!(!some.admits(at("10.2.2.3:22")));
    }

    #[test]
    fn what_is_excepted_is_never_reached() {
        let never = Reach { never: [at("0.0.0.0:2022"), at("9.9.9.9:21")].into(), ..Reach::default() };
        for ours in ["127.0.0.1:2022", "[::ffff:127.0.0.1]:2022", "9.9.9.9:21"] {
            assert!(!never.admits(at(ours)), "{ours}");
        }
        for other in ["127.0.0.1:22", "9.9.9.9:2022"] {
            assert!(never.admits(at(other)), "{other}");
        }
    }
}
