//! Copies between two servers that have no way to make sure of each other, under TLS: refused, unless they are
//! allowed. The servers follow a script: ours make sure of each other.
#![cfg(all(feature = "client", feature = "server"))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{p, tls};
use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security, connect, copy_between};
use session_core::auth::Secret;
use session_core::batch::Unattended;
use session_core::error::ErrorKind;
use session_core::net::server_tls::ServerTls;
use session_core::trust::CertificateFingerprint;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

struct Scripted {
    port: u16,
    print: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// With these features, each in a line.
    async fn start(features: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, tls) = (listener.local_addr().unwrap().port(), tls());
        let (print, heard) = (tls.fingerprint(), Arc::<Mutex<Vec<String>>>::default());
        let notes = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&tls), features, Arc::clone(&notes)));
            }
        });
        Scripted { port, print, heard }
    }

    async fn enter(&self, unverified: bool) -> FtpRemote {
        let mut options = FtpConnectOptions::new("127.0.0.1", self.port, "u");
        options.password = Some(Secret::new("p"));
        options.security = Security::Explicit;
        options.timeout = Duration::from_secs(5);
        options.unverified_copies = unverified;
        options.tls.fingerprints = CertificateFingerprint::parse_list(&self.print).unwrap();
        connect(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// What was said of copies, in order.
    fn heard(&self) -> Vec<String> {
        let told = ["SSCN", "OPTS SSCN", "PASV", "CPSV", "PORT", "STOR", "RETR"];
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|l| told.iter().any(|t| l.starts_with(t))).cloned().collect()
    }
}

fn reply(line: &str, features: &str) -> String {
    match line.split(' ').next().unwrap_or_default() {
        "USER" => "331 password\r\n".into(),
        "PASS" => "230 in\r\n".into(),
        "FEAT" => format!("211-F\r\n{features} MLST type*;size*;\r\n211 E\r\n"),
        "SYST" => "215 UNIX Type: L8\r\n".into(),
        "PWD" => "257 \"/\"\r\n".into(),
        "MLST" => "250-it\r\n type=file;size=7; /f\r\n250 end\r\n".into(),
        "PASV" | "CPSV" => "227 (127,0,0,1,9,9)\r\n".into(),
        "STOR" | "RETR" => "150 begun\r\n226 done\r\n".into(),
        "SITE" | "EPSV" => "500 what?\r\n".into(),
        "QUIT" => "221 bye\r\n".into(),
        _ => "200 ok\r\n".into(),
    }
}

async fn serve(
    mut stream: TcpStream,
    tls: Arc<ServerTls>,
    features: &'static str,
    heard: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    stream.write_all(b"220 scripted\r\n").await.ok()?;
    let mut line = [0; 10];
    stream.read_exact(&mut line).await.ok()?;
    assert_eq!(&line, b"AUTH TLS\r\n");
    stream.write_all(b"234 now\r\n").await.ok()?;
    let stream = TlsAcceptor::from(tls.config()).accept(stream).await.ok()?;
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.ok()? {
        heard.lock().unwrap().push(line.clone());
        write.write_all(reply(&line, features).as_bytes()).await.ok()?;
        write.flush().await.ok()?;
    }
    None
}

const BEGINS: &str = " SSCN\r\n";
const BEGINS_ONCE: &str = " CPSV\r\n";
const SURE: &str = " SSCN SHA-256\r\n";

#[tokio::test]
async fn nobody_is_made_to_copy_to_he_knows_not_whom() {
    // One that can make sure is not enough; nor is one whose user allows it.
    for (from, to, allowed) in
        [(BEGINS, BEGINS, [false, false]), (SURE, BEGINS, [false, false]), (BEGINS, SURE, [true, false])]
    {
        let (here, there) = (Scripted::start(from).await, Scripted::start(to).await);
        let (source, target) = (here.enter(allowed[0]).await, there.enter(allowed[1]).await);
        let e = copy_between(&source, &p("/f"), &target, &p("/g")).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:#}");
        assert!(e.hint().is_some_and(|h| h.contains("unverified")), "{e:#}");
        assert!(here.heard().is_empty() && there.heard().is_empty(), "{:?}", there.heard());
    }
}

#[tokio::test]
async fn it_is_done_where_both_users_allow_it() {
    const PORT: &str = "PORT 127,0,0,1,9,9";
    for (from, to, source_hears, target_hears) in [
        (SURE, BEGINS, vec![PORT, "RETR /f"], vec!["SSCN ON", "PASV", "STOR /g", "SSCN OFF"]),
        (BEGINS, "", vec!["SSCN ON", PORT, "RETR /f", "SSCN OFF"], vec!["PASV", "STOR /g"]),
        ("", BEGINS_ONCE, vec![PORT, "RETR /f"], vec!["CPSV", "STOR /g"]),
    ] {
        let (here, there) = (Scripted::start(from).await, Scripted::start(to).await);
        let (source, target) = (here.enter(true).await, there.enter(true).await);
        let copied = copy_between(&source, &p("/f"), &target, &p("/g")).await;
        assert_eq!(copied.unwrap_or_else(|e| panic!("{e:#}")).size, 7);
        assert_eq!((here.heard(), there.heard()), (texts(&source_hears), texts(&target_hears)));
    }
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}
