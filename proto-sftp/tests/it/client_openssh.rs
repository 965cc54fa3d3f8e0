//! The client half against OpenSSH's own `sftp-server`, which speaks SFTP over a pipe without SSH.
#![cfg(feature = "client")]

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use proto_sftp::client::pipeline::{Window, download, upload};
use proto_sftp::client::{Config, Reading, SftpRemote, Writing};
use session_core::error::ErrorKind;
use session_core::fs::{CommitOptions, File, Filesystem, Follow, ListOptions, OpenOptions, Replace};
use session_core::metadata::{Attributes, FileType};
use session_core::path::VPath;
use tokio::process::{Child, Command};

const PLACES: [&str; 3] =
    ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];

struct Peer {
    remote: SftpRemote,
    child: Child,
    dir: tempfile::TempDir,
}

/// The peer, or nothing where it is not installed: loudly, and never in CI.
async fn peer() -> Option<Peer> {
    let Some(program) = PLACES.into_iter().find(|p| Path::new(p).exists()) else {
        assert!(std::env::var_os("CI").is_none(), "sftp-server is missing: install openssh-sftp-server");
        let _ = writeln!(std::io::stderr(), "NOT TESTED against OpenSSH: install openssh-sftp-server");
        return None;
    };
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let remote = SftpRemote::connect(Reading(stdout), Writing(stdin), &Config::default()).await.unwrap();
    // In memory where there is such a place: a hundred thousand files take their time on a disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    Some(Peer { remote, child, dir })
}

macro_rules! peer {
    () => {
        match peer().await {
            Some(peer) => peer,
            None => return,
        }
    };
}

impl Peer {
    fn local(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, name: &str) -> VPath {
        VPath::absolute(self.local(name).to_str().unwrap()).unwrap()
    }

    fn put(&self, name: &str, content: &[u8]) -> VPath {
        std::fs::write(self.local(name), content).unwrap();
        self.at(name)
    }

    /// Files that the server has open below the directory of this test.
    fn open_files(&self) -> usize {
        let fds = format!("/proc/{}/fd", self.child.id().unwrap());
        std::fs::read_dir(fds)
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .filter(|target| target.starts_with(self.dir.path()))
            .count()
    }

    async fn all_closed(&self) {
        for _ in 0..500 {
            if self.open_files() == 0 && self.remote.client().outstanding() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "{} files stay open, {} requests unanswered",
            self.open_files(),
            self.remote.client().outstanding()
        );
    }
}

/// Bytes that differ everywhere.
fn content(len: usize) -> Bytes {
    let mut x = 0x2545_F491u32;
    let mut out = Vec::with_capacity(len + 4);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}

async fn read_all(file: &dyn File) -> Bytes {
    let mut out = BytesMut::new();
    loop {
        let had = out.len();
        out = file.read_into(had as u64, 1 << 20, out).await.unwrap();
        if out.len() == had {
            return out.freeze();
        }
    }
}

async fn entries(remote: &SftpRemote, dir: &VPath) -> Vec<Bytes> {
    let mut listing = remote.list(dir, &ListOptions::default()).await.unwrap();
    let mut names = Vec::new();
    while let Some(page) = listing.next_page().await.unwrap() {
        names.extend(page.into_iter().map(|e| e.name));
    }
    names.sort();
    names
}

#[tokio::test]
async fn learns_what_openssh_offers() {
    let peer = peer!();
    let n = peer.remote.negotiated();
    assert_eq!((n.read_len, n.write_len), (255 * 1024, 255 * 1024));
    assert!(n.ordered && n.max_handles.is_some());
    let c = peer.remote.capabilities();
    assert!(c.rename_replaces && c.hard_links && c.space && c.follows_links && !c.atomic_commit);
    assert!(!c.checksums, "OpenSSH computes no digests");
    let here = std::env::current_dir().unwrap();
    assert_eq!(peer.remote.home().as_bytes(), here.to_str().unwrap().as_bytes());
}

