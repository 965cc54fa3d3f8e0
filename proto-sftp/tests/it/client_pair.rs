//! Our client half against our server half, over a pipe that holds little, over stores that take their
//! time.
#![cfg(all(feature = "client", feature = "server"))]

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use bytes::{Bytes, BytesMut};
use proto_sftp::client::pipeline::{Window, download};
use proto_sftp::client::{Config, Messages, SftpRemote, Writing};
use proto_sftp::server::Driver;
use proto_sftp::wire::Extension;
use session_core::auth::Account;
use session_core::error::ErrorKind;
use session_core::fs::{Algorithm, CommitOptions, Filesystem, Follow, ListOptions, OpenOptions, Replace};
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::metadata::Attributes;
use session_core::session::{Protocol, Session, Setup};

/// A remote to `fs` over a pipe of `room` bytes each way.
async fn remote(fs: SessionFs, room: usize) -> SftpRemote {
    let (ours, theirs) = tokio::io::duplex(room);
    let (read, write) = tokio::io::split(theirs);
    tokio::spawn(Driver::new(fs).run(chunks(read), Writer(write)));
    let (read, write) = tokio::io::split(ours);
    SftpRemote::connect(Messages(chunks(read)), Writing(write), &Config::default()).await.unwrap()
}

fn content(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 + i / 1000) as u8).collect()
}

#[tokio::test]
async fn everything_is_offered() {
    let remote = remote(guarded(&Store::new(), vec![]), 1 << 16).await;
    let n = remote.negotiated();
    for e in [Extension::Limits, Extension::PosixRename, Extension::Fsync, Extension::CheckFileName] {
        assert!(n.has(e), "{}", e.name());
    }
    assert!(n.ordered && n.read_len > 200_000 && n.write_len > 200_000, "{n:?}");
    let c = remote.capabilities();
    assert!(c.rename_replaces && c.checksums && c.server_copy);
}

#[tokio::test]
async fn up_and_down_at_once_with_more_in_flight_than_the_pipe_holds() {
    for (seed, room) in [(0, 4096), (3, 70_000), (5, 1 << 20)] {
        let store = if seed == 0 { Store::new() } else { Store::with_jitter(seed) };
        let data = content(6 << 20);
        store.put("/down", &data);
        let remote = remote(guarded(&store, vec![]), room).await;
        let work = async {
            let up = async {
                let file = remote.open(&p("/up"), &OpenOptions::create()).await.unwrap();
                for (i, piece) in data.chunks(1 << 20).enumerate() {
                    file.write_at((i << 20) as u64, Bytes::copy_from_slice(piece)).await.unwrap();
                }
                assert_eq!(store.content("/up"), None, "nothing appears before the commit");
                let size = Some(data.len() as u64);
                let options = CommitOptions { expected_size: size, ..Default::default() };
                file.commit(&options).await.unwrap();
            };
            let down = async {
                let file = remote.open(&p("/down"), &OpenOptions::read()).await.unwrap();
                let mut got = download(file, 0..u64::MAX, &Window::fixed(4 << 20));
                let mut all = Vec::new();
                while let Some(bytes) = got.next().await.unwrap() {
                    all.extend_from_slice(&bytes);
                }
                assert!(all == data);
            };
            tokio::join!(up, down)
        };
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("no progress");
        assert!(store.content("/up").unwrap() == data);
    }
}

#[tokio::test]
async fn an_abort_leaves_the_old_content_where_the_server_stages() {
    let store = Store::new();
    store.put("/f", b"old");
    let remote = remote(guarded(&store, vec![]), 1 << 16).await;
    let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"new")).await.unwrap();
    let options = CommitOptions { expected_size: Some(9), ..Default::default() };
    assert_eq!(file.commit(&options).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.content("/f").as_deref(), Some(&b"old"[..]), "a wrong size publishes nothing");
}

#[tokio::test]
async fn several_handles_write_one_file_and_the_last_commit_counts_it_all() {
    let remote = disk::disk().await;
    let file = remote.0.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    let other = remote.0.open(&p("/f"), &OpenOptions::update()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"123")).await.unwrap();
    other.write_at(3, Bytes::from_static(b"456")).await.unwrap();
    other.commit(&CommitOptions::default()).await.unwrap();
    let options = |n| CommitOptions { expected_size: Some(n), ..Default::default() };
    assert_eq!(file.commit(&options(6)).await.unwrap().size, 6);
    assert_eq!(std::fs::read(remote.1.path().join("f")).unwrap(), b"123456");
}

