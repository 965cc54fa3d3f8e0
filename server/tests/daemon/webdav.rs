//! WebDAV in front of the same accounts, files, locks and rules as the other protocols.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use client::session::{LockRequest, Protocol, Session, SessionOptions};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use session_core::batch::Unattended;

use crate::ftp::Stream;
use crate::support::*;

/// One connection.
struct Dav {
    stream: BufReader<Box<dyn Stream>>,
    login: String,
    /// The host that is asked.
    host: &'static str,
}

/// The base64 of a few bytes (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let at = (n >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { char::from(DIGITS[at as usize]) } else { '=' });
        }
    }
    out
}

impl Dav {
    fn connect(port: u16, user: &str, password: &str) -> Dav {
        Dav::over(Box::new(plain(port)), user, password)
    }

    fn over(stream: Box<dyn Stream>, user: &str, password: &str) -> Dav {
        let login = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        Dav { stream: BufReader::new(stream), login, host: "x" }
    }

    fn at(mut self, host: &'static str) -> Dav {
        self.host = host;
        self
    }

    /// Status, fields and body; status 0 where the connection is over.
    fn ask(&mut self, line: &str, fields: &[&str], body: &str) -> (u16, Vec<String>, String) {
        let mut head = format!("{line} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n", self.host, self.login);
        fields.iter().for_each(|f| head += &format!("{f}\r\n"));
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let stream = self.stream.get_mut();
        let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).and_then(|()| stream.flush());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return (0, lines, String::new());
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_ascii_lowercase());
        }
        let status = lines.remove(0).split(' ').nth(1).unwrap().parse().unwrap();
        let length = lines.iter().find_map(|l| l.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
        if status != 204 && status != 304 {
            self.stream.read_exact(&mut body).unwrap();
        }
        (status, lines, String::from_utf8(body).unwrap())
    }

    fn status(&mut self, line: &str, fields: &[&str], body: &str) -> u16 {
        self.ask(line, fields, body).0
    }
}

fn plain(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

const LISTENERS: &str = "[[listeners]]\nprotocol = \"sftp\"\nport = 0\n\
    [[listeners]]\nprotocol = \"webdav\"\nport = 0\n[[listeners]]\nprotocol = \"webdavs\"\nport = 0\n";

fn start(more: &str) -> Server {
    Server::configured(&format!("{more}{LISTENERS}{}{}", user("alice"), user("bob")), &[])
}

fn of<'a>(sessions: &'a [Value], protocol: &str) -> Vec<&'a Value> {
    sessions.iter().filter(|s| s["protocol"] == protocol).collect()
}