#[tokio::test]
async fn a_file_goes_up_and_comes_down_again() {
    let peer = peer!();
    let path = peer.at("file");
    let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for len in [0, 1, 4096, 300_000] {
        let data = content(len);
        let file = peer.remote.open(&path, &OpenOptions::create()).await.unwrap();
        file.write_at(0, data.clone()).await.unwrap();
        let attributes = Attributes { mode: Some(0o640), ..Attributes::times(Some(time), Some(time)) };
        let options = CommitOptions { expected_size: Some(len as u64), attributes };
        let m = file.commit(&options).await.unwrap();
        assert_eq!((m.size, m.mode, m.modified), (len as u64, Some(0o640), Some(time)));
        assert_eq!(file.commit(&options).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(file.write_at(0, data.clone()).await.unwrap_err().kind(), ErrorKind::Closed);
        let local = std::fs::metadata(peer.local("file")).unwrap();
        assert_eq!((local.len(), local.mtime()), (len as u64, 1_600_000_000));
        for hint in [None, Some(len as u64), Some(len as u64 + 7), Some(1)] {
            let options = OpenOptions { size_hint: hint, ..OpenOptions::read() };
            let file = peer.remote.open(&path, &options).await.unwrap();
            assert!(read_all(&*file).await == data, "{len} bytes, hint {hint:?}");
        }
    }
    peer.all_closed().await;
}

#[tokio::test]
async fn a_growing_file_is_read_on() {
    let peer = peer!();
    let path = peer.put("log", b"one");
    let file = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    assert_eq!(read_all(&*file).await, "one"[..]);
    std::fs::OpenOptions::new().append(true).open(peer.local("log")).unwrap().write_all(b"two").unwrap();
    assert_eq!(file.read_into(3, 100, BytesMut::new()).await.unwrap(), "two"[..]);
}

#[tokio::test]
async fn reads_of_any_place_and_length_append_and_do_not_wait_for_each_other() {
    let peer = peer!();
    let data = content(3_000_000);
    let path = peer.put("big", &data);
    let file = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    let reads =
        [(0usize, 1usize), (7, 261_120), (1, 261_121), (2_999_999, 5), (100, 2_000_000), (0, 9_000_000)];
    let all = reads.map(|(at, len)| {
        let file = Arc::clone(&file);
        tokio::spawn(async move {
            let mut buf = BytesMut::from(&b"before"[..]);
            let end = (at + len).min(3_000_000);
            while buf.len() - 6 < end - at {
                let had = buf.len();
                buf = file.read_into((at + had - 6) as u64, end - at - (had - 6), buf).await.unwrap();
                assert!(buf.len() > had);
            }
            (at, end, buf)
        })
    });
    for read in all {
        let (at, end, buf) = read.await.unwrap();
        assert_eq!(&buf[..6], b"before");
        assert!(buf[6..] == data[at..end], "{at}..{end}");
    }
    assert!(file.read_into(3_000_000, 10, BytesMut::new()).await.unwrap().is_empty());
    assert!(file.read_into(u64::MAX - 3, 10, BytesMut::new()).await.is_ok_and(|b| b.is_empty()));
}

#[tokio::test]
async fn more_in_flight_than_any_window_up_and_down_at_once() {
    let peer = peer!();
    let data = content(48 << 20);
    let down = peer.put("down", &data);
    let up = peer.at("up");
    let transfer = async {
        let reading = async {
            let file = peer.remote.open(&down, &OpenOptions::read()).await.unwrap();
            let mut got = download(file, 0..u64::MAX, &Window::fixed(32 << 20));
            let mut at = 0;
            while let Some(bytes) = got.next().await.unwrap() {
                assert!(bytes == data[at..at + bytes.len()], "at {at}");
                at += bytes.len();
            }
            assert_eq!(at, data.len());
        };
        let writing = async {
            let file = peer.remote.open(&up, &OpenOptions::create()).await.unwrap();
            // One call for all of it, and 8 MiB pieces beside it through the stream helper.
            file.write_at(0, data.slice(..40 << 20)).await.unwrap();
            let rest = futures_util::stream::iter(
                data.slice(40 << 20..)
                    .chunks(5000)
                    .map(|c| Ok(Bytes::copy_from_slice(c)))
                    .collect::<Vec<_>>(),
            );
            let n = upload(&*file, 40 << 20, rest, 200_000).await.unwrap();
            assert_eq!(n, 8 << 20);
            let size = Some(data.len() as u64);
            file.commit(&CommitOptions { expected_size: size, ..Default::default() }).await.unwrap();
        };
        tokio::join!(reading, writing)
    };
    tokio::time::timeout(Duration::from_secs(60), transfer).await.expect("no progress");
    assert!(std::fs::read(peer.local("up")).unwrap() == data);
    drop(down);
    peer.all_closed().await;
}

#[tokio::test]
async fn a_slow_reader_holds_only_its_window() {
    let peer = peer!();
    let data = content(20 << 20);
    let path = peer.put("big", &data);
    let file = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    let mut got = download(file, 0..u64::MAX, &Window::fixed(1 << 20));
    let mut at = 0;
    for step in 0.. {
        let Some(bytes) = got.next().await.unwrap() else { break };
        assert!(bytes == data[at..at + bytes.len()]);
        at += bytes.len();
        if step < 5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            // A stalled consumer has no more than its window asked for, and others are served meanwhile.
            assert!(peer.remote.client().outstanding() <= 6);
            peer.remote.stat(&path, Follow::Yes).await.unwrap();
        }
    }
    assert_eq!(at, data.len());
}

