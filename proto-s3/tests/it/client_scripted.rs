//! The client half against a store whose every answer is written here.
#![cfg(feature = "client")]

#[path = "scripted/uploads.rs"]
mod uploads;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_s3::client::{Checksums, Putting, S3Login, connect};
use session_core::error::{ErrorKind, Retry};
use session_core::fs::{CommitOptions, Filesystem, Follow, ListOptions, OpenOptions, Order, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use session_core::session::{Actor, Ending};

use crate::scripted::{Answer, Request, Scripted, Signed as _, answer, decider, error, head, listing, p};

const MIB: usize = 1 << 20;

/// Content in which every byte tells where it is.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 251 + n) as u8).collect()
}

/// What a store with these objects answers to looks and listings.
fn usual(r: &Request, objects: &[(&str, usize)]) -> Answer {
    let key = r.path().strip_prefix("/bucket/").unwrap_or_default();
    match r.method.as_str() {
        "HEAD" if key.is_empty() => answer(200, &[], ""),
        "HEAD" => match objects.iter().find(|(k, _)| *k == key) {
            Some((key, size)) => head(*size, key),
            None => Answer::Bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        },
        "GET" => {
            let prefix = r.parameter("prefix").unwrap_or_default().replace("%2F", "/");
            let below: Vec<_> = objects.iter().filter(|(k, _)| k.starts_with(&prefix)).copied().collect();
            listing(&below, &[], None)
        }
        "DELETE" => answer(204, &[], ""),
        _ => error(501, "NotImplemented", &[]),
    }
}

/// A range of the content, as it was asked for; the whole where none was.
fn ranged(r: &Request, content: &[u8], etag: &str) -> Answer {
    let etag = format!("ETag: \"{etag}\"");
    let Some(from) = r.header("range").strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')) else {
        return answer(200, &[&etag], content);
    };
    let from: usize = from.parse().unwrap();
    let range = format!("Content-Range: bytes {from}-{}/{}", content.len() - 1, content.len());
    answer(206, &[&etag, &range], &content[from..])
}

// ---- looking

