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
