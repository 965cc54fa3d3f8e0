//! Buckets and objects, as text on the wire.

use crate::support::*;
use session_core::fs::Follow;
use session_core::fs_ext::{Bounds, FilesystemExt as _};
use session_core::metadata::Attributes;

const MD5: &str = "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"";

/// A server with the bucket `data`.
async fn bucket() -> (Running, Client<tokio::net::TcpStream>) {
    let server = start(options()).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    (server, c)
}

#[tokio::test]
async fn buckets_are_directories_of_the_root() {
    let (server, mut c) = bucket().await;
    server.site.store.create_dir(&p("/not a bucket"), &Attributes::none()).await.unwrap();
    let listed = c.get("/").await;
    assert_eq!(listed.all("Name"), ["data"], "{}", listed.text());
    assert!(listed.field("content-length").is_some(), "what is known is said");
    assert!(listed.text().contains("<Owner>") && !listed.one("CreationDate").is_empty());
    assert_eq!(c.ask("HEAD /data", &[], "").await.status, 200);
    assert_eq!(c.ask("HEAD /none", &[], "").await.status, 404);
    assert_eq!(c.get("/data?location").await.status, 200);
    assert_eq!(c.ask("PUT /data", &[], "").await.failure(), (409, "BucketAlreadyOwnedByYou".into()));
    assert_eq!(c.ask("PUT /x", &[], "").await.failure(), (400, "InvalidBucketName".into()));
    c.put("/data/a", "1").await;
    assert_eq!(c.ask("DELETE /data", &[], "").await.failure(), (409, "BucketNotEmpty".into()));
    assert_eq!(c.ask("DELETE /data/a", &[], "").await.status, 204);
    assert_eq!(c.ask("DELETE /data", &[], "").await.status, 204);
    assert_eq!(c.ask("DELETE /data", &[], "").await.failure(), (404, "NoSuchBucket".into()));
    assert_eq!(c.get("/data?list-type=2").await.failure(), (404, "NoSuchBucket".into()));
    assert_eq!(c.get("/data/a").await.failure(), (404, "NoSuchBucket".into()));
    assert_eq!(c.ask("PUT /data/a", &[], "x").await.failure(), (404, "NoSuchBucket".into()));
}

