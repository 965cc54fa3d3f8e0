//! The standard input and output as one side of a transfer, and runs that only say what they would do.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lines::checked;
use crate::support::{Refuse, World};
use session_core::operation::Record;

/// The program in this folder, told how to reach `world`.
fn ferry(dir: &Path, world: &World, args: &[&str]) -> Command {
    let digest = world.fingerprint.rsplit(' ').next().unwrap();
    let pin = match world.fingerprint.starts_with("ssh-") {
        true => format!("--host-key=SHA256:{digest}"),
        false => format!("--certificate={digest}"),
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(["--batch", "--ssh-config=none", "--reconnect=0", &pin]).args(args).current_dir(dir);
    command.env_clear().env("HOME", dir).env("FERRY_PASSWORD", "secret");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn url(world: &World, path: &str) -> String {
    let scheme = if world.fingerprint.starts_with("ssh-") { "sftp" } else { "ftpes" };
    format!("{scheme}://u@127.0.0.1:{}{path}", world.port)
}

/// Exit code and both outputs, of a program that is not waited for here.
async fn ended(mut command: Command) -> (i32, String, String) {
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let Output { status, stdout, stderr } = out;
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A file as the standard input.
fn input(dir: &Path, content: &[u8]) -> File {
    std::fs::write(dir.join("in"), content).unwrap();
    File::open(dir.join("in")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standard_input_becomes_a_file_and_a_file_the_standard_output() {
    for world in [World::sftp().await, World::ftpes().await] {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..1_500_007u32).map(|n| (n % 251) as u8).collect();
        world.write("/old", "old").await;
        for path in ["/new", "/old"] {
            let mut put = ferry(dir.path(), &world, &["put", "-", &url(&world, path)]);
            put.stdin(input(dir.path(), &content));
            let (code, out, err) = ended(put).await;
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
            assert!(out.starts_with("1 file, 1.4 MiB, "), "{out}");
            assert!(world.read(path).await == content, "{path}");
        }
        let mut empty = ferry(dir.path(), &world, &["--json", "put", "-", &url(&world, "/empty")]);
        empty.stdin(Stdio::null());
        let lines = checked("put", &ended(empty).await.1);
        assert_eq!((&lines[0]["source"], &lines[1]["done"]), (&"-".into(), &1.into()), "{lines:?}");
        assert_eq!(world.tree().await, ["/empty", "/new", "/old"], "nothing is left beside them");

        let got =
            ferry(dir.path(), &world, &["get", &url(&world, "/old"), &url(&world, "/empty"), "-"]).output();
        let got = got.unwrap();
        assert!(got.status.success() && got.stdout == content && !dir.path().join("-").exists());
        let missing = ferry(dir.path(), &world, &["get", &url(&world, "/none"), "-"]);
        assert_eq!(ended(missing).await.0, 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_breaks_leaves_what_was_there() {
    for world in [World::sftp().await, World::ftpes().await] {
        let dir = tempfile::tempdir().unwrap();
        world.write("/old", "old").await;
        // Reading a directory fails.
        let mut put = ferry(dir.path(), &world, &["put", "-", &url(&world, "/old")]);
        put.stdin(File::open(dir.path()).unwrap());
        let (code, out, err) = ended(put).await;
        assert!(code != 0 && out.is_empty() && err.starts_with("error: "), "{code} {out}{err}");
        assert_eq!(
            (world.read("/old").await, world.tree().await),
            (b"old".to_vec(), vec!["/old".to_owned()])
        );

        // Ctrl-C in the middle.
        let mut put = ferry(dir.path(), &world, &["put", "-", &url(&world, "/old")]);
        let mut child = put.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let fed = tokio::task::spawn_blocking(move || stdin.write_all(&[7; 3 << 20]).map(|()| stdin));
        let began = Instant::now();
        while !world.has("/old.filepart").await {
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _open = fed.await.unwrap().unwrap();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let out = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(
            (world.read("/old").await, world.tree().await),
            (b"old".to_vec(), vec!["/old".to_owned()])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_not_all_of_it_keeps_what_it_had() {
    let refuse: fn(&Record) -> bool = |r| matches!(r, Record::Write(w) if w.offset >= 1 << 20);
    let world = World::sftp_with(vec![Arc::new(Refuse(refuse))]).await;
    let dir = tempfile::tempdir().unwrap();
    world.write("/old", "old").await;
    let mut put = ferry(dir.path(), &world, &["--json", "put", "-", &url(&world, "/old")]);
    put.stdin(input(dir.path(), &[1; 2 << 20]));
    let (code, out, err) = ended(put).await;
    let lines = checked("put", &out);
    assert_eq!(
        (code, err.as_str(), &lines[0]["failure"], &lines[1]["failed"]),
        (6, "", &0.into(), &1.into())
    );
    assert_eq!((world.read("/old").await, world.tree().await), (b"old".to_vec(), vec!["/old".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_cannot_have_is_refused_by_name() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    world.write("/d/f", "old").await;
    for (args, target, code, words) in [
        (&["-r"][..], "/x", 2, "--recursive"),
        (&["--receipts", "r"], "/x", 2, "--receipts"),
        (&["--overwrite", "newer"], "/x", 2, "not compared"),
        (&["--verify", "strict"], "/x", 2, "--verify=strict"),
        (&[], "/d", 2, "is a directory"),
        (&[], "/x/", 2, "is a directory"),
        (&[], "/none/x", 5, "no such file"),
        (&["--overwrite", "never"], "/d/f", 0, "it exists"),
        (&["--dry-run"], "/d/f", 0, "would write"),
    ] {
        let to = url(&world, target);
        let (got, out, err) = ended(ferry(dir.path(), &world, &[&["put", "-"], args, &[&to]].concat())).await;
        assert_eq!(got, code, "{args:?} {target}: {out}{err}");
        assert!((out + &err).contains(words), "{args:?} {target}");
    }
    let mode = ferry(dir.path(), &world, &["put", "--permissions", "640", "-", &url(&world, "/m")]);
    assert_eq!(ended(mode).await.0, 0);
    let shown = ended(ferry(dir.path(), &world, &["--json", "stat", &url(&world, "/m")])).await.1;
    assert_eq!(checked("stat", &shown)[0]["mode"], "0640");
    assert_eq!(world.tree().await, ["/d/", "/d/f", "/m"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_be_sent_fetched_renamed_and_removed() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("t/s")).unwrap();
    std::fs::write(dir.path().join("t/a"), "12").unwrap();
    std::fs::write(dir.path().join("t/s/b"), "345").unwrap();
    world.write("/in/t/a", "old").await;
    world.write("/x", "x").await;
    let before = world.tree().await;
    let run = async |args: &[&str]| {
        let (code, out, err) = ended(ferry(dir.path(), &world, args)).await;
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
        out
    };
    let to = url(&world, "/in/");
    let out = run(&["put", "-rn", "t", &to]).await;
    assert!(out.ends_with("2 files to copy, 5 B\n") && out.contains("to '/in/t/s/b' (3 B)"), "{out}");
    let out = run(&["put", "-rn", "--overwrite", "never", "t", &to]).await;
    assert!(out.contains("t/a': it exists") && out.ends_with("1 file to copy, 3 B, 1 skipped\n"), "{out}");
    let all = checked("get", &run(&["--json", "get", "-rn", &url(&world, "/in"), "."]).await);
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|l| l["dry_run"] == true), "{all:?}");
    let out = run(&["mv", "--dry-run", &url(&world, "/x"), &to]).await;
    assert_eq!(out, "would mv '/x' to '/in/x'\n");
    let all = checked("rm", &run(&["--json", "rm", "-rn", &to]).await);
    let paths: Vec<_> = all.iter().map(|l| l["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/in/t/a", "/in/t", "/in"]);
    assert!(all.iter().all(|l| l["dry_run"] == true && l["outcome"] == "done"), "{all:?}");
    assert_eq!(world.tree().await, before);
    assert_eq!(world.read("/in/t/a").await, b"old");
    assert!(!dir.path().join("in").exists(), "nothing was fetched");
    assert!(!dir.path().join(".local").exists(), "and no journal kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_fails_where_the_run_would() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("t/s")).unwrap();
    world.write("/t/s", "a file").await;
    world.write("/u", "u").await;
    let code = async |args: &[&str]| ended(ferry(dir.path(), &world, args)).await.0;
    let (root, there) = (url(&world, "/"), url(&world, "/t"));
    assert_ne!(code(&["put", "-rn", "t", &root]).await, 0, "a file where a directory goes");
    assert_eq!(code(&["put", "-rn", "none", &root]).await, 5);
    assert_ne!(code(&["put", "-n", "t", &root]).await, 0, "a directory without -r");
    assert_eq!(code(&["rm", "-n", &url(&world, "/none")]).await, 5);
    assert_ne!(code(&["rm", "-n", &there]).await, 0, "a directory without -r");
    assert_eq!(code(&["mv", "--dry-run", &url(&world, "/none"), &root]).await, 5);
    assert_ne!(
        code(&["mv", "--dry-run", "-n", &url(&world, "/u"), &url(&world, "/t/s")]).await,
        0,
        "it is there"
    );
}

/// The one stream that is under way.
async fn only(dir: &Path, world: &World) -> serde_json::Value {
    let began = Instant::now();
    loop {
        let jobs = checked("jobs", &ended(ferry(dir, world, &["--json", "jobs"])).await.1);
        if let [one] = jobs.as_slice()
            && one["bytes_done"].as_u64() > Some(0)
        {
            return one.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{jobs:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_among_the_running_jobs_and_slowed_and_ended_there() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    world.write("/old", "old").await;
    let content: Vec<u8> = (0..4_000_000u32).map(|n| (n % 241) as u8).collect();

    let mut put = ferry(dir.path(), &world, &["put", "--limit", "200K", "-", &url(&world, "/old")]);
    let put = put.stdin(input(dir.path(), &content)).spawn().unwrap();
    let job = only(dir.path(), &world).await;
    let what =
        ["standing", "command", "source"].map(|name| job[name].as_str().unwrap_or_default().to_owned());
    assert_eq!((what, &job["limit"]), (["running", "put", "-"].map(str::to_owned), &(200 << 10).into()));
    assert!(job["target"].as_str().unwrap().ends_with("/old") && job["scanning"] == true, "{job}");
    let id = job["job"].as_str().unwrap().to_owned();
    assert_eq!(ended(ferry(dir.path(), &world, &["jobs", "kill", &id])).await.0, 0);
    let out = tokio::task::spawn_blocking(move || put.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!((world.read("/old").await, world.tree().await), (b"old".to_vec(), vec!["/old".to_owned()]));

    world.write("/large", content.clone()).await;
    let mut get = ferry(dir.path(), &world, &["get", "--limit", "200K", &url(&world, "/large"), "-"]);
    let began = Instant::now();
    let get = tokio::task::spawn_blocking(move || get.output().unwrap());
    let job = only(dir.path(), &world).await;
    assert_eq!((&job["command"], &job["target"]), (&"get".into(), &"-".into()), "{job}");
    // What is asked for beyond the limit is little.
    let most = 200 * 1024 * (began.elapsed().as_secs() + 2);
    assert!(job["bytes_done"].as_u64().unwrap() <= most, "{job}");
    let id = job["job"].as_str().unwrap().to_owned();
    assert_eq!(ended(ferry(dir.path(), &world, &["jobs", "limit", "off", &id])).await.0, 0);
    let out = get.await.unwrap();
    assert!(out.status.success() && out.stdout == content);
    assert!(began.elapsed() < Duration::from_secs(15), "the old limit held: {:?}", began.elapsed());
}
