//! Uploads that a target keeps unfinished for a later run: gone on with by the journal's word, thrown away when they
//! are of no use; the journal cut at every place.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use client::batch::{Batch, Job, throw_away};
use client::jobs::{Jobs, Side, Spec, Standing};
use client::journal::Journal;
use session_core::auth::Account;
use session_core::batch::*;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::fs::*;
use session_core::gate::SessionFs;
use session_core::in_order::InOrder;
use session_core::intercept::Chain;
use session_core::metadata::{FileType, Metadata};
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

const SIZE: usize = 3 << 20;

/// What a store of objects has: objects, uploads by their words, and what was sent to it.
#[derive(Default)]
struct Kept {
    objects: BTreeMap<VPath, Vec<u8>>,
    uploads: BTreeMap<String, (VPath, Vec<u8>)>,
    begun: usize,
    /// From this offset on nothing is taken, with this error.
    full: Option<(u64, Error)>,
}

/// Objects that are there as a whole or not at all.
#[derive(Clone, Default)]
struct Objects {
    kept: Arc<Mutex<Kept>>,
    sent: Arc<AtomicU64>,
}

struct Writing {
    store: Objects,
    path: VPath,
    size: u64,
    /// Where the next byte goes, and the words once it is kept.
    at: tokio::sync::Mutex<(u64, Option<String>)>,
    turns: InOrder,
    /// What was there when it was opened.
    had: Vec<u8>,
    got: Mutex<Vec<u8>>,
    spared: AtomicU64,
}

#[async_trait]
impl File for Writing {
    async fn read_into(&self, _: u64, _: usize, _: BytesMut) -> Result<BytesMut> {
        Err(ErrorKind::Unsupported.into())
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let mut at = self.turns.turn(&self.at, offset, |at| Ok(Some(at.0))).await?;
        let mut kept = self.store.kept.lock().unwrap();
        let begin = usize::try_from(offset).unwrap();
        let same = self.had.get(begin..begin + data.len()).is_some_and(|had| *had == data[..]);
        if same {
            self.spared.fetch_add(data.len() as u64, Ordering::SeqCst);
        } else {
            if let Some((_, e)) = kept.full.as_ref().filter(|(from, _)| offset >= *from) {
                return Err(e.clone());
            }
            self.store.sent.fetch_add(data.len() as u64, Ordering::SeqCst);
        }
        self.got.lock().unwrap().extend_from_slice(&data);
        if let Some((_, upload)) = at.1.as_ref().and_then(|words| kept.uploads.get_mut(words))
            && !same
        {
            upload.truncate(begin);
            upload.extend_from_slice(&data);
        }
        at.0 += data.len() as u64;
        drop((at, kept));
        self.turns.moves();
        Ok(())
    }

    async fn metadata(&self) -> Result<Metadata> {
        Ok(Metadata::new(FileType::File, self.at.lock().await.0))
    }

    async fn keep(&self) -> Result<Option<Unfinished>> {
        let mut at = self.at.lock().await;
        if at.1.is_none() && self.size > 1000 {
            let mut kept = self.store.kept.lock().unwrap();
            kept.begun += 1;
            let words = format!("upload {}", kept.begun);
            kept.uploads.insert(words.clone(), (self.path.clone(), Vec::new()));
            at.1 = Some(words);
        }
        let spared = self.spared.load(Ordering::SeqCst);
        Ok(at.1.as_deref().map(|words| Unfinished { words: words.into(), spared }))
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        let at = self.at.lock().await;
        let content = self.got.lock().unwrap().clone();
        let size = content.len() as u64;
        assert_eq!(options.expected_size, Some(size));
        let mut kept = self.store.kept.lock().unwrap();
        if let Some(words) = &at.1 {
            kept.uploads.remove(words).expect("its upload");
        }
        kept.objects.insert(self.path.clone(), content);
        Ok(Metadata::new(FileType::File, size))
    }

    async fn abort(&self) -> Result<()> {
        if let Some(words) = self.at.lock().await.1.take() {
            self.store.kept.lock().unwrap().uploads.remove(&words);
        }
        Ok(())
    }
}

#[async_trait]
impl Filesystem for Objects {
    fn capabilities(&self) -> Capabilities {
        Capabilities { write: true, create_dir: true, whole_files: true, ..Capabilities::none() }
    }

