//! Our client half against our server half over loopback: the conformance suite in the clear and under TLS,
//! resumed sessions, trust, and the end.
#![cfg(all(feature = "client", feature = "server"))]

use std::sync::Arc;
use std::time::Duration;

use crate::support::pair::*;
use crate::support::*;
use bytes::{Bytes, BytesMut};
use proto_ftp::client::{DataMode, FtpRemote, LONG_LINE, Security, connect, copy_between};
use proto_ftp::server::{ControlPolicy, DataPolicy, FtpServerOptions};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query, Unattended};
use session_core::conformance::{self, Subject};
use session_core::error::{Error, ErrorKind, Retry};
use session_core::fs::{CommitOptions, File, Filesystem, Follow, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use session_core::net::client_tls::TlsVersion;
use session_core::session::{Actor, Ending};
use session_core::trust::{CertificateFingerprint, TrustDecision};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Two files that are open at a time: two connections.
async fn two_files(
    remote: &FtpRemote,
) -> (session_core::error::Result<Arc<dyn File>>, session_core::error::Result<Arc<dyn File>>) {
    let (a, b, options) = (p("/a"), p("/b"), OpenOptions::create());
    tokio::join!(remote.open(&a, &options), remote.open(&b, &options))
}

fn implicit() -> FtpServerOptions {
    FtpServerOptions { implicit_tls: true, ..secured() }
}

async fn suite(remote: FtpRemote) {
    let mut subject = Subject::new(Arc::new(remote.clone()));
    subject.profile.byte_names = true;
    // A line end cannot be said in FTP.
    subject.profile.awkward_names = false;
    // What ends is the data, which publishes.
    subject.profile.close_only = false;
    subject.profile.knows_files = false;
    subject.profile.link_times = false;
    let report = conformance::run_all(&subject).await;
    // An exclusive creation is a look and then a STOR: of several at once more than one may win.
    let known = ["concurrency::one_exclusive_creation_wins"];
    let failures: Vec<_> = report
        .failures()
        .into_iter()
        .filter(|f| !known.iter().any(|k| format!("{f:?}").contains(k)))
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(report.passed() >= 100, "{report}");
    remote.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_in_the_clear() {
    let server = start(options()).await;
    suite(enter(&server, Security::Plain).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_under_explicit_tls() {
    let server = start(secured()).await;
    suite(enter(&server, Security::Explicit).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_under_implicit_tls() {
    let server = start(implicit()).await;
    suite(enter(&server, Security::Implicit).await).await;
}

/// The server refuses what does not resume (522), so each transfer that works has resumed.
#[tokio::test(flavor = "multi_thread")]
async fn data_connections_resume_their_own_login_in_both_versions() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let server = start(secured()).await;
        let mut options = to(&server, Security::Explicit);
        (options.tls.minimum, options.tls.maximum) = (version, version);
        let remote = enter_with(options).await;
        let words = remote.tls_words().unwrap();
        assert!(words.starts_with(if version == TlsVersion::V12 { "TLSv1.2" } else { "TLSv1.3" }), "{words}");
        // More uploads than there are tickets, side by side on several logins.
        let work = (0..4).map(|w| {
            let remote = remote.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    let path = p(&format!("/f{w}-{n}"));
                    remote.write_all(&path, Bytes::from(vec![n; 5000])).await.unwrap();
                    assert_eq!(remote.read_to_vec(&path, 1 << 20).await.unwrap(), vec![n; 5000]);
                }
            })
        });
        for done in work.collect::<Vec<_>>() {
            done.await.unwrap();
        }
        remote.close().await;
    }
}

#[tokio::test]
async fn a_certificate_is_believed_only_if_pinned_or_accepted() {
    let server = start(secured()).await;
    let refused = |e: Error| {
        assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
        assert!(e.to_string().contains("certificate"), "{e:#}");
    };
    // Nobody is there: no.
    refused(connect(to(&server, Security::Explicit), Arc::new(Unattended)).await.unwrap_err());
    // Somebody says no, or something else than yes.
    for answer in [Answer::Trust(TrustDecision::Reject), Answer::Yes, Answer::Skip] {
        refused(connect(to(&server, Security::Explicit), Told::new(answer)).await.unwrap_err());
    }
    // Somebody says yes, is asked once, and several connections come of it.
    let told = Told::new(Answer::Trust(TrustDecision::Accept));
    let remote =
        connect(to(&server, Security::Explicit), Arc::clone(&told) as Arc<dyn Decider>).await.unwrap();
    let (a, b) = two_files(&remote).await;
    a.unwrap().commit(&CommitOptions::default()).await.unwrap();
    b.unwrap().commit(&CommitOptions::default()).await.unwrap();
    remote.close().await;
    let asked = told.1.lock().unwrap().clone();
    let [Query::Certificate { certificate }] = asked.as_slice() else { panic!("{asked:?}") };
    // Pinned in either digest: nobody is asked.
    for text in [certificate.fingerprint(), certificate.sha1_fingerprint()] {
        let mut options = to(&server, Security::Explicit);
        options.tls.fingerprints = CertificateFingerprint::parse_list(&text).unwrap();
        connect(options, Arc::new(Unattended)).await.unwrap().close().await;
    }
    // Another one is pinned: a yes changes nothing.
    let mut options = to(&server, Security::Explicit);
    options.tls.fingerprints = CertificateFingerprint::parse_list(&["ab"; 32].join(":")).unwrap();
    let told = Told::new(Answer::Trust(TrustDecision::Accept));
    refused(connect(options, Arc::clone(&told) as Arc<dyn Decider>).await.unwrap_err());
    assert!(told.1.lock().unwrap().is_empty());
}

#[tokio::test]
async fn tls_that_was_asked_for_is_never_left_out() {
    let server = start(options()).await;
    let e = connect(to(&server, Security::Explicit), Arc::new(Unattended)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:#}");
    assert!(e.hint().is_some());
}

#[tokio::test]
async fn logins_fail_with_words_and_ask_for_what_is_missing() {
    let server = start(options()).await;
    let mut wrong = to(&server, Security::Plain);
    wrong.password = Some(Secret::new("wrong"));
    let e = connect(wrong, Arc::new(Unattended)).await.unwrap_err();
    assert_eq!((e.kind(), e.wire().map(|w| w.code)), (ErrorKind::Unauthenticated, Some(530)), "{e:#}");
    let mut missing = to(&server, Security::Plain);
    missing.password = None;
    let e = connect(missing.clone(), Arc::new(Unattended)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    let told = Told::new(Answer::Secret(Secret::new("demo")));
    let remote = connect(missing, Arc::clone(&told) as Arc<dyn Decider>).await.unwrap();
    assert_eq!(remote.methods(), ["password"]);
    let (a, b) = two_files(&remote).await;
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(told.1.lock().unwrap().len(), 1, "asked once, used for every connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cut_of_the_session_ends_everything_at_once() {
    let server = start(options()).await;
    let remote = enter(&server, Security::Plain).await;
    remote.write_all(&p("/f"), Bytes::from(vec![1; 1 << 20])).await.unwrap();
    let reading = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
    assert!(!reading.read_into(0, 10, BytesMut::new()).await.unwrap().is_empty());
    let writing = remote.open(&p("/g"), &OpenOptions::create()).await.unwrap();
    remote.session().cut(Ending::new("enough", Actor::Client));
    let at_once = async {
        assert!(writing.write_at(0, Bytes::from(vec![1; 8 << 20])).await.is_err());
        assert!(writing.commit(&CommitOptions::default()).await.is_err());
        assert!(remote.stat(&p("/f"), Follow::Yes).await.is_err());
    };
    tokio::time::timeout(Duration::from_secs(2), at_once).await.expect("something goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_share_connections_and_jumps_are_right() {
    let server = start(options()).await;
    let mut options = to(&server, Security::Plain);
    options.connections = 2;
    let remote = enter_with(options).await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 + n / 256) as u8).collect();
    remote.write_all(&p("/f"), Bytes::from(content.clone())).await.unwrap();
    // More open readers than connections, each between two reads.
    let mut files = Vec::new();
    for n in 0..6_usize {
        let file = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
        let got = file.read_into((n * 1000) as u64, 100, BytesMut::new()).await.unwrap();
        assert_eq!(got, content[n * 1000..n * 1000 + 100]);
        files.push(file);
    }
    for (n, file) in files.iter().enumerate() {
        for at in [2_900_000 - n, 5, 600_000 + n, 600_100 + n] {
            let had = BytesMut::from(&b"head"[..]);
            let got = file.read_into(at as u64, 50, had).await.unwrap();
            assert_eq!(got[..4], b"head"[..]);
            assert_eq!(got[4..], content[at..at + 50], "{n} {at}");
        }
        assert!(file.read_into(3_000_000, 10, BytesMut::new()).await.unwrap().is_empty());
        assert!(file.read_into(9_000_000, 10, BytesMut::new()).await.unwrap().is_empty());
    }
}

/// A line to `port` on which every piece takes longer than a short one's.
async fn long_line(port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut piece = vec![0; 4096];
        while let Ok(n @ 1..) = from.read(&mut piece).await {
            tokio::time::sleep(LONG_LINE).await;
            if to.write_all(&piece[..n]).await.is_err() {
                return;
            }
        }
    }
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (up, down) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
            let (from, to) = near.into_split();
            tokio::spawn(carry(from, down));
            tokio::spawn(carry(up, to));
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_has_more_connections() {
    let server = start(options()).await;
    let mut options = to(&server, Security::Plain);
    options.port = long_line(options.port).await;
    // One would be left for those who read.
    (options.connections, options.far_connections) = (2, 4);
    let remote = enter_with(options).await;
    let mut files = Vec::new();
    for name in ["/a", "/b", "/c"] {
        let file = remote.open(&p(name), &OpenOptions::create()).await.unwrap();
        file.write_at(0, Bytes::from(vec![7; 1 << 20])).await.unwrap();
        files.push(file);
    }
    for file in files {
        file.commit(&CommitOptions { expected_size: Some(1 << 20), ..CommitOptions::default() })
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_given_up_leave_the_old_content() {
    let server = start(options()).await;
    let remote = enter(&server, Security::Plain).await;
    let old = |remote: FtpRemote| async move { remote.read_to_vec(&p("/f"), 100).await.unwrap() };
    remote.write_all(&p("/f"), Bytes::from_static(b"old")).await.unwrap();
    let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"half")).await.unwrap();
    file.abort().await.unwrap();
    assert_eq!(old(remote.clone()).await, b"old");
    let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"half")).await.unwrap();
    let e =
        file.commit(&CommitOptions { expected_size: Some(9), ..CommitOptions::default() }).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert_eq!(old(remote.clone()).await, b"old");
    // Out of order is refused and breaks nothing.
    let file = remote.open(&p("/g"), &OpenOptions::create()).await.unwrap();
    file.write_at(0, Bytes::from_static(b"one")).await.unwrap();
    for offset in [0, 7] {
        let e = file.write_at(offset, Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
    }
    let (b, a) = tokio::join!(
        file.write_at(6, Bytes::from_static(b"six")),
        file.write_at(3, Bytes::from_static(b"two"))
    );
    a.unwrap();
    b.unwrap();
    let at = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let attributes = Attributes { mode: Some(0o600), modified: Some(at), ..Attributes::none() };
    let made = file.commit(&CommitOptions { expected_size: Some(9), attributes }).await.unwrap();
    assert_eq!((made.size, made.modified, made.mode), (9, Some(at), Some(0o600)));
    assert_eq!(remote.read_to_vec(&p("/g"), 100).await.unwrap(), b"onetwosix");
    let e = remote.rename(&p("/f"), &p("/g"), Replace::No).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_and_text_and_digests() {
    let server = start(options()).await;
    let mut compressed = to(&server, Security::Plain);
    compressed.compress = true;
    let remote = enter_with(compressed).await;
    let content = Bytes::from(b"the same again and again\n".repeat(40_000));
    remote.write_all(&p("/z.bin"), content.clone()).await.unwrap();
    assert_eq!(remote.read_to_vec(&p("/z.bin"), 4 << 20).await.unwrap(), content);
    remote.write_all(&p("/empty"), Bytes::new()).await.unwrap();
    assert!(remote.read_to_vec(&p("/empty"), 10).await.unwrap().is_empty());
    let sent = remote.session().stats().wire_out.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent < 200_000, "{sent} bytes for {}", content.len());
    assert_eq!(remote.list_all(&p("/")).await.unwrap().len(), 2);
    for algorithm in [session_core::fs::Algorithm::Sha256, session_core::fs::Algorithm::Crc32] {
        let mut due = session_core::digest::Hasher::new(algorithm);
        due.update(&content[10..20]);
        let got = remote.checksum(&p("/z.bin"), algorithm, 10..20).await.unwrap();
        assert_eq!(got, due.finish());
    }
    remote.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn active_mode_works_where_it_is_allowed_and_says_so_where_not() {
    let server = start(options()).await;
    let mut active = to(&server, Security::Plain);
    active.mode = DataMode::Active;
    let remote = enter_with(active.clone()).await;
    let e = remote.write_all(&p("/f"), Bytes::from_static(b"x")).await.unwrap_err();
    assert!(e.hint().is_some_and(|h| h.contains("passive")), "{e:#}");
    for security in [Security::Plain, Security::Explicit] {
        let (control_policy, data_policy) = (ControlPolicy::Allow, DataPolicy::Allow);
        let options = FtpServerOptions { active: true, control_policy, data_policy, ..secured() };
        let server = start(options).await;
        let mut active = to(&server, security);
        active.mode = DataMode::Active;
        let remote = enter_with(active).await;
        let content = Bytes::from(vec![7; 300_000]);
        remote.write_all(&p("/f"), content.clone()).await.unwrap();
        assert_eq!(remote.read_to_vec(&p("/f"), 1 << 20).await.unwrap(), content);
        assert_eq!(remote.list_all(&p("/")).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_an_error_that_can_be_retried() {
    let server = start(options()).await;
    let remote = enter(&server, Security::Plain).await;
    remote.write_all(&p("/f"), Bytes::from(vec![1; 8 << 20])).await.unwrap();
    let file = remote.open(&p("/f"), &OpenOptions::read()).await.unwrap();
    file.read_into(0, 1000, BytesMut::new()).await.unwrap();
    for session in server.site.registry.list() {
        session.cut(Ending::new("enough", Actor::Server));
    }
    let mut at = 1000;
    let e = loop {
        match file.read_into(at, 1 << 20, BytesMut::new()).await {
            Ok(got) => {
                assert!(!got.is_empty(), "a file that was cut short looks whole");
                at += got.len() as u64;
            }
            Err(e) => break e,
        }
    };
    assert_eq!(e.retry(), Retry::AfterReconnect, "{e:#}");
    // The next call logs in anew.
    assert_eq!(remote.stat(&p("/f"), Follow::Yes).await.unwrap().size, 8 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_copy_between_themselves_where_both_allow_it() {
    let allowing = || FtpServerOptions { active: true, foreign_data: true, ..options() };
    let (here, there) = (start(allowing()).await, start(allowing()).await);
    let (source, target) = (enter(&here, Security::Plain).await, enter(&there, Security::Plain).await);
    let content = Bytes::from(vec![5; 2_000_000]);
    source.write_all(&p("/f"), content.clone()).await.unwrap();
    let before = source.session().stats().wire_in.load(std::sync::atomic::Ordering::Relaxed);
    let copied = copy_between(&source, &p("/f"), &target, &p("/g")).await.unwrap();
    assert_eq!(copied.size, content.len() as u64);
    let after = source.session().stats().wire_in.load(std::sync::atomic::Ordering::Relaxed);
    assert!(after - before < 10_000, "the content came by here");
    assert_eq!(target.read_to_vec(&p("/g"), 4 << 20).await.unwrap(), content);
    let e = copy_between(&source, &p("/missing"), &target, &p("/h")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e:#}");
    // The default allows nothing of the kind; under TLS it is not tried.
    let strict = start(options()).await;
    let e = copy_between(&enter(&strict, Security::Plain).await, &p("/f"), &target, &p("/h")).await;
    assert!(e.is_err());
    let secure = start(secured()).await;
    let secure = enter(&secure, Security::Explicit).await;
    let e = copy_between(&source, &p("/f"), &secure, &p("/h")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_copy_between_themselves_under_tls_and_know_each_other() {
    let allowing = || FtpServerOptions { active: true, foreign_data: true, ..secured() };
    let (here, there) = (start(allowing()).await, start(allowing()).await);
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let entered = |server: &Running| {
            let mut options = to(server, Security::Explicit);
            (options.tls.minimum, options.tls.maximum) = (version, version);
            enter_with(options)
        };
        let (source, target) = (entered(&here).await, entered(&there).await);
        let content = Bytes::from(vec![5; 2_000_000]);
        source.write_all(&p("/f"), content.clone()).await.unwrap();
        let wire = || source.session().stats().wire_in.load(std::sync::atomic::Ordering::Relaxed);
        let before = wire();
        for _ in 0..2 {
            let copied = copy_between(&source, &p("/f"), &target, &p("/g")).await;
            assert_eq!(copied.unwrap_or_else(|e| panic!("{e:#}")).size, content.len() as u64);
        }
        assert!(wire() - before < 20_000, "the content came by here");
        // Both connections are ordinary ones again, and the other way works as well.
        assert_eq!(target.read_to_vec(&p("/g"), 4 << 20).await.unwrap(), content);
        copy_between(&target, &p("/g"), &source, &p("/back")).await.unwrap();
        assert_eq!(source.read_to_vec(&p("/back"), 4 << 20).await.unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_do_not_take_part_in_copies_are_not_made_to() {
    let allowing = || FtpServerOptions { active: true, foreign_data: true, ..secured() };
    let (here, there) = (start(allowing()).await, start(secured()).await);
    let (source, target) = (enter(&here, Security::Explicit).await, enter(&there, Security::Explicit).await);
    source.write_all(&p("/f"), Bytes::from_static(b"content")).await.unwrap();
    for (from, to) in [(&source, &target), (&target, &source)] {
        let e = copy_between(from, &p("/f"), to, &p("/g")).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:#}");
    }
    assert!(!target.exists(&p("/g")).await.unwrap());
}

/// Copies of eight files at a time within one server, as `cp` makes them.
async fn copies_within(connections: usize) {
    let server = start(options()).await;
    let mut options = to(&server, Security::Plain);
    options.connections = connections;
    let remote = enter_with(options).await;
    let content: Vec<u8> = (0..700_000_u32).map(|n| (n * 13 + n / 251) as u8).collect();
    let work: Vec<_> = (0..8)
        .map(|n| {
            let (remote, content) = (remote.clone(), content.clone());
            tokio::spawn(async move {
                let (from, to) = (p(&format!("/from-{n}")), p(&format!("/to-{n}")));
                remote.write_all(&from, Bytes::from(content.clone())).await.unwrap();
                let source = remote.open(&from, &OpenOptions::read()).await.unwrap();
                let target = remote.open(&to, &OpenOptions::create()).await.unwrap();
                let mut at = 0;
                loop {
                    let piece = source.read_into(at, 100_000, BytesMut::new()).await;
                    let piece = piece.unwrap_or_else(|e| panic!("{e:#}"));
                    if piece.is_empty() {
                        break;
                    }
                    let n = piece.len() as u64;
                    target.write_at(at, piece.freeze()).await.unwrap();
                    at += n;
                }
                target.commit(&CommitOptions::default()).await.unwrap();
                assert!(remote.read_to_vec(&to, 1 << 20).await.unwrap() == content, "{n}");
            })
        })
        .collect();
    for done in work {
        done.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_within_a_server_do_not_wait_for_themselves() {
    for connections in [2, 3, 8] {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, copies_within(connections)).await.expect("copies wait for themselves");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_under_way_gives_its_connection_up() {
    let server = start(options()).await;
    for n in 0..2500 {
        server.site.store.write_all(&p(&format!("/file-{n:04}")), Bytes::new()).await.unwrap();
    }
    let mut options = to(&server, Security::Plain);
    options.connections = 1;
    let remote = enter_with(options).await;
    let mut pages = remote.list(&p("/"), &Default::default()).await.unwrap();
    let mut names = std::collections::BTreeSet::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        // The only connection there is.
        assert!(remote.stat(&p("/file-0001"), Follow::Yes).await.is_ok());
        names.extend(page.into_iter().map(|e| e.name));
    }
    assert_eq!(names.len(), 2500);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_cut_off_is_continued_where_it_ended() {
    let server = start(secured()).await;
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 31 + n / 255) as u8).collect();
    let half = 400_000;
    for overlap in [0, 1000] {
        let remote = enter(&server, Security::Explicit).await;
        let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
        file.write_at(0, Bytes::copy_from_slice(&content[..half])).await.unwrap();
        file.park().await.unwrap();
        let arrived = loop {
            match remote.stat(&p("/f"), Follow::Yes).await {
                Ok(m) if m.size > overlap as u64 && server.site.area.parked().len() == 1 => {
                    break m.size as usize;
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let file = remote.open(&p("/f"), &OpenOptions { write: true, ..Default::default() }).await.unwrap();
        let from = arrived - overlap;
        for (n, piece) in content[from..].chunks(150_000).enumerate() {
            file.write_at((from + n * 150_000) as u64, Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let size = Some(content.len() as u64);
        file.commit(&CommitOptions { expected_size: size, ..Default::default() }).await.unwrap();
        assert!(remote.read_to_vec(&p("/f"), 2 << 20).await.unwrap() == content, "{overlap}");
        // Published, to all.
        assert!(server.site.store.read_to_vec(&p("/f"), 2 << 20).await.unwrap() == content);
        remote.remove_file(&p("/f")).await.unwrap();
        remote.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_lacked_nothing_but_its_end_is_published() {
    let server = start(options()).await;
    let remote = enter(&server, Security::Plain).await;
    'parked: loop {
        let file = remote.open(&p("/f"), &OpenOptions::create()).await.unwrap();
        file.write_at(0, Bytes::from_static(b"all of it")).await.unwrap();
        file.park().await.unwrap();
        // On a busy machine the end may overtake what was sent.
        for _ in 0..200 {
            let there = remote.stat(&p("/f"), Follow::Yes).await.map_or(0, |m| m.size);
            if there == 9 && !server.site.area.parked().is_empty() {
                break 'parked;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let file = remote.open(&p("/f"), &OpenOptions::update()).await.unwrap();
    assert_eq!(file.commit(&CommitOptions::default()).await.unwrap().size, 9);
    assert_eq!(server.site.store.read_to_vec(&p("/f"), 100).await.unwrap(), b"all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_has_each_sides_own_line_ends() {
    let server = start(options()).await;
    let remote = enter(&server, Security::Plain).await;
    assert!(remote.capabilities().text);
    let text = b"a line of text\nand another\n\n".repeat(10_000);
    let create = OpenOptions { text: true, ..OpenOptions::create() };
    let file = remote.open(&p("/a.txt"), &create).await.unwrap();
    file.write_at(0, Bytes::from(text.clone())).await.unwrap();
    let size = text.len() as u64;
    let commit = CommitOptions { expected_size: Some(size), ..CommitOptions::default() };
    assert_eq!(file.commit(&commit).await.unwrap().size, size);
    assert!(server.site.store.read_to_vec(&p("/a.txt"), 1 << 20).await.unwrap() == text);
    // In the middle, out of order, and with its connection gone in between.
    let read = OpenOptions { text: true, ..OpenOptions::read() };
    let file = remote.open(&p("/a.txt"), &read).await.unwrap();
    for at in [0, 100_000, 50, 200_000] {
        assert_eq!(file.read_into(at as u64, 40, BytesMut::new()).await.unwrap(), text[at..at + 40]);
    }
}
