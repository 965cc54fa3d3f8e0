//! The database and the desk: what is kept, what is refused, what is told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod nodes;
mod sites;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::desk::{InForce, Touched};
use super::*;

/// A server that only remembers what it was told.
struct Told {
    file: Arc<Config>,
    touched: Mutex<Vec<Touched>>,
}

#[async_trait]
impl InForce for Told {
    fn file(&self) -> Arc<Config> {
        Arc::clone(&self.file)
    }

    async fn rehearse(&self, _: Contents, changed: Vec<String>) -> Result<()> {
        match changed.iter().any(|name| name == "unservable") {
            true => Err(Error::new(ErrorKind::AlreadyExists).with_detail("a port that is taken")),
            false => Ok(()),
        }
    }

    fn declared_secrets(&self) -> Vec<String> {
        vec!["declared".into()]
    }

    async fn renew(&self, touched: Touched, _: &str) -> Result<usize> {
        self.touched.lock().unwrap().push(touched);
        Ok(3)
    }
}

struct World {
    dir: tempfile::TempDir,
    desk: Arc<Desk>,
    told: Arc<Told>,
    accounts: Arc<Accounts>,
}

const FILE_TEXT: &str = "[[groups]]\nname = \"staff\"\nread_only = true\n[[users]]\nname = \"root\"\n";

impl World {
    async fn new() -> World {
        World::at(tempfile::tempdir().unwrap(), FILE_TEXT).await
    }

    async fn at(dir: tempfile::TempDir, text: &str) -> World {
        World::over(dir, text, None).await
    }

    /// A node, where there is a store that nodes share.
    async fn over(
        dir: tempfile::TempDir,
        text: &str,
        shared: Option<(Arc<dyn AccountStore>, Duration)>,
    ) -> World {
        let file = dir.path().join("ferryd.toml");
        std::fs::write(&file, format!("data = \".\"\n{text}")).unwrap();
        let (config, faults) = Config::load(&file).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        let told = Arc::new(Told { file: Arc::new(config.clone()), touched: Mutex::default() });
        let accounts = match shared {
            Some((store, believed)) => Accounts::of(store, Some(believed)).await.unwrap(),
            None => Accounts::open(&config, None).await.unwrap(),
        };
        let desk = Desk::new(Arc::clone(&accounts), Arc::clone(&told) as Arc<dyn InForce>);
        World { dir, desk, told, accounts }
    }

    /// The same folder, read by another process.
    async fn again(self) -> World {
        let World { dir, desk, told, accounts } = self;
        drop((desk, told, accounts));
        World::at(dir, FILE_TEXT).await
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    async fn ask(&self, asked: Asked, name: &str, body: Value) -> Result<Value> {
        self.desk.answer(asked, name, Vec::new(), body, "uid 0").await
    }

    async fn done(&self, asked: Asked, name: &str, body: Value) -> Value {
        self.ask(asked, name, body).await.unwrap_or_else(|e| panic!("{asked:?} {name}: {e:#}"))
    }

    /// The refusal: kind and words.
    async fn refused(&self, asked: Asked, name: &str, body: Value) -> (ErrorKind, String) {
        let e = self.ask(asked, name, body).await.err().unwrap();
        (e.kind(), e.to_string())
    }
}

#[tokio::test]
async fn a_database_comes_with_the_first_change_and_holds_it_through_a_restart() {
    let w = World::new().await;
    assert!(!w.database().exists());
    w.done(Asked::Users, "", Value::Null).await;
    assert!(!w.database().exists(), "looking makes nothing");
    let added =
        w.done(Asked::AddUser, "", json!({ "name": "bob", "groups": ["staff"], "new_password": "pw" })).await;
    assert_eq!((&added["ended"], &added["user"]["readOnly"]), (&json!(3), &json!(true)));
    assert_eq!(*w.told.touched.lock().unwrap(), [Touched::Users(vec![("ferry".into(), "bob".into())])]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&w.database()), 0o600);
    assert_eq!(mode(&w.dir.path().join("accounts.db-wal")), 0o600);
    let w = w.again().await;
    let bob = w.done(Asked::User, "bob", Value::Null).await;
    assert_eq!(
        (&bob["source"], &bob["password"], &bob["record"]["password"]),
        (&json!("database"), &json!(true), &json!("set"))
    );
    let stored = w.accounts.contents().users[&("ferry".to_string(), "bob".to_string())].clone();
    assert!(stored.record["password"].as_str().unwrap().starts_with("$argon2id$"));
    assert!(!format!("{stored:?}").contains("argon2"));
    w.done(Asked::RemoveUser, "bob", Value::Null).await;
    let w = w.again().await;
    assert_eq!(w.refused(Asked::User, "bob", Value::Null).await.0, ErrorKind::NotFound);
}

