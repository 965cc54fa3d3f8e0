//! Large files in segments, from our own servers: all in place, taken up again, and never taken for what they
//! are not.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::local_with as local;
use crate::support::world::{Cutter, World};
use async_trait::async_trait;
use client::batch::{Batch, Job};
use client::connect::{Connected, Options, open_url};
use client::jobs::{Jobs, Side, Spec};
use client::journal::Journal;
use client::url::Location;
use session_core::batch::*;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, Filesystem};
use session_core::fs_ext::FilesystemExt;
use session_core::gate::SessionFs;
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::path::VPath;
use session_core::store::memory::MemoryStore;
use tokio::sync::Notify;

const LARGE: usize = 10 << 20;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i % 241) as u8).collect()
}

async fn open(scheme: &str, world: &World, lines: usize) -> Connected {
    let text = format!("{scheme}://ann@127.0.0.1:{}/", world.port);
    let Ok(Location::Remote(url)) = Location::parse(&text) else { panic!("a URL") };
    let options = Options::from_url(&url)
        .unwrap()
        .host_keys(&world.host_key.clone().into_iter().collect::<Vec<_>>())
        .unwrap()
        .identities(vec!["/nonexistent".into()])
        .password(Some("secret".into()))
        .lines(lines)
        .reconnect(Duration::from_secs(30));
    open_url(options, Arc::new(Unattended)).await.unwrap()
}

fn options() -> TransferOptions {
    TransferOptions { segments: 4, segment_size: 1 << 20, ..TransferOptions::default() }
}

/// Counts files that are opened, and the sessions that open them.
#[derive(Default)]
struct Opens {
    count: AtomicUsize,
    sessions: Mutex<HashSet<String>>,
}

