//! Sites by name: how servers are opened, kept in one file of the user's.
//!
//! `$XDG_CONFIG_HOME/ferry/sites.toml`, else `~/.config/ferry/sites.toml`; written whole and atomically, for its
//! owner only, by one process at a time. A secret stands there sealed or not at all (`vault`), bound to the
//! settings that say where it is sent: who changes those in the file by hand has to store it again. What is
//! not stored is asked for at the login, as ever.
//!
//! [`Store`] is the file, [`Sites`] what stands in it, [`import`] reads other programs' files.
//!
//! Not here: the system's keyring.

mod entry;
pub mod import;
mod vault;

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};

use crate::session::{SessionOptions, raw};
use entry::Entry;
use vault::{Key, Lock};

/// The largest file that is read, bytes.
const LARGEST: u64 = 16 << 20;
/// How often a passphrase is asked for.
const PHRASES: u32 = 3;
/// The form of the file.
const VERSION: u32 = 1;

/// A site.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name; slashes set folders apart.
    pub name: String,
    /// How it is opened.
    pub options: SessionOptions,
    /// Where it begins; the login folder where it is `None`.
    pub directory: Option<String>,
}

impl Site {
    /// A site. Errors: `InvalidArgument` for a name that is empty, too long, or holds control characters.
    pub fn new(name: impl Into<String>, options: SessionOptions) -> Result<Self> {
        let name = name.into();
        let is_bad = |part: &str| part.trim() != part || part.is_empty();
        if name.len() > 255 || name.chars().any(char::is_control) || name.split('/').any(is_bad) {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{}' cannot be the name of a site", name.escape_debug()))
                .with_hint("folders are set apart by single slashes; no blanks at the ends"));
        }
        Ok(Site { name, options, directory: None })
    }

    /// Whether its options hold anything secret.
    pub fn has_secrets(&self) -> bool {
        entry::has_secrets(&self.options)
    }

    /// Takes everything out that is secret.
    pub fn forget_secrets(&mut self) {
        let o = &mut self.options;
        (o.password, o.new_password, o.ssh_private_key, o.private_key_passphrase) = (None, None, None, None);
        o.raw.retain(|(name, _)| !raw::is_secret(name));
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    path: PathBuf,
}

/// What stands in the file, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<Lock>,
    #[serde(default, rename = "site")]
    sites: Vec<Entry>,
}

