//! The log of what is said: what stands in it, where it goes, and that no secret does.
#![cfg(all(feature = "ftp", feature = "s3", feature = "sftp", feature = "webdav"))]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::scripted::{Scripted, head, listing};
use crate::support::World;
use client::log::{LogLevel, SessionLog};
use client::session::{Session, SessionOptions};
use session_core::batch::{TransferOptions, Unattended};
use session_core::error::ErrorKind;
use session_core::testing::http::{Script, answer};

/// Does a bit of everything that every protocol has, with a log.
async fn logged(options: SessionOptions, file: &Path, level: LogLevel) -> String {
    let session = Session::new();
    session.set_log(Some(SessionLog::open(file, level).unwrap()));
    session.open(options, Arc::new(Unattended)).await.unwrap();
    session.put_file(&b"the content"[..], "/f", &TransferOptions::default()).await.unwrap();
    session.list_directory("/").await.unwrap();
    assert!(!session.file_exists("/missing").await.unwrap());
    session.close().await.unwrap();
    std::fs::read_to_string(file).unwrap()
}

fn has(log: &str, mark: char, words: &str) -> bool {
    log.lines().any(|line| line.starts_with(mark) && line.contains(words))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_answers_stand_in_it_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    for (name, world) in [("sftp", World::sftp().await), ("ftp", World::ftpes().await)] {
        let at = |suffix: &str| dir.path().join(format!("{name}{suffix}.log"));
        let normal = logged(world.options(), &at(""), LogLevel::Normal).await;
        let (asked, answered, life) = match name {
            "sftp" => (["OPEN '/f", "OPENDIR '/'"], ["STATUS 2", "HANDLE "], "logged in by password"),
            _ => (["PASS …", "STOR /f"], ["230 ", "226 "], "TLS: "),
        };
        for words in asked {
            assert!(has(&normal, '>', words), "{words}: {normal}");
        }
        for words in answered {
            assert!(has(&normal, '<', words), "{words}: {normal}");
        }
        assert!(has(&normal, '.', life), "{normal}");
        assert!(!normal.contains("secret") && !normal.contains("the content"), "{normal}");
        let line = normal.lines().last().unwrap();
        let time = line.get(2..25).unwrap();
        assert!(jiff_time(time), "{line}");
        assert_eq!(std::fs::metadata(at("")).unwrap().permissions().mode() & 0o777, 0o600);

        // Less, more, and behind what is there.
        let reduced = logged(world.options(), &at("-reduced"), LogLevel::Reduced).await;
        assert!(!reduced.contains("\n> ") && reduced.contains("\n. "), "{reduced}");
        let more = logged(world.options(), &at(""), LogLevel::Debug).await;
        assert!(more.starts_with(&normal));
        assert!(name != "sftp" || (has(&more, '>', "WRITE ") && !normal.contains("WRITE ")), "{more}");

        // A login that fails says so, without what was tried.
        let wrong = world.options().password("n0t-the-w0rd");
        let session = Session::new();
        session.set_log(Some(SessionLog::open(&at("-wrong"), LogLevel::Debug).unwrap()));
        session.open(wrong, Arc::new(Unattended)).await.unwrap_err();
        let log = std::fs::read_to_string(at("-wrong")).unwrap();
        assert!(has(&log, '!', "") && !log.contains("n0t-the"), "{log}");
    }
}

/// `2026-11-23 02:50:43.123`
fn jiff_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00 00:00:00.000"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_session_has_its_own_log_or_shares_one() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::sftp().await);
    let at = |name: &str| dir.path().join(name);
    let (one, other) = (at("one.log"), at("other.log"));
    let (a, b) = (Session::new(), Session::new());
    a.set_log(Some(SessionLog::open(&one, LogLevel::Normal).unwrap()));
    b.set_log(Some(SessionLog::open(&other, LogLevel::Normal).unwrap()));
    for session in [&a, &b] {
        session.open(world.options(), Arc::new(Unattended)).await.unwrap();
    }
    let (x, y) = tokio::join!(a.file_exists("/only-a"), b.file_exists("/only-b"));
    assert!(!x.unwrap() && !y.unwrap());
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert!(read(&one).contains("only-a") && !read(&one).contains("only-b"));
    assert!(read(&other).contains("only-b") && !read(&other).contains("only-a"));
    let e = SessionLog::open(&at("log.XML"), LogLevel::Normal).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert_eq!("0*".parse::<LogLevel>().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!("-1".parse::<LogLevel>().unwrap(), LogLevel::Reduced);
    assert!("5".parse::<LogLevel>().is_err());
}

async fn ferry(dir: &Path, args: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
    command
        .args(args)
        .current_dir(dir)
        .env("FERRY_PASSWORD", "s3cr3t")
        .env("XDG_STATE_HOME", dir.join("state"));
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (
        out.status.success(),
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_signatures_and_passwords_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Scripted::new(|r| match (r.method.as_str(), r.target.contains("list-type")) {
        ("GET", true) => listing(&[("k", 3)], &[], None),
        ("GET", _) => answer(200, &["ETag: \"e\"", "x-amz-meta-private: w0rd"], "abc"),
        _ => head(3, "e"),
    })
    .await;
    let url = format!("s3plain://AKIATEST@{}/bucket/", store.address);
    let args = ["--log", "s3.log", "--log-level", "1", "--s3-region", "eu-north-1"];
    let (ok, told) = ferry(dir.path(), &[&args[..], &["ls", &url]].concat()).await;
    assert!(ok, "{told}");
    let log = std::fs::read_to_string(dir.path().join("s3.log")).unwrap();
    assert!(has(&log, '>', "GET 127.0.0.1/bucket") && has(&log, '>', "list-type=2"), "{log}");
    assert!(has(&log, '<', "200 OK") && has(&log, '>', "authorization: ***"), "{log}");
    let signature = store.seen()[0].header("authorization").rsplit_once("Signature=").unwrap().1.to_owned();
    assert!(signature.len() == 64 && !log.contains(&signature) && !log.contains("s3cr3t"), "{log}");

    let dav = Script::new(|r| match r.header("authorization").is_empty() {
        true => answer(401, &["WWW-Authenticate: Basic realm=\"r\""], ""),
        false => answer(404, &["X-Token: t0k3n"], ""),
    })
    .await;
    let url = format!("dav://me@{}/d/", dav.address);
    let (ok, _) = ferry(dir.path(), &["--log", "dav.log", "--log-level", "1", "ls", &url]).await;
    assert!(!ok);
    let log = std::fs::read_to_string(dir.path().join("dav.log")).unwrap();
    assert!(has(&log, '>', "PROPFIND /d") && has(&log, '<', "401 "), "{log}");
    // "me:s3cr3t", as Basic has it.
    assert!(!log.contains("bWU6czNjcjN0") && !log.contains("t0k3n") && !log.contains("s3cr3t"), "{log}");

    let (ok, told) = ferry(dir.path(), &["--log", "no/such/dir/log", "ls", &url]).await;
    assert!(!ok && told.contains("cannot be written"), "{told}");
    let (ok, told) = ferry(dir.path(), &["--log", "x.log", "--log-level", "0*", "ls", &url]).await;
    assert!(!ok && told.contains("never logged"), "{told}");
}
