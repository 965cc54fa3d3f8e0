//! Gateways: folders of other servers as homes and virtual folders.
//!
//! One connection (with its channels) for each gateway, opened when somebody first needs it and shared by all
//! sessions; a lost one is replaced (`client::reconnect`). Every call has a bound of time. Whatever keeps the
//! other server from answering is `Disconnected`, so a dead one is never an empty folder; its words and real
//! paths stay in the log. It must show the key or certificate that is configured, and is reached neither in
//! private networks, unless that is allowed, nor on a port of this very server.
//!
//! An upload has a temporary name over there until it is complete (`staging`), and so has a copy; a bucket of S3 needs
//! none, since an object appears as a whole. What comes out of order for a server that is written in order waits
//! (`spool`). Where the other server keeps symbolic links they are answered as a disk
//! answers them, so that they lead on within the folder and nobody follows them out of it. Absent: loops over several
//! servers, which end by the bound of time only; what others change over there between that look and the call.

mod spool;
mod staging;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use client::connect::{Connected, Options, open_url};
use futures_util::stream::{self, StreamExt as _};
use session_core::auth::Secret;
use session_core::batch::Unattended;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Link, Result, Retry};
use session_core::fs::*;
use session_core::fs_ext::FilesystemExt as _;
use session_core::layers::rooted::Rooted;
use session_core::metadata::{Attributes, DirEntry, Metadata};
use session_core::net::reach::Reach;
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::script::Secrets;
use tokio::sync::OnceCell;

use self::spool::{InTurn, Spool};
use self::staging::{Part, seen};
use crate::config::{self, Config};
use crate::hooks;

/// How long nobody tries again to reach a server that was not reached.
const PAUSE: Duration = Duration::from_secs(2);

/// How long a lost connection is tried to be had again within a call.
const AGAIN: Duration = Duration::from_secs(10);

/// How often a silent server is asked whether it is there, and how often it may fail to answer.
const KEEPALIVE: (Duration, usize) = (Duration::from_secs(10), 3);

/// Parts of an upload to a bucket on their way at a time: each is held in memory until it is there, and a gateway
/// has many users.
const PARTS: usize = 3;

/// Looks on their way at a time: over FTP each may be a connection.
const LOOKS: usize = 3;

/// How much longer than others the call may take that ends an upload: the other server may look at it.
const VERDICT: u32 = 10;

/// A gateway as it is configured, with its secrets.
#[derive(Clone, PartialEq)]
pub struct Settings {
    asked: config::Gateway,
    password: Option<Secret>,
    key: Option<Secret>,
    phrase: Option<Secret>,
}

/// Whether fingerprints and names make sense; without secrets. Errors: `InvalidArgument`.
pub(crate) fn options(asked: &config::Gateway) -> Result<Options> {
    let options = Options::from_url(&asked.url)?;
    let options = options.host_keys(&asked.host_keys)?.certificates(&asked.certificates)?;
    let is_bucket = matches!(asked.url.scheme.as_str(), "s3" | "s3plain");
    let options = if is_bucket { options.channels(PARTS) } else { options };
    Ok(options.only_given_keys().timeout(asked.time).reconnect(AGAIN.min(asked.time)))
}

/// The gateways of a configuration by name; `stored` are secrets besides those of its file. Reads files: blocks.
/// Errors: those of the secrets.
pub fn read(config: &Config, stored: BTreeMap<String, Secret>) -> Result<HashMap<String, Settings>> {
    if config.gateways.is_empty() {
        return Ok(HashMap::new());
    }
    let secrets = hooks::secrets_of(&config.scripts, stored)?;
    let named = |asked: &config::Gateway| Ok((asked.name.clone(), Settings::new(asked, &secrets)?));
    config.gateways.iter().map(named).collect()
}

impl Settings {
    /// Errors: `InvalidArgument` for a secret that is not there.
    pub fn new(asked: &config::Gateway, secrets: &Secrets) -> Result<Self> {
        let secret = |name: &Option<String>| {
            let Some(name) = name else { return Ok(None) };
            secrets.get(name).cloned().map(Some).ok_or_else(|| {
                let words = format!("the gateway '{}' needs the secret '{name}'", asked.name);
                Error::new(ErrorKind::InvalidArgument).with_detail(words).with_hint(
                    "it stands in the file that `secrets` of [scripts] names, or in FERRYD_SECRET_…",
                )
            })
        };
        Ok(Settings {
            asked: asked.clone(),
            password: secret(&asked.password_secret)?,
            key: secret(&asked.key_secret)?,
            phrase: secret(&asked.phrase_secret)?,
        })
    }

