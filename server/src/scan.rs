//! `Scan`: uploads are shown to scanners before they are published: to clamd, and to a server of ICAP.
//!
//! An interceptor that judges: content is read as it will be published and sent to the scanner, so many uploads at
//! once as configured, each bounded by one time. What a scanner objects to is refused, and may be put in quarantine.
//! An upload that could not be looked at is not published either (unless told otherwise), but kept for its sender.
//! Of two scanners each judges by itself, and both must agree.
//!
//! Deliberately absent: scanning what lies there already; a cache of verdicts; what a scanner has repaired.

mod clamd;
mod icap;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, File};
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{OperationKind, OperationSet};
use session_core::path::VPath;
use session_core::verdict::{Finding, Quarantine, Upload};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::clamd::Clamd;
use self::icap::Icap;
pub(crate) use self::icap::{Address as IcapAddress, address as icap_address};
use crate::config::{Infected, OnError, Scan as Settings};

const CHUNK: usize = 256 << 10;

/// Shows uploads to a scanner.
pub struct Scan {
    settings: Settings,
    scanner: Scanner,
    /// It makes the digest, too: the first of several.
    digest: Option<Algorithm>,
    room: Semaphore,
    quarantine: Arc<dyn Quarantine>,
}

enum Scanner {
    Clamd(Clamd),
    Icap(Icap),
}

impl Scanner {
    /// The name in findings.
    fn name(&self) -> &'static str {
        match self {
            Scanner::Clamd(_) => "clamd",
            Scanner::Icap(_) => "icap",
        }
    }
}

/// What a scanner says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Clean,
    /// It found this.
    Found(String),
    /// It wants it out, for another reason.
    Objects(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What is shown to a scanner.
struct Shown<'a> {
    path: &'a VPath,
    size: u64,
    content: &'a Arc<dyn File>,
    digest: Option<Algorithm>,
}

/// What kept an upload from being judged.
enum Fault {
    /// It could not be read.
    Content(Error),
    /// The scanner could not be spoken to.
    Scanner(Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Content(e) | Fault::Scanner(e) => e,
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(e: std::io::Error) -> Self {
        Fault::Scanner(e.into())
    }
}

/// The content of an upload from front to back. Its digest is taken on the way, on another thread, while what was
/// read is sent.
struct Feed<'a> {
    content: &'a Arc<dyn File>,
    offset: u64,
    hasher: Option<(Algorithm, Hasher)>,
    hashing: Option<JoinHandle<(Algorithm, Hasher)>>,
}

impl<'a> Feed<'a> {
    fn new(shown: &Shown<'a>) -> Self {
        let hasher = shown.digest.map(|a| (a, Hasher::new(a)));
        Feed { content: shown.content, offset: 0, hasher, hashing: None }
    }

    async fn settle(&mut self) -> Result<()> {
        if let Some(hashing) = self.hashing.take() {
            self.hasher = Some(hashing.await.map_err(|_| ErrorKind::Internal)?);
        }
        Ok(())
    }

    /// The next bytes, `most` at most; none at the end.
    async fn next(&mut self, most: usize) -> Result<Bytes, Fault> {
        let size = CHUNK.min(most);
        let read = self.content.read_into(self.offset, size, BytesMut::with_capacity(size)).await;
        let chunk = read.map_err(Fault::Content)?.freeze();
        self.offset += chunk.len() as u64;
        self.settle().await.map_err(Fault::Content)?;
        if !chunk.is_empty()
            && let Some((algorithm, mut hasher)) = self.hasher.take()
        {
            let chunk = chunk.clone();
            self.hashing = Some(tokio::task::spawn_blocking(move || {
                hasher.update(&chunk);
                (algorithm, hasher)
            }));
        }
        Ok(chunk)
    }

    /// The digest of all of it, where one is wanted: what the scanner did not want to see is read for that.
    async fn digest(mut self) -> Result<Option<(Algorithm, Bytes)>, Fault> {
        if self.hasher.is_none() && self.hashing.is_none() {
            return Ok(None);
        }
        while !self.next(CHUNK).await?.is_empty() {}
        Ok(self.hasher.take().map(|(a, h)| (a, h.finish())))
    }
}

impl Scan {
    /// Those that are configured, in the order in which they are asked. Blocks: reads files. Errors: those of
    /// reading them.
    pub fn all(settings: &Settings, quarantine: &Arc<dyn Quarantine>) -> Result<Vec<Arc<Self>>> {
        let clamd = settings.clamd.clone().map(|at| Scanner::Clamd(Clamd::new(at)));
        let icap = Icap::new(settings)?.map(Scanner::Icap);
        let mut digest = settings.digest;
        let scan = |scanner| {
            let room = Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS));
            let (settings, quarantine) = (settings.clone(), Arc::clone(quarantine));
            Arc::new(Scan { settings, scanner, digest: digest.take(), room, quarantine })
        };
        Ok([clamd, icap].into_iter().flatten().map(scan).collect())
    }

    /// The verdict on an upload, and its digest where one is wanted.
    async fn ask(&self, upload: &Upload<'_>) -> Result<(Answer, Option<(Algorithm, Bytes)>)> {
        // What is not held back cannot be refused any more.
        let content = upload.content.ok_or_else(|| fault("the upload is not staged"))?;
        let shown = Shown { path: upload.path, size: upload.size, content, digest: self.digest };
        let _room = self.room.acquire().await.map_err(|_| ErrorKind::Internal)?;
        let asked = match &self.scanner {
            Scanner::Clamd(clamd) => clamd.ask(&shown).await,
            Scanner::Icap(icap) => icap.ask(&shown).await,
        };
        Ok(asked?)
    }

    fn finding(&self, words: impl Into<Arc<str>>, digest: Option<(Algorithm, Bytes)>) -> Finding {
        Finding { digest, ..Finding::new(self.scanner.name(), words) }
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
                OnError::Pass => Ok(Some(self.finding("not scanned: too large", None))),
                OnError::Block => Err(Error::new(ErrorKind::TooLarge)
                    .with_detail(format!("only files of at most {} bytes are taken", settings.largest))),
            };
        }
        let late = |_| fault("the scanner took too long");
        let asked = tokio::time::timeout(settings.time, self.ask(upload)).await.map_err(late);
        let (answer, digest) = match asked.and_then(|asked| asked) {
            Ok(answer) => answer,
            Err(e) => {
                tracing::error!(%session, %path, "an upload could not be scanned: {e:#}");
                return match settings.on_error {
                    OnError::Pass => Ok(Some(self.finding("not scanned: a fault", None))),
                    OnError::Block => Err(unscanned()),
                };
            }
        };
        let (name, words) = match answer {
            Answer::Clean => return Ok(Some(self.finding("clean", digest))),
            Answer::Found(name) => (name.clone(), format!("the scanner found {name}")),
            Answer::Objects(why) => (why.clone(), format!("the scanner refused it: {why}")),
        };
        tracing::warn!(%session, %path, %name, "an upload was refused by the scanner");
        if settings.infected == Infected::Quarantine
            && let Err(e) = self.quarantine.keep(cx.session, upload, &name).await
        {
            tracing::error!(%session, %path, "nothing was put in quarantine: {e:#}");
        }
        Err(Error::refused(words))
    }
}
