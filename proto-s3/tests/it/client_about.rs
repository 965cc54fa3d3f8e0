//! What S3 says of objects beside their content, seen and changed: against a store whose every answer is written
//! here, and against our own.
#![cfg(all(feature = "client", feature = "server"))]

use std::collections::BTreeMap;

use proto_s3::client::{Putting, S3ConnectOptions, S3Login, S3Remote, connect};
use session_core::auth::Secret;
use session_core::error::ErrorKind;
use session_core::fs::{Filesystem as _, Follow};
use session_core::fs_ext::FilesystemExt as _;

use crate::scripted::{Answer, Request, Scripted, answer, decider, error, listing, p};

const ALL: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// The head of an object of this size, with all that can be said of it.
fn head(size: u64, more: &str) -> Answer {
    Answer::Bytes(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: \"e\"\r\nContent-Type: text/plain\r\n\
             Last-Modified: Sat, 21 Nov 2026 17:00:00 GMT\r\nCache-Control: no-store\r\n\
             Expires: Sat, 28 Nov 2026 17:00:00 GMT\r\nContent-Disposition: inline\r\n\
             x-amz-storage-class: STANDARD_IA\r\nx-amz-server-side-encryption: aws:kms\r\n\
             x-amz-server-side-encryption-aws-kms-key-id: k1\r\nx-amz-version-id: v7\r\n\
             x-amz-meta-colour: blue\r\nx-amz-meta-shape: round\r\n{more}\r\n"
        )
        .into_bytes(),
    )
}

fn tagging(tags: &[(&str, &str)]) -> Answer {
    let tags: String =
        tags.iter().map(|(k, v)| format!("<Tag><Key>{k}</Key><Value>{v}</Value></Tag>")).collect();
    answer(200, &["Content-Type: application/xml"], format!("<Tagging><TagSet>{tags}</TagSet></Tagging>"))
}

fn acl(grants: &[(&str, &str)]) -> Answer {
    let grants: String = grants
        .iter()
        .map(|(who, permission)| {
            let (kind, who) = match who.starts_with("http") {
                true => ("Group", format!("<URI>{who}</URI>")),
                false => ("CanonicalUser", format!("<ID>{who}</ID>")),
            };
            format!(
                "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"{kind}\">{who}\
                 </Grantee><Permission>{permission}</Permission></Grant>"
            )
        })
        .collect();
    let body = format!(
        "<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList>{grants}</AccessControlList>\
         </AccessControlPolicy>"
    );
    answer(200, &["Content-Type: application/xml"], body)
}

/// What a store with the object `f` answers.
fn usual(r: &Request, size: u64) -> Answer {
    let of = |name: &str| r.parameter(name).is_some();
    match r.method.as_str() {
        "HEAD" if r.path() == "/bucket/f" => head(size, ""),
        "HEAD" => Answer::Bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "GET" if of("tagging") => tagging(&[("a", "1"), ("b", "2 &amp; 3")]),
        "GET" if of("acl") => acl(&[("me", "FULL_CONTROL"), (ALL, "READ")]),
        "GET" if r.parameter("prefix") == Some("d%2F") => listing(&[("d/x", 1)], &[], None),
        "GET" => listing(&[], &[], None),
        "DELETE" => answer(204, &[], ""),
        "PUT" if of("tagging") || of("acl") => answer(200, &[], ""),
        "PUT" if of("partNumber") => {
            answer(200, &[], "<CopyPartResult><ETag>&quot;p&quot;</ETag></CopyPartResult>")
        }
        "PUT" => answer(200, &[], "<CopyObjectResult><ETag>&quot;n&quot;</ETag></CopyObjectResult>"),
        "POST" if of("uploads") => answer(
            200,
            &[],
            "<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>",
        ),
        "POST" => answer(
            200,
            &[],
            "<CompleteMultipartUploadResult><ETag>&quot;w&quot;</ETag></CompleteMultipartUploadResult>",
        ),
        _ => error(501, "NotImplemented", &[]),
    }
}

