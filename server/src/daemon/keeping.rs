//! What changes all the time is kept from time to time: what was transferred, who may not connect; and what
//! other nodes ask for is done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use session_core::error::Result;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::Nodes;
use crate::protector::{Protector, Shared};
use crate::shared::{Codes, Hub, Orders};
use crate::site::{Common, SPENT};
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

/// Lets the other nodes know that this one is there, and counts together with them. Errors: those of the database.
pub(super) async fn meet(
    hub: Option<&Arc<Hub>>,
    common: &Common,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<Option<Arc<Orders>>> {
    let Some(hub) = hub else { return Ok(None) };
    let codes = Codes::open(Arc::clone(hub), &config.data.join(SPENT)).await?;
    let orders = Orders::new(Arc::clone(hub))?;
    orders.announce().await?;
    let claims = orders.claims(&common.registry);
    common.count_together(codes, Arc::clone(&claims) as _);
    let until = shutdown.clone();
    tokio::spawn(async move { until.run_until_cancelled(claims.serve()).await });
    let (counts, until) = (orders.counts(&common.registry), shutdown.clone());
    tokio::spawn(async move { until.run_until_cancelled(counts.serve()).await });
    Ok(Some(orders))
}

/// Does what other nodes ask for.
pub(super) async fn orders(orders: Arc<Orders>, nodes: Arc<Nodes>, shutdown: CancellationToken) {
    let carry_out = Arc::new(move |order| {
        let nodes = Arc::clone(&nodes);
        Box::pin(async move { nodes.carry_out(order).await }) as _
    });
    shutdown.run_until_cancelled(orders.serve(carry_out)).await;
}
