//! `cargo xtask`: what is done to this repository, as commands.
//!
//! One file per command; `cargo xtask help` lists them. Beside them stand the tools they share:
//! [`flags`], [`process`], [`install`], [`repo`]. It depends on no crate of the workspace, because it
//! compiles first on a cold machine and must be able to judge the others from outside.
//! Not here yet: `matrix`, `bless`, `dist`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the printer: its output is its purpose")]

mod bench;
mod deps;
mod docs;
mod fault;
mod flags;
mod fuzz;
mod install;
mod ours;
mod peers;
mod process;
mod repo;
mod report;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

use fault::Result;
use flags::Flags;

/// One row of the table of commands.
struct Command {
    name: &'static str,
    about: &'static str,
    /// The lines below the headline in `cargo xtask help NAME`.
    usage: &'static str,
    run: fn(Flags) -> Result<Verdict>,
}

/// What a command found: the exit status follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Everything holds: exit 0.
    Good,
    /// The command ran to its end and found faults, which it has printed: exit 1.
    Bad,
}

impl Verdict {
    fn from_faults(faults: usize) -> Self {
        if faults == 0 { Self::Good } else { Self::Bad }
    }
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        about: "the whole: every stage, then a table",
        usage: test::USAGE,
        run: test::run,
    },
    Command { name: "tidy", about: "the house rules, as code", usage: tidy::USAGE, run: tidy::run },
    Command {
        name: "deps",
        about: "dependencies: bans, licences, minimum versions, advisories",
        usage: deps::USAGE,
        run: deps::run,
    },
    Command {
        name: "fuzz",
        about: "coverage-guided fuzzing on the stable toolchain",
        usage: fuzz::USAGE,
        run: fuzz::run,
    },
    Command {
        name: "docs",
        about: "write the generated sections of the manual",
        usage: docs::USAGE,
        run: docs::run,
    },
    Command {
        name: "bench",
        about: "ours and theirs side by side, as ratios",
        usage: bench::USAGE,
        run: bench::run,
    },
    Command {
        name: bench::floor::NAME,
        about: "the server of the bench that keeps nothing",
        usage: "cargo xtask bench-floor PORT",
        run: bench::floor::run,
    },
    Command {
        name: "soak",
        about: "churn and kill -9, for as long as it takes",
        usage: soak::USAGE,
        run: soak::run,
    },
    Command {
        name: "peers",
        about: "other people's software: install, probe, try",
        usage: peers::USAGE,
        run: peers::run,
    },
];

fn main() -> ExitCode {
    let mut flags = Flags::from_env();
    let name = flags.positional().unwrap_or_else(|| "help".to_owned());
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        return help(flags.positional().as_deref());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("no command `{name}`; `cargo xtask help` lists them");
        return ExitCode::from(2);
    };
    if flags.flag("--help") || flags.flag("-h") {
        return help(Some(command.name));
    }
    match (command.run)(flags) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(fault) => {
            eprintln!("cargo xtask {name}: {fault}");
            ExitCode::from(2)
        }
    }
}

fn help(topic: Option<&str>) -> ExitCode {
    let Some(topic) = topic else {
        println!("cargo xtask COMMAND [FLAGS]\n");
        for command in COMMANDS {
            println!("  {:<11} {}", command.name, command.about);
        }
        println!("\n`cargo xtask help COMMAND` tells its flags.");
        println!("Exit status: 0 all holds, 1 faults were found, 2 the command itself could not run.");
        return ExitCode::SUCCESS;
    };
    match COMMANDS.iter().find(|command| command.name == topic) {
        Some(command) => {
            println!("cargo xtask {}: {}\n\n{}", command.name, command.about, command.usage);
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("no command `{topic}`");
            ExitCode::from(2)
        }
    }
}
