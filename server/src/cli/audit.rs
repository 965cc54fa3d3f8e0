//! `ferryd audit`: whether the audit is as it was written.
#![allow(clippy::print_stdout, reason = "this is where the program speaks")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};

use crate::audit::{Verified, files, verify};
use crate::control::commands;

/// `ferryd audit`.
#[derive(Subcommand)]
pub(super) enum Audit {
    /// Follow the chain through the files, and tell where it is broken; exit code 1 then
    Verify {
        /// The files, the oldest first; without them those of the configuration
        files: Vec<PathBuf>,
        /// The chain value that the last record must have, as the log told it
        #[arg(long, value_name = "HASH")]
        expect: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command. `configured` is the audit file of the configuration.
pub(super) fn run(what: Audit, configured: impl FnOnce() -> Result<Option<PathBuf>>) -> ExitCode {
    let Audit::Verify { files: named, expect, json } = what;
    match find(named, configured).and_then(|all| Ok((verify(&all)?, all))) {
        Ok((found, all)) => tell(&found, all.len(), expect.as_deref(), json),
        Err(e) => commands::failure(&e),
    }
}

fn find(named: Vec<PathBuf>, configured: impl FnOnce() -> Result<Option<PathBuf>>) -> Result<Vec<PathBuf>> {
    if !named.is_empty() {
        return Ok(named);
    }
    let none = |words| Error::new(ErrorKind::InvalidArgument).with_detail(words);
    let file = configured()?.ok_or_else(|| {
        none("the configuration has no audit").with_hint("name its files, or set audit in [log]")
    })?;
    match files(&file) {
        all if all.is_empty() => Err(none("there is no audit file yet")),
        all => Ok(all),
    }
}

fn tell(found: &Verified, files: usize, expect: Option<&str>, as_json: bool) -> ExitCode {
    let as_expected = expect.is_none_or(|e| e.eq_ignore_ascii_case(&found.head));
    let whole = found.problems.is_empty() && as_expected;
    if as_json {
        let problem = |p: &crate::audit::Problem| json!({ "file": p.file.display().to_string(), "line": p.line, "problem": p.words });
        let all: Vec<_> = found.problems.iter().map(problem).collect();
        println!(
            "{}",
            json!({
                "whole": whole, "files": files, "records": found.records, "torn": found.torn,
                "head": found.head, "asExpected": expect.map(|_| as_expected), "problems": all,
            })
        );
    } else {
        for p in &found.problems {
            println!("{}:{}: {}", p.file.display(), p.line, p.words);
        }
        if !as_expected {
            println!(
                "the chain ends with {}, which is not what was expected: its end is missing",
                found.head
            );
        }
        let words = if whole { "the chain is whole" } else { "the chain is broken" };
        println!("{words}: {} records in {files} files, the last one is {}", found.records, found.head);
    }
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
