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
    Action, Base, Check, Conflict, Differences, Direction, MaxDelete, Outcome, Renames, Runner, Side, Sides,
    SyncOptions, SyncReport, compare,
};
use session_core::batch::{Answer, Decider, Query, Unattended};
use session_core::error::Result;
use session_core::gate::SessionFs;
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationSet};
use session_core::path::VPath;
use session_core::session::{Actor, Ending};
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
pub fn tree(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
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

/// Of a process that dies nothing goes on; of a run in this one, what the disk was doing comes to its end first.
async fn is_dead(side: &SessionFs) {
    side.session().terminate(Ending::new("died", Actor::Admin("test".into())), Duration::from_secs(10)).await;
}

/// Lets a run go on until it ends, and gives its report, or dies.
async fn until_dead(
    runner: Arc<Runner>,
    journal: &Path,
    found: &Differences,
    dies: &Dies,
    sides: &[&SessionFs],
) -> Option<SyncReport> {
    let journal = Journal::create(journal, serde_json::json!({})).unwrap();
    runner.keep_journal(&journal);
    let ended = tokio::select! {
        report = runner.apply(found.clone()) => Some(report),
        () = dies.dead.notified() => None,
    };
    drop(runner);
    for side in sides {
        is_dead(side).await;
    }
    journal.leave().await;
    ended
}

/// What has changed in every way.
pub fn two(dir: &Path) {
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
            let runner = Runner::new(sides(fs.clone()), options(), Arc::new(Unattended), check).unwrap();
            let ended = until_dead(runner, &at("journal"), &found, &dies, &[&fs]).await;
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

/// What both sides have in common, and then has changed on either in every way.
async fn two_ways(dir: &Path) -> Base {
    for n in 0..2 {
        for (name, time) in [("a", 1), ("b", 2), ("c", 3), ("lgone/", 4), ("rgone/", 5), ("m", 60)] {
            let content = format!("{name}{n}, of some length");
            put(dir, &format!("l/{name}{n}"), content.as_bytes(), time + 10 * n);
        }
    }
    std::fs::create_dir(dir.join("r")).unwrap();
    let first = SyncOptions {
        direction: Direction::Both,
        base: Some(Arc::new(Base::new())),
        ..SyncOptions::default()
    };
    let sides = both_sides(dir, None);
    let runner = Runner::new(sides, first, Arc::new(Unattended), Check::Target).unwrap();
    let report = runner.run().await.unwrap();
    report.check().unwrap();
    std::fs::create_dir(dir.join("l/moved")).unwrap();
    for n in 0..2 {
        put(dir, &format!("l/a{n}"), b"changed on the left", 200 + n);
        put(dir, &format!("r/b{n}"), b"changed on the right", 200 + n);
        put(dir, &format!("l/c{n}"), b"changed on the left, too", 300 + n);
        put(dir, &format!("r/c{n}"), b"changed on both", 400 + n);
        put(dir, &format!("l/lnew/{n}"), b"new on the left", 500 + n);
        put(dir, &format!("r/rnew/{n}"), b"new on the right", 500 + n);
        std::fs::rename(dir.join(format!("l/m{n}")), dir.join(format!("l/moved/m{n}"))).unwrap();
    }
    std::fs::remove_dir_all(dir.join("l/lgone")).unwrap();
    std::fs::remove_dir_all(dir.join("r/rgone")).unwrap();
    report.base.unwrap()
}

/// The two, of which any operation may be the last.
fn both_sides(dir: &Path, dies: Option<&Arc<Dies>>) -> Sides {
    let links = || dies.map(|dies| Arc::clone(dies) as Arc<dyn Interceptor>).into_iter().collect();
    let side = |name: &str| (local_with(&dir.join(name), links()), VPath::root());
    Sides::new(side("l"), side("r"))
}

/// Whoever is asked says yes.
struct Yes;

#[async_trait]
impl Decider for Yes {
    async fn decide(&self, query: Query) -> Answer {
        match query {
            Query::Overwrite { .. } => Answer::Yes,
            _ => Answer::Skip,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_run_of_two_ways_dies_the_next_one_goes_on_and_knows_what_both_have() {
    for (conflict, step) in [(Conflict::Both, 1), (Conflict::Ask, 3)] {
        let mut k = 0;
        loop {
            k += step;
            let what = format!("{conflict:?}, call {k}");
            let dir = tempfile::tempdir().unwrap();
            let base = two_ways(dir.path()).await;
            let options = |base: &Base| SyncOptions {
                direction: Direction::Both,
                max_delete: MaxDelete::Unlimited,
                renames: Renames::Base,
                conflict,
                base: Some(Arc::new(base.clone())),
                ..SyncOptions::default()
            };
            let found = compare(&both_sides(dir.path(), None), &options(&base)).await.unwrap();
            assert_eq!(found.items.iter().filter(|d| d.moved.is_some()).count(), 2, "{:?}", found.items);
            assert_eq!(found.items.iter().filter(|d| d.conflict == Some(conflict)).count(), 2);
            let dies = Arc::new(Dies { calls: AtomicU64::new(0), at: k, dead: Notify::new() });
            let sides = both_sides(dir.path(), Some(&dies));
            let runner = Runner::new(sides.clone(), options(&base), Arc::new(Yes), Check::Target).unwrap();
            let ended = until_dead(
                runner,
                &dir.path().join("journal"),
                &found,
                &dies,
                &[&sides.left.fs, &sides.right.fs],
            )
            .await;
            let report = match ended {
                Some(report) => {
                    assert!(k > 60, "{what}: it has to do more than that");
                    report
                }
                None => {
                    let (journal, _) = Journal::take_up(&dir.path().join("journal")).unwrap();
                    let sides = both_sides(dir.path(), None);
                    let runner = Runner::new(sides, options(&base), Arc::new(Yes), Check::Target).unwrap();
                    runner.keep_journal(&journal);
                    let report = runner.apply(found).await;
                    journal.leave().await;
                    report
                }
            };
            assert!(report.is_success(), "{what}: {:#?}", report.failures);
            assert!(report.operations.iter().all(|o| matches!(o.outcome, Outcome::Done(_))), "{what}");
            let (left, right) = (tree(&dir.path().join("l")), tree(&dir.path().join("r")));
            assert!(left == right, "{what}: {:?} and {:?}", left.keys(), right.keys());
            let names: Vec<&str> = left.keys().map(String::as_str).collect();
            let kept = if conflict == Conflict::Both { 2 } else { 0 };
            assert_eq!(names.len(), 6 + 3 + 6 + kept, "{what}: {names:?}");
            for n in 0..2 {
                let of = |name: String| left.get(&name).cloned().flatten();
                assert_eq!(of(format!("a{n}")).unwrap(), b"changed on the left", "{what}");
                assert_eq!(of(format!("b{n}")).unwrap(), b"changed on the right", "{what}");
                assert_eq!(of(format!("c{n}")).unwrap(), b"changed on the left, too", "{what}");
                let other = of(format!("c{n}.conflict-right-1"));
                assert_eq!(other.is_some(), kept > 0, "{what}");
                assert!(other.is_none_or(|content| content == b"changed on both"), "{what}");
            }
            // The next run knows all of it: what goes on one side now goes on the other.
            let base = report.base.unwrap();
            let again = compare(&both_sides(dir.path(), None), &options(&base)).await.unwrap();
            assert!(again.items.is_empty() && again.notes.is_empty(), "{what}: {:?}", again.items);
            let known = ["a0", "b0", "c0", "lnew/0", "rnew/0", "moved/m0"];
            known.iter().for_each(|name| std::fs::remove_file(dir.path().join("l").join(name)).unwrap());
            let again = compare(&both_sides(dir.path(), None), &options(&base)).await.unwrap();
            let removed = again.items.iter().filter(|d| d.action == Action::Delete(Side::Right)).count();
            assert_eq!((removed, again.items.len()), (known.len(), known.len()), "{what}: {:?}", again.items);
            if dies.calls.load(Ordering::SeqCst) < k {
                break;
            }
        }
    }
}

#[cfg(all(feature = "ftp", feature = "sftp"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_run_with_texts_dies_the_next_one_goes_on() {
    use crate::support::world::World;
    use client::connect::{Options, open_url};
    use client::mask::FileMask;
    use client::url::Location;
    use session_core::batch::TransferOptions;
    use session_core::store::local::{LocalOptions, LocalStore};

    let mut k = 0;
    loop {
        k += 1;
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "l/a.txt", b"one\ntwo\n", 100);
        put(dir.path(), "l/b.bin", b"one\ntwo\n", 100);
        std::fs::create_dir(dir.path().join("r")).unwrap();
        let open = |port: u16| {
            let Ok(Location::Remote(url)) = Location::parse(&format!("ftp://ann@127.0.0.1:{port}/")) else {
                panic!("a URL")
            };
            let options = Options::from_url(&url).unwrap().password(Some("secret".into()));
            open_url(options, Arc::new(Unattended))
        };
        let options = || SyncOptions {
            direction: Direction::Both,
            base: Some(Arc::new(Base::new())),
            transfer: TransferOptions {
                text: Some(FileMask::parse("*.txt").unwrap().selection()),
                ..TransferOptions::default()
            },
            ..SyncOptions::default()
        };
        let store = || Arc::new(LocalStore::open(dir.path().join("r"), LocalOptions::default()).unwrap());
        let left = || (local(&dir.path().join("l")), VPath::root());
        let world = World::ftp(store(), vec![]).await;
        let remote = open(world.port).await.unwrap();
        let sides = Sides::new(left(), (remote.fs().clone(), VPath::root()));
        let found = compare(&sides, &options()).await.unwrap();
        assert_eq!(found.items.len(), 2);

        let dies = Arc::new(Dies { calls: AtomicU64::new(0), at: k, dead: Notify::new() });
        let dying = World::ftp(store(), vec![Arc::clone(&dies) as Arc<dyn Interceptor>]).await;
        let gone = open(dying.port).await.unwrap();
        let sides_then = Sides::new(left(), (gone.fs().clone(), VPath::root()));
        let runner = Runner::new(sides_then, options(), Arc::new(Unattended), Check::Target).unwrap();
        let ended = until_dead(runner, &dir.path().join("journal"), &found, &dies, &[gone.fs()]).await;
        let over = ended.is_some();
        let report = match ended {
            Some(report) => report,
            None => {
                let (journal, _) = Journal::take_up(&dir.path().join("journal")).unwrap();
                let runner =
                    Runner::new(sides.clone(), options(), Arc::new(Unattended), Check::Target).unwrap();
                runner.keep_journal(&journal);
                let report = runner.apply(found).await;
                journal.leave().await;
                report
            }
        };
        assert!(report.is_success(), "call {k}: {:#?}", report.failures);
        // On the server's disk, and as the next run sees it.
        assert_eq!(std::fs::read(dir.path().join("r/b.bin")).unwrap(), b"one\ntwo\n", "call {k}");
        assert_eq!(std::fs::read(dir.path().join("r/a.txt")).unwrap(), b"one\ntwo\n", "call {k}");
        let again = SyncOptions { base: report.base.map(Arc::new), ..options() };
        let again = compare(&sides, &again).await.unwrap();
        assert!(again.items.is_empty() && again.notes.is_empty(), "call {k}: {:?}", again.items);
        if over {
            assert!(k > 8, "it has to do more than that");
            break;
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

/// Two trees that two ways make alike slowly, with a state; ended in its middle.
fn two_ways_killed(dir: &Path) -> String {
    for n in 0..10u8 {
        put(dir, &format!("l/f{n:02}"), &[n; 150_000], n.into());
        put(dir, &format!("r/g{n:02}"), b"of the right", n.into());
    }
    let args = ["-q", "sync", "l", "r", "--direction", "both", "--state", "st", "-P", "1", "--limit", "400K"];
    let mut child = Reaped(ferry(dir, &args).spawn().unwrap());
    let whole = || (0..10).filter(|n| dir.join(format!("r/f{n:02}")).exists()).count();
    let began = Instant::now();
    while whole() < 3 {
        assert!(began.elapsed() < Duration::from_secs(30), "it is too slow");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert!(whole() < 10 && !dir.join("st").exists(), "it was not in its middle");
    let listed = ferry(dir, &["--json", "jobs"]).output().unwrap().stdout;
    let listed = checked("jobs", &String::from_utf8(listed).unwrap());
    assert_eq!(listed[0]["standing"], "interrupted");
    listed[0]["job"].as_str().unwrap().to_owned()
}

#[test]
fn a_killed_run_of_two_ways_is_resumed_and_its_state_saved() {
    let dir = tempfile::tempdir().unwrap();
    let id = two_ways_killed(dir.path());
    let at = |path: &str| dir.path().join(path);
    let aside = at(&format!("state/ferry/jobs/{id}.base"));
    assert!(aside.exists());
    assert!(ferry(dir.path(), &["-q", "resume"]).status().unwrap().success());
    // It is as large as both trees, and nobody needs it any more.
    assert!(!aside.exists());
    assert!(tree(&at("l")) == tree(&at("r")) && tree(&at("l")).len() == 20);
    // The state knows what was done before the kill and after it.
    let again = ["--json", "sync", "l", "r", "--direction", "both", "--state", "st"];
    let lines = |out: std::process::Output| checked("sync", &String::from_utf8(out.stdout).unwrap());
    assert_eq!(lines(ferry(dir.path(), &again).output().unwrap()).len(), 1, "nothing is to be done");
    for name in ["l/f00", "l/f09", "r/g00"] {
        std::fs::remove_file(at(name)).unwrap();
    }
    assert!(ferry(dir.path(), &again).output().unwrap().status.success());
    assert!(tree(&at("l")) == tree(&at("r")) && tree(&at("l")).len() == 17);
    assert!(ferry(dir.path(), &["jobs", "forget", &id]).status().unwrap().success());
    assert_eq!(std::fs::read_dir(at("state/ferry/jobs")).unwrap().count(), 0);
}

#[test]
fn a_list_whose_state_was_written_since_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let id = two_ways_killed(dir.path());
    let again = ["-q", "sync", "l", "r", "--direction", "both", "--state", "st"];
    assert!(ferry(dir.path(), &again).status().unwrap().success());
    let state = std::fs::read(dir.path().join("st")).unwrap();
    let out = ferry(dir.path(), &["resume", &id]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && said.contains("was written since"), "{said}");
    assert_eq!(std::fs::read(dir.path().join("st")).unwrap(), state);
}

#[test]
fn a_list_of_a_comparison_that_was_not_complete_is_gone_on_with_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..30u8 {
        put(dir.path(), &format!("l/f{n:02}"), &[n; 50_000], n.into());
        put(dir.path(), &format!("r/gone{n:02}"), b"x", 0);
    }
    // More would be removed than is allowed: that is not on the list.
    let args = ["-q", "sync", "l", "r", "--delete", "--max-delete", "1", "-P", "1", "--limit", "400K"];
    let mut child = Reaped(ferry(dir.path(), &args).spawn().unwrap());
    let began = Instant::now();
    // Small files go several at a time, in no order.
    let whole = || (0..30).filter(|n| dir.path().join(format!("r/f{n:02}")).exists()).count();
    while whole() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "it is too slow");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert!(whole() < 30, "it was not in its middle");
    let out = ferry(dir.path(), &["--json", "resume"]).output().unwrap();
    let lines = checked("resume", &String::from_utf8(out.stdout).unwrap());
    let failures = lines.last().unwrap()["failures"].as_array().unwrap();
    assert_eq!((out.status.code(), failures.len()), (Some(1), 1), "{failures:?}");
    assert!(failures[0]["message"].as_str().unwrap().contains("was not complete"), "{failures:?}");
    let now = tree(&dir.path().join("r"));
    assert!(
        (0..30).all(|n| now.contains_key(&format!("f{n:02}")) && now.contains_key(&format!("gone{n:02}")))
    );
    // All that is on the list was done: there is nothing to go on with.
    let out = ferry(dir.path(), &["--json", "jobs"]).output().unwrap().stdout;
    assert_eq!(checked("jobs", &String::from_utf8(out).unwrap())[0]["standing"], "done");
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
