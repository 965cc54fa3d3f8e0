//! What each command does.

mod entries;
mod exec;
mod fingerprint;
mod jobs;
#[cfg(feature = "sftp")]
mod keys;
mod list;
mod resume;
mod script;
mod search;
mod sites;
mod sync;
pub(super) mod transfer;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;

use session_core::error::{Error, ErrorKind, Result};

use super::args::{Cli, Command, Global};
use super::exit;
use super::places::Places;
use super::render;
use super::shell;
use crate::live::{Live, Registered, Table, What};

/// A command's surroundings.
pub(super) struct Context {
    pub(super) global: Global,
    pub(super) places: Places,
    /// What this process moves, for others to see.
    pub(super) live: Option<Arc<Table>>,
    failed: Option<u8>,
}

impl Context {
    /// Lets others see a transfer and ask for it, as long as the result lives.
    fn enter(&self, job: Option<String>, what: What, live: Arc<dyn Live>) -> Option<Registered> {
        let (registered, error) = self.live.as_ref()?.enter(job, what, live);
        if let Some(e) = error.filter(|_| !self.global.quiet && !self.global.json) {
            eprintln!("warning: {e}");
        }
        Some(registered)
    }

    /// Tells a failure that does not stop the command.
    fn complain(&mut self, e: &Error) {
        render::complain(e, self.global.json);
        let code = exit::of(e.kind());
        // Several different failures have no common code but 1.
        self.failed = Some(match self.failed {
            None => code,
            Some(earlier) if earlier == code => code,
            Some(_) => exit::FAILED,
        });
    }

    /// The command failed and has told why.
    pub(in crate::cli) fn fail_with(&mut self, code: u8) {
        self.failed = Some(code);
    }

    /// The code of what has failed so far, which is forgotten.
    pub(in crate::cli) fn take_failed(&mut self) -> u8 {
        self.failed.take().unwrap_or(0)
    }

    fn code(&self) -> ExitCode {
        self.failed.map_or(ExitCode::SUCCESS, ExitCode::from)
    }
}

/// Runs a command.
pub(super) async fn run(cli: Cli) -> Result<ExitCode> {
    let mut places = Places::new(&cli.global);
    if let Command::Get(t) | Command::Put(t) | Command::Cp(t) = &cli.command {
        places = places.with_channels(t.channels).with_lines(usize::from(t.segments));
    }
    #[cfg(feature = "hooks")]
    if let Some(handlers) = cli.global.hooks.handlers(cli.global.json, cli.global.quiet).await? {
        places.ask(handlers.chain());
    }
    let live = crate::live::directory().ok().map(Table::new);
    let mut cx = Context { global: cli.global, places, live, failed: None };
    let result = match &cli.command {
        Command::Shell(a) => shell::shell(&mut cx, a).await,
        command => dispatch(&mut cx, command).await,
    };
    let code = cx.code();
    cx.places.close().await;
    result.map(|()| code)
}

/// Does what a command says, over the places that are open.
pub(in crate::cli) async fn dispatch(cx: &mut Context, command: &Command) -> Result<()> {
    match command {
        Command::Ls(a) => list::ls(cx, a).await,
        Command::Tree(a) => list::tree(cx, a).await,
        Command::Stat(a) => entries::stat(cx, a).await,
        Command::Cat(a) => entries::cat(cx, a).await,
        Command::Get(a) => transfer::transfer(cx, a, transfer::Kind::Get).await,
        Command::Put(a) => transfer::transfer(cx, a, transfer::Kind::Put).await,
        Command::Cp(a) => transfer::transfer(cx, a, transfer::Kind::Copy).await,
        Command::Resume(a) => resume::resume(cx, a).await,
        Command::Jobs(a) => jobs::jobs(cx, a).await,
        Command::Mkdir(a) => entries::mkdir(cx, a).await,
        Command::Mv(a) => entries::mv(cx, a).await,
        Command::Rm(a) => entries::rm(cx, a).await,
        Command::Ln(a) => entries::ln(cx, a).await,
        Command::Chmod(a) => entries::chmod(cx, a).await,
        Command::Df(a) => entries::df(cx, a).await,
        Command::Hash(a) => entries::hash(cx, a).await,
        Command::Apply(a) => sync::apply(cx, a).await,
        Command::Diff(a) => sync::diff(cx, a).await,
        Command::Du(a) => search::du(cx, a).await,
        Command::Find(a) => search::find(cx, a).await,
        Command::Plan(a) => sync::plan(cx, a).await,
        Command::Sync(a) => sync::sync(cx, a).await,
        Command::Touch(a) => search::touch(cx, a).await,
        Command::Watch(a) => watch::watch(cx, a).await,
        Command::Exec(a) => exec::exec(cx, a).await,
        Command::Script(a) => script::script(cx, a).await,
        Command::Sites(a) => sites::sites(cx, a).await,
        Command::Fingerprint(a) => fingerprint::fingerprint(cx, a).await,
        #[cfg(feature = "sftp")]
        Command::Keygen(a) => keys::keygen(cx, a).await,
        #[cfg(feature = "sftp")]
        Command::CopyId(a) => keys::copy_id(cx, a).await,
        Command::Docs { .. } | Command::Shell(_) => Err(ErrorKind::Internal.into()),
    }
}
