//! Synchronising two local folders.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::Refuse;
use client::mask::FileMask;
use client::sync::{
    Action, CaseRule, Check, Criteria, Differences, Direction, MaxDelete, Outcome, Renames, Runner, Side,
    Sides, SyncOptions, SyncReport, compare,
};
use session_core::auth::Account;
use session_core::batch::Unattended;
use session_core::error::ErrorKind;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::operation::Record;
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn open(dir: &Path, links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    let store = LocalStore::open(dir, LocalOptions::default()).unwrap();
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, Arc::new(store), Chain::new(links)).unwrap()
}

/// Two folders, `l` and `r`, of a directory that vanishes.
struct Two(tempfile::TempDir);

impl Two {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("l")).unwrap();
        std::fs::create_dir(dir.path().join("r")).unwrap();
        Two(dir)
    }

    /// Writes a file that was changed so many seconds after a fixed moment.
    fn put(&self, path: &str, content: &str, seconds: u64) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + seconds);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.path().join(path)).ok()
    }

    fn is_there(&self, path: &str) -> bool {
        self.0.path().join(path).symlink_metadata().is_ok()
    }

    fn sides_with(&self, left: Vec<Arc<dyn Interceptor>>, right: Vec<Arc<dyn Interceptor>>) -> Sides {
        Sides::new((open(self.0.path(), left), p("/l")), (open(self.0.path(), right), p("/r")))
    }

    fn sides(&self) -> Sides {
        self.sides_with(vec![], vec![])
    }

    async fn compare(&self, options: &SyncOptions) -> Differences {
        compare(&self.sides(), options).await.unwrap()
    }

    async fn run(&self, options: SyncOptions) -> SyncReport {
        self.run_with(options, self.sides()).await
    }

    async fn run_with(&self, options: SyncOptions, sides: Sides) -> SyncReport {
        Runner::new(sides, options, Arc::new(Unattended), Check::Target).unwrap().run().await.unwrap()
    }
}

fn mirror() -> SyncOptions {
    SyncOptions { delete: true, mirror: true, ..SyncOptions::default() }
}

