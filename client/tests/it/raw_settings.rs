//! Raw settings of WinSCP's sites that a session follows, seen at the server.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::sync::Arc;

use crate::support::World;
use crate::support::shell::Shell;
use client::log::{LogLevel, SessionLog};
use client::session::*;
use session_core::batch::{TransferOptions, Unattended};
use session_core::error::{ErrorKind, Result};

async fn opened(options: SessionOptions) -> Result<Session> {
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await?;
    Ok(session)
}

fn with(options: SessionOptions, settings: &[(&str, &str)]) -> SessionOptions {
    settings.iter().fold(options, |options, (name, value)| options.add_raw_setting(name, value).unwrap())
}

const BIN: [(&str, &str); 3] =
    [("OverwrittenToRecycleBin", "1"), ("DeleteToRecycleBin", "1"), ("RecycleBinPath", "/r/bin")];

/// What the bin holds of a name, by content.
async fn binned(world: &World, stem: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for name in world.tree().await {
        if name.starts_with(&format!("/r/bin/{stem}-20")) {
            found.push(world.read(&name).await);
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_and_removed_goes_into_the_bin() {
    for world in [World::sftp().await, World::ftpes().await] {
        let session = opened(with(world.options(), &BIN)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("f.txt", "new"), ("large", &"n".repeat(200_000)), ("fresh", "fresh")] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        world.write("/r/bin/.keep", "").await;
        world.write("/r/f.txt", "old").await;
        world.write("/r/large", "old large").await;
        world.write("/r/stream", "old stream").await;
        let options = TransferOptions::default();
        let result = session.put_files(dir.path().join("*"), "/r/", false, &options).await.unwrap();
        result.check().unwrap();
        assert_eq!(world.read("/r/f.txt").await, b"new");
        assert_eq!(world.read("/r/large").await.len(), 200_000);
        assert_eq!(binned(&world, "f").await, [b"old"]);
        assert_eq!(binned(&world, "large").await, [b"old large"]);
        assert!(binned(&world, "fresh").await.is_empty(), "there was none");
        session.put_file(&b"new stream"[..], "/r/stream", &options).await.unwrap();
        assert_eq!(world.read("/r/stream").await, b"new stream");
        assert_eq!(binned(&world, "stream").await, [b"old stream"]);
        // Written in place, too.
        let in_place = TransferOptions { temporary_names: false, ..TransferOptions::default() };
        session.put_file(&b"newer"[..], "/r/stream", &in_place).await.unwrap();
        std::fs::write(dir.path().join("f.txt"), "newest").unwrap();
        session.put_file_to_directory(dir.path().join("f.txt"), "/r", false, &in_place).await.unwrap();
        assert_eq!(binned(&world, "stream").await.len(), 2);
        assert_eq!(binned(&world, "f").await, [&b"new"[..], b"old"]);
        // What comes from the server replaces nothing there.
        session.get_files("/r/f.txt", dir.path().join(""), false, &options).await.unwrap().check().unwrap();

        // A synchronisation removes and replaces, and the bin inside of the tree takes no part.
        let before = binned(&world, "large").await.len();
        std::fs::remove_file(dir.path().join("fresh")).unwrap();
        std::fs::write(dir.path().join("large"), "small now").unwrap();
        std::fs::File::options()
            .write(true)
            .open(dir.path().join("large"))
            .unwrap()
            .set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60))
            .unwrap();
        let mut sync = SynchronizationOptions::new(SynchronizationMode::Remote);
        sync.remove_files = true;
        let result = session.synchronize_directories(dir.path(), "/r", &sync).await.unwrap();
        result.check().unwrap();
        assert_eq!(world.read("/r/large").await, b"small now");
        assert_eq!(binned(&world, "large").await.len(), before + 1);
        assert_eq!(binned(&world, "fresh").await, [b"fresh"]);
        assert!(!world.has("/r/fresh").await && world.has("/r/bin/.keep").await);

        // Nobody says where it is: nothing is lost for that.
        let nowhere = with(world.options(), &BIN[..1]);
        let session = opened(nowhere).await.unwrap();
        let result = session.put_files(dir.path().join("f.txt"), "/r/", false, &options).await.unwrap();
        assert_eq!(result.check().unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(world.read("/r/f.txt").await, b"newest");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_after_each_login() {
    let world = World::ftpes().await;
    world.write("/f", "f").await;
    let lines = "SITE CHMOD 600 /f\r\n\r\n NOOP\n";
    let session = opened(with(world.options(), &[("PostLoginCommands", lines)])).await.unwrap();
    let mode = session.get_file_info("/f").await.unwrap().file_permissions().unwrap();
    assert_eq!(mode.octal(), "600");
    session.close().await.unwrap();
    for (line, word) in [("XYZZY", "after each login"), ("STOR /g", "data connections")] {
        let e = opened(with(world.options(), &[("PostLoginCommands", line)])).await.unwrap_err();
        assert!(format!("{e:#}").contains(word), "{line}: {e:#}");
    }
    let dav = SessionOptions::new().protocol(Protocol::Webdav).host_name("127.0.0.1").port_number(1);
    let e = opened(with(dav, &[("PostLoginCommands", "x")])).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:#}");

    let Some(shell) = Shell::start(false).await else { return };
    let lines = "echo one > made\necho two >> made";
    let session = opened(with(shell.options(), &[("PostLoginCommands", lines)])).await.unwrap();
    assert_eq!(std::fs::read(shell.dir.path().join("made")).unwrap(), b"one\ntwo\n");
    assert!(session.file_exists("made").await.unwrap());
    let failing = with(shell.options(), &[("PostLoginCommands", "echo why >&2; exit 3")]);
    let e = opened(failing).await.unwrap_err();
    assert!(format!("{e:#}").contains("code 3: why"), "{e:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn algorithms_are_those_that_are_named() {
    let world = World::sftp().await;
    for (cipher, spoken) in [("chacha20,aes", "chacha20-poly1305@openssh.com"), ("3des,aes", "aes256-ctr")] {
        let settings = [
            ("Cipher", cipher),
            ("KEX", "ecdh"),
            ("HostKey", "ed25519"),
            ("RekeyTime", "5"),
            ("RekeyBytes", "1M"),
        ];
        let session = opened(with(world.options(), &settings)).await.unwrap();
        assert_eq!(session.snapshot().unwrap().cipher, spoken);
        // Keys are exchanged in the middle.
        let content = vec![7; 3 << 20];
        session.put_file(&content[..], "/f", &TransferOptions::default()).await.unwrap();
        assert!(world.read("/f").await == content);
        session.close().await.unwrap();
    }
    // The server has no such key: nothing else is taken instead.
    assert!(opened(with(world.options(), &[("HostKey", "rsa")])).await.is_err());
    for (name, value) in [("Cipher", "des"), ("KEX", "rsa"), ("HostKey", "dsa"), ("RekeyBytes", "0")] {
        let e = world.options().add_raw_setting(name, value).map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_ftp_lists_and_resumes_is_as_it_is_said() {
    let (world, dir) = (World::ftpes().await, tempfile::tempdir().unwrap());
    world.write("/d/f", "content").await;
    let listed = |settings: &'static [(&str, &str)], log: &str| {
        let (options, log) = (with(world.options(), settings), dir.path().join(log));
        async move {
            let session = Session::new();
            session.set_log(Some(SessionLog::open(&log, LogLevel::Normal).unwrap()));
            session.open(options, Arc::new(Unattended)).await?;
            let listed = session.list_directory("/d").await?;
            let time = listed.files[0].last_write_time().unwrap();
            Ok::<_, session_core::error::Error>((time, std::fs::read_to_string(&log).unwrap()))
        }
    };
    let (_, log) = listed(&[], "facts").await.unwrap();
    assert!(log.contains("] MLSD") && !log.contains("] LIST"), "{log}");
    let (six, log) = listed(&[("FtpUseMlsd", "1"), ("TimeDifference", "0.25")], "six").await.unwrap();
    assert!(log.contains("] LIST") && !log.contains("] MLSD") && !log.contains("] MDTM"), "{log}");
    let (three, _) = listed(&[("FtpUseMlsd", "1"), ("TimeDifference", "0.125")], "three").await.unwrap();
    assert_eq!(six.duration_since(three).unwrap().as_secs(), 3 * 3600);
    // The server wants data connections to resume the login's session.
    assert!(listed(&[("SslSessionReuse", "0")], "apart").await.is_err());

    for (name, value) in [("TimeDifference", "0.25"), ("SslSessionReuse", "0")] {
        let dav = SessionOptions::new().protocol(Protocol::Webdav).host_name("127.0.0.1").port_number(1);
        let e = opened(with(dav, &[(name, value)])).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sftp_may_be_served_by_a_command() {
    let servers =
        ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];
    let Some(server) = servers.into_iter().find(|s| std::path::Path::new(s).exists()) else { return };
    let Some(shell) = Shell::start(false).await else { return };
    let line = format!("echo begun > by-command; exec {server}");
    let session = opened(with(shell.options(), &[("SftpServer", &line)])).await.unwrap();
    assert!(session.file_exists("by-command").await.unwrap());
    assert_eq!(std::fs::read(shell.dir.path().join("by-command")).unwrap(), b"begun\n");
}
