//! The driver over a small store and a pipe: content, endings, bounds, what a live view shows.
#![cfg(feature = "server")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::*;
use async_trait::async_trait;
use bytes::Bytes;
use proto_sftp::wire::extension::{self, CheckFile, Checked, Extended};
use proto_sftp::wire::{Attrs, Reply, Request};
use session_core::error::{Error, ErrorKind, Result};
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationKind, OperationSet};
use session_core::session::{Actor, Ending};
use tokio::io::AsyncWriteExt;

fn b(s: &str) -> Bytes {
    Bytes::from(s.to_owned())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 1000) as u8).collect()
}

#[tokio::test]
async fn a_megabyte_goes_up_and_comes_back_whole() {
    for (seed, room) in [(0, 1 << 20), (7, 4096), (9, 100_000)] {
        let store = if seed == 0 { Store::new() } else { Store::with_jitter(seed) };
        let content = pattern(1 << 20);
        let fs = guarded(&store, vec![]);
        let session = Arc::clone(fs.session());
        let mut c = Client::connect(fs, room).await;
        let h = c.open("/big", WRITE | CREATE | TRUNCATE).await;
        let mut sent = 0;
        for (i, chunk) in content.chunks(32 * 1024).enumerate() {
            let data = Bytes::copy_from_slice(chunk);
            c.send(i as u32, &[Request::Write { handle: h.clone(), offset: (i * 32 * 1024) as u64, data }])
                .await;
            sent += 1;
        }
        for (_, reply) in c.replies(sent).await {
            assert_eq!(code(&reply), Some(0));
        }
        assert_eq!(store.content("/big"), None, "nothing appears before CLOSE");
        assert_eq!(code(&c.ask(Request::Close { handle: h }).await), Some(0));
        assert!(store.content("/big").unwrap() == content);

        let h = c.open("/big", READ).await;
        let reads: Vec<_> = (0..32u64)
            .map(|i| Request::Read { handle: h.clone(), offset: i * 32 * 1024, len: 32 * 1024 })
            .collect();
        c.send(0, &reads).await;
        let mut back = Vec::new();
        for (_, reply) in c.replies(32).await {
            let Reply::Data(data) = reply else { panic!("{reply:?}") };
            back.extend_from_slice(&data);
        }
        assert!(back == content);
        let end = c.ask(Request::Read { handle: h, offset: 1 << 20, len: 10 }).await;
        assert_eq!(code(&end), Some(1));
        assert_eq!(session.stats().uploaded.load(Ordering::SeqCst), 1 << 20);
        assert_eq!(session.stats().downloaded.load(Ordering::SeqCst), 1 << 20);
        c.finish().await.unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_opens_end_at_the_limit_with_words() {
    let store = Store::new();
    store.put("/f", b"x");
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 20).await;
    let mut handles = Vec::new();
    let mut refused = 0;
    for round in 0..100u32 {
        let open = Request::Open { path: b("/f"), flags: READ, attrs: Attrs::default() };
        c.send(round * 100, &vec![open; 100]).await;
        for (_, reply) in c.replies(100).await {
            match reply {
                Reply::Handle(h) => handles.push(h),
                Reply::Status { code: 4, message, .. } => {
                    assert!(message.starts_with(b"too many open handles"));
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((handles.len(), refused), (1024, 10_000 - 1024));
    assert_eq!(code(&c.ask(Request::Close { handle: handles.pop().unwrap() }).await), Some(0));
    c.open("/f", READ).await;
    c.finish().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_reading() {
    let store = Store::new();
    store.put("/f", &pattern(4 << 20));
    let mut c = Client::connect(guarded(&store, vec![]), 64 * 1024).await;
    let h = c.open("/f", READ).await;
    let reads: Vec<_> = (0..1000u64)
        .map(|i| Request::Read { handle: h.clone(), offset: (i % 16) << 18, len: 255 * 1024 })
        .collect();
    let (mut to, requests) = (c.to, reads.clone());
    let sending = tokio::spawn(async move {
        let mut out = bytes::BytesMut::new();
        for (i, r) in requests.iter().enumerate() {
            r.encode(i as u32, &mut out);
        }
        to.write_all(&out).await.unwrap();
        to
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = store.reads.load(Ordering::SeqCst);
    assert!((1..20).contains(&begun), "{begun} reads were made for a client that takes nothing");
    let (dummy, _other) = tokio::io::duplex(1);
    c.to = tokio::io::split(dummy).1;
    let replies = c.replies(1000).await;
    assert!(replies.values().all(|r| matches!(r, Reply::Data(d) if d.len() == 255 * 1024)));
    c.to = sending.await.unwrap();
    c.finish().await.unwrap();
}

#[tokio::test]
async fn the_end_without_close_parks_and_close_before_the_end_publishes() {
    let store = Store::with_jitter(3);
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 16).await;
    let kept = c.open("/kept", WRITE | CREATE | TRUNCATE).await;
    let done = c.open("/done", WRITE | CREATE | TRUNCATE).await;
    c.send(
        0,
        &[
            Request::Write { handle: kept, offset: 0, data: b("half") },
            Request::Write { handle: done.clone(), offset: 0, data: b("whole") },
            Request::Close { handle: done },
        ],
    )
    .await;
    // No reply is waited for: what was sent is carried out all the same.
    c.finish().await.unwrap();
    assert_eq!(store.content("/done").as_deref(), Some(&b"whole"[..]));
    assert_eq!(store.content("/kept"), None);
    assert_eq!(*store.endings.lock().unwrap(), ["commit /done", "park /kept"]);
}

#[tokio::test]
async fn the_verdict_is_the_status_of_close() {
    let store = Store::new();
    store.put("/f", b"old");
    *store.veto.lock().unwrap() = Some(Error::refused("no such uploads"));
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 16).await;
    let h = c.open("/f", WRITE | CREATE | TRUNCATE).await;
    let written = c.ask(Request::Write { handle: h.clone(), offset: 0, data: b("new") }).await;
    assert_eq!(code(&written), Some(0));
    let Reply::Status { code, message, .. } = c.ask(Request::Close { handle: h }).await else { panic!() };
    assert_eq!((code, &message[..]), (3, &b"no such uploads"[..]));
    assert_eq!(store.content("/f").as_deref(), Some(&b"old"[..]));
    c.finish().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_published() {
    let store = Store::new();
    store.put("/f", b"old");
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 16).await;
    let h = c.open("/f", WRITE | CREATE | TRUNCATE).await;
    *store.full.lock().unwrap() = Some(ErrorKind::NoSpace.into());
    assert_eq!(code(&c.ask(Request::Write { handle: h.clone(), offset: 0, data: b("x") }).await), Some(4));
    *store.full.lock().unwrap() = None;
    assert_eq!(code(&c.ask(Request::Write { handle: h.clone(), offset: 1, data: b("y") }).await), Some(0));
    assert_eq!(code(&c.ask(Request::Close { handle: h }).await), Some(4));
    assert_eq!(store.content("/f").as_deref(), Some(&b"old"[..]));
    assert_eq!(*store.endings.lock().unwrap(), ["park /f"]);
    c.finish().await.unwrap();
}

#[tokio::test]
async fn a_cut_ends_the_driver_at_once_and_parks() {
    let store = Store::new();
    store.put("/f", b"x");
    let fs = guarded(&store, vec![]);
    let session = Arc::clone(fs.session());
    let mut c = Client::connect(fs, 1 << 16).await;
    let up = c.open("/up", WRITE | CREATE | TRUNCATE).await;
    c.ask(Request::Write { handle: up, offset: 0, data: b("part") }).await;
    let h = c.open("/f", READ).await;
    store.stuck.store(true, Ordering::SeqCst);
    c.send(1, &[Request::Read { handle: h, offset: 0, len: 1 }]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    session.cut(Ending::new("enough", Actor::Server));
    let end =
        tokio::time::timeout(Duration::from_millis(500), c.server).await.expect("ends at once").unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(*store.endings.lock().unwrap(), ["park /up"]);
}

#[tokio::test]
async fn a_broken_frame_ends_the_session_after_the_replies() {
    let store = Store::new();
    store.put("/f", b"x");
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 16).await;
    c.send(1, &[Request::Stat { path: b("/f") }]).await;
    c.to.write_all(&[0xff; 64]).await.unwrap();
    let replies = c.replies(1).await;
    assert!(matches!(replies[&1], Reply::Attrs(_)));
    assert!(c.packet().await.is_none(), "the pipe is closed");
    assert_eq!(c.server.await.unwrap().unwrap_err().kind(), ErrorKind::PeerMisbehaved);
}

#[tokio::test]
async fn a_large_directory_comes_complete_in_small_packets() {
    let store = Store::with_jitter(5);
    store.mkdir("/d");
    for i in 0..3000 {
        store.put(&format!("/d/a rather long name of a file {i:05}"), b"x");
    }
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 16).await;
    let Reply::Handle(h) = c.ask(Request::Opendir { path: b("/d") }).await else { panic!() };
    let mut names = Vec::new();
    loop {
        // Pipelined, as quick clients do.
        c.send(0, &vec![Request::Readdir { handle: h.clone() }; 4]).await;
        let mut ended = false;
        for (_, reply) in c.replies(4).await {
            let mut out = bytes::BytesMut::new();
            reply.encode(0, &mut out);
            assert!(out.len() < 34_000, "{} bytes", out.len());
            match reply {
                Reply::Name(page) => names.extend(page.into_iter().map(|n| n.name)),
                reply => {
                    assert_eq!(code(&reply), Some(1));
                    ended = true;
                }
            }
        }
        if ended {
            break;
        }
    }
    assert_eq!(names.len(), 3000);
    assert!(names.is_sorted(), "in the store's order");
    c.finish().await.unwrap();
}

#[tokio::test]
async fn digests_and_copies() {
    let store = Store::new();
    store.put("/abc", b"abc");
    store.put("/big", &pattern(600_000));
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 20).await;
    // Known answers for "abc".
    for (algorithm, hex) in [
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("crc32", "352441c2"),
        ("blake3", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
        (
            "sha384",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            "sha512",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ] {
        let check = CheckFile { algorithms: b(algorithm), ..CheckFile::default() };
        let by_name = c.ask(Request::Extended(Extended::CheckFileName { path: b("/abc"), check })).await;
        let Reply::Extended(body) = by_name else { panic!("{by_name:?}") };
        let checked = Checked::decode(body).unwrap();
        assert_eq!(checked.algorithm, algorithm);
        let shown: String = checked.digests.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(shown, hex, "{algorithm}");
    }
    // Blocks: each is the digest of its part, the last one shorter.
    let h = c.open("/big", READ).await;
    let blocks = CheckFile { algorithms: b("md5"), offset: 0, len: 0, block_size: 250_000 };
    let Reply::Extended(body) = c
        .ask(Request::Extended(Extended::CheckFileHandle { handle: h.clone(), check: blocks, old: false }))
        .await
    else {
        panic!()
    };
    let in_blocks = Checked::decode(body).unwrap().digests;
    assert_eq!(in_blocks.len(), 3 * 16);
    for (i, offset) in [0u64, 250_000, 500_000].into_iter().enumerate() {
        let one = CheckFile { algorithms: b("md5"), offset, len: 250_000, block_size: 0 };
        let Reply::Extended(body) = c
            .ask(Request::Extended(Extended::CheckFileHandle { handle: h.clone(), check: one, old: true }))
            .await
        else {
            panic!()
        };
        assert_eq!(Checked::decode(body).unwrap().digests, in_blocks[i * 16..i * 16 + 16]);
    }
    // A copy on the server, from an offset to the end.
    let to = c.open("/copy", WRITE | CREATE | TRUNCATE).await;
    let copy = Extended::CopyData {
        read_handle: h,
        read_offset: 1000,
        read_len: 0,
        write_handle: to.clone(),
        write_offset: 0,
    };
    assert_eq!(code(&c.ask(Request::Extended(copy)).await), Some(0));
    assert_eq!(code(&c.ask(Request::Close { handle: to }).await), Some(0));
    assert!(store.content("/copy").unwrap() == pattern(600_000)[1000..]);
    c.finish().await.unwrap();
}

#[tokio::test]
async fn limits_tell_what_is_kept() {
    let store = Store::new();
    let mut c = Client::connect(guarded(&store, vec![]), 1 << 20).await;
    let Reply::Extended(body) = c.ask(Request::Extended(Extended::Limits)).await else { panic!() };
    let limits = extension::decode_limits(body).unwrap();
    assert_eq!(limits.max_open_handles, 1024);
    let h = c.open("/f", READ | WRITE | CREATE | TRUNCATE).await;
    let data = Bytes::from(vec![1; limits.max_write_len as usize]);
    assert_eq!(
        code(&c.ask(Request::Write { handle: h.clone(), offset: 0, data: data.clone() }).await),
        Some(0)
    );
    let read = Request::Read { handle: h, offset: 0, len: limits.max_read_len as u32 };
    assert_eq!(c.ask(read).await, Reply::Data(data));
    c.finish().await.unwrap();
}

struct NoRemoval;

#[async_trait]
impl Interceptor for NoRemoval {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::RemoveFile])
    }

    async fn before(&self, _: &Cx<'_>, _: Operation<'_>) -> Result<()> {
        Err(Error::refused("files stay here"))
    }
}

#[tokio::test]
async fn hooks_refuse_and_a_live_view_sees_commands_and_errors() {
    let store = Store::new();
    store.put("/f", b"x");
    let fs = guarded(&store, vec![Arc::new(NoRemoval)]);
    let session = Arc::clone(fs.session());
    let mut c = Client::connect(fs, 1 << 16).await;
    assert_eq!(session.last_command(), "INIT 3");
    let Reply::Status { code: status, message, .. } = c.ask(Request::Remove { path: b("f") }).await else {
        panic!()
    };
    assert_eq!((status, &message[..]), (3, &b"files stay here"[..]));
    assert_eq!(session.last_command(), "REMOVE /f");
    assert!(session.last_error().contains("files stay here"));
    let h = c.open("/f", READ).await;
    assert_eq!(session.last_command(), "OPEN /f");
    store.stuck.store(true, Ordering::SeqCst);
    c.send(1, &[Request::Read { handle: h, offset: 0, len: 1 }]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let snapshot = session.snapshot();
    assert_eq!(snapshot.current_command, "READ /f");
    assert_eq!(snapshot.last_error_status, 3);
    session.block_next("not now");
    let refused = c.ask(Request::Stat { path: b("/f") }).await;
    assert_eq!(code(&refused), Some(3));
    // A request that reaches no gate is an error in the view as well.
    c.ask(Request::Stat { path: b("/a\0b") }).await;
    assert!(session.last_error().contains("NUL"));
    session.cut(Ending::new("done", Actor::Client));
}