    fn options(&self, own: Arc<[SocketAddr]>) -> Result<Options> {
        let password = self.password.as_ref().map(|p| p.expose().to_owned());
        let reach = Reach { public_only: !self.asked.allow_private, never: own, ..Reach::default() };
        let (every, most) = KEEPALIVE;
        Ok(options(&self.asked)?
            .password(password)
            .keys(self.key.iter().cloned().collect())
            .phrase(self.phrase.clone())
            .keepalive(Some(Some(every)), Some(most))
            .reach(reach))
    }
}

/// An open connection, and what it was opened for.
struct Line {
    settings: Arc<Settings>,
    connected: Connected,
    /// Where its URL leads.
    base: VPath,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Open(Arc<Line>),
    Failed(Arc<Settings>, Instant),
}

/// One gateway.
struct Gateway {
    settings: RwLock<Arc<Settings>>,
    own: RwLock<Arc<[SocketAddr]>>,
    state: tokio::sync::Mutex<State>,
    /// What it can do, once it was reached.
    known: OnceLock<Capabilities>,
    /// Where what comes too early waits.
    spool: Arc<Spool>,
}

fn away() -> Error {
    Error::new(ErrorKind::Disconnected)
        .with_detail("the storage behind this folder is not available")
        .with_retry(Retry::Later(None))
}

/// An error of the other server for clients of this one: its kind, and the path.
fn told(e: Error) -> Error {
    let told = match e.kind() {
        ErrorKind::Disconnected
        | ErrorKind::Internal
        | ErrorKind::PeerMisbehaved
        | ErrorKind::TimedOut
        | ErrorKind::Unauthenticated => {
            tracing::debug!("a gateway failed: {e:#}");
            away()
        }
        kind => Error::new(kind),
    };
    match e.operation() {
        Some(operation) => told.at(operation, e.path()),
        None => told,
    }
}

impl Gateway {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, settings: &Settings) {
        let mut there = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        if **there != *settings {
            *there = Arc::new(settings.clone());
        }
    }

    async fn line(&self) -> Result<Arc<Line>> {
        let settings = self.settings();
        let mut state = self.state.lock().await;
        match &*state {
            State::Open(line) if Arc::ptr_eq(&line.settings, &settings) => return Ok(Arc::clone(line)),
            State::Failed(then, at) if Arc::ptr_eq(then, &settings) && at.elapsed() < PAUSE => {
                return Err(away());
            }
            _ => {}
        }
        let own = Arc::clone(&self.own.read().unwrap_or_else(PoisonError::into_inner));
        let connecting = async {
            let options = settings.options(own)?;
            let connected = open_url(options, Arc::new(Unattended)).await?;
            let base = settings.asked.url.vpath(connected.home())?;
            Ok::<_, Error>(Line { settings: Arc::clone(&settings), connected, base })
        };
        let connecting = tokio::time::timeout(settings.asked.time, connecting).await;
        match connecting.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            Ok(line) => {
                let _ = self.known.set(line.connected.fs().capabilities_at(&line.base));
                let line = Arc::new(line);
                *state = State::Open(Arc::clone(&line));
                tracing::info!(gateway = %settings.asked.name, "connected");
                Ok(line)
            }
            Err(e) => {
                tracing::error!(gateway = %settings.asked.name, "a gateway cannot be opened: {e:#}");
                *state = State::Failed(settings, Instant::now());
                Err(away())
            }
        }
    }
}

/// A folder over there.
struct Far {
    gateway: Arc<Gateway>,
    /// Below where the URL leads.
    path: VPath,
    /// It is made where it is missing, when it is first used.
    made: OnceCell<()>,
    makes: bool,
    /// Whether there is a folder for what is under way.
    staging: OnceCell<bool>,
}

/// A folder of a gateway.
pub struct FarFolder {
    far: Arc<Far>,
    /// What is under way has temporary names over there.
    stages: bool,
    parts: Mutex<HashMap<StageId, Weak<Part>>>,
}

/// Within a bound of time.
async fn bounded<T>(time: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done.map_err(told),
        Err(_) => Err(away()),
    }
}

