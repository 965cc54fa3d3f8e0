//! Logins by every method, and who is told what.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;

use session_core::auth::{Login, Step};
use session_core::session::{Protocol, Setup};

use super::*;

const ALICE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDAQZXYdSMSHWgf5wzJUb1rGRmYFp1zD5K1mC7lbvHkt";

/// A directory over a configuration whose every `HASH` is a quick hash of "right".
fn directory(users: &str) -> Arc<Directory> {
    let hash = bcrypt::hash("right", 4).unwrap();
    let text = users.replace("HASH", &hash).replace("ALICE", ALICE).replace("OTHER", OTHER);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let (config, faults) = Config::load(file.path()).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    Arc::new(Directory::new(&config).unwrap())
}

fn session() -> Arc<Session> {
    let mut setup = Setup::new(Protocol::Sftp, "test");
    setup.peer = Some(([192, 0, 2, 7], 4000).into());
    Session::new(setup)
}

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text))
}

fn signed(line: &str) -> SignedKey {
    SignedKey {
        algorithm: "ssh-ed25519".into(),
        fingerprint: "SHA256:x".into(),
        openssh: line.into(),
        certificate: None,
    }
}

fn key(line: &str) -> Credential {
    Credential::Key(signed(line))
}

fn answers(checks: &[(Check, &str)]) -> Credential {
    let question = |check: &Check| Question { prompt: "?".into(), echo: false, check: check.clone() };
    Credential::Answers(checks.iter().map(|(c, a)| (question(c), Secret::new(*a))).collect())
}

async fn prove(directory: &Directory, user: &str, credential: &Credential, passed: &[Method]) -> Proof {
    directory.verify(&session(), user, credential, passed).await
}

/// The reason of a refusal; empty for a complete login.
async fn refusal(directory: &Directory, user: &str, credential: &Credential) -> String {
    match prove(directory, user, credential, &[]).await {
        Proof::Complete(account) => {
            assert_eq!(&*account.name, user);
            String::new()
        }
        Proof::Rejected(reason) | Proof::Barred(_, reason) => reason.to_string(),
        Proof::Ask(question) => format!("asks: {}", question.prompt),
        Proof::More(next) => format!("more: {next:?}"),
    }
}

#[tokio::test]
async fn passwords_are_judged_and_every_name_costs_one_hash() {
    let d = directory(
        "[[users]]\nname = \"alice\"\npassword = \"HASH\"\n\
         [[users]]\nname = \"keys\"\nkeys = [\"ALICE\"]\n\
         [[users]]\nname = \"off\"\npassword = \"HASH\"\nenabled = false\n\
         [[users]]\nname = \"far\"\npassword = \"HASH\"\naddresses = [\"10.0.0.0/8\"]\n\
         [[users]]\nname = \"near\"\npassword = \"HASH\"\naddresses = [\"10.0.0.0/8\", \"192.0.2.0/24\"]\n",
    );
    let mut hashed = 0;
    for (user, text, reason) in [
        ("alice", "right", ""),
        ("alice", "wrong", "wrong password"),
        ("alice", "", "wrong password"),
        ("nobody", "right", "no such user"),
        ("keys", "right", "the account has no password"),
        ("off", "right", "the account is disabled"),
        ("off", "wrong", "the account is disabled"),
        ("far", "right", "the account may not log in from this address"),
        ("near", "right", ""),
    ] {
        assert_eq!(refusal(&d, user, &password(text)).await, reason, "{user} {text}");
        hashed += 1;
        assert_eq!(d.hashed(), hashed, "{user} {text}");
    }
}

#[tokio::test]
async fn without_any_password_configured_an_unknown_name_still_costs_a_hash() {
    let d = directory("[[users]]\nname = \"alice\"\nkeys = [\"ALICE\"]\n");
    assert_eq!(refusal(&d, "nobody", &password("")).await, "no such user");
    assert_eq!(refusal(&d, "alice", &password("")).await, "the account has no password");
    assert_eq!(d.hashed(), 2);
    let empty = directory("");
    assert_eq!(refusal(&empty, "nobody", &password("")).await, "no such user");
    assert_eq!(empty.hashed(), 1);
}

