//! Accounts that a hook over HTTP vouches for, and those of PAM that are asked more than a password.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use client::connect::open_url;
use serde_json::{Value, json};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query, Unattended};
use session_core::fs::Filesystem as _;
use session_core::metadata::Attributes;

use crate::ftp::Ftp;
use crate::support::*;

/// A hook that knows `ada`; its URL, and what it was asked.
struct Hook {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    count: Arc<AtomicUsize>,
}

fn hook() -> Hook {
    hook_with(Vec::new())
}

/// One that tells of these keys.
fn hook_with(keys: Vec<String>) -> Hook {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/login", listener.local_addr().unwrap().port());
    let (asked, count) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
    let (into, counts) = (Arc::clone(&asked), Arc::clone(&count));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut token, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(": ") {
                    match name.to_ascii_lowercase().as_str() {
                        "authorization" => token = value.to_owned(),
                        "content-length" => length = value.parse().unwrap(),
                        _ => {}
                    }
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            counts.fetch_add(1, Ordering::SeqCst);
            let proven = body.get("password").map_or(!keys.is_empty(), |p| p == PASSWORD);
            let good = body["user"] == "ada" && proven;
            let answer =
                json!({ "groups": ["guests"], "keys": keys, "custom": { "mail": "ada@example.com" } });
            let answer = answer.to_string();
            let (status, answer) = if good { ("200 OK", answer.as_str()) } else { ("403 Forbidden", "") };
            into.lock().unwrap().push((token, body));
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            stream.get_mut().write_all(text.as_bytes()).unwrap();
        }
    });
    Hook { url, asked, count }
}

#[tokio::test]
async fn a_hook_vouches_and_groups_say_what_its_accounts_may() {
    use std::os::unix::fs::PermissionsExt as _;
    let hook = hook();
    let dir = tempfile::tempdir().unwrap();
    let config = |permissions: &str| {
        format!(
            "data = \".\"\n[[directories]]\nname = \"web\"\nurl = \"{}\"\nallow_clear = true\n\
             password_secret = \"web\"\n[scripts]\nsecrets = \"secrets.toml\"\n\
             [[groups]]\nname = \"guests\"\n[groups.permissions]\n\"/\" = [{permissions}]\n{}",
            hook.url,
            user("bob")
        )
    };
    let file = dir.path().join("secrets.toml");
    std::fs::write(&file, "web = \"the token\"\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), config("\"list\", \"put\", \"get\"")).unwrap();
    let s = Server::at(dir.path());
    assert!(s.try_login("ada", "wrong").await.is_err());
    let ada = s.login("ada").await;
    put(&ada, "/f", "x").await.unwrap();
    assert_eq!(std::fs::read_to_string(s.home("ada").join("f")).unwrap(), "x");
    assert!(ada.fs().create_dir(&path("/d"), &Attributes::none()).await.is_err(), "the group's permissions");
    let asked = hook.asked.lock().unwrap().clone();
    let (token, body) = asked.last().unwrap();
    assert_eq!(token, "Bearer the token");
    assert_eq!((&body["address"], &body["protocol"]), (&json!("127.0.0.1"), &json!("SFTP")));
    // A name of the file is nobody else's business, and a good password is remembered.
    let before = hook.count.load(Ordering::SeqCst);
    s.login("bob").await;
    assert!(s.try_login("bob", "wrong").await.is_err());
    s.login("ada").await;
    assert_eq!(hook.count.load(Ordering::SeqCst), before);
    // A reload keeps who is there; without the directory nobody is left of it.
    std::fs::write(dir.path().join("ferryd.toml"), config("\"list\", \"put\", \"get\", \"make\"")).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    put(&ada, "/g", "y").await.unwrap();
    s.login("ada").await.fs().create_dir(&path("/d"), &Attributes::none()).await.unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{}", user("bob"))).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert!(put(&ada, "/h", "z").await.is_err());
    assert!(s.try_login("ada", PASSWORD).await.is_err());
    let log = s.log();
    assert!(!log.contains(PASSWORD) && !log.contains("the token"), "{log}");
}

