//! The client against a server that follows a script: old servers, lying ones, and ones that break off.
#![cfg(feature = "client")]

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
    /// The greeting; empty: `220 scripted`.
    greeting: &'static str,
    /// Replies to commands that begin like that, before all others.
    says: &'static [(&'static str, &'static str)],
    /// What RETR sends, from REST on, in place of as many `x` as `sends` says.
    content: &'static [u8],
    /// In pieces of this many bytes; 0: in one.
    piece: usize,
}

struct Server {
    address: std::net::SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    /// What was uploaded last.
    stored: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    async fn start(ways: Ways) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let stored: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (notes, kept) = (Arc::clone(&heard), Arc::clone(&stored));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, ways.clone(), Arc::clone(&notes), Arc::clone(&kept)));
            }
        });
        Server { address, heard, stored }
    }

    async fn remote(&self) -> Result<FtpRemote> {
        self.remote_with(|_| {}).await
    }

    async fn remote_with(&self, change: impl FnOnce(&mut FtpConnectOptions)) -> Result<FtpRemote> {
        let mut options = FtpConnectOptions::new("127.0.0.1", self.address.port(), "u");
        options.password = Some(Secret::new("p"));
        options.security = Security::Plain;
        options.timeout = Duration::from_secs(2);
        change(&mut options);
        connect(options, Arc::new(Unattended)).await
    }

    /// The commands that matter for a transfer, in order.
    fn transfers(&self) -> Vec<String> {
        let told = ["REST", "STOR", "APPE", "RETR", "DELE", "TYPE"];
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|l| told.iter().any(|t| l.starts_with(t))).skip(1).cloned().collect()
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

/// The address in PORT or EPRT.
fn told_address(verb: &str, argument: &str) -> Option<std::net::SocketAddr> {
    if verb == "EPRT" {
        let parts: Vec<_> = argument.split('|').collect();
        return format!("{}:{}", parts.get(2)?, parts.get(3)?).parse().ok();
    }
    let n: Vec<u16> = argument.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    format!("{}.{}.{}.{}:{}", n[0], n[1], n[2], n[3], n[4] * 256 + n[5]).parse().ok()
}

