//! A small store for tests of the driver, and a client that speaks packets.
//!
//! The store keeps a tree in memory; what is created or truncated is staged and appears at commit, as
//! the real stores do it. With a seed every call takes a random while, before and after its effect.
#![allow(dead_code, reason = "with fewer features some of it has no test")]

#[cfg(all(feature = "client", feature = "server"))]
pub mod expired;
#[cfg(all(feature = "client", feature = "server"))]
pub mod site;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use proto_sftp::server::{Driver, Outgoing};
use proto_sftp::wire::{Frames, FromServer, Init, Reply, Request, Version};
use session_core::auth::Account;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::*;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::metadata::{Attributes, DirEntry, FileType, Metadata};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

type Content = Arc<Mutex<Vec<u8>>>;

#[derive(Clone)]
enum Node {
    Directory(u32),
    File(u32, Content),
}

/// See the module.
#[derive(Default)]
pub struct Store {
    tree: Mutex<BTreeMap<VPath, Node>>,
    /// The paths under which open files will appear: a rename moves them.
    paths: Mutex<Vec<Arc<Mutex<VPath>>>>,
    /// What was published, parked and thrown away, in order.
    pub endings: Mutex<Vec<String>>,
    seed: AtomicU64,
    /// Calls of `read_into` so far.
    pub reads: AtomicUsize,
    /// Every commit fails with this.
    pub veto: Mutex<Option<Error>>,
    /// Every write fails with this.
    pub full: Mutex<Option<Error>>,
    /// Reads never end.
    pub stuck: AtomicBool,
    /// How long a write takes, milliseconds.
    pub slow: AtomicU64,
}

impl Store {
    pub fn new() -> Arc<Self> {
        let store = Self::default();
        store.tree.lock().unwrap().insert(VPath::root(), Node::Directory(0o755));
        Arc::new(store)
    }

    pub fn with_jitter(seed: u64) -> Arc<Self> {
        let store = Self::new();
        store.seed.store(seed | 1, Ordering::SeqCst);
        store
    }

    pub fn put(&self, path: &str, content: &[u8]) {
        let node = Node::File(0o644, Arc::new(Mutex::new(content.to_vec())));
        self.tree.lock().unwrap().insert(p(path), node);
    }

    pub fn mkdir(&self, path: &str) {
        self.tree.lock().unwrap().insert(p(path), Node::Directory(0o755));
    }

    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        match self.tree.lock().unwrap().get(&p(path)) {
            Some(Node::File(_, c)) => Some(c.lock().unwrap().clone()),
            _ => None,
        }
    }

    /// The whole tree in words.
    pub fn dump(&self) -> Vec<String> {
        let tree = self.tree.lock().unwrap();
        tree.iter()
            .map(|(path, node)| match node {
                Node::Directory(mode) => format!("{path}/ {mode:o}"),
                Node::File(mode, c) => {
                    format!("{path} {mode:o} {:?}", Bytes::from(c.lock().unwrap().clone()))
                }
            })
            .collect()
    }

    /// A random while, in turns of the scheduler.
    async fn pause(&self) {
        let seed = self.seed.load(Ordering::SeqCst);
        if seed == 0 {
            return;
        }
        let next = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed.store(next | 1, Ordering::SeqCst);
        for _ in 0..(next >> 33) % 7 {
            tokio::task::yield_now().await;
        }
    }

    fn get(&self, path: &VPath) -> Result<Node> {
        let tree = self.tree.lock().unwrap();
        tree.get(path).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound))
    }

    fn parent(&self, path: &VPath) -> Result<()> {
        match self.get(&path.parent().ok_or(ErrorKind::InvalidArgument)?)? {
            Node::Directory(_) => Ok(()),
            Node::File(..) => Err(ErrorKind::NotADirectory.into()),
        }
    }
}

