//! Jobs that were interrupted go on: the journal cut at every place, and the program really killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use client::batch::{Batch, Job};
use client::jobs::{Jobs, Side, Spec};
use client::journal::Journal;
use session_core::auth::Account;
use session_core::batch::*;
use session_core::error::{Error, ErrorKind};
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::operation::{Operation, OperationSet};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

/// What the journal may lag behind.
const BLOCK: usize = 8 << 20;
/// What may be in flight.
const FLIGHT: usize = 2 << 20;
const LARGE: usize = 16 << 20;
/// Where the disk is full.
const FULL: u64 = 13 << 20;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i % 241) as u8).collect()
}

/// Refuses what is written from some offset on, once the journal tells of what came before.
struct Full(u64, PathBuf);

impl Full {
    async fn noted(&self) {
        let begin = Instant::now();
        loop {
            let told = std::fs::read_to_string(&self.1).unwrap_or_default();
            // The beginning of the file, and a place further on.
            if told.matches("\"t\":\"at\"").count() > 1 {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "nothing is noted: {told}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl Interceptor for Full {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        match operation {
            Operation::Write(w) if w.offset >= self.0 => {
                if self.0 > 0 {
                    self.noted().await;
                }
                Err(ErrorKind::NoSpace.into())
            }
            _ => Ok(()),
        }
    }
}

fn open(dir: &Path, links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    let store = LocalStore::open(dir, LocalOptions::default()).unwrap();
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, Arc::new(store), Chain::new(links)).unwrap()
}

fn fill(dir: &Path, large: usize) {
    std::fs::create_dir_all(dir.join("t")).unwrap();
    std::fs::write(dir.join("t/large"), content(large)).unwrap();
    for n in 0..4 {
        std::fs::write(dir.join(format!("t/small{n}")), content(n * 1000)).unwrap();
    }
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    for entry in std::fs::read_dir(dir.join("t")).unwrap() {
        std::fs::File::open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        std::fs::copy(entry.path(), &there).unwrap();
        let time = entry.metadata().unwrap().modified().unwrap();
        std::fs::File::open(there).unwrap().set_modified(time).unwrap();
    }
}

fn is_whole(a: &Path, b: &Path) {
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(a), names(b));
    for name in names(a) {
        assert!(std::fs::read(a.join(&name)).unwrap() == std::fs::read(b.join(&name)).unwrap(), "{name}");
    }
}

fn spec() -> Spec {
    Spec {
        command: "cp".into(),
        source: Side::Local,
        target: Side::Local,
        jobs: vec![Job { from: p("/t"), to: p("/t") }],
        options: TransferOptions { recursive: true, ..TransferOptions::default() },
        extra: serde_json::Value::Null,
    }
}

