//! clamd's `INSTREAM`, over a socket of this machine or of the network: one connection for each upload.

use std::time::Duration;

use bytes::Bytes;
use session_core::error::{Error, Result};
use session_core::fs::Algorithm;
use session_core::path::display_bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::{Answer, CHUNK, Fault, Feed, Shown, Stream, fault};

/// The longest answer that is read.
const ANSWER: u64 = 4096;

/// How long clamd's reason is waited for when it takes no more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// By its socket: a path, or `host:port`.
pub(super) struct Clamd(String);

impl Clamd {
    pub(super) fn new(at: String) -> Self {
        Clamd(at)
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self.0.contains('/') {
            true => Box::new(UnixStream::connect(&self.0).await?),
            false => Box::new(TcpStream::connect(&self.0).await?),
        })
    }

    pub(super) async fn ask(&self, shown: &Shown<'_>) -> Result<(Answer, Option<(Algorithm, Bytes)>), Fault> {
        let mut stream = self.connect().await?;
        let mut feed = Feed::new(shown);
        let sent = pour(&mut feed, &mut stream).await;
        let mut words = Vec::new();
        let mut answer = (&mut stream).take(ANSWER);
        match sent {
            Ok(()) => drop(answer.read_to_end(&mut words).await?),
            Err(Fault::Content(e)) => return Err(Fault::Content(e)),
            // It may have said why before it hung up.
            Err(Fault::Scanner(e)) => {
                let read = tokio::time::timeout(LAST_WORDS, answer.read_to_end(&mut words)).await;
                if !matches!(read, Ok(Ok(_))) || words.is_empty() {
                    return Err(Fault::Scanner(e));
                }
            }
        }
        let answer = parse(&words).map_err(Fault::Scanner)?;
        let digest = if answer == Answer::Clean { feed.digest().await? } else { None };
        Ok((answer, digest))
    }
}

async fn pour(feed: &mut Feed<'_>, to: &mut Box<dyn Stream>) -> Result<(), Fault> {
    to.write_all(b"zINSTREAM\0").await?;
    loop {
        let chunk = feed.next(CHUNK).await?;
        // An empty chunk ends the stream, in the protocol too.
        let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        to.write_all(&len.to_be_bytes()).await?;
        if chunk.is_empty() {
            return Ok(to.flush().await?);
        }
        to.write_all(&chunk).await?;
    }
}

/// `stream: OK`, `stream: Name FOUND`, or an error.
fn parse(words: &[u8]) -> Result<Answer, Error> {
    let words = words.split(|b| *b == 0 || *b == b'\n').next().unwrap_or_default();
    let words = display_bytes(words);
    let said = words.strip_prefix("stream: ").unwrap_or(&words).trim();
    match said.strip_suffix(" FOUND") {
        Some(name) => Ok(Answer::Found(name.to_string())),
        None if said == "OK" => Ok(Answer::Clean),
        None if said.is_empty() => Err(fault("the scanner hung up")),
        None => Err(fault(format!("the scanner says: {said}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_ok_is_clean() {
        assert_eq!(parse(b"stream: OK\0").unwrap(), Answer::Clean);
        assert_eq!(parse(b"stream: Eicar-Test FOUND\0").unwrap(), Answer::Found("Eicar-Test".into()));
        assert_eq!(parse(b"stream: a\x1b[2J FOUND\n").unwrap(), Answer::Found("a\\u{1b}[2J".into()));
        for other in [
            &b""[..],
            b"\0stream: OK\0",
            b"INSTREAM size limit exceeded. ERROR\0",
            b"stream: OK FOUNDATION",
            b"NOT OK",
            b"stream: lstat() failed: OK. ERROR\0",
        ] {
            assert!(parse(other).is_err(), "{other:?}");
        }
    }
}
