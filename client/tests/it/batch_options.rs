//! What the options of a transfer do, one by one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use client::batch::{Batch, Job};
use session_core::auth::Account;
use session_core::batch::*;
use session_core::error::ErrorKind;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn open(dir: &Path) -> SessionFs {
    let store = LocalStore::open(dir, LocalOptions::default()).unwrap();
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, Arc::new(store), Chain::new(vec![])).unwrap()
}

struct Bench {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
}

impl Bench {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let bench = Bench { from: tempfile::tempdir().unwrap(), to: tempfile::tempdir().unwrap() };
        for (name, content) in files {
            bench.put(&bench.from, name, content);
        }
        bench
    }

    fn put(&self, side: &tempfile::TempDir, name: &str, content: &[u8]) {
        let path = side.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn target(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.to.path().join(name)).ok()
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.to.path().join(name)).unwrap().permissions().mode() & 0o7777
    }

    async fn run(&self, name: &str, options: TransferOptions) -> TransferReport {
        let batch = Batch::new(open(self.from.path()), open(self.to.path()), options, Arc::new(Unattended));
        let path = p(&format!("/{name}"));
        batch.run(vec![Job { from: path.clone(), to: path }]).await
    }

    /// Names below the target, sorted; directories end in a slash.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut left = vec![self.to.path().to_path_buf()];
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.to.path()).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    names.push(name + "/");
                    left.push(path);
                } else {
                    names.push(name);
                }
            }
        }
        names.sort();
        names
    }
}

fn options() -> TransferOptions {
    TransferOptions { recursive: true, ..TransferOptions::default() }
}

fn long(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i % 241) as u8).collect()
}

#[tokio::test]
async fn a_smaller_target_is_continued_and_others_are_replaced() {
    let whole = long(300_000);
    let wanted = || TransferOptions { overwrite: Overwrite::Continue, verify: Verify::Strict, ..options() };
    // What is there is not looked at, as WinSCP does it: only the size decides.
    for (there, sent) in [(&whole[..100_000], 200_000), (&long(400_000)[..], 300_000), (&b""[..], 300_000)] {
        let bench = Bench::new(&[("f", &whole)]);
        bench.put(&bench.to, "f", there);
        let report = bench.run("f", wanted()).await;
        report.check().unwrap();
        assert!(bench.target("f").unwrap() == whole);
        assert_eq!((report.bytes(), report.receipts[0].proof), (sent, Proof::Reread));
    }
    let bench = Bench::new(&[("f", &whole)]);
    bench.put(&bench.to, "f", &[0; 100_000]);
    assert_eq!(bench.run("f", wanted()).await.check().unwrap_err().kind(), ErrorKind::Corrupt);
    let bench = Bench::new(&[("f", &whole)]);
    bench.run("f", wanted()).await.check().unwrap();
    assert!(bench.target("f").unwrap() == whole);
}

#[tokio::test]
async fn appending_adds_the_whole_source() {
    let whole = long(1_000_000);
    let wanted = || TransferOptions { overwrite: Overwrite::Append, ..options() };
    let bench = Bench::new(&[("f", &whole)]);
    bench.run("f", wanted()).await.check().unwrap();
    bench.run("f", wanted()).await.check().unwrap();
    assert!(bench.target("f").unwrap() == [&whole[..], &whole[..]].concat());
    let strict = TransferOptions { verify: Verify::Strict, ..wanted() };
    assert_eq!(bench.run("f", strict).await.check().unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn hidden_and_deselected_entries_stay_and_are_not_entered() {
    let bench = Bench::new(&[
        ("t/a", b"1"),
        ("t/.b", b"2"),
        ("t/.c/d", b"3"),
        ("t/e/f.txt", b"4"),
        ("t/e/g.bin", b"5"),
        ("t/out/h.txt", b"6"),
    ]);
    let select = |c: &Candidate<'_>| {
        let name = c.path.name();
        assert_eq!(c.root, &p("/t"));
        if c.metadata.is_dir() { name != b"out" } else { !name.ends_with(b".bin") }
    };
    let options =
        TransferOptions { exclude_hidden: true, selection: Some(Selection::new(select)), ..options() };
    bench.run("t", options).await.check().unwrap();
    assert_eq!(bench.names(), ["t/", "t/a", "t/e/", "t/e/f.txt"]);
}

#[tokio::test]
async fn names_change_their_case_below_the_one_that_was_given() {
    let bench = Bench::new(&[("Top/Sub/READ.ME", b"1")]);
    bench.run("Top", TransferOptions { name_case: NameCase::Lower, ..options() }).await.check().unwrap();
    assert_eq!(bench.names(), ["Top/", "Top/sub/", "Top/sub/read.me"]);
}

#[tokio::test]
async fn permissions_are_those_that_were_asked_for() {
    let large = long(200_000);
    let bench = Bench::new(&[("t/small", b"1"), ("t/large", &large)]);
    let set = TransferOptions { permissions: Some(0o640), ..options() };
    bench.run("t", set.clone()).await.check().unwrap();
    assert_eq!((bench.mode("t/small"), bench.mode("t/large"), bench.mode("t")), (0o640, 0o640, 0o750));
    let plain = TransferOptions { add_x_to_directories: false, permissions: Some(0o700), ..options() };
    bench.run("t", plain).await.check().unwrap();
    assert_eq!((bench.mode("t/small"), bench.mode("t")), (0o700, 0o700));
}

#[tokio::test]
async fn what_is_replaced_keeps_its_mode_where_nothing_is_said() {
    let large = long(200_000);
    let bench = Bench::new(&[("large", &large), ("small", b"1")]);
    for name in ["large", "small"] {
        bench.put(&bench.to, name, b"old");
        let path = bench.to.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o604)).unwrap();
        bench.run(name, TransferOptions { preserve_modes: false, ..options() }).await.check().unwrap();
        assert_eq!(bench.mode(name), 0o604, "{name}");
    }
}

