//! Files that are text over FTP: other line ends on each side, and nothing claimed that sizes cannot show.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::support::world::*;
use client::batch::{Batch, Job};
use client::connect::{Connected, Options, open_url};
use client::mask::FileMask;
use client::url::Location;
use session_core::auth::Account;
use session_core::batch::*;
use session_core::digest::Hasher;
use session_core::error::ErrorKind;
use session_core::fs::{Algorithm, Filesystem, OpenOptions};
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn store(dir: &Path) -> Arc<dyn Filesystem> {
    Arc::new(LocalStore::open(dir, LocalOptions::default()).unwrap())
}

fn local(dir: &Path) -> SessionFs {
    let session = Session::new(Setup::new(Protocol::Local, "local"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, store(dir), Chain::new(vec![])).unwrap()
}

async fn open(scheme: &str, world: &World) -> Connected {
    let Ok(Location::Remote(url)) = Location::parse(&format!("{scheme}://ann@127.0.0.1:{}/", world.port))
    else {
        panic!("a URL")
    };
    let options = Options::from_url(&url)
        .unwrap()
        .host_keys(&world.host_key.clone().into_iter().collect::<Vec<_>>())
        .unwrap()
        .identities(vec!["/nonexistent".into()])
        .password(Some("secret".into()))
        .reconnect(Duration::from_secs(30));
    open_url(options, Arc::new(Unattended)).await.unwrap()
}

/// A folder here, and one behind a server.
struct Bench {
    here: tempfile::TempDir,
    there: tempfile::TempDir,
    world: World,
    remote: Connected,
}

impl Bench {
    async fn ftp(links: Vec<Arc<dyn Interceptor>>) -> Self {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let world = World::ftp(store(there.path()), links).await;
        let remote = open("ftp", &world).await;
        Bench { here, there, world, remote }
    }

    fn here(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.here.path().join(name)).ok()
    }

    fn there(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.there.path().join(name)).ok()
    }

    async fn run(&self, up: bool, names: &[&str], options: TransferOptions) -> TransferReport {
        let (here, there) = (local(self.here.path()), self.remote.fs().clone());
        let (from, to) = if up { (here, there) } else { (there, here) };
        let jobs = names.iter().map(|n| Job { from: p(n), to: p(n) }).collect();
        Batch::new(from, to, options, Arc::new(Unattended)).run(jobs).await
    }
}

fn texts() -> TransferOptions {
    let text = Some(FileMask::parse("*.txt").unwrap().selection());
    TransferOptions { text, recursive: true, ..TransferOptions::default() }
}

fn dos(lines: usize) -> Vec<u8> {
    b"one line\r\nand another\r\n".repeat(lines)
}

fn unix(lines: usize) -> Vec<u8> {
    b"one line\nand another\n".repeat(lines)
}

fn of<'a>(report: &'a TransferReport, name: &str) -> &'a Receipt {
    report.receipts.iter().find(|r| r.target == p(name)).unwrap()
}

