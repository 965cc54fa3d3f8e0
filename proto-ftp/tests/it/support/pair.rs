//! Our client for a server of ours: who answers its questions, and how it is told to connect.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security, connect};
use proto_ftp::server::FtpServerOptions;
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::trust::TrustDecision;

use super::{Running, options, tls};

/// Answers as told, and remembers what was asked.
pub struct Told(pub Answer, pub Mutex<Vec<Query>>);

impl Told {
    pub fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Told(answer, Mutex::default()))
    }
}

#[async_trait]
impl Decider for Told {
    async fn decide(&self, query: Query) -> Answer {
        self.1.lock().unwrap().push(query);
        self.0.clone()
    }
}

pub fn to(server: &Running, security: Security) -> FtpConnectOptions {
    let mut options = FtpConnectOptions::new("127.0.0.1", server.address.port(), "demo");
    options.password = Some(Secret::new("demo"));
    options.security = security;
    options.timeout = Duration::from_secs(5);
    options
}

pub async fn enter(server: &Running, security: Security) -> FtpRemote {
    enter_with(to(server, security)).await
}

pub async fn enter_with(options: FtpConnectOptions) -> FtpRemote {
    let yes = Told::new(Answer::Trust(TrustDecision::Accept));
    connect(options, yes).await.unwrap_or_else(|e| panic!("{e:#}"))
}

pub fn secured() -> FtpServerOptions {
    FtpServerOptions { tls: Some(tls()), ..options() }
}
