//! Who is told of what the protector does: the audit at once, and the handlers of every site, one after the
//! other. Handlers that are slower than an attack are not told all of it.

use std::sync::Arc;

use session_core::lifecycle::Lifecycle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Notice, Protector};
use crate::journal::Journal;
use crate::site::FerrySite;

/// What handlers were not told yet, at most.
const WAITING: usize = 256;

/// Tells from now on, until the server stops. `sites` are those that are served then.
pub(crate) fn tell(
    protector: &Protector,
    journal: Arc<Journal>,
    sites: impl Fn() -> Vec<Arc<FerrySite>> + Send + Sync + 'static,
    shutdown: CancellationToken,
) {
    let (told, mut notices) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let notice = tokio::select! {
                () = shutdown.cancelled() => return,
                notice = notices.recv() => notice,
            };
            let Some(notice) = notice else { return };
            show(&notice, &sites()).await;
        }
    });
    protector.watch(Box::new(move |notice: Notice| {
        // A flood of hits is not a flood of records.
        if !matches!(&notice, Notice::Hit { ban, .. } if !ban.hits.is_power_of_two()) {
            journal.note(notice.name(), notice.to_json());
        }
        if told.try_send(notice).is_err() {
            tracing::debug!("handlers are behind: an event of the protector is not told");
        }
    }));
}

async fn show(notice: &Notice, sites: &[Arc<FerrySite>]) {
    let Some(told) = notice.told() else { return };
    for site in sites {
        site.notice(match notice {
            Notice::Hit { .. } => Lifecycle::BlockHit(&told),
            Notice::Struck { .. } => Lifecycle::Strike(&told),
            Notice::Added(_) | Notice::Listed { .. } | Notice::Removed(..) => Lifecycle::BlockAdded(&told),
        })
        .await;
    }
}
