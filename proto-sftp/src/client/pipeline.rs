//! Bulk transfers over any [`File`], the gate's included, with reads or writes in flight side by side.
//!
//! [`Download`] gives a range in order. Its window (bytes asked for ahead) begins at [`Window::start`]
//! and grows to twice the measured product of the shortest delay and the rate, within [`Window::most`]:
//! a long fat line is filled, a short one is not flooded. [`upload`] writes a stream in pieces of one
//! size; how far it runs ahead of the server's answers is the file's own bound (write-behind).
//!
//! Deliberately absent: temporary names, resume, verification: the batch engine's.

use std::future::Future;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File;
use tokio::time::Instant;

/// How much flies at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The length of one read. The default, 224 KiB, is one request to servers that tell larger limits
    /// and seven whole ones to those that take 32 KiB.
    pub chunk: usize,
    /// Bytes in flight at the beginning.
    pub start: usize,
    /// Bytes in flight at most; this bounds the memory of a transfer.
    pub most: usize,
}

impl Default for Window {
    fn default() -> Self {
        Window { chunk: 224 * 1024, start: 2 << 20, most: 64 << 20 }
    }
}

impl Window {
    /// `bytes` in flight, no more and no less: for measuring, and where memory is short.
    pub fn fixed(bytes: usize) -> Self {
        Window { start: bytes, most: bytes, ..Window::default() }
    }
}

/// The growing window: pure, time is an argument.
#[derive(Debug)]
struct Pace {
    window: usize,
    most: usize,
    delay: Option<Duration>,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(window: &Window, now: Instant) -> Self {
        let start = window.start.max(1);
        Pace { window: start, most: window.most.max(start), delay: None, since: now, bytes: 0 }
    }

    /// `bytes` came, `took` after they were asked for.
    fn arrived(&mut self, bytes: usize, took: Duration, now: Instant) {
        let delay = self.delay.map_or(took, |d| d.min(took));
        self.delay = Some(delay);
        self.bytes += bytes as u64;
        let elapsed = now.saturating_duration_since(self.since);
        // One judgement a round trip, and none on a moment too short to measure.
        if elapsed < delay.max(Duration::from_millis(10)) {
            return;
        }
        let rate = self.bytes as f64 / elapsed.as_secs_f64();
        let product = 2.0 * rate * delay.as_secs_f64();
        self.window = self.window.max(product as usize).min(self.most);
        self.since = now;
        self.bytes = 0;
    }
}

/// What one read gave.
struct Arrived {
    offset: u64,
    len: usize,
    data: Result<BytesMut>,
    took: Duration,
}

type Reading = Pin<Box<dyn Future<Output = Arrived> + Send>>;

/// A range of a file, in order. Dropping it gives up the reads in flight.
pub struct Download {
    file: Arc<dyn File>,
    flying: FuturesOrdered<Reading>,
    in_flight: usize,
    next: u64,
    end: u64,
    chunk: usize,
    pace: Pace,
    over: bool,
}

/// Reads `range` of `file`, up to its end if that comes first. Must be awaited on a tokio runtime.
pub fn download(file: Arc<dyn File>, range: Range<u64>, window: &Window) -> Download {
    Download {
        file,
        flying: FuturesOrdered::new(),
        in_flight: 0,
        next: range.start,
        end: range.end,
        chunk: window.chunk.max(1),
        pace: Pace::new(window, Instant::now()),
        over: range.is_empty(),
    }
}

fn read(file: Arc<dyn File>, offset: u64, len: usize) -> Reading {
    let mut reading: Reading = Box::pin(async move {
        let asked = Instant::now();
        let data = file.read_into(offset, len, BytesMut::new()).await;
        Arrived { offset, len, data, took: asked.elapsed() }
    });
    // Sent now, not when the consumer comes back; whoever holds it polls it again for its waker.
    match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(arrived) => Box::pin(std::future::ready(arrived)),
        Poll::Pending => reading,
    }
}

impl Download {
    /// The next bytes; `None` at the end. After an error there is nothing more. Giving up a call loses
    /// nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.over {
            return Ok(None);
        }
        self.fill();
        let Some(Arrived { offset, len, data, took }) = self.flying.next().await else {
            self.stop();
            return Ok(None);
        };
        self.in_flight -= len;
        let data = data.inspect_err(|_| self.stop())?;
        if data.is_empty() {
            self.stop();
            return Ok(None);
        }
        self.pace.arrived(data.len(), took, Instant::now());
        if data.len() < len {
            // Short: the end, or a store that gives less. The rest is asked for first.
            let rest = len - data.len();
            let at = offset.saturating_add(data.len() as u64);
            self.in_flight += rest;
            self.flying.push_front(read(Arc::clone(&self.file), at, rest));
        }
        self.fill();
        Ok(Some(data.freeze()))
    }

    /// Bytes asked for ahead, now.
    pub fn window(&self) -> usize {
        self.pace.window
    }

    fn stop(&mut self) {
        self.over = true;
        self.flying = FuturesOrdered::new();
    }

    fn fill(&mut self) {
        while self.next < self.end && (self.in_flight < self.pace.window || self.flying.is_empty()) {
            let len = usize::try_from(self.end - self.next).unwrap_or(usize::MAX).min(self.chunk);
            self.flying.push_back(read(Arc::clone(&self.file), self.next, len));
            self.in_flight += len;
            self.next += len as u64;
        }
    }
}

/// Writes `content` into `file` from `offset` on, in pieces of `chunk` bytes, and gives how many bytes it
/// was. The file is not ended: `commit` tells whether all of it arrived.
///
/// Errors: the content's, or the file's, which may be those of an earlier piece.
pub async fn upload(
    file: &dyn File,
    offset: u64,
    content: impl Stream<Item = Result<Bytes>>,
    chunk: usize,
) -> Result<u64> {
    let mut content = pin!(content);
    let mut at = offset;
    let mut held = BytesMut::new();
    let too_large = || Error::new(ErrorKind::TooLarge);
    loop {
        let item = content.next().await.transpose()?;
        let write = match item {
            // Large pieces go as they are; small ones are collected first.
            Some(item) if held.is_empty() && item.len() >= chunk => item,
            Some(item) => {
                held.extend_from_slice(&item);
                if held.len() < chunk {
                    continue;
                }
                held.split().freeze()
            }
            None if held.is_empty() => return Ok(at - offset),
            None => held.split().freeze(),
        };
        let len = write.len() as u64;
        file.write_at(at, write).await?;
        at = at.checked_add(len).ok_or_else(too_large)?;
    }
}
