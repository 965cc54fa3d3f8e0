//! Uploads in parts whose session ends, and whose server does.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use proto_s3::server::S3ServerOptions;
use session_core::error::Result;
use session_core::event::{Direction, TransferEnd, What};
use session_core::fs::*;
use session_core::layer::{FileLayer, Layer};
use session_core::session::{Actor, Ending};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;

use crate::server_multipart::{Conn, begin, commits, complete, list, send, tag_of};
use crate::support::*;

/// Ends every session, as an administrator does.
async fn end_all(server: &Running) {
    for session in server.site.registry.list() {
        session.cut(Ending::new("over", Actor::Server));
    }
    server.until("all are over", || server.site.registry.list().is_empty()).await;
}

async fn parts_of(c: &mut Conn, key: &str, id: &str) -> Vec<(String, String)> {
    let listed = c.get(&format!("/data/{key}?uploadId={id}")).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    let tags = listed.all("ETag").into_iter().map(|tag| tag.replace("&quot;", "\""));
    listed.all("PartNumber").into_iter().zip(tags).collect()
}

/// How the uses of files ended that were uploads.
fn ends(server: &Running) -> Vec<TransferEnd> {
    let notes = server.site.notes.0.lock().unwrap();
    let end = |e: &session_core::event::Event| match &e.what {
        What::Transfer(record) if record.direction == Direction::Upload => Some(record.end),
        _ => None,
    };
    notes.iter().filter_map(end).collect()
}

#[tokio::test]
async fn an_upload_goes_on_in_another_session_of_its_account() {
    let idle = Some(Duration::from_secs(1));
    let server = start(S3ServerOptions { idle, hold: Duration::ZERO, ..options() }).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    let id = begin(&mut c, "a").await;
    let one = send(&mut c, "a", &id, 1, b"one, ").await;
    // Its session is idle as any other, and what it was doing is kept.
    server.until("the session is over", || server.site.registry.list().is_empty()).await;
    let mut c = server.connect().await;
    assert_eq!(c.get("/data?uploads").await.all("UploadId"), std::slice::from_ref(&id));
    assert_eq!(parts_of(&mut c, "a", &id).await, [("1".to_owned(), one.clone())]);
    assert_eq!(c.get("/data/a").await.status, 404);
    let mut other = server.connect().await.is("KEY-other");
    for line in [
        format!("PUT /data/a?partNumber=2&uploadId={id}"),
        format!("GET /data/a?uploadId={id}"),
        format!("DELETE /data/a?uploadId={id}"),
    ] {
        assert_eq!(other.ask(&line, &[], "").await.failure(), (404, "NoSuchUpload".into()), "{line}");
    }
    assert!(other.get("/data?uploads").await.all("UploadId").is_empty());
    let two = send(&mut c, "a", &id, 2, b"two, ").await;
    // One that is ended in the midst of a part takes that part with it and no more.
    let head = c.signer.as_ref().unwrap().head(
        &format!("PUT /data/a?partNumber=3&uploadId={id}"),
        &[],
        &sign::sha256(b"three"),
    );
    c.send(format!("{head}Content-Length: 5\r\n\r\nth")).await;
    end_all(&server).await;
    let mut c = server.connect().await;
    let three = send(&mut c, "a", &id, 3, b"three").await;
    let done = complete(&mut c, "a", &id, &[(1, &one), (2, &two), (3, &three)]).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(c.get("/data/a").await.text(), "one, two, three");
    server.until("what was cut has ended", || ends(&server).len() == 3).await;
    let parked = |end: &&TransferEnd| matches!(end, TransferEnd::Parked);
    assert_eq!((ends(&server).iter().filter(parked).count(), commits(&server)), (2, 1));
    assert!(server.site.store.staged().await.unwrap().is_empty());
    // It is over.
    assert_eq!(c.get(&format!("/data/a?uploadId={id}")).await.failure(), (404, "NoSuchUpload".into()));
    // One that is thrown away elsewhere than where it began leaves nothing.
    let id = begin(&mut c, "b").await;
    send(&mut c, "b", &id, 1, b"x").await;
    end_all(&server).await;
    let mut c = server.connect().await;
    assert_eq!(c.ask(&format!("DELETE /data/b?uploadId={id}"), &[], "").await.status, 204);
    assert!(server.site.store.staged().await.unwrap().is_empty());
}

