//! Who vouches, how long that holds, and what a reload makes of it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use session_core::auth::{Authenticator as _, Credential, Method, Proof, SignedKey};
use session_core::session::{Protocol, Setup};

use super::*;
use crate::accounts;

/// A directory with one account; it counts how often it is asked.
struct Fake {
    password: &'static str,
    record: Result<Option<Record>, ()>,
    asked: Arc<AtomicUsize>,
    /// It may be asked without a password.
    finds: bool,
}

#[async_trait]
impl Vouch for Fake {
    async fn ask(&self, user: &str, password: &Secret, _: About<'_>) -> Result<Word> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let record = self.record.clone().map_err(|()| Error::new(ErrorKind::Disconnected))?;
        Ok(record.filter(|_| user == "ada" && password.expose() == self.password).into())
    }

    async fn find(&self, user: &str, _: Option<&str>, _: About<'_>) -> Result<Found> {
        let record = self.record.clone().map_err(|()| Error::new(ErrorKind::Disconnected))?;
        Ok(match record.filter(|_| user == "ada") {
            _ if !self.finds => Found::Silent,
            Some(record) => Found::Is(record),
            None => Found::Nobody,
        })
    }
}

fn groups(names: &[&str]) -> Record {
    Record::from_iter([("groups".to_owned(), json!(names))])
}

fn fake(record: Result<Option<Record>, ()>, cache: Duration) -> (Directory, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let vouch = Box::new(Fake { password: "good", record, asked: Arc::clone(&asked), finds: false });
    (one(cache, vouch), asked)
}

fn one(cache: Duration, vouch: Box<dyn Vouch>) -> Directory {
    let (permits, talks) = (Semaphore::new(1), Arc::new(Semaphore::new(2)));
    let groups = vec!["staff".to_owned()];
    Directory { name: "fake".into(), groups, cache, time: Duration::from_secs(5), permits, talks, vouch }
}

fn config(groups: &str) -> Arc<Config> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(groups.as_bytes()).unwrap();
    Arc::new(Config::load(file.path()).unwrap().0)
}

fn external(config: Arc<Config>, directories: Vec<Directory>, remembered: &Arc<Remembered>) -> Arc<External> {
    with_entries(config, directories, remembered, &[])
}

/// With what is kept here for accounts of theirs.
fn with_entries(
    config: Arc<Config>,
    directories: Vec<Directory>,
    remembered: &Arc<Remembered>,
    entries: &[(&str, serde_json::Value)],
) -> Arc<External> {
    let mut contents = accounts::Contents::default();
    for (name, record) in entries {
        let record = record.as_object().unwrap().clone();
        let stored = accounts::Stored { record, changed: 0 };
        contents.users.insert((config.site.clone(), (*name).to_owned()), Arc::new(stored));
    }
    Arc::new(External {
        config,
        accounts: Accounts::holding(contents),
        directories: directories.into_iter().map(Arc::new).collect(),
        remembered: Arc::clone(remembered),
        made: Mutex::default(),
    })
}

const STAFF: &str = "[[groups]]\nname = \"staff\"\nspeed_limit = 1000\nread_only = true\n\
                     [[directories]]\nname = \"fake\"\nurl = \"https://fake.example/\"\n";
const DIRECTORY: &str = "[[directories]]\nname = \"fake\"\nurl = \"https://fake.example/\"\n";
const MINUTE: Duration = Duration::from_secs(60);

async fn hears(external: &Arc<External>, user: &str, password: &str, may_ask: bool) -> Heard {
    let session = Session::new(Setup::new(Protocol::Sftp, "main"));
    external.proves(user, &Secret::new(password), &session, may_ask).await
}

async fn proves(external: &Arc<External>, user: &str, password: &str) -> bool {
    hears(external, user, password, false).await == Heard::Yes
}

/// A program that asks for a code whatever the password, and says yes to a good password with its code.
const ASKS: &str = "#!/bin/sh
read -r line
case \"$line\" in *'\"talks\":true'*) ;; *) echo '{\"answer\":\"no\",\"why\":\"nobody answers\"}'; exit;; esac
echo '{\"answer\":\"asks\",\"words\":\"\",\"prompt\":\"Code: \",\"echo\":true}'
read -r text
case \"$line$text\" in
    *'\"password\":\"good\"'*'\"text\":\"123\"'*) echo '{\"answer\":\"yes\"}';;
    *) echo '{\"answer\":\"no\",\"why\":\"wrong\"}';;
esac
";