/// Small, and large enough for a temporary name.
const SIZES: [usize; 2] = [10, 20_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_taken_from_texts_that_are_sent() {
    let b = Bench::ftp(vec![]).await;
    let marked = |text: &[u8]| [b"\xef\xbb\xbf", text, b"\x1a"].concat();
    // A mark is only one where it stands; chunks end before, within and behind it.
    let large = [b"\xef\xbb\xbf\x1a", &unix(30_000)[..]].concat();
    let inner = [&unix(1)[..], &large, &b"\x1a"[..]].concat();
    for (name, content) in
        [("small.txt", unix(1)), ("large.txt", large), ("inner.txt", inner), ("empty.txt", vec![])]
    {
        std::fs::write(b.here.path().join(name), marked(&content)).unwrap();
        std::fs::write(b.here.path().join("plain.bin"), marked(&content)).unwrap();
        let options = TransferOptions { remove_bom: true, remove_ctrl_z: true, ..texts() };
        b.run(true, &[name, "plain.bin"], options).await.check().unwrap();
        assert!(b.there(name).unwrap() == content, "{name}");
        assert_eq!(b.there("plain.bin").unwrap(), marked(&content), "{name}: what is no text stays");
        b.run(true, &[name], texts()).await.check().unwrap();
        assert!(b.there(name).unwrap() == marked(&content), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_comes_with_the_line_ends_of_this_side() {
    let b = Bench::ftp(vec![]).await;
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    std::fs::create_dir(b.there.path().join("t")).unwrap();
    for (n, lines) in SIZES.into_iter().enumerate() {
        for end in ["txt", "bin"] {
            let path = b.there.path().join(format!("t/{n}.{end}"));
            std::fs::write(&path, dos(lines)).unwrap();
            std::fs::File::open(path).unwrap().set_modified(old).unwrap();
        }
    }
    let report = b.run(false, &["/t"], texts()).await;
    report.check().unwrap();
    for (n, lines) in SIZES.into_iter().enumerate() {
        assert!(b.here(&format!("t/{n}.txt")).unwrap() == unix(lines), "{lines}");
        assert!(b.here(&format!("t/{n}.bin")).unwrap() == dos(lines), "{lines}");
        let time = std::fs::metadata(b.here.path().join(format!("t/{n}.txt"))).unwrap().modified().unwrap();
        assert_eq!(time, old);
        let text = of(&report, &format!("/t/{n}.txt"));
        assert_eq!((text.text, text.proof, text.size), (true, Proof::Reply, unix(lines).len() as u64));
        assert_eq!((text.sent, text.to_json()["proof"].as_str()), (text.size, Some("reply")));
        assert_eq!(text.to_json()["text"], true);
        let bin = of(&report, &format!("/t/{n}.bin"));
        assert_eq!((bin.text, bin.proof, bin.size), (false, Proof::Size, dos(lines).len() as u64));
        assert!(bin.to_json().get("text").is_none());
    }
    assert_eq!(of(&report, "/t/1.txt").guarantee, Guarantee::AtomicRename);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_goes_with_the_line_ends_of_that_side() {
    let b = Bench::ftp(vec![]).await;
    std::fs::create_dir(b.here.path().join("t")).unwrap();
    for (n, lines) in SIZES.into_iter().enumerate() {
        for end in ["txt", "bin"] {
            std::fs::write(b.here.path().join(format!("t/{n}.{end}")), dos(lines)).unwrap();
        }
    }
    // The server's own sum is of other bytes than what was sent, and is no fault.
    let options = TransferOptions { verify: Verify::Auto, digest: Some(Algorithm::Sha256), ..texts() };
    let report = b.run(true, &["/t"], options).await;
    report.check().unwrap();
    for (n, lines) in SIZES.into_iter().enumerate() {
        assert!(b.there(&format!("t/{n}.txt")).unwrap() == unix(lines), "{lines}");
        assert!(b.there(&format!("t/{n}.bin")).unwrap() == dos(lines), "{lines}");
        let text = of(&report, &format!("/t/{n}.txt"));
        assert_eq!((text.text, text.proof, text.size), (true, Proof::Reply, dos(lines).len() as u64));
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&dos(lines));
        assert_eq!(text.digest.as_ref().unwrap().value, hasher.finish(), "that of what was sent");
        assert_eq!(of(&report, &format!("/t/{n}.bin")).proof, Proof::TargetDigest);
    }
    assert_eq!(report.counts.verified, 2, "a reply is no digest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_proved_or_continued_is_not() {
    let b = Bench::ftp(vec![]).await;
    for lines in SIZES {
        std::fs::write(b.here.path().join("a.txt"), dos(lines)).unwrap();
        let strict = TransferOptions { verify: Verify::Strict, ..texts() };
        let e = b.run(true, &["/a.txt"], strict).await.check().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:#}");
        assert_eq!(b.there("a.txt"), None);
    }
    // A smaller target is replaced, and not continued.
    std::fs::write(b.there.path().join("a.txt"), "half of it").unwrap();
    let resume = TransferOptions { overwrite: Overwrite::Continue, ..texts() };
    b.run(true, &["/a.txt"], resume.clone()).await.check().unwrap();
    assert!(b.there("a.txt").unwrap() == unix(SIZES[1]));
    // So is what an earlier run left, although it is a beginning of what comes.
    std::fs::write(b.there.path().join("d.txt"), dos(SIZES[1])).unwrap();
    std::fs::write(b.here.path().join("d.txt.filepart"), unix(SIZES[1] / 2)).unwrap();
    let report = b.run(false, &["/d.txt"], texts()).await;
    report.check().unwrap();
    assert_eq!((of(&report, "/d.txt").sent, b.here("d.txt.filepart")), (unix(SIZES[1]).len() as u64, None));
    assert!(b.here("d.txt").unwrap() == unix(SIZES[1]));
    // Added to what is there, at either side.
    let append = TransferOptions { overwrite: Overwrite::Append, ..texts() };
    std::fs::write(b.there.path().join("d.txt"), "0\r\n").unwrap();
    std::fs::write(b.here.path().join("d.txt"), "1\n").unwrap();
    let report = b.run(false, &["/d.txt"], append.clone()).await;
    report.check().unwrap();
    assert_eq!(b.here("d.txt").unwrap(), b"1\n0\n");
    assert_eq!((of(&report, "/d.txt").size, of(&report, "/d.txt").proof), (2, Proof::Reply));
    b.run(true, &["/d.txt"], append).await.check().unwrap();
    assert_eq!(b.there("d.txt").unwrap(), b"0\r\n1\n0\n");
}

/// Bytes between two cuts, more than all that is moved in a test.
const EVERY: u64 = 100 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_whose_connection_was_cut_is_begun_anew() {
    let cutter = Cutter::every(EVERY);
    let b = Bench::ftp(vec![Arc::clone(&cutter) as _]).await;
    std::fs::write(b.there.path().join("down.txt"), dos(60_000)).unwrap();
    std::fs::write(b.here.path().join("up.txt"), dos(60_000)).unwrap();
    for (up, name) in [(false, "/down.txt"), (true, "/up.txt")] {
        let before = cutter.cuts.load(Ordering::SeqCst);
        // Once, in the middle of the file.
        cutter.moved.store((before + 1) * EVERY - 600_000, Ordering::SeqCst);
        let report = b.run(up, &[name], texts()).await;
        report.check().unwrap();
        assert!(cutter.cuts.load(Ordering::SeqCst) > before, "{name}: nothing was cut");
        assert!(of(&report, name).breaks > 0 || !up, "{name}");
    }
    assert!(b.here("down.txt").unwrap() == unix(60_000));
    assert!(b.there("up.txt").unwrap() == unix(60_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_knows_of_texts_everything_is_as_it_is() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let world = World::sftp(store(there.path()), vec![]).await;
    let remote = open("sftp", &world).await;
    std::fs::write(here.path().join("a.txt"), dos(10)).unwrap();
    let batch = Batch::new(local(here.path()), remote.fs().clone(), texts(), Arc::new(Unattended));
    let report = batch.run(vec![Job { from: p("/a.txt"), to: p("/a.txt") }]).await;
    report.check().unwrap();
    assert_eq!((of(&report, "/a.txt").text, of(&report, "/a.txt").proof), (false, Proof::Size));
    assert!(std::fs::read(there.path().join("a.txt")).unwrap() == dos(10));
    let text = OpenOptions { text: true, ..OpenOptions::read() };
    let e = remote.fs().open(&p("/a.txt"), &text).await.map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_names_texts_by_a_mask() {
    let b = Bench::ftp(vec![]).await;
    std::fs::write(b.there.path().join("a.txt"), dos(3)).unwrap();
    let state = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        let place = format!("ftp://ann:secret@127.0.0.1:{}/a.txt", b.world.port);
        command.args(args).arg(place).arg(b.here.path()).env("XDG_STATE_HOME", state.path());
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    assert_eq!(run(&["get", "--ascii-mask", "*.htm; a*|b*"]).0, Some(0));
    assert!(b.here("a.txt").unwrap() == unix(3));
    assert_eq!(run(&["get", "--ascii-mask", "*.htm"]).0, Some(0));
    assert!(b.here("a.txt").unwrap() == dos(3));
    let (code, told) = run(&["get", "--ascii-mask", "a|b|c"]);
    assert!(code == Some(2) && told.contains("second '|'"), "{told}");
}

#[test]
fn the_usual_texts() {
    let mask = FileMask::parse(client::mask::TEXTS).unwrap().selection();
    let metadata = session_core::metadata::Metadata::new(session_core::metadata::FileType::File, 1);
    for (name, text) in [
        ("/a.txt", true),
        ("/d/INDEX.SHTML", true),
        ("/.htaccess", true),
        ("/a.c", true),
        ("/a.txt.gz", false),
        ("/txt", false),
        ("/a.jpg", false),
    ] {
        let path = p(name);
        let candidate = Candidate { path: &path, root: &path, metadata: &metadata };
        assert_eq!(mask.0.takes(&candidate), text, "{name}");
    }
}
