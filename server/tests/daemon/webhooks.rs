//! Webhooks and commands as a receiver sees them, and what `kill -9` leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use session_core::fs::{Filesystem as _, Replace};
use session_core::metadata::Attributes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::*;

const SECRET: &str = "a secret of some length";

/// A call as it came.
#[derive(Clone)]
struct Call {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Call {
    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that keeps what it is told. Its answer can be changed.
struct Sink {
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
    answer: Arc<Mutex<(u16, String)>>,
}

impl Sink {
    async fn new() -> Sink {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let answer = Arc::new(Mutex::new((200, String::new())));
        let (into, says) = (Arc::clone(&calls), Arc::clone(&answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (into, says) = (Arc::clone(&into), Arc::clone(&says));
                tokio::spawn(async move {
                    let Some(call) = read(&mut stream).await else { return };
                    let (status, body) = says.lock().unwrap().clone();
                    // Heard before it is answered: who dies between the two says it again.
                    if status == 200 {
                        into.lock().unwrap().push(call);
                    }
                    let answer =
                        format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Sink { port, calls, answer }
    }

    fn answers(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<Value> {
        self.calls().iter().map(Call::event).collect()
    }

    async fn heard(&self, n: usize) -> Vec<Value> {
        until(&format!("{n} calls"), || self.calls().len() >= n).await;
        self.events()
    }

    /// A `[[webhooks]]` table that leads here.
    fn webhook(&self, name: &str, events: &[&str], more: &str) -> String {
        format!(
            "\n[[webhooks]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{}/hook\"\nevents = {events:?}\n\
             secret = \"sign\"\nallow_clear = true\nnetworks = [\"127.0.0.0/8\"]\n{more}\n",
            self.port
        )
    }
}

async fn read(stream: &mut tokio::net::TcpStream) -> Option<Call> {
    let mut got = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        got.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&got);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let headers: BTreeMap<String, String> = head
            .lines()
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_lowercase(), v.to_string()))
            .collect();
        if body.len() >= headers["content-length"].parse::<usize>().unwrap() {
            return Some(Call { headers, body: body.into() });
        }
    }
}

/// A folder with a secret and this configuration.
fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets.toml");
    std::fs::write(&secrets, format!("sign = \"{SECRET}\"\n")).unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    let quick = "[outbox]\nretry = \"20ms\"\nlongest = \"100ms\"\n";
    let quick = if config.contains("[outbox]") { "" } else { quick };
    let config = format!("data = \".\"\n[scripts]\nsecrets = \"secrets.toml\"\n{quick}{config}");
    std::fs::write(dir.path().join("ferryd.toml"), config).unwrap();
    dir
}

/// As a receiver without our code would.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

#[tokio::test]
async fn an_upload_is_told_with_a_signature_that_proves_it() {
    let sink = Sink::new().await;
    let dir = folder(&(user("alice") + &sink.webhook("w", &["AfterFileUpload", "OnConnectionClose"], "")));
    let s = Server::at(dir.path());
    let a = s.login("alice").await;
    put(&a, "/f", "content").await.unwrap();
    let id = s.sessions()[0]["sessionId"].clone();
    drop(a);
    let events = sink.heard(2).await;
    let (event, close) = (&events[0], &events[1]);
    assert_eq!(
        (&event["event"], &event["path"], &event["size"]),
        (&"AfterFileUpload".into(), &"/f".into(), &7.into())
    );
    assert_eq!(
        (&event["user"], &event["session"], &event["protocol"]),
        (&"alice".into(), &id, &"SFTP".into())
    );
    assert_eq!((&close["event"], &close["session"]), (&"OnConnectionClose".into(), &id));
    let call = &sink.calls()[0];
    let of = |name: &str| call.headers[name].clone();
    assert_eq!(
        (of("webhook-id"), of("content-type")),
        (event["id"].as_str().unwrap().into(), "application/json".into())
    );
    let signed = format!("{}.{}.{}", of("webhook-id"), of("webhook-timestamp"), call.body);
    let expected = format!("v1,{}", STANDARD.encode(hmac(SECRET.as_bytes(), signed.as_bytes())));
    assert_eq!(of("webhook-signature"), expected);
    let (code, out, err) = s.ask(&["outbox", "list", "--json"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
}

#[tokio::test]
async fn who_is_asked_refuses_with_words_and_who_fails_refuses_too() {
    let sink = Sink::new().await;
    let command = "\n[[commands]]\nname = \"c\"\nprogram = \"/bin/sh\"\narguments = [\"-c\", \"grep -q '\\\"path\\\":\\\"/bad' && echo not that && exit 1; exit 0\"]\n\
                   events = [\"BeforeFileUpload\"]\nusers = [\"alice\"]\n";
    let config = user("alice")
        + &user("bob")
        + &sink.webhook("w", &["BeforeCommit"], "users = [\"alice\"]")
        + &sink.webhook("lenient", &["BeforeCommit"], "users = [\"bob\"]\non_error = \"pass\"")
        + command;
    let dir = folder(&config);
    let s = Server::at(dir.path());
    let (a, b) = (s.login("alice").await, s.login("bob").await);
    let refused = async |at: &str| format!("{:#}", put(&a, at, "new").await.err().unwrap());
    put(&a, "/f", "old").await.unwrap();
    assert!(refused("/bad").await.contains("not that"));
    sink.answers(200, "{\"verdict\":\"block\",\"reason\":\"the partner says no\"}");
    assert!(refused("/f").await.contains("the partner says no"));
    assert_eq!(get(&a, "/f").await.unwrap(), "old");
    sink.answers(500, "");
    assert!(refused("/g").await.contains("a rule of this server failed"));
    put(&b, "/f", "old").await.unwrap();
    assert_eq!(names(&b, "/").await.unwrap(), ["f"]);
}

#[tokio::test]
async fn a_receiver_that_was_down_is_told_everything_in_order() {
    let sink = Sink::new().await;
    let events =
        ["AfterFileUpload", "AfterFileRename", "AfterDirCreate", "AfterFileDelete", "AfterFileDownload"];
    let dir = folder(&(user("alice") + &sink.webhook("w", &events, "")));
    sink.answers(503, "");
    let s = Server::at(dir.path());
    let a = s.login("alice").await;
    a.fs().create_dir(&path("/d"), &Attributes::none()).await.unwrap();
    assert!(a.fs().create_dir(&path("/d"), &Attributes::none()).await.is_err());
    put(&a, "/f", "x").await.unwrap();
    a.fs().rename(&path("/f"), &path("/d/f"), Replace::No).await.unwrap();
    assert_eq!(get(&a, "/d/f").await.unwrap(), "x");
    drop(a);
    let b = s.login("alice").await;
    b.fs().remove_file(&path("/d/f")).await.unwrap();
    s.logged(&["not told yet", "503"]).await;
    sink.answers(200, "");
    let told = sink.heard(5).await;
    let of = |session: &Value| {
        told.iter()
            .filter(|e| e["session"] == *session)
            .map(|e| e["event"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    let first = told.iter().find(|e| e["event"] == "AfterDirCreate").unwrap();
    // What was refused by the store is not told.
    assert_eq!(
        of(&first["session"]),
        ["AfterDirCreate", "AfterFileUpload", "AfterFileRename", "AfterFileDownload"]
    );
    let rename = told.iter().find(|e| e["event"] == "AfterFileRename").unwrap();
    assert_eq!((&rename["path"], &rename["target"]), (&"/f".into(), &"/d/f".into()));
    let ids: BTreeSet<_> = told.iter().map(|e| e["id"].to_string()).collect();
    assert_eq!((ids.len(), told.len()), (5, 5));
}

#[tokio::test]
async fn dead_letters_are_listed_tried_again_and_dropped_with_and_without_a_server() {
    let sink = Sink::new().await;
    let inside =
        sink.webhook("inside", &["AfterFileUpload"], "").replace("networks", "users = []\n# networks");
    let config = "[outbox]\ngive_up = \"0s\"\n".to_string()
        + &user("alice")
        + &sink.webhook("w", &["AfterFileUpload"], "")
        + &inside;
    let dir = folder(&config);
    sink.answers(410, "");
    let mut s = Server::at(dir.path());
    put(&s.login("alice").await, "/f", "x").await.unwrap();
    let dead = |out: &str| -> Vec<Value> { out.lines().map(|l| serde_json::from_str(l).unwrap()).collect() };
    until("two dead letters", || dead(&s.ask(&["outbox", "list", "--dead", "--json"]).1).len() == 2).await;
    let listed = dead(&s.ask(&["outbox", "list", "--dead", "--json"]).1);
    let failure = |name: &str| {
        let found = listed.iter().find(|d| d["receiver"] == format!("ferry/{name}")).unwrap();
        found["lastFailure"].as_str().unwrap().to_owned()
    };
    assert_eq!(failure("w"), "it answered 410");
    assert!(failure("inside").contains("may not reach"), "{}", failure("inside"));
    let (code, out, _) = s.ask(&["outbox", "list"]);
    assert!(code == 0 && out.contains("AfterFileUpload") && out.ends_with("2 deliveries\n"), "{out}");
    assert_eq!(s.ask(&["outbox", "drop"]).0, 2);
    assert_eq!(s.ask(&["outbox", "drop", "nothing"]).0, 5);
    assert_eq!(s.ask(&["outbox", "drop", "--receiver", "ferry/inside"]).1, "1 deliveries are dropped\n");
    s.signal("KILL");
    s.ended().await;
    // Nobody serves: the same commands use the file.
    let (code, out, err) = ferryd(dir.path(), &["outbox", "retry", "--dead"]);
    assert_eq!((code, out.as_str()), (0, "1 deliveries are tried again\n"), "{err}");
    assert_eq!(dead(&ferryd(dir.path(), &["outbox", "list", "--json"]).1)[0]["state"], "due");
    sink.answers(200, "");
    let s = Server::at(dir.path());
    let told = sink.heard(1).await;
    assert_eq!((&told[0]["path"], told.len()), (&"/f".into(), 1));
    until("an empty outbox", || s.ask(&["outbox", "list", "--json"]).1.is_empty()).await;
}

/// The files and folders below `home` that a client made.
fn made(home: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with(['d', 'f'])).map(|n| format!("/{n}")).collect()
}

/// The kills between two tellings of how it stands.
const TOLD: u64 = 250;

/// How it stands after so many kills: what clients were answered, what is there, and what the sink was told of it.
fn stands(kills: u64, answered: usize, made: usize, events: &[Value]) -> String {
    let having = |key: &str, value: Value| events.iter().filter(|e| e.get(key) == Some(&value)).count();
    let ids: BTreeSet<_> = events.iter().map(|e| e["id"].to_string()).collect();
    format!(
        "{kills} kills: {answered} answered, {made} done, {} told ({} more than once, {} recovered, {} unknown)",
        ids.len(),
        events.len() - ids.len(),
        having("recovered", true.into()),
        having("outcome", "unknown".into()),
    )
}

/// A failed login over FTP: what the server answered.
fn guess(s: &Server) -> String {
    let (mut client, _) = crate::ftp::Ftp::connect(s.port_of("ferry", "ftp"));
    client.ask("USER alice");
    client.ask("PASS wrong")
}

/// What tells of a refusal is on disk before the refusal is answered: a server that is killed with the answer on the
/// wire tells of it later, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_told_though_the_server_was_killed_with_its_answer() {
    let sink = Sink::new().await;
    sink.answers(500, "");
    let events = ["OnQuotaHit", "OnProtectorStrike", "OnBlocklistAdd", "OnBlocklistHit"];
    let both = "[[listeners]]\nprotocol = \"sftp\"\nport = 0\n[[listeners]]\nprotocol = \"ftp\"\nport = 0\n[ftp]\ncontrol = \"allow\"\n";
    let rules = "[protector]\nsafe = []\nstrikes = 100\nreset = 0\n";
    let quota = "[users.quota]\nbytes = 10\n";
    let config = both.to_owned() + rules + &user("alice") + quota + &sink.webhook("w", &events, "");
    let dir = folder(&config);
    let kill = async |mut s: Server| {
        s.signal("KILL");
        s.ended().await;
    };
    for round in 0..3 {
        let s = Server::at_own(dir.path());
        let c = s.login("alice").await;
        assert!(put(&c, &format!("/{round}"), "more than ten bytes").await.is_err());
        kill(s).await;
        let s = Server::at_own(dir.path());
        assert!(guess(&s).starts_with("530"));
        kill(s).await;
        let s = Server::at_own(dir.path());
        assert_eq!(s.ask(&["ban", "add", &format!("192.0.2.{round}")]).0, 0);
        kill(s).await;
    }
    let s = Server::at_own(dir.path());
    assert_eq!(s.ask(&["ban", "add", "127.0.0.1"]).0, 0);
    let mut refused = std::net::TcpStream::connect(("127.0.0.1", s.port_of("ferry", "ftp"))).unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut refused, &mut answer);
    kill(s).await;
    sink.answers(200, "");
    let s = Server::at_own(dir.path());
    s.ask(&["outbox", "retry", "--all"]);
    until("an empty outbox", || s.ask(&["outbox", "list", "--json"]).1.is_empty()).await;
    let all = sink.events();
    let ids: BTreeSet<_> = all.iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
    let of = |name: &str| {
        let of: BTreeSet<_> =
            all.iter().filter(|e| e["event"] == name).map(|e| e["id"].to_string()).collect();
        of.len()
    };
    assert_eq!(events.map(of), [3, 3, 4, 1], "{all:?}");
    assert_eq!(ids.len(), 11);
}

/// Each round starts a real server and kills it in the middle of what clients do: that takes a while. `cargo
/// xtask soak` does it ten thousand times, as a proof; here it is a sample.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_untold_after_kill_nine_and_what_is_told_twice_has_one_id() {
    let kills = std::env::var("FERRY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let sink = Sink::new().await;
    let dir = folder(&(user("alice") + &sink.webhook("w", &["AfterFileUpload", "AfterDirCreate"], "")));
    let home = dir.path().join("homes/alice");
    let mut answered = BTreeSet::new();
    for round in 0..kills {
        let mut s = Server::at(dir.path());
        let workers = (0..3).map(|worker| {
            let options = s.options("alice", PASSWORD);
            tokio::spawn(async move {
                let mut done = Vec::new();
                let unattended = Arc::new(session_core::batch::Unattended);
                let Ok(c) = client::connect::open_url(options, unattended).await else { return done };
                for n in 0.. {
                    let file = format!("/f-{round}-{worker}-{n}");
                    let folder = format!("/d-{round}-{worker}-{n}");
                    if put(&c, &file, "some content").await.is_err() {
                        break;
                    }
                    done.push(file);
                    if c.fs().create_dir(&path(&folder), &Attributes::none()).await.is_err() {
                        break;
                    }
                    done.push(folder);
                }
                done
            })
        });
        let workers: Vec<_> = workers.collect();
        // Somewhere in the middle: a moment that differs from round to round, once something was done.
        let before = made(&home).len();
        until("work", || made(&home).len() > before).await;
        tokio::time::sleep(Duration::from_millis(round * 7 % 90)).await;
        s.signal("KILL");
        s.ended().await;
        for worker in workers {
            answered.extend(worker.await.unwrap());
        }
        if (round + 1) % TOLD == 0 {
            println!("{}", stands(round + 1, answered.len(), made(&home).len(), &sink.events()));
        }
    }
    let s = Server::at(dir.path());
    // After many kills much is left to tell: as long as it gets less.
    let waiting = || s.ask(&["outbox", "list", "--json"]).1.lines().count();
    let mut left = waiting();
    while left > 0 {
        until("less in the outbox", || waiting() < left).await;
        left = waiting();
    }
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // What nobody can know any more is told, too, and says so.
    for event in sink.events().iter().filter(|e| e["outcome"] != "unknown") {
        let at = event["path"].as_str().unwrap().to_owned();
        ids.entry(at).or_default().insert(event["id"].as_str().unwrap().to_owned());
    }
    let told: BTreeSet<_> = ids.keys().cloned().collect();
    let made = made(&home);
    println!("{}", stands(kills, answered.len(), made.len(), &sink.events()));
    assert!(made.is_superset(&answered), "what was answered is not there");
    assert!(made.len() >= usize::try_from(kills).unwrap());
    assert_eq!(made.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "never told");
    assert_eq!(told.difference(&made).collect::<Vec<_>>(), Vec::<&String>::new(), "told and not there");
    let all = sink.events();
    assert!(all.iter().all(|e| e["recovered"] == true || e.get("outcome").is_none()));
    let twice: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(twice.is_empty(), "other ids for the same: {twice:?}");
}
