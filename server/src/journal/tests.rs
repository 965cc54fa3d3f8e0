//! What reaches the audit and the log of sessions.

use std::path::{Path, PathBuf};

use session_core::auth::{
    Account, Authenticator, Check, Credential, Login, Method, Proof, Question, Secret, Step,
};
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};

use super::*;
use crate::log::tests::Written;

const PATIENCE: Duration = Duration::from_secs(10);

fn origin() -> Origin {
    let (local, site) = (Some(([192, 0, 2, 1], 22).into()), "site".into());
    Origin { address: "192.0.2.7".into(), port: 4321, local, protocol: "SFTP", site }
}

fn session(journal: &Journal) -> Arc<Session> {
    let mut setup = Setup::new(Protocol::Sftp, "site");
    setup.sink = Some(journal.sink(origin()));
    Session::new(setup)
}

fn at(path: &Path) -> AuditSettings {
    AuditSettings { file: path.to_path_buf(), ..AuditSettings::default() }
}

/// The records, but for those of the audit itself.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let all = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    all.filter(|l| l["event"] != "audit-opened").collect()
}

#[tokio::test]
async fn the_audit_has_every_event_with_address_and_user() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let journal = Journal::default();
    journal.set_audit(Some(&at(&path))).unwrap();
    let s = session(&journal);
    s.log_in(Account::named("alice"), vec!["password"]).unwrap();
    s.close(Ending::new("done", Actor::Client)).await;
    journal.note("reloaded", serde_json::json!({ "actor": "uid 0" }));
    journal.flush(PATIENCE);
    let lines = lines(&path);
    let names: Vec<_> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["connected", "logged-in", "closed", "reloaded"]);
    assert!(lines[..3].iter().all(|l| l["address"] == "192.0.2.7" && l["session"] == s.id().as_str()));
    assert_eq!((&lines[2]["user"], &lines[3]["actor"]), (&"alice".into(), &"uid 0".into()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("a"), dir.path().join("a.1"));
    let journal = Journal::default();
    journal.set_audit(Some(&at(&path))).unwrap();
    let _first = session(&journal);
    journal.flush(PATIENCE);
    std::fs::rename(&path, &old).unwrap();
    journal.set_audit(Some(&at(&path))).unwrap();
    let _second = session(&journal);
    journal.flush(PATIENCE);
    assert_eq!((lines(&old).len(), lines(&path).len()), (1, 1));
    assert_eq!(crate::audit::verify(&[old, path]).unwrap().problems, []);
}

#[test]
fn a_failed_login_is_one_line_that_a_name_cannot_forge() {
    let written = Written::default();
    let output = written.output();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(output.clone()).finish();
    let journal = Journal::default();
    let session = session(&journal);
    let sink = journal.sink(origin());
    tracing::subscriber::with_default(subscriber, || {
        sink.emit(Event {
            sequence: 1,
            session: session.id().clone(),
            time: SystemTime::now(),
            what: What::LoginFailed {
                user: "root address=127.0.0.1\nlogin failed".into(),
                method: "password",
                reason: "no such\nuser".into(),
                code: Reason::WrongCredentials,
            },
        });
    });
    output.flush(PATIENCE);
    let line = written.text();
    let id = session.id();
    let stable = format!(
        "login failed user=root%20address%3D127.0.0.1%0Alogin%20failed address=192.0.2.7 \
         method=password session={id}"
    );
    assert!(line.contains(&stable), "{line}");
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn every_session_is_in_order_and_without_gaps_whoever_writes_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let journal = Journal::default();
    journal.set_audit(Some(&at(&path))).unwrap();
    let (sessions, logins) = (8, 100);
    std::thread::scope(|scope| {
        for _ in 0..sessions {
            scope.spawn(|| {
                let s = session(&journal);
                for _ in 0..logins {
                    s.log_in(Account::named("u"), vec!["password"]).unwrap();
                    s.log_out();
                }
            });
        }
    });
    journal.flush(PATIENCE);
    let mut seen = std::collections::HashMap::<String, u64>::new();
    for line in lines(&path) {
        let last = seen.entry(line["session"].as_str().unwrap().into()).or_default();
        assert_eq!(line["sequence"], *last + 1);
        *last += 1;
    }
    assert_eq!(seen.values().copied().collect::<Vec<_>>(), vec![logins + 1; sessions]);
    assert_eq!(crate::audit::verify(&[path]).unwrap().problems, []);
}

