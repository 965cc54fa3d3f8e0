//! Locks that the client holds (shown, refreshed, given back) and properties that it sets: against answers that are
//! written here, and against our own server.
#![cfg(all(feature = "client", feature = "server"))]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use proto_webdav::client::{WebdavConnectOptions, WebdavRemote, connect};
use session_core::auth::Secret;
use session_core::error::{ErrorKind, Result};
use session_core::fs::{CommitOptions, Filesystem, Follow, ListOptions, OpenOptions, Replace};
use session_core::locks::LockRequest;
use session_core::metadata::Attributes;
use session_core::testing::until;

use crate::scripted::{Answer, Request, Scripted, answer, decider, p, usual};
use crate::support::{Running, options, start};

fn request(deep: bool) -> LockRequest {
    LockRequest { exclusive: true, deep, words: "me & you".into(), time: Some(Duration::from_secs(60)) }
}

async fn write(remote: &WebdavRemote, path: &str, data: &'static [u8]) -> Result<()> {
    let options = OpenOptions { size_hint: Some(data.len() as u64), ..OpenOptions::create() };
    let file = remote.open(&p(path), &options).await?;
    file.write_at(0, Bytes::from_static(data)).await?;
    file.commit(&CommitOptions::default()).await.map(drop)
}

/// The lock is had, for two seconds.
fn locked() -> Answer {
    let body = "<D:prop xmlns:D='DAV:'><D:lockdiscovery><D:activelock><D:locktype><D:write/></D:locktype>\
                <D:lockscope><D:exclusive/></D:lockscope><D:depth>0</D:depth><D:timeout>Second-2</D:timeout>\
                <D:locktoken><D:href>urn:uuid:1</D:href></D:locktoken>\
                <D:lockroot><D:href>/f</D:href></D:lockroot></D:activelock></D:lockdiscovery></D:prop>";
    answer(200, &["Lock-Token: <urn:uuid:1>", "Content-Type: application/xml"], body)
}

fn of(server: &Scripted, method: &str) -> Vec<Request> {
    server.seen().into_iter().filter(|r| r.method == method).collect()
}

#[tokio::test]
async fn a_lock_is_shown_refreshed_and_given_back() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "LOCK" => locked(),
        "PUT" => answer(204, &[], ""),
        "UNLOCK" => answer(204, &[], ""),
        _ => usual(r, &[("/f", 1), ("/g", 1)]),
    })
    .await;
    let remote = server.remote().await;
    let lock = remote.lock(&p("/f"), &request(false)).await.unwrap();
    assert_eq!((&*lock.token, lock.left), ("urn:uuid:1", Duration::from_secs(2)));
    write(&remote, "/f", b"x").await.unwrap();
    write(&remote, "/g", b"x").await.unwrap();
    let puts: Vec<_> = of(&server, "PUT").iter().map(|r| r.header("if").to_owned()).collect();
    assert_eq!(puts, ["(<urn:uuid:1>)", ""]);
    until("the lock to be refreshed", || of(&server, "LOCK").len() > 1).await;
    let locks = of(&server, "LOCK");
    assert_eq!((locks[0].header("timeout"), locks[0].header("depth")), ("Second-60", "0"));
    assert!(String::from_utf8_lossy(&locks[0].body).contains("<D:owner>me &amp; you</D:owner>"));
    assert_eq!((locks[1].header("timeout"), locks[1].header("if")), ("Second-60", "(<urn:uuid:1>)"));
    assert!(locks[1].body.is_empty());
    remote.close().await;
    let last = server.seen().pop().unwrap();
    assert_eq!((last.line().as_str(), last.header("lock-token")), ("UNLOCK /f", "<urn:uuid:1>"));
}

#[tokio::test]
async fn what_was_to_be_done_under_a_lost_lock_is_not_done_without_it() {
    let locks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&locks);
    let server = Scripted::new(move |r| match r.method.as_str() {
        "LOCK" if count.fetch_add(1, Ordering::SeqCst) == 0 => locked(),
        "LOCK" => answer(412, &[], ""),
        "PUT" if !r.header("if").is_empty() => answer(412, &[], ""),
        "PUT" => answer(204, &[], ""),
        "UNLOCK" => answer(409, &[], ""),
        _ => usual(r, &[("/f", 1)]),
    })
    .await;
    let remote = server.remote().await;
    let lock = remote.lock(&p("/f"), &request(false)).await.unwrap();
    until("the lock to be refreshed", || locks.load(Ordering::SeqCst) > 1).await;
    let e = write(&remote, "/f", b"x").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PreconditionFailed, "{e:#}");
    let e = remote.unlock(&p("/f"), &lock.token).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PreconditionFailed);
    write(&remote, "/f", b"x").await.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_not_had_is_told_as_what_it_is() {
    let server = Scripted::new(|r| match (r.method.as_str(), r.target.as_str()) {
        ("LOCK", "/held") => answer(423, &[], ""),
        ("LOCK", "/below") => answer(
            207,
            &["Content-Type: application/xml"],
            "<D:multistatus xmlns:D='DAV:'><D:response><D:href>/below/a</D:href>\
             <D:status>HTTP/1.1 423 Locked</D:status></D:response></D:multistatus>",
        ),
        ("LOCK", "/odd") => answer(200, &["Lock-Token: <urn:uuid:9>"], "<html>"),
        ("LOCK", "/other") => answer(200, &["Lock-Token: <urn:uuid:9>"], "<D:prop xmlns:D='DAV:'/>"),
        _ => usual(r, &[]),
    })
    .await;
    let remote = server.remote().await;
    for (path, due) in [
        ("/held", ErrorKind::Locked),
        ("/below", ErrorKind::Locked),
        ("/odd", ErrorKind::PeerMisbehaved),
        ("/other", ErrorKind::PeerMisbehaved),
        ("/none", ErrorKind::Unsupported),
    ] {
        let e = remote.lock(&p(path), &request(true)).await.map(drop).unwrap_err();
        assert_eq!(e.kind(), due, "{path}");
    }
    remote.close().await;
    assert!(of(&server, "UNLOCK").is_empty());
}

