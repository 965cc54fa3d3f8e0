//! The control connections of a remote: opened on demand, side by side, up to a bound; used again.
//!
//! One connection carries one transfer at a time, so whoever works leases one. A lease that is dropped while
//! the server still owes answers is settled in the background before anybody else gets it. A server that
//! takes fewer connections than the bound lowers it.
//!
//! Readers and listings give theirs up between two calls when others wait ([`Places`]) and go on later; writers,
//! which cannot, never have all of them ([`Turn`]). While readers are at work, writers leave them up to half,
//! so that copies go at their pace instead of taking turns.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::places::{LOOK, Places};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::control::Control;
use super::login::Dialer;
use super::options::LONG_LINE;

/// How long a server may take to end a transfer that was given up.
const SETTLE: Duration = Duration::from_secs(10);
/// How long connections beside the first one are kept without use.
const SPARE: Duration = Duration::from_secs(120);
/// After this long without use it is looked whether a connection still stands.
const DOUBT: Duration = Duration::from_secs(1);

/// Connections that may be asked for.
const MOST: usize = 64;

/// How long a reader counts as being at work after its last call.
pub(super) const AT_WORK: Duration = Duration::from_secs(10);
pub(super) struct Pool {
    pub(super) dialer: Dialer,
    idle: Mutex<Vec<Control>>,
    /// One for each connection in use.
    pub(super) places: Places,
    /// How many connections there may be.
    most: AtomicUsize,
    open: AtomicUsize,
    /// Those that are writing.
    writers: AtomicUsize,
    /// A writer has ended.
    turned: Notify,
    /// Who writes next: first come, first served.
    line: tokio::sync::Mutex<()>,
    closed: AtomicBool,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Arc<Pool> {
        let most = dialer.options.connections.clamp(1, MOST);
        let places = Places::new(most, dialer.cut.clone(), dialer.options.timeout * 3);
        Arc::new(Pool {
            dialer,
            idle: Mutex::default(),
            places,
            most: AtomicUsize::new(most),
            open: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            turned: Notify::new(),
            line: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The first login, at which questions may be asked.
    pub(super) async fn begin(self: &Arc<Self>, decider: &dyn Decider) -> Result<()> {
        let permit = self.place().await?;
        let control = self.dialer.open(Some(decider)).await?;
        self.open.fetch_add(1, Ordering::AcqRel);
        drop(self.lent(control, permit, true));
        let far = self.dialer.options.far_connections.min(MOST);
        let more = far.saturating_sub(self.most.load(Ordering::Acquire));
        if self.dialer.learned(|l| l.delay) >= LONG_LINE {
            self.most.fetch_add(more, Ordering::AcqRel);
            self.places.add(more);
        }
        Ok(())
    }

    fn ended(&self) -> Error {
        if self.dialer.cut.is_cancelled() {
            Error::new(ErrorKind::Canceled)
        } else {
            Error::new(ErrorKind::Closed)
        }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit> {
        self.places.take().await.map_err(|e| e.or(|| self.ended()))
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
            let permit = self.place().await?;
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
                    self.most.fetch_sub(1, Ordering::AcqRel);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn lent(self: &Arc<Self>, control: Control, permit: OwnedSemaphorePermit, fresh: bool) -> Lease {
        Lease { control, permit: Some(permit), pool: Arc::clone(self), fresh, turn: None }
    }

    /// How many may write: all but one, and fewer while readers are at work. Not so where nothing moves:
    /// somebody may hold several files open and write them in turn.
    fn writers_allowed(&self, stalled: bool) -> usize {
        let most = self.most.load(Ordering::Acquire);
        if stalled {
            return most.saturating_sub(1).max(1);
        }
        let readers = self.places.readers_at_work();
        most.saturating_sub(readers.clamp(1, (most / 2).max(1))).max(1)
    }

    /// The right to write, which comes before the connection to write with.
    pub(super) async fn turn(self: &Arc<Self>) -> Result<Turn> {
        let turn = async {
            let _first = self.line.lock().await;
            let mut moved = self.places.moved();
            let mut stalled = false;
            loop {
                let turned = self.turned.notified();
                let allowed = self.writers_allowed(stalled);
                let taken = self
                    .writers
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < allowed).then_some(n + 1));
                if taken.is_ok() {
                    return Turn(Arc::clone(self));
                }
                if tokio::time::timeout(LOOK, turned).await.is_err() {
                    let before = std::mem::replace(&mut moved, self.places.moved());
                    stalled = moved == before;
                }
            }
        };
        self.places.wait(turn).await.map_err(|e| e.or(|| self.ended()))
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
            while let Some(permit) = pool.places.free() {
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
        self.places.close();
        futures_util::future::join_all(idle.into_iter().map(Control::quit)).await;
        self.dialer.cut.cancel();
    }
}

/// Whether the server refuses one more connection of somebody whom it knows.
fn is_full(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Throttled | ErrorKind::Unauthenticated | ErrorKind::Disconnected)
}

/// The right to write.
pub(super) struct Turn(Arc<Pool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::AcqRel);
        self.0.turned.notify_one();
    }
}

/// A connection that is somebody's for now.
pub(super) struct Lease {
    control: Control,
    /// There until the lease ends.
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
    /// It was opened for this lease.
    pub(super) fresh: bool,
    /// Given back after the connection.
    pub(super) turn: Option<Turn>,
}

impl Lease {
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Hangs up without a word, at once: the server sees the control connection end.
    pub(super) fn hang_up(mut self) {
        self.control.hang_up();
    }
}

impl Deref for Lease {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let pool = Arc::clone(&self.pool);
        if self.control.is_dead() || pool.closed.load(Ordering::Acquire) {
            pool.open.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let mut control = self.control.take();
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
    pool.places.moves();
    let mut idle = lock(&pool.idle);
    if !pool.closed.load(Ordering::Acquire) {
        idle.push(control);
    }
    drop(idle);
    drop(permit);
}
