//! Copies a tree from one server to another, nothing of it on this machine's disk, every digest compared.
//!
//! `cargo run --example between -- sftp://user@one/from sftp://user@two/to`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use client::batch::{Batch, Job};
use client::connect::{Options, open_url};
use client::url::{Location, Url};
use session_core::batch::{TransferOptions, Unattended, Verify};

/// Gives how many files arrived; `known` are the host keys that are trusted beside those on record.
pub async fn run(from: &Url, to: &Url, known: &[String]) -> Result<u64, Box<dyn Error>> {
    let open = |url: &Url| Ok::<_, Box<dyn Error>>(Options::from_url(url)?.host_keys(known)?);
    let (source, target) = (open(from)?, open(to)?);
    let source = open_url(source, Arc::new(Unattended)).await?;
    let target = open_url(target, Arc::new(Unattended)).await?;
    let options = TransferOptions { recursive: true, verify: Verify::Strict, ..TransferOptions::default() };
    let job = Job { from: from.vpath(source.home())?, to: to.vpath(target.home())? };
    let batch = Batch::new(source.fs().clone(), target.fs().clone(), options, Arc::new(Unattended));
    let report = batch.run(vec![job]).await;
    source.close().await;
    target.close().await;
    report.check()?;
    Ok(report.counts.done)
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("two arguments: URL, URL");
    let (from, to) = (next()?, next()?);
    let (Location::Remote(from), Location::Remote(to)) = (Location::parse(&from)?, Location::parse(&to)?)
    else {
        return Err("both are URLs".into());
    };
    println!("{} files", run(&from, &to, &[]).await?);
    Ok(())
}
