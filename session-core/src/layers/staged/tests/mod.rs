//! Staging over a store that yields at each step, and over a directory: ends and policies in `endings`,
//! what lasts in `lasting`, names in `names`, giving up and crowds in `churn`, what is judged in `sealing`. Who sees what is told by the conformance suite.

mod churn;
mod endings;
mod lasting;
mod names;
mod sealing;
pub(in crate::layers) mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};

use self::store::Little;
use super::*;

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// As everybody above sees it.
type Fs = Arc<dyn Filesystem>;

/// Makes a fresh bench of one kind.
type Make = fn() -> Bench;

struct Bench {
    store: Fs,
    area: Arc<StagingArea>,
    /// Seconds that the clock is ahead.
    ahead: Arc<AtomicU64>,
    /// Where the store's directory is removed in the end.
    #[cfg(feature = "local")]
    dir: Option<tempfile::TempDir>,
    /// Two sessions of one account, one of another account.
    mine: Fs,
    again: Fs,
    other: Fs,
}

impl Bench {
    fn new() -> Self {
        Self::with(StagingPolicy::default())
    }

    fn with(policy: StagingPolicy) -> Self {
        Self::over(Arc::new(Little::new()), policy)
    }

    fn over(store: Fs, policy: StagingPolicy) -> Self {
        let ahead = Arc::new(AtomicU64::new(0));
        let clock: Clock = {
            let (ahead, start) = (Arc::clone(&ahead), SystemTime::now());
            Arc::new(move || start + Duration::from_secs(ahead.load(Ordering::SeqCst)))
        };
        let area = StagingArea::new(Arc::clone(&store), policy, clock).unwrap();
        let staged = |name: &str| Arc::new(Staged::new(Owner::account(name), Arc::clone(&area))) as Fs;
        let (mine, again, other) = (staged("ann"), staged("ann"), staged("bob"));
        Bench {
            store,
            area,
            ahead,
            #[cfg(feature = "local")]
            dir: None,
            mine,
            again,
            other,
        }
    }

    /// Over a directory of this machine, all of it on the blocking pool.
    #[cfg(feature = "local")]
    fn local() -> Self {
        use crate::store::local::{LocalOptions, LocalStore};
        let dir = tempfile::tempdir().unwrap();
        let options = LocalOptions { in_place: 0, ..LocalOptions::default() };
        let store = Arc::new(LocalStore::open(dir.path(), options).unwrap());
        Bench { dir: Some(dir), ..Self::over(store, StagingPolicy::default()) }
    }

    /// As after the end of the process: nothing is left but what the store keeps.
    fn restarted(&self) -> Self {
        #[cfg(feature = "local")]
        if let Some(dir) = &self.dir {
            let store = crate::store::local::LocalStore::open(dir.path(), Default::default()).unwrap();
            return Self::over(Arc::new(store), StagingPolicy::default());
        }
        Self::over(Arc::clone(&self.store), StagingPolicy::default())
    }

    fn shared(&self, id: &str) -> Fs {
        Arc::new(Staged::new(Owner::session(id), Arc::clone(&self.area)))
    }

    fn later(&self, seconds: u64) -> SystemTime {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
        self.area.now()
    }

    /// Publishes `content` under `path`.
    async fn put(&self, path: &str, content: &str) {
        let file = self.other.open(&p(path), &OpenOptions::create()).await.unwrap();
        write(&file, 0, content).await;
        commit(&file).await.unwrap();
    }

    /// An upload of ann's that was parked with `content`.
    async fn parked(&self, path: &str, content: &str) {
        let file = self.mine.open(&p(path), &OpenOptions::create()).await.unwrap();
        write(&file, 0, content).await;
        file.park().await.unwrap();
    }

    /// How many staged files the store holds once the chores are done.
    async fn staged(&self) -> usize {
        // What a drop leaves to do is done in the background: the number has to stay the same for a while.
        let (mut last, mut same) = (usize::MAX, 0);
        for _ in 0..500 {
            Arc::clone(&self.area).chores().await;
            let known = self.area.table().iter().count();
            let is_settled = self.store.staged().await.unwrap().len() == known;
            same = if is_settled && known == last { same + 1 } else { 0 };
            if same == 5 {
                return known;
            }
            last = known;
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        self.store.staged().await.unwrap().len()
    }
}

/// Runs each case over the little store and over a directory.
macro_rules! cases {
    ($($name:ident)*) => {
        mod little {
            $( #[tokio::test] async fn $name() { super::$name(super::Bench::new).await } )*
        }
        #[cfg(feature = "local")]
        mod local {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() { super::$name(super::Bench::local).await }
            )*
        }
    };
}
use cases;

async fn open(fs: &Fs, path: &str, options: OpenOptions) -> Result<Arc<dyn File>> {
    fs.open(&p(path), &options).await
}

async fn create(fs: &Fs, path: &str) -> Arc<dyn File> {
    open(fs, path, OpenOptions::create()).await.unwrap()
}

/// How a client continues: writing, made if missing, never emptied.
fn resume() -> OpenOptions {
    OpenOptions { write: true, create: true, ..OpenOptions::default() }
}

fn exclusive() -> OpenOptions {
    OpenOptions { write: true, create: true, exclusive: true, ..OpenOptions::default() }
}

async fn write(file: &Arc<dyn File>, offset: u64, content: &str) {
    file.write_at(offset, Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
}

async fn commit(file: &Arc<dyn File>) -> Result<Metadata> {
    file.commit(&CommitOptions::default()).await
}

/// The content that `fs` reads at `path`, or the kind of its refusal.
async fn read(fs: &Fs, path: &str) -> Result<String, ErrorKind> {
    let file = open(fs, path, OpenOptions::read()).await.map_err(|e| e.kind())?;
    let data = file.read_into(0, 1 << 20, BytesMut::new()).await.map_err(|e| e.kind())?;
    Ok(String::from_utf8(data.to_vec()).unwrap())
}

/// The size that `fs` is told of `path`.
async fn size(fs: &Fs, path: &str) -> Option<u64> {
    match fs.stat(&p(path), Follow::Yes).await {
        Ok(metadata) => Some(metadata.size),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => panic!("{e:?}"),
    }
}

/// Names and sizes that `fs` lists in `dir`, in the order given.
async fn listed_by(fs: &Fs, dir: &str, options: ListOptions) -> Vec<(String, u64)> {
    let mut pages = fs.list(&p(dir), &options).await.unwrap();
    let mut all = Vec::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        assert!(!page.is_empty());
        all.extend(page.iter().map(|e| (String::from_utf8(e.name.to_vec()).unwrap(), e.metadata.size)));
    }
    all
}

async fn listed(fs: &Fs, dir: &str) -> Vec<(String, u64)> {
    let mut all = listed_by(fs, dir, ListOptions::default()).await;
    all.sort();
    all
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("it should have failed").kind()
}
