//! The client's driver: runs the [`Machine`] over any pair of byte streams.
//!
//! Two tasks. The reader waits for nothing but the incoming stream; the writer for nothing but the
//! outgoing one; neither ever waits for the other, so a peer that stops reading until we read (as SSH
//! windows make it) cannot bring both to a halt. Callers wait: for room in the outgoing queue, which is
//! bounded in bytes, and for room in the budget of content asked for and not yet taken.
//!
//! A dropped call is forgotten: its late reply is thrown away, its late handle closed. When the last
//! [`Client`] is dropped, what is queued is still sent (CLOSEs among it), then the stream is closed.
//!
//! Deliberately absent: SSH, a time limit per request (keep-alives are the transport's), reconnecting.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;
use session_core::talk::Talk;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::machine::{Event, Machine, Negotiated, Token};
use super::refine::bad_message;
use super::told;
use crate::status;
use crate::wire::{Reply, Request};

/// Bytes from the server, in chunks cut anywhere. Whoever implements it bounds what it holds; what we
/// ask for and do not yet take is bounded here ([`Config::reads`]).
pub trait Incoming: Send + 'static {
    /// The next chunk; `None` at the end. Called by one task that does nothing else.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

/// Bytes to the server. Accepting a chunk may take as long as the peer wants: that is the back-pressure.
pub trait Outgoing: Send + 'static {
    /// Sends one chunk.
    fn send(&mut self, chunk: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// No more will be sent.
    fn close(&mut self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// [`Incoming`] over a byte stream.
#[derive(Debug)]
pub struct Reading<R>(pub R);

impl<R: AsyncRead + Unpin + Send + 'static> Incoming for Reading<R> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut buf = BytesMut::with_capacity(64 * 1024);
        let n = self.0.read_buf(&mut buf).await?;
        Ok((n > 0).then(|| buf.freeze()))
    }
}

/// [`Incoming`] over a stream of messages.
#[derive(Debug)]
pub struct Messages<S>(pub S);

impl<S: Stream<Item = Result<Bytes>> + Unpin + Send + 'static> Incoming for Messages<S> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.0.next().await.transpose()
    }
}

/// [`Outgoing`] over a byte stream.
#[derive(Debug)]
pub struct Writing<W>(pub W);

impl<W: AsyncWrite + Unpin + Send + 'static> Outgoing for Writing<W> {
    async fn send(&mut self, chunk: Bytes) -> Result<()> {
        self.0.write_all(&chunk).await?;
        Ok(self.0.flush().await?)
    }

    async fn close(&mut self) -> Result<()> {
        Ok(self.0.shutdown().await?)
    }
}

/// A fault of the stream: the connection is gone, whatever the system calls it. What the transport
/// itself decided (the session was cut, the peer is silent) keeps its kind.
fn lost(e: Error) -> Error {
    match e.kind() {
        ErrorKind::Canceled
        | ErrorKind::Disconnected
        | ErrorKind::PeerMisbehaved
        | ErrorKind::TimedOut
        | ErrorKind::Unsupported => e,
        _ => Error::new(ErrorKind::Disconnected).with_source(e),
    }
}

/// The bounds of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes that may wait for the wire. At least 512 KiB.
    pub outgoing: usize,
    /// Bytes of content asked for and not yet taken by a caller. At least 512 KiB. More than one
    /// transfer's window, so that a consumer that stalls does not stop the others.
    pub reads: usize,
    /// Bytes of content per file sent and not yet acknowledged. They are not kept in memory; the bound
    /// is on how late an error may be seen. At least 512 KiB.
    pub write_behind: usize,
    /// How long the greeting may take.
    pub greeting: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            outgoing: 2 << 20,
            reads: 128 << 20,
            write_behind: 64 << 20,
            greeting: Duration::from_secs(30),
        }
    }
}

const LEAST: usize = 512 * 1024;
/// Directories remembered, so that a missing file below one is just that.
const DIRECTORIES: usize = 32;
/// How long what is queued may take to leave after the last client is gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// What became of a request.
enum Slot {
    /// Given up; what it was to bring counts against the budget until it has come.
    Discarded {
        _permit: OwnedSemaphorePermit,
    },
    Done(Result<Reply>),
    Waiting(Option<Waker>),
    Written(Arc<Writes>, usize, u64),
}