#[tokio::test]
async fn a_listing_is_paged_in_the_order_of_keys() {
    let server = Scripted::new(|r| match (r.parameter("prefix"), r.parameter("continuation-token")) {
        (Some("d%2F"), None) => {
            listing(&[("d/", 0), ("d/a%2Bb", 3), ("d/a-b", 4)], &["d/a/", "d//"], Some("next"))
        }
        (Some("d%2F"), Some("next")) => listing(&[("d/%C3%A4%01", 5)], &[], None),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    let mut pages = remote.list(&p("/bucket/d"), &ListOptions::default()).await.unwrap();
    let mut names = Vec::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        names.push(page.into_iter().map(|e| String::from_utf8(e.name.to_vec()).unwrap()).collect::<Vec<_>>());
    }
    // The marker is no entry, and a key with an empty segment is one by another name.
    assert_eq!(names, [vec!["a+b", "a-b", "a", "∅"], vec!["ä\u{1}"]]);
    let asked = server.seen();
    let last = asked.last().unwrap();
    assert_eq!((last.parameter("delimiter"), last.parameter("encoding-type")), (Some("%2F"), Some("url")));
}

#[tokio::test]
async fn a_listing_can_begin_after_a_name() {
    let server = Scripted::new(|r| match r.parameter("start-after") {
        Some("d%2Fa%2F") => listing(&[("d/a0", 1)], &["d/a/"], None),
        _ => usual(r, &[("d/x", 1)]),
    })
    .await;
    let remote = server.remote().await;
    let options =
        ListOptions { order: Order::Key, after: Some(Bytes::from_static(b"a/")), ..ListOptions::default() };
    let mut pages = remote.list(&p("/bucket/d"), &options).await.unwrap();
    let page = pages.next_page().await.unwrap().unwrap();
    assert_eq!(page.iter().map(|e| &e.name[..]).collect::<Vec<_>>(), [b"a0"]);
    assert!(pages.next_page().await.unwrap().is_none());
}

#[tokio::test]
async fn a_listing_that_is_not_complete_is_an_error() {
    let server = Scripted::new(|r| match (r.parameter("prefix"), r.parameter("continuation-token")) {
        (Some("torn%2F"), None) => listing(&[("torn/a", 1)], &[], Some("n")),
        (Some("torn%2F"), Some(_)) => error(500, "InternalError", &[]),
        (Some("round%2F"), _) => listing(&[("round/a", 1)], &[], Some("n")),
        (Some("other%2F"), _) => listing(&[("elsewhere/a", 1)], &[], None),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    for (dir, kind) in [
        ("/bucket/torn", ErrorKind::Internal),
        ("/bucket/round", ErrorKind::PeerMisbehaved),
        ("/bucket/other", ErrorKind::PeerMisbehaved),
    ] {
        assert_eq!(remote.list_all(&p(dir)).await.unwrap_err().kind(), kind, "{dir}");
    }
}

#[tokio::test]
async fn files_directories_and_nothing_are_told_apart() {
    let server = Scripted::new(|r| usual(r, &[("f", 3), ("d/x", 1), ("e/", 0)])).await;
    let remote = server.remote().await;
    let stat = |path: &str| {
        let (remote, path) = (remote.clone(), p(path));
        async move { remote.stat(&path, Follow::Yes).await }
    };
    let f = stat("/bucket/f").await.unwrap();
    assert_eq!((f.size, f.etag.as_deref(), f.is_file()), (3, Some("f"), true));
    assert!(stat("/bucket/d").await.unwrap().is_dir());
    assert!(stat("/bucket/e").await.unwrap().is_dir());
    assert_eq!(stat("/bucket/m").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(remote.list_all(&p("/bucket/e")).await.unwrap().is_empty());
    assert_eq!(remote.list_all(&p("/bucket/f")).await.unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(remote.list_all(&p("/bucket/m")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_was_a_directory_is_asked_for_as_one_until_it_is_none() {
    let gone = Arc::new(AtomicUsize::new(0));
    let phase = Arc::clone(&gone);
    let server = Scripted::new(move |r| match (r.method.as_str(), phase.load(Ordering::SeqCst)) {
        ("PUT", _) => answer(200, &["ETag: \"one\""], ""),
        (_, 0) => usual(r, &[("d/x", 1), ("e/x", 1)]),
        // The object was put beside the directory of its name.
        _ => usual(r, &[("d", 7), ("e", 7), ("e/x", 1)]),
    })
    .await;
    let remote = server.remote().await;
    let asked = async |path: &str| {
        let before = server.seen().len();
        let found = remote.stat(&p(path), Follow::Yes).await.unwrap();
        let methods: Vec<_> = server.seen()[before..].iter().map(|r| r.method.clone()).collect();
        (found.is_dir(), methods.join(" "))
    };
    assert_eq!(asked("/bucket/d").await, (true, "HEAD GET".into()));
    assert_eq!(asked("/bucket/d").await, (true, "GET".into()));
    assert_eq!(asked("/bucket/e").await, (true, "HEAD GET".into()));
    remote.write_all(&p("/bucket/e"), "content".into()).await.unwrap();
    gone.store(1, Ordering::SeqCst);
    assert_eq!(asked("/bucket/d").await, (false, "GET HEAD".into()));
    assert_eq!(asked("/bucket/d").await, (false, "HEAD".into()));
    // Our own object is known to be there.
    assert_eq!(asked("/bucket/e").await, (false, "HEAD".into()));
}

// ---- where a bucket lies, and when

#[tokio::test]
async fn a_bucket_is_asked_for_where_it_lies() {
    let server = Scripted::new(|r| match r.region() {
        "eu-north-1" => usual(r, &[("f", 3)]),
        _ => error(301, "PermanentRedirect", &["x-amz-bucket-region: eu-north-1"]),
    })
    .await;
    let remote = server.remote().await;
    assert_eq!(remote.region(), "eu-north-1");
    remote.stat(&p("/bucket/f"), Follow::Yes).await.unwrap();
    let regions: Vec<_> = server.seen().iter().map(|r| r.region().to_owned()).collect();
    assert_eq!(regions, ["us-east-1", "eu-north-1", "eu-north-1"]);
}

#[tokio::test]
async fn a_store_may_name_its_region_in_words_only() {
    let server = Scripted::new(|r| match r.region() {
        "garage" => usual(r, &[]),
        _ => answer(
            400,
            &[],
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>garage</Region></Error>",
        ),
    })
    .await;
    assert_eq!(server.remote().await.region(), "garage");
}

#[tokio::test]
async fn a_wrong_region_is_not_chased_for_ever() {
    let server =
        Scripted::new(|_| error(301, "PermanentRedirect", &["x-amz-bucket-region: eu-north-1"])).await;
    assert!(connect(server.options(), decider()).await.is_err());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_wrong_clock_is_set_right() {
    let server = Scripted::new(|r| {
        if r.header("x-amz-date").starts_with("2031") {
            return usual(r, &[]);
        }
        error(403, "RequestTimeTooSkewed", &["Date: Fri, 21 Nov 2031 17:00:00 GMT"])
    })
    .await;
    server.remote().await;
    assert_eq!(server.seen().len(), 2);
}

// ---- errors

#[tokio::test]
async fn errors_say_what_they_mean() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.path()) {
        ("GET", "/bucket/slow") => error(503, "SlowDown", &["Retry-After: 7"]),
        ("GET", "/bucket/cold") => error(403, "InvalidObjectState", &[]),
        ("GET", "/bucket/down") => error(500, "InternalError", &[]),
        _ => usual(r, &[("slow", 3), ("cold", 3), ("down", 3)]),
    })
    .await;
    let remote = server.remote().await;
    let failed = async |name: &str| remote.read_to_vec(&p(name), 100).await.unwrap_err();
    let slow = failed("/bucket/slow").await;
    assert_eq!(
        (slow.kind(), slow.retry()),
        (ErrorKind::Throttled, Retry::Later(Some(Duration::from_secs(7))))
    );
    assert_eq!(slow.wire().map(|w| (w.code, w.text.as_str())), Some((503, "SlowDown: words of it")));
    let cold = failed("/bucket/cold").await;
    assert_eq!((cold.kind(), cold.hint().is_some()), (ErrorKind::PermissionDenied, true));
    assert_eq!(failed("/bucket/down").await.retry(), Retry::Later(None));
}

#[tokio::test]
async fn a_login_that_is_wrong_is_told_at_once() {
    let server = Scripted::new(|_| error(403, "SignatureDoesNotMatch", &[])).await;
    let e = connect(server.options(), decider()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    assert!(!format!("{e:#?} {e:#}").contains("s3cr3t"));
}

#[tokio::test]
async fn nobody_signs_where_nobody_logs_in() {
    let server = Scripted::new(|r| usual(r, &[("f", 3)])).await;
    let mut options = server.options();
    options.login = S3Login::Anonymous;
    let remote = connect(options, decider()).await.unwrap();
    remote.stat(&p("/bucket/f"), Follow::Yes).await.unwrap();
    assert!(server.seen().iter().all(|r| r.header("authorization").is_empty()));
    assert_eq!(remote.methods(), ["none"]);
}

#[tokio::test]
async fn who_may_not_list_may_read() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.path()) {
        ("GET", "/bucket/f") => answer(200, &["ETag: \"f\""], "abc"),
        ("GET", _) => error(403, "AccessDenied", &[]),
        _ => usual(r, &[("f", 3)]),
    })
    .await;
    let remote = server.remote().await;
    assert_eq!(remote.read_to_vec(&p("/bucket/f"), 10).await.unwrap(), b"abc");
}

// ---- reading

#[tokio::test]
async fn reads_that_follow_each_other_are_one_request() {
    let data = content(3 * MIB);
    let server = Scripted::new({
        let data = data.clone();
        move |r| match (r.method.as_str(), r.path()) {
            ("GET", "/bucket/f") => ranged(r, &data, "f"),
            _ => usual(r, &[("f", 3 * MIB)]),
        }
    })
    .await;
    let remote = server.remote().await;
    let file = remote.open(&p("/bucket/f"), &OpenOptions::read()).await.unwrap();
    let mut got = BytesMut::new();
    while got.len() < data.len() {
        let at = got.len();
        got = file.read_into(at as u64, 300_000, got).await.unwrap();
        assert!(got.len() > at);
    }
    assert!(got == data[..]);
    assert!(file.read_into(data.len() as u64, 10, BytesMut::new()).await.unwrap().is_empty());
    // A jump back is a request for a range, under the etag.
    let got = file.read_into(1000, 10, BytesMut::new()).await.unwrap();
    assert_eq!(got[..], data[1000..1010]);
    let gets: Vec<_> = server.seen().into_iter().filter(|r| r.line() == "GET /bucket/f").collect();
    assert_eq!(gets.len(), 2);
    assert!(gets[0].header("range").is_empty());
    assert_eq!((gets[1].header("range"), gets[1].header("if-match")), ("bytes=1000-", "\"f\""));
}

#[tokio::test]
async fn an_object_that_changes_is_never_a_mixture() {
    for answers in [0, 1] {
        let data = content(3 * MIB);
        let server = Scripted::new({
            let data = data.clone();
            move |r| match (r.method.as_str(), r.path(), r.header("range")) {
                ("GET", "/bucket/f", "") => ranged(r, &data, "f"),
                ("GET", "/bucket/f", _) if answers == 0 => error(412, "PreconditionFailed", &[]),
                // A store that does not heed conditions.
                ("GET", "/bucket/f", _) => ranged(r, &data, "g"),
                _ => usual(r, &[("f", 3 * MIB)]),
            }
        })
        .await;
        let remote = server.remote().await;
        let file = remote.open(&p("/bucket/f"), &OpenOptions::read()).await.unwrap();
        assert!(!file.read_into(0, 10, BytesMut::new()).await.unwrap().is_empty());
        let e = file.read_into(2 * MIB as u64, 10, BytesMut::new()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_short_file() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.path()) {
        ("GET", "/bucket/f") => {
            Answer::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"f\"\r\n\r\nabc".to_vec())
        }
        _ => usual(r, &[("f", 100)]),
    })
    .await;
    let remote = server.remote().await;
    let e = remote.read_to_vec(&p("/bucket/f"), 1000).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::Disconnected, Retry::AfterReconnect));
}

// ---- writing

/// A store that takes uploads in parts. `refuse` says which request is answered with SlowDown.
fn parts(r: &Request, refuse: impl Fn(&Request) -> bool) -> Answer {
    match (r.method.as_str(), r.parameter("partNumber")) {
        ("PUT", Some(_)) if refuse(r) => error(503, "SlowDown", &[]),
        ("PUT", Some(n)) => answer(200, &[&format!("ETag: \"part{n}\"")], ""),
        ("POST", _) if r.parameter("uploads").is_some() => answer(
            200,
            &[],
            "<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>",
        ),
        ("POST", _) => answer(
            200,
            &[],
            "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>",
        ),
        ("DELETE", _) => answer(204, &[], ""),
        ("PUT", _) => answer(200, &["ETag: \"one\""], ""),
        _ => usual(r, &[]),
    }
}

async fn write(file: &dyn session_core::fs::File, data: &[u8]) {
    for (n, piece) in data.chunks(MIB).enumerate() {
        file.write_at((n * MIB) as u64, Bytes::copy_from_slice(piece)).await.unwrap();
    }
}

#[tokio::test]
async fn a_large_file_goes_in_parts_and_a_part_is_sent_again() {
    let refused = Arc::new(AtomicUsize::new(0));
    let server = Scripted::new(move |r| {
        parts(r, |r| r.parameter("partNumber") == Some("2") && refused.fetch_add(1, Ordering::SeqCst) == 0)
    })
    .await;
    let mut options = server.options();
    (options.part_size, options.checksums) = (5 * MIB as u64, Checksums::Required);
    let remote = connect(options, decider()).await.unwrap();
    let data = content(12 * MIB + 5);
    let file = remote
        .open(
            &p("/bucket/f.txt"),
            &OpenOptions { size_hint: Some(data.len() as u64), ..OpenOptions::create() },
        )
        .await
        .unwrap();
    write(&*file, &data).await;
    let done = CommitOptions { expected_size: Some(data.len() as u64), ..CommitOptions::default() };
    let metadata = file.commit(&done).await.unwrap();
    assert_eq!((metadata.size, metadata.etag.as_deref()), (data.len() as u64, Some("whole")));
    let seen = server.seen();
    let mut got = std::collections::BTreeMap::new();
    for r in &seen {
        if let Some(n) = r.parameter("partNumber") {
            got.insert(n.to_owned(), r.body.clone());
        }
        // Nothing that nobody asked for.
        assert!(r.headers.keys().all(|h| !h.starts_with("x-amz-checksum") && h != "x-amz-trailer"), "{r:?}");
        assert!(!r.header("content-encoding").contains("aws-chunked"));
    }
    assert!(got.into_values().flatten().eq(data.iter().copied()));
    assert_eq!(seen.iter().filter(|r| r.parameter("partNumber") == Some("2")).count(), 2);
    let begun = seen.iter().find(|r| r.parameter("uploads").is_some()).unwrap();
    assert_eq!(begun.header("content-type"), "text/plain");
    let completed = String::from_utf8(seen.last().unwrap().body.clone()).unwrap();
    let digits = |at: usize| completed[at + 4..].starts_with(|c: char| c.is_ascii_digit());
    let tags = completed.match_indices("part").filter(|(at, _)| digits(*at));
    let tags: Vec<_> = tags.map(|(at, _)| &completed[at..at + 5]).collect();
    assert_eq!(tags, ["part1", "part2", "part3"]);
}

#[tokio::test]
async fn a_small_file_is_one_request_and_says_what_was_asked_for() {
    let server = Scripted::new(|r| parts(r, |_| false)).await;
    let mut options = server.options();
    options.checksums = Checksums::Always;
    options.requester_pays = true;
    options.putting = Putting {
        storage_class: Some("STANDARD_IA".into()),
        acl: Some("public-read".into()),
        encryption: Some("AES256".into()),
        content_type: Some("text/x-test".into()),
        metadata: vec![("colour".into(), "blue".into())],
        tags: vec![("a".into(), "b c".into())],
        ..Putting::default()
    };
    let remote = connect(options, decider()).await.unwrap();
    let before = server.seen().len();
    let options = OpenOptions { size_hint: Some(3), ..OpenOptions::create() };
    let file = remote.open(&p("/bucket/f"), &options).await.unwrap();
    file.write_at(0, Bytes::from_static(b"abc")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    let seen = server.seen().split_off(before);
    assert_eq!(seen.iter().map(Request::line).collect::<Vec<_>>(), ["PUT /bucket/f"]);
    let put = &seen[0];
    assert_eq!(put.body, b"abc");
    for (header, value) in [
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-acl", "public-read"),
        ("x-amz-server-side-encryption", "AES256"),
        ("content-type", "text/x-test"),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-tagging", "a=b%20c"),
        ("x-amz-request-payer", "requester"),
        ("x-amz-checksum-crc32", "NSRBwg=="),
    ] {
        assert_eq!(put.header(header), value, "{header}");
    }
}

#[tokio::test]
async fn an_upload_that_is_let_go_leaves_no_parts() {
    for ending in ["drop", "abort", "park", "wrong size"] {
        let server = Scripted::new(|r| parts(r, |_| false)).await;
        let mut options = server.options();
        options.part_size = 5 * MIB as u64;
        let remote = connect(options, decider()).await.unwrap();
        let options = OpenOptions { size_hint: Some(1), ..OpenOptions::create() };
        let file = remote.open(&p("/bucket/f"), &options).await.unwrap();
        write(&*file, &content(11 * MIB)).await;
        match ending {
            "drop" => drop(file),
            "abort" => file.abort().await.unwrap(),
            "park" => file.park().await.unwrap(),
            _ => {
                let wrong = CommitOptions { expected_size: Some(1), ..CommitOptions::default() };
                assert_eq!(file.commit(&wrong).await.unwrap_err().kind(), ErrorKind::Corrupt);
            }
        }
        let aborted = async {
            while !server.lines().contains(&"DELETE /bucket/f uploadId=up".to_owned()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), aborted).await.expect(ending);
        assert!(!server.lines().contains(&"POST /bucket/f uploadId=up".to_owned()), "{ending}");
    }
}

#[tokio::test]
async fn conditions_are_the_stores() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "PUT" if !r.header("if-none-match").is_empty() => error(412, "PreconditionFailed", &[]),
        "PUT" if r.header("if-match") == "\"f\"" => error(412, "PreconditionFailed", &[]),
        _ => usual(r, &[("f", 3)]),
    })
    .await;
    let remote = server.remote().await;
    let exclusive = OpenOptions { exclusive: true, ..OpenOptions::create() };
    let e = remote.open(&p("/bucket/f"), &exclusive).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    // Somebody was faster.
    let file = remote.open(&p("/bucket/g"), &exclusive).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let guarded = OpenOptions { if_match: Some("f".into()), ..OpenOptions::create() };
    let file = remote.open(&p("/bucket/f"), &guarded).await.unwrap();
    let e = file.commit(&CommitOptions::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn an_error_in_a_good_answer_is_an_error() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.parameter("uploadId")) {
        ("POST", Some(_)) => answer(
            200,
            &[],
            "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>m</Message></Error>",
        ),
        _ => parts(r, |_| false),
    })
    .await;
    let mut options = server.options();
    options.part_size = 5 * MIB as u64;
    let remote = connect(options, decider()).await.unwrap();
    let options = OpenOptions { size_hint: Some(1), ..OpenOptions::create() };
    let file = remote.open(&p("/bucket/f"), &options).await.unwrap();
    write(&*file, &content(6 * MIB)).await;
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn bytes_go_in_order() {
    let server = Scripted::new(|r| parts(r, |_| false)).await;
    let remote = server.remote().await;
    let options = OpenOptions { size_hint: Some(4), ..OpenOptions::create() };
    let file = remote.open(&p("/bucket/f"), &options).await.unwrap();
    // The later half comes first, and waits for its turn.
    let (later, first) = tokio::join!(
        file.write_at(2, Bytes::from_static(b"cd")),
        file.write_at(0, Bytes::from_static(b"ab"))
    );
    later.and(first).unwrap();
    let twice = file.write_at(0, Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Unsupported);
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(server.seen().last().unwrap().body, b"abcd");
}

