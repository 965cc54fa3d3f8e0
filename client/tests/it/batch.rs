//! The batch engine between two local folders.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::Refuse;
use async_trait::async_trait;
use client::batch::{Batch, Job};
use session_core::auth::Account;
use session_core::batch::{
    Answer, Decider, Guarantee, ItemOutcome, Overwrite, Query, Resume, TransferOptions, Unattended,
};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{Filesystem, Follow};
use session_core::fs_ext::FilesystemExt;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::metadata::Attributes;
use session_core::operation::{Operation, OperationKind, OperationSet, Record};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn open_with(dir: &Path, links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    let store = LocalStore::open(dir, LocalOptions::default()).unwrap();
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, Arc::new(store), Chain::new(links)).unwrap()
}

fn open(dir: &Path) -> SessionFs {
    open_with(dir, vec![])
}

fn options() -> TransferOptions {
    TransferOptions { recursive: true, ..TransferOptions::default() }
}

fn job(from: &str, to: &str) -> Vec<Job> {
    vec![Job { from: p(from), to: p(to) }]
}

/// Content that tells its own offset.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i % 241) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_arrives_whole_with_times_and_modes() {
    use std::os::unix::fs::PermissionsExt;
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::create_dir_all(a.path().join("t/sub/empty")).unwrap();
    for (name, len) in [("0", 0), ("1", 1), ("chunk", 256 << 10), ("more", (256 << 10) + 1), ("big", 5 << 20)]
    {
        let path = a.path().join("t/sub").join(name);
        std::fs::write(&path, content(len)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
    }
    for n in 0..300 {
        std::fs::write(a.path().join(format!("t/{n}")), content(n)).unwrap();
    }
    std::fs::File::open(a.path().join("t/sub")).unwrap().set_modified(old).unwrap();
    let batch = Batch::new(open(a.path()), open(b.path()), options(), Arc::new(Unattended));
    let report = batch.run(job("/t", "/t2")).await;
    report.check().unwrap();
    assert_eq!(report.done(), 305);
    for name in ["0", "1", "chunk", "more", "big"] {
        let (x, y) = (a.path().join("t/sub").join(name), b.path().join("t2/sub").join(name));
        assert_eq!(std::fs::read(&x).unwrap(), std::fs::read(&y).unwrap(), "{name}");
        let m = std::fs::metadata(&y).unwrap();
        assert_eq!(m.modified().unwrap(), old, "{name}");
        assert_eq!(m.permissions().mode() & 0o777, 0o440, "{name}");
    }
    assert_eq!(std::fs::metadata(b.path().join("t2/sub")).unwrap().modified().unwrap(), old);
    assert!(b.path().join("t2/sub/empty").is_dir());
    let left: Vec<_> =
        std::fs::read_dir(b.path().join("t2/sub")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_str().unwrap().contains("filepart")), "{left:?}");
    let p = batch.tracker().progress();
    assert_eq!((p.files_done, p.bytes_done), (p.files_total, p.bytes_total));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_file_is_continued_and_a_foreign_beginning_is_not() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = content(100 << 20);
    std::fs::write(a.path().join("f"), &all).unwrap();
    let have = 80 << 20;
    std::fs::write(b.path().join("f.filepart"), &all[..have]).unwrap();
    let batch = Batch::new(open(a.path()), open(b.path()), options(), Arc::new(Unattended));
    let report = batch.run(job("/f", "/f")).await;
    report.check().unwrap();
    assert!(report.bytes() < 90 << 20, "it was sent anew: {}", report.bytes());
    assert!(std::fs::read(b.path().join("f")).unwrap() == all);

    let mut foreign = all[..have].to_vec();
    foreign[10 << 20..20 << 20].fill(0);
    std::fs::remove_file(b.path().join("f")).unwrap();
    std::fs::write(b.path().join("f.filepart"), &foreign).unwrap();
    let batch = Batch::new(open(a.path()), open(b.path()), options(), Arc::new(Unattended));
    let report = batch.run(job("/f", "/f")).await;
    report.check().unwrap();
    assert_eq!(report.bytes(), 100 << 20);
    assert!(std::fs::read(b.path().join("f")).unwrap() == all);
}

/// Answers everything alike, and knows what it was asked.
struct Says(Answer, std::sync::Mutex<Vec<Query>>);