#[tokio::test]
async fn a_verdict_of_the_server_is_the_commits_error() {
    let store = Store::new();
    store.put("/f", b"old");
    let remote = remote(guarded(&store, vec![]), 1 << 16).await;
    *store.veto.lock().unwrap() = Some(session_core::error::Error::refused("not on Sunday"));
    let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    let e = file.commit(&CommitOptions::default()).await.unwrap_err();
    assert_eq!((e.kind(), &e.wire().unwrap().text[..]), (ErrorKind::PermissionDenied, "not on Sunday"));
    // The server kept the old content: throwing the new one away must not remove it.
    file.abort().await.unwrap();
    assert_eq!(store.content("/f").as_deref(), Some(&b"old"[..]));
}

#[tokio::test]
async fn the_gate_of_the_client_sees_each_operation_once() {
    let store = Store::new();
    let remote = remote(guarded(&store, vec![]), 1 << 16).await;
    let chain = Chain::new(vec![]);
    let session = Session::new(Setup { chain: Arc::clone(&chain), ..Setup::new(Protocol::Sftp, "client") });
    let identity = session.log_in(Account::named("me"), vec![]).unwrap();
    let fs = session.guard(&identity, Arc::new(remote), chain).unwrap();
    let file = fs.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"content")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    let options = OpenOptions { size_hint: Some(7), ..OpenOptions::read() };
    let file = fs.open(&p("/f"), &options).await.unwrap();
    assert_eq!(file.read_into(0, 7, BytesMut::new()).await.unwrap(), b"content"[..]);
    let stats = session.stats();
    let load = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((load(&stats.uploaded), load(&stats.downloaded)), (7, 7));
}

mod disk {
    use super::*;
    use session_core::store::local::{LocalOptions, LocalStore};

