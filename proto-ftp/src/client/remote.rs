//! `FtpRemote`: a server's files as a [`Filesystem`].
//!
//! A virtual path is the server's absolute path; on servers whose paths do not begin with a slash it is
//! relative to the login's folder. The server follows its own links. Capabilities are what FEAT and SITE
//! HELP say. FTP's replies are vague: a kind is asked for again only where a caller's next step depends on
//! it (existence), and `precise_errors` is off. `Replace::No` is a look before the rename, which is not
//! one step; nothing in FTP is.
//!
//! Deliberately absent: random writes, owners, properties, locks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use session_core::batch::Decider;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{
    Algorithm, File, Filesystem, Follow, ListOptions, Listing, OpenOptions, Replace, Space,
};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};

use super::features::{Facts, ServerKind};
use super::list;
use super::login::Dialer;
use super::machine::Command;
use super::options::{DataMode, Encoding, FtpConnectOptions};
use super::pool::Pool;
use super::read::ReadFile;
use super::refine::{as_kind, error_of, is_unknown};
use super::write::WriteFile;
use crate::listing::facts_parser;
use crate::wire::reply::Reply;

/// Lines of listings that are kept raw.
const KEPT: usize = 32;

/// What a remote is made of.
pub(super) struct Remote {
    pub(super) pool: Arc<Pool>,
    facts: Facts,
    /// What the facts say, asked for many times with each file.
    capabilities: Capabilities,
    skipped: AtomicU64,
    kept: Mutex<VecDeque<Bytes>>,
}

/// A server's files. Cheap to clone; clones share the connections. Dropping the last one closes them.
#[derive(Clone)]
pub struct FtpRemote(Arc<Remote>);

impl std::fmt::Debug for FtpRemote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FtpRemote").field("facts", &self.0.facts).finish_non_exhaustive()
    }
}

/// Connects, makes sure of the server, logs in and learns what it can do.
///
/// Errors: `NotFound` (no such host), `Disconnected`, `TimedOut`, `Throttled` (too many connections),
/// `Unauthenticated` (the certificate, with its fingerprint; the login), `Unsupported` (no TLS where it was
/// asked for), `InvalidArgument` (the options), `PeerMisbehaved`, `Canceled`. Dropping the future gives up.
pub async fn connect(options: FtpConnectOptions, decider: Arc<dyn Decider>) -> Result<FtpRemote> {
    for text in [&options.user].into_iter().chain(&options.host_name) {
        if text.contains(['\r', '\n', '\0']) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a user or host with a line end"));
        }
    }
    if options.mode == DataMode::Active && !options.proxy.is_direct() {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("a server cannot connect to us through a proxy")
            .with_hint("use passive mode"));
    }
    let session = match &options.session {
        Some(session) => Arc::clone(session),
        None => Session::new(Setup::new(Protocol::Ftp, options.host.as_str())),
    };
    let canceled = session.cancel_token().clone();
    let entering = async {
        let keepalive = options.keepalive;
        let pool = Pool::new(Dialer::new(options, session).await?);
        pool.begin(&*decider).await?;
        let facts = pool.dialer.facts.get().cloned().ok_or_else(|| Error::new(ErrorKind::Internal))?;
        if let Some(every) = keepalive {
            tokio::spawn(Pool::keep_alive(Arc::downgrade(&pool), every.max(Duration::from_secs(1))));
        }
        Ok(FtpRemote(Arc::new(Remote::new(pool, facts))))
    };
    tokio::select! {
        biased;
        () = canceled.cancelled() => Err(Error::new(ErrorKind::Canceled)),
        entered = entering => entered,
    }
}

impl FtpRemote {
    pub(super) fn inner(&self) -> &Remote {
        &self.0
    }

    /// Where the login begins: what relative paths are relative to.
    pub fn home(&self) -> &VPath {
        &self.0.facts.home
    }

    /// The session that counts its bytes; cutting it ends every socket at once.
    pub fn session(&self) -> &Arc<Session> {
        &self.0.pool.dialer.session
    }

