//! The gate from outside: links, refusals, rewrites, events, the cut.
#![cfg(feature = "local")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::auth::Account;
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Event, EventSink, TransferEnd, TransferRecord, What};
use session_core::fs::*;
use session_core::gate::{MAX_LINKS, SessionFs};
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::metadata::Attributes;
use session_core::operation::{Operation, OperationSet, Outcome, Record};
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

#[derive(Default)]
struct Sink(Mutex<Vec<Event>>);

impl EventSink for Sink {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

struct World {
    dir: tempfile::TempDir,
    session: Arc<Session>,
    fs: SessionFs,
    sink: Arc<Sink>,
}

fn world(links: Vec<Arc<dyn Interceptor>>) -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    let sink = Arc::new(Sink::default());
    let mut setup = Setup::new(Protocol::Local, "test");
    setup.sink = Some(Arc::clone(&sink) as Arc<dyn EventSink>);
    let session = Session::new(setup);
    let identity = session.log_in(Account::named("alice"), vec![]).unwrap();
    let fs = session.guard(&identity, Arc::new(store), Chain::new(links)).unwrap();
    World { dir, session, fs, sink }
}

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

async fn write(fs: &SessionFs, path: &str, content: &'static [u8]) -> Result<()> {
    let file = fs.open(&p(path), &OpenOptions::create()).await?;
    file.write_at(0, Bytes::from_static(content)).await?;
    file.commit(&CommitOptions::default()).await.map(|_| ())
}

async fn read(fs: &SessionFs, path: &str) -> Result<Vec<u8>> {
    let file = fs.open(&p(path), &OpenOptions::read()).await?;
    Ok(file.read_into(0, 1 << 20, BytesMut::new()).await?.to_vec())
}

/// Records what it was asked, and refuses what a test wants refused.
#[derive(Default)]
struct Witness {
    before: Mutex<Vec<Record>>,
    after: Mutex<Vec<(Record, Option<ErrorKind>)>>,
    transfers: Mutex<Vec<TransferRecord>>,
    refuse: Option<fn(&Record) -> bool>,
}

#[async_trait]
impl Interceptor for Witness {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        let record = operation.to_record();
        self.before.lock().unwrap().push(record.clone());
        match self.refuse {
            Some(refuse) if refuse(&record) => Err(Error::refused("no")),
            _ => Ok(()),
        }
    }

    fn after(&self, _: &Cx<'_>, record: &Record, outcome: &Outcome) {
        self.after.lock().unwrap().push((record.clone(), outcome.result.as_ref().err().map(Error::kind)));
    }

    fn transferred(&self, _: &Arc<Session>, transfer: &TransferRecord) {
        self.transfers.lock().unwrap().push(transfer.clone());
    }
}

