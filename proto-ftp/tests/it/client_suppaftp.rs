//! suppaftp's client as a peer of our server: another reading of the same standards.
#![cfg(all(feature = "client", feature = "server"))]

use crate::support::*;
use proto_ftp::server::FtpServerOptions;
use suppaftp::Mode;
use suppaftp::list::ListParser;
use suppaftp::tokio::AsyncFtpStream;
use suppaftp::types::FileType;
use tokio::io::AsyncReadExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn suppaftp_stores_lists_and_retrieves() {
    for mode in [Mode::Passive, Mode::ExtendedPassive, Mode::Active] {
        let active = matches!(mode, Mode::Active);
        let server = start(FtpServerOptions { active, ..options() }).await;
        let mut ftp = AsyncFtpStream::connect(server.address).await.unwrap();
        ftp.set_mode(mode);
        ftp.login("demo", "demo").await.unwrap();
        ftp.transfer_type(FileType::Binary).await.unwrap();
        ftp.mkdir("/d").await.unwrap();
        ftp.cwd("/d").await.unwrap();
        let content: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 + n / 256) as u8).collect();
        ftp.put_file("a file", &mut content.as_slice()).await.unwrap();
        assert_eq!(ftp.size("a file").await.unwrap(), content.len());
        let line = ftp.list(None).await.unwrap().remove(0);
        assert_eq!(ListParser::parse_posix(&line).unwrap().name(), "a file");
        let line = ftp.mlsd(None).await.unwrap().into_iter().find(|l| l.contains("type=file")).unwrap();
        assert_eq!(ListParser::parse_mlsd(&line).unwrap().size(), content.len());
        let mut back = Vec::new();
        let mut stream = ftp.retr_as_stream("a file").await.unwrap();
        stream.read_to_end(&mut back).await.unwrap();
        stream.finish().await.unwrap();
        assert!(back == content);
        ftp.rename("a file", "b").await.unwrap();
        ftp.rm("b").await.unwrap();
        ftp.quit().await.unwrap();
    }
}
