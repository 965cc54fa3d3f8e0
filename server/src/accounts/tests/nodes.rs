//! Several nodes over one store: what one changes the others take up, and none judges by what is no more.

use super::*;

/// What is kept, which revision of it, and how it came to be.
type State = (Contents, Revision, Vec<(Revision, Change)>);

/// A store in memory, as the one in PostgreSQL behaves.
#[derive(Default)]
struct Common {
    state: Mutex<State>,
    broken: std::sync::atomic::AtomicBool,
    /// Told to somebody new: it reads everything.
    anew: std::sync::atomic::AtomicBool,
    /// What comes in between, once, as a change of a third node.
    between: Mutex<Option<Change>>,
}

impl Common {
    fn reached(&self) -> Result<()> {
        match self.broken.load(std::sync::atomic::Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Internal).with_detail("it cannot be reached")),
            false => Ok(()),
        }
    }

    fn write(&self, change: Change) -> Revision {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        state.0.apply(change.clone());
        let revision = state.1;
        state.2.push((revision, change));
        revision
    }
}

#[async_trait]
impl AccountStore for Common {
    async fn load(&self) -> Result<(Contents, Revision)> {
        self.reached()?;
        let state = self.state.lock().unwrap();
        Ok((state.0.clone(), state.1))
    }

    async fn apply(&self, changes: Vec<Change>, seen: Revision, _: &str) -> Result<Revision> {
        self.reached()?;
        if let Some(change) = self.between.lock().unwrap().take() {
            self.write(change);
        }
        if self.state.lock().unwrap().1 != seen {
            return Err(ErrorKind::PreconditionFailed.into());
        }
        changes.into_iter().map(|change| self.write(change)).last().ok_or(ErrorKind::Internal.into())
    }

    async fn news(&self, seen: Revision) -> Result<Option<News>> {
        self.reached()?;
        let state = self.state.lock().unwrap();
        if self.anew.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return Ok(Some(News::All(state.0.clone(), state.1)));
        }
        let changes: Vec<_> = state.2.iter().filter(|(r, _)| *r > seen).map(|(_, c)| c.clone()).collect();
        Ok((state.1 != seen).then(|| News::Changes(changes, state.1, "uid 0 on other".into())))
    }
}

const HOUR: Duration = Duration::from_secs(3600);

async fn nodes() -> (Arc<Common>, World, World) {
    let common = Arc::<Common>::default();
    let node = async || {
        let shared: Arc<dyn AccountStore> = Arc::clone(&common) as _;
        World::over(tempfile::tempdir().unwrap(), FILE_TEXT, Some((shared, HOUR))).await
    };
    let (a, b) = (node().await, node().await);
    (common, a, b)
}

impl World {
    /// As one who follows does it.
    async fn catch_up(&self) -> Result<()> {
        let _turn = self.accounts.turn().await;
        self.desk.catch_up().await
    }

    fn last(&self) -> Option<Touched> {
        self.told.touched.lock().unwrap().last().cloned()
    }

    fn knows(&self, name: &str) -> bool {
        self.accounts.contents().users.contains_key(&("ferry".into(), name.into()))
    }
}

fn stored(record: Value) -> Option<Arc<Stored>> {
    Some(Arc::new(Stored { record: record.as_object().unwrap().clone(), changed: 7 }))
}

fn key(name: &str) -> Key {
    ("ferry".into(), name.into())
}

#[tokio::test]
async fn what_one_node_changes_the_others_put_in_force() {
    let (common, a, b) = nodes().await;
    a.done(Asked::AddUser, "", json!({ "name": "bob", "new_password": "pw" })).await;
    assert!(!b.knows("bob"));
    b.catch_up().await.unwrap();
    assert!(b.knows("bob"));
    assert_eq!(b.last(), Some(Touched::Users(vec![key("bob")])));
    a.done(Asked::ChangeUser, "bob", json!({ "enabled": false })).await;
    a.done(Asked::RemoveUser, "bob", Value::Null).await;
    b.catch_up().await.unwrap();
    assert!(!b.knows("bob"));
    assert_eq!(b.last(), Some(Touched::Users(vec![key("bob"), key("bob")])));
    a.done(Asked::AddGroup, "", json!({ "name": "fast" })).await;
    b.catch_up().await.unwrap();
    assert_eq!(b.last(), Some(Touched::AllUsers));
    a.done(Asked::PutSecret, "s", json!({ "value": "x" })).await;
    let made = a.done(Asked::AddToken, "", json!({ "name": "t", "role": "read" })).await;
    b.catch_up().await.unwrap();
    assert_eq!(b.last(), Some(Touched::Secrets));
    let token = made["token"].as_str().unwrap();
    assert!(b.desk.bearer(token).is_some(), "a token is good on every node");
    a.done(Asked::RemoveToken, made["id"].as_str().unwrap(), Value::Null).await;
    b.catch_up().await.unwrap();
    assert!(b.desk.bearer(token).is_none());
    let told = b.told.touched.lock().unwrap().len();
    b.catch_up().await.unwrap();
    assert_eq!(b.told.touched.lock().unwrap().len(), told, "nothing new is nothing to do");
    assert_eq!(*b.accounts.contents(), common.state.lock().unwrap().0);
}

