//! SCP against a host with OpenSSH's own `scp`: with a shell, with a shell that is noisy, and with none; and against our
//! server, which runs `scp` and no shell.
#![cfg(feature = "sftp")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::local;
use crate::support::shell::{Kind, Shell};
#[cfg(feature = "ftp")]
use crate::support::world::World;
use bytes::{Bytes, BytesMut};
use client::batch::{Batch, Job};
use client::connect::{Connected, Options, open_url};
use client::url::{Location, Url};
use futures_util::StreamExt as _;
use session_core::batch::{TransferOptions, Unattended};
use session_core::conformance::{Report, Subject, cases, run_case};
#[cfg(feature = "ftp")]
use session_core::error::Error;
use session_core::error::ErrorKind;
use session_core::fs::{Algorithm, CommitOptions, Filesystem, Follow, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt as _;
#[cfg(feature = "ftp")]
use session_core::intercept::{Cx, Interceptor};
use session_core::metadata::{Attributes, FileType};
#[cfg(feature = "ftp")]
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::path::VPath;
#[cfg(feature = "ftp")]
use session_core::store::memory::MemoryStore;

macro_rules! shell {
    ($kind:expr) => {
        match Shell::of($kind, false).await {
            Some(shell) => shell,
            None => return,
        }
    };
}

fn url(text: &str) -> Url {
    match Location::parse(text).unwrap() {
        Location::Remote(url) => url,
        Location::Local(_) => panic!("{text}"),
    }
}

async fn opened(shell: &Shell) -> Connected {
    let options = Options::from_url(&url(&format!("scp://u:shell@127.0.0.1:{}/", shell.port))).unwrap();
    let options = options.host_keys(std::slice::from_ref(&shell.fingerprint)).unwrap().only_given_keys();
    open_url(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}"))
}

fn at(dir: &Path, name: &str) -> VPath {
    VPath::absolute(dir.join(name).to_str().unwrap()).unwrap()
}

fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x2545_F491_u32;
    let mut out = Vec::with_capacity(len + 4);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Names that a shell, a program or a listing could take for something else.
const NAMES: [&str; 14] = [
    "plain",
    "two words ",
    " -> ",
    "-rf",
    "it's \"quoted\"",
    "$(touch pwned)`touch pwned`",
    "back\\slash\\n",
    "*?[a]{b,c}~",
    "line\nend",
    "a;b|c&d>e<f",
    "!bang #hash",
    "ümläut-日本",
    "tab\there",
    "%s%n=1",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_every_filesystem_promises() {
    let shell = shell!(Kind::Plain);
    let connected = opened(&shell).await;
    let dir = shell.dir.path().canonicalize().unwrap();
    let mut subject = Subject::new(Arc::new(connected.fs().clone()));
    subject.root = at(&dir, "");
    subject.profile.stages = false;
    subject.profile.knows_files = false;
    subject.profile.keeps_given_up = false;
    // Every byte of a hole would be sent.
    subject.profile.sparse = false;
    let all = cases();
    // Each file is a program of its own: what makes many of them takes minutes, and shows nothing more than the many
    // files below. The rest takes its time too, and still is the one proof of all that the shell does.
    let many = [
        "all_together",
        "can_be_given_up",
        "changes_meanwhile_lose_nothing",
        "three_thousand_entries",
        "two_at_a_time",
    ];
    let many = |name: &str| name.starts_with("cancel::") || many.iter().any(|end| name.ends_with(end));
    let some = all.iter().filter(|case| !many(case.name));
    let mut verdicts: Vec<_> = futures_util::stream::iter(some)
        .map(|case| async { (case.name, run_case(case, &subject).await) })
        .buffer_unordered(6)
        .collect()
        .await;
    verdicts.sort_by_key(|(name, _)| *name);
    std::fs::create_dir(dir.join("many")).unwrap();
    for n in 0..3000 {
        std::fs::write(dir.join(format!("many/{n}")), "").unwrap();
    }
    assert_eq!(connected.fs().list_all(&at(&dir, "many")).await.unwrap().len(), 3000);
    let report = Report { verdicts };
    assert!(report.failures().is_empty(), "{report}");
    assert!(report.passed() >= 60, "{report}\nskipped: {:#?}", report.skipped());
    connected.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_names_and_nothing_else() {
    for kind in [Kind::Plain, Kind::Noisy] {
        let shell = shell!(kind);
        let connected = opened(&shell).await;
        let fs = connected.fs();
        let dir = shell.dir.path().canonicalize().unwrap();
        for (n, name) in NAMES.into_iter().enumerate() {
            let content = Bytes::from(vec![n as u8; n + 1]);
            fs.write_all(&at(&dir, name), content.clone()).await.unwrap();
            assert_eq!(std::fs::read(dir.join(name)).unwrap(), content, "{name:?}");
            assert_eq!(fs.read_to_vec(&at(&dir, name), 100).await.unwrap(), content, "{name:?}");
            fs.symlink(name.as_bytes(), &at(&dir, "link")).await.unwrap();
            assert_eq!(fs.read_link(&at(&dir, "link")).await.unwrap(), name.as_bytes(), "{name:?}");
            assert_eq!(fs.stat(&at(&dir, "link"), Follow::Yes).await.unwrap().size, n as u64 + 1, "{name:?}");
            fs.remove_file(&at(&dir, "link")).await.unwrap();
        }
        let mut names: Vec<_> =
            fs.list_all(&at(&dir, "")).await.unwrap().into_iter().map(|e| e.name).collect();
        names.sort();
        let mut due = NAMES.map(Bytes::from).to_vec();
        due.sort();
        assert_eq!(names, due);
        for name in NAMES {
            let other = format!("{name}2");
            fs.rename(&at(&dir, name), &at(&dir, &other), Replace::No).await.unwrap();
            fs.remove_file(&at(&dir, &other)).await.unwrap();
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing was made, nothing is left");
        connected.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_flow_whether_their_size_is_told_or_not() {
    let shell = shell!(Kind::Plain);
    let connected = opened(&shell).await;
    let fs = connected.fs();
    let dir = shell.dir.path().canonicalize().unwrap();
    let content = Bytes::from(noise(3_000_001));
    for size_hint in [Some(3_000_001), None] {
        let path = at(&dir, "large");
        let options = OpenOptions { size_hint, ..OpenOptions::create() };
        let file = fs.open(&path, &options).await.unwrap();
        for (n, piece) in content.chunks(70_000).enumerate() {
            file.write_at(n as u64 * 70_000, Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let modified = UNIX_EPOCH + Duration::from_secs(1_234_567_890);
        let attributes = Attributes { mode: Some(0o640), ..Attributes::times(None, Some(modified)) };
        let options = CommitOptions { expected_size: Some(3_000_001), attributes };
        let done = file.commit(&options).await.unwrap();
        assert_eq!((done.size, done.mode, done.modified), (3_000_001, Some(0o640), Some(modified)));
        assert_eq!(std::fs::read(dir.join("large")).unwrap(), content);
        let mut read = BytesMut::new();
        let file = fs.open(&path, &OpenOptions::read()).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().mode, Some(0o640));
        // A jump in between, and back.
        for offset in [0_u64, 2_900_000, 10] {
            read = file.read_into(offset, 5000, std::mem::take(&mut read)).await.unwrap();
            let from = offset as usize;
            assert_eq!(read[..], content[from..from + read.len()], "{offset}");
            assert!(!read.is_empty());
            read.clear();
        }
        assert!(file.read_into(3_000_001, 5, BytesMut::new()).await.unwrap().is_empty());
        let digest = fs.checksum(&path, Algorithm::Sha256, 5..2_000_000).await.unwrap();
        let mut hasher = session_core::digest::Hasher::new(Algorithm::Sha256);
        hasher.update(&content[5..2_000_000]);
        assert_eq!(digest[..], hasher.finish()[..]);
        fs.remove_file(&path).await.unwrap();
    }
    connected.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_is_told_and_nothing_half_stays() {
    let shell = shell!(Kind::Plain);
    let connected = opened(&shell).await;
    let fs = connected.fs();
    let dir = shell.dir.path().canonicalize().unwrap();
    let path = at(&dir, "f");
    // The size that was told is held to.
    for (told, written) in [(600_000, 500_000), (500_000, 600_000)] {
        let options = OpenOptions { size_hint: Some(told), ..OpenOptions::create() };
        let file = fs.open(&path, &options).await.unwrap();
        let written = file.write_at(0, Bytes::from(noise(written))).await;
        let e = match written {
            Ok(()) => file.commit(&CommitOptions::default()).await.unwrap_err(),
            Err(e) => e,
        };
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        let _ = file.abort().await;
        assert!(!dir.join("f").exists());
    }
    fs.write_all(&path, Bytes::from_static(b"content")).await.unwrap();
    assert_eq!(fs.stat(&at(&dir, "f/x"), Follow::Yes).await.unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(fs.list_all(&path).await.unwrap_err().kind(), ErrorKind::NotADirectory);
    // A file that changes while it is read is never a mixture.
    std::fs::write(dir.join("g"), noise(2_000_000)).unwrap();
    let file = fs.open(&at(&dir, "g"), &OpenOptions::read()).await.unwrap();
    std::fs::write(dir.join("g"), noise(1_000_000)).unwrap();
    let e = file.read_into(1_500_000, 10, BytesMut::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    connected.close().await;
}

/// What nobody takes for now fills the line that all channels share: who needs another one has it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_open_and_not_read_keeps_nobody_from_the_line() {
    let shell = shell!(Kind::Plain);
    let connected = opened(&shell).await;
    let fs = connected.fs();
    let dir = shell.dir.path().canonicalize().unwrap();
    let content = noise(24 << 20);
    std::fs::write(dir.join("large"), &content).unwrap();
    std::fs::write(dir.join("small"), "content").unwrap();
    let large = fs.open(&at(&dir, "large"), &OpenOptions::read()).await.unwrap();
    let mut read = large.read_into(0, 1000, BytesMut::new()).await.unwrap();
    // Until the line is full.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let small = at(&dir, "small");
    let others = async {
        // More shells than there are, and a file.
        let (a, b, c) = tokio::join!(
            fs.stat(&small, Follow::Yes),
            fs.stat(&small, Follow::No),
            fs.read_to_vec(&small, 100)
        );
        (a.unwrap().size, b.unwrap().size, c.unwrap())
    };
    let others = tokio::time::timeout(Duration::from_secs(10), others).await;
    assert_eq!(others.expect("the line is held up"), (7, 7, b"content".to_vec()));
    while read.len() < content.len() {
        let from = read.len() as u64;
        read = large.read_into(from, 1 << 20, read).await.unwrap();
    }
    assert!(read[..] == content[..]);
    connected.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_added_to_where_it_ended_and_not_elsewhere() {
    let shell = shell!(Kind::Plain);
    let connected = opened(&shell).await;
    let fs = connected.fs();
    let dir = shell.dir.path().canonicalize().unwrap();
    let (name, whole) = ("it's \"$1\" `f`", noise(900_000));
    let path = at(&dir, name);
    for begun in [1, 300_000, 899_999] {
        std::fs::write(dir.join(name), &whole[..begun]).unwrap();
        let file = fs.open(&path, &OpenOptions::update()).await.unwrap();
        // What is there can be compared before anything is added.
        let there = file.read_into(0, 10, BytesMut::new()).await.unwrap();
        assert!(whole.starts_with(&there) && !there.is_empty());
        let e = file.write_at(begun as u64 - 1, Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        file.write_at(begun as u64, Bytes::copy_from_slice(&whole[begun..])).await.unwrap();
        let commit = CommitOptions { expected_size: Some(900_000), ..CommitOptions::default() };
        assert_eq!(file.commit(&commit).await.unwrap().size, 900_000);
        assert!(std::fs::read(dir.join(name)).unwrap() == whole, "{begun}");
    }
    // Somebody else was there meanwhile: nothing is added to what is not known.
    for added in [10, 500_000] {
        std::fs::write(dir.join(name), b"beginning").unwrap();
        let file = fs.open(&path, &OpenOptions::update()).await.unwrap();
        std::fs::write(dir.join(name), b"another beginning").unwrap();
        let e = match file.write_at(9, Bytes::from(noise(added))).await {
            Ok(()) => file.commit(&CommitOptions::default()).await.unwrap_err(),
            Err(e) => e,
        };
        let _ = file.abort().await;
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
        assert_eq!(std::fs::read(dir.join(name)).unwrap(), b"another beginning");
    }
    // Opened for appending, the end is wherever it is.
    let append = OpenOptions { append: true, create: true, ..OpenOptions::update() };
    let file = fs.open(&path, &append).await.unwrap();
    std::fs::write(dir.join(name), b"one more beginning").unwrap();
    file.write_at(0, Bytes::from_static(b", and an end")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(std::fs::read(dir.join(name)).unwrap(), b"one more beginning, and an end");
    connected.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_upload_goes_on_where_it_was() {
    let shell = shell!(Kind::Plain);
    let connected = opened(&shell).await;
    let dir = shell.dir.path().canonicalize().unwrap();
    let (here, large) = (tempfile::tempdir().unwrap(), noise(6 << 20));
    std::fs::write(here.path().join("large"), &large).unwrap();
    std::fs::write(dir.join("large.filepart"), &large[..4 << 20]).unwrap();
    let (source, target, unattended) = (local(here.path()), connected.fs().clone(), Arc::new(Unattended));
    let batch = Batch::new(source, target, TransferOptions::default(), unattended);
    let from = VPath::absolute("/large").unwrap();
    let report = batch.run(vec![Job { from, to: at(&dir, "large") }]).await;
    report.check().unwrap();
    assert_eq!(report.receipts[0].sent, 2 << 20, "the rest and no more");
    assert!(std::fs::read(dir.join("large")).unwrap() == large);
    connected.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_shell_files_still_move_and_are_listed() {
    let shell = shell!(Kind::OnlyScp);
    let connected = opened(&shell).await;
    let fs = connected.fs();
    let c = fs.capabilities();
    assert!(c.write && c.create_dir && !c.remove && !c.rename && !c.set_times, "{c:?}");
    let dir = shell.dir.path().canonicalize().unwrap();
    fs.create_dir(&at(&dir, "d"), &Attributes::mode(0o750)).await.unwrap();
    assert_eq!(std::fs::metadata(dir.join("d")).unwrap().permissions().mode() & 0o777, 0o750);
    let again = fs.create_dir(&at(&dir, "d"), &Attributes::none()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    std::fs::create_dir(dir.join("d/sub")).unwrap();
    std::fs::write(dir.join("d/sub/never seen"), "x").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("d/broken")).unwrap();
    fs.write_all(&at(&dir, "d/it's; $(here)"), Bytes::from_static(b"content")).await.unwrap();
    assert_eq!(fs.read_to_vec(&at(&dir, "d/it's; $(here)"), 100).await.unwrap(), b"content");
    let mut entries = fs.list_all(&at(&dir, "d")).await.unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = entries.iter().map(|e| (&e.name[..], e.metadata.file_type, e.metadata.size)).collect();
    assert_eq!(seen, [(&b"it's; $(here)"[..], FileType::File, 7), (b"sub", FileType::Directory, 0)]);
    assert!(entries.iter().all(|e| e.metadata.modified.is_some()));
    let large = Bytes::from(noise(1_000_000));
    fs.write_all(&at(&dir, "large"), large.clone()).await.unwrap();
    assert_eq!(fs.read_to_vec(&at(&dir, "large"), 2_000_000).await.unwrap(), large);
    for (name, kind) in [("none", ErrorKind::NotFound), ("d/none", ErrorKind::NotFound)] {
        assert_eq!(fs.stat(&at(&dir, name), Follow::Yes).await.unwrap_err().kind(), kind, "{name}");
    }
    assert_eq!(fs.list_all(&at(&dir, "large")).await.unwrap_err().kind(), ErrorKind::NotADirectory);
    let removed = fs.remove_file(&at(&dir, "large")).await.unwrap_err();
    assert_eq!(removed.kind(), ErrorKind::Unsupported);
    assert!(dir.join("large").exists());
    // What SCP cannot do says why.
    let e = fs.open(&at(&dir, "large"), &OpenOptions::update()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("begins every file anew"), "{e}");
    connected.close().await;
}

/// Nobody looks at what is in one directory.
#[cfg(feature = "ftp")]
struct Secret;

#[cfg(feature = "ftp")]
#[async_trait::async_trait]
impl Interceptor for Secret {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Stat, OperationKind::List])
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> session_core::error::Result<()> {
        let record = operation.to_record();
        let is_list = record.kind() == OperationKind::List;
        match record.path().segments().any(|s| s == if is_list { &b"shut"[..] } else { b"secret: no" }) {
            true => Err(Error::refused("nobody looks: go away")),
            false => Ok(()),
        }
    }
}

/// What may not be looked at is listed by its name, and everything beside it as it is.
#[cfg(feature = "ftp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_without_a_shell_survives_what_may_not_be_looked_at() {
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::default());
    let p = |path: &str| VPath::absolute(path).unwrap();
    for dir in ["/d", "/d/shut", "/d/sub"] {
        store.create_dir(&p(dir), &Attributes::none()).await.unwrap();
    }
    for (file, content) in [("/d/a", "content"), ("/d/secret: no", "x"), ("/d/z", "more")] {
        store.write_all(&p(file), content.into()).await.unwrap();
    }
    for (link, target) in [("above", ".."), ("broken", "nowhere"), ("file", "z"), ("forbidden", "secret: no")]
    {
        store.symlink(target.as_bytes(), &p("/d").join(link).unwrap()).await.unwrap();
    }
    let world = World::sftp(Arc::clone(&store), vec![Arc::new(Secret)]).await;
    let options = Options::from_url(&url(&format!("scp://ann:secret@127.0.0.1:{}/", world.port))).unwrap();
    let options = options.host_keys(world.host_key.as_slice()).unwrap().only_given_keys();
    let connected = open_url(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}"));
    let fs = connected.fs();
    let mut seen: Vec<_> = fs.list_all(&p("/d")).await.unwrap_or_else(|e| panic!("{e:#}"));
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = seen.iter().map(|e| (&e.name[..], e.metadata.file_type, e.metadata.size)).collect();
    let due: [(&[u8], _, _); 8] = [
        (b"a", FileType::File, 7),
        // It leads to where one came from.
        (b"above", FileType::Symlink, 0),
        (b"file", FileType::File, 4),
        (b"forbidden", FileType::Symlink, 0),
        (b"secret: no", FileType::Symlink, 0),
        (b"shut", FileType::Directory, 0),
        (b"sub", FileType::Directory, 0),
        (b"z", FileType::File, 4),
    ];
    assert_eq!(seen, due);
    // Whoever wants it is told why it cannot be had.
    let e = fs.stat(&p("/d/forbidden"), Follow::Yes).await.unwrap_err();
    assert!(format!("{e:#}").contains("go away"), "{e:#}");
    let e = fs.list_all(&p("/d/shut")).await.unwrap_err();
    assert!(format!("{e:#}").contains("go away"), "{e:#}");
    connected.close().await;
}

/// Our server has no shell: what it shows of itself over SCP is what `scp` itself can tell.
#[cfg(feature = "ftp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_server_is_one_that_runs_scp_only() {
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::default());
    let p = |path: &str| VPath::absolute(path).unwrap();
    for dir in ["/d", "/d/sub"] {
        store.create_dir(&p(dir), &Attributes::none()).await.unwrap();
    }
    store.write_all(&p("/d/f"), Bytes::from_static(b"content")).await.unwrap();
    store.write_all(&p("/d/sub/g"), Bytes::from_static(b"more")).await.unwrap();
    let world = World::sftp(Arc::clone(&store), Vec::new()).await;
    let options = Options::from_url(&url(&format!("scp://ann:secret@127.0.0.1:{}/", world.port))).unwrap();
    let options = options.host_keys(world.host_key.as_slice()).unwrap().only_given_keys();
    let connected = open_url(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}"));
    let fs = connected.fs();
    assert_eq!(fs.read_to_vec(&p("/d/f"), 100).await.unwrap(), b"content");
    let mut names: Vec<_> = fs.list_all(&p("/d")).await.unwrap().into_iter().map(|e| e.name).collect();
    names.sort();
    assert_eq!(names, ["f", "sub"]);
    fs.create_dir(&p("/new"), &Attributes::none()).await.unwrap();
    fs.write_all(&p("/new/h"), Bytes::from_static(b"up")).await.unwrap();
    assert_eq!(store.read_to_vec(&p("/new/h"), 10).await.unwrap(), b"up");
    assert_eq!(fs.stat(&p("/none"), Follow::Yes).await.unwrap_err().kind(), ErrorKind::NotFound);
    connected.close().await;
}