#[tokio::test]
async fn what_is_given_up_leaves_the_connection_usable_and_no_handle_open() {
    let peer = peer!();
    let data = content(32 << 20);
    let path = peer.put("big", &data);
    let file = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    for micros in [0, 100, 1000, 5000] {
        let read = file.read_into(0, 32 << 20, BytesMut::new());
        let _ = tokio::time::timeout(Duration::from_micros(micros), read).await;
        let writing = async {
            let file = peer.remote.open(&peer.at("up"), &OpenOptions::create()).await.unwrap();
            file.write_at(0, data.clone()).await.unwrap();
            file.commit(&CommitOptions::default()).await.unwrap();
        };
        let _ = tokio::time::timeout(Duration::from_micros(micros), writing).await;
        let listing = async {
            let mut l = peer.remote.list(&peer.at(""), &ListOptions::default()).await.unwrap();
            while l.next_page().await.unwrap().is_some() {}
        };
        let _ = tokio::time::timeout(Duration::from_micros(micros), listing).await;
    }
    // Opens given up at each of their polls.
    for polls in 0..6 {
        let options = OpenOptions::read();
        let mut open = peer.remote.open(&path, &options);
        for _ in 0..polls {
            let once = futures_util::future::poll_immediate(&mut open).await;
            if once.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(file.read_into(5, 7, BytesMut::new()).await.unwrap(), data[5..12]);
    drop(file);
    peer.all_closed().await;
    assert_eq!(peer.remote.stat(&path, Follow::Yes).await.unwrap().size, data.len() as u64);
}

#[tokio::test]
async fn a_huge_directory_comes_in_pages_with_bounded_requests() {
    let peer = peer!();
    std::fs::create_dir(peer.local("many")).unwrap();
    for i in 0..100_000 {
        std::fs::File::create(peer.local(&format!("many/file-{i:06}"))).unwrap();
    }
    let mut listing = peer.remote.list(&peer.at("many"), &ListOptions::default()).await.unwrap();
    let mut seen = vec![false; 100_000];
    let (mut pages, mut most) = (0, 0);
    while let Some(page) = listing.next_page().await.unwrap() {
        assert!(page.len() <= 1000);
        for e in page {
            let i: usize = std::str::from_utf8(&e.name[5..]).unwrap().parse().unwrap();
            assert!(!std::mem::replace(&mut seen[i], true), "{i} twice");
            assert_eq!(e.metadata.file_type, FileType::File);
        }
        pages += 1;
        most = most.max(peer.remote.client().outstanding());
    }
    assert!(seen.iter().all(|s| *s));
    assert!(pages > 100 && most > 3 && most <= 64, "{pages} pages, {most} requests");
    drop(listing);
    peer.all_closed().await;
}

#[tokio::test]
async fn names_are_bytes() {
    let peer = peer!();
    let dir = peer.at("");
    let names: [&[u8]; 7] = [b" ", b"\xff\xfe", b"-rf", b"a\nb", "ü\u{301}".as_bytes(), b"*", &[b'x'; 255]];
    for name in names {
        let path = dir.join(name).unwrap();
        let file = peer.remote.open(&path, &OpenOptions::create()).await.unwrap();
        file.write_at(0, Bytes::copy_from_slice(name)).await.unwrap();
        file.commit(&CommitOptions::default()).await.unwrap();
        let file = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
        assert_eq!(read_all(&*file).await, name);
    }
    let mut want: Vec<_> = names.map(Bytes::copy_from_slice).to_vec();
    want.sort();
    assert_eq!(entries(&peer.remote, &dir).await, want);
    let long = dir.join([b'x'; 256]).unwrap();
    assert_eq!(peer.remote.stat(&long, Follow::No).await.unwrap_err().kind(), ErrorKind::InvalidPath);
}

#[tokio::test]
async fn errors_have_the_kind_that_the_model_names() {
    use ErrorKind::*;
    let peer = peer!();
    let (r, at) = (&peer.remote, |n: &str| peer.at(n));
    peer.put("file", b"x");
    std::fs::create_dir_all(peer.local("dir/inner")).unwrap();
    std::fs::create_dir(peer.local("empty")).unwrap();
    symlink("file", peer.local("link")).unwrap();
    symlink("nowhere", peer.local("dangling")).unwrap();
    let kind = |e: session_core::error::Error| {
        assert!(e.wire().is_some(), "the server's own words are kept: {e:?}");
        e.kind()
    };
    macro_rules! fails {
        ($kind:ident, $call:expr) => {
            match $call.await {
                Ok(_) => panic!("{} works", stringify!($call)),
                Err(e) => assert_eq!(kind(e), $kind, "{}", stringify!($call)),
            }
        };
    }
    let none = Attributes::none();
    let (read, create) = (OpenOptions::read(), OpenOptions::create());
    let new = OpenOptions { exclusive: true, ..OpenOptions::create() };
    fails!(NotFound, r.stat(&at("gone"), Follow::Yes));
    fails!(NotFound, r.stat(&at("gone/deeper"), Follow::Yes));
    fails!(NotFound, r.stat(&at("dangling"), Follow::Yes));
    fails!(NotADirectory, r.stat(&at("file/x"), Follow::Yes));
    fails!(NotADirectory, r.stat(&at("file/x/y"), Follow::No));
    fails!(NotFound, r.list(&at("gone"), &ListOptions::default()));
    fails!(NotADirectory, r.list(&at("file"), &ListOptions::default()));
    fails!(NotFound, r.open(&at("gone"), &read));
    fails!(NotFound, r.open(&at("gone/x"), &create));
    fails!(NotADirectory, r.open(&at("file/x"), &create));
    fails!(IsADirectory, r.open(&at("dir"), &create));
    fails!(AlreadyExists, r.open(&at("file"), &new));
    fails!(AlreadyExists, r.open(&at("dangling"), &new));
    fails!(AlreadyExists, r.create_dir(&at("file"), &none));
    fails!(AlreadyExists, r.create_dir(&at("dir"), &none));
    fails!(AlreadyExists, r.create_dir(&VPath::root(), &none));
    fails!(NotFound, r.create_dir(&at("gone/x"), &none));
    fails!(NotADirectory, r.create_dir(&at("file/x"), &none));
    fails!(IsADirectory, r.remove_file(&at("dir")));
    fails!(NotFound, r.remove_file(&at("gone")));
    fails!(NotADirectory, r.remove_dir(&at("file")));
    fails!(NotADirectory, r.remove_dir(&at("link")));
    fails!(NotEmpty, r.remove_dir(&at("dir")));
    fails!(NotFound, r.remove_dir(&at("gone")));
    fails!(NotFound, r.rename(&at("gone"), &at("new"), Replace::Yes));
    fails!(NotFound, r.rename(&at("file"), &at("gone/new"), Replace::Yes));
    fails!(AlreadyExists, r.rename(&at("file"), &at("link"), Replace::No));
    fails!(AlreadyExists, r.rename(&at("dir"), &at("empty"), Replace::No));
    fails!(IsADirectory, r.rename(&at("file"), &at("empty"), Replace::Yes));
    fails!(NotADirectory, r.rename(&at("dir"), &at("file"), Replace::Yes));
    fails!(NotEmpty, r.rename(&at("empty"), &at("dir"), Replace::Yes));
    fails!(InvalidArgument, r.rename(&at("dir"), &at("dir/inner/x"), Replace::Yes));
    fails!(InvalidArgument, r.read_link(&at("file")));
    fails!(NotFound, r.read_link(&at("gone")));
    fails!(AlreadyExists, r.symlink(b"x", &at("file")));
    fails!(AlreadyExists, r.hard_link(&at("file"), &at("link")));
    fails!(NotFound, r.hard_link(&at("gone"), &at("new")));
    fails!(NotFound, r.set_attributes(&at("gone"), &Attributes::mode(0o600), Follow::Yes));
    fails!(NotFound, r.copy(&at("gone"), &at("new"), Replace::Yes));
    fails!(AlreadyExists, r.copy(&at("file"), &at("link"), Replace::No));
    assert_eq!(r.open(&at("dir"), &read).await.err().map(|e| e.kind()), Some(IsADirectory));
    assert_eq!(r.copy(&at("file"), &at("file"), Replace::Yes).await.unwrap_err().kind(), InvalidArgument);
    // What was seen to be a directory is not believed to be one once it may be gone.
    fails!(NotFound, r.stat(&at("empty/x"), Follow::Yes));
    r.rename(&at("empty"), &at("aside"), Replace::No).await.unwrap();
    peer.put("empty", b"a file");
    fails!(NotADirectory, r.stat(&at("empty/x"), Follow::Yes));
    std::fs::remove_file(peer.local("empty")).unwrap();
    r.rename(&at("aside"), &at("empty"), Replace::Yes).await.unwrap();
    // Nothing of that changed anything.
    let names: Vec<_> =
        entries(r, &at("")).await.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
    assert_eq!(names, ["dangling", "dir", "empty", "file", "link"]);
    assert_eq!(std::fs::read(peer.local("file")).unwrap(), b"x");
    peer.all_closed().await;
}

#[tokio::test]
async fn names_attributes_and_links_do_what_they_say() {
    let peer = peer!();
    let (r, at) = (&peer.remote, |n: &str| peer.at(n));
    peer.put("a", b"aaa");
    peer.put("b", b"b");
    r.rename(&at("a"), &at("b"), Replace::Yes).await.unwrap();
    assert_eq!(std::fs::read(peer.local("b")).unwrap(), b"aaa");
    r.rename(&at("b"), &at("c"), Replace::No).await.unwrap();
    r.symlink(b"c", &at("l")).await.unwrap();
    assert_eq!(std::fs::read_link(peer.local("l")).unwrap(), Path::new("c"));
    assert_eq!(r.read_link(&at("l")).await.unwrap(), "c"[..]);
    assert!(r.stat(&at("l"), Follow::No).await.unwrap().is_symlink());
    assert_eq!(r.stat(&at("l"), Follow::Yes).await.unwrap().size, 3);
    assert_eq!(r.canonicalize(&at("l")).await.unwrap(), r.canonicalize(&at("c")).await.unwrap());
    r.hard_link(&at("c"), &at("h")).await.unwrap();
    assert_eq!(std::fs::metadata(peer.local("h")).unwrap().nlink(), 2);
    // A copy onto another name of the same file destroys nothing.
    r.copy(&at("c"), &at("h"), Replace::Yes).await.unwrap();
    assert_eq!(std::fs::read(peer.local("c")).unwrap(), b"aaa");
    peer.put("longer", b"something longer");
    r.copy(&at("c"), &at("longer"), Replace::Yes).await.unwrap();
    assert_eq!(std::fs::read(peer.local("longer")).unwrap(), b"aaa");
    r.copy(&at("c"), &at("fresh"), Replace::No).await.unwrap();
    assert_eq!(std::fs::read(peer.local("fresh")).unwrap(), b"aaa");

    let time = |s| Some(UNIX_EPOCH + Duration::from_secs(s));
    r.set_attributes(&at("c"), &Attributes::times(time(1000), time(2000)), Follow::Yes).await.unwrap();
    r.set_attributes(&at("c"), &Attributes::times(None, time(3000)), Follow::Yes).await.unwrap();
    let m = std::fs::metadata(peer.local("c")).unwrap();
    assert_eq!((m.atime(), m.mtime()), (1000, 3000), "one time alone keeps the other");
    r.set_attributes(&at("l"), &Attributes::times(time(5), time(6)), Follow::No).await.unwrap();
    assert_eq!(std::fs::symlink_metadata(peer.local("l")).unwrap().mtime(), 6);
    assert_eq!(std::fs::metadata(peer.local("c")).unwrap().mtime(), 3000);
    r.set_attributes(&at("c"), &Attributes::size(1), Follow::No).await.unwrap();
    r.set_attributes(&at("c"), &Attributes::mode(0o600), Follow::Yes).await.unwrap();
    let m = std::fs::metadata(peer.local("c")).unwrap();
    assert_eq!((m.len(), m.permissions().mode() & 0o7777), (1, 0o600));
    r.create_dir(&at("d"), &Attributes::mode(0o777)).await.unwrap();
    assert_eq!(std::fs::metadata(peer.local("d")).unwrap().permissions().mode() & 0o7777, 0o777);
    r.remove_dir(&at("d")).await.unwrap();
    r.remove_file(&at("l")).await.unwrap();
    assert!(peer.local("c").exists());
    let space = r.space(&at("c")).await.unwrap();
    assert!(space.total >= space.available && space.total > 0 && space.max_name == 255);
    let (users, _) = match r.owner_names(vec![0, 4_000_000_000], vec![]).await {
        Ok(names) => names,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Unsupported, "an OpenSSH before 9.0");
            return;
        }
    };
    assert_eq!(users, ["root", ""]);
}

