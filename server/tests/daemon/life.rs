//! Signals: reading anew, and ending well. The audit file.

use std::time::Duration;

use serde_json::Value;
use session_core::fs::*;

use crate::support::*;

#[tokio::test]
async fn a_bad_file_changes_nothing_and_a_removed_user_is_cut() {
    let s = Server::start(&(user("alice") + &user("bob")), &[]);
    let (a, b) = (s.login("alice").await, s.login("bob").await);
    let file = s.data.join("ferryd.toml");
    std::fs::write(&file, "site = [").unwrap();
    s.signal("HUP");
    s.logged(&["not taken", "ferryd.toml:1"]).await;
    assert_eq!(s.ask(&["reload"]).0, 2);
    put(&a, "/f", "").await.unwrap();
    put(&s.login("alice").await, "/g", "").await.unwrap();
    std::fs::write(&file, format!("data = \".\"\n{}", user("bob"))).unwrap();
    s.signal("HUP");
    s.logged(&["read anew"]).await;
    until("alice to be gone", || s.sessions().iter().all(|v| v["userName"] == "bob")).await;
    assert!(put(&a, "/h", "").await.is_err());
    put(&b, "/h", "").await.unwrap();
    assert!(s.try_login("alice", PASSWORD).await.is_err());
    assert_eq!(s.ask(&["reload"]).0, 0);
}

#[tokio::test]
async fn a_stop_lets_a_transfer_finish() {
    let mut s = Server::start(&("[limits]\ndrain = \"15s\"\n".to_string() + &user("alice")), &[]);
    let (a, idle) = (s.login("alice").await, s.login("alice").await);
    let file = begin(&a, "/f", "one").await.unwrap();
    until("the bytes to arrive", || s.sessions().iter().any(|v| v["bytesReceived"] == 3)).await;
    s.signal("TERM");
    s.logged(&["stopping"]).await;
    until("the idle session to be cut", || s.log().contains("session closed")).await;
    assert!(put(&idle, "/g", "").await.is_err());
    assert!(s.try_login("alice", PASSWORD).await.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    file.write_at(3, "two".into()).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(s.ended().await, Some(0));
    assert_eq!(std::fs::read_to_string(s.home("alice").join("f")).unwrap(), "onetwo");
    assert!(!s.data.join("control.sock").exists());
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_it_may() {
    let mut s = Server::start(&("[limits]\ndrain = \"300ms\"\n".to_string() + &user("alice")), &[]);
    let a = s.login("alice").await;
    let _file = begin(&a, "/f", "one").await.unwrap();
    until("the bytes to arrive", || s.sessions()[0]["bytesReceived"] == 3).await;
    s.signal("TERM");
    assert_eq!(s.ended().await, Some(0));
    assert!(!s.home("alice").join("f").exists());
    // What has arrived survives the restart.
    let again = Server::at(&s.data);
    let a = again.login("alice").await;
    assert_eq!(a.fs().stat(&path("/f"), Follow::Yes).await.unwrap().size, 3);
}

#[tokio::test]
async fn the_audit_file_has_the_story() {
    let mut s = Server::start(&("[log]\naudit = \"audit.jsonl\"\n".to_string() + &user("alice")), &[]);
    let a = s.login("alice").await;
    put(&a, "/f", "12345").await.unwrap();
    a.close().await;
    let _ = s.try_login("alice", "wrong").await;
    s.signal("TERM");
    assert_eq!(s.ended().await, Some(0));
    let text = std::fs::read_to_string(s.data.join("audit.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |event: &str| lines.iter().filter(|l| l["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("connected").len(), of("closed").len());
    assert_eq!(of("logged-in")[0]["user"], "alice");
    assert_eq!(of("login-failed")[0]["method"], "password");
    let transfer = of("transfer")[0];
    assert_eq!((&transfer["path"], &transfer["bytes"]), (&"/f".into(), &5.into()));
    assert_eq!((&transfer["user"], &transfer["address"]), (&"alice".into(), &"127.0.0.1".into()));
    assert!(!text.contains(PASSWORD));
}
