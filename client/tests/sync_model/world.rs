//! The worlds that a run lives in: two stores with clocks of their own, told in steps, behind a line that dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use session_core::auth::Account;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow, ListOptions, Listing, Pages};
use session_core::fs_ext::{Bounds, FilesystemExt};
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::layer::Layer;
use session_core::metadata::{DirEntry, Metadata};
use session_core::operation::{Operation, OperationSet};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::memory::{MemoryOptions, MemoryStore};

use crate::model::{Entry, Tree};

/// A generator of its own: runs are repeated from their seed on any machine.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// Tells times in steps, as a coarse listing does.
pub struct Coarse {
    inner: MemoryStore,
    step: Duration,
}

pub fn cut(m: &mut Metadata, step: Duration) {
    m.modified = m.modified.map(|t| {
        let nanos = t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos - nanos % step.as_nanos()).unwrap())
    });
}

pub struct CoarsePages(Listing, Duration);

#[async_trait]
impl Pages for CoarsePages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        let mut page = self.0.next_page().await?;
        for entry in page.iter_mut().flatten() {
            cut(&mut entry.metadata, self.1);
        }
        Ok(page)
    }
}

#[async_trait]
impl Layer for Coarse {
    fn inner(&self) -> &dyn Filesystem {
        &self.inner
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { mtime_granularity: self.step, ..self.inner.capabilities() }
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        let mut m = self.inner.stat(path, follow).await?;
        cut(&mut m, self.step);
        Ok(m)
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        Ok(Box::new(CoarsePages(self.inner.list(dir, options).await?, self.step)))
    }
}

/// The line dies at an operation, and stays dead; or only that operation fails.
#[derive(Clone)]
pub struct Dies {
    pub left: Arc<AtomicI64>,
    pub for_good: bool,
}

#[async_trait]
impl Interceptor for Dies {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, _: Operation<'_>) -> Result<(), Error> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(ErrorKind::Disconnected.into()),
            n if n < 0 && self.for_good => Err(ErrorKind::Disconnected.into()),
            _ => Ok(()),
        }
    }
}

/// One side: a store with a clock of its own.
#[derive(Clone)]
pub struct World {
    pub store: MemoryStore,
    pub step: Duration,
}

impl World {
    pub fn new(clock: &Arc<AtomicU64>, skew: i64, step: Duration) -> Self {
        let clock = Arc::clone(clock);
        let now = move || {
            let seconds = clock.load(Ordering::SeqCst).saturating_add_signed(skew);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let options = MemoryOptions { clock: Arc::new(now), ..MemoryOptions::default() };
        World { store: MemoryStore::with(options), step }
    }

    pub fn open(&self, fuse: Option<&Dies>) -> SessionFs {
        let session = Session::new(Setup::new(Protocol::Local, "model"));
        let identity = session.log_in(Account::named("m"), vec![]).unwrap();
        let chain = fuse.map(|f| Arc::new(f.clone()) as Arc<dyn Interceptor>).into_iter().collect();
        let fs: Arc<dyn Filesystem> = Arc::new(Coarse { inner: self.store.clone(), step: self.step });
        session.guard(&identity, fs, Chain::new(chain)).unwrap()
    }

    pub async fn put(&self, path: &str, content: &str) {
        let at = VPath::absolute(path).unwrap();
        self.store.create_dir_all(&at.parent().unwrap()).await.unwrap();
        self.store.write_all(&at, Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
    }

    /// Every entry below `/t`, as this side shows it.
    pub async fn tree(&self, below: &str) -> Tree {
        let root = VPath::absolute(below).unwrap();
        let mut tree = Tree::new();
        if !self.store.exists(&root).await.unwrap() {
            return tree;
        }
        for (path, mut m) in self.store.walk(&root, Bounds::default()).await.unwrap() {
            cut(&mut m, self.step);
            let name = String::from_utf8(path.strip(&root).unwrap().to_vec()).unwrap();
            if name.ends_with(".filepart") {
                continue;
            }
            let content = match m.is_dir() {
                true => None,
                false => Some(String::from_utf8(self.store.read_to_vec(&path, 1000).await.unwrap()).unwrap()),
            };
            let seconds = m.modified.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            tree.insert(name, Entry { content, seconds });
        }
        tree
    }
}
