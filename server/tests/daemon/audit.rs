//! The audit of a real `ferryd`: what stands in it, its chain, its verification.

use std::path::Path;

use serde_json::Value;

use crate::support::*;

fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[tokio::test]
async fn it_tells_who_did_what_and_proves_that_nobody_changed_it() {
    let config = "[log]\naudit = \"audit.jsonl\"\n".to_string() + &user("alice");
    let mut s = Server::start(&config, &[]);
    let file = s.data.join("audit.jsonl");
    let a = s.login("alice").await;
    put(&a, "/f", "abc").await.unwrap();
    assert!(s.try_login("alice", "wrong").await.is_err());
    assert_eq!(s.ask(&["ban", "add", "192.0.2.0/24", "--reason", "testing"]).0, 0);
    assert_eq!(s.ask(&["ban", "remove", "192.0.2.0/24"]).0, 0);
    assert_eq!(s.ask(&["reload"]).0, 0);
    let id = a.session().id().to_string();
    assert_eq!(s.ask(&["sessions", "kill", "--reason", "enough", "--user", "alice"]).0, 0);
    until("the end of the session", || s.sessions().is_empty()).await;
    drop((a, id));
    s.signal("TERM");
    assert_eq!(s.ended().await, Some(0));
    let all = records(&file);
    let one = |event: &str| {
        all.iter().find(|r| r["event"] == event).unwrap_or_else(|| panic!("no {event}: {all:#?}")).clone()
    };
    assert_eq!(one("audit-opened")["seq"], 1);
    one("started");
    assert_eq!(one("logged-in")["user"], "alice");
    assert_eq!(one("login-failed")["user"], "alice");
    let commit = all.iter().find(|r| r["operation"] == "commit" && r["event"] == "ended").unwrap();
    assert_eq!(
        (&commit["path"], &commit["outcome"], &commit["size"]),
        (&"/f".into(), &"ok".into(), &3.into())
    );
    assert_eq!(one("ban-added")["ban"]["reason"], "testing");
    assert!(one("ban-removed")["actor"].as_str().unwrap().starts_with("admin uid"));
    assert!(one("reloaded")["actor"].as_str().unwrap().starts_with("uid"));
    let killed = all.iter().find(|r| r["event"] == "closed" && r["reason"] == "enough").unwrap();
    assert!(killed["actor"].as_str().unwrap().contains("uid"), "{killed}");
    one("stopped");
    // The head that the log tells is the last record's.
    let head = s.logged(&["the audit ends here"]).await["head"].as_str().unwrap().to_string();
    let verify = |more: &[&str]| s.ask(&[&["audit", "verify", "--json"], more].concat());
    let (code, out, err) = verify(&["--expect", &head]);
    assert_eq!(code, 0, "{out}{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["whole"], &found["records"]), (&true.into(), &all.len().into()));
    // Somebody cuts the end off; somebody changes a name.
    let text = std::fs::read_to_string(&file).unwrap();
    let short: String = text.lines().take(all.len() - 1).map(|l| format!("{l}\n")).collect();
    std::fs::write(&file, short).unwrap();
    assert_eq!((verify(&[]).0, verify(&["--expect", &head]).0), (0, 1));
    std::fs::write(&file, text.replace("\"alice\"", "\"bob\"")).unwrap();
    let (code, out, _) = s.ask(&["audit", "verify"]);
    assert!(code == 1 && out.contains("the record is not the one that was written here"), "{out}");
}

#[tokio::test]
async fn the_form_of_iis_has_its_fields_and_no_name_forges_one() {
    let config = "[log.audit]\nfile = \"audit.log\"\nformat = \"w3c\"\n".to_string() + &user("alice");
    let s = Server::start(&config, &[]);
    let file = s.data.join("audit.log");
    let a = s.login("alice").await;
    put(&a, "/a b\n#x", "abc").await.unwrap();
    let text = || std::fs::read_to_string(&file).unwrap();
    until("the transfer", || text().contains(" transfer ")).await;
    let text = text();
    let fields: Vec<&str> =
        text.lines().find_map(|l| l.strip_prefix("#Fields: ")).unwrap().split(' ').collect();
    let line = text.lines().find(|l| l.contains(" transfer ")).unwrap();
    let values: Vec<&str> = line.split(' ').collect();
    assert_eq!(fields.len(), values.len());
    let of = |name: &str| values[fields.iter().position(|f| *f == name).unwrap()];
    assert_eq!((of("cs-method"), of("cs-uri-stem"), of("sc-status")), ("STOR", "/a%20b%0A#x", "226"));
    assert_eq!((of("cs-username"), of("cs-bytes"), of("x-session")), ("alice", "3", a_session(&s).as_str()));
    assert_eq!(s.ask(&["audit", "verify"]).0, 0);
}

fn a_session(s: &Server) -> String {
    s.sessions()[0]["sessionId"].as_str().unwrap().to_string()
}
