//! Whole commands: exit code and both streams.

use std::path::Path;
use std::process::{Command, Output};

fn ferry(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ferry"))
        .args(args)
        .current_dir(dir)
        .env_remove("FERRY_PASSWORD")
        .env("XDG_STATE_HOME", dir.join(".state"))
        .output()
        .unwrap()
}

/// Exit code, standard output, error output.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = ferry(dir, args);
    (
        out.status.code().unwrap(),
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap().replace(dir.to_str().unwrap(), "DIR"),
    )
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
    std::fs::write(dir.path().join("d/f"), "content\n").unwrap();
    std::fs::write(dir.path().join("d/.hidden"), "").unwrap();
    std::fs::write(dir.path().join("d/e/g"), "").unwrap();
    dir
}

#[test]
fn colours_go_where_nobody_wants_them() {
    let said = |no_color: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        // As on a terminal.
        command.arg("nosuch").env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(said(None).contains('\x1b'));
    assert!(said(Some("1")).contains("nosuch") && !said(Some("1")).contains('\x1b'));
}

#[test]
fn lists() {
    let d = dir();
    assert_eq!(run(d.path(), &["ls", "d"]), (0, "e\nf\n".into(), String::new()));
    assert_eq!(run(d.path(), &["ls", "-a", "d"]).1, ".hidden\ne\nf\n");
    assert_eq!(run(d.path(), &["ls", "d/f"]).1, "f\n");
    let (code, out, _) = run(d.path(), &["ls", "-l", "d/f"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("-rw") && out.trim_end().ends_with(" f"), "{out}");
    assert_eq!(run(d.path(), &["tree", "d"]).1, "d\n├── e\n│   └── g\n└── f\n\n1 directories, 2 files\n");
}

#[test]
fn json_is_one_object_a_line() {
    let d = dir();
    let (code, out, _) = run(d.path(), &["--json", "ls", "d"]);
    assert_eq!(code, 0);
    let names: Vec<_> = out
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["name"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(names, ["e", "f"]);
    let (code, out, _) = run(d.path(), &["--json", "cp", "-r", "d", "copy"]);
    assert_eq!(code, 0);
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["event"].as_str(), last["done"].as_u64(), last["failed"].as_u64()),
        (Some("summary"), Some(3), Some(0))
    );
}

#[test]
fn errors_say_what_failed_on_what_and_hint_at_the_cure() {
    let d = dir();
    let (code, out, err) = run(d.path(), &["cat", "missing"]);
    assert_eq!((code, out.as_str()), (5, ""));
    assert!(err.starts_with("error: cannot open 'DIR/missing': no such file or directory"), "{err}");
    std::os::unix::fs::symlink("nowhere", d.path().join("dangling")).unwrap();
    let (code, _, err) = run(d.path(), &["cp", "dangling", "x"]);
    assert_eq!(code, 5);
    assert!(err.contains("'DIR/dangling': no such file") && err.contains("a link leads to"), "{err}");
    std::fs::create_dir(d.path().join("other")).unwrap();
    let (_, _, err) = run(d.path(), &["diff", "d", "other", "--filter-from", "missing"]);
    let (_, _, script) = run(d.path(), &["script", "missing"]);
    assert_eq!(
        (err.matches("o such file").count(), script.matches("o such file").count()),
        (1, 1),
        "{err}{script}"
    );
    let (code, _, err) = run(d.path(), &["cp", "d", "x"]);
    assert_eq!(code, 1);
    assert!(err.contains("hint: give -r to copy directories"), "{err}");
    let (code, _, err) = run(d.path(), &["ls", "gopher://h/"]);
    assert_eq!(code, 7);
    assert!(err.contains("the scheme 'gopher' is not known"), "{err}");
    assert_eq!(run(d.path(), &["ls", "sftp://h:x/"]).0, 2);
    assert_eq!(run(d.path(), &["chmod", "999", "d"]).0, 2);
    assert_eq!(run(d.path(), &["nonsense"]).0, 2);
    let (code, _, err) = run(d.path(), &["rm", "d"]);
    assert_eq!(code, 1);
    assert!(err.contains("hint: give -r"), "{err}");
    let (code, _, err) = run(d.path(), &["--batch", "ls", "sftp://u@127.0.0.1:1/"]);
    assert_eq!(code, 3, "{err}");
}