#[tokio::test]
async fn an_event_has_the_user_of_its_own_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let journal = Journal::default();
    journal.set_audit(Some(&at(&path))).unwrap();
    let sink = journal.sink(origin());
    let mut setup = Setup::new(Protocol::Sftp, "site");
    setup.sink = Some(Arc::clone(&sink));
    let s = Session::new(setup);
    for user in ["alice", "bob"] {
        s.log_in(Account::named(user), vec![]).unwrap();
        s.log_out();
    }
    let what = What::LoginFailed {
        user: "carol".into(),
        method: "password",
        reason: "no".into(),
        code: Reason::default(),
    };
    sink.emit(Event { sequence: 1, session: s.id().clone(), time: SystemTime::now(), what });
    s.close(Ending::new("done", Actor::Client)).await;
    journal.flush(PATIENCE);
    let users: Vec<_> = lines(&path).iter().map(|l| l["user"].as_str().map(str::to_string)).collect();
    let user = |name: &str| Some(name.to_string());
    assert_eq!(users, [None, user("alice"), user("bob"), user("carol"), user("bob")]);
}

#[test]
fn another_audit_or_none_counts_for_sessions_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("1"), dir.path().join("2"));
    let journal = Journal::default();
    let s = session(&journal);
    for path in [Some(&first), Some(&second), None] {
        journal.set_audit(path.map(|p| at(p)).as_ref()).unwrap();
        s.log_in(Account::named("u"), vec![]).unwrap();
        s.log_out();
        journal.flush(PATIENCE);
    }
    let folder = journal.set_audit(Some(&at(dir.path()))).err().map(|e| e.kind());
    assert_eq!(folder, Some(ErrorKind::IsADirectory));
    // The thread of the first ends with it, and writes what it had.
    let one = |path: &Path| {
        (0..2500).any(|_| {
            std::thread::sleep(Duration::from_millis(2));
            lines(path).len() == 1
        })
    };
    assert!(one(&first) && one(&second));
}

#[test]
fn another_form_of_the_same_audit_begins_a_file_and_goes_on_with_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("audit.log");
    let journal = Journal::default();
    journal.set_audit(Some(&at(&path))).unwrap();
    let s = session(&journal);
    journal.flush(PATIENCE);
    journal.set_audit(Some(&AuditSettings { format: crate::audit::AuditFormat::W3c, ..at(&path) })).unwrap();
    s.log_in(Account::named("al ice"), vec!["password"]).unwrap();
    journal.flush(PATIENCE);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("#Software: Ferry\n#Version: 1.0\n#Date: "), "{text}");
    let line = text.lines().last().unwrap();
    assert!(line.contains(" 192.0.2.7 4321 al%20ice site 192.0.2.1 22 PASS - - 230 0 0 "), "{line}");
    let files = crate::audit::files(&path);
    assert_eq!(files.len(), 2);
    let found = crate::audit::verify(&files).unwrap();
    assert_eq!((found.problems, found.records), (vec![], 4));
}

/// Nobody may in, and the password is in the reason of nothing.
struct Nobody;

#[async_trait::async_trait]
impl Authenticator for Nobody {
    async fn methods(&self, _: &Arc<Session>, _: &str) -> Vec<Method> {
        vec![Method::Password]
    }

    async fn questions(&self, _: &Arc<Session>, _: &str) -> Vec<Question> {
        Vec::new()
    }

    async fn verify(&self, _: &Arc<Session>, _: &str, credential: &Credential, _: &[Method]) -> Proof {
        Proof::Rejected(format!("{credential:?} is wrong").into())
    }

    async fn vouched(&self, _: &Arc<Session>, _: &str) -> Option<Account> {
        None
    }
}

#[tokio::test]
async fn no_line_has_a_secret_even_where_a_credential_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().join("audit");
    let written = Written::default();
    let output = written.output();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(output.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let journal = Journal::default();
    journal.set_audit(Some(&at(&audit))).unwrap();
    let s = session(&journal);
    let mut login = Login::new(Arc::clone(&s), Arc::new(Nobody), 3);
    let secret = "correct horse battery";
    let question = Question { prompt: "Password:".into(), echo: false, check: Check::Password };
    for credential in [
        Credential::Password(Secret::new(secret)),
        Credential::Answers(vec![(question, Secret::new(secret))]),
    ] {
        assert!(matches!(login.attempt("alice", &credential).await, Step::Rejected(_)));
    }
    s.close(Ending::new("done", Actor::Client)).await;
    journal.flush(PATIENCE);
    output.flush(PATIENCE);
    let audit = std::fs::read_to_string(audit).unwrap();
    for (text, mark) in [(audit, "login-failed"), (written.text(), "login failed user=alice")] {
        assert_eq!(text.matches(mark).count(), 2, "{text}");
        assert!(!text.contains("horse"), "{text}");
    }
}
