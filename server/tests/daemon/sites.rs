//! Several sites in one server: by port, by HOST, by TLS and by `user@site`.

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
