//! The client against a server that follows a script: old servers, lying ones, and ones that break off.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security, connect};
use session_core::auth::Secret;
use session_core::batch::Unattended;
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::fs::{CommitOptions, Filesystem, Follow, ListOptions, OpenOptions};
use session_core::path::VPath;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

/// What the server is like.
#[derive(Clone, Default)]
struct Ways {
    /// EPSV is not known.
    no_epsv: bool,
    /// What FEAT tells.
    features: &'static str,
    /// What a listing holds.
    listing: &'static str,
    /// What MDTM tells.
    mdtm: &'static str,
    /// Bytes of content that are sent before the end.
    sends: usize,
    /// The data connection ends with a reset.
    resets: bool,
    /// The last word after data; empty: hangs up without one.
    last: &'static str,
    /// The first word before data; empty: 150.
    first: &'static str,
    /// The data port is never opened to anybody.
    no_data: bool,
}

struct Server {
    address: std::net::SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(ways: Ways) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, ways.clone(), Arc::clone(&notes)));
            }
        });
        Server { address, heard }
    }

    async fn remote(&self) -> Result<FtpRemote> {
        let mut options = FtpConnectOptions::new("127.0.0.1", self.address.port(), "u");
        options.password = Some(Secret::new("p"));
        options.security = Security::Plain;
        options.timeout = Duration::from_secs(2);
        connect(options, Arc::new(Unattended)).await
    }

    fn heard(&self, verb: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|l| l.starts_with(verb)).count()
    }
}

const SIZE: usize = 100_000;

/// One reply.
async fn say(write: &mut OwnedWriteHalf, text: String) -> Option<()> {
    write.write_all(text.as_bytes()).await.ok()
}

async fn serve(stream: TcpStream, ways: Ways, heard: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut port: Option<TcpListener> = None;
    write.write_all(b"220 scripted\r\n").await.ok()?;
    while let Some(line) = lines.next_line().await.ok()? {
        heard.lock().unwrap().push(line.clone());
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match verb {
            "USER" => say(&mut write, "331 password\r\n".into()).await?,
            "PASS" => say(&mut write, "230 in\r\n".into()).await?,
            "FEAT" => say(&mut write, format!("211-F\r\n{}211 E\r\n", ways.features)).await?,
            "SYST" => say(&mut write, "215 UNIX Type: L8\r\n".into()).await?,
            "PWD" => say(&mut write, "257 \"/\"\r\n".into()).await?,
            "EPSV" if ways.no_epsv => say(&mut write, "500 what?\r\n".into()).await?,
            "EPSV" | "PASV" => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let n = listener.local_addr().unwrap().port();
                if !ways.no_data {
                    port = Some(listener);
                }
                if verb == "EPSV" {
                    say(&mut write, format!("229 (|||{n}|)\r\n")).await?;
                } else {
                    // An address of its own network.
                    say(&mut write, format!("227 (10,1,2,3,{},{})\r\n", n >> 8, n & 255)).await?;
                }
            }
            "RETR" | "LIST" | "MLSD" | "STOR" => {
                if !ways.first.is_empty() {
                    say(&mut write, format!("{}\r\n", ways.first)).await?;
                    continue;
                }
                let Some(listener) = port.take() else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    say(&mut write, "425 no data connection\r\n".into()).await?;
                    continue;
                };
                let mut data = listener.accept().await.ok()?.0;
                say(&mut write, "150 here it comes\r\n".into()).await?;
                if verb == "STOR" {
                    let mut sink = vec![0; ways.sends];
                    if ways.sends > 0 {
                        let _ = data.read_exact(&mut sink).await;
                    } else {
                        let _ = data.read_to_end(&mut sink).await;
                    }
                } else if verb == "RETR" {
                    let _ = data.write_all(&vec![b'x'; ways.sends]).await;
                } else {
                    let _ = data.write_all(ways.listing.as_bytes()).await;
                }
                if ways.resets {
                    data.set_zero_linger().unwrap();
                }
                drop(data);
                if ways.last.is_empty() {
                    return None;
                }
                say(&mut write, format!("{}\r\n", ways.last)).await?;
            }
            "SIZE" if argument.contains("missing") => say(&mut write, "550 no\r\n".into()).await?,
            "SIZE" => say(&mut write, format!("213 {SIZE}\r\n")).await?,
            "MDTM" if !ways.mdtm.is_empty() => say(&mut write, format!("213 {}\r\n", ways.mdtm)).await?,
            "CWD" if argument.contains("missing") => say(&mut write, "550 no\r\n".into()).await?,
            "TYPE" | "CWD" | "NOOP" | "OPTS" => say(&mut write, "200 ok\r\n".into()).await?,
            "REST" => say(&mut write, "350 go on\r\n".into()).await?,
            "QUIT" => {
                say(&mut write, "221 bye\r\n".into()).await?;
                return None;
            }
            _ => say(&mut write, "502 not known\r\n".into()).await?,
        }
    }
    None
}

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

