//! Attacks on a server of FTP, each with the number it has in the list of attacks; those on TLS (1, 2, 5)
//! are in `server_tls.rs`.
#![cfg(feature = "server")]

use std::time::Duration;

use crate::support::*;
use proto_ftp::server::{FtpServerOptions, PassiveOptions};
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

// Attack 3.
#[tokio::test]
async fn the_server_connects_to_nobody_but_its_client() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    // Active mode is off unless asked for.
    client.command("PORT 127,0,0,1,200,10", 501).await;
    let server = start(FtpServerOptions { active: true, ..options() }).await;
    let mut client = server.log_in().await;
    client.command("PORT 127,0,0,2,200,10", 501).await;
    client.command("EPRT |1|10.0.0.1|5000|", 501).await;
    client.command("EPRT |2|::1|5000|", 501).await;
    client.command("PORT 127,0,0,1,0,80", 501).await;
    client.command("LIST", 425).await;
    // To the client itself it does.
    client.command("MKD d", 257).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    client.command(&format!("EPRT |1|127.0.0.1|{port}|"), 200).await;
    client.send("NLST\r\n").await;
    let (mut data, _) = listener.accept().await.unwrap();
    client.expect(150).await;
    let mut all = String::new();
    data.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "d\r\n");
    client.expect(226).await;
}

// Attack 4.
#[tokio::test]
async fn a_stranger_at_the_data_port_is_turned_away() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    client.put("STOR secret", b"for the client only").await;
    let port = client.epsv().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stranger = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    client.command("RETR secret", 150).await;
    let mut all = Vec::new();
    assert!(stranger.read_to_end(&mut all).await.is_err() || all.is_empty());
    assert!(all.is_empty());
    let mut data = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    data.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"for the client only");
    client.expect(226).await;
}

// Attack 6.
#[tokio::test]
async fn no_client_takes_more_than_one_port() {
    // Below those that the system hands out, so that no other test takes one meanwhile.
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let free = (21_000..30_000).step_by(7).find(|p| is_free(p) && is_free(&(p + 1))).unwrap();
    let passive = PassiveOptions {
        ports: Some(free..=free + 1),
        time: Duration::from_millis(300),
        ..PassiveOptions::default()
    };
    let server = start(FtpServerOptions { passive, ..options() }).await;
    let mut greedy = server.log_in().await;
    for _ in 0..1000 {
        greedy.command("PASV", 227).await;
    }
    let mut second = server.log_in().await;
    second.command("EPSV", 229).await;
    let mut third = server.log_in().await;
    assert!(third.command("EPSV", 425).await.contains("try again"));
    // A port that nobody comes to is given up.
    tokio::time::sleep(Duration::from_millis(900)).await;
    let port = third.epsv().await;
    assert!((free..=free + 1).contains(&port));
    greedy.command("LIST", 425).await;
}

// Attack 7.
#[tokio::test]
async fn no_name_forges_a_reply_or_an_entry() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    let evil = b"a\r\n226 done\xff";
    let path = p("/").join(evil).unwrap();
    server.site.store.create_dir(&path, &Attributes::none()).await.unwrap();
    for command in ["LIST", "NLST", "MLSD"] {
        let listing = client.get(command).await;
        let own = usize::from(command == "MLSD");
        assert_eq!(listing.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count(), 1 + own);
        assert!(listing.ends_with(b"a??226 done\xff\r\n"), "{}", String::from_utf8_lossy(&listing));
    }
    client.send(b"CWD a\r\0\n226 done\xff\xff\r\n").await;
    client.expect(501).await;
    client.expect(500).await;
    client.send(b"MKD x\xff\xffy\r\n").await;
    let reply = client.expect(257).await;
    assert!(reply.contains("/x"), "{reply}");
    assert!(server.site.store.exists(&p("/").join(b"x\xffy").unwrap()).await.unwrap());
}

// Attack 8.
#[tokio::test]
async fn long_lines_and_many_commands_cost_little() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    for _ in 0..16 {
        client.send(vec![b'x'; 64 * 1024]).await;
    }
    client.send("\r\nNOOP\r\n").await;
    client.expect(500).await;
    client.expect(200).await;
    // All at once, replies unread for a while: the server waits, the client too.
    let (mut read, mut write) = tokio::io::split(client.stream);
    let sender = tokio::spawn(async move {
        write.write_all(&b"NOOP\r\n".repeat(10_000)).await.unwrap();
        write
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut all = vec![0; b"200 Here\r\n".len() * 10_000];
    tokio::time::timeout(PATIENCE, read.read_exact(&mut all)).await.unwrap().unwrap();
    assert!(all.chunks(10).all(|line| line == b"200 Here\r\n"));
    sender.await.unwrap();
}

// Attack 41.
#[tokio::test]
async fn offsets_that_make_no_sense_are_refused_and_harm_nothing() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    client.put("STOR f", b"0123456789").await;
    client.command("REST -1", 501).await;
    client.command("REST 99999999999999999999", 501).await;
    client.command("REST 1 2", 501).await;
    for command in ["RETR f", "STOR f"] {
        client.command("REST 11", 350).await;
        client.data().await;
        client.command(command, 554).await;
        assert_eq!(server.site.store.read_to_vec(&p("/f"), 100).await.unwrap(), b"0123456789");
    }
    // The offset was for that one command.
    assert_eq!(client.get("RETR f").await, b"0123456789");
    client.command("REST 10", 350).await;
    assert_eq!(client.get("RETR f").await, b"");
    client.command("REST 5", 350).await;
    client.data().await;
    client.command("STOR none", 554).await;
    assert!(!server.site.store.exists(&p("/none")).await.unwrap());
    client.command("TYPE A", 200).await;
    client.command("REST 5", 501).await;
    client.command("SIZE f", 550).await;
    client.command("TYPE I", 200).await;
    client.command("RANG 2 4", 350).await;
    assert_eq!(client.get("RETR f").await, b"234");
}
