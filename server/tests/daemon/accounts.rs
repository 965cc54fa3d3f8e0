//! Accounts in the database: made, changed and removed while the server runs, and while it does not.

use serde_json::Value;
use session_core::fs::Filesystem as _;

use crate::support::*;

/// Runs a command that reads a password, and answers its words.
fn ok(s: &Server, args: &[&str], input: &str) -> String {
    let (code, out, err) = ferryd_reads(&s.data, args, input);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    out.trim_end().to_string()
}

fn add(s: &Server, name: &str, settings: &[&str]) -> String {
    ok(s, &[&["user", "add", name], settings].concat(), &format!("{PASSWORD}\n"))
}

#[tokio::test]
async fn what_is_changed_takes_effect_at_once_and_ends_sessions() {
    let s = Server::start(&user("alice"), &[]);
    assert_eq!(add(&s, "bob", &["permissions={\"/\"=[\"list\",\"get\",\"put\"]}"]), "added bob");
    let bob = s.login("bob").await;
    put(&bob, "/f", "x").await.unwrap();
    assert_eq!(std::fs::read_to_string(s.home("bob").join("f")).unwrap(), "x");
    assert!(bob.fs().remove_file(&path("/f")).await.is_err(), "the permissions are the record's");
    assert_eq!(ok(&s, &["user", "disable", "bob"], ""), "bob may not log in; 1 sessions were ended");
    assert!(put(&bob, "/g", "x").await.is_err());
    let past: Value = serde_json::from_str(
        s.ask(&["sessions", "history", "--user", "bob", "--json"]).1.lines().next().unwrap(),
    )
    .unwrap();
    assert_eq!(past["reasonCode"], "account-closed");
    assert!(past["actor"].as_str().unwrap().starts_with("admin uid "), "{past}");
    assert!(s.try_login("bob", PASSWORD).await.is_err());
    ok(&s, &["user", "enable", "bob"], "");
    let bob = s.login("bob").await;
    // A reload reads the file, and those of the database stay.
    assert_eq!(s.ask(&["reload"]).0, 0);
    put(&bob, "/g", "x").await.unwrap();
    assert_eq!(ok(&s, &["user", "passwd", "bob"], "another\n"), "bob has a new password");
    assert!(s.try_login("bob", PASSWORD).await.is_err());
    s.try_login("bob", "another").await.unwrap();
    let list = s.ask(&["user", "list"]).1;
    assert!(list.contains("alice  ferry  file") && list.contains("bob    ferry  database  yes"), "{list}");
    assert!(ok(&s, &["user", "rm", "bob"], "").starts_with("removed bob; 2 sessions"));
    assert!(s.home("bob").join("g").exists(), "the files stay");
    assert_eq!(s.ask(&["user", "show", "bob"]).0, 5);
    assert!(s.try_login("bob", "another").await.is_err());
    put(&s.login("alice").await, "/f", "x").await.unwrap();
    let log = s.log();
    assert!(log.contains("disabled") || log.contains("changed user 'bob'"), "{log}");
    assert!(!log.contains("another") && !log.contains("argon2"), "{log}");
}

#[tokio::test]
async fn without_a_server_the_commands_do_it_themselves() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{}", user("alice"))).unwrap();
    let run = |args: &[&str], input: &str| ferryd_reads(dir.path(), args, input);
    assert_eq!(run(&["group", "add", "staff", "read_only=true"], "").0, 0);
    assert_eq!(run(&["user", "add", "bob", "groups=staff"], PASSWORD).0, 0);
    let (code, out, err) = run(&["user", "show", "bob", "--json"], "");
    let shown: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{code} {e} {out}{err}"));
    assert!(
        shown["readOnly"] == true && shown["record"]["password"] == "set" && !out.contains("argon2"),
        "{out}"
    );
    let s = Server::at(dir.path());
    assert!(put(&s.login("bob").await, "/f", "x").await.is_err());
    // The server has the database now; a command that does not find it does not go behind its back.
    let (code, _, err) = run(&["--control", "/nonexistent/x", "user", "rm", "bob"], "");
    assert!(code == 1 && err.contains("another ferryd uses the data folder"), "{err}");
    ok(&s, &["group", "set", "staff", "read_only=false"], "");
    put(&s.login("bob").await, "/f", "x").await.unwrap();
    assert_eq!(run(&["check"], "").0, 0);
}