/// A store that promises nothing of what is staged, as those of other servers.
struct Forgetful(MemoryStore);

#[async_trait]
impl Layer for Forgetful {
    fn inner(&self) -> &dyn Filesystem {
        &self.0
    }

    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        let (id, file) = self.0.stage(stage).await?;
        Ok((id, Arc::new(Forgotten(file))))
    }
}

struct Forgotten(Arc<dyn File>);

#[async_trait]
impl FileLayer for Forgotten {
    fn inner(&self) -> &dyn File {
        &*self.0
    }

    async fn keep(&self) -> Result<Option<Unfinished>> {
        Ok(None)
    }
}

#[tokio::test]
async fn where_nothing_can_be_kept_an_upload_ends_with_its_session_and_holds_it() {
    let strangers = |anonymous: &str| S3ServerOptions {
        anonymous: Some(anonymous.into()),
        idle: Some(Duration::from_millis(500)),
        hold: Duration::ZERO,
        ..options()
    };
    let forgetful = || TestSite::over(Arc::new(Forgetful(MemoryStore::new())));
    for (site, signed) in [(forgetful(), true), (TestSite::in_memory(), false)] {
        let server = start_site(strangers("guest"), site).await;
        let connect = async || {
            let mut c = server.connect().await;
            c.signer = c.signer.take().filter(|_| signed);
            c
        };
        let mut c = connect().await;
        c.put("/data", "").await;
        let id = begin(&mut c, "a").await;
        // Its session is not idle, however long nothing comes.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let mut c = connect().await;
        send(&mut c, "a", &id, 1, b"x").await;
        end_all(&server).await;
        let mut c = connect().await;
        let part = c.ask(&format!("PUT /data/a?partNumber=2&uploadId={id}"), &[], "x").await;
        assert_eq!(part.failure(), (404, "NoSuchUpload".into()));
        assert_eq!(c.get("/data/a").await.status, 404);
        assert!(c.get("/data?uploads").await.all("UploadId").is_empty());
    }
}

/// A server over a folder, as after the end of the one before: nothing is left of that but what is on the disk.
async fn over(dir: &Path, more: S3ServerOptions) -> (Running, Conn) {
    let store = dir.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let site = TestSite::over(Arc::new(LocalStore::open(store, LocalOptions::default()).unwrap()));
    site.area.recover().await.unwrap();
    let options = S3ServerOptions { uploads_at: Some(dir.join("uploads")), ..more };
    let server = start_site(options, site).await;
    let c = server.connect().await;
    (server, c)
}

fn only(dir: &Path) -> std::path::PathBuf {
    let mut all = std::fs::read_dir(dir).unwrap();
    all.next().unwrap().unwrap().path()
}

#[tokio::test]
async fn an_upload_goes_on_when_the_server_begins_again() {
    let parts: [&[u8]; 3] = [&[b'a'; 5000], &[b'b'; 5000], b"the end"];
    // In order; backwards, so that the whole has to be put in order.
    for order in [[0, 1, 2], [2, 1, 0]] {
        let dir = tempfile::tempdir().unwrap();
        let (_first, mut c) = over(dir.path(), options()).await;
        c.put("/data", "").await;
        c.put("/data/a", "old").await;
        let id = begin(&mut c, "a").await;
        if order[0] == 0 {
            send(&mut c, "a", &id, 1, &[b'x'; 5000]).await;
        }
        let mut tags = vec![String::new(); 3];
        for i in order.into_iter().take(2) {
            tags[i] = send(&mut c, "a", &id, u32::try_from(i + 1).unwrap(), parts[i]).await;
        }
        let before = parts_of(&mut c, "a", &id).await;
        let ledger = only(&dir.path().join("uploads"));
        let (second, mut c) = over(dir.path(), options()).await;
        assert_eq!(c.get("/data/a").await.text(), "old");
        assert_eq!(c.get("/data?uploads").await.all("UploadId"), std::slice::from_ref(&id));
        assert_eq!(parts_of(&mut c, "a", &id).await, before);
        let mut other = second.connect().await.is("KEY-other");
        let part = other.ask(&format!("PUT /data/a?partNumber=3&uploadId={id}"), &[], "x").await;
        assert_eq!(part.failure(), (404, "NoSuchUpload".into()));
        let last = order[2];
        tags[last] = send(&mut c, "a", &id, u32::try_from(last + 1).unwrap(), parts[last]).await;
        let named: Vec<_> = (1..).zip(tags.iter().map(String::as_str)).collect();
        let written = std::fs::read(&ledger).unwrap();
        let done = complete(&mut c, "a", &id, &named).await;
        assert_eq!(done.status, 200, "{order:?}: {}", done.text());
        assert!(!ledger.exists());
        let got = c.get("/data/a").await;
        assert!(got.body == parts.concat(), "{order:?}");
        assert_eq!(got.field("etag"), Some(tag_of(&parts).as_str()));
        assert_eq!(got.field("x-amz-meta-a"), Some("b"));
        assert!(second.site.store.staged().await.unwrap().is_empty());
        // A server that was killed when it had published, before it said so: whoever asks again is told.
        std::fs::write(&ledger, written).unwrap();
        let (_third, mut c) = over(dir.path(), options()).await;
        let again = complete(&mut c, "a", &id, &named).await;
        assert_eq!((again.status, again.one("ETag")), (200, done.one("ETag")));
        assert!(c.get("/data?uploads").await.all("UploadId").is_empty());
        assert!(!ledger.exists());
    }
}