    /// What the login took: `password`, `account`, `certificate` or `none`.
    pub fn methods(&self) -> Vec<&'static str> {
        self.0.pool.dialer.learned(|l| l.methods.clone())
    }

    /// How long the server took to answer to the user's name: about one round trip.
    pub fn delay(&self) -> Duration {
        self.0.pool.dialer.learned(|l| l.delay)
    }

    /// How the server names itself: the greeting, then SYST's answer, cleaned.
    pub fn server_version(&self) -> String {
        let facts = &self.0.facts;
        if facts.system.is_empty() {
            return facts.greeting.clone();
        }
        format!("{} ({})", facts.greeting, facts.system)
    }

    /// TLS in words, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`; `None` in the clear.
    pub fn tls_words(&self) -> Option<String> {
        self.0.pool.dialer.learned(|l| l.tls_words.clone())
    }

    /// What the server can do, by its own words.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Lines of listings that were not understood so far.
    pub fn skipped_lines(&self) -> u64 {
        self.0.skipped.load(Ordering::Relaxed)
    }

    /// The last of them, raw.
    pub fn skipped(&self) -> Vec<Bytes> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Says good-bye on every connection and ends the session. Transfers under way are cut.
    pub async fn close(&self) {
        self.0.pool.close().await;
        self.session().close(Ending::new("closed", Actor::Client)).await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.pool.dialer.cut.cancel();
    }
}

/// What can be set over this wire. Errors: `InvalidArgument`, `Unsupported`; nothing was sent.
pub(super) fn settable(remote: &Remote, a: &Attributes) -> Result<()> {
    if a.mode.is_some_and(|m| m > 0o7777) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("mode bits above 7777"));
    }
    let caps = remote.capabilities();
    let cannot = a.size.is_some()
        || a.uid.is_some()
        || a.gid.is_some()
        || !a.properties.is_empty()
        || (a.mode.is_some() && !caps.set_mode)
        || (a.modified.is_some() && !caps.set_times)
        // The time of access only comes along.
        || (a.accessed.is_some() && a.modified.is_none());
    if cannot { Err(Error::unsupported(OperationKind::SetAttributes)) } else { Ok(()) }
}

/// In quotes, quotes within doubled.
fn in_quotes(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &b in text {
        out.push(b);
        if b == b'"' {
            out.push(b);
        }
    }
    out.push(b'"');
    out
}

impl Remote {
    fn new(pool: Arc<Pool>, facts: Facts) -> Self {
        let capabilities = capabilities(&facts);
        Remote { pool, facts, capabilities, skipped: AtomicU64::new(0), kept: Mutex::default() }
    }

    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The path as it goes over the wire. Errors: `InvalidPath`.
    pub(super) fn wire_path(&self, path: &VPath) -> Result<Bytes> {
        let bytes = path.as_bytes();
        let bytes = if self.facts.absolute { bytes } else { bytes.strip_prefix(b"/").unwrap_or(bytes) };
        if bytes.iter().any(|b| matches!(b, b'\r' | b'\n')) {
            return Err(Error::new(ErrorKind::InvalidPath)
                .with_detail("FTP has no way to name what holds a line end"));
        }
        match self.pool.dialer.options.encoding {
            Encoding::Bytes => Ok(Bytes::copy_from_slice(bytes)),
            Encoding::Latin1 => {
                let no = || {
                    Error::new(ErrorKind::InvalidPath)
                        .with_detail("the name has letters that ISO 8859-1 does not have")
                };
                let text = std::str::from_utf8(bytes).map_err(|_| no())?;
                text.chars()
                    .map(|c| u8::try_from(u32::from(c)).map_err(|_| no()))
                    .collect::<Result<Vec<u8>>>()
                    .map(Bytes::from)
            }
        }
    }

