//! Sends a file while somebody watches: how far it is, how long it takes, and the means to stop it.
//!
//! `cargo run --example progress -- 'sftp://user@host' large.iso /in/`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::session::{Event, Session, SessionOptions};
use session_core::batch::{TransferOptions, Unattended};

/// Gives the bytes that were told of as moved; `most` is where it is stopped.
pub async fn run(
    options: SessionOptions,
    file: &str,
    to: &str,
    most: Option<u64>,
) -> Result<u64, Box<dyn Error>> {
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await?;
    session.set_progress_interval(Duration::from_millis(10));
    let moved = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&moved);
    // It is called as long as the subscription lives.
    let _watching = session.on_event(move |event| match event {
        Event::Progress(p) => {
            told.fetch_max(p.progress.bytes_done, Ordering::Relaxed);
            let left = p.seconds_left().map(|s| format!(", {s:.0} s left")).unwrap_or_default();
            println!("{:.0} %{left}", p.overall() * 100.0);
            if most.is_some_and(|most| p.progress.bytes_done >= most) {
                p.cancel();
            }
        }
        Event::Failed(e) => eprintln!("failed: {e:#}"),
        _ => {}
    });
    let result = session.put_files(file, to, false, &TransferOptions::default()).await?;
    session.close().await?;
    result.check()?;
    Ok(moved.load(Ordering::Relaxed))
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("three arguments: URL, file, directory there");
    let (url, file, to) = (next()?, next()?, next()?);
    run(SessionOptions::parse_url(&url)?, &file, &to, None).await?;
    Ok(())
}
