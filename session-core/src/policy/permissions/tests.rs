//! Every operation against every permission.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::auth::Account;
use crate::fs::{Algorithm, Filesystem, Follow, ListOptions, OpenOptions};
use crate::intercept::Chain;
use crate::operation::{self as op, Record};
use crate::policy::ReadOnly;
use crate::session::{Protocol, Session, Setup};
use crate::store::local::{LocalOptions, LocalStore};
use Permission as P;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn rules(list: &[(&str, &[Permission])]) -> Permissions {
    Permissions::new(list.iter().map(|(s, a)| Rule { path: p(s), allow: PermissionSet::of(a) }).collect())
}

fn store() -> (tempfile::TempDir, Arc<LocalStore>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("old"), "old").unwrap();
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    (dir, Arc::new(store))
}

/// One record of each kind, on files that do not exist unless `old`.
fn record(kind: OperationKind) -> Record {
    let path = p("/new");
    let attributes = Attributes::none();
    match kind {
        OperationKind::Abort => op::Abort { path, size: 0 }.into(),
        OperationKind::Canonicalize => op::Canonicalize { path }.into(),
        OperationKind::Checksum => {
            op::Checksum { path, algorithm: Algorithm::Sha256, range: Range::default() }.into()
        }
        OperationKind::Commit => {
            op::Commit { path, size: 0, replaces: None, attributes, early: false, findings: Vec::new() }
                .into()
        }
        OperationKind::Copy => op::Copy { from: p("/old"), to: path, replace: Replace::Yes }.into(),
        OperationKind::CreateDir => op::CreateDir { path, attributes }.into(),
        OperationKind::HardLink => op::HardLink { from: p("/old"), to: path }.into(),
        OperationKind::List => op::List { path, options: ListOptions::default(), hide: vec![] }.into(),
        OperationKind::Lock => op::Lock { path, deep: false, exclusive: true }.into(),
        OperationKind::Open => op::Open { path, options: OpenOptions::create() }.into(),
        OperationKind::Park => op::Park { path, size: 0 }.into(),
        OperationKind::Read => op::Read { path, offset: 0, len: 1 }.into(),
        OperationKind::ReadLink => op::ReadLink { path }.into(),
        OperationKind::RemoveDir => op::RemoveDir { path }.into(),
        OperationKind::RemoveFile => op::RemoveFile { path }.into(),
        OperationKind::Rename => op::Rename { from: p("/old"), to: path, replace: Replace::Yes }.into(),
        OperationKind::SetAttributes => {
            op::SetAttributes { path, attributes: Attributes::mode(0o600), follow: Follow::Yes }.into()
        }
        OperationKind::Space => op::Space { path }.into(),
        OperationKind::Stat => op::Stat { path, follow: Follow::Yes }.into(),
        OperationKind::Symlink => op::Symlink { path, target: Bytes::from_static(b"x") }.into(),
        OperationKind::Sync => op::Sync { path }.into(),
        OperationKind::Unlock => op::Unlock { path }.into(),
        OperationKind::Write => op::Write { path, offset: 0, len: 1 }.into(),
    }
}

async fn ask(permissions: &Permissions, store: &LocalStore, record: Record) -> Result<()> {
    let mut record = record;
    permissions.check(Peek(store), &record.as_operation()).await
}

/// With all but one permission: which one each operation cannot do without.
#[tokio::test]
async fn every_operation_needs_what_the_table_says() {
    let (_dir, store) = store();
    for kind in OperationKind::ALL {
        let needed: &[Permission] = match kind {
            OperationKind::Abort
            | OperationKind::Commit
            | OperationKind::Park
            | OperationKind::Read
            | OperationKind::Sync
            | OperationKind::Unlock
            | OperationKind::Write => {
                assert!(!Permissions::default().interests().contains(*kind));
                continue;
            }
            OperationKind::Checksum => &[P::Get],
            OperationKind::Copy => &[],
            OperationKind::CreateDir => &[P::Make],
            OperationKind::HardLink => &[P::Get, P::Put],
            OperationKind::List => &[P::List],
            OperationKind::Open => &[P::Put],
            OperationKind::ReadLink => &[P::FollowSymlinks],
            OperationKind::Symlink => &[P::CreateSymlinks],
            OperationKind::RemoveDir => &[P::DeleteDirs],
            OperationKind::RemoveFile => &[P::DeleteFiles],
            OperationKind::Rename => &[P::RenameFiles],
            OperationKind::SetAttributes => &[P::Chmod],
            // Any one of several will do.
            OperationKind::Canonicalize
            | OperationKind::Lock
            | OperationKind::Space
            | OperationKind::Stat => &[],
        };
        assert!(Permissions::default().interests().contains(*kind), "{kind:?} is not asked");
        let nothing = rules(&[("/elsewhere", P::ALL)]);
        let refusal = ask(&nothing, &store, record(*kind)).await.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Refused, "{kind:?} with no rule");
        assert!(refusal.peer_words().starts_with("permission denied: "));
        for without in P::ALL {
            let others: Vec<_> = P::ALL.iter().copied().filter(|q| q != without).collect();
            let result = ask(&rules(&[("/", &others)]), &store, record(*kind)).await;
            assert_eq!(result.is_err(), needed.contains(without), "{kind:?} without {without:?}: {result:?}");
        }
    }
}

