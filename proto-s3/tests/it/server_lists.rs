//! Listings: order, prefixes, delimiters, pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;
use async_trait::async_trait;
use session_core::fs::Filesystem;
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationKind, OperationSet};

const KEYS: [&str; 9] = ["a.txt", "a/1", "a/2", "a/b/3", "a0", "photo-1.jpg", "photo-2.jpg", "photos/x", "z"];

async fn filled() -> (Running, Client<tokio::net::TcpStream>) {
    let server = start(options()).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    for key in KEYS.iter().rev() {
        c.put(&format!("/data/{key}"), key).await;
    }
    (server, c)
}

#[tokio::test]
async fn keys_come_in_their_order() {
    let (_server, mut c) = filled().await;
    let all = c.get("/data?list-type=2").await;
    assert_eq!(all.all("Key"), KEYS);
    assert_eq!((all.one("KeyCount"), all.one("IsTruncated")), ("9".into(), "false".into()));
    assert_eq!(all.all("Size")[0], "5");
    let etag = c.ask("HEAD /data/a.txt", &[], "").await.field("etag").unwrap().to_owned();
    assert_eq!(all.all("ETag")[0].replace("&quot;", "\""), etag);
    assert_eq!(c.get("/data").await.all("Key"), KEYS);
    for (query, keys, prefixes) in [
        ("delimiter=/", &["a.txt", "a0", "photo-1.jpg", "photo-2.jpg", "z"][..], &["a/", "photos/"][..]),
        ("prefix=a/&delimiter=/", &["a/1", "a/2"], &["a/b/"]),
        ("prefix=a", &["a.txt", "a/1", "a/2", "a/b/3", "a0"], &[]),
        ("prefix=a/b", &["a/b/3"], &[]),
        ("prefix=a/b/", &["a/b/3"], &[]),
        ("prefix=a/b&delimiter=/", &[], &["a/b/"]),
        ("delimiter=-", &["a.txt", "a/1", "a/2", "a/b/3", "a0", "photos/x", "z"], &["photo-"]),
        ("prefix=none/", &[], &[]),
        ("prefix=z/", &[], &[]),
        ("prefix=a/&start-after=a/1", &["a/2", "a/b/3"], &[]),
        (
            "start-after=a/",
            &["a/1", "a/2", "a/b/3", "a0", "photo-1.jpg", "photo-2.jpg", "photos/x", "z"],
            &[],
        ),
        ("start-after=a/b/3", &["a0", "photo-1.jpg", "photo-2.jpg", "photos/x", "z"], &[]),
        ("start-after=b", &["photo-1.jpg", "photo-2.jpg", "photos/x", "z"], &[]),
        ("start-after=zz", &[], &[]),
        ("prefix=a/&start-after=b", &[], &[]),
        ("prefix=photos/&start-after=b", &["photos/x"], &[]),
    ] {
        let listed = c.get(&format!("/data?list-type=2&{query}")).await;
        assert_eq!(listed.status, 200, "{query}: {}", listed.text());
        assert_eq!(listed.all("Key"), keys, "{query}");
        let found: Vec<_> = listed.all("CommonPrefixes").into_iter().collect();
        let wanted: Vec<_> = prefixes.iter().map(|p| format!("<Prefix>{p}</Prefix>")).collect();
        assert_eq!(found, wanted, "{query}");
    }
}

/// Counts listings.
#[derive(Default)]
struct Listings(AtomicUsize);

#[async_trait]
impl Interceptor for Listings {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::List])
    }

    async fn before(&self, _: &Cx<'_>, _: Operation<'_>) -> session_core::error::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// All keys and prefixes in pages of `most`, and how many pages there were. `fresh` for another session with every
