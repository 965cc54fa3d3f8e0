//! Bytes between a data connection and a file, as quickly as what stands between allows.
//!
//! A file that is lent goes by `sendfile`, in steps of at most a mebibyte, each told to the gate's account,
//! which counts, throttles and cuts. Everything else goes through buffers: the next piece is read while one
//! is written. Line ends and compression are changed on the way. Nothing moving for `data_time`, or less
//! than the minimum rate over it, ends the transfer.
//!
//! `sendfile` runs in place: from the page cache it waits for nothing, the socket never blocks. Once a step
//! was slow, those that follow hand the thread's other work on (`block_in_place`).

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use futures_util::future::BoxFuture;
use session_core::error::{Error, ErrorKind};
use session_core::fs::{File as _, Lent};
use session_core::gate::SessionFile;
use session_core::session::Session;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::data::DataStream;
use super::machine::Fault;
use crate::text::{FromWire, ToWire};

/// The first piece of a file: most files are no larger.
const FIRST: usize = 32 * 1024;
/// Every other piece.
const PIECE: usize = 256 * 1024;
/// What one call of `sendfile` may send.
const LENT: u64 = 1 << 20;
/// A call in place that took longer is slow.
const SLOW: Duration = Duration::from_millis(2);

/// Ends a transfer that does not move.
pub(super) struct Pace {
    time: Duration,
    rate: u64,
    since: Instant,
    moved: u64,
}

fn lost(e: io::Error) -> Fault {
    let error = Error::new(ErrorKind::Disconnected).with_detail("the data connection was lost");
    Fault::with_code(426, error.with_source(e))
}

fn internal(words: &'static str) -> Fault {
    Error::new(ErrorKind::Internal).with_detail(words).into()
}

impl Pace {
    pub(super) fn new(time: Duration, rate: u64) -> Self {
        Pace { time, rate, since: Instant::now(), moved: 0 }
    }

    /// One step of the connection.
    async fn step<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, Fault> {
        match tokio::time::timeout(self.time, work).await {
            Ok(done) => done.map_err(lost),
            Err(_) => Err(Fault::with_code(
                426,
                Error::new(ErrorKind::TimedOut).with_detail("nothing moved on the data connection"),
            )),
        }
    }

    fn moved(&mut self, n: usize) -> Result<(), Fault> {
        self.moved += n as u64;
        if self.rate == 0 {
            return Ok(());
        }
        let elapsed = self.since.elapsed();
        if elapsed < self.time {
            return Ok(());
        }
        if (self.moved as f64) < self.rate as f64 * elapsed.as_secs_f64() {
            return Err(Fault::with_code(
                426,
                Error::new(ErrorKind::TimedOut).with_detail("the data connection is too slow"),
            ));
        }
        (self.since, self.moved) = (Instant::now(), 0);
        Ok(())
    }
}

/// Sends what is lent.
pub(super) async fn send_lent(
    stream: &DataStream,
    lent: &Lent,
    session: &Session,
    pace: &mut Pace,
) -> Result<u64, Fault> {
    let Some(socket) = stream.plain() else { return Err(internal("what is lent cannot be encrypted")) };
    let mut at = lent.range.start;
    let mut slow = false;
    while at < lent.range.end {
        let want = usize::try_from((lent.range.end - at).min(LENT)).unwrap_or(PIECE);
        let begun = Instant::now();
        let attempt = || -> io::Result<usize> {
            let mut from = at;
            let mut send = || rustix::fs::sendfile(socket, &lent.fd, Some(&mut from), want);
            Ok(if slow && may_hand_on() { tokio::task::block_in_place(send) } else { send() }?)
        };
        // Most often there is room; a socket that was just made need not ask the reactor first.
        let n = match attempt() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let ready = async {
                    loop {
                        socket.writable().await?;
                        match socket.try_io(Interest::WRITABLE, attempt) {
                            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                            done => return done,
                        }
                    }
                };
                pace.step(ready).await?
            }
            done => {
                slow |= begun.elapsed() > SLOW;
                done.map_err(lost)?
            }
        };
        if n == 0 {
            return Err(Error::new(ErrorKind::Corrupt)
                .with_detail("the file became shorter meanwhile")
                .into());
        }
        at += n as u64;
        session.stats().wire_out.fetch_add(n as u64, Ordering::Relaxed);
        pace.moved(n)?;
        lent.account.advance(n as u64).await?;
    }
    Ok(at - lent.range.start)
}

