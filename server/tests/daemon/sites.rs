//! Several sites in one server: by port, by HOST, by TLS and by `user@site`.

use std::io::{Read as _, Write as _};

use crate::ftp::Ftp;
use crate::support::*;

/// `user` of a site.
fn of_site(name: &str) -> String {
    user(name).replace("[[users]]", "[[sites.users]]")
}

/// Two sites: `main` at three ports, `shop` at one of SFTP and over FTP by name.
fn two() -> String {
    format!(
        "[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n\
         [[sites]]\nname = \"main\"\n\
         listeners = [{{ protocol = \"ftp\", port = 0 }}, {{ protocol = \"sftp\", port = 0 }}]\n{}\
         [[sites]]\nname = \"shop\"\nhosts = [\"shop.example\"]\n\
         listeners = [{{ protocol = \"sftp\", port = 0 }}]\n\
         [sites.ftp]\ncontrol = \"allow\"\ndata = \"allow\"\nwelcome = \"The shop is open\"\n{}{}",
        of_site("alice"),
        of_site("alice"),
        of_site("bob"),
    )
}

fn start() -> Server {
    let s = Server::configured(&two(), &[]);
    for (site, user) in [("main", "alice"), ("shop", "alice"), ("shop", "bob")] {
        let home = s.data.join("sites").join(site).join("homes").join(user);
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join(format!("of-{site}")), "x").unwrap();
    }
    s
}

/// Whether the session sees the files of this site.
fn is_at(ftp: &mut Ftp, site: &str) -> bool {
    let other = if site == "main" { "shop" } else { "main" };
    let has = |ftp: &mut Ftp, site: &str| ftp.ask(&format!("MDTM of-{site}"));
    has(ftp, other).starts_with("550") && has(ftp, site).starts_with("213 ")
}

#[tokio::test]
async fn a_port_has_its_site() {
    let s = start();
    for site in ["main", "shop"] {
        let options = s.options_at("sftp", s.port_of(site, "sftp"), "alice", PASSWORD);
        let c = client::connect::open_url(options, std::sync::Arc::new(session_core::batch::Unattended));
        let c = c.await.unwrap();
        assert_eq!(names(&c, "/").await.unwrap(), [format!("of-{site}")]);
        let here = s.sessions();
        assert_eq!((here.len(), here[0]["site"].as_str()), (1, Some(site)));
        c.close().await;
        until("the session to be gone", || s.sessions().is_empty()).await;
    }
}

#[tokio::test]
async fn host_leads_to_a_site_and_its_messages() {
    let s = start();
    let (mut ftp, _) = Ftp::connect(s.port_of("main", "ftp"));
    assert!(ftp.ask("HOST nowhere.example").starts_with("504"));
    assert!(ftp.ask("HOST Shop.Example.").starts_with("220"));
    let welcome = ftp.log_in("bob");
    assert!(welcome.starts_with("230") && welcome.contains("The shop is open"), "{welcome}");
    assert!(is_at(&mut ftp, "shop"));
    assert_eq!(s.sessions()[0]["site"], "shop");
    // Who leaves is where the connection came to.
    assert!(ftp.ask("REIN").starts_with("220"));
    assert!(ftp.log_in("bob").starts_with("530"), "main has no bob");
    assert!(ftp.log_in("alice").starts_with("230"));
    assert!(is_at(&mut ftp, "main"));
    assert!(ftp.ask("HOST shop.example").starts_with("503"));
}

#[tokio::test]
async fn a_name_may_tell_its_site() {
    let s = start();
    for (user, site) in
        [("alice", "main"), ("alice@shop", "shop"), ("bob@shop.example", "shop"), ("shop|bob", "shop")]
    {
        let (mut ftp, _) = Ftp::connect(s.port_of("main", "ftp"));
        assert!(ftp.log_in(user).starts_with("230"), "{user}");
        assert!(is_at(&mut ftp, site), "{user}");
    }
    let (mut ftp, _) = Ftp::connect(s.port_of("main", "ftp"));
    assert!(ftp.log_in("bob@nowhere").starts_with("530"));
}

#[tokio::test]
async fn tls_leads_to_a_site_with_its_certificate() {
    let s = start();
    let certificate = |site: &str| s.data.join("sites").join(site).join("tls.crt");
    let port = s.port_of("main", "ftp");
    let mut ftp = Ftp::secured(port, "shop.example", &certificate("shop")).unwrap();
    assert!(ftp.log_in("bob").starts_with("230"));
    assert!(is_at(&mut ftp, "shop"));
    let mut ftp = Ftp::secured(port, "localhost", &certificate("main")).unwrap();
    assert!(ftp.log_in("alice").starts_with("230"));
    assert!(is_at(&mut ftp, "main"));
    assert!(Ftp::secured(port, "shop.example", &certificate("main")).is_err(), "another site's certificate");
}