// ---- names

#[tokio::test]
async fn a_file_is_renamed_by_a_copy_and_a_directory_is_not() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "PUT" => answer(200, &[], "<CopyObjectResult><ETag>&quot;n&quot;</ETag></CopyObjectResult>"),
        _ => usual(r, &[("a%20b/%C3%A4%2B", 3), ("a b/ä+", 3), ("d/x", 1)]),
    })
    .await;
    let remote = server.remote().await;
    let before = server.seen().len();
    remote.rename(&p("/bucket/a b/ä+"), &p("/bucket/g"), Replace::No).await.unwrap();
    let seen = server.seen().split_off(before);
    let put = seen.iter().find(|r| r.method == "PUT").unwrap();
    assert_eq!(put.line(), "PUT /bucket/g");
    assert_eq!(put.header("x-amz-copy-source"), "bucket/a%20b/%C3%A4%2B");
    assert!(!put.header("x-amz-copy-source-if-match").is_empty());
    assert_eq!(seen.last().unwrap().line(), "DELETE /bucket/a%20b/%C3%A4%2B");
    let before = server.seen().len();
    let e = remote.rename(&p("/bucket/d"), &p("/bucket/e"), Replace::No).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::CrossDevice);
    let looked = server.seen().split_off(before);
    assert!(looked.iter().all(|r| matches!(r.method.as_str(), "GET" | "HEAD")));
}