#[tokio::test]
async fn the_file_wins_and_no_double_is_made() {
    let w = World::new().await;
    for (asked, name, body) in [
        (Asked::AddUser, "", json!({ "name": "root" })),
        (Asked::ChangeUser, "root", json!({ "enabled": false })),
        (Asked::Password, "root", json!({ "password": "x" })),
        (Asked::RemoveUser, "root", Value::Null),
        (Asked::AddGroup, "", json!({ "name": "staff" })),
        (Asked::RemoveGroup, "staff", Value::Null),
    ] {
        let (kind, words) = w.refused(asked, name, body).await;
        assert!(
            kind == ErrorKind::AlreadyExists && words.contains("stands in the configuration file"),
            "{words}"
        );
    }
    assert_eq!(
        w.refused(Asked::PutSecret, "declared", json!({ "value": "x" })).await.0,
        ErrorKind::AlreadyExists
    );
    w.done(Asked::AddUser, "", json!({ "name": "bob" })).await;
    assert_eq!(w.refused(Asked::AddUser, "", json!({ "name": "bob" })).await.0, ErrorKind::AlreadyExists);
    // The file takes the name later: what is stored does not count, is told, and can be removed.
    let World { dir, desk, told, accounts } = w;
    drop((desk, told, accounts));
    let w = World::at(dir, &format!("{FILE_TEXT}[[users]]\nname = \"bob\"\nread_only = true\n")).await;
    let bob = w.done(Asked::User, "bob", Value::Null).await;
    assert!(bob["source"] == "file" && bob["readOnly"] == true && bob["double"].is_string(), "{bob}");
    assert!(w.accounts.users(&w.told.file).is_empty());
    w.done(Asked::RemoveUser, "bob", Value::Null).await;
    assert!(w.done(Asked::User, "bob", Value::Null).await.get("double").is_none());
}

