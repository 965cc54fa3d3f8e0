//! Accounts that a hook over HTTP vouches for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use session_core::fs::Filesystem as _;
use session_core::metadata::Attributes;

use crate::support::*;

/// A hook that knows `ada`; its URL, and what it was asked.
struct Hook {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    count: Arc<AtomicUsize>,
}

fn hook() -> Hook {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/login", listener.local_addr().unwrap().port());
    let (asked, count) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
    let (into, counts) = (Arc::clone(&asked), Arc::clone(&count));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut token, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(": ") {
                    match name.to_ascii_lowercase().as_str() {
                        "authorization" => token = value.to_owned(),
                        "content-length" => length = value.parse().unwrap(),
                        _ => {}
                    }
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            counts.fetch_add(1, Ordering::SeqCst);
            let good = body["user"] == "ada" && body["password"] == PASSWORD;
            let answer = json!({ "groups": ["guests"], "custom": { "mail": "ada@example.com" } }).to_string();
            let (status, answer) = if good { ("200 OK", answer.as_str()) } else { ("403 Forbidden", "") };
            into.lock().unwrap().push((token, body));
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            stream.get_mut().write_all(text.as_bytes()).unwrap();
        }
    });
    Hook { url, asked, count }
}

#[tokio::test]
async fn a_hook_vouches_and_groups_say_what_its_accounts_may() {
    use std::os::unix::fs::PermissionsExt as _;
    let hook = hook();
    let dir = tempfile::tempdir().unwrap();
    let config = |permissions: &str| {
        format!(
            "data = \".\"\n[[directories]]\nname = \"web\"\nurl = \"{}\"\nallow_clear = true\n\
             password_secret = \"web\"\n[scripts]\nsecrets = \"secrets.toml\"\n\
             [[groups]]\nname = \"guests\"\n[groups.permissions]\n\"/\" = [{permissions}]\n{}",
            hook.url,
            user("bob")
        )
    };
    let file = dir.path().join("secrets.toml");
    std::fs::write(&file, "web = \"the token\"\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), config("\"list\", \"put\", \"get\"")).unwrap();
    let s = Server::at(dir.path());
    assert!(s.try_login("ada", "wrong").await.is_err());
    let ada = s.login("ada").await;
    put(&ada, "/f", "x").await.unwrap();
    assert_eq!(std::fs::read_to_string(s.home("ada").join("f")).unwrap(), "x");
    assert!(ada.fs().create_dir(&path("/d"), &Attributes::none()).await.is_err(), "the group's permissions");
    let asked = hook.asked.lock().unwrap().clone();
    let (token, body) = asked.last().unwrap();
    assert_eq!(token, "Bearer the token");
    assert_eq!((&body["address"], &body["protocol"]), (&json!("127.0.0.1"), &json!("SFTP")));
    // A name of the file is nobody else's business, and a good password is remembered.
    let before = hook.count.load(Ordering::SeqCst);
    s.login("bob").await;
    assert!(s.try_login("bob", "wrong").await.is_err());
    s.login("ada").await;
    assert_eq!(hook.count.load(Ordering::SeqCst), before);
    // A reload keeps who is there; without the directory nobody is left of it.
    std::fs::write(dir.path().join("ferryd.toml"), config("\"list\", \"put\", \"get\", \"make\"")).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    put(&ada, "/g", "y").await.unwrap();
    s.login("ada").await.fs().create_dir(&path("/d"), &Attributes::none()).await.unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{}", user("bob"))).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert!(put(&ada, "/h", "z").await.is_err());
    assert!(s.try_login("ada", PASSWORD).await.is_err());
    let log = s.log();
    assert!(!log.contains(PASSWORD) && !log.contains("the token"), "{log}");
}
