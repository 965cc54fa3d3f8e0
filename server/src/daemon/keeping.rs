//! What changes all the time is kept from time to time: what was transferred, who may not connect; and what
//! other nodes ask for is done.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use session_core::error::Result;
use session_core::layers::quota::Book;
use session_core::layers::quota::share::Holder;
use session_core::registry::PATIENCE;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::Nodes;
use crate::protector::{Protector, Shared};
use crate::shared::{Codes, Hub, Leases, Orders};
use crate::site::{Common, FerrySite, SPENT};
use crate::transfers::Transfers;

/// How often it is written what was transferred.
const TRANSFERS_WRITTEN: Duration = Duration::from_secs(5);

/// The pause after a question to the database that failed.
const AGAIN: Duration = Duration::from_secs(5);

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

/// Writes the block lists of sites that have their own soon after they changed.
pub(super) async fn bans_of_sites(protector: Arc<Protector>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = protector.site_changed() => {}
        }
        let writes = Arc::clone(&protector);
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || writes.save_sites()).await {
            tracing::error!("{e:#}");
        }
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
    let (book, transfers) = (Arc::clone(&common.stores.quotas.book), Arc::clone(&common.transfers));
    let leases = Leases::new(Arc::clone(hub), vec![weak(&book), weak(&transfers)]);
    book.count_together(Arc::clone(&leases) as _);
    transfers.count_together(Arc::clone(&leases) as _);
    let _ = common.leases.set(Arc::clone(&leases));
    let until = shutdown.clone();
    tokio::spawn(async move { until.run_until_cancelled(leases.serve()).await });
    Ok(Some(orders))
}

fn weak<H: Holder + 'static>(holder: &Arc<H>) -> Weak<dyn Holder> {
    let holder = Arc::clone(holder) as Arc<dyn Holder>;
    Arc::downgrade(&holder)
}

/// Counts what must be known before anybody comes to it: groups as a whole, and what a former run was granted. What
/// it did not use is given back.
pub(super) async fn count(common: Arc<Common>, sites: Vec<Arc<FerrySite>>) {
    let leases = common.leases.get();
    let mut of = HashSet::new();
    if let Some(leases) = leases {
        let keys = loop {
            // One that fails is in the log; what was granted is kept until it is known.
            match leases.unsettled().await {
                Ok(keys) => break keys,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        of.extend(keys.iter().filter_map(|key| Book::setter(key)).map(str::to_owned));
    }
    for site in sites {
        site.count(&of).await;
    }
    leases.into_iter().for_each(|leases| leases.settle());
}

/// Counts groups as a whole in sites that have just come, before many come to them.
pub(super) async fn count_groups(sites: Vec<Arc<FerrySite>>) {
    for site in sites {
        site.count(&HashSet::new()).await;
    }
}

/// Takes leave of the other nodes.
pub(super) async fn leave(common: &Common, orders: Option<&Arc<Orders>>) {
    if let Some(leases) = common.leases.get() {
        let _ = tokio::time::timeout(PATIENCE, leases.leave()).await;
    }
    if let Some(orders) = orders {
        let _ = tokio::time::timeout(PATIENCE, orders.leave()).await;
    }
}

/// Does what other nodes ask for.
pub(super) async fn orders(orders: Arc<Orders>, nodes: Arc<Nodes>, shutdown: CancellationToken) {
    let carry_out = Arc::new(move |order| {
        let nodes = Arc::clone(&nodes);
        Box::pin(async move { nodes.carry_out(order).await }) as _
    });
    shutdown.run_until_cancelled(orders.serve(carry_out)).await;
}
