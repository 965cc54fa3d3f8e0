//! Uploads in parts, and copies.

use std::time::Duration;

use crate::support::*;
use session_core::digest::Hasher;
use session_core::fs::Algorithm;
use session_core::operation::Record;

pub(super) type Conn = Client<tokio::net::TcpStream>;

async fn bucket() -> (Running, Conn) {
    let server = start(options()).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    (server, c)
}

pub(super) async fn begin(c: &mut Conn, key: &str) -> String {
    let reply = c.ask(&format!("POST /data/{key}?uploads"), &["x-amz-meta-a: b"], "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.one("UploadId")
}

/// Its ETag.
pub(super) async fn send(c: &mut Conn, key: &str, id: &str, number: u32, body: &[u8]) -> String {
    let reply = c.ask(&format!("PUT /data/{key}?partNumber={number}&uploadId={id}"), &[], body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.field("etag").unwrap().to_owned()
}

pub(super) fn list(parts: &[(u32, &str)]) -> String {
    let part =
        |(n, tag): &(u32, &str)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>");
    let parts: String = parts.iter().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

pub(super) async fn complete(c: &mut Conn, key: &str, id: &str, parts: &[(u32, &str)]) -> Reply {
    c.ask(&format!("POST /data/{key}?uploadId={id}"), &[], list(parts)).await
}

fn md5(data: &[u8]) -> Vec<u8> {
    let mut hasher = Hasher::new(Algorithm::Md5);
    hasher.update(data);
    hasher.finish().to_vec()
}

/// What the ETag of parts is.
pub(super) fn tag_of(parts: &[&[u8]]) -> String {
    let all: Vec<u8> = parts.iter().flat_map(|p| md5(p)).collect();
    let digits: String = md5(&all).iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{digits}-{}\"", parts.len())
}

pub(super) fn commits(server: &Running) -> usize {
    let notes = server.site.notes.0.lock().unwrap();
    let ended = |e: &&session_core::event::Event| {
        matches!(&e.what, session_core::event::What::Ended { record: Record::Commit(_), error: None, .. })
    };
    notes.iter().filter(ended).count()
}

#[tokio::test]
async fn parts_in_any_order_are_one_object_published_once() {
    let parts: [&[u8]; 3] = [&[b'a'; 5000], &[b'b'; 5000], b"the end"];
    // As clients send them, backwards (so that they do not stand in order), with gaps between the numbers.
    for (n, order) in [[0, 1, 2], [2, 1, 0], [1, 2, 0]].into_iter().enumerate() {
        let (server, mut c) = bucket().await;
        c.put("/data/dir/a", "old").await;
        let before = commits(&server);
        let id = begin(&mut c, "dir/a").await;
        let mut tags = vec![String::new(); 3];
        let number = |i: usize| u32::try_from(i * (n + 1) + 1).unwrap();
        for i in order {
            tags[i] = send(&mut c, "dir/a", &id, number(i), parts[i]).await;
        }
        // Nobody sees it, and what was there stands.
        assert_eq!(c.get("/data/dir/a").await.text(), "old");
        assert_eq!(c.get("/data?list-type=2").await.all("Size"), ["3"]);
        let named: Vec<_> = (0..3).map(|i| (number(i), tags[i].as_str())).collect();
        let done = complete(&mut c, "dir/a", &id, &named).await;
        assert_eq!(done.status, 200, "{}", done.text());
        assert_eq!(done.one("ETag").replace("&quot;", "\""), tag_of(&parts));
        let got = c.get("/data/dir/a").await;
        assert!(got.body == parts.concat(), "{order:?}");
        assert_eq!(got.field("etag"), Some(tag_of(&parts).as_str()));
        assert_eq!(got.field("x-amz-meta-a"), Some("b"));
        assert_eq!(commits(&server) - before, 1);
        assert!(server.site.store.staged().await.unwrap().is_empty());
        // A client that did not hear of it hears of it now; another upload has nothing of it.
        let again = complete(&mut c, "dir/a", &id, &named).await;
        assert_eq!((again.status, again.one("ETag")), (200, done.one("ETag")));
        assert_eq!(commits(&server) - before, 1);
    }
}

#[tokio::test]
async fn what_is_named_must_be_there() {
    let (server, mut c) = bucket().await;
    let id = begin(&mut c, "a").await;
    let one = send(&mut c, "a", &id, 1, b"one").await;
    let two = send(&mut c, "a", &id, 2, b"two").await;
    let mut code = async |parts: &[(u32, &str)]| complete(&mut c, "a", &id, parts).await.failure().1;
    assert_eq!(code(&[(1, &two)]).await, "InvalidPart");
    assert_eq!(code(&[(1, &one), (3, &two)]).await, "InvalidPart");
    assert_eq!(code(&[(2, &two), (1, &one)]).await, "InvalidPartOrder");
    assert_eq!(code(&[(1, &one), (1, &one)]).await, "InvalidPartOrder");
    assert_eq!(code(&[]).await, "MalformedXML");
    // A part once more takes its place; one that broke is gone.
    let other = send(&mut c, "a", &id, 1, b"another one").await;
    let line = format!("PUT /data/a?partNumber=2&uploadId={id}");
    let bad = c.ask(&line, &["Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg=="], "x").await;
    assert_eq!(bad.failure(), (400, "BadDigest".into()));
    assert_eq!(complete(&mut c, "a", &id, &[(1, &other), (2, &two)]).await.failure().1, "InvalidPart");
    let two = send(&mut c, "a", &id, 2, b"!").await;
    assert_eq!(complete(&mut c, "a", &id, &[(1, &other), (2, &two)]).await.status, 200);
    assert_eq!(c.get("/data/a").await.text(), "another one!");
    for line in ["PUT /data/a?partNumber=0&uploadId=x", "PUT /data/a?partNumber=10001&uploadId=x"] {
        assert_eq!(c.ask(line, &[], "x").await.failure(), (400, "InvalidArgument".into()));
    }
    // An upload is of one object, and of one account.
    let id = begin(&mut c, "b").await;
    for (line, key) in [
        (format!("PUT /data/c?partNumber=1&uploadId={id}"), "KEY-demo"),
        (format!("PUT /data/b?partNumber=1&uploadId={id}"), "KEY-other"),
        (format!("DELETE /data/b?uploadId={id}"), "KEY-other"),
        ("DELETE /data/b?uploadId=none".to_owned(), "KEY-demo"),
        (format!("GET /data/c?uploadId={id}"), "KEY-demo"),
    ] {
        let mut c = server.connect().await.is(key);
        assert_eq!(c.ask(&line, &[], "").await.failure(), (404, "NoSuchUpload".into()), "{line}");
    }
}

#[tokio::test]
async fn uploads_are_listed_and_thrown_away() {
    let (server, mut c) = bucket().await;
    let a = begin(&mut c, "a").await;
    let b = begin(&mut c, "dir/b").await;
    let listed = c.get("/data?uploads").await;
    assert_eq!(listed.all("UploadId"), [a.clone(), b.clone()], "{}", listed.text());
    let page = c.get("/data?uploads&max-uploads=1").await;
    assert_eq!((page.all("Key"), page.one("IsTruncated")), (vec!["a".to_owned()], "true".into()));
    let (key, id) = (page.one("NextKeyMarker"), page.one("NextUploadIdMarker"));
    let next = c.get(&format!("/data?uploads&key-marker={key}&upload-id-marker={id}")).await;
    assert_eq!(next.all("UploadId"), std::slice::from_ref(&b));
    assert_eq!(c.get("/data?uploads&prefix=dir/").await.all("Key"), ["dir/b"]);
    for n in 1..=5 {
        send(&mut c, "a", &a, n, b"x").await;
    }
    let parts = c.get(&format!("/data/a?uploadId={a}&max-parts=2")).await;
    assert_eq!(
        (parts.all("PartNumber"), parts.one("IsTruncated")),
        (vec!["1".into(), "2".into()], "true".into())
    );
    let marker = parts.one("NextPartNumberMarker");
    let rest = c.get(&format!("/data/a?uploadId={a}&part-number-marker={marker}")).await;
    assert_eq!(rest.all("PartNumber"), ["3", "4", "5"]);
    // A directory in which an upload stands is not removed under it.
    assert_eq!(c.ask("DELETE /data", &[], "").await.failure(), (409, "BucketNotEmpty".into()));
    for (key, id) in [("a", &a), ("dir/b", &b)] {
        assert_eq!(c.ask(&format!("DELETE /data/{key}?uploadId={id}"), &[], "").await.status, 204);
        let again = c.ask(&format!("DELETE /data/{key}?uploadId={id}"), &[], "").await;
        assert_eq!(again.failure(), (404, "NoSuchUpload".into()));
    }
    assert!(c.get("/data?uploads").await.all("UploadId").is_empty());
    // What they needed does not keep the bucket; what was made on purpose does.
    c.put("/data/made/", "").await;
    assert_eq!(c.ask("DELETE /data", &[], "").await.failure(), (409, "BucketNotEmpty".into()));
    assert_eq!(c.ask("DELETE /data/made/", &[], "").await.status, 204);
    assert_eq!(c.ask("DELETE /data", &[], "").await.status, 204);
    assert!(server.site.store.staged().await.unwrap().is_empty());
}

#[tokio::test]
async fn uploads_of_an_account_are_bounded() {
    let options = proto_s3::server::S3ServerOptions { max_uploads: 2, ..options() };
    let server = start(options).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    begin(&mut c, "a").await;
    begin(&mut c, "b").await;
    assert_eq!(c.ask("POST /data/c?uploads", &[], "").await.failure(), (503, "SlowDown".into()));
    let mut other = server.connect().await.is("KEY-other");
    assert_eq!(other.ask("POST /data/c?uploads", &[], "").await.status, 200, "that of another account");
}

#[tokio::test]
async fn an_upload_without_parts_for_too_long_is_swept() {
    let options = proto_s3::server::S3ServerOptions { upload_time: Duration::from_millis(50), ..options() };
    let server = start(options).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    begin(&mut c, "a").await;
    server.until("it is swept", || server.session().transfers().is_empty()).await;
    assert!(server.site.store.staged().await.unwrap().is_empty());
}

#[tokio::test]
async fn conditions_and_digests_hold_for_the_whole() {
    let (_server, mut c) = bucket().await;
    let id = begin(&mut c, "a").await;
    let tag = send(&mut c, "a", &id, 1, b"hello world").await;
    c.put("/data/a", "meanwhile").await;
    let line = format!("POST /data/a?uploadId={id}");
    let late = c.ask(&line, &["If-None-Match: *"], list(&[(1, &tag)])).await;
    assert_eq!(late.failure(), (412, "PreconditionFailed".into()));
    let bad = c.ask(&line, &["x-amz-checksum-crc32: AAAAAA=="], list(&[(1, &tag)])).await;
    assert_eq!(bad.failure(), (400, "BadDigest".into()));
    let small = c.ask(&line, &["x-amz-mp-object-size: 3"], list(&[(1, &tag)])).await;
    assert_eq!(small.failure(), (400, "InvalidRequest".into()));
    assert_eq!(c.get("/data/a").await.text(), "meanwhile");
    // None of that has ended it.
    let good = c.ask(&line, &["x-amz-checksum-crc32: DUoRhQ=="], list(&[(1, &tag)])).await;
    assert_eq!(good.status, 200, "{}", good.text());
    assert_eq!(c.get("/data/a").await.text(), "hello world");
}

#[tokio::test]
async fn objects_are_copied_with_what_is_kept() {
    let (_server, mut c) = bucket().await;
    let put = c.ask("PUT /data/a", &["Content-Type: text/odd", "x-amz-meta-a: b"], "hello world").await;
    let tag = put.field("etag").unwrap().to_owned();
    let copied = c.ask("PUT /data/deep/er/b", &["x-amz-copy-source: /data/a"], "").await;
    assert_eq!(
        (copied.status, copied.one("ETag").replace("&quot;", "\"")),
        (200, tag.clone()),
        "{}",
        copied.text()
    );
    let got = c.get("/data/deep/er/b").await;
    assert_eq!((got.text().as_str(), got.field("etag")), ("hello world", Some(tag.as_str())));
    assert_eq!((got.field("content-type"), got.field("x-amz-meta-a")), (Some("text/odd"), Some("b")));
    // With something else, also onto itself.
    let fields = ["x-amz-copy-source: data/a", "x-amz-metadata-directive: REPLACE", "x-amz-meta-c: d"];
    assert_eq!(c.ask("PUT /data/a", &fields, "").await.status, 200);
    let got = c.get("/data/a").await;
    assert_eq!((got.field("x-amz-meta-a"), got.field("x-amz-meta-c")), (None, Some("d")));
    assert_eq!(
        (got.field("etag"), got.field("content-type")),
        (Some(tag.as_str()), Some("application/octet-stream"))
    );
    for (fields, failure) in [
        (vec!["x-amz-copy-source: /data/a"], (400, "InvalidRequest")),
        (vec!["x-amz-copy-source: /data/none"], (404, "NoSuchKey")),
        (vec!["x-amz-copy-source: /none/a"], (404, "NoSuchBucket")),
        (
            vec!["x-amz-copy-source: /data/deep/er/b", "x-amz-copy-source-if-match: \"x\""],
            (412, "PreconditionFailed"),
        ),
    ] {
        let reply = c.ask("PUT /data/a", &fields, "").await;
        assert_eq!(reply.failure(), (failure.0, failure.1.to_owned()), "{fields:?}");
    }
    // Parts of an upload, too.
    let id = begin(&mut c, "parts").await;
    let part = async |c: &mut Conn, n: u32, range: &str| {
        let line = format!("PUT /data/parts?partNumber={n}&uploadId={id}");
        let range = format!("x-amz-copy-source-range: {range}");
        c.ask(&line, &["x-amz-copy-source: /data/a", &range], "").await
    };
    let one = part(&mut c, 1, "bytes=6-10").await;
    let two = part(&mut c, 2, "bytes=0-4").await;
    assert_eq!((one.status, two.status), (200, 200), "{}{}", one.text(), two.text());
    assert_eq!(part(&mut c, 3, "bytes=6-11").await.failure(), (416, "InvalidRange".into()));
    assert_eq!(part(&mut c, 3, "bytes=x").await.failure(), (400, "InvalidArgument".into()));
    let (one, two) = (one.one("ETag"), two.one("ETag"));
    assert_eq!(complete(&mut c, "parts", &id, &[(1, &one), (2, &two)]).await.status, 200);
    assert_eq!(c.get("/data/parts").await.text(), "worldhello");
}