    async fn stat(&self, path: &VPath, _: Follow) -> Result<Metadata> {
        if path.depth() < 2 {
            return Ok(Metadata::new(FileType::Directory, 0));
        }
        let kept = self.kept.lock().unwrap();
        let object = kept.objects.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Metadata::new(FileType::File, object.len() as u64))
    }

    async fn list(&self, _: &VPath, _: &ListOptions) -> Result<Listing> {
        Err(ErrorKind::Unsupported.into())
    }

    async fn create_dir(&self, _: &VPath, _: &session_core::metadata::Attributes) -> Result<()> {
        Err(ErrorKind::AlreadyExists.into())
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let found = options.unfinished.as_deref().and_then(|words| {
            let kept = self.kept.lock().unwrap();
            let (to, had) = kept.uploads.get(words)?;
            (to == path).then(|| (words.to_owned(), had.clone()))
        });
        let (words, had) = found.unzip();
        Ok(Arc::new(Writing {
            store: self.clone(),
            path: path.clone(),
            size: options.size_hint.unwrap_or(0),
            at: tokio::sync::Mutex::new((0, words)),
            turns: InOrder::new("Objects"),
            had: had.unwrap_or_default(),
            got: Mutex::default(),
            spared: AtomicU64::new(0),
        }))
    }
}

impl Objects {
    fn copy(&self) -> Objects {
        let kept = self.kept.lock().unwrap();
        let (objects, uploads) = (kept.objects.clone(), kept.uploads.clone());
        let copy = Kept { objects, uploads, begun: kept.begun, full: None };
        Objects { kept: Arc::new(Mutex::new(copy)), sent: Arc::default() }
    }

    fn full(&self, full: Option<(u64, Error)>) {
        self.kept.lock().unwrap().full = full;
    }

    fn uploads(&self) -> Vec<String> {
        self.kept.lock().unwrap().uploads.keys().cloned().collect()
    }

    fn object(&self, path: &str) -> Option<Vec<u8>> {
        self.kept.lock().unwrap().objects.get(&p(path)).cloned()
    }

    fn open(&self) -> SessionFs {
        guard(Arc::new(self.clone()), Protocol::S3)
    }
}

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn guard(fs: Arc<dyn Filesystem>, protocol: Protocol) -> SessionFs {
    let session = Session::new(Setup::new(protocol, "test"));
    let identity = session.log_in(Account::named("a"), vec![]).unwrap();
    session.guard(&identity, fs, Chain::new(vec![])).unwrap()
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i % 241) as u8).collect()
}

