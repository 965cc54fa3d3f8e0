//! Counting against a rescan, and what limits refuse.

use std::time::SystemTime;

use bytes::Bytes;

use super::share::{Apply, Ask, Grant, Grants, Holder, ahead};
use super::*;
use crate::fs_ext::FilesystemExt as _;
use crate::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use crate::store::memory::MemoryStore;

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

fn bytes(bytes: u64) -> Limits {
    Limits { bytes, ..Limits::default() }
}

struct Bench {
    book: Arc<Book>,
    metered: Metered,
    /// The same, staged, for two owners.
    area: Arc<StagingArea>,
    alice: Arc<dyn Filesystem>,
    bob: Arc<dyn Filesystem>,
    /// Without staging.
    raw: Arc<dyn Filesystem>,
}

async fn bench_over(store: Arc<dyn Filesystem>, limits: Limits, groups: &[(String, Limits)]) -> Bench {
    let book = Arc::<Book>::default();
    let metered = Metered::new(store, book.account("home", "user", limits, groups)).await.unwrap();
    let clock = Arc::new(SystemTime::now);
    let area = StagingArea::new(Arc::new(metered.clone()), StagingPolicy::default(), clock).unwrap();
    let of = |name: &'static str| Arc::new(Staged::new(Owner::account(name), Arc::clone(&area)));
    let (alice, bob, raw) = (of("alice"), of("bob"), Arc::new(metered.clone()));
    Bench { book, metered, area, alice, bob, raw }
}

async fn bench(limits: Limits) -> Bench {
    bench_over(Arc::new(MemoryStore::new()), limits, &[]).await
}

impl Bench {
    /// What uploads need, once those that ended are gone.
    async fn promised(&self) -> Usage {
        self.area.sweep(SystemTime::now()).await;
        self.book.report().into_iter().find(|r| r.place == "home").unwrap().promised
    }

    fn published(&self) -> Usage {
        self.metered.account().published()
    }

    async fn agrees(&self) -> bool {
        let (before, found) = self.metered.rescan().await.unwrap();
        before == found
    }
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it worked"),
        Err(e) => e.kind(),
    }
}

async fn upload(fs: &Arc<dyn Filesystem>, at: &str, size: usize) -> Result<Arc<dyn File>> {
    let file = fs.open(&p(at), &OpenOptions::create()).await?;
    file.write_at(0, Bytes::from(vec![7; size])).await?;
    Ok(file)
}

async fn put(fs: &Arc<dyn Filesystem>, at: &str, size: usize) -> Result<()> {
    let file = upload(fs, at, size).await?;
    file.commit(&CommitOptions::default()).await.map(drop)
}

/// A fixed sequence of numbers without a pattern.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % n
    }
}

/// Anything that may be done, well or not.
async fn anything(b: &Bench, dice: &mut Dice, open: &mut Vec<Arc<dyn File>>) {
    let name = |dice: &mut Dice| {
        let dir = ["", "/d", "/e"][dice.below(3) as usize];
        p(&format!("{dir}/f{}", dice.below(4)))
    };
    let (a, other) = (name(dice), name(dice));
    let size = dice.below(3000);
    let data = Bytes::from(vec![1; size as usize]);
    let replace = if dice.below(2) == 0 { Replace::No } else { Replace::Yes };
    let fs: Arc<dyn Filesystem> = match dice.below(3) {
        0 => Arc::clone(&b.raw),
        1 => Arc::clone(&b.alice),
        _ => Arc::clone(&b.bob),
    };
    let options = match dice.below(5) {
        0 => OpenOptions::update(),
        1 => OpenOptions { append: true, create: true, write: true, ..OpenOptions::default() },
        2 => OpenOptions { exclusive: true, ..OpenOptions::create() },
        _ => OpenOptions::create(),
    };
    match dice.below(14) {
        0..4 => {
            if let Ok(file) = fs.open(&a, &options).await {
                let _ = file.write_at(dice.below(2000), data).await;
                open.push(file);
            }
        }
        4 | 5 => {
            if !open.is_empty() {
                let file = open.swap_remove(dice.below(open.len() as u64) as usize);
                let _ = match dice.below(4) {
                    0 => file.abort().await,
                    1 => file.park().await,
                    2 => Ok(()),
                    _ => file.commit(&CommitOptions::default()).await.map(drop),
                };
            }
        }
        6 => {
            if let Some(file) = open.first() {
                let _ = file.set_attributes(&Attributes::size(size)).await;
                let _ = file.write_at(size, data).await;
            }
        }
        7 => drop(fs.rename(&a, &other, replace).await),
        8 => drop(fs.copy(&a, &other, replace).await),
        9 => drop(fs.hard_link(&a, &other).await),
        10 => drop(fs.symlink(b"f1", &a).await),
        11 => drop(fs.remove_file(&a).await),
        12 => drop(fs.set_attributes(&a, &Attributes::size(size), Follow::Yes).await),
        _ => {
            let dir = p(["/d", "/e"][dice.below(2) as usize]);
            let _ = match dice.below(3) {
                0 => fs.remove_dir_all(&dir).await,
                1 => fs.rename(&dir, &p("/moved"), Replace::Yes).await,
                _ => fs.rename(&p("/moved"), &dir, Replace::Yes).await,
            };
            let _ = fs.create_dir_all(&dir).await;
        }
    }
}

