//! Directories behind symbolic links: entered where that is wanted, loops left and named.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use crate::support::{World, path};
use client::session::*;
use session_core::batch::{TransferOptions, Unattended};
use session_core::error::ErrorKind;

const FOLLOW: &[(&str, &str)] = &[("FollowDirectorySymlinks", "1")];

async fn opened(world: &World, settings: &[(&str, &str)]) -> Session {
    let options = settings
        .iter()
        .fold(world.options(), |options, (name, value)| options.add_raw_setting(name, value).unwrap());
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await.unwrap();
    session
}

/// Everything below a directory, links not entered.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|e| e.unwrap().path()) {
            if entry.symlink_metadata().unwrap().is_dir() {
                dirs.push(entry)
            } else {
                found.push(entry.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn skipped(result: &TransferResult) -> Vec<(String, &'static str)> {
    let why = |t: &Transfer| match t.outcome {
        Outcome::Skipped(why) => Some((t.source.display(), why)),
        _ => None,
    };
    let mut all: Vec<_> = result.transfers.iter().filter_map(why).collect();
    all.sort();
    all
}

const BACK: &str = "a symbolic link that leads back to a directory around it";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_behind_links_are_fetched_and_loops_are_left() {
    for world in [World::sftp().await, World::ftpes().await] {
        for name in ["/t/f", "/t/sub/g", "/o/h", "/o/deep/i"] {
            world.write(name, name).await;
        }
        for (target, at) in [
            ("f", "/t/file"),
            (".", "/t/self"),
            ("..", "/t/up"),
            ("/o", "/t/other"),
            ("../../alias", "/t/sub/aliased"),
            ("o", "/alias"),
            ("../t", "/o/back"),
            ("nowhere", "/t/broken"),
        ] {
            world.store.symlink(target.as_bytes(), &path(at)).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let session = opened(&world, FOLLOW).await;
        let result = session.get_files("/t", at("t"), false, &TransferOptions::default()).await.unwrap();
        let found = files(&at("t"));
        let has = |name: &str| found.iter().any(|f| f == name);
        for name in ["f", "file", "sub/g", "other/h", "other/deep/i", "sub/aliased/h", "up/t/f", "up/o/h"] {
            assert!(has(name), "{name}: {found:?}");
        }
        assert!(!found.iter().any(|f| f.contains("self/") || f.contains("up/t/up/")), "{found:?}");
        assert!(!found.iter().any(|f| f.contains("other/back/")), "{found:?}");
        let left = skipped(&result);
        for name in ["/t/self", "/t/other/back", "/t/up/t/up"] {
            assert!(left.contains(&(name.to_owned(), BACK)), "{name}: {left:?}");
        }
        // The one that leads nowhere is the only kind of failure, once for each way to it.
        let missing = |e: &session_core::error::Error| e.kind() == ErrorKind::NotFound;
        assert!(!result.failures.is_empty() && result.failures.iter().all(missing), "{:?}", result.failures);

        // A mask names a link; without the setting it is left.
        let options = TransferOptions::default();
        std::fs::create_dir(at("m")).unwrap();
        session.get_files("/t/oth*", at("m/"), false, &options).await.unwrap();
        assert!(files(&at("m")).contains(&"other/h".to_owned()));
        let usual = opened(&world, &[]).await;
        let result = usual.get_files("/t", at("u"), false, &options).await.unwrap();
        assert_eq!(files(&at("u")), ["f", "file", "sub/g"]);
        assert!(skipped(&result).contains(&("/t/other".into(), "a symbolic link to a directory")));

        // Nothing behind a link is removed, and nothing synchronised.
        let moved = session.get_files("/t", at("x"), true, &options).await.unwrap();
        assert_eq!(moved.check().unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(world.has("/t/f").await && !at("x").exists());
        let sync = SynchronizationOptions::new(SynchronizationMode::Local);
        let e = session.synchronize_directories(at("u"), "/t", &sync).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_not_resolved_are_told_as_links() {
    let world = World::sftp().await;
    world.write("/d/f", "content").await;
    world.store.symlink(b"d", &path("/l")).await.unwrap();
    world.store.symlink(b"nowhere", &path("/broken")).await.unwrap();
    let unresolved = opened(&world, &[("ResolveSymlinks", "0"), ("FollowDirectorySymlinks", "1")]).await;
    assert_eq!(unresolved.get_file_info("/l").await.unwrap().file_type(), 'L');
    assert!(unresolved.file_exists("/broken").await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let result = unresolved.get_files("/*", dir.path().join(""), false, &Default::default()).await.unwrap();
    assert!(dir.path().join("d/f").exists() && !dir.path().join("l").exists(), "{result:?}");
    let resolved = opened(&world, FOLLOW).await;
    assert_eq!(resolved.get_file_info("/l").await.unwrap().file_type(), 'D');
    assert!(!resolved.file_exists("/broken").await.unwrap());
}

#[test]
fn the_program_follows_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("t/sub")).unwrap();
    std::fs::create_dir(at("o")).unwrap();
    std::fs::write(at("t/f"), "f").unwrap();
    std::fs::write(at("o/h.txt"), "h").unwrap();
    std::fs::write(at("o/h.bin"), "h").unwrap();
    symlink("../o", at("t/other")).unwrap();
    symlink("..", at("t/sub/up")).unwrap();
    let ferry = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
        let out =
            command.args(args).current_dir(dir.path()).env("XDG_STATE_HOME", at("state")).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    };
    let told = ferry(&["cp", "-r", "--follow-links", "t", "followed"]);
    assert_eq!(files(&at("followed")), ["f", "other/h.bin", "other/h.txt"], "{told}");
    assert!(told.contains(BACK), "{told}");
    // A mask judges what is behind a link as what it is.
    let told = ferry(&["cp", "-r", "--follow-links", "--mask", "*.txt", "t", "masked"]);
    assert_eq!(files(&at("masked")), ["other/h.txt"], "{told}");
    ferry(&["cp", "-r", "t", "usual"]);
    assert_eq!(files(&at("usual")), ["f"]);
}
