//! Who may log in, and what is allowed where.

use std::sync::Arc;

use client::batch::{Batch, Job};
use session_core::batch::{Overwrite, TransferOptions, Unattended};
use session_core::error::ErrorKind;
use session_core::fs::*;
use session_core::path::VPath;

use crate::support::*;

#[tokio::test]
async fn permissions_are_by_path() {
    let rules = "[users.permissions]\n\"/\" = [\"list\", \"get\"]\n\"/in\" = [\"put\"]\n\"/keep\" = [\"list\", \"get\", \"put\"]\n";
    let nothing = "[users.permissions]\n\"/in\" = \"full\"\n";
    let config = user("alice") + rules + &user("reader") + "read_only = true\n" + &user("none") + nothing;
    let s = Server::start(&config, &[]);
    for name in ["alice", "reader", "none"] {
        for dir in ["in", "keep"] {
            std::fs::create_dir_all(s.home(name).join(dir)).unwrap();
            std::fs::write(s.home(name).join(dir).join("there"), "there").unwrap();
        }
    }
    let a = s.login("alice").await;
    put(&a, "/in/mine", "x").await.unwrap();
    assert_eq!(std::fs::read_to_string(s.home("alice").join("in/mine")).unwrap(), "x");
    let denied = |r: session_core::error::Result<()>, what: &str| {
        let kind = r.err().unwrap_or_else(|| panic!("{what} is allowed")).kind();
        assert!(matches!(kind, ErrorKind::PermissionDenied | ErrorKind::Refused), "{what}: {kind:?}");
    };
    denied(names(&a, "/in").await.map(drop), "list in");
    denied(get(&a, "/in/there").await.map(drop), "get in");
    denied(a.fs().remove_file(&path("/in/there")).await, "remove in");
    denied(put(&a, "/x", "").await, "put /");
    put(&a, "/keep/y", "y").await.unwrap();
    assert_eq!(get(&a, "/keep/y").await.unwrap(), "y");
    denied(a.fs().remove_file(&path("/keep/y")).await, "remove keep");
    denied(a.fs().rename(&path("/keep/y"), &path("/keep/z"), Replace::No).await, "rename keep");
    let r = s.login("reader").await;
    assert_eq!(get(&r, "/keep/there").await.unwrap(), "there");
    denied(put(&r, "/f", "").await, "put read-only");
    denied(r.fs().remove_file(&path("/keep/there")).await, "remove read-only");
    assert!(s.home("reader").join("keep/there").exists());
    let n = s.login("none").await;
    denied(get(&n, "/keep/there").await.map(drop), "no rule");
    assert_eq!(get(&n, "/in/there").await.unwrap(), "there");
}

#[tokio::test]
async fn a_drop_box_takes_whole_trees_and_shows_nothing() {
    let s = Server::start(&(user("alice") + "[users.permissions]\n\"/\" = [\"put\", \"make\"]\n"), &[]);
    let here = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(here.path().join("t/sub")).unwrap();
    std::fs::write(here.path().join("t/small"), "small").unwrap();
    // Large enough for a temporary name elsewhere.
    let large = vec![7; 9 << 20];
    std::fs::write(here.path().join("t/sub/large"), &large).unwrap();
    let (a, local) = (s.login("alice").await, client::connect::open_local().unwrap());
    let job = |to: &str| {
        let from = VPath::absolute(here.path().join("t").to_str().unwrap().as_bytes()).unwrap();
        vec![Job { from, to: path(to) }]
    };
    for overwrite in [Overwrite::Always, Overwrite::Newer] {
        let options = TransferOptions { overwrite, recursive: true, ..TransferOptions::default() };
        let send = async |to: &str| {
            let batch = Batch::new(local.fs().clone(), a.fs().clone(), options.clone(), Arc::new(Unattended));
            batch.run(job(to)).await
        };
        let name = format!("/{overwrite:?}");
        send(&name).await.check().unwrap();
        let home = s.home("alice").join(&name[1..]);
        assert_eq!(std::fs::read(home.join("small")).unwrap(), b"small");
        assert!(std::fs::read(home.join("sub/large")).unwrap() == large);
        assert_eq!(std::fs::read_dir(home.join("sub")).unwrap().count(), 1, "a temporary file is left");
        // What is there cannot be replaced, and is not harmed.
        assert!(send(&name).await.check().is_err());
        assert_eq!(std::fs::read(home.join("small")).unwrap(), b"small");
    }
}

#[tokio::test]
async fn addresses_and_switched_off_accounts() {
    let config =
        user("far") + "addresses = [\"192.0.2.0/24\"]\n" + &user("near") + "addresses = [\"127.0.0.0/8\"]\n";
    let s = Server::start(&(config + &user("off") + "enabled = false\n"), &[]);
    s.login("near").await;
    for name in ["far", "off"] {
        assert_eq!(s.try_login(name, PASSWORD).await.err().unwrap().kind(), ErrorKind::Unauthenticated);
    }
    s.logged(&["login failed", "far", "from this address"]).await;
}

#[tokio::test]
async fn two_factors_are_a_key_and_then_the_password() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("id");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "t", "-f"])
        .arg(&file)
        .status();
    if !made.is_ok_and(|s| s.success()) {
        eprintln!("skipped: there is no ssh-keygen");
        return;
    }
    let public = std::fs::read_to_string(keys.path().join("id.pub")).unwrap();
    let config =
        user("alice") + &format!("keys = [\"{}\"]\nrequire = [\"publickey\", \"password\"]\n", public.trim());
    let s = Server::start(&config, &[]);
    let open = |password: &str, key: bool| {
        let options = s.options("alice", password);
        let options = if key { options.identities(vec![file.clone()]) } else { options };
        client::connect::open_url(options, std::sync::Arc::new(session_core::batch::Unattended))
    };
    put(&open(PASSWORD, true).await.unwrap(), "/f", "").await.unwrap();
    assert_eq!(open("wrong", true).await.err().unwrap().kind(), ErrorKind::Unauthenticated);
    assert_eq!(open(PASSWORD, false).await.err().unwrap().kind(), ErrorKind::Unauthenticated);
    let line = s.logged(&["logged in", "alice"]).await;
    assert_eq!(line["methods"], "publickey,password");
}

