//! Virtual folders, over SFTP and over FTP.

use std::sync::Arc;

use client::connect::{Connected, open_url};
use session_core::batch::Unattended;
use session_core::error::{ErrorKind, Result};
use session_core::fs::*;
use session_core::metadata::Attributes;

use crate::support::*;

const BOTH: &str = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n\
                    [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n";

async fn over(s: &Server, protocol: &str, user: &str) -> Connected {
    let options = s.options_at(protocol, s.port_of("ferry", protocol), user, PASSWORD);
    open_url(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}\n{}", s.log()))
}

fn refused<T>(protocol: &str, what: &str, result: Result<T>) {
    match result {
        Ok(_) => panic!("{what} worked over {protocol}"),
        Err(e) => assert_ne!(e.kind(), ErrorKind::Unsupported, "{what} over {protocol}: {e:#}"),
    }
}

#[tokio::test]
async fn folders_stand_in_the_tree_with_their_own_permissions_on_each_protocol() {
    let config = format!(
        "{BOTH}[[folders]]\npath = \"/all\"\nfolder = \"all\"\n\
         [[groups]]\nname = \"staff\"\n[[groups.folders]]\npath = \"/team/papers\"\nfolder = \"papers\"\nread_only = true\n\
         {}groups = [\"staff\"]\n[users.permissions]\n\"/\" = \"full\"\n\"/team/papers/in\" = \"full\"\n\
         [[users.folders]]\npath = \"/drop\"\nfolder = \"drop/%u\"\n[users.folders.permissions]\n\"/\" = [\"list\", \"put\"]\n\
         {}",
        user("alice"),
        user("bob")
    );
    let s = Server::configured(&config, &[]);
    std::fs::create_dir_all(s.data.join("papers/in")).unwrap();
    std::fs::write(s.data.join("papers/news"), "read me").unwrap();
    for protocol in ["sftp", "ftp"] {
        let (alice, bob) = (over(&s, protocol, "alice").await, over(&s, protocol, "bob").await);
        assert_eq!(names(&alice, "/").await.unwrap(), ["all", "drop", "team"], "{protocol}");
        assert_eq!(names(&alice, "/team").await.unwrap(), ["papers"]);
        assert_eq!(names(&bob, "/").await.unwrap(), ["all"]);
        // What one puts the other has.
        put(&alice, "/all/from-alice", protocol).await.unwrap();
        assert_eq!(get(&bob, "/all/from-alice").await.unwrap(), protocol);
        assert_eq!(std::fs::read_to_string(s.data.join("all/from-alice")).unwrap(), protocol);
        // Uploads under way are nobody else's.
        let file = begin(&alice, "/all/half", "half").await.unwrap();
        assert!(!names(&bob, "/all").await.unwrap().contains(&"half".into()));
        file.abort().await.unwrap_or_default();
        // Rules are those of the folder.
        assert_eq!(get(&alice, "/team/papers/news").await.unwrap(), "read me");
        refused(protocol, "a write into what is read", put(&alice, "/team/papers/x", "x").await);
        refused(protocol, "a rule above what is only read", put(&alice, "/team/papers/in/x", "x").await);
        put(&alice, &format!("/drop/{protocol}"), "x").await.unwrap();
        assert!(s.data.join("drop/alice").join(protocol).exists());
        refused(protocol, "get where there is no get", get(&alice, &format!("/drop/{protocol}")).await);
        // The folders themselves stay.
        for at in ["/all", "/team/papers", "/team", "/drop"] {
            refused(protocol, at, alice.fs().remove_dir(&path(at)).await);
            refused(protocol, at, alice.fs().rename(&path(at), &path("/gone"), Replace::No).await);
            refused(protocol, at, alice.fs().create_dir(&path(at), &Attributes::none()).await);
        }
        // Files move between folders where the protocol's server copies them.
        put(&alice, "/own", "mine").await.unwrap();
        let moved = alice.fs().rename(&path("/own"), &path("/all/own"), Replace::No).await;
        assert_eq!(moved.is_ok(), protocol == "ftp", "{moved:?}");
        let at = if protocol == "ftp" { "/all/own" } else { "/own" };
        assert_eq!(get(&alice, at).await.unwrap(), "mine");
        alice.fs().remove_file(&path(at)).await.unwrap();
        bob.fs().remove_file(&path("/all/from-alice")).await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_had_is_told_and_takes_nothing_else_away() {
    let folders = "[[users.folders]]\npath = \"/gone\"\nfolder = \"gone\"\nread_only = true\n\
                   [[users.folders]]\npath = \"/file\"\nfolder = \"file\"\n";
    let s = Server::start(&format!("{}{folders}", user("alice")), &[("file", "no folder")]);
    let alice = s.login("alice").await;
    assert_eq!(names(&alice, "/").await.unwrap(), ["file", "gone"]);
    for at in ["/gone", "/file"] {
        assert!(names(&alice, at).await.is_err(), "it is no empty folder");
        assert!(put(&alice, &format!("{at}/x"), "x").await.is_err());
    }
    put(&alice, "/own", "x").await.unwrap();
    assert!(s.log().contains("a virtual folder cannot be opened"));
    let (code, _, told) = s.ask(&["check", "--config", s.data.join("ferryd.toml").to_str().unwrap()]);
    assert!(code == 2 && told.contains("'/gone' of 'alice'"), "{told}");
}

#[tokio::test]
async fn a_link_in_a_shared_folder_leads_nobody_out_of_it() {
    let shared = "[[users.folders]]\npath = \"/shared\"\nfolder = \"shared\"\n";
    let s = Server::start(&format!("{}{shared}{}{shared}", user("alice"), user("bob")), &[]);
    let (alice, bob) = (s.login("alice").await, s.login("bob").await);
    put(&alice, "/shared/file", "shared").await.unwrap();
    put(&bob, "/private", "bob's own").await.unwrap();
    alice.fs().symlink(b"../private", &path("/shared/trap")).await.unwrap();
    alice.fs().symlink(b"/private", &path("/shared/trap2")).await.unwrap();
    alice.fs().symlink(b"file", &path("/shared/link")).await.unwrap();
    assert_eq!(get(&bob, "/shared/link").await.unwrap(), "shared");
    for trap in ["/shared/trap", "/shared/trap2"] {
        assert!(get(&bob, trap).await.is_err());
        assert!(put(&bob, trap, "lost").await.is_err());
    }
    assert_eq!(get(&bob, "/private").await.unwrap(), "bob's own");
}
