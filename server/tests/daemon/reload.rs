//! What a reload replaces while sessions live on, and what one data folder means.

use std::sync::Arc;

use client::connect::open_url;
use session_core::batch::Unattended;

use crate::support::*;

/// The same server, with its listeners from the file.
fn write(s: &Server, text: &str) {
    std::fs::write(s.data.join("ferryd.toml"), format!("data = \".\"\n{text}")).unwrap();
}

#[tokio::test]
async fn new_listeners_host_keys_and_levels_need_no_restart() {
    let s = Server::configured(&("[[listeners]]\nport = 0\n".to_string() + &user("alice")), &[]);
    let a = s.login("alice").await;
    // Another key, made by another first start.
    let other = tempfile::tempdir().unwrap();
    drop(Server::at(other.path()));
    std::fs::copy(other.path().join("host_ed25519"), s.data.join("other")).unwrap();
    let listeners = "host_keys = [\"other\"]\n[[listeners]]\nport = 0\n[[listeners]]\naddress = \"127.0.0.2\"\nport = 0\n";
    write(&s, &format!("{listeners}[log]\nlevel = \"debug\"\n{}", user("alice")));
    let (code, out, err) = s.ask(&["reload"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("other host keys") && out.contains("listening on 127.0.0.2:"), "{out}");
    put(&a, "/f", "the old session lives on").await.unwrap();
    // The same port with the other key: who pins the old one is not let in, who pins the new one is.
    assert!(s.try_login("alice", PASSWORD).await.is_err());
    let (_, out, _) = s.ask(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["listeners"][0]["port"], s.port);
    let fingerprint = status["listeners"][1]["fingerprints"][0].as_str().unwrap();
    assert_ne!(fingerprint, s.fingerprint);
    let mut options = s.options("alice", PASSWORD);
    options = options.host_keys(&[fingerprint.to_string()]).unwrap();
    let b = open_url(options, Arc::new(Unattended)).await.unwrap();
    put(&b, "/g", "").await.unwrap();
    assert!(s.log().contains("\"DEBUG\""), "the level did not change");
    // And back: a listener that is gone takes nobody.
    write(&s, &format!("[[listeners]]\nport = 0\n{}", user("alice")));
    let (_, out, _) = s.ask(&["reload"]);
    assert!(out.contains("no longer listening on 127.0.0.2:"), "{out}");
    let port = u16::try_from(status["listeners"][1]["port"].as_u64().unwrap()).unwrap();
    until("the second port to be closed", || std::net::TcpStream::connect(("127.0.0.2", port)).is_err())
        .await;
    put(&a, "/h", "").await.unwrap();
    put(&s.login("alice").await, "/i", "").await.unwrap();
}

#[tokio::test]
async fn a_reload_that_cannot_listen_or_compile_changes_nothing() {
    let s = Server::configured(&("[[listeners]]\nport = 0\n".to_string() + &user("alice")), &[]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    write(&s, &format!("[[listeners]]\nport = {port}\n{}", user("bob")));
    assert_eq!(s.ask(&["reload"]).0, 1);
    write(&s, &format!("{}[[hooks]]\nevent = \"OnAuthSuccess\"\nfile = \"none.js\"\n", user("bob")));
    assert_ne!(s.ask(&["reload"]).0, 0);
    assert!(s.try_login("bob", PASSWORD).await.is_err());
    put(&s.login("alice").await, "/f", "").await.unwrap();
}

#[tokio::test]
async fn a_data_folder_has_one_daemon() {
    let s = Server::start(&user("alice"), &[]);
    let (code, _, err) = ferryd(&s.data, &["--listen", "127.0.0.1:0", "--control", "/nonexistent/x"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("another ferryd uses the data folder DATA"), "{err}");
    put(&s.login("alice").await, "/f", "").await.unwrap();
}

#[test]
fn a_first_start_that_fails_leaves_the_next_one_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for _ in 0..2 {
        let (code, out, err) = ferryd(dir.path(), &["--listen", &address]);
        assert_eq!(code, 1, "{out}{err}");
        assert!(err.contains("cannot listen on") && !dir.path().join("ferryd.toml").exists(), "{err}");
    }
    let first = Server::at(dir.path());
    assert!(first.data.join("ferryd.toml").exists());
}