#[tokio::test]
async fn what_a_client_sees_does_not_tell_who_exists() {
    let d = directory("[[users]]\nname = \"alice\"\nkeys = [\"ALICE\"]\nrequire = [\"publickey\"]\n");
    let s = session();
    assert_eq!(d.methods(&s, "alice").await, d.methods(&s, "nobody").await);
    assert_eq!(d.questions(&s, "alice").await, d.questions(&s, "nobody").await);
    assert_eq!(
        d.may_offer(&s, "alice", &signed(OTHER)).await,
        d.may_offer(&s, "nobody", &signed(OTHER)).await
    );
}

#[tokio::test]
async fn keys_are_compared_whole_and_key_files_count() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "# keys\n{OTHER} laptop").unwrap();
    let path = file.path().display().to_string();
    let d = directory(&format!(
        "[[users]]\nname = \"alice\"\nkeys = [\"ALICE me\"]\n\
         [[users]]\nname = \"bob\"\nkeys_file = \"{path}\"\n"
    ));
    assert_eq!(refusal(&d, "alice", &key(ALICE)).await, "");
    assert_eq!(refusal(&d, "alice", &key(OTHER)).await, "not a key of this account");
    assert_eq!(refusal(&d, "bob", &key(OTHER)).await, "");
    assert_eq!(refusal(&d, "bob", &key(ALICE)).await, "not a key of this account");
    assert_eq!(refusal(&d, "nobody", &key(ALICE)).await, "no such user");
    assert_ne!(refusal(&d, "alice", &key("rubbish")).await, "");
    writeln!(file, "rubbish").unwrap();
    let mut config = Config::default_for(std::path::Path::new("/x"));
    config.users = vec![(*d.account("bob").unwrap()).clone()];
    let e = Directory::new(&config).err().unwrap();
    assert!(e.to_string().contains(&format!("{path}:3: ")), "{e}");
}

#[tokio::test]
async fn factors_are_taken_in_turn() {
    let d = directory(
        "[[users]]\nname = \"alice\"\npassword = \"HASH\"\nkeys = [\"ALICE\"]\n\
         require = [\"publickey\", \"password\"]\n",
    );
    let due = "another factor is due first";
    assert_eq!(refusal(&d, "alice", &password("right")).await, due);
    assert_eq!(refusal(&d, "alice", &password("wrong")).await, "wrong password");
    let Proof::More(next) = prove(&d, "alice", &key(ALICE), &[]).await else { panic!("not a part") };
    assert_eq!(next, [Method::Password, Method::Interactive]);
    let passed = [Method::PublicKey];
    assert!(matches!(prove(&d, "alice", &password("wrong"), &passed).await, Proof::Rejected(_)));
    assert!(matches!(prove(&d, "alice", &key(ALICE), &passed).await, Proof::Rejected(_)));
    assert!(matches!(prove(&d, "alice", &password("right"), &passed).await, Proof::Complete(_)));
    let interactive = answers(&[(Check::Password, "right")]);
    assert!(matches!(prove(&d, "alice", &interactive, &passed).await, Proof::Complete(_)));
    let beside = answers(&[(Check::Equals(Secret::new("x")), "x")]);
    assert!(matches!(prove(&d, "alice", &beside, &passed).await, Proof::Rejected(_)));
}

#[tokio::test]
async fn two_factors_through_a_login() {
    let d = directory(
        "[[users]]\nname = \"alice\"\npassword = \"HASH\"\nkeys = [\"ALICE\"]\n\
         require = [\"publickey\", \"password\"]\n",
    );
    let s = session();
    let mut login = Login::new(Arc::clone(&s), d, 3);
    let step = login.attempt("alice", &key(ALICE)).await;
    assert!(matches!(step, Step::Partial(next) if next.contains(&Method::Password)));
    assert!(s.identity().is_none());
    assert!(matches!(login.attempt("alice", &password("wrong")).await, Step::Rejected(_)));
    assert!(matches!(login.attempt("alice", &password("right")).await, Step::Accepted(_)));
    assert!(s.identity().is_some());
}

