//! A site over a store in memory (or any other), a server of FTP for it on loopback, and a client that
//! speaks lines.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "an example uses it, too"
)]

#[cfg(feature = "client")]
pub mod authority;
#[cfg(feature = "client")]
pub mod pair;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proto_ftp::server::{FtpServer, FtpServerOptions};
use session_core::auth::*;
use session_core::net::server_tls::ServerTls;
use session_core::session::Session;
use session_core::store::memory::MemoryStore;
use session_core::testing;
pub use session_core::testing::{PATIENCE, p};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// `demo` with the password `demo`, `twice` with one question more, and anybody.
#[derive(Default)]
pub struct Users;

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::Password, Method::Interactive]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        vec![Question { prompt: "Code".to_owned(), echo: true, check: Check::Equals(Secret::new("123456")) }]
    }

    async fn verify(
        &self,
        _session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        passed: &[Method],
    ) -> Proof {
        match (user, credential) {
            ("demo" | "other", Credential::Password(p)) if p.expose() == "demo" => {
                Proof::Complete(Account::named(user))
            }
            ("twice", Credential::Password(p)) if p.expose() == "demo" => {
                Proof::More(vec![Method::Interactive])
            }
            ("twice", Credential::Answers(pairs))
                if passed == [Method::Password]
                    && pairs.iter().all(|(q, a)| matches!(&q.check, Check::Equals(s) if s == a)) =>
            {
                Proof::Complete(Account::named(user))
            }
            ("anonymous" | "ftp", Credential::Password(_)) => {
                let mut account = Account::named("anonymous");
                account.anonymous = true;
                account.shared = true;
                Proof::Complete(account)
            }
            ("carol", Credential::Certificate(c)) if c.is_for("carol") => {
                Proof::Complete(Account::named("carol"))
            }
            ("both", Credential::Certificate(c)) if c.is_for("both@example.org") => {
                Proof::More(vec![Method::Password])
            }
            ("both", Credential::Password(p)) if p.expose() == "demo" && passed == [Method::PublicKey] => {
                Proof::Complete(Account::named("both"))
            }
            _ => Proof::Rejected("wrong".into()),
        }
    }

    async fn takes_certificate(
        &self,
        _session: &Arc<Session>,
        user: &str,
        certificate: &TlsCertificate,
    ) -> bool {
        match user {
            "carol" => certificate.is_for("carol"),
            "both" => certificate.is_for("both@example.org"),
            _ => false,
        }
    }

    async fn vouched(&self, _session: &Arc<Session>, _user: &str) -> Option<Account> {
        None
    }
}

pub type TestSite = testing::TestSite<Users>;

/// A site over a store in memory, where time goes by.
pub fn in_memory() -> Arc<TestSite> {
    TestSite::over(Arc::new(MemoryStore::new()))
}

/// TLS with a certificate of its own.
pub fn tls() -> Arc<ServerTls> {
    testing::tls().1
}

/// Quick to refuse.
pub fn options() -> FtpServerOptions {
    FtpServerOptions {
        rejection_time: Duration::from_millis(10),
        mode_z: true,
        ..FtpServerOptions::default()
    }
}

/// A server on loopback.
pub type Running = testing::Running<Users>;

pub async fn start(options: FtpServerOptions) -> Running {
    start_site(options, in_memory()).await
}

pub async fn start_site(options: FtpServerOptions, site: Arc<TestSite>) -> Running {
    let serve = |site, listener, token| async move {
        FtpServer::new(options, site).unwrap().serve(listener, token).await;
    };
    Running::start(site, serve).await
}

/// How clients reach it.
#[async_trait]
pub trait Connects {
    /// A client that has read the greeting.
    async fn connect(&self) -> Client<TcpStream>;

    /// A client that is logged in, in image mode.
    async fn log_in(&self) -> Client<TcpStream> {
        let mut client = self.connect().await;
        client.log_in().await;
        client
    }
}

#[async_trait]
impl Connects for Running {
    async fn connect(&self) -> Client<TcpStream> {
        let mut client = Client::new(TcpStream::connect(self.address).await.unwrap());
        client.expect(220).await;
        client
    }
}

/// The control connection of a client.
pub struct Client<S> {
    pub stream: S,
    buf: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Client { stream, buf: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// One line; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buf.iter().position(|b| *b == b'\n') {
                let line: Vec<_> = self.buf.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let read = self.stream.read_buf(&mut self.buf);
            match tokio::time::timeout(PATIENCE, read).await.expect("a reply in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// One reply: its code and its lines.
    pub async fn reply(&mut self) -> Option<(u16, Vec<String>)> {
        let first = self.line().await?;
        let code: u16 = first[..3].parse().unwrap();
        let mut lines = vec![first.clone()];
        if first.as_bytes()[3] == b'-' {
            loop {
                let line = self.line().await?;
                let last = line.starts_with(&format!("{code} "));
                lines.push(line);
                if last {
                    break;
                }
            }
        }
        Some((code, lines))
    }

    /// The reply, which must have this code.
    pub async fn expect(&mut self, code: u16) -> String {
        let (got, lines) = self.reply().await.expect("a reply");
        let text = lines.join("\n");
        assert_eq!(got, code, "{text}");
        text
    }

    pub async fn command(&mut self, line: &str, code: u16) -> String {
        self.send(format!("{line}\r\n")).await;
        let (got, lines) = self.reply().await.unwrap_or_else(|| panic!("no reply to {line}"));
        let text = lines.join("\n");
        assert_eq!(got, code, "{line}: {text}");
        text
    }

    pub async fn log_in(&mut self) {
        self.command("USER demo", 331).await;
        self.command("PASS demo", 230).await;
        self.command("TYPE I", 200).await;
    }

    /// A data port.
    pub async fn epsv(&mut self) -> u16 {
        let text = self.command("EPSV", 229).await;
        text.split('|').nth(3).unwrap().parse().unwrap()
    }

    /// A plain data connection.
    pub async fn data(&mut self) -> TcpStream {
        let port = self.epsv().await;
        TcpStream::connect(("127.0.0.1", port)).await.unwrap()
    }

    pub async fn get(&mut self, command: &str) -> Vec<u8> {
        let mut data = self.data().await;
        self.command(command, 150).await;
        let mut all = Vec::new();
        tokio::time::timeout(PATIENCE, data.read_to_end(&mut all)).await.unwrap().unwrap();
        self.expect(226).await;
        all
    }

    pub async fn put(&mut self, command: &str, content: &[u8]) {
        let mut data = self.data().await;
        self.command(command, 150).await;
        data.write_all(content).await.unwrap();
        drop(data);
        self.expect(226).await;
    }
}
