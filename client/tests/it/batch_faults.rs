//! The batch engine when things break: every k-th call of either side fails, sources end too early, targets
//! lie, connections are lost. No success is claimed for a file that is not whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use client::batch::{Batch, Job};
use client::reconnect::{Connect, Reconnecting, Timer};
use session_core::auth::Account;
use session_core::batch::*;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::*;
use session_core::fs_ext::FilesystemExt as _;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::layer::{FileLayer, Layer};
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

/// When what goes wrong.
#[derive(Default)]
struct Plan {
    calls: AtomicU64,
    /// The number of the call that fails, from 1; 0 for none.
    at: AtomicU64,
    /// Every so-many-th call fails.
    every: AtomicU64,
    kind: Mutex<Option<ErrorKind>>,
    /// From the failure on every call of that time's connection fails.
    dead: AtomicBool,
    /// Files are given out up to this offset only.
    ends: Mutex<Option<u64>>,
    /// Writes beyond this offset are not done, and nobody is told.
    forgets: Mutex<Option<u64>>,
    /// Bytes at this offset are written wrong.
    garbles: Mutex<Option<u64>>,
}

impl Plan {
    fn failing(at: u64, kind: ErrorKind) -> Arc<Self> {
        let plan = Plan::default();
        plan.at.store(at, Ordering::SeqCst);
        *plan.kind.lock().unwrap() = Some(kind);
        Arc::new(plan)
    }

    fn call(&self) -> Result<()> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let every = self.every.load(Ordering::SeqCst);
        let kind = self.kind.lock().unwrap().unwrap_or(ErrorKind::Internal);
        let due = n == self.at.load(Ordering::SeqCst) || every > 0 && n.is_multiple_of(every);
        if due && kind == ErrorKind::Disconnected {
            self.dead.store(true, Ordering::SeqCst);
        }
        if due || self.dead.load(Ordering::SeqCst) { Err(Error::new(kind)) } else { Ok(()) }
    }

    /// Whether the failure came.
    fn came(&self) -> bool {
        self.calls.load(Ordering::SeqCst) >= self.at.load(Ordering::SeqCst)
    }
}

struct Faulty {
    inner: MemoryStore,
    plan: Arc<Plan>,
    capabilities: Capabilities,
}

struct FaultyFile {
    inner: Arc<dyn File>,
    plan: Arc<Plan>,
}

struct FaultyPages {
    inner: Listing,
    plan: Arc<Plan>,
}

#[async_trait]
impl Pages for FaultyPages {
    async fn next_page(&mut self) -> Result<Option<Vec<session_core::metadata::DirEntry>>> {
        self.plan.call()?;
        self.inner.next_page().await
    }
}

#[async_trait]
impl Layer for Faulty {
    fn inner(&self) -> &dyn Filesystem {
        &self.inner
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        self.plan.call()?;
        self.inner.stat(path, follow).await
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        self.plan.call()?;
        // Small pages, so that a listing can break in its middle.
        let all = self.inner.list_all(dir).await?;
        let _ = options;
        Ok(Box::new(FaultyPages { inner: Box::new(Small(all)), plan: Arc::clone(&self.plan) }))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        self.plan.call()?;
        let inner = self.inner.open(path, options).await?;
        Ok(Arc::new(FaultyFile { inner, plan: Arc::clone(&self.plan) }))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.plan.call()?;
        self.inner.create_dir(path, attributes).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.plan.call()?;
        self.inner.remove_file(path).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        // The answer is lost, not the question: the worse of the two.
        let done = self.inner.rename(from, to, replace).await;
        self.plan.call()?;
        done
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        self.plan.call()?;
        self.inner.set_attributes(path, attributes, follow).await
    }
}

struct Small(Vec<session_core::metadata::DirEntry>);

#[async_trait]
impl Pages for Small {
    async fn next_page(&mut self) -> Result<Option<Vec<session_core::metadata::DirEntry>>> {
        let n = self.0.len().min(2);
        let page: Vec<_> = self.0.drain(..n).collect();
        Ok((!page.is_empty()).then_some(page))
    }
}

