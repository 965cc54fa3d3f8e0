//! The program against a store of S3: uploads that are killed, gone on with and thrown away.
#![cfg(feature = "s3")]

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::scripted::keeping::{Keeping, keeping};
use crate::scripted::{Answer, Scripted, answer, error, listing};

const SIZE: usize = 20 << 20;

fn ferry(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(args).current_dir(dir).env("XDG_STATE_HOME", dir.join("state"));
    command.env("XDG_RUNTIME_DIR", dir.join("run")).env("FERRY_PASSWORD", "s3cr3t");
    command
}

/// What the program printed; it must succeed.
async fn ran(dir: &Path, args: &[&str]) -> (String, String) {
    let mut command = ferry(dir, args);
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, told) = (text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{args:?}: {said}{told}");
    (said, told)
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills an upload of which the first of three parts has arrived, and whose journal says so.
async fn killed(dir: &Path, store: &Keeping, args: &[&str]) {
    let id = format!(" up{}\"", store.uploads.load(Ordering::SeqCst) + 1);
    store.parts.lock().unwrap().clear();
    store.busy.store(1, Ordering::SeqCst);
    let child = ferry(dir, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = Reaped(child);
    let begin = Instant::now();
    let noted = || {
        let jobs = std::fs::read_dir(dir.join("state/ferry/jobs")).into_iter().flatten().flatten();
        jobs.filter_map(|e| std::fs::read_to_string(e.path()).ok()).any(|t| t.contains(&id))
    };
    while !(store.parts.lock().unwrap().contains_key(&1) && noted()) {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not move");
        assert!(child.0.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    store.busy.store(u64::MAX, Ordering::SeqCst);
}

fn sent(server: &Scripted, from: usize) -> Vec<String> {
    let mut sent: Vec<_> = server.lines().split_off(from);
    sent.retain(|l| l.contains("partNumber="));
    sent.sort();
    sent
}

async fn world() -> (tempfile::TempDir, std::sync::Arc<Keeping>, Scripted, String) {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..SIZE).map(|n| (n / 251 + n) as u8).collect();
    std::fs::write(dir.path().join("f"), content).unwrap();
    let (store, server) = keeping().await;
    let url = format!("s3plain://AKIATEST@{}/bucket/f", server.address);
    (dir, store, server, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_killed_goes_on_by_resume_and_by_the_same_command() {
    for again in ["resume", "put"] {
        let (dir, store, server, url) = world().await;
        let put = ["put", "--s3-class", "STANDARD_IA", "f", url.as_str()];
        killed(dir.path(), &store, &put).await;
        let (listed, _) = ran(dir.path(), &["jobs"]).await;
        assert!(listed.contains("interrupted") && listed.contains("1 unfinished"), "{listed}");
        let before = server.seen().len();
        let args: &[&str] = if again == "resume" { &["resume"] } else { &put };
        let (_, told) = ran(dir.path(), args).await;
        assert_eq!(told.contains("going on with"), again == "put", "{told}");
        // Of what was under way when it was killed any part may have arrived; the first one had.
        let rest = ["PUT /bucket/f uploadId=up1 partNumber=2", "PUT /bucket/f uploadId=up1 partNumber=3"];
        let sent = sent(&server, before);
        assert!(sent.iter().all(|line| rest.contains(&line.as_str())), "{sent:?}");
        let all: Vec<u8> = store.parts.lock().unwrap().values().flatten().copied().collect();
        assert!(all == std::fs::read(dir.path().join("f")).unwrap());
        let (listed, _) = ran(dir.path(), &["--json", "jobs"]).await;
        let job = crate::lines::checked("jobs", &listed).remove(0);
        assert_eq!((&job["standing"], &job["unfinished"]), (&"done".into(), &0.into()));
        assert!(!server.lines().iter().any(|l| l.starts_with("DELETE")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_changed_goes_anew_and_what_is_forgotten_is_thrown_away() {
    let (dir, store, server, url) = world().await;
    let put = ["put", "f", url.as_str()];
    killed(dir.path(), &store, &put).await;
    // Of the same size, but written meanwhile.
    std::fs::write(dir.path().join("f"), vec![7; SIZE]).unwrap();
    let before = server.seen().len();
    // Anew under an upload of its own; the old one is swept.
    let (said, _) = ran(dir.path(), &put).await;
    assert!(said.contains("note:") && said.contains("has changed"), "{said}");
    assert_eq!(sent(&server, before).len(), 3);
    let thrown = "DELETE /bucket/f uploadId=up1".to_owned();
    assert!(server.lines().contains(&thrown));

    killed(dir.path(), &store, &put).await;
    let (listed, _) = ran(dir.path(), &["--json", "jobs"]).await;
    let jobs = crate::lines::checked("jobs", &listed);
    let job = jobs.iter().find(|j| j["unfinished"] == 1).unwrap()["job"].as_str().unwrap();
    ran(dir.path(), &["jobs", "forget", job]).await;
    assert!(server.lines().contains(&"DELETE /bucket/f uploadId=up3".to_owned()), "{:?}", server.lines());
}

/// A store with one object, whose tags it keeps.
async fn tagged() -> (Scripted, String) {
    let tags = std::sync::Mutex::new("<Tag><Key>a</Key><Value>1</Value></Tag>".to_owned());
    let server = Scripted::new(move |r| match (r.method.as_str(), r.parameter("tagging").is_some()) {
        ("GET", true) => {
            let set = tags.lock().unwrap().clone();
            answer(200, &[], format!("<Tagging><TagSet>{set}</TagSet></Tagging>"))
        }
        ("PUT", true) => {
            let text = String::from_utf8(r.body.clone()).unwrap();
            let set = text.split_once("<TagSet>").unwrap().1.split_once("</TagSet>").unwrap().0;
            set.clone_into(&mut tags.lock().unwrap());
            answer(200, &[], "")
        }
        ("DELETE", true) => {
            tags.lock().unwrap().clear();
            answer(204, &[], "")
        }
        ("HEAD", _) if r.path() == "/bucket/f" => Answer::Bytes(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"e\"\r\nContent-Type: text/plain\r\n\
              Last-Modified: Sat, 21 Nov 2026 17:00:00 GMT\r\nx-amz-meta-colour: blue\r\n\r\n"
                .to_vec(),
        ),
        ("HEAD", _) => Answer::Bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("PUT", _) => answer(200, &[], "<CopyObjectResult><ETag>&quot;n&quot;</ETag></CopyObjectResult>"),
        ("GET", _) if r.parameter("acl").is_some() => error(501, "NotImplemented", &[]),
        ("GET", _) => listing(&[], &[], None),
        _ => error(501, "NotImplemented", &[]),
    })
    .await;
    let url = format!("s3plain://AKIATEST@{}/bucket/f", server.address);
    (server, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_objects_is_shown_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, url) = tagged().await;
    let (told, _) = ran(dir.path(), &["--json", "stat", &url]).await;
    let entry = &crate::lines::checked("stat", &told)[0];
    let said = serde_json::json!({
        "content_type": "text/plain", "class": "STANDARD", "metadata": { "colour": "blue" }, "tags": { "a": "1" },
    });
    assert_eq!((&entry["size"], &entry["s3"]), (&3.into(), &said), "an ACL it does not have");
    let (told, _) = ran(dir.path(), &["stat", &url]).await;
    for line in ["  media     text/plain", "  metadata  colour=blue", "  tag       a=1"] {
        assert!(told.lines().any(|l| l == line), "{told}");
    }

    assert_eq!(ran(dir.path(), &["tag", &url]).await.0, "a=1\n");
    let more = ["tag", "--set", "b=2", "--set", "c=x=y", "--unset", "a", url.as_str()];
    assert_eq!(ran(dir.path(), &more).await.0, "");
    assert_eq!(ran(dir.path(), &["tag", &url]).await.0, "b=2\nc=x=y\n");
    let (told, _) = ran(dir.path(), &["--json", "tag", "--clear", "--set", "d=4", &url]).await;
    assert_eq!(crate::lines::checked("tag", &told)[0]["tags"], serde_json::json!({ "d": "4" }));
    ran(dir.path(), &["tag", "--clear", &url]).await;
    assert_eq!(ran(dir.path(), &["tag", &url]).await.0, "");
    // What is so already is not written again.
    let before = server.seen().len();
    ran(dir.path(), &["tag", "--unset", "none", &url]).await;
    assert!(server.seen()[before..].iter().all(|r| r.method != "PUT"));

    let alter = ["alter", "--s3-class", "STANDARD_IA", "--s3-meta", "shape=round", "--unset", "colour", &url];
    ran(dir.path(), &alter).await;
    let copy = server.seen().into_iter().rfind(|r| r.method == "PUT").unwrap();
    assert_eq!(
        (copy.header("x-amz-storage-class"), copy.header("x-amz-meta-shape")),
        ("STANDARD_IA", "round")
    );
    assert_eq!((copy.header("content-type"), copy.header("x-amz-meta-colour")), ("text/plain", ""));
    // Nothing is wanted, and nothing is there.
    for (args, code) in [(["alter", &url], 2), (["tag", dir.path().to_str().unwrap()], 7)] {
        let mut command = ferry(dir.path(), &args);
        let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reaches_what_is_said_of_objects() {
    let (server, _) = tagged().await;
    let session = client::session::Session::new();
    let (options, _) =
        client::session::parse_script_url(&format!("s3plain://AKIATEST:s3cr3t@{}/bucket/", server.address))
            .unwrap();
    session.open(options, std::sync::Arc::new(session_core::batch::Unattended)).await.unwrap();
    let about = session.about("/bucket/f").await.unwrap();
    assert_eq!(about.content_type.as_deref(), Some("text/plain"));
    let mut tags = session.tags("/bucket/f").await.unwrap();
    tags.insert("b".into(), "2".into());
    session.set_tags("/bucket/f", &tags).await.unwrap();
    assert_eq!(session.tags("/bucket/f").await.unwrap(), tags);
    let e = session.about("/bucket/none").await.unwrap_err();
    assert_eq!(e.kind(), session_core::error::ErrorKind::NotFound);
    session.close().await.unwrap();
}