fn may_hand_on() -> bool {
    Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Changes what is sent: line ends first, then compression.
pub(super) struct Outlet {
    text: Option<ToWire>,
    deflate: Option<Box<Compress>>,
}

impl Outlet {
    pub(super) fn new(ascii: bool, level: Option<u32>) -> Self {
        let deflate = level.map(|l| Box::new(Compress::new(Compression::new(l), true)));
        Outlet { text: ascii.then(ToWire::default), deflate }
    }

    fn changes_nothing(&self) -> bool {
        self.text.is_none() && self.deflate.is_none()
    }

    async fn change(&mut self, piece: BytesMut, last: bool) -> Result<BytesMut, Fault> {
        let piece = match &mut self.text {
            Some(text) => text.change(&piece),
            None => piece,
        };
        let Some(mut deflate) = self.deflate.take() else { return Ok(piece) };
        // Compressing takes its time: not on a runtime thread.
        let work = tokio::task::spawn_blocking(move || {
            let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
            let mut out = Vec::with_capacity(piece.len() / 2 + 1024);
            let begun = deflate.total_in();
            loop {
                let used = usize::try_from(deflate.total_in() - begun).unwrap_or(piece.len());
                let rest = piece.get(used..).unwrap_or_default();
                let status = deflate.compress_vec(rest, &mut out, flush).map_err(io::Error::other)?;
                let used = usize::try_from(deflate.total_in() - begun).unwrap_or(piece.len());
                let over = if last { status == Status::StreamEnd } else { used >= piece.len() };
                if over && out.len() < out.capacity() || (last && status == Status::StreamEnd) {
                    return Ok::<_, io::Error>((deflate, out));
                }
                out.reserve(PIECE);
            }
        });
        let (deflate, out) = work
            .await
            .map_err(|_| internal("compression failed"))?
            .map_err(|_| internal("compression failed"))?;
        self.deflate = Some(deflate);
        Ok(out.as_slice().into())
    }

    /// Sends a piece, changed.
    pub(super) async fn send(
        &mut self,
        stream: &mut DataStream,
        piece: BytesMut,
        last: bool,
        pace: &mut Pace,
    ) -> Result<(), Fault> {
        let piece = if self.changes_nothing() { piece } else { self.change(piece, last).await? };
        send_all(stream, &piece, pace).await?;
        if last {
            pace.step(stream.flush()).await?;
        }
        Ok(())
    }
}

async fn send_all(stream: &mut DataStream, mut bytes: &[u8], pace: &mut Pace) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let n = pace.step(stream.write(bytes)).await?;
        if n == 0 {
            return Err(lost(io::ErrorKind::WriteZero.into()));
        }
        pace.moved(n)?;
        bytes = bytes.get(n..).unwrap_or_default();
    }
    Ok(())
}

/// Sends a range of a file.
pub(super) async fn send_file(
    stream: &mut DataStream,
    file: &SessionFile,
    range: Range<u64>,
    outlet: &mut Outlet,
    pace: &mut Pace,
) -> Result<u64, Fault> {
    let mut at = range.start;
    let want = |at: u64, most: usize| usize::try_from(range.end - at).unwrap_or(most).min(most);
    let mut piece = file.read_into(at, want(at, FIRST), BytesMut::with_capacity(FIRST)).await?;
    let mut spare = BytesMut::new();
    while !piece.is_empty() {
        at += piece.len() as u64;
        let more = want(at, PIECE);
        let next = async {
            if more == 0 {
                return Ok(BytesMut::new());
            }
            spare.clear();
            spare.reserve(more);
            file.read_into(at, more, spare).await
        };
        if outlet.changes_nothing() {
            let (sent, next) = tokio::join!(send_all(stream, &piece, pace), next);
            sent?;
            spare = std::mem::replace(&mut piece, next?);
        } else {
            let (sent, next) = tokio::join!(outlet.send(stream, piece, false, pace), next);
            sent?;
            piece = next?;
            spare = BytesMut::new();
        }
    }
    outlet.send(stream, BytesMut::new(), true, pace).await?;
    Ok(at - range.start)
}

/// Changes what arrives: compression first, then line ends.
pub(super) struct Inlet {
    text: Option<FromWire>,
    inflate: Option<Box<Decompress>>,
    over: bool,
}

impl Inlet {
    pub(super) fn new(ascii: bool, compressed: bool) -> Self {
        let inflate = compressed.then(|| Box::new(Decompress::new(true)));
        Inlet { text: ascii.then(FromWire::default), inflate, over: false }
    }

    /// Line ends as they are here.
    fn line_ends(&mut self, piece: Bytes) -> Bytes {
        let Some(text) = &mut self.text else { return piece };
        let mut out = BytesMut::new();
        text.change(&piece, &mut out);
        out.freeze()
    }

    /// What the end of input still holds.
    fn end(&mut self) -> Result<BytesMut, Fault> {
        if self.inflate.is_some() && !self.over {
            let words = "the compressed data ended too early";
            return Err(Fault::with_code(426, Error::new(ErrorKind::Corrupt).with_detail(words)));
        }
        let held = self.text.as_mut().is_some_and(FromWire::end);
        Ok(if held { b"\r"[..].into() } else { BytesMut::new() })
    }
}

