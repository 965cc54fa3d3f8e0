//! Fetches what a mask fits from a server to a directory here.
//!
//! `cargo run --example fetch -- 'sftp://user@host' '/logs/*.log' target/`; what is not known is refused, so
//! the host's key must be on record, and the key of the user with its agent.
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use client::session::{Outcome, Session, SessionOptions};
use session_core::batch::{TransferOptions, Unattended};

/// Opens, fetches, tells, closes.
pub async fn run(options: SessionOptions, from: &str, to: &str) -> Result<usize, Box<dyn Error>> {
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await?;
    let result = session.get_files(from, to, false, &TransferOptions::default()).await?;
    for transfer in &result.transfers {
        match &transfer.outcome {
            Outcome::Done(bytes) => println!("{}: {bytes} bytes", transfer.source),
            Outcome::Skipped(why) => println!("{}: left alone, {why}", transfer.source),
            Outcome::Failed => println!("{}: failed", transfer.source),
        }
    }
    session.close().await?;
    // The first failure, if there is one.
    result.check()?;
    Ok(result.transfers.len())
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("three arguments: URL, mask, directory");
    let (url, from, to) = (next()?, next()?, next()?);
    run(SessionOptions::parse_url(&url)?, &from, &to).await?;
    Ok(())
}
