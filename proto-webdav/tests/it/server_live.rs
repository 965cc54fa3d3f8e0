//! Uploads and downloads as they come over the wire: chunks, 100-continue, breaks, sizes, TLS and HTTP/2.
#![cfg(feature = "server")]

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use bytes::Bytes;
use proto_webdav::server::WebdavServerOptions;
use session_core::fs::Follow;
use session_core::fs_ext::FilesystemExt as _;
use session_core::session::Protocol;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

async fn content(running: &Running, path: &str) -> Vec<u8> {
    running.site.store.read_to_vec(&p(path), 64 << 20).await.unwrap()
}

#[tokio::test]
async fn an_upload_in_chunks_is_whole_or_nothing() {
    let running = start(options()).await;
    let mut client = running.connect().await;
    // As macOS sends it.
    client.begin("PUT /f", &["Transfer-Encoding: chunked", "X-Expected-Entity-Length: 10"], None).await;
    client.send("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n").await;
    assert_eq!(client.reply(false).await.unwrap().status, 201);
    assert_eq!(content(&running, "/f").await, b"0123456789");
    client.begin("PUT /f", &["Transfer-Encoding: chunked"], None).await;
    client.send("3\r\nnew\r\n").await;
    let session = running.session();
    running
        .until("the bytes", || {
            session.transfers().iter().any(|t| t.bytes.load(std::sync::atomic::Ordering::Relaxed) == 3)
        })
        .await;
    drop(client);
    running.until("the upload to be kept", || running.site.area.parked().len() == 1).await;
    assert_eq!(content(&running, "/f").await, b"0123456789", "the old content stands");
    // Its owner goes on where it broke off.
    let mut client = running.connect().await;
    let part = client.ask("PUT /f", &["Content-Range: bytes 3-5/6"], b"est").await;
    assert_eq!(part.status, 204, "{}", part.text());
    assert_eq!(content(&running, "/f").await, b"newest");
}