#[tokio::test]
async fn a_session_of_webdav_is_one_among_the_live_ones_and_is_ended_like_them() {
    let s = start("[webdav]\nhold = \"1h\"\n");
    let mut dav = Dav::connect(s.port_of("ferry", "webdav"), "alice", PASSWORD);
    assert_eq!(dav.status("PUT /f", &["User-Agent: davs/1"], "hello"), 201);
    // The same files, over the other protocol.
    let sftp = s.login("alice").await;
    assert_eq!(get(&sftp, "/f").await.unwrap(), "hello");
    let all = s.sessions();
    let mine = of(&all, "WEBDAV");
    assert_eq!(mine.len(), 1, "{all:?}");
    assert_eq!((&mine[0]["userName"], &mine[0]["clientVersion"]), (&"alice".into(), &"davs/1".into()));
    assert_eq!((&mine[0]["bytesReceived"], &mine[0]["lastErrorStatus"]), (&5.into(), &201.into()));
    assert_eq!(mine[0]["previousCommand"], "PUT /f");
    let id = mine[0]["sessionId"].as_str().unwrap();
    let (code, _, err) = s.ask(&["sessions", "kill", id]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(dav.status("GET /f", &[], ""), 0, "its connection is dead");
    let port = s.port_of("ferry", "webdav");
    assert_eq!(Dav::connect(port, "alice", PASSWORD).status("GET /f", &[], ""), 503, "and stays away");
    assert_eq!(Dav::connect(port, "bob", PASSWORD).status("OPTIONS /", &[], ""), 200);
    s.logged(&["session closed", id]).await;
}

#[tokio::test]
async fn the_host_that_is_asked_leads_to_its_site() {
    let of_site = |name: &str| user(name).replace("[[users]]", "[[sites.users]]");
    let config = format!(
        "[[sites]]\nname = \"main\"\n\
         listeners = [{{ protocol = \"sftp\", port = 0 }}, {{ protocol = \"webdav\", port = 0 }}]\n{}\
         [[sites]]\nname = \"shop\"\nhosts = [\"shop.example\"]\n[sites.webdav]\nrealm = \"Shop\"\n{}{}",
        of_site("alice"),
        of_site("alice"),
        of_site("bob"),
    );
    let s = Server::configured(&config, &[]);
    let port = s.port_of("main", "webdav");
    let dav = |host, user| Dav::connect(port, user, PASSWORD).at(host);
    assert_eq!(dav("x", "alice").status("PUT /f", &[], "of main"), 201);
    assert_eq!(dav("Shop.Example:2080", "alice").status("PUT /f", &[], "of shop"), 201);
    for (host, due) in [("127.0.0.1", "of main"), ("shop.example", "of shop"), ("shop", "of shop")] {
        assert_eq!(dav(host, "alice").ask("GET /f", &[], "").2, due, "{host}");
    }
    let sites = |sessions: Vec<Value>| {
        let mut sites: Vec<_> = sessions.iter().map(|s| s["site"].as_str().unwrap().to_owned()).collect();
        sites.sort();
        sites
    };
    assert_eq!(sites(s.sessions()), ["main", "shop"], "two sessions, whatever the connections");
    // Each site has its own accounts, and says its own name.
    assert_eq!(dav("shop.example", "bob").status("OPTIONS /", &[], ""), 200);
    assert_eq!(dav("x", "bob").status("OPTIONS /", &[], ""), 401);
    let (status, fields, _) = dav("shop.example", "nobody").ask("OPTIONS /", &[], "");
    assert!(status == 401 && fields.iter().any(|f| f.contains("realm=\"shop\"")), "{fields:?}");
    // One connection may ask for both.
    let mut both = dav("x", "alice");
    assert_eq!(both.ask("GET /f", &[], "").2, "of main");
    both.host = "shop.example";
    assert_eq!(both.ask("GET /f", &[], "").2, "of shop");
}

#[tokio::test]
async fn what_webdav_has_locked_waits_on_every_protocol() {
    let s = start("");
    let sftp = s.login("alice").await;
    put(&sftp, "/f", "old").await.unwrap();
    let mut dav = Dav::connect(s.port_of("ferry", "webdav"), "alice", PASSWORD);
    let info =
        "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>";
    let (status, fields, _) = dav.ask("LOCK /f", &["Timeout: Infinite"], info);
    assert_eq!(status, 200);
    let token = fields.iter().find_map(|f| f.strip_prefix("lock-token: ")).unwrap().to_string();
    let waits = format!("{:#}", put(&sftp, "/f", "new").await.unwrap_err());
    assert!(waits.contains("locked"), "{waits}");
    assert_eq!(dav.status("PUT /f", &[&format!("If: ({token})")], "mine"), 204);
    assert_eq!(dav.status("UNLOCK /f", &[&format!("Lock-Token: {token}")], ""), 204);
    put(&sftp, "/f", "new").await.unwrap();
    assert_eq!(dav.ask("GET /f", &[], "").2, "new");
}

#[tokio::test]
async fn what_a_session_of_the_client_holds_is_given_back_when_it_closes() {
    let s = start("");
    let sftp = s.login("alice").await;
    put(&sftp, "/f", "old").await.unwrap();
    let dav = Session::new();
    let options = SessionOptions::new()
        .protocol(Protocol::Webdav)
        .secure(false)
        .host_name("127.0.0.1")
        .port_number(s.port_of("ferry", "webdav"))
        .user_name("alice")
        .password(PASSWORD);
    dav.open(options, Arc::new(Unattended)).await.unwrap();
    let request = LockRequest { exclusive: true, deep: false, words: "me".into(), time: None };
    let lock = dav.lock("/f", &request).await.unwrap();
    assert!(lock.exclusive && &*lock.words == "me", "{lock:?}");
    let waits = format!("{:#}", put(&sftp, "/f", "new").await.unwrap_err());
    assert!(waits.contains("locked"), "{waits}");
    dav.refresh_lock("/f", &lock.token, None).await.unwrap();
    dav.close().await.unwrap();
    put(&sftp, "/f", "new").await.unwrap();
}

#[tokio::test]
async fn permissions_and_protocols_of_an_account_hold_here_too() {
    let config = format!(
        "{LISTENERS}{}protocols = [\"sftp\"]\n{}[users.permissions]\n\"/\" = [\"list\", \"get\"]\n\"/in\" = [\"put\"]\n",
        user("sftponly"),
        user("reader")
    );
    let s = Server::configured(&config, &[]);
    let home = s.home("reader");
    std::fs::create_dir_all(home.join("in")).unwrap();
    std::fs::write(home.join("f"), "x").unwrap();
    let port = s.port_of("ferry", "webdav");
    let mut reader = Dav::connect(port, "reader", PASSWORD);
    assert_eq!(reader.ask("GET /f", &[], "").2, "x");
    for (line, field) in [
        ("PUT /g", ""),
        ("DELETE /f", ""),
        ("MKCOL /d", ""),
        ("MOVE /f", "Destination: /g"),
        ("COPY /f", "Destination: /g"),
        ("PROPFIND /in", "Depth: 1"),
    ] {
        let (status, _, body) = reader.ask(line, &[field].map(|f| if f.is_empty() { "X: y" } else { f }), "");
        assert_eq!(status, 403, "{line}: {body}");
        assert!(body.contains("permission denied"), "{line}: {body}");
    }
    // Who may put and not look.
    assert_eq!(reader.status("PUT /in/new", &[], "x"), 201);
    assert_eq!(Dav::connect(port, "sftponly", PASSWORD).status("GET /", &[], ""), 401);
}

#[tokio::test]
async fn a_reload_keeps_sessions_and_ends_those_whose_password_is_another() {
    let s = start("");
    let port = s.port_of("ferry", "webdav");
    assert_eq!(Dav::connect(port, "alice", PASSWORD).status("PUT /f", &[], "x"), 201);
    let before = s.sessions()[0]["sessionId"].clone();
    let (code, _, err) = s.ask(&["reload"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(Dav::connect(port, "alice", PASSWORD).status("GET /f", &[], ""), 200);
    assert_eq!(s.sessions()[0]["sessionId"], before, "the credential was judged anew, and is good");
    let other = bcrypt::hash("another", 4).unwrap();
    let config = format!("data = \".\"\n{LISTENERS}[[users]]\nname = \"alice\"\npassword = '{other}'\n");
    std::fs::write(s.data.join("ferryd.toml"), config).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert_eq!(Dav::connect(port, "alice", PASSWORD).status("GET /f", &[], ""), 401);
    until("the session to go", || s.sessions().is_empty()).await;
    assert_eq!(Dav::connect(port, "alice", "another").status("GET /f", &[], ""), 200);
}

#[tokio::test]
async fn tls_has_the_certificate_of_the_site() {
    let s = start("");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(s.data.join("tls.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = plain(s.port_of("ferry", "webdavs"));
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).unwrap();
    }
    let mut dav = Dav::over(Box::new(rustls::StreamOwned::new(tls, stream)), "alice", PASSWORD);
    assert_eq!(dav.status("OPTIONS /", &[], ""), 200);
    let all = s.sessions();
    assert_eq!(of(&all, "WEBDAVS").len(), 1);
    assert!(all[0]["cipher"].as_str().unwrap().starts_with("TLS"), "{all:?}");
}

#[tokio::test]
async fn logins_that_fail_count_for_the_protector() {
    let s = start("[protector]\nstrikes = 3\nsafe = []\n");
    let port = s.port_of("ferry", "webdav");
    for _ in 0..3 {
        assert_eq!(Dav::connect(port, "alice", "wrong").status("GET /", &[], ""), 401);
    }
    assert_eq!(Dav::connect(port, "alice", PASSWORD).status("GET /", &[], ""), 0, "not even heard");
}

fn digits(algorithm: session_core::fs::Algorithm, text: &str) -> String {
    let mut hasher = session_core::digest::Hasher::new(algorithm);
    hasher.update(text.as_bytes());
    hasher.finish().iter().map(|b| format!("{b:02x}")).collect()
}

/// The status of a request that answers the server's challenge.
fn by_digest(port: u16, user: &str, password: &str) -> u16 {
    let md5 = |text: &str| digits(session_core::fs::Algorithm::Md5, text);
    let (status, lines) = raw(port);
    assert!(status == 401 && lines.contains("realm=\"Ferry\""), "{lines}");
    let nonce = lines.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let one = md5(&format!("{user}:Ferry:{password}"));
    let response = md5(&format!("{one}:{nonce}:00000001:c:auth:{}", md5("OPTIONS:/")));
    let mut dav = Dav::connect(port, "", "");
    dav.login = format!(
        "Digest username=\"{user}\", realm=\"Ferry\", nonce=\"{nonce}\", uri=\"/\", qop=auth, \
         nc=00000001, cnonce=\"c\", response=\"{response}\""
    );
    dav.status("OPTIONS /", &[], "")
}

/// What a request without credentials is answered with, as it comes.
fn raw(port: u16) -> (u16, String) {
    let mut stream = plain(port);
    stream.write_all(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[tokio::test]
async fn digest_is_for_those_who_are_made_ready_for_it_until_their_password_changes() {
    let s = start("[webdav]\ndigest = true\n");
    let port = s.port_of("ferry", "webdav");
    assert_eq!(ferryd_reads(&s.data, &["user", "add", "dave"], "first\n").0, 0);
    assert_eq!(by_digest(port, "dave", "first"), 401, "nothing is kept for it");
    assert_eq!(
        ferryd_reads(&s.data, &["user", "set", "dave", "--digest"], "other\n").0,
        2,
        "not the password"
    );
    let (code, out, err) = ferryd_reads(&s.data, &["user", "set", "dave", "--digest"], "first\n");
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(by_digest(port, "dave", "first"), 200);
    assert_eq!(by_digest(port, "dave", "wrong"), 401);
    assert_eq!(by_digest(port, "alice", PASSWORD), 401);
    // It is as good as the password, and is shown to nobody.
    let kept = digits(session_core::fs::Algorithm::Md5, "dave:Ferry:first");
    let shown = s.ask(&["user", "show", "dave", "--json"]).1 + &s.ask(&["accounts", "export"]).1;
    assert!(shown.contains("\"digest\":true") && !shown.contains(&kept), "{shown}");
    assert!(s.ask(&["accounts", "export", "--secrets"]).1.contains(&kept));
    let (code, _, err) = ferryd_reads(&s.data, &["user", "passwd", "dave"], "second\n");
    assert!(code == 0 && err.contains("by Digest no more"), "{err}");
    assert_eq!(by_digest(port, "dave", "first"), 401);
    assert_eq!(by_digest(port, "dave", "second"), 401);
    assert_eq!(Dav::connect(port, "dave", "second").status("OPTIONS /", &[], ""), 200);
    assert!(!s.log().contains(&kept));
}

#[tokio::test]
async fn tokens_log_in_programs_whatever_factors_people_need() {
    let s = start("");
    let port = s.port_of("ferry", "webdav");
    assert_eq!(ferryd_reads(&s.data, &["user", "add", "dave"], "first\n").0, 0);
    assert_eq!(s.ask(&["user", "totp", "dave"]).0, 0);
    assert_eq!(Dav::connect(port, "dave", "first").status("OPTIONS /", &[], ""), 401, "a code is due");
    let (code, made, err) = s.ask(&["user", "token", "dave", "--for", "backup", "--time", "90d", "--json"]);
    assert_eq!(code, 0, "{made}{err}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(made["expires"].as_str().is_some_and(|e| e.starts_with("20")), "{made}");
    let mut dav = Dav::connect(port, "", "");
    dav.login = format!("Bearer {token}");
    assert_eq!(dav.status("PUT /f", &[], "x"), 201);
    let all = s.sessions();
    assert_eq!(of(&all, "WEBDAV")[0]["userName"], "dave");
    let shown = s.ask(&["user", "show", "dave", "--json"]).1 + &s.ask(&["accounts", "export", "--secrets"]).1;
    assert!(shown.contains(id) && !shown.contains(token), "{shown}");
    // Another one beside it, and none at all.
    assert_eq!(s.ask(&["user", "token", "dave"]).0, 0);
    assert_eq!(dav.status("GET /f", &[], ""), 200);
    assert_eq!(s.ask(&["user", "token", "dave", "--off"]).0, 0);
    let mut after = Dav::connect(port, "", "");
    after.login = format!("Bearer {token}");
    assert_eq!(after.status("GET /f", &[], ""), 401);
    assert!(!s.log().contains(token));
}

#[tokio::test]
async fn a_code_behind_the_password_begins_a_session_and_no_second_one() {
    let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let codes = format!("{}totp = \"{secret}\"\n", user("carol"));
    let s =
        Server::configured(&format!("[webdav]\nappend_code = true\nhold = \"0s\"\n{LISTENERS}{codes}"), &[]);
    let key = server::users::totp::TotpKey::parse(secret).unwrap();
    let code = key.code_at(std::time::SystemTime::now());
    let (port, shown) = (s.port_of("ferry", "webdav"), format!("{PASSWORD}{code}"));
    assert_eq!(Dav::connect(port, "carol", PASSWORD).status("PUT /f", &[], "x"), 401);
    let mut one = Dav::connect(port, "carol", &shown);
    assert_eq!(one.status("PUT /f", &[], "x"), 201);
    let mut two = Dav::connect(port, "carol", &shown);
    assert_eq!(two.status("GET /f", &[], ""), 200, "the session has any number of connections");
    // The rules are read anew: it is judged again, and the code was taken when it began.
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert_eq!(Dav::connect(port, "carol", &shown).status("GET /f", &[], ""), 200);
    assert_eq!(s.sessions().len(), 1);
    assert_eq!(s.ask(&["sessions", "kill", "--user", "carol", "--reason", "bye"]).0, 0);
    until("the session to be gone", || s.sessions().is_empty()).await;
    assert_eq!(Dav::connect(port, "carol", &shown).status("GET /f", &[], ""), 401, "a code is good once");
}