    /// A name as it came over the wire.
    pub(super) fn name_from_wire(&self, name: Bytes) -> Bytes {
        match self.pool.dialer.options.encoding {
            Encoding::Bytes => name,
            Encoding::Latin1 if name.is_ascii() => name,
            Encoding::Latin1 => Bytes::from(name.iter().map(|b| char::from(*b)).collect::<String>()),
        }
    }

    pub(super) fn skipped_line(&self, line: &Bytes) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Bytes::copy_from_slice(line.get(..256).unwrap_or(line)));
    }

    /// Commands in one flight on one connection. `again`: they may be sent twice, should an idle connection
    /// turn out to have ended.
    async fn calls(&self, commands: &[Command], again: bool) -> Result<Vec<Reply>> {
        let mut lease = self.pool.lease().await?;
        let fresh = lease.fresh;
        match lease.calls(commands).await {
            Err(e) if again && !fresh && e.kind() == ErrorKind::Disconnected => {
                drop(lease);
                self.pool.lease().await?.calls(commands).await
            }
            replies => replies,
        }
    }

    async fn call(&self, command: Command, again: bool) -> Result<Reply> {
        let replies = self.calls(&[command], again).await?;
        replies.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Internal))
    }

    /// A command that changes something.
    async fn done(&self, command: &Command) -> Result<()> {
        let reply = self.call(command.clone(), false).await?;
        if reply.code < 300 { Ok(()) } else { Err(error_of(&reply)) }
    }

    /// What `path` is: MLST, else SIZE and MDTM, else whether one can go there, else its parent's listing.
    pub(super) async fn look(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        let wire = self.wire_path(path)?;
        if self.facts.lists_facts() {
            let reply = self.call(Command::with("MLST", wire), true).await?;
            if reply.code == 250 {
                let seen = reply.lines.get(1).and_then(facts_parser::metadata).ok_or_else(|| {
                    Error::new(ErrorKind::PeerMisbehaved)
                        .with_detail("the server's facts cannot be understood")
                })?;
                if seen.is_symlink() && follow == Follow::Yes {
                    return self.probe(path).await;
                }
                return Ok(seen);
            }
            if !is_unknown(&reply) {
                return Err(error_of(&reply));
            }
        }
        self.probe(path).await
    }

    async fn probe(&self, path: &VPath) -> Result<Metadata> {
        if path.is_root() {
            return Ok(Metadata::new(FileType::Directory, 0));
        }
        let wire = self.wire_path(path)?;
        let ask = [Command::with("SIZE", wire.clone()), Command::with("MDTM", wire.clone())];
        let replies = self.calls(&ask, true).await?;
        let [size, time] = replies.as_slice() else { return Err(Error::new(ErrorKind::Internal)) };
        if size.code == 213 {
            let bytes = text(size).parse().map_err(|_| {
                Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's size is no number")
            })?;
            let mut found = Metadata::new(FileType::File, bytes);
            found.modified = (time.code == 213).then(|| facts_parser::time(&text(time))).flatten();
            return Ok(found);
        }
        if self.facts.absolute {
            let reply = self.call(Command::with("CWD", wire), true).await?;
            if reply.code < 300 {
                return Ok(Metadata::new(FileType::Directory, 0));
            }
        }
        if is_unknown(size) {
            return self.find(path).await;
        }
        Err(error_of(size))
    }

    /// The entry in its parent's listing, for servers that tell nothing else.
    async fn find(&self, path: &VPath) -> Result<Metadata> {
        let parent = path.parent().ok_or_else(|| Error::new(ErrorKind::NotFound))?;
        let me = Arc::new(Remote::new(Arc::clone(&self.pool), self.facts.clone()));
        let mut pages = Box::pin(list::open(&me, &parent)).await?;
        let mut found = None;
        while let Some(page) = pages.next_page().await? {
            let here = page.into_iter().find(|e| e.name[..] == *path.name());
            found = found.or(here.map(|e| e.metadata));
        }
        found.ok_or_else(|| Error::new(ErrorKind::NotFound))
    }

    /// MDTM; `None` where the server does not tell.
    pub(super) async fn modified(&self, path: &VPath) -> Result<Option<SystemTime>> {
        let reply = self.call(Command::with("MDTM", self.wire_path(path)?), true).await?;
        Ok((reply.code == 213).then(|| facts_parser::time(&text(&reply))).flatten())
    }

    /// The commands that set mode and time.
    pub(super) fn setting(&self, path: &Bytes, a: &Attributes) -> Result<Vec<Command>> {
        let mut out = Vec::new();
        if let Some(mode) = a.mode {
            let head = format!("CHMOD {mode:o} ");
            out.push(Command::with("SITE", [head.as_bytes(), path].concat()));
        }
        if let Some(time) = a.modified {
            let stamp = facts_parser::time_text(time).ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument).with_detail("a time that cannot be written")
            })?;
            out.push(if self.facts.has("MFMT") {
                Command::with("MFMT", [stamp.as_bytes(), b" ", path].concat())
            } else if self.facts.kind == ServerKind::Vsftpd {
                Command::with("MDTM", [stamp.as_bytes(), b" ", path].concat())
            } else {
                let head = format!("UTIME {stamp} ");
                Command::with("SITE", [head.as_bytes(), path].concat())
            });
        }
        Ok(out)
    }

    /// Sets mode and time.
    pub(super) async fn set(&self, path: &VPath, a: &Attributes) -> Result<()> {
        settable(self, a)?;
        let commands = self.setting(&self.wire_path(path)?, a)?;
        if commands.is_empty() {
            return self.look(path, Follow::Yes).await.map(|_| ());
        }
        for reply in self.calls(&commands, false).await? {
            if reply.code >= 300 {
                return Err(error_of(&reply));
            }
        }
        Ok(())
    }

    pub(super) async fn remove(&self, path: &VPath) -> Result<()> {
        self.done(&Command::with("DELE", self.wire_path(path)?)).await
    }

    /// Why a STOR was refused, where that can be seen.
    pub(super) async fn why_not_stored(&self, path: &VPath, e: Error) -> Error {
        if e.wire().is_none_or(|w| !matches!(w.code, 550 | 553)) {
            return e;
        }
        if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidPath) {
            return e;
        }
        if self.look(path, Follow::Yes).await.is_ok_and(|m| m.is_dir()) {
            return as_kind(&e, ErrorKind::IsADirectory);
        }
        match path.parent() {
            Some(parent) if !parent.is_root() => match self.look(&parent, Follow::Yes).await {
                Ok(m) if m.is_dir() => as_kind(&e, ErrorKind::PermissionDenied),
                Ok(_) => as_kind(&e, ErrorKind::NotADirectory),
                Err(_) => as_kind(&e, ErrorKind::NotFound),
            },
            _ => as_kind(&e, ErrorKind::PermissionDenied),
        }
    }
}

