//! SCP and the checksum commands, spoken by hand: what is answered to what, and what becomes of files.
//! A client's answers are sent ahead of time; what the server says is compared whole.
#![cfg(feature = "server")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Store, guarded};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use proto_sftp::server::Outgoing;
use proto_sftp::server::scp::{Builtin, Terminal};
use session_core::auth::Account;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::fs_ext::FilesystemExt as _;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::metadata::Attributes;
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// What the server said: output, and words for people.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl Outgoing for Said {
    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.0.lock().unwrap().0.extend_from_slice(&bytes);
        Ok(())
    }
}

impl Terminal for Said {
    async fn complain(&mut self, words: Bytes) -> Result<()> {
        self.0.lock().unwrap().1.extend_from_slice(&words);
        Ok(())
    }
}

struct Done {
    status: Result<u32>,
    out: String,
    err: String,
}

/// Runs a command whose client sends `input` in pieces of so many bytes, and then ends its output.
async fn run_in(fs: &SessionFs, command: &str, input: &[u8], piece: usize) -> Done {
    let said = Said::default();
    let pieces: Vec<_> = input.chunks(piece.max(1)).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    let builtin = Builtin::parse(command.as_bytes()).unwrap();
    let status = builtin.run(fs.clone(), stream::iter(pieces), said.clone()).await;
    let (out, err) = said.0.lock().unwrap().clone();
    Done { status, out: String::from_utf8_lossy(&out).into_owned(), err: String::from_utf8(err).unwrap() }
}

async fn run(fs: &SessionFs, command: &str, input: &str) -> Done {
    run_in(fs, command, input.as_bytes(), usize::MAX).await
}

/// A session at home in `/base` of a memory store.
async fn memory() -> SessionFs {
    guarded_memory(vec![]).await
}

async fn guarded_memory(links: Vec<Arc<dyn Interceptor>>) -> SessionFs {
    let session = Session::new(Setup::new(Protocol::Scp, "test"));
    let account = Account { home: p("/base"), ..Account::named("someone") };
    let identity = session.log_in(account, vec![]).unwrap();
    let fs = session.guard(&identity, Arc::new(MemoryStore::new()), Chain::new(links)).unwrap();
    fs.create_dir_all(&p("/base")).await.unwrap();
    fs
}

