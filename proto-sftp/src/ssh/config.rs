//! `ssh_config`: what a user's and the system's configuration says of a host (ssh_config(5)).
//!
//! [`resolve`] reads files through a [`Source`] and answers a [`HostConfig`], values as they stand, as
//! `ssh -G` would show them: the first value of a keyword wins, key files and certificates add up. [`Given`]
//! is what the caller says himself and stands above it; [`Given::options`] makes [`ConnectOptions`] of both.
//! Which keyword does what is in [`TABLE`], from which the documentation is made.
//!
//! Where it differs on purpose: `StrictHostKeyChecking no` accepts a new key and never a changed one; `Match
//! exec` runs nothing and never matches; algorithms can be taken away and never added. Deliberately absent:
//! canonical names, brackets in the patterns of `Include`.
//!
//! [`ConnectOptions`]: super::options::ConnectOptions

mod fill;
mod lines;
mod matching;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use session_core::error::{Error, ErrorKind, Result};

pub use fill::{ConfigUse, Given, Hop, HopLogin, assemble};
pub use table::{Effect, TABLE, as_markdown};

use super::options::Family;
use lines::Line;
use matching::{Facts, host_line, match_line};

/// The largest file that is read, bytes.
const LARGEST: u64 = 4 << 20;
/// How deep files may include each other.
const DEEPEST: usize = 16;
/// How many files are read in all.
const MOST_FILES: usize = 1024;

/// Where files come from.
pub trait Source {
    /// A file's text; `None` where there is none. `checked`: it must not be writable for others.
    fn read(&self, path: &Path, checked: bool) -> io::Result<Option<String>>;
    /// The names in a directory, sorted; none where there is no such directory.
    fn names(&self, dir: &Path) -> Vec<String>;
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The disk and the environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Source for Disk {
    fn read(&self, path: &Path, checked: bool) -> io::Result<Option<String>> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        if meta.is_dir() || meta.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file of settings"));
        }
        let own = meta.uid() == 0 || meta.uid() == rustix::process::getuid().as_raw();
        // It names commands to run: whoever can write it can run them.
        if checked && (!own || meta.mode() & 0o022 != 0) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others own it, or may write it (chmod go-w, or chown)",
            ));
        }
        let bytes = std::fs::read(path)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn names(&self, dir: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).take(MOST_FILES).collect();
        names.sort();
        names
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// A file to read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Where relative names in `Include` begin.
    base: PathBuf,
    checked: bool,
    required: bool,
}

impl ConfigFile {
    /// The user's and the system's: `~/.ssh/config`, `/etc/ssh/ssh_config`.
    pub fn usual(home: &Path) -> Vec<Self> {
        let base = home.join(".ssh");
        vec![
            ConfigFile { path: base.join("config"), base, checked: true, required: false },
            ConfigFile {
                path: "/etc/ssh/ssh_config".into(),
                base: "/etc/ssh".into(),
                checked: false,
                required: false,
            },
        ]
    }

    /// This file and no other, as with `ssh -F`.
    pub fn only(path: impl Into<PathBuf>, home: &Path) -> Vec<Self> {
        vec![ConfigFile { path: path.into(), base: home.join(".ssh"), checked: false, required: true }]
    }
}

/// For whom the files are read.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The host as the user wrote it.
    pub host: &'a str,
    /// The user, where one was given.
    pub user: Option<&'a str>,
    /// The port, where one was given.
    pub port: Option<u16>,
    /// Who runs this program.
    pub local_user: &'a str,
    /// Where `~` leads.
    pub home: &'a Path,
}

/// What to do about unknown host keys (`StrictHostKeyChecking`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// `yes`.
    Yes,
    /// `ask`.
    Ask,
    /// `accept-new`; `no` and `off` are taken for it.
    AcceptNew,
}

