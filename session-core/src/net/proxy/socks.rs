//! SOCKS, in bytes: requests out, answers in. RFC 1928, RFC 1929; SOCKS 4 and 4a by their memos.

use std::net::{IpAddr, SocketAddr};

use super::{Failure, Login, Side, Target, misbehaved};
use crate::error::{Error, ErrorKind, Result};

fn argument(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

/// The request of SOCKS 4, or 4a for a name. Errors: `InvalidArgument` for a user that cannot stand in it,
/// `Unsupported` for IPv6.
pub fn request4(target: &Target, user: &str) -> Result<Vec<u8>> {
    if user.len() > 255 || user.contains('\0') {
        return Err(argument("the proxy's user is too long, or holds a NUL"));
    }
    let (address, port, name) = match target {
        Target::Address(SocketAddr::V4(a)) => (a.ip().octets(), a.port(), None),
        Target::Address(SocketAddr::V6(a)) => match a.ip().to_ipv4_mapped() {
            Some(ip) => (ip.octets(), a.port(), None),
            None => {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail("SOCKS 4 knows no IPv6 addresses")
                    .with_hint("use socks5://"));
            }
        },
        // An address that cannot be: the name follows the user.
        Target::Name(name, port) => ([0, 0, 0, 1], *port, Some(name)),
    };
    let mut out = vec![4, 1];
    out.extend(port.to_be_bytes());
    out.extend(address);
    out.extend(user.as_bytes());
    out.push(0);
    if let Some(name) = name {
        out.extend(name.as_bytes());
        out.push(0);
    }
    Ok(out)
}

/// The answer of SOCKS 4.
pub fn reply4(reply: &[u8; 8], target: &Target) -> Result<(), Failure> {
    match (reply[0], reply[1]) {
        (0, 90) => Ok(()),
        // The one no there is for a rule of the proxy and a server that is not there.
        (0, 91) => Err((
            Side::Target,
            Error::new(ErrorKind::Disconnected)
                .with_detail(format!("the proxy does not reach '{target}', or refuses to"))
                .with_wire(91, "request rejected or failed"),
        )),
        (0, code @ (92 | 93)) => Err((
            Side::Proxy,
            Error::new(ErrorKind::Unauthenticated)
                .with_detail("the proxy does not accept the user's name")
                .with_wire(u32::from(code), "identification failed"),
        )),
        _ => Err(misbehaved("the proxy does not speak SOCKS 4")),
    }
}

/// What a client says first.
pub fn greeting5(login: Option<&Login>) -> &'static [u8] {
    if login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] }
}

/// Whether the proxy wants a login.
pub fn wants_login5(chosen: [u8; 2], offered: bool) -> Result<bool, Failure> {
    match chosen {
        [5, 0] => Ok(false),
        [5, 2] if offered => Ok(true),
        [5, 0xff] => Err((
            Side::Proxy,
            Error::new(ErrorKind::Unauthenticated)
                .with_detail(if offered {
                    "the proxy takes neither a password nor nobody"
                } else {
                    "the proxy wants a login"
                })
                .with_hint("give it in the proxy's URL: socks5://user:password@host"),
        )),
        _ => Err(misbehaved("the proxy does not speak SOCKS 5")),
    }
}

/// User and password (RFC 1929, section 2). Errors: `InvalidArgument` for what does not fit.
pub fn login5(login: &Login) -> Result<Vec<u8>> {
    let mut out = vec![1];
    for part in [login.user.as_bytes(), login.password.expose().as_bytes()] {
        let len = u8::try_from(part.len())
            .map_err(|_| argument("the proxy's user and password have at most 255 bytes each"))?;
        out.push(len);
        out.extend(part);
    }
    Ok(out)
}

/// The answer to a login; some proxies answer with the version of SOCKS, not that of the login.
pub fn logged_in5(answer: [u8; 2]) -> Result<(), Failure> {
    match answer {
        [1 | 5, 0] => Ok(()),
        [1 | 5, _] => Err((
            Side::Proxy,
            Error::new(ErrorKind::Unauthenticated).with_detail("the proxy does not accept user and password"),
        )),
        _ => Err(misbehaved("the proxy's answer to the login makes no sense")),
    }
}

/// The request to connect. Errors: `InvalidArgument` for a name above 255 bytes.
pub fn request5(target: &Target) -> Result<Vec<u8>> {
    let mut out = vec![5, 1, 0];
    let port = match target {
        Target::Address(a) => {
            match a.ip().to_canonical() {
                IpAddr::V4(ip) => {
                    out.push(1);
                    out.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(4);
                    out.extend(ip.octets());
                }
            }
            a.port()
        }
        Target::Name(name, port) => {
            let len =
                u8::try_from(name.len()).map_err(|_| argument("the host's name has more than 255 bytes"))?;
            out.extend([3, len]);
            out.extend(name.as_bytes());
            *port
        }
    };
    out.extend(port.to_be_bytes());
    Ok(out)
}

/// The beginning of the answer: version and outcome (RFC 1928, section 6).
pub fn reply5(head: [u8; 2], target: &Target) -> Result<(), Failure> {
    let [version, code] = head;
    if version != 5 {
        return Err(misbehaved("the proxy does not speak SOCKS 5"));
    }
    let (side, kind, words) = match code {
        0 => return Ok(()),
        1 => (Side::Proxy, ErrorKind::Disconnected, "the proxy fails to reach"),
        2 => (Side::Proxy, ErrorKind::Refused, "the proxy's rules forbid"),
        3 => (Side::Target, ErrorKind::Disconnected, "there is no way from the proxy to the network of"),
        4 => (Side::Target, ErrorKind::NotFound, "the proxy cannot find or reach"),
        5 => (Side::Target, ErrorKind::Disconnected, "no server listens, says the proxy, at"),
        6 => (Side::Target, ErrorKind::TimedOut, "the proxy gets no answer in time from"),
        7 => (Side::Proxy, ErrorKind::Unsupported, "the proxy opens no connections, not even to"),
        8 => (Side::Proxy, ErrorKind::Unsupported, "the proxy does not know the kind of address of"),
        _ => (Side::Proxy, ErrorKind::PeerMisbehaved, "the proxy says a no that makes no sense, to"),
    };
    let e = Error::new(kind).with_detail(format!("{words} '{target}'")).with_wire(u32::from(code), words);
    Err((side, e))
}

/// How many bytes follow the kind of the bound address; `None`: the next byte says how many, and the port
/// follows.
pub fn bound5(kind: u8) -> Result<Option<usize>, Failure> {
    match kind {
        1 => Ok(Some(4 + 2)),
        3 => Ok(None),
        4 => Ok(Some(16 + 2)),
        _ => Err(misbehaved("the proxy answers with an address that is none")),
    }
}
