//! What is special about the disk; what every store promises is the conformance suite's.
//!
//! Each case runs with `openat2` and with the walk that replaces it.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use rustix::fs::{Dev, FileType as Kind, XattrFlags};
use tempfile::TempDir;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::lease::Leases;
use crate::metadata::FileType;

fn p(path: impl AsRef<[u8]>) -> VPath {
    VPath::absolute(path).unwrap()
}

/// A store on a fresh directory, by `openat2` and by walking.
fn stores() -> impl Iterator<Item = (LocalStore, TempDir)> {
    [false, true].into_iter().map(|walks| {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
        if walks {
            store.0.root.walk_only();
        }
        (store, dir)
    })
}

async fn read(store: &LocalStore, path: &str) -> Result<Vec<u8>> {
    let file = store.open(&p(path), &OpenOptions::read()).await?;
    let mut buf = BytesMut::new();
    loop {
        let before = buf.len();
        buf = file.read_into(before as u64, 64 << 10, buf).await?;
        if buf.len() == before {
            return Ok(buf.to_vec());
        }
    }
}

async fn write(store: &LocalStore, path: &str, content: &'static [u8]) -> Result<Metadata> {
    let file = store.open(&p(path), &OpenOptions::create()).await?;
    file.write_at(0, Bytes::from_static(content)).await?;
    file.commit(&CommitOptions::default()).await
}

async fn staged_file(store: &LocalStore, near: &str, content: &'static [u8]) -> StageId {
    let stage = Stage::New { near: p(near), note: Bytes::from_static(b"a note") };
    let (id, file) = store.stage(&stage).await.unwrap();
    file.write_at(0, Bytes::from_static(content)).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    id
}

async fn names(store: &LocalStore, dir: &str) -> Vec<Vec<u8>> {
    let mut listing = store.list(&p(dir), &ListOptions::default()).await.unwrap();
    let mut out = Vec::new();
    while let Some(page) = listing.next_page().await.unwrap() {
        assert!(!page.is_empty() && page.len() < 1024);
        out.extend(page.into_iter().map(|e| e.name.to_vec()));
    }
    assert_eq!(listing.next_page().await.unwrap(), None);
    out.sort();
    out
}

#[track_caller]
fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(e) => e.kind(),
    }
}