#[tokio::test]
async fn doubles_and_nonsense_are_refused_with_their_code() {
    let s = Server::start(&user("alice"), &[]);
    for (args, code, words) in [
        (&["user", "add", "alice"][..], 1, "stands in the configuration file"),
        (&["user", "set", "alice", "read_only=true"], 1, "stands in the configuration file"),
        (&["user", "add", "eve", "hme=/x"], 2, "did you mean 'home'?"),
        (&["user", "add", "../eve"], 2, "a user's name is"),
        (&["user", "set", "nobody", "read_only=true"], 5, "there is no user 'nobody'"),
        (&["user", "add", "eve", "password=x"], 2, "an argument is seen by others"),
        (&["user", "add", "eve", "--site", "other"], 5, "there is no site 'other'"),
        (&["user", "set", "eve"], 2, "name what to change"),
        (&["group", "rm", "none"], 5, "there is no group"),
        (&["token", "rm", "none"], 5, "there is no token"),
    ] {
        let (got, out, err) = ferryd_reads(&s.data, args, PASSWORD);
        assert!(got == code && err.contains(words), "{args:?}: {got} {out}{err}");
    }
    assert!(!s.data.join("accounts.db").exists(), "nothing was made");
}

#[tokio::test]
async fn codes_that_are_made_are_asked_for() {
    let s = Server::start("", &[]);
    add(&s, "bob", &[]);
    s.login("bob").await;
    let said = ok(&s, &["user", "totp", "bob"], "");
    assert!(said.contains("otpauth://totp/ferry:bob?secret=") && said.contains("recovery codes"), "{said}");
    assert!(s.try_login("bob", PASSWORD).await.is_err(), "the password alone");
    ok(&s, &["user", "totp", "bob", "--off"], "");
    s.login("bob").await;
}

#[tokio::test]
async fn secrets_reach_handlers_at_once() {
    let hook = "[[hooks]]\nevent = \"OnAuthSuccess\"\nfile = \"h.js\"\ngrant = [\"secrets\"]\n";
    let script = "let known = false; try { known = GetSecret('key') === 'hunter2' } catch (e) {}\n\
        Log('it is', known ? 'known' : 'not known')";
    let s = Server::start(&(hook.to_string() + &user("alice")), &[("h.js", script)]);
    s.login("alice").await;
    s.logged(&["it is not known"]).await;
    assert_eq!(ok(&s, &["secret", "set", "key"], "hunter2\n"), "put secret key");
    s.login("alice").await;
    s.logged(&["it is known"]).await;
    assert_eq!(ok(&s, &["secret", "list"], ""), "key");
    assert!(!s.log().contains("hunter2"));
}

/// What was answered is there after a kill, and nothing is there by half. Takes seconds: every change is a
/// process of its own.
#[tokio::test]
async fn a_kill_leaves_whole_changes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{}", user("alice"))).unwrap();
    let bundle = |n: usize| {
        let one = |i: usize| format!(r#"{{"site":"ferry","name":"u{n}-{i}","record":{{"home":"/h"}}}}"#);
        let users: Vec<_> = (0..50).map(one).collect();
        format!(r#"{{"format":"ferry-accounts","version":1,"users":[{}]}}"#, users.join(","))
    };
    let mut done = 0;
    for round in 0..2 {
        let mut s = Server::at(dir.path());
        let at = dir.path().to_path_buf();
        let bundles: Vec<_> = (0..20).map(|i| bundle(round * 100 + i)).collect();
        let imports = std::thread::spawn(move || {
            let import = |text: &String| ferryd_reads(&at, &["accounts", "import", "-"], text).0 == 0;
            bundles.iter().take_while(|text| import(text)).count()
        });
        until("something to be kept", || {
            s.ask(&["user", "list", "--json"]).1.contains(&format!("u{}-", round * 100))
        })
        .await;
        s.signal("KILL");
        s.ended().await;
        let answered = imports.join().unwrap();
        let (code, out, err) = ferryd(dir.path(), &["user", "list", "--json"]);
        assert_eq!(code, 0, "{err}");
        let stored = out.lines().filter(|l| l.contains("\"database\"")).count();
        assert_eq!(stored % 50, 0, "half an import");
        assert!(stored >= done + 50 * answered.min(19), "{stored} of {done} and {answered} imports");
        done = stored;
    }
}
