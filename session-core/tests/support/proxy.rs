//! A small proxy on loopback that speaks SOCKS 4, 4a, 5 and HTTP CONNECT on one port, and notes what it was
//! asked for. Names below `.test` lead to this machine: who resolves one here has asked the proxy.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)] // each test uses a part

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct TestProxy {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestProxy {
    /// With a login, only who gives it gets through; whatever the rules name is refused.
    pub async fn start(
        login: Option<(&'static str, &'static str)>,
        forbidden: &'static [&'static str],
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let one = One { login, forbidden, notes: Arc::clone(&notes) };
                tokio::spawn(async move {
                    let _ = one.serve(stream).await;
                });
            }
        });
        TestProxy { port, asked, task }
    }

    /// What was asked for so far, with the protocol before it: `socks5 server.test:22`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

struct One {
    login: Option<(&'static str, &'static str)>,
    forbidden: &'static [&'static str],
    notes: Arc<Mutex<Vec<String>>>,
}

impl One {
    async fn reach(&self, protocol: &str, host: &str, port: u16) -> std::io::Result<TcpStream> {
        self.notes.lock().unwrap().push(format!("{protocol} {host}:{port}"));
        if self.forbidden.contains(&host) {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = match bare.parse() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) if host.ends_with(".test") => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Err(_) => return Err(std::io::ErrorKind::NotFound.into()),
        };
        TcpStream::connect(address).await
    }

    async fn serve(self, mut s: TcpStream) -> std::io::Result<()> {
        let out = match s.read_u8().await? {
            4 => self.socks4(&mut s).await?,
            5 => self.socks5(&mut s).await?,
            b'C' => self.http(&mut s).await?,
            _ => None,
        };
        if let Some(mut out) = out {
            tokio::io::copy_bidirectional(&mut s, &mut out).await?;
        }
        Ok(())
    }

    async fn text(s: &mut TcpStream) -> std::io::Result<String> {
        let mut out = Vec::new();
        loop {
            match s.read_u8().await? {
                0 => return Ok(String::from_utf8(out).unwrap()),
                b => out.push(b),
            }
        }
    }

    async fn socks4(&self, s: &mut TcpStream) -> std::io::Result<Option<TcpStream>> {
        assert_eq!(s.read_u8().await?, 1);
        let port = s.read_u16().await?;
        let ip = s.read_u32().await?;
        let user = Self::text(s).await?;
        let (protocol, host) = if ip == 1 {
            ("socks4a", Self::text(s).await?)
        } else {
            ("socks4", Ipv4Addr::from(ip).to_string())
        };
        if self.login.is_some_and(|(u, _)| u != user) {
            s.write_all(&[0, 93, 0, 0, 0, 0, 0, 0]).await?;
            return Ok(None);
        }
        let out = self.reach(protocol, &host, port).await.ok();
        s.write_all(&[0, if out.is_some() { 90 } else { 91 }, 0, 0, 0, 0, 0, 0]).await?;
        Ok(out)
    }

    async fn socks5(&self, s: &mut TcpStream) -> std::io::Result<Option<TcpStream>> {
        let mut methods = vec![0; usize::from(s.read_u8().await?)];
        s.read_exact(&mut methods).await?;
        let wanted = if self.login.is_some() { 2 } else { 0 };
        if !methods.contains(&wanted) {
            s.write_all(&[5, 0xff]).await?;
            return Ok(None);
        }
        s.write_all(&[5, wanted]).await?;
        if let Some((user, password)) = self.login {
            assert_eq!(s.read_u8().await?, 1);
            let mut parts = Vec::new();
            for _ in 0..2 {
                let mut part = vec![0; usize::from(s.read_u8().await?)];
                s.read_exact(&mut part).await?;
                parts.push(String::from_utf8(part).unwrap());
            }
            let good = parts == [user, password];
            s.write_all(&[1, u8::from(!good)]).await?;
            if !good {
                return Ok(None);
            }
        }
        let mut head = [0; 4];
        s.read_exact(&mut head).await?;
        assert_eq!(head[..3], [5, 1, 0]);
        let host = match head[3] {
            1 => Ipv4Addr::from(s.read_u32().await?).to_string(),
            4 => format!("[{}]", std::net::Ipv6Addr::from(s.read_u128().await?)),
            _ => {
                let mut name = vec![0; usize::from(s.read_u8().await?)];
                s.read_exact(&mut name).await?;
                String::from_utf8(name).unwrap()
            }
        };
        let port = s.read_u16().await?;
        let out = self.reach("socks5", &host, port).await;
        let code = match &out {
            Ok(_) => 0,
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => 2,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => 5,
            Err(_) => 4,
        };
        // The bound address as a name: the longest kind.
        s.write_all(&[5, code, 0, 3, 5]).await?;
        s.write_all(b"bound\0\x16").await?;
        Ok(out.ok())
    }

    async fn http(&self, s: &mut TcpStream) -> std::io::Result<Option<TcpStream>> {
        let mut head = b"C".to_vec();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(s.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let place = head.split(' ').nth(1).unwrap().to_owned();
        let (host, port) = place.rsplit_once(':').unwrap();
        if let Some((user, password)) = self.login {
            let token = base64(format!("{user}:{password}").as_bytes());
            if !head.contains(&format!("\r\nProxy-Authorization: Basic {token}\r\n")) {
                s.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno")
                    .await?;
                return Ok(None);
            }
        }
        let out = self.reach("http", host, port.parse().unwrap()).await;
        let line: &[u8] = match &out {
            Ok(_) => b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n",
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => b"HTTP/1.1 403 Forbidden\r\n\r\n",
            Err(_) => b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        };
        s.write_all(line).await?;
        Ok(out.ok())
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().chain(&[0, 0]).take(3).fold(0u32, |w, b| w << 8 | u32::from(*b));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