/// What was received.
pub(super) struct Received {
    /// Bytes of content.
    pub(super) bytes: u64,
    /// The client said that this was all (TLS only).
    pub(super) confirmed: bool,
}

/// A write that may be under way while more is read.
type Writing = Option<BoxFuture<'static, session_core::error::Result<()>>>;

async fn written(writing: &mut Writing) -> session_core::error::Result<()> {
    let done = match writing {
        Some(work) => work.await,
        None => std::future::pending().await,
    };
    *writing = None;
    done
}

/// Receives to the end of input, from `offset` on. Reads ahead of the store by one piece.
pub(super) async fn receive(
    stream: &mut DataStream,
    file: &Arc<SessionFile>,
    offset: u64,
    inlet: &mut Inlet,
    pace: &mut Pace,
) -> Result<Received, Fault> {
    let mut at = offset;
    let mut received = Received { bytes: 0, confirmed: true };
    let mut writing: Writing = None;
    let mut buf = BytesMut::new();
    let mut room = FIRST;
    let mut ended = false;
    loop {
        if writing.is_none() {
            if !buf.is_empty() {
                let piece = buf.split().freeze();
                begin_write(&mut writing, file, &mut at, piece, inlet).await?;
                continue;
            }
            if ended {
                break;
            }
        }
        if buf.capacity() - buf.len() < room / 2 {
            buf.reserve(room);
        }
        let reads = !ended && buf.len() < PIECE;
        tokio::select! {
            biased;
            done = written(&mut writing), if writing.is_some() => done?,
            n = pace.step(stream.read_buf(&mut buf)), if reads => match n {
                Ok(0) => ended = true,
                Ok(n) => {
                    pace.moved(n)?;
                    if n >= room / 2 {
                        room = 2 * PIECE;
                    }
                }
                // TLS without its farewell: some clients never say it.
                Err(f) if is_unconfirmed_end(&f) => {
                    received.confirmed = false;
                    ended = true;
                }
                Err(f) => {
                    // What came before is kept.
                    if !buf.is_empty() && writing.is_none() {
                        let piece = buf.split().freeze();
                        begin_write(&mut writing, file, &mut at, piece, inlet).await?;
                    }
                    if writing.is_some() {
                        written(&mut writing).await?;
                    }
                    return Err(f);
                }
            },
        }
    }
    let rest = inlet.end()?;
    if !rest.is_empty() {
        let len = rest.len() as u64;
        file.write_at(at, rest.freeze()).await?;
        at += len;
    }
    received.bytes = at - offset;
    Ok(received)
}

fn is_unconfirmed_end(fault: &Fault) -> bool {
    let source = std::error::Error::source(&fault.error);
    source
        .and_then(|s| s.downcast_ref::<io::Error>())
        .is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
}

/// Begins to write a piece, changed; where the store answers at once, it is done when this returns.
async fn begin_write(
    writing: &mut Writing,
    file: &Arc<SessionFile>,
    at: &mut u64,
    piece: Bytes,
    inlet: &mut Inlet,
) -> Result<(), Fault> {
    if let Some(mut inflate) = inlet.inflate.take() {
        // A little may become much: in pieces, each written before the next is made.
        let mut rest = piece;
        let mut full = false;
        while (full || !rest.is_empty()) && !inlet.over {
            let work = tokio::task::spawn_blocking(move || {
                let mut out = Vec::with_capacity(PIECE);
                let before = inflate.total_in();
                let status = inflate.decompress_vec(&rest, &mut out, FlushDecompress::None);
                let used = usize::try_from(inflate.total_in() - before).unwrap_or(rest.len());
                let rest = rest.slice(used.min(rest.len())..);
                (inflate, status, out, rest, used)
            });
            let (back, status, out, left, used) = work.await.map_err(|_| internal("decompression failed"))?;
            (inflate, rest, full) = (back, left, out.len() == out.capacity());
            let corrupt = || {
                let e =
                    Error::new(ErrorKind::Corrupt).with_detail("the data is not compressed as it should be");
                Fault::with_code(426, e)
            };
            inlet.over = status.map_err(|_| corrupt())? == Status::StreamEnd;
            if used == 0 && out.is_empty() && !inlet.over && !rest.is_empty() {
                return Err(corrupt());
            }
            let out = inlet.line_ends(out.into());
            let len = out.len() as u64;
            file.write_at(*at, out).await?;
            *at += len;
        }
        inlet.inflate = Some(inflate);
        return Ok(());
    }
    let piece = inlet.line_ends(piece);
    if piece.is_empty() {
        return Ok(());
    }
    let (file, from) = (Arc::clone(file), *at);
    *at += piece.len() as u64;
    let mut work: BoxFuture<'static, _> = Box::pin(async move { file.write_at(from, piece).await });
    match futures_util::future::poll_immediate(&mut work).await {
        Some(done) => done?,
        None => *writing = Some(work),
    }
    Ok(())
}