async fn agrees_with_a_rescan(b: Bench, seed: u64, steps: usize) {
    let mut dice = Dice(seed);
    let mut open = Vec::new();
    for dir in ["/d", "/e"] {
        b.raw.create_dir_all(&p(dir)).await.unwrap();
    }
    for step in 0..steps {
        anything(&b, &mut dice, &mut open).await;
        let (before, found) = b.metered.rescan().await.unwrap();
        assert_eq!(before, found, "after step {step} of seed {seed}");
        let used = found.bytes + b.promised().await.bytes;
        assert!(used <= 40_000, "{used} after step {step} of seed {seed}");
    }
    for file in open {
        let _ = file.abort().await;
    }
    for owner in ["alice", "bob"] {
        b.area.forget(&Owner::account(owner));
    }
    assert_eq!(b.promised().await, Usage::default(), "every upload has ended");
    assert!(b.agrees().await);
}

#[tokio::test]
async fn whatever_is_done_the_count_is_that_of_a_rescan() {
    for seed in 1..6 {
        let b = bench(bytes(40_000)).await;
        agrees_with_a_rescan(b, seed * 0x9e37_79b9, 400).await;
    }
}

#[cfg(feature = "local")]
#[tokio::test]
async fn the_same_on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::local::LocalStore::open(dir.path(), Default::default()).unwrap();
    let b = bench_over(Arc::new(store), bytes(40_000), &[]).await;
    agrees_with_a_rescan(b, 77, 250).await;
}

#[tokio::test]
async fn many_at_a_time_are_counted_and_stay_below_the_limit() {
    let b = bench(bytes(10_000)).await;
    let each = (0..40).map(|n| {
        let (alice, bob) = (Arc::clone(&b.alice), Arc::clone(&b.bob));
        async move {
            let at = format!("/f{}", n % 7);
            let _ = put(&alice, &at, 500 + n * 10).await;
            let _ = bob.rename(&p(&at), &p(&format!("/g{}", n % 5)), Replace::Yes).await;
            let _ = put(&bob, &at, 700).await;
            let _ = alice.remove_file(&p(&format!("/g{}", n % 3))).await;
        }
    });
    futures_util::future::join_all(each).await;
    assert!(b.agrees().await);
    assert!(b.published().bytes <= 10_000);
    assert_eq!(b.promised().await, Usage::default());
}

#[tokio::test]
async fn two_uploads_that_fit_alone_do_not_both_get_in() {
    let b = bench(bytes(100)).await;
    let one = upload(&b.alice, "/a", 60).await.unwrap();
    assert_eq!(kind(upload(&b.bob, "/b", 60).await), ErrorKind::QuotaExceeded);
    one.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(b.published(), Usage { bytes: 60, files: 1 });
    // What was cut is not kept, and takes no room.
    assert_eq!(b.promised().await, Usage::default());
    assert_eq!(b.area.parked(), []);
    put(&b.bob, "/b", 40).await.unwrap();
    assert_eq!(kind(put(&b.bob, "/c", 1).await), ErrorKind::QuotaExceeded);
}

