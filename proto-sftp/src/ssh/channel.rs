//! A channel as a stream of bytes in and a sink of bytes out.
//!
//! A task of its own takes what the SSH library delivers, so that a window update behind data is always
//! reached: a library loop that cannot deliver does not read the update that would free our writer, and
//! both would wait for ever. The task pauses only while nobody writes; then the socket itself gives the
//! peer back-pressure. What it holds is bounded: past [`LIMIT`] the channel ends.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::stream::Stream;
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::Notify;

/// Bytes that are held before the socket is left alone, while nobody writes.
pub const PAUSE: usize = 1 << 20;

/// Bytes that are held at most.
pub const LIMIT: usize = 64 << 20;

/// Bytes handed to the library in one call: large enough to batch, small enough to be interrupted.
const PIECE: usize = 256 << 10;

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    held: usize,
    ended: bool,
    overrun: bool,
    writing: u32,
    reader_gone: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is room, or somebody writes: the draining task goes on.
    go: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Takes a message; `true` at the end of what is wanted.
    fn deliver(&self, message: ChannelMsg) -> bool {
        let mut state = self.lock();
        match message {
            ChannelMsg::Data { data } if !state.reader_gone => {
                state.held += data.len();
                if state.held > LIMIT {
                    state.overrun = true;
                    return true;
                }
                state.queue.push_back(data);
            }
            ChannelMsg::Eof | ChannelMsg::Close => return true,
            _ => return state.reader_gone,
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        false
    }

    /// Pauses while much is held and nobody needs a window update.
    async fn until_wanted(&self) {
        loop {
            let go = self.go.notified();
            tokio::pin!(go);
            go.as_mut().enable();
            {
                let state = self.lock();
                if state.held <= PAUSE || state.writing > 0 || state.reader_gone {
                    return;
                }
            }
            go.await;
        }
    }

    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// What arrives.
pub struct ChannelReader {
    shared: Arc<Shared>,
}

/// What is sent. Closing is explicit; a drop closes as well.
pub struct ChannelWriter<S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> {
    half: Arc<ChannelWriteHalf<S>>,
    shared: Arc<Shared>,
}

/// Splits a channel and starts its draining task. Must be called within a runtime.
pub fn split<S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static>(
    channel: Channel<S>,
) -> (ChannelReader, ChannelWriter<S>) {
    let (mut read, write) = channel.split();
    let shared = Arc::new(Shared::default());
    let draining = Arc::clone(&shared);
    tokio::spawn(async move {
        while let Some(message) = read.wait().await {
            if draining.deliver(message) {
                break;
            }
            draining.until_wanted().await;
        }
        draining.end();
        // What still comes is nobody's; the library must not wait for a reader.
        while read.wait().await.is_some() {}
    });
    (ChannelReader { shared: Arc::clone(&shared) }, ChannelWriter { half: Arc::new(write), shared })
}

impl ChannelReader {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let mut state = self.shared.lock();
        if let Some(data) = state.queue.pop_front() {
            let before = state.held;
            state.held -= data.len();
            if before > PAUSE && state.held <= PAUSE {
                self.shared.go.notify_one();
            }
            return Poll::Ready(Some(Ok(data)));
        }
        if state.overrun {
            state.overrun = false;
            return Poll::Ready(Some(Err(
                Error::new(ErrorKind::PeerMisbehaved).with_detail("the peer sends without taking answers")
            )));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }
}

impl Stream for ChannelReader {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.reader_gone = true;
        state.queue.clear();
        state.held = 0;
        drop(state);
        self.shared.go.notify_one();
    }
}

/// Somebody waits for a window.
struct Writing<'a>(&'a Shared);

impl<'a> Writing<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.lock().writing += 1;
        shared.go.notify_one();
        Writing(shared)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.writing = state.writing.saturating_sub(1);
    }
}

impl<S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> ChannelWriter<S> {
    /// Sends all of `bytes`, waiting as long as the peer's window is closed. Errors: `Disconnected`.
    pub async fn write(&self, mut bytes: Bytes) -> Result<()> {
        let _writing = Writing::begin(&self.shared);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            self.half
                .data_bytes(piece)
                .await
                .map_err(|e| Error::new(ErrorKind::Disconnected).with_source(e))?;
        }
        Ok(())
    }

    /// The channel's other duties: exit status, end of file, close.
    pub fn half(&self) -> &ChannelWriteHalf<S> {
        &self.half
    }

    /// No more is sent.
    pub async fn finish(&self) {
        let _ = self.half.eof().await;
        let _ = self.half.close().await;
    }
}

#[cfg(feature = "server")]
impl crate::server::Outgoing for Arc<ChannelWriter<russh::server::Msg>> {
    fn send(&mut self, bytes: Bytes) -> impl Future<Output = Result<()>> + Send {
        self.write(bytes)
    }
}

#[cfg(feature = "client")]
impl crate::client::Incoming for ChannelReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.chunk().await.transpose()
    }
}

#[cfg(feature = "client")]
impl crate::client::Outgoing for ChannelWriter<russh::client::Msg> {
    async fn send(&mut self, chunk: Bytes) -> Result<()> {
        self.write(chunk).await
    }

    async fn close(&mut self) -> Result<()> {
        self.finish().await;
        Ok(())
    }
}