/// Keys stand in the directory, codes here; who is gone there gets in with neither.
#[tokio::test]
async fn keys_of_a_hook_and_codes_of_an_entry_let_in_together() {
    let keys = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let file = keys.path().join(name);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "t", "-f"])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        let public = std::fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned();
        (file, public)
    };
    let ((file, public), (other, _)) = (make("id"), make("other"));
    let hook = hook_with(vec![public.clone()]);
    let config = format!(
        "[[directories]]\nname = \"web\"\nurl = \"{}\"\nallow_clear = true\nkeys = true\n\
         [[groups]]\nname = \"guests\"\n{}",
        hook.url,
        user("bob")
    );
    let s = Server::start(&config, &[]);
    let by = |user: &str, file: &std::path::Path, decider: Arc<dyn Decider>| {
        let options = s.options(user, "").password(None).identities(vec![file.to_path_buf()]);
        open_url(options, decider)
    };
    let nobody = || Arc::new(Unattended) as Arc<dyn Decider>;
    put(&by("ada", &file, nobody()).await.unwrap(), "/f", "x").await.unwrap();
    assert!(by("ada", &other, nobody()).await.is_err() && by("eve", &file, nobody()).await.is_err());
    let asked = hook.asked.lock().unwrap().clone();
    let body = &asked.iter().find(|(_, body)| body["user"] == "ada").unwrap().1;
    assert!(public.starts_with(body["key"].as_str().unwrap()) && body.get("password").is_none(), "{body}");
    // Codes are kept here, for an account whose password is not.
    let (code, out, err) = s.ask(&["user", "add", "ada", "directory=web", "--no-password"]);
    assert_eq!(code, 0, "{out}{err}");
    let made: Value = serde_json::from_str(&s.ask(&["user", "totp", "ada", "--json"]).1).unwrap();
    let secret = server::users::totp::TotpKey::parse(made["secret"].as_str().unwrap()).unwrap();
    assert!(s.try_login("ada", PASSWORD).await.is_err() && by("ada", &file, nobody()).await.is_err());
    let code: &'static str = secret.code_at(std::time::SystemTime::now()).leak();
    let knows = || Arc::new(Knows(code, Mutex::default())) as Arc<dyn Decider>;
    let ada = by("ada", &file, knows()).await.unwrap_or_else(|e| panic!("{e:#}\n{}", s.log()));
    put(&ada, "/g", "x").await.unwrap();
    assert!(by("ada", &file, knows()).await.is_err(), "a code is good once");
    // Switched off here, it is out, whatever the directory says.
    assert!(s.ask(&["user", "disable", "ada"]).1.contains("sessions were ended"));
    assert!(put(&ada, "/h", "x").await.is_err() && by("ada", &file, knows()).await.is_err());
    let (code, _, err) = ferryd_reads(&s.data, &["user", "passwd", "ada"], "x\n");
    assert!(code == 2 && err.contains("which judges its password"), "{err}");
    let (code, _, err) = s.ask(&["user", "add", "eve", "directory=none", "--no-password"]);
    assert!(code == 2 && err.contains("there is no directory 'none'"), "{err}");
}

/// In place of `ferryd-pam`: it asks `ada` for a code, has `eve` change her password and asks `joe` for ever.
const ASKS: &str = r#"#!/bin/sh
ask() { printf '{"answer":"asks","words":"%s","prompt":"%s","echo":%s}\n' "$1" "$2" "$3"; read -r text || exit; }
no() { echo '{"answer":"no","why":"wrong"}'; exit; }
read -r line
case "$line" in *'"password":"PASSWORD"'*) ;; *) no;; esac
case "$line" in *'"talks":true'*) ;; *) echo '{"answer":"failed","why":"nobody answers"}'; exit;; esac
case "$line" in
    *'"user":"ada"'*)
        ask '' 'Code: ' true
        case "$text" in '{"text":"424242"}') ;; *) no;; esac;;
    *'"user":"eve"'*)
        ask 'It has expired.' 'New password: ' false; first=$text
        ask '' 'Retype new password: ' false
        case "$text" in "$first") ;; *) no;; esac;;
    *) while :; do ask '' 'And now? ' true; done;;
esac
echo '{"answer":"yes"}'
"#;

fn asking() -> (tempfile::TempDir, Server) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("asks");
    std::fs::write(&program, ASKS.replace("PASSWORD", PASSWORD)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "data = \".\"\nlisteners = [{{ protocol = \"sftp\", port = 0 }}, {{ protocol = \"ftp\", port = 0 }}]\n\
         [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n\
         [[directories]]\nname = \"system\"\nurl = \"pam://x\"\nprogram = {program:?}\ngroups = [\"staff\"]\n\
         [[groups]]\nname = \"staff\"\n[groups.permissions]\n\"/\" = [\"list\", \"put\"]\n"
    );
    std::fs::write(dir.path().join("ferryd.toml"), config).unwrap();
    let server = Server::at_own(dir.path());
    (dir, server)
}