#[tokio::test]
async fn stat_needs_list_or_get() {
    let (_dir, store) = store();
    for one in P::ALL {
        let ok = ask(&rules(&[("/", &[*one])]), &store, record(OperationKind::Stat)).await.is_ok();
        assert_eq!(ok, matches!(one, P::List | P::Get), "{one:?}");
    }
}

#[tokio::test]
async fn writing_over_a_file_needs_modify_and_a_new_one_put() {
    let (_dir, store) = store();
    let put = rules(&[("/", &[P::Put, P::RenameFiles, P::RenameDirs, P::Get])]);
    let modify = rules(&[("/", &[P::Modify, P::RenameFiles, P::RenameDirs, P::Get])]);
    let open = |path: &str| Record::from(op::Open { path: p(path), options: OpenOptions::create() });
    assert!(ask(&put, &store, open("/new")).await.is_ok());
    assert!(ask(&put, &store, open("/old")).await.is_err());
    assert!(ask(&modify, &store, open("/new")).await.is_err());
    assert!(ask(&modify, &store, open("/old")).await.is_ok());
    let rename = |replace| Record::from(op::Rename { from: p("/x"), to: p("/old"), replace });
    let e = ask(&put, &store, rename(Replace::Yes)).await.unwrap_err();
    assert_eq!(e.path(), Some(&p("/old")));
    assert!(ask(&put, &store, rename(Replace::No)).await.is_ok());
    assert!(ask(&modify, &store, rename(Replace::Yes)).await.is_ok());
    let truncate =
        op::SetAttributes { path: p("/old"), attributes: Attributes::size(0), follow: Follow::Yes };
    assert!(ask(&put, &store, truncate.clone().into()).await.is_err());
    assert!(ask(&modify, &store, truncate.into()).await.is_ok());
}

#[tokio::test]
async fn the_most_specific_rule_alone_decides_and_both_ends_are_asked() {
    let (_dir, store) = store();
    let permissions =
        rules(&[("/", P::ALL), ("/in", &[P::Put]), ("/in/sub", &[P::Get, P::RenameFiles, P::RenameDirs])]);
    assert_eq!(permissions.at(&p("/in/x")), PermissionSet::of(&[P::Put]));
    assert_eq!(permissions.at(&p("/inside")), PermissionSet::full());
    assert_eq!(permissions.at(&p("/in/sub/x")), PermissionSet::of(&[P::Get, P::RenameFiles, P::RenameDirs]));
    let rename =
        |from: &str, to: &str| Record::from(op::Rename { from: p(from), to: p(to), replace: Replace::No });
    assert!(ask(&permissions, &store, rename("/a", "/b")).await.is_ok());
    assert!(ask(&permissions, &store, rename("/a", "/in/b")).await.is_err());
    assert!(ask(&permissions, &store, rename("/in/a", "/b")).await.is_err());
    // The rules of `/in/sub` would stay behind.
    let moved = rules(&[("/", P::ALL), ("/in/sub", &[])]);
    assert!(ask(&moved, &store, rename("/in", "/out")).await.is_err());
    // A second name where more is allowed than at the first.
    let linked = rules(&[("/", P::ALL), ("/ro", &[P::Get, P::List])]);
    let link = Record::from(op::HardLink { from: p("/ro/a"), to: p("/b") });
    assert!(ask(&linked, &store, link).await.is_err());
}