#[async_trait]
impl Decider for Says {
    async fn decide(&self, query: Query) -> Answer {
        self.1.lock().unwrap().push(query);
        self.0.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_continued_where_the_decider_says_so() {
    let all = content(100 << 20);
    let have = 80 << 20;
    for (part, answer, moved) in [
        ("f.filepart", Answer::Yes, 84..90),
        ("f.filepart", Answer::Skip, 100..101),
        ("f", Answer::Continue, 20..21),
        ("f", Answer::Yes, 100..101),
    ] {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(a.path().join("f"), &all).unwrap();
        std::fs::write(b.path().join(part), &all[..have]).unwrap();
        let options = TransferOptions { resume: Resume::Ask, overwrite: Overwrite::Ask, ..options() };
        let decider = Arc::new(Says(answer.clone(), std::sync::Mutex::default()));
        let report =
            Batch::new(open(a.path()), open(b.path()), options, decider.clone()).run(job("/f", "/f")).await;
        report.check().unwrap();
        assert!(moved.contains(&(report.bytes() >> 20)), "{part} {answer:?}: {}", report.bytes());
        let asked = decider.1.lock().unwrap().clone();
        match (&asked[..], part) {
            ([Query::Overwrite { existing, .. }], "f") => assert_eq!(existing.0, have as u64),
            ([Query::Resume { there, size, .. }], "f.filepart") => {
                assert!(*there <= have as u64 && *size == 100 << 20);
            }
            (asked, _) => panic!("{asked:?}"),
        }
        assert!(std::fs::read(b.path().join("f")).unwrap() == all);
    }
}

#[tokio::test]
async fn what_fails_stands_once_in_the_report_and_the_rest_goes_on() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(a.path().join("t")).unwrap();
    for n in ["bad1", "bad2", "good1", "good2"] {
        std::fs::write(a.path().join("t").join(n), n).unwrap();
    }
    let refuse: fn(&Record) -> bool = |r| matches!(r, Record::Open(o) if o.path.name().starts_with(b"bad"));
    let target = open_with(b.path(), vec![Arc::new(Refuse(refuse))]);
    let report =
        Batch::new(open(a.path()), target, options(), Arc::new(Unattended)).run(job("/t", "/t")).await;
    assert_eq!((report.done(), report.failures.len()), (2, 2));
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Refused);
    let numbers: std::collections::BTreeSet<_> = report
        .items
        .iter()
        .filter_map(|(_, o)| if let ItemOutcome::Failed(n) = o { Some(*n) } else { None })
        .collect();
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [0, 1]);
}

/// Has reads of the first chunk wait, and knows where writes went, in their order.
#[derive(Default)]
struct Late(std::sync::Mutex<Vec<u64>>);

