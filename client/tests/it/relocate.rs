//! Directories that move within a store that renames none: copied by the store, removed when all is in place, gone on
//! with after an interruption at any point.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use client::batch::{Batch, Job};
use client::jobs::{Jobs, Side, Spec};
use session_core::auth::Account;
use session_core::batch::*;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::layer::Layer;
use session_core::operation::{Operation, OperationSet};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;

/// A store like one of objects.
struct Objects(Arc<MemoryStore>);

#[async_trait]
impl Layer for Objects {
    fn inner(&self) -> &dyn Filesystem {
        &*self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { whole_files: true, set_times: false, ..Filesystem::capabilities(&*self.0) }
    }

    fn capabilities_at(&self, _: &VPath) -> Capabilities {
        Layer::capabilities(self)
    }

    async fn rename(&self, _: &VPath, _: &VPath, _: Replace) -> Result<()> {
        Err(ErrorKind::CrossDevice.into())
    }
}

/// Lets so many of one kind of operation pass, and writes down all.
struct Only {
    left: AtomicUsize,
    copies: bool,
    seen: Mutex<Vec<String>>,
}

impl Only {
    fn copies(n: usize) -> Arc<Self> {
        Arc::new(Only { left: n.into(), copies: true, seen: Mutex::default() })
    }

    fn removals(n: usize) -> Arc<Self> {
        Arc::new(Only { left: n.into(), copies: false, seen: Mutex::default() })
    }

    fn seen(&self, kind: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|line| line.starts_with(kind)).count()
    }
}

#[async_trait]
impl Interceptor for Only {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        let (line, counts) = match operation {
            Operation::Copy(c) => (format!("copy {} {}", c.from, c.to), self.copies),
            Operation::RemoveFile(r) => (format!("remove {}", r.path), !self.copies),
            Operation::RemoveDir(r) => (format!("rmdir {}", r.path), !self.copies),
            Operation::Open(o) => (format!("open {}", o.path), false),
            _ => return Ok(()),
        };
        self.seen.lock().unwrap().push(line);
        if counts && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err()
        {
            return Err(ErrorKind::Throttled.into());
        }
        Ok(())
    }
}

const FILES: usize = 7;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

async fn filled() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for dir in ["/b", "/b/from", "/b/from/empty", "/b/from/sub", "/b/from/sub/deep"] {
        store.create_dir(&p(dir), &Default::default()).await.unwrap();
    }
    for n in 0..FILES {
        let dir = ["/b/from", "/b/from/sub", "/b/from/sub/deep"][n % 3];
        store.write_all(&p(&format!("{dir}/f{n}")), vec![n as u8; n * 100].into()).await.unwrap();
    }
    Arc::new(store)
}

async fn names(store: &MemoryStore, under: &str) -> Vec<String> {
    match store.walk(&p(under), Default::default()).await {
        Ok(all) => all.into_iter().map(|(path, _)| path.display().split_off(under.len())).collect(),
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => panic!("{e}"),
    }
}