#[tokio::test]
async fn a_directory_without_a_marker_is_gone_with_its_last_object() {
    let gone = Arc::new(AtomicUsize::new(0));
    let server = Scripted::new({
        let gone = Arc::clone(&gone);
        move |r| {
            if r.method == "DELETE" {
                gone.store(1, Ordering::SeqCst);
            }
            let all: &[(&str, usize)] = if gone.load(Ordering::SeqCst) == 0 { &[("d/x", 1)] } else { &[] };
            usual(r, all)
        }
    })
    .await;
    let remote = server.remote().await;
    let e = remote.remove_dir(&p("/bucket/d")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotEmpty);
    remote.remove_dir_all(&p("/bucket/d")).await.unwrap();
    assert_eq!(server.lines().iter().filter(|l| l.starts_with("DELETE")).count(), 1);
    // Once is enough.
    assert_eq!(remote.remove_dir(&p("/bucket/d")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn nothing_is_set_that_s3_does_not_keep() {
    let server = Scripted::new(|r| usual(r, &[("f", 3)])).await;
    let remote = server.remote().await;
    let before = server.seen().len();
    let times = Attributes::times(None, Some(std::time::UNIX_EPOCH));
    let e = remote.set_attributes(&p("/bucket/f"), &times, Follow::Yes).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert_eq!(server.seen().len(), before);
}

#[tokio::test]
async fn a_cut_session_ends_what_is_under_way() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.path()) {
        ("GET", "/bucket/f") => {
            Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"f\"\r\n\r\nabc".to_vec())
        }
        _ => usual(r, &[("f", 100)]),
    })
    .await;
    let remote = server.remote().await;
    let file = remote.open(&p("/bucket/f"), &OpenOptions::read()).await.unwrap();
    assert_eq!(file.read_into(0, 3, BytesMut::new()).await.unwrap(), b"abc"[..]);
    let (read, ()) = tokio::join!(file.read_into(3, 3, BytesMut::new()), async {
        remote.session().close(Ending::new("over", Actor::Client)).await;
    });
    assert!(matches!(read.unwrap_err().kind(), ErrorKind::Canceled | ErrorKind::Disconnected));
    let e = remote.stat(&p("/bucket/f"), Follow::Yes).await.unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Closed));
}

/// Whoever waits to send a part again does not wait out what the store asks for, however the session ends.
#[tokio::test]
async fn a_session_that_ends_ends_the_pauses_before_another_try() {
    for cut in [false, true] {
        let server = Scripted::new(|r| match r.method.as_str() {
            "PUT" => error(503, "SlowDown", &["Retry-After: 20"]),
            _ => usual(r, &[]),
        })
        .await;
        let remote = server.remote().await;
        let options = OpenOptions { size_hint: Some(3), ..OpenOptions::create() };
        let file = remote.open(&p("/bucket/f"), &options).await.unwrap();
        file.write_at(0, Bytes::from_static(b"abc")).await.unwrap();
        let commit = tokio::spawn(async move { file.commit(&CommitOptions::default()).await });
        while !server.lines().iter().any(|l| l.starts_with("PUT ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The answer is on its way: what ends is the pause, and not the request.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!commit.is_finished());
        if cut {
            remote.session().cut(Ending::new("over", Actor::Client));
        } else {
            remote.close().await;
        }
        let ended = tokio::time::timeout(Duration::from_secs(5), commit).await;
        let e = ended.expect("the pause outlives the session").unwrap().unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Closed), "{e:#}");
    }
}