#[async_trait]
impl Interceptor for Late {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        match operation.to_record() {
            Record::Read(r) if r.offset % (1 << 20) == 0 => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            Record::Write(w) => self.0.lock().unwrap().push(w.offset),
            _ => {}
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_reach_a_server_in_order_however_late_they_were_read() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(a.path().join("f"), content(8 << 20)).unwrap();
    let late = Arc::new(Late::default());
    let session = Session::new(Setup::new(Protocol::Sftp, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    let store = Arc::new(LocalStore::open(b.path(), LocalOptions::default()).unwrap());
    let target = session.guard(&identity, store, Chain::new(vec![late.clone()])).unwrap();
    let source = open_with(a.path(), vec![Arc::new(Late::default())]);
    let report = Batch::new(source, target, options(), Arc::new(Unattended)).run(job("/f", "/f")).await;
    report.check().unwrap();
    let offsets = late.0.lock().unwrap().clone();
    assert!(offsets.len() > 8 && offsets.is_sorted(), "{offsets:?}");
    assert!(std::fs::read(b.path().join("f")).unwrap() == content(8 << 20));
}

#[tokio::test]
async fn a_part_that_fails_is_a_beginning_of_the_file() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = content(8 << 20);
    std::fs::write(a.path().join("f"), &all).unwrap();
    // One chunk in the middle finds no room, those behind it do.
    let refuse: fn(&Record) -> bool =
        |r| matches!(r, Record::Write(w) if (5 << 20..(5 << 20) + (224 << 10)).contains(&w.offset));
    let target = open_with(b.path(), vec![Arc::new(Refuse(refuse))]);
    let report =
        Batch::new(open(a.path()), target, options(), Arc::new(Unattended)).run(job("/f", "/f")).await;
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Refused);
    let part = std::fs::read(b.path().join("f.filepart")).unwrap();
    assert!(part.len() < 6 << 20 && all.starts_with(&part), "{}", part.len());
}

#[tokio::test]
async fn a_small_file_that_fails_leaves_the_old_content() {
    for overwrite in [Overwrite::Always, Overwrite::Newer] {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(b.path().join("f"), "old").unwrap();
        let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        std::fs::File::open(b.path().join("f")).unwrap().set_modified(past).unwrap();
        std::fs::write(a.path().join("f"), content(300)).unwrap();
        let refuse: fn(&Record) -> bool = |r| matches!(r, Record::Write(_));
        let target = open_with(b.path(), vec![Arc::new(Refuse(refuse))]);
        let options = TransferOptions { overwrite, ..options() };
        let batch = Batch::new(open(a.path()), target, options.clone(), Arc::new(Unattended));
        assert_eq!(batch.run(job("/f", "/f")).await.check().unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(std::fs::read(b.path().join("f")).unwrap(), b"old", "{overwrite:?}");
        let batch = Batch::new(open(a.path()), open(b.path()), options, Arc::new(Unattended));
        batch.run(job("/f", "/f")).await.check().unwrap();
        assert_eq!(std::fs::read(b.path().join("f")).unwrap(), content(300));
    }
}

/// Writes into a file of the same size when something is written elsewhere.
struct Meddler(std::path::PathBuf);

#[async_trait]
impl Interceptor for Meddler {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if matches!(operation.to_record(), Record::Write(_)) {
            use std::os::unix::fs::FileExt as _;
            std::fs::File::options().write(true).open(&self.0).unwrap().write_at(b"other", 1000).unwrap();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_source_that_changes_while_it_is_read_is_not_moved() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = a.path().join("f");
    std::fs::write(&from, content(2 << 20)).unwrap();
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::open(&from).unwrap().set_modified(past).unwrap();
    std::fs::write(b.path().join("f"), "old").unwrap();
    let target = open_with(b.path(), vec![Arc::new(Meddler(from))]);
    let batch = Batch::new(open(a.path()), target, options(), Arc::new(Unattended));
    assert_eq!(batch.run(job("/f", "/f")).await.check().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(std::fs::read(b.path().join("f")).unwrap(), b"old");
}

/// Knows which operations were done.
#[derive(Default)]
struct Seen(std::sync::Mutex<Vec<OperationKind>>);

#[async_trait]
impl Interceptor for Seen {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        self.0.lock().unwrap().push(operation.kind());
        Ok(())
    }
}

#[tokio::test]
async fn a_server_that_can_copies_by_itself_to_a_temporary_name() {
    let seen = Arc::new(Seen::default());
    let session = Session::new(Setup::new(Protocol::Sftp, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    let fs =
        session.guard(&identity, Arc::new(MemoryStore::default()), Chain::new(vec![seen.clone()])).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (len, there) in [(300, false), (300, true), (1 << 20, false), (1 << 20, true)] {
        let all = bytes::Bytes::from(content(len));
        fs.write_all(&p("/f"), all.clone()).await.unwrap();
        fs.set_attributes(&p("/f"), &Attributes::times(None, Some(old)), Follow::No).await.unwrap();
        if !there && fs.exists(&p("/g")).await.unwrap() {
            fs.remove_file(&p("/g")).await.unwrap();
        }
        seen.0.lock().unwrap().clear();
        let report =
            Batch::new(fs.clone(), fs.clone(), options(), Arc::new(Unattended)).run(job("/f", "/g")).await;
        report.check().unwrap();
        assert_eq!(report.receipts[0].guarantee, Guarantee::AtomicRename, "{len} {there}");
        let done = seen.0.lock().unwrap().clone();
        assert!(done.contains(&OperationKind::Copy) && !done.contains(&OperationKind::Read), "{done:?}");
        assert_eq!(fs.read_to_vec(&p("/g"), 1 << 30).await.unwrap(), all);
        assert_eq!(fs.stat(&p("/g"), Follow::No).await.unwrap().modified, Some(old));
    }
}

#[tokio::test]
async fn what_replaces_a_file_has_its_owner() {
    let a = tempfile::tempdir().unwrap();
    let session = Session::new(Setup::new(Protocol::Sftp, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    let target = session.guard(&identity, Arc::new(MemoryStore::default()), Chain::new(vec![])).unwrap();
    for len in [300, 1 << 20] {
        std::fs::write(a.path().join("f"), content(len)).unwrap();
        target.write_all(&p("/f"), bytes::Bytes::from_static(b"old")).await.unwrap();
        let owner = Attributes { uid: Some(7), gid: Some(8), ..Attributes::none() };
        target.set_attributes(&p("/f"), &owner, Follow::No).await.unwrap();
        let batch = Batch::new(open(a.path()), target.clone(), options(), Arc::new(Unattended));
        batch.run(job("/f", "/f")).await.check().unwrap();
        let now = target.stat(&p("/f"), Follow::No).await.unwrap();
        assert_eq!((now.size, now.uid, now.gid), (len as u64, Some(7), Some(8)));
    }
}

#[tokio::test]
async fn a_failed_upload_leaves_the_old_content() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(a.path().join("f"), content(1 << 20)).unwrap();
    std::fs::write(b.path().join("f"), "old").unwrap();
    for refuse in [
        (|r| matches!(r, Record::Write(w) if w.offset > 500_000)) as fn(&Record) -> bool,
        |r| matches!(r, Record::Commit(_)),
        |r| matches!(r, Record::Rename(_)),
    ] {
        let target = open_with(b.path(), vec![Arc::new(Refuse(refuse))]);
        let report =
            Batch::new(open(a.path()), target, options(), Arc::new(Unattended)).run(job("/f", "/f")).await;
        assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(std::fs::read(b.path().join("f")).unwrap(), b"old");
    }
}

struct Always(Answer);

#[async_trait]
impl Decider for Always {
    async fn decide(&self, query: Query) -> Answer {
        match query {
            Query::Overwrite { .. } => self.0.clone(),
            other => other.unattended(),
        }
    }
}

#[tokio::test]
async fn targets_that_exist_are_treated_as_told() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |overwrite, answer: Answer, newer: bool| {
        let (a, b) = (a.path().to_path_buf(), b.path().to_path_buf());
        async move {
            std::fs::write(a.join("f"), "new").unwrap();
            std::fs::write(b.join("f"), "old").unwrap();
            let past = SystemTime::now() - Duration::from_secs(1000);
            let older = if newer { &b } else { &a };
            std::fs::File::open(older.join("f")).unwrap().set_modified(past).unwrap();
            let options = TransferOptions { overwrite, ..TransferOptions::default() };
            let report =
                Batch::new(open(&a), open(&b), options, Arc::new(Always(answer))).run(job("/f", "/f")).await;
            report.check().ok();
            std::fs::read(b.join("f")).unwrap() == b"new"
        }
    };
    assert!(run(Overwrite::Always, Answer::Skip, false).await);
    assert!(!run(Overwrite::Never, Answer::Yes, true).await);
    assert!(run(Overwrite::Newer, Answer::Skip, true).await);
    assert!(!run(Overwrite::Newer, Answer::Skip, false).await);
    assert!(run(Overwrite::Ask, Answer::Yes, false).await);
    assert!(run(Overwrite::Ask, Answer::YesToAll, false).await);
    assert!(!run(Overwrite::Ask, Answer::Skip, false).await);
    assert!(!run(Overwrite::Ask, Answer::NoToAll, false).await);
    assert!(!run(Overwrite::Ask, Answer::Abort, false).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_shrinks_or_grows_is_noticed() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = a.path().join("f");
    std::fs::write(&path, content(1 << 20)).unwrap();
    /// Cuts the file after it was looked at.
    struct Shrink(std::path::PathBuf);
    #[async_trait]
    impl Interceptor for Shrink {
        fn interests(&self) -> OperationSet {
            OperationSet::ALL
        }
        async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
            if matches!(operation, Operation::Open(_)) {
                std::fs::OpenOptions::new().write(true).open(&self.0).unwrap().set_len(1000).unwrap();
            }
            Ok(())
        }
    }
    let source = open_with(a.path(), vec![Arc::new(Shrink(path))]);
    let report =
        Batch::new(source, open(b.path()), options(), Arc::new(Unattended)).run(job("/f", "/f")).await;
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!b.path().join("f").exists());
}

#[tokio::test]
async fn special_files_and_link_loops_are_skipped_with_the_reason() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(a.path().join("t")).unwrap();
    std::fs::write(a.path().join("t/f"), "x").unwrap();
    std::os::unix::fs::symlink("f", a.path().join("t/link")).unwrap();
    std::os::unix::fs::symlink(".", a.path().join("t/round")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(a.path().join("t/pipe")).status().unwrap();
    assert!(made.success());
    let report = Batch::new(open(a.path()), open(b.path()), options(), Arc::new(Unattended))
        .run(job("/t", "/t"))
        .await;
    report.check().unwrap();
    assert_eq!((report.done(), report.skipped()), (2, 2));
    assert_eq!(std::fs::read(b.path().join("t/link")).unwrap(), b"x");
}
