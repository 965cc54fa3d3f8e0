//! Who is told of uploads while they are measured: a receiver of webhooks that says yes to everything.
//!
//! A thread for each connection, which is kept as long as the sender wants. It reads no more of HTTP than a length.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::fault::{Result, While};
use crate::peers::servers::Kit;
use crate::process::{set_mode, write};

/// It listens as long as the program runs.
pub(super) struct Sink {
    port: u16,
    told: Arc<AtomicUsize>,
}

impl Sink {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "listening".to_owned())?;
        let port = listener.local_addr().doing(|| "listening".to_owned())?.port();
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // A sender that breaks off sends again.
                thread::spawn(move || drop(listen(stream, &counted)));
            }
        });
        Ok(Self { port, told })
    }

    /// What a server's configuration says of it. Errors: the file of its secret cannot be written.
    pub(super) fn lines(&self, kit: &Kit) -> Result<String> {
        let secrets = kit.join("sink-secrets.toml");
        write(&secrets, "sink = \"what signs the words to the receiver of the bench\"\n")?;
        set_mode(&secrets, 0o600)?;
        Ok(format!(
            "[scripts]\nsecrets = {secrets:?}\n[[webhooks]]\nname = \"sink\"\nurl = \"http://127.0.0.1:{}/\"\n\
             allow_clear = true\nnetworks = [\"127.0.0.0/8\"]\nsecret = \"sink\"\nevents = [\"AfterFileUpload\"]\n",
            self.port
        ))
    }

    /// How often it was told something.
    pub(super) fn told(&self) -> usize {
        self.told.load(Ordering::SeqCst)
    }
}

fn listen(stream: TcpStream, told: &AtomicUsize) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0_u64, String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink())?;
        told.fetch_add(1, Ordering::SeqCst);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_of_a_connection_is_counted_and_answered() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", sink.port)).unwrap();
        for n in 1..4 {
            stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello").unwrap();
            let mut answer = [0; 38];
            stream.read_exact(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"\r\n\r\n"));
            assert_eq!(sink.told(), n);
        }
    }
}
