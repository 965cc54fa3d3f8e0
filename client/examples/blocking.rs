//! The same session without `async`: reads a remote file line by line.
//!
//! `cargo run --features blocking --example blocking -- 'sftp://user@host' /var/log/messages`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use client::blocking::Session;
use client::session::SessionOptions;
use session_core::batch::Unattended;

/// Gives how many lines there are.
pub fn run(options: SessionOptions, file: &str) -> Result<usize, Box<dyn Error>> {
    let session = Session::new()?;
    session.open(options, Arc::new(Unattended))?;
    let lines = BufReader::new(session.get_file(file)?).lines();
    let count = lines.map_while(Result::ok).count();
    session.close()?;
    Ok(count)
}

#[allow(dead_code, reason = "tests call `run`")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("two arguments: URL, file");
    let (url, file) = (next()?, next()?);
    println!("{} lines", run(SessionOptions::parse_url(&url)?, &file)?);
    Ok(())
}
