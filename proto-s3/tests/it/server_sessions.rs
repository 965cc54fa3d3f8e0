//! Who gets in: signatures in all their forms, and what is made of them; sessions and their ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::*;
use session_core::event::What;
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Protocol};

async fn bucket() -> (Running, Client<tokio::net::TcpStream>) {
    let server = start(options()).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    c.put("/data/a", "content").await;
    (server, c)
}

fn failed_logins(server: &Running) -> Vec<String> {
    let notes = server.site.notes.0.lock().unwrap();
    let failed = notes.iter().filter_map(|e| match &e.what {
        What::LoginFailed { user, method, .. } => Some(format!("{user} {method}")),
        _ => None,
    });
    failed.collect()
}

#[tokio::test]
async fn requests_of_one_key_are_one_session_and_cost_one_login() {
    let (server, mut c) = bucket().await;
    let mut more = server.connect().await;
    assert_eq!(more.get("/data/a").await.text(), "content");
    assert_eq!(c.get("/data/a").await.status, 200);
    let session = server.session();
    assert_eq!((session.protocol(), &*session.user_id()), (Protocol::S3, "demo"));
    assert_eq!(server.site.users.lock().unwrap().asked.load(Ordering::SeqCst), 1);
    let stats = session.stats();
    assert_eq!((stats.uploaded.load(Ordering::Relaxed), stats.downloaded.load(Ordering::Relaxed)), (7, 14));
    let mut other = server.connect().await.is("KEY-other");
    assert_eq!(other.get("/data/a").await.status, 200);
    assert_eq!(server.site.registry.list().len(), 2);
}

#[tokio::test]
async fn signatures_that_are_not_good_let_nobody_in_and_are_failed_logins() {
    let (server, c) = bucket().await;
    let good = c.signer.clone().unwrap();
    let judge = async |signer: &Signer, line: &str| {
        let mut c = server.connect().await;
        c.signer = Some(signer.clone());
        c.ask(line, &[], "").await.failure()
    };
    let wrong = Signer { secret: "another secret altogether".into(), ..good.clone() };
    assert_eq!(judge(&wrong, "GET /data/a").await, (403, "SignatureDoesNotMatch".into()));
    assert_eq!(judge(&wrong, "GET /none").await, (403, "SignatureDoesNotMatch".into()));
    let unknown = Signer { key: "KEY-nobody".into(), ..good.clone() };
    assert_eq!(judge(&unknown, "GET /data/a").await, (403, "InvalidAccessKeyId".into()));
    assert_eq!(failed_logins(&server), ["demo accesskey", "demo accesskey", "KEY-nobody accesskey"]);
    for off in [-1000i64, 1000] {
        let skewed = Signer { now: good.now.saturating_add_signed(off), ..good.clone() };
        assert_eq!(judge(&skewed, "GET /data/a").await, (403, "RequestTimeTooSkewed".into()), "{off}");
    }
    let mut nobody = server.connect().await;
    nobody.signer = None;
    assert_eq!(nobody.get("/data/a").await.failure(), (403, "AccessDenied".into()));
    assert_eq!(nobody.get("/").await.failure(), (403, "AccessDenied".into()));
    assert_eq!(server.site.registry.list().len(), 1, "of the good one alone");
    // Too many end the connection.
    let mut c = server.connect().await;
    c.signer = Some(wrong);
    for _ in 0..6 {
        assert_eq!(c.get("/data/a").await.status, 403);
    }
    assert!(c.is_over().await);
}

#[tokio::test]
async fn what_was_signed_was_not_changed_and_nothing_was_added() {
    let (server, c) = bucket().await;
    let signer = c.signer.clone().unwrap();
    let send = async |head: String, body: &str| {
        let mut c = server.connect().await;
        c.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        c.reply(false).await.unwrap().failure()
    };
    let head = signer.head("PUT /data/b", &[], &sign::sha256(b"content"));
    assert_eq!(send(head.clone(), "tampers").await, (400, "XAmzContentSHA256Mismatch".into()));
    let moved = head.replace("PUT /data/b", "PUT /data/c");
    assert_eq!(send(moved, "content").await, (403, "SignatureDoesNotMatch".into()));
    let more = format!("{head}x-amz-copy-source: /data/a\r\n");
    assert_eq!(send(more, "content").await, (403, "AccessDenied".into()));
    let again = format!("{head}x-amz-meta-a: b\r\n");
    assert_eq!(send(again, "content").await, (403, "AccessDenied".into()));
    // The second version has no date that is looked at.
    for line in
        ["Authorization: AWS KEY-demo:xxx", "Authorization: Basic eDp5", "Authorization: AWS4-HMAC-SHA256"]
    {
        let head = sign::plain("GET /data/a", &[line]);
        assert!([400, 403].contains(&send(head, "").await.0), "{line}");
    }
    let old = sign::plain("GET /data/a?AWSAccessKeyId=KEY-demo&Expires=9999999999&Signature=x", &[]);
    assert_eq!(send(old, "").await, (400, "InvalidRequest".into()));
    let mut c = c;
    for key in ["b", "c"] {
        assert_eq!(c.get(&format!("/data/{key}")).await.status, 404);
    }
}

