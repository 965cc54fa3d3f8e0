//! Where a system call that may wait for the disk is run.
//!
//! A hop to the blocking pool costs two to three times what a cached read costs, and to hand a runtime
//! thread's other work on for each call costs as much as several small ones. So a call is made in place
//! where that is safe: on a multi-thread runtime, under one of a few permits, and as long as the store is
//! quick (`in_place`). Until it is trusted, `block_in_place` hands the thread's other work on. On a
//! current-thread runtime everything goes to the pool; without a runtime the call is simply made.
//!
//! Limit: tokio forbids `block_in_place` inside a `LocalSet` of a multi-thread runtime, and gives no way
//! to ask; do not use a store from there.

use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};
use crate::in_place::{self, InPlace};
use crate::lease::{self, Lease};

/// The rule of a store.
pub(super) struct Pool {
    permits: Semaphore,
    known: InPlace,
}

impl Pool {
    /// At most `in_place` calls at a time are made on runtime threads.
    pub(super) fn new(in_place: usize) -> Self {
        Pool { permits: Semaphore::new(in_place.min(Semaphore::MAX_PERMITS)), known: InPlace::default() }
    }

    /// Runs a call that is expected to be quick. The lease of the current call goes with it.
    pub(super) async fn quick<T, F>(&self, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Lease) -> Result<T> + Send + 'static,
    {
        let lease = lease::current();
        let Ok(handle) = Handle::try_current() else { return call(&lease) };
        if in_place::is_possible(&handle)
            && !self.known.is_slow()
            && let Ok(_permit) = self.permits.try_acquire()
        {
            let start = Instant::now();
            let out = if self.known.is_trusted() {
                call(&lease)
            } else {
                tokio::task::block_in_place(|| call(&lease))
            };
            self.known.note(start.elapsed());
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
    async fn a_slow_store_uses_the_pool() {
        let pool = Pool::new(2);
        let here = std::thread::current().id();
        let id = |_: &Lease| Ok(std::thread::current().id());
        assert_eq!(pool.quick(id).await.unwrap(), here, "the first call is made in place");
        let sleep = |_: &Lease| {
            std::thread::sleep(std::time::Duration::from_millis(60));
            Ok(())
        };
        pool.quick(sleep).await.unwrap();
        assert!(pool.known.was_found_slow());
        pool.known.make_slow();
        let here = std::thread::current().id();
        assert_ne!(pool.quick(id).await.unwrap(), here);
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
