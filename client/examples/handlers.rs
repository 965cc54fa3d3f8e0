//! Runs a handler in JavaScript around what a session does: nothing that ends in `.tmp` leaves this machine.
//!
//! `cargo run --example handlers -- 'sftp://user@host' 'out/*' /in/`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use client::hooks::{Binding, Handlers, Reach};
use client::session::{Session, SessionOptions};
use session_core::batch::{TransferOptions, Unattended};

const RULE: &str = "if (ExtractExt(CtxRelPath()) === '.tmp') Session.BlockOperation('not finished yet')";

/// Sends, and gives how many were refused.
pub async fn run(options: SessionOptions, from: &str, to: &str) -> Result<usize, Box<dyn Error>> {
    let bindings = vec![Binding::new("BeforeFileUpload", "rule.js", RULE)];
    let session = Session::new();
    session.set_handlers(&Handlers::new(bindings, Reach::default())?);
    session.open(options, Arc::new(Unattended)).await?;
    let result = session.put_files(from, to, false, &TransferOptions::default()).await?;
    session.close().await?;
    for failure in result.failures() {
        println!("{failure}");
    }
    Ok(result.failures().len())
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
