//! Completion: commands, flags, and paths of the session and of this machine.
//!
//! It never waits long and never holds much: a directory is asked for at most so long and so many names, and what
//! was found is kept for a while, until a command has run. A server that does not answer completes nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::CommandFactory as _;
use rustyline::Context;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use session_core::fs::{Filesystem as _, ListOptions};
use session_core::gate::SessionFs;
use session_core::path::VPath;
use tokio::runtime::Handle;

use super::bind::{Side, sides, with_home};
use super::words::{begun, quoted};
use super::{OWN, is_shown, name_of};
use crate::cli::args::Cli;

/// How long a directory is waited for.
const WAIT: Duration = Duration::from_secs(2);
/// How long its names are kept, and of how many directories.
const KEEP: Duration = Duration::from_secs(20);
const KEPT: usize = 32;
/// Names that are looked at.
const NAMES: usize = 5000;

/// A name, and whether it is a directory's.
type Names = Arc<Vec<(String, bool)>>;

/// Where the session is, and what was seen there.
#[derive(Default)]
pub(super) struct Looks {
    at: Option<(SessionFs, VPath, VPath)>,
    seen: HashMap<VPath, (Instant, Names)>,
}

impl Looks {
    /// The session, its login folder and its directory.
    pub(super) fn at(&mut self, at: Option<(SessionFs, VPath, VPath)>) {
        self.at = at;
        self.forget();
    }

    /// Something may have changed.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

/// What the editor asks.
pub(super) struct Helper {
    looks: Arc<Mutex<Looks>>,
    runtime: Handle,
}

impl rustyline::Helper for Helper {}
impl Highlighter for Helper {}
impl Hinter for Helper {
    type Hint = String;
}
impl Validator for Helper {}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = line.get(..pos).unwrap_or(line);
        let (mut words, unfinished) = begun(line);
        let word = if unfinished { words.pop() } else { None }.unwrap_or_default();
        let start = if unfinished { word.start } else { pos };
        let Some(command) = words.first() else {
            return Ok((start, named(commands(), &word.text)));
        };
        if word.text.starts_with('-') {
            return Ok((start, named(flags(&command.text), &word.text)));
        }
        if word.text.contains("://") {
            return Ok((start, Vec::new()));
        }
        let (first, later) = sides(&command.text);
        let before = words.iter().skip(1).filter(|w| !w.text.starts_with('-')).count();
        let wanted = if before == 0 { std::slice::from_ref(&first) } else { later };
        let mut found = Vec::new();
        for side in wanted {
            found.extend(self.paths(*side, &word.text));
        }
        Ok((start, found))
    }
}

impl Helper {
    pub(super) fn new(looks: Arc<Mutex<Looks>>, runtime: Handle) -> Self {
        Helper { looks, runtime }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a path may go on with.
    fn paths(&self, side: Side, text: &str) -> Vec<Pair> {
        let (stem, begin) = text.rfind('/').map_or(("", text), |at| text.split_at(at + 1));
        let at = self.lock().at.clone();
        let names = match at.filter(|_| side == Side::There) {
            Some((fs, home, cwd)) => {
                let from = match stem.strip_prefix("~/") {
                    Some(rest) => VPath::parse(&home, rest.as_bytes()),
                    None => VPath::parse(&cwd, if stem.is_empty() { b"." } else { stem.as_bytes() }),
                };
                from.map(|dir| self.there(&fs, &dir)).unwrap_or_default()
            }
            None => here(stem),
        };
        let fits = |(name, _): &&(String, bool)| {
            name.starts_with(begin) && (begin.starts_with('.') || !name.starts_with('.'))
        };
        let pair = |(name, is_dir): &(String, bool)| {
            let slash = if *is_dir { "/" } else { "" };
            Pair {
                display: format!("{name}{slash}"),
                replacement: format!("{}{slash}", quoted(&format!("{stem}{name}"))),
            }
        };
        names.iter().filter(fits).map(pair).collect()
    }

    fn there(&self, fs: &SessionFs, dir: &VPath) -> Names {
        let now = Instant::now();
        if let Some((when, names)) = self.lock().seen.get(dir)
            && now.duration_since(*when) < KEEP
        {
            return Arc::clone(names);
        }
        let listing = self.runtime.block_on(async { tokio::time::timeout(WAIT, names_of(fs, dir)).await });
        let Ok(names) = listing else { return Names::default() };
        let names = Arc::new(names);
        let mut looks = self.lock();
        if looks.seen.len() >= KEPT {
            looks.forget();
        }
        looks.seen.insert(dir.clone(), (now, Arc::clone(&names)));
        names
    }
}

/// What is in a directory, as far as it can be typed and within a bound, and whether it is a directory.
pub(in crate::cli) async fn names_of(fs: &SessionFs, dir: &VPath) -> Vec<(String, bool)> {
    let mut names = Vec::new();
    let Ok(mut pages) = fs.list(dir, &ListOptions::default()).await else { return names };
    while let Ok(Some(page)) = pages.next_page().await {
        let texts = page
            .into_iter()
            .filter_map(|e| Some((std::str::from_utf8(&e.name).ok()?.to_owned(), e.metadata.is_dir())));
        names.extend(texts);
        if names.len() >= NAMES {
            break;
        }
    }
    names.sort_unstable();
    names
}

fn here(stem: &str) -> Names {
    let dir = if stem.is_empty() { "./".to_owned() } else { with_home(stem) };
    let Ok(entries) = std::fs::read_dir(Path::new(&dir)) else { return Names::default() };
    let name = |e: std::fs::DirEntry| Some((e.file_name().into_string().ok()?, e.path().is_dir()));
    let mut names: Vec<_> = entries.take(NAMES).flatten().filter_map(name).collect();
    names.sort_unstable();
    Arc::new(names)
}

/// Those that begin as what was written.
fn named(all: Vec<String>, begin: &str) -> Vec<Pair> {
    let fits = all.into_iter().filter(|name| name.starts_with(begin));
    fits.map(|name| Pair { replacement: format!("{name} "), display: name }).collect()
}

fn commands() -> Vec<String> {
    let own = OWN.iter().map(|(usage, _)| name_of(usage).to_owned());
    let cli = Cli::command();
    let mut all: Vec<String> =
        own.chain(cli.get_subcommands().filter(|c| is_shown(c)).map(|c| c.get_name().to_owned())).collect();
    all.sort_unstable();
    all
}

/// The flags of a command and those of all.
fn flags(command: &str) -> Vec<String> {
    let command = match command {
        "lls" => "ls",
        "open" => "stat",
        other => other,
    };
    let cli = Cli::command();
    let own = cli.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    let all = own.chain(cli.get_arguments()).filter(|a| !a.is_hide_set());
    let mut longs: Vec<String> = all.filter_map(|a| a.get_long()).map(|long| format!("--{long}")).collect();
    longs.sort_unstable();
    longs.dedup();
    longs
}
