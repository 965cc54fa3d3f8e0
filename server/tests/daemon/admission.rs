//! Who is taken, how much may move, and how fast: as commands and clients see it.

use std::sync::Arc;

use client::connect::{Connected, open_url};
use serde_json::Value;
use session_core::error::Result;
use session_core::fs::CommitOptions;

use crate::support::*;

/// Two sites with a user each, called as the site.
fn config() -> String {
    let site = |name: &str| {
        format!(
            "[[sites]]\nname = \"{name}\"\nlisteners = [{{ protocol = \"sftp\", port = 0 }}]\n{}",
            user(name)
        )
        .replace("[[users]]", "[[sites.users]]")
    };
    format!("[limits]\ndrain = \"20s\"\n{}{}", site("one"), site("two"))
}

fn two() -> Server {
    Server::configured(&config(), &[])
}

async fn at(s: &Server, site: &str) -> Result<Connected> {
    let options = s.options_at("sftp", s.port_of(site, "sftp"), site, PASSWORD);
    open_url(options, Arc::new(session_core::batch::Unattended)).await
}

#[tokio::test]
async fn a_paused_site_takes_nobody_and_its_sessions_go_on() {
    let s = two();
    let there = at(&s, "one").await.unwrap();
    let (code, out, err) = s.ask(&["pause", "--site", "one", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!(
        (code, &told["sites"][0]["site"], &told["sites"][0]["sessions"]),
        (0, &"one".into(), &1.into())
    );
    assert!(at(&s, "one").await.is_err());
    put(&there, "/f", "x").await.unwrap();
    put(&at(&s, "two").await.unwrap(), "/f", "x").await.unwrap();
    // It outlives a reload, and is seen.
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert!(at(&s, "one").await.is_err());
    let status: Value = serde_json::from_str(&s.ask(&["status", "--json"]).1).unwrap();
    let paused: Vec<_> = status["sites"].as_array().unwrap().iter().map(|s| s["paused"].clone()).collect();
    assert_eq!(paused, [true, false]);
    assert_eq!(s.ask(&["resume", "--site", "one"]).1, "sessions are taken again at 'one'\n");
    at(&s, "one").await.unwrap();
    assert_eq!(s.ask(&["pause"]).0, 0);
    assert!(at(&s, "one").await.is_err() && at(&s, "two").await.is_err());
    assert_eq!(s.ask(&["resume"]).0, 0);
    at(&s, "two").await.unwrap();
    let (code, _, err) = s.ask(&["pause", "--site", "three"]);
    assert!(code == 5 && err.contains("one, two"), "{code} {err}");
}

#[tokio::test]
async fn a_pause_outlives_the_process_until_it_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{}", config())).unwrap();
    let s = Server::at_own(dir.path());
    assert_eq!(s.ask(&["pause", "--site", "one"]).0, 0);
    // Killed, without a last word.
    drop(s);
    let s = Server::at_own(dir.path());
    assert!(at(&s, "one").await.is_err());
    at(&s, "two").await.unwrap();
    s.logged(&["the site is paused, as it was before"]).await;
    assert_eq!(s.ask(&["resume", "--site", "one"]).0, 0);
    at(&s, "one").await.unwrap();
    drop(s);
    at(&Server::at_own(dir.path()), "one").await.unwrap();
}

#[tokio::test]
async fn a_drained_site_ends_with_its_transfers_and_the_server_goes_on() {
    let s = two();
    let (busy, idle, other) =
        (at(&s, "one").await.unwrap(), at(&s, "one").await.unwrap(), at(&s, "two").await.unwrap());
    let file = begin(&busy, "/f", "the whole").await.unwrap();
    assert_eq!(s.ask(&["drain", "--site", "one"]).0, 0);
    until("the idle one to end", || s.sessions().iter().filter(|s| s["site"] == "one").count() == 1).await;
    assert!(at(&s, "one").await.is_err());
    assert!(begin(&busy, "/new", "x").await.is_err());
    file.commit(&CommitOptions::default()).await.unwrap();
    until("the busy one to end", || s.sessions().iter().all(|s| s["site"] == "two")).await;
    put(&other, "/f", "x").await.unwrap();
    assert_eq!(std::fs::read(s.data.join("sites/one/homes/one/f")).unwrap(), b"the whole");
    assert_eq!(s.ask(&["resume", "--site", "one"]).0, 0);
    at(&s, "one").await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn only_so_much_moves_in_a_month_also_after_a_restart() {
    let config = "[[groups]]\nname = \"g\"\n[groups.total_transfer]\nperiod = \"month\"\nupload = 25\n"
        .to_string()
        + &user("alice")
        + "groups = [\"g\"]\n[users.transfer]\nperiod = \"month\"\ndownload = 15\n"
        + &user("bob")
        + "groups = [\"g\"]\n";
    let mut s = Server::start(&config, &[]);
    let (a, b) = (s.login("alice").await, s.login("bob").await);
    put(&a, "/f", "0123456789").await.unwrap();
    put(&b, "/f", "0123456789").await.unwrap();
    let e = put(&b, "/g", "012345").await.unwrap_err();
    assert!(format!("{e:#}").contains("transferred"), "{e:#}");
    // A client asks for more than a file has: that is no reason to refuse it.
    assert_eq!(get(&a, "/f").await.unwrap(), "0123456789");
    assert!(get(&a, "/f").await.is_err());
    assert_eq!(get(&b, "/f").await.unwrap(), "0123456789");
    drop((a, b));
    s.signal("TERM");
    assert_eq!(s.ended().await, Some(0));
    let s = Server::at(&s.data.clone());
    let (a, b) = (s.login("alice").await, s.login("bob").await);
    assert!(get(&a, "/f").await.is_err());
    assert!(put(&a, "/h", "012345").await.is_err());
    put(&b, "/h", "01234").await.unwrap();
    let (code, out, err) = s.ask(&["quota", "transfers", "--json"]);
    let told: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let moved: Vec<_> = told.iter().map(|t| (t["who"].as_str().unwrap(), t["moved"].clone())).collect();
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        moved[0],
        ("group g of ferry", serde_json::json!({ "upload": 25, "download": 20, "both": 45 }))
    );
    assert_eq!(
        moved[1],
        ("user alice of ferry", serde_json::json!({ "upload": 10, "download": 10, "both": 20 }))
    );
}

#[tokio::test]
async fn a_second_has_only_so_many_connections() {
    let s = Server::start(&format!("[limits]\nrate = 2\n{}", user("alice")), &[]);
    let connected = || {
        use std::io::Read as _;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", s.port)).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let mut begin = [0; 4];
        stream.read_exact(&mut begin).is_ok_and(|()| &begin == b"SSH-")
    };
    let all: Vec<_> = (0..200).map(|_| connected()).collect();
    assert!(all[0] && all.contains(&false), "none was refused");
    until("another second", connected).await;
}
