//! Sends a directory to a server, and shows how far it is.
//!
//! `cargo run --example send -- 'sftp://user@host' directory /remote/`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use client::session::{Event, Session, SessionOptions};
use session_core::batch::{TransferOptions, Unattended};

/// Sends, and gives the number of files that arrived.
pub async fn run(options: SessionOptions, from: &str, to: &str) -> Result<usize, Box<dyn Error>> {
    let session = Session::new();
    // As long as this lives, it is called for everything that happens.
    let _shown = session.on_event(|event| match event {
        Event::Progress(p) => {
            eprintln!("{:3.0} %, {:.0} bytes a second", p.overall() * 100.0, p.progress.rate);
        }
        Event::Failed(e) => eprintln!("{e:#}"),
        _ => {}
    });
    session.open(options, Arc::new(Unattended)).await?;
    let options = TransferOptions { parallel: 4, ..TransferOptions::default() };
    let result = session.put_files(from, to, false, &options).await?;
    session.close().await?;
    result.check()?;
    Ok(result.transfers.len())
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("three arguments: URL, directory, remote directory");
    let (url, from, to) = (next()?, next()?, next()?);
    println!("{} files", run(SessionOptions::parse_url(&url)?, &from, &to).await?);
    Ok(())
}
