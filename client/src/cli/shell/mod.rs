//! `ferry shell`: the commands of `ferry`, one a line, over sessions that stay open.
//!
//! A line is parsed by the same definition as the command line, after the shell's own few commands ([`OWN`]); paths
//! are put in place by `bind`. On a terminal it goes on after a failure, and Ctrl-C ends the command that runs and
//! nothing else. From a pipe the first failure ends it with the exit code of that command, unless its line begins
//! with `-`.

mod bind;
mod complete;
mod prompt;
mod words;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, CommandFactory as _};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow};

pub(super) use self::bind::encode;
use self::bind::{Base, bind, with_home};
use self::complete::Looks;
pub(super) use self::complete::names_of;
use self::prompt::Input;
use self::words::{Word, split};
use super::args::{Cli, Command, Global, Paths};
use super::commands::{Context, dispatch};
use super::exit;
use super::interrupted;
use super::lines;
use super::render;
use crate::jobs::Side;

/// `shell`.
#[derive(Args)]
pub(super) struct Shell {
    /// What to open first
    #[arg(value_name = "PLACE")]
    pub(super) place: Option<String>,
}

/// The commands that are not those of `ferry`: how they are written, and what they do.
const OWN: &[(&str, &str)] = &[
    ("open PLACE", "Open a session; flags of the command line may be given"),
    ("close [N]", "Close a session: the current one, or that of this number"),
    ("session [N]", "List sessions, or make another one the current one"),
    ("cd [DIR]", "Change the directory there; without one, to the login folder"),
    ("pwd", "Show the directory there"),
    ("lcd [DIR]", "Change the directory here; without one, to your own"),
    ("lpwd", "Show the directory here"),
    ("lls [PLACE]…", "List directories here, as 'ls' does"),
    ("exec COMMAND…", "Run a command of the server, in the directory there"),
    ("help [COMMAND]", "Show the commands, or one of them"),
    ("exit", "End; so does the end of the input"),
];

/// The name of an own command.
fn name_of(usage: &str) -> &str {
    usage.split(' ').next().unwrap_or_default()
}

/// An open session.
struct Open {
    number: usize,
    /// As people know it.
    name: String,
    /// Its connection among the open places.
    key: String,
    base: Base,
}

struct Sessions<'a> {
    cx: &'a mut Context,
    /// The flags that `ferry shell` was given, for every line.
    flags: Vec<OsString>,
    /// What they come to; what a line says stands above it for that line.
    usual: Global,
    open: Vec<Open>,
    current: Option<usize>,
    next: usize,
    looks: Arc<Mutex<Looks>>,
}

