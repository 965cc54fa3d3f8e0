//! One channel as bytes in and bytes out, without the deadlock that invites itself.
//!
//! russh hands a channel everything through one bounded queue and stops reading the connection while it
//! is full, window grants of the peer included. So a task of its own always drains it, and what arrives
//! waits in a queue bounded in bytes. Above the soft bound the drain pauses, which stops the peer through
//! TCP; but never while something waits to be written on this connection, because the grant that would
//! free it may stand behind. A peer that sends on and on while it takes nothing reaches the hard bound
//! and loses its connection.
//!
//! Whoever waits for an answer waits behind all that other channels carry: its patience runs only while nothing
//! arrives for any of them (`Flow::answered`), and after a while it counts as one who waits to write.
//!
//! Deliberately absent: windows of our own. russh grants anew as data arrives, not as it is taken.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
#[cfg(feature = "client")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
#[cfg(feature = "client")]
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_immediate;
use futures_util::stream::Stream;
use russh::{ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes that wait before the peer is made to wait.
pub(crate) const SOFT: usize = 1 << 20;
/// Bytes that may wait at all.
pub(crate) const HARD: usize = 16 << 20;
/// The stream of standard error (RFC 4254, section 5.2).
#[cfg(feature = "server")]
const STDERR: u32 = 1;
/// How much of what a server says on standard error is kept.
const WORDS: usize = 1024;

/// How long one who waits for an answer leaves those alone who take slowly what is theirs.
#[cfg(feature = "client")]
const GRACE: Duration = Duration::from_secs(1);

/// Who waits to write, on one connection: the drains of all its channels look at it. And what they hear.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    waiting: AtomicUsize,
    began: Notify,
    /// Messages that have arrived for its channels.
    #[cfg(feature = "client")]
    heard: AtomicU64,
}

struct Waits<'a>(&'a Flow);

impl Flow {
    fn wait(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.began.notify_waiters();
        Waits(self)
    }

    fn hears(&self) {
        #[cfg(feature = "client")]
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for an answer; `None` when nothing has arrived for any channel for `time`. What only shows that the peer
    /// lives (its answers to our questions whether it does) does not count.
    #[cfg(feature = "client")]
    pub(crate) async fn answered<T>(&self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let heard = self.heard.load(Ordering::Relaxed);
            if let Ok(done) = tokio::time::timeout(time, &mut work).await {
                return Some(done);
            }
            if self.heard.load(Ordering::Relaxed) == heard {
                return None;
            }
        }
    }

