//! How the client sets times: as the server has it, or as it is found out.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proto_webdav::client::{SetTimes, WebdavRemote, connect};
use session_core::error::ErrorKind;
use session_core::fs::{CommitOptions, Filesystem, Follow, OpenOptions};
use session_core::metadata::Attributes;

use crate::scripted::{Scripted, answer, decider, file, multistatus, multistatus_of, p, usual};

/// A time long ago, as HTTP writes it.
const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn times() -> Attributes {
    Attributes::times(None, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)))
}

async fn put(remote: &WebdavRemote, path: &str, attributes: Attributes) {
    let options = OpenOptions { size_hint: Some(1), ..OpenOptions::create() };
    let file = remote.open(&p(path), &options).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    file.commit(&CommitOptions { attributes, ..CommitOptions::default() }).await.unwrap();
}

/// A server that has a file of one byte at `/f` and `/g`, and does with times as it is told here: whether PROPPATCH
/// is answered with yes, whether the time is kept then, and whether the header of ownCloud is taken.
async fn unknown(says: bool, keeps: bool, header: bool) -> Scripted {
    let time = Arc::new(Mutex::new("Sat, 01 Jan 2022 00:00:00 GMT".to_owned()));
    Scripted::new(move |r| match (r.method.as_str(), r.target.as_str()) {
        ("PUT", _) if header => answer(201, &["X-OC-MTime: accepted"], ""),
        ("PUT", _) => answer(201, &[], ""),
        ("PROPPATCH", _) if !says => answer(403, &[], ""),
        ("PROPPATCH", path) => {
            if keeps {
                *time.lock().unwrap() = THEN.to_owned();
            }
            multistatus(&[(path, "<D:getlastmodified/><D:lastmodified/>")])
        }
        ("PROPFIND", path @ ("/f" | "/g")) => {
            let time = format!("<D:getlastmodified>{}</D:getlastmodified>", time.lock().unwrap());
            multistatus(&[(path, &format!("{}{time}", file(1)))])
        }
        _ => usual(r, &[]),
    })
    .await
}

fn of(server: &Scripted, method: &str) -> Vec<String> {
    let all = server.seen();
    let of = all.iter().filter(|r| r.method == method);
    of.map(|r| format!("{} {}", r.header("x-oc-mtime"), String::from_utf8_lossy(&r.body))).collect()
}

#[tokio::test]
async fn a_server_that_keeps_what_it_is_told_is_told_so_again() {
    let server = unknown(true, true, false).await;
    let remote = server.remote().await;
    assert!(remote.capabilities().set_times);
    put(&remote, "/f", times()).await;
    put(&remote, "/g", times()).await;
    let patches = of(&server, "PROPPATCH");
    assert!(patches.len() == 2 && patches.iter().all(|b| b.contains("getlastmodified")), "{patches:?}");
    let puts = of(&server, "PUT");
    // Harmless while it is not known, and of no use since.
    assert!(puts[0].starts_with("784111777 ") && puts[1].starts_with(" "), "{puts:?}");
    remote.set_attributes(&p("/f"), &times(), Follow::Yes).await.unwrap();
}

#[tokio::test]
async fn a_server_that_keeps_no_times_is_not_asked_again() {
    for says in [true, false] {
        let server = unknown(says, false, false).await;
        let remote = server.remote().await;
        put(&remote, "/f", times()).await;
        assert!(!remote.capabilities().set_times, "{says}");
        let e = remote.set_attributes(&p("/f"), &times(), Follow::Yes).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert_eq!(of(&server, "PROPPATCH").len(), 1, "{says}");
    }
    // The time of now says nothing of who set it: what comes next shows.
    let server = unknown(true, false, false).await;
    let remote = server.remote().await;
    put(&remote, "/f", Attributes::none()).await;
    assert!(remote.capabilities().set_times && of(&server, "PROPPATCH").is_empty());
    let e = remote.set_attributes(&p("/f"), &times(), Follow::Yes).await.unwrap_err();
    assert_eq!((e.kind(), remote.capabilities().set_times), (ErrorKind::Unsupported, false));
}

