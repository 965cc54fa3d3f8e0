//! The command line of `ferryd`: one definition for parser, help, man page and completions.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program speaks")]

mod audit;
mod hooks;

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::script::{events_table, members_table};

use crate::accounts;
use crate::config::{
    self, Config, ENV_CONFIG, ENV_CONTROL, ENV_DATA, ENV_LOG, Fault, Listener, ListenerProtocol, LogFormat,
};
use crate::control::{
    self,
    commands::{self, EXIT_CODES},
};
use crate::daemon::{Daemon, Reload};
use crate::first_run;
use crate::journal::Journal;
use crate::log::Logging;
use crate::protector::List;
use crate::users::password;
use crate::users::totp::{Enrolment, recovery_hash};

/// A file server whose sessions you see, script and end. Without a command it serves; on the first start it
/// makes everything it needs.
#[derive(Parser)]
#[command(name = "ferryd", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags of every command. A flag beats the environment, and that the file.
#[derive(Args, Clone)]
struct Global {
    /// The configuration file; without it, ferryd.toml in the data folder
    #[arg(long, global = true, env = ENV_CONFIG, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder; without it, ferryd below the user's data folder
    #[arg(long, global = true, env = ENV_DATA, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The control socket
    #[arg(long, global = true, env = ENV_CONTROL, value_name = "PATH")]
    control: Option<PathBuf>,
}

/// Flags of serving.
#[derive(Args, Clone)]
struct Run {
    /// Listen here instead of where the configuration says; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Print the ready line as JSON, and log as JSON
    #[arg(long)]
    json: bool,
    /// What is logged: error, warn, info, debug, trace, or a filter
    #[arg(long, env = ENV_LOG, value_name = "LEVEL")]
    log: Option<String>,
}

/// Flags of what takes sessions or does not.
#[derive(Args)]
struct Admitted {
    /// Only this site; drained, it stays paused and the server goes on
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Prove that the audit is as it was written
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Report faults of the configuration, with their lines
    Check,
    /// Write a configuration with comments to start from
    Init {
        /// Where; without it, the configuration file
        file: Option<PathBuf>,
    },
    /// Show the configuration in force, secrets left out
    Config,
    /// Make the hash of a password, for the configuration
    HashPassword,
    /// Make one-time codes for a user, for the configuration
    Totp {
        /// The user
        user: String,
        /// The site, as an authenticator app shows it
        #[arg(long, value_name = "NAME", default_value = "ferry")]
        site: String,
    },
    /// Live sessions
    Sessions(Box<commands::Sessions>),
    /// The block list: who may not connect
    Ban(control::Bans),
    /// Who is never struck and never blocked
    Safe(control::Networks),
    /// Who may connect, where only they may: `only_allowed` of the configuration
    Allow(control::Networks),
    /// What homes and folders hold, and may hold
    Quota(control::Quota),
    /// What webhooks and commands are still to be told
    Outbox(control::Outboxes),
    /// What the running server says of itself
    Status {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check and try out handlers of events
    #[command(subcommand)]
    Hooks(hooks::Hooks),
    /// Let the running server read its configuration anew
    Reload,
    /// Let the running server take no new session, finish its transfers and stop
    Drain(Admitted),
    /// Let the running server take no new session; those that are there go on
    Pause(Admitted),
    /// Let the running server take sessions again
    Resume(Admitted),
    #[command(flatten)]
    Accounts(accounts::Commands),
    /// Print what is generated from this program
    #[command(hide = true)]
    Docs {
        /// What
        #[command(subcommand)]
        what: DocsCommand,
    },
}

#[derive(Subcommand)]
enum DocsCommand {
    /// The man page
    Man,
    /// Completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The events of hooks, as a Markdown table
    Events,
    /// What handlers can call, as Markdown tables
    Members,
}

/// Parses the arguments of this process and runs them.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: the runtime cannot be started: {e}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli));
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    code
}

