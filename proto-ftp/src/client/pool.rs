//! The control connections of a remote: opened on demand, side by side, up to a bound; used again.
//!
//! One connection carries one transfer at a time, so whoever works leases one. A lease that is dropped while
//! the server still owes answers is settled in the background before anybody else gets it. A server that
//! takes fewer connections than the bound lowers it. When all are out, a reader that is between two reads
//! gives its own up.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::control::Control;
use super::login::Dialer;

/// How long a server may take to end a transfer that was given up.
const SETTLE: Duration = Duration::from_secs(10);
/// How long connections beside the first one are kept without use.
const SPARE: Duration = Duration::from_secs(120);
/// After this long without use it is looked whether a connection still stands.
const DOUBT: Duration = Duration::from_secs(1);

/// What gives its connection up when others need one.
pub(super) trait Yields: Send + Sync {
    /// Gives it up if it is not in use this moment; `false` if there was nothing to give.
    fn give_up(&self) -> bool;
}

pub(super) struct Pool {
    pub(super) dialer: Dialer,
    idle: Mutex<Vec<Control>>,
    /// One permit for each connection in use.
    slots: Arc<Semaphore>,
    open: AtomicUsize,
    yields: Mutex<Vec<Weak<dyn Yields>>>,
    closed: AtomicBool,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Arc<Pool> {
        let most = dialer.options.connections.clamp(1, 64);
        Arc::new(Pool {
            dialer,
            idle: Mutex::default(),
            slots: Arc::new(Semaphore::new(most)),
            open: AtomicUsize::new(0),
            yields: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The first login, at which questions may be asked.
    pub(super) async fn begin(self: &Arc<Self>, decider: &dyn Decider) -> Result<()> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| self.ended())?;
        let control = self.dialer.open(Some(decider)).await?;
        self.open.fetch_add(1, Ordering::AcqRel);
        drop(Lease { control: Some(control), permit: Some(permit), pool: Arc::clone(self), fresh: true });
        Ok(())
    }

    fn ended(&self) -> Error {
        if self.dialer.cut.is_cancelled() {
            Error::new(ErrorKind::Canceled)
        } else {
            Error::new(ErrorKind::Closed)
        }
    }

    /// Remembers a reader that can give its connection up.
    pub(super) fn register(&self, reader: Weak<dyn Yields>) {
        let mut yields = lock(&self.yields);
        if yields.len() >= 64 {
            yields.retain(|r| r.strong_count() > 0);
        }
        yields.push(reader);
    }

    fn ask_to_yield(&self) {
        let readers: Vec<_> = lock(&self.yields).iter().filter_map(Weak::upgrade).collect();
        for reader in readers {
            if reader.give_up() {
                return;
            }
        }
    }

    fn take_idle(&self) -> Option<Control> {
        loop {
            let mut control = lock(&self.idle).pop()?;
            if control.used.elapsed() >= DOUBT {
                control.read_now();
            }
            if !control.is_dead() {
                return Some(control);
            }
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A connection to work with: an idle one, else a new one, else the next that becomes free.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease> {
        loop {
            if self.closed.load(Ordering::Acquire) || self.dialer.cut.is_cancelled() {
                return Err(self.ended());
            }
            let permit = match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    self.ask_to_yield();
                    self.wait_for_slot().await?
                }
            };
            if let Some(control) = self.take_idle() {
                return Ok(self.lent(control, permit, false));
            }
            match self.dialer.open(None).await {
                Ok(control) => {
                    self.open.fetch_add(1, Ordering::AcqRel);
                    return Ok(self.lent(control, permit, true));
                }
                Err(e) if self.open.load(Ordering::Acquire) > 0 && is_full(&e) => {
                    tracing::debug!(error = %e, "the server takes no more connections: going on with fewer");
                    permit.forget();
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn lent(self: &Arc<Self>, control: Control, permit: OwnedSemaphorePermit, fresh: bool) -> Lease {
        Lease { control: Some(control), permit: Some(permit), pool: Arc::clone(self), fresh }
    }

    async fn wait_for_slot(&self) -> Result<OwnedSemaphorePermit> {
        let waiting = Arc::clone(&self.slots).acquire_owned();
        tokio::select! {
            biased;
            () = self.dialer.cut.cancelled() => Err(self.ended()),
            got = tokio::time::timeout(self.dialer.options.timeout * 3, waiting) => match got {
                Ok(permit) => permit.map_err(|_| self.ended()),
                Err(_) => Err(Error::new(ErrorKind::Throttled)
                    .with_detail("all connections are in use by unfinished transfers")
                    .with_hint("allow more connections")),
            }
        }
    }

    /// Asks idle connections whether they are there, and closes what was not used for long. Runs until the
    /// remote is gone.
    pub(super) async fn keep_alive(pool: Weak<Pool>, every: Duration) {
        loop {
            let Some(cut) = pool.upgrade().map(|p| p.dialer.cut.clone()) else { return };
            tokio::select! {
                () = cut.cancelled() => return,
                () = tokio::time::sleep(every / 2) => {}
            }
            let Some(pool) = pool.upgrade() else { return };
            while let Ok(permit) = Arc::clone(&pool.slots).try_acquire_owned() {
                let due = {
                    let mut idle = lock(&pool.idle);
                    let at = idle.iter().position(|c| c.asked.elapsed() >= every / 2);
                    at.map(|at| idle.swap_remove(at))
                };
                let Some(mut control) = due else { break };
                let spare = control.used.elapsed() >= SPARE && pool.open.load(Ordering::Acquire) > 1;
                if spare {
                    pool.open.fetch_sub(1, Ordering::AcqRel);
                    control.quit().await;
                } else if control.still_there().await {
                    give_back(&pool, control, permit);
                } else {
                    pool.open.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    }

    /// Says good-bye on every idle connection and lends no more.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let idle: Vec<_> = lock(&self.idle).drain(..).collect();
        self.slots.close();
        futures_util::future::join_all(idle.into_iter().map(Control::quit)).await;
        self.dialer.cut.cancel();
    }
}

/// Whether the server refuses one more connection of somebody whom it knows.
fn is_full(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Throttled | ErrorKind::Unauthenticated | ErrorKind::Disconnected)
}

/// A connection that is somebody's for now.
pub(super) struct Lease {
    control: Option<Control>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
    /// It was opened for this lease.
    pub(super) fresh: bool,
}

impl Lease {
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Hangs up without a word, at once: the server sees the control connection end.
    pub(super) fn hang_up(mut self) {
        if self.control.take().is_some() {
            self.pool.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Deref for Lease {
    type Target = Control;

    #[allow(clippy::expect_used, reason = "the connection leaves the lease only when the lease is consumed")]
    fn deref(&self) -> &Control {
        self.control.as_ref().expect("a lease holds a connection")
    }
}

impl DerefMut for Lease {
    #[allow(clippy::expect_used, reason = "the connection leaves the lease only when the lease is consumed")]
    fn deref_mut(&mut self) -> &mut Control {
        self.control.as_mut().expect("a lease holds a connection")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut control), Some(permit)) = (self.control.take(), self.permit.take()) else { return };
        let pool = Arc::clone(&self.pool);
        if control.is_dead() || pool.closed.load(Ordering::Acquire) {
            pool.open.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        if !control.is_owed() {
            control.forget_answers();
            give_back(&pool, control, permit);
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            pool.open.fetch_sub(1, Ordering::AcqRel);
            return;
        };
        runtime.spawn(async move {
            if control.settle(SETTLE).await {
                give_back(&pool, control, permit);
            } else {
                pool.open.fetch_sub(1, Ordering::AcqRel);
            }
        });
    }
}

/// First the connection, then the right to take one: whoever waits for it finds it.
fn give_back(pool: &Arc<Pool>, control: Control, permit: OwnedSemaphorePermit) {
    let mut idle = lock(&pool.idle);
    if !pool.closed.load(Ordering::Acquire) {
        idle.push(control);
    }
    drop(idle);
    drop(permit);
}
