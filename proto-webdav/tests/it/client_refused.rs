//! Logins, redirects and failures of the client half, against a server whose every answer is written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use proto_webdav::client::connect;
use session_core::auth::Secret;
use session_core::error::{ErrorKind, Retry};
use session_core::fs::{Filesystem, Follow, OpenOptions};
use session_core::net::proxy::{Endpoint, Proxy};
use session_core::session::{Actor, Ending};

use crate::scripted::{
    Answer, DIRECTORY, Request, Scripted, answer, content, decider, multistatus, p, ranged, usual,
};

// ---- who is told what

/// Lets in only with an `Authorization` that begins so.
fn guarded(r: &Request, challenge: &str, begins: &str) -> Answer {
    if r.header("authorization").starts_with(begins) {
        return usual(r, &[("/f", 1)]);
    }
    answer(401, &[&format!("WWW-Authenticate: {challenge}")], "")
}

#[tokio::test]
async fn a_password_is_told_once_it_is_asked_for() {
    let server = Scripted::new(|r| guarded(r, "Basic realm=\"x\"", "Basic dTpw")).await;
    let mut options = server.options();
    options.user = Some("u".into());
    options.password = Some(Secret::new("p"));
    let remote = connect(options.clone(), decider()).await.unwrap();
    assert_eq!(remote.methods(), ["password"]);
    assert_eq!(server.seen()[0].header("authorization"), "");
    remote.stat(&p("/f"), Follow::Yes).await.unwrap();
    assert_eq!(server.seen().len(), 3);
    options.password = Some(Secret::new("wrong"));
    let e = connect(options.clone(), decider()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    assert!(!format!("{e:#} {e:?}").contains("wrong"));
    options.password = None;
    let e = connect(options.clone(), decider()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    let e = connect(server.options(), decider()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_digest_is_preferred_in_the_clear_and_renewed() {
    let nonce = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&nonce);
    let server = Scripted::new(move |r| {
        let nonce = format!("nonce=\"n{}\"", now.load(Ordering::SeqCst));
        let fits =
            r.header("authorization").starts_with("Digest ") && r.header("authorization").contains(&nonce);
        let stale = if r.header("authorization").is_empty() { "" } else { ", stale=true" };
        let challenge =
            format!("Basic realm=\"x\", Digest realm=\"x\", {nonce}, qop=\"auth\", algorithm=MD5{stale}");
        if fits {
            usual(r, &[("/f", 1)])
        } else {
            answer(401, &[&format!("WWW-Authenticate: {challenge}")], "")
        }
    })
    .await;
    let mut options = server.options();
    options.user = Some("u".into());
    options.password = Some(Secret::new("p"));
    let remote = connect(options, decider()).await.unwrap();
    remote.stat(&p("/f"), Follow::Yes).await.unwrap();
    nonce.store(2, Ordering::SeqCst);
    remote.stat(&p("/f"), Follow::Yes).await.unwrap();
    let seen = server.seen();
    assert!(seen.iter().all(|r| !r.header("authorization").starts_with("Basic")));
    let last = seen.last().unwrap().header("authorization").to_owned();
    assert!(
        last.contains("uri=\"/f\"") && last.contains("nc=00000001") && last.contains("nonce=\"n2\""),
        "{last}"
    );
}

#[tokio::test]
async fn a_password_does_not_go_in_the_clear_over_a_network() {
    // Through a proxy, even this machine is another one.
    let server = Scripted::new(|r| match r.method.as_str() {
        "CONNECT" => Answer::Bytes(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        _ => guarded(r, "Basic realm=\"x\"", "Basic dTpw"),
    })
    .await;
    let mut options = server.options();
    options.user = Some("u".into());
    options.password = Some(Secret::new("p"));
    options.proxy = Proxy::Http { at: Endpoint::new("127.0.0.1", server.address.port()), login: None };
    let e = connect(options.clone(), decider()).await.map(drop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused, "{e:#}");
    assert!(server.seen().iter().all(|r| r.header("authorization").is_empty()));
    options.secrets_in_the_clear = true;
    connect(options, decider()).await.unwrap();
}

#[tokio::test]
async fn only_redirects_on_this_server_are_followed() {
    let other = Scripted::new(|r| usual(r, &[("/f", 1)])).await;
    let there = format!("Location: http://127.0.0.1:{}/f", other.address.port());
    let server = Scripted::new(move |r| match (r.method.as_str(), r.target.as_str()) {
        ("PROPFIND", "/d") => answer(301, &["Location: /d/"], ""),
        ("PROPFIND", "/d/") => multistatus(&[("/d/", DIRECTORY)]),
        ("PROPFIND", "/away") => answer(307, &[&there], ""),
        ("PROPFIND", "/circle") => answer(302, &["Location: /circle"], ""),
        _ => guarded(r, "Basic realm=\"x\"", "Basic"),
    })
    .await;
    let mut options = server.options();
    options.user = Some("u".into());
    options.password = Some(Secret::new("p"));
    let remote = connect(options, decider()).await.unwrap();
    assert!(remote.stat(&p("/d"), Follow::Yes).await.unwrap().is_dir());
    for (path, due) in [("/away", ErrorKind::Refused), ("/circle", ErrorKind::PeerMisbehaved)] {
        let e = remote.stat(&p(path), Follow::Yes).await.unwrap_err();
        assert_eq!(e.kind(), due, "{e:#}");
    }
    assert_eq!(other.seen(), []);
}

// ---- failures

#[tokio::test]
async fn codes_are_kinds_with_their_hints_to_try_again() {
    let server = Scripted::new(|r| match r.target.as_str() {
        "/busy" => answer(503, &["Retry-After: 7"], ""),
        "/many" => answer(429, &["Retry-After: 3"], ""),
        "/locked" => answer(423, &[], ""),
        "/quota" => answer(
            507,
            &["Content-Type: application/xml"],
            "<D:error xmlns:D=\"DAV:\"><D:quota-not-exceeded/></D:error>",
        ),
        "/gone" => answer(410, &[], ""),
        "/away" => answer(502, &[], ""),
        "/page" => answer(200, &[], "<html>"),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    for (path, kind, retry) in [
        ("/busy", ErrorKind::Throttled, Retry::Later(Some(Duration::from_secs(7)))),
        ("/many", ErrorKind::Throttled, Retry::Later(Some(Duration::from_secs(3)))),
        ("/locked", ErrorKind::Locked, Retry::Later(None)),
        ("/quota", ErrorKind::QuotaExceeded, Retry::Never),
        ("/gone", ErrorKind::NotFound, Retry::Never),
        ("/away", ErrorKind::Disconnected, Retry::Later(None)),
        ("/page", ErrorKind::Unsupported, Retry::Never),
    ] {
        let e = remote.stat(&p(path), Follow::Yes).await.unwrap_err();
        assert_eq!((e.kind(), e.retry()), (kind, retry), "{path}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_a_look_nothing() {
    let server = Scripted::new(|r| match usual(r, &[("/f", 1)]) {
        // It says nothing of it.
        Answer::Bytes(bytes) if r.target == "/f" => Answer::Last(bytes),
        other => other,
    })
    .await;
    let remote = server.remote().await;
    for _ in 0..3 {
        remote.stat(&p("/f"), Follow::Yes).await.unwrap();
    }
    let connections: std::collections::BTreeSet<_> = server.seen().iter().map(|r| r.connection).collect();
    assert_eq!(connections.len(), 3);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Scripted::new(|r| usual(r, &[("/f", 1)])).await;
    let remote = server.remote().await;
    for _ in 0..5 {
        remote.stat(&p("/f"), Follow::Yes).await.unwrap();
        remote.stat(&p("/missing"), Follow::Yes).await.unwrap_err();
    }
    assert!(server.seen().iter().all(|r| r.connection == 1));
}

#[tokio::test]
async fn a_reader_makes_room_for_others_and_goes_on() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "GET" => ranged(r, &content(4_000_000), "\"v1\""),
        _ => usual(r, &[("/f", 4_000_000)]),
    })
    .await;
    let mut options = server.options();
    options.connections = 2;
    let remote = connect(options, decider()).await.unwrap();
    // More files than places, all begun, none read to its end.
    let known = OpenOptions { size_hint: Some(4_000_000), ..OpenOptions::read() };
    let mut files = Vec::new();
    for _ in 0..4 {
        let file = remote.open(&p("/f"), &known).await.unwrap();
        file.read_into(0, 100, BytesMut::new()).await.unwrap();
        files.push(file);
    }
    for file in files {
        let got = file.read_into(100, 100, BytesMut::new()).await.unwrap();
        assert_eq!(got, content(4_000_000)[100..200]);
    }
}

#[tokio::test]
async fn a_cut_ends_what_is_in_flight_at_once() {
    let server = Scripted::new(|r| match r.method.as_str() {
        // The body never comes.
        "GET" => Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
        _ => usual(r, &[("/f", 5)]),
    })
    .await;
    let remote = server.remote().await;
    let file = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
    let reading = tokio::spawn(async move { file.read_into(0, 5, BytesMut::new()).await });
    while server.seen().last().is_none_or(|r| r.method != "GET") {
        tokio::task::yield_now().await;
    }
    remote.session().cut(Ending::new("enough", Actor::Server));
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    let e = remote.stat(&p("/f"), Follow::Yes).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Canceled);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let server = Scripted::new(|r| match r.target.as_str() {
        "/silent" => Answer::Bytes(Vec::new()),
        _ => usual(r, &[]),
    })
    .await;
    let mut options = server.options();
    options.timeout = Duration::from_millis(300);
    let remote = connect(options, decider()).await.unwrap();
    let e = remote.stat(&p("/silent"), Follow::Yes).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
}
