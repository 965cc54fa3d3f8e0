//! Attack 12: every permission against every operation, over every protocol, with one answer.
//!
//! What an operation needs stands in one table; another says where a client must be allowed more to make it of the
//! requests that it has, and what has no words at all, each with its reason. Copies are not here: a client makes them of
//! several requests, each asked for itself. Each permission is tried alone, and all of them without it: 32 accounts and
//! five protocols, so this takes a little longer than other tests. TLS changes nothing of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use client::connect::Connected;
use session_core::error::{ErrorKind, Result};
use session_core::fs::*;
use session_core::metadata::Attributes;
use session_core::policy::{Permission, PermissionSet};

use crate::support::*;
use Permission as P;

/// What an operation needs: one of each group.
const OPERATIONS: &[(&str, &[&[Permission]])] = &[
    ("list", &[&[P::List]]),
    ("stat", &[&[P::List, P::Get]]),
    ("get", &[&[P::Get]]),
    ("put", &[&[P::Put]]),
    ("overwrite", &[&[P::Modify]]),
    ("make", &[&[P::Make]]),
    ("remove a directory", &[&[P::DeleteDirs]]),
    ("remove a file", &[&[P::DeleteFiles]]),
    ("rename a file", &[&[P::RenameFiles]]),
    ("rename a directory", &[&[P::RenameDirs]]),
    ("rename over a file", &[&[P::RenameFiles], &[P::Modify]]),
    ("chmod", &[&[P::Chmod]]),
    ("chown", &[&[P::Chown]]),
    ("chtimes", &[&[P::Chtimes]]),
    ("truncate", &[&[P::Modify]]),
    ("make a link", &[&[P::CreateSymlinks]]),
    ("read a link", &[&[P::FollowSymlinks]]),
    ("get through a link", &[&[P::FollowSymlinks], &[P::Get]]),
    ("a second name", &[&[P::Get], &[P::Put]]),
];

/// Ways on which an operation is not what it is on the others.
struct Otherwise {
    ways: &'static [&'static str],
    operations: &'static [&'static str],
    /// What it needs there; `None` where there are no words for it.
    needs: Option<&'static [&'static [Permission]]>,
    #[allow(dead_code, reason = "for who reads the table")]
    reason: &'static str,
}

const fn otherwise(
    ways: &'static [&'static str],
    operations: &'static [&'static str],
    needs: Option<&'static [&'static [Permission]]>,
    reason: &'static str,
) -> Otherwise {
    Otherwise { ways, operations, needs, reason }
}

const FTP: &[&str] = &["ftp"];
const SCP: &[&str] = &["scp"];
const DAV: &[&str] = &["dav"];
const S3: &[&str] = &["s3plain"];

/// A file may be seen.
const SEE: &[Permission] = &[P::List, P::Get];

