//! `sync` and `apply` that die: taken up, they go on with their list, do nothing twice and leave alone what has changed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use client::journal::Journal;
use client::sync::{
    Check, Direction, MaxDelete, Outcome, Renames, Runner, Side, Sides, SyncOptions, compare,
};
use session_core::batch::Unattended;
use session_core::error::Result;
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationSet};
use session_core::path::VPath;
use tokio::sync::Notify;

use crate::lines::checked;
use crate::support::{local, local_with};

fn put(dir: &Path, path: &str, content: &[u8], seconds: u64) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + seconds);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
}

/// Files and directories by path, with what they hold.
fn tree(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let (mut all, mut todo) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                all.insert(name, None);
                todo.push(path);
            } else {
                all.insert(name, Some(std::fs::read(&path).unwrap()));
            }
        }
    }
    all
}

/// The k-th operation of the side that changes never comes back, and nothing comes after it.
struct Dies {
    calls: AtomicU64,
    at: u64,
    dead: Notify,
}

#[async_trait]
impl Interceptor for Dies {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, _: Operation<'_>) -> Result<()> {
        if self.calls.fetch_add(1, Ordering::SeqCst) + 1 >= self.at {
            self.dead.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// What has changed in every way.
fn two(dir: &Path) {
    for n in 0..4 {
        put(dir, &format!("l/new/{n}"), format!("new {n}").as_bytes(), n);
        put(dir, &format!("l/changed{n}"), format!("changed {n}").as_bytes(), 100 + n);
        put(dir, &format!("r/changed{n}"), b"old", n);
        put(dir, &format!("r/gone/{n}"), b"gone", n);
        put(dir, &format!("l/moved/to{n}"), format!("moved {n}, of some length").as_bytes(), 50 + n);
        put(dir, &format!("r/from/{n}"), format!("moved {n}, of some length").as_bytes(), 50 + n);
    }
    put(dir, "l/same", b"same", 0);
    put(dir, "r/same", b"same", 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_run_dies_the_next_one_goes_on() {
    for (check, backup, step) in [(Check::Target, false, 1), (Check::Both, false, 3), (Check::Both, true, 2)]
    {
        let mut k = 0;
        loop {
            k += step;
            let what = format!("{check:?}, backup {backup}, call {k}");
            let dir = tempfile::tempdir().unwrap();
            two(dir.path());
            let at = |name: &str| dir.path().join(name);
            let root = VPath::root();
            let options = || SyncOptions {
                direction: Direction::To(Side::Right),
                delete: true,
                max_delete: MaxDelete::Unlimited,
                renames: Renames::Digest,
                backup_dir: backup.then(|| VPath::absolute("/backup").unwrap()),
                ..SyncOptions::default()
            };
            std::fs::create_dir(at("right")).unwrap();
            std::fs::rename(at("r"), at("right/r")).unwrap();
            let right = VPath::absolute("/r").unwrap();
            let sides = |fs| Sides::new((local(&at("l")), root.clone()), (fs, right.clone()));
            let found = compare(&sides(local(&at("right"))), &options()).await.unwrap();
            assert_eq!(found.items.iter().filter(|d| d.moved.is_some()).count(), 4, "renames are among them");
            // It dies in its k-th operation: what was under way beside it may be done or not.
            let dies = Arc::new(Dies { calls: AtomicU64::new(0), at: k, dead: Notify::new() });
            let fs = local_with(&at("right"), vec![Arc::clone(&dies) as Arc<dyn Interceptor>]);
            let runner = Runner::new(sides(fs), options(), Arc::new(Unattended), check).unwrap();
            let journal = Journal::create(&at("journal"), serde_json::json!({})).unwrap();
            runner.keep_journal(&journal);
            let ended = tokio::select! {
                report = runner.apply(found.clone()) => Some(report),
                () = dies.dead.notified() => None,
            };
            drop(runner);
            journal.leave().await;
            if let Some(report) = ended {
                assert!(report.is_success() && k > 40, "{what}: {:?}", report.failures);
                break;
            }
            let (journal, _) = Journal::take_up(&at("journal")).unwrap();
            let runner =
                Runner::new(sides(local(&at("right"))), options(), Arc::new(Unattended), check).unwrap();
            runner.keep_journal(&journal);
            let report = runner.apply(found.clone()).await;
            assert!(report.is_success(), "{what}: {:#?}", report.failures);
            assert!(report.operations.iter().all(|o| matches!(o.outcome, Outcome::Done(_))), "{what}");
            journal.leave().await;
            assert!(tree(&at("l")) == tree(&at("right/r")), "{what}: {:?}", tree(&at("right/r")).keys());
            if backup {
                let kept = tree(&at("right/backup"));
                let old = |name: &str| kept.iter().any(|(path, c)| path.contains(name) && c.is_some());
                assert!((0..4).all(|n| old(&format!("changed{n}")) && old(&format!("gone/{n}"))), "{what}");
            }
            // A third time there is nothing left to do, and nothing is looked at.
            let (journal, _) = Journal::take_up(&at("journal")).unwrap();
            let counts = Arc::new(Dies { calls: AtomicU64::new(0), at: u64::MAX, dead: Notify::new() });
            let fs = local_with(&at("right"), vec![Arc::clone(&counts) as Arc<dyn Interceptor>]);
            let runner = Runner::new(sides(fs), options(), Arc::new(Unattended), check).unwrap();
            runner.keep_journal(&journal);
            let report = runner.apply(found).await;
            assert!(report.is_success() && report.bytes() == 0, "{what}: {:?}", report.failures);
            let directories = report.operations.iter().filter(|o| o.difference.is_dir()).count() as u64;
            assert!(counts.calls.load(Ordering::SeqCst) <= directories, "{what}: only times of directories");
            journal.leave().await;
        }
    }
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ferry(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(args).current_dir(dir).env_remove("FERRY_PASSWORD");
    std::fs::create_dir_all(dir.join("run")).unwrap();
    command.env("XDG_STATE_HOME", dir.join("state")).env("XDG_RUNTIME_DIR", dir.join("run"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

// Takes some seconds: the run is slow, so that it can be killed in its middle.
#[test]
fn a_killed_run_is_listed_and_resumed() {
    for command in ["sync", "apply"] {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for n in 0..20u8 {
            put(dir.path(), &format!("l/f{n:02}"), &[n; 150_000], n.into());
            put(dir.path(), &format!("r/gone{n:02}"), b"x", 0);
        }
        put(dir.path(), "l/zz", &[1; 150_000], 500);
        put(dir.path(), "r/zz", b"old", 0);
        let limits = ["--delete", "--max-delete", "unlimited"];
        let planned = ferry(dir.path(), &[&["plan", "l", "r"], &limits[..]].concat()).output().unwrap();
        std::fs::write(at("p"), planned.stdout).unwrap();
        let slow = ["-P", "1", "--limit", "1M", "--receipts", "receipts"];
        let args = match command {
            "sync" => [&["-q", "sync", "l", "r"], &limits[..], &slow].concat(),
            _ => [&["-q", "apply", "p"], &slow[..]].concat(),
        };
        let whole = || {
            let len = |n: usize| std::fs::metadata(at(&format!("r/f{n:02}"))).map_or(0, |m| m.len());
            (0..20).filter(|n| len(*n) == 150_000).count()
        };
        let mut child = Reaped(ferry(dir.path(), &args).spawn().unwrap());
        let began = Instant::now();
        while whole() < 5 {
            assert!(began.elapsed() < Duration::from_secs(30), "{command} is too slow");
            std::thread::sleep(Duration::from_millis(20));
        }
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        let before = whole();
        assert!(before < 20 && at("r/gone00").exists(), "{command}: it was not in its middle");
        let numbers: BTreeMap<u64, String> = std::fs::read_dir(at("r"))
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.metadata().unwrap().ino(), e.file_name().into_string().unwrap()))
            .filter(|(_, name)| name.starts_with('f') && !name.contains("filepart"))
            .collect();
        // Meanwhile somebody else writes what was to be replaced.
        let drifted = std::fs::read(at("r/zz")).unwrap() == b"old";
        if drifted {
            put(dir.path(), "r/zz", b"of somebody else", 900);
        }
        let listed = ferry(dir.path(), &["--json", "jobs"]).output().unwrap().stdout;
        let listed = checked("jobs", &String::from_utf8(listed).unwrap());
        assert_eq!((&listed[0]["standing"], &listed[0]["command"]), (&"interrupted".into(), &command.into()));

        let out = ferry(dir.path(), &["--json", "resume"]).output().unwrap();
        let lines = checked("resume", &String::from_utf8(out.stdout).unwrap());
        let summary = lines.last().unwrap();
        assert_eq!(out.status.success(), !drifted, "{summary}");
        let failures = summary["failures"].as_array().unwrap();
        assert_eq!(failures.len(), usize::from(drifted), "{failures:?}");
        if drifted {
            assert_eq!(failures[0]["kind"], "precondition-failed");
            assert_eq!(std::fs::read(at("r/zz")).unwrap(), b"of somebody else");
        }
        for n in 0..20u8 {
            assert!(std::fs::read(at(&format!("r/f{n:02}"))).unwrap() == vec![n; 150_000]);
            assert!(!at(&format!("r/gone{n:02}")).exists());
        }
        for (number, name) in numbers {
            assert_eq!(
                std::fs::metadata(at("r").join(&name)).unwrap().ino(),
                number,
                "{name} was sent twice"
            );
        }
        // Forgotten, nothing of it is left.
        let id = listed[0]["job"].as_str().unwrap();
        assert!(at(&format!("state/ferry/jobs/{id}.plan")).exists());
        assert!(ferry(dir.path(), &["jobs", "forget", id]).status().unwrap().success());
        assert_eq!(std::fs::read_dir(at("state/ferry/jobs")).unwrap().count(), 0);
    }
}

#[test]
fn a_short_run_leaves_no_job() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "l/f", b"f", 0);
    assert!(ferry(dir.path(), &["-q", "sync", "l", "r"]).status().unwrap().success());
    assert!(ferry(dir.path(), &["-q", "sync", "l", "r"]).status().unwrap().success(), "nothing to do");
    put(dir.path(), "l/g", b"g", 0);
    assert!(ferry(dir.path(), &["-q", "sync", "--no-journal", "l", "r"]).status().unwrap().success());
    assert_eq!(std::fs::read_dir(dir.path().join("state/ferry/jobs")).unwrap().count(), 0);
}