/// Knows one code, and says what it was asked.
#[derive(Default)]
struct Knows(&'static str, Mutex<Vec<String>>);

#[async_trait]
impl Decider for Knows {
    async fn decide(&self, query: Query) -> Answer {
        match query {
            Query::Interactive { prompts, .. } => {
                self.1.lock().unwrap().extend(prompts.iter().map(|(prompt, _)| prompt.clone()));
                Answer::Answers(prompts.iter().map(|_| Secret::new(self.0)).collect())
            }
            other => Unattended.decide(other).await,
        }
    }
}

#[tokio::test]
async fn what_pam_asks_is_asked_over_ssh_one_question_after_the_other_and_not_without_end() {
    let (_dir, s) = asking();
    let log_in = async |user: &str, password: &str, answer: &'static str| {
        let knows = Arc::new(Knows(answer, Mutex::default()));
        let is_in = open_url(s.options(user, password), Arc::clone(&knows) as Arc<dyn Decider>).await;
        let asked = knows.1.lock().unwrap().clone();
        (is_in.ok(), asked)
    };
    let (ada, asked) = log_in("ada", PASSWORD, "424242").await;
    assert_eq!(asked, ["Code: "], "{}", s.log());
    put(&ada.unwrap(), "/f", "x").await.unwrap();
    let line = s.logged(&["logged in", "ada"]).await;
    assert_eq!(line["methods"], "keyboard-interactive");
    // It is asked each time: what was right with a code is not right without one.
    assert!(log_in("ada", PASSWORD, "1").await.0.is_none());
    assert!(s.try_login("ada", PASSWORD).await.is_err());
    assert!(log_in("ada", "another", "424242").await.0.is_none());
    let (eve, asked) = log_in("eve", PASSWORD, "a new one").await;
    assert!(eve.is_some());
    assert_eq!(asked, ["It has expired. New password: ", "Retype new password: "]);
    let options = s.options("eve", PASSWORD).new_password(Some(Secret::new("a new one")));
    open_url(options, Arc::new(Unattended)).await.unwrap();
    let (joe, asked) = log_in("joe", PASSWORD, "later").await;
    assert!(joe.is_none());
    assert!((16..64).contains(&asked.len()), "{}", asked.len());
    let log = s.log();
    assert!(!log.contains("424242") && !log.contains("a new one") && !log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn over_ftp_pam_may_ask_one_question_behind_the_password() {
    let (_dir, s) = asking();
    let (mut ftp, _) = Ftp::connect(s.port_of("ferry", "ftp"));
    for (answer, reply) in [("1", "530"), ("424242", "230")] {
        let asked = ftp.log_in("ada");
        assert!(asked.starts_with("332") && asked.contains("Code: "), "{asked}");
        let told = ftp.ask(&format!("ACCT {answer}"));
        assert!(told.starts_with(reply), "{told}");
    }
    let (mut ftp, _) = Ftp::connect(s.port_of("ferry", "ftp"));
    let asked = ftp.log_in("eve");
    assert!(asked.starts_with("332") && asked.contains("It has expired. New password: "), "{asked}");
    assert!(ftp.ask("ACCT a new one").starts_with("530"), "there is no place for a second question");
}

/// A site asks the server's directories, its own instead of them, or none.
#[tokio::test]
async fn a_site_has_its_own_directories() {
    let (of_all, of_shop) = (hook(), hook());
    let table = |key: &str, hook: &Hook| {
        format!("[[{key}]]\nname = \"web\"\nurl = \"{}\"\nallow_clear = true\n", hook.url)
    };
    let listeners = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n";
    let site = |name: &str, more: &str, tables: &str| {
        format!(
            "[[sites]]\nname = \"{name}\"\n{listeners}{more}{tables}[[sites.groups]]\nname = \"guests\"\n"
        )
    };
    let config = [
        "[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n".into(),
        table("directories", &of_all),
        site("main", "", ""),
        site("shop", "", &table("sites.directories", &of_shop)),
        site("alone", "directories = []\n", ""),
    ];
    let s = Server::configured(&config.concat(), &[]);
    for (at, asked) in [("main", [true, false]), ("shop", [true, true]), ("alone", [true, true])] {
        for protocol in ["sftp", "ftp"] {
            let options = s.options_at(protocol, s.port_of(at, protocol), "ada", PASSWORD);
            let there = open_url(options, Arc::new(Unattended)).await;
            assert_eq!(there.is_ok(), at != "alone", "{at} over {protocol}");
        }
        assert_eq!([&of_all, &of_shop].map(|hook| hook.count.load(Ordering::SeqCst) > 0), asked, "{at}");
    }
    assert_eq!(of_shop.asked.lock().unwrap()[0].1["site"], "shop");
}