/// What the files say of a host: raw values, tokens and tildes not yet replaced, except in `host_name`.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // one field for each keyword, see TABLE
pub struct HostConfig {
    pub address_family: Option<Family>,
    pub bind_address: Option<String>,
    pub certificate_files: Vec<String>,
    pub ciphers: Option<String>,
    pub connect_timeout: Option<Option<Duration>>,
    pub global_known_hosts: Option<Vec<String>>,
    pub hash_known_hosts: Option<bool>,
    pub host_key_algorithms: Option<String>,
    pub host_key_alias: Option<String>,
    pub host_name: Option<String>,
    pub identities_only: Option<bool>,
    pub identity_agent: Option<String>,
    pub identity_files: Vec<String>,
    pub kbd_interactive: Option<bool>,
    pub kex_algorithms: Option<String>,
    pub macs: Option<String>,
    pub password: Option<bool>,
    pub port: Option<u16>,
    pub preferred_authentications: Option<String>,
    pub proxy_command: Option<String>,
    pub proxy_jump: Option<String>,
    pub pubkey: Option<bool>,
    pub server_alive_count_max: Option<u32>,
    pub server_alive_interval: Option<Duration>,
    pub strict_host_key_checking: Option<Strictness>,
    pub user: Option<String>,
    pub user_known_hosts: Option<Vec<String>>,
    /// What was met that is not known or not done here, once each, in words.
    pub warnings: Vec<String>,
}

/// Reads what `files` say of a host. Blocks. Errors: `InvalidArgument` with file and line for what makes no
/// sense; those of reading; `Unsupported` for what must not be passed over.
pub fn resolve(files: &[ConfigFile], asked: &Asked<'_>, source: &dyn Source) -> Result<HostConfig> {
    let mut pass = Pass::new(asked, source, asked.host.to_owned(), false);
    for file in files {
        pass.file(&file.path, file, true, 0)?;
    }
    if pass.wants_final {
        // `Match final`: once more, with the host that was found; what is set stays.
        let host = pass.host_name()?;
        let mut again = Pass::new(asked, source, host.clone(), true);
        again.out = pass.out;
        again.told = pass.told;
        again.out.host_name = Some(host);
        for file in files {
            again.file(&file.path, file, true, 0)?;
        }
        pass = again;
    }
    pass.out.host_name = Some(pass.host_name()?);
    Ok(pass.out)
}

/// The hosts that `files` and what they include name outright: each `Host` without a pattern, once, in order,
/// whatever stands around it. Blocks. Errors: as [`resolve`], for lines that cannot be read.
pub fn hosts(files: &[ConfigFile], home: &Path, source: &dyn Source) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    // The last one is read next.
    let mut left: Vec<(PathBuf, &ConfigFile, usize)> =
        files.iter().rev().map(|file| (file.path.clone(), file, 0)).collect();
    let mut read = 0;
    while let Some((path, file, depth)) = left.pop() {
        read += 1;
        if depth > DEEPEST || read > MOST_FILES {
            return Err(bad(&path, 0, "files include each other without end"));
        }
        let text = source.read(&path, file.checked).map_err(|e| {
            let words = format!("'{}' cannot be used: {e}", path.display());
            Error::from(e).with_detail(words)
        })?;
        if text.is_none() && file.required && depth == 0 {
            return Err(
                Error::new(ErrorKind::NotFound).with_detail(format!("there is no file '{}'", path.display()))
            );
        }
        let mut included = Vec::new();
        for (number, line) in text.unwrap_or_default().lines().enumerate() {
            let at = |words: String| bad(&path, number + 1, &words);
            let Some(line) = Line::parse(line).map_err(at)? else { continue };
            match line.keyword.as_str() {
                "host" => {
                    for name in line.args.iter().filter(|n| !n.is_empty() && !n.contains(['*', '?', '!'])) {
                        if !names.contains(name) {
                            names.push(name.clone());
                        }
                    }
                }
                "include" => {
                    for pattern in &line.args {
                        let pattern = matching::tilde(pattern, home, source).map_err(at)?;
                        included.extend(matching::glob(&file.base.join(pattern), source));
                    }
                }
                _ => {}
            }
        }
        left.extend(included.into_iter().rev().map(|path| (path, file, depth + 1)));
    }
    Ok(names)
}

struct Pass<'a> {
    asked: &'a Asked<'a>,
    source: &'a dyn Source,
    /// What `Host` is compared with.
    host: String,
    is_final: bool,
    wants_final: bool,
    files: usize,
    out: HostConfig,
    ignored: Vec<String>,
    told: BTreeSet<String>,
}

