//! The examples do what they say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

#[path = "../examples/fetch.rs"]
mod fetch;
#[path = "../examples/send.rs"]
mod send;
#[path = "../examples/stream.rs"]
mod stream;
#[path = "../examples/walk.rs"]
mod walk;
#[path = "../examples/winscp_script.rs"]
mod winscp_script;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use client::session::SessionOptions;
use session_core::auth::Secret;
use session_core::fs::Follow;
use session_core::metadata::Attributes;
use support::{World, path};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_fetched_and_sent() {
    let world = World::sftp().await;
    world.write("/logs/a.log", "a").await;
    world.write("/logs/b.txt", "b").await;
    let dir = tempfile::tempdir().unwrap();
    let to = format!("{}/", dir.path().display());
    assert_eq!(fetch::run(world.options(), "/logs/*.log", &to).await.unwrap(), 1);
    assert_eq!(std::fs::read(dir.path().join("a.log")).unwrap(), b"a");
    assert!(fetch::run(world.options(), "/logs/none", &to).await.is_err());
    assert_eq!(send::run(world.options(), &to, "/sent").await.unwrap(), 1);
    assert_eq!(world.read("/sent/a.log").await, b"a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_files_are_found_and_removed() {
    let world = World::sftp().await;
    for name in ["/b/old.tar", "/b/deep/old.tar", "/b/new.tar"] {
        world.write(name, "").await;
        let old = Some(SystemTime::now() - Duration::from_secs(40 * 86_400));
        if name.ends_with("old.tar") {
            let times = Attributes::times(old, old);
            world.store.set_attributes(&path(name), &times, Follow::No).await.unwrap();
        }
    }
    assert_eq!(walk::run(world.options(), "/b", "*.tar", 30).await.unwrap(), 2);
    assert_eq!(world.tree().await, ["/b/", "/b/deep/", "/b/new.tar"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_written_back_and_the_password_is_asked_for() {
    let world = World::sftp().await;
    let content = vec![7; 1 << 20];
    world.write("/from", content.clone()).await;
    let options = SessionOptions::sftp("127.0.0.1")
        .ssh_private_key_path("/nonexistent")
        .port_number(world.port)
        .user_name("u")
        .ssh_host_key_fingerprint(world.fingerprint.as_str())
        .unwrap();
    let knows = Arc::new(stream::Knows(Secret::new("secret")));
    assert_eq!(stream::run(options, knows, "/from", "/to").await.unwrap(), 1 << 20);
    assert!(world.read("/to").await == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_run() {
    let world = World::sftp().await;
    let open = format!("open {} -hostkey=\"{}\"", world.options().to_url_with_password(), world.fingerprint);
    let (code, log) = winscp_script::run(&format!("{open}\nmkdir /x\n")).await.unwrap();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("<mkdir>") && world.has("/x").await);
}
