//! `WebdavRemote`: a server's files as a [`Filesystem`].
//!
//! A virtual path is the path of the server's URLs. A method of WebDAV does more than the model allows: DELETE
//! takes a whole tree, MOVE and COPY take one or put one away. So what would go too far is looked at first
//! (PROPFIND), and between the look and the deed somebody else may have changed it; nothing in WebDAV is one
//! step. A code that says little is made a kind by looking, too. How times are set is known by the kind of
//! server, or found out with the first one that is to be set: what a server says that it did is looked at.
//!
//! Deliberately absent: writes other than of whole files, modes and owners, links.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, SERVER};
use hyper::{Method, StatusCode};
use session_core::batch::Decider;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File, Filesystem, Follow, ListOptions, Listing, OpenOptions, Replace, Space};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::{VPath, display_bytes};
use session_core::session::{Actor, Ending, Protocol, Session, Setup};

use super::call::{Ask, Wire};
use super::chunks::Chunks;
use super::kept;
use super::lines::Lines;
use super::list;
use super::locks::HeldLocks;
use super::login::Login;
use super::options::{SetTimes, WebdavConnectOptions};
use super::place::encode;
use super::props;
use super::read::ReadFile;
use super::refine::{self, as_kind, status_of};
use super::write::WriteFile;
use crate::wire::multistatus_reader::Answer;

/// A time so near to now says nothing of who set it.
const BY_ITSELF: Duration = Duration::from_secs(120);
/// How far up from its home WebDAV is looked for.
const UP: usize = 32;

/// What the server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How it names itself (`Server`), cleaned.
    pub server: String,
    /// What of WebDAV it speaks (`DAV`), as far as it said so unasked.
    pub classes: String,
    /// How it is told the time of a file, where that was known when it was asked.
    pub times: Option<SetTimes>,
    /// It tells how much room there is.
    pub space: bool,
    /// It keeps properties that are set.
    pub properties: bool,
}

/// What a remote is made of.
pub(super) struct Remote {
    pub(super) wire: Wire,
    pub(super) options: WebdavConnectOptions,
    facts: Facts,
    times: Mutex<Times>,
    /// The server wants a path as the target of a MOVE, and no URL.
    by_path: AtomicBool,
    /// Whether a strong ETag in the answer to a PUT is what is there afterwards, once one was looked at.
    pub(super) vouches: OnceLock<bool>,
    pub(super) locks: HeldLocks,
    /// Where large uploads go in chunks, if they do.
    pub(super) chunks: Option<Chunks>,
}

/// What is known of how times are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// Not at all.
    Never,
    /// The first one will show.
    Unsure,
    By(SetTimes),
}

impl Times {
    fn way(self) -> Option<SetTimes> {
        match self {
            Times::By(way) => Some(way),
            Times::Never | Times::Unsure => None,
        }
    }
}

/// A server's files. Cheap to clone; clones share the connections. Dropping the last one closes them.
#[derive(Clone)]
pub struct WebdavRemote(pub(super) Arc<Remote>);

impl std::fmt::Debug for WebdavRemote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebdavRemote").field("facts", &self.0.facts).finish_non_exhaustive()
    }
}

/// Connects, makes sure of the server, logs in where it asks for it, and learns what it can do.
///
/// Errors: `NotFound` (no such host; no WebDAV at its home or above it), `Disconnected`, `TimedOut`,
/// `Unauthenticated` (the certificate, with its fingerprint; the login), `Unsupported` (no WebDAV there),
/// `Refused` (a password that would be told in the clear; a redirect to elsewhere), `InvalidArgument` (the
/// options), `PeerMisbehaved`, `Canceled`. Dropping the future gives up.
pub async fn connect(options: WebdavConnectOptions, decider: Arc<dyn Decider>) -> Result<WebdavRemote> {
    let protocol = if options.secure { Protocol::Webdavs } else { Protocol::Webdav };
    let session = match &options.session {
        Some(session) => Arc::clone(session),
        None => Session::new(Setup::new(protocol, options.host.as_str())),
    };
    let canceled = session.cancel_token().clone();
    let entering = async {
        session.greeted();
        session.authenticating();
        let lines = Lines::new(&options, session).await?;
        let login = Login::new(&options, lines.place().origin())?;
        let wire = Wire::new(Arc::clone(&lines), login, options.timeout);
        lines.ask(Some(decider));
        let facts = learn(&wire, &options).await;
        // Later there is nobody to ask.
        lines.ask(None);
        let (facts, times) = facts?;
        let (times, by_path) = (Mutex::new(times), AtomicBool::new(false));
        let (locks, chunks) = (HeldLocks::default(), Chunks::of(&options.home));
        let vouches = OnceLock::new();
        Ok(WebdavRemote(Arc::new(Remote { wire, facts, options, times, by_path, vouches, locks, chunks })))
    };
    tokio::select! {
        biased;
        () = canceled.cancelled() => Err(Error::new(ErrorKind::Canceled)),
        entered = entering => entered,
    }
}

