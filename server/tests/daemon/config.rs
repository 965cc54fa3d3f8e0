//! The first start, and the commands that need no server.

use std::os::unix::fs::PermissionsExt;

use session_core::error::ErrorKind;

use crate::support::*;

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_first_start_makes_everything_and_the_second_one_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new/data");
    let first = Server::at(&data);
    assert_eq!(mode(&data), 0o700);
    for file in ["ferryd.toml", "host_ed25519", "control.sock"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    let text = std::fs::read_to_string(data.join("ferryd.toml")).unwrap();
    let fingerprint = first.fingerprint.clone();
    drop(first);
    // The socket that a killed server leaves behind is replaced.
    assert!(data.join("control.sock").exists());
    let second = Server::at(&data);
    assert_eq!(second.fingerprint, fingerprint);
    assert_eq!(std::fs::read_to_string(data.join("ferryd.toml")).unwrap(), text);
}

#[tokio::test]
async fn a_password_lets_in_and_a_wrong_one_gives_the_stable_line() {
    let s = Server::start(&user("alice"), &[]);
    put(&s.login("alice").await, "/a", "hello").await.unwrap();
    assert_eq!(std::fs::read_to_string(s.home("alice").join("a")).unwrap(), "hello");
    for (name, shown, reason) in [("alice", "alice", "wrong password"), ("x y\n", "x%20y%0A", "no such user")]
    {
        let e = s.try_login(name, "wrong").await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Unauthenticated);
        let line = s.logged(&["login failed", shown, "\"password\""]).await;
        assert_eq!((&line["target"], &line["level"]), (&"auth".into(), &"WARN".into()));
        assert_eq!((line["user"].as_str(), line["address"].as_str()), (Some(shown), Some("127.0.0.1")));
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
        assert!(!line["session"].as_str().unwrap().is_empty());
    }
    assert!(!s.log().contains(PASSWORD));
}

#[test]
fn check_tells_line_and_code() {
    let alice = user("alice");
    let hook = |file: &str| format!("[[hooks]]\nevent = \"BeforeFileUpload\"\nfile = \"{file}\"\n");
    let cases = [
        (alice.clone(), 0, vec!["good"]),
        (
            "site = \"x\"\nlimit = 1\n".into(),
            2,
            vec!["DATA/ferryd.toml:2:", "'limit'", "did you mean 'limits'?"],
        ),
        ("site = \"x\"\nsite = 3".into(), 2, vec!["DATA/ferryd.toml:2:"]),
        (format!("{alice}{alice}"), 2, vec!["DATA/ferryd.toml:7:", "another user 'alice'"]),
        ("[limits]\nidle_time = \"soon\"\n".into(), 2, vec!["DATA/ferryd.toml:2:", "'soon' is no duration"]),
        (hook("broken.js"), 2, vec!["broken.js", ":2"]),
        (hook("missing.js"), 2, vec!["missing.js", "cannot be read"]),
        (hook("fine.js"), 0, vec!["good"]),
        (hook("fine.js").replace("Upload", "Uplod"), 2, vec![":2:", "did you mean 'BeforeFileUpload'?"]),
    ];
    for (text, code, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ferryd.toml"), &text).unwrap();
        std::fs::write(dir.path().join("broken.js"), "Log('a');\nlet = ;\n").unwrap();
        std::fs::write(dir.path().join("fine.js"), "Log('a');\n").unwrap();
        let (got, out, err) = ferryd(dir.path(), &["check"]);
        assert_eq!(got, code, "{text}\n{out}{err}");
        for word in words {
            assert!(format!("{out}{err}").contains(word), "{word}\n{out}{err}");
        }
        assert!(!err.contains("$2b$"), "{err}");
    }
}

#[test]
fn the_configuration_is_shown_without_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("data = \".\"\n{}", user("alice"));
    std::fs::write(dir.path().join("ferryd.toml"), &text).unwrap();
    let (code, out, err) = ferryd(dir.path(), &["config"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("alice") && out.contains("DATA/homes/alice"), "{out}");
    assert!(!out.contains("$2") && !out.contains("/./"), "{out}");
}

#[test]
fn commands_without_a_server_end_with_3() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["sessions"][..], &["status"], &["reload"], &["sessions", "kill", "--user", "a"]] {
        let (code, _, err) = ferryd(dir.path(), args);
        assert_eq!(code, 3, "{args:?} {err}");
    }
    assert_eq!(ferryd(dir.path(), &["sessions", "kill"]).0, 2);
    assert_eq!(ferryd(dir.path(), &["nonsense"]).0, 2);
}