/// Before a change is judged, the changes of others are taken up; those that come in between, too.
#[tokio::test]
async fn a_change_is_judged_by_what_is_there_now() {
    let (common, a, b) = nodes().await;
    a.done(Asked::AddGroup, "", json!({ "name": "fast" })).await;
    b.done(Asked::AddUser, "", json!({ "name": "bob", "groups": ["fast"] })).await;
    assert_eq!(a.refused(Asked::RemoveGroup, "fast", Value::Null).await.0, ErrorKind::NotEmpty);
    assert_eq!(a.refused(Asked::AddUser, "", json!({ "name": "bob" })).await.0, ErrorKind::AlreadyExists);
    // While it is written, a third node puts somebody else into the group, and makes the same user.
    *common.between.lock().unwrap() = Some(Change::User(key("eve"), stored(json!({ "groups": ["fast"] }))));
    b.done(Asked::RemoveUser, "bob", Value::Null).await;
    assert!(b.knows("eve") && !b.knows("bob"));
    *common.between.lock().unwrap() = Some(Change::User(key("new"), stored(json!({ "home": "/theirs" }))));
    assert_eq!(a.refused(Asked::AddUser, "", json!({ "name": "new" })).await.0, ErrorKind::AlreadyExists);
    assert_eq!(
        a.accounts.contents().users[&key("new")].record["home"],
        json!("/theirs"),
        "the first one stands"
    );
}

#[tokio::test]
async fn without_the_database_nothing_changes_and_accounts_are_believed_for_a_while() {
    let (common, a, _) = nodes().await;
    a.done(Asked::AddUser, "", json!({ "name": "bob" })).await;
    common.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    let before = a.accounts.contents().clone();
    assert!(a.ask(Asked::AddUser, "", json!({ "name": "eve" })).await.is_err());
    assert!(a.catch_up().await.is_err());
    assert!(a.accounts.is_believed() && *a.accounts.contents() == before);
    // Long ago: what cannot be seen any more is not believed, what the file says still is.
    a.accounts.doubt();
    assert!(!a.accounts.is_believed());
    a.accounts.refresh().await.unwrap();
    assert!(!a.accounts.is_believed(), "a reload is no proof");
    common.broken.store(false, std::sync::atomic::Ordering::Relaxed);
    a.catch_up().await.unwrap();
    assert!(a.accounts.is_believed());
}

/// A line that broke may have hidden anything: everything is read, and what differs is put in force.
#[tokio::test]
async fn what_happened_while_nobody_looked_is_found() {
    let (common, a, b) = nodes().await;
    for name in ["bob", "eve"] {
        a.done(Asked::AddUser, "", json!({ "name": name })).await;
    }
    b.catch_up().await.unwrap();
    {
        // The database is put back to what it was long ago.
        let mut state = common.state.lock().unwrap();
        state.0.apply(Change::User(key("bob"), None));
        state.0.apply(Change::User(key("zoe"), stored(json!({}))));
        state.1 = 1;
        state.2.clear();
    }
    common.anew.store(true, std::sync::atomic::Ordering::Relaxed);
    b.catch_up().await.unwrap();
    assert!(!b.knows("bob") && b.knows("eve") && b.knows("zoe"));
    assert_eq!(b.last(), Some(Touched::Users(vec![key("bob"), key("zoe")])));
    common.anew.store(true, std::sync::atomic::Ordering::Relaxed);
    let told = b.told.touched.lock().unwrap().len();
    b.catch_up().await.unwrap();
    assert_eq!(b.told.touched.lock().unwrap().len(), told);
}

#[tokio::test]
async fn a_site_of_one_node_is_one_of_all() {
    let (_, a, b) = nodes().await;
    a.done(Asked::AddSite, "", json!({ "name": "shop", "listeners": [{ "port": 2222 }] })).await;
    b.desk.catch_up().await.unwrap();
    assert_eq!(b.told.touched.lock().unwrap().pop(), Some(Touched::Sites));
    assert_eq!(b.done(Asked::Site, "shop", Value::Null).await["source"], "database");
    // What is read as a whole leads to the same.
    b.done(Asked::RemoveSite, "shop", Value::Null).await;
    a.desk.catch_up().await.unwrap();
    assert_eq!(a.told.touched.lock().unwrap().pop(), Some(Touched::Sites));
    assert_eq!(a.refused(Asked::Site, "shop", Value::Null).await.0, ErrorKind::NotFound);
}
