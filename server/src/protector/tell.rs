//! Who is told of what the protector does: the audit and the outbox at once, and the handlers of every site, one after
//! the other; of what the protector of one site does, that site. Handlers that are slower than an attack are not told
//! all of it. What the outbox was given is on disk when [`Protector::written`] answers, and a client is answered
//! after that.

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
    let (told, mut notices) = mpsc::channel::<(Notice, Option<String>)>(WAITING);
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
            let Some((notice, of_site)) = notice else { return };
            show(&notice, of_site.as_deref(), &of()).await;
        }
    });
    protector.watch(Box::new(move |notice: Notice, of_site: Option<&str>| {
        // A flood of hits is not a flood of records.
        if !matches!(&notice, Notice::Hit { ban, .. } if !ban.hits.is_power_of_two()) {
            let mut record = notice.to_json();
            if let (Some(site), Some(record)) = (of_site, record.as_object_mut()) {
                record.insert("site".into(), site.into());
            }
            journal.note(notice.name(), record);
        }
        if let Some(about) = notice.told() {
            let concerned = sites().into_iter().filter(|site| concerns(site, of_site));
            let given = concerned.filter(|site| site.keep(&step(&notice, &about))).count();
            kept.given.fetch_add(given as u64, Ordering::SeqCst);
        }
        if told.try_send((notice, of_site.map(str::to_owned))).is_err() {
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

/// Whether a site is told: what its own protector does is told to it alone.
fn concerns(site: &FerrySite, of_site: Option<&str>) -> bool {
    of_site.is_none_or(|name| site.config().site == name)
}

async fn show(notice: &Notice, of_site: Option<&str>, sites: &[Arc<FerrySite>]) {
    let Some(about) = notice.told() else { return };
    for site in sites.iter().filter(|site| concerns(site, of_site)) {
        site.notice(step(notice, &about)).await;
    }
}