// ---- against our server

async fn enter(server: &Running, user: &str) -> WebdavRemote {
    let mut options = WebdavConnectOptions::new("127.0.0.1", server.address.port());
    options.secure = false;
    options.user = Some(user.to_owned());
    options.password = Some(Secret::new("demo"));
    connect(options, decider()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_locked_is_changed_by_who_holds_it_and_by_nobody_else() {
    let server = start(options()).await;
    let (ours, theirs) = (enter(&server, "demo").await, enter(&server, "other").await);
    ours.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    let lock = ours.lock(&p("/d"), &request(true)).await.unwrap();
    assert!(lock.deep && lock.left > Duration::from_secs(50), "{lock:?}");
    for path in ["/d", "/d/f"] {
        let e = theirs.lock(&p(path), &request(false)).await.map(drop).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Locked, "{path}");
    }
    assert_eq!(write(&theirs, "/d/f", b"x").await.unwrap_err().kind(), ErrorKind::Locked);
    write(&ours, "/d/f", b"ours").await.unwrap();
    ours.create_dir(&p("/d/e"), &Attributes::none()).await.unwrap();
    ours.rename(&p("/d/f"), &p("/d/e/g"), Replace::No).await.unwrap();
    ours.copy(&p("/d/e/g"), &p("/d/h"), Replace::No).await.unwrap();
    let times = Attributes::times(None, Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000)));
    ours.set_attributes(&p("/d/h"), &times, Follow::Yes).await.unwrap();
    ours.remove_file(&p("/d/h")).await.unwrap();
    let longer = ours.refresh_lock(&p("/d"), &lock.token, Some(Duration::from_secs(300))).await.unwrap();
    assert!(longer.left > Duration::from_secs(200));
    // By another connection of the same user, only with the token.
    let again = enter(&server, "demo").await;
    assert_eq!(write(&again, "/d/f", b"x").await.unwrap_err().kind(), ErrorKind::Locked);
    // What shall stay outlives its connection, and another one can hold it.
    assert_eq!(ours.keep_lock("no such token"), None);
    let kept = ours.keep_lock(&lock.token).unwrap();
    assert!(kept.deep && kept.root == p("/d"), "{kept:?}");
    ours.close().await;
    assert_eq!(write(&theirs, "/d/f", b"x").await.unwrap_err().kind(), ErrorKind::Locked);
    again.hold_lock(kept);
    write(&again, "/d/f", b"again").await.unwrap();
    again.close().await;
    let (again, ours) = (enter(&server, "demo").await, enter(&server, "demo").await);
    assert_eq!(write(&theirs, "/d/f", b"x").await.unwrap_err().kind(), ErrorKind::Locked);
    again.unlock(&p("/d"), &lock.token).await.unwrap();
    write(&theirs, "/d/f", b"theirs").await.unwrap();
    let held = ours.lock(&p("/d/f"), &request(false)).await.unwrap();
    assert_eq!(write(&theirs, "/d/f", b"x").await.unwrap_err().kind(), ErrorKind::Locked);
    ours.close().await;
    write(&theirs, "/d/f", b"theirs").await.unwrap();
    let e = again.unlock(&p("/d/f"), &held.token).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_are_set_with_a_file_and_told_of_in_listings() {
    let server = start(options()).await;
    let remote = enter(&server, "demo").await;
    let element = &b"<p xmlns=\"urn:x\"><q>1</q></p>"[..];
    let properties = [("colour", &b"blue\0\xff"[..]), ("{urn:x}p", element), ("{urn:x}t", b"text")];
    let properties = properties.map(|(k, v)| (k.to_owned(), Some(Bytes::copy_from_slice(v))));
    let attributes = Attributes { properties: properties.clone().into(), ..Attributes::none() };
    remote.create_dir(&p("/d"), &attributes).await.unwrap();
    let options = OpenOptions { attributes, size_hint: Some(1), ..OpenOptions::create() };
    let file = remote.open(&p("/d/f"), &options).await.unwrap();
    file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    let due: Vec<_> = properties.into_iter().map(|(k, v)| (k, v.unwrap())).collect();
    for path in ["/d", "/d/f"] {
        let found = remote.stat(&p(path), Follow::Yes).await.unwrap().properties.unwrap();
        assert_eq!(found.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>(), due, "{path}");
    }
    let listing = ListOptions { properties: true, ..ListOptions::default() };
    let page = remote.list(&p("/d"), &listing).await.unwrap().next_page().await.unwrap().unwrap();
    let found = page[0].metadata.properties.clone().unwrap();
    // What is no text is left out there.
    assert_eq!(found.keys().collect::<Vec<_>>(), ["colour", "{urn:x}t"].iter().collect::<Vec<_>>());
    let none = Attributes { properties: [("colour".to_owned(), None)].into(), ..Attributes::none() };
    remote.set_attributes(&p("/d/f"), &none, Follow::Yes).await.unwrap();
    assert_eq!(remote.stat(&p("/d/f"), Follow::Yes).await.unwrap().properties.unwrap().len(), 2);
    let e = remote.set_attributes(&p("/missing"), &none, Follow::Yes).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}
