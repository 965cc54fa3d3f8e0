//! A client of FTP that says what it is told to, in the clear or under TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::support::PASSWORD;

/// Read and write.
pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A control connection.
pub struct Ftp {
    stream: BufReader<Box<dyn Stream>>,
}

impl Ftp {
    /// Connects and reads the greeting.
    pub fn connect(port: u16) -> (Ftp, String) {
        Ftp::greeted(Box::new(plain(port)))
    }

    fn greeted(stream: Box<dyn Stream>) -> (Ftp, String) {
        let mut ftp = Ftp { stream: BufReader::new(stream) };
        let greeting = ftp.reply();
        (ftp, greeting)
    }

    /// Connects, asks for TLS and for this name, and trusts this certificate alone.
    pub fn secured(port: u16, name: &str, certificate: &Path) -> Result<Ftp, String> {
        let mut stream = plain(port);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        stream.write_all(b"AUTH TLS\r\n").unwrap();
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("234 "), "{line}");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_string()).unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).map_err(|e| e.to_string())?;
        }
        let stream = rustls::StreamOwned::new(tls, stream);
        Ok(Ftp { stream: BufReader::new(Box::new(stream)) })
    }

    /// One reply, all of its lines; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return text;
            }
            text.push_str(&line);
            let last =
                line.as_bytes().get(3) == Some(&b' ') && line.bytes().take(3).all(|b| b.is_ascii_digit());
            if last {
                return text;
            }
        }
    }

    /// Asks, and reads the reply.
    pub fn ask(&mut self, command: &str) -> String {
        let line = format!("{command}\r\n");
        let stream = self.stream.get_mut();
        if stream.write_all(line.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return String::new();
        }
        self.reply()
    }

    /// USER and PASS; the last reply.
    pub fn log_in(&mut self, user: &str) -> String {
        let asked = self.ask(&format!("USER {user}"));
        assert!(asked.starts_with("331 "), "{asked}");
        self.ask(&format!("PASS {PASSWORD}"))
    }
}

fn plain(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}
