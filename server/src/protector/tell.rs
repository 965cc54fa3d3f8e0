//! Who is told of what the protector does: the audit and the outbox at once, and the handlers of every site, one after
//! the other. Handlers that are slower than an attack are not told all of it. What the outbox was given is on disk
//! when [`Protector::written`] answers, and a client is answered after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use session_core::lifecycle::{self, Lifecycle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Notice, Protector};
use crate::journal::Journal;
use crate::outbox::Outbox;
use crate::site::FerrySite;

/// What handlers were not told yet, at most.
const WAITING: usize = 256;

/// What was given to the outbox, and how much of it is on disk.
pub(super) struct Kept {
    outbox: Arc<Outbox>,
    given: AtomicU64,
    written: AtomicU64,
}

impl Kept {
    /// Waits until all that was given so far is on disk.
    pub(super) async fn written(&self) {
        let given = self.given.load(Ordering::SeqCst);
        if self.written.load(Ordering::SeqCst) < given {
            self.outbox.written().await;
            self.written.fetch_max(given, Ordering::SeqCst);
        }
    }
}

/// Tells from now on, until the server stops. `sites` are those that are served then.
pub(crate) fn tell(
    protector: &Protector,
    journal: Arc<Journal>,
    outbox: Arc<Outbox>,
    sites: impl Fn() -> Vec<Arc<FerrySite>> + Send + Sync + 'static,
    shutdown: CancellationToken,
) {
    let (told, mut notices) = mpsc::channel(WAITING);
    let (sites, kept) =
        (Arc::new(sites), Kept { outbox, given: AtomicU64::new(0), written: AtomicU64::new(0) });
    let (of, kept) = (Arc::clone(&sites), Arc::new(kept));
    let _ = protector.kept.set(Arc::clone(&kept));
    tokio::spawn(async move {
        loop {
            let notice = tokio::select! {
                () = shutdown.cancelled() => return,
                notice = notices.recv() => notice,
            };
            let Some(notice) = notice else { return };
            show(&notice, &of()).await;
        }
    });
    protector.watch(Box::new(move |notice: Notice| {
        // A flood of hits is not a flood of records.
        if !matches!(&notice, Notice::Hit { ban, .. } if !ban.hits.is_power_of_two()) {
            journal.note(notice.name(), notice.to_json());
        }
        if let Some(about) = notice.told() {
            let given = sites().iter().filter(|site| site.keep(&step(&notice, &about))).count();
            kept.given.fetch_add(given as u64, Ordering::SeqCst);
        }
        if told.try_send(notice).is_err() {
            tracing::debug!("handlers are behind: an event of the protector is not told");
        }
    }));
}

fn step<'a>(notice: &Notice, about: &'a lifecycle::Notice) -> Lifecycle<'a> {
    match notice {
        Notice::Hit { .. } => Lifecycle::BlockHit(about),
        Notice::Struck { .. } => Lifecycle::Strike(about),
        Notice::Added(_) | Notice::Listed { .. } | Notice::Removed(..) => Lifecycle::BlockAdded(about),
    }
}

async fn show(notice: &Notice, sites: &[Arc<FerrySite>]) {
    let Some(about) = notice.told() else { return };
    for site in sites {
        site.notice(step(notice, &about)).await;
    }
}
