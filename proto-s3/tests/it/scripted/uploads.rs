//! Uploads in parts that outlive their file: kept, gone on with by another connection, thrown away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proto_s3::client::{S3Remote, connect};
use session_core::error::ErrorKind;
use session_core::fs::{CommitOptions, Filesystem as _, OpenOptions};
use session_core::session::{Actor, Ending};

use super::{MIB, content, parts, write};
use crate::scripted::keeping::keeping;
use crate::scripted::{Request, Scripted, answer, decider, p};

async fn in_parts(server: &Scripted) -> S3Remote {
    let mut options = server.options();
    options.part_size = 5 * MIB as u64;
    connect(options, decider()).await.unwrap()
}

fn of_size(size: usize, unfinished: Option<&str>) -> OpenOptions {
    let unfinished = unfinished.map(Into::into);
    OpenOptions { size_hint: Some(size as u64), unfinished, ..OpenOptions::create() }
}

#[tokio::test]
async fn an_upload_that_is_kept_is_gone_on_with_by_another() {
    let (store, server) = keeping().await;
    let data = content(22 * MIB + 5);
    let remote = in_parts(&server).await;
    let file = remote.open(&p("/bucket/f"), &of_size(data.len(), None)).await.unwrap();
    let kept = file.keep().await.unwrap().unwrap();
    assert_eq!((file.keep().await.unwrap(), kept.spared), (Some(kept.clone()), 0));
    write(&*file, &data[..21 * MIB]).await;
    let arrived = async {
        while store.parts.lock().unwrap().len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap();
    drop(file);
    remote.close().await;
    // One did not arrive, and another is not what it should be.
    store.parts.lock().unwrap().remove(&2);
    store.parts.lock().unwrap().get_mut(&3).unwrap()[7] ^= 1;
    let before = server.seen().len();

    // Parts of another size are usual by now; this upload has its own.
    let remote = server.remote().await;
    let file = remote.open(&p("/bucket/f"), &of_size(data.len(), Some(&kept.words))).await.unwrap();
    write(&*file, &data).await;
    let done = CommitOptions { expected_size: Some(data.len() as u64), ..CommitOptions::default() };
    file.commit(&done).await.unwrap();
    let again = file.keep().await.unwrap().unwrap();
    assert_eq!((again.words, again.spared), (kept.words, 10 * MIB as u64));
    assert_eq!(file.abort().await.unwrap_err().kind(), ErrorKind::Closed);
    let lines: Vec<_> = server.seen().split_off(before).iter().map(Request::line).collect();
    let mut sent: Vec<_> = lines.iter().filter_map(|l| l.split("partNumber=").nth(1)).collect();
    sent.sort_unstable();
    assert_eq!(sent, ["2", "3", "5"]);
    assert!(lines.last().unwrap().starts_with("POST /bucket/f uploadId=up1"), "{lines:?}");
    let all: Vec<u8> = store.parts.lock().unwrap().values().flatten().copied().collect();
    assert!(all == data);
    let completed = String::from_utf8(server.seen().last().unwrap().body.clone()).unwrap();
    assert_eq!(completed.matches("<PartNumber>").count(), 5, "{completed}");
    assert!(lines.iter().all(|l| !l.starts_with("DELETE")), "{lines:?}");
}

#[tokio::test]
async fn an_upload_that_is_of_no_use_is_begun_anew() {
    let size = 11 * MIB;
    for (gone, asked) in [(true, size), (false, size + 1)] {
        let (store, server) = keeping().await;
        let remote = in_parts(&server).await;
        let file = remote.open(&p("/bucket/f"), &of_size(size, None)).await.unwrap();
        let kept = file.keep().await.unwrap().unwrap();
        file.park().await.unwrap();
        store.gone.store(gone, Ordering::SeqCst);
        let file = remote.open(&p("/bucket/f"), &of_size(asked, Some(&kept.words))).await.unwrap();
        let another = file.keep().await.unwrap().unwrap();
        assert_ne!(another.words, kept.words);
        let thrown = server.lines().contains(&"DELETE /bucket/f uploadId=up1".to_owned());
        assert_eq!(thrown, !gone, "what is there is not left there");
        file.abort().await.unwrap();
        assert!(server.lines().contains(&"DELETE /bucket/f uploadId=up2".to_owned()));
    }
    // Words that are not ours, and one that is not worth it.
    let (_, server) = keeping().await;
    let remote = in_parts(&server).await;
    let file = remote.open(&p("/bucket/f"), &of_size(3, Some("what is this"))).await.unwrap();
    assert_eq!(file.keep().await.unwrap(), None);
    file.write_at(0, Bytes::from_static(b"abc")).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(server.seen().last().unwrap().line(), "PUT /bucket/f");
}

#[tokio::test]
async fn an_upload_that_is_kept_ends_with_an_abort_whatever_failed() {
    let size = 11 * MIB;
    for failing in ["nothing", "a part", "its size", "its end"] {
        let (store, server) = keeping().await;
        let remote = in_parts(&server).await;
        let file = remote.open(&p("/bucket/f"), &of_size(size, None)).await.unwrap();
        file.keep().await.unwrap().unwrap();
        let mut wrong = CommitOptions::default();
        match failing {
            "nothing" => {}
            "a part" => {
                store.refuses.store(0, Ordering::SeqCst);
                write(&*file, &content(6 * MIB)).await;
                let e = file.commit(&wrong).await.unwrap_err();
                assert_eq!(e.kind(), ErrorKind::PermissionDenied);
            }
            "its size" => {
                wrong.expected_size = Some(7);
                assert!(file.commit(&wrong).await.is_err());
            }
            _ => {
                remote.session().close(Ending::new("over", Actor::Client)).await;
                assert!(file.commit(&wrong).await.is_err());
                assert!(file.abort().await.is_err(), "what cannot be thrown away is told");
                continue;
            }
        }
        file.abort().await.unwrap();
        let lines = server.lines();
        assert_eq!(lines.iter().filter(|l| l.starts_with("DELETE")).count(), 1, "{failing}: {lines:?}");
    }
}

#[tokio::test]
async fn uploads_that_were_never_finished_are_listed_and_thrown_away() {
    let server = Scripted::new(|r| match (r.parameter("uploads"), r.parameter("key-marker")) {
        (Some(_), None) => answer(
            200,
            &[],
            "<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <NextKeyMarker>d/a%2Bb</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>\
             <Upload><Key>d/a%2Bb</Key><UploadId>1</UploadId><Initiated>2026-11-21T17:00:00.000Z</Initiated></Upload>\
             </ListMultipartUploadsResult>",
        ),
        (Some(_), Some("d%2Fa%2Bb")) => answer(
            200,
            &[],
            "<ListMultipartUploadsResult><Upload><Key>d/c</Key><UploadId>2</UploadId></Upload>\
             <Upload><Key>dc</Key><UploadId>3</UploadId></Upload></ListMultipartUploadsResult>",
        ),
        _ => parts(r, |_| false),
    })
    .await;
    let remote = server.remote().await;
    let all = remote.uploads(&p("/bucket/d")).await.unwrap();
    let found: Vec<_> = all.iter().map(|u| (u.key.as_str(), u.id.as_str(), u.begun.is_some())).collect();
    assert_eq!(found, [("d/a+b", "1", true), ("d/c", "2", false)]);
    remote.abort_upload(&all[0]).await.unwrap();
    assert_eq!(server.seen().last().unwrap().line(), "DELETE /bucket/d/a%2Bb uploadId=1");
    assert_eq!(remote.uploads(&p("/")).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
