//! Places for those that use the connections of one remote, up to a bound, first come, first served.
//!
//! Who copies within one server waits with a writer for a reader, so nobody may keep the last place while
//! others wait: readers that are not in use this moment are asked to give theirs up ([`Yields`]) and go on
//! later. Whoever waits, waits as long as something moves at all.
//!
//! Deliberately absent: what a connection is, who may write, how many that are.

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};

/// How often those that wait look again for idle readers, and for whether anything moves.
pub const LOOK: Duration = Duration::from_secs(1);

/// What gives its place up when others need one. Who has used one for long looks at [`Places::is_wanted`] by
/// itself.
pub trait Yields: Send + Sync {
    /// Gives it up if it is not in use this moment; `false` if there was nothing to give.
    fn give_up(&self) -> bool;

    /// Whether it will want a place soon; for those whose writers leave room for it.
    fn is_at_work(&self) -> bool {
        false
    }
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// The remote was closed or cut.
    Ended,
    /// All are taken, and nothing moves in any.
    Stalled,
}

impl NoPlace {
    /// As an error; `ended` is that of a remote that has ended. `Throttled` where nothing moves.
    pub fn or(self, ended: impl FnOnce() -> Error) -> Error {
        match self {
            NoPlace::Ended => ended(),
            NoPlace::Stalled => Error::new(ErrorKind::Throttled)
                .with_detail("all connections are in use by unfinished transfers")
                .with_hint("allow more connections"),
        }
    }
}

/// The places of a remote.
pub struct Places {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Grows with every piece of data that moves, and with every use that ends.
    moved: AtomicU64,
    yields: Mutex<Vec<Weak<dyn Yields>>>,
    cut: CancellationToken,
    patience: Duration,
}

impl Places {
    /// As many as `most`. `cut` ends all waiting; `patience` is for how long nothing may move before it is
    /// no use to wait.
    pub fn new(most: usize, cut: CancellationToken, patience: Duration) -> Self {
        Places {
            slots: Arc::new(Semaphore::new(most)),
            waiting: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            yields: Mutex::default(),
            cut,
            patience,
        }
    }

    /// So many more from now on.
    pub fn add(&self, more: usize) {
        self.slots.add_permits(more);
    }

    /// None from now on; who waits is told so.
    pub fn close(&self) {
        self.slots.close();
    }

    /// Remembers a reader that can give its place up.
    pub fn register(&self, reader: Weak<dyn Yields>) {
        let mut yields = self.yields();
        if yields.len() >= 64 {
            yields.retain(|r| r.strong_count() > 0);
        }
        yields.push(reader);
    }

    fn yields(&self) -> MutexGuard<'_, Vec<Weak<dyn Yields>>> {
        self.yields.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> Vec<Arc<dyn Yields>> {
        self.yields().iter().filter_map(Weak::upgrade).collect()
    }

    /// How many readers will want a place soon.
    pub fn readers_at_work(&self) -> usize {
        self.readers().iter().filter(|r| r.is_at_work()).count()
    }

    /// Whether somebody waits for a place.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Something moved, or a use has ended.
    pub fn moves(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something has moved.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// A place that is free now.
    pub fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// A place: a free one, else the next that becomes free. Cancel: nothing was taken.
    pub async fn take(&self) -> Result<OwnedSemaphorePermit, NoPlace> {
        if let Some(free) = self.free() {
            return Ok(free);
        }
        let _waiting = Waiting::new(&self.waiting);
        let slot = async {
            let mut slot = std::pin::pin!(Arc::clone(&self.slots).acquire_owned());
            loop {
                // Who is in the middle of something now may not be so later.
                let _ = self.readers().iter().any(|r| r.give_up());
                if let Ok(slot) = tokio::time::timeout(LOOK, &mut slot).await {
                    return slot;
                }
            }
        };
        self.wait(slot).await?.map_err(|_| NoPlace::Ended)
    }

    /// Waits for `work` as long as something moves on some connection.
    pub async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, NoPlace> {
        let mut work = std::pin::pin!(work);
        loop {
            let seen = self.moved();
            tokio::select! {
                biased;
                () = self.cut.cancelled() => return Err(NoPlace::Ended),
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(self.patience) => {}
            }
            if self.moved() == seen {
                return Err(NoPlace::Stalled);
            }
        }
    }
}

/// Somebody waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Reader(Mutex<Option<OwnedSemaphorePermit>>);

    impl Yields for Reader {
        fn give_up(&self) -> bool {
            self.0.lock().unwrap().take().is_some()
        }

        fn is_at_work(&self) -> bool {
            self.0.lock().unwrap().is_some()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_an_idle_reader_gives_up() {
        let places = Places::new(1, CancellationToken::new(), Duration::from_secs(30));
        let reader = Arc::new(Reader(Mutex::new(places.free())));
        let weak: Weak<dyn Yields> = Arc::<Reader>::downgrade(&reader);
        places.register(weak);
        assert_eq!((places.readers_at_work(), places.is_wanted()), (1, false));
        let taken = places.take().await.unwrap();
        assert_eq!((places.readers_at_work(), places.is_wanted()), (0, false));
        drop(taken);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_nothing_moves_and_when_all_ends() {
        let cut = CancellationToken::new();
        let places = Places::new(1, cut.clone(), Duration::from_secs(30));
        let taken = places.free().unwrap();
        assert!(places.free().is_none());
        let start = tokio::time::Instant::now();
        assert_eq!(places.take().await.unwrap_err(), NoPlace::Stalled);
        assert_eq!(start.elapsed(), Duration::from_secs(30));
        // As long as something moves, one waits.
        let moving = async {
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                places.moves();
            }
            drop(taken);
        };
        assert!(tokio::join!(places.take(), moving).0.is_ok());
        let taken = places.free().unwrap();
        let closing = async {
            assert!(places.is_wanted());
            places.close();
        };
        assert_eq!(tokio::join!(places.take(), closing).0.unwrap_err(), NoPlace::Ended);
        drop(taken);
        cut.cancel();
        assert_eq!(places.wait(std::future::pending::<()>()).await.unwrap_err(), NoPlace::Ended);
    }
}