#[tokio::test]
async fn presigned_urls_are_good_for_their_time_and_nothing_else() {
    let (server, mut signed) = bucket().await;
    let signer = signed.signer.clone().unwrap();
    let mut c = server.connect().await;
    c.signer = None;
    let url = signer.presigned("GET /data/a", 60);
    let got = c.get(&url).await;
    assert_eq!((got.status, got.text().as_str()), (200, "content"), "{}", got.text());
    assert_eq!(
        c.get(&url.replace("/data/a", "/data/b")).await.failure(),
        (403, "SignatureDoesNotMatch".into())
    );
    assert_eq!(c.get(&url.replace("Expires=60", "Expires=600")).await.status, 403);
    assert_eq!(c.ask(&format!("DELETE {url}"), &[], "").await.status, 403);
    let late = Signer { now: signer.now - 61, ..signer.clone() };
    assert_eq!(c.get(&late.presigned("GET /data/a", 60)).await.failure(), (403, "AccessDenied".into()));
    let put = signer.presigned("PUT /data/up", 60);
    assert_eq!(c.ask(&format!("PUT {put}"), &[], "sent").await.status, 200);
    assert_eq!(signed.get("/data/up").await.text(), "sent");
    // Who holds it makes no copy of what its signer may read.
    let copy = c.ask(&format!("PUT {put}"), &["x-amz-copy-source: /data/a"], "").await;
    assert_eq!(copy.failure(), (403, "AccessDenied".into()));
    assert_eq!(signed.get("/data/up").await.text(), "sent");
    let both = signed.ask(&format!("GET {url}"), &[], "").await;
    assert_eq!(both.failure(), (400, "InvalidArgument".into()));
}

