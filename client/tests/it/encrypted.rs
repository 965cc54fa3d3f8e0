//! Files that are encrypted before they leave: the conformance suite over the layer, what a server sees, and what
//! others who know the format wrote.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::sync::Arc;

use crate::support::{World, path};
use client::encrypted::{Encrypted, FileKey};
use client::log::{LogLevel, SessionLog};
use client::session::*;
use session_core::batch::{TransferOptions, Unattended};
use session_core::conformance::{self, Subject};
use session_core::error::ErrorKind;
use session_core::fs::Filesystem;
use session_core::fs_ext::FilesystemExt as _;
use session_core::store::memory::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
const SUFFIX: &str = ".aesctr.enc";

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_keeps_every_promise_of_a_filesystem() {
    let key = Arc::new(FileKey::parse(KEY).unwrap());
    let store = Arc::new(MemoryStore::new());
    let fs = Encrypted::new(Arc::clone(&store) as _, key);
    let mut subject = Subject::new(Arc::new(fs));
    subject.profile.byte_names = false;
    let report = conformance::run_all(&subject).await;
    assert!(report.failures().is_empty(), "{report}");
    assert!(report.passed() > 100, "{report}");
}

async fn opened(options: SessionOptions) -> Session {
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await.unwrap();
    session
}

fn with_key(world: &World, key: &str) -> SessionOptions {
    world.options().add_raw_setting("EncryptKey", key).unwrap()
}

