//! Where a system call that may wait for the disk is run.
//!
//! A hop to the blocking pool costs two to three times what a cached read costs, and to hand a runtime
//! thread's other work on for each call costs as much as several small ones. So a call is made in place
//! where that is safe: on a multi-thread runtime and under one of a few permits. A store is trusted after
//! a run of quick calls; then nothing is handed on. Until then, `block_in_place` does. A store that was
//! slow (one call above 50 ms, or several above 2 ms: one alone may be the scheduler's doing) uses the
//! pool for the next 10 s. On a current-thread runtime everything goes to the pool; without a runtime the
//! call is simply made.
//!
//! Limit: tokio forbids `block_in_place` inside a `LocalSet` of a multi-thread runtime, and gives no way
//! to ask; do not use a store from there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};
use crate::lease::{self, Lease};

/// A call in place that took longer counts against the store.
const SLOW: Duration = Duration::from_millis(2);
/// One call that took longer is enough.
const TOO_SLOW: Duration = Duration::from_millis(50);
/// What each slow call counts for; a quick one takes one off.
const WEIGHT: u64 = 16;
/// At this score a store is slow.
const LIMIT: u64 = 3 * WEIGHT;
/// Quick calls in a row before a store is trusted.
const TRUST: u64 = 64;
/// For how long a slow store uses the pool.
const PENALTY: Duration = Duration::from_secs(10);

/// The rule of a store.
pub(super) struct Pool {
    permits: Semaphore,
    born: Instant,
    /// Milliseconds after `born`; until then the store is slow.
    slow_until: AtomicU64,
    /// How much speaks against the store.
    score: AtomicU64,
    /// Quick calls in a row.
    run: AtomicU64,
}

impl Pool {
    /// At most `in_place` calls at a time are made on runtime threads.
    pub(super) fn new(in_place: usize) -> Self {
        Pool {
            permits: Semaphore::new(in_place.min(Semaphore::MAX_PERMITS)),
            born: Instant::now(),
            slow_until: AtomicU64::new(0),
            score: AtomicU64::new(0),
            run: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Ordering::Relaxed);
        until != 0 && self.now() < until
    }

    /// Counters race without harm: they decide how a call is made, never what it does.
    fn note(&self, took: Duration) {
        if took <= SLOW {
            self.run.fetch_add(1, Ordering::Relaxed);
            let score = self.score.load(Ordering::Relaxed);
            if score > 0 {
                self.score.store(score - 1, Ordering::Relaxed);
            }
            return;
        }
        self.run.store(0, Ordering::Relaxed);
        let score = self.score.fetch_add(WEIGHT, Ordering::Relaxed) + WEIGHT;
        if took > TOO_SLOW || score >= LIMIT {
            self.score.store(0, Ordering::Relaxed);
            let until = self.now().saturating_add(PENALTY.as_millis() as u64);
            self.slow_until.store(until, Ordering::Relaxed);
        }
    }

    fn is_trusted(&self) -> bool {
        self.run.load(Ordering::Relaxed) >= TRUST
    }

    /// Runs a call that is expected to be quick. The lease of the current call goes with it.
    pub(super) async fn quick<T, F>(&self, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Lease) -> Result<T> + Send + 'static,
    {
        let lease = lease::current();
        let Ok(handle) = Handle::try_current() else { return call(&lease) };
        if handle.runtime_flavor() == RuntimeFlavor::MultiThread
            && !self.is_slow()
            && let Ok(_permit) = self.permits.try_acquire()
        {
            let start = Instant::now();
            let out =
                if self.is_trusted() { call(&lease) } else { tokio::task::block_in_place(|| call(&lease)) };
            self.note(start.elapsed());
            return out;
        }
        hop(&handle, lease, call).await
    }

    /// Runs a call that is known to take its time (a flush, a copy, a page of a long listing).
    pub(super) async fn slow<T, F>(&self, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Lease) -> Result<T> + Send + 'static,
    {
        let lease = lease::current();
        let Ok(handle) = Handle::try_current() else { return call(&lease) };
        hop(&handle, lease, call).await
    }
}

async fn hop<T, F>(handle: &Handle, lease: Lease, call: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Lease) -> Result<T> + Send + 'static,
{
    match handle.spawn_blocking(move || call(&lease)).await {
        Ok(out) => out,
        Err(e) if e.is_cancelled() => Err(Error::new(ErrorKind::Canceled).with_source(e)),
        Err(e) => Err(Error::new(ErrorKind::Internal).with_source(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_call_sends_the_next_ones_to_the_pool() {
        let pool = Pool::new(2);
        let here = std::thread::current().id();
        let id = |_: &Lease| Ok(std::thread::current().id());
        assert_eq!(pool.quick(id).await.unwrap(), here, "the first call is made in place");
        let sleep = |ms| {
            move |_: &Lease| {
                std::thread::sleep(Duration::from_millis(ms));
                Ok(())
            }
        };
        pool.quick(sleep(5)).await.unwrap();
        assert!(!pool.is_slow(), "one slow call may be the scheduler's");
        pool.quick(sleep(5)).await.unwrap();
        pool.quick(sleep(5)).await.unwrap();
        assert!(pool.is_slow());
        let here = std::thread::current().id();
        assert_ne!(pool.quick(id).await.unwrap(), here, "a slow store uses the pool");
        let pool = Pool::new(2);
        pool.quick(sleep(60)).await.unwrap();
        assert!(pool.is_slow());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn trust_is_earned_and_lost() {
        let pool = Pool::new(2);
        for _ in 0..TRUST {
            assert!(!pool.is_trusted());
            pool.quick(|_| Ok(())).await.unwrap();
        }
        assert!(pool.is_trusted());
        pool.quick(|_| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        })
        .await
        .unwrap();
        assert!(!pool.is_trusted());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_a_permit_a_call_goes_to_the_pool() {
        let pool = Pool::new(0);
        let here = std::thread::current().id();
        assert_ne!(pool.quick(|_| Ok(std::thread::current().id())).await.unwrap(), here);
    }

    #[tokio::test]
    async fn a_current_thread_runtime_is_never_blocked() {
        let pool = Pool::new(2);
        let here = std::thread::current().id();
        assert_ne!(pool.quick(|_| Ok(std::thread::current().id())).await.unwrap(), here);
    }

    #[test]
    fn without_a_runtime_the_call_is_simply_made() {
        let pool = Pool::new(2);
        let mut future = std::pin::pin!(pool.quick(|_| Ok(7)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let out = std::future::Future::poll(future.as_mut(), &mut cx);
        assert!(matches!(out, std::task::Poll::Ready(Ok(7))));
    }
}