struct Core {
    machine: Machine,
    slots: HashMap<u32, Slot>,
    greeting: Option<oneshot::Sender<Result<Arc<Negotiated>>>>,
    ended: Option<Error>,
    /// Bytes queued without having taken room: releasing skips them.
    uncharged: usize,
}

struct Shared {
    core: Mutex<Core>,
    room: Semaphore,
    capacity: usize,
    budget: Arc<Semaphore>,
    budget_size: usize,
    work: Notify,
    stop: watch::Sender<bool>,
    talk: Talk,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the machine take `input`, then hands out what happened.
    fn feed(&self, wakers: &mut Vec<Waker>, input: impl FnOnce(&mut Machine)) {
        let mut core = self.lock();
        let had = core.machine.queued();
        input(&mut core.machine);
        let has = core.machine.queued();
        core.uncharged += has.saturating_sub(had);
        while let Some(event) = core.machine.poll() {
            match event {
                Event::Ready(negotiated) => {
                    if let Some(greeting) = core.greeting.take() {
                        self.talk.heard(|| told::greeting(&negotiated));
                        let _ = greeting.send(Ok(negotiated));
                    }
                }
                Event::Reply(Token(id), reply) => match core.slots.get_mut(&id).inspect(|slot| {
                    told::heard(&self.talk, id, &reply, matches!(slot, Slot::Written(..)));
                }) {
                    Some(slot @ Slot::Waiting(_)) => {
                        if let Slot::Waiting(Some(waker)) = std::mem::replace(slot, Slot::Done(Ok(reply))) {
                            wakers.push(waker);
                        }
                    }
                    Some(Slot::Written(..)) => {
                        if let Some(Slot::Written(writes, len, turn)) = core.slots.remove(&id) {
                            writes.acknowledged(len, turn, ok(reply).err());
                        }
                    }
                    Some(Slot::Discarded { .. }) => {
                        core.slots.remove(&id);
                    }
                    Some(Slot::Done(_)) | None => {}
                },
                Event::Ended(error) => {
                    self.talk.note(|| format!("SFTP has ended: {error:#}"));
                    if let Some(greeting) = core.greeting.take() {
                        let _ = greeting.send(Err(error.clone()));
                    }
                    core.ended = Some(error.clone());
                    core.slots.retain(|_, slot| {
                        match std::mem::replace(slot, Slot::Done(Err(error.clone()))) {
                            Slot::Waiting(waker) => wakers.extend(waker),
                            Slot::Written(writes, len, turn) => {
                                writes.acknowledged(len, turn, Some(error.clone()));
                                return false;
                            }
                            Slot::Discarded { .. } => return false,
                            done @ Slot::Done(_) => *slot = done,
                        }
                        true
                    });
                    self.room.close();
                    self.budget.close();
                }
            }
        }
        let wake_writer = core.machine.queued() > 0 || core.ended.is_some();
        drop(core);
        for waker in wakers.drain(..) {
            waker.wake();
        }
        if wake_writer {
            self.work.notify_one();
        }
    }

    fn release(&self, sent: usize) {
        let mut core = self.lock();
        let free = core.uncharged.min(sent);
        core.uncharged -= free;
        drop(core);
        self.room.add_permits(sent - free);
    }

    fn ended(&self) -> Error {
        self.lock().ended.clone().unwrap_or_else(|| Error::new(ErrorKind::Disconnected))
    }

    async fn read(self: Arc<Self>, mut incoming: impl Incoming) {
        let mut stop = self.stop.subscribe();
        let mut wakers = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = incoming.next() => chunk,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match chunk {
                Ok(Some(chunk)) => self.feed(&mut wakers, |m| m.receive(chunk)),
                Ok(None) => self.feed(&mut wakers, |m| m.end(m.eof())),
                Err(e) => self.feed(&mut wakers, |m| m.end(lost(e))),
            }
            if self.lock().ended.is_some() {
                return;
            }
        }
    }

    async fn write(self: Arc<Self>, mut outgoing: impl Outgoing) {
        let mut stop = self.stop.subscribe();
        let mut gone = pin!(async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(FAREWELL).await;
        });
        loop {
            let (chunk, ended) = {
                let mut core = self.lock();
                (core.machine.poll_send(), core.ended.is_some())
            };
            let Some(chunk) = chunk else {
                if ended || *self.stop.borrow() {
                    break;
                }
                self.work.notified().await;
                continue;
            };
            let len = chunk.len();
            let sent = tokio::select! {
                sent = outgoing.send(chunk) => sent,
                () = &mut gone => return,
            };
            if let Err(e) = sent {
                self.feed(&mut Vec::new(), |m| m.end(lost(e)));
                return;
            }
            self.release(len);
        }
        let _ = tokio::time::timeout(FAREWELL, outgoing.close()).await;
    }
}