fn metadata(node: &Node) -> Metadata {
    let (mut m, mode) = match node {
        Node::Directory(mode) => (Metadata::new(FileType::Directory, 0), mode),
        Node::File(mode, c) => (Metadata::new(FileType::File, c.lock().unwrap().len() as u64), mode),
    };
    m.mode = Some(*mode);
    m
}

pub struct Served(pub Arc<Store>);

#[async_trait]
impl Filesystem for Served {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            write: true,
            create_dir: true,
            remove: true,
            rename: true,
            rename_replaces: true,
            random_write: true,
            continue_write: true,
            append: true,
            truncate: true,
            set_mode: true,
            ..Capabilities::none()
        }
    }

    async fn stat(&self, path: &VPath, _: Follow) -> Result<Metadata> {
        self.0.pause().await;
        let found = self.0.get(path).map(|n| metadata(&n));
        self.0.pause().await;
        found
    }

    async fn list(&self, dir: &VPath, _: &ListOptions) -> Result<Listing> {
        self.0.pause().await;
        if let Node::File(..) = self.0.get(dir)? {
            return Err(ErrorKind::NotADirectory.into());
        }
        let tree = self.0.tree.lock().unwrap();
        let entries = tree
            .iter()
            .filter(|(path, _)| path.parent().as_ref() == Some(dir))
            .map(|(path, n)| DirEntry { name: Bytes::copy_from_slice(path.name()), metadata: metadata(n) })
            .collect();
        Ok(Box::new(ListingOf::new(entries)))
    }

    async fn open(&self, path: &VPath, o: &OpenOptions) -> Result<Arc<dyn File>> {
        self.0.pause().await;
        let found = self.0.get(path);
        let opened = match found {
            Ok(Node::Directory(_)) => return Err(ErrorKind::IsADirectory.into()),
            Ok(Node::File(..)) if o.exclusive => return Err(ErrorKind::AlreadyExists.into()),
            Ok(Node::File(_, content)) if !o.truncate => OpenedFile::new(self, path, content, false),
            Err(e) if !o.create => return Err(e),
            _ => {
                self.0.parent(path)?;
                OpenedFile::new(self, path, Content::default(), true)
            }
        };
        self.0.pause().await;
        Ok(Arc::new(opened))
    }

    async fn create_dir(&self, path: &VPath, a: &Attributes) -> Result<()> {
        self.0.pause().await;
        self.0.parent(path)?;
        if self.0.get(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let mode = a.mode.unwrap_or(0o755);
        self.0.tree.lock().unwrap().insert(path.clone(), Node::Directory(mode));
        self.0.pause().await;
        Ok(())
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.0.pause().await;
        match self.0.get(path)? {
            Node::Directory(_) => Err(ErrorKind::IsADirectory.into()),
            Node::File(..) => {
                self.0.tree.lock().unwrap().remove(path);
                Ok(())
            }
        }
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.0.pause().await;
        if let Node::File(..) = self.0.get(path)? {
            return Err(ErrorKind::NotADirectory.into());
        }
        let mut tree = self.0.tree.lock().unwrap();
        if tree.keys().any(|k| k.parent().as_ref() == Some(path)) {
            return Err(ErrorKind::NotEmpty.into());
        }
        tree.remove(path);
        Ok(())
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.0.pause().await;
        self.0.get(from)?;
        self.0.parent(to)?;
        if to.starts_with(from) {
            return Err(ErrorKind::InvalidArgument.into());
        }
        match self.0.get(to) {
            Ok(_) if replace == Replace::No => return Err(ErrorKind::AlreadyExists.into()),
            Ok(Node::Directory(_)) => return Err(ErrorKind::NotEmpty.into()),
            _ => {}
        }
        let mut tree = self.0.tree.lock().unwrap();
        let moving: Vec<_> = tree.keys().filter(|k| k.starts_with(from)).cloned().collect();
        for old in moving {
            let node = tree.remove(&old).unwrap();
            tree.insert(old.rebase(from, to).unwrap(), node);
        }
        for path in self.0.paths.lock().unwrap().iter() {
            let mut path = path.lock().unwrap();
            if let Some(new) = path.rebase(from, to) {
                *path = new;
            }
        }
        Ok(())
    }

    async fn set_attributes(&self, path: &VPath, a: &Attributes, _: Follow) -> Result<()> {
        self.0.pause().await;
        let mut tree = self.0.tree.lock().unwrap();
        match tree.get_mut(path) {
            Some(Node::Directory(mode) | Node::File(mode, _)) => *mode = a.mode.unwrap_or(*mode),
            None => return Err(ErrorKind::NotFound.into()),
        }
        Ok(())
    }
}