/// `+right a`, `*left b`, `-right c`.
fn shown(found: &Differences) -> Vec<String> {
    let sign = |a: Action| match a {
        Action::New(_) => '+',
        Action::Update(_) => '*',
        Action::Delete(_) => '-',
    };
    let line = |d: &client::sync::Difference| {
        let path = String::from_utf8_lossy(d.path(d.action.side())).into_owned();
        format!("{}{} {path}", sign(d.action), d.action.side().name())
    };
    found.items.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_is_made_and_the_second_run_does_nothing() {
    let two = Two::new();
    two.put("l/new", "1", 0);
    two.put("l/d/deep/new", "2", 5);
    two.put("l/changed", "3", 10);
    two.put("r/changed", "old", 0);
    two.put("l/older", "4", 0);
    two.put("r/older", "newer at the target", 10);
    two.put("l/same", "5", 0);
    two.put("r/same", "5", 1);
    two.put("r/gone/deep/file", "6", 0);
    std::fs::create_dir(two.0.path().join("l/empty")).unwrap();
    let report = two.run(mirror()).await;
    report.check().unwrap();
    assert_eq!((report.copied_to(Side::Right), report.copied_to(Side::Left), report.removed()), (4, 0, 3));
    for (path, content) in
        [("new", "1"), ("d/deep/new", "2"), ("changed", "3"), ("older", "4"), ("same", "5")]
    {
        assert_eq!(two.read(&format!("r/{path}")).as_deref(), Some(content), "{path}");
    }
    assert!(!two.is_there("r/gone") && two.is_there("r/empty"));
    let times = |path: &str| std::fs::metadata(two.0.path().join(path)).unwrap().modified().unwrap();
    assert_eq!(times("r/d/deep/new"), times("l/d/deep/new"));
    assert_eq!(times("r/d/deep"), times("l/d/deep"));
    let again = two.run(mirror()).await;
    assert!(again.is_success() && again.operations.is_empty(), "{:?}", again.operations);
    assert_eq!(again.seen, (8, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_removed_after_a_listing_that_failed() {
    let two = Two::new();
    two.put("l/bad/kept", "x", 0);
    two.put("l/copied", "x", 0);
    two.put("r/bad/kept", "x", 0);
    two.put("r/extra", "x", 0);
    let refuse: fn(&Record) -> bool = |r| matches!(r, Record::List(l) if l.path.name() == b"bad");
    for (left, right) in [(vec![refuse], vec![]), (vec![], vec![refuse])] {
        let links = |all: Vec<fn(&Record) -> bool>| {
            all.into_iter().map(|f| Arc::new(Refuse(f)) as Arc<dyn Interceptor>).collect()
        };
        let report = two.run_with(mirror(), two.sides_with(links(left), links(right))).await;
        assert_eq!(report.failures.len(), 1);
        assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Refused);
        assert!(two.is_there("r/extra") && two.is_there("r/bad/kept") && two.is_there("r/copied"));
        assert!(report.notes.iter().any(|n| &*n.path == b"extra"));
    }
    assert_eq!(two.run(mirror()).await.removed(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_are_bounded_and_an_empty_source_removes_nothing() {
    let two = Two::new();
    for n in 0..300 {
        two.put(&format!("r/{n}"), "", 0);
    }
    two.put("l/new", "x", 0);
    let report = two.run(mirror()).await;
    let e = report.check().unwrap_err();
    assert!(e.to_string().contains("300 of 300 entries would be removed, 100 are allowed"), "{e}");
    assert_eq!((report.copied_to(Side::Right), report.removed(), report.notes.len()), (1, 0, 300));
    let limited = |max_delete| SyncOptions { max_delete, ..mirror() };
    assert_eq!(two.run(limited(MaxDelete::Percent(50))).await.removed(), 0);
    assert_eq!(two.run(limited(MaxDelete::Entries(300))).await.removed(), 300);
    std::fs::remove_file(two.0.path().join("l/new")).unwrap();
    assert_eq!(two.run(mirror()).await.failures.len(), 1);
    assert!(two.is_there("r/new"));
    assert_eq!(two.run(limited(MaxDelete::Unlimited)).await.removed(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_marker_on_both_sides_nothing_is_done() {
    let two = Two::new();
    two.put("l/a", "x", 0);
    two.put("r/a", "x", 0);
    two.put("r/b", "x", 0);
    let options = || SyncOptions { marker: Some(".here".into()), ..mirror() };
    for (lacks, then) in [("l", "l/.here"), ("r", "r/.here")] {
        let e = compare(&two.sides(), &options()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PreconditionFailed, "{e}");
        assert!(e.to_string().contains(&format!("/{lacks}' has no '.here'")), "{e}");
        two.put(then, "", 0);
    }
    assert_eq!(two.run(options()).await.removed(), 1);
    let e =
        compare(&two.sides(), &SyncOptions { marker: Some("../x".into()), ..mirror() }).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidPath, "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_or_removed_is_kept() {
    let two = Two::new();
    let options = || SyncOptions { backup_dir: Some(p("/r/.old")), ..mirror() };
    two.put("l/d/changed", "new", 10);
    two.put("r/d/changed", "old", 0);
    two.put("r/gone/file", "gone", 0);
    two.run(options()).await.check().unwrap();
    assert_eq!(two.read("r/d/changed").as_deref(), Some("new"));
    assert_eq!(two.read("r/.old/d/changed").as_deref(), Some("old"));
    assert_eq!(two.read("r/.old/gone/file").as_deref(), Some("gone"));
    let time = std::fs::metadata(two.0.path().join("r/.old/d/changed")).unwrap().modified().unwrap();
    assert_eq!(time, SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    // The backup is no part of the tree, and a second backup of a name does not replace the first.
    two.put("l/d/changed", "newest", 20);
    two.run(options()).await.check().unwrap();
    assert_eq!(two.read("r/.old/d/changed").as_deref(), Some("old"));
    assert_eq!(two.read("r/.old/d/changed.~1~").as_deref(), Some("new"));
    // A copy that fails leaves the old one where it was.
    two.put("l/d/changed", "never", 30);
    let refuse: fn(&Record) -> bool = |r| matches!(r, Record::Commit(_));
    let report = two.run_with(options(), two.sides_with(vec![], vec![Arc::new(Refuse(refuse))])).await;
    assert!(!report.is_success());
    assert_eq!(two.read("r/d/changed").as_deref(), Some("newest"));
}

#[tokio::test]
async fn masks_leave_out_on_both_sides() {
    let two = Two::new();
    for path in
        ["l/a.txt", "l/b.bak", "l/tmp/x", "l/half.filepart", "r/c.bak", "r/tmp/y", "r/gone/d.bak", "r/gone/e"]
    {
        two.put(path, "x", 0);
    }
    two.put("l/big", "larger", 0);
    two.put("r/big", "x", 0);
    let mask = FileMask::parse("|*.bak; tmp/; >5").unwrap();
    let criteria = Criteria::SIZE;
    let found = two.compare(&SyncOptions { mask: mask.clone(), criteria, ..mirror() }).await;
    // What only one side leaves out is left alone, and so is a directory that holds it.
    assert_eq!(shown(&found), ["+right a.txt", "-right gone/e"]);
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    let report = two.run(SyncOptions { mask, criteria, ..mirror() }).await;
    report.check().unwrap();
    assert!(two.is_there("r/c.bak") && two.is_there("r/tmp/y") && two.is_there("r/gone/d.bak"));
    assert!(!two.is_there("r/gone/e") && !two.is_there("r/b.bak") && !two.is_there("r/half.filepart"));
}

#[tokio::test]
async fn links_and_clashes_are_left_alone_with_the_reason() {
    use std::os::unix::fs::symlink;
    let two = Two::new();
    let at = |path: &str| two.0.path().join(path);
    two.put("l/real", "x", 0);
    symlink("real", at("l/to-file")).unwrap();
    symlink(".", at("l/to-dir")).unwrap();
    symlink("nowhere", at("l/broken")).unwrap();
    two.put("l/kind", "a file", 0);
    std::fs::create_dir(at("r/kind")).unwrap();
    symlink("/etc/hostname", at("r/link")).unwrap();
    let report = two.run(mirror()).await;
    report.check().unwrap();
    let notes: BTreeMap<_, _> =
        report.notes.iter().map(|n| (String::from_utf8_lossy(&n.path).into_owned(), n.why)).collect();
    assert_eq!(notes["kind"], "a file on one side and a directory on the other");
    assert_eq!(
        (notes["to-dir"], notes["broken"]),
        (notes["broken"], "a symbolic link that leads to no file")
    );
    assert_eq!(notes.len(), 3);
    // A link to a file is copied as that file; a link that is removed takes nothing with it.
    assert_eq!(two.read("r/to-file").as_deref(), Some("x"));
    assert!(!two.is_there("r/link") && two.is_there("r/kind") && Path::new("/etc/hostname").exists());
}

#[tokio::test]
async fn names_that_differ_in_case_are_one_name_where_asked() {
    let two = Two::new();
    two.put("l/Dir/File", "new", 10);
    two.put("r/dIR/fILE", "old", 0);
    two.put("l/both", "x", 0);
    two.put("r/Both", "x", 0);
    two.put("r/BOTH", "x", 0);
    let told = two.compare(&mirror()).await;
    assert_eq!(told.items.len(), 7);
    let options = SyncOptions { case: CaseRule::Ignore, ..mirror() };
    let found = two.compare(&options).await;
    // Which of two 'both' means is not guessed: the new name does no harm, a removal might.
    assert_eq!(shown(&found), ["*right dIR/fILE", "+right both"]);
    assert_eq!(found.notes.len(), 2);
    two.run(options).await.check().unwrap();
    assert_eq!(two.read("r/dIR/fILE").as_deref(), Some("new"));
    assert!(!two.is_there("r/Dir"));
}

#[tokio::test]
async fn both_ways_the_newer_one_wins() {
    let two = Two::new();
    two.put("l/a", "left", 10);
    two.put("r/a", "right", 0);
    two.put("l/b", "left", 0);
    two.put("r/b", "right", 10);
    two.put("l/only/l", "l", 0);
    two.put("r/only-r", "r", 0);
    two.put("l/conflict", "one", 0);
    two.put("r/conflict", "other", 1);
    let options = SyncOptions { direction: Direction::Both, ..SyncOptions::default() };
    let report = two.run(options.clone()).await;
    report.check().unwrap();
    assert_eq!((report.copied_to(Side::Left), report.copied_to(Side::Right)), (2, 2));
    for (path, content) in [("a", "left"), ("b", "right"), ("only/l", "l"), ("only-r", "r")] {
        assert_eq!(two.read(&format!("l/{path}")).as_deref(), Some(content));
        assert_eq!(two.read(&format!("r/{path}")).as_deref(), Some(content));
    }
    assert_eq!(report.notes.len(), 1);
    assert_eq!(two.read("l/conflict").as_deref(), Some("one"));
    for wrong in [
        SyncOptions { delete: true, ..options.clone() },
        SyncOptions { mirror: true, ..options.clone() },
        SyncOptions { criteria: Criteria::EITHER, ..options },
    ] {
        assert_eq!(compare(&two.sides(), &wrong).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn contents_decide_where_they_are_a_criterion() {
    let two = Two::new();
    two.put("l/same", "abc", 0);
    two.put("r/same", "abc", 50);
    two.put("l/other", "abc", 0);
    two.put("r/other", "abd", 0);
    let found = two.compare(&SyncOptions { criteria: Criteria::CHECKSUM, ..mirror() }).await;
    assert_eq!(shown(&found), ["*right other"]);
    let found = two.compare(&SyncOptions { criteria: Criteria::EITHER, ..SyncOptions::default() }).await;
    assert!(found.items.is_empty());
}

#[tokio::test]
async fn a_difference_is_settled_alone_or_the_other_way() {
    let two = Two::new();
    two.put("l/tree/a/b", "x", 0);
    two.put("l/tree/c", "x", 0);
    two.put("l/other", "x", 0);
    two.put("r/gone/deep/file", "back", 0);
    let options = SyncOptions { collapse: true, max_delete: MaxDelete::Unlimited, ..mirror() };
    let mut found = two.compare(&options).await;
    // A tree is one difference.
    assert_eq!(shown(&found), ["-right gone", "+right other", "+right tree"]);
    let runner = Runner::new(two.sides(), options.clone(), Arc::new(Unattended), Check::Target).unwrap();
    runner.resolve(&found.items[2]).await.unwrap().check().unwrap();
    assert_eq!(two.read("r/tree/a/b").as_deref(), Some("x"));
    assert!(!two.is_there("r/other") && two.is_there("r/gone"));
    // Reversed: what was to be removed is copied back, what was to be copied is removed.
    for d in &mut found.items {
        d.reverse();
    }
    runner.resolve(&found.items[0]).await.unwrap().check().unwrap();
    assert_eq!(two.read("l/gone/deep/file").as_deref(), Some("back"));
    runner.resolve(&found.items[1]).await.unwrap().check().unwrap();
    assert!(!two.is_there("l/other"));
    two.put("l/tree2/x", "x", 0);
    let mut found = two.compare(&options).await;
    found.items[0].reverse();
    runner.resolve(&found.items[0]).await.unwrap().check().unwrap();
    assert!(!two.is_there("l/tree2") && two.is_there("l/gone/deep/file"));
}

#[tokio::test]
async fn a_review_is_applied_exactly_or_not() {
    let two = Two::new();
    for name in ["fresh", "source-changed", "target-appeared", "untouched"] {
        two.put(&format!("l/{name}"), "new", 0);
    }
    two.put("l/update", "new", 10);
    two.put("r/update", "old", 0);
    two.put("r/remove", "x", 0);
    two.put("r/remove-changed", "x", 0);
    two.put("r/reappeared", "x", 0);
    let found = two.compare(&mirror()).await;
    two.put("l/source-changed", "newer", 5);
    two.put("r/target-appeared", "theirs", 0);
    two.put("r/update", "theirs", 1);
    two.put("r/remove-changed", "theirs", 1);
    two.put("l/reappeared", "x", 0);
    two.put("l/late", "x", 0);
    let runner = Runner::new(two.sides(), mirror(), Arc::new(Unattended), Check::Both).unwrap();
    let report = runner.apply(found).await;
    let failed: Vec<_> = report
        .operations
        .iter()
        .filter(|o| matches!(o.outcome, Outcome::Failed(_)))
        .map(|o| String::from_utf8_lossy(o.difference.path(Side::Right)).into_owned())
        .collect();
    assert_eq!(failed, ["reappeared", "remove-changed", "source-changed", "target-appeared", "update"]);
    assert!(report.failures.iter().all(|e| e.kind() == ErrorKind::PreconditionFailed));
    assert_eq!(report.failures.len(), 5);
    assert_eq!(two.read("r/fresh").as_deref(), Some("new"));
    assert_eq!(two.read("r/update").as_deref(), Some("theirs"));
    assert!(!two.is_there("r/remove") && !two.is_there("r/late") && !two.is_there("r/source-changed"));
    assert!(two.is_there("r/reappeared") && two.is_there("r/remove-changed"));
}

#[tokio::test]
async fn roots_must_be_directories() {
    let two = Two::new();
    two.put("l/f", "x", 0);
    let missing = Sides::new((open(two.0.path(), vec![]), p("/l")), (open(two.0.path(), vec![]), p("/none")));
    assert_eq!(compare(&missing, &mirror()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let file = Sides::new((open(two.0.path(), vec![]), p("/l/f")), (open(two.0.path(), vec![]), p("/r")));
    assert_eq!(compare(&file, &mirror()).await.unwrap_err().kind(), ErrorKind::NotADirectory);
    let options = SyncOptions { make_root: true, ..mirror() };
    two.run_with(options, missing).await.check().unwrap();
    assert_eq!(two.read("none/f").as_deref(), Some("x"));
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_one_failure() {
    let two = Two::new();
    two.put("l/d/e/a", "x", 0);
    two.put("l/d/b", "x", 0);
    two.put("l/f", "x", 0);
    let refuse: fn(&Record) -> bool = |r| matches!(r, Record::CreateDir(c) if c.path.name() == b"d");
    let report = two.run_with(mirror(), two.sides_with(vec![], vec![Arc::new(Refuse(refuse))])).await;
    assert_eq!((report.failures.len(), report.skipped(), report.copied_to(Side::Right)), (1, 3, 1));
}

fn renaming() -> SyncOptions {
    SyncOptions { renames: Renames::Digest, ..mirror() }
}

fn inode(two: &Two, path: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(two.0.path().join(path)).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_moved_is_renamed() {
    let two = Two::new();
    for side in ["l", "r"] {
        two.put(&format!("{side}/d/one"), "content 1", 10);
        two.put(&format!("{side}/d/two"), "content 2", 20);
        two.put(&format!("{side}/stays"), "content 3", 30);
    }
    two.put("r/gone", "content 4", 0);
    let inodes = [inode(&two, "r/d/one"), inode(&two, "r/d/two")];
    let at = |path: &str| two.0.path().join(path);
    std::fs::rename(at("l/d"), at("l/e")).unwrap();
    std::fs::create_dir(at("l/deep")).unwrap();
    std::fs::rename(at("l/e/one"), at("l/deep/first")).unwrap();
    // Its time is another, its content is not.
    two.put("l/deep/first", "content 1", 99);

    let found = two.compare(&renaming()).await;
    let moved: Vec<(String, String)> = found
        .items
        .iter()
        .filter_map(|d| Some((d.moved.as_ref()?.path(Side::Right), d.path(Side::Right))))
        .map(|(old, new)| {
            (String::from_utf8(old.to_vec()).unwrap(), String::from_utf8(new.to_vec()).unwrap())
        })
        .collect();
    let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    assert_eq!(moved, [pair("d/one", "deep/first"), pair("d/two", "e/two")]);
    // As a plan, it comes back.
    let header = client::sync::plan::Header {
        left: "l".into(),
        right: "r".into(),
        direction: Direction::To(Side::Right),
        backup_dir: None,
    };
    let mut text = Vec::new();
    client::sync::plan::write(&mut text, &header, &found).unwrap();
    assert_eq!(client::sync::plan::read(text.as_slice()).unwrap().differences.items, found.items);

    let report = two.run(renaming()).await;
    report.check().unwrap();
    assert_eq!((report.moved(), report.copied_to(Side::Right), report.bytes()), (2, 0, 0));
    assert_eq!([inode(&two, "r/deep/first"), inode(&two, "r/e/two")], inodes);
    assert!(!two.is_there("r/d") && !two.is_there("r/gone"));
    assert!(two.run(renaming()).await.operations.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_are_bounded_as_removals_are_and_need_what_was_compared() {
    let moved = || {
        let two = Two::new();
        two.put("r/old", "content", 0);
        two.put("l/new", "content", 0);
        two
    };
    // More than may be removed: copied, and the old one stays.
    let two = moved();
    let report = two.run(SyncOptions { max_delete: MaxDelete::Entries(0), ..renaming() }).await;
    assert_eq!((report.failures.len(), report.moved(), report.copied_to(Side::Right)), (1, 0, 1));
    assert!(two.is_there("r/old") && two.is_there("r/new"));
    // Without removals there are no renames.
    let two = moved();
    let report = two.run(SyncOptions { delete: false, ..renaming() }).await;
    assert_eq!((report.moved(), report.copied_to(Side::Right)), (0, 1));
    assert!(two.is_there("r/old"));
    // A side that has changed meanwhile is left alone.
    for (path, content) in [("r/old", "changed meanwhile"), ("l/old", "content"), ("r/new", "came meanwhile")]
    {
        let two = moved();
        let found = two.compare(&renaming()).await;
        two.put(path, content, 50);
        let runner = Runner::new(two.sides(), renaming(), Arc::new(Unattended), Check::Target).unwrap();
        let report = runner.apply(found).await;
        assert_eq!(report.check().unwrap_err().kind(), ErrorKind::PreconditionFailed, "{path}");
        assert!(two.is_there("r/old") && two.read(path).as_deref() == Some(content), "{path}");
    }
    // Other content of the same size is no move.
    let two = moved();
    two.put("l/new", "CONTENT", 0);
    let report = two.run(renaming()).await;
    assert_eq!((report.moved(), report.removed(), two.read("r/new").as_deref()), (0, 1, Some("CONTENT")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_the_base_knows_what_was_moved() {
    let two = Two::new();
    let options = |base: &client::sync::Base| SyncOptions {
        direction: Direction::Both,
        base: Some(Arc::new(base.clone())),
        renames: Renames::Base,
        ..SyncOptions::default()
    };
    two.put("l/a", "content a", 10);
    two.put("l/b", "content b", 20);
    two.put("l/c", "content c", 30);
    let first = two.run(options(&client::sync::Base::new())).await;
    let base = first.base.unwrap();
    let at = |path: &str| two.0.path().join(path);
    let inodes = [inode(&two, "r/a"), inode(&two, "l/b")];
    std::fs::rename(at("l/a"), at("l/a2")).unwrap();
    std::fs::create_dir(at("r/sub")).unwrap();
    std::fs::rename(at("r/b"), at("r/sub/b")).unwrap();
    let report = two.run(options(&base)).await;
    report.check().unwrap();
    assert_eq!((report.moved(), report.bytes()), (2, 0));
    assert_eq!([inode(&two, "r/a2"), inode(&two, "l/sub/b")], inodes);
    assert!(!two.is_there("r/a") && !two.is_there("l/b"));
    let again = two.run(options(&report.base.unwrap())).await;
    assert!(again.operations.is_empty() && again.is_success(), "{:?}", again.operations);
}
