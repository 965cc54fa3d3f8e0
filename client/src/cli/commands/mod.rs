//! What each command does.

mod changes;
mod complete;
mod entries;
mod exec;
mod explain;
mod fingerprint;
#[cfg(feature = "hooks")]
mod hooks;
mod jobs;
#[cfg(feature = "sftp")]
mod keys;
mod list;
#[cfg(feature = "webdav")]
mod lock;
mod resume;
#[cfg(feature = "s3")]
mod s3;
mod script;
mod search;
mod sites;
mod stream;
mod sync;
mod sync_jobs;
pub(super) mod transfer;
#[cfg(any(feature = "s3", feature = "webdav"))]
mod uploads;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::BoxFuture;
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
            render::warn(&e.to_string(), false);
        }
        Some(registered)
    }

    /// Tells a failure that does not stop the command.
    fn complain(&mut self, e: &Error) {
        render::complain(e, self.global.json);
        self.count(e);
    }

    /// The same of one that has been told.
    fn count(&mut self, e: &Error) {
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
    if let Command::CompletePlace { words } = &cli.command {
        complete::complete(words).await;
        return Ok(ExitCode::SUCCESS);
    }
    let mut places = Places::new(&cli.global);
    if let Command::Get(t) | Command::Put(t) | Command::Cp(t) = &cli.command {
        places = places.with_channels(t.channels).with_lines(usize::from(t.segments));
    }
    places.open_log()?;
    #[cfg(feature = "hooks")]
    if let Some(handlers) = cli.global.hooks.handlers(cli.global.json, cli.global.quiet).await? {
        places.ask(handlers.chain());
    }
    let live = crate::live::directory().ok().map(Table::new);
    let mut cx = Context { global: cli.global, places, live, failed: None };
    let result = match &cli.command {
        Command::Shell(a) => Box::pin(shell::shell(&mut cx, a)).await,
        command => dispatch(&mut cx, command).await,
    };
    let code = cx.code();
    let log = cx.places.log();
    cx.places.close().await;
    if let Some(e) = log.and_then(|log| log.fault()).filter(|_| !cx.global.quiet) {
        render::warn(&format!("the log is not whole: {e:#}"), cx.global.json);
    }
    result.map(|()| code)
}

/// Does what a command says, over the places that are open.
/// Boxed here, so that the futures of all commands are not on the stack of the one that is polled.
pub(in crate::cli) fn dispatch<'a>(cx: &'a mut Context, command: &'a Command) -> BoxFuture<'a, Result<()>> {
    match command {
        Command::Ls(a) => Box::pin(list::ls(cx, a)),
        Command::Tree(a) => Box::pin(list::tree(cx, a)),
        Command::Stat(a) => Box::pin(entries::stat(cx, a)),
        Command::Cat(a) => Box::pin(entries::cat(cx, a)),
        Command::Get(a) => Box::pin(transfer::transfer(cx, a, transfer::Kind::Get)),
        Command::Put(a) => Box::pin(transfer::transfer(cx, a, transfer::Kind::Put)),
        Command::Cp(a) => Box::pin(transfer::transfer(cx, a, transfer::Kind::Copy)),
        Command::Resume(a) => Box::pin(resume::resume(cx, a)),
        Command::Jobs(a) => Box::pin(jobs::jobs(cx, a)),
        Command::Mkdir(a) => Box::pin(changes::mkdir(cx, a)),
        Command::Mv(a) => Box::pin(changes::mv(cx, a)),
        Command::Rm(a) => Box::pin(changes::rm(cx, a)),
        Command::Rmdir(a) => Box::pin(changes::rmdir(cx, a)),
        Command::Ln(a) => Box::pin(changes::ln(cx, a)),
        Command::Chmod(a) => Box::pin(changes::chmod(cx, a)),
        Command::Chown(a) => Box::pin(changes::chown(cx, a)),
        Command::Df(a) => Box::pin(entries::df(cx, a)),
        Command::Hash(a) => Box::pin(entries::hash(cx, a)),
        Command::Apply(a) => Box::pin(sync::apply(cx, a)),
        Command::Diff(a) => Box::pin(sync::diff(cx, a)),
        Command::Du(a) => Box::pin(search::du(cx, a)),
        Command::Find(a) => Box::pin(search::find(cx, a)),
        Command::Plan(a) => Box::pin(sync::plan(cx, a)),
        Command::Sync(a) => Box::pin(sync::sync(cx, a)),
        Command::Touch(a) => Box::pin(changes::touch(cx, a)),
        Command::Watch(a) => Box::pin(watch::watch(cx, a)),
        Command::Exec(a) => Box::pin(exec::exec(cx, a)),
        Command::Script(a) => Box::pin(script::script(cx, a)),
        Command::Sites(a) => Box::pin(sites::sites(cx, a)),
        #[cfg(feature = "s3")]
        Command::Alter(a) => Box::pin(s3::alter(cx, a)),
        #[cfg(feature = "s3")]
        Command::Presign(a) => Box::pin(s3::presign(cx, a)),
        #[cfg(feature = "s3")]
        Command::Tag(a) => Box::pin(s3::tag(cx, a)),
        #[cfg(any(feature = "s3", feature = "webdav"))]
        Command::Uploads(a) => Box::pin(uploads::uploads(cx, a)),
        #[cfg(feature = "s3")]
        Command::Versions(a) => Box::pin(s3::versions(cx, a)),
        #[cfg(feature = "webdav")]
        Command::Lock(a) => Box::pin(lock::lock(cx, a)),
        #[cfg(feature = "webdav")]
        Command::Unlock(a) => Box::pin(lock::unlock(cx, a)),
        Command::Explain(a) => Box::pin(explain::explain(cx, a)),
        Command::Fingerprint(a) => Box::pin(fingerprint::fingerprint(cx, a)),
        #[cfg(feature = "hooks")]
        Command::Hooks(a) => Box::pin(hooks::hooks(cx, a)),
        #[cfg(feature = "sftp")]
        Command::Keygen(a) => Box::pin(keys::keygen(cx, a)),
        #[cfg(feature = "sftp")]
        Command::CopyId(a) => Box::pin(keys::copy_id(cx, a)),
        Command::CompletePlace { .. } | Command::Docs { .. } | Command::Shell(_) => {
            Box::pin(async { Err(ErrorKind::Internal.into()) })
        }
    }
}
