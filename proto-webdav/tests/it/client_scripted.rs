//! The client half against a server whose every answer is written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use proto_webdav::client::connect;
use session_core::error::ErrorKind;
use session_core::fs::{CommitOptions, Filesystem, ListOptions, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt as _;

use crate::scripted::{
    Answer, DIRECTORY, Request, Scripted, answer, content, decider, file, multistatus, p, ranged, usual,
};

// ---- coming in

#[tokio::test]
async fn who_may_put_and_not_look_is_let_in_where_webdav_is_spoken() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "PROPFIND" => answer(403, &[], ""),
        "PUT" => answer(201, &[], ""),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    let options = OpenOptions { size_hint: Some(1), ..OpenOptions::create() };
    let file = remote.open(&p("/f"), &options).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(server.lines().first().map(String::as_str), Some("PUT /f"));
    // Whoever forbids everything and speaks something else is no server of WebDAV.
    let other = Scripted::new(|_| answer(403, &[], "")).await;
    let e = connect(other.options(), decider()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied);
}

// ---- looking

#[tokio::test]
async fn a_listing_takes_every_form_of_href_and_leaves_out_the_directory() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str(), r.header("depth")) {
        ("PROPFIND", "/d%20d/", "1") => multistatus(&[
            ("/d%20d/", DIRECTORY),
            ("http://127.0.0.1/d%20d/a%26b", &file(3)),
            ("%C3%A4", &file(4)),
            ("/d%20d/sub/", DIRECTORY),
            ("/d%20d/%FF", &file(5)),
        ]),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    let listed = remote.list_all(&p("/d d")).await.unwrap();
    let names: Vec<&[u8]> = listed.iter().map(|e| &e.name[..]).collect();
    assert_eq!(names, [&b"a&b"[..], b"sub", "ä".as_bytes(), b"\xff"]);
    assert!(listed[1].metadata.is_dir() && listed[0].metadata.size == 3);
    assert_eq!(server.lines(), ["PROPFIND /d%20d/"]);
}