#[tokio::test]
async fn a_site_that_asks_for_more_is_not_found_by_name() {
    let config = two().replacen("[sites.ftp]\ncontrol = \"allow\"", "[sites.ftp]\ncontrol = \"require\"", 1);
    let s = Server::configured(&config, &[]);
    let (mut ftp, _) = Ftp::connect(s.port_of("main", "ftp"));
    assert!(ftp.ask("HOST shop.example").starts_with("504"));
    assert!(ftp.log_in("bob@shop").starts_with("530"));
    assert!(!s.log().contains("the site"));
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_site() {
    let s = start();
    let port = s.port_of("main", "ftp");
    let (mut one, mut two) = (Ftp::connect(port).0, Ftp::connect(port).0);
    assert!(one.log_in("alice").starts_with("230") && two.log_in("alice@shop").starts_with("230"));
    let (code, out, _) = s.ask(&["sessions", "--site", "shop", "--json"]);
    assert_eq!((code, out.lines().count()), (0, 1));
    assert_eq!(s.ask(&["sessions", "kill", "--site", "shop"]).0, 0);
    assert_eq!(two.reply().get(..3), Some("421"));
    assert!(is_at(&mut one, "main"));
}

#[tokio::test]
async fn a_reload_adds_and_removes_sites() {
    let s = start();
    let port = s.port_of("main", "ftp");
    let (mut stays, mut goes) = (Ftp::connect(port).0, Ftp::connect(port).0);
    assert!(stays.log_in("alice").starts_with("230") && goes.log_in("bob@shop").starts_with("230"));
    let config = format!("data = \".\"\n{}", two().replace("\"shop\"", "\"store\""));
    std::fs::write(s.data.join("ferryd.toml"), &config).unwrap();
    let (code, out, err) = s.ask(&["reload"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("added site 'store'") && out.contains("removed site 'shop'"), "{out}");
    assert_eq!(goes.reply().get(..3), Some("421"));
    assert!(is_at(&mut stays, "main"));
    let (mut ftp, _) = Ftp::connect(port);
    assert!(ftp.log_in("bob@shop").starts_with("530"));
    assert!(ftp.log_in("bob@store").starts_with("230"));
    let past = s.ask(&["sessions", "history", "--reason", "54", "--json"]).1;
    assert_eq!(past.lines().count(), 1, "{past}");
    // A bad file changes nothing.
    std::fs::write(s.data.join("ferryd.toml"), config + "[[sites]]\nname = \"main\"\n").unwrap();
    assert_eq!(s.ask(&["reload"]).0, 2);
    assert!(Ftp::connect(port).0.log_in("bob@store").starts_with("230"));
}

/// A text that is sent to whoever connects to a port, until it is closed.
fn said(port: u16) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut text = [0; 200];
    let n = stream.read(&mut text).unwrap_or(0);
    String::from_utf8_lossy(&text[..n]).into_owned()
}

/// `main` and `shop`, each with a port of FTP and one of SFTP, found by name as well; `more` of each and of the file.
fn each_with(file: &str, main: &str, shop: &str) -> String {
    let listeners = "listeners = [{ protocol = \"ftp\", port = 0 }, { protocol = \"sftp\", port = 0 }]\nfsync = \"never\"\n";
    let users = of_site("alice");
    format!(
        "[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n{file}\n\
         [[sites]]\nname = \"main\"\n{listeners}{main}\n{users}\
         [[sites]]\nname = \"shop\"\n{listeners}{shop}\n{users}"
    )
}

/// What a site's own protector blocks is blocked there, over all of its protocols and by name as well, and nowhere else.
#[tokio::test]
async fn a_site_keeps_out_whom_its_own_protector_blocks_and_other_sites_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let write = |shop: &str| {
        let text = each_with("[protector]\nsafe = []\nstrikes = 50\n", "", shop);
        std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{text}")).unwrap();
    };
    let own = "[sites.protector]\nsafe = []\nstrikes = 2\n";
    write(own);
    let mut s = Server::at_own(dir.path());
    let taken = |s: &Server, site: &str| {
        [("ftp", "220"), ("sftp", "SSH-")].map(|(p, hello)| said(s.port_of(site, p)).starts_with(hello))
    };
    let by_name = |s: &Server| {
        let (mut ftp, _) = Ftp::connect(s.port_of("main", "ftp"));
        ftp.log_in("alice@shop").starts_with("230")
    };
    let block = |s: &Server| {
        let (mut guess, _) = Ftp::connect(s.port_of("shop", "ftp"));
        guess.ask("USER nobody");
        // Where it is the last one, the connection ends with it.
        guess.ask("PASS x");
    };
    assert!(by_name(&s));
    block(&s);
    until("the block", || s.ask(&["ban", "list", "--json"]).1.contains("\"site\":\"shop\"")).await;
    assert_eq!((taken(&s, "shop"), taken(&s, "main"), by_name(&s)), ([false; 2], [true; 2], false));
    // It survives a restart, and is lifted with all others.
    until("the file", || dir.path().join("sites/shop/bans.json").exists()).await;
    s.signal("TERM");
    s.ended().await;
    let s = Server::at_own(dir.path());
    assert_eq!((taken(&s, "shop"), taken(&s, "main")), ([false; 2], [true; 2]));
    assert_eq!(s.ask(&["ban", "remove", "127.0.0.1"]).0, 0);
    assert_eq!((taken(&s, "shop"), by_name(&s)), ([true; 2], true));
    // What a person enters holds everywhere.
    assert_eq!(s.ask(&["ban", "add", "127.0.0.1"]).0, 0);
    assert_eq!((taken(&s, "shop"), taken(&s, "main")), ([false; 2], [false; 2]));
    assert_eq!(s.ask(&["ban", "remove", "127.0.0.1"]).0, 0);
    // Without the table the server's rules hold there, and with it again its own.
    block(&s);
    assert_eq!(taken(&s, "shop"), [false; 2]);
    write("");
    let (code, out, _) = s.ask(&["reload"]);
    assert!(code == 0 && out.contains("another protector of site 'shop'"), "{out}");
    assert_eq!(taken(&s, "shop"), [true; 2]);
    block(&s);
    assert_eq!(taken(&s, "shop"), [true; 2]);
}