#[tokio::test]
async fn links_are_followed_and_every_path_on_the_way_is_asked() {
    let witness = Arc::new(Witness::default());
    let w = world(vec![Arc::clone(&witness) as Arc<dyn Interceptor>]);
    std::fs::create_dir_all(w.dir.path().join("a/b")).unwrap();
    std::fs::write(w.dir.path().join("a/b/file"), "inside").unwrap();
    std::os::unix::fs::symlink("a/b", w.dir.path().join("rel")).unwrap();
    std::os::unix::fs::symlink("/rel/file", w.dir.path().join("abs")).unwrap();
    assert_eq!(read(&w.fs, "/abs").await.unwrap(), b"inside");
    let asked: Vec<String> = witness
        .before
        .lock()
        .unwrap()
        .iter()
        .filter(|r| matches!(r, Record::Open(_)))
        .map(|r| r.path().display())
        .collect();
    assert_eq!(asked, ["/abs", "/rel/file", "/a/b/file"]);
    let told = witness.after.lock().unwrap().iter().filter(|(r, _)| matches!(r, Record::Open(_))).count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_policy_on_the_target_is_not_passed_by_a_link() {
    let refuse: fn(&Record) -> bool = |r| r.path().starts_with(&p("/secret"));
    let w = world(vec![Arc::new(Witness { refuse: Some(refuse), ..Witness::default() })]);
    std::fs::create_dir(w.dir.path().join("secret")).unwrap();
    std::fs::write(w.dir.path().join("secret/key"), "x").unwrap();
    std::os::unix::fs::symlink("secret", w.dir.path().join("open")).unwrap();
    for path in ["/open/key", "/secret/key"] {
        assert_eq!(read(&w.fs, path).await.unwrap_err().kind(), ErrorKind::Refused);
    }
    assert_eq!(write(&w.fs, "/open/new", b"x").await.unwrap_err().kind(), ErrorKind::Refused);
    assert!(!w.dir.path().join("secret/new").exists());
}

#[tokio::test]
async fn links_that_lead_out_or_around_end_in_an_error() {
    let w = world(vec![]);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("f"), "outside").unwrap();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, w.dir.path().join(name)).unwrap();
    };
    link("../up", "climbs");
    link(outside.path().to_str().unwrap(), "absolute");
    link("loop", "loop");
    for n in 0..=MAX_LINKS {
        link(&format!("chain{}", n + 1), &format!("chain{n}"));
    }
    assert_eq!(read(&w.fs, "/climbs").await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(read(&w.fs, "/absolute/f").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(read(&w.fs, "/loop").await.unwrap_err().kind(), ErrorKind::LinkLoop);
    assert_eq!(read(&w.fs, "/chain0").await.unwrap_err().kind(), ErrorKind::LinkLoop);
    // What acts on the link itself acts on the link.
    assert!(w.fs.stat(&p("/loop"), Follow::No).await.unwrap().is_symlink());
    w.fs.rename(&p("/loop"), &p("/renamed"), Replace::No).await.unwrap();
    w.fs.remove_file(&p("/climbs")).await.unwrap();
    assert!(w.dir.path().join("renamed").is_symlink());
}

#[tokio::test]
async fn refusing_everything_changes_nothing_and_tells_each_operation_once() {
    let refuse: fn(&Record) -> bool = |_| true;
    let witness = Arc::new(Witness { refuse: Some(refuse), ..Witness::default() });
    let w = world(vec![Arc::clone(&witness) as Arc<dyn Interceptor>]);
    std::fs::write(w.dir.path().join("f"), "old").unwrap();
    std::fs::create_dir(w.dir.path().join("d")).unwrap();
    let (f, d, n) = (p("/f"), p("/d"), p("/n"));
    let none = Attributes::none();
    let refused: Vec<ErrorKind> = vec![
        w.fs.stat(&f, Follow::Yes).await.err().unwrap().kind(),
        w.fs.list(&d, &ListOptions::default()).await.err().unwrap().kind(),
        w.fs.open(&f, &OpenOptions::create()).await.err().unwrap().kind(),
        w.fs.create_dir(&n, &none).await.err().unwrap().kind(),
        w.fs.remove_file(&f).await.err().unwrap().kind(),
        w.fs.remove_dir(&d).await.err().unwrap().kind(),
        w.fs.rename(&f, &n, Replace::Yes).await.err().unwrap().kind(),
        w.fs.set_attributes(&f, &Attributes::mode(0), Follow::Yes).await.err().unwrap().kind(),
        w.fs.copy(&f, &n, Replace::No).await.err().unwrap().kind(),
        w.fs.symlink(b"f", &n).await.err().unwrap().kind(),
        w.fs.hard_link(&f, &n).await.err().unwrap().kind(),
        w.fs.read_link(&f).await.err().unwrap().kind(),
        w.fs.canonicalize(&f).await.err().unwrap().kind(),
        w.fs.space(&f).await.err().unwrap().kind(),
        w.fs.checksum(&f, Algorithm::Md5, 0..1).await.err().unwrap().kind(),
    ];
    assert!(refused.iter().all(|k| *k == ErrorKind::Refused), "{refused:?}");
    assert_eq!(witness.before.lock().unwrap().len(), refused.len());
    assert_eq!(witness.after.lock().unwrap().len(), refused.len());
    let mut names: Vec<_> = std::fs::read_dir(w.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|n| !n.starts_with('.'));
    names.sort();
    assert_eq!(names, ["d", "f"]);
    assert_eq!(std::fs::read(w.dir.path().join("f")).unwrap(), b"old");
    let e = w.fs.stat(&f, Follow::Yes).await.err().unwrap();
    assert_eq!(e.to_string(), "cannot read the attributes of '/f': no");
    assert_eq!(&*w.session.last_error(), e.to_string());
}

/// Sends uploads to another folder.
struct Redirect;

#[async_trait]
impl Interceptor for Redirect {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    fn rewrites(&self) -> bool {
        true
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if let Operation::Open(open) = operation
            && let Some(moved) = open.path.rebase(&p("/in"), &p("/secret"))
        {
            open.path = moved;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_rewrite_does_not_pass_the_refusals() {
    let refuse: fn(&Record) -> bool = |r| r.path().starts_with(&p("/secret"));
    let w = world(vec![Arc::new(Witness { refuse: Some(refuse), ..Witness::default() }), Arc::new(Redirect)]);
    for d in ["in", "secret"] {
        std::fs::create_dir(w.dir.path().join(d)).unwrap();
    }
    assert_eq!(write(&w.fs, "/in/x", b"x").await.unwrap_err().kind(), ErrorKind::Refused);
    assert!(!w.dir.path().join("secret/x").exists());
}

#[tokio::test]
async fn events_are_numbered_without_gaps_and_pair_up() {
    let w = world(vec![]);
    write(&w.fs, "/f", b"abc").await.unwrap();
    assert_eq!(read(&w.fs, "/f").await.unwrap(), b"abc");
    let _ = w.fs.stat(&p("/missing"), Follow::Yes).await;
    w.fs.remove_file(&p("/f")).await.unwrap();
    w.session.close(Ending::new("bye", Actor::Client)).await;
    let events = w.sink.0.lock().unwrap();
    let numbers: Vec<u64> = events.iter().map(|e| e.sequence).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let mut open = std::collections::BTreeSet::new();
    let mut ended = 0;
    for e in events.iter() {
        match &e.what {
            What::Started { id, .. } => assert!(open.insert(*id)),
            What::Ended { id, .. } => {
                assert!(open.remove(id));
                ended += 1;
            }
            _ => {}
        }
        assert!(e.to_json()["event"].is_string());
    }
    assert!(open.is_empty());
    assert_eq!(ended, 5, "open, commit, open, stat, remove");
    assert!(events.iter().any(|e| e.failed_with(ErrorKind::NotFound)));
    let transfers: Vec<_> = events
        .iter()
        .filter_map(|e| {
            if let What::Transfer(t) = &e.what { Some((t.direction.name(), t.bytes, t.end)) } else { None }
        })
        .collect();
    assert_eq!(transfers, [("upload", 3, TransferEnd::Done), ("download", 3, TransferEnd::Done)]);
    assert!(matches!(events.last().unwrap().what, What::Closed(_)));
}

#[tokio::test]
async fn bytes_are_counted_by_direction() {
    let w = world(vec![]);
    write(&w.fs, "/f", &[7; 1000]).await.unwrap();
    read(&w.fs, "/f").await.unwrap();
    read(&w.fs, "/f").await.unwrap();
    let s = w.session.snapshot();
    assert_eq!((s.bytes_received, s.bytes_sent), (1000, 2000));
}

/// A store whose reads and commits wait until they are let go.
struct Slow {
    inner: LocalStore,
    gate: Arc<tokio::sync::Semaphore>,
}

impl session_core::layer::Layer for Slow {
    fn inner(&self) -> &dyn Filesystem {
        &self.inner
    }

    fn stat<'a: 'c, 'b: 'c, 'c>(
        &'a self,
        path: &'b VPath,
        follow: Follow,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<session_core::metadata::Metadata>> + Send + 'c>>
    where
        Self: 'c,
    {
        Box::pin(async move {
            let _ = self.gate.acquire().await;
            self.inner.stat(path, follow).await
        })
    }
}

#[tokio::test]
async fn the_cut_ends_what_waits_and_begins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    let slow = Slow { inner: store, gate: Arc::new(tokio::sync::Semaphore::new(0)) };
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    let fs = session.guard(&identity, Arc::new(slow), Arc::default()).unwrap();
    let file = fs.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    let waiting = {
        let fs = fs.clone();
        tokio::spawn(async move { fs.stat(&p("/"), Follow::Yes).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(session.leases().in_flight(), 1);
    let left = session.terminate(Ending::new("test", Actor::Admin("x".into())), Duration::from_secs(5)).await;
    assert_eq!(left.in_flight, 0);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(fs.stat(&p("/"), Follow::Yes).await.unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(file.write_at(1, Bytes::from_static(b"y")).await.unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(session.ending().unwrap().reason.as_ref(), "test");
    assert_eq!(session.snapshot().state, "closed");
}

#[tokio::test]
async fn a_log_out_revokes_what_was_guarded() {
    let w = world(vec![]);
    w.session.log_out();
    assert_eq!(w.fs.stat(&p("/"), Follow::Yes).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn an_identity_opens_no_other_session() {
    let (a, b) = (world(vec![]), world(vec![]));
    let store = Arc::new(LocalStore::open(a.dir.path(), LocalOptions::default()).unwrap());
    let foreign = b.session.identity().unwrap();
    let refused = a.session.guard(&foreign, store, Arc::default());
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn listings_are_sorted_and_thinned_by_the_gate() {
    struct Hide;
    #[async_trait]
    impl Interceptor for Hide {
        fn interests(&self) -> OperationSet {
            OperationSet::ALL
        }
        async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
            if let Operation::List(list) = operation {
                list.hide.extend([Bytes::from_static(b"*.tmp"), Bytes::from_static(b"b?")]);
            }
            Ok(())
        }
    }
    let w = world(vec![Arc::new(Hide)]);
    for n in ["c", "a", "b1", "b", "x.tmp", "d.txt"] {
        std::fs::write(w.dir.path().join(n), "").unwrap();
    }
    std::fs::create_dir(w.dir.path().join("d")).unwrap();
    let names = |options: ListOptions| {
        let fs = w.fs.clone();
        async move {
            let mut pages = fs.list(&p("/"), &options).await.unwrap();
            let mut names = Vec::new();
            while let Some(page) = pages.next_page().await.unwrap() {
                names.extend(page.into_iter().map(|e| String::from_utf8(e.name.to_vec()).unwrap()));
            }
            names
        }
    };
    let by = |order, after: Option<&'static [u8]>| ListOptions {
        order,
        after: after.map(Bytes::from_static),
        ..ListOptions::default()
    };
    assert_eq!(names(by(Order::Name, None)).await, ["a", "b", "c", "d", "d.txt"]);
    assert_eq!(names(by(Order::Key, None)).await, ["a", "b", "c", "d.txt", "d"]);
    assert_eq!(names(by(Order::Name, Some(b"b"))).await, ["c", "d", "d.txt"]);
}

#[tokio::test]
async fn a_dropped_call_is_still_told() {
    let witness = Arc::new(Witness::default());
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    let slow = Slow { inner: store, gate: Arc::new(tokio::sync::Semaphore::new(0)) };
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    let chain = Chain::new(vec![Arc::clone(&witness) as Arc<dyn Interceptor>]);
    let fs = session.guard(&identity, Arc::new(slow), chain).unwrap();
    let x = p("/x");
    let stat = fs.stat(&x, Follow::Yes);
    assert!(tokio::time::timeout(Duration::from_millis(20), stat).await.is_err());
    let after = witness.after.lock().unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].1, Some(ErrorKind::Canceled));
}