fn asking(dir: &std::path::Path) -> Directory {
    use std::os::unix::fs::PermissionsExt as _;
    let program = dir.join("asks");
    std::fs::write(&program, ASKS).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let table = format!("name = \"d\"\nurl = \"pam://x\"\ngroups = [\"staff\"]\nprogram = {program:?}");
    one(MINUTE, Box::new(pam::Pam::new(&toml::from_str(&table).unwrap()).unwrap()))
}

#[tokio::test]
async fn a_directory_that_asks_more_is_believed_with_its_last_answer_and_nothing_is_remembered_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let remembered = Arc::new(Remembered::new().unwrap());
    let all = external(config(STAFF), vec![asking(dir.path())], &remembered);
    let asked = async |password: &str| match hears(&all, "ada", password, true).await {
        Heard::Ask(Question { prompt, echo: true, check: Check::Asked(asked) }) if prompt == "Code: " => {
            asked
        }
        other => panic!("{other:?}"),
    };
    let answer = Secret::new("123");
    for (password, user, text) in [("bad", "ada", "123"), ("good", "ada", "456"), ("good", "eve", "123")] {
        assert_eq!(
            asked(password).await.0.hear(user, &Secret::new(text)).await,
            Heard::No,
            "{password} {text}"
        );
    }
    assert!(all.account("ada").is_none());
    let once = asked("good").await;
    assert_eq!(once.0.hear("ada", &answer).await, Heard::Yes);
    assert_eq!(once.0.hear("ada", &answer).await, Heard::No, "an answer is judged once");
    assert!(all.account("ada").unwrap().read_only);
    // The password alone is worth nothing, now as before, nor is anybody asked who cannot be.
    assert_eq!(hears(&all, "ada", "good", false).await, Heard::No);
    let (first, second) = (asked("good").await, asked("good").await);
    assert_eq!(hears(&all, "ada", "good", true).await, Heard::No, "only so many think at a time");
    drop(first);
    asked("good").await;
    assert_eq!(second.0.hear("ada", &answer).await, Heard::Yes);
}

