//! Reads a remote file as a stream and writes it back under another name, nothing but a window of it in
//! memory; and answers the questions of the login.
//!
//! `cargo run --example stream -- 'sftp://user@host' /from /to`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use client::session::{Session, SessionOptions};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query, TransferOptions};

/// Knows the password, and nothing else: what it does not know gets the answer of unattended use.
pub struct Knows(pub Secret);

#[async_trait]
impl Decider for Knows {
    async fn decide(&self, query: Query) -> Answer {
        match &query {
            Query::Password { .. } => Answer::Secret(self.0.clone()),
            _ => query.unattended(),
        }
    }
}

/// Copies, and gives the size.
pub async fn run(
    options: SessionOptions,
    decider: Arc<dyn Decider>,
    from: &str,
    to: &str,
) -> Result<u64, Box<dyn Error>> {
    let session = Session::new();
    session.open(options, decider).await?;
    let reader = session.get_file(from).await?;
    // Both directions run at once on the one connection.
    let size = session.put_file(reader, to, &TransferOptions::default()).await?;
    session.close().await?;
    Ok(size)
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("three arguments: URL, from, to");
    let (url, from, to) = (next()?, next()?, next()?);
    let password = std::env::var("PASSWORD").unwrap_or_default();
    let size =
        run(SessionOptions::parse_url(&url)?, Arc::new(Knows(Secret::new(password))), &from, &to).await?;
    println!("{size} bytes");
    Ok(())
}
