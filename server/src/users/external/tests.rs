//! Who vouches, how long that holds, and what a reload makes of it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use session_core::session::{Protocol, Setup};

use super::*;
use crate::accounts;

/// A directory with one account; it counts how often it is asked.
struct Fake {
    password: &'static str,
    record: Result<Option<Record>, ()>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Vouch for Fake {
    async fn ask(&self, user: &str, password: &Secret, _: About<'_>) -> Result<Word> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let record = self.record.clone().map_err(|()| Error::new(ErrorKind::Disconnected))?;
        Ok(record.filter(|_| user == "ada" && password.expose() == self.password).into())
    }
}

fn groups(names: &[&str]) -> Record {
    Record::from_iter([("groups".to_owned(), json!(names))])
}

fn fake(record: Result<Option<Record>, ()>, cache: Duration) -> (Directory, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let vouch = Box::new(Fake { password: "good", record, asked: Arc::clone(&asked) });
    (one(cache, vouch), asked)
}

fn one(cache: Duration, vouch: Box<dyn Vouch>) -> Directory {
    let (permits, talks) = (Semaphore::new(1), Arc::new(Semaphore::new(2)));
    Directory { name: "fake".into(), cache, time: Duration::from_secs(5), permits, talks, vouch }
}

fn config(groups: &str) -> Arc<Config> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(groups.as_bytes()).unwrap();
    Arc::new(Config::load(file.path()).unwrap().0)
}

fn external(config: Arc<Config>, directories: Vec<Directory>, remembered: &Arc<Remembered>) -> Arc<External> {
    Arc::new(External {
        config,
        accounts: Accounts::holding(accounts::Contents::default()),
        directories: directories.into_iter().map(Arc::new).collect(),
        remembered: Arc::clone(remembered),
        made: Mutex::default(),
    })
}

const STAFF: &str = "[[groups]]\nname = \"staff\"\nspeed_limit = 1000\nread_only = true\n";
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
    let after = external(config("[[groups]]\nname = \"staff\"\n"), vec![directory], &remembered);
    assert!(!after.account("ada").unwrap().read_only);
    remembered.forget_proofs();
    assert!(proves(&after, "ada", "good").await);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the password is asked about again");
    // Without the group, or without the directory, nobody is left.
    let (directory, _) = fake(Ok(None), MINUTE);
    assert!(external(config(""), vec![directory], &remembered).account("ada").is_none());
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