#[track_caller]
fn link_of<T>(result: Result<T>) -> (VPath, Vec<u8>) {
    let error: Error = result.err().expect("an error was expected");
    let link = error.as_link().unwrap_or_else(|| panic!("a link was expected, not {error:?}"));
    (link.at.clone(), link.target.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_reads_on_a_multi_thread_runtime() {
    writes_and_reads().await;
}

#[tokio::test]
async fn writes_and_reads_on_a_current_thread_runtime() {
    writes_and_reads().await;
}

async fn writes_and_reads() {
    for (store, _dir) in stores() {
        store.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        let metadata = write(&store, "/d/f", b"hello").await.unwrap();
        assert_eq!((metadata.file_type, metadata.size), (FileType::File, 5));
        assert!(metadata.etag.is_some() && metadata.modified.is_some());
        assert_eq!(read(&store, "/d/f").await.unwrap(), b"hello");
        let stat = store.stat(&p("/d/f"), Follow::Yes).await.unwrap();
        assert_eq!(stat.etag, metadata.etag);
        // Appended behind what the buffer holds.
        let file = store.open(&p("/d/f"), &OpenOptions::read()).await.unwrap();
        let buf = file.read_into(1, 3, BytesMut::from(&b"> "[..])).await.unwrap();
        assert_eq!(&buf[..], b"> ell");
        assert!(file.read_into(5, 3, BytesMut::new()).await.unwrap().is_empty());
        assert!(file.read_into(u64::MAX, 3, BytesMut::new()).await.unwrap().is_empty());
        assert_eq!(kind(store.open(&p("/d"), &OpenOptions::read()).await), ErrorKind::IsADirectory);
        assert_eq!(kind(store.open(&p("/"), &OpenOptions::create()).await), ErrorKind::IsADirectory);
        assert_eq!(kind(store.stat(&p("/d/f/x"), Follow::No).await), ErrorKind::NotADirectory);
        assert_eq!(kind(store.stat(&p("/d/x"), Follow::No).await), ErrorKind::NotFound);
        assert_eq!(kind(store.list(&p("/d/f"), &ListOptions::default()).await), ErrorKind::NotADirectory);
        let long = [b"/".to_vec(), vec![b'x'; 300]].concat();
        assert_eq!(kind(store.stat(&p(long), Follow::No).await), ErrorKind::InvalidPath);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_answered_and_never_followed() {
    for (store, dir) in stores() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let target = outside.path().as_os_str().as_bytes();
        symlink(outside.path(), dir.path().join("d/out")).unwrap();
        symlink("../d/out", dir.path().join("d/rel")).unwrap();
        symlink("/proc/self/root", dir.path().join("magic")).unwrap();
        let out = (p("/d/out"), target.to_vec());
        for follow in [Follow::Yes, Follow::No] {
            assert_eq!(link_of(store.stat(&p("/d/out/secret"), follow).await), out);
        }
        assert_eq!(link_of(store.stat(&p("/d/out"), Follow::Yes).await), out);
        assert!(store.stat(&p("/d/out"), Follow::No).await.unwrap().is_symlink());
        assert_eq!(link_of(store.list(&p("/d/out"), &ListOptions::default()).await), out);
        assert_eq!(link_of(store.open(&p("/d/out/secret"), &OpenOptions::read()).await), out);
        assert_eq!(link_of(store.open(&p("/d/out/new"), &OpenOptions::create()).await), out);
        assert_eq!(link_of(store.open(&p("/d/out"), &OpenOptions::create()).await), out);
        let exclusive = OpenOptions { exclusive: true, ..OpenOptions::create() };
        assert_eq!(kind(store.open(&p("/d/out"), &exclusive).await), ErrorKind::AlreadyExists);
        assert_eq!(link_of(store.create_dir(&p("/d/out/x"), &Attributes::none()).await), out);
        assert_eq!(link_of(store.remove_file(&p("/d/out/secret")).await), out);
        assert_eq!(link_of(store.rename(&p("/d/out/secret"), &p("/s"), Replace::Yes).await), out);
        assert_eq!(link_of(store.copy(&p("/d/out/secret"), &p("/s"), Replace::Yes).await), out);
        assert_eq!(link_of(store.space(&p("/d/out")).await), out);
        let mode = Attributes::mode(0o600);
        assert_eq!(link_of(store.set_attributes(&p("/d/out"), &mode, Follow::Yes).await), out);
        assert_eq!(
            kind(store.set_attributes(&p("/d/out"), &mode, Follow::No).await),
            ErrorKind::InvalidArgument
        );
        let stage = Stage::New { near: p("/d/out/x"), note: Bytes::new() };
        assert_eq!(link_of(store.stage(&stage).await), out);
        assert_eq!(link_of(store.stat(&p("/d/rel/secret"), Follow::No).await).0, p("/d/rel"));
        assert_eq!(link_of(store.open(&p("/magic/etc/passwd"), &OpenOptions::read()).await).0, p("/magic"));
        assert_eq!(store.read_link(&p("/d/out")).await.unwrap(), target);
        assert_eq!(kind(store.read_link(&p("/d")).await), ErrorKind::InvalidArgument);
        assert_eq!(
            read(&store, "/../../d/../../etc/hostname").await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        // Removing and renaming act on the link itself.
        store.rename(&p("/d/rel"), &p("/rel"), Replace::No).await.unwrap();
        store.remove_file(&p("/rel")).await.unwrap();
        assert!(outside.path().join("secret").exists());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_swapped_in_during_opens_never_leads_outside() {
    for (store, dir) in stores() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "outside").unwrap();
        let root = dir.path().to_owned();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("d/f"), "inside").unwrap();
        symlink(outside.path(), root.join("evil")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swapper = std::thread::spawn({
            let (stop, root) = (Arc::clone(&stop), root.clone());
            move || {
                let (a, b) = (root.join("d"), root.join("evil"));
                let cwd = rustix::fs::CWD;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let exchange = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(cwd, &a, cwd, &b, exchange).unwrap();
                }
            }
        });
        let (mut inside, mut links) = (0, 0);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(700) {
            match read(&store, "/d/f").await {
                Ok(content) => {
                    assert_eq!(content, b"inside");
                    inside += 1;
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::LinkLoop, "{e:?}");
                    links += 1;
                }
            }
            let _ = write(&store, "/d/w", b"w").await;
            let _ = store.create_dir(&p("/d/dir"), &Attributes::none()).await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        swapper.join().unwrap();
        assert!(inside > 0 && links > 0, "both states were met: {inside}, {links}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was made outside");
    }
}

#[tokio::test]
async fn names_are_bytes() {
    for (store, dir) in stores() {
        let name = b"a\xff\xfe\n b";
        let path = VPath::root().join(name).unwrap();
        let file = store.open(&path, &OpenOptions::create()).await.unwrap();
        file.commit(&CommitOptions::default()).await.unwrap();
        assert_eq!(names(&store, "/").await, [name.to_vec()]);
        let on_disk = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().file_name();
        assert_eq!(on_disk.as_bytes(), name);
        store.remove_file(&path).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_beyond_four_gib_work() {
    let (store, _dir) = stores().next().unwrap();
    let file = store.open(&p("/big"), &OpenOptions { read: true, ..OpenOptions::create() }).await.unwrap();
    let at = (5 << 30) + 3;
    file.write_at(at, Bytes::from_static(b"far")).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().size, at + 3);
    assert_eq!(&file.read_into(at - 2, 99, BytesMut::new()).await.unwrap()[..], b"\0\0far");
    assert_eq!(kind(file.write_at(u64::MAX, Bytes::from_static(b"x")).await), ErrorKind::OutOfRange);
    file.abort().await.unwrap();
    assert_eq!(kind(store.stat(&p("/big"), Follow::No).await), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_and_devices_are_refused_at_once() {
    for (store, dir) in stores() {
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, Kind::Fifo, Mode::RWXU, Dev::default()).unwrap();
        assert!(std::fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        for options in [OpenOptions::read(), OpenOptions::create(), OpenOptions::update()] {
            let fifo = p("/fifo");
            let open = tokio::time::timeout(Duration::from_secs(5), store.open(&fifo, &options));
            assert_eq!(kind(open.await.expect("it does not hang")), ErrorKind::PermissionDenied);
        }
        assert_eq!(kind(store.copy(&p("/fifo"), &p("/x"), Replace::Yes).await), ErrorKind::PermissionDenied);
        assert_eq!(store.stat(&p("/fifo"), Follow::Yes).await.unwrap().file_type, FileType::Other);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_replace_only_where_they_may() {
    for (store, _dir) in stores() {
        write(&store, "/a", b"a").await.unwrap();
        write(&store, "/b", b"b").await.unwrap();
        store.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        store.create_dir(&p("/d/e"), &Attributes::none()).await.unwrap();
        let rename = async |from: &str, to: &str, replace| store.rename(&p(from), &p(to), replace).await;
        assert_eq!(kind(rename("/a", "/b", Replace::No).await), ErrorKind::AlreadyExists);
        assert_eq!(kind(rename("/a", "/d", Replace::No).await), ErrorKind::AlreadyExists);
        assert_eq!(kind(rename("/a", "/d", Replace::Yes).await), ErrorKind::IsADirectory);
        assert_eq!(kind(rename("/d", "/a", Replace::Yes).await), ErrorKind::NotADirectory);
        assert_eq!(kind(rename("/d", "/d/e/f", Replace::Yes).await), ErrorKind::InvalidArgument);
        assert_eq!(kind(rename("/x", "/x/y", Replace::Yes).await), ErrorKind::NotFound);
        assert_eq!(kind(rename("/", "/x", Replace::Yes).await), ErrorKind::InvalidArgument);
        rename("/a", "/b", Replace::Yes).await.unwrap();
        assert_eq!(read(&store, "/b").await.unwrap(), b"a");
        assert_eq!(kind(store.remove_file(&p("/d")).await), ErrorKind::IsADirectory);
        assert_eq!(kind(store.remove_dir(&p("/d")).await), ErrorKind::NotEmpty);
        assert_eq!(kind(store.remove_dir(&p("/b")).await), ErrorKind::NotADirectory);
        assert_eq!(kind(store.remove_dir(&p("/")).await), ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_rename_without_the_kernels_help_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("a"), "a").unwrap();
    std::fs::write(at("b"), "b").unwrap();
    std::fs::create_dir_all(at("d/e")).unwrap();
    let rename = |from: &str, to: &str| {
        entries::rename_without_help(fd.as_fd(), from.as_bytes(), fd.as_fd(), to.as_bytes())
    };
    assert_eq!(kind(rename("a", "b")), ErrorKind::AlreadyExists);
    assert_eq!(kind(rename("d", "b")), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(at("b")).unwrap(), b"b");
    rename("a", "c").unwrap();
    rename("d", "f").unwrap();
    assert!(!at("a").exists() && at("c").exists() && at("f/e").is_dir() && !at("d").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_is_one_step_and_keeps_what_it_replaces_had() {
    for (store, dir) in stores() {
        store.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        let id = staged_file(&store, "/d/f", b"new").await;
        assert_eq!(kind(store.stat(&p("/d/f"), Follow::No).await), ErrorKind::NotFound);
        let metadata = store.publish(&id, &p("/d/f"), Replace::No, true).await.unwrap();
        assert_eq!(metadata.size, 3);
        let on_disk = dir.path().join("d/f");
        let umask = {
            // What a plain new file gets.
            write(&store, "/plain", b"").await.unwrap();
            0o666 & !std::fs::metadata(dir.path().join("plain")).unwrap().mode()
        };
        assert_eq!(std::fs::metadata(&on_disk).unwrap().mode() & 0o777, 0o666 & !umask);
        std::fs::set_permissions(&on_disk, std::fs::Permissions::from_mode(0o640)).unwrap();
        let xattrs = store.capabilities().properties;
        if xattrs {
            rustix::fs::setxattr(&on_disk, "user.colour", b"red", XattrFlags::empty()).unwrap();
        }
        let second = staged_file(&store, "/d/f", b"newer").await;
        assert_eq!(
            kind(store.publish(&second, &p("/d/f"), Replace::No, true).await),
            ErrorKind::AlreadyExists
        );
        assert_eq!(kind(store.publish(&second, &p("/d"), Replace::Yes, true).await), ErrorKind::IsADirectory);
        assert_eq!(read(&store, "/d/f").await.unwrap(), b"new");
        store.publish(&second, &p("/d/f"), Replace::Yes, true).await.unwrap();
        assert_eq!(read(&store, "/d/f").await.unwrap(), b"newer");
        assert_eq!(std::fs::metadata(&on_disk).unwrap().mode() & 0o7777, 0o640);
        if xattrs {
            let mut value = [0; 8];
            assert_eq!(rustix::fs::getxattr(&on_disk, "user.colour", &mut value).unwrap(), 3);
        }
        let third = staged_file(&store, "/d/f", b"plain").await;
        store.publish(&third, &p("/d/f"), Replace::Yes, false).await.unwrap();
        assert_eq!(std::fs::metadata(&on_disk).unwrap().mode() & 0o777, 0o666 & !umask);
        assert_eq!(kind(store.publish(&third, &p("/d/g"), Replace::Yes, false).await), ErrorKind::NotFound);
        assert!(store.staged().await.unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join(resolve::STAGE)).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_files_survive_a_restart_and_are_seen_by_nobody() {
    for (store, dir) in stores() {
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let folder = staged_file(&store, "/f", b"one").await;
        // As on another mount: beside the target.
        store.0.area.name_all();
        std::fs::create_dir(dir.path().join("acl")).unwrap();
        let acl = [
            &2u32.to_le_bytes()[..],
            &[1, 0, 7, 0, 255, 255, 255, 255],
            &[4, 0, 5, 0, 255, 255, 255, 255],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        let name = "system.posix_acl_default";
        let can = rustix::fs::setxattr(dir.path().join("acl"), name, &acl, XattrFlags::empty()).is_ok();
        let mut ids = vec![folder.clone()];
        if can {
            let beside = staged_file(&store, "/acl/g", b"two").await;
            assert!(beside.0.contains('.'));
            ids.push(beside);
        }
        assert_eq!(names(&store, "/").await.len(), 2);
        assert!(names(&store, "/acl").await.is_empty());
        for hidden in ["/.ferry-stage", "/.ferry-stage/x", "/acl/.ferry-stage.0"] {
            assert_eq!(kind(store.stat(&p(hidden), Follow::No).await), ErrorKind::NotFound);
            assert_eq!(kind(store.open(&p(hidden), &OpenOptions::read()).await), ErrorKind::NotFound);
            assert_eq!(kind(store.remove_dir(&p(hidden)).await), ErrorKind::NotFound);
            assert_eq!(kind(store.open(&p(hidden), &OpenOptions::create()).await), ErrorKind::InvalidPath);
            assert_eq!(kind(store.rename(&p("/d"), &p(hidden), Replace::Yes).await), ErrorKind::InvalidPath);
            assert_eq!(kind(store.list(&p(hidden), &ListOptions::default()).await), ErrorKind::NotFound);
        }
        let meta = std::fs::metadata(dir.path().join(resolve::STAGE)).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o700);
        drop(store);
        let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
        let staged = store.staged().await.unwrap();
        assert_eq!(staged.iter().map(|s| s.id.clone()).collect::<Vec<_>>(), ids);
        assert!(staged.iter().all(|s| s.note == "a note" && s.size == 3 && s.modified.is_some()));
        let (again, file) = store.stage(&Stage::Reopen(folder.clone())).await.unwrap();
        assert_eq!(again, folder);
        assert_eq!(&file.read_into(0, 9, BytesMut::new()).await.unwrap()[..], b"one");
        file.write_at(3, Bytes::from_static(b"more")).await.unwrap();
        let wrong = CommitOptions { expected_size: Some(3), ..CommitOptions::default() };
        assert_eq!(kind(file.commit(&wrong).await), ErrorKind::Corrupt);
        store.publish(&folder, &p("/f"), Replace::No, false).await.unwrap();
        assert_eq!(read(&store, "/f").await.unwrap(), b"onemore");
        if can {
            let beside = &ids[1];
            store.publish(beside, &p("/acl/g"), Replace::No, true).await.unwrap();
            let on_disk = dir.path().join("acl/g");
            let mode = || std::fs::metadata(&on_disk).unwrap().mode() & 0o777;
            assert_eq!(mode(), 0o640, "the directory's access list was inherited");
            let list = "system.posix_acl_access";
            let named = [
                &2u32.to_le_bytes()[..],
                &[1, 0, 6, 0, 255, 255, 255, 255],
                &[2, 0, 6, 0, 7, 0, 0, 0],
                &[4, 0, 4, 0, 255, 255, 255, 255],
                &[16, 0, 6, 0, 255, 255, 255, 255],
                &[32, 0, 0, 0, 255, 255, 255, 255],
            ]
            .concat();
            rustix::fs::setxattr(&on_disk, list, &named, XattrFlags::empty()).unwrap();
            let again = staged_file(&store, "/acl/g", b"three").await;
            store.publish(&again, &p("/acl/g"), Replace::Yes, true).await.unwrap();
            let mut value = [0; 64];
            let n = rustix::fs::getxattr(&on_disk, list, &mut value).unwrap();
            assert_eq!((&value[..n], mode()), (&named[..], 0o660), "the old access list is kept");
        }
        assert!(store.staged().await.unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join(resolve::STAGE)).unwrap().count(), 0);
        let id = staged_file(&store, "/f", b"x").await;
        store.unstage(&id).await.unwrap();
        store.unstage(&id).await.unwrap();
        assert!(store.staged().await.unwrap().is_empty());
        for bad in ["", "x", "../../f", "00000000000000000000000000000000.!", "0.Lw"] {
            let id = StageId(bad.into());
            assert_eq!(kind(store.stage(&Stage::Reopen(id)).await), ErrorKind::NotFound);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staging_comes_back_when_its_folder_is_removed() {
    let (store, dir) = stores().next().unwrap();
    let id = staged_file(&store, "/f", b"x").await;
    store.publish(&id, &p("/f"), Replace::No, false).await.unwrap();
    std::fs::remove_dir(dir.path().join(resolve::STAGE)).unwrap();
    let id = staged_file(&store, "/f", b"y").await;
    store.publish(&id, &p("/f"), Replace::Yes, false).await.unwrap();
    assert_eq!(read(&store, "/f").await.unwrap(), b"y");
    // Something else stands there: beside the target.
    std::fs::remove_dir(dir.path().join(resolve::STAGE)).unwrap();
    std::fs::write(dir.path().join(resolve::STAGE), "").unwrap();
    let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    let id = staged_file(&store, "/f", b"z").await;
    assert_eq!(store.staged().await.unwrap().len(), 1);
    assert_eq!(names(&store, "/").await, [b"f".to_vec()]);
    store.publish(&id, &p("/f"), Replace::Yes, true).await.unwrap();
    assert_eq!(read(&store, "/f").await.unwrap(), b"z");
    assert!(store.staged().await.unwrap().is_empty());
}

/// A staged file gets what its directory hands down, wherever it gets its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_files_inherit_from_their_directory() {
    static LARGE: [u8; unnamed::WORTH as usize + 1] = [0; unnamed::WORTH as usize + 1];
    for (store, dir) in stores() {
        let on_disk = dir.path().join("d");
        std::fs::create_dir(&on_disk).unwrap();
        let acl = [
            &2u32.to_le_bytes()[..],
            &[1, 0, 7, 0, 255, 255, 255, 255],
            &[4, 0, 5, 0, 255, 255, 255, 255],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        let name = "system.posix_acl_default";
        if rustix::fs::setxattr(&on_disk, name, &acl, XattrFlags::empty()).is_err() {
            return;
        }
        let group = std::os::unix::fs::chown(&on_disk, None, Some(12_345)).is_ok();
        std::fs::set_permissions(&on_disk, std::fs::Permissions::from_mode(0o2755)).unwrap();
        let contents = [&b"small"[..], &LARGE];
        for (nth, content) in contents.into_iter().cycle().take(6).enumerate() {
            if nth == 4 {
                store.0.area.name_all();
            }
            let to = format!("/d/{nth}");
            let id = staged_file(&store, &to, content).await;
            store.publish(&id, &p(&to), Replace::No, true).await.unwrap();
            let meta = std::fs::metadata(on_disk.join(nth.to_string())).unwrap();
            assert_eq!((meta.mode() & 0o777, meta.len()), (0o640, content.len() as u64), "{nth}");
            assert!(!group || meta.gid() == 12_345, "{nth}: {}", meta.gid());
        }
        assert_eq!(in_the_folder(&dir), 0);
    }
}

/// What is in the staging folder: staged files, without their notes.
fn in_the_folder(dir: &TempDir) -> usize {
    let names = std::fs::read_dir(dir.path().join(resolve::STAGE)).unwrap();
    names.filter(|e| !e.as_ref().unwrap().file_name().to_string_lossy().contains('.')).count()
}

/// A staged file needs no name before somebody would look for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_files_get_a_name_when_it_matters() {
    let (store, dir) = stores().next().unwrap();
    // The first one tells whether the disk can do without.
    let first = staged_file(&store, "/first", b"x").await;
    store.unstage(&first).await.unwrap();
    if !store.0.area.can_be_unnamed() {
        return;
    }
    let stage = || Stage::New { near: p("/f"), note: Bytes::from_static(b"a note") };
    let staged = async || store.stage(&stage()).await.unwrap();
    let restarted = async || {
        let after = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
        let found = after.staged().await.unwrap();
        found.into_iter().map(|e| (e.id, e.note, e.size)).collect::<Vec<_>>()
    };
    let note = || Bytes::from_static(b"a note");

    let (id, file) = staged().await;
    file.write_at(0, Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(in_the_folder(&dir), 0);
    assert_eq!(store.staged().await.unwrap().len(), 1, "its own process knows it");
    file.commit(&CommitOptions::default()).await.unwrap();
    let published = store.publish(&id, &p("/f"), Replace::No, true).await.unwrap();
    assert_eq!((published.size, in_the_folder(&dir)), (3, 0));
    drop(file);
    assert_eq!((read(&store, "/f").await.unwrap(), in_the_folder(&dir)), (b"new".to_vec(), 0));
    assert_eq!(kind(store.publish(&id, &p("/g"), Replace::No, true).await), ErrorKind::NotFound);

    // Something stands there.
    let (id, file) = staged().await;
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(kind(store.publish(&id, &p("/f"), Replace::No, true).await), ErrorKind::AlreadyExists);
    assert_eq!(read(&store, "/f").await.unwrap(), b"new");
    store.publish(&id, &p("/f"), Replace::Yes, true).await.unwrap();
    assert_eq!((read(&store, "/f").await.unwrap(), in_the_folder(&dir)), (Vec::new(), 0));

    // Flushed, or large, or left.
    let (flushed, file) = staged().await;
    file.sync().await.unwrap();
    assert_eq!(restarted().await, [(flushed.clone(), note(), 0)]);
    store.unstage(&flushed).await.unwrap();
    drop(file);
    let (large, file) = staged().await;
    file.write_at(unnamed::WORTH - 1, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(restarted().await, [(large.clone(), note(), unnamed::WORTH)]);
    store.unstage(&large).await.unwrap();
    drop(file);
    let (left, file) = staged().await;
    file.write_at(0, Bytes::from_static(b"y")).await.unwrap();
    drop(file);
    assert_eq!(restarted().await, [(left.clone(), note(), 1)]);
    let (_, again) = store.stage(&Stage::Reopen(left.clone())).await.unwrap();
    again.write_at(1, Bytes::from_static(b"z")).await.unwrap();
    again.commit(&CommitOptions::default()).await.unwrap();
    store.publish(&left, &p("/yz"), Replace::No, true).await.unwrap();
    assert_eq!(read(&store, "/yz").await.unwrap(), b"yz");

    // Thrown away.
    let (gone, file) = staged().await;
    store.unstage(&gone).await.unwrap();
    drop(file);
    assert!(restarted().await.is_empty() && store.staged().await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join(resolve::STAGE)).unwrap().count(), 0);
}

/// A file that not even its owner may write can still be continued, also by somebody who is not root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_read_only_file_is_continued() {
    let (store, _dir) = stores().next().unwrap();
    let id = staged_file(&store, "/f", b"x").await;
    let (_, file) = store.stage(&Stage::Reopen(id.clone())).await.unwrap();
    file.set_attributes(&Attributes::mode(0o400)).await.unwrap();
    file.park().await.unwrap();
    let (_, file) = store.stage(&Stage::Reopen(id.clone())).await.unwrap();
    file.write_at(1, Bytes::from_static(b"y")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    let metadata = store.publish(&id, &p("/f"), Replace::No, true).await.unwrap();
    assert_eq!((metadata.size, metadata.mode), (2, Some(0o400)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_are_complete() {
    for (store, dir) in stores() {
        let mut wanted: Vec<Vec<u8>> = (0..5000).map(|n| format!("file-{n}").into_bytes()).collect();
        for name in &wanted {
            let name = std::str::from_utf8(name).unwrap();
            std::fs::File::create(dir.path().join(name)).unwrap();
        }
        wanted.sort();
        assert_eq!(names(&store, "/").await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_ends_once() {
    for (store, _dir) in stores() {
        write(&store, "/f", b"old").await.unwrap();
        let file = store.open(&p("/f"), &OpenOptions::update()).await.unwrap();
        let (a, b) =
            tokio::join!(async { file.commit(&CommitOptions::default()).await.map(|_| ()) }, async {
                file.abort().await
            });
        let kinds = [a.is_ok(), b.is_ok()];
        assert_eq!(kinds.iter().filter(|ok| **ok).count(), 1);
        assert_eq!(kind(file.park().await), ErrorKind::Closed);
        assert_eq!(kind(file.read_into(0, 1, BytesMut::new()).await), ErrorKind::Closed);
        assert_eq!(kind(file.write_at(0, Bytes::new()).await), ErrorKind::Closed);
        assert_eq!(kind(file.metadata().await), ErrorKind::Closed);
        assert_eq!(read(&store, "/f").await.unwrap(), b"old", "abort removes only what its handle made");

        let made = store.open(&p("/g"), &OpenOptions::create()).await.unwrap();
        store.rename(&p("/f"), &p("/g"), Replace::Yes).await.unwrap();
        made.abort().await.unwrap();
        assert_eq!(read(&store, "/g").await.unwrap(), b"old", "another file took the name");

        let parked = store.open(&p("/h"), &OpenOptions::create()).await.unwrap();
        parked.park().await.unwrap();
        assert_eq!(read(&store, "/h").await.unwrap(), b"");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_options_mean_what_they_say() {
    for (store, dir) in stores() {
        let update = OpenOptions::update();
        assert_eq!(kind(store.open(&p("/f"), &update).await), ErrorKind::NotFound);
        let with_mode = OpenOptions { attributes: Attributes::mode(0o666), ..OpenOptions::create() };
        let file = store.open(&p("/f"), &with_mode).await.unwrap();
        file.write_at(0, Bytes::from_static(b"0123456789")).await.unwrap();
        assert_eq!(kind(file.read_into(0, 1, BytesMut::new()).await), ErrorKind::PermissionDenied);
        file.commit(&CommitOptions::default()).await.unwrap();
        let mode = || std::fs::metadata(dir.path().join("f")).unwrap().mode() & 0o7777;
        assert_eq!(mode(), 0o666, "the umask does not cut what was asked for");
        let other_mode = OpenOptions { attributes: Attributes::mode(0o600), ..OpenOptions::update() };
        drop(store.open(&p("/f"), &OpenOptions { create: true, ..other_mode }).await.unwrap());
        assert_eq!(mode(), 0o666, "an old file keeps its mode");

        let append = OpenOptions { append: true, ..OpenOptions::update() };
        let file = store.open(&p("/f"), &append).await.unwrap();
        file.write_at(0, Bytes::from_static(b"ab")).await.unwrap();
        assert_eq!(read(&store, "/f").await.unwrap(), b"0123456789ab");

        let etag = store.stat(&p("/f"), Follow::No).await.unwrap().etag;
        let stale = OpenOptions { if_match: Some("stale".into()), ..OpenOptions::create() };
        assert_eq!(kind(store.open(&p("/f"), &stale).await), ErrorKind::PreconditionFailed);
        assert_eq!(kind(store.open(&p("/new"), &stale).await), ErrorKind::PreconditionFailed);
        assert_eq!(read(&store, "/f").await.unwrap().len(), 12, "nothing was cut off");
        drop(store.open(&p("/f"), &OpenOptions { if_match: etag, ..OpenOptions::create() }).await.unwrap());
        assert_eq!(read(&store, "/f").await.unwrap(), b"");
        let exclusive = OpenOptions { exclusive: true, ..OpenOptions::create() };
        assert_eq!(kind(store.open(&p("/f"), &exclusive).await), ErrorKind::AlreadyExists);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_are_set_to_the_nanosecond_and_refused_before_any() {
    for (store, _dir) in stores() {
        write(&store, "/f", b"content").await.unwrap();
        store.create_dir(&p("/d"), &Attributes::mode(0o2775)).await.unwrap();
        assert_eq!(store.stat(&p("/d"), Follow::No).await.unwrap().mode, Some(0o2775));
        let old = SystemTime::UNIX_EPOCH - Duration::new(86_400, 5);
        let new = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        let all = Attributes {
            size: Some(4),
            mode: Some(0o604),
            accessed: Some(new),
            modified: Some(old),
            ..Attributes::none()
        };
        store.set_attributes(&p("/f"), &all, Follow::Yes).await.unwrap();
        let stat = store.stat(&p("/f"), Follow::Yes).await.unwrap();
        assert_eq!((stat.size, stat.mode), (4, Some(0o604)));
        assert_eq!((stat.accessed, stat.modified), (Some(new), Some(old)));
        for bad in [Attributes::mode(0o10000), Attributes { size: Some(u64::MAX), ..all.clone() }] {
            let bad = Attributes { modified: Some(new), ..bad };
            store.set_attributes(&p("/f"), &bad, Follow::Yes).await.unwrap_err();
        }
        assert_eq!(store.stat(&p("/f"), Follow::Yes).await.unwrap().modified, Some(old));
        assert_eq!(
            kind(store.set_attributes(&p("/d"), &Attributes::size(0), Follow::Yes).await),
            ErrorKind::IsADirectory
        );
        store.symlink(b"nowhere", &p("/link")).await.unwrap();
        let times = Attributes::times(None, Some(old));
        store.set_attributes(&p("/link"), &times, Follow::No).await.unwrap();
        assert_eq!(store.stat(&p("/link"), Follow::No).await.unwrap().modified, Some(old));
        let mut named = Attributes::none();
        named.properties.insert("{DAV:}colour".into(), Some(Bytes::from_static(b"red")));
        let set = store.set_attributes(&p("/f"), &named, Follow::Yes).await;
        if !store.capabilities().properties {
            assert_eq!(kind(set), ErrorKind::Unsupported);
            continue;
        }
        set.unwrap();
        let found = store.stat(&p("/f"), Follow::Yes).await.unwrap().properties.unwrap();
        assert_eq!(found.get("{DAV:}colour").unwrap(), "red");
        let options = ListOptions { properties: true, ..ListOptions::default() };
        let page = store.list(&p("/"), &options).await.unwrap().next_page().await.unwrap().unwrap();
        let listed = page.iter().find(|e| e.name == "f").unwrap();
        assert_eq!(listed.metadata.properties.as_ref(), Some(&found));
        assert!(page.iter().all(|e| e.metadata.properties.is_some() != e.metadata.is_symlink()));
        store.copy(&p("/f"), &p("/g"), Replace::No).await.unwrap();
        let copied = store.stat(&p("/g"), Follow::Yes).await.unwrap();
        assert_eq!(copied.properties.unwrap(), found);
        named.properties.insert("{DAV:}colour".into(), None);
        store.set_attributes(&p("/f"), &named, Follow::Yes).await.unwrap();
        store.set_attributes(&p("/f"), &named, Follow::Yes).await.unwrap();
        assert!(store.stat(&p("/f"), Follow::Yes).await.unwrap().properties.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_links() {
    for (store, dir) in stores() {
        let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(dir.path().join("a"), &content).unwrap();
        store.copy(&p("/a"), &p("/b"), Replace::No).await.unwrap();
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), content);
        assert_eq!(kind(store.copy(&p("/a"), &p("/b"), Replace::No).await), ErrorKind::AlreadyExists);
        std::fs::write(dir.path().join("a"), "short").unwrap();
        store.copy(&p("/a"), &p("/b"), Replace::Yes).await.unwrap();
        assert_eq!(read(&store, "/b").await.unwrap(), b"short");
        assert_eq!(kind(store.copy(&p("/"), &p("/c"), Replace::Yes).await), ErrorKind::IsADirectory);
        assert!(store.staged().await.unwrap().is_empty());
        store.hard_link(&p("/a"), &p("/l")).await.unwrap();
        assert_eq!(store.stat(&p("/l"), Follow::No).await.unwrap().links, Some(2));
        assert_eq!(kind(store.hard_link(&p("/a"), &p("/b")).await), ErrorKind::AlreadyExists);
        store.symlink(b"../\xff/nowhere", &p("/s")).await.unwrap();
        assert_eq!(&store.read_link(&p("/s")).await.unwrap()[..], b"../\xff/nowhere");
        let space = store.space(&p("/a")).await.unwrap();
        assert!(space.total >= space.free && space.max_name > 0);
        let file = store.open(&p("/a"), &OpenOptions::read()).await.unwrap();
        let lent = file.lend(2..99).await.unwrap().unwrap();
        assert_eq!(lent.range, 2..5);
        assert_eq!(file.lend(7..9).await.unwrap().unwrap().range, 5..5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_takes_effect_after_the_cut() {
    let (store, dir) = stores().next().unwrap();
    write(&store, "/f", b"f").await.unwrap();
    let id = staged_file(&store, "/g", b"g").await;
    let leases = Leases::new();
    let lease = leases.take().unwrap();
    leases.cut();
    lease
        .scope(async {
            let canceled = ErrorKind::Canceled;
            assert_eq!(kind(store.publish(&id, &p("/g"), Replace::Yes, true).await), canceled);
            assert_eq!(kind(store.rename(&p("/f"), &p("/h"), Replace::Yes).await), canceled);
            assert_eq!(kind(store.copy(&p("/f"), &p("/h"), Replace::Yes).await), canceled);
            assert_eq!(kind(store.remove_file(&p("/f")).await), canceled);
            assert_eq!(kind(store.unstage(&id).await), canceled);
        })
        .await;
    leases.quiet().await;
    let mut there: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, [".ferry-stage", "f"]);
    assert_eq!(store.staged().await.unwrap().len(), 1, "it can be continued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_policy_of_flushing_works() {
    for fsync in [FsyncPolicy::Never, FsyncPolicy::OnCommit, FsyncPolicy::Full] {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), LocalOptions { fsync, ..LocalOptions::default() }).unwrap();
        write(&store, "/f", b"f").await.unwrap();
        let id = staged_file(&store, "/f", b"g").await;
        store.publish(&id, &p("/f"), Replace::Yes, true).await.unwrap();
        store.rename(&p("/f"), &p("/h"), Replace::No).await.unwrap();
        let file = store.open(&p("/h"), &OpenOptions::read()).await.unwrap();
        file.sync().await.unwrap();
        assert_eq!(read(&store, "/h").await.unwrap(), b"g");
    }
}

#[test]
fn a_root_must_be_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| LocalStore::open(path, LocalOptions::default());
    assert_eq!(kind(open(&dir.path().join("x"))), ErrorKind::NotFound);
    std::fs::write(dir.path().join("f"), "").unwrap();
    assert_eq!(kind(open(&dir.path().join("f"))), ErrorKind::NotADirectory);
}