/// Stops the tasks when the last client is gone.
struct Guard {
    shared: Arc<Shared>,
    negotiated: Arc<Negotiated>,
    handles: AtomicU64,
    write_behind: usize,
    directories: Mutex<VecDeque<VPath>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        self.shared.work.notify_one();
    }
}

/// One SFTP conversation. Cheap to clone; the connection lives as long as a clone, an open file or an
/// open listing.
#[derive(Clone)]
pub struct Client(Arc<Guard>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("negotiated", &self.0.negotiated).finish_non_exhaustive()
    }
}

impl Client {
    /// Greets the server and learns its limits: two round trips.
    ///
    /// Errors: `Disconnected`, `PeerMisbehaved` (with a hint where a login script talks), `Unsupported`
    /// (an older protocol), `TimedOut`. What is said goes to `talk`. Must be called on a tokio runtime with time.
    pub async fn connect(
        incoming: impl Incoming,
        outgoing: impl Outgoing,
        config: &Config,
        talk: Talk,
    ) -> Result<Client> {
        let (tell, told) = oneshot::channel();
        let capacity = config.outgoing.clamp(LEAST, u32::MAX as usize);
        let budget_size = config.reads.clamp(LEAST, u32::MAX as usize);
        let machine = Machine::new();
        let uncharged = machine.queued();
        let shared = Arc::new(Shared {
            core: Mutex::new(Core {
                machine,
                slots: HashMap::new(),
                greeting: Some(tell),
                ended: None,
                uncharged,
            }),
            room: Semaphore::new(capacity),
            capacity,
            budget: Arc::new(Semaphore::new(budget_size)),
            budget_size,
            work: Notify::new(),
            stop: watch::Sender::new(false),
            talk,
        });
        /// Stops the tasks if the greeting fails or is given up.
        struct Unless<'a>(Option<&'a Shared>);
        impl Drop for Unless<'_> {
            fn drop(&mut self) {
                if let Some(shared) = self.0 {
                    shared.stop.send_replace(true);
                    shared.work.notify_one();
                }
            }
        }
        let mut unless = Unless(Some(&shared));
        tokio::spawn(Arc::clone(&shared).read(incoming));
        tokio::spawn(Arc::clone(&shared).write(outgoing));
        let negotiated = match tokio::time::timeout(config.greeting, told).await {
            Ok(Ok(greeted)) => greeted?,
            Ok(Err(_)) => return Err(Error::new(ErrorKind::Disconnected)),
            Err(_) => {
                return Err(Error::new(ErrorKind::TimedOut).with_detail("the server does not greet"));
            }
        };
        unless.0 = None;
        drop(unless);
        let write_behind = config.write_behind.clamp(LEAST, u32::MAX as usize);
        Ok(Client(Arc::new(Guard {
            shared,
            negotiated,
            handles: AtomicU64::new(0),
            write_behind,
            directories: Mutex::new(VecDeque::new()),
        })))
    }

    /// What the greeting taught.
    pub fn negotiated(&self) -> &Negotiated {
        &self.0.negotiated
    }

    /// Why the connection has ended, if it has.
    pub fn ended(&self) -> Option<Error> {
        self.0.shared.lock().ended.clone()
    }

    /// Requests that have no reply yet, those included that nobody waits for.
    pub fn outstanding(&self) -> usize {
        self.0.shared.lock().machine.outstanding()
    }

    /// Asks and waits for the answer: anything but a failing STATUS.
    pub(super) async fn call(&self, request: Request) -> Result<Reply> {
        self.send(request).await?.await
    }

    /// Waits until there is room, queues `request` and gives its answer to be awaited.
    pub(super) async fn send(&self, request: Request) -> Result<Call> {
        let charged = self.room(cost(&request)).await?;
        self.queue(request, charged, |_| Slot::Waiting(None)).map(|token| self.waits(token))
    }

    /// As [`Client::send`]; the answer goes to `writes`, who has been told of `len` bytes before.
    pub(super) async fn send_write(&self, request: Request, writes: &Arc<Writes>, len: usize) -> Result<()> {
        let charged = self.room(cost(&request)).await?;
        self.queue(request, charged, |_| {
            let turn = writes.sent();
            Slot::Written(Arc::clone(writes), len, turn)
        })
        .map(|_| ())
    }

    /// Queues a request whose answer nobody wants, without waiting.
    pub(super) fn send_forgotten(&self, request: Request) {
        let shared = &self.0.shared;
        if let Some((words, _)) = told::asked(&shared.talk, &request) {
            shared.talk.sent(|| words);
        }
        shared.feed(&mut Vec::new(), |m| m.submit_forgotten(request));
    }

    /// Room in the budget for `len` bytes of content to be received.
    pub(super) async fn budget(&self, len: u32) -> Result<OwnedSemaphorePermit> {
        let shared = &self.0.shared;
        let len = len.min(u32::try_from(shared.budget_size).unwrap_or(u32::MAX));
        Arc::clone(&shared.budget).acquire_many_owned(len).await.map_err(|_| shared.ended())
    }

    /// The same, only if it is there now.
    pub(super) fn try_budget(&self, len: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.shared.budget).try_acquire_many_owned(len).ok()
    }

    /// A file's account of what it sent.
    pub(super) fn writes(&self) -> Arc<Writes> {
        Arc::new(Writes {
            state: Mutex::new(WriteState::default()),
            window: Semaphore::new(self.0.write_behind),
            moved: Notify::new(),
        })
    }

    /// Whether `path` was seen to be a directory, not long ago.
    pub(super) fn was_directory(&self, path: &VPath) -> bool {
        self.directories().contains(path)
    }

    /// `path` is a directory: what is missing below it needs no further question.
    pub(super) fn is_directory(&self, path: &VPath) {
        let mut seen = self.directories();
        if !seen.contains(path) {
            if seen.len() >= DIRECTORIES {
                seen.pop_front();
            }
            seen.push_back(path.clone());
        }
    }

    /// A directory may be gone.
    pub(super) fn forget_directories(&self) {
        self.directories().clear();
    }

    fn directories(&self) -> MutexGuard<'_, VecDeque<VPath>> {
        self.0.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One handle more. `Throttled` if the server keeps no more open.
    pub(super) fn handle_opens(&self) -> Result<()> {
        let open = self.0.handles.fetch_add(1, Ordering::Relaxed) + 1;
        match self.negotiated().max_handles {
            Some(max) if open > max => {
                self.handle_closes();
                Err(Error::new(ErrorKind::Throttled)
                    .with_detail(format!("the server allows {max} open files and directories"))
                    .with_hint("close some, or transfer fewer files at once"))
            }
            _ => Ok(()),
        }
    }

    /// One handle less.
    pub(super) fn handle_closes(&self) {
        self.0.handles.fetch_sub(1, Ordering::Relaxed);
    }

    async fn room(&self, cost: usize) -> Result<usize> {
        let shared = &self.0.shared;
        let cost = cost.min(shared.capacity);
        let permits = u32::try_from(cost).unwrap_or(u32::MAX);
        match shared.room.acquire_many(permits).await {
            Ok(permit) => {
                permit.forget();
                Ok(cost)
            }
            Err(_) => Err(shared.ended()),
        }
    }

    fn queue(&self, request: Request, charged: usize, slot: impl FnOnce(Token) -> Slot) -> Result<Token> {
        let shared = &self.0.shared;
        let mut core = shared.lock();
        let had = core.machine.queued();
        let asked = told::asked(&shared.talk, &request);
        let token = core.machine.submit(request)?;
        told::sent(&shared.talk, token.0, asked);
        let queued = core.machine.queued() - had;
        core.uncharged += queued.saturating_sub(charged);
        core.slots.insert(token.0, slot(token));
        drop(core);
        if charged > queued {
            shared.room.add_permits(charged - queued);
        }
        shared.work.notify_one();
        Ok(token)
    }

    fn waits(&self, token: Token) -> Call {
        Call { client: self.clone(), token, permit: None, done: false }
    }
}