#[tokio::test]
async fn an_overwrite_needs_the_difference_only() {
    let b = bench(bytes(100)).await;
    put(&b.alice, "/f", 80).await.unwrap();
    put(&b.alice, "/f", 95).await.unwrap();
    assert_eq!(kind(put(&b.alice, "/f", 101).await), ErrorKind::QuotaExceeded);
    assert_eq!(b.published(), Usage { bytes: 95, files: 1 }, "the old content stands");
    // What was to be replaced goes, and its room is taken: the upload does not fit any more.
    let file = upload(&b.alice, "/f", 90).await.unwrap();
    b.bob.remove_file(&p("/f")).await.unwrap();
    put(&b.bob, "/g", 50).await.unwrap();
    assert_eq!(kind(file.commit(&CommitOptions::default()).await), ErrorKind::QuotaExceeded);
    file.abort().await.unwrap();
    assert!(b.agrees().await && b.published().bytes == 50);
}

#[tokio::test]
async fn far_offsets_appends_copies_and_parked_uploads_take_room() {
    let b = bench(bytes(1000)).await;
    let file = b.alice.open(&p("/far"), &OpenOptions::create()).await.unwrap();
    assert_eq!(kind(file.write_at(1 << 40, "x".into()).await), ErrorKind::QuotaExceeded);
    assert_eq!(kind(file.set_attributes(&Attributes::size(1001)).await), ErrorKind::QuotaExceeded);
    file.abort().await.unwrap();
    put(&b.alice, "/f", 600).await.unwrap();
    assert_eq!(kind(b.alice.copy(&p("/f"), &p("/g"), Replace::No).await), ErrorKind::QuotaExceeded);
    assert_eq!(kind(b.alice.hard_link(&p("/f"), &p("/g")).await), ErrorKind::QuotaExceeded);
    let options = OpenOptions { append: true, write: true, ..OpenOptions::default() };
    let file = b.alice.open(&p("/f"), &options).await.unwrap();
    assert_eq!(kind(file.write_at(0, Bytes::from(vec![1; 401])).await), ErrorKind::QuotaExceeded);
    file.write_at(0, Bytes::from(vec![1; 100])).await.unwrap();
    upload(&b.alice, "/half", 300).await.unwrap().park().await.unwrap();
    assert_eq!(b.promised().await, Usage { bytes: 300, files: 1 });
    assert_eq!(kind(put(&b.bob, "/more", 1).await), ErrorKind::QuotaExceeded);
    // Its owner continues it, also after a restart.
    let again = b.book.account("again", "user", bytes(1000), &[]);
    let restarted = Metered::new(Arc::clone(&b.metered.0.store), again).await.unwrap();
    restarted.rescan().await.unwrap();
    let report = b.book.report().into_iter().find(|r| r.place == "again").unwrap();
    assert_eq!((report.published.bytes, report.promised.bytes), (700, 300));
    b.alice.remove_file(&p("/half")).await.unwrap();
    assert_eq!(b.promised().await, Usage::default());
}

#[tokio::test]
async fn a_soft_limit_lets_end_what_is_under_way_and_nothing_new_begin() {
    let b = bench(Limits { soft_bytes: 100, bytes: 1000, ..Limits::default() }).await;
    let file = upload(&b.alice, "/f", 90).await.unwrap();
    file.write_at(90, Bytes::from(vec![1; 400])).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(kind(b.alice.open(&p("/g"), &OpenOptions::create()).await), ErrorKind::QuotaExceeded);
    assert_eq!(kind(b.alice.symlink(b"f", &p("/l")).await), ErrorKind::QuotaExceeded);
    b.alice.remove_file(&p("/f")).await.unwrap();
    put(&b.alice, "/g", 1).await.unwrap();
}

#[tokio::test]
async fn files_are_counted_by_names() {
    let b = bench(Limits { files: 2, ..Limits::default() }).await;
    put(&b.alice, "/f", 1).await.unwrap();
    b.alice.symlink(b"f", &p("/l")).await.unwrap();
    assert_eq!(kind(b.alice.open(&p("/g"), &OpenOptions::create()).await), ErrorKind::QuotaExceeded);
    assert_eq!(kind(b.raw.open(&p("/g"), &OpenOptions::create()).await), ErrorKind::QuotaExceeded);
    put(&b.alice, "/f", 2).await.unwrap();
    b.alice.rename(&p("/f"), &p("/l"), Replace::Yes).await.unwrap();
    assert_eq!(b.published(), Usage { bytes: 2, files: 1 });
    b.alice.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    put(&b.alice, "/d/g", 1).await.unwrap();
}