async fn serve(
    stream: TcpStream,
    ways: Ways,
    heard: Arc<Mutex<Vec<String>>>,
    stored: Arc<Mutex<Vec<u8>>>,
) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).split(b'\n');
    let mut port: Option<TcpListener> = None;
    let mut active = None;
    let mut rest = 0;
    let greeting = if ways.greeting.is_empty() { "220 scripted" } else { ways.greeting };
    say(&mut write, format!("{greeting}\r\n")).await?;
    while let Some(line) = lines.next_segment().await.ok()? {
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        heard.lock().unwrap().push(line.clone());
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        if let Some((_, reply)) = ways.says.iter().find(|(head, _)| line.starts_with(head)) {
            say(&mut write, format!("{reply}\r\n")).await?;
            continue;
        }
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
            "PORT" | "EPRT" => {
                active = told_address(verb, argument);
                say(&mut write, "200 noted\r\n".into()).await?;
            }
            "RETR" | "LIST" | "MLSD" | "STOR" | "APPE" => {
                if !ways.first.is_empty() {
                    say(&mut write, format!("{}\r\n", ways.first)).await?;
                    continue;
                }
                let mut data = match (active.take(), port.take()) {
                    (Some(address), _) => TcpStream::connect(address).await.ok()?,
                    (None, Some(listener)) => listener.accept().await.ok()?.0,
                    (None, None) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        say(&mut write, "425 no data connection\r\n".into()).await?;
                        continue;
                    }
                };
                say(&mut write, "150 here it comes\r\n".into()).await?;
                if matches!(verb, "STOR" | "APPE") {
                    let mut sink = vec![0; ways.sends];
                    if ways.sends > 0 {
                        let _ = data.read_exact(&mut sink).await;
                    } else {
                        let told = tokio::select! {
                            _ = data.read_to_end(&mut sink) => None,
                            line = lines.next_segment() => line.ok()?,
                        };
                        if let Some(line) = told {
                            assert_eq!(line.trim_ascii_end(), b"ABOR");
                            say(&mut write, "426 as you wish\r\n226 aborted\r\n".into()).await?;
                            continue;
                        }
                    }
                    *stored.lock().unwrap() = sink;
                } else if verb == "RETR" && !ways.content.is_empty() {
                    data.set_nodelay(true).unwrap();
                    let content = &ways.content[std::mem::take(&mut rest)..];
                    for piece in
                        content.chunks(if ways.piece == 0 { content.len().max(1) } else { ways.piece })
                    {
                        let _ = data.write_all(piece).await;
                        tokio::task::yield_now().await;
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
            "REST" => {
                rest = argument.parse().unwrap();
                say(&mut write, "350 go on\r\n".into()).await?;
            }
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
async fn answers_that_change_nothing_are_not_waited_for() {
    // It answers to OPTS only together with what comes next.
    let says = &[("OPTS UTF8", "200-in a moment"), ("SIZE", "200 noted\r\n213 100000")];
    let server = Server::start(Ways { features: " UTF8\r\n", says, ..Ways::default() }).await;
    let remote = server.remote().await.unwrap();
    assert_eq!(remote.stat(&p("/f"), Follow::Yes).await.unwrap().size, SIZE as u64);
    // Nor does anybody else get a connection of their own meanwhile.
    assert_eq!((server.heard("OPTS UTF8"), server.heard("USER")), (1, 1));
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

/// Opened for writing, without truncation.
fn going_on() -> OpenOptions {
    OpenOptions { write: true, ..OpenOptions::default() }
}

const DONE: Ways = Ways {
    no_epsv: false,
    features: " REST STREAM\r\n",
    listing: "",
    mdtm: "",
    sends: 0,
    resets: false,
    last: "226 done",
    first: "",
    no_data: false,
    greeting: "",
    says: &[],
    content: b"",
    piece: 0,
};

/// The scripted server says that every file has `SIZE` bytes.
#[tokio::test]
async fn an_upload_is_continued_at_the_end_by_appe_and_before_it_by_rest() {
    let size = SIZE as u64;
    for (from, expected) in [
        (size, vec!["APPE /f"]),
        (size - 10, vec!["REST 99990", "STOR /f"]),
        // What begins at the beginning needs no REST.
        (0, vec!["STOR /f"]),
    ] {
        let server = Server::start(Ways { features: " REST STREAM\r\n SIZE\r\n", ..DONE }).await;
        let remote = server.remote().await.unwrap();
        assert!(remote.capabilities().continue_write && !remote.capabilities().random_write);
        let file = remote.open(&p("/f"), &going_on()).await.unwrap();
        let mut at = from;
        // In pieces, up to the old end and then beyond it.
        let step = ((size + 20 - from) / 4).max(5);
        while at < size + 20 {
            let n = step.min(size + 20 - at);
            file.write_at(at, Bytes::from(vec![1; n as usize])).await.unwrap();
            at += n;
        }
        // The size that it tells afterwards is the old one still: that is noticed, and nothing else is wrong.
        let e = file.commit(&CommitOptions::default()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{e:#}");
        assert_eq!(server.transfers(), expected);
        assert_eq!(server.stored.lock().unwrap().len() as u64, size + 20 - from);
    }
}

#[tokio::test]
async fn jumps_that_cannot_be_served_say_so_and_send_nothing() {
    let size = SIZE as u64;
    let refused = |e: Error| {
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:#}");
        assert!(e.hint().is_some(), "{e:#}");
    };
    // It does not know REST.
    let server = Server::start(Ways { features: " SIZE\r\n", ..DONE }).await;
    let remote = server.remote().await.unwrap();
    let file = remote.open(&p("/f"), &going_on()).await.unwrap();
    refused(file.write_at(size - 1, Bytes::from_static(b"x")).await.unwrap_err());
    // It does; what lies behind the last byte could not be kept.
    let server = Server::start(DONE).await;
    let remote = server.remote().await.unwrap();
    let file = remote.open(&p("/f"), &going_on()).await.unwrap();
    file.write_at(size - 10, Bytes::from_static(b"12345")).await.unwrap();
    refused(file.commit(&CommitOptions::default()).await.unwrap_err());
    assert!(server.transfers().is_empty(), "{:?}", server.transfers());
    // Text has no offsets.
    let server = Server::start(DONE).await;
    let remote = server.remote().await.unwrap();
    let file = remote.open(&p("/f.txt"), &OpenOptions { text: true, ..going_on() }).await.unwrap();
    for offset in [size - 1, size] {
        refused(file.write_at(offset, Bytes::from_static(b"x")).await.unwrap_err());
    }
    file.park().await.unwrap();
    assert!(server.transfers().is_empty(), "{:?}", server.transfers());
}

#[tokio::test]
async fn a_restart_that_is_refused_leaves_the_file_alone() {
    const NO: &[(&str, &str)] = &[("REST", "502 not here"), ("STOR", "550 not like that")];
    let server = Server::start(Ways { says: NO, ..DONE }).await;
    let remote = server.remote().await.unwrap();
    let file = remote.open(&p("/f"), &going_on()).await.unwrap();
    assert!(file.write_at(SIZE as u64 - 1, Bytes::from_static(b"xy")).await.is_err());
    assert!(server.stored.lock().unwrap().is_empty());
}

#[tokio::test]
async fn text_gets_the_line_ends_of_this_side_wherever_the_pieces_end() {
    const WIRE: &[u8] = b"one\r\ntwo\rthree\r\r\n\nfour\r";
    const HERE: &[u8] = b"one\ntwo\rthree\r\n\nfour\r";
    for piece in 1..6 {
        let server = Server::start(Ways { content: WIRE, piece, ..DONE }).await;
        let remote = server.remote().await.unwrap();
        // What SIZE says (another number altogether) does not matter.
        let hint = OpenOptions { size_hint: Some(SIZE as u64), ..OpenOptions::read() };
        let file = remote.open(&p("/a.txt"), &OpenOptions { text: true, ..hint.clone() }).await.unwrap();
        let mut all = BytesMut::new();
        loop {
            let had = all.len();
            all = file.read_into(had as u64, 3, all).await.unwrap();
            assert!(all.len() - had <= 3);
            if all.len() == had {
                break;
            }
        }
        assert_eq!(all, HERE, "in pieces of {piece}");
        assert_eq!(server.transfers(), ["TYPE A", "RETR /a.txt"]);
        // A jump back reads it from its beginning: there is no restart in text.
        let got = file.read_into(4, 5, BytesMut::new()).await.unwrap();
        assert_eq!(got, HERE[4..9]);
        assert_eq!(server.heard("REST"), 0);
        // Others are left as they are.
        let file = remote.open(&p("/a.bin"), &hint).await.unwrap();
        assert_eq!(file.read_into(0, 100, BytesMut::new()).await.unwrap().first(), Some(&b'o'));
    }
}

#[tokio::test]
async fn text_is_uploaded_with_the_line_ends_of_the_wire() {
    let server = Server::start(Ways { features: " SIZE\r\n", ..DONE }).await;
    let remote = server.remote().await.unwrap();
    let file = remote.open(&p("/a.txt"), &OpenOptions { text: true, ..OpenOptions::create() }).await.unwrap();
    let mut at = 0;
    for piece in [&b"one\ntwo\r"[..], b"\nthree\r", b"four\n"] {
        file.write_at(at, Bytes::from_static(piece)).await.unwrap();
        at += piece.len() as u64;
    }
    // The size that the server tells counts other line ends, and is no fault.
    let options = CommitOptions { expected_size: Some(at), ..CommitOptions::default() };
    assert_eq!(file.commit(&options).await.unwrap().size, at);
    assert_eq!(*server.stored.lock().unwrap(), b"one\r\ntwo\r\nthree\rfour\r\n");
}

const LINKS: &str = "total 2\r\n\
    lrwxrwxrwx 1 u g 9 Mar 05 2001 l -> ../a b;c\r\n\
    lrwxrwxrwx 1 u g 9 Mar 05 2001 x -> y -> z\r\n\
    -rw-r--r-- 1 u g 7 Mar 05 2001 f\r\n";

#[tokio::test]
async fn a_link_is_read_from_whatever_shows_it() {
    // An old server: its listing does.
    let server = Server::start(Ways { listing: LINKS, ..DONE }).await;
    let remote = server.remote().await.unwrap();
    assert!(!remote.capabilities().symlinks);
    assert_eq!(remote.read_link(&p("/d/l")).await.unwrap(), "../a b;c");
    // Which arrow is meant tells the name that was asked for.
    assert_eq!(remote.read_link(&p("/d/x")).await.unwrap(), "y -> z");
    assert_eq!(remote.read_link(&p("/d/x -> y")).await.unwrap(), "z");
    assert_eq!(remote.read_link(&p("/d/f")).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(server.heard("CWD /d"), 4);
    // What it leads to is what SIZE speaks of.
    assert_eq!(remote.stat(&p("/d/l"), Follow::Yes).await.unwrap().size, SIZE as u64);
    // A newer one: its facts do; what no fact can hold is in the listing.
    const SHORT: &[(&str, &str)] = &[
        ("MLST /d/s", "250-it\r\n type=OS.unix=slink:/etc/passwd;modify=20200101000000; /d/s\r\n250 E"),
        ("MLST /d/l", "250-it\r\n type=OS.unix=slink:; /d/l\r\n250 E"),
        ("MLST /d/f", "250-it\r\n type=file;size=7; /d/f\r\n250 E"),
        ("MLST", "550 no such file"),
    ];
    let ways = Ways { features: " MLST type*;size*;\r\n", says: SHORT, listing: LINKS, ..DONE };
    let server = Server::start(ways).await;
    let remote = server.remote().await.unwrap();
    assert_eq!(remote.read_link(&p("/d/s")).await.unwrap(), "/etc/passwd");
    assert_eq!(server.heard("LIST"), 0);
    assert_eq!(remote.read_link(&p("/d/l")).await.unwrap(), "../a b;c");
    assert!(remote.stat(&p("/d/s"), Follow::No).await.unwrap().is_symlink());
    assert_eq!(remote.stat(&p("/d/s"), Follow::Yes).await.unwrap().size, SIZE as u64);
    assert_eq!(remote.read_link(&p("/d/f")).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(remote.read_link(&p("/d/none")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// An upload that is broken off: does the client clean up behind it?
async fn aborted(ways: Ways) -> usize {
    let server = Server::start(ways).await;
    let remote = server.remote().await.unwrap();
    let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from(vec![1; 10])).await.unwrap();
    file.abort().await.unwrap();
    server.heard("DELE /f")
}

#[tokio::test]
async fn only_a_server_that_promises_it_is_left_to_clean_up_by_itself() {
    assert_eq!(aborted(DONE).await, 1);
    assert_eq!(aborted(Ways { features: " FERRY\r\n", ..DONE }).await, 0);
    // A name in the prose of a banner promises nothing.
    const SYST: &[(&str, &str)] = &[("SYST", "215 UNIX Type: L8 (Ferry)")];
    assert_eq!(aborted(Ways { greeting: "220 Ferry Lines welcome you", says: SYST, ..DONE }).await, 1);
}

#[tokio::test]
async fn a_byte_255_is_doubled_but_for_those_who_would_keep_both() {
    let greetings =
        [("220 scripted", true), ("220 (vsFTPd 3.0.3)", false), ("220 Welcome to Pure-FTPd [TLS]", false)];
    for (greeting, doubled) in greetings {
        let server = Server::start(Ways { greeting, ..DONE }).await;
        let remote = server.remote().await.unwrap();
        // By a second connection, too, which knows the server from its beginning.
        let path = VPath::absolute(&b"/a\xffb"[..]).unwrap();
        let open = OpenOptions::create();
        let (one, two) = tokio::join!(remote.open(&path, &open), remote.open(&path, &open));
        one.unwrap().abort().await.unwrap();
        two.unwrap().abort().await.unwrap();
        let name = if doubled { "STOR /a\u{fffd}\u{fffd}b" } else { "STOR /a\u{fffd}b" };
        assert_eq!((server.heard("STOR"), server.heard(name)), (2, 2), "{greeting}");
    }
}

#[tokio::test]
async fn a_server_that_lies_about_its_name_gets_no_further_with_it() {
    // It says that uploads are whole although they are not: sizes are looked at all the same.
    let server = Server::start(Ways { features: " FERRY\r\n SIZE\r\n", ..DONE }).await;
    let remote = server.remote().await.unwrap();
    let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"short")).await.unwrap();
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    // And downloads that end early stay errors.
    let ways = Ways { features: " FERRY\r\n", sends: 10, last: "426 broken", ..DONE };
    let remote = Server::start(ways).await.remote().await.unwrap();
    assert!(read_all(&remote, Some(10)).await.is_err());
}

#[tokio::test]
async fn compression_is_used_where_it_was_agreed_on() {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&b"again and again ".repeat(1000)).unwrap();
    let content: &'static [u8] = Box::leak(encoder.finish().unwrap().into_boxed_slice());
    let ways =
        Ways { features: " MODE Z\r\n SIZE\r\n", content, piece: 7, says: &[("MODE Z", "200 ok")], ..DONE };
    let server = Server::start(ways.clone()).await;
    let remote = server.remote_with(|o| o.compress = true).await.unwrap();
    assert_eq!(read_all(&remote, None).await.unwrap(), 16_000);
    let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from(vec![b'y'; SIZE])).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    let sent = server.stored.lock().unwrap().clone();
    let mut whole = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&sent[..]), &mut whole).unwrap();
    assert!(whole == vec![b'y'; SIZE] && sent.len() < 1000, "{} bytes", sent.len());
    // It was offered and then refused: everything goes as it is.
    let ways = Ways { says: &[("MODE Z", "504 no")], content: b"plain", ..ways };
    let server = Server::start(ways).await;
    let remote = server.remote_with(|o| o.compress = true).await.unwrap();
    assert_eq!(read_all(&remote, None).await.unwrap(), 5);
    // Not asked for, not used.
    let server = Server::start(Ways { features: " MODE Z\r\n", ..DONE }).await;
    server.remote().await.unwrap();
    assert_eq!(server.heard("MODE"), 0);
    // Data that ends before its end does.
    let cut: &'static [u8] = &content[..content.len() - 3];
    let ways = Ways { features: " MODE Z\r\n", content: cut, says: &[("MODE Z", "200 ok")], ..DONE };
    let remote = Server::start(ways).await.remote_with(|o| o.compress = true).await.unwrap();
    assert!(read_all(&remote, None).await.is_err());
}

#[tokio::test]
async fn digests_are_asked_for_in_the_words_that_the_server_knows() {
    use session_core::fs::Algorithm;
    const BY_HASH: &[(&str, &str)] = &[
        ("OPTS HASH SHA-1", "200 SHA-1"),
        ("RANG 3 6", "350 ok"),
        ("HASH", "213 SHA-1 3-6 a9993e364706816aba3e25717850c26c9cd0d89d /f"),
    ];
    let ways = Ways { features: " HASH SHA-256*;SHA-1\r\n RANG STREAM\r\n", says: BY_HASH, ..DONE };
    let server = Server::start(ways).await;
    let remote = server.remote().await.unwrap();
    assert!(remote.capabilities().checksums);
    let got = remote.checksum(&p("/f"), Algorithm::Sha1, 3..7).await.unwrap();
    assert_eq!((got.len(), got[0], got[19]), (20, 0xa9, 0x9d));
    assert_eq!((server.heard("OPTS HASH"), server.heard("RANG"), server.heard("HASH /f")), (1, 1, 1));
    let e = remote.checksum(&p("/f"), Algorithm::Md5, 0..7).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    // An older way; parts cannot be asked for.
    const BY_X: &[(&str, &str)] = &[("XCRC", "250 352441C2"), ("XMD5", "250 no digest")];
    let server = Server::start(Ways { features: " XCRC\r\n XMD5\r\n", says: BY_X, ..DONE }).await;
    let remote = server.remote().await.unwrap();
    let got = remote.checksum(&p("/f"), Algorithm::Crc32, 0..u64::MAX).await.unwrap();
    assert_eq!(got[..], [0x35, 0x24, 0x41, 0xc2]);
    let e = remote.checksum(&p("/f"), Algorithm::Crc32, 1..5).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let e = remote.checksum(&p("/f"), Algorithm::Md5, 0..u64::MAX).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PeerMisbehaved);
}

#[tokio::test]
async fn active_mode_moves_data_both_ways_by_eprt_or_port() {
    use proto_ftp::client::DataMode;
    for (says, old) in [(&[][..], false), (&[("EPRT", "500 what?")][..], true)] {
        let server = Server::start(Ways { content: b"content", says, ..DONE }).await;
        let remote = server.remote_with(|o| o.mode = DataMode::Active).await.unwrap();
        for _ in 0..2 {
            assert_eq!(read_all(&remote, None).await.unwrap(), 7);
        }
        let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
        file.write_at(0, Bytes::from_static(b"sent")).await.unwrap();
        let _ = file.commit(&CommitOptions::default()).await;
        assert_eq!(*server.stored.lock().unwrap(), b"sent");
        // Which word it knows is found out once.
        assert_eq!((server.heard("EPRT"), server.heard("PORT")), if old { (1, 3) } else { (3, 0) });
        assert_eq!(server.heard("EPSV") + server.heard("PASV"), 0);
    }
}

#[tokio::test]
async fn the_virtual_host_is_named_before_the_user() {
    let named = |o: &mut FtpConnectOptions| o.host_name = Some("files.example.org".into());
    for (reply, works) in [
        ("220 files.example.org", true),
        // Servers that do not know the verb have one host only.
        ("500 what?", true),
        ("502 not here", true),
        ("504 no such host", false),
        ("550 no", false),
    ] {
        let says: &'static [(&str, &str)] = Box::leak(Box::new([("HOST", reply)]));
        let server = Server::start(Ways { says, ..DONE }).await;
        let entered = server.remote_with(named).await;
        assert_eq!(entered.is_ok(), works, "{reply}");
        let heard = server.heard.lock().unwrap().clone();
        assert_eq!(heard[0], "HOST files.example.org");
        assert_eq!(heard.iter().any(|l| l.starts_with("USER")), works, "{reply}");
    }
    // A name that would be two lines never leaves.
    let server = Server::start(DONE).await;
    let e = server.remote_with(|o| o.host_name = Some("a\r\nDELE /f".into())).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(server.heard.lock().unwrap().is_empty());
}