#[tokio::test]
async fn answers_are_judged_each_by_its_check() {
    let d = directory("[[users]]\nname = \"alice\"\npassword = \"HASH\"\n");
    let equals = || Check::Equals(Secret::new("blue"));
    for (list, reason) in [
        (vec![(Check::Password, "right")], ""),
        (vec![(Check::Password, "wrong")], "wrong password"),
        (vec![], "no answers"),
        (vec![(Check::Password, "right"), (equals(), "blue")], ""),
        (vec![(Check::Password, "right"), (equals(), "blu")], "wrong answer"),
        (vec![(Check::Password, "right"), (equals(), "blues")], "wrong answer"),
        (vec![(equals(), "red"), (Check::Password, "right")], "wrong answer"),
        (vec![(Check::Password, "right"), (Check::Totp, "123456")], "no one-time codes configured"),
        (vec![(equals(), "blue")], "answers without a password are a factor only where it is required"),
    ] {
        assert_eq!(refusal(&d, "alice", &answers(&list)).await, reason, "{list:?}");
    }
    let before = d.hashed();
    let list = [(equals(), "red"), (Check::Password, "right")];
    assert_eq!(refusal(&d, "nobody", &answers(&list)).await, "no such user");
    assert_eq!(d.hashed(), before + 1, "a wrong answer does not spare the hash");
    let asked =
        directory("[[users]]\nname = \"alice\"\npassword = \"HASH\"\nrequire = [\"keyboard-interactive\"]\n");
    assert_eq!(refusal(&asked, "alice", &answers(&[(equals(), "blue")])).await, "");
}

