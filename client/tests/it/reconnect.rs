//! Whole trees over connections that are cut again and again, against our own servers.
//!
//! Each cut costs a real pause of some hundred milliseconds: these tests take a few seconds.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::local;
use crate::support::world::*;
use client::batch::{Batch, Job};
use client::connect::{Connected, Options, open_url};
use client::url::Location;
use session_core::batch::*;
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::Interceptor;
use session_core::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use session_core::path::VPath;
use session_core::store::local::{LocalOptions, LocalStore};

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

/// What a server serves: the directory itself, or under a staging layer, as `ferryd` does it.
fn served(dir: &Path, staged: bool) -> Arc<dyn Filesystem> {
    let store: Arc<dyn Filesystem> = Arc::new(LocalStore::open(dir, LocalOptions::default()).unwrap());
    if !staged {
        return store;
    }
    let clock = Arc::new(std::time::SystemTime::now);
    let area = StagingArea::new(store, StagingPolicy::default(), clock).unwrap();
    Arc::new(Staged::new(Owner::account("ann"), area))
}

async fn open(scheme: &str, port: u16, world: &World, budget: u64) -> Connected {
    let Ok(Location::Remote(url)) = Location::parse(&format!("{scheme}://ann@127.0.0.1:{port}/")) else {
        panic!("a URL")
    };
    let options = Options::from_url(&url)
        .unwrap()
        .host_keys(&world.host_key.clone().into_iter().collect::<Vec<_>>())
        .unwrap()
        .certificates(&world.certificate.clone().into_iter().collect::<Vec<_>>())
        .unwrap()
        .identities(vec!["/nonexistent".into()])
        .password(Some("secret".into()))
        .reconnect(Duration::from_secs(budget));
    open_url(options, Arc::new(Unattended)).await.unwrap()
}

fn content(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i % 241 + salt) as u8).collect()
}

/// A large file, some of middle size, many small ones, an empty directory.
fn fill(dir: &Path, large: usize) {
    std::fs::create_dir_all(dir.join("t/sub/none")).unwrap();
    std::fs::write(dir.join("t/large"), content(large, 1)).unwrap();
    for n in 0..3 {
        std::fs::write(dir.join(format!("t/sub/middle{n}")), content((1 << 20) + n, n)).unwrap();
    }
    for n in 0..40 {
        std::fs::write(dir.join(format!("t/small{n}")), content(n * 50, n)).unwrap();
    }
}

/// The tree in words: names, sizes, content.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                all.push((format!("{name}/"), Vec::new()));
                left.push(path);
            } else {
                all.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    for (name, _) in &mut all {
        *name = name.strip_prefix(dir.to_str().unwrap()).unwrap().to_owned();
    }
    all.sort();
    all
}

#[track_caller]
fn same_trees(a: &Path, b: &Path) {
    let (a, b) = (tree(&a.join("t")), tree(&b.join("t")));
    let names = |t: &[(String, Vec<u8>)]| t.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    assert!(a == b, "content differs");
}

async fn run(source: SessionFs, target: SessionFs) -> TransferReport {
    let options = TransferOptions { recursive: true, parallel: 2, ..TransferOptions::default() };
    let batch = Batch::new(source, target, options, Arc::new(Unattended));
    batch.run(vec![Job { from: p("/t"), to: p("/t") }]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sftp_through_a_proxy_that_cuts() {
    for up in [true, false] {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(if up { here.path() } else { there.path() }, 6 << 20);
        let world = World::sftp(served(there.path(), false), vec![]).await;
        let proxy = Proxy::cutting(world.port, 5 << 20).await;
        let remote = open("sftp", proxy.port, &world, 30).await;
        let (a, b) = if up {
            (local(here.path()), remote.fs().clone())
        } else {
            (remote.fs().clone(), local(here.path()))
        };
        let report = run(a, b).await;
        report.check().unwrap();
        assert!(proxy.cuts.load(Ordering::SeqCst) > 0, "nothing was cut");
        assert_eq!(report.done(), 44);
        same_trees(here.path(), there.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_the_server_cuts() {
    cut_sessions(&[("sftp", true, true), ("ftp", false, true), ("ftp", false, false), ("ftp", true, true)])
        .await;
}

/// New connections begin with a whole handshake: what the old ones resumed is gone with their server's half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_under_tls_that_the_server_cuts() {
    cut_sessions(&[("ftpes", false, true), ("ftpes", false, false), ("ftpes", true, true)]).await;
}

/// Scheme, whether uploads are staged, whether it goes up.
async fn cut_sessions(ways: &[(&str, bool, bool)]) {
    for (scheme, staged, up) in ways.iter().copied() {
        let what = format!("{scheme}, staged: {staged}, up: {up}");
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // More than moves between two cuts: it arrives because it is continued.
        fill(if up { here.path() } else { there.path() }, 6 << 20);
        // A server reads ahead of what it sends: what is read counts before it has arrived.
        let cutter = Cutter::every(if up { 4 << 20 } else { 7 << 20 });
        let links: Vec<Arc<dyn Interceptor>> = vec![Arc::clone(&cutter) as _];
        let store = served(there.path(), staged);
        let world = match scheme {
            "ftp" => World::ftp(store, links).await,
            "ftpes" => World::ftpes(store, links).await,
            _ => World::sftp(store, links).await,
        };
        let remote = open(scheme, world.port, &world, 30).await;
        let (a, b) = if up {
            (local(here.path()), remote.fs().clone())
        } else {
            (remote.fs().clone(), local(here.path()))
        };
        let report = run(a, b).await;
        report.check().unwrap_or_else(|e| panic!("{what}: {e:#}"));
        assert!(cutter.cuts.load(Ordering::SeqCst) > 0, "{what}: nothing was cut");
        same_trees(here.path(), there.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_budget_a_cut_is_a_failure_and_no_success_is_claimed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(here.path(), 6 << 20);
    let world = World::sftp(served(there.path(), false), vec![]).await;
    let proxy = Proxy::cutting(world.port, 2 << 20).await;
    let remote = open("sftp", proxy.port, &world, 0).await;
    let report = run(local(here.path()), remote.fs().clone()).await;
    assert!(!report.is_success());
    for receipt in &report.receipts {
        let name = receipt.target.display();
        let path = name.trim_start_matches('/');
        assert!(
            std::fs::read(here.path().join(path)).unwrap() == std::fs::read(there.path().join(path)).unwrap(),
            "{name}"
        );
    }
}