/// page, which has no listing open.
async fn pages(server: &Running, query: &str, most: usize, fresh: bool) -> (Vec<String>, usize) {
    let (mut all, mut count, mut token) = (Vec::new(), 0, None::<String>);
    let mut c = server.connect().await;
    loop {
        if fresh && count % 2 == 1 {
            c.signer = Some(Signer::new("KEY-other"));
        } else {
            c.signer = Some(Signer::new("KEY-demo"));
        }
        let more = token.map(|t| format!("&continuation-token={t}")).unwrap_or_default();
        let page = c.get(&format!("/data?list-type=2&max-keys={most}&{query}{more}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let (keys, prefixes) = (page.all("Key"), page.all("CommonPrefixes"));
        assert!(keys.len() + prefixes.len() <= most);
        assert_eq!(page.one("KeyCount"), (keys.len() + prefixes.len()).to_string());
        all.extend(keys);
        all.extend(prefixes.into_iter().map(|p| p.replace("<Prefix>", "").replace("</Prefix>", "")));
        count += 1;
        if page.one("IsTruncated") == "false" {
            all.sort();
            return (all, count);
        }
        token = Some(page.one("NextContinuationToken"));
        assert!(token.as_ref().is_some_and(|t| !t.is_empty()));
    }
}

#[tokio::test]
async fn pages_hold_everything_once_and_do_not_list_again() {
    let (server, _c) = filled().await;
    let mut wanted = KEYS.map(str::to_owned).to_vec();
    wanted.sort();
    for most in 1..=9 {
        for fresh in [false, true] {
            assert_eq!(pages(&server, "", most, fresh).await.0, wanted, "{most} {fresh}");
            let shallow = pages(&server, "delimiter=/", most, fresh).await.0;
            assert_eq!(shallow, ["a.txt", "a/", "a0", "photo-1.jpg", "photo-2.jpg", "photos/", "z"]);
            let odd = pages(&server, "delimiter=-", most, fresh).await.0;
            assert_eq!(
                odd,
                ["a.txt", "a/1", "a/2", "a/b/3", "a0", "photo-", "photos/x", "z"],
                "{most} {fresh}"
            );
        }
    }
}

#[tokio::test]
async fn pages_of_one_session_cost_one_listing() {
    let site = TestSite::in_memory();
    let listings = Arc::new(Listings::default());
    site.links.lock().unwrap().push(Arc::clone(&listings) as Arc<dyn Interceptor>);
    let server = start_site(options(), site).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    for n in 0..20 {
        c.put(&format!("/data/{n:02}"), "x").await;
    }
    let before = listings.0.load(Ordering::SeqCst);
    let (all, count) = pages(&server, "", 3, false).await;
    assert_eq!((all.len(), count), (20, 7));
    assert_eq!(listings.0.load(Ordering::SeqCst) - before, 1);
}

#[tokio::test]
async fn the_first_version_goes_on_by_marker() {
    let (_server, mut c) = filled().await;
    for (query, delimited, wanted) in [
        ("", false, &KEYS[..]),
        ("&delimiter=/", true, &["a.txt", "a/", "a0", "photo-1.jpg", "photo-2.jpg", "photos/", "z"]),
        ("&delimiter=-", true, &["a.txt", "a/1", "a/2", "a/b/3", "a0", "photo-", "photos/x", "z"]),
    ] {
        let (mut all, mut marker) = (Vec::new(), String::new());
        loop {
            let page = c.get(&format!("/data?max-keys=2&marker={marker}{query}")).await;
            assert_eq!(page.status, 200, "{}", page.text());
            let mut these = page.all("Key");
            let prefixes = page.all("CommonPrefixes");
            these.extend(prefixes.into_iter().map(|p| p.replace("<Prefix>", "").replace("</Prefix>", "")));
            these.sort();
            all.extend(these.clone());
            if page.one("IsTruncated") == "false" {
                break;
            }
            marker = if delimited { page.one("NextMarker") } else { these.pop().unwrap() };
            assert!(!marker.is_empty(), "{}", page.text());
        }
        assert_eq!(all, wanted, "{query}");
    }
}

/// Somebody else, who removes what is called `gone` just before it is listed.
struct Faster(Arc<dyn Filesystem>);

#[async_trait]
impl Interceptor for Faster {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::List])
    }

    async fn before(&self, _: &Cx<'_>, operation: Operation<'_>) -> session_core::error::Result<()> {
        match operation {
            Operation::List(list) if list.path.to_string().ends_with("/gone") => {
                self.0.remove_dir(&list.path).await
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_directory_is_there_though_all_in_it_goes_while_it_is_listed() {
    let site = TestSite::in_memory();
    let faster = Arc::new(Faster(Arc::clone(&site.store)));
    site.links.lock().unwrap().push(faster as Arc<dyn Interceptor>);
    let server = start_site(options(), site).await;
    let mut c = server.connect().await;
    for path in ["/data", "/data/t/", "/data/t/gone/"] {
        assert_eq!(c.put(path, "").await.status, 200, "{path}");
    }
    let listed = c.get("/data?list-type=2&prefix=t/&max-keys=2").await;
    assert_eq!(listed.all("Key"), ["t/"], "{}", listed.text());
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let (_server, mut c) = filled().await;
    for query in ["max-keys=-1", "continuation-token=x", "encoding-type=gzip", "max-keys=many"] {
        let reply = c.get(&format!("/data?list-type=2&{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
    }
    let none = c.get("/data?list-type=2&max-keys=0").await;
    assert!(none.all("Key").is_empty() && none.one("IsTruncated") == "false");
}
