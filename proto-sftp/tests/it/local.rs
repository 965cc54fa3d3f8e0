//! The driver over a directory of this machine: what real clients ask for, on a real disk.
#![cfg(feature = "server")]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use crate::support::*;
use bytes::Bytes;
use proto_sftp::wire::extension::{self, Extended};
use proto_sftp::wire::{Attrs, Reply, Request};
use session_core::auth::Account;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

fn b(s: &str) -> Bytes {
    Bytes::from(s.to_owned())
}

fn serve(root: &std::path::Path) -> SessionFs {
    let session = Session::new(Setup::new(Protocol::Sftp, "test"));
    let identity = session.log_in(Account::named("someone"), vec![]).unwrap();
    let store = LocalStore::open(root, LocalOptions::default()).unwrap();
    session.guard(&identity, Arc::new(store), Arc::<Chain>::default()).unwrap()
}

fn name(reply: Reply) -> Bytes {
    match reply {
        Reply::Name(names) => names[0].name.clone(),
        other => panic!("{other:?}"),
    }
}

async fn all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(&outside, "secret").unwrap();
    let mut c = Client::connect(serve(&root), 1 << 20).await;
    let ok = |reply: Reply| assert_eq!(code(&reply), Some(0), "{reply:?}");

    // Directories, files, attributes.
    ok(c.ask(Request::Mkdir { path: b("/d"), attrs: Attrs { mode: Some(0o40750), ..Attrs::default() } })
        .await);
    let h = c.open("/d/file", READ | WRITE | CREATE | TRUNCATE).await;
    ok(c.ask(Request::Write { handle: h.clone(), offset: 0, data: b("content") }).await);
    let times = Attrs { mode: Some(0o100600), times: Some((1_000, 4_000_000_000)), ..Attrs::default() };
    ok(c.ask(Request::Fsetstat { handle: h.clone(), attrs: times }).await);
    ok(c.ask(Request::Extended(Extended::Fsync { handle: h.clone() })).await);
    ok(c.ask(Request::Close { handle: h }).await);
    let on_disk = std::fs::metadata(root.join("d/file")).unwrap();
    assert_eq!((on_disk.len(), on_disk.mode() & 0o7777, on_disk.mtime()), (7, 0o600, 4_000_000_000));
    assert_eq!(std::fs::metadata(root.join("d")).unwrap().permissions().mode() & 0o777, 0o750);
    let Reply::Attrs(a) = c.ask(Request::Stat { path: b("/d/file") }).await else { panic!() };
    assert_eq!((a.size, a.mode, a.times), (Some(7), Some(0o100600), Some((1_000, 4_000_000_000))));
    assert_eq!(a.owner, Some((on_disk.uid(), on_disk.gid())));

    // Renames: plain ones never replace.
    let rename = |from: &str, to: &str| Request::Rename { from: b(from), to: b(to) };
    std::fs::write(root.join("d/other"), "other").unwrap();
    assert_eq!(code(&c.ask(rename("/d/file", "/d/other")).await), Some(4));
    ok(c.ask(Request::Extended(Extended::PosixRename { from: b("/d/file"), to: b("/d/other") })).await);
    assert_eq!(std::fs::read(root.join("d/other")).unwrap(), b"content");

    // Links: target first. What they point to is followed inside the root, refused outside.
    ok(c.ask(Request::Symlink { target: b("other"), link: b("/d/link") }).await);
    assert_eq!(std::fs::read_link(root.join("d/link")).unwrap().as_os_str(), "other");
    assert_eq!(name(c.ask(Request::Readlink { path: b("/d/link") }).await), "other");
    let Reply::Attrs(a) = c.ask(Request::Lstat { path: b("/d/link") }).await else { panic!() };
    assert_eq!(a.mode.unwrap() & 0o170_000, 0o120_000);
    let Reply::Attrs(a) = c.ask(Request::Stat { path: b("/d/link") }).await else { panic!() };
    assert_eq!(a.size, Some(7));
    std::os::unix::fs::symlink("../../outside", root.join("d/escape")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("absolute")).unwrap();
    assert_eq!(code(&c.ask(Request::Stat { path: b("/d/escape") }).await), Some(3));
    assert_eq!(code(&c.ask(Request::Stat { path: b("/absolute") }).await), Some(2));
    assert_eq!(code(&c.ask(Request::Stat { path: b("/../outside") }).await), Some(2));
    ok(c.ask(Request::Extended(Extended::Hardlink { from: b("/d/other"), to: b("/d/hard") })).await);
    assert_eq!(std::fs::metadata(root.join("d/hard")).unwrap().nlink(), 2);

    // Names are bytes.
    let odd = Bytes::from_static(b"/d/\xff\xfe odd\n");
    let open = Request::Open { path: odd.clone(), flags: WRITE | CREATE | TRUNCATE, attrs: Attrs::default() };
    let Reply::Handle(h) = c.ask(open).await else { panic!() };
    ok(c.ask(Request::Close { handle: h }).await);
    assert!(root.join(std::ffi::OsStr::from_bytes(&odd[1..])).exists());
    let Reply::Handle(h) = c.ask(Request::Opendir { path: b("/d") }).await else { panic!() };
    let Reply::Name(entries) = c.ask(Request::Readdir { handle: h.clone() }).await else { panic!() };
    let mut names: Vec<_> = entries.iter().map(|e| e.name.clone()).collect();
    names.sort();
    assert_eq!(names, [&b"escape"[..], b"hard", b"link", b"other", b"\xff\xfe odd\n"]);
    assert_eq!(code(&c.ask(Request::Readdir { handle: h }).await), Some(1));
    ok(c.ask(Request::Remove { path: odd }).await);

    // Space, and what is left to fail.
    let Reply::Extended(space) = c.ask(Request::Extended(Extended::Statvfs { path: b("/") })).await else {
        panic!()
    };
    let space = extension::decode_statvfs(space).unwrap();
    assert!(space.blocks >= space.blocks_free && space.blocks > 0 && space.name_max >= 143);
    assert_eq!(code(&c.ask(Request::Rmdir { path: b("/d") }).await), Some(4));
    assert_eq!(code(&c.ask(Request::Remove { path: b("/d") }).await), Some(4));
    assert_eq!(code(&c.ask(Request::Opendir { path: b("/d/other") }).await), Some(2));
    assert_eq!(code(&c.ask(Request::Stat { path: b("/no") }).await), Some(2));
    assert_eq!(name(c.ask(Request::Realpath { path: b("no/such/../path") }).await), "/no/path");
    c.finish().await.unwrap();
}

#[tokio::test]
async fn on_one_thread() {
    all_of_it().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads() {
    all_of_it().await;
}
