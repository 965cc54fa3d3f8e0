//! `Scan`: uploads are shown to clamd before they are published.
//!
//! An interceptor that judges: content is read as it will be published and sent by clamd's `INSTREAM` over a
//! socket of this machine or of the network. One connection for each upload, so many at once as configured;
//! the whole bounded by one time. What clamd objects to is refused, and may be put in quarantine. An upload
//! that could not be looked at is not published either (unless told otherwise), but kept for its sender.
//!
//! Deliberately absent: ICAP; scanning what lies there already; a cache of verdicts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, File};
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{OperationKind, OperationSet};
use session_core::path::display_bytes;
use session_core::verdict::{Finding, Quarantine, Upload};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::config::{Infected, OnError, Scan as Settings};

/// The name in findings.
const NAME: &str = "clamd";

const CHUNK: usize = 256 << 10;

/// The longest answer that is read.
const ANSWER: u64 = 4096;

/// How long clamd's reason is waited for when it takes no more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Shows uploads to a scanner.
pub struct Scan {
    settings: Settings,
    clamd: String,
    room: Semaphore,
    quarantine: Arc<dyn Quarantine>,
}

/// What clamd says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Clean,
    Found(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Scan {
    /// `None` where there is no scanner.
    pub fn new(settings: &Settings, quarantine: Arc<dyn Quarantine>) -> Option<Arc<Self>> {
        let clamd = settings.clamd.clone()?;
        let room = Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS));
        Some(Arc::new(Scan { settings: settings.clone(), clamd, room, quarantine }))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>> {
        Ok(match self.clamd.contains('/') {
            true => Box::new(UnixStream::connect(&self.clamd).await?),
            false => Box::new(TcpStream::connect(&self.clamd).await?),
        })
    }

    /// The verdict on `content`, and its digest where one is wanted.
    async fn ask(&self, content: &Arc<dyn File>) -> Result<(Answer, Option<(Algorithm, Bytes)>)> {
        let _room = self.room.acquire().await.map_err(|_| ErrorKind::Internal)?;
        let mut stream = self.connect().await?;
        let mut hasher = self.settings.digest.map(|a| (a, Hasher::new(a)));
        let sent = pour(content, &mut stream, &mut hasher).await;
        let mut words = Vec::new();
        let mut answer = (&mut stream).take(ANSWER);
        match sent {
            Ok(()) => drop(answer.read_to_end(&mut words).await?),
            Err(Fault::Content(e)) => return Err(e),
            // It may have said why before it hung up.
            Err(Fault::Clamd(e)) => {
                let read = tokio::time::timeout(LAST_WORDS, answer.read_to_end(&mut words)).await;
                if !matches!(read, Ok(Ok(_))) || words.is_empty() {
                    return Err(e);
                }
            }
        }
        let answer = parse(&words)?;
        Ok((answer, hasher.map(|(a, h)| (a, h.finish()))))
    }

    fn finding(words: impl Into<Arc<str>>, digest: Option<(Algorithm, Bytes)>) -> Finding {
        Finding { digest, ..Finding::new(NAME, words) }
    }
}

/// What kept an upload from being sent.
enum Fault {
    /// It could not be read.
    Content(Error),
    /// It could not be written.
    Clamd(Error),
}

/// Sends all of `content`, and takes its digest on the way, on another thread.
async fn pour(
    content: &Arc<dyn File>,
    to: &mut Box<dyn Stream>,
    hasher: &mut Option<(Algorithm, Hasher)>,
) -> Result<(), Fault> {
    let clamd = |e: std::io::Error| Fault::Clamd(e.into());
    to.write_all(b"zINSTREAM\0").await.map_err(clamd)?;
    let mut offset = 0;
    loop {
        let chunk = content.read_into(offset, CHUNK, BytesMut::with_capacity(CHUNK)).await;
        let chunk = chunk.map_err(Fault::Content)?.freeze();
        // An empty chunk ends the stream, in the protocol too.
        let len = u32::try_from(chunk.len()).map_err(|_| Fault::Content(ErrorKind::Internal.into()))?;
        to.write_all(&len.to_be_bytes()).await.map_err(clamd)?;
        if chunk.is_empty() {
            return to.flush().await.map_err(clamd);
        }
        offset += u64::from(len);
        let digested = match hasher.take() {
            Some((algorithm, mut h)) => {
                let chunk = chunk.clone();
                Some(tokio::task::spawn_blocking(move || {
                    h.update(&chunk);
                    (algorithm, h)
                }))
            }
            None => None,
        };
        to.write_all(&chunk).await.map_err(clamd)?;
        if let Some(digested) = digested {
            *hasher = Some(digested.await.map_err(|_| Fault::Content(ErrorKind::Internal.into()))?);
        }
    }
}

/// `stream: OK`, `stream: Name FOUND`, or an error.
fn parse(words: &[u8]) -> Result<Answer> {
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

fn fault(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::Disconnected).with_detail(words.into())
}

/// What the client is told: that it was not looked at, without the scanner's address.
fn unscanned() -> Error {
    Error::new(ErrorKind::Disconnected)
        .with_detail("the upload could not be checked, so it was not published")
        .with_hint("what arrived is kept: try again later")
}

#[async_trait]
impl Interceptor for Scan {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Commit])
    }

    fn judges(&self) -> bool {
        true
    }

    async fn judge(&self, cx: &Cx<'_>, upload: &Upload<'_>) -> Result<Option<Finding>, Error> {
        let (settings, session, path) = (&self.settings, cx.session.id(), upload.path);
        if settings.largest > 0 && upload.size > settings.largest {
            return match settings.larger {
                OnError::Pass => Ok(Some(Scan::finding("not scanned: too large", None))),
                OnError::Block => Err(Error::new(ErrorKind::TooLarge)
                    .with_detail(format!("only files of at most {} bytes are taken", settings.largest))),
            };
        }
        let asked = async {
            // What is not held back cannot be refused any more.
            let content = upload.content.ok_or_else(|| fault("the upload is not staged"))?;
            let late = |_| fault("the scanner took too long");
            tokio::time::timeout(settings.time, self.ask(content)).await.map_err(late)?
        };
        let (answer, digest) = match asked.await {
            Ok(answer) => answer,
            Err(e) => {
                tracing::error!(%session, %path, "an upload could not be scanned: {e:#}");
                return match settings.on_error {
                    OnError::Pass => Ok(Some(Scan::finding("not scanned: a fault", None))),
                    OnError::Block => Err(unscanned()),
                };
            }
        };
        let Answer::Found(name) = answer else { return Ok(Some(Scan::finding("clean", digest))) };
        tracing::warn!(%session, %path, %name, "an upload was refused by the scanner");
        if settings.infected == Infected::Quarantine
            && let Err(e) = self.quarantine.keep(cx.session, upload, &name).await
        {
            tracing::error!(%session, %path, "nothing was put in quarantine: {e:#}");
        }
        Err(Error::refused(format!("the scanner found {name}")))
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