async fn work(
    a: &Path,
    b: &Path,
    links: Vec<Arc<dyn Interceptor>>,
    journal: &Arc<Journal>,
) -> TransferReport {
    let batch = Batch::new(open(a, vec![]), open(b, links), spec().options, Arc::new(Unattended));
    batch.keep_journal(Arc::clone(journal));
    batch.run(spec().jobs).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_cut_anywhere_leads_to_the_same_end() {
    let (a, b, state) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(a.path(), LARGE);
    let jobs = Jobs::at(state.path());
    let (id, journal) = jobs.create(&spec()).unwrap();
    let report = work(
        a.path(),
        b.path(),
        vec![Arc::new(Full(FULL, state.path().join(format!("{id}.job"))))],
        &journal,
    )
    .await;
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::NoSpace);
    journal.leave().await;
    assert!(b.path().join("t/large.filepart").exists());
    let whole = std::fs::read(state.path().join(format!("{id}.job"))).unwrap();
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    assert!(ends.len() > 8, "{}", String::from_utf8_lossy(&whole));

    let mut cuts: Vec<usize> = ends.iter().flat_map(|end| [*end, end - 7]).collect();
    cuts.push(0);
    let mut continued = 0;
    for cut in cuts {
        let (b2, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        copy_dir(&b.path().join("t"), &b2.path().join("t"));
        std::fs::write(state.path().join("j.job"), &whole[..cut]).unwrap();
        let jobs = Jobs::at(state.path());
        let (again, journal) = match jobs.take_up("j") {
            Ok(taken) => taken,
            Err(e) => {
                assert!(e.kind() == ErrorKind::Corrupt && cut < ends[0], "cut at {cut}: {e}");
                continue;
            }
        };
        assert_eq!(again.to_json(), spec().to_json());
        let report = work(a.path(), b2.path(), vec![], &journal).await;
        report.check().unwrap();
        is_whole(&a.path().join("t"), &b2.path().join("t"));
        continued += u32::from(report.bytes() < LARGE as u64);
        if cut == whole.len() {
            assert!(report.bytes() <= (LARGE - BLOCK) as u64, "{} were sent", report.bytes());
            assert_eq!(report.skipped(), 4, "what was done is left alone");
        }
        journal.end("done").await;
    }
    assert!(continued > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_meanwhile_is_sent_anew() {
    for change in ["source", "part", "target"] {
        let (a, b, state) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(a.path(), LARGE);
        let jobs = Jobs::at(state.path());
        let (id, journal) = jobs.create(&spec()).unwrap();
        let report = work(
            a.path(),
            b.path(),
            vec![Arc::new(Full(FULL, state.path().join(format!("{id}.job"))))],
            &journal,
        )
        .await;
        assert!(!report.is_success());
        journal.leave().await;
        match change {
            "source" => {
                // Of the same size, but another file.
                let mut other = content(LARGE);
                other.reverse();
                std::fs::write(a.path().join("t/large"), other).unwrap();
            }
            "part" => {
                let part = b.path().join("t/large.filepart");
                let mut bytes = std::fs::read(&part).unwrap();
                bytes[..64].fill(0);
                std::fs::write(part, bytes).unwrap();
            }
            _ => std::fs::write(b.path().join("t/small3"), "another").unwrap(),
        }
        let (_, journal) = jobs.take_up(&id).unwrap();
        let report = work(a.path(), b.path(), vec![], &journal).await;
        report.check().unwrap();
        is_whole(&a.path().join("t"), &b.path().join("t"));
        if change == "target" {
            assert_eq!(report.skipped(), 3);
        } else {
            assert_eq!(report.bytes(), LARGE as u64, "{change}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_file_of_its_own_is_not_taken_for_one_that_was_there() {
    let (a, b, state) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(a.path().join("mine"), content(1000)).unwrap();
    std::fs::write(a.path().join("theirs"), content(1000)).unwrap();
    std::fs::write(b.path().join("theirs"), "was there").unwrap();
    let job = |name: &str| Job { from: p(&format!("/{name}")), to: p(&format!("/{name}")) };
    let spec = Spec {
        jobs: vec![job("mine"), job("theirs")],
        options: TransferOptions { overwrite: Overwrite::Never, ..TransferOptions::default() },
        ..spec()
    };
    let run = |journal: Arc<Journal>, links| {
        let (a, b, spec) = (open(a.path(), vec![]), open(b.path(), links), spec.clone());
        async move {
            let batch = Batch::new(a, b, spec.options, Arc::new(Unattended));
            batch.keep_journal(journal);
            batch.run(spec.jobs).await
        }
    };
    let jobs = Jobs::at(state.path());
    let (id, journal) = jobs.create(&spec).unwrap();
    let report =
        run(Arc::clone(&journal), vec![Arc::new(Full(0, PathBuf::new())) as Arc<dyn Interceptor>]).await;
    assert_eq!((report.failures.len(), report.skipped()), (1, 1));
    journal.leave().await;
    // As a kill in its midst leaves it.
    std::fs::write(b.path().join("mine"), content(500)).unwrap();
    let (_, journal) = jobs.take_up(&id).unwrap();
    let report = run(journal, vec![]).await;
    report.check().unwrap();
    assert_eq!((report.done(), report.skipped()), (1, 1));
    assert!(std::fs::read(b.path().join("mine")).unwrap() == content(1000));
    assert_eq!(std::fs::read(b.path().join("theirs")).unwrap(), b"was there");
}

fn ferry(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(args).current_dir(dir).env("XDG_STATE_HOME", dir.join("state"));
    command.env("XDG_RUNTIME_DIR", dir.join("run"));
    command
}

/// The jobs as the program lists them.
fn listed(dir: &Path) -> Vec<serde_json::Value> {
    let out = ferry(dir, &["--json", "jobs"]).output().unwrap();
    assert!(out.status.success());
    crate::lines::checked("jobs", &String::from_utf8(out.stdout).unwrap())
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The size of the file whose transfer is killed when that much of it has arrived.
const SLOW: usize = 20 << 20;
const KILLED: usize = 11 << 20;

// Takes some seconds: the transfer is slow, so that it can be killed in its middle.
#[test]
fn a_transfer_that_is_killed_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fill(dir.path(), SLOW);
    std::fs::create_dir(at("to")).unwrap();
    // What was not selected is not when it goes on, either.
    std::fs::write(at("t/left.out"), "x").unwrap();
    std::fs::write(at("filter"), "*.out\n").unwrap();
    let args = ["cp", "-r", "--limit", "8M", "--filter-from", "filter", "--receipts", "receipts", "t", "to"];
    let child = ferry(dir.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = Reaped(child);
    let part = at("to/t/large.filepart");
    let begin = Instant::now();
    while std::fs::metadata(&part).map_or(0, |m| m.len()) < KILLED as u64 {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not move");
        assert!(child.0.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    let jobs = listed(dir.path());
    assert_eq!((jobs.len(), jobs[0]["standing"].as_str()), (1, Some("running")), "{jobs:?}");
    assert_eq!(jobs[0]["pid"], child.0.id());
    let id = jobs[0]["job"].as_str().unwrap().to_owned();
    let busy = ferry(dir.path(), &["resume", &id]).output().unwrap();
    assert!(
        !busy.status.success()
            && !ferry(dir.path(), &["jobs", "forget", &id]).output().unwrap().status.success()
    );
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert!(!at("to/t/large").exists());
    assert_eq!(listed(dir.path())[0]["standing"], "interrupted");

    let out = ferry(dir.path(), &["--json", "resume"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::remove_file(at("t/left.out")).unwrap();
    is_whole(&at("t"), &at("to/t"));
    let text = String::from_utf8(out.stdout).unwrap();
    let summary = crate::lines::checked("resume", &text).pop().unwrap();
    let sent = summary["bytes"].as_u64().unwrap();
    assert!(sent <= (SLOW - KILLED + BLOCK + FLIGHT) as u64, "{sent} bytes were sent");
    assert_eq!(listed(dir.path())[0]["standing"], "done");
    // One receipt for each file, over both runs.
    let receipts = std::fs::read_to_string(at("receipts")).unwrap();
    let mut targets: Vec<String> = receipts
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["target"].as_str().unwrap().to_owned())
        .collect();
    targets.sort();
    assert_eq!(targets.len(), 5, "{targets:?}");
    targets.dedup();
    assert_eq!(targets.len(), 5, "{targets:?}");

    assert!(ferry(dir.path(), &["jobs", "forget", &id]).output().unwrap().status.success());
    assert!(listed(dir.path()).is_empty());
    assert_eq!(ferry(dir.path(), &["resume"]).output().unwrap().status.code(), Some(5));
}

#[test]
fn short_jobs_leave_nothing_and_failed_ones_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    assert!(ferry(dir.path(), &["cp", "f", "g"]).output().unwrap().status.success());
    assert!(listed(dir.path()).is_empty());
    let out = ferry(dir.path(), &["cp", "--verify", "strict", "f", "missing/g"]).output().unwrap();
    assert!(!out.status.success());
    let jobs = listed(dir.path());
    assert_eq!((jobs.len(), jobs[0]["standing"].as_str()), (1, Some("failed")));
    assert_eq!((&jobs[0]["files_done"], &jobs[0]["files_total"]), (&0.into(), &1.into()));
}

#[test]
fn a_running_transfer_is_paused_slowed_ended_and_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), LARGE);
    std::fs::create_dir(dir.path().join("to")).unwrap();
    let args = ["cp", "-r", "--limit", "64K", "t", "to"];
    let child = ferry(dir.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = Reaped(child);
    let begin = Instant::now();
    let job = loop {
        if let Some(job) = listed(dir.path()).into_iter().find(|job| job["limit"] == 64 << 10) {
            break job;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "it is not seen");
    };
    assert_eq!((&job["standing"], &job["pid"]), (&"running".into(), &child.0.id().into()));
    let id = job["job"].as_str().unwrap();
    let asked = |args: &[&str]| {
        let out = ferry(dir.path(), &[&["jobs"], args].concat()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    asked(&["pause", id]);
    asked(&["limit", "off", id]);
    // Without a limit it would be over at once.
    for _ in 0..10 {
        let job = &listed(dir.path())[0];
        assert_eq!((&job["paused"], &job["limit"]), (&true.into(), &0.into()), "{job}");
        assert!(job["bytes_done"].as_u64().unwrap() < LARGE as u64);
    }
    asked(&["kill", id]);
    // Its journal is free when the answer comes.
    assert_eq!(listed(dir.path())[0]["standing"], "interrupted");
    assert_ne!(child.0.wait().unwrap().code(), Some(0));
    let out = ferry(dir.path(), &["jobs", "pause", id]).output().unwrap();
    assert_eq!(out.status.code(), Some(5));
    // As slow as before, until somebody says otherwise.
    let again =
        ferry(dir.path(), &["resume", id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut again = Reaped(again);
    while !listed(dir.path()).iter().any(|job| job["limit"] == 64 << 10) {
        assert!(again.0.try_wait().unwrap().is_none(), "it ended by itself");
    }
    asked(&["limit", "off", id]);
    assert_eq!(again.0.wait().unwrap().code(), Some(0));
    is_whole(&dir.path().join("t"), &dir.path().join("to/t"));
}

#[test]
fn receipts_that_are_not_written_are_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let out = ferry(dir.path(), &["cp", "--receipts", "/dev/full", "f", "g"]).output().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{err}");
    assert!(err.contains("the receipts '/dev/full' cannot be written"), "{err}");
    assert!(dir.path().join("g").exists());
}

#[test]
fn what_is_interrupted_ends_with_the_code_for_it() {
    for args in [&["sync", "--limit", "64K", "t", "to"][..], &["cp", "-r", "--limit", "64K", "t", "to"]] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), LARGE);
        std::fs::create_dir(dir.path().join("to")).unwrap();
        let child = ferry(dir.path(), args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut child = Reaped(child);
        let begin = Instant::now();
        // Small files are in place, the large one is on its way.
        while !listed(dir.path()).iter().any(|job| job["files_done"].as_u64() > Some(3)) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it is not seen");
        }
        let pid = child.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert_eq!(child.0.wait().unwrap().code(), Some(130), "{args:?}");
    }
}
