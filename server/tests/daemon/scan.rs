//! Uploads that a scanner looks at before they are published: a clamd of our own, a real `ferryd`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use session_core::error::ErrorKind;
use session_core::fs::{CommitOptions, Filesystem as _, OpenOptions};

use self::icap_server::{IcapServer, Reply, answer, given_back};
use crate::support::*;

#[path = "../support/icap_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared, and used in part")]
mod icap_server;

/// Speaks clamd's INSTREAM: what contains `VIRUS` is found, what contains `WAIT` is never answered.
struct Clamd {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    waiting: Arc<AtomicUsize>,
}

impl Clamd {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, waiting) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let theirs = (Arc::clone(&seen), Arc::clone(&waiting));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, waiting) = (Arc::clone(&theirs.0), Arc::clone(&theirs.1));
                std::thread::spawn(move || drop(serve(stream, &seen, &waiting)));
            }
        });
        Clamd { port, seen, waiting }
    }

    fn lines(&self, more: &str) -> String {
        format!("[scan]\nclamd = \"127.0.0.1:{}\"\n{more}\n", self.port)
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>, waiting: &AtomicUsize) -> std::io::Result<()> {
    let mut command = [0; 10];
    stream.read_exact(&mut command)?;
    assert_eq!(&command, b"zINSTREAM\0");
    let mut content = Vec::new();
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        if len == 0 {
            break;
        }
        let start = content.len();
        content.resize(start + len, 0);
        stream.read_exact(&mut content[start..])?;
    }
    let text = String::from_utf8_lossy(&content).into_owned();
    let found = text.contains("VIRUS");
    if text.contains("WAIT") {
        waiting.fetch_add(1, Ordering::SeqCst);
        // Until the other side has had enough.
        return stream.read(&mut [0]).map(drop);
    }
    seen.lock().unwrap().push(text);
    stream.write_all(if found { b"stream: Test.Virus FOUND\0" } else { b"stream: OK\0" })
}

#[tokio::test]
async fn what_the_scanner_finds_is_refused_and_goes_into_quarantine() {
    let clamd = Clamd::start();
    let config = clamd.lines("infected = \"quarantine\"\ndigest = \"sha256\"")
        + "[log]\naudit = \"audit\"\n"
        + &user("alice");
    let s = Server::start(&config, &[]);
    let a = s.login("alice").await;
    put(&a, "/f", "abc").await.unwrap();
    let e = put(&a, "/f", "a VIRUS").await.err().unwrap();
    assert!(format!("{e:#}").contains("the scanner found Test.Virus"), "{e:#}");
    assert_eq!(std::fs::read_to_string(s.home("alice").join("f")).unwrap(), "abc");
    assert_eq!(*clamd.seen.lock().unwrap(), ["abc", "a VIRUS"]);
    let mut kept: Vec<_> = std::fs::read_dir(s.data.join("quarantine")).unwrap().flatten().collect();
    kept.sort_by_key(std::fs::DirEntry::file_name);
    assert_eq!(kept.len(), 2);
    assert_eq!(std::fs::read_to_string(kept[0].path()).unwrap(), "a VIRUS");
    let note: serde_json::Value = serde_json::from_slice(&std::fs::read(kept[1].path()).unwrap()).unwrap();
    assert_eq!((&note["user"], &note["path"]), (&"alice".into(), &"/f".into()));
    assert_eq!((&note["reason"], &note["size"]), (&"Test.Virus".into(), &7.into()));
    let audit = || std::fs::read_to_string(s.data.join("audit")).unwrap();
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    until("the verdict in the audit", || audit().contains(digest)).await;
    // An upload in place is scanned too.
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    let file = a.fs().open(&path("/f"), &options).await.unwrap();
    file.write_at(3, "VIRUS".into()).await.unwrap();
    assert!(file.commit(&CommitOptions::default()).await.is_err());
    assert_eq!(std::fs::read_to_string(s.home("alice").join("f")).unwrap(), "abc");
}

