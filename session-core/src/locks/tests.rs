//! Locks: what conflicts, what ends them, and that nobody passes without their token.

use super::*;
use crate::auth::Account;
use crate::fs::{CommitOptions, Filesystem, OpenOptions, Replace};
use crate::gate::SessionFs;
use crate::intercept::Chain;
use crate::metadata::Attributes;
use crate::session::{Actor, Ending, Protocol, Setup};
use crate::store::memory::MemoryStore;

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

fn deep(deep: bool) -> LockRequest {
    LockRequest { exclusive: true, deep, words: "me".into(), time: None }
}

struct World {
    store: Arc<MemoryStore>,
    table: Arc<LockTable>,
}

impl World {
    async fn new() -> Self {
        let world = World { store: Arc::new(MemoryStore::new()), table: Arc::default() };
        let fs = world.user("setup");
        fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        put(&fs, "/d/f").await.unwrap();
        put(&fs, "/g").await.unwrap();
        world
    }

    fn user(&self, name: &str) -> SessionFs {
        let session = Session::new(Setup::new(Protocol::Webdav, "test"));
        let identity = session.log_in(Account::named(name), vec![]).unwrap();
        let locks = Locks::new(Arc::clone(&self.table), name, Duration::from_secs(600));
        let chain = Chain::new(vec![Arc::clone(&locks) as Arc<dyn Interceptor>]);
        let store = Arc::clone(&self.store) as Arc<dyn Filesystem>;
        session.guard(&identity, store, chain).unwrap().locking(locks)
    }
}

async fn put(fs: &SessionFs, path: &str) -> Result<()> {
    let file = fs.open(&p(path), &OpenOptions::create()).await?;
    file.commit(&CommitOptions::default()).await.map(drop)
}