/// What openssl made of a text under the salt `f0f1…ff`, behind the header, and of a name under `0001…0f`.
fn of_openssl() -> (&'static str, Vec<u8>) {
    let text = "5fb718d128627f5035bae967a717ab223c0111bd391474762713e94aea175be0\
                73a40cf0601b747d69e4b18f17fabd0b4a33c1a71f50449fb4";
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
    };
    let salt = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    let content = [&b"aesctr.........."[..], &salt, &hex(text)].concat();
    ("AAECAwQFBgcICQoLDA0OD_DN+eE3puz9v8HTuZ+2Ww.aesctr.enc", content)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_encrypted_is_read_and_the_server_sees_nothing_in_plain() {
    for world in [World::sftp().await, World::ftpes().await] {
        let session = opened(with_key(&world, KEY)).await;
        let (stored, content) = of_openssl();
        world.write(&format!("/d/{stored}"), content).await;
        world.write("/d/plain", "in plain").await;

        // Written by another program under the same key.
        let listed = session.list_directory("/d").await.unwrap();
        let mut names: Vec<_> = listed.files.iter().map(|f| (f.name(), f.length())).collect();
        names.sort();
        assert_eq!(names, [("Grüße (1).txt".to_owned(), 57), ("plain".to_owned(), 8)]);
        let mut file = session.get_file("/d/Grüße (1).txt").await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "The quick brown fox jumps over the lazy dog, twice over.\n");
        file.seek(std::io::SeekFrom::Start(20)).await.unwrap();
        text.clear();
        file.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "jumps over the lazy dog, twice over.\n");

        // A tree goes there and back; names, directories and content are not seen.
        let (dir, options) = (tempfile::tempdir().unwrap(), TransferOptions::default());
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("tree/inner")).unwrap();
        let large: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
        for (name, content) in
            [("tree/secret.txt", &b"nobody sees this"[..]), ("tree/empty", b""), ("tree/inner/large", &large)]
        {
            std::fs::write(at(name), content).unwrap();
        }
        for _ in 0..2 {
            // The second time it replaces what is there, under the names that are there.
            session.put_files(at("tree"), "/d/", false, &options).await.unwrap().check().unwrap();
        }
        let seen = world.tree().await;
        let stored: Vec<_> = seen.iter().filter(|p| p.contains(SUFFIX)).collect();
        assert_eq!(stored.len(), 6, "{seen:?}");
        let words = ["secret", "tree", "inner", "large", "filepart"];
        assert!(!seen.iter().any(|p| words.iter().any(|w| p.contains(w))), "{seen:?}");
        for name in seen.iter().filter(|p| p.contains(SUFFIX) && !p.ends_with('/')) {
            let content = world.read(name).await;
            assert!(content.is_empty() || content.starts_with(b"aesctr.........."));
            assert!(!content.windows(6).any(|w| w == b"nobody"));
        }
        let again = session.get_files("/d/tree", at("back"), false, &options).await.unwrap();
        again.check().unwrap();
        assert!(std::fs::read(at("back/inner/large")).unwrap() == large);
        assert_eq!(std::fs::read(at("back/secret.txt")).unwrap(), b"nobody sees this");
        assert_eq!(std::fs::read(at("back/empty")).unwrap(), b"");

        // What is in plain stays so when it is written again; what moves keeps what it is.
        session.put_file(&b"still in plain"[..], "/d/plain", &options).await.unwrap();
        assert!(world.has("/d/plain").await);
        session.move_file("/d/tree/secret.txt", "/d/tree/moved").await.unwrap();
        assert!(session.file_exists("/d/tree/moved").await.unwrap());
        assert!(!session.file_exists("/d/tree/secret.txt").await.unwrap());
        session.create_directory("/d/new").await.unwrap();
        assert!(!world.has("/d/new").await);
        session.remove_files("/d/tree").await.unwrap().check().unwrap();
        assert!(!session.file_exists("/d/tree").await.unwrap());

        // With another key it is what is stored.
        let other = opened(with_key(&world, &KEY.replace("603d", "ffff"))).await;
        let names: Vec<_> =
            other.list_directory("/d").await.unwrap().files.iter().map(|f| f.name()).collect();
        assert!(names.contains(&"plain".to_owned()) && !names.contains(&"Grüße (1).txt".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_are_synchronised_and_the_key_is_told_nobody() {
    let (world, dir) = (World::sftp().await, tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("s/sub")).unwrap();
    std::fs::write(at("s/sub/f"), "one").unwrap();
    let options = with_key(&world, KEY);
    let shown = format!("{options:?} {}", options.to_url());
    assert!(!shown.contains("603deb"), "{shown}");
    let session = Session::new();
    session.set_log(Some(SessionLog::open(&at("log"), LogLevel::Debug).unwrap()));
    session.open(options, Arc::new(Unattended)).await.unwrap();
    session.create_directory("/s").await.unwrap();
    let how = SynchronizationOptions::new(SynchronizationMode::Remote);
    let first = session.synchronize_directories(at("s"), "/s", &how).await.unwrap();
    first.check().unwrap();
    assert_eq!(first.uploads.len(), 1);
    let second = session.synchronize_directories(at("s"), "/s", &how).await.unwrap();
    assert!(second.uploads.is_empty(), "{second:?}");
    assert!(!std::fs::read_to_string(at("log")).unwrap().contains("603deb"));

    // It is the text that is hashed, and no program of the server's.
    let (sum, _) = session.calculate_file_checksum("sha-256", "/s/sub/f").await.unwrap();
    let sum: String = sum.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(sum, "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");

    let bad = world.options().add_raw_setting("EncryptKey", "12").map(|_| ()).unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_plain_name_counts_before_an_encrypted_one() {
    let store = Arc::new(MemoryStore::new());
    let layer = || {
        let key = Arc::new(FileKey::parse(KEY).unwrap());
        Encrypted::new(Arc::clone(&store) as Arc<dyn Filesystem>, key)
    };
    let (one, other) = (layer(), layer());
    one.write_all(&path("/f"), b"encrypted"[..].into()).await.unwrap();
    assert_eq!(other.read_to_vec(&path("/f"), 100).await.unwrap(), b"encrypted");
    store.write_all(&path("/f"), b"plain"[..].into()).await.unwrap();
    assert_eq!(layer().read_to_vec(&path("/f"), 100).await.unwrap(), b"plain");
    // A file that says that it is encrypted, and is not.
    store.write_all(&path(&format!("/{}", of_openssl().0)), b"x"[..].into()).await.unwrap();
    let e = layer().read_to_vec(&path("/Grüße (1).txt"), 100).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
}
