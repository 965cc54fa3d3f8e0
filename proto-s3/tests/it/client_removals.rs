//! Removals that go together (DeleteObjects), and those that do not, against a store whose every answer is written
//! here. One thread: whatever is asked for side by side is gathered before anything is sent.
#![cfg(feature = "client")]

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use proto_s3::client::{Lack, Learns, S3Remote, connect};
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind};
use session_core::fs::{Algorithm, Filesystem as _};
use session_core::fs_ext::FilesystemExt as _;

use crate::scripted::{Answer, Request, Scripted, answer, decider, error, head, listing, p};

/// A store with these objects, as a listing tells them; `delete` answers removals of several.
async fn store(
    keys: &'static [&'static str],
    delete: impl Fn(&[String]) -> Answer + Send + Sync + 'static,
) -> Scripted {
    Scripted::new(move |r| match r.method.as_str() {
        "GET" => listing(&keys.iter().map(|k| (*k, 1)).collect::<Vec<_>>(), &[], None),
        "HEAD" if r.path().matches('/').count() > 1 => head(1, "e"),
        "HEAD" => answer(200, &[], ""),
        "POST" if r.parameter("delete").is_some() => delete(&named(r)),
        "DELETE" if r.path().ends_with("/kept") => error(403, "AccessDenied", &[]),
        "DELETE" => answer(204, &[], ""),
        _ => error(501, "NotImplemented", &[]),
    })
    .await
}

/// The keys that a request is to remove.
fn named(r: &Request) -> Vec<String> {
    let text = String::from_utf8(r.body.clone()).unwrap();
    let keys = text.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0);
    keys.map(|k| k.replace("&lt;", "<").replace("&amp;", "&")).collect()
}

fn told(errors: &[(&str, &str)]) -> Answer {
    let errors = errors
        .iter()
        .map(|(key, code)| format!("<Error>{key}<Code>{code}</Code><Message>words of it</Message></Error>"));
    answer(
        200,
        &["Content-Type: application/xml"],
        format!("<DeleteResult>{}</DeleteResult>", errors.collect::<String>()),
    )
}

/// Removes side by side what a listing has told of a moment ago.
async fn remove(remote: &S3Remote, names: &[&str]) -> Vec<Result<(), Error>> {
    remote.list_all(&p("/bucket")).await.unwrap();
    let paths: Vec<_> = names.iter().map(|n| p(&format!("/bucket/{n}"))).collect();
    futures_util::future::join_all(paths.iter().map(|path| remote.remove_file(path))).await
}

fn kinds(done: &[Result<(), Error>]) -> Vec<Option<ErrorKind>> {
    done.iter().map(|d| d.as_ref().err().map(Error::kind)).collect()
}

fn posts(server: &Scripted) -> Vec<Request> {
    server.seen().into_iter().filter(|r| r.method == "POST").collect()
}

fn singles(server: &Scripted) -> Vec<String> {
    let mut all: Vec<_> = server.lines().into_iter().filter(|l| l.starts_with("DELETE")).collect();
    all.sort();
    all
}

#[tokio::test]
async fn what_is_removed_side_by_side_goes_in_one_request() {
    let server = store(&["a", "b%26%3C", "%C3%A4"], |_| told(&[])).await;
    let remote = server.remote().await;
    assert_eq!(kinds(&remove(&remote, &["a", "b&<", "ä"]).await), [None; 3]);
    let posts = posts(&server);
    let [post] = posts.as_slice() else { panic!("{} requests", posts.len()) };
    assert_eq!(named(post), ["a", "b&<", "ä"]);
    let text = String::from_utf8(post.body.clone()).unwrap();
    assert!(text.contains("<Quiet>true</Quiet>"), "{text}");
    let mut hasher = Hasher::new(Algorithm::Md5);
    hasher.update(&post.body);
    let sum = base64::engine::general_purpose::STANDARD.encode(hasher.finish());
    assert_eq!(post.header("content-md5"), sum);
    assert_eq!(singles(&server), [""; 0]);
    // What goes alone goes without company.
    assert_eq!(kinds(&remove(&remote, &["a"]).await), [None]);
    assert_eq!((self::posts(&server).len(), singles(&server)), (1, vec!["DELETE /bucket/a".to_owned()]));
}

#[tokio::test]
async fn each_key_has_its_own_answer() {
    let server = store(&["a", "b", "c", "d"], |_| {
        told(&[
            ("<Key>b</Key>", "AccessDenied"),
            ("<Key>c</Key>", "NoSuchKey"),
            ("<Key>d</Key>", "InternalError"),
        ])
    })
    .await;
    let remote = server.remote().await;
    let done = remove(&remote, &["a", "b", "c", "d"]).await;
    // A key that was not there is removed.
    assert_eq!(
        kinds(&done),
        [None, Some(ErrorKind::PermissionDenied), None, Some(ErrorKind::Internal)],
        "{done:?}"
    );
    let e = done[1].as_ref().unwrap_err();
    assert_eq!(e.wire().unwrap().text, "AccessDenied: words of it");
    assert_eq!((posts(&server).len(), singles(&server).len()), (1, 0));
}

