//! The addresses of data connections in replies and commands (RFC 959, RFC 2428), read and written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::wire::reply::Reply;

/// The port of a 229 reply: between any three equal characters and a fourth.
pub(super) fn extended(reply: &Reply) -> Option<u16> {
    if reply.code != 229 {
        return None;
    }
    let text = reply.lines.last()?;
    let open = text.iter().rposition(|b| *b == b'(')?;
    let inner = text.get(open + 1..)?;
    let (&mark, rest) = inner.split_first()?;
    let rest = rest.strip_prefix(&[mark, mark])?;
    let end = rest.iter().position(|b| *b == mark)?;
    let port: u16 = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
    (port != 0).then_some(port)
}

/// The address of a 227 reply: the first six numbers with commas, wherever they stand (RFC 1123, section
/// 4.1.2.6).
pub(super) fn passive(reply: &Reply) -> Option<SocketAddr> {
    if reply.code != 227 {
        return None;
    }
    let text = reply.lines.last()?;
    let mut numbers: Vec<u8> = Vec::new();
    let mut rest = text.split(|b| !b.is_ascii_digit() && *b != b',').filter(|w| w.contains(&b','));
    let word = rest.find(|w| w.split(|b| *b == b',').filter(|n| !n.is_empty()).count() >= 6)?;
    for n in word.split(|b| *b == b',').filter(|n| !n.is_empty()).take(6) {
        numbers.push(std::str::from_utf8(n).ok()?.parse().ok()?);
    }
    let [a, b, c, d, high, low] = numbers.try_into().ok()?;
    let port = u16::from(high) << 8 | u16::from(low);
    (port != 0).then(|| SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

/// Where to connect: the server's own address, unless its other word is wanted and can be reached from
/// everywhere. A server does not get to send us to third parties unasked, nor into its own network.
pub(super) fn target(told: SocketAddr, peer: SocketAddr, trust: bool) -> SocketAddr {
    if trust && is_public(told.ip()) { told } else { SocketAddr::new(peer.ip(), told.port()) }
}

fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || ip.is_documentation()
                || a == 0
                || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

/// PORT's argument; `None` for IPv6.
pub(super) fn port(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip().to_canonical() else { return None };
    let [a, b, c, d] = ip.octets();
    let port = address.port();
    Some(format!("{a},{b},{c},{d},{},{}", port >> 8, port & 255))
}

/// EPRT's argument.
pub(super) fn extended_port(address: SocketAddr) -> String {
    let ip = address.ip().to_canonical();
    let family = if ip.is_ipv4() { 1 } else { 2 };
    format!("|{family}|{ip}|{}|", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_however_they_are_dressed() {
        for (text, port) in [
            ("Entering Extended Passive Mode (|||6446|)", Some(6446)),
            ("ok (!!!1!)", Some(1)),
            ("(|||0|)", None),
            ("(|||70000|)", None),
            ("(||6446|)", None),
            ("|||6446|", None),
        ] {
            assert_eq!(extended(&Reply::new(229, text)), port, "{text}");
        }
        assert_eq!(extended(&Reply::new(200, "(|||6446|)")), None);
        let address = SocketAddr::from(([10, 0, 0, 1], 4 * 256 + 5));
        for text in ["Entering Passive Mode (10,0,0,1,4,5).", "=10,0,0,1,4,5", "mode 1 10,0,0,1,4,5"] {
            assert_eq!(passive(&Reply::new(227, text)), Some(address), "{text}");
        }
        for text in ["(10,0,0,1,4)", "(10,0,0,256,4,5)", "(10,0,0,1,0,0)", ""] {
            assert_eq!(passive(&Reply::new(227, text)), None, "{text}");
        }
    }

    #[test]
    fn the_server_does_not_send_us_elsewhere() {
        let peer: SocketAddr = "203.0.114.7:21".parse().unwrap();
        let there = |told: &str, trust| target(told.parse().unwrap(), peer, trust).to_string();
        assert_eq!(there("10.0.0.1:99", true), "203.0.114.7:99");
        assert_eq!(there("127.0.0.1:99", true), "203.0.114.7:99");
        assert_eq!(there("8.8.8.8:99", false), "203.0.114.7:99");
        assert_eq!(there("8.8.8.8:99", true), "8.8.8.8:99");
    }

    #[test]
    fn our_own_address_is_told_in_both_forms() {
        let v4: SocketAddr = "[::ffff:192.0.2.1]:258".parse().unwrap();
        assert_eq!(port(v4).as_deref(), Some("192,0,2,1,1,2"));
        assert_eq!(extended_port(v4), "|1|192.0.2.1|258|");
        assert_eq!(port("[2001:db8::1]:1".parse().unwrap()), None);
        assert_eq!(extended_port("[2001:db8::1]:1".parse().unwrap()), "|2|2001:db8::1|1|");
    }
}
