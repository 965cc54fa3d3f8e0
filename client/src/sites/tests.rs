//! The file of sites: what is written is read, and secrets stay where they belong.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::session::{FtpMode, SshHostKeyPolicy};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("ferry/sites.toml"));
    (dir, store)
}

fn phrase() -> Secret {
    Secret::new("correct horse")
}

fn plain(name: &str) -> Site {
    Site::new(name, SessionOptions::sftp("h").user_name("u")).unwrap()
}

/// Everything that a site can hold.
fn rich() -> Site {
    let pin = ["aa"; 16].join(":");
    let options = SessionOptions::sftp("::1")
        .port_number(2022)
        .user_name("a b@c")
        .password("hunter2")
        .ssh_private_key_path("/keys/k")
        .private_key_passphrase("opens")
        .ssh_host_key_fingerprint(pin)
        .and_then(|o| o.timeout(std::time::Duration::from_secs(40)))
        .and_then(|o| o.add_raw_setting("Tunnel", "1"))
        .and_then(|o| o.add_raw_setting("TunnelHostName", "gate"))
        .and_then(|o| o.add_raw_setting("TunnelPasswordPlain", "gate-secret"))
        .unwrap()
        .known_hosts("/records");
    let site = Site::new("Customers/ACME web", options).unwrap();
    Site { directory: Some("/var/www x".into()), ..site }
}

/// Answers with these, one after another.
struct Phrases(Mutex<Vec<&'static str>>);

#[async_trait]
impl Decider for Phrases {
    async fn decide(&self, query: Query) -> Answer {
        let Query::Passphrase { key } = &query else { panic!("{query:?}") };
        assert!(key.ends_with("sites.toml"), "{key}");
        match self.0.lock().unwrap().pop() {
            Some(phrase) => Answer::Secret(Secret::new(phrase)),
            None => query.unattended(),
        }
    }
}

#[tokio::test]
async fn a_site_comes_back_as_it_was_and_its_secrets_by_the_passphrase_only() {
    let (_dir, store) = store();
    store
        .edit(|sites| {
            assert_eq!(sites.put(rich()).unwrap_err().kind(), ErrorKind::Unauthenticated);
            sites.unlock(&phrase())?;
            sites.put(rich())?;
            sites.put(plain("plain"))
        })
        .unwrap();
    let text = std::fs::read_to_string(store.path()).unwrap();
    for secret in ["hunter2", "opens", "gate-secret"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(std::fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);

    // Without a secret nothing is asked.
    let nobody = Phrases(Mutex::default());
    assert_eq!(store.open("PLAIN", &nobody).await.unwrap().options.name.as_deref(), Some("plain"));
    let e = store.open("Customers/ACME web", &nobody).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    let e = store.open("acme", &nobody).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(format!("{e:#}").contains("Customers/ACME web"), "{e:#}");
    assert_eq!(store.open_if_there("nowhere", &nobody).await.unwrap(), None);

    let somebody = Phrases(Mutex::new(vec!["correct horse", "wrong"]));
    let mut back = store.open("Customers/ACME web", &somebody).await.unwrap();
    assert_eq!(back.options.name.take().as_deref(), Some("Customers/ACME web"));
    // The order of raw settings is not kept.
    let sorted = |mut site: Site| {
        site.options.raw.sort();
        site
    };
    assert_eq!(sorted(back), sorted(rich()));
    let guesser = Phrases(Mutex::new(vec!["correct horse", "c", "b", "a"]));
    let e = store.open("Customers/ACME web", &guesser).await.expect_err("three tries");
    assert!(e.to_string().contains("does not open"), "{e}");
}

#[test]
fn secrets_belong_to_the_settings_that_say_who_gets_them() {
    let (_dir, store) = store();
    store
        .edit(|sites| {
            sites.unlock(&phrase())?;
            sites.put(rich())
        })
        .unwrap();
    let text = std::fs::read_to_string(store.path()).unwrap();
    for (from, to) in [
        ("@[::1]:2022/", "@evil.example:2022/"),
        ("x-TunnelHostName=gate", "x-TunnelHostName=evil"),
        ("name = \"Customers/ACME web\"", "name = \"other\""),
        ("known-hosts = \"/records\"", "known-hosts = \"/evil\""),
        ("known-hosts = \"/records\"", "host-key-policy = \"accept-any\""),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        std::fs::write(store.path(), changed).unwrap();
        let mut sites = store.read().unwrap();
        let name = sites.names()[0].to_owned();
        sites.unlock(&phrase()).unwrap();
        assert_eq!(sites.site(&name).unwrap_err().kind(), ErrorKind::Corrupt, "{to}");
        assert!(sites.plain(&name).is_ok());
    }
    // Where it begins concerns nobody else.
    std::fs::write(store.path(), text.replace("/var/www x", "/srv")).unwrap();
    let mut sites = store.read().unwrap();
    sites.unlock(&phrase()).unwrap();
    assert_eq!(sites.site("Customers/ACME web").unwrap().directory.as_deref(), Some("/srv"));
}

#[test]
fn the_passphrase_can_be_changed() {
    let (_dir, store) = store();
    store
        .edit(|sites| {
            sites.unlock(&phrase())?;
            sites.put(rich())
        })
        .unwrap();
    let new = Secret::new("battery staple");
    let locked = store.edit(|sites| sites.change_passphrase(&new));
    assert_eq!(locked.unwrap_err().kind(), ErrorKind::Unauthenticated);
    store
        .edit(|sites| {
            sites.unlock(&phrase())?;
            sites.change_passphrase(&new)
        })
        .unwrap();
    let mut sites = store.read().unwrap();
    assert_eq!(sites.unlock(&phrase()).unwrap_err().kind(), ErrorKind::Unauthenticated);
    sites.unlock(&new).unwrap();
    assert_eq!(sites.site("Customers/ACME web").unwrap().options.password, Some(Secret::new("hunter2")));
    // The last secret takes the lock with it.
    store.edit(|sites| sites.remove("Customers/ACME web")).unwrap();
    assert!(!store.read().unwrap().has_lock());
}

#[test]
fn what_others_may_write_is_not_used_and_what_makes_no_sense_says_where() {
    let (_dir, store) = store();
    assert!(store.read().unwrap().names().is_empty(), "no file, no sites");
    store.edit(|sites| sites.put(plain("a"))).unwrap();
    std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o620)).unwrap();
    assert_eq!(store.read().unwrap_err().kind(), ErrorKind::PermissionDenied);
    std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let site = "[[site]]\nname = \"a\"\nurl = \"sftp://h/\"\n";
    for (text, kind, word) in [
        ("version = 2\n".to_owned(), ErrorKind::Unsupported, "form 2"),
        ("version = 1\ncolour = 2\n".into(), ErrorKind::InvalidArgument, "colour"),
        (format!("version = 1\n{site}{site}"), ErrorKind::InvalidArgument, "twice"),
        ("version = 1\n[[site]]\nname = \"a\"\nurl = \"x\"\n".into(), ErrorKind::InvalidArgument, "'a'"),
        (
            "version = 1\n[[site]]\nname = \"a//b\"\nurl = \"sftp://h/\"\n".into(),
            ErrorKind::InvalidArgument,
            "a//b",
        ),
        ("nonsense".into(), ErrorKind::InvalidArgument, "line 1"),
    ] {
        std::fs::write(store.path(), &text).unwrap();
        let e = store.read().unwrap_err();
        assert_eq!(e.kind(), kind, "{text}: {e}");
        assert!(e.to_string().contains(word), "{text}: {e}");
        // What cannot be read is not written over.
        assert!(store.edit(|sites| sites.put(plain("b"))).is_err());
        assert_eq!(std::fs::read_to_string(store.path()).unwrap(), text);
    }
    for bad in ["", " a", "a/", "/a", "a\nb"] {
        assert!(Site::new(bad, SessionOptions::sftp("h")).is_err(), "{bad:?}");
    }
}

