//! Who misbehaves is kept out, on every protocol, and who is kept out is told nothing.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::ftp::Ftp;
use crate::support::*;

const LISTENERS: &str = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n";

fn config(protector: &str) -> String {
    format!(
        "{LISTENERS}[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n[protector]\nsafe = []\n{protector}\n{}",
        user("alice")
    )
}

/// What is said to a connection at once, until it is closed.
fn said(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Attack 14: brute force ends in a block that every protocol knows; it is listed, and can be lifted.
#[tokio::test]
async fn brute_force_over_one_protocol_closes_all() {
    let s = Server::configured(&config("strikes = 4"), &[]);
    let (ftp, sftp) = (s.port_of("ferry", "ftp"), s.port_of("ferry", "sftp"));
    let inside = s.login("alice").await;
    let (mut guess, _) = Ftp::connect(ftp);
    // Twice a name that nobody has weighs as much as four wrong passwords; the words are the same.
    let mut words = Vec::new();
    for user in ["nobody", "nobody"] {
        guess.ask(&format!("USER {user}"));
        words.push(guess.ask("PASS x"));
    }
    assert!(words[0].starts_with("530"), "{words:?}");
    until("the block", || s.ask(&["ban", "list", "--json"]).1.contains("127.0.0.1/32")).await;
    assert!(said(ftp).starts_with("421 connections from this address are not taken"));
    assert!(!said(sftp).contains("SSH-"));
    // Who was logged in goes on: others may be behind the same address.
    put(&inside, "/f", "x").await.unwrap();
    let (code, out, err) = s.ask(&["ban", "remove", "127.0.0.1"]);
    assert_eq!((code, out.trim()), (0, "no longer blocked: 127.0.0.1/32"), "{err}");
    assert_eq!(Ftp::connect(ftp).0.log_in("alice").get(..3), Some("230"));
    s.login("alice").await;
}

#[tokio::test]
async fn an_administrator_blocks_a_network_and_a_restart_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{}", config(""))).unwrap();
    let mut s = Server::at_own(dir.path());
    let inside = s.login("alice").await;
    let (code, out, err) = s.ask(&["ban", "add", "127.0.0.0/8", "--reason", "no loops"]);
    assert_eq!((code, out.trim()), (0, "blocked 127.0.0.0/8; 1 sessions were ended"), "{err}");
    assert!(put(&inside, "/f", "x").await.is_err());
    let past = s.ask(&["sessions", "history", "--reason", "banned", "--json"]).1;
    assert!(past.contains("\"actor\":\"admin uid "), "{past}");
    s.signal("KILL");
    s.ended().await;
    let s = Server::at_own(dir.path());
    assert!(!said(s.port).contains("SSH-"));
    assert!(s.ask(&["ban", "list"]).1.contains("no loops"));
    assert_eq!(s.ask(&["ban", "remove", "127.0.0.1"]).0, 1, "as it was entered, or not at all");
    assert_eq!(s.ask(&["ban", "remove", "127.0.0.0/8"]).0, 0);
    s.login("alice").await;
}

#[tokio::test]
async fn commands_that_are_not_known_strike_at_the_normal_level_only() {
    for (level, blocked) in [("normal", true), ("permissive", false)] {
        let s = Server::configured(&config(&format!("strikes = 3\nlevel = \"{level}\"")), &[]);
        let (mut ftp, _) = Ftp::connect(s.port_of("ferry", "ftp"));
        assert!(ftp.log_in("alice").starts_with("230"));
        let answers: Vec<_> = (0..3).map(|_| ftp.ask("XYZZY")).collect();
        assert!(answers[0].starts_with("500"), "{answers:?}");
        let over = || ftp.ask("NOOP").starts_with("200");
        let mut over = over;
        if blocked {
            let gone = s.logged(&["session closed", "too many offences"]).await;
            assert_eq!(gone["sub_status"], 101);
        } else {
            assert!(over());
        }
    }
}

