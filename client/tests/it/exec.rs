//! Commands of servers: over SFTP by a shell on the same connection, over FTP as raw lines; what they say, how they
//! end, and digests that a program of the server computes.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::World;
use crate::support::shell::Shell;
use client::hash::Proof;
use client::session::Session;
use session_core::batch::Unattended;
use session_core::error::ErrorKind;

macro_rules! shell {
    ($elsewhere:expr) => {
        match Shell::start($elsewhere).await {
            Some(shell) => shell,
            None => return,
        }
    };
}

async fn opened(shell: &Shell) -> Session {
    let session = Session::new();
    session.open(shell.options(), Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}"));
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_says_what_it_says_and_how_it_ended() {
    let shell = shell!(false);
    std::fs::create_dir(shell.dir.path().join("it's a dir")).unwrap();
    let session = opened(&shell).await;
    let done = session.execute_command("echo out; echo err >&2; exit 3", "").await.unwrap();
    assert_eq!((done.output_text().as_str(), done.error_text().as_str()), ("out\n", "err\n"));
    assert_eq!((done.exit_code, done.failures().len()), (Some(3), 1));
    assert!(done.check().unwrap_err().to_string().contains("code 3: err"), "{:?}", done.failures());
    let done = session.execute_command("cat; pwd", "it's a dir").await.unwrap();
    assert!(done.is_success() && done.output_text().ends_with("/it's a dir\n"), "{done:?}");
    let done = session.execute_command("kill -9 $$", "").await.unwrap();
    assert_eq!((done.exit_code, done.is_success()), (None, false));
    assert!(done.check().unwrap_err().to_string().contains("KILL"));
    // Nothing gets lost of what is much, and files move meanwhile.
    let much = session.execute_command("seq 1 300000", "");
    let options = Default::default();
    let put = session.put_file(&[7u8; 100_000][..], "up", &options);
    let (much, put) = tokio::join!(much, put);
    assert_eq!((much.unwrap().output_text().lines().count(), put.unwrap()), (300_000, 100_000));
    assert_eq!(session.execute_command("refused", "").await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(session.execute_command("", "").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(shell.connections.load(Ordering::SeqCst), 1, "one connection for all of it");
    // Cut in the middle, it ends.
    let (asleep, other) = (session.clone(), session.clone());
    let running = tokio::spawn(async move { asleep.execute_command("sleep 600", "").await });
    session.execute_command("true", "").await.unwrap();
    other.abort();
    assert!(running.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_by_the_servers_shell_are_of_the_file_that_is_meant() {
    for elsewhere in [false, true] {
        let shell = shell!(elsewhere);
        for name in ["plain", "it's; $(odd)\n*"] {
            std::fs::write(shell.dir.path().join(name), "content").unwrap();
        }
        let session = opened(&shell).await;
        for name in ["plain", "it's; $(odd)\n*"] {
            let (digest, proof) = session.calculate_file_checksum("sha-256", name).await.unwrap();
            assert_eq!(session_core::digest::hex(&digest)[..8], *"ed7002b4", "{name}");
            // A shell that begins elsewhere may call other files by the same paths.
            assert_eq!(proof, if elsewhere { Proof::Read } else { Proof::Shell }, "{name}");
        }
        let (crc, proof) = session.calculate_file_checksum("crc32", "plain").await.unwrap();
        assert_eq!((crc.len(), proof), (4, Proof::Read));
        assert_eq!(
            session.calculate_file_checksum("md5", "none").await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        session.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ftp_is_told_lines_and_its_files_do_not_notice() {
    let world = World::ftpes().await;
    world.write("/d/f", "content").await;
    let session = world.open().await;
    let done = session.execute_command("PWD", "/d").await.unwrap();
    assert!(done.is_success() && done.output_text().contains("\"/d\""), "{done:?}");
    assert_eq!(done.exit_code, Some(0));
    assert!(session.execute_command("  NOOP ", "").await.unwrap().is_success());
    let done = session.execute_command("NONSENSE x", "").await.unwrap();
    assert_eq!((done.is_success(), done.exit_code), (false, None));
    assert!(done.check().unwrap_err().wire().is_some_and(|w| w.code >= 500), "{done:?}");
    for (line, kind) in [
        ("LIST", ErrorKind::Unsupported),
        ("retr f", ErrorKind::Unsupported),
        ("", ErrorKind::InvalidArgument),
        ("NOOP\r\nDELE /d/f", ErrorKind::InvalidArgument),
    ] {
        assert_eq!(session.execute_command(line, "").await.unwrap_err().kind(), kind, "{line:?}");
    }
    assert_eq!(session.execute_command("NOOP", "/nowhere").await.unwrap_err().kind(), ErrorKind::NotFound);
    // What a line changes is gone with it.
    session.execute_command("CWD /d", "").await.unwrap();
    session.execute_command("QUIT", "").await.unwrap();
    assert_eq!(session.list_directory("/").await.unwrap().files.len(), 1);
    assert!(world.has("/d/f").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_runs_commands() {
    let shell = shell!(false);
    std::fs::write(shell.dir.path().join("here"), "").unwrap();
    let run = async |args: &[&str], command: &[&str]| {
        let url = format!("sftp://u@127.0.0.1:{}/{}", shell.port, shell.dir.path().display());
        let out = tokio::process::Command::new(env!("CARGO_BIN_EXE_ferry"))
            .args(args)
            .args(["exec", &url, "--host-key", &shell.fingerprint, "--ssh-config=none", "--"])
            .args(command)
            .env_clear()
            .env("HOME", shell.dir.path())
            .env("FERRY_PASSWORD", "shell")
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    };
    assert_eq!(run(&[], &["ls", "&&", "echo", "done"]).await, (0, "here\ndone\n".into(), String::new()));
    let (code, out, err) = run(&[], &["echo out; echo err >&2; exit 9"]).await;
    assert_eq!((code, out.as_str()), (9, "out\n"));
    assert!(err.starts_with("err\n") && err.contains("code 9"), "{err}");
    let (code, out, _) = run(&["--json"], &["echo out; exit 9"]).await;
    let last = crate::lines::checked("exec", &out).pop().unwrap();
    assert_eq!((code, &last["event"], &last["code"]), (9, &"exit".into(), &9.into()), "{out}");
    assert_eq!(run(&[], &["kill -9 $$"]).await.0, 1);
    assert_eq!(run(&[], &[]).await.0, 2);
}