struct OpenedFile {
    store: Arc<Store>,
    path: Arc<Mutex<VPath>>,
    content: Content,
    staged: bool,
    ended: AtomicBool,
}

impl OpenedFile {
    fn new(served: &Served, path: &VPath, content: Content, staged: bool) -> Self {
        let path = Arc::new(Mutex::new(path.clone()));
        served.0.paths.lock().unwrap().push(Arc::clone(&path));
        OpenedFile { store: Arc::clone(&served.0), path, content, staged, ended: AtomicBool::new(false) }
    }

    fn end(&self, how: &str) -> bool {
        let first = !self.ended.swap(true, Ordering::SeqCst);
        if first {
            self.store.endings.lock().unwrap().push(format!("{how} {}", self.path.lock().unwrap()));
        }
        first
    }
}

#[async_trait]
impl File for OpenedFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        self.store.reads.fetch_add(1, Ordering::SeqCst);
        if self.store.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.store.pause().await;
        {
            let content = self.content.lock().unwrap();
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let end = start.saturating_add(len).min(content.len());
            buf.extend_from_slice(&content[start..end]);
        }
        self.store.pause().await;
        Ok(buf)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        self.store.pause().await;
        let slow = self.store.slow.load(Ordering::SeqCst);
        if slow > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(slow)).await;
        }
        if let Some(e) = self.store.full.lock().unwrap().clone() {
            return Err(e);
        }
        {
            let mut content = self.content.lock().unwrap();
            let start = offset as usize;
            let end = start + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(&data);
        }
        self.store.pause().await;
        Ok(())
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.store.pause().await;
        Ok(metadata(&Node::File(0o644, Arc::clone(&self.content))))
    }

    async fn set_attributes(&self, a: &Attributes) -> Result<()> {
        self.store.pause().await;
        if let Some(size) = a.size {
            self.content.lock().unwrap().resize(size as usize, 0);
        }
        self.store.pause().await;
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        self.store.pause().await;
        Ok(())
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        self.store.pause().await;
        if let Some(e) = self.store.veto.lock().unwrap().clone() {
            return Err(e);
        }
        if !self.end("commit") {
            return Err(ErrorKind::Closed.into());
        }
        let node = Node::File(0o644, Arc::clone(&self.content));
        if self.staged {
            let path = self.path.lock().unwrap().clone();
            self.store.parent(&path)?;
            self.store.tree.lock().unwrap().insert(path, node.clone());
        }
        self.store.pause().await;
        Ok(metadata(&node))
    }

    async fn park(&self) -> Result<()> {
        self.end("park");
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        self.end("abort");
        Ok(())
    }
}

impl Drop for OpenedFile {
    fn drop(&mut self) {
        if self.staged {
            self.end("park");
        }
    }
}

/// A session logged in over `store`.
pub fn guarded(store: &Arc<Store>, links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    let chain = Chain::new(links);
    let setup = Setup { chain: Arc::clone(&chain), ..Setup::new(Protocol::Sftp, "test") };
    let session = Session::new(setup);
    let identity = session.log_in(Account::named("someone"), vec![]).unwrap();
    session.guard(&identity, Arc::new(Served(Arc::clone(store))), chain).unwrap()
}

/// Sends into anything that can be written to.
pub struct Writer<W>(pub W);

