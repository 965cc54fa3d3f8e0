//! Events from outside. `BeforeCommit`: what a handler reads, where it sends an upload, what becomes of a
//! refusal; those of the protector.
#![cfg(feature = "script")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::auth::Account;
use session_core::error::{ErrorKind, Result};
use session_core::fs::*;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use session_core::lifecycle::{Lifecycle, Notice, Verdict};
use session_core::path::VPath;
use session_core::script::*;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;
use session_core::verdict::{Quarantine, Upload};

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

#[derive(Default)]
struct Kept(Mutex<Vec<(String, String)>>);

#[async_trait]
impl Quarantine for Kept {
    async fn keep(&self, _: &Session, upload: &Upload<'_>, why: &str) -> Result<String> {
        let content = read_all(upload.content.unwrap()).await;
        self.0.lock().unwrap().push((content, why.into()));
        Ok("1".into())
    }
}

struct World {
    session: Arc<Session>,
    fs: SessionFs,
    area: Arc<StagingArea>,
    kept: Arc<Kept>,
}

fn world(bindings: &[(&str, &str)]) -> World {
    let kept = Arc::new(Kept::default());
    let services = Services { quarantine: Some(Arc::clone(&kept) as _), ..Services::default() };
    let limits = EngineLimits { time: Some(Duration::from_secs(50)), ..EngineLimits::default() };
    let bindings = bindings.iter().map(|(event, source)| Binding {
        grants: Grants::of(&[Grant::Files]),
        ..Binding::new(*event, "hook.js", *source)
    });
    let hooks = Hooks::with(Engine::new(limits), services, bindings.collect()).unwrap();
    let store = Arc::new(MemoryStore::new());
    let area = StagingArea::new(store, StagingPolicy::default(), Arc::new(SystemTime::now)).unwrap();
    let session = Session::new(Setup::new(Protocol::Sftp, "main"));
    let identity = session.log_in(Account::named("ann"), vec!["password"]).unwrap();
    let files = Arc::new(Staged::new(Owner::account("ann"), Arc::clone(&area)));
    session.lend_files(Arc::clone(&files) as _, Arc::default());
    let chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
    let fs = session.guard(&identity, files, chain).unwrap();
    World { session, fs, area, kept }
}

async fn read_all(file: &Arc<dyn File>) -> String {
    String::from_utf8(file.read_into(0, 1 << 20, BytesMut::new()).await.unwrap().to_vec()).unwrap()
}

async fn read(w: &World, path: &str) -> Result<String> {
    Ok(read_all(&w.fs.open(&p(path), &OpenOptions::read()).await?).await)
}