async fn run(cli: Cli) -> ExitCode {
    let global = cli.global;
    let done = |r: Result<()>| match r {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => commands::failure(&e),
    };
    match cli.command {
        None => done(serve(&global, &cli.run).await),
        Some(Command::Audit(what)) => audit::run(what, || {
            let config = load(&global, &Run { listen: vec![], json: false, log: None })?;
            Ok(config.log.audit.map(|a| a.file))
        }),
        Some(Command::Check) => check(&global).await,
        Some(Command::Init { file }) => done(init(&global, file)),
        Some(Command::Config) => match load(&global, &Run { listen: vec![], json: false, log: None }) {
            Ok(config) => {
                println!("{config:#?}");
                ExitCode::SUCCESS
            }
            Err(e) => commands::failure(&e),
        },
        Some(Command::HashPassword) => done(hash_password()),
        Some(Command::Totp { user, site }) => done(totp(&user, &site)),
        Some(Command::Sessions(args)) => match control_of(&global) {
            Ok(control) => commands::sessions(control, *args).await,
            Err(e) => commands::failure(&e),
        },
        Some(Command::Safe(args)) => match control_of(&global) {
            Ok(control) => control::networks(control, List::Safe, args).await,
            Err(e) => commands::failure(&e),
        },
        Some(Command::Allow(args)) => match control_of(&global) {
            Ok(control) => control::networks(control, List::Allow, args).await,
            Err(e) => commands::failure(&e),
        },
        Some(Command::Ban(args)) => match control_of(&global) {
            Ok(control) => control::bans(control, args).await,
            Err(e) => commands::failure(&e),
        },
        Some(Command::Quota(args)) => match control_of(&global) {
            Ok(control) => control::quota(control, args).await,
            Err(e) => commands::failure(&e),
        },
        Some(Command::Outbox(args)) => match control_of(&global) {
            Ok(control) => {
                let config = || load(&global, &Run { listen: vec![], json: false, log: None });
                control::outbox(control, args, config).await
            }
            Err(e) => commands::failure(&e),
        },
        Some(Command::Status { json }) => match control_of(&global) {
            Ok(control) => commands::status(control, json).await,
            Err(e) => commands::failure(&e),
        },
        Some(Command::Hooks(what)) => hooks::run(what, || config_file(&global), || control_of(&global)).await,
        Some(Command::Reload) => match control_of(&global) {
            Ok(control) => commands::reload(control).await,
            Err(e) => commands::failure(&e),
        },
        Some(Command::Drain(args)) => admit(&global, "drain", &args).await,
        Some(Command::Pause(args)) => admit(&global, "pause", &args).await,
        Some(Command::Resume(args)) => admit(&global, "resume", &args).await,
        Some(Command::Accounts(what)) => match control_of(&global) {
            Ok(control) => {
                let config = || load(&global, &Run { listen: vec![], json: false, log: None });
                accounts::run(what, control, config).await
            }
            Err(e) => commands::failure(&e),
        },
        Some(Command::Docs { what }) => docs(&what),
    }
}

async fn admit(global: &Global, what: &str, args: &Admitted) -> ExitCode {
    match control_of(global) {
        Ok(control) => commands::admit(control, what, args.site.as_deref(), args.json).await,
        Err(e) => commands::failure(&e),
    }
}

fn data_dir(global: &Global) -> Result<PathBuf> {
    if let Some(dir) = &global.data {
        return Ok(std::path::absolute(dir)?);
    }
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/share")));
    base.map(|b| b.join("ferryd")).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail("there is no home folder to put data into")
            .with_hint("name a data folder with --data")
    })
}

/// The configuration file, and whether it was named.
fn config_file(global: &Global) -> Result<(PathBuf, bool)> {
    match &global.config {
        Some(file) => Ok((std::path::absolute(file)?, true)),
        None => Ok((data_dir(global)?.join("ferryd.toml"), false)),
    }
}

fn refuse(faults: &[Fault]) -> Error {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Error::new(ErrorKind::InvalidArgument).with_detail(lines.join("\n"))
}

/// Flags stand in for the variables of their names.
fn environment<'a>(global: &'a Global, log: Option<&'a String>) -> impl Fn(&str) -> Option<OsString> + 'a {
    move |name| match name {
        ENV_DATA => global.data.clone().map(OsString::from),
        ENV_CONTROL => global.control.clone().map(OsString::from),
        ENV_LOG => log.map(OsString::from),
        _ => None,
    }
}

fn load(global: &Global, run: &Run) -> Result<Config> {
    let (file, _) = config_file(global)?;
    let loaded = Config::load_with(&file, &environment(global, run.log.as_ref()));
    let (mut config, faults) = loaded.map_err(|faults| refuse(&faults))?;
    for fault in faults {
        eprintln!("warning: {fault}");
    }
    if !run.listen.is_empty() {
        if !config.sites.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("--listen does not say which of the [[sites]] is meant")
                .with_hint("name the addresses in the configuration"));
        }
        let listener = |a: &SocketAddr| Listener { address: a.ip(), port: a.port(), ..Listener::default() };
        config.listeners = run.listen.iter().map(listener).collect();
    }
    Ok(config)
}

fn control_of(global: &Global) -> Result<PathBuf> {
    if let Some(control) = &global.control {
        return Ok(std::path::absolute(control)?);
    }
    let (file, _) = config_file(global)?;
    match Config::load_with(&file, &environment(global, None)) {
        Ok((config, _)) => Ok(config.control),
        Err(_) => Ok(data_dir(global)?.join("control.sock")),
    }
}

