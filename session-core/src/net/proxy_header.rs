//! The PROXY protocol, versions 1 and 2: who is really at the other end, told by a proxy in front of us
//! ("The PROXY protocol", sections 2.1 and 2.2).
//!
//! [`parse`] is pure and bounded; [`accept`] reads exactly the header from a socket and nothing behind it,
//! so that TLS or a command may follow at once. A header is only ever believed from addresses that were
//! named trusted, and from those it is required: a missing one ends the connection.
//!
//! Deliberately absent: Unix sockets, UDP, the extensions (TLVs) of version 2, which are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::error::{Error, ErrorKind, Result};

/// The longest header of version 1, its line end included.
pub const MAX_V1: usize = 107;
/// The longest header of version 2 that is taken: addresses and a fair amount of extensions.
pub const MAX_V2: usize = 16 + 2048;
/// What every header of either version has at least.
const SHORTEST: usize = 15;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Who is at the other end, as a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// The proxy speaks for itself (health checks) or does not know: the socket's own addresses hold.
    Local,
    /// Somebody behind the proxy.
    Peer {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// How far a header has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It is whole and has this many bytes.
    Whole(Proxied, usize),
    /// At least this many bytes are needed in all.
    Needs(usize),
}

fn bad(words: &'static str) -> Error {
    Error::new(ErrorKind::PeerMisbehaved).with_detail(words)
}

/// Reads a header at the beginning of `bytes`. Errors: `PeerMisbehaved` for what is none.
pub fn parse(bytes: &[u8]) -> Result<Parsed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        return v2(bytes);
    }
    if begins(b"PROXY ") {
        return v1(bytes);
    }
    Err(bad("no PROXY header where one is required"))
}