/// What changes anything.
fn changes(server: &Scripted) -> Vec<Request> {
    server.seen().into_iter().filter(|r| !matches!(r.method.as_str(), "GET" | "HEAD")).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

async fn altered(remote: &S3Remote, wanted: Putting, without: &[&str]) -> session_core::error::Result<()> {
    let without: Vec<_> = without.iter().map(|w| (*w).to_owned()).collect();
    remote.alter(&p("/bucket/f"), &wanted, &without).await
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn all_that_is_said_of_an_object_is_told() {
    let server = Scripted::new(|r| usual(r, 3)).await;
    let remote = server.remote().await;
    let path = p("/bucket/f");
    let about = remote.about(&path).await.unwrap();
    assert_eq!((about.content_type, about.cache_control), (text("text/plain"), text("no-store")));
    assert_eq!((about.storage_class.as_str(), about.encryption), ("STANDARD_IA", text("aws:kms")));
    assert_eq!((about.kms_key, about.version), (text("k1"), text("v7")));
    assert_eq!(about.metadata, pairs(&[("colour", "blue"), ("shape", "round")]));
    assert_eq!(remote.tags(&path).await.unwrap(), pairs(&[("a", "1"), ("b", "2 & 3")]));
    let acl = remote.acl(&path).await.unwrap();
    let told: Vec<_> = acl.iter().map(|g| (g.who.as_str(), g.permission.as_str(), g.owner)).collect();
    let all = format!("uri={ALL}");
    assert_eq!(told, [("id=me", "FULL_CONTROL", true), (all.as_str(), "READ", false)]);
    assert_eq!(remote.about(&p("/bucket/d")).await.unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(remote.about(&p("/bucket/m")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(remote.tags(&p("/bucket")).await.unwrap_err().kind(), ErrorKind::IsADirectory);
    assert!(changes(&server).is_empty());
}

#[tokio::test]
async fn tags_are_changed_where_they_are() {
    let server = Scripted::new(|r| usual(r, 3)).await;
    let remote = server.remote().await;
    let path = p("/bucket/f");
    remote.set_tags(&path, &pairs(&[("x", "1 < 2"), ("y", "")])).await.unwrap();
    remote.set_tags(&path, &BTreeMap::new()).await.unwrap();
    // Of several tags, those that are named are changed.
    let tags = vec![("b".to_owned(), "new".to_owned()), ("c".to_owned(), "3".to_owned())];
    altered(&remote, Putting { tags, ..Putting::default() }, &[]).await.unwrap();
    let changes = changes(&server);
    let lines: Vec<_> = changes.iter().map(Request::line).collect();
    assert_eq!(lines, ["PUT /bucket/f", "DELETE /bucket/f", "PUT /bucket/f"]);
    assert!(changes.iter().all(|r| r.parameter("tagging").is_some()), "the object itself is left alone");
    let body = |n: usize| String::from_utf8(changes[n].body.clone()).unwrap();
    assert!(body(0).contains("<Key>x</Key><Value>1 &lt; 2</Value>"), "{}", body(0));
    assert!(!changes[0].header("content-md5").is_empty());
    for tag in
        ["<Key>a</Key><Value>1</Value>", "<Key>b</Key><Value>new</Value>", "<Key>c</Key><Value>3</Value>"]
    {
        assert!(body(2).contains(tag), "{}", body(2));
    }
}

#[tokio::test]
async fn what_is_kept_with_the_content_is_changed_by_a_copy_that_loses_nothing() {
    let server = Scripted::new(|r| usual(r, 3)).await;
    let remote = server.remote().await;
    let wanted = Putting {
        content_type: text("text/html"),
        metadata: vec![("Shape".into(), "square".into()), ("size".into(), "small".into())],
        ..Putting::default()
    };
    altered(&remote, wanted, &["COLOUR"]).await.unwrap();
    let changes = changes(&server);
    let [copy] = changes.as_slice() else { panic!("{} requests", changes.len()) };
    assert_eq!(copy.line(), "PUT /bucket/f");
    for (name, value) in [
        ("x-amz-copy-source", "bucket/f"),
        ("x-amz-copy-source-if-match", "\"e\""),
        ("x-amz-metadata-directive", "REPLACE"),
        ("content-type", "text/html"),
        ("cache-control", "no-store"),
        ("content-disposition", "inline"),
        ("expires", "Sat, 28 Nov 2026 17:00:00 GMT"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "k1"),
        ("x-amz-meta-shape", "square"),
        ("x-amz-meta-size", "small"),
        ("x-amz-meta-colour", ""),
        ("x-amz-grant-full-control", "id=\"me\""),
        ("x-amz-grant-read", &format!("uri=\"{ALL}\"")),
        // Tags come along by themselves.
        ("x-amz-tagging-directive", ""),
    ] {
        assert_eq!(copy.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn an_acl_is_set_in_place_or_with_the_copy() {
    let server = Scripted::new(|r| usual(r, 3)).await;
    let remote = server.remote().await;
    let wanted = Putting { acl: text("public-read"), ..Putting::default() };
    altered(&remote, wanted.clone(), &[]).await.unwrap();
    altered(&remote, Putting { storage_class: text("GLACIER_IR"), ..wanted }, &[]).await.unwrap();
    let changes = changes(&server);
    assert_eq!(changes.len(), 2);
    assert!(changes[0].parameter("acl").is_some() && changes[0].header("x-amz-copy-source").is_empty());
    assert!(changes[1].parameter("acl").is_none() && changes[1].header("x-amz-grant-read").is_empty());
    assert!(changes.iter().all(|r| r.header("x-amz-acl") == "public-read"));
    assert_eq!(changes[1].header("x-amz-storage-class"), "GLACIER_IR");
}

#[tokio::test]
async fn who_may_do_what_is_not_lost_in_silence() {
    let acls = |status: u16, code: &'static str| {
        Scripted::new(move |r| match r.parameter("acl") {
            Some(_) if r.method == "GET" => error(status, code, &[]),
            _ => usual(r, 3),
        })
    };
    let wanted = || Putting { content_type: text("text/html"), ..Putting::default() };
    // It may not be read: it would be gone.
    let server = acls(403, "AccessDenied").await;
    let remote = server.remote().await;
    let e = altered(&remote, wanted(), &[]).await.unwrap_err();
    assert_eq!((e.kind(), changes(&server).len()), (ErrorKind::PermissionDenied, 0));
    assert!(e.hint().unwrap().contains("--s3-acl"), "{e:#}");
    altered(&remote, Putting { acl: text("private"), ..wanted() }, &[]).await.unwrap();
    // There is none.
    for (status, code) in [(501, "NotImplemented"), (400, "AccessControlListNotSupported")] {
        let server = acls(status, code).await;
        altered(&server.remote().await, wanted(), &[]).await.unwrap();
        let changes = changes(&server);
        assert!(changes.len() == 1 && changes[0].header("x-amz-grant-full-control").is_empty(), "{code}");
    }
}

#[tokio::test]
async fn what_cannot_be_changed_is_left_as_it_is() {
    let server = Scripted::new(|r| usual(r, 3)).await;
    let remote = server.remote().await;
    let asked = server.seen().len();
    let e = altered(&remote, Putting::default(), &[]).await.unwrap_err();
    assert_eq!((e.kind(), server.seen().len()), (ErrorKind::InvalidArgument, asked));
    let wanted = Putting { content_type: text("text/html"), ..Putting::default() };
    let e = remote.alter(&p("/bucket/d"), &wanted, &[]).await.unwrap_err();
    assert_eq!((e.kind(), changes(&server).len()), (ErrorKind::IsADirectory, 0));

    // It has metadata that nobody is told.
    let server = Scripted::new(|r| match r.method.as_str() {
        "HEAD" => head(3, "x-amz-missing-meta: 1\r\n"),
        _ => usual(r, 3),
    })
    .await;
    let e = altered(&server.remote().await, wanted.clone(), &[]).await.unwrap_err();
    assert_eq!((e.kind(), changes(&server).len()), (ErrorKind::Unsupported, 0));

    // It has changed since it was looked at.
    let server = Scripted::new(|r| match r.method.as_str() {
        "PUT" => error(412, "PreconditionFailed", &[]),
        _ => usual(r, 3),
    })
    .await;
    let e = altered(&server.remote().await, wanted, &[]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn a_large_object_is_copied_in_parts_with_all_that_it_has() {
    const SIZE: u64 = 6 << 30;
    let server = Scripted::new(|r| usual(r, SIZE)).await;
    let remote = server.remote().await;
    altered(&remote, Putting { content_type: text("text/html"), ..Putting::default() }, &[]).await.unwrap();
    let all = changes(&server);
    let begun = &all[0];
    assert_eq!(begun.line(), "POST /bucket/f uploads=");
    for (name, value) in [
        ("content-type", "text/html"),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-tagging", "a=1&b=2%20%26%203"),
        ("x-amz-grant-full-control", "id=\"me\""),
    ] {
        assert_eq!(begun.header(name), value, "{name}");
    }
    let mut ranges: Vec<_> = all.iter().map(|r| r.header("x-amz-copy-source-range")).collect();
    ranges.retain(|r| !r.is_empty());
    ranges.sort_unstable();
    assert_eq!((ranges.len(), ranges[0]), (12, "bytes=0-536870911"));
    assert!(all.iter().all(|r| r.method != "PUT" || r.header("x-amz-copy-source-if-match") == "\"e\""));
    assert_eq!(all.last().unwrap().line(), "POST /bucket/f uploadId=up");
}

// ---- our own server

#[tokio::test]
async fn our_own_store_keeps_what_it_is_told() {
    let running = crate::support::start(crate::support::options()).await;
    let mut options = S3ConnectOptions::new("127.0.0.1", running.address.port());
    options.secure = false;
    options.login =
        S3Login::Key { id: "KEY-demo".into(), secret: Secret::new(crate::support::SECRET), token: None };
    let remote = connect(options, decider()).await.unwrap();
    remote.create_dir(&p("/bucket"), &session_core::metadata::Attributes::none()).await.unwrap();
    let path = p("/bucket/f.txt");
    remote.write_all(&path, bytes::Bytes::from_static(b"content")).await.unwrap();
    let wanted = Putting {
        content_type: text("text/html"),
        metadata: vec![("colour".into(), "blue".into())],
        ..Putting::default()
    };
    remote.alter(&path, &wanted, &[]).await.unwrap();
    let about = remote.about(&path).await.unwrap();
    assert_eq!((about.content_type, about.metadata), (text("text/html"), pairs(&[("colour", "blue")])));
    remote.alter(&path, &Putting::default(), &["colour".into()]).await.unwrap();
    let about = remote.about(&path).await.unwrap();
    assert_eq!((about.content_type, about.metadata), (text("text/html"), BTreeMap::new()));
    assert_eq!(remote.read_to_vec(&path, 100).await.unwrap(), b"content");
    assert_eq!(remote.stat(&path, Follow::Yes).await.unwrap().size, 7);
    // It has neither tags nor ACLs, and says so.
    assert_eq!(remote.tags(&path).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(remote.acl(&path).await.unwrap_err().kind(), ErrorKind::Unsupported);
}