const OTHERWISE: &[Otherwise] = &[
    otherwise(
        FTP,
        &["read a link"],
        Some(&[&[P::FollowSymlinks], SEE]),
        "where a link leads is told with what it is",
    ),
    otherwise(FTP, &["chown", "truncate", "a second name"], None, "there are no verbs for it"),
    otherwise(
        SCP,
        &[
            "remove a directory",
            "remove a file",
            "rename a file",
            "rename a directory",
            "rename over a file",
            "chmod",
            "chown",
            "chtimes",
            "truncate",
            "make a link",
            "read a link",
            "a second name",
        ],
        None,
        "beside SCP itself a client needs a shell, and our server has none",
    ),
    otherwise(SCP, &["stat"], Some(&[&[P::Get]]), "what a file is stands before its content"),
    otherwise(
        SCP,
        &["make"],
        Some(&[&[P::Make], SEE]),
        "without a parent it would be made under the parent's name: the client looks before it",
    ),
    otherwise(
        DAV,
        &["chmod", "chown", "truncate", "make a link", "read a link", "a second name"],
        None,
        "there are neither modes nor owners nor links, and a file is replaced as a whole",
    ),
    otherwise(
        DAV,
        &["remove a file"],
        Some(&[&[P::DeleteFiles], SEE]),
        "DELETE would take a directory: the client looks before it",
    ),
    otherwise(
        DAV,
        &["remove a directory"],
        Some(&[&[P::DeleteDirs], &[P::List]]),
        "DELETE would take all that is in it: the client looks before it",
    ),
    otherwise(
        DAV,
        &["chtimes"],
        Some(&[&[P::Chtimes], SEE]),
        "the server looks at what it sets a property of",
    ),
    otherwise(
        DAV,
        &["rename a file"],
        Some(&[&[P::RenameFiles], SEE]),
        "MOVE takes files and trees alike: the client looks before it",
    ),
    otherwise(
        DAV,
        &["rename a directory"],
        Some(&[&[P::RenameDirs], SEE]),
        "MOVE takes files and trees alike: the client looks before it",
    ),
    otherwise(
        DAV,
        &["rename over a file"],
        Some(&[&[P::RenameFiles], &[P::Modify], SEE]),
        "MOVE takes files and trees alike: the client looks before it",
    ),
    otherwise(
        S3,
        &["make"],
        Some(&[&[P::Make], SEE]),
        "a directory is what keys begin with: the client looks before it",
    ),
    otherwise(
        S3,
        &["remove a directory"],
        Some(&[&[P::DeleteDirs], &[P::List]]),
        "a directory is what keys begin with: the client looks before it",
    ),
    otherwise(
        S3,
        &["remove a file"],
        Some(&[&[P::DeleteFiles], SEE]),
        "the removal of what is not there succeeds: the client looks before it",
    ),
    otherwise(
        S3,
        &["rename a file"],
        Some(&[&[P::Get], &[P::Put], &[P::DeleteFiles]]),
        "a rename is a copy, which is read and written, and a removal",
    ),
    otherwise(
        S3,
        &["rename over a file"],
        Some(&[&[P::Get], &[P::Modify], &[P::DeleteFiles]]),
        "a rename is a copy, which is read and written, and a removal",
    ),
    otherwise(
        S3,
        &["chmod", "chown", "chtimes", "truncate", "make a link", "read a link", "a second name"],
        None,
        "objects have no attributes that could be set, and are replaced as a whole",
    ),
    otherwise(S3, &["rename a directory"], None, "its objects are moved one by one, as a job"),
];

/// What an operation needs on this way, and `None` where there are no words for it.
fn needs(way: Way, operation: &str) -> Option<&'static [&'static [Permission]]> {
    let here = |o: &&Otherwise| o.ways.contains(&way.scheme) && o.operations.contains(&operation);
    match OTHERWISE.iter().find(here) {
        Some(otherwise) => otherwise.needs,
        None => OPERATIONS.iter().find(|(name, _)| *name == operation).map(|(_, needs)| *needs),
    }
}

/// A home as every operation wants it.
fn furnish(home: &Path) {
    // The home itself stays: the server has it open.
    for name in ["dir", "file", "link", "new", "other"] {
        let _ = std::fs::remove_dir_all(home.join(name));
        let _ = std::fs::remove_file(home.join(name));
    }
    std::fs::create_dir_all(home.join("dir")).unwrap();
    std::fs::write(home.join("file"), "content").unwrap();
    std::fs::write(home.join("other"), "other").unwrap();
    std::os::unix::fs::symlink("file", home.join("link")).unwrap();
}