impl<W: AsyncWrite + Unpin + Send + 'static> Outgoing for Writer<W> {
    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.0.write_all(&bytes).await?;
        self.0.flush().await?;
        Ok(())
    }
}

/// Chunks of anything that can be read.
pub fn chunks<R: AsyncRead + Unpin + Send>(read: R) -> impl Stream<Item = Result<Bytes>> + Unpin + Send {
    Box::pin(stream::unfold(read, |mut read| async move {
        let mut buf = BytesMut::with_capacity(32 * 1024);
        match read.read_buf(&mut buf).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(buf.freeze()), read)),
            Err(e) => Some((Err(e.into()), read)),
        }
    }))
}

/// A client that speaks packets over a pipe.
pub struct Client {
    pub to: tokio::io::WriteHalf<tokio::io::DuplexStream>,
    from: tokio::io::ReadHalf<tokio::io::DuplexStream>,
    frames: Frames,
    pub server: tokio::task::JoinHandle<Result<()>>,
}

impl Client {
    /// Serves `fs` and says hello. The pipe holds `room` bytes each way.
    pub async fn connect(fs: SessionFs, room: usize) -> Self {
        let (ours, theirs) = tokio::io::duplex(room);
        let (read, write) = tokio::io::split(theirs);
        let server = tokio::spawn(Driver::new(fs).run(chunks(read), Writer(write)));
        let (from, to) = tokio::io::split(ours);
        let mut client = Client { to, from, frames: Frames::default(), server };
        let mut hello = BytesMut::new();
        Init { version: 3, extensions: vec![] }.encode(&mut hello);
        client.to.write_all(&hello).await.unwrap();
        match client.packet().await.expect("a greeting") {
            FromServer::Version(Version { version: 3, .. }) => client,
            other => panic!("{other:?}"),
        }
    }

    pub async fn packet(&mut self) -> Option<FromServer> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return Some(FromServer::decode(frame).unwrap());
            }
            let mut buf = BytesMut::with_capacity(64 * 1024);
            if self.from.read_buf(&mut buf).await.unwrap() == 0 {
                return None;
            }
            self.frames.push(buf.freeze());
        }
    }

    /// Sends requests in one segment, numbered from `first`.
    pub async fn send(&mut self, first: u32, requests: &[Request]) {
        let mut out = BytesMut::new();
        for (i, request) in requests.iter().enumerate() {
            request.encode(first + i as u32, &mut out);
        }
        self.to.write_all(&out).await.unwrap();
    }

    pub async fn replies(&mut self, count: usize) -> BTreeMap<u32, Reply> {
        let mut replies = BTreeMap::new();
        while replies.len() < count {
            match self.packet().await.expect("a reply") {
                FromServer::Reply(id, reply) => assert!(replies.insert(id, reply).is_none(), "{id} twice"),
                other => panic!("{other:?}"),
            }
        }
        replies
    }

    /// One request, one reply.
    pub async fn ask(&mut self, request: Request) -> Reply {
        self.send(7, &[request]).await;
        self.replies(1).await.remove(&7).unwrap()
    }

    /// Opens and gives the handle.
    pub async fn open(&mut self, path: &str, flags: u32) -> Bytes {
        let open = Request::Open { path: Bytes::from(path.to_owned()), flags, attrs: Default::default() };
        match self.ask(open).await {
            Reply::Handle(h) => h,
            other => panic!("{other:?}"),
        }
    }

    /// Ends the input and waits for the server's end.
    pub async fn finish(mut self) -> Result<()> {
        self.to.shutdown().await.unwrap();
        drop(self.to);
        let mut rest = Vec::new();
        self.from.read_to_end(&mut rest).await.unwrap();
        self.server.await.unwrap()
    }
}

pub fn code(reply: &Reply) -> Option<u32> {
    match reply {
        Reply::Status { code, .. } => Some(*code),
        _ => None,
    }
}

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const CREATE: u32 = 8;
pub const TRUNCATE: u32 = 16;
