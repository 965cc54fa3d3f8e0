//! What a session tells while it works: events, as a stream and as callbacks.
//!
//! Nothing waits for who listens: a stream that is not read loses the oldest events and is told how many; a
//! callback is called where the thing happens and must be quick. A failure is told exactly once, whether it
//! is returned as an error or stands in a result.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::Stream;
use session_core::batch::{Progress, Query};
use session_core::error::Error;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::result::{Side, Transfer};

/// Events that wait for a stream that is not read.
const QUEUE: usize = 4096;

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A failure: returned, thrown or collected. (`Failed`)
    Failed(Error),
    /// A file of a transfer is done with, well or not. (`FileTransferred`)
    FileTransferred(Transfer),
    /// This stream was not read in time: so many events are lost to it.
    Missed(u64),
    /// Words for the user. (`OutputDataReceived`)
    Output {
        /// One line.
        data: String,
        /// It warns.
        error: bool,
    },
    /// How far a transfer is. (`FileTransferProgress`)
    Progress(TransferProgress),
    /// The decider is being asked. (`QueryReceived`)
    Query(Query),
}

/// How far a transfer is, and the means to stop it.
#[derive(Clone, Debug)]
pub struct TransferProgress {
    /// From which side.
    pub side: Side,
    /// Files, bytes, rate, files in work.
    pub progress: Progress,
    pub(super) cancel: CancellationToken,
}

impl TransferProgress {
    /// Gives the whole transfer up; files that are done stay.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Bytes moved of bytes known so far, from 0 to 1. (`OverallProgress`)
    pub fn overall(&self) -> f64 {
        ratio(self.progress.bytes_done, self.progress.bytes_total)
    }

    /// The same of the first file in work. (`FileProgress`)
    pub fn file(&self) -> f64 {
        self.progress.current.first().map_or(1.0, |(_, done, total)| ratio(*done, *total))
    }

    /// Seconds that are left at this rate, where both are known.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.progress.bytes_total.saturating_sub(self.progress.bytes_done);
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        (!self.progress.scanning && self.progress.rate > 1.0).then(|| left as f64 / self.progress.rate)
    }
}

fn ratio(done: u64, total: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "shown to people")]
    if total == 0 { 0.0 } else { done as f64 / total as f64 }
}

type Handler = Arc<dyn Fn(&Event) + Send + Sync>;

/// Where events go.
pub(super) struct Hub {
    streams: broadcast::Sender<Event>,
    handlers: Mutex<Vec<(u64, Handler)>>,
    next: AtomicU64,
}

impl Hub {
    pub(super) fn new() -> Arc<Self> {
        let (streams, _) = broadcast::channel(QUEUE);
        Arc::new(Hub { streams, handlers: Mutex::default(), next: AtomicU64::new(0) })
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<(u64, Handler)>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn emit(&self, event: Event) {
        // Called without the lock: a handler may add or drop handlers.
        let handlers: Vec<Handler> = self.handlers().iter().map(|(_, h)| Arc::clone(h)).collect();
        for handler in handlers {
            handler(&event);
        }
        // Nobody listens: nobody misses it.
        let _ = self.streams.send(event);
    }

    pub(super) fn failed(&self, error: &Error) {
        self.emit(Event::Failed(error.clone()));
    }

    pub(super) fn warn(&self, words: impl Into<String>) {
        self.emit(Event::Output { data: words.into(), error: true });
    }

    pub(super) fn stream(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        Box::pin(futures_util::stream::unfold(self.streams.subscribe(), |mut from| async move {
            match from.recv().await {
                Ok(event) => Some((event, from)),
                Err(broadcast::error::RecvError::Lagged(n)) => Some((Event::Missed(n), from)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        }))
    }

    pub(super) fn on(self: &Arc<Self>, handler: Handler) -> Subscription {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.handlers().push((id, handler));
        Subscription { hub: Arc::downgrade(self), id }
    }
}

/// A callback that is called as long as this lives.
#[must_use = "the callback goes with it"]
pub struct Subscription {
    hub: Weak<Hub>,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.handlers().retain(|(id, _)| *id != self.id);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}
