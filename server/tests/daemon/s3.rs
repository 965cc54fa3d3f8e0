//! S3 in front of the same accounts, files and rules as the other protocols.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::ftp::Stream;
use crate::support::*;

/// The secret of every key.
const SECRET: &str = "a secret that is long enough";

#[path = "../../../proto-s3/tests/it/support/sign.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared, and used in part")]
mod sign;

/// One connection.
struct S3 {
    stream: BufReader<Box<dyn Stream>>,
    signer: sign::Signer,
}

impl S3 {
    fn connect(port: u16, key: &str) -> S3 {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        S3::over(Box::new(stream), key)
    }

    fn over(stream: Box<dyn Stream>, key: &str) -> S3 {
        S3 { stream: BufReader::new(stream), signer: sign::Signer::new(key) }
    }

    /// Status and body; status 0 where the connection is over.
    fn ask(&mut self, line: &str, fields: &[&str], body: &str) -> (u16, String) {
        let head = self.signer.head(line, fields, &sign::sha256(body.as_bytes()));
        let stream = self.stream.get_mut();
        let sent = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let _ = sent.and_then(|()| stream.flush());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return (0, String::new());
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_ascii_lowercase());
        }
        let status = lines.remove(0).split(' ').nth(1).unwrap().parse().unwrap();
        let length = lines.iter().find_map(|l| l.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
        if status != 204 && !line.starts_with("HEAD ") {
            self.stream.read_exact(&mut body).unwrap();
        }
        (status, String::from_utf8(body).unwrap())
    }

    fn status(&mut self, line: &str, body: &str) -> u16 {
        self.ask(line, &[], body).0
    }
}

const LISTENERS: &str = "[[listeners]]\nprotocol = \"sftp\"\nport = 0\n\
    [[listeners]]\nprotocol = \"s3\"\nport = 0\n[[listeners]]\nprotocol = \"s3s\"\nport = 0\n";

/// A user whose key is called by its name.
fn keyed(name: &str) -> String {
    format!("{}access_keys = [{{ id = \"KEY-{name}\", secret = \"{SECRET}\" }}]\n", user(name))
}

fn start(more: &str) -> Server {
    Server::configured(&format!("{more}{LISTENERS}{}{}", keyed("alice"), keyed("bob")), &[])
}

#[tokio::test]
async fn a_session_of_s3_is_one_among_the_live_ones_and_is_ended_like_them() {
    let s = start("[s3]\nhold = \"1h\"\n");
    let port = s.port_of("ferry", "s3");
    let mut s3 = S3::connect(port, "KEY-alice");
    assert_eq!(s3.status("PUT /docs", ""), 200);
    assert_eq!(s3.ask("PUT /docs/f", &["user-agent: aws/1"], "hello").0, 200);
    // The same files, over the other protocol.
    let sftp = s.login("alice").await;
    assert_eq!(get(&sftp, "/docs/f").await.unwrap(), "hello");
    let all = s.sessions();
    let mine: Vec<_> = all.iter().filter(|s| s["protocol"] == "S3").collect();
    assert_eq!(mine.len(), 1, "{all:?}");
    assert_eq!((&mine[0]["userName"], &mine[0]["bytesReceived"]), (&"alice".into(), &5.into()));
    assert_eq!(mine[0]["previousCommand"], "PutObject /docs/f");
    let id = mine[0]["sessionId"].as_str().unwrap();
    let (code, _, err) = s.ask(&["sessions", "kill", id]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(s3.status("GET /docs/f", ""), 0, "its connection is dead");
    assert_eq!(S3::connect(port, "KEY-alice").status("GET /docs/f", ""), 503, "and stays away");
    assert_eq!(S3::connect(port, "KEY-bob").status("GET /", ""), 200);
    s.logged(&["session closed", id]).await;
}

/// What stands between two tags, once.
fn one(text: &str, tag: &str) -> String {
    let rest = text.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("no {tag} in {text}")).1;
    rest.split_once('<').unwrap().0.replace("&quot;", "\"")
}