#[tokio::test]
async fn a_part_that_a_power_cut_took_has_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_first, mut c) = over(dir.path(), options()).await;
    c.put("/data", "").await;
    let id = begin(&mut c, "a").await;
    let one = send(&mut c, "a", &id, 1, b"one").await;
    let two = send(&mut c, "a", &id, 2, b"two").await;
    let stage = dir.path().join("store/.ferry-stage");
    let staged = std::fs::read_dir(stage).unwrap().map(|e| e.unwrap().path());
    let staged = staged.into_iter().find(|path| path.extension().is_none()).unwrap();
    assert_eq!(std::fs::read(&staged).unwrap(), b"onetwo");
    std::fs::write(&staged, b"one\0\0\0").unwrap();
    let (_second, mut c) = over(dir.path(), options()).await;
    let named = [(1, one.as_str()), (2, two.as_str())];
    assert_eq!(complete(&mut c, "a", &id, &named).await.failure(), (400, "InvalidPart".into()));
    assert_eq!(parts_of(&mut c, "a", &id).await, [("1".to_owned(), one.clone())]);
    send(&mut c, "a", &id, 2, b"two").await;
    assert_eq!(complete(&mut c, "a", &id, &named).await.status, 200);
    assert_eq!(c.get("/data/a").await.text(), "onetwo");
}

#[tokio::test]
async fn an_upload_of_a_former_run_is_swept_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (_first, mut c) = over(dir.path(), options()).await;
    c.put("/data", "").await;
    let (old, new) = (begin(&mut c, "old").await, begin(&mut c, "new").await);
    let file = dir.path().join(format!("uploads/{old}.upload"));
    let then = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().append(true).open(&file).unwrap().set_modified(then).unwrap();
    let short = S3ServerOptions { upload_time: Duration::from_secs(1800), ..options() };
    let (_second, mut c) = over(dir.path(), short).await;
    assert_eq!(c.get("/data?uploads").await.all("UploadId"), [new]);
    assert!(!file.exists());
    let done = c.ask(&format!("POST /data/old?uploadId={old}"), &[], list(&[(1, "\"x\"")])).await;
    assert_eq!(done.failure(), (404, "NoSuchUpload".into()));
}

#[tokio::test]
async fn an_upload_whose_content_is_gone_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (_first, mut c) = over(dir.path(), options()).await;
    c.put("/data", "").await;
    let id = begin(&mut c, "a").await;
    let one = send(&mut c, "a", &id, 1, b"one").await;
    std::fs::remove_dir_all(dir.path().join("store/.ferry-stage")).unwrap();
    let (_second, mut c) = over(dir.path(), options()).await;
    let done = complete(&mut c, "a", &id, &[(1, &one)]).await;
    assert_eq!(done.failure(), (404, "NoSuchUpload".into()));
    assert!(c.get("/data?uploads").await.all("UploadId").is_empty());
    assert_eq!(c.get("/data/a").await.status, 404);
    assert_eq!(std::fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
}