    /// The same for the opening of a channel, which may stand behind what nobody takes: as one who waits to write,
    /// after a while.
    #[cfg(feature = "client")]
    pub(crate) async fn opened<T>(&self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        let counting = async {
            let mut work = pin!(work);
            if let Ok(done) = tokio::time::timeout(GRACE, &mut work).await {
                return done;
            }
            let _waits = self.wait();
            work.await
        };
        self.answered(time, counting).await
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Purpose {
    /// Bytes; standard error is kept for messages only.
    #[default]
    Bytes,
    /// A command of ours: standard error counts as much as output, and it ends with the channel.
    #[cfg(feature = "client")]
    Command,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(u32),
    /// By this signal (RFC 4254, section 6.10), without `SIG`.
    Signal(String),
}

#[derive(Default)]
struct State {
    /// Whether it is standard error, and what was said.
    items: VecDeque<(bool, Bytes)>,
    bytes: usize,
    end: Option<Result<()>>,
    exit: Option<Exit>,
    unread: bool,
    waker: Option<Waker>,
    words: Vec<u8>,
}

/// What arrived and was not taken.
#[derive(Default)]
struct Queue {
    purpose: Purpose,
    state: Mutex<State>,
    room: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one message in; `false` above the hard bound.
    fn push(&self, data: Bytes) -> bool {
        self.put(false, data)
    }

    fn put(&self, error: bool, data: Bytes) -> bool {
        let mut state = self.lock();
        if state.unread || data.is_empty() {
            return true;
        }
        state.bytes += data.len();
        state.items.push_back((error, data));
        let fits = state.bytes <= HARD;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        fits
    }

    fn end(&self, end: Result<()>) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn full(&self) -> bool {
        let state = self.lock();
        !state.unread && state.bytes >= SOFT
    }
}

/// What is known of a channel's end.
#[derive(Default)]
pub(crate) struct Fate {
    /// The peer closed it, or the connection is gone.
    pub(crate) gone: CancellationToken,
    /// The bound was broken.
    pub(crate) flooded: CancellationToken,
}

/// Drains a channel until it is gone. Runs as a task of its own; see the module's header.
async fn drain(
    mut half: ChannelReadHalf,
    queue: Arc<Queue>,
    flow: Arc<Flow>,
    fate: Arc<Fate>,
    cut: CancellationToken,
) {
    let flooded = || {
        queue.end(Err(match queue.purpose {
            Purpose::Bytes => Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the peer sends on and on and takes nothing"),
            // A command knows nothing of what else goes over the connection: it is this channel that ends.
            #[cfg(feature = "client")]
            Purpose::Command => Error::new(ErrorKind::Throttled)
                .with_detail("more output of a command came than was taken, while others waited"),
        }));
        fate.flooded.cancel();
    };
    'all: loop {
        while queue.full() && flow.waiting.load(Ordering::SeqCst) == 0 {
            let mut began = pin!(flow.began.notified());
            let mut room = pin!(queue.room.notified());
            began.as_mut().enable();
            room.as_mut().enable();
            if !queue.full() || flow.waiting.load(Ordering::SeqCst) != 0 {
                break;
            }
            tokio::select! {
                () = began => {}
                () = room => {}
                // russh waits for us, not for its stream: only we can let it see that this is over.
                () = cut.cancelled() => break 'all,
            }
        }
        let message = half.wait().await;
        flow.hears();
        match message {
            Some(ChannelMsg::Data { data }) => {
                if !queue.push(data) {
                    flooded();
                    break;
                }
            }
            #[cfg(feature = "client")]
            Some(ChannelMsg::ExtendedData { data, .. }) if queue.purpose == Purpose::Command => {
                if !queue.put(true, data) {
                    flooded();
                    break;
                }
            }
            Some(ChannelMsg::ExtendedData { data, .. }) => {
                let mut state = queue.lock();
                let room = WORDS.saturating_sub(state.words.len());
                state.words.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
            }
            // How a command ended may be told after its output has.
            #[cfg(feature = "client")]
            Some(ChannelMsg::Eof) if queue.purpose == Purpose::Command => {}
            Some(ChannelMsg::Eof) => queue.end(Ok(())),
            #[cfg(feature = "client")]
            Some(ChannelMsg::ExitStatus { exit_status }) => queue.lock().exit = Some(Exit::Code(exit_status)),
            #[cfg(feature = "client")]
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                queue.lock().exit = Some(Exit::Signal(signal_of(&signal_name)));
            }
            #[cfg(feature = "client")]
            Some(ChannelMsg::Failure) if queue.purpose == Purpose::Command => {
                queue.end(Err(Error::new(ErrorKind::Unsupported)
                    .with_detail("the server runs no commands for this account")));
            }
            // The one request of ours is for the subsystem.
            Some(ChannelMsg::Failure) => queue.end(Err(Error::new(ErrorKind::Unsupported)
                .with_detail("the server offers no SFTP")
                .with_hint("is the subsystem switched on there?"))),
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    queue.end(Ok(()));
    fate.gone.cancel();
}

#[cfg(feature = "client")]
fn signal_of(signal: &russh::Sig) -> String {
    match signal {
        russh::Sig::Custom(name) => session_core::path::display_bytes(name.as_bytes()),
        known => format!("{known:?}"),
    }
}

/// Begins to drain the channel of a command.
#[cfg(feature = "client")]
pub(crate) fn begin_command(
    read: ChannelReadHalf,
    write: ChannelWriteHalf<russh::client::Msg>,
    flow: &Arc<Flow>,
    cut: CancellationToken,
) -> (ChannelReader, ChannelWriter<russh::client::Msg>) {
    let queue = Queue { purpose: Purpose::Command, ..Queue::default() };
    let (reader, writer, _) = begin_with(queue, read, write, flow, cut);
    (reader, writer)
}

/// Begins to drain a channel; what it carries comes out of the reader.
pub(crate) fn begin<M>(
    read: ChannelReadHalf,
    write: ChannelWriteHalf<M>,
    flow: &Arc<Flow>,
    cut: CancellationToken,
) -> (ChannelReader, ChannelWriter<M>, Arc<Fate>)
where
    M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    begin_with(Queue::default(), read, write, flow, cut)
}

fn begin_with<M>(
    queue: Queue,
    read: ChannelReadHalf,
    write: ChannelWriteHalf<M>,
    flow: &Arc<Flow>,
    cut: CancellationToken,
) -> (ChannelReader, ChannelWriter<M>, Arc<Fate>)
where
    M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    let queue = Arc::new(queue);
    let fate = Arc::new(Fate::default());
    let tail = (Arc::clone(&queue), Arc::clone(flow), Arc::clone(&fate), cut.clone());
    tokio::spawn(drain(read, tail.0, tail.1, tail.2, tail.3));
    let writer = ChannelWriter { half: write, flow: Arc::clone(flow), fate: Arc::clone(&fate), cut };
    (ChannelReader { queue }, writer, fate)
}

