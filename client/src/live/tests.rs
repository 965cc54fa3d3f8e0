//! Tables asked through their sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

struct Fake {
    limiter: Arc<Limiter>,
    stopped: AtomicBool,
    /// Dropped when it is stopped.
    registered: Mutex<Option<Registered>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Fake {
            limiter: Arc::new(Limiter::new(7)),
            stopped: AtomicBool::new(false),
            registered: Mutex::default(),
        })
    }
}

impl Live for Fake {
    fn progress(&self) -> Progress {
        Progress {
            files_done: 1,
            files_total: 2,
            bytes_done: 100,
            bytes_total: 1000,
            rate: 90.0,
            current: vec![("é".repeat(1000).into(), 1, 2); 40],
            ..Progress::default()
        }
    }

    fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(&self.limiter)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.registered.lock().unwrap().take();
    }
}

fn what() -> What {
    What { command: "get".into(), source: "a".into(), target: "b".into() }
}

#[tokio::test]
async fn a_transfer_is_seen_slowed_paused_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("run/ferry");
    assert!(ask::list(&at).await.unwrap().is_empty());
    let table = Table::new(&at);
    let fake = Fake::new();
    let (registered, error) = table.enter(Some("one".into()), what(), Arc::<Fake>::clone(&fake));
    assert!(error.is_none(), "{error:?}");
    *fake.registered.lock().unwrap() = Some(registered);
    let (other, _) = table.enter(None, what(), Fake::new());
    assert_ne!(other.id(), "one");

    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    let socket = at.join(format!("{}.sock", std::process::id()));
    assert_eq!((mode(&at), mode(&socket)), (0o700, 0o600));

    let seen = ask::list(&at).await.unwrap();
    assert_eq!(seen.len(), 2);
    let one = seen.iter().find(|seen| seen.job == "one").unwrap();
    assert_eq!((one.pid, one.rate(), one.limit(), one.is_paused()), (std::process::id(), 90, 7, false));
    assert_eq!((one.files(), one.bytes(), one.left()), ((1, 2), (100, 1000), Some(Duration::from_secs(10))));
    assert_eq!(one.told["current"].as_array().unwrap().len(), NAMED);

    ask::tell(&at, "one", &Request::Limit(1 << 20)).await.unwrap();
    ask::tell(&at, "one", &Request::Pause).await.unwrap();
    assert!(fake.limiter.is_paused() && fake.limiter.rate() == 1 << 20);
    ask::tell(&at, "one", &Request::Resume).await.unwrap();
    assert!(!fake.limiter.is_paused());
    assert_eq!(ask::tell(&at, "none", &Request::Pause).await.unwrap_err().kind(), ErrorKind::NotFound);

    ask::tell(&at, "one", &Request::Kill).await.unwrap();
    assert!(fake.stopped.load(Ordering::SeqCst));
    assert_eq!(ask::list(&at).await.unwrap().len(), 1);
    drop(other);
    assert!(!socket.exists(), "the socket goes with the last transfer");
    // And comes back with the next one.
    let (again, _) = table.enter(None, what(), Fake::new());
    assert_eq!(ask::list(&at).await.unwrap().first().unwrap().job, again.id());
}

#[tokio::test]
async fn what_is_no_question_is_answered_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("x");
    let table = Table::new(&at);
    let (_registered, _) = table.enter(Some("one".into()), what(), Fake::new());
    let long = format!("\"{}\"\n", "x".repeat(10_000));
    for (question, kind) in [
        ("{}\n", "Unsupported"),
        ("nonsense\n", "InvalidArgument"),
        (long.as_str(), "InvalidArgument"),
        ("{\"schema\":\"ferry.live/2\",\"do\":\"list\"}\n", "Unsupported"),
        ("{\"schema\":\"ferry.live/1\",\"do\":\"burn\",\"job\":\"one\"}\n", "InvalidArgument"),
        ("{\"schema\":\"ferry.live/1\",\"do\":\"kill\"}\n", "InvalidArgument"),
        ("{\"schema\":\"ferry.live/1\",\"do\":\"limit\",\"job\":\"one\",\"rate\":-1}\n", "InvalidArgument"),
        ("{\"schema\":\"ferry.live/1\",\"do\":\"kill\",\"job\":\"two\"}\n", "NotFound"),
    ] {
        let mut socket = UnixStream::connect(at.join(format!("{}.sock", std::process::id()))).await.unwrap();
        // It may answer before everything was sent.
        let _ = socket.write_all(question.as_bytes()).await;
        let mut answer = String::new();
        let read = socket.read_to_string(&mut answer).await;
        if question.len() > 4096 && (read.is_err() || answer.is_empty()) {
            // Who sends more than is read may not get the answer.
            continue;
        }
        let v: Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
        let known = ErrorKind::ALL.into_iter().find(|k| v["error"]["kind"] == k.name()).unwrap();
        assert_eq!(format!("{known:?}"), kind, "{question}");
    }
}

#[tokio::test]
async fn sockets_of_the_dead_go_and_a_directory_of_others_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("x");
    let table = Table::new(&at);
    let (registered, _) = table.enter(None, what(), Fake::new());
    // As a process that was killed leaves it: no process has that number.
    let dead = at.join("2147483647.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    std::fs::write(at.join("1.sock"), "no socket").unwrap();
    assert_eq!(ask::list(&at).await.unwrap().len(), 1);
    assert!(!dead.exists() && at.join("1.sock").exists());
    drop(registered);

    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o770)).unwrap();
    let table = Table::new(&open);
    let (registered, error) = table.enter(None, what(), Fake::new());
    assert_eq!(error.unwrap().kind(), ErrorKind::PermissionDenied);
    assert!(ask::list(&open).await.unwrap().is_empty());
    drop(registered);
}

#[test]
fn rates() {
    assert_eq!((parse_rate("off").unwrap(), parse_rate("2M").unwrap()), (0, 2 << 20));
    assert!(parse_rate("fast").is_err());
}