    pub(super) async fn disk() -> (SftpRemote, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
        let chain = Chain::new(vec![]);
        let setup = Setup { chain: Arc::clone(&chain), ..Setup::new(Protocol::Sftp, "test") };
        let session = Session::new(setup);
        let identity = session.log_in(Account::named("someone"), vec![]).unwrap();
        let fs = session.guard(&identity, Arc::new(store), chain).unwrap();
        (remote(fs, 1 << 16).await, dir)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_listing_of_ten_thousand_is_complete() {
        let (remote, dir) = disk().await;
        for i in 0..10_000 {
            std::fs::File::create(dir.path().join(format!("f{i}"))).unwrap();
        }
        let mut listing = remote.list(&p("/"), &ListOptions::default()).await.unwrap();
        let mut names = std::collections::HashSet::new();
        while let Some(page) = listing.next_page().await.unwrap() {
            for e in page {
                assert!(names.insert(e.name));
            }
        }
        assert_eq!(names.len(), 10_000);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kinds_survive_two_gates_and_a_wire() {
        use ErrorKind::*;
        let (r, dir) = disk().await;
        std::fs::write(dir.path().join("file"), b"x").unwrap();
        std::fs::create_dir_all(dir.path().join("dir/inner")).unwrap();
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        macro_rules! fails {
            ($kind:ident, $call:expr) => {
                match $call.await {
                    Ok(_) => panic!("{} works", stringify!($call)),
                    Err(e) => assert_eq!(e.kind(), $kind, "{}: {e:#}", stringify!($call)),
                }
            };
        }
        let none = Attributes::none();
        let (read, create) = (OpenOptions::read(), OpenOptions::create());
        let new = OpenOptions { exclusive: true, ..OpenOptions::create() };
        fails!(NotFound, r.stat(&p("/gone/deeper"), Follow::Yes));
        fails!(NotADirectory, r.stat(&p("/file/x"), Follow::Yes));
        fails!(NotADirectory, r.list(&p("/file"), &ListOptions::default()));
        fails!(IsADirectory, r.open(&p("/dir"), &read));
        fails!(IsADirectory, r.open(&p("/dir"), &create));
        fails!(AlreadyExists, r.open(&p("/file"), &new));
        fails!(NotFound, r.open(&p("/gone/x"), &create));
        fails!(AlreadyExists, r.create_dir(&p("/dir"), &none));
        fails!(NotADirectory, r.create_dir(&p("/file/x"), &none));
        fails!(IsADirectory, r.remove_file(&p("/dir")));
        fails!(NotADirectory, r.remove_dir(&p("/file")));
        fails!(NotEmpty, r.remove_dir(&p("/dir")));
        fails!(AlreadyExists, r.rename(&p("/file"), &p("/dir"), Replace::No));
        fails!(IsADirectory, r.rename(&p("/file"), &p("/empty"), Replace::Yes));
        fails!(NotADirectory, r.rename(&p("/dir"), &p("/file"), Replace::Yes));
        fails!(NotEmpty, r.rename(&p("/empty"), &p("/dir"), Replace::Yes));
        fails!(InvalidArgument, r.rename(&p("/dir"), &p("/dir/inner/x"), Replace::Yes));
        fails!(InvalidArgument, r.read_link(&p("/file")));
        fails!(AlreadyExists, r.symlink(b"x", &p("/file")));
        fails!(NotFound, r.hard_link(&p("/gone"), &p("/new")));
        fails!(NotFound, r.copy(&p("/gone"), &p("/new"), Replace::Yes));
        fails!(InvalidPath, r.create_dir(&p("/").join([b'x'; 300]).unwrap(), &none));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_server_digests_copies_and_tells_its_room() {
        use sha2::Digest as _;
        let (r, dir) = disk().await;
        let data = content(1_000_000);
        std::fs::write(dir.path().join("f"), &data).unwrap();
        let want = |part: &[u8]| Bytes::from(sha2::Sha256::digest(part).to_vec());
        let sha = Algorithm::Sha256;
        assert_eq!(r.checksum(&p("/f"), sha, 0..u64::MAX).await.unwrap(), want(&data));
        assert_eq!(r.checksum(&p("/f"), sha, 7..900_001).await.unwrap(), want(&data[7..900_001]));
        assert_eq!(r.checksum(&p("/f"), sha, 9..9).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(r.checksum(&p("/gone"), sha, 0..9).await.unwrap_err().kind(), ErrorKind::NotFound);
        for algorithm in Algorithm::ALL {
            assert!(r.checksum(&p("/f"), algorithm, 0..1000).await.unwrap().len() >= 4, "{algorithm:?}");
        }
        r.copy(&p("/f"), &p("/g"), Replace::No).await.unwrap();
        assert!(std::fs::read(dir.path().join("g")).unwrap() == data);
        assert_eq!(
            r.copy(&p("/f"), &p("/g"), Replace::No).await.unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert!(r.space(&p("/")).await.unwrap().total > 0);
        assert_eq!(r.canonicalize(&p("/dir/..")).await.unwrap(), p("/"));
    }

    /// The same, with uploads staged as `ferryd` stages them.
    async fn staged() -> (SftpRemote, tempfile::TempDir) {
        use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::open(dir.path(), LocalOptions::default()).unwrap());
        let clock = Arc::new(std::time::SystemTime::now);
        let area = StagingArea::new(store, StagingPolicy::default(), clock).unwrap();
        let chain = Chain::new(vec![]);
        let setup = Setup { chain: Arc::clone(&chain), ..Setup::new(Protocol::Sftp, "test") };
        let session = Session::new(setup);
        let identity = session.log_in(Account::named("someone"), vec![]).unwrap();
        let fs = Arc::new(Staged::new(Owner::account("someone"), area));
        let fs = session.guard(&identity, fs, chain).unwrap();
        (remote(fs, 1 << 16).await, dir)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_endings_where_the_server_stages() {
        let (r, dir) = staged().await;
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("f"), b"old").unwrap();
        let write = async |name: &str| {
            let file = r.open(&p(name), &OpenOptions::create()).await.unwrap();
            file.write_at(0, content(500_000)).await.unwrap();
            file
        };
        // An abort: the old content stays, and what was new is gone.
        write("/f").await.abort().await.unwrap();
        assert_eq!(std::fs::read(at("f")).unwrap(), b"old");
        write("/new").await.abort().await.unwrap();
        assert!(!at("new").exists());
        assert_eq!(r.stat(&p("/new"), Follow::Yes).await.unwrap_err().kind(), ErrorKind::NotFound);
        // A wrong size is found before the CLOSE.
        let file = write("/f").await;
        let options = CommitOptions { expected_size: Some(1), ..Default::default() };
        assert_eq!(file.commit(&options).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(std::fs::read(at("f")).unwrap(), b"old");
        file.abort().await.unwrap();
        assert_eq!(std::fs::read(at("f")).unwrap(), b"old");
        // A commit: content, size, mode and time at once.
        let time = Some(std::time::UNIX_EPOCH + Duration::from_secs(1_500_000_000));
        let attributes = Attributes { mode: Some(0o600), ..Attributes::times(time, time) };
        let options = CommitOptions { expected_size: Some(500_000), attributes };
        let m = write("/f").await.commit(&options).await.unwrap();
        assert_eq!((m.size, m.mode, m.modified), (500_000, Some(0o600), time));
        assert!(std::fs::read(at("f")).unwrap() == content(500_000));
        assert_eq!(std::fs::metadata(at("f")).unwrap().modified().ok(), time);
    }
}