fn capabilities(f: &Facts) -> Capabilities {
    Capabilities {
        write: true,
        create_dir: true,
        remove: true,
        rename: true,
        rename_replaces: f.kind != ServerKind::Iis,
        continue_write: true,
        append: true,
        text: true,
        set_times: f.has("MFMT") || f.kind == ServerKind::Vsftpd || f.has_site("UTIME"),
        set_mode: f.has_site("CHMOD"),
        symlinks: f.has_site("SYMLINK"),
        empty_dirs: true,
        case_sensitive: f.kind != ServerKind::Iis,
        server_copy: f.has_site("CPFR") && f.has_site("CPTO"),
        space: f.has("AVBL"),
        checksums: f.has("HASH") || DIGESTS.iter().any(|(verb, _)| f.has(verb)),
        follows_links: true,
        mtime_granularity: Duration::from_secs(if f.lists_facts() { 1 } else { 60 }),
        ..Capabilities::none()
    }
}

/// Verbs that give a digest, most of them by FEAT of their own.
const DIGESTS: [(&str, Algorithm); 5] = [
    ("XCRC", Algorithm::Crc32),
    ("XMD5", Algorithm::Md5),
    ("XSHA1", Algorithm::Sha1),
    ("XSHA256", Algorithm::Sha256),
    ("XSHA512", Algorithm::Sha512),
];