async fn serve(global: &Global, run: &Run) -> Result<()> {
    let (file, named) = config_file(global)?;
    let first = if !named && !file.exists() { Some(first_run::make(&data_dir(global)?)?) } else { None };
    let config = load(global, run)?;
    let json = run.json || config.log.format == LogFormat::Json;
    let logging = Arc::new(Logging::start(json, &config.log.level)?);
    let journal = Arc::new(Journal::default());
    journal.set_audit(config.log.audit.as_ref())?;
    let (again, flags) = (global.clone(), run.clone());
    let reload: Reload = Arc::new(move || load(&again, &flags));
    let started = Daemon::start(config, Arc::clone(&journal), Some(Arc::clone(&logging)), reload).await;
    let daemon = match started {
        Ok(daemon) => daemon,
        Err(e) => {
            // Nobody has read the password: the next start is the first one again.
            if first.is_some() {
                let _ = std::fs::remove_file(&file);
            }
            logging.output.flush(std::time::Duration::from_millis(500));
            return Err(e);
        }
    };
    if run.json {
        println!("{}", daemon.ready());
    } else {
        for (protocol, address) in daemon.addresses() {
            println!("listening on {address} ({protocol})");
        }
        let (sftp, ftp) = (daemon.first(ListenerProtocol::Sftp), daemon.first(ListenerProtocol::Ftp));
        if let Some((_, key)) = &sftp {
            println!("host key {key}");
        }
        if let Some((_, certificate)) = &ftp {
            println!("certificate {certificate}");
        }
        match (&first, sftp) {
            (Some(first), Some(sftp)) => print!("{}", first.words(sftp, ftp)),
            _ => println!("configuration {}", file.display()),
        }
        println!("ready");
    }
    let result = daemon.run().await;
    logging.output.flush(std::time::Duration::from_millis(500));
    result
}

async fn check(global: &Global) -> ExitCode {
    let file = match config_file(global) {
        Ok((file, _)) => file,
        Err(e) => return commands::failure(&e),
    };
    let (faults, loaded) = match Config::load(&file) {
        Ok((config, faults)) => (faults, Some(config)),
        Err(faults) => (faults, None),
    };
    for fault in &faults {
        eprintln!("{fault}");
    }
    // Handlers are compiled and keys are read as a start would.
    let built = match loaded {
        Some(config) => Some(crate::site::check(config).await),
        None => None,
    };
    if let Some(Err(e)) = &built {
        eprintln!("{}: {e:#}", file.display());
    }
    if faults.is_empty() && matches!(built, Some(Ok(()))) {
        println!("{}: good", file.display());
        return ExitCode::SUCCESS;
    }
    ExitCode::from(2)
}

fn init(global: &Global, file: Option<PathBuf>) -> Result<()> {
    let file = match file {
        Some(file) => file,
        None => config_file(global)?.0,
    };
    first_run::write_new(&file, config::sample())?;
    println!("wrote {}", file.display());
    Ok(())
}

/// What is typed twice at a terminal, or comes by standard input. Never an argument, which others see.
pub(crate) fn typed(what: &str) -> Result<Secret> {
    asked(what, true)
}

/// The same, of something that is there already: it is asked for once.
pub(crate) fn typed_once(what: &str) -> Result<Secret> {
    asked(what, false)
}

fn asked(what: &str, is_new: bool) -> Result<Secret> {
    let invalid = |words: String| Error::new(ErrorKind::InvalidArgument).with_detail(words);
    let text = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password(format!("{what}: "))?;
        if is_new && rpassword::prompt_password("Again: ")? != first {
            return Err(invalid("the two differ".into()));
        }
        first
    } else {
        let mut text = String::new();
        std::io::stdin().take(16 << 10).read_to_string(&mut text)?;
        text.trim_end_matches(['\r', '\n']).to_string()
    };
    if text.is_empty() {
        return Err(invalid(format!("the {} is empty", what.to_lowercase())));
    }
    Ok(Secret::new(text))
}

fn hash_password() -> Result<()> {
    let password = typed("Password")?;
    if password.expose().contains(['\r', '\n']) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a password is one line"));
    }
    let hash = password::hash(&password);
    println!("{}", hash.map_err(|words| Error::new(ErrorKind::InvalidArgument).with_detail(words))?);
    Ok(())
}

fn totp(user: &str, site: &str) -> Result<()> {
    let made = Enrolment::make()?;
    println!("# Into the table of '{user}':");
    println!("totp = \"{}\"", made.secret);
    let hashes: Vec<_> = made.recovery.iter().map(|code| recovery_hash(code)).collect();
    println!("recovery = {hashes:?}");
    println!("# For the user alone:");
    println!("# {}", made.url(site, user));
    for code in &made.recovery {
        println!("# {code}");
    }
    Ok(())
}

fn docs(what: &DocsCommand) -> ExitCode {
    let mut command = Cli::command();
    let mut out = std::io::stdout().lock();
    match what {
        DocsCommand::Man => {
            if clap_mangen::Man::new(command).render(&mut out).is_err() {
                return ExitCode::FAILURE;
            }
        }
        DocsCommand::Completions { shell } => {
            clap_complete::generate(*shell, &mut command, "ferryd", &mut out);
        }
        DocsCommand::Events | DocsCommand::Members => {
            drop(out);
            print!("{}", if matches!(what, DocsCommand::Events) { events_table() } else { members_table() });
        }
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn init_writes_a_file_that_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.toml");
        let global = Global { config: None, data: None, control: None };
        init(&global, Some(file.clone())).unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("[[listeners]]"));
        assert_eq!(init(&global, Some(file)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