impl Far {
    async fn call<T, W>(&self, call: impl FnOnce(Rooted) -> W + Send) -> Result<T>
    where
        W: Future<Output = Result<T>> + Send,
    {
        let line = self.gateway.line().await?;
        bounded(line.settings.asked.time, async {
            let root = self.path.rebase(&VPath::root(), &line.base).ok_or(ErrorKind::InvalidPath)?;
            let fs = line.connected.fs();
            if self.makes {
                self.made.get_or_try_init(|| fs.create_dir_all(&root)).await?;
            }
            call(Rooted::new(Arc::new(fs.clone()), root)).await
        })
        .await
    }

    fn time(&self) -> Duration {
        self.gateway.settings().asked.time
    }

    /// What it can do. Errors: `Disconnected`.
    async fn known(&self) -> Result<Capabilities> {
        if self.gateway.known.get().is_none() {
            self.gateway.line().await?;
        }
        self.gateway.known.get().cloned().ok_or_else(away)
    }

    async fn stat(&self, path: &VPath) -> Result<Metadata> {
        self.call(|fs| async move { Filesystem::stat(&fs, path, Follow::Yes).await }).await
    }

    /// Errors: the first link on the way to `path`, its end being one where `follow`. Who follows it asks for where it
    /// leads in this folder, and the other server for nothing. What REALPATH says would not do: many answer it without
    /// looking.
    async fn straight(&self, path: &VPath, follow: Follow) -> Result<()> {
        let end = match follow {
            Follow::Yes => path.clone(),
            Follow::No => path.parent().unwrap_or_else(VPath::root),
        };
        if end.is_root() || !self.known().await?.symlinks {
            return Ok(());
        }
        let (mut way, mut at) = (Vec::new(), VPath::root());
        for segment in end.segments() {
            at = at.join(segment)?;
            way.push(at.clone());
        }
        // All at once, as far as that goes: the time of one look.
        let mut looks = stream::iter(way)
            .map(|at| async move {
                let look = |fs: Rooted| {
                    let at = at.clone();
                    async move { Filesystem::stat(&fs, &at, Follow::No).await }
                };
                (self.call(look).await, at)
            })
            .buffered(LOOKS);
        let link = loop {
            let Some((found, at)) = looks.next().await else { return Ok(()) };
            match found {
                Ok(found) if found.is_symlink() => break at,
                Ok(_) => {}
                // What is asked for tells of that.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
                Err(e) => return Err(e),
            }
        };
        // A look that nobody polls any more may be next in the queue for the connection, which all would wait for.
        drop(looks);
        let at = &link;
        let target = self.call(|fs| async move { Filesystem::read_link(&fs, at).await }).await?.to_vec();
        Err(Error::link(Link { at: link, target }))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let inner = self.call(|fs| async move { Filesystem::open(&fs, path, options).await }).await?;
        let file = Arc::new(FarFile { inner, time: self.time() });
        let anew = options.write && (options.truncate || options.exclusive);
        if anew && !self.known().await?.random_write {
            return Ok(Arc::new(InTurn::new(file, Arc::clone(&self.gateway.spool))));
        }
        Ok(file)
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.call(|fs| async move { Filesystem::create_dir(&fs, path, attributes).await }).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.call(|fs| async move { Filesystem::remove_file(&fs, path).await }).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.call(|fs| async move { Filesystem::rename(&fs, from, to, replace).await }).await
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.call(|fs| async move { Filesystem::set_attributes(&fs, path, attributes, Follow::Yes).await })
            .await
    }
}

impl FarFolder {
    /// The path may be seen from here, and no link lies on its way. Errors: `NotFound`; the link.
    async fn may(&self, path: &VPath, follow: Follow) -> Result<()> {
        seen(path)?;
        self.far.straight(path, follow).await
    }

    /// A copy that nobody sees grow. It goes on to its end also where it is given up.
    async fn copy_apart(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let far = Arc::clone(&self.far);
        let (from, to) = (from.clone(), to.clone());
        let copying = tokio::spawn(async move {
            let at = staging::place(&far, &to).await?;
            let (there, source) = (&at, &from);
            let copy = |fs: Rooted| async move { Filesystem::copy(&fs, source, there, Replace::No).await };
            let done = match far.call(copy).await {
                Ok(()) => staging::publish(&far, &at, &to, replace, false).await.map(drop),
                Err(e) => Err(e),
            };
            if done.is_err() {
                let _ = far.remove_file(&at).await;
            }
            // The name over there is nobody's business.
            done.map_err(|e| match e.kind() {
                ErrorKind::Disconnected => e,
                kind => Error::new(kind).at(OperationKind::Copy, Some(&from)),
            })
        });
        copying.await.map_err(|_| Error::new(ErrorKind::Internal))?
    }

