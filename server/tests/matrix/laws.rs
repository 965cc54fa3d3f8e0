//! What holds of a session whatever is done in it: its event log is complete and the same on every way,
//! what is refused changes nothing, what is terminated is over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use session_core::conformance::{self, Subject};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Event, What};
use session_core::fs::{CommitOptions, Filesystem, Follow, OpenOptions, Replace};
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

/// Refuses all that is below the directories of the cases, which are in this one. Those may be made, looked at and
/// removed.
struct RefuseAll(VPath);

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
        let record = operation.to_record();
        // Before S3 makes a directory it looks whether an object has the name of its marker.
        let marked = record.path().name() == proto_s3::keyspace::ESCAPE.to_string().as_bytes();
        if of_the_runner && record.path().depth() <= self.0.depth() + 1 + usize::from(marked) {
            return Ok(());
        }
        Err(Error::refused("no"))
    }
}

/// Whatever the cases try, the store holds what it held.
async fn refusal_changes_nothing(way: Way, store: Store) {
    let world = World::new(way, store.clone(), Chain::new(vec![Arc::new(RefuseAll(way.base()))])).await;
    let (alice, _alice) = world.log_in("alice").await;
    let mut subject = Subject::new(alice);
    subject.root = way.base();
    way.says(&mut subject.profile, store.is_staged());
    let report = conformance::run_all(&subject).await;
    // Some cases are about what cannot be, or look at nothing but their own directory.
    let ran = report.verdicts.len() - report.skipped().len();
    assert!(report.failures().len() * 5 > ran * 4, "{report}");
    let refused = world.events().iter().filter(|e| e.failed_with(ErrorKind::Refused)).count();
    assert!(refused > 100, "{refused}");
    if let Store::Staged(area) = &store {
        assert_eq!(area.parked(), []);
    }
    let bare = store.view("nobody");
    let roots = bare.list_all(&way.base()).await.unwrap();
    assert!(roots.len() > 100, "{}", roots.len());
    for entry in roots {
        let root = way.base().join(&entry.name).unwrap();
        let held = bare.list_all(&root).await.unwrap();
        assert!(held.is_empty(), "{root:?} holds {held:?}");
    }
    every_change_is_refused(way, &*bare, &*subject.fs).await;
}

/// With something there, no change of it gets through.
async fn every_change_is_refused(way: Way, bare: &dyn Filesystem, refused: &dyn Filesystem) {
    let keep = way.base().join("keep").unwrap();
    let (f, n, d) = (keep.join("f").unwrap(), keep.join("n").unwrap(), keep.join("d").unwrap());
    bare.create_dir_all(&d).await.unwrap();
    bare.write_all(&f, Bytes::from_static(b"old")).await.unwrap();
    let before = (bare.list_all(&keep).await.unwrap(), bare.list_all(&d).await.unwrap());
    let write = async |at: &VPath, options: OpenOptions| {
        let file = refused.open(at, &options).await?;
        file.write_at(0, Bytes::from_static(b"new")).await?;
        file.commit(&CommitOptions::default()).await.map(drop)
    };
    let answers = [
        write(&f, OpenOptions::create()).await,
        write(&f, OpenOptions::update()).await,
        write(&n, OpenOptions::create()).await,
        refused.create_dir(&n, &Attributes::none()).await,
        refused.remove_file(&f).await,
        refused.remove_dir(&d).await,
        refused.rename(&f, &n, Replace::No).await,
        refused.rename(&f, &n, Replace::Yes).await,
        refused.set_attributes(&f, &Attributes::mode(0o600), Follow::Yes).await,
        refused.set_attributes(&f, &Attributes::size(1), Follow::Yes).await,
        refused.copy(&f, &n, Replace::No).await,
        refused.symlink(b"f", &n).await,
        refused.hard_link(&f, &n).await,
    ];
    for (n, answer) in answers.iter().enumerate() {
        let kind = answer.as_ref().err().map(Error::kind);
        // Others have no word for some of them, or none that says why.
        let is_exact = kind == Some(ErrorKind::PermissionDenied);
        assert!(is_exact || way != Way::Sftp && kind.is_some(), "change {n}: {answer:?}");
    }
    assert_eq!((bare.list_all(&keep).await.unwrap(), bare.list_all(&d).await.unwrap()), before);
    assert_eq!(bare.read_to_vec(&f, 100).await.unwrap(), b"old");
}

