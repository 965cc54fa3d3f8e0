//! `finish`: work that is carried to its end although its caller gave up.
//!
//! Publishing and its entry in the table belong together. A caller that drops its future in between
//! would leave nobody who knows whether the file was published, so what remains is handed to the runtime.
//! In the usual case the work is polled where it was called and costs no task.
//!
//! The work keeps the lease of its call: a session is not quiet before it has ended, and nothing takes
//! effect after the cut. Work that never began is dropped, and so is all work without a runtime.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::lease;

/// See the module's header.
pub(in crate::layers) struct Finish<T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    begun: bool,
}

/// Carries `work` to its end once it has begun.
pub(in crate::layers) fn finish<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Finish<T> {
    Finish { work: Some(Box::pin(lease::current().scope(work))), begun: false }
}

impl<T: Send + 'static> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let ready = work.as_mut().poll(cx);
        if ready.is_ready() {
            self.work = None;
        }
        ready
    }
}

impl<T: Send + 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take()
            && self.begun
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { drop(work.await) });
        }
    }
}
