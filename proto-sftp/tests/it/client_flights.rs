//! Round trips, counted in virtual time against a scripted server behind a line with a delay; and
//! servers that are slower, shorter or stranger than OpenSSH.
#![cfg(feature = "client")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_sftp::client::pipeline::{Window, download};
use proto_sftp::client::{Config, Incoming, Outgoing, SftpRemote};
use proto_sftp::status;
use proto_sftp::wire::extension::encode_limits;
use proto_sftp::wire::{
    Attrs, Extended, Extension, Frames, FromClient, Limits, Name, OpenFlags, Reply, Request, Version,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Filesystem, Follow, ListOptions, OpenOptions, Replace};
use session_core::metadata::Attributes;
use session_core::path::VPath;
use tokio::sync::mpsc;
use tokio::time::Instant;

const RTT: Duration = Duration::from_millis(100);

/// One direction of a line: what is sent arrives half a round trip later. No limit on the rate.
struct Sender(mpsc::UnboundedSender<(Instant, Bytes)>);
struct Receiver(mpsc::UnboundedReceiver<(Instant, Bytes)>);

fn line() -> (Sender, Receiver) {
    let (tx, rx) = mpsc::unbounded_channel();
    (Sender(tx), Receiver(rx))
}

impl Outgoing for Sender {
    async fn send(&mut self, chunk: Bytes) -> Result<()> {
        self.0.send((Instant::now(), chunk)).map_err(|_| ErrorKind::Disconnected.into())
    }
}

impl Incoming for Receiver {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some((sent, chunk)) = self.0.recv().await else { return Ok(None) };
        tokio::time::sleep_until(sent + RTT / 2).await;
        Ok(Some(chunk))
    }
}

/// How this server differs from a good one.
#[derive(Clone, Default)]
struct Ways {
    extensions: Vec<Extension>,
    /// READs give at most this much.
    shortest: Option<usize>,
    /// Answers of one message come in reverse.
    reversed: bool,
    /// Names of every directory.
    names: usize,
    /// A name that READDIR tells.
    evil: Option<&'static [u8]>,
    /// WRITEs at and after this offset fail.
    full_at: Option<u64>,
    /// Answers nothing but the greeting.
    silent: bool,
}

#[derive(Default)]
struct World {
    directory: Option<Bytes>,
    files: HashMap<Bytes, Vec<u8>>,
    /// What was asked, in order, by name.
    log: Vec<&'static str>,
    open: HashMap<u32, (Bytes, usize)>,
    next: u32,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn handle(&mut self, path: Bytes) -> Reply {
        self.next += 1;
        self.open.insert(self.next, (path, 0));
        Reply::Handle(Bytes::copy_from_slice(&self.next.to_be_bytes()))
    }

    fn opened(&mut self, handle: &Bytes) -> &mut (Bytes, usize) {
        self.open.get_mut(&u32::from_be_bytes(handle[..].try_into().unwrap())).expect("an open handle")
    }

