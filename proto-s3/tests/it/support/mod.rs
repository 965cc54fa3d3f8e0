//! A site over a store in memory, a server of S3 for it on loopback, and a client that speaks text and signs.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proto_s3::server::{S3Server, S3ServerOptions, Sessions};
use session_core::auth::*;
use session_core::session::Session;
use session_core::testing;
pub use session_core::testing::http::{Line, Reply};
pub use session_core::testing::p;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use self::sign::Signer;

pub mod sign;

/// `demo` and `other`, each with a key of its name, and `guest` for strangers. Counts how often it is asked.
#[derive(Default)]
pub struct Users {
    pub asked: AtomicUsize,
    /// Another secret than [`SECRET`].
    pub secret: Mutex<Option<String>>,
    /// Whether keys are good for anything.
    pub barred: AtomicBool,
}

/// The secret of every key.
pub const SECRET: &str = "a secret that is long enough";

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::AccessKey]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        Vec::new()
    }

    async fn access_key(&self, id: &str) -> Option<AccessKey> {
        let user = id.strip_prefix("KEY-").filter(|u| ["demo", "other"].contains(u))?;
        let secret = self.secret.lock().unwrap().clone().unwrap_or_else(|| SECRET.into());
        Some(AccessKey { user: user.into(), secret: Secret::new(secret) })
    }

    async fn verify(
        &self,
        _session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        _passed: &[Method],
    ) -> Proof {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match (user, credential) {
            _ if self.barred.load(Ordering::SeqCst) => Proof::Rejected("barred".into()),
            ("demo" | "other", Credential::AccessKey(id)) if **id == format!("KEY-{user}") => {
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
}

pub type TestSite = testing::TestSite<Users>;

/// Quick to refuse.
pub fn options() -> S3ServerOptions {
    S3ServerOptions { rejection_time: Duration::from_millis(5), ..S3ServerOptions::default() }
}

/// A server on loopback.
pub type Running = testing::Running<Users>;

pub async fn start(options: S3ServerOptions) -> Running {
    start_site(options, TestSite::in_memory()).await
}

pub async fn start_site(options: S3ServerOptions, site: Arc<TestSite>) -> Running {
    let sessions = Sessions::new().unwrap();
    let serve = |site, listener, token| async move {
        S3Server::new(options, site, sessions).unwrap().serve(listener, token).await;
    };
    Running::start(site, serve).await
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

pub trait Failure {
    /// Status and code of a failure.
    fn failure(&self) -> (u16, String);
}

impl Failure for Reply {
    fn failure(&self) -> (u16, String) {
        (self.status, self.one("Code"))
    }
}

pub struct Client<S> {
    line: Line<S>,
    /// Whose key signs; `None` for nobody's.
    pub signer: Option<Signer>,
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
        Client { line: Line::new(stream), signer: Some(Signer::new("KEY-demo")) }
    }

    /// Who it says it is.
    pub fn is(mut self, key: &str) -> Self {
        self.signer = Some(Signer::new(key));
        self
    }

    /// A request with these fields (`name: value`), signed with its content.
    pub async fn ask(&mut self, line: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let head = match &self.signer {
            Some(signer) => signer.head(line, fields, &sign::sha256(body)),
            None => sign::plain(line, fields),
        };
        let length = if body.is_empty() && !line.starts_with("PUT") && !line.starts_with("POST") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        self.send(format!("{head}{length}\r\n")).await;
        self.send(body).await;
        self.reply(line.starts_with("HEAD ")).await.unwrap_or_else(|| panic!("no answer to {line}"))
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    /// Must succeed.
    pub async fn put(&mut self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        let reply = self.ask(&format!("PUT {path}"), &[], body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply
    }
}
