//! Whole commands on trees: `sync`, `plan`, `apply`, `diff`, `find`, `du`, `touch`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Exit code, standard output, error output.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_ferry"))
        .args(args)
        .current_dir(dir)
        .env_remove("FERRY_PASSWORD")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    (
        out.status.code().unwrap(),
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap().replace(dir.to_str().unwrap(), "DIR"),
    )
}

fn put(dir: &Path, path: &str, content: &str, seconds: u64) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + seconds);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
}

/// `a` and `b`, which differ in one of each kind.
fn two() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a/d/new", "12", 0);
    put(dir.path(), "a/changed", "new", 10);
    put(dir.path(), "b/changed", "old", 0);
    put(dir.path(), "a/same", "x", 0);
    put(dir.path(), "b/same", "x", 0);
    put(dir.path(), "b/gone", "x", 0);
    dir
}

fn json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_preview_changes_nothing_and_the_run_does_what_it_said() {
    let d = two();
    let args = ["sync", "a", "b", "--delete"];
    let (code, out, err) = run(d.path(), &[&args[..], &["--dry-run"]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "update  right changed  (3 B)\nnew     right d/\nnew     right d/new  (2 B)\ndelete  right gone\n\
         2 files to copy, 5 B, 1 to remove\n"
    );
    assert!(d.path().join("b/gone").exists() && !d.path().join("b/d").exists());
    let (code, out, err) = run(d.path(), &args);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "2 files copied, 5 B, 1 removed, 4 compared\n", ""));
    assert_eq!(run(d.path(), &["diff", "a", "b"]), (0, String::new(), String::new()));
    assert_eq!(run(d.path(), &args).1, "0 files copied, 0 B, 0 removed, 4 compared\n");
}

