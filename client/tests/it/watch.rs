//! `ferry watch` as a program: events as JSON, an end in good order.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ferry(dir: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(args).current_dir(dir).env_remove("FERRY_PASSWORD");
    command
}

#[test]
fn changes_are_told_and_a_signal_ends_it_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::write(dir.path().join("a/first"), "1").unwrap();
    let args = ["--json", "watch", "a", "b", "--delete", "--settle", "20", "--receipts", "receipts"];
    let mut child = ferry(dir.path(), &args).stdout(Stdio::piped()).spawn().map(Reaped).unwrap();
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = |event: &str| -> Value {
        loop {
            let line = lines.next().expect("it ended").unwrap();
            let value = crate::lines::checked("watch", &line).remove(0);
            if value["event"] == event {
                return value;
            }
        }
    };
    assert_eq!(next("operation")["action"], "new", "the root is made");
    assert_eq!(next("operation")["path"], "first");
    next("ready");
    std::fs::write(dir.path().join("a/second"), "2").unwrap();
    let operation = next("operation");
    assert_eq!((&operation["path"], &operation["outcome"]), (&"second".into(), &"done".into()));
    std::fs::remove_file(dir.path().join("a/first")).unwrap();
    assert_eq!(next("operation")["action"], "delete");
    assert!(!dir.path().join("b/first").exists());
    assert!(Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap().success());
    let summary = next("summary");
    assert_eq!(summary["removed"], 1);
    assert_eq!(summary["failures"], Value::Array(vec![]));
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    let receipts = std::fs::read_to_string(dir.path().join("receipts")).unwrap();
    assert_eq!(receipts.lines().count(), 2, "{receipts}");
}

#[test]
fn what_differs_already_may_be_left() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("a/d")).unwrap();
    std::fs::create_dir_all(at("b/d")).unwrap();
    std::fs::write(at("a/before"), "1").unwrap();
    std::fs::write(at("b/extra"), "1").unwrap();
    let mut child =
        ferry(dir.path(), &["--json", "watch", "a", "b", "--delete", "--no-initial", "--settle", "20"])
            .stdout(Stdio::piped())
            .spawn()
            .map(Reaped)
            .unwrap();
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = |event: &str| {
        lines
            .by_ref()
            .map(|line| crate::lines::checked("watch", &line.unwrap()).remove(0))
            .find(|v| v["event"] == event)
    };
    next("ready").unwrap();
    std::fs::create_dir(at("a/d/e")).unwrap();
    std::fs::write(at("a/d/e/new"), "1").unwrap();
    while !at("b/d/e/new").exists() {
        next("round").unwrap();
    }
    assert!(Command::new("kill").args(["-INT", &child.0.id().to_string()]).status().unwrap().success());
    next("summary").unwrap();
    assert!(!at("b/before").exists() && at("b/extra").exists(), "what was not touched is left");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_remote_source_needs_to_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    // Nobody tells of what changes in B where A is to follow it, unless both are on this machine.
    let out = ferry(dir.path(), &["watch", "a", "b", "--direction", "left"]).output().unwrap();
    assert_eq!(out.status.code(), Some(5), "B is missing: {}", String::from_utf8_lossy(&out.stderr));
    let out = ferry(dir.path(), &["watch", "a", "b", "--poll", "0"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
}