#[async_trait]
impl Interceptor for Opens {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Open])
    }

    async fn before(&self, cx: &Cx<'_>, _: Operation<'_>) -> Result<()> {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.sessions.lock().unwrap().insert(cx.session.id().to_string());
        Ok(())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn run(source: &SessionFs, target: &SessionFs, options: TransferOptions) -> TransferReport {
    let batch = Batch::new(source.clone(), target.clone(), options, Arc::new(Unattended));
    batch.run(vec![Job { from: p("/large"), to: p("/large") }]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_comes_in_segments_over_several_connections() {
    for scheme in ["ftp", "sftp"] {
        let store = Arc::new(MemoryStore::new());
        store.write_all(&p("/large"), content(LARGE).into()).await.unwrap();
        let opens = Arc::new(Opens::default());
        let links = vec![Arc::clone(&opens) as Arc<dyn Interceptor>];
        let world = match scheme {
            "ftp" => World::ftp(Arc::clone(&store) as Arc<dyn Filesystem>, links).await,
            _ => World::sftp(Arc::clone(&store) as Arc<dyn Filesystem>, links).await,
        };
        let remote = open(scheme, &world, 3).await;
        let dir = tempfile::tempdir().unwrap();
        let report = run(remote.fs(), &local(dir.path(), vec![]), options()).await;
        report.check().unwrap();
        assert!(std::fs::read(dir.path().join("large")).unwrap() == content(LARGE), "{scheme}");
        assert_eq!(names(dir.path()), ["large"]);
        assert_eq!((report.bytes(), report.receipts[0].sent), (LARGE as u64, LARGE as u64));
        assert_eq!(report.receipts[0].guarantee, Guarantee::AtomicRename);
        assert!(opens.count.load(Ordering::SeqCst) >= 4, "{scheme}");
        assert!(opens.sessions.lock().unwrap().len() >= 3, "{scheme}");

        // The other way, as far as the protocol can: in one piece over FTP.
        std::fs::rename(dir.path().join("large"), dir.path().join("back")).unwrap();
        let batch =
            Batch::new(local(dir.path(), vec![]), remote.fs().clone(), options(), Arc::new(Unattended));
        batch.run(vec![Job { from: p("/back"), to: p("/back") }]).await.check().unwrap();
        assert!(store.read_to_vec(&p("/back"), LARGE).await.unwrap() == content(LARGE), "{scheme}");
        assert!(!store.exists(&p("/back.segments.filepart")).await.unwrap());
        remote.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_and_proofs_stay_right() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(a.path().join("large"), content(LARGE)).unwrap();
    let strict = TransferOptions { verify: Verify::Strict, digest: Some(Algorithm::Sha256), ..options() };
    let report = run(&local(a.path(), vec![]), &local(b.path(), vec![]), strict).await;
    report.check().unwrap();
    let digest = report.receipts[0].digest.clone().unwrap();
    let mut hasher = session_core::digest::Hasher::new(Algorithm::Sha256);
    hasher.update(&content(LARGE));
    assert!(digest.value == hasher.finish() && report.receipts[0].proof.is_digest());
}

/// Once has no space behind some offset, when the journal knows of what came before.
struct Full {
    from: u64,
    tells: Arc<Notify>,
    done: AtomicBool,
}

#[async_trait]
impl Interceptor for Full {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Write])
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        match operation {
            Operation::Write(w) if w.offset >= self.from && !self.done.load(Ordering::SeqCst) => {
                self.tells.notified().await;
                self.done.store(true, Ordering::SeqCst);
                Err(ErrorKind::NoSpace.into())
            }
            _ => Ok(()),
        }
    }
}

fn spec() -> Spec {
    Spec {
        command: "cp".into(),
        source: Side::Local,
        target: Side::Local,
        jobs: vec![Job { from: p("/large"), to: p("/large") }],
        options: options(),
        extra: serde_json::Value::Null,
    }
}

async fn work(a: &Path, target: &SessionFs, journal: &Arc<Journal>) -> TransferReport {
    let batch = Batch::new(local(a, vec![]), target.clone(), options(), Arc::new(Unattended));
    batch.keep_journal(Arc::clone(journal));
    batch.run(spec().jobs).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_were_interrupted_go_on_each_where_it_was() {
    let (a, b, state) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(a.path().join("large"), content(LARGE)).unwrap();
    let jobs = Jobs::at(state.path());
    let (id, journal) = jobs.create(&spec()).unwrap();
    let tells = Arc::new(Notify::new());
    // The last segment, behind its middle.
    let from = (LARGE - LARGE / 8) as u64;
    let full = Arc::new(Full { from, tells: Arc::clone(&tells), done: AtomicBool::new(false) });
    let target = local(b.path(), vec![full]);
    let file = state.path().join(format!("{id}.job"));
    let told = tokio::task::spawn_blocking(move || {
        let begin = std::time::Instant::now();
        // The journal knows that the first three segments are in.
        let done = |text: &str| {
            (1..4).all(|n| {
                let (begin, end) = (LARGE / 4 * (n - 1), LARGE / 4 * n);
                text.contains(&format!("\"n\":[{begin},{end},{end}]"))
            })
        };
        while !done(&std::fs::read_to_string(&file).unwrap_or_default()) {
            assert!(begin.elapsed() < Duration::from_secs(30), "nothing is noted");
            std::thread::sleep(Duration::from_millis(5));
        }
        tells.notify_one();
    });
    let report = work(a.path(), &target, &journal).await;
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::NoSpace);
    told.await.unwrap();
    journal.leave().await;
    // Nobody can take it for a beginning.
    assert_eq!(names(b.path()), ["large.segments.filepart"]);

    // Without a journal it is begun anew.
    let fresh = tempfile::tempdir().unwrap();
    std::fs::copy(b.path().join("large.segments.filepart"), fresh.path().join("large.segments.filepart"))
        .unwrap();
    let report = run(&local(a.path(), vec![]), &local(fresh.path(), vec![]), options()).await;
    report.check().unwrap();
    assert_eq!(report.bytes(), LARGE as u64);
    assert!(std::fs::read(fresh.path().join("large")).unwrap() == content(LARGE));

    let (again, journal) = jobs.take_up(&id).unwrap();
    assert_eq!((again.options.segments, again.options.segment_size), (4, 1 << 20));
    let report = work(a.path(), &target, &journal).await;
    report.check().unwrap();
    journal.end("done").await;
    assert!(std::fs::read(b.path().join("large")).unwrap() == content(LARGE));
    assert_eq!(names(b.path()), ["large"]);
    assert!(report.bytes() <= (LARGE / 4) as u64, "{} were sent", report.bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_whose_segments_were_changed_is_sent_anew() {
    let (a, b, state) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(a.path().join("large"), content(LARGE)).unwrap();
    let jobs = Jobs::at(state.path());
    let (id, journal) = jobs.create(&spec()).unwrap();
    let tells = Arc::new(Notify::new());
    tells.notify_one();
    let full = Arc::new(Full { from: (LARGE - LARGE / 8) as u64, tells, done: AtomicBool::new(false) });
    let target = local(b.path(), vec![full]);
    assert!(!work(a.path(), &target, &journal).await.is_success());
    journal.leave().await;
    std::fs::write(b.path().join("large.segments.filepart"), vec![7; LARGE]).unwrap();
    let (_, journal) = jobs.take_up(&id).unwrap();
    let report = work(a.path(), &target, &journal).await;
    report.check().unwrap();
    journal.end("done").await;
    assert!(std::fs::read(b.path().join("large")).unwrap() == content(LARGE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_go_on_over_lines_that_are_cut() {
    const SIZE: usize = 40 << 20;
    for (scheme, up) in [("sftp", false), ("sftp", true), ("ftp", false)] {
        let what = format!("{scheme}, up: {up}");
        let store = Arc::new(MemoryStore::new());
        let cutter = Cutter::every(7 << 20);
        let links = vec![Arc::clone(&cutter) as Arc<dyn Interceptor>];
        let served = Arc::clone(&store) as Arc<dyn Filesystem>;
        let world = match scheme {
            "ftp" => World::ftp(served, links).await,
            _ => World::sftp(served, links).await,
        };
        let remote = open(scheme, &world, 3).await;
        let (dir, large) = (tempfile::tempdir().unwrap(), content(SIZE));
        let here = local(dir.path(), vec![]);
        let report = if up {
            std::fs::write(dir.path().join("large"), &large).unwrap();
            run(&here, remote.fs(), options()).await
        } else {
            store.write_all(&p("/large"), large.clone().into()).await.unwrap();
            run(remote.fs(), &here, options()).await
        };
        report.check().unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let arrived = match up {
            true => store.read_to_vec(&p("/large"), SIZE).await.unwrap(),
            false => std::fs::read(dir.path().join("large")).unwrap(),
        };
        assert!(arrived == large, "{what}");
        let cuts = cutter.cuts.load(Ordering::SeqCst);
        assert!(cuts >= 2, "{what}: {cuts} cuts");
        // What was under way at a cut goes again, and not the rest; what comes has arrived when it is counted.
        let sent = report.receipts[0].sent;
        assert!(up || sent == SIZE as u64, "{what}: {sent} sent");
        assert!(sent <= SIZE as u64 + cuts * (16 << 20), "{what}: {cuts} cuts, {sent} sent");
        assert_eq!(names(dir.path()), ["large"], "{what}");
        assert!(!store.exists(&p("/large.segments.filepart")).await.unwrap(), "{what}");
        remote.close().await;
    }
}

/// Says yes to trying again.
struct Again;

#[async_trait]
impl Decider for Again {
    async fn decide(&self, query: Query) -> Answer {
        match query {
            Query::Retry { .. } => Answer::Yes,
            other => other.unattended(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_in_one_piece_goes_on_in_one_piece() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(a.path().join("large"), content(LARGE)).unwrap();
    // As WinSCP leaves it; the last 64 MiB of such a part are not trusted, so all of this one is sent.
    std::fs::write(b.path().join("large.filepart"), &content(LARGE)[..LARGE / 2]).unwrap();
    let report = run(&local(a.path(), vec![]), &local(b.path(), vec![]), options()).await;
    report.check().unwrap();
    assert_eq!(names(b.path()), ["large"]);
    assert!(std::fs::read(b.path().join("large")).unwrap() == content(LARGE));

    // Within one run it is known what every segment has.
    std::fs::remove_file(b.path().join("large")).unwrap();
    let tells = Arc::new(Notify::new());
    tells.notify_one();
    let full = Arc::new(Full { from: (LARGE - LARGE / 8) as u64, tells, done: AtomicBool::new(false) });
    let batch = Batch::new(local(a.path(), vec![]), local(b.path(), vec![full]), options(), Arc::new(Again));
    let report = batch.run(spec().jobs).await;
    report.check().unwrap();
    assert!(std::fs::read(b.path().join("large")).unwrap() == content(LARGE));
    assert_eq!(names(b.path()), ["large"]);
}
