//! The session without a runtime: the same calls, from plain threads, from a runtime's, and at once.
#![cfg(all(feature = "blocking", feature = "sftp"))]

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::support::World;
use client::blocking::Session;
use client::session::{EnumerationOptions, Side, SynchronizationMode, SynchronizationOptions};
use session_core::batch::{TransferOptions, Unattended};
use session_core::error::ErrorKind;
use tokio::runtime::{Builder, Runtime};

/// A server on a runtime of its own.
fn world() -> (Runtime, World) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::sftp());
    (runtime, world)
}

fn opened(world: &World) -> Session {
    let session = Session::new().unwrap();
    session.open(world.options(), Arc::new(Unattended)).unwrap();
    session
}

#[test]
fn files_and_streams_move_both_ways() {
    let (runtime, world) = world();
    runtime.block_on(world.write("/logs/a.log", "content"));
    let session = opened(&world);
    let dir = tempfile::tempdir().unwrap();
    let to = format!("{}/", dir.path().display());
    let options = TransferOptions::default();
    session.get_files("/logs/*.log", &to, false, &options).unwrap().check().unwrap();
    assert_eq!(std::fs::read(dir.path().join("a.log")).unwrap(), b"content");
    let large: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    assert_eq!(session.put_file(&large[..], "/large", &options).unwrap(), 3_000_000);
    assert!(runtime.block_on(world.read("/large")) == large);
    let mut reader = session.get_file("/large").unwrap();
    assert_eq!(reader.seek(SeekFrom::Start(2_999_990)).unwrap(), 2_999_990);
    let mut end = Vec::new();
    reader.read_to_end(&mut end).unwrap();
    assert_eq!(end, large[2_999_990..]);
    let mut names: Vec<_> = session
        .enumerate_remote_files("/", "*", EnumerationOptions { all_directories: true, ..Default::default() })
        .unwrap()
        .map(|file| file.unwrap().path.display())
        .collect();
    names.sort();
    assert_eq!(names, ["/large", "/logs/a.log"]);
    session.close().unwrap();
    assert_eq!(session.list_directory("/").map(drop).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn differences_are_found_and_settled() {
    let (runtime, world) = world();
    runtime.block_on(world.write("/far/x", "x"));
    let session = opened(&world);
    let dir = tempfile::tempdir().unwrap();
    let options = SynchronizationOptions::new(SynchronizationMode::Local);
    let found = session.compare_directories(dir.path(), "/far", &options).unwrap();
    assert_eq!(found.differences.len(), 1);
    assert!(found.path(&found.differences[0], Side::Remote).unwrap().as_bytes().ends_with(b"/far/x"));
    found.resolve(&found.differences[0]).unwrap().check().unwrap();
    assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"x");
}

/// Fails after so many bytes.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.0);
        self.0 -= n;
        if n == 0 { Err(io::Error::other("the tape tore")) } else { Ok(n) }
    }
}

#[test]
fn a_source_that_breaks_off_leaves_the_old_content() {
    let (runtime, world) = world();
    runtime.block_on(world.write("/f", "old"));
    let session = opened(&world);
    let e = session.put_file(Broken(2 << 20), "/f", &TransferOptions::default()).unwrap_err();
    assert!(format!("{e:#}").contains("the tape tore"), "{e:#}");
    assert_eq!(runtime.block_on(world.read("/f")), b"old");
    // And a target that is none does not wait for the source's end.
    assert!(session.put_file(io::repeat(0), "/f/g", &TransferOptions::default()).is_err());
}

#[test]
fn it_works_and_does_not_panic_inside_of_a_runtime() {
    let (runtime, world) = world();
    let world = Arc::new(world);
    let shared = Arc::clone(&world);
    runtime.block_on(async move {
        let session = opened(&shared);
        session.create_directory("/made").unwrap();
        assert!(session.get_file("/made").map(drop).is_err());
        let moved = session.clone();
        tokio::task::spawn_blocking(move || moved.create_directory("/made/too").unwrap()).await.unwrap();
        // The last of them is dropped here.
    });
    assert!(runtime.block_on(world.has("/made/too")));
}

#[test]
fn threads_share_a_session_and_one_of_them_may_abort_it() {
    let (runtime, world) = world();
    let session = opened(&world);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let session = &session;
            scope.spawn(move || {
                session.put_file(&[n][..], format!("/{n}"), &TransferOptions::default()).unwrap()
            });
        }
    });
    assert_eq!(session.list_directory("/").unwrap().files.len(), 4);
    let (told, heard) = std::sync::mpsc::channel();
    let waits = session.clone();
    let endless = std::thread::spawn(move || {
        let source = Endless(told);
        waits.put_file(source, "/endless", &TransferOptions::default())
    });
    heard.recv().unwrap();
    // Its thread reads ahead: the call itself is under way when the file is there.
    while !runtime.block_on(world.has("/endless.filepart")) {
        std::thread::yield_now();
    }
    session.abort();
    assert_eq!(endless.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    assert!(!session.opened());
}

/// Never ends, and says when it was asked.
struct Endless(std::sync::mpsc::Sender<()>);

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.send(());
        buf.fill(1);
        Ok(buf.len())
    }
}