#[async_trait]
impl FileLayer for FaultyFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        self.plan.call()?;
        let end = self.plan.ends.lock().unwrap().unwrap_or(u64::MAX);
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.inner.read_into(offset, len.min(left), buf).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        self.plan.call()?;
        if self.plan.forgets.lock().unwrap().is_some_and(|end| offset >= end) {
            return Ok(());
        }
        let garbles = *self.plan.garbles.lock().unwrap();
        match garbles {
            Some(at) if (offset..offset + data.len() as u64).contains(&at) => {
                let mut bad = data.to_vec();
                bad[usize::try_from(at - offset).unwrap()] ^= 0x55;
                self.inner.write_at(offset, bad.into()).await
            }
            _ => self.inner.write_at(offset, data).await,
        }
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.plan.call()?;
        self.inner.metadata().await
    }

    async fn settle(&self) -> Result<()> {
        self.plan.call()?;
        self.inner.settle().await
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        self.plan.call()?;
        self.inner.commit(options).await
    }
}

fn guarded(fs: Arc<dyn Filesystem>, protocol: Protocol) -> SessionFs {
    let session = Session::new(Setup::new(protocol, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, fs, Chain::new(vec![])).unwrap()
}

fn faulty(store: &MemoryStore, plan: &Arc<Plan>) -> SessionFs {
    let capabilities = store.capabilities();
    guarded(Arc::new(Faulty { inner: store.clone(), plan: Arc::clone(plan), capabilities }), Protocol::Local)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i % 241) as u8).collect()
}

/// Small ones, empty ones, and some that go through a temporary name.
const TREE: [(&str, usize); 6] = [
    ("/t/empty", 0),
    ("/t/small", 10),
    ("/t/sub/small", 300),
    ("/t/chunk", 224 << 10),
    ("/t/large", 700_001),
    ("/t/sub/old", 150_000),
];

async fn source() -> MemoryStore {
    let store = MemoryStore::new();
    store.create_dir_all(&p("/t/sub/none")).await.unwrap();
    for (path, len) in TREE {
        store.write_all(&p(path), content(len).into()).await.unwrap();
    }
    store
}

async fn target() -> MemoryStore {
    let store = MemoryStore::new();
    store.create_dir_all(&p("/t/sub")).await.unwrap();
    store.write_all(&p("/t/sub/old"), Bytes::from_static(b"what was there")).await.unwrap();
    store
}

async fn read(store: &MemoryStore, path: &VPath) -> Option<Vec<u8>> {
    store.read_to_vec(path, 1 << 30).await.ok()
}

fn options() -> TransferOptions {
    TransferOptions { recursive: true, ..TransferOptions::default() }
}

fn job() -> Vec<Job> {
    vec![Job { from: p("/t"), to: p("/t") }]
}

/// Counts what it hears.
#[derive(Default)]
struct Heard {
    moved: Mutex<Vec<Receipt>>,
    failed: AtomicU64,
}

impl Observer for Heard {
    fn ended(&self, _: &TransferItem, ended: Ended<'_>) {
        match ended {
            Ended::Moved(receipt) => self.moved.lock().unwrap().push(receipt.clone()),
            Ended::Failed(_) => drop(self.failed.fetch_add(1, Ordering::SeqCst)),
            Ended::Made | Ended::Skipped(_) => {}
        }
    }