#[tokio::test]
async fn names_of_what_does_not_exist_strike_at_the_strict_level_on_every_protocol() {
    let s = Server::configured(&config("strikes = 3\nlevel = \"strict\""), &[]);
    let a = s.login("alice").await;
    for _ in 0..3 {
        let _ = get(&a, "/none").await;
    }
    until("the session to end", || s.sessions().is_empty()).await;
    assert!(s.ask(&["ban", "list", "--json"]).1.contains("missing"));
}

/// Attack 13: who does not exist, who is switched off, barred or wrong hears the same; the log tells them
/// apart. (That the time is the same is shown by the number of hashes, in the directory's own tests.)
#[tokio::test]
async fn every_refused_login_has_the_same_words() {
    let config = config("enabled = false")
        + &user("off")
        + "enabled = false\n"
        + &user("far")
        + "addresses = [\"192.0.2.0/24\"]\n"
        + &user("late")
        + "expires = 2001-01-01\n";
    let s = Server::configured(&config, &[]);
    let mut words = Vec::new();
    for (name, password) in
        [("nobody", PASSWORD), ("off", PASSWORD), ("far", PASSWORD), ("late", PASSWORD), ("alice", "wrong")]
    {
        let (mut ftp, _) = Ftp::connect(s.port_of("ferry", "ftp"));
        words.push((ftp.ask(&format!("USER {name}")), ftp.ask(&format!("PASS {password}"))));
    }
    assert!(words[0].0.starts_with("331") && words[0].1.starts_with("530"), "{words:?}");
    assert!(words.iter().all(|w| w.1 == words[0].1), "{words:?}");
    for (name, sub_status) in [("nobody", 111), ("off", 106), ("far", 4), ("late", 106), ("alice", 35)] {
        assert_eq!(
            s.logged(&["login failed", &format!("\"{name}\"")]).await["sub_status"],
            sub_status,
            "{name}"
        );
    }
}

/// The history tells how sessions ended, by whom, and what they moved; which way is which is the server's
/// view: received is what the client sent.
#[tokio::test]
async fn the_history_tells_why_and_how_much() {
    let s = Server::configured(&config(""), &[]);
    let a = s.login("alice").await;
    put(&a, "/f", &"x".repeat(1000)).await.unwrap();
    assert_eq!(get(&a, "/f").await.unwrap().len(), 1000);
    put(&a, "/g", "yy").await.unwrap();
    a.close().await;
    let b = s.login("alice").await;
    let id = s.sessions()[0]["sessionId"].as_str().unwrap().to_string();
    assert_eq!(s.ask(&["sessions", "kill", &id, "--reason", "enough"]).0, 0);
    drop(b);
    let past = || {
        let (code, out, err) = s.ask(&["sessions", "history", "--user", "alice", "--json"]);
        assert_eq!(code, 0, "{err}");
        out.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()).collect::<Vec<_>>()
    };
    until("both to be over", || past().len() == 2).await;
    let [killed, left] = <[serde_json::Value; 2]>::try_from(past()).unwrap();
    assert_eq!((left["bytesReceived"].as_u64(), left["bytesSent"].as_u64()), (Some(1002), Some(1000)));
    assert_eq!((&left["subStatus"], &left["actor"]), (&0.into(), &"client".into()), "{left}");
    assert_eq!((&killed["subStatus"], &killed["reason"]), (&52.into(), &"enough".into()));
    assert!(killed["actor"].as_str().unwrap().starts_with("admin uid "));
    let (code, out, _) = s.ask(&["sessions", "show", &id]);
    assert!(code == 0 && out.contains("administrator") && out.contains("enough"), "{out}");
    let (code, out, _) = s.ask(&["sessions", "history", "--actor", "client"]);
    assert!(code == 0 && out.ends_with("1 sessions\n"), "{out}");
    assert_eq!(s.ask(&["sessions", "history", "--reason", "nonsense"]).0, 2);
    assert_eq!(s.ask(&["sessions", "--order", "weight"]).0, 2);
    assert_eq!(s.ask(&["sessions", "--order", "-up", "--state", "ready", "--address", "127.0.0.0/8"]).0, 0);
}