fn v1(bytes: &[u8]) -> Result<Parsed> {
    let Some(end) = bytes.iter().take(MAX_V1).position(|b| *b == b'\n') else {
        if bytes.len() >= MAX_V1 {
            return Err(bad("a PROXY header without an end"));
        }
        return Ok(Parsed::Needs(SHORTEST.max(bytes.len() + 1)));
    };
    let wrong = || bad("a PROXY header that cannot be read");
    let line = bytes.get(..end).and_then(|l| l.strip_suffix(b"\r")).ok_or_else(wrong)?;
    let line = std::str::from_utf8(line).map_err(|_| wrong())?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or_else(wrong)?;
    if family == "UNKNOWN" {
        return Ok(Parsed::Whole(Proxied::Local, end + 1));
    }
    let address = |word: Option<&str>| -> Option<IpAddr> {
        match family {
            "TCP4" => word?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |word: Option<&str>| -> Option<u16> {
        let word = word?;
        (!word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())).then(|| word.parse().ok()).flatten()
    };
    let (from, to) = (address(words.next()), address(words.next()));
    let (from_port, to_port) = (port(words.next()), port(words.next()));
    let (Some(from), Some(to), Some(from_port), Some(to_port), None) =
        (from, to, from_port, to_port, words.next())
    else {
        return Err(wrong());
    };
    let source = SocketAddr::new(from, from_port);
    Ok(Parsed::Whole(Proxied::Peer { source, destination: SocketAddr::new(to, to_port) }, end + 1))
}

fn v2(bytes: &[u8]) -> Result<Parsed> {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return Ok(Parsed::Needs(16)) };
    let [.., command, family, high, low] = *head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let whole = 16 + len;
    if whole > MAX_V2 {
        return Err(bad("a PROXY header that is too long"));
    }
    if rest.len() < len {
        return Ok(Parsed::Needs(whole));
    }
    if command >> 4 != 2 {
        return Err(bad("a PROXY header of an unknown version"));
    }
    match command & 0xf {
        0 => return Ok(Parsed::Whole(Proxied::Local, whole)),
        1 => {}
        _ => return Err(bad("a PROXY header with an unknown command")),
    }
    let body = rest.get(..len).unwrap_or_default();
    let short = || bad("a PROXY header that is too short");
    let proxied = match family {
        0x11 => {
            let a = body.first_chunk::<12>().ok_or_else(short)?;
            let [a1, a2, a3, a4, b1, b2, b3, b4, p1, p2, q1, q2] = *a;
            Proxied::Peer {
                source: (Ipv4Addr::new(a1, a2, a3, a4), u16::from_be_bytes([p1, p2])).into(),
                destination: (Ipv4Addr::new(b1, b2, b3, b4), u16::from_be_bytes([q1, q2])).into(),
            }
        }
        0x21 => {
            let (from, rest) = body.split_first_chunk::<16>().ok_or_else(short)?;
            let (to, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            let [p1, p2, q1, q2] = *rest.first_chunk::<4>().ok_or_else(short)?;
            Proxied::Peer {
                source: (Ipv6Addr::from(*from), u16::from_be_bytes([p1, p2])).into(),
                destination: (Ipv6Addr::from(*to), u16::from_be_bytes([q1, q2])).into(),
            }
        }
        // Datagrams and Unix sockets tell nothing that we could use.
        _ => Proxied::Local,
    };
    Ok(Parsed::Whole(proxied, whole))
}

/// Whether a header of this address is believed, and required.
pub fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// Where a connection comes from and where it was made to: by its header where its address is trusted,
/// else by the socket. Reads the header and not one byte more. Errors: `PeerMisbehaved` for a header that
/// is none, `TimedOut` after `patience`, `Disconnected`.
pub async fn accept(
    stream: &mut TcpStream,
    trusted: &[IpNet],
    patience: Duration,
) -> Result<(SocketAddr, SocketAddr)> {
    let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
    if !is_trusted(trusted, peer.ip()) {
        return Ok((peer, local));
    }
    let proxied = tokio::time::timeout(patience, read(stream))
        .await
        .map_err(|_| Error::new(ErrorKind::TimedOut).with_detail("no PROXY header arrived"))??;
    Ok(match proxied {
        Proxied::Local => (peer, local),
        Proxied::Peer { source, destination } => (source, destination),
    })
}

async fn read(stream: &mut TcpStream) -> Result<Proxied> {
    let gone = || Error::new(ErrorKind::Disconnected).with_detail("gone before the PROXY header");
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await.map_err(|e| gone().with_source(e))?;
    loop {
        match parse(&header)? {
            Parsed::Whole(proxied, _) => return Ok(proxied),
            // Of version 1 the end is looked for before it is taken; of version 2 the length is known.
            Parsed::Needs(whole) => {
                let mut ahead = [0; MAX_V1];
                let more = whole.saturating_sub(header.len()).max(1);
                let take = if header.starts_with(b"PROXY ") {
                    let n = stream.peek(&mut ahead).await.map_err(|e| gone().with_source(e))?;
                    let seen = ahead.get(..n).unwrap_or_default();
                    if seen.is_empty() {
                        return Err(gone());
                    }
                    seen.iter().position(|b| *b == b'\n').map_or(n, |end| end + 1)
                } else {
                    more
                };
                let had = header.len();
                header.resize(had + take, 0);
                let room = header.get_mut(had..).unwrap_or_default();
                stream.read_exact(room).await.map_err(|e| gone().with_source(e))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn v2_header(source: SocketAddr, destination: SocketAddr, extra: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        let family = match (source.ip(), destination.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                body.extend(a.octets());
                body.extend(b.octets());
                0x11
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                body.extend(a.octets());
                body.extend(b.octets());
                0x21
            }
            _ => unreachable!(),
        };
        body.extend(source.port().to_be_bytes());
        body.extend(destination.port().to_be_bytes());
        body.extend(extra);
        let mut out = SIGNATURE.to_vec();
        out.extend([0x21, family]);
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn both_versions_tell_the_client() {
        let source: SocketAddr = "203.0.113.7:5000".parse().unwrap();
        let destination: SocketAddr = "192.0.2.1:21".parse().unwrap();
        let line = b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 21\r\nUSER x\r\n";
        let peer = Proxied::Peer { source, destination };
        assert_eq!(parse(line).unwrap(), Parsed::Whole(peer, line.len() - 8));
        let mut binary = v2_header(source, destination, b"\x04\0\x01x");
        let whole = binary.len();
        binary.extend(b"USER x");
        assert_eq!(parse(&binary).unwrap(), Parsed::Whole(peer, whole));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap(), Parsed::Whole(Proxied::Local, 15));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for line in [
            &b"USER anonymous\r\n"[..],
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            b"PROXY TCP9 1.2.3.4 5.6.7.8 1 2\r\n",
        ] {
            assert!(parse(line).is_err(), "{}", String::from_utf8_lossy(line));
        }
        assert!(parse(&[b"PROXY ", &[b'x'; MAX_V1][..]].concat()).is_err());
        let mut long = SIGNATURE.to_vec();
        long.extend([0x21, 0x11, 0xff, 0xff]);
        assert!(parse(&long).is_err());
    }

    fn address() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        prop_oneof![
            any::<([u8; 4], u16, [u8; 4], u16)>()
                .prop_map(|(a, p, b, q)| ((Ipv4Addr::from(a), p).into(), (Ipv4Addr::from(b), q).into())),
            any::<([u8; 16], u16, [u8; 16], u16)>()
                .prop_map(|(a, p, b, q)| ((Ipv6Addr::from(a), p).into(), (Ipv6Addr::from(b), q).into())),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, signature: bool) {
            let bytes = if signature { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            if let Ok(Parsed::Whole(_, n)) = parse(&bytes) {
                prop_assert!(n <= bytes.len());
            }
        }

        #[test]
        fn a_header_is_read_alike_whole_or_in_part((source, destination) in address(), extra: [u8; 7], cut: u16) {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!(
                "PROXY {family} {} {} {} {}\r\n",
                source.ip(), destination.ip(), source.port(), destination.port()
            );
            let peer = Proxied::Peer { source, destination };
            for header in [line.into_bytes(), v2_header(source, destination, &extra)] {
                prop_assert_eq!(parse(&header).unwrap(), Parsed::Whole(peer, header.len()));
                let cut = usize::from(cut) % header.len();
                let parsed = parse(&header[..cut]).unwrap();
                let Parsed::Needs(n) = parsed else { panic!("{parsed:?}") };
                prop_assert!(n > cut && n <= header.len());
            }
        }
    }

    #[tokio::test]
    async fn not_one_byte_behind_the_header_is_taken() {
        let source: SocketAddr = "203.0.113.7:5000".parse().unwrap();
        let destination: SocketAddr = "192.0.2.1:21".parse().unwrap();
        let trusted: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap()];
        for header in [
            b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 21\r\n".to_vec(),
            v2_header(source, destination, b"\x04\0\x01x"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            client.write_all(&[&header[..], b"USER x\r\n"].concat()).await.unwrap();
            let got = accept(&mut server, &trusted, Duration::from_secs(5)).await.unwrap();
            assert_eq!(got, (source, destination));
            let mut rest = [0; 8];
            server.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"USER x\r\n");
        }
    }

    #[tokio::test]
    async fn strangers_headers_are_not_believed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let trusted: Vec<IpNet> = vec!["192.0.2.0/24".parse().unwrap()];
        let got = accept(&mut server, &trusted, Duration::from_secs(5)).await.unwrap();
        assert_eq!(got.0, client.local_addr().unwrap());
    }
}