#[tokio::test]
async fn a_change_that_makes_no_sense_changes_nothing() {
    let w = World::new().await;
    w.done(Asked::AddUser, "", json!({ "name": "bob", "home": "/srv/bob" })).await;
    let before = w.accounts.contents().clone();
    for (asked, name, body, words) in [
        (Asked::AddUser, "", json!({ "name": "../x" }), "a user's name is"),
        (Asked::AddUser, "", json!({ "name": "eve", "hme": "/x" }), "did you mean 'home'"),
        (Asked::AddUser, "", json!({ "name": "eve", "groups": ["none"] }), "there is no group 'none'"),
        (Asked::AddUser, "", json!({ "name": "eve", "new_password": "" }), "a password is one line"),
        (Asked::AddUser, "", json!({ "name": "eve", "password": "plain" }), "no password hash"),
        (Asked::AddUser, "", json!(["name"]), "an object of JSON"),
        (Asked::ChangeUser, "bob", json!({ "require": ["password"] }), "must give a password and has none"),
        (Asked::Password, "bob", json!({ "password": 7 }), "as text"),
        (Asked::AddToken, "", json!({ "name": "t", "role": "root" }), "a role is"),
        (Asked::AddToken, "", json!({ "name": "t", "role": "read", "time": "soon" }), "no duration"),
        (Asked::PutSecret, "s", json!({ "value": "" }), "a secret has"),
    ] {
        let (kind, said) = w.refused(asked, name, body.clone()).await;
        assert!(kind == ErrorKind::InvalidArgument && said.contains(words), "{body}: {said}");
    }
    assert_eq!(w.refused(Asked::ChangeUser, "nobody", json!({})).await.0, ErrorKind::NotFound);
    let e = w.desk.answer(Asked::User, "bob", vec![("colour".into(), "red".into())], Value::Null, "").await;
    assert_eq!(e.err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert_eq!(*w.accounts.contents(), before);
    assert_eq!(*w.again().await.accounts.contents(), before);
}

#[tokio::test]
async fn groups_are_given_and_not_taken_from_who_needs_them() {
    let w = World::new().await;
    w.done(Asked::AddGroup, "", json!({ "name": "fast", "speed_limit": 7, "home": "homes/f/%u" })).await;
    w.done(Asked::AddUser, "", json!({ "name": "bob", "groups": ["fast"], "new_password": "x" })).await;
    let bob = w.accounts.user(&w.told.file, "bob").unwrap();
    assert_eq!((bob.speed_limit, bob.home.clone()), (7, w.dir.path().join("homes/f/bob")));
    assert_eq!(w.refused(Asked::RemoveGroup, "fast", Value::Null).await.0, ErrorKind::NotEmpty);
    // A factor that a member does not have would lock it out.
    let (_, words) = w.refused(Asked::ChangeGroup, "fast", json!({ "require": ["publickey"] })).await;
    assert!(words.contains("user 'bob'") && words.contains("has none"), "{words}");
    w.done(Asked::ChangeGroup, "fast", json!({ "speed_limit": 8 })).await;
    let keys = vec![("ferry".to_string(), "bob".to_string())];
    assert_eq!(w.told.touched.lock().unwrap().last(), Some(&Touched::Users(keys)));
    assert_eq!(w.accounts.user(&w.told.file, "bob").unwrap().speed_limit, 8);
    w.done(Asked::ChangeUser, "bob", json!({ "groups": null, "home": "/h" })).await;
    let bob = w.accounts.user(&w.told.file, "bob").unwrap();
    assert!(bob.speed_limit == 0 && bob.home == Path::new("/h") && bob.password.is_some());
    w.done(Asked::RemoveGroup, "fast", Value::Null).await;
}

#[tokio::test]
async fn groups_in_groups_give_to_all_below_and_never_to_themselves() {
    let w = World::new().await;
    w.done(Asked::AddGroup, "", json!({ "name": "all", "speed_limit": 7 })).await;
    w.done(Asked::AddGroup, "", json!({ "name": "some", "groups": ["all", "staff"] })).await;
    w.done(Asked::AddUser, "", json!({ "name": "bob", "groups": ["some"] })).await;
    let bob = || w.accounts.user(&w.told.file, "bob").unwrap();
    assert!(bob().speed_limit == 7 && bob().read_only && bob().groups == ["some"]);
    w.done(Asked::ChangeGroup, "all", json!({ "speed_limit": 8 })).await;
    let keys = vec![("ferry".to_string(), "bob".to_string())];
    assert_eq!(w.told.touched.lock().unwrap().last(), Some(&Touched::Users(keys)));
    assert_eq!(bob().speed_limit, 8);
    let (_, words) = w.refused(Asked::ChangeGroup, "all", json!({ "groups": ["some"] })).await;
    assert!(words.contains("the group 'all' is in itself, by all, some"), "{words}");
    let (_, words) = w.refused(Asked::AddGroup, "", json!({ "name": "x", "groups": ["none"] })).await;
    assert!(words.contains("there is no group 'none'"), "{words}");
    w.done(Asked::RemoveUser, "bob", Value::Null).await;
    assert_eq!(w.refused(Asked::RemoveGroup, "all", Value::Null).await.0, ErrorKind::NotEmpty);
    w.done(Asked::RemoveGroup, "some", Value::Null).await;
    w.done(Asked::RemoveGroup, "all", Value::Null).await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let w = World::new().await;
    for name in ["a", "b", "c"] {
        w.done(Asked::AddUser, "", json!({ "name": name, "groups": ["staff"] })).await;
    }
    let page = async |query: &[(&str, &str)]| {
        let query = query.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        let page = w.desk.answer(Asked::Users, "", query, Value::Null, "").await.unwrap();
        let names: Vec<_> = page["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|u| u["name"].as_str().unwrap().to_string())
            .collect();
        (names.join(" "), page["after"].clone())
    };
    assert_eq!(page(&[]).await, ("a b c root".into(), Value::Null));
    assert_eq!(page(&[("limit", "2")]).await, ("a b".into(), json!("ferry/b")));
    assert_eq!(page(&[("limit", "2"), ("after", "ferry/b")]).await, ("c root".into(), Value::Null));
    assert_eq!(page(&[("group", "staff")]).await.0, "a b c");
    assert_eq!(page(&[("site", "other")]).await.0, "");
}

#[tokio::test]
async fn an_export_holds_no_secret_and_comes_back_as_a_whole() {
    let w = World::new().await;
    w.done(Asked::AddGroup, "", json!({ "name": "fast", "speed_limit": 7 })).await;
    w.done(Asked::AddUser, "", json!({ "name": "bob", "groups": ["fast"], "new_password": "x" })).await;
    w.done(Asked::AddUser, "", json!({ "name": "eve", "new_password": "x" })).await;
    let codes = w.done(Asked::Codes, "eve", Value::Null).await;
    w.done(Asked::PutSecret, "s", json!({ "value": "hunter2" })).await;
    w.done(Asked::AddToken, "", json!({ "name": "t", "role": "admin" })).await;
    let plain = w.done(Asked::Export, "", Value::Null).await;
    let text = plain.to_string();
    assert!(!text.contains("hunter2") && !text.contains(codes["secret"].as_str().unwrap()), "{text}");
    let whole = w
        .desk
        .answer(Asked::Export, "", vec![("secrets".into(), "yes".into())], Value::Null, "")
        .await
        .unwrap();
    assert_eq!(whole["secrets"]["s"], "hunter2");
    assert!(whole.get("tokens").is_none());

    let other = World::new().await;
    let done = other.done(Asked::Import, "", plain.clone()).await;
    assert_eq!(
        (&done["users"], &done["groups"], &done["switchedOff"]),
        (&json!(2), &json!(1), &json!(["eve"]))
    );
    assert_eq!(other.done(Asked::User, "eve", Value::Null).await["enabled"], false);
    assert_eq!(other.done(Asked::User, "bob", Value::Null).await["speedLimit"], 7);
    let (kind, words) = other.refused(Asked::Import, "", plain.clone()).await;
    assert!(kind == ErrorKind::AlreadyExists && words.contains("user 'bob' is there already"), "{words}");

    // Over what is there: who still has its codes keeps them.
    let replace = || vec![("replace".to_string(), "yes".to_string())];
    let done = w.desk.answer(Asked::Import, "", replace(), plain.clone(), "").await.unwrap();
    assert_eq!(done["switchedOff"], json!([]));
    assert_eq!(w.done(Asked::User, "eve", Value::Null).await["totp"], true);
    let third = World::new().await;
    third.done(Asked::Import, "", whole.clone()).await;
    assert_eq!(third.accounts.contents().users.keys().count(), 2);
    assert_eq!(third.accounts.contents().secrets["s"].expose(), "hunter2");

    // One fault, and nothing is taken.
    let fresh = World::new().await;
    let mut damaged = whole;
    damaged["users"][1]["record"]["hme"] = json!("/x");
    assert!(fresh.ask(Asked::Import, "", damaged.clone()).await.is_err());
    damaged["users"][1] = json!({ "site": "ferry", "name": "root", "record": {} });
    let (_, words) = fresh.refused(Asked::Import, "", damaged).await;
    assert!(words.contains("'root' stands in the configuration file"), "{words}");
    assert!(fresh.refused(Asked::Import, "", json!({ "users": [] })).await.1.contains("no export"));
    assert_eq!(*fresh.accounts.contents(), Contents::default());
    assert!(!fresh.database().exists());
}

#[tokio::test]
async fn tokens_are_kept_as_hashes_and_bear_their_role() {
    let w = World::new().await;
    let made = w.done(Asked::AddToken, "", json!({ "name": "ci", "role": "operate", "time": "1d" })).await;
    let text = made["token"].as_str().unwrap();
    let w = w.again().await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(w.desk.bearer(text).unwrap(), (id.to_string(), "ci".to_string(), Role::Operate));
    assert!(w.desk.takes(id));
    assert!(w.desk.bearer(&text[..text.len() - 1]).is_none());
    let bytes = std::fs::read(w.database()).unwrap();
    let secret = text.rsplit('_').next().unwrap().as_bytes();
    assert!(!bytes.windows(secret.len()).any(|b| b == secret));
    w.done(Asked::RemoveToken, id, Value::Null).await;
    assert!(w.desk.bearer(text).is_none() && !w.desk.takes(id));
}

#[tokio::test]
async fn a_change_is_carried_through_when_its_caller_goes_away() {
    let w = World::new().await;
    {
        let work = w.ask(Asked::AddUser, "", json!({ "name": "bob", "new_password": "x" }));
        let mut work = std::pin::pin!(work);
        // Once begun, and dropped.
        assert!(futures_util::poll!(work.as_mut()).is_pending());
    }
    // The next change waits for the one before it.
    w.done(Asked::AddUser, "", json!({ "name": "eve" })).await;
    assert_eq!(w.told.touched.lock().unwrap().len(), 2);
    assert_eq!(w.again().await.accounts.contents().users.len(), 2);
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    std::fs::write(&file, "not a database, and long enough to look like one".repeat(50)).unwrap();
    let open = async || Accounts::open(&Config::default_for(dir.path()), None).await;
    assert_eq!(open().await.err().unwrap().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(&file).unwrap();
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE x (y); PRAGMA user_version = 1")
        .unwrap();
    let e = open().await.err().unwrap();
    assert!(e.to_string().contains("not a database of ferryd"), "{e}");
    assert_eq!(read_file(&file).err().unwrap().kind(), ErrorKind::Corrupt);
}
