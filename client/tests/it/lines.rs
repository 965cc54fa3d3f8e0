//! The lines of `--json`: each names its schema and kind, and has no field but those of the manual's table.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// A row of the manual's table.
struct Row {
    event: String,
    by: Vec<String>,
    fields: BTreeSet<String>,
}

/// What stands between backticks.
fn named(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn table() -> &'static [Row] {
    static TABLE: OnceLock<Vec<Row>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let out = Command::new(env!("CARGO_BIN_EXE_ferry")).args(["docs", "lines"]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let by = cells[2].split(", ").map(str::to_owned).collect();
            Row { event: named(cells[1]).next().unwrap(), by, fields: named(cells[4]).collect() }
        };
        text.lines().skip(2).map(row).collect()
    })
}

/// Looks at all lines that `command` printed; gives them.
pub fn checked(command: &str, out: &str) -> Vec<Value> {
    let all: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
    for line in &all {
        let event = line["event"].as_str().unwrap_or_else(|| panic!("{command}: {line}"));
        assert_eq!(line["schema"], "ferry.line/1", "{command}: {line}");
        let by = |row: &&Row| row.by.iter().any(|by| by == command || by.starts_with("all"));
        let rows: Vec<&Row> = table().iter().filter(|r| r.event == event).filter(by).collect();
        assert!(!rows.is_empty(), "{command} prints no '{event}' in the manual: {line}");
        let keys = line.as_object().unwrap().keys().filter(|k| !["event", "schema"].contains(&k.as_str()));
        let keys: BTreeSet<String> = keys.cloned().collect();
        let fits = |r: &&Row| keys.is_subset(&r.fields);
        assert!(rows.iter().any(fits), "{command}: '{event}' has other fields in the manual: {line}");
    }
    all
}

fn ferry(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.arg("--json").args(args).current_dir(dir).env_remove("FERRY_PASSWORD");
    for (name, value) in [
        ("XDG_STATE_HOME", ".state"),
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_RUNTIME_DIR", ".run"),
        ("HOME", ""),
    ] {
        command.env(name, dir.join(value));
    }
    command
}

/// The lines of both outputs of a command of this name.
fn lines(dir: &Path, name: &str, args: &[&str]) -> Vec<Value> {
    let Output { stdout, stderr, .. } = ferry(dir, args).output().unwrap();
    let mut all = checked(name, &String::from_utf8(stdout).unwrap());
    all.extend(checked(name, &String::from_utf8(stderr).unwrap()));
    assert!(!all.is_empty(), "{args:?} says nothing");
    all
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
    std::fs::create_dir(dir.path().join(".run")).unwrap();
    std::fs::write(dir.path().join("d/f"), "content\n").unwrap();
    std::fs::write(dir.path().join("d/e/g"), "").unwrap();
    std::fs::write(dir.path().join("good.js"), "Log(1);").unwrap();
    std::fs::write(dir.path().join("r.conf"), "[s]\ntype = sftp\nhost = h\n[x]\ntype = drive\n").unwrap();
    dir
}

