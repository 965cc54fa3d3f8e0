//! Large uploads in chunks, against a server that takes them as Nextcloud does and keeps what it got.
#![cfg(feature = "client")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use proto_webdav::client::{WebdavRemote, connect};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Filesystem, OpenOptions};
use session_core::metadata::Attributes;
use session_core::testing::until;

use crate::scripted::{
    Answer, DIRECTORY, Request, Scripted, answer, content, decider, file, multistatus, p, usual,
};

const FILES: &str = "/remote.php/dav/files/al";
const UPLOADS: &str = "/remote.php/dav/uploads/al/";
const CHUNK: usize = 5 << 20;
const SIZE: usize = 2 * CHUNK + 12_345;

/// What the server keeps.
struct Nextcloud {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    uploads: Mutex<BTreeMap<String, BTreeMap<u64, Vec<u8>>>>,
    /// Chunks behind this number are refused.
    refuses: AtomicU64,
    /// There are no uploads in chunks.
    plain: AtomicBool,
    /// What stands in front of it gives up while a file is put together.
    impatient: AtomicBool,
}

impl Nextcloud {
    fn answer(&self, r: &Request) -> Answer {
        let target = r.target.trim_end_matches('/');
        if (r.method.as_str(), format!("{target}/").as_str()) == ("PROPFIND", UPLOADS) {
            let uploads = self.uploads.lock().unwrap();
            let time = "<D:getlastmodified>Fri, 13 Feb 2009 23:31:30 GMT</D:getlastmodified>";
            let mut all = vec![(UPLOADS.to_owned(), DIRECTORY.to_owned())];
            all.extend(uploads.keys().map(|id| (format!("{UPLOADS}{id}/"), format!("{DIRECTORY}{time}"))));
            return multistatus(&all.iter().map(|(h, p)| (h.as_str(), p.as_str())).collect::<Vec<_>>());
        }
        if let Some(rest) = target.strip_prefix(UPLOADS) {
            let (id, name) = rest.split_once('/').unwrap_or((rest, ""));
            return self.upload(r, id, name);
        }
        let mut files = self.files.lock().unwrap();
        match (r.method.as_str(), target.strip_prefix(FILES)) {
            ("OPTIONS", _) => answer(200, &["DAV: 1, 3", "Allow: GET, PUT, PROPPATCH"], ""),
            ("PROPFIND", Some("")) => {
                let id = "<o:id xmlns:o=\"http://owncloud.org/ns\">7</o:id>";
                multistatus(&[(&format!("{FILES}/"), &format!("{DIRECTORY}{id}"))])
            }
            ("PROPFIND", Some(name)) => match files.get(name) {
                Some(content) => multistatus(&[(target, &file(content.len()))]),
                None => answer(404, &[], ""),
            },
            ("PUT", Some(name)) if !r.torn => {
                files.insert(name.to_owned(), r.body.clone());
                answer(201, &["X-OC-MTime: accepted"], "")
            }
            ("PROPPATCH", Some(_)) => answer(200, &[], ""),
            _ => answer(405, &[], ""),
        }
    }

    fn upload(&self, r: &Request, id: &str, name: &str) -> Answer {
        let mut uploads = self.uploads.lock().unwrap();
        let to = r.header("destination").split_once(FILES).map(|(_, name)| name.to_owned());
        if r.method == "MKCOL" && !self.plain.load(Ordering::SeqCst) {
            uploads.insert(id.to_owned(), BTreeMap::new());
            return answer(if to.is_some() { 201 } else { 400 }, &[], "");
        }
        let Some(chunks) = uploads.get_mut(id) else { return answer(404, &[], "") };
        match (r.method.as_str(), name, to) {
            ("PROPFIND", "", _) => {
                let mut all = vec![(format!("{UPLOADS}{id}/"), DIRECTORY.to_owned())];
                if r.header("depth") == "1" {
                    all.push((format!("{UPLOADS}{id}/.file"), file(0)));
                    all.extend(chunks.iter().map(|(n, c)| (format!("{UPLOADS}{id}/{n:05}"), file(c.len()))));
                }
                multistatus(&all.iter().map(|(h, p)| (h.as_str(), p.as_str())).collect::<Vec<_>>())
            }
            ("PUT", number, Some(_)) => {
                let number: u64 = number.parse().unwrap();
                assert_eq!(r.header("oc-total-length"), SIZE.to_string());
                if number > self.refuses.load(Ordering::SeqCst) {
                    return answer(507, &[], "");
                }
                if !r.torn {
                    chunks.insert(number, r.body.clone());
                }
                answer(201, &[], "")
            }
            ("MOVE", ".file", Some(to)) => {
                let mut files = self.files.lock().unwrap();
                if r.header("overwrite") == "F" && files.contains_key(&to) {
                    return answer(412, &[], "");
                }
                let whole: Vec<u8> = chunks.values().flatten().copied().collect();
                if r.header("oc-total-length") != whole.len().to_string() {
                    return answer(400, &[], "");
                }
                files.insert(to, whole);
                uploads.remove(id);
                let status = if self.impatient.load(Ordering::SeqCst) { 504 } else { 201 };
                answer(status, &["X-OC-MTime: accepted"], "")
            }
            ("DELETE", "", _) => {
                uploads.remove(id);
                answer(204, &[], "")
            }
            _ => answer(405, &[], ""),
        }
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.files.lock().unwrap().get(name).cloned()
    }

