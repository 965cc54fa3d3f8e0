//! The interpreter: commands, one after another, over [`Session`]s.
//!
//! It keeps what a script has: sessions with their directories, the local directory, options. A command that
//! fails is told, logged, and ends the script under `option batch abort`, which is how scripts begin. The
//! exit code is 0 only if no command failed.
//!
//! Not here yet: `call`, `keepuptodate`, and `-` as a source; they are refused by name.
//!
//! beyond 800 lines: one method for each command of the language, and nothing else.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Zoned;
use session_core::batch::{Decider, TransferOptions};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

use super::command::{Command, TABLE, Verb, parse, row};
use super::local::Drives;
use super::text::{Variables, expand};
use super::transfer::{self, Mode, options};
use super::xml::{Files, XmlLog, text_of};
use crate::mask::FileMask;
use crate::session::{
    Comparison, FilePermissions, FtpMode, FtpSecure, Outcome, RemoteFileInfo, Removal, Session,
    SessionOptions, Side, SshHostKeyPolicy, SynchronizationMode, SynchronizationOptions, Transfer,
    TransferResult, parse_script_url, remote_path,
};

use crate::sync::{Criteria, Difference, MaxDelete};

/// Where a script speaks.
pub trait Console: Send {
    /// A line of output.
    fn line(&mut self, text: &str);
    /// A line about something that failed.
    fn error(&mut self, text: &str);
    /// Content, for the target `-`.
    fn content(&mut self, bytes: &[u8]);
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
}

