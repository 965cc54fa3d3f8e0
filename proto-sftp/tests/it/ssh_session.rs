//! What runs over a connection, and how it ends: channels, windows, floods, cuts, times.
#![cfg(all(feature = "client", feature = "server"))]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::site::*;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use proto_sftp::ssh::{ConnectOptions, SshConnection, connect};
use proto_sftp::wire::{Frames, FromServer, Init, Reply, Request};
use russh::ChannelMsg;
use session_core::batch::Unattended;
use session_core::error::ErrorKind;
use session_core::lifecycle::ChannelKind;
use session_core::session::{Actor, Ending};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn bench(options: proto_sftp::ssh::SshServerOptions) -> Running {
    let server = start(options).await;
    server.user("ann", User { password: Some("right"), ..User::default() });
    server
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 1000) as u8).collect()
}

async fn enter(server: &Running) -> SshConnection {
    connect(server.with_password("ann", "right"), Arc::new(Unattended)).await.unwrap()
}

fn ended() -> Ending {
    Ending::new("enough", Actor::Admin("root".into()))
}

/// Cuts the one session, and demands that socket and session are done in time.
async fn cut(server: &Running, what: &str) {
    let session = server.session().await;
    let begun = Instant::now();
    session.cut(ended());
    let closes = || server.site.notes.closes.load(Ordering::SeqCst);
    eventually("the close", || (closes() == 1).then_some(())).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(200), "{what}: {took:?}");
    let ending = server.over().await;
    assert_eq!((ending.reason.as_ref(), &ending.actor), ("enough", &Actor::Admin("root".into())), "{what}");
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(closes(), 1, "{what}: closed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_ends_a_connection_in_every_state() {
    // Connected, nothing said.
    let server = bench(options()).await;
    let mut silent = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    cut(&server, "silent").await;
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    assert_eq!(rest, b"SSH-2.0-Ferry\r\n");

    // In the midst of the key exchange.
    let server = bench(options()).await;
    let mut half = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    half.write_all(b"SSH-2.0-half\r\n").await.unwrap();
    let session = server.session().await;
    eventually("the version", || (session.client_version().as_ref() == "SSH-2.0-half").then_some(())).await;
    cut(&server, "key exchange").await;

    // Logging in, the decider being asked.
    let server = bench(options()).await;
    struct Slow;
    #[async_trait::async_trait]
    impl session_core::batch::Decider for Slow {
        async fn decide(&self, _: session_core::batch::Query) -> session_core::batch::Answer {
            std::future::pending().await
        }
    }
    let client = tokio::spawn(connect(server.client("ann"), Arc::new(Slow)));
    let session = server.session().await;
    eventually("the login", || (session.state().name() == "authenticating").then_some(())).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    cut(&server, "login").await;
    client.abort();

    // Logged in and idle; the client hears why.
    let server = bench(options()).await;
    let c = enter(&server).await;
    let remote = c.sftp(&Default::default()).await.unwrap();
    cut(&server, "idle").await;
    let e = c.disconnected().await;
    assert!(e.kind() == ErrorKind::Disconnected && e.to_string().contains("enough"), "{e:?}");
    drop(remote);

    // Sending to a client that reads nothing.
    let server = bench(options()).await;
    server.site.store.put("/big", &pattern(32 << 20));
    let deaf = deaf_reader(&server).await;
    cut(&server, "a client that stopped reading").await;
    drop(deaf);
}

/// A client that asks for much and stops reading its socket: what holds the socket, unread.
async fn deaf_reader(server: &Running) -> (SshConnection, Arc<Hold>) {
    let hold = Arc::new(Hold::default());
    let proxy = proxy(server.port, Arc::clone(&hold)).await;
    let mut options = server.with_password("ann", "right");
    options.port = proxy;
    options.window = 64 << 20;
    let c = connect(options, Arc::new(Unattended)).await.unwrap();
    let (mut reader, writer) = c.open_sftp().await.unwrap();
    greet(&mut reader, &writer).await;
    let h = open(&mut reader, &writer, "/big").await;
    hold.0.store(true, Ordering::SeqCst);
    let mut buf = BytesMut::new();
    for i in 0..128u64 {
        request(
            &mut buf,
            i as u32,
            &Request::Read { handle: h.clone(), offset: i * 262_144, len: 255 * 1024 },
        );
    }
    writer.send_all(buf.freeze()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::mem::forget((reader, writer));
    (c, hold)
}

#[derive(Default)]
struct Hold(std::sync::atomic::AtomicBool);

/// Passes bytes on; from the server's side only until it is held.
async fn proxy(to: u16, hold: Arc<Hold>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut cr, mut cw) = client.into_split();
        let (mut sr, mut sw) = TcpStream::connect(("127.0.0.1", to)).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut cr, &mut sw).await });
        let mut buf = vec![0; 65536];
        loop {
            while hold.0.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            match sr.read(&mut buf).await {
                Ok(n) if n > 0 => cw.write_all(&buf[..n]).await.unwrap(),
                _ => break,
            }
        }
    });
    port
}

