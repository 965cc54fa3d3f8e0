//! Runs a WinSCP script from a program, and prints its XML log.
//!
//! `cargo run --example winscp_script -- script.txt`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use client::script::{Console, Drives, Runner, Settings, XmlLog};
use session_core::batch::Unattended;

struct Prints;

impl Console for Prints {
    fn line(&mut self, text: &str) {
        println!("{text}");
    }

    fn error(&mut self, text: &str) {
        eprintln!("{text}");
    }

    fn content(&mut self, _: &[u8]) {}
}

/// Runs a script; gives its exit code and its log.
pub async fn run(script: &str) -> Result<(u8, String), Box<dyn Error>> {
    let settings = Settings {
        decider: Arc::new(Unattended),
        parameters: Vec::new(),
        drives: Drives::new(),
        known_hosts: None,
        directory: None,
        max_delete: Default::default(),
        sites: None,
    };
    let mut console = Prints;
    let mut runner = Runner::new(&settings, &mut console, Some(XmlLog::new(false)))?;
    for line in script.lines() {
        if !runner.line(line).await {
            break;
        }
    }
    let code = runner.end().await;
    Ok((code, runner.take_log()))
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("one argument: a script")?;
    let (code, log) = run(&std::fs::read_to_string(file)?).await?;
    println!("{log}\nexit code {code}");
    Ok(())
}
