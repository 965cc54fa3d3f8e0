//! A client that others wrote, `russh-sftp`'s, against our server over a pipe.
#![cfg(feature = "server")]

use crate::support::*;
use proto_sftp::server::Driver;
use russh_sftp::client::SftpSession;
use russh_sftp::protocol::OpenFlags;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

#[tokio::test]
async fn russh_sftp_as_client() {
    let store = Store::with_jitter(11);
    let (ours, theirs) = tokio::io::duplex(1 << 18);
    let (read, write) = tokio::io::split(theirs);
    let server = tokio::spawn(Driver::new(guarded(&store, vec![])).run(chunks(read), Writer(write)));
    let sftp = SftpSession::new(ours).await.unwrap();

    sftp.create_dir("/d").await.unwrap();
    let content: Vec<u8> = (0..700_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
    let mut file = sftp.create("/d/file").await.unwrap();
    file.write_all(&content).await.unwrap();
    file.shutdown().await.unwrap();
    assert!(store.content("/d/file").unwrap() == content);

    let mut back = Vec::new();
    let mut file = sftp.open("/d/file").await.unwrap();
    file.read_to_end(&mut back).await.unwrap();
    assert!(back == content);
    file.seek(std::io::SeekFrom::Start(699_990)).await.unwrap();
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).await.unwrap();
    assert_eq!(tail, content[699_990..]);
    drop(file);

    assert_eq!(sftp.metadata("/d/file").await.unwrap().size, Some(700_000));
    sftp.rename("/d/file", "/d/other").await.unwrap();
    let names: Vec<_> = sftp.read_dir("/d").await.unwrap().map(|e| e.file_name()).collect();
    assert_eq!(names, ["other"]);
    assert_eq!(sftp.canonicalize("d/../d/other").await.unwrap(), "/d/other");
    assert!(!sftp.try_exists("/d/file").await.unwrap());
    assert!(sftp.open_with_flags("/no/file", OpenFlags::READ).await.is_err());
    assert!(sftp.remove_dir("/d").await.is_err(), "not empty");
    sftp.remove_file("/d/other").await.unwrap();
    sftp.remove_dir("/d").await.unwrap();
    sftp.close().await.unwrap();
    drop(sftp);
    server.await.unwrap().unwrap();
}
