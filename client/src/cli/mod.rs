//! The command line: one definition of each flag and command feeds parser, help, man page and
//! completions.
//!
//! Printing happens here and in `render` only. Exit codes are in `exit`; they tell the truth: a batch in
//! which anything failed does not end with 0.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program speaks")]

mod args;
mod change_args;
mod commands;
mod completions;
mod decide;
mod exit;
#[cfg(feature = "hooks")]
mod hooks;
mod lines;
#[cfg(feature = "webdav")]
mod locks;
mod places;
mod progress;
mod render;
#[cfg(feature = "s3")]
mod s3_args;
mod shell;
mod sites_args;
mod sync_args;
#[cfg(any(feature = "s3", feature = "webdav"))]
mod uploads_args;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command, DocsCommand};

/// Parses the arguments of this process and runs them.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    if let Command::Docs { what } = &cli.command {
        return docs(what);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: the runtime cannot be started: {e}");
            return exit::FAILED.into();
        }
    };
    // On a worker: a batch is woken by each of its files, and a thread beside the workers would change for it.
    let code = match runtime.block_on(runtime.spawn(run(cli))) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e}");
            exit::FAILED.into()
        }
    };
    // A read of a terminal may still be blocked; nothing waits for it.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    code
}

async fn run(cli: Cli) -> ExitCode {
    let json = cli.global.json;
    if matches!(cli.command, Command::Shell(_)) {
        // It takes Ctrl-C itself.
        return commands::run(cli).await.unwrap_or_else(|e| render::failure(&e, json));
    }
    tokio::select! {
        biased;
        result = commands::run(cli) => match result {
            Ok(code) => code,
            Err(e) => render::failure(&e, json),
        },
        () = interrupted() => {
            eprintln!("interrupted");
            exit::INTERRUPTED.into()
        }
    }
}

/// The second Ctrl-C: the first one a batch takes itself, to end its files well.
pub(in crate::cli) async fn interrupted() {
    let mut times = 0;
    while tokio::signal::ctrl_c().await.is_ok() {
        times += 1;
        if times > 1 || !commands::transfer::is_running() {
            return;
        }
    }
}

fn docs(what: &DocsCommand) -> ExitCode {
    let mut command = Cli::command();
    // Whole before it is written: what makes completions panics where nobody reads on.
    let mut out = Vec::new();
    let made = match what {
        DocsCommand::Man { command: None } => clap_mangen::Man::new(command).render(&mut out),
        DocsCommand::Man { command: Some(name) } => {
            command.build();
            let Some(found) = command.find_subcommand(name) else {
                eprintln!("error: there is no command '{name}'");
                return exit::USAGE.into();
            };
            clap_mangen::Man::new(found.clone()).render(&mut out)
        }
        DocsCommand::Completions { shell } => {
            let Some(script) = completions::script(*shell, &command) else {
                eprintln!("error: the completions of {shell} have another form than is known");
                return exit::FAILED.into();
            };
            out = script;
            Ok(())
        }
        DocsCommand::Reference => render::reference(&mut command, &mut out),
        DocsCommand::Lines => {
            out.extend(lines::table().into_bytes());
            Ok(())
        }
    };
    if made.is_err() {
        return exit::FAILED.into();
    }
    let mut printed = render::Out::new();
    printed.raw(&out);
    printed.flush();
    ExitCode::SUCCESS
}
