//! What holds of a session whatever is done in it: its event log is complete and the same on every way,
//! what is refused changes nothing, what is terminated is over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use session_core::conformance::{self, Subject};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Event, What};
use session_core::fs::{Filesystem, Follow, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::metadata::Attributes;
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::path::VPath;
use session_core::session::{Actor, Ending, SessionId};

use crate::world::{Store, Way, World};

/// Each session's events are numbered without gaps, and each operation has begun once and ended once.
pub fn is_complete(events: &[Event]) {
    let mut sequence: HashMap<SessionId, u64> = HashMap::new();
    let mut open = HashSet::new();
    let mut ended = 0;
    for event in events {
        let last = sequence.entry(event.session.clone()).or_default();
        assert_eq!(event.sequence, *last + 1, "{event:?}");
        *last += 1;
        match &event.what {
            What::Started { id, .. } => assert!(open.insert((event.session.clone(), *id)), "{event:?}"),
            What::Ended { id, .. } => {
                assert!(open.remove(&(event.session.clone(), *id)), "{event:?}");
                ended += 1;
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    assert!(ended > 1000, "only {ended} operations");
}

/// Refuses all that is below the directories of the cases. Those may be made, looked at and removed.
struct RefuseAll;

#[async_trait]
impl Interceptor for RefuseAll {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> Result<()> {
        let of_the_runner = matches!(
            operation.kind(),
            OperationKind::CreateDir | OperationKind::Stat | OperationKind::List | OperationKind::RemoveDir
        );
        if of_the_runner && operation.to_record().path().depth() <= 1 {
            return Ok(());
        }
        Err(Error::refused("no"))
    }
}

/// Whatever the cases try, the store holds what it held.
async fn refusal_changes_nothing(store: Store) {
    let world = World::new(Way::Sftp, store.clone(), Chain::new(vec![Arc::new(RefuseAll)])).await;
    let (alice, _alice) = world.log_in("alice").await;
    let mut subject = Subject::new(alice);
    subject.profile.staged = store.is_staged();
    let report = conformance::run_all(&subject).await;
    assert!(report.failures().len() > 200, "{report}");
    let refused = world.events().iter().filter(|e| e.failed_with(ErrorKind::Refused)).count();
    assert!(refused > 200, "{refused}");
    if let Store::Staged(area) = &store {
        assert_eq!(area.parked(), []);
    }
    let bare = store.view("nobody");
    let roots = bare.list_all(&VPath::root()).await.unwrap();
    assert!(roots.len() > 200, "{}", roots.len());
    for entry in roots {
        let root = VPath::root().join(&entry.name).unwrap();
        let held = bare.list_all(&root).await.unwrap();
        assert!(held.is_empty(), "{root:?} holds {held:?}");
    }
    every_change_is_refused(&*bare, &*subject.fs).await;
}

/// With something there, no change of it gets through.
async fn every_change_is_refused(bare: &dyn Filesystem, refused: &dyn Filesystem) {
    let p = |path: &str| VPath::absolute(path).unwrap();
    bare.create_dir_all(&p("/keep/d")).await.unwrap();
    let (f, n, d) = (p("/keep/f"), p("/keep/n"), p("/keep/d"));
    bare.write_all(&f, Bytes::from_static(b"old")).await.unwrap();
    let before = (bare.list_all(&p("/keep")).await.unwrap(), bare.list_all(&d).await.unwrap());
    let answers = [
        refused.open(&f, &OpenOptions::create()).await.err(),
        refused.open(&f, &OpenOptions::update()).await.err(),
        refused.open(&n, &OpenOptions::create()).await.err(),
        refused.create_dir(&n, &Attributes::none()).await.err(),
        refused.remove_file(&f).await.err(),
        refused.remove_dir(&d).await.err(),
        refused.rename(&f, &n, Replace::No).await.err(),
        refused.rename(&f, &n, Replace::Yes).await.err(),
        refused.set_attributes(&f, &Attributes::mode(0o600), Follow::Yes).await.err(),
        refused.set_attributes(&f, &Attributes::size(1), Follow::Yes).await.err(),
        refused.copy(&f, &n, Replace::No).await.err(),
        refused.symlink(b"f", &n).await.err(),
        refused.hard_link(&f, &n).await.err(),
    ];
    for (n, e) in answers.iter().enumerate() {
        let kind = e.as_ref().map(Error::kind);
        assert_eq!(kind, Some(ErrorKind::PermissionDenied), "change {n}: {e:?}");
    }
    assert_eq!((bare.list_all(&p("/keep")).await.unwrap(), bare.list_all(&d).await.unwrap()), before);
    assert_eq!(bare.read_to_vec(&f, 100).await.unwrap(), b"old");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_through_sftp_changes_nothing() {
    refusal_changes_nothing(Store::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_through_sftp_changes_nothing_under_staging() {
    refusal_changes_nothing(Store::memory().staged()).await;
}

/// Once `terminate` has answered, nothing of the session begins, ends or changes the store any more.
async fn ends_with_terminate(store: Store) {
    let world = World::new(Way::Sftp, store.clone(), Arc::default()).await;
    let (alice, _alice) = world.log_in("alice").await;
    let work = (0..8).map(|task| {
        let alice = alice.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let path = VPath::root().join(format!("{task}-{n}")).unwrap();
                if let Err(e) = alice.write_all(&path, Bytes::from(vec![1; 50_000])).await {
                    return (n, e);
                }
            }
            unreachable!()
        })
    });
    let work: Vec<_> = work.collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let session = world.site.registry.list().pop().unwrap();
    let ending = Ending::new("test", Actor::Admin("x".into()));
    let ended = session.terminate(ending, Duration::from_secs(5)).await;
    assert_eq!(ended.in_flight, 0);
    let held = async || {
        let mut names: Vec<_> = store.view("nobody").list_all(&VPath::root()).await.unwrap();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names.into_iter().map(|e| (e.name, e.metadata.size)).collect::<Vec<_>>()
    };
    let operation = |e: &Event| matches!(e.what, What::Started { .. } | What::Ended { .. });
    let count = || world.events().iter().filter(|e| operation(e)).count();
    let before = (held().await, count());
    for task in work {
        let (done, _) = task.await.unwrap();
        assert!(done > 0, "the session was ended before it did anything");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let events = world.events();
    let late: Vec<_> = events.iter().filter(|e| operation(e)).skip(before.1).collect();
    assert!(late.is_empty(), "{} operations after the end, as {:#?}", late.len(), late.first());
    assert!(held().await == before.0, "the store has changed after the end");
    assert!(world.site.registry.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_after_terminate() {
    ends_with_terminate(Store::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_after_terminate_under_staging_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    ends_with_terminate(Store::local(&dir).staged()).await;
}

/// What is done in a session for the list of what was done; some of it fails.
async fn errand(fs: &dyn Filesystem) {
    let p = |path: &str| VPath::absolute(path).unwrap();
    let failed = |e: Result<()>| assert!(e.is_err());
    fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    failed(fs.create_dir(&p("/d"), &Attributes::none()).await);
    fs.write_all(&p("/d/f"), Bytes::from_static(b"content")).await.unwrap();
    failed(fs.remove_dir(&p("/d")).await);
    fs.set_attributes(&p("/d/f"), &Attributes::mode(0o600), Follow::Yes).await.unwrap();
    assert_eq!(fs.read_to_vec(&p("/d/f"), 100).await.unwrap(), b"content");
    failed(fs.open(&p("/none"), &OpenOptions::read()).await.map(drop));
    fs.rename(&p("/d/f"), &p("/d/g"), Replace::No).await.unwrap();
    failed(fs.rename(&p("/none"), &p("/d/h"), Replace::No).await);
    fs.write_all(&p("/d/h"), Bytes::new()).await.unwrap();
    fs.rename(&p("/d/g"), &p("/d/h"), Replace::Yes).await.unwrap();
    fs.symlink(b"h", &p("/d/l")).await.unwrap();
    fs.remove_file(&p("/d/l")).await.unwrap();
    fs.remove_file(&p("/d/h")).await.unwrap();
    failed(fs.remove_file(&p("/d/h")).await);
    fs.remove_dir(&p("/d")).await.unwrap();
}

/// What a script, a log and a statistic see of the errand, whatever the way: no looks, which each way has
/// as many of as it needs.
const OF_THE_ERRAND: &str = "\
create-dir /d ok
create-dir /d already-exists
open /d/f ok
commit /d/f ok
remove-dir /d not-empty
set-attributes /d/f ok
open /d/f ok
open /none not-found
rename /d/f /d/g ok
rename /none /d/h not-found
open /d/h ok
commit /d/h ok
rename /d/g /d/h ok
symlink /d/l ok
remove-file /d/l ok
remove-file /d/h ok
remove-file /d/h not-found
remove-dir /d ok
";

fn changes(events: &[Event]) -> String {
    let looks = [OperationKind::Stat, OperationKind::List, OperationKind::ReadLink];
    let line = |event: &Event| {
        let What::Ended { record, error, .. } = &event.what else { return None };
        if looks.contains(&record.kind()) {
            return None;
        }
        let path = |path: &VPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        let target = record.target().map(|t| format!(" {}", path(t))).unwrap_or_default();
        let outcome = error.as_ref().map_or("ok", |e| e.kind().name());
        Some(format!("{} {}{target} {outcome}\n", record.kind().name(), path(record.path())))
    };
    events.iter().filter_map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_errand_is_told_alike_on_every_way() {
    let dir = tempfile::tempdir().unwrap();
    let stores = [Store::memory(), Store::memory().staged(), Store::local(&dir), Store::local(&dir).staged()];
    for store in stores {
        let world = World::new(Way::Sftp, store, Arc::default()).await;
        let guarded = world.site.guarded("alice");
        errand(&guarded).await;
        assert_eq!(changes(&world.events()), OF_THE_ERRAND, "through the gate");
        let told = world.events().len();
        let (alice, connection) = world.log_in("alice").await;
        errand(&*alice).await;
        connection.close().await;
        assert_eq!(changes(&world.events()[told..]), OF_THE_ERRAND, "through SFTP");
    }
}