#[tokio::test]
async fn an_upload_in_parts_outlives_its_session_and_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = format!("{}[users.quota]\nbytes = 2950\n", keyed("alice"));
    let config = format!("data = \".\"\n[s3]\nhold = \"0s\"\n{LISTENERS}{}{bounded}", keyed("bob"));
    std::fs::write(dir.path().join("ferryd.toml"), config).unwrap();
    let s = Server::at_own(dir.path());
    let mut s3 = S3::connect(s.port_of("ferry", "s3"), "KEY-alice");
    assert_eq!(s3.status("PUT /docs", ""), 200);
    assert_eq!(s3.status("PUT /docs/f", "old"), 200);
    let (_, begun) = s3.ask("POST /docs/f?uploads", &[], "");
    let id = one(&begun, "UploadId");
    let part = |n: u32| format!("PUT /docs/f?partNumber={n}&uploadId={id}");
    let content = |n: u8| [b'a' + n; 1000].map(char::from).iter().collect::<String>();
    assert_eq!(s3.status(&part(1), &content(1)), 200);
    // An administrator ends the session.
    let all = s.sessions();
    let session = all.iter().find(|s| s["protocol"] == "S3").unwrap()["sessionId"].as_str().unwrap();
    assert_eq!(s.ask(&["sessions", "kill", session]).0, 0);
    let mut s3 = S3::connect(s.port_of("ferry", "s3"), "KEY-alice");
    assert_eq!(s3.status(&part(2), &content(2)), 200);
    // Something ends the server, twice: with parts, and in the midst of one.
    drop(s);
    let s = Server::at_own(dir.path());
    let mut s3 = S3::connect(s.port_of("ferry", "s3"), "KEY-alice");
    let line = part(3);
    let head = s3.signer.head(&line, &[], &sign::sha256(content(3).as_bytes()));
    let half = &content(3)[..500];
    write!(s3.stream.get_mut(), "{head}Content-Length: 1000\r\n\r\n{half}").unwrap();
    s3.stream.get_mut().flush().unwrap();
    until("it arrives", || s.sessions().iter().any(|s| s["bytesReceived"] == 500)).await;
    drop(s);
    let s = Server::at_own(dir.path());
    let port = s.port_of("ferry", "s3");
    assert_eq!(S3::connect(port, "KEY-bob").status(&format!("GET /docs/f?uploadId={id}"), ""), 404);
    let mut s3 = S3::connect(port, "KEY-alice");
    assert_eq!(one(&s3.ask("GET /docs?uploads", &[], "").1, "UploadId"), id);
    let (_, listed) = s3.ask(&format!("GET /docs/f?uploadId={id}"), &[], "");
    let tags: Vec<_> = listed.split("<Part>").skip(1).map(|part| one(part, "ETag")).collect();
    assert_eq!(tags.len(), 2, "{listed}");
    assert_eq!(s3.ask("GET /docs/f", &[], ""), (200, "old".into()));
    // What it takes up is counted as before.
    assert_eq!(s3.status(&part(3), &content(3)), 403);
    assert_eq!(s3.status(&part(3), &content(3)[..900]), 200);
    let (_, listed) = s3.ask(&format!("GET /docs/f?uploadId={id}"), &[], "");
    let tags = listed.split("<Part>").skip(1).map(|part| one(part, "ETag"));
    let tags = tags
        .enumerate()
        .map(|(n, tag)| format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", n + 1));
    let list = tags.collect::<String>();
    let whole = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let (code, done) = s3.ask(&format!("POST /docs/f?uploadId={id}"), &[], &whole);
    assert_eq!(code, 200, "{done}");
    let expected = content(1) + &content(2) + &content(3)[..900];
    assert_eq!(s3.ask("GET /docs/f", &[], ""), (200, expected));
    assert_eq!(s3.status("PUT /docs/g", &content(1)), 403, "2,900 bytes are taken");
    assert_eq!(s3.status("PUT /docs/g", &content(1)[..50]), 200);
    assert_eq!(std::fs::read_dir(dir.path().join("s3-uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn who_may_put_and_not_look_puts_and_replaces_nothing() {
    let carol = keyed("carol") + "[users.permissions]\n\"/\" = [\"put\"]\n";
    let s = Server::configured(&format!("{LISTENERS}{carol}"), &[]);
    std::fs::create_dir_all(s.home("carol").join("docs")).unwrap();
    let mut s3 = S3::connect(s.port_of("ferry", "s3"), "KEY-carol");
    assert_eq!(s3.ask("PUT /docs/f", &[], "hello"), (200, String::new()));
    assert_eq!(s3.status("PUT /docs/f", "other"), 403);
    assert_eq!(std::fs::read(s.home("carol").join("docs/f")).unwrap(), b"hello");
    assert_eq!(s3.status("GET /docs/f", ""), 403);
    // A condition asks what is there, which is not told.
    assert_eq!(s3.ask("PUT /docs/g", &["if-none-match: *"], "x").0, 403);
}

#[tokio::test]
async fn over_tls_with_keys_of_the_secrets_and_of_the_database() {
    let named = "access_keys = [{ id = \"NAMED\", key_secret = \"carol\" }]\n";
    let config = format!("[scripts]\nsecrets = \"secrets.toml\"\n{LISTENERS}{}{named}", user("carol"));
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets.toml");
    std::fs::write(&secrets, format!("carol = \"{SECRET}\"\n")).unwrap();
    std::fs::set_permissions(&secrets, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{config}")).unwrap();
    let s = Server::at_own(dir.path());
    let pem = std::fs::read(dir.path().join("tls.crt")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", s.port_of("ferry", "s3s"))).unwrap();
    let mut s3 = S3::over(Box::new(rustls::StreamOwned::new(tls, stream)), "NAMED");
    assert_eq!(s3.status("PUT /docs", ""), 200);
    // One of the database, added while the server runs, and taken away again.
    let port = s.port_of("ferry", "s3");
    assert_eq!(S3::connect(port, "STORED").status("GET /", ""), 403);
    assert_eq!(s.ask(&["user", "add", "dave", "--no-password"]).0, 0);
    let (code, made, err) = s.ask(&["user", "access-key", "dave", "--json"]);
    assert_eq!(code, 0, "{made}{err}");
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let mut dave = S3::connect(port, id);
    dave.signer.secret = secret.into();
    assert_eq!(dave.status("GET /", ""), 200);
    let shown = s.ask(&["user", "show", "dave", "--json"]).1 + &s.ask(&["accounts", "export"]).1;
    assert!(shown.contains(id) && !shown.contains(secret), "{shown}");
    assert_eq!(s.ask(&["user", "access-key", "dave", "--off"]).0, 0);
    assert!([0, 403].contains(&dave.status("GET /", "")), "taken away at once");
    assert_eq!(S3::connect(port, id).status("GET /", ""), 403);
    assert!(!s.log().contains(secret) && !s.log().contains(SECRET));
}

#[tokio::test]
async fn rules_hold_and_failed_signatures_are_struck() {
    let rules =
        "[users.permissions]\n\"/\" = [\"list\", \"get\"]\n\"/inbox\" = [\"list\", \"put\", \"make\"]\n";
    let protector = "[protector]\nstrikes = 3\nsafe = []\n";
    let s = Server::configured(&format!("{protector}{LISTENERS}{}{rules}", keyed("alice")), &[]);
    std::fs::create_dir_all(s.data.join("homes/alice/inbox")).unwrap();
    std::fs::create_dir_all(s.data.join("homes/alice/out")).unwrap();
    std::fs::write(s.data.join("homes/alice/out/f"), "there").unwrap();
    let port = s.port_of("ferry", "s3");
    let mut s3 = S3::connect(port, "KEY-alice");
    assert_eq!(s3.ask("GET /out/f", &[], ""), (200, "there".into()));
    assert_eq!(s3.status("PUT /out/g", "x"), 403);
    assert_eq!(s3.status("DELETE /out/f", ""), 403);
    assert_eq!(s3.status("PUT /bucket", ""), 403);
    assert_eq!(s3.status("PUT /inbox/deep/g", "x"), 200);
    assert_eq!(s3.status("GET /inbox/deep/g", ""), 403);
    let (code, sessions, err) = s.ask(&["sessions", "--json"]);
    assert!(code == 0 && sessions.contains("\"S3\"") && sessions.contains("alice"), "{sessions}{err}");
    let mut stranger = S3::connect(port, "KEY-alice");
    stranger.signer.secret = "guessed, and not very well".into();
    for _ in 0..3 {
        assert!([0, 403].contains(&stranger.status("GET /", "")));
    }
    until("the address is blocked", || S3::connect(port, "KEY-alice").status("GET /", "") == 0).await;
}
