//! Checksums of S3's kind at stores that take them, leave them unread, and refuse them.
#![cfg(feature = "client")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proto_s3::client::{Checksums, Lack, Learns, S3ConnectOptions, S3Remote, connect};
use session_core::error::ErrorKind;
use session_core::fs::{CommitOptions, Filesystem as _, OpenOptions};

use crate::scripted::{Answer, Request, Scripted, answer, decider, error, listing, p};

const PART: usize = 5 << 20;

/// What a store does with a checksum that it is sent.
#[derive(Clone, Copy, PartialEq)]
enum Store {
    Repeats,
    IsDeaf,
    Refuses(u16, &'static str),
    /// In parts only: it begins an upload that announces them.
    RefusesInParts,
}

fn is_summed(r: &Request) -> bool {
    r.headers.keys().any(|h| h.starts_with("x-amz-checksum"))
}

fn answered(store: Store, r: &Request) -> Answer {
    let sum = r.header("x-amz-checksum-crc32");
    match (r.method.as_str(), store) {
        ("PUT" | "POST", Store::Refuses(status, code)) if is_summed(r) => return error(status, code, &[]),
        ("PUT", Store::RefusesInParts) if is_summed(r) => return error(501, "NotImplemented", &[]),
        _ => {}
    }
    let repeated = format!("x-amz-checksum-crc32: {sum}");
    match r.method.as_str() {
        "PUT" if store == Store::Repeats && !sum.is_empty() => answer(200, &["ETag: \"e\"", &repeated], ""),
        "PUT" => answer(200, &["ETag: \"e\""], ""),
        "POST" if r.parameter("uploads").is_some() => answer(
            200,
            &[],
            "<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>",
        ),
        "POST" => answer(
            200,
            &[],
            "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>",
        ),
        "DELETE" => answer(204, &[], ""),
        "GET" => listing(&[], &[], None),
        _ => answer(200, &[], ""),
    }
}

async fn put(remote: &S3Remote, name: &str, size: usize) {
    let options = OpenOptions { size_hint: Some(size as u64), ..OpenOptions::create() };
    let file = remote.open(&p(name), &options).await.unwrap();
    file.write_at(0, Bytes::from(vec![7; size])).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
}

/// Writes files of these sizes to such a store: of each request that writes, whether it had a checksum, and whether
/// the parts of uploads were named with theirs at the end.
async fn written(store: Store, sizes: &[usize]) -> (String, bool) {
    let server = Scripted::new(move |r| answered(store, r)).await;
    let mut options = server.options();
    (options.part_size, options.parallel) = (PART as u64, 1);
    let remote = connect(options, decider()).await.unwrap();
    for (n, size) in sizes.iter().enumerate() {
        put(&remote, &format!("/bucket/{n}"), *size).await;
    }
    let seen = server.seen();
    let writes = seen.iter().filter(|r| r.method == "PUT" || r.parameter("uploads").is_some());
    let told = writes.map(|r| if is_summed(r) { 'S' } else { '-' }).collect();
    let ends = seen.iter().filter(|r| r.method == "POST" && r.parameter("uploadId").is_some());
    (told, ends.into_iter().any(|r| String::from_utf8_lossy(&r.body).contains("ChecksumCRC32")))
}

#[tokio::test]
async fn a_store_that_repeats_them_gets_them() {
    assert_eq!(written(Store::Repeats, &[1, 1, 1]).await, ("SSS".into(), false));
    // Begun, two parts, and another file.
    assert_eq!(written(Store::Repeats, &[PART + 1, 1]).await, ("SSSS".into(), true));
}

#[tokio::test]
async fn a_store_that_leaves_them_unread_gets_one() {
    assert_eq!(written(Store::IsDeaf, &[1, 1, 1]).await, ("S--".into(), false));
    assert_eq!(written(Store::IsDeaf, &[PART + 1, 1]).await, ("SS--".into(), false));
}

#[tokio::test]
async fn a_store_that_refuses_them_is_asked_once_more() {
    for (status, code) in [
        (501, "NotImplemented"),
        (400, "InvalidArgument"),
        (400, "XAmzContentSHA256Mismatch"),
        (403, "SignatureDoesNotMatch"),
    ] {
        let store = Store::Refuses(status, code);
        assert_eq!(written(store, &[1, 1, 1]).await, ("S---".into(), false), "{code}");
        // Begun twice, two parts, and another file.
        assert_eq!(written(store, &[PART + 1, 1]).await, ("S----".into(), false), "{code}");
    }
}

#[tokio::test]
async fn a_store_may_refuse_them_as_late_as_in_parts() {
    // Begun, the first part twice, the second, and another file.
    assert_eq!(written(Store::RefusesInParts, &[PART + 1, 1]).await, ("SS---".into(), false));
}

#[tokio::test]
async fn what_a_store_has_not_is_told_once_and_not_asked_for_again() {
    for (store, first) in
        [(Store::IsDeaf, "S--"), (Store::Refuses(501, "NotImplemented"), "S---"), (Store::Repeats, "SSS")]
    {
        let server = Scripted::new(move |r| answered(store, r)).await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut options = server.options();
        let heard = Arc::clone(&told);
        options.learns = Learns::new(move |lack| heard.lock().unwrap().push(lack));
        let writes = async |options: S3ConnectOptions| {
            let before = server.seen().len();
            let remote = connect(options, decider()).await.unwrap();
            for n in 0..3 {
                put(&remote, &format!("/bucket/{n}"), 1).await;
            }
            let seen = server.seen().split_off(before);
            let puts = seen.iter().filter(|r| r.method == "PUT");
            puts.map(|r| if is_summed(r) { 'S' } else { '-' }).collect::<String>()
        };
        assert_eq!(writes(options.clone()).await, first);
        let lacks = told.lock().unwrap().clone();
        let due = if store == Store::Repeats { vec![] } else { vec![Lack::Checksums] };
        assert_eq!(lacks, due, "{first}");
        options.lacks = lacks;
        let again = if store == Store::Repeats { "SSS" } else { "---" };
        assert_eq!(writes(options.clone()).await, again, "{first}");
        // Who asks for them gets them.
        if store == Store::IsDeaf {
            options.checksums = Checksums::Always;
            assert_eq!(writes(options).await, "SSS");
        }
        assert_eq!(told.lock().unwrap().len(), due.len(), "{first}");
    }
}

#[tokio::test]
async fn a_refusal_for_another_reason_is_told() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "PUT" => error(400, "InvalidStorageClass", &[]),
        _ => answered(Store::Repeats, r),
    })
    .await;
    let remote = connect(server.options(), decider()).await.unwrap();
    let file = remote.open(&p("/bucket/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"abc")).await.unwrap();
    let e = file.commit(&CommitOptions::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    let puts: Vec<_> = server.seen().iter().filter(|r| r.method == "PUT").map(is_summed).collect();
    assert_eq!(puts, [true, false], "it was tried without, and nothing was learned");
}