    fn failed(&self, _: &Error) {
        self.failed.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the report says is what is there, and no failure stands in it twice.
async fn is_true(report: &TransferReport, heard: &Heard, store: &MemoryStore, what: &str) {
    let mut numbers = Vec::new();
    let mut done = 0;
    for (item, outcome) in &report.items {
        match outcome {
            ItemOutcome::Done(_) if item.directory => {
                assert!(store.stat(&item.target, Follow::No).await.unwrap().is_dir())
            }
            ItemOutcome::Done(_) => {
                done += 1;
                let there = read(store, &item.target).await.expect(what);
                assert!(
                    there == content(usize::try_from(item.size).unwrap()),
                    "{what}: {} is not whole",
                    item.target
                );
            }
            ItemOutcome::Failed(n) => {
                numbers.push(*n);
                // A small file is there whole (what failed came after it), as it was, or not at all.
                let there = read(store, &item.target).await;
                let lost = report.failures[*n].kind() == ErrorKind::Disconnected;
                let whole =
                    there.as_ref().is_none_or(|c| c.len() as u64 == item.size || c == b"what was there");
                assert!(whole || lost, "{what}: a part of {} stands under its name", item.target);
            }
            ItemOutcome::Skipped(why) => panic!("{what}: {why}"),
        }
    }
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "{what}: a failure twice");
    assert!(numbers.iter().all(|n| *n < report.failures.len()));
    assert_eq!((report.receipts.len(), report.done()), (done, done), "{what}");
    assert_eq!(heard.moved.lock().unwrap().len(), done, "{what}");
    assert_eq!(heard.failed.load(Ordering::SeqCst), report.failures.len() as u64, "{what}");
    // A listing that failed may have hidden nothing; files that are missing are always told of.
    assert!(done == TREE.len() || !report.is_success(), "{what}: {:?}", report.items);
    // What went through a temporary name is old or new, never between.
    let old = read(store, &p("/t/sub/old")).await;
    let steps_aside = report.receipts.iter().any(|r| r.guarantee == Guarantee::RenameWindow);
    assert!(
        old.as_deref() == Some(b"what was there")
            || old.as_deref() == Some(&content(150_000)[..])
            || steps_aside,
        "{what}: neither the old nor the new content"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_call_fails_the_report_is_true() {
    let (verifies, kinds) = ([Verify::Size, Verify::Strict], [ErrorKind::Internal, ErrorKind::Disconnected]);
    for (side, verify) in [("source", verifies[0]), ("target", verifies[0]), ("target", verifies[1])] {
        for kind in kinds {
            let from = source().await;
            for k in 1.. {
                let to = target().await;
                let plan = Plan::failing(k, kind);
                let fine = Arc::new(Plan::default());
                let (a, b) = if side == "source" { (&plan, &fine) } else { (&fine, &plan) };
                let options = TransferOptions { verify, ..options() };
                let batch = Batch::new(faulty(&from, a), faulty(&to, b), options, Arc::new(Unattended));
                let heard = Arc::new(Heard::default());
                batch.observe(Arc::clone(&heard) as Arc<dyn Observer>);
                let report = batch.run(job()).await;
                let what = format!("{side}, {verify:?}, {kind:?} at call {k}");
                is_true(&report, &heard, &to, &what).await;
                if !plan.came() {
                    assert!(report.is_success(), "{what}");
                    assert!(k > 20, "{what}: too few calls to be all");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_source_that_ends_early_is_never_a_success() {
    for end in [0, 1, 224 << 10, 700_000] {
        let (from, to) = (source().await, target().await);
        let plan = Arc::new(Plan { ends: Mutex::new(Some(end)), ..Plan::default() });
        let batch =
            Batch::new(faulty(&from, &plan), faulty(&to, &Arc::default()), options(), Arc::new(Unattended));
        let report = batch.run(vec![Job { from: p("/t/large"), to: p("/large") }]).await;
        assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!((report.done(), report.receipts.len()), (0, 0));
        assert_eq!(read(&to, &p("/large")).await, None, "nothing under the final name");
    }
}

#[tokio::test]
async fn a_target_that_loses_the_end_is_found_out_by_its_size() {
    for (path, len) in TREE.into_iter().filter(|(_, len)| *len > 0) {
        let (from, to) = (source().await, target().await);
        let plan = Arc::new(Plan { forgets: Mutex::new(Some(0)), ..Plan::default() });
        for verify in [Verify::None, Verify::Size, Verify::Auto, Verify::Strict] {
            let options = TransferOptions { verify, ..options() };
            let batch =
                Batch::new(faulty(&from, &Arc::default()), faulty(&to, &plan), options, Arc::new(Unattended));
            let report = batch.run(vec![Job { from: p(path), to: p("/x") }]).await;
            assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Corrupt, "{path} {len} {verify:?}");
            assert!(report.receipts.is_empty());
        }
    }
}

#[tokio::test]
async fn a_wrong_byte_is_found_out_by_who_asks_for_digests_and_never_published_where_that_can_be() {
    let from = source().await;
    for (verify, path, at, found) in [
        (Verify::Strict, "/t/large", 699_999, true),
        (Verify::Strict, "/t/small", 3, true),
        (Verify::Size, "/t/large", 5, false),
    ] {
        let to = target().await;
        let plan = Arc::new(Plan { garbles: Mutex::new(Some(at)), ..Plan::default() });
        let options = TransferOptions { verify, ..options() };
        let batch =
            Batch::new(faulty(&from, &Arc::default()), faulty(&to, &plan), options, Arc::new(Unattended));
        let report = batch.run(vec![Job { from: p(path), to: p("/x") }]).await;
        if found {
            assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(report.counts.verified, 0);
            if path == "/t/large" {
                assert_eq!(read(&to, &p("/x")).await, None);
                assert_eq!(read(&to, &p("/x.filepart")).await, None, "nobody shall continue it");
            }
        } else {
            assert_eq!(report.receipts[0].proof, Proof::Size, "no more is claimed than was looked at");
        }
    }
}

#[tokio::test]
async fn receipts_say_what_was_seen() {
    let (from, to) = (source().await, target().await);
    let options = TransferOptions { verify: Verify::Strict, ..options() };
    let batch = Batch::new(
        faulty(&from, &Arc::default()),
        faulty(&to, &Arc::default()),
        options,
        Arc::new(Unattended),
    );
    let report = batch.run(job()).await;
    report.check().unwrap();
    assert_eq!((report.done(), report.counts.verified), (TREE.len(), TREE.len() as u64 - 1));
    let of = |path: &str| report.receipts.iter().find(|r| r.target == p(path)).unwrap();
    assert_eq!((of("/t/empty").proof, of("/t/empty").size), (Proof::Size, 0));
    let large = of("/t/large");
    assert_eq!((large.proof, large.guarantee), (Proof::Reread, Guarantee::AtomicRename));
    assert_eq!((large.size, large.sent, large.breaks), (700_001, 700_001, 0));
    assert!(large.ended >= large.began);
    let mut hasher = session_core::digest::Hasher::new(Algorithm::Sha256);
    hasher.update(&content(700_001));
    let digest = large.digest.as_ref().unwrap();
    assert_eq!((digest.algorithm, &digest.value), (Algorithm::Sha256, &hasher.finish()));
    assert_eq!(of("/t/small").guarantee, Guarantee::InPlace);
    let json = large.to_json();
    assert_eq!(json["schema"], "ferry.receipt/1");
    assert_eq!(json["digest"]["algorithm"], "sha256");
    assert_eq!((json["source"].as_str(), json["proof"].as_str()), (Some("/t/large"), Some("reread")));
    assert_eq!(json["operation"], large.operation.0);
}

#[tokio::test]
async fn a_digest_that_the_target_computes_proves_it_and_one_that_differs_refutes() {
    /// Computes one digest, right or wrong.
    struct Computes(MemoryStore, bool);
    #[async_trait]
    impl Layer for Computes {
        fn inner(&self) -> &dyn Filesystem {
            &self.0
        }
        fn capabilities(&self) -> Capabilities {
            Capabilities { checksums: true, ..self.0.capabilities() }
        }
        async fn checksum(&self, path: &VPath, a: Algorithm, _: std::ops::Range<u64>) -> Result<Bytes> {
            if a != Algorithm::Md5 {
                return Err(ErrorKind::Unsupported.into());
            }
            let mut hasher = session_core::digest::Hasher::new(a);
            hasher.update(&self.0.read_to_vec(path, 1 << 30).await?);
            if !self.1 {
                hasher.update(b"!");
            }
            Ok(hasher.finish())
        }
    }
    for (right, side) in [(true, "target"), (false, "target"), (true, "source"), (false, "source")] {
        let (from, to) = (source().await, target().await);
        let plain = |store: &MemoryStore| guarded(Arc::new(store.clone()), Protocol::Local);
        let computing =
            |store: &MemoryStore| guarded(Arc::new(Computes(store.clone(), right)), Protocol::Sftp);
        let (a, b) =
            if side == "source" { (computing(&from), plain(&to)) } else { (plain(&from), computing(&to)) };
        let options = TransferOptions { verify: Verify::Auto, ..options() };
        let report = Batch::new(a, b, options, Arc::new(Unattended)).run(job()).await;
        if !right {
            // All but the empty file.
            assert_eq!(report.failures.len(), TREE.len() - 1);
            assert!(report.failures.iter().all(|e| e.kind() == ErrorKind::Corrupt));
            continue;
        }
        report.check().unwrap();
        let proof = if side == "source" { Proof::SourceDigest } else { Proof::TargetDigest };
        assert!(report.receipts.iter().all(|r| r.size == 0 || r.proof == proof), "{:?}", report.receipts);
    }
}

#[tokio::test]
async fn what_cannot_be_proved_fails_where_proof_is_asked_for() {
    /// Takes files and shows none.
    struct Blind(MemoryStore);
    #[async_trait]
    impl Layer for Blind {
        fn inner(&self) -> &dyn Filesystem {
            &self.0
        }
        async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
            if options.read {
                return Err(ErrorKind::PermissionDenied.into());
            }
            self.0.open(path, options).await
        }
    }
    let (from, to) = (source().await, target().await);
    let options = TransferOptions { verify: Verify::Strict, ..options() };
    let blind = guarded(Arc::new(Blind(to.clone())), Protocol::Sftp);
    let report =
        Batch::new(faulty(&from, &Arc::default()), blind, options, Arc::new(Unattended)).run(job()).await;
    assert_eq!(report.done(), 1, "the empty file");
    assert!(report.failures.iter().all(|e| e.kind() == ErrorKind::Unsupported && e.hint().is_some()));
}

// ---- connections

/// Does not wait, and knows how long it would have.
#[derive(Default)]
struct Fast(Mutex<Duration>);

#[async_trait]
impl Timer for Fast {
    fn now(&self) -> Instant {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BEGIN.get_or_init(Instant::now) + *self.0.lock().unwrap()
    }
    async fn sleep(&self, pause: Duration) {
        *self.0.lock().unwrap() += pause;
        tokio::task::yield_now().await;
    }
    fn chance(&self) -> f64 {
        0.5
    }
}

/// Connects to the same store again and again.
struct Again {
    store: MemoryStore,
    plan: Arc<Plan>,
    /// How many attempts fail before one goes well.
    refuses: AtomicU64,
}

impl Again {
    fn fs(&self) -> Arc<dyn Filesystem> {
        let capabilities = self.store.capabilities();
        Arc::new(Faulty { inner: self.store.clone(), plan: Arc::clone(&self.plan), capabilities })
    }
}

#[async_trait]
impl Connect for Again {
    async fn connect(&self) -> Result<Arc<dyn Filesystem>> {
        let left = self.refuses.load(Ordering::SeqCst);
        if left > 0 {
            if left < u64::MAX {
                self.refuses.store(left - 1, Ordering::SeqCst);
            }
            return Err(ErrorKind::Disconnected.into());
        }
        self.plan.dead.store(false, Ordering::SeqCst);
        Ok(self.fs())
    }
}

fn reconnecting(store: &MemoryStore, plan: &Arc<Plan>, refuses: u64, timer: &Arc<Fast>) -> Reconnecting {
    let again = Arc::new(Again { store: store.clone(), plan: Arc::clone(plan), refuses: refuses.into() });
    Reconnecting::new(again.fs(), again, Duration::from_secs(120), Arc::clone(timer) as Arc<dyn Timer>)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_at_any_call_cost_time_and_nothing_else() {
    let from = source().await;
    // Each connection lives long enough for one file.
    for (side, lives) in [("source", [11, 13, 19]), ("target", [37, 43, 53])] {
        for every in lives {
            let to = target().await;
            let timer = Arc::new(Fast::default());
            let plan = Plan::failing(0, ErrorKind::Disconnected);
            plan.every.store(every, Ordering::SeqCst);
            let breaking = |store| {
                let fs = reconnecting(store, &plan, 2, &timer);
                guarded(Arc::new(fs), Protocol::Sftp)
            };
            let fine = |store| faulty(store, &Arc::default());
            let (a, b) =
                if side == "source" { (breaking(&from), fine(&to)) } else { (fine(&from), breaking(&to)) };
            let options = TransferOptions { parallel: 1, verify: Verify::Strict, ..options() };
            let batch = Batch::new(a, b, options, Arc::new(Unattended));
            batch.set_timer(Arc::clone(&timer) as Arc<dyn Timer>);
            let heard = Arc::new(Heard::default());
            batch.observe(Arc::clone(&heard) as Arc<dyn Observer>);
            let report = batch.run(job()).await;
            let what = format!("{side}, every {every}");
            report.check().unwrap_or_else(|e| panic!("{what}: {e:#}"));
            is_true(&report, &heard, &to, &what).await;
            assert!(plan.calls.load(Ordering::SeqCst) > every, "{what}: nothing broke");
        }
    }
}

#[tokio::test]
async fn a_listing_that_is_cut_starts_over_and_gives_nothing_twice() {
    let store = MemoryStore::new();
    let mut names = Vec::new();
    for n in 0..9 {
        store.write_all(&p(&format!("/{n}")), Bytes::new()).await.unwrap();
        names.push(n.to_string());
    }
    for k in 1..=6 {
        let plan = Plan::failing(k, ErrorKind::Disconnected);
        let timer = Arc::new(Fast::default());
        let fs = reconnecting(&store, &plan, 0, &timer);
        let mut listed: BTreeMap<String, u32> = BTreeMap::new();
        let mut pages = fs.list(&VPath::root(), &ListOptions::default()).await.unwrap();
        while let Some(page) = pages.next_page().await.unwrap() {
            assert!(!page.is_empty());
            for entry in page {
                *listed.entry(String::from_utf8(entry.name.to_vec()).unwrap()).or_default() += 1;
            }
        }
        assert!(listed.values().all(|n| *n == 1), "cut at {k}: {listed:?}");
        assert_eq!(listed.into_keys().collect::<Vec<_>>(), names, "cut at {k}");
        assert_eq!(fs.breaks(), 1);
    }
}

#[tokio::test]
async fn patience_ends_and_the_error_says_so() {
    let (from, to) = (source().await, target().await);
    let timer = Arc::new(Fast::default());
    let plan = Plan::failing(1, ErrorKind::Disconnected);
    let gone = guarded(Arc::new(reconnecting(&to, &plan, u64::MAX, &timer)), Protocol::Sftp);
    let batch = Batch::new(faulty(&from, &Arc::default()), gone, options(), Arc::new(Unattended));
    batch.set_timer(Arc::clone(&timer) as Arc<dyn Timer>);
    let report = batch.run(vec![Job { from: p("/t/large"), to: p("/x") }]).await;
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Disconnected);
    let waited = *timer.0.lock().unwrap();
    assert!((Duration::from_secs(120)..Duration::from_secs(130)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn what_may_not_be_repeated_is_not() {
    let store = target().await;
    let timer = Arc::new(Fast::default());
    let lost = |k| Plan::failing(k, ErrorKind::Disconnected);
    // Found done: the answer was lost, not the question.
    let fs = reconnecting(&store, &lost(1), 0, &timer);
    fs.rename(&p("/t/sub/old"), &p("/t/new"), Replace::No).await.unwrap();
    assert_eq!(read(&store, &p("/t/new")).await.unwrap(), b"what was there");
    // Never twice.
    let fs = reconnecting(&store, &lost(1), 0, &timer);
    let options = OpenOptions { exclusive: true, ..OpenOptions::create() };
    let e = fs.open(&p("/t/exclusive"), &options).await.err().unwrap();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::Disconnected, session_core::error::Retry::Never));
    assert!(fs.stat(&p("/t/new"), Follow::No).await.is_ok(), "and the next call goes on");
}
