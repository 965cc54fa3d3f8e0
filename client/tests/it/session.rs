//! The session against our own servers: every method, its results, its events.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::support::{Refuse, World, path};
use async_trait::async_trait;
use client::session::*;
use futures_util::StreamExt;
use session_core::batch::{TransferOptions, Unattended};
use session_core::error::{Error, ErrorKind};
use session_core::fs::Follow;
use session_core::intercept::{Cx, Interceptor};
use session_core::metadata::Attributes;
use session_core::operation::{Operation, OperationKind, OperationSet, Record};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Every event, kept.
fn kept(session: &Session) -> (Arc<Mutex<Vec<Event>>>, Subscription) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&all);
    (all, session.on_event(move |e| into.lock().unwrap().push(e.clone())))
}

fn failed(events: &Mutex<Vec<Event>>) -> usize {
    events.lock().unwrap().iter().filter(|e| matches!(e, Event::Failed(_))).count()
}

fn options() -> TransferOptions {
    TransferOptions::default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_opens_closes_and_opens_again() {
    let world = World::sftp().await;
    let session = Session::new();
    let (events, _kept) = kept(&session);
    assert!(!session.opened());
    assert_eq!(session.list_directory("/").await.unwrap_err().kind(), ErrorKind::Closed);
    for _ in 0..2 {
        session.open(world.options(), Arc::new(Unattended)).await.unwrap();
        assert!(session.opened());
        assert_eq!(session.home_path().unwrap(), path("/"));
        let again = session.open(world.options(), Arc::new(Unattended)).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Closed);
        session.clone().close().await.unwrap();
        assert_eq!(session.close().await.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(failed(&events), 3);
    let wrong = world.options().password("wrong");
    let e = session.open(wrong, Arc::new(Unattended)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    assert!(!session.opened());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_is_the_options_and_no_answer_is_a_no() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("known_hosts");
    let stranger = || {
        SessionOptions::sftp("127.0.0.1")
            .ssh_private_key_path("/nonexistent")
            .port_number(world.port)
            .user_name("u")
            .password("secret")
            .known_hosts(&record)
    };
    let session = Session::new();
    let (events, _kept) = kept(&session);
    let e = session.open(stranger(), Arc::new(Unattended)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    assert!(events.lock().unwrap().iter().any(|e| matches!(e, Event::Query(_))));
    let other = stranger().ssh_host_key_fingerprint(["aa"; 16].join(":")).unwrap();
    assert!(session.open(other, Arc::new(Unattended)).await.is_err());
    let any = stranger().ssh_host_key_policy(SshHostKeyPolicy::GiveUpSecurityAndAcceptAny);
    session.open(any, Arc::new(Unattended)).await.unwrap();
    let warned =
        |e: &Event| matches!(e, Event::Output { data, error: true } if data.contains("any host key"));
    assert!(events.lock().unwrap().iter().any(warned));
    session.close().await.unwrap();
    assert!(!record.exists());
    let new = stranger().ssh_host_key_policy(SshHostKeyPolicy::AcceptNew);
    session.open(new, Arc::new(Unattended)).await.unwrap();
    session.close().await.unwrap();
    // On record now.
    session.open(stranger(), Arc::new(Unattended)).await.unwrap();
    session.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fingerprints_are_scanned_without_a_login() {
    let world = World::sftp().await;
    let bare = SessionOptions::sftp("127.0.0.1").port_number(world.port);
    let session = Session::new();
    let shown = session.scan_fingerprint(&bare, "sha-256").await.unwrap();
    // How many bits are told of such a key is the library's.
    let digest = world.fingerprint.rsplit(' ').next().unwrap();
    assert!(shown.starts_with("ssh-ed25519 ") && shown.ends_with(digest), "{shown}");
    let md5 = session.scan_fingerprint(&bare, "MD5").await.unwrap();
    // What was scanned can be pinned.
    let pinned = world.options().ssh_host_key_fingerprint(md5).unwrap();
    session.open(pinned, Arc::new(Unattended)).await.unwrap();
    assert_eq!(session.scan_fingerprint(&bare, "md5").await.unwrap_err().kind(), ErrorKind::Closed);
    session.close().await.unwrap();
    assert_eq!(session.scan_fingerprint(&bare, "sha1").await.unwrap_err().kind(), ErrorKind::Unsupported);

    let world = World::ftpes().await;
    let bare = SessionOptions::ftp("127.0.0.1").ftp_secure(FtpSecure::Explicit).port_number(world.port);
    assert_eq!(session.scan_fingerprint(&bare, "SHA-256").await.unwrap(), world.fingerprint.to_lowercase());
    assert_eq!(session.scan_fingerprint(&bare, "SHA-1").await.unwrap().len(), 59);
    let plain = SessionOptions::ftp("127.0.0.1").port_number(world.port);
    assert_eq!(session.scan_fingerprint(&plain, "SHA-256").await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_follow_the_rules_of_paths_on_every_protocol() {
    for world in [World::sftp().await, World::ftpes().await] {
        let session = world.open().await;
        let (events, _kept) = kept(&session);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, content) in [("d/a.txt", "1"), ("d/b.TXT", "22"), ("d/c.bin", "333"), ("d/sub/x.txt", "4")]
        {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), content).unwrap();
        }
        let o = options();
        session.create_directory("in").await.unwrap();
        // A directory goes with its own name; a mask is not recursive by itself; an operation mask renames.
        session.put_files(at("d"), "/in/", false, &o).await.unwrap().check().unwrap();
        session.put_files(at("d/*.txt"), "/in/new-*.*", false, &o).await.unwrap().check().unwrap();
        session.put_files(at("d/c.bin"), "fixed", false, &o).await.unwrap().check().unwrap();
        let expected = [
            "/fixed",
            "/in/",
            "/in/d/",
            "/in/d/a.txt",
            "/in/d/b.TXT",
            "/in/d/c.bin",
            "/in/d/sub/",
            "/in/d/sub/x.txt",
            "/in/new-.TXT",
            "/in/new-.txt",
        ];
        assert_eq!(world.tree().await, expected);
        assert_eq!(world.read("/in/d/sub/x.txt").await, b"4");
        // The target's directory must be there.
        let result = session.put_files(at("d/a.txt"), "/missing/x", false, &o).await.unwrap();
        assert_eq!((result.failures.len(), result.transfers.len()), (1, 0));
        assert_eq!(result.check().unwrap_err().kind(), ErrorKind::NotFound);
        // What is not there is a failure; a mask that nothing fits is none.
        assert!(!session.get_files("/in/none", at(""), false, &o).await.unwrap().is_success());
        let none = session.get_files("/in/*.none", at(""), false, &o).await.unwrap();
        assert!(none.is_success() && none.transfers.is_empty());
        // A slash at the end of a source is dropped, with a warning.
        std::fs::create_dir(at("out")).unwrap();
        session.get_files("/in/d/", at("out/"), false, &o).await.unwrap().check().unwrap();
        assert_eq!(std::fs::read(at("out/d/sub/x.txt")).unwrap(), b"4");
        let events = events.lock().unwrap().clone();
        let count = |f: fn(&Event) -> bool| events.iter().filter(|e| f(e)).count();
        assert_eq!(count(|e| matches!(e, Event::Output { error: true, .. })), 1);
        assert_eq!(count(|e| matches!(e, Event::Failed(_))), 2);
        let moved = count(|e| matches!(e, Event::FileTransferred(t) if t.error.is_none()));
        assert_eq!(moved, 4 + 2 + 1 + 4);
        assert!(count(|e| matches!(e, Event::Progress(_))) > 0);
        session.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_moved_away_goes_after_its_own_success_only() {
    let refuse: fn(&Record) -> bool =
        |r| matches!(r, Record::Open(o) if o.path.name().starts_with(b"bad") && o.options.write);
    let world = World::sftp_with(vec![Arc::new(Refuse(refuse))]).await;
    let session = world.open().await;
    let (events, _kept) = kept(&session);
    let dir = tempfile::tempdir().unwrap();
    for name in ["tree/good", "tree/bad", "tree/sub/good", "tree/empty/x/good"] {
        let at = dir.path().join(name);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, name).unwrap();
    }
    let result = session.put_files(dir.path().join("tree"), "/", true, &options()).await.unwrap();
    assert_eq!(result.failures.len(), 1, "{:?}", result.failures);
    assert_eq!(failed(&events), 1);
    let by = |f: fn(&Outcome) -> bool| result.transfers.iter().filter(|t| f(&t.outcome)).count();
    assert_eq!((by(|o| matches!(o, Outcome::Done(_))), by(|o| matches!(o, Outcome::Failed))), (3, 1));
    let removed = result.transfers.iter().filter(|t| t.removal.as_ref().is_some_and(|r| r.error.is_none()));
    assert_eq!(removed.count(), 3);
    let left: Vec<_> =
        std::fs::read_dir(dir.path().join("tree")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["bad"]);
    // Several that would become one are not removed for it.
    for name in ["1", "2"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    let result = session.put_files(dir.path().join("?"), "/one", true, &options()).await.unwrap();
    assert_eq!(result.check().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(dir.path().join("1").exists() && !world.has("/one").await);
    let result = session.put_files(dir.path().join("?"), "/one", false, &options()).await.unwrap();
    assert_eq!((result.is_success(), result.transfers.len()), (true, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_files_go_by_their_exact_names() {
    let world = World::sftp().await;
    world.write("/a*", "star").await;
    world.write("/ab", "other").await;
    world.write("/d/x", "x").await;
    let session = world.open().await;
    let dir = tempfile::tempdir().unwrap();
    let o = options();
    let t = session.get_file_to_directory("a*", dir.path(), false, &o).await.unwrap();
    assert_eq!((t.length, t.source), (4, path("/a*")));
    let kind = |e: Error| e.kind();
    assert_eq!(
        session.get_file_to_directory("d", dir.path(), false, &o).await.map_err(kind).unwrap_err(),
        ErrorKind::IsADirectory
    );
    assert_eq!(
        session.get_file_to_directory("none", dir.path(), false, &o).await.map_err(kind).unwrap_err(),
        ErrorKind::NotFound
    );
    let nowhere = dir.path().join("nowhere");
    assert_eq!(
        session.get_file_to_directory("ab", nowhere, false, &o).await.map_err(kind).unwrap_err(),
        ErrorKind::NotFound
    );
    session.put_file_to_directory(dir.path().join("a*"), "/d", true, &o).await.unwrap();
    assert!(world.has("/d/a*").await && !dir.path().join("a*").exists());
    let all = session.get_files_to_directory("/", dir.path(), Some("a*"), false, &o).await.unwrap();
    assert_eq!(all.transfers.len(), 2);
    session.put_files_to_directory(dir.path(), "/d", None, false, &o).await.unwrap().check().unwrap();
    assert!(world.has("/d/ab").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_and_facts() {
    let refuse: fn(&Record) -> bool = |r| match r {
        Record::List(l) => l.path.name() == b"closed",
        Record::Stat(s) => s.path.name() == b"hidden",
        _ => false,
    };
    let world = World::sftp_with(vec![Arc::new(Refuse(refuse))]).await;
    for file in ["/t/a.txt", "/t/b.bin", "/t/sub/c.txt", "/t/sub/deep/d.txt", "/t/closed/e.txt"] {
        world.write(file, "x").await;
    }
    let session = world.open().await;
    let (events, _kept) = kept(&session);
    let names: Vec<_> = session.list_directory("t").await.unwrap().files.iter().map(|f| f.name()).collect();
    assert_eq!(names, ["a.txt", "b.bin", "closed", "sub"]);
    let walk = |mask: &'static str, all, matching, every| {
        let session = session.clone();
        async move {
            let o = EnumerationOptions {
                all_directories: all,
                match_directories: matching,
                enumerate_directories: every,
            };
            let items: Vec<_> = session.enumerate_remote_files("/t", mask, o).unwrap().collect().await;
            let errors = items.iter().filter(|i| i.is_err()).count();
            let mut found: Vec<_> = items.into_iter().flatten().map(|f| f.full_name()).collect();
            found.sort();
            (found.join(" "), errors)
        }
    };
    assert_eq!(walk("", false, false, false).await, ("/t/a.txt /t/b.bin".into(), 0));
    assert_eq!(
        walk("*.TXT", true, false, false).await,
        ("/t/a.txt /t/sub/c.txt /t/sub/deep/d.txt".into(), 1)
    );
    assert_eq!(walk("s*", true, true, false).await, ("/t/sub".into(), 1));
    assert_eq!(walk("c*", true, false, true).await.0, "/t/closed /t/sub /t/sub/c.txt /t/sub/deep");
    assert_eq!(failed(&events), 3, "each of the three walks over all met one");
    let bad = EnumerationOptions { enumerate_directories: true, ..Default::default() };
    assert!(session.enumerate_remote_files("/t", "", bad).is_err());
    let top: Vec<_> =
        session.enumerate_remote_files("/none", "", Default::default()).unwrap().collect().await;
    assert!(matches!(top.as_slice(), [Err(e)] if e.kind() == ErrorKind::NotFound));

    let before = failed(&events);
    assert!(!session.file_exists("/t/none").await.unwrap());
    assert!(session.file_exists("/t/sub").await.unwrap());
    assert_eq!(session.try_get_file_info("/t/none").await.unwrap(), None);
    assert_eq!(failed(&events), before, "what is missing is no failure here");
    // Not allowed is not missing.
    assert_eq!(session.file_exists("/t/hidden").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let info = session.get_file_info("t/a.txt").await.unwrap();
    assert_eq!((info.length(), info.file_type(), info.is_directory()), (1, '-', false));
    let (sha, _) = session.calculate_file_checksum("SHA-256", "/t/a.txt").await.unwrap();
    assert_eq!(
        session_core::digest::hex(&sha),
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    );
    let kind = |e: Error| e.kind();
    assert_eq!(
        session.calculate_file_checksum("sha-224", "/t/a.txt").await.map_err(kind).unwrap_err(),
        ErrorKind::Unsupported
    );
    assert_eq!(
        session.calculate_file_checksum("md5", "/t").await.map_err(kind).unwrap_err(),
        ErrorKind::IsADirectory
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_changed() {
    let world = World::sftp().await;
    let session = world.open().await;
    for name in ["/a.txt", "/b.txt", "/c.bin"] {
        world.write(name, name).await;
    }
    session.create_directory("d").await.unwrap();
    assert!(session.create_directory("d").await.is_err());
    session.create_directories("x/y/z").await.unwrap();
    assert_eq!(session.move_file("*.txt", "/d/*.old").await.unwrap().len(), 2);
    assert!(world.has("/d/a.old").await && !world.has("/a.txt").await);
    session.move_file("/d/a.old", "/x/").await.unwrap();
    // Never over another.
    world.write("/d/c.bin", "old").await;
    assert!(session.move_file("/c.bin", "/d/").await.is_err());
    assert_eq!(world.read("/d/c.bin").await, b"old");
    assert_eq!(session.move_file("/none", "/d/").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(session.move_file("*.none", "/d/").await.unwrap_err().kind(), ErrorKind::NotFound);
    for (from, to) in [("/x/y", "/x/y/z/"), ("/x/y/z", "/x"), ("/x/y", "/x/y")] {
        assert_eq!(
            session.move_file(from, to).await.unwrap_err().kind(),
            ErrorKind::InvalidArgument,
            "{from}"
        );
    }
    session.duplicate_file("/c.bin", "/copy.*").await.unwrap();
    assert_eq!(world.read("/copy.bin").await, b"/c.bin");
    assert!(session.duplicate_file("/c.bin", "/copy.bin").await.is_err());
    session.chmod("/c.bin", FilePermissions::from_octal("0640").unwrap()).await.unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    session.touch("/c.bin", Some(time)).await.unwrap();
    let info = session.get_file_info("/c.bin").await.unwrap();
    assert_eq!(
        (info.file_permissions().unwrap().octal().as_str(), info.last_write_time()),
        ("640", Some(time))
    );
    session.create_symbolic_link("/link", "c.bin").await.unwrap();
    assert_eq!(session.read_link("/link").await.unwrap(), b"c.bin");
    assert_eq!(session.get_file_info("/link").await.unwrap().length(), 6);
    assert_eq!(session.remove_empty_directory("/x/y").await.unwrap_err().kind(), ErrorKind::NotEmpty);
    session.remove_empty_directory("/x/y/z").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_tell_what_went_and_keep_what_could_not() {
    let refuse: fn(&Record) -> bool = |r| match r {
        Record::RemoveFile(f) => f.path.name() == b"kept",
        Record::List(l) => l.path.name() == b"closed",
        _ => false,
    };
    let world = World::sftp_with(vec![Arc::new(Refuse(refuse))]).await;
    for name in ["/t/a", "/t/s/kept", "/t/s/b", "/t/u/c", "/v/closed/x", "/w/e", "/1.log", "/2.log"] {
        world.write(name, "").await;
    }
    let session = world.open().await;
    let (events, _kept) = kept(&session);
    assert_eq!(session.remove_files("*.log").await.unwrap().removals.len(), 2);
    assert!(session.remove_files("*.log").await.unwrap().is_success());
    let result = session.remove_files("/t").await.unwrap();
    assert_eq!(result.failures.len(), 1);
    assert!(result.removals.iter().any(|r| r.failure == Some(0) && r.path == path("/t/s/kept")));
    assert_eq!(result.removals.iter().filter(|r| r.failure.is_none()).count(), 4, "a, b, c and u");
    assert_eq!(
        world.tree().await,
        ["/t/", "/t/s/", "/t/s/kept", "/v/", "/v/closed/", "/v/closed/x", "/w/", "/w/e"]
    );
    // A listing that fails stands alone, and nothing below or above goes.
    let result = session.remove_entry("/v").await.unwrap();
    assert_eq!((result.failures.len(), result.removals.len()), (1, 0));
    assert_eq!(failed(&events), 2);
    assert_eq!(session.remove_file("/w").await.unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(session.remove_file("").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(session.remove_file("/none").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!session.remove_files("/").await.unwrap().is_success(), "the root is not removed");
    session.close().await.unwrap();
    let bin = world.options().add_raw_setting("DeleteToRecycleBin", "1").unwrap();
    let bin = bin.add_raw_setting("RecycleBinPath", "/w").unwrap();
    session.open(bin, Arc::new(Unattended)).await.unwrap();
    let removal = session.remove_file("/t/s/kept").await.unwrap();
    let name = removal.recycled.unwrap().display();
    assert!(name.starts_with("/w/kept-20") && name.len() == "/w/kept-20260101-000000".len(), "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_both_ways_and_jump() {
    for world in [World::sftp().await, World::ftpes().await] {
        let session = world.open().await;
        let content: Vec<u8> = (0..3_000_001u32).flat_map(|n| n.to_le_bytes()).take(3_000_001).collect();
        let sent = session.put_file(content.as_slice(), "/f", &options()).await.unwrap();
        assert_eq!(sent, content.len() as u64);
        assert!(world.read("/f").await == content);
        assert_eq!(world.tree().await, ["/f"]);
        let mut reader = session.get_file("/f").await.unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        assert!(all == content);
        reader.seek(std::io::SeekFrom::Start(2_000_000)).await.unwrap();
        let mut some = [0; 5];
        reader.read_exact(&mut some).await.unwrap();
        assert_eq!(some, content[2_000_000..2_000_005]);
        reader.seek(std::io::SeekFrom::End(-1)).await.unwrap();
        assert_eq!(reader.read(&mut some).await.unwrap(), 1);
        assert!(reader.seek(std::io::SeekFrom::End(-4_000_000)).await.is_err());
        session.put_file(&b""[..], "/empty", &options()).await.unwrap();
        assert_eq!(session.get_file("/empty").await.unwrap().read(&mut some).await.unwrap(), 0);
        assert_eq!(session.get_file("/").await.map(|_| ()).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_a_stream_is_written_while_more_is_waited_for() {
    let world = World::sftp().await;
    let session = world.open().await;
    let (mut source, content) = tokio::io::duplex(1 << 20);
    let sending = tokio::spawn({
        let session = session.clone();
        async move { session.put_file(content, "/f", &options()).await }
    });
    source.write_all(&[7; 600_000]).await.unwrap();
    let arrived = async {
        // Two whole blocks of it; the third one is not full yet.
        while session.get_file_info("/f.filepart").await.map_or(0, |f| f.length()) < 512 << 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap();
    drop(source);
    assert_eq!(sending.await.unwrap().unwrap(), 600_000);
    assert!(world.read("/f").await == [7; 600_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_leaves_the_old_content() {
    let world = World::sftp().await;
    world.write("/f", "old").await;
    let session = world.open().await;
    let broken = (&[7u8; 600_000][..]).chain(Breaks);
    let e = session.put_file(broken, "/f", &options()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Disconnected, "{e:#}");
    assert_eq!(world.read("/f").await, b"old");
}

struct Breaks;

impl tokio::io::AsyncRead for Breaks {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
    }
}

/// Waits where it is told to, and says that it does.
struct Hold {
    reached: tokio::sync::Notify,
}

#[async_trait]
impl Interceptor for Hold {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if matches!(operation.to_record(), Record::Open(o) if o.path.name() == b"slow") {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_run_at_once_and_abort_ends_them() {
    let hold = Arc::new(Hold { reached: tokio::sync::Notify::new() });
    let world = World::sftp_with(vec![Arc::clone(&hold) as Arc<dyn Interceptor>]).await;
    world.write("/slow", "x").await;
    let session = world.open().await;
    let slow = tokio::spawn({
        let session = session.clone();
        async move { session.get_file("/slow").await.map(|_| ()) }
    });
    hold.reached.notified().await;
    // Nothing waits for the call that waits.
    assert!(session.file_exists("/slow").await.unwrap());
    session.abort();
    let e = slow.await.unwrap().unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Disconnected), "{e:#}");
    assert!(!session.opened());
    assert_eq!(
        session.open(world.options(), Arc::new(Unattended)).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_can_end_a_transfer_and_streams_of_events_tell_what_they_lost() {
    // One file cannot end, so that the transfer is always under way when it is given up.
    let hold = Arc::new(Hold { reached: tokio::sync::Notify::new() });
    let world = World::sftp_with(vec![hold]).await;
    let session = world.open().await;
    let mut stream = session.events();
    let (events, _kept) = kept(&session);
    let dir = tempfile::tempdir().unwrap();
    for name in ["1", "2", "slow"] {
        std::fs::write(dir.path().join(name), vec![1; 1000]).unwrap();
    }
    session.set_progress_interval(Duration::ZERO);
    let cancel = session.on_event(|e| {
        if let Event::Progress(p) = e {
            assert!((0.0..=1.0).contains(&p.overall()));
            p.cancel();
        }
    });
    let result = session.put_files_to_directory(dir.path(), "/", None, false, &options()).await.unwrap();
    drop(cancel);
    assert!(!result.is_success(), "it was given up");
    assert!(result.failures.iter().all(|e| e.kind() == ErrorKind::Canceled));
    assert_eq!(failed(&events), result.failures.len());
    while !matches!(stream.next().await.unwrap(), Event::Progress(_)) {}
    for n in 0..5000 {
        let _ = session.file_exists(format!("/{n}/..\0")).await;
    }
    let mut missed = 0;
    while missed == 0 {
        if let Event::Missed(n) = stream.next().await.unwrap() {
            missed = n;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_and_permissions_that_a_file_was_given_are_told_with_it() {
    let refuse = Refuse(|record| record.kind() == OperationKind::SetAttributes);
    for (world, refused) in
        [(World::sftp().await, false), (World::sftp_with(vec![Arc::new(refuse)]).await, true)]
    {
        world.store.create_dir(&path("/d"), &Attributes::none()).await.unwrap();
        let session = world.open().await;
        let (events, _kept) = kept(&session);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "f").unwrap();
        let file = std::fs::File::options().write(true).open(dir.path().join("f")).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        file.set_modified(then).unwrap();
        let given = TransferOptions {
            permissions: Some(0o640),
            ignore_attribute_errors: true,
            ..TransferOptions::default()
        };
        let transfer =
            session.put_file_to_directory(dir.path().join("f"), "/d", false, &given).await.unwrap();
        let (touch, chmod) = (transfer.touch.unwrap(), transfer.chmod.unwrap());
        assert_eq!((touch.path, touch.modified), (path("/d/f"), then));
        assert_eq!((chmod.path, chmod.permissions.octal()), (path("/d/f"), "640".to_owned()));
        assert_eq!((touch.error.is_some(), chmod.error.is_some()), (refused, refused));
        let told =
            |e: &Event| matches!(e, Event::FileTransferred(t) if t.touch.is_some() && t.chmod.is_some());
        assert!(events.lock().unwrap().iter().any(told));
        if !refused {
            let bare = TransferOptions { preserve_times: false, preserve_modes: false, ..options() };
            let transfer =
                session.put_file_to_directory(dir.path().join("f"), "/d", false, &bare).await.unwrap();
            assert!(transfer.touch.is_none() && transfer.chmod.is_none());
            std::fs::write(dir.path().join("g"), "g").unwrap();
            let remote = SynchronizationOptions::new(SynchronizationMode::Remote);
            let result = session.synchronize_directories(dir.path(), "/d", &remote).await.unwrap();
            let g = result.uploads.iter().find(|t| t.destination == path("/d/g")).unwrap();
            assert!(g.touch.as_ref().is_some_and(|touch| touch.path == path("/d/g")));
        }
        assert_eq!(failed(&events), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_compared_resolved_and_synchronised() {
    let world = World::sftp().await;
    world.write("/r/only/there.txt", "there").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("here")).unwrap();
    std::fs::write(dir.path().join("here/x"), "x").unwrap();
    std::fs::write(dir.path().join("y"), "y").unwrap();
    let session = world.open().await;
    let (events, _kept) = kept(&session);
    let mut o = SynchronizationOptions::new(SynchronizationMode::Remote);
    o.remove_files = true;
    let found = session.compare_directories(dir.path(), "/r", &o).await.unwrap();
    let actions: Vec<_> = found.differences.iter().map(|d| d.action.winscp().1).collect();
    assert_eq!(actions, ["UploadNew", "DeleteRemote", "UploadNew"], "each tree is one");
    assert_eq!(found.path(&found.differences[0], Side::Remote).unwrap(), path("/r/here"));
    assert_eq!(world.tree().await, ["/r/", "/r/only/", "/r/only/there.txt"], "nothing was changed");
    let result = found.resolve(&found.differences[0]).await.unwrap();
    result.check().unwrap();
    assert!(world.has("/r/here/x").await);
    let mut back = found.differences[1].clone();
    back.reverse();
    found.resolve(&back).await.unwrap().check().unwrap();
    assert_eq!(std::fs::read(dir.path().join("only/there.txt")).unwrap(), b"there");
    world.write("/r/gone", "").await;
    let result = session.synchronize_directories(dir.path(), "/r", &o).await.unwrap();
    result.check().unwrap();
    assert_eq!((result.uploads.len(), result.downloads.len(), result.removals.len()), (1, 0, 1));
    assert_eq!(result.uploads[0].destination, path("/r/y"));
    assert!(session.compare_directories(dir.path(), "/r", &o).await.unwrap().differences.is_empty());
    assert_eq!(failed(&events), 0);
    let moved = |e: &Event| matches!(e, Event::FileTransferred(_));
    assert_eq!(events.lock().unwrap().iter().filter(|e| moved(e)).count(), 3);
    // Contradictions, and directories that are not there.
    let both = SynchronizationOptions { mode: SynchronizationMode::Both, ..o.clone() };
    for (dir, remote, options, kind) in [
        (dir.path().to_path_buf(), "/r", &both, ErrorKind::InvalidArgument),
        (dir.path().to_path_buf(), "/none", &o, ErrorKind::NotFound),
        (dir.path().join("none"), "/r", &o, ErrorKind::NotFound),
    ] {
        let e = session.synchronize_directories(dir, remote, options).await.map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), kind, "{e:#}");
    }
    assert_eq!(failed(&events), 3);
}

#[test]
fn a_session_may_be_shared() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Session>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_share_a_limit_ask_no_more_than_it_allows() {
    use client::connect::RequestLimit;
    use std::num::NonZeroU32;
    use std::time::{Duration, Instant};

    let world = World::sftp().await;
    world.write("/f", "content").await;
    let limit = Arc::new(RequestLimit::new(NonZeroU32::new(50).unwrap()));
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let session = Session::new();
        session.set_request_limit(Some(Arc::clone(&limit)));
        session.open(world.options(), Arc::new(Unattended)).await.unwrap();
        sessions.push(session);
    }
    // Twelve of each at the same time: the last of all has its turn after 23 others.
    let began = Instant::now();
    let asked = sessions.iter().flat_map(|session| (0..12).map(|_| session.stat("/f", Follow::Yes)));
    for found in futures_util::future::join_all(asked).await {
        assert_eq!(found.unwrap().size, 7);
    }
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());

    // Without one nothing waits.
    let free = world.open().await;
    let began = Instant::now();
    for _ in 0..24 {
        free.stat("/f", Follow::Yes).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
}