fn text(reply: &Reply) -> String {
    let last = reply.lines.last().map(|l| String::from_utf8_lossy(l).trim().to_owned());
    last.unwrap_or_default()
}

/// The digest in a reply: the word that is as many hexadecimal digits as it must have.
fn digest(reply: &Reply, algorithm: Algorithm) -> Result<Bytes> {
    let len = match algorithm {
        Algorithm::Crc32 => 4,
        Algorithm::Md5 => 16,
        Algorithm::Sha1 => 20,
        Algorithm::Blake3 | Algorithm::Sha256 => 32,
        Algorithm::Sha384 => 48,
        Algorithm::Sha512 => 64,
    };
    let text = text(reply);
    let hex = text.split_ascii_whitespace().find(|w| {
        let fits = w.len() == 2 * len || (algorithm == Algorithm::Crc32 && (5..=8).contains(&w.len()));
        fits && w.bytes().all(|b| b.is_ascii_hexdigit())
    });
    let Some(hex) = hex else {
        return Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's answer holds no digest"));
    };
    let hex = format!("{hex:0>width$}", width = 2 * len);
    let octets = (0..len).map(|n| u8::from_str_radix(hex.get(2 * n..2 * n + 2).unwrap_or_default(), 16));
    octets
        .collect::<Result<Vec<u8>, _>>()
        .map(Bytes::from)
        .map_err(|e| Error::new(ErrorKind::PeerMisbehaved).with_source(e))
}