#[tokio::test]
async fn who_asks_twice_is_told_twice() {
    let server = Scripted::new(|r| match r.method.as_str() {
        "POST" => told(&[("<Key>a</Key>", "AccessDenied")]),
        "GET" => listing(&[], &[], None),
        "DELETE" => answer(204, &[], ""),
        _ => head(1, "e"),
    })
    .await;
    let remote = server.remote().await;
    // Neither was listed: both are looked at, and then asked for while the other one is under way.
    let path = p("/bucket/a");
    let both = futures_util::future::join_all((0..4).map(|_| remote.remove_file(&path))).await;
    for done in &both {
        // One that went by itself was removed.
        let denied = done.as_ref().err().map(Error::kind);
        assert!(matches!(denied, None | Some(ErrorKind::PermissionDenied)), "{denied:?}");
    }
    let refused = both.iter().filter(|d| d.is_err()).count();
    let asked: usize = posts(&server).iter().map(|r| named(r).len()).sum();
    assert_eq!(refused, asked);
}

#[tokio::test]
async fn an_error_that_names_no_key_of_ours_is_everybodys() {
    for key in ["", "<Key>elsewhere</Key>"] {
        let server = store(&["a", "b"], move |_| told(&[(key, "AccessDenied")])).await;
        let remote = server.remote().await;
        let done = remove(&remote, &["a", "b"]).await;
        assert_eq!(kinds(&done), [Some(ErrorKind::PermissionDenied); 2], "{key}");
    }
}

#[tokio::test]
async fn a_store_that_knows_no_such_request_is_asked_one_by_one_from_then_on() {
    for (status, code) in [
        (501, "NotImplemented"),
        (501, ""),
        (405, "MethodNotAllowed"),
        (400, "MalformedXML"),
        (400, "MissingContentMD5"),
    ] {
        let server = store(&["a", "b", "kept"], move |_| error(status, code, &[])).await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let (heard, mut options) = (Arc::clone(&told), server.options());
        options.learns = Learns::new(move |lack| heard.lock().unwrap().push(lack));
        let mut remote = connect(options.clone(), decider()).await.unwrap();
        for tries in 1..=3 {
            if tries == 3 {
                // Another connection, which is told.
                assert_eq!(*told.lock().unwrap(), [Lack::ManyRemovals]);
                options.lacks = told.lock().unwrap().clone();
                remote = connect(options.clone(), decider()).await.unwrap();
            }
            let done = remove(&remote, &["a", "b", "kept"]).await;
            assert_eq!(kinds(&done), [None, None, Some(ErrorKind::PermissionDenied)], "{code}: {done:?}");
            assert_eq!((posts(&server).len(), singles(&server).len()), (1, 3 * tries), "{code}");
        }
        let each = ["DELETE /bucket/a", "DELETE /bucket/b", "DELETE /bucket/kept"].map(|l| [l; 3]).concat();
        assert_eq!(singles(&server), each, "{code}");
    }
}

#[tokio::test]
async fn what_is_refused_as_a_whole_has_failed_for_all() {
    let server = store(&["a", "b"], |_| error(403, "AccessDenied", &[])).await;
    let remote = server.remote().await;
    let done = remove(&remote, &["a", "b"]).await;
    assert_eq!(kinds(&done), [Some(ErrorKind::PermissionDenied); 2]);
    assert_eq!(singles(&server), [""; 0], "it knows the request");
}

#[tokio::test]
async fn a_store_that_is_busy_is_asked_again() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let server = store(&["a", "b"], move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => error(503, "SlowDown", &[]),
        _ => told(&[]),
    })
    .await;
    let remote = server.remote().await;
    assert_eq!(kinds(&remove(&remote, &["a", "b"]).await), [None; 2]);
    assert_eq!(posts(&server).len(), 2);
}

#[tokio::test]
async fn a_request_is_for_a_thousand_keys_at_most() {
    let names: Vec<String> = (0..1001).map(|n| format!("k{n:04}")).collect();
    let keys: Vec<&'static str> = names.iter().map(|n| &*n.clone().leak()).collect();
    let server = store(keys.leak(), |_| told(&[])).await;
    let remote = server.remote().await;
    let done = remove(&remote, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(done.iter().all(Result::is_ok));
    let sizes: Vec<_> = posts(&server).iter().map(|r| named(r).len()).collect();
    assert_eq!((sizes.as_slice(), singles(&server).len()), (&[1000][..], 1), "the last one is alone");
}

#[tokio::test]
async fn what_xml_cannot_say_goes_by_itself() {
    let server = store(&["a", "b", "c%01"], |_| told(&[])).await;
    let remote = server.remote().await;
    assert_eq!(kinds(&remove(&remote, &["a", "b", "c\u{1}"]).await), [None; 3]);
    assert_eq!(named(&posts(&server)[0]), ["a", "b"]);
    assert_eq!(singles(&server), ["DELETE /bucket/c%01"]);
}
