//! Scripts of the forms that WinSCP's manual publishes (its pages on scripting, the commands and useful scripts), as
//! a person would run them here: the program, the file, and `--drive`. Their commands and switches are those of the
//! manual; names and words are ours.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use session_core::fs::Follow;
use session_core::metadata::Attributes;

use crate::script::check;
use crate::support::{World, path};

/// A script that ran.
struct Ran {
    code: i32,
    said: String,
    xml: String,
}

impl Ran {
    fn count(&self, words: &str) -> usize {
        self.xml.matches(words).count()
    }

    /// It did what it should, and its log says of so many operations that they were done.
    fn is_good(&self, operations: &[(&str, usize)]) {
        assert_eq!(self.code, 0, "{}\n{}", self.said, self.xml);
        for (name, wanted) in operations {
            assert_eq!(self.count(&format!("<{name}>")), *wanted, "{name}: {}", self.xml);
        }
        assert_eq!(self.count("<result success=\"false\">") + self.count("<failure>"), 0, "{}", self.xml);
    }
}

/// Runs a script with drive D: at `dir`, its server at `world`.
async fn run(world: &World, dir: &Path, name: &str, parameters: &[&str]) -> Ran {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/published").join(name);
    let text = std::fs::read_to_string(file).unwrap();
    let host = format!("127.0.0.1:{}", world.port);
    std::fs::write(dir.join(name), text.replace("HOSTKEY", &world.fingerprint).replace("HOST", &host))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(["script", name, "--drive", &format!("D:={}", dir.display()), "--xmllog", "log.xml"]);
    parameters.iter().for_each(|p| {
        command.args(["--parameter", p]);
    });
    command.current_dir(dir).env_clear().env("HOME", dir).stdin(Stdio::null());
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let xml = std::fs::read_to_string(dir.join("log.xml")).unwrap();
    check(&xml);
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    Ran { code: out.status.code().unwrap(), said, xml }
}

/// Sets a file of the server back in time.
async fn aged(world: &World, file: &str, days: u64) {
    let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    let times = Attributes::times(Some(time), Some(time));
    world.store.set_attributes(&path(file), &times, Follow::Yes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_uploaded() {
    let (world, dir) = (World::sftp().await, tempfile::tempdir().unwrap());
    world.write("/home/user/other", "x").await;
    std::fs::write(dir.path().join("examplefile.txt"), "example").unwrap();
    let ran = run(&world, dir.path(), "upload.txt", &[]).await;
    ran.is_good(&[("upload", 1)]);
    assert_eq!(world.read("/home/user/examplefile.txt").await, b"example");
    assert!(ran.xml.contains("<destination value=\"/home/user/examplefile.txt\" />"), "{}", ran.xml);

    // Without the file it fails, and says so everywhere.
    std::fs::remove_file(dir.path().join("examplefile.txt")).unwrap();
    let ran = run(&world, dir.path(), "upload.txt", &[]).await;
    let failures = ran.count("<failure>") + ran.count("success=\"false\"");
    assert_eq!((ran.code, failures), (1, 1), "{}", ran.xml);
    assert!(ran.said.contains("examplefile.txt"), "{}", ran.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_from_one_session_to_another() {
    let (world, dir) = (World::sftp().await, tempfile::tempdir().unwrap());
    world.write("/home/user/examplefile.txt", "one\r\ntwo\n").await;
    world.write("/home/user/other/examplefile.txt", "older").await;
    let ran = run(&world, dir.path(), "two-sessions.txt", &[]).await;
    ran.is_good(&[("download", 1), ("upload", 1)]);
    assert_eq!(world.read("/home/user/other/examplefile.txt").await, b"one\r\ntwo\n");
    assert_eq!(std::fs::read(dir.path().join("examplefile.txt")).unwrap(), b"one\r\ntwo\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_get_dates() {
    let (world, dir) = (World::sftp().await, tempfile::tempdir().unwrap());
    world.write("/home/user/export.csv", "a;b").await;
    std::fs::write(dir.path().join("examplefile.txt"), "example").unwrap();
    let days = || {
        let now = jiff::Zoned::now();
        (now.strftime("%Y%m%d").to_string(), now.yesterday().unwrap().strftime("%Y-%m-%d").to_string())
    };
    let before = days();
    let ran = run(&world, dir.path(), "timestamps.txt", &[]).await;
    ran.is_good(&[("download", 1), ("upload", 1)]);
    // It may have been midnight.
    let after = days();
    let got = |day: &str| dir.path().join(format!("export-{day}.csv")).exists();
    assert!(got(&before.0) || got(&after.0), "{}", ran.said);
    let mut sent = false;
    for day in [&before.1, &after.1] {
        sent |= world.has(&format!("/home/user/examplefile-{day}.txt")).await;
    }
    assert!(sent, "{:?}", world.tree().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_is_fetched_and_what_is_sent_leaves() {
    let (world, dir) = (World::sftp().await, tempfile::tempdir().unwrap());
    for (name, days) in [("old.txt", 9), ("new.txt", 2), ("today.log", 0), ("yesterday.log", 3)] {
        let file = format!("/home/user/outbox/{name}");
        world.write(&file, name).await;
        aged(&world, &file, days).await;
    }
    world.write("/home/user/inbox/kept", "x").await;
    let at = |name: &str| dir.path().join(name);
    ["incoming", "today", "send"].iter().for_each(|name| std::fs::create_dir(at(name)).unwrap());
    for name in ["a.xml", "b.xml", "c.txt"] {
        std::fs::write(at("send").join(name), name).unwrap();
    }
    let ran = run(&world, dir.path(), "latest-and-moved.txt", &[]).await;
    ran.is_good(&[("download", 2), ("upload", 2)]);
    let names = |dir: &str| {
        let all = std::fs::read_dir(at(dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    };
    assert_eq!(names("incoming"), ["new.txt"]);
    assert_eq!(names("today"), ["today.log"]);
    assert_eq!(names("send"), ["c.txt"]);
    assert_eq!(world.read("/home/user/inbox/a.xml").await, b"a.xml");
    assert_eq!(world.read("/home/user/inbox/b.xml").await, b"b.xml");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_mirrored_and_fetched_again() {
    let (world, dir) = (World::sftp().await, tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("www/sub")).unwrap();
    std::fs::create_dir_all(at("www/cache")).unwrap();
    std::fs::create_dir(at("copy")).unwrap();
    for name in ["index.html", "sub/page.html", "left.tmp", "cache/c", "old.bak"] {
        std::fs::write(at("www").join(name), name).unwrap();
    }
    world.write("/public/gone.html", "gone").await;
    world.write("/public/there.tmp", "stays").await;
    let ran = run(&world, dir.path(), "mirror.txt", &["D:\\www", "/public"]).await;
    assert!(ran.said.contains("index.html"), "{}", ran.said);
    ran.is_good(&[("ls", 1)]);
    let tree = world.tree().await;
    assert_eq!(
        tree,
        ["/public/", "/public/index.html", "/public/sub/", "/public/sub/page.html", "/public/there.tmp"]
    );
    assert_eq!((ran.count("<upload>"), ran.count("<rm>"), ran.count("<download>")), (3, 2, 4), "{}", ran.xml);
    assert_eq!(std::fs::read(at("copy/sub/page.html")).unwrap(), b"sub/page.html");
    assert_eq!(std::fs::read(at("copy/there.tmp")).unwrap(), b"stays");
}