/// A scanner that finds what contains `VIRUS`; its port.
fn scanner() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut seen, mut part) = (Vec::new(), [0; 4096]);
            while !seen.ends_with(&[0; 4]) {
                let n = stream.read(&mut part).unwrap();
                seen.extend_from_slice(&part[..n]);
            }
            let found = String::from_utf8_lossy(&seen).contains("VIRUS");
            let _ = stream.write_all(if found { b"stream: Test.Virus FOUND\0" } else { b"stream: OK\0" });
        }
    });
    port
}

/// One site scans, with a quarantine of its own; the other has said that it does not, though the server does.
#[tokio::test]
async fn a_site_has_its_own_scanner_and_quarantine() {
    let of = |key: &str| format!("{key}\nclamd = \"127.0.0.1:{}\"\ninfected = \"quarantine\"\n", scanner());
    let s = Server::configured(&each_with("", &of("[sites.scan]"), ""), &[]);
    for (site, scans) in [("main", true), ("shop", false)] {
        let sftp = s.options_at("sftp", s.port_of(site, "sftp"), "alice", PASSWORD);
        let ftp = s.options_at("ftp", s.port_of(site, "ftp"), "alice", PASSWORD);
        for (n, options) in [sftp, ftp].into_iter().enumerate() {
            let unattended = std::sync::Arc::new(session_core::batch::Unattended);
            let c = client::connect::open_url(options, unattended).await.unwrap();
            put(&c, &format!("/good{n}"), "abc").await.unwrap();
            assert_eq!(put(&c, &format!("/bad{n}"), "a VIRUS").await.is_err(), scans, "{site}");
        }
    }
    let kept = std::fs::read_dir(s.data.join("sites/main/quarantine")).unwrap().count();
    assert_eq!(kept, 4, "two uploads, each with its note");
    assert!(!s.data.join("quarantine").exists());
    // What the server does is done at the site that says nothing, and not at the one that says otherwise.
    let other = format!("data = \".\"\n{}", each_with(&of("[scan]"), "[sites.scan]\n", ""));
    std::fs::write(s.data.join("ferryd.toml"), other).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    for (site, scans) in [("main", false), ("shop", true)] {
        let options = s.options_at("sftp", s.port_of(site, "sftp"), "alice", PASSWORD);
        let unattended = std::sync::Arc::new(session_core::batch::Unattended);
        let c = client::connect::open_url(options, unattended).await.unwrap();
        assert_eq!(put(&c, "/worse", "a VIRUS").await.is_err(), scans, "{site}");
    }
}