#[test]
fn many_writers_lose_nothing() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let store = &store;
            scope.spawn(move || store.edit(|sites| sites.put(plain(&format!("site {n}")))).unwrap());
        }
    });
    assert_eq!(store.read().unwrap().names().len(), 8);
    let failed: Result<()> = store.edit(|sites| {
        sites.remove("site 1")?;
        Err(Error::new(ErrorKind::Canceled))
    });
    assert!(failed.is_err());
    assert_eq!(store.read().unwrap().names().len(), 8, "a change that failed is none");
}

#[test]
fn a_link_to_the_file_stays_one() {
    let (dir, store) = store();
    let real = dir.path().join("dotfiles.toml");
    std::fs::create_dir(dir.path().join("ferry")).unwrap();
    std::fs::write(&real, "version = 1\n").unwrap();
    std::os::unix::fs::symlink(&real, store.path()).unwrap();
    store.edit(|sites| sites.put(plain("a"))).unwrap();
    assert!(store.path().symlink_metadata().unwrap().is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().contains("name = \"a\""));
}

#[test]
fn modes_and_policies_are_kept() {
    let (_dir, store) = store();
    let ftp = SessionOptions::ftp("h").ftp_mode(FtpMode::Active).tls_client_certificate_path("/c.pem");
    let new = SessionOptions::sftp("h").ssh_host_key_policy(SshHostKeyPolicy::AcceptNew);
    store
        .edit(|sites| {
            sites.put(Site::new("ftp", ftp.clone())?)?;
            sites.put(Site::new("new", new.clone())?)
        })
        .unwrap();
    let sites = store.read().unwrap();
    assert_eq!(sites.names(), ["ftp", "new"]);
    assert_eq!(sites.site("ftp").unwrap().options, ftp.name("ftp"));
    assert_eq!(sites.site("new").unwrap().options, new.name("new"));
}