#[tokio::test]
async fn a_group_is_bounded_by_the_sum_of_its_places() {
    let groups = [("staff".to_owned(), bytes(100))];
    let b = bench_over(Arc::new(MemoryStore::new()), Limits::default(), &groups).await;
    put(&b.alice, "/before", 10).await.unwrap();
    let other = b.book.account("other", "user", bytes(80), &groups);
    let other = Metered::new(Arc::new(MemoryStore::new()), other).await.unwrap();
    let other: Arc<dyn Filesystem> = Arc::new(other);
    other.write_all(&p("/f"), Bytes::from(vec![1; 70])).await.unwrap();
    assert_eq!(kind(put(&b.alice, "/g", 21).await), ErrorKind::QuotaExceeded);
    b.promised().await;
    put(&b.alice, "/g", 20).await.unwrap();
    b.promised().await;
    assert_eq!(b.book.group("staff").unwrap().1, Usage { bytes: 100, files: 3 });
    assert_eq!(kind(other.write_all(&p("/h"), Bytes::from(vec![1; 5])).await), ErrorKind::QuotaExceeded);
    other.remove_file(&p("/f")).await.unwrap();
    put(&b.alice, "/h", 70).await.unwrap();
}

#[tokio::test]
async fn the_room_that_is_left_is_told_and_what_others_did_is_found() {
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
    let b = bench_over(Arc::clone(&store), Limits { files: 10, ..bytes(1000) }, &[]).await;
    put(&b.alice, "/f", 300).await.unwrap();
    let space = b.alice.space(&VPath::root()).await.unwrap();
    assert_eq!((space.total, space.available, space.entries_free), (1000, 700, 9));
    store.write_all(&p("/past"), Bytes::from(vec![1; 500])).await.unwrap();
    let (before, found) = b.metered.rescan().await.unwrap();
    assert_eq!((before.bytes, found.bytes), (300, 800));
    assert_eq!(b.alice.space(&VPath::root()).await.unwrap().available, 200);
}

/// Who counts for some servers, in memory: of each key and server what it uses and may use.
#[derive(Default)]
struct Ledger {
    held: std::sync::Mutex<std::collections::BTreeMap<(String, usize), (u64, u64)>>,
    asked: std::sync::atomic::AtomicUsize,
    away: std::sync::atomic::AtomicBool,
}

struct Server(usize, Arc<Ledger>);

#[async_trait]
impl Grants for Server {
    async fn ask(&self, ask: &Ask, apply: Apply<'_>) -> Result<Grant> {
        use std::sync::atomic::Ordering;
        // Somebody else may come first.
        tokio::task::yield_now().await;
        if self.1.away.load(Ordering::SeqCst) {
            return Err(ErrorKind::Throttled.into());
        }
        self.1.asked.fetch_add(1, Ordering::SeqCst);
        let mut held = self.1.held.lock().unwrap();
        let others = held.iter().filter(|((key, n), _)| *key == ask.key && *n != self.0).map(|(_, h)| *h);
        let (used, may) = others.fold((0, 0), |sum, h| (sum.0 + h.0, sum.1 + h.1));
        let had = held.get(&(ask.key.clone(), self.0)).map_or(0, |h| h.1);
        let left = ask.limit.saturating_sub(may);
        let wanted = (ask.need + ahead(ask.limit, 1000)).min(left);
        let may = if ask.need <= left { wanted } else { 0 }.max(ask.used).max(had);
        held.insert((ask.key.clone(), self.0), (ask.used, may));
        let grant = Grant { may, elsewhere: used, had };
        apply(grant);
        Ok(grant)
    }
}