/// Finds WebDAV at its home or above, and learns what the server is.
async fn learn(wire: &Wire, options: &WebdavConnectOptions) -> Result<(Facts, Times)> {
    let mut at = options.home.clone();
    let (mut first, mut forbids) = (None, false);
    for _ in 0..UP {
        match probe(wire, &at).await {
            Ok((answer, headers)) => return Ok(facts(options, &headers, &answer)),
            // Only some paths are WebDAV's, and what is to be made is not there yet.
            Err(e) if is_elsewhere(&e) => {
                forbids |= status_of(&e) == Some(403);
                first.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    let first = first.unwrap_or_else(|| Error::new(ErrorKind::NotFound));
    if forbids {
        // Who may put and not look is let in where the server says that it speaks WebDAV.
        let told = wire.call(Ask::new(Method::OPTIONS, encode(&options.home, true))).await?;
        let (facts, times) = facts(options, &told.headers, &Answer::default());
        let _ = told.body.beginning().await;
        if !facts.classes.is_empty() {
            return Ok((facts, times));
        }
    }
    Err(first)
}

/// Whether WebDAV may be found further up.
fn is_elsewhere(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::Unsupported)
        || matches!(status_of(e), Some(400 | 403))
}

/// What the server tells of a place, with the fields of its answer.
async fn probe(wire: &Wire, at: &VPath) -> Result<(Answer, HeaderMap)> {
    let ask = Ask::dav("PROPFIND", encode(at, true))?.depth("0").xml(props::PLACE);
    let answered = wire.call(ask).await?.success().await?;
    let headers = answered.headers.clone();
    let answers = answered.multistatus().await?;
    let first = answers.into_iter().next().ok_or_else(|| Error::new(ErrorKind::NotFound))?;
    refine::failure(&first)?;
    Ok((first, headers))
}

/// What an answer says of the server: asking by OPTIONS would be one more round, and tell nothing more that is of use.
fn facts(options: &WebdavConnectOptions, headers: &HeaderMap, answer: &Answer) -> (Facts, Times) {
    let text = |name: &HeaderName| {
        let fields = headers.get_all(name).iter();
        let all: Vec<String> = fields.map(|v| display_bytes(v.as_bytes())).collect();
        all.join(", ")
    };
    let server: String = text(&SERVER).chars().take(200).collect();
    let classes: String = text(&HeaderName::from_static("dav")).chars().take(500).collect();
    let is_owncloud = answer.property(props::OWNCLOUD, "id").is_some();
    let times = options.times.map_or_else(|| times_of(&server, is_owncloud), Times::By);
    let facts = Facts {
        times: times.way(),
        space: props::space(answer).is_some(),
        properties: kept::keeps(&server, &classes, is_owncloud),
        server,
        classes,
    };
    (facts, times)
}

/// How a server that names itself like this is told times. Apache keeps a property of the name and not the time,
/// nginx has no properties.
fn times_of(server: &str, is_owncloud: bool) -> Times {
    let server = server.to_ascii_lowercase();
    let is = |name: &str| server.starts_with(name);
    if is_owncloud || is("sftpgo") || is("rclone") {
        Times::By(SetTimes::OwnCloud)
    } else if is("ferry") || is("microsoft-iis") {
        Times::By(SetTimes::Win32)
    } else if is("apache") || is("nginx") {
        Times::Never
    } else {
        Times::Unsure
    }
}

impl WebdavRemote {
    /// Where relative paths begin.
    pub fn home(&self) -> &VPath {
        &self.0.options.home
    }

    /// The session that counts its bytes; cutting it ends every connection at once.
    pub fn session(&self) -> &Arc<Session> {
        &self.0.wire.lines.session
    }

    /// What the login took: `password`, `token` or `none`.
    pub fn methods(&self) -> Vec<&'static str> {
        vec![self.0.wire.method()]
    }

    /// How the server names itself.
    pub fn server_version(&self) -> String {
        self.0.facts.server.clone()
    }

    /// TLS in words, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`; `None` in the clear.
    pub fn tls_words(&self) -> Option<String> {
        self.0.wire.lines.tls_words().map(str::to_owned)
    }

    /// What the server can do, by its own words.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Gives its locks back, ends every connection and the session. Transfers under way are cut.
    pub async fn close(&self) {
        self.give_back_all().await;
        self.0.wire.lines.close();
        self.session().close(Ending::new("closed", Actor::Client)).await;
    }
}

/// What can be set over this wire. Errors: `InvalidArgument`, `Unsupported`; nothing was sent.
pub(super) fn settable(remote: &Remote, a: &Attributes) -> Result<()> {
    let cannot = a.size.is_some()
        || a.mode.is_some()
        || a.uid.is_some()
        || a.gid.is_some()
        || (!a.properties.is_empty() && !remote.facts.properties)
        || (a.modified.is_some() && remote.times() == Times::Never)
        // The time of access only comes along.
        || (a.accessed.is_some() && a.modified.is_none());
    if cannot {
        return Err(Error::unsupported(OperationKind::SetAttributes));
    }
    kept::request(&a.properties)?;
    a.modified.map_or(Ok(()), |time| props::seconds(time).map(drop))
}

impl Remote {
    /// How times are set.
    pub(super) fn times(&self) -> Times {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How times are set is known from now on.
    pub(super) fn know(&self, times: Times) {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    /// What `path` is.
    pub(super) async fn look(&self, path: &VPath) -> Result<Metadata> {
        match self.answer(path, props::ENTRY).await {
            Ok(answer) => Ok(props::metadata(&answer)),
            // There is always a root, also where it is not WebDAV's.
            Err(e) if path.is_root() && is_elsewhere(&e) => Ok(Metadata::new(FileType::Directory, 0)),
            Err(e) => Err(e),
        }
    }

    /// The same, with the properties where the server keeps them: all that is known of an entry.
    pub(super) async fn stat(&self, path: &VPath) -> Result<Metadata> {
        if self.facts.properties { self.look_closely(path).await } else { self.look(path).await }
    }

    async fn look_closely(&self, path: &VPath) -> Result<Metadata> {
        match self.answer_and_body(path, kept::ALL).await {
            Ok((answer, body)) => {
                let properties = kept::read(&body).map_err(|e| {
                    Error::new(ErrorKind::PeerMisbehaved)
                        .with_detail("what the server tells of properties cannot be understood")
                        .with_source(e)
                })?;
                Ok(Metadata { properties: Some(properties), ..props::metadata(&answer) })
            }
            Err(e) if path.is_root() && is_elsewhere(&e) => Ok(Metadata::new(FileType::Directory, 0)),
            Err(e) => Err(e),
        }
    }

    /// What the server tells of `path`, and of nothing else.
    async fn answer(&self, path: &VPath, body: &'static str) -> Result<Answer> {
        Ok(self.answer_and_body(path, body).await?.0)
    }

    async fn answer_and_body(&self, path: &VPath, body: &'static str) -> Result<(Answer, Bytes)> {
        let ask = Ask::dav("PROPFIND", encode(path, false))?.depth("0").xml(body);
        let (answers, body) = self.wire.call(ask).await?.success().await?.multistatus_and_body().await?;
        for answer in answers {
            let href = answer.hrefs.first().map(String::as_bytes).unwrap_or_default();
            if self.wire.lines.place().path_of(href, &path.parent().unwrap_or_else(VPath::root))? == *path {
                refine::failure(&answer)?;
                return Ok((answer, body));
            }
        }
        Err(Error::new(ErrorKind::PeerMisbehaved)
            .with_detail("the server tells of something else than it was asked about"))
    }

    /// Sets properties and times.
    pub(super) async fn set(&self, path: &VPath, a: &Attributes) -> Result<()> {
        settable(self, a)?;
        self.set_properties(path, a).await?;
        let Some(time) = a.modified else {
            return if a.properties.is_empty() { self.look(path).await.map(drop) } else { Ok(()) };
        };
        if self.try_time(path, time).await? {
            return Ok(());
        }
        self.know(Times::Never);
        Err(Error::unsupported(OperationKind::SetAttributes))
    }

    /// Sets properties, all of them or none.
    pub(super) async fn set_properties(&self, path: &VPath, a: &Attributes) -> Result<()> {
        if a.properties.is_empty() {
            return Ok(());
        }
        let ask = Ask::dav("PROPPATCH", encode(path, false))?.xml(kept::request(&a.properties)?);
        let answered = self.wire.call(self.under_locks(ask, &[path])?).await?.success().await?;
        for answer in answered.multistatus().await? {
            refine::failure(&answer)?;
            // Of those that fail together, one is the cause.
            let cause = answer.properties.iter().filter(|p| p.status != 424);
            for property in cause.chain(&answer.properties) {
                refine::refusal(&answer, property)?;
            }
        }
        Ok(())
    }

    /// Sets a time by the way that is known, or by one that the server may have; whether it did.
    pub(super) async fn try_time(&self, path: &VPath, time: SystemTime) -> Result<bool> {
        let way = match self.times() {
            Times::Never => return Ok(false),
            Times::By(way) => return self.set_time(path, way, time).await.map(|()| true),
            Times::Unsure => SetTimes::LastModified,
        };
        match self.set_time(path, way, time).await {
            // It knows no such thing, or says that this is its own to tell.
            Err(e) if matches!(status_of(&e), Some(400 | 403 | 405 | 409 | 415 | 424 | 500 | 501)) => {
                return Ok(false);
            }
            set => set?,
        }
        let apart = |one: SystemTime, other: SystemTime| {
            one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap_or_default()
        };
        // Some keep a property of that name, and not the time.
        let seen = self.look(path).await?.modified;
        let keeps = seen.is_some_and(|seen| apart(seen, time) < Duration::from_secs(1));
        // What has just been written has the time of now, whoever set it.
        if keeps && apart(time, SystemTime::now()) > BY_ITSELF {
            self.know(Times::By(way));
        }
        Ok(keeps)
    }

    /// Sets a time, and makes sure that the server says so.
    async fn set_time(&self, path: &VPath, way: SetTimes, time: SystemTime) -> Result<()> {
        let ((space, name), body) = props::setting(way, time)?;
        let ask = self.under_locks(Ask::dav("PROPPATCH", encode(path, false))?.xml(body), &[path])?;
        let answered = match self.wire.call(ask).await?.success().await {
            // rclone opens for writing what it sets a time of, and fails where that is a directory; dufs says of a
            // directory that it is not there.
            Err(e)
                if matches!(status_of(&e), Some(404 | 500))
                    && self.look(path).await.is_ok_and(|m| m.is_dir()) =>
            {
                return Err(Error::unsupported(OperationKind::SetAttributes));
            }
            answered => answered?,
        };
        if answered.status != StatusCode::MULTI_STATUS {
            let _ = answered.body.beginning().await;
            return Ok(());
        }
        for answer in answered.multistatus().await? {
            refine::failure(&answer)?;
            for property in answer.properties.iter().filter(|p| p.name == name && p.namespace == space) {
                refine::refusal(&answer, property)?;
            }
        }
        Ok(())
    }

    /// DELETE, with the right failure where only a part went.
    pub(super) async fn delete(&self, path: &VPath, is_dir: bool) -> Result<()> {
        let ask = Ask::dav("DELETE", encode(path, is_dir))?.patience(self.options.patience()).once();
        let done = self.wire.call(self.under_locks(ask, &[path])?).await?.done().await;
        done.map_err(|e| self.lost_lock(path, &e).unwrap_or(e))
    }

    /// A path as the target of MOVE, COPY and their kin.
    pub(super) fn destination(&self, to: &VPath, is_dir: bool) -> String {
        let target = encode(to, is_dir);
        if self.by_path.load(Ordering::Relaxed) {
            return target;
        }
        format!("{}{target}", self.wire.lines.place().origin())
    }

    /// MOVE or COPY.
    async fn transfer(
        &self,
        method: &'static str,
        (from, to): (&VPath, &VPath),
        is_dir: bool,
        replace: Replace,
    ) -> Result<()> {
        let overwrite = if replace == Replace::Yes { "T" } else { "F" };
        loop {
            let by_path = self.by_path.load(Ordering::Relaxed);
            let ask = Ask::dav(method, encode(from, is_dir))?
                .with(HeaderName::from_static("destination"), &self.destination(to, is_dir))?
                .with(HeaderName::from_static("overwrite"), overwrite)?
                .patience(self.options.patience())
                .once();
            // A copy changes nothing where it comes from; naming that lock, too, does no harm.
            let done = self.wire.call(self.under_locks(ask, &[from, to])?).await?.done().await;
            let e = match done {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            return Err(match status_of(&e) {
                // A server behind a proxy does not know itself by the name that we call it.
                Some(400 | 502) if !by_path => {
                    self.by_path.store(true, Ordering::Relaxed);
                    continue;
                }
                Some(502) => as_kind(&e, ErrorKind::CrossDevice),
                Some(412) if replace == Replace::No => as_kind(&e, ErrorKind::AlreadyExists),
                // Somebody else may have moved the source meanwhile.
                Some(409) if self.look(from).await.is_err_and(|e| e.kind() == ErrorKind::NotFound) => {
                    as_kind(&e, ErrorKind::NotFound)
                }
                Some(409) => self.why_not_below(to, e).await,
                _ => e,
            });
        }
    }

    /// Why nothing could be put at `path`: what is the matter with its parent.
    async fn why_not_below(&self, path: &VPath, e: Error) -> Error {
        let Some(parent) = path.parent() else { return e };
        match self.look(&parent).await {
            Ok(m) if m.is_dir() => as_kind(&e, ErrorKind::PermissionDenied),
            Ok(_) => as_kind(&e, ErrorKind::NotADirectory),
            Err(_) => as_kind(&e, ErrorKind::NotFound),
        }
    }

    /// Why a PUT was refused, where that can be seen.
    pub(super) async fn why_not_stored(&self, path: &VPath, e: Error) -> Error {
        match status_of(&e) {
            // Of a PUT, the name is what can be wrong.
            Some(400) => return as_kind(&e, ErrorKind::InvalidPath),
            Some(403 | 404 | 405 | 409 | 500) => {}
            _ => return e,
        }
        if self.look(path).await.is_ok_and(|m| m.is_dir()) {
            return as_kind(&e, ErrorKind::IsADirectory);
        }
        match status_of(&e) {
            Some(404 | 405 | 409) => self.why_not_below(path, e).await,
            // nginx fails in itself where there is no directory to put a file into.
            Some(500) => match self.why_not_below(path, e.clone()).await {
                below if below.kind() == ErrorKind::PermissionDenied => e,
                below => below,
            },
            _ => e,
        }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            write: true,
            create_dir: true,
            remove: true,
            rename: true,
            rename_replaces: true,
            set_times: self.times() != Times::Never,
            empty_dirs: true,
            conditional_write: true,
            server_copy: true,
            // Nextcloud puts a file together apart from its name.
            whole_files: self.chunks.is_some(),
            properties: self.facts.properties,
            space: self.facts.space,
            precise_errors: true,
            follows_links: true,
            mtime_granularity: Duration::from_secs(1),
            ..Capabilities::none()
        }
    }
}

#[async_trait]
impl Filesystem for WebdavRemote {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn stat(&self, path: &VPath, _: Follow) -> Result<Metadata> {
        self.0.stat(path).await
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let kept = options.properties && self.0.facts.properties;
        match list::open(&self.0.wire, dir, kept).await {
            // A file's URL with a slash behind it leads nowhere.
            Err(e) if matches!(status_of(&e), Some(400 | 404 | 405 | 409)) => match self.0.look(dir).await {
                Ok(m) if !m.is_dir() => Err(as_kind(&e, ErrorKind::NotADirectory)),
                _ => Err(e),
            },
            listing => listing,
        }
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        if options.write {
            return Ok(WriteFile::open(Arc::clone(&self.0), path, options).await?);
        }
        if options.if_match.is_none()
            && let Some(size) = options.size_hint
        {
            // Whoever knows the size has just seen that it is a file.
            return Ok(ReadFile::begun(Arc::clone(&self.0), path.clone(), size).await?);
        }
        let known = self.0.stat(path).await?;
        if known.is_dir() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        if options.if_match.is_some() && options.if_match != known.etag {
            return Err(Error::new(ErrorKind::PreconditionFailed));
        }
        Ok(ReadFile::of(Arc::clone(&self.0), path.clone(), known))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        settable(&self.0, attributes)?;
        if path.is_root() {
            return Err(Error::new(ErrorKind::AlreadyExists));
        }
        let ask = self.0.under_locks(Ask::dav("MKCOL", encode(path, true))?.once(), &[path])?;
        if let Err(e) = self.0.wire.call(ask).await?.done().await {
            return Err(match status_of(&e) {
                Some(400) => as_kind(&e, ErrorKind::InvalidPath),
                Some(405) => as_kind(&e, ErrorKind::AlreadyExists),
                // Whoever makes a path goes on from what is there already.
                Some(401..=409 | 412 | 500) if self.0.look(path).await.is_ok() => {
                    as_kind(&e, ErrorKind::AlreadyExists)
                }
                Some(409) => self.0.why_not_below(path, e).await,
                _ => e,
            });
        }
        self.0.set_properties(path, attributes).await?;
        match attributes.modified {
            // The directory is made, and not every server has times for one.
            Some(time) => match self.0.try_time(path, time).await {
                Err(e) if e.kind() == ErrorKind::Unsupported => Ok(()),
                set => set.map(drop),
            },
            None => Ok(()),
        }
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        // DELETE would take a directory with all that is in it.
        if self.0.look(path).await?.is_dir() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        self.0.delete(path, false).await
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        let mut pages = self.list(path, &ListOptions::default()).await?;
        if pages.next_page().await?.is_some() {
            return Err(Error::new(ErrorKind::NotEmpty));
        }
        drop(pages);
        if path.is_root() {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("the root cannot be removed"));
        }
        // It has just been listed: what is in the way is in it, and not for us to see.
        let in_the_way =
            |e: Error| if status_of(&e) == Some(409) { as_kind(&e, ErrorKind::NotEmpty) } else { e };
        self.0.delete(path, true).await.map_err(in_the_way)
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        if from.is_root() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the root cannot be moved"));
        }
        if to != from && to.starts_with(from) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a directory moved into itself"));
        }
        let (source, target) = tokio::join!(self.0.look(from), async {
            // A MOVE that replaces puts away whatever is there, a full directory too.
            if replace == Replace::Yes { Some(self.0.look(to).await) } else { None }
        });
        let source = source?;
        if from == to {
            return if replace == Replace::Yes { Ok(()) } else { Err(Error::new(ErrorKind::AlreadyExists)) };
        }
        let target = match target {
            None => None,
            Some(Ok(target)) => Some(target),
            Some(Err(e)) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            Some(Err(e)) => return Err(e),
        };
        match target {
            Some(t) if t.is_dir() && !source.is_dir() => return Err(Error::new(ErrorKind::IsADirectory)),
            Some(t) if !t.is_dir() && source.is_dir() => return Err(Error::new(ErrorKind::NotADirectory)),
            Some(t) if t.is_dir() => {
                let mut pages = self.list(to, &ListOptions::default()).await?;
                if pages.next_page().await?.is_some() {
                    return Err(Error::new(ErrorKind::NotEmpty));
                }
            }
            _ => {}
        }
        self.0.transfer("MOVE", (from, to), source.is_dir(), replace).await
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, _: Follow) -> Result<()> {
        self.0.set(path, attributes).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (source, target) = tokio::join!(self.0.look(from), async {
            if replace == Replace::Yes { Some(self.0.look(to).await) } else { None }
        });
        if source?.is_dir() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        if from == to {
            return if replace == Replace::Yes { Ok(()) } else { Err(Error::new(ErrorKind::AlreadyExists)) };
        }
        match target {
            Some(Ok(t)) if t.is_dir() => return Err(Error::new(ErrorKind::IsADirectory)),
            Some(Err(e)) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(e);
            }
            _ => {}
        }
        self.0.transfer("COPY", (from, to), false, replace).await
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        if !self.0.facts.space {
            return Err(Error::unsupported(OperationKind::Space));
        }
        let answer = self.0.answer(path, props::PLACE).await?;
        props::space(&answer).ok_or_else(|| {
            Error::new(ErrorKind::PermissionDenied)
                .with_detail("the server does not tell how much room is there")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_names() {
        assert_eq!(times_of("WsgiDAV/4.3.3 Cheroot/10.0.1 Python/3.11", false), Times::Unsure);
        assert_eq!(times_of("rclone/v1.75.2", false), Times::By(SetTimes::OwnCloud));
        assert_eq!(times_of("nginx", true), Times::By(SetTimes::OwnCloud));
        assert_eq!(times_of("nginx/1.22.1", false), Times::Never);
        assert_eq!(times_of("Ferry", false), Times::By(SetTimes::Win32));
        assert_eq!(times_of("Apache/2.4.62 (Debian)", false), Times::Never);
    }
}