async fn put(fs: &SessionFs, path: &str, content: &str) {
    fs.create_dir_all(&p(path).parent().unwrap()).await.unwrap();
    fs.write_all(&p(path), Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
}

async fn content(fs: &SessionFs, path: &str) -> String {
    String::from_utf8(fs.read_to_vec(&p(path), 1 << 20).await.unwrap()).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_tree_arrives_whatever_the_pieces() {
    let input = "T1000 0 2000 0\nD0750 0 tree\nT1500 0 2500 0\nC4640 3 a b\nxyz\0C0600 0 empty\n\0\
                 D0700 0 inner\nE\nE\n";
    for piece in 1..=input.len() {
        let fs = memory().await;
        let done = run_in(&fs, "scp -r -p -t .", input.as_bytes(), piece).await;
        assert_eq!(done.status.unwrap(), 0, "{:?}", done.out);
        assert_eq!(done.out, "\0".repeat(11), "pieces of {piece}");
        assert_eq!(content(&fs, "/base/tree/a b").await, "xyz");
        let file = fs.stat(&p("/base/tree/a b"), Follow::No).await.unwrap();
        assert_eq!((file.mode, file.modified, file.accessed), (Some(0o4640), Some(at(1500)), Some(at(2500))));
        let tree = fs.stat(&p("/base/tree"), Follow::No).await.unwrap();
        assert_eq!((tree.mode, tree.modified), (Some(0o750), Some(at(1000))));
        assert!(fs.exists(&p("/base/tree/inner")).await.unwrap());
        assert!(fs.exists(&p("/base/tree/empty")).await.unwrap());
    }
}

#[tokio::test]
async fn a_name_is_given_where_the_target_is_no_directory() {
    let fs = memory().await;
    assert_eq!(run(&fs, "scp -t new", "C0666 2 old\nhi\0").await.status.unwrap(), 0);
    assert_eq!(content(&fs, "/base/new").await, "hi");
    // Without -p the usual umask holds.
    assert_eq!(fs.stat(&p("/base/new"), Follow::No).await.unwrap().mode, Some(0o644));
    assert_eq!(run(&fs, "scp -t ~", "C0644 2 old\nhi\0").await.status.unwrap(), 0);
    assert_eq!(content(&fs, "/base/old").await, "hi");
    let done = run(&fs, "scp -d -t /base/new", "").await;
    assert_eq!((done.status.unwrap(), done.out.as_str()), (1, "\x01scp: /base/new: not a directory\n"));
}

#[tokio::test]
async fn a_client_cannot_leave_its_target() {
    for line in ["C0644 2 ../x\nhi\0", "C0644 2 /x\nhi\0", "D0755 0 ..\n", "E\n", "\0", "Z\n"] {
        let fs = memory().await;
        fs.create_dir_all(&p("/base/in")).await.unwrap();
        let done = run(&fs, "scp -r -t /base/in", line).await;
        assert_eq!(done.status.unwrap_err().kind(), ErrorKind::PeerMisbehaved, "{line:?}");
        assert!(done.out.starts_with("\0\x02scp: protocol error: "), "{line:?}: {:?}", done.out);
        assert!(!fs.exists(&p("/base/x")).await.unwrap() && !fs.exists(&p("/x")).await.unwrap());
    }
    // A directory that nobody asked for.
    let fs = memory().await;
    let done = run(&fs, "scp -t /base", "D0755 0 x\nE\n").await;
    assert_eq!(done.status.unwrap_err().kind(), ErrorKind::PeerMisbehaved);
}

#[tokio::test]
async fn what_did_not_arrive_whole_is_not_published() {
    let store = Store::new();
    store.put("/f", b"old");
    let fs = guarded(&store, vec![]);
    // The client vanishes.
    let done = run(&fs, "scp -t /f", "C0644 5 f\nab").await;
    assert_eq!(done.status.unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(store.content("/f").unwrap(), b"old");
    assert_eq!(*store.endings.lock().unwrap(), ["park /f"]);
    // The client could not read its own file: it sends zeros, and says so.
    let done = run(&fs, "scp -t /f", "C0644 3 f\nab0\x01scp: f: cannot read\n").await;
    assert_eq!(done.status.unwrap(), 1);
    assert_eq!(store.content("/f").unwrap(), b"old");
    assert_eq!(*store.endings.lock().unwrap(), ["park /f", "abort /f"]);
}

#[tokio::test]
async fn what_fails_here_is_said_and_the_next_comes() {
    let store = Store::new();
    let fs = guarded(&store, vec![]);
    *store.full.lock().unwrap() = Some(Error::new(ErrorKind::NoSpace));
    let done = run(&fs, "scp -t /", "C0644 2 a\nhi\0C0644 0 b\n\0").await;
    assert_eq!(done.status.unwrap(), 1);
    let words = ErrorKind::NoSpace.words();
    assert_eq!(done.out, format!("\0\0\x01scp: /a: {words}\n\0\0"));
    assert!(store.content("/a").is_none() && store.content("/b").is_some());
    *store.full.lock().unwrap() = None;
    *store.veto.lock().unwrap() = Some(Error::refused("not this one"));
    let done = run(&fs, "scp -t /", "C0644 2 a\nhi\0").await;
    assert_eq!((done.status.unwrap(), done.out.as_str()), (1, "\0\0\x01scp: /a: not this one\n"));
}

#[tokio::test]
async fn a_tree_is_sent() {
    let fs = memory().await;
    put(&fs, "/base/tree/a", "hello").await;
    put(&fs, "/base/tree/sub/b", "").await;
    for path in ["/base/tree/a", "/base/tree/sub/b", "/base/tree/sub", "/base/tree"] {
        let times = Attributes { mode: Some(0o700), ..Attributes::times(Some(at(20)), Some(at(10))) };
        fs.set_attributes(&p(path), &times, Follow::No).await.unwrap();
    }
    let done = run(&fs, "scp -r -p -f tree", &"\0".repeat(30)).await;
    assert_eq!(done.status.unwrap(), 0);
    let t = "T10 0 20 0\n";
    let wanted = format!("{t}D0700 0 tree\n{t}C0700 5 a\nhello\0{t}D0700 0 sub\n{t}C0700 0 b\n\0E\nE\n");
    assert_eq!(done.out, wanted);
    // Without -r it is not what was asked for.
    let done = run(&fs, "scp -f tree nothing tree/a", &"\0".repeat(9)).await;
    assert_eq!(done.status.unwrap(), 1);
    let (first, rest) = done.out.split_once('\n').unwrap();
    assert_eq!(first, "\x01scp: /base/tree: not a regular file");
    let (second, rest) = rest.split_once('\n').unwrap();
    assert_eq!(second, format!("\x01scp: /base/nothing: {}", ErrorKind::NotFound.words()));
    assert_eq!(rest, "C0700 5 a\nhello\0");
    // What the client does not want is left out, and counted.
    let done = run(&fs, "scp -r -f tree", "\0\0\x01no\n\0\0\0\0\0\0\0").await;
    assert_eq!(done.status.unwrap(), 1);
    assert_eq!(done.out, "D0700 0 tree\nC0700 5 a\nD0700 0 sub\nC0700 0 b\n\0E\nE\n");
}

#[tokio::test]
async fn patterns_and_quotes_are_a_shells() {
    let fs = memory().await;
    for name in ["a.txt", "b.txt", ".c.txt", "*.txt", "d", "x/1", "y/1", "z/2"] {
        put(&fs, &format!("/base/{name}"), "").await;
    }
    let sent = async |command: &str| {
        let done = run(&fs, command, &"\0".repeat(20)).await;
        done.out.split('\0').filter_map(|l| l.trim().strip_prefix("C0644 0 ").map(str::to_owned)).collect()
    };
    let names: Vec<String> = sent("scp -f *.txt").await;
    assert_eq!(names, ["*.txt", "a.txt", "b.txt"]);
    let names: Vec<String> = sent("scp -f '*.txt'").await;
    assert_eq!(names, ["*.txt"]);
    let names: Vec<String> = sent(r"scp -f \*.txt ~/[ab].txt").await;
    assert_eq!(names, ["*.txt", "a.txt", "b.txt"]);
    let names: Vec<String> = sent("scp -f /base/[xyz]/1").await;
    assert_eq!(names, ["1", "1"]);
    let done = run(&fs, "scp -f n*", "\0").await;
    assert_eq!(done.out, format!("\x01scp: /base/n*: {}\n", ErrorKind::NotFound.words()));
}

#[tokio::test]
async fn links_are_followed_and_loops_are_named() {
    let fs = memory().await;
    put(&fs, "/base/tree/a", "hello").await;
    put(&fs, "/base/other/b", "there").await;
    fs.symlink(b"/base/other", &p("/base/tree/l")).await.unwrap();
    fs.symlink(b"..", &p("/base/tree/up")).await.unwrap();
    fs.symlink(b"a", &p("/base/tree/z")).await.unwrap();
    let done = run(&fs, "scp -r -f tree", &"\0".repeat(30)).await;
    assert_eq!(done.status.unwrap(), 1);
    assert!(done.out.contains("D0755 0 l\nC0644 5 b\nthere\0E\n"), "{}", done.out);
    assert!(done.out.contains("\x01scp: /base/tree/up: the link leads back"), "{}", done.out);
    assert!(done.out.contains("C0644 5 z\nhello\0"), "{}", done.out);
}

/// One name may not be looked at, and one directory not be looked into.
struct Forbidden;

#[async_trait]
impl Interceptor for Forbidden {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Stat, OperationKind::List])
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<()> {
        let record = operation.to_record();
        let listed = record.kind() == OperationKind::List;
        let forbidden: &[u8] = if listed { b"no-list" } else { b"no-look" };
        match record.path().segments().any(|segment| segment == forbidden) {
            true => Err(ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn what_may_not_be_looked_at_keeps_nothing_else_back() {
    let fs = guarded_memory(vec![Arc::new(Forbidden)]).await;
    put(&fs, "/base/a/f", "1").await;
    put(&fs, "/base/z/f", "2").await;
    fs.create_dir(&p("/base/no-look"), &Attributes::none()).await.unwrap();
    fs.create_dir(&p("/base/no-list"), &Attributes::none()).await.unwrap();
    fs.symlink(b"/base/no-look", &p("/base/to-no-look")).await.unwrap();
    fs.symlink(b"nowhere", &p("/base/to-nowhere")).await.unwrap();
    // A pattern stands for what there is besides.
    let done = run(&fs, "scp -f */f", &"\0".repeat(9)).await;
    assert_eq!((done.status.unwrap(), done.out.as_str()), (0, "C0644 1 f\n1\0C0644 1 f\n2\0"));
    // In a tree, and by a pattern that lists them, they are named.
    let denied = ErrorKind::PermissionDenied.words();
    let parts = [
        "D0755 0 a\nC0644 1 f\n1\0E\n".to_owned(),
        format!("D0755 0 no-list\n\x01scp: /base/no-list: {denied}\nE\n"),
        format!("\x01scp: /base/no-look: {denied}\n"),
        format!("\x01scp: /base/to-no-look: {denied}\n"),
        format!("\x01scp: /base/to-nowhere: {}\n", ErrorKind::NotFound.words()),
        "D0755 0 z\nC0644 1 f\n2\0E\n".to_owned(),
    ];
    for command in ["scp -r -f .", "scp -r -f *"] {
        let done = run(&fs, command, &"\0".repeat(30)).await;
        assert_eq!(done.status.unwrap(), 1, "{command}");
        for part in &parts {
            assert!(done.out.contains(part), "{command}: {part:?} is not in {:?}", done.out);
        }
    }
}

/// Keeps what is looked at.
#[derive(Default)]
struct Looks(Mutex<Vec<String>>);

#[async_trait]
impl Interceptor for Looks {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Stat])
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<()> {
        self.0.lock().unwrap().push(operation.to_record().path().display().to_string());
        Ok(())
    }
}

#[tokio::test]
async fn what_a_listing_told_is_not_asked_for_again() {
    let looks = Arc::new(Looks::default());
    let fs = guarded_memory(vec![Arc::clone(&looks) as Arc<dyn Interceptor>]).await;
    put(&fs, "/base/tree/a", "1").await;
    put(&fs, "/base/tree/b", "2").await;
    put(&fs, "/base/tree/sub/c", "3").await;
    put(&fs, "/base/other", "4").await;
    fs.symlink(b"../other", &p("/base/tree/l")).await.unwrap();
    looks.0.lock().unwrap().clear();
    let done = run(&fs, "scp -r -p -f tree", &"\0".repeat(40)).await;
    assert_eq!(done.status.unwrap(), 0, "{}", done.out);
    for part in ["C0644 1 a\n1\0", "C0644 1 b\n2\0", "C0644 1 l\n4\0", "C0644 1 c\n3\0"] {
        assert!(done.out.contains(part), "{part:?} is not in {:?}", done.out);
    }
    // What was named, where the link leads, and whether what is entered is a link by now; the size of each file that is
    // open.
    let mut due = vec!["/base/tree", "/base/tree/l", "/base/other", "/base/tree/sub"];
    due.extend(["/base/tree/a", "/base/tree/b", "/base/other", "/base/tree/sub/c"]);
    due.sort_unstable();
    let mut seen = looks.0.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, due);
}

#[tokio::test]
async fn sums_are_gnus() {
    let fs = memory().await;
    put(&fs, "/base/a b", "abc").await;
    let done = run(&fs, "md5sum 'a b' /base/a?b nothing", "").await;
    assert_eq!(done.status.unwrap(), 1);
    let sum = "900150983cd24fb0d6963f7d28e17f72";
    assert_eq!(done.out, format!("{sum}  a b\n{sum}  /base/a b\n"));
    assert_eq!(done.err, format!("md5sum: nothing: {}\n", ErrorKind::NotFound.words()));
    let done = run(&fs, "sha256sum", "abc").await;
    assert_eq!(done.out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n");
}

#[tokio::test]
async fn nothing_else_is_run() {
    for command in ["ls", "scp -t /; ls", "scp -t $HOME", "/bin/sh", "sha256sum `ls`"] {
        let refused = Builtin::parse(command.as_bytes()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{command}");
    }
}

#[tokio::test]
async fn a_cut_ends_it_and_the_file_is_parked() {
    let store = Store::new();
    let fs = guarded(&store, vec![]);
    let session = Arc::clone(fs.session());
    let begun = stream::iter([Ok(Bytes::from_static(b"C0644 5 f\nab"))]);
    let input = Box::pin(stream::StreamExt::chain(begun, stream::pending()));
    let said = Said::default();
    let heard = said.clone();
    let work = tokio::spawn(Builtin::parse(b"scp -t /f").unwrap().run(fs, input, said));
    while heard.0.lock().unwrap().0.len() < 2 {
        tokio::task::yield_now().await;
    }
    session.cut(session_core::session::Ending::new("enough", session_core::session::Actor::Server));
    assert_eq!(work.await.unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(*store.endings.lock().unwrap(), ["park /f"]);
}