#[test]
fn every_command_prints_lines_of_the_manual() {
    let d = dir();
    let d = d.path();
    let mut seen = BTreeSet::new();
    for args in [
        "ls -R d",
        "ls missing",
        "tree d",
        "stat d/f missing",
        "find d",
        "df . missing",
        "hash d/f missing",
        "du d",
        "mkdir -p x/y/z",
        "mkdir x",
        "touch t x/y",
        "chmod -R 750 x",
        "chmod 600 missing",
        "chown -R 12:13 missing",
        "rmdir -n d",
        "rmdir x/y/z missing",
        "ln -s f d/link",
        "ln d/f hard",
        "ln d/f hard",
        "mv t u",
        "mv missing v",
        "rm -r x u missing",
        "rm -f gone",
        "cp -r d copy",
        "cp -r --overwrite never d copy",
        "cp missing z",
        "diff d copy",
        "sync --dry-run d other",
        "sync d other",
        "jobs",
        "resume",
        "exec . -- id",
        "fingerprint d",
        "keygen --no-passphrase key",
        "script -c lpwd -c nonsense",
        "cat missing",
        "mkdir nonsense://h/x",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        // It is empty where nothing has run for long.
        let all = if args == ["jobs"] { Vec::new() } else { lines(d, args[0], &args) };
        seen.extend(all.into_iter().map(|l| (args[0].to_owned(), l["event"].as_str().unwrap().to_owned())));
    }
    for args in [
        "sites add s sftp://u@h/",
        "sites list",
        "sites show s",
        "sites rm s",
        "sites rm s",
        "sites import rclone r.conf",
        "hooks check good.js",
        "hooks types f.ts",
        "jobs kill none",
        "jobs forget none",
        "jobs limit 1M none",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let name = args[..2].join(" ");
        let all = lines(d, &name, &args);
        seen.extend(all.into_iter().map(|l| (name.clone(), l["event"].as_str().unwrap().to_owned())));
    }
    // Every row of a command that ran has been seen, so that none is of what is no more.
    let ran: BTreeSet<String> = seen.iter().map(|(name, _)| name.clone()).collect();
    let far = ["exec", "fingerprint", "resume", "jobs", "note", "mv"];
    for row in table() {
        for by in row.by.iter().filter(|by| ran.contains(*by)) {
            let both = [by.as_str(), row.event.as_str()];
            if !both.iter().any(|name| far.contains(name)) {
                assert!(
                    seen.contains(&(by.clone(), row.event.clone())),
                    "{by} has printed no '{}'",
                    row.event
                );
            }
        }
    }
}

#[test]
fn plans_name_their_own_schema_and_what_is_applied_is_told() {
    let d = dir();
    let plan = ferry(d.path(), &["plan", "d", "other"]).output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&plan).lines().next().unwrap().contains("ferry.plan/1"));
    std::fs::write(d.path().join("p"), plan).unwrap();
    let all = lines(d.path(), "apply", &["apply", "p"]);
    assert_eq!(all.last().unwrap()["event"], "summary");
}

#[test]
fn each_thing_that_is_changed_has_a_line() {
    let d = dir();
    let told = |name: &str, args: &[&str]| -> Vec<(String, String)> {
        let all = lines(d.path(), name, args);
        let text = |v: &Value| v.as_str().unwrap_or_default().rsplit('/').next().unwrap().to_owned();
        all.iter().map(|l| (text(&l["path"]), text(&l["outcome"]))).collect()
    };
    let is = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let made = told("mkdir", &["mkdir", "-p", "x/y", "d", "d/f/x"]);
    assert_eq!(made, is(&[("x", "done"), ("y", "done"), ("d", "skipped"), ("x", "failed")]));
    let mut removed = told("rm", &["rm", "-rf", "d", "none"]);
    removed[..3].sort();
    assert_eq!(
        removed,
        is(&[("e", "done"), ("f", "done"), ("g", "done"), ("d", "done"), ("none", "skipped")])
    );
    let failed = &lines(d.path(), "mv", &["mv", "none", "z"])[0];
    assert_eq!(
        (&failed["error"]["kind"], &failed["place"]),
        (&"not-found".into(), &"none".into()),
        "{failed}"
    );
    let out = ferry(d.path(), &["rm", "none"]).output().unwrap();
    assert_eq!((out.status.code(), out.stderr.len()), (Some(5), 0), "told once");
}

#[test]
fn a_password_stands_in_no_line() {
    let d = dir();
    let all =
        lines(d.path(), "rm", &["rm", "--batch", "sftp://u:geheim@127.0.0.1:1/x", "sftp://u:geheim@h:x/"]);
    assert_eq!(all.len(), 2);
    assert!(!all.iter().any(|l| l.to_string().contains("geheim")), "{all:?}");
    assert_eq!(all[0]["place"], "sftp://u@127.0.0.1:1/x");
}

#[test]
fn the_shell_prints_lines() {
    let d = dir();
    let mut child = ferry(d.path(), &["shell"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"lpwd\nlls d\n").unwrap();
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let (first, rest) = out.split_once('\n').unwrap();
    assert_eq!(checked("shell", first).len(), 1);
    assert_eq!(checked("ls", rest).len(), 2);
}