    fn uploads(&self) -> usize {
        self.uploads.lock().unwrap().len()
    }
}

async fn start() -> (Arc<Nextcloud>, Scripted) {
    let kept = Arc::new(Nextcloud {
        files: Mutex::default(),
        uploads: Mutex::default(),
        refuses: AtomicU64::new(u64::MAX),
        plain: AtomicBool::new(false),
        impatient: AtomicBool::new(false),
    });
    let answering = Arc::clone(&kept);
    (kept, Scripted::new(move |r| answering.answer(r)).await)
}

async fn enter(server: &Scripted) -> WebdavRemote {
    let mut options = server.options();
    options.home = p(FILES);
    options.chunk = CHUNK as u64;
    connect(options, decider()).await.unwrap()
}

fn anew() -> OpenOptions {
    OpenOptions { size_hint: Some(SIZE as u64), ..OpenOptions::create() }
}

async fn open(remote: &WebdavRemote, options: &OpenOptions) -> Arc<dyn File> {
    remote.open(&p(&format!("{FILES}/f")), options).await.unwrap()
}

async fn write(file: &dyn File, data: &[u8]) -> Result<()> {
    for (n, piece) in data.chunks(1 << 20).enumerate() {
        file.write_at((n as u64) << 20, Bytes::copy_from_slice(piece)).await?;
    }
    Ok(())
}

/// Writes and commits all of it, with a time.
async fn put(file: &dyn File) -> Result<()> {
    write(file, &content(SIZE)).await?;
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let attributes = Attributes::times(None, Some(time));
    let done = file.commit(&CommitOptions { attributes, expected_size: Some(SIZE as u64) }).await?;
    assert_eq!(done.size, SIZE as u64);
    Ok(())
}

/// What was sent to uploads, in the order of its arrival.
fn sent(server: &Scripted) -> Vec<String> {
    let seen = server.seen();
    let uploads = seen.iter().filter_map(|r| Some((r, r.path().strip_prefix(UPLOADS)?)));
    uploads
        .map(|(r, rest)| {
            format!("{} {}", r.method, rest.trim_end_matches('/').split('/').nth(1).unwrap_or(""))
        })
        .collect()
}

#[tokio::test]
async fn a_large_file_goes_in_chunks_and_a_small_one_in_one_piece() {
    let (kept, server) = start().await;
    let remote = enter(&server).await;
    assert!(remote.capabilities().whole_files);
    put(&*open(&remote, &anew()).await).await.unwrap();
    assert!(kept.file("/f").unwrap() == content(SIZE));
    let mut all = sent(&server);
    all[1..4].sort();
    assert_eq!(all, ["MKCOL ", "PUT 00001", "PUT 00002", "PUT 00003", "MOVE .file"]);
    let moved = server.seen().into_iter().find(|r| r.method == "MOVE").unwrap();
    assert_eq!((moved.header("x-oc-mtime"), moved.header("overwrite")), ("1000000000", "T"));
    let small = OpenOptions { size_hint: Some(3), ..OpenOptions::create() };
    let file = open(&remote, &small).await;
    assert_eq!(file.keep().await.unwrap(), None);
    write(&*file, b"abc").await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!((kept.file("/f").unwrap(), sent(&server).len()), (b"abc".to_vec(), 5));
}

#[tokio::test]
async fn an_upload_that_is_kept_goes_on_in_another_process() {
    let (kept, server) = start().await;
    kept.refuses.store(2, Ordering::SeqCst);
    let words = {
        let remote = enter(&server).await;
        let file = open(&remote, &anew()).await;
        let unfinished = file.keep().await.unwrap().unwrap();
        write(&*file, &content(SIZE)).await.unwrap();
        // What is on its way when something fails may arrive or not.
        let chunks = || kept.uploads.lock().unwrap().values().map(BTreeMap::len).sum::<usize>();
        until("two chunks to be there", || chunks() == 2).await;
        let e = file.commit(&CommitOptions::default()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NoSpace);
        drop(file);
        remote.close().await;
        unfinished.words
    };
    assert_eq!((kept.uploads(), kept.file("/f")), (1, None));
    kept.refuses.store(u64::MAX, Ordering::SeqCst);
    // Of a chunk that is not whole nothing is believed.
    kept.uploads.lock().unwrap().values_mut().next().unwrap().get_mut(&2).unwrap().truncate(100);
    let before = sent(&server).len();
    let remote = enter(&server).await;
    let file = open(&remote, &OpenOptions { unfinished: Some(words), ..anew() }).await;
    put(&*file).await.unwrap();
    assert_eq!(file.keep().await.unwrap().unwrap().spared, CHUNK as u64);
    assert!(kept.file("/f").unwrap() == content(SIZE));
    let mut all = sent(&server).split_off(before);
    all[1..3].sort();
    assert_eq!(all, ["PROPFIND ", "PUT 00002", "PUT 00003", "MOVE .file"]);
    assert_eq!(kept.uploads(), 0);
}