    fn answer(&mut self, ways: &Ways, request: Request) -> Reply {
        let attrs = |content: &Vec<u8>| {
            Reply::Attrs(Attrs {
                size: Some(content.len() as u64),
                mode: Some(0o100_644),
                ..Attrs::default()
            })
        };
        let gone = || Reply::status(2, "no such file");
        let (name, reply) = match request {
            Request::Realpath { .. } => ("REALPATH", Reply::path(Bytes::from_static(b"/"))),
            Request::Extended(Extended::Limits) => {
                let limits = Limits {
                    max_packet_len: 0,
                    max_read_len: 261_120,
                    max_write_len: 261_120,
                    max_open_handles: 4,
                };
                ("limits", Reply::Extended(encode_limits(&limits)))
            }
            Request::Stat { path } if self.directory.as_ref() == Some(&path) => {
                ("STAT", Reply::Attrs(Attrs { mode: Some(0o040_755), ..Attrs::default() }))
            }
            Request::Stat { path } | Request::Lstat { path } => {
                ("STAT", self.files.get(&path).map_or_else(gone, attrs))
            }
            Request::Open { path, flags, .. } => {
                let flags = OpenFlags::from_bits_retain(flags);
                if flags.contains(OpenFlags::TRUNCATE) {
                    self.files.insert(path.clone(), Vec::new());
                }
                ("OPEN", if self.files.contains_key(&path) { self.handle(path) } else { gone() })
            }
            Request::Opendir { path } => ("OPENDIR", self.handle(path)),
            Request::Read { handle, offset, len } => {
                let path = self.opened(&handle).0.clone();
                let content = &self.files[&path];
                let from = (offset as usize).min(content.len());
                let len = (len as usize).min(ways.shortest.unwrap_or(usize::MAX));
                let data = &content[from..(from + len).min(content.len())];
                (
                    "READ",
                    if data.is_empty() { status::eof() } else { Reply::Data(Bytes::copy_from_slice(data)) },
                )
            }
            Request::Readdir { handle } => {
                let at = &mut self.opened(&handle).1;
                let page: Vec<Name> = (*at..(*at + 100).min(ways.names))
                    .map(|i| Name {
                        name: match ways.evil {
                            Some(evil) if i == ways.names - 1 => Bytes::from_static(evil),
                            _ => Bytes::from(format!("n{i}")),
                        },
                        ..Name::default()
                    })
                    .collect();
                *at += page.len();
                ("READDIR", if page.is_empty() { status::eof() } else { Reply::Name(page) })
            }
            Request::Write { handle, offset, data } => {
                let path = self.opened(&handle).0.clone();
                let content = self.files.get_mut(&path).unwrap();
                let end = offset as usize + data.len();
                if ways.full_at.is_some_and(|full| offset >= full) {
                    ("WRITE", Reply::status(14, "full"))
                } else {
                    content.resize(content.len().max(end), 0);
                    content[offset as usize..end].copy_from_slice(&data);
                    ("WRITE", status::ok())
                }
            }
            Request::Fstat { handle } => {
                let path = self.opened(&handle).0.clone();
                ("FSTAT", attrs(&self.files[&path]))
            }
            Request::Fsetstat { .. } => ("FSETSTAT", status::ok()),
            Request::Close { handle } => {
                self.open.remove(&u32::from_be_bytes(handle[..].try_into().unwrap())).expect("closed once");
                ("CLOSE", status::ok())
            }
            Request::Remove { path } => {
                ("REMOVE", if self.files.remove(&path).is_some() { status::ok() } else { gone() })
            }
            other => panic!("{other:?}"),
        };
        self.log.push(name);
        reply
    }
}

async fn serve(ways: Ways, world: Shared, mut from: Receiver, mut to: Sender) {
    let mut frames = Frames::default();
    while let Ok(Some(chunk)) = from.next().await {
        frames.push(chunk);
        let mut answers = Vec::new();
        while let Some(frame) = frames.next_frame().unwrap() {
            let mut out = BytesMut::new();
            match FromClient::decode(frame).unwrap() {
                FromClient::Init(_) => {
                    let pair = |e: &Extension| (Bytes::from(e.name()), Bytes::from(e.data()));
                    let extensions = ways.extensions.iter().map(pair).collect();
                    Version { version: 3, extensions }.encode(&mut out);
                }
                FromClient::Request(id, request) => {
                    let greeting =
                        matches!(request, Request::Realpath { .. } | Request::Extended(Extended::Limits));
                    if ways.silent && !greeting {
                        continue;
                    }
                    world.lock().unwrap().answer(&ways, request).encode(id, &mut out);
                }
            }
            answers.push(out.freeze());
        }
        if ways.reversed {
            answers.reverse();
        }
        if to.send(answers.concat().into()).await.is_err() {
            return;
        }
    }
}

async fn connect(ways: Ways) -> (SftpRemote, Shared) {
    let world = Shared::default();
    let ((to_server, from_client), (to_client, from_server)) = (line(), line());
    tokio::spawn(serve(ways, Arc::clone(&world), from_client, to_client));
    let remote = SftpRemote::connect(from_server, to_server, &Config::default()).await.unwrap();
    (remote, world)
}

/// A server as OpenSSH is.
fn good() -> Ways {
    Ways { extensions: vec![Extension::Limits, Extension::Fsync], ..Ways::default() }
}

fn path(name: &str) -> VPath {
    VPath::absolute(name).unwrap()
}

fn log(world: &Shared) -> Vec<&'static str> {
    std::mem::take(&mut world.lock().unwrap().log)
}