#[tokio::test]
async fn a_listing_of_something_else_or_half_a_listing_is_an_error() {
    let server = Scripted::new(|r| match r.target.as_str() {
        "/other/" => multistatus(&[("/other/", DIRECTORY), ("http://elsewhere/other/a", &file(1))]),
        "/deep/" => multistatus(&[("/deep/", DIRECTORY), ("/deep/a/b", &file(1))]),
        "/above/" => multistatus(&[("/above/", DIRECTORY), ("/secret", &file(1))]),
        "/cut/" => {
            let Answer::Bytes(mut whole) = multistatus(&[("/cut/", DIRECTORY), ("/cut/a", &file(1))]) else {
                panic!()
            };
            whole.truncate(whole.len() - 20);
            Answer::Last(whole)
        }
        "/short/" => answer(207, &[], "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/short/</D:href>"),
        "/nothing/" => multistatus(&[]),
        "/file/" => multistatus(&[("/file", &file(1))]),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    for (dir, due) in [
        ("/other", ErrorKind::PeerMisbehaved),
        ("/deep", ErrorKind::PeerMisbehaved),
        ("/above", ErrorKind::PeerMisbehaved),
        ("/cut", ErrorKind::Disconnected),
        ("/short", ErrorKind::PeerMisbehaved),
        ("/nothing", ErrorKind::PeerMisbehaved),
        ("/file", ErrorKind::NotADirectory),
        ("/missing", ErrorKind::NotFound),
    ] {
        let listed = async { remote.list(&p(dir), &ListOptions::default()).await?.next_page().await };
        assert_eq!(listed.await.map(|_| ()).unwrap_err().kind(), due, "{dir}");
    }
}

#[tokio::test]
async fn webdav_is_found_above_what_is_not_there_yet() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str()) {
        ("PROPFIND", "/dav/") => multistatus(&[("/dav/", DIRECTORY)]),
        ("OPTIONS", _) => usual(r, &[]),
        _ => answer(404, &[], ""),
    })
    .await;
    let mut options = server.options();
    options.home = p("/dav/new/deep");
    connect(options, decider()).await.unwrap();
    let probes: Vec<_> = server.seen().iter().map(Request::line).collect();
    assert_eq!(probes, ["PROPFIND /dav/new/deep/", "PROPFIND /dav/new/", "PROPFIND /dav/"]);
    let e = connect(server.options(), decider()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let web = Scripted::new(|_| answer(200, &["Content-Type: text/html"], "<html>")).await;
    let e = connect(web.options(), decider()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

// ---- reading

#[tokio::test]
async fn reads_in_order_are_one_request_and_a_jump_is_one_more() {
    let data = content(2_000_000);
    let kept = data.clone();
    let server = Scripted::new(move |r| match r.method.as_str() {
        "GET" => ranged(r, &kept, "\"v1\""),
        _ => usual(r, &[("/f", kept.len())]),
    })
    .await;
    let remote = server.remote().await;
    let file = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
    let mut at = 0;
    while at < 1_000_000 {
        let got = file.read_into(at as u64, 100_000, BytesMut::new()).await.unwrap();
        assert!(got == data[at..at + got.len()], "at {at}");
        at += got.len();
    }
    // A little further is read over; back is a jump.
    let got = file.read_into(at as u64 + 1000, 10, BytesMut::new()).await.unwrap();
    assert_eq!(got, data[at + 1000..at + 1010]);
    let got = file.read_into(5, 10, BytesMut::new()).await.unwrap();
    assert_eq!(got, data[5..15]);
    assert_eq!(file.read_into(2_000_000, 10, BytesMut::new()).await.unwrap().len(), 0);
    let gets: Vec<_> = server.seen().into_iter().filter(|r| r.method == "GET").collect();
    let ranges: Vec<_> = gets.iter().map(|r| (r.header("range"), r.header("if-range"))).collect();
    assert_eq!(ranges, [("", ""), ("bytes=5-", "\"v1\""), ("bytes=2000000-", "\"v1\"")]);
    assert!(gets.iter().all(|r| r.header("accept-encoding") == "identity"));
}

#[tokio::test]
async fn whoever_knows_the_size_reads_without_a_look() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str()) {
        ("GET", "/f") => answer(200, &[], "12345"),
        ("GET", "/d") => answer(200, &["Content-Type: text/html"], "<html>a page</html>"),
        ("PROPFIND", "/d") => multistatus(&[("/d/", DIRECTORY)]),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    let known = |size| OpenOptions { size_hint: Some(size), ..OpenOptions::read() };
    let file = remote.open(&p("/f"), &known(5)).await.unwrap();
    assert_eq!(file.read_into(0, 10, BytesMut::new()).await.unwrap(), "12345");
    assert_eq!(file.read_into(5, 10, BytesMut::new()).await.unwrap(), "");
    assert_eq!(server.lines(), ["GET /f"]);
    let e = remote.open(&p("/d"), &known(5)).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::IsADirectory);
    let e = remote.open(&p("/missing"), &known(5)).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_file_that_changes_is_an_error_and_not_a_mixture() {
    let turn = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&turn);
    let server = Scripted::new(move |r| match (r.method.as_str(), asked.load(Ordering::SeqCst)) {
        ("GET", 0) => ranged(r, &content(1_500_000), "\"v1\""),
        // Another content of the same size; then another size under the same name; then all of it.
        ("GET", 1) => ranged(r, &content(1_500_000), "\"v2\""),
        ("GET", 2) => ranged(r, &content(1_400_000), "\"v1\""),
        ("GET", _) => answer(200, &["ETag: \"v3\""], content(1_500_000)),
        _ => usual(r, &[("/f", 1_500_000)]),
    })
    .await;
    let remote = server.remote().await;
    for change in [1, 2, 3] {
        turn.store(0, Ordering::SeqCst);
        let file = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
        assert!(!file.read_into(0, 1000, BytesMut::new()).await.unwrap().is_empty());
        turn.store(change, Ordering::SeqCst);
        let e = file.read_into(1_200_000, 1000, BytesMut::new()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{change}: {e:#}");
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_beginning() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "GET" => answer(200, &["ETag: \"v1\""], content(3000)),
        _ => usual(r, &[("/f", 3000)]),
    })
    .await;
    let remote = server.remote().await;
    let file = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
    assert_eq!(file.read_into(2500, 10, BytesMut::new()).await.unwrap(), content(3000)[2500..2510]);
    assert_eq!(file.read_into(100, 10, BytesMut::new()).await.unwrap(), content(3000)[100..110]);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_a_short_file() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str()) {
        ("GET", "/told") => Answer::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345".to_vec()),
        ("GET", "/chunked") => {
            Answer::Last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n".to_vec())
        }
        ("GET", "/wrong") => answer(206, &["Content-Range: bytes 7-9/100"], "789"),
        ("GET", "/packed") => answer(200, &["Content-Encoding: gzip"], "12345"),
        _ => usual(r, &[("/told", 100), ("/chunked", 100), ("/wrong", 100), ("/packed", 100)]),
    })
    .await;
    let remote = server.remote().await;
    for (path, offset, due) in [
        ("/told", 0, ErrorKind::Disconnected),
        ("/chunked", 0, ErrorKind::Disconnected),
        ("/wrong", 5, ErrorKind::PeerMisbehaved),
        ("/packed", 0, ErrorKind::PeerMisbehaved),
    ] {
        let file = remote.open(&p(path), &OpenOptions::read()).await.unwrap();
        let e = file.read_into(offset, 100, BytesMut::new()).await.unwrap_err();
        assert_eq!(e.kind(), due, "{path}: {e:#}");
    }
}

