//! Uploads through the gate: a session over a root over staging over a directory.
#![cfg(feature = "local")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::auth::Account;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::*;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::layers::rooted::Rooted;
use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

struct World {
    dir: tempfile::TempDir,
    area: Arc<StagingArea>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("home/real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("home/link")).unwrap();
        let store = Arc::new(LocalStore::open(dir.path(), LocalOptions::default()).unwrap());
        let area = StagingArea::new(store, StagingPolicy::default(), Arc::new(SystemTime::now)).unwrap();
        World { dir, area }
    }

    fn login(&self, account: &str, links: Vec<Arc<dyn Interceptor>>) -> (Arc<Session>, SessionFs) {
        let session = Session::new(Setup::new(Protocol::Local, "test"));
        let identity = session.log_in(Account::named(account), vec![]).unwrap();
        let staged = Staged::new(Owner::account(account), Arc::clone(&self.area));
        let rooted = Rooted::new(Arc::new(staged), p("/home"));
        let fs = session.guard(&identity, Arc::new(rooted), Chain::new(links)).unwrap();
        (session, fs)
    }

    /// How many files the store keeps staged.
    fn staged(&self) -> usize {
        let folder = self.dir.path().join(".ferry-stage");
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        names.filter(|e| !e.file_name().to_string_lossy().ends_with(".note")).count()
    }
}

async fn upload(fs: &SessionFs, path: &str, content: &'static str) -> Arc<dyn File> {
    let file = fs.open(&p(path), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(content.as_bytes())).await.unwrap();
    file
}

async fn read(fs: &SessionFs, path: &str) -> Result<Bytes> {
    let file = fs.open(&p(path), &OpenOptions::read()).await?;
    Ok(file.read_into(0, 100, BytesMut::new()).await?.freeze())
}

#[tokio::test]
async fn an_upload_over_a_link_is_one_upload_under_both_names() {
    let w = World::new();
    let (_session, fs) = w.login("ann", vec![]);
    let (_other, others) = w.login("bob", vec![]);
    let file = upload(&fs, "/link/f", "content").await;
    assert_eq!(read(&fs, "/link/f").await.unwrap(), "content");
    assert_eq!(read(&fs, "/real/f").await.unwrap(), "content");
    assert_eq!(read(&others, "/real/f").await.unwrap_err().kind(), ErrorKind::NotFound);
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(read(&others, "/link/f").await.unwrap(), "content");
    assert_eq!(std::fs::read(w.dir.path().join("home/real/f")).unwrap(), b"content");
    assert_eq!(w.staged(), 0);
}

#[tokio::test]
async fn a_session_that_is_ended_parks_its_uploads() {
    let w = World::new();
    let (session, fs) = w.login("ann", vec![]);
    std::fs::write(w.dir.path().join("home/f"), "old").unwrap();
    let file = upload(&fs, "/f", "half").await;
    session.terminate(Ending::new("test", Actor::Admin("x".into())), Duration::from_secs(1)).await;
    let late = file.commit(&CommitOptions::default()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Canceled);
    drop((file, fs));
    assert_eq!(std::fs::read(w.dir.path().join("home/f")).unwrap(), b"old");
    let (_session, fs) = w.login("ann", vec![]);
    assert_eq!(fs.stat(&p("/f"), Follow::Yes).await.unwrap().size, 4);
    let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let file = fs.open(&p("/f"), &options).await.unwrap();
    file.write_at(4, Bytes::from_static(b" and half")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(std::fs::read(w.dir.path().join("home/f")).unwrap(), b"half and half");
    assert_eq!(w.staged(), 0);
}

struct NoCommit;

#[async_trait]
impl Interceptor for NoCommit {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Commit])
    }

    async fn before(&self, _: &Cx<'_>, _: Operation<'_>) -> Result<(), Error> {
        Err(Error::refused("not today"))
    }
}

#[tokio::test]
async fn a_refused_commit_leaves_the_old_content_and_nothing_else() {
    let w = World::new();
    let (_session, fs) = w.login("ann", vec![Arc::new(NoCommit)]);
    std::fs::write(w.dir.path().join("home/f"), "old").unwrap();
    let file = upload(&fs, "/f", "new").await;
    let refused = file.commit(&CommitOptions::default()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.peer_words()), (ErrorKind::Refused, "not today"));
    drop(file);
    assert_eq!(read(&fs, "/f").await.unwrap(), "old");
    assert_eq!(w.area.parked(), []);
    assert_eq!(w.staged(), 0);
}