async fn begin(w: &World, path: &str, content: &str) -> Arc<dyn File> {
    let file = w.fs.open(&p(path), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
    file
}

async fn commit(file: &Arc<dyn File>) -> Result<()> {
    file.commit(&CommitOptions::default()).await.map(drop)
}

/// Waits for what runs after an upload, and gives what handlers have left.
async fn told(w: &World, lines: usize) -> Vec<String> {
    while w.session.custom_data().len() < lines {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    w.session.custom_data()
}

#[tokio::test]
async fn a_handler_reads_the_upload_that_it_judges_and_no_other_of_that_name() {
    let source = "const v = GetCurrentVFS(); const r = v.ReadFileAsText(CtxRelPath(), -1, 0, FromStart);\n\
        Session.AddCustomData([r.Data(), CtxSize(), v.Stat(CtxRelPath()).Size ?? ''].join());\n\
        if (r.Data().includes('bad')) Session.BlockOperation('bad');";
    let w = world(&[("BeforeCommit", source)]);
    let first = begin(&w, "/f", "bad one").await;
    let second = begin(&w, "/f", "good").await;
    assert_eq!(commit(&first).await.unwrap_err().kind(), ErrorKind::Refused);
    commit(&second).await.unwrap();
    let told = w.session.custom_data();
    assert!(told[0].starts_with("bad one,7") && told[1].starts_with("good,4"), "{told:?}");
    assert_eq!(read(&w, "/f").await.unwrap(), "good");
}

#[tokio::test]
async fn an_upload_is_renamed_on_arrival_and_one_that_is_removed_is_not_published() {
    let source = "const r = GetCurrentVFS().Rename(CtxRelPath(), '/in-' + CtxSize()); if (!r.Ok()) throw new Error(r.ErrorMsg());";
    let w = world(&[("BeforeCommit", source)]);
    commit(&begin(&w, "/f", "abc").await).await.unwrap();
    assert_eq!(read(&w, "/in-3").await.unwrap(), "abc");
    assert_eq!(read(&w, "/f").await.unwrap_err().kind(), ErrorKind::NotFound);
    let w = world(&[("BeforeCommit", "GetCurrentVFS().Remove(CtxRelPath())")]);
    commit(&begin(&w, "/f", "abc").await).await.unwrap();
    assert_eq!(read(&w, "/f").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_upload_is_replaced_on_arrival_by_what_a_handler_made_of_it() {
    let source = "const v = GetCurrentVFS(), good = r => { if (!r.Ok()) throw new Error(r.ErrorMsg()) };\n\
        good(v.WriteFileAsText('/.new', v.ReadFileAsText(CtxRelPath()).Data().toUpperCase()));\n\
        good(v.Remove(CtxRelPath())); good(v.Rename('/.new', CtxRelPath()));";
    let w = world(&[("BeforeCommit", source)]);
    for content in ["abc", "def"] {
        commit(&begin(&w, "/f", content).await).await.unwrap();
        assert_eq!(read(&w, "/f").await.unwrap(), content.to_uppercase());
    }
}

#[tokio::test]
async fn what_goes_into_quarantine_is_refused_with_the_reason() {
    let w = world(&[("BeforeCommit", "if (CtxSize() > 3) QuarantineUpload('too good')")]);
    let e = commit(&begin(&w, "/f", "treasure").await).await.unwrap_err();
    assert_eq!((e.kind(), e.peer_words().contains("too good")), (ErrorKind::Refused, true));
    assert_eq!(*w.kept.0.lock().unwrap(), [("treasure".to_string(), "too good".to_string())]);
    assert_eq!((read(&w, "/f").await.unwrap_err().kind(), w.area.parked().len()), (ErrorKind::NotFound, 0));
    commit(&begin(&w, "/f", "ok").await).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_fails_publishes_nothing_and_the_upload_is_kept() {
    let w = world(&[("BeforeCommit", "throw new Error('oops')")]);
    let file = begin(&w, "/f", "abc").await;
    assert_eq!(commit(&file).await.unwrap_err().kind(), ErrorKind::Internal);
    drop(file);
    assert_eq!(w.area.parked()[0].size, 3);
}

#[tokio::test]
async fn after_tells_once_for_each_upload_with_what_was_found() {
    let after = "Session.AddCustomData([CtxRelPath(), CtxSize(), CtxVerdicts(), CtxDigest()].join('|'))";
    let w = world(&[("BeforeCommit", ""), ("AfterFileUpload", after)]);
    let one = begin(&w, "/f", "ab").await;
    let resume = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let two = w.fs.open(&p("/f"), &resume).await.unwrap();
    commit(&one).await.unwrap();
    commit(&two).await.unwrap();
    commit(&begin(&w, "/g", "").await).await.unwrap();
    assert_eq!(told(&w, 2).await, ["/f|2|hooks: passed|", "/g|0|hooks: passed|"]);
}

#[tokio::test]
async fn what_the_protector_did_is_told_without_a_session_and_cannot_be_refused() {
    let values = Arc::<Values>::default();
    let services = Services { values: Arc::clone(&values), ..Services::default() };
    let source = "const n = CtxNotice(); Store.Set('told', [CtxEvent(), Session, CtxRemoteAddress(), n.offence, n.sum].join());\n\
        throw new Error('whatever');";
    let grants = Grants::of(&[Grant::Store]);
    let bound = Binding { grants, ..Binding::new("OnProtectorStrike", "hook.js", source) };
    let limits = EngineLimits { time: Some(Duration::from_secs(50)), ..EngineLimits::default() };
    let hooks = Hooks::with(Engine::new(limits), services, vec![bound]).unwrap();
    let chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
    let facts = serde_json::json!({ "offence": "login", "sum": 3 });
    let notice = Notice { address: [192, 0, 2, 7].into(), facts };
    assert!(matches!(chain.decide(None, Lifecycle::Strike(&notice)).await, Verdict::Pass));
    assert_eq!(
        values.get("told", std::time::Instant::now()).as_deref(),
        Some("OnProtectorStrike,,192.0.2.7,login,3")
    );
}