    /// An upload under way, which is found by its id from now on.
    fn under_way(&self, part: Part) -> (StageId, Arc<dyn File>) {
        let (id, part) = (part.id(), Arc::new(part));
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|_, part| part.strong_count() > 0);
        parts.insert(id.clone(), Arc::downgrade(&part));
        (id, part)
    }

    fn part(&self, id: &StageId) -> Option<Arc<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).get(id)?.upgrade()
    }
}

#[async_trait]
impl Filesystem for FarFolder {
    /// Until the server was reached, what is safe to say of any.
    fn capabilities(&self) -> Capabilities {
        let known = self.far.gateway.known.get().cloned().unwrap_or(Capabilities {
            write: true,
            create_dir: true,
            remove: true,
            rename: true,
            empty_dirs: true,
            follows_links: true,
            ..Capabilities::none()
        });
        Capabilities { atomic_commit: self.stages, follows_links: !known.symlinks, ..known }
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        self.may(path, follow).await?;
        self.far.call(|fs| async move { Filesystem::stat(&fs, path, follow).await }).await
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        self.may(dir, Follow::Yes).await?;
        let inner = self.far.call(|fs| async move { Filesystem::list(&fs, dir, options).await }).await?;
        Ok(Box::new(FarPages { inner, time: self.far.time(), in_root: dir.is_root() }))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        self.may(path, Follow::Yes).await?;
        self.far.open(path, options).await
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.may(path, Follow::No).await?;
        self.far.create_dir(path, attributes).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.may(path, Follow::No).await?;
        self.far.remove_file(path).await
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.may(path, Follow::No).await?;
        self.far.call(|fs| async move { Filesystem::remove_dir(&fs, path).await }).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.may(from, Follow::No).await?;
        self.may(to, Follow::No).await?;
        if to.is_root() {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.far.rename(from, to, replace).await
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        self.may(path, follow).await?;
        let set = |fs: Rooted| async move { Filesystem::set_attributes(&fs, path, attributes, follow).await };
        self.far.call(set).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.may(from, Follow::Yes).await?;
        self.may(to, Follow::Yes).await?;
        if self.stages && from != to && self.far.known().await?.server_copy {
            return self.copy_apart(from, to, replace).await;
        }
        self.far.call(|fs| async move { Filesystem::copy(&fs, from, to, replace).await }).await
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        self.may(at, Follow::No).await?;
        self.far.call(|fs| async move { Filesystem::symlink(&fs, target, at).await }).await
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        self.may(from, Follow::No).await?;
        self.may(to, Follow::No).await?;
        self.far.call(|fs| async move { Filesystem::hard_link(&fs, from, to).await }).await
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        self.may(path, Follow::No).await?;
        self.far.call(|fs| async move { Filesystem::read_link(&fs, path).await }).await
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        self.may(path, Follow::Yes).await?;
        self.far.call(|fs| async move { Filesystem::canonicalize(&fs, path).await }).await
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        self.may(path, Follow::Yes).await?;
        self.far.call(|fs| async move { Filesystem::space(&fs, path).await }).await
    }

    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        self.may(path, Follow::Yes).await?;
        let sum = |fs: Rooted| async move { Filesystem::checksum(&fs, path, algorithm, range).await };
        self.far.call(sum).await
    }

    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        if !self.stages {
            return Err(Error::new(ErrorKind::Unsupported));
        }
        let part = match stage {
            Stage::New { near, .. } => {
                self.may(near, Follow::No).await?;
                Part::new(&self.far, near).await?
            }
            Stage::Reopen(id) => match self.part(id) {
                // It is still there, and may be complete.
                Some(part) => return Ok((id.clone(), part)),
                None => Part::again(&self.far, VPath::absolute(&*id.0)?).await?,
            },
        };
        Ok(self.under_way(part))
    }

    async fn publish(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        self.may(to, Follow::No).await?;
        if let Some(part) = self.part(id) {
            part.finish().await?;
        }
        staging::publish(&self.far, &VPath::absolute(&*id.0)?, to, replace, keep).await
    }

    async fn unstage(&self, id: &StageId) -> Result<()> {
        if let Some(part) = self.part(id) {
            part.give_up().await;
        }
        match self.far.remove_file(&VPath::absolute(&*id.0)?).await {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    async fn staged(&self) -> Result<Vec<StageEntry>> {
        Ok(Vec::new())
    }
}

struct FarPages {
    inner: Listing,
    time: Duration,
    in_root: bool,
}

#[async_trait]
impl Pages for FarPages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        loop {
            let Some(mut page) = bounded(self.time, self.inner.next_page()).await? else { return Ok(None) };
            page.retain(|entry| !staging::is_hidden(&entry.name, self.in_root));
            // A page is never empty.
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }
}