type Reader = proto_sftp::ssh::ChannelReader;
type Writer = proto_sftp::ssh::ChannelWriter<russh::client::Msg>;

fn request(buf: &mut BytesMut, id: u32, request: &Request) {
    request.encode(id, buf);
}

struct Replies<'a> {
    reader: &'a mut Reader,
    frames: Frames,
}

impl Replies<'_> {
    fn of(reader: &mut Reader) -> Replies<'_> {
        Replies { reader, frames: Frames::default() }
    }

    async fn next(&mut self) -> Option<FromServer> {
        loop {
            if let Some(packet) = self.frames.next_frame().unwrap() {
                return Some(FromServer::decode(packet).unwrap());
            }
            let chunk = self.reader.next().await?.unwrap();
            self.frames.push(chunk);
        }
    }
}

async fn greet(reader: &mut Reader, writer: &Writer) {
    let mut buf = BytesMut::new();
    Init { version: 3, extensions: vec![] }.encode(&mut buf);
    writer.send_all(buf.freeze()).await.unwrap();
    assert!(matches!(Replies::of(reader).next().await, Some(FromServer::Version(_))));
}

async fn open(reader: &mut Reader, writer: &Writer, path: &str) -> Bytes {
    let mut buf = BytesMut::new();
    let path = Bytes::copy_from_slice(path.as_bytes());
    request(&mut buf, 1, &Request::Open { path, flags: 1, attrs: Default::default() });
    writer.send_all(buf.freeze()).await.unwrap();
    match Replies::of(reader).next().await {
        Some(FromServer::Reply(_, Reply::Handle(h))) => h,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_reads_and_a_client_that_takes_them_slowly() {
    // What hung for ever when one task both drained the channel and wrote to it.
    let server = bench(options()).await;
    let content = pattern(16 << 20);
    server.site.store.put("/big", &content);
    let mut options = server.with_password("ann", "right");
    options.window = 2 << 20;
    let c = connect(options, Arc::new(Unattended)).await.unwrap();
    let (mut reader, writer) = c.open_sftp().await.unwrap();
    greet(&mut reader, &writer).await;
    let h = open(&mut reader, &writer, "/big").await;
    let mut buf = BytesMut::new();
    let len = 255 * 1024u32;
    for i in 0..64u32 {
        request(&mut buf, i, &Request::Read { handle: h.clone(), offset: u64::from(i * len), len });
    }
    writer.send_all(buf.freeze()).await.unwrap();
    let mut replies = Replies::of(&mut reader);
    let mut got = 0;
    let work = async {
        for n in 0..64 {
            match replies.next().await {
                Some(FromServer::Reply(id, Reply::Data(data))) => {
                    let at = (id * len) as usize;
                    assert_eq!(&data[..], &content[at..at + data.len()]);
                    got += data.len();
                }
                other => panic!("{other:?}"),
            }
            if n % 8 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("stuck");
    assert_eq!(got, 64 * len as usize);
}

async fn download(c: &SshConnection, path: &str, content: &[u8]) {
    use session_core::fs::{Filesystem as _, OpenOptions};
    let remote = c.sftp(&Default::default()).await.unwrap();
    let file = remote.open(&crate::support::p(path), &OpenOptions::read()).await.unwrap();
    let piece = 255 * 1024;
    let pieces = futures_util::stream::iter((0..content.len()).step_by(piece)).map(|from| {
        let file = &file;
        async move { (from, file.read_into(from as u64, piece, BytesMut::new()).await.unwrap()) }
    });
    let mut pieces = pieces.buffer_unordered(16);
    let mut at = 0;
    while let Some((from, data)) = pieces.next().await {
        assert_eq!(&data[..], &content[from..from + data.len()]);
        at += data.len();
    }
    assert_eq!(at, content.len());
}

async fn upload(c: &SshConnection, path: &str, content: &[u8]) {
    use session_core::fs::{CommitOptions, Filesystem as _, OpenOptions};
    let remote = c.sftp(&Default::default()).await.unwrap();
    let file = remote.open(&crate::support::p(path), &OpenOptions::create()).await.unwrap();
    let content = Bytes::copy_from_slice(content);
    for (i, _) in content.chunks(255 * 1024).enumerate() {
        let at = i * 255 * 1024;
        let end = (at + 255 * 1024).min(content.len());
        file.write_at(at as u64, content.slice(at..end)).await.unwrap();
    }
    file.commit(&CommitOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_and_down_at_once_over_several_channels_and_across_key_exchanges() {
    let mut o = options();
    o.rekey_bytes = 4 << 20;
    let server = bench(o).await;
    let content = pattern(12 << 20);
    server.site.store.put("/a", &content);
    let c = enter(&server).await;
    let work = async {
        tokio::join!(
            download(&c, "/a", &content),
            upload(&c, "/b", &content),
            download(&c, "/a", &content),
            upload(&c, "/c", &content)
        )
    };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("stuck");
    for name in ["/b", "/c"] {
        assert!(server.site.store.content(name).unwrap() == content, "{name}");
    }
    let session = server.session().await;
    let stats = session.stats();
    assert_eq!(stats.uploaded.load(Ordering::Relaxed), 24 << 20);
    assert_eq!(stats.downloaded.load(Ordering::Relaxed), 24 << 20);
    assert!(stats.wire_in.load(Ordering::Relaxed) > 24 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_slower_than_the_client_holds_the_client_up_and_loses_nothing() {
    let server = bench(options()).await;
    server.site.store.slow.store(10, Ordering::SeqCst);
    let content = pattern(40 << 20);
    let c = enter(&server).await;
    // Far more than may wait at all: without back-pressure the session would be ended as flooded.
    tokio::time::timeout(Duration::from_secs(60), upload(&c, "/slow", &content)).await.expect("stuck");
    assert!(server.site.store.content("/slow").unwrap() == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_and_sends_and_takes_nothing_is_ended() {
    let server = bench(options()).await;
    server.site.store.put("/big", &pattern(1 << 20));
    let mut raw = raw(&server).await;
    assert!(raw.authenticate_password("ann", "right").await.unwrap().success());
    let channel = raw.channel_open_session().await.unwrap();
    let (mut read, write) = channel.split();
    tokio::spawn(async move { while read.wait().await.is_some() {} });
    write.request_subsystem(true, "sftp").await.unwrap();
    let mut buf = BytesMut::new();
    Init { version: 3, extensions: vec![] }.encode(&mut buf);
    for id in 0..200u32 {
        let path = Bytes::from_static(b"/");
        request(&mut buf, id, &Request::Stat { path });
    }
    let flood = async {
        loop {
            let mut more = BytesMut::new();
            for id in 0..2000u32 {
                let path = Bytes::from(vec![b'x'; 1000]);
                request(&mut more, id, &Request::Realpath { path });
            }
            let chunk = std::mem::replace(&mut buf, more).freeze();
            if write.data_bytes(chunk).await.is_err() {
                break;
            }
        }
    };
    // russh's own writer, which this client uses, does not notice the end.
    let ending = tokio::select! {
        ending = server.over() => ending,
        () = flood => server.over().await,
    };
    assert_eq!(ending.reason.as_ref(), "the client sends and takes nothing");
}

struct Blind;

impl russh::client::Handler for Blind {
    type Error = russh::Error;
    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }

    /// Grants once, and then no more.
    fn adjust_window(&mut self, _: russh::ChannelId, _: u32) -> u32 {
        1
    }
}

async fn raw(server: &Running) -> russh::client::Handle<Blind> {
    let config = russh::client::Config { window_size: 2048, ..Default::default() };
    russh::client::connect(Arc::new(config), ("127.0.0.1", server.port), Blind).await.unwrap()
}

#[tokio::test]
async fn a_shell_and_a_command_are_refused_in_words_and_forwarding_without() {
    let server = bench(options()).await;
    let mut raw = raw(&server).await;
    assert!(raw.authenticate_password("ann", "right").await.unwrap().success());
    for exec in [false, true] {
        let mut channel = raw.channel_open_session().await.unwrap();
        channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
        assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
        if exec {
            channel.exec(true, "ls").await.unwrap();
        } else {
            channel.request_shell(true).await.unwrap();
        }
        let (mut said, mut status) = (String::new(), None);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::ExtendedData { data, ext: 1 } => said += std::str::from_utf8(&data).unwrap(),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
        let words = if exec {
            "this server offers SFTP, SCP and checksums, and no other command"
        } else {
            "this server offers no shell"
        };
        assert_eq!((said.trim_end(), status), (words, Some(1)));
    }
    assert!(raw.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_err());
    assert!(raw.tcpip_forward("127.0.0.1", 0).await.is_err());
    let mut channel = raw.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "other").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    let asked = server.site.notes.channels.lock().unwrap().clone();
    assert_eq!(
        asked,
        [ChannelKind::Shell, ChannelKind::Command, ChannelKind::ClientForward, ChannelKind::ServerForward]
    );
}

/// Runs a command to its end; the client's input is sent at once.
async fn exec(
    raw: &russh::client::Handle<Blind>,
    command: &str,
    input: &str,
) -> (String, String, Option<u32>) {
    let mut channel = raw.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    channel.data_bytes(Bytes::copy_from_slice(input.as_bytes())).await.unwrap();
    channel.eof().await.unwrap();
    let (mut out, mut err, mut status) = (String::new(), String::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => out += std::str::from_utf8(&data).unwrap(),
            ChannelMsg::ExtendedData { data, ext: 1 } => err += std::str::from_utf8(&data).unwrap(),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (out, err, status)
}

#[tokio::test]
async fn scp_and_sums_are_built_in_where_they_are_wanted() {
    let server = bench(options()).await;
    let mut raw = raw(&server).await;
    assert!(raw.authenticate_password("ann", "right").await.unwrap().success());
    let up = exec(&raw, "scp -t /f", "C0644 3 f\nabc\0").await;
    assert_eq!(up, ("\0\0\0".to_owned(), String::new(), Some(0)));
    assert_eq!(server.session().await.protocol().name(), "SCP");
    assert_eq!(server.site.store.content("/f").unwrap(), b"abc");
    let sums = exec(&raw, "md5sum /f /nothing", "").await;
    assert_eq!(sums.0, "900150983cd24fb0d6963f7d28e17f72  /f\n");
    assert!(sums.1.starts_with("md5sum: /nothing: ") && sums.2 == Some(1), "{sums:?}");
    let asked = server.site.notes.channels.lock().unwrap().clone();
    assert_eq!(asked, [ChannelKind::Command, ChannelKind::Command]);

    let server = bench(proto_sftp::ssh::SshServerOptions { commands: false, ..options() }).await;
    let mut raw = self::raw(&server).await;
    assert!(raw.authenticate_password("ann", "right").await.unwrap().success());
    let refused = exec(&raw, "scp -t /f", "").await;
    assert_eq!(refused, (String::new(), "this server offers SFTP only\r\n".to_owned(), Some(1)));
}

#[tokio::test]
async fn a_hook_that_refuses_sftp_is_heard() {
    let server = bench(options()).await;
    *server.site.notes.refuse_sftp.lock().unwrap() = Some("not on sundays");
    let c = enter(&server).await;
    let (reader, _writer) = c.open_sftp().await.unwrap();
    let mut reader = reader;
    assert!(reader.next().await.is_none());
    assert!(reader.words().starts_with("not on sundays"));
}

#[tokio::test]
async fn channels_are_bounded_and_free_again_when_closed() {
    let mut o = options();
    o.max_channels = 2;
    let server = bench(o).await;
    let c = enter(&server).await;
    let a = c.sftp(&Default::default()).await.unwrap();
    let b = c.sftp(&Default::default()).await.unwrap();
    let e = c.open_sftp().await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Refused, "{e:?}");
    drop(a);
    let mut again = None;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Ok(remote) = c.sftp(&Default::default()).await {
            again = Some(remote);
            break;
        }
    }
    assert!(again.is_some());
    drop(b);
}

#[tokio::test]
async fn idle_sessions_end_and_busy_ones_do_not() {
    let mut o = options();
    o.idle = Some(Duration::from_millis(100));
    let server = bench(o).await;
    let c = enter(&server).await;
    let e = tokio::time::timeout(Duration::from_secs(8), c.disconnected()).await.unwrap();
    assert!(e.to_string().contains("idle for too long"), "{e}");
    assert_eq!(server.over().await.reason.as_ref(), "idle for too long");
}

#[tokio::test]
async fn a_client_that_is_no_longer_there_is_noticed() {
    let mut o = options();
    o.keepalive = Some(Duration::from_millis(100));
    o.login_time = Duration::from_secs(1);
    o.keepalive_max = 1;
    let server = bench(o).await;
    let hold = Arc::new(Hold::default());
    let mut options: ConnectOptions = server.with_password("ann", "right");
    options.port = proxy(server.port, Arc::clone(&hold)).await;
    let _c = connect(options, Arc::new(Unattended)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(server.site.registry.len(), 1, "it answers");
    hold.0.store(true, Ordering::SeqCst);
    assert_eq!(server.over().await.reason.as_ref(), "the client does not answer");
}

#[tokio::test]
async fn cutting_the_clients_session_ends_everything_that_runs_on_it() {
    let server = bench(options()).await;
    let c = enter(&server).await;
    let (mut reader, writer) = c.open_sftp().await.unwrap();
    let begun = Instant::now();
    c.session().cut(ended());
    assert!(reader.next().await.is_none());
    assert!(writer.send_all(Bytes::from_static(b"x")).await.is_err());
    c.disconnected().await;
    assert!(begun.elapsed() < Duration::from_millis(200));
    assert_eq!(server.over().await.actor, Actor::Client);
}

#[tokio::test]
async fn a_server_that_shuts_down_takes_nobody_and_waits_for_who_is_there() {
    use proto_sftp::ssh::SshServer;
    let server = bench(options()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let token = tokio_util::sync::CancellationToken::new();
    let second = SshServer::new(
        {
            let mut o = options();
            o.host_keys = server.keys.clone();
            o
        },
        Arc::clone(&server.site) as Arc<dyn session_core::auth::Site>,
    )
    .unwrap();
    let stop = token.clone();
    let serving = tokio::spawn(async move { second.serve(listener, stop).await });
    let mut options = server.with_password("ann", "right");
    options.port = port;
    let c = connect(options.clone(), Arc::new(Unattended)).await.unwrap();
    token.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!serving.is_finished());
    assert!(connect(options, Arc::new(Unattended)).await.is_err());
    c.close().await;
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_is_no_longer_there_is_noticed() {
    let server = bench(options()).await;
    let hold = Arc::new(Hold::default());
    let mut options: ConnectOptions = server.with_password("ann", "right");
    options.port = proxy(server.port, Arc::clone(&hold)).await;
    options.keepalive = Some(Duration::from_millis(100));
    options.keepalive_max = 2;
    let c = connect(options, Arc::new(Unattended)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(800), c.disconnected()).await;
    assert!(early.is_err(), "it answers");
    hold.0.store(true, Ordering::SeqCst);
    let e = tokio::time::timeout(Duration::from_secs(3), c.disconnected()).await.unwrap();
    assert!(e.to_string().contains("does not answer"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_is_not_waited_for_without_end() {
    let mut o = options();
    o.keepalive = Some(Duration::from_millis(300));
    let server = bench(o).await;
    server.site.store.put("/big", &pattern(32 << 20));
    let _deaf = deaf_reader(&server).await;
    assert_eq!(server.over().await.reason.as_ref(), "the client takes nothing");
}

#[tokio::test]
async fn a_session_that_drains_opens_nothing_and_ends_with_its_last_channel() {
    let mut o = options();
    o.keepalive = Some(Duration::from_millis(300));
    let server = bench(o).await;
    let c = enter(&server).await;
    let remote = c.sftp(&Default::default()).await.unwrap();
    server.session().await.drain();
    assert_eq!(c.open_sftp().await.err().unwrap().kind(), ErrorKind::Refused);
    assert_eq!(server.site.registry.len(), 1);
    drop(remote);
    assert_eq!(server.over().await.reason.as_ref(), "the server is shutting down");
}

#[tokio::test]
async fn a_panic_ends_its_session_in_order_and_no_other() {
    use session_core::fs::{Filesystem as _, Follow};
    let server = bench(options()).await;
    let bystander = enter(&server).await;
    let quiet = bystander.sftp(&Default::default()).await.unwrap();
    let closes = || server.site.notes.closes.load(Ordering::SeqCst);
    for (n, panics) in [Panics::Mount, Panics::Operation].into_iter().enumerate() {
        *server.site.panics.lock().unwrap() = Some(panics);
        let c = enter(&server).await;
        match c.sftp(&Default::default()).await {
            Ok(remote) => drop(remote.stat(&crate::support::p("/"), Follow::Yes).await.unwrap_err()),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Disconnected, "{e:?}"),
        }
        eventually("the end of its session", || (closes() == n + 1).then_some(())).await;
        let events = server.site.notes.events.lock().unwrap();
        let ending = events.iter().rev().find_map(|e| match &e.what {
            session_core::event::What::Closed(ending) => Some(ending.reason.to_string()),
            _ => None,
        });
        assert_eq!(ending.as_deref(), Some("internal error"));
    }
    quiet.stat(&crate::support::p("/"), Follow::Yes).await.unwrap();
}
