//! What changes all the time is kept from time to time: what was transferred, who may not connect.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::protector::{Protector, Shared};
use crate::transfers::Transfers;

/// How often it is written what was transferred.
const TRANSFERS_WRITTEN: Duration = Duration::from_secs(5);

/// The time between two writings of the block list, at least.
const BANS_WRITTEN: Duration = Duration::from_secs(1);

/// Writes what was transferred.
pub(super) async fn transfers(transfers: Arc<Transfers>, file: PathBuf, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TRANSFERS_WRITTEN) => {}
        }
        let (writes, to) = (Arc::clone(&transfers), file.clone());
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || writes.save(&to)).await {
            tracing::error!("what was transferred cannot be written: {e:#}");
        }
    }
}

/// Writes the block list soon after it changed by itself, or exchanges it with other nodes.
pub(super) async fn bans(
    protector: Arc<Protector>,
    shared: Option<Arc<Shared>>,
    shutdown: CancellationToken,
) {
    if let Some(shared) = shared {
        shutdown.run_until_cancelled(shared.exchange()).await;
        return;
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = protector.changed() => {}
        }
        let writes = Arc::clone(&protector);
        let written = tokio::task::spawn_blocking(move || writes.save()).await;
        if let Ok(Err(e)) = written {
            tracing::error!("{e:#}");
        }
        // A flood of hits is not a flood of writing.
        tokio::time::sleep(BANS_WRITTEN).await;
    }
}