struct FarFile {
    inner: Arc<dyn File>,
    time: Duration,
}

#[async_trait]
impl File for FarFile {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        bounded(self.time, self.inner.read_into(offset, len, buf)).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        bounded(self.time, self.inner.write_at(offset, data)).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        bounded(self.time, self.inner.metadata()).await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        bounded(self.time, self.inner.set_attributes(attributes)).await
    }

    async fn sync(&self) -> Result<()> {
        bounded(self.time, self.inner.sync()).await
    }

    async fn settle(&self) -> Result<()> {
        bounded(self.time, self.inner.settle()).await
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        bounded(self.time * VERDICT, self.inner.commit(options)).await
    }

    async fn park(&self) -> Result<()> {
        bounded(self.time, self.inner.park()).await
    }

    async fn abort(&self) -> Result<()> {
        bounded(self.time, self.inner.abort()).await
    }
}

/// The gateways of a server.
#[derive(Default)]
pub struct Gateways {
    all: Mutex<HashMap<String, Arc<Gateway>>>,
    own: RwLock<Arc<[SocketAddr]>>,
    spool: Arc<Spool>,
}

impl Gateways {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Gateway>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes too early for a server that is written in order, and is too much for memory, waits in this folder,
    /// which is emptied; without one it is refused. Blocks. Errors: those of the disk.
    pub fn set_spool(&self, dir: &Path) -> Result<()> {
        self.spool.open(dir).map_err(|e| {
            Error::from(e).with_detail(format!("the folder {} cannot be emptied", dir.display()))
        })
    }

    /// Where this server itself is listened to: no gateway leads there.
    pub fn set_own(&self, addresses: Vec<SocketAddr>) {
        let own: Arc<[SocketAddr]> = addresses.into();
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&own);
        for gateway in self.all().values() {
            *gateway.own.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&own);
        }
    }

    /// A gateway has these settings from now on: whoever uses it goes on over a new connection if they are
    /// others than it had. Nothing is reached yet.
    pub fn set(&self, settings: &Settings) {
        let mut all = self.all();
        let new = || {
            Arc::new(Gateway {
                settings: RwLock::new(Arc::new(settings.clone())),
                own: RwLock::new(Arc::clone(&self.own.read().unwrap_or_else(PoisonError::into_inner))),
                state: tokio::sync::Mutex::default(),
                known: OnceLock::new(),
                spool: Arc::clone(&self.spool),
            })
        };
        all.entry(settings.asked.name.clone()).or_insert_with(new).set(settings);
    }

    /// The same of those that are in use: sessions that are there go on with them.
    pub fn renew(&self, settings: &HashMap<String, Settings>) {
        for (name, gateway) in self.all().iter() {
            if let Some(settings) = settings.get(name) {
                gateway.set(settings);
            }
        }
    }

    /// A folder of a gateway. Nothing is reached yet. `makes`: it is made where it is missing, when it is
    /// first used. Errors: `NotFound` for a gateway that was never set.
    pub fn folder(&self, name: &str, path: VPath, makes: bool) -> Result<FarFolder> {
        let gateway = self.all().get(name).cloned().ok_or(ErrorKind::NotFound)?;
        // What is renamed over there replaces; an object of S3 appears as a whole, and SCP may know no rename.
        let scheme = gateway.settings().asked.url.scheme.clone();
        let stages = !matches!(scheme.as_str(), "s3" | "s3plain" | "scp");
        let (made, staging) = (OnceCell::new(), OnceCell::new());
        let far = Arc::new(Far { gateway, path, made, makes, staging });
        Ok(FarFolder { far, stages, parts: Mutex::default() })
    }
}