/// What arrives on a channel, in messages cut anywhere. A stream that ends where the peer ended its
/// output or the connection was lost. Errors: `PeerMisbehaved` after a flood, `Unsupported` where the
/// peer refused the subsystem.
pub struct ChannelReader {
    queue: Arc<Queue>,
}

impl ChannelReader {
    /// What the peer said on standard error, at most 1,024 bytes of it.
    pub fn words(&self) -> String {
        session_core::path::display_bytes(&self.queue.lock().words)
    }

    /// How the command ended, as far as that is known.
    #[cfg(feature = "client")]
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.queue.lock().exit.clone()
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(|(_, data)| data)))
    }

    /// The next piece, and whether it came by standard error.
    pub(crate) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<(bool, Bytes)>>> {
        let mut state = self.queue.lock();
        if let Some(piece) = state.items.pop_front() {
            let was = state.bytes;
            state.bytes -= piece.1.len();
            let room = was >= SOFT && state.bytes < SOFT;
            if state.items.is_empty() && state.items.capacity() > 64 {
                state.items = VecDeque::new();
            }
            drop(state);
            if room {
                self.queue.room.notify_waiters();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match &state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(e)) => {
                let e = e.clone();
                state.end = Some(Ok(()));
                Poll::Ready(Some(Err(e)))
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Stream for ChannelReader {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_take(cx)
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.unread = true;
        state.items = VecDeque::new();
        state.bytes = 0;
        drop(state);
        self.queue.room.notify_waiters();
    }
}

/// Where a channel's output goes. Waits for the peer's window: that is the back-pressure.
pub struct ChannelWriter<M: From<(ChannelId, ChannelMsg)>> {
    half: ChannelWriteHalf<M>,
    flow: Arc<Flow>,
    fate: Arc<Fate>,
    cut: CancellationToken,
}

impl<M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> ChannelWriter<M> {
    /// Sends all of `bytes`. Errors: `Disconnected` if the channel is closed, `Canceled` if the session
    /// is cut. Dropped midway, a part may have been sent.
    pub async fn send_all(&self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.patiently(self.half.data_bytes(bytes)).await
    }

    /// No more will be sent.
    pub async fn finish(&self) -> Result<()> {
        self.patiently(self.half.eof()).await
    }

    /// Ends the channel in both directions.
    pub async fn close(&self) -> Result<()> {
        self.patiently(self.half.close()).await
    }

    /// Sends all of `words` as standard error. As [`Self::send_all`].
    #[cfg(feature = "server")]
    pub(crate) async fn complain(&self, words: Bytes) -> Result<()> {
        self.patiently(self.half.extended_data_bytes(STDERR, words)).await
    }

    #[cfg(feature = "server")]
    pub(crate) async fn exit(&self, status: u32) -> Result<()> {
        self.patiently(self.half.exit_status(status)).await
    }

    async fn patiently(&self, work: impl Future<Output = Result<(), russh::Error>>) -> Result<()> {
        let lost = || Error::new(ErrorKind::Disconnected).with_detail("the channel is closed");
        if self.fate.gone.is_cancelled() {
            return Err(lost());
        }
        let mut work = pin!(work);
        if let Some(result) = poll_immediate(&mut work).await {
            return result.map_err(|_| lost());
        }
        let _waits = self.flow.wait();
        tokio::select! {
            biased;
            result = work => result.map_err(|_| lost()),
            () = self.cut.cancelled() => Err(Error::new(ErrorKind::Canceled)),
            () = self.fate.gone.cancelled() => Err(lost()),
        }
    }
}

#[cfg(feature = "server")]
impl crate::server::Outgoing for Arc<ChannelWriter<russh::server::Msg>> {
    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.send_all(bytes).await
    }
}

#[cfg(feature = "server")]
impl crate::server::scp::Terminal for Arc<ChannelWriter<russh::server::Msg>> {
    async fn complain(&mut self, words: Bytes) -> Result<()> {
        ChannelWriter::complain(self, words).await
    }
}

/// A channel as a stream of bytes in both directions, for a connection that runs through it.
#[cfg(feature = "client")]
pub struct ChannelStream {
    reader: ChannelReader,
    rest: Bytes,
    writer: Arc<ChannelWriter<russh::client::Msg>>,
    sending: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    failed: Option<Error>,
    ended: bool,
}

#[cfg(feature = "client")]
mod stream {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, ready};

    use bytes::{Buf as _, Bytes};
    use session_core::error::Error;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::{ChannelReader, ChannelStream, ChannelWriter};

    /// How much is taken from a writer at a time.
    const PIECE: usize = 64 * 1024;

    fn lost(e: Error) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, e)
    }

    impl ChannelStream {
        pub(crate) fn new(reader: ChannelReader, writer: ChannelWriter<russh::client::Msg>) -> Self {
            ChannelStream {
                reader,
                rest: Bytes::new(),
                writer: Arc::new(writer),
                sending: None,
                failed: None,
                ended: false,
            }
        }

        /// Waits for what was taken to be on its way.
        fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if let Some(sending) = &mut self.sending {
                let sent = ready!(sending.as_mut().poll(cx));
                self.sending = None;
                self.failed = sent.err();
            }
            Poll::Ready(self.failed.clone().map_or(Ok(()), |e| Err(lost(e))))
        }
    }

    impl AsyncRead for ChannelStream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            // Whoever reads on without flushing still gets sent what was written; a failure is the writer's.
            let _ = this.poll_sent(cx);
            if this.rest.is_empty() {
                match ready!(this.reader.poll_take(cx)) {
                    Some(Ok(data)) => this.rest = data,
                    Some(Err(e)) => return Poll::Ready(Err(lost(e))),
                    None => return Poll::Ready(Ok(())),
                }
            }
            let n = this.rest.len().min(buf.remaining());
            buf.put_slice(this.rest.get(..n).unwrap_or_default());
            this.rest.advance(n);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for ChannelStream {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            ready!(this.poll_sent(cx))?;
            let n = buf.len().min(PIECE);
            let piece = Bytes::copy_from_slice(buf.get(..n).unwrap_or_default());
            let writer = Arc::clone(&this.writer);
            this.sending = Some(Box::pin(async move { writer.send_all(piece).await }));
            // Begun at once; the next call finds out how it ended.
            let _ = this.poll_sent(cx);
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().poll_sent(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            ready!(this.poll_sent(cx))?;
            if !std::mem::replace(&mut this.ended, true) {
                let writer = Arc::clone(&this.writer);
                this.sending = Some(Box::pin(async move { writer.finish().await }));
            }
            this.poll_sent(cx)
        }
    }
}