fn with(fs: &SessionFs, lock: &Lock) -> SessionFs {
    fs.holding([Arc::clone(&lock.token)].into())
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

const LOCKED: Option<ErrorKind> = Some(ErrorKind::Locked);

#[tokio::test]
async fn a_locked_file_is_changed_by_who_shows_the_token_and_by_nobody_else() {
    let w = World::new().await;
    let (a, b) = (w.user("a"), w.user("b"));
    let lock = a.lock(&p("/d/f"), &deep(false)).await.unwrap();
    // The same account over a protocol without tokens waits, too.
    for fs in [&b, &a, &with(&b, &lock)] {
        assert_eq!(kind(put(fs, "/d/f").await), LOCKED);
        assert_eq!(kind(fs.remove_file(&p("/d/f")).await), LOCKED);
        assert_eq!(kind(fs.rename(&p("/d/f"), &p("/x"), Replace::No).await), LOCKED);
        assert_eq!(kind(fs.rename(&p("/g"), &p("/d/f"), Replace::Yes).await), LOCKED);
        assert_eq!(kind(fs.rename(&p("/d"), &p("/e"), Replace::No).await), LOCKED, "what is in it");
        assert_eq!(
            kind(fs.set_attributes(&p("/d/f"), &Attributes::mode(0o600), crate::fs::Follow::Yes).await),
            LOCKED
        );
        assert_eq!(kind(fs.lock(&p("/d/f"), &deep(false)).await), LOCKED);
        assert_eq!(kind(fs.lock(&p("/d"), &deep(true)).await), LOCKED, "it would cover the file");
    }
    // Reading, and what is beside it, is free.
    b.open(&p("/d/f"), &OpenOptions::read()).await.unwrap();
    put(&b, "/d/other").await.unwrap();
    let roots = |locks: Vec<Lock>| locks.iter().map(|l| l.root.clone()).collect::<Vec<_>>();
    assert_eq!(roots(b.locks_against(&p("/d"))), [p("/d/f")]);
    assert_eq!(roots(b.locks_against(&p("/d/f"))), [p("/d/f")]);
    assert!(b.locks_against(&p("/g")).is_empty() && b.locks_below(&p("/d/f")).is_empty());
    let mine = with(&a, &lock);
    assert!(mine.locks_against(&p("/d")).is_empty(), "its token was shown");
    assert_eq!(roots(mine.locks_below(&p("/d"))), [p("/d/f")]);
    put(&mine, "/d/f").await.unwrap();
    assert_eq!(kind(b.unlock(&p("/d/f"), &lock.token).await), Some(ErrorKind::PreconditionFailed));
    a.unlock(&p("/d/f"), &lock.token).await.unwrap();
    put(&b, "/d/f").await.unwrap();
}

#[tokio::test]
async fn a_lock_of_a_directory_covers_its_names_and_a_deep_one_all_below() {
    let w = World::new().await;
    let (a, b) = (w.user("a"), w.user("b"));
    let lock = a.lock(&p("/d"), &deep(false)).await.unwrap();
    assert_eq!(kind(put(&b, "/d/new").await), LOCKED);
    assert_eq!(kind(b.remove_file(&p("/d/f")).await), LOCKED);
    assert_eq!(kind(b.create_dir(&p("/d/sub"), &Attributes::none()).await), LOCKED);
    put(&b, "/d/f").await.expect("what a file holds is not the directory's");
    put(&with(&a, &lock), "/d/new").await.unwrap();
    a.unlock(&p("/d"), &lock.token).await.unwrap();
    let lock = a.lock(&p("/d"), &deep(true)).await.unwrap();
    assert_eq!(kind(put(&b, "/d/f").await), LOCKED);
    let mine = with(&a, &lock);
    mine.create_dir(&p("/d/x"), &Attributes::none()).await.unwrap();
    put(&mine, "/d/x/y").await.unwrap();
    assert_eq!(mine.locks_at(&p("/d/x/y")).len(), 1);
    // Found from below, as it covers what is there.
    a.refresh_lock(&p("/d/x/y"), &lock.token, Some(Duration::from_secs(5))).await.unwrap();
    a.unlock(&p("/d/x/y"), &lock.token).await.unwrap();
    assert!(a.locks_at(&p("/d")).is_empty());
}

#[tokio::test]
async fn shared_locks_stand_beside_each_other() {
    let w = World::new().await;
    let (a, b, c) = (w.user("a"), w.user("b"), w.user("c"));
    let shared = LockRequest { exclusive: false, ..deep(false) };
    let (one, two) = (a.lock(&p("/g"), &shared).await.unwrap(), b.lock(&p("/g"), &shared).await.unwrap());
    assert_ne!(one.token, two.token);
    assert_eq!(kind(c.lock(&p("/g"), &deep(false)).await), LOCKED);
    assert_eq!(kind(put(&c, "/g").await), LOCKED);
    put(&with(&a, &one), "/g").await.unwrap();
    put(&with(&b, &two), "/g").await.unwrap();
}

#[tokio::test]
async fn a_name_is_locked_before_anything_is_there_and_a_link_where_it_leads() {
    let w = World::new().await;
    let (a, b) = (w.user("a"), w.user("b"));
    a.lock(&p("/new"), &deep(false)).await.unwrap();
    assert_eq!(kind(put(&b, "/new").await), LOCKED);
    b.symlink(b"/g", &p("/link")).await.unwrap();
    let lock = a.lock(&p("/link"), &deep(false)).await.unwrap();
    assert_eq!(lock.root, p("/g"));
    assert_eq!(kind(put(&b, "/g").await), LOCKED);
    assert_eq!(kind(put(&b, "/link").await), LOCKED);
}

#[tokio::test(start_paused = true)]
async fn a_lock_ends_with_its_time_its_session_and_what_it_covers() {
    let w = World::new().await;
    let (a, b) = (w.user("a"), w.user("b"));
    let lock = a.lock(&p("/g"), &LockRequest { time: Some(Duration::from_secs(10)), ..deep(false) }).await;
    let lock = lock.unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    a.refresh_lock(&p("/g"), &lock.token, Some(Duration::from_secs(10))).await.unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(kind(put(&b, "/g").await), LOCKED);
    tokio::time::advance(Duration::from_secs(6)).await;
    put(&b, "/g").await.unwrap();
    // However long it is asked for.
    let long = LockRequest { time: Some(Duration::from_secs(1 << 30)), ..deep(false) };
    assert_eq!(a.lock(&p("/g"), &long).await.unwrap().left, Duration::from_secs(600));
    a.session().cut(Ending::new("bye", Actor::Client));
    put(&b, "/g").await.unwrap();
    let c = w.user("c");
    let lock = c.lock(&p("/g"), &deep(false)).await.unwrap();
    with(&c, &lock).rename(&p("/g"), &p("/h"), Replace::No).await.unwrap();
    put(&b, "/g").await.unwrap();
    put(&b, "/h").await.expect("a rename does not carry it along");
}

#[tokio::test]
async fn what_was_locked_after_it_was_opened_is_not_published() {
    let w = World::new().await;
    let (a, b) = (w.user("a"), w.user("b"));
    let file = b.open(&p("/g"), &OpenOptions::create()).await.unwrap();
    a.lock(&p("/g"), &deep(false)).await.unwrap();
    assert_eq!(kind(file.commit(&CommitOptions::default()).await), LOCKED);
}

#[tokio::test]
async fn an_account_has_so_many_and_no_more() {
    let w = World::new().await;
    let a = w.user("a");
    for n in 0..MAX_PER_ACCOUNT {
        a.lock(&p(&format!("/n{n}")), &deep(false)).await.unwrap();
    }
    assert_eq!(kind(a.lock(&p("/one-more"), &deep(false)).await), Some(ErrorKind::Throttled));
    w.user("b").lock(&p("/one-more"), &deep(false)).await.unwrap();
}