#[tokio::test]
async fn what_is_given_up_is_thrown_away_unless_it_is_kept() {
    let (kept, server) = start().await;
    let remote = enter(&server).await;
    let file = open(&remote, &anew()).await;
    write(&*file, &content(CHUNK)).await.unwrap();
    drop(file);
    until("the upload to be gone", || kept.uploads() == 0).await;
    // Kept, it stays through a drop, and goes with an abort.
    let file = open(&remote, &anew()).await;
    let words = file.keep().await.unwrap().unwrap().words;
    write(&*file, &content(CHUNK)).await.unwrap();
    file.park().await.unwrap();
    drop(file);
    let file = open(&remote, &OpenOptions { unfinished: Some(Arc::clone(&words)), ..anew() }).await;
    assert_eq!(kept.uploads(), 1);
    file.abort().await.unwrap();
    assert_eq!(kept.uploads(), 0);
    // One that is gone begins anew.
    let file = open(&remote, &OpenOptions { unfinished: Some(Arc::clone(&words)), ..anew() }).await;
    assert_ne!(file.keep().await.unwrap().unwrap().words, words);
    let words = file.keep().await.unwrap().unwrap().words;
    drop(file);
    // Of another size it is of no use.
    let other = OpenOptions { unfinished: Some(words), size_hint: Some(10), ..anew() };
    drop(open(&remote, &other).await);
    assert_eq!(kept.uploads(), 0);
    assert_eq!(kept.file("/f"), None);
}

#[tokio::test]
async fn what_was_begun_and_never_ended_is_listed_and_thrown_away() {
    let (kept, server) = start().await;
    let remote = enter(&server).await;
    assert_eq!(remote.uploads().await.unwrap(), []);
    let file = open(&remote, &anew()).await;
    let words = file.keep().await.unwrap().unwrap().words;
    write(&*file, &content(CHUNK)).await.unwrap();
    // What is on its way when nobody waits for it may arrive or not.
    let chunks = || kept.uploads.lock().unwrap().values().map(BTreeMap::len).sum::<usize>();
    until("a chunk to be there", || chunks() == 1).await;
    file.park().await.unwrap();
    drop(file);
    // Somebody else's program has other names for chunks, and for uploads.
    let foreign = BTreeMap::from([(1, vec![0; 10]), (2, vec![0; 20])]);
    kept.uploads.lock().unwrap().insert("web-file-upload-1".into(), foreign);
    let found = remote.uploads().await.unwrap();
    let held: Vec<_> = found.iter().map(|u| (u.held, u.size_by(&words))).collect();
    assert_eq!(held, [(CHUNK as u64, Some(SIZE as u64)), (30, None)]);
    assert!(found.iter().all(|u| u.touched == Some(UNIX_EPOCH + Duration::from_secs(1_234_567_890))));
    remote.abort_upload(&found[0]).await.unwrap();
    remote.abort_upload(&found[0]).await.unwrap();
    assert_eq!(remote.uploads().await.unwrap(), found[1..]);
}

#[tokio::test]
async fn a_server_of_no_such_kind_has_no_list_of_uploads() {
    let server = Scripted::new(|r| usual(r, &[])).await;
    let remote = server.remote().await;
    assert_eq!(remote.uploads().await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_server_without_uploads_in_chunks_gets_the_file_in_one_piece() {
    let (kept, server) = start().await;
    kept.plain.store(true, Ordering::SeqCst);
    let remote = enter(&server).await;
    for _ in 0..2 {
        put(&*open(&remote, &anew()).await).await.unwrap();
        assert!(kept.file("/f").unwrap() == content(SIZE));
    }
    assert_eq!(sent(&server), ["MKCOL "]);
}

#[tokio::test]
async fn what_is_put_together_without_an_answer_is_looked_for() {
    let (kept, server) = start().await;
    kept.impatient.store(true, Ordering::SeqCst);
    let remote = enter(&server).await;
    put(&*open(&remote, &anew()).await).await.unwrap();
    assert!(kept.file("/f").unwrap() == content(SIZE));
}

#[tokio::test]
async fn a_file_that_is_there_meanwhile_is_not_replaced() {
    let (kept, server) = start().await;
    let remote = enter(&server).await;
    let file = open(&remote, &OpenOptions { exclusive: true, ..anew() }).await;
    kept.files.lock().unwrap().insert("/f".to_owned(), b"theirs".to_vec());
    let e: Error = put(&*file).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    file.abort().await.unwrap();
    until("the upload to be gone", || kept.uploads() == 0).await;
    assert_eq!(kept.file("/f").unwrap(), b"theirs");
}