/// Seconds that stand for no end of waiting.
const FOREVER: u64 = 365 * 86_400;

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
            failed: false,
            over: false,
        })
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
        let filled = expand(line, &Variables { parameters, environment: &environment, now: &now })?;
        let Some(command) = parse(&filled)? else { return Ok(()) };
        if self.echo {
            self.console.line(&format!("> {}", shown(&filled, &command)));
        }
        if let Some(log) = &mut self.log
            && command.verb != Verb::Open
        {
            log.group(&shown(&filled, &command), SystemTime::now());
        }
        self.run(&command).await
    }

    async fn run(&mut self, c: &Command) -> Result<()> {
        match c.verb {
            Verb::Ascii => self.set_mode(Mode::Ascii),
            Verb::Binary => self.set_mode(Mode::Binary),
            Verb::Call => Err(not_yet("'call' is not built yet: there is no second shell")),
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
            Verb::KeepUpToDate => Err(not_yet("'keepuptodate' is not built yet")),
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

    async fn open(&mut self, c: &Command) -> Result<()> {
        let Some(place) = c.arguments.first() else {
            return Err(bad("'open' needs a session URL: there is nobody to ask"));
        };
        let url = if place.contains("://") { place.clone() } else { format!("sftp://{place}") };
        let (options, path) = parse_script_url(&url)?;
        let options = self.opened_with(options, c).await?;
        let name = options.shown_name();
        if let Some(log) = &mut self.log {
            log.begin(&name, SystemTime::now());
            log.group(&format!("open {}", options.to_url()), SystemTime::now());
        }
        let session = Session::new();
        session.set_reconnect_time(Duration::from_secs(self.reconnect.unwrap_or(FOREVER)));
        session.open(options, Arc::clone(&self.settings.decider)).await?;
        let home = session.home_path()?;
        let mut cwd = home.clone();
        if let Some(path) = path.filter(|p| p != "/") {
            // As in curl and sftp, a tilde is the login folder.
            let path = path.strip_prefix("/~/").unwrap_or(&path);
            cwd = VPath::parse(&home, path.as_bytes())?;
            session.list_directory(cwd.as_bytes()).await?;
        }
        let number = self.next;
        self.next += 1;
        self.slots.push(Slot { number, session, cwd: text_of(cwd.as_bytes()), name: name.clone() });
        self.current = Some(number);
        self.console.line(&format!("Active session: [{number}] {name}"));
        Ok(())
    }

    async fn opened_with(&self, options: SessionOptions, c: &Command) -> Result<SessionOptions> {
        let mut o = options;
        if let Some(file) = &self.settings.known_hosts {
            o = o.known_hosts(file);
        }
        let from_files = c.has("passwordsfromfiles");
        for (name, value) in &c.switches {
            let text = value.clone().unwrap_or_default();
            let path = || self.settings.drives.from(&self.lcd, &text);
            o = match *name {
                "privatekey" => o.ssh_private_key_path(path()?),
                "clientcert" => o.tls_client_certificate_path(path()?),
                "hostkey" if text == "*" => {
                    o.ssh_host_key_policy(SshHostKeyPolicy::GiveUpSecurityAndAcceptAny)
                }
                "hostkey" if text.eq_ignore_ascii_case("acceptnew") => {
                    o.ssh_host_key_policy(SshHostKeyPolicy::AcceptNew)
                }
                "hostkey" => o.ssh_host_key_fingerprint(text)?,
                "certificate" if text == "*" => o.give_up_security_and_accept_any_tls_host_certificate(true),
                "certificate" => o.tls_host_certificate_fingerprint(text)?,
                "username" => o.user_name(text),
                "password" | "passphrase" | "newpassword" => {
                    let secret = if from_files { first_line(path()?).await? } else { text };
                    match *name {
                        "password" => o.password(secret),
                        "passphrase" => o.private_key_passphrase(secret),
                        _ => o.new_password(secret),
                    }
                }
                "passive" => match text.to_ascii_lowercase().as_str() {
                    "" | "on" => o.ftp_mode(FtpMode::Passive),
                    "off" => o.ftp_mode(FtpMode::Active),
                    other => return Err(bad(format!("'-passive={other}': it takes on or off"))),
                },
                "implicit" => o.ftp_secure(FtpSecure::Implicit),
                "explicit" => o.ftp_secure(FtpSecure::Explicit),
                "timeout" => {
                    let seconds = text.parse().map_err(|_| bad("'-timeout' takes seconds"))?;
                    o.timeout(Duration::from_secs(seconds))?
                }
                "sessionname" => o.name(text),
                "filezilla" => {
                    return Err(not_yet("'-filezilla' is not built yet: there is no store of sites"));
                }
                _ => o,
            };
        }
        for (name, value) in c.pairs("rawsettings")? {
            o = o.add_raw_setting(name, value)?;
        }
        Ok(o)
    }

    async fn close(&mut self, c: &Command) -> Result<()> {
        let number = match c.arguments.first() {
            Some(text) => self.numbered(text)?,
            None => self.slot()?.number,
        };
        let Some(at) = self.slots.iter().position(|s| s.number == number) else { return Ok(()) };
        let slot = self.slots.remove(at);
        let closed = slot.session.close().await;
        if self.current == Some(number) {
            self.current = self.slots.last().map(|s| s.number);
        }
        self.console.line(&format!("Session '{}' closed.", slot.name));
        closed
    }

    fn numbered(&self, text: &str) -> Result<usize> {
        let number = text.parse().ok().filter(|n| self.slots.iter().any(|s| s.number == *n));
        number.ok_or_else(|| bad(format!("there is no session '{text}'")))
    }

    fn session(&mut self, c: &Command) -> Result<()> {
        match c.arguments.first() {
            Some(text) => {
                self.current = Some(self.numbered(text)?);
                let slot = self.slot()?;
                let words = format!("Active session: [{}] {}", slot.number, slot.name);
                self.console.line(&words);
            }
            None => {
                for slot in &self.slots {
                    let mark = if self.current == Some(slot.number) { " *" } else { "" };
                    self.console.line(&format!("[{}] {}{mark}", slot.number, slot.name));
                }
            }
        }
        Ok(())
    }

    // ---- looking

    fn pwd(&mut self) -> Result<()> {
        let cwd = self.slot()?.cwd.clone();
        self.console.line(&cwd);
        self.log("cwd", &[("cwd", &cwd)], None);
        Ok(())
    }

    async fn cd(&mut self, c: &Command) -> Result<()> {
        let (session, path) = match c.arguments.first() {
            Some(path) => self.at(path)?,
            None => {
                let slot = self.slot()?;
                (slot.session.clone(), text_of(slot.session.home_path()?.as_bytes()))
            }
        };
        let info = session.get_file_info(&path).await?;
        if !info.is_directory() {
            return Err(
                Error::new(ErrorKind::NotADirectory).with_detail(format!("'{path}' is not a directory"))
            );
        }
        let cwd = text_of(info.path.as_bytes());
        let number = self.slot()?.number;
        if let Some(slot) = self.slots.iter_mut().find(|s| s.number == number) {
            slot.cwd.clone_from(&cwd);
        }
        self.console.line(&cwd);
        Ok(())
    }

    async fn ls(&mut self, c: &Command) -> Result<()> {
        let (session, path) = self.at(c.arguments.first().map_or("", String::as_str))?;
        let outcome = match session.matching(&path).await {
            // A directory by its name is its content.
            Ok(found) if !found.masked => match found.files.first() {
                Some(info) if info.is_directory() => {
                    session.list_directory(info.path.as_bytes()).await.map(|d| (info.path.clone(), d.files))
                }
                _ => Ok((found.directory, found.files)),
            },
            Ok(found) => Ok((found.directory, found.files)),
            Err(e) => Err(e),
        };
        let (shown, files) = match outcome {
            Ok((dir, files)) => (text_of(dir.as_bytes()), Ok(files)),
            Err(e) => (path, Err(e)),
        };
        if let (Ok(files), Some(log)) = (&files, &mut self.log) {
            log.operation_with("ls", "", &[("destination", &shown)], &[Files::Listing(files)], None);
        }
        let files = match files {
            Ok(files) => files,
            Err(e) => return self.logged("ls", &[("destination", &shown)], Err(e)),
        };
        for file in &files {
            self.console.line(&long(file));
        }
        Ok(())
    }

    async fn stat(&mut self, c: &Command) -> Result<()> {
        let (session, path) = self.at(c.arguments.first().map_or("", String::as_str))?;
        let outcome = session.get_file_info(&path).await;
        if let (Ok(info), Some(log)) = (&outcome, &mut self.log) {
            log.operation_with("stat", "", &[("filename", &path)], &[Files::One(info)], None);
        }
        match outcome {
            Ok(info) => self.console.line(&long(&info)),
            Err(e) => return self.logged("stat", &[("filename", &path)], Err(e)),
        }
        Ok(())
    }

    async fn checksum(&mut self, c: &Command) -> Result<()> {
        let [algorithm, path] = c.arguments.as_slice() else { return Ok(()) };
        let (session, path) = self.at(path)?;
        let outcome = session.calculate_file_checksum(algorithm, &path).await;
        let digest = outcome.map(|(bytes, _)| session_core::digest::hex(&bytes));
        let text = digest.as_deref().unwrap_or_default().to_string();
        let all =
            [("filename", path.as_str()), ("algorithm", algorithm.as_str()), ("checksum", text.as_str())];
        // One that failed has no digest to show.
        let values = if digest.is_ok() { all.as_slice() } else { all.get(..2).unwrap_or_default() };
        let digest = self.logged("checksum", values, digest)?;
        self.console.line(&format!("{digest} {path}"));
        Ok(())
    }

    fn local(&self, text: &str) -> Result<PathBuf> {
        self.settings.drives.from(&self.lcd, text)
    }

    async fn lcd(&mut self, c: &Command) -> Result<()> {
        let path = self.local(c.arguments.first().map_or("", String::as_str))?;
        let path = tokio::fs::canonicalize(&path).await.map_err(|e| missing(e, &path))?;
        if !tokio::fs::metadata(&path).await?.is_dir() {
            return Err(bad(format!("'{}' is not a directory", path.display())));
        }
        self.lcd = path;
        self.console.line(&self.lcd.to_string_lossy());
        Ok(())
    }

    async fn lls(&mut self, c: &Command) -> Result<()> {
        let path = self.local(c.arguments.first().map_or("", String::as_str))?;
        let text = path.to_string_lossy().into_owned();
        let (dir, mask) = match tokio::fs::metadata(&path).await {
            Ok(m) if m.is_dir() => (path, "*".to_string()),
            _ => {
                let (dir, mask) = text.rsplit_once('/').unwrap_or(("", &text));
                (PathBuf::from(format!("{dir}/")), mask.to_string())
            }
        };
        let mask = crate::session::Wildcard::new(mask.as_bytes());
        let mut entries = tokio::fs::read_dir(&dir).await.map_err(|e| missing(e, &dir))?;
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            use std::os::unix::ffi::OsStrExt;
            if mask.matches(entry.file_name().as_bytes()) {
                let slash = if entry.file_type().await?.is_dir() { "/" } else { "" };
                names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
            }
        }
        names.sort();
        names.iter().for_each(|name| self.console.line(name));
        Ok(())
    }

    // ---- changing

    async fn mkdir(&mut self, c: &Command) -> Result<()> {
        let (session, path) = self.at(c.arguments.first().map_or("", String::as_str))?;
        let outcome = session.create_directory(&path).await;
        self.logged("mkdir", &[("filename", &path)], outcome)
    }

    async fn ln(&mut self, c: &Command) -> Result<()> {
        let [target, link] = c.arguments.as_slice() else { return Ok(()) };
        let (session, link) = self.at(link)?;
        session.create_symbolic_link(&link, target).await
    }

    async fn chmod(&mut self, c: &Command) -> Result<()> {
        let Some((octal, paths)) = c.arguments.split_first() else { return Ok(()) };
        let permissions = FilePermissions::from_octal(octal)?;
        let mut failed = false;
        for path in paths {
            let (session, path) = self.at(path)?;
            let found = session.matching(&path).await?;
            self.some(&path, found.files.is_empty())?;
            for file in found.files {
                let outcome = session.chmod(file.path.as_bytes(), permissions).await;
                let values =
                    [("filename", text_of(file.path.as_bytes())), ("permissions", permissions.text())];
                let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
                failed |= self.logged("chmod", &values, outcome).is_err();
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    async fn mv_or_cp(&mut self, c: &Command, name: &'static str) -> Result<()> {
        let Some((to, sources)) = c.arguments.split_last() else { return Ok(()) };
        let mut failed = false;
        for source in sources {
            let (session, source) = self.at(source)?;
            let (_, to) = self.at(to)?;
            let outcome = match name {
                "mv" => session.move_file(&source, &to).await,
                _ => session.duplicate_files(&source, &to).await,
            };
            match outcome {
                Ok(done) => {
                    for (from, to) in done {
                        let (from, to) = (text_of(from.as_bytes()), text_of(to.as_bytes()));
                        self.log(name, &[("filename", &from), ("destination", &to)], None);
                        self.console.line(&format!("{from} -> {to}"));
                    }
                }
                Err(e) => {
                    let values = [("filename", source.as_str()), ("destination", to.as_str())];
                    failed |= self.logged::<()>(name, &values, Err(e)).is_err();
                }
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    async fn rm(&mut self, c: &Command) -> Result<()> {
        let mut failed = false;
        for path in &c.arguments {
            let (session, path) = self.at(path)?;
            if c.has("onlyfile") {
                match session.remove_file(&path).await {
                    Ok(removal) => self.removed(&[removal]),
                    Err(e) => failed |= self.logged::<()>("rm", &[("filename", &path)], Err(e)).is_err(),
                }
                continue;
            }
            let result = session.remove_files(&path).await?;
            self.some(&path, result.removals.is_empty() && result.is_success())?;
            failed |= !result.is_success();
            self.removed(&result.removals);
            let alone = self.alone(&result.failures, result.removals.iter().filter_map(|r| r.failure));
            self.failures(&alone);
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    async fn rmdir(&mut self, c: &Command) -> Result<()> {
        let mut failed = false;
        for path in &c.arguments {
            let (session, path) = self.at(path)?;
            let found = session.matching(&path).await?;
            let dirs: Vec<_> = found.files.iter().filter(|f| f.is_directory()).collect();
            if !found.masked && dirs.is_empty() {
                let e =
                    Error::new(ErrorKind::NotADirectory).with_detail(format!("'{path}' is not a directory"));
                failed |= self.logged::<()>("rm", &[("filename", &path)], Err(e)).is_err();
                continue;
            }
            self.some(&path, dirs.is_empty())?;
            for dir in dirs {
                let result = session.remove_entry(dir.path.as_bytes()).await?;
                failed |= !result.is_success();
                self.removed(&result.removals);
                let alone = self.alone(&result.failures, result.removals.iter().filter_map(|r| r.failure));
                self.failures(&alone);
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    fn removed(&mut self, removals: &[Removal]) {
        for removal in removals {
            let path = text_of(removal.path.as_bytes());
            self.log("rm", &[("filename", &path)], removal.error.as_ref());
            match &removal.error {
                Some(e) => self.console.error(&format!("{e:#}")),
                None => self.console.line(&path),
            }
        }
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

    // ---- transfers

    async fn get(&mut self, c: &Command) -> Result<()> {
        let options = options(c, self.mode, self.confirm)?;
        let (sources, target) = match c.arguments.as_slice() {
            [only] => (std::slice::from_ref(only), ""),
            [sources @ .., target] => (sources, target.as_str()),
            [] => return Ok(()),
        };
        if target == "-" {
            return self.get_content(sources).await;
        }
        let target = self.local(target)?;
        let mut failed = false;
        for source in sources {
            let (session, source) = self.at(source)?;
            let mut paths = vec![source.clone()];
            if c.has("latest") || c.has("onlyfile") {
                let found = session.matching(&source).await?;
                self.some(&source, found.files.is_empty())?;
                paths = chosen(c, found.files)?;
            }
            for path in paths {
                let result = session.get_files(&path, &target, c.has("delete"), &options).await?;
                failed |= self.transferred(&path, Side::Remote, &result)?;
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    async fn put(&mut self, c: &Command) -> Result<()> {
        let options: TransferOptions = options(c, self.mode, self.confirm)?;
        let (sources, target) = match c.arguments.as_slice() {
            [only] => (std::slice::from_ref(only), ""),
            [sources @ .., target] => (sources, target.as_str()),
            [] => return Ok(()),
        };
        for switch in ["latest", "onlyfile"] {
            if c.has(switch) {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail(format!("the switch '-{switch}' of 'put' is not built yet")));
            }
        }
        let mut failed = false;
        for source in sources {
            if source == "-" {
                return Err(not_yet("the source '-' is not built yet"));
            }
            let (session, mut target) = self.at(target)?;
            if c.arguments.len() == 1 {
                target.push('/');
            }
            let path = self.local(source)?;
            let result = session.put_files(&path, &target, c.has("delete"), &options).await?;
            failed |= self.transferred(&path.to_string_lossy(), Side::Local, &result)?;
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    async fn get_content(&mut self, sources: &[String]) -> Result<()> {
        use tokio::io::AsyncReadExt as _;
        for source in sources {
            let (session, path) = self.at(source)?;
            let mut reader = session.get_file(&path).await?;
            let mut buf = vec![0; 64 << 10];
            let outcome: Result<u64> = async {
                let mut size = 0;
                loop {
                    let n = reader.read(&mut buf).await?;
                    if n == 0 {
                        return Ok(size);
                    }
                    size += n as u64;
                    self.console.content(buf.get(..n).unwrap_or_default());
                }
            }
            .await;
            let size = outcome.as_ref().map(u64::to_string).unwrap_or_default();
            let values = [("filename", path.as_str()), ("destination", "-"), ("size", size.as_str())];
            self.logged("download", &values, outcome)?;
        }
        Ok(())
    }

    /// Tells and logs what was moved; says whether anything failed.
    fn transferred(&mut self, source: &str, side: Side, result: &TransferResult) -> Result<bool> {
        let nothing = result.transfers.is_empty() && result.directories.is_empty() && result.is_success();
        self.some(source, nothing)?;
        // The schema knows operations of the server.
        for dir in result.directories.iter().filter(|_| side == Side::Local) {
            self.log("mkdir", &[("filename", &text_of(dir.as_bytes()))], None);
        }
        for transfer in &result.transfers {
            self.one(transfer);
        }
        let owned = result
            .transfers
            .iter()
            .flat_map(|t| t.failure.into_iter().chain(t.removal.as_ref().and_then(|r| r.failure)));
        let alone = self.alone(&result.failures, owned);
        self.failures(&alone);
        Ok(!result.is_success())
    }

    fn one(&mut self, t: &Transfer) {
        let name = match t.side {
            Side::Local => "upload",
            Side::Remote => "download",
        };
        let from = text_of(t.source.as_bytes());
        let (to, size) = (text_of(t.destination.as_bytes()), t.length.to_string());
        match &t.outcome {
            Outcome::Skipped(why) => {
                self.console.line(&format!("{from}: left alone: {why}"));
                return;
            }
            Outcome::Done(_) => self.console.line(&format!("{from} => {to}, {size} bytes")),
            Outcome::Failed => {
                if let Some(e) = &t.error {
                    self.console.error(&format!("{e:#}"));
                }
            }
        }
        let values = [("filename", from.as_str()), ("destination", to.as_str()), ("size", size.as_str())];
        self.log(name, &values, t.error.as_ref());
        if let Some(removal) = &t.removal {
            let path = text_of(removal.path.as_bytes());
            if t.side == Side::Remote {
                self.log("rm", &[("filename", &path)], removal.error.as_ref());
            }
            if let Some(e) = &removal.error {
                self.console.error(&format!("{e:#}"));
            }
        }
    }

    async fn synchronize(&mut self, c: &Command) -> Result<()> {
        let (mode, places) =
            c.arguments.split_first().ok_or_else(|| bad("'synchronize' needs a direction"))?;
        let mode = match mode.to_ascii_lowercase().as_str() {
            "both" => SynchronizationMode::Both,
            "local" => SynchronizationMode::Local,
            "remote" => SynchronizationMode::Remote,
            other => return Err(bad(format!("'{other}' is not local, remote or both"))),
        };
        let local = self.local(places.first().map_or("", String::as_str))?;
        let (session, remote) = self.at(places.get(1).map_or("", String::as_str))?;
        let mut options = SynchronizationOptions::new(mode);
        options.remove_files = c.has("delete");
        options.mirror = c.has("mirror");
        options.max_delete = self.settings.max_delete;
        if let Some(Some(criteria)) = c.switch("criteria") {
            // The old name of time and size.
            let both = criteria.eq_ignore_ascii_case("both");
            options.criteria = Criteria::parse(if both { "either" } else { criteria })?;
        }
        if let Some(Some(mask)) = c.switch("filemask") {
            options.mask = FileMask::parse(mask)?;
        }
        options.transfer = transfer::options(c, self.mode, self.confirm)?;
        if c.has("preview") {
            let found = session.compare_directories(&local, &remote, &options).await?;
            for difference in &found.differences {
                self.previewed(&found, difference)?;
            }
            return Ok(());
        }
        let result = session.synchronize_directories(&local, &remote, &options).await?;
        for (side, dir) in &result.directories {
            let dir = text_of(dir.as_bytes());
            if *side == Side::Remote {
                self.log("mkdir", &[("filename", &dir)], None);
            }
            self.console.line(&dir);
        }
        for transfer in result.uploads.iter().chain(&result.downloads) {
            self.one(transfer);
        }
        self.removed(&result.removals);
        for note in &result.notes {
            self.console.line(&format!("{}: left alone: {}", text_of(&note.path), note.why));
        }
        let files = result.uploads.iter().chain(&result.downloads).filter_map(|t| t.failure);
        let alone =
            self.alone(&result.failures, files.chain(result.removals.iter().filter_map(|r| r.failure)));
        self.failures(&alone);
        if result.is_success() { Ok(()) } else { Err(several()) }
    }

    /// One difference of a preview.
    fn previewed(&mut self, found: &Comparison, d: &Difference) -> Result<()> {
        let (_, action) = d.action.winscp();
        let mut values = vec![("action", action.to_ascii_lowercase())];
        for (side, facts) in [(Side::Local, &d.left), (Side::Remote, &d.right)] {
            let Some(facts) = facts else { continue };
            values.push(("type", if facts.is_dir() { "d" } else { "-" }.to_string()));
            values.push(("filename", text_of(found.path(d, side)?.as_bytes())));
            if !facts.is_dir() {
                values.push(("size", facts.size.to_string()));
            }
            if let Some(modified) = facts.modified {
                values.push(("modification", session_core::event::timestamp(modified)));
            }
        }
        let shown: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.log("difference", &shown, None);
        let side = if d.left.is_some() { Side::Local } else { Side::Remote };
        self.console.line(&format!("{action} {}", found.path(d, side)?));
        Ok(())
    }

    // ---- the rest

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

/// Of what a mask fits: the latest with `-latest`, and no directory with `-onlyfile`.
fn chosen(c: &Command, files: Vec<RemoteFileInfo>) -> Result<Vec<String>> {
    let mut files = files;
    if c.has("onlyfile")
        && let Some(dir) = files.iter().find(|f| f.is_directory())
    {
        return Err(Error::new(ErrorKind::IsADirectory).with_detail(format!("'{}' is not a file", dir.path)));
    }
    if c.has("latest") {
        files.retain(|f| !f.is_directory());
        let latest = files.into_iter().max_by_key(|f| f.last_write_time());
        files = latest.into_iter().collect();
    }
    Ok(files.iter().map(|f| remote_path::escape_file_mask(&text_of(f.path.as_bytes()))).collect())
}

async fn first_line(path: PathBuf) -> Result<String> {
    let text = tokio::fs::read_to_string(&path).await.map_err(|e| missing(e, &path))?;
    Ok(text.lines().next().unwrap_or_default().to_string())
}

fn missing(e: std::io::Error, path: &std::path::Path) -> Error {
    let words = format!("'{}': {e}", path.display());
    Error::from(e).with_detail(words)
}

/// One line of a listing.
fn long(file: &RemoteFileInfo) -> String {
    let owner = file.owner().unwrap_or_default();
    let group = file.group().unwrap_or_default();
    let time = file.last_write_time().map(session_core::event::timestamp).unwrap_or_default();
    let letter = match file.file_type() {
        'D' => 'd',
        'L' => 'l',
        other => other,
    };
    format!(
        "{letter}{} {owner:<8} {group:<8} {:>12} {time:<24} {}",
        file.file_permissions().map_or_else(|| "?????????".to_string(), FilePermissions::text),
        file.length(),
        file.name()
    )
}

/// A command for people and logs: without passwords.
fn shown(line: &str, command: &Command) -> String {
    const SECRETS: [&str; 3] = ["password", "passphrase", "newpassword"];
    if command.verb != Verb::Open {
        return line.trim().to_string();
    }
    let mut out = "open".to_string();
    for place in &command.arguments {
        let shown = match parse_script_url(place) {
            Ok((options, _)) => options.to_url(),
            Err(_) => place.rsplit_once('@').map_or_else(|| place.clone(), |(_, host)| format!("…@{host}")),
        };
        let _ = write!(out, " {shown}");
    }
    for (name, value) in &command.switches {
        let _ = match value {
            Some(_) if SECRETS.contains(name) || *name == "rawsettings" => write!(out, " -{name}=***"),
            Some(value) => write!(out, " -{name}={}", super::text::quoted(value)),
            None => write!(out, " -{name}"),
        };
    }
    out
}