#[tokio::test]
async fn sessions_of_a_user_and_tries_are_limited() {
    let s = Server::start(&("[limits]\nper_user = 1\ntries = 1\n".to_string() + &user("alice")), &[]);
    let a = s.login("alice").await;
    assert!(s.try_login("alice", PASSWORD).await.is_err());
    put(&a, "/f", "").await.unwrap();
    a.close().await;
    until("the session to be gone", || s.sessions().is_empty()).await;
    // One try: the connection ends before the client's second method.
    let e = s.try_login("alice", "wrong").await.err().unwrap();
    assert!(matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::Unauthenticated), "{e:#}");
    s.logged(&["too many failed logins"]).await;
    s.login("alice").await;
}

#[tokio::test]
async fn names_are_filtered_on_every_protocol() {
    let config = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n\
                  [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n"
        .to_string()
        + &user("alice")
        + "[[users.filters]]\ndeny = [\"*.exe\"]\n[[users.filters]]\npath = \"/in\"\ndeny = [\"secret*\"]\nhide = true\n";
    let s = Server::configured(&config, &[]);
    std::fs::create_dir_all(s.home("alice").join("in/secret")).unwrap();
    for file in ["a.exe", "b.txt", "in/open", "in/secret.txt", "in/secret/x", "in/c.exe"] {
        std::fs::write(s.home("alice").join(file), "x").unwrap();
    }
    for protocol in ["sftp", "ftp"] {
        let options = s.options_at(protocol, s.port_of("ferry", protocol), "alice", PASSWORD);
        let c = client::connect::open_url(options, Arc::new(Unattended)).await.unwrap();
        assert_eq!(names(&c, "/").await.unwrap(), ["a.exe", "b.txt", "in"], "denied is seen");
        assert_eq!(names(&c, "/in").await.unwrap(), ["c.exe", "open"], "hidden is not; {protocol}");
        for bad in ["/a.exe", "/in/secret.txt", "/in/secret/x"] {
            assert!(get(&c, bad).await.is_err(), "{bad} over {protocol}");
        }
        assert_eq!(get(&c, "/in/c.exe").await.unwrap(), "x");
        assert!(put(&c, "/new.EXE", "x").await.is_err() && put(&c, "/in/secret2", "x").await.is_err());
        assert!(c.fs().rename(&path("/b.txt"), &path("/b.exe"), Replace::No).await.is_err());
        assert!(c.fs().remove_file(&path("/in/secret.txt")).await.is_err());
        assert!(s.home("alice").join("in/secret.txt").exists() && s.home("alice").join("b.txt").exists());
    }
}

#[tokio::test]
async fn an_account_has_its_time_its_protocols_and_its_beginning() {
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60;
    // An hour that is not now, whenever that is.
    let then = format!("{:02}:00-{:02}:59", (today / 60 + 12) % 24, (today / 60 + 12) % 24);
    let config = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n\
                  [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n"
        .to_string()
        + &user("old")
        + "expires = 2001-01-01\n"
        + &user("night")
        + &format!("hours = [\"{then}\"]\n")
        + &user("secure")
        + "protocols = [\"sftp\", \"ftps\"]\n"
        + &user("deep")
        + "start = \"/in/%u\"\nsessions = 2\n";
    let s = Server::configured(&config, &[]);
    for (name, sub_status) in [("old", 106), ("night", 107)] {
        let e = s.try_login(name, PASSWORD).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{name}: the same as a wrong password");
        assert_eq!(s.logged(&["login failed", name]).await["sub_status"], sub_status);
    }
    s.login("secure").await;
    let port = s.port_of("ferry", "ftp");
    assert!(crate::ftp::Ftp::connect(port).0.log_in("secure").starts_with("530"));
    std::fs::create_dir_all(s.home("deep").join("in/deep")).unwrap();
    std::fs::write(s.home("deep").join("in/deep/f"), "x").unwrap();
    let (mut one, mut two) = (crate::ftp::Ftp::connect(port).0, crate::ftp::Ftp::connect(port).0);
    assert!(one.log_in("deep").starts_with("230") && two.log_in("deep").starts_with("230"));
    assert!(one.ask("PWD").contains("\"/in/deep\"") && one.ask("MDTM f").starts_with("213"));
    assert!(s.try_login("deep", PASSWORD).await.is_err(), "two sessions at once");
    assert!(one.ask("QUIT").starts_with("221"));
    until("a place to be free", || s.sessions().iter().filter(|s| s["userName"] == "deep").count() < 2).await;
    s.login("deep").await;
}

#[tokio::test]
async fn a_session_ends_when_its_accounts_time_is_over() {
    let s = Server::start(&user("alice"), &[]);
    let a = s.login("alice").await;
    let config = format!("data = \".\"\n{}expires = 2001-01-01\n", user("alice"));
    std::fs::write(s.data.join("ferryd.toml"), config).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert!(put(&a, "/f", "x").await.is_err());
    assert_eq!(s.logged(&["session closed", "expired"]).await["sub_status"], 106);
}