// ---- writing

/// Takes what is put, and tells of it.
fn store(taken: &std::sync::Mutex<Option<usize>>, r: &Request) -> Answer {
    match r.method.as_str() {
        "PUT" => {
            *taken.lock().unwrap() = Some(r.body.len());
            answer(201, &[], "")
        }
        "DELETE" => {
            *taken.lock().unwrap() = None;
            answer(204, &[], "")
        }
        "PROPFIND" if r.target == "/f" => match *taken.lock().unwrap() {
            Some(size) => multistatus(&[("/f", &file(size))]),
            None => answer(404, &[], ""),
        },
        _ => usual(r, &[]),
    }
}

async fn storing() -> Scripted {
    let taken = std::sync::Mutex::new(None);
    Scripted::new(move |r| store(&taken, r)).await
}

fn puts(server: &Scripted) -> Vec<Request> {
    server.seen().into_iter().filter(|r| r.method == "PUT").collect()
}

#[tokio::test]
async fn a_small_file_is_one_request_and_a_look() {
    let server = storing().await;
    let remote = server.remote().await;
    remote.write_all(&p("/f"), Bytes::from_static(b"12345")).await.unwrap();
    assert_eq!(server.lines(), ["PUT /f", "PROPFIND /f"]);
    let put = &puts(&server)[0];
    assert_eq!((put.body.as_slice(), put.header("content-length")), (&b"12345"[..], "5"));
    remote.write_all(&p("/f"), Bytes::new()).await.unwrap();
    assert_eq!(puts(&server)[1].header("content-length"), "0");
}