/// How a line ended.
enum Line {
    Code(u8),
    Over,
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

pub(super) async fn shell(cx: &mut Context, a: &Shell) -> Result<()> {
    let attended = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let looks = Arc::new(Mutex::new(Looks::default()));
    let flags = given_flags();
    let usual = cx.global.clone();
    let mut sessions = Sessions { cx, flags, usual, open: Vec::new(), current: None, next: 1, looks };
    sessions.cx.places.keep_channels(0);
    let mut input = Input::new(attended, Arc::clone(&sessions.looks))?;
    let done = sessions.run(a, attended, &mut input).await;
    input.end();
    match done {
        0 => Ok(()),
        code => {
            sessions.cx.fail_with(code);
            Ok(())
        }
    }
}

/// The flags of every command that this process was given, as they were.
fn given_flags() -> Vec<OsString> {
    Cli::command().try_get_matches().map(|matches| flags_of(&matches)).unwrap_or_default()
}

/// The flags of every command among those of a line, as they were.
pub(super) fn flags_of(matches: &clap::ArgMatches) -> Vec<OsString> {
    let command = Cli::command();
    let globals: Vec<_> = command.get_arguments().filter(|a| a.is_global_set()).cloned().collect();
    let mut flags = Vec::new();
    for arg in globals {
        let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
        if matches.value_source(id) != Some(clap::parser::ValueSource::CommandLine) {
            continue;
        }
        if matches!(arg.get_action(), clap::ArgAction::SetTrue) {
            flags.push(format!("--{long}").into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut flag = OsString::from(format!("--{long}="));
            flag.push(value);
            flags.push(flag);
        }
    }
    flags
}

impl Sessions<'_> {
    /// Runs what is read; the exit code.
    async fn run(&mut self, a: &Shell, attended: bool, input: &mut Input) -> u8 {
        if let Some(place) = &a.place {
            let words = vec!["open".to_owned(), "--".to_owned(), place.clone()];
            let opened = tokio::select! {
                biased;
                opened = self.open(&words) => opened,
                () = interrupted() => Err(ErrorKind::Canceled.into()),
            };
            if let Err(e) = opened {
                let code = self.tell(&e);
                if !attended {
                    return code;
                }
            }
            self.look();
        }
        loop {
            let line = match input.line(&self.prompt()).await {
                Ok(Some(line)) => line,
                Ok(None) => return 0,
                Err(e) => return self.tell(&e),
            };
            let line = line.trim();
            let (line, forgiven) = match line.strip_prefix('-') {
                Some(rest) => (rest, true),
                None => (line, false),
            };
            let done = tokio::select! {
                biased;
                done = self.line(line) => done,
                () = interrupted() => {
                    eprintln!("interrupted");
                    Line::Code(exit::INTERRUPTED)
                }
            };
            match done {
                Line::Over => return 0,
                Line::Code(0) => {}
                Line::Code(_) if attended || forgiven => {}
                Line::Code(code) => return code,
            }
        }
    }

    fn prompt(&self) -> String {
        match self.now() {
            Some(open) => format!("{}:{}> ", open.name, open.base.cwd),
            None => "ferry> ".to_owned(),
        }
    }

    fn now(&self) -> Option<&Open> {
        self.open.iter().find(|o| Some(o.number) == self.current)
    }

    fn opened(&self) -> Result<&Open> {
        self.now().ok_or_else(|| bad("there is no session").with_hint("'open sftp://user@host' opens one"))
    }

    /// Tells a failure; its code.
    fn tell(&self, e: &Error) -> u8 {
        render::complain(e, self.cx.global.json);
        exit::of(e.kind())
    }

    async fn line(&mut self, line: &str) -> Line {
        // The line before may have been broken off.
        self.cx.take_failed();
        self.back_to_usual();
        self.lock().forget();
        let words = match split(line) {
            Ok(words) => words,
            Err(e) => return Line::Code(self.tell(&e)),
        };
        let texts: Vec<String> = words.iter().map(|w| w.text.clone()).collect();
        let Some(name) = texts.first().map(String::as_str) else { return Line::Code(0) };
        let own = match name {
            "bye" | "exit" | "quit" => return Line::Over,
            "cd" => self.cd(&texts).await,
            "close" => self.close(&texts).await,
            "help" => self.help(&texts),
            "lcd" => self.lcd(&texts).await,
            "lpwd" => {
                std::env::current_dir().map_err(Error::from).map(|dir| self.say(&dir.display().to_string()))
            }
            "open" => self.open(&texts).await,
            "pwd" => self.opened().map(|o| o.base.cwd.display()).map(|dir| self.say(&dir)),
            "session" => self.session(&texts),
            _ => return Line::Code(self.command(name, &words).await),
        };
        self.look();
        Line::Code(own.err().map_or(0, |e| self.tell(&e)))
    }

    #[allow(clippy::print_stdout, reason = "this is where the program speaks")]
    fn say(&self, text: &str) {
        if self.cx.global.json {
            println!("{}", lines::line(&lines::OUTPUT, serde_json::json!({ "text": text })));
        } else {
            println!("{text}");
        }
    }

    /// Parses what the command line would be. `None`: it has been told why not.
    fn parse(&self, words: impl IntoIterator<Item = impl Into<OsString>>) -> std::result::Result<Cli, u8> {
        let all = std::iter::once(OsString::from("ferry"))
            .chain(self.flags.iter().cloned())
            .chain(words.into_iter().map(Into::into));
        // What a line says stands above what the shell was given.
        let matches = Cli::command().args_override_self(true).try_get_matches_from(all);
        matches.and_then(|m| <Cli as clap::FromArgMatches>::from_arg_matches(&m)).map_err(|e| {
            let _ = e.print();
            if e.use_stderr() { exit::USAGE } else { 0 }
        })
    }

    /// Flags of one line are not those of the next.
    fn back_to_usual(&mut self) {
        self.cx.global = self.usual.clone();
        *self.cx.places.global_mut() = self.usual.clone();
    }

    fn take_flags(&mut self, global: &Global) -> Result<()> {
        #[cfg(feature = "hooks")]
        if global.hooks != self.usual.hooks {
            return Err(bad("handlers are given to 'ferry shell' itself"));
        }
        self.cx.global = global.clone();
        *self.cx.places.global_mut() = global.clone();
        Ok(())
    }

    /// A command of `ferry`; its code.
    async fn command(&mut self, name: &str, words: &[Word]) -> u8 {
        let mut texts: Vec<String> = words.iter().map(|w| w.text.clone()).collect();
        let here = name == "lls";
        if here && let Some(first) = texts.first_mut() {
            "ls".clone_into(first);
        }
        let takes_place = texts.iter().any(|t| t == "--");
        if name == "exec" && !takes_place {
            texts.splice(1..1, [".".to_owned(), "--".to_owned()]);
        }
        let mut cli = match self.parse(&texts) {
            Ok(cli) => cli,
            Err(code) => return code,
        };
        let result = match &mut cli.command {
            Command::CompletePlace { .. } | Command::Docs { .. } | Command::Shell(_) => {
                Err(bad(format!("'{name}' is no command of the shell")))
            }
            command => {
                let wild = words.iter().filter(|w| w.wild).map(|w| w.text.clone()).collect::<HashSet<_>>();
                match self.cx.places.local() {
                    Ok(local) => {
                        let base = self.now().filter(|_| !here).map(|o| &o.base);
                        bind(command, base, &local, &wild).await
                    }
                    Err(e) => Err(e),
                }
            }
        };
        let result = match result.and_then(|()| self.take_flags(&cli.global)) {
            Ok(()) => dispatch(self.cx, &cli.command).await,
            Err(e) => Err(e),
        };
        let code = match result {
            Ok(()) => self.cx.take_failed(),
            Err(e) => {
                self.cx.take_failed();
                self.tell(&e)
            }
        };
        self.back_to_usual();
        self.lock().forget();
        code
    }

    async fn open(&mut self, texts: &[String]) -> Result<()> {
        // The flags of every command, and one place.
        let words = std::iter::once("stat".to_owned()).chain(texts.iter().skip(1).cloned());
        let cli = match self.parse(words) {
            Ok(cli) => cli,
            Err(_) => return Err(bad("'open' takes a place and flags of the command line")),
        };
        let Command::Stat(Paths { places }) = &cli.command else { return Err(bad("'open' takes a place")) };
        let [place] = places.as_slice() else { return Err(bad("'open' takes one place")) };
        self.take_flags(&cli.global)?;
        let place = self.cx.places.open(place).await?;
        let Side::Remote(url) = place.side else {
            return Err(bad(format!("'{}' is on this machine", place.shown)).with_hint("'lcd' goes there"));
        };
        let home = self.cx.places.home(&place.key)?;
        let found = place.fs.stat(&place.path, Follow::Yes).await;
        if !found.as_ref().is_ok_and(session_core::metadata::Metadata::is_dir) {
            let used = self.open.iter().any(|o| o.key == place.key);
            if !used {
                self.cx.places.close_one(&place.key).await;
            }
            return Err(match found {
                Ok(_) => Error::new(ErrorKind::NotADirectory)
                    .with_detail(format!("'{}' is no directory", place.shown)),
                Err(e) => e,
            });
        }
        let name = match (url.site(), &url.user) {
            (Some(site), _) => site.to_owned(),
            (None, Some(user)) => format!("{user}@{}", url.host),
            (None, None) => url.host.clone(),
        };
        let number = self.next;
        self.next += 1;
        self.current = Some(number);
        let base = Base { url: *url, fs: place.fs, home, cwd: place.path };
        self.open.push(Open { number, name, key: place.key, base });
        Ok(())
    }

    async fn close(&mut self, texts: &[String]) -> Result<()> {
        let number = match texts.get(1) {
            Some(text) => self.numbered(text)?,
            None => self.opened()?.number,
        };
        let Some(at) = self.open.iter().position(|o| o.number == number) else { return Ok(()) };
        let open = self.open.remove(at);
        if self.current == Some(number) {
            self.current = self.open.last().map(|o| o.number);
        }
        // Two sessions with one server have one connection.
        if !self.open.iter().any(|o| o.key == open.key) {
            self.cx.places.close_one(&open.key).await;
        }
        Ok(())
    }

    fn numbered(&self, text: &str) -> Result<usize> {
        let number = text.parse().ok().filter(|n| self.open.iter().any(|o| o.number == *n));
        number.ok_or_else(|| bad(format!("there is no session '{text}'")))
    }

    fn session(&mut self, texts: &[String]) -> Result<()> {
        if let Some(text) = texts.get(1) {
            self.current = Some(self.numbered(text)?);
            return Ok(());
        }
        for o in &self.open {
            let mark = if self.current == Some(o.number) { '*' } else { ' ' };
            self.say(&format!("{mark}{} {}:{}", o.number, o.name, o.base.cwd));
        }
        Ok(())
    }

    async fn cd(&mut self, texts: &[String]) -> Result<()> {
        let base = &self.opened()?.base;
        let to = base.path(texts.get(1).map_or("~", String::as_str))?;
        if !base.fs.stat(&to, Follow::Yes).await?.is_dir() {
            return Err(Error::new(ErrorKind::NotADirectory).with_detail(format!("'{to}' is no directory")));
        }
        let current = self.current;
        if let Some(open) = self.open.iter_mut().find(|o| Some(o.number) == current) {
            open.base.cwd = to;
        }
        Ok(())
    }

    async fn lcd(&mut self, texts: &[String]) -> Result<()> {
        let to = with_home(texts.get(1).map_or("~", String::as_str));
        std::env::set_current_dir(&to).map_err(|e| {
            let words = format!("'{to}': {e}");
            Error::from(e).with_detail(words)
        })?;
        // Places of this machine begin where it was when they were opened.
        self.cx.places.close_one("").await;
        Ok(())
    }

    fn help(&self, texts: &[String]) -> Result<()> {
        if let Some(name) = texts.get(1) {
            if let Some((usage, about)) = OWN.iter().find(|(usage, _)| name_of(usage) == name) {
                self.say(&format!("{about}\n\nUsage: {usage}"));
                return Ok(());
            }
            let _ = self.parse([name.as_str(), "--help"]);
            return Ok(());
        }
        for (usage, about) in OWN {
            self.say(&format!("{usage:<16} {about}"));
        }
        for command in Cli::command().get_subcommands().filter(|c| is_shown(c)) {
            self.say(&format!(
                "{:<16} {}",
                command.get_name(),
                command.get_about().cloned().unwrap_or_default()
            ));
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completion looks where the session is now.
    fn look(&self) {
        let at = self.now().map(|o| (o.base.fs.clone(), o.base.home.clone(), o.base.cwd.clone()));
        self.lock().at(at);
    }
}

/// Whether the shell has a command of `ferry` under its own name.
fn is_shown(command: &clap::Command) -> bool {
    !command.is_hide_set()
        && !["docs", "shell"].contains(&command.get_name())
        && !OWN.iter().any(|(usage, _)| name_of(usage) == command.get_name())
}