/// How many round trips `work` takes.
async fn flights<T>(work: impl Future<Output = T>) -> (T, u32) {
    let from = Instant::now();
    let done = work.await;
    let n = from.elapsed().as_secs_f64() / RTT.as_secs_f64();
    assert!((n - n.round()).abs() < 0.1, "{n} round trips");
    (done, n.round() as u32)
}

async fn settle() {
    tokio::time::sleep(RTT * 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_greeting_takes_two_round_trips() {
    let ((_, world), n) = flights(connect(good())).await;
    assert_eq!((n, log(&world)), (2, vec!["limits", "REALPATH"]));
}

#[tokio::test(start_paused = true)]
async fn a_small_download_takes_two_round_trips() {
    let (remote, world) = connect(good()).await;
    world.lock().unwrap().files.insert(Bytes::from_static(b"/f"), b"content".to_vec());
    log(&world);
    // The end of the file needs no question of its own, whether more was asked for or just the size.
    for (hint, len, requests) in [
        (Some(7), 65_536, vec!["OPEN", "READ", "CLOSE"]),
        (Some(7), 7, vec!["OPEN", "READ", "CLOSE"]),
        (None, 7, vec!["STAT", "OPEN", "READ", "CLOSE"]),
    ] {
        let work = async {
            let options = OpenOptions { size_hint: hint, ..OpenOptions::read() };
            let file = remote.open(&path("/f"), &options).await.unwrap();
            let buf = file.read_into(0, len, BytesMut::new()).await.unwrap();
            let buf = file.read_into(7, 65_536, buf).await.unwrap();
            assert_eq!(buf, b"content"[..]);
        };
        assert_eq!(flights(work).await.1, 2);
        settle().await;
        assert_eq!(log(&world), requests);
    }
    // A size that is not what the listing said is not believed: the end is asked for.
    let options = OpenOptions { size_hint: Some(3), ..OpenOptions::read() };
    let file = remote.open(&path("/f"), &options).await.unwrap();
    assert_eq!(file.read_into(0, 3, BytesMut::new()).await.unwrap(), b"con"[..]);
    assert_eq!(file.read_into(3, 65_536, BytesMut::new()).await.unwrap(), b"tent"[..]);
    assert_eq!(flights(file.read_into(7, 65_536, BytesMut::new())).await.1, 1);
}

#[tokio::test(start_paused = true)]
async fn a_small_upload_takes_two_round_trips_and_three_where_order_is_not_kept() {
    let wary = Ways { extensions: vec![Extension::Limits], ..Ways::default() };
    for (ways, want) in [(good(), 2), (wary, 3)] {
        let (remote, world) = connect(ways).await;
        log(&world);
        let work = async {
            let file = remote.open(&path("/f"), &OpenOptions::create()).await.unwrap();
            file.write_at(0, Bytes::from_static(b"con")).await.unwrap();
            file.write_at(3, Bytes::from_static(b"tent")).await.unwrap();
            let options = CommitOptions { expected_size: Some(7), attributes: Attributes::mode(0o600) };
            assert_eq!(file.commit(&options).await.unwrap().size, 7);
        };
        assert_eq!(flights(work).await.1, want);
        assert_eq!(log(&world), ["OPEN", "WRITE", "WRITE", "FSETSTAT", "FSTAT", "CLOSE"]);
        assert_eq!(world.lock().unwrap().files[&b"/f"[..]], b"content");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_small_files_side_by_side_take_as_long_as_one() {
    let (remote, _) = connect(Ways { extensions: vec![Extension::Fsync], ..Ways::default() }).await;
    let all = (0..100).map(|i| {
        let remote = &remote;
        async move {
            let file = remote.open(&path(&format!("/f{i}")), &OpenOptions::create()).await.unwrap();
            file.write_at(0, Bytes::from(vec![1; 4096])).await.unwrap();
            file.commit(&CommitOptions::default()).await.unwrap();
        }
    });
    assert_eq!(flights(futures_util::future::join_all(all)).await.1, 2);
}

#[tokio::test(start_paused = true)]
async fn a_small_directory_takes_two_round_trips_and_a_large_one_few() {
    for (names, want) in [(0, 2), (150, 2), (20_000, 8)] {
        let (remote, world) = connect(Ways { names, ..good() }).await;
        let work = async {
            let mut listing = remote.list(&path("/"), &ListOptions::default()).await.unwrap();
            let mut n = 0;
            while let Some(page) = listing.next_page().await.unwrap() {
                n += page.len();
            }
            n
        };
        let (n, trips) = flights(work).await;
        assert_eq!(n, names);
        assert!(trips <= want, "{names} names took {trips} round trips");
        settle().await;
        assert!(world.lock().unwrap().open.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_with_a_slash_fails_the_listing() {
    for evil in [&b"../../etc/cron.d/x"[..], b"a/b", b"", b"a\0b"] {
        let (remote, world) = connect(Ways { names: 120, evil: Some(evil), ..good() }).await;
        let mut listing = remote.list(&path("/"), &ListOptions::default()).await.unwrap();
        let mut result = Ok(());
        for _ in 0..3 {
            match listing.next_page().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("complete, with {evil:?}"),
                Err(e) => result = Err(e.kind()),
            }
        }
        assert_eq!(result, Err(ErrorKind::PeerMisbehaved));
        drop(listing);
        settle().await;
        assert!(world.lock().unwrap().open.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn short_reads_and_reversed_answers_give_the_same_bytes() {
    let content: Vec<u8> = (0..700_000u32).map(|i| (i.wrapping_mul(7919) >> 8) as u8).collect();
    for shortest in [None, Some(300_000), Some(70_001), Some(10_000)] {
        for reversed in [false, true] {
            let (remote, world) = connect(Ways { shortest, reversed, ..good() }).await;
            world.lock().unwrap().files.insert(Bytes::from_static(b"/f"), content.clone());
            for hint in [None, Some(700_000), Some(9)] {
                let options = OpenOptions { size_hint: hint, ..OpenOptions::read() };
                let file = remote.open(&path("/f"), &options).await.unwrap();
                let long = file.read_into(0, 1_000_000, BytesMut::new()).await.unwrap();
                assert!(long == content, "{} bytes, {shortest:?}, hint {hint:?}", long.len());
                let part = file.read_into(1000, 600_000, BytesMut::from(&b"x"[..])).await.unwrap();
                assert!(part[1..] == content[1000..601_000]);
                let mut got = download(file, 0..u64::MAX, &Window::default());
                let mut all = Vec::new();
                while let Some(bytes) = got.next().await.unwrap() {
                    all.extend_from_slice(&bytes);
                }
                assert!(all == content);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_grows_until_the_line_is_full() {
    // A line of 100 ms without a limit on its rate: each round trip brings a whole window, so the
    // window doubles up to its bound.
    let (remote, world) = connect(good()).await;
    world.lock().unwrap().files.insert(Bytes::from_static(b"/f"), vec![5; 64 << 20]);
    let file = remote.open(&path("/f"), &OpenOptions::read()).await.unwrap();
    let window = Window { start: 1 << 20, most: 16 << 20, ..Window::default() };
    let mut got = download(Arc::clone(&file), 0..u64::MAX, &window);
    assert_eq!(got.window(), 1 << 20);
    let begun = Instant::now();
    let (mut n, mut most) = (0, 0);
    while let Some(bytes) = got.next().await.unwrap() {
        n += bytes.len();
        most = most.max(remote.client().outstanding());
    }
    assert_eq!((n, got.window()), (64 << 20, 16 << 20));
    // 1 + 2 + 4 + 8 + 16 + 16 + 16 + 1 MiB; 64 round trips with a window that stays.
    assert!(begun.elapsed() < RTT * 12, "{:?}", begun.elapsed());
    assert!(most <= (16 << 20) / (224 << 10) + 2, "{most} requests");
}

#[tokio::test(start_paused = true)]
async fn an_error_behind_the_writes_is_told_at_commit_and_the_file_can_be_thrown_away() {
    for extensions in [vec![Extension::Fsync], vec![]] {
        let (remote, world) = connect(Ways { extensions, full_at: Some(100_000), ..Ways::default() }).await;
        let file = remote.open(&path("/f"), &OpenOptions::create()).await.unwrap();
        file.write_at(0, Bytes::from(vec![1; 400_000])).await.unwrap();
        let e = file.commit(&CommitOptions::default()).await.unwrap_err();
        assert_eq!((e.kind(), e.wire().unwrap().code), (ErrorKind::NoSpace, 14));
        file.abort().await.unwrap();
        settle().await;
        assert!(world.lock().unwrap().files.is_empty());
        assert!(world.lock().unwrap().open.is_empty());
        // And at the next call, where there is one before the end.
        let file = remote.open(&path("/f"), &OpenOptions::create()).await.unwrap();
        file.write_at(100_000, Bytes::from_static(b"x")).await.unwrap();
        settle().await;
        assert_eq!(file.write_at(0, Bytes::from_static(b"x")).await.unwrap_err().kind(), ErrorKind::NoSpace);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_handles_than_the_server_keeps() {
    let (remote, world) = connect(Ways { names: 5, ..good() }).await;
    world.lock().unwrap().files.insert(Bytes::from_static(b"/f"), vec![1; 10]);
    let (f, gone) = (path("/f"), path("/gone"));
    for _ in 0..10 {
        assert_eq!(remote.open(&gone, &OpenOptions::read()).await.err().unwrap().kind(), ErrorKind::NotFound);
    }
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(remote.open(&f, &OpenOptions::read()).await.unwrap());
    }
    let listing = remote.list(&path("/"), &ListOptions::default()).await.unwrap();
    let e: Error = remote.open(&f, &OpenOptions::read()).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Throttled);
    assert!(e.hint().is_some());
    drop(listing);
    open.push(remote.open(&f, &OpenOptions::read()).await.unwrap());
    open.clear();
    settle().await;
    assert!(world.lock().unwrap().open.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_missing_posix_rename_is_said_and_nothing_is_removed_for_it() {
    let (remote, world) = connect(good()).await;
    assert!(!remote.capabilities().rename_replaces);
    log(&world);
    let e = remote.rename(&path("/a"), &path("/b"), Replace::Yes).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(log(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_ends_fails_what_waits() {
    let (to_server, from_client) = line();
    let (to_client, from_server) = line();
    let server =
        tokio::spawn(serve(Ways { silent: true, ..good() }, Shared::default(), from_client, to_client));
    let remote = SftpRemote::connect(from_server, to_server, &Config::default()).await.unwrap();
    let waiting = tokio::spawn({
        let remote = remote.clone();
        async move { remote.stat(&path("/f"), Follow::Yes).await }
    });
    settle().await;
    assert!(!waiting.is_finished());
    server.abort();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(remote.stat(&path("/f"), Follow::Yes).await.unwrap_err().kind(), ErrorKind::Disconnected);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_greet_is_given_up() {
    let (to_server, _from_client) = line();
    let (_to_client, from_server) = line();
    let from = Instant::now();
    let e = SftpRemote::connect(from_server, to_server, &Config::default()).await.unwrap_err();
    assert_eq!((e.kind(), from.elapsed().as_secs()), (ErrorKind::TimedOut, 30));
}

#[tokio::test(start_paused = true)]
async fn an_upload_waits_for_nothing_but_room() {
    // 8 MiB behind a line that acknowledges after 100 ms: one round trip for OPEN, one for all else.
    let (remote, world) = connect(good()).await;
    let data = Bytes::from(vec![9; 8 << 20]);
    let work = async {
        let file = remote.open(&path("/f"), &OpenOptions::create()).await.unwrap();
        let file: &dyn File = &*file;
        for (i, piece) in data.chunks(1 << 20).enumerate() {
            file.write_at((i << 20) as u64, Bytes::copy_from_slice(piece)).await.unwrap();
        }
        file.commit(&CommitOptions { expected_size: Some(8 << 20), ..Default::default() }).await.unwrap();
    };
    assert_eq!(flights(work).await.1, 2);
    assert!(world.lock().unwrap().files[&b"/f"[..]] == data);
}

/// Polls `work` at most `polls` times, a quarter of a round trip apart, then drops it.
async fn given_up_after(work: impl Future<Output = ()>, polls: usize) -> bool {
    let mut work = std::pin::pin!(work);
    for _ in 0..polls {
        if futures_util::future::poll_immediate(&mut work).await.is_some() {
            return true;
        }
        tokio::time::sleep(RTT / 4).await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn whatever_is_given_up_wherever_nothing_stays_behind() {
    let wary = Ways { extensions: vec![], names: 500, shortest: Some(20_000), ..Ways::default() };
    for ways in [Ways { names: 500, ..good() }, wary] {
        let (remote, world) = connect(ways).await;
        let content = vec![3; 300_000];
        for which in 0..4 {
            let mut whole = false;
            for polls in 0.. {
                world.lock().unwrap().files.insert(Bytes::from_static(b"/f"), content.clone());
                let work = async {
                    match which {
                        0 => {
                            let file = remote.open(&path("/f"), &OpenOptions::read()).await.unwrap();
                            let got = file.read_into(0, 300_000, BytesMut::new()).await.unwrap();
                            assert!(got == content);
                        }
                        1 => {
                            let options = OpenOptions::create();
                            let file = remote.open(&path("/up"), &options).await.unwrap();
                            file.write_at(0, content.clone().into()).await.unwrap();
                            file.commit(&CommitOptions::default()).await.unwrap();
                        }
                        2 => {
                            let options = OpenOptions::create();
                            let file = remote.open(&path("/up"), &options).await.unwrap();
                            file.write_at(0, content.clone().into()).await.unwrap();
                            file.abort().await.unwrap();
                        }
                        _ => {
                            let options = ListOptions::default();
                            let mut listing = remote.list(&path("/"), &options).await.unwrap();
                            while listing.next_page().await.unwrap().is_some() {}
                        }
                    }
                };
                whole = given_up_after(work, polls).await;
                settle().await;
                assert_eq!(remote.client().outstanding(), 0, "{which} after {polls} polls");
                assert!(world.lock().unwrap().open.is_empty(), "{which} after {polls} polls");
                assert_eq!(remote.stat(&path("/f"), Follow::Yes).await.unwrap().size, 300_000);
                if whole || polls > 500 {
                    break;
                }
            }
            assert!(whole, "{which} never ends");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn asking_and_giving_up_again_and_again_asks_for_no_more_than_the_budget() {
    let config = Config { reads: 1 << 20, ..Config::default() };
    let world = Shared::default();
    world.lock().unwrap().files.insert(Bytes::from_static(b"/f"), vec![1; 8 << 20]);
    let ((to_server, from_client), (to_client, from_server)) = (line(), line());
    tokio::spawn(serve(good(), Arc::clone(&world), from_client, to_client));
    let remote = SftpRemote::connect(from_server, to_server, &config).await.unwrap();
    let file = remote.open(&path("/f"), &OpenOptions::read()).await.unwrap();
    for _ in 0..200 {
        let read = file.read_into(0, 8 << 20, BytesMut::new());
        let _ = futures_util::future::poll_immediate(read).await;
        assert!(remote.client().outstanding() <= 8, "{}", remote.client().outstanding());
    }
    // The budget comes back with the late answers.
    let all = file.read_into(0, 8 << 20, BytesMut::new()).await.unwrap();
    assert_eq!(all.len(), 8 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_given_up_is_not_lost() {
    let (remote, _) = connect(Ways { names: 2500, ..good() }).await;
    let mut listing = remote.list(&path("/"), &ListOptions::default()).await.unwrap();
    let mut names = std::collections::HashSet::new();
    loop {
        // Each call is given up again and again before it is seen through.
        match futures_util::future::poll_immediate(listing.next_page()).await {
            None => tokio::time::sleep(RTT / 7).await,
            Some(page) => match page.unwrap() {
                Some(page) => page.into_iter().for_each(|e| assert!(names.insert(e.name))),
                None => break,
            },
        }
    }
    assert_eq!(names.len(), 2500);
}

#[tokio::test(start_paused = true)]
async fn many_missing_files_cost_one_question_about_their_directory() {
    let (remote, world) = connect(good()).await;
    log(&world);
    for i in 0..5 {
        let gone = path(&format!("/dir/missing{i}"));
        let e = remote.stat(&gone, Follow::Yes).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
    }
    // The directory is missing too, so it is asked about each time; then it is there.
    assert_eq!(log(&world).len(), 10);
    world.lock().unwrap().directory = Some(Bytes::from_static(b"/dir"));
    for i in 0..5 {
        remote.stat(&path(&format!("/dir/missing{i}")), Follow::Yes).await.unwrap_err();
    }
    assert_eq!(log(&world).len(), 6);
}