#[tokio::test]
async fn the_endings_of_a_written_file() {
    let peer = peer!();
    let path = peer.at("file");
    let write = async |options: &OpenOptions| {
        let file = peer.remote.open(&path, options).await.unwrap();
        file.write_at(0, Bytes::from_static(b"1234")).await.unwrap();
        file
    };
    // Another size than expected: an error, and abort still throws it away.
    let file = write(&OpenOptions::create()).await;
    let options = CommitOptions { expected_size: Some(5), ..Default::default() };
    assert_eq!(file.commit(&options).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(file.commit(&options).await.unwrap_err().kind(), ErrorKind::Closed);
    file.abort().await.unwrap();
    assert_eq!(file.abort().await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!peer.local("file").exists());
    // A drop and a park keep what arrived.
    let file = write(&OpenOptions::create()).await;
    file.park().await.unwrap();
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(std::fs::read(peer.local("file")).unwrap(), b"1234");
    drop(write(&OpenOptions { append: true, ..OpenOptions::update() }).await);
    peer.all_closed().await;
    assert_eq!(std::fs::read(peer.local("file")).unwrap(), b"12341234");
    // A change in place is aborted by letting go: what was there before is not ours to remove.
    let file = write(&OpenOptions::update()).await;
    assert_eq!(file.read_into(2, 10, BytesMut::new()).await.unwrap(), "341234"[..]);
    assert_eq!(file.metadata().await.unwrap().size, 8);
    file.set_attributes(&Attributes::size(6)).await.unwrap();
    file.sync().await.unwrap();
    file.abort().await.unwrap();
    assert_eq!(std::fs::read(peer.local("file")).unwrap(), b"123412");
    peer.all_closed().await;
}

#[tokio::test]
async fn a_file_does_only_what_it_was_opened_for() {
    let peer = peer!();
    let path = peer.put("file", b"12345");
    let data = || Bytes::from_static(b"x");
    let reads = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    assert_eq!(reads.write_at(0, data()).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let e = reads.set_attributes(&Attributes::size(0)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied);
    reads.abort().await.unwrap();
    reads.park().await.unwrap();
    assert_eq!(reads.commit(&CommitOptions::default()).await.unwrap().size, 5);
    drop(reads);
    let writes = OpenOptions { write: true, ..OpenOptions::default() };
    let writes = peer.remote.open(&path, &writes).await.unwrap();
    let e = writes.read_into(0, 9, BytesMut::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied);
    assert_eq!(writes.write_at(u64::MAX, data()).await.unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(writes.write_at(1 << 63, data()).await.unwrap_err().kind(), ErrorKind::OutOfRange);
    writes.write_at(7 << 30, data()).await.unwrap();
    assert_eq!(writes.commit(&CommitOptions::default()).await.unwrap().size, (7 << 30) + 1);
    assert_eq!(std::fs::metadata(peer.local("file")).unwrap().len(), (7 << 30) + 1);
    let reads = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    let end = reads.read_into((7 << 30) - 2, 100, BytesMut::new()).await.unwrap();
    assert_eq!(end, b"\0\0x"[..]);
    drop((reads, writes));
    peer.all_closed().await;
}

#[tokio::test]
async fn an_error_behind_a_write_shows_at_the_commit_at_the_latest() {
    let peer = peer!();
    // Nobody can write here, not even root.
    let Ok(file) = peer.remote.open(&VPath::absolute("/dev/full").unwrap(), &OpenOptions::update()).await
    else {
        return;
    };
    for at in 0..3 {
        let _ = file.write_at(at, Bytes::from_static(b"x")).await;
    }
    let e = file.commit(&CommitOptions::default()).await.unwrap_err();
    assert_eq!(e.wire().map(|w| w.code), Some(4), "{e}");
    assert_eq!(file.write_at(0, Bytes::from_static(b"x")).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_killed_server_fails_every_waiter() {
    let mut peer = peer!();
    let data = content(64 << 20);
    let path = peer.put("big", &data);
    let file = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    let waiters: Vec<_> = (0..8)
        .map(|i| {
            let (file, remote, at) = (Arc::clone(&file), peer.remote.clone(), peer.at(&format!("w{i}")));
            let data = data.clone();
            tokio::spawn(async move {
                loop {
                    file.read_into(0, 1 << 20, BytesMut::new()).await?;
                    let file = remote.open(&at, &OpenOptions::create()).await?;
                    file.write_at(0, data.clone()).await?;
                    file.commit(&CommitOptions::default()).await?;
                }
                #[allow(unreachable_code)]
                Ok::<(), session_core::error::Error>(())
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    peer.child.start_kill().unwrap();
    for waiter in waiters {
        let ended = tokio::time::timeout(Duration::from_secs(10), waiter).await.expect("it waits forever");
        assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    }
    assert_eq!(peer.remote.stat(&path, Follow::Yes).await.unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(peer.remote.client().ended().is_some());
    assert_eq!(peer.remote.client().outstanding(), 0);
}

#[tokio::test]
async fn the_last_clone_ends_the_server() {
    let mut peer = peer!();
    let path = peer.put("file", b"x");
    let file = peer.remote.open(&path, &OpenOptions::read()).await.unwrap();
    drop(peer.remote);
    assert_eq!(read_all(&*file).await, "x"[..]);
    drop(file);
    let status = tokio::time::timeout(Duration::from_secs(10), peer.child.wait()).await.expect("it stays");
    assert!(status.unwrap().success());
}
