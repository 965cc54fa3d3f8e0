//! The server over sockets: logins, transfers, listings, endings.
#![cfg(feature = "server")]

use crate::support::*;
use session_core::error::ErrorKind;
use session_core::fs_ext::FilesystemExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_file_goes_up_and_comes_down() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 + n / 256) as u8).collect();
    client.put("STOR big", &content).await;
    assert_eq!(client.get("RETR big").await, content);
    client.command("REST 999990", 350).await;
    assert_eq!(client.get("RETR big").await, &content[999_990..]);
    client.put("APPE big", b"more").await;
    assert!(client.command("SIZE big", 213).await.ends_with(" 1000004"));
    client.put("STOR empty", b"").await;
    assert_eq!(client.get("RETR empty").await, b"");
    client.command("QUIT", 221).await;
    assert!(client.line().await.is_none());
}

#[tokio::test]
async fn listings_show_what_is_there() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    client.command("MKD d", 257).await;
    client.put("STOR d/one.txt", b"1").await;
    client.put("STOR d/two.bin", b"22").await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(client.get("NLST d").await), "one.txt\r\ntwo.bin\r\n");
    assert_eq!(text(client.get("NLST d/*.txt").await), "d/one.txt\r\n");
    let long = text(client.get("LIST -la d").await);
    assert_eq!(long.lines().count(), 2);
    assert!(long.lines().next().unwrap().ends_with(" one.txt"), "{long}");
    assert_eq!(text(client.get("LIST d/two.bin").await).lines().count(), 1);
    let facts = text(client.get("MLSD d").await);
    assert!(facts.contains("type=cdir;") && facts.contains("size=2;"), "{facts}");
    assert!(client.command("MLST d/one.txt", 250).await.contains("type=file;size=1;"));
    assert!(client.command("STAT d", 213).await.contains("two.bin"));
    client.data().await;
    client.command("MLSD d/one.txt", 550).await;
    client.data().await;
    client.command("LIST -R", 504).await;
    client.data().await;
    client.command("NLST nothing", 550).await;
}

#[tokio::test]
async fn small_files_work_over_and_over_on_one_port() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    let first = client.epsv().await;
    for n in 0..200u32 {
        let name = format!("STOR f{n}");
        client.put(&name, &n.to_le_bytes()).await;
    }
    for n in 0..200u32 {
        assert_eq!(client.get(&format!("RETR f{n}")).await, n.to_le_bytes());
    }
    assert_eq!(client.epsv().await, first);
}

#[tokio::test]
async fn the_wrong_password_and_too_many_of_them() {
    let server = start(options()).await;
    let mut client = server.connect().await;
    client.command("PASS demo", 503).await;
    for n in 1..=6 {
        client.command(if n % 2 == 0 { "USER nobody" } else { "USER demo" }, 331).await;
        assert!(client.command("PASS wrong", 530).await.ends_with("Login incorrect"));
    }
    client.expect(421).await;
    assert!(client.line().await.is_none());
}

#[tokio::test]
async fn a_second_factor_is_asked_by_acct() {
    let server = start(options()).await;
    let mut client = server.connect().await;
    client.command("USER twice", 331).await;
    assert!(client.command("PASS demo", 332).await.contains("Code"));
    client.command("ACCT 000000", 530).await;
    client.command("USER twice", 331).await;
    client.command("PASS demo", 332).await;
    client.command("ACCT 123456", 230).await;
    assert_eq!(&*server.session().last_command(), "ACCT ***");
    assert_eq!(server.session().auth_methods(), ["password", "keyboard-interactive"]);
}

#[tokio::test]
async fn rein_revokes_what_was_guarded() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    client.put("STOR f", b"x").await;
    let session = server.session();
    let identity = session.identity().unwrap();
    let fs = session.guard(&identity, std::sync::Arc::clone(&server.site.store), Default::default()).unwrap();
    assert!(fs.read_to_vec(&p("/f"), 10).await.is_ok());
    client.command("REIN", 220).await;
    let e = fs.read_to_vec(&p("/f"), 10).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    client.command("SIZE f", 530).await;
    client.log_in().await;
    client.command("SIZE f", 213).await;
}

