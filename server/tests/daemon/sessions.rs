//! Live sessions: seen, shown, ended.

use session_core::fs::*;

use crate::support::*;

#[tokio::test]
async fn sessions_are_listed_and_shown() {
    let s = Server::start(&(user("alice") + &user("bob")), &[]);
    let a = s.login("alice").await;
    let b = s.login("bob").await;
    put(&a, "/f", "12345").await.unwrap();
    let _ = get(&b, "/missing").await;
    let list = s.sessions();
    assert_eq!(list.len(), 2);
    let alice = list.iter().find(|v| v["userName"] == "alice").unwrap();
    assert_eq!((&alice["clientIp"], &alice["protocol"]), (&"127.0.0.1".into(), &"SFTP".into()));
    assert_eq!(alice["bytesReceived"], 5);
    assert!(alice["clientVersion"].as_str().unwrap().contains("Ferry"), "{alice}");
    let id = alice["sessionId"].as_str().unwrap();
    let (code, out, _) = s.ask(&["sessions", "show", id]);
    assert!(code == 0 && out.contains("alice") && out.contains(id), "{out}");
    let (code, out, _) = s.ask(&["sessions", "--user", "bob"]);
    assert!(
        code == 0 && out.contains("bob") && !out.contains("alice") && out.contains("1 sessions"),
        "{out}"
    );
    for args in [&["sessions", "show", "nobody"][..], &["sessions", "kill", "nobody"]] {
        assert_eq!(s.ask(args).0, 5, "{args:?}");
    }
    assert_eq!(s.ask(&["sessions", "kill", "--user", "carol"]).0, 5);
    let (code, out, _) = s.ask(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["sessions"]), (0, &2.into()));
    a.close().await;
    until("alice to be gone", || s.sessions().len() == 1).await;
}

#[tokio::test]
async fn an_upload_whose_session_is_ended_is_parked_and_continued_by_its_owner() {
    let shared = "home = \"shared\"\n";
    let s = Server::start(&format!("{}{shared}{}{shared}", user("alice"), user("bob")), &[]);
    let b = s.login("bob").await;
    for how in ["id", "user", "address"] {
        let a = s.login("alice").await;
        let name = format!("/{how}.bin");
        let file = begin(&a, &name, "first ").await.unwrap();
        let id = s.sessions().iter().find(|v| v["userName"] == "alice").unwrap()["sessionId"].clone();
        let arrived = |v: &serde_json::Value| v["userName"] == "alice" && v["bytesReceived"] == 6;
        until("the bytes to arrive", || s.sessions().iter().any(arrived)).await;
        let kill = ["sessions", "kill", "--reason", "audit"];
        let selector = match how {
            "id" => vec![id.as_str().unwrap()],
            "user" => vec!["--user", "alice"],
            _ => vec!["--address", "127.0.0.1"],
        };
        let (code, out, err) = s.ask(&[&kill[..], &selector].concat());
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(id.as_str().unwrap()), "{out}");
        assert!(!s.sessions().iter().any(|v| v["userName"] == "alice"));
        // A write may only have been queued; the verdict is what counts.
        let _ = file.write_at(6, "x".into()).await;
        assert!(file.commit(&CommitOptions::default()).await.is_err());
        s.logged(&["session closed", "audit", id.as_str().unwrap()]).await;
        let b = if how == "address" { &s.login("bob").await } else { &b };
        assert!(!names(b, "/").await.unwrap().contains(&name[1..].to_string()));
        assert!(get(b, &name).await.is_err());
        // The owner finds what has arrived, and goes on.
        let a = s.login("alice").await;
        assert_eq!(a.fs().stat(&path(&name), Follow::Yes).await.unwrap().size, 6);
        let options = OpenOptions { truncate: false, ..OpenOptions::create() };
        let file = a.fs().open(&path(&name), &options).await.unwrap();
        file.write_at(6, "second".into()).await.unwrap();
        file.commit(&CommitOptions::default()).await.unwrap();
        assert_eq!(get(b, &name).await.unwrap(), "first second");
        a.close().await;
        until("alice to be gone", || !s.sessions().iter().any(|v| v["userName"] == "alice")).await;
    }
}
