//! The examples do what they say.

#[path = "../../examples/between.rs"]
mod between;
#[cfg(feature = "blocking")]
#[path = "../../examples/blocking.rs"]
mod blocking;
#[path = "../../examples/fetch.rs"]
mod fetch;
#[cfg(feature = "hooks")]
#[path = "../../examples/handlers.rs"]
mod handlers;
#[path = "../../examples/manage.rs"]
mod manage;
#[path = "../../examples/progress.rs"]
mod progress;
#[path = "../../examples/send.rs"]
mod send;
#[path = "../../examples/stream.rs"]
mod stream;
#[path = "../../examples/synchronize.rs"]
mod synchronize;
#[path = "../../examples/walk.rs"]
mod walk;
#[path = "../../examples/winscp_script.rs"]
mod winscp_script;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::{World, path};
use client::session::SessionOptions;
use session_core::auth::Secret;
use session_core::fs::Follow;
use session_core::metadata::Attributes;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_made_like_another() {
    let world = World::sftp().await;
    world.write("/www/old.html", "old").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("new.html"), "new").unwrap();
    let here = dir.path().to_str().unwrap();
    assert_eq!(synchronize::run(world.options(), here, "/www").await.unwrap(), 2);
    assert_eq!(world.tree().await, ["/www/", "/www/new.html"]);
    assert_eq!(synchronize::run(world.options(), here, "/www").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_sees_bytes_and_may_stop_them() {
    let world = World::sftp().await;
    world.write("/in/x", "").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large");
    std::fs::write(&file, vec![1; 4 << 20]).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(progress::run(world.options(), file, "/in/", None).await.unwrap(), 4 << 20);
    assert_eq!(world.read("/in/large").await.len(), 4 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_goes_from_one_server_to_another() {
    let (one, two) = (World::sftp().await, World::sftp().await);
    one.write("/tree/a", "a").await;
    one.write("/tree/deep/b", "b").await;
    let url = |world: &World, path: &str| {
        let text = format!("sftp://u:secret@127.0.0.1:{}{path}", world.port);
        match client::url::Location::parse(&text).unwrap() {
            client::url::Location::Remote(url) => url,
            client::url::Location::Local(_) => panic!("a URL"),
        }
    };
    let keys = [&one, &two].map(|w| format!("SHA256:{}", w.fingerprint.split(' ').nth(1).unwrap()));
    assert_eq!(between::run(&url(&one, "/tree"), &url(&two, "/copy"), &keys).await.unwrap(), 2);
    assert_eq!(two.read("/copy/deep/b").await, b"b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_managed() {
    let world = World::sftp().await;
    let digest = manage::run(world.options(), "/scratch").await.unwrap();
    assert_eq!(digest, "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73");
    assert_eq!(world.tree().await, ["/scratch/", "/scratch/final", "/scratch/latest"]);
}

#[cfg(feature = "hooks")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_keeps_back_what_is_not_finished() {
    let world = World::sftp().await;
    world.write("/in/x", "").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("done.txt"), "1").unwrap();
    std::fs::write(dir.path().join("half.tmp"), "2").unwrap();
    let mask = format!("{}/*", dir.path().display());
    assert_eq!(handlers::run(world.options(), &mask, "/in/").await.unwrap(), 1);
    assert_eq!(world.tree().await, ["/in/", "/in/done.txt", "/in/x"]);
}

#[cfg(feature = "blocking")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_read_without_a_runtime() {
    let world = World::sftp().await;
    world.write("/log", "one\ntwo\nthree\n").await;
    let options = world.options();
    let count = tokio::task::spawn_blocking(move || blocking::run(options, "/log").unwrap()).await;
    assert_eq!(count.unwrap(), 3);
}