#[test]
fn both_ways_and_to_a_place_that_is_made() {
    let d = two();
    assert_eq!(run(d.path(), &["-q", "sync", "a", "c/d"]).0, 5, "its parent is missing");
    assert_eq!(run(d.path(), &["-q", "sync", "a", "c"]), (0, String::new(), String::new()));
    assert_eq!(run(d.path(), &["diff", "a", "c"]).0, 0);
    assert_eq!(run(d.path(), &["-q", "sync", "a", "b", "--direction", "both"]).0, 0);
    assert_eq!(std::fs::read_to_string(d.path().join("a/gone")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(d.path().join("b/changed")).unwrap(), "new");
    for wrong in [
        &["--direction", "both", "--delete"][..],
        &["--criteria", "mood"],
        &["--mask", "[a"],
        &["--max-delete", "x"],
    ] {
        let (code, _, err) = run(d.path(), &[&["sync", "a", "b"], wrong].concat());
        assert_eq!(code, 2, "{wrong:?}: {err}");
    }
    let (code, _, err) = run(d.path(), &["sync", "a", "a/d"]);
    assert_eq!(code, 2);
    assert!(err.contains("overlap"), "{err}");
}

#[test]
fn with_a_state_removals_and_conflicts_are_known() {
    let d = two();
    let sync = |more: &[&str]| {
        let args = [&["sync", "a", "b", "--direction", "both", "--state", "s"], more].concat();
        run(d.path(), &args)
    };
    let read = |path: &str| std::fs::read_to_string(d.path().join(path)).ok();
    // Nothing is known yet: the union, and what differs is a conflict.
    let (code, out, _) = sync(&[]);
    assert_eq!(
        (code, out.as_str()),
        (
            1,
            "skipped 'changed': it has changed on both sides\n2 files copied, 3 B, 0 removed, 4 compared, 1 skipped\n"
        )
    );
    assert_eq!((read("a/gone").as_deref(), read("b/d/new").as_deref()), (Some("x"), Some("12")));
    std::fs::remove_file(d.path().join("b/gone")).unwrap();
    std::fs::remove_dir_all(d.path().join("a/d")).unwrap();
    put(d.path(), "b/same", "changed", 50);
    let (code, out, _) = sync(&["--conflict", "both", "--dry-run"]);
    assert_eq!(code, 0);
    assert!(out.ends_with("2 files to copy, 10 B, 3 to remove\n"), "{out}");
    let (code, out, err) = sync(&["--conflict", "both"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(read("a/gone").is_none() && read("b/d/new").is_none());
    assert_eq!(read("a/same").as_deref(), Some("changed"));
    for side in ["a", "b"] {
        assert_eq!(read(&format!("{side}/changed")).as_deref(), Some("new"));
        assert_eq!(read(&format!("{side}/changed.conflict-right-1")).as_deref(), Some("old"));
    }
    assert_eq!(sync(&[]).1, "0 files copied, 0 B, 0 removed, 3 compared\n");
    assert_eq!(run(d.path(), &["diff", "a", "b"]).0, 0);
    // A state belongs to its places, and to both ways.
    assert_eq!(run(d.path(), &["sync", "b", "a", "--direction", "both", "--state", "s"]).0, 2);
    assert_eq!(run(d.path(), &["sync", "a", "b", "--state", "s"]).0, 2);
}

#[test]
fn differences_are_an_exit_code() {
    let d = two();
    let (code, out, _) = run(d.path(), &["diff", "a", "b"]);
    assert_eq!(code, 8);
    assert_eq!(
        out,
        "! changed  (3 bytes, 2020-09-13T12:26:50.000Z | 3 bytes, 2020-09-13T12:26:40.000Z)\n< d/\n> gone\n"
    );
    let (code, out, _) = run(d.path(), &["--json", "diff", "a", "b", "--mask", "gone"]);
    assert_eq!(code, 8);
    let lines = json(&out);
    assert_eq!(lines.last().unwrap()["differences"], 2);
    assert_eq!((lines[1]["event"].as_str(), lines[1]["path"].as_str()), (Some("difference"), Some("gone")));
    assert_eq!(run(d.path(), &["diff", "a", "missing"]).0, 5);
    std::fs::write(d.path().join("filter"), "changed\n/d/\ngon?\n").unwrap();
    assert_eq!(
        run(d.path(), &["diff", "a", "b", "--filter-from", "filter"]),
        (0, String::new(), String::new())
    );
    assert_eq!(run(d.path(), &["diff", "a", "b", "--filter-from", "none"]).0, 5);
}

#[test]
fn a_plan_is_applied_exactly_and_what_drifted_is_refused() {
    let d = two();
    let (code, plan, err) = run(d.path(), &["plan", "a", "b", "--delete"]);
    assert_eq!((code, err.as_str()), (0, "2 files to copy, 5 B, 1 to remove\n"));
    let lines = json(&plan);
    assert_eq!((lines[0]["schema"].as_str(), lines.len()), (Some("ferry.plan/1"), 6));
    std::fs::write(d.path().join("plan.jsonl"), &plan).unwrap();
    // From anywhere; things that came later are not in it.
    put(d.path(), "b/gone", "changed meanwhile", 50);
    put(d.path(), "a/late", "x", 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let file = d.path().join("plan.jsonl");
    let (code, out, err) = run(elsewhere.path(), &["apply", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("it has changed since it was compared") && err.contains("hint: compare again"),
        "{err}"
    );
    assert_eq!(out, "2 files copied, 5 B, 0 removed, 0 compared, 1 failed\n");
    assert!(d.path().join("b/gone").exists() && !d.path().join("b/late").exists());
    assert_eq!(std::fs::read_to_string(d.path().join("b/d/new")).unwrap(), "12");
    // Half a plan is none.
    let half = plan.lines().take(3).collect::<Vec<_>>().join("\n");
    std::fs::write(&file, half).unwrap();
    let (code, _, err) = run(d.path(), &["apply", "plan.jsonl"]);
    assert_eq!(code, 2);
    assert!(err.contains("line 4 of the plan: the last line is missing"), "{err}");
}

#[test]
fn what_is_gone_already_was_not_removed_by_the_plan() {
    let d = two();
    std::fs::create_dir(d.path().join("b/empty")).unwrap();
    put(d.path(), "b/other", "x", 0);
    let (code, plan, _) = run(d.path(), &["plan", "a", "b", "--delete"]);
    assert_eq!(code, 0);
    std::fs::write(d.path().join("plan.jsonl"), &plan).unwrap();
    std::fs::remove_file(d.path().join("b/gone")).unwrap();
    std::fs::remove_dir(d.path().join("b/empty")).unwrap();
    let (code, out, err) = run(d.path(), &["apply", "plan.jsonl"]);
    assert_eq!((code, out.as_str()), (1, "2 files copied, 5 B, 1 removed, 0 compared, 2 failed\n"));
    assert!(err.matches("is missing now").count() == 2 && err.contains("DIR/b/gone"), "{err}");
    assert!(!d.path().join("b/other").exists());
}

#[test]
fn a_long_list_of_what_is_left_alone_is_cut() {
    let d = two();
    for n in 0..300 {
        put(d.path(), &format!("b/old{n:03}"), "x", 0);
    }
    let (code, out, _) = run(d.path(), &["sync", "a", "b", "--delete"]);
    assert_eq!(code, 1);
    assert_eq!(out.matches("skipped '").count(), 10, "{out}");
    assert!(out.contains("and 291 more: more would be removed than is allowed\n"), "{out}");
    let (_, out, _) = run(d.path(), &["--json", "sync", "a", "b", "--delete"]);
    assert_eq!(json(&out).iter().filter(|l| l["event"] == "note").count(), 301);
}

#[test]
fn what_is_made_alike_is_proved_and_recorded() {
    let d = two();
    let receipts = |name: &str| json(&std::fs::read_to_string(d.path().join(name)).unwrap());
    let proved = ["--verify", "strict", "--digest", "sha256"];
    let args = [&["sync", "a", "b", "--receipts", "sync"], &proved[..]].concat();
    let (code, _, err) = run(d.path(), &args);
    assert_eq!((code, err.as_str()), (0, ""));
    let told = receipts("sync");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|r| r["digest"].to_string().contains("sha256")), "{told:?}");
    assert!(told.iter().all(|r| r["proof"] != "size"), "{told:?}");
    put(d.path(), "a/later", "x", 0);
    std::fs::write(d.path().join("plan"), run(d.path(), &["plan", "a", "b"]).1).unwrap();
    assert_eq!(run(d.path(), &["apply", "plan", "--receipts", "apply"]).0, 0);
    assert_eq!(receipts("apply").len(), 1);
    put(d.path(), "a/last", "x", 0);
    let (code, _, err) = run(d.path(), &["sync", "a", "b", "--receipts", "/dev/full"]);
    assert!(code == 1 && err.contains("cannot be written"), "{err}");
    assert!(d.path().join("b/last").exists());
}

#[test]
fn json_lists_each_operation_and_a_summary() {
    let d = two();
    std::fs::create_dir(d.path().join("b/d")).unwrap();
    std::fs::create_dir(d.path().join("b/d/new")).unwrap();
    let (code, out, _) = run(d.path(), &["--json", "sync", "a", "b", "--delete"]);
    assert_eq!(code, 0);
    let lines = json(&out);
    let events: Vec<_> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["operation", "operation", "note", "summary"]);
    assert_eq!((lines[0]["outcome"].as_str(), lines[0]["bytes"].as_u64()), (Some("done"), Some(3)));
    assert_eq!((lines[3]["copied_right"].as_u64(), lines[3]["removed"].as_u64()), (Some(1), Some(1)));
    assert_eq!((lines[3]["skipped"].as_u64(), lines[3]["failed"].as_u64()), (Some(1), Some(0)));
}

#[test]
fn finds_by_name_size_time_and_kind() {
    let d = tempfile::tempdir().unwrap();
    put(d.path(), "t/a.txt", "12345", 0);
    put(d.path(), "t/sub/B.TXT", "", 86_400);
    put(d.path(), "t/sub/c.md", "123", 0);
    put(d.path(), "t/skip/d.txt", "", 0);
    let find = |args: &[&str]| {
        let (code, out, err) = run(d.path(), &[&["find", "t"], args].concat());
        assert_eq!(code, 0, "{err}");
        let mut lines: Vec<String> = out.lines().map(String::from).collect();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(find(&["--name", "*.txt"]), "t/a.txt t/skip/d.txt t/sub/B.TXT");
    assert_eq!(find(&["--name", "*.txt", "--mask", "|skip/"]), "t/a.txt t/sub/B.TXT");
    assert_eq!(find(&["--name", "s*"]), "t/skip t/sub");
    assert_eq!(find(&["--type", "d"]), "t/skip t/sub");
    assert_eq!(find(&["--size", ">2"]), "t/a.txt t/sub/c.md");
    assert_eq!(find(&["--size", ">2<5"]), "t/sub/c.md");
    assert_eq!(find(&["--type", "f", "--newer", "2020-09-14"]), "t/sub/B.TXT");
    assert_eq!(find(&["--type", "f", "--older", "2020-09-14"]), "t/a.txt t/skip/d.txt t/sub/c.md");
    assert_eq!(find(&["--max-depth", "1"]), "t/a.txt t/skip t/sub");
    let (_, out, _) = run(d.path(), &["find", "t", "-0", "--name", "c.md"]);
    assert_eq!(out, "t/sub/c.md\0");
    let (_, out, _) = run(d.path(), &["--json", "find", "t", "--name", "c.md"]);
    assert_eq!(
        (json(&out)[0]["place"].as_str(), json(&out)[0]["size"].as_u64()),
        (Some("t/sub/c.md"), Some(3))
    );
    let (code, _, err) = run(d.path(), &["find", "missing", "t"]);
    assert_eq!(code, 5, "{err}");
    assert_eq!(run(d.path(), &["find", "t", "--size", "5"]).0, 2);
}

#[test]
fn sums_up() {
    let d = tempfile::tempdir().unwrap();
    put(d.path(), "t/a", "12345", 0);
    put(d.path(), "t/x/b", "1", 0);
    put(d.path(), "t/x/y/c", "22", 0);
    std::fs::create_dir(d.path().join("t/empty")).unwrap();
    let du = |args: &[&str]| {
        let (code, out, err) = run(d.path(), &[&["du", "-b"], args].concat());
        assert_eq!(code, 0, "{err}");
        let words = |l: &str| l.split_whitespace().map(String::from).collect::<Vec<_>>().join(" ");
        out.lines().map(words).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(du(&["t"]), "8 3 files t");
    assert_eq!(du(&["t", "-d", "1"]), "8 3 files t; 0 0 files t/empty; 3 2 files t/x");
    assert_eq!(du(&["t/a"]), "5 1 files t/a");
    assert_eq!(du(&["t", "--mask", "|y/"]), "6 2 files t");
    let (_, out, _) = run(d.path(), &["--json", "du", "t"]);
    assert_eq!((json(&out)[0]["bytes"].as_u64(), json(&out)[0]["directories"].as_u64()), (Some(8), Some(3)));
    assert_eq!(run(d.path(), &["du", "missing"]).0, 5);
}

#[test]
fn touches() {
    let d = tempfile::tempdir().unwrap();
    let time = |name: &str| std::fs::metadata(d.path().join(name)).unwrap().modified().unwrap();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(run(d.path(), &["touch", "-c", "f"]).0, 0);
    assert!(!d.path().join("f").exists());
    assert_eq!(
        run(d.path(), &["touch", "--time", "2020-09-13 12:26:40", "f"]),
        (0, String::new(), String::new())
    );
    assert_eq!((time("f"), std::fs::read(d.path().join("f")).unwrap()), (at(1_600_000_000), vec![]));
    std::fs::write(d.path().join("g"), "kept").unwrap();
    assert_eq!(run(d.path(), &["touch", "--reference", "f", "g"]).0, 0);
    assert_eq!(
        (time("g"), std::fs::read(d.path().join("g")).unwrap()),
        (at(1_600_000_000), b"kept".to_vec())
    );
    assert_eq!(run(d.path(), &["touch", "-t", "2001-09-09T01:46:40Z", "g"]).0, 0);
    assert_eq!(time("g"), at(1_000_000_000));
    assert_eq!(run(d.path(), &["touch", "-t", "noon", "g"]).0, 2);
    assert_eq!(run(d.path(), &["touch", "missing/f"]).0, 5);
}

#[test]
fn a_plan_is_rehearsed_against_what_is_there_now() {
    let d = two();
    let (_, plan, _) = run(d.path(), &["plan", "a", "b", "--delete"]);
    put(d.path(), "p", &plan, 0);
    let (code, out, err) = run(d.path(), &["apply", "-n", "p"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "update  right changed  (3 B)\nnew     right d/\nnew     right d/new  (2 B)\ndelete  right gone\n\
         2 files to copy, 5 B, 1 to remove\n"
    );
    // One of them has drifted.
    put(d.path(), "b/gone", "more", 99);
    let (code, out, _) = run(d.path(), &["--json", "apply", "--dry-run", "p"]);
    let all = crate::lines::checked("apply", &out);
    let outcomes: Vec<_> = all.iter().filter_map(|l| l["outcome"].as_str()).collect();
    assert_eq!((code, outcomes), (1, vec!["done", "done", "done", "failed"]), "{out}");
    assert!(all.iter().all(|l| l["dry_run"] == true), "{out}");
    assert!(d.path().join("b/gone").exists() && !d.path().join("b/d").exists());
    assert_eq!(std::fs::read_to_string(d.path().join("b/changed")).unwrap(), "old");
}