impl Ledger {
    /// A server tells what it uses, and gives back the rest.
    fn exchange(&self, n: usize, book: &Book) {
        let mut held = self.held.lock().unwrap();
        for h in book.give_back(&|_| 0) {
            held.insert((h.key, n), (h.used, h.may));
        }
        let mut sums = std::collections::BTreeMap::<String, u64>::new();
        for ((key, _), (used, _)) in held.iter().filter(|((_, of), _)| *of != n) {
            *sums.entry(key.clone()).or_default() += used;
        }
        book.heard(&sums.into_iter().collect::<Vec<_>>());
    }

    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn servers(limits: Limits, groups: &[(String, Limits)]) -> (Arc<Ledger>, Vec<Bench>) {
    let ledger = Arc::<Ledger>::default();
    let mut all = Vec::new();
    for n in 0..3 {
        let b = bench_over(Arc::new(MemoryStore::new()), limits, groups).await;
        b.book.count_together(Arc::new(Server(n, Arc::clone(&ledger))));
        b.metered.account().join().await.unwrap();
        all.push(b);
    }
    (ledger, all)
}

#[tokio::test]
async fn servers_together_hold_no_more_than_one_may() {
    let groups = [("staff".to_owned(), bytes(70_000))];
    let (ledger, all) = servers(Limits { files: 12, ..bytes(40_000) }, &groups).await;
    let mut dice = Dice(0x5eed);
    for step in 0..600 {
        let n = dice.below(3) as usize;
        let each = (0..3).map(|k| {
            let fs = Arc::clone(if k == 1 { &all[k].raw } else { &all[k].alice });
            let (at, size) = (format!("/f{}", dice.below(9)), 1 + dice.below(9000));
            let removes = dice.below(3) == 0;
            async move {
                let _ = match removes {
                    true => fs.remove_file(&p(&at)).await,
                    false => put(&fs, &at, size as usize).await,
                };
            }
        });
        futures_util::future::join_all(each.collect::<Vec<_>>()).await;
        let used = all.iter().map(|b| (b.published(), b.book.report()[0].promised));
        let (bytes, files) = used.fold((0, 0), |sum, (published, promised)| {
            (sum.0 + published.bytes + promised.bytes, sum.1 + published.files + promised.files)
        });
        assert!(bytes <= 40_000 && files <= 12, "{bytes} bytes, {files} files after step {step}");
        if step % 7 == 0 {
            ledger.exchange(n, &all[n].book);
        }
    }
    for b in &all {
        assert!(b.agrees().await);
    }
}

#[tokio::test]
async fn what_is_given_back_is_had_by_others_and_small_changes_ask_nobody() {
    let (ledger, all) = servers(bytes(16_000), &[]).await;
    let [a, b, c] = &all[..] else { panic!("three") };
    put(&a.alice, "/f", 100).await.unwrap();
    let asked = ledger.asked();
    for n in 0..9 {
        put(&a.alice, &format!("/g{n}"), 100).await.unwrap();
    }
    assert_eq!(ledger.asked(), asked, "there is room ahead");
    // All but what the others have: what the third did not use is missing.
    assert_eq!(kind(put(&b.alice, "/big", 15_000).await), ErrorKind::QuotaExceeded);
    ledger.exchange(2, &c.book);
    put(&b.alice, "/f", 15_000).await.unwrap();
    assert_eq!(kind(put(&a.alice, "/more", 1).await), ErrorKind::QuotaExceeded);
    ledger.exchange(1, &b.book);
    ledger.exchange(0, &a.book);
    assert_eq!(a.alice.space(&VPath::root()).await.unwrap().available, 0);
    let (used, _) = a.book.bound_by("user").unwrap();
    assert_eq!(used.bytes, 16_000, "what a handler is told is of all servers");
    // What there is may be changed, and goes to the others.
    b.alice.remove_file(&p("/f")).await.unwrap();
    ledger.exchange(1, &b.book);
    put(&a.alice, "/more", 5000).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_not_let_through() {
    let (ledger, all) = servers(bytes(16_000), &[]).await;
    put(&all[0].alice, "/f", 100).await.unwrap();
    ledger.away.store(true, std::sync::atomic::Ordering::SeqCst);
    put(&all[0].alice, "/within", 900).await.unwrap();
    assert_eq!(kind(put(&all[0].alice, "/beyond", 900).await), ErrorKind::Throttled);
    all[0].alice.remove_file(&p("/f")).await.unwrap();
    assert!(all[0].agrees().await);
}

#[tokio::test]
async fn a_soft_limit_counts_what_the_others_have() {
    let (ledger, all) = servers(Limits { soft_bytes: 100, ..bytes(1000) }, &[]).await;
    put(&all[0].alice, "/f", 150).await.unwrap();
    ledger.exchange(0, &all[0].book);
    ledger.exchange(1, &all[1].book);
    assert_eq!(kind(put(&all[1].alice, "/g", 1).await), ErrorKind::QuotaExceeded);
}