fn fill(dir: &Path) {
    std::fs::create_dir(dir.join("t")).unwrap();
    std::fs::write(dir.join("t/large"), content(SIZE)).unwrap();
    std::fs::write(dir.join("t/small"), content(100)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    for name in ["large", "small"] {
        std::fs::File::open(dir.join("t").join(name)).unwrap().set_modified(old).unwrap();
    }
}

fn spec() -> Spec {
    Spec {
        command: "put".into(),
        source: Side::Local,
        target: Side::Local,
        jobs: vec![Job { from: p("/t"), to: p("/t") }],
        options: TransferOptions { recursive: true, ..TransferOptions::default() },
        extra: serde_json::Value::Null,
    }
}

async fn work(from: &Path, to: &Objects, journal: &Arc<Journal>) -> TransferReport {
    let local = LocalStore::open(from, LocalOptions::default()).unwrap();
    let local = guard(Arc::new(local), Protocol::Local);
    let batch = Batch::new(local, to.open(), spec().options, Arc::new(Unattended));
    batch.keep_journal(Arc::clone(journal));
    batch.run(spec().jobs).await
}

/// A run that stops half way in the large file, as one that is killed does: the file it leaves.
async fn interrupted(from: &Path, state: &Path) -> (Objects, String) {
    fill(from);
    let (store, jobs) = (Objects::default(), Jobs::at(state));
    let busy = Error::new(ErrorKind::Throttled).with_retry(Retry::Later(None));
    store.full(Some((2 << 20, busy)));
    let (id, journal) = jobs.create(&spec()).unwrap();
    let report = work(from, &store, &journal).await;
    assert_eq!(report.check().unwrap_err().kind(), ErrorKind::Throttled);
    journal.leave().await;
    store.full(None);
    assert_eq!((store.uploads().len(), store.object("/t/large")), (1, None));
    store.sent.store(0, Ordering::SeqCst);
    (store, id)
}

fn is_whole(store: &Objects) {
    assert!(store.object("/t/large").unwrap() == content(SIZE));
    assert!(store.object("/t/small").unwrap() == content(100));
    assert_eq!(store.uploads(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_cut_anywhere_leads_to_the_same_end() {
    let (from, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, id) = interrupted(from.path(), state.path()).await;
    let whole = std::fs::read(state.path().join(format!("{id}.job"))).unwrap();
    let ends = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    let mut gone_on = 0;
    for cut in ends.flat_map(|end| [end, end - 7]) {
        let (store, state) = (store.copy(), tempfile::tempdir().unwrap());
        std::fs::write(state.path().join("j.job"), &whole[..cut]).unwrap();
        let jobs = Jobs::at(state.path());
        let Ok((_, journal)) = jobs.take_up("j") else { continue };
        let knew = !jobs.unfinished("j").unwrap().is_empty();
        let report = work(from.path(), &store, &journal).await;
        report.check().unwrap();
        let sent = store.sent.load(Ordering::SeqCst);
        if knew {
            is_whole(&store);
            // What had arrived did not cross again, and nobody says that it did.
            assert!(sent <= (SIZE - (2 << 20)) as u64 + 100, "{sent} after a cut at {cut}");
            assert!(report.bytes() <= sent && report.notes.is_empty());
            gone_on += 1;
        } else {
            // Nobody's upload is touched.
            assert_eq!(store.uploads().len(), 1, "cut at {cut}");
            assert!(store.object("/t/large").unwrap() == content(SIZE));
        }
        journal.end("done").await;
        assert!(jobs.unfinished("j").unwrap().is_empty());
    }
    // Whether anything was noted behind the upload's words depends on when it broke.
    assert!(gone_on >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_no_use_is_thrown_away_and_told() {
    for change in ["the source", "the upload", "the source is gone"] {
        let (from, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, id) = interrupted(from.path(), state.path()).await;
        let large = from.path().join("t/large");
        let mut expected = content(SIZE);
        match change {
            "the source" => {
                expected.reverse();
                std::fs::write(&large, &expected).unwrap();
            }
            "the upload" => store.kept.lock().unwrap().uploads.clear(),
            _ => std::fs::remove_file(&large).unwrap(),
        }
        let (_, journal) = Jobs::at(state.path()).take_up(&id).unwrap();
        let report = work(from.path(), &store, &journal).await;
        report.check().unwrap();
        journal.end("done").await;
        assert_eq!(report.notes.len(), 1, "{change}: {:?}", report.notes);
        assert_eq!(report.notes[0].0, p("/t/large"));
        assert_eq!(store.uploads(), Vec::<String>::new(), "{change}");
        if change != "the source is gone" {
            assert!(store.object("/t/large").unwrap() == expected, "{change}");
            assert_eq!(report.bytes(), SIZE as u64, "{change}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_good_leaves_nothing_and_what_may_pass_leaves_the_upload() {
    let (from, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(from.path());
    let (store, jobs) = (Objects::default(), Jobs::at(state.path()));
    store.full(Some((1 << 20, ErrorKind::PermissionDenied.into())));
    let (id, journal) = jobs.create(&spec()).unwrap();
    assert!(!work(from.path(), &store, &journal).await.is_success());
    journal.end("failed").await;
    assert_eq!(store.uploads(), Vec::<String>::new());
    assert!(jobs.unfinished(&id).unwrap().is_empty() && jobs.like(&spec()).unwrap().is_none());

    let from = tempfile::tempdir().unwrap();
    let (store, id) = interrupted(from.path(), state.path()).await;
    // The same command finds it; another one does not.
    assert_eq!(jobs.like(&spec()).unwrap().as_deref(), Some(id.as_str()));
    let other = Spec { jobs: vec![Job { from: p("/t"), to: p("/u") }], ..spec() };
    assert_eq!(jobs.like(&other).unwrap(), None);
    let listed = jobs.list().unwrap().into_iter().find(|j| j.id == id).unwrap();
    assert_eq!((listed.unfinished, listed.standing), (1, Standing::Interrupted));
    // What is forgotten is thrown away by who forgets it; and once more is no failure.
    for (to, words) in jobs.unfinished(&id).unwrap() {
        for _ in 0..2 {
            throw_away(&store.open(), &to, Arc::clone(&words)).await.unwrap();
        }
    }
    assert_eq!(store.uploads(), Vec::<String>::new());
}