#[cfg(feature = "client")]
mod client {
    use bytes::Bytes;
    use futures_util::stream::StreamExt;
    use session_core::error::{Error, ErrorKind, Result};

    use super::{ChannelReader, ChannelWriter};
    use crate::client::{Incoming, Outgoing};

    impl Incoming for ChannelReader {
        async fn next(&mut self) -> Result<Option<Bytes>> {
            StreamExt::next(self).await.transpose()
        }
    }

    impl Outgoing for ChannelWriter<russh::client::Msg> {
        /// A cut is a lost connection here: a silent server is cut, too, and calls of a session that was ended are
        /// answered by its gate.
        async fn send(&mut self, chunk: Bytes) -> Result<()> {
            self.send_all(chunk).await.map_err(|e| match e.kind() {
                ErrorKind::Canceled => {
                    Error::new(ErrorKind::Disconnected).with_detail("the connection was cut")
                }
                _ => e,
            })
        }

        /// Ends our output and the channel: a server that keeps its side open holds nothing of ours.
        async fn close(&mut self) -> Result<()> {
            self.finish().await?;
            ChannelWriter::close(self).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::StreamExt;

    #[tokio::test]
    async fn the_queue_keeps_order_says_when_it_is_full_and_ends() {
        let queue = Arc::new(Queue::default());
        let mut reader = ChannelReader { queue: Arc::clone(&queue) };
        assert!(queue.push(Bytes::from_static(b"a")));
        assert!(queue.push(Bytes::from(vec![0; SOFT])));
        assert!(queue.full());
        assert_eq!(reader.next().await.unwrap().unwrap(), "a");
        assert!(queue.full());
        assert_eq!(reader.next().await.unwrap().unwrap().len(), SOFT);
        assert!(!queue.full());
        for _ in 0..HARD / SOFT {
            assert!(queue.push(Bytes::from(vec![0; SOFT])));
        }
        assert!(!queue.push(Bytes::from_static(b"z")), "the hard bound");
        queue.end(Err(Error::new(ErrorKind::PeerMisbehaved)));
        let rest: Vec<_> = reader.by_ref().collect().await;
        assert_eq!(rest.len(), HARD / SOFT + 2);
        assert_eq!(rest.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::PeerMisbehaved);
    }

    #[cfg(feature = "client")]
    #[tokio::test(start_paused = true)]
    async fn patience_runs_while_nothing_arrives_and_who_waits_long_counts() {
        let flow = Arc::new(Flow::default());
        let time = Duration::from_secs(3);
        let began = tokio::time::Instant::now();
        assert!(flow.opened(time, std::future::pending::<()>()).await.is_none());
        assert_eq!(began.elapsed().as_secs(), 3);
        assert_eq!(flow.waiting.load(Ordering::SeqCst), 0, "who has given up waits no more");
        // Ten times as long, and all the while something comes for somebody.
        let others = tokio::spawn({
            let flow = Arc::clone(&flow);
            async move {
                for n in 0..33 {
                    tokio::time::sleep(Duration::from_millis(900)).await;
                    assert_eq!(flow.waiting.load(Ordering::SeqCst), usize::from(n > 0), "{n}");
                    flow.hears();
                }
            }
        });
        assert!(flow.opened(time, tokio::time::sleep(Duration::from_secs(30))).await.is_some());
        others.await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_holds_nothing() {
        let queue = Arc::new(Queue::default());
        let reader = ChannelReader { queue: Arc::clone(&queue) };
        queue.push(Bytes::from(vec![0; SOFT]));
        drop(reader);
        assert!(!queue.full());
        queue.push(Bytes::from(vec![0; SOFT]));
        assert_eq!(queue.lock().bytes, 0);
    }
}
