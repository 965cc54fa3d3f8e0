//! Moves the bytes of one file.
//!
//! Chunks are read and written side by side within a window that grows while the answers take long, so
//! the transfer is bound by the line and not by its delay. To a server they are handed over in order, so that what
//! a killed transfer leaves there is a beginning of the file. Nothing is begun further than [`LEAD`] bytes
//! beyond what the target is known to have: whatever breaks, everything before that point is there, and
//! memory is bounded. What the target has taken is asked for once in a while without stopping
//! ([`File::settle`]) and told to whoever keeps account. A digest is computed on another thread, in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, File};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::limit::Limiter;
use super::tracker::Item;

/// Bytes of one chunk: one request of OpenSSH's largest size, seven of the smallest that everybody takes.
pub(super) const CHUNK: usize = 224 << 10;

/// Chunks in flight: at the beginning and at most.
const WINDOW: (usize, usize) = (8, 256);

/// Nothing that far behind the furthest byte is missing from a file that was interrupted.
pub(super) const LEAD: u64 = 64 << 20;

/// How often it is asked what the target has.
pub(super) const BLOCK: u64 = 1 << 20;

/// Content up to this size is hashed in place: that takes less than going elsewhere.
const INLINE: u64 = 64 << 10;

/// How long a disk may take for what it has begun to write when a transfer failed.
const SETTLED: Duration = Duration::from_secs(5);

/// Chunks that wait for being hashed.
const HASHED_AHEAD: usize = 32;

const BOM: &[u8] = b"\xEF\xBB\xBF";
const CTRL_Z: u8 = 0x1a;

/// Marks that are taken away from a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) bom: bool,
    pub(super) ctrl_z: bool,
}

impl Marks {
    pub(super) fn any(self) -> bool {
        self.bom || self.ctrl_z
    }
}

pub(super) fn changed() -> Error {
    Error::new(ErrorKind::Corrupt)
        .with_detail("the source changed while it was read")
        .with_hint("run the command again when nothing writes to it")
}

/// Exactly the bytes from `begin` to `end`. Errors: the file's; `Corrupt` where it ends before.
pub(super) async fn read_exactly(file: &dyn File, begin: u64, end: u64) -> Result<BytesMut> {
    let len = usize::try_from(end.saturating_sub(begin)).unwrap_or(usize::MAX);
    let mut buf = BytesMut::with_capacity(len);
    while buf.len() < len {
        let had = buf.len();
        buf = file.read_into(begin + had as u64, len - had, buf).await?;
        if buf.len() == had {
            return Err(changed());
        }
    }
    Ok(buf)
}

/// A digest under way, fed in order.
#[allow(clippy::large_enum_variant, reason = "one for each file in work")]
pub(super) enum Digesting {
    Here(Hasher),
    Elsewhere { content: mpsc::Sender<Bytes>, worker: JoinHandle<Hasher> },
}

impl Digesting {
    /// For content of `size` bytes.
    pub(super) fn new(algorithm: Algorithm, size: u64) -> Self {
        let mut hasher = Hasher::new(algorithm);
        if size <= INLINE {
            return Digesting::Here(hasher);
        }
        let (content, mut incoming) = mpsc::channel::<Bytes>(HASHED_AHEAD);
        let worker = tokio::task::spawn_blocking(move || {
            while let Some(bytes) = incoming.blocking_recv() {
                hasher.update(&bytes);
            }
            hasher
        });
        Digesting::Elsewhere { content, worker }
    }

    pub(super) async fn feed(&mut self, bytes: Bytes) {
        match self {
            Digesting::Here(hasher) => hasher.update(&bytes),
            // A worker that is gone shows at the end.
            Digesting::Elsewhere { content, .. } => drop(content.send(bytes).await),
        }
    }

    pub(super) async fn finish(self) -> Result<Bytes> {
        match self {
            Digesting::Here(hasher) => Ok(hasher.finish()),
            Digesting::Elsewhere { content, worker } => {
                drop(content);
                let hasher = worker.await.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
                Ok(hasher.finish())
            }
        }
    }
}