/// A test for each way.
macro_rules! refusal_changes_nothing {
    ($($name:ident $way:ident $store:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            refusal_changes_nothing(Way::$way, $store).await;
        }
    )*};
}

refusal_changes_nothing! {
    refusal_through_sftp_changes_nothing Sftp Store::memory();
    refusal_through_sftp_changes_nothing_under_staging Sftp Store::memory().staged();
    refusal_through_scp_changes_nothing Scp Store::memory().staged();
    refusal_through_ftp_changes_nothing Ftp Store::memory().staged();
    refusal_through_webdav_changes_nothing Dav Store::memory().staged();
    refusal_through_s3_changes_nothing S3 Store::memory().staged();
}

/// Once `terminate` has answered, nothing of the session begins, ends or changes the store any more, whatever its
/// client goes on to try. Not over FTP, whose client has a session for each of its connections and opens another one.
async fn ends_with_terminate(way: Way, store: Store) {
    let world = World::new(way, store.clone(), Arc::default()).await;
    let (alice, connection) = world.log_in("alice").await;
    let done: Arc<[AtomicUsize; 8]> = Arc::default();
    let work = (0..done.len()).map(|task| {
        let (alice, done) = (alice.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            for n in 0.. {
                let path = way.base().join(format!("{task}-{n}")).unwrap();
                if alice.write_all(&path, Bytes::from(vec![1; 50_000])).await.is_err() {
                    return;
                }
                done[task].fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let work: Vec<_> = work.collect();
    let has_begun = || done.iter().all(|n| n.load(Ordering::SeqCst) > 0);
    world.until("each to have done something", has_begun).await;
    let session = world.site.registry.list().pop().unwrap();
    let ending = Ending::new("test", Actor::Admin("x".into()));
    let ended = session.terminate(ending, Duration::from_secs(5)).await;
    assert_eq!(ended.in_flight, 0);
    let held = async || {
        let mut names: Vec<_> = store.view("nobody").list_all(&way.base()).await.unwrap();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names.into_iter().map(|e| (e.name, e.metadata.size)).collect::<Vec<_>>()
    };
    let operation = |e: &Event| matches!(e.what, What::Started { .. } | What::Ended { .. });
    let count = || world.events().iter().filter(|e| operation(e)).count();
    let before = (held().await, count());
    // Long enough for what would come late.
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Some would try for long.
    connection.session().cut(Ending::new("enough", Actor::Client));
    for task in work {
        task.await.unwrap();
    }
    let events = world.events();
    let late: Vec<_> = events.iter().filter(|e| operation(e)).skip(before.1).collect();
    assert!(late.is_empty(), "{} operations after the end, as {:#?}", late.len(), late.first());
    assert!(held().await == before.0, "the store has changed after the end");
    assert!(world.site.registry.is_empty());
}

/// A test for each way.
macro_rules! nothing_after_terminate {
    ($($name:ident $way:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            ends_with_terminate(Way::$way, Store::memory()).await;
        }
    )*};
}

nothing_after_terminate! {
    nothing_begins_after_terminate_over_sftp Sftp
    nothing_begins_after_terminate_over_scp Scp
    nothing_begins_after_terminate_over_webdav Dav
    nothing_begins_after_terminate_over_webdav_under_tls Davs
    nothing_begins_after_terminate_over_s3 S3
    nothing_begins_after_terminate_over_s3_under_tls S3s
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_after_terminate_under_staging_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    ends_with_terminate(Way::Sftp, Store::local(&dir).staged()).await;
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
