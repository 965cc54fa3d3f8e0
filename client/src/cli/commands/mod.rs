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
    fn fail_with(&mut self, code: u8) {
        self.failed = Some(code);
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
    let live = crate::live::directory().ok().map(Table::new);
    let mut cx = Context { global: cli.global, places, live, failed: None };
    let result = match &cli.command {
        Command::Ls(a) => list::ls(&mut cx, a).await,
        Command::Tree(a) => list::tree(&mut cx, a).await,
        Command::Stat(a) => entries::stat(&mut cx, a).await,
        Command::Cat(a) => entries::cat(&mut cx, a).await,
        Command::Get(a) => transfer::transfer(&mut cx, a, transfer::Kind::Get).await,
        Command::Put(a) => transfer::transfer(&mut cx, a, transfer::Kind::Put).await,
        Command::Cp(a) => transfer::transfer(&mut cx, a, transfer::Kind::Copy).await,
        Command::Resume(a) => resume::resume(&mut cx, a).await,
        Command::Jobs(a) => jobs::jobs(&mut cx, a).await,
        Command::Mkdir(a) => entries::mkdir(&mut cx, a).await,
        Command::Mv(a) => entries::mv(&mut cx, a).await,
        Command::Rm(a) => entries::rm(&mut cx, a).await,
        Command::Ln(a) => entries::ln(&mut cx, a).await,
        Command::Chmod(a) => entries::chmod(&mut cx, a).await,
        Command::Df(a) => entries::df(&mut cx, a).await,
        Command::Hash(a) => entries::hash(&mut cx, a).await,
        Command::Apply(a) => sync::apply(&mut cx, a).await,
        Command::Diff(a) => sync::diff(&mut cx, a).await,
        Command::Du(a) => search::du(&mut cx, a).await,
        Command::Find(a) => search::find(&mut cx, a).await,
        Command::Plan(a) => sync::plan(&mut cx, a).await,
        Command::Sync(a) => sync::sync(&mut cx, a).await,
        Command::Touch(a) => search::touch(&mut cx, a).await,
        Command::Watch(a) => watch::watch(&mut cx, a).await,
        Command::Exec(a) => exec::exec(&mut cx, a).await,
        Command::Script(a) => script::script(&mut cx, a).await,
        Command::Sites(a) => sites::sites(&mut cx, a).await,
        Command::Fingerprint(a) => fingerprint::fingerprint(&mut cx, a).await,
        #[cfg(feature = "sftp")]
        Command::Keygen(a) => keys::keygen(&mut cx, a).await,
        #[cfg(feature = "sftp")]
        Command::CopyId(a) => keys::copy_id(&mut cx, a).await,
        Command::Docs { .. } => Err(ErrorKind::Internal.into()),
    };
    let code = cx.code();
    cx.places.close().await;
    result.map(|()| code)
}