/// Told how far the target is known to have the content, without gaps.
pub(super) trait Account: Send + Sync {
    fn reached(&self, offset: u64) -> impl Future<Output = ()> + Send;
}

pub(super) struct Pump<'a, A> {
    pub(super) source: &'a dyn File,
    pub(super) target: &'a dyn File,
    pub(super) size: u64,
    /// Added to an offset at the source for that at the target (appending).
    pub(super) shift: u64,
    pub(super) item: &'a Item,
    pub(super) limiter: &'a Limiter,
    /// Whether the target is written in any order, and has to be asked what it has.
    pub(super) settles: bool,
    /// Whether each chunk waits until the one before it was handed to the target.
    pub(super) in_order: bool,
    /// Nothing is begun further than so many bytes beyond what the target is known to have.
    pub(super) lead: u64,
    pub(super) account: &'a A,
}

/// A chunk that was moved.
struct Done {
    offset: u64,
    len: u64,
    took: Duration,
    bytes: Option<Bytes>,
}

impl<A: Account> Pump<'_, A> {
    /// Moves everything from `begin` on. The digest, where there is one, has seen what lies before.
    /// Dropped, it stops; what was written stays.
    pub(super) async fn run(&self, begin: u64, mut digest: Option<&mut Digesting>) -> Result<()> {
        let mut window = WINDOW.0;
        let mut round = Round::begin(window);
        let mut next = begin;
        // Written without a gap up to here; beyond it, what came early.
        let mut written = begin;
        let mut early: BTreeMap<u64, (u64, Option<Bytes>)> = BTreeMap::new();
        let (mut known, mut asked) = (begin, begin);
        let turn = tokio::sync::Mutex::new(());
        // Told when the chunk that was begun last has been handed over.
        let mut before: Option<oneshot::Receiver<()>> = None;
        let stopped = AtomicBool::new(false);
        let mut in_flight = FuturesUnordered::new();
        let mut settling = FuturesUnordered::new();
        loop {
            while next < self.size && in_flight.len() < window && next - known < self.lead {
                let most = self.limiter.chunk(CHUNK);
                let len = most.min(usize::try_from(self.size - next).unwrap_or(most));
                let order = self.in_order.then(|| {
                    let (over, next_waits) = oneshot::channel();
                    (before.replace(next_waits), over)
                });
                in_flight.push(self.chunk(next, len, digest.is_some(), (&turn, &stopped), order));
                next += len as u64;
            }
            if in_flight.is_empty() && settling.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(settled) = settling.next() => {
                    let at: Result<u64> = settled;
                    known = at?;
                    self.account.reached(known).await;
                }
                Some(done) = in_flight.next() => {
                    let done: Done = match done {
                        Ok(done) => done,
                        Err(e) => {
                            stopped.store(true, Ordering::Relaxed);
                            if !self.in_order {
                                // What a disk has begun to write goes on by itself: nothing of it may land later.
                                let rest = async { while in_flight.next().await.is_some() {} };
                                let _ = tokio::time::timeout(SETTLED, rest).await;
                            }
                            return Err(e);
                        }
                    };
                    window = round.ended(done.took, window);
                    early.insert(done.offset, (done.len, done.bytes));
                    while let Some((len, bytes)) = early.remove(&written) {
                        written += len;
                        if let (Some(digest), Some(bytes)) = (digest.as_deref_mut(), bytes) {
                            digest.feed(bytes).await;
                        }
                    }
                }
            }
            if settling.is_empty() && written - asked >= BLOCK {
                asked = written;
                if self.settles {
                    settling.push(self.settled(written));
                } else {
                    known = written;
                    self.account.reached(known).await;
                }
            }
        }
        Ok(())
    }

    /// Moves everything to the source's end, wherever that is, in order: of a text nobody knows how long it is
    /// on this side before it was read. Gives the length of what was written. Dropped, it stops; what was written stays.
    pub(super) async fn to_end(&self, marks: Marks, mut digest: Option<&mut Digesting>) -> Result<u64> {
        let most = self.limiter.chunk(CHUNK);
        let (mut read, mut at, mut begins) = (0, 0, true);
        // What may be a mark waits until more is known.
        let mut held = BytesMut::new();
        loop {
            let mut bytes = self.source.read_into(read, most, BytesMut::with_capacity(most)).await?;
            let ended = bytes.is_empty();
            read += bytes.len() as u64;
            if !held.is_empty() {
                held.unsplit(bytes);
                bytes = std::mem::take(&mut held);
            }
            if marks.bom && begins && !ended && bytes.len() < BOM.len() {
                held = bytes;
                continue;
            }
            if marks.bom && begins && bytes.starts_with(BOM) {
                bytes.advance(BOM.len());
            }
            begins = false;
            if marks.ctrl_z && bytes.last() == Some(&CTRL_Z) {
                let last = bytes.split_off(bytes.len() - 1);
                if !ended {
                    held = last;
                }
            }
            let len = bytes.len();
            if len > 0 {
                if self.limiter.rate() > 0 {
                    self.limiter.pass(len).await;
                }
                let bytes = bytes.freeze();
                self.target.write_at(at + self.shift, bytes.clone()).await?;
                if let Some(digest) = digest.as_deref_mut() {
                    digest.feed(bytes).await;
                }
                at += len as u64;
                self.item.moved(len as u64);
            }
            if ended {
                return Ok(at);
            }
        }
    }

    async fn settled(&self, at: u64) -> Result<u64> {
        self.target.settle().await.map(|()| at)
    }

    async fn chunk(
        &self,
        offset: u64,
        len: usize,
        kept: bool,
        (turn, stopped): (&tokio::sync::Mutex<()>, &AtomicBool),
        order: Option<(Option<oneshot::Receiver<()>>, oneshot::Sender<()>)>,
    ) -> Result<Done> {
        if !self.limiter.is_open() {
            // One chunk of a file asks at a time: files take turns.
            let _turn = turn.lock().await;
            self.limiter.pass(len).await;
        }
        let begin = Instant::now();
        let bytes = read_exactly(self.source, offset, offset + len as u64).await?.freeze();
        let keep = kept.then(|| bytes.clone());
        let over = match order {
            None => None,
            Some((before, over)) => {
                if let Some(before) = before {
                    // Gone where the one before has failed: that is the error to tell.
                    before.await.map_err(|_| Error::new(ErrorKind::Canceled))?;
                }
                Some(over)
            }
        };
        if stopped.load(Ordering::Relaxed) {
            return Err(ErrorKind::Canceled.into());
        }
        self.target.write_at(offset + self.shift, bytes).await?;
        if let Some(over) = over {
            let _ = over.send(());
        }
        self.item.moved(len as u64);
        Ok(Done { offset, len: len as u64, took: begin.elapsed(), bytes: keep })
    }
}

/// Decides whether the window grows: it does while a chunk takes long although the window is full, which
/// means that the line is long and not that it is slow.
struct Round {
    began: Instant,
    left: usize,
    chunks: usize,
    waited: Duration,
    best: f64,
}

impl Round {
    fn begin(window: usize) -> Self {
        Round { began: Instant::now(), left: window, chunks: window, waited: Duration::ZERO, best: 0.0 }
    }

    fn ended(&mut self, took: Duration, window: usize) -> usize {
        self.waited += took;
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return window;
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = self.chunks as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let mean = self.waited / u32::try_from(self.chunks).unwrap_or(u32::MAX).max(1);
        // Doubling helped last time, or was not tried yet.
        let grows = mean > Duration::from_millis(4) && rate > self.best * 1.15 && window < WINDOW.1;
        let next = if grows { (window * 2).min(WINDOW.1) } else { window };
        *self = Round { best: self.best.max(rate), ..Round::begin(next) };
        next
    }
}
