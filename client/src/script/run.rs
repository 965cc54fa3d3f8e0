//! The interpreter: commands, one after another, over [`Session`]s.
//!
//! It keeps what a script has: sessions with their directories, the local directory, options. A command that
//! fails is told, logged, and ends the script under `option batch abort`, which is how scripts begin. The
//! exit code is 0 only if no command failed.
//!
//! The commands stand below, by what they do: `sessions`, `looking`, `changing`, `transfers`, `watching`.

mod call;
mod changing;
mod looking;
mod sessions;
mod transfers;
mod watching;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Zoned;
use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::intercept::Chain;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use self::sessions::shown;
use super::command::{Command, TABLE, Verb, parse, row};
use super::local::Drives;
use super::text::{Variables, expand};
use super::transfer::Mode;
use super::xml::XmlLog;
use crate::connect::RequestLimit;
use crate::live::Table;
use crate::log::SessionLog;
use crate::session::{Session, remote_path};
use crate::sites::Store;
use crate::sync::MaxDelete;

/// Where a script speaks.
pub trait Console: Send + Sync {
    /// A line of output.
    fn line(&mut self, text: &str);
    /// A line about something that failed.
    fn error(&mut self, text: &str);
    /// Content, for the target `-`.
    fn content(&mut self, bytes: &[u8]);
    /// What the source `-` reads; `None` where there is nothing to read, or it is spent.
    fn input(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        None
    }
    /// What ends a command that has no end of its own (`keepuptodate`), in good order; the script ends it, too,
    /// when the command is over. Without it, nothing does but the end of all.
    fn stop(&mut self) -> Option<CancellationToken> {
        None
    }
}

/// What a script runs with.
pub struct Settings {
    /// Who is asked; unattended use answers no.
    pub decider: Arc<dyn Decider>,
    /// `%1%` and on.
    pub parameters: Vec<String>,
    /// What drives stand for.
    pub drives: Drives,
    /// The record of known hosts; `None` for the user's own.
    pub known_hosts: Option<PathBuf>,
    /// The local directory to begin in; `None` for this process's own.
    pub directory: Option<PathBuf>,
    /// How much one `synchronize -delete` may remove.
    pub max_delete: MaxDelete,
    /// Where `open` finds sites by name; `None` for nowhere.
    pub sites: Option<Store>,
}

/// What `option batch` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchMode {
    Abort,
    Continue,
    Off,
    On,
}

struct Slot {
    number: usize,
    session: Session,
    cwd: String,
    name: String,
}

/// A script that runs.
pub struct Runner<'a> {
    settings: &'a Settings,
    console: &'a mut dyn Console,
    log: Option<XmlLog>,
    slots: Vec<Slot>,
    current: Option<usize>,
    next: usize,
    lcd: PathBuf,
    echo: bool,
    batch: BatchMode,
    confirm: bool,
    fail_on_no_match: bool,
    reconnect: Option<u64>,
    mode: Mode,
    around: Arc<Chain>,
    requests: Option<Arc<RequestLimit>>,
    talk: Option<SessionLog>,
    live: Option<Arc<Table>>,
    failed: bool,
    over: bool,
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

fn not_yet(words: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported).with_detail(words)
}

/// What is told where a command failed and its failure was logged already.
fn several() -> Error {
    Error::new(ErrorKind::Internal).with_detail("")
}

fn is_several(e: &Error) -> bool {
    e.kind() == ErrorKind::Internal && e.detail() == Some("")
}

impl<'a> Runner<'a> {
    /// A script that has not begun; with a log, if one is wanted. Errors: those of finding out the current
    /// directory.
    pub fn new(settings: &'a Settings, console: &'a mut dyn Console, log: Option<XmlLog>) -> Result<Self> {
        let lcd = match &settings.directory {
            Some(dir) => dir.clone(),
            None => std::env::current_dir()?,
        };
        Ok(Runner {
            settings,
            console,
            log,
            slots: Vec::new(),
            current: None,
            next: 1,
            lcd,
            echo: false,
            batch: BatchMode::Abort,
            confirm: false,
            fail_on_no_match: false,
            reconnect: Some(120),
            mode: Mode::default(),
            around: Arc::default(),
            requests: None,
            talk: None,
            live: None,
            failed: false,
            over: false,
        })
    }

    /// Asks these interceptors about everything in the sessions that are opened from now on.
    pub fn ask(&mut self, around: Arc<Chain>) {
        self.around = around;
    }

    /// Bounds what is asked of servers in a second, in all sessions together that are opened from now on.
    pub fn limit_requests(&mut self, limit: Option<Arc<RequestLimit>>) {
        self.requests = limit;
    }

    /// Writes down what is said, in the sessions that are opened from now on.
    pub fn log_to(&mut self, log: Option<SessionLog>) {
        self.talk = log;
    }

