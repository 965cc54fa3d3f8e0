//! Limits of sessions and times, by real connections.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::*;

/// What a server says to a connection that says nothing, until it is closed.
fn said(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// A connection that has been greeted and goes no further.
fn silent(s: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", s.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut begin = [0; 4];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"SSH-");
    stream
}

#[tokio::test]
async fn an_address_has_only_so_many_sessions() {
    let s = Server::start(&format!("[limits]\nper_address = 2\n{}", user("alice")), &[]);
    let first = s.login("alice").await;
    let second = silent(&s);
    let mut third = TcpStream::connect(("127.0.0.1", s.port)).unwrap();
    let words = said(&mut third);
    assert!(!words.starts_with("SSH-") && words.contains("address"), "{words:?}");
    put(&first, "/f", "the sessions that are there go on").await.unwrap();
    drop(second);
    until("a place that is given up to be free", || {
        TcpStream::connect(("127.0.0.1", s.port)).is_ok_and(|mut c| {
            let mut begin = [0; 4];
            c.read_exact(&mut begin).is_ok() && &begin == b"SSH-"
        })
    })
    .await;
}

#[tokio::test]
async fn only_so_many_wait_before_their_login() {
    let s = Server::start(&format!("[limits]\nunauthenticated = 2\n{}", user("alice")), &[]);
    let (_one, two) = (silent(&s), silent(&s));
    let mut third = TcpStream::connect(("127.0.0.1", s.port)).unwrap();
    assert!(!said(&mut third).starts_with("SSH-"));
    drop(two);
    // Who is logged in waits no more.
    until("a login to be let through", || s.ask(&["sessions", "--json"]).1.lines().count() < 2).await;
    let a = s.login("alice").await;
    let _again = silent(&s);
    put(&a, "/f", "x").await.unwrap();
}

#[tokio::test]
async fn a_session_that_does_nothing_ends() {
    let s = Server::start(&format!("[limits]\nidle_time = \"600ms\"\n{}", user("alice")), &[]);
    let a = s.login("alice").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        put(&a, "/f", "busy").await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let count = || s.ask(&["sessions", "--json"]).1.lines().count();
    assert_eq!(count(), 1, "who works is not idle");
    until("the idle session to end", || count() == 0).await;
    until("the reason to be in the log", || s.log().contains("idle for too long")).await;
    assert!(put(&a, "/g", "late").await.is_err());
}

#[tokio::test]
async fn a_login_has_only_so_much_time() {
    let s = Server::start(&format!("[limits]\nlogin_time = \"500ms\"\n{}", user("alice")), &[]);
    let mut slow = silent(&s);
    let began = Instant::now();
    said(&mut slow);
    assert!(began.elapsed() < Duration::from_secs(5));
    until("the reason to be in the log", || s.log().contains("the login took too long")).await;
}

/// Attack 16: many logins at once over two protocols; never more than the account may have, and each place
/// comes back.
#[tokio::test]
async fn an_accounts_sessions_are_counted_exactly_over_all_protocols() {
    let config = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n\
                  [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n"
        .to_string()
        + &user("alice")
        + "sessions = 5\n";
    let s = std::sync::Arc::new(Server::configured(&config, &[]));
    let port = s.port_of("ferry", "ftp");
    for _ in 0..2 {
        let over_ftp: Vec<_> = (0..20)
            .map(|_| {
                tokio::task::spawn_blocking(move || {
                    let (mut ftp, _) = crate::ftp::Ftp::connect(port);
                    ftp.log_in("alice").starts_with("230").then_some(ftp)
                })
            })
            .collect();
        let over_sftp: Vec<_> = (0..4)
            .map(|_| {
                let s = std::sync::Arc::clone(&s);
                tokio::spawn(async move { s.try_login("alice", PASSWORD).await.ok() })
            })
            .collect();
        let (mut ftp, mut sftp) = (Vec::new(), Vec::new());
        for login in over_ftp {
            ftp.extend(login.await.unwrap());
        }
        for login in over_sftp {
            sftp.extend(login.await.unwrap());
        }
        assert_eq!(ftp.len() + sftp.len(), 5);
        let inside = s.sessions().iter().filter(|s| s["state"] == "ready").count();
        assert_eq!(inside, 5);
        for c in sftp {
            c.close().await;
        }
        drop(ftp);
        until("every place to be free", || s.sessions().is_empty()).await;
    }
}

#[tokio::test]
async fn a_network_and_a_site_have_only_so_many_sessions() {
    let s = Server::start(&format!("[limits]\nper_network = 2\n{}", user("alice")), &[]);
    let (_one, _two) = (silent(&s), silent(&s));
    let mut third = TcpStream::connect(("127.0.0.1", s.port)).unwrap();
    assert!(said(&mut third).contains("network"));
    let sites = format!(
        "[[sites]]\nname = \"a\"\nlisteners = [{{ port = 0 }}]\n[sites.limits]\nsessions = 1\n{}\
         [[sites]]\nname = \"b\"\nlisteners = [{{ port = 0 }}]\n",
        user("alice").replace("[[users]]", "[[sites.users]]")
    );
    let s = Server::configured(&sites, &[]);
    let _inside = silent(&s);
    let mut second = TcpStream::connect(("127.0.0.1", s.port)).unwrap();
    assert!(said(&mut second).contains("this site has as many sessions as it may"));
    let mut other = TcpStream::connect(("127.0.0.1", s.port_of("b", "sftp"))).unwrap();
    let mut begin = [0; 4];
    other.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"SSH-", "another site has its own limits");
}
