//! The program against a Nextcloud as far as uploads in chunks go: what was begun and never ended is listed and thrown
//! away.
#![cfg(feature = "webdav")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use session_core::testing::http::{Answer, Request, Script, answer};
use session_core::testing::until;

const FILES: &str = "/remote.php/dav/files/al";
const UPLOADS: &str = "/remote.php/dav/uploads/al";
const SIZE: usize = 12 << 20;
const CHUNK: usize = 10 << 20;

/// Sizes of the chunks of each upload. Behind the first one the server says nothing.
type Uploads = BTreeMap<String, Vec<usize>>;

fn told(entries: &[(String, String)]) -> Answer {
    let mut body = "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">".to_owned();
    for (href, properties) in entries {
        body.push_str(&format!(
            "<D:response><D:href>{href}</D:href><D:propstat><D:prop>{properties}</D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        ));
    }
    answer(207, &["Content-Type: application/xml"], body + "</D:multistatus>")
}

fn nextcloud(uploads: &mut Uploads, r: &Request) -> Answer {
    let directory = "<D:resourcetype><D:collection/></D:resourcetype>\
                     <D:getlastmodified>Fri, 13 Feb 2009 23:31:30 GMT</D:getlastmodified>";
    let own = |path: &str| (format!("{path}/"), directory.to_owned());
    let target = r.target.trim_end_matches('/');
    let Some(below) = target.strip_prefix(UPLOADS) else {
        return match (r.method.as_str(), target == FILES) {
            ("OPTIONS", _) => answer(200, &["DAV: 1, 3", "Allow: GET, PUT"], ""),
            ("PROPFIND", true) => told(&[own(FILES)]),
            ("PROPFIND", false) => answer(404, &[], ""),
            _ => answer(405, &[], ""),
        };
    };
    let (id, number) =
        below.trim_start_matches('/').split_once('/').unwrap_or((below.trim_start_matches('/'), ""));
    match (r.method.as_str(), number) {
        ("PROPFIND", "") if id.is_empty() => {
            let all = uploads.keys().map(|id| own(&format!("{UPLOADS}/{id}")));
            told(&std::iter::once(own(UPLOADS)).chain(all).collect::<Vec<_>>())
        }
        ("MKCOL", "") => {
            uploads.insert(id.to_owned(), Vec::new());
            answer(201, &[], "")
        }
        ("PROPFIND", "") => {
            let Some(chunks) = uploads.get(id) else { return answer(404, &[], "") };
            let chunk = |(n, size): (usize, &usize)| {
                let length = format!("<D:resourcetype/><D:getcontentlength>{size}</D:getcontentlength>");
                (format!("{UPLOADS}/{id}/{:05}", n + 1), length)
            };
            let all = chunks.iter().enumerate().map(chunk);
            told(&std::iter::once(own(&format!("{UPLOADS}/{id}"))).chain(all).collect::<Vec<_>>())
        }
        ("PUT", "00001") if !r.torn => {
            uploads.get_mut(id).unwrap().push(r.body.len());
            answer(201, &[], "")
        }
        // Nobody answers.
        ("PUT", _) => Answer::Bytes(Vec::new()),
        ("DELETE", "") => {
            uploads.remove(id);
            answer(204, &[], "")
        }
        _ => answer(405, &[], ""),
    }
}

fn ferry(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
    command.args(args).current_dir(dir).env("XDG_STATE_HOME", dir.join("state"));
    command.env("XDG_RUNTIME_DIR", dir.join("run")).env("FERRY_PASSWORD", "secret");
    command
}

async fn ran(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = ferry(dir, args);
    let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_nextcloud_keeps_of_uploads_is_listed_and_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), vec![7; SIZE]).unwrap();
    let uploads: Arc<Mutex<Uploads>> = Arc::default();
    let kept = Arc::clone(&uploads);
    let server = Script::new(move |r| nextcloud(&mut kept.lock().unwrap(), r)).await;
    let url = format!("dav://al@{}{FILES}", server.address);
    // Killed when the server has the first chunk, and the journal says so.
    let mut child = ferry(dir.path(), &["put", "f", &format!("{url}/f")]).spawn().unwrap();
    let noted = || {
        let jobs = std::fs::read_dir(dir.path().join("state/ferry/jobs")).into_iter().flatten().flatten();
        jobs.filter_map(|e| std::fs::read_to_string(e.path()).ok()).any(|t| t.contains("nextcloud 1 "))
    };
    until("a chunk to be there", || uploads.lock().unwrap().values().any(|u| !u.is_empty()) && noted()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    uploads.lock().unwrap().insert("web-file-upload-1".into(), vec![3, 4]);

    // Of what this program has begun here it is known where it goes.
    let own = uploads.lock().unwrap().keys().find(|id| id.starts_with("ferry-")).unwrap().clone();
    let (code, said, told) = ran(dir.path(), &["uploads", &url]).await;
    assert_eq!(code, Some(0), "{told}");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].ends_with(&format!("{CHUNK} of {SIZE} {FILES}/f {own}")), "{said}");
    assert!(lines[1].ends_with("7 web-file-upload-1") && lines.len() == 2, "{said}");

    // Only what nobody has touched for so long, and nothing is thrown away without that word.
    let (_, said, _) = ran(dir.path(), &["uploads", "--older", "36500d", "--abort", &url]).await;
    assert_eq!((said.as_str(), uploads.lock().unwrap().len()), ("", 2));
    assert_eq!(ran(dir.path(), &["uploads", "--abort", &url]).await.0, Some(2));
    let (code, said, told) = ran(dir.path(), &["--json", "uploads", "--older", "1h", "--abort", &url]).await;
    assert_eq!((code, uploads.lock().unwrap().len()), (Some(0), 0), "{told}");
    let all = crate::lines::checked("uploads", &said);
    assert_eq!(all[0]["path"], format!("{FILES}/f"));
    assert_eq!((&all[0]["held"], &all[0]["size"]), (&CHUNK.into(), &SIZE.into()));
    assert!(all.iter().all(|u| u["aborted"] == true && u["touched"].is_string()), "{said}");

    // Elsewhere there is no such list.
    let (code, _, told) = ran(dir.path(), &["uploads", "."]).await;
    assert_ne!(code, Some(0));
    assert!(told.contains("keeps no list of uploads"), "{told}");
}