    /// Shows what moves files in this table, in the sessions that are opened from now on.
    pub fn show_in(&mut self, table: Arc<Table>) {
        self.live = Some(table);
    }

    /// What was logged since this was last called.
    pub fn take_log(&mut self) -> String {
        self.log.as_mut().map(XmlLog::take).unwrap_or_default()
    }

    /// Runs one line; says whether the script goes on. Dropped in the middle, its command is given up and
    /// sessions are cut when the runner is dropped.
    pub async fn line(&mut self, line: &str) -> bool {
        if self.over {
            return false;
        }
        if let Err(e) = self.step(line).await {
            self.failed = true;
            if !is_several(&e) {
                self.console.error(&format!("{e:#}"));
                if let Some(log) = &mut self.log {
                    // A session that never began has its failure all the same.
                    log.begin("nosession", SystemTime::now());
                    log.failure(&e);
                }
            }
            self.over |= self.batch == BatchMode::Abort;
        }
        !self.over
    }

    /// Closes what is open, ends the log, and gives the exit code: 0, or 1 if any command failed.
    pub async fn end(&mut self) -> u8 {
        for slot in std::mem::take(&mut self.slots) {
            let _ = slot.session.close().await;
        }
        self.current = None;
        if let Some(log) = &mut self.log {
            log.begin("nosession", SystemTime::now());
            log.end();
        }
        u8::from(self.failed)
    }

    async fn step(&mut self, line: &str) -> Result<()> {
        let trimmed = line.trim_start();
        if trimmed.starts_with([';', '#']) {
            return Ok(());
        }
        let environment = |name: &str| std::env::var(name).ok();
        let now = Zoned::now();
        let parameters = &self.settings.parameters;
        let filled = expand(line, &Variables { parameters, environment: &environment, now: &now });
        let read = filled.and_then(|filled| Ok((parse(&filled)?, filled)));
        let (command, filled) = match read {
            Ok((Some(command), filled)) => (command, filled),
            Ok((None, _)) => return Ok(()),
            Err(e) => {
                if let Some(log) = &mut self.log {
                    log.group(unread(line), SystemTime::now());
                }
                return Err(e);
            }
        };
        if self.echo {
            self.console.line(&format!("> {}", shown(&filled, &command)));
        }
        if let Some(log) = &mut self.log {
            let (shown, now) = (shown(&filled, &command), SystemTime::now());
            match command.verb {
                // It begins the session, and says what the group is called when it knows.
                Verb::Open => log.coming_group(&shown, now),
                _ => log.group(&shown, now),
            }
        }
        self.run(&command).await
    }

    async fn run(&mut self, c: &Command) -> Result<()> {
        match c.verb {
            Verb::Ascii => self.set_mode(Mode::Ascii),
            Verb::Binary => self.set_mode(Mode::Binary),
            Verb::Call => self.call(c).await,
            Verb::Cd => self.cd(c).await,
            Verb::Checksum => self.checksum(c).await,
            Verb::Chmod => self.chmod(c).await,
            Verb::Close => self.close(c).await,
            Verb::Cp => self.mv_or_cp(c, "cp").await,
            Verb::Echo => {
                self.console.line(c.arguments.first().map_or("", String::as_str));
                Ok(())
            }
            Verb::Exit => {
                self.over = true;
                Ok(())
            }
            Verb::Get => self.get(c).await,
            Verb::Help => self.help(c),
            Verb::KeepUpToDate => self.keep_up_to_date(c).await,
            Verb::Lcd => self.lcd(c).await,
            Verb::Lls => self.lls(c).await,
            Verb::Ln => self.ln(c).await,
            Verb::Lpwd => {
                self.console.line(&self.lcd.to_string_lossy());
                Ok(())
            }
            Verb::Ls => self.ls(c).await,
            Verb::Mkdir => self.mkdir(c).await,
            Verb::Mv => self.mv_or_cp(c, "mv").await,
            Verb::Open => self.open(c).await,
            Verb::Option => self.option(c),
            Verb::Put => self.put(c).await,
            Verb::Pwd => self.pwd(),
            Verb::Rm => self.rm(c).await,
            Verb::Rmdir => self.rmdir(c).await,
            Verb::Session => self.session(c),
            Verb::Stat => self.stat(c).await,
            Verb::Synchronize => self.synchronize(c).await,
        }
    }

    // ---- the log

    fn log(&mut self, name: &str, values: &[(&str, &str)], error: Option<&Error>) {
        if let Some(log) = &mut self.log {
            log.operation(name, values, error);
        }
    }

    /// Logs an operation and gives its error on, as one that was logged.
    fn logged<T>(&mut self, name: &str, values: &[(&str, &str)], outcome: Result<T>) -> Result<T> {
        self.log(name, values, outcome.as_ref().err());
        match outcome {
            Ok(value) => Ok(value),
            Err(e) => {
                self.console.error(&format!("{e:#}"));
                Err(several())
            }
        }
    }