#[tokio::test]
async fn through_the_gate_links_need_their_permission_where_they_lead() {
    let (dir, store) = store();
    std::os::unix::fs::symlink("/old", dir.path().join("dir/link")).unwrap();
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("u"), vec![]).unwrap();
    let guard = |permissions: Permissions| {
        session.guard(&identity, Arc::clone(&store) as _, Chain::new(vec![Arc::new(permissions)])).unwrap()
    };
    let read = OpenOptions::read();
    let get = guard(rules(&[("/", &[P::Get])]));
    assert!(get.open(&p("/old"), &read).await.is_ok());
    assert_eq!(get.open(&p("/dir/link"), &read).await.err().unwrap().kind(), ErrorKind::Refused);
    let both = guard(rules(&[("/", &[P::Get, P::FollowSymlinks])]));
    assert!(both.open(&p("/dir/link"), &read).await.is_ok());
    // Writing through a link is judged where it ends.
    let put = guard(rules(&[("/", &[P::Get, P::FollowSymlinks, P::Put])]));
    let write = OpenOptions { write: true, ..OpenOptions::default() };
    assert_eq!(put.open(&p("/dir/link"), &write).await.err().unwrap().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_read_only_account_reads_and_changes_nothing() {
    let (_dir, store) = store();
    let session = Session::new(Setup::new(Protocol::Local, "test"));
    let identity = session.log_in(Account::named("u"), vec![]).unwrap();
    let fs = session.guard(&identity, store as _, Chain::new(vec![Arc::new(ReadOnly)])).unwrap();
    assert!(fs.open(&p("/old"), &OpenOptions::read()).await.is_ok());
    assert!(fs.stat(&p("/old"), Follow::No).await.is_ok());
    let refused = |r: Result<()>| assert_eq!(r.unwrap_err().kind(), ErrorKind::Refused);
    refused(fs.open(&p("/new"), &OpenOptions::create()).await.map(|_| ()));
    refused(fs.create_dir(&p("/d"), &Attributes::none()).await);
    refused(fs.remove_file(&p("/old")).await);
    refused(fs.rename(&p("/old"), &p("/x"), Replace::No).await);
    refused(fs.set_attributes(&p("/old"), &Attributes::mode(0o600), Follow::Yes).await);
    refused(fs.symlink(b"old", &p("/s")).await);
    refused(fs.hard_link(&p("/old"), &p("/h")).await);
    refused(fs.remove_dir(&p("/dir")).await);
}

#[tokio::test]
async fn a_copy_is_made_by_who_may_copy_or_could_do_it_by_hand() {
    let (_dir, store) = store();
    let copy = |to: &str| Record::from(op::Copy { from: p("/old"), to: p(to), replace: Replace::Yes });
    for (allowed, new, old) in [
        (&[P::Copy][..], true, false),
        (&[P::Copy, P::Modify], true, true),
        (&[P::Get, P::Put], true, false),
        (&[P::Get, P::Modify], false, true),
        (&[P::Get], false, false),
        (&[P::Put], false, false),
    ] {
        let rules = rules(&[("/", allowed)]);
        assert_eq!(ask(&rules, &store, copy("/new")).await.is_ok(), new, "{allowed:?}");
        assert_eq!(ask(&rules, &store, copy("/old")).await.is_ok(), old, "{allowed:?} over a file");
    }
    // Who may copy and not read does not read the copy either.
    let rules = rules(&[("/", &[P::Copy]), ("/mine", P::ALL)]);
    assert!(ask(&rules, &store, copy("/mine/x")).await.is_err());
}

#[tokio::test]
async fn files_and_directories_are_told_apart() {
    let (_dir, store) = store();
    let rename = |from: &str| Record::from(op::Rename { from: p(from), to: p("/new"), replace: Replace::No });
    for (allowed, file, dir) in
        [(P::RenameFiles, true, false), (P::RenameDirs, false, true), (P::Modify, false, false)]
    {
        let rules = rules(&[("/", &[allowed])]);
        assert_eq!(ask(&rules, &store, rename("/old")).await.is_ok(), file, "{allowed:?}");
        assert_eq!(ask(&rules, &store, rename("/dir")).await.is_ok(), dir, "{allowed:?}");
    }
}

#[test]
fn words_of_other_servers_are_understood() {
    for (word, set) in [
        ("Edit_Metadata", &[P::Chmod, P::Chown, P::Chtimes, P::Properties][..]),
        ("Symlink", &[P::CreateSymlinks, P::FollowSymlinks]),
        ("rename", &[P::RenameFiles, P::RenameDirs]),
        ("delete_dirs", &[P::DeleteDirs]),
        ("download", &[P::Get]),
        ("upload", &[P::Put]),
        ("overwrite", &[P::Modify]),
        ("create_dirs", &[P::Make]),
        ("*", P::ALL),
        ("full", P::ALL),
    ] {
        assert_eq!(PermissionSet::parse(word), Some(PermissionSet::of(set)), "{word}");
    }
    assert!(PermissionSet::words().all(|w| PermissionSet::parse(w).is_some()));
    assert_eq!(PermissionSet::parse("lst"), None);
}