async fn read_all(remote: &FtpRemote, size: Option<u64>) -> Result<u64> {
    let file = remote.open(&p("/f"), &OpenOptions { size_hint: size, ..OpenOptions::read() }).await?;
    let mut at = 0;
    loop {
        let got = file.read_into(at, 64 * 1024, BytesMut::new()).await?;
        if got.is_empty() {
            return Ok(at);
        }
        at += got.len() as u64;
    }
}

async fn write_one(remote: &FtpRemote) -> Result<()> {
    let file = remote.open(&p("/f"), &OpenOptions::create()).await?;
    for n in 0..10 {
        file.write_at(n * 10_000, Bytes::from(vec![1; 10_000])).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let size = Some(SIZE as u64);
    file.commit(&CommitOptions { expected_size: size, ..CommitOptions::default() }).await.map(drop)
}

#[tokio::test]
async fn an_old_server_is_understood_and_its_private_address_passed_over() {
    let ways = Ways { no_epsv: true, sends: SIZE, last: "226 done", ..Ways::default() };
    let server = Server::start(ways).await;
    let remote = server.remote().await.unwrap();
    for _ in 0..3 {
        assert_eq!(read_all(&remote, None).await.unwrap(), SIZE as u64);
    }
    // Asked once, remembered for the server.
    assert_eq!(server.heard("EPSV"), 1);
    assert!(server.heard("PASV") >= 3);
    assert_eq!(remote.stat(&p("/f"), Follow::Yes).await.unwrap().size, SIZE as u64);
    assert!(remote.stat(&p("/d/missing"), Follow::Yes).await.is_err());
}

#[tokio::test]
async fn a_download_that_ends_early_is_never_a_short_file() {
    let cases: [(&str, Ways); 6] = [
        ("421", Ways { sends: 50_000, last: "421 shutting down", ..Ways::default() }),
        ("426", Ways { sends: 50_000, last: "426 broken", ..Ways::default() }),
        ("451", Ways { sends: 50_000, last: "451 disk", ..Ways::default() }),
        ("silent", Ways { sends: 50_000, last: "", ..Ways::default() }),
        ("reset", Ways { sends: 50_000, resets: true, last: "426 broken", ..Ways::default() }),
        ("nothing", Ways { sends: 0, last: "426 broken", ..Ways::default() }),
    ];
    for (name, ways) in cases {
        for size in [None, Some(SIZE as u64), Some(50_000)] {
            let server = Server::start(ways.clone()).await;
            let remote = server.remote().await.unwrap();
            let e = read_all(&remote, size).await.map(|n| panic!("{name} {size:?}: {n} bytes look whole"));
            let e: Error = e.unwrap_err();
            assert_ne!(e.retry(), Retry::Never, "{name} {size:?}: {e:#}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_breaks_is_never_a_success() {
    let cases: [(&str, Ways); 5] = [
        ("421", Ways { sends: 50_000, last: "421 shutting down", ..Ways::default() }),
        ("426", Ways { sends: 50_000, resets: true, last: "426 broken", ..Ways::default() }),
        ("silent", Ways { sends: 50_000, resets: true, last: "", ..Ways::default() }),
        ("full", Ways { last: "452 full", ..Ways::default() }),
        // It says done and has another size.
        ("lie", Ways { features: " SIZE\r\n", sends: 0, last: "226 done", ..Ways::default() }),
    ];
    for (name, ways) in cases {
        let lies = name == "lie";
        let server = Server::start(ways).await;
        let remote = server.remote().await.unwrap();
        let done = if lies {
            let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
            file.write_at(0, Bytes::from_static(b"short")).await.unwrap();
            file.commit(&CommitOptions::default()).await.map(drop)
        } else {
            write_one(&remote).await
        };
        let e = done.map(|()| panic!("{name}: a broken upload looks whole")).unwrap_err();
        let due = match name {
            "lie" => ErrorKind::Corrupt,
            "full" => ErrorKind::NoSpace,
            _ => ErrorKind::Disconnected,
        };
        assert_eq!(e.kind(), due, "{name}: {e:#}");
    }
}

#[tokio::test]
async fn refusals_before_data_come_with_the_servers_words() {
    for (first, kind) in [
        ("550 No such file", ErrorKind::NotFound),
        ("550 Permission denied", ErrorKind::PermissionDenied),
        ("425 cannot", ErrorKind::Disconnected),
        ("522 resume", ErrorKind::PermissionDenied),
        ("450 busy", ErrorKind::Locked),
    ] {
        let server = Server::start(Ways { first, ..Ways::default() }).await;
        let remote = server.remote().await.unwrap();
        let e = read_all(&remote, Some(9)).await.unwrap_err();
        assert_eq!((e.kind(), e.wire().unwrap().code.to_string().as_str()), (kind, &first[..3]), "{e:#}");
        // The connection is as good as before.
        assert!(remote.stat(&p("/f"), Follow::Yes).await.is_ok());
    }
    let server = Server::start(Ways { no_data: true, ..Ways::default() }).await;
    let e = read_all(&server.remote().await.unwrap(), Some(9)).await.unwrap_err();
    assert!(e.hint().is_some_and(|h| h.contains("firewall")), "{e:#}");
}

const LISTING: &str = "total 2\r\n\
    drwxr-xr-x 2 u g 4096 Jan 01 00:30 d\r\n\
    -rw-r--r-- 1 u g 7 Mar 05 14:30 a file\r\n\
    what is this\r\n\
    -rw-r--r-- 1 u g 7 Mar 05 2001 ../evil\r\n";

#[tokio::test]
async fn an_old_listing_is_read_in_the_servers_zone_and_a_bad_line_is_kept() {
    // The file's time in UTC is two hours behind what the listing shows.
    let year = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year() - 1;
    let mdtm: &'static str = Box::leak(format!("{year}0305123045").into_boxed_str());
    let listing: &'static str =
        Box::leak(LISTING.replace("Mar 05 14:30", &format!("{year}-03-05 14:30")).into_boxed_str());
    let server = Server::start(Ways { listing, mdtm, last: "226 done", ..Ways::default() }).await;
    let remote = server.remote().await.unwrap();
    let mut pages = remote.list(&p("/dir"), &ListOptions::default()).await.unwrap();
    let page = pages.next_page().await.unwrap().unwrap();
    assert!(pages.next_page().await.unwrap().is_none());
    let names: Vec<_> = page.iter().map(|e| &e.name[..]).collect();
    assert_eq!(names, [&b"d"[..], b"a file"]);
    let at = jiff::Timestamp::try_from(page[1].metadata.modified.unwrap()).unwrap();
    assert_eq!(at.to_string(), format!("{year}-03-05T12:30:00Z"));
    assert_eq!(remote.skipped_lines(), 2);
    assert_eq!(remote.skipped()[0], "what is this");
    assert_eq!(server.heard("CWD /dir"), 1);
}

#[tokio::test]
async fn a_listing_that_was_cut_short_is_an_error() {
    for (features, listing) in
        [("", "-rw-r--r-- 1 u g 7 Mar 05 2001 a\r\n"), (" MLST type*;\r\n", "type=file; a\r\n")]
    {
        for last in ["426 broken", "", "451 error"] {
            let server = Server::start(Ways { features, listing, last, ..Ways::default() }).await;
            let remote = server.remote().await.unwrap();
            let listed = async {
                let mut pages = remote.list(&p("/"), &ListOptions::default()).await?;
                while pages.next_page().await?.is_some() {}
                Ok::<_, Error>(())
            };
            let e = listed.await.map(|()| panic!("{last}: a part looks whole")).unwrap_err();
            assert_ne!(e.retry(), Retry::Never, "{e:#}");
        }
    }
}
