//! `Lease`: who still works for a session.
//!
//! The gate takes a lease for each call and runs the call in its scope; whatever outlives the call (a
//! closure on the blocking pool) takes a clone by [`current`]. So `Session::terminate` knows when the
//! session is quiet. [`Lease::unless_cut`] is the last door before an effect that must not happen after
//! the cut: a publish, a rename.
//!
//! Outside any scope (tests, a store used bare) a lease belongs to nobody and is never cut.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};

/// Counts the leases of one session and holds its cut.
#[derive(Default)]
pub struct Leases {
    count: AtomicUsize,
    quiet: Notify,
    cut: AtomicBool,
    door: RwLock<()>,
}

impl Leases {
    /// A fresh table.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A new lease; `Canceled` after the cut.
    pub fn take(self: &Arc<Self>) -> Result<Lease> {
        let lease = Lease::of(self);
        if self.is_cut() {
            return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"));
        }
        Ok(lease)
    }

    /// Ends the giving of leases. When it returns, no effect guarded by [`Lease::unless_cut`] is under
    /// way and none will begin.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        drop(self.door.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the session was cut.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// How many calls are in flight.
    pub fn in_flight(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until nothing is in flight.
    pub async fn quiet(&self) {
        loop {
            let notified = self.quiet.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// One call in flight.
pub struct Lease(Option<Arc<Leases>>);

tokio::task_local! {
    static CURRENT: Option<Arc<Leases>>;
}

impl Lease {
    fn of(leases: &Arc<Leases>) -> Self {
        leases.count.fetch_add(1, Ordering::SeqCst);
        Lease(Some(Arc::clone(leases)))
    }

    /// Runs `call` with this lease as the current one, and gives it back with its end.
    pub async fn scope<F: Future>(self, call: F) -> F::Output {
        self.within(call).await
    }

    /// Runs `call` with this lease as the current one, which goes on after it.
    pub async fn within<F: Future>(&self, call: F) -> F::Output {
        CURRENT.scope(self.0.clone(), call).await
    }

    /// Runs `effect` unless the session was cut; the cut waits for it. Keep it short: one system call.
    pub fn unless_cut<T>(&self, effect: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(leases) = &self.0 else { return effect() };
        let _door = leases.door.read().unwrap_or_else(PoisonError::into_inner);
        if leases.is_cut() {
            return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"));
        }
        effect()
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        match &self.0 {
            Some(leases) => Lease::of(leases),
            None => Lease(None),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(leases) = &self.0
            && leases.count.fetch_sub(1, Ordering::SeqCst) == 1
        {
            leases.quiet.notify_waiters();
        }
    }
}

/// A clone of the lease of the call that runs now, for work that outlives it.
pub fn current() -> Lease {
    CURRENT.try_with(|leases| leases.as_ref().map_or(Lease(None), Lease::of)).unwrap_or(Lease(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn quiet_waits_for_a_closure_that_outlives_its_call() {
        let leases = Leases::new();
        let (tx, rx) = std::sync::mpsc::channel::<()>();
        let lease = leases.take().unwrap();
        let work = lease
            .scope(async {
                let lease = current();
                let closure = move || {
                    let _ = rx.recv();
                    lease.unless_cut(|| Ok(()))
                };
                (tokio::task::spawn_blocking(closure),)
            })
            .await
            .0;
        assert_eq!(leases.in_flight(), 1);
        leases.cut();
        assert!(leases.take().is_err());
        assert_eq!(leases.in_flight(), 1);
        tx.send(()).unwrap();
        leases.quiet().await;
        assert_eq!(work.await.unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    }
}
