//! Far ends that fall silent without hanging up, as behind a firewall that forgets: every call of every client has an
//! end. All connections go over a proxy that from one moment on carries nothing, and still takes who comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use client::connect::{Connected, Options, open_url};
use client::url::{Location, Url};
use futures_util::future::join_all;
use server::config::ListenerProtocol::{self, Ftp, S3, Sftp, Webdavs};
use server::testing::TestServer;
use session_core::batch::Unattended;
use session_core::error::{ErrorKind, Result};
use session_core::fs::{Algorithm, CommitOptions, Filesystem, Follow, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt;
use session_core::metadata::Attributes;
use session_core::net::proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::path;

const SECRET: &str = "correct horse battery staple";

fn url_of(text: &str) -> session_core::error::Result<Url> {
    match Location::parse(text)? {
        Location::Remote(url) => Ok(url),
        Location::Local(path) => panic!("{path:?} is no URL"),
    }
}

/// What a client is told to wait, and what nothing may take.
const PATIENCE: Duration = Duration::from_secs(2);
const AT_MOST: Duration = Duration::from_secs(45);

/// A proxy of SOCKS 5 (RFC 1928) that carries bytes until it is dark.
async fn socks() -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (dark, is_dark) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, is_dark.clone()));
        }
    });
    (port, dark)
}

async fn carry(mut client: TcpStream, mut dark: watch::Receiver<bool>) -> Option<()> {
    if !*dark.borrow() {
        let mut head = [0; 2];
        client.read_exact(&mut head).await.ok()?;
        let mut methods = vec![0; usize::from(head[1])];
        client.read_exact(&mut methods).await.ok()?;
        client.write_all(&[5, 0]).await.ok()?;
        // All that is asked for here is an address of IPv4, or its text as a name.
        let mut asked = [0; 4];
        client.read_exact(&mut asked).await.ok()?;
        let mut host = vec![0; if asked[3] == 1 { 4 } else { usize::from(client.read_u8().await.ok()?) }];
        client.read_exact(&mut host).await.ok()?;
        let port = client.read_u16().await.ok()?;
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.ok()?;
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return None,
            _ = dark.wait_for(|dark| *dark) => {}
        }
        // Both ends stay open, and nothing goes over.
        std::future::pending::<()>().await;
    }
    std::future::pending().await
}

async fn open(server: &TestServer, protocol: ListenerProtocol, proxy: u16) -> Result<Connected> {
    let url = url_of(&server.url(protocol, "ann")?)?;
    let pin = [server.fingerprint(protocol).unwrap_or_default()];
    let options = Options::from_url(&url)?.password(server.password("ann").map(str::to_owned));
    let options = match protocol {
        Sftp => options.host_keys(&pin)?,
        Ftp | Webdavs => options.certificates(&pin)?,
        _ => options,
    };
    let proxy = Proxy::parse(&format!("socks5://127.0.0.1:{proxy}"))?;
    let options = options.proxy(Some(proxy)).timeout(PATIENCE).keepalive(Some(Some(PATIENCE / 2)), Some(1));
    open_url(options, Arc::new(Unattended)).await
}

const CALLS: &[&str] = &[
    "connect",
    "stat",
    "list",
    "open",
    "read",
    "write",
    "commit",
    "create_dir",
    "remove_file",
    "remove_dir",
    "rename",
    "set_attributes",
    "copy",
    "checksum",
    "space",
    "close",
];

/// Does one thing once nothing is carried any more. `None`: this protocol has no such thing to wait for.
async fn call(server: &TestServer, protocol: ListenerProtocol, what: &str) -> Option<Result<()>> {
    let (port, dark) = socks().await;
    if what == "connect" {
        dark.send(true).unwrap();
        return Some(open(server, protocol, port).await.map(drop));
    }
    let remote = open(server, protocol, port).await.unwrap();
    let fs = remote.fs();
    let (file, dir, other) = (path("/bucket/file"), path("/bucket/dir"), path(&format!("/bucket/{what}")));
    let reading = OpenOptions::read();
    let handle = match what {
        "read" => Some(fs.open(&file, &reading).await.unwrap()),
        "write" | "commit" => Some(fs.open(&other, &OpenOptions::create()).await.unwrap()),
        _ => None,
    };
    dark.send(true).unwrap();
    let none = Attributes::none();
    let done = match (what, handle) {
        ("stat", _) => fs.stat(&file, Follow::Yes).await.map(drop),
        ("list", _) => fs.list_all(&dir).await.map(drop),
        // What it needs may be asked for with the first read only.
        ("open", _) => match fs.open(&file, &reading).await {
            Ok(file) => file.read_into(0, 1 << 16, BytesMut::new()).await.map(drop),
            Err(e) => Err(e),
        },
        ("read", Some(file)) => file.read_into(1 << 20, 1 << 20, BytesMut::new()).await.map(drop),
        ("write", Some(file)) => {
            // More than the buffers of the machine take.
            let mut done = Ok(());
            for n in 0..256 {
                done = file.write_at(n << 20, Bytes::from(vec![7; 1 << 20])).await;
                if done.is_err() {
                    break;
                }
            }
            match done {
                Ok(()) => file.commit(&CommitOptions::default()).await.map(drop),
                failed => failed,
            }
        }
        ("commit", Some(file)) => file.commit(&CommitOptions::default()).await.map(drop),
        ("create_dir", _) => fs.create_dir(&other, &none).await,
        ("remove_file", _) => fs.remove_file(&file).await,
        ("remove_dir", _) => fs.remove_dir(&dir).await,
        ("rename", _) => fs.rename(&file, &other, Replace::No).await,
        ("set_attributes", _) => {
            let attributes = Attributes { modified: Some(std::time::UNIX_EPOCH), ..none };
            fs.set_attributes(&file, &attributes, Follow::Yes).await
        }
        ("copy", _) => fs.copy(&file, &other, Replace::No).await,
        ("checksum", _) => fs.checksum(&file, Algorithm::Sha256, 0..4).await.map(drop),
        ("space", _) => fs.space(&dir).await.map(drop),
        ("close", _) => {
            // A good-bye that nobody hears.
            remote.close().await;
            return None;
        }
        (other, _) => panic!("{other}"),
    };
    if done.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unsupported) {
        return None;
    }
    Some(done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_when_the_far_end_falls_silent() {
    let server = TestServer::with_user("ann", SECRET)
        .config("[limits]\nper_address = 0\nper_user = 0\nunauthenticated = 0")
        .start()
        .await
        .unwrap();
    std::fs::create_dir_all(server.home("ann").join("bucket/dir")).unwrap();
    std::fs::write(server.home("ann").join("bucket/file"), vec![1; 8 << 20]).unwrap();
    let all = [Sftp, Ftp, Webdavs, S3].into_iter().flat_map(|p| CALLS.iter().map(move |call| (p, *call)));
    let ends = all.map(|(protocol, what)| {
        let server = &server;
        async move {
            let name = format!("{what} over {}", protocol.name());
            match tokio::time::timeout(AT_MOST, call(server, protocol, what)).await {
                Err(_) => Some(format!("{name} never ends")),
                Ok(Some(Ok(()))) => Some(format!("{name} claims to be done")),
                Ok(Some(Err(e))) => {
                    let silent = matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Disconnected);
                    (!silent).then(|| format!("{name} fails with {e:?}"))
                }
                Ok(None) => None,
            }
        }
    });
    let wrong: Vec<String> = join_all(ends).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