#[tokio::test]
async fn times_of_directories_are_a_choice() {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for wanted in [true, false] {
        let bench = Bench::new(&[("t/f", b"1")]);
        std::fs::File::open(bench.from.path().join("t")).unwrap().set_modified(old).unwrap();
        let options = TransferOptions { directory_times: wanted, ..options() };
        bench.run("t", options).await.check().unwrap();
        let there = std::fs::metadata(bench.to.path().join("t")).unwrap().modified().unwrap();
        assert_eq!(there == old, wanted);
    }
}

#[tokio::test]
async fn directories_in_which_nothing_takes_part_are_left_out() {
    for wanted in [true, false] {
        let bench = Bench::new(&[("t/a/b/f", b"1"), ("t/c/.h", b"2")]);
        std::fs::create_dir_all(bench.from.path().join("t/d/e")).unwrap();
        let options =
            TransferOptions { exclude_empty_directories: wanted, exclude_hidden: true, ..options() };
        let report = bench.run("t", options).await;
        report.check().unwrap();
        let there = |name: &str| bench.to.path().join("t").join(name).exists();
        assert!(there("a/b/f"));
        assert_eq!((there("c"), there("d"), there("d/e")), (!wanted, !wanted, !wanted));
        assert_eq!(report.done(), 1);
    }
}

#[tokio::test]
async fn characters_that_a_disk_shall_not_have_are_replaced_and_put_back() {
    let bench = Bench::new(&[("t/a:b/c?.txt", b"1"), ("t/100%3A", b"2")]);
    let invalid = TransferOptions { invalid_chars: Some(InvalidChars::default()), ..options() };
    bench.run("t", invalid).await.check().unwrap();
    for name in ["a%3Ab/c%3F.txt", "100%253A"] {
        assert!(bench.to.path().join("t").join(name).is_file(), "{name}");
    }
}

#[tokio::test]
async fn the_threshold_decides_about_the_temporary_name() {
    let bench = Bench::new(&[("f", b"12345")]);
    // A small one has it where it replaces another.
    for (from, guarantee) in
        [(6, Guarantee::InPlace), (6, Guarantee::AtomicRename), (0, Guarantee::AtomicRename)]
    {
        let report = bench.run("f", TransferOptions { temporary_from: from, ..options() }).await;
        assert_eq!(report.receipts[0].guarantee, guarantee);
    }
}

#[tokio::test]
async fn where_no_temporary_name_fits_the_file_is_written_in_place() {
    let large = long(200_000);
    // A name without room for the suffix; two of them must not meet under one temporary name.
    let (one, two) = ("a".repeat(249) + "1", "a".repeat(249) + "2");
    let bench = Bench::new(&[(&format!("t/{one}"), &large), (&format!("t/{two}"), &large)]);
    let report = bench.run("t", options()).await;
    report.check().unwrap();
    assert!(report.receipts.iter().all(|r| r.guarantee == Guarantee::InPlace));
    // A link is written through, not replaced.
    let bench = Bench::new(&[("link", &large)]);
    bench.put(&bench.to, "aim", b"old");
    std::os::unix::fs::symlink("aim", bench.to.path().join("link")).unwrap();
    let report = bench.run("link", options()).await;
    report.check().unwrap();
    assert!(bench.to.path().join("link").is_symlink() && bench.target("aim").unwrap() == large);
    assert_eq!(report.receipts[0].guarantee, Guarantee::InPlace);
}

#[tokio::test]
async fn a_part_that_is_larger_than_the_source_is_discarded() {
    let large = long(200_000);
    let bench = Bench::new(&[("f", &large)]);
    bench.put(&bench.to, "f.filepart", &long(300_000));
    let report = bench.run("f", options()).await;
    report.check().unwrap();
    assert!(bench.target("f").unwrap() == large && bench.names() == ["f"]);
    assert_eq!(report.bytes(), 200_000);
}

#[tokio::test]
async fn a_speed_limit_is_shared_by_batches() {
    let bench = Bench::new(&[("a", &long(60_000)), ("b", &long(60_000))]);
    let limiter = Arc::new(client::batch::Limiter::new(100_000));
    let run = |name: &'static str| {
        let batch =
            Batch::new(open(bench.from.path()), open(bench.to.path()), options(), Arc::new(Unattended));
        batch.share_limiter(Arc::clone(&limiter));
        async move { batch.run(vec![Job { from: p(&format!("/{name}")), to: p(&format!("/{name}")) }]).await }
    };
    let begin = std::time::Instant::now();
    let (a, b) = tokio::join!(run("a"), run("b"));
    a.check().unwrap();
    b.check().unwrap();
    // 120,000 bytes at 100,000 a second, less the burst and the last chunk.
    assert!(begin.elapsed() >= Duration::from_millis(700), "{:?}", begin.elapsed());
}