impl<'a> Pass<'a> {
    fn new(asked: &'a Asked<'a>, source: &'a dyn Source, host: String, is_final: bool) -> Self {
        Pass {
            asked,
            source,
            host,
            is_final,
            wants_final: false,
            files: 0,
            out: HostConfig::default(),
            ignored: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// The host to reach: HostName, with `%h` for what was asked for.
    fn host_name(&self) -> Result<String> {
        match &self.out.host_name {
            Some(name) => matching::expand_host(name, &self.host),
            None => Ok(self.host.clone()),
        }
    }

    fn file(&mut self, path: &Path, file: &ConfigFile, mut active: bool, depth: usize) -> Result<()> {
        self.files += 1;
        if depth > DEEPEST || self.files > MOST_FILES {
            return Err(bad(path, 0, "files include each other without end"));
        }
        let text = self.source.read(path, file.checked).map_err(|e| {
            let words = format!("'{}' cannot be used: {e}", path.display());
            Error::from(e).with_detail(words)
        })?;
        let Some(text) = text else {
            if file.required && depth == 0 {
                return Err(Error::new(ErrorKind::NotFound)
                    .with_detail(format!("there is no file '{}'", path.display())));
            }
            return Ok(());
        };
        let outside = active;
        for (number, text) in text.lines().enumerate() {
            let at = |words: String| bad(path, number + 1, &words);
            let Some(line) = Line::parse(text).map_err(at)? else { continue };
            match line.keyword.as_str() {
                "host" => active = outside && host_line(&line.args, &self.host).map_err(at)?,
                "match" => {
                    let facts = Facts {
                        host: &self.host_name()?,
                        original: self.asked.host,
                        user: self.asked.user.or(self.out.user.as_deref()).unwrap_or(self.asked.local_user),
                        local_user: self.asked.local_user,
                        is_final: self.is_final,
                    };
                    let answer = match_line(&line.args, &facts).map_err(at)?;
                    self.wants_final |= answer.wants_final;
                    for criterion in answer.unknown {
                        self.warn(&format!("'Match {criterion}' is not known here and never matches"));
                    }
                    active = outside && answer.matches;
                }
                "include" if active => {
                    if line.args.is_empty() {
                        return Err(at("Include names no file".into()));
                    }
                    for pattern in &line.args {
                        let pattern = matching::tilde(pattern, self.asked.home, self.source).map_err(at)?;
                        let pattern = file.base.join(pattern);
                        for included in matching::glob(&pattern, self.source) {
                            self.file(&included, file, active, depth + 1)?;
                        }
                    }
                }
                "include" => {}
                _ => self.set(&line, active).map_err(|words| match words {
                    Complaint::Senseless(words) => at(words),
                    Complaint::Refused(words) => Error::new(ErrorKind::Unsupported).with_detail(format!(
                        "{}:{}: {words}",
                        path.display(),
                        number + 1
                    )),
                })?,
            }
        }
        Ok(())
    }

    fn warn(&mut self, words: &str) {
        if self.told.insert(words.to_owned()) {
            self.out.warnings.push(words.to_owned());
        }
    }

    /// One setting. Its value must make sense wherever it stands; it counts where it is active, and where
    /// none came before.
    fn set(&mut self, line: &Line, active: bool) -> Result<(), Complaint> {
        let out = &mut self.out;
        match line.keyword.as_str() {
            "addressfamily" => {
                let family = match line.one()?.to_ascii_lowercase().as_str() {
                    "any" => Family::Any,
                    "inet" => Family::V4,
                    "inet6" => Family::V6,
                    other => return Err(format!("'{other}' is not a family of addresses").into()),
                };
                first(&mut out.address_family, family, active);
            }
            "bindaddress" => first(&mut out.bind_address, line.one()?.to_owned(), active),
            "certificatefile" => add(&mut out.certificate_files, line.one()?, active),
            "ciphers" => first(&mut out.ciphers, line.one()?.to_owned(), active),
            "connecttimeout" => {
                let text = line.one()?;
                let value = if text == "none" { None } else { Some(lines::time(text)?) };
                first(&mut out.connect_timeout, value, active);
            }
            "globalknownhostsfile" => first(&mut out.global_known_hosts, line.several()?, active),
            "hashknownhosts" => first(&mut out.hash_known_hosts, line.yes()?, active),
            "hostkeyalgorithms" => first(&mut out.host_key_algorithms, line.one()?.to_owned(), active),
            "hostkeyalias" => first(&mut out.host_key_alias, line.one()?.to_owned(), active),
            "hostname" => first(&mut out.host_name, line.one()?.to_owned(), active),
            "identitiesonly" => first(&mut out.identities_only, line.yes()?, active),
            "identityagent" => first(&mut out.identity_agent, line.one()?.to_owned(), active),
            "identityfile" => add(&mut out.identity_files, line.one()?, active),
            "ignoreunknown" => {
                if active {
                    self.ignored.extend(line.one()?.to_ascii_lowercase().split(',').map(str::to_owned));
                }
            }
            "kbdinteractiveauthentication" | "challengeresponseauthentication" => {
                first(&mut out.kbd_interactive, line.yes()?, active);
            }
            "kexalgorithms" => first(&mut out.kex_algorithms, line.one()?.to_owned(), active),
            "macs" => first(&mut out.macs, line.one()?.to_owned(), active),
            "passwordauthentication" => first(&mut out.password, line.yes()?, active),
            "port" => {
                let text = line.one()?;
                let port = text.parse::<u16>().ok().filter(|p| *p > 0);
                let port = port.or((text == "ssh").then_some(22));
                first(&mut out.port, port.ok_or_else(|| format!("'{text}' is not a port"))?, active);
            }
            "preferredauthentications" => {
                first(&mut out.preferred_authentications, line.one()?.to_owned(), active);
            }
            // Of the two ways, the one that is named first counts.
            "proxycommand" => {
                let free = out.proxy_jump.is_none();
                first(&mut out.proxy_command, line.rest()?.to_owned(), active && free);
            }
            "proxyjump" => {
                let hops = line.rest()?.to_owned();
                Hop::parse_list(&hops)?;
                let free = out.proxy_command.is_none();
                first(&mut out.proxy_jump, hops, active && free);
            }
            "pubkeyauthentication" => {
                // `unbound` and `host-bound` speak of an extension that is not there.
                let on = matches!(line.one()?, "unbound" | "host-bound") || line.yes()?;
                first(&mut out.pubkey, on, active);
            }
            "serveralivecountmax" => {
                let text = line.one()?;
                let count = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
                first(&mut out.server_alive_count_max, count, active);
            }
            "serveraliveinterval" => first(&mut out.server_alive_interval, lines::time(line.one()?)?, active),
            "stricthostkeychecking" => {
                let value = match line.one()?.to_ascii_lowercase().as_str() {
                    "yes" | "true" => Strictness::Yes,
                    "ask" => Strictness::Ask,
                    "accept-new" | "no" | "false" | "off" => Strictness::AcceptNew,
                    other => return Err(format!("'{other}' is not a value of StrictHostKeyChecking").into()),
                };
                first(&mut out.strict_host_key_checking, value, active);
            }
            "user" => first(&mut out.user, line.one()?.to_owned(), active),
            "userknownhostsfile" => first(&mut out.user_known_hosts, line.several()?, active),
            other => self.unheeded(other, line, active)?,
        }
        Ok(())
    }

    fn unheeded(&mut self, keyword: &str, line: &Line, active: bool) -> Result<(), Complaint> {
        let covers = |p: &String| super::known_hosts::wildcard(p.as_bytes(), keyword.as_bytes());
        if !active || self.ignored.iter().any(covers) {
            return Ok(());
        }
        let off = matches!(
            line.args.first().map(|a| a.to_ascii_lowercase()).as_deref(),
            Some("no" | "none" | "false")
        );
        match table::effect(keyword) {
            Some((_, Effect::Honoured | Effect::Nothing)) => {}
            Some(_) if off => {}
            Some((name, Effect::Warned)) => self.warn(&format!("'{name}' is not done here")),
            Some((name, Effect::Refused)) => {
                return Err(Complaint::Refused(format!(
                    "'{name}' is not done here and must not be passed over"
                )));
            }
            None => {
                let shown = session_core::path::display_bytes(keyword.as_bytes());
                self.warn(&format!("the keyword '{shown}' is not known"));
            }
        }
        Ok(())
    }
}

enum Complaint {
    Senseless(String),
    Refused(String),
}

impl From<String> for Complaint {
    fn from(words: String) -> Self {
        Complaint::Senseless(words)
    }
}

fn first<T>(slot: &mut Option<T>, value: T, active: bool) {
    if active {
        slot.get_or_insert(value);
    }
}

fn add(list: &mut Vec<String>, value: &str, active: bool) {
    if active && !list.iter().any(|v| v == value) {
        list.push(value.to_owned());
    }
}

fn bad(path: &Path, line: usize, words: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(format!("{}:{line}: {words}", path.display()))
}

#[cfg(test)]
mod tests;
