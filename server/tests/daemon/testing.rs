//! The server for the tests of others, as they use it: in their own process, over every protocol.

use std::sync::Arc;

use client::connect::{Options, open_url};
use client::url::{Location, Url};
use server::config::ListenerProtocol::{self, Ftp, Ftps, S3, S3s, Sftp, Webdav, Webdavs};
use server::testing::TestServer;
use session_core::batch::Unattended;
use session_core::error::ErrorKind;
use session_core::fs_ext::FilesystemExt;

use crate::support::path;

const SECRET: &str = "correct horse battery staple";

fn url_of(text: &str) -> session_core::error::Result<Url> {
    match Location::parse(text)? {
        Location::Remote(url) => Ok(url),
        Location::Local(path) => panic!("{path:?} is no URL"),
    }
}

async fn open(server: &TestServer, protocol: ListenerProtocol) -> client::connect::Connected {
    let url = url_of(&server.url(protocol, "ann").unwrap()).unwrap();
    let pin = [server.fingerprint(protocol).unwrap_or_default()];
    let options = Options::from_url(&url).unwrap().password(server.password("ann").map(str::to_owned));
    let options = match protocol {
        Sftp => options.host_keys(&pin).unwrap(),
        Ftp | Ftps | Webdavs | S3s => options.certificates(&pin).unwrap(),
        S3 | Webdav => options,
    };
    open_url(options, Arc::new(Unattended)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_is_there_and_what_was_done_can_be_asserted() {
    let blocks = "if (ExtractExt(CtxRelPath()) === '.exe') Session.BlockOperation('no programs');";
    let server = TestServer::with_user("ann", SECRET).hook("BeforeFileUpload", blocks).start().await.unwrap();
    std::fs::create_dir(server.home("ann").join("bucket")).unwrap();
    for protocol in [Sftp, Ftp, Ftps, Webdav, Webdavs, S3, S3s] {
        let remote = open(&server, protocol).await;
        let at = path(&format!("/bucket/{}", protocol.name()));
        remote.fs().write_all(&at, "content".into()).await.unwrap();
        let there = std::fs::read(server.home("ann").join("bucket").join(protocol.name())).unwrap();
        assert_eq!(there, b"content", "{protocol:?}");
        let e = remote.fs().write_all(&path("/bucket/a.exe"), "x".into()).await.unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied), "{protocol:?}: {e}");
        remote.close().await;
    }
    let events = server.events().unwrap();
    let commits = |protocol: &str| {
        let is = |e: &&serde_json::Value| {
            e["event"] == "ended"
                && e["operation"] == "commit"
                && e["outcome"] == "ok"
                && e["protocol"] == protocol
        };
        events.iter().filter(is).count()
    };
    // FTP that turns to TLS came as FTP.
    for protocol in ["SFTP", "FTP", "FTPS", "WEBDAV", "WEBDAVS"] {
        assert_eq!(commits(protocol), 1, "{protocol} in {events:#?}");
    }
    assert_eq!(commits("S3"), 2);
    assert!(events.iter().any(|e| e["event"] == "ended" && e["outcome"] == "refused"));
    let remote = open(&server, Sftp).await;
    // Those of HTTP outlive their connections.
    assert!(server.end_sessions("enough").await >= 1);
    assert!(remote.fs().exists(&path("/bucket")).await.is_err());
    let events = server.events().unwrap();
    assert!(events.iter().any(|e| e["event"] == "closed" && e["reason"] == "enough"), "{events:#?}");
    let (home, url) = (server.home("ann"), server.url(Sftp, "ann").unwrap());
    server.stop().await;
    assert!(!home.exists());
    let e = open_url(Options::from_url(&url_of(&url).unwrap()).unwrap(), Arc::new(Unattended)).await.err();
    assert!(e.is_some(), "nobody answers any more");
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused_by_its_line() {
    let e =
        TestServer::with_user("ann", SECRET).config("[limits]\nsessions = -1").start().await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains("sessions = -1") || e.to_string().contains("ferryd.toml:"), "{e}");
    let e = TestServer::with_user("ann", SECRET).hook("BeforeNothing", "").start().await.err().unwrap();
    assert!(e.to_string().contains("BeforeNothing"), "{e}");
}