#[tokio::test]
async fn a_body_shorter_than_it_says_is_not_published() {
    let running = start(options()).await;
    let mut client = running.connect().await;
    client.begin("PUT /f", &["Content-Length: 10"], None).await;
    client.send("short").await;
    drop(client);
    running.until("the upload to be kept", || running.site.area.parked().len() == 1).await;
    assert!(running.site.store.stat(&p("/f"), Follow::No).await.is_err());
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_before_it_sends() {
    let running = start(options()).await;
    let mut client = running.connect().await;
    client.begin("PUT /f", &["Expect: 100-continue", "Content-Length: 5"], None).await;
    assert_eq!(client.reply(false).await.unwrap().status, 100);
    client.send("hello").await;
    assert_eq!(client.reply(false).await.unwrap().status, 201);
    let mut stranger = running.connect().await;
    stranger.login = None;
    stranger.begin("PUT /f", &["Expect: 100-continue", "Content-Length: 5"], None).await;
    assert_eq!(stranger.reply(false).await.unwrap().status, 401, "before the body");
}

#[tokio::test]
async fn large_files_and_several_parts_come_as_they_are() {
    let running = start(options()).await;
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    let mut client = running.connect().await;
    assert_eq!(client.ask("PUT /big", &[], &data).await.status, 201);
    let got = client.ask("GET /big", &[], b"").await;
    assert!(got.body == data);
    let parts = client.ask("GET /big", &["Range: bytes=0-1,1000000-1000009"], b"").await;
    assert_eq!(parts.status, 206);
    let boundary =
        parts.field("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let text = parts.body.clone();
    let is_there = |needle: &[u8]| text.windows(needle.len()).any(|w| w == needle);
    assert!(is_there(b"Content-Range: bytes 1000000-1000009/3000000\r\n\r\n"));
    assert!(is_there(&data[1_000_000..1_000_010]));
    assert!(text.ends_with(format!("--{boundary}--\r\n").as_bytes()));
    let empty = client.ask("PUT /empty", &[], b"").await;
    assert_eq!(empty.status, 201);
    assert_eq!(client.ask("GET /empty", &[], b"").await.body, b"");
}

#[tokio::test]
async fn a_large_directory_is_listed_in_whole() {
    let running = start(options()).await;
    let mut client = running.connect().await;
    client.ask("MKCOL /d", &[], b"").await;
    for n in 0..2500 {
        running.site.store.write_all(&p(&format!("/d/{n:05}")), Bytes::new()).await.unwrap();
    }
    let listed = client.ask("PROPFIND /d", &["Depth: 1"], b"").await;
    assert_eq!(listed.text().matches("<D:response>").count(), 2501);
    assert!(listed.text().ends_with("</D:multistatus>\n"));
    let page = client.ask("GET /d/", &[], b"").await.text();
    assert_eq!(page.matches("<tr>").count(), 2501);
    assert!(page.find("./00002").unwrap() < page.find("./02000").unwrap());
}

#[tokio::test]
async fn passwords_are_taken_under_tls_and_sessions_say_so() {
    let (_files, tls) = tls();
    let running = start(WebdavServerOptions { tls: Some(Arc::clone(&tls)), ..options() }).await;
    let file = &tls.options().certificates[0].chain;
    let certificate = CertificateDer::from_pem_file(file).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(running.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let mut client = Client::new(stream);
    assert_eq!(client.ask("PUT /f", &[], b"secret").await.status, 201);
    let session = running.session();
    assert_eq!(session.protocol(), Protocol::Webdavs);
    assert!(session.snapshot().cipher.contains("TLS"), "{}", session.snapshot().cipher);
}

#[tokio::test]
async fn who_sends_nothing_is_not_waited_for() {
    let short = Duration::from_millis(200);
    let running = start(WebdavServerOptions { login_time: short, data_time: short, ..options() }).await;
    let mut silent = running.connect().await;
    let mut slow_head = running.connect().await;
    slow_head.send("GET / HTTP/1.1\r\nHost: ").await;
    let mut slow_body = running.connect().await;
    slow_body.begin("PUT /f", &["Content-Length: 100"], None).await;
    slow_body.send("x").await;
    assert!(silent.is_over().await);
    let _ = slow_head.reply(false).await;
    assert!(slow_head.is_over().await);
    assert_eq!(slow_body.reply(false).await.map(|r| r.status), Some(504));
    running.until("the upload to be kept", || running.site.area.parked().len() == 1).await;
}

#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_are_refused() {
    let running = start(options()).await;
    let login = basic("demo", "demo");
    let login = &login;
    for smuggled in [
        format!(
            "PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
        ),
        format!(
            "PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\nTransfer-Encoding: gzip\r\n\r\nhello"
        ),
        format!("PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\nContent-Length: -1\r\n\r\nhello"),
        format!("PUT /a HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\nX: a\r\n b: c\r\n\r\n"),
        "GET / HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(1000) + "\r\n",
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)),
    ] {
        let mut client = running.connect().await;
        client.send(smuggled.as_bytes()).await;
        let status = client.reply(false).await.map_or(400, |r| r.status);
        assert!((400..500).contains(&status), "{status}: {}", &smuggled[..60]);
    }
    assert!(running.site.store.stat(&p("/a"), Follow::No).await.is_err());
}

#[tokio::test]
async fn bodies_of_xml_are_bounded() {
    let running = start(WebdavServerOptions { max_body: 4096, ..options() }).await;
    let mut client = running.connect().await;
    let long = format!("<propfind xmlns='DAV:'>{}</propfind>", " ".repeat(5000));
    assert_eq!(client.ask("PROPFIND /", &["Depth: 0"], long.as_bytes()).await.status, 413);
    let mut client = running.connect().await;
    client.begin("PROPFIND /", &["Depth: 0", "Transfer-Encoding: chunked"], None).await;
    client.send(format!("1388\r\n{}\r\n", " ".repeat(5000))).await;
    assert_eq!(client.reply(false).await.unwrap().status, 413);
}