#[async_trait]
impl Filesystem for FtpRemote {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities().clone()
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        self.0.look(path, follow).await
    }

    async fn list(&self, dir: &VPath, _: &ListOptions) -> Result<Listing> {
        list::open(&self.0, dir).await
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        if options.if_match.is_some() {
            return Err(
                Error::unsupported(OperationKind::Open).with_detail("FTP has no condition on what is opened")
            );
        }
        if options.write {
            return Ok(Arc::new(WriteFile::open(Arc::clone(&self.0), path, options).await?));
        }
        if options.size_hint.is_some() {
            // Whoever knows the size has just seen that it is a file.
            return Ok(ReadFile::new(Arc::clone(&self.0), path.clone(), options, None));
        }
        let known = self.0.look(path, Follow::Yes).await?;
        if known.is_dir() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        Ok(ReadFile::new(Arc::clone(&self.0), path.clone(), options, Some(known)))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        settable(&self.0, attributes)?;
        match self.0.done(&Command::with("MKD", self.0.wire_path(path)?)).await {
            Ok(()) => {}
            // Whoever makes a path goes on from what is there already.
            Err(e) if e.wire().is_some_and(|w| matches!(w.code, 521 | 550 | 553)) => {
                if e.kind() == ErrorKind::AlreadyExists || self.0.look(path, Follow::No).await.is_ok() {
                    return Err(as_kind(&e, ErrorKind::AlreadyExists));
                }
                return Err(e);
            }
            Err(e) => return Err(e),
        }
        if attributes.is_empty() { Ok(()) } else { self.0.set(path, attributes).await }
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        match self.0.remove(path).await {
            Err(e) if e.wire().is_some_and(|w| w.code == 550) && e.kind() != ErrorKind::NotFound => {
                match self.0.look(path, Follow::No).await {
                    Ok(m) if m.is_dir() => Err(as_kind(&e, ErrorKind::IsADirectory)),
                    _ => Err(e),
                }
            }
            done => done,
        }
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.0.done(&Command::with("RMD", self.0.wire_path(path)?)).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        if to != from && to.starts_with(from) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a directory moved into itself"));
        }
        let (old, new) = (self.0.wire_path(from)?, self.0.wire_path(to)?);
        let replaces = self.0.capabilities().rename_replaces;
        if replace == Replace::No || !replaces {
            match self.0.look(to, Follow::No).await {
                Ok(_) if replace == Replace::Yes => {
                    return Err(Error::unsupported(OperationKind::Rename)
                        .with_detail("the server cannot replace a file by renaming"));
                }
                Ok(_) => return Err(Error::new(ErrorKind::AlreadyExists)),
                Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::NotADirectory => {}
                Err(e) => return Err(e),
            }
        }
        let replies = self.0.calls(&[Command::with("RNFR", old), Command::with("RNTO", new)], false).await?;
        let [first, second] = replies.as_slice() else { return Err(Error::new(ErrorKind::Internal)) };
        // Where the first was refused the second came out of turn.
        let due = if first.code == 350 { second } else { first };
        if due.code < 300 { Ok(()) } else { Err(error_of(due)) }
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        if follow == Follow::No && self.0.look(path, Follow::No).await?.is_symlink() {
            return Err(Error::unsupported(OperationKind::SetAttributes)
                .with_detail("FTP cannot change a link itself"));
        }
        let e = match self.0.set(path, attributes).await {
            Err(e) if e.wire().is_some_and(|w| w.code == 550) => e,
            done => return done,
        };
        // Some servers (vsftpd, pyftpdlib) set times of files only.
        let times_alone = *attributes == Attributes { mode: None, ..attributes.clone() };
        match self.0.look(path, Follow::Yes).await {
            Ok(m) if m.is_dir() && times_alone => Err(Error::unsupported(OperationKind::SetAttributes)
                .with_detail("the server sets no times of directories")
                .with_source(e)),
            _ => Err(e),
        }
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        if !self.0.facts.has_site("SYMLINK") {
            return Err(Error::unsupported(OperationKind::Symlink));
        }
        let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
        if target.is_empty() || target.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(bad("FTP has no way to say what this link would hold"));
        }
        let path = self.0.wire_path(at)?;
        let words = if self.0.facts.kind == ServerKind::Ferry {
            [&b"SYMLINK "[..], &in_quotes(target), b" ", &in_quotes(&path)].concat()
        } else if target.contains(&b' ') || path.contains(&b' ') {
            return Err(bad("this server's SITE SYMLINK cannot carry spaces"));
        } else {
            [&b"SYMLINK "[..], target, b" ", &path].concat()
        };
        self.0.done(&Command::with("SITE", words)).await
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        let remote = &self.0;
        let mut is_link = None;
        if remote.facts.lists_facts() {
            let reply = remote.call(Command::with("MLST", remote.wire_path(path)?), true).await?;
            if reply.code == 250
                && let Some(line) = reply.lines.get(1)
            {
                if let Some(target) = facts_parser::link_target(line) {
                    return Ok(remote.name_from_wire(target));
                }
                is_link = facts_parser::metadata(line).map(|m| m.is_symlink());
            } else if !is_unknown(&reply) {
                return Err(error_of(&reply));
            }
        }
        // Most servers of Unix show it in the listing of its directory, whatever they say to MLST.
        let known = is_link == Some(false) && remote.facts.kind == ServerKind::Ferry;
        if !known && let Some(target) = list::link(remote, path).await? {
            return Ok(remote.name_from_wire(target));
        }
        if is_link == Some(true) {
            return Err(Error::unsupported(OperationKind::ReadLink)
                .with_detail("the server does not show what the link holds"));
        }
        remote.look(path, Follow::No).await?;
        let kind =
            if remote.capabilities().symlinks { ErrorKind::InvalidArgument } else { ErrorKind::Unsupported };
        Err(Error::new(kind).with_detail("the server shows no link there"))
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        if !self.0.capabilities().server_copy {
            return Err(Error::unsupported(OperationKind::Copy));
        }
        if from == to {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a file copied onto itself"));
        }
        let source = self.0.look(from, Follow::Yes).await?;
        if source.is_dir() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        match self.0.look(to, Follow::Yes).await {
            Ok(m) if m.is_dir() => return Err(Error::new(ErrorKind::IsADirectory)),
            Ok(_) if replace == Replace::No => return Err(Error::new(ErrorKind::AlreadyExists)),
            _ => {}
        }
        let site = |verb: &[u8], path: &Bytes| Command::with("SITE", [verb, path].concat());
        let (old, new) = (self.0.wire_path(from)?, self.0.wire_path(to)?);
        let replies = self.0.calls(&[site(b"CPFR ", &old), site(b"CPTO ", &new)], false).await?;
        let [first, second] = replies.as_slice() else { return Err(Error::new(ErrorKind::Internal)) };
        let due = if first.code == 350 { second } else { first };
        if due.code >= 300 {
            return Err(error_of(due));
        }
        let copied = self.0.look(to, Follow::Yes).await?;
        if copied.size == source.size {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Corrupt).with_detail("the copy has another size than its source"))
        }
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        if !self.0.facts.has("AVBL") {
            return Err(Error::unsupported(OperationKind::Space));
        }
        let reply = self.0.call(Command::with("AVBL", self.0.wire_path(path)?), true).await?;
        if reply.code != 213 {
            return Err(error_of(&reply));
        }
        let free: u64 = text(&reply).parse().map_err(|_| {
            Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's free space is no number")
        })?;
        // All that AVBL tells is what may still be written.
        Ok(Space {
            block_size: 1,
            total: free,
            free,
            available: free,
            entries: 0,
            entries_free: 0,
            max_name: 255,
            read_only: false,
        })
    }

    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        if !self.0.capabilities().checksums {
            return Err(Error::unsupported(OperationKind::Checksum));
        }
        if range.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a digest of an empty range"));
        }
        let facts = &self.0.facts;
        let wire = self.0.wire_path(path)?;
        let offered = facts.value("HASH").split(';').map(|a| a.trim().trim_end_matches('*'));
        let by_hash = offered.into_iter().find(|a| Algorithm::parse(a) == Some(algorithm));
        let verb = DIGESTS.iter().find(|(verb, a)| *a == algorithm && facts.has(verb)).map(|(verb, _)| *verb);
        let whole = range.start == 0
            && (range.end == u64::MAX || self.0.look(path, Follow::Yes).await?.size <= range.end);
        let mut ask = Vec::new();
        match (by_hash, verb) {
            (Some(name), _) if whole || facts.has("RANG") => {
                ask.push(Command::with("OPTS", format!("HASH {name}")));
                if !whole {
                    // Both ends are meant.
                    let last = range.end.saturating_sub(1).min(i64::MAX as u64);
                    ask.push(Command::with("RANG", format!("{} {last}", range.start)));
                }
                ask.push(Command::with("HASH", wire));
            }
            (_, Some(verb)) if whole => ask.push(Command::with(verb, wire)),
            (None, None) => {
                return Err(Error::unsupported(OperationKind::Checksum)
                    .with_detail(format!("the server computes no {}", algorithm.name())));
            }
            _ => {
                return Err(Error::unsupported(OperationKind::Checksum)
                    .with_detail("the server computes digests of whole files only"));
            }
        }
        let replies = self.0.calls(&ask, true).await?;
        if let Some(no) = replies.iter().find(|r| r.code >= 400) {
            return Err(error_of(no));
        }
        let reply = replies.last().ok_or_else(|| Error::new(ErrorKind::Internal))?;
        digest(reply, algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_answers() {
        let of = |text: &'static str, a| digest(&Reply::new(213, text), a).map(|d| d.to_vec()).ok();
        assert_eq!(of("CRC32 0-49 dd f", Algorithm::Crc32), None);
        assert_eq!(of("352441C2", Algorithm::Crc32), Some(vec![0x35, 0x24, 0x41, 0xc2]));
        assert_eq!(
            of("MD5 0-2 900150983cd24fb0d6963f7d28e17f72 /a", Algorithm::Md5).map(|d| d.len()),
            Some(16)
        );
    }
}
