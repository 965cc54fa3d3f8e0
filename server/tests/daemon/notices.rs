//! Handlers that are told of the protector, see everybody's sessions, and are followed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::ftp::Ftp;
use crate::support::*;

fn hook(event: &str, file: &str, more: &str) -> String {
    format!("\n[[hooks]]\nevent = \"{event}\"\nfile = \"{file}\"\n{more}\n")
}

#[tokio::test]
async fn strikes_blocks_and_hits_reach_handlers() {
    let told = "const n = CtxNotice();\n\
        Log(CtxEvent(), CtxRemoteAddress(), Session === null, n.offence ?? n.network, n.sum ?? n.by);";
    let config = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n[ftp]\n\
                  control = \"allow\"\n[protector]\nsafe = []\nstrikes = 3\nlogin = 2\n"
        .to_string()
        + &user("alice")
        + &["OnProtectorStrike", "OnBlocklistAdd", "OnBlocklistHit"].map(|e| hook(e, "n.js", "")).concat();
    let s = Server::configured(&config, &[("n.js", told)]);
    let ftp = s.port_of("ferry", "ftp");
    let (mut guess, _) = Ftp::connect(ftp);
    for _ in 0..2 {
        guess.ask("USER alice");
        guess.ask("PASS wrong");
    }
    s.logged(&["OnProtectorStrike 127.0.0.1 true login 2"]).await;
    s.logged(&["OnProtectorStrike 127.0.0.1 true login 4"]).await;
    s.logged(&["OnBlocklistAdd 127.0.0.1 true 127.0.0.1/32 protector"]).await;
    let _ = Ftp::connect(ftp);
    s.logged(&["OnBlocklistHit 127.0.0.1 true 127.0.0.1/32 protector"]).await;
}

#[tokio::test]
async fn a_handler_sees_and_ends_the_sessions_of_others_if_it_may() {
    // The newest session of a user ends those that it had before.
    let source = "const mine = Session.GetID(); let ended = 0;\n\
        for (const s of Sessions.list({ user: Session.GetUserID(), order: 'id' })) {\n\
          if (s.sessionId !== mine) ended += Sessions.terminate(s.sessionId, 'one at a time');\n\
        }\n\
        Log('ended', ended);";
    let config = user("alice")
        + &user("bob")
        + &hook("OnAuthSuccess", "one.js", "grant = [\"sessions\"]\nusers = [\"alice\"]")
        + &hook("OnAuthSuccess", "no.js", "users = [\"bob\"]\non_error = \"pass\"");
    let s = Server::start(&config, &[("one.js", source), ("no.js", "Sessions.list()")]);
    let first = s.login("alice").await;
    let bob = s.login("bob").await;
    s.logged(&["no.js", "its binding needs grant = [\\\"sessions\\\"]"]).await;
    let _second = s.login("alice").await;
    s.logged(&["session closed", "one at a time", "hook"]).await;
    until("the first session is over", || s.sessions().len() == 2).await;
    assert!(names(&first, "/").await.is_err());
    assert!(names(&bob, "/").await.is_ok());
}

#[tokio::test]
async fn what_handlers_of_a_session_do_is_followed_live() {
    let config = user("alice") + &hook("BeforeFileUpload", "h.js", "");
    let source =
        "Log('looking at', CtxRelPath()); if (CtxRelPath() === '/no') Session.BlockOperation('not here');";
    let s = Server::start(&config, &[("h.js", source)]);
    let a = s.login("alice").await;
    let id = s.sessions()[0]["sessionId"].as_str().unwrap().to_string();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ferryd"))
        .env("FERRYD_DATA", &s.data)
        .args(["hooks", "trace", &id, "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let lines = std::thread::spawn(move || {
        let parse =
            |l: std::io::Result<String>| serde_json::from_str::<serde_json::Value>(&l.unwrap()).unwrap();
        out.lines().map(parse).collect::<Vec<_>>()
    });
    assert_eq!(s.ask(&["hooks", "trace", "none"]).0, 5);
    s.logged(&["a session is followed", &id]).await;
    put(&a, "/yes", "x").await.unwrap();
    assert!(put(&a, "/no", "x").await.is_err());
    a.close().await;
    assert!(child.wait().unwrap().success());
    let lines = lines.join().unwrap();
    let blocked = lines.iter().find(|l| l["outcome"] == "blocked").unwrap();
    assert_eq!((&blocked["path"], &blocked["words"]), (&"/no".into(), &"not here".into()));
    assert_eq!(blocked["log"][0], "looking at /no");
    assert!(lines.iter().any(|l| l["outcome"] == "passed" && l["path"] == "/yes"));
}