#[tokio::test]
async fn a_server_that_vouches_for_what_it_stored_is_looked_at_once() {
    // A strong ETag says that the content is there as it was sent, once it was seen to be the file's; a weak one says
    // nothing of its bytes.
    for (tag, there, trusted) in [
        ("\"v1\"", "v1", true),
        ("\"of the answer\"", "v1", false),
        ("W/\"v1\"", "v1", false),
        ("v1", "v1", false),
    ] {
        let server = Scripted::new(move |r| match (r.method.as_str(), r.target.as_str()) {
            ("PUT", _) => {
                let tag = format!("ETag: {tag}");
                answer(201, &[&tag, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"], "")
            }
            ("PROPFIND", "/f") => {
                multistatus(&[("/f", &format!("{}<D:getetag>\"{there}\"</D:getetag>", file(5)))])
            }
            _ => usual(r, &[]),
        })
        .await;
        let remote = server.remote().await;
        let data = Bytes::from_static(b"12345");
        remote.write_all(&p("/f"), data.clone()).await.unwrap();
        assert_eq!(server.lines(), ["PUT /f", "PROPFIND /f"], "the first is looked at");
        let done = remote.write_all(&p("/f"), data).await.unwrap();
        let asked = if trusted { &["PUT /f"][..] } else { &["PUT /f", "PROPFIND /f"] };
        assert_eq!(
            (server.lines().split_off(2), done.size, done.etag.as_deref()),
            (asked.iter().map(|l| (*l).to_owned()).collect(), 5, Some("v1")),
            "{tag}"
        );
        if trusted {
            let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
            assert_eq!(done.modified, Some(then));
        }
        // What flows may have been cut off by what stands between.
        let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
        for n in 0..30 {
            file.write_at(n * 100_000, Bytes::from(vec![0; 100_000])).await.unwrap();
        }
        assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_large_file_flows_with_its_length_or_in_chunks() {
    let data = content(3_000_000);
    for hint in [Some(3_000_000), None] {
        let server = storing().await;
        let remote = server.remote().await;
        let options = OpenOptions { size_hint: hint, ..OpenOptions::create() };
        let file = remote.open(&p("/f"), &options).await.unwrap();
        for (n, part) in data.chunks(100_000).enumerate() {
            file.write_at(n as u64 * 100_000, Bytes::copy_from_slice(part)).await.unwrap();
        }
        let done = file.commit(&CommitOptions::default()).await.unwrap();
        assert_eq!(done.size, 3_000_000);
        let put = &puts(&server)[0];
        assert!(put.body == data && !put.torn);
        let length = (put.header("content-length"), put.header("transfer-encoding"));
        assert_eq!(length, if hint.is_some() { ("3000000", "") } else { ("", "chunked") });
    }
}

#[tokio::test]
async fn what_is_given_up_is_torn_and_what_it_left_is_removed() {
    // Also where all bytes that were announced were written: only a commit lets the last ones go. So many that the
    // request must have begun.
    for (hint, len) in [(Some(3_000_000), 2_500_000), (Some(3_000_000), 3_000_000), (None, 3_000_000)] {
        let server = storing().await;
        let remote = server.remote().await;
        let options = OpenOptions { size_hint: hint, ..OpenOptions::create() };
        let file = remote.open(&p("/f"), &options).await.unwrap();
        for (n, part) in content(len).chunks(100_000).enumerate() {
            file.write_at(n as u64 * 100_000, Bytes::copy_from_slice(part)).await.unwrap();
        }
        file.abort().await.unwrap();
        assert_eq!(file.abort().await.unwrap_err().kind(), ErrorKind::Closed);
        // The server sees the end of the connection when it comes to it.
        while puts(&server).is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(puts(&server)[0].torn, "{hint:?}");
    }
}

#[tokio::test]
async fn a_small_file_that_is_given_up_was_never_seen() {
    let server = storing().await;
    let remote = server.remote().await;
    for end in 0..3 {
        let options = OpenOptions { size_hint: Some(5), ..OpenOptions::create() };
        let file = remote.open(&p("/f"), &options).await.unwrap();
        file.write_at(0, Bytes::from_static(b"12345")).await.unwrap();
        match end {
            0 => file.abort().await.unwrap(),
            1 => file.park().await.unwrap(),
            _ => drop(file),
        }
    }
    assert_eq!(server.lines(), [""; 0]);
}

#[tokio::test]
async fn bytes_go_in_order_and_sizes_are_kept() {
    let server = storing().await;
    let remote = server.remote().await;
    let known = OpenOptions { size_hint: Some(400_000), ..OpenOptions::create() };
    let file = remote.open(&p("/f"), &known).await.unwrap();
    // Out of their order, but together.
    let (one, two) = tokio::join!(
        file.write_at(200_000, Bytes::from(content(400_000).split_off(200_000))),
        file.write_at(0, Bytes::from(content(200_000))),
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(file.write_at(0, Bytes::from_static(b"x")).await.unwrap_err().kind(), ErrorKind::Unsupported);
    file.commit(&CommitOptions::default()).await.unwrap();
    assert!(puts(&server)[0].body == content(400_000));
    let file = remote.open(&p("/f"), &known).await.unwrap();
    file.write_at(0, Bytes::from(content(400_000))).await.unwrap();
    assert_eq!(
        file.write_at(400_000, Bytes::from_static(b"x")).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    let file = remote.open(&p("/f"), &known).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    for options in [
        OpenOptions { write: true, ..OpenOptions::default() },
        OpenOptions { write: true, append: true, ..OpenOptions::default() },
    ] {
        assert_eq!(
            remote.open(&p("/f"), &options).await.map(drop).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }
}

#[tokio::test]
async fn a_server_that_keeps_another_size_is_found_out() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "PUT" => answer(201, &[], ""),
        _ => usual(r, &[("/f", 0)]),
    })
    .await;
    let e = server.remote().await.write_all(&p("/f"), Bytes::from_static(b"12345")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn conditions_stand_in_the_request_and_losing_removes_nothing() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str()) {
        ("PUT", _) => answer(412, &[], ""),
        ("PROPFIND", "/f") => multistatus(&[("/f", &format!("{}<D:getetag>\"v1\"</D:getetag>", file(3)))]),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    let new = OpenOptions { exclusive: true, ..OpenOptions::create() };
    let e = remote.open(&p("/f"), &new).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    let file = remote.open(&p("/g"), &new).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    file.abort().await.unwrap();
    let stale = OpenOptions { if_match: Some("v0".into()), ..OpenOptions::create() };
    let e = remote.open(&p("/f"), &stale).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PreconditionFailed);
    let right = OpenOptions { if_match: Some("v1".into()), ..OpenOptions::create() };
    let file = remote.open(&p("/f"), &right).await.unwrap();
    assert_eq!(
        file.commit(&CommitOptions::default()).await.unwrap_err().kind(),
        ErrorKind::PreconditionFailed
    );
    let conditions: Vec<_> = puts(&server)
        .iter()
        .map(|r| (r.header("if-none-match").to_owned(), r.header("if-match").to_owned()))
        .collect();
    assert_eq!(conditions, [("*".into(), String::new()), (String::new(), "\"v1\"".into())]);
    assert!(server.seen().iter().all(|r| r.method != "DELETE"));
}

#[tokio::test]
async fn an_upload_that_is_refused_on_its_way_says_why() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str()) {
        ("PUT", "/full") => answer(507, &["Content-Type: text/plain"], "no room for you"),
        ("PUT", "/d") => answer(409, &[], ""),
        ("PUT", "/missing/f") => answer(409, &[], ""),
        ("PUT", "/file/f") => answer(409, &[], ""),
        ("PUT", _) => answer(403, &[], ""),
        ("PROPFIND", "/d") => multistatus(&[("/d/", DIRECTORY)]),
        _ => usual(r, &[("/file", 1)]),
    })
    .await;
    let remote = server.remote().await;
    for (path, due) in [
        ("/full", ErrorKind::NoSpace),
        ("/d", ErrorKind::IsADirectory),
        ("/missing/f", ErrorKind::NotFound),
        ("/file/f", ErrorKind::NotADirectory),
        ("/forbidden", ErrorKind::PermissionDenied),
    ] {
        let e = remote.write_all(&p(path), Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(e.kind(), due, "{path}: {e:#}");
        assert!(path != "/full" || e.to_string().contains("no room for you"), "{e}");
    }
}

// ---- names

#[tokio::test]
async fn a_move_never_puts_away_what_it_should_not() {
    let full = "<D:resourcetype><D:collection/></D:resourcetype>";
    let server = Scripted::new(move |r| match (r.method.as_str(), r.target.as_str(), r.header("depth")) {
        ("PROPFIND", "/a" | "/full" | "/empty", "0") => multistatus(&[(&format!("{}/", r.target), full)]),
        ("PROPFIND", "/full/", "1") => multistatus(&[("/full/", full), ("/full/x", &file(1))]),
        ("PROPFIND", "/empty/", "1") => multistatus(&[("/empty/", full)]),
        ("MOVE", _, _) if r.header("overwrite") == "F" && r.header("destination").ends_with("/g") => {
            answer(412, &[], "")
        }
        ("MOVE", _, _) => answer(201, &[], ""),
        _ => usual(r, &[("/f", 1), ("/g", 2)]),
    })
    .await;
    let remote = server.remote().await;
    for (from, to, replace, due) in [
        ("/a", "/full", Replace::Yes, ErrorKind::NotEmpty),
        ("/f", "/empty", Replace::Yes, ErrorKind::IsADirectory),
        ("/a", "/f", Replace::Yes, ErrorKind::NotADirectory),
        ("/a", "/a/b", Replace::Yes, ErrorKind::InvalidArgument),
        ("/", "/b", Replace::Yes, ErrorKind::InvalidArgument),
        ("/missing", "/g", Replace::Yes, ErrorKind::NotFound),
    ] {
        let e = remote.rename(&p(from), &p(to), replace).await.unwrap_err();
        assert_eq!(e.kind(), due, "{from} {to}: {e:#}");
    }
    assert!(server.seen().iter().all(|r| r.method != "MOVE"));
    let e = remote.rename(&p("/f"), &p("/g"), Replace::No).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    remote.rename(&p("/f"), &p("/g"), Replace::Yes).await.unwrap();
    remote.rename(&p("/a"), &p("/empty"), Replace::Yes).await.unwrap();
    let moved: Vec<_> = server.seen().into_iter().filter(|r| r.method == "MOVE").collect();
    let told: Vec<_> = moved.iter().map(|r| (r.line(), r.header("overwrite").to_owned())).collect();
    assert_eq!(
        told,
        [
            ("MOVE /f".to_owned(), "F".to_owned()),
            ("MOVE /f".to_owned(), "T".to_owned()),
            ("MOVE /a/".to_owned(), "T".to_owned()),
        ]
    );
    assert_eq!(moved[2].header("destination"), format!("http://127.0.0.1:{}/empty/", server.address.port()));
}

#[tokio::test]
async fn a_server_that_does_not_know_its_own_name_is_told_a_path() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "MOVE" if r.header("destination").starts_with("http") => answer(502, &[], ""),
        "MOVE" => answer(201, &[], ""),
        _ => usual(r, &[("/f", 1)]),
    })
    .await;
    let remote = server.remote().await;
    remote.rename(&p("/f"), &p("/g h"), Replace::No).await.unwrap();
    remote.rename(&p("/f"), &p("/g h"), Replace::No).await.unwrap();
    let told: Vec<_> = server
        .seen()
        .iter()
        .filter(|r| r.method == "MOVE")
        .map(|r| r.header("destination").to_owned())
        .collect();
    assert_eq!(told[1..], ["/g%20h", "/g%20h"]);
}