#[tokio::test]
async fn abor_during_a_transfer_is_seen_at_once() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    client.put("STOR big", &vec![7; 30_000_000]).await;
    let mut data = client.data().await;
    client.command("RETR big", 150).await;
    let mut some = vec![0; 1000];
    data.read_exact(&mut some).await.unwrap();
    client.send(b"\xff\xf4\xff\xf2ABOR\r\n").await;
    client.expect(426).await;
    client.expect(226).await;
    // An upload that is given up leaves nothing.
    let mut data = client.data().await;
    client.command("STOR half", 150).await;
    data.write_all(&[1; 100_000]).await.unwrap();
    client.send("STAT\r\n").await;
    client.expect(211).await;
    client.send("ABOR\r\n").await;
    client.expect(426).await;
    client.expect(226).await;
    client.command("SIZE half", 550).await;
    assert!(server.site.area.parked().is_empty());
}

#[tokio::test]
async fn an_upload_whose_client_vanished_is_parked() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    let mut data = client.data().await;
    client.command("STOR half", 150).await;
    data.write_all(&[1; 100_000]).await.unwrap();
    drop(client);
    drop(data);
    let mut client = server.log_in().await;
    for _ in 0..100 {
        if !server.site.area.parked().is_empty() && server.site.registry.list().len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(server.site.area.parked().len(), 1);
    assert!(!server.site.store.exists(&p("/half")).await.unwrap());
    // Its owner goes on where it ended.
    assert!(client.command("SIZE half", 213).await.ends_with(" 100000"));
    client.command("REST 100000", 350).await;
    client.put("STOR half", &[2; 5]).await;
    assert_eq!(server.site.store.read_to_vec(&p("/half"), 200_000).await.unwrap().len(), 100_005);
}

#[tokio::test]
async fn an_upload_of_another_size_than_announced_is_parked() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    client.command("ALLO 10", 200).await;
    let mut data = client.data().await;
    client.command("STOR f", 150).await;
    data.write_all(b"12345").await.unwrap();
    drop(data);
    assert!(client.expect(451).await.contains("ALLO"));
    assert_eq!(server.site.area.parked().len(), 1);
    client.command("ALLO 10", 200).await;
    client.command("REST 5", 350).await;
    client.put("STOR f", b"67890").await;
    assert_eq!(server.site.store.read_to_vec(&p("/f"), 100).await.unwrap(), b"1234567890");
}

#[tokio::test]
async fn text_and_compressed_transfers_come_back_as_they_were() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    client.command("TYPE A", 200).await;
    client.put("STOR t", b"a\r\nb\r\n").await;
    assert_eq!(server.site.store.read_to_vec(&p("/t"), 100).await.unwrap(), b"a\nb\n");
    assert_eq!(client.get("RETR t").await, b"a\r\nb\r\n");
    client.command("SIZE t", 550).await;
    client.command("REST 1", 501).await;
    client.command("TYPE I", 200).await;
    client.command("MODE Z", 200).await;
    client.command("OPTS MODE Z LEVEL 1", 200).await;
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n / 1000) as u8).collect();
    let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut z, &content).unwrap();
    let packed = z.finish().unwrap();
    client.put("STOR z", &packed).await;
    assert_eq!(server.site.store.read_to_vec(&p("/z"), 4_000_000).await.unwrap(), content);
    let wire = client.get("RETR z").await;
    assert!(wire.len() < content.len() / 10);
    let mut back = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&wire[..]), &mut back).unwrap();
    assert!(back == content);
    // Half of a compressed file is no file.
    let mut data = client.data().await;
    client.command("STOR half", 150).await;
    data.write_all(&packed[..packed.len() / 2]).await.unwrap();
    drop(data);
    client.expect(426).await;
    assert!(!server.site.store.exists(&p("/half")).await.unwrap());
}

#[tokio::test]
async fn urgent_data_is_part_of_its_line() {
    let server = start(options()).await;
    let mut client = server.log_in().await;
    for line in [&b"ABOR\r\n"[..], b"\xff\xf4\xff\xf2"] {
        rustix::net::send(&client.stream, line, rustix::net::SendFlags::OOB).unwrap();
        if !line.ends_with(b"\n") {
            client.send("ABOR\r\n").await;
        }
        client.expect(226).await;
    }
}
