//! Walks a remote tree as its listings arrive, and removes what is older than some days.
//!
//! `cargo run --example walk -- 'sftp://user@host' /backups '*.tar' 30`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use client::session::{EnumerationOptions, Session, SessionOptions};
use futures_util::StreamExt;
use session_core::batch::Unattended;

/// Removes, and gives the number of files that went.
pub async fn run(options: SessionOptions, dir: &str, mask: &str, days: u64) -> Result<usize, Box<dyn Error>> {
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await?;
    let limit = SystemTime::now() - Duration::from_secs(days * 86_400);
    let all = EnumerationOptions { all_directories: true, ..EnumerationOptions::default() };
    let mut entries = session.enumerate_remote_files(dir, mask, all)?;
    let mut removed = 0;
    while let Some(entry) = entries.next().await {
        // A directory that could not be listed is an error here; this program stops at it.
        let entry = entry?;
        if entry.last_write_time().is_some_and(|time| time < limit) {
            session.remove_file(entry.path.as_bytes()).await?;
            println!("{}", entry.full_name());
            removed += 1;
        }
    }
    session.close().await?;
    Ok(removed)
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("four arguments: URL, directory, mask, days");
    let (url, dir, mask, days) = (next()?, next()?, next()?, next()?);
    run(SessionOptions::parse_url(&url)?, &dir, &mask, days.parse()?).await?;
    Ok(())
}