#[tokio::test]
async fn certificates_must_fit_the_account() {
    let d = directory(
        "[[users]]\nname = \"alice\"\nkeys = [\"ALICE\"]\nauthorities = [\"OTHER\"]\nprincipals = [\"deploy\"]\n\
         [[users]]\nname = \"bob\"\nkeys = [\"ALICE\"]\n",
    );
    let good = UserCertificate {
        authority: OTHER.into(),
        principals: vec!["alice".into()],
        key_id: "id".into(),
        serial: 1,
        source_address: None,
        unknown_critical: vec![],
    };
    let with = |change: &dyn Fn(&mut UserCertificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        Credential::Key(SignedKey { certificate: Some(certificate), ..signed(ALICE) })
    };
    let all = "the certificate is for other principals";
    let from = "the certificate may not be used from this address";
    type Change<'a> = &'a dyn Fn(&mut UserCertificate);
    let cases: [(Change<'_>, &str); 9] = [
        (&|_| {}, ""),
        (&|c| c.principals = vec!["x".into(), "deploy".into()], ""),
        (&|c| c.principals = vec!["bob".into()], all),
        (&|c| c.principals = vec![], all),
        (&|c| c.authority = ALICE.into(), "the certificate's authority is not trusted for this account"),
        (
            &|c| c.unknown_critical = vec!["force-command".into()],
            "the certificate is not valid, or has a critical option that is not known",
        ),
        (&|c| c.source_address = Some("10.0.0.0/8,192.0.2.7".into()), ""),
        (&|c| c.source_address = Some("10.0.0.0/8".into()), from),
        (&|c| c.source_address = Some("!x".into()), "the certificate's source addresses are not understood"),
    ];
    for (change, reason) in cases {
        assert_eq!(refusal(&d, "alice", &with(change)).await, reason);
    }
    // The bare key is Bob's, the authority is not.
    let for_bob = with(&|c| c.principals = vec!["bob".into()]);
    assert_ne!(refusal(&d, "bob", &for_bob).await, "");
    assert_eq!(refusal(&d, "bob", &key(ALICE)).await, "");
}

#[tokio::test]
async fn certificates_of_tls_belong_to_who_says_so() {
    let d = directory(
        "[tls]\nclient_certificates = \"allow\"\nclient_authorities = \"ca\"\n\
         [[users]]\nname = \"pinned\"\ncertificates = [\"SHA\"]\n\
         [[users]]\nname = \"named\"\ncertificate_names = [\"%u\", \"other\"]\n\
         [[users]]\nname = \"later\"\npassword = \"HASH\"\ncertificates = [\"SHA\"]\n\
         require = [\"password\", \"publickey\"]\n\
         [[users]]\nname = \"guest\"\nanonymous = true\ncertificates = [\"SHA\"]\n\
         [[users]]\nname = \"plain\"\npassword = \"HASH\"\n"
            .replace("SHA", &["07"; 32].join(":"))
            .as_str(),
    );
    let with = |common_name: &str, sha256: [u8; 32]| TlsCertificate {
        subject: String::new(),
        issuer: String::new(),
        common_name: Some(common_name.into()),
        names: vec![],
        sha256,
    };
    let not = "not a certificate of this account";
    for (user, common_name, byte, taken, reason) in [
        ("pinned", "x", 7, true, ""),
        ("pinned", "pinned", 8, false, not),
        ("named", "named", 8, true, ""),
        ("named", "other", 8, true, ""),
        ("named", "NAMED", 7, false, not),
        ("named", "%u", 8, false, not),
        ("later", "x", 7, false, "another factor is due first"),
        ("guest", "x", 8, false, not),
        ("plain", "plain", 7, false, not),
        ("nobody", "nobody", 7, false, "no such user"),
    ] {
        let certificate = with(common_name, [byte; 32]);
        assert_eq!(d.takes_certificate(&session(), user, &certificate).await, taken, "{user} {common_name}");
        assert_eq!(refusal(&d, user, &Credential::Certificate(certificate)).await, reason, "{user}");
    }
    let mine = Credential::Certificate(with("x", [7; 32]));
    assert!(matches!(prove(&d, "later", &mine, &[Method::Password]).await, Proof::Complete(_)));
    assert_ne!(refusal(&d, "guest", &password("me@here")).await, "", "it has something to prove");
}

#[tokio::test]
async fn an_anonymous_account_takes_any_password_only_if_it_has_nothing_to_prove() {
    let d = directory(
        "[[users]]\nname = \"anonymous\"\nanonymous = true\n\
         [[users]]\nname = \"guest\"\nanonymous = true\npassword = \"HASH\"\n\
         [[users]]\nname = \"keyed\"\nanonymous = true\nkeys = [\"ALICE\"]\n",
    );
    assert_eq!(refusal(&d, "anonymous", &password("me@here")).await, "");
    assert_ne!(refusal(&d, "anonymous", &key(ALICE)).await, "");
    assert_eq!(refusal(&d, "guest", &password("me@here")).await, "wrong password");
    assert_ne!(refusal(&d, "keyed", &password("me@here")).await, "");
}

#[tokio::test]
async fn a_hook_vouches_only_for_accounts_that_may_log_in() {
    let d = directory(
        "[[users]]\nname = \"alice\"\ngroups = [\"staff\"]\nshared = true\ncustom = { k = \"v\" }\n\
         [[users]]\nname = \"off\"\nenabled = false\n\
         [[users]]\nname = \"far\"\naddresses = [\"10.0.0.0/8\"]\n",
    );
    let s = session();
    let account = d.vouched(&s, "alice").await.unwrap();
    assert!(account.shared && !account.anonymous);
    assert_eq!(account.groups, ["staff".into()]);
    assert_eq!(account.custom.get("k").map(String::as_str), Some("v"));
    assert_eq!(account.root.as_deref(), Some(d.account("alice").unwrap().home.as_path()));
    for name in ["off", "far", "nobody"] {
        assert!(d.vouched(&s, name).await.is_none(), "{name}");
    }
    assert_eq!(d.names(), ["alice", "far", "off"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_at_once_share_a_few_buffers() {
    let hash = crate::users::password::hash(&Secret::new("right")).unwrap();
    let d = directory(&format!("[[users]]\nname = \"alice\"\npassword = '{hash}'\n"));
    let logins = (0..12).map(|_| {
        let d = Arc::clone(&d);
        tokio::spawn(async move { refusal(&d, "alice", &password("right")).await })
    });
    for login in logins.collect::<Vec<_>>() {
        assert_eq!(login.await.unwrap(), "");
    }
    let most = std::thread::available_parallelism().map_or(1, usize::from).min(HASHERS);
    assert!((1..=most).contains(&d.hashing.buffers()), "{} buffers, {most} at once", d.hashing.buffers());
}

/// Without the database that nodes share, accounts of the file log in as ever, and stored ones not for ever.
#[tokio::test]
async fn what_cannot_be_seen_any_more_is_not_believed() {
    let hash = bcrypt::hash("right", 4).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(format!("[[users]]\nname = \"here\"\npassword = \"{hash}\"\n").as_bytes()).unwrap();
    let (config, _) = Config::load(file.path()).unwrap();
    let record = serde_json::json!({ "password": hash });
    let stored = config.account("there", record.as_object().unwrap(), &|_| None).unwrap();
    let secrets = hooks::secrets_of(&config.scripts, BTreeMap::new()).unwrap();
    let directory =
        Directory::with(&config, vec![Arc::new(stored)], Arc::default(), Arc::default(), secrets).unwrap();
    let accounts = Accounts::shared_by_nobody();
    let directory = directory.believing(Arc::clone(&accounts), &config);
    for user in ["here", "there"] {
        assert_eq!(refusal(&directory, user, &password("right")).await, "");
    }
    accounts.doubt();
    assert_eq!(refusal(&directory, "here", &password("right")).await, "");
    let words = refusal(&directory, "there", &password("right")).await;
    assert!(words.contains("was not reached for too long"), "{words}");
    let changed = directory.changed(Vec::new()).unwrap();
    assert!(!refusal(&changed, "there", &password("right")).await.is_empty());
    assert!(changed.vouched(&session(), "there").await.is_none());
}

/// What all nodes know, in memory; `false` for one that cannot be asked.
struct Known(std::sync::Mutex<HashSet<String>>, bool);

#[async_trait]
impl crate::users::totp::Once for Known {
    async fn take(&self, site: &str, user: &str, used: &crate::users::totp::Used) -> Result<bool> {
        if !self.1 {
            return Err(ErrorKind::Internal.into());
        }
        Ok(self.0.lock().unwrap().insert(format!("{site} {user} {used:?}")))
    }
}

#[tokio::test]
async fn a_code_is_good_on_one_node_and_on_none_where_that_cannot_be_told() {
    use crate::users::totp::{Enrolment, TotpKey, recovery_hash};
    let made = Enrolment::make().unwrap();
    let hash = bcrypt::hash("right", 4).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let (secret, recovery) = (&made.secret, recovery_hash(&made.recovery[0]));
    let user = format!(
        "[[users]]\nname = \"u\"\npassword = \"{hash}\"\ntotp = \"{secret}\"\nrecovery = [\"{recovery}\"]\n"
    );
    file.write_all(user.as_bytes()).unwrap();
    let (config, _) = Config::load(file.path()).unwrap();
    let known = Arc::new(Known(std::sync::Mutex::default(), true));
    let node = |known: &Arc<Known>| {
        let spent = Arc::new(Spent::default().among("ferry", Arc::clone(known) as _));
        let secrets = hooks::secrets_of(&config.scripts, BTreeMap::new()).unwrap();
        Directory::with(&config, Vec::new(), spent, Arc::default(), secrets).unwrap()
    };
    let (a, b, lost) =
        (node(&known), node(&known), node(&Arc::new(Known(std::sync::Mutex::default(), false))));
    let now = TotpKey::parse(secret).unwrap().code_at(SystemTime::now());
    for code in [now.as_str(), made.recovery[0].as_str()] {
        let proof = answers(&[(Check::Password, "right"), (Check::Totp, code)]);
        let words = refusal(&lost, "u", &proof).await;
        assert!(words.contains("cannot be told"), "{words}");
        assert_eq!(refusal(&a, "u", &proof).await, "");
        let words = refusal(&b, "u", &proof).await;
        assert!(words.contains("was used on another node"), "{words}");
    }
}

/// HTTP shows the same with every request: a code behind the password counts once, and for as long as its session.
#[tokio::test]
async fn over_webdav_a_code_may_stand_behind_the_password_where_that_is_said() {
    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let text = format!(
        "[[users]]\nname = \"u\"\npassword = \"HASH\"\ntotp = \"{SECRET}\"\n\
         [[users]]\nname = \"plain\"\npassword = \"HASH\"\n"
    );
    let key = crate::users::totp::TotpKey::parse(SECRET).unwrap();
    let code = key.code_at(SystemTime::now());
    let shown = password(&format!("right{code}"));
    let dav = || Session::new(Setup::new(Protocol::Webdavs, "test"));
    let not_said = directory(&text);
    assert!(matches!(not_said.verify(&dav(), "u", &shown, &[]).await, Proof::Rejected(_)));
    let d = directory(&format!("[webdav]\nappend_code = true\n{text}"));
    let session = dav();
    let mut login = Login::new(Arc::clone(&session), Arc::clone(&d) as _, 1);
    let wrong = password(&format!("wrong{code}"));
    assert!(
        matches!(d.verify(&dav(), "u", &wrong, &[]).await, Proof::Rejected(_)),
        "and the code is not taken"
    );
    assert!(matches!(login.attempt("u", &shown).await, Step::Accepted(_)));
    // It stays good for its session, and for no other one.
    assert!(session_core::auth::still_good(&session, &*d, "u", &shown).await);
    assert!(!session_core::auth::still_good(&session, &*d, "u", &wrong).await);
    assert!(matches!(d.verify(&dav(), "u", &shown, &[]).await, Proof::Rejected(_)), "a code is good once");
    for (user, text) in [("u", "right"), ("plain", &*format!("right{code}")), ("u", &*code)] {
        assert!(
            matches!(d.verify(&dav(), user, &password(text), &[]).await, Proof::Rejected(_) | Proof::More(_)),
            "{user}"
        );
    }
    assert!(matches!(d.verify(&dav(), "plain", &password("right"), &[]).await, Proof::Complete(_)));
    // Another password ends it.
    let hash = bcrypt::hash("another", 4).unwrap();
    let changed = directory(&format!("[webdav]\nappend_code = true\n{}", text.replace("HASH", &hash)));
    assert!(!session_core::auth::still_good(&session, &*changed, "u", &shown).await);
}

/// Takes as many as it was made for.
struct Places(std::sync::atomic::AtomicUsize);

#[async_trait]
impl Room for Places {
    async fn make(&self, _: &Session, account: &Account) -> Result<()> {
        match self.0.fetch_add(1, Ordering::SeqCst) < account.max_sessions {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Throttled).because(Reason::ConnectionLimit)),
        }
    }
}

#[tokio::test]
async fn who_has_as_many_sessions_as_it_may_elsewhere_does_not_get_in_here() {
    let text = "[[users]]\nname = \"few\"\npassword = \"HASH\"\nsessions = 2\n\
                [[users]]\nname = \"many\"\npassword = \"HASH\"\n";
    let directory = Arc::into_inner(directory(text)).unwrap();
    let places = Arc::new(Places(Default::default()));
    let directory = Arc::new(directory.counting(Some(Arc::clone(&places) as _)));
    let log_in = async |user: &str| {
        let session = session();
        let mut login = Login::new(Arc::clone(&session), Arc::clone(&directory) as _, 1);
        let step = login.attempt(user, &password("right")).await;
        (matches!(step, Step::Accepted(_)), session.identity().is_some())
    };
    for n in 0..4 {
        assert_eq!(log_in("few").await, (n < 2, n < 2), "{n}");
        assert_eq!(log_in("many").await, (true, true), "who has no limit is not counted");
    }
    assert_eq!(places.0.load(Ordering::SeqCst), 4);
    // A proof that is not good asks nobody.
    let mut login = Login::new(session(), directory, 1);
    login.attempt("few", &password("wrong")).await;
    assert_eq!(places.0.load(Ordering::SeqCst), 4);
}
