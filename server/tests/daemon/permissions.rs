//! Attack 12: every permission against every operation, over SFTP and over FTP, with one answer.
//!
//! Copies are not here: a client makes them of several requests, each asked for itself. Each permission is
//! tried alone, and all of them without it: 32 accounts and two protocols, so this takes
//! a little longer than other tests.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use client::connect::{Connected, open_url};
use session_core::batch::Unattended;
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

/// What FTP has no word for.
const NOT_OVER_FTP: &[&str] = &["chown", "truncate", "make a link", "read a link", "a second name"];

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

async fn carry_out(c: &Connected, operation: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let fs = c.fs();
    let write = |at: &'static str| async move { put(c, at, "new").await };
    let owner = std::fs::metadata("/proc/self").unwrap().uid();
    match operation {
        "list" => names(c, "/").await.map(drop),
        "stat" => fs.stat(&path("/file"), Follow::No).await.map(drop),
        "get" => get(c, "/file").await.map(drop),
        "put" => write("/new").await,
        "overwrite" => write("/file").await,
        "make" => fs.create_dir(&path("/new"), &Attributes::none()).await,
        "remove a directory" => fs.remove_dir(&path("/dir")).await,
        "remove a file" => fs.remove_file(&path("/file")).await,
        "rename a file" => fs.rename(&path("/file"), &path("/new"), Replace::Yes).await,
        "rename a directory" => fs.rename(&path("/dir"), &path("/new"), Replace::Yes).await,
        "rename over a file" => fs.rename(&path("/file"), &path("/other"), Replace::Yes).await,
        "chmod" => fs.set_attributes(&path("/file"), &Attributes::mode(0o600), Follow::Yes).await,
        "chown" => {
            let attributes = Attributes { uid: Some(owner), gid: Some(owner), ..Attributes::none() };
            fs.set_attributes(&path("/file"), &attributes, Follow::Yes).await
        }
        "chtimes" => {
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            let both = Attributes { modified: Some(then), accessed: Some(then), ..Attributes::none() };
            let modified = Attributes { modified: Some(then), ..Attributes::none() };
            match fs.capabilities().symlinks {
                true => fs.set_attributes(&path("/file"), &both, Follow::Yes).await,
                false => fs.set_attributes(&path("/file"), &modified, Follow::Yes).await,
            }
        }
        "truncate" => fs.set_attributes(&path("/file"), &Attributes::size(1), Follow::Yes).await,
        "make a link" => fs.symlink(b"file", &path("/new")).await,
        "read a link" => fs.read_link(&path("/link")).await.map(drop),
        "get through a link" => get(c, "/link").await.map(drop),
        "a second name" => fs.hard_link(&path("/file"), &path("/new")).await,
        _ => panic!("{operation}"),
    }
}

fn name_of(kind: &str, permission: Permission) -> String {
    format!("{kind}-{}", permission.name())
}

#[tokio::test]
async fn each_permission_means_the_same_on_each_protocol() {
    let mut config = String::from(
        "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n\
         [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n",
    );
    let mut accounts = Vec::new();
    for one in P::ALL {
        let others: Vec<_> = P::ALL.iter().copied().filter(|p| p != one).collect();
        for (kind, allowed) in [("only", vec![*one]), ("not", others)] {
            let name = name_of(kind, *one);
            let words: Vec<_> = allowed.iter().map(|p| format!("{:?}", p.name())).collect();
            config += &user(&name);
            config += &format!("[users.permissions]\n\"/\" = [{}]\n", words.join(", "));
            accounts.push((name, PermissionSet::of(&allowed)));
        }
    }
    let s = Arc::new(Server::configured(&config, &[]));
    let mut tasks = Vec::new();
    for (name, allowed) in accounts {
        let s = Arc::clone(&s);
        tasks.push(tokio::spawn(async move {
            for protocol in ["sftp", "ftp"] {
                let options = s.options_at(protocol, s.port_of("ferry", protocol), &name, PASSWORD);
                let home = s.home(&name);
                furnish(&home);
                let c = open_url(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}"));
                for (operation, needs) in OPERATIONS {
                    if protocol == "ftp" && NOT_OVER_FTP.contains(operation) {
                        continue;
                    }
                    furnish(&home);
                    let expected = needs.iter().all(|group| group.iter().any(|p| allowed.contains(*p)));
                    let result = carry_out(&c, operation).await;
                    let unsupported = result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unsupported);
                    assert!(!unsupported, "{operation} over {protocol}");
                    assert_eq!(result.is_ok(), expected, "{name}: {operation} over {protocol}: {result:?}");
                }
                c.close().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