#[tokio::test]
async fn attributes_are_told_as_they_are_asked_for() {
    let (_server, mut c) = bucket().await;
    c.put("/data/a", "hello world").await;
    let asked = "x-amz-object-attributes: ETag,ObjectSize, StorageClass";
    let all = c.ask("GET /data/a?attributes", &[asked], "").await;
    assert_eq!(all.status, 200, "{}", all.text());
    assert_eq!(
        [all.one("ETag").as_str(), &all.one("ObjectSize"), &all.one("StorageClass")],
        [MD5, "11", "STANDARD"],
        "{}",
        all.text()
    );
    let size = c.ask("GET /data/a?attributes", &["x-amz-object-attributes: ObjectSize"], "").await;
    assert_eq!((size.one("ObjectSize").as_str(), size.text().contains("ETag")), ("11", false));
    let no = c.ask("GET /data/a?attributes", &["x-amz-object-attributes: Colour"], "").await;
    assert_eq!(no.failure(), (400, "InvalidArgument".into()));
    let no = c.ask("GET /data/none?attributes", &[asked], "").await;
    assert_eq!(no.failure(), (404, "NoSuchKey".into()));
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_with_what_is_kept() {
    let (server, mut c) = bucket().await;
    let fields = [
        "Content-Type: text/x-odd",
        "Cache-Control: no-cache",
        "x-amz-meta-colour: red",
        "Content-Encoding: gzip",
    ];
    let put = c.ask("PUT /data/dir/a.txt", &fields, "hello world").await;
    assert_eq!((put.status, put.field("etag")), (200, Some(MD5)));
    let got = c.get("/data/dir/a.txt").await;
    assert_eq!((got.status, got.text().as_str()), (200, "hello world"));
    for (name, value) in [
        ("etag", MD5),
        ("content-type", "text/x-odd"),
        ("cache-control", "no-cache"),
        ("content-encoding", "gzip"),
        ("x-amz-meta-colour", "red"),
        ("content-length", "11"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(got.field(name), Some(value), "{name}");
    }
    assert!(got.field("x-amz-request-id").is_some() && got.field("last-modified").is_some());
    let head = c.ask("HEAD /data/dir/a.txt", &[], "").await;
    assert_eq!((head.status, head.field("etag"), head.field("content-length")), (200, Some(MD5), Some("11")));
    // Every protocol sees the content type where WebDAV keeps it, and what another changes has another ETag.
    let stat = server.site.store.stat(&p("/data/dir/a.txt"), Follow::Yes).await.unwrap();
    assert_eq!(stat.properties.unwrap().get("{DAV:}getcontenttype").unwrap(), "text/x-odd");
    server.site.store.write_all(&p("/data/dir/a.txt"), "elsewhere!!".into()).await.unwrap();
    let other = c.ask("HEAD /data/dir/a.txt", &[], "").await;
    assert!(other.field("etag").is_some_and(|t| t != MD5 && t.contains('-')), "{other:?}");
    // What replaces it has nothing of it.
    c.put("/data/dir/a.txt", "new").await;
    let plain = c.get("/data/dir/a.txt").await;
    assert_eq!((plain.field("content-type"), plain.field("cache-control")), (Some("text/plain"), None));
    assert_eq!(plain.field("x-amz-meta-colour"), None);
}

#[tokio::test]
async fn ranges_conditions_and_other_fields() {
    let (_server, mut c) = bucket().await;
    c.put("/data/a", "hello world").await;
    for (range, status, text, says) in [
        ("bytes=0-4", 206, "hello", Some("bytes 0-4/11")),
        ("bytes=6-", 206, "world", Some("bytes 6-10/11")),
        ("bytes=-5", 206, "world", Some("bytes 6-10/11")),
        ("bytes=6-99", 206, "world", Some("bytes 6-10/11")),
    ] {
        let got = c.ask("GET /data/a", &[&format!("Range: {range}")], "").await;
        assert_eq!((got.status, got.text().as_str()), (status, text), "{range}");
        assert_eq!(got.field("content-range"), says, "{range}");
    }
    let beyond = c.ask("GET /data/a", &["Range: bytes=11-"], "").await;
    assert_eq!(beyond.failure(), (416, "InvalidRange".into()));
    assert_eq!(beyond.field("content-range"), Some("bytes */11"));
    let same = format!("If-None-Match: {MD5}");
    let unmodified = c.ask("GET /data/a", &[&same], "").await;
    assert_eq!((unmodified.status, unmodified.field("etag"), unmodified.body.len()), (304, Some(MD5), 0));
    assert_eq!(c.ask("HEAD /data/a", &[&same], "").await.status, 304);
    assert_eq!(
        c.ask("GET /data/a", &["If-Match: \"x\""], "").await.failure(),
        (412, "PreconditionFailed".into())
    );
    assert_eq!(c.ask("GET /data/a", &[&format!("If-Match: {MD5}")], "").await.status, 200);
    let since = "If-Unmodified-Since: Sat, 01 Jan 1994 00:00:00 GMT";
    assert_eq!(c.ask("GET /data/a", &[since], "").await.status, 412);
    let chosen = c.get("/data/a?response-content-type=text/html&response-content-disposition=inline").await;
    assert_eq!(chosen.field("content-type"), Some("text/html"));
    assert_eq!(chosen.field("content-disposition"), Some("inline"));
    assert_eq!(c.get("/data/a?versionId=x").await.failure(), (404, "NoSuchVersion".into()));
    assert_eq!(c.get("/data/a?versionId=null").await.status, 200);
    assert_eq!(c.get("/data/none").await.failure(), (404, "NoSuchKey".into()));
    assert_eq!(c.get("/data/a/b").await.failure(), (404, "NoSuchKey".into()));
}

#[tokio::test]
async fn writes_are_conditional_verified_and_whole() {
    let (server, mut c) = bucket().await;
    assert_eq!(c.ask("PUT /data/a", &["If-None-Match: *"], "one").await.status, 200);
    let again = c.ask("PUT /data/a", &["If-None-Match: *"], "two").await;
    assert_eq!(again.failure(), (412, "PreconditionFailed".into()));
    let tag = c.ask("HEAD /data/a", &[], "").await.field("etag").unwrap().to_owned();
    assert_eq!(c.ask("PUT /data/a", &[&format!("If-Match: {tag}")], "three").await.status, 200);
    let stale = c.ask("PUT /data/a", &[&format!("If-Match: {tag}")], "four").await;
    assert_eq!(stale.failure(), (412, "PreconditionFailed".into()));
    assert_eq!(c.ask("PUT /data/none", &["If-Match: *"], "x").await.failure(), (404, "NoSuchKey".into()));
    let bad = c.ask("PUT /data/a", &["Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg=="], "hello").await;
    assert_eq!(bad.failure(), (400, "BadDigest".into()));
    let bad = c.ask("PUT /data/a", &["x-amz-checksum-crc32: AAAAAA=="], "hello world").await;
    assert_eq!(bad.failure(), (400, "BadDigest".into()));
    let good = c.ask("PUT /data/b", &["x-amz-checksum-crc32: DUoRhQ=="], "hello world").await;
    assert_eq!((good.status, good.field("x-amz-checksum-crc32")), (200, Some("DUoRhQ==")));
    assert_eq!(c.get("/data/a").await.text(), "three");
    // Of what was refused nothing is kept.
    assert!(server.site.area.parked().is_empty() && server.site.store.staged().await.unwrap().is_empty());
    for (field, code) in [
        ("x-amz-server-side-encryption: AES256", "NotImplemented"),
        ("x-amz-acl: public-read", "AccessControlListNotSupported"),
        ("x-amz-tagging: a=b", "NotImplemented"),
        ("x-amz-storage-class: GLACIER", "InvalidStorageClass"),
        ("x-amz-object-lock-legal-hold: ON", "NotImplemented"),
        ("x-amz-write-offset-bytes: 0", "NotImplemented"),
    ] {
        let refused = c.ask("PUT /data/c", &[field], "x").await;
        assert_eq!(refused.failure().1, code, "{field}: {}", refused.text());
    }
    let large = format!("x-amz-meta-large: {}", "x".repeat(2048));
    assert_eq!(c.ask("PUT /data/c", &[&large], "x").await.failure(), (400, "MetadataTooLarge".into()));
    assert_eq!(c.get("/data/c").await.status, 404);
    assert_eq!(c.ask("PUT /data/c", &["x-amz-acl: private"], "x").await.status, 200);
}

#[tokio::test]
async fn who_waits_to_send_nothing_comes_back_on_another_connection() {
    let (_server, mut c) = bucket().await;
    let some = c.ask("PUT /data/a", &["Expect: 100-continue"], "some").await;
    assert_eq!(some.status, 100);
    let some = c.reply(false).await.unwrap();
    assert_eq!((some.status, some.field("connection")), (200, None));
    let none = c.ask("PUT /data/b", &["Expect: 100-continue"], "").await;
    assert_eq!((none.status, none.field("connection")), (200, Some("close")));
    assert!(c.is_over().await);
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing() {
    let (server, mut c) = bucket().await;
    c.put("/data/a", "old").await;
    let signer = c.signer.clone().unwrap();
    let mut broken = server.connect().await;
    let head = signer.head("PUT /data/a", &[], "UNSIGNED-PAYLOAD");
    broken.send(format!("{head}Content-Length: 100\r\n\r\npart of it")).await;
    server.until("the upload begins", || server.session().transfers().len() == 1).await;
    // Nobody sees it, its owner included.
    assert_eq!(c.get("/data/a").await.text(), "old");
    drop(broken);
    server.until("the upload is over", || server.session().transfers().is_empty()).await;
    assert_eq!(c.get("/data/a").await.text(), "old");
    assert!(server.site.area.parked().is_empty());
}

#[tokio::test]
async fn keys_that_are_no_paths_are_keys_all_the_same() {
    let (server, mut c) = bucket().await;
    let keys = ["a//b", "../x", "a/./b", "/lead", "a/..", "sp ace+&\"<>'.txt", "ünï", "a/b/c.d", "∅"];
    for key in keys {
        let url = format!(
            "/data/{}",
            percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC)
        );
        c.put(&url, key).await;
    }
    for key in keys {
        let url = format!(
            "/data/{}",
            percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC)
        );
        assert_eq!(c.get(&url).await.text(), key);
    }
    // Nothing is outside of the bucket.
    let root = server.site.store.walk(&p("/"), Bounds::default()).await.unwrap();
    assert!(root.iter().all(|(path, _)| path.starts_with(&p("/data"))), "{root:?}");
    let listed = c.get("/data?list-type=2&encoding-type=url").await;
    let mut all = listed.all("Key");
    let mut wanted: Vec<_> =
        keys.iter().map(|k| percent_encoding::utf8_percent_encode(k, KEY).to_string()).collect();
    all.sort();
    wanted.sort();
    assert_eq!(all, wanted);
    assert_eq!(c.ask("PUT /data/nul%00", &[], "x").await.failure(), (400, "InvalidURI".into()));
    let long = format!("PUT /data/{}", "x".repeat(1025));
    assert_eq!(c.ask(&long, &[], "x").await.failure(), (400, "KeyTooLongError".into()));
}

const KEY: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

#[tokio::test]
async fn directories_are_keys_that_end_in_a_slash() {
    let (server, mut c) = bucket().await;
    let store = &server.site.store;
    c.put("/data/made/", "").await;
    assert!(store.stat(&p("/data/made"), Follow::No).await.unwrap().is_dir());
    let head = c.ask("HEAD /data/made/", &[], "").await;
    assert_eq!((head.status, head.field("content-length")), (200, Some("0")));
    assert_eq!(c.get("/data?list-type=2").await.all("Key"), ["made/"]);
    assert_eq!(c.ask("HEAD /data/made", &[], "").await.status, 404);
    // With something in it, it is what that begins with.
    c.put("/data/made/in/a", "1").await;
    assert_eq!(c.get("/data?list-type=2").await.all("Key"), ["made/in/a"]);
    assert_eq!(c.ask("HEAD /data/made/in/", &[], "").await.status, 404);
    // What was made for an object goes with it; what was made on purpose stays.
    assert_eq!(c.ask("DELETE /data/made/in/a", &[], "").await.status, 204);
    assert!(store.stat(&p("/data/made/in"), Follow::No).await.is_err());
    assert_eq!(c.get("/data?list-type=2").await.all("Key"), ["made/"]);
    c.put("/data/made/b", "1").await;
    assert_eq!(c.ask("DELETE /data/made/", &[], "").await.status, 204);
    assert_eq!(c.get("/data/made/b").await.text(), "1");
    assert_eq!(c.ask("DELETE /data/made/b", &[], "").await.status, 204);
    assert!(store.stat(&p("/data/made"), Follow::No).await.is_err());
    // One with content is an object.
    c.put("/data/odd/", "content").await;
    assert_eq!(c.get("/data/odd/").await.text(), "content");
    assert_eq!(c.get("/data?list-type=2").await.all("Key"), ["odd/"]);
    assert_eq!(c.ask("DELETE /data/odd/", &[], "").await.status, 204);
    assert!(c.get("/data?list-type=2").await.all("Key").is_empty());
    // An object is not a prefix, and a prefix is none.
    c.put("/data/o", "1").await;
    assert_eq!(c.ask("PUT /data/o/x", &[], "1").await.failure(), (400, "InvalidArgument".into()));
    c.put("/data/d/x", "1").await;
    assert_eq!(c.ask("PUT /data/d", &[], "1").await.failure(), (400, "InvalidArgument".into()));
}

#[tokio::test]
async fn many_objects_are_removed_at_once() {
    let (server, mut c) = bucket().await;
    for key in ["a", "b/c", "b/d", "e"] {
        c.put(&format!("/data/{key}"), "x").await;
    }
    let keys = ["a", "b/c", "b/d", "none", "b"];
    let body: String = keys.iter().map(|k| format!("<Object><Key>{k}</Key></Object>")).collect();
    let body = format!("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{body}</Delete>");
    let reply = c.ask("POST /data?delete", &[], &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.all("Key"), keys);
    assert_eq!(c.get("/data?list-type=2").await.all("Key"), ["e"]);
    assert!(server.site.store.stat(&p("/data/b"), Follow::No).await.is_err(), "the directory went along");
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>e</Key></Object></Delete>";
    let reply = c.ask("POST /data?delete", &[], quiet).await;
    assert!(reply.status == 200 && reply.all("Key").is_empty());
    for odd in ["", "<Delete>", "<Other/>", "no xml"] {
        let reply = c.ask("POST /data?delete", &[], odd).await;
        assert_eq!(reply.status, 400, "{odd}: {}", reply.text());
    }
    assert_eq!(c.ask("POST /none?delete", &[], quiet).await.failure(), (404, "NoSuchBucket".into()));
}