#[tokio::test]
async fn an_account_has_what_its_groups_here_say() {
    let remembered = Arc::new(Remembered::new().unwrap());
    let (directory, asked) = fake(Ok(Some(groups(&["staff"]))), MINUTE);
    let all = external(config(STAFF), vec![directory], &remembered);
    assert!(all.account("ada").is_none(), "nobody has been here");
    for (user, password) in [("ada", "bad"), ("eve", "good")] {
        assert!(!proves(&all, user, password).await, "{user}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // These are not even asked about.
    for (user, password) in [("ada", ""), ("*", "good"), ("a)(b", "good"), ("", "good"), ("a/b", "good")] {
        assert!(!proves(&all, user, password).await, "{user}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(proves(&all, "ada", "good").await);
    let ada = all.account("ada").unwrap();
    assert!(ada.read_only && ada.groups == ["staff"] && ada.speed_limit > 0);
}

#[tokio::test]
async fn a_good_password_is_remembered_for_a_while_and_a_bad_one_never() {
    let remembered = Arc::new(Remembered::new().unwrap());
    let (directory, asked) = fake(Ok(Some(groups(&["staff"]))), MINUTE);
    let all = external(config(STAFF), vec![directory], &remembered);
    for _ in 0..3 {
        assert!(proves(&all, "ada", "good").await);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    for _ in 0..2 {
        assert!(!proves(&all, "ada", "bad").await);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let now = Instant::now();
    let good = Secret::new("good");
    assert!(remembered.is_proven("ada", &good, now) && !remembered.is_proven("ada", &good, now + MINUTE * 2));
    assert!(!remembered.is_proven("eve", &good, now));
    let (directory, asked) = fake(Ok(Some(groups(&["staff"]))), Duration::ZERO);
    let none = external(config(STAFF), vec![directory], &Arc::new(Remembered::new().unwrap()));
    assert!(proves(&none, "ada", "good").await && proves(&none, "ada", "good").await);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_reload_judges_who_is_there_by_the_new_rules() {
    let remembered = Arc::new(Remembered::new().unwrap());
    let (directory, _) = fake(Ok(Some(groups(&["staff"]))), MINUTE);
    let before = external(config(STAFF), vec![directory], &remembered);
    assert!(proves(&before, "ada", "good").await);
    let (directory, asked) = fake(Ok(Some(groups(&["staff"]))), MINUTE);
    let after =
        external(config(&format!("[[groups]]\nname = \"staff\"\n{DIRECTORY}")), vec![directory], &remembered);
    assert!(!after.account("ada").unwrap().read_only);
    remembered.forget_proofs();
    assert!(proves(&after, "ada", "good").await);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the password is asked about again");
    // Without the group, or without the directory, nobody is left.
    let (directory, _) = fake(Ok(None), MINUTE);
    assert!(external(config(DIRECTORY), vec![directory], &remembered).account("ada").is_none());
    assert!(external(config(STAFF), vec![], &remembered).account("ada").is_none());
}

#[tokio::test]
async fn who_cannot_be_asked_vouches_for_nobody_and_the_next_one_is_asked() {
    let remembered = Arc::new(Remembered::new().unwrap());
    let (broken, _) = fake(Err(()), MINUTE);
    let (silent, _) = fake(Ok(None), MINUTE);
    let (good, asked) = fake(Ok(Some(groups(&["staff"]))), MINUTE);
    let all = external(config(STAFF), vec![broken, silent, good], &remembered);
    assert!(proves(&all, "ada", "good").await);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let (broken, _) = fake(Err(()), MINUTE);
    assert!(!proves(&external(config(STAFF), vec![broken], &remembered), "eve", "good").await);
    // A record that makes no sense here is no account.
    for record in [groups(&["nobody"]), Record::from_iter([("colour".to_owned(), json!(1))])] {
        let (odd, _) = fake(Ok(Some(record)), MINUTE);
        let odd = external(config(STAFF), vec![odd], &Arc::new(Remembered::new().unwrap()));
        assert!(!proves(&odd, "ada", "good").await && odd.account("ada").is_none());
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let remembered = Remembered::new().unwrap();
    let start = Instant::now();
    for n in 0..u32::try_from(MOST).unwrap() + 5 {
        let known = Known {
            directory: "d".into(),
            record: Record::new(),
            proof: None,
            seen: start + Duration::from_millis(n.into()),
        };
        remembered.note(&format!("u{n}"), known);
    }
    let all = remembered.all();
    assert_eq!(all.len(), MOST);
    assert!(!all.contains_key("u4") && all.contains_key("u5"), "who was here least recently goes first");
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDAQZXYdSMSHWgf5wzJUb1rGRmYFp1zD5K1mC7lbvHkt";

fn ssh() -> Arc<Session> {
    Session::new(Setup::new(Protocol::Sftp, "ferry"))
}

/// The accounts of a site with these directories.
fn site(
    record: Result<Option<Record>, ()>,
    finds: bool,
    entries: &[(&str, serde_json::Value)],
) -> (crate::users::directory::Directory, Arc<External>) {
    let config = config(STAFF);
    let vouch = Fake { password: "good", record, asked: Arc::default(), finds };
    let remembered = Arc::new(Remembered::new().unwrap());
    let external =
        with_entries(Arc::clone(&config), vec![one(MINUTE, Box::new(vouch))], &remembered, entries);
    let stored = external.accounts.users(&config);
    let all = crate::users::directory::Directory::with(
        &config,
        stored,
        Arc::default(),
        Arc::default(),
        Secrets::default(),
    );
    (all.unwrap().and(Some(Arc::clone(&external))), external)
}

async fn shows(
    all: &crate::users::directory::Directory,
    user: &str,
    shown: &Credential,
    passed: &[Method],
) -> String {
    match all.verify(&ssh(), user, shown, passed).await {
        Proof::Complete(account) => format!("{} in {:?}", account.name, account.groups),
        Proof::More(next) => format!("more: {next:?}"),
        Proof::Rejected(words) | Proof::Barred(_, words) => words.to_string(),
        Proof::Ask(_) => "asks".into(),
    }
}

fn key(line: &str) -> Credential {
    Credential::Key(SignedKey {
        algorithm: "ssh-ed25519".into(),
        fingerprint: "SHA256:x".into(),
        openssh: line.into(),
        certificate: None,
    })
}

fn good() -> Credential {
    Credential::Password(Secret::new("good"))
}

#[tokio::test]
async fn a_key_that_a_directory_has_of_an_account_lets_it_in() {
    let mut record = groups(&["staff"]);
    record.insert("keys".into(), json!([KEY]));
    let (all, _) = site(Ok(Some(record.clone())), true, &[]);
    assert_eq!(shows(&all, "ada", &key(KEY), &[]).await, "ada in [\"staff\"]");
    assert_eq!(shows(&all, "ada", &key(OTHER), &[]).await, "not a key of this account");
    assert_eq!(shows(&all, "eve", &key(KEY), &[]).await, "no such user");
    // One that says nothing without a password, and one that cannot be asked.
    let (silent, _) = site(Ok(Some(record)), false, &[]);
    assert_eq!(shows(&silent, "ada", &key(KEY), &[]).await, "no such user");
    let (broken, _) = site(Err(()), true, &[("ada", json!({ "directory": "fake", "keys": [KEY] }))]);
    assert_eq!(shows(&broken, "ada", &key(KEY), &[]).await, "no such user");
}

#[tokio::test]
async fn what_is_kept_here_for_an_account_lies_over_what_its_directory_tells() {
    let entry = json!({ "directory": "fake", "keys": [OTHER], "read_only": false, "groups": ["staff"] });
    let mut record = groups(&["staff"]);
    record.insert("keys".into(), json!([KEY]));
    for finds in [true, false] {
        let (all, external) = site(Ok(Some(record.clone())), finds, &[("ada", entry.clone())]);
        assert_eq!(shows(&all, "ada", &key(OTHER), &[]).await, "ada in [\"staff\"]", "{finds}");
        let ada = external.account("ada").unwrap();
        assert!(!ada.read_only && ada.speed_limit > 0, "{finds}");
        // The directory's own key counts where it tells of it.
        assert_eq!(shows(&all, "ada", &key(KEY), &[]).await.starts_with("ada in"), finds);
        assert_eq!(shows(&all, "ada", &good(), &[]).await, "ada in [\"staff\"]");
        assert_eq!(
            shows(&all, "ada", &Credential::Password(Secret::new("bad")), &[]).await,
            "no directory vouches for it"
        );
    }
    // Whom its directory does not know any more nobody is.
    let (gone, _) = site(Ok(None), true, &[("ada", entry)]);
    assert_eq!(shows(&gone, "ada", &key(OTHER), &[]).await, "no such user");
    let (off, _) = site(
        Ok(Some(groups(&["staff"]))),
        true,
        &[("ada", json!({ "directory": "fake", "enabled": false }))],
    );
    assert_eq!(shows(&off, "ada", &good(), &[]).await, "the account is disabled");
    // An entry of another directory is asked about nowhere else.
    let (other, external) =
        site(Ok(Some(groups(&["staff"]))), true, &[("ada", json!({ "directory": "none" }))]);
    assert_eq!(shows(&other, "ada", &good(), &[]).await, "no such user");
    assert!(external.account("ada").is_none());
}

#[tokio::test]
async fn codes_and_factors_of_an_entry_are_due_behind_the_directorys_password() {
    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let (all, _) =
        site(Ok(Some(groups(&["staff"]))), false, &[("ada", json!({ "directory": "fake", "totp": SECRET }))]);
    assert_eq!(shows(&all, "ada", &good(), &[]).await, "more: [Interactive]");
    let code = crate::users::totp::TotpKey::parse(SECRET).unwrap().code_at(std::time::SystemTime::now());
    let answer = |text: &str| {
        let question = Question { prompt: "?".into(), echo: false, check: Check::Totp };
        Credential::Answers(vec![(question, Secret::new(text))])
    };
    assert!(shows(&all, "ada", &answer("000000x"), &[Method::Password]).await.contains("code"));
    assert_eq!(shows(&all, "ada", &answer(&code), &[Method::Password]).await, "ada in [\"staff\"]");
    // One that the directory itself tells of is due as well.
    let mut record = groups(&["staff"]);
    record.insert("totp".into(), json!(SECRET));
    let (told, _) = site(Ok(Some(record)), false, &[]);
    assert_eq!(shows(&told, "ada", &good(), &[]).await, "more: [Interactive]");
    // A key and then the password.
    let both = json!({ "directory": "fake", "keys": [KEY], "require": ["publickey", "password"] });
    let (all, _) = site(Ok(Some(groups(&["staff"]))), false, &[("ada", both)]);
    assert_eq!(shows(&all, "ada", &good(), &[]).await, "another factor is due first");
    assert_eq!(shows(&all, "ada", &key(KEY), &[]).await, "more: [Password, Interactive]");
    assert_eq!(shows(&all, "ada", &good(), &[Method::PublicKey]).await, "ada in [\"staff\"]");
}

#[tokio::test]
async fn a_token_of_an_entry_is_good_while_its_directory_knows_the_account() {
    let (token, secret) = crate::users::token::UserToken::make("backup", None).unwrap();
    let entry = json!({ "directory": "fake", "tokens": [token] });
    let (all, _) = site(Ok(Some(groups(&["staff"]))), true, &[("ada", entry.clone())]);
    assert_eq!(all.token_owner(&secret).await.as_deref(), Some("ada"));
    assert_eq!(shows(&all, "ada", &Credential::Token(secret.clone()), &[]).await, "ada in [\"staff\"]");
    let (gone, _) = site(Ok(None), true, &[("ada", entry)]);
    assert_eq!(shows(&gone, "ada", &Credential::Token(secret), &[]).await, "no such user");
}