impl Store {
    /// This user's. Errors: `NotFound` where the environment names no home.
    pub fn of_user() -> Result<Self> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let config = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .ok_or_else(|| {
                Error::new(ErrorKind::NotFound)
                    .with_detail("there is no place for the file of sites")
                    .with_hint("set XDG_CONFIG_HOME or HOME")
            })?;
        Ok(Store::at(config.join("ferry/sites.toml")))
    }

    /// This file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Store { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn no(&self, e: std::io::Error) -> Error {
        let words = format!("the file of sites '{}': {e}", self.path.display());
        Error::from(e).with_detail(words)
    }

    /// Reads it; a file that is not there holds no sites. Blocks. Errors: those of the disk; `PermissionDenied` for a
    /// file that others may write or own: it says where passwords go; `InvalidArgument` with the line for what makes
    /// no sense; `Unsupported` for a file of a newer Ferry.
    pub fn read(&self) -> Result<Sites> {
        let meta = match std::fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Sites::default()),
            Err(e) => return Err(self.no(e)),
        };
        let shown = self.path.display();
        let own = meta.uid() == rustix::process::getuid().as_raw();
        if !own || meta.mode() & 0o022 != 0 {
            return Err(Error::new(ErrorKind::PermissionDenied)
                .with_detail(format!(
                    "the file of sites '{shown}' is not used: others own it, or may write it"
                ))
                .with_hint("it says where passwords are sent: chmod 600, or chown"));
        }
        if meta.len() > LARGEST {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("the file of sites '{shown}' is too large")));
        }
        let text = std::fs::read_to_string(&self.path).map_err(|e| self.no(e))?;
        let senseless = |words: String| {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("the file of sites '{shown}': {words}"))
        };
        let file: File = toml::from_str(&text).map_err(|e| senseless(e.to_string()))?;
        if file.version != VERSION {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail(format!("the file of sites '{shown}' has the form {}", file.version))
                .with_hint("a newer ferry wrote it"));
        }
        let mut sites = Sites { lock: file.lock, key: None, entries: Vec::new() };
        for entry in file.sites {
            // What is wrong with one site is told now, and not when it is needed.
            entry.plain().map_err(|e| senseless(format!("the site '{}': {e}", entry.name)))?;
            if sites.find(&entry.name).is_some() {
                return Err(senseless(format!("the site '{}' stands there twice", entry.name)));
            }
            sites.entries.push(entry);
        }
        Ok(sites)
    }

    /// Changes it: reads it, lets `change` work, and writes it if that went well, while no other process does.
    /// Blocks. Errors: those of [`Store::read`], of `change`, and of writing, which leaves the file as it was.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Sites) -> Result<T>) -> Result<T> {
        // A link to the file stays one.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = target.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| self.no(e))?;
        let mut beside = target.clone().into_os_string();
        beside.push(".lock");
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&beside)
            .map_err(|e| self.no(e))?;
        // Kept, and let go with its file.
        lock.lock().map_err(|e| self.no(e))?;
        let mut sites = self.read()?;
        let changed = change(&mut sites)?;
        self.write(&target, dir, &sites)?;
        Ok(changed)
    }

    fn write(&self, target: &Path, dir: &Path, sites: &Sites) -> Result<()> {
        let mut entries = sites.entries.clone();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        // Without secrets there is nothing to lock.
        let lock = sites.lock.clone().filter(|_| entries.iter().any(|e| e.secrets.is_some()));
        let file = File { version: VERSION, lock, sites: entries };
        let text =
            toml::to_string_pretty(&file).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
        let mut new = target.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        // Of a process that died; nobody else is here.
        let _ = std::fs::remove_file(&new);
        let written = (|| {
            let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&new, target)?;
            std::fs::File::open(dir)?.sync_all()
        })();
        written.map_err(|e| {
            let _ = std::fs::remove_file(&new);
            self.no(e)
        })
    }

    /// The site of this name, with its secrets; their passphrase is asked for. Errors: `NotFound` with what has a
    /// similar name; `Unauthenticated` without the passphrase; those of [`Store::read`].
    pub async fn open(&self, name: &str, decider: &dyn Decider) -> Result<Site> {
        let store = self.clone();
        let sites = blocking(move || store.read()).await?;
        self.site_of(sites, name, decider).await
    }

    /// As [`Store::open`], but `None` for a name that no site has.
    pub async fn open_if_there(&self, name: &str, decider: &dyn Decider) -> Result<Option<Site>> {
        let store = self.clone();
        let sites = blocking(move || store.read()).await?;
        if sites.find(name).is_none() {
            return Ok(None);
        }
        self.site_of(sites, name, decider).await.map(Some)
    }

    async fn site_of(&self, mut sites: Sites, name: &str, decider: &dyn Decider) -> Result<Site> {
        let known = sites.find(name).ok_or_else(|| sites.missing(name))?.to_owned();
        if sites.is_locked(&known) {
            sites = self.unlocked(sites, decider).await?;
        }
        sites.site(&known)
    }

    /// Asks for the passphrase until it fits.
    async fn unlocked(&self, mut sites: Sites, decider: &dyn Decider) -> Result<Sites> {
        let mut tried = false;
        for _ in 0..PHRASES {
            let query = Query::Passphrase { key: self.path.display().to_string() };
            let Answer::Secret(phrase) = decider.decide(query).await else { break };
            let trying = blocking(move || {
                let opened = sites.unlock(&phrase);
                Ok((sites, opened))
            });
            let (back, opened) = trying.await?;
            sites = back;
            tried = true;
            match opened {
                Ok(()) => return Ok(sites),
                Err(e) if e.kind() == ErrorKind::Unauthenticated => {}
                Err(e) => return Err(e),
            }
        }
        let (words, hint) = if tried {
            (
                "the passphrase does not open the stored secrets",
                "look at FERRY_SITES_PASSPHRASE, or leave it unset to be asked",
            )
        } else {
            (
                "the passphrase of the stored secrets is wanted",
                "set FERRY_SITES_PASSPHRASE, or be there to be asked",
            )
        };
        Err(Error::new(ErrorKind::Unauthenticated).with_detail(words).with_hint(hint))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))
}

