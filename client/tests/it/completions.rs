//! What the completions of shells ask: names on servers, soon and without a question.
#![cfg(feature = "sftp")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::World;

/// What a URL may go on with, after these words; the exit code is always the same.
async fn goes_on(dir: &Path, before: &[&str], word: &str) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(["complete-place", "--"]).args(before).arg(word).current_dir(dir);
    command.env_clear().env("HOME", dir).env("FERRY_PASSWORD", "secret");
    // Open for as long as the program runs: a question would wait for it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    let out = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    drop(stdin);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

async fn world() -> (World, String, String) {
    let world = World::sftp().await;
    for path in ["/d/one", "/d/once more", "/d/o.dir/f", "/d/.hidden", "/d/two", "/d/ümlaut's"] {
        world.write(path, "").await;
    }
    let key = format!("--host-key=SHA256:{}", world.fingerprint.split(' ').nth(1).unwrap());
    let url = format!("sftp://u@127.0.0.1:{}", world.port);
    (world, key, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_on_a_server_are_found_as_urls_write_them() {
    let (_world, key, url) = world().await;
    let dir = tempfile::tempdir().unwrap();
    let on = async |word: &str| {
        let (before, word) = (["put", "--ssh-config", "none", &key, "-r", "x"], format!("{url}{word}"));
        let all = goes_on(dir.path(), &before, &word).await;
        all.iter().map(|full| full.strip_prefix(&url).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(on("/d/o").await, ["/d/o.dir/", "/d/once%20more", "/d/one"]);
    assert_eq!(on("/d/once%20").await, ["/d/once%20more"]);
    assert_eq!(on("/d/%C3").await, ["/d/%C3%BCmlaut%27s"], "half a letter");
    assert_eq!(on("/d/ü").await, ["/d/%C3%BCmlaut%27s"]);
    assert_eq!(on("/d/.").await, ["/d/.hidden"]);
    assert_eq!(on("/d/").await.len(), 5, "nothing hidden");
    assert_eq!(on("/").await, ["/d/"]);
    for none in ["/d/none", "/none/x", "/d/one/x", ""] {
        assert_eq!(on(none).await, [""; 0], "{none}");
    }
    assert_eq!(goes_on(dir.path(), &["ls", &key], "local").await, [""; 0]);
    assert_eq!(goes_on(dir.path(), &["ls", &key, "--hooks", "x.js"], &format!("{url}/d/")).await, [""; 0]);
    assert_eq!(goes_on(dir.path(), &["nonsense", "--what"], "sftp://").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_trusted_or_waited_for_long() {
    let (_world, key, url) = world().await;
    let dir = tempfile::tempdir().unwrap();
    let word = format!("{url}/d/");
    let quick = async |before: &[&str], word: &str| {
        let began = Instant::now();
        assert_eq!(goes_on(dir.path(), before, word).await, [""; 0], "{before:?}");
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    };
    // A key that is not known, also where new ones would be taken; a password that is wrong.
    quick(&["ls", "--ssh-config=none"], &word).await;
    quick(&["ls", "--ssh-config=none", "--accept-new"], &word).await;
    assert!(!dir.path().join(".ssh/known_hosts").exists());
    quick(&["ls", "--ssh-config=none", &key, "--password", "wrong"], &word).await;
    // Somebody who listens and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let word = format!("sftp://u@127.0.0.1:{}/d/", silent.local_addr().unwrap().port());
    quick(&["ls", "--ssh-config=none", "--connect-timeout=60"], &word).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bash_completes_what_stands_behind_its_last_break() {
    let (_world, key, url) = world().await;
    let dir = tempfile::tempdir().unwrap();
    let ferry = env!("CARGO_BIN_EXE_ferry");
    let script = r#"
        eval "$("$FERRY" docs completions bash)"
        complete -p ferry | grep -q -- '-F _ferry' || exit 9
        compopt() { echo "opt $*"; }
        COMP_LINE="$LINE" COMP_POINT=${#LINE}
        COMP_WORDS=("$FERRY" ls x) COMP_CWORD=2
        _ferry "$FERRY" "" ls
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let completed = async |line: String| {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", script]).current_dir(dir.path()).env("FERRY", ferry).env("LINE", line);
        bash.env("HOME", dir.path()).env("FERRY_PASSWORD", "secret").stdin(Stdio::null());
        let out = tokio::task::spawn_blocking(move || bash.output().unwrap()).await.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let line = format!("{ferry} --ssh-config=none {key} ls {url}");
    // What stands before the last colon is not replaced.
    let port = url.rsplit(':').next().unwrap();
    assert_eq!(completed(format!("{line}/d/t")).await, format!("{port}/d/two\n"));
    assert_eq!(completed(format!("{line}/d/o.")).await, format!("opt -o nospace\n{port}/d/o.dir/\n"));
    assert_eq!(completed(format!("{line}/d/on")).await, format!("{port}/d/once%20more\n{port}/d/one\n"));
    // Everything else is completed as ever.
    assert!(completed(format!("{ferry} fing")).await.contains("--host-key"), "flags of 'ls'");
}
