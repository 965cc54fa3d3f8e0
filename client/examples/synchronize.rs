//! Compares a directory here with one of a server, shows what differs, and makes the server's like this one.
//!
//! `cargo run --example synchronize -- 'sftp://user@host' site/ /var/www`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use client::session::{Session, SessionOptions, Side, SynchronizationMode, SynchronizationOptions};
use session_core::batch::Unattended;

/// Shows, then does; gives how many differences there were.
pub async fn run(options: SessionOptions, here: &str, there: &str) -> Result<usize, Box<dyn Error>> {
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await?;
    let how = SynchronizationOptions {
        // What is not here goes there, too; but never more than a tenth or a hundred, unless `max_delete` says so.
        remove_files: true,
        ..SynchronizationOptions::new(SynchronizationMode::Remote)
    };
    let found = session.compare_directories(here, there, &how).await?;
    for difference in &found.differences {
        println!("{:?} {}", difference.action, found.path(difference, Side::Remote)?);
    }
    let done = session.synchronize_directories(here, there, &how).await?;
    println!("{} sent, {} removed", done.uploads.len(), done.removals.len());
    session.close().await?;
    done.check()?;
    Ok(found.differences.len())
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("three arguments: URL, directory here, directory there");
    let (url, here, there) = (next()?, next()?, next()?);
    run(SessionOptions::parse_url(&url)?, &here, &there).await?;
    Ok(())
}
