//! What the words of the shell's commands mean as places: those of the open session, those of this machine, URLs.
//!
//! Paths are the session's, from its directory, where a session is open; the sources of `put`, the target of `get`
//! and the left side of `sync`, `plan`, `diff` and `watch` are this machine's. What is a URL is what it is;
//! `file:///…` is this machine whatever the command.

use std::collections::HashSet;

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, ListOptions};
use session_core::gate::SessionFs;
use session_core::path::{VPath, display_bytes};

use crate::cli::args::Command;
use crate::mask::Wildcard;
use crate::url::Url;

/// Where a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// On this machine.
    Here,
    /// In the open session.
    There,
}

/// Places in a command.
pub(super) enum Slot<'a> {
    One(&'a mut String, Side),
    Many(&'a mut Vec<String>, Side),
    /// Sources, and the target after them.
    Last(&'a mut Vec<String>, Side, Side),
}

/// The places of a command.
pub(super) fn slots(command: &mut Command) -> Vec<Slot<'_>> {
    use Side::{Here, There};
    match command {
        Command::Ls(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Tree(a) => vec![Slot::One(&mut a.place, There)],
        Command::Stat(a) | Command::Cat(a) | Command::Df(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Get(a) => {
            if a.places.len() == 1 {
                return vec![Slot::Many(&mut a.places, There)];
            }
            vec![Slot::Last(&mut a.places, There, Here)]
        }
        Command::Put(a) => {
            if a.places.len() == 1 {
                a.places.push(".".to_owned());
            }
            vec![Slot::Last(&mut a.places, Here, There)]
        }
        Command::Cp(a) => vec![Slot::Last(&mut a.places, There, There)],
        Command::Mkdir(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Mv(a) => vec![Slot::Last(&mut a.places, There, There)],
        Command::Rm(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Ln(a) => {
            let mut all = vec![Slot::One(&mut a.link, There)];
            // What a symbolic link points to is a text.
            if !a.symbolic {
                all.push(Slot::One(&mut a.target, There));
            }
            all
        }
        Command::Chmod(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Hash(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Sync(a) => vec![Slot::One(&mut a.left, Here), Slot::One(&mut a.right, There)],
        Command::Plan(a) => vec![Slot::One(&mut a.left, Here), Slot::One(&mut a.right, There)],
        Command::Diff(a) => vec![Slot::One(&mut a.left, Here), Slot::One(&mut a.right, There)],
        Command::Watch(a) => vec![Slot::One(&mut a.left, Here), Slot::One(&mut a.right, There)],
        Command::Find(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Du(a) => vec![Slot::Many(&mut a.places, There)],
        Command::Touch(a) => {
            let mut all = vec![Slot::Many(&mut a.places, There)];
            all.extend(a.reference.as_mut().map(|r| Slot::One(r, There)));
            all
        }
        Command::Exec(a) => vec![Slot::One(&mut a.place, There)],
        #[cfg(feature = "webdav")]
        Command::Lock(a) => vec![Slot::Many(&mut a.places, There)],
        #[cfg(feature = "webdav")]
        Command::Unlock(a) => vec![Slot::Many(&mut a.places, There)],
        #[cfg(feature = "s3")]
        Command::Alter(a) => vec![Slot::Many(&mut a.places, There)],
        #[cfg(feature = "s3")]
        Command::Tag(a) => vec![Slot::Many(&mut a.places, There)],
        #[cfg(feature = "s3")]
        Command::Presign(a) => vec![Slot::Many(&mut a.places, There)],
        #[cfg(feature = "s3")]
        Command::Versions(a) => vec![Slot::One(&mut a.place, There)],
        _ => Vec::new(),
    }
}

/// Where the words after a command's name are, for completion: the first, and those after it.
pub(super) fn sides(command: &str) -> (Side, &'static [Side]) {
    use Side::{Here, There};
    match command {
        "get" => (There, &[There, Here]),
        "put" => (Here, &[Here, There]),
        "sync" | "plan" | "diff" | "watch" => (Here, &[There]),
        "lcd" | "lls" | "apply" | "hooks" | "script" => (Here, &[Here]),
        _ => (There, &[There]),
    }
}

/// What paths are relative to.
pub(super) struct Base {
    pub(super) url: Url,
    pub(super) fs: SessionFs,
    pub(super) home: VPath,
    pub(super) cwd: VPath,
}

impl Base {
    /// A path as it was written. Errors: `InvalidArgument`.
    pub(super) fn path(&self, text: &str) -> Result<VPath> {
        match text.strip_prefix('~') {
            Some("") => Ok(self.home.clone()),
            Some(rest) if rest.starts_with('/') => {
                VPath::parse(&self.home, rest.trim_start_matches('/').as_bytes())
            }
            _ => VPath::parse(&self.cwd, text.as_bytes()),
        }
    }

    /// The URL of a path, which leads to the connection that is open.
    pub(super) fn text(&self, path: &VPath, slash: bool) -> String {
        let mut out = format!("{}://", self.url.scheme);
        if let Some(user) = &self.url.user {
            encode(&mut out, user.as_bytes(), b"");
            out.push('@');
        }
        if self.url.host.contains(':') {
            out.push_str(&format!("[{}]", self.url.host));
        } else {
            encode(&mut out, self.url.host.as_bytes(), b"");
        }
        if let Some(port) = self.url.port {
            out.push_str(&format!(":{port}"));
        }
        // A tilde in the first place would be the login folder.
        if path.as_bytes().starts_with(b"/~") {
            out.push_str("/.");
        }
        encode(&mut out, path.as_bytes(), b"/");
        if slash && !out.ends_with('/') {
            out.push('/');
        }
        out
    }
}

pub(in crate::cli) fn encode(out: &mut String, bytes: &[u8], besides: &[u8]) {
    for b in bytes {
        if b.is_ascii_alphanumeric() || b"-._~".contains(b) || besides.contains(b) {
            out.push(char::from(*b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
}

/// Puts places for the words of a command; `wild` are those that are patterns. Errors: those of listing;
/// `NotFound` for a pattern that nothing fits.
pub(super) async fn bind(
    command: &mut Command,
    base: Option<&Base>,
    local: &SessionFs,
    wild: &HashSet<String>,
) -> Result<()> {
    let binder = Binder { base, local, wild };
    for slot in slots(command) {
        match slot {
            Slot::One(text, side) => *text = binder.one(text, side)?,
            Slot::Many(texts, side) => *texts = binder.many(texts, side).await?,
            Slot::Last(texts, from, to) => {
                let Some((last, sources)) = texts.split_last() else { continue };
                let mut all = binder.many(sources, from).await?;
                all.push(binder.one(last, to)?);
                *texts = all;
            }
        }
    }
    Ok(())
}

struct Binder<'a> {
    base: Option<&'a Base>,
    local: &'a SessionFs,
    wild: &'a HashSet<String>,
}

impl Binder<'_> {
    fn one(&self, text: &str, side: Side) -> Result<String> {
        if text.contains("://") {
            return Ok(text.to_owned());
        }
        match self.base.filter(|_| side == Side::There) {
            Some(base) => {
                let slash = text.is_empty() || text.ends_with('/') || matches!(text, "." | "..");
                Ok(base.text(&base.path(text)?, slash))
            }
            None => Ok(with_home(text)),
        }
    }

    async fn many(&self, texts: &[String], side: Side) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for text in texts {
            if !self.wild.contains(text) || text.contains("://") {
                all.push(self.one(text, side)?);
                continue;
            }
            let (dir, pattern) = text.rsplit_once('/').map_or(("", text.as_str()), |(d, p)| (d, p));
            let stem = if text.contains('/') { format!("{dir}/") } else { String::new() };
            let found = match self.base.filter(|_| side == Side::There) {
                Some(base) => {
                    let at = base.path(if stem.is_empty() { "." } else { &stem })?;
                    let names = matching(&base.fs, &at, pattern).await?;
                    let url = |name: Vec<u8>| Ok(base.text(&at.join(&name)?, false));
                    names.into_iter().map(url).collect::<Result<Vec<_>>>()?
                }
                None => {
                    let stem = with_home(&stem);
                    let at = std::path::absolute(if stem.is_empty() { "." } else { &stem })?;
                    let at = VPath::absolute(std::os::unix::ffi::OsStrExt::as_bytes(at.as_os_str()))?;
                    let names = matching(self.local, &at, pattern).await?;
                    // What is no text cannot be named in a line.
                    let texts = names.into_iter().filter_map(|n| String::from_utf8(n).ok());
                    texts
                        .map(
                            |name| {
                                if stem.is_empty() { format!("./{name}") } else { format!("{stem}{name}") }
                            },
                        )
                        .collect()
                }
            };
            if found.is_empty() {
                return Err(Error::new(ErrorKind::NotFound)
                    .with_detail(format!("nothing fits '{}'", display_bytes(text.as_bytes())))
                    .with_hint("in quotes it is a name"));
            }
            all.extend(found);
        }
        Ok(all)
    }
}

/// The names in a directory that fit a pattern, in order; hidden ones only where the pattern begins with a dot.
async fn matching(fs: &SessionFs, dir: &VPath, pattern: &str) -> Result<Vec<Vec<u8>>> {
    let fits = Wildcard::new(pattern.as_bytes());
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    let mut names = Vec::new();
    while let Some(page) = pages.next_page().await? {
        let shown = |name: &[u8]| pattern.starts_with('.') || !name.starts_with(b".");
        let found = page.into_iter().filter(|e| shown(&e.name) && fits.matches(&e.name));
        names.extend(found.map(|e| e.name.to_vec()));
    }
    names.sort_unstable();
    Ok(names)
}

/// A path of this machine, `~/` being the user's home.
pub(super) fn with_home(text: &str) -> String {
    let home = || std::env::var("HOME").ok().filter(|h| !h.is_empty());
    match text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')).zip(home()) {
        Some((rest, home)) => format!("{home}{rest}"),
        None => text.to_owned(),
    }
}
