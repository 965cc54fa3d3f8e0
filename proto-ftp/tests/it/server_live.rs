//! Live sessions: what the table shows, how they end, who they are.
#![cfg(feature = "server")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::*;
use async_trait::async_trait;
use proto_ftp::server::{FtpServerOptions, Hosts, Messages, PassiveAddress, PassiveOptions};
use session_core::auth::Site;
use session_core::error::Error;
use session_core::event::What;
use session_core::fs_ext::FilesystemExt as _;
use session_core::intercept::Interceptor;
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::operation::OperationSet;
use session_core::session::{Actor, Ending, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn kill() -> Ending {
    Ending::new("disconnected by administrator", Actor::Admin("root".into()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_tells_what_a_download_does_and_a_kill_ends_it() {
    for sendfile_to_neighbours in [false, true] {
        watched_and_killed(FtpServerOptions { sendfile_to_neighbours, ..options() }).await;
    }
}

async fn watched_and_killed(options: FtpServerOptions) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("big"), vec![7u8; 64 << 20]).unwrap();
    let store = session_core::store::local::LocalStore::open(dir.path(), Default::default()).unwrap();
    let server = start_site(options, TestSite::named("disk", Arc::new(store))).await;
    let mut client = server.log_in().await;
    let mut data = client.data().await;
    client.command("RETR big", 150).await;
    let mut some = vec![0; 10 << 20];
    data.read_exact(&mut some).await.unwrap();
    let session = server.session();
    let shown = session.snapshot();
    let json = serde_json::to_value(&shown).unwrap().to_string();
    assert_eq!(&*session.user_id(), "demo");
    assert_eq!(session.last_command(), "RETR big");
    assert!(json.contains("RETR big") && json.contains("EPSV") && json.contains("127.0.0.1"), "{json}");
    let downloaded = || session.stats().downloaded.load(std::sync::atomic::Ordering::Relaxed);
    let before = downloaded();
    assert!(before >= some.len() as u64 / 2 && before < 64 << 20, "{before}");
    assert_eq!(session.stats().uploaded.load(std::sync::atomic::Ordering::Relaxed), 0);
    data.read_exact(&mut some).await.unwrap();
    assert!(downloaded() > before);
    assert!(json.contains("150"), "{json}");
    let begun = Instant::now();
    session.terminate(kill(), Duration::from_secs(1)).await;
    // What the cut broke off may be told before.
    let mut last = client.reply().await.expect("a reply");
    if last.0 == 426 {
        last = client.reply().await.expect("the last word");
    }
    assert!(last.0 == 421 && last.1.join("").contains("disconnected by administrator"), "{last:?}");
    assert!(client.line().await.is_none());
    // What is left in the pipe is thrown away: half a file must not look whole.
    let mut rest = Vec::new();
    assert!(data.read_to_end(&mut rest).await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(server.site.registry.list().is_empty());
    let closed = |e: &session_core::event::Event| matches!(&e.what, What::Closed(e) if *e == kill());
    for _ in 0..100 {
        if server.site.notes.0.lock().unwrap().iter().any(closed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the end was not told");
}

#[tokio::test]
async fn a_kill_ends_a_session_wherever_it_is() {
    let server = start(FtpServerOptions { tls: None, ..options() }).await;
    // Greeted, half logged in, idle, waiting for data, receiving.
    for stage in 0..5 {
        let mut client = server.connect().await;
        if stage == 1 {
            client.command("USER demo", 331).await;
        }
        if stage >= 2 {
            client.log_in().await;
        }
        let mut data = None;
        if stage == 3 {
            client.epsv().await;
            client.command("LIST", 150).await;
        }
        if stage == 4 {
            let mut stream = client.data().await;
            client.command("STOR half", 150).await;
            stream.write_all(&[1; 1000]).await.unwrap();
            data = Some(stream);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let begun = Instant::now();
        server.session().terminate(kill(), Duration::from_secs(1)).await;
        client.expect(421).await;
        assert!(client.line().await.is_none());
        assert!(begun.elapsed() < Duration::from_millis(300), "stage {stage}: {:?}", begun.elapsed());
        drop(data);
    }
    assert_eq!(server.site.area.parked().len(), 1);
    assert!(!server.site.store.exists(&p("/half")).await.unwrap());
}

#[tokio::test]
async fn times_are_kept() {
    let quick = FtpServerOptions {
        login_time: Duration::from_millis(300),
        idle: Some(Duration::from_millis(600)),
        data_time: Duration::from_millis(300),
        ..options()
    };
    let server = start(quick).await;
    let mut slow = server.connect().await;
    assert!(slow.expect(421).await.contains("login took too long"));
    let mut idle = server.log_in().await;
    assert!(idle.expect(421).await.contains("idle"));
    let mut stuck = server.log_in().await;
    let mut data = stuck.data().await;
    stuck.command("STOR f", 150).await;
    data.write_all(b"some").await.unwrap();
    assert!(stuck.expect(426).await.contains("nothing moved"));
    stuck.command("NOOP", 200).await;
    assert_eq!(server.site.area.parked().len(), 1);
}

#[tokio::test]
async fn too_slow_a_client_is_cut_off() {
    let rate = FtpServerOptions { data_time: Duration::from_millis(400), minimum_rate: 1000, ..options() };
    let server = start(rate).await;
    let mut client = server.log_in().await;
    let mut data = client.data().await;
    client.command("STOR f", 150).await;
    let drip = tokio::spawn(async move {
        while data.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(client.expect(426).await.contains("too slow"));
    drip.await.unwrap();
}

#[tokio::test]
async fn a_drain_lets_a_transfer_end() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    let mut data = client.data().await;
    client.command("STOR f", 150).await;
    data.write_all(b"one").await.unwrap();
    server.session().drain();
    data.write_all(b"two").await.unwrap();
    drop(data);
    client.expect(226).await;
    assert!(client.expect(421).await.contains("shutting down"));
    assert_eq!(server.site.store.read_to_vec(&p("/f"), 10).await.unwrap(), b"onetwo");
}

#[tokio::test]
async fn anonymous_users_are_shown_as_such() {
    let server = start(options()).await;
    let mut client = server.connect().await;
    client.command("USER anonymous", 331).await;
    client.command("PASS me@example.org", 230).await;
    let json = serde_json::to_string(&server.session().snapshot()).unwrap();
    assert!(json.contains("<Anonymous>"), "{json}");
    assert!(!json.contains("example.org"), "{json}");
}

#[tokio::test]
async fn messages_are_filled_and_refusals_are_said() {
    let messages = Messages {
        banner: "Welcome to %SiteName%\nsession %SessionID%".to_owned(),
        welcome: "Hello %UserName% from %ClientAddress%".to_owned(),
        exit: "You took %BytesReceived% and gave %BytesSent%".to_owned(),
        limit: "Full".to_owned(),
    };
    let server = start(FtpServerOptions { messages, ..options() }).await;
    let mut client = Client::new(TcpStream::connect(server.address).await.unwrap());
    let banner = client.expect(220).await;
    assert!(banner.starts_with("220-Welcome to test\n220 session "), "{banner}");
    client.command("USER demo", 331).await;
    assert!(client.command("PASS demo", 230).await.ends_with("Hello demo from 127.0.0.1"));
    client.command("TYPE I", 200).await;
    client.put("STOR f", b"12345").await;
    client.get("RETR f").await;
    client.get("RETR f").await;
    assert!(client.command("QUIT", 221).await.ends_with("You took 10 and gave 5"));
    *server.site.refuse.lock().unwrap() = Some("no room for you");
    let mut late = Client::new(TcpStream::connect(server.address).await.unwrap());
    assert!(late.expect(421).await.ends_with("Full"));
}

struct Two(Arc<TestSite>);

impl Hosts for Two {
    fn site(&self, name: &str) -> Option<Arc<dyn Site>> {
        (name == "second.example").then(|| Arc::clone(&self.0) as Arc<dyn Site>)
    }
}

#[tokio::test]
async fn another_site_is_reached_by_name() {
    let second = TestSite::named("second", Arc::new(session_core::store::memory::MemoryStore::new()));
    second.store.write_all(&p("/there"), "x".into()).await.unwrap();
    let hosts = FtpServerOptions { hosts: Some(Arc::new(Two(Arc::clone(&second)))), ..options() };
    let server = start(hosts).await;
    for (host, user) in
        [(Some("Second.Example."), "demo"), (None, "demo@second.example"), (None, "second.example|demo")]
    {
        let mut client = server.connect().await;
        if let Some(host) = host {
            client.command("HOST third.example", 504).await;
            client.command(&format!("HOST {host}"), 220).await;
        }
        client.command(&format!("USER {user}"), 331).await;
        client.command("PASS demo", 230).await;
        client.command("TYPE I", 200).await;
        client.command("SIZE there", 213).await;
        client.command("HOST second.example", 503).await;
    }
    let mut client = server.log_in().await;
    client.command("SIZE there", 550).await;
}

#[tokio::test]
async fn proxies_tell_who_their_clients_are() {
    let trusted = FtpServerOptions { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..options() };
    let server = start(trusted).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 21\r\n").await.unwrap();
    let mut client = Client::new(stream);
    client.expect(220).await;
    client.log_in().await;
    assert_eq!(server.session().peer_address().unwrap().to_string(), "203.0.113.7");
    // PASV names the address that the client knows.
    assert!(client.command("PASV", 227).await.contains("(192,0,2,1,"));
    client.command("MKD d", 257).await;
    // The data connection must be the same client's; another one's is turned away.
    let port = client.epsv().await;
    client.command("NLST", 150).await;
    let mut wrong = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    wrong.write_all(b"PROXY TCP4 203.0.113.8 192.0.2.1 5001 21\r\n").await.unwrap();
    let mut all = Vec::new();
    let _ = wrong.read_to_end(&mut all).await;
    assert!(all.is_empty());
    let mut right = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    right.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 5002 21\r\n").await.unwrap();
    right.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"d\r\n");
    client.expect(226).await;
    // Without its header a trusted proxy is served nothing.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(b"USER demo\r\nPASS demo\r\n").await.unwrap();
    let mut all = Vec::new();
    let _ = silent.read_to_end(&mut all).await;
    assert!(all.is_empty());
}

#[tokio::test]
async fn the_passive_address_depends_on_the_client() {
    let passive = PassiveOptions {
        address: Some("198.51.100.1".parse().unwrap()),
        addresses: vec![
            ("127.0.0.0/8".parse().unwrap(), Some(PassiveAddress::Name("localhost".to_owned()))),
            ("10.0.0.0/8".parse().unwrap(), None),
        ],
        ..PassiveOptions::default()
    };
    let server = start(FtpServerOptions { passive, ..options() }).await;
    let mut client = server.log_in().await;
    assert!(client.command("PASV", 227).await.contains("(127,0,0,1,"));
    let passive =
        PassiveOptions { address: Some("198.51.100.1".parse().unwrap()), ..PassiveOptions::default() };
    let server = start(FtpServerOptions { passive, ..options() }).await;
    let mut client = server.log_in().await;
    assert!(client.command("PASV", 227).await.contains("(198,51,100,1,"));
}

struct NoPwd;

#[async_trait]
impl Interceptor for NoPwd {
    fn interests(&self) -> OperationSet {
        OperationSet::NONE
    }

    async fn decide(&self, _: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        match step {
            Lifecycle::Command { verb: "PWD", .. } => Verdict::Refuse(Error::refused("you know where")),
            Lifecycle::Command { verb: "PASS", argument } => {
                assert_eq!(argument, "***");
                Verdict::Pass
            }
            _ => Verdict::Pass,
        }
    }
}

#[tokio::test]
async fn hooks_see_commands_without_secrets_and_may_refuse_them() {
    let server = start(options()).await;
    server.site.links.lock().unwrap().push(Arc::new(NoPwd));
    let mut client = server.log_in().await;
    assert!(client.command("PWD", 550).await.ends_with("you know where"));
    client.command("NOOP", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_many_pages_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5000 {
        std::fs::write(dir.path().join(format!("file-{n}")), "").unwrap();
    }
    let store = session_core::store::local::LocalStore::open(dir.path(), Default::default()).unwrap();
    let server = start_site(options(), TestSite::named("disk", Arc::new(store))).await;
    let mut client = server.log_in().await;
    for (command, lines) in [("MLSD", 5001), ("NLST", 5000), ("LIST", 5000), ("NLST *9", 500)] {
        let all = client.get(command).await;
        assert_eq!(all.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count(), lines, "{command}");
    }
}