#[tokio::test]
async fn content_in_chunks_is_verified_chunk_by_chunk() {
    let (server, mut plain) = bucket().await;
    let signer = plain.signer.clone().unwrap();
    let pieces: [&[u8]; 3] = [&[b'a'; 9000], &[b'b'; 9000], b"end"];
    let length = "x-amz-decoded-content-length: 18003";
    let fields = [length, "Content-Encoding: aws-chunked"];
    let (head, seed) = signer.seal("PUT /data/b", &fields, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    let body = signer.chunks(&seed, &pieces);
    let send = async |body: &[u8]| {
        let mut c = server.connect().await;
        c.send(format!("{head}Content-Length: {}\r\n\r\n", body.len())).await;
        for piece in body.chunks(777) {
            c.send(piece).await;
        }
        c.reply(false).await.unwrap()
    };
    let reply = send(&body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let got = plain.get("/data/b").await;
    assert_eq!((got.body.len(), got.field("content-encoding")), (18003, None));
    assert!(got.body == pieces.concat());
    assert_eq!(plain.ask("DELETE /data/b", &[], "").await.status, 204);
    // A byte of the content, a byte of a signature, chunks in another order.
    let mut wrong = body.clone();
    wrong[5000] = b'x';
    assert_eq!(send(&wrong).await.failure(), (403, "SignatureDoesNotMatch".into()));
    let mut wrong = body.clone();
    wrong[30] ^= 1;
    assert_eq!(send(&wrong).await.failure(), (403, "SignatureDoesNotMatch".into()));
    let swapped = signer.chunks(&"0".repeat(64), &pieces);
    assert_eq!(send(&swapped).await.failure(), (403, "SignatureDoesNotMatch".into()));
    // One that ends too soon, and one without its last chunk.
    let short = signer.chunks(&seed, &pieces[..2]);
    assert_eq!(send(&short).await.failure(), (400, "IncompleteBody".into()));
    let end = body.len() - 88;
    assert_eq!(send(&body[..end]).await.failure(), (400, "IncompleteBody".into()));
    assert_eq!(plain.get("/data/b").await.status, 404);
}

#[tokio::test]
async fn trailing_digests_are_looked_at() {
    let (server, mut plain) = bucket().await;
    let signer = plain.signer.clone().unwrap();
    let fields = ["x-amz-decoded-content-length: 11", "x-amz-trailer: x-amz-checksum-crc32"];
    let send = async |trailer: &str| {
        let mut c = server.connect().await;
        let head = signer.head("PUT /data/b", &fields, "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        let body = format!("b\r\nhello world\r\n0\r\n{trailer}\r\n");
        c.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        c.reply(false).await.unwrap()
    };
    let good = send("x-amz-checksum-crc32:DUoRhQ==\r\n").await;
    assert_eq!((good.status, good.field("x-amz-checksum-crc32")), (200, Some("DUoRhQ==")), "{}", good.text());
    assert_eq!(plain.get("/data/b").await.text(), "hello world");
    assert_eq!(plain.ask("DELETE /data/b", &[], "").await.status, 204);
    assert_eq!(send("x-amz-checksum-crc32:AAAAAA==\r\n").await.failure(), (400, "BadDigest".into()));
    assert_eq!(send("").await.failure(), (400, "InvalidRequest".into()));
    assert_eq!(plain.get("/data/b").await.status, 404);
}

#[tokio::test]
async fn strangers_have_an_account_where_that_is_wanted() {
    let options = proto_s3::server::S3ServerOptions { anonymous: Some("guest".into()), ..options() };
    let server = start(options).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    c.put("/data/a", "content").await;
    let mut stranger = server.connect().await;
    stranger.signer = None;
    assert_eq!(stranger.get("/data/a").await.text(), "content");
    let chosen = stranger.get("/data/a?response-content-type=text/html").await;
    assert_eq!(chosen.failure(), (400, "InvalidRequest".into()));
    assert!(server.site.registry.list().iter().any(|s| *s.user_id() == *"guest"));
}

#[tokio::test]
async fn a_key_that_is_not_good_any_more_ends_its_session() {
    let (server, mut c) = bucket().await;
    let users = server.site.users.lock().unwrap().clone();
    let session = server.session();
    *users.secret.lock().unwrap() = Some("a secret that is quite new".into());
    assert_eq!(c.get("/data/a").await.failure(), (403, "SignatureDoesNotMatch".into()));
    *users.secret.lock().unwrap() = None;
    assert_eq!(c.get("/data/a").await.status, 200);
    // Other accounts are in force: the old verdict counts for nothing.
    let barred = std::sync::Arc::new(Users::default());
    barred.barred.store(true, Ordering::SeqCst);
    *server.site.users.lock().unwrap() = barred;
    // The session ends, and its connections with it.
    assert_eq!(server.connect().await.get("/data/a").await.failure(), (403, "AccessDenied".into()));
    assert!(session.is_cut() && c.is_over().await);
}

#[tokio::test]
async fn terminate_ends_requests_and_connections_and_holds_the_key() {
    let options = proto_s3::server::S3ServerOptions { hold: Duration::from_millis(300), ..options() };
    let server = start(options).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    let signer = c.signer.clone().unwrap();
    let head = signer.head("PUT /data/a", &[], "UNSIGNED-PAYLOAD");
    let mut busy = server.connect().await;
    busy.send(format!("{head}Content-Length: 100\r\n\r\npart")).await;
    let session = server.session();
    server.until("the upload begins", || session.transfers().len() == 1).await;
    session.cut(Ending::new("go away", Actor::Admin("root".into())).because(Reason::Administrator));
    assert!(c.is_over().await);
    while busy.reply(false).await.is_some() {}
    let held = server.connect().await.get("/data").await;
    assert_eq!(held.failure(), (503, "SlowDown".into()));
    assert!(held.field("retry-after").is_some());
    server.until("it is over", || server.site.registry.list().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(server.connect().await.get("/data").await.status, 200);
    assert!(server.site.area.parked().is_empty());
}

#[tokio::test]
async fn slow_and_endless_bodies_are_bounded() {
    let options = proto_s3::server::S3ServerOptions {
        data_time: Duration::from_millis(200),
        max_body: 10_000,
        ..options()
    };
    let server = start(options).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    let signer = c.signer.clone().unwrap();
    let mut slow = server.connect().await;
    let head = signer.head("PUT /data/a", &[], "UNSIGNED-PAYLOAD");
    slow.send(format!("{head}Content-Length: 100\r\n\r\npart")).await;
    assert_eq!(slow.reply(false).await.unwrap().failure(), (400, "RequestTimeout".into()));
    let many: String = (0..1000).map(|n| format!("<Object><Key>{n}</Key></Object>")).collect();
    let large = c.ask("POST /data?delete", &[], format!("<Delete>{many}</Delete>")).await;
    assert_eq!(large.failure(), (400, "MaxMessageLengthExceeded".into()));
    let mut c = server.connect().await;
    let deep = format!("<Delete>{}", "<a>".repeat(3000));
    assert_eq!(c.ask("POST /data?delete", &[], deep).await.status, 400);
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Delete><Object><Key>&b;</Key></Object></Delete>";
    assert_eq!(c.ask("POST /data?delete", &[], bomb).await.status, 400);
}

#[tokio::test]
async fn operations_that_are_not_known_are_refused_as_such() {
    let (_server, mut c) = bucket().await;
    for line in [
        "GET /data?acl",
        "GET /data?policy",
        "PUT /data?versioning",
        "GET /data/a?torrent",
        "GET /data/a?tagging",
        "GET /data?lifecycle",
    ] {
        let reply = c.ask(line, &[], "").await;
        assert_eq!(reply.failure(), (501, "NotImplemented".into()), "{line}: {}", reply.text());
    }
    assert_eq!(c.get("/data?versioning").await.status, 200);
}