async fn carry_out(way: Way, c: &Connected, operation: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let fs = c.fs();
    let at = |name: &str| way.at(name);
    let text = |name: &str| format!("{}{name}", way.base());
    // As clients do, which know the size of what they send.
    let write = async |name: &str| {
        let options = OpenOptions { size_hint: Some(3), ..OpenOptions::create() };
        let file = fs.open(&at(name), &options).await?;
        file.write_at(0, "new".into()).await?;
        file.commit(&CommitOptions::default()).await.map(drop)
    };
    let owner = std::fs::metadata("/proc/self").unwrap().uid();
    match operation {
        "list" => names(c, &text("/")).await.map(drop),
        "stat" => fs.stat(&at("/file"), Follow::No).await.map(drop),
        "get" => get(c, &text("/file")).await.map(drop),
        "put" => write("/new").await,
        "overwrite" => write("/file").await,
        "make" => fs.create_dir(&at("/new"), &Attributes::none()).await,
        "remove a directory" => fs.remove_dir(&at("/dir")).await,
        "remove a file" => fs.remove_file(&at("/file")).await,
        "rename a file" => fs.rename(&at("/file"), &at("/new"), Replace::Yes).await,
        "rename a directory" => fs.rename(&at("/dir"), &at("/new"), Replace::Yes).await,
        "rename over a file" => fs.rename(&at("/file"), &at("/other"), Replace::Yes).await,
        "chmod" => fs.set_attributes(&at("/file"), &Attributes::mode(0o600), Follow::Yes).await,
        "chown" => {
            let attributes = Attributes { uid: Some(owner), gid: Some(owner), ..Attributes::none() };
            fs.set_attributes(&at("/file"), &attributes, Follow::Yes).await
        }
        "chtimes" => {
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            let both = Attributes { modified: Some(then), accessed: Some(then), ..Attributes::none() };
            let modified = Attributes { modified: Some(then), ..Attributes::none() };
            match fs.capabilities().symlinks {
                true => fs.set_attributes(&at("/file"), &both, Follow::Yes).await,
                false => fs.set_attributes(&at("/file"), &modified, Follow::Yes).await,
            }
        }
        "truncate" => fs.set_attributes(&at("/file"), &Attributes::size(1), Follow::Yes).await,
        "make a link" => fs.symlink(b"file", &at("/new")).await,
        "read a link" => fs.read_link(&at("/link")).await.map(drop),
        "get through a link" => get(c, &text("/link")).await.map(drop),
        "a second name" => fs.hard_link(&at("/file"), &at("/new")).await,
        _ => panic!("{operation}"),
    }
}

fn name_of(kind: &str, permission: Permission) -> String {
    format!("{kind}-{}", permission.name())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_permission_means_the_same_on_each_protocol() {
    let mut config = EVERYWHERE.to_owned();
    let mut accounts = Vec::new();
    for one in P::ALL {
        let others: Vec<_> = P::ALL.iter().copied().filter(|p| p != one).collect();
        for (kind, allowed) in [("only", vec![*one]), ("not", others)] {
            let name = name_of(kind, *one);
            let words: Vec<_> = allowed.iter().map(|p| format!("{:?}", p.name())).collect();
            config += &user_everywhere(&name);
            config += &format!("[users.permissions]\n\"/\" = [{}]\n", words.join(", "));
            accounts.push((name, PermissionSet::of(&allowed)));
        }
    }
    let s = Arc::new(Server::configured(&config, &[]));
    let mut tasks = Vec::new();
    for (name, allowed) in accounts {
        let s = Arc::clone(&s);
        tasks.push(tokio::spawn(async move {
            let mut wrong = Vec::new();
            for way in ["sftp", "scp", "ftp", "dav", "s3plain"].map(Way::of) {
                let home = s.home(&name).join(way.base().trim_start_matches('/'));
                furnish(&home);
                let c = way.login(&s, &name).await;
                for (operation, _) in OPERATIONS {
                    furnish(&home);
                    let result = carry_out(way, &c, operation).await;
                    let scheme = way.scheme;
                    let Some(needs) = needs(way, operation) else {
                        let kind = result.as_ref().err().map(|e| e.kind());
                        let has_no_words =
                            matches!(kind, Some(ErrorKind::Unsupported | ErrorKind::CrossDevice));
                        let may_not = kind == Some(ErrorKind::PermissionDenied);
                        if !has_no_words && !may_not {
                            wrong.push(format!("{name}: {operation} over {scheme}: {result:?}"));
                        }
                        continue;
                    };
                    let expected = needs.iter().all(|group| group.iter().any(|p| allowed.contains(*p)));
                    if result.is_ok() != expected {
                        wrong.push(format!("{name}: {operation} over {scheme}: {result:?}"));
                    }
                }
                c.close().await;
            }
            wrong
        }));
    }
    let mut wrong = Vec::new();
    for task in tasks {
        wrong.extend(task.await.unwrap());
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