#[test]
fn part_of_a_batch_is_not_success() {
    let d = dir();
    std::fs::create_dir(d.path().join("t")).unwrap();
    let (code, out, err) = run(d.path(), &["cp", "d/f", "missing", "t/"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("1 file,") && out.contains("1 failed"), "{out}");
    assert!(d.path().join("t/f").exists());
}

#[test]
fn masks_and_filters_choose_what_is_copied() {
    let d = dir();
    std::fs::write(d.path().join("d/e/f"), "").unwrap();
    std::fs::write(d.path().join("filter"), "/f\n.hidden\n").unwrap();
    std::fs::write(d.path().join("odd"), "[z-a]\n").unwrap();
    let has = |path: &str| d.path().join(path).exists();
    assert_eq!(run(d.path(), &["cp", "-r", "--mask", "f* | e/", "d", "one"]).0, 0);
    assert!(has("one/f") && !has("one/e") && !has("one/.hidden"));
    // The patterns of a filter begin at the directory that was named.
    assert_eq!(run(d.path(), &["cp", "-r", "--filter-from", "filter", "d", "two"]).0, 0);
    assert!(!has("two/f") && has("two/e/f") && has("two/e/g") && !has("two/.hidden"));
    let both = ["cp", "-r", "--filter-from", "filter", "--mask", "f; .*", "d", "three"];
    assert_eq!(run(d.path(), &both).0, 0);
    assert!(!has("three/f") && has("three/e/f") && !has("three/e/g") && !has("three/.hidden"));
    assert_eq!(run(d.path(), &["cp", "-r", "--filter-from", "odd", "d", "four"]).0, 2);
    assert_eq!(run(d.path(), &["cp", "-r", "--filter-from", "missing", "d", "four"]).0, 5);
    assert_eq!(run(d.path(), &["cp", "-r", "--mask", "[a", "d", "four"]).0, 2);
}

#[test]
fn copies_moves_removes() {
    let d = dir();
    let at = |s: &str| d.path().join(s);
    assert_eq!(run(d.path(), &["mkdir", "-p", "x/y/z"]).0, 0);
    assert_eq!(run(d.path(), &["cp", "-r", "d", "x/y"]).0, 0);
    assert_eq!(std::fs::read(at("x/y/d/f")).unwrap(), b"content\n");
    assert_eq!(run(d.path(), &["mv", "x/y/d/f", "x/moved"]).0, 0);
    assert!(at("x/moved").exists() && !at("x/y/d/f").exists());
    assert_eq!(run(d.path(), &["ln", "-s", "moved", "x/link"]).0, 0);
    assert_eq!(run(d.path(), &["cat", "x/link"]).1, "content\n");
    assert_eq!(run(d.path(), &["chmod", "600", "x/moved"]).0, 0);
    assert_eq!(run(d.path(), &["rm", "-r", "x"]).0, 0);
    assert!(!at("x").exists());
    assert_eq!(run(d.path(), &["rm", "-f", "x"]).0, 0);
    assert_eq!(run(d.path(), &["rm", "x"]).0, 5);
    assert_ne!(run(d.path(), &["cp", "-r", "d", "d/e"]).0, 0, "a directory into itself");
}

#[test]
fn only_empty_directories_are_removed_by_rmdir() {
    let d = dir();
    let at = |s: &str| d.path().join(s);
    assert_eq!(run(d.path(), &["mkdir", "-p", "x/y"]).0, 0);
    for dry_run in [true, false] {
        let args = |name: &'static str| {
            let mut args = vec!["rmdir", name];
            args.extend(dry_run.then_some("-n"));
            args
        };
        let (code, _, err) = run(d.path(), &args("x"));
        assert!(code == 1 && err.contains("directory not empty"), "{code} {err}");
        assert_eq!(run(d.path(), &args("d/f")).0, 1, "a file");
        assert_eq!(run(d.path(), &args("missing")).0, 5);
        let (code, out, _) = run(d.path(), &args("x/y"));
        assert_eq!((code, out.contains("would rmdir"), at("x/y").exists()), (0, dry_run, dry_run), "{out}");
    }
    assert!(at("x").exists() && at("d/f").exists());
}

#[test]
fn owners_are_numbers_and_what_is_not_said_stays() {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    let d = dir();
    let own = std::fs::metadata(d.path().join("d/f")).unwrap();
    // A link in a tree is left out: whatever it leads to keeps its owner.
    symlink("/", d.path().join("d/e/away")).unwrap();
    // Whoever runs the tests may give its files to itself, and root to anybody.
    let (uid, gid) = if own.uid() == 0 { (12, 34) } else { (own.uid(), own.gid()) };
    assert_eq!(run(d.path(), &["chown", "-R", &format!("{uid}:{gid}"), "d"]).0, 0);
    for name in ["d", "d/f", "d/e", "d/e/g"] {
        let m = std::fs::metadata(d.path().join(name)).unwrap();
        assert_eq!((m.uid(), m.gid()), (uid, gid), "{name}");
    }
    assert_eq!(std::fs::symlink_metadata(d.path().join("d/e/away")).unwrap().uid(), own.uid());
    assert_eq!(run(d.path(), &["chown", &format!(":{}", own.gid()), "d/f"]).0, 0);
    let m = std::fs::metadata(d.path().join("d/f")).unwrap();
    assert_eq!((m.uid(), m.gid()), (uid, own.gid()));
    for bad in ["root", "1:users", ":", "", "-1"] {
        assert_eq!(run(d.path(), &["chown", "--", bad, "d/f"]).0, 2, "{bad}");
    }
    assert_eq!(run(d.path(), &["chown", "0:0", "missing"]).0, 5);
}

#[test]
fn digests_are_the_ones_that_other_tools_print() {
    let d = dir();
    let expected = Command::new("sha256sum").arg("d/f").current_dir(d.path()).output().unwrap();
    assert_eq!(run(d.path(), &["hash", "d/f"]).1.as_bytes(), expected.stdout);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let d = dir();
    for n in 0..2000 {
        std::fs::write(d.path().join(format!("d/{n:0200}")), "").unwrap();
    }
    for command in ["ls d", "docs completions bash"] {
        let ferry = env!("CARGO_BIN_EXE_ferry");
        let script = format!("'{ferry}' {command} | head -1; test ${{PIPESTATUS[0]}} -eq 0");
        let out = Command::new("bash").arg("-c").arg(script).current_dir(d.path()).output().unwrap();
        assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn help_man_and_completions_come_from_one_definition() {
    let d = dir();
    let (code, out, _) = run(d.path(), &["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("Exit codes:") && out.contains("  docs "));
    assert!(run(d.path(), &["docs", "man"]).1.contains(".TH ferry"));
    let (_, man, _) = run(d.path(), &["docs", "man", "sync"]);
    assert!(man.contains(".TH ferry-sync") && man.contains("max\\-delete"), "{man}");
    assert_eq!(run(d.path(), &["docs", "man", "nonsense"]).0, 2);
    assert!(run(d.path(), &["docs", "completions", "bash"]).1.contains("_ferry"));
    assert!(run(d.path(), &["docs", "reference"]).1.contains("### `ferry hash`"));
}