    // ---- sessions

    fn slot(&self) -> Result<&Slot> {
        let found = self.current.and_then(|n| self.slots.iter().find(|s| s.number == n));
        found.ok_or_else(|| bad("there is no session").with_hint("'open sftp://user@host' opens one"))
    }

    /// The current session, and the whole path of an argument, its mask and slash kept.
    fn at(&self, path: &str) -> Result<(Session, String)> {
        let slot = self.slot()?;
        Ok((slot.session.clone(), remote_path::combine(&slot.cwd, path)))
    }

    fn local(&self, text: &str) -> Result<PathBuf> {
        self.settings.drives.from(&self.lcd, text)
    }

    /// The failures that belong to no operation.
    fn alone(&self, failures: &[Error], owned: impl Iterator<Item = usize>) -> Vec<Error> {
        let owned: std::collections::HashSet<usize> = owned.collect();
        failures.iter().enumerate().filter(|(n, _)| !owned.contains(n)).map(|(_, e)| e.clone()).collect()
    }

    fn failures(&mut self, failures: &[Error]) {
        for e in failures {
            self.console.error(&format!("{e:#}"));
            if let Some(log) = &mut self.log {
                log.failure(e);
            }
        }
    }

    /// A mask that nothing fits fails only under `option failonnomatch on`.
    fn some(&self, path: &str, none: bool) -> Result<()> {
        if none && self.fail_on_no_match {
            return Err(
                Error::new(ErrorKind::NotFound).with_detail(format!("no file fits the mask '{path}'"))
            );
        }
        Ok(())
    }

    // ---- what needs no session

    fn set_mode(&mut self, mode: Mode) -> Result<()> {
        self.mode = mode;
        self.console.line(mode.name());
        Ok(())
    }

    fn help(&mut self, c: &Command) -> Result<()> {
        let rows = match c.arguments.first() {
            Some(name) => vec![row(name)?],
            None => TABLE.iter().collect(),
        };
        for row in rows {
            self.console.line(&format!("{:<14} {}", row.names.join(", "), row.help));
            if c.arguments.is_empty() {
                continue;
            }
            for (name, _) in row.switches {
                self.console.line(&format!("  -{name}"));
            }
        }
        Ok(())
    }

    fn option(&mut self, c: &Command) -> Result<()> {
        let on = |value: &str| match value.to_ascii_lowercase().as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(bad(format!("'{other}' is neither on nor off"))),
        };
        let [name, value] = c.arguments.as_slice() else {
            let mut all = String::new();
            let word = |yes: bool| if yes { "on" } else { "off" };
            let batch = format!("{:?}", self.batch).to_lowercase();
            let _ = write!(
                all,
                "echo {}, batch {batch}, confirm {}, reconnecttime {}, failonnomatch {}, transfer {}",
                word(self.echo),
                word(self.confirm),
                self.reconnect.map_or_else(|| "off".to_string(), |s| s.to_string()),
                word(self.fail_on_no_match),
                self.mode.name(),
            );
            all.split(", ").for_each(|line| self.console.line(line));
            return Ok(());
        };
        match name.to_ascii_lowercase().as_str() {
            "echo" => self.echo = on(value)?,
            "confirm" => self.confirm = on(value)?,
            "failonnomatch" => self.fail_on_no_match = on(value)?,
            "transfer" => self.mode = Mode::parse(value)?,
            "batch" => {
                self.batch = match value.to_ascii_lowercase().as_str() {
                    "abort" => BatchMode::Abort,
                    "continue" => BatchMode::Continue,
                    "off" => BatchMode::Off,
                    "on" => BatchMode::On,
                    other => return Err(bad(format!("'{other}' is not on, off, abort or continue"))),
                };
                if self.batch != BatchMode::Off {
                    self.reconnect = self.reconnect.or(Some(120));
                }
            }
            "reconnecttime" if value.eq_ignore_ascii_case("off") => self.reconnect = None,
            "reconnecttime" => {
                self.reconnect =
                    Some(value.parse().map_err(|_| bad("'option reconnecttime' takes seconds or off"))?);
            }
            old @ ("synchdelete" | "include" | "exclude") => {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail(format!("'option {old}' is gone; switches of the commands say it")));
            }
            other => return Err(bad(format!("there is no option '{other}'"))),
        }
        Ok(())
    }
}

/// A line that could not be read, for logs: one that may hold a secret by its first word only.
fn unread(line: &str) -> &str {
    let line = line.trim();
    let word = line.split_whitespace().next().unwrap_or_default();
    if "open".starts_with(&word.to_ascii_lowercase()) { word } else { line }
}

fn missing(e: std::io::Error, path: &std::path::Path) -> Error {
    let words = format!("'{}': {e}", path.display());
    Error::from(e).with_detail(words)
}