#[tokio::test]
async fn a_server_that_takes_the_time_with_the_content_is_one_of_ownclouds_kind() {
    let server = unknown(true, false, true).await;
    let remote = server.remote().await;
    put(&remote, "/f", times()).await;
    put(&remote, "/g", times()).await;
    assert!(of(&server, "PUT").iter().all(|b| b.starts_with("784111777 ")));
    assert!(of(&server, "PROPPATCH").is_empty());
    remote.set_attributes(&p("/f"), &times(), Follow::Yes).await.unwrap();
    assert!(of(&server, "PROPPATCH")[0].contains("lastmodified xmlns:x=\"DAV:\">784111777<"));
}

#[tokio::test]
async fn directories_without_times_are_no_failure_of_files() {
    // rclone's answer for them, and dufs's.
    for (status, of_a_file) in [(500, ErrorKind::Internal), (404, ErrorKind::NotFound)] {
        let server = Scripted::new(move |r| match (r.method.as_str(), r.target.as_str()) {
            ("PROPPATCH", _) => answer(status, &[], ""),
            ("MKCOL", _) => answer(201, &[], ""),
            ("PROPFIND", path @ "/d") => multistatus(&[(path, crate::scripted::DIRECTORY)]),
            _ => usual(r, &[("/f", 1)]),
        })
        .await;
        let mut options = server.options();
        options.times = Some(SetTimes::OwnCloud);
        let remote = connect(options, decider()).await.unwrap();
        let set = |path: &'static str| {
            let remote = remote.clone();
            async move { remote.set_attributes(&p(path), &times(), Follow::Yes).await.unwrap_err().kind() }
        };
        assert_eq!(set("/d").await, ErrorKind::Unsupported);
        assert_eq!(set("/f").await, of_a_file);
        remote.create_dir(&p("/d"), &times()).await.unwrap();
        assert!(remote.capabilities().set_times, "files have them");
    }
}

#[tokio::test]
async fn times_are_set_as_the_server_has_it_and_a_no_is_told() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str()) {
        ("PROPPATCH", "/no") => answer(
            207,
            &[],
            "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/no</D:href><D:propstat><D:prop>\
             <x:Win32LastModifiedTime xmlns:x=\"urn:schemas-microsoft-com:\"/></D:prop>\
             <D:status>HTTP/1.1 403 Forbidden</D:status></D:propstat></D:response></D:multistatus>",
        ),
        ("PROPPATCH", path) => {
            multistatus(&[(path, "<x:Win32LastModifiedTime xmlns:x=\"urn:schemas-microsoft-com:\"/>")])
        }
        ("PUT", _) => answer(201, &["X-OC-MTime: accepted"], ""),
        ("PROPFIND", "/") => {
            multistatus_of(&["Server: Apache/2.4.71 (Debian)"], &[("/", crate::scripted::DIRECTORY)])
        }
        _ => usual(r, &[("/f", 1), ("/no", 1)]),
    })
    .await;
    let times = times();
    let plain = server.remote().await;
    assert!(!plain.capabilities().set_times);
    let e = plain.set_attributes(&p("/f"), &times, Follow::Yes).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let mut options = server.options();
    options.times = Some(SetTimes::Win32);
    let remote = connect(options, decider()).await.unwrap();
    remote.set_attributes(&p("/f"), &times, Follow::Yes).await.unwrap();
    let set = server.seen().into_iter().find(|r| r.method == "PROPPATCH").unwrap();
    assert!(String::from_utf8_lossy(&set.body).contains(THEN));
    let e = remote.set_attributes(&p("/no"), &times, Follow::Yes).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied);
    let mut options = server.options();
    options.times = Some(SetTimes::OwnCloud);
    let remote = connect(options, decider()).await.unwrap();
    put(&remote, "/f", times).await;
    assert!(of(&server, "PUT")[0].starts_with("784111777 "));
    assert_eq!(of(&server, "PROPPATCH").len(), 2);
}
