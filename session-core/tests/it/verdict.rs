//! Uploads that are judged before they are published: what a judge sees, and what others see meanwhile.
#![cfg(feature = "local")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::auth::Account;
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Event, EventSink, TransferEnd, What};
use session_core::fs::*;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use session_core::operation::{OperationKind, OperationSet, Record};
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;
use session_core::verdict::{Finding, Upload};
use tokio::sync::Semaphore;

/// Reads what it is shown, waits until it may go on, and refuses what contains `bad`; `odd` is a fault.
struct Judge {
    shown: Mutex<Vec<(String, u64, String)>>,
    asked: Semaphore,
    may: Semaphore,
}

impl Judge {
    fn new(may: usize) -> Arc<Self> {
        Arc::new(Judge { shown: Mutex::default(), asked: Semaphore::new(0), may: Semaphore::new(may) })
    }

    fn shown(&self) -> Vec<(String, u64, String)> {
        std::mem::take(&mut *self.shown.lock().unwrap())
    }

    async fn was_asked(&self) {
        self.asked.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl Interceptor for Judge {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Commit])
    }

    fn judges(&self) -> bool {
        true
    }

    async fn judge(&self, _: &Cx<'_>, upload: &Upload<'_>) -> Result<Option<Finding>, Error> {
        let text = match upload.content {
            Some(content) => read_all(content).await,
            None => "nothing".into(),
        };
        self.shown.lock().unwrap().push((upload.path.to_string(), upload.size, text.clone()));
        self.asked.add_permits(1);
        self.may.acquire().await.unwrap().forget();
        match text {
            t if t.contains("bad") => Err(Error::refused("it is bad")),
            t if t.contains("odd") => Err(ErrorKind::Disconnected.into()),
            _ => Ok(Some(Finding::new("judge", "good"))),
        }
    }
}

#[derive(Default)]
struct Sink(Mutex<Vec<Event>>);

impl EventSink for Sink {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

struct World {
    area: Arc<StagingArea>,
    sink: Arc<Sink>,
    judge: Arc<Judge>,
}

impl World {
    fn new(may: usize) -> Self {
        let area = StagingArea::new(
            Arc::new(MemoryStore::new()),
            StagingPolicy::default(),
            Arc::new(SystemTime::now),
        );
        World { area: area.unwrap(), sink: Arc::default(), judge: Judge::new(may) }
    }

    fn session(&self, user: &str) -> SessionFs {
        let mut setup = Setup::new(Protocol::Local, "test");
        setup.sink = Some(Arc::clone(&self.sink) as Arc<dyn EventSink>);
        let session = Session::new(setup);
        let identity = session.log_in(Account::named(user), vec![]).unwrap();
        let files = Arc::new(Staged::new(Owner::account(user), Arc::clone(&self.area)));
        let chain = Chain::new(vec![Arc::clone(&self.judge) as Arc<dyn Interceptor>]);
        session.guard(&identity, files, chain).unwrap()
    }

    /// The endings of uploads, in order.
    fn ends(&self) -> Vec<TransferEnd> {
        let events = self.sink.0.lock().unwrap();
        let ends = events.iter().filter_map(|e| match &e.what {
            What::Transfer(t) if t.direction == session_core::event::Direction::Upload => Some(t.end),
            _ => None,
        });
        ends.collect()
    }

