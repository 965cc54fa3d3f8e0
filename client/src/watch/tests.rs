//! Two real folders kept alike, synchronised by the events of the watch.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use session_core::auth::Account;
use session_core::batch::Unattended;
use session_core::fs::Filesystem;
use session_core::fs_ext::FilesystemExt;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::operation::{Operation, OperationSet};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::*;
use crate::mask::FileMask;
use crate::sync::MaxDelete;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn guard(store: impl Filesystem + 'static, links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, Arc::new(store), Chain::new(links)).unwrap()
}

fn open(dir: &Path, links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    guard(LocalStore::open(dir, LocalOptions::default()).unwrap(), links)
}

/// A watch over `l` and `r` of a directory that vanishes.
struct Watched {
    dir: tempfile::TempDir,
    watch: Arc<Watch>,
    events: UnboundedReceiver<Event>,
    task: JoinHandle<Result<Summary>>,
}

fn keeps(sync: SyncOptions) -> WatchOptions {
    WatchOptions { settle: Duration::from_millis(20), ..WatchOptions::new(sync) }
}

fn removing() -> SyncOptions {
    SyncOptions { delete: true, ..SyncOptions::default() }
}

impl Watched {
    /// `l` is listened to; `before` fills both.
    fn begin(options: WatchOptions, links: Vec<Arc<dyn Interceptor>>, before: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("l")).unwrap();
        std::fs::create_dir(dir.path().join("r")).unwrap();
        before(dir.path());
        let options = WatchOptions { left_disk: Some(dir.path().join("l")), ..options };
        let sides = Sides::new((open(dir.path(), vec![]), p("/l")), (open(dir.path(), links), p("/r")));
        Self::over(dir, sides, options)
    }

    fn over(dir: tempfile::TempDir, sides: Sides, options: WatchOptions) -> Self {
        let watch = Watch::new(sides, options, Arc::new(Unattended)).unwrap();
        let (to, events) = unbounded_channel();
        let runs = Arc::clone(&watch);
        let task = tokio::spawn(async move {
            let mut tell = |event: &Event| {
                let event = match event {
                    Event::Failed(e) => Event::Failed(e.clone()),
                    Event::Lost => Event::Lost,
                    Event::Ready => Event::Ready,
                    Event::Round(report) => Event::Round(report.clone()),
                    Event::Waiting(pause) => Event::Waiting(*pause),
                };
                let _ = to.send(event);
            };
            runs.run(&mut tell).await
        });
        Watched { dir, watch, events, task }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), content).unwrap();
    }

    fn is_there(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    async fn event(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await.unwrap().unwrap()
    }

    async fn ready(&mut self) {
        while !matches!(self.event().await, Event::Ready) {}
    }

    /// Waits for the rounds until something holds.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.event().await;
        }
    }

    async fn end(self) -> Summary {
        self.watch.cancel();
        self.task.await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_arrives_and_what_goes_is_removed() {
    let mut w = Watched::begin(keeps(removing()), vec![], |dir| {
        std::fs::write(dir.join("l/before"), "1").unwrap();
        std::fs::write(dir.join("r/extra"), "1").unwrap();
    });
    w.ready().await;
    assert!(w.is_there("r/before") && !w.is_there("r/extra"));
    w.put("l/new", "1");
    w.until(|w| w.is_there("r/new")).await;
    // A tree at once, and more in it afterwards.
    w.put("l/a/b/c/deep", "1");
    w.until(|w| w.is_there("r/a/b/c/deep")).await;
    w.put("l/a/b/c/later", "longer than before");
    w.until(|w| w.is_there("r/a/b/c/later")).await;
    // A tree that is moved, and what happens in it after that.
    std::fs::rename(w.at("l/a"), w.at("l/z")).unwrap();
    w.until(|w| w.is_there("r/z/b/c/deep") && !w.is_there("r/a")).await;
    w.put("l/z/b/moved", "1");
    w.until(|w| w.is_there("r/z/b/moved")).await;
    // A tree that comes from elsewhere.
    w.put("other/x/y", "1");
    std::fs::rename(w.at("other"), w.at("l/other")).unwrap();
    w.until(|w| w.is_there("r/other/x/y")).await;
    std::fs::remove_dir_all(w.at("l/z")).unwrap();
    w.until(|w| !w.is_there("r/z")).await;
    assert!(w.is_there("r/before") && w.is_there("r/new"));
    let summary = w.end().await;
    assert!(summary.outstanding.is_empty() && summary.copied >= 5, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_no_part_is_left_alone() {
    let mask = FileMask::parse("|*.tmp; build/").unwrap();
    let mut w = Watched::begin(keeps(SyncOptions { mask, ..removing() }), vec![], |dir| {
        std::fs::create_dir_all(dir.join("l/build")).unwrap();
        std::fs::create_dir_all(dir.join("r/build")).unwrap();
        std::fs::write(dir.join("r/build/kept"), "1").unwrap();
    });
    w.ready().await;
    w.put("l/build/out", "1");
    w.put("l/x.tmp", "1");
    w.put("l/y.filepart", "1");
    w.put("l/last", "1");
    w.until(|w| w.is_there("r/last")).await;
    assert!(w.is_there("r/build/kept") && !w.is_there("r/build/out"));
    assert!(!w.is_there("r/x.tmp") && !w.is_there("r/y.filepart"));
    w.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_bit_by_bit_share_one_bound_and_a_refusal_is_not_tried_again() {
    let sync = SyncOptions { max_delete: MaxDelete::Entries(4), ..removing() };
    let mut w = Watched::begin(keeps(sync), vec![], |dir| {
        for d in ["one", "two", "stays"] {
            std::fs::create_dir(dir.join("l").join(d)).unwrap();
            for n in 0..3 {
                std::fs::write(dir.join("l").join(d).join(n.to_string()), "1").unwrap();
            }
        }
    });
    w.ready().await;
    std::fs::remove_dir_all(w.at("l/one")).unwrap();
    w.until(|w| !w.is_there("r/one")).await;
    std::fs::remove_dir_all(w.at("l/two")).unwrap();
    let refused = loop {
        match w.event().await {
            Event::Round(report) if !report.failures.is_empty() => break report,
            Event::Round(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let words = refused.failures.first().unwrap().to_string();
    assert!(words.contains("were lately, 4 are allowed"), "{words}");
    assert!(w.is_there("r/two"));
    w.put("l/after", "1");
    while !w.is_there("r/after") {
        let event = w.event().await;
        assert!(matches!(event, Event::Round(_)), "{event:?}");
    }
    assert!(w.is_there("r/two/0") && w.is_there("r/stays/0"));
    w.end().await;
}

/// Has no space for the first file.
struct FullOnce(AtomicU32);

#[async_trait]
impl Interceptor for FullOnce {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<()> {
        match operation {
            Operation::Write(_) if self.0.fetch_add(1, Ordering::SeqCst) == 0 => {
                Err(ErrorKind::NoSpace.into())
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_tried_again() {
    let full = Arc::new(FullOnce(AtomicU32::new(0)));
    let mut w = Watched::begin(keeps(SyncOptions::default()), vec![full], |_| {});
    w.ready().await;
    w.put("l/file", "1");
    let mut waited = false;
    loop {
        match w.event().await {
            Event::Waiting(_) => waited = true,
            Event::Round(report) if report.failures.is_empty() && w.is_there("r/file") => break,
            _ => {}
        }
    }
    assert!(waited);
    assert!(w.end().await.outstanding.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_goes_ends_it_and_removes_nothing() {
    let mut w = Watched::begin(keeps(removing()), vec![], |dir| {
        std::fs::write(dir.join("l/file"), "1").unwrap();
    });
    w.ready().await;
    std::fs::rename(w.at("l"), w.at("elsewhere")).unwrap();
    let ended = (&mut w.task).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(w.is_there("r/file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_tells_places_are_compared_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("r")).unwrap();
    let store = guard(MemoryStore::new(), vec![]);
    let sides = Sides::new((store.clone(), p("/")), (open(dir.path(), vec![]), p("/r")));
    let options = keeps(SyncOptions::default());
    assert_eq!(options.check().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let options = WatchOptions { poll: Some(Duration::from_millis(10)), ..options };
    let mut w = Watched::over(dir, sides, options);
    w.ready().await;
    store.write_all(&p("/file"), bytes::Bytes::from_static(b"1")).await.unwrap();
    w.until(|w| w.is_there("r/file")).await;
    w.end().await;
}

#[tokio::test]
async fn lost_changes_mean_that_everything_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let wake = Arc::new(Notify::new());
    let chosen = Chosen { mask: FileMask::all(), filter: None, root: p("/") };
    let disk = Disk::listen(dir.path(), chosen, Arc::clone(&wake)).await.unwrap();
    assert!(!disk.has_heard());
    std::fs::create_dir(dir.path().join("d")).unwrap();
    wake.notified().await;
    let heard = disk.take().await.unwrap();
    assert!(!heard.lost && !heard.dirty.is_all() && !heard.dirty.is_empty());
    disk.overflow();
    wake.notified().await;
    let heard = disk.take().await.unwrap();
    assert!(heard.lost && heard.dirty.is_all());
    // Still listening.
    std::fs::write(dir.path().join("d/file"), "1").unwrap();
    while !disk.has_heard() {
        wake.notified().await;
    }
}

#[test]
fn a_watch_refuses_what_cannot_be_meant() {
    let good = WatchOptions { left_disk: Some("/".into()), ..WatchOptions::new(SyncOptions::default()) };
    good.check().unwrap();
    let base =
        SyncOptions { direction: Direction::Both, base: Some(Arc::default()), ..SyncOptions::default() };
    let both = SyncOptions { direction: Direction::Both, ..SyncOptions::default() };
    let left = SyncOptions { direction: Direction::To(Side::Left), ..SyncOptions::default() };
    for sync in [base, both, left] {
        assert!(WatchOptions { sync, ..good.clone() }.check().is_err());
    }
    assert!(WatchOptions { poll: Some(Duration::ZERO), ..good }.check().is_err());
}