/// Sent over each protocol in turn, looked at over all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_an_upload_while_it_is_scanned_over_any_protocol_and_a_kill_keeps_it_unseen() {
    let ways = ["sftp", "scp", "ftp", "dav", "s3plain"].map(Way::of);
    for sender in ways {
        let scheme = sender.scheme;
        let clamd = Clamd::start();
        let shared = "home = \"shared\"\n";
        let users = [user_everywhere("alice"), shared.into(), user_everywhere("bob"), shared.into()].concat();
        let config = format!("data = \".\"\n{EVERYWHERE}{}{users}", clamd.lines(""));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ferryd.toml"), config).unwrap();
        // What the others call a folder is a bucket of S3.
        let there = dir.path().join("shared/bucket");
        std::fs::create_dir_all(&there).unwrap();
        std::fs::write(there.join("f"), "old").unwrap();
        let at = |way: Way| if way.is_s3() { "/f" } else { "/bucket/f" };
        let mut s = Server::at_own(dir.path());
        let a = sender.login(&s, "alice").await;
        // So large that a crash loses nothing of it.
        let content = format!("WAIT{}", "x".repeat(2 << 20));
        let file = begin(&a, &sender.text(at(sender)), &content).await.unwrap();
        let waiting = tokio::spawn(async move { file.commit(&CommitOptions::default()).await });
        until("the scanner is asked", || clamd.waiting.load(Ordering::SeqCst) == 1).await;
        for way in ways {
            let bob = way.login(&s, "bob").await;
            assert_eq!(get(&bob, &way.text(at(way))).await.unwrap(), "old", "{scheme}, by {}", way.scheme);
            assert_eq!(names(&bob, "/bucket").await.unwrap(), ["f"], "{scheme}, by {}", way.scheme);
        }
        assert!(!waiting.is_finished());
        s.signal("KILL");
        s.ended().await;
        // Who asks once more finds nobody.
        a.session().cut(session_core::session::Ending::new("over", session_core::session::Actor::Client));
        assert!(waiting.await.unwrap().is_err());
        assert_eq!(std::fs::read_to_string(there.join("f")).unwrap(), "old", "{scheme}");
        let s = Server::at_own(dir.path());
        // What arrived is its owner's to continue, and nobody else's to see.
        let f = path("/bucket/f");
        let left = s.login("alice").await.fs().stat(&f, session_core::fs::Follow::Yes).await.unwrap();
        // Of S3 nothing is kept: an object is sent anew.
        let kept = if sender.is_s3() { 3 } else { content.len() as u64 };
        assert_eq!(left.size, kept, "{scheme}");
        assert_eq!(get(&s.login("bob").await, "/bucket/f").await.unwrap(), "old", "{scheme}");
    }
}

#[tokio::test]
async fn what_cannot_be_scanned_is_kept_for_its_sender_and_not_published() {
    let clamd = Clamd::start();
    let config = clamd.lines("time = \"300ms\"\nlargest = 10") + &user("alice");
    let s = Server::start(&config, &[]);
    let a = s.login("alice").await;
    let e = put(&a, "/slow", "WAIT").await.err().unwrap();
    assert!(format!("{e:#}").contains("could not be checked"), "{e:#}");
    assert!(!s.home("alice").join("slow").exists());
    assert_eq!(a.fs().stat(&path("/slow"), session_core::fs::Follow::Yes).await.unwrap().size, 4);
    assert!(put(&a, "/large", "01234567890").await.is_err());
    assert_eq!(
        a.fs().stat(&path("/large"), session_core::fs::Follow::Yes).await.err().unwrap().kind(),
        ErrorKind::NotFound
    );
    put(&a, "/fits", "0123456789").await.unwrap();
}

#[tokio::test]
async fn two_scanners_must_agree() {
    let clamd = Clamd::start();
    let icap = IcapServer::start("Methods: REQMOD\r\nPreview: 4\r\n", |asked| match asked.whole {
        false => Reply::Continue,
        true if asked.body.ends_with(b"SECRET") => {
            Reply::Say(given_back("res", "HTTP/1.1 403 Forbidden\r\n\r\n", b"no"))
        }
        true => Reply::Say(answer("204 No Content", "")),
    });
    let config = clamd.lines(&format!("icap = \"icap://127.0.0.1:{}/dlp\"", icap.port))
        + "infected = \"quarantine\"\ndigest = \"sha256\"\n[log]\naudit = \"audit\"\n"
        + &user("alice");
    let s = Server::start(&config, &[]);
    let a = s.login("alice").await;
    put(&a, "/f", "harmless").await.unwrap();
    let e = put(&a, "/f", "a VIRUS").await.err().unwrap();
    assert!(format!("{e:#}").contains("the scanner found Test.Virus"), "{e:#}");
    let e = put(&a, "/f", "a SECRET").await.err().unwrap();
    assert!(format!("{e:#}").contains("the scanner refused it: HTTP 403"), "{e:#}");
    assert_eq!(std::fs::read_to_string(s.home("alice").join("f")).unwrap(), "harmless");
    assert_eq!(*clamd.seen.lock().unwrap(), ["harmless", "a VIRUS", "a SECRET"]);
    assert_eq!(icap.seen.lock().unwrap().len(), 2, "what the first refuses the second is not shown");
    assert_eq!(std::fs::read_dir(s.data.join("quarantine")).unwrap().count(), 4);
    let audit = || std::fs::read_to_string(s.data.join("audit")).unwrap();
    until("both verdicts in the audit", || {
        audit().lines().any(|l| l.contains("\"clamd\"") && l.contains("\"icap\"") && l.contains("sha256:"))
    })
    .await;
}

#[tokio::test]
async fn without_its_scanner_a_server_publishes_nothing_unless_it_may() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let clamd = format!("clamd = \"127.0.0.1:{port}\"\n");
    let icap = format!("icap = \"icap://127.0.0.1:{port}/s\"\n");
    let pass = clamd.clone() + "on_error = \"pass\"\n";
    for (scan, published) in [(clamd, false), (icap, false), (pass, true)] {
        let s = Server::start(&format!("[scan]\n{scan}{}", user("alice")), &[]);
        let done = put(&s.login("alice").await, "/f", "abc").await;
        assert_eq!((done.is_ok(), s.home("alice").join("f").exists()), (published, published));
    }
}