/// What stands in the file.
#[derive(Debug, Default)]
pub struct Sites {
    lock: Option<Lock>,
    key: Option<Key>,
    entries: Vec<Entry>,
}

impl Sites {
    /// The names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.entries.iter().map(|e| e.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The name that is meant: this one, else the only one that differs from it by case.
    pub fn find(&self, name: &str) -> Option<&str> {
        if let Some(entry) = self.entries.iter().find(|e| e.name == name) {
            return Some(&entry.name);
        }
        let lower = name.to_lowercase();
        let mut alike = self.entries.iter().filter(|e| e.name.to_lowercase() == lower);
        match (alike.next(), alike.next()) {
            (Some(only), None) => Some(&only.name),
            _ => None,
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.iter().find(|e| e.name == name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        let lower = name.to_lowercase();
        let mut alike = self.names();
        alike.retain(|n| n.to_lowercase().contains(&lower));
        alike.truncate(5);
        let e = Error::new(ErrorKind::NotFound).with_detail(format!("there is no site '{name}'"));
        match alike.as_slice() {
            [] => e.with_hint("'ferry sites list' shows them"),
            some => e.with_hint(format!("there are: {}", some.join(", "))),
        }
    }

    /// Whether secrets of any site are stored.
    pub fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether secrets of this site are stored and not open.
    pub fn is_locked(&self, name: &str) -> bool {
        self.key.is_none() && self.entry(name).is_ok_and(|e| e.secrets.is_some())
    }

    /// Whether secrets of this site are stored.
    pub fn has_secrets(&self, name: &str) -> bool {
        self.entry(name).is_ok_and(|e| e.secrets.is_some())
    }

    /// Opens the secrets; where none are stored yet, this is the passphrase from now on. Blocks. Errors:
    /// `Unauthenticated` if it is another one.
    pub fn unlock(&mut self, phrase: &Secret) -> Result<()> {
        self.key = Some(match &self.lock {
            Some(lock) => lock.open(phrase)?,
            None => {
                let (lock, key) = Lock::new(phrase)?;
                self.lock = Some(lock);
                key
            }
        });
        Ok(())
    }

    /// The passphrase is this from now on. Blocks. Errors: `Unauthenticated` while secrets are not open.
    pub fn change_passphrase(&mut self, phrase: &Secret) -> Result<()> {
        let mut plain = Vec::new();
        for entry in self.entries.iter().filter(|e| e.secrets.is_some()) {
            plain.push(self.site(&entry.name)?);
        }
        let (lock, key) = Lock::new(phrase)?;
        (self.lock, self.key) = (Some(lock), Some(key));
        for site in plain {
            self.put(site)?;
        }
        Ok(())
    }

    /// How a site is opened, with its secrets where they are open. Errors: `NotFound`; `Unauthenticated` while they
    /// are not; `Corrupt` where they do not fit the site.
    pub fn site(&self, name: &str) -> Result<Site> {
        let entry = self.entry(name)?;
        match (&entry.secrets, &self.key) {
            (None, _) => entry.plain(),
            (Some(sealed), Some(key)) => entry.with_secrets(sealed, key),
            (Some(_), None) => Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("the secrets of the site '{name}' are not open"))),
        }
    }

    /// How a site is opened, without its secrets. Errors: `NotFound`.
    pub fn plain(&self, name: &str) -> Result<Site> {
        self.entry(name)?.plain()
    }

    /// Puts a site in, in place of one of the same name. Errors: `Unauthenticated` for a site with secrets while
    /// they are not open; `InvalidArgument` for a path that is no text.
    pub fn put(&mut self, site: Site) -> Result<()> {
        let entry = Entry::of(&site, self.key.as_ref())?;
        self.entries.retain(|e| e.name != entry.name);
        self.entries.push(entry);
        Ok(())
    }

    /// Takes a site out. Errors: `NotFound`.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.entry(name)?;
        self.entries.retain(|e| e.name != name);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