/// At least what `request` takes on the wire.
fn cost(request: &Request) -> usize {
    let content = match request {
        Request::Write { handle, data, .. } => handle.len() + data.len(),
        Request::Open { path, .. } | Request::Mkdir { path, .. } | Request::Setstat { path, .. } => {
            path.len()
        }
        Request::Lstat { path } | Request::Stat { path } | Request::Remove { path } => path.len(),
        Request::Rename { from, to } => from.len() + to.len(),
        Request::Symlink { target, link } => target.len() + link.len(),
        Request::Extended(_) => 1024,
        _ => 256,
    };
    content + 96
}

/// An answer to come. Dropped, it is forgotten.
pub(super) struct Call {
    client: Client,
    token: Token,
    permit: Option<OwnedSemaphorePermit>,
    done: bool,
}

impl Call {
    /// Holds a share of the budget until the answer has come, also if nobody waits for it any more: else
    /// whoever asks and gives up could ask for more than the connection holds.
    pub(super) fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.permit = Some(permit);
        self
    }
}

impl Future for Call {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.token.0;
        let mut core = self.client.0.shared.lock();
        let result = match core.slots.get_mut(&id) {
            Some(Slot::Waiting(waker)) => {
                match waker {
                    Some(w) => w.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            Some(Slot::Done(_)) => match core.slots.remove(&id) {
                Some(Slot::Done(result)) => result,
                _ => Err(Error::new(ErrorKind::Internal)),
            },
            Some(Slot::Discarded { .. } | Slot::Written(..)) | None => Err(Error::new(ErrorKind::Internal)),
        };
        drop(core);
        self.done = true;
        Poll::Ready(result.and_then(|reply| match &reply {
            Reply::Status { code, message, .. } => match status::error(*code, message) {
                Some(e) => Err(bad_message(e, &[])),
                None => Ok(reply),
            },
            _ => Ok(reply),
        }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let shared = &self.client.0.shared;
        let mut core = shared.lock();
        match core.slots.remove(&self.token.0) {
            Some(Slot::Waiting(_)) => match self.permit.take() {
                Some(permit) => {
                    core.slots.insert(self.token.0, Slot::Discarded { _permit: permit });
                }
                None => core.machine.forget(self.token),
            },
            Some(Slot::Done(Ok(Reply::Handle(handle)))) => {
                drop(core);
                self.client.send_forgotten(Request::Close { handle });
            }
            _ => {}
        }
    }
}

/// STATUS *ok*, or the error.
fn ok(reply: Reply) -> Result<()> {
    match reply {
        Reply::Status { code, message, .. } => {
            status::error(code, &message).map_or(Ok(()), |e| Err(bad_message(e, &[])))
        }
        reply => Err(super::machine::unexpected(&reply)),
    }
}

#[derive(Default)]
struct WriteState {
    sent: u64,
    /// Turns of the writes that were sent and not answered.
    flying: BTreeSet<u64>,
    error: Option<Error>,
}

/// What one file sent: how much is still unacknowledged, and the first error.
pub(super) struct Writes {
    state: Mutex<WriteState>,
    window: Semaphore,
    moved: Notify,
}

impl Writes {
    fn lock(&self) -> MutexGuard<'_, WriteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `len` more bytes may be unacknowledged. The room is kept until the answer comes.
    pub(super) async fn room(&self, len: usize) {
        let permits = u32::try_from(len).unwrap_or(u32::MAX);
        if let Ok(permit) = self.window.acquire_many(permits).await {
            permit.forget();
        }
    }

    /// Gives back room for a write that was not sent.
    pub(super) fn give_back(&self, len: usize) {
        self.window.add_permits(len);
    }

    fn sent(&self) -> u64 {
        let mut state = self.lock();
        let turn = state.sent;
        state.sent += 1;
        state.flying.insert(turn);
        turn
    }

    fn acknowledged(&self, len: usize, turn: u64, error: Option<Error>) {
        let mut state = self.lock();
        let oldest = state.flying.first() == Some(&turn);
        state.flying.remove(&turn);
        if state.error.is_none() {
            state.error = error;
        }
        drop(state);
        self.window.add_permits(len);
        if oldest {
            self.moved.notify_waiters();
        }
    }

    /// Whether nothing is unacknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().flying.is_empty()
    }

    /// The first error so far; it stays.
    pub(super) fn check(&self) -> Result<()> {
        self.lock().error.clone().map_or(Ok(()), Err)
    }

    /// Waits until all that was sent so far is acknowledged, and gives the first error. What is sent
    /// meanwhile is not waited for.
    pub(super) async fn settled(&self) -> Result<()> {
        let until = self.lock().sent;
        loop {
            let moved = self.moved.notified();
            if self.lock().flying.first().is_none_or(|oldest| *oldest >= until) {
                return self.check();
            }
            moved.await;
        }
    }
}