#[tokio::test]
async fn a_delete_takes_no_tree_and_tells_what_stayed() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str(), r.header("depth")) {
        ("PROPFIND", "/d", "0") => multistatus(&[("/d/", DIRECTORY)]),
        ("PROPFIND", "/d/", "1") => multistatus(&[("/d/", DIRECTORY), ("/d/x", &file(1))]),
        ("PROPFIND", "/e/", "1") => multistatus(&[("/e/", DIRECTORY)]),
        ("DELETE", "/e/", _) => answer(
            207,
            &[],
            "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/e/</D:href>\
             <D:status>HTTP/1.1 423 Locked</D:status></D:response></D:multistatus>",
        ),
        ("DELETE", _, _) => answer(204, &[], ""),
        _ => usual(r, &[("/f", 1)]),
    })
    .await;
    let remote = server.remote().await;
    assert_eq!(remote.remove_file(&p("/d")).await.unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(remote.remove_dir(&p("/d")).await.unwrap_err().kind(), ErrorKind::NotEmpty);
    assert_eq!(remote.remove_dir(&p("/e")).await.unwrap_err().kind(), ErrorKind::Locked);
    remote.remove_file(&p("/f")).await.unwrap();
    let deleted: Vec<_> = server.lines().into_iter().filter(|l| l.starts_with("DELETE")).collect();
    assert_eq!(deleted, ["DELETE /e/", "DELETE /f"]);
}
