//! A site over a store in memory, a server of WebDAV for it on loopback, and a client that speaks text.
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

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use proto_webdav::server::{Sessions, WebdavServer, WebdavServerOptions};
use session_core::auth::*;
use session_core::session::Session;
use session_core::testing;
pub use session_core::testing::http::{Line, Reply};
pub use session_core::testing::{PATIENCE, p, tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// `demo` and `other` with the password `demo`, and `guest` with any. Counts how often it is asked.
#[derive(Default)]
pub struct Users {
    pub asked: AtomicUsize,
    /// Another password than `demo`.
    pub password: Mutex<Option<String>>,
    /// What `demo` keeps for Digest.
    pub digest: Mutex<DigestKeys>,
    /// The token of `demo`.
    pub token: Mutex<Option<String>>,
}

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::Password]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        Vec::new()
    }

    async fn verify(
        &self,
        _session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        _passed: &[Method],
    ) -> Proof {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let password = self.password.lock().unwrap().clone().unwrap_or_else(|| "demo".into());
        match (user, credential) {
            ("demo" | "other", Credential::Password(p)) if p.expose() == password => {
                Proof::Complete(Account::named(user))
            }
            ("demo", Credential::Digest(key))
                if {
                    let kept = self.digest.lock().unwrap().clone();
                    [kept.md5, kept.sha256].contains(&Some(key.clone()))
                } =>
            {
                Proof::Complete(Account::named(user))
            }
            ("demo", Credential::Token(t)) if self.token.lock().unwrap().as_deref() == Some(t.expose()) => {
                Proof::Complete(Account::named(user))
            }
            ("guest", Credential::Password(_)) => {
                let mut account = Account::named("guest");
                account.anonymous = true;
                account.shared = true;
                Proof::Complete(account)
            }
            _ => Proof::Rejected("wrong".into()),
        }
    }

    async fn vouched(&self, _session: &Arc<Session>, _user: &str) -> Option<Account> {
        None
    }

    async fn digest_keys(&self, user: &str, _realm: &str) -> DigestKeys {
        if user == "demo" { self.digest.lock().unwrap().clone() } else { DigestKeys::default() }
    }

    async fn token_owner(&self, token: &Secret) -> Option<Arc<str>> {
        token.expose().starts_with("demo-").then(|| "demo".into())
    }
}

pub type TestSite = testing::TestSite<Users>;

/// Quick to refuse.
pub fn options() -> WebdavServerOptions {
    WebdavServerOptions { rejection_time: Duration::from_millis(5), ..WebdavServerOptions::default() }
}

/// A server on loopback.
pub type Running = testing::Running<Users>;

pub async fn start(options: WebdavServerOptions) -> Running {
    start_site(options, TestSite::in_memory()).await
}

pub async fn start_site(options: WebdavServerOptions, site: Arc<TestSite>) -> Running {
    let sessions = Sessions::new().unwrap();
    let serve = |site, listener, token| async move {
        WebdavServer::new(options, site, sessions).unwrap().serve(listener, token).await;
    };
    Running::start(site, serve).await
}

pub fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}

/// How clients reach it.
#[async_trait]
pub trait Connects {
    async fn connect(&self) -> Client<TcpStream>;
}

#[async_trait]
impl Connects for Running {
    async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }
}

pub struct Client<S> {
    line: Line<S>,
    pub login: Option<String>,
}

impl<S> Deref for Client<S> {
    type Target = Line<S>;

    fn deref(&self) -> &Line<S> {
        &self.line
    }
}

impl<S> DerefMut for Client<S> {
    fn deref_mut(&mut self) -> &mut Line<S> {
        &mut self.line
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Client { line: Line::new(stream), login: Some(basic("demo", "demo")) }
    }

    /// Who it says it is.
    pub fn is(mut self, user: &str, password: &str) -> Self {
        self.login = Some(basic(user, password));
        self
    }

    /// A request with these lines of fields.
    pub async fn ask(&mut self, line: &str, fields: &[&str], body: &[u8]) -> Reply {
        self.begin(line, fields, Some(body)).await;
        self.reply(line.starts_with("HEAD ")).await.unwrap_or_else(|| panic!("no answer to {line}"))
    }

    /// Sends a request; without a body, its end is the caller's.
    pub async fn begin(&mut self, line: &str, fields: &[&str], body: Option<&[u8]>) {
        let mut head = format!("{line} HTTP/1.1\r\nHost: dav.test\r\n");
        if let Some(login) = &self.login {
            head += &format!("Authorization: {login}\r\n");
        }
        for field in fields {
            head += &format!("{field}\r\n");
        }
        match body {
            Some(body) if !body.is_empty() => head += &format!("Content-Length: {}\r\n", body.len()),
            _ => {}
        }
        head += "\r\n";
        self.send(head).await;
        if let Some(body) = body {
            self.send(body).await;
        }
    }
}