fn open(store: &Arc<MemoryStore>, link: &Arc<Only>) -> SessionFs {
    let session = Session::new(Setup::new(Protocol::S3, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    let fs = Arc::new(Objects(Arc::clone(store)));
    session.guard(&identity, fs, Chain::new(vec![Arc::clone(link) as Arc<dyn Interceptor>])).unwrap()
}

fn spec() -> Spec {
    Spec {
        command: "mv".into(),
        source: Side::Local,
        target: Side::Local,
        jobs: vec![Job { from: p("/b/from"), to: p("/b/to") }],
        options: TransferOptions {
            recursive: true,
            overwrite: Overwrite::Always,
            ..TransferOptions::default()
        },
        extra: serde_json::Value::Null,
    }
}

/// One run; a new job, or the one that is named.
async fn moves(
    store: &Arc<MemoryStore>,
    link: &Arc<Only>,
    state: &Path,
    job: Option<&str>,
) -> (TransferReport, String) {
    let jobs = Jobs::at(state);
    let (id, journal) = match job {
        Some(id) => (id.to_owned(), jobs.take_up(id).unwrap().1),
        None => jobs.create(&spec()).unwrap(),
    };
    let fs = open(store, link);
    let batch = Batch::new(fs.clone(), fs, spec().options, Arc::new(Unattended));
    batch.keep_journal(Arc::clone(&journal));
    let report = batch.run_move(spec().jobs).await;
    journal.leave().await;
    (report, id)
}

#[tokio::test]
async fn a_directory_moves_and_nothing_of_it_crosses() {
    let (store, state) = (filled().await, tempfile::tempdir().unwrap());
    let before = names(&store, "/b/from").await;
    let link = Only::copies(usize::MAX);
    let (report, _) = moves(&store, &link, state.path(), None).await;
    report.check().unwrap();
    assert_eq!((report.done(), report.bytes()), (FILES, 0));
    assert_eq!(names(&store, "/b/to").await, before);
    assert_eq!(names(&store, "/b").await.iter().filter(|n| n.starts_with("/from")).count(), 0);
    assert_eq!((link.seen("copy"), link.seen("remove"), link.seen("open")), (FILES, FILES, 0));
    // Nothing is removed before everything is copied.
    let seen = link.seen.lock().unwrap();
    let first = seen.iter().position(|l| l.starts_with("remove")).unwrap();
    assert_eq!(seen.iter().take(first).filter(|l| l.starts_with("copy")).count(), FILES);
}

#[tokio::test]
async fn a_move_that_stops_anywhere_is_gone_on_with() {
    for (copies, n) in (0..FILES).map(|n| (true, n)).chain((0..FILES + 4).map(|n| (false, n))) {
        let (store, state) = (filled().await, tempfile::tempdir().unwrap());
        let whole = names(&store, "/b/from").await;
        let link = if copies { Only::copies(n) } else { Only::removals(n) };
        let (report, id) = moves(&store, &link, state.path(), None).await;
        assert!(!report.is_success(), "{copies} {n}");
        if copies {
            assert_eq!(link.seen("remove") + link.seen("rmdir"), 0, "{n}");
            assert_eq!(names(&store, "/b/from").await, whole);
        } else {
            assert_eq!(names(&store, "/b/to").await, whole, "{n}");
        }
        let again = Only::copies(usize::MAX);
        let (report, _) = moves(&store, &again, state.path(), Some(&id)).await;
        report.check().unwrap_or_else(|e| panic!("{copies} {n}: {e:#}"));
        assert_eq!(names(&store, "/b/to").await, whole, "{copies} {n}");
        assert!(names(&store, "/b").await.iter().all(|n| !n.starts_with("/from")), "{copies} {n}");
        // What was copied is not copied again.
        assert_eq!(again.seen("copy"), if copies { FILES - n } else { 0 }, "{copies} {n}");
    }
    // Everything had been done but for saying so.
    let (store, state) = (filled().await, tempfile::tempdir().unwrap());
    let (_, id) = moves(&store, &Only::copies(usize::MAX), state.path(), None).await;
    let (report, _) = moves(&store, &Only::copies(0), state.path(), Some(&id)).await;
    report.check().unwrap();
}

#[tokio::test]
async fn what_came_meanwhile_is_left_and_told() {
    let (store, state) = (filled().await, tempfile::tempdir().unwrap());
    let (report, id) = moves(&store, &Only::removals(0), state.path(), None).await;
    assert!(!report.is_success());
    // As if another had written between the copies and the removals, seen by this run's listing alone.
    struct Late(Arc<MemoryStore>, AtomicUsize);
    #[async_trait]
    impl Interceptor for Late {
        fn interests(&self) -> OperationSet {
            OperationSet::ALL
        }

        async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
            if let Operation::RemoveFile(_) = operation
                && self.1.fetch_add(1, Ordering::SeqCst) == 0
            {
                self.0.write_all(&p("/b/from/sub/deep/late"), b"late"[..].into()).await.unwrap();
            }
            Ok(())
        }
    }
    let session = Session::new(Setup::new(Protocol::S3, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    let late = Arc::new(Late(Arc::clone(&store), AtomicUsize::new(0)));
    let fs = session.guard(&identity, Arc::new(Objects(Arc::clone(&store))), Chain::new(vec![late])).unwrap();
    let batch = Batch::new(fs.clone(), fs, spec().options, Arc::new(Unattended));
    let (_, journal) = Jobs::at(state.path()).take_up(&id).unwrap();
    batch.keep_journal(journal);
    let report = batch.run_move(spec().jobs).await;
    let e = report.check().unwrap_err();
    assert_eq!((report.failures.len(), e.kind()), (1, ErrorKind::PreconditionFailed), "{e:#}");
    assert_eq!(names(&store, "/b/from").await, ["/sub", "/sub/deep", "/sub/deep/late"]);
    assert!(!names(&store, "/b/to").await.contains(&"/sub/deep/late".to_owned()));
}
