//! Quotas of homes and folders, over SFTP and over FTP, and through a restart.

use std::sync::Arc;

use client::connect::{Connected, open_url};
use serde_json::Value;
use session_core::batch::Unattended;
use session_core::error::{ErrorKind, Result};
use session_core::fs::*;

use crate::support::*;

const BOTH: &str = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n\
                    [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n";

async fn over(s: &Server, protocol: &str, user: &str) -> Connected {
    let options = s.options_at(protocol, s.port_of("ferry", protocol), user, PASSWORD);
    open_url(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}\n{}", s.log()))
}

/// Refused with these words, and over FTP with the code for it.
fn used_up<T>(protocol: &str, result: Result<T>) {
    let e = result.err().unwrap();
    assert!(format!("{e:#}").contains("quota"), "{protocol}: {e:#}");
    if protocol == "ftp" {
        assert_eq!((e.kind(), e.wire().map(|w| w.code)), (ErrorKind::QuotaExceeded, Some(552)), "{e:#}");
    }
}

fn places(s: &Server) -> Vec<Value> {
    let (code, out, told) = s.ask(&["quota", "show", "--json"]);
    assert_eq!(code, 0, "{told}");
    out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn bytes_of(s: &Server, place: &str) -> u64 {
    let all = places(s);
    let found = all.iter().find(|p| p["place"].as_str().unwrap().ends_with(place));
    found.unwrap_or_else(|| panic!("{place} in {all:?}"))["published"]["bytes"].as_u64().unwrap()
}

#[tokio::test]
async fn a_home_and_a_folder_hold_what_they_may_on_each_protocol() {
    let config = format!(
        "{BOTH}[[folders]]\npath = \"/all\"\nfolder = \"all\"\n[folders.quota]\nbytes = 50\n\
         [[hooks]]\nevent = \"OnQuotaHit\"\nfile = \"hit.js\"\n\
         [[groups]]\nname = \"g\"\n[groups.total_quota]\nbytes = 150\n\
         {}groups = [\"g\"]\n[users.quota]\nbytes = 100\n{}groups = [\"g\"]\n",
        user("alice"),
        user("bob")
    );
    let s = Server::configured(&config, &[("hit.js", "Log('the end of a quota at ' + CtxRelPath());")]);
    for protocol in ["sftp", "ftp"] {
        let (alice, bob) = (over(&s, protocol, "alice").await, over(&s, protocol, "bob").await);
        put(&alice, "/f", &"x".repeat(90)).await.unwrap();
        let space = alice.fs().space(&path("/")).await.unwrap();
        assert_eq!(space.available, 10, "{protocol}");
        used_up(protocol, put(&alice, &format!("/{protocol}"), &"x".repeat(20)).await);
        put(&alice, "/f", &"x".repeat(95)).await.unwrap();
        assert_eq!(names(&alice, "/").await.unwrap(), ["all", "f"], "nothing is left of what was cut");
        // The folder is everybody's, and the group's homes are counted together.
        put(&alice, "/all/a", &"x".repeat(30)).await.unwrap();
        used_up(protocol, put(&bob, "/all/b", &"x".repeat(30)).await);
        used_up(protocol, put(&bob, "/own", &"x".repeat(60)).await);
        put(&bob, "/own", &"x".repeat(50)).await.unwrap();
        assert_eq!(
            (bytes_of(&s, "/homes/alice"), bytes_of(&s, "/homes/bob"), bytes_of(&s, "/all")),
            (95, 50, 30)
        );
        s.logged(&["the end of a quota at", &format!("/{protocol}")]).await;
        for (c, at) in [(&alice, "/f"), (&alice, "/all/a"), (&bob, "/own")] {
            c.fs().remove_file(&path(at)).await.unwrap();
        }
        assert_eq!(bytes_of(&s, "/homes/alice"), 0);
    }
}

#[tokio::test]
async fn counts_survive_a_restart_and_are_made_anew_on_request_and_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("data = \".\"\n{}[users.quota]\nbytes = 1000\n", user("alice"));
    std::fs::write(dir.path().join("ferryd.toml"), config).unwrap();
    let mut s = Server::at(dir.path());
    put(&s.login("alice").await, "/f", "12345").await.unwrap();
    std::fs::write(s.home("alice").join("past"), "1234567").unwrap();
    assert_eq!(bytes_of(&s, "alice"), 5);
    s.signal("TERM");
    assert_eq!(s.ended().await, Some(0), "{}", s.log());
    assert!(dir.path().join("quotas.json").exists());
    let mut s = Server::at(dir.path());
    let alice = s.login("alice").await;
    names(&alice, "/").await.unwrap();
    assert_eq!(bytes_of(&s, "alice"), 5, "what was counted is believed");
    let (code, out, told) = s.ask(&["quota", "rescan"]);
    assert!(code == 0 && out.contains("12 bytes in 2 files (was 5 in 1)"), "{out}{told}");
    assert_eq!(s.ask(&["quota", "rescan", "nowhere"]).0, 1);
    let (_, table, _) = s.ask(&["quota", "show"]);
    assert!(table.contains("1000") && table.contains("1 places"), "{table}");
    s.signal("KILL");
    s.ended().await;
    std::fs::remove_file(s.home("alice").join("past")).unwrap();
    let s = Server::at(dir.path());
    names(&s.login("alice").await, "/").await.unwrap();
    assert_eq!(bytes_of(&s, "alice"), 5, "nobody wrote it down: it is counted");
}

#[tokio::test]
async fn a_group_is_bounded_by_what_is_in_homes_that_nobody_has_come_to_yet() {
    let dir = tempfile::tempdir().unwrap();
    let group = "[[groups]]\nname = \"g\"\n[groups.total_quota]\nbytes = 100\n";
    let users = ["alice", "bob"].map(|name| user(name) + "groups = [\"g\"]\n").concat();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{group}{users}")).unwrap();
    let mut s = Server::at(dir.path());
    put(&s.login("alice").await, "/f", &"x".repeat(80)).await.unwrap();
    s.signal("KILL");
    s.ended().await;
    let s = Server::at(dir.path());
    until("alice's home is counted", || places(&s).iter().any(|p| p["published"]["bytes"] == 80)).await;
    let bob = s.login("bob").await;
    assert!(put(&bob, "/f", &"x".repeat(30)).await.is_err());
    put(&bob, "/f", &"x".repeat(20)).await.unwrap();
}