    /// The records of commits that ended.
    fn commits(&self) -> Vec<(session_core::operation::Commit, Option<ErrorKind>)> {
        let events = self.sink.0.lock().unwrap();
        let commits = events.iter().filter_map(|e| match &e.what {
            What::Ended { record: Record::Commit(c), error, .. } => {
                Some((c.clone(), error.as_ref().map(Error::kind)))
            }
            _ => None,
        });
        commits.collect()
    }
}

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

async fn read_all(file: &Arc<dyn File>) -> String {
    String::from_utf8(file.read_into(0, 1 << 20, BytesMut::new()).await.unwrap().to_vec()).unwrap()
}

async fn read(fs: &SessionFs, path: &str) -> Result<String> {
    Ok(read_all(&fs.open(&p(path), &OpenOptions::read()).await?).await)
}

async fn begin(fs: &SessionFs, path: &str, content: &str) -> Arc<dyn File> {
    let file = fs.open(&p(path), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
    file
}

async fn commit(file: &Arc<dyn File>) -> Result<()> {
    file.commit(&CommitOptions::default()).await.map(drop)
}

#[tokio::test]
async fn nobody_sees_an_upload_before_the_verdict_and_the_writer_waits_for_it() {
    let w = World::new(1);
    let (ann, bob) = (w.session("ann"), w.session("bob"));
    commit(&begin(&bob, "/f", "old").await).await.unwrap();
    w.judge.was_asked().await;
    let file = begin(&ann, "/f", "new!").await;
    let waiting = tokio::spawn(async move { commit(&file).await });
    w.judge.was_asked().await;
    assert_eq!(read(&bob, "/f").await.unwrap(), "old");
    assert_eq!(bob.stat(&p("/f"), Follow::Yes).await.unwrap().size, 3);
    assert_eq!(read(&ann, "/f").await.unwrap(), "new!");
    assert!(!waiting.is_finished());
    w.judge.may.add_permits(1);
    waiting.await.unwrap().unwrap();
    assert_eq!(read(&bob, "/f").await.unwrap(), "new!");
    assert_eq!(w.judge.shown()[1], ("/f".into(), 4, "new!".into()));
    let (record, error) = w.commits()[1].clone();
    assert_eq!((record.findings, record.early, error), (vec![Finding::new("judge", "good")], false, None));
}

#[tokio::test]
async fn what_is_refused_is_thrown_away_and_a_fault_keeps_it() {
    let w = World::new(100);
    let ann = w.session("ann");
    commit(&begin(&ann, "/f", "old").await).await.unwrap();
    let e = commit(&begin(&ann, "/f", "bad").await).await.unwrap_err();
    assert_eq!((e.kind(), e.peer_words().contains("it is bad")), (ErrorKind::Refused, true));
    assert_eq!((read(&ann, "/f").await.unwrap(), w.area.parked().len()), ("old".into(), 0));
    let file = begin(&ann, "/f", "odd").await;
    assert_eq!(commit(&file).await.unwrap_err().kind(), ErrorKind::Disconnected);
    drop(file);
    assert_eq!(read(&w.session("bob"), "/f").await.unwrap(), "old");
    assert_eq!(w.area.parked()[0].size, 3);
    assert_eq!(w.ends(), [TransferEnd::Done, TransferEnd::Aborted, TransferEnd::Parked]);
}

#[tokio::test]
async fn a_session_that_ends_while_it_waits_parks_and_publishes_nothing() {
    let w = World::new(0);
    let (ann, bob) = (w.session("ann"), w.session("bob"));
    let file = begin(&ann, "/f", "new").await;
    let waiting = tokio::spawn(async move { commit(&file).await });
    w.judge.was_asked().await;
    let ending = Ending::new("test", Actor::Admin("x".into()));
    let left = ann.session().terminate(ending, Duration::from_secs(10)).await;
    assert_eq!(left.in_flight, 0);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    w.judge.may.add_permits(10);
    assert_eq!(read(&bob, "/f").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((w.area.parked()[0].size, w.ends()), (3, vec![TransferEnd::Parked]));
    // Its owner comes back and has it judged.
    let again = w.session("ann");
    let resume = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    commit(&again.open(&p("/f"), &resume).await.unwrap()).await.unwrap();
    assert_eq!(read(&bob, "/f").await.unwrap(), "new");
}

#[tokio::test]
async fn of_several_handles_only_the_last_one_is_judged() {
    let w = World::new(100);
    let ann = w.session("ann");
    let one = begin(&ann, "/f", "ab").await;
    let resume = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let two = ann.open(&p("/f"), &resume).await.unwrap();
    two.write_at(2, Bytes::from_static(b"cd")).await.unwrap();
    commit(&one).await.unwrap();
    assert_eq!(w.judge.shown(), []);
    commit(&two).await.unwrap();
    assert_eq!(w.judge.shown(), [("/f".into(), 4, "abcd".into())]);
    let early: Vec<_> = w.commits().iter().map(|(c, _)| c.early).collect();
    assert_eq!(early, [true, false]);
}

#[tokio::test]
async fn each_upload_of_one_name_is_judged_by_its_own_content() {
    let w = World::new(100);
    let ann = w.session("ann");
    let first = begin(&ann, "/f", "bad").await;
    // What stands under the name for its owner is the second one.
    let second = begin(&ann, "/f", "good").await;
    assert_eq!(commit(&first).await.unwrap_err().kind(), ErrorKind::Refused);
    commit(&second).await.unwrap();
    let shown: Vec<_> = w.judge.shown().into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(shown, ["bad", "good"]);
    assert_eq!(read(&ann, "/f").await.unwrap(), "good");
}
